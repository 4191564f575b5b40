"""What all strategies share: input checks, out=, ownership, the ledger, what an entry declares."""

from __future__ import annotations

import gc
import io
import json
import pickle
import weakref
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from runtime.data import EngineCacheEntry, EngineHandle, Profile, TensorSpec
from runtime.errors import EngineDeserializeError, InferenceError, OutOfMemoryError
from runtime.logs import EventLog, Kind
from runtime.protocol import Array
from runtime.strategies.common import (
    InputChecker,
    ResidentHandles,
    check_out,
    declared_profiles,
    declared_specs,
    fill,
    let_go,
    model_name,
    owned,
    reported,
    specs_to_json,
    zeros,
)

IMAGE = TensorSpec("image", (1, 3, 4, 6), "float32")
COUNT = TensorSpec("count", (), "int64")
LEFT = TensorSpec("left", (1, "n", 2), "float32")
RIGHT = TensorSpec("right", (1, "n", "m"), "float32")


def entry(**extras: str) -> EngineCacheEntry:
    return EngineCacheEntry(Path("disk.onnx"), "0" * 64, "none", "none", "none", "fp32", extras)


def image(shape: tuple[int, ...] = (1, 3, 4, 6), dtype: str = "float32") -> Array:
    return np.zeros(shape, dtype)


@pytest.mark.covers("RT-08")
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, ["'image' is missing", "float32 1x3x4x6"]),
        ({"image": image(), "extra": image()}, ["'extra' came", "none of that name"]),
        ({"picture": image(), "count": np.array(1)}, ["'picture' came"]),
        ({"image": image(dtype="float64"), "count": np.array(1)}, ["'image' is float64", "expected float32 1x3x4x6"]),
        ({"image": image(dtype=">f4"), "count": np.array(1)}, ["'image' is >f4"]),
        (
            {"image": image((1, 3, 4, 7)), "count": np.array(1)},
            ["'image' has shape 1x3x4x7", "expected float32 1x3x4x6"],
        ),
        ({"image": image((3, 4, 6)), "count": np.array(1)}, ["'image' has shape 3x4x6"]),
        (
            {"image": image((1, 4, 6, 3)).transpose(0, 3, 1, 2), "count": np.array(1)},
            ["not C-contiguous", "ascontiguous"],
        ),
        ({"image": image((2, 3, 4, 6))[::2, :, ::1], "count": np.array([1])}, ["'count' has shape 1", "int64 scalar"]),
        ({"image": [[1.0]], "count": np.array(1)}, ["'image' is a list"]),
        ({"image": None, "count": np.array(1)}, ["'image' is a NoneType"]),
        ([image()], ["inputs are a list"]),
        (None, ["inputs are a NoneType"]),
    ],
)
def test_a_wrong_input_is_refused_with_its_name_what_came_and_what_was_expected(inputs: Any, words: Any) -> None:
    with pytest.raises(InferenceError) as refusal:
        InputChecker([IMAGE, COUNT]).check(inputs)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.covers("RT-08")
def test_right_inputs_pass_again_and_again_in_any_mapping_and_after_a_refusal() -> None:
    checker = InputChecker([IMAGE, COUNT])
    good = {"count": np.array(1), "image": image()}
    for feed in (good, MappingProxyType(good), {**good, "image": pickle.loads(pickle.dumps(image()))}):
        checker.check(feed)
    with pytest.raises(InferenceError):
        checker.check({**good, "image": image((1, 3, 4, 7))})
    checker.check(good)


@pytest.mark.covers("RT-08")
def test_a_free_size_may_change_between_calls_but_not_within_one() -> None:
    checker = InputChecker([LEFT, RIGHT])
    for n, m in ((5, 1), (5, 1), (7, 2), (5, 1)):
        checker.check({"left": image((1, n, 2)), "right": image((1, n, m))})
    with pytest.raises(InferenceError, match=r"'right' is 1x6x1, which makes 'n' 6, but input 'left' made it 5"):
        checker.check({"left": image((1, 5, 2)), "right": image((1, 6, 1))})
    with pytest.raises(InferenceError, match="'left' has shape 2x5x2"):
        checker.check({"left": image((2, 5, 2)), "right": image((1, 5, 1))})


