"""A stored run judged again, under other budgets, another profile or other floors, with no device.

Nothing is measured and nothing is lost: the new run folder holds copies of the samples and traces, and every row about
latency, the mix or heat is judged from them; a row about loading from its rounds, and one about memory or take-off from what
its processes took. What samples do not show (the board's
state, a suspended machine, a refused placement) is carried over from the run; so are rows of other kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np

from harness import gates
from harness import plan as planning
from harness.board import check_state
from harness.combine import requirements_of
from harness.config import Budget, Configuration, LoadLimits
from harness.errors import UsageError, did_you_mean
from harness.floors import Floor, Floors, key_of
from harness.instruments.recording import TRACE_COLUMNS, traces_from_table
from harness.instruments.trace import Trace
from harness.limits import LIMITS_FILE, Limits, limits_of, limits_text, read_limits
from harness.profiles import PROFILES, Profile
from harness.records import (
    Case,
    Check,
    Figure,
    Measurement,
    Outcome,
    RecordError,
    Run,
    Summary,
    Verdict,
    run_from_folder,
)
from harness.run_folder import RunFolder
from harness.tier2 import heat, load_row, samples
from harness.tier2.align import reads
from harness.tier2.gate import (
    FLOOR,
    KERNEL,
    MODELS,
    ORT_TARGET,
    busiest,
    indicative,
    judge_flight,
    of_others,
    on_its_board,
    over_memory,
    streams_of,
    within_deadline,
)
from harness.tier2.latency_gate import OWN_CHECKS, budget_ns_of, judge
from harness.tier2.memory import find
from harness.tier2.processes import ABOUT_PROCESSES, MemoryLooks, as_seen, is_own, judge_looks, judge_starts, read_kept
from harness.tier2.samples import COLUMNS, UNKNOWN, Phase, Status
from harness.tier2.station import Stream
from runtime.protocol import Array

__all__ = ["Again", "floors_for", "read_run", "read_samples", "read_traces", "rejudge"]

_T = TypeVar("_T")
_DECLARED = ("board: module", "board: power mode")
_OURS = (KERNEL, MODELS)
_SAMPLE_COLUMNS = frozenset((*COLUMNS, "throttled", "ok"))
_TEXTS = ("alerts", "missing", "phase")
_MOST_ROWS = 200_000_000  # a small file can unpack to any size
_WARNING = ("target", "calls")
_FILES = ("samples_file", "trace_file", "errors_file", "raw_file", "layers_file")
_SAMPLED = ("latency", "flight", "heat")
_VERSIONS = ("jetpack", "tensorrt_host", "onnxruntime-gpu", "torch")


def rejudge(
    run_folder: Path,
    configuration: Configuration,
    board_name: str,
    out: Path,
    *,
    profile: str | None = None,
    floors: Floors | None = None,
    say: Callable[[str], object] = lambda words: None,
) -> Run:
    """Judge the run in ``run_folder`` by ``configuration``'s budgets of ``board_name`` ("": none), into ``out``.

    What the run had to show it still has to, and what the configuration and the board require as well. ``profile``: a name of
    ``PROFILES``, by default each row's own. ``floors``: by default the floor that each row was judged with. ``say``: is told
    how far it is. A run that was killed is judged as far as it got, from its journals. Raises ``UsageError`` for what is no
    run or of another schema, samples that are missing or damaged, a model, board or profile that is not known, and an
    ``out`` that holds something.
    """
    run = read_run(run_folder)
    if board_name and board_name not in configuration.boards:
        raise UsageError(
            f"the configuration has no board {board_name!r}. {did_you_mean(board_name, configuration.boards)}"
        )
    if profile is not None and profile not in PROFILES:
        raise UsageError(f"there is no profile {profile!r}. {did_you_mean(profile, PROFILES)}")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"--out: {out} exists already. Name a new folder, so that no run is lost.")
    kept = read_limits(run_folder)
    was = kept.require if kept is not None else requirements_of(run)
    require = _required(run, kept, was, configuration, board_name)
    again = Again(run_folder, run, configuration, board_name, profile=profile, floors=floors, require=require)
    if not again.rows:
        raise UsageError(
            f"{run_folder} has no latency row with samples, nor one of the mix, heat, loading, memory or take-off: "
            "there is nothing to judge again."
        )
    files = sorted(again.files())
    rows = _told(again.verdicts, "rows judged again", say)
    verdicts = tuple(again.settle(verdict) for verdict in rows)  # before anything is written
    settled = {verdict.case.id: verdict.case for verdict in verdicts}
    more = [word for word in require if word not in was]
    with RunFolder(out) as folder:
        for name in _told(files, "files copied", say):
            folder.write(name, (run_folder / name).read_bytes())
        judged = replace(
            run,
            complete=run.complete,
            exit_code=gates.exit_code(verdicts, require),
            last_line=gates.last_line(verdicts, require),
            settings={**run.settings, "board": board_name, **({"profile": profile} if profile else {})},
            configuration_sha256=configuration.sha256,
            planned=tuple(settled.get(case.id) or again.asked(case) for case in run.planned),
            verdicts=verdicts,
            notes=(
                *run.notes,
                f"judged again from run {run.id} under board {board_name or 'none'}"
                + (f" and profile {profile}" if profile else "")
                + f": {again.in_words()}",
                *([f"required now as well: {', '.join(more)}"] if more else []),
            ),
        )
        limits = limits_of(configuration, configuration.models, board_name, require)
        folder.write(LIMITS_FILE, limits_text(limits))
        folder.write_run(judged)
    return judged


def _told(things: Sequence[_T], done: str, say: Callable[[str], object]) -> Iterator[_T]:
    for number, thing in enumerate(things):
        say(f"{number} of {len(things)} {done}")
        yield thing


def _required(
    run: Run, kept: Limits | None, was: Sequence[str], configuration: Configuration, board_name: str
) -> tuple[str, ...]:
    """What the run had to show, and what limits that are not its own ask for: none is dropped by judging again."""
    if kept is not None and (configuration.sha256, board_name) == (kept.configuration_sha256, kept.board):
        return tuple(was)
    board = None if run.settings.get("simulated") else configuration.boards.get(board_name)
    return planning.requirements(was, board, False, configuration.require)


def floors_for(run: Run, history: Path) -> Floors:
    """The floors that ``trigate run --history`` keeps in a folder for rows like the run's. Raises ``UsageError``."""
    folder = history.expanduser() / ("floors-simulated" if run.settings.get("simulated") else "floors")
    if not folder.is_dir():
        raise UsageError(f"--history: no floors are kept in {history}: it has no folder {folder.name}.")
    floors = Floors(folder)
    floors.check()
    return floors


