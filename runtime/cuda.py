"""The one door of CUDA: a small protocol, and its form on ``cuda.bindings.driver``, majors 12 and 13.

Device addresses, streams and events are plain integers. Sizes are bytes. Every failure is a :class:`CudaError`, which
stays inside a strategy: the strategy translates it, once, at its own boundary.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.errors import RuntimeNotAvailableError

__all__ = ["STICKY", "Cuda", "CudaDriver", "CudaError", "DeviceFacts", "HostMemory", "MemoryInfo", "load_driver"]

STICKY = frozenset(
    f"CUDA_ERROR_{name}"
    for name in (
        *("DEINITIALIZED", "ECC_UNCORRECTABLE", "NVLINK_UNCORRECTABLE", "CONTAINED", "ILLEGAL_ADDRESS"),
        *("LAUNCH_TIMEOUT", "CONTEXT_IS_DESTROYED", "ASSERT", "HARDWARE_STACK_ERROR", "ILLEGAL_INSTRUCTION"),
        *("MISALIGNED_ADDRESS", "INVALID_ADDRESS_SPACE", "INVALID_PC", "LAUNCH_FAILED", "TENSOR_MEMORY_LEAK"),
        *("MPS_CLIENT_TERMINATED", "EXTERNAL_DEVICE"),
    )
)
"""After one of these every later call fails too, until the process is started again. Most are those of which CUDA says
so in these words; the others leave the context, the device or the driver gone, and the primary context is the only one
that is used here."""


class CudaError(Exception):
    """A call of the driver failed. Never leaves a runtime.

    ``call``: the driver's function. ``code`` and ``name``: its ``CUresult``. ``text``: CUDA's words for it, or what was
    raised in its place. ``is_sticky``: the process has lost the device. ``is_out_of_memory``: nothing was allocated.
    """

    def __init__(self, call: str, code: int, name: str, text: str) -> None:
        super().__init__(f"{call} failed: {name} ({code}){': ' if text else ''}{text}")
        self.call = call
        self.code = code
        self.name = name
        self.text = text
        self.is_sticky = name in STICKY
        self.is_out_of_memory = name == "CUDA_ERROR_OUT_OF_MEMORY"


@dataclass(frozen=True)
class DeviceFacts:
    """``sm``: the compute capability without its point, as in ``87``. ``driver_version``: as in 12060 for CUDA 12.6."""

    name: str
    sm: str
    is_integrated: bool
    total_bytes: int
    driver_version: int


@dataclass(frozen=True)
class MemoryInfo:
    """What the driver says, and beside it what the system could give.

    On an integrated GPU the driver's ``free_bytes`` follows the kernel's MemFree: merely reading a large file lowers
    it. There ``available_bytes`` (the kernel's MemAvailable) is the figure to judge by; None elsewhere and when it
    cannot be read.
    """

    free_bytes: int
    total_bytes: int
    available_bytes: int | None = None


@dataclass(frozen=True, eq=False)
class HostMemory:
    """Page-locked memory. ``array`` is a view (uint8, ``size_bytes`` long) that must not be used once it is freed."""

    address: int
    size_bytes: int
    array: NDArray[np.uint8] = field(repr=False)


class Cuda(Protocol):
    """What the runtimes ask of CUDA. Every method raises ``CudaError``.

    All but ``make_current``, ``facts`` and ``close`` need the primary context current on the calling thread: a strategy
    calls ``make_current`` first in each of its operations.
    """

    def make_current(self) -> None:
        """Make the primary context current on the calling thread, whatever was current before."""

    def facts(self) -> DeviceFacts:
        """What the device is; asked once, when the driver was opened."""

    def memory_info(self) -> MemoryInfo:
        """Free and total memory now."""

    def allocate(self, size_bytes: int) -> int:
        """The address of new device memory, whose content is undefined."""

    def free(self, address: int) -> None:
        """Give device memory back; no work that uses it may be pending."""

    def allocate_host(self, size_bytes: int) -> HostMemory:
        """New page-locked memory, whose content is undefined."""

    def free_host(self, memory: HostMemory) -> None:
        """Give page-locked memory back; no work that uses it may be pending."""

    def create_stream(self) -> int:
        """A stream that does not wait for the default stream, nor it for this one."""

    def destroy_stream(self, stream: int) -> None:
        """Give a stream back."""

    def synchronize(self, stream: int) -> None:
        """Return once all work of the stream is done; raises what went wrong in it."""

    def synchronize_context(self) -> None:
        """Return once all work of the primary context is done, whoever asked for it."""

    def create_event(self, *, timing: bool = False) -> int:
        """An event; only one made with ``timing`` serves ``elapsed_ms``."""

    def destroy_event(self, event: int) -> None:
        """Give an event back."""

    def record_event(self, event: int, stream: int) -> None:
        """The event is complete once all work that the stream has now is done."""

    def wait_event(self, stream: int, event: int) -> None:
        """Later work of the stream waits for the event as it was last recorded; returns at once."""

    def synchronize_event(self, event: int) -> None:
        """Return once the event, as last recorded, is complete."""

    def elapsed_ms(self, start: int, end: int) -> float:
        """The time between two complete events."""

    def copy_in(self, device: int, host: int, size_bytes: int, stream: int) -> None:
        """Enqueue a copy from page-locked memory to the device; the host memory must not change until it is done."""

    def copy_out(self, host: int, device: int, size_bytes: int, stream: int) -> None:
        """Enqueue a copy from the device to page-locked memory, which holds the values once it is done."""

    def close(self) -> None:
        """Let the primary context go, once; a second call does nothing."""


def load_driver() -> ModuleType:
    """NVIDIA's bindings of the driver API. Raises ``RuntimeNotAvailableError`` where they cannot be imported."""
    try:
        from cuda.bindings import driver
    except Exception as error:  # a broken installation raises more than ImportError
        raise RuntimeNotAvailableError(
            f"NVIDIA's CUDA bindings (cuda.bindings.driver) cannot be imported: {type(error).__name__}: {error}.",
            remedy="Install them with: pip install 'cuda-bindings>=12.6,<14', of the same major version as the driver.",
        ) from error
    return driver  # type: ignore[no-any-return]  # the library is not typed


class CudaDriver:
    """The device ``ordinal`` through its primary context, the one that torch, ONNX Runtime and TensorRT use too.

    Opening it initialises the driver and takes the primary context, which is the last step, so that a failure leaves
    nothing behind. May be used from several threads. ``load``: gives the bindings. ``root``: where ``proc`` is.
    Raises ``RuntimeNotAvailableError`` where there are no bindings, no driver or no device, and ``CudaError``.
    """

    def __init__(
        self, ordinal: int = 0, *, load: Callable[[], ModuleType] = load_driver, root: Path = Path("/")
    ) -> None:
        driver = load()
        version = _open(driver)
        device = _first_call(driver, "cuDeviceGet", ordinal)[1]
        self._facts = _read_facts(driver, device, version)
        self._meminfo = root / "proc" / "meminfo"
        self._device = device
        self._pinned = int(driver.CU_MEMHOSTALLOC_PORTABLE)
        self._unordered = int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
        self._untimed = int(driver.CUevent_flags.CU_EVENT_DISABLE_TIMING)
        self._set_current = _checked(driver, "cuCtxSetCurrent")
        self._memory_info = _checked(driver, "cuMemGetInfo")
        self._allocate = _checked(driver, "cuMemAlloc")
        self._free = _checked(driver, "cuMemFree")
        self._allocate_host = _checked(driver, "cuMemHostAlloc")
        self._free_host = _checked(driver, "cuMemFreeHost")
        self._create_stream = _checked(driver, "cuStreamCreate")
        self._destroy_stream = _checked(driver, "cuStreamDestroy")
        self._synchronize = _checked(driver, "cuStreamSynchronize")
        self._synchronize_context = _checked(driver, "cuCtxSynchronize")
        self._wait_event = _checked(driver, "cuStreamWaitEvent")
        self._create_event = _checked(driver, "cuEventCreate")
        self._destroy_event = _checked(driver, "cuEventDestroy")
        self._record_event = _checked(driver, "cuEventRecord")
        self._synchronize_event = _checked(driver, "cuEventSynchronize")
        self._elapsed = _checked(driver, "cuEventElapsedTime")
        self._copy_in = _checked(driver, "cuMemcpyHtoDAsync")
        self._copy_out = _checked(driver, "cuMemcpyDtoHAsync")
        self._release = _checked(driver, "cuDevicePrimaryCtxRelease")
        self._is_open = True
        self._context = _checked(driver, "cuDevicePrimaryCtxRetain")(device)[1]

    def make_current(self) -> None:
        # Set each time, and not remembered per thread: another library may have left a context of its own on this
        # thread, and then every call here would quietly go to it. Setting costs one call of the driver, as asking does.
        self._set_current(self._context)

    def facts(self) -> DeviceFacts:
        return self._facts

    def memory_info(self) -> MemoryInfo:
        _, free, total = self._memory_info()
        available = _available_bytes(self._meminfo) if self._facts.is_integrated else None
        return MemoryInfo(free_bytes=int(free), total_bytes=int(total), available_bytes=available)

    def allocate(self, size_bytes: int) -> int:
        return int(self._allocate(size_bytes)[1])

    def free(self, address: int) -> None:
        self._free(address)

    def allocate_host(self, size_bytes: int) -> HostMemory:
        address = int(self._allocate_host(size_bytes, self._pinned)[1])
        array = np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(address))
        return HostMemory(address=address, size_bytes=size_bytes, array=array)

    def free_host(self, memory: HostMemory) -> None:
        self._free_host(memory.address)

    def create_stream(self) -> int:
        return int(self._create_stream(self._unordered)[1])

    def destroy_stream(self, stream: int) -> None:
        self._destroy_stream(stream)

    def synchronize(self, stream: int) -> None:
        self._synchronize(stream)

    def synchronize_context(self) -> None:
        self._synchronize_context()

    def create_event(self, *, timing: bool = False) -> int:
        return int(self._create_event(0 if timing else self._untimed)[1])

    def destroy_event(self, event: int) -> None:
        self._destroy_event(event)

    def record_event(self, event: int, stream: int) -> None:
        self._record_event(event, stream)

    def wait_event(self, stream: int, event: int) -> None:
        self._wait_event(stream, event, 0)

    def synchronize_event(self, event: int) -> None:
        self._synchronize_event(event)

    def elapsed_ms(self, start: int, end: int) -> float:
        return float(self._elapsed(start, end)[1])

    def copy_in(self, device: int, host: int, size_bytes: int, stream: int) -> None:
        self._copy_in(device, host, size_bytes, stream)

    def copy_out(self, host: int, device: int, size_bytes: int, stream: int) -> None:
        self._copy_out(host, device, size_bytes, stream)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._release(self._device)