@pytest.mark.covers("RT-08", "RT-12")
def test_a_shape_outside_its_profile_is_refused_before_it_could_cause_a_build() -> None:
    checker = InputChecker([LEFT], [Profile("left", (1, 4, 2), (1, 8, 2), (1, 16, 2))])
    checker.check({"left": image((1, 16, 2))})
    with pytest.raises(InferenceError, match="1x17x2; its profile allows 1x4x2 to 1x16x2"):
        checker.check({"left": image((1, 17, 2))})


@pytest.mark.covers("RT-01", "RT-08")
def test_out_arrays_are_checked_before_the_call() -> None:
    specs = [TensorSpec("y", (2, "n"), "float32"), TensorSpec("z", (2,), "int64")]
    source = np.zeros((2, 8), "float32")
    frozen = np.zeros((2, 3), "float32")
    frozen.flags.writeable = False
    for out, words in (
        ({"w": source}, "out names 'w'; expected names among y, z"),
        ({"z": np.zeros(3, "int64")}, r"out\['z'\] has shape 3; expected int64 2"),
        ({"y": np.zeros((2, 3))}, "is float64 2x3; expected float32 2xn"),
        ({"y": frozen}, "read-only"),
        ({"y": np.zeros((3, 2), "float32").T}, "not C-contiguous"),
        ({"y": source}, "overlaps input 'x'"),
        ({"y": 3}, "is a int"),
        ([source], "out is a list"),
    ):
        with pytest.raises(InferenceError, match=words):
            check_out(specs, out, {"x": source})  # type: ignore[arg-type]  # wrong on purpose
    shared = np.zeros((2, 4), "float32")
    with pytest.raises(InferenceError, match="overlap"):
        check_out([specs[0], TensorSpec("q", (2, 4), "float32")], {"y": shared, "q": shared}, {})
    check_out(specs, {"y": np.zeros((2, 5), "float32")}, {"x": source})


@pytest.mark.covers("RT-01")
def test_fill_writes_the_callers_arrays_and_returns_them_with_the_rest() -> None:
    mine = np.zeros(3)
    outputs = {"y": np.arange(3.0), "z": np.ones(2)}
    filled = fill({"y": mine}, outputs)
    assert filled["y"] is mine
    assert filled["z"] is outputs["z"]
    np.testing.assert_array_equal(mine, [0, 1, 2])
    assert list(filled) == ["y", "z"]


@pytest.mark.covers("RT-09")
def test_fill_changes_none_of_the_callers_arrays_if_one_does_not_fit() -> None:
    first, second = np.full(3, 7.0), np.full(3, 7.0)
    with pytest.raises(InferenceError, match=r"out\['z'\] is float64 3; the output is float64 2"):
        fill({"y": first, "z": second}, {"y": np.zeros(3), "z": np.zeros(2)})
    with pytest.raises(InferenceError, match="out names 'q'"):
        fill({"y": first, "q": second}, {"y": np.zeros(3)})
    assert first.tolist() == second.tolist() == [7.0] * 3


@pytest.mark.covers("RT-05")
def test_only_a_live_handle_of_this_runtime_is_owned() -> None:
    runtime, other = object(), object()
    handle = EngineHandle(runtime, entry(), {"session": 1})
    assert owned(handle, runtime) == {"session": 1}
    with pytest.raises(InferenceError, match="another runtime"):
        owned(handle, other)
    with pytest.raises(InferenceError, match="a str came"):
        owned("disk", runtime)  # type: ignore[arg-type]  # wrong on purpose
    handle.resources = None
    with pytest.raises(InferenceError, match="was released"):
        owned(handle, runtime)


