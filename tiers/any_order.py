"""The last clause: hypothesis makes up orders of calls, and beside them a model of what must hold (T0-01).

Its steps are fixed by derandomisation, so that a run finds what the run before found, and gives the shortest order that shows
it. Needs ``hypothesis`` (the extra ``sim``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, reporting, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RULE_MARKER,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from runtime.data import EngineHandle, ThermalState
from runtime.errors import EngineBuildError, EngineDeserializeError, InferenceError
from runtime.protocol import Array
from tiers.clause import (
    HARMS,
    ClauseBroken,
    Subject,
    copied,
    damaged,
    mistakes,
    must,
    refused,
    right,
    together,
    unlike,
)

__all__ = ["hold_in_any_order"]

MOST_HANDLES = 3
_QUICK_S = 0.5
_LOADING_S, _LOADS = 30.0, 8
"""How long all loads together may take, and about how many of them there are in one example."""


@dataclass
class Kept:
    """A result that the consumer keeps, and what was in it when it came."""

    outputs: dict[str, Array]
    then: dict[str, Array]


class AnyOrder(RuleBasedStateMachine):
    """One runtime and its consumer. The model: which handles live, which are dead, which results were kept."""

    subject: Subject
    builds_quickly: bool

    def __init__(self) -> None:
        super().__init__()
        self.runtime = self.subject.make()
        self.living: list[EngineHandle] = []
        self.dead: list[EngineHandle] = []
        self.kept: list[Kept] = []
        self.empty_bytes = self.subject.resident_bytes(self.runtime)
        self.one_bytes = 0

    def _result(self, at: int, outputs: dict[str, Array], when: str) -> None:
        right(self.subject, at, outputs, when)
        self.kept = [*self.kept[-4:], Kept(outputs, copied(outputs))]

    @precondition(lambda self: self.builds_quickly)
    @rule()
    def compile_again(self) -> None:
        entry = self.runtime.compile_engine(self.subject.another_model(), self.subject.build)
        must(entry.precision == self.subject.entry.precision, "compiled again, the entry has another precision")

    @precondition(lambda self: len(self.living) < MOST_HANDLES)
    @rule()
    def load(self) -> None:
        before = self.subject.resident_bytes(self.runtime)
        self.living.append(self.runtime.deserialize_engine(self.subject.entry))
        if before is not None and not self.one_bytes:
            self.one_bytes = (self.subject.resident_bytes(self.runtime) or 0) - before

    @rule(harm=st.sampled_from(sorted(HARMS)))
    def load_what_is_none(self, harm: str) -> None:
        with damaged(self.subject, HARMS[harm]) as entry:
            refused(EngineDeserializeError, f"an engine that {harm}", self.runtime.deserialize_engine, entry)

    @rule()
    def compile_what_is_none(self) -> None:
        nowhere = self.subject.folder / "nowhere" / self.subject.model.name
        refused(EngineBuildError, "no model", self.runtime.compile_engine, nowhere, self.subject.build)

    @precondition(lambda self: self.living)
    @rule(which=st.integers(0, MOST_HANDLES - 1), feed=st.integers(0, 3), into=st.booleans())
    def infer(self, which: int, feed: int, into: bool) -> None:
        at = feed % len(self.subject.feeds)
        out = {name: np.zeros_like(array) for name, array in self.subject.expected[at].items()} if into else None
        handle = self.living[which % len(self.living)]
        inputs = copied(self.subject.feeds[at])
        self._result(at, self.runtime.infer(handle, inputs, out=out), "in some order of calls")
        must(not unlike(self.subject.feeds[at], inputs), "inputs were changed")

    @precondition(lambda self: self.living)
    @rule(which=st.integers(0, MOST_HANDLES - 1), mistake=st.integers(0, 31))
    def infer_wrongly(self, which: int, mistake: int) -> None:
        wrong = list(mistakes(self.subject.feeds[0]))
        what, _, inputs = wrong[mistake % len(wrong)]
        handle = self.living[which % len(self.living)]
        refused(InferenceError, what, self.runtime.infer, handle, inputs)

    @precondition(lambda self: self.living)
    @rule(feeds=st.lists(st.integers(0, 3), min_size=2, max_size=3))
    def infer_together(self, feeds: list[int]) -> None:
        numbers = [feed % len(self.subject.feeds) for feed in feeds]
        handles = [self.living[at % len(self.living)] for at in range(len(numbers))]
        calls = [
            partial(self.runtime.infer, handle, self.subject.feeds[at])
            for handle, at in zip(handles, numbers, strict=True)
        ]
        for at, result in zip(numbers, together(calls), strict=True):
            if isinstance(result, InferenceError) and len(set(map(id, handles))) < len(handles):
                continue  # who shares a handle may be refused
            if isinstance(result, Exception):
                raise result
            self._result(at, result, "beside other threads")

    @precondition(lambda self: self.dead)
    @rule()
    def use_what_is_gone(self) -> None:
        gone = self.dead[-1]
        refused(InferenceError, "a released handle", self.runtime.infer, gone, self.subject.feeds[0])
        self.runtime.release_engine(gone)

    @precondition(lambda self: self.living)
    @rule(which=st.integers(0, MOST_HANDLES - 1))
    def release(self, which: int) -> None:
        handle = self.living.pop(which % len(self.living))
        self.runtime.release_engine(handle)
        must(handle.released, "a handle that was released does not say so")
        self.dead.append(handle)

    @invariant()
    def bytes_are_those_of_the_living(self) -> None:
        now = self.subject.resident_bytes(self.runtime)
        if now is None or self.empty_bytes is None:
            return
        want = self.empty_bytes + len(self.living) * self.one_bytes
        must(now == want, f"{now} bytes are resident with {len(self.living)} engines; expected {want}")

    @invariant()
    def what_was_given_stays(self) -> None:
        for kept in self.kept:
            must(not unlike(kept.then, kept.outputs), "a result that was kept was changed by a later call")
        must(not any(handle.released for handle in self.living), "a living handle says that it is released")

    @invariant()
    def heat_is_answered(self) -> None:
        must(isinstance(self.runtime.thermal_state(), ThermalState), "thermal_state gave no ThermalState")

    def teardown(self) -> None:
        """Whatever was found, nothing stays loaded."""
        for handle in self.living:
            with contextlib.suppress(Exception):
                self.runtime.release_engine(handle)
        self.living.clear()


def hold_in_any_order(
    subject: Subject, *, examples: int = 12, steps: int = 20, clock: Callable[[], float] = time.perf_counter
) -> None:
    """Raises ``ClauseBroken`` with what was seen and the shortest order of calls that shows it.

    A runtime that builds or loads slowly, as real ones on a board do, is not asked to build, and gets fewer examples.
    """
    runtime = subject.make()
    begun_s = clock()
    runtime.compile_engine(subject.another_model(), subject.build)
    built_s = clock()
    runtime.release_engine(runtime.deserialize_engine(subject.entry))
    load_s = clock() - built_s
    examples = max(2, min(examples, int(_LOADING_S / (_LOADS * load_s))))
    machine = type("AnyOrder", (AnyOrder,), {"subject": subject, "builds_quickly": built_s - begun_s < _QUICK_S})
    told: list[str] = []
    bounded = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        print_blob=False,
        verbosity=Verbosity.normal,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    with reporting.with_reporter(lambda text: told.append(str(text))):  # never to standard output
        try:
            run_state_machine_as_test(machine, settings=bounded)
        except Exception as error:
            steps_taken = _steps(error, told)
            raise ClauseBroken(f"{error or type(error).__name__}; after {steps_taken}") from error


def _steps(error: BaseException, told: list[str]) -> str:
    """The calls of the shortest order, ``load(), infer(which=0, feed=1, into=False)``."""
    lines = [line.strip() for text in (*told, *getattr(error, "__notes__", ())) for line in text.splitlines()]
    rules = {name for name, value in vars(AnyOrder).items() if hasattr(value, RULE_MARKER)}
    calls = [line.partition("state.")[2] for line in lines if "state." in line]
    return ", ".join(call for call in calls if call.partition("(")[0] in rules) or "no call"
