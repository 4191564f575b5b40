"""The load that a row stands under: when each request is due, and what its columns say afterwards. Pure.

Open loop: requests come at the flight's rate whether or not the last one is done, and latency counts from when a request
was *due*. A closed loop waits for the slow call and so leaves out the requests that would have met it (coordinated
omission, methods A4): 15 ms of service with a stall of 300 ms per 400 frames has a p95 of 17 ms there, and of 107 ms here.

Columns are those of ``harness.tier2.samples``: int64 [n] each, in the order of the schedule.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter

import numpy as np

from harness.errors import UsageError
from harness.records import Check, Outcome
from harness.tier2.samples import Phase, Status, places, together
from harness.tier2.station import Stream
from runtime.protocol import Array

__all__ = [
    "LATE_NS",
    "LATE_SHARE",
    "by_launch",
    "check_streams",
    "harness_late",
    "late",
    "latencies_ns",
    "lateness_ns",
    "missed",
    "overload",
    "schedule",
    "select",
    "utilisation",
    "waits_ns",
]

Columns = Mapping[str, Array]

LATE_NS = 1_000_000
"""A harness that wakes this much after a request was due, with nothing to wait for, was late."""
LATE_SHARE = 0.01
"""Of requests. p95 leaves room for one in twenty, and the harness may use up a fifth of it."""
_QUARTERS = 4
_LEAST_FOR_GROWTH = 40
"""Requests, below which no growth of a queue is told."""


def check_streams(streams: Sequence[Stream]) -> bool:
    """Whether the streams are an open loop. Raises ``UsageError`` for rates that are none, and for loops that are mixed."""
    if not streams:
        raise UsageError("a launch without streams measures nothing. Give it at least one.")
    for stream in streams:
        asked = f"{stream.case.id}: rate_hz {stream.rate_hz}, burst {stream.burst}, late {stream.late!r}"
        if not (math.isfinite(stream.rate_hz) and stream.rate_hz >= 0 and stream.burst >= 1):
            raise UsageError(f"{asked}. Expected a rate of 0 (closed loop) or more, and bursts of 1 or more.")
        if stream.late not in ("queue", "drop") or stream.offset_ns < 0:
            raise UsageError(
                f"{asked}, offset {stream.offset_ns} ns. Expected queue or drop, and an offset of 0 or more."
            )
    rates = [stream.rate_hz > 0 for stream in streams]
    if any(rates) and not all(rates):
        raise UsageError(
            "some streams of this load have a rate and others have none: one that calls without a pause would take all the "
            "time there is. Give each a rate_hz, or none."
        )
    return all(rates)


def schedule(streams: Sequence[Stream], *, until_ns: int | None = None) -> Iterator[tuple[int, int]]:
    """``(stream, scheduled_ns)`` of every request of an open loop, in order of time, then of streams; without end.

    Times count from the start of the load. Burst ``k`` of a stream is due at ``offset_ns + k * burst / rate_hz`` seconds,
    each computed from ``k``: rounding does not add up. ``until_ns``: those that are due before it.
    """
    if not check_streams(streams):
        raise UsageError("a closed loop has no schedule: each call comes when the last one is done.")
    for due_ns, at in heapq.merge(*(_of_one(at, stream) for at, stream in enumerate(streams))):
        if until_ns is not None and due_ns >= until_ns:
            return
        yield at, due_ns


def _of_one(at: int, stream: Stream) -> Iterator[tuple[int, int]]:
    period_ns = stream.burst * 1e9 / stream.rate_hz
    burst, count = 0, range(stream.burst)
    while True:
        due = stream.offset_ns + round(burst * period_ns), at
        for _ in count:
            yield due
        burst += 1


def select(
    columns: Columns, *, phase: int | None = Phase.MEASURE, stream: int | None = None, launch: int | None = None
) -> dict[str, Array]:
    """The rows of one phase (``None``: all), stream and launch. What is judged is ``select(columns, stream=...)``.

    Rows that lie together are views, not to be written to: a launch of a million samples is looked at several times.
    """
    wanted = np.ones(columns["status"].size, bool)
    for name, value in (("phase", phase), ("stream", stream), ("launch", launch)):
        if value is not None:
            wanted &= columns[name] == value
    rows = together(wanted)
    return {name: values[rows] for name, values in columns.items()}


def by_launch(columns: Columns) -> dict[int, dict[str, Array]]:
    """The rows of each launch by its number, rising; views where they lie together."""
    found = sorted(places(columns["launch"]), key=itemgetter(0))
    return {number: {name: values[rows] for name, values in columns.items()} for number, rows in found}


def latencies_ns(columns: Columns, is_open: bool) -> Array:
    """int64 [n]: from when a request was due (open loop), or from when the call began, until its outputs were there.

    Of a request that was dropped it is 0, and says nothing: ``missed`` tells which those are.
    """
    return np.asarray(columns["done_ns"] - columns["scheduled_ns" if is_open else "started_ns"], np.int64)


def waits_ns(columns: Columns) -> Array:
    """int64 [n]: from when a request was due until its call began; 0 for one that was dropped."""
    return np.asarray(columns["started_ns"] - columns["scheduled_ns"], np.int64)


def missed(columns: Columns) -> Array:
    """A bool [n]: failed or dropped. Such a request exceeds any budget, whatever it took."""
    return np.asarray(columns["status"] != Status.OK, bool)


def late(columns: Columns, deadline_ns: int | None) -> Array:
    """A bool [n]: done, and later after it was due than ``deadline_ns``. What was missed is counted apart (``missed``)."""
    if deadline_ns is None:
        return np.zeros(columns["status"].size, bool)
    return np.asarray(~missed(columns) & (latencies_ns(columns, True) > deadline_ns), bool)


def utilisation(columns: Columns, streams: Sequence[Stream]) -> tuple[float | None, ...]:
    """Of each stream, the seconds of service that a second of its schedule asks for: mean service time times its rate.

    Dropped requests ask for the mean as well: what is shed was asked for. ``None``: no call of the stream came to an
    end, or it has no rate. The total is the sum: from 1 on, no queue is long enough.
    """
    shares: list[float | None] = []
    for at, stream in enumerate(streams):
        served = (columns["stream"] == at) & (columns["status"] != Status.DROPPED)
        took = columns["done_ns"] - columns["started_ns"]
        took = took if served.all() else took[served]
        shares.append(float(took.mean()) * stream.rate_hz / 1e9 if took.size and stream.rate_hz else None)
    return tuple(shares)


def overload(columns: Columns, streams: Sequence[Stream], shares: Sequence[float | None] | None = None) -> str:
    """Why the load cannot be served, with the figure; empty if it can. Fed with what was measured, of all streams.

    Either a second of the schedule asks for a second of service or more, or the queue grows without end: it never empties
    again, and its least length rises from each quarter of the time to the next. A closed loop cannot be overloaded.
    ``shares``: their ``utilisation``, where somebody has it.
    """
    if columns["status"].size == 0 or not all(stream.rate_hz > 0 for stream in streams):
        return ""
    shares = utilisation(columns, streams) if shares is None else shares
    total = sum(share or 0.0 for share in shares)
    of_each = ", ".join(
        f"{stream.case.model} {share:.2f}" for stream, share in zip(streams, shares, strict=True) if share is not None
    )
    if total >= 1.0:
        return f"a second of this load asks for {total:.2f} s of service ({of_each}): it cannot be served"
    served = columns["status"] != Status.DROPPED
    waits = waits_ns(columns) if served.all() else waits_ns(columns)[served]
    if waits.size >= _LEAST_FOR_GROWTH:
        least = [int(quarter.min()) for quarter in np.array_split(waits, _QUARTERS)]
        if all(after > before + LATE_NS for before, after in itertools.pairwise(least)):
            return (
                f"the queue grows without end, at a load of {total:.2f} ({of_each}): the least wait rose from "
                f"{least[0] / 1e6:.0f} to {least[-1] / 1e6:.0f} ms"
            )
    return ""


def lateness_ns(columns: Columns) -> Array:
    """int64 [n]: how long after a request could have begun the harness woke: its own doing, and not the queue's.

    It could have begun when it was due, or when the last call of its launch was done. Fed with the rows of all streams,
    in the order they were taken; 0 for what was dropped.
    """
    behind = np.zeros(columns["status"].size, np.int64)
    for _, rows in places(columns["launch"]):
        dropped = columns["status"][rows] == Status.DROPPED
        free_ns, could_ns = columns["done_ns"][rows], columns["scheduled_ns"][rows].copy()
        if dropped.any():
            free_ns = np.where(dropped, np.iinfo(np.int64).min, free_ns)
        if (free_ns[1:] < free_ns[:-1]).any():
            free_ns = np.maximum.accumulate(free_ns)
        np.maximum(could_ns[1:], free_ns[:-1], out=could_ns[1:])
        late_ns = np.maximum(columns["woke_ns"][rows] - could_ns, 0)
        late_ns[dropped] = 0
        behind[rows] = late_ns
    return behind


def harness_late(
    columns: Columns, *, limit_ns: int = LATE_NS, share: float = LATE_SHARE, behind_ns: Array | None = None
) -> Check | None:
    """INCONCLUSIVE where the harness, not the runtime, was late for more than ``share`` of the requests; else ``None``.

    Its lateness is in the latencies, since those count from the schedule: a FAIL would be the harness's, not the runtime's.
    Fed with the rows of all streams, soak and all: a wait for a call before the first judged row is no lateness.
    ``behind_ns``: the ``lateness_ns`` of the measured ones, where somebody has it.
    """
    behind = lateness_ns(columns)[columns["phase"] == Phase.MEASURE] if behind_ns is None else behind_ns
    if behind.size == 0:
        return None
    over = int(np.count_nonzero(behind > limit_ns))
    if over <= share * behind.size:
        return None
    return Check(
        "harness on time",
        Outcome.INCONCLUSIVE,
        f"the harness woke more than {limit_ns / 1e6:g} ms after a request was due, with the station idle, for {over} of "
        f"{behind.size} requests (at worst {behind.max() / 1e6:.1f} ms): other programs held the CPU. Stop them, or leave the "
        "harness a core of its own (taskset).",
    )
