"""One launch of one row: open, first call, warm-up, soak, measure. The same on a host and in virtual time.

All streams of a launch share one device, and one thread serves their requests one at a time, in the order they are due:
as the flight does. A request that is due while another is served waits, and its wait is part of its latency. Nothing but the
schedule decides when a request is due; what the harness does between requests (a look at the statistics) it does while
nothing is due, and the rest of the schedule is moved by as long as that took.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import sys
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from harness.errors import UsageError
from harness.instruments.telemetry import Values
from harness.instruments.trace import Frame, Trace
from harness.lineage import EngineFacts
from harness.measure import BOUNDARY
from harness.profiles import Profile
from harness.records import INTERRUPTED, Measurement, to_json
from harness.statistics.stopping import MOST_ROWS, rule_of
from harness.tier2.heat import Soak, SoakState
from harness.tier2.load import check_streams, latencies_ns, missed, schedule, select, utilisation
from harness.tier2.samples import Phase, SampleLog, Status
from harness.tier2.station import Engine, HasFacts, Order, Seen, Station
from harness.words import counted as so_many
from runtime.errors import DeviceLostError, RuntimeCoreError
from runtime.protocol import Array

__all__ = ["HOPELESS_NS", "INTERRUPTED", "FrameKeeper", "counted", "run_launch"]

HOPELESS_NS = 30_000_000_000
"""Where more is asked for than can be served, a request that has waited this long ends the measuring."""

_SECOND_NS = 1_000_000_000
_LOOK_LATER_NS = _SECOND_NS
"""For so long a look waits for a moment in which nothing is due; then it is taken out of the queue's time."""
_CAUGHT_UP_NS = _SECOND_NS
_SWITCH_S = 0.0002
_DUTY_NS = 50_000_000
"""Room for what is done once a second."""