@pytest.mark.covers("RT-09", "RT-10")
def test_the_ledger_counts_live_handles_and_keeps_none_alive() -> None:
    ledger = ResidentHandles()
    first, second = (EngineHandle(ledger, entry(), 1) for _ in range(2))
    ledger.add(first, 10)
    ledger.add(second, 5)
    assert (len(ledger), ledger.resident_bytes, first in ledger) == (2, 15, True)
    ledger.remove(first)
    ledger.remove(first)
    assert (len(ledger), ledger.resident_bytes) == (1, 5)
    del second
    gc.collect()
    assert (len(ledger), ledger.resident_bytes) == (0, 0)


def test_specifications_travel_through_an_entry_unchanged() -> None:
    specs = (IMAGE, COUNT, LEFT)
    assert declared_specs(entry(inputs=specs_to_json(specs)), "inputs") == specs
    assert declared_specs(entry(), "inputs") is None


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "3",
        "null",
        '[{"name": "x"}]',
        '[{"name": "x", "shape": [1], "dtype": "real"}]',
        '[{"name": "x", "shape": [1.5], "dtype": "float32"}]',
        '[{"name": "x", "shape": 3, "dtype": "float32"}]',
    ],
)
def test_a_malformed_declaration_is_refused_with_its_text(text: Any) -> None:
    with pytest.raises(EngineDeserializeError, match=r"extras\['inputs'\] of disk.onnx"):
        declared_specs(entry(inputs=text), "inputs")


@pytest.mark.parametrize(
    "value", ["[", [{"input": "left"}], [{"input": "left", "min": [1], "opt": [0], "max": [2]}], [7], 7]
)
def test_malformed_profiles_are_refused(value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    with pytest.raises(EngineDeserializeError, match="profiles"):
        declared_profiles(entry(profiles=text), [LEFT])


def test_profiles_are_read_and_held_against_the_inputs() -> None:
    text = json.dumps([{"input": "left", "min": [1, 4, 2], "opt": [1, 8, 2], "max": [1, 9, 2]}])
    assert declared_profiles(entry(profiles=text), [LEFT]) == (Profile("left", (1, 4, 2), (1, 8, 2), (1, 9, 2)),)
    assert declared_profiles(entry(), [LEFT]) == ()
    with pytest.raises(EngineDeserializeError, match="the profile of 'left'"):
        declared_profiles(entry(profiles=text), [IMAGE])


def test_zeros_are_made_only_where_every_size_is_known() -> None:
    feed = zeros([IMAGE, COUNT])
    assert feed is not None
    assert (feed["image"].shape, feed["count"].dtype) == ((1, 3, 4, 6), np.dtype("int64"))
    assert zeros([IMAGE, LEFT]) is None


def test_the_models_name_is_the_given_one_or_the_files_stem() -> None:
    assert model_name(entry()) == "disk"
    assert model_name(entry(model_name="matcher")) == "matcher"


@pytest.mark.covers("LO-01")
def test_an_error_is_logged_once_under_its_kind_and_passes_through() -> None:
    stream = io.StringIO()
    log = EventLog(stream=stream)
    for error in (EngineDeserializeError("no", remedy="Do."), OutOfMemoryError("full")):
        with pytest.raises(type(error)), reported(log, Kind.DESERIALIZE_FAILED, backbone="disk"):
            raise error
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["kind"], first["level"], first["message"]) == ("c7.deserialize_failed", "ERROR", "no Do.")
    assert (second["kind"], second["backbone"]) == ("c7.out_of_memory", "disk")


@pytest.mark.covers("RT-09")
def test_an_error_that_is_kept_keeps_nothing_alive_once_it_was_let_go() -> None:
    class Session:
        pass

    alive = []

    def load() -> None:
        session = Session()
        alive.append(weakref.ref(session))
        try:
            raise ValueError
        except ValueError as error:
            raise EngineDeserializeError("no") from error

    with pytest.raises(EngineDeserializeError) as kept:
        load()
    assert alive[0]() is not None
    let_go(kept.value)
    gc.collect()
    assert alive[0]() is None
