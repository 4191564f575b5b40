"""The fault matrix (T0-05): every call of a life fails in turn, with each error that its API documents, once and for ever.

A life is recorded first. Each pair (a call of it, an error) then gets a world of its own and the same life with this one
fault in it, which must end in the exact error with the failing call's name, leave everything as it was before the step
that failed, and let the next call work. SQLite tests its memory and its disk so (methods C1). What a life is made of, and
what is expected of it, is in ``harness.faults.lives``.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from harness.fakes.faults import Fault, FaultPlan
from runtime.errors import DeviceLostError
from runtime.logs import Kind, Record

__all__ = [
    "Expected",
    "FaultReport",
    "Life",
    "LifeError",
    "Pair",
    "Recorded",
    "Site",
    "World",
    "many_worlds",
    "pairs",
    "record",
    "run_life",
    "try_pair",
]

IN_WORK = " in its work"
"""Behind an error's name: the call itself succeeds, and what it enqueued fails when it runs."""


@dataclass(frozen=True)
class Site:
    """One recorded call: the ``number``-th of ``api`` in its life, counted from 1, made in ``step``."""

    step: str
    api: str
    number: int

    @property
    def phase(self) -> str:
        """The first word of the step: ``infer`` of ``infer 2``."""
        return self.step.partition(" ")[0]


@dataclass(frozen=True)
class Pair:
    """One call and one error. Its text is its name: ``load: cuMemAlloc #3 CUDA_ERROR_OUT_OF_MEMORY once``."""

    site: Site
    error: str
    forever: bool

    def __str__(self) -> str:
        often = "for ever" if self.forever else "once"
        return f"{self.site.step}: {self.site.api} #{self.site.number} {self.error} {often}"

    @property
    def fault(self) -> Fault:
        in_work = self.error.endswith(IN_WORK)
        return Fault(self.site.api, self.error.removesuffix(IN_WORK), self.site.number - 1, self.forever, in_work)


@dataclass(frozen=True)
class Expected:
    """What a fault must lead to in its step.

    ``error``: exactly this type, or ``None`` where the step goes on. ``words``: all of them stand in the error's text,
    or, where the step goes on, in what was logged under ``log``: exactly one record of that kind; of ``a|b`` either.
    ``is_lost``: from then on every call raises ``DeviceLostError``. ``may_stay``: each call that failed was to free
    something, which may stay. ``is_done``: the step fails, but its effect stands, as documented. ``differs``: the steps that
    give something else than without a fault, because another way was taken on purpose.
    """

    error: type[BaseException] | None = None
    words: tuple[str, ...] = ()
    log: Kind | None = None
    is_lost: bool = False
    may_stay: bool = False
    is_done: bool = False
    differs: tuple[str, ...] = ()


class World(Protocol):
    """What one life needs, made anew for each pair: a device, files, and the runtime on them.

    ``plan``: what goes wrong. ``calls``: the APIs that were called, so far. ``logged``: what was, from WARN on.
    ``steps``: the life, in its order; what a step gives can be compared. ``after_loss``: calls beside the steps which
    must raise ``DeviceLostError`` once the device is lost. ``silent``: the steps that raise nothing even then.
    ``is_possible``: whether a step can be tried now, as one that needs a handle cannot before there is one.
    """

    plan: FaultPlan
    logged: list[Record]
    steps: Mapping[str, Callable[[], object]]
    after_loss: Mapping[str, Callable[[], object]]
    silent: frozenset[str]

    def calls(self) -> Sequence[str]: ...

    def touches(self) -> Sequence[str]:
        """The calls so far that need the device."""
        ...

    def state(self) -> Mapping[str, object]:
        """Everything that a failed step must leave as it was: memory, handles, files, descriptors. What a lost device holds
        is left out.
        """
        ...

    def is_possible(self, step: str) -> bool: ...

    def left(self) -> Sequence[str]:
        """What is left after the last step that should not be, one line for each thing."""
        ...

    def end(self) -> Sequence[str]:
        """Let everything go; what does not go."""
        ...

    def complaints(self) -> Sequence[str]:
        """What the device saw that is wrong whatever happened: violations."""
        ...


@dataclass(frozen=True)
class Life:
    """``make``: a fresh world. ``errors``: what an API documents. ``expect``: what a pair must lead to."""

    label: str
    make: Callable[[], AbstractContextManager[World]]
    errors: Callable[[str], Sequence[str]]
    expect: Callable[[Pair], Expected]


