"""The matrix finds, by name, each way in which a runtime can meet a fault badly; a runtime that meets all of them is let be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from harness.fakes.faults import FaultPlan
from harness.faults.matrix import (
    Expected,
    FaultReport,
    Life,
    LifeError,
    Pair,
    Site,
    World,
    pairs,
    record,
    run_life,
    try_pair,
)
from runtime.errors import DeviceLostError, EngineDeserializeError, InferenceError, OutOfMemoryError
from runtime.logs import Kind, Level, Record

BREAKS = {
    "": "",
    "leaks": "after load failed, what is allocated is",
    "tells another error": "expected EngineDeserializeError, came ValueError: take",
    "does not name the call": "the error does not name 'take'",
    "swallows the fault": "expected InferenceError, came nothing",
    "does not set back": "after load failed, the handles are",
    "stays broken": "infer 1, once the fault is over, fails: InferenceError: run",
    "gives wrong results afterwards": "infer 2 gives another result than without a fault",
    "forgets that the device is lost": "infer 1 touches a lost device: run",
    "touches a lost device": "release touches a lost device: give",
    "says on a lost device that all is well": "load again on a lost device raises nothing",
    "raises in release": "expected no error, came ValueError: give",
    "does not log a failed release": "0 records of c7.release_failed, expected 1",
    "frees nothing more after a fault": "left behind at the end: block 1; block 2",
    "leaks through the error that is kept": "left behind at the end: weights of an error",
    "holds itself": "left behind at the end: the runtime itself",
    "does another fault's harm the second time": "load again, with the fault still there: ValueError: the second time",
    "damages memory": "an overrun",
}
"""What a toy does wrong, and what the matrix says of it."""


class Toy:
    """A device, a runtime and a consumer in one: ``load`` takes two blocks, ``infer`` runs, ``release`` gives them back."""

    silent = frozenset({"release"})

    def __init__(self, does: str = "") -> None:
        self.does = does
        self.plan = FaultPlan()
        self.logged: list[Record] = []
        self.said: list[str] = []
        self.blocks: list[int] = []
        self.handles = 0
        self.lost = ""
        self.failed = 0
        self.broken: list[str] = []
        self.steps: Mapping[str, Callable[[], object]] = {
            "load": self.load,
            "infer 1": partial(self.infer, 1),
            "infer 2": partial(self.infer, 2),
            "release": self.release,
        }
        self.after_loss: Mapping[str, Callable[[], object]] = {"load again": self.load}

    def call(self, api: str) -> None:
        self.said.append(api)
        if fault := self.plan.next(api):
            raise MemoryError(api) if fault.error == "MEMORY" else KeyError(api, fault.error)

    def fail(self, error: Exception, kind: type[Exception]) -> Exception:
        self.failed += 1
        api = error.args[0]
        if error.args[1:] == ("LOST",):
            if self.does != "forgets that the device is lost":
                self.lost = api
            return DeviceLostError(api)
        if isinstance(error, MemoryError):
            return OutOfMemoryError(api)
        if self.does == "tells another error" and api == "take":
            return ValueError(api)
        if self.does == "does another fault's harm the second time" and self.failed > 1:
            return ValueError("the second time")
        return kind("it failed" if self.does == "does not name the call" else api)

    def refuse_if_lost(self) -> None:
        if self.lost:
            raise DeviceLostError(self.lost)

    def load(self) -> object:
        if self.does == "says on a lost device that all is well" and self.lost:
            return 2
        self.refuse_if_lost()
        taken: list[int] = []
        self.handles += self.does == "does not set back"
        try:
            for block in (1, 2):
                self.call("take")
                taken.append(block)
            self.call("copy")
        except (KeyError, MemoryError) as error:
            if self.does == "leaks":
                self.blocks += taken
            raise self.fail(error, EngineDeserializeError) from error
        self.blocks += taken
        self.handles += self.does != "does not set back"
        return len(self.blocks)

    def infer(self, at: int) -> object:
        self.refuse_if_lost()
        try:
            if self.does == "stays broken" and self.failed:
                raise KeyError("run")
            self.call("run")
        except (KeyError, MemoryError) as error:
            if self.does == "swallows the fault":
                return at
            raise self.fail(error, InferenceError) from error
        wrong = self.does == "gives wrong results afterwards" and self.failed and at == 2
        return -at if wrong else at

    def release(self) -> object:
        self.handles = 0
        if self.lost and self.does != "touches a lost device":
            self.blocks.clear()
        for block in list(self.blocks):
            try:
                self.call("give")
                self.blocks.remove(block)
            except (KeyError, MemoryError) as error:
                if error.args[1:] == ("LOST",):
                    self.lost = "give"
                if self.does == "raises in release":
                    raise ValueError("give") from error
                if self.does != "does not log a failed release" and not self.logged:
                    self.logged.append(Record(Kind.RELEASE_FAILED, Level.ERROR, 0, {"message": "give"}))
                if self.does == "frees nothing more after a fault":
                    break
        return self.handles

    def calls(self) -> Sequence[str]:
        return self.said

    touches = calls

    def is_possible(self, step: str) -> bool:
        return step != "infer" or bool(self.handles)

    def state(self) -> Mapping[str, object]:
        return {"what is allocated": list(self.blocks), "the handles are": self.handles}

    def complaints(self) -> Sequence[str]:
        return ["an overrun"] if self.does == "damages memory" and self.failed else []

    def left(self) -> Sequence[str]:
        kept = ["weights of an error"] if self.does == "leaks through the error that is kept" and self.failed else []
        return kept if self.lost else [*(f"block {block}" for block in self.blocks), *kept]

    def end(self) -> Sequence[str]:
        return ["the runtime itself"] if self.does == "holds itself" and self.failed else []


DOCUMENTED = {
    "take": ("MEMORY", "LOST", "OTHER"),
    "copy": ("OTHER",),
    "run": ("LOST", "OTHER"),
    "give": ("LOST", "OTHER"),
}


def expect(pair: Pair) -> Expected:
    api, error = pair.site.api, pair.error
    if pair.site.phase == "release":
        return Expected(log=Kind.RELEASE_FAILED, words=("give",), is_lost=error == "LOST", may_stay=True)
    if error == "LOST":
        return Expected(DeviceLostError, (api,), is_lost=True)
    if error == "MEMORY":
        return Expected(OutOfMemoryError, (api,))
    return Expected(EngineDeserializeError if pair.site.phase == "load" else InferenceError, (api,))


def life(does: str = "", expected: Callable[[Pair], Expected] = expect) -> Life:
    @contextmanager
    def make() -> Iterator[World]:
        yield Toy(does)

    return Life("toy", make, DOCUMENTED.__getitem__, expected)


def seen_by(report: FaultReport) -> str:
    return "\n".join(f"{pair} -> {seen}" for pair, seen in report.failures)


@pytest.mark.covers("T0-05")
def test_pairs_are_the_recorded_calls_times_the_documented_errors_once_and_for_ever() -> None:
    recorded = record(life())
    assert recorded.sites == (
        Site("load", "take", 1),
        Site("load", "take", 2),
        Site("load", "copy", 1),
        Site("infer 1", "run", 1),
        Site("infer 2", "run", 2),
        Site("release", "give", 1),
        Site("release", "give", 2),
    )
    named = list(map(str, pairs(life(), recorded.sites)))
    assert len(named) == len(set(named)) == 2 * sum(len(DOCUMENTED[site.api]) for site in recorded.sites) == 30
    assert named[:2] == ["load: take #1 MEMORY once", "load: take #1 MEMORY for ever"]
    report = run_life(life())
    assert report.failures == ()
    assert report.pairs_run == 30
    assert report.by_api == {"take": 12, "run": 8, "give": 8, "copy": 2}
    twice = report + report
    assert (twice.pairs_run, len(twice.sites)) == (60, 14)


@pytest.mark.covers("T0-05", "RT-07", "RT-09", "RT-10")
@pytest.mark.parametrize("does", BREAKS)
def test_each_planted_break_is_found_with_the_name_of_a_pair(does: str) -> None:
    told = seen_by(run_life(life(does)))
    if not does:
        assert told == ""
    else:
        assert BREAKS[does] in told
        assert told.partition(" -> ")[0] in map(str, pairs(life(), record(life()).sites))


@pytest.mark.covers("T0-05")
def test_a_leak_is_told_by_the_call_that_failed_and_not_by_those_after_it() -> None:
    report = run_life(life("leaks"))
    assert [str(pair) for pair, _ in report.failures] == [
        f"load: {api} #{number} {error} {often}"
        for api, number, errors in (("take", 2, ("MEMORY", "LOST", "OTHER")), ("copy", 1, ("OTHER",)))
        for error in errors
        for often in ("once", "for ever")
    ]


@pytest.mark.covers("T0-05")
def test_what_is_expected_is_exact() -> None:
    recorded = record(life())
    load = Pair(Site("load", "take", 1), "OTHER", forever=False)

    def seen(expected: Expected) -> str:
        return "; ".join(try_pair(life(expected=lambda pair: expected), load, recorded))

    assert seen(Expected(EngineDeserializeError, ("take",))) == ""
    assert seen(Expected(EngineDeserializeError, ("give|take",))) == ""
    assert "expected Exception, came EngineDeserializeError" in seen(Expected(Exception))
    assert "expected no error, came EngineDeserializeError" in seen(Expected())
    give = Pair(Site("release", "give", 1), "OTHER", forever=False)

    def released(**more: Any) -> str:
        found = Expected(**{"log": Kind.RELEASE_FAILED, "words": ("give",), "may_stay": True, **more})
        return "; ".join(try_pair(life(expected=lambda pair: found), give, recorded))

    assert released() == ""
    assert "left behind at the end: block 1" in released(may_stay=False)
    assert "1 records of c7.release_failed, expected 1 with ('take',)" in released(words=("take",))
    assert "0 records of c7.build_failed" in released(log=Kind.BUILD_FAILED)


@pytest.mark.covers("T0-05")
def test_a_fault_that_is_never_reached_is_no_pass() -> None:
    recorded = record(life())
    for site in (Site("load", "take", 99), Site("infer 1", "take", 1)):
        assert try_pair(life(), Pair(site, "OTHER", forever=False), recorded)


@pytest.mark.covers("T0-05")
def test_a_life_that_fails_without_a_fault_is_told_as_that() -> None:
    @contextmanager
    def make() -> Iterator[World]:
        toy = Toy("raises in release")
        toy.steps = {"load": toy.load}
        yield toy

    with pytest.raises(LifeError, match="toy, without any fault, leaves behind: block 1; block 2"):
        run_life(Life("toy", make, DOCUMENTED.__getitem__, expect))

    @contextmanager
    def broken() -> Iterator[World]:
        toy = Toy()
        toy.lost = "already"
        yield toy

    with pytest.raises(LifeError, match="toy, load, without any fault: DeviceLostError: already"):
        run_life(Life("toy", broken, DOCUMENTED.__getitem__, expect))


def test_a_matrix_can_be_cut_short_and_thinned() -> None:
    assert len(run_life(life("leaks"), most=1).failures) == 1
    thin = run_life(life(), only=lambda pair: pair.site.api == "run" and not pair.forever)
    assert thin.by_api == {"run": 4}
