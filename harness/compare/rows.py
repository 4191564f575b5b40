"""One row on two sides, judged: what became of it, every figure old against new, and the class of what explains it.

Pure. Latency, energy, memory and times by boot sessions (``statistics.unpaired``); errors against one high-precision reference;
what is counted (nodes, bytes of an engine) as it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from scipy.special import bdtrc, stdtrit

from harness.board import describe_difference
from harness.compare.facts import (
    ROUTE_CHANGED,
    caps_words,
    fused_words,
    layers_words,
    options_words,
    others_words,
    place_words,
    route_words,
    said,
    settings_words,
    values_of,
    versions_differ,
)
from harness.compare.layers import compare_layers
from harness.compare.load import MOST, PERCENTS, Entry, LaunchSeen, Sessions, boot_of, by_session
from harness.compare.outputs import KeptRow, golden_drift, outputs_apart, reference_apart
from harness.compare.shift import shift_of
from harness.records import ABOUT_A_FLIGHT, ABOUT_RUNTIMES, Figure, Outcome, ParityFigures
from harness.records.comparison import Cause, Change, RowChange, Shift, Standing, State
from harness.statistics.paired import LOOKS, compare_pairs
from harness.statistics.paired import Change as PairedChange
from harness.statistics.unpaired import Apart, compare_sessions

__all__ = ["MARGINS", "Judged", "judge_row", "pairs_in_words", "standing_of", "state_of"]

MARGINS: Mapping[str, float] = {
    "p95": 0.05, "p50": 0.03, "energy": 0.05, "power": 0.05, "memory": 0.02, "load": 0.10, "build": 0.20,
}  # fmt: skip
"""What counts as no change, as a share. The first five as ``statistics.paired.MARGINS``; loading and building are our choice:
a build takes its decisions by timing, and two builds of one version differ."""

_CHANGED_ERROR = 2.0
"""An error within its tolerance that grew or shrank by this factor is shown as changed."""

_NEAR = 0.02

_DECISIVE = 0.5
"""Of a shift in time, the share that cycles (or the clock) must explain to be called its cause."""

_MOST_TEXTS = 20

_NOT_THERE = re.compile(
    r"not installed|BUILD_\w+ is off|No module named|ModuleNotFoundError|cannot open shared object|is missing",
    re.IGNORECASE,
)
_NOT_LOADED = re.compile(r"cannot be imported")
"""Of a library that is there, whole, and cannot be loaded (an undefined symbol, another NumPy): it broke."""
_MEMORY_ERROR = re.compile(r"out ?of ?memory|OutOfMemory|killed for memory|exit code 137", re.IGNORECASE)
_BUILT = re.compile(r"built it for SM \S+ in ([0-9.]+) s, ([0-9.]+) MB")

_ERROR = re.compile(r"\w+Error\b")
_REFUSED = re.compile(r"\bEngineBuildError\b")
_CALLS_FAILED = re.compile(r"calls? failed")

_OF_OURS = re.compile(rf", baseline |^{ROUTE_CHANGED}|^by the (base's )?route")
"""What the harness notes of a row of itself, which is told elsewhere: a baseline held against it, and routes (``--like``)."""

_TIMED = ("latency", "flight", "heat")
_P99 = PERCENTS.index(99)
_STATES = list(State)
_RAN = (State.WORKS, State.FAILS)
_EMPTY = Standing.SAME

T = TypeVar("T")


@dataclass(frozen=True)
class Judged:
    """A change as it is before the family of all rows is known: with what ``harness.statistics.paired.block_family`` needs."""

    change: Change
    apart: Apart | None = None


Entries = Sequence[Entry]
_Pair = tuple[float | None, float | None, float | None]


def state_of(entry: Entry) -> State:
    """What became of a row in one run."""
    verdict = entry.verdict
    if verdict is None:
        return State.NOT_REACHED
    if verdict.outcome is Outcome.NOT_RUN:
        if _NOT_LOADED.search(verdict.reason) and not _NOT_THERE.search(verdict.reason):
            return State.BROKE
        return State.NOT_INSTALLED if _NOT_THERE.search(verdict.reason) else State.NOT_RUN
    if verdict.outcome is Outcome.FAIL:
        measurement, summary = verdict.summary.measurement, verdict.summary
        has_figures = summary.parity or summary.latency or summary.figures or summary.judgement
        built = any(check.name == "build" and check.outcome is Outcome.PASS for check in verdict.checks)
        lost_all = measurement.sample_count > 0 and measurement.failed_count == measurement.sample_count
        is_cut = _MEMORY_ERROR.search(verdict.reason) or _ERROR.match(verdict.reason)
        if measurement.error or lost_all or is_cut or not (has_figures or built or verdict.checks[1:]):
            return State.BROKE
        return State.FAILS
    return State.WORKS


def judge_row(
    base: Entries,
    new: Entries,
    margins: Mapping[str, float],
    alpha: float,
    *,
    tells_engine: bool = True,
    paired: Mapping[str, Sequence[float]] | None = None,
) -> tuple[RowChange, list[Judged]]:
    """A row without its changes, and the changes; ``base``, ``new``: it in each run of a side that has it, not both empty.

    ``tells_engine``: whether the engine's size, build and layers are told here; every row of an engine has them.
    """
    case = (new or base)[0].case
    base_state = min((state_of(one) for one in base), key=_STATES.index, default=State.ABSENT)
    new_state = max((state_of(one) for one in new), key=_STATES.index, default=State.ABSENT)
    standing, cause, words, blocks = _transition(base, new, base_state, new_state)
    row = RowChange(
        id=case.id,
        kind=case.kind,
        model=case.model,
        runtime=case.runtime,
        precision=case.precision,
        against=case.against,
        base_state=base_state,
        new_state=new_state,
        base_placement=_placement(base),
        new_placement=_placement(new),
        standing=standing,
        cause=cause,
        words=words,
        simulated=any(one.measurement.simulated for one in (*base, *new)),
        may_block=blocks,
    )
    if base_state not in _RAN or new_state not in _RAN:
        return row, []
    old, now = ([one for one in side if state_of(one) in _RAN] for side in (base, new))
    judge = _Row(old, now, margins, alpha, tells_engine=tells_engine)
    judge.paired = paired or {}
    changes = judge.changes()
    return replace(row, layers=judge.layers if tells_engine else None, shifts=judge.shifts), changes


def _transition(base: Entries, new: Entries, old: State, now: State) -> tuple[Standing, Cause, str, bool]:
    """What happened to the row, its cause, the words for it, and whether it may block."""
    was, told = _reason(base, old), _reason(new, now)
    if old in _RAN:
        found = _since_it_ran(base, new, old, now)
    elif now is State.WORKS:
        found = _started(old, was, _cause_of_refusal(base, new, was))
    elif old is State.ABSENT:
        return Standing.UNKNOWN, Cause.NONE, f"only on the new side, and {now.value}: {told}", False
    elif now is State.ABSENT:
        return Standing.UNKNOWN, Cause.NONE, f"only on the base's side, and {old.value}: {was}", False
    elif old is now:
        found = Standing.UNKNOWN, Cause.NONE, f"{now.value} on both sides: {told}", False
    else:
        found = Standing.CHANGED, Cause.UNKNOWN, f"{old.value} before ({was}), {now.value} now ({told})", False
    standing, cause, words, blocks = found
    return standing, cause, f"{words}{_mixed(base, 'base')}{_mixed(new, 'new')}", blocks


def _since_it_ran(base: Entries, new: Entries, old: State, now: State) -> tuple[Standing, Cause, str, bool]:
    """As ``_transition``, of a row that ran in the base."""
    told, kind = _reason(new, now), (new or base)[0].case.kind
    if now is State.BROKE:
        cause = Cause.MEMORY if _MEMORY_ERROR.search(told) else _cause_of_refusal(base, new, told)
        return Standing.BROKE, cause, f"stopped working: it ran, and now breaks: {told}", True
    if now is State.FAILS and old is State.WORKS:
        cause = Cause.NUMERICS if kind in ("parity", "semantic", "pair") else Cause.UNKNOWN
        was = {Outcome.PASS: "kept its limit", Outcome.MEASURED: "had no limit"}
        before = next((was[one] for one in was if one in _outcomes(base)), "was not decided (INCONCLUSIVE)")
        return Standing.BROKE, cause, f"{before}, and fails it now: {told}", True
    if now is State.NOT_INSTALLED:
        words = f"not installed on the new side: {told}; it did not break"
        return Standing.MISSING, Cause.ENVIRONMENT, words, True
    if now not in _RAN:
        why = {State.ABSENT: "the new runs have no such row", State.NOT_REACHED: "the new run ended before it"}
        return Standing.MISSING, Cause.NONE, f"no evidence on the new side: {why.get(now, told)}", True
    if old is now or old is State.WORKS:
        return _EMPTY, Cause.NONE, f"{'works' if now is State.WORKS else 'fails its limit'} on both sides", False
    return Standing.BETTER, Cause.UNKNOWN, f"keeps its limit now; the base failed it: {_reason(base, old)}", False


def _cause_of_refusal(base: Entries, new: Entries, reason: str) -> Cause:
    """A model that one version builds, and another refuses; a library that is there and does not load."""
    if _NOT_LOADED.search(reason):
        return Cause.ENVIRONMENT
    return Cause.TOOL if _REFUSED.search(reason) and versions_differ(base, new) else Cause.UNKNOWN


def _started(old: State, was: str, refused: Cause) -> tuple[Standing, Cause, str, bool]:
    """As ``_transition``, of a row that works now and did not run in the base. ``refused``: what explains that it broke there."""
    if old is State.ABSENT:
        return Standing.UNKNOWN, Cause.NONE, "only on the new side: there is no base to hold it against", False
    if old is State.BROKE:
        return Standing.STARTED, refused, f"started working: before it broke: {was}", False
    if old is State.NOT_INSTALLED:
        return Standing.STARTED, Cause.ENVIRONMENT, f"started working: before it was not installed: {was}", False
    return Standing.UNKNOWN, Cause.NONE, f"only on the new side: the base has no evidence: {was}", False


def _reason(side: Entries, state: State) -> str:
    return next(
        (one.verdict.reason for one in side if one.verdict is not None and state_of(one) is state and one.verdict.reason), ""
    )  # fmt: skip


def _mixed(side: Entries, name: str) -> str:
    """Where the runs of one side do not agree on a row."""
    states = [state_of(one) for one in side]
    if len(set(states)) < 2:
        return ""
    counted = ", ".join(f"{state.value} in {states.count(state)}" for state in dict.fromkeys(states))
    return f"; the {name}'s runs do not agree ({counted})"


def _placement(side: Entries) -> str:
    return ", ".join(dict.fromkeys(one.measurement.placement for one in side if one.measurement.placement))


class _Row:
    """A row that ran on both sides; every method gives changes, and what the row shows of itself tells their causes."""

    def __init__(
        self, base: Entries, new: Entries, margins: Mapping[str, float], alpha: float, *, tells_engine: bool
    ) -> None:
        self.base, self.new, self.margins, self.alpha, self.tells_engine = base, new, margins, alpha, tells_engine
        self.case = new[0].case
        self.paired: Mapping[str, Sequence[float]] = {}
        self.layers = compare_layers([one.layers for one in base], [one.layers for one in new])
        self.route = route_words(base, new, self.layers)
        self.place = place_words(base, new, self.layers)
        self.options = options_words(base, new)
        self.settings = "; ".join(filter(None, (settings_words(base, new), self.options)))
        self.board = describe_difference(base[0].measurement.board_start, new[0].measurement.board_start)
        self.others = others_words(base, new)
        self.caps = caps_words(base, new)
        self.is_bumped = versions_differ(base, new)

    def changes(self) -> list[Judged]:
        found = [*self._facts(), *_about("contract", self._clauses()), *self._parity(), *_about("task", self._task())]
        if self.case.kind in _TIMED:
            timing = self._latency()
            found += timing
            found += self._energy([one.change for one in timing])
        found += _about("memory", self._memory())
        found += _about("load", self._loading())
        found += self._building()
        found += _about("warnings", self._warnings())
        return [self._spoilt(one) for one in found]

    @cached_property
    def shifts(self) -> tuple[Shift, ...]:
        """By model the percentile shift, where both sides have samples."""
        return tuple(self._shifts())

    def _shifts(self) -> Iterable[Shift]:
        for model in self._models() if self.case.kind in _TIMED else ():
            old, now = (_launches(side, model, lambda seen: seen if seen.percentiles_ns else None)
                        for side in (self.base, self.new))  # fmt: skip
            if old.values and now.values:
                yield shift_of(model, old, now, margin=self.margins["p95"], alpha=self.alpha)

    def _models(self) -> list[str]:
        return list(dict.fromkeys(model for one in (*self.base, *self.new) for model in one.launches))

    def _spoilt(self, judged: Judged) -> Judged:
        """What another process or another power cap explains speaks neither for nor against a version."""
        change = judged.change
        why = {Cause.ENVIRONMENT: self.others, Cause.CLOCK: self.caps}.get(change.cause, "")
        if change.standing is not Standing.WORSE or not why:
            return judged
        words = f"{change.words}; measure again: {why}"
        return replace(judged, change=replace(change, standing=Standing.OPEN, words=words, again=why))

    # --- facts ------------------------------------------------------------------------------------------------

    def _facts(self) -> Iterable[Judged]:
        yield from _about("verdict", self._own_verdict())
        yield from _about("precision", self._precision())
        yield from _about("placement", self._placing())
        if not self.place and (fused := fused_words(self.base, self.new)):
            yield from _about("placement", [_fact("node placement", _EMPTY, f"on the same providers; {fused}")])
        witness = [values_of(side, lambda one: one.measurement.witness) for side in (self.base, self.new)]
        if witness == [[True], [False]] and self.case.kind in ("parity", "semantic"):
            note = next((one.measurement.notes[-1] for one in self.new if one.measurement.notes), "")
            words = f"no witness of its numerics any more: {note}"
            lost = _fact("witness", Standing.WORSE, words, Cause.PRECISION, self.route or note, blocks=True)
            yield from _about("drift", [lost])
        if self.case.runtime == "tensorrt" and self.case.kind == "latency":
            engines = [values_of(side, lambda one: one.measurement.model_sha256) for side in (self.base, self.new)]
            if engines[0] and engines[0] == engines[1]:
                same = _fact("engine", Standing.SAME, "the same engine, byte for byte: it was not built again")
                yield from _about("engine", [same])

    def _own_verdict(self) -> Iterable[Judged]:
        old, now = (_outcomes(side) for side in (self.base, self.new))
        if Outcome.PASS in old and Outcome.INCONCLUSIVE in now:
            reason = next(
                one.verdict.reason for one in self.new if one.verdict and one.verdict.outcome is Outcome.INCONCLUSIVE
            )
            yield _fact("own verdict", Standing.OPEN, f"PASS before, INCONCLUSIVE now: {reason}", blocks=True)
        elif old != now and State.FAILS not in {state_of(one) for one in (*self.base, *self.new)}:
            words = f"{' or '.join(one.value for one in old)} before, {' or '.join(one.value for one in now)} now"
            yield _fact("own verdict", Standing.CHANGED, words)

    def _precision(self) -> Iterable[Judged]:
        layers = self.layers
        of_layers = layers_words(layers)
        if self.route and self.route != of_layers:
            yield _fact(
                "precision that ran", Standing.CHANGED, self.route, Cause.PRECISION, "read back from the engine"
            )
        if layers is None or not self.tells_engine:
            return
        counts = f"by precision {said([layers.base])}"
        counts += f", now {said([layers.new])}" if layers.new != layers.base else ""
        if layers.base_only or layers.new_only:
            unmatched = f"of {layers.base_only} layers before and {layers.new_only} now none does"
            counts += f"; {layers.matched} operators match by name, {unmatched}"
        if of_layers:
            yield _fact(
                "layers", Standing.CHANGED, f"{of_layers}; {counts}", Cause.PRECISION, "read back from the engine"
            )
        elif not layers.matched:
            yield _fact("layers", Standing.UNKNOWN, f"which layers changed is not known, no name matches; {counts}")
        else:
            yield _fact("layers", _EMPTY, counts)

    def _placing(self) -> Iterable[Judged]:
        providers = [values_of(side, lambda one: one.measurement.provider) for side in (self.base, self.new)]
        if providers[0] and providers[1] and providers[0] != providers[1]:
            words = f"ran on {' and '.join(providers[0])}, runs on {' and '.join(providers[1])}"
            blocks = not any(one.measurement.simulated for one in (*self.base, *self.new))
            standing = Standing.WORSE if blocks and "cpu" in providers[1] else Standing.CHANGED
            why = "the runtime chose another provider"
            yield _fact("where it runs", standing, words, Cause.TOOL, why, blocks=blocks)
        elif self.place:
            why = "the runtime places nodes otherwise"
            yield _fact("node placement", Standing.CHANGED, self.place, Cause.TOOL, why)

    def _clauses(self) -> Iterable[Judged]:
        """Of rows about a runtime itself: what it kept and keeps no more, though the row failed before too."""
        if self.case.kind not in ABOUT_RUNTIMES:
            return
        failing: list[dict[str, str]] = []
        for side in (self.base, self.new):
            checks = [check for one in side if one.verdict for check in one.verdict.checks]
            failing.append({check.name: check.reason for check in checks if check.outcome is Outcome.FAIL})
        for name in [name for name in failing[1] if name not in failing[0]]:
            yield _fact(
                name, Standing.WORSE, f"held before, and does not now: {failing[1][name]}", Cause.UNKNOWN, blocks=True
            )
        for name in [name for name in failing[0] if name not in failing[1]]:
            yield _fact(name, Standing.BETTER, f"holds now; before: {failing[0][name]}")

    # --- numerics ---------------------------------------------------------------------------------------------

    def _parity(self) -> list[Judged]:
        if self.case.kind not in ("parity", "semantic", "pair"):
            return []
        old, now = (_parity_of(side) for side in (self.base, self.new))
        found = _about("drift", (self._drift(name, old.get(name), now.get(name)) for name in {**old, **now}))
        if self.case.kind != "parity":
            return found
        base, new = self._kept()
        told = [reference_apart(base, new), *(golden_drift(name, base, new) for name in now)]
        found += [Judged(one) for one in told if one is not None]
        return [*found, *_about("outputs", (self._old_against_new(name) for name in old if name in now))]

    def _drift(self, output: str, old: ParityFigures | None, now: ParityFigures | None) -> Judged:
        name, cause = f"error of {output}", Cause.PRECISION if self.route else Cause.NUMERICS
        why = self.route or "the same inputs and reference, and other outputs"
        if old is None or now is None:
            words = f"the {'base' if old is None else 'new'} side has no output {output}"
            return _fact(
                name, Standing.WORSE if now is None else Standing.CHANGED, words, cause, why, blocks=now is None
            )
        limit = now.tolerance.rel_l2_max if now.tolerance else None
        held = "" if limit is None else f"; its tolerance {limit:.3g}"
        if (now.nan, now.inf) != (old.nan, old.inf):
            words = f"NaN {old.nan} then {now.nan}, unmatched Inf {old.inf} then {now.inf}"
            worse = now.nan > old.nan or now.inf > old.inf
            return _fact(name, Standing.WORSE if worse else Standing.CHANGED, words, cause, why, blocks=worse)
        before, after = old.rel_l2_max, now.rel_l2_max
        if before is None or after is None or math.isnan(before) or math.isnan(after):
            silent = now if after is None or math.isnan(after) else old
            words = f"not known: {silent.max_abs_at or 'a zero reference'}{held}"
            return _fact(name, Standing.UNKNOWN, words)
        witness = "the reference" if self.case.kind == "parity" else self.case.against
        words = f"relative L2 error against {witness} {before:.3g}, now {after:.3g}{held}"
        ratio = after / before if before > 0 else (1.0 if after == 0 else math.inf)
        if limit is None and ratio > _CHANGED_ERROR and self.case.kind == "parity" and not _task_of(self.new):
            words += (
                "; the row has no tolerance (INT8 has none of itself), so that nobody has said whether this is too much"
            )
            shown = Change(name, "ratio", Standing.OPEN, words, cause, why, before, after, may_block=True)
            return Judged(shown)
        shown = Change(
            name,
            "ratio",
            _EMPTY,
            words,
            base=before,
            new=after,
            ratio=ratio if math.isfinite(ratio) else None,
            is_judged=True,
        )
        if limit is not None and after > limit >= before:
            return Judged(replace(shown, standing=Standing.WORSE, cause=cause, why=why, may_block=True))
        if ratio > _CHANGED_ERROR or ratio < 1 / _CHANGED_ERROR:
            return Judged(replace(shown, standing=Standing.CHANGED, cause=cause, why=why))
        return Judged(shown)

    def _old_against_new(self, output: str) -> Judged:
        limits = [
            entry.tolerance.rel_l2_max
            for one in (*self.base, *self.new)
            for entry in (one.verdict.summary.parity if one.verdict else ())
            if entry.output == output and entry.tolerance is not None
        ]
        known = [limit for limit in limits if limit is not None]
        found = outputs_apart(output, *self._kept(), min(known, default=None))
        return Judged(replace(found, cause=Cause.PRECISION, why=self.route) if found.cause and self.route else found)

    def _kept(self) -> tuple[list[KeptRow], list[KeptRow]]:
        base, new = ([KeptRow(one.loaded, one.case.id) for one in side] for side in (self.base, self.new))
        return base, new

    def _task(self) -> Iterable[Judged]:
        for name in {**_task_of(self.base), **_task_of(self.new)}:
            old, now = (_task_of(side).get(name) for side in (self.base, self.new))
            if old is None or now is None:
                yield _fact(f"task {name}", Standing.UNKNOWN, f"only on the {'new' if old is None else 'base'} side")
            elif old != now:
                words = f"{name} {old:.6g}, now {now:.6g}; whether that is worse is its row's verdict"
                change = Change(f"task {name}", "ratio", Standing.CHANGED, words, Cause.NUMERICS, base=old, new=now)
                yield Judged(change)

    # --- time -------------------------------------------------------------------------------------------------

    def _latency(self) -> list[Judged]:
        found = []
        for model in self._models() or [self.case.model]:
            of = f" of {model}" if self.case.kind in ABOUT_A_FLIGHT else ""
            for p in ("p95", "p50"):
                found += _about(p, [self._quantile(model, p, of)])
            found += _about("p95", self._slowest(model, of, found[-2].change))
            found += _about("lost", self._failed(model, of))
        return found

    def _slowest(self, model: str, of: str, p95: Change) -> Iterable[Judged]:
        """That p99 moved where p95 did not: no margin is set on it, and somebody may want to look."""
        for shift in self.shifts if p95.standing in (_EMPTY, Standing.NOT_WORSE) else ():
            told = [getattr(shift, name)[_P99] for name in ("base_ns", "ratio", "low", "high")]
            if shift.model == model and None not in told and told[2] > 1 + shift.margin:
                old, ratio, low, high = told
                words = f"the slowest calls alone are slower: {_percent(ratio)} % [{_percent(low)}, {_percent(high)}]"
                shown = Change(
                    f"p99{of}", "ns", Standing.CHANGED, words, Cause.UNKNOWN, "p95 did not move", old, old * ratio
                )
                yield Judged(replace(shown, ratio=ratio, low=low, high=high, margin=shift.margin))

    def _quantile(self, model: str, p: str, of: str) -> Judged:
        lost = [
            [seen for one in side for seen in one.launches.get(model, ()) if getattr(seen, f"{p}_ns") is None]
            for side in (self.base, self.new)
        ]
        if lost[1]:
            words = f"{p} has no value: {lost[1][0].failed} of {lost[1][0].count} requests of a launch failed or were dropped"
            if lost[0]:
                return _fact(f"{p}{of}", Standing.UNKNOWN, f"{words}, and before too")
            return _fact(f"{p}{of}", Standing.WORSE, f"{words} now", Cause.UNKNOWN, "requests fail", blocks=True)
        old, now = (_launches(side, model, lambda seen: getattr(seen, f"{p}_ns")) for side in (self.base, self.new))
        if p in self.paired and model == self.case.model:
            told = [[getattr(seen, f"{p}_ns") for one in side for seen in one.launches.get(model, ())]
                    for side in (self.base, self.new)]  # fmt: skip
            found = self._by_pairs(p, "ns", p, told, may_block=True)
        else:
            found = self._apart(f"{p}{of}", "ns", old, now, self.margins[p], may_block=True)
        if found.apart is None or not _is_shift(found.change):
            return found
        cause, why = self._cause_of_time(model, p, found.apart.ratio)
        return replace(found, change=replace(found.change, cause=cause, why=why))

    def _by_pairs(
        self, name: str, unit: str, margin: str, told: Sequence[Sequence[float | None]], *, may_block: bool
    ) -> Judged:
        """A figure by interleaved pairs (``harness.statistics.paired``): what a boot or a day brings is on both sides of each."""
        log_ratios = self.paired[margin]
        change = compare_pairs(log_ratios, margin=self.margins[margin], alpha=self.alpha, both_sides=True)
        judged = [side if len(side) < change.pairs else side[: change.pairs] for side in told]
        old, now = (math.exp(float(np.mean(np.log([value for value in side if value])))) for side in judged)
        spread = float(np.std(log_ratios, ddof=1))
        apart = Apart(
            **vars(change), base_sessions=change.pairs, new_sessions=change.pairs, between=spread, within=None
        )
        standing = standing_of(apart, self.margins[margin])
        is_open = standing is Standing.OPEN
        return Judged(
            Change(
                name=name,
                unit=unit,
                standing=standing,
                words=pairs_in_words(change, self.margins[margin])
                + (f"; pairs differ by {100 * spread:.0f} %: measure anew on a quieter host" if is_open else ""),
                base=old,
                new=now,
                ratio=change.ratio,
                low=change.low,
                high=change.high,
                margin=self.margins[margin],
                is_judged=not is_open,  # no number of boot sessions decides what pairs leave open
                may_block=may_block,
                p_regression=change.p_regression,
                pairs=change.pairs,
                cause=Cause.NOISE if is_open else Cause.NONE,
                between=spread,
            ),
            apart,
        )

    def _cause_of_time(self, model: str, p: str, ratio: float) -> tuple[Cause, str]:
        """In cycles as well as in time (as nvbench confirms its verdicts): what grew in both is work, what grew in time alone
        is the clock. Work that came with another precision or placement is called by that.
        """
        shift = math.log(ratio)
        service, hot = self._between(model, f"service_{p}_ns"), self._between(model, "throttled")
        if service[2] is not None and abs(shift) > 0.02 and abs(service[2]) < 0.25 * abs(shift):
            return self._cause_of_waiting(shift, hot)
        return self._cause_of_calls(model, p, shift)

    def _cause_of_waiting(self, shift: float, hot: _Pair) -> tuple[Cause, str]:
        """Of requests whose own calls take as long: what they waited for is the slow calls of the row, of any model."""
        if shift > 0 and (hot[1] or 0.0) - (hot[0] or 0.0) > 0.01:
            return Cause.CLOCK, f"requests waited for throttled ones, now {100 * (hot[1] or 0.0):.0f} % of all"
        shifts = {model: self._between(model, "service_p95_ns")[2] or 0.0 for model in self._models()}
        behind = max(shifts, key=lambda model: math.copysign(shifts[model], shifts[model] * shift))
        if shifts[behind] * shift > 0 and abs(shifts[behind]) > math.log1p(self.margins["p95"]):
            cause, why = self._cause_of_calls(behind, "p95", shifts[behind])
            took = f"p95 of a call {100 * math.expm1(shifts[behind]):+.0f} %"
            return cause, f"the calls themselves took as long, and waited for those of {behind} ({took}): {why}"
        return Cause.UNKNOWN, "the calls themselves took as long: requests waited for each other or were woken late"

    def _cause_of_calls(self, model: str, p: str, shift: float) -> tuple[Cause, str]:
        service, cycles, clock, hot = (
            self._between(model, name) for name in (f"service_{p}_ns", f"cycles_{p}", "clock_mhz", "throttled")
        )
        if service[2] is not None and cycles[2] is not None and service[2] != 0.0:
            by_clock = (service[2] - cycles[2]) / service[2]
            clocks = " MHz, now ".join(dict.fromkeys(f"{one:.0f}" for one in clock[:2] if one is not None)) + " MHz"
            work = f"{cycles[0]:.4g} million cycles, now {cycles[1]:.4g}"
            if by_clock >= _DECISIVE:
                held = f", throttled {100 * (hot[0] or 0):.0f} %, now {100 * (hot[1] or 0):.0f} %" if hot[1] else ""
                return Cause.CLOCK, f"clock {clocks}{held}; {work}"
            if 1 - by_clock >= _DECISIVE:
                if self.others:
                    return Cause.ENVIRONMENT, f"{self.others}; {work}"
                return self._of_work(shift, f"{work}, at {clocks}")
        if hot[0] is not None and hot[1] is not None and shift > 0 and hot[1] - hot[0] > 0.01:
            return Cause.CLOCK, f"throttled {100 * hot[0]:.0f} % of the requests, now {100 * hot[1]:.0f} %"
        if self.others:
            return Cause.ENVIRONMENT, self.others
        if self.route or self.place:
            return self._of_work(shift, "no clock was read")
        if told := self.settings or fused_words(self.base, self.new):
            return Cause.TOOL, told
        if self.board:
            return Cause.ENVIRONMENT, "; ".join(self.board)
        return Cause.UNKNOWN, "no clock was read, and nothing else in the run folders differs"

    def _of_work(self, shift: float, work: str) -> tuple[Cause, str]:
        if self.route:
            return Cause.PRECISION, f"{self.route}; {work}"
        if self.place:
            return Cause.TOOL, f"{self.place}; {work}"
        if self.settings:
            return Cause.TOOL, f"{self.settings}; {work}"
        if fused := fused_words(self.base, self.new):
            return Cause.TOOL, f"{fused}; {work}"
        return (Cause.WORK if shift > 0 else Cause.LESS_WORK), work

    def _between(self, model: str, name: str) -> _Pair:
        """(base, new, ln of new over base) of a launch figure, over all launches."""
        means = []
        for side in (self.base, self.new):
            told = [getattr(seen, name) for one in side for seen in one.launches.get(model, ())]
            values = [value for value in told if value is not None]
            means.append(float(np.mean(values)) if values and len(values) == len(told) else None)
        old, now = means
        return old, now, math.log(now / old) if old and now else None

    def _failed(self, model: str, of: str) -> Iterable[Judged]:
        """Calls that fail where none, or half as many, did speak against a version; what is dropped once may be chance."""
        (old, old_dropped, of_old), (now, now_dropped, of_new) = (
            [sum(getattr(seen, name) for one in side for seen in one.launches.get(model, ()))
             for name in ("failed", "dropped", "count")]
            for side in (self.base, self.new)
        )  # fmt: skip
        if not of_old or not of_new or not (old or now):
            return
        words = f"{old} of {of_old} requests failed or were dropped, now {now} of {of_new}"
        shares = old / of_old, now / of_new
        fails = (now - now_dropped) / of_new > 2 * (old - old_dropped) / of_old
        standing = Standing.BETTER if shares[1] < shares[0] / 2 else Standing.UNKNOWN
        if fails or shares[1] > 2 * shares[0]:
            by_chance = float(bdtrc(now - 1, old + now, of_new / (of_old + of_new)))
            standing = Standing.WORSE if fails or by_chance <= self.alpha else Standing.CHANGED
            words += (
                "" if standing is Standing.WORSE else f"; so many or more are seen by chance in {100 * by_chance:.0f} %"
            )
        is_worse = standing in (Standing.WORSE, Standing.CHANGED)
        why = next((note for one in self.new for note in one.measurement.notes if _CALLS_FAILED.search(note)), "")
        yield Judged(
            Change(f"lost requests{of}", "%", standing, words, Cause.UNKNOWN if is_worse else Cause.NONE, why if is_worse else "",
                   base=100 * shares[0], new=100 * shares[1], may_block=standing is Standing.WORSE)
        )  # fmt: skip

    # --- energy, memory, loading, building --------------------------------------------------------------------

    def _energy(self, timing: Sequence[Change]) -> Iterable[Judged]:
        told = [one for one in timing if one.cause not in (Cause.NONE, Cause.NOISE, Cause.UNKNOWN)]
        slower = next((one for one in told if one.name.startswith("p50")), told[0] if told else None)
        as_long = all(one.standing is Standing.SAME for one in timing)
        for name, unit, margin, blocks in (
            ("energy_per_call_j", "J", "energy", self.case.kind == "latency"),
            ("mean_power_w", "W", "power", False),
        ):
            found = self._figure(
                name, unit, margin, blocks, lambda change: self._cause_of_energy(change, slower, as_long=as_long)
            )
            yield from _about(margin, found)

    def _cause_of_energy(self, change: Change, slower: Change | None, *, as_long: bool) -> tuple[Cause, str]:
        same_way = slower is not None and slower.ratio and change.ratio and (slower.ratio > 1) == (change.ratio > 1)
        if slower is not None and same_way and slower.cause is not Cause.NONE:
            return slower.cause, f"as the time of a call: {slower.why}"
        clocks = [_mean(_find(side, "gpu_clock_min_mhz")) for side in (self.base, self.new)]
        if (
            clocks[0]
            and clocks[1]
            and (clocks[1] / clocks[0] < 1 - _NEAR) == ((change.ratio or 1.0) < 1)
            and clocks[0] != clocks[1]
        ):
            return Cause.CLOCK, f"lowest clock {clocks[0]:.0f} MHz, now {clocks[1]:.0f} MHz"
        temps = [_mean(_find(side, "gpu_temp_max_c")) for side in (self.base, self.new)]
        if (
            (change.ratio or 1.0) > 1
            and temps[0] is not None
            and temps[1] is not None
            and abs(temps[1] - temps[0]) >= 5
        ):
            return Cause.CLOCK, f"GPU up to {temps[0]:.0f} °C, now {temps[1]:.0f} °C: leakage grows with heat"
        return (
            (Cause.PRECISION, self.route)
            if self.route
            else (
                Cause.UNKNOWN,
                "calls take as long" if as_long else "the run folders do not tell",
            )
        )

    def _memory(self) -> Iterable[Judged]:
        names = ("gpu_bytes", "host_bytes", "takeoff_gpu_bytes", "takeoff_host_bytes")
        for name in _names(self.base, self.new, names):
            cause = (
                (Cause.PRECISION, self.route) if self.route else (Cause.MEMORY, "the same engines hold another amount")
            )
            yield from self._figure(name, "bytes", "memory", True, lambda _, cause=cause: cause, is_maximum=True)  # type: ignore[misc]

    def _loading(self) -> Iterable[Judged]:
        cause = (
            (Cause.PRECISION, self.route) if self.route else (Cause.UNKNOWN, "the run folders do not tell what took it")
        )
        for name, part in (
            ("load time", "load_ns[warm"),
            ("first call", "first_call_ns[warm"),
            ("ready", "ready_ns[warm"),
        ):
            yield from self._rounds(name, part, "load", name != "first call", cause)
        for name in _names(self.base, self.new, ("takeoff_ready_ns", "takeoff_load_ns", "restart_ready_ns")):
            yield from self._figure(name, "ns", "load", name == "takeoff_load_ns", lambda _: cause)

    def _building(self) -> Iterable[Judged]:
        cause = self._cause_of_building()
        compiled = self._rounds("build time", "compile_ns[cold", "build", self.case.runtime == "tensorrt", cause)
        yield from _about("build", compiled)
        yield from _about("load", self._rounds("first load", "load_ns[cold", "load", False, cause))
        if not self.tells_engine:
            return
        if self.options:
            why = "read back from the builder, which nobody told so"
            yield from _about("options", [_fact("builder options", Standing.CHANGED, self.options, Cause.TOOL, why)])
        named = _names(self.base, self.new, ("build_ns", "engine_bytes"))
        models = {name.partition("[")[2].removesuffix("]") for name in named}
        models |= {
            "" for one in (*self.base, *self.new) if one.measurement.builds and self.case.kind not in ABOUT_A_FLIGHT
        }
        for of in sorted(models):
            yield from _about("build", self._of_builds(of, "build_ns", "ns", "build", cause))
            yield from _about("engine", self._of_builds(of, "engine_bytes", "bytes", "memory", cause))
        if self.case.kind == "build" and not models:
            yield from self._built_in_words(cause)

    def _cause_of_building(self) -> tuple[Cause, str]:
        if self.route:
            return Cause.PRECISION, self.route
        if self.options:
            return Cause.TOOL, self.options
        if self.is_bumped:
            return Cause.TOOL, "another builder with the same instructions"
        return Cause.UNKNOWN, "no version differs, and two builds of one version do"

    def _of_builds(self, of: str, stem: str, unit: str, margin: str, cause: tuple[Cause, str]) -> Iterable[Judged]:
        """A figure that every build of an engine has one of. One engine in two boots was built once: it speaks once."""
        name = _NAMES[stem] + (f" of {of}" if of else "")
        old, now = (_built(side, stem, of) for side in (self.base, self.new))
        if not old or not now:
            if old or now:
                yield _fact(
                    name, Standing.UNKNOWN, f"not known on the {'new' if old else 'base'} side: there is no such figure"
                )
            return
        if stem == "engine_bytes":
            margin_ = self.margins[margin]
            sizes = self._apart(name, unit, _each_alone(old), _each_alone(now), margin_, may_block=False, is_exact=True)
            yield _explained(_of_engines(sizes), lambda _: cause)
            return
        times = _of_engines(
            self._apart(name, unit, _each_alone(old), _each_alone(now), self.margins[margin], may_block=len(old) > 1)
        )
        if len(old) < 2:
            times = Judged(replace(times.change, standing=Standing.UNKNOWN, cause=Cause.NONE))
        yield _explained(times, lambda _: cause)

    def _built_in_words(self, cause: tuple[Cause, str]) -> Iterable[Judged]:
        told = [[_BUILT.search(check.reason) for one in side if one.verdict for check in one.verdict.checks[:1]]
                for side in (self.base, self.new)]  # fmt: skip
        if not all(side and all(side) for side in told):
            silent = _fact("engine size", Standing.UNKNOWN, "not known: the build rows do not tell it on both sides")
            yield from _about("engine", [silent])
            return
        for at, name, unit, scale, margin in (
            (1, "build time", "ns", 1e9, "build"),
            (2, "engine size", "bytes", 1e6, "memory"),
        ):
            sides = [
                by_session((boot_of(one.measurement), "", scale * float(found[at]))
                           for one, found in zip(entries, matches, strict=True) if found)
                for entries, matches in zip((self.base, self.new), told, strict=True)
            ]  # fmt: skip
            if all(value > 0 for side in sides for session in side.values for value in session):
                judged = self._apart(
                    name, unit, sides[0], sides[1], self.margins[margin], may_block=False, is_exact=at == 2
                )
                yield from _about("build" if at == 1 else "engine", [_explained(judged, lambda _: cause)])

    def _rounds(self, name: str, part: str, margin: str, may_block: bool, cause: tuple[Cause, str]) -> Iterable[Judged]:
        """A figure that each fresh process of a row gave one of."""
        old, now = (
            _sessions(
                side,
                lambda one: [
                    each.value for each in one.figures if each.name.startswith(part) and (each.value or 0.0) > 0
                ],
            )
            for side in (self.base, self.new)
        )
        if old.values or now.values:
            yield _explained(
                self._apart(name, "ns", old, now, self.margins[margin], may_block=may_block), lambda _: cause
            )

    def _figure(
        self,
        name: str,
        unit: str,
        margin: str,
        may_block: bool,
        cause: Callable[[Change], tuple[Cause, str]],
        *,
        is_maximum: bool = False,
    ) -> Iterable[Judged]:
        """A figure of which each run has one. ``name``: as the record has it."""
        called = _called(name)
        found = [_find(side, name) for side in (self.base, self.new)]
        if not found[0] and not found[1]:
            return
        silent = next((one.why for side in found for one in side if one.value is None), "")
        if any(not side or any(one.value is None for one in side) for side in found):
            if any(one.value is not None for side in found for one in side):
                is_lost = all(one.value is None for one in found[1])
                words = f"not known on the {'new' if is_lost else 'base'} side: {silent or 'there is no such figure'}"
                is_open = may_block and is_lost
                yield _fact(called, Standing.OPEN if is_open else Standing.UNKNOWN, words, blocks=is_open)
            return
        sources = [{_source(one) for one in side} for side in found]
        if is_maximum and sources[0] != sources[1]:
            words = f"not compared: read from {' and '.join(sorted(sources[0]))}, now from {' and '.join(sorted(sources[1]))}"
            yield _fact(called, Standing.UNKNOWN, words)
            return
        old, now = (
            _sessions(side, lambda one: [each.value for each in one.figures if each.name == name])
            for side in (self.base, self.new)
        )
        if any(value <= 0 for side in (old, now) for session in side.values for value in session):
            top = [max(value for session in side.values for value in session) for side in (old, now)]
            same = top[0] == top[1]
            words = f"{top[0]:g} {unit}, now {top[1]:g} {unit}"
            yield Judged(
                Change(called, unit, _EMPTY if same else Standing.CHANGED, words, Cause.NONE if same else cause(
                    Change(name, unit, _EMPTY, ""))[0], base=top[0], new=top[1])
            )  # fmt: skip
            return
        if name == "energy_per_call_j" and margin in self.paired:
            values = [[each.value for each in side] for side in found]
            yield _explained(self._by_pairs(called, unit, margin, values, may_block=may_block), cause)
            return
        yield _explained(self._apart(called, unit, old, now, self.margins[margin], may_block=may_block), cause)

    def _apart(
        self,
        name: str,
        unit: str,
        base: Sessions[float],
        new: Sessions[float],
        margin: float,
        *,
        may_block: bool,
        is_exact: bool = False,
    ) -> Judged:
        if not base.values or not new.values:
            which = "either" if not base.values and not new.values else "the base" if not base.values else "the new"
            words = f"not known: {which} side has no figure of it"
            open_ = may_block and bool(base.values) and not new.values
            return _fact(name, Standing.OPEN if open_ else Standing.UNKNOWN, words, blocks=open_)
        apart = compare_sessions(
            base.values, new.values, margin=margin, alpha=self.alpha, figure=name,
            base_builds=base.builds, new_builds=new.builds,
        )  # fmt: skip
        old, now = (
            math.exp(float(np.mean([np.log(session).mean() for session in side.values]))) for side in (base, new)
        )
        standing = standing_of(apart, margin)
        if is_exact:  # what is counted, and not measured
            standing = _EMPTY if abs(apart.ratio - 1) <= margin else Standing.CHANGED
        needed = _needed(apart, margin, self.alpha) if standing is Standing.OPEN else (None, None)
        return Judged(
            Change(
                name=name,
                unit=unit,
                standing=standing,
                words=_in_words(apart, unit),
                base=old,
                new=now,
                ratio=apart.ratio,
                low=apart.low if apart.low > 0 else None,
                high=apart.high if math.isfinite(apart.high) else None,
                margin=margin,
                is_judged=True,
                may_block=may_block,
                p_regression=apart.p_regression,
                base_sessions=apart.base_sessions,
                new_sessions=apart.new_sessions,
                needed_base=needed[0],
                needed_new=needed[1],
                cause=Cause.NOISE if standing is Standing.OPEN and apart.base_sessions > 1 else Cause.NONE,
                between=apart.between,
                base_builds=apart.base_builds,
                new_builds=apart.new_builds,
            ),
            None if is_exact else apart,
        )

    def _warnings(self) -> Iterable[Judged]:
        cause = Cause.TOOL if self.is_bumped else Cause.UNKNOWN
        for what in ("warnings", "notes"):
            told = [
                {_shape(text): text for one in side for text in getattr(one.measurement, what)}
                for side in (self.base, self.new)
            ]
            fresh = [text for shape, text in told[1].items() if shape not in told[0] and not _OF_OURS.search(text)]
            for text in fresh[:_MOST_TEXTS]:
                of = Cause.UNKNOWN if _CALLS_FAILED.search(text) else cause
                yield _fact(f"new {what[:-1]}", Standing.CHANGED, text, of, "the base said nothing of it")
            if fresh[_MOST_TEXTS:]:
                yield _fact(f"new {what}", Standing.CHANGED, f"{len(fresh) - _MOST_TEXTS} more", cause)


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f}"


def _about(what: str, judged: Iterable[Judged]) -> list[Judged]:
    """Say what changes are about, where they do not say so themselves."""
    return [one if one.change.about else replace(one, change=replace(one.change, about=what)) for one in judged]


def _of_engines(judged: Judged) -> Judged:
    """A change of figures that each build has one of: more boot sessions would not decide on it."""
    change = judged.change
    words = change.words
    for old, new in (
        ("boot sessions", "builds"),
        ("more boots", "more builds"),
        ("session", "build"),
        (" of 1 launch", ""),
    ):
        words = words.replace(old, new)
    is_open = change.standing is Standing.OPEN
    change = replace(change, words=words, is_judged=not is_open, needed_base=None, needed_new=None)
    return replace(judged, change=replace(change, base_builds=change.base_sessions, new_builds=change.new_sessions))


def _fact(
    name: str, standing: Standing, words: str, cause: Cause = Cause.NONE, why: str = "", *, blocks: bool = False
) -> Judged:
    return Judged(Change(name, "", standing, words, cause, why, may_block=blocks))


def _explained(judged: Judged, cause: Callable[[Change], tuple[Cause, str]]) -> Judged:
    if not _is_shift(judged.change):
        return judged
    found, why = cause(judged.change)
    return replace(judged, change=replace(judged.change, cause=found, why=why))


def _is_shift(change: Change) -> bool:
    """Whether there is something to explain: a change that was shown, or one beyond the margin whose interval excludes "no
    change". The spread of one base session's launches is no such interval: it is too narrow (``harness.statistics.unpaired``).
    """
    if change.standing in (Standing.WORSE, Standing.BETTER, Standing.CHANGED):
        return True
    if change.ratio is None or change.margin is None or change.standing is Standing.SAME:
        return False
    if change.low is None or change.high is None or max(change.base_sessions, change.base_builds, change.pairs) < 2:
        return False
    if change.low <= 1 <= change.high:
        return False  # what no change explains as well is noise
    return abs(math.log(change.ratio)) > math.log1p(change.margin)


def standing_of(change: PairedChange, margin: float) -> Standing:
    """The one word for a figure's change, of pairs or (``Apart``) of boot sessions, wherever it is told."""
    if change.outcome is Outcome.PASS:
        return Standing.SAME
    if change.outcome is Outcome.FAIL:
        return Standing.WORSE if change.ratio > 1 else Standing.BETTER
    replicated = change.base_sessions if isinstance(change, Apart) else change.pairs
    return Standing.NOT_WORSE if replicated > 1 and change.high <= 1 + margin else Standing.OPEN


