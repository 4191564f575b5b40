"""Where rows are measured: this host, or a simulated board in virtual time. One procedure runs on both.

A station has time, instruments, and engines that can be loaded; ``harness.tier2.launch`` runs one launch of one row on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from harness.instruments.trace import Frame, Trace
from harness.lineage import EngineFacts
from harness.profiles import Profile
from harness.records import BoardState, Case, Figure, Measurement
from harness.tier2.samples import SampleLog
from runtime.protocol import Array

__all__ = ["Engine", "HasFacts", "Order", "Seen", "Station", "Stream"]


@dataclass(frozen=True)
class Stream:
    """Requests of one kind, for the engine of ``case``. ``rate_hz`` 0: closed loop, one call after the other.

    ``burst``: so many at once, every ``burst / rate_hz`` seconds (a frame's 13 matcher calls). ``deadline_ns``: later is a
    miss. ``late``: ``queue`` or ``drop`` (a request that is due while another one of its stream still waits is dropped).
    ``offset_ns``: of the first request.
    """

    case: Case
    rate_hz: float = 0.0
    burst: int = 1
    deadline_ns: int | None = None
    late: str = "queue"
    offset_ns: int = 0


@dataclass(frozen=True)
class Order:
    """One launch of one row. ``streams``: one, or those of the flight mix. ``judged``: which of them the row is about.

    ``budget_ns``: of its p95; ``None``: measured until p95 is known to ``profile.precision``. ``floor``: the design
    effect from history. ``is_first``: of its session, so that the soak is whole; later launches keep the heat, and
    soak only until the temperature is steady again. ``cycle_s``: of the fan, where an earlier launch has found one.
    ``build``: which of several builds of the engines it runs on.
    """

    profile: Profile
    streams: tuple[Stream, ...]
    judged: int = 0
    launch: int = 0
    budget_ns: int | None = None
    floor: float | None = None
    is_first: bool = True
    cycle_s: float | None = None
    build: int = 0


class Engine(Protocol):
    """A loaded engine."""

    load_ns: int

    def infer(self, at: int) -> dict[str, Array]:
        """Call it with its feed number ``at`` (taken modulo the number of feeds). Raises the core's errors."""
        ...

    def split(self) -> tuple[int, int, int, int] | None:
        """Of the last call: ns of host-to-device, compute, device-to-host, wait; ``None`` where it is not known."""
        ...

    def measurement(self, *, first_call_ns: int | None = None) -> Measurement:
        """What it is: placement, precision, digest; board states are filled in."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


@runtime_checkable
class HasFacts(Protocol):
    """The optional part of an engine: what it descends from, and its layers."""

    def facts(self) -> EngineFacts:
        """May run the model once more."""
        ...


class Station(Protocol):
    """``simulated``: the scenario's name, or empty. Times in ns of one monotonic clock."""

    simulated: str

    def now_ns(self) -> int: ...

    def wait_until(self, ns: int) -> None:
        """Return at ``ns`` or a little later; at once if it is past."""
        ...

    def lost_ns(self) -> int:
        """How long the machine was suspended, plus how far its wall clock was stepped, since it was started."""
        ...

    def read(self, origin_ns: int) -> Frame:
        """All instruments, once; never raises for one that is missing."""
        ...

    def every(self, period_s: float, do: Callable[[], None]) -> AbstractContextManager[None]:
        """Call ``do`` each period while inside: on a thread of its own, or as virtual time passes."""
        ...

    def board_state(self) -> BoardState:
        """The state of the board now (T2-04)."""
        ...

    def memory(self) -> Sequence[Figure]:
        """Marks of memory now, by every source there is, each figure with its source."""
        ...

    def open(self, case: Case) -> Engine:
        """Load the case's engine. Raises the core's errors."""
        ...

    def fresh(self, order: Order, journal: Path | None) -> Seen:
        """Run the launch in a process of its own."""
        ...


@dataclass(frozen=True)
class Seen:
    """What one launch saw. ``log``: of all phases. ``incomplete``: why it ended early; empty if it did not.

    ``soak``: how the soak went: ``waited_s``, ``slope_c_per_min`` (``None``: no temperature), ``is_steady``, ``words``.
    ``first_call_ns``, ``placements`` (as ``Measurement.placement``), ``facts`` (of engines that have them) by model.
    ``lost_ns``: see ``Station.lost_ns``.
    """

    measurement: Measurement
    log: SampleLog
    trace: Trace
    first_call_ns: Mapping[str, int] = field(default_factory=dict)
    load_ns: Mapping[str, int] = field(default_factory=dict)
    memory: tuple[Figure, ...] = ()
    soak: Mapping[str, Any] = field(default_factory=dict)
    lost_ns: int = 0
    incomplete: str = ""
    notes: tuple[str, ...] = ()
    placements: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, EngineFacts] = field(default_factory=dict)
