"""Is the board as warm as it gets under this load? Asked about once a second while it runs, answered from the trace (methods A4).

A fan that cycles moves the temperature by degrees for ever: there whole cycles are compared, since the slope of a straight
line through part of a cycle, and even through whole ones, depends on where in the cycle it begins.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, replace

import numpy as np

from harness.instruments.trace import Trace
from harness.statistics.steadiness import SoakRule, slope_c_per_min
from runtime.protocol import Array

__all__ = ["SENSORS", "Soak", "SoakState", "cycle_of", "is_temperature", "temperatures"]

SENSORS = ("tj_temp_c", "gpu_temp_c", "soc_temp_c", "cpu_temp_c")
"""Which temperature decides: the first of these that reads. ``tj`` is the hottest of the module's own sensors."""

_LOST_S = 15.0  # a sensor that is silent for this long is lost; one reading that is missing is a gated rail
_SPANS_S = (300.0, 600.0, 1200.0)  # in which a cycle is looked for: two and a half of it must fit
_LEAST_SWING_C = 0.25  # less moves no slope by 0.5 °C a minute
_FAN_MOVES = 0.15  # of its mean
_NOTHING = np.zeros(0), np.zeros(0)
_NOTHING_NS = np.zeros(0, np.int64), np.zeros(0)
_PLAUSIBLE_C = (-55.0, 150.0)


@dataclass(frozen=True)
class SoakState:
    """``is_steady``: ``None`` where no temperature can say it. ``words``: for a progress line while it lasts, then for the
    record, with what to do where it was given up. ``period_s``: of the fan's (or whatever) cycle, ``None`` without one.
    """

    is_over: bool
    is_steady: bool | None
    waited_s: float
    slope_c_per_min: float | None
    period_s: float | None
    words: str


@dataclass
class _Readings:
    """Of one instrument, in order of time; seconds since the soak began."""

    times_s: array[float]
    values: array[float]

    def since(self, from_s: float) -> tuple[Array, Array]:
        """float64 [n] twice. Copies: an array that lends its memory could not grow."""
        at = int(np.searchsorted(np.frombuffer(self.times_s, np.float64), from_s)) if self.times_s else 0
        return np.array(self.times_s[at:]), np.array(self.values[at:])

    def last_s(self) -> float:
        return self.times_s[-1] if self.times_s else -math.inf


