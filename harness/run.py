"""One run from what was asked to a finished run folder: plan, measure, judge, keep every row."""

from __future__ import annotations

import contextlib
import shlex
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from harness import gates
from harness.build_check import Builder, judge_build
from harness.config import Configuration, ModelConfig
from harness.errors import UsageError
from harness.limits import LIMITS_FILE, limits_of, limits_text
from harness.lineage import about, facts_of
from harness.measure import Bench, Build, Observed
from harness.numerics.artifact import judge_artifact
from harness.numerics.parity import error_samples, examine
from harness.numerics.raw import LIMIT, Numerics, claims_of, keep, of_authors, raw_arrays
from harness.packs.folder import Pack
from harness.plan import Ask
from harness.publish import keep_engines
from harness.records import ABOUT_A_FLIGHT, ABOUT_RUNTIMES, Case, Divergence, Measurement, Outcome, Run, Verdict
from harness.run_folder import LOG_FILE, FolderError, RunFolder
from harness.session import exit_of, run_rows, timed
from harness.tier2.rows import Tier2
from harness.warned import ABOUT_NUMERICS, Ear, listening, warned
from harness.watchdog import Hangs, call_within
from harness.words import counted
from runtime.config import RuntimeConfig
from runtime.data import EngineCacheEntry
from runtime.errors import RuntimeCoreError, RuntimeNotAvailableError
from runtime.protocol import Array

__all__ = ["Job", "Progress", "RuntimeSuite", "run"]

Diagnose = Callable[[Case, Path], Divergence | None]
RuntimeSuite = Callable[[Case, Build, RuntimeConfig], Verdict]
"""Settles a row about a runtime: (the row, how runtimes are built, with which configuration)."""
_ONCE_HUNG = 20
"""Who was seen to hang gets this part of the time."""


class Progress:
    """What is told while a run goes on; this one tells nothing. ``harness.progress`` has the one for people."""

    @contextlib.contextmanager
    def rows(self, planned: Sequence[Case]) -> Iterator[None]:
        """Around all rows."""
        del planned
        yield

    def begun(self, case: Case) -> None:
        """A row starts."""

    def said(self, words: str) -> None:
        """What the row that runs now is at."""

    def done(self, verdict: Verdict) -> None:
        """A row has its verdict."""


@dataclass(frozen=True)
class Job:
    """Everything that a run needs, brought together by the command line.

    ``broken``: models without a pack, with the reason. ``suites``: the folder of the installed tiers.
    ``diagnose``: after a FAIL of a parity row, what T1-02 asks for. ``runtime_suites``: what settles the rows about
    runtimes, by kind. ``foreign_limit_s``: of a row of a third party's class, beside what is measured.
    ``hung``: the classes that were seen to hang; filled while rows run. ``builder``: what builds engines here, if anything.
    ``tier2``: settles the rows of Tier-2. ``row_s``: what a latency row measures at most. ``publish``: of the files that rows
    ran from, see ``publish.keep_engines``. ``notes``: what is to be said of a row, by its id; ``said``: of the whole run.
    """

    ask: Ask
    cases: tuple[Case, ...]
    pack: Pack
    broken: Mapping[str, str]
    configuration: Configuration
    models: Mapping[str, ModelConfig]
    bench: Bench
    suites: Path
    environment: Mapping[str, str]
    settings: Mapping[str, str]
    command: Sequence[str]
    version: str
    gpu_host: bool
    device: str
    board_name: str = ""
    diagnose: Diagnose = lambda case, folder: None
    remedies: Mapping[str, str] = field(default_factory=dict)
    runtime_suites: Mapping[str, RuntimeSuite] = field(default_factory=dict)
    foreign_limit_s: float = 600.0
    hung: set[str] = field(default_factory=set)
    builder: Builder | None = None
    tier2: Tier2 | None = None
    row_s: float = 6.0
    publish: str = ""
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    said: tuple[str, ...] = ()


