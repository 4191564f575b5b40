"""The fault matrix of the three runtimes and of their files; and that each step which undoes a load is needed."""

from __future__ import annotations

import ast
import importlib.abc
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")
pytest.importorskip("polygraphy", reason="polygraphy: not installed")
pytest.importorskip("torch", reason="torch: not installed")

from harness import gates
from harness.faults.matrix import Life, Pair, Recorded, many_worlds, pairs, record, run_life, try_pair
from harness.plan import SIMULATED
from harness.records import Case, Outcome, Verdict
from runtime.config import RuntimeConfig
from runtime.cuda import STICKY
from tiers.faults import lives_of, settle_faults
from tiers.simulated import HOSTS

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")


def settled(runtime: str, simulated: str, precision: str) -> Verdict:
    case = Case(f"faults-{runtime}", 0, "faults", "faults", runtime, precision, precision, "", simulated=simulated)
    return settle_faults(case, lambda *_: pytest.fail("no real runtime"), RuntimeConfig())


def shape(pair: Pair) -> tuple[Any, ...]:
    """What pairs have in common that any runtime treats alike: the call, where it stands, and what kind of error it is."""
    error = pair.error.upper()
    is_memory, is_lost = "MEMORY" in error or "ALLOCATION" in error, pair.error.removesuffix(" in its work") in STICKY
    return (pair.site, pair.forever, is_memory, is_lost, "in its work" in pair.error)


@pytest.mark.covers("T0-05", "RT-07", "RT-09", "RT-10")
@pytest.mark.parametrize(
    ("runtime", "simulated", "precision", "phases"),
    [
        ("files", "disk", "fp32", ["store", "check", "write", "keep", "trust", "use"]),
        ("onnx_trt_ep", "gpu", "fp32", ["compile", "load", "infer", "describe"]),
        ("pytorch_fp16", "gpu", "fp16", ["compile", "load", "infer", "release"]),
    ],
)
def test_every_pair_of_a_call_and_an_error_is_met(
    runtime: str, simulated: str, precision: str, phases: list[str]
) -> None:
    verdict = settled(runtime, simulated, precision)
    assert [(check.name, check.reason) for check in verdict.checks if check.outcome is not Outcome.PASS] == []
    assert [check.name for check in verdict.checks] == phases
    assert "every error that is documented for it, once and for ever; nothing leaked" in verdict.reason
    measurement = verdict.summary.measurement
    assert (measurement.placement, measurement.simulated) == (f"{runtime}[simulated {simulated}]", True)
    assert not gates.satisfies(verdict, runtime)


@pytest.mark.covers("T0-05", "RT-07", "RT-09", "RT-10", "TT-05")
@pytest.mark.parametrize("version", SIMULATED["faults"]["tensorrt"])
def test_tensorrt_meets_one_pair_of_each_shape_and_the_rows_run_them_all(version: str) -> None:
    tried: set[tuple[Any, ...]] = set()

    def is_new(pair: Pair) -> bool:
        before = len(tried)
        tried.add(shape(pair))
        return len(tried) > before

    with lives_of("tensorrt", version, "fp16") as lives:
        for life in lives:
            report = run_life(life, only=is_new)
            assert [(str(pair), seen) for pair, seen in report.failures] == []
            assert set(report.ran) == set(report.sites) or "large" in life.label
    assert len(tried) > 600


@pytest.mark.covers("T0-05")
def test_the_real_libraries_have_come_back_afterwards() -> None:
    def loaded() -> dict[str, Any]:
        tops = ("cuda", "tensorrt", "tensorrt_rtx")
        return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in tops}

    before = loaded()
    with lives_of("tensorrt", "10.3.0", "fp16"):
        pass
    assert loaded() == before


@pytest.mark.covers("T0-05")
def test_a_pair_that_fails_is_the_reason_of_the_row_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from runtime.strategies import torch_fp16

    monkeypatch.setattr(torch_fp16, "_is_out_of_memory", lambda torch, error: False)
    verdict = settled("pytorch_fp16", "gpu", "fp16")
    assert verdict.outcome is Outcome.FAIL
    assert "load: torch.load #1 out of host memory once: expected OutOfMemoryError" in verdict.reason
    failed = {check.name: check for check in verdict.checks if check.outcome is Outcome.FAIL}
    assert list(failed) == ["load", "infer"]
    assert failed["infer"].means.startswith("A fault in flight costs more")
    assert "; and " in failed["infer"].reason


# What undoes a load of TensorRT, step by step

_LOADING = ("runtime/strategies/trt_engine.py", "runtime/strategies/trt_lane.py", "runtime/strategies/trt.py")
_TOGETHER = (("let_context_go",), ("memory.free_rest", "_memory.free"))
"""What is armed twice, so that either serves for the other: the context goes before the memory that it was given, and
whatever memory is left is freed at the end. Such steps are also removed together."""

