"""The verdict of a latency row, on samples whose truth is known, and on what fools a naive gate."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from harness.config import Budget
from harness.errors import UsageError
from harness.floors import Floor
from harness.instruments.trace import Frame, Trace
from harness.profiles import PROFILES
from harness.records import Case, Check, Measurement, Outcome, Verdict, from_json, to_json
from harness.tier2.latency_gate import budget_ns_of, judge, target_ns_of, unlike
from harness.tier2.samples import UNKNOWN, Phase, Status
from harness.tier2.station import Stream
from runtime.protocol import Array

CASE = Case("latency[m-tensorrt]", 2, "latency", "m", "tensorrt", "fp16", "fp16", "full")
ROW = Measurement(case=CASE, rate_hz=39.0, profile="pr", provider="tensorrt", timing_boundary="numpy to numpy")
PR, SIGNOFF = PROFILES["pr"], PROFILES["signoff"]
BUDGET = Budget(p95_ms=20.0)
FLOOR = Floor(2.0, 3, "three nights")
LEAST = 4680
BODY_NS = 12_000_000


def took(count: int = LEAST, share: float = 0.01, seed: int = 1) -> Array:
    """Service times: about 12 ms, and 22 ms for a share of them."""
    chance = np.random.default_rng(seed)
    body = (BODY_NS * chance.lognormal(0.0, 0.05, count)).astype(np.int64)
    body[chance.random(count) < share] = 22_000_000
    return body


def rows(service_ns: Array, launch: int = 0, *, status: Array | None = None, rate_hz: float = 39.0) -> dict[str, Array]:
    count = service_ns.size
    zero = np.zeros(count, np.int64)
    due = np.round(np.arange(count) * 1e9 / rate_hz).astype(np.int64)
    return {
        "launch": zero + launch, "stream": zero, "scheduled_ns": due, "woke_ns": due, "started_ns": due,
        "done_ns": due + service_ns, "phase": zero + Phase.MEASURE, "status": zero if status is None else status,
        "h2d_ns": zero + UNKNOWN, "compute_ns": zero + UNKNOWN, "d2h_ns": zero + UNKNOWN, "wait_ns": zero + UNKNOWN,
    }  # fmt: skip


def joined(*launches: dict[str, Array]) -> dict[str, Array]:
    return {name: np.concatenate([one[name] for one in launches]) for name in launches[0]}


def trace(seconds: int, *, throttled: Callable[[float], bool] = lambda s: False, hz: float = 2.0) -> Trace:
    """A board at 900 MHz; while throttled at 600, with the alert of the GPU's zone."""
    frames = []
    for at in range(int(seconds * hz)):
        hot = throttled(at / hz)
        values = {
            "gpu_clock_mhz": 600.0 if hot else 900.0, "gpu_cap_mhz": 900.0, "gpu_load_percent": 95.0,
            "gpu_temp_c": 90.0 if hot else 60.0, "power_w": 20.0, "alert_sensors": 1.0,
        }  # fmt: skip
        frames.append(Frame(round(at * 1e9 / hz), values, ("gpu-throttle-alert",) if hot else ()))
    return Trace(frames)


def ruled(columns: dict[str, Array], **changes: object) -> Verdict:
    asked = {"budget": BUDGET, "profile": PR, "floor": None, **changes}
    row = asked.pop("row", ROW)
    return judge(row, columns, asked.pop("trace", None), **asked)  # type: ignore[arg-type] # keywords by name


def named(verdict: Verdict, name: str) -> Check:
    return next(check for check in verdict.checks if check.name == name)


def figure(verdict: Verdict, name: str) -> float | None:
    return next(one.value for one in verdict.summary.figures if one.name == name)


@pytest.mark.covers("T2-03")
def test_a_clear_row_passes_with_the_bound_that_decided_it() -> None:
    verdict = ruled(rows(took()))
    assert verdict.outcome is Outcome.PASS
    assert verdict.reason.startswith("p95 is under 20 ms, at most 13.")
    judgement = verdict.summary.judgement
    assert judgement is not None
    assert judgement.bound_ns is not None
    assert 12_900_000 < judgement.bound_ns < 20_000_000
    assert judgement.blind_spot == "clusters of slow calls rarer than about one in 12 s are not bounded"
    assert (judgement.alpha, judgement.budget_ns, judgement.needed, judgement.cause) == (0.05, 20_000_000, None, "")
    assert [one.exceedances for one in judgement.launches] == [int((took() > 20_000_000).sum())]
    assert from_json(Verdict, to_json(verdict)) == verdict