def pairs_in_words(change: PairedChange, margin: float) -> str:
    """The reason of ``harness.statistics.paired``, in the sense of ``standing_of``."""
    shift, limit = change.reason.rpartition(": ")[2], f"the margin of {100 * margin:g} %"
    standing = standing_of(change, margin)
    if standing is Standing.NOT_WORSE:
        return f"not slower by {limit}, how much faster is open: {shift}"
    if standing is Standing.OPEN and change.pairs >= LOOKS[-1]:
        return f"as many pairs as are taken do not decide on {limit}: {shift}"
    return change.reason


def _in_words(apart: Apart, unit: str) -> str:
    """The reason as ``statistics.unpaired`` gives it, without the name of the figure, which stands beside it, and the outcome."""
    seen, _, why = apart.reason.partition(f": {apart.outcome.value}: ")
    seen = re.sub(r"^.*? (?=[+-][0-9.]+ % [\[(])", "", seen)
    seen = re.sub(r"[+-]0\.0(?= %|,|\])", "0.0", seen)
    if unit != "ns":
        why = why.replace("slower", "more").replace("faster", "less")
    return f"{seen}: {why}"


def _needed(apart: Apart, margin: float, alpha: float) -> tuple[int | None, int | None]:
    """Boot sessions of each side until the interval of an unchanged figure fits the margin, as ``statistics.unpaired`` says it;
    three of the base where their spread is not known yet.
    """
    base, new = apart.base_sessions, apart.new_sessions
    if base < 2 or not apart.between:
        return max(3, base), new
    for each in range(max(2, base, new), 101):
        if float(stdtrit(2 * each - 2, 1 - alpha)) * apart.between * math.sqrt(2 / each) <= 0.7 * math.log1p(margin):
            return each, each
    return None, None


