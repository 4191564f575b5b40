"""The one way in: a run folder, read with nothing believed. Every refusal is a ``RecordError`` that names the file."""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from harness.records import SCHEMA_VERSION, Outcome, RecordError, Run, Verdict, run_from_text, texts_of
from harness.records.samples import Phase, Status

__all__ = [
    "Calls",
    "Errors",
    "calls",
    "doubts",
    "is_inside",
    "missing_files",
    "models",
    "read_errors",
    "read_run",
    "read_samples",
    "read_trace",
    "traced",
]

Vector = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Truth = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Calls:
    """Every request of a row in the order of its file, arrays of one length.

    ``begun_ns``: from the origin of its launch. ``throttled``: 1 while the board was throttled, 0 while it was not, -1 unknown.
    """

    launch: Whole
    begun_ns: Whole
    every_ms: Vector
    is_measured: Truth
    is_ok: Truth
    throttled: Whole

    @property
    def latency_ms(self) -> Vector:
        """Of every measured request that did not fail."""
        return self._chosen(self.is_measured & self.is_ok)

    @property
    def throttled_ms(self) -> Vector:
        """Of those among them that met a throttled board."""
        return self._chosen(self.is_measured & self.is_ok & (self.throttled == 1))

    @property
    def warmup(self) -> int:
        """How many were sent before the measurement began: to warm up, and to soak."""
        return int(np.count_nonzero(~self.is_measured))

    @property
    def failed(self) -> int:
        """How many of the measured failed or were dropped."""
        return int(np.count_nonzero(self.is_measured & ~self.is_ok))

    def _chosen(self, which: Truth) -> Vector:
        chosen: Vector = self.every_ms[which]
        return chosen


@dataclass(frozen=True)
class Errors:
    """Drawn elements of one output, paired: 1-D float64. ``error`` is the output minus the reference."""

    reference: Vector
    error: Vector


def read_run(folder: Path) -> Run:
    """``run.json`` of a run folder, whole or refused."""
    if not folder.is_dir():
        raise RecordError(f"{folder} is no folder. Give the folder that `trigate run --out` wrote.")
    path = folder / "run.json"
    try:
        text, journal = texts_of(folder)
        noted = "\n".join(map(_without_lone_surrogates, journal.split("\n")))
        return run_from_text(_without_lone_surrogates(text), noted)
    except FileNotFoundError:
        what = "the report of several runs" if (folder / "combined.json").exists() else "no run folder"
        raise RecordError(f"{folder} has no run.json: it is {what}. Give what `trigate run --out` wrote.") from None
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror or error}.") from error
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is damaged: {error}. Copy it again from where the run was made.") from error


_OF_CALLS = frozenset(
    ("launch", "scheduled_ns", "started_ns", "done_ns", "phase", "status", "ok", "throttled", "model")
)
"""The columns that ``calls`` and ``models`` look at: half of a file."""


def missing_files(run: Run, folder: Path) -> list[str]:
    """Files that the record names and its folder has not, by their names there."""
    named = [
        name
        for one in (verdict.summary.measurement for verdict in run.verdicts)
        for name in (one.samples_file, one.errors_file, one.trace_file, one.raw_file, one.layers_file)
    ]
    return [name for name in dict.fromkeys(named) if name and is_inside(folder, name) and not (folder / name).exists()]


