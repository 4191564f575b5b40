"""The one record that grows: Case -> Measurement -> Summary -> Verdict, and the run that holds the verdicts.

Frozen, JSON in and out (``to_json`` / ``from_json``), one schema number. A missing figure is ``None`` with a reason in
``notes``, never a zero. Times are integer nanoseconds; a name ends in its unit. Raw samples stay in files of the run
folder, named here by a path relative to it.

Run-folder layout (RE-01), written by ``harness.run_folder``, read by ``reports``:

    run.json              Run.to_json(), always whole: written again (atomically) as rows are settled
    run.journal           what came after that, a JSON line each; only a run whose process was ended leaves one
    limits.json           by which budgets, rates and boards it was judged (harness.limits)
    samples/<case id>.parquet   one line per request: the columns of harness.tier2.samples, and throttled, clock_mhz
    samples/<case id>.journal   the same while it is measured; only an interrupted row leaves one
    traces/<case id>.parquet    what the instruments said meanwhile: launch, at_ns, a column per value, alerts
    outputs/<case id>.npz       sampled errors per output, for the plots (harness.numerics.parity.error_samples)
    raw/<case id>.npz           of a row about numerics: what every sample's outputs differed by, from which its verdict is
                                computed again, and outputs as they came, as far as there is room (harness.numerics.raw)
    raw/<case id>.json          of a row about memory or take-off: what its processes took (harness.tier2.processes)
    layers/<case id>.json       the layers of the engine that ran, with the precision each really got
    engines/                    with --publish: engines, sidecars and manifests that rows ran
    failures/<case id>/         what T1-02 found: failure.json, inputs.npz
    logs/run.log          JSON lines
    report.html report.md junit.xml tables/*.csv
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

__all__ = [
    "ABOUT_A_FLIGHT",
    "ABOUT_RUNTIMES",
    "INTERRUPTED",
    "JOURNAL",
    "SCHEMA_VERSION",
    "BoardState",
    "Case",
    "Check",
    "Divergence",
    "EngineBuilt",
    "Figure",
    "FlownStream",
    "Judgement",
    "LatencyFigures",
    "LaunchFigures",
    "LayerFinding",
    "Measurement",
    "Outcome",
    "ParityFigures",
    "Quantile",
    "RecordError",
    "Run",
    "Summary",
    "Tolerance",
    "Verdict",
    "from_json",
    "run_from_folder",
    "run_from_text",
    "texts_of",
    "to_json",
]

SCHEMA_VERSION = 2
"""Of ``run.json``. 1: first form. 2: rows carry their lineage, their layers, and what a parity verdict was computed from."""

ABOUT_RUNTIMES = ("conformance", "faults")
"""The kinds of rows that are about a runtime and no user's model; their checks are clauses (``Check.means``)."""


ABOUT_A_FLIGHT = ("flight", "memory", "takeoff", "heat", "harness")
"""The kinds of Tier-2 rows that are about all models of a runtime together; ``Case.model`` is the kind."""


INTERRUPTED = "interrupted"
"""How ``Measurement.incomplete`` begins after Ctrl-C: the row is kept, and the run ends."""


JOURNAL = "run.journal"
"""Beside ``run.json``: each line names its run (``run``) and holds a verdict (``row``) or a last line (``last_line``)."""


class RecordError(ValueError):
    """A record on disk is not one of ours, or is newer than this version reads."""


class Outcome(str, Enum):
    """The verdicts of RE-04."""

    PASS = "PASS"  # noqa: S105 (a verdict, no password)
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    MEASURED = "MEASURED"
    NOT_RUN = "NOT RUN"


@dataclass(frozen=True)
class Case:
    """One row to be: a model on a runtime. ``id`` is the pytest id, the row's label and its file name.

    ``kind``: ``artifact`` (a model's file), ``semantic`` (fp32 artifacts against each other), ``parity`` (a runtime
    against the reference), ``pair`` (two runtimes, for information), ``latency``, ``load`` (in fresh
    processes), or one of ``ABOUT_A_FLIGHT``. ``runtime``: a label, or
    ``package.module:Class``. ``lane``: ``fp32``, ``fp16`` or ``int8`` (which tolerance applies). ``against``: the second runtime
    of a pair. ``not_run``: why this row cannot run on this host; empty if it can. ``route``: how precision was asked to be told
    to TensorRT, ``flags`` or ``strongly-typed`` (``BuildConfig.typing``); empty: as the library does by itself.
    """

    id: str
    tier: int
    kind: str
    model: str
    runtime: str
    precision: str
    lane: str
    size: str
    batch: int = 1
    against: str = ""
    point: Mapping[str, int] = field(default_factory=dict)
    required: bool = False
    covers: tuple[str, ...] = ()
    not_run: str = ""
    simulated: str = ""
    route: str = ""


