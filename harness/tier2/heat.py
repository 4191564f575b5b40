"""The row about heat: the flight mix for a long time, and whether its p95 is kept when the board is as hot as it gets.

Two questions are asked of the same calls: is the budget kept over all of the sustained time, and in its hottest minutes?
Each is given half of the profile's alpha.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.gates import worst
from harness.instruments.trace import Trace
from harness.profiles import Profile
from harness.records import (
    Check,
    Figure,
    Judgement,
    LatencyFigures,
    LaunchFigures,
    Measurement,
    Outcome,
    Quantile,
    Summary,
    Verdict,
)
from harness.statistics.quantiles import latency_figures, quantile
from harness.statistics.sequential import BOUNDARY, Evidence
from harness.statistics.steadiness import SoakRule
from harness.statistics.stopping import BudgetRule, Ruling
from harness.tier2.align import Alignment, align
from harness.tier2.causes import Cause, cause
from harness.tier2.heat_figures import NOT_APPLICABLE, absent, blocks, cool_down, episodes, figures, means
from harness.tier2.load import latencies_ns, missed, select
from harness.tier2.soak import Soak, SoakState, temperatures
from runtime.protocol import Array

__all__ = [
    "OWN_CHECKS",
    "Cause",
    "Soak",
    "SoakState",
    "blocks",
    "cause",
    "cool_down",
    "episodes",
    "figures",
    "judge_heat",
]

OWN_CHECKS = frozenset({"sustained", "hottest", "soak", "telemetry", "duration", "state"})
"""Checks that ``judge_heat`` finds from samples; any other of a row came from who measured it."""

_MINUTE_NS = 60_000_000_000
_HOT_C = 2.0  # so near to the hottest minute, a minute is as hot
_HOT_CALLS = 600  # the next hottest minutes come in where fewer could not decide
_GAP_S = 15.0  # without a temperature, what was hottest is not known
_WHOLE = 0.9  # of the sustained time; less is a run that ended early
_AFTER_S = 5.0  # a cap that comes down this near to an alert was lowered by what raised it


def judge_heat(
    measurement: Measurement,
    columns: Mapping[str, Array],
    trace: Trace,
    *,
    budget_ns: int | None,
    profile: Profile,
    is_open: bool,
    state_checks: Sequence[Check] = (),
    soak: Mapping[str, Any] | None = None,
    floor: float | None = None,
    stream: int | None = None,
) -> Verdict:
    """The verdict of one sustained launch. Pure.

    ``columns``: as ``SampleLog.columns``, one launch, soak and all; ``stream``: which of its streams the budget is about
    (``None``: all). ``soak``: as in ``Seen.soak``; without it, what the trace says of it. ``floor``: the design effect from
    history.

    FAIL: the budget is not kept, over all or in the hottest minutes, with the cause. INCONCLUSIVE: open, or the board was
    not steady, changed its state, was not seen, or the run was cut short. NOT RUN: no temperature sensor. MEASURED: no budget.
    A board in another state than declared decides nothing, whatever else was seen.
    """
    own = select(columns, phase=None, stream=stream)
    order = np.argsort(own["scheduled_ns"], kind="stable")
    own = {name: values[order] for name, values in own.items()}
    rows = select(own)
    is_seen = bool(temperatures(trace)[0].size)
    if not rows["status"].size:
        reason = f"nothing was measured: {measurement.incomplete or 'not one call was judged'}"
        outcome = Outcome.INCONCLUSIVE if is_seen else Outcome.NOT_RUN
        return Verdict(Summary(measurement), outcome, reason if is_seen else NOT_APPLICABLE)
    run = _Sustained.of(own, rows, trace, is_open)
    if not is_seen:
        return Verdict(Summary(measurement, latency=run.latency()), Outcome.NOT_RUN, NOT_APPLICABLE)
    checks = [*state_checks, *_cap_kept(trace, run)]
    gravest = [check for check in checks if check.outcome is Outcome.INCONCLUSIVE]
    checks += [_warmed(profile, run, trace, soak), _seen_all_along(run), _long_enough(measurement, profile, run)]
    latency, shown = run.latency(), figures(own, trace, is_open, aligned=run.aligned)
    if budget_ns is None:
        caveats = [check.reason for check in checks if check.outcome is Outcome.INCONCLUSIVE]
        reason = "; ".join([f"{run.words(latency)}; no budget applies to this board", *caveats])
        outcome = Outcome.MEASURED if latency is not None else Outcome.FAIL
        return Verdict(Summary(measurement, latency=latency, figures=shown), outcome, reason, tuple(checks))
    judged = _Judged.of(run, budget_ns, profile, floor)
    checks += judged.checks(run, budget_ns)
    why = cause(columns, trace, budget_ns, is_open, stream=stream) if judged.is_over else Cause("none", "")
    deciding = gravest[0] if gravest else worst([check for check in checks if check.outcome is not Outcome.NOT_RUN])
    reason = deciding.reason
    if deciding.outcome is Outcome.PASS:
        reason = f"{run.words(latency)}; {judged.hot_words(run)}"
    elif judged.is_over:
        reason = f"{reason}; {why.words}"
    summary = Summary(
        measurement,
        latency=latency,
        figures=(*shown, *judged.figures, *why.figures),
        judgement=judged.judgement(run, latency, budget_ns, why),
    )
    remedy = _REMEDY.get(why.name, "") if deciding.outcome is Outcome.FAIL else ""
    return Verdict(summary, deciding.outcome, reason, tuple(checks), remedy=remedy)


_REMEDY = {
    "thermal": "Cool the board better, or choose a power mode that it can keep when hot.",
    "over-current": "Choose a power mode with lower clocks, or a supply that gives the current.",
    "governor": "Pin the clocks (sudo jetson_clocks) and run again.",
    "cap": "Set the power mode that the budget was made for (sudo nvpmodel -m ...), and run again.",
}


@dataclass(frozen=True)
class _Sustained:
    """The judged rows of one launch beside its temperatures. ``hot``: bool [n], in the hottest minutes.

    A board that throttles is as hot as it gets, however its temperature reads: where it did for whole minutes, these are the
    hottest. Minutes in which it throttled now and then say nothing else than the others: all their calls count.
    """

    rows: Mapping[str, Array]
    begin_ns: int
    start_ns: int
    end_ns: int
    latency_ns: Array
    missed: Array
    hot: Array
    hot_words: str
    gap_s: float
    sensor: str
    aligned: Alignment

    @classmethod
    def of(cls, own: Mapping[str, Array], rows: dict[str, Array], trace: Trace, is_open: bool) -> _Sustained:
        begin_ns, start_ns, end_ns = (
            int(own["scheduled_ns"].min()),
            int(rows["scheduled_ns"][0]),
            int(rows["done_ns"].max()),
        )
        aligned = align(rows, trace)
        count = max(1, round((end_ns - start_ns) / _MINUTE_NS))
        edges = np.linspace(start_ns, end_ns + 1, count + 1)
        of_call = np.clip(np.searchsorted(edges, rows["scheduled_ns"], side="right") - 1, 0, count - 1)
        times, temps, sensor = temperatures(trace)
        warm = means(times, temps, edges)
        ranked = np.argsort(-np.nan_to_num(warm, nan=-np.inf), kind="stable")
        kept = _wholly(of_call, aligned.throttled, count)
        throttled = bool(kept.any())
        if not throttled:
            kept = np.asarray(warm >= warm[ranked[0]] - _HOT_C)
            kept[ranked[: math.ceil(_HOT_CALLS * count / of_call.size)]] = True
        inside = times[(times >= start_ns) & (times <= end_ns)]
        gap_ns = int(np.diff(np.concatenate([[start_ns], inside, [end_ns]])).max())
        usual_ns = float(np.median(np.diff(inside))) if inside.size > 1 else 0.0
        gap_s = gap_ns / 1e9 if gap_ns > max(_GAP_S * 1e9, 3.0 * usual_ns) else 0.0
        return cls(
            rows, begin_ns, start_ns, end_ns, latencies_ns(rows, is_open), missed(rows), kept[of_call],
            _which(kept, warm, throttled),
            gap_s, sensor, aligned,
        )  # fmt: skip

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9

    def latency(self) -> LatencyFigures | None:
        good = self.latency_ns[~self.missed]
        if not good.size:
            return None
        return latency_figures(good, int(self.missed.sum()), self.end_ns - self.start_ns)

    def words(self, latency: LatencyFigures | None) -> str:
        if latency is None:
            return f"every one of {self.missed.size} calls failed"
        share = self.aligned.share
        throttled = (
            "" if share is None else f", held while throttled {100 * share:.0f} %" if share else ", never throttled"
        )
        return f"p95 {_ms(latency.p95)} over {self.seconds:.0f} s{throttled}"


@dataclass(frozen=True)
class _Judged:
    """The two answers, and the p95 of the hottest minutes."""

    rule: BudgetRule
    whole: Ruling
    hottest: Ruling
    figures: tuple[Figure, ...]

    @classmethod
    def of(cls, run: _Sustained, budget_ns: int, profile: Profile, floor: float | None) -> _Judged:
        count = run.missed.size
        rate_hz = count / max(run.seconds, 1e-9)
        rule = BudgetRule(budget_ns, rate_hz, profile.alpha / 2.0, count, count, floor, profile.needs_floor)
        hot_latency, hot_missed = run.latency_ns[run.hot], run.missed[run.hot]
        source = f"{run.hot_words} ({run.sensor})"
        good = hot_latency[~hot_missed]
        if good.size:
            p95 = quantile(good, 0.95, failed=int(hot_missed.sum()))
            low, high = (None if bound is None else float(bound) for bound in (p95.low_ns, p95.high_ns))
            shown = Figure("hottest_p95_ns", float(p95.value_ns), "ns", source, low, high)
        else:
            shown = absent("hottest_p95_ns", "ns", "no call succeeded in the hottest minutes")
        whole = hottest = rule.judge(run.latency_ns, run.missed)
        if not run.hot.all():
            hottest = rule.judge(hot_latency, hot_missed)
            seen = hottest.evidence  # minutes that lie apart have no drift
            outcome = seen.outcome(alpha_pass=rule.alpha, alpha_fail=rule.alpha)
            more = "" if outcome is not Outcome.INCONCLUSIVE else f": {rule.wanted_words(hottest.needed)}"
            hottest = replace(
                hottest, outcome=outcome, reason=f"{seen.exceedances} of {seen.count} over the budget{more}"
            )
        return cls(rule, whole, hottest, (shown,))

    @property
    def is_over(self) -> bool:
        """Whether more calls than may be exceeded, decided or not: then there is a cause to name."""
        return any(one.evidence.exceedances > BOUNDARY * one.evidence.count for one in (self.whole, self.hottest))

    def checks(self, run: _Sustained, budget_ns: int) -> list[Check]:
        limit = f"p95 <= {budget_ns / 1e6:g} ms"
        return [
            Check("sustained", self.whole.outcome, f"{limit} over the sustained time: {self.whole.reason}"),
            Check("hottest", self.hottest.outcome, f"{limit} in {run.hot_words}: {self.hottest.reason}"),
        ]

    def hot_words(self, run: _Sustained) -> str:
        p95 = self.figures[0]
        value = "" if p95.value is None else f", p95 {p95.value / 1e6:.3g} ms"
        return f"held {'' if run.hot.all() else 'too '}in {run.hot_words}{value}"

    def judgement(self, run: _Sustained, latency: LatencyFigures | None, budget_ns: int, why: Cause) -> Judgement:
        seen: Evidence = self.whole.evidence
        known = run.aligned.known.any()
        one = LaunchFigures(
            launch=int(run.rows["launch"][0]),
            count=seen.count,
            failed=int(run.missed.sum()),
            p50_ns=None if latency is None else latency.p50.value_ns,
            p95_ns=None if latency is None else latency.p95.value_ns,
            exceedances=seen.exceedances,
            throttled=int(run.aligned.throttled.sum()) if known else None,
            effect=seen.effect,
            log_pass=_finite(seen.log_pass),
            log_fail=_finite(seen.log_fail),
            outcome=self.whole.outcome,
            reason=self.whole.reason,
        )
        moved = self.whole.drift
        return Judgement(
            rule="p95 over the sustained time, and in its hottest minutes; half of alpha for each",
            budget_ns=budget_ns,
            alpha=2.0 * self.rule.alpha,
            floor=self.rule.floor,
            floor_source="" if self.rule.floor is None else "history",
            effect=seen.effect,
            bound_ns=self.whole.bound_ns,
            drift=None if moved is None else moved.change,
            needed=max((n for n in (self.whole.needed, self.hottest.needed) if n is not None), default=None),
            blind_spot=self.rule.blind_spot(seen.count),
            launches=(one,),
            cause=f"{why.name}: {why.words}" if self.is_over else "",
        )


def _warmed(profile: Profile, run: _Sustained, trace: Trace, soak: Mapping[str, Any] | None) -> Check:
    """The soak as it was told, or as the trace tells it: then a little more slope is let pass, since calls came between."""
    if profile.soak is None:
        reason = f"the profile {profile.name} has no soak: the board was measured as it came. Take --profile pr"
        return Check("soak", Outcome.INCONCLUSIVE, reason)
    if soak:
        steady, words = soak.get("is_steady"), str(soak.get("words", ""))
    else:
        state = _seen_soak(profile.soak, run, trace)
        steady, words = (
            state.is_steady,
            state.words if state.is_over else f"measured before it was steady: {state.words}",
        )
    return Check("soak", Outcome.PASS if steady else Outcome.INCONCLUSIVE, words or "nothing is known of the soak")


def _seen_soak(rule: SoakRule, run: _Sustained, trace: Trace) -> SoakState:
    waited_s = (run.start_ns - run.begin_ns) / 1e9
    slack = replace(rule, slope_c_per_min=1.25 * rule.slope_c_per_min)
    return Soak(slack, is_first=waited_s >= rule.least_s).state(_until(trace, run.start_ns), run.begin_ns, run.start_ns)


def _seen_all_along(run: _Sustained) -> Check:
    if run.gap_s:
        reason = f"no temperature was read for {run.gap_s:.0f} s while it was measured: what was hottest is not known"
        return Check("telemetry", Outcome.INCONCLUSIVE, f"{reason}. Look at the board's sensors (trigate doctor)")
    return Check("telemetry", Outcome.PASS, f"{run.sensor} was read all along")


def _long_enough(measurement: Measurement, profile: Profile, run: _Sustained) -> Check:
    words = f"measured for {run.seconds:.0f} of {profile.sustained_s:.0f} s"
    if measurement.incomplete:
        return Check("duration", Outcome.INCONCLUSIVE, f"{words}: {measurement.incomplete}")
    if run.seconds < max(_WHOLE * profile.sustained_s, 60.0):
        return Check("duration", Outcome.INCONCLUSIVE, f"{words}, too short to say what heat does")
    return Check("duration", Outcome.PASS, words)


def _cap_kept(trace: Trace, run: _Sustained) -> list[Check]:
    """A cap that moves with no alert near is somebody's doing: two power modes were measured, and none of them long enough."""
    times, caps = trace.series("gpu_cap_mhz")
    inside = (times >= run.begin_ns) & (times <= run.end_ns)
    times, caps = times[inside], caps[inside]
    moved = np.flatnonzero(np.abs(np.diff(caps)) > 0.02 * caps[:-1]) + 1
    near_ns = int(_AFTER_S * 1e9)
    board = [one for one in run.aligned.throttling.episodes if {"thermal", "over-current"} & set(one.causes)]
    for at in moved:
        if not any(one.start_ns - near_ns <= times[at] <= one.end_ns + near_ns for one in board):
            return [
                Check(
                    "state", Outcome.INCONCLUSIVE,
                    f"the GPU's cap went from {caps[at - 1]:.0f} to {caps[at]:.0f} MHz after "
                    f"{(times[at] - run.begin_ns) / 1e9:.0f} s under load, with no alert: the power mode was changed meanwhile. "
                    "Leave it alone, and run again",
                )
            ]  # fmt: skip
    return []


def _which(kept: Array, warm: Array, throttled: bool) -> str:
    """The hottest minutes in words."""
    why = "in which it throttled throughout" if throttled else "that were hottest"
    alike = "all of its minutes" if kept.all() else f"the {int(kept.sum())} min {why}"
    known = warm[kept & np.isfinite(warm)]
    return f"{alike}, at up to {known.max():.1f} °C" if known.size else f"{alike}, at an unknown temperature"


def _wholly(of_block: Array, throttled: Array, n: int) -> Array:
    """Which of n blocks had nearly all of their calls while throttled: bool [n]."""
    calls, hits = np.bincount(of_block, minlength=n), np.bincount(of_block[throttled], minlength=n)
    return np.asarray((calls > 0) & (hits >= 0.95 * calls))


def _until(trace: Trace, ns: int) -> Trace:
    return Trace([frame for frame in trace if frame.at_ns <= ns])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _ms(of: Quantile) -> str:
    low, high = ("-" if bound is None else f"{bound / 1e6:.3g}" for bound in (of.low_ns, of.high_ns))
    return f"{of.value_ns / 1e6:.3g} ms [{low}, {high}]"
