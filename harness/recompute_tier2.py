"""Verdicts of Tier-2, computed again from the samples of a run folder under the limits that it was judged by (RE-03)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.errors import UsageError
from harness.limits import LIMITS_FILE, read_limits
from harness.recomputed import Recomputed
from harness.records import Figure, LatencyFigures, Run, Verdict
from harness.rejudge import Again
from runtime.threads import usable_cores

__all__ = ["recompute_tier2"]

_MOST_AT_ONCE = 4
"""Rows in memory together: one of a million samples takes some hundred megabytes while it is judged."""
_SAME = 1e-6
"""Relative: another machine's floating point may end elsewhere in the last places, and no figure that matters does."""


def recompute_tier2(folder: Path, run: Run) -> dict[str, Recomputed]:
    """By case id, the rows of ``run`` whose evidence are samples (latency, the mix, heat) or the rounds of fresh processes.

    A row that cannot be judged again is told with the reason and never raises. Rows of other kinds are not in it.
    """
    try:
        limits = read_limits(folder)
        if limits is None:
            raise UsageError(
                f"the run folder has no {LIMITS_FILE}: it was made by a trigate that kept no budgets. `trigate judge RUN "
                "CONFIG.toml --out NEW` keeps them"
            )
        if limits.configuration_sha256 != run.configuration_sha256:
            raise UsageError(f"{LIMITS_FILE} is of another configuration than run.json names")
        again = Again(folder, run, limits.configuration(folder), limits.board, profile=None, floors=None)
    except UsageError as error:
        return {one.case.id: _unsaid(one, str(error)) for one in run.verdicts if _is_sampled(one)}
    rows = [one for one in run.verdicts if one.case.id in again.rows]
    with ThreadPoolExecutor(
        min(_MOST_AT_ONCE, usable_cores()), thread_name_prefix="judge"
    ) as pool:  # arrays let go of the GIL
        return {row.case_id: row for row in pool.map(lambda one: _again(again, one), rows)}


def _is_sampled(verdict: Verdict) -> bool:
    return verdict.case.tier == 2 and bool(verdict.summary.measurement.samples_file)


def _unsaid(verdict: Verdict, why: str) -> Recomputed:
    return Recomputed(verdict.case.id, verdict.outcome, None, why.rstrip("."), "none")


def _again(again: Again, verdict: Verdict) -> Recomputed:
    try:
        judged = again.settle(verdict)
    except UsageError as error:
        return _unsaid(verdict, str(error))
    except (
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
        OSError,
        MemoryError,
    ) as error:  # samples nobody measured
        return _unsaid(verdict, f"its samples cannot be judged: {type(error).__name__}: {error}")
    source = "samples" if verdict.case.kind != "load" else "record"
    return Recomputed(
        verdict.case.id, verdict.outcome, judged.outcome, judged.reason, source, tuple(_differs(verdict, judged))
    )


def _differs(was: Verdict, now: Verdict) -> list[str]:
    """Figures of the record that the samples do not have, in words."""
    words = _of_latency(was.summary.latency, now.summary.latency)
    for name in ("sample_count", "failed_count"):
        old, new = getattr(was.summary.measurement, name), getattr(now.summary.measurement, name)
        if old != new:
            words.append(f"{name} is {old} in run.json, and {new} in the samples")
    return [*words, *_of_figures(was.summary.figures, now.summary.figures)]


def _of_latency(was: LatencyFigures | None, now: LatencyFigures | None) -> list[str]:
    if was is None or now is None:
        if was is now:
            return []
        told, made = ("not ", "") if was is None else ("", "not ")
        return [f"latency figures are {told}in run.json, and by the samples they are {made}".rstrip()]
    words = [
        f"{name} is {getattr(was, name)} in run.json, and {getattr(now, name)} by the samples"
        for name in ("count", "failed", "min_ns", "max_ns")
        if getattr(was, name) != getattr(now, name)
    ]
    for name in ("p50", "p95", "p99"):
        old, new = getattr(was, name), getattr(now, name)
        if (old.value_ns, old.low_ns, old.high_ns) != (new.value_ns, new.low_ns, new.high_ns):
            words.append(
                f"{name} is {old.value_ns / 1e6:.6g} ms in run.json, and {new.value_ns / 1e6:.6g} ms by the samples"
            )
    return words


def _of_figures(was: Sequence[Figure], now: Sequence[Figure]) -> list[str]:
    """Of each figure that both have; what only the record has (memory, the soak) no sample tells."""
    found = {figure.name: figure.value for figure in now}
    words = []
    for figure in was:
        new = found.get(figure.name, figure.value)
        if not _is_same(figure.value, new):
            words.append(f"{figure.name} is {figure.value} in run.json, and {new} by the samples")
    return words


def _is_same(old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return old is new
    return old == new or abs(old - new) <= _SAME * max(abs(old), abs(new)) or (old != old and new != new)  # noqa: PLR0124
