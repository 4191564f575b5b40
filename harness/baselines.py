"""Performance baselines in the repository: what each row took on a machine, to show a change against (BA-05).

Never a verdict: one run against one number says nothing of a regression; interleaved pairs of launches do (methods A6).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import UsageError
from harness.records import LatencyFigures, Outcome, RecordError, Verdict, from_json, to_json
from runtime.files import write_atomic

__all__ = [
    "Baseline",
    "Baselines",
    "against_baseline",
    "load_baselines",
    "machine_of",
    "with_baseline",
    "write_baselines",
]

_SCHEMA = 1


@dataclass(frozen=True)
class Baseline:
    """One row's figures on one machine. ``run``, ``versions``: where they come from."""

    p50_ns: int
    p95_ns: int
    calls_per_s: float
    calls: int
    run: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Baselines:
    """``machines``: by machine, then by case id."""

    schema: int = _SCHEMA
    machines: Mapping[str, Mapping[str, Baseline]] = field(default_factory=dict)

    def of(self, machine: str, case_id: str) -> Baseline | None:
        """The baseline of a row on a machine; ``None`` where there is none."""
        return self.machines.get(machine, {}).get(case_id)


def machine_of(environment: Mapping[str, str], module: str | None = None) -> str:
    """What baselines are kept by: the board's module, else the GPU, else the CPU. ``environment``: ``Run.environment``."""
    return module or environment.get("gpu") or environment.get("cpu") or "unknown machine"


def load_baselines(path: Path) -> Baselines:
    """Those of a file; none where there is no file. Raises ``UsageError`` that names a damaged one."""
    try:
        found = from_json(Baselines, json.loads(path.read_bytes()))
        if found.schema != _SCHEMA:
            raise RecordError(f"its schema is {found.schema}, this trigate reads {_SCHEMA}")
        for machine, rows in found.machines.items():
            for case_id, one in rows.items():
                if not (0 < one.p50_ns <= one.p95_ns and math.isfinite(one.calls_per_s) and one.calls_per_s > 0):
                    raise RecordError(f"{case_id} on {machine} has p50 {one.p50_ns}, p95 {one.p95_ns} ns")
    except (FileNotFoundError, NotADirectoryError):
        return Baselines()
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} holds no baselines: {error}. Restore it, or delete it and write it anew.") from error
    return found


def against_baseline(figures: LatencyFigures, baseline: Baseline) -> str:
    """In words: ``p95 12.3 ms, baseline 11.9 ms: +3 %; p50 ...; 81.2 calls/s ...``.

    A baseline that lies within the interval of what was measured is said to.
    """
    words = []
    for name, now, before in (("p95", figures.p95, baseline.p95_ns), ("p50", figures.p50, baseline.p50_ns)):
        low, high = now.low_ns, now.high_ns
        within = low is not None and high is not None and low <= before <= high
        words.append(
            f"{name} {now.value_ns / 1e6:.3g} ms, baseline {before / 1e6:.3g} ms: {_change(now.value_ns, before)}"
            + (" (within the interval)" if within else "")
        )
    rate = f"{figures.calls_per_s:.3g} calls/s, baseline {baseline.calls_per_s:.3g}"
    return "; ".join([*words, f"{rate}: {_change(figures.calls_per_s, baseline.calls_per_s)}"])


def with_baseline(verdict: Verdict, baselines: Baselines, machine: str) -> Verdict:
    """The row with its change against the baseline in its notes; as it is where there is no baseline for it."""
    baseline = baselines.of(machine, verdict.case.id)
    figures = verdict.summary.latency
    if baseline is None or figures is None:
        return verdict
    measurement = verdict.summary.measurement
    notes = (*(note for note in measurement.notes if "baseline" not in note), against_baseline(figures, baseline))
    return replace(verdict, summary=replace(verdict.summary, measurement=replace(measurement, notes=notes)))


def write_baselines(
    path: Path, machine: str, verdicts: Iterable[Verdict], *, run: str = "", versions: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Put the latency figures of a run in the file, beside other machines' and rows'; returns the case ids.

    Rows that were simulated, ended early or failed are no baseline, and neither is one in which calls were lost. Raises
    ``UsageError`` where no row is left, or the file cannot be written.
    """
    earlier = load_baselines(path)
    fresh = {}
    for verdict in verdicts:
        figures, measurement = verdict.summary.latency, verdict.summary.measurement
        is_sound = verdict.outcome in (Outcome.PASS, Outcome.MEASURED) and not measurement.simulated
        if figures is not None and is_sound and not figures.failed:
            fresh[verdict.case.id] = Baseline(
                figures.p50.value_ns,
                figures.p95.value_ns,
                figures.calls_per_s,
                figures.count,
                run,
                dict(versions or {}),
            )
    if not fresh:
        raise UsageError(
            "the run has no latency row that could be a baseline: it needs one that PASSed or was MEASURED."
        )
    machines = {**earlier.machines, machine: {**earlier.machines.get(machine, {}), **fresh}}
    text = json.dumps(to_json(Baselines(machines=machines)), indent=1, sort_keys=True, ensure_ascii=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, f"{text}\n".encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from error
    return tuple(fresh)


def _change(now: float, before: float) -> str:
    return f"{100.0 * (now / before - 1.0):+.0f} %"
