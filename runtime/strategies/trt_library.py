"""The door of TensorRT: what is imported, what it can do, and the objects of ours that it calls back.

TensorRT, or TensorRT-RTX where TensorRT is not installed. Its import comes after the engine gate, and nowhere else.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, Protocol
from weakref import WeakKeyDictionary

from runtime.errors import RuntimeNotAvailableError
from runtime.libraries import unavailable
from runtime.strategies.trt_causes import cause_of, explain, kind_of

__all__ = [
    "Capabilities",
    "DeviceMemory",
    "Library",
    "Witness",
    "ask_validity",
    "explain",
    "kind_of",
    "load_library",
    "make_allocator",
    "make_logger",
    "make_recorder",
    "read_capabilities",
]

_LABEL = "tensorrt"
_KEPT = 64
_STRONG_TYPING_USABLE = (10, 12)
"""The creation flag is there from 10.0; NVIDIA calls it fully usable from 10.12, where weak typing is deprecated."""


@dataclass(frozen=True)
class Capabilities:
    """What the loaded library can do. Filled once; nothing else in the core compares versions to decide.

    ``has_precision_flags``: ``BuilderFlag.FP16`` and its like. ``has_calibrators``: INT8 calibrator classes.
    ``has_strong_typing``: types may come from the model alone. ``can_build_for_named_gpu``: builds with no GPU, for a
    compute capability that is named. ``has_engine_validity``: says why an engine does not fit, before loading it.
    ``has_engine_statistics``: tells the bytes of the weights. ``has_timing_cache``: one that is of use. ``has_progress``:
    reports and cancels a build.
    """

    product: Literal["tensorrt", "tensorrt_rtx"]
    version: str
    has_precision_flags: bool
    has_calibrators: bool
    has_strong_typing: bool
    can_build_for_named_gpu: bool
    has_engine_validity: bool
    has_engine_statistics: bool
    has_timing_cache: bool
    has_progress: bool

    @property
    def trt(self) -> str:
        """The version as in engine names and manifests: ``10.3.0`` or ``rtx1.7.1.116``."""
        return f"rtx{self.version}" if self.product == "tensorrt_rtx" else self.version


@dataclass(frozen=True)
class Library:
    """The module, and what it can do."""

    module: ModuleType
    capabilities: Capabilities


def load_library() -> Library:
    """Import TensorRT, or TensorRT-RTX where TensorRT is not installed; a TensorRT that is broken is an error.

    Raises ``RuntimeNotAvailableError`` with the import errors in full.
    """
    try:
        module = import_module("tensorrt")
    except Exception as error:  # a broken installation raises more than ImportError
        if not _is_absent(error, "tensorrt"):
            raise _unavailable(error) from error
        try:
            module = import_module("tensorrt_rtx")
        except Exception as second:
            raise _unavailable(error if _is_absent(second, "tensorrt_rtx") else second) from second
    return Library(module, read_capabilities(module))


def read_capabilities(trt: ModuleType) -> Capabilities:
    """What this module can do: by the names that it has, and by its version in the one case where a name misleads."""
    version = str(trt.__version__)
    flags = trt.NetworkDefinitionCreationFlag
    has_precision_flags = hasattr(trt.BuilderFlag, "FP16")
    config = trt.IBuilderConfig
    can_build_for_named_gpu = hasattr(config, "set_compute_capability")
    return Capabilities(
        product="tensorrt_rtx" if trt.__name__.startswith("tensorrt_rtx") else "tensorrt",
        version=version,
        has_precision_flags=has_precision_flags,
        has_calibrators=hasattr(trt, "IInt8EntropyCalibrator2"),
        has_strong_typing=hasattr(flags, "STRONGLY_TYPED")
        and (not has_precision_flags or _numbers(version) >= _STRONG_TYPING_USABLE),
        can_build_for_named_gpu=can_build_for_named_gpu,
        has_engine_validity=hasattr(trt.Runtime, "get_engine_validity"),
        has_engine_statistics=hasattr(trt.ICudaEngine, "get_engine_stat"),
        # TensorRT-RTX has one that does nothing, except to ask for a GPU
        has_timing_cache=hasattr(config, "create_timing_cache") and not can_build_for_named_gpu,
        has_progress=hasattr(trt, "IProgressMonitor"),
    )


class DeviceMemory(Protocol):
    """Where the allocator that TensorRT calls gets its memory. A call that raises is a refusal."""

    def allocate(self, size_bytes: int, *, for_library: bool = False) -> int: ...

    def free(self, address: int) -> None: ...

    def wait_for(self, stream: int) -> None: ...


class _Lines:
    """The last lines, from any thread. A lock that its own thread may enter again: freeing an engine logs too."""

    def __init__(self) -> None:
        self._lines: deque[tuple[str, str]] = deque(maxlen=_KEPT)
        self._lock = threading.RLock()
        self._count = 0

    def add(self, severity: str, text: str) -> None:
        with self._lock:
            self._lines.append((severity, text))
            self._count += 1

    def mark(self) -> int:
        return self._count

    def since(self, mark: int = 0) -> list[tuple[str, str]]:
        with self._lock:
            new = self._count - mark
            return list(self._lines)[-new:] if new > 0 else []


_loggers: WeakKeyDictionary[ModuleType, Any] = WeakKeyDictionary()


def make_logger(trt: ModuleType) -> Any:
    """The logger of this module: an ``ILogger`` that keeps the last warnings and errors in ``lines``.

    ``tap`` may be set to a function that gets every line (severity, text), from any thread: a build listens so.
    There is one per process, which is never let go: TensorRT keeps a pointer to the first that it gets.
    """
    logger = _loggers.get(trt)
    if logger is None:
        logger = _loggers.setdefault(trt, _new_logger(trt))
    return logger


def _new_logger(trt: ModuleType) -> Any:
    limit = int(trt.ILogger.Severity.WARNING)

    class CapturingLogger(trt.ILogger):  # type: ignore[misc, name-defined]  # the library is not typed
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 needs the base's own call
            self.lines = _Lines()
            self.tap: Callable[[str, str], None] | None = None

        def log(self, severity: Any, msg: str) -> None:
            if int(severity) <= limit:
                self.lines.add(severity.name, msg)
            if self.tap is not None:
                self.tap(severity.name, msg)

    return CapturingLogger()


def make_recorder(trt: ModuleType) -> Any:
    """A new ``IErrorRecorder`` that keeps the last errors, and their codes, in ``lines`` (code, text).

    An object that has one sends its errors there and not to the logger, and so do the objects that it makes.
    """

    class ErrorRecorder(trt.IErrorRecorder):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IErrorRecorder.__init__(self)
            self.lines = _Lines()
            self._codes: dict[str, Any] = {}
            self._cleared = 0

        def _now(self) -> list[tuple[str, str]]:
            return self.lines.since(self._cleared)

        def num_errors(self) -> int:
            return len(self._now())

        # the bindings declare num_errors, and look for the override under this name
        get_num_errors = num_errors

        def get_error_code(self, index: int) -> Any:
            return self._codes[self._now()[index][0]]

        def get_error_desc(self, index: int) -> str:
            return self._now()[index][1]

        def has_overflowed(self) -> bool:
            return self.lines.mark() - self._cleared > _KEPT

        def clear(self) -> None:
            self._cleared = self.lines.mark()

        def report_error(self, code: Any, description: str) -> bool:
            self._codes[code.name] = code
            self.lines.add(code.name, description)
            return False

    return ErrorRecorder()


class Witness:
    """What TensorRT said of one runtime and all that it made, since ``listen`` or the last ``take``."""

    def __init__(self, trt: ModuleType) -> None:
        self.logger = make_logger(trt)
        self.recorder = make_recorder(trt)
        self._logged = self.logger.lines.mark()
        self._recorded = 0

    def listen(self) -> None:
        """From here on; what was said before is of another operation, or in the logger's case of another engine."""
        self._recorded, self._logged = self.recorder.lines.mark(), self.logger.lines.mark()

    @property
    def has_heard(self) -> bool:
        """Whether an error was recorded since ``listen``: all that a call without an answer leaves when it fails."""
        return bool(self.recorder.lines.mark() != self._recorded)

    def take(self) -> tuple[list[tuple[str, str]], list[str]]:
        """(severity, text) of each line and the names of the error codes, both for ``explain``.

        The recorder's are this runtime's own. The logger is the process's, so its lines count only where there are no
        others.
        """
        recorded = self.recorder.lines.since(self._recorded)
        logged = self.logger.lines.since(self._logged)
        self.listen()
        return [("ERROR", text) for _, text in recorded] or logged, [code for code, _ in recorded]


