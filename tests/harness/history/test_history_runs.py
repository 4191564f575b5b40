"""The history: what goes in and comes out, baselines by name, clocks that ran backward, and what is refused."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.history import History, resolve
from harness.history.index import INDEX, VERSION
from harness.history.steps import find_steps
from harness.records import SCHEMA_VERSION, Outcome, Run, to_json
from harness.records.history import Query
from tests.harness.compared_runs import a_run
from tests.harness.history_runs import ROW, entry

NOW = 1.8e9
LATENCY = "disk-tensorrt-fp16-b1-latency"


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "history", writable=True) as opened:
        yield opened


def written(folder: Path, run: Run) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(to_json(run)), encoding="utf-8")
    return folder


def made(folder: Path, name: str = "a", **given: Any) -> Path:
    """A run folder as it is on disk: a board's run of one boot, with rows of four kinds."""
    return written(folder, replace(a_run(name, boot=name).run, **given))


def filled(history: History, count: int = 12, *, step: int = 6, **given: Any) -> None:
    for number in range(count):
        history.put(entry(number, factor=1.2 if number >= step else 1.0, **given), now=NOW + number)


def test_a_run_is_added_once_and_knows_its_rows(history: History, tmp_path: Path) -> None:
    folder = made(tmp_path / "a")
    assert history.add(folder, now=NOW).how == "added"
    assert history.add(folder, now=NOW).how == "known"
    (run,) = history.runs(Query()).runs
    assert (run.id, run.path, run.machine, run.profile) == ("id-a", str(folder.resolve()), "p3767-0000", "pr")
    assert run.counts == {"PASS": 3, "MEASURED": 1}
    assert history.rows(Query(kind="load")) == {"disk-tensorrt-fp16-b1-load": 1}


def test_a_folder_that_moved_is_known_by_its_new_place(history: History, tmp_path: Path) -> None:
    history.add(made(tmp_path / "a"), now=NOW)
    moved = (tmp_path / "a").rename(tmp_path / "b")
    assert history.add(moved, now=NOW).how == "known"
    assert history.find("id-a").path == str(moved.resolve())


def test_another_run_of_the_same_id_is_refused_by_name_and_the_first_one_stays(
    history: History, tmp_path: Path
) -> None:
    history.add(made(tmp_path / "a"), now=NOW)
    other = made(tmp_path / "edited", last_line="PASS 4.")
    with pytest.raises(
        UsageError, match=r"edited has the id of a run .*: id-a, from .*a\. .* trigate history forget id-a"
    ):
        history.add(other, now=NOW)
    assert history.find("id-a").last_line == "PASS 3."
    history.forget("id-a")
    assert history.add(other, now=NOW).how == "added"


def test_the_form_of_the_file_is_not_its_content(history: History, tmp_path: Path) -> None:
    folder = made(tmp_path / "a")
    history.add(folder, now=NOW)
    value = json.loads((folder / "run.json").read_text("utf-8"))
    (folder / "run.json").write_text(json.dumps(value, indent=4, sort_keys=True), encoding="utf-8")
    assert history.add(folder, now=NOW).how == "known"


def test_a_run_that_had_not_ended_is_taken_again_when_it_has(history: History, tmp_path: Path) -> None:
    half = made(tmp_path / "a", complete=False, verdicts=a_run("a", boot="a").run.verdicts[:2])
    assert history.add(half, now=NOW).how == "added"
    assert history.add(made(tmp_path / "a"), now=NOW).how == "updated"
    (run,) = history.runs(Query()).runs
    assert (run.complete, sum(run.counts.values()), run.seq) == (True, 4, 1)
    told, _ = history.series(Query(row=LATENCY), ["energy_per_call_j"])
    assert len(told.series[0].points) == 1


def test_a_run_of_an_older_schema_is_read_and_one_of_a_newer_names_what_is_needed(
    history: History, tmp_path: Path
) -> None:
    assert history.add(made(tmp_path / "old", "old", schema=1), now=NOW).how == "added"
    newer = made(tmp_path / "new", "new", schema=SCHEMA_VERSION + 1)
    with pytest.raises(
        UsageError, match=f"schema {SCHEMA_VERSION + 1}; this trigate reads up to {SCHEMA_VERSION}: upgrade"
    ):
        history.add(newer, now=NOW)


def test_half_a_file_is_refused_and_leaves_nothing(history: History, tmp_path: Path) -> None:
    folder = made(tmp_path / "a")
    text = (folder / "run.json").read_text("utf-8")
    (folder / "run.json").write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(UsageError, match=r"run\.json .*not JSON"):
        history.add(folder, now=NOW)
    assert history.runs(Query()).total == 0


