"""Heat: what a telemetry source says, whether the board is throttled, and the last reading for everybody (TH-01..TH-05).

A source may be slow, wrong or hung. Only the publisher's own thread ever waits for it, and a value that no sensor can
have is unknown, never cool.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from runtime.data import ThermalState
from runtime.errors import ConfigError, TelemetryUnavailableError
from runtime.logs import EventLog, Kind

__all__ = [
    "PLAUSIBLE",
    "POWER_ALERTS",
    "SourceReading",
    "ThermalSource",
    "ThermalStatePublisher",
    "ThrottleCause",
    "ThrottleDetector",
    "Transition",
]

POWER_ALERTS = frozenset({"hw-power-brake", "hw-slowdown"})
"""Alerts of a driver that mean current and not heat (NVML's names, see ``NvmlSource``); every other alert is heat."""

PLAUSIBLE = {
    "cpu_temp_c": (-55.0, 150.0),
    "gpu_temp_c": (-55.0, 150.0),
    "clock_mhz": (10.0, 10_000.0),
    "clock_cap_mhz": (10.0, 10_000.0),
    "load_percent": (0.0, 100.0),
    "over_current_events": (0, 2**63),
}
"""What a working sensor can say. Outside: the -256 of an offline zone, Kelvin, milli-degrees, Hz or kHz, a clock of 0."""


@dataclass(frozen=True)
class SourceReading:
    """What one source saw at one time. ``None``: unknown. Implausible figures become ``None`` here, with a note.

    Temperatures in °C, clocks of the GPU in MHz, ``load_percent`` of the GPU. ``clock_cap_mhz``: the clock that the
    power mode allows. ``throttle_alerts``: alerts of the kernel or the driver that are raised now.
    ``over_current_events``: a counter since boot. ``clock_limits``: why the driver holds the clock down; ``()`` says
    that nothing does, ``None`` that this source cannot tell. ``notes``: why figures are missing.
    """

    cpu_temp_c: float | None = None
    gpu_temp_c: float | None = None
    clock_mhz: float | None = None
    clock_cap_mhz: float | None = None
    load_percent: float | None = None
    governor: str | None = None
    throttle_alerts: tuple[str, ...] = ()
    over_current_events: int | None = None
    clock_limits: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        notes = list(self.notes)
        for name, (low, high) in PLAUSIBLE.items():
            value = getattr(self, name)
            if value is not None and not _is_plausible(name, value, low, high):
                notes.append(f"{name}: {value!r} is not plausible")
                object.__setattr__(self, name, None)
        object.__setattr__(self, "notes", tuple(notes))

    @property
    def is_empty(self) -> bool:
        """True if nothing at all is known, which is no telemetry."""
        return not self.throttle_alerts and all(getattr(self, name) is None for name in PLAUSIBLE)


def _is_plausible(name: str, value: object, low: float, high: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if name == "over_current_events" else (int, float)):
        return False
    # A dead sensor says 0, and 45 °C divided by a thousand once too often is 0.045: neither may pass for a cold board.
    return low <= value <= high and (not name.endswith("_temp_c") or abs(value) >= 1.0)


class ThermalSource(Protocol):
    """Where figures come from. Used by one thread at a time; opens what it needs on the first ``read``."""

    def read(self) -> SourceReading:
        """One reading; may take as long as it likes. Raises ``TelemetryUnavailableError`` with the reason."""
        ...

    def close(self) -> None:
        """Let go of everything. A later ``read`` opens it again."""
        ...


class ThrottleCause(str, Enum):
    """Why a clock is held down. ``CAP``: the cap itself came down, or a power cap of the driver holds the clock."""

    THERMAL = "thermal"
    OVER_CURRENT = "over-current"
    GOVERNOR = "governor"
    CAP = "cap"


@dataclass(frozen=True)
class Transition:
    """Throttling was entered (``throttled``) or left, at this reading. ``causes``: on leaving, all of the episode."""

    throttled: bool
    causes: tuple[ThrottleCause, ...]
    evidence: tuple[str, ...]
    reading: SourceReading


class _Finding(NamedTuple):
    cause: ThrottleCause
    evidence: str


class ThrottleDetector:
    """Tells throttling from a governor that saves power (TH-04). Fed with readings in order; knows no clock.

    An alert, or a rise of the over-current counter, counts at once. A clock under 95 % of its cap counts after three
    readings in a row with a load above 90 %: below that a governor may clock down as it likes. Throttling is left after
    three readings in a row without any of these, where a clock counts as low until it is back at 98 % (or the load is
    down to 80 %). The cap is the highest that was seen since the start: a cap that comes down later is itself a cause.
    A driver that names its reasons (``clock_limits``) is believed: with none, a low clock is a boost table's, and fine.
    """

    READINGS = 3
    SLOW_BELOW, FAST_FROM = 0.95, 0.98  # of the cap: to enter, to leave. One step of an Orin's frequency table is 0.1
    LOADED_ABOVE, EASED_AT = 90.0, 80.0  # per cent: to enter, to leave

    def __init__(self) -> None:
        self._causes: tuple[ThrottleCause, ...] = ()
        self._slow = 0
        self._calm = 0
        self._highest_cap_mhz: float | None = None
        self._events: int | None = None

    @property
    def throttled(self) -> bool:
        return bool(self._causes)

    def update(self, reading: SourceReading) -> Transition | None:
        """Take one reading in; the transition that it makes, if any."""
        findings = [*self._alerts(reading), *self._over_current(reading)]
        slow = self._is_slow(reading)
        self._slow = self._slow + 1 if slow else 0
        if not findings and self._slow >= self.READINGS:
            findings = [self._why_slow(reading)]
        entered = not self.throttled
        self._causes = tuple(dict.fromkeys([*self._causes, *(finding.cause for finding in findings)]))
        if not self.throttled:
            return None
        self._calm = 0 if findings or slow else self._calm + 1
        if entered:
            return Transition(True, self._causes, tuple(finding.evidence for finding in findings), reading)
        if self._calm < self.READINGS:
            return None
        causes, self._causes = self._causes, ()
        return Transition(False, causes, (f"nothing in {self.READINGS} readings",), reading)

    def _alerts(self, reading: SourceReading) -> list[_Finding]:
        return [
            _Finding(ThrottleCause.OVER_CURRENT if alert in POWER_ALERTS else ThrottleCause.THERMAL, alert)
            for alert in reading.throttle_alerts
        ]

    def _over_current(self, reading: SourceReading) -> list[_Finding]:
        before, now = self._events, reading.over_current_events
        if now is None:
            return []
        self._events = now
        if before is None or now <= before:  # the first reading is the baseline, and so is a counter that starts again
            return []
        return [_Finding(ThrottleCause.OVER_CURRENT, f"over-current events {before} -> {now}")]

    def _is_slow(self, reading: SourceReading) -> bool:
        cap, clock, load = reading.clock_cap_mhz, reading.clock_mhz, reading.load_percent
        if cap is not None:
            self._highest_cap_mhz = max(cap, self._highest_cap_mhz or cap)
        if self._highest_cap_mhz is None or clock is None or load is None or reading.clock_limits == ():
            return False
        least = self.FAST_FROM if self.throttled else self.SLOW_BELOW
        return clock < least * self._highest_cap_mhz and load > (self.EASED_AT if self.throttled else self.LOADED_ABOVE)

    def _why_slow(self, reading: SourceReading) -> _Finding:
        cap, clock, highest = reading.clock_cap_mhz, reading.clock_mhz, self._highest_cap_mhz
        seen = f"{clock} MHz under {highest} MHz at {reading.load_percent} % load"
        if reading.clock_limits:
            return _Finding(ThrottleCause.CAP, f"{seen}: {', '.join(reading.clock_limits)}")
        if cap is not None and clock is not None and clock >= self.SLOW_BELOW * cap:
            return _Finding(ThrottleCause.CAP, f"{seen}: the cap came down to {cap} MHz")
        return _Finding(ThrottleCause.GOVERNOR, f"{seen}: governor {reading.governor or 'unknown'}")


class _Session:
    """What the threads of one start share. A thread left behind by ``stop`` writes here, where nobody reads any more."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.state: ThermalState | None = None
        self.failure = ""
        self.threads: tuple[threading.Thread, ...] = ()


class ThermalStatePublisher:
    """The last reading of one source, for any number of readers (TH-01).

    One daemon thread polls the source every ``period_s``; another one watches it, so that a hung source is reported
    too. ``read`` takes no lock. A reading older than three periods is no reading. Start and stop may be called in any
    order and number, from any thread; a source that was hung when stopped is not entered by a second thread.
    """

    STALE_AFTER_PERIODS = 3
    STOP_WITHIN_S = 1.5

    def __init__(
        self,
        source: ThermalSource,
        *,
        period_s: float = 1.0,
        log: EventLog | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        if not 0.0 < period_s <= 60.0:
            raise ConfigError(f"period_s is {period_s!r}; expected seconds above 0, up to 60.")
        self._source = source
        self._period_s = period_s
        self._stale_after_ns = int(self.STALE_AFTER_PERIODS * period_s * 1e9)
        self._log = log if log is not None else EventLog()
        self._clock = clock
        self._session: _Session | None = None
        self._life = threading.Lock()
        self._source_use = threading.Lock()

    def start(self) -> None:
        """Begin to poll; nothing if it is running."""
        with self._life:
            if self._session is not None:
                return
            session = _Session()
            session.threads = (
                threading.Thread(target=self._poll, args=(session,), name="thermal-poll", daemon=True),
                threading.Thread(target=self._watch, args=(session,), name="thermal-watch", daemon=True),
            )
            for thread in session.threads:
                thread.start()
            self._session = session

    def stop(self) -> None:
        """From here on nothing is published. Returns within two seconds, with the source closed if it answers by then."""
        with self._life:
            session, self._session = self._session, None
        if session is None:
            return
        session.stopping.set()
        deadline_s = time.monotonic() + self.STOP_WITHIN_S
        for thread in session.threads:
            if thread is not threading.current_thread():  # a log's callback may stop us
                thread.join(max(0.0, deadline_s - time.monotonic()))

    def read(self) -> ThermalState:
        """The last reading, or ``ThermalState.unknown``: one reference, no lock, no I/O."""
        session, now_ns = self._session, self._clock()
        state = session.state if session is not None else None
        return state if state is not None and self._is_fresh(state, now_ns) else ThermalState.unknown(now_ns)

    def _is_fresh(self, state: ThermalState, now_ns: int) -> bool:
        return now_ns - state.measured_at_ns <= self._stale_after_ns

    def _poll(self, session: _Session) -> None:
        while not self._source_use.acquire(timeout=self._period_s):  # a thread of an earlier start hangs in the source
            if session.stopping.is_set():
                return
        try:
            detector = ThrottleDetector()
            while not session.stopping.is_set():
                began_ns = self._clock()
                self._sample(session, detector, began_ns)
                spent_s = (self._clock() - began_ns) / 1e9
                session.stopping.wait(min(max(self._period_s - spent_s, 0.0), self._period_s))
        finally:
            with suppress(Exception):
                self._source.close()
            self._source_use.release()

    def _sample(self, session: _Session, detector: ThrottleDetector, began_ns: int) -> None:
        """One poll. The reading carries the time before the source was asked, so that a slow source makes it older."""
        try:
            reading = self._source.read()
            if reading.is_empty:
                raise TelemetryUnavailableError("; ".join(reading.notes) or "the source knows no figure.")
            transition = detector.update(reading)
        except TelemetryUnavailableError as error:
            session.failure = str(error)
            return
        except Exception as error:  # a defect of a source must cost telemetry, not the flight
            session.failure = f"the source failed: {error!r}"
            return
        session.failure = ""
        session.state = ThermalState(
            cpu_temp_c=reading.cpu_temp_c,
            gpu_temp_c=reading.gpu_temp_c,
            thermal_throttle_active=detector.throttled,
            measured_clock_mhz=reading.clock_mhz,
            measured_at_ns=began_ns,
            is_telemetry_available=True,
        )
        if transition is not None and not session.stopping.is_set():
            self._report(transition)

    def _report(self, transition: Transition) -> None:
        self._log.warn(
            Kind.THROTTLE_ENTERED if transition.throttled else Kind.THROTTLE_LEFT,
            causes=[cause.value for cause in transition.causes],
            evidence=list(transition.evidence),
            cpu_temp_c=transition.reading.cpu_temp_c,
            gpu_temp_c=transition.reading.gpu_temp_c,
            clock_mhz=transition.reading.clock_mhz,
        )

    def _watch(self, session: _Session) -> None:
        """One WARN when telemetry is lost, one INFO when it is back (TH-03)."""
        began_ns, lost = self._clock(), False
        while not session.stopping.wait(self._period_s / 2):
            now_ns, state, failure = self._clock(), session.state, session.failure
            if state is not None and self._is_fresh(state, now_ns):
                if lost:
                    self._log.info(Kind.TELEMETRY_BACK, gpu_temp_c=state.gpu_temp_c, clock_mhz=state.measured_clock_mhz)
                lost = False
            elif not lost and (state is not None or failure or now_ns - began_ns > self._stale_after_ns):
                silent_s = round((now_ns - (state.measured_at_ns if state is not None else began_ns)) / 1e9, 3)
                self._log.warn(Kind.TELEMETRY_LOST, reason=failure or "the source does not answer.", silent_s=silent_s)
                lost = True
