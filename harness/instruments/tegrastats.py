"""Lines of ``tegrastats``, of every JetPack that is known (4 to 7.2), as frames. The format has no grammar: sysfs is better.

What a token does not say is absent: a sensor that is offline (-256C), a CPU that is ``off``, the load that Thor leaves out of
``GR3D_FREQ``. Tokens that are not understood are kept in ``missing`` under ``token <text>``; nothing is ever raised.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from statistics import fmean

from harness.instruments import Reading
from harness.instruments.sysfs import TOTAL_RAILS
from harness.instruments.trace import Frame

__all__ = ["looks_like", "parse", "wall_ns"]

_DATE = re.compile(r"\s*(\d\d)-(\d\d)-(\d{4}) (\d\d):(\d\d):(\d\d)(?=\s|$)")
_NUMBER = r"-?\d{1,9}(?:\.\d{1,6})?"
_RAM = re.compile(r"(RAM|SWAP|IRAM) (\d{1,9})/(\d{1,9})([kKM])B(?: ?\((lfb|cached) ([^)]*)\))?")
_CPU = re.compile(r"CPU \[([^\]]*)\]")
_CORE = re.compile(rf"({_NUMBER})%(?:@(\d{{1,6}}))?")
_GPU = re.compile(rf"GR3D_FREQ(?: ({_NUMBER})%)?(?: ?@(?:\[([0-9, ]*)\]|(\d{{1,6}})))?")
_EMC = re.compile(rf"EMC_FREQ ({_NUMBER})%(?:@(\d{{1,6}}))?")
_TEMPERATURE = re.compile(rf"([A-Za-z][\w.-]*)@({_NUMBER})C(?:/{_NUMBER}C)?(?=\s|$)")
_RAIL = re.compile(r"([A-Z][A-Z0-9_]*) (\d{1,9})(?:mW)?(?:/(\d{1,9})(?:mW)?){1,2}(?=\s|$)")
_ENGINE = re.compile(rf"([A-Z][A-Za-z0-9_]*) (?:off|({_NUMBER})%(?:@(\d{{1,6}}))?|(\d{{1,6}})|@?\[[^\]]*\])(?=\s|$)")
_MTS = re.compile(rf"MTS fg ({_NUMBER})% bg ({_NUMBER})%")
_OFFLINE_C = -256.0
_UNITS = {"k": 1024.0, "K": 1024.0, "M": 1048576.0}
_SPECIAL = {"cpu": "cpu_temp_c", "gpu": "gpu_temp_c", "tj": "tj_temp_c"}


def looks_like(line: str) -> bool:
    """Whether it is one of tegrastats' lines."""
    return _RAM.search(line[:400]) is not None


def wall_ns(line: str) -> int | None:
    """The date at its start (JetPack 5 and later; local time, whole seconds) as ns on a clock of its own; else ``None``."""
    match = _DATE.match(line)
    if match is None:
        return None
    month, day, year, *clock = (int(text) for text in match.groups())
    with suppress(ValueError, OverflowError):
        time.strptime(f"{year}-{month}-{day}", "%Y-%m-%d")
        if clock[0] < 24 and clock[1] < 60 and clock[2] < 61:
            return calendar.timegm((year, month, day, *clock)) * 1_000_000_000
    return None


def parse(line: str, at_ns: int) -> Frame:
    """One line as a frame at ``at_ns``; values as there.

    Also ``ram_used_bytes``, ``ram_total_bytes``, ``swap_used_bytes``, ``lfb_blocks``, ``lfb_bytes`` (of the largest free block),
    ``cpu_load_percent`` (mean of the CPUs that are on), ``cpus_online``, ``emc_load_percent``, ``power_mean_w.<RAIL>``
    (tegrastats' own mean since its start), ``engine_mhz.<NAME>``. A rail is in mW with or without the unit. Of two
    temperatures the first is taken, and of three powers the first two: what the others mean is not documented.
    """
    reading = Reading()
    rest = _DATE.sub("", line, count=1)
    for pattern, take in (
        (_RAM, _memory), (_CPU, _cpus), (_GPU, _gpu), (_EMC, _emc), (_MTS, _nothing), (_TEMPERATURE, _temperature),
        (_RAIL, _rail), (_ENGINE, _engine),
    ):  # fmt: skip
        for match in pattern.finditer(rest):
            take(match, reading)
        rest = pattern.sub(" | ", rest)
    for token in rest.split("|"):
        if token.strip():
            reading.missing[f"token {' '.join(token.split())[:80]}"] = "not understood"
    _total(reading)
    missing = {name: why for name, why in reading.missing.items() if name not in reading.values}  # a token twice
    return Frame(at_ns, reading.values, (), missing)


