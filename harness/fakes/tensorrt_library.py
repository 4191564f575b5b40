"""What every class of the fake TensorRT stands on: its library, its voice, its memory and CUDA's words."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from harness.fakes.device import DeviceError, SimulatedDevice
from harness.fakes.tensorrt_plan import Flavour

__all__ = ["DTYPES", "GpuMemory", "Library", "Voice", "called", "cuda_words", "tell"]

DTYPES = {1: "FLOAT", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF", 16: "BF16", 17: "FP8"}
"""ONNX's element types that TensorRT has, as the names of its ``DataType``."""

_CUDA_WORDS = {
    "CUDA_ERROR_INVALID_VALUE": (1, "invalid argument"),
    "CUDA_ERROR_OUT_OF_MEMORY": (2, "out of memory"),
    "CUDA_ERROR_NO_DEVICE": (100, "no CUDA-capable device is detected"),
    "CUDA_ERROR_INVALID_CONTEXT": (201, "invalid device context"),
    "CUDA_ERROR_ECC_UNCORRECTABLE": (214, "uncorrectable ECC error encountered"),
    "CUDA_ERROR_INVALID_HANDLE": (400, "invalid resource handle"),
    "CUDA_ERROR_ILLEGAL_ADDRESS": (700, "an illegal memory access was encountered"),
    "CUDA_ERROR_LAUNCH_TIMEOUT": (702, "the launch timed out and was terminated"),
    "CUDA_ERROR_CONTEXT_IS_DESTROYED": (709, "context is destroyed"),
    "CUDA_ERROR_ILLEGAL_INSTRUCTION": (715, "an illegal instruction was encountered"),
    "CUDA_ERROR_MISALIGNED_ADDRESS": (716, "misaligned address"),
    "CUDA_ERROR_LAUNCH_FAILED": (719, "unspecified launch failure"),
}


@dataclass(eq=False)
class Voice:
    """Where an object says what goes wrong: its recorder if it has one, else its logger. Children start with a copy."""

    logger: Any
    recorder: Any = None

    def child(self) -> Voice:
        return Voice(self.logger, self.recorder)


@dataclass(eq=False)
class Library:
    """What the classes of one module share."""

    module: ModuleType
    device: SimulatedDevice
    flavour: Flavour
    _first_logger: weakref.ref[Any] | None = field(default=None, repr=False)
    _roots: weakref.WeakSet[Any] = field(default_factory=weakref.WeakSet, repr=False)

    def enum(self, kind: str, name: str) -> Any:
        """A member of one of the module's enums."""
        return getattr(getattr(self.module, kind), name)

    def make(self, kind: str, state: Any) -> Any:
        """An object of a class that users cannot construct."""
        made = object.__new__(getattr(self.module, kind))
        made._is_made, made._state = True, state
        return made

    def host_memory(self, data: bytes) -> Any:
        """An ``IHostMemory``."""
        return bytes.__new__(self.module.IHostMemory, data)

    def dims(self, shape: tuple[int, ...]) -> Any:
        """A ``Dims``."""
        return self.module.Dims(shape)

    def say(self, logger: Any, severity: str, text: str) -> None:
        """One line to a logger, whose exceptions end here."""
        try:
            logger.log(getattr(self.module.ILogger, severity), text)
        except Exception as error:  # a virtual method called from C++ cannot raise
            tell(f"[ERROR] Exception caught in log(): {type(error).__name__}: {error}")

    def fail(self, voice: Voice, code: str, text: str) -> None:
        """One error. A recorder takes it from the logger, as measured with TensorRT-RTX 1.7."""
        if voice.recorder is None:
            self.say(voice.logger, "ERROR", text)
            return
        try:
            voice.recorder.report_error(self.enum("ErrorCodeTRT", code), text)
        except Exception as error:
            tell(f"[ERROR] Exception caught in report_error(): {type(error).__name__}: {error}")

    def entered(self, api: str, voice: Voice, interface: str, *, needs_device: bool = True) -> bool:
        """Write a call down; False when it has to fail, which then has been said. ``interface``: ``IRuntime::create…``."""
        error = self.device.enter(f"tensorrt.{api}", needs_device=needs_device)
        if error is None:
            return True
        if error in self.module.ErrorCodeTRT.__members__:
            number = int(self.enum("ErrorCodeTRT", error))
            words = "OutOfMemory (injected)" if error == "FAILED_ALLOCATION" else f"{error} (injected)"
            self.fail(voice, error, f"{interface}: Error Code {number}: {words}")
        else:
            self.cuda_failed(voice, interface, error)
        return False

    def cuda_failed(self, voice: Voice, interface: str, name: str) -> None:
        """A call of CUDA inside the library has failed."""
        number, words = cuda_words(name)
        self.fail(
            voice,
            "UNSPECIFIED_ERROR",
            f"{interface}: Error Code 1: Cuda Runtime (In cuda call (cudaError {number}: {words}))",
        )

    def register(self, root: Any, logger: Any, maker: str) -> None:
        """A builder or a runtime. A second logger is told that it is not the one that global messages go to."""
        first = self._first_logger() if self._first_logger is not None and self._roots else None
        self._roots.add(root)
        if first is None:
            self._first_logger = weakref.ref(logger)
        elif first is not logger:
            is_told_as_warning = self.flavour.is_rtx or self.flavour.version >= (10, 16)
            self.say(
                logger,
                "WARNING" if is_told_as_warning else "INFO",
                f"The logger passed into {maker} differs from one already registered for an existing builder, runtime, or "
                "refitter. So the current new logger is ignored, and TensorRT will use the existing one which is returned "
                "by nvinfer1::getLogger() instead."
                if is_told_as_warning
                else f"The logger passed into {maker} differs from one already provided for an existing builder, runtime, or "
                "refitter. Uses of the global logger, returned by nvinfer1::getLogger(), will return the existing value.",
            )


