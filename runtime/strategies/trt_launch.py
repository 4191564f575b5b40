"""How a build is carried out: apart, in a process group of its own that can be ended, or in this very process.

A builder may take all memory, crash, or never come back; none of that may reach a runtime that flies. So by default the
job goes to a child with a time limit. Whatever ends the wait, the whole group is killed before the child is reaped.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, TypeVar

from runtime import errors
from runtime.errors import EngineBuildError, RuntimeCoreError
from runtime.strategies.trt_job import BuildJob, BuildResult, IsCancelled, OnProgress, Progress

__all__ = ["ChildLaunch", "in_process"]

_REAP_S = 10.0
"""How long a killed child is waited for."""
_MODULE = "runtime.strategies.trt_child"
_ROOT = Path(__file__).resolve().parents[2]
_POLL_S = 0.1
_TAIL_LINES, _TAIL_CHARACTERS = 12, 2000
_MIB = 1 << 20
_T = TypeVar("_T")


@dataclass(frozen=True)
class ChildLaunch:
    """Carries a job out in a child process.

    ``command``: starts the child. ``root``: the file system whose ``/proc`` says how much memory there is.
    """

    command: tuple[str, ...] = (sys.executable, "-m", _MODULE)
    root: Path = Path("/")

    def __call__(
        self, job: BuildJob, *, timeout_s: float, on_progress: OnProgress, is_cancelled: IsCancelled
    ) -> BuildResult:
        """See ``Launch``."""
        memory = _Memory.read(self.root)
        with (job.folder / "stderr.txt").open("wb") as stderr:
            process = subprocess.Popen(
                [*self.command, "--with-parent"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=_ROOT,  # so that -m finds the very code that runs here
                start_new_session=True,
            )
        watch = _Watch(process, job, timeout_s, on_progress, is_cancelled)
        try:
            watch.run()
        finally:
            peak_bytes = _end(process, watch.peak_bytes)
        return self._result(job, watch, process.returncode, peak_bytes, memory)

    def _result(self, job: BuildJob, watch: _Watch, code: int, peak_bytes: int | None, memory: _Memory) -> BuildResult:
        from runtime.strategies.trt_child import FAILURE, RESULT

        doing, last, why_ended = f"building {job.model.name}", watch.last, watch.why_ended
        where = f" It was in {last.phase!r}, step {last.step} of {last.of}." if last is not None else ""
        if why_ended:
            remedy = "Raise trtexec_timeout_s, or lower workspace_mb." if "longer" in why_ended else ""
            raise EngineBuildError(f"{doing} {why_ended}.{where}", remedy=remedy)
        if code == 0 and (result := _read(job.folder / RESULT, BuildResult.from_json)) is not None:
            return replace(result, peak_bytes=peak_bytes)
        if code == 1 and (failure := _read(job.folder / FAILURE, _error_of)) is not None:
            raise failure
        if code == -signal.SIGKILL:
            raise _killed(doing, where, peak_bytes, memory, _Memory.read(self.root))
        name = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        tail = _tail(job.folder / "stderr.txt")
        raise EngineBuildError(f"{doing} failed: its process {name}.{where} Its last words: {tail or 'none'}")


def in_process(job: BuildJob, *, timeout_s: float, on_progress: OnProgress, is_cancelled: IsCancelled) -> BuildResult:
    """Carry a job out here: for tests on a simulated device, which is this process's own. See ``Launch``."""
    from runtime.strategies.trt_child import build

    ends_at = time.monotonic() + timeout_s

    def ends() -> bool:
        return is_cancelled() or time.monotonic() > ends_at

    try:
        return build(job, on_progress, ends)
    except EngineBuildError as error:
        if time.monotonic() > ends_at and not is_cancelled():
            raise EngineBuildError(
                f"building {job.model.name} took longer than {timeout_s:g} s and was ended."
            ) from error
        raise


