"""How often do the gates lie? Latency series of known truth, and how each rule judges them (methods A5, A6).

    python -m harness.truth                       every scenario, 300 repetitions
    python -m harness.truth --generator my_module:series --seed 7

A generator is a function of (numpy Generator, number of samples, rate in Hz) that gives latencies of any positive scale; the
budget is then put where the wanted share of a long series of it exceeds.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.signal import lfilter
from scipy.stats import binom, mannwhitneyu

from harness.paired import LOOKS, compare_pairs
from harness.records import Outcome
from harness.statistics import design_effect
from harness.stopping import BudgetRule
from runtime.protocol import Array

__all__ = ["SCENARIOS", "Tally", "main", "run_budgets", "run_pairs"]

Series = Callable[[np.random.Generator, int, float], Array]
"""(chance, count, rate_hz) -> latencies, float64 [count], in the order of the schedule."""

RATE_HZ = 39.0
SHARES = (0.02, 0.035, 0.05, 0.07, 0.10)
"""True shares over the budget: at 0.05 neither PASS nor FAIL is right, below PASS is, above FAIL is."""
_CALIBRATION = 2_000_000
_SIGMA = 0.06


def iid(chance: np.random.Generator, count: int, rate_hz: float) -> Array:
    """A lognormal body of 6 % with 1 % of spikes, each call for itself."""
    del rate_hz
    return _spiked(chance, np.exp(_SIGMA * chance.standard_normal(count)), 0.01)


def autoregressive(rho: float, chance: np.random.Generator, count: int, rate_hz: float) -> Array:
    """The body remembers: each call resembles the one before it."""
    del rate_hz
    noise = math.sqrt(1.0 - rho * rho) * chance.standard_normal(count)
    noise[0] = chance.standard_normal()
    return _spiked(chance, np.exp(_SIGMA * lfilter([1.0], [1.0, -rho], noise)), 0.01)


def spikes(chance: np.random.Generator, count: int, rate_hz: float) -> Array:
    """6 % of calls are half as slow again."""
    del rate_hz
    return _spiked(chance, np.exp(_SIGMA * chance.standard_normal(count)), 0.06)


def bursts(length_s: float, chance: np.random.Generator, count: int, rate_hz: float) -> Array:
    """For ``length_s`` at a time, 3 % of all time, every call is slower by a fifth."""
    body = np.exp(_SIGMA * chance.standard_normal(count))
    per_burst = max(1, round(length_s * rate_hz))
    starts = np.flatnonzero(chance.random(count) < 0.03 / per_burst)
    slow = np.zeros(count + per_burst)
    for at in starts:
        slow[at : at + per_burst] = 1.0
    return np.asarray(body * (1.0 + 0.2 * slow[:count]))


def throttle_saw(chance: np.random.Generator, count: int, rate_hz: float) -> Array:
    """Once a minute, for 8 % of it, the clock is down and calls take 15 % longer."""
    body = np.exp(_SIGMA * chance.standard_normal(count))
    phase = (np.arange(count) / rate_hz / 60.0 + chance.random()) % 1.0
    return np.asarray(body * np.where(phase < 0.08, 1.15, 1.0))


def _spiked(chance: np.random.Generator, body: Array, share: float) -> Array:
    return np.asarray(body * np.where(chance.random(body.size) < share, 1.5, 1.0))


SCENARIOS: Mapping[str, Series] = {
    "iid": iid,
    "AR 0.9": partial(autoregressive, 0.9),
    "AR 0.98": partial(autoregressive, 0.98),
    "spikes 6 %": spikes,
    "bursts 0.5 s": partial(bursts, 0.5),
    "bursts 2.5 s": partial(bursts, 2.5),
    "throttle saw": throttle_saw,
}


@dataclass(frozen=True)
class Tally:
    """One rule on one scenario: shares of all repetitions. ``seconds``: the median time to a decision, 0 if none."""

    scenario: str
    share: float
    rule: str
    passed: float
    failed: float
    open: float
    seconds: float
    repetitions: int

    @property
    def wrong(self) -> float:
        """The share of wrong verdicts: a PASS where 5 % or more exceed, a FAIL where at most 5 % do."""
        return (self.passed if self.share >= 0.05 else 0.0) + (self.failed if self.share <= 0.05 else 0.0)


def naive(latencies: Array, budget: float, count: int) -> tuple[Outcome, int]:
    """The sample's 95th percentile against the budget."""
    p95 = np.quantile(latencies[:count], 0.95)
    return (Outcome.PASS if p95 <= budget else Outcome.FAIL), count


def mean_rule(latencies: Array, budget: float, count: int) -> tuple[Outcome, int]:
    """pytest-benchmark's kind of rule: a mean, held against the budget less the 10 % that a tail is thought to take."""
    return (Outcome.PASS if latencies[:count].mean() <= budget / 1.1 else Outcome.FAIL), count


