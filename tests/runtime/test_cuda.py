"""The one door of CUDA: on the simulated device in both majors of the bindings, and on NVIDIA's real bindings."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fixtures.api_cuda import FUNCTIONS
from harness.fakes.cuda_driver import make_driver
from harness.fakes.device import SimulatedDevice
from harness.fakes.faults import Fault
from harness.fakes.install import installed
from runtime.cuda import STICKY, Cuda, CudaDriver, CudaError, DeviceFacts, MemoryInfo, load_driver
from runtime.errors import RuntimeNotAvailableError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=[12, 13])
def device(request: pytest.FixtureRequest) -> SimulatedDevice:
    return SimulatedDevice(driver_version=request.param * 1000 + 20)


@pytest.fixture
def driver(device: SimulatedDevice) -> ModuleType:
    return make_driver(device, device.driver_version // 1000)


@pytest.fixture
def cuda(driver: ModuleType) -> Iterator[CudaDriver]:
    """Open, its context current on this thread."""
    made = CudaDriver(load=lambda: driver)
    made.make_current()
    yield made
    made.close()


def open_on(device: SimulatedDevice, **options: Any) -> CudaDriver:
    return CudaDriver(load=lambda: make_driver(device, device.driver_version // 1000), **options)


def on_another_thread(call: Callable[[], object]) -> BaseException | None:
    raised: list[BaseException | None] = [None]

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised[0] = error

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0]


def test_the_driver_is_a_cuda(cuda: CudaDriver) -> None:
    as_protocol: Cuda = cuda
    methods = {name for name in vars(Cuda) if not name.startswith("_")}
    assert all(callable(getattr(as_protocol, name)) for name in methods)


@pytest.mark.covers("T0-04")
def test_every_function_of_the_driver_that_is_called_is_in_the_manifests() -> None:
    called = set(re.findall(r'"(cu[A-Z]\w+)"', (ROOT / "runtime" / "cuda.py").read_text(encoding="utf-8")))
    assert len(called) > 20
    assert called <= set(FUNCTIONS)


def test_the_facts_are_the_device_s() -> None:
    device = SimulatedDevice(sm="110", name="Thor", memory_bytes=1 << 30, is_integrated=True, driver_version=13000)
    assert open_on(device).facts() == DeviceFacts("Thor", "110", True, 1 << 30, 13000)


def test_an_integrated_gpu_tells_what_the_system_could_give_too(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text(
        "MemTotal: 99 kB\nMemFree: 5 kB\nMemAvailable:  7 kB\n", encoding="ascii"
    )
    device = SimulatedDevice(memory_bytes=1000)
    cuda = open_on(device, root=tmp_path)
    cuda.make_current()
    cuda.allocate(300)
    assert cuda.memory_info() == MemoryInfo(free_bytes=700, total_bytes=1000, available_bytes=7 * 1024)


@pytest.mark.parametrize("text", [None, "MemTotal: 99 kB\n", "MemAvailable:\n", "MemAvailable: x kB\n"])
def test_what_cannot_be_read_is_none_and_not_zero(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "proc").mkdir()
    if text is not None:
        (tmp_path / "proc" / "meminfo").write_text(text, encoding="ascii")
    cuda = open_on(SimulatedDevice(), root=tmp_path)
    cuda.make_current()
    assert cuda.memory_info().available_bytes is None


def test_a_board_with_its_own_memory_has_no_such_figure() -> None:
    cuda = open_on(SimulatedDevice(is_integrated=False))
    cuda.make_current()
    assert cuda.memory_info().available_bytes is None


@pytest.mark.covers("TT-07")
def test_values_travel_in_and_out_and_everything_is_given_back(cuda: CudaDriver, device: SimulatedDevice) -> None:
    stream, block = cuda.create_stream(), cuda.allocate(64)
    given, got = cuda.allocate_host(64), cuda.allocate_host(64)
    assert (given.size_bytes, given.array.shape, str(given.array.dtype)) == (64, (64,), "uint8")
    assert given.array.ctypes.data == given.address
    given.array[:] = np.arange(64)
    cuda.copy_in(block, given.address, 64, stream)
    cuda.copy_out(got.address, block, 64, stream)
    assert not (got.array == given.array).all()
    cuda.synchronize(stream)
    assert (got.array == given.array).all()
    cuda.free(block)
    cuda.free_host(given)
    cuda.free_host(got)
    cuda.destroy_stream(stream)
    cuda.close()
    assert device.leaks() == []
    device.check()


@pytest.mark.covers("TT-07")
def test_a_copy_is_one_call_of_the_driver(cuda: CudaDriver, device: SimulatedDevice) -> None:
    stream, block, memory = cuda.create_stream(), cuda.allocate(8), cuda.allocate_host(8)
    before = len(device.calls)
    cuda.make_current()
    cuda.copy_in(block, memory.address, 8, stream)
    cuda.copy_out(memory.address, block, 8, stream)
    cuda.synchronize(stream)
    assert [call.api for call in device.calls[before:]] == [
        "cuCtxSetCurrent",
        "cuMemcpyHtoDAsync",
        "cuMemcpyDtoHAsync",
        "cuStreamSynchronize",
    ]


def test_a_stream_does_not_wait_for_the_default_stream(cuda: CudaDriver, device: SimulatedDevice) -> None:
    stream, done = cuda.create_stream(), list[str]()
    device.enqueue(0, "another library's", lambda: done.append("default"))
    device.enqueue(stream, "ours", lambda: done.append("ours"))
    cuda.synchronize(stream)
    assert done == ["ours"]


def test_events_order_streams_and_measure_time(cuda: CudaDriver, device: SimulatedDevice) -> None:
    first, second, done = cuda.create_stream(), cuda.create_stream(), list[int]()
    start, end = cuda.create_event(timing=True), cuda.create_event(timing=True)
    cuda.record_event(start, first)
    device.enqueue(first, "kernel", lambda: done.append(1), busy_ns=4_000_000)
    cuda.record_event(end, first)
    cuda.wait_event(second, end)
    device.enqueue(second, "kernel", lambda: done.append(2))
    cuda.synchronize(second)
    assert done == [1, 2]
    cuda.synchronize_event(end)
    assert cuda.elapsed_ms(start, end) == pytest.approx(4.0)
    untimed = cuda.create_event()
    cuda.record_event(untimed, first)
    cuda.synchronize_event(untimed)
    with pytest.raises(CudaError, match="cuEventElapsedTime failed: CUDA_ERROR_INVALID_HANDLE"):
        cuda.elapsed_ms(start, untimed)
    for event in (start, end, untimed):
        cuda.destroy_event(event)
    assert not any("event" in leak for leak in device.leaks())


# The context


@pytest.mark.covers("TT-07")
def test_the_primary_context_is_made_current_on_each_thread_that_asks(
    cuda: CudaDriver, device: SimulatedDevice
) -> None:
    error = on_another_thread(lambda: cuda.allocate(8))
    assert isinstance(error, CudaError)
    assert (error.call, error.name) == ("cuMemAlloc", "CUDA_ERROR_INVALID_CONTEXT")

    def life() -> None:
        cuda.make_current()
        assert device.current() == device.primary_context
        cuda.free(cuda.allocate(8))

    assert on_another_thread(life) is None


@pytest.mark.covers("TT-07")
def test_a_context_that_another_library_left_on_the_thread_is_not_used(
    cuda: CudaDriver, device: SimulatedDevice
) -> None:
    foreign = device.create_context()
    cuda.make_current()
    assert device.current() == device.primary_context != foreign
    stream, block, memory = cuda.create_stream(), cuda.allocate(8), cuda.allocate_host(8)
    cuda.copy_in(block, memory.address, 8, stream)
    cuda.synchronize(stream)
    device.check()


def test_the_primary_context_is_let_go_once(device: SimulatedDevice) -> None:
    first, second = open_on(device), open_on(device)
    assert device.leaks() == ["primary context, held 2 times"]
    first.close()
    first.close()
    assert device.leaks() == ["primary context, held 1 times"]
    second.close()
    assert device.leaks() == []
    assert [call.api for call in device.calls].count("cuDevicePrimaryCtxRelease") == 2


@pytest.mark.covers("T0-05")
def test_opening_that_fails_at_any_call_holds_nothing() -> None:
    whole = SimulatedDevice()
    open_on(whole)
    for number, call in enumerate(whole.calls):
        after = [earlier.api for earlier in whole.calls[:number]].count(call.api)
        for error in ("CUDA_ERROR_UNKNOWN", "CUDA_ERROR_OUT_OF_MEMORY", "CUDA_ERROR_ECC_UNCORRECTABLE"):
            device = SimulatedDevice()
            device.faults.add(Fault(call.api, error, after_calls=after))
            is_host = error == "CUDA_ERROR_UNKNOWN" and call.api in {"cuInit", "cuDriverGetVersion", "cuDeviceGet"}
            kind = RuntimeNotAvailableError if is_host else CudaError
            with pytest.raises(kind, match=f"{call.api} failed: {error}"):
                open_on(device)
            assert device.leaks() == []


# Errors

METHODS: dict[str, Callable[[CudaDriver], object]] = {
    "cuCtxSetCurrent": lambda cuda: cuda.make_current(),
    "cuMemGetInfo": lambda cuda: cuda.memory_info(),
    "cuMemAlloc": lambda cuda: cuda.allocate(8),
    "cuMemFree": lambda cuda: cuda.free(cuda.allocate(8)),
    "cuMemHostAlloc": lambda cuda: cuda.allocate_host(8),
    "cuMemFreeHost": lambda cuda: cuda.free_host(cuda.allocate_host(8)),
    "cuStreamCreate": lambda cuda: cuda.create_stream(),
    "cuStreamDestroy": lambda cuda: cuda.destroy_stream(cuda.create_stream()),
    "cuStreamSynchronize": lambda cuda: cuda.synchronize(cuda.create_stream()),
    "cuCtxSynchronize": lambda cuda: cuda.synchronize_context(),
    "cuStreamWaitEvent": lambda cuda: cuda.wait_event(cuda.create_stream(), cuda.create_event()),
    "cuEventCreate": lambda cuda: cuda.create_event(),
    "cuEventDestroy": lambda cuda: cuda.destroy_event(cuda.create_event()),
    "cuEventRecord": lambda cuda: cuda.record_event(cuda.create_event(), cuda.create_stream()),
    "cuEventSynchronize": lambda cuda: cuda.synchronize_event(cuda.create_event()),
    "cuEventElapsedTime": lambda cuda: cuda.elapsed_ms(cuda.create_event(timing=True), cuda.create_event(timing=True)),
    "cuMemcpyHtoDAsync": lambda cuda: cuda.copy_in(
        cuda.allocate(8), cuda.allocate_host(8).address, 8, cuda.create_stream()
    ),
    "cuMemcpyDtoHAsync": lambda cuda: cuda.copy_out(
        cuda.allocate_host(8).address, cuda.allocate(8), 8, cuda.create_stream()
    ),
    "cuDevicePrimaryCtxRelease": lambda cuda: cuda.close(),
}


@pytest.mark.covers("T0-05")
@pytest.mark.parametrize("api", METHODS)
def test_a_failing_call_is_an_error_with_its_name_code_and_words(
    cuda: CudaDriver, device: SimulatedDevice, api: str
) -> None:
    device.faults.add(Fault(api, "CUDA_ERROR_UNKNOWN"))
    with pytest.raises(CudaError) as caught:
        METHODS[api](cuda)
    error = caught.value
    assert (error.call, error.code, error.name, error.text) == (api, 999, "CUDA_ERROR_UNKNOWN", "unknown error")
    assert str(error) == f"{api} failed: CUDA_ERROR_UNKNOWN (999): unknown error"
    assert (error.is_sticky, error.is_out_of_memory) == (False, False)


def test_all_work_of_the_context_is_done_whichever_stream_has_it(cuda: CudaDriver) -> None:
    device, host = cuda.allocate(4), cuda.allocate_host(4)
    host.array[:] = [1, 2, 3, 4]
    cuda.copy_in(device, host.address, 4, cuda.create_stream())
    cuda.synchronize_context()
    cuda.copy_out(host.address, device, 4, cuda.create_stream())
    cuda.synchronize_context()
    assert host.array.tolist() == [1, 2, 3, 4]


def test_every_method_has_its_failing_call_here() -> None:
    source = (ROOT / "runtime" / "cuda.py").read_text(encoding="utf-8")
    checked = set(re.findall(r'self\._\w+ = _checked\(driver, "(\w+)"\)\n', source))
    assert checked == set(METHODS)


@pytest.mark.covers("T0-05")
@pytest.mark.parametrize("name", sorted(STICKY - {"CUDA_ERROR_MPS_CLIENT_TERMINATED"}))
def test_a_sticky_error_says_so(cuda: CudaDriver, device: SimulatedDevice, name: str) -> None:
    device.faults.add(Fault("cuStreamSynchronize", name))
    with pytest.raises(CudaError) as caught:
        cuda.synchronize(cuda.create_stream())
    assert (caught.value.name, caught.value.is_sticky) == (name, True)
    with pytest.raises(CudaError, match="cuMemAlloc") as again:
        cuda.allocate(8)
    assert again.value.is_sticky


def test_out_of_memory_says_so(device: SimulatedDevice) -> None:
    device.memory_bytes = 100
    cuda = open_on(device)
    cuda.make_current()
    with pytest.raises(CudaError) as caught:
        cuda.allocate(101)
    assert (caught.value.is_out_of_memory, caught.value.is_sticky) == (True, False)
    assert cuda.memory_info().free_bytes == 100


def test_words_that_cannot_be_had_do_not_hide_the_error(cuda: CudaDriver, driver: Any) -> None:
    def broken(error: object) -> None:
        raise RuntimeError('Function "cuGetErrorString" not found')

    driver.cuGetErrorString = broken
    with pytest.raises(CudaError, match=r"^cuMemFree failed: CUDA_ERROR_INVALID_VALUE \(1\)$"):
        cuda.free(12345)
    driver.cuGetErrorString = lambda error: (driver.CUresult.CUDA_ERROR_INVALID_VALUE, None)
    with pytest.raises(CudaError, match=r"^cuMemFree failed: CUDA_ERROR_INVALID_VALUE \(1\)$"):
        cuda.free(12345)


@pytest.mark.parametrize(
    "error",
    [RuntimeError('Function "cuMemAlloc" not found'), ValueError("12345 is not a valid CUresult"), KeyError(12345)],
    ids=["not in the driver", "status unknown to 13", "status unknown to 12"],
)
def test_what_the_bindings_raise_themselves_is_an_error_of_the_call_too(
    driver: Any, device: SimulatedDevice, error: Exception
) -> None:
    def raises(size: int) -> None:
        raise error

    driver.cuMemAlloc = raises
    cuda = CudaDriver(load=lambda: driver)
    cuda.make_current()
    with pytest.raises(CudaError, match=rf"cuMemAlloc failed: UNKNOWN \(-1\): {type(error).__name__}") as caught:
        cuda.allocate(8)
    assert caught.value.__cause__ is error


# What is not there


def test_without_the_bindings_the_error_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cuda"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cuda", None)
    with pytest.raises(RuntimeNotAvailableError, match=r"cuda\.bindings\.driver\) cannot be imported: .*pip install"):
        CudaDriver()


def test_the_bindings_that_are_installed_are_the_default(device: SimulatedDevice) -> None:
    with installed(device) as fakes:
        assert load_driver() is fakes.driver
        assert CudaDriver().facts().name == device.name


@pytest.mark.parametrize(
    "name", ["CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "CUDA_ERROR_STUB_LIBRARY"]
)
def test_a_driver_that_does_not_come_up_is_no_runtime(device: SimulatedDevice, name: str) -> None:
    device.faults.add(Fault("cuInit", name))
    with pytest.raises(
        RuntimeNotAvailableError, match=f"no CUDA device can be used here: cuInit failed: {name}"
    ) as caught:
        open_on(device)
    assert "driver" in caught.value.remedy
    assert open_on(device).facts().sm == "87"


def test_a_device_that_is_not_there_is_no_runtime(device: SimulatedDevice) -> None:
    with pytest.raises(RuntimeNotAvailableError, match="cuDeviceGet failed: CUDA_ERROR_INVALID_DEVICE"):
        open_on(device, ordinal=1)


def test_bindings_that_are_newer_than_the_driver_are_refused_with_the_command() -> None:
    device = SimulatedDevice(driver_version=12060)
    with pytest.raises(RuntimeNotAvailableError, match=r"major version 13 .* driver of this host is 12\.6") as caught:
        CudaDriver(load=lambda: make_driver(device, 13))
    assert "'cuda-bindings==12.*'" in caught.value.remedy
    newer = SimulatedDevice(driver_version=13020)
    assert CudaDriver(load=lambda: make_driver(newer, 12)).facts().driver_version == 13020


# NVIDIA's own bindings


def test_every_error_of_which_cuda_says_that_the_process_has_to_start_again_is_sticky() -> None:
    pytest.importorskip("cuda.bindings", reason="cuda-bindings: not installed")
    results: Any = load_driver().__dict__["CUresult"]
    known = {member.name for member in results}
    assert known >= STICKY
    told = {
        member.name
        for member in results
        if "must be terminated and relaunched" in " ".join((member.__doc__ or "").split())
    }
    if not told:
        pytest.skip("these bindings have no documentation of their statuses")
    assert told <= STICKY


def test_the_real_bindings_without_a_driver_are_no_runtime() -> None:
    driver = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings: not installed")
    try:
        driver.cuInit(0)
    except RuntimeError:
        pass
    else:
        pytest.skip("this host has an NVIDIA driver")
    with pytest.raises(RuntimeNotAvailableError, match="no CUDA device can be used here: cuInit failed"):
        CudaDriver()


LIFE = """
import json, sys
from runtime.cuda import CudaDriver, CudaError
try:
    cuda = CudaDriver()
    cuda.make_current()
    stream, given, got, block = cuda.create_stream(), cuda.allocate_host(64), cuda.allocate_host(64), cuda.allocate(64)
    timed, event = cuda.create_event(timing=True), cuda.create_event()
    given.array[:] = 5
    cuda.copy_in(block, given.address, 64, stream)
    cuda.copy_out(got.address, block, 64, stream)
    cuda.record_event(event, stream)
    cuda.wait_event(stream, event)
    cuda.synchronize(stream)
    cuda.synchronize_event(event)
    info, facts = cuda.memory_info(), cuda.facts()
    found = [facts.name, facts.sm, facts.is_integrated, facts.total_bytes, info.free_bytes, cuda.elapsed_ms(timed, event),
             got.array.tolist() == [5] * 64, stream, event]
    cuda.free(block), cuda.free_host(given), cuda.free_host(got)
    cuda.destroy_event(event), cuda.destroy_event(timed), cuda.destroy_stream(stream), cuda.close()
