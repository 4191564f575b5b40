"""The contract itself: it holds for who keeps it, and each clause finds who breaks it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures import conformance
from harness.records import Outcome
from runtime import BuildConfig, RuntimeConfig, RuntimeNotAvailableError
from tests.tiers.breakers import BREAKERS, LET_GO, Wrapper, ours
from tests.tiers.plain import PlainRuntime
from tiers.contract import CLAUSES, ClauseBroken, ClauseResult, Subject, run_contract

FIRST = ("C-01", "C-02", "C-03")


@pytest.fixture(autouse=True)
def _let_go() -> Iterator[None]:
    LET_GO.clear()
    yield
    LET_GO.set()


def subject(folder: Path, make: Any, **config: Any) -> Subject:
    cache = folder / "engines"
    cache.mkdir(exist_ok=True)
    settings = RuntimeConfig(device="cpu", engine_cache_dir=cache, intra_op_threads=1, **config)
    feeds = conformance.feeds()
    return Subject(
        make=lambda: make(settings),
        model=conformance.write_onnx(folder),
        build=BuildConfig(precision="fp32", optimization_profiles=conformance.PROFILES),
        feeds=feeds,
        expected=[conformance.expected(feed) for feed in feeds],
        folder=folder,
        make_poor=lambda: make(replace(settings, host_memory_budget_bytes=0)),
    )


def outcomes(results: list[ClauseResult]) -> dict[str, str]:
    return {result.clause.id: result.outcome.value for result in results}


def only(*ids: str) -> list[Any]:
    return [clause for clause in CLAUSES if clause.id in (*FIRST, *ids)]


def test_every_clause_has_its_own_id_title_meaning_and_requirements() -> None:
    assert [clause.id for clause in CLAUSES] == [f"C-{at:02}" for at in range(1, len(CLAUSES) + 1)]
    assert len({clause.title for clause in CLAUSES}) == len(CLAUSES)
    known = (Path(__file__).parents[1] / "house" / "requirement_ids.txt").read_text().split()
    for clause in CLAUSES:
        assert clause.title[-1] not in ".!"
        assert clause.means.endswith(".")
        assert clause.serves
        assert set(clause.serves) <= set(known)


@pytest.mark.covers("T0-01")
def test_a_third_partys_runtime_that_keeps_its_promises_passes_every_clause(tmp_path: Path) -> None:
    results = run_contract(subject(tmp_path, PlainRuntime))
    assert [(result.clause.id, result.reason) for result in results if result.outcome is not Outcome.PASS] == []
    assert len(results) == len(CLAUSES)


@pytest.mark.covers("T0-01")
def test_a_wrapper_that_changes_nothing_passes_every_clause(tmp_path: Path) -> None:
    results = run_contract(replace(subject(tmp_path, Wrapper), make_poor=None))
    assert [(result.clause.id, result.reason) for result in results if result.outcome is Outcome.FAIL] == []
    assert {name for name, outcome in outcomes(results).items() if outcome == "NOT RUN"} == {"C-20"}


@pytest.mark.covers("T0-01")
@pytest.mark.parametrize("base", [PlainRuntime, ours], ids=["plain", "ours"])
@pytest.mark.parametrize("broken", BREAKERS, ids=lambda broken: broken.__name__)
def test_each_clause_finds_the_runtime_that_breaks_it(broken: type[Wrapper], base: Any, tmp_path: Path) -> None:
    if broken.breaks == "C-20" and base is ours:
        base = PlainRuntime  # ours has no budget on the CPU that could be ignored
    held = subject(tmp_path, lambda config: broken(config, base))
    results = run_contract(held, clauses=only(broken.breaks), limit_s=2.0 if "Hangs" in broken.__name__ else 60.0)
    found = {result.clause.id: result.reason for result in results if result.outcome is Outcome.FAIL}
    assert list(found)[:1] == [broken.breaks], found
    assert found[broken.breaks]


def test_every_clause_but_one_has_a_runtime_that_breaks_it() -> None:
    without = {clause.id for clause in CLAUSES} - {broken.breaks for broken in BREAKERS}
    assert without == {"C-31"}  # broken by a module, below


@pytest.mark.covers("T0-01", "RT-11")
def test_a_module_that_imports_another_runtimes_library_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt.py").write_text("")  # stands for the library: what counts is that it is imported
    (tmp_path / "greedy_runtime.py").write_text(
        "import tensorrt\nfrom tests.tiers.plain import PlainRuntime\n\nclass Greedy(PlainRuntime):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.delitem(sys.modules, "tensorrt")
    greedy = importlib.import_module("greedy_runtime").Greedy
    try:
        results = run_contract(subject(tmp_path, greedy), clauses=only("C-31"))
    finally:
        sys.modules.pop("greedy_runtime")
    assert results[-1].outcome is Outcome.FAIL
    assert results[-1].reason == "importing greedy_runtime imports tensorrt"


def test_a_runtime_that_hangs_is_left_and_after_two_clauses_the_rest_is_not_run(tmp_path: Path) -> None:
    class Stuck(PlainRuntime):
        def thermal_state(self) -> Any:
            LET_GO.wait()

    results = run_contract(subject(tmp_path, Stuck), clauses=only("C-28", "C-30", "C-32"), limit_s=0.2)
    assert results[-3].reason == "HANGS: it did not come back in 0.2 s"
    assert results[-2].outcome is Outcome.PASS
    assert results[-1].reason.startswith("HANGS")  # any order of calls asks it too
    twice = [*only("C-28"), *only("C-28", "C-30")[-2:]]
    results = run_contract(subject(tmp_path, Stuck), clauses=twice, limit_s=0.2)
    assert [result.outcome for result in results[-2:]] == [Outcome.FAIL, Outcome.NOT_RUN]
    assert results[-1].reason == "2 clauses hang already"


def test_what_cannot_be_compiled_leaves_nothing_to_hold_the_rest_against(tmp_path: Path) -> None:
    class Compiles(PlainRuntime):
        def compile_engine(self, *_: Any) -> Any:
            raise OSError("no space")

    results = run_contract(subject(tmp_path, Compiles))
    assert outcomes(results)["C-02"] == "FAIL"
    assert results[1].reason == "OSError: no space came out"
    assert {result.outcome for result in results[2:]} == {Outcome.NOT_RUN}
    assert results[-1].reason == "nothing to hold it against: C-02 is broken"


def test_a_runtime_that_cannot_run_here_is_no_broken_contract(tmp_path: Path) -> None:
    class Absent(PlainRuntime):
        def deserialize_engine(self, *_: Any) -> Any:
            raise RuntimeNotAvailableError("no GPU.")

    with pytest.raises(RuntimeNotAvailableError, match="no GPU"):
        run_contract(subject(tmp_path, Absent))


def test_what_the_simulated_device_saw_breaks_the_clause_in_which_it_happened(tmp_path: Path) -> None:
    told = iter(["", "", "", "leak of 64 bytes at 0x10"])

    @contextmanager
    def device() -> Iterator[None]:
        yield
        seen = next(told)
        if seen:
            raise ClauseBroken(seen)

    results = run_contract(replace(subject(tmp_path, PlainRuntime), around=device), clauses=only("C-06"))
    assert [result.reason for result in results] == ["", "", "", "leak of 64 bytes at 0x10"]


def test_device_work_before_a_refusal_is_found(tmp_path: Path) -> None:
    calls = iter(range(1000))
    held = replace(subject(tmp_path, PlainRuntime), device_calls=lambda: next(calls))
    (result,) = run_contract(held, clauses=only("C-14"))[-1:]
    assert result.reason == "'points' is missing: 1 device calls were made before it was refused"


def test_without_hypothesis_the_last_clause_is_not_run_and_says_how_to_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    (result,) = run_contract(subject(tmp_path, PlainRuntime), clauses=only("C-32"))[-1:]
    assert result.outcome is Outcome.NOT_RUN
    assert result.reason == "hypothesis: not installed (pip install 'trigate[sim]')"


def test_the_shortest_order_of_calls_that_breaks_a_promise_is_told(tmp_path: Path) -> None:
    broken = next(broken for broken in BREAKERS if broken.breaks == "C-32")
    (result,) = run_contract(subject(tmp_path, lambda config: broken(config, PlainRuntime)), clauses=only("C-32"))[-1:]
    assert result.reason.endswith("after load(), load(), release(which=0)")


def test_standard_output_is_as_it_was_after_a_clause_that_hangs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Stuck(PlainRuntime):
        def thermal_state(self) -> Any:
            os.write(1, b"from below")
            LET_GO.wait()

    before = sys.stdout
    results = run_contract(subject(tmp_path, Stuck), clauses=only("C-28", "C-30"), limit_s=0.5)
    assert results[-2].reason.startswith("HANGS")
    assert results[-1].reason == "the clauses before this one printed 'from below'"
    assert sys.stdout is before
    sys.stdout.write("still here\n")
    assert capfd.readouterr().out == "still here\n"
