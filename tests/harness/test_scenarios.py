"""Scenario files, and what the procedure and the gates make of each and of its twin, in virtual time."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import fixtures
from harness.board import check_state
from harness.config import BoardConfig, Budget, load_configuration
from harness.errors import UsageError
from harness.fakes.orin import SimulatedKill, SimulatedOrin
from harness.profiles import PROFILES, Profile
from harness.records import Case, Check, Measurement, Outcome, Verdict
from harness.scenario import EVENTS, load_scenario
from harness.statistics.steadiness import SoakRule
from harness.tier2 import latency_gate
from harness.tier2.heat import judge_heat
from harness.tier2.memory import footprint, judge_memory
from harness.tier2.station import Order, Seen, Stream

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = [pytest.mark.long, pytest.mark.covers("T2-02", "T2-03", "T2-04")]

FOLDER = Path(str(fixtures.__file__)).parent / "scenarios"
FILES = sorted(path for path in FOLDER.glob("*.toml") if not path.stem.startswith("bump_"))  # those: test_bump.py
FLIGHT = load_configuration(FOLDER.parent / "flight.toml")
BOARD: BoardConfig = FLIGHT.boards["orin-nx"]
PR = PROFILES["pr"]
UNSOAKED = replace(PR, soak=None, warmup_calls=2, telemetry_hz=5.0)
HEAT = replace(PR, soak=SoakRule(most_s=420.0), warmup_calls=2, least_s=240.0, most_s=240.0, sustained_s=240.0,
               precision=0.0, telemetry_hz=2.0)  # fmt: skip


def case(model: str, kind: str = "latency") -> Case:
    return Case(f"{kind}-{model}", 2, kind, model, "tensorrt", "fp16", "fp16", "flight")


def launched(
    name: str, model: str, rate_hz: float, profile: Profile, budget_ms: float, **board: float
) -> tuple[Order, Seen]:
    scenario = load_scenario(FOLDER / f"{name}.toml")
    station = SimulatedOrin(replace(scenario, board=replace(scenario.board, **board)))  # type: ignore[arg-type]
    order = Order(profile, (Stream(case(model), rate_hz),), budget_ns=round(budget_ms * 1e6))
    return order, station.fresh(order, None)


def checked(seen: Seen, hot_start_c: float | None = None) -> Sequence[Check]:
    m = seen.measurement
    return check_state(BOARD, m.board_start, m.board_end, elapsed_ns=m.duration_ns, hot_start_c=hot_start_c)


def latency(name: str, model: str = "lightglue", rate_hz: float = 39.0, profile: Profile = UNSOAKED) -> Verdict:
    """The row of one model at its rate, against its budget in the flight's configuration."""
    budget = FLIGHT.models[model].budget["orin-nx"]
    order, seen = launched(name, model, rate_hz, profile, budget.p95_ms or 0.0)
    return latency_gate.judge(
        seen.measurement, seen.log.columns(), seen.trace, budget=Budget(p95_ms=budget.p95_ms), profile=profile,
        floor=None, state_checks=checked(seen), streams=order.streams, lost_ns=seen.lost_ns,
    )  # fmt: skip


@cache
def state(name: str) -> Verdict:
    """The row of place recognition for eight minutes from when the board is started: few calls, and time for things to happen."""
    return latency(name, "ultravpr", 3.0, replace(UNSOAKED, least_s=480.0, most_s=480.0, telemetry_hz=2.0))


def heat(name: str, rate_hz: float = 15.0, **board: float) -> Verdict:
    """A sustained load that keeps the GPU as busy as the flight mix, with fewer and longer calls."""
    order, seen = launched(name, "disk", rate_hz, HEAT, 150.0, **board)
    return judge_heat(
        seen.measurement, seen.log.columns(), seen.trace, budget_ns=order.budget_ns, profile=HEAT, is_open=True,
        state_checks=checked(seen, math.inf), soak=seen.soak,
    )  # fmt: skip