def run(job: Job, folder: RunFolder, progress: Progress, arguments: Sequence[str] = ()) -> Run:
    """Run every case that has no verdict yet, and keep each on disk. Returns the finished record.

    ``arguments`` go on to pytest (``-k``, ``-m``, plugins).
    """
    state = _State(job, folder)
    limits = limits_of(job.configuration, job.models, job.board_name, job.ask.require)
    folder.write(LIMITS_FILE, limits_text(limits))
    folder.write_run(state.record)
    if job.tier2 is not None:
        job.tier2.say, job.tier2.publish = progress.said, job.publish
        for verdict in state.verdicts.values():
            job.tier2.recall(verdict)
    left = [case for case in job.cases if case.id not in state.verdicts]
    for case in left:  # of a try that was cut off: no evidence of what the row comes to now
        folder.discard(f"raw/{case.id}.npz")
        folder.discard(f"raw/{case.id}.json")
        folder.discard(f"layers/{case.id}.json")

    def settle(case: Case) -> Verdict:
        progress.begun(case)
        if not case.not_run:
            state.begin(case)
        return _noted(_settle(case, job, folder), job.notes.get(case.id, ()))

    def heard(verdict: Verdict) -> None:
        state.add(verdict)
        progress.done(verdict)

    try:
        with progress.rows(left), folder.open_log() as log, contextlib.redirect_stderr(log):
            rounds = job.tier2.rounds if job.tier2 is not None else None
            job.bench.listen = ear = Ear(log, folder.path / LOG_FILE)
            listened = listening(timed(settle), ear)
            interrupted, internal = run_rows(left, job.suites, listened, heard, arguments, rounds=rounds)
    except KeyboardInterrupt:  # between two rows, or before the first
        interrupted, internal = True, []
    return state.finish(interrupted, internal)


class _State:
    """The record as it grows. ``run.json`` always holds a whole one, and the journal what came after."""

    def __init__(self, job: Job, folder: RunFolder) -> None:
        self.job = job
        self.folder = folder
        earlier = folder.earlier()
        if earlier is not None:
            _same_run(earlier, job)
        done = earlier.verdicts if earlier else ()
        # what could not run may run now, and what was cut off may come to its end: both are tried again
        self.verdicts = {
            verdict.case.id: verdict
            for verdict in done
            if verdict.outcome is not Outcome.NOT_RUN and not verdict.summary.measurement.incomplete
        }
        self.record = (
            replace(
                earlier,
                planned=job.cases,
                finished_at="",
                complete=False,
                interrupted=False,
                exit_code=None,
                last_line="",
            )
            if earlier
            else _fresh(job)
        )

    def add(self, verdict: Verdict) -> None:
        self.verdicts[verdict.case.id] = verdict
        if self.folder.is_due:
            self._write(self.record)
        else:
            self.folder.note_row(verdict)

    def begin(self, case: Case) -> None:
        """Name the row in the journal before it runs: a library that ends the process leaves nobody to say which it was."""
        count = f"{len(self.verdicts)} of {len(self.job.cases)} rows have a verdict"
        line = f"{case.id} was running when this was written, and {count}: the run goes on, or its process was ended by that row."
        self.folder.note_last_line(line)

    def finish(self, interrupted: bool, internal: Sequence[str]) -> Run:
        ordered = self._ordered()
        require = self.job.ask.require
        code = exit_of(ordered, require, interrupted, internal)
        line = gates.last_line(ordered, require)
        if interrupted:
            line = f"Interrupted after {len(ordered)} of {len(self.job.cases)} rows; go on with --resume. {line}"
        if internal:
            line = f"Internal error in {counted(len(internal), 'row')} (see notes). {line}"
        self._write(
            replace(
                self.record,
                finished_at=_now(),
                complete=not interrupted and not internal,
                interrupted=interrupted,
                exit_code=code,
                last_line=line,
                notes=(*self.record.notes, *(self.job.tier2.learned if self.job.tier2 else ()), *internal),
            )
        )
        return self.record

    def _ordered(self) -> tuple[Verdict, ...]:
        return tuple(self.verdicts[case.id] for case in self.job.cases if case.id in self.verdicts)

    def _write(self, record: Run) -> None:
        self.record = replace(record, verdicts=self._ordered())
        self.folder.write_run(self.record)


def _fresh(job: Job) -> Run:
    return Run(
        id=uuid.uuid4().hex,
        started_at=_now(),
        finished_at="",
        complete=False,
        exit_code=None,
        last_line="",
        command=shlex.join(job.command),
        seed=job.pack.seed,
        settings=dict(job.settings),
        environment=dict(job.environment),
        configuration_sha256=job.configuration.sha256,
        pack_sha256=job.pack.sha256,
        planned=job.cases,
        verdicts=(),
        trigate_version=job.version,
        notes=(*(f"model {name} has no pack: {reason}" for name, reason in job.broken.items()), *job.said),
    )


