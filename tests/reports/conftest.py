from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("pandas", reason="pandas: not installed")
pytest.importorskip("jinja2", reason="jinja2: not installed")


@pytest.fixture(scope="session")
def builder() -> ModuleType:
    """``run_folders.py`` beside this file: it makes run folders as the harness writes them."""
    spec = importlib.util.spec_from_file_location("run_folders", Path(__file__).with_name("run_folders.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def full(builder: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with every outcome and its reports. Not to be changed by a test."""
    from reports import write_reports

    folder = tmp_path_factory.mktemp("runs") / "full"
    builder.full_run(folder)
    write_reports(folder)
    return folder


@pytest.fixture(scope="session")
def flown(builder: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of Tier-2 and its reports. Not to be changed by a test."""
    from reports import write_reports

    folder = tmp_path_factory.mktemp("runs") / "flown"
    builder.tier2_run(folder)
    write_reports(folder)
    return folder


@pytest.fixture
def small(builder: ModuleType, tmp_path: Path) -> Path:
    """A run folder of a test's own, without reports."""
    folder = tmp_path / "run"
    builder.full_run(folder)
    return folder
