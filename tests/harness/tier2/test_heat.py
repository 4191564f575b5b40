"""Rows about heat, on made-up boards: each verdict, what it says, and what naive gates say of the same boards."""

import math

import numpy as np
import pytest

from harness.instruments.trace import Frame, Trace
from harness.profiles import PROFILES
from harness.records import Case, Check, Measurement, Outcome, Verdict
from harness.statistics.steadiness import SoakRule
from harness.statistics.stopping import BudgetRule
from harness.tier2.heat import blocks, cool_down, episodes, figures, judge_heat
from harness.tier2.heat_figures import NOT_APPLICABLE
from harness.tier2.samples import SampleLog
from harness.tier2.soak import Soak
from runtime.protocol import Array
from tests.harness.heat_boards import MS, Board, always, run

pytestmark = pytest.mark.long


PR = PROFILES["pr"]
BUDGET_NS = 60 * MS
CASE = Case("heat-torch", 2, "heat", "heat", "torch", "fp16", "fp16", "small")


def warming(t: Array) -> Array:
    return np.asarray(40.0 + 35.0 * (1.0 - np.exp(-t / 120.0)))


WARM = Board(temp_c=warming)


def saw(t: Array) -> Array:
    return np.asarray(t % 60.0 < 12.0)


def slow(t: Array) -> Array:
    return np.where(saw(t), 700.0, 1000.0)


def from_the(second: float) -> Board:
    """It throttles from then on."""
    return Board(
        temp_c=warming,
        clock_mhz=lambda t: np.where(t > second, 700.0, 1000.0),
        is_alert=lambda t: np.asarray(t > second),
    )


def judge(
    board: Board,
    budget_ns: int | None = BUDGET_NS,
    *,
    profile: str = "pr",
    incomplete: str = "",
    checks: tuple[Check, ...] = (),
    soak: dict[str, object] | None = None,
) -> Verdict:
    measurement = Measurement(case=CASE, incomplete=incomplete)
    return judge_heat(
        measurement, *run(board), budget_ns=budget_ns, profile=PROFILES[profile], is_open=False, state_checks=checks,
        soak=soak,
    )  # fmt: skip


def checked(verdict: Verdict) -> dict[str, Outcome]:
    return {check.name: check.outcome for check in verdict.checks}


@pytest.mark.covers("T2-01", "T2-03")
def test_a_budget_that_is_held_when_the_board_is_hot_passes_and_says_what_it_stands_on() -> None:
    verdict = judge(WARM)
    assert verdict.outcome is Outcome.PASS
    assert set(checked(verdict).values()) == {Outcome.PASS}
    assert verdict.reason.startswith(
        "p95 55.2 ms [54.9, 55.4] over 600 s, never throttled; held in all of its minutes, at up to 75.0"
    )
    judgement = verdict.summary.judgement
    assert judgement is not None
    assert (judgement.cause, judgement.alpha, judgement.budget_ns) == ("", 0.05, BUDGET_NS)
    assert judgement.launches[0].count == 6000
    assert judgement.launches[0].throttled == 0


@pytest.mark.covers("T2-03")
@pytest.mark.parametrize("second", [700.0, 901.0, 1100.0])
def test_a_board_that_begins_to_throttle_fails_whenever_it_does(second: float) -> None:
    """A step is one cluster to the design effect: the minutes after it are the hottest, and decide."""
    verdict = judge(from_the(second))
    assert verdict.outcome is Outcome.FAIL
    assert "heat: " in verdict.reason
    assert "(gpu-throttle-alert)" in verdict.reason
    assert verdict.remedy.startswith("Cool the board better")
    judgement = verdict.summary.judgement
    assert judgement is not None
    assert judgement.cause.startswith("thermal: ")


@pytest.mark.parametrize("is_mild", [False, True])
def test_a_throttle_saw_is_judged_with_all_its_calls(is_mild: bool) -> None:
    """12 s of each minute at 700 MHz: a fifth is late. Its twin at 930 MHz is in time, throttled as it is, and passes."""
    clock = (lambda t: np.where(saw(t), 930.0, 1000.0)) if is_mild else slow
    verdict = judge(Board(temp_c=warming, clock_mhz=clock, is_alert=saw, noise=0.03))
    assert verdict.outcome is (Outcome.PASS if is_mild else Outcome.FAIL)
    if is_mild:
        assert "held while throttled 25 %" in verdict.reason


