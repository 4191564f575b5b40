"""Loading a model in fresh processes: how long from nothing to the first outputs, and whether the budget of it is kept.

A round is one process. Its times are its own (``harness.tier2.process_child``); from outside only its end is seen. A ``cold``
round finds empty caches, so that what is built the first time is built then; a ``warm`` one finds what an earlier
process left, and an engine that is compiled. Rounds are independent, so that the rule for p95 is the exact one (methods A2).
"""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.config import Budget, LoadLimits
from harness.gates import worst
from harness.lineage import EngineFacts
from harness.records import Case, Check, Figure, Measurement, Outcome, Summary, Verdict
from harness.statistics.quantiles import quantile
from harness.tier2.child_job import ChildJob
from harness.tier2.fresh import ChildResult, ProcessJob, run_child, seconds
from harness.tier2.memory import supported_share
from harness.tier2.rounds import Rounds

__all__ = ["LoadRound", "LoadSeen", "is_own", "judge_load", "measure_load", "rounds_for", "rounds_of"]

RunChild = Callable[..., ChildResult]
_LIMITS = LoadLimits()
_REBUILD, _BUILD = "INT8 rebuild from a trusted calibration cache", " build"
_TIMES = ("start_ns", "import_ns", "compile_ns", "load_ns", "first_call_ns", "ready_ns")


@dataclass(frozen=True)
class LoadRound:
    """One fresh process: times in ns, of which ``ready_ns`` is from its spawn to the outputs of its first call.

    ``compile_ns`` and ``load_ns`` together create a session. ``failed``: why it gave no times, which are 0 then.
    """

    is_cold: bool
    start_ns: int = 0
    import_ns: int = 0
    compile_ns: int = 0
    load_ns: int = 0
    first_call_ns: int = 0
    ready_ns: int = 0
    failed: str = ""

    @property
    def session_ns(self) -> int:
        return self.compile_ns + self.load_ns


@dataclass(frozen=True)
class LoadSeen:
    """All rounds of a row, and what the engine of the last one was."""

    measurement: Measurement
    rounds: tuple[LoadRound, ...]
    notes: tuple[str, ...] = field(default=())
    facts: EngineFacts | None = None


def measure_load(
    case: Case,
    job: ChildJob,
    *,
    rounds: int,
    environ: Mapping[str, str],
    runner: Rounds,
    cold_rounds: int = 0,
    timeout_s: float = 300.0,
    root: Path = Path("/"),
    run: RunChild = run_child,
) -> LoadSeen:
    """Run a process that fills the real caches, ``cold_rounds`` with empty ones, and ``rounds`` that find them full.

    A cold round has the calibration caches nevertheless: what it then takes is a rebuild from a trusted one.

    The warm ones are run by ``runner``. Never raises for what a process does: a round without times says why. After a
    filling process that failed there are no warm rounds, since each would fail as it did.
    """
    whole = ProcessJob(job, (case,), root=str(root))

    def once(of: ProcessJob) -> ChildResult:
        return run(of, timeout_s=timeout_s, environ=environ, poll_s=None)

    done: list[LoadRound] = []
    results: list[ChildResult] = []
    filling = once(whole)
    for _ in range(cold_rounds):
        with tempfile.TemporaryDirectory(prefix="trigate-cold-") as folder:
            _bring_calibration(job, Path(folder))
            caches = {"engine_cache_dir": folder, "ort_trt_cache_dir": f"{folder}/ort"}
            result = once(replace(whole, job=replace(job, config={**job.config, **caches})))
            done.append(_round(result, is_cold=True))
            results.append(result)
    results.append(filling)
    notes = [f"a cold round: {entry.failed}" for entry in done if entry.failed]
    if filling.seen is None:
        done.append(_round(filling, is_cold=False))
    else:
        warm = replace(whole, entries={case.model: filling.seen.engines[0].entry})
        made = runner.run(lambda: once(warm), rounds)
        results += made
        done += [_round(result, is_cold=False) for result in made]
    last = next((result.seen.engines[-1] for result in reversed(results) if result.seen is not None), None)
    measurement = Measurement(case=case) if last is None else replace(last.measurement, case=case)
    warm_times = [entry for entry in done if not entry.is_cold and not entry.failed]
    measurement = replace(
        measurement,
        timing_boundary="monotonic clock inside a fresh process, around each step",
        launches=len(done),
        sample_count=len(done),
        failed_count=sum(bool(entry.failed) for entry in done),
        load_ns=warm_times[0].load_ns if warm_times else None,
        first_call_ns=warm_times[0].first_call_ns if warm_times else None,
        duration_ns=sum(result.wall_ns for result in results),
        notes=(*measurement.notes, *notes),
    )
    return LoadSeen(measurement, tuple(done), tuple(notes), last.facts if last is not None else None)


