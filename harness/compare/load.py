"""A run folder as a comparison needs it: the record, and of the samples the figures of each launch. Never a device."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

import numpy as np

from harness.errors import UsageError
from harness.layers import Layers, read_layers
from harness.numerics.raw import RawFile, read_numerics
from harness.records import Case, Figure, Measurement, RecordError, Run, Verdict, run_from_folder
from harness.tier2.load import latencies_ns, missed
from harness.tier2.rejudge import read_samples
from harness.tier2.samples import Phase, Status
from runtime.protocol import Array

__all__ = [
    "MOST",
    "PERCENTS",
    "Entry",
    "LaunchSeen",
    "Loaded",
    "Sessions",
    "boot_of",
    "by_session",
    "load_folder",
    "summarize_launches",
]

MOST = 1e18
"""A figure over this (30 years in nanoseconds, an exabyte) is none: somebody wrote in the record."""

T = TypeVar("T")

PERCENTS = tuple(range(1, 100))
"""Of the percentile shift."""

_NEEDED = ("launch", "stream", "scheduled_ns", "started_ns", "done_ns", "phase", "status")
_EXTRA = ("throttled", "clock_mhz", "model")


@dataclass(frozen=True)
class LaunchSeen:
    """One launch of one model: figures of its measured requests, none dropped; what failed is slower than all others.

    ``p50_ns``, ``p95_ns``: of the latency; ``None`` where so many failed that it has none. ``service_*``: of the call itself.
    ``cycles_*``: service times the GPU's clock then, in millions; ``None`` where the clock is not known. ``throttled``: share.
    ``percentiles_ns``: of the latency, at ``PERCENTS``, infinite where it failed; empty where the samples are not there.
    ``build``: the engine that it ran; empty where that is not known. ``dropped``: of ``failed``, those that were never begun; 0
    where the samples are not there.
    """

    launch: int
    count: int
    failed: int
    p50_ns: float | None
    p95_ns: float | None
    service_p50_ns: float | None = None
    service_p95_ns: float | None = None
    cycles_p50: float | None = None
    cycles_p95: float | None = None
    clock_mhz: float | None = None
    throttled: float | None = None
    percentiles_ns: tuple[float, ...] = ()
    build: str = ""
    dropped: int = 0


@dataclass(frozen=True)
class Loaded:
    """One run. ``launches``: by case id, then by model. ``layers``: of the engine, by case id.
    ``drawn``: by case id and output, the drawn elements of the reference and the error there, float64 [n] each.
    ``raw``: by case id, what a row about numerics keeps of its outputs. ``notes``: what could not be read, and what the samples
    say against ``run.json``.
    """

    name: str
    run: Run
    launches: Mapping[str, Mapping[str, tuple[LaunchSeen, ...]]] = field(default_factory=dict)
    drawn: Mapping[str, Mapping[str, tuple[Array, Array]]] = field(default_factory=dict)
    layers: Mapping[str, Layers] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    raw: Mapping[str, RawFile] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One row of one run: ``verdict`` is ``None`` where the run planned it and never reached it."""

    loaded: Loaded
    case: Case
    verdict: Verdict | None

    @property
    def measurement(self) -> Measurement:
        return self.verdict.summary.measurement if self.verdict else Measurement(case=self.case)

    @property
    def figures(self) -> Sequence[Figure]:
        return self.verdict.summary.figures if self.verdict else ()

    @property
    def launches(self) -> Mapping[str, Sequence[LaunchSeen]]:
        return self.loaded.launches.get(self.case.id, {})

    @property
    def layers(self) -> Layers:
        return self.loaded.layers.get(self.case.id, Layers())


@dataclass
class _RowSeen:
    """What the files of one row hold."""

    launches: Mapping[str, tuple[LaunchSeen, ...]] = field(default_factory=dict)
    layers: Layers | None = None
    raw: RawFile | None = None
    notes: list[str] = field(default_factory=list)


