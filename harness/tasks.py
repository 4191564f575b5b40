"""Non-inferiority of a task metric: may this runtime do the task worse than the reference, and by how much at most?

Candidate and reference are scored on the same samples, so their differences are paired (methods B2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import beta, t

from harness.config import TaskRule
from harness.inputs import resolve_hook
from harness.numerics.raw import TaskScores
from harness.records import Check, Outcome
from runtime.protocol import Array

__all__ = ["Metric", "check_task", "judge_task", "non_inferiority", "score", "score_task"]

Metric = Callable[[Mapping[str, Array], Mapping[str, Array]], float]
"""``metric(outputs, feed)``: the score of one sample."""

_FEWEST = 5
_FEW_LOSSES = 10


def check_task(
    rule: TaskRule,
    expected: Sequence[Mapping[str, Array]],
    got: Sequence[Mapping[str, Array]],
    feeds: Sequence[Mapping[str, Array]],
    folders: Iterable[Path],
) -> Check:
    """The check of a configured task: ``rule.metric`` is a hook (``module:function``), looked for in ``folders``.

    A metric that breaks on the reference's outputs is INCONCLUSIVE; one that breaks on the candidate's is a FAIL.
    Raises ``UsageError`` if the hook cannot be loaded.
    """
    return judge_task(score_task(rule, expected, got, feeds, folders))


def score_task(
    rule: TaskRule,
    expected: Sequence[Mapping[str, Array]],
    got: Sequence[Mapping[str, Array]],
    feeds: Sequence[Mapping[str, Array]],
    folders: Iterable[Path],
) -> TaskScores:
    """What ``check_task`` judges by: the metric of each sample, or the check of a metric that broke."""
    metric = resolve_hook(rule.metric, folders)
    rules = rule.metric, rule.direction, rule.may_lose
    try:
        reference = score(metric, expected, feeds)
    except Exception as error:  # a user's function
        why = f"{rule.metric} fails on the reference's outputs: {_words(error)}."
        return TaskScores(*rules, broken=Check("task", Outcome.INCONCLUSIVE, why))
    try:
        return TaskScores(*rules, reference, score(metric, got, feeds))
    except Exception as error:  # a user's function
        why = f"{rule.metric} fails on this runtime's outputs: {_words(error)}."
        return TaskScores(*rules, broken=Check("task", Outcome.FAIL, why))


def judge_task(task: TaskScores) -> Check:
    """The check of scores that are known. Raises ``ValueError`` as ``non_inferiority``."""
    return task.broken or non_inferiority(
        task.reference, task.scores, direction=task.direction, may_lose=task.may_lose, metric=task.metric
    )


def score(
    metric: Metric, outputs: Sequence[Mapping[str, Array]], feeds: Sequence[Mapping[str, Array]]
) -> tuple[float, ...]:
    """The metric of each sample. Raises ``ValueError`` for one that is not a finite number."""
    scores = tuple(float(metric(output, feed)) for output, feed in zip(outputs, feeds, strict=True))
    for at, value in enumerate(scores):
        if not math.isfinite(value):
            raise ValueError(f"its value is {value} for sample {at}")
    return scores


def non_inferiority(
    reference: Sequence[float] | Array,
    candidate: Sequence[float] | Array,
    *,
    direction: str,
    may_lose: float,
    confidence: float = 0.95,
    metric: str = "metric",
) -> Check:
    """Whether the candidate's mean score is worse than the reference's by less than ``may_lose`` (in the score's unit).

    PASS if the one-sided lower bound of the mean paired gain is above -``may_lose``, FAIL if the upper bound is below
    it, else INCONCLUSIVE with the number of samples that would do. The bounds are Student's. Where at least half of
    the pairs are equal and fewer than ten lose (a hit-or-miss metric), Student's bound is too bold: the lower one is
    then also held under the Clopper-Pearson bound of the share of losing samples times the worst loss there can be
    (the largest seen, or the spread of the reference's scores).
    Raises ``ValueError`` for a direction that is neither ``higher`` nor ``lower``, or unpaired scores.
    """
    if direction not in ("higher", "lower"):
        raise ValueError(f"direction is {direction!r}; expected higher or lower (which is better).")
    if len(reference) != len(candidate):
        raise ValueError(f"{len(candidate)} scores and {len(reference)} of the reference; they are compared in pairs.")
    gains = np.subtract(candidate, reference) * (1.0 if direction == "higher" else -1.0)
    count = len(gains)
    if count < _FEWEST:
        return Check(
            "task", Outcome.INCONCLUSIVE, f"{metric}: {count} samples decide nothing; give at least {_FEWEST}."
        )
    mean, spread = float(gains.mean()), float(gains.std(ddof=1))
    margin = float(t.ppf(confidence, count - 1)) * spread / math.sqrt(count)
    lower, upper = mean - margin, mean + margin
    losses = int(np.count_nonzero(gains < 0.0))
    if 2 * int(np.count_nonzero(gains == 0.0)) >= count and losses < _FEW_LOSSES:
        worst = max(-float(gains.min()), float(np.ptp(reference)) if losses == 0 else 0.0)
        lower = min(lower, -worst * float(beta.ppf(confidence, losses + 1, count - losses)))
    words = (
        f"{metric} {np.mean(candidate):.4g} against {np.mean(reference):.4g} of the reference ({direction} is better); "
        f"mean gain {mean:+.3g}, between {lower:+.3g} and {upper:+.3g} at {confidence:.0%} each, "
        f"{count} samples; may lose {may_lose:g}"
    )
    if lower > -may_lose:
        return Check("task", Outcome.PASS, f"{words}.")
    if upper < -may_lose:
        return Check("task", Outcome.FAIL, f"{words}.")
    return Check("task", Outcome.INCONCLUSIVE, f"{words}: {_how_many(count, mean, lower, may_lose)}.")


def _how_many(count: int, mean: float, lower: float, may_lose: float) -> str:
    room = mean + may_lose
    if room <= 0.0:
        return "too close to the limit to call"
    return f"about {math.ceil(count * max(1.0, (mean - lower) / room) ** 2)} samples would decide it"


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
