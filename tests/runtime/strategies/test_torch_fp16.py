from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.architectures import ArchitectureRegistry
from runtime.config import RuntimeConfig
from runtime.data import BuildConfig, EngineCacheEntry, EngineHandle, TensorSpec, ThermalState
from runtime.errors import (
    DeviceLostError,
    EngineBuildError,
    EngineDeserializeError,
    EngineHashMismatchError,
    InferenceError,
    OutOfMemoryError,
    RuntimeNotAvailableError,
)
from runtime.logs import EventLog
from runtime.platform import HostTuple
from runtime.protocol import Array, Describes, InferenceRuntime, Splits
from runtime.strategies.common import specs_to_json
from runtime.thermal import SourceReading, ThermalStatePublisher

pytest.importorskip("torch", reason="torch: not installed")

import torch

from harness.fakes.device import SimulatedDevice
from harness.fakes.torch import make_torch, recorded
from runtime.strategies.torch_fp16 import PytorchFp16Runtime

HOST = HostTuple(sm="87", jetpack="6.2", trt="10.3.0.30")
X = (TensorSpec("x", (2, 8), "float32", low=-4.0, high=4.0),)
Y = (TensorSpec("y", (2, 4), "float32"),)
FREE = (TensorSpec("x", ("n", 8), "float32"),)


class Body(torch.nn.Module):
    """Weights of one linear layer, and a ``forward`` that a test chooses."""

    def __init__(self, forward: Any = None) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 4)
        self._run = forward or (lambda self, x: self.linear(x))

    def forward(self: Any, x: Any) -> Any:
        return self._run(self, x)


