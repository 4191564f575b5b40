"""``--against PYTHON``: two installations in turn on one host, by interleaved pairs of fresh processes (methods A6).

Of each pair one process runs with this installation's libraries (the new side) and one with the other's (the base), in an
order that a seeded coin decides for each two pairs, so that who goes first is balanced; both run the very code that runs
here, on the same pack. A pair gives the logarithm of the ratio of p95 and of p50; what the host did meanwhile is on both of
its sides. Both sides become ordinary run folders.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import runtime.errors
from harness import plan as planning
from harness.compare.load import load_folder
from harness.compare.rows import pairs_in_words, standing_of
from harness.compare.runs import Comparison, compare_runs, write_comparison
from harness.errors import UsageError
from harness.host import Availability
from harness.instruments.trace import Frame, Trace
from harness.measure import Bench, Observed
from harness.profiles import PROFILES, Profile
from harness.records import Case, Measurement, Outcome, Run, Summary, Verdict, to_json
from harness.records.comparison import Standing
from harness.run import Job, Progress, run
from harness.run_folder import RunFolder
from harness.statistics.paired import LOOKS, MARGINS, Change, compare_pairs
from harness.tier2.align import energy
from harness.tier2.child_job import ChildJob
from harness.tier2.fresh import ChildResult, ProcessJob, run_child
from harness.tier2.launch import counted
from harness.tier2.memory import find
from harness.tier2.rows import Tier2
from harness.tier2.samples import Phase, SampleLog, Status, read_journal
from harness.tier2.station import Order, Seen, Station, Stream
from runtime.errors import InferenceError, RuntimeCoreError
from runtime.files import write_atomic
from runtime.protocol import Array

__all__ = [
    "CALLS",
    "FIGURES",
    "MOST_S",
    "Installation",
    "Paired",
    "PairedRow",
    "check_against",
    "check_out",
    "code_alone",
    "compare_sides",
    "examine",
    "rows_of",
    "run_against",
]

CALLS, WARM_UP, MOST_S = 300, 50, 30.0
"""Timed calls of a launch, warm-up calls before them, and seconds after which a launch of a slow model ends with fewer."""

FIGURES = {"p95": 0.95, "p50": 0.50}
_ENERGY = "energy"
_OLDEST = (3, 10)
_KINDS = ("parity", "latency")
_BASE_BROKE = "the base side broke"
_PATIENCE_S = 3600.0
_PROBE_S = 120.0
_PARTS = ("harness", "runtime", "fixtures", "tiers", "reports")
_PROFILE = "quick"
_ASK = "import json, sys; print(json.dumps([list(sys.version_info[:3]), sys.prefix, sys.executable]))"


@dataclass(frozen=True)
class Installation:
    """``environment``: as ``Run.environment``. ``environ``: of its processes. ``runtimes``: what it has, by label."""

    python: str
    environment: Mapping[str, str]
    environ: Mapping[str, str]
    runtimes: Mapping[str, Availability] = field(default_factory=dict)


@dataclass(frozen=True)
class PairedRow:
    """One row by pairs. ``orders``: ``base new`` or ``new base`` of each. ``log_ratios``: by figure, ln(new) - ln(base) of each
    pair. ``decided``: by figure, after how many pairs it was (a look that ended it); what is not there is open. ``words``: by
    figure, its standing as the comparison has it and why. ``ended``: why there are no more pairs, where no decision ended them.
    """

    case: str
    orders: tuple[str, ...] = ()
    log_ratios: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    decided: Mapping[str, int] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    ended: str = ""

    def judged(self) -> dict[str, tuple[float, ...]]:
        """By figure the pairs that its verdict is of: those until it was decided."""
        return {
            name: values[: self.decided.get(name, len(values))]
            for name, values in self.log_ratios.items()
            if len(values) >= LOOKS[0]
        }


@dataclass(frozen=True)
class Paired:
    """``pairs/pairs.json``. ``base``, ``new``: the interpreters. ``calls``: of a launch."""

    base: str
    new: str
    seed: int
    calls: int
    rows: tuple[PairedRow, ...] = ()
    schema: int = 1


@dataclass
class _Side:
    name: str
    installation: Installation
    job: Job
    recorded: dict[str, list[Seen]] = field(default_factory=dict)
    broke: dict[str, RuntimeCoreError] = field(default_factory=dict)


def check_against(given: Mapping[str, bool]) -> None:
    """``given``: other options by their names, and whether they were given. Raises ``UsageError`` for one that cannot be."""
    why = {
        "--simulated": "a simulated board has no installations",
        "--resume": "pairs are measured in one go; begin anew with another --out",
        "--profile": "pairs have a procedure of their own",
        "--builds": "each process of a pair builds its engine anew, so the spread of builds is in the pairs already",
        "--like": "it compares two installations here and now; for a run of another day use --like and `trigate compare`",
    }
    for name, words in why.items():
        if given.get(name):
            raise UsageError(f"--against does not go with {name}: {words}. Leave one of the two out.")


def check_out(out: Path) -> None:
    """Raises ``UsageError`` for a folder that holds something."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty. Give another --out.")


