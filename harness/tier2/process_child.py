"""The fresh process of ``tier2.fresh``: ``python -m harness.tier2.process_child``, a job on standard input, JSON lines back.

Nothing is imported here before it is needed, since what this process takes, in time and in memory, is what is measured.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UsageError
from harness.inputs import Feed, digest
from harness.layers import Layers
from harness.measure import Bench, Opened
from harness.records import Case, from_json, to_json
from harness.tier2.child_job import bench_of
from harness.tier2.fresh import EngineSeen, ProcessJob, ProcessSeen
from harness.tier2.memory import GpuMemory, Marks, MemoryMeter, find, nvml_memory
from harness.tier2.samples import Phase, SampleLog, Status, open_journal
from runtime.data import EngineCacheEntry
from runtime.errors import InferenceError, RuntimeCoreError
from runtime.libraries import LIBRARIES
from runtime.protocol import Array, InferenceRuntime

__all__ = ["main", "run_job"]

Tell = Callable[[Mapping[str, Any]], None]


def main() -> int:
    """0 with what was seen, 1 with an error of the core or of the harness, told as a line; whatever else is a traceback."""
    faulthandler.enable()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries write to standard output as they please

    def tell(told: Mapping[str, Any]) -> None:
        answers.write(json.dumps(told) + "\n")
        answers.flush()

    job = from_json(ProcessJob, json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        run_job(job, tell, os.environ)
    except (RuntimeCoreError, UsageError) as error:
        message, remedy = getattr(error, "message", str(error)), getattr(error, "remedy", "")
        tell({"failure": {"kind": type(error).__name__, "message": message, "remedy": remedy}})
        return 1
    return 0


def _end_with_parent() -> None:
    """The parent holds our standard input open; when it is gone, so is whoever would read what is measured here."""
    while os.read(0, 1 << 10):  # not through sys.stdin, whose lock the interpreter wants when it ends
        pass
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def run_job(job: ProcessJob, tell: Tell, environ: Mapping[str, str]) -> None:
    """Carry the job out in this process, and ``tell`` each step, when all is ready, and what was seen."""
    start_ns = time.monotonic_ns() - job.spawned_ns
    tell({"step": "importing"})
    importing = time.monotonic_ns()
    bench = bench_of(job.job, environ)
    for case in job.cases:
        if case.model in job.entries:
            bench.remember(case, EngineCacheEntry.from_json(job.entries[case.model]))
    runtimes = {label: _made(bench, label) for label in dict.fromkeys(case.runtime for case in job.cases)}
    import_ns = time.monotonic_ns() - importing
    meter, gpu = _meter(job, runtimes)
    with ExitStack() as resident:
        opened: list[tuple[Case, Opened, list[dict[str, Array]]]] = []
        seen: list[EngineSeen] = []
        for case in job.cases:
            tell({"step": f"loading {case.model}"})
            engine = bench.open(case, runtimes[case.runtime])
            resident.callback(engine.close)
            feeds = bench.packs[case.model].feeds()
            tell({"step": f"calling {case.model}"})
            seen.append(_called(engine, feeds, meter, Path(job.outputs) / f"{case.model}.npz" if job.outputs else None))
            opened.append((case, engine, feeds))
        ready_ns = time.monotonic_ns() - job.spawned_ns
        marks, unified = meter.marks(), gpu().is_unified
        tell({"step": "inferring", "ready_ns": ready_ns})
        if job.timed_calls:
            for case, engine, feeds in opened:
                tell({"step": f"timing {case.model}"})
                _timed(job, engine, feeds, Path(job.rows) / f"{case.model}.rows")
        while job.holds:
            for _, engine, feeds in opened:
                for feed in feeds:
                    engine(feed)
        for at, (case, engine, feeds) in enumerate(opened):
            tell({"step": f"looking for leaks of {case.model}"})
            calls = _looks(partial(_call_often, engine, feeds, job.calls_per_look), job.looks, meter)
            cycles = _looks(partial(_cycle, bench, case, engine.runtime, feeds[0]), job.cycles, meter)
            facts = replace(engine.facts(), layers=Layers())  # rows that infer have them
            seen[at] = replace(seen[at], calls=calls, cycles=cycles, facts=facts)
        tell({"step": "releasing"})
    tell({"seen": to_json(ProcessSeen(start_ns, import_ns, ready_ns, tuple(seen), marks, unified))})


def _made(bench: Bench, label: str) -> InferenceRuntime:
    """The runtime, its library imported: some runtimes do that at their first engine, whose load would then hold it."""
    if label in LIBRARIES:
        for module in LIBRARIES[label].modules:
            with suppress(Exception):  # the runtime says better what is wrong
                import_module(module)
                break
    return bench.make(label)


def _called(engine: Opened, feeds: Sequence[Feed], meter: MemoryMeter, path: Path | None) -> EngineSeen:
    begun = time.monotonic_ns()
    outputs = [engine(feeds[0])]
    first_call_ns = time.monotonic_ns() - begun
    marks = meter.marks()
    outputs += [engine(feed) for feed in feeds[1:]]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        flat: dict[str, Any] = {
            f"{at}/{name}": array for at, each in enumerate(outputs) for name, array in each.items()
        }
        np.savez(path, **flat)
    return EngineSeen(
        measurement=engine.measurement(first_call_ns=first_call_ns),
        entry=engine.entry.to_json(),
        compile_ns=engine.compile_ns,
        load_ns=engine.load_ns,
        first_call_ns=first_call_ns,
        digests=tuple(map(digest, outputs)),
        marks=marks,
    )


def _call_often(engine: Opened, feeds: Sequence[Feed], count: int) -> None:
    for at in range(count):
        engine(feeds[at % len(feeds)])


def _timed(job: ProcessJob, engine: Opened, feeds: Sequence[Feed], path: Path) -> None:
    """Warm up, then time calls in a closed loop; all rows are kept, whatever ends it. A quarter of the time is for warming up."""
    clock = time.perf_counter_ns
    warm_ns, most_ns = (round(share * job.timed_s * 1e9) for share in (0.25, 1.0))
    begun_ns = clock()
    with open_journal(path) as journal:
        log = SampleLog([path.stem], journal=journal)
        gc.collect()
        gc.freeze()
        try:
            for phase, count, until_ns in (
                (Phase.WARMUP, job.warmup_calls, begun_ns + warm_ns),
                (Phase.MEASURE, job.timed_calls, begun_ns + most_ns),
            ):
                for at in range(count):
                    started_ns = clock()
                    if at and started_ns >= until_ns:
                        break
                    status = Status.OK
                    try:
                        engine(feeds[at % len(feeds)])
                    except InferenceError:
                        status = Status.FAILED
                    log.add(0, started_ns, started_ns, started_ns, clock(), phase, status)
        finally:
            gc.unfreeze()
            log.flush()


def _cycle(bench: Bench, case: Case, runtime: InferenceRuntime, feed: Feed) -> None:
    engine = bench.open(case, runtime)
    try:
        engine(feed)
    finally:
        engine.close()


def _looks(act: Callable[[], None], count: int, meter: MemoryMeter) -> dict[str, tuple[float, ...]]:
    """Bytes after each of ``count`` acts, by kind; a kind that some look could not tell is left out."""
    seen: list[dict[str, float]] = []
    for _ in range(count):
        act()
        gc.collect()
        seen.append(dict(_bytes_now(meter.marks())))
    return {
        kind: tuple(look[kind] for look in seen) for kind in (seen[0] if seen else ()) if all(kind in s for s in seen)
    }


def _bytes_now(marks: Marks) -> Iterator[tuple[str, float]]:
    host = find(marks, "process_bytes").value
    if host is not None:
        yield "host", host
    for name in ("driver_process_bytes", "nvmap_bytes", "ledger_bytes"):
        gpu = find(marks, name).value
        if gpu is not None:
            yield "gpu" if name != "ledger_bytes" else "ledger", gpu
            return


def _meter(job: ProcessJob, runtimes: Mapping[str, InferenceRuntime]) -> tuple[MemoryMeter, Callable[[], GpuMemory]]:
    def ledger() -> int | None:
        counted = [getattr(runtime, "resident_bytes", None) for runtime in runtimes.values()]
        known = [count for count in counted if isinstance(count, int)]
        return sum(known) if known and len(known) == len(counted) else None

    index = job.gpu_index

    def gpu() -> GpuMemory:
        if index is not None:
            said = nvml_memory(os.getpid(), index)
            if said.free_bytes is not None or said.process_bytes is not None:
                return said
        return (
            _of_runtimes(runtimes.values())
            or _of_torch()
            or (said if index is not None else GpuMemory(why="no card was named"))
        )

    return MemoryMeter(Path(job.root), gpu=gpu, ledger=ledger), gpu


def _of_runtimes(runtimes: Iterable[InferenceRuntime]) -> GpuMemory | None:
    """The driver's figures through a runtime that has a context of its own, as ``TensorrtRuntime.memory_info`` gives them."""
    for runtime in runtimes:
        ask = getattr(runtime, "memory_info", None)
        said = ask() if callable(ask) else None
        if said is not None:
            # only of a GPU on one memory with the CPU it is told what the system could give
            unified = True if said.available_bytes is not None else None
            return GpuMemory(said.free_bytes, said.total_bytes, None, unified, "cuMemGetInfo through the runtime")
    return None


def _of_torch() -> GpuMemory | None:
    """The driver's figures through torch, where this process has it and it has a device open."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    try:
        free, total = torch.cuda.mem_get_info()
        unified = bool(torch.cuda.get_device_properties(torch.cuda.current_device()).is_integrated)
    except Exception as error:  # a lost device answers with whatever it likes
        return GpuMemory(source="cudaMemGetInfo through torch", why=str(error))
    return GpuMemory(int(free), int(total), None, unified, "cudaMemGetInfo through torch")


if __name__ == "__main__":
    sys.exit(main())
