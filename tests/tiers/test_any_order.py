"""The machine behind the last clause: the same orders each time, fewer of them where calls are slow."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from runtime import BuildConfig, EngineCacheEntry, EngineHandle
from tests.tiers.breakers import BREAKERS
from tests.tiers.plain import PlainRuntime
from tests.tiers.test_contract import subject
from tiers.any_order import hold_in_any_order
from tiers.contract import ClauseBroken


class Watched(PlainRuntime):
    calls: list[str]

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        self.calls.append("compile")
        return super().compile_engine(model_path, build_config)

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        self.calls.append("load")
        return super().deserialize_engine(entry)

    def infer(self, handle: EngineHandle, inputs: Any, *, out: Any = None) -> Any:
        self.calls.append("infer")
        return super().infer(handle, inputs, out=out)

    def release_engine(self, handle: EngineHandle) -> None:
        self.calls.append("release")
        super().release_engine(handle)


def watched(folder: Path, *, step_s: float) -> list[str]:
    """The calls of one run, under a clock that goes on by ``step_s`` each time it is read."""
    calls: list[str] = []
    runtime = type("Watched", (Watched,), {"calls": calls})
    ticks = count()
    hold_in_any_order(subject(folder, runtime), clock=lambda: next(ticks) * step_s)
    return calls


@pytest.mark.covers("T0-01")
def test_the_same_orders_come_each_time_and_hold_every_kind_of_call(tmp_path: Path) -> None:
    first, second = watched(tmp_path, step_s=0.0001), watched(tmp_path, step_s=0.0001)
    assert first == second
    assert min(first.count(name) for name in ("compile", "load", "infer", "release")) > 5


def test_a_slow_runtime_is_not_asked_to_build_and_gets_fewer_examples(tmp_path: Path) -> None:
    quick, slow = watched(tmp_path, step_s=0.0001), watched(tmp_path, step_s=2.0)
    nowhere = slow.count("compile") - 2  # one to see how long it takes, one for the entry; the rest have no model
    assert nowhere < quick.count("compile")
    assert slow.count("load") < quick.count("load") / 3


@pytest.mark.covers("T0-01")
def test_what_is_told_is_the_shortest_order_without_the_questions_in_between(tmp_path: Path) -> None:
    broken = next(broken for broken in BREAKERS if broken.breaks == "C-32")
    with pytest.raises(ClauseBroken) as found:
        hold_in_any_order(subject(tmp_path, lambda config: broken(config, PlainRuntime)))
    assert str(found.value) == (
        "2954 bytes are resident with 1 engines; expected 1477; after load(), load(), release(which=0)"
    )
