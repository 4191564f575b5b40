"""Faces in ``sys.modules``: put in place by name, only when asked for, and taken out without a trace."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.fakes.device import SimulatedDevice
from harness.fakes.install import installed


def snapshot() -> dict[str, ModuleType]:
    return {
        name: module for name, module in sys.modules.items() if name.partition(".")[0] in {"cuda", "tensorrt", "jtop"}
    }


@pytest.mark.covers("T0-02")
def test_import_gives_the_face_inside_and_what_was_there_before_behind_it() -> None:
    before = snapshot()
    with installed(SimulatedDevice(), cuda_major=12) as fakes:
        from cuda.bindings import driver

        assert driver is fakes.driver is importlib.import_module("cuda.bindings.driver")
        assert driver.CUDA_VERSION == 12090
        assert importlib.import_module("cuda.bindings").__version__ == "12.9.0"
    assert snapshot() == before


def test_the_face_is_of_the_major_version_of_the_device_s_driver() -> None:
    with installed(SimulatedDevice(driver_version=13020)) as fakes:
        assert fakes.driver.CUDA_VERSION == 13050


def test_find_spec_finds_what_is_there_and_nothing_else() -> None:
    with installed(SimulatedDevice()):
        for name in ("cuda", "cuda.bindings", "cuda.bindings.driver"):
            spec = importlib.util.find_spec(name)
            assert spec is not None
            assert (spec.name, spec.origin) == (name, "harness.fakes")
        assert importlib.util.find_spec("cuda.bindings.runtime") is None
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("cuda.pathfinder")


def test_what_keeps_the_tensorrt_that_it_found_first_is_imported_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ModuleType("polygraphy")
    monkeypatch.setitem(sys.modules, "polygraphy", kept)
    with installed(SimulatedDevice(), tensorrt="10.3.0"):
        assert "polygraphy" not in sys.modules
        sys.modules["polygraphy"] = ModuleType("polygraphy")
    assert sys.modules["polygraphy"] is kept
    with installed(SimulatedDevice()):
        assert sys.modules["polygraphy"] is kept


def test_an_error_inside_takes_the_face_out_too() -> None:
    before = snapshot()
    with pytest.raises(RuntimeError, match="inside"), installed(SimulatedDevice()):
        raise RuntimeError("inside")
    assert snapshot() == before


def test_modules_that_were_there_come_back_even_if_something_was_imported_inside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine, child = ModuleType("cuda"), ModuleType("cuda.other")
    monkeypatch.setitem(sys.modules, "cuda", mine)
    monkeypatch.setitem(sys.modules, "cuda.other", child)
    before = snapshot()
    with installed(SimulatedDevice()):
        assert sys.modules["cuda"] is not mine
        assert "cuda.other" not in sys.modules
        sys.modules["cuda.made_inside"] = ModuleType("cuda.made_inside")
    assert snapshot() == before
    assert sys.modules["cuda.other"] is child


def test_one_device_may_be_put_in_place_inside_another() -> None:
    outer, inner = SimulatedDevice(), SimulatedDevice()
    with installed(outer) as first:
        with installed(inner) as second:
            assert sys.modules["cuda.bindings.driver"] is second.driver
        assert sys.modules["cuda.bindings.driver"] is first.driver


@pytest.mark.covers("T0-02")
def test_nothing_installs_itself() -> None:
    import subprocess

    code = (
        "import pkgutil, sys, importlib, harness.fakes\n"
        "before = {n for n in sys.modules}\n"
        "for m in pkgutil.iter_modules(harness.fakes.__path__):\n"
        "    m.name == 'child' or importlib.import_module('harness.fakes.' + m.name)\n"
        "print([n for n in sys.modules if n.split('.')[0] in {'cuda', 'tensorrt', 'tensorrt_rtx', 'pynvml', 'jtop'}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert done.stdout.strip() == "[]"


def test_only_what_was_asked_for_is_there() -> None:
    before = {name for name in sys.modules if name.partition(".")[0] == "cuda"}
    with installed(SimulatedDevice(), cuda=False) as fakes:
        found: dict[str, Any] = vars(fakes)
        assert set(found.values()) == {None}
        assert {name for name in sys.modules if name.partition(".")[0] == "cuda"} == before
