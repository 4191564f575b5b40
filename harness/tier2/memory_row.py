"""The row about memory of one runtime: each engine alone, then all of them resident, in fresh processes (T2-01, T2-02)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.config import BoardConfig
from harness.lineage import EngineFacts
from harness.records import Case, Measurement, Verdict
from harness.tier2.child_job import ChildJob
from harness.tier2.fresh import ChildResult, ProcessJob, run_child
from harness.tier2.memory import Marks
from harness.tier2.processes import MemoryLooks, judge_looks

__all__ = ["MemorySeen", "judge_memory_row", "measure_memory"]

RunChild = Callable[..., ChildResult]


@dataclass(frozen=True)
class MemorySeen:
    """``engines``: what each took at most alone, by model. ``resident``: all together, one per launch.

    ``cycles``, ``calls``: bytes after each look, by ``MODEL, host``. ``killed``: launches that the kernel ended; ``failed``:
    processes that ended otherwise without a result, both in words. ``facts``: of each engine, by model.
    """

    measurement: Measurement
    engines: Mapping[str, Marks] = field(default_factory=dict)
    resident: tuple[Marks, ...] = ()
    cycles: Mapping[str, Sequence[float]] = field(default_factory=dict)
    calls: Mapping[str, Sequence[float]] = field(default_factory=dict)
    calls_per_look: int = 100
    killed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    facts: Mapping[str, EngineFacts] = field(default_factory=dict)

    @property
    def looks(self) -> MemoryLooks:
        """What the row is judged from."""
        return MemoryLooks(
            self.measurement.case.id,
            self.engines,
            self.resident,
            {name: tuple(after) for name, after in self.cycles.items()},
            {name: tuple(after) for name, after in self.calls.items()},
            self.calls_per_look,
            self.killed,
            self.failed,
        )


def measure_memory(
    case: Case,
    cases: Sequence[Case],
    job: ChildJob,
    *,
    launches: int,
    environ: Mapping[str, str],
    cycles: int = 20,
    looks: int = 20,
    calls_per_look: int = 100,
    gpu_index: int | None = None,
    card_is_ours: bool = False,
    timeout_s: float = 900.0,
    root: Path = Path("/"),
    run: RunChild = run_child,
) -> MemorySeen:
    """Run a process for each engine, which also looks for leaks, and then ``launches`` with all of them.

    ``case``: of the row, ``cases``: the engines, in the order in which they are loaded. ``card_is_ours``: nobody else uses a
    discrete card. Never raises for what a process does. An engine that does not come up alone is left to fail once: there
    are no launches with all of them then.
    """
    done: dict[str, ChildResult] = {}
    for one in cases:
        alone = ProcessJob(
            job,
            (one,),
            cycles=cycles,
            looks=looks,
            calls_per_look=calls_per_look,
            gpu_index=gpu_index,
            root=str(root),
        )
        done[one.model] = run(alone, timeout_s=timeout_s, environ=environ)
    up = {model: result.seen.engines[0] for model, result in done.items() if result.seen is not None}
    together: list[ChildResult] = []
    if len(up) == len(cases):
        entries = {model: engine.entry for model, engine in up.items()}
        whole = ProcessJob(job, tuple(cases), entries=entries, gpu_index=gpu_index, root=str(root))
        together = [run(whole, timeout_s=timeout_s, environ=environ) for _ in range(launches)]
    results = [*done.values(), *together]
    measurement = Measurement(case=case)
    if up:
        first = next(iter(up.values())).measurement
        notes = tuple(dict.fromkeys(note for engine in up.values() for note in engine.measurement.notes))
        measurement = replace(first, case=case, model_sha256="", input_sha256=(), first_call_ns=None, notes=notes)
    return MemorySeen(
        replace(
            measurement,
            launches=len(together),
            load_ns=None,
            duration_ns=sum(result.wall_ns for result in results),
        ),
        engines={model: result.footprint(card_is_ours=card_is_ours) for model, result in done.items() if model in up},
        resident=tuple(result.footprint(card_is_ours=card_is_ours) for result in together if result.seen is not None),
        cycles={f"{model}, {kind}": series for model, one in up.items() for kind, series in one.cycles.items()},
        calls={f"{model}, {kind}": series for model, one in up.items() for kind, series in one.calls.items()},
        calls_per_look=calls_per_look,
        killed=tuple(result.in_words() for result in results if result.is_killed),
        failed=tuple(result.in_words() for result in results if result.seen is None and not result.is_killed),
        facts={model: engine.facts for model, engine in up.items() if engine.facts is not None},
    )


def judge_memory_row(seen: MemorySeen, *, board: BoardConfig | None) -> Verdict:
    """See ``memory.judge_memory``."""
    return judge_looks(seen.measurement, seen.looks, board=board)
