"""The machine we run on as a station: its clock, instruments, a bench's engines, and launches in processes of their own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.board import read_board
from harness.errors import UsageError
from harness.inputs import Feed
from harness.instruments.telemetry import Instruments, Ticker, choose_instruments
from harness.instruments.trace import Frame
from harness.lineage import EngineFacts
from harness.measure import Bench, Opened
from harness.records import BoardState, Case, Figure, Measurement
from harness.tier2.launch_job import LaunchJob, run_child
from harness.tier2.memory import MemoryMeter
from harness.tier2.station import Order, Seen
from runtime.errors import RuntimeCoreError
from runtime.protocol import Array, InferenceRuntime, Splits
from runtime.thermal_sources.jtop import load_jtop

__all__ = ["SPIN_NS", "Clocks", "HostEngine", "HostStation", "clock_of", "state_of", "station_on"]

SPIN_NS = 200_000
"""How long before a request is due the thread stops to sleep and spins: Linux wakes a sleeper 50 to 150 us late.

It costs CPU time, and so heat: at 39 Hz under one part in a hundred of one core.
"""
_NO_STEP_NS = 1_000_000
"""The clocks are read one after the other: less than this between them is no step."""


def clock_of(name: str) -> Callable[[], int] | None:
    """One of the system's clocks (``CLOCK_BOOTTIME``), in ns; ``None`` where it has no such clock."""
    number = getattr(time, name, None)
    return None if number is None else lambda: time.clock_gettime_ns(number)


@dataclass(frozen=True)
class Clocks:
    """``boot``: counts on while the machine is suspended; ``steady`` does not. ``wall``: what may be stepped.

    A clock that slews under NTP slews all three alike; a step moves the wall clock alone.
    """

    steady: Callable[[], int] | None
    boot: Callable[[], int] | None
    wall: Callable[[], int] | None

    @classmethod
    def of_system(cls) -> Clocks:
        """Those of this machine; without ``CLOCK_BOOTTIME`` (no Linux) a suspension shows as a step."""
        return cls(clock_of("CLOCK_MONOTONIC"), clock_of("CLOCK_BOOTTIME"), clock_of("CLOCK_REALTIME"))

    def apart_ns(self) -> tuple[int, int]:
        """(boot - steady, wall - boot): the first grows by each suspension, the second changes by each step."""
        steady = self.steady() if self.steady else None
        boot = self.boot() if self.boot else steady
        wall = self.wall() if self.wall else boot
        if steady is None or boot is None or wall is None:
            return 0, 0
        return boot - steady, wall - boot


class HostEngine:
    """An engine of the bench, with its packed feeds. ``close`` releases it, and then calls ``closed``."""

    def __init__(self, opened: Opened, feeds: Sequence[Feed], closed: Callable[[], None] = lambda: None) -> None:
        self.load_ns = opened.load_ns
        self._opened = opened
        self._feeds = tuple(feeds)
        self._closed = closed
        self._splits: Splits | None = None
        if isinstance(opened.runtime, Splits):
            # without events the split is not known, and nothing else is lost
            with contextlib.suppress(RuntimeCoreError):
                self._splits = opened.runtime if opened.runtime.time_calls(opened.handle) else None

    def infer(self, at: int) -> dict[str, Array]:
        return self._opened(self._feeds[at % len(self._feeds)])

    def split(self) -> tuple[int, int, int, int] | None:
        if self._splits is None:
            return None
        try:
            return self._splits.split_ns(self._opened.handle)
        except RuntimeCoreError:
            return None

    def measurement(self, *, first_call_ns: int | None = None) -> Measurement:
        return self._opened.measurement(first_call_ns=first_call_ns)

    def facts(self) -> EngineFacts:
        return self._opened.facts()

    def close(self) -> None:
        try:
            self._opened.close()
        finally:
            self._closed()