def _checked(driver: ModuleType, call: str) -> Callable[..., tuple[Any, ...]]:
    """The driver's function ``call``, which raises ``CudaError`` unless the status that comes first is success."""
    function: Callable[..., tuple[Any, ...]] = getattr(driver, call)

    def checked(*arguments: int) -> tuple[Any, ...]:
        try:
            result = function(*arguments)
        except (RuntimeError, ValueError, KeyError) as error:  # not in this driver, or a status newer than the bindings
            raise CudaError(call, -1, "UNKNOWN", f"{type(error).__name__}: {error}") from error
        if result[0]:  # CUDA_SUCCESS is 0
            raise _error(driver, call, result[0])
        return result

    return checked


def _error(driver: ModuleType, call: str, status: Any) -> CudaError:
    try:
        told = driver.cuGetErrorString(status)[1]
        text = told.decode("utf-8", "replace") if isinstance(told, bytes) else ""
    except Exception:  # it is the first failure that counts
        text = ""
    return CudaError(call, int(status), getattr(status, "name", "UNKNOWN"), text)


def _open(driver: ModuleType) -> int:
    """Initialise the driver; its version."""
    _first_call(driver, "cuInit", 0)
    version = int(_first_call(driver, "cuDriverGetVersion")[1])
    made_for = int(driver.CUDA_VERSION)
    if version // 1000 < made_for // 1000:
        raise RuntimeNotAvailableError(
            f"the CUDA bindings are of major version {made_for // 1000} and the driver of this host is {_dotted(version)}.",
            remedy=f"Install those of its major version: pip install 'cuda-bindings=={version // 1000}.*'.",
        )
    return version


