"""The ledger of device memory: what counts, what is refused, what is given back."""

from __future__ import annotations

import threading

import pytest

from harness.fakes.device import SimulatedDevice
from harness.fakes.faults import Fault
from harness.fakes.install import installed
from runtime.cuda import CudaDriver, CudaError
from runtime.errors import OutOfMemoryError
from runtime.strategies.trt_memory import Budget


@pytest.mark.covers("TT-06", "RT-09")
def test_ledgers_share_one_budget_and_what_is_freed_may_be_allocated_again() -> None:
    device = SimulatedDevice()
    with installed(device):
        cuda = CudaDriver()
        budget = Budget(1000)
        first, second = budget.open(cuda), budget.open(cuda)
        address = first.allocate(600)
        second.allocate(400, for_library=True)
        assert (budget.resident_bytes, budget.left_bytes, device.live_bytes) == (1000, 0, 1000)
        with pytest.raises(
            OutOfMemoryError, match="TensorRT asked for 1 bytes of device memory, and 0 of 1000 are left"
        ):
            second.allocate(1, for_library=True)
        assert isinstance(second.refusal, OutOfMemoryError)
        assert (second.library_calls, second.late_calls) == (2, 0)
        first.free(address)
        second.seal()
        second.allocate(600, for_library=True)
        assert second.late_calls == 1
        second.free_rest()
        assert budget.resident_bytes == device.live_bytes == 0
        cuda.close()
    device.check()


@pytest.mark.covers("RT-10")
def test_what_is_left_is_freed_to_the_last_whatever_fails_on_the_way() -> None:
    device = SimulatedDevice()
    with installed(device):
        cuda = CudaDriver()
        ledger = Budget(1 << 20).open(cuda)
        for size in (100, 200, 300):
            ledger.allocate(size)
        device.faults.add(Fault("cuMemFree", "CUDA_ERROR_INVALID_VALUE", after_calls=1))
        with pytest.raises(CudaError, match="cuMemFree"):
            ledger.free_rest()
        assert (ledger.live_bytes, device.live_bytes) == (0, 200)
        ledger.allocate(100)
        ledger.abandon()
        number = len(device.calls)
        ledger.free(1)
        ledger.wait_for(0)
        assert ledger.live_bytes == 0
        assert device.calls[number:] == []


@pytest.mark.covers("TT-06")
def test_threads_never_allocate_more_than_the_budget_together() -> None:
    device = SimulatedDevice()
    with installed(device):
        cuda = CudaDriver()
        budget = Budget(10_000)

        def take() -> None:
            ledger = budget.open(cuda)
            ledgers.append(ledger)
            for _ in range(100):
                try:
                    ledger.allocate(70)
                except OutOfMemoryError:
                    refused.append(1)

        ledgers: list[object] = []
        refused: list[int] = []
        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert device.peak_bytes == budget.resident_bytes == 10_000 // 70 * 70
        assert len(refused) == 400 - 10_000 // 70


@pytest.mark.covers("RT-10")
def test_a_ledger_that_is_gone_counts_no_more() -> None:
    device = SimulatedDevice()
    with installed(device):
        budget = Budget(1000)
        ledger = budget.open(CudaDriver())
        ledger.allocate(600)
        del ledger
        assert budget.resident_bytes == 0
