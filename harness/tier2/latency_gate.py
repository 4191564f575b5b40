"""The verdict of a latency row: from samples, a trace and a budget, with no device and no file (methods A5, T2-03).

Each launch is judged by itself, each way with the profile's error; a row passes where every launch does and fails where
any does. All samples are judged: those that met a throttled board are marked, counted, and name the cause of a FAIL.
What makes the figures those of another board, harness or clock than was asked leaves the row open, whatever they say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from harness.config import Budget
from harness.errors import UsageError
from harness.floors import Floor
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
    Summary,
    Verdict,
)
from harness.statistics.quantiles import latency_figures, median, quantile, ranked
from harness.statistics.sequential import evidence
from harness.statistics.stopping import BudgetRule, Ruling
from harness.tier2 import load
from harness.tier2.align import Alignment, align, energy
from harness.tier2.causes import Cause, cause
from harness.tier2.samples import UNKNOWN, Phase, Status
from harness.tier2.station import Stream
from runtime.protocol import Array

__all__ = ["OWN_CHECKS", "budget_ns_of", "judge", "lost_checks", "target_ns_of", "unlike"]

Columns = Mapping[str, Array]

OWN_CHECKS = frozenset({
    "p95", "calls", "load", "harness on time", "clock", "complete", "launches", "throttling", "target", "energy",
    "device events",
})  # fmt: skip
"""Checks that ``judge`` finds from samples; any other of a row came from who measured it."""

RULE = (
    "at most 5 % of the requests over the budget: an always-valid mixture test, counts divided by the design effect, "
    "each way with error alpha, in each launch"
)
_ANY_TIME = int(np.iinfo(np.int64).max) - 1  # a budget that only what never came back exceeds
_ALIKE = "launches alike"
_OF_THE_HARNESS = ("harness on time", "clock")
_LOST_NS = 1_000_000_000
_SPLIT = ("h2d_ns", "compute_ns", "d2h_ns", "wait_ns")
_ROUNDING_NS = 4_000  # an event tells half a microsecond, and each of three spans has two
_AROUND_NS, _AROUND = 500_000, 0.1  # of a call, what the runtime does before its first copy and after its last
_ALIKE_SHARE = 0.99
_NEARLY = 0.98  # a closed loop ends a call before its seconds are full


@dataclass(frozen=True)
class _Launch:
    """``every``: the judged phase of all streams; ``rows``: of the judged ones, n of them. ``ordered_ns``: latencies of what came
    back, sorted. ``throttled``: bool [n]; False too where ``known`` (bool [n]) says that nothing is known. ``shares``: the
    utilisation by each stream.
    """

    number: int
    every: Columns
    rows: Columns
    latencies_ns: Array
    missed: Array
    ordered_ns: Array
    throttled: Array
    known: Array
    shares: tuple[float | None, ...]
    trace: Trace | None
    aligned: Alignment | None
    ruling: Ruling
    rule: BudgetRule
    outcome: Outcome
    reason: str

    @property
    def count(self) -> int:
        return int(self.missed.size)

    @property
    def span_ns(self) -> tuple[int, int]:
        return int(self.rows["scheduled_ns"].min()), int(self.rows["done_ns"].max())

    @property
    def wall_ns(self) -> int:
        begun, done = self.span_ns
        return done - begun


def budget_ns_of(budget: Budget | None) -> int | None:
    """``p95_ms`` in ns; ``None`` where there is none. Raises ``UsageError`` for one that no row can keep."""
    if budget is None or budget.p95_ms is None:
        return None
    if not (math.isfinite(budget.p95_ms) and round(budget.p95_ms * 1e6) > 0):
        raise UsageError(f"a budget of p95_ms = {budget.p95_ms} is none. Give a number of milliseconds above 0.")
    return round(budget.p95_ms * 1e6)


def judge(
    measurement: Measurement,
    columns: Columns,
    trace: Trace | Mapping[int, Trace] | None,
    *,
    budget: Budget | None,
    profile: Profile,
    floor: Floor | None,
    state_checks: Sequence[Check] = (),
    target_p95_ns: int | None = None,
    streams: Sequence[Stream] | None = None,
    judged: int | None = None,
    launches: Sequence[Measurement] = (),
    lost_ns: int = 0,
    idle_w: float | None = None,
    on_board: bool = True,
) -> Verdict:
    """The row's verdict, with its figures and how it was judged.

    ``columns``: of all phases, launches and streams (``harness.tier2.samples.COLUMNS``, and ``throttled`` where a run folder
    has it: 1, 0, or -1 for unknown). ``trace``: by launch, or of the only one. ``budget``: of this board; without a
    p95 the row is MEASURED. ``floor``: of the design effect. ``state_checks``: the board's; one that is INCONCLUSIVE
    leaves the row open. ``target_p95_ns``: warns, in place of ``target_ns_of``. ``streams``: what the columns'
    ``stream`` counts; ``judged``: which of them the row is about (``None``: all). ``launches``: what each launch was; if
    they differ, nothing is pooled. ``lost_ns``: see ``Station.lost_ns``. ``idle_w``: power of the idle board.
    ``on_board``: False on a host whose load nobody promised to serve: an overload is then a finding, and no failure.

    Raises ``UsageError`` for a budget that is not above 0.
    """
    budget_ns = budget_ns_of(budget)
    target_ns = target_p95_ns if target_p95_ns is not None else target_ns_of(budget, measurement.case.runtime)
    streams = streams or (Stream(measurement.case, measurement.rate_hz or 0.0, deadline_ns=measurement.deadline_ns),)
    is_open = load.check_streams(streams)
    measured = {number: load.select(rows) for number, rows in load.by_launch(columns).items()}
    seen = [
        _launch(number, every, rows, trace, streams, judged, is_open, budget_ns, profile, floor)
        for number, every in measured.items()
        if (rows := every if judged is None else load.select(every, stream=judged))["status"].size
    ]
    total = sum(one.count for one in seen)
    failed = sum(int(np.count_nonzero(one.rows["status"] == Status.FAILED)) for one in seen)
    measurement = replace(measurement, sample_count=total, failed_count=failed, launches=len(seen))
    outer = [*state_checks, *_outer_checks(launches, lost_ns)]
    pooled = None if any(check.name == _ALIKE for check in outer) else _pooled(seen)
    behind_ns = _chosen(load.lateness_ns(columns), columns["phase"] == Phase.MEASURE)
    events = _event_checks(seen)
    broken = next((check.reason for check in events if check.outcome is not Outcome.PASS), "")
    found = _found(seen, behind_ns, streams, is_open, pooled, idle_w, broken)
    checks = [
        *outer,
        *_clock_checks(columns),
        *([late] if (late := load.harness_late(columns, behind_ns=behind_ns)) is not None else ()),
        *_load_checks(seen, streams, is_open),
        *events,
        *_call_checks(seen),
        *([] if budget_ns is None else [_p95_check(seen, profile)]),
        *_energy_checks(budget, found),
        *_complete_checks(seen, measurement, profile),
        *_throttle_checks(seen, holds=budget_ns is not None and all(one.outcome is Outcome.PASS for one in seen)),
        *_target_checks(seen, pooled, target_ns),
    ]
    why = _cause(seen, budget_ns, is_open, judged, measurement.board_start.caps.get("gpu_mhz"))
    judgement = _judgement(seen, budget_ns, profile, floor, why)
    warned = tuple(check.reason for check in checks if check.name in ("target", "calls"))
    measurement = replace(measurement, warnings=tuple(dict.fromkeys((*measurement.warnings, *warned))))
    summary = Summary(
        measurement,
        latency=pooled,
        figures=(*found, *(why.figures if why is not None else ())),
        judgement=judgement,
    )
    if not on_board:
        checks = _found_only(checks, ("load",) if failed else ("load", "calls"))
    outcome, reason = _decided(checks, budget_ns, profile, _measured_words(pooled, seen))
    if not on_board and outcome is Outcome.MEASURED and (load_check := _overloaded(checks)) is not None:
        reason = f"{load_check.reason}; no budget applies to this board"
    if (
        outcome is Outcome.FAIL
        and why is not None
        and not any(check.name == "calls" and check.outcome is Outcome.FAIL for check in checks)
    ):
        reason += f"; cause: {why.words}"
    return Verdict(summary, outcome, reason, tuple(checks))


def _found_only(checks: Sequence[Check], names: Sequence[str]) -> list[Check]:
    """Where no board has promised to serve a load, that it cannot be served, and what was dropped for it, fails nothing."""
    if not any(check.name == "load" and check.outcome is Outcome.FAIL for check in checks):
        return list(checks)
    return [replace(check, outcome=Outcome.MEASURED) if check.name in names else check for check in checks]


def _overloaded(checks: Sequence[Check]) -> Check | None:
    return next((one for one in checks if one.name == "load" and one.outcome is Outcome.MEASURED), None)


def unlike(launches: Sequence[Measurement]) -> str:
    """How launches (or rows) differ in what was timed, so that their latencies are no one row's; empty if they do not."""
    for name in ("timing_boundary", "provider", "placement", "precision_ran", "model_sha256", "profile", "rate_hz"):
        values = [getattr(one, name) for one in launches]
        other = next((at for at, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            return (
                f"{name.replace('_', ' ')} is {values[0]!r} in the first launch and {values[other]!r} in launch {other}"
            )
    return ""


def target_ns_of(budget: Budget | None, runtime: str) -> int | None:
    """The target of p95 in ns: TensorRT's is the board's; ONNX Runtime's is half as much again (OR-07). ``None``: no target.

    Raises ``UsageError`` for one that no row can keep.
    """
    if budget is None or budget.target_p95_ms is None:
        return None
    factor = 1.5 if runtime == "onnx_trt_ep" else 1.0
    if not (math.isfinite(budget.target_p95_ms) and budget.target_p95_ms > 0):
        raise UsageError(f"a target of target_p95_ms = {budget.target_p95_ms} is none. Give milliseconds above 0.")
    return round(factor * budget.target_p95_ms * 1e6)


def _launch(  # noqa: PLR0917 # one launch, with all that decides it
    number: int,
    every: Columns,
    rows: Columns,
    trace: Trace | Mapping[int, Trace] | None,
    streams: Sequence[Stream],
    judged: int | None,
    is_open: bool,
    budget_ns: int | None,
    profile: Profile,
    floor: Floor | None,
) -> _Launch:
    latencies, lost = load.latencies_ns(rows, is_open), load.missed(rows)
    ordered = np.sort(_chosen(latencies, ~lost))
    own = trace.get(number) if isinstance(trace, Mapping) else trace
    aligned = align(rows, own) if own is not None and len(own) else None
    throttled, known = _throttled(rows, aligned)
    wall_s = max(1e-9, float(rows["done_ns"].max() - rows["started_ns"].min()) / 1e9)
    asked = streams if judged is None else (streams[judged],)
    rate = sum(stream.rate_hz for stream in asked) if is_open else lost.size / wall_s
    rule = BudgetRule(
        budget_ns if budget_ns is not None else _ANY_TIME,
        rate,
        profile.alpha,
        floor=floor.effect if floor is not None else None,
        needs_floor=profile.needs_floor,
    )
    ruling = rule.judge(latencies, lost, ordered)
    outcome, reason = ruling.outcome, ruling.reason
    least = profile.least(rate)
    if outcome is Outcome.PASS and lost.size < _NEARLY * least:
        outcome, reason = Outcome.INCONCLUSIVE, f"{reason}, but {lost.size} samples are too few: {least} are the least"
        ruling = replace(ruling, needed=least - lost.size)
    return _Launch(
        number, every, rows, latencies, lost, ordered, throttled, known, load.utilisation(every, streams), own, aligned,
        ruling, rule, outcome, reason,
    )  # fmt: skip


def _chosen(values: Array, chosen: Array) -> Array:
    """Those of [n] values, all of them mostly, which costs no copy then."""
    return values if chosen.all() else values[chosen]


def _joined(seen: Sequence[_Launch], name: str) -> Array:
    """A column of the judged rows of all launches."""
    return np.concatenate([one.rows[name] for one in seen])


def _throttled(rows: Columns, aligned: Alignment | None) -> tuple[Array, Array]:
    """(throttled, known), bool [n] each: of the trace, else of the run folder's own column."""
    if aligned is not None:
        return aligned.throttled, aligned.known
    marks = rows.get("throttled", np.full(rows["status"].size, UNKNOWN))
    return np.asarray(marks == 1), np.asarray(marks >= 0)


def _pooled(seen: Sequence[_Launch]) -> LatencyFigures | None:
    """Of all launches together; ``None`` where no call came back."""
    if not seen:
        return None
    good = np.concatenate([_chosen(one.latencies_ns, ~one.missed) for one in seen])
    if not good.size:
        return None
    return latency_figures(good, sum(one.count for one in seen) - good.size, max(1, sum(one.wall_ns for one in seen)))


def _outer_checks(launches: Sequence[Measurement], lost_ns: int) -> list[Check]:
    """What samples do not show: kept by who judges them again."""
    checks = []
    if differing := unlike(launches):
        words = f"the launches are not of one kind: {differing}; their figures are not pooled"
        checks.append(Check(_ALIKE, Outcome.INCONCLUSIVE, words))
    checks += lost_checks(lost_ns)
    return checks


def lost_checks(lost_ns: int) -> list[Check]:
    """Of a machine that slept, or whose clock was set, while something was measured (``Station.lost_ns``)."""
    if lost_ns <= _LOST_NS:
        return []
    words = f"the machine was suspended or its clock was stepped, by {lost_ns / 1e9:.1f} s: run the row again"
    return [Check("suspended", Outcome.INCONCLUSIVE, words)]


def _clock_checks(columns: Columns) -> list[Check]:
    backward = int(np.count_nonzero((columns["done_ns"] < columns["started_ns"]) & (columns["status"] == Status.OK)))
    if not backward:
        return []
    words = f"{backward} of {columns['status'].size} calls ended before they began: the clock went back"
    return [Check("clock", Outcome.INCONCLUSIVE, words)]


def _load_checks(seen: Sequence[_Launch], streams: Sequence[Stream], is_open: bool) -> list[Check]:
    if not is_open or not seen:
        return []
    for one in seen:
        if words := load.overload(one.every, streams, one.shares):
            where = f"launch {one.number}: " if len(seen) > 1 else ""
            return [Check("load", Outcome.FAIL, f"overload: {where}{words}")]
    return [Check("load", Outcome.PASS, f"utilisation {_utilisation(seen):.2f}")]


def _event_checks(seen: Sequence[_Launch]) -> list[Check]:
    """Whether device events tell the call that the host saw (TT-09): copies and work, in order, and the wait make it up.

    Where they do not, the device's clock or the order of its work is not to be believed, which concerns the split alone.
    """
    of_calls = [_adds_up(one.rows) for one in seen]
    good, count = sum(int(one.sum()) for one in of_calls), sum(one.size for one in of_calls)
    if not count:
        return []
    words = f"copy in, compute, copy out and wait make up {good} of {count} calls"
    if good < _ALIKE_SHARE * count:
        return [Check("device events", Outcome.MEASURED, f"{words}: the split is not known")]
    return [Check("device events", Outcome.PASS, words)]


def _adds_up(rows: Columns) -> Array:
    """Of each call that came back with a split: whether its parts are none below zero and as long as the call; bool [n]."""
    told = (rows["status"] == Status.OK) & reduce(np.logical_or, [rows[name] != UNKNOWN for name in _SPLIT])
    parts = [_chosen(rows[name], told) for name in _SPLIT]
    took_ns = _chosen(rows["done_ns"], told) - _chosen(rows["started_ns"], told)
    lacks_ns = took_ns - reduce(np.add, parts)
    around_ns = np.maximum(_AROUND_NS, _AROUND * took_ns)
    return np.asarray((reduce(np.minimum, parts) >= 0) & (lacks_ns >= -_ROUNDING_NS) & (lacks_ns <= around_ns))


def _utilisation(seen: Sequence[_Launch]) -> float:
    """Of the launch that asked for most."""
    return max(sum(share or 0.0 for share in one.shares) for one in seen)


def _call_checks(seen: Sequence[_Launch]) -> list[Check]:
    """Calls that failed or were dropped: they exceed any budget, and so does a launch of nothing else."""
    for one in seen:
        if one.missed.all():
            where = f" of launch {one.number}" if len(seen) > 1 else ""
            return [Check("calls", Outcome.FAIL, f"every one of {one.count} calls{where} failed")]
    lost, count = sum(int(one.missed.sum()) for one in seen), sum(one.count for one in seen)
    if not lost:
        return []
    words = f"{lost} of {count} calls failed or were dropped"
    for one in seen:
        lost_of_it = evidence(one.missed.astype(np.int64), one.missed, floor=one.rule.floor)
        if lost_of_it.outcome(alpha_pass=one.rule.alpha, alpha_fail=one.rule.alpha) is Outcome.FAIL:
            return [Check("calls", Outcome.FAIL, f"{words}: no p95 exists")]
    return [Check("calls", Outcome.MEASURED, words)]


def _p95_check(seen: Sequence[_Launch], profile: Profile) -> Check:
    """The worst of the launches, in words that say what decided."""
    if not seen:
        return Check("p95", Outcome.INCONCLUSIVE, "no request was measured")
    budget = f"{seen[0].rule.budget_ns / 1e6:g} ms"
    for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE):
        those = [one for one in seen if one.outcome is outcome]
        if not those:
            continue
        # of open launches the one that asks for most; what no number of samples decides asks for more
        one = those[0] if outcome is Outcome.FAIL else max(those, key=lambda each: each.ruling.needed or math.inf)
        where = f"launch {one.number}: " if len(seen) > 1 else ""
        more = f" ({len(those)} of {len(seen)} launches)" if len(seen) > 1 else ""
        verb = "is over" if outcome is Outcome.FAIL else "is not known to be under"
        return Check("p95", outcome, f"p95 {verb} {budget}: {where}{one.reason}{more}")
    bounds = [one.ruling.bound_ns for one in seen]
    known = [bound for bound in bounds if bound is not None]
    at_most = ""
    if len(known) == len(bounds):
        at_most = f", at most {max(known) / 1e6:.4g} ms with {100 * (1 - profile.alpha):g} % confidence"
    each = f" in each of {len(seen)} launches" if len(seen) > 1 else ""
    over = f"{sum(one.ruling.evidence.exceedances for one in seen)} of {sum(one.count for one in seen)} over it"
    return Check("p95", Outcome.PASS, f"p95 is under {budget}{each}{at_most} ({over})")


def _energy_checks(budget: Budget | None, figures: Sequence[Figure]) -> list[Check]:
    if budget is None or budget.energy_mj is None:
        return []
    limit = f"{budget.energy_mj:g} mJ a call"
    figure = next((one for one in figures if one.name == "energy_per_call_j"), None)
    if figure is None or figure.value is None:
        why = figure.why if figure is not None and figure.why else "no telemetry"
        return [Check("energy", Outcome.INCONCLUSIVE, f"not known to be under {limit}: {why}")]
    millijoules = 1e3 * figure.value
    outcome = Outcome.PASS if millijoules <= budget.energy_mj else Outcome.FAIL
    return [Check("energy", outcome, f"{millijoules:.3g} mJ a call, of {limit}")]


def _complete_checks(seen: Sequence[_Launch], measurement: Measurement, profile: Profile) -> list[Check]:
    checks = []
    if measurement.incomplete:
        checks.append(Check("complete", Outcome.INCONCLUSIVE, f"incomplete: {measurement.incomplete}"))
    if len(seen) < profile.launches:
        words = f"{len(seen)} of {profile.launches} launches that the profile {profile.name} asks for"
        checks.append(Check("launches", Outcome.INCONCLUSIVE, words))
    return checks


def _throttle_checks(seen: Sequence[_Launch], *, holds: bool) -> list[Check]:
    if not any(one.known.any() for one in seen):
        return []
    known, total = sum(int(one.known.sum()) for one in seen), sum(one.count for one in seen)
    share = 100.0 * sum(int(one.throttled.sum()) for one in seen) / known
    words = f"held while throttled {share:.0f} %" if holds else f"{share:.0f} % of the requests met a throttled board"
    if not share:
        words = "no request met a throttled board"
    if known < total:
        words += f"; the board's state is not known for {100.0 * (total - known) / total:.0f} % of the requests"
    return [Check("throttling", Outcome.MEASURED, words)]


def _target_checks(seen: Sequence[_Launch], pooled: LatencyFigures | None, target_ns: int | None) -> list[Check]:
    if target_ns is None or not seen:
        return []
    p95s = [p95 for one in seen if (p95 := _p95_ns(one)) is not None]
    worst = max(p95s, default=pooled.p95.value_ns if pooled is not None else None)
    if worst is None or worst <= target_ns:
        return []
    return [
        Check("target", Outcome.MEASURED, f"p95 {worst / 1e6:.4g} ms is over the target of {target_ns / 1e6:.4g} ms")
    ]


def _p95_ns(one: _Launch) -> int | None:
    if not one.ordered_ns.size:
        return None
    return int(one.ordered_ns[min(math.ceil(0.95 * one.count * (1.0 - 1e-12)), one.ordered_ns.size) - 1])


def _cause(
    seen: Sequence[_Launch],
    budget_ns: int | None,
    is_open: bool,  # as load and causes take it
    judged: int | None,
    declared_mhz: float | None,
) -> Cause | None:
    """Of the first launch that failed."""
    one = next((each for each in seen if each.outcome is Outcome.FAIL), None)
    if budget_ns is None or one is None:
        return None
    return cause(one.every, one.trace or Trace(), budget_ns, is_open, stream=judged, declared_mhz=declared_mhz)


def _judgement(
    seen: Sequence[_Launch], budget_ns: int | None, profile: Profile, floor: Floor | None, why: Cause | None
) -> Judgement:
    has_budget = budget_ns is not None
    bounds = [one.ruling.bound_ns for one in seen]
    known = [bound for bound in bounds if bound is not None]
    moved = [one.ruling.drift.change for one in seen if one.ruling.drift is not None]
    needed = [one.ruling.needed for one in seen if one.outcome is Outcome.INCONCLUSIVE and one.ruling.needed]
    shortest = min(seen, key=lambda one: one.count, default=None)
    source = "" if floor is None else floor.source
    if floor is not None and floor.carried_from:
        source += f"; carried over from {floor.carried_from}"
    return Judgement(
        rule=RULE if has_budget else "measured: no budget applies",
        budget_ns=budget_ns,
        alpha=profile.alpha,
        floor=floor.effect if floor is not None else None,
        floor_source=source,
        effect=max((one.ruling.evidence.effect for one in seen), default=1.0),
        bound_ns=max(known) if known and len(known) == len(bounds) else None,
        drift=max(moved, key=abs, default=None),
        needed=max(needed, default=None) if has_budget else None,
        blind_spot=shortest.rule.blind_spot(shortest.count) if shortest is not None else "nothing was measured",
        launches=tuple(_launch_figures(one, has_budget) for one in seen),
        cause=why.words if why is not None else "",
    )


def _launch_figures(one: _Launch, has_budget: bool) -> LaunchFigures:
    good = one.ordered_ns
    seen = one.ruling.evidence
    return LaunchFigures(
        launch=one.number,
        count=one.count,
        failed=int(one.missed.sum()),
        p50_ns=int(median(good)) if good.size else None,
        p95_ns=_p95_ns(one),
        exceedances=seen.exceedances if has_budget else None,
        throttled=int(one.throttled.sum()) if one.known.any() else None,
        effect=seen.effect,
        log_pass=seen.log_pass if has_budget else None,
        log_fail=seen.log_fail if has_budget else None,
        outcome=one.outcome if has_budget else Outcome.MEASURED,
        reason=one.reason if has_budget else "no budget applies",
    )


def _decided(checks: Sequence[Check], budget_ns: int | None, profile: Profile, measured: str) -> tuple[Outcome, str]:
    """From checks to one outcome and one sentence.

    A launch in which all calls failed fails whatever the board's state was. Next, what makes the figures those of another
    board, harness or clock leaves the row open. Then FAIL before INCONCLUSIVE before PASS. A profile that is indicative
    says MEASURED where its samples are too few to decide.
    """
    notes = "".join(f"; {check.reason}" for check in checks if check.name in ("throttling", "target"))
    indicative = "" if profile.decides else "indicative: "
    p95 = next((check for check in checks if check.name == "p95"), None)
    failing = [check for check in checks if check.outcome is Outcome.FAIL]
    for check in failing:
        if check.name == "calls":
            return Outcome.FAIL, check.reason
    lacking = [check for check in checks if check.outcome is Outcome.INCONCLUSIVE]
    if budget_ns is None:
        lacking = [check for check in lacking if check.name != "harness on time"]
    decided = failing[0] if failing else p95
    for check in lacking:
        if check.name not in OWN_CHECKS or check.name in _OF_THE_HARNESS:
            otherwise = f" (but for that: {decided.reason})" if decided is not None else ""
            return Outcome.INCONCLUSIVE, f"{check.reason}{otherwise}"
    if failing:
        return Outcome.FAIL, f"{indicative}{failing[0].reason}{notes}"
    if any(check.name != "p95" for check in lacking) or (lacking and profile.decides):
        reason = "; ".join(check.reason for check in lacking)
        if p95 is not None and p95.outcome is Outcome.PASS:
            reason += f"; what was measured: {p95.reason}"
        return Outcome.INCONCLUSIVE, f"{indicative}{reason}{notes}"
    if lacking:
        return Outcome.MEASURED, f"{indicative}{lacking[0].reason}{notes}"
    if p95 is not None:
        return Outcome.PASS, f"{indicative}{p95.reason}{notes}"
    return Outcome.MEASURED, f"{measured}; no budget applies to this board{notes}"


def _measured_words(pooled: LatencyFigures | None, seen: Sequence[_Launch]) -> str:
    if pooled is None:
        return "no call came back" if seen else "no request was measured"
    low, high = ("–" if ns is None else f"{ns / 1e6:.4g}" for ns in (pooled.p95.low_ns, pooled.p95.high_ns))
    return f"p95 {pooled.p95.value_ns / 1e6:.4g} ms [{low}, {high}], {pooled.count} calls"


def _found(  # noqa: PLR0917 # the row, taken apart
    seen: Sequence[_Launch],
    behind_ns: Array,
    streams: Sequence[Stream],
    is_open: bool,
    pooled: LatencyFigures | None,
    idle_w: float | None,
    broken: str,
) -> tuple[Figure, ...]:
    """Figures beside the quantiles, each of all launches. ``broken``: why device events are not believed."""
    if not seen:
        return ()
    status = _joined(seen, "status")
    figures = [*_split(seen, status == Status.OK, broken), *_lateness(behind_ns)]
    if is_open:
        started = status != Status.DROPPED
        queued = _chosen(_joined(seen, "started_ns") - _joined(seen, "scheduled_ns"), started)
        figures.append(_p50("queue_wait_p50_ns", queued, "the schedule", "every request was dropped"))
        figures.append(Figure("utilisation", _utilisation(seen), "ratio", "mean service time times rate"))
        dropped = started.size - int(np.count_nonzero(started))
        figures.append(Figure("dropped", float(dropped), "count", "the schedule"))
        figures += _deadlines(seen, streams)
    if len(seen) > 1 and pooled is not None:
        p95s = [p95 for one in seen if (p95 := _p95_ns(one))]
        if len(p95s) > 1:
            spread = 100.0 * float(np.std(np.log(p95s), ddof=1))
            figures.append(Figure("launch_spread", spread, "%", "standard deviation of ln p95 between launches"))
    figures += _by_throttling(seen)
    figures += _combined(
        [
            energy(one.trace, *one.span_ns, one.count, idle_w=idle_w, seen=one.aligned.throttling)
            for one in seen
            if one.trace is not None and one.aligned is not None and one.wall_ns > 0
        ]
    )
    return tuple(figures)


def _split(seen: Sequence[_Launch], came_back: Array, broken: str) -> list[Figure]:
    """``broken``: why device events are not believed."""
    figures = []
    for name in _SPLIT:
        values = _joined(seen, name)
        values = values[:0] if broken else _chosen(values, came_back & (values != UNKNOWN))
        why = broken or "the runtime does not split its time"
        figures.append(_p50(f"{name.removesuffix('_ns')}_p50_ns", values, "device events", why))
    return figures


def _p50(name: str, values: Array, source: str, why: str) -> Figure:
    if not values.size:
        return Figure(name, None, "ns", source, why=why)
    return Figure(name, median(values), "ns", source)


def _lateness(behind_ns: Array) -> list[Figure]:
    return [
        Figure(
            "harness_late_p99_ns",
            float(ranked(behind_ns, 0.99)),
            "ns",
            "woke less due, or less the end of the last call",
        )
    ]


def _deadlines(seen: Sequence[_Launch], streams: Sequence[Stream]) -> list[Figure]:
    figures = []
    rows = {name: _joined(seen, name) for name in ("stream", "status", "scheduled_ns", "done_ns")}
    for at, stream in enumerate(streams):
        if stream.deadline_ns is None:
            continue
        own = {name: values[rows["stream"] == at] for name, values in rows.items()}
        count = own["status"].size
        if not count:
            continue
        misses = int(np.count_nonzero(load.late(own, stream.deadline_ns) | load.missed(own)))
        name = "deadline_misses" + (f".{stream.case.model}" if len(streams) > 1 else "")
        source = f"of {count} requests, later than {stream.deadline_ns / 1e6:g} ms, failed or dropped"
        figures.append(Figure(name, float(misses), "count", source))
    return figures


def _by_throttling(seen: Sequence[_Launch]) -> list[Figure]:
    """The share of throttled requests, and p95 with and without them; for people: all requests are judged."""
    known = sum(int(one.known.sum()) for one in seen)
    if not known:
        why = "nothing tells whether the board is throttled"
        return [Figure("throttled_requests_share", None, "%", why=why)]
    hits = sum(int(np.count_nonzero(one.throttled & one.known)) for one in seen)
    figures = [Figure("throttled_requests_share", 100.0 * (hits / known), "%", "telemetry beside the samples")]
    if hits:
        for name, is_hit in (("p95_throttled_ns", True), ("p95_unthrottled_ns", False)):
            chosen = [one.known & (one.throttled == is_hit) for one in seen]
            pairs = list(zip(seen, chosen, strict=True))
            values = np.concatenate([one.latencies_ns[those & ~one.missed] for one, those in pairs])
            if values.size:
                lost = sum(int(np.count_nonzero(those & one.missed)) for one, those in pairs)
                found = quantile(values, 0.95, failed=lost)
                figures.append(
                    Figure(name, float(found.value_ns), "ns", "samples and telemetry", found.low_ns, found.high_ns)
                )
    return figures


def _combined(of_launches: Sequence[Sequence[Figure]]) -> list[Figure]:
    """One figure each of those of several launches: extremes stay extreme, counts add up, others are means."""
    if not of_launches:
        return []
    figures = []
    for group in zip(*of_launches, strict=True):
        values = [figure.value for figure in group if figure.value is not None]
        name = group[0].name
        if len(values) < len(group) or len(group) == 1:
            figures.append(next((figure for figure in group if figure.value is None), group[0]))
            continue
        if "_max_" in name:
            value = max(values)
        elif "_min_" in name:
            value = min(values)
        elif "_start_" in name:
            value = values[0]
        elif "_end_" in name:
            value = values[-1]
        else:
            value = sum(values) if group[0].unit == "count" else sum(values) / len(values)
        figures.append(replace(group[0], value=value, low=None, high=None))
    return figures
