"""Fresh processes: what a load, a take-off or a leak costs is seen only in a process that has done nothing before.

``run_child`` starts ``python -m harness.tier2.process_child`` in a process group of its own, tells it what to do in one line of
JSON, follows it from outside (its memory, its steps, its end), and leaves nothing of it behind, whatever happens here.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from harness.errors import UsageError
from harness.lineage import EngineFacts
from harness.records import Case, Figure, Measurement, RecordError, from_json, to_json
from harness.tier2.child_job import ChildJob
from harness.tier2.memory import HighWater, Marks, MemoryMeter, footprint, nvml_memory
from runtime.threads import thread_environment

__all__ = ["ChildResult", "EngineSeen", "Failure", "ProcessJob", "ProcessSeen", "run_child"]

_ROOT = Path(__file__).resolve().parents[2]
_REAP_S = 10.0
_TAIL_BYTES = 4000


@dataclass(frozen=True)
class ProcessJob:
    """What a fresh process does: open every case in turn, all on one runtime each, call it with every feed, keep it.

    ``entries``: engines that are compiled already, by model, as ``EngineCacheEntry.to_json``; what is not there is compiled.
    ``cycles``: how often each engine is loaded, called and released once more. ``looks``: how often memory is looked at after
    ``calls_per_look`` calls. ``holds``: then call the engines in turn until killed. ``outputs``: a folder for their outputs,
    ``MODEL.npz`` with ``sample/output``; empty for none. ``gpu_index``: of the card that NVML is asked for; ``None``: none.
    ``root``: the file system whose ``/proc`` is read. ``spawned_ns``: filled by ``run_child``. ``timed_calls``: in a closed loop
    of each engine after ``warmup_calls``, together no longer than ``timed_s``; ``rows``: a folder for ``MODEL.rows``, a journal
    (``harness.tier2.samples``) whose times are those of ``time.perf_counter_ns``.
    """

    job: ChildJob
    cases: tuple[Case, ...]
    entries: Mapping[str, str] = field(default_factory=dict)
    cycles: int = 0
    looks: int = 0
    calls_per_look: int = 100
    holds: bool = False
    outputs: str = ""
    gpu_index: int | None = None
    root: str = "/"
    spawned_ns: int = 0
    timed_calls: int = 0
    warmup_calls: int = 0
    timed_s: float = 60.0
    rows: str = ""


@dataclass(frozen=True)
class EngineSeen:
    """One engine as the process met it. ``digests``: of the outputs of each feed. ``marks``: after its first call.

    ``cycles``, ``calls``: bytes after each load and release, and after each look's calls, by kind (``host``, ``gpu``).
    """

    measurement: Measurement
    entry: str
    compile_ns: int
    load_ns: int
    first_call_ns: int
    digests: tuple[str, ...]
    marks: tuple[Figure, ...] = ()
    facts: EngineFacts | None = None
    cycles: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    calls: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ProcessSeen:
    """What a fresh process saw. ``start_ns``: from the spawn to its own first line, the interpreter and the harness;
    ``import_ns``: the libraries and the runtimes; ``ready_ns``: from the spawn to all engines loaded and called once.
    ``is_unified``: the GPU computes in the system's memory; ``None``: nobody told.
    """

    start_ns: int
    import_ns: int
    ready_ns: int
    engines: tuple[EngineSeen, ...]
    marks: tuple[Figure, ...]
    is_unified: bool | None = None


@dataclass(frozen=True)
class Failure:
    """An error of the core or of the harness, as the child told it."""

    kind: str
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class ChildResult:
    """How a fresh process went. ``returncode``: ``None`` for one that could not be reaped. ``signal``: what ended it.

    ``is_ours``: this side killed it, for ``why``. ``step``: its last one. ``footprint``: the worst that was seen of it from
    outside and by itself, against ``before``, the system before it began. ``ready_ns``: from the spawn, by its own clock.
    """

    returncode: int | None
    signal: int | None
    is_ours: bool
    why: str
    seen: ProcessSeen | None
    failure: Failure | None
    ready_ns: int | None
    step: str
    stderr_tail: str
    wall_ns: int
    before: Marks = ()
    marks: Marks = ()
    notes: tuple[str, ...] = ()

    @property
    def is_killed(self) -> bool:
        """Ended by a SIGKILL that was not ours, as the kernel does when memory runs out; a shell calls it exit code 137."""
        return not self.is_ours and (self.signal == signal.SIGKILL or self.returncode == 128 + signal.SIGKILL)

    def footprint(self, *, is_unified: bool | None = None, card_is_ours: bool = False) -> Marks:
        """What the process took at most: see ``memory.footprint``; the marks themselves come after.

        ``is_unified``: by default as the process told.
        """
        if is_unified is None and self.seen is not None:
            is_unified = self.seen.is_unified
        on_gpu = self.seen is None or any(engine.measurement.provider != "cpu" for engine in self.seen.engines)
        own = footprint(self.before, self.marks, is_unified=is_unified, card_is_ours=card_is_ours, on_gpu=on_gpu)
        return (*own, *self.marks)

    def in_words(self) -> str:
        """Why there is no result; empty where there is one."""
        if self.seen is not None:
            return ""
        where = f" while {self.step}" if self.step else ""
        if self.failure is not None:
            return f"{self.failure.kind}{where}: {self.failure.message}"
        if self.is_ours:
            return f"the process {self.why}{where}"
        if self.is_killed:
            return f"the process was killed{where} (SIGKILL, exit 137): out of memory, where nobody else sent it"
        how = (
            f"was ended by {signal.Signals(self.signal).name}" if self.signal else f"ended with code {self.returncode}"
        )
        return f"the process {how}{where}; its last words: {self.stderr_tail.strip()[-600:] or 'none'}"


def run_child(
    job: ProcessJob,
    *,
    timeout_s: float,
    environ: Mapping[str, str],
    poll_s: float | None = 0.2,
    kill_when_ready_after_s: float | None = None,
    command: Sequence[str] = (sys.executable, "-m", "harness.tier2.process_child"),
    code_root: Path = _ROOT,
) -> ChildResult:
    """Run the job in a fresh process and wait for its end; never raises for what the child does.

    ``timeout_s``: after it the whole process group is killed. ``environ``: of the child, to which the job's thread counts
    are added. ``poll_s``: how often its memory is looked at from outside; ``None``: never, where times are what counts.
    ``kill_when_ready_after_s``: SIGKILL to its group so long after all its engines are loaded, in the middle of inference.
    ``code_root``: the folder that has the package ``harness``. Raises ``UsageError`` for a time that is not above 0; on Ctrl-C
    nothing of the child is left.
    """
    if not timeout_s > 0 or (poll_s is not None and not poll_s > 0):
        raise UsageError(f"a fresh process got timeout {timeout_s} s and poll {poll_s} s; expected seconds above 0.")
    before = _meter(job, None).marks()
    threads = job.job.config.get("intra_op_threads")
    counts = thread_environment(threads) if isinstance(threads, int) else {}
    with tempfile.TemporaryFile() as stderr:
        spawned_ns = time.monotonic_ns()
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=code_root,  # so that -m finds the very code that runs here
            env={**environ, **counts},
            start_new_session=True,
        )
        watch = _Watch(process, _meter(job, process.pid) if poll_s else None)
        try:
            watch.tell({**to_json(job), "spawned_ns": spawned_ns})
            watch.follow(time.monotonic() + timeout_s, timeout_s, poll_s, kill_when_ready_after_s)
        finally:
            code = _end(process)
        wall_ns = time.monotonic_ns() - spawned_ns
        watch.drain()
        stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - _TAIL_BYTES))
        tail = stderr.read().decode("utf-8", "replace")
    for marks in [watch.seen.marks] if watch.seen else []:
        watch.high.add(marks)
    for engine in watch.seen.engines if watch.seen else ():
        watch.high.add(engine.marks)
    ended_by = -code if code is not None and code < 0 else None
    return ChildResult(
        returncode=code,
        signal=ended_by,
        is_ours=bool(watch.why),
        why=watch.why,
        seen=watch.seen,
        failure=watch.failure,
        ready_ns=watch.ready_ns,
        step=watch.step,
        stderr_tail=tail,
        wall_ns=wall_ns,
        before=before,
        marks=watch.high.figures(),
        notes=tuple(watch.notes),
    )


def _meter(job: ProcessJob, pid: int | None) -> MemoryMeter:
    """Of the system and, from outside, of one process: this side knows nothing of CUDA, and asks NVML where it may."""
    index = job.gpu_index
    if index is None:
        return MemoryMeter(Path(job.root), pid)
    return MemoryMeter(Path(job.root), pid, lambda: nvml_memory(os.getpid() if pid is None else pid, index))


class _Watch:
    """Follows a child through what it says and what its memory does. ``why``: why it was ended here; empty if it was not."""

    def __init__(self, process: subprocess.Popen[bytes], meter: MemoryMeter | None) -> None:
        self.process = process
        self.meter = meter
        self.high = HighWater()
        self.seen: ProcessSeen | None = None
        self.failure: Failure | None = None
        self.ready_ns: int | None = None
        self.ready_at: float | None = None
        self.step = ""
        self.why = ""
        self.notes: list[str] = []
        self._lines: queue.Queue[bytes] = queue.Queue()
        assert process.stdout is not None
        self._reader = threading.Thread(target=_read_lines, args=(process.stdout, self._lines), daemon=True)
        self._reader.start()

    def tell(self, job: Mapping[str, Any]) -> None:
        """Hand the job over. The pipe stays open: its end tells the child that nobody waits for it any more."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended already, and its last words say why
            self.process.stdin.write(json.dumps(job).encode() + b"\n")
            self.process.stdin.flush()

    def follow(self, deadline: float, timeout_s: float, poll_s: float | None, kill_after_s: float | None) -> None:
        """Until the child has ended or has to be ended."""
        next_look = 0.0
        while not _has_ended(self.process):
            now = time.monotonic()
            if self.meter is not None and poll_s is not None and now >= next_look:
                self.high.add(self._look())
                next_look = now + poll_s
            if now >= deadline:
                self.why = f"took longer than {timeout_s:g} s and was ended"
                return
            if kill_after_s is not None and self.ready_at is not None and now >= self.ready_at + kill_after_s:
                self.why = "was killed in the middle of inference, as asked"
                return
            with contextlib.suppress(queue.Empty):
                self._hear(self._lines.get(timeout=0.02))

    def drain(self) -> None:
        """What the child said before its end."""
        self._reader.join(_REAP_S)
        while True:
            try:
                self._hear(self._lines.get_nowait())
            except queue.Empty:
                return

    def _look(self) -> Iterator[Figure]:
        """A process that is ending shows nothing, or zeros."""
        assert self.meter is not None
        return (mark for mark in self.meter.marks() if mark.value != 0 or mark.name == "swap_used_bytes")

    def _hear(self, line: bytes) -> None:
        try:
            told = dict(json.loads(line))
            if "step" in told:
                self.step = str(told["step"])
            if "ready_ns" in told:
                self.ready_ns, self.ready_at = int(told["ready_ns"]), time.monotonic()
            if "seen" in told:
                self.seen = from_json(ProcessSeen, told["seen"])
            if "failure" in told:
                self.failure = from_json(Failure, told["failure"])
        except (ValueError, TypeError, RecordError):  # not ours: whoever got hold of its standard output wrote it
            if len(self.notes) < 5:
                self.notes.append(f"on the child's standard output: {line[:80]!r}")


def _read_lines(stream: IO[bytes], lines: queue.Queue[bytes]) -> None:
    with stream, contextlib.suppress(OSError, ValueError):
        for line in stream:
            lines.put(line)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the child has ended; it is left to be reaped, so that its number stays its own until its group is killed."""
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: subprocess.Popen[bytes]) -> int | None:
    """Kill what is left of the group and reap the child; ``None`` for one that is stuck in a driver's call."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.wait(_REAP_S)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(OSError):
            assert process.stdin is not None
            process.stdin.close()


def seconds(ns: float) -> str:
    """``3.21 s``, ``45.2 ms``."""
    return f"{ns / 1e9:.3g} s" if ns >= 1e9 or not math.isfinite(ns) else f"{ns / 1e6:.3g} ms"