class Again:
    """A stored run and other limits.

    ``verdicts``: of the run, and of rows that were begun when it was killed. ``rows``: which can be judged again.
    ``require``: what is asked for now.
    """

    def __init__(
        self,
        path: Path,
        run: Run,
        configuration: Configuration,
        board_name: str,
        *,
        profile: str | None,
        floors: Floors | None,
        require: Sequence[str] = (),
    ) -> None:
        self.path, self.run, self.configuration = path, run, configuration
        self.board_name, self.profile, self.floors, self.require = board_name, profile, floors, require
        settled = {verdict.case.id for verdict in run.verdicts}
        begun = [case for case in run.planned if case.kind == "latency" and case.id not in settled]
        self.verdicts = (*run.verdicts, *(one for case in begun if (one := self._killed(case)) is not None))
        self.rows = {verdict.case.id for verdict in self.verdicts if _can_be_judged(verdict)}
        self.versions = {name: run.environment[name] for name in _VERSIONS if name in run.environment}
        self.idle_w = next(
            (find(one.summary.figures, "idle_power_w").value for one in run.verdicts if one.case.kind == "harness"),
            None,
        )
        for verdict in self.verdicts:
            is_of_one = verdict.case.id in self.rows and verdict.case.kind not in ABOUT_PROCESSES
            models = {verdict.case.model} if is_of_one else set()
            if models and verdict.case.kind in ("flight", "heat"):
                models = {stream.model for stream in verdict.summary.measurement.streams}
            for model in sorted(models - set(configuration.models)):
                raise UsageError(
                    f"the run measured model {model!r}, which the configuration does not have. "
                    f"{did_you_mean(model, configuration.models)}"
                )

    def files(self) -> set[str]:
        """All that the rows name, relative to the run folder. Raises ``UsageError`` for one that is missing."""
        names = set()
        for verdict in self.verdicts:
            measurement = verdict.summary.measurement
            own = [getattr(measurement, name) for name in _FILES]
            names |= {_inside(self.path, name, verdict.case.id) for name in own if name}
        return names

    def in_words(self) -> str:
        """What was judged again, and what of Tier-2 was not."""
        kept = [one.case.id for one in self.verdicts if one.case.tier == 2 and one.case.id not in self.rows]
        others = f" ({', '.join(kept)} of tier 2)" if kept else ""
        return (
            "rows of latency, the mix and heat from their samples, of loading from their rounds, of memory and take-off from "
            "what their processes took; "
            f"all others as they were, under the budgets of then{others}"
        )

    def asked(self, case: Case, measurement: Measurement | None = None) -> Case:
        """The row with what is required of it now; what was required of it stays so."""
        if case.required or case.simulated:
            return case
        alone = {one.case.model for one in self.verdicts if one.case.tier == 2 and one.case.runtime == case.runtime}
        streams = measurement.streams if measurement is not None else ()
        about = {stream.model for stream in streams} or ({case.model} & set(self.configuration.models)) or alone
        models = [model for name, model in self.configuration.models.items() if name in about]
        profile = self.profile or (measurement and measurement.profile) or self.run.settings.get("profile", "")
        board = self.configuration.boards.get(self.board_name)
        return replace(case, required=planning.is_required(case, self.require, board, profile, models))

    def settle(self, verdict: Verdict) -> Verdict:
        """The verdict of now; what cannot be judged again is as it was, and may be required by now."""
        measurement = verdict.summary.measurement
        measurement = replace(measurement, case=self.asked(verdict.case, measurement))
        verdict = replace(verdict, summary=replace(verdict.summary, measurement=measurement))
        if verdict.case.id not in self.rows:
            return verdict
        judge_again = {
            "latency": self._latency,
            "flight": self._flight,
            "heat": self._heat,
            "load": self._load,
            "memory": self._processes,
            "takeoff": self._processes,
        }
        judged = judge_again[verdict.case.kind](verdict)
        if verdict.case.kind != "load":
            judged = over_memory(_with_kept_figures(judged, verdict), self.configuration.boards.get(self.board_name))
        if lacking := next((check.reason for check in verdict.checks if check.name == MODELS), ""):
            judged = of_others(judged, lacking)
        return judged

    def _latency(self, verdict: Verdict) -> Verdict:
        measurement, profile = self._measurement(verdict)
        model = self.configuration.models[verdict.case.model]
        streams = (Stream(measurement.case, measurement.rate_hz or 0.0, deadline_ns=measurement.deadline_ns),)
        judged = judge(
            measurement,
            read_samples(self.path / measurement.samples_file),
            self._traces(measurement),
            budget=self._budget(model.budget),
            profile=profile,
            floor=self._floor(verdict),
            state_checks=self._outer_checks(verdict, OWN_CHECKS),
            target_p95_ns=self._target_ns(verdict.case),
            streams=streams,
            idle_w=self.idle_w,
            on_board=bool(self.board_name),
        )
        return replace(judged, remedy=verdict.remedy)

    def _flight(self, verdict: Verdict) -> Verdict:
        measurement, profile = self._measurement(verdict)
        streams = self._streams(measurement)
        names = [stream.case.model for stream in streams]
        own = {check.name for check in verdict.checks if check.name.partition(": ")[0] in names}
        judged, _ = judge_flight(
            measurement,
            read_samples(self.path / measurement.samples_file),
            self._traces(measurement),
            streams,
            limits=[self._limit(stream) for stream in streams],
            floors=[self._floor_of(verdict, at) for at in range(len(streams))],
            profile=profile,
            state_checks=self._outer_checks(verdict, own),
            stream_checks=[_outer_of(verdict, name) for name in names],
            idle_w=self.idle_w,
            on_board=bool(self.board_name),
        )
        return replace(judged, remedy=verdict.remedy)

    def _heat(self, verdict: Verdict) -> Verdict:
        measurement, profile = self._measurement(verdict)
        streams = self._streams(measurement)
        at = busiest(streams)
        floor = self._floor_of(verdict, at) if self.floors is not None else self._floor(verdict)
        outer = self._outer_checks(verdict, heat.OWN_CHECKS)
        soak = [check for check in verdict.checks if check.name == "soak"][-1:]
        traces = self._traces(measurement)
        if measurement.incomplete and not traces:
            return replace(verdict, summary=replace(verdict.summary, measurement=measurement))
        judged = heat.judge_heat(
            measurement,
            read_samples(self.path / measurement.samples_file),
            next(iter(traces.values()), Trace()),
            budget_ns=budget_ns_of(self._limit(streams[at])),
            profile=replace(
                profile, least_s=profile.sustained_s, most_s=profile.sustained_s, launches=1, precision=0.0
            ),
            is_open=streams[at].rate_hz > 0,
            state_checks=outer,
            soak={"is_steady": soak[0].outcome is Outcome.PASS, "words": soak[0].reason} if soak else None,
            floor=floor.effect if floor is not None else None,
            stream=at,
        )
        return _refused(judged if profile.decides else indicative(judged), outer)

    def _load(self, verdict: Verdict) -> Verdict:
        measurement, _ = self._measurement(verdict)
        rounds = load_row.rounds_of(verdict.summary.figures)
        board = self.configuration.boards.get(self.board_name)
        judged = load_row.judge_load(
            measurement,
            rounds,
            budget=self._budget(self.configuration.models[verdict.case.model].budget),
            limits=board.load if board is not None else LoadLimits(),
        )
        outer = self._outer_checks(verdict, {check.name for check in verdict.checks if load_row.is_own(check.name)})
        fails_anyway = any(check.name == "processes" for check in judged.checks)
        return _refused(on_its_board(judged, outer, fails_anyway=fails_anyway), outer)

    def _processes(self, verdict: Verdict) -> Verdict:
        """A row about memory or take-off, from what its processes took."""
        measurement, _ = self._measurement(verdict)
        kept = read_kept(self.path / _inside(self.path, measurement.raw_file, verdict.case.id), verdict.case)
        board = self.configuration.boards.get(self.board_name)
        if isinstance(kept, MemoryLooks):
            judged = judge_looks(measurement, kept, board=board)
        else:
            models = self.configuration.models.items()
            budgets = {name: budget for name, model in models if (budget := self._budget(model.budget)) is not None}
            judged = judge_starts(as_seen(measurement, kept), kept, board=board, budgets=budgets, tolerances={})
        own = {check.name for check in verdict.checks if is_own(verdict.case.kind, check.name)}
        return on_its_board(judged, self._outer_checks(verdict, own), fails_anyway=True)

    def _measurement(self, verdict: Verdict) -> tuple[Measurement, Profile]:
        """What was measured, without the warnings of its first judgement, and the profile to judge it by."""
        measurement = verdict.summary.measurement
        profile = self._profile(measurement)
        warned = {check.reason for check in verdict.checks if check.name in _WARNING}
        kept = tuple(words for words in measurement.warnings if words not in warned)
        return replace(measurement, profile=profile.name, warnings=kept), profile

    def _target_ns(self, case: Case) -> int | None:
        """ONNX Runtime's by TensorRT's own p95 in this run (OR-07), as when it was measured."""
        if case.runtime != "onnx_trt_ep":
            return None
        of_tensorrt = (
            one.summary.latency.p95.value_ns
            for one in self.verdicts
            if one.case.kind == "latency" and one.case.runtime == "tensorrt" and one.summary.latency is not None
            if (one.case.model, one.case.precision) == (case.model, case.precision)
        )
        theirs = next(of_tensorrt, None)
        return None if theirs is None else round(ORT_TARGET * theirs)

    def _traces(self, measurement: Measurement) -> dict[int, Trace]:
        wanted = None if measurement.case.kind == "heat" else reads  # heat takes the warmest of all zones
        return read_traces(self.path / measurement.trace_file, wanted) if measurement.trace_file else {}

    def _streams(self, measurement: Measurement) -> tuple[Stream, ...]:
        """As they flew, each with the deadline of the configuration: a limit, as budgets are."""
        streams = []
        for stream in streams_of(measurement.case, measurement.streams):
            rule = self.configuration.models[stream.case.model].load
            deadline_ns = stream.deadline_ns
            if rule is not None:
                deadline_ns = None if rule.deadline_ms is None else round(rule.deadline_ms * 1e6)
            streams.append(replace(stream, deadline_ns=deadline_ns))
        return tuple(streams)

    def _limit(self, stream: Stream) -> Budget | None:
        return within_deadline(stream, self._budget(self.configuration.models[stream.case.model].budget))

    def _budget(self, budgets: Mapping[str, Budget]) -> Budget | None:
        return budgets.get(self.board_name) if self.board_name else None

    def _profile(self, measurement: Measurement) -> Profile:
        name = self.profile or measurement.profile or self.run.settings.get("profile", "")
        if name not in PROFILES:
            raise UsageError(
                f"{measurement.case.id} was measured by profile {name!r}, which this trigate does not have. "
                f"Name one with --profile. {did_you_mean(name, PROFILES)}"
            )
        return PROFILES[name]

    def _floor(self, verdict: Verdict) -> Floor | None:
        if self.floors is not None:
            return self.floors.get(key_of(verdict, versions=self.versions))
        judgement = verdict.summary.judgement
        if judgement is None or judgement.floor is None:
            return None
        return Floor(judgement.floor, 0, judgement.floor_source)

    def _floor_of(self, verdict: Verdict, at: int) -> Floor | None:
        """Of one stream of the mix; what the row was judged with lies among its figures."""
        measurement = verdict.summary.measurement
        stream = measurement.streams[at]
        if self.floors is not None:
            own = replace(
                measurement,
                case=streams_of(measurement.case, measurement.streams)[at].case,
                placement=stream.placement or measurement.placement,
                rate_hz=stream.rate_hz or None,
            )
            alone = replace(verdict, summary=replace(verdict.summary, measurement=own))
            return self.floors.get(key_of(alone, versions=self.versions))
        known = find(verdict.summary.figures, f"{FLOOR}[{stream.model}]")
        return None if known.value is None else Floor(known.value, 0, known.source)

    def _outer_checks(self, verdict: Verdict, own: Collection[str]) -> list[Check]:
        """Those of who measured, not ``own``; whether the board is the one that budgets are asked of is found anew."""
        measurement = verdict.summary.measurement
        declared = self.configuration.boards.get(self.board_name)
        anew = check_state(declared, measurement.board_start, measurement.board_end)
        kept = [check for check in verdict.checks if check.name not in {*own, *_DECLARED, *_OURS}]
        outer = [*kept, *(check for check in anew if check.name in _DECLARED)]
        order = [check.name for check in verdict.checks]  # of several open ones the first is the row's reason
        return sorted(outer, key=lambda check: order.index(check.name) if check.name in order else len(order))

    def _killed(self, case: Case) -> Verdict | None:
        """A row whose verdict was never written; its rate is the configuration's."""
        name = f"samples/{case.id}.journal"
        if not (self.path / name).is_file():
            return None
        model = self.configuration.models.get(case.model)
        rate = model.load.rate_hz if model is not None and model.load is not None else None
        measurement = Measurement(
            case=case,
            samples_file=name,
            profile=self.run.settings.get("profile", ""),
            rate_hz=rate,
            simulated=bool(case.simulated),
            incomplete="the run was killed while this row was measured",
            notes=("what ran is not known: it is read back when a row ends",),
        )
        return Verdict(Summary(measurement), Outcome.INCONCLUSIVE, measurement.incomplete)


