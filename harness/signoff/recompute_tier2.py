"""Verdicts of Tier-2, computed again from the samples of a run folder under the limits that it was judged by (RE-03)."""

from __future__ import annotations

import importlib.metadata
import math
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np

from harness.errors import UsageError
from harness.limits import LIMITS_FILE, read_limits
from harness.records import Check, Figure, Judgement, LatencyFigures, LaunchFigures, Outcome, Run, Verdict
from harness.signoff.recomputed import Recomputed
from harness.tier2.processes import ABOUT_PROCESSES
from harness.tier2.rejudge import Again
from runtime.threads import usable_cores

__all__ = ["recompute_tier2"]

_MOST_AT_ONCE = 4
"""Rows in memory together: one of a million samples takes some hundred megabytes while it is judged."""
_KEPT_BYTES = 31 << 20
"""glibc hands memory back to the system until an array of this size was freed: each array is then cleared page by page anew,
which is a sixth of the time. Under the 32 MiB from which it learns nothing."""
_OF_TIME_AND_TRACE = ("ns", "s", "W", "J", "MHz", "Hz", "°C")
_BESIDE = ("build_ns", "soak_", "load", "first_call", "takeoff")
"""Figures in such units come from samples and trace, but for those whose names begin so; others (memory) from who measured."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_ROUNDED, _NOTHING = 2e-3, 1e-9
_SAME = 1e-6
"""Relative: another machine's floating point may end elsewhere in the last places, and no figure that matters does."""


def recompute_tier2(folder: Path, run: Run, say: Callable[[str], None] = lambda words: None) -> dict[str, Recomputed]:
    """By case id, the rows of ``run`` whose evidence are samples (latency, the mix, heat), rounds, or what processes took.

    A row that cannot be judged again is told with the reason and never raises. Rows of other kinds are not in it.
    ``say``: told after each row how far it is.
    """
    try:
        limits = read_limits(folder)
        if limits is None:
            raise UsageError(
                f"the run folder has no {LIMITS_FILE}, by whose budgets it was judged: it was taken out, or an old trigate kept "
                "none (`trigate judge RUN CONFIG.toml --out NEW` keeps them)"
            )
        if limits.configuration_sha256 != run.configuration_sha256:
            raise UsageError(f"{LIMITS_FILE} is of another configuration than run.json names")
        again = Again(folder, run, limits.configuration(folder), limits.board, profile=None, floors=None)
    except UsageError as error:
        return {one.case.id: _unsaid(one, str(error)) for one in run.verdicts if _is_sampled(folder, one)}
    rows = [one for one in run.verdicts if one.case.id in again.rows]
    np.empty(_KEPT_BYTES, np.uint8)  # never touched; to free it is to teach the C library what to keep
    found: dict[str, Recomputed] = {}
    with ThreadPoolExecutor(
        min(_MOST_AT_ONCE, usable_cores()), thread_name_prefix="judge"
    ) as pool:  # arrays let go of the GIL
        for row in pool.map(lambda one: _again(again, one), rows):
            found[row.case_id] = row
            say(f"{run.id}: {len(found)} of {len(rows)} rows judged again from their samples")
    for one in run.verdicts:
        if one.case.id not in found and (why := _unshown(folder, run, one)):
            found[one.case.id] = _unsaid(one, why)
    return found


def _is_sampled(folder: Path, verdict: Verdict) -> bool:
    own = (f"samples/{verdict.case.id}.parquet", f"raw/{verdict.case.id}.json")
    return bool(verdict.summary.measurement.samples_file) or any((folder / name).is_file() for name in own)


def _unshown(folder: Path, run: Run, verdict: Verdict) -> str:
    """Why a row that is not judged from samples cannot be what it is said to be; empty where the record may tell it."""
    case, outcome = verdict.case, verdict.outcome
    if _is_sampled(folder, verdict) and not (case.kind == "flight" and run.schema < 2):  # which told no streams
        return f"its samples are kept, and what run.json says of it (a row of kind {case.kind}) does not let them be judged"
    if case.kind in ("latency", "flight", "heat") and outcome in (Outcome.PASS, Outcome.MEASURED):
        return "run.json names no samples that would show it"
    if case.kind in ABOUT_PROCESSES and outcome in (Outcome.PASS, Outcome.MEASURED) and run.schema >= 2:
        return "run.json names no file of what its processes took"
    if case.kind == "load" and outcome is Outcome.PASS:
        return "run.json has none of the rounds that would show it"
    return ""


def _unsaid(verdict: Verdict, why: str) -> Recomputed:
    return Recomputed(verdict.case.id, verdict.outcome, None, why.rstrip("."), "none")


