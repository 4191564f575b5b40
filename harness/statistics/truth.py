"""How often do the gates lie? Series of known truth, and what each rule says of them (methods A5, A6).

    python -m harness.statistics.truth                                   all scenarios, 300 repetitions
    python -m harness.statistics.truth --generator my_module:series --seed 7

Everything is drawn from the seed. Each rule judges the same series. The budget is put where the wanted share of 48 further
sessions of an hour exceeds, after the soak; our gate's history is 6 more sessions of an hour, drawn anew four times. Each
promise is printed as kept or BROKEN, and the exit code is 1 if one is broken.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import lfilter
from scipy.special import betainc
from scipy.stats import mannwhitneyu

from harness.errors import UsageError
from harness.profiles import PROFILES, Profile
from harness.records import Outcome
from harness.statistics.paired import LOOKS, compare_pairs
from harness.statistics.quantiles import design_effect
from harness.statistics.sequential import BOUNDARY, quantile_effect, session_effect, weigh
from harness.statistics.steadiness import drift
from harness.statistics.stopping import BudgetRule
from harness.statistics.truth_series import SCENARIOS, Scenario, from_outside
from harness.statistics.unpaired import compare_sessions
from runtime.protocol import Array

__all__ = ["SHARES", "Comparison", "Promise", "Tally", "main", "promises", "run_apart", "run_budgets", "run_pairs"]

SHARES = (0.02, 0.035, 0.05, 0.07, 0.10)
"""True shares over the budget: at 0.05 neither PASS nor FAIL is right, below PASS is, above FAIL is."""

HISTORIES = 4
"""How often history is drawn anew: a floor is an estimate itself, and its luck is part of a gate's error."""

_CALIBRATION_SESSIONS, _HISTORY_SESSIONS = 48, 6
_WARMUP = 50
_SCALE = 1e9
"""Latencies are whole numbers to the gate: the median of a generator is this many of its units."""


@dataclass(frozen=True)
class Tally:
    """One rule on one scenario: shares of all repetitions.

    ``share``: how many truly exceed. ``median_s``, ``p90_s``: measuring time to a decision, undecided runs counted as
    endless; ``None``: not decided by then.
    """

    scenario: str
    share: float
    rule: str
    passed: float
    failed: float
    median_s: float | None
    p90_s: float | None
    repetitions: int
    alpha: float | None = None

    @property
    def open(self) -> float:
        """Neither PASS nor FAIL."""
        return max(0.0, 1.0 - self.passed - self.failed)

    @property
    def false_pass(self) -> float | None:
        """The share of PASS where that is wrong; ``None`` where it is right."""
        return self.passed if self.share >= BOUNDARY else None

    @property
    def false_fail(self) -> float | None:
        """The share of FAIL where that is wrong; ``None`` where it is right."""
        return self.failed if self.share <= BOUNDARY else None


@dataclass(frozen=True)
class Comparison:
    """One rule on one truth of old against new: shares of all experiments."""

    truth: str
    rule: str
    alarms: float
    passes: float
    repetitions: int
    mean_pairs: float | None = None


@dataclass(frozen=True)
class Promise:
    """``seen`` is held against ``limit``, from above unless ``at_least``."""

    words: str
    seen: float | None
    limit: float
    at_least: bool = False

    @property
    def is_kept(self) -> bool:
        """A figure that is not there keeps nothing."""
        if self.seen is None:
            return False
        return self.seen >= self.limit if self.at_least else self.seen <= self.limit

    def __str__(self) -> str:
        seen = "none" if self.seen is None else f"{self.seen:.4g}"
        kept, bound = "kept  " if self.is_kept else "BROKEN", "at least" if self.at_least else "at most"
        return f"{kept}  {self.words}: {seen}, {bound} {self.limit:.4g}"