@dataclass(frozen=True)
class FaultReport:
    """``sites``: the recorded calls. ``ran``: how many pairs ran of each of them. ``failures``: each pair that failed, with
    what was seen.
    """

    sites: tuple[Site, ...] = ()
    ran: Mapping[Site, int] = field(default_factory=dict)
    failures: tuple[tuple[Pair, str], ...] = ()

    @property
    def pairs_run(self) -> int:
        return sum(self.ran.values())

    @property
    def by_api(self) -> dict[str, int]:
        """Pairs that ran, the most first."""
        counts: Counter[str] = Counter()
        for site, count in self.ran.items():
            counts[site.api] += count
        return dict(counts.most_common())

    def __add__(self, other: FaultReport) -> FaultReport:
        ran = Counter(self.ran) + Counter(other.ran)
        return FaultReport(self.sites + other.sites, ran, self.failures + other.failures)


class LifeError(Exception):
    """A life without any fault does not go well: there is nothing to plant faults in."""


@dataclass(frozen=True)
class Recorded:
    """A life without faults: its calls, and what each step gave."""

    sites: tuple[Site, ...]
    results: Mapping[str, object]


def record(life: Life) -> Recorded:
    """Live it once without a fault. Raises ``LifeError`` where that does not go well."""
    sites: list[Site] = []
    numbers: Counter[str] = Counter()
    results: dict[str, object] = {}
    with life.make() as world:
        for name, step in world.steps.items():
            before = len(world.calls())
            try:
                results[name] = step()
            except Exception as error:
                raise LifeError(f"{life.label}, {name}, without any fault: {_told(error)}") from error
            for api in world.calls()[before:]:
                numbers[api] += 1
                sites.append(Site(name, api, numbers[api]))
        left = [*world.left(), *world.end(), *world.complaints()]
        if left:
            raise LifeError(f"{life.label}, without any fault, leaves behind: {'; '.join(left)}")
    return Recorded(tuple(sites), results)


def pairs(life: Life, sites: Sequence[Site]) -> Iterator[Pair]:
    """Every call times every documented error, once and for ever."""
    for site in sites:
        for error in life.errors(site.api):
            for forever in (False, True):
                yield Pair(site, error, forever)


def run_life(life: Life, *, only: Callable[[Pair], bool] = lambda pair: True, most: int | None = None) -> FaultReport:
    """The matrix of one life. ``only``: which pairs. ``most``: stop after so many that failed."""
    ran: Counter[Site] = Counter()
    with many_worlds():
        recorded = record(life)
        failures = _failures(life, recorded, only, ran)
        found = tuple(failures if most is None else islice(failures, most))
    return FaultReport(recorded.sites, dict(ran), found)