def _same_run(earlier: Run, job: Job) -> None:
    """Refuse to go on with a run of other models, inputs or settings: its rows could not be read together."""
    for what, old, new in (
        ("pack", earlier.pack_sha256, job.pack.sha256),
        ("configuration", earlier.configuration_sha256, job.configuration.sha256),
        ("trigate version", earlier.trigate_version, job.version),
    ):
        if old != new:
            raise UsageError(
                f"the run cannot be resumed: its {what} was {old[:16]}, now it is {new[:16]}. Give another --out."
            )
    for what, old_facts, new_facts in (
        ("setting", dict(earlier.settings), dict(job.settings)),
        ("library or machine", _decisive(earlier.environment), _decisive(job.environment)),
    ):
        changed = sorted(key for key in {*old_facts, *new_facts} if old_facts.get(key) != new_facts.get(key))
        if changed:
            raise UsageError(
                f"the run cannot be resumed with another {what}: {', '.join(changed)}. Give another --out."
            )


def _decisive(environment: Mapping[str, str]) -> dict[str, str]:
    """The facts of a host that rows of one run must share."""
    return {key: value for key, value in environment.items() if key not in ("os", "memory_bytes", "python_executable")}


def _settle(case: Case, job: Job, folder: RunFolder) -> Verdict:
    """One row, whatever happens to it: a reason not to run, a refusal, or a judged measurement."""
    if case.model in job.broken:
        return gates.refusal_of(case, job.broken[case.model])
    if case.not_run:
        return gates.not_run(case, case.not_run, "" if case.simulated else job.remedies.get(case.runtime, ""))
    try:
        verdict = _within_limits(case, job, lambda: _KINDS[case.kind](case, job, folder))
        verdict = _with_engines(verdict, job, folder)
    except RuntimeNotAvailableError as error:
        return gates.not_run(case, error.message, error.remedy)
    except FolderError:
        raise  # says nothing of the row: the run ends
    except (RuntimeCoreError, UsageError) as error:
        return gates.refusal(case, error)
    except Exception as error:
        if not _is_foreign(case):
            raise
        return gates.refusal(case, error)  # a third party's class may raise anything
    return gates.misplaced(verdict, gpu_host=job.gpu_host, device=job.device)


def _noted(verdict: Verdict, words: Sequence[str]) -> Verdict:
    if not words:
        return verdict
    measurement = verdict.summary.measurement
    measurement = replace(measurement, notes=(*measurement.notes, *words))
    return replace(verdict, summary=replace(verdict.summary, measurement=measurement))


def _is_foreign(case: Case) -> bool:
    """Whether a third party's class takes part."""
    return ":" in case.runtime or ":" in case.against


def _within_limits(case: Case, job: Job, settle: Callable[[], Verdict]) -> Verdict:
    """A row of a third party's class, which may hang, has a time limit; suites keep their own."""
    if not _is_foreign(case) or case.kind in ABOUT_RUNTIMES:
        return settle()
    patience_s = job.foreign_limit_s / (_ONCE_HUNG if {case.runtime, case.against} & job.hung else 1)
    try:
        return call_within(patience_s + 2 * job.row_s, settle)
    except Hangs:
        job.hung.update({case.runtime, case.against})
        raise


def _with_engines(verdict: Verdict, job: Job, folder: RunFolder) -> Verdict:
    """A row about numerics with what its engine was; beside it the lineage of the other one, where there are two."""
    case, measurement = verdict.case, verdict.summary.measurement
    seen = job.bench.seen(case) if case.kind in ABOUT_NUMERICS else None
    if seen is None or seen.facts is None:
        return verdict
    other = job.bench.seen(case, case.against) if case.against else None
    if other is not None and other.facts is not None:
        lineage = {**measurement.lineage, **about(case.against, other.facts.lineage)}
        verdict = replace(verdict, summary=replace(verdict.summary, measurement=replace(measurement, lineage=lineage)))
        verdict = warned(verdict, other.measurement.warnings)
    return keep_engines(verdict, {"": seen.facts}, folder, publish=job.publish)


def _settle_runtime(case: Case, job: Job, folder: RunFolder) -> Verdict:
    del folder
    verdict = job.runtime_suites[case.kind](case, job.bench.build, job.bench.config)
    if any(check.reason.startswith("HANGS") for check in verdict.checks):
        job.hung.add(case.runtime)
    return verdict


def _settle_artifact(case: Case, job: Job, folder: RunFolder) -> Verdict:
    del folder
    return judge_artifact(Measurement(case=case), job.pack.models[case.model])