def doubts(run: Run, folder: Path | None = None) -> tuple[str, ...]:
    """What a record says against itself, or does not say, in sentences: a hand or a clock was at it, or it is older.

    ``folder``: its own, where files may be missing.
    """
    found = []
    missing = missing_files(run, folder) if folder is not None else []
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        what = f"{len(missing)} file{'s' if missing[1:] else ''} that run.json names ({', '.join(missing[:3])}{more})"
        found.append(
            f"The folder lacks {what}: figures of them are as run.json tells them, and cannot be judged again. "
            "Copy the whole folder."
        )
    if run.schema < SCHEMA_VERSION:
        of = f"The run has schema {run.schema}, of an older trigate (this one writes {SCHEMA_VERSION})"
        found.append(f"{of}: what that did not record is not here.")
    begun, ended = _time(run.started_at), _time(run.finished_at)
    if begun and ended and ended < begun:
        found.append(
            f"The clock ran backward: the run began at {run.started_at} and finished at {run.finished_at}. Durations are of "
            "another clock, and stand."
        )
    fails = sum(verdict.outcome is Outcome.FAIL for verdict in run.verdicts)
    if run.exit_code is not None and run.exit_code in (0, 3) and fails:
        found.append(f"run.json has exit code {run.exit_code}, and {fails} of its rows FAIL: it was perhaps edited.")
    if run.exit_code == 1 and not fails:
        found.append("run.json has exit code 1, and none of its rows FAIL: it was perhaps edited.")
    if run.exit_code not in _EXIT_CODES:
        found.append(f"run.json has exit code {run.exit_code}, which trigate has not: it was perhaps edited.")
    counts = Counter(verdict.outcome.value for verdict in run.verdicts)
    told = {(outcome, int(count)) for outcome, count in _COUNTED.findall(run.last_line)}
    if run.exit_code is not None and told and not told >= set(counts.items()):
        of_rows = ", ".join(f"{one.value} {counts[one.value]}" for one in Outcome if counts[one.value])
        found.append(f"The last line of run.json does not count its rows ({of_rows}): it was perhaps edited.")
    odd = [verdict.case.id for verdict in run.verdicts if _is_odd(verdict)]
    if odd:
        more = f" and {len(odd) - 3} more rows" if len(odd) > 3 else ""
        found.append(f"{', '.join(odd[:3])}{more}: the verdict is not that of its checks; run.json was perhaps edited.")
    return tuple(found)


_EXIT_CODES = (None, 0, 1, 2, 3, 4, 130)
_COUNTED = re.compile(rf"\b({'|'.join(outcome.value for outcome in Outcome)}) (\d{{1,9}})\b")


def _is_odd(verdict: Verdict) -> bool:
    """A row that passes over a check that does not."""
    told = {check.outcome for check in verdict.checks}
    return verdict.outcome is Outcome.PASS and Outcome.FAIL in told


