"""NVML, for discrete GPUs and Thor: the door to ``pynvml`` (nvidia-ml-py)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from runtime.errors import TelemetryUnavailableError
from runtime.thermal import SourceReading

__all__ = ["ALERT_BITS", "LIMIT_BITS", "NvmlSource", "load_nvml"]

ALERT_BITS = {
    0x08: "hw-slowdown",
    0x20: "sw-thermal-slowdown",
    0x40: "hw-thermal-slowdown",
    0x80: "hw-power-brake",
}
"""Clock event reasons that are throttling whatever the load."""

LIMIT_BITS = {0x04: "sw-power-cap", 0x200: "board-limit", 0x400: "reliability"}
"""Reasons that hold a clock below its maximum. Idle, sync boost, and clocks that a person has set are none."""

_TEMPERATURE_OF_GPU = 0
_CLOCK_GRAPHICS = 0


def load_nvml() -> Any:
    """The module ``pynvml``. Raises ``TelemetryUnavailableError``."""
    try:
        return import_module("pynvml")
    except ImportError as missing:
        raise TelemetryUnavailableError(
            f"pynvml cannot be imported: {missing}.", remedy="Install nvidia-ml-py."
        ) from missing


class NvmlSource:
    """Asks the driver about GPU ``index``. Each call stands alone: what a GPU does not support is unknown, not zero."""

    def __init__(self, index: int = 0, *, load: Callable[[], Any] = load_nvml) -> None:
        self._index = index
        self._load = load
        self._library: Any = None
        self._device: Any = None

    def read(self) -> SourceReading:
        """Raises ``TelemetryUnavailableError`` without the library, a driver, the GPU, or a single answer."""
        self._open()
        notes: list[str] = []
        use = self._ask(notes, "nvmlDeviceGetUtilizationRates")
        reasons = self._ask(
            notes, "nvmlDeviceGetCurrentClocksEventReasons", old="nvmlDeviceGetCurrentClocksThrottleReasons"
        )
        reading = SourceReading(
            gpu_temp_c=self._ask(
                notes, "nvmlDeviceGetTemperatureV", _TEMPERATURE_OF_GPU, old="nvmlDeviceGetTemperature"
            ),
            clock_mhz=self._ask(notes, "nvmlDeviceGetClockInfo", _CLOCK_GRAPHICS),
            clock_cap_mhz=self._ask(notes, "nvmlDeviceGetMaxClockInfo", _CLOCK_GRAPHICS),
            load_percent=None if use is None else use.gpu,
            throttle_alerts=() if reasons is None else _alerts(reasons),
            clock_limits=None if reasons is None else tuple(text for bit, text in LIMIT_BITS.items() if reasons & bit),
            notes=tuple(notes),
        )
        if reading.is_empty:
            self.close()
            raise TelemetryUnavailableError(f"GPU {self._index} answers nothing through NVML: {'; '.join(notes)}.")
        return reading

    def close(self) -> None:
        """Gives the library's reference back (``nvmlInit`` counts them)."""
        library, self._library, self._device = self._library, None, None
        if library is not None:
            with suppress(library.NVMLError):
                library.nvmlShutdown()

    def _open(self) -> None:
        if self._library is not None:
            return
        library = self._load()
        try:
            library.nvmlInit()
            self._library = library
            self._device = library.nvmlDeviceGetHandleByIndex(self._index)
        except library.NVMLError as error:
            self.close()
            raise TelemetryUnavailableError(f"NVML does not give GPU {self._index}: {error}.") from error

    def _ask(self, notes: list[str], call: str, *arguments: int, old: str = "") -> Any:
        """The answer of ``call`` (or of its ``old`` name, on a driver or binding without the new one), or ``None``."""
        for name in filter(None, (call, old)):
            try:
                return getattr(self._library, name)(self._device, *arguments)
            except (self._library.NVMLError, AttributeError) as error:
                why = str(error)
        notes.append(f"{call}: {why}")
        return None


def _alerts(reasons: int) -> tuple[str, ...]:
    if reasons & (0x40 | 0x80):
        reasons &= ~0x08  # it comes with these two, which say why; alone it is the fast trigger on too much power
    return tuple(text for bit, text in ALERT_BITS.items() if reasons & bit)