@dataclass(frozen=True)
class Known:
    """What is known of a scenario before it is judged. ``budgets``: by share, in units of ``scale``. ``floors``: by
    history, then by share. ``off``: the standard error of the true share at the boundary. ``own_level``: how much more the
    share differs between sessions than the largest floor explains; over 3, each session has a level of its own.
    """

    scale: float
    has_ties: bool
    budgets: Mapping[float, int]
    floors: Sequence[Mapping[float, float]]
    off: float
    own_level: float


def _seconds(scenario: Scenario, seconds: float) -> int:
    return math.ceil(seconds * scenario.rate_hz)


def _chance(seed: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng((seed, *stream))


def _draw(
    scenario: Scenario, chance: np.random.Generator, count: int, known: Known | None = None
) -> tuple[Array, Array]:
    """Latencies as whole numbers where the scale is known, and what was missed. Ties are broken by a millionth: a budget
    inside a tie would give another share than the one that was wanted.
    """
    latencies, missed = scenario.series(chance, count, scenario.rate_hz)
    if known is None:
        return latencies, missed
    if known.has_ties:
        latencies = latencies * (1.0 + 1e-6 * chance.random(count))
    whole = np.clip(np.where(missed, 1.0, latencies / known.scale) * _SCALE, 1.0, 2.0**62).astype(np.int64)
    return whole, missed


def learn(scenario: Scenario, shares: Sequence[float], seed: int, *, hour_s: float = 3600.0) -> Known:
    """Budgets and floors of a scenario from sessions that no rule judges."""
    soak, length = _seconds(scenario, scenario.soak_s()), _seconds(scenario, hour_s)
    first, lost = _draw(scenario, _chance(seed, 1), soak + length)
    came = first[~lost]
    if not came.size:
        raise UsageError(f"{scenario.name} gives no latency that is a number.")
    scale, has_ties = float(np.median(came)), np.unique(came).size < 0.999 * came.size
    known = Known(scale, has_ties, {}, (), 0.0, 0.0)
    sessions = np.stack(
        [
            _ranked(*_draw(scenario, _chance(seed, 2, at), soak + length, known))[soak:]
            for at in range(_CALIBRATION_SESSIONS)
        ]
    )
    levels = np.quantile(sessions, [1.0 - share for share in shares], method="inverted_cdf")
    budgets = {share: int(level) for share, level in zip(shares, levels, strict=True)}
    for share, level in budgets.items():
        if level == _NEVER:
            raise UsageError(
                f"{scenario.name} misses more than {share:g} of its calls: no budget is exceeded by that share."
            )
    by_session = (sessions > budgets[BOUNDARY]).mean(axis=1) if BOUNDARY in budgets else np.zeros(2)
    del sessions
    known = replace(known, budgets=budgets)
    floors = []
    for history in range(HISTORIES):
        drawn = (
            _draw(scenario, _chance(seed, 3, history, at), soak + length, known) for at in range(_HISTORY_SESSIONS)
        )
        floors.append(_floors(known, (_ranked(*session)[soak:] for session in drawn)))
    spread = float(by_session.std(ddof=1))
    explained = max((one.get(BOUNDARY, 1.0) for one in floors), default=1.0) * BOUNDARY * (1 - BOUNDARY) / length
    return replace(known, floors=floors, off=spread / math.sqrt(len(by_session)), own_level=spread**2 / explained)


def _floors(known: Known, sessions: Iterable[Array]) -> dict[float, float]:
    """The largest design effect of the sessions of a history, for each budget: as the profile ``floor`` learns it."""
    floors = dict.fromkeys(known.budgets, 1.0)
    for ranked in sessions:
        for share, budget in known.budgets.items():
            floors[share] = max(floors[share], session_effect(ranked, ranked > budget))
    return floors


_NEVER = int(np.iinfo(np.int64).max)


def _ranked(latencies: Array, missed: Array) -> Array:
    return np.where(missed, _NEVER, latencies)


@dataclass(frozen=True)
class Gate:
    """Our rule under a name, at one true share."""

    name: str
    share: float
    rule: BudgetRule


Verdict = tuple[Outcome, int]
"""What a rule said, and after how many samples."""


def judge_all(latencies: Array, missed: Array, gates: Sequence[Gate]) -> list[Verdict]:
    """What each of our gates says of one series, int64 [n] after the soak, each at its own looks.

    The gate itself speaks. It is asked only where it could decide: where the evidence does, or the window drifts; what
    gates share at a look (the autocorrelation of the series) is computed once.
    """
    ranked = _ranked(latencies, missed)
    looks = [set(gate.rule.looks()) for gate in gates]
    verdicts: dict[int, Verdict] = {}
    for look in sorted(set().union(*looks)):
        asked = [at for at in range(len(gates)) if at not in verdicts and look in looks[at]]
        if not asked:
            continue
        seen = ranked[:look]
        of_p95 = quantile_effect(seen)
        of_p90 = quantile_effect(seen, 0.90) if any(gates[at].rule.floor is None for at in asked) else 1.0
        moved = drift(latencies[:look][~missed[:look]])
        effects: dict[int, tuple[int, float]] = {}
        for at in asked:
            rule = gates[at].rule
            if rule.budget_ns not in effects:
                over = seen > rule.budget_ns
                effects[rule.budget_ns] = int(over.sum()), max(of_p95, design_effect(over))
            hits, effect = effects[rule.budget_ns]
            evidence = weigh(look, hits, effect if rule.floor else max(effect, of_p90), floor=rule.floor)
            could = evidence.outcome(alpha_pass=rule.alpha, alpha_fail=rule.alpha) is not Outcome.INCONCLUSIVE
            if could or (moved is not None and moved.is_flagged):
                outcome = rule.judge(latencies[:look], missed[:look]).outcome
                if outcome is not Outcome.INCONCLUSIVE:
                    verdicts[at] = outcome, look
    return [verdicts.get(at, (Outcome.INCONCLUSIVE, gates[at].rule.most)) for at in range(len(gates))]


def _gates(scenario: Scenario, known: Known, history: int) -> list[Gate]:
    """The change gate without and with a history floor, the same for an hour at the margin that is advised, and the sign-off
    gate at the boundary.
    """
    gates, pr, signoff = [], PROFILES["pr"], PROFILES["signoff"]
    for share, budget in known.budgets.items():
        floor = known.floors[history][share]
        gates += [
            Gate("trigate pr", share, _rule(pr, scenario, budget, None)),
            Gate("trigate pr, floor", share, _rule(pr, scenario, budget, floor)),
        ]
        if share == SHARES[0]:
            least, most = pr.least(scenario.rate_hz), signoff.most(scenario.rate_hz)
            gates.append(
                Gate(
                    "trigate pr, floor, 60 min",
                    share,
                    BudgetRule(budget, scenario.rate_hz, pr.alpha, least, most, floor),
                )
            )
        if share == BOUNDARY:
            gates.append(Gate("trigate signoff, floor", share, _rule(signoff, scenario, budget, floor)))
    return gates


def _rule(profile: Profile, scenario: Scenario, budget: int, floor: float | None) -> BudgetRule:
    rate = scenario.rate_hz
    return BudgetRule(
        budget, rate, profile.alpha, profile.least(rate), profile.most(rate), floor, needs_floor=profile.needs_floor
    )


def naive(ranked: Array, budget: int, count: int) -> Verdict:
    """The sample's 95th percentile against the budget."""
    p95 = np.partition(ranked[:count], math.ceil(0.95 * count) - 1)[math.ceil(0.95 * count) - 1]
    return (Outcome.PASS if p95 <= budget else Outcome.FAIL), count


def compare_means(old: Array, new: Array) -> Verdict:
    """pytest-benchmark's ``--benchmark-compare-fail=mean:5%``: red where the mean is over 5 % slower than the stored one."""
    return (Outcome.FAIL if new.mean() > 1.05 * old.mean() else Outcome.PASS), new.size


def compare_ranks(old: Array, new: Array) -> Verdict:
    """Mann and Whitney's test on pooled frames, one-sided, p under 0.01."""
    p = mannwhitneyu(old, new, alternative="less", method="asymptotic").pvalue
    return (Outcome.FAIL if p < 0.01 else Outcome.PASS), new.size


def loadgen(ranked: Array, budget: int, most: int, *, least: int = 300, confidence: float = 0.99) -> Verdict:
    """LoadGen's early stopping with its loop (and without its least duration): not enough, run as many more as were missing,
    look again. It never fails.
    """
    over = np.cumsum(ranked[:most] > budget)
    count = min(least, over.size)
    while True:
        wanted = _loadgen_count(int(over[count - 1]), confidence)
        if count >= wanted:
            return Outcome.PASS, count
        if count >= over.size:
            return Outcome.INCONCLUSIVE, count
        count = min(over.size, wanted)


@cache
def _loadgen_count(over: int, confidence: float) -> int:
    """The least number of queries of which ``over`` may be over the latency: I_0.95(under, over + 1) <= 1 - confidence."""
    low, high = 0, 200 + 60 * (over + 1)
    while high - low > 1:
        under = (low + high) // 2
        low, high = (low, under) if betainc(under, over + 1, 1.0 - BOUNDARY) <= 1.0 - confidence else (under, high)
    return high + over


def _peers(
    scenario: Scenario, known: Known, stored: tuple[Array, Array], series: tuple[Array, Array]
) -> Iterator[tuple[str, float, Verdict]]:
    """What others would say of the same series, after fifty warm-up calls. Rules that compare have a ``stored`` run, of a
    release of which 2 % exceeded: a system with another share is the same one, slower by the ratio of the budgets.
    """
    (cold, missed), (before, lost) = series, stored
    two_minutes = min(_seconds(scenario, 120.0), cold.size - _WARMUP)
    most = PROFILES["pr"].most(scenario.rate_hz)
    least_share = min(known.budgets)
    old = before[_WARMUP:][~lost[_WARMUP:]] / known.budgets[least_share]
    ranked, warm, came = _ranked(cold, missed)[_WARMUP:], cold[_WARMUP:], ~missed[_WARMUP:]
    for share, budget in known.budgets.items():
        new = warm[:two_minutes][came[:two_minutes]] / budget
        yield "p95 <= budget, 200", share, naive(ranked, budget, min(200, ranked.size))
        yield "p95 <= budget, 120 s", share, naive(ranked, budget, two_minutes)
        yield "mean:5%, 120 s", share, compare_means(old, new)
        yield "Mann-Whitney, pooled", share, compare_ranks(old[:1000], new[:1000])
        yield "LoadGen's loop", share, loadgen(ranked, budget, most)


Votes = dict[tuple[str, float], list[Verdict]]


def _judge_chunk(scenario: Scenario, known: Known, seed: int, history: int, repetitions: Sequence[int]) -> Votes:
    gates, votes = _gates(scenario, known, history), Votes()
    soak = _seconds(scenario, scenario.soak_s())
    count = soak + max(gate.rule.most for gate in gates)
    for repetition in repetitions:
        latencies, missed = _draw(scenario, _chance(seed, 4, repetition), count, known)
        for gate, verdict in zip(gates, judge_all(latencies[soak:], missed[soak:], gates), strict=True):
            votes.setdefault((gate.name, gate.share), []).append(verdict)
        stored = _draw(scenario, _chance(seed, 5, repetition), _WARMUP + _seconds(scenario, 120.0), known)
        for name, share, verdict in _peers(scenario, known, stored, (latencies, missed)):
            votes.setdefault((name, share), []).append(verdict)
    return votes


def _tally(scenario: Scenario, share: float, name: str, seen: Sequence[Verdict]) -> Tally:
    outcomes = [outcome for outcome, _ in seen]
    passed, failed = (outcomes.count(outcome) / len(seen) for outcome in (Outcome.PASS, Outcome.FAIL))
    seconds = np.array(
        [math.inf if outcome is Outcome.INCONCLUSIVE else count / scenario.rate_hz for outcome, count in seen]
    )
    median, p90 = (float(np.quantile(seconds, q, method="inverted_cdf")) for q in (0.5, 0.9))
    alpha = PROFILES["signoff" if "signoff" in name else "pr"].alpha if name.startswith("trigate") else None
    return Tally(
        scenario.name,
        share,
        name,
        passed,
        failed,
        median if math.isfinite(median) else None,
        p90 if math.isfinite(p90) else None,
        len(seen),
        alpha,
    )


_WORK: dict[str, Any] = {}
"""What forked children inherit: scenarios from outside need not be picklable."""


def _learn_job(name: str) -> Known:
    return learn(_WORK["scenarios"][name], _WORK["shares"], _WORK["seed"])


def _judge_job(job: tuple[str, Known, int, range]) -> tuple[str, Votes]:
    name, known, history, repetitions = job
    return name, _judge_chunk(_WORK["scenarios"][name], known, _WORK["seed"], history, repetitions)


def _spread(do: Callable[[Any], Any], jobs: Sequence[Any], processes: int) -> Iterator[Any]:
    """In order of ``jobs``; in this process where one is enough, or where processes cannot be forked."""
    if processes < 2 or len(jobs) < 2 or "fork" not in multiprocessing.get_all_start_methods():
        yield from map(do, jobs)
        return
    with multiprocessing.get_context("fork").Pool(min(processes, len(jobs))) as pool:
        yield from pool.imap(do, jobs)


def run_budgets(
    scenarios: Mapping[str, Scenario],
    *,
    shares: Sequence[float] = SHARES,
    repetitions: int = 300,
    seed: int = 0,
    processes: int = 1,
    say: Callable[[str], None] = lambda words: None,
) -> list[Tally]:
    """Every rule on every scenario and share, in ``processes`` processes. Figures depend on the seed alone."""
    _WORK.update(scenarios=scenarios, shares=tuple(shares), seed=seed)
    known: dict[str, Known] = {}
    for name, found in zip(scenarios, _spread(_learn_job, list(scenarios), processes), strict=True):
        known[name] = found
        floors = [one[share] for one in found.floors for share in one]
        say(f"{name}: budgets known to {found.off:.4f} of the share, floors {min(floors):.1f} to {max(floors):.1f}")
        if found.own_level > 3.0:
            say(
                f"{name}: each session has a level of its own; a verdict speaks for its session, and is held against them all"
            )
    parts = [range(at, repetitions, HISTORIES) for at in range(HISTORIES)]
    jobs = [(name, known[name], at, part) for name in scenarios for at, part in enumerate(parts) if len(part)]
    votes: dict[str, Votes] = {name: {} for name in scenarios}
    for done, (name, found) in enumerate(_spread(_judge_job, jobs, processes), 1):
        for key, verdicts in found.items():
            votes[name].setdefault(key, []).extend(verdicts)
        say(f"{done} of {len(jobs)}: {name}")
    return [
        _tally(scenarios[name], share, rule, seen)
        for name, found in votes.items()
        for (rule, share), seen in sorted(found.items(), key=lambda item: item[0][1])
    ]


_CALLS = 300
_TRUTHS: Mapping[str, tuple[float, float]] = {
    # new over old, and the share of spikes in new (in old it is 1 %)
    "no change": (1.0, 0.01),
    "+5 % (the margin)": (1.05, 0.01),
    "+8 %": (1.08, 0.01),
    "tail only (1 to 7 % spikes)": (1.0, 0.07),
}


def run_pairs(*, repetitions: int = 2000, seed: int = 0, processes: int = 1) -> list[Comparison]:
    """The paired gate beside a comparison of means and Mann-Whitney on pooled frames, with the board as it is and while it
    warms by 6 % over the session (methods A6): launches have a level of their own (1 %), frames remember (0.9).
    """
    jobs = [
        (truth, ramp, seed, at, repetitions)
        for at, (truth, ramp) in enumerate((truth, ramp) for ramp in (0.0, 0.06) for truth in _TRUTHS)
    ]
    return [one for found in _spread(_pairs_job, jobs, processes) for one in found]


def _pairs_job(job: tuple[str, float, int, int, int]) -> list[Comparison]:
    truth, ramp, seed, at, repetitions = job
    ratio, tail = _TRUTHS[truth]
    said: dict[str, list[Outcome]] = {"pairs": [], "mean:5%, 1 launch": [], "Mann-Whitney, pooled": []}
    used = 0
    chance = _chance(seed, 6, at)
    for _ in range(repetitions):
        pairs = 0
        ratios = np.zeros(0)
        outcome = Outcome.INCONCLUSIVE
        first: tuple[Array, Array] | None = None
        for look in LOOKS:
            # each pair a step further up the ramp; which of its two launches comes first is a toss
            warmth = 1.0 + ramp * (np.arange(pairs, look) + 0.5 * chance.integers(0, 2, (2, look - pairs))) / LOOKS[-1]
            old, new = _launches(chance, warmth[0], 0.01), _launches(chance, ratio * warmth[1], tail)
            first, pairs = first or (old, new), look
            fresh = np.log(np.partition(new, 284, axis=1)[:, 284] / np.partition(old, 284, axis=1)[:, 284])
            ratios = np.r_[ratios, fresh]
            outcome = compare_pairs(ratios).outcome
            if outcome is not Outcome.INCONCLUSIVE:
                break
        used += pairs
        assert first is not None
        # who compares with a stored run compares with another part of the ramp
        later = 1.0 + ramp / 2.0
        said["pairs"].append(outcome)
        said["mean:5%, 1 launch"].append(compare_means(first[0][0], later * first[1][0])[0])
        said["Mann-Whitney, pooled"].append(compare_ranks(first[0][:3].ravel(), later * first[1][:3].ravel())[0])
    words = truth + (", warming" if ramp else "")
    return [
        Comparison(
            words,
            rule,
            found.count(Outcome.FAIL) / repetitions,
            found.count(Outcome.PASS) / repetitions,
            repetitions,
            used / repetitions if rule == "pairs" else None,
        )
        for rule, found in said.items()
    ]


def _launches(chance: np.random.Generator, levels: Array, spike_share: float) -> Array:
    """Float64 [launches, 300 calls]: a level of its own for each launch (1 %), frames that remember (0.9), spikes."""
    noise = math.sqrt(1 - 0.81) * chance.standard_normal((levels.size, _CALLS))
    noise[:, 0] = chance.standard_normal(levels.size)
    body = np.exp(0.05 * lfilter([1.0], [1.0, -0.9], noise, axis=1))
    body = np.where(chance.random(body.shape) < spike_share, 1.5 * body, body)
    return np.asarray((levels * np.exp(0.01 * chance.standard_normal(levels.size)))[:, None] * body)


def run_apart(*, repetitions: int = 2000, seed: int = 0) -> list[Comparison]:
    """Runs apart in time: sessions differ by 2 %, launches by 1 % (p95 of five launches each). Launches taken as if each
    were a session are what a naive rule does.
    """
    tallies = []
    for at, (truth, ratio) in enumerate((("no change", 1.0), ("+5 % (the margin)", 1.05), ("+12 %", 1.12))):
        chance = _chance(seed, 7, at)
        said: dict[str, list[Outcome]] = {}
        for _ in range(repetitions):
            old, new = (
                scale * np.exp(0.02 * chance.standard_normal((6, 1)) + 0.01 * chance.standard_normal((6, 5)))
                for scale in (50.0, 50.0 * ratio)
            )
            for rule, base, fresh in (
                ("sessions apart, 6 and 6", old, new),
                ("sessions apart, 6 and 1", old, new[:1]),
                ("sessions apart, 1 and 6", old[:1], new),
                ("launches as sessions, 5 and 5", old[:1].T, new[:1].T),
            ):
                said.setdefault(rule, []).append(compare_sessions(list(base), list(fresh)).outcome)
        tallies += [
            Comparison(
                truth,
                rule,
                found.count(Outcome.FAIL) / repetitions,
                found.count(Outcome.PASS) / repetitions,
                repetitions,
            )
            for rule, found in said.items()
        ]
    return tallies


def _limit(alpha: float, repetitions: int) -> float:
    """Three standard errors over a rate that is kept."""
    return alpha + 3.0 * math.sqrt(alpha * (1.0 - alpha) / repetitions)


def promises(
    tallies: Sequence[Tally], comparisons: Sequence[Comparison] = (), scenarios: Mapping[str, Scenario] = SCENARIOS
) -> list[Promise]:
    """What our gates promise, and what was seen. With a history floor: false PASS and false FAIL at most alpha plus three
    standard errors; at the margin that is advised (2 % exceed) a decision in the time of methods A5. Pairs: at most 0.2 %
    alarms where nothing changed, at most 1 % of +8 % and of a longer tail missed.
    """
    found = []
    for one in tallies:
        if "floor" not in one.rule or one.alpha is None:
            continue
        where, limit = f"{one.scenario}, {one.share:g} exceed, {one.rule}", _limit(one.alpha, one.repetitions)
        if one.false_pass is not None:
            found.append(Promise(f"false PASS, {where}", one.false_pass, limit))
        if one.false_fail is not None:
            found.append(Promise(f"false FAIL, {where}", one.false_fail, limit))
        most_s = scenarios[one.scenario].most_median_s if one.scenario in scenarios else math.inf
        if one.share == SHARES[0] and one.rule == "trigate pr, floor" and math.isfinite(most_s):
            # half a second: the first look is after whole samples
            found.append(Promise(f"median seconds, {where}", one.median_s, most_s + 0.5))
        if one.scenario == "bursts 2.5 s" and one.share == SHARES[0]:
            least = 0.90 if "60 min" in one.rule else 0.06
            least -= 3.0 * math.sqrt(least * (1.0 - least) / one.repetitions)
            found.append(Promise(f"PASS, {where}", one.passed, max(0.0, least), at_least=True))
    for pair in comparisons:
        what = f"{pair.rule}, {pair.truth}"
        if pair.rule == "pairs" and pair.truth.startswith("no change"):
            found.append(Promise(f"alarms, {what}", pair.alarms, 0.002))
        elif pair.rule == "pairs" and "margin" not in pair.truth:
            found.append(Promise(f"missed, {what}", 1.0 - pair.alarms, 0.01))
        elif "margin" in pair.truth and pair.rule.startswith(("pairs", "sessions apart")):
            found.append(Promise(f"false PASS, {what}", pair.passes, _limit(0.05, pair.repetitions)))
        elif pair.rule.startswith("sessions apart") and pair.truth == "no change":
            found.append(Promise(f"alarms, {what}", pair.alarms, _limit(0.05, pair.repetitions)))
    return found


def table(tallies: Sequence[Tally]) -> str:
    """For people: one line per scenario, share and rule; "-" where a verdict is right."""
    head = "scenario      exceed  rule                       PASS  FAIL  open f.pass f.fail median s  90 % s"
    lines = [head]
    for one in tallies:
        wrong = ("-" if value is None else f"{value:.3f}" for value in (one.false_pass, one.false_fail))
        times = ("none" if value is None else f"{value:.0f}" for value in (one.median_s, one.p90_s))
        lines.append(
            f"{one.scenario:<13.13} {one.share:>6.3f}  {one.rule:<25} {one.passed:>5.2f} {one.failed:>5.2f} {one.open:>5.2f}"
            " {:>6} {:>6} {:>8} {:>7}".format(*wrong, *times)
        )
    return "\n".join(lines)


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """For people: one line per truth and rule."""
    lines = [f"{'old against new':<36} {'rule':<30} {'alarms':>7} {'passes':>7} {'pairs':>6}"]
    for one in comparisons:
        pairs = "" if one.mean_pairs is None else f"{one.mean_pairs:.1f}"
        lines.append(f"{one.truth:<36} {one.rule:<30} {one.alarms:>7.4f} {one.passes:>7.4f} {pairs:>6}")
    return "\n".join(lines)


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m harness.statistics.truth",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
        epilog="A generator is called as function(chance, count, rate_hz): a numpy.random.Generator, the number of samples, "
        "and the\nrate in Hz. It gives that many latencies, in any unit, in the order of the schedule: one stationary series\n"
        "per call, once its first --soak seconds are over. Arguments named rng, seed, n, size or rate get that in any order. An\n"
        "array of bool beside the latencies, infinity or NaN tell missed calls. A generator has no temperature: a slow\n"
        "drift that goes on after the soak is seen only once it shows in the latencies, and may pass in two minutes.",
    )
    parser.add_argument("--generator", default="", metavar="MODULE:FUNCTION", help="judge a series of your own")
    parser.add_argument("--rate", type=float, default=39.0, metavar="HZ", help="of the generator (default 39)")
    parser.add_argument(
        "--soak", type=float, default=180.0, metavar="S", help="its first seconds, not judged (default 180: no sensor)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repetitions", type=int, default=300, help="of each scenario (default 300)")
    parser.add_argument(
        "--experiments", type=int, default=2000, help="of each comparison of old and new (default 2000)"
    )
    parser.add_argument("--scenario", nargs="+", default=list(SCENARIOS), choices=SCENARIOS, metavar="NAME")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures for machines")
    asked = parser.parse_args(given)
    if asked.repetitions < 1 or asked.experiments < 1 or asked.seed < 0 or not asked.rate > 0 or not asked.soak >= 0:
        parser.error("repetitions and experiments are at least 1, seed and soak not negative, a rate is above 0")
    return asked


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exit code 1 where a promise is broken, 2 where a generator cannot be used."""
    asked = _arguments(arguments)
    scenarios: Mapping[str, Scenario] = {name: SCENARIOS[name] for name in asked.scenario}
    say = partial(print, file=sys.stderr, flush=True)
    begun = time.monotonic()
    try:
        if asked.generator:
            from harness.inputs import resolve_hook

            hook = resolve_hook(asked.generator, (Path.cwd(),))
            scenarios = {asked.generator: from_outside(asked.generator, hook, asked.rate, asked.soak)}
        say(
            f"seed {asked.seed}, {asked.repetitions} repetitions of {len(scenarios)} scenarios, {len(SHARES)} shares each"
        )
        tallies = run_budgets(
            scenarios, repetitions=asked.repetitions, seed=asked.seed, processes=asked.processes, say=say
        )
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    comparisons: list[Comparison] = []
    if not asked.generator:
        comparisons += run_pairs(repetitions=asked.experiments, seed=asked.seed, processes=asked.processes)
        comparisons += run_apart(repetitions=asked.experiments, seed=asked.seed)
    held = promises(tallies, comparisons)
    print(table(tallies))
    if comparisons:
        print("\n" + comparison_table(comparisons))
    print("\n" + "\n".join(map(str, held)))
    if asked.json:
        figures = {
            "seed": asked.seed,
            "budgets": [{**asdict(one), "false_pass": one.false_pass, "false_fail": one.false_fail} for one in tallies],
            "comparisons": [asdict(one) for one in comparisons],
            "promises": [{**asdict(one), "is_kept": one.is_kept} for one in held],
        }
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    broken = sum(not one.is_kept for one in held)
    print(f"\n{len(held) - broken} promises kept, {broken} BROKEN, {time.monotonic() - begun:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
