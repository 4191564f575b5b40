from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.data import EngineCacheEntry, EngineDescription, EngineHandle, TensorSpec
from runtime.errors import ConfigError, InferenceError
from runtime.protocol import Array
from runtime.requests import BATCH_MAX, InferenceRequest, Signature, serve

ENTRY = EngineCacheEntry(Path("m.onnx"), "0" * 64, "none", "none", "none", "fp32")
IMAGE = TensorSpec("image", ("batch", 3), "float32", low=0.0, high=1.0)
COUNT = TensorSpec("count", ("batch",), "int64", low=1.0)
HEAT = TensorSpec("heat", ("batch", 3), "float32", low=0.0, high=2.0)
FREE = TensorSpec("mask", ("batch", 3), "float32")
SCORES = TensorSpec("scores", ("batch",), "float32", low=0.0, high=1.0)
SIGNATURE = Signature((IMAGE, COUNT), (HEAT, FREE, SCORES))


class Doubler:
    """Answers with twice the image, a mask with infinities, and a constant score; counts what reaches it."""

    def __init__(self, changes: Mapping[str, Any] | None = None, lacks: str = "") -> None:
        self.calls = 0
        self.described = 0
        self.changes = dict(changes or {})
        self.lacks = lacks

    def infer(self, handle: EngineHandle, inputs: Mapping[str, Array], *, out: Any = None) -> dict[str, Array]:
        self.calls += 1
        image = inputs["image"]
        outputs: dict[str, Array] = {
            "heat": image * 2,
            "mask": np.full_like(image, -np.inf),
            "scores": np.full(len(image), 0.5, np.float32),
        }
        outputs.update(self.changes)
        outputs.pop(self.lacks, None)
        return outputs

    def describe(self, handle: EngineHandle) -> EngineDescription:
        self.described += 1
        return EngineDescription(SIGNATURE.inputs, SIGNATURE.outputs, "cpu", {}, "fp32", {}, 0, 0)


def handle_of(runtime: Any) -> EngineHandle:
    return EngineHandle(runtime, ENTRY, object())


def request(batch: int = 2, **changes: Any) -> InferenceRequest:
    good: dict[str, Array] = {"image": np.full((batch, 3), 0.25, np.float32), "count": np.ones(batch, np.int64)}
    return InferenceRequest({**good, **changes}, batch=batch)


def answer(runtime: Any, asked: InferenceRequest, **options: Any) -> Any:
    return serve(runtime, handle_of(runtime), asked, **options)


@pytest.mark.covers("BA-01")
def test_a_good_request_is_answered_with_outputs_scores_and_the_time_of_infer() -> None:
    ticks = iter([1_000_000, 3_500_000])
    response = answer(Doubler(), request(), signature=SIGNATURE, clock=lambda: next(ticks))
    assert (response.version, response.batch, response.ms) == (1, 2, 2.5)
    np.testing.assert_array_equal(response.outputs["heat"], np.full((2, 3), 0.5))
    assert response.scores is response.outputs["scores"]
    unscored = dataclasses.replace(SIGNATURE, scores="confidence")
    assert answer(Doubler(), request(), signature=unscored).scores is None


@pytest.mark.covers("BA-01")
@pytest.mark.parametrize("batch", [0, -1, BATCH_MAX + 1, True, 1.0, "1", None])
def test_a_batch_outside_1_to_128_is_no_request(batch: Any) -> None:
    with pytest.raises(InferenceError, match=r"batch is .* from 1 to 128"):
        InferenceRequest({}, batch=batch)


@pytest.mark.covers("BA-01")
@pytest.mark.parametrize("batch", [1, 128])
def test_the_ends_of_the_batch_range_are_served(batch: int) -> None:
    assert answer(Doubler(), request(batch), signature=SIGNATURE).batch == batch


@pytest.mark.covers("BA-01")
def test_another_version_and_inputs_that_are_no_mapping_are_no_request() -> None:
    with pytest.raises(InferenceError, match="version 2; expected 1"):
        InferenceRequest({}, version=2)
    with pytest.raises(InferenceError, match="a list; expected a mapping"):
        InferenceRequest([])  # type: ignore[arg-type]  # the wrong type is the point


@pytest.mark.covers("BA-01")
def test_a_request_is_frozen_with_its_inputs() -> None:
    inputs: dict[str, Array] = {"image": np.zeros((1, 3), np.float32)}
    made = InferenceRequest(inputs)
    inputs["other"] = np.zeros(1)
    assert list(made.inputs) == ["image"]
    with pytest.raises(TypeError):
        made.inputs["image"] = np.zeros(1)  # type: ignore[index]  # that it cannot be set is the point


def image(value: float) -> Array:
    array: Array = np.full((2, 3), 0.5, np.float32)
    array[1, 2] = value
    return array