class _Watch:
    """Follows a child until it ends or has to be ended; ``why_ended`` then says why, and is empty for one that ended.

    ``peak_bytes``: of its resident memory, as of the last look.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        job: BuildJob,
        timeout_s: float,
        on_progress: OnProgress,
        is_cancelled: IsCancelled,
    ) -> None:
        self._process = process
        self._job = job
        self._timeout_s = timeout_s
        self._on_progress = on_progress
        self._is_cancelled = is_cancelled
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.why_ended = ""
        self.last: Progress | None = None
        self.peak_bytes: int | None = None

    def run(self) -> None:
        ends_at = time.monotonic() + self._timeout_s
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        threading.Thread(target=_read_lines, args=(self._process.stdout, self._lines), daemon=True).start()
        self._look()
        with contextlib.suppress(OSError):  # a child that is gone already says why in its own way
            self._process.stdin.write(self._job.to_json().encode() + b"\n")
            self._process.stdin.flush()  # and it stays open: its end tells the child that nobody waits any more
        is_open = True
        while is_open or not _has_ended(self._process):
            if self._is_cancelled():
                self.why_ended = "was cancelled"
                return
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                self.why_ended = f"took longer than {self._timeout_s:g} s and was ended"
                return
            is_open = self._next(min(_POLL_S, left_s), is_open=is_open)
            self._look()

    def _look(self) -> None:
        """What the child has taken so far; a process that has ended does not tell any more."""
        peak_kib = _number(Path(f"/proc/{self._process.pid}/status"), r"^VmHWM:\s+(\d+) kB")
        self.peak_bytes = self.peak_bytes if peak_kib is None else peak_kib * 1024

    def _next(self, timeout_s: float, *, is_open: bool) -> bool:
        """Wait for one line; False once there are no more."""
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            # a process of the child's own may hold the pipe open after it
            return is_open and not _has_ended(self._process)
        if line is None:
            return False
        try:
            self.last = Progress(**json.loads(line))
        except (ValueError, TypeError):
            return True  # no line of ours
        self._on_progress(self.last)
        return True


@dataclass(frozen=True)
class _Memory:
    """``available_bytes``: what could be had; ``kills``: how often the kernel has killed for memory since it started."""

    available_bytes: int | None
    kills: int | None

    @classmethod
    def read(cls, root: Path) -> _Memory:
        available = _number(root / "proc/meminfo", r"^MemAvailable:\s+(\d+) kB")
        return cls(None if available is None else available * 1024, _number(root / "proc/vmstat", r"^oom_kill (\d+)"))


def _read_lines(stream: IO[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    with stream, contextlib.suppress(OSError):
        for line in stream:
            lines.put(line)
    lines.put(None)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the child has ended; it is left to be reaped, so that its number stays its own until the group is killed."""
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: subprocess.Popen[bytes], seen_bytes: int | None) -> int | None:
    """Kill what is left of the group, and reap the child. Its peak of resident memory in bytes; ``seen_bytes``: as it ran."""
    peak_bytes = seen_bytes
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    try:
        if process.returncode is not None:
            pass  # reaped when it was looked at: a system without waitid (macOS before Python 3.13) has no other look
        elif hasattr(os, "wait4"):
            status, usage = _reaped(process)
            process.returncode = os.waitstatus_to_exitcode(status)
            # Before its exec the child was a copy of this process, and that counts: only a larger figure is its own.
            if usage.ru_maxrss > _own_peak():
                peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        else:
            process.kill()
            process.wait()
    finally:
        with contextlib.suppress(OSError):  # what it no longer read is flushed into nothing
            assert process.stdin is not None
            process.stdin.close()
    return peak_bytes


def _reaped(process: subprocess.Popen[bytes]) -> tuple[int, Any]:
    """The status and the resources of a killed child. One that is stuck in a driver's call cannot be waited for."""
    give_up = time.monotonic() + _REAP_S
    while time.monotonic() < give_up:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            return status, usage
        time.sleep(0.01)
    threading.Thread(target=process.wait, name=f"reap-{process.pid}", daemon=True).start()
    raise EngineBuildError(
        f"the build was killed, and its process {process.pid} does not end: it is stuck in a call of the driver.",
        remedy="Restart the machine, and look at the kernel's log for the GPU.",
    )


def _own_peak() -> int:
    import resource  # not on Windows, where nobody asks

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _read(path: Path, parse: Callable[[str], _T]) -> _T | None:
    """What the child left, or ``None`` where that is not there or not whole: a full disk ends a child so, too."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _error_of(text: str) -> RuntimeCoreError:
    failure = json.loads(text)
    kind = getattr(errors, failure["kind"]) if failure["kind"] in errors.__all__ else EngineBuildError
    error: RuntimeCoreError = kind(failure["message"], remedy=failure["remedy"])
    return error


def _killed(doing: str, where: str, peak_bytes: int | None, before: _Memory, after: _Memory) -> EngineBuildError:
    by = "somebody, and not by the kernel for memory"
    if before.kills is None or after.kills is None:
        by = "somebody, and most likely by the kernel for memory"
    elif after.kills > before.kills:
        by = "the kernel, for memory"
    return EngineBuildError(
        f"{doing} failed: its process was killed by {by}. {_mib(before.available_bytes)} of memory were available before "
        f"it, and it had taken {_mib(peak_bytes)} at its peak.{where}",
        remedy="Close what else takes memory, lower workspace_mb, or build with less in one model.",
    )


def _mib(size_bytes: int | None) -> str:
    return "an unknown amount" if size_bytes is None else f"{size_bytes / _MIB:.0f} MiB"


def _number(path: Path, pattern: str) -> int | None:
    try:
        match = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) if match else None


def _tail(path: Path) -> str:
    lines: Sequence[str] = path.read_text(encoding="utf-8", errors="replace").splitlines()
    text = " | ".join(line.strip() for line in lines[-_TAIL_LINES:] if line.strip())
    return text[-_TAIL_CHARACTERS:]