def loadgen(latencies: Array, budget: float, most: int) -> tuple[Outcome, int]:
    """LoadGen's early stopping with its loop: not enough, run more, look again."""
    count = 300
    while True:
        over = int((latencies[:count] > budget).sum())
        if binom.cdf(over, count, 0.05) <= 0.01:
            return Outcome.PASS, count
        if count >= most:
            return Outcome.FAIL, count
        count = min(most, math.ceil(count * 1.1))


def ours(latencies: Array, rule: BudgetRule) -> tuple[Outcome, int]:
    """The gate that ``trigate`` has."""
    scaled = np.round(latencies * 1e6).astype(np.int64)
    missed = np.zeros(scaled.size, bool)
    for look in rule.looks():
        ruling = rule.judge(scaled[:look], missed[:look])
        if ruling.outcome is not Outcome.INCONCLUSIVE:
            return ruling.outcome, look
    return Outcome.INCONCLUSIVE, look


def floor_of(
    series: Series, budget: float, rate_hz: float, seed: int, *, sessions: int = 6, hours: float = 1.0
) -> float:
    """What history would have taught: the largest design effect of several long sessions."""
    largest = 1.0
    for session in range(sessions):
        latencies = series(np.random.default_rng((seed, session, 1)), int(3600 * hours * rate_hz), rate_hz)
        levels = (budget, *np.quantile(latencies, (0.90, 0.95)))
        largest = max(largest, *(design_effect(latencies > level) for level in levels))
    return largest


def _budget(series: Series, share: float, rate_hz: float, seed: int) -> float:
    long = series(np.random.default_rng((seed, 99)), _CALIBRATION, rate_hz)
    return float(np.quantile(long, 1.0 - share))


def _one_scenario(job: tuple[str, Series, float, int, int]) -> list[Tally]:
    """Every rule on one scenario at one true share; the series of a repetition is the same for all rules."""
    name, series, share, repetitions, seed = job
    budget = _budget(series, share, RATE_HZ, seed)
    plain = BudgetRule.of_profile(max(1, round(budget * 1e6)), RATE_HZ, is_signoff=False)
    floored = BudgetRule.of_profile(
        plain.budget_ns, RATE_HZ, is_signoff=False, floor=floor_of(series, budget, RATE_HZ, seed)
    )
    two_minutes = math.ceil(120 * RATE_HZ)
    rules: dict[str, Callable[[Array], tuple[Outcome, int]]] = {
        "p95 <= budget, 200": lambda x: naive(x, budget, 200),
        "p95 <= budget, 120 s": lambda x: naive(x, budget, two_minutes),
        "mean, 120 s": lambda x: mean_rule(x, budget, two_minutes),
        "LoadGen's loop": lambda x: loadgen(x, budget, plain.most),
        "trigate": lambda x: ours(x, plain),
        "trigate, floor": lambda x: ours(x, floored),
    }
    verdicts: dict[str, list[tuple[Outcome, int]]] = {rule: [] for rule in rules}
    for repetition in range(repetitions):
        latencies = series(np.random.default_rng((seed, repetition)), plain.most, RATE_HZ)
        for rule, judge in rules.items():
            verdicts[rule].append(judge(latencies))
    return [_tally(name, share, rule, seen) for rule, seen in verdicts.items()]


def _tally(scenario: str, share: float, rule: str, seen: Sequence[tuple[Outcome, int]]) -> Tally:
    outcomes = [outcome for outcome, _ in seen]
    decided = [count for outcome, count in seen if outcome is not Outcome.INCONCLUSIVE]
    passed, failed = (outcomes.count(outcome) / len(seen) for outcome in (Outcome.PASS, Outcome.FAIL))
    seconds = float(np.median(decided)) / RATE_HZ if decided else 0.0
    return Tally(scenario, share, rule, passed, failed, 1.0 - passed - failed, seconds, len(seen))


def run_budgets(
    scenarios: Mapping[str, Series],
    *,
    shares: Sequence[float] = SHARES,
    repetitions: int = 300,
    seed: int = 0,
    say: Callable[[str], None] = lambda words: None,
) -> list[Tally]:
    """Every rule on every scenario and share, in as many processes as there are cores."""
    jobs = [(name, series, share, repetitions, seed) for name, series in scenarios.items() for share in shares]
    tallies: list[Tally] = []
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        for done, found in enumerate(pool.imap(_one_scenario, jobs), 1):
            say(f"{done} of {len(jobs)}: {found[0].scenario}, {found[0].share:g} exceed")
            tallies += found
    return tallies


@dataclass(frozen=True)
class PairTally:
    """One rule on one truth of old against new: shares of all experiments."""

    truth: str
    rule: str
    alarms: float
    passes: float
    repetitions: int


def _launch(chance: np.random.Generator, ratio: float, spike_share: float, calls: int = 300) -> Array:
    """One launch: a level of its own (1 % between launches), frames that remember (0.9), spikes."""
    level = ratio * math.exp(0.01 * chance.standard_normal())
    noise = math.sqrt(1 - 0.81) * chance.standard_normal(calls)
    body = np.exp(0.05 * lfilter([1.0], [1.0, -0.9], noise))
    return np.asarray(level * _spiked(chance, body, spike_share))


