"""Evidence that other tools measured, as the history keeps it: MEASURED and never judged, with the tool and what it timed.

Formats, read from the tools' own sources: `trtexec --exportTimes` (TensorRT samples/common/sampleReporting.cpp, function
``exportJSONTrace``; older ones have ``endToEndMs``, and ``inMs`` and ``outMs`` for the copies), pytest-benchmark (``as_dict`` of
its ``Metadata``: ``stats.data`` in s), nvbench (nvbench/json_printer.cu: ``benchmarks[].states[].summaries[]`` by ``tag``, and
its ``--jsonbin`` sidecar of float32 little-endian, in s).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UsageError, did_you_mean
from harness.history.entry import Entry, Followed, RowEntry, printable, to_seconds
from harness.history.runs import History
from harness.records import Outcome
from harness.records.history import Added
from runtime.files import write_atomic
from runtime.protocol import Array

__all__ = ["FORMATS", "Labels", "import_file", "read_foreign", "sniff"]

IMPORTS = "imports"
"""The folder in the history folder in which imported files are kept whole, by their content."""

_MOST_BYTES = 512 << 20
_QUANTILES = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))


@dataclass(frozen=True)
class Labels:
    """What a foreign file does not say of itself. ``model``, ``at``: asked for where the file does not say it either.

    ``at``: when it was measured, ISO 8601.
    """

    model: str = ""
    runtime: str = ""
    precision: str = ""
    board: str = ""
    at: str = ""


@dataclass(frozen=True)
class _Measured:
    """One row of a foreign file. ``setting``: what else the tool varied."""

    name: str
    boundary: str
    figures: tuple[Followed, ...]
    setting: str = ""
    machine: str = ""


@dataclass(frozen=True)
class _Foreign:
    """All of a file. ``at``, ``machine``: where the file says them. ``sidecars``: files that it names."""

    rows: tuple[_Measured, ...]
    at: str = ""
    machine: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    sidecars: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def import_file(path: Path, history: Path, labels: Labels, *, now: float, form: str = "") -> Added:
    """Take a file of another tool into the history, and keep a copy of it. ``form``: of ``FORMATS``; by default what it is found
    to be. Raises ``UsageError`` for a file that is none of these, labels that are lacking, and one imported otherwise before.
    """
    entry, files = read_foreign(path, labels, form=form)
    with History(history, writable=True) as index:
        added = index.put(entry, now=now)
    kept = history.expanduser() / IMPORTS / entry.id
    try:
        for file in files:
            copy = kept / file.resolve().relative_to(path.resolve().parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(copy, file.read_bytes())
    except OSError as error:
        raise UsageError(
            f"{kept} cannot keep a copy of {path}: {error.strerror or error}. Its figures are kept."
        ) from error
    return added


def read_foreign(path: Path, labels: Labels, *, form: str = "") -> tuple[Entry, tuple[Path, ...]]:
    """A foreign file as an entry, and the files that it is made of. Raises ``UsageError``."""
    data = _read(path)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {_line(error)}. Export it again.") from error
    form = form or sniff(value)
    if form not in FORMATS:
        told = f"{form!r} is no format" if form else f"{path} is of no format that is known"
        raise UsageError(f"{told}; name one with --as. {did_you_mean(form, FORMATS)}")
    try:
        foreign = FORMATS[form](value, path)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise UsageError(f"{path} is no file of {form} that can be read: {_line(error)}.") from error
    if not foreign.rows:
        raise UsageError(f"{path} holds nothing that was measured: {'; '.join(foreign.notes) or 'it is empty'}.")
    at = labels.at or foreign.at
    if to_seconds(at) is None:
        raise UsageError(
            f"--at is {at!r}; expected a time, as 2026-03-04T10:00:00+00:00: when this was measured"
            + ("." if at else f", which {path} does not say.")
        )
    if form == "trtexec" and not labels.model:
        raise UsageError(f"--model: name what was measured; {path} does not say it.")
    digest = hashlib.sha256(data).hexdigest()
    machine = labels.board or foreign.machine or "unknown machine"
    words = json.dumps([digest, labels.__dict__, form], sort_keys=True)
    return Entry(
        id=f"import-{form}-{digest[:16]}",
        digest=hashlib.sha256(words.encode()).hexdigest(),
        path="",
        source=form,
        started_at=printable(at),
        finished_at="",
        complete=True,
        exit_code=None,
        last_line=printable(
            f"{len(foreign.rows)} rows that {form} measured; no verdict. {' '.join(foreign.notes)}".strip()
        ),
        profile="",
        simulated="",
        machine=printable(machine),
        pack_sha256="",
        schema=0,
        trigate_version="",
        counts={Outcome.MEASURED.value: len(foreign.rows)},
        facts={printable(name): printable(word) for name, word in {"file": path.name, **foreign.facts}.items() if word},
        rows=tuple(_row(one, form, labels, machine) for one in _apart(foreign.rows)),
    ), (path, *foreign.sidecars)


def sniff(value: Any) -> str:
    """Which tool wrote this; empty if none that is known."""
    if isinstance(value, list) and value and isinstance(value[0], dict) and {"computeMs", "latencyMs"} & set(value[0]):
        return "trtexec"
    benchmarks = value.get("benchmarks") if isinstance(value, dict) else None
    if not isinstance(benchmarks, list):
        return ""
    if "machine_info" in value or any(isinstance(one, dict) and "stats" in one for one in benchmarks):
        return "pytest-benchmark"
    return (
        "nvbench" if "devices" in value or any(isinstance(one, dict) and "states" in one for one in benchmarks) else ""
    )


def _row(one: _Measured, form: str, labels: Labels, machine: str) -> RowEntry:
    model, runtime = labels.model or one.name, labels.runtime or "unknown"
    parts = [model, runtime, labels.precision, one.name if one.name != model else "", one.setting, form]
    return RowEntry(
        row=printable("-".join(filter(None, parts))),
        kind="latency",
        model=printable(model),
        runtime=printable(runtime),
        precision=printable(labels.precision),
        machine=printable(labels.board or one.machine or machine),
        setting=printable(one.setting),
        boundary=printable(one.boundary),
        simulated="",
        outcome=Outcome.MEASURED.value,
        figures=one.figures,
    )


def _apart(rows: Sequence[_Measured]) -> list[_Measured]:
    """Rows of one name are numbered: a file may hold a benchmark twice."""
    seen: dict[tuple[str, str, str], int] = {}
    told = []
    for one in rows:
        key = (one.name, one.setting, one.machine)
        seen[key] = seen.get(key, 0) + 1
        told.append(
            one
            if seen[key] == 1
            else _Measured(f"{one.name} ({seen[key]})", one.boundary, one.figures, one.setting, one.machine)
        )
    return told


# --- trtexec --------------------------------------------------------------------------------------------

_GPU_EVENTS = (
    "GPU events around copies in, compute and copies out, summed (trtexec latencyMs): no host work, no waiting"
)


def _trtexec(value: Any, _: Path) -> _Foreign:
    queries = _list(value, "the file")
    if not queries:
        return _Foreign(())
    first = queries[0]
    names = {
        "compute": "computeMs",
        "h2d": "inMs" if "inMs" in first else "h2dMs",
        "d2h": "outMs" if "outMs" in first else "d2hMs",
    }
    figures = list(_quantiles(_column(queries, "latencyMs") * 1e6))
    for name, key in names.items():
        figures.append(Followed(f"{name}_p50_ns", "ns", _quantile(_column(queries, key) * 1e6, 0.50)))
    if all("startEnqMs" in one and "endEnqMs" in one for one in queries):
        enqueued = _column(queries, "endEnqMs", signed=True) - _column(queries, "startEnqMs", signed=True)
        figures.append(Followed("enqueue_p50_ns", "ns", _quantile(enqueued * 1e6, 0.50)))
    notes = ("This is the older form: its warm-up is among the queries.",) if "endToEndMs" in first else ()
    return _Foreign((_Measured("", _GPU_EVENTS, tuple(figures)),), notes=notes)


# --- pytest-benchmark --------------------------------------------------------------------------------------------

_ROUNDS = "host clock around a round of calls, over the number of calls in it (pytest-benchmark)"


def _pytest_benchmark(value: Any, _: Path) -> _Foreign:
    info = value.get("machine_info") or {}
    cpu = info.get("cpu") or {}
    rows, thin = [], 0
    for bench in _list(value["benchmarks"], "benchmarks"):
        stats = bench["stats"]
        data = stats.get("data")
        if data:
            figures = _quantiles(_numbers(data, f"stats.data of {bench['name']}") * 1e9)
        else:  # saved without --benchmark-save-data
            thin += 1
            figures = (
                Followed("p50_ns", "ns", 1e9 * _number(stats["median"], "median")),
                Followed("mean_ns", "ns", 1e9 * _number(stats["mean"], "mean")),
                Followed("min_ns", "ns", 1e9 * _number(stats["min"], "min")),
                Followed("max_ns", "ns", 1e9 * _number(stats["max"], "max")),
                Followed("count", "count", _number(stats["rounds"], "rounds")),
            )
        whole = str(bench.get("fullname") or "")  # tests of one name in two files are two
        rows.append(_Measured(str(bench["name"]), _ROUNDS, figures, whole.partition("::")[0] if "::" in whole else ""))
    notes = (f"{thin} of {len(rows)} were saved without their data: their p95 is not known.",) if thin else ()
    facts = {
        "python": str(info.get("python_version") or ""),
        "pytest-benchmark": str(value.get("version") or ""),
        "commit": str((value.get("commit_info") or {}).get("id") or ""),
    }
    machine = str(cpu.get("brand_raw") or cpu.get("brand") or info.get("processor") or info.get("node") or "")
    return _Foreign(tuple(rows), str(value.get("datetime") or ""), machine, facts, notes=notes)


# --- nvbench --------------------------------------------------------------------------------------------

_TIMED = (
    ("nv/cold/time/gpu", "CUDA events around one isolated call, its L2 cache cold (nvbench)"),
    ("nv/cpu_only/time/cpu", "host clock around one call (nvbench, CPU only)"),
    ("nv/cold/time/cpu", "host clock around one isolated call (nvbench)"),
    ("nv/batch/time/gpu", "CUDA events around a batch of calls, over their number (nvbench)"),
)
"""The first that a state has is the row's; a cold call's samples may be in a sidecar."""

_SAMPLES = "nv/json/bin:"


def _nvbench(value: Any, path: Path) -> _Foreign:
    devices = {one["id"]: str(one["name"]) for one in _list(value.get("devices") or [], "devices")}
    version = ((value.get("meta") or {}).get("version") or {}).get("nvbench") or {}
    rows, sidecars, notes, skipped = [], list[Path](), list[str](), 0
    for bench in _list(value["benchmarks"], "benchmarks"):
        for state in _list(bench.get("states") or [], "states"):
            if state.get("is_skipped"):
                skipped += 1
                continue
            if not isinstance(state.get("summaries") or [], list):
                raise TypeError("its summaries have no tags: it was written before nvbench's JSON had a version")
            told = {one["tag"]: _values(one) for one in state.get("summaries") or []}
            timed = next((each for each in _TIMED if f"{each[0]}/mean" in told), None)
            if timed is None:
                notes.append(f"{bench['name']} {state.get('name', '')} has no time.")
                continue
            samples = _sidecar(told, path) if timed[0].startswith("nv/cold/") else None
            if samples is not None:
                sidecars.append(samples[0])
            figures = _quantiles(samples[1] * 1e9) if samples is not None else _summarized(told, timed[0])
            axes = [
                f"{axis['name']}={axis.get('value', axis.get('input_string', ''))}"
                for axis in state.get("axis_values") or []
            ]
            rows.append(
                _Measured(str(bench["name"]), timed[1], figures, " ".join(axes), devices.get(state.get("device"), ""))
            )
    if skipped:
        notes.append(f"{skipped} states were skipped by nvbench.")
    facts = {"nvbench": str(version.get("string") or ""), "commit": str(version.get("git_sha") or "")}
    return _Foreign(tuple(rows), facts=facts, sidecars=tuple(dict.fromkeys(sidecars)), notes=tuple(notes))


def _values(summary: Mapping[str, Any]) -> dict[str, str]:
    return {one["name"]: str(one["value"]) for one in summary.get("data") or []}


def _summarized(told: Mapping[str, Mapping[str, str]], tag: str) -> tuple[Followed, ...]:
    figures = []
    for name, key in (("p50", "median"), ("mean", "mean"), ("min", "min"), ("max", "max")):
        if (entry := told.get(f"{tag}/{key}")) is not None:
            figures.append(Followed(f"{name}_ns", "ns", 1e9 * _number(entry["value"], f"{tag}/{key}")))
    size = told.get(tag.partition("/time/")[0] + "/sample_size")
    if size is not None:
        figures.append(Followed("count", "count", _number(size["value"], "sample_size")))
    return tuple(figures)


def _sidecar(told: Mapping[str, Mapping[str, str]], path: Path) -> tuple[Path, Array] | None:
    """The samples beside the JSON: float32 little-endian, in s; ``None`` where there are none, or they are no longer there.

    Only beside the file or below it: a file from elsewhere may name any path.
    """
    entry = next(
        (values for tag, values in told.items() if tag.startswith(_SAMPLES) and tag.endswith("sample_times")), None
    )
    if entry is None:
        return None
    name = Path(entry["filename"])
    folder = path.resolve().parent
    places = [folder / name, folder.parent / name, folder / name.parent.name / name.name]
    inside = [place for place in places if place.resolve().is_relative_to(folder) and place.is_file()]
    if not inside:
        return None
    data = _read(inside[0])
    if len(data) % 4 or len(data) // 4 != int(entry["size"]):
        raise ValueError(f"its samples {inside[0].name} hold {len(data)} bytes; expected {entry['size']} numbers of 4")
    return inside[0], _numbers(np.frombuffer(data, "<f4").astype(np.float64), inside[0].name)


FORMATS: Mapping[str, Callable[[Any, Path], _Foreign]] = {
    "trtexec": _trtexec,
    "pytest-benchmark": _pytest_benchmark,
    "nvbench": _nvbench,
}
"""By the name of the tool."""


# --- of all --------------------------------------------------------------------------------------------


def _quantiles(samples_ns: Array) -> tuple[Followed, ...]:
    return (
        *(Followed(f"{name}_ns", "ns", _quantile(samples_ns, p)) for name, p in _QUANTILES),
        Followed("mean_ns", "ns", float(samples_ns.mean())),
        Followed("min_ns", "ns", float(samples_ns.min())),
        Followed("max_ns", "ns", float(samples_ns.max())),
        Followed("count", "count", float(samples_ns.size)),
    )


def _quantile(samples: Array, p: float) -> float:
    """The smallest sample with a share of at least ``p`` at or under it, as our own rows have it."""
    return float(np.sort(samples)[max(0, math.ceil(p * samples.size) - 1)])


def _column(queries: Sequence[Mapping[str, Any]], key: str, *, signed: bool = False) -> Array:
    return _numbers([one[key] for one in queries], key, signed=signed)


def _numbers(values: Sequence[Any] | Array, what: str, *, signed: bool = False) -> Array:
    array = np.asarray(values)
    if (
        array.ndim != 1
        or array.dtype.kind not in "iuf"
        or not np.isfinite(array).all()
        or (not signed and (array < 0).any())
    ):
        raise ValueError(f"{what} is no list of times of 0 or more")
    return array.astype(np.float64)


def _number(value: Any, what: str) -> float:
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{what} is {value!r}; expected a number of 0 or more")
    return number


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{what} is {type(value).__name__}; expected a list")
    if not all(isinstance(one, dict) for one in value):
        raise TypeError(f"{what} holds what is no object")
    return value


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{path} has {path.stat().st_size >> 20} MiB; at most {_MOST_BYTES >> 20} are read.")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error


def _line(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"it lacks {error.args[0]!r}"
    if isinstance(error, AttributeError):
        return "a value in it is of another kind than the tool writes"
    return str(error).partition("\n")[0] or type(error).__name__