except Exception as error:
    found = [type(error).__name__, str(error), getattr(error, "is_sticky", None)]
print("FOUND", json.dumps(found))
"""


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[list[str], list[Any]]]:
    """Runs ``LIFE`` on the real bindings over a stand-in for the driver; what the driver was called with, and the result."""
    bindings = pytest.importorskip("cuda.bindings", reason="cuda-bindings: not installed")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("driver")
    source = Path(__file__).with_name("stand_in_driver.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libcuda.so.1", source, "-ldl"], check=True)
    major = int(bindings.__version__.partition(".")[0])

    def run(**environment: str) -> tuple[list[str], list[Any]]:
        told = {"LD_LIBRARY_PATH": str(folder), "STAND_IN_VERSION": str(major * 1000 + 20), "PYTHONPATH": str(ROOT)}
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        extra = os.environ.get("PYTHONPATH")
        if extra:
            told["PYTHONPATH"] += os.pathsep + extra
        done = subprocess.run(
            [sys.executable, "-c", LIFE], env=inherited | told | environment, capture_output=True, text=True, check=True
        )
        *calls, last = done.stdout.splitlines()
        return calls, json.loads(last.removeprefix("FOUND "))

    return run


@pytest.mark.covers("TT-07")
def test_the_real_bindings_pass_every_call_on_as_it_was_meant(stand_in: Any) -> None:
    calls, found = stand_in()
    assert found == ["Stand-in 0", "87", True, 5 << 30, 3, 1.5, True, 2222, 3333]
    assert calls == [
        *("cuInit 0", "cuDriverGetVersion 0", "cuDeviceGet 0", "cuDeviceGetAttribute 75", "cuDeviceGetAttribute 76"),
        *("cuDeviceGetName 256", "cuDeviceGetAttribute 18", "cuDeviceTotalMem 0", "cuDevicePrimaryCtxRetain 0"),
        *("cuCtxSetCurrent 1111", "cuStreamCreate 1", "cuMemHostAlloc 1", "cuMemHostAlloc 1", "cuMemAlloc 64"),
        *(
            "cuEventCreate 0",
            "cuEventCreate 2",
            "cuMemcpyHtoDAsync 2222",
            "cuMemcpyDtoHAsync 2222",
            "cuEventRecord 1111",
        ),
        *("cuStreamWaitEvent 5555", "cuStreamSynchronize 2222", "cuEventSynchronize 3333", "cuMemGetInfo 0"),
        *("cuEventElapsedTime 1", "cuMemFree 1", "cuMemFreeHost 1", "cuMemFreeHost 1", "cuEventDestroy 3333"),
        *("cuEventDestroy 3333", "cuStreamDestroy 2222", "cuDevicePrimaryCtxRelease 0"),
    ]


@pytest.mark.parametrize(
    ("call", "status", "told", "is_sticky"),
    [
        ("cuMemAlloc", 2, "CUDA_ERROR_OUT_OF_MEMORY (2): out of memory", False),
        ("cuStreamSynchronize", 700, "CUDA_ERROR_ILLEGAL_ADDRESS (700): something else", True),
    ],
)
def test_an_error_through_the_real_bindings_is_what_it_is_on_the_simulated_device(
    stand_in: Any, call: str, status: int, told: str, is_sticky: bool
) -> None:
    assert stand_in(STAND_IN_FAIL=f"{call}={status}")[1] == ["CudaError", f"{call} failed: {told}", is_sticky]


def test_a_status_that_the_real_bindings_do_not_know_is_an_error_of_its_call(stand_in: Any) -> None:
    name, text, is_sticky = stand_in(STAND_IN_FAIL="cuMemAlloc=12345")[1]
    assert (name, is_sticky) == ("CudaError", False)
    assert text.startswith("cuMemAlloc failed: UNKNOWN (-1): ")
    assert "12345" in text


def test_a_driver_older_than_the_real_bindings_is_refused(stand_in: Any) -> None:
    name, text, _ = stand_in(STAND_IN_VERSION="11080")[1]
    assert name == "RuntimeNotAvailableError"
    assert "driver of this host is 11.8" in text
