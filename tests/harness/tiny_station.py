"""A station in virtual time that a test describes with two functions: how long a call takes, and what it raises."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness.fakes.clock import VirtualClock
from harness.instruments.trace import Frame
from harness.profiles import PROFILES, Profile
from harness.records import BoardState, Case, Figure, Measurement
from harness.tier2.station import Order, Seen, Stream
from runtime.protocol import Array

MS = 1_000_000


def case(model: str = "m", runtime: str = "tensorrt") -> Case:
    return Case(f"{model}-{runtime}", 2, "latency", model, runtime, "fp16", "fp16", "small")


def profile(**changed: object) -> Profile:
    """Two seconds of measuring that end by time alone."""
    given: dict[str, object] = {
        "least_s": 2.0, "most_s": 2.0, "least_calls": 1, "precision": 0.0, "warmup_calls": 3, "soak": None, **changed,
    }  # fmt: skip
    return Profile(**{**vars(PROFILES["quick"]), **given})


def order(*streams: Stream, **changed: object) -> Order:
    return Order(profile(**changed), streams)


@dataclass
class TinyEngine:
    station: TinyStation
    case: Case
    load_ns: int = 7
    calls: int = 0
    is_closed: bool = False

    def infer(self, at: int) -> dict[str, Array]:
        count, self.calls = self.calls, self.calls + 1
        self.station.pass_to(self.station.clock() + self.station.takes(self.case.model, count))
        self.station.fails(self.case.model, count)
        return {"y": np.full(1, at)}

    def split(self) -> tuple[int, int, int, int] | None:
        return self.station.gives_split

    def measurement(self, *, first_call_ns: int | None = None) -> Measurement:
        return Measurement(self.case, placement="tiny", first_call_ns=first_call_ns)

    def close(self) -> None:
        self.is_closed = True


@dataclass
class TinyStation:
    """``takes(model, call)``: ns of service. ``fails(model, call)``: raises or not. ``wakes_late_ns``: of each wait."""

    takes: Callable[[str, int], int] = lambda model, call: 5 * MS
    fails: Callable[[str, int], None] = lambda model, call: None
    reads: Callable[[int], dict[str, float]] = lambda at_ns: {"gpu_temp_c": 50.0}
    simulated: str = "tiny"
    wakes_late_ns: int = 0
    gives_split: tuple[int, int, int, int] | None = None
    lost: Sequence[int] = (0, 0)
    clock: VirtualClock = field(default_factory=VirtualClock)
    engines: list[TinyEngine] = field(default_factory=list)
    _ticks: list[tuple[list[int], int, Callable[[], None]]] = field(default_factory=list)
    _asked: int = 0

    def now_ns(self) -> int:
        return self.clock()

    def pass_to(self, ns: int) -> None:
        while self._ticks and (first := min(self._ticks, key=lambda tick: tick[0][0]))[0][0] <= ns:
            due, period, do = first
            self.clock.advance_to(due[0])
            due[0] += period
            do()
        self.clock.advance_to(ns)

    def wait_until(self, ns: int) -> None:
        if ns > self.clock():
            self.pass_to(ns + self.wakes_late_ns)

    def lost_ns(self) -> int:
        self._asked += 1
        return self.lost[min(self._asked, len(self.lost)) - 1]

    def read(self, origin_ns: int) -> Frame:
        at_ns = self.clock() - origin_ns
        return Frame(at_ns, self.reads(at_ns))

    @contextlib.contextmanager
    def every(self, period_s: float, do: Callable[[], None]) -> Iterator[None]:
        tick = ([self.clock() + round(period_s * 1e9)], round(period_s * 1e9), do)
        self._ticks.append(tick)
        try:
            yield
        finally:
            self._ticks.remove(tick)

    def board_state(self) -> BoardState:
        return BoardState(power_mode="MAXN", uptime_s=self.clock() / 1e9)

    def memory(self) -> Sequence[Figure]:
        return (Figure("process_bytes", 1.0, "bytes", "tiny"),)

    def open(self, case: Case) -> TinyEngine:
        self.engines.append(TinyEngine(self, case))
        return self.engines[-1]

    def fresh(self, order: Order, journal: Path | None) -> Seen:
        raise NotImplementedError