def read_samples(path: Path) -> dict[str, Array]:
    """The columns of a run folder's samples, int64 [n] each, whichever form they have; a ``.journal`` too.

    ``harness.tier2.samples.COLUMNS``, and ``throttled`` (1, 0, or -1 for unknown) where the file has it. Of the first form
    (``phase`` in words, ``ok``) what is missing is made up for: one launch, one stream, no split. Raises ``UsageError``.
    """
    if path.suffix == ".journal":
        try:
            return samples.read_journal(path)
        except (OSError, ValueError) as error:
            raise UsageError(f"the journal {path} cannot be read: {error}.") from error
    table = _read_table(path, "samples", _SAMPLE_COLUMNS.__contains__)
    try:
        count = len(table["scheduled_ns"])
        if "ok" in table:
            table = _from_first_form(table, count)
        columns = {name: np.asarray(table[name], np.int64) for name in COLUMNS}
        if "throttled" in table:
            columns["throttled"] = np.asarray(table["throttled"], np.int64)
    except KeyError as error:
        raise UsageError(
            f"the samples {path} have no column {error}; expected {', '.join(COLUMNS)}. Is it a file of a run folder?"
        ) from error
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError(f"the samples {path} are damaged: {error}.") from error
    return columns


def _from_first_form(table: dict[str, Any], count: int) -> dict[str, Any]:
    phases = {"warmup": Phase.WARMUP, "soak": Phase.SOAK, "measure": Phase.MEASURE}
    return {
        **{name: np.zeros(count, np.int64) for name in ("launch", "stream")},
        **{name: np.full(count, UNKNOWN, np.int64) for name in ("h2d_ns", "compute_ns", "d2h_ns", "wait_ns")},
        **{name: table[name] for name in ("scheduled_ns", "started_ns", "done_ns")},
        "woke_ns": table.get("woke_ns", table["started_ns"]),
        "phase": [phases[phase] for phase in table["phase"]],
        "status": [Status.OK if ok else Status.FAILED for ok in table["ok"]],
    }