@dataclass(frozen=True)
class BoardState:
    """What the machine was when the row began or ended (T2-04). ``None`` and absent keys: not known; ``notes`` says why.

    ``caps``: what the power mode allows: ``gpu_mhz``, ``emc_mhz``, ``cpu_mhz``, ``online_cpus``. Two modes of one name
    are the same only if these are. ``is_pinned``: the GPU's lowest clock is its highest (``jetson_clocks``).
    ``temperatures_c``: by zone. ``gpu_processes``: other processes on the GPU, ``"PID NAME"``; ``None``: not known.
    ``boot_id``: of the kernel; launches of one boot are one session. ``source``: which instruments answered.
    """

    cpu_temp_c: float | None = None
    gpu_temp_c: float | None = None
    clock_mhz: float | None = None
    throttled: bool | None = None
    load_1min: float | None = None
    power_mode: str | None = None
    power_mode_id: int | None = None
    module: str | None = None
    caps: Mapping[str, float] = field(default_factory=dict)
    is_pinned: bool | None = None
    governor: str | None = None
    fan_rpm: float | None = None
    fan_pwm: float | None = None
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    gpu_load_percent: float | None = None
    gpu_processes: tuple[str, ...] | None = None
    oc_events: int | None = None
    available_bytes: int | None = None
    uptime_s: float | None = None
    boot_id: str | None = None
    source: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FlownStream:
    """One model of a row about the mix, as it flew (``harness.tier2.station.Stream``); ``placement``: in the first launch."""

    model: str
    precision: str
    lane: str
    placement: str = ""
    rate_hz: float = 0.0
    burst: int = 1
    deadline_ns: int | None = None
    late: str = "queue"


@dataclass(frozen=True)
class EngineBuilt:
    """One of the engines that were built for a row by ``--builds``, without what an earlier build measured of its kernels.

    ``number``: from 0. ``launches``: which launches of the row ran on it. ``sha256``, ``size_bytes``, ``build_ns``: of its
    file, empty or ``None`` where there is none or it is not known. ``route``: as ``Measurement.lineage`` has it.
    """

    number: int
    model: str
    launches: tuple[int, ...] = ()
    sha256: str = ""
    size_bytes: int | None = None
    build_ns: int | None = None
    route: str = ""


@dataclass(frozen=True)
class Measurement:
    """What was observed, with nothing judged. The only stage that touched a device.

    ``placement``: where the row really ran, ``onnx_trt_ep[cpu]``. ``lane_name``: for people, ``torch · fp32``.
    ``precision_ran``: read back from the run. ``simulated``: came from a fake; satisfies no requirement.
    ``witness``: whether the row is an independent witness of numerics, with the reason in ``notes`` where not.
    ``input_sha256``: digest of the bytes at the runtime's door, per sample. ``model_sha256``: of the artifact that ran.
    ``samples_file`` / ``errors_file`` / ``trace_file``: relative to the run folder, empty where there is none.
    ``profile``, ``rate_hz`` (``None``: closed loop), ``deadline_ns``, ``launches``: how a latency row was measured.
    ``incomplete``: why it ended before it was done; what was measured by then is kept. ``streams``: of a row about the mix,
    in the order that the samples count them in. ``raw_file``, ``layers_file``: relative as well. ``lineage``: what the row
    descends from, sha256 by name: ``model`` (as packed), ``inputs``, ``calibration``, ``engine`` (the file that ran),
    ``sidecar``, ``reference`` and ``golden`` (files of the pack that outputs were judged against); and in words ``route``,
    ``builder``. What is not known is not there. ``builds``: the engines that launches ran on in turn, where each was built
    several times.
    """

    case: Case
    placement: str = ""
    lane_name: str = ""
    provider: str = ""
    precision_ran: str = ""
    nodes_by_provider: Mapping[str, int] = field(default_factory=dict)
    nodes_by_precision: Mapping[str, int] = field(default_factory=dict)
    simulated: bool = False
    witness: bool = True
    model_sha256: str = ""
    input_sha256: tuple[str, ...] = ()
    load_ns: int | None = None
    first_call_ns: int | None = None
    timing_boundary: str = ""
    sample_count: int = 0
    failed_count: int = 0
    samples_file: str = ""
    errors_file: str = ""
    trace_file: str = ""
    raw_file: str = ""
    layers_file: str = ""
    lineage: Mapping[str, str] = field(default_factory=dict)
    builds: tuple[EngineBuilt, ...] = ()
    profile: str = ""
    rate_hz: float | None = None
    deadline_ns: int | None = None
    launches: int = 0
    streams: tuple[FlownStream, ...] = ()
    incomplete: str = ""
    threads: Mapping[str, int] = field(default_factory=dict)
    board_start: BoardState = field(default_factory=BoardState)
    board_end: BoardState = field(default_factory=BoardState)
    seed: int = 0
    started_at: str = ""
    duration_ns: int = 0
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Quantile:
    """A quantile with its distribution-free interval (order statistics). ``None`` bounds: too few samples to say."""

    p: float
    value_ns: int
    low_ns: int | None
    high_ns: int | None
    confidence: float