def run_pairs(*, repetitions: int = 1000, seed: int = 0) -> list[PairTally]:
    """The paired gate beside Mann-Whitney on pooled frames and a comparison of means, on four truths."""
    truths = {
        "no change": (1.0, 0.01),
        "+5 % (the margin)": (1.05, 0.01),
        "+8 %": (1.08, 0.01),
        "tail only (1 to 7 % spikes)": (1.0, 0.07),
    }
    tallies = []
    for at, (truth, (ratio, tail)) in enumerate(truths.items()):
        alarms = dict.fromkeys(("pairs", "Mann-Whitney, pooled", "mean, one launch"), 0)
        passes = dict.fromkeys(alarms, 0)
        for repetition in range(repetitions):
            chance = np.random.default_rng((seed, at, repetition))
            old = [_launch(chance, 1.0, 0.01) for _ in range(LOOKS[-1])]
            new = [_launch(chance, ratio, tail) for _ in range(LOOKS[-1])]
            for rule, verdict in (
                ("pairs", _by_pairs(old, new)),
                ("Mann-Whitney, pooled", _by_rank(np.concatenate(old[:3]), np.concatenate(new[:3]))),
                ("mean, one launch", Outcome.FAIL if new[0].mean() > 1.05 * old[0].mean() else Outcome.PASS),
            ):
                alarms[rule] += verdict is Outcome.FAIL
                passes[rule] += verdict is Outcome.PASS
        tallies += [
            PairTally(truth, rule, alarms[rule] / repetitions, passes[rule] / repetitions, repetitions)
            for rule in alarms
        ]
    return tallies


def _by_pairs(old: Sequence[Array], new: Sequence[Array]) -> Outcome:
    ratios = [math.log(np.quantile(b, 0.95) / np.quantile(a, 0.95)) for a, b in zip(old, new, strict=True)]
    for look in LOOKS:
        outcome = compare_pairs(ratios[:look]).outcome
        if outcome is not Outcome.INCONCLUSIVE:
            return outcome
    return Outcome.INCONCLUSIVE


def _by_rank(old: Array, new: Array) -> Outcome:
    return Outcome.FAIL if mannwhitneyu(old, new, alternative="less").pvalue < 0.01 else Outcome.PASS


def table(tallies: Sequence[Tally]) -> str:
    """For people: one line per scenario, share and rule; wrong verdicts are what counts."""
    lines = [
        f"{'scenario':<14} {'exceed':>6}  {'rule':<21} {'PASS':>6} {'FAIL':>6} {'open':>6}  {'wrong':>6} {'median s':>8}"
    ]
    for one in tallies:
        wrong = f"{one.wrong:.3f}" if one.wrong else "0"
        lines.append(
            f"{one.scenario:<14} {one.share:>6.3f}  {one.rule:<21} {one.passed:>6.3f} {one.failed:>6.3f} {one.open:>6.3f}"
            f"  {wrong:>6} {one.seconds:>8.0f}"
        )
    return "\n".join(lines)


def missed_targets(tallies: Sequence[Tally], *, alpha: float = 0.05) -> list[str]:
    """Where our gate is wrong more often than it promises: with the floor, alpha plus three standard errors anywhere."""
    missed = []
    for one in tallies:
        limit = alpha + 3.0 * math.sqrt(alpha * (1.0 - alpha) / one.repetitions)
        if one.rule == "trigate, floor" and one.wrong > limit:
            missed.append(f"{one.scenario}, {one.share:g} exceed: wrong in {one.wrong:.3f}, promised {limit:.3f}")
    return missed


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exit code 1 where a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m harness.truth", description=__doc__)
    parser.add_argument("--generator", default="", metavar="MODULE:FUNCTION", help="judge on a series of your own too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repetitions", type=int, default=300)
    parser.add_argument("--scenario", nargs="*", default=list(SCENARIOS), choices=[*SCENARIOS, []], metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures for machines")
    asked = parser.parse_args(arguments)
    scenarios = {name: SCENARIOS[name] for name in asked.scenario}
    if asked.generator:
        from harness.inputs import resolve_hook

        scenarios = {asked.generator: resolve_hook(asked.generator, (Path.cwd(),))}
    print(f"seed {asked.seed}, {asked.repetitions} repetitions, {RATE_HZ:g} Hz", file=sys.stderr)
    tallies = run_budgets(
        scenarios, repetitions=asked.repetitions, seed=asked.seed, say=lambda words: print(words, file=sys.stderr)
    )
    pairs = [] if asked.generator else run_pairs(repetitions=asked.repetitions, seed=asked.seed)
    print(table(tallies))
    for pair in pairs:
        print(f"{pair.truth:<28} {pair.rule:<21} alarms {pair.alarms:.3f}  passes {pair.passes:.3f}")
    if asked.json:
        figures = {"budgets": [asdict(one) for one in tallies], "pairs": [asdict(one) for one in pairs]}
        asked.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    missed = missed_targets(tallies)
    for words in missed:
        print(f"BROKEN PROMISE: {words}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
