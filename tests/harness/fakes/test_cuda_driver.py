"""The face that looks like ``cuda.bindings.driver``: its API against the manifests, and how it answers."""

from __future__ import annotations

import ctypes
import inspect
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fixtures.api_cuda import FUNCTIONS, read_cuda
from harness.fakes import cuda_driver
from harness.fakes.bindings import read_manifest
from harness.fakes.cuda_driver import VERSIONS, make_driver, parse_signature
from harness.fakes.device import SimulatedDevice, SimulationError
from harness.fakes.faults import Fault, FaultPlan


@pytest.fixture(params=[12, 13])
def major(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def device() -> SimulatedDevice:
    return SimulatedDevice()


@pytest.fixture
def driver(device: SimulatedDevice, major: int) -> Any:
    """A driver that is initialised, its primary context current here."""
    made: Any = make_driver(device, major)
    assert made.cuInit(0) == (made.CUresult.CUDA_SUCCESS,)
    made.cuCtxSetCurrent(made.cuDevicePrimaryCtxRetain(made.cuDeviceGet(0)[1])[1])
    return made


@pytest.mark.covers("T0-04")
def test_the_face_has_the_names_values_and_signatures_of_the_real_bindings(driver: Any, major: int) -> None:
    manifest = read_manifest(f"cuda-bindings-{VERSIONS[major]}")
    found = read_cuda(driver)
    assert found.keys() == manifest.keys()
    for name, entry in manifest.items():
        told = {key: value for key, value in entry.items() if key not in {"results", "errors"}}  # told by calls, below
        assert {key: found[name][key] for key in told} == told


@pytest.mark.covers("T0-04")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_takes_as_many_arguments_as_the_real_one(major: int, name: str) -> None:
    parameters = parse_signature(read_manifest(f"cuda-bindings-{VERSIONS[major]}")[name]["function"])
    method = inspect.signature(getattr(cuda_driver._Driver, name))
    method.bind(None, *parameters)
    driver: Any = make_driver(SimulatedDevice(), major)
    with pytest.raises(TypeError, match=rf"{name}\(\) takes exactly {len(parameters)} positional arguments"):
        getattr(driver, name)(*[0] * (len(parameters) + 1))


@pytest.mark.covers("T0-04")
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "cuInit"])
def test_a_call_that_fails_gives_its_status_and_a_none_for_each_result(major: int, name: str) -> None:
    entry = read_manifest(f"cuda-bindings-{VERSIONS[major]}")[name]
    device = SimulatedDevice(faults=FaultPlan([Fault(name, "CUDA_ERROR_UNKNOWN")]))
    driver: Any = make_driver(device, major)
    values = [
        getattr(driver, parameter.kind)(0) if parameter.kind.startswith("CUresult") else 0
        for parameter in parse_signature(entry["function"])
    ]
    if name == "cuDeviceGetAttribute":
        values[0] = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_INTEGRATED
    if name == "cuCtxCreate":
        values = [None, 0, 0] if major == 13 else [0, 0]
    assert getattr(driver, name)(*values) == (driver.CUresult.CUDA_ERROR_UNKNOWN, *[None] * len(entry["results"]))


def test_another_major_version_is_refused(device: SimulatedDevice) -> None:
    with pytest.raises(ValueError, match="no bindings of major version 11"):
        make_driver(device, 11)


def test_statuses_are_integers_of_an_enum_and_handles_turn_into_integers(driver: Any) -> None:
    assert driver.CUresult(2) is driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY
    assert not driver.CUresult.CUDA_SUCCESS
    assert repr(driver.CUstream_flags.CU_STREAM_NON_BLOCKING) == "<CUstream_flags.CU_STREAM_NON_BLOCKING: 1>"
    assert (repr(driver.CUstream(7)), repr(driver.CUdeviceptr(7))) == ("<CUstream 0x7>", "<CUdeviceptr 7>")
    assert driver.CUstream(7) == driver.CUstream(7) != driver.CUstream(8)
    assert driver.CUstream(7) != driver.CUevent(7)
    assert driver.CUdeviceptr(5) != driver.CUdeviceptr(5)
    assert int(driver.CUdeviceptr(5)) == 5
    with pytest.raises(OverflowError):
        driver.CUstream(-1)
    with pytest.raises(TypeError):
        driver.CUstream("x")