def test_a_row_that_is_there_twice_is_refused_whole(history: History, tmp_path: Path) -> None:
    run = a_run("a", boot="a").run
    folder = written(tmp_path / "a", replace(run, verdicts=(*run.verdicts, run.verdicts[0])))
    with pytest.raises(UsageError, match=r"two rows called 'disk-tensorrt-fp16-b1'"):
        history.add(folder, now=NOW)
    twice = entry(1)
    with pytest.raises(UsageError, match=f"run {twice.id} has a row twice"):
        history.put(replace(twice, rows=(*twice.rows, twice.rows[0])), now=NOW)
    assert history.rows(Query()) == {}
    assert history.runs(Query()).total == 0


def test_a_run_whose_samples_are_gone_is_doubtful_and_no_baseline(history: History, tmp_path: Path) -> None:
    run = a_run("a", boot="a").run
    first = run.verdicts[1]
    told = replace(first.summary.measurement, samples_file="samples/gone.parquet")
    changed = replace(first, summary=replace(first.summary, measurement=told))
    folder = written(tmp_path / "a", replace(run, verdicts=(run.verdicts[0], changed, *run.verdicts[2:])))
    assert "gone.parquet cannot be read" in history.add(folder, now=NOW).notes[0]
    with pytest.raises(UsageError, match=r"no golden baseline: it is doubtful: .*gone\.parquet"):
        history.set_golden("x", ["id-a"], now=NOW)