def _bring_calibration(job: ChildJob, folder: Path) -> None:
    """Calibration caches with their sidecars, and nothing else of the caches."""
    here = Path(str(job.config.get("engine_cache_dir", "")))
    for path in sorted(here.glob("*.cache*")) if job.config.get("engine_cache_dir") else ():
        shutil.copy2(path, folder / path.name)


def _round(result: ChildResult, *, is_cold: bool) -> LoadRound:
    if result.seen is None:
        return LoadRound(is_cold, failed=result.in_words())
    engine = result.seen.engines[0]
    return LoadRound(
        is_cold=is_cold,
        start_ns=result.seen.start_ns,
        import_ns=result.seen.import_ns,
        compile_ns=engine.compile_ns,
        load_ns=engine.load_ns,
        first_call_ns=engine.first_call_ns,
        ready_ns=result.seen.ready_ns,
    )


def judge_load(
    measurement: Measurement,
    rounds: Sequence[LoadRound],
    *,
    budget: Budget | None,
    limits: LoadLimits = _LIMITS,
    alpha: float = 0.05,
) -> Verdict:
    """The row by its rounds: p95 of the load against ``budget.load_s``, of ONNX Runtime's session creation against ``limits``.

    With t of n rounds over the limit: PASS iff BinomCDF(t; n, 0.05) <= alpha, FAIL iff P(Bin(n, 0.05) >= t) <= alpha or a
    single round takes more than twice the limit (the flight's 5 s and 10 s, T2-02), else INCONCLUSIVE with how many more
    rounds without one over would decide. A cold limit with too few rounds is MEASURED: building often is not affordable.
    A process that ends without times is FAIL. MEASURED where the board has no budget for loading.
    """
    figures = [*_figures(rounds), *_each(rounds)]
    summary = Summary(measurement, figures=tuple(figures))
    if not rounds:
        return Verdict(summary, Outcome.INCONCLUSIVE, "no round was run")
    warm = [entry for entry in rounds if not entry.is_cold]
    cold = [entry for entry in rounds if entry.is_cold]
    failed = [entry for entry in rounds if entry.failed]
    checks: list[Check] = []
    if failed:
        checks.append(
            Check("processes", Outcome.FAIL, f"{len(failed)} of {len(rounds)} gave no times: {failed[0].failed}")
        )
    if budget is not None and budget.load_s is not None:
        checks.append(_limit("load", [entry.load_ns for entry in warm if not entry.failed], budget.load_s, alpha))
        if measurement.case.runtime == "onnx_trt_ep":
            of_warm = [entry.session_ns for entry in warm if not entry.failed]
            of_cold = [entry.session_ns for entry in cold if not entry.failed]
            checks.append(_limit("session creation", of_warm, limits.session_s, alpha))
            if of_cold:
                first = _limit("first session creation", of_cold, limits.first_session_s, alpha)
                is_open = first.outcome is Outcome.INCONCLUSIVE
                checks.append(replace(first, outcome=Outcome.MEASURED) if is_open else first)
        if measurement.case.runtime == "tensorrt" and (builds := [one.compile_ns for one in cold if not one.failed]):
            is_int8 = measurement.case.precision == "int8"
            what = _REBUILD if is_int8 else f"{measurement.case.precision}{_BUILD}"
            built = _limit(what, builds, limits.rebuild_int8_s if is_int8 else limits.build_s, alpha)
            is_open = built.outcome is Outcome.INCONCLUSIVE
            checks.append(replace(built, outcome=Outcome.MEASURED) if is_open else built)
    if not checks:
        return Verdict(summary, Outcome.MEASURED, f"{_in_words(warm)}; no budget for loading applies to this board")
    deciding = worst(checks)
    return Verdict(summary, deciding.outcome, deciding.reason, tuple(checks))


def is_own(name: str) -> bool:
    """Whether a check of such a row is one that ``judge_load`` finds from rounds."""
    return name in ("processes", "load", "session creation", "first session creation", _REBUILD) or name.endswith(
        _BUILD
    )