def _sessions(side: Entries, values: Callable[[Entry], Sequence[float | None]]) -> Sessions[float]:
    """By boot session the figures of each row, as far as they are figures (a record may be edited)."""
    return by_session(
        (boot_of(one.measurement), "", float(value))
        for one in side
        for value in values(one)
        if value is not None and abs(value) < MOST
    )


def _launches(side: Entries, model: str, get: Callable[[LaunchSeen], T | None]) -> Sessions[T]:
    """By boot session what each launch of a model gave, where it gave it."""
    return by_session(
        (boot_of(one.measurement), seen.build, value)
        for one in side
        for seen in one.launches.get(model, ())
        if (value := get(seen)) is not None
    )


def _built(side: Entries, stem: str, of: str) -> dict[str, float]:
    """By engine the figure of its build. ``of``: the model, in a row about all of them."""
    found: dict[str, float] = {}
    for one in side:
        for engine, value in _of_its_builds(one, stem, of):
            if value is not None and 0 < value < MOST:
                found.setdefault(engine, float(value))
    return found


def _of_its_builds(one: Entry, stem: str, of: str) -> Iterable[tuple[str, float | None]]:
    """Where ``--builds`` built several, each; else what the row itself tells, of the only one."""
    measurement = one.measurement
    built = [each for each in measurement.builds if each.model == of or not of]
    told = [(each, each.build_ns if stem == "build_ns" else each.size_bytes) for each in built]
    if any(value is not None for _, value in told):
        yield from ((each.sha256 or f"{one.loaded.run.id}/{each.number}", value) for each, value in told)
        return
    ends = f"[{of}]" if of else ""
    engine = measurement.lineage.get(f"engine{ends}", one.loaded.run.id)
    yield from ((engine, figure.value) for figure in one.figures if figure.name == f"{stem}{ends}")