def _forgotten(fault: Exception) -> None:
    del fault


def make_allocator(trt: ModuleType, memory: DeviceMemory, *, on_fault: Callable[[Exception], None] = _forgotten) -> Any:
    """An ``IGpuAllocator`` over ``memory``, for ``Runtime.gpu_allocator``. A refusal is ``None``, as documented.

    ``on_fault`` hears what went wrong while something was freed, of which TensorRT tells nobody.

    All five methods are there, whichever the library calls: pybind11 can dispatch no other way. TensorRT may call from
    threads of its own. Addresses of the driver are aligned to 256 bytes, which is all that an alignment can ask for.
    """

    class BudgetedAllocator(trt.IGpuAllocator):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IGpuAllocator.__init__(self)

        def allocate(self, size: int, _alignment: int, _flags: int) -> int | None:
            if not size:
                return None
            try:
                return memory.allocate(size, for_library=True)
            except Exception:  # kept by the memory, which the caller asks; here it must be an answer
                return None

        def deallocate(self, address: int) -> bool:
            try:
                if address:
                    memory.free(address)
            except Exception as error:
                on_fault(error)
                return False
            return True

        def reallocate(self, _address: int, _alignment: int, _new_size: int) -> int | None:
            return None  # not done: what is at the address stays valid

        def allocate_async(self, size: int, alignment: int, flags: int, _stream: int) -> int | None:
            return self.allocate(size, alignment, flags)

        def deallocate_async(self, address: int, stream: int) -> bool:
            try:
                memory.wait_for(stream)
            except Exception as error:
                on_fault(error)
                return False
            return self.deallocate(address)

    return BudgetedAllocator()


def ask_validity(library: Library, runtime: Any, data: memoryview) -> str:
    """The library's own diagnosis of a plan that it did not load, as names, or nothing where it has no such call."""
    if not library.capabilities.has_engine_validity:
        return ""
    validity, diagnostics = runtime.get_engine_validity(data)
    members = library.module.EngineInvalidityDiagnostics.__members__.values()
    named = [member.name for member in members if int(diagnostics) & int(member)]
    return f"{validity.name}: {', '.join(named)}" if named else ""


def _is_absent(error: BaseException, name: str) -> bool:
    return isinstance(error, ModuleNotFoundError) and error.name == name


def _unavailable(error: BaseException) -> RuntimeNotAvailableError:
    plain = unavailable(_LABEL, error)
    cause = cause_of([str(error)])
    return RuntimeNotAvailableError(f"{plain.message} That is: {cause}.", remedy=plain.remedy) if cause else plain


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
