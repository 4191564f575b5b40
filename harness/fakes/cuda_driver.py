"""The face of a simulated device that looks like ``cuda.bindings.driver``, of major version 12 or 13.

Names, parameters, enum members and handle classes are those of the manifest that was read off the real bindings; a call
gives the same tuple, ``(status, *results)`` with a None for each result of a call that failed.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from enum import IntEnum
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np

from harness.fakes.bindings import read_manifest
from harness.fakes.device import DeviceError, SimulatedDevice, SimulationError

__all__ = ["VERSIONS", "make_driver"]

VERSIONS = {12: "12.9.0", 13: "13.5.0"}
"""The version of the bindings that stands for each major one."""

_TEXTS = {
    "CUDA_SUCCESS": "no error",
    "CUDA_ERROR_INVALID_VALUE": "invalid argument",
    "CUDA_ERROR_OUT_OF_MEMORY": "out of memory",
    "CUDA_ERROR_NOT_INITIALIZED": "initialization error",
    "CUDA_ERROR_DEINITIALIZED": "driver shutting down",
    "CUDA_ERROR_NO_DEVICE": "no CUDA-capable device is detected",
    "CUDA_ERROR_INVALID_DEVICE": "invalid device ordinal",
    "CUDA_ERROR_INVALID_CONTEXT": "invalid device context",
    "CUDA_ERROR_INVALID_HANDLE": "invalid resource handle",
    "CUDA_ERROR_NOT_READY": "device not ready",
    "CUDA_ERROR_ILLEGAL_ADDRESS": "an illegal memory access was encountered",
    "CUDA_ERROR_LAUNCH_FAILED": "unspecified launch failure",
    "CUDA_ERROR_LAUNCH_TIMEOUT": "the launch timed out and was terminated",
    "CUDA_ERROR_CONTEXT_IS_DESTROYED": "context is destroyed",
    "CUDA_ERROR_UNKNOWN": "unknown error",
}
"""The driver's words; for an error that is not here, those of its name."""


class Parameter(NamedTuple):
    """``kind``: a C type, an enum's name, or empty for a handle or a pointer."""

    name: str
    kind: str


def make_driver(device: SimulatedDevice, major: int = 13) -> ModuleType:
    """A module ``cuda.bindings.driver`` that drives ``device``. ``ValueError`` for another major than 12 and 13."""
    if major not in VERSIONS:
        raise ValueError(f"no bindings of major version {major}; there are {sorted(VERSIONS)}")
    module = ModuleType("cuda.bindings.driver", make_driver.__doc__)
    functions: dict[str, Any] = {}
    for name, entry in read_manifest(f"cuda-bindings-{VERSIONS[major]}").items():
        if "enum" in entry:
            setattr(module, name, IntEnum(name, entry["enum"], module=module.__name__))
        elif "members" in entry:
            base = _Pointer if "__index__" in entry["members"] else _Handle
            setattr(module, name, type(name, (base,), {"__module__": module.__name__}))
        elif "value" in entry:
            setattr(module, name, entry["value"])
        else:
            functions[name] = entry
    face = _Driver(device, module)
    for name, entry in functions.items():
        setattr(module, name, _function(face, name, entry["function"], len(entry["results"])))
    return module


class _Handle:
    """A number of the driver's; as the bindings have it, equal to itself alone."""

    def __init__(self, value: int = 0) -> None:
        self._value = operator.index(value)
        if self._value < 0 and type(self).__name__ != "CUdevice":
            raise OverflowError("can't convert negative value to unsigned PY_LONG_LONG")

    def __int__(self) -> int:
        return self._value

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._value}>"

    def getPtr(self) -> int:
        return id(self)


class _Pointer(_Handle):
    """A handle that is a pointer in C: an index, and equal to another of its value."""

    def __index__(self) -> int:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._value:#x}>"


def parse_signature(signature: str) -> list[Parameter]:
    """The parameters of ``cuMemcpyHtoDAsync(dstDevice, srcHost, size_t ByteCount, hStream)`` and the like."""
    inside = signature[signature.index("(") + 1 : signature.rindex(")")]
    parameters = []
    for part in filter(None, re.split(r",\s*(?![^\[]*\])", inside)):
        declared, _, annotation = part.partition(":")
        *kind, name = declared.split()
        parameters.append(Parameter(name, annotation.strip() or " ".join(kind)))
    return parameters