def load_folder(folder: Path, say: Callable[[str], None] = lambda words: None) -> Loaded:
    """Read a run folder. Raises ``UsageError`` for what is no run, of a newer schema, or names files outside itself.

    A file of samples that is missing or damaged is noted, and the figures that ``run.json`` has of it are taken.
    ``say``: hears which folder is read, and how many rows it has.
    """
    run = _run(folder)
    say(f"reading {folder}: {len(run.verdicts)} row{'' if len(run.verdicts) == 1 else 's'}")
    seen: dict[str, _RowSeen] = {}
    drawn: dict[str, Mapping[str, tuple[Array, Array]]] = {}
    with ThreadPoolExecutor(
        thread_name_prefix="compare"
    ) as pool:  # arrays are read and sorted without the interpreter's lock
        files = {one.case.id: pool.submit(_row, folder, run, one) for one in run.verdicts if _has_files(one)}
        for one in run.verdicts:
            seen[one.case.id] = files[one.case.id].result() if one.case.id in files else _row(folder, run, one)
    notes = [note for row in seen.values() for note in row.notes]
    for verdict in run.verdicts:
        measurement, case_id = verdict.summary.measurement, verdict.case.id
        if measurement.errors_file:
            try:
                drawn[case_id] = _errors(_inside(folder, measurement.errors_file, case_id))
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                notes.append(f"{case_id}: {measurement.errors_file} cannot be read ({_line(error)})")
    return Loaded(
        folder.resolve().name,
        run,
        {case_id: row.launches for case_id, row in seen.items() if row.launches},
        drawn,
        {case_id: row.layers for case_id, row in seen.items() if row.layers},
        tuple(notes),
        {case_id: row.raw for case_id, row in seen.items() if row.raw},
    )


def _has_files(verdict: Verdict) -> bool:
    measurement = verdict.summary.measurement
    return bool(measurement.samples_file or measurement.layers_file or measurement.raw_file)


def _row(folder: Path, run: Run, verdict: Verdict) -> _RowSeen:
    measurement, case_id, seen = verdict.summary.measurement, verdict.case.id, _RowSeen()
    if measurement.samples_file:
        try:
            columns, models = _columns(_inside(folder, measurement.samples_file, case_id))
            is_open = measurement.rate_hz is not None
            seen.launches = summarize_launches(columns, models or [verdict.case.model], is_open=is_open)
            seen.notes += _contradictions(verdict, seen.launches)
        except (OSError, ValueError, OverflowError) as error:
            seen.notes.append(f"{case_id}: {measurement.samples_file} cannot be read ({_line(error)})")
    seen.launches = _with_builds(run, measurement, seen.launches or _of_record(verdict))
    if measurement.layers_file:
        try:
            _inside(folder, measurement.layers_file, case_id)
            seen.layers = read_layers(folder, measurement.layers_file)
        except RecordError as error:
            seen.notes.append(f"{case_id}: its layers cannot be read ({_line(error)})")
    if measurement.raw_file.endswith(".npz"):
        try:
            path = _inside(folder, measurement.raw_file, case_id)
            seen.raw = RawFile(path, read_numerics(path))
        except RecordError as error:
            seen.notes.append(f"{case_id}: what it keeps of its outputs cannot be read ({_line(error)})")
    return seen


def _with_builds(
    run: Run, measurement: Measurement, launches: Mapping[str, tuple[LaunchSeen, ...]]
) -> Mapping[str, tuple[LaunchSeen, ...]]:
    """The launches with the engine that each ran, as far as that is known. One engine in two boots is one engine."""
    lineage = measurement.lineage
    built = {
        (one.model, launch): one.sha256 or f"{run.id}/{one.number}"
        for one in measurement.builds
        for launch in one.launches
    }
    found = {}
    for model, seen in launches.items():
        only = "" if measurement.builds else lineage.get(f"engine[{model}]", lineage.get("engine", ""))
        found[model] = tuple(replace(one, build=built.get((model, one.launch), only)) for one in seen)
    return found


def summarize_launches(
    columns: Mapping[str, Array], models: Sequence[str], *, is_open: bool
) -> dict[str, tuple[LaunchSeen, ...]]:
    """The figures of each launch by model. ``columns``: as ``tier2.samples.COLUMNS``, with ``throttled`` and ``clock_mhz``
    where they are known, and ``model`` as an index into ``models``; [n] each.
    """
    measured = columns["phase"] == Phase.MEASURE
    rows = {name: values[measured] for name, values in columns.items()}
    of_model = rows.get("model", np.zeros(rows["launch"].size, np.int64))
    found: dict[str, tuple[LaunchSeen, ...]] = {}
    for at, model in enumerate(models):
        own = of_model == at
        seen = []
        for launch in np.unique(rows["launch"][own]):
            chosen = own & (rows["launch"] == launch)
            seen.append(_launch(int(launch), {name: values[chosen] for name, values in rows.items()}, is_open))
        if seen:
            found[model] = tuple(seen)
    return found