def _first_call(driver: ModuleType, call: str, *arguments: int) -> tuple[Any, ...]:
    """One of the calls that fail where there is no driver or no device."""
    try:
        return _checked(driver, call)(*arguments)
    except CudaError as error:
        if error.is_sticky or error.is_out_of_memory:
            raise
        raise RuntimeNotAvailableError(
            f"no CUDA device can be used here: {error}.",
            remedy="Install NVIDIA's driver and see that the device is visible (in a container: --gpus all, or "
            "--runtime nvidia on a Jetson).",
        ) from error


def _read_facts(driver: ModuleType, device: Any, version: int) -> DeviceFacts:
    attribute = _checked(driver, "cuDeviceGetAttribute")
    kinds = driver.CUdevice_attribute
    major = int(attribute(kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device)[1])
    minor = int(attribute(kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device)[1])
    name = bytes(_checked(driver, "cuDeviceGetName")(256, device)[1])
    return DeviceFacts(
        name=name.partition(b"\0")[0].decode("utf-8", "replace"),
        sm=f"{major}{minor}",
        is_integrated=bool(attribute(kinds.CU_DEVICE_ATTRIBUTE_INTEGRATED, device)[1]),
        total_bytes=int(_checked(driver, "cuDeviceTotalMem")(device)[1]),
        driver_version=version,
    )


def _available_bytes(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, IndexError, ValueError):
        return None


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
