"""Take-off: all engines of a runtime loaded in one process, and again after that process was killed in mid-inference (T2-05).

Four fresh processes one after the other: one that fills the caches, one that takes off, one that is killed (SIGKILL to its
whole group) while it infers, and one that takes off again. The first two were left alone, so that they show whether the
runtime gives the same bytes in every process; if it does, it must do so after the kill.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from harness.config import BoardConfig, Budget
from harness.gates import worst
from harness.numerics.parity import check_parity, compare
from harness.records import Case, Check, Figure, Measurement, Outcome, Summary, Tolerance, Verdict
from harness.tier2.child_job import ChildJob
from harness.tier2.fresh import ChildResult, ProcessJob, run_child, seconds
from harness.tier2.memory import Marks, budget_checks, bytes_in_words, find
from runtime.protocol import Array

__all__ = ["TakeoffSeen", "judge_takeoff", "takeoff"]

RunChild = Callable[..., ChildResult]
Outputs = Sequence[Mapping[str, Array]]
"""Of one model, for every feed."""


@dataclass(frozen=True)
class TakeoffSeen:
    """The four processes, of which a later one is ``None`` where an earlier one failed.

    ``parted``: models whose outputs after the kill are other bytes than before, with both. ``left``: files that the killed
    process left in the caches or among temporary files, and that are there after the next start.
    """

    measurement: Measurement
    filling: ChildResult
    first: ChildResult | None = None
    killed: ChildResult | None = None
    again: ChildResult | None = None
    parted: Mapping[str, tuple[Outputs, Outputs]] = field(default_factory=dict)
    left: tuple[str, ...] = ()


def takeoff(
    case: Case,
    cases: Sequence[Case],
    job: ChildJob,
    *,
    environ: Mapping[str, str],
    timeout_s: float = 600.0,
    infer_s: float = 0.5,
    gpu_index: int | None = None,
    root: Path = Path("/"),
    run: RunChild = run_child,
) -> TakeoffSeen:
    """Run the four processes. ``case``: of the row, ``cases``: the engines, in the order in which they are loaded.

    ``infer_s``: how long the third one infers before it is killed. ``timeout_s``: for each. ``environ``: of the children; their
    temporary files go into a folder of ours, so that none can be missed. Never raises for what a process does.
    """
    with tempfile.TemporaryDirectory(prefix="trigate-takeoff-") as room:
        temporary = Path(room) / "tmp"
        temporary.mkdir()
        whole = ProcessJob(job, tuple(cases), gpu_index=gpu_index, root=str(root))
        where = {**environ, "TMPDIR": str(temporary)}

        def start(outputs: str, *, entries: Mapping[str, str], kill_after_s: float | None = None) -> ChildResult:
            folder = str(Path(room) / outputs) if outputs else ""
            ordered = replace(whole, entries=entries, outputs=folder, holds=kill_after_s is not None)
            return run(ordered, timeout_s=timeout_s, environ=where, kill_when_ready_after_s=kill_after_s)

        filling = start("", entries={})
        measurement = Measurement(case=case)
        if filling.seen is None:
            return TakeoffSeen(measurement, filling)
        measurement = replace(
            filling.seen.engines[0].measurement,
            case=case,
            model_sha256="",
            input_sha256=(),
            launches=2,
            notes=tuple(dict.fromkeys(note for each in filling.seen.engines for note in each.measurement.notes)),
        )
        entries = {one.model: seen.entry for one, seen in zip(cases, filling.seen.engines, strict=True)}
        first = start("first", entries=entries)
        if first.seen is None:
            return TakeoffSeen(measurement, filling, first)
        places = (temporary, *_caches(job))
        before = _files(places)
        killed = start("", entries=entries, kill_after_s=infer_s)
        again = start("again", entries=entries)
        parted = _parted(first, again, Path(room), cases)
        left = tuple(sorted(_files(places) - before))
    duration_ns = sum(each.wall_ns for each in (filling, first, killed, again))
    measurement = replace(measurement, duration_ns=duration_ns, load_ns=_loads_ns(first))
    return TakeoffSeen(measurement, filling, first, killed, again, parted, left)


def _caches(job: ChildJob) -> tuple[Path, ...]:
    config = job.runtime_config()
    return tuple(
        dict.fromkeys(path for path in (config.engine_cache_dir, config.ort_trt_cache_dir) if path is not None)
    )


def _files(folders: Sequence[Path]) -> set[str]:
    return {str(path) for folder in folders for path in folder.rglob("*")}


def _loads_ns(result: ChildResult) -> int | None:
    return None if result.seen is None else sum(engine.load_ns for engine in result.seen.engines)


def _parted(
    first: ChildResult, again: ChildResult, room: Path, cases: Sequence[Case]
) -> dict[str, tuple[Outputs, Outputs]]:
    if first.seen is None or again.seen is None:
        return {}
    both = zip(cases, first.seen.engines, again.seen.engines, strict=True)
    models = [case.model for case, one, other in both if one.digests != other.digests]
    return {
        name: (_outputs(room / "first" / f"{name}.npz"), _outputs(room / "again" / f"{name}.npz")) for name in models
    }


def _outputs(path: Path) -> list[dict[str, Array]]:
    samples: dict[int, dict[str, Array]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            at, _, name = key.partition("/")
            samples.setdefault(int(at), {})[name] = arrays[key]
    return [samples[at] for at in sorted(samples)]


def judge_takeoff(
    seen: TakeoffSeen,
    cases: Sequence[Case],
    *,
    board: BoardConfig | None,
    budgets: Mapping[str, Budget],
    tolerances: Mapping[str, Mapping[str, Tolerance]],
    outputs: Sequence[Check] = (),
    is_unified: bool | None = None,
    card_is_ours: bool = False,
) -> Verdict:
    """The row: both take-offs by their loads and memory against the board's budgets, and the second by what the first gave.

    ``budgets``: of the models on this board (``load_s``). ``tolerances``: of each model's lane, by output; outputs that are not
    the same bytes are held against them twice over (each may be one away from the truth), and only where two undisturbed
    processes did not give the same bytes either. FAIL also where a process did not come up, or left files behind.
    Without budgets that apply, the row is MEASURED at best. ``outputs``: the checks of outputs that were not the same bytes,
    where the outputs themselves are gone.
    """
    starts = [result for result in (seen.first, seen.again) if result is not None]
    prints = [result.footprint(is_unified=is_unified, card_is_ours=card_is_ours) for result in starts]
    summary = Summary(seen.measurement, figures=tuple(_figures(seen, prints)))
    broken = [
        Check(name, Outcome.FAIL, f"{name}: {result.in_words()}", "the runtime does not come up")
        for name, result in (("filling the caches", seen.filling), ("take-off", seen.first), ("restart", seen.again))
        if result is not None and result.seen is None
    ]
    if seen.killed is not None and not seen.killed.is_ours:
        broken.append(Check("killed process", Outcome.FAIL, f"it ended by itself: {seen.killed.in_words()}"))
    if seen.killed is not None and seen.killed.is_ours and seen.killed.ready_ns is None:
        broken.append(Check("killed process", Outcome.FAIL, f"it never inferred: {seen.killed.in_words()}"))
    told = [prints[at] for at, result in enumerate(starts) if result.seen is not None]
    by_kernel = [result.in_words() for result in (seen.filling, *starts) if result.is_killed]
    budgeted = [*budget_checks(told, by_kernel, board)] if told or by_kernel else []
    budgeted += [check for check in _loads(starts, cases, budgets) if check is not None]
    checks = [*broken, *(outputs or _same(seen, cases, tolerances)), *_left(seen), *budgeted]
    held = [check for check in checks if check.outcome is not Outcome.NOT_RUN]
    deciding = worst(held)
    if deciding.outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE):
        return Verdict(summary, deciding.outcome, f"{deciding.name}: {deciding.reason}", tuple(checks))
    applies = any(check.outcome is Outcome.PASS for check in budgeted)
    reason = "; ".join([_in_words(seen), *(check.reason for check in held if check not in budgeted)])
    outcome = Outcome.PASS if applies else Outcome.MEASURED
    return Verdict(summary, outcome, reason if applies else f"{reason}; no budget applies to this board", tuple(checks))


def _loads(starts: Sequence[ChildResult], cases: Sequence[Case], budgets: Mapping[str, Budget]) -> list[Check]:
    """Each engine's load in both take-offs, as a maximum: there are too few for a quantile."""
    checks = []
    for at, case in enumerate(cases):
        limit_s = budgets[case.model].load_s if case.model in budgets else None
        times = [result.seen.engines[at].load_ns for result in starts if result.seen is not None]
        if limit_s is None or not times:
            continue
        outcome = Outcome.FAIL if max(times) > limit_s * 1e9 else Outcome.PASS
        checks.append(
            Check(f"load of {case.model}", outcome, f"{case.model} up to {seconds(max(times))} of {limit_s:g} s")
        )
    return checks