def _time(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


def read_samples(folder: Path, name: str, *, for_calls: bool = False) -> pyarrow.Table:
    """The raw samples of one row, as they are on disk: a request per line with ``started_ns``, ``done_ns`` and ``phase``.

    ``phase`` is a number beside ``status`` (``harness.records.samples``), or a word beside ``ok`` in runs of before Tier-2.
    ``for_calls``: only what ``calls`` and ``models`` look at.
    """
    forms = [{"started_ns", "done_ns", "phase", "status"}, {"started_ns", "done_ns", "phase", "ok"}]
    return _read_table(folder, name, forms, _OF_CALLS if for_calls else frozenset())


def read_trace(folder: Path, name: str) -> pyarrow.Table:
    """The telemetry beside a row's samples: ``launch``, ``at_ns``, a column per value (NaN where absent), alerts, missing."""
    return _read_table(folder, name, [{"launch", "at_ns"}])


def traced(trace: pyarrow.Table) -> dict[str, npt.NDArray[np.generic]]:
    """``launch`` and ``at_ns`` (int64) and every value (float64, NaN where absent) of a trace; what is no number is left out."""
    values = {
        name: np.asarray(trace[name].to_numpy(), np.float64)
        for name, kind in zip(trace.column_names, trace.schema.types, strict=True)
        if pyarrow.types.is_floating(kind) or pyarrow.types.is_integer(kind)
    }
    return {**values, "launch": _whole(trace, "launch"), "at_ns": _whole(trace, "at_ns")}


def calls(samples: pyarrow.Table, *, is_open: bool = False, model: str = "") -> Calls:
    """Every request among raw samples. ``is_open``: latency counts from when a request was due, else from when it began.

    ``model``: of this one alone, where the row mixes several. ``RecordError`` for a column that is not of its kind.
    """
    if model:
        samples = samples.filter(pyarrow.compute.equal(samples["model"], model))
    names = samples.column_names
    is_new = "status" in names
    begun = _whole(samples, "scheduled_ns" if is_open and "scheduled_ns" in names else "started_ns")
    return Calls(
        launch=_whole(samples, "launch") if "launch" in names else np.zeros(len(begun), np.int64),
        begun_ns=begun,
        every_ms=(_whole(samples, "done_ns") - begun) / 1e6,
        is_measured=_whole(samples, "phase") == Phase.MEASURE if is_new else _truth(samples["phase"], "measure"),
        is_ok=_whole(samples, "status") == Status.OK if is_new else _truth(samples["ok"], "True"),
        throttled=_whole(samples, "throttled") if "throttled" in names else np.full(len(begun), -1, np.int64),
    )


def models(samples: pyarrow.Table) -> list[str]:
    """The models whose requests are among the samples, that with the most first; empty where the file does not say."""
    if "model" not in samples.column_names or not pyarrow.types.is_dictionary(samples["model"].type):
        return []
    counted = samples["model"].value_counts().to_pylist()
    return [str(entry["values"]) for entry in sorted(counted, key=lambda entry: -entry["counts"])]


def _read_table(
    folder: Path, name: str, forms: Sequence[set[str]], wanted: Collection[str] = frozenset()
) -> pyarrow.Table:
    path = _inside(folder, name)
    try:
        columns = [name for name in pyarrow.parquet.read_schema(path).names if name in wanted] if wanted else None
        table = pyarrow.parquet.read_table(
            path, columns=columns, read_dictionary=["phase", "model", "alerts", "missing"]
        )
    except (OSError, pyarrow.ArrowException) as error:
        raise RecordError(f"{name} cannot be read: {_first_line(error)}") from error
    missing = min((form - set(table.column_names) for form in forms), key=len)
    if missing:
        raise RecordError(f"{name} lacks the columns {', '.join(sorted(missing))}.")
    return table


def _whole(table: pyarrow.Table, name: str) -> Whole:
    column = table[name]
    if not pyarrow.types.is_integer(column.type):
        raise RecordError(f"the column {name} is of type {column.type}; expected whole numbers.")
    if column.null_count:
        raise RecordError(f"the column {name} lacks {column.null_count:,} of {len(column):,} values.")
    return np.asarray(column.to_numpy(), np.int64)


def _truth(column: pyarrow.ChunkedArray, wanted: str) -> Truth:
    """A column of truth values, or where a column of words says this one."""
    if pyarrow.types.is_boolean(column.type) and not column.null_count:
        return np.asarray(column.to_numpy(), bool)
    return np.array([str(word) == wanted for word in column.to_pylist()], bool)


def read_errors(folder: Path, name: str) -> dict[str, Errors]:
    """The drawn errors of one row, by output."""
    path = _inside(folder, name)
    try:
        arrays = np.load(path, allow_pickle=False)
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise RecordError(f"{name} holds one array; expected an .npz of several.")
        with arrays:
            outputs = [key.removesuffix("/error") for key in arrays.files if key.endswith("/error")]
            read = {
                key: Errors(_vector(arrays[f"{key}/reference"]), _vector(arrays[f"{key}/error"])) for key in outputs
            }
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise RecordError(f"{name} cannot be read: {_first_line(error)}") from error
    unpaired = [key for key, errors in read.items() if len(errors.reference) != len(errors.error)]
    if unpaired:
        raise RecordError(f"{name}: errors and references of {', '.join(unpaired)} are not paired.")
    return read


def _without_lone_surrogates(text: str) -> str:
    """JSON can spell what no encoding can write (a model named by broken bytes); ``?`` takes its place."""
    if "\\ud" not in text.lower():
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text  # half a file: who reads it says so better
    return json.dumps(value, ensure_ascii=False).encode("utf-8", errors="replace").decode("utf-8")


def _vector(array: npt.NDArray[np.generic]) -> Vector:
    return array.reshape(-1).astype(np.float64)


def is_inside(folder: Path, name: str) -> bool:
    """Whether a file that a record names lies in its folder: a foreign run may name any path."""
    return "\0" not in name and (folder / name).resolve().is_relative_to(folder.resolve())


def _inside(folder: Path, name: str) -> Path:
    if not is_inside(folder, name):
        raise RecordError(f"{name!r} is not inside the run folder; it is not read.")
    return folder / name


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
