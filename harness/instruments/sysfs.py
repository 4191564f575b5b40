"""The Jetson's own files (JetPack 5 to 7), read without root and never written; and what a PC has of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.instruments import Reading
from harness.instruments.handles import Handle, first_text

__all__ = ["TOTAL_RAILS", "MemoryInstrument", "SysfsInstrument"]

TOTAL_RAILS = ("VDD_IN", "VIN", "POM_5V_IN")
"""Rails that carry the whole module, where a board has one of them. AGX Orin has none: its rails are summed."""

_GROUPS = {"cpu": "cpu_temp_c", "x86_pkg_temp": "cpu_temp_c", "gpu": "gpu_temp_c", "tj": "tj_temp_c"}
_SOC = re.compile(r"soc[0-9]*")
_THERM = re.compile(r"[-_]therm(al)?$")
_ALERT = re.compile(r".*(throttle|hot-surface)-alert")
_FREQUENCY_CAP = re.compile(r"cpufreq-.*|devfreq-.*(gpu|ga10b).*")
_DEVFREQ = (".gpu", ".ga10b", "gpu-gpc-0")  # Orin on JetPack 6 and 7, Orin on JetPack 5, Thor
_FAN = re.compile(r".*(fan|tach).*")
_NVMAP_TOTAL = re.compile(rb"^total\s+([0-9]{1,15})([KM]?)\s*$", re.MULTILINE)
_SIZES = {b"": 1.0, b"K": 1024.0, b"M": 1048576.0}
_MOST_POLICIES = 16
_NO_VALUES = {
    "gpu_temp_c": "no thermal zone of a GPU",
    "cpu_temp_c": "no thermal zone of a CPU",
    "gpu_clock_mhz": "no devfreq of a Jetson's GPU",
    "gpu_load_percent": "no devfreq of a Jetson's GPU",
    "power_w": "no INA3221 or INA238 among the hwmons",
    "oc_events": "no soctherm_oc among the hwmons",
    "fan_rpm": "no tachometer among the hwmons",
    "cpu_clock_mhz": "no cpufreq",
}


@dataclass(frozen=True)
class _Rail:
    label: str
    watts: Callable[[], float]
    handle: Handle


@dataclass(frozen=True)
class _Layout:
    """Which files this board has. Numbers of zones and hwmons change between boots, so all is found by type and name."""

    zones: list[tuple[str, str, Handle]] = field(default_factory=list)
    alerts: list[tuple[str, Handle]] = field(default_factory=list)
    scaled: list[tuple[str, float, Handle]] = field(default_factory=list)
    load: list[Handle] = field(default_factory=list)
    governor: list[Handle] = field(default_factory=list)
    counters: list[tuple[str, Handle]] = field(default_factory=list)
    policies: list[Handle] = field(default_factory=list)
    rails: list[_Rail] = field(default_factory=list)
    handles: list[Handle] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)


class SysfsInstrument:
    """Zones, throttle alerts, over-current counters, the GPU's devfreq, cpufreq, fan, rails and caps below ``root``.

    ``alert_sensors``: how many alerts could be read, so that "none is raised" differs from "there is none to raise".

    A zone whose power is gated answers EAGAIN: that sensor is off. It is not asked again within one reading.
    """

    label = "sysfs"

    def __init__(self, root: Path = Path("/")) -> None:
        self._sys = root / "sys"
        self._layout: _Layout | None = None

    def read(self) -> Reading:
        layout = self._layout = self._layout or self._find()
        reading = Reading(missing=dict(layout.absent))
        self._temperatures(layout, reading)
        states = [(kind, _ask(handle, kind, reading, 1.0)) for kind, handle in layout.alerts]
        reading.alerts.extend(kind for kind, state in states if state)
        if layout.alerts:
            reading.values["alert_sensors"] = float(sum(state is not None for _, state in states))
        for name, divisor, handle in layout.scaled:
            value = _ask(handle, name, reading, divisor)
            if value is not None:
                reading.put(name, value)
        self._load(layout, reading)
        _sum_of("oc_events", [(name, _ask(handle, name, reading, 1.0)) for name, handle in layout.counters], reading)
        clocks = [_ask(handle, "cpu_clock_mhz", reading, 1e3) for handle in layout.policies]
        if known := [clock for clock in clocks if clock is not None]:
            reading.missing.pop("cpu_clock_mhz", None)
            reading.put("cpu_clock_mhz", max(known))
        self._power(layout, reading)
        return reading

    def about(self) -> dict[str, str]:
        """``governor`` of the GPU, ``power_w``: how it is made up, ``gpu``: its devfreq."""
        layout = self._layout
        if layout is None:
            return {}
        told = {}
        if layout.places:
            told["gpu"] = layout.places[0]
        for handle in layout.governor:
            if text := first_text(handle.path):
                told["governor"] = text
        if layout.rails:
            total = _total(layout.rails)
            told["power_w"] = (
                f"rail {total.label}" if total else "the sum of the rails " + ", ".join(r.label for r in layout.rails)
            )
        return told

    def close(self) -> None:
        layout, self._layout = self._layout, None
        for handle in layout.handles if layout else ():
            handle.close()

    def _temperatures(self, layout: _Layout, reading: Reading) -> None:
        for group, name, handle in layout.zones:
            celsius = _ask(handle, name, reading, 1e3)
            if celsius is None:
                if group:
                    reading.missing.setdefault(group, reading.missing[name])
                continue
            reading.put(name, celsius)
            if group and name in reading.values:
                reading.values[group] = max(celsius, reading.values.get(group, celsius))
            elif group:
                reading.missing.setdefault(group, reading.missing[name])
        for group in {group for group, _, _ in layout.zones if group in reading.values}:
            reading.missing.pop(group, None)

    def _load(self, layout: _Layout, reading: Reading) -> None:
        missed = Reading()
        for handle in layout.load:
            load = _ask(handle, "gpu_load_percent", missed, 10.0)
            if load is not None:
                reading.put("gpu_load_percent", load)
                return
        reading.missing.update(missed.missing)

    def _power(self, layout: _Layout, reading: Reading) -> None:
        powers: list[tuple[str, float | None]] = []
        for rail in layout.rails:
            name = f"power_w.{rail.label}"
            try:
                reading.put(name, rail.watts())
            except (OSError, ValueError) as error:
                reading.missing[name] = rail.handle.why(error)
            powers.append((name, reading.values.get(name)))
        if total := _total(layout.rails):
            powers = [(name, watts) for name, watts in powers if name == f"power_w.{total.label}"]
        _sum_of("power_w", powers, reading)

    def _find(self) -> _Layout:
        layout = _Layout(absent=dict(_NO_VALUES))
        self._find_thermal(layout)
        self._find_hwmons(layout)
        self._find_clocks(layout)
        found = {name for group, name, _ in layout.zones} | {group for group, _, _ in layout.zones}
        found |= {name for name, _, _ in layout.scaled}
        found |= {"oc_events"} if layout.counters else set()
        found |= {"power_w"} if layout.rails else set()
        found |= {"gpu_load_percent"} if layout.load else set()
        found |= {"cpu_clock_mhz"} if layout.policies else set()
        for name in found:
            layout.absent.pop(name, None)
        return layout

    def _find_thermal(self, layout: _Layout) -> None:
        for zone, kind in self._kinds("class/thermal", "thermal_zone*", "type"):
            name = _THERM.sub("", kind.lower())
            group = _GROUPS.get(name) or ("soc_temp_c" if _SOC.fullmatch(name) else "")
            taken = {taken for _, taken, _ in layout.zones}
            label = f"temp_c.{name}"
            while label in taken:  # a PC may have two zones of one type
                label += "'"
            layout.zones.append((group, label, _kept(layout, zone / "temp")))
        for device, kind in self._kinds("class/thermal", "cooling_device*", "type"):
            if _ALERT.fullmatch(kind) or _FREQUENCY_CAP.fullmatch(kind):
                layout.alerts.append((kind, _kept(layout, device / "cur_state")))

    def _find_hwmons(self, layout: _Layout) -> None:
        for hwmon, kind in self._kinds("class/hwmon", "hwmon*", "name"):
            if kind == "soctherm_oc":
                for path in sorted(hwmon.glob("oc*_event_cnt")):
                    layout.counters.append((f"{path.name.partition('_')[0]}_events", _kept(layout, path)))
            elif kind == "ina3221":
                self._find_rails(hwmon, layout)
            elif kind == "ina238":
                for path in sorted(hwmon.glob("power*_input")):
                    handle = _kept(layout, path)
                    label = first_text(path.with_name(path.name.replace("_input", "_label"))) or "VIN"
                    layout.rails.append(_Rail(label, lambda handle=handle: handle.number() / 1e6, handle))  # type: ignore[misc]
            elif _FAN.fullmatch(kind.lower()):
                for name, pattern in (("fan_rpm", "fan*_input"), ("fan_rpm", "rpm"), ("fan_pwm", "pwm[0-9]")):
                    for path in sorted(hwmon.glob(pattern))[:1]:
                        layout.scaled.append((name, 1.0, _kept(layout, path)))

    def _find_rails(self, hwmon: Path, layout: _Layout) -> None:
        for path in sorted(hwmon.glob("in*_label")):
            number = path.name.removeprefix("in").removesuffix("_label")
            label, current = first_text(path), hwmon / f"curr{number}_input"
            if not label or label == "NC" or "shunt" in label or not current.exists():
                continue
            volts, amperes = _kept(layout, hwmon / f"in{number}_input"), _kept(layout, current)
            layout.rails.append(
                _Rail(label, lambda v=volts, a=amperes: v.number() * a.number() / 1e6, amperes)  # type: ignore[misc]
            )

    def _find_clocks(self, layout: _Layout) -> None:
        gpu = next((path for path in sorted(self._sys.glob("class/devfreq/*")) if path.name.endswith(_DEVFREQ)), None)
        old_load = self._sys / "devices/platform/gpu.0/load"
        if gpu is not None:
            for name, file in (
                ("gpu_clock_mhz", "cur_freq"), ("gpu_cap_mhz", "max_freq"), ("gpu_least_clock_mhz", "min_freq")
            ):  # fmt: skip
                if (gpu / file).exists():
                    layout.scaled.append((name, 1e6, _kept(layout, gpu / file)))
            layout.load.append(_kept(layout, gpu / "device/load"))
            layout.governor.append(Handle(gpu / "governor"))
            layout.places.append(gpu.name)
        if old_load.exists():
            layout.load.append(_kept(layout, old_load))
        policies = sorted(self._sys.glob("devices/system/cpu/cpufreq/policy*/scaling_cur_freq"))
        layout.policies.extend(_kept(layout, path) for path in policies[:_MOST_POLICIES])
        for name, file in (
            ("emc_cap_mhz", "kernel/nvpmodel_clk_cap/emc"), ("emc_clock_mhz", "kernel/debug/bpmp/debug/clk/emc/rate")
        ):  # fmt: skip
            if gpu is not None:  # elsewhere these files mean nothing
                layout.scaled.append((name, 1e6, _kept(layout, self._sys / file)))

    def _kinds(self, folder: str, pattern: str, label: str) -> Iterator[tuple[Path, str]]:
        for path in sorted((self._sys / folder).glob(pattern), key=lambda path: (len(path.name), path.name)):
            if kind := first_text(path / label):
                yield path, kind


class MemoryInstrument:
    """``/proc/meminfo``: MemAvailable, and the GPU's share of all processes where Tegra's kernel tells it.

    Where it does not (Thor), the share is asked of NvMap's own list, which takes root.
    """

    label = "proc"

    def __init__(self, root: Path = Path("/")) -> None:
        self._meminfo = Handle(root / "proc/meminfo")
        self._clients = Handle(root / "sys/kernel/debug/nvmap/iovmm/clients")

    def read(self) -> Reading:
        reading = Reading()
        try:
            data = self._meminfo.data()
        except OSError as error:
            reading.missing["available_bytes"] = reading.missing["nvmap_bytes"] = self._meminfo.why(error)
            return reading
        for name, key in (("available_bytes", b"MemAvailable"), ("nvmap_bytes", b"NvMapMemUsed")):
            match = re.search(rb"^%b:\s*([0-9]{1,15}) kB" % key, data, re.MULTILINE)
            if match:
                reading.values[name] = int(match[1]) * 1024.0
            else:
                reading.missing[name] = f"no {key.decode()} in /proc/meminfo"
        if "nvmap_bytes" in reading.missing:
            self._nvmap(reading)
        return reading

    def _nvmap(self, reading: Reading) -> None:
        try:
            match = _NVMAP_TOTAL.search(self._clients.data())
        except OSError as error:
            reading.missing["nvmap_bytes"] += f"; {self._clients.why(error)}"
            return
        if match:
            reading.values["nvmap_bytes"] = int(match[1]) * _SIZES[match[2]]
            del reading.missing["nvmap_bytes"]
        else:
            reading.missing["nvmap_bytes"] += "; iovmm/clients: no total"

    def about(self) -> dict[str, str]:
        return {}

    def close(self) -> None:
        self._meminfo.close()
        self._clients.close()


def _kept(layout: _Layout, path: Path) -> Handle:
    handle = Handle(path)
    layout.handles.append(handle)
    return handle


def _ask(handle: Handle, name: str, reading: Reading, divisor: float) -> float | None:
    try:
        return handle.number() / divisor
    except (OSError, ValueError) as error:
        reading.missing[name] = handle.why(error)
        return None


def _sum_of(name: str, parts: list[tuple[str, float | None]], reading: Reading) -> None:
    """A sum that leaves one part out would rise when that part comes back, so it is then unknown."""
    for part, value in parts:
        if value is not None:
            reading.values[part] = value
    if gone := [part for part, value in parts if value is None]:
        reading.missing[name] = f"{', '.join(gone)} cannot be read"
    elif parts:
        reading.values[name] = sum(value for _, value in parts if value is not None)


def _total(rails: list[_Rail]) -> _Rail | None:
    return next((rail for label in TOTAL_RAILS for rail in rails if rail.label == label), None)
