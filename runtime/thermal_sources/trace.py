"""A recorded trace in place of a board.

JSON lines. The first is the header: ``{"trace": 1, "origin": "...", "licence": "..."}``. Every other line is one moment,
``t_s`` seconds after the first reading, in rising order: either figures under the names of ``SourceReading``'s fields
(those left out are unknown), or ``"offline": "why"`` for a source that answered nothing.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from runtime.errors import ConfigError, TelemetryUnavailableError
from runtime.thermal import SourceReading

__all__ = ["TRACE_VERSION", "TraceSource"]

TRACE_VERSION = 1

_FIELDS = frozenset(entry.name for entry in fields(SourceReading))
_LISTS = frozenset({"throttle_alerts", "clock_limits", "notes"})


@dataclass(frozen=True)
class _Moment:
    t_s: float
    reading: SourceReading | None
    offline: str = ""


class TraceSource:
    """Replays a trace in the time of ``clock`` (monotonic ns), from the first ``read`` on, and again after ``close``.

    A moment holds until the next; the last as long as the one before it, and then the trace is over. Raises
    ``ConfigError`` on construction for a file that is missing or malformed, with the line.
    """

    def __init__(self, path: Path, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._path = path
        self._clock = clock
        self._began_ns: int | None = None
        self.origin, self._moments = _parse(path)
        self._times = [moment.t_s for moment in self._moments]

    @property
    def duration_s(self) -> float:
        """From the first moment to the end of the last."""
        last = self._times[-1]
        return last + (last - self._times[-2] if len(self._times) > 1 else 1.0)

    def read(self) -> SourceReading:
        """Raises ``TelemetryUnavailableError`` where the source was offline, and when the trace is over."""
        now_ns = self._clock()
        if self._began_ns is None:
            self._began_ns = now_ns
        at_s = self._times[0] + (now_ns - self._began_ns) / 1e9
        if at_s >= self.duration_s:
            raise TelemetryUnavailableError(f"the trace {self._path.name} is over, after {self.duration_s:g} s.")
        moment = self._moments[max(bisect_right(self._times, at_s) - 1, 0)]
        if moment.reading is None:
            raise TelemetryUnavailableError(f"offline in the trace {self._path.name}: {moment.offline}.")
        return moment.reading

    def close(self) -> None:
        self._began_ns = None


def _parse(path: Path) -> tuple[str, list[_Moment]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the trace {path} cannot be read: {error}.") from error
    moments: list[_Moment] = []
    origin: str | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            if not isinstance(values, dict):
                raise ValueError("expected a JSON object")  # noqa: TRY004 - the file is wrong, not a caller's type
            if origin is None:
                origin = _origin(values)
            else:
                moments.append(_moment(values, moments[-1].t_s if moments else None))
        except (ValueError, OverflowError, RecursionError) as error:
            raise ConfigError(f"line {number} of the trace {path.name} is wrong: {error}.") from error
    if origin is None or not moments:
        raise ConfigError(f"the trace {path.name} holds no moment; expected a header and at least one.")
    return origin, moments


def _origin(header: dict[str, Any]) -> str:
    if header.get("trace") != TRACE_VERSION:
        raise ValueError(f"trace is {header.get('trace')!r} in the header; this core reads {TRACE_VERSION}")
    if not isinstance(header.get("origin"), str) or not header["origin"]:
        raise ValueError("the header does not say the trace's origin")
    return str(header["origin"])


def _moment(values: dict[str, Any], before_s: float | None) -> _Moment:
    t_s = values.pop("t_s", None)
    if isinstance(t_s, bool) or not isinstance(t_s, (int, float)) or not (before_s or 0.0) <= t_s < float("inf"):
        raise ValueError(f"t_s is {t_s!r}; expected seconds, 0 or more")
    if t_s == before_s:
        raise ValueError(f"t_s is {t_s!r} twice")
    values = {name: value for name, value in values.items() if value is not None}  # null and left out are both unknown
    offline = values.pop("offline", None)
    if offline is not None:
        if values or not isinstance(offline, str):
            raise ValueError("an offline moment has a reason and no figures")
        return _Moment(float(t_s), None, offline)
    if unknown := sorted(set(values) - _FIELDS):
        raise ValueError(f"unknown figures {', '.join(unknown)}; expected some of {', '.join(sorted(_FIELDS))}")
    for name in _LISTS & set(values):
        if not isinstance(values[name], list) or not all(isinstance(text, str) for text in values[name]):
            raise ValueError(f"{name} is {values[name]!r}; expected a list of texts, or nothing")
        values[name] = tuple(values[name])
    if not isinstance(values.get("governor", ""), str):
        raise ValueError(f"governor is {values['governor']!r}; expected a text, or nothing")  # noqa: TRY004 - as above
    return _Moment(float(t_s), SourceReading(**values))
