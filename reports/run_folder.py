"""The one way in: a run folder, read with nothing believed. Every refusal is a ``RecordError`` that names the file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from harness.records import RecordError, Run, run_from_text

__all__ = ["Calls", "Errors", "calls", "models", "read_errors", "read_run", "read_samples", "read_trace"]

Vector = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Truth = npt.NDArray[np.bool_]

_MEASURE, _OK = 2, 0
"""As ``harness.samples`` counts phases and statuses: these two are judged, and all are stored."""


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
        return run_from_text(_without_lone_surrogates(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise RecordError(
            f"{folder} has no run.json: it is no run folder. Give what `trigate run --out` wrote."
        ) from None
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror or error}.") from error
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is damaged: {error}. Copy it again from where the run was made.") from error


def read_samples(folder: Path, name: str) -> pyarrow.Table:
    """The raw samples of one row, as they are on disk: a request per line with ``started_ns``, ``done_ns`` and ``phase``.

    ``phase`` is a number beside ``status`` (``harness.samples``), or a word beside ``ok`` in runs of before Tier-2.
    """
    return _read_table(
        folder, name, [{"started_ns", "done_ns", "phase", "status"}, {"started_ns", "done_ns", "phase", "ok"}]
    )


def read_trace(folder: Path, name: str) -> pyarrow.Table:
    """The telemetry beside a row's samples: ``launch``, ``at_ns``, a column per value (NaN where absent), alerts, missing."""
    return _read_table(folder, name, [{"launch", "at_ns"}])


def calls(samples: pyarrow.Table, *, is_open: bool = False, model: str = "") -> Calls:
    """Every request among raw samples. ``is_open``: latency counts from when a request was due, else from when it began.

    ``model``: of this one alone, where the row mixes several.
    """
    if model:
        samples = samples.filter(pyarrow.compute.equal(samples["model"], model))
    names = samples.column_names
    is_new = "status" in names
    begun = _whole(samples, "scheduled_ns" if is_open and "scheduled_ns" in names else "started_ns")
    measured = pyarrow.compute.equal(samples["phase"], _MEASURE if is_new else "measure")
    ok = pyarrow.compute.equal(samples["status"], _OK) if is_new else samples["ok"]
    return Calls(
        launch=_whole(samples, "launch") if "launch" in names else np.zeros(len(begun), np.int64),
        begun_ns=begun,
        every_ms=(_whole(samples, "done_ns") - begun) / 1e6,
        is_measured=np.asarray(measured.to_numpy(), bool),
        is_ok=np.asarray(ok.to_numpy(), bool),
        throttled=_whole(samples, "throttled") if "throttled" in names else np.full(len(begun), -1, np.int64),
    )


def models(samples: pyarrow.Table) -> list[str]:
    """The models whose requests are among the samples, that with the most first; empty where the file does not say."""
    if "model" not in samples.column_names:
        return []
    counted = samples["model"].value_counts().to_pylist()
    return [str(entry["values"]) for entry in sorted(counted, key=lambda entry: -entry["counts"])]


def _read_table(folder: Path, name: str, forms: Sequence[set[str]]) -> pyarrow.Table:
    path = _inside(folder, name)
    try:
        table = pyarrow.parquet.read_table(path, read_dictionary=["phase", "model", "alerts", "missing"])
    except (OSError, pyarrow.ArrowException) as error:
        raise RecordError(f"{name} cannot be read: {_first_line(error)}") from error
    missing = min((form - set(table.column_names) for form in forms), key=len)
    if missing:
        raise RecordError(f"{name} lacks the columns {', '.join(sorted(missing))}.")
    return table


def _whole(table: pyarrow.Table, name: str) -> Whole:
    return np.asarray(table[name].to_numpy(), np.int64)


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


def _inside(folder: Path, name: str) -> Path:
    """A file that the record names, which must lie in the folder: a foreign run may name any path."""
    path = folder / name
    if "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
        raise RecordError(f"{name!r} is not inside the run folder; it is not read.")
    return path


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