@dataclass(frozen=True)
class LatencyFigures:
    """Of all samples of one row, none dropped."""

    count: int
    failed: int
    p50: Quantile
    p95: Quantile
    p99: Quantile
    mean_ns: float
    min_ns: int
    max_ns: int
    calls_per_s: float


@dataclass(frozen=True)
class Tolerance:
    """What an output may differ by, and why (methods B3). ``rel_l2_max``: every sample; ``rel_l2_median``: the median.

    ``source``: ``derived``, ``stated`` or ``ignore``. ``amplification``: kappa, fp32 error over 2^-24.
    """

    output: str
    source: str
    rel_l2_max: float | None
    rel_l2_median: float | None
    amplification: float | None = None
    why: str = ""


@dataclass(frozen=True)
class ParityFigures:
    """One output of one row against the reference, over all samples. ``None`` where undefined (a zero reference).

    ``rel_l2_*``: ‖y-r‖/‖r‖ per sample. ``max_abs_at``: ``sample[index]`` of the largest error. ``nan``: elements that
    are NaN in either; ``inf``: elements whose Inf does not match the reference's.
    """

    output: str
    shape: tuple[int, ...]
    dtype: str
    samples: int
    rel_l2_max: float | None
    rel_l2_median: float | None
    max_abs: float | None
    max_abs_at: str
    max_rel: float | None
    cosine_min: float | None
    sqnr_db: float | None
    nan: int
    inf: int
    tolerance: Tolerance | None = None


@dataclass(frozen=True)
class Figure:
    """One figure with its unit and where it comes from. ``name``: as ``gpu_peak_bytes``, ``mean_power_w``.

    ``unit``: ``bytes``, ``ns``, ``W``, ``J``, ``°C``, ``MHz``, ``Hz``, ``%``, ``ratio``, ``count``, ``s``.
    ``source``: the instrument, in words ("the driver's free memory"). ``low``, ``high``: its 95 % interval, where it has
    one. ``why``: where ``value`` is ``None``.
    """

    name: str
    value: float | None
    unit: str
    source: str = ""
    low: float | None = None
    high: float | None = None
    why: str = ""


@dataclass(frozen=True)
class LaunchFigures:
    """One launch of a latency row. ``exceedances``: requests over the budget, failed or dropped, of ``count``.

    ``throttled``: of these samples, how many were taken while the board was throttled. ``reason``: of its own verdict.
    """

    launch: int
    count: int
    failed: int
    p50_ns: int | None
    p95_ns: int | None
    exceedances: int | None
    throttled: int | None
    effect: float
    log_pass: float | None
    log_fail: float | None
    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class Judgement:
    """How a latency row was judged: the rule, what decided, and what it cannot see (T2-03).

    ``bound_ns``: the true p95 is under it with confidence 1 - ``alpha``. ``effect``: the design effect, floored by
    ``floor`` (with ``floor_source``). ``needed``: about how many more samples would decide. ``cause``: of a FAIL.
    """

    rule: str
    budget_ns: int | None
    alpha: float
    floor: float | None
    floor_source: str
    effect: float
    bound_ns: int | None
    drift: float | None
    needed: int | None
    blind_spot: str
    launches: tuple[LaunchFigures, ...] = ()
    cause: str = ""


