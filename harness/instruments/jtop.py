"""jetson-stats, to describe a board: its service samples once a second, which is too slow to measure.

AGPL-3.0, and therefore optional and never shipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from harness.instruments import Reading
from runtime.thermal_sources.jtop import load_jtop

__all__ = ["JtopInstrument"]

_SPECIAL = {"cpu": "cpu_temp_c", "gpu": "gpu_temp_c", "tj": "tj_temp_c"}


class JtopInstrument:
    """``read`` waits for the service's next sample. ``power_w`` is its value now: its ``avg`` is a smoothing, (new + old) / 2."""

    label = "jtop"

    def __init__(self, *, load: Callable[[], Any] = load_jtop) -> None:
        self._load = load
        self._client: Any = None
        self._about: dict[str, str] = {}

    def read(self) -> Reading:
        """Raises what the library raises: without it, its service, or a right to its socket."""
        try:
            if self._client is None:
                self._client = self._load()(interval=1.0)
                self._client.start()
            client = self._client
            if not client.ok():
                raise TimeoutError("jtop's service sent nothing for three seconds")
        except Exception:
            self.close()
            raise
        reading = Reading()
        for part, take in (
            ("temperature", _temperatures), ("gpu", _gpu), ("memory", _memory), ("power", _power)
        ):  # fmt: skip
            try:
                take(getattr(client, part), reading)
            except (AttributeError, TypeError, ValueError) as error:  # a shape that this version does not know
                reading.missing[f"jtop {part}"] = f"{error!r}"
        self._describe(client)
        return reading

    def about(self) -> dict[str, str]:
        """``governor``, ``power_w`` (which rail is the total), ``power_mode``, ``module``, ``jetpack``."""
        return dict(self._about)

    def close(self) -> None:
        """Ends jtop's thread, which jetson-stats 4.3 leaves running even after a ``with``."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.close()

    def _describe(self, client: Any) -> None:
        hardware = _mapping(_mapping(getattr(client, "board", None)).get("hardware"))
        told = {
            "governor": _mapping(_first_gpu(getattr(client, "gpu", None)).get("freq")).get("governor"),
            "power_w": _mapping(_mapping(getattr(client, "power", None)).get("tot")).get("name"),
            "power_mode": getattr(getattr(client, "nvpmodel", None), "name", None),
            "module": hardware.get("Module"),
            "jetpack": hardware.get("Jetpack"),
            "l4t": hardware.get("L4T"),
        }
        self._about = {name: str(text) for name, text in told.items() if text}


def _temperatures(zones: Mapping[str, Any], reading: Reading) -> None:
    for zone, told in zones.items():
        name = str(zone).lower()
        key = f"temp_c.{name}"
        celsius = told.get("temp")
        if not told.get("online", True) or celsius is None:
            reading.missing[key] = "jtop says offline"
            continue
        reading.put(key, float(celsius))
        special = _SPECIAL.get(name) or ("soc_temp_c" if name.startswith("soc") else "")
        if special and key in reading.values:
            reading.values[special] = max(float(celsius), reading.values.get(special, float(celsius)))


def _gpu(gpus: Mapping[str, Any], reading: Reading) -> None:
    gpu = _first_gpu(gpus)
    clocks, status = _mapping(gpu.get("freq")), _mapping(gpu.get("status"))
    for name, key in (("gpu_clock_mhz", "cur"), ("gpu_cap_mhz", "max"), ("gpu_least_clock_mhz", "min")):
        if clocks.get(key) is not None:
            reading.put(name, float(clocks[key]) / 1e3)  # jtop tells kHz
    if status.get("load") is not None:
        reading.put("gpu_load_percent", float(status["load"]))


def _memory(memory: Mapping[str, Any], reading: Reading) -> None:
    shared = _mapping(memory.get("RAM")).get("shared")
    if shared is not None:
        reading.put("nvmap_bytes", float(shared) * 1024.0)
    emc = _mapping(memory.get("EMC"))
    for name, key in (("emc_clock_mhz", "cur"), ("emc_cap_mhz", "max")):
        if emc.get(key) is not None:
            reading.put(name, float(emc[key]) / 1e3)


def _power(power: Mapping[str, Any], reading: Reading) -> None:
    total = _mapping(power.get("tot")).get("power")
    if total is not None:
        reading.put("power_w", float(total) / 1e3)
    for rail, told in _mapping(power.get("rail")).items():
        if _mapping(told).get("power") is not None and told.get("online", True):
            reading.put(f"power_w.{rail}", float(told["power"]) / 1e3)


def _first_gpu(gpus: Any) -> Mapping[str, Any]:
    found = [_mapping(gpu) for gpu in _mapping(gpus).values()]
    return next((gpu for gpu in found if gpu.get("type") == "integrated"), found[0] if found else {})


def _mapping(value: Any) -> Mapping[str, Any]:
    try:
        return dict(value) if value is not None else {}
    except (TypeError, ValueError):
        return {}
