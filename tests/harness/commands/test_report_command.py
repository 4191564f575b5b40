"""``trigate report``, from the command line: which files, where to, and several runs together."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from harness.cli import main
from harness.records import Case, Measurement, Outcome, Run, Summary, Verdict, run_from_text, to_json

pytestmark = pytest.mark.covers("RE-01")

BASE = Case("", 1, "parity", "disk", "tensorrt", "fp16", "fp16", "small")


def verdict(name: str, outcome: Outcome = Outcome.PASS, tier: int = 1, reason: str = "because") -> Verdict:
    case = replace(BASE, id=name, tier=tier, required=True)
    return Verdict(Summary(Measurement(case=case, provider="cuda", placement="tensorrt[cuda]")), outcome, reason)


def run_in(folder: Path, *verdicts: Verdict, code: int = 0, pack: str = "9a" * 32) -> Path:
    run = Run(
        id=f"id of {folder.name}",
        started_at="2026-03-04T10:00:00+00:00",
        finished_at="2026-03-04T11:00:00+00:00",
        complete=True,
        exit_code=code,
        last_line=f"the last line of {folder.name}",
        command=f"trigate run --out {folder.name}",
        seed=0,
        settings={"require": "tensorrt"},
        environment={"gpu": f"gpu of {folder.name}", "os": "Linux"},
        configuration_sha256="",
        pack_sha256=pack,
        planned=tuple(each.case for each in verdicts),
        verdicts=verdicts,
        trigate_version="0.1.0",
    )
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(to_json(run)), encoding="utf-8")
    return folder


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    missing = verdict("b", Outcome.NOT_RUN, 2, "tensorrt: not installed")
    return run_in(tmp_path / "cloud", verdict("a"), missing, code=3)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return run_in(tmp_path / "board", verdict("b", tier=2))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_usual_files_go_to_the_runs_own_folder(cloud: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(cloud)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(cloud / "report.html")
    assert {"report.html", "report.md", "junit.xml", "tables/verdicts.csv"} < files(cloud)
    assert "tables.json" not in files(cloud)


def test_the_formats_that_are_asked_for_and_no_others_are_written(cloud: Path, tmp_path: Path) -> None:
    asked = ["--format", "json,md", "--format", "csv", "--table", "verdicts", "--out", str(tmp_path / "out")]
    assert main(["report", str(cloud), *asked]) == 0
    assert files(tmp_path / "out") == {"report.md", "tables.json", "tables/verdicts.csv"}
    assert files(cloud) == {"run.json"}


def test_one_file_goes_to_standard_output(cloud: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(cloud), "--format", "md", "--out", "-"]) == 0
    assert capsys.readouterr().out.startswith("## trigate: OPEN\n")
    assert main(["report", str(cloud), "--format", "csv", "--table", "verdicts", "--out", "-"]) == 0
    assert list(pd.read_csv(io.StringIO(capsys.readouterr().out))["case"]) == ["a", "b"]
    assert main(["report", str(cloud), "--format", "json", "--table", "not_run", "--out", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], list(told["tables"])) == (1, ["not_run"])
    assert told["tables"]["not_run"][0]["reason"] == "tensorrt: not installed"
    assert files(cloud) == {"run.json"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full: not here")
def test_a_full_disk_behind_standard_output_is_said_and_no_internal_error(
    cloud: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["report", str(cloud), "--format", "md", "--out", "-"]) == 2
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
    assert "standard output cannot be written: No space left on device." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--format", "htm"], "there is no 'htm'. Did you mean 'html'?"),
        (["--table", "verdict", "--format", "csv"], "there is no 'verdict'. Did you mean 'verdicts'?"),
        (["--table", "verdicts", "--format", "md"], "--table is for --format csv and json"),
        (["--out", "-"], "--out - prints one file, and this would be"),
        (["--format", "csv", "--out", "-"], "--format csv with --table NAME"),
        (["--format", "md", "--out", "-", "--json"], "Give one of them"),
    ],
)
def test_a_call_that_says_two_things_is_refused_with_what_to_do(
    cloud: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(cloud), *words]) == 2
    assert says in capsys.readouterr().err
    assert files(cloud) == {"run.json"}


@pytest.mark.covers("RE-03", "RE-04")
def test_several_runs_are_drawn_together_with_where_each_row_is_from(
    cloud: Path, board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "release"
    assert (
        main(["report", str(cloud), str(board), "--out", str(out), "--format", "html,md,csv,json,junit", "--gate"]) == 0
    )
    told = json.loads((out / "combined.json").read_text(encoding="utf-8"))
    assert told["rows"] == {"a": "cloud", "b": "board"}
    assert [(run["label"], run["id"], run["rows"]) for run in told["runs"]] == [
        ("cloud", "id of cloud", 1),
        ("board", "id of board", 1),
    ]
    assert not (out / "run.json").exists(), "a report is no run"
    assert main(["report", str(out)]) == 2
    assert "it is the report of several runs. Give what `trigate run --out` wrote." in capsys.readouterr().err
    frame = pd.read_csv(out / "tables" / "verdicts.csv").set_index("case")
    assert list(frame["run"]) == ["cloud", "board"]
    environment = pd.read_csv(out / "tables" / "environment.csv").set_index(["section", "name"])
    gpu = environment.loc[[("host", "gpu")]].to_dict("records")[0]
    assert (gpu["cloud"], gpu["board"]) == ("gpu of cloud", "gpu of board")
    assert gpu["value"] == "cloud: gpu of cloud; board: gpu of board"
    comment = (out / "report.md").read_text(encoding="utf-8")
    assert comment.startswith("## trigate: PASS\n")
    assert "| board | PASS (0) | PASS 1 | 2 |" in comment
    assert 'name="board.tier2.disk"' in (out / "junit.xml").read_text(encoding="utf-8")
    assert "gpu of board" in (out / "report.html").read_text(encoding="utf-8")
    assert json.loads((out / "tables.json").read_text())["tables"]["verdicts"][1]["run"] == "board"
    assert files(cloud) == {"run.json"}
    capsys.readouterr()


@pytest.mark.covers("RE-04")
def test_the_gate_ends_with_the_exit_code_of_what_is_drawn(cloud: Path, board: Path, tmp_path: Path) -> None:
    before = (cloud / "run.json").read_text(encoding="utf-8")
    assert main(["report", str(cloud), "--format", "md", "--gate"]) == 3
    run = run_from_text((board / "run.json").read_text(encoding="utf-8"))
    (board / "run.json").write_text(json.dumps(to_json(replace(run, exit_code=None, complete=False))))
    assert main(["report", str(board), "--format", "md", "--gate"]) == 4, "not finished is not green"
    edited = replace(run, verdicts=(replace(run.verdicts[0], outcome=Outcome.FAIL),))
    (cloud / "run.json").write_text(json.dumps(to_json(edited)))
    assert main(["report", str(cloud), "--format", "md", "--gate"]) == 1, "an edited exit code opens no gate"
    (cloud / "run.json").write_text(before)
    assert main(["report", str(cloud), str(board), "--format", "md", "--out", str(tmp_path / "x"), "--gate"]) == 0


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize(
    ("again", "says"),
    [
        ({"name": "second"}, "a (PASS in cloud, PASS in second)"),
        ({"name": "other", "pack": "bb" * 32}, "other of pack bbbbbbbbbbbbbbbb"),
    ],
)
def test_runs_that_do_not_go_together_are_refused_by_name_and_nothing_is_written(
    cloud: Path, tmp_path: Path, again: dict[str, str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = {"pack": again["pack"]} if "pack" in again else {}
    other = run_in(tmp_path / again["name"], verdict("a", reason="otherwise"), **pack)  # type: ignore[arg-type] # by name
    assert main(["report", str(cloud), str(other), "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_where_a_report_may_not_go_is_refused(
    cloud: Path, board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for words, says in (
        ([], "Give --out DIR"),
        (["--out", str(cloud)], "holds a run, and its report would be written over"),
        (["--out", str(tmp_path / "file")], "is a file"),
        (["--out", str(tmp_path / "x"), "--baseline", "b.json"], "of one machine"),
    ):
        assert main(["report", str(cloud), str(board), *words]) == 2
        assert says in capsys.readouterr().err
    assert main(["report", str(cloud), str(cloud), "--out", str(tmp_path / "x")]) == 2
    assert "are one run (id of cloud)" in capsys.readouterr().err


@pytest.mark.covers("RE-04")
def test_what_a_run_folder_says_it_had_to_show_is_asked_of_all_together(
    cloud: Path, board: Path, tmp_path: Path
) -> None:
    from harness.limits import Limits, limits_text

    (board / "limits.json").write_bytes(limits_text(Limits("", require=("onnx_trt_ep",))))
    assert main(["report", str(cloud), str(board), "--format", "md", "--out", str(tmp_path / "out"), "--gate"]) == 3
    assert "Required onnx\\_trt\\_ep: it has no row." in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
