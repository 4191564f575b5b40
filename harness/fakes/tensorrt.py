"""TensorRT and TensorRT-RTX on the simulated device, in the releases of which there is a manifest (T0-03, T0-04).

It builds, loads and runs ONNX models by the documented rules, and fails in the library's own ways and words: ``None`` or
``False``, and an error that goes to the error recorder where one is set, and to the logger where none is. Every fault of
the device's plan is called ``tensorrt.<Class>.<method>``, for TensorRT-RTX too; its error is a name of ``ErrorCodeTRT``, or
of ``CUresult``.

This file: the module, and the classes that a user derives from. ``tensorrt_library`` has what all share,
``tensorrt_build`` (with ``_config``, ``_parser``, ``_network`` and ``_precision``) and ``tensorrt_run`` (with
``_context``) have the rest, ``tensorrt_plan`` what lies between them.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from harness.fakes import tensorrt_build, tensorrt_run
from harness.fakes.bindings import Enum, Face, assemble, make_enum, make_face, read_manifest
from harness.fakes.device import SimulatedDevice
from harness.fakes.tensorrt_library import Library, tell
from harness.fakes.tensorrt_plan import flavour_of

__all__ = ["live_runtimes", "make_tensorrt"]

_SEVERITIES = {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "INFO": 3, "VERBOSE": 4}
_MANAGED = (
    *("ILogger", "ICudaEngine", "IExecutionContext", "Runtime", "IHostMemory"),
    *("Builder", "INetworkDefinition", "OnnxParser", "IBuilderConfig"),
)


def live_runtimes(module: ModuleType) -> list[str]:
    """A line for each ``Runtime`` of a module that nobody has let go."""
    library: Library = module.ILogger._library
    return [f"a {type(root).__name__} of TensorRT" for root in library._roots if isinstance(root, module.Runtime)]


def make_tensorrt(device: SimulatedDevice, version: str) -> ModuleType:
    """The module ``tensorrt`` of a release (``10.3.0``, ``10.13.3.9``, ``10.16.1.11``, ``11.4.0.106``), or
    ``tensorrt_rtx`` (``rtx1.7.1.116``). ``ValueError`` for any other.
    """
    flavour = flavour_of(version)
    manifest = read_manifest(flavour.manifest)
    module = ModuleType("tensorrt_rtx" if flavour.is_rtx else "tensorrt", __doc__)
    library = Library(module, device, flavour)
    functions = {
        "init_libnvinfer_plugins": _init_plugins,
        "get_nv_onnx_parser_version": lambda: (
            flavour.version[0] * 10000 + flavour.version[1] * 100 + flavour.version[2]
        ),
    }
    assemble(module, manifest, (*_FACES, *tensorrt_build.FACES, *tensorrt_run.FACES), functions, library)
    _add_front(module, manifest, version.removeprefix("rtx"))
    return module


def _add_front(module: Any, manifest: Any, version: str) -> None:
    """What the Python file around the extension adds, which manifests of the extension alone do not list."""
    severity = make_enum("Severity", _SEVERITIES, module.__name__)
    for kind in (module.ILogger, module.Logger):
        kind.Severity = severity
        for name, member in severity.__members__.items():
            setattr(kind, name, member)
    types = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16", "fp8": "FP8", "e8m0": "E8M0", "bool": "BOOL"}
    for name, entry in manifest.items():
        if entry.get("value") == "DataType":
            setattr(module, name, getattr(module.DataType, types.get(name, name.upper())))
    made = type("IHostMemory", (_HostMemory,), {"_data_type": module.DataType.INT8, "__module__": module.__name__})
    module.IHostMemory = made
    module.DataType.itemsize = property(_item_bytes)
    module.__version__ = version
    module.volume = _volume
    module.nptype = _numpy_type
    for name in _MANAGED:
        getattr(module, name).__enter__ = _entered_context
        getattr(module, name).__exit__ = _left_context


def _entered_context(self: Any) -> Any:
    warnings.warn(
        "Context managers for TensorRT types are deprecated. Memory will be freed automatically when the reference count "
        "reaches 0.",
        DeprecationWarning,
        stacklevel=2,
    )
    return self


def _left_context(self: Any, exc_type: Any, exc_value: Any, traceback: Any) -> None:
    return None


def _item_bytes(self: Enum) -> float | None:
    sizes = {"FLOAT": 4, "HALF": 2, "BF16": 2, "INT8": 1, "INT32": 4, "INT64": 8, "BOOL": 1, "UINT8": 1, "FP8": 1}
    return sizes.get(self.name, {"INT4": 0.5, "FP4": 0.5, "E8M0": 1}.get(self.name))


def _volume(iterable: Any) -> int:
    volume = 1
    for size in iterable:
        volume *= size
    return volume


def _numpy_type(trt_type: Enum) -> Any:
    kinds: dict[str, Any] = {
        "FLOAT": np.float32,
        "HALF": np.float16,
        "INT8": np.int8,
        "INT32": np.int32,
        "INT64": np.int64,
    }
    kinds |= {"BOOL": np.bool_, "UINT8": np.uint8}
    if trt_type.name not in kinds:
        raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
    return kinds[trt_type.name]


def _init_plugins(logger: Any, namespace: str) -> bool:
    return True


def _not_overridden(name: str) -> None:
    """What a call of a virtual method ends in that the user's class does not have."""
    tell(f"Method: {name} was not overriden. Please provide an implementation for this method.")


def _virtual(name: str, **methods: Any) -> type[Face]:
    """A class to derive from: its methods, with what each answers where the derived class does not have it."""

    def method(called: str, answer: Any) -> Callable[..., Any]:
        def call(self: Any, *arguments: Any, **named: Any) -> Any:
            _not_overridden(called)
            return answer

        call.__name__ = called
        return call

    def __init__(self: Any) -> None:  # noqa: N807  # pybind's constructor
        pass

    members = {called: method(called, answer) for called, answer in methods.items()}
    return make_face(name, {**members, "__init__": __init__})


