"""A launch in a process of its own: what its child (``harness.tier2.launch_child``) is told as JSON, and what it saw.

Launches of one process share its memory layout, its autotuning and its luck; verdicts that count are of fresh ones
(methods A5). The rows go into the journal and the frames into a file while they are measured, so that a process that is
killed (by the kernel, for its memory) leaves both. The child ends when its parent does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TextIO

import runtime.errors
from harness.errors import UsageError
from harness.instruments.trace import Frame, Trace
from harness.lineage import EngineFacts
from harness.records import INTERRUPTED, BoardState, Figure, Measurement, from_json, to_json
from harness.tier2.child_job import ChildJob
from harness.tier2.launch import HOPELESS_NS, FrameKeeper, counted
from harness.tier2.samples import SampleLog, open_journal, read_journal
from harness.tier2.station import Order, Seen
from runtime.errors import RuntimeCoreError

__all__ = ["GRACE_S", "SAID", "Asked", "FrameWriter", "LaunchJob", "Told", "read_frames", "run_child"]

_ROOT = Path(__file__).resolve().parents[2]
SAID = "\x1esaid "
"""How a line of the child's standard output begins that is progress."""
GRACE_S = 20.0
"""For so long a child that is told to stop may write down what it saw."""


@dataclass(frozen=True)
class LaunchJob:
    """``bench``: how the child makes its bench. ``telemetry``: which instruments; empty: none. ``root``: what they read.

    ``loading_limit_s``: for the engines to be built and loaded, beside what the profile measures.
    """

    bench: ChildJob
    telemetry: str = "auto"
    root: str = "/"
    loading_limit_s: float = 1800.0

    def limit_s(self, order: Order) -> float:
        """After which the child is ended."""
        profile = order.profile
        soak_s = profile.soak.most_s if profile.soak else 0.0
        return self.loading_limit_s + soak_s + 1.5 * profile.most_s + 2 * HOPELESS_NS / 1e9


@dataclass(frozen=True)
class Asked:
    """What travels to the child, on one line of its standard input."""

    job: LaunchJob
    order: Order
    journal: str
    trace: str
    result: str
    cwd: str


@dataclass(frozen=True)
class Told:
    """What comes back in a file: all of ``Seen`` but rows and frames, or ``error`` (its class) with ``message``."""

    measurement: Measurement | None = None
    first_call_ns: Mapping[str, int] = field(default_factory=dict)
    load_ns: Mapping[str, int] = field(default_factory=dict)
    memory: tuple[Figure, ...] = ()
    soak: Mapping[str, Any] = field(default_factory=dict)
    lost_ns: int = 0
    incomplete: str = ""
    notes: tuple[str, ...] = ()
    placements: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, EngineFacts] = field(default_factory=dict)
    error: str = ""
    message: str = ""
    remedy: str = ""


def run_child(
    job: LaunchJob,
    order: Order,
    journal: Path | None,
    *,
    say: Callable[[str], None] = lambda words: None,
    python: str = sys.executable,
) -> Seen:
    """Start a child, wait for it, and give what it saw.

    Raises the core's error or the ``UsageError`` that the child ended with before it measured. A child that is killed,
    crashes or does not end gives what it had measured by then, with the reason in ``incomplete``. Ctrl-C is passed on, and
    ``incomplete`` begins with ``INTERRUPTED``.
    """
    with tempfile.TemporaryDirectory(prefix="trigate-launch-") as room:
        rows = journal if journal is not None else Path(room) / "rows"
        open_journal(rows).close()
        begin = rows.stat().st_size
        files = {name: str(Path(room) / name) for name in ("trace", "result")}
        asked = Asked(job, order, str(rows.absolute()), files["trace"], files["result"], str(Path.cwd()))
        stderr = Path(room) / "stderr"
        ended = _run(asked, say, python, stderr, job.limit_s(order))
        sys.stderr.write(stderr.read_text(encoding="utf-8", errors="replace"))  # a run keeps it in its log
        return _seen(asked, ended, read_journal(rows, from_byte=begin))