def memory(name: str) -> Verdict:
    """The engines of the flight alone and together, and what is left after each hundred calls of the matcher."""
    scenario = load_scenario(FOLDER / f"{name}.toml")
    models = ("ultravpr", "lightglue", "disk", "adhop")
    alone, killed, together = {}, [], []
    for model in models:
        station = SimulatedOrin(scenario)
        before = tuple(station.memory())
        station.open(case(model, "memory"))
        alone[model] = footprint(before, tuple(station.memory()))
    station = SimulatedOrin(scenario)
    before, after = tuple(station.memory()), list[float]()
    try:
        engines = {model: station.open(case(model, "memory")) for model in models}
        together.append(footprint(before, tuple(station.memory())))
        for at in range(3000):
            engines["lightglue"].infer(at)
            if at % 100 == 99:
                after.append(next(mark.value or 0.0 for mark in station.memory() if mark.name == "ledger_bytes"))
    except SimulatedKill as kill:
        killed.append(str(kill))
    measurement = Measurement(case("memory", "memory"), simulated=True)
    calls = {"lightglue": after} if after else {}
    return judge_memory(measurement, alone, together, {}, board=BOARD, killed=killed, calls=calls, calls_per_look=100)


# Each scenario, and its twin just across the threshold


def test_a_board_that_throttles_fails_for_heat_and_one_that_stays_just_below_passes() -> None:
    hot, warm = heat("throttles_after_400s", start_c=95.0), heat("stays_just_below", start_c=95.0)
    assert (hot.outcome, warm.outcome) == (Outcome.FAIL, Outcome.PASS), (hot.reason, warm.reason)
    assert hot.summary.judgement
    assert hot.summary.judgement.cause.startswith("thermal")
    assert "never throttled" in warm.reason


def test_a_fan_that_never_comes_on_fails_for_heat_and_one_with_a_thermostat_passes() -> None:
    stuck, cycles = heat("fan_never_on"), heat("fan_with_a_thermostat")
    assert (stuck.outcome, cycles.outcome) == (Outcome.FAIL, Outcome.PASS), (stuck.reason, cycles.reason)
    assert stuck.summary.judgement
    assert stuck.summary.judgement.cause.startswith("thermal")


def test_a_fan_that_cycles_is_steady_over_whole_cycles_and_a_drift_below_it_is_not() -> None:
    cycles, drifts = heat("fan_cycles", 8.0), heat("fan_cycles_while_it_warms", 8.0)
    assert (cycles.outcome, drifts.outcome) == (Outcome.PASS, Outcome.INCONCLUSIVE), (cycles.reason, drifts.reason)
    soaked = [next(check for check in row.checks if check.name == "soak").reason for row in (cycles, drifts)]
    assert "over whole cycles of" in soaked[0]
    assert "not steady" in soaked[1]


def test_heat_that_no_sensor_shows_is_inconclusive_and_a_reading_that_is_missing_now_and_then_is_not() -> None:
    gone, there = heat("sensor_goes_away", 3.0), heat("sensor_stays", 3.0)
    assert (gone.outcome, there.outcome) == (Outcome.INCONCLUSIVE, Outcome.PASS), (gone.reason, there.reason)
    assert "no temperature was read" in gone.reason


def test_over_current_fails_with_its_name_and_just_under_it_passes() -> None:
    over, under = latency("over_current"), latency("just_under_the_current")
    assert (over.outcome, under.outcome) == (Outcome.FAIL, Outcome.PASS), (over.reason, under.reason)
    assert over.summary.judgement
    assert over.summary.judgement.cause.startswith("over-current")


def test_bursts_that_fill_a_tenth_of_the_time_fail_and_short_ones_pass() -> None:
    long, short = latency("burst_every_12s"), latency("burst_every_12s_shorter")
    assert (long.outcome, short.outcome) == (Outcome.FAIL, Outcome.PASS), (long.reason, short.reason)


def test_a_load_over_1_is_told_as_overload_and_one_just_under_it_passes() -> None:
    over, under = latency("overload"), latency("just_under_overload")
    assert (over.outcome, under.outcome) == (Outcome.FAIL, Outcome.PASS), (over.reason, under.reason)
    assert over.reason.startswith("overload: a second of this load asks for 1.0")