class House:
    """A runtime with its log, a registry, and checkpoints in a folder."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.stream = io.StringIO()
        self.registry = ArchitectureRegistry()
        self.runtime = PytorchFp16Runtime(
            RuntimeConfig(**{"device": "cpu", "intra_op_threads": 1, **config}),
            log=EventLog(stream=self.stream),
            architecture_registry=self.registry,
            host=HOST,
        )

    def entry(
        self,
        forward: Any = None,
        *,
        name: str = "tiny",
        precision: str = "fp16",
        inputs: tuple[TensorSpec, ...] = X,
        outputs: tuple[TensorSpec, ...] = (),
        factory: Any = None,
        state: Any = None,
    ) -> EngineCacheEntry:
        factory = factory or (lambda: Body(forward))
        self.registry.register(name, factory, inputs=inputs, outputs=outputs)
        torch.manual_seed(7)
        path = self.folder / f"{name}.pt"
        torch.save(state if state is not None else factory().state_dict(), path)
        return self.runtime.compile_engine(path, BuildConfig(precision=precision))

    def handle(self, forward: Any = None, **options: Any) -> EngineHandle:
        return self.runtime.deserialize_engine(self.entry(forward, **options))

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.events]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def feed(rows: int = 2, seed: int = 1) -> dict[str, Array]:
    return {"x": np.random.default_rng(seed).uniform(-1, 1, (rows, 8)).astype(np.float32)}


def raises(error: Any) -> Any:
    """A forward that passes its warm-up with zeros and fails on anything else."""

    def forward(self: Any, x: Any) -> Any:
        if x.abs().sum() > 0:
            raise error
        return self.linear(x)

    return forward


@pytest.mark.covers("RT-01", "RT-02")
def test_the_strategy_has_the_protocol_the_optional_part_and_its_label(house: House) -> None:
    assert isinstance(house.runtime, InferenceRuntime)
    assert isinstance(house.runtime, Describes)
    assert house.runtime.current_runtime_label() == "pytorch_fp16"


@pytest.mark.covers("PT-01")
def test_the_tiny_linear_model_in_half_precision_agrees_with_fp32(house: House) -> None:
    half = house.handle()
    single = house.handle(name="single", precision="fp32")
    (got,) = house.runtime.infer(half, feed()).values()
    (expected,) = house.runtime.infer(single, feed()).values()
    np.testing.assert_allclose(got, expected, atol=5e-3, rtol=5e-3)
    assert not np.array_equal(got, expected), "the half lane computed in fp32"
    assert got.dtype == expected.dtype == np.float32


@pytest.mark.covers("PT-01")
def test_the_fp32_lane_computes_what_torch_computes(house: House) -> None:
    handle = house.handle(precision="fp32")
    module = Body()
    module.load_state_dict(torch.load(house.folder / "tiny.pt", weights_only=True))
    with torch.inference_mode():
        expected = module(torch.tensor(feed()["x"])).numpy()
    np.testing.assert_array_equal(house.runtime.infer(handle, feed())["output_0"], expected)


@pytest.mark.covers("PT-03")
def test_an_entry_points_at_the_checkpoint_and_names_its_architecture_by_the_stem(house: House) -> None:
    entry = house.entry(precision="fp32")
    assert entry.engine_path == house.folder / "tiny.pt"
    assert dict(entry.extras) == {"model_name": "tiny"}
    assert (entry.sm, entry.jetpack, entry.trt, entry.precision) == ("87", "6.2", "10.3", "fp32")


@pytest.mark.covers("PT-03")
@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read"), (b"", "is empty"), (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull")],
)
def test_a_checkpoint_that_is_none_is_refused_before_take_off(house: House, content: Any, words: Any) -> None:
    path = house.folder / "tiny.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineBuildError, match=words):
        house.runtime.compile_engine(path, BuildConfig())
    assert house.events[-1] | {"time_ns": 0} == {
        "kind": "c7.build_failed",
        "level": "ERROR",
        "time_ns": 0,
        "model": "tiny.pt",
        "error": "EngineBuildError",
        "message": house.events[-1]["message"],
    }


@pytest.mark.covers("PT-03")
@pytest.mark.parametrize("precision", ["int8", "mixed"])
def test_int8_is_refused_with_the_runtime_that_has_it(house: House, precision: Any) -> None:
    with pytest.raises(EngineBuildError, match="from tensorrt"):
        house.runtime.compile_engine(
            house.folder / "tiny.pt", BuildConfig(precision=precision, calibration_dataset=house.folder)
        )


@pytest.mark.covers("PT-04", "TR-07")
def test_a_checkpoint_that_runs_code_is_refused_with_the_two_lines_that_convert_it(house: House) -> None:
    trace = house.folder / "ran"

    class RunsCode:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(trace),))

    entry = house.entry(state={"linear.weight": RunsCode()})
    with pytest.raises(EngineDeserializeError) as refused:
        house.runtime.deserialize_engine(entry)
    assert not trace.exists(), "the checkpoint's code ran"
    assert "mkdir" in str(refused.value)
    assert "model = torch.load('tiny.pt', weights_only=False)\n" in refused.value.remedy
    assert refused.value.remedy.endswith("torch.save(model.state_dict(), 'tiny.pt')")
    assert isinstance(refused.value.__cause__, pickle.UnpicklingError)


@pytest.mark.covers("TR-07")
def test_the_two_lines_convert_a_saved_module_into_one_that_loads(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = house.entry(factory=Linear, state=Linear())
    with pytest.raises(EngineDeserializeError, match="Linear") as refused:
        house.runtime.deserialize_engine(entry)
    lines = [line.strip() for line in refused.value.remedy.splitlines()[1:]]
    monkeypatch.chdir(house.folder)
    exec("\n".join(lines), {"torch": torch})
    house.runtime.deserialize_engine(house.runtime.compile_engine(house.folder / "tiny.pt", BuildConfig()))


class Linear(torch.nn.Linear):
    def __init__(self) -> None:
        super().__init__(8, 4)


@pytest.mark.covers("TR-07", "PT-04")
@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"epoch": 3, "model": {}}, "'epoch', 'model'; expected a state dict"),
        ([1, 2], "holds list; expected a state dict"),
        ({}, "missing: linear.weight, linear.bias"),
    ],
)
def test_what_is_no_state_dict_is_refused_by_what_it_holds(house: House, state: Any, words: Any) -> None:
    entry = house.entry(state=state)
    with pytest.raises(EngineDeserializeError, match=words):
        house.runtime.deserialize_engine(entry)


@pytest.mark.covers("PT-04")
@pytest.mark.parametrize("data", [b"garbage", b"\x08\x07onnx", b"PK\x03\x04" + bytes(100)])
def test_a_file_that_is_no_checkpoint_is_refused_and_not_called_code(house: House, data: Any) -> None:
    entry = house.entry()
    entry.engine_path.write_bytes(data)
    entry = house.runtime.compile_engine(entry.engine_path, BuildConfig())
    with pytest.raises(EngineDeserializeError, match="no torch checkpoint") as refused:
        house.runtime.deserialize_engine(entry)
    assert refused.value.__cause__ is not None
    assert "weights_only=False" not in str(refused.value)


@pytest.mark.covers("TR-07")
def test_a_torchscript_archive_is_refused_as_a_program(house: House) -> None:
    entry = house.entry()
    archive = io.BytesIO()
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(torch.nn.Linear(8, 4)), archive)
    entry.engine_path.write_bytes(archive.getvalue())
    entry = house.runtime.compile_engine(entry.engine_path, BuildConfig())
    with pytest.raises(EngineDeserializeError, match="a TorchScript program"):
        house.runtime.deserialize_engine(entry)


@pytest.mark.covers("PT-04", "RT-09")
def test_bytes_that_are_not_those_of_the_entry_are_not_loaded(house: House) -> None:
    entry = house.entry()
    torch.save(Body().state_dict(), entry.engine_path)
    with pytest.raises(EngineHashMismatchError, match=entry.sha256):
        house.runtime.deserialize_engine(entry)
    assert house.runtime.resident_bytes == 0


@pytest.mark.covers("PT-04")
def test_a_missing_checkpoint_is_refused_with_its_cause(house: House) -> None:
    entry = house.entry()
    entry.engine_path.unlink()
    with pytest.raises(EngineDeserializeError, match=r"tiny.pt cannot be read") as refused:
        house.runtime.deserialize_engine(entry)
    assert isinstance(refused.value.__cause__, FileNotFoundError)


@pytest.mark.covers("PT-04", "PT-02")
def test_an_unknown_architecture_is_refused_with_those_that_are_known(house: House) -> None:
    entry = dataclasses.replace(house.entry(), extras={"model_name": "tinny"})
    with pytest.raises(EngineDeserializeError, match=r"known: tiny. Did you mean 'tiny'") as refused:
        house.runtime.deserialize_engine(entry)
    assert refused.value.__cause__ is not None


@pytest.mark.covers("PT-04")
def test_a_state_dict_that_does_not_fit_is_refused_with_the_keys(house: House) -> None:
    state = {"linear.weight": torch.zeros(4, 9), "liner.bias": torch.zeros(4)}
    with pytest.raises(EngineDeserializeError) as refused:
        house.handle(state=state)
    assert "missing: linear.bias; unexpected: liner.bias" in str(refused.value)
    assert "of another shape: linear.weight (4x9, expected 4x8)" in str(refused.value)
    assert isinstance(refused.value.__cause__, RuntimeError)


@pytest.mark.covers("PT-04")
@pytest.mark.parametrize(("factory", "words"), [(lambda: 3, "made a int"), (lambda: 1 / 0, "ZeroDivisionError")])
def test_a_factory_that_makes_no_module_is_refused(house: House, factory: Any, words: Any) -> None:
    with pytest.raises(EngineDeserializeError, match=words):
        house.handle(factory=factory, state={})


@pytest.mark.covers("PT-04")
def test_a_weight_that_leaves_the_range_of_half_is_refused_and_fits_in_fp32(house: House) -> None:
    state = {"linear.weight": torch.full((4, 8), 1e5), "linear.bias": torch.zeros(4)}
    house.handle(state=state, precision="fp32")
    with pytest.raises(EngineDeserializeError, match=r"linear.weight"):
        house.runtime.deserialize_engine(house.runtime.compile_engine(house.folder / "tiny.pt", BuildConfig()))


@pytest.mark.covers("PT-04", "RT-09")
def test_a_warm_up_that_fails_leaves_nothing_resident(house: House) -> None:
    def forward(self: Any, x: Any) -> Any:
        raise ValueError("no zeros, please")

    with pytest.raises(EngineDeserializeError, match=r"warm-up of tiny with zeros failed.*no zeros, please"):
        house.handle(forward)
    assert house.runtime.resident_bytes == 0
    assert house.kinds()[-1] == "c7.deserialize_failed"


@pytest.mark.covers("PT-04")
def test_the_warm_up_runs_where_the_shapes_are_known_and_only_there(house: House) -> None:
    calls = []

    def forward(self: Any, x: Any) -> Any:
        calls.append(tuple(x.shape))
        return self.linear(x)

    house.handle(forward, name="free", inputs=FREE)
    assert calls == []
    house.handle(forward, name="known")
    assert calls == [(2, 8)]
    concrete = dataclasses.replace(
        house.runtime.compile_engine(house.folder / "free.pt", BuildConfig()),
        extras={"model_name": "free", "inputs": specs_to_json([TensorSpec("x", (3, 8), "float32")])},
    )
    house.runtime.deserialize_engine(concrete)
    assert calls == [(2, 8), (3, 8)]


@pytest.mark.covers("PT-05")
def test_a_model_that_was_put_back_into_train_mode_still_runs_in_eval_mode(house: House) -> None:
    class Noisy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = torch.nn.Sequential(torch.nn.Dropout(0.5))

        def forward(self: Any, x: Any) -> Any:
            return self.block(x)

    kept = []

    def factory() -> Any:
        kept.append(Noisy())
        return kept[-1]

    handle = house.handle(factory=factory, state={})
    for flip in (kept[-1], kept[-1].block[0]):
        flip.train()
        (got,) = house.runtime.infer(handle, feed()).values()
        np.testing.assert_array_equal(got, feed()["x"].astype(np.float16).astype(np.float32))


@pytest.mark.covers("PT-05")
def test_the_model_runs_in_inference_mode(house: House) -> None:
    seen = []

    def forward(self: Any, x: Any) -> Any:
        seen.append(torch.is_inference_mode_enabled())
        return self.linear(x)

    house.runtime.infer(house.handle(forward), feed())
    assert seen
    assert all(seen)


@pytest.mark.covers("PT-05")
@pytest.mark.parametrize(
    ("returned", "outputs", "names"),
    [
        (lambda y: y, (), ["output_0"]),
        (lambda y: (y, y + 1), (), ["output_0", "output_1"]),
        (lambda y: [y], Y, ["y"]),
        (lambda y: {"b": y, "a": y}, (), ["b", "a"]),
        (lambda y: {"other": y, "y": y}, Y, ["y"]),
    ],
)
def test_outputs_get_the_names_of_the_case(house: House, returned: Any, outputs: Any, names: Any) -> None:
    handle = house.handle(lambda self, x: returned(self.linear(x)), outputs=outputs)
    assert list(house.runtime.infer(handle, feed())) == names


@pytest.mark.covers("PT-05")
@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda y: (y, y), "returned 2 outputs; expected 1: y"),
        (lambda y: {"z": y}, "returned z; expected 'y'"),
        (lambda y: [[y]], "is a list; expected a tensor"),
        (lambda y: y[:, :3], "float16 2x3; expected float32 2x4"),
        (lambda y: y[0], "float16 4; expected float32 2x4"),
        (lambda y: y.to(torch.complex64), "complex64 2x4; expected float32"),
    ],
)
def test_outputs_that_are_not_those_declared_are_refused_at_take_off(house: House, returned: Any, words: Any) -> None:
    with pytest.raises(EngineDeserializeError, match=words):
        house.handle(lambda self, x: returned(self.linear(x)), outputs=Y)


@pytest.mark.covers("PT-05")
@pytest.mark.parametrize(
    ("tensor", "declared", "dtype"),
    [
        (lambda y: y, None, "float32"),
        (lambda y: y.to(torch.bfloat16), None, "float32"),
        (lambda y: y.double(), None, "float64"),
        (lambda y: y.argmax(1), None, "int64"),
        (lambda y: y > 0, None, "bool"),
        (lambda y: y, "float16", "float16"),
        (lambda y: y.argmax(1, keepdim=True).expand(2, 4), "int32", "int32"),
    ],
)
def test_an_output_has_its_declared_dtype_and_no_half_precision_unasked(
    house: House, tensor: Any, declared: Any, dtype: Any
) -> None:
    outputs = (TensorSpec("y", (2, 4), declared),) if declared else ()
    handle = house.handle(lambda self, x: tensor(self.linear(x)), outputs=outputs)
    (got,) = house.runtime.infer(handle, feed()).values()
    assert got.dtype == dtype


@pytest.mark.covers("PT-05")
def test_integer_inputs_stay_integers_in_half_precision(house: House) -> None:
    seen = []

    class Two(torch.nn.Module):
        def forward(self, image: Any, index: Any, mask: Any) -> Any:
            seen.append((image.dtype, index.dtype, mask.dtype))
            return image[index]

    inputs = (
        TensorSpec("image", (3,), "float32"),
        TensorSpec("index", (1,), "int64"),
        TensorSpec("mask", (1,), "bool"),
    )
    handle = house.handle(factory=Two, inputs=inputs, state={})
    given = {"image": np.array([0, 1, 2], np.float32), "index": np.array([2]), "mask": np.array([True])}
    assert house.runtime.infer(handle, given)["output_0"].tolist() == [2.0]
    assert seen[-1] == (torch.float16, torch.int64, torch.bool)


@pytest.mark.covers("PT-05", "RT-01")
def test_results_share_no_memory_with_the_model_with_the_inputs_or_with_each_other(house: House) -> None:
    handle = house.handle(lambda self, x: (x, self.linear.bias, self.linear.bias), precision="fp32")
    given = feed()
    first = house.runtime.infer(handle, given)
    kept = {name: value.copy() for name, value in first.items()}
    for value in house.runtime.infer(handle, feed(seed=2)).values():
        np.add(value, 1, out=value)  # a caller may do so; it must not reach the weights
    again = house.runtime.infer(handle, given)
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)
        np.testing.assert_array_equal(again[name], value)
    assert not np.may_share_memory(first["output_0"], given["x"])
    assert not np.may_share_memory(first["output_1"], first["output_2"])


@pytest.mark.covers("PT-05", "RT-01")
def test_a_model_that_works_in_place_changes_nothing_of_the_callers_even_read_only(house: House) -> None:
    handle = house.handle(lambda self, x: x.mul_(2), precision="fp32")
    given = feed()
    given["x"].flags.writeable = False
    before = given["x"].copy()
    (got,) = house.runtime.infer(handle, given).values()
    np.testing.assert_array_equal(got, before * 2)
    np.testing.assert_array_equal(given["x"], before)


@pytest.mark.covers("RT-01")
def test_out_is_filled_and_returned(house: House) -> None:
    handle = house.handle(outputs=Y)
    mine = np.full((2, 4), 9, np.float32)
    got = house.runtime.infer(handle, feed(), out={"y": mine})
    assert got["y"] is mine
    np.testing.assert_array_equal(mine, house.runtime.infer(handle, feed())["y"])


@pytest.mark.covers("RT-01", "RT-08")
@pytest.mark.parametrize("outputs", [Y, ()])
def test_out_that_does_not_fit_is_refused_and_left_alone(house: House, outputs: Any) -> None:
    name = "y" if outputs else "output_0"
    handle = house.handle(outputs=outputs)
    frozen = np.zeros((2, 4), np.float32)
    frozen.flags.writeable = False
    for out in ({"z": np.zeros((2, 4), np.float32)}, {name: np.zeros((2, 3), np.float32)}, {name: frozen}):
        with pytest.raises(InferenceError, match="out"):
            house.runtime.infer(handle, feed(), out=out)
        assert not any(array.any() for array in out.values())


@pytest.mark.covers("RT-08")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "'x' is missing"),
        ({**feed(), "y": np.zeros(1)}, "'y' came"),
        ({"x": np.zeros((2, 7), np.float32)}, "2x7; expected float32 2x8"),
        ({"x": np.zeros((2, 8), np.float64)}, "float64 2x8; expected float32 2x8"),
        ({"x": [[0.0] * 8] * 2}, "is a list; expected float32 2x8"),
    ],
)
def test_a_wrong_input_is_named_before_the_model_is_entered(house: House, given: Any, words: Any) -> None:
    entered = []

    def forward(self: Any, x: Any) -> Any:
        entered.append(1)
        return self.linear(x)

    handle = house.handle(forward)
    entered.clear()
    with pytest.raises(InferenceError, match=words):
        house.runtime.infer(handle, given)
    assert not entered


@pytest.mark.covers("RT-08")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "'x' is missing; expected x"),
        ({"z": np.zeros(1)}, "'z' came"),
        ({"x": [1.0]}, "is a list, not a numpy array"),
        ([], "inputs are a list"),
        ({"x": np.zeros((2, 7), np.float32)}, r"running tiny \(Module.forward\) failed"),
    ],
)
def test_without_declared_inputs_the_names_are_those_of_forward(house: House, given: Any, words: Any) -> None:
    handle = house.handle(inputs=())
    assert house.runtime.infer(handle, feed())["output_0"].shape == (2, 4)
    with pytest.raises(InferenceError, match=words):
        house.runtime.infer(handle, given)


@pytest.mark.covers("RT-08")
def test_a_forward_that_names_no_inputs_must_be_registered_with_them(house: House) -> None:
    class Unnamed(torch.nn.Module):
        def forward(self, *tensors: Any) -> Any:
            return tensors[0]

    with pytest.raises(EngineDeserializeError, match="inputs="):
        house.handle(factory=Unnamed, inputs=(), state={})


@pytest.mark.covers("RT-05", "RT-10")
def test_a_foreign_or_released_handle_is_refused_by_infer_and_ignored_by_release(house: House, tmp_path: Path) -> None:
    handle = house.handle()
    other = House(tmp_path).runtime
    with pytest.raises(InferenceError, match="another runtime"):
        other.infer(handle, feed())
    other.release_engine(handle)
    house.runtime.infer(handle, feed())
    house.runtime.release_engine(handle)
    house.runtime.release_engine(handle)
    assert house.runtime.resident_bytes == 0
    assert house.kinds().count("c7.engine_released") == 1
    with pytest.raises(InferenceError, match="was released"):
        house.runtime.infer(handle, feed())


@pytest.mark.covers("RT-09", "RT-10")
def test_the_ledger_counts_the_weights_of_live_engines(house: House) -> None:
    half, single = house.handle(), house.handle(name="single", precision="fp32")
    weights = 4 * 8 + 4
    assert house.runtime.resident_bytes == weights * 2 + weights * 4
    house.runtime.release_engine(half)
    assert house.runtime.resident_bytes == weights * 4
    del single
    assert house.runtime.resident_bytes == 0


@pytest.mark.covers("RT-09", "PT-06")
def test_an_engine_over_the_budget_is_refused_with_the_three_numbers(tmp_path: Path) -> None:
    house = House(tmp_path, host_memory_budget_bytes=100)
    first = house.handle()
    with pytest.raises(OutOfMemoryError, match=r"second.pt needs 72 bytes .* 72 are resident, .* is 100"):
        house.handle(name="second")
    assert house.runtime.resident_bytes == 72
    assert not first.released
    assert house.kinds()[-1] == "c7.out_of_memory"


@pytest.mark.covers("PT-06", "RT-07")
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp:838"),
        MemoryError("no room"),
    ],
)
def test_each_form_of_out_of_memory_is_told_and_the_next_call_works(house: House, error: Any) -> None:
    handle = house.handle(raises(error))
    with pytest.raises(OutOfMemoryError) as refused:
        house.runtime.infer(handle, feed())
    assert refused.value.__cause__ is error
    assert house.kinds()[-1] == "c7.out_of_memory"
    house.runtime.infer(handle, {"x": np.zeros((2, 8), np.float32)})


@pytest.mark.covers("PT-06")
def test_the_cpu_allocators_own_refusal_is_out_of_memory(house: House) -> None:
    handle = house.handle(lambda self, x: torch.empty(10**15) if x.any() else self.linear(x))
    with pytest.raises(OutOfMemoryError):
        house.runtime.infer(handle, feed())


@pytest.mark.covers("RT-09", "PT-06")
def test_a_failed_call_keeps_no_tensor_alive_through_its_traceback(house: House) -> None:
    import weakref

    kept = []

    def forward(self: Any, x: Any) -> Any:
        big = x + 1
        if x.any():
            kept.append(weakref.ref(big))
            raise RuntimeError("broken")
        return self.linear(x)

    handle = house.handle(forward)
    with pytest.raises(InferenceError) as failed:
        house.runtime.infer(handle, feed())
    assert failed.value.__cause__ is not None
    assert kept[0]() is None


@pytest.mark.covers("RT-07", "RT-09")
def test_what_a_model_raises_becomes_an_inference_error_and_costs_one_call(house: House) -> None:
    error = ValueError("odd")
    handle = house.handle(raises(error))
    with pytest.raises(InferenceError, match=r"running tiny \(Module.forward\) failed: ValueError: odd") as failed:
        house.runtime.infer(handle, feed())
    assert failed.value.__cause__ is error
    assert not isinstance(failed.value, DeviceLostError)
    house.runtime.infer(handle, {"x": np.zeros((2, 8), np.float32)})


@pytest.mark.covers("RT-07", "PT-06")
@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: device-side assert triggered"),
    ],
)
def test_after_a_sticky_device_error_every_call_fails_at_once(house: House, error: Any) -> None:
    entry = house.entry(raises(error))
    handle = house.runtime.deserialize_engine(entry)
    with pytest.raises(DeviceLostError, match="Restart the process"):
        house.runtime.infer(handle, feed())
    harmless = {"x": np.zeros((2, 8), np.float32)}
    with pytest.raises(DeviceLostError, match="an earlier call failed"):
        house.runtime.infer(handle, harmless)
    with pytest.raises(DeviceLostError, match="an earlier call failed"):
        house.runtime.deserialize_engine(entry)
    house.runtime.release_engine(handle)
    assert house.runtime.resident_bytes == 0


@pytest.mark.covers("T1-01", "PT-01")
@pytest.mark.parametrize("precision", ["fp16", "fp32", "mixed"])
def test_the_description_is_read_off_the_weights(house: House, precision: Any) -> None:
    handle = house.handle(precision=precision)
    description = house.runtime.describe(handle)
    expected = "fp32" if precision == "fp32" else "fp16"
    assert (description.provider, description.precision) == ("cpu", expected)
    assert dict(description.nodes_by_provider) == {"cpu": 1}
    assert dict(description.nodes_by_precision) == {expected: 1}
    assert description.host_bytes == house.runtime.resident_bytes
    assert description.inputs == X
    assert description.outputs == (TensorSpec("output_0", (2, 4), "float32"),)


@pytest.mark.covers("T1-01")
def test_a_module_that_kept_a_part_in_fp32_is_described_as_mixed(house: House) -> None:
    class Stubborn(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.soft, self.hard = torch.nn.Linear(8, 8), torch.nn.Linear(8, 4)

        def half(self) -> Any:
            self.soft.half()
            return self

        def forward(self: Any, x: Any) -> Any:
            return self.hard(self.soft(x).float())

    description = house.runtime.describe(house.handle(factory=Stubborn))
    assert description.precision == "mixed"
    assert dict(description.nodes_by_precision) == {"fp16": 1, "fp32": 1}


@pytest.mark.covers("BA-01")
def test_concrete_shapes_of_an_entry_keep_the_registered_ranges(house: House) -> None:
    entry = house.entry(inputs=(TensorSpec("x", ("n", 8), "float32", low=-4.0, high=4.0),))
    shaped = dataclasses.replace(entry, extras={**entry.extras, "inputs": specs_to_json(X)})
    assert house.runtime.describe(house.runtime.deserialize_engine(shaped)).inputs == X


@pytest.mark.covers("FA-05")
def test_a_gpu_that_is_not_there_is_an_error_and_never_the_cpu(tmp_path: Path) -> None:
    wanted = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(RuntimeNotAvailableError, match="--device cpu"):
        House(tmp_path, device=wanted)


@pytest.mark.covers("BA-04")
def test_the_thread_count_is_set_on_purpose(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        House(tmp_path, intra_op_threads=2)
        assert torch.get_num_threads() == 2
        House(tmp_path, intra_op_threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.covers("LO-01")
def test_frames_are_numbered_per_handle_and_logged_only_when_asked(tmp_path: Path) -> None:
    quiet, loud = House(tmp_path), House(tmp_path, per_frame_debug_log=True)
    for house in (quiet, loud):
        handle = house.handle()
        for _ in range(2):
            house.runtime.infer(handle, feed())
    assert "c7.frame" not in quiet.kinds()
    frames = [event for event in loud.events if event["kind"] == "c7.frame"]
    assert [(event["frame"], event["backbone"], event["level"]) for event in frames] == [
        (1, "tiny", "DEBUG"),
        (2, "tiny", "DEBUG"),
    ]
    assert all(event["took_ms"] >= 0 for event in frames)


@pytest.mark.covers("LO-01")
def test_loading_is_logged_with_the_device_that_serves(house: House) -> None:
    house.handle()
    active, loaded = house.events
    assert (active["kind"], active["provider"]) == ("c7.provider_active", "cpu")
    assert (loaded["kind"], loaded["backbone"], loaded["precision"]) == ("c7.engine_loaded", "tiny", "fp16")


@pytest.mark.covers("TH-01", "TH-03")
def test_the_thermal_state_is_the_publishers_or_the_safe_default(house: House) -> None:
    state = ThermalState(50.0, 60.0, False, 900.0, 5, True)

    class Silent:
        def read(self) -> SourceReading:
            return SourceReading()

        def close(self) -> None:
            pass

    class Publisher(ThermalStatePublisher):
        def read(self) -> Any:
            return state

    with_one = PytorchFp16Runtime(
        RuntimeConfig(device="cpu"), thermal_publisher=Publisher(Silent()), log=EventLog(stream=house.stream)
    )
    assert with_one.thermal_state() is state
    without = PytorchFp16Runtime(RuntimeConfig(device="cpu"), clock=lambda: 42, log=EventLog(stream=house.stream))
    assert without.thermal_state() == ThermalState.unknown(42)


def test_a_call_on_the_gpu_can_be_split_by_events_and_one_on_the_cpu_cannot(house: House, tmp_path: Path) -> None:
    assert isinstance(house.runtime, Splits)
    loaded = house.runtime.deserialize_engine(house.entry())
    assert not house.runtime.time_calls(loaded)
    house.runtime.infer(loaded, feed())
    assert house.runtime.split_ns(loaded) is None

    device = SimulatedDevice(sm="87")

    class Slow(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            device.clock.advance(3_000_000)
            return super().forward(x)

    registry = ArchitectureRegistry()
    registry.register("slow", recorded(device, lambda: Slow(4, 2)), inputs=(TensorSpec("x", ("n", 4), "float32"),))
    path = tmp_path / "slow.pt"
    torch.save(torch.nn.Linear(4, 2).state_dict(), path)
    runtime = PytorchFp16Runtime(
        RuntimeConfig(device="cuda:0"),
        log=EventLog(stream=house.stream),
        architecture_registry=registry,
        load=make_torch(device),
        clock=device.clock,
    )
    handle = runtime.deserialize_engine(runtime.compile_engine(path, BuildConfig("fp16")))
    runtime.infer(handle, {"x": np.ones((2, 4), np.float32)})
    assert runtime.split_ns(handle) is None
    assert runtime.time_calls(handle)
    runtime.infer(handle, {"x": np.ones((2, 4), np.float32)})
    split = runtime.split_ns(handle)
    assert split is not None
    assert 3_000_000 <= split[1] < 3_100_000
    assert all(part >= 0 for part in split)
    runtime.release_engine(handle)
