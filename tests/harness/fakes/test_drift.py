"""The fakes of TensorRT have the API of the real thing; each kind of drift is found."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import pytest

from fixtures.api_read import differences, read_api
from harness.fakes import tensorrt, tensorrt_build, tensorrt_run
from harness.fakes.bindings import make_enum, read_manifest
from harness.fakes.device import SimulatedDevice
from harness.fakes.drift import drift
from harness.fakes.tensorrt import make_tensorrt
from harness.fakes.tensorrt_plan import flavour_of

pytestmark = pytest.mark.covers("T0-04")

FLAVOURS = ("10.3.0", "10.13.3.9", "10.16.1.11", "11.4.0.106", "rtx1.7.1.116")
FRONT = ("nptype", "volume")
"""From the Python file around the extension: the manifests of TensorRT are of the extension alone."""


def manifest(version: str) -> Any:
    return read_manifest(flavour_of(version).manifest)


@pytest.fixture(params=FLAVOURS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_no_flavour_has_drifted(version: str) -> None:
    assert drift(make_tensorrt(SimulatedDevice(), version), manifest(version), also=FRONT) == []


def test_no_face_has_a_member_that_no_release_has() -> None:
    faces = (*tensorrt._FACES, *tensorrt_build.FACES, *tensorrt_run.FACES)
    unknown = [
        f"{face.__name__}.{name}"
        for face in faces
        for name in vars(face)
        if not name.startswith("_")
        and not any(name in manifest(v).get(face.__name__, {"members": {}})["members"] for v in FLAVOURS)
    ]
    assert unknown == []


def test_what_a_release_lacks_its_fake_lacks() -> None:
    older, newer = (make_tensorrt(SimulatedDevice(), version) for version in ("10.3.0", "11.4.0.106"))
    rtx = make_tensorrt(SimulatedDevice(), "rtx1.7.1.116")
    assert hasattr(older.BuilderFlag, "FP16")
    for trt in (newer, rtx):
        assert not hasattr(trt.BuilderFlag, "FP16")
        assert not hasattr(trt, "IInt8EntropyCalibrator2")
        assert not hasattr(trt.Builder, "platform_has_fast_fp16")
        assert not hasattr(trt.ICudaEngine, "device_memory_size")
    assert int(older.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 1
    assert int(newer.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 0
    assert [hasattr(trt.Runtime, "get_engine_validity") for trt in (older, newer, rtx)] == [False, False, True]


@pytest.mark.parametrize("version", ["9.0", "10.3", "rtx"])
def test_another_version_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match=r"there are 10\.3\.0, "):
        make_tensorrt(SimulatedDevice(), version)


def rename_a_member(trt: Any) -> None:
    trt.IExecutionContext.set_shape = trt.IExecutionContext.set_input_shape
    del trt.IExecutionContext.set_input_shape


def change_a_number(trt: Any) -> None:
    trt.DataType = make_enum(
        "DataType", {**{k: int(v) for k, v in trt.DataType.__members__.items()}, "HALF": 7}, "tensorrt"
    )


def change_one_attribute(trt: Any) -> None:
    trt.MemoryPoolType.WORKSPACE = trt.MemoryPoolType(4)


def lose_an_enum(trt: Any) -> None:
    del trt.LayerInformationFormat


def add_a_parameter(trt: Any) -> None:
    def execute_async_v3(self: Any, stream_handle: int, wait: bool) -> bool:
        return True

    trt.IExecutionContext.execute_async_v3 = execute_async_v3


def rename_a_parameter(trt: Any) -> None:
    def execute_async_v3(self: Any, stream: int) -> bool:
        return True

    trt.IExecutionContext.execute_async_v3 = execute_async_v3


def give_a_default(trt: Any) -> None:
    def execute_async_v3(self: Any, stream_handle: int = 0) -> bool:
        return True

    trt.IExecutionContext.execute_async_v3 = execute_async_v3


def make_it_writable(trt: Any) -> None:
    trt.ICudaEngine.name = property(lambda self: "", lambda self, value: None)


def make_a_method_of_a_property(trt: Any) -> None:
    trt.ICudaEngine.num_io_tensors = lambda self: 2


def make_a_property_of_a_method(trt: Any) -> None:
    trt.ICudaEngine.serialize = property(lambda self: b"")


def change_the_bases(trt: Any) -> None:
    trt.Logger = type("Logger", (trt.IProfiler,), {})


def invent_a_class(trt: Any) -> None:
    trt.IAccelerator = type("IAccelerator", (), {})


def change_a_function(trt: Any) -> None:
    trt.init_libnvinfer_plugins = lambda logger: True


def change_a_value(trt: Any) -> None:
    trt.float16 = 1


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (rename_a_member, "IExecutionContext.set_shape: the real class has no such member"),
        (change_a_number, "DataType.HALF: is 7, and the real one 1"),
        (change_one_attribute, "MemoryPoolType.WORKSPACE: is 4, and the real one 0"),
        (lose_an_enum, "LayerInformationFormat: the enum is not there"),
        (add_a_parameter, "IExecutionContext.execute_async_v3: takes"),
        (rename_a_parameter, "IExecutionContext.execute_async_v3: takes"),
        (give_a_default, "IExecutionContext.execute_async_v3: takes"),
        (make_it_writable, "ICudaEngine.name: is writable"),
        (make_a_method_of_a_property, "ICudaEngine.num_io_tensors: is no property"),
        (make_a_property_of_a_method, "ICudaEngine.serialize: is a property"),
        (change_the_bases, "Logger: has the bases ['IProfiler']"),
        (invent_a_class, "IAccelerator: the real module has no such name"),
        (change_a_function, "init_libnvinfer_plugins: takes (logger)"),
        (change_a_value, "float16: is a int"),
    ],
)
def test_planted_drift_is_found(plant: Any, found: str) -> None:
    trt = make_tensorrt(SimulatedDevice(), "10.3.0")
    plant(trt)
    lines = drift(trt, manifest("10.3.0"), also=FRONT)
    assert [line for line in lines if line.startswith(found)], lines


def test_a_fake_of_another_release_is_found_to_be_one() -> None:
    lines = drift(make_tensorrt(SimulatedDevice(), "10.3.0"), manifest("11.4.0.106"), also=FRONT)
    assert "BuilderFlag.VERSION_COMPATIBLE: is 13, and the real one 12" in lines
    assert "IInt8Calibrator: the real module has no such name" in lines
    assert len(lines) > 50


def test_the_installed_tensorrt_rtx_is_the_one_of_the_manifest_and_of_the_fake() -> None:
    real = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx: not installed")
    name = f"tensorrt_rtx-{real.__version__}"
    try:
        expected = read_manifest(name)
    except ValueError:
        pytest.skip(f"{name}: no manifest of this release; `nox -s api` shows how to read one")
    assert differences({name: dict(entry) for name, entry in expected.items()}, read_api(real)) == []
    fake = make_tensorrt(SimulatedDevice(), f"rtx{real.__version__}")
    assert drift(fake, read_api(real)) == []
    assert real.ILogger.Severity.__members__.keys() == fake.ILogger.Severity.__members__.keys()
    for name, member in fake.ILogger.Severity.__members__.items():
        assert int(member) == int(real.ILogger.Severity.__members__[name])


def test_what_can_only_be_written_in_the_real_bindings_can_only_be_written_in_the_fake() -> None:
    real = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx: not installed")
    fake = make_tensorrt(SimulatedDevice(), "rtx1.7.1.116")

    def write_only(module: ModuleType) -> set[str]:
        return {
            f"{name}.{key}"
            for name, kind in vars(module).items()
            if isinstance(kind, type) and hasattr(real, name)
            for key in dir(kind)
            if isinstance(raw := inspect.getattr_static(kind, key), property) and raw.fget is None
        }

    faked = {name for name in write_only(real) if hasattr(fake, name.partition(".")[0])}
    assert write_only(fake) == faked
    assert "Runtime.gpu_allocator" in faked
