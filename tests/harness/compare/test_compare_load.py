"""Run folders as they come: read by column, of an older form, damaged, edited by hand, or somebody else's."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from harness.compare import compare, compare_runs
from harness.compare.load import PERCENTS, load_folder, summarize_launches
from harness.errors import UsageError
from harness.layers import Layers
from harness.records import (
    EngineBuilt,
    Judgement,
    LaunchFigures,
    Outcome,
    RecordError,
    Run,
    run_from_text,
    to_json,
)
from harness.records.comparison import Cause, Standing, State
from harness.statistics.quantiles import latency_figures
from runtime.data import EngineLayer
from tests.harness.compared_runs import a_run, base_runs, new_runs, on

pytestmark = pytest.mark.covers("RE-02")

LATENCY = "disk-tensorrt-fp16-b1-latency"


def columns(count: int = 400, launches: int = 2, **given: Any) -> dict[str, Any]:
    """Requests at 100 Hz of 5 ms, the last of each twenty 8 ms, at 1,000 MHz."""
    each = count // launches
    scheduled = np.tile(np.arange(each) * 10_000_000, launches)
    took = np.where(np.arange(count) % 20 == 19, 8_000_000, 5_000_000)
    return {
        "launch": np.repeat(np.arange(launches), each),
        "stream": np.zeros(count, np.int64),
        "scheduled_ns": scheduled,
        "woke_ns": scheduled,
        "started_ns": scheduled + 1_000_000,
        "done_ns": scheduled + 1_000_000 + took,
        "phase": np.where(np.arange(count) % each < 10, 0, 2),
        "status": np.zeros(count, np.int64),
        "throttled": np.zeros(count, np.int8),
        "clock_mhz": np.full(count, 1000.0),
        **given,
    }


def a_folder(folder: Path, name: str, table: Mapping[str, Any] | None, *, boot: str = "b1", **given: Any) -> Path:
    """A run folder with the samples of its latency row."""
    run = a_run(name, boot=boot, **given).run
    verdicts = [
        replace(one, summary=replace(one.summary, measurement=replace(one.summary.measurement, samples_file="samples/a.parquet")))
        if one.case.id == LATENCY
        else one
        for one in run.verdicts
    ]  # fmt: skip
    path = folder / name
    (path / "samples").mkdir(parents=True)
    if table is not None:
        pyarrow.parquet.write_table(pyarrow.table(dict(table)), path / "samples" / "a.parquet")
    write_run(path, replace(run, verdicts=tuple(verdicts)))
    return path


def write_run(path: Path, run: Run) -> None:
    (path / "run.json").write_text(json.dumps(to_json(run)), encoding="utf-8")


def test_each_launch_has_its_figures_from_its_measured_requests(tmp_path: Path) -> None:
    loaded = load_folder(a_folder(tmp_path, "run", columns()))
    seen = loaded.launches[LATENCY]["disk"]
    assert [one.launch for one in seen] == [0, 1]
    assert [one.count for one in seen] == [190, 190]
    assert (seen[0].p50_ns, seen[0].p95_ns) == (6e6, 9e6)  # open loop: from when it was due
    assert (seen[0].service_p50_ns, seen[0].cycles_p50, seen[0].clock_mhz) == (5e6, 5.0, 1000.0)
    assert seen[0].throttled == 0.0
    assert not loaded.notes


def test_requests_that_failed_are_slower_than_all_others() -> None:
    table = columns(100, 1, phase=np.full(100, 2), status=np.where(np.arange(100) < 6, 1, 0))
    seen = summarize_launches(table, ["disk"], is_open=False)["disk"][0]
    assert (seen.failed, seen.p50_ns, seen.p95_ns) == (6, 5e6, None)


def test_models_of_a_mix_are_told_apart(tmp_path: Path) -> None:
    models = np.where(np.arange(400) % 4 == 0, "ultravpr", "lightglue")
    loaded = load_folder(a_folder(tmp_path, "mix", columns(model=models)))
    assert {name: sum(one.count for one in seen) for name, seen in loaded.launches[LATENCY].items()} == {
        "ultravpr": 94, "lightglue": 286,
    }  # fmt: skip


def test_a_clock_that_was_mostly_unread_is_not_known(tmp_path: Path) -> None:
    clocks = np.where(np.arange(400) % 3 == 0, 1000.0, np.nan)
    seen = load_folder(a_folder(tmp_path, "blind", columns(clock_mhz=clocks))).launches[LATENCY]["disk"][0]
    assert (seen.clock_mhz, seen.cycles_p50) == (None, None)


def test_samples_of_the_first_form_are_read(tmp_path: Path) -> None:
    old = columns(launches=1)
    for name in ("launch", "stream", "status", "throttled", "clock_mhz"):
        del old[name]
    old["phase"] = ["warmup"] * 10 + ["measure"] * 390
    old["ok"] = [True] * 400
    seen = load_folder(a_folder(tmp_path, "old", old)).launches[LATENCY]["disk"]
    assert [(one.count, one.p50_ns, one.clock_mhz) for one in seen] == [(390, 6e6, None)]


@pytest.mark.parametrize("damage", ["missing", "cut", "text"])
def test_samples_that_cannot_be_read_are_noted_and_the_record_is_taken(tmp_path: Path, damage: str) -> None:
    path = a_folder(tmp_path, "run", columns())
    file = path / "samples" / "a.parquet"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-200] if damage == "cut" else b"no parquet")
    of_launch = LaunchFigures(0, 380, 0, 6_000_000, 6_500_000, 0, 38, 1.0, None, None, Outcome.MEASURED, "")
    told = Judgement("measured", None, 0.05, None, "", 1.0, None, None, None, "", (of_launch,))
    run = json.loads((path / "run.json").read_text())
    for verdict in run["verdicts"]:
        if verdict["summary"]["measurement"]["samples_file"]:
            verdict["summary"]["judgement"] = to_json(told)
    (path / "run.json").write_text(json.dumps(run))
    loaded = load_folder(path)
    assert len(loaded.notes) == 1
    assert "samples/a.parquet cannot be read" in loaded.notes[0]
    seen = loaded.launches[LATENCY]["disk"][0]
    assert (seen.p50_ns, seen.p95_ns, seen.throttled, seen.cycles_p50) == (6e6, 6.5e6, 0.1, None)


def test_a_run_that_was_edited_by_hand_is_noticed_and_its_samples_are_taken(tmp_path: Path) -> None:
    path = a_folder(tmp_path, "run", columns())
    honest = latency_figures([6_000_000] * 360 + [9_000_000] * 20, 0, 4_000_000_000)
    pretty = replace(honest, p95=replace(honest.p95, value_ns=4_000_000))
    for figures, notes in ((honest, 0), (pretty, 1)):
        run = json.loads((path / "run.json").read_text())
        for verdict in run["verdicts"]:
            if verdict["summary"]["measurement"]["samples_file"]:
                verdict["summary"]["latency"] = to_json(figures)
        (path / "run.json").write_text(json.dumps(run))
        loaded = load_folder(path)
        assert len(loaded.notes) == notes
        assert loaded.launches[LATENCY]["disk"][0].p95_ns == 9e6
    assert "p95 is 4 ms in run.json, and of its samples 9 to 9 ms" in loaded.notes[0]


@pytest.mark.parametrize("name", ["../other/a.parquet", "/etc/passwd", "samples/out.parquet"])
def test_a_file_outside_its_run_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = a_folder(tmp_path, "run", columns())
    (tmp_path / "elsewhere.parquet").write_bytes((path / "samples" / "a.parquet").read_bytes())
    (path / "samples" / "out.parquet").symlink_to(tmp_path / "elsewhere.parquet")
    text = (path / "run.json").read_text().replace("samples/a.parquet", name)
    (path / "run.json").write_text(text)
    with pytest.raises(UsageError, match="not inside the run folder"):
        load_folder(path)


def test_a_newer_schema_is_refused_with_what_is_needed_and_half_a_file_with_what_to_do(tmp_path: Path) -> None:
    path = a_folder(tmp_path, "run", columns())
    whole = (path / "run.json").read_text()
    (path / "run.json").write_text(whole.replace('"schema": 2', '"schema": 9'))
    with pytest.raises(UsageError, match="schema 9; this trigate reads up to 2: upgrade trigate"):
        load_folder(path)
    (path / "run.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"cannot be read: .*[^.]\. Copy the run folder again"):
        load_folder(path)
    with pytest.raises(UsageError, match=r"it has no run\.json"):
        load_folder(tmp_path)


def test_whole_folders_are_compared(tmp_path: Path) -> None:
    base = [a_folder(tmp_path, f"old{at}", columns(), boot=f"b{at}") for at in range(3)]
    slower = columns(done_ns=columns()["scheduled_ns"] + 1_000_000 + 7_500_000)
    new = [a_folder(tmp_path, f"new{at}", slower, boot=f"n{at}") for at in range(2)]
    assert compare(base, new).exit_code == 1
    with pytest.raises(UsageError, match="the same run folder is given twice"):
        compare(base, [*new, base[0]])


def edited(path: Path, **given: Any) -> None:
    """Write into the measurement of the row with samples."""
    run = json.loads((path / "run.json").read_text())
    for verdict in run["verdicts"]:
        if verdict["summary"]["measurement"]["samples_file"]:
            verdict["summary"]["measurement"] |= given
    (path / "run.json").write_text(json.dumps(run))


def test_percentiles_are_of_every_measured_request_of_a_launch(tmp_path: Path) -> None:
    seen = load_folder(a_folder(tmp_path, "run", columns())).launches[LATENCY]["disk"][0]
    assert len(PERCENTS) == len(seen.percentiles_ns) == 99
    assert (seen.percentiles_ns[49], seen.percentiles_ns[94]) == (seen.p50_ns, seen.p95_ns)
    assert list(seen.percentiles_ns) == sorted(seen.percentiles_ns)


def test_layers_are_read_and_what_is_none_is_noted(tmp_path: Path) -> None:
    path = a_folder(tmp_path, "run", columns())
    layers = Layers("inspector", "e0" * 32, (EngineLayer("conv", "Convolution", "fp16"),))
    (path / "layers").mkdir()
    (path / "layers" / "a.json").write_text(layers.to_text())
    edited(path, layers_file="layers/a.json")
    assert load_folder(path).layers == {LATENCY: layers}
    for damage, says in (("[]", "layers cannot be read"), ('{"schema": 9, "layers": []}', "schema 9")):
        (path / "layers" / "a.json").write_text(damage)
        loaded = load_folder(path)
        assert not loaded.layers
        assert says in loaded.notes[0]
    edited(path, layers_file="../a.json")
    with pytest.raises(UsageError, match="not inside the run folder"):
        load_folder(path)


def test_launches_know_the_engine_that_they_ran(tmp_path: Path) -> None:
    path = a_folder(tmp_path, "run", columns())
    edited(path, lineage={"engine": "e0"})
    assert [one.build for one in load_folder(path).launches[LATENCY]["disk"]] == ["e0", "e0"]
    edited(path, builds=to_json([EngineBuilt(0, "disk", (0,), "e1"), EngineBuilt(1, "disk", (1,))]))
    assert [one.build for one in load_folder(path).launches[LATENCY]["disk"]] == ["e1", "id-run/1"]


def test_a_run_in_which_a_row_stands_twice_is_refused(tmp_path: Path) -> None:
    path = a_folder(tmp_path, "run", None)
    run = json.loads((path / "run.json").read_text())
    run["verdicts"].append(run["verdicts"][0])
    (path / "run.json").write_text(json.dumps(run))
    with pytest.raises(UsageError, match="two rows called"):
        load_folder(path)


def test_two_folders_of_one_name_are_told_apart_and_their_progress_is_heard(tmp_path: Path) -> None:
    base = [a_folder(tmp_path / side, "run", columns(), boot=f"b{side}", id=f"id-{side}") for side in ("a", "b")]
    new = [a_folder(tmp_path / "c", "run", columns(), boot="n", id="id-c")]
    heard: list[str] = []
    found = compare(base, new, say=heard.append)
    assert [one.name for one in (*found.base, *found.new)] == ["a/run", "b/run", "c/run"]
    assert heard[0] == f"reading {base[0]}: 4 rows"
    assert heard[-1] == "comparing 4 rows"


ABSURD: tuple[Any, ...] = (None, "nan", "inf", -1, 0, 1e308, 10**400, "", True, [], "1e5")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [place for key, below in pairs for place in places(below, (*path, key))]
    return [path]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_written_into_a_run_by_hand_is_refused_or_compared_and_never_an_internal_error(seed: int) -> None:
    chance = random.Random(seed)
    base, (new,) = base_runs(), new_runs(("n1",))
    whole, compared = json.dumps(to_json(new.run)), 0
    for _ in range(40):
        value = json.loads(whole)
        *way, last = chance.choice(places(value))
        below = value
        for key in way:
            below = below[key]
        below[last] = chance.choice(ABSURD)
        with contextlib.suppress(RecordError, UsageError):
            found = compare_runs(base, [replace(new, run=run_from_text(json.dumps(value)))])
            json.dumps(to_json(found), allow_nan=False)
            compared += 1
    assert 0 < compared < 40  # some edits say nothing of the comparison, and some cannot be read


def test_a_row_that_broke_before_its_first_request_stopped_working_and_its_empty_samples_are_none(
    tmp_path: Path,
) -> None:
    empty = {name: pyarrow.nulls(0) for name in [*columns(), "model"]}
    killed = on("latency", lambda one: replace(one, outcome=Outcome.FAIL, reason="killed (SIGKILL): out of memory"))
    new = load_folder(a_folder(tmp_path, "new", empty, boot="n1", change=killed))
    assert not new.launches.get(LATENCY, {}).get("disk")
    row = next(row for row in compare_runs(base_runs(), [new]).rows if row.id == LATENCY)
    assert (row.standing, row.new_state, row.cause) == (Standing.BROKE, State.BROKE, Cause.MEMORY)


def test_samples_whose_models_are_numbers_are_noted_as_unreadable(tmp_path: Path) -> None:
    loaded = load_folder(a_folder(tmp_path, "run", {**columns(), "model": np.zeros(400)}))
    assert "its column 'model' holds no names" in loaded.notes[0]