NAMES = [
    "名前-模型",
    "مدل‌ساز",
    "model [x]?*",
    "<script>alert(1)</script>",
    "'; DROP TABLE runs; --",
    "e\u0301 🚁",
    "a\x00b",
    "\ud800x",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_in_any_script_is_kept_and_found(history: History, name: str) -> None:
    made_up = entry(1)
    kept = name.encode("utf-8", "replace").decode()
    history.put(replace(made_up, rows=tuple(replace(row, model=kept) for row in made_up.rows)), now=NOW)
    history.put(entry(2), now=NOW)
    assert history.runs(Query(model=kept)).total == 1
    told, _ = history.series(Query(model=kept))
    assert {series.model for series in told.series} == {kept}


def test_words_with_a_star_fit_many_and_other_signs_fit_themselves(history: History) -> None:
    made_up = entry(1)
    history.put(replace(made_up, rows=tuple(replace(row, model="m[1]?") for row in made_up.rows)), now=NOW)
    assert history.runs(Query(model="m[1]?")).total == 1
    assert history.runs(Query(model="m*")).total == 1
    assert history.runs(Query(model="m[1]")).total == history.runs(Query(model="m1x")).total == 0


def test_runs_are_filtered_by_their_rows_facts_and_time(history: History) -> None:
    filled(history, 6)
    bad = entry(9, facts={"tensorrt": "10.16.1"}, profile="signoff")
    rows = (replace(bad.rows[0], outcome="FAIL"), *bad.rows[1:])
    history.put(replace(bad, rows=rows), now=NOW + 9)

    def ids(**given: Any) -> list[int]:
        return [int(run.id[:8], 16) for run in history.runs(Query(**given)).runs]

    assert ids(outcome="FAIL", kind="latency") == [9]
    assert ids(outcome="FAIL", kind="parity") == []
    assert ids(facts={"tensorrt": "10.16*"}) == [9]
    assert ids(facts={"tensorrt": "10.3.0", "jetpack": "6.2"}) == [5, 4, 3, 2, 1, 0]
    assert ids(profile="signoff") == [9]
    assert ids(machine="nothing") == []
    begun = 1704067200.0
    assert ids(since=begun + 3 * 7200, until=begun + 5 * 7200) == [4, 3]
    assert len(history.runs(Query(), limit=2).runs) == 2
    assert history.runs(Query(), limit=2).total == 7


def test_a_row_over_time_tells_where_it_stepped_and_what_changed_with_it(history: History) -> None:
    for number in range(14):
        facts = {"tensorrt": "10.3.0" if number < 7 else "10.16.1", "jetpack": "6.2"}
        history.put(entry(number, factor=1.3 if number >= 7 else 1.0, facts=facts), now=NOW + number)
    told, known = history.series(Query(row=ROW))
    assert [series.figure for series in told.series] == ["p50_ns", "p95_ns"]
    assert {"gpu_bytes", "energy_per_call_j", "engine_bytes"} <= set(known)
    (step,) = told.series[0].steps
    assert (step.at, step.run, step.changed) == (7, entry(7).id, ("tensorrt 10.3.0 → 10.16.1",))
    assert step.factor == pytest.approx(1.3, rel=0.05)
    quiet, _ = history.series(Query(row=ROW), ["gpu_bytes"])
    assert quiet.series[0].steps == ()


@pytest.mark.parametrize(
    "other",
    [
        {"machine": "p3767-0001"},
        {"setting": "flight, 39 Hz, gpu_mhz 612"},
        {"boundary": "events"},
        {"simulated": "steady"},
    ],
)
def test_what_is_not_of_one_setting_is_not_one_series(history: History, other: dict[str, Any]) -> None:
    filled(history, 3)
    elsewhere = entry(7)
    history.put(replace(elsewhere, rows=tuple(replace(row, **other) for row in elsewhere.rows)), now=NOW + 7)
    told, _ = history.series(Query(row=ROW), ["p50_ns"])
    assert sorted(len(series.points) for series in told.series) == [1, 3]


def test_what_another_tool_measured_stands_apart_unless_it_is_asked_in(history: History) -> None:
    filled(history, 4)
    foreign = entry(8, source="trtexec")
    rows = tuple(replace(row, row=f"{row.row}-trtexec", boundary="GPU events") for row in foreign.rows)
    history.put(replace(foreign, rows=rows), now=NOW + 8)
    alone, _ = history.series(Query(model="model0", runtime="tensorrt", kind="latency"), ["p50_ns"])
    assert [(series.source, len(series.points)) for series in alone.series] == [("trigate", 4), ("trtexec", 1)]
    mixed, _ = history.series(Query(model="model0", runtime="tensorrt", kind="latency"), ["p50_ns"], mix=True)
    assert [(series.source, len(series.points)) for series in mixed.series] == [("trigate", 5)]
    assert [point.mark for point in mixed.series[0].points] == ["", "", "", "", "trtexec"]
    assert "mixed with what trtexec measured" in mixed.series[0].notes[0]
    by_row, _ = history.series(Query(row=ROW), ["p50_ns"], mix=True)  # the import's row has another name
    assert [(series.source, len(series.points)) for series in by_row.series] == [("trigate", 5)]


def test_a_row_or_figure_that_there_is_not_is_named_with_the_nearest(history: History) -> None:
    with pytest.raises(UsageError, match=r"is empty. Add runs"):
        history.series(Query(row="x"))
    filled(history, 2)
    with pytest.raises(UsageError, match=f"no row 'MODEL0-tensorrt-fp16-b1-laten'. Did you mean '{ROW}'"):
        history.series(Query(row="MODEL0-tensorrt-fp16-b1-laten"))
    with pytest.raises(UsageError, match=r"no row that fits has the figure 'p50'. Did you mean 'p50_ns'"):
        history.series(Query(row=ROW), ["p50"])


def test_a_clock_here_that_ran_backward_between_two_runs_is_said(history: History) -> None:
    history.put(entry(1), now=NOW)
    history.put(entry(2), now=NOW - 3600)
    (note,) = history.runs(Query()).notes
    assert "ran backward by 60 min between adding run 000000010000 and run 000000020000" in note
    assert [run.seq for run in history.runs(Query(), by_added=True).runs] == [2, 1]


def test_clocks_that_never_hold_still_are_told_five_times_and_counted(history: History) -> None:
    for number in range(9):
        history.put(entry(number), now=NOW - 3600 * number)
    notes = history.runs(Query()).notes
    assert len(notes) == 6
    assert notes[-1] == "a clock ran backward 3 more times"


def test_a_boards_clock_that_ran_backward_within_a_boot_is_said(history: History) -> None:
    history.put(entry(5, boots={"one": 100.0}), now=NOW)
    history.put(entry(3, boots={"one": 5000.0}), now=NOW + 9)  # up for longer, and two runs earlier by its clock
    (note,) = history.runs(Query()).notes
    assert "the board's clock ran backward between runs 000000050000 and 000000030000, of one boot" in note
    history.put(entry(6, boots={"two": 5000.0}), now=NOW + 10)
    assert len(history.runs(Query()).notes) == 1


def test_a_run_added_late_is_no_clock_that_ran_backward(history: History) -> None:
    history.put(entry(5), now=NOW)
    history.put(entry(1), now=NOW + 9)
    assert history.runs(Query()).notes == ()
    told, _ = history.series(Query(row=ROW), ["p50_ns"])
    assert [point.seq for point in told.series[0].points] == [2, 1]
    kept, _ = history.series(Query(row=ROW), ["p50_ns"], by_added=True)
    assert [point.seq for point in kept.series[0].points] == [1, 2]


def test_a_run_that_ended_before_it_began_is_doubtful(history: History, tmp_path: Path) -> None:
    folder = made(tmp_path / "a", finished_at="2026-03-04T09:00:00+00:00")
    assert history.add(folder, now=NOW).notes == ("it ended before it began, by its own clock",)


@pytest.mark.covers("RE-02")
def test_a_baseline_by_name_leads_to_its_folders(history: History, tmp_path: Path) -> None:
    folders = [made(tmp_path / name, name) for name in ("a", "b")]
    for folder in folders:
        history.add(folder, now=NOW)
    golden = history.set_golden("jetpack-6.2", ["id-a", str(folders[1])], now=NOW)
    assert [run.id for run in golden.runs] == ["id-a", "id-b"]
    assert resolve("golden:jetpack-6.2", history.folder) == [folder.resolve() for folder in folders]
    assert resolve("runs/x", history.folder) == [Path("runs/x")]
    assert history.runs(Query()).runs[0].golden == ("jetpack-6.2",)
    with pytest.raises(UsageError, match=r"is part of the golden baseline 'jetpack-6.2'. Remove that first"):
        history.forget("id-a")
    history.remove_golden("jetpack-6.2")
    with pytest.raises(UsageError, match=r"has no golden baseline 'jetpack-6.2'. There is none."):
        resolve("golden:jetpack-6.2", history.folder)


def test_a_name_that_is_taken_is_not_given_to_others_silently(history: History, tmp_path: Path) -> None:
    for name in ("a", "b"):
        history.add(made(tmp_path / name, name), now=NOW)
    history.set_golden("x", ["id-a"], now=NOW)
    history.set_golden("x", ["id-a"], now=NOW)
    with pytest.raises(UsageError, match="there is a golden baseline 'x', of other runs"):
        history.set_golden("x", ["id-b"], now=NOW)
    assert [run.id for run in history.set_golden("x", ["id-b"], now=NOW, replacing=True).runs] == ["id-b"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"complete": False}, "is not complete"),
        ({"settings": {"simulated": "steady"}}, r"is simulated \(steady\), and is no evidence"),
    ],
)
def test_what_is_no_evidence_is_no_baseline(history: History, tmp_path: Path, given: dict[str, Any], why: str) -> None:
    history.add(made(tmp_path / "a", **given), now=NOW)
    with pytest.raises(UsageError, match=f"no golden baseline: it {why}"):
        history.set_golden("x", ["id-a"], now=NOW)
    assert history.all_golden() == ()