@dataclass(frozen=True)
class Summary:
    """Pure figures of a measurement."""

    measurement: Measurement
    parity: tuple[ParityFigures, ...] = ()
    latency: LatencyFigures | None = None
    figures: tuple[Figure, ...] = ()
    judgement: Judgement | None = None
    task: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One question that was asked of the row, and its answer in words, with the figures that decided.

    ``means``: what it means to who uses the runtime when the answer is FAIL; empty where the reason says it.
    """

    name: str
    outcome: Outcome
    reason: str
    means: str = ""


@dataclass(frozen=True)
class LayerFinding:
    """A layer at which two artifacts, or a runtime and the reference, part."""

    layer: str
    operator: str
    module: str
    output: str
    local_error: float | None
    accumulated_error: float | None
    noise: float | None
    words: str


@dataclass(frozen=True)
class Divergence:
    """T1-02: where it starts, how small it can be made, how to see it again."""

    first: LayerFinding | None
    suspects: tuple[LayerFinding, ...] = ()
    smallest_input: str = ""
    smallest_input_file: str = ""
    reproduce: str = ""
    keep_fp32: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The end of the line for one row. ``reason`` is one sentence for people."""

    summary: Summary
    outcome: Outcome
    reason: str
    checks: tuple[Check, ...] = ()
    divergence: Divergence | None = None
    remedy: str = ""

    @property
    def case(self) -> Case:
        return self.summary.measurement.case


@dataclass(frozen=True)
class Run:
    """One run folder. ``complete`` is False until the last row and the report are written.

    ``environment``: flat facts of the host, text to text (``os``, ``cpu``, ``gpu``, ``python``, ``torch``, ...).
    ``settings``: what was asked (the command line, effective). ``configuration``: the configuration's text and digest.
    """

    id: str
    started_at: str
    finished_at: str
    complete: bool
    exit_code: int | None
    last_line: str
    command: str
    seed: int
    settings: Mapping[str, str]
    environment: Mapping[str, str]
    configuration_sha256: str
    pack_sha256: str
    planned: tuple[Case, ...]
    verdicts: tuple[Verdict, ...]
    trigate_version: str
    interrupted: bool = False
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA_VERSION


R = TypeVar("R")


def to_json(record: Any) -> Any:
    """A record as JSON values (dicts, lists, text, numbers, None). Non-finite floats become text: ``"inf"``."""
    if is_dataclass(record) and not isinstance(record, type):
        return {entry.name: to_json(getattr(record, entry.name)) for entry in fields(record)}
    if isinstance(record, Enum):
        return record.value
    if isinstance(record, Mapping):
        return {str(key): to_json(value) for key, value in record.items()}
    if isinstance(record, tuple | list):
        return [to_json(value) for value in record]
    if isinstance(record, float) and not math.isfinite(record):
        return repr(record)
    return record


def from_json(kind: type[R], value: Any) -> R:
    """The inverse of ``to_json`` for a record class.

    Unknown keys are ignored (a newer minor form); a missing one without a default is a ``RecordError`` that names it.
    """
    try:
        return typing.cast("R", _reader(typing.cast("Any", kind))(value))
    except _MisfitError as misfit:
        raise RecordError(f"{kind.__name__}{misfit.path} {misfit}") from misfit.__cause__


def run_from_folder(folder: Path) -> Run:
    """The run of a folder, with what its journal says came after ``run.json``. Raises ``OSError``, ``ValueError``."""
    return run_from_text(*texts_of(folder))


def texts_of(folder: Path) -> tuple[str, str]:
    """``run.json`` and the journal beside it, which is empty where there is none. Raises ``OSError``, ``ValueError``."""
    try:  # before run.json: what is written there meanwhile is then in both, and in neither never
        journal = (folder / JOURNAL).read_text(encoding="utf-8")
    except FileNotFoundError:
        journal = ""
    return (folder / "run.json").read_text(encoding="utf-8"), journal