@pytest.mark.covers("T2-03")
def test_a_row_over_its_budget_fails_with_a_cause() -> None:
    verdict = ruled(rows(took(share=0.10)), trace=trace(120))
    assert verdict.outcome is Outcome.FAIL
    assert "p95 is over 20 ms" in verdict.reason
    assert verdict.summary.judgement is not None
    assert "cause: more work" in verdict.reason
    assert verdict.summary.judgement.cause.startswith("more work")


def test_a_lucky_run_whose_p95_is_under_the_budget_is_not_passed() -> None:
    """7 % of all calls exceed; in these 300 it was 4 %, so that a gate on the sample's p95 passes."""
    service = took(LEAST, 0.0)
    service[np.random.default_rng(3).choice(LEAST, int(0.045 * LEAST), replace=False)] = 22_000_000
    assert np.quantile(service, 0.95) < 20_000_000
    verdict = ruled(rows(service))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.summary.judgement is not None
    needed = verdict.summary.judgement.needed
    assert needed is not None
    assert f"about {needed} more samples would decide, {needed / 39:.0f} s at 39 Hz" in verdict.reason


@pytest.mark.covers("T2-03")
def test_slow_spells_are_not_taken_for_independent_calls() -> None:
    """3 % of the calls are slow, all in two spells: as independent calls they would pass."""
    spread, spells = took(share=0.0), took(share=0.0)
    spread[:: LEAST // 140] = 22_000_000
    spells[1000:1070] = spells[3000:3070] = 22_000_000
    assert ruled(rows(spread)).outcome is Outcome.PASS
    assert ruled(rows(spells)).outcome is Outcome.INCONCLUSIVE


@pytest.mark.covers("T2-03")
def test_a_floor_from_history_is_held_against_a_run_that_was_lucky() -> None:
    columns = rows(took(share=0.02))
    assert ruled(columns).outcome is Outcome.PASS
    floored = ruled(columns, floor=Floor(60.0, 3, "three nights", carried_from="tensorrt 10.3"))
    assert floored.outcome is Outcome.INCONCLUSIVE
    assert floored.summary.judgement is not None
    assert floored.summary.judgement.floor_source == "three nights; carried over from tensorrt 10.3"
    assert floored.summary.judgement.effect >= 60.0


def test_failed_and_dropped_calls_are_over_any_budget() -> None:
    status = np.where(np.arange(LEAST) % 12 == 0, Status.FAILED, Status.OK)
    status[::24] = Status.DROPPED
    verdict = ruled(rows(took(share=0.0), status=status))
    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason == f"{LEAST // 12} of {LEAST} calls failed or were dropped: no p95 exists"
    assert verdict.summary.measurement.failed_count == LEAST // 24
    few = np.where(np.arange(LEAST) % 100 == 0, Status.FAILED, Status.OK)
    verdict = ruled(rows(took(share=0.0), status=few))
    assert verdict.outcome is Outcome.PASS
    assert verdict.summary.measurement.warnings == ("47 of 4680 calls failed or were dropped",)
    assert "(47 of 4680 over it)" in verdict.reason


@pytest.mark.parametrize("budget", [BUDGET, None])
def test_a_launch_in_which_every_call_failed_fails_with_and_without_a_budget(budget: Budget | None) -> None:
    status = np.full(5, Status.FAILED)
    verdict = ruled(rows(took(5), status=status), budget=budget)
    assert (verdict.outcome, verdict.reason) == (Outcome.FAIL, "every one of 5 calls failed")
    assert verdict.summary.latency is None


@pytest.mark.covers("T2-02")
def test_without_a_budget_a_row_is_measured_and_never_judged() -> None:
    for share in (0.0, 0.5):
        for budget in (None, Budget(load_s=5.0)):
            verdict = ruled(rows(took(share=share)), budget=budget)
            assert verdict.outcome is Outcome.MEASURED
            assert verdict.reason.endswith("no budget applies to this board")
            assert verdict.summary.latency is not None
            assert verdict.summary.judgement is not None
            assert verdict.summary.judgement.launches[0].outcome is Outcome.MEASURED


def test_too_few_samples_pass_nothing() -> None:
    verdict = ruled(rows(took(1000, 0.0)))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "1000 samples are too few: 4680 are the least" in verdict.reason
    assert ruled(rows(took(1000, 0.5))).outcome is Outcome.FAIL


@pytest.mark.covers("T2-03")
def test_a_window_that_drifts_is_open() -> None:
    service = (took(share=0.0) * np.linspace(1.0, 1.08, LEAST)).astype(np.int64)
    verdict = ruled(rows(service))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "not stationary: p50 moved by +" in verdict.reason
    assert verdict.summary.judgement is not None
    assert verdict.summary.judgement.drift == pytest.approx(0.08, abs=0.01)


SHORT = replace(SIGNOFF, least_s=60.0, least_calls=600)  # a sign-off whose launches are a minute, so that tests are


def five(shares: list[float]) -> dict[str, Array]:
    return joined(*(rows(took(2340, share, seed=at), at) for at, share in enumerate(shares)))


def test_a_sign_off_passes_where_each_of_five_launches_does() -> None:
    verdict = ruled(five([0.002] * 5), profile=SHORT, floor=FLOOR)
    assert verdict.outcome is Outcome.PASS
    assert "in each of 5 launches" in verdict.reason
    assert "with 99 % confidence" in verdict.reason
    assert verdict.summary.measurement.launches == 5
    assert verdict.summary.latency is not None
    assert verdict.summary.latency.count == 5 * 2340
    assert figure(verdict, "launch_spread") == pytest.approx(0.2, abs=0.3)


@pytest.mark.covers("T2-03")
def test_one_bad_launch_of_five_fails_the_row_although_all_together_would_pass() -> None:
    columns = five([0.001, 0.001, 0.001, 0.2, 0.001])
    pooled = ruled({**columns, "launch": columns["launch"] * 0}, profile=replace(SHORT, launches=1), floor=FLOOR)
    assert pooled.outcome is not Outcome.FAIL
    verdict = ruled(columns, profile=SHORT, floor=FLOOR)
    assert verdict.outcome is Outcome.FAIL
    assert "launch 3: " in verdict.reason
    assert "(1 of 5 launches)" in verdict.reason


def test_one_open_launch_of_five_leaves_the_row_open() -> None:
    verdict = ruled(five([0.001, 0.045, 0.001, 0.001, 0.001]), profile=SHORT, floor=FLOOR)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "launch 1: " in verdict.reason


@pytest.mark.covers("T2-03")
def test_without_a_floor_nothing_is_signed_off() -> None:
    verdict = ruled(five([0.002] * 5), profile=SHORT)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "that would pass, but no history of this board gives a floor" in verdict.reason
    assert ruled(five([0.2] * 5), profile=SHORT).outcome is Outcome.FAIL


def test_what_a_change_may_pass_on_is_too_little_for_a_sign_off() -> None:
    one, columns = replace(SHORT, launches=1), rows(took(2340, 0.03, seed=4))
    assert ruled(columns, profile=replace(one, alpha=0.05), floor=FLOOR).outcome is Outcome.PASS
    assert ruled(columns, profile=one, floor=FLOOR).outcome is Outcome.INCONCLUSIVE


@pytest.mark.covers("T2-03")
def test_fewer_launches_than_the_profile_asks_for_sign_nothing_off() -> None:
    columns = joined(*(rows(took(2340, 0.001, seed=at), at) for at in range(4)))
    verdict = ruled(columns, profile=SHORT, floor=FLOOR)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason.startswith(
        "4 of 5 launches that the profile signoff asks for; what was measured: p95 is under"
    )


@pytest.mark.covers("T2-03")
def test_launches_of_unlike_kinds_are_not_pooled() -> None:
    kinds = [ROW, ROW, replace(ROW, provider="cpu"), ROW, ROW]
    verdict = ruled(five([0.001] * 5), profile=SHORT, floor=FLOOR, launches=kinds)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "provider is 'tensorrt' in the first launch and 'cpu' in launch 2" in verdict.reason
    assert verdict.summary.latency is None
    assert unlike([ROW, replace(ROW, timing_boundary="device to device")]).startswith("timing boundary is")
    assert unlike([ROW, ROW]) == unlike([]) == ""


@pytest.mark.covers("T2-03", "T2-04")
@pytest.mark.parametrize("share", [0.001, 0.3])
@pytest.mark.parametrize("budget", [BUDGET, None])
def test_a_board_in_another_state_leaves_the_row_open_whatever_it_measured(share: float, budget: Budget | None) -> None:
    checks = (Check("board: power mode", Outcome.INCONCLUSIVE, "the power mode is 15W: sudo nvpmodel -m 0"),)
    verdict = ruled(rows(took(share=share)), state_checks=checks, budget=budget)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason.startswith("the power mode is 15W: sudo nvpmodel -m 0")
    fine = (replace(checks[0], outcome=Outcome.PASS),)
    assert ruled(rows(took()), state_checks=fine).outcome is Outcome.PASS


def test_a_placement_that_was_refused_stays_refused() -> None:
    checks = (Check("placement", Outcome.FAIL, "ran on the CPU of a host with a GPU"),)
    verdict = ruled(rows(took()), state_checks=checks)
    assert (verdict.outcome, verdict.reason) == (Outcome.FAIL, "ran on the CPU of a host with a GPU")


@pytest.mark.covers("T2-03")
def test_a_harness_that_was_late_neither_passes_nor_fails_anything() -> None:
    columns = rows(took(share=0.0))
    behind = np.where(np.arange(LEAST) % 10 == 0, 10_000_000, 0)
    late = {**columns, **{name: columns[name] + behind for name in ("woke_ns", "started_ns", "done_ns")}}
    verdict = ruled(late)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "the harness woke more than" in verdict.reason
    assert "but for that: p95 is over" in verdict.reason
    assert figure(verdict, "harness_late_p99_ns") == 10_000_000
    assert ruled(late, budget=None).outcome is Outcome.MEASURED


@pytest.mark.covers("T2-01")
@pytest.mark.parametrize("budget", [Budget(p95_ms=10_000.0), None])
def test_a_load_that_cannot_be_served_fails_with_its_utilisation(budget: Budget | None) -> None:
    verdict = ruled(rows(took(share=0.0) * 3), budget=budget)
    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason.startswith("overload: a second of this load asks for 1.4")
    utilisation = figure(verdict, "utilisation")
    assert utilisation is not None
    assert 1.3 < utilisation < 1.5


@pytest.mark.covers("T2-03")
def test_a_run_that_was_cut_short_fails_on_its_evidence_and_never_passes() -> None:
    cut = replace(ROW, incomplete="interrupted by Ctrl-C")
    passing = ruled(rows(took()), row=cut)
    assert passing.outcome is Outcome.INCONCLUSIVE
    assert passing.reason.startswith("incomplete: interrupted by Ctrl-C; what was measured: p95 is under 20 ms")
    assert ruled(rows(took(share=0.2)), row=cut).outcome is Outcome.FAIL
    nothing = ruled({name: values[:0] for name, values in rows(took()).items()}, row=cut)
    assert nothing.outcome is Outcome.INCONCLUSIVE
    assert ruled({name: values[:0] for name, values in rows(took()).items()}, row=cut, budget=None).outcome is (
        Outcome.INCONCLUSIVE
    )


@pytest.mark.covers("T2-03")
def test_a_clock_that_went_back_or_was_lost_decides_nothing() -> None:
    columns = rows(took())
    columns["done_ns"][7] = columns["started_ns"][7] - 5
    verdict = ruled(columns)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "1 of 4680 calls ended before they began" in verdict.reason
    suspended = ruled(rows(took()), lost_ns=90_000_000_000)
    assert suspended.outcome is Outcome.INCONCLUSIVE
    assert "by 90.0 s" in suspended.reason
    assert ruled(rows(took()), lost_ns=3_000_000).outcome is Outcome.PASS


@pytest.mark.covers("T2-03")
def test_throttled_samples_are_marked_counted_and_judged() -> None:
    hot = (np.arange(LEAST) // 39) % 10 == 0
    service = np.where(hot, took(share=0.0) * 3 // 2, took(share=0.0))
    verdict = ruled(rows(service), trace=trace(121, throttled=lambda s: int(s) % 10 == 0), budget=Budget(p95_ms=25.0))
    assert verdict.outcome is Outcome.PASS
    share = figure(verdict, "throttled_requests_share")
    assert share is not None
    assert 10.0 <= share <= 30.0
    assert f"held while throttled {share:.0f} %" in verdict.reason
    assert verdict.summary.judgement is not None
    assert verdict.summary.judgement.launches[0].throttled == round(share / 100 * LEAST)
    cold, warm = figure(verdict, "p95_unthrottled_ns"), figure(verdict, "p95_throttled_ns")
    assert cold is not None
    assert warm is not None
    assert warm > 1.3 * cold
    assert figure(verdict, "energy_per_call_j") == pytest.approx(20 / 39, rel=0.02)


@pytest.mark.covers("T2-03")
def test_heat_is_named_as_the_cause() -> None:
    service = np.where((np.arange(LEAST) // 39) % 4 == 0, took(share=0.0) * 2, took(share=0.0))
    verdict = ruled(rows(service), trace=trace(121, throttled=lambda s: int(s) % 4 == 0))
    assert verdict.outcome is Outcome.FAIL
    assert verdict.summary.judgement is not None
    assert verdict.summary.judgement.cause.startswith("heat: 100 % of")
    assert "of the requests met a throttled board; cause: heat" in verdict.reason


def test_a_gap_in_the_trace_is_said_and_hides_no_sample() -> None:
    whole = trace(121)
    gappy = Trace([frame for frame in whole if not 30e9 < frame.at_ns < 66e9])
    verdict = ruled(rows(took()), trace=gappy)
    assert verdict.outcome is Outcome.PASS
    assert "not known for 30 % of the requests" in verdict.reason or "not known for 29 %" in verdict.reason
    assert ruled(rows(took(share=0.2)), trace=gappy).outcome is Outcome.FAIL
    none = ruled(rows(took()))
    assert figure(none, "throttled_requests_share") is None
    assert none.summary.judgement is not None
    assert none.summary.judgement.launches[0].throttled is None


def test_marks_of_a_run_folder_stand_in_for_its_trace() -> None:
    columns = {**rows(took()), "throttled": np.where(np.arange(LEAST) < LEAST // 4, 1, 0)}
    assert figure(ruled(columns), "throttled_requests_share") == 25.0


@pytest.mark.covers("OR-07")
def test_a_target_warns_and_fails_nothing() -> None:
    budget = Budget(p95_ms=20.0, target_p95_ms=9.0)
    verdict = ruled(rows(took()), budget=budget)
    assert verdict.outcome is Outcome.PASS
    assert "is over the target of 9 ms" in verdict.reason
    assert len(verdict.summary.measurement.warnings) == 1
    assert target_ns_of(budget, "onnx_trt_ep") == 13_500_000
    assert target_ns_of(budget, "tensorrt") == 9_000_000
    assert target_ns_of(BUDGET, "tensorrt") is None
    row = replace(ROW, case=replace(CASE, runtime="onnx_trt_ep"))
    assert ruled(rows(took()), row=row, budget=budget).summary.measurement.warnings == ()
    assert "target of 12 ms" in ruled(rows(took()), target_p95_ns=12_000_000, budget=None).reason


def test_a_budget_of_energy_is_held_or_said_to_be_unknown() -> None:
    columns = rows(took())
    for limit, outcome in ((600.0, Outcome.PASS), (400.0, Outcome.FAIL)):
        budget = Budget(p95_ms=20.0, energy_mj=limit)
        assert ruled(columns, trace=trace(121), budget=budget).outcome is outcome
    verdict = ruled(columns, budget=Budget(p95_ms=20.0, energy_mj=600.0))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "not known to be under 600 mJ a call: no telemetry" in verdict.reason


@pytest.mark.covers("T2-03")
def test_a_quick_row_says_that_it_is_indicative() -> None:
    quick = PROFILES["quick"]
    for share, outcome in ((0.0, Outcome.PASS), (0.5, Outcome.FAIL), (0.04, Outcome.MEASURED)):
        verdict = ruled(rows(took(150, share)), profile=quick)
        assert verdict.outcome is outcome
        assert verdict.reason.startswith("indicative: p95 is")


def test_a_closed_loop_counts_from_the_start_of_each_call_and_has_no_overload() -> None:
    service = took(share=0.0) * 3
    columns = rows(service)
    columns["started_ns"] = np.concatenate([[0], np.cumsum(service)[:-1]])
    columns["done_ns"] = columns["started_ns"] + service
    verdict = ruled(columns, row=replace(ROW, rate_hz=None), budget=Budget(p95_ms=50.0))
    assert verdict.outcome is Outcome.PASS
    assert verdict.summary.latency is not None
    assert verdict.summary.latency.p50.value_ns == pytest.approx(36e6, rel=0.02)
    assert verdict.summary.latency.calls_per_s == pytest.approx(1 / 0.036, rel=0.02)
    assert all(check.name != "load" for check in verdict.checks)


def test_only_the_judged_phase_and_stream_count() -> None:
    slow, good = rows(took(share=1.0)), rows(took(share=0.0))
    soak = {**slow, "phase": slow["phase"] * 0 + Phase.SOAK}
    after = {name: good[name] + 120_000_000_000 for name in ("scheduled_ns", "woke_ns", "started_ns", "done_ns")}
    assert ruled(joined(soak, {**good, **after})).outcome is Outcome.PASS
    streams = (Stream(CASE, 39.0), Stream(replace(CASE, model="other"), 1.0, deadline_ns=15_000_000))
    other = rows(took(120, share=1.0), rate_hz=1.0)
    both = joined(good, {**other, "stream": other["stream"] + 1})
    order = np.argsort(both["scheduled_ns"], kind="stable")
    both = {name: values[order] for name, values in both.items()}
    mixed = ruled(both, streams=streams, judged=0)
    assert mixed.outcome is Outcome.PASS
    assert mixed.summary.measurement.sample_count == LEAST
    over = ruled(both, streams=streams, judged=1, budget=Budget(p95_ms=20.0))
    assert over.outcome is Outcome.FAIL
    assert figure(over, "deadline_misses.other") == 120


def test_deadlines_that_were_missed_are_counted() -> None:
    verdict = ruled(rows(took(share=0.02)), row=replace(ROW, deadline_ns=20_000_000))
    assert figure(verdict, "deadline_misses") == int((took(share=0.02) > 20_000_000).sum())


def test_the_devices_share_of_a_call_is_shown_where_it_is_known() -> None:
    columns = rows(took())
    assert figure(ruled(columns), "compute_p50_ns") is None
    verdict = ruled(split(columns))
    assert figure(verdict, "compute_p50_ns") == 9_000_000
    assert named(verdict, "device events").outcome is Outcome.PASS


@pytest.mark.covers("TT-09")
@pytest.mark.parametrize("part", ["longer than the call", "below zero", "lacking"])
def test_device_events_that_do_not_make_up_the_call_leave_its_split_unknown_and_its_verdict_alone(part: str) -> None:
    columns = split(rows(took()))
    few = slice(0, LEAST // 50)  # 2 %
    if part == "longer than the call":
        columns["compute_ns"][few] += 30_000
    elif part == "below zero":
        columns["d2h_ns"][few] -= 200_000
        columns["wait_ns"][few] += 200_000
    else:
        columns["wait_ns"][few] -= 2_500_000
    verdict = ruled(columns)
    assert verdict.outcome is Outcome.PASS
    check = named(verdict, "device events")
    assert check.outcome is Outcome.MEASURED
    assert "make up 4587 of 4680 calls: the split is not known" in check.reason
    broken = next(one for one in verdict.summary.figures if one.name == "compute_p50_ns")
    assert (broken.value, broken.why) == (None, check.reason)


def split(columns: dict[str, Array]) -> dict[str, Array]:
    """The same, with device events: 0.1 ms in, 9 ms of work, 0.1 ms out, the rest a wait but for 20 µs of the host's."""
    took_ns = columns["done_ns"] - columns["started_ns"]
    parts = {"h2d_ns": 100_000, "compute_ns": 9_000_000, "d2h_ns": 100_000, "wait_ns": took_ns - 9_220_000}
    return {**columns, **{name: 0 * took_ns + value for name, value in parts.items()}}


@pytest.mark.parametrize("p95_ms", [0.0, -60.0, float("nan"), float("inf"), 1e-9])
def test_a_budget_that_no_row_can_keep_is_refused(p95_ms: float) -> None:
    with pytest.raises(UsageError, match="Give a number of milliseconds above 0"):
        ruled(rows(took(10)), budget=Budget(p95_ms=p95_ms))
    with pytest.raises(UsageError, match="Give milliseconds above 0"):
        target_ns_of(Budget(target_p95_ms=p95_ms if p95_ms != 1e-9 else 0.0), "tensorrt")
    assert budget_ns_of(Budget(p95_ms=60.0)) == 60_000_000
