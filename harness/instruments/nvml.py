"""NVML (``pynvml``, nvidia-ml-py) for discrete GPUs and Thor. On Orin nearly every call answers Not Supported."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from harness.instruments import Reading
from runtime.thermal_sources.nvml import ALERT_BITS, LIMIT_BITS, load_nvml

__all__ = ["NvmlInstrument"]

_TEMPERATURE_OF_GPU = 0
_GRAPHICS, _MEMORY = 0, 2
_HARDWARE, _SAYS_WHY = 0x08, 0x40 | 0x80


class NvmlInstrument:
    """Asks the driver about GPU ``index``. Each call stands alone: what a GPU does not support is missing, not zero.

    ``limit.<reason>``: 1 where the driver holds the clock for that reason, else 0. ``energy_j``: since the driver was loaded.
    ``power_w``: of the GPU's board.
    """

    label = "nvml"

    def __init__(self, index: int = 0, *, load: Callable[[], Any] = load_nvml) -> None:
        self._index = index
        self._load = load
        self._library: Any = None
        self._device: Any = None

    def read(self) -> Reading:
        """Raises ``TelemetryUnavailableError`` without the library, and ``NVMLError`` without a driver or the GPU."""
        self._open()
        reading = Reading()
        for name, divisor, call, *arguments in (
            ("gpu_clock_mhz", 1.0, "nvmlDeviceGetClockInfo", _GRAPHICS),
            ("gpu_cap_mhz", 1.0, "nvmlDeviceGetMaxClockInfo", _GRAPHICS),
            ("memory_clock_mhz", 1.0, "nvmlDeviceGetClockInfo", _MEMORY),
            ("power_w", 1e3, "nvmlDeviceGetPowerUsage"),
            ("energy_j", 1e3, "nvmlDeviceGetTotalEnergyConsumption"),
        ):
            answer = self._ask(reading, name, call, *arguments)
            if answer is not None:
                reading.put(name, answer / divisor)
        celsius = self._ask(
            reading, "gpu_temp_c", "nvmlDeviceGetTemperatureV", _TEMPERATURE_OF_GPU, old="nvmlDeviceGetTemperature"
        )
        if celsius is not None:
            reading.put("gpu_temp_c", float(celsius))
        use = self._ask(reading, "gpu_load_percent", "nvmlDeviceGetUtilizationRates")
        if use is not None:
            reading.put("gpu_load_percent", float(use.gpu))
        memory = self._ask(reading, "gpu_used_bytes", "nvmlDeviceGetMemoryInfo")
        if memory is not None:
            reading.put("gpu_used_bytes", float(memory.used))
        reasons = self._ask(
            reading, "limits", "nvmlDeviceGetCurrentClocksEventReasons", old="nvmlDeviceGetCurrentClocksThrottleReasons"
        )
        if reasons is not None:
            held = reasons & ~_HARDWARE if reasons & _SAYS_WHY else reasons  # it comes with those two, which say why
            reading.alerts.extend(text for bit, text in ALERT_BITS.items() if held & bit)
            reading.values.update({f"limit.{text}": float(bool(reasons & bit)) for bit, text in LIMIT_BITS.items()})
        if not reading.values:
            self.close()  # a GPU that was lost answers only to who opens the library again
        return reading

    def about(self) -> dict[str, str]:
        """``gpu``: its name, ``driver``: its version."""
        told = {}
        if self._library is not None:
            for name, call, arguments in (
                ("gpu", "nvmlDeviceGetName", (self._device,)), ("driver", "nvmlSystemGetDriverVersion", ())
            ):  # fmt: skip
                with suppress(self._library.NVMLError, AttributeError):
                    text = getattr(self._library, call)(*arguments)
                    told[name] = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        return {**told, "power_w": "the GPU's board, by its driver"} if told else {}

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
        library.nvmlInit()
        self._library = library
        try:
            self._device = library.nvmlDeviceGetHandleByIndex(self._index)
        except library.NVMLError:
            self.close()
            raise

    def _ask(self, reading: Reading, name: str, call: str, *arguments: int, old: str = "") -> Any:
        """The answer of ``call`` (or of its ``old`` name, on a driver or binding without the new one), or ``None``."""
        why = ""
        for function in filter(None, (call, old)):
            try:
                return getattr(self._library, function)(self._device, *arguments)
            except (self._library.NVMLError, AttributeError) as error:
                why = f"{function}: {error}"
        reading.missing[name] = why
        return None