@pytest.mark.parametrize(
    ("name", "twin", "words"),
    [
        ("clock_change_mid_run", "clock_stays", "the cap gpu_mhz was 1173 and became 918"),
        ("hot_start", "steady", "the row began at 93 °C"),
        ("other_process", "steady", "4000 Xorg"),
        ("suspended", "steady", "the machine slept for about 600 s"),
        ("clock_steps", "steady", "3600"),
        ("device_lost", "one_call_fails", "CUDA_ERROR_ILLEGAL_ADDRESS"),
    ],
)
def test_a_board_that_was_not_left_alone_says_so_and_decides_nothing(name: str, twin: str, words: str) -> None:
    row, other = state(name), state(twin)
    assert row.outcome is Outcome.INCONCLUSIVE, row.reason
    assert words in row.reason
    assert other.outcome is Outcome.PASS, other.reason
    assert other.summary.measurement.failed_count == (twin == "one_call_fails")


def test_a_leak_of_a_megabyte_in_a_hundred_calls_is_found_and_none_is_found_where_there_is_none() -> None:
    leaks, sound = memory("leak_1mb_per_100_frames"), memory("no_leak")
    assert (leaks.outcome, sound.outcome) == (Outcome.FAIL, Outcome.PASS), (leaks.reason, sound.reason)
    assert "1.00 MB per 100 calls" in leaks.reason


def test_a_process_that_the_kernel_kills_is_over_budget_and_one_that_barely_fits_is_not() -> None:
    killed, fits = memory("killed"), memory("barely_fits")
    assert (killed.outcome, fits.outcome) == (Outcome.FAIL, Outcome.PASS), (killed.reason, fits.reason)
    assert "SIGKILL" in " ".join(check.reason for check in killed.checks)


def test_every_scenario_has_a_twin_in_these_tests() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [path.stem for path in FILES if f'"{path.stem}"' not in text] == []


# The files


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_holds_physics_alone_and_names_its_twin(path: Path) -> None:
    scenario = load_scenario(path)
    assert scenario.name == path.stem
    assert {"ultravpr", "lightglue", "disk", "adhop"} <= scenario.models.keys()
    text = path.read_text(encoding="utf-8")
    assert not re.search(
        r"\b(pass(es|ed)?|fail(s|ed)?|inconclusive|verdict|budget|p9[59]\w*|gates?)\b", text, re.IGNORECASE
    )
    twin = re.search(r"^# Twin: (\w+)", text, re.MULTILINE)
    assert twin, "no '# Twin: NAME' in the head of the file"
    back = (FOLDER / f"{twin[1]}.toml").read_text(encoding="utf-8")
    assert re.search(rf"^# Twin: .*\b{path.stem}\b", back, re.MULTILINE) or twin[1] == "steady" or path.stem == "steady"


def test_the_origins_name_every_file_of_the_folder() -> None:
    table = tomllib.loads((FOLDER.parent / "ORIGINS.toml").read_text(encoding="utf-8"))
    listed = {name for origin in table["origin"] for name in origin["files"] if name.startswith("scenarios/")}
    assert listed == {f"scenarios/{path.name}" for path in FOLDER.glob("*.toml")}


def test_the_flights_configuration_is_of_these_boards() -> None:
    scenario = load_scenario(FOLDER / "steady.toml")
    assert set(FLIGHT.models) == set(scenario.models)
    assert (BOARD.module, BOARD.power_mode) == (scenario.board.module, scenario.board.power_mode)