def test_arguments_that_the_bindings_refuse_never_reach_the_driver(driver: Any, device: SimulatedDevice) -> None:
    before = len(device.calls)
    wrong: list[tuple[Callable[[], Any], type[Exception]]] = [
        (lambda: driver.cuMemAlloc(-1), OverflowError),
        (lambda: driver.cuMemAlloc("x"), TypeError),
        (lambda: driver.cuMemFree("x"), TypeError),
        (driver.cuMemAlloc, TypeError),
        (lambda: driver.cuMemAlloc(1, size=2), TypeError),
        (lambda: driver.cuGetErrorName(2), TypeError),
        (lambda: driver.cuDeviceGetAttribute(18, 0), TypeError),
    ]
    for call, error in wrong:
        with pytest.raises(error):
            call()
    assert len(device.calls) == before
    status, address = driver.cuMemAlloc(bytesize=8)
    assert driver.cuMemFree(dptr=address) == (driver.CUresult.CUDA_SUCCESS,)
    assert status == 0


def test_only_the_driver_s_own_questions_are_answered_before_it_is_initialised(
    device: SimulatedDevice, major: int
) -> None:
    driver: Any = make_driver(device, major)
    assert driver.cuDriverGetVersion() == (0, 12060)
    assert driver.cuDeviceGet(0) == (driver.CUresult.CUDA_ERROR_NOT_INITIALIZED, None)
    assert driver.cuMemAlloc(8) == (driver.CUresult.CUDA_ERROR_NOT_INITIALIZED, None)
    assert driver.cuInit(1) == (driver.CUresult.CUDA_ERROR_INVALID_VALUE,)


def test_there_is_one_device(driver: Any) -> None:
    assert driver.cuDeviceGetCount() == (0, 1)
    assert driver.cuDeviceGet(1)[0] == driver.CUresult.CUDA_ERROR_INVALID_DEVICE
    assert driver.cuDeviceGetName(8, 0) == (0, b"Simulat\0")
    assert driver.cuDeviceTotalMem(1)[0] == driver.CUresult.CUDA_ERROR_INVALID_DEVICE
    with pytest.raises(SimulationError, match="MAX_PITCH is not simulated"):
        driver.cuDeviceGetAttribute(driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_PITCH, 0)


@pytest.mark.covers("T0-02")
def test_a_thread_without_a_current_context_gets_the_driver_s_error(driver: Any, device: SimulatedDevice) -> None:
    told: list[Any] = []
    thread = threading.Thread(target=lambda: told.append(driver.cuMemAlloc(8)))
    thread.start()
    thread.join()
    assert told == [(driver.CUresult.CUDA_ERROR_INVALID_CONTEXT, None)]
    assert driver.cuCtxSetCurrent(0) == (0,)
    assert int(driver.cuCtxGetCurrent()[1]) == 0
    assert driver.cuMemGetInfo() == (driver.CUresult.CUDA_ERROR_INVALID_CONTEXT, None, None)
    assert len(device.violations) == 2


def test_a_context_of_one_s_own_is_made_as_its_major_version_wants_it(
    driver: Any, device: SimulatedDevice, major: int
) -> None:
    status, context = driver.cuCtxCreate(None, 0, 0) if major == 13 else driver.cuCtxCreate(0, 0)
    assert status == 0
    assert int(context) == int(driver.cuCtxGetCurrent()[1]) != device.primary_context
    assert driver.cuCtxSynchronize() == (0,)
    assert driver.cuCtxDestroy(context) == (0,)
    assert driver.cuMemAlloc(8)[0] == driver.CUresult.CUDA_ERROR_CONTEXT_IS_DESTROYED
    assert driver.cuCtxDestroy(context)[0] == driver.CUresult.CUDA_ERROR_INVALID_CONTEXT


def test_copies_with_and_without_a_stream(driver: Any, device: SimulatedDevice) -> None:
    source, target = np.arange(16, dtype=np.uint8), np.zeros(16, np.uint8)
    _, block = driver.cuMemAlloc(16)
    assert driver.cuMemcpyHtoD(block, source, 16) == (0,)
    assert driver.cuMemcpyDtoH(target, block, 16) == (0,)
    assert (target == source).all()
    _, stream = driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
    assert driver.cuMemcpyHtoDAsync(block, (source + 1).ctypes.data, 16, stream) == (0,)
    assert driver.cuStreamQuery(stream) in {(0,), (driver.CUresult.CUDA_ERROR_NOT_READY,)}
    assert driver.cuMemcpyDtoHAsync(target.ctypes.data, block, 16, stream) == (0,)
    assert (target == source + 1).all()
    assert driver.cuStreamQuery(stream) == (0,)
    device.check()


def test_a_copy_without_a_stream_is_done_when_it_returns_from_page_locked_memory_too(driver: Any) -> None:
    _, given = driver.cuMemHostAlloc(4, 0)
    _, got = driver.cuMemHostAlloc(4, 0)
    _, block = driver.cuMemAlloc(4)
    memory = [(ctypes.c_uint8 * 4).from_address(address) for address in (given, got)]
    memory[0][:] = [1, 2, 3, 4]
    assert driver.cuMemcpyHtoD(block, given, 4) == (0,)
    memory[0][:] = [0, 0, 0, 0]
    assert driver.cuMemcpyDtoH(got, block, 4) == (0,)
    assert list(memory[1]) == [1, 2, 3, 4]