class Soak:
    """Fed with one trace that grows. ``rule`` ``None``: over at once.

    ``is_first``: of its session. A later launch finds the board warm, and waits for a minute at least and half the window
    instead of the whole rule. ``period_s``: of the cycle that an earlier launch found, which saves finding it again.
    A call costs what the new frames cost and a look at the last minutes, whatever the length of the trace.
    """

    def __init__(self, rule: SoakRule | None, *, is_first: bool = True, period_s: float | None = None) -> None:
        if rule is not None and not is_first:
            shorter_s = rule.window_s / 2.0
            rule = replace(rule, window_s=shorter_s, least_s=min(rule.least_s, max(60.0, shorter_s)))
        self.rule = rule
        self._known_period_s = period_s
        self._readings: dict[str, _Readings] = {}
        self._taken = 0
        self._trace: Trace | None = None
        self._sensor = ""
        self._notes: list[str] = []

    def state(self, trace: Trace, begun_ns: int, now_ns: int) -> SoakState:
        """``begun_ns``: when the load began, on the trace's clock; frames before it are not looked at."""
        waited_s = (now_ns - begun_ns) / 1e9
        if self.rule is None:
            return SoakState(True, None, waited_s, None, None, "no soak: this profile only warms up")
        self._take(trace, begun_ns)
        sensor = self._choose(waited_s)
        if not sensor:
            return self._blind(self.rule, waited_s)
        return self._seeing(self.rule, sensor, waited_s)

    def _take(self, trace: Trace, begun_ns: int) -> None:
        if trace is not self._trace:
            self._trace, self._taken, self._readings = trace, 0, {}
        frames = trace.frames[self._taken :]
        self._taken += len(frames)
        for frame in frames:
            if frame.at_ns < begun_ns:
                continue
            for name in (*SENSORS, "fan_pwm", "fan_rpm"):
                value = frame.values.get(name)
                if value is not None and (is_temperature(value) if name in SENSORS else math.isfinite(value)):
                    kept = self._readings.setdefault(name, _Readings(array("d"), array("d")))
                    kept.times_s.append((frame.at_ns - begun_ns) / 1e9)
                    kept.values.append(value)

    def _choose(self, waited_s: float) -> str:
        """The sensor that decides; the same as before as long as it reads. Empty: none does."""
        alive = [name for name in SENSORS if name in self._readings and self._age_s(name, waited_s) <= _LOST_S]
        if self._sensor in alive:
            return self._sensor
        if self._sensor and alive:
            self._notes.append(f"{self._sensor} went away after {self._readings[self._sensor].last_s():.0f} s")
        if alive:
            self._sensor = alive[0]
        return alive[0] if alive else ""

    def _age_s(self, name: str, waited_s: float) -> float:
        return waited_s - self._readings[name].last_s()

    def _blind(self, rule: SoakRule, waited_s: float) -> SoakState:
        if not self._sensor:
            is_over = waited_s >= rule.least_s
            words = f"no temperature sensor: waited {waited_s:.0f} s" + ("" if is_over else f" of {rule.least_s:.0f}")
            return SoakState(is_over, None, waited_s, None, None, words)
        silent_s = self._age_s(self._sensor, waited_s)
        is_over = waited_s >= rule.most_s or (waited_s >= rule.least_s and silent_s >= rule.window_s)
        words = f"{self._sensor} has been silent for {silent_s:.0f} s, and no other temperature reads" + (
            ": whether the board is steady is not known. Look at the board's sensors (trigate doctor) and run again"
            if is_over
            else ""
        )
        return SoakState(is_over, False, waited_s, None, None, self._with_notes(words))

    def _seeing(self, rule: SoakRule, sensor: str, waited_s: float) -> SoakState:
        times, values = self._readings[sensor].since(waited_s - _SPANS_S[-1])
        period_s = cycle_of(times, values) or self._known_period_s
        slope = _slope(times, values, rule.window_s, period_s)
        turns = self._turns(rule, times, values, waited_s) if period_s is None else ""
        is_steady = waited_s >= rule.least_s and slope is not None and abs(slope) < rule.slope_c_per_min and not turns
        is_over = is_steady or waited_s >= rule.most_s
        over = f"over {rule.window_s:.0f} s" if period_s is None else f"over whole cycles of {period_s:.0f} s"
        moves = f"{sensor} {values[-1]:.1f} °C" + ("" if slope is None else f", {slope:+.2f} °C/min {over}")
        if is_steady:
            words = f"steady after {waited_s:.0f} s: {moves}"
        elif not is_over:
            words = f"soaking, {waited_s:.0f} of at most {rule.most_s:.0f} s: {moves}{turns}"
        else:
            words = (
                f"not steady after {waited_s:.0f} s: {moves}{turns}; {rule.slope_c_per_min:g} °C/min was asked for. "
                "Shield the board from draughts and sun, hold its fan at one speed, and run again"
            )
        return SoakState(is_over, is_steady, waited_s, slope, period_s, self._with_notes(words))

    def _turns(self, rule: SoakRule, times_s: Array, values: Array, waited_s: float) -> str:
        """Why a slope near zero is none, in words: a crest looks like a steady state while its cycle is not known yet."""
        for name in ("fan_pwm", "fan_rpm"):
            _, speeds = self._readings[name].since(waited_s - rule.window_s) if name in self._readings else _NOTHING
            if speeds.size and np.ptp(speeds) > _FAN_MOVES * abs(speeds.mean()):
                return f"; the fan still moves, {name[4:]} {speeds.min():.0f} to {speeds.max():.0f}"
            if speeds.size:
                break
        half_s = rule.window_s / 2.0
        early = times_s < times_s[-1] - half_s
        first = slope_c_per_min(times_s[early], values[early], half_s)
        second = slope_c_per_min(times_s, values, half_s)
        if first is None or second is None or abs(second - first) <= 2.0 * rule.slope_c_per_min:
            return ""
        return f"; it turns, {first:+.1f} and then {second:+.1f} °C/min"

    def _with_notes(self, words: str) -> str:
        return "; ".join([words, *self._notes])