def _same(seen: TakeoffSeen, cases: Sequence[Case], tolerances: Mapping[str, Mapping[str, Tolerance]]) -> list[Check]:
    if seen.first is None or seen.again is None or seen.first.seen is None or seen.again.seen is None:
        return []
    if not seen.parted:
        return [Check("outputs", Outcome.PASS, "after SIGKILL the same outputs, bit for bit")]
    undisturbed = {
        case.model: one.digests == other.digests
        for case, one, other in zip(cases, seen.filling.seen.engines, seen.first.seen.engines, strict=True)
    } if seen.filling.seen is not None else {}  # fmt: skip
    checks = []
    for model, (before, after) in seen.parted.items():
        doubled = {name: _doubled(tolerance) for name, tolerance in tolerances.get(model, {}).items()}
        found = worst(check_parity(compare(before, after, doubled)))
        if found.outcome is Outcome.PASS and not undisturbed.get(model, False):
            words = "the runtime does not give the same bytes in every process; after SIGKILL they agree"
            checks.append(Check(f"outputs of {model}", Outcome.PASS, f"{model}: {words}: {found.reason}"))
        elif found.outcome is Outcome.PASS:
            words = "two undisturbed processes gave the same bytes, and after SIGKILL they are others"
            checks.append(Check(f"outputs of {model}", Outcome.FAIL, f"{model}: {words}: {found.reason}"))
        else:
            checks.append(Check(f"outputs of {model}", found.outcome, f"{model}: after SIGKILL {found.reason}"))
    return checks


