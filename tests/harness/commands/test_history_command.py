"""``trigate history`` as it is typed: a folder of runs in, tables, JSON and a page out."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.history import History
from harness.records import to_json
from tests.harness.compared_runs import a_run
from tests.harness.history_runs import ROW, entry

HOSTILE = "<b>[red]x\x1b[31m\u202e名前"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A history with a step at its sixth run, and a run folder beside it."""
    with History(tmp_path / "history", writable=True) as history:
        for number in range(12):
            history.put(entry(number, factor=1.2 if number >= 6 else 1.0), now=1.8e9 + number)
    return tmp_path / "history"


def run_folder(path: Path, name: str = "a", **given: Any) -> Path:
    path.mkdir()
    run = replace(a_run(name, boot=name).run, **given)
    (path / "run.json").write_text(json.dumps(to_json(run)), encoding="utf-8")
    return path


def said(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    assert main(["history", *map(str, words)]) == code
    return capsys.readouterr().out


def told(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> Any:
    return json.loads(said(capsys, *words, "--json", code=code))


def test_the_listing_is_the_default_and_its_words_stand_before_or_after(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, "--history", folder)
    assert "0000000b0000" in text
    assert text == said(capsys, "list", "--history", folder) == said(capsys, "--history", folder, "list")
    assert "3 of 12 runs; --limit 12 lists all." in said(capsys, "--history", folder, "--limit", 3)
    assert told(capsys, "--history", folder, "--model", "nothing")["total"] == 0
    assert "fits; it has 12: leave out" in said(capsys, "--history", folder, "--model", "nothing")
    assert told(capsys, "--history", folder, "--until", "2024-01-01")["total"] == 12
    assert told(capsys, "--history", folder, "--since", "2024-01-01T20:00")["total"] == 2
    assert told(capsys, "--history", folder, "--until", "2023-12")["total"] == 0


def test_on_a_narrow_terminal_what_does_not_fit_stands_under_each_run(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = said(capsys, "--history", folder).splitlines()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(max(map(len, wide))))
    assert said(capsys, "--history", folder).splitlines() == wide
    monkeypatch.setenv("COLUMNS", "80")
    lines = said(capsys, "--history", folder).splitlines()
    assert max(map(len, lines)) <= 80 < max(map(len, wide))
    at = next(at for at, line in enumerate(lines) if "0000000b0000" in line)
    assert wide[2].startswith(lines[at])
    assert [word.strip(";") for word in lines[at + 1].split()] == wide[2].removeprefix(lines[at]).split()


def test_a_folder_is_added_and_a_second_time_known(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(tmp_path / "run")
    assert f"{run}: added, run id-a" in said(capsys, "add", run, "--history", folder)
    assert told(capsys, "add", run, "--history", folder)["added"][0]["how"] == "known"
    assert "id-a: forgotten" in said(capsys, "forget", "id-a", "--history", folder)


def test_of_several_folders_the_good_ones_are_added_and_the_others_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = run_folder(tmp_path / "run")
    assert main(["history", "add", str(tmp_path / "nothing"), str(good), "--history", str(folder)]) == 2
    captured = capsys.readouterr()
    assert captured.out == f"{good}: added, run id-a\n"
    assert "nothing is no run folder" in captured.err


def test_a_row_is_shown_with_its_step_and_plotted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, "show", ROW, "--history", folder)
    assert "From run 000000060000 (2024-01-01 12:00) on +" in text
    assert "Other figures, by --figure:" in text
    value = told(capsys, "show", ROW, "--figure", "p50_ns", "--history", folder)
    assert value["series"][0]["steps"][0]["at"] == 6
    assert "p95_ns" in value["figures"]
    out = tmp_path / "page.html"
    assert f"written: {out} (2 series)" in said(capsys, "plot", ROW, "--history", folder, "--out", out)
    assert "<h1>Rows over time</h1>" in out.read_text("utf-8")
    assert told(capsys, "rows", "--history", folder)[ROW] == 12


def test_what_a_run_calls_itself_is_neither_markup_nor_obeyed_by_a_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = entry(20)
    rows = tuple(replace(row, row=f"{HOSTILE} {row.row}", model=HOSTILE, machine=HOSTILE) for row in odd.rows)
    with History(folder, writable=True) as history:
        history.put(replace(odd, rows=rows, machine=HOSTILE, profile=HOSTILE), now=1.9e9)
    text = said(capsys, "--history", folder) + said(capsys, "show", "<b>*", "--history", folder)
    assert "<b>[red]x\ufffd[31m\ufffd名前" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.covers("RE-02")
def test_a_baseline_is_named_listed_compared_with_and_removed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run_folder(tmp_path / name, name) for name in ("a", "b", "c", "new")]
    assert "golden:jp62 is id-a, id-b, id-c" in said(capsys, "golden", "set", "jp62", *runs[:3], "--history", folder)
    assert [run["id"] for run in told(capsys, "golden", "--history", folder)[0]["runs"]] == ["id-a", "id-b", "id-c"]
    assert "jp62" in said(capsys, "golden", "list", "--history", folder)
    words = [
        "compare",
        "--base",
        "golden:jp62",
        "--new",
        str(runs[3]),
        "--history",
        str(folder),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(words) in (0, 1, 3)
    assert "golden:jp62 is forgotten" in said(capsys, "golden", "remove", "jp62", "--history", folder)
    assert main(words) == 2
    assert "has no golden baseline 'jp62'" in capsys.readouterr().err


def test_a_baseline_of_a_run_that_failed_is_said_to_be(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(tmp_path / "a", exit_code=1, last_line="FAIL 1.")
    assert "Note: run id-a ended with exit code 1: FAIL 1." in said(
        capsys, "golden", "set", "x", run, "--history", folder
    )


def test_floors_are_listed_as_far_as_they_are_learned(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.floors import FloorKey, Floors

    assert "No floor is kept" in said(capsys, "floors", "--history", folder)
    for number in range(3):
        Floors(folder / "floors").add_session(
            FloorKey("orin", "disk", "tensorrt", "fp16"), [4.0 + number], f"run/{number}", 60.0
        )
    Floors(folder / "floors-simulated").add_session(FloorKey("orin", "other", "tensorrt", "fp16"), [9.0], "run/0", 60.0)
    real, simulated = told(capsys, "floors", "--history", folder)
    assert (real["effect"], real["sessions"], real["simulated"]) == (6.0, 3, False)
    assert (simulated["effect"], simulated["simulated"]) == (None, True)
    text = said(capsys, "floors", "--history", folder)
    assert "6.0" in text
    assert "not yet" in text
    assert "SIMULATED" in text


def test_a_foreign_file_is_imported_and_marked(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = tmp_path / "times.json"
    times.write_text(json.dumps([{"latencyMs": 9.0, "computeMs": 8.0, "h2dMs": 0.5, "d2hMs": 0.5}]), encoding="utf-8")
    words = ["import", times, "--model", "disk", "--runtime", "tensorrt", "--board", "orin", "--at", "2024-11-05"]
    assert "import-trtexec-" in said(capsys, *words, "--history", folder)
    assert "by trtexec" in said(capsys, "--history", folder, "--source", "trtexec")
    assert "measured by trtexec" in said(capsys, "show", "disk-*", "--history", folder)


def test_of_several_files_the_good_ones_are_imported_and_progress_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = tmp_path / "times.json"
    times.write_text(json.dumps([{"latencyMs": 9.0, "computeMs": 8.0, "h2dMs": 0.5, "d2hMs": 0.5}]), encoding="utf-8")
    (tmp_path / "broken.json").write_text("[", encoding="utf-8")
    words = ["history", "import", str(tmp_path / "broken.json"), str(times), "--model", "disk", "--at", "2024-11-05"]
    assert main([*words, "--history", str(folder)]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{times}: added, run import-trtexec-")
    assert "[2/2] " in captured.err
    assert "broken.json is not JSON" in captured.err
    assert main([*words, "--history", str(folder), "--quiet", "--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["added"][0]["how"] == "known"
    assert "[1/2]" not in captured.err


def test_a_row_that_never_ran_is_said_to_have_no_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with History(tmp_path / "h", writable=True) as history:
        history.put(replace(entry(0), rows=tuple(replace(row, figures=()) for row in entry(0).rows)), now=1.8e9)
    for words in (["show", ROW], ["plot", ROW, "--out", tmp_path / "page.html"]):
        assert "a row that did not run has none" in said(capsys, *words, "--history", tmp_path / "h")


def test_a_refusal_is_not_obeyed_by_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with History(tmp_path / "h", writable=True) as history:
        history.put(replace(entry(0), rows=tuple(replace(row, row=HOSTILE) for row in entry(0).rows[:1])), now=1.8e9)
    assert main(["history", "show", "nothing", "--history", str(tmp_path / "h")]) == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert "名前" in error


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"id": " "}, "has no id"),
        ({"verdicts": "nul"}, "which is not inside the run folder"),
    ],
)
def test_a_run_that_somebody_wrote_in_is_refused_by_name(
    folder: Path, tmp_path: Path, given: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_folder(tmp_path / "run")
    value = json.loads((path / "run.json").read_text(encoding="utf-8"))
    if "verdicts" in given:
        value["verdicts"][0]["summary"]["measurement"]["layers_file"] = "layers/a\0b.json"
    else:
        value.update(given)
    (path / "run.json").write_text(json.dumps(value), encoding="utf-8")
    assert main(["history", "add", str(path), "--history", str(folder)]) == 2
    assert why in capsys.readouterr().err


def test_a_run_that_does_not_say_when_it_began_is_doubtful(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_folder(tmp_path / "run", started_at="soon")
    assert "doubtful: it began at 'soon', which is no time" in said(capsys, "add", path, "--history", folder)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--since", "yesterday"], "--since is 'yesterday'; expected a time"),
        (["--until", "2024-13"], "--until is '2024-13'"),
        (["--fact", "tensorrt"], "--fact: 'tensorrt'; expected NAME=VALUE"),
        (["--outcome", "PAS"], "there is none 'PAS'. Did you mean 'PASS'"),
        (["--limit", "0"], "--limit is 0; expected 1 or more"),
        (["show", "nothing"], "has no row 'nothing'"),
        (["plot", ROW, "--out", "/proc/nothing/x.html"], "--out: /proc/nothing/x.html cannot be written"),
        (["forget", "nothing"], "has no run 'nothing'"),
    ],
)
def test_a_wrong_call_says_what_was_expected(
    folder: Path, words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["history", *words, "--history", str(folder)]) == 2
    assert why in capsys.readouterr().err


def test_asking_where_nothing_is_kept_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Add some with" in said(capsys, "--history", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [[], ["rows"], ["show", "x"], ["plot"], ["golden"], ["floors"]], ids=str)
def test_a_history_that_is_named_and_is_not_there_is_a_slip(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, *words, "--history", tmp_path / "none", code=2)
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").touch()
    assert main(["history", *words, "--history", str(tmp_path / "file")]) == 2
    assert "file is a file; give the folder" in capsys.readouterr().err


def test_a_cache_that_no_run_has_used_yet_is_an_empty_history(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIGATE_CACHE", str(tmp_path / "none"))
    assert "No run is in a history in" in said(capsys)
    assert told(capsys)["total"] == 0


def test_a_run_that_was_cut_short_by_a_copy_is_said_to_be_unreadable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text('{"a":', encoding="utf-8")
    kept = str(tmp_path / "history")
    for words in (["add"], ["golden", "set", "x"]):
        assert main(["history", *words, str(tmp_path), "--history", kept]) == 2
    error = capsys.readouterr().err
    assert error.count("run.json cannot be read: run.json is not JSON") == 2
    assert "compared" not in error
    assert "judged" not in error


def test_a_row_with_two_runs_is_too_young_for_a_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with History(tmp_path, writable=True) as history:
        for number in range(2):
            history.put(entry(number), now=1.8e9 + number)
    words = "Too few runs to tell a step: 2, and 8 are needed."
    assert words in said(capsys, "show", ROW, "--history", tmp_path)
    assert "Too few runs" in said(capsys, "plot", ROW, "--history", tmp_path, "--out", tmp_path / "h.html")


def test_a_run_that_cannot_be_remembered_says_so_and_keeps_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.commands.history import remember

    run = run_folder(tmp_path / "a")
    remember(tmp_path / "history", run)
    assert told(capsys, "--history", tmp_path / "history")["runs"][0]["id"] == "id-a"
    (tmp_path / "file").write_text("", encoding="utf-8")
    remember(tmp_path / "file", run)
    assert "--history: the run is not in it" in capsys.readouterr().err