def _each_alone(figures: Mapping[str, float]) -> Sessions[float]:
    """Builds as what is replicated."""
    return Sessions([[value] for value in figures.values()], [[name] for name in figures])


_NAMES = {
    "energy_per_call_j": "energy per call", "mean_power_w": "mean power", "gpu_bytes": "GPU memory", "host_bytes": "host memory",
    "takeoff_gpu_bytes": "GPU memory at take-off", "takeoff_host_bytes": "host memory at take-off",
    "takeoff_ready_ns": "take-off until ready", "takeoff_load_ns": "load time at take-off", "restart_ready_ns": "restart",
    "build_ns": "build time", "engine_bytes": "engine size",
}  # fmt: skip


def _called(name: str) -> str:
    """A figure's name for people: ``GPU memory of disk`` is ``gpu_bytes[disk]``."""
    stem, _, about = name.partition("[")
    return _NAMES.get(stem, stem) + (f" of {about.removesuffix(']')}" if about else "")


def _find(side: Entries, name: str) -> list[Figure]:
    return [figure for one in side for figure in one.figures if figure.name == name]


def _names(base: Entries, new: Entries, wanted: Sequence[str]) -> list[str]:
    """Figures of these names, with what they are about (``gpu_bytes[disk]``)."""
    told = dict.fromkeys(figure.name for one in (*base, *new) for figure in one.figures)
    return [name for name in told if name.partition("[")[0] in wanted]