def _misnamed(folder: Path, verdict: Verdict) -> str:
    """Samples and trace bear the name of their row: a row is judged by its own, and by nothing outside the folder."""
    case, measurement = verdict.case, verdict.summary.measurement
    samples, trace = (f"{name}/{case.id}" for name in ("samples", "traces"))
    if measurement.samples_file not in ("", f"{samples}.parquet", f"{samples}.journal"):
        return f"run.json names {measurement.samples_file!r} as its samples; its own are {samples}.parquet"
    if measurement.trace_file not in ("", f"{trace}.parquet"):
        return f"run.json names {measurement.trace_file!r} as its trace; its own is {trace}.parquet"
    if not measurement.trace_file and (folder / f"{trace}.parquet").is_file():
        return f"{trace}.parquet is kept, and run.json names no trace"
    if case.kind in ABOUT_PROCESSES and measurement.raw_file != f"raw/{case.id}.json":
        return f"run.json names {measurement.raw_file!r} as what its processes took; its own is raw/{case.id}.json"
    for name in filter(None, (measurement.samples_file, measurement.trace_file)):
        if not (folder / name).is_file():
            return f"{name} cannot be read: it is missing"
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            return f"{name} is a link that leads out of the run folder"
    return ""


def _again(again: Again, verdict: Verdict) -> Recomputed:
    if why := _misnamed(again.path, verdict):
        return _unsaid(verdict, why)
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
    source = {"load": "record"}.get(verdict.case.kind, "samples")
    if verdict.case.kind in ABOUT_PROCESSES:
        source = "what processes took"
    is_ours = again.run.trigate_version == _own_version()
    words = (*_differs(verdict, judged), *_told_otherwise(verdict, judged, is_ours=is_ours))
    return Recomputed(verdict.case.id, verdict.outcome, judged.outcome, judged.reason, source, words)


@lru_cache(maxsize=1)
def _own_version() -> str:
    return importlib.metadata.version("trigate")  # reads a file each time


def _told_otherwise(was: Verdict, now: Verdict, *, is_ours: bool) -> Iterator[str]:
    """Checks, how it was judged and, of this version's own rows, the words, where they are not what the samples make them."""
    told, made = (sorted({_of_check(check, is_ours=is_ours) for check in one.checks}) for one in (was, now))
    only_told, only_made = ([each for each in one if each not in other] for one, other in ((told, made), (made, told)))
    if len(only_told) != len(only_made) or not all(map(_says_the_same, only_told, only_made)):
        where = "run.json" if only_told else "the samples"
        yield f"the check {(only_told or only_made)[0]} is in {where} alone"
    if is_ours and was.outcome is now.outcome and not _says_the_same(was.reason, now.reason):
        yield f"the reason is {was.reason!r} in run.json, and {now.reason!r} by the samples"
    yield from _of_judgement(was.summary.judgement, now.summary.judgement)


def _says_the_same(one: str, other: str) -> bool:
    """The same words, with numbers that may be rounded to another last digit on another machine."""
    if _NUMBER.sub("#", one) != _NUMBER.sub("#", other):
        return False
    pairs = zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=True)
    return all(left == right or math.isclose(float(left), float(right), rel_tol=_ROUNDED) for left, right in pairs)


def _of_check(check: Check, *, is_ours: bool) -> str:
    return f"{check.name}: {check.outcome.value}" + (f", {check.reason}" if is_ours else "")


def _of_judgement(was: Judgement | None, now: Judgement | None) -> Iterator[str]:
    """By which budget and how sure, and what each launch showed; the floor is the record's own."""
    if was is None or now is None:
        if was is not now:
            yield f"how it was judged is in {'run.json' if was is not None else 'what its samples make it'} alone"
        return
    pairs: list[tuple[str, Judgement | LaunchFigures, Judgement | LaunchFigures]] = [("", was, now)]
    pairs += [(f" of launch {old.launch}", old, new) for old, new in zip(was.launches, now.launches, strict=False)]
    names = ("budget_ns", "alpha", "effect", "bound_ns", "drift")
    of_launch = ("count", "failed", "p50_ns", "p95_ns", "exceedances", "throttled", "effect", "log_pass", "log_fail")
    for where, old, new in pairs:
        for name in of_launch if where else names:
            left, right = getattr(old, name), getattr(new, name)
            if not (_is_same(left, right) or (left is not None is not right and abs(left - right) <= _NOTHING)):
                yield f"{name}{where} is {left} in run.json, and {right} by the samples and limits.json"
    if len(was.launches) != len(now.launches):
        yield f"{len(was.launches)} launches are in run.json, and {len(now.launches)} in the samples"


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
    """Of each figure; ``now`` has what no sample tells (memory, the soak) as the record has it."""
    found, told = ({figure.name: figure.value for figure in side} for side in (now, was))
    words = [f"{name} is not in run.json, and {found[name]} by the samples" for name in found if name not in told]
    for figure in was:
        if figure.name not in found:
            if figure.unit not in _OF_TIME_AND_TRACE or figure.name.startswith(_BESIDE):
                continue
            words.append(f"{figure.name} is {figure.value} in run.json, and no sample shows it")
            continue
        new = found[figure.name]
        if not _is_same(figure.value, new):
            words.append(f"{figure.name} is {figure.value} in run.json, and {new} by the samples")
    return words


def _is_same(old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return old is new
    return old == new or abs(old - new) <= _SAME * max(abs(old), abs(new)) or (old != old and new != new)  # noqa: PLR0124