def _limit(what: str, times_ns: Sequence[int], limit_s: float, alpha: float) -> Check:
    from scipy.stats import binom  # half a second to import, which most commands never need

    count = len(times_ns)
    if not count:
        return Check(what, Outcome.INCONCLUSIVE, f"{what}: no round has a time")
    over = sum(time > limit_s * 1e9 for time in times_ns)
    largest = max(times_ns)
    said = f"{what} up to {seconds(largest)} of {limit_s:g} s, {over} of {count} rounds over"
    if largest > 2e9 * limit_s:
        return Check(what, Outcome.FAIL, f"{said}, one by more than twice")
    if over and binom.sf(over - 1, count, 0.05) <= alpha:
        return Check(what, Outcome.FAIL, f"{said}: p95 is over it")
    if binom.cdf(over, count, 0.05) <= alpha:
        return Check(what, Outcome.PASS, f"{said}: p95 is under it with {100 * (1 - alpha):g} % confidence")
    more = rounds_for(over, alpha=alpha) - count
    holds = (
        f"at least {math.floor(1000 * supported_share(count)) / 10:g} % of loads are under it at 95 %; "
        if not over
        else ""
    )
    return Check(what, Outcome.INCONCLUSIVE, f"{said}: {holds}{more} more rounds without one over would decide")


def rounds_for(over: int, *, p: float = 0.95, alpha: float = 0.05) -> int:
    """How many rounds show that p95 is under a limit which ``over`` of them exceed: 59, 93, 124, ... (methods A2)."""
    from scipy.stats import binom

    count = over + 1
    while binom.cdf(over, count, 1 - p) > alpha:
        count += 1
    return count


def rounds_of(figures: Iterable[Figure]) -> tuple[LoadRound, ...]:
    """The rounds as ``judge_load`` stored them, so that a row can be judged again under another budget with no device."""
    found: dict[tuple[str, int], dict[str, int]] = {}
    failed: dict[tuple[str, int], str] = {}
    for figure in figures:
        match = re.fullmatch(r"(\w+)\[(cold|warm) (\d+)\]", figure.name)
        if match is None:
            continue
        key = (match[2], int(match[3]))
        if figure.value is None:
            failed[key] = figure.why
        elif match[1] in _TIMES:
            found.setdefault(key, {})[match[1]] = int(figure.value)
    keys = sorted({*found, *failed}, key=lambda key: key[1])
    return tuple(LoadRound(key[0] == "cold", **found.get(key, {}), failed=failed.get(key, "")) for key in keys)


def _each(rounds: Sequence[LoadRound]) -> list[Figure]:
    """Each round's times as figures: the raw samples of this row."""
    figures = []
    for at, entry in enumerate(rounds):
        label = f"[{'cold' if entry.is_cold else 'warm'} {at}]"
        if entry.failed:
            figures.append(Figure(f"load_ns{label}", None, "ns", "a fresh process", why=entry.failed))
            continue
        figures += [Figure(f"{name}{label}", float(getattr(entry, name)), "ns", "a fresh process") for name in _TIMES]
    return figures


def _figures(rounds: Sequence[LoadRound]) -> list[Figure]:
    figures = []
    for word, part in (("", [r for r in rounds if not r.is_cold]), ("first_", [r for r in rounds if r.is_cold])):
        good = [entry for entry in part if not entry.failed]
        for what in ("load", "session", "compile", "first_call", "import", "start", "ready"):
            figures += _quantiles(
                f"{word}{what}", [getattr(entry, f"{what}_ns") for entry in good], len(part) - len(good)
            )
    return figures


def _quantiles(name: str, times_ns: Sequence[int], failed: int) -> list[Figure]:
    """p50 and p95 with their order-statistic intervals, and the largest; a failed round is slower than all others."""
    if not times_ns:
        return []
    source = f"{len(times_ns) + failed} fresh processes"
    figures = []
    for p in (0.5, 0.95):
        found = quantile(times_ns, p, failed=failed)
        low, high = (None if bound is None else float(bound) for bound in (found.low_ns, found.high_ns))
        figures.append(Figure(f"{name}_p{round(100 * p)}_ns", float(found.value_ns), "ns", source, low, high))
    return [*figures, Figure(f"{name}_max_ns", float(max(times_ns)), "ns", source)]


def _in_words(warm: Sequence[LoadRound]) -> str:
    good = [entry for entry in warm if not entry.failed]
    if not good:
        return "no warm round has a time"
    load, ready = max(entry.load_ns for entry in good), max(entry.ready_ns for entry in good)
    return f"load up to {seconds(load)}, ready up to {seconds(ready)} after the start, in {len(good)} fresh processes"
