"""What the driver does, said once, and asked of the simulated device everywhere and of a real one where there is one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.fakes.cuda_driver import make_driver
from harness.fakes.device import SimulatedDevice
from runtime.cuda import CudaDriver, CudaError
from runtime.errors import RuntimeNotAvailableError

ROOT = Path(__file__).resolve().parents[2]
SIZE = 1 << 16


def open_real() -> CudaDriver:
    pytest.importorskip("cuda.bindings", reason="cuda-bindings: not installed")
    try:
        return CudaDriver()
    except RuntimeNotAvailableError:
        pytest.skip("no CUDA device")


def open_simulated() -> CudaDriver:
    device = SimulatedDevice()
    return CudaDriver(load=lambda: make_driver(device, 12))


@pytest.fixture(params=[open_simulated, open_real], ids=["simulated", "real"])
def cuda(request: pytest.FixtureRequest) -> Iterator[CudaDriver]:
    """Open, its context current here."""
    opened: CudaDriver = request.param()
    opened.make_current()
    yield opened
    opened.close()


def failing(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(CudaError) as caught:
        call()
    return caught.value.call, caught.value.name


@pytest.mark.covers("TT-07")
def test_values_travel_in_and_out_in_the_order_of_a_stream(cuda: CudaDriver) -> None:
    stream, block = cuda.create_stream(), cuda.allocate(SIZE)
    given, got = cuda.allocate_host(SIZE), cuda.allocate_host(SIZE)
    for seed in (1, 2):
        given.array[:] = np.random.default_rng(seed).integers(0, 256, SIZE, dtype=np.uint8)
        cuda.copy_in(block, given.address, SIZE, stream)
        cuda.copy_out(got.address, block, SIZE, stream)
        cuda.synchronize(stream)
        assert np.array_equal(got.array, given.array)
    cuda.free(block)
    cuda.free_host(given)
    cuda.free_host(got)
    cuda.destroy_stream(stream)


@pytest.mark.covers("TT-07")
def test_an_event_orders_two_streams_and_two_of_them_measure_time(cuda: CudaDriver) -> None:
    first, second = cuda.create_stream(), cuda.create_stream()
    block, given, got = cuda.allocate(SIZE), cuda.allocate_host(SIZE), cuda.allocate_host(SIZE)
    start, end = cuda.create_event(timing=True), cuda.create_event(timing=True)
    given.array[:] = 7
    cuda.record_event(start, first)
    cuda.copy_in(block, given.address, SIZE, first)
    cuda.record_event(end, first)
    cuda.wait_event(second, end)
    cuda.copy_out(got.address, block, SIZE, second)
    cuda.synchronize(second)
    assert (got.array == 7).all()
    cuda.synchronize_event(end)
    assert cuda.elapsed_ms(start, end) > 0
    for event in (start, end):
        cuda.destroy_event(event)
    for stream in (first, second):
        cuda.destroy_stream(stream)
    cuda.free(block)
    for memory in (given, got):
        cuda.free_host(memory)


def test_an_allocation_that_does_not_fit_is_refused_and_the_next_one_works(cuda: CudaDriver) -> None:
    assert failing(lambda: cuda.allocate(2 * cuda.facts().total_bytes)) == ("cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY")
    cuda.free(cuda.allocate(SIZE))


def test_memory_that_is_allocated_is_missing_from_what_is_free(cuda: CudaDriver) -> None:
    before = cuda.memory_info()
    block = cuda.allocate(256 << 20)
    after = cuda.memory_info()
    cuda.free(block)
    assert after.total_bytes == before.total_bytes > 0
    assert before.free_bytes - after.free_bytes >= 128 << 20  # others use the device too


def test_misuse_of_memory_is_an_invalid_value(cuda: CudaDriver) -> None:
    block, memory = cuda.allocate(SIZE), cuda.allocate_host(SIZE)
    cuda.free(block)
    cuda.free_host(memory)
    assert failing(lambda: cuda.allocate(0)) == ("cuMemAlloc", "CUDA_ERROR_INVALID_VALUE")
    assert failing(lambda: cuda.free(block)) == ("cuMemFree", "CUDA_ERROR_INVALID_VALUE")
    assert failing(lambda: cuda.free_host(memory)) == ("cuMemFreeHost", "CUDA_ERROR_INVALID_VALUE")


def test_an_event_without_timing_or_without_a_recording_measures_nothing(cuda: CudaDriver) -> None:
    stream = cuda.create_stream()
    timed, untimed, unrecorded = cuda.create_event(timing=True), cuda.create_event(), cuda.create_event(timing=True)
    cuda.record_event(timed, stream)
    cuda.record_event(untimed, stream)
    cuda.synchronize(stream)
    for other in (untimed, unrecorded):
        assert failing(lambda e=other: cuda.elapsed_ms(timed, e)) == ("cuEventElapsedTime", "CUDA_ERROR_INVALID_HANDLE")  # type: ignore[misc]
    for event in (timed, untimed, unrecorded):
        cuda.destroy_event(event)
    cuda.destroy_stream(stream)


@pytest.mark.covers("TT-07")
def test_a_new_thread_has_no_context_until_it_is_made_current(cuda: CudaDriver) -> None:
    told: list[tuple[str, str]] = []

    def life() -> None:
        told.append(failing(lambda: cuda.allocate(SIZE)))
        cuda.make_current()
        cuda.free(cuda.allocate(SIZE))
        told.append(("made current", ""))

    thread = threading.Thread(target=life)
    thread.start()
    thread.join()
    assert told == [("cuMemAlloc", "CUDA_ERROR_INVALID_CONTEXT"), ("made current", "")]


STICKY = """
import json
from runtime.cuda import CudaDriver, CudaError, load_driver
cuda, driver = CudaDriver(), load_driver()
cuda.make_current()
stream, block = cuda.create_stream(), cuda.allocate(64)
wild = b'''.version 7.0
.target sm_80
.address_size 64
.visible .entry wild()
{
    .reg .b64 %rd<2>;
    .reg .b32 %r<2>;
    mov.u64 %rd1, 16;
    mov.u32 %r1, 1;
    st.global.u32 [%rd1], %r1;
    ret;
}
'''
status, module = driver.cuModuleLoadData(wild + bytes(1))
assert not status, status
status, kernel = driver.cuModuleGetFunction(module, b"wild")
assert not status, status
(status,) = driver.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, 0, 0)
assert not status, status
found = []
for call in (lambda: cuda.synchronize(stream), lambda: cuda.allocate(64), lambda: cuda.synchronize(stream)):
    try:
        call()
        found.append(None)
    except CudaError as error:
        found.append([error.call, error.name, error.is_sticky])
print("FOUND", json.dumps(found))
"""
LOST = [
    [call, "CUDA_ERROR_ILLEGAL_ADDRESS", True] for call in ("cuStreamSynchronize", "cuMemAlloc", "cuStreamSynchronize")
]


def test_a_kernel_that_writes_where_it_must_not_loses_the_simulated_device() -> None:
    device = SimulatedDevice()
    cuda = CudaDriver(load=lambda: make_driver(device, 12))
    cuda.make_current()
    stream, found = cuda.create_stream(), list[list[object]]()
    device.enqueue(stream, "wild", lambda: device.write(16, b"\1\0\0\0"))
    for call in (lambda: cuda.synchronize(stream), lambda: cuda.allocate(64), lambda: cuda.synchronize(stream)):
        with pytest.raises(CudaError) as caught:
            call()
        found.append([caught.value.call, caught.value.name, caught.value.is_sticky])
    assert found == LOST


def test_a_kernel_that_writes_where_it_must_not_loses_a_real_device() -> None:
    open_real().close()
    done = subprocess.run([sys.executable, "-c", STICKY], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1].removeprefix("FOUND ")) == LOST