def test_rows_that_are_all_simulated_make_their_run_simulated(history: History, tmp_path: Path) -> None:
    run = a_run("a", boot="a").run
    rows = tuple(
        replace(one, summary=replace(one.summary, measurement=replace(one.summary.measurement, simulated=True)))
        for one in run.verdicts
    )
    history.add(written(tmp_path / "a", replace(run, verdicts=rows)), now=NOW)
    with pytest.raises(UsageError, match="is simulated"):
        history.set_golden("x", ["id-a"], now=NOW)
    told, _ = history.series(Query(row=LATENCY), ["mean_power_w"])
    assert told.series[0].simulated == "simulated"


def test_a_foreign_run_and_runs_of_two_machines_are_no_baseline(history: History, tmp_path: Path) -> None:
    history.put(entry(1, source="nvbench"), now=NOW)
    with pytest.raises(UsageError, match="was measured by nvbench, whose figures are no verdicts"):
        history.set_golden("x", [entry(1).id], now=NOW)
    history.add(made(tmp_path / "a"), now=NOW)
    history.add(made(tmp_path / "b", "b", settings={"profile": "signoff"}), now=NOW)
    with pytest.raises(UsageError, match="these runs are not of one profile: pr, signoff"):
        history.set_golden("x", ["id-a", "id-b"], now=NOW)
    history.add(made(tmp_path / "c", "c", pack_sha256="0b" * 32), now=NOW)
    with pytest.raises(UsageError, match="these runs are not of one pack: 0b0b"):
        history.set_golden("x", ["id-a", "id-c"], now=NOW)