Step = tuple[tuple[str, int], ...]


def undo_steps() -> dict[str, Step]:
    """By its statement, each ``….callback(…)`` that a load arms: the file, and the line where it begins."""
    found: dict[str, Step] = {}
    for name in _LOADING:
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                called = node.value.func
                if isinstance(called, ast.Attribute) and called.attr == "callback":
                    found[ast.unparse(node)] = ((name, node.lineno),)
    for words in _TOGETHER:
        these = [statement for statement in found if any(word in statement for word in words)]
        found[" and ".join(these)] = tuple(place for statement in these for place in found[statement])
    return found


_REPEATED = ("undo.callback(self.let_context_go)", "undo.callback(later, self._memory.free, address)")
"""Removed alone, they are stood in for by their double; ``test_trt`` has the order in which they free."""


_OF_TIMED_CALLS = ("undo.callback(later, cuda.destroy_event, self.events[-1])",)
"""Armed where calls are timed, which no life of the matrix asks for; ``test_trt`` leaves no device at rest without it."""


class Without(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports modules without the statements that begin in some of their lines."""

    def __init__(self, places: Step) -> None:
        self.places = {(file.removesuffix(".py").replace("/", "."), line) for file, line in places}
        self.removed = 0

    def find_spec(self, fullname: str, path: object, target: object = None) -> Any:
        if not any(fullname == name for name, _ in self.places):
            return None
        file = ROOT / f"{fullname.replace('.', '/')}.py"
        return importlib.util.spec_from_file_location(fullname, file, loader=self)

    def get_source(self, fullname: str) -> str:
        return (ROOT / f"{fullname.replace('.', '/')}.py").read_text(encoding="utf-8")

    def exec_module(self, module: ModuleType) -> None:
        tree = ast.parse(self.get_source(module.__name__))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            for at, statement in enumerate(body if isinstance(body, list) else ()):
                if isinstance(statement, ast.Expr) and (module.__name__, statement.lineno) in self.places:
                    body[at] = ast.copy_location(ast.Pass(), statement)  # type: ignore[index]
                    self.removed += 1
        exec(compile(tree, str(module.__file__), "exec"), vars(module))


@contextmanager
def imported_without(places: Step) -> Iterator[Without]:
    def ours() -> list[str]:
        return [name for name in sys.modules if name.startswith("runtime.strategies.trt")]

    kept = {name: sys.modules.pop(name) for name in ours()}
    finder = Without(places)
    sys.meta_path.insert(0, finder)
    try:
        yield finder
    finally:
        sys.meta_path.remove(finder)
        for name in ours():
            del sys.modules[name]
        sys.modules.update(kept)


@pytest.fixture(scope="module")
def flights() -> list[Recorded]:
    """The flights of a runtime that lacks nothing: one, and one with large inputs."""
    with lives_of("tensorrt", "10.3.0", "fp16") as lives:
        return [record(life) for life in lives[1:]]


def first_that_fails(lives: Sequence[Life], flights: Sequence[Recorded]) -> tuple[Pair, list[str]] | None:
    """Of the faults while loading, the last first, with errors that lose nothing, so that all must be given back."""
    for life, recorded in zip(lives[1:], flights, strict=True):
        named = [pair for pair in pairs(life, recorded.sites) if pair.site.step == "load"]
        with many_worlds():
            for pair in reversed(named):
                is_harmless = pair.error in {"CUDA_ERROR_INVALID_VALUE", "CUDA_ERROR_INVALID_HANDLE", "INTERNAL_ERROR"}
                if is_harmless and (seen := try_pair(life, pair, recorded)):
                    return pair, seen
    return None


@pytest.mark.covers("T0-05", "TT-05", "RT-09")
@pytest.mark.parametrize(
    "step", steps := [step for step in undo_steps() if step not in (*_REPEATED, *_OF_TIMED_CALLS)], ids=steps
)
def test_without_a_step_of_the_rollback_a_named_pair_fails(step: str, flights: list[Recorded]) -> None:
    places = undo_steps()[step]
    with imported_without(places) as finder, lives_of("tensorrt", "10.3.0", "fp16") as lives:
        found = first_that_fails(lives, flights)
        assert finder.removed == len(places)
    assert found is not None
    pair, seen = found
    assert str(pair).startswith("load: ")
    assert seen


def test_with_every_step_of_the_rollback_none_of_these_pairs_fails(flights: list[Recorded]) -> None:
    assert len(undo_steps()) >= 12
    assert {*_REPEATED, *_OF_TIMED_CALLS} < set(undo_steps())
    with lives_of("tensorrt", "10.3.0", "fp16") as lives:
        assert first_that_fails(lives, flights) is None


def test_every_flavour_of_a_fault_row_has_a_host() -> None:
    assert set(SIMULATED["faults"]["tensorrt"]) <= set(HOSTS)