def examine(python: Path, code: Path, environ: Mapping[str, str]) -> Installation:
    """The other installation, by a look from inside. ``code``: a folder with our packages alone.

    Raises ``UsageError`` with the command that mends it: no Python, one that is too old, this very installation, or one that
    lacks what processes of ours need.
    """
    clean = {name: value for name, value in environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    told = _ask(python, ["-c", _ASK], clean, code)
    try:
        version, prefix, executable = json.loads(told.stdout)
    except (ValueError, TypeError):
        last = (told.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UsageError(
            f"--against: {python} is no Python: {last}. Give the python of a virtual environment."
        ) from None
    if tuple(version[:2]) < _OLDEST:
        here = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise UsageError(
            f"--against: {python} is Python {'.'.join(map(str, version))}; our code needs {_OLDEST[0]}.{_OLDEST[1]} or newer. "
            f"Make an environment with the older libraries on a newer Python: python{here} -m venv OLD"
        )
    if Path(prefix).resolve() == Path(sys.prefix).resolve():
        raise UsageError(
            f"--against: {python} is the installation that this trigate runs in ({prefix}). Name the other one's python; to see "
            "what no change looks like, make a second environment with the same versions."
        )
    environ = {**clean, "PYTHONPATH": str(code)}
    found = _ask(python, ["-m", "harness.bump.against_child"], environ, code)
    try:
        facts = json.loads(found.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise UsageError(_lacking(python, found.stderr)) from None
    runtimes = {one["runtime"]: Availability(**one) for one in facts["runtimes"]}
    return Installation(str(executable or python), dict(facts["environment"]), environ, runtimes)


def _ask(
    python: Path, words: Sequence[str], environ: Mapping[str, str], code: Path
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [str(python.expanduser().absolute()), *words],  # absolute: it starts in another folder
            env=dict(environ),
            cwd=code,
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
            check=False,
        )
    except OSError as error:
        raise UsageError(
            f"--against: {python} cannot be started: {error.strerror or error}. Give the python of a virtual environment, as "
            "old/bin/python."
        ) from error
    except subprocess.TimeoutExpired:
        raise UsageError(f"--against: {python} gave no answer in {_PROBE_S:.0f} s.") from None


def _lacking(python: Path, stderr: str) -> str:
    last = (stderr.strip().splitlines() or ["it said nothing"])[-1]
    name = last.partition("No module named ")[2].strip("'\". ")
    if name:
        return f"--against: {python} lacks {name}, which processes of ours need. Install it: {python} -m pip install {name}"
    return f"--against: {python} cannot run our code: {last}"


@contextlib.contextmanager
def code_alone() -> Iterator[Path]:
    """A folder with our packages and nothing else: beside an installed trigate lie the libraries of this installation."""
    ours = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory(prefix="trigate-code-") as room:
        for part in _PARTS:
            if (ours / part).is_dir():
                (Path(room) / part).symlink_to(ours / part, target_is_directory=True)
        yield Path(room)


def run_against(
    job: Job, other: Installation, out: Path, progress: Progress, arguments: Sequence[str], *, seed: int, code: Path
) -> tuple[Run, Run, Paired]:
    """Measure both sides into ``out/base`` and ``out/new``, and their pairs into ``out/pairs``.

    ``job``: of this installation. ``other``: as ``examine`` found it, with this ``code``. Ctrl-C keeps what was measured by
    then: both runs are ``interrupted``. Raises ``UsageError`` where neither can run a row, and for an ``out`` that holds
    something.
    """
    check_out(out)
    environ = job.tier2.environ if job.tier2 is not None else {}
    mine = Installation(sys.executable, job.environment, {**environ, "PYTHONPATH": _joined(code, environ)})
    cases = rows_of(job)
    planned = planning.plan(
        replace(job.ask, unavailable={name: one.reason for name, one in other.runtimes.items() if not one.can_try})
    )
    there = {case.id: case.not_run for case in planned}
    sides = {
        "base": _Side("base", other, replace(job, cases=tuple(_as_there(case, there) for case in cases))),
        "new": _Side("new", mine, replace(job, cases=cases)),
    }
    if all(case.not_run for side in sides.values() for case in side.job.cases):
        reasons = "; ".join(dict.fromkeys(case.not_run for side in sides.values() for case in side.job.cases))
        raise UsageError(f"--against: neither installation can run any row: {reasons or 'there is none'}.")
    with _Measuring(job, sides, out, progress, seed=seed, code=code) as measuring:
        was_interrupted = measuring.all_pairs()
        runs = [measuring.finish(side, arguments, was_interrupted) for side in sides.values()]
    return runs[0], runs[1], measuring.paired


def rows_of(job: Job) -> tuple[Case, ...]:
    """The rows that two installations are held against each other in."""
    return tuple(case for case in job.cases if case.kind in _KINDS)


def compare_sides(out: Path, paired: Paired) -> Comparison:
    """The comparison of ``out/base`` and ``out/new``, in which the pairs decide on the time; ``out/compare.json``."""
    found = compare_runs(
        [load_folder(out / "base")], [load_folder(out / "new")], paired={row.case: row.judged() for row in paired.rows}
    )
    pairs = sum(len(row.orders) for row in paired.rows)
    said = (
        f"Time was measured by {pairs} interleaved pairs of fresh processes on one host, in an order that a coin decided "
        f"(seed {paired.seed}): what the host did meanwhile is on both sides of a pair. What else the two environments differ "
        "in came with the version, and cannot be told from it."
    )
    few = [row.case for row in paired.rows if row.orders and len(row.orders) < LOOKS[0]]
    short = (
        f"{', '.join(few)}: there are under {LOOKS[0]} pairs, so that its time is not decided by them." if few else ""
    )
    found = replace(
        found, caveats=(said, *filter(None, [short]), *(words for words in found.caveats if not _of_boots(words)))
    )
    write_comparison(found, out)
    return found


def _of_boots(words: str) -> bool:
    """What is said of runs apart in time, and does not hold for pairs."""
    told = ("On one board", "boot session", "By their clocks", "Two builds of one version")
    return any(one in words for one in told)


def _joined(code: Path, environ: Mapping[str, str]) -> str:
    return os.pathsep.join(filter(None, (str(code), environ.get("PYTHONPATH", ""))))


def _as_there(case: Case, there: Mapping[str, str]) -> Case:
    return replace(case, not_run=there.get(case.id, case.not_run))


class _Measuring:
    """Both sides while they are measured. Its folder of work is gone afterwards, engines and all."""

    def __init__(
        self, job: Job, sides: Mapping[str, _Side], out: Path, progress: Progress, *, seed: int, code: Path
    ) -> None:
        assert job.tier2 is not None
        assert job.tier2.job is not None
        self.sides, self.out, self.progress, self.seed, self.code = sides, out, progress, seed, code
        self.station: Station = job.tier2.station
        self.child: ChildJob = job.tier2.job
        self.broken = job.broken
        self.folders = {name: RunFolder(out / name) for name in sides}
        self.paired = Paired(sides["base"].installation.python, sides["new"].installation.python, seed, CALLS)
        self._room = tempfile.TemporaryDirectory(prefix="trigate-pairs-")
        self.room = Path(self._room.name)

    def __enter__(self) -> _Measuring:
        return self

    def __exit__(self, *_: object) -> None:
        for folder in self.folders.values():
            folder.__exit__()
        self._room.cleanup()

    # --- pairs ------------------------------------------------------------------------------------------------

    def all_pairs(self) -> bool:
        """Every latency row in turn; whether Ctrl-C ended it."""
        rows = [case for case in self.sides["new"].job.cases if case.kind == "latency"]
        base = {case.id: case for case in self.sides["base"].job.cases}
        try:
            with self.progress.rows(rows):
                for case in rows:
                    self.progress.begun(case)
                    row = self.pairs(case, {"base": base[case.id], "new": case})
                    self.progress.done(Verdict(Summary(Measurement(case)), _outcome(row), _said(row)))
        except KeyboardInterrupt:
            return True
        return False

    def pairs(self, case: Case, cases: Mapping[str, Case]) -> PairedRow:
        able = [name for name, one in cases.items() if not one.not_run and case.model not in self.broken]
        row = PairedRow(case.id)
        if len(able) < 2:
            for name in able:
                self.launch(name, case, 0)
            return self.keep(replace(row, ended="one side cannot run it" if able else "neither side can run it"))
        order: list[str] = []
        coin = random.Random(f"{self.seed}/{case.id}")  # noqa: S311 (a design, no secret)
        for pair in range(LOOKS[-1]):
            # the second of each two pairs is turned round: at every look both orders were equally often
            order = [order[1], order[0]] if pair % 2 else coin.sample(["base", "new"], 2)
            seen = {}
            for name in order:
                self.progress.said(f"pair {pair + 1}, {name}; {_so_far(row)}")
                seen[name] = self.launch(name, case, pair)
            row = self.keep(_with_pair(replace(row, orders=(*row.orders, " ".join(order))), seen["base"], seen["new"]))
            if row.ended or set(FIGURES) <= set(row.decided):
                break
        return row

    def keep(self, row: PairedRow) -> PairedRow:
        others = [one for one in self.paired.rows if one.case != row.case]
        self.paired = replace(self.paired, rows=(*others, row))
        path = self.out / "pairs" / "pairs.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(to_json(self.paired), indent=1).encode())
        return row

    def launch(self, name: str, case: Case, number: int) -> Seen | None:
        """One fresh process of one side; ``None`` where it broke, which is the row's result on that side."""
        side = self.sides[name]
        if case.id in side.broke:
            return None
        before = self.station.board_state()
        frames: list[Frame] = []
        rows = self.emptied(f"rows-{name}")
        with self.station.every(0.1, lambda: frames.append(self.station.read(0))):
            result = self.child_of(side, case, timed_calls=CALLS, warmup_calls=WARM_UP, timed_s=MOST_S, rows=str(rows))
        if result.seen is None:
            side.broke[case.id] = _error(result, f"launch {number + 1}: " if number else "")
            return None
        engine = result.seen.engines[0]
        columns = read_journal(rows / f"{case.model}.rows")
        origin_ns = int(columns["scheduled_ns"][0])
        for column in ("scheduled_ns", "woke_ns", "started_ns", "done_ns"):
            columns[column] -= origin_ns
        columns["launch"][:] = number
        log = SampleLog.from_columns([case.model], columns, launch=number)
        trace = Trace()
        for frame in frames:
            trace.add(replace(frame, at_ns=frame.at_ns - origin_ns))
        measurement = counted(engine.measurement, Order(_profile(), (Stream(case),), launch=number), log, "")
        measurement = replace(
            measurement, case=case, board_start=before, board_end=self.station.board_state(), duration_ns=result.wall_ns
        )
        seen = Seen(
            measurement,
            log,
            trace,
            first_call_ns={case.model: engine.first_call_ns},
            load_ns={case.model: engine.load_ns},
            placements={case.model: measurement.placement},
            facts={case.model: engine.facts} if engine.facts is not None else {},
        )
        side.recorded.setdefault(case.id, []).append(seen)
        return seen

    def emptied(self, name: str) -> Path:
        path = self.room / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def child_of(self, side: _Side, case: Case, **more: Any) -> ChildResult:
        """A fresh process of one side; engines and caches of an earlier one are gone, so each builds its own."""
        config = {**self.child.config, "engine_cache_dir": str(self.emptied(f"engines-{side.name}"))}
        return run_child(
            ProcessJob(replace(self.child, config=config), (case,), **more),
            timeout_s=_PATIENCE_S,
            environ=side.installation.environ,
            poll_s=None,
            command=(side.installation.python, "-m", "harness.tier2.process_child"),
            code_root=self.code,
        )

    # --- the two runs -----------------------------------------------------------------------------------------

    def finish(self, side: _Side, arguments: Sequence[str], was_interrupted: bool) -> Run:
        """The side's run folder: rows about numerics measured in processes of its own, latency rows as they were recorded."""
        job, tier2 = side.job, side.job.tier2
        assert tier2 is not None
        done = {*side.recorded, *side.broke}
        cases = [case for case in job.cases if not was_interrupted or case.id in done]
        bench = _ChildBench(job.bench.packs, job.bench.config, job.bench.build, run_case=self.numerics(side))
        bench.board_state, bench.threads, bench.seed = job.bench.board_state, job.bench.threads, job.bench.seed
        own = _Replay(
            self.station, _profile(), tier2.models, board=tier2.board, job=tier2.job, environ=tier2.environ,
            versions=tier2.versions, state_checks=tier2.state_checks, machine=tier2.machine, publish="",
            recorded=side.recorded, broke=side.broke,
        )  # fmt: skip
        told = replace(
            job,
            cases=tuple(cases),
            bench=bench,
            tier2=own,
            builder=None,
            publish="",
            environment=_environment(self.sides["new"].job.environment, side.installation.environment),
            settings={**job.settings, "against": side.name},
            said=(*job.said, f"the {side.name} side of pairs: {side.installation.python}"),
        )
        if side.name == "base":
            told = replace(told, diagnose=lambda case, folder: None)  # it would look with this installation's libraries
        folder = self.folders[side.name]
        finished = run(told, folder, _OfSide(self.progress, side.name), arguments)
        if was_interrupted:
            words = f"Interrupted after {len(cases)} of {len(job.cases)} rows. {finished.last_line}"
            finished = replace(
                finished, planned=job.cases, complete=False, interrupted=True, exit_code=130, last_line=words
            )
            folder.write_run(finished)
        return finished

    def numerics(self, side: _Side) -> Callable[[Case], Observed]:
        def observe(case: Case) -> Observed:
            outputs = self.emptied(f"outputs-{side.name}")
            result = self.child_of(side, case, outputs=str(outputs))
            if result.seen is None:
                raise _error(result)
            engine = result.seen.engines[0]
            pack = self.sides["new"].job.bench.packs[case.model]
            measurement = replace(engine.measurement, input_sha256=pack.feed_sha256)
            return Observed(measurement, _outputs(outputs / f"{case.model}.npz"), engine.facts)

        return observe


@dataclass
class _OfSide(Progress):
    """The rows of one side, called so."""

    progress: Progress
    side: str

    @contextlib.contextmanager
    def rows(self, planned: Sequence[Case]) -> Iterator[None]:
        with self.progress.rows(planned):
            yield

    def begun(self, case: Case) -> None:
        self.progress.begun(self._called(case))

    def said(self, words: str) -> None:
        self.progress.said(words)

    def done(self, verdict: Verdict) -> None:
        summary = verdict.summary
        measurement = replace(summary.measurement, case=self._called(summary.measurement.case))
        self.progress.done(replace(verdict, summary=replace(summary, measurement=measurement)))

    def _called(self, case: Case) -> Case:
        return replace(case, id=f"{self.side}: {case.id}")


@dataclass
class _ChildBench(Bench):
    """A bench whose outputs come from processes of one side."""

    run_case: Callable[[Case], Observed] | None = None

    def _run(self, case: Case) -> Observed:
        assert self.run_case is not None
        return self.run_case(case)


@dataclass
class _Replay(Tier2):
    """Latency rows of launches that were made already."""

    recorded: Mapping[str, list[Seen]] = field(default_factory=dict)
    broke: Mapping[str, RuntimeCoreError] = field(default_factory=dict)

    def _launches(self, case: Case, order: Order, folder: RunFolder, profile: Profile | None = None) -> list[Seen]:
        del order, profile
        if case.id in self.broke:
            raise self.broke[case.id]
        with folder.explained():
            (folder.path / "samples").mkdir(parents=True, exist_ok=True)
        launches = self.recorded[case.id]
        self._facts = {**launches[0].facts}
        # an engine is built for each launch
        self._row_builds = len(launches) if case.runtime == "tensorrt" else 0
        return launches


def _profile() -> Profile:
    return PROFILES[_PROFILE]


def _environment(here: Mapping[str, str], there: Mapping[str, str]) -> dict[str, str]:
    """Of the host what this process sees, of the libraries what that installation says."""
    ours = ("os", "machine", "cpu", "cpu_count", "memory_bytes")
    return {**there, **{name: here[name] for name in ours if name in here}}


def _error(result: ChildResult, when: str = "") -> RuntimeCoreError:
    """What a child ended with as one of the core's errors."""
    if result.failure is None:
        return InferenceError(f"{when}{result.in_words()}")
    kind = getattr(runtime.errors, result.failure.kind, InferenceError)
    failure: RuntimeCoreError = kind(f"{when}{result.failure.message}", remedy=result.failure.remedy)
    return failure


def _outputs(path: Path) -> tuple[dict[str, Array], ...]:
    """What ``harness.tier2.process_child`` wrote as ``sample/output``."""
    found: dict[int, dict[str, Array]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            at, _, output = name.partition("/")
            found.setdefault(int(at), {})[output] = arrays[name]
    return tuple(found[at] for at in sorted(found))


def _with_pair(row: PairedRow, base: Seen | None, new: Seen | None) -> PairedRow:
    """The row with one more pair; where it is time to look, with what is decided."""
    if base is None or new is None:
        sides = [name for name, seen in (("base", base), ("new", new)) if seen is None]
        return replace(row, ended=f"the {' and the '.join(sides)} side broke")
    ratios = dict(row.log_ratios)
    for name, p in FIGURES.items():
        old_ns, new_ns = _quantile(base, p), _quantile(new, p)
        if old_ns is None or new_ns is None:
            return replace(row, ended=f"so many calls failed that there is no {name}")
        ratios[name] = (*ratios.get(name, ()), math.log(new_ns / old_ns))
    joules = [_energy_j(seen) for seen in (base, new)]
    if len(ratios.get(_ENERGY, ())) == len(row.orders) - 1 and joules[0] and joules[1]:
        ratios[_ENERGY] = (*ratios.get(_ENERGY, ()), math.log(joules[1] / joules[0]))
    else:
        ratios.pop(_ENERGY, None)  # pairs without it are not left out
    decided, words = dict(row.decided), dict(row.words)
    for name, values in ratios.items():
        if len(values) in LOOKS and name not in decided:
            change = judged_by(values, name)
            words[name] = f"{standing_of(change, MARGINS[name]).value}: {pairs_in_words(change, MARGINS[name])}"
            if change.outcome is not Outcome.INCONCLUSIVE:
                decided[name] = len(values)
    return replace(row, log_ratios=ratios, decided=decided, words=words)


def judged_by(log_ratios: Sequence[float], figure: str, *, alpha: float = 0.05) -> Change:
    """The change of one figure: equivalence is asked for, both ways."""
    return compare_pairs(log_ratios, margin=MARGINS[figure], alpha=alpha, both_sides=True)


def _quantile(seen: Seen, p: float) -> float | None:
    """Of the timed calls, as comparisons have it; one that failed is slower than all others."""
    columns = seen.log.columns()
    rows = columns["phase"] == Phase.MEASURE
    took = np.where(columns["status"] == Status.OK, columns["done_ns"] - columns["started_ns"], np.inf)[rows]
    if not took.size:
        return None
    value = float(np.sort(took)[max(0, math.ceil(p * took.size) - 1)])
    return value if math.isfinite(value) and value > 0 else None


def _energy_j(seen: Seen) -> float | None:
    """Of one timed call; ``None`` where no instrument tells it."""
    columns = seen.log.columns()
    rows = columns["phase"] == Phase.MEASURE
    if not rows.any() or not len(seen.trace):
        return None
    begun_ns, done_ns = int(columns["started_ns"][rows].min()), int(columns["done_ns"][rows].max())
    return find(energy(seen.trace, begun_ns, done_ns, int(rows.sum())), "energy_per_call_j").value


def _so_far(row: PairedRow) -> str:
    told = [f"{name} {100 * math.expm1(float(np.mean(values))):+.1f} %" for name, values in row.log_ratios.items()]
    return ", ".join(told) or "none before"


def _outcome(row: PairedRow) -> Outcome:
    """Of what the pairs say of the timing alone."""
    told = [words.partition(":")[0] for words in row.words.values()]
    if not row.orders or row.ended == _BASE_BROKE:  # there is nothing to hold the new side against
        return Outcome.NOT_RUN
    if Standing.WORSE.value in told or "broke" in row.ended:
        return Outcome.FAIL
    return Outcome.INCONCLUSIVE if Standing.OPEN.value in told or len(told) < len(FIGURES) else Outcome.PASS


def _said(row: PairedRow) -> str:
    told = "; ".join(f"{name} {words}" for name, words in row.words.items())
    return "; ".join(filter(None, (told, row.ended))) or "no pair was judged"
