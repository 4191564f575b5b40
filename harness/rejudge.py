"""A stored run judged again, under other budgets, another profile or other floors, with no device.

Nothing is measured and nothing is lost: the new run folder holds copies of the samples and traces, and every latency row
is judged from them. What samples do not show (the board's state, a suspended machine, a refused placement) is carried
over from the run; so are rows of other kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from harness import gates, samples
from harness.board import check_state
from harness.config import Budget, Configuration
from harness.errors import UsageError, did_you_mean
from harness.floors import Floor, Floors, key_of
from harness.latency_gate import OWN_CHECKS, judge
from harness.profiles import PROFILES, Profile
from harness.recording import traces_from_table
from harness.records import Case, Check, Measurement, Outcome, RecordError, Run, Summary, Verdict, run_from_text
from harness.run_folder import RunFolder
from harness.samples import COLUMNS, UNKNOWN, Phase, Status
from harness.station import Stream
from harness.trace import Trace
from runtime.protocol import Array

__all__ = ["read_run", "read_samples", "read_traces", "rejudge"]

_DECLARED = ("board: module", "board: power mode")


def rejudge(
    run_folder: Path,
    configuration: Configuration,
    board_name: str,
    out: Path,
    *,
    profile: str | None = None,
    floors: Floors | None = None,
) -> Run:
    """Judge the run in ``run_folder`` by ``configuration``'s budgets of ``board_name`` ("": none), into ``out``.

    ``profile``: a name of ``PROFILES``, by default each row's own. ``floors``: by default the floor that each row was
    judged with. A run that was killed is judged as far as it got, from its journals. Raises ``UsageError`` for what is
    no run or of another schema, samples that are missing or damaged, a model, board or profile that is not known, and an
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
    again = _Again(run_folder, run, configuration, board_name, profile=profile, floors=floors)
    if not again.rows:
        raise UsageError(f"{run_folder} has no latency row with samples: there is nothing to judge again.")
    files = sorted(again.files())
    verdicts = tuple(again.settle(verdict) for verdict in again.verdicts)  # before anything is written
    with RunFolder(out) as folder:
        for name in files:
            folder.write(name, (run_folder / name).read_bytes())
        require = [word for word in run.settings.get("require", "").replace(",", " ").split() if word]
        judged = replace(
            run,
            complete=run.complete,
            exit_code=gates.exit_code(verdicts, require),
            last_line=gates.last_line(verdicts, require),
            settings={**run.settings, "board": board_name, **({"profile": profile} if profile else {})},
            configuration_sha256=configuration.sha256,
            verdicts=verdicts,
            notes=(
                *run.notes,
                f"judged again from run {run.id} under board {board_name or 'none'}"
                + (f" and profile {profile}" if profile else "")
                + ": latency rows from their samples, all others as they were",
            ),
        )
        folder.write_run(judged)
    return judged


