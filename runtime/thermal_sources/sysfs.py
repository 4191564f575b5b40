"""The Jetson's own files (JetPack 5 to 7): no library, no root, and nothing is ever written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runtime.errors import TelemetryUnavailableError
from runtime.thermal import SourceReading

__all__ = ["SysfsSource"]

_ZONE = re.compile(r"(cpu|gpu)([-_]therm(al)?)?", re.IGNORECASE)
_ALERT = re.compile(r".*(throttle|hot-surface)-alert")
_FREQUENCY_CAP = re.compile(r"cpufreq-.*|devfreq-.*(gpu|ga10b).*")
_DEVFREQ = (".gpu", ".ga10b", "gpu-gpc-0")  # Orin on JetPack 6 and 7, Orin on JetPack 5, Thor
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)  # neither exists on Windows


@dataclass(frozen=True)
class _Layout:
    """Which files this board has. Numbers of zones and hwmons change between boots, so all is found by type and name."""

    temperatures: dict[str, list[Path]] = field(default_factory=lambda: {"cpu": [], "gpu": []})
    alerts: list[tuple[str, Path]] = field(default_factory=list)
    counters: list[Path] = field(default_factory=list)
    gpu: list[Path] = field(default_factory=list)


class SysfsSource:
    """Reads zones, throttle alerts, over-current counters and the GPU's devfreq below ``root``.

    A zone whose power is gated answers EAGAIN: that sensor is off, and its figure unknown. It is not asked again
    within one reading, since waiting for it costs more than it tells.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._sys = root / "sys"
        self._layout: _Layout | None = None

    def read(self) -> SourceReading:
        """Raises ``TelemetryUnavailableError`` where there are no such files, or none can be read."""
        layout = self._layout if self._layout is not None else self._find()
        notes: list[str] = []
        gpu = layout.gpu[0] if layout.gpu else None
        reading = SourceReading(
            cpu_temp_c=_hottest_c(layout.temperatures["cpu"], notes),
            gpu_temp_c=_hottest_c(layout.temperatures["gpu"], notes),
            clock_mhz=_scaled(gpu / "cur_freq", 1e6, notes) if gpu else None,
            clock_cap_mhz=_scaled(gpu / "max_freq", 1e6, notes) if gpu else None,
            load_percent=self._load_percent(gpu, notes),
            governor=_text(gpu / "governor", notes) if gpu else None,
            throttle_alerts=tuple(name for name, path in layout.alerts if (_number(path, notes) or 0) > 0),
            over_current_events=_sum([_number(path, notes) for path in layout.counters]),
            notes=tuple(notes),
        )
        if reading.is_empty:
            self._layout = None
            raise TelemetryUnavailableError(
                f"no file of a Jetson's thermal telemetry below {self._sys} can be read"
                f"{': ' + '; '.join(reading.notes) if reading.notes else ''}."
            )
        self._layout = layout
        return reading

    def close(self) -> None:
        """Forget where the files are; nothing stays open between readings."""
        self._layout = None

    def _find(self) -> _Layout:
        layout = _Layout()
        for zone, kind in self._kinds("class/thermal", "thermal_zone*", "type"):
            if match := _ZONE.fullmatch(kind):
                layout.temperatures[match[1].lower()].append(zone / "temp")
        for device, kind in self._kinds("class/thermal", "cooling_device*", "type"):
            if _ALERT.fullmatch(kind) or _FREQUENCY_CAP.fullmatch(kind):
                layout.alerts.append((kind, device / "cur_state"))
        for hwmon, kind in self._kinds("class/hwmon", "hwmon*", "name"):
            if kind == "soctherm_oc":
                layout.counters.extend(sorted(hwmon.glob("oc*_event_cnt")))
        layout.gpu.extend(path for path in sorted(self._sys.glob("class/devfreq/*")) if path.name.endswith(_DEVFREQ))
        return layout

    def _kinds(self, folder: str, pattern: str, label: str) -> Iterator[tuple[Path, str]]:
        for path in sorted((self._sys / folder).glob(pattern)):
            kind = _text(path / label, [])
            if kind:
                yield path, kind

    def _load_percent(self, gpu: Path | None, notes: list[str]) -> float | None:
        places = [self._sys / "devices/platform/gpu.0/load"]
        if gpu:
            places.insert(0, gpu / "device/load")
        missed: list[str] = []
        for place in places:
            load = _scaled(place, 10.0, missed)
            if load is not None:
                return load
        notes.extend(missed)
        return None


def _text(path: Path, notes: list[str]) -> str | None:
    # Path.read_text raises a TypeError where a gated sensor answers EAGAIN: the text layer cannot take "no data yet".
    try:
        handle = os.open(path, _FLAGS)
        try:
            data = os.read(handle, 4096)
        finally:
            os.close(handle)
    except OSError as error:
        notes.append(f"{path.parent.name}/{path.name}: {error.strerror}")
        return None
    return data.decode("ascii", "replace").strip("\0 \t\r\n")


def _number(path: Path, notes: list[str]) -> int | None:
    text = _text(path, notes)
    if text is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,19}", text):
        notes.append(f"{path.parent.name}/{path.name}: {text[:40]!r} is not a whole number")
        return None
    return int(text)


def _scaled(path: Path, divisor: float, notes: list[str]) -> float | None:
    number = _number(path, notes)
    return None if number is None else number / divisor


def _hottest_c(zones: list[Path], notes: list[str]) -> float | None:
    temperatures = [_scaled(zone, 1000.0, notes) for zone in zones]
    return max((celsius for celsius in temperatures if celsius is not None), default=None)


def _sum(counts: list[int | None]) -> int | None:
    # A sum that leaves one counter out would rise when that counter comes back.
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None
