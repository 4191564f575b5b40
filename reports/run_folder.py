"""The one way in: a run folder, read with nothing believed. Every refusal is a ``RecordError`` that names the file."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from harness.records import RecordError, Run, run_from_text

__all__ = ["Calls", "Errors", "calls", "read_errors", "read_run", "read_samples"]

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calls:
    """The calls of a latency row. ``latency_ms``: done minus started of every measured call that did not fail."""

    latency_ms: Vector
    warmup: int
    failed: int


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
    """The raw samples of one row: call, scheduled_ns, woke_ns, started_ns, done_ns, phase, ok."""
    path = _inside(folder, name)
    try:
        table = pyarrow.parquet.read_table(path, read_dictionary=["phase"])
    except (OSError, pyarrow.ArrowException) as error:
        raise RecordError(f"{name} cannot be read: {_first_line(error)}") from error
    missing = {"started_ns", "done_ns", "phase", "ok"} - set(table.column_names)
    if missing:
        raise RecordError(f"{name} lacks the columns {', '.join(sorted(missing))}.")
    return table


def calls(samples: pyarrow.Table) -> Calls:
    """The latencies among raw samples; what is left out is counted."""
    measured = samples.filter(pyarrow.compute.equal(samples["phase"], "measure"))
    good = measured.filter(measured["ok"])
    latency_ns = pyarrow.compute.subtract(good["done_ns"], good["started_ns"]).to_numpy()
    return Calls(latency_ns.astype(np.float64) / 1e6, len(samples) - len(measured), len(measured) - len(good))


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