def _launch(number: int, rows: Mapping[str, Array], is_open: bool) -> LaunchSeen:
    lost = missed(rows)
    latencies = np.sort(np.where(lost, np.inf, latencies_ns(rows, is_open)))
    service = (rows["done_ns"] - rows["started_ns"])[~lost].astype(np.float64)
    clocks = rows["clock_mhz"][~lost] if "clock_mhz" in rows else np.full(service.size, np.nan)
    known = np.isfinite(clocks) & (clocks > 0)
    cycles = service[known] * clocks[known] * 1e-9
    is_told = 2 * np.count_nonzero(known) > service.size
    marks = rows["throttled"][rows["throttled"] >= 0] if "throttled" in rows else np.empty(0)
    return LaunchSeen(
        launch=number,
        count=int(lost.size),
        failed=int(lost.sum()),
        dropped=int((rows["status"] == Status.DROPPED).sum()),
        p50_ns=_positive(latencies[_rank(0.50, latencies.size)]),
        p95_ns=_positive(latencies[_rank(0.95, latencies.size)]),
        service_p50_ns=_quantile(service, 0.50),
        service_p95_ns=_quantile(service, 0.95),
        cycles_p50=_quantile(cycles, 0.50) if is_told else None,
        cycles_p95=_quantile(cycles, 0.95) if is_told else None,
        clock_mhz=float(clocks[known].mean()) if is_told else None,
        throttled=float(marks.mean()) if marks.size else None,
        percentiles_ns=tuple(latencies[[_rank(percent / 100, latencies.size) for percent in PERCENTS]].tolist()),
    )


def _quantile(values: Array, p: float) -> float | None:
    at = _rank(p, values.size)
    return _positive(np.partition(values, at)[at]) if values.size else None


def _rank(p: float, count: int) -> int:
    """Where the quantile stands among sorted values: the smallest that is not under a share ``p`` of them."""
    return max(0, math.ceil(p * count) - 1)


def _positive(value: float | None) -> float | None:
    """A figure that a ratio can be taken of; what is none (a record may be edited) is not known."""
    try:
        number = math.nan if value is None else float(value)
    except OverflowError:
        return None
    return number if 0 < number < MOST else None


def _of_record(verdict: Verdict) -> dict[str, tuple[LaunchSeen, ...]]:
    """What ``run.json`` itself says of the launches of a row about one model."""
    judgement = verdict.summary.judgement
    if judgement is None or verdict.case.kind != "latency":
        return {}
    return {
        verdict.case.model: tuple(
            LaunchSeen(
                one.launch,
                one.count,
                one.failed,
                p50_ns=_positive(one.p50_ns),
                p95_ns=_positive(one.p95_ns),
                throttled=_share(one.throttled, one.count),
            )
            for one in judgement.launches
        )
    }


def _share(part: int | None, count: int) -> float | None:
    return part / count if part is not None and 0 <= part <= count and count else None


def _contradictions(verdict: Verdict, launches: Mapping[str, Sequence[LaunchSeen]]) -> list[str]:
    """Where ``run.json`` says what its own samples do not: somebody wrote in one of the two."""
    figures, judgement = verdict.summary.latency, verdict.summary.judgement
    seen = launches.get(verdict.case.model, ())
    if verdict.case.kind != "latency" or not seen:
        return []
    told = [one.p95_ns for one in seen if one.p95_ns is not None]
    claimed = {one.launch: _positive(one.p95_ns) for one in judgement.launches} if judgement else {}
    found = [
        f"launch {one.launch} has p95 {claimed[one.launch] / 1e6:.4g} ms in run.json, {one.p95_ns / 1e6:.4g} ms in its samples"  # type: ignore[operator]
        for one in seen
        if one.p95_ns and claimed.get(one.launch) and abs(claimed[one.launch] / one.p95_ns - 1) > 0.02  # type: ignore[operator]
    ]
    if figures is not None and told and not 0.98 * min(told) <= figures.p95.value_ns <= 1.02 * max(told):
        found.append(
            f"p95 is {figures.p95.value_ns / 1e6:.4g} ms in run.json, and of its samples {min(told) / 1e6:.4g} to "
            f"{max(told) / 1e6:.4g} ms"
        )
    if figures is not None and figures.count != sum(one.count for one in seen):
        found.append(f"run.json counts {figures.count} requests, and its samples {sum(one.count for one in seen)}")
    return [f"{verdict.case.id}: {words}; the samples are taken, and the folder was perhaps edited" for words in found]