def run_launch(
    station: Station,
    order: Order,
    *,
    journal: BinaryIO | None = None,
    say: Callable[[str], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Seen:
    """Run the launch to its end and give what it saw, all rows kept, whatever ended it.

    ``journal``: an open binary file that takes the rows at least once a second. ``say``: gets a line at most once a
    second. ``stop``: asked once a second; true ends the launch.

    Ctrl-C, a lost device, a full disk and memory that is used up are told in ``Seen.incomplete``. A call that fails is a
    row, and the launch goes on. Raises the core's errors for an engine that cannot be loaded, and ``UsageError`` for
    streams that make no load.
    """
    is_open = check_streams(order.streams)
    if not 0 <= order.judged < len(order.streams):
        raise UsageError(f"judged is stream {order.judged}; expected one of the {len(order.streams)} of this order.")
    with contextlib.ExitStack() as opened:
        launch = _Launch(station, order, is_open, journal, say or (lambda words: None), stop or (lambda: False))
        launch.open(opened)
        return launch.run()


def counted(measurement: Measurement, order: Order, log: SampleLog, incomplete: str) -> Measurement:
    """The measurement with what the log and the order say of its judged stream."""
    rows = select(log.columns(), stream=order.judged)
    stream = order.streams[order.judged]
    return replace(
        measurement,
        timing_boundary=BOUNDARY,
        sample_count=int(rows["status"].size),
        failed_count=int(missed(rows).sum()),
        profile=order.profile.name,
        rate_hz=stream.rate_hz or None,
        deadline_ns=stream.deadline_ns,
        launches=1,
        incomplete=incomplete,
    )


@dataclass
class _Loaded:
    """An engine and what is known of it. ``calls``: which feed comes next. ``error_types``: what it may raise."""

    engine: Engine
    error_types: tuple[type[BaseException], ...]
    calls: int = 0


class _Ended(Exception):  # noqa: N818 (not an error: the launch is over)
    """The launch is over before it was done. ``str()`` says why."""


@dataclass
class _Launch:
    station: Station
    order: Order
    is_open: bool
    journal: BinaryIO | None
    say: Callable[[str], None]
    stop: Callable[[], bool]
    trace: Trace = field(default_factory=Trace)
    notes: list[str] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    first_call_ns: dict[str, int] = field(default_factory=dict)
    load_ns: dict[str, int] = field(default_factory=dict)
    placements: dict[str, str] = field(default_factory=dict)
    facts: dict[str, EngineFacts] = field(default_factory=dict)
    soak: SoakState | None = None
    broken: str = ""

    def __post_init__(self) -> None:
        self.log = SampleLog(
            [stream.case.model for stream in self.order.streams], launch=self.order.launch, journal=self.journal
        )
        self.origin_ns = self.station.now_ns()
        self.lost_ns = self.station.lost_ns()
        self.board_start = self.station.board_state()
        self.phase = Phase.WARMUP
        self.frames = FrameKeeper(self.trace)
        self.writing = threading.Lock()

    # Engines

    def open(self, undo: contextlib.ExitStack) -> None:
        """Load each distinct case's engine; each is closed again, whatever happens."""
        by_case: dict[str, _Loaded] = {}
        for stream in self.order.streams:
            case = stream.case
            if case.id not in by_case:
                self.say(f"{case.model}: loading")
                engine = self.station.open(case)
                undo.callback(engine.close)
                foreign = ":" in case.runtime  # a third party's class may raise anything, and end the process
                by_case[case.id] = _Loaded(engine, (Exception, SystemExit) if foreign else (RuntimeCoreError,))
                self.load_ns[case.model] = engine.load_ns
        self.engines = [by_case[stream.case.id] for stream in self.order.streams]

    def run(self) -> Seen:
        judged = self.engines[self.order.judged].engine
        incomplete = ""
        measurement: Measurement | None = None
        with contextlib.ExitStack() as around:
            try:
                self.tick()
                if self.order.profile.telemetry_hz > 0:
                    around.enter_context(self.station.every(1.0 / self.order.profile.telemetry_hz, self.tick))
                around.enter_context(self.station.every(1.0, self.flush))
                self.first_calls()
                measurement = judged.measurement(first_call_ns=self.first_call_ns.get(self.judged_model))
                for at in self.distinct():
                    engine, model = self.engines[at].engine, self.order.streams[at].case.model
                    self.placements[model] = (measurement if engine is judged else engine.measurement()).placement
                    if isinstance(engine, HasFacts):
                        self.facts[model] = engine.facts()
                self.warm_up()
                if not self.station.simulated:
                    around.enter_context(_undisturbed())
                if self.is_open:
                    _OpenLoop(self).run()
                else:
                    _ClosedLoop(self).run()
            except KeyboardInterrupt:
                incomplete = f"{INTERRUPTED} after {so_many(len(self.log), 'request')}"
            except _Ended as ended:
                incomplete = str(ended)
            except DeviceLostError as error:
                incomplete = f"the device was lost after {so_many(len(self.log), 'request')}: {error}"
            except MemoryError:
                incomplete = f"the harness ran out of memory after {so_many(len(self.log), 'request')}"
        if measurement is None:
            measurement = Measurement(
                self.order.streams[self.order.judged].case, simulated=bool(self.station.simulated)
            )
        unwritten = self.last_flush()
        return self.seen(measurement, incomplete or unwritten)

    @property
    def judged_model(self) -> str:
        return self.order.streams[self.order.judged].case.model

    def seen(self, measurement: Measurement, incomplete: str) -> Seen:
        self.tick()
        lost_ns = self.station.lost_ns() - self.lost_ns
        for words, count in self.failures.most_common():
            self.notes.append(f"{count} calls failed: {words}")
        if lost_ns:
            self.notes.append(
                f"the machine was suspended, or its wall clock stepped, by {lost_ns / 1e9:.3f} s in all while this launch ran"
            )
        measurement = replace(
            counted(measurement, self.order, self.log, incomplete),
            simulated=measurement.simulated or bool(self.station.simulated),
            board_start=self.board_start,
            board_end=self.station.board_state(),
            duration_ns=self.station.now_ns() - self.origin_ns,
        )
        return Seen(
            measurement,
            self.log,
            self.trace,
            first_call_ns=self.first_call_ns,
            load_ns=self.load_ns,
            memory=tuple(self.station.memory()),
            soak=to_json(self.soak) if self.soak else {},
            lost_ns=lost_ns,
            incomplete=incomplete,
            notes=tuple(self.notes),
            placements=self.placements,
            facts=self.facts,
        )

    # What runs beside the requests

    def now(self) -> int:
        """Since the origin of the launch."""
        return self.station.now_ns() - self.origin_ns

    def tick(self) -> None:
        """One frame of telemetry; what breaks ends the launch, from its own thread."""
        try:
            self.frames.add(self.station.read(self.origin_ns))
        except (OSError, ValueError, MemoryError) as error:
            self.broken = self.broken or f"the telemetry broke: {error!r}"

    def flush(self) -> None:
        try:
            with self.writing:  # a ticker that hangs on a disk may be left behind
                self.log.flush()
        except OSError as error:
            self.broken = self.broken or f"the samples could not be written: {error.strerror or error}"

    def last_flush(self) -> str:
        """Why the journal lacks rows; empty if it lacks none."""
        was, self.broken = self.broken, ""
        self.flush()
        broken, self.broken = self.broken, was
        return broken or was

    def duties(self, words: Callable[[], str]) -> None:
        """What is done once a second: ended from outside? broken? what to tell?"""
        if self.broken:
            raise _Ended(f"{self.broken}, after {so_many(len(self.log), 'request')}")
        if self.stop():
            raise _Ended(f"stopped after {so_many(len(self.log), 'request')}")
        self.say(words())

    # Calls

    def call(self, at: int, scheduled_ns: int, woke_ns: int, phase: Phase) -> int:
        """Serve one request of stream ``at`` now, whatever becomes of it; its row is kept. When it was done, in ns."""
        loaded = self.engines[at]
        status = Status.OK
        now, origin_ns = self.station.now_ns, self.origin_ns
        started_ns = now() - origin_ns
        try:
            loaded.engine.infer(loaded.calls)
            done_ns = now() - origin_ns
        except (DeviceLostError, MemoryError):
            self.log.add(at, scheduled_ns, woke_ns, started_ns, now() - origin_ns, phase, Status.FAILED)
            raise
        except loaded.error_types as error:
            done_ns, status = now() - origin_ns, Status.FAILED
            self.failures[f"{self.order.streams[at].case.model}: {type(error).__name__}: {error}"[:300]] += 1
        except BaseException:
            self.log.add(at, scheduled_ns, woke_ns, started_ns, now() - origin_ns, phase, Status.FAILED)
            raise
        loaded.calls += 1
        split = loaded.engine.split() if status is Status.OK else None
        if split is None:
            self.log.add(at, scheduled_ns, woke_ns, started_ns, done_ns, phase, status)
        else:
            self.log.add(at, scheduled_ns, woke_ns, started_ns, done_ns, phase, status, split)
        return done_ns

    def first_calls(self) -> None:
        """The first call of each engine: allocation, autotuning and lazy loading fall into it."""
        for at in self.distinct():
            begun = self.now()
            done = self.call(at, begun, begun, Phase.WARMUP)
            if self.log.last("status") == Status.OK:
                self.first_call_ns[self.order.streams[at].case.model] = done - begun

    def distinct(self) -> Iterator[int]:
        """The first stream of each engine."""
        seen: set[int] = set()
        for at, loaded in enumerate(self.engines):
            if id(loaded) not in seen:
                seen.add(id(loaded))
                yield at

    def warm_up(self) -> None:
        """``warmup_calls`` of each engine, one after the other; together no longer than a quarter of the measuring."""
        profile = self.order.profile
        until_ns = self.now() + round(profile.most_s * 1e9 / 4)
        said_ns = self.now()
        for count in range(profile.warmup_calls):
            for at in self.distinct():
                begun = self.now()
                if begun >= until_ns:
                    self.notes.append(f"warmed up with {count} calls of {profile.warmup_calls}: they are slow")
                    return
                if begun >= said_ns:
                    self.duties(lambda count=count: f"warm-up: {count} of {profile.warmup_calls} calls")  # type: ignore[misc]
                    said_ns = begun + _SECOND_NS
                self.call(at, begun, begun, Phase.WARMUP)


class _Loop:
    """What an open and a closed loop have in common: soak, then looks until the rule has enough."""

    def __init__(self, launch: _Launch) -> None:
        self.launch = launch
        self.profile: Profile = launch.order.profile
        judged = launch.order.streams[launch.order.judged]
        self.rule = rule_of(self.profile, judged.rate_hz, launch.order.budget_ns, launch.order.floor)
        self.looks = self.rule.looks()
        self.next_look: int | None = next(self.looks)
        self.count = 0
        self.next_duty_ns = 0
        self.begun_ns = launch.now()
        self.measuring_ns: int | None = None  # when measuring began
        self.soak = Soak(self.profile.soak, is_first=launch.order.is_first, period_s=launch.order.cycle_s)

    def duty(self, now_ns: int) -> None:
        """Once a second: the soak's state, what to tell, and whether to go on."""
        self.next_duty_ns = now_ns + _SECOND_NS
        if self.measuring_ns is None:
            self.soaked(now_ns)
        self.launch.duties(lambda: self.words(now_ns))

    def soaked(self, now_ns: int) -> None:
        self.launch.soak = self.soak.state(self.launch.trace, self.begun_ns, now_ns)
        if self.launch.soak.is_over:
            self.measuring_ns = now_ns

    def words(self, now_ns: int) -> str:
        if self.measuring_ns is None:
            return "soak: " + (self.launch.soak.words if self.launch.soak else "")
        left_s = max(0.0, self.profile.most_s - (now_ns - self.measuring_ns) / 1e9)
        wanted = f", looked at after {self.next_look}" if self.next_look is not None else ""
        return f"measuring {self.launch.judged_model}: {self.count} samples{wanted}; {left_s:.0f} s left at most"

    def is_due_a_look(self) -> bool:
        return self.next_look is not None and self.count >= self.next_look

    def has_enough(self) -> bool:
        """Take the look that is due: whether the launch may end. After the last look it does."""
        rows = self.judged_rows()
        while self.next_look is not None and self.count >= self.next_look:
            self.next_look = next(self.looks, None)
        return self.next_look is None or self.rule.is_enough(latencies_ns(rows, self.launch.is_open), missed(rows))

    def judged_rows(self) -> Mapping[str, Array]:
        return select(self.launch.log.columns(), stream=self.launch.order.judged)


class _ClosedLoop(_Loop):
    """One call after the other, streams in turn; each is due when the last one is done."""

    def run(self) -> None:
        launch, now, judged = self.launch, self.launch.now, self.launch.order.judged
        streams = range(len(launch.engines))
        most_ns, least_ns = round(self.profile.most_s * 1e9), round(self.profile.least_s * 1e9)
        self.soaked(self.begun_ns)  # without a soak the first request is measured
        while True:
            for at in streams:
                begun = now()
                if begun >= self.next_duty_ns:
                    self.duty(begun)
                    begun = now()
                if self.measuring_ns is None:
                    launch.call(at, begun, begun, Phase.SOAK)
                    continue
                measured_ns = begun - self.measuring_ns
                if measured_ns >= most_ns and self.count:
                    return
                if self.count * len(streams) >= MOST_ROWS:
                    launch.notes.append(
                        f"measuring ended after {measured_ns / 1e9:.0f} s of {self.profile.most_s:g} s, with {MOST_ROWS} rows: "
                        "more are not kept in memory. Give the model a rate (load = { rate_hz = ... })"
                    )
                    return
                if measured_ns >= least_ns and self.is_due_a_look():
                    if self.has_enough():
                        return
                    begun = now()
                launch.call(at, begun, begun, Phase.MEASURE)
                self.count += at == judged


class _OpenLoop(_Loop):
    """Requests at the flight's rates. A request is of the phase in which it was due."""

    def __init__(self, launch: _Launch) -> None:
        super().__init__(launch)
        count = len(launch.order.streams)
        self.drops = [stream.late == "drop" for stream in launch.order.streams]
        self.moment_ns = [-1] * count  # when the stream's last burst was due
        self.busy_ns = [-1] * count  # until when bursts before that one were served
        self.done_ns = [-1] * count
        self.moved_ns = 0
        self.look_late_ns: int | None = None
        self.next_doubt_ns = 0

    def run(self) -> None:
        launch, now, judged = self.launch, self.launch.now, self.launch.order.judged
        wait_until, origin_ns = launch.station.wait_until, launch.origin_ns
        most_ns = round(self.profile.most_s * 1e9)
        self.soaked(self.begun_ns)  # without a soak the first request is measured
        requests = schedule(launch.order.streams)
        for at, planned_ns in requests:
            due_ns = self.begun_ns + self.moved_ns + planned_ns
            if self.is_due_a_look() and self.may_look(due_ns):
                if self.has_enough():
                    return
                due_ns = self.move(due_ns, planned_ns)
            self.keep_duties(due_ns)
            measuring_ns = self.measuring_ns
            phase = Phase.SOAK if measuring_ns is None or due_ns < measuring_ns else Phase.MEASURE
            if measuring_ns is not None and due_ns - measuring_ns >= most_ns and self.count:
                return
            if self.is_dropped(at, due_ns, phase):
                launch.log.add(at, due_ns, due_ns, due_ns, due_ns, phase, Status.DROPPED)
            elif phase is Phase.MEASURE and now() - due_ns >= HOPELESS_NS and self.is_overloaded():
                self.give_up([(at, planned_ns)], requests)
                return
            else:
                wait_until(origin_ns + due_ns)
                self.done_ns[at] = launch.call(at, due_ns, now(), phase)
            if at == judged and phase is Phase.MEASURE:
                self.count += 1

    def keep_duties(self, due_ns: int) -> None:
        """The duties of each second until ``due_ns``, right after a call or long before the next, so that none is late."""
        if (begun := self.launch.now()) >= self.next_duty_ns:
            self.duty(begun)
        while due_ns - self.next_duty_ns > _DUTY_NS:
            self.launch.station.wait_until(self.launch.origin_ns + self.next_duty_ns)
            self.duty(self.launch.now())

    def may_look(self, due_ns: int) -> bool:
        """Whether nothing is due, or has not been for too long."""
        now_ns = self.launch.now()
        if now_ns < due_ns:
            self.look_late_ns = None
            return True
        if self.look_late_ns is None:
            self.look_late_ns = now_ns
        return now_ns - self.look_late_ns >= _LOOK_LATER_NS

    def move(self, due_ns: int, planned_ns: int) -> int:
        """After a look: what was not due when it began is due later by as long as it is late now. The new due time."""
        if self.look_late_ns is None:
            self.moved_ns += max(0, self.launch.now() - due_ns)
        self.look_late_ns = None
        return self.begun_ns + self.moved_ns + planned_ns

    def is_overloaded(self) -> bool:
        """Whether more is asked for than there is time: a single stall, however long, is caught up with. Once a second."""
        now_ns = self.launch.now()
        if now_ns < self.next_doubt_ns:
            return False
        self.next_doubt_ns = now_ns + _SECOND_NS
        shares = utilisation(select(self.launch.log.columns()), self.launch.order.streams)
        return sum(share or 0.0 for share in shares) >= 1.0

    def give_up(self, *requests: Iterable[tuple[int, int]]) -> None:
        """What is due by now can never be served in time: each gets its row, as dropped."""
        now_ns, left, waited_ns = self.launch.now(), 0, 0
        for at, planned_ns in itertools.chain(*requests):
            due_ns = self.begun_ns + self.moved_ns + planned_ns
            if due_ns >= now_ns:
                break
            self.launch.log.add(at, due_ns, due_ns, due_ns, due_ns, Phase.MEASURE, Status.DROPPED)
            left, waited_ns = left + 1, max(waited_ns, now_ns - due_ns)
        self.launch.notes.append(
            f"overload: measuring ended when a request had waited for {waited_ns / 1e9:.0f} s; the {left} that were due by then "
            "were never served, and count as dropped"
        )

    def is_dropped(self, at: int, due_ns: int, phase: Phase) -> bool:
        """By the stream's own rule, or because the soak's queue is not served while measuring has begun.

        One thread serves requests in order, so when it comes to this one it is known until when the stream was busy.
        """
        if due_ns != self.moment_ns[at]:
            self.moment_ns[at], self.busy_ns[at] = due_ns, self.done_ns[at]
        if self.drops[at] and self.busy_ns[at] > due_ns:
            return True
        if phase is Phase.MEASURE:
            return False
        return self.launch.now() - due_ns > (_CAUGHT_UP_NS if self.measuring_ns is not None else HOPELESS_NS)


class FrameKeeper:
    """Puts frames into a trace so that an hour of ten a second holds megabytes, not a hundred.

    Names and reasons are the same from frame to frame, so they are kept once; values lie in an array each.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._places: dict[str, int] = {}
        self._missing: Mapping[str, str] = {}

    def add(self, frame: Frame) -> None:
        if isinstance(frame.values, Values):  # this machine's instruments do the same
            self.trace.add(frame)
            return
        if tuple(frame.values) != tuple(self._places):
            self._places = {name: at for at, name in enumerate(frame.values)}
        if frame.missing != self._missing:
            self._missing = dict(frame.missing)
        values = Values(self._places, array("d", frame.values.values()))
        self.trace.add(replace(frame, values=values, missing=self._missing))


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """What is alive now is not looked through again by the garbage collector while this lasts: that would be a stall.

    And the thread that reads the instruments gives way in a fifth of a millisecond, not in five.
    """
    interval_s = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)
        gc.unfreeze()