def _settle_parity(case: Case, job: Job, folder: RunFolder) -> Verdict:
    seen = job.bench.outputs(case)
    pack, model = job.pack.models[case.model], job.models[case.model]
    references = pack.references()
    task = None
    if model.task is not None:
        from harness.tasks import score_task

        task = score_task(model.task, references, seen.outputs, pack.feeds(), (job.configuration.folder,))
    numerics = Numerics(
        case.id,
        case.kind,
        case.lane,
        "reference",
        examine(references, seen.outputs),
        pack.tolerances.get(case.lane, {}),
        pack.feed_sha256,
        pack.sha256_of("reference.npz"),
        of_authors(pack.expected(), seen.outputs),
        task,
    )
    known = {"reference": numerics.reference_sha256, "golden": pack.sha256_of("expected.npz")}
    lineage = {**seen.measurement.lineage, **{name: digest for name, digest in known.items() if digest}}
    seen = replace(seen, measurement=replace(seen.measurement, lineage=lineage))
    verdict = _kept(seen, references, numerics, folder, limit=LIMIT)
    return _diagnosed(case, verdict, job, folder)


def _settle_semantic(case: Case, job: Job, folder: RunFolder) -> Verdict:
    seen, other = job.bench.outputs(case), job.bench.outputs(case, case.against)
    pack = job.pack.models[case.model]
    numerics = Numerics(
        case.id,
        case.kind,
        case.lane,
        case.against,
        examine(other.outputs, seen.outputs),
        gates.doubled(pack.tolerances["fp32"]),
        pack.feed_sha256,
    )
    return _diagnosed(case, _kept(seen, other.outputs, numerics, folder), job, folder)


def _settle_pair(case: Case, job: Job, folder: RunFolder) -> Verdict:
    seen, other = job.bench.outputs(case), job.bench.outputs(case, case.against)
    numerics = Numerics(case.id, case.kind, case.lane, case.against, examine(other.outputs, seen.outputs))
    return _kept(seen, other.outputs, numerics, folder)


def _settle_tier_2(case: Case, job: Job, folder: RunFolder) -> Verdict:
    assert job.tier2 is not None
    return job.tier2.settle(case, folder)


def _settle_build(case: Case, job: Job, folder: RunFolder) -> Verdict:
    pack = job.pack.models[case.model]
    if job.builder is None or not pack.onnx:
        return gates.not_run(case, "tensorrt: not installed" if pack.onnx else "the model has no ONNX file")

    def keep(verdict: Verdict, entry: EngineCacheEntry) -> Verdict:
        facts = {"": facts_of(entry, pack, pack.path(pack.onnx))}
        return keep_engines(verdict, facts, folder, publish=job.publish)

    config = job.bench.build_config(case)
    return judge_build(Measurement(case=case), pack.path(pack.onnx), config, job.builder, keep=keep)


_KINDS: Mapping[str, Callable[[Case, Job, RunFolder], Verdict]] = {
    "artifact": _settle_artifact,
    "build": _settle_build,
    "semantic": _settle_semantic,
    "parity": _settle_parity,
    "pair": _settle_pair,
    **dict.fromkeys(("load", "latency", *ABOUT_A_FLIGHT), _settle_tier_2),
    **dict.fromkeys(ABOUT_RUNTIMES, _settle_runtime),
}


def _kept(
    seen: Observed,
    expected: Sequence[Mapping[str, Array]],
    numerics: Numerics,
    folder: RunFolder,
    *,
    limit: int | None = None,
) -> Verdict:
    """The row's verdict, with all that it is computed from in the run folder; and its outputs, up to ``limit`` elements."""
    measurement = seen.measurement
    numerics = replace(numerics, facts=claims_of(measurement))
    elements: tuple[Array, ...] = ()
    if limit is not None:
        kept, elements = keep(seen.outputs, limit=limit)
        numerics = replace(numerics, kept=kept)
    row = measurement.case
    if row.kind != "pair":
        drawn = error_samples(expected, seen.outputs, seed=measurement.seed, statistics=numerics.outputs)
        measurement = replace(measurement, errors_file=folder.write_arrays(f"outputs/{row.id}.npz", drawn))
    raw_file = folder.write_arrays(f"raw/{row.id}.npz", raw_arrays(numerics, elements), compress=False)
    return gates.judge_numerics(replace(measurement, raw_file=raw_file), numerics)


def _diagnosed(case: Case, verdict: Verdict, job: Job, folder: RunFolder) -> Verdict:
    if verdict.outcome is not Outcome.FAIL:
        return verdict
    try:
        return replace(verdict, divergence=job.diagnose(case, folder.path))
    except Exception as error:  # the verdict stands, whatever becomes of its explanation
        return replace(verdict, divergence=Divergence(None, notes=(f"the diagnosis broke: {error!r}",)))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