def run_from_text(text: str, journal: str = "") -> Run:
    """``run.json`` as a ``Run``, with the rows that its journal adds while it has no end.

    Raises ``RecordError`` for what is no run, or a schema newer than ours.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise RecordError(f"run.json is not JSON: {error}") from error
    schema = value.get("schema") if isinstance(value, dict) else None
    if not isinstance(schema, int):
        raise RecordError("run.json has no schema number; it is not a trigate run.")
    if schema > SCHEMA_VERSION:
        wrote = value.get("trigate_version")
        to = f" to {wrote}, which wrote it, or newer" if isinstance(wrote, str) and wrote else ""
        raise RecordError(
            f"run.json has schema {schema}; this trigate reads up to {SCHEMA_VERSION}: upgrade trigate{to}."
        )
    run = from_json(Run, value)
    for what, ids in (
        ("plans", [case.id for case in run.planned]),
        ("has verdicts of", [verdict.case.id for verdict in run.verdicts]),
    ):
        if len(set(ids)) < len(ids):
            twice = next(name for at, name in enumerate(ids) if name in ids[:at])
            raise RecordError(f"run.json {what} two rows called {twice!r}: it was edited, or is of two runs.")
    return _grown(run, journal) if journal and run.exit_code is None else run


def _grown(run: Run, journal: str) -> Run:
    """A run with the lines of its journal; the last may be cut short, as by the end of the process that wrote it."""
    settled, last_line = {verdict.case.id: verdict for verdict in run.verdicts}, run.last_line
    whole, _, _ = journal.rpartition("\n")
    for number, line in enumerate(filter(None, whole.split("\n")), start=1):
        try:
            said = json.loads(line)
            if said["run"] != run.id:
                continue
            last_line = str(said.get("last_line", last_line))
            if "row" in said:
                verdict = from_json(Verdict, said["row"])
                settled[verdict.case.id] = verdict
        except (TypeError, KeyError, ValueError) as error:
            raise RecordError(f"{JOURNAL} is damaged in line {number}: {error!r}.") from error
    order = {case.id: at for at, case in enumerate(run.planned)}
    verdicts = sorted(settled.values(), key=lambda verdict: order.get(verdict.case.id, len(order)))
    return replace(run, verdicts=tuple(verdicts), last_line=last_line)


class _MisfitError(Exception):
    """A value that does not fit; ``path`` grows from the inside out while it travels."""

    def __init__(self, words: str, path: str = "") -> None:
        super().__init__(words)
        self.path = path


_Reader = Callable[[Any], Any]


@cache
def _reader(kind: Any) -> _Reader:
    """What reads a JSON value as ``kind``, made once per type: a run of ten thousand rows is millions of values."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _optional(_reader(next(arm for arm in get_args(kind) if arm is not type(None))))
    if origin is tuple:
        return _list_of(_reader(get_args(kind)[0]))
    if origin is not None and issubclass(origin, Mapping):
        return _object_of(_reader(get_args(kind)[1]))
    if is_dataclass(kind) and isinstance(kind, type):
        return _record_of(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum_of(kind)
    if kind is float:
        return _number
    return _value_of(kind) if isinstance(kind, type) and kind is not Any else lambda value: value


def _optional(read: _Reader) -> _Reader:
    return lambda value: None if value is None else read(value)


def _list_of(read: _Reader) -> _Reader:
    def items(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _MisfitError(f"is {type(value).__name__}; expected a list.")
        found: list[Any] = []
        try:
            for item in value:
                found.append(read(item))  # noqa: PERF401 (where it stops is the item that does not fit)
        except _MisfitError as misfit:
            misfit.path = f"[{len(found)}]{misfit.path}"
            raise
        return tuple(found)

    return items


def _object_of(read: _Reader) -> _Reader:
    def entries(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _MisfitError(f"is {type(value).__name__}; expected an object.")
        return _by_name(((name, item, read) for name, item in value.items()))

    return entries


def _record_of(kind: type) -> _Reader:
    readers: dict[str, _Reader] = {}

    def record(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _MisfitError(f"is {type(value).__name__}; expected an object.")
        if not readers:
            hints = typing.get_type_hints(kind)
            readers.update((entry.name, _reader(hints[entry.name])) for entry in fields(kind))
        given = _by_name((name, item, readers[name]) for name, item in value.items() if name in readers)
        try:
            return kind(**given)
        except TypeError as error:
            raise _MisfitError(f"lacks a field: {error}.") from error

    return record


def _by_name(entries: Iterable[tuple[str, Any, _Reader]]) -> dict[str, Any]:
    found, at = {}, ""
    try:
        for at, item, read in entries:
            found[at] = read(item)
    except _MisfitError as misfit:
        misfit.path = f".{at}{misfit.path}"
        raise
    return found


def _enum_of(kind: type[Enum]) -> _Reader:
    known = {member.value: member for member in kind}

    def member(value: Any) -> Enum:
        try:
            return known[value]
        except (KeyError, TypeError):
            raise _MisfitError(
                f"is {value!r}; expected one of {', '.join(str(each) or repr(each) for each in known)}."
            ) from None

    return member


def _number(value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            raise _MisfitError(f"is {value!r}; expected a number.") from None
    raise _MisfitError(f"is {value!r}; expected float.")


def _value_of(kind: type) -> _Reader:
    is_whole = kind is int

    def itself(value: Any) -> Any:
        if not isinstance(value, kind) or (is_whole and isinstance(value, bool)):
            raise _MisfitError(f"is {value!r}; expected {kind.__name__}.")
        return value

    return itself
