"""Device memory under one budget: who holds how much, and who asks for more."""

from __future__ import annotations

import threading
from contextlib import suppress
from weakref import WeakSet

from runtime.cuda import Cuda, CudaError
from runtime.errors import OutOfMemoryError

__all__ = ["Budget", "DeviceLedger"]

# Every lock here may be entered again by its own thread: an engine that its user dropped is freed by the garbage
# collector, which can run in the middle of any call. For the same reason no sum is kept, each is taken when asked for.


class Budget:
    """What all engines of a runtime may hold together."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.lock = threading.RLock()
        self._ledgers: WeakSet[DeviceLedger] = WeakSet()

    def open(self, cuda: Cuda) -> DeviceLedger:
        """A ledger for one more engine; it counts until everything in it was freed."""
        ledger = DeviceLedger(cuda, self)
        with self.lock:
            self._ledgers.add(ledger)
        return ledger

    @property
    def resident_bytes(self) -> int:
        """What all engines hold now."""
        with self.lock:
            return sum(ledger.live_bytes for ledger in list(self._ledgers))

    @property
    def left_bytes(self) -> int:
        """What may still be allocated; less than nothing is nothing."""
        return max(0, self.limit_bytes - self.resident_bytes)


class DeviceLedger:
    """The device memory of one engine, TensorRT's part and ours: every address, under the runtime's budget.

    ``refusal``: the last failure to allocate, which TensorRT turns into a plain ``None``. ``library_calls``: how often
    TensorRT asked; ``late_calls``: how often since ``seal``. Any thread may call; CUDA is made current first.
    """

    def __init__(self, cuda: Cuda, budget: Budget) -> None:
        self._cuda = cuda
        self.budget = budget
        self._sizes: dict[int, int] = {}
        self._is_sealed = False
        self._is_abandoned = False
        self.refusal: OutOfMemoryError | CudaError | None = None
        self.library_calls = 0
        self.late_calls = 0

    @property
    def live_bytes(self) -> int:
        return sum(list(self._sizes.values()))

    def allocate(self, size_bytes: int, *, for_library: bool = False) -> int:
        """The address of new memory. Raises ``OutOfMemoryError`` over the budget, else what CUDA raises."""
        if for_library:
            self.library_calls += 1
            self.late_calls += self._is_sealed
        try:
            with self.budget.lock:
                left = self.budget.left_bytes
                if size_bytes > left:
                    raise OutOfMemoryError(
                        f"{'TensorRT' if for_library else 'the engine'} asked for {size_bytes} bytes of device memory, "
                        f"and {left} of {self.budget.limit_bytes} are left in gpu_memory_budget_bytes."
                    )
                self._cuda.make_current()
                address = self._cuda.allocate(size_bytes)
                self._sizes[address] = size_bytes
                return address
        except (OutOfMemoryError, CudaError) as error:
            self.refusal = error
            raise

    def free(self, address: int) -> None:
        """Give back one allocation. Raises ``CudaError``; the memory does not count any more in any case."""
        self._sizes.pop(address, None)
        if self._is_abandoned:
            return
        try:
            self._cuda.make_current()
        except CudaError:
            with suppress(CudaError):  # it may be current all the same
                self._cuda.free(address)
            raise
        self._cuda.free(address)

    def wait_for(self, stream: int) -> None:
        """Return once the work of ``stream`` is done, which may still use what is about to be freed."""
        if not self._is_abandoned:
            self._cuda.make_current()
            self._cuda.synchronize(stream)

    def free_rest(self) -> None:
        """Free whatever is left, once nobody can use it; raises the first failure, after all were tried."""
        failure = None
        for address in list(self._sizes):
            try:
                self.free(address)
            except CudaError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def abandon(self) -> None:
        """Count nothing any more, and touch the device no more: it is lost, and its memory with it."""
        self._is_abandoned = True
        self._sizes.clear()

    def seal(self) -> None:
        """From now on TensorRT is expected to ask for nothing."""
        self._is_sealed = True