def _source(figure: Figure) -> str:
    """The instrument; which board or how many looks is no other instrument."""
    return re.sub(r"the simulated board \S+?,|, worst of \d+ looks?|\d+", "", figure.source).strip()


def _mean(figures: Sequence[Figure]) -> float | None:
    values = [figure.value for figure in figures if figure.value is not None]
    return float(np.mean(values)) if values else None


def _outcomes(side: Entries) -> list[Outcome]:
    return sorted({one.verdict.outcome for one in side if one.verdict}, key=list(Outcome).index)


def _parity_of(side: Entries) -> dict[str, ParityFigures]:
    """By output the worst of the side's runs."""
    found: dict[str, ParityFigures] = {}
    for one in side:
        for entry in one.verdict.summary.parity if one.verdict else ():
            known = found.get(entry.output)
            if known is None or (entry.rel_l2_max or 0.0, entry.nan) > (known.rel_l2_max or 0.0, known.nan):
                found[entry.output] = entry
    return found


def _task_of(side: Entries) -> dict[str, float]:
    return {name: value for one in side if one.verdict for name, value in one.verdict.summary.task.items()}


def _shape(text: str) -> str:
    """A warning without its numbers, addresses, digests, times and temporary paths: one that counts otherwise is not new."""
    return re.sub(
        r"simulated board \S+|0x[0-9a-f]+|\b[0-9a-f]{12,}\b|/tmp/\S+|\d+([.:,_-]\d+)*", "#", text, flags=re.IGNORECASE
    )