def _columns(path: Path) -> tuple[dict[str, Array], list[str]]:
    """What is needed of a file of samples, and the models that ``model`` counts; read by column, for files of an hour."""
    import pyarrow
    import pyarrow.parquet

    try:
        if path.suffix == ".journal":
            return read_samples(path), []
        names = pyarrow.parquet.read_schema(path).names
        if not set(_NEEDED) <= set(names):
            return read_samples(path), []  # of before Tier-2
        wanted = [name for name in (*_NEEDED, *_EXTRA) if name in names]
        table = pyarrow.parquet.read_table(path, columns=wanted, read_dictionary=["model"])
    except (pyarrow.ArrowException, UsageError) as error:
        raise ValueError(str(error)) from error
    columns = {name: _numbers(table[name]) for name in wanted if name != "model"}
    if "model" not in wanted or not table.num_rows:  # a row that broke before its first request has columns of no type
        return {name: values if values.size else np.zeros(0, np.int64) for name, values in columns.items()}, []
    if not pyarrow.types.is_dictionary(table["model"].type):
        raise ValueError("its column 'model' holds no names")
    coded = table["model"].unify_dictionaries().combine_chunks()
    columns["model"] = np.asarray(coded.indices.to_numpy(zero_copy_only=False), np.int64)
    return columns, [str(model) for model in coded.dictionary.to_pylist()]


def _numbers(column: Any) -> Array:
    values = column.to_numpy()
    return (
        np.where(np.isnan(values), -1, values).astype(np.int64) if column.null_count and _is_whole(column) else values
    )


def _is_whole(column: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_integer(column.type))


def _errors(path: Path) -> dict[str, tuple[Array, Array]]:
    with np.load(path, allow_pickle=False) as arrays:
        outputs = [name.removesuffix("/error") for name in arrays.files if name.endswith("/error")]
        found = {name: (arrays[f"{name}/reference"], arrays[f"{name}/error"]) for name in outputs}
    if any(reference.shape != error.shape or reference.ndim != 1 for reference, error in found.values()):
        raise ValueError("errors and references are not paired")
    return found


def _run(folder: Path) -> Run:
    path = folder / "run.json"
    try:
        return run_from_folder(folder)
    except (FileNotFoundError, NotADirectoryError):
        why = (
            "it has no run.json"
            if folder.is_dir()
            else "it is a file"
            if folder.exists()
            else "there is no such folder"
        )
        raise UsageError(
            f"{folder} is no run folder: {why}. Name a folder that `trigate run --out` was given."
        ) from None
    except (OSError, RecursionError, ValueError) as error:  # a RecordError is a ValueError
        remedy = "" if isinstance(error, RecordError) and "upgrade" in str(error) else " Copy the run folder again."
        raise UsageError(f"{path} cannot be read: {_line(error).rstrip('.')}.{remedy}") from error


def _inside(folder: Path, name: str, case_id: str) -> Path:
    """A file that a record names, which must lie in the folder: a run may come from anybody."""
    path = PurePosixPath(name)
    whole = folder / name
    if "\0" in name or path.is_absolute() or ".." in path.parts or not whole.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{case_id} names the file {name!r}, which is not inside the run folder {folder}.")
    return whole


def _line(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def boot_of(measurement: Measurement) -> str:
    """The boot session that a row was measured in; empty where it is not known."""
    return measurement.board_start.boot_id or ""


@dataclass(frozen=True)
class Sessions(Generic[T]):
    """By boot session what each launch gave, and the engine it ran (empty: not known), in one shape."""

    values: list[list[T]]
    builds: list[list[str]]


def by_session(told: Iterable[tuple[str, str, T]]) -> Sessions[T]:
    """``told``: (boot session, engine, what was seen) of each launch."""
    found: dict[str, list[tuple[str, T]]] = {}
    for boot, build, value in told:
        found.setdefault(boot, []).append((build, value))
    return Sessions(
        [[value for _, value in session] for session in found.values()],
        [[build for build, _ in session] for session in found.values()],
    )
