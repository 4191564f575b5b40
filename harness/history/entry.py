"""What of a run the history keeps: facts, rows, and of each row the figures that are worth following. Pure."""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from harness.baselines import machine_of
from harness.records import Figure, Outcome, ParityFigures, Run, Verdict, to_json

__all__ = ["OURS", "Entry", "Followed", "RowEntry", "digest_of", "entry_of", "printable", "to_seconds"]

OURS = "trigate"
"""``Entry.source`` of a run by this harness; imports carry the name of the tool that measured them."""

_MOST_FIGURES = 128
_LONGEST = 400
_DULL = ("python_executable", "memory_bytes", "cpu_count", "simulated")
_CAPS = ("gpu_mhz", "emc_mhz", "cpu_mhz", "online_cpus")
_NOT_THERE = ("", "none", "unknown")
_NUMBERED = re.compile(r"\s*\d+\]$")


@dataclass(frozen=True)
class Followed:
    """One figure of a row; ``low``, ``high``: its interval, where it has one."""

    name: str
    unit: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class RowEntry:
    """One row. ``machine``, ``setting`` (caps, rate, size), ``boundary``, ``simulated``: what must be the same for its figures
    to be of one series.
    """

    row: str
    kind: str
    model: str
    runtime: str
    precision: str
    machine: str
    setting: str
    boundary: str
    simulated: str
    outcome: str
    placement: str = ""
    incomplete: str = ""
    figures: tuple[Followed, ...] = ()


@dataclass(frozen=True)
class Entry:
    """One run. ``digest``: of its content, whatever the form of the file. ``boots``: by the kernel's boot id, how long that had
    been up when the first row began, in s. ``notes``: what makes one doubt it.
    """

    id: str
    digest: str
    path: str
    source: str
    started_at: str
    finished_at: str
    complete: bool
    exit_code: int | None
    last_line: str
    profile: str
    simulated: str
    machine: str
    pack_sha256: str
    schema: int
    trigate_version: str
    counts: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    boots: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    rows: tuple[RowEntry, ...] = ()


def entry_of(run: Run, path: str, notes: Iterable[str] = ()) -> Entry:
    """A run as the history keeps it. Nothing that was not measured is kept as a figure."""
    measured = [verdict for verdict in run.verdicts if verdict.outcome is not Outcome.NOT_RUN]
    machine = next((name for one in measured if (name := _module(one))), "") or machine_of(
        run.environment, _known(run.environment.get("module"))
    )
    is_simulated = bool(measured) and all(one.summary.measurement.simulated for one in measured)
    simulated = run.settings.get("simulated", "") or ("by rows" if is_simulated else "")
    began, ended = to_seconds(run.started_at), to_seconds(run.finished_at)
    doubts = ["it ended before it began, by its own clock"] if began and ended and ended < began else []
    doubts += [f"it began at {printable(run.started_at)!r}, which is no time"] if began is None else []
    return Entry(
        id=printable(run.id),
        digest=digest_of(run),
        path=path,
        source=OURS,
        started_at=printable(run.started_at),
        finished_at=printable(run.finished_at),
        complete=run.complete,
        exit_code=run.exit_code,
        last_line=printable(run.last_line),
        profile=printable(run.settings.get("profile", "")),
        simulated=printable(simulated),
        machine=printable(machine),
        pack_sha256=printable(run.pack_sha256),
        schema=run.schema,
        trigate_version=printable(run.trigate_version),
        counts=dict(Counter(one.outcome.value for one in run.verdicts)),
        facts={
            printable(name): printable(value)[:_LONGEST]
            for name, value in run.environment.items()
            if name not in _DULL and value not in _NOT_THERE
        },
        boots=_boots(run),
        notes=tuple(map(printable, (*notes, *doubts))),
        rows=tuple(_row(verdict, run, machine) for verdict in run.verdicts),
    )


def digest_of(run: Run) -> str:
    """sha256 of what the run says, not of how its file is laid out."""
    return hashlib.sha256(json.dumps(to_json(run), sort_keys=True).encode()).hexdigest()


