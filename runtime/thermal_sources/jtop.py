"""jetson-stats (jtop 4.3 and 7): the door to that library, which is AGPL-3.0 and therefore optional and never shipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from runtime.errors import TelemetryUnavailableError
from runtime.thermal import SourceReading

__all__ = ["JtopSource", "load_jtop"]


def load_jtop() -> Any:
    """The class ``jtop.jtop``. Raises ``TelemetryUnavailableError``."""
    try:
        return import_module("jtop").jtop
    except ImportError as missing:
        raise TelemetryUnavailableError(
            f"jetson-stats cannot be imported: {missing}.",
            remedy="Install the version that jtop.service runs; client and service must agree.",
        ) from missing


class JtopSource:
    """Asks jtop's service. It knows no throttle alerts and no over-current counters: sysfs says more where it is there.

    ``read`` waits for the service's next sample, at most for three of its intervals of one second.
    """

    def __init__(self, *, load: Callable[[], Any] = load_jtop) -> None:
        self._load = load
        self._client: Any = None

    def read(self) -> SourceReading:
        """Raises ``TelemetryUnavailableError`` without the library, the service, or a right to its socket."""
        try:
            client = self._connected()
            if not client.ok():
                raise TelemetryUnavailableError("jtop's service sent nothing for three seconds.")
            reading = _reading(client.temperature, client.gpu)
        except TelemetryUnavailableError:
            self.close()
            raise
        except Exception as error:  # JtopException, and what sockets and pickles raise beneath it
            self.close()
            raise TelemetryUnavailableError(f"jtop failed: {' '.join(str(error).split()) or repr(error)}") from error
        return reading

    def close(self) -> None:
        """Ends jtop's thread, which jetson-stats 4.3 leaves running even after a ``with``."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.close()

    def _connected(self) -> Any:
        if self._client is None:
            self._client = self._load()(interval=1.0)
            self._client.start()
        return self._client


def _reading(temperatures: Mapping[str, Any], gpus: Mapping[str, Any]) -> SourceReading:
    """From jtop's two mappings: ``{name: {temp, online}}`` in °C, ``{name: {type, status, freq}}`` in % and kHz."""
    zones = {str(name).lower(): dict(value) for name, value in temperatures.items()}
    found = [dict(value) for _, value in gpus.items()]
    gpu = next((value for value in found if value.get("type") == "integrated"), found[0] if found else {})
    clocks, status = gpu.get("freq") or {}, gpu.get("status") or {}
    return SourceReading(
        cpu_temp_c=_online_c(zones.get("cpu")),
        gpu_temp_c=_online_c(zones.get("gpu")),
        clock_mhz=_megahertz(clocks.get("cur")),
        clock_cap_mhz=_megahertz(clocks.get("max")),
        load_percent=status.get("load"),
        governor=clocks.get("governor"),
    )


def _online_c(zone: Mapping[str, Any] | None) -> float | None:
    return zone.get("temp") if zone is not None and zone.get("online", True) else None


def _megahertz(kilohertz: float | None) -> float | None:
    return None if kilohertz is None else kilohertz / 1000.0