@contextmanager
def many_worlds() -> Iterator[None]:
    """Around worlds, each of which is collected when it ends, so that nothing of it reaches into the next; what was there
    before is left out of that, or it would take most of the time.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _failures(
    life: Life, recorded: Recorded, only: Callable[[Pair], bool], ran: Counter[Site]
) -> Iterator[tuple[Pair, str]]:
    for pair in filter(only, pairs(life, recorded.sites)):
        ran[pair.site] += 1
        if seen := try_pair(life, pair, recorded):
            yield pair, "; ".join(seen)


def try_pair(life: Life, pair: Pair, recorded: Recorded) -> list[str]:
    """Live it with this one fault; what was wrong, in words."""
    with life.make() as world:
        world.plan.add(pair.fault)
        trial = _Trial(world, pair, life.expect(pair), recorded)
        trial.live()
        return trial.seen


@dataclass
class _Trial:
    world: World
    pair: Pair
    expected: Expected
    recorded: Recorded
    seen: list[str] = field(default_factory=list)
    kept: list[BaseException] = field(default_factory=list)

    def live(self) -> None:
        """Step by step; the fault strikes in one of them, and the life goes on as if nothing had been."""
        lost = False
        for name in self.world.steps:
            if name == self.pair.site.step:
                self._struck(name)
                lost = self.expected.is_lost
            elif lost:
                self._refused(name)
            else:
                self._usual(name)
            if self.seen:
                break  # what follows from it would hide it
        else:
            if lost:
                for name, call in self.world.after_loss.items():
                    self._raises_lost(name, call)
        left = list(self.world.left())
        self.kept.clear()
        left += self.world.end()
        if len(left) > self._tolerated() and not self.seen:
            self.seen.append(f"left behind at the end: {'; '.join(left)}")
        self.seen += self.world.complaints()

    def _tolerated(self) -> int:
        return len(self.world.plan.fired) if self.expected.may_stay else 0

    def _usual(self, name: str, when: str = "") -> None:
        try:
            result = self.world.steps[name]()
        except Exception as error:
            self.seen.append(f"{name}{when} fails: {_told(error)}")
            return
        self._compare(result, name, f"{name}{when}")

    def _compare(self, result: object, name: str, what: str) -> None:
        if name not in self.expected.differs and result != self.recorded.results[name]:
            self.seen.append(f"{what} gives another result than without a fault: {_short(result)}")

    def _struck(self, name: str) -> None:
        world, expected = self.world, self.expected
        before, logged = world.state(), len(world.logged)
        error, result = self._attempt(name)
        if not world.plan.fired:
            self.seen.append("the fault was never reached")
            return
        self._judge(error, result, world.logged[logged:])
        if self.seen or expected.error is None:
            return
        self._unchanged(before, name)
        if expected.is_lost or self.seen:
            return
        if self.pair.forever and not expected.is_done:
            again, result = self._attempt(name)
            if again is None or type(again) is not type(error):
                self.seen.append(f"{name} again, with the fault still there: {_told(again)}")
            self._unchanged(before, f"{name} again")
        world.plan.faults.clear()
        self._usual(name, ", once the fault is over,")

    def _attempt(self, name: str) -> tuple[BaseException | None, object]:
        try:
            return None, self.world.steps[name]()
        except Exception as error:
            self.kept.append(error)  # as a consumer may: its traceback must hold nothing
            return error, None

    def _judge(self, error: BaseException | None, result: object, logged: Sequence[Record]) -> None:
        expected = self.expected
        if expected.error is not None:
            if type(error) is not expected.error:
                self.seen.append(f"expected {expected.error.__name__}, came {_told(error)}")
                return
            if missing := _missing(expected.words, str(error)):
                self.seen.append(f"the error does not name {', '.join(map(repr, missing))}: {_told(error)}")
            return
        if error is not None:
            self.seen.append(f"expected no error, came {_told(error)}")
            return
        self._compare(result, self.pair.site.step, "it")
        if expected.log is not None:
            told = [record for record in logged if record.kind is expected.log]
            text = " ".join(str(dict(record.fields)) for record in told)
            if len(told) != 1 or _missing(expected.words, text):
                self.seen.append(
                    f"{len(told)} records of {expected.log.value}, expected 1 with {expected.words}: {text}"
                )

    def _unchanged(self, before: Mapping[str, object], when: str) -> None:
        if self.expected.is_done:
            return
        after = self.world.state()
        for what, now in after.items():
            if now != before[what]:
                self.seen.append(f"after {when} failed, {what} is {_short(now)}, before it was {_short(before[what])}")

    def _refused(self, name: str) -> None:
        """A step after the device was lost."""
        if not self.world.is_possible(name):
            return
        if name not in self.world.silent:
            self._raises_lost(name, self.world.steps[name])
            return
        before = len(self.world.touches())
        error, _ = self._attempt(name)
        if error is not None:
            self.seen.append(f"{name} on a lost device raises {_told(error)}")
        self._untouched(before, name)

    def _raises_lost(self, name: str, call: Callable[[], object]) -> None:
        before = len(self.world.touches())
        try:
            call()
        except DeviceLostError:
            pass
        except Exception as error:
            self.seen.append(f"{name} on a lost device raises {_told(error)}")
        else:
            self.seen.append(f"{name} on a lost device raises nothing")
        self._untouched(before, name)

    def _untouched(self, before: int, name: str) -> None:
        if more := self.world.touches()[before:]:
            self.seen.append(f"{name} touches a lost device: {', '.join(more)}")


def _missing(words: Sequence[str], text: str) -> list[str]:
    return [word for word in words if not any(either in text for either in word.split("|"))]


def _told(error: Any) -> str:
    return "nothing" if error is None else f"{type(error).__name__}: {error}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 300 else text[:297] + "…"