def to_seconds(moment: str) -> float | None:
    """ISO 8601 as seconds since 1970; without an offset it is UTC. ``None`` for what is no time."""
    try:
        read = datetime.fromisoformat(moment.strip().replace("Z", "+00:00"))
        return (read if read.tzinfo else read.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        return None


def printable(text: str) -> str:
    """Text that a file can hold: JSON spells lone surrogates, and no encoding writes them."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _known(word: str | None) -> str | None:
    return None if word is None or word in _NOT_THERE else word


def _module(verdict: Verdict) -> str:
    return _known(verdict.summary.measurement.board_start.module) or ""


def _boots(run: Run) -> dict[str, float]:
    boots: dict[str, float] = {}
    for verdict in run.verdicts:
        board = verdict.summary.measurement.board_start
        if board.boot_id and board.uptime_s is not None and math.isfinite(board.uptime_s):
            boots.setdefault(printable(board.boot_id), board.uptime_s)
    return boots


def _row(verdict: Verdict, run: Run, machine: str) -> RowEntry:
    case, measurement = verdict.case, verdict.summary.measurement
    caps = measurement.board_start.caps
    parts = [
        case.size,
        "" if measurement.rate_hz is None else f"{measurement.rate_hz:g} Hz",
        *(f"{name} {caps[name]:g}" for name in _CAPS if name in caps),
    ]
    scenario = (case.simulated or run.settings.get("simulated", "") or "simulated") if measurement.simulated else ""
    return RowEntry(
        row=printable(case.id),
        kind=printable(case.kind),
        model=printable(case.model),
        runtime=printable(case.runtime),
        precision=printable(case.precision),
        machine=printable(_module(verdict) or machine),
        setting=printable(", ".join(filter(None, parts))),
        boundary=printable(measurement.timing_boundary),
        simulated=printable(scenario),
        outcome=verdict.outcome.value,
        placement=printable(measurement.placement),
        incomplete=printable(measurement.incomplete),
        figures=() if verdict.outcome is Outcome.NOT_RUN else _figures(verdict),
    )


def _figures(verdict: Verdict) -> tuple[Followed, ...]:
    """Each name once, what the record says first; a figure of several rounds by their median."""
    summary, measurement = verdict.summary, verdict.summary.measurement
    found: list[Followed] = []
    if (latency := summary.latency) is not None:
        found += [
            Followed(f"{name}_ns", "ns", float(one.value_ns), _maybe(one.low_ns), _maybe(one.high_ns))
            for name, one in (("p50", latency.p50), ("p95", latency.p95), ("p99", latency.p99))
        ]
        found += [
            Followed("mean_ns", "ns", latency.mean_ns),
            Followed("calls_per_s", "Hz", latency.calls_per_s),
            Followed("failed", "count", float(latency.failed)),
        ]
    found += _parity(summary.parity)
    found += [
        Followed(name, "ns", float(value))
        for name, value in (("load_ns", measurement.load_ns), ("first_call_ns", measurement.first_call_ns))
        if value is not None
    ]
    found += _merged(summary.figures)
    found += [Followed(printable(f"task_{name}"), "ratio", float(value)) for name, value in summary.task.items()]
    named: dict[str, Followed] = {}
    for one in found:
        if math.isfinite(one.value):
            named.setdefault(one.name, one)
    return tuple(named.values())[:_MOST_FIGURES]


def _parity(figures: Iterable[ParityFigures]) -> list[Followed]:
    """The worst of all outputs."""
    worst: dict[str, float] = {}
    for one in figures:
        for name, value in (
            ("rel_l2_max", one.rel_l2_max),
            ("rel_l2_median", one.rel_l2_median),
            ("max_abs", one.max_abs),
        ):
            if value is not None:
                worst[name] = max(value, worst.get(name, value))
        if one.cosine_min is not None:
            worst["cosine_min"] = min(one.cosine_min, worst.get("cosine_min", one.cosine_min))
    return [Followed(name, "ratio" if name != "max_abs" else "", value) for name, value in worst.items()]


def _merged(figures: Iterable[Figure]) -> list[Followed]:
    """``load_ns[warm 0]``, ``load_ns[warm 1]`` are rounds of ``load_ns[warm]``, and the median speaks for them."""
    rounds: dict[tuple[str, str], list[Figure]] = {}
    for one in figures:
        if one.value is not None and math.isfinite(one.value):
            name = _NUMBERED.sub("]", printable(one.name)).replace("[]", "")
            rounds.setdefault((name, printable(one.unit)), []).append(one)
    return [
        Followed(name, unit, float(some[0].value or 0.0), some[0].low, some[0].high)
        if len(some) == 1
        else Followed(name, unit, statistics.median(float(one.value or 0.0) for one in some))
        for (name, unit), some in rounds.items()
    ]


def _maybe(value: int | None) -> float | None:
    return None if value is None else float(value)