ILogger = _virtual("ILogger", log=None)
IProgressMonitor = _virtual("IProgressMonitor", phase_start=None, step_complete=True, phase_finish=None)
IOutputAllocator = _virtual("IOutputAllocator")
IProfiler = _virtual("IProfiler", report_layer_time=None)
_BATCHES: dict[str, Any] = {"get_batch": None, "read_calibration_cache": None, "write_calibration_cache": None}
IInt8Calibrator = _virtual("IInt8Calibrator", get_batch_size=-1, get_algorithm=None, **_BATCHES)


def _calibrator(name: str, algorithm: str) -> type[Face]:
    """One of the calibrators, which differ in their algorithm alone."""
    face = _virtual(name, **_BATCHES)
    face.get_algorithm = lambda self: self._library.enum("CalibrationAlgoType", algorithm)  # type: ignore[attr-defined]
    return face


IErrorRecorder = _virtual(
    "IErrorRecorder",
    num_errors=0,
    get_error_code=None,
    get_error_desc="",
    has_overflowed=False,
    clear=None,
    report_error=False,
)
IErrorRecorder.MAX_DESC_LENGTH = property(lambda self: 127)  # type: ignore[attr-defined]


class Logger(Face):
    """To standard error, from ``min_severity`` on."""

    __slots__ = ()

    def __init__(self, min_severity: Any = None) -> None:
        self._state = min_severity if min_severity is not None else self._library.module.ILogger.WARNING

    @property
    def min_severity(self) -> Any:
        return self._state

    @min_severity.setter
    def min_severity(self, value: Any) -> None:
        self._state = value

    def log(self, severity: Any, msg: str) -> None:
        if int(severity) <= int(self._state):
            tell(f"[TRT] [{severity.name[0]}] {msg}")


class InterfaceInfo(Face):
    __slots__ = ()
    kind = property(lambda self: self._state[0], lambda self, value: None)
    major = property(lambda self: self._state[1], lambda self, value: None)
    minor = property(lambda self: self._state[2], lambda self, value: None)


class IVersionedInterface(Face):
    __slots__ = ()

    @property
    def api_language(self) -> Any:
        return self._library.enum("APILanguage", "PYTHON")

    @property
    def interface_info(self) -> Any:
        kind = next(base for base in type(self).__mro__ if "_is_binding" in vars(base))
        return self._library.make("InterfaceInfo", (kind.__name__, 1, 0))


class IGpuAllocator(Face):
    __slots__ = ()

    def __init__(self) -> None:
        pass

    def allocate(self, size: int, alignment: int, flags: int) -> Any:
        _not_overridden("allocate")

    def deallocate(self, memory: Any) -> bool:
        _not_overridden("deallocate")
        return False

    def reallocate(self, address: Any, alignment: int, new_size: int) -> Any:
        return None

    def allocate_async(self, size: int, alignment: int, flags: int, stream: int) -> Any:
        older = getattr(self, "allocate", None)
        return _not_overridden("allocate") if older is None else older(size, alignment, flags)

    def deallocate_async(self, memory: Any, stream: int) -> bool:
        older = getattr(self, "deallocate", None)
        if older is None:
            _not_overridden("deallocate")
            return False
        return bool(older(memory))


class IGpuAsyncAllocator(Face):
    __slots__ = ()

    def __init__(self) -> None:
        pass


class Profiler(Face):
    __slots__ = ()

    def __init__(self) -> None:
        pass

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        sys.stdout.write(f"{layer_name}: {ms}ms\n")


class Dims(Face):
    """A shape: a sequence that equals any other of the same numbers."""

    __slots__ = ()
    MAX_DIMS = property(lambda self: 8)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *shape: Any) -> None:
        self._is_made = True
        self._state = tuple(int(size) for size in (shape[0] if shape else ()))

    def __len__(self) -> int:
        return len(self._state)

    def __getitem__(self, place: Any) -> Any:
        return self._state[place]

    def __eq__(self, other: object) -> bool:
        try:
            return bool(self._state == tuple(other))  # type: ignore[arg-type]
        except TypeError:
            return False

    def __repr__(self) -> str:
        return repr(self._state)


class _HostMemory(bytes):
    """A buffer: ``memoryview``, ``bytes`` and ``write`` take it; it has no length and no items of its own.

    A Python class can export a buffer from 3.12 on, so this one is a ``bytes`` that does not act like one.
    """

    __len__ = __getitem__ = __iter__ = __add__ = __contains__ = None  # type: ignore[assignment]
    __hash__ = object.__hash__
    _data_type: Any

    def __bool__(self) -> bool:
        return True

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{cls.__module__}.IHostMemory: No constructor defined!")

    @property
    def nbytes(self) -> int:
        return memoryview(self).nbytes

    @property
    def dtype(self) -> Any:
        return self._data_type


_FACES: tuple[type[Face], ...] = (
    *(ILogger, Logger, IErrorRecorder, InterfaceInfo, IVersionedInterface, IGpuAllocator, IGpuAsyncAllocator),
    *(IProgressMonitor, IOutputAllocator, IProfiler, Profiler, IInt8Calibrator, Dims),
    _calibrator("IInt8EntropyCalibrator", "ENTROPY_CALIBRATION"),
    _calibrator("IInt8EntropyCalibrator2", "ENTROPY_CALIBRATION_2"),
    _calibrator("IInt8LegacyCalibrator", "LEGACY_CALIBRATION"),
    _calibrator("IInt8MinMaxCalibrator", "MINMAX_CALIBRATION"),
)