class _Again:
    """``verdicts``: of the run, and of rows that were begun when it was killed. ``rows``: which have samples."""

    def __init__(
        self,
        path: Path,
        run: Run,
        configuration: Configuration,
        board_name: str,
        *,
        profile: str | None,
        floors: Floors | None,
    ) -> None:
        self.path, self.run, self.configuration = path, run, configuration
        self.board_name, self.profile, self.floors = board_name, profile, floors
        settled = {verdict.case.id for verdict in run.verdicts}
        begun = [case for case in run.planned if case.kind == "latency" and case.id not in settled]
        self.verdicts = (*run.verdicts, *(one for case in begun if (one := self._killed(case)) is not None))
        self.rows = {verdict.case.id for verdict in self.verdicts if _has_samples(verdict)}
        for verdict in self.verdicts:
            if verdict.case.id in self.rows and verdict.case.model not in configuration.models:
                model = verdict.case.model
                raise UsageError(
                    f"the run measured model {model!r}, which the configuration does not have. "
                    f"{did_you_mean(model, configuration.models)}"
                )

    def files(self) -> set[str]:
        """All that the rows name, relative to the run folder. Raises ``UsageError`` for one that is missing."""
        names = set()
        for verdict in self.verdicts:
            measurement = verdict.summary.measurement
            own = [measurement.samples_file, measurement.trace_file, measurement.errors_file]
            names |= {_inside(self.path, name, verdict.case.id) for name in own if name}
        return names

    def settle(self, verdict: Verdict) -> Verdict:
        if verdict.case.id not in self.rows:
            return verdict
        measurement = verdict.summary.measurement
        columns = read_samples(self.path / measurement.samples_file)
        traces = read_traces(self.path / measurement.trace_file) if measurement.trace_file else {}
        model = self.configuration.models[verdict.case.model]
        profile = self._profile(measurement)
        streams = (Stream(measurement.case, measurement.rate_hz or 0.0, deadline_ns=measurement.deadline_ns),)
        judged = judge(
            replace(measurement, profile=profile.name),
            columns,
            traces,
            budget=self._budget(model.budget),
            profile=profile,
            floor=self._floor(verdict),
            state_checks=self._outer_checks(verdict),
            streams=streams,
        )
        return replace(judged, remedy=verdict.remedy)

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
            return self.floors.get(key_of(verdict))
        judgement = verdict.summary.judgement
        if judgement is None or judgement.floor is None:
            return None
        return Floor(judgement.floor, 0, judgement.floor_source)

    def _outer_checks(self, verdict: Verdict) -> list[Check]:
        """Those of who measured; whether the board is the one that budgets are asked of is found anew."""
        measurement = verdict.summary.measurement
        declared = self.configuration.boards.get(self.board_name)
        anew = check_state(declared, measurement.board_start, measurement.board_end)
        kept = [check for check in verdict.checks if check.name not in OWN_CHECKS and check.name not in _DECLARED]
        return [*kept, *(check for check in anew if check.name in _DECLARED)]

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

    ``harness.samples.COLUMNS``, and ``throttled`` (1, 0, or -1 for unknown) where the file has it. Of the first form
    (``phase`` in words, ``ok``) what is missing is made up for: one launch, one stream, no split. Raises ``UsageError``.
    """
    if path.suffix == ".journal":
        try:
            return samples.read_journal(path)
        except (OSError, ValueError) as error:
            raise UsageError(f"the journal {path} cannot be read: {error}.") from error
    table = _read_table(path, "samples")
    try:
        count = len(table["scheduled_ns"])
        if "ok" in table:
            table = _from_first_form(table, count)
        columns = {name: np.asarray(table[name], np.int64) for name in COLUMNS}
        if "throttled" in table:
            marks = [UNKNOWN if mark is None else int(mark) for mark in table["throttled"]]
            columns["throttled"] = np.asarray(marks, np.int64)
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


def read_traces(path: Path) -> dict[int, Trace]:
    """What the instruments said, by launch. Raises ``UsageError``."""
    table = _read_table(path, "trace")
    try:
        return traces_from_table(table)
    except KeyError as error:
        raise UsageError(f"the trace {path} has no column {error}; is it a file of a run folder?") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"the trace {path} is damaged: {error}.") from error


def _read_table(path: Path, what: str) -> dict[str, Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        words = " ".join(str(error).split()).rstrip(".")
        raise UsageError(f"the {what} {path} cannot be read: {words}. Copy the whole run folder again.") from error
    # a column of text or with nulls is a list; a million numbers stay an array
    return {
        name: (
            column.to_pylist()
            if column.null_count or pyarrow.types.is_string(column.type)
            else column.to_numpy(zero_copy_only=False)
        )
        for name, column in zip(table.column_names, (table.column(at) for at in range(table.num_columns)), strict=True)
    }


def read_run(folder: Path) -> Run:
    path = folder / "run.json"
    try:
        return run_from_text(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(
            f"{folder} is no run folder: it has no run.json. Name a folder that --out was given."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
    except RecordError as error:
        raise UsageError(f"{path} cannot be judged: {error}") from error


def _has_samples(verdict: Verdict) -> bool:
    return verdict.case.kind == "latency" and bool(verdict.summary.measurement.samples_file)


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