def test_a_baseline_that_was_edited_or_is_gone_is_not_used(history: History, tmp_path: Path) -> None:
    folder = made(tmp_path / "a")
    history.add(folder, now=NOW)
    history.set_golden("x", ["id-a"], now=NOW)
    made(tmp_path / "a", last_line="PASS 400.")
    with pytest.raises(
        UsageError, match=r"cannot be used: run id-a is in .*, and was changed there after it was added"
    ):
        resolve("golden:x", history.folder)
    (folder / "run.json").unlink()
    with pytest.raises(UsageError, match=r"cannot be used: run id-a was in .*, where it is no longer"):
        resolve("golden:x", history.folder)


@pytest.mark.parametrize("name", ["", " x", "a\nb", "x" * 101, "\u202egnp"])
def test_a_baselines_name_is_printable(history: History, name: str) -> None:
    with pytest.raises(UsageError, match="is no name of a baseline"):
        history.set_golden(name, [], now=NOW)


def test_a_run_is_found_by_the_beginning_of_its_id_if_it_is_alone(history: History) -> None:
    history.put(entry(1), now=NOW)
    history.put(entry(1, seed=7), now=NOW)
    assert history.find(entry(1).id).seq == 1
    with pytest.raises(UsageError, match="'00000001' is the beginning of 2 runs' ids"):
        history.find("00000001")
    with pytest.raises(UsageError, match="has no run '000'"):
        history.find("000")
    with pytest.raises(UsageError, match="has no run ''"):
        history.find("")


def test_forgetting_leaves_no_trace_of_a_run(history: History) -> None:
    filled(history, 3)
    for number in range(3):
        history.forget(entry(number).id)
    with sqlite3.connect(history.folder / INDEX) as db:
        left = {
            name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in ("runs", "records", "facts", "boots", "rows", "figures", "golden")
        }
    db.close()
    assert set(left.values()) == {0}


def test_a_folder_without_a_history_is_an_empty_one_and_asking_makes_none(tmp_path: Path) -> None:
    with History(tmp_path) as history:
        assert history.runs(Query()).total == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.write_bytes(b"no database, but text" * 99), "is no history, or is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:9000]), "is no history, or is damaged"),
        (
            lambda path: run_sql(path, f"PRAGMA user_version = {VERSION + 1}"),
            f"has form {VERSION + 1}; .* upgrade trigate",
        ),
        (lambda path: run_sql(path, "PRAGMA application_id = 7"), "is another program's database"),
    ],
    ids=["text", "half of it", "of a newer trigate", "of another program"],
)
def test_a_file_that_is_no_history_is_named(tmp_path: Path, spoil: Any, why: str) -> None:
    with History(tmp_path, writable=True) as history:
        filled(history, 3)
    spoil(tmp_path / INDEX)
    for writable in (False, True):
        with pytest.raises(UsageError, match=why), History(tmp_path, writable=writable) as history:
            history.runs(Query())