def _doubled(tolerance: Tolerance) -> Tolerance:
    largest, median = tolerance.rel_l2_max, tolerance.rel_l2_median
    return replace(
        tolerance,
        rel_l2_max=None if largest is None else 2 * largest,
        rel_l2_median=None if median is None else 2 * median,
    )


def _left(seen: TakeoffSeen) -> list[Check]:
    if seen.again is None:
        return []
    if not seen.left:
        return [Check("leftovers", Outcome.PASS, "no file was left behind")]
    more = f" and {len(seen.left) - 3} more" if len(seen.left) > 3 else ""
    names = ", ".join(Path(path).name for path in seen.left[:3])
    return [
        Check("leftovers", Outcome.FAIL, f"the killed process left {names}{more}, and the next start did not clear it")
    ]


def _figures(seen: TakeoffSeen, prints: Sequence[Marks]) -> list[Figure]:
    figures = []
    for name, result in (("takeoff", seen.first), ("restart", seen.again)):
        if result is None or result.seen is None:
            continue
        of = "a fresh process" if name == "takeoff" else "a fresh process after a SIGKILL"
        figures += [
            Figure(f"{name}_ready_ns", float(result.seen.ready_ns), "ns", of),
            Figure(f"{name}_load_ns", float(_loads_ns(result) or 0), "ns", f"{of}, all loads together"),
            Figure(f"{name}_import_ns", float(result.seen.import_ns), "ns", of),
        ]
    for name, marks in zip(("takeoff", "restart"), prints, strict=False):
        figures += [replace(mark, name=f"{name}_{mark.name}") for mark in marks]
    if seen.first is not None and seen.again is not None:
        kept = _kept(seen.first.before, seen.again.before)
        figures.append(kept)
    return figures


def _kept(before: Marks, after: Marks) -> Figure:
    """What the killed process did not give back, as far as the system tells."""
    for name, sign in (("nvmap_bytes", 1.0), ("system_available_bytes", -1.0)):
        first, last = find(before, name), find(after, name)
        if first.value is not None and last.value is not None:
            source = f"{first.source}, before the restart against before the take-off (approximate)"
            return Figure("kept_after_kill_bytes", sign * (last.value - first.value), "bytes", source)
    return Figure("kept_after_kill_bytes", None, "bytes", why="neither NvMap nor MemAvailable is told")


def _in_words(seen: TakeoffSeen) -> str:
    words = []
    for name, result in (("take-off", seen.first), ("after SIGKILL", seen.again)):
        if result is not None and result.seen is not None:
            host = find(result.footprint(), "host_bytes").value
            held = f", {bytes_in_words(host)} of host memory" if host is not None else ""
            words.append(f"{name} ready in {seconds(result.seen.ready_ns)}{held}")
    return "; ".join(words)
