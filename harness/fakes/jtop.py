"""The face of a simulated device that looks like ``jtop`` (jetson-stats), in virtual time.

What a planned fault of ``jtop.start`` or ``jtop.ok`` names is the text of the ``JtopException`` that is raised.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from harness.fakes.device import SimulatedDevice
from harness.fakes.meters import Meters

__all__ = ["make_jtop"]

_NO_SERVICE = "The jtop.service is not active. Please run:\nsudo jtop --install-service"
_OFFLINE = {"temp": -256.0, "online": False}
"""A zone that is powered off."""


class JtopException(Exception):  # noqa: N818  # the library's name
    """All that jetson-stats raises."""


def make_jtop(device: SimulatedDevice) -> ModuleType:
    """A module ``jtop`` whose class ``jtop`` reads ``device``; without a service where that is no Jetson."""
    module = ModuleType("jtop", make_jtop.__doc__)
    made = type("jtop", (_Jtop,), {"_device": device, "_meters": Meters(device), "__module__": "jtop"})
    vars(module).update(jtop=made, JtopException=JtopException, __version__="7.2.2")
    return module


class _Jtop:
    """A client. ``ok`` waits for the next sample, which takes one interval of virtual time."""

    _device: SimulatedDevice
    _meters: Meters

    def __init__(self, interval: float = 1.0) -> None:
        self._interval = interval
        self._is_running = False
        self._observers: list[Any] = []

    def start(self) -> None:
        error = self._device.enter("jtop.start", needs_device=False)
        if error is None and not self._device.is_integrated:
            error = _NO_SERVICE
        if error is not None:
            raise JtopException(error)
        self._is_running = True

    def ok(self, spin: bool = False) -> bool:
        if not self._is_running:
            return False
        error = self._device.enter("jtop.ok", needs_device=False)
        if error is not None:
            self._is_running = False
            raise JtopException(error)
        if not spin:
            self._device.clock.sleep(self._interval)
        for observer in self._observers:
            observer(self)
        return True

    def close(self) -> None:
        self._is_running = False

    def attach(self, observer: Any) -> None:
        self._observers.append(observer)

    def detach(self, observer: Any) -> None:
        self._observers.remove(observer)

    def __enter__(self) -> _Jtop:
        self.start()
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        self.close()

    @property
    def interval(self) -> float:
        return self._interval

    @property
    def temperature(self) -> dict[str, Any]:
        celsius = self._device.thermal.temperature_c
        board = self._device.thermal.board
        zones = {
            name: {"temp": celsius - cooler, "online": True, "max": board.passive_c, "crit": board.critical_c}
            for name, cooler in (("cpu", 1.5), ("gpu", 0.5), ("soc0", 2.0), ("tj", 0.0))
        }
        return {**zones, "cv0": dict(_OFFLINE)}

    @property
    def gpu(self) -> dict[str, Any]:
        thermal = self._device.thermal
        khz = {name: 1000 * mhz for name, mhz in (("cur", thermal.clock_mhz), ("max", thermal.max_clock_mhz))}
        return {
            "gpu": {
                "type": "integrated",
                "status": {
                    "railgate": False,
                    "tpc_pg_mask": False,
                    "3d_scaling": True,
                    "load": self._meters.load * 100,
                },
                "freq": {
                    "governor": "nvhost_podgov",
                    **khz,
                    "min": 1000 * thermal.board.clocks_mhz[0],
                    "GPC": [khz["cur"]],
                },
                "power_control": "auto",
            }
        }

    @property
    def memory(self) -> dict[str, Any]:
        total, free = self._device.memory_bytes >> 10, self._device.free_bytes >> 10
        shared = (self._device.live_bytes + self._device.live_host_bytes) >> 10
        ram = {"tot": total, "used": total - free, "free": free, "buffers": 0, "cached": 0, "shared": shared, "lfb": 0}
        return {"RAM": ram, "SWAP": {"tot": 0, "used": 0, "cached": 0, "table": {}}}

    @property
    def power(self) -> dict[str, Any]:
        milliwatts = round(self._device.thermal.power_w * 1000)
        total = {"online": True, "type": "INA3221", "volt": 5000, "curr": milliwatts // 5, "power": milliwatts}
        return {"rail": {}, "tot": {**total, "avg": milliwatts, "name": "VDD_IN"}}