def test_a_stream_waits_for_the_default_stream_unless_it_was_made_not_to(driver: Any, device: SimulatedDevice) -> None:
    done: list[str] = []
    for flags in (driver.CUstream_flags.CU_STREAM_NON_BLOCKING, driver.CUstream_flags.CU_STREAM_DEFAULT):
        _, stream = driver.cuStreamCreate(flags)
        device.enqueue(0, "work", lambda: done.append("default"))
        device.enqueue(int(stream), "work", lambda name=flags.name: done.append(name))  # type: ignore[misc]
        assert driver.cuStreamSynchronize(stream) == (0,)
    assert done == ["CU_STREAM_NON_BLOCKING", "default", "default", "CU_STREAM_DEFAULT"]


def test_events_answer_as_the_driver_does(driver: Any, device: SimulatedDevice) -> None:
    _, stream = driver.cuStreamCreate(1)
    _, start = driver.cuEventCreate(0)
    _, end = driver.cuEventCreate(driver.CUevent_flags.CU_EVENT_DEFAULT)
    _, untimed = driver.cuEventCreate(driver.CUevent_flags.CU_EVENT_DISABLE_TIMING)
    assert driver.cuEventElapsedTime(start, end) == (driver.CUresult.CUDA_ERROR_INVALID_HANDLE, None)
    for event in (start, end, untimed):
        assert driver.cuEventRecord(event, stream) == (0,)
    assert driver.cuEventElapsedTime(start, end) == (driver.CUresult.CUDA_ERROR_NOT_READY, None)
    assert driver.cuEventQuery(end) == (driver.CUresult.CUDA_ERROR_NOT_READY,)
    assert driver.cuStreamWaitEvent(stream, end, 0) == (0,)
    assert driver.cuEventSynchronize(untimed) == (0,)
    assert driver.cuEventQuery(end) == (0,)
    assert driver.cuEventElapsedTime(start, end) == (0, pytest.approx(0.001))  # between two calls of a microsecond each
    assert driver.cuEventElapsedTime(start, untimed) == (driver.CUresult.CUDA_ERROR_INVALID_HANDLE, None)
    assert driver.cuEventDestroy(end) == (0,)
    assert driver.cuEventDestroy(end) == (driver.CUresult.CUDA_ERROR_INVALID_HANDLE,)
    assert driver.cuStreamDestroy(stream) == (0,)
    assert driver.cuStreamSynchronize(stream) == (driver.CUresult.CUDA_ERROR_INVALID_HANDLE,)


def test_errors_have_names_and_words_as_bytes(driver: Any) -> None:
    status = driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY
    assert driver.cuGetErrorName(status) == (0, b"CUDA_ERROR_OUT_OF_MEMORY")
    assert driver.cuGetErrorString(status) == (0, b"out of memory")
    assert driver.cuGetErrorString(driver.CUresult.CUDA_ERROR_INVALID_PC) == (0, b"invalid pc")


@pytest.mark.covers("T0-02")
def test_after_a_sticky_error_every_call_that_needs_the_device_fails_with_it(
    device: SimulatedDevice, major: int
) -> None:
    device.faults.add(Fault("cuStreamSynchronize", "CUDA_ERROR_ILLEGAL_ADDRESS"))
    driver: Any = make_driver(device, major)
    driver.cuInit(0)
    driver.cuCtxSetCurrent(driver.cuDevicePrimaryCtxRetain(0)[1])
    _, stream = driver.cuStreamCreate(1)
    _, block = driver.cuMemAlloc(8)
    lost = driver.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    assert driver.cuStreamSynchronize(stream) == (lost,)
    assert driver.cuMemFree(block) == (lost,)
    assert driver.cuStreamDestroy(stream) == (lost,)
    assert driver.cuMemAlloc(8) == (lost, None)
    assert driver.cuDriverGetVersion()[0] == 0
    assert driver.cuDevicePrimaryCtxRelease(0) == (0,)
    assert device.leaks() == []
    device.check()


def test_a_planned_error_that_is_no_status_is_a_mistake_in_the_plan(device: SimulatedDevice, major: int) -> None:
    device.faults.add(Fault("cuInit", "CUDA_ERROR_TYPO"))
    with pytest.raises(SimulationError, match="'CUDA_ERROR_TYPO', which is no CUresult"):
        make_driver(device, major).cuInit(0)
