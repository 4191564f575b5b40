"""The documentation is built as people build it, a warning is an error, and its reference tells what the code is."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

for library in ("sphinx", "furo", "myst_parser"):
    pytest.importorskip(library, reason=f"{library}: not installed")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("documentation") / "docs"
    shutil.copytree(ROOT / "docs", source, ignore=shutil.ignore_patterns("_build", "generated", "__pycache__"))
    out = source.parent / "html"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(source), str(out)]
    environ = {**os.environ, "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=source.parent, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_is_built_without_a_warning(built: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    pages = {page for page in pages if page.parts[0] != "_build" and "generated" not in page.parts}
    assert len(pages) > 30
    assert [str(page) for page in sorted(pages) if not (built / page).is_file()] == []


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("commands", ["trigate run", "trigate verify", "trigate history import", "--against PYTHON"]),
        ("run", ["lineage", "INCONCLUSIVE", "schema number 2. Of run.json. 1: first form."]),
        ("samples", ["scheduled_ns", "DROPPED", "Of one row, all int64. Times count"]),
        ("configuration", ["power_mode", "BoardConfig", "may_lose"]),
        ("kept", ["limits.json", "MemoryLooks", "card_is_ours", "elements/"]),
        ("bundle", ["SIGNOFF.md", "BundledWaiver", "standing"]),
        ("compare", ["Comparison", "precision route", "MEASURE MORE"]),
    ],
)
def test_the_reference_is_written_from_the_code(built: Path, page: str, words: list[str]) -> None:
    text = re.sub(r"<[^>]*>", "", (built / "reference" / "generated" / f"{page}.html").read_text(encoding="utf-8"))
    assert [word for word in words if word not in text] == []


def test_calls_that_pages_show_are_taken_as_they_stand() -> None:
    from harness.cli import make_parser

    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "verdicts").glob("*.md")]
    blocks = [
        (page.name, block) for page in pages for block in re.findall("```[a-z]*\n(.*?)```", page.read_text(), re.DOTALL)
    ]
    shown = [(name, line) for name, block in blocks for line in re.findall("^trigate (.*)$", block, re.MULTILINE)]
    assert len(shown) > 60
    refused = []
    for name, line in shown:
        try:
            make_parser().parse_args([word for word in shlex.split(line, comments=True) if word != "…"])
        except SystemExit as ended:
            refused += [(name, line)] if ended.code else []
    assert refused == []