def is_temperature(value: float) -> bool:
    """What a working sensor can say: not the 0 of a dead one, nor the -256 of an offline zone."""
    return _PLAUSIBLE_C[0] <= value <= _PLAUSIBLE_C[1] and abs(value) >= 1.0


def temperatures(trace: Trace) -> tuple[Array, Array, str]:
    """(times in ns, int64 [n]; °C, float64 [n]; which sensor) of the one of ``SENSORS`` that decides: the first one that reads
    at most times when any of them does. Empty arrays and an empty name where none reads.
    """
    found = []
    for name in SENSORS:
        times, values = trace.series(name)
        good = (values >= _PLAUSIBLE_C[0]) & (values <= _PLAUSIBLE_C[1]) & (np.abs(values) >= 1.0)
        found.append((times[good], values[good], name))
    most = max(times.size for times, _, _ in found)
    return next(one for one in found if one[0].size >= 0.9 * most) if most else (*_NOTHING_NS, "")


def _slope(times_s: Array, values: Array, window_s: float, period_s: float | None) -> float | None:
    """°C a minute. With a cycle: of the line through the means of the last whole cycles, a window apart or more."""
    if period_s is None:
        return slope_c_per_min(times_s, values, window_s)
    cycles = math.ceil(window_s / period_s) + 1
    from_s = times_s[-1] - cycles * period_s
    if times_s[0] > from_s + 0.1 * period_s:
        return None
    grid_s = from_s + (np.arange(cycles * 64) + 0.5) * period_s / 64
    means = np.interp(grid_s, times_s, values).reshape(cycles, 64).mean(axis=1)
    return float(60.0 * np.polyfit(np.arange(cycles) * period_s, means, 1)[0])


def cycle_of(times_s: Array, values: Array) -> float | None:
    """The period of what swings about its trend, float64 [n] in order of time; ``None`` where nothing does.

    The first peak of the autocorrelation, of at least a half, after its first trough; two and a half cycles are needed,
    of 10 s at least. The trend is a cubic, over the shortest span that shows a cycle: a warm-up bends too.
    """
    if times_s.size < 20:
        return None
    for span_s in _SPANS_S:
        from_s = max(times_s[0], times_s[-1] - span_s)
        period_s = _period(times_s, values, from_s)
        if period_s is not None or from_s == times_s[0]:
            return period_s
    return None


def _period(times_s: Array, values: Array, from_s: float) -> float | None:
    grid_s = np.arange(from_s, times_s[-1], 1.0)
    if grid_s.size < 30:
        return None
    warm = np.interp(grid_s, times_s, values)
    at = np.linspace(-1.0, 1.0, grid_s.size)
    swing = warm - np.polyval(np.polyfit(at, warm, 3), at)
    if float(swing.std()) * math.sqrt(2.0) < _LEAST_SWING_C:
        return None
    power = np.fft.rfft(swing, 2 * swing.size)
    lags = np.fft.irfft(power * np.conj(power))[: int(swing.size / 2.5) + 1]
    # each lag has fewer pairs than the one before: without this a slow cycle's peak would look low
    correlation = lags / lags[0] * swing.size / (swing.size - np.arange(lags.size))
    below = np.flatnonzero(correlation < 0.0)
    if not below.size:
        return None
    after = correlation[below[0] :]
    risen = np.flatnonzero(after > 0.0)
    if not risen.size:
        return None
    start = int(below[0] + risen[0])
    fallen = np.flatnonzero(correlation[start:] < 0.0)
    stop = start + int(fallen[0]) if fallen.size else correlation.size
    peak = start + int(np.argmax(correlation[start:stop]))
    if correlation[peak] < 0.5 or peak < 10 or peak >= correlation.size - 1:
        return None
    left, top, right = correlation[peak - 1 : peak + 2]
    bend = left - 2.0 * top + right
    return float(peak + (0.5 * (left - right) / bend if bend < 0 else 0.0))