Match = re.Match[str]


def _nothing(match: Match, reading: Reading) -> None:
    """Understood, and of no use here."""


def _memory(match: Match, reading: Reading) -> None:
    kind, used, total, unit, note, text = match.groups()
    reading.values[f"{kind.lower()}_used_bytes"] = int(used) * _UNITS[unit]
    reading.values[f"{kind.lower()}_total_bytes"] = int(total) * _UNITS[unit]
    if note == "lfb" and (block := re.fullmatch(r"(\d{1,9})x(\d{1,9})([kKM])B", text)):
        reading.values["lfb_blocks"] = float(block[1])
        reading.values["lfb_bytes"] = int(block[2]) * _UNITS[block[3]]


def _cpus(match: Match, reading: Reading) -> None:
    cores = [_CORE.fullmatch(text.strip()) for text in match[1].split(",")]
    on = [core for core in cores if core is not None]
    if not on:
        reading.missing["cpu_load_percent"] = "no CPU is on in this line"
        return
    reading.values["cpus_online"] = float(len(on))
    reading.put("cpu_load_percent", fmean(float(core[1]) for core in on))
    if clocks := [float(core[2]) for core in on if core[2]]:
        reading.put("cpu_clock_mhz", max(clocks))


def _gpu(match: Match, reading: Reading) -> None:
    load, several, one = match.groups()
    if load is not None:
        reading.put("gpu_load_percent", float(load))
    else:
        reading.missing["gpu_load_percent"] = "this line's GR3D_FREQ gives no load"
    clocks = [float(text) for text in (several or one or "").replace(",", " ").split()]
    if clocks and max(clocks) > 0:
        reading.put("gpu_clock_mhz", max(clocks))  # one figure per cluster; one that is gated says 0
    else:
        reading.missing["gpu_clock_mhz"] = (
            "the GPU is gated" if clocks else "this line's GR3D_FREQ gives no clock (that takes root)"
        )


def _emc(match: Match, reading: Reading) -> None:
    reading.put("emc_load_percent", float(match[1]))
    if match[2]:
        reading.put("emc_clock_mhz", float(match[2]))


def _temperature(match: Match, reading: Reading) -> None:
    zone, celsius = match[1].lower(), float(match[2])
    name = f"temp_c.{zone}"
    if celsius <= _OFFLINE_C:
        reading.missing.update(
            dict.fromkeys(filter(None, (name, _SPECIAL.get(zone))), "the sensor is off (its power is gated)")
        )
        return
    reading.put(name, celsius)
    special = _SPECIAL.get(zone) or ("soc_temp_c" if re.fullmatch(r"soc\d*", zone) else "")
    if special and name in reading.values:
        reading.values[special] = max(celsius, reading.values.get(special, celsius))


def _rail(match: Match, reading: Reading) -> None:
    reading.put(f"power_w.{match[1]}", int(match[2]) / 1e3)
    means: Sequence[str] = re.findall(r"/(\d+)", match[0])
    reading.put(f"power_mean_w.{match[1]}", int(means[0]) / 1e3)


def _engine(match: Match, reading: Reading) -> None:
    clock = match[3] or match[4]
    if clock:
        reading.values[f"engine_mhz.{match[1]}"] = float(clock)


def _total(reading: Reading) -> None:
    rails = {
        name.removeprefix("power_w."): watts for name, watts in reading.values.items() if name.startswith("power_w.")
    }
    total = next((rails[label] for label in TOTAL_RAILS if label in rails), None)
    if total is not None:
        reading.put("power_w", total)
    elif rails:
        reading.put("power_w", sum(rails.values()))
