"""``trigate compare`` as it is typed: folders in, a page, a comment and JSON out; progress on standard error alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import main
from harness.history import History
from tests.harness.compared_folders import a_signoff
from tests.harness.compared_runs import NEWER

pytestmark = pytest.mark.covers("RE-02")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    names = ("<b>disk</b>", "名前")
    for boot in ("b1", "b2", "b3"):
        a_signoff(root / f"old-{boot}", boot=boot, models=2, requests=2000, names=names)
    for boot in ("n1", "n2"):
        a_signoff(root / f"new-{boot}", boot=boot, models=2, requests=2000, names=names, ms=12.5, environment=NEWER)
    return root


def call(runs: Path, out: Path, *more: str) -> list[str]:
    base, new = (sorted(map(str, runs.glob(f"{side}-*"))) for side in ("old", "new"))
    return ["compare", "--base", *base, "--new", *new, "--out", str(out), *more]


def test_a_bump_is_told_in_words_on_a_page_in_a_comment_and_as_json(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(call(runs, tmp_path / "page")) == 1
    told = capsys.readouterr()
    assert told.out.splitlines()[-1].startswith("HOLD: ")
    assert "-latency: p95 +28.1 % [+24.8, +31.5], more work: " in told.out.splitlines()[-1]
    assert told.out.splitlines()[0].endswith("compare.json")
    assert "bumped: jetpack 6.2 → 7.2" in told.out
    assert "reading" in told.err
    assert "comparing 10 rows" in told.err
    assert main(call(runs, tmp_path / "page", "--json", "--quiet")) == 1
    told = capsys.readouterr()
    value = json.loads(told.out)
    assert not told.err
    assert value == json.loads((tmp_path / "page" / "compare.json").read_text())
    assert value["foremost"][0]["cause"] == "more work"
    assert len(value["rows"][0]["shifts"][0]["ratio"]) == 99
    html = (tmp_path / "page" / "compare.html").read_text()
    assert "<b>disk</b>" not in html
    assert html.count('class="shift"') == 2


def test_the_comparison_of_other_runs_is_not_lost(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = sorted(map(str, runs.glob("new-*")))
    asked = ["--new", *new, "--out", str(tmp_path / "page"), "--quiet"]
    assert main(["compare", "--base", str(runs / "old-b1"), *asked]) == 3
    before = (tmp_path / "page" / "compare.json").read_bytes()
    assert main(["compare", "--base", str(runs / "old-b2"), *asked]) == 2
    told = capsys.readouterr().err
    assert "holds the comparison of other runs (old-b1 against new-n1, new-n2). Give another --out" in told
    assert (tmp_path / "page" / "compare.json").read_bytes() == before
    assert main(["compare", "--base", str(runs / "old-b1"), *asked]) == 3
    (tmp_path / "page" / "compare.json").write_text("{}")
    assert main(["compare", "--base", str(runs / "old-b1"), *asked]) == 2
    assert "is not what `trigate compare` wrote" in capsys.readouterr().err


def test_a_run_folder_that_was_copied_in_part_is_told_on_the_terminal(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "old-b1", tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "samples")
    new = str(runs / "new-n1")
    assert (
        main(["compare", "--base", str(tmp_path / "half"), "--new", new, "--out", str(tmp_path / "page"), "--quiet"])
        == 3
    )
    (note,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: half: ")]
    assert "cannot be read" in note
    assert "more notes, on the page" in note


def test_a_wider_margin_is_taken_and_one_that_is_no_share_is_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = ["--margin", "p95=0.5", "--margin", "p50=0.5"]
    assert main(call(runs, tmp_path / "page", *wide)) == 0
    for wrong in ("p95=1", "p95=0", "p95=nan", "p95=x", "p95", "speed=0.1"):
        capsys.readouterr()
        assert main(call(runs, tmp_path / "no", "--margin", wrong)) == 2
        assert "--margin" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_baseline_is_taken_by_its_name(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with History(tmp_path / "history", writable=True) as history:
        for folder in sorted(runs.glob("old-*")):
            history.add(folder, now=1.8e9)
        history.set_golden("jetpack-6.2", [str(folder) for folder in sorted(runs.glob("old-*"))], now=1.8e9)
    new = sorted(map(str, runs.glob("new-*")))
    asked = [
        "compare",
        "--history",
        str(tmp_path / "history"),
        "--new",
        *new,
        "--out",
        str(tmp_path / "page"),
        "--quiet",
    ]
    assert main([*asked, "--base", "golden:jetpack-6.2"]) == 1
    assert main([*asked, "--base", "golden:jetpack-6.3"]) == 2
    assert "jetpack-6.2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda place: place.write_text("no history"), "is a file; give the folder that a history is kept in"),
        (lambda place: None, "there is no folder"),
    ],
)
def test_a_baseline_of_what_is_no_history_is_told_so(
    make: Callable[[Path], object], told: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "history"
    make(place)
    new = str(next(runs.glob("new-*")))
    words = ["compare", "--base", "golden:6.2", "--history", str(place), "--new", new, "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert told in capsys.readouterr().err


def test_what_is_no_folder_is_told_from_a_folder_that_is_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for name, told in (("gone", "there is no such folder"), ("empty", "it has no run.json")):
        folder = str(tmp_path / name)
        assert main(["compare", "--base", folder, "--new", folder, "--quiet", "--out", str(tmp_path / "out")]) == 2
        assert told in capsys.readouterr().err