def _function(face: _Driver, name: str, signature: str, result_count: int) -> Callable[..., tuple[Any, ...]]:
    method = getattr(face, name)
    needs: _Needs = getattr(_Driver, name).needs
    parameters = parse_signature(signature)
    device, statuses = face.device, face.module.CUresult
    nothing = (None,) * result_count

    def call(*arguments: Any, **named: Any) -> tuple[Any, ...]:
        values = _bind(face.module, name, parameters, arguments, named)
        error = device.enter(name, needs_device=needs in {"device", "context"})
        if error is None:
            try:
                if needs != "nothing" and not face.is_initialized:
                    raise DeviceError("CUDA_ERROR_NOT_INITIALIZED")
                if needs == "context":
                    device.require_context(name)
                result = method(*values)
            except DeviceError as failed:
                error = failed.name
            else:
                found = result if isinstance(result, tuple) else (result,)
                return (statuses.CUDA_SUCCESS, *found[:result_count])
        if error not in statuses.__members__:
            raise SimulationError(f"{name} cannot answer {error!r}, which is no CUresult")
        return (statuses[error], *nothing)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = signature
    return call


def _bind(
    module: ModuleType, name: str, parameters: list[Parameter], arguments: tuple[Any, ...], named: dict[str, Any]
) -> list[Any]:
    """The arguments in their order, as the integers that the driver would get; ``TypeError`` and ``OverflowError``."""
    values = list(arguments)
    if named:
        values += [named.pop(parameter.name) for parameter in parameters[len(values) :] if parameter.name in named]
    if named or len(values) != len(parameters):
        raise TypeError(f"{name}() takes exactly {len(parameters)} positional arguments ({len(values)} given)")
    return [_as_integer(module, parameter, value) for parameter, value in zip(parameters, values, strict=True)]


def _as_integer(module: ModuleType, parameter: Parameter, value: Any) -> Any:
    if not parameter.kind:  # a handle, an address, or something that has one
        if isinstance(value, np.ndarray):
            return value.ctypes.data
        if value is None:
            return 0
        if not hasattr(value, "__int__"):
            raise TypeError("an integer is required")
        return int(value)
    if parameter.kind.startswith("Optional"):
        if value is not None:
            raise SimulationError(f"{parameter.name} is not simulated")
        return None
    if parameter.kind.startswith("CU"):
        if not isinstance(value, getattr(module, parameter.kind)):
            raise TypeError(f"Argument '{parameter.name}' has incorrect type (expected {parameter.kind})")
        return value
    number = operator.index(value)
    if number < 0 and parameter.kind != "int":
        raise OverflowError(f"can't convert negative value to {parameter.kind}")
    return number


_Needs = Literal["nothing", "driver", "device", "context"]
"""``driver``: that ``cuInit`` was called. ``device``: also one that is not lost. ``context``: also a current context."""


def _needs(what: _Needs) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def mark(method: Callable[..., Any]) -> Callable[..., Any]:
        method.needs = what  # type: ignore[attr-defined]
        return method

    return mark


