"""Floors of the design effect: learned from long sessions, kept by what they hold for, never guessed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import UsageError
from harness.floors import Floor, FloorKey, Floors, effects_of, key_of, learn, ran_on
from harness.records import BoardState, Case, Judgement, Measurement, Outcome, Summary, Verdict
from harness.tier2.samples import UNKNOWN, Phase
from runtime.protocol import Array

KEY = FloorKey("p3767-0000", "m", "tensorrt", "fp16", {"gpu_mhz": 918.0}, 39.0, {"tensorrt": "10.3"})
CASE = Case("latency[m-tensorrt]", 2, "latency", "m", "tensorrt", "fp16", "fp16", "full")


def taught(floors: Floors, key: FloorKey = KEY, effects: tuple[float, ...] = (2.0, 7.5, 3.0)) -> None:
    for at, effect in enumerate(effects):
        floors.add_session(key, (effect,), f"night-{at}", 60.0)


def session(count: int, block: int, launch: int = 0) -> dict[str, Array]:
    """Calls of 12 ms at 0.1 Hz (an hour is 360), slow for ``block`` of them at a time."""
    zero = np.zeros(count, np.int64)
    due = np.arange(count) * 10_000_000_000
    chance = np.random.default_rng(5)
    slow = chance.random(count // block) < 0.1
    took = np.where(np.repeat(slow, block)[:count], 30_000_000, 12_000_000) + chance.integers(0, 1000, count)
    return {
        "launch": zero + launch, "stream": zero, "scheduled_ns": due, "woke_ns": due, "started_ns": due,
        "done_ns": due + took, "phase": zero + Phase.MEASURE, "status": zero,
        **dict.fromkeys(("h2d_ns", "compute_ns", "d2h_ns", "wait_ns"), zero + UNKNOWN),
    }  # fmt: skip


def row(**changes: object) -> Verdict:
    board = BoardState(module="p3767-0000", caps={"gpu_mhz": 918.0})
    measurement = Measurement(CASE, placement="tensorrt", precision_ran="fp16", rate_hz=0.1, board_start=board)
    measurement = replace(measurement, **changes)  # type: ignore[arg-type] # fields by name
    judgement = Judgement("", 20_000_000, 0.01, None, "", 1.0, None, None, None, "")
    return Verdict(Summary(measurement, judgement=judgement), Outcome.PASS, "")


@pytest.mark.covers("T2-03")
def test_a_floor_is_the_largest_of_three_sessions(tmp_path: Path) -> None:
    floors = Floors(tmp_path / "floors")
    assert floors.get(KEY) is None
    taught(floors, effects=(2.0, 7.5))
    assert floors.get(KEY) is None
    assert floors.why_not(KEY).startswith("2 of 3 sessions of 60 minutes are known of m on tensorrt (fp16) at 39 Hz")
    taught(floors)
    floor = floors.get(KEY)
    assert floor == Floor(7.5, 3, "the largest of 3 sessions, 3.0 h in all")
    assert floors.why_not(KEY) == ""
    assert Floors(tmp_path / "floors").get(KEY) == floor


def test_the_same_run_again_is_no_new_session(tmp_path: Path) -> None:
    floors = Floors(tmp_path)
    for _ in range(3):
        floors.add_session(KEY, (2.0,), "night-0", 60.0)
    assert floors.why_not(KEY).startswith("1 of 3")


@pytest.mark.covers("T2-03")
@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, module="p3701-0005"), replace(KEY, model="n"), replace(KEY, runtime="onnx_trt_ep[cuda]"),
        replace(KEY, precision="int8"), replace(KEY, caps={"gpu_mhz": 612.0}), replace(KEY, rate_hz=3.0),
    ],
)  # fmt: skip
def test_a_floor_holds_for_nothing_else(tmp_path: Path, other: FloorKey) -> None:
    floors = Floors(tmp_path)
    taught(floors)
    assert floors.get(other) is None


def test_a_floor_is_carried_over_a_bump_and_says_so(tmp_path: Path) -> None:
    floors = Floors(tmp_path)
    taught(floors)
    taught(floors, replace(KEY, versions={"tensorrt": "10.1"}), (9.0, 1.0, 1.0))
    bumped = replace(KEY, versions={"tensorrt": "10.7", "jetpack": "6.2"})
    floor = floors.get(bumped)
    assert floor is not None
    assert (floor.effect, floor.carried_from) == (9.0, "tensorrt 10.1")
    taught(floors, bumped, (1.0, 1.5, 1.0))
    own = floors.get(bumped)
    assert own is not None
    assert (own.effect, own.carried_from) == (1.5, "")


@pytest.mark.parametrize(
    ("effects", "minutes"), [((2.0,), 20.0), ((), 60.0), ((0.5,), 60.0), ((float("nan"),), 60.0), ((1e999,), 60.0)]
)
def test_what_teaches_no_floor_is_refused(tmp_path: Path, effects: tuple[float, ...], minutes: float) -> None:
    with pytest.raises(UsageError, match=r"teaches no floor|expected at least one"):
        Floors(tmp_path).add_session(KEY, effects, "night", minutes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["{", "[]", "null", '{"schema": 1}', "schema", "effects", "minutes", "\x00"])
def test_a_damaged_floor_is_named_and_never_guessed(tmp_path: Path, damage: str) -> None:
    floors = Floors(tmp_path)
    taught(floors)
    (path,) = tmp_path.iterdir()
    kept = json.loads(path.read_text())
    if damage == "schema":
        kept["schema"] = 2
    elif damage in ("effects", "minutes"):
        kept["sessions"][0][damage] = [0.25] if damage == "effects" else 2.0
    path.write_text(damage if len(damage) < 3 or damage[0] in "{[n" else json.dumps(kept))
    for ask in (floors.get, floors.why_not, lambda key: floors.add_session(key, (2.0,), "again", 60.0)):
        with pytest.raises(UsageError, match=f"{path.name} is no floor"):
            ask(KEY)
    with pytest.raises(UsageError, match=f"{path.name} is no floor"):
        floors.get(replace(KEY, versions={"tensorrt": "11.0"}))


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot keep a floor"):
        Floors(tmp_path / "file").add_session(KEY, (2.0,), "night", 60.0)


def test_slow_spells_show_in_what_a_session_teaches() -> None:
    alone, spells = (effects_of(session(3600, block), True, 20_000_000)[0][0] for block in (1, 36))
    assert alone < 2.0
    assert spells > 15.0
    assert effects_of(session(360, 1), True)[0][1] == pytest.approx(60.0, abs=0.2)


def test_a_night_teaches_a_floor_for_each_row(tmp_path: Path) -> None:
    floors = Floors(tmp_path)
    launches = [session(360, 6, launch) for launch in range(3)]
    columns = {name: np.concatenate([one[name] for one in launches]) for name in launches[0]}
    short = session(30, 1)
    words = learn(
        floors,
        "run-1",
        [
            (row(), columns),
            (row(simulated=True), columns),
            (row(rate_hz=1.0), short),
        ],
        {"tensorrt": "10.3"},
    )
    assert len(words) == 5
    assert all("design effect " in text and text.endswith(" in 60 min") for text in words[:3])
    assert words[3] == f"{CASE.id}: teaches no floor: simulated"
    assert f"{CASE.id}, launch 0: a session of 5 minutes teaches no floor" in words[4]
    floor = floors.get(key_of(row(), versions={"tensorrt": "10.3"}))
    assert floor is not None
    assert floor.sessions == 3
    assert floor.effect > 3.0


@pytest.mark.covers("T2-03")
@pytest.mark.parametrize("last", [150, 0])
def test_a_night_that_was_cut_short_teaches_by_the_hours_that_were_finished(tmp_path: Path, last: int) -> None:
    floors = Floors(tmp_path)
    launches = [session(360, 6, 0), session(360, 6, 1), session(last, 6, 2)]
    columns = {name: np.concatenate([one[name] for one in launches]) for name in launches[0]}
    words = learn(floors, "run-1", [(row(launches=3, incomplete="a full disk"), columns)])
    assert words[0] == f"{CASE.id}, launch 2: teaches no floor: incomplete (a full disk)"
    assert [text.partition(": ")[0] for text in words[1:]] == [f"{CASE.id}, launch {at}" for at in (0, 1)]
    assert all("design effect " in text and text.endswith(" in 60 min") for text in words[1:])
    assert floors.why_not(key_of(row())).startswith("2 of 3 sessions")


def test_a_third_partys_class_has_floors_of_its_own_wherever_it_says_that_it_ran() -> None:
    theirs = replace(CASE, runtime="mine:Faster")
    assert key_of(row()).runtime == ran_on(CASE, "tensorrt") == "tensorrt"
    assert key_of(row(case=theirs)).runtime == ran_on(theirs, "tensorrt") == "mine:Faster on tensorrt"
    assert key_of(row(case=theirs, placement="")).runtime == "mine:Faster"
    assert key_of(row(placement="")).runtime == "tensorrt"


def test_a_floor_under_one_is_none() -> None:
    with pytest.raises(ValueError, match="expected a finite number of at least 1"):
        Floor(0.9, 3, "")