def _run(asked: Asked, say: Callable[[str], None], python: str, stderr: Path, limit_s: float) -> str:
    """Why the child did not end as it should; empty if it did."""
    with stderr.open("wb") as errors:
        process = subprocess.Popen(
            [python, "-m", "harness.tier2.launch_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=_ROOT,  # so that -m finds the very code that runs here; the child then goes where we are
            start_new_session=True,  # a group of its own, so that Ctrl-C comes from us and none of its children stays
        )
    why = ""
    with process:
        try:
            listener = threading.Thread(target=_listen, args=(process.stdout, say), daemon=True)
            listener.start()
            _tell(process, asked)
            process.wait(limit_s)
        except KeyboardInterrupt:
            why = INTERRUPTED
            _end(process)
        except subprocess.TimeoutExpired:
            why = f"the launch did not end in {limit_s:.0f} s, and was ended"
            _end(process)
        finally:
            _kill(process)
    if why:
        return why
    code = process.returncode
    if code in (-9, 137):
        return "killed by signal 9 (SIGKILL): by the kernel, if the memory was used up (see dmesg)"
    if code < 0:
        return f"killed by signal {-code} ({signal.Signals(-code).name})"
    if code:
        lines = stderr.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"the process ended with exit code {code}: {lines[-1] if lines else 'it said nothing'}"
    return ""


def _tell(process: subprocess.Popen[bytes], asked: Asked) -> None:
    """Its standard input stays open: its end is how the child learns that we are gone."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # a child that is dead already; its exit code says why
        os.write(process.stdin.fileno(), json.dumps(to_json(asked)).encode() + b"\n")


def _listen(stream: IO[bytes], say: Callable[[str], None]) -> None:
    with contextlib.suppress(ValueError, OSError):  # closed under us
        for line in stream:
            text = line.decode("utf-8", "replace").rstrip("\n")
            if text.startswith(SAID):
                say(text.removeprefix(SAID))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to stop, and give it time to write down what it saw."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        process.wait(GRACE_S)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Whatever is left of its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _seen(asked: Asked, ended: str, rows: Mapping[str, Any]) -> Seen:
    order = asked.order
    log = SampleLog.from_columns([stream.case.model for stream in order.streams], rows, launch=order.launch)
    trace = read_frames(Path(asked.trace))
    path = Path(asked.result)
    told = from_json(Told, json.loads(path.read_text(encoding="utf-8"))) if path.exists() else Told()
    if told.error:
        _raise(told)
    was_heard = ended == INTERRUPTED and told.incomplete  # then the child says it better
    incomplete = told.incomplete if was_heard or not ended else ended
    if told.measurement is None:
        incomplete = incomplete or "the process ended without a word"
        measurement = Measurement(order.streams[order.judged].case, board_start=BoardState(notes=(incomplete,)))
    else:
        measurement = told.measurement
    return Seen(
        counted(measurement, order, log, incomplete),
        log,
        trace,
        first_call_ns=told.first_call_ns,
        load_ns=told.load_ns,
        memory=told.memory,
        soak=told.soak,
        lost_ns=told.lost_ns,
        incomplete=incomplete,
        notes=told.notes,
        placements=told.placements,
        facts=told.facts,
    )


def _raise(told: Told) -> None:
    if told.error == UsageError.__name__:
        raise UsageError(told.message)
    kind = getattr(runtime.errors, told.error, RuntimeCoreError)
    raise kind(told.message, remedy=told.remedy)


# Frames


class FrameWriter:
    """Frames as lines of JSON: names and reasons where they change, then ``[at_ns, values, alerts]`` of each."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._head: tuple[tuple[str, ...], Mapping[str, str]] | None = None

    def write(self, frame: Frame) -> None:
        """Raises ``OSError``."""
        head = tuple(frame.values), frame.missing
        if head != self._head:
            self._file.write(json.dumps({"names": head[0], "missing": dict(frame.missing)}) + "\n")
            self._head = head
        self._file.write(json.dumps([frame.at_ns, list(frame.values.values()), frame.alerts]) + "\n")


def read_frames(path: Path) -> Trace:
    """The frames of a ``FrameWriter``; a last line that was cut off is left out, and a file that is not there is empty."""
    trace = Trace()
    keeper = FrameKeeper(trace)
    names: list[str] = []
    missing: Mapping[str, str] = {}
    for line in _whole_lines(path):
        if isinstance(line, dict):
            names, missing = line["names"], line["missing"]
        else:
            at_ns, values, alerts = line
            keeper.add(Frame(at_ns, dict(zip(names, array("d", values), strict=True)), tuple(alerts), missing))
    return trace


def _whole_lines(path: Path) -> Iterator[Any]:
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)