class _Driver:
    """What each function does, once its arguments are integers and the device has nothing to say against it."""

    def __init__(self, device: SimulatedDevice, module: ModuleType) -> None:
        self.device = device
        self.module: Any = module
        self.is_initialized = False

    @_needs("nothing")
    def cuInit(self, flags: int) -> None:
        if flags:
            raise DeviceError("CUDA_ERROR_INVALID_VALUE")
        self.is_initialized = True

    @_needs("nothing")
    def cuDriverGetVersion(self) -> int:
        return self.device.driver_version

    @_needs("nothing")
    def cuGetErrorName(self, error: IntEnum) -> bytes:
        return error.name.encode()

    @_needs("nothing")
    def cuGetErrorString(self, error: IntEnum) -> bytes:
        name = error.name
        return _TEXTS.get(name, name.removeprefix("CUDA_ERROR_").replace("_", " ").lower()).encode()

    @_needs("driver")
    def cuDeviceGet(self, ordinal: int) -> Any:
        if ordinal:
            raise DeviceError("CUDA_ERROR_INVALID_DEVICE")
        return self.module.CUdevice(ordinal)

    @_needs("driver")
    def cuDeviceGetCount(self) -> int:
        return 1

    @_needs("driver")
    def cuDeviceGetName(self, length: int, dev: int) -> bytes:
        self._check_device(dev)
        return self.device.name.encode()[: length - 1].ljust(length, b"\0")

    @_needs("driver")
    def cuDeviceGetAttribute(self, attrib: IntEnum, dev: int) -> int:
        self._check_device(dev)
        known = {
            "COMPUTE_CAPABILITY_MAJOR": int(self.device.sm[:-1]),
            "COMPUTE_CAPABILITY_MINOR": int(self.device.sm[-1]),
            "INTEGRATED": int(self.device.is_integrated),
            "CLOCK_RATE": self.device.thermal.max_clock_mhz * 1000,
            "CAN_MAP_HOST_MEMORY": 1,
            "UNIFIED_ADDRESSING": 1,
            "MEMORY_POOLS_SUPPORTED": 0,
        }
        name = attrib.name.removeprefix("CU_DEVICE_ATTRIBUTE_")
        if name not in known:
            raise SimulationError(f"the device attribute {name} is not simulated")
        return known[name]

    @_needs("driver")
    def cuDeviceTotalMem(self, dev: int) -> int:
        self._check_device(dev)
        return self.device.memory_bytes

    @_needs("device")
    def cuDevicePrimaryCtxRetain(self, dev: int) -> Any:
        self._check_device(dev)
        return self.module.CUcontext(self.device.retain_primary())

    @_needs("driver")
    def cuDevicePrimaryCtxRelease(self, dev: int) -> None:
        self._check_device(dev)
        self.device.release_primary()

    @_needs("driver")
    def cuCtxGetCurrent(self) -> Any:
        return self.module.CUcontext(self.device.current())

    @_needs("driver")
    def cuCtxSetCurrent(self, ctx: int) -> None:
        self.device.set_current(ctx)

    @_needs("device")
    def cuCtxCreate(self, *arguments: Any) -> Any:
        self._check_device(arguments[-1])  # the only one that both majors have in the same place, the last
        return self.module.CUcontext(self.device.create_context())

    @_needs("device")
    def cuCtxDestroy(self, ctx: int) -> None:
        self.device.destroy_context(ctx)

    @_needs("context")
    def cuCtxSynchronize(self) -> None:
        self.device.synchronize_context()

    @_needs("context")
    def cuMemGetInfo(self) -> tuple[int, int]:
        return self.device.free_bytes, self.device.memory_bytes

    @_needs("context")
    def cuMemAlloc(self, bytesize: int) -> Any:
        return self.module.CUdeviceptr(self.device.allocate(bytesize))

    @_needs("context")
    def cuMemFree(self, dptr: int) -> None:
        self.device.free(dptr)

    @_needs("context")
    def cuMemHostAlloc(self, bytesize: int, flags: int) -> int:
        if flags > 7:
            raise DeviceError("CUDA_ERROR_INVALID_VALUE")
        return self.device.allocate_host(bytesize)

    @_needs("context")
    def cuMemFreeHost(self, p: int) -> None:
        self.device.free_host(p)

    @_needs("context")
    def cuMemcpyHtoDAsync(self, destination: int, source: int, byte_count: int, stream: int) -> None:
        self.device.copy_in(destination, source, byte_count, stream)

    @_needs("context")
    def cuMemcpyDtoHAsync(self, destination: int, source: int, byte_count: int, stream: int) -> None:
        self.device.copy_out(destination, source, byte_count, stream)

    @_needs("context")
    def cuMemcpyHtoD(self, destination: int, source: int, byte_count: int) -> None:
        self.device.copy_in(destination, source, byte_count, 0)
        self.device.synchronize(0)

    @_needs("context")
    def cuMemcpyDtoH(self, destination: int, source: int, byte_count: int) -> None:
        self.device.copy_out(destination, source, byte_count, 0)
        self.device.synchronize(0)

    @_needs("context")
    def cuStreamCreate(self, flags: int) -> Any:
        if flags > 1:
            raise DeviceError("CUDA_ERROR_INVALID_VALUE")
        return self.module.CUstream(self.device.create_stream(is_blocking=not flags))

    @_needs("context")
    def cuStreamDestroy(self, stream: int) -> None:
        self.device.destroy_stream(stream)

    @_needs("context")
    def cuStreamSynchronize(self, stream: int) -> None:
        self.device.synchronize(stream)

    @_needs("context")
    def cuStreamQuery(self, stream: int) -> None:
        if not self.device.is_done(stream):
            raise DeviceError("CUDA_ERROR_NOT_READY")

    @_needs("context")
    def cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> None:
        if flags > 1:
            raise DeviceError("CUDA_ERROR_INVALID_VALUE")
        self.device.wait_event(stream, event)

    @_needs("context")
    def cuEventCreate(self, flags: int) -> Any:
        return self.module.CUevent(self.device.create_event(has_timing=not flags & 2))

    @_needs("context")
    def cuEventDestroy(self, event: int) -> None:
        self.device.destroy_event(event)

    @_needs("context")
    def cuEventRecord(self, event: int, stream: int) -> None:
        self.device.record_event(event, stream)

    @_needs("context")
    def cuEventQuery(self, event: int) -> None:
        if not self.device.is_complete(event):
            raise DeviceError("CUDA_ERROR_NOT_READY")

    @_needs("context")
    def cuEventSynchronize(self, event: int) -> None:
        self.device.synchronize_event(event)

    @_needs("context")
    def cuEventElapsedTime(self, start: int, end: int) -> float:
        return self.device.elapsed_ms(start, end)

    def _check_device(self, dev: int) -> None:
        if dev:
            raise DeviceError("CUDA_ERROR_INVALID_DEVICE")