class HostStation:
    """``bench``: makes runtimes and engines. Engines of one runtime that are open together lie in one runtime object.

    ``instruments``: what ``read`` asks, an empty frame without them. ``memory``: gives the marks. ``board_state``: default
    is the bench's. ``job``: how a process of its own makes the same bench (``harness.tier2.child_job``); without it ``fresh``
    is a ``UsageError``. ``job_for``: the same for one launch, with the engines that it shall load. ``say``: progress of such a
    process. ``on_frame``: gets each frame as
    it is read. ``clock``: monotonic ns; ``sleep``: seconds.
    """

    simulated = ""

    def __init__(
        self,
        bench: Bench,
        *,
        instruments: Instruments | None = None,
        memory: Callable[[], Sequence[Figure]] = tuple,
        board_state: Callable[[], BoardState] | None = None,
        job: LaunchJob | None = None,
        job_for: Callable[[Order], LaunchJob] | None = None,
        say: Callable[[str], None] = lambda words: None,
        on_frame: Callable[[Frame], None] = lambda frame: None,
        clock: Callable[[], int] = time.perf_counter_ns,
        sleep: Callable[[float], None] = time.sleep,
        clocks: Clocks | None = None,
    ) -> None:
        self.bench = bench
        self.instruments = instruments
        self.job = job
        self.job_for = job_for
        self.say = say
        self._on_frame = on_frame
        self._memory = memory
        self._board_state = bench.board_state if board_state is None else board_state
        self._clock = clock
        self._sleep = sleep
        self._clocks = Clocks.of_system() if clocks is None else clocks
        self._began_ns = self._clocks.apart_ns()
        self._runtimes: dict[str, tuple[InferenceRuntime, int]] = {}
        self.now_ns = clock  # a bound function: no call more than there must be

    def wait_until(self, ns: int) -> None:
        """Sleep until ``SPIN_NS`` before, then spin."""
        clock = self._clock
        while (left_ns := ns - clock()) > 0:
            if left_ns > SPIN_NS:
                self._sleep((left_ns - SPIN_NS) / 1e9)

    def lost_ns(self) -> int:
        suspended, step = (now - began for now, began in zip(self._clocks.apart_ns(), self._began_ns, strict=True))
        return sum(abs(part) for part in (suspended, step) if abs(part) >= _NO_STEP_NS)

    def read(self, origin_ns: int) -> Frame:
        at_ns = self._clock() - origin_ns
        if self.instruments is None:
            return Frame(at_ns, missing={"instruments": "none were asked for"})
        frame = self.instruments.read(at_ns)
        self._on_frame(frame)
        return frame

    @contextlib.contextmanager
    def every(self, period_s: float, do: Callable[[], None]) -> Iterator[None]:
        with Ticker(period_s, do):
            yield

    def board_state(self) -> BoardState:
        return self._board_state()

    def memory(self) -> Sequence[Figure]:
        return self._memory()

    def open(self, case: Case) -> HostEngine:
        held, users = self._runtimes.get(case.runtime, (None, 0))
        opened = self.bench.open(case, held)
        self._runtimes[case.runtime] = opened.runtime, users + 1
        with contextlib.ExitStack() as undo:
            undo.callback(self._let_go, case.runtime)
            undo.callback(opened.close)
            feeds = self.bench.packs[case.model].feeds()
            engine = HostEngine(opened, feeds, lambda: self._let_go(case.runtime))
            undo.pop_all()
        return engine

    def _let_go(self, runtime: str) -> None:
        held, users = self._runtimes[runtime]
        if users > 1:
            self._runtimes[runtime] = held, users - 1
        else:
            del self._runtimes[runtime]

    def fresh(self, order: Order, journal: Path | None) -> Seen:
        """The launch in a process of its own (``python -m harness.tier2.launch_child``), ended by us if it does not end.

        Raises what the child raised before it measured anything. A child that was killed gives what its journal holds.
        """
        if self.job is None:
            raise UsageError("this station was given no job for a process of its own; give HostStation(job=...).")
        job = self.job if self.job_for is None else self.job_for(order)
        return run_child(job, order, journal, say=self.say)


def state_of(root: Path, instruments: Instruments | None, own_pids: Collection[int] = ()) -> BoardState:
    """The board's state by all that tells it: files, NVML, instruments, and jetson-stats where its service runs (T2-04)."""
    runs_jtop = root == Path("/") and Path("/run/jtop.sock").exists()
    return read_board(
        root,
        frame=instruments.read(0) if instruments else None,
        own_pids=own_pids,
        jtop=load_jtop if runs_jtop else None,
    )


def station_on(
    bench: Bench,
    *,
    root: Path = Path("/"),
    telemetry: str = "auto",
    job: LaunchJob | None = None,
    say: Callable[[str], None] = lambda words: None,
    on_frame: Callable[[Frame], None] = lambda frame: None,
    own_pids: Collection[int] = (),
) -> HostStation:
    """A station of this machine with all that it has: instruments, the board's state, memory by every source.

    ``telemetry``: which instruments (``instruments.telemetry.INSTRUMENTS``); empty: none. ``root``: of the file system they
    read. ``on_frame``: gets each frame as it is read. ``own_pids``: processes of the run, beside this one and its children.
    """
    instruments = choose_instruments(root, name=telemetry) if telemetry else None
    meter = MemoryMeter(root)
    return HostStation(
        bench,
        instruments=instruments,
        memory=meter.marks,
        board_state=lambda: state_of(root, instruments, own_pids),
        job=job,
        say=say,
        on_frame=on_frame,
    )