def test_over_current_and_a_governor_are_named_as_such() -> None:
    drawn = judge(Board(temp_c=warming, clock_mhz=slow, oc_events=lambda t: np.cumsum(saw(t)).astype(float)))
    assert (drawn.outcome, drawn.remedy[:30]) == (Outcome.FAIL, "Choose a power mode with lower")
    governed = judge(Board(temp_c=warming, clock_mhz=slow, load_percent=always(60.0)))
    assert governed.outcome is Outcome.FAIL
    assert "sudo jetson_clocks" in governed.remedy


@pytest.mark.covers("T2-03")
def test_a_hot_spell_that_all_of_the_run_would_hide_fails() -> None:
    """Two minutes at 81 degrees, with a quarter of their calls late: a twentieth of all."""

    def is_hot(t: Array) -> Array:
        return np.asarray((t > 900.0) & (t < 1020.0))

    board = Board(temp_c=lambda t: warming(t) + 6.0 * is_hot(t), work=lambda t: np.where(is_hot(t), 57.5, 48.0))
    verdict = judge(board)
    assert verdict.outcome is Outcome.FAIL
    assert checked(verdict)["sustained"] is not Outcome.FAIL
    assert "in the 2 min that were hottest, at up to 81.0 °C" in verdict.reason


@pytest.mark.covers("T2-03")
def test_a_cap_that_is_changed_in_mid_run_decides_nothing() -> None:
    def lowered(t: Array) -> Array:
        return np.where(t > 900.0, 700.0, 1000.0)

    verdict = judge(Board(temp_c=warming, clock_mhz=lowered, cap_mhz=lowered))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "the GPU's cap went from 1000 to 700 MHz after 901 s under load, with no alert" in verdict.reason
    by_heat = Board(temp_c=warming, clock_mhz=lowered, cap_mhz=lowered, is_alert=lambda t: np.asarray(t > 900.0))
    assert judge(by_heat).outcome is Outcome.FAIL


def test_a_board_in_another_state_than_declared_decides_nothing_however_slow_it_was() -> None:
    other = Check("board: power mode", Outcome.INCONCLUSIVE, "15W instead of MAXN")
    verdict = judge(from_the(700.0), checks=(other,))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason.startswith("15W instead of MAXN; heat: ")


def test_what_never_settled_was_not_seen_or_was_cut_short_does_not_pass() -> None:
    rising = judge(Board(temp_c=lambda t: 40.0 + t / 30.0))
    assert rising.outcome is Outcome.INCONCLUSIVE
    assert rising.reason.startswith("measured before it was steady: soaking, 600 of at most 1800 s")
    told = judge(WARM, soak={"is_steady": False, "words": "not steady after 1800 s"})
    assert (told.outcome, told.reason) == (Outcome.INCONCLUSIVE, "not steady after 1800 s")
    gap = judge(Board(temp_c=warming, lost=((800.0, 860.0),)))
    assert gap.outcome is Outcome.INCONCLUSIVE
    assert gap.reason.startswith("no temperature was read for 61 s")
    short = judge(Board(temp_c=warming, measure_s=200.0))
    assert (short.outcome, short.reason) == (
        Outcome.INCONCLUSIVE, "measured for 200 of 600 s, too short to say what heat does",
    )  # fmt: skip
    killed = judge(WARM, incomplete="interrupted")
    assert killed.reason == "measured for 600 of 600 s: interrupted"
    quick = judge(Board(temp_c=warming, soak_s=0.0, measure_s=120.0), profile="quick")
    assert (quick.outcome, "Take --profile pr" in quick.reason) == (Outcome.INCONCLUSIVE, True)
    assert judge(Board(temp_c=warming, work=lambda t: 50.0 + t / 300.0)).outcome is Outcome.INCONCLUSIVE


def test_a_sensor_that_goes_away_leaves_the_work_to_the_next_one() -> None:
    columns, trace = run(WARM)
    frames = [
        Frame(
            frame.at_ns, {**frame.values, "tj_temp_c": frame.values["gpu_temp_c"] + 2.0} if at < 700 else frame.values
        )
        for at, frame in enumerate(trace)
    ]
    verdict = judge_heat(Measurement(case=CASE), columns, Trace(frames), budget_ns=BUDGET_NS, profile=PR, is_open=False)
    assert verdict.outcome is Outcome.PASS
    assert {check.name: check.reason for check in verdict.checks}["telemetry"] == "gpu_temp_c was read all along"