def run_sql(path: Path, words: str) -> None:
    db = sqlite3.connect(path)
    db.execute(words)
    db.commit()
    db.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match=r"cannot keep a history: .* Give another folder"):
        History(tmp_path / "file" / "history", writable=True)


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from harness.history import History\n"
        "from tests.harness.history_runs import entry\n"
        "for number in range(int(sys.argv[1]), 12, 2):\n"
        "    with History(Path(sys.argv[2]), writable=True) as history: history.put(entry(number), now=1.0 * number)"
    )
    root = str(Path(__file__).resolve().parents[3])
    workers = [subprocess.Popen([sys.executable, "-c", code, str(at), str(tmp_path)], cwd=root) for at in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    with History(tmp_path) as history:
        assert history.runs(Query()).total == 12
        assert len(history.series(Query(row=ROW), ["p50_ns"])[0].series[0].points) == 12


def test_rows_that_did_not_run_have_no_figures_and_are_counted(history: History, tmp_path: Path) -> None:
    run = a_run("a", boot="a").run
    rows = tuple(replace(one, outcome=Outcome.NOT_RUN) for one in run.verdicts)
    history.add(written(tmp_path / "a", replace(run, verdicts=rows)), now=NOW)
    assert history.runs(Query(outcome="NOT RUN")).total == 1
    with pytest.raises(UsageError, match="no row that fits has the figure"):
        history.series(Query(row=LATENCY), ["energy_per_call_j"])


def test_what_a_killed_process_left_half_written_is_rolled_back(tmp_path: Path) -> None:
    with History(tmp_path, writable=True) as history:
        filled(history, 3)
    code = (
        "import os, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('PRAGMA cache_size = 1')\n"
        "db.execute('BEGIN IMMEDIATE')\n"
        "db.execute('UPDATE runs SET path = hex(randomblob(20000))')\n"
        "db.execute('DELETE FROM figures')\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / INDEX)], check=False).returncode == -9
    assert (tmp_path / f"{INDEX}-journal").exists()
    with History(tmp_path) as history:
        assert [run.path for run in history.runs(Query()).runs] == ["/runs/2", "/runs/1", "/runs/0"]
        assert len(history.series(Query(row=ROW), ["p50_ns"])[0].series[0].points) == 3


def test_an_empty_file_is_an_empty_history(tmp_path: Path) -> None:
    (tmp_path / INDEX).touch()
    with History(tmp_path) as history:
        assert history.runs(Query()).total == 0
    with History(tmp_path, writable=True) as history:
        filled(history, 1)
    with History(tmp_path) as history:
        assert history.runs(Query()).total == 1


def test_a_number_that_nothing_measures_is_refused(history: History, tmp_path: Path) -> None:
    run = a_run("a", boot="a").run
    first = run.verdicts[0]
    wide = replace(
        first, summary=replace(first.summary, measurement=replace(first.summary.measurement, load_ns=10**400))
    )
    folder = written(tmp_path / "a", replace(run, verdicts=(wide, *run.verdicts[1:])))
    with pytest.raises(UsageError, match="holds a number that nothing measures"):
        history.add(folder, now=NOW)


def test_rows_and_points_follow_the_filters_of_runs(history: History) -> None:
    filled(history, 4)
    bad = entry(9)
    history.put(replace(bad, rows=tuple(replace(row, outcome="FAIL") for row in bad.rows)), now=NOW + 9)
    assert history.rows(Query(row=ROW)) == {ROW: 5}
    assert history.rows(Query(row=ROW, outcome="FAIL")) == {ROW: 1}
    assert history.rows(Query(row=ROW, until=1704067200.0 + 3 * 7200)) == {ROW: 3}
    told, _ = history.series(Query(row=ROW, outcome="FAIL"), ["p50_ns"])
    assert [point.outcome for point in told.series[0].points] == ["FAIL"]


def test_a_folder_that_another_run_took_over_leads_to_that_run(history: History) -> None:
    history.put(entry(1, path="/runs/here"), now=NOW)
    history.put(entry(2, path="/runs/here"), now=NOW)
    assert history.find("/runs/here").id == entry(2).id


def test_ten_thousand_rows_of_one_run_go_in_and_come_out(history: History, tmp_path: Path) -> None:
    whole = entry(1, 1).rows[0]
    first = replace(whole, figures=whole.figures[:2])
    many = tuple(replace(first, row=f"row {at}", model=f"model {at}") for at in range(10_000))
    history.put(replace(entry(1), rows=many, counts={"PASS": 10_000}), now=NOW)
    assert len(history.rows(Query())) == 10_000
    with pytest.raises(UsageError, match="10000 series fit; at most 64"):
        history.series(Query())
    assert len(history.series(Query(row="row 777"))[0].series) == 2


def test_steps_are_sought_once_and_anew_when_there_is_another_run(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(history, 24, step=12)
    sought: list[int] = []

    def counted(values: Any) -> Any:
        sought.append(len(values))
        return find_steps(values)

    monkeypatch.setattr("harness.history.runs.find_steps", counted)
    with History(history.folder) as reader:  # which may keep what it found, and nothing else
        told = [reader.series(Query(row=ROW), ["p50_ns"])[0].series[0].steps for _ in range(2)]
        with pytest.raises(UsageError, match="readonly"):
            reader.put(entry(99), now=NOW)
    assert told[0] == told[1]
    assert [step.at for step in told[0]] == [12]
    with History(history.folder) as another:
        assert another.series(Query(row=ROW), ["p50_ns"])[0].series[0].steps == told[0]
    assert sought == [24]
    history.put(entry(24, factor=1.2), now=NOW)
    history.series(Query(row=ROW), ["p50_ns"])
    assert sought == [24, 25]


def test_a_history_that_cannot_be_written_is_read_all_the_same(history: History) -> None:
    filled(history, 24, step=12)
    with sqlite3.connect(history.folder / INDEX) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with History(history.folder) as reader:
            (step,) = reader.series(Query(row=ROW), ["p50_ns"])[0].series[0].steps
    writer.close()
    assert step.at == 12