@pytest.mark.covers("BA-01", "BA-05")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": image(np.nan)}, "input 'image' holds NaN"),
        ({"image": image(np.inf)}, "input 'image' holds an infinity"),
        ({"image": image(-np.inf)}, "input 'image' holds an infinity"),
        ({"image": image(1.5)}, "input 'image' runs from 0.5 to 1.5; its declared range is 0.0 to 1.0"),
        ({"image": image(-0.5)}, "from -0.5 to 0.5; its declared range is 0.0 to 1.0"),
        ({"count": np.array([0, 1])}, "input 'count' runs from 0 to 1; its declared range is 1.0 to inf"),
        ({"image": np.zeros((2, 4), np.float32)}, "'image'.* 2x4; expected float32 batchx3"),
        ({"image": np.zeros((2, 3), np.float64)}, "'image' is float64"),
        ({"extra": np.zeros(1)}, "'extra' came"),
        ({"image": [[0.0] * 3] * 2}, "'image' is a list"),
    ],
)
def test_a_wrong_input_is_named_with_the_reason_before_any_compute(changes: dict[str, Any], words: str) -> None:
    runtime = Doubler()
    with pytest.raises(InferenceError, match=words):
        answer(runtime, request(**changes), signature=SIGNATURE)
    assert runtime.calls == 0


@pytest.mark.covers("BA-01")
@settings(max_examples=50, deadline=None)
@given(st.floats(width=32), st.integers(0, 5))
def test_a_value_is_served_exactly_if_it_is_in_the_declared_range(value: float, at: int) -> None:
    array = np.full((2, 3), 0.5, np.float32)
    array.flat[at] = value
    runtime = Doubler()
    with suppress(InferenceError):
        answer(runtime, request(image=array), signature=SIGNATURE)
    assert runtime.calls == int(0.0 <= value <= 1.0)


@pytest.mark.covers("BA-01")
@pytest.mark.parametrize(
    ("changes", "lacks", "words"),
    [
        ({"heat": np.full((2, 3), 2.5, np.float32)}, "", "output 'heat' runs from 2.5 to 2.5; .* 0.0 to 2.0"),
        ({"heat": np.full((2, 3), np.inf, np.float32)}, "", "output 'heat' runs from inf to inf"),
        ({"mask": np.full((2, 3), np.nan, np.float32)}, "", "output 'mask' holds NaN"),
        ({}, "scores", "output 'scores' is missing; the model gave heat, mask"),
    ],
)
def test_an_output_outside_its_declared_range_is_named(changes: dict[str, Any], lacks: str, words: str) -> None:
    with pytest.raises(InferenceError, match=words):
        answer(Doubler(changes, lacks), request(), signature=SIGNATURE)


@pytest.mark.covers("BA-01")
def test_no_values_are_in_every_range() -> None:
    empty = Signature((TensorSpec("image", ("n", 3), "float32", low=0.0, high=1.0),))
    asked = InferenceRequest({"image": np.zeros((0, 3), np.float32)})
    assert answer(Doubler(), asked, signature=empty).outputs["heat"].shape == (0, 3)


@pytest.mark.covers("BA-01")
def test_the_batch_is_the_size_of_the_axis_of_that_name() -> None:
    with pytest.raises(InferenceError, match="'image' carries 2 items; the request says batch 3"):
        answer(Doubler(), InferenceRequest(dict(request(2).inputs), batch=3), signature=SIGNATURE)


@pytest.mark.covers("BA-01")
def test_a_model_of_a_fixed_batch_serves_that_batch_alone() -> None:
    fixed = Signature((TensorSpec("image", (4, 3), "float32"),))
    inputs = {"image": np.zeros((4, 3), np.float32)}
    assert answer(Doubler(), InferenceRequest(inputs, batch=4), signature=fixed).batch == 4
    with pytest.raises(InferenceError, match="batch 2; no input"):
        answer(Doubler(), InferenceRequest(inputs, batch=2), signature=fixed)


@pytest.mark.covers("BA-01", "BA-07")
def test_without_a_signature_the_engine_is_asked_once_and_nothing_is_loaded_per_request() -> None:
    runtime = Doubler()
    handle = handle_of(runtime)
    for _ in range(3):
        serve(runtime, handle, request())  # type: ignore[arg-type]  # the parts of a runtime that serve uses
    assert (runtime.calls, runtime.described) == (3, 1)
    with pytest.raises(InferenceError, match="declared range"):
        serve(runtime, handle, request(image=image(2.0)))  # type: ignore[arg-type]  # as above


@pytest.mark.covers("BA-01")
def test_a_runtime_that_does_not_describe_needs_a_signature() -> None:
    class Mute:
        infer = Doubler().infer

    with pytest.raises(ConfigError, match="signature="):
        answer(Mute(), request())
    assert answer(Mute(), request(), signature=SIGNATURE).batch == 2


@pytest.mark.covers("BA-01")
def test_where_no_inputs_are_declared_values_are_still_held_to_be_finite() -> None:
    nothing = Signature(())
    assert answer(Doubler(), request(), signature=nothing).scores is not None
    with pytest.raises(InferenceError, match="'image' holds NaN"):
        answer(Doubler(), request(image=image(np.nan)), signature=nothing)