def cuda_words(name: str) -> tuple[int, str]:
    """The number and the text of CUDA's runtime for the name of a ``CUresult``."""
    return _CUDA_WORDS.get(name, (999, f"unknown error {name}"))


class GpuMemory:
    """The device memory of one engine or context: of the user's allocator if there is one, else of the device."""

    def __init__(self, library: Library, allocator: Any) -> None:
        self._library = library
        self._allocator = allocator

    def allocate(self, size_bytes: int, voice: Voice, label: str, where: str) -> int | None:
        """An address, 0 for no bytes, or None when there are none to have, which then has been said."""
        device = self._library.device
        if self._allocator is not None:
            address = self._asked(size_bytes)
            if size_bytes == 0:
                if address:
                    device.violations.append("an allocator gave memory for a request of 0 bytes, which must give None")
                return 0
        elif size_bytes == 0:
            return 0
        else:
            try:
                address = device.allocate(size_bytes, label=label)
            except DeviceError as error:
                self._library.cuda_failed(voice, "[defaultAllocator.cpp::allocate::31]", error.name)
                address = None
        if address is None:
            self._library.say(
                voice.logger,
                "WARNING",
                f"Requested amount of GPU memory ({size_bytes} bytes) could not be allocated. There may not be enough free "
                "memory for allocation to succeed.",
            )
            text = f"{where} Error Code 2: OutOfMemory (Requested size was {size_bytes} bytes.)"
            self._library.fail(voice, "FAILED_ALLOCATION", text)
        elif address % 256:
            device.violations.append(f"an allocator gave {address:#x}, which is not aligned to 256 bytes")
        return address

    def free(self, address: int) -> None:
        """Give it back; 0 is told to an allocator too."""
        if self._allocator is not None:
            called(self._allocator.deallocate_async, address, 0)
        elif address:
            try:
                self._library.device.free(address)
            except DeviceError:
                return  # written down by the device

    def _asked(self, size_bytes: int) -> int | None:
        address = called(self._allocator.allocate_async, size_bytes, 256, 0, 0)
        return int(address) if address else None


def called(method: Callable[..., Any], *arguments: Any) -> Any:
    """A virtual method of the user's, whose exceptions C++ does not see."""
    try:
        return method(*arguments)
    except Exception as error:
        tell(f"[ERROR] Exception caught in {method.__name__}(): {type(error).__name__}: {error}")
        return None


def tell(text: str) -> None:
    """To standard error, as the library does where no logger may be asked."""
    sys.stderr.write(text + "\n")
