"""The face of a simulated device that looks like ``pynvml``: temperature, clocks, power and memory, in virtual time.

On an Orin (``device.is_integrated`` and SM 8.7) it answers nearly everything with Not Supported, as there. Planned faults
are called by the function's name, as ``nvmlDeviceGetTemperature``; their errors by NVML's, as ``NVML_ERROR_GPU_IS_LOST``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

from harness.fakes.device import SimulatedDevice
from harness.fakes.meters import Meters

__all__ = ["make_nvml"]

_ERRORS = {
    "UNINITIALIZED": (1, "Uninitialized"),
    "INVALID_ARGUMENT": (2, "Invalid Argument"),
    "NOT_SUPPORTED": (3, "Not Supported"),
    "NO_PERMISSION": (4, "Insufficient Permissions"),
    "NOT_FOUND": (6, "Not Found"),
    "DRIVER_NOT_LOADED": (9, "Driver Not Loaded"),
    "TIMEOUT": (10, "Timeout"),
    "LIBRARY_NOT_FOUND": (12, "NVML Shared Library Not Found"),
    "FUNCTION_NOT_FOUND": (13, "Function Not Found"),
    "GPU_IS_LOST": (15, "GPU is lost"),
    "UNKNOWN": (999, "Unknown Error"),
}
_CONSTANTS = {
    "NVML_SUCCESS": 0,
    "NVML_TEMPERATURE_GPU": 0,
    "NVML_TEMPERATURE_THRESHOLD_SHUTDOWN": 0,
    "NVML_TEMPERATURE_THRESHOLD_SLOWDOWN": 1,
    "NVML_CLOCK_GRAPHICS": 0,
    "NVML_CLOCK_SM": 1,
    "NVML_CLOCK_MEM": 2,
    "nvmlClocksEventReasonGpuIdle": 0x1,
    "nvmlClocksEventReasonSwPowerCap": 0x4,
    "nvmlClocksThrottleReasonHwSlowdown": 0x8,
    "nvmlClocksEventReasonSwThermalSlowdown": 0x20,
    "nvmlClocksThrottleReasonHwThermalSlowdown": 0x40,
}
_IDLE, _THERMAL = 0x1, 0x20
_MEMORY_MHZ = 3199


def make_nvml(device: SimulatedDevice) -> ModuleType:
    """A module ``pynvml`` that tells of ``device`` as its only GPU."""
    module = ModuleType("pynvml", make_nvml.__doc__)
    vars(module).update(_CONSTANTS)
    vars(module).update({f"NVML_ERROR_{name}": number for name, (number, _) in _ERRORS.items()})
    error, kinds = _make_errors(module.__name__)
    module.NVMLError = error  # type: ignore[attr-defined]
    for name, kind in kinds.items():
        setattr(module, f"NVMLError_{name.title().replace('_', '')}", kind)
    nvml = _Nvml(device, {f"NVML_ERROR_{name}": kind for name, kind in kinds.items()})
    for name in dir(nvml):
        if name.startswith("nvml"):
            setattr(module, name, _recorded(nvml, name))
    return module


def _make_errors(module: str) -> tuple[type[Exception], dict[str, type[Exception]]]:
    """``NVMLError``, which makes the kind that belongs to its number, and those kinds."""
    kinds: dict[int, type[Exception]] = {}
    texts = dict(_ERRORS.values())

    class NVMLError(Exception):
        value: int

        def __new__(cls, value: int = 999) -> Any:
            made: Any = super().__new__(kinds.get(value, cls) if cls is NVMLError else cls)
            made.value = value
            return made

        def __str__(self) -> str:
            return texts.get(self.value, f"NVML Error with code {self.value}")

    NVMLError.__module__ = module
    by_name: dict[str, type[Exception]] = {}
    for name, (number, _) in _ERRORS.items():
        kind_name = f"NVMLError_{name.title().replace('_', '')}"

        def make(cls: Any, value: int = number) -> Any:
            made = Exception.__new__(cls)
            made.value = value
            return made

        by_name[name] = kinds[number] = type(kind_name, (NVMLError,), {"__new__": make, "__module__": module})
    return NVMLError, by_name


def _recorded(nvml: _Nvml, name: str) -> Callable[..., Any]:
    """The function, behind the device's plan of faults and NVML's own rules about when it may be called."""
    function: Callable[..., Any] = getattr(nvml, name)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        error = nvml.device.enter(name, needs_device=False)
        if error is not None:
            raise nvml.errors.get(error, nvml.errors["NVML_ERROR_UNKNOWN"])()
        if name not in ("nvmlInit", "nvmlErrorString") and not nvml.held:
            raise nvml.errors["NVML_ERROR_UNINITIALIZED"]()
        if name.startswith("nvmlDeviceGet") and name not in _ALWAYS:
            if not args or args[0] is not nvml.handle:
                raise nvml.errors["NVML_ERROR_INVALID_ARGUMENT"]()
            if nvml.is_orin:
                raise nvml.errors["NVML_ERROR_NOT_SUPPORTED"]()
        return function(*args, **kwargs)

    return call


_ALWAYS = frozenset({"nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetName"})


class _Nvml:
    """The functions, under NVML's names and with its parameters. ``held``: how often it was initialised."""

    def __init__(self, device: SimulatedDevice, errors: dict[str, type[Exception]]) -> None:
        self.device = device
        self.errors = errors
        self.handle = object()
        self.held = 0
        self.is_orin = device.is_integrated and device.sm == "87"
        self._meters = Meters(device)

    def nvmlInit(self) -> None:
        self.held += 1

    def nvmlShutdown(self) -> None:
        self.held -= 1

    def nvmlErrorString(self, result: int) -> str:
        return dict(_ERRORS.values()).get(result, "Unknown Error")

    def nvmlSystemGetDriverVersion(self) -> str:
        return "540.4.0"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return self.device.driver_version

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        if index != 0:
            raise self.errors["NVML_ERROR_INVALID_ARGUMENT"]()
        return self.handle

    def nvmlDeviceGetName(self, handle: Any) -> str:
        return self.device.name

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int:
        return round(self.device.thermal.temperature_c)

    def nvmlDeviceGetTemperatureV(self, handle: Any, sensor: int, version: int = 0x100000C) -> int:
        return round(self.device.thermal.temperature_c)

    def nvmlDeviceGetTemperatureThreshold(self, handle: Any, threshold: int) -> int:
        board = self.device.thermal.board
        return round(board.critical_c if threshold == 0 else board.passive_c)

    def nvmlDeviceGetClockInfo(self, handle: Any, type: int) -> int:  # noqa: A002  # the library's name
        return _MEMORY_MHZ if type == 2 else self.device.thermal.clock_mhz

    def nvmlDeviceGetMaxClockInfo(self, handle: Any, type: int) -> int:  # noqa: A002
        return _MEMORY_MHZ if type == 2 else self.device.thermal.max_clock_mhz

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any) -> int:
        busy = 0 if self._meters.load >= 0.01 else _IDLE
        return _THERMAL if self.device.thermal.is_throttled else busy

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any) -> int:
        return self.nvmlDeviceGetCurrentClocksEventReasons(handle)

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:
        return round(self.device.thermal.power_w * 1000)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Any) -> int:
        return round(self.device.thermal.board.busy_w * 1000)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any) -> int:
        return round(self._meters.energy_mj)

    def nvmlDeviceGetMemoryInfo(self, handle: Any, version: int | None = None) -> Any:
        total, free = self.device.memory_bytes, self.device.free_bytes
        return SimpleNamespace(total=total, free=free, used=total - free)

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:
        return SimpleNamespace(gpu=round(self._meters.load * 100), memory=0)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> list[Any]:
        return []

    def nvmlDeviceGetCudaComputeCapability(self, handle: Any) -> tuple[int, int]:
        return int(self.device.sm[:-1]), int(self.device.sm[-1])