def test_calls_that_all_fail_fail_the_row_with_a_budget_or_without() -> None:
    broken = Board(temp_c=warming, fails=always(1.1))
    assert judge(broken).outcome is Outcome.FAIL
    assert judge(broken, None).outcome is Outcome.FAIL


@pytest.mark.covers("T2-03")
def test_without_a_budget_it_is_measured_and_without_a_sensor_it_is_not_applicable() -> None:
    free = judge(WARM, None)
    assert free.outcome is Outcome.MEASURED
    assert free.reason.endswith("no budget applies to this board")
    assert len(free.summary.figures) > 10
    bare = judge(Board(lacks=("gpu_temp_c",)))
    assert (bare.outcome, bare.reason) == (Outcome.NOT_RUN, NOT_APPLICABLE)
    assert bare.reason.startswith("not applicable: no temperature sensor")
    assert bare.summary.latency is not None
    empty = judge_heat(
        Measurement(case=CASE, incomplete="the engine died"), SampleLog(["mix"]).columns(), run(WARM)[1],
        budget_ns=BUDGET_NS, profile=PR, is_open=True,
    )  # fmt: skip
    assert (empty.outcome, empty.reason) == (Outcome.INCONCLUSIVE, "nothing was measured: the engine died")


def test_sign_off_passes_nothing_without_a_floor() -> None:
    columns, trace = run(Board(temp_c=warming, measure_s=1800.0, rate_hz=5.0, noise=0.03))
    for floor, outcome in ((None, Outcome.INCONCLUSIVE), (2.0, Outcome.PASS)):
        verdict = judge_heat(
            Measurement(case=CASE), columns, trace, budget_ns=BUDGET_NS, profile=PROFILES["signoff"], is_open=False,
            floor=floor,
        )  # fmt: skip
        assert verdict.outcome is outcome


def test_what_heat_did_is_in_figures() -> None:
    board = Board(
        temp_c=lambda t: np.where(t < 1200.0, warming(t), 25.0 + 50.0 * np.exp(-(t - 1200.0) / 100.0)),
        work=lambda t: np.where(t < 300.0, 40.0, 50.0), clock_mhz=lambda t: np.where(saw(t) & (t > 400.0), 700.0, 1000.0),
        is_alert=lambda t: saw(t) & (t > 400.0), after_s=300.0, noise=0.02,
    )  # fmt: skip
    seen = {figure.name: figure for figure in figures(*run(board), False)}
    assert seen["time_to_throttle_s"].value == pytest.approx(420.0, abs=2.0)
    assert seen["throttle_episodes"].value == 13.0
    assert seen["held_while_throttled_percent"].value == pytest.approx(20.0, abs=6.0)
    ratio = seen["hot_over_cold_p50"]
    assert ratio.value == pytest.approx(1.25, rel=0.02)
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low < 1.25 < ratio.high
    assert "at 75.0 and 40.0 °C" in ratio.source
    assert (seen["gpu_clock_p5_mhz"].value, seen["gpu_clock_p50_mhz"].value) == (700.0, 1000.0)
    assert seen["temp_start_c"].value == 40.0
    assert seen["temp_max_c"].value == pytest.approx(75.0, abs=0.1)
    assert seen["cool_down_s"].value == pytest.approx(100.0 * math.log(50.0 / 32.5), abs=2.0)


def test_figures_that_cannot_be_had_say_why() -> None:
    short = {figure.name: figure for figure in figures(*run(Board(soak_s=0.0, measure_s=60.0)), False)}
    assert short["hot_over_cold_p95"].why == "the run has no two minutes to compare"
    assert short["time_to_throttle_s"].why == "the board did not throttle in 60 s"
    assert short["cool_down_s"].why == "the trace does not reach beyond the load"
    lacks = ("gpu_clock_mhz", "gpu_cap_mhz", "gpu_load_percent", "oc_events", "gpu_temp_c")
    blind = {figure.name: figure for figure in figures(*run(Board(lacks=lacks)), False)}
    assert [name for name, figure in blind.items() if figure.value is None and not figure.why] == []
    assert blind["held_while_throttled_percent"].value is None
    assert blind["throttle_episodes"].value is None