def test_what_a_scenario_is_like_may_be_one_of_ours(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('like = "steady"\n[board]\nidle_w = 7.5\n')
    assert load_scenario(tmp_path / "mine.toml", FOLDER).board.idle_w == 7.5
    with pytest.raises(UsageError, match="There is no scenario"):
        load_scenario(tmp_path / "mine.toml")


def test_a_scenario_lies_over_another_and_its_events_replace_those_below(tmp_path: Path) -> None:
    for name in ("steady", "leak_1mb_per_100_frames"):
        (tmp_path / f"{name}.toml").write_bytes((FOLDER / f"{name}.toml").read_bytes())
    (tmp_path / "mine.toml").write_text('like = "leak_1mb_per_100_frames"\n[board]\nidle_w = 7.5\n')
    (tmp_path / "none.toml").write_text('like = "mine"\nevent = []\nseed = 9\n')
    mine, none = load_scenario(tmp_path / "mine.toml"), load_scenario(tmp_path / "none.toml")
    assert (mine.board.idle_w, none.board.idle_w, mine.board.busy_w) == (7.5, 7.5, 36.0)
    assert ([event.kind for event in mine.events], none.events) == (["leak"], ())
    assert mine.of("leak")[0].numbers == {"size": 1_000_000, "every_calls": 100}
    assert (mine.seed, none.seed) == (4, 9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("idle_watts = 3", "unknown key 'idle_watts'"),
        ("[board]\nidle_wt = 3", r"unknown key 'idle_wt'. Did you mean 'idle_w'\?"),
        ("[board]\np95_ms = 60", "unknown key 'p95_ms'"),
        ("[board]\nidle_w = -1", "idle_w is -1; expected a number above 0"),
        ("[board]\nbusy_w = 1", "expected idle_w <= busy_w"),
        ("[board]\nclocks_mhz = [500, 400]", r"clocks_mhz is \[500, 400\]; expected whole numbers above 0 that rise"),
        ("[board]\nthrottled_mhz = 511", "throttled_mhz is 511; expected one of clocks_mhz"),
        ("[board]\nmemory = '16 gigs'", "memory is '16 gigs'; expected a size"),
        ("[board.fan]\nkelvin_per_w_on = 1\nrpm = 9", r"expected off_c < on_c \(a thermostat\), or on_s < every_s"),
        ("[board.fan]\nkelvin_per_w_on = 1\nrpm = 9\non_c = 5\noff_c = 6", "expected off_c < on_c"),
        ("[board.over_current]\nlimit_w = 9", "needs for_s"),
        ("[model.mine]\nms_at_full_clock = 9", "needs engine, a size"),
        ("[model.lightglue]\nmemory_bound = 1.2", "memory_bound is 1.2; expected a share from 0 to 1"),
        ("[model.lightglue]\ncorrelation = 1", "correlation is 1; expected less than 1"),
        ("[[event]]\nkind = 'brust'", r"kind is 'brust'. Did you mean 'burst'\?"),
        ("[[event]]\nevery_s = 1", "needs kind"),
        ("[[event]]\nkind = 'cap'\nat_s = 3", r"\[\[event\]\] 1: needs mhz"),
        ("[[event]]\nkind = 'cap'\nat_s = 3\nmhz = 90", "under the lowest clock, 306"),
        ("[[event]]\nkind = 'cap'\nat_s = -3\nmhz = 900", "at_s is -3; expected a number above"),
        ("[[event]]\nkind = 'cap'\nat_s = 3\nmhz = 900\nfor_s = 1", "unknown key 'for_s'"),
        ("[[event]]\nkind = 'sensor'\nname = 'x'\ngone_at_s = 1\nback_at = 2", "Did you mean 'back_at_s'"),
        ("[[event]]\nkind = 'leak'\nsize = '1 MiB'\nevery_calls = 3\nmodel = 'disc'", "Did you mean 'disk'"),
        ("[[event]]\nkind = 'burst'\nevery_s = 1\nfor_s = 2\nslower = 3", "lasts 2 s of every 1 s; expected less"),
        ("event = [3]", r"\[\[event\]\] 1 is 3; expected a table"),
        ("seed = -1", "seed is -1"),
        ("a = ", "is not TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "steady.toml").write_bytes((FOLDER / "steady.toml").read_bytes())
    path = tmp_path / "mine.toml"
    path.write_text(f'like = "steady"\n{text}\n')
    with pytest.raises(UsageError, match=words) as told:
        load_scenario(path)
    assert "mine.toml" in str(told.value)


def test_files_that_are_not_there_or_stand_on_each_other_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no scenario .*stedy\.toml. Did you mean 'steady'\?"):
        load_scenario(FOLDER / "stedy.toml")
    (tmp_path / "a.toml").write_text('like = "b"')
    (tmp_path / "b.toml").write_text('like = "a"')
    with pytest.raises(UsageError, match="goes round in a circle"):
        load_scenario(tmp_path / "a.toml")
    (tmp_path / "c.toml").write_text("seed = 1")
    with pytest.raises(UsageError, match=r"has no \[board\]"):
        load_scenario(tmp_path / "c.toml")
    (tmp_path / "d.toml").write_text("like = 3")
    with pytest.raises(UsageError, match="like is 3"):
        load_scenario(tmp_path / "d.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_scenario(tmp_path)


def test_every_kind_of_event_is_played_by_a_file_or_by_a_test_of_the_board() -> None:
    played = {event.kind for path in FILES for event in load_scenario(path).events}
    assert played == EVENTS.keys()