def read_traces(path: Path, wanted: Callable[[str], bool] | None = None) -> dict[int, Trace]:
    """What the instruments said, by launch; of the values those that are ``wanted`` by name. Raises ``UsageError``."""
    table = _read_table(path, "trace", wanted and (lambda name: name in TRACE_COLUMNS or wanted(name)))
    try:
        return traces_from_table(table)
    except KeyError as error:
        raise UsageError(f"the trace {path} has no column {error}; is it a file of a run folder?") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"the trace {path} is damaged: {error}.") from error


def _read_table(path: Path, what: str, wanted: Callable[[str], bool] | None) -> dict[str, Any]:
    """Its columns, those that are ``wanted`` by name (``None``: all)."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.OSFile(str(path)) as source:
            metadata = pyarrow.parquet.read_metadata(source)
            if metadata.num_rows > _MOST_ROWS:
                raise UsageError(f"the {what} {path} says that it has {metadata.num_rows} rows; a run has fewer.")
            own = metadata.schema.names
            texts = [name for name in _TEXTS if name in own]
            file = pyarrow.parquet.ParquetFile(source, metadata=metadata, read_dictionary=texts)
            # rows are read side by side: threads within a file would wait for each other
            table = file.read(columns=[name for name in own if wanted is None or wanted(name)], use_threads=False)
    except (OSError, pyarrow.ArrowException) as error:
        words = " ".join(str(error).split()).rstrip(".")
        raise UsageError(f"the {what} {path} cannot be read: {words}. Copy the whole run folder again.") from error
    return {name: _values(table.column(at)) for at, name in enumerate(table.column_names)}


def _values(column: Any) -> Any:
    """A column of a table as an array; text as objects, each distinct one once; what may be null, and is no truth, a list."""
    import pyarrow

    kind = column.type
    if pyarrow.types.is_boolean(kind):
        return column.cast(pyarrow.int8()).fill_null(UNKNOWN).to_numpy()
    if column.null_count:
        return column.to_pylist()
    if pyarrow.types.is_dictionary(kind):
        coded = column.unify_dictionaries().combine_chunks()
        texts = np.asarray(coded.dictionary.to_pylist(), object)
        return np.broadcast_to(texts, len(column)) if texts.size == 1 else texts[coded.indices.to_numpy()]
    return column.chunk(0).to_numpy(zero_copy_only=False) if column.num_chunks == 1 else column.to_numpy()


def read_run(folder: Path) -> Run:
    path = folder / "run.json"
    try:
        return run_from_folder(folder)
    except FileNotFoundError as error:
        raise UsageError(
            f"{folder} is no run folder: it has no run.json. Name a folder that --out was given."
        ) from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
    except RecordError as error:
        raise UsageError(f"{path} cannot be read: {error}") from error


def _can_be_judged(verdict: Verdict) -> bool:
    """A run of an earlier trigate does not tell which streams flew in the mix: such a row stays as it was."""
    kind, measurement = verdict.case.kind, verdict.summary.measurement
    if kind in ABOUT_PROCESSES:
        return measurement.raw_file.endswith(".json")
    if kind == "load":
        return bool(load_row.rounds_of(verdict.summary.figures))
    return kind in _SAMPLED and bool(measurement.samples_file) and (kind == "latency" or bool(measurement.streams))


def _outer_of(verdict: Verdict, model: str) -> list[Check]:
    """Of one stream of the mix, what its samples do not show."""
    own = (
        replace(check, name=check.name.removeprefix(f"{model}: "))
        for check in verdict.checks
        if check.name.startswith(f"{model}: ")
    )
    return [check for check in own if check.name not in OWN_CHECKS]


def _refused(verdict: Verdict, outer: Collection[Check]) -> Verdict:
    """A placement that was refused stays so."""
    failed = next((check for check in outer if check.outcome is Outcome.FAIL), None)
    return verdict if failed is None else replace(verdict, outcome=Outcome.FAIL, reason=failed.reason)


def _with_kept_figures(judged: Verdict, before: Verdict) -> Verdict:
    """With what samples do not tell: the soak, memory at the end, and the engine."""
    known = {figure.name for figure in judged.summary.figures}
    kept = [one for one in before.summary.figures if one.name not in known and _is_kept(one)]
    return replace(judged, summary=replace(judged.summary, figures=(*judged.summary.figures, *kept)))


def _is_kept(figure: Figure) -> bool:
    return figure.unit == "bytes" or figure.name.startswith(("soak_", "build_ns"))


def _inside(folder: Path, name: str, case_id: str) -> str:
    """A name out of a run.json, which may be anybody's."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(f"{case_id} names the file {name!r}, which is not inside the run folder {folder}.")
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{case_id} names the file {name!r}, a link that leads out of the run folder {folder}.")
    if not (folder / name).is_file():
        raise UsageError(f"{folder / name}, which {case_id} names, is missing. Copy the whole run folder.")
    return name