def test_cooling_down_is_timed_to_a_temperature_or_to_a_share_of_the_rise() -> None:
    falling = Trace(
        [Frame(t * 10**9, {"tj_temp_c": 40.0 + 0.4 * t if t < 100 else 80.0 - (t - 100) / 10.0}) for t in range(400)]
    )
    ended_ns = 100 * 10**9
    assert cool_down(falling, ended_ns).value == pytest.approx(200.0, abs=5.0)
    assert cool_down(falling, ended_ns, to_c=70.0).value == pytest.approx(100.0)
    assert cool_down(falling, ended_ns, to_c=30.0).why == "it was not reached in the trace"
    assert cool_down(falling, ended_ns, to_c=90.0).why == "the board was no warmer when the load ended"
    assert cool_down(Trace(), 0).value is None


def test_blocks_hold_every_call_but_warm_up_and_nothing_that_was_not_seen() -> None:
    columns, trace = run(Board(temp_c=warming, clock_mhz=slow, is_alert=saw, lost=((300.0, 420.0),)))
    table = blocks(columns, trace, 20)
    assert {values.size for values in table.values()} == {20}
    assert table["calls"].sum() == columns["status"].size
    assert table["t_s"][0] == pytest.approx(30.0, abs=0.1)
    assert table["measured"].tolist() == [0.0] * 10 + [1.0] * 10
    assert np.isnan(table["temp_c"][5:7]).all()
    assert np.isfinite(np.delete(table["temp_c"], [5, 6])).all()
    assert table["p95_ms"][-1] > 70.0 > 52.0 > table["p50_ms"][-1]
    assert table["throttled"][-1] == pytest.approx(0.2, abs=0.06)
    assert table["clock_mhz"][-1] == pytest.approx(940.0, abs=5.0)
    assert blocks(SampleLog(["mix"]).columns(), trace)["t_s"].size == 0
    lost = blocks(run(Board(fails=always(1.1)))[0], trace, 4)
    assert np.isinf(lost["p95_ms"]).all()


def test_episodes_are_those_of_the_flight_s_detector() -> None:
    found = episodes(run(Board(clock_mhz=slow, is_alert=saw))[1])
    assert len(found) == 20
    assert {one.causes for one in found} == {("thermal",)}


def test_calls_at_the_rate_of_the_flight_mix_are_judged_alike() -> None:
    assert judge(Board(temp_c=warming, rate_hz=40.0, work=always(12.0)), 15 * MS).outcome is Outcome.PASS


@pytest.mark.covers("T2-03")
def test_naive_warm_ups_pass_boards_that_are_too_slow_when_hot_and_the_soak_does_not() -> None:
    """Methods A4: fifty warm-up calls and p95 of a thousand pass every one of them; 6 to 10 % of the calls are late when hot."""
    chance = np.random.default_rng(11)
    rule = SoakRule()
    naive = soaked = 0
    for _ in range(20):
        tau_s, drift, late = chance.uniform(120, 300), chance.uniform(0.09, 0.12), chance.choice([1.405, 1.476, 1.555])
        hot_ns = 50e6 * (1.0 + drift)
        budget_ns = int(hot_ns * math.exp(0.06 * late))  # of a normal deviate: 8, 7 and 6 % are beyond it

        def calls(start_s: float, count: int) -> Array:
            at_s = start_s + np.arange(count) / 39.0
            warmth = 1.0 - np.exp(-at_s / tau_s)  # noqa: B023
            noise = np.exp(0.06 * chance.standard_normal(count))
            return np.asarray(50e6 * (1.0 + drift * warmth) * noise, np.int64)  # noqa: B023

        naive += bool(np.quantile(calls(50 / 39.0, 1000), 0.95) <= budget_ns)
        growing, soak = Trace(), Soak(rule)
        for t in range(0, 1800, 4):
            growing.add(Frame(t * 10**9, {"gpu_temp_c": 40.0 + 35.0 * (1.0 - math.exp(-t / tau_s))}))
            if t >= 400 and soak.state(growing, 0, t * 10**9).is_over:
                break
        latencies = calls(float(t), 39 * 150)
        budget = BudgetRule(budget_ns, 39.0, least=4680, most=46_800)
        soaked += budget.judge(latencies, np.zeros(latencies.size, bool)).outcome is Outcome.PASS
    assert naive == 20
    assert soaked == 0
