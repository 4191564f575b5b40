"""The rows of Tier-2 on simulated boards: measured, judged, written down; in short, for scenarios have tests of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.config import BoardConfig, Budget, LoadRule, ModelConfig, load_configuration
from harness.fakes.orin import SimulatedKill, SimulatedOrin
from harness.floors import Floors
from harness.instruments.trace import Frame
from harness.plan import Ask, plan
from harness.profiles import PROFILES, Profile
from harness.records import INTERRUPTED, Case, Outcome, Verdict
from harness.run_folder import RunFolder
from harness.scenario import load_scenario
from harness.statistics.steadiness import SoakRule
from harness.tier2.rejudge import read_samples, read_traces
from harness.tier2.rows import Tier2
from harness.tier2.samples import Phase
from harness.tier2.station import Order, Seen

pytestmark = pytest.mark.long


SCENARIOS = Path(__file__).resolve().parents[3] / "fixtures" / "scenarios"
BOARD = BoardConfig("orin-nx", "p3767-0000", "MAXN_SUPER", gpu_memory_bytes=4 << 30, host_memory_bytes=3 << 29)
MATCHER = ModelConfig(
    "lightglue",
    onnx=Path("m.onnx"),
    load=LoadRule(39.0, 333.0, burst=13),
    budget={"orin-nx": Budget(p95_ms=60.0)},
)
PLACES = ModelConfig(
    "ultravpr", onnx=Path("p.onnx"), load=LoadRule(3.0, 333.0), budget={"orin-nx": Budget(p95_ms=100.0)}
)
SOAK = SoakRule(slope_c_per_min=1.0, window_s=60.0, least_s=60.0, most_s=600.0)
SHORT = replace(PROFILES["pr"], least_s=20.0, most_s=90.0, sustained_s=60.0, least_calls=100, soak=SOAK)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    with RunFolder(tmp_path / "run") as folder:
        yield folder


def tier2(scenario: str = "steady", profile: Profile = SHORT, **more: Any) -> Tier2:
    physics = load_scenario(SCENARIOS / f"{scenario}.toml")

    def begin() -> SimulatedOrin:
        return SimulatedOrin(physics)

    models = more.pop("models", {model.name: model for model in (MATCHER, PLACES)})
    settings = {"board": BOARD, "kills": (SimulatedKill,), "is_unified": True, **more}
    return Tier2(begin(), profile, models, begin=begin, **settings)


def row(kind: str, model: str = "") -> Case:
    asked = Ask((2,), ("tensorrt",), (MATCHER, PLACES), "flight", (), BOARD, {}, scenario="steady")
    return next(case for case in plan(asked) if case.kind == kind and model in case.model)


def figure(verdict: Verdict, name: str) -> Any:
    return next(found for found in verdict.summary.figures if found.name == name)


@pytest.mark.covers("T2-03", "T2-04", "T0-02")
def test_a_latency_row_is_judged_simulated_and_leaves_its_samples_and_its_trace(folder: RunFolder) -> None:
    verdict = tier2().settle(row("latency", "lightglue"), folder)
    measurement = verdict.summary.measurement
    assert (verdict.outcome, measurement.simulated, measurement.profile) == (Outcome.PASS, True, "pr")
    assert verdict.summary.judgement is not None
    assert verdict.summary.judgement.budget_ns == 60_000_000
    assert "rarer than" in verdict.summary.judgement.blind_spot
    assert measurement.board_start.power_mode == "MAXN_SUPER"
    assert measurement.board_start.caps["gpu_mhz"] > 0
    columns = read_samples(folder.path / measurement.samples_file)
    assert int((columns["phase"] == Phase.MEASURE).sum()) == measurement.sample_count >= 780
    assert set(columns["throttled"]) == {0}
    traces = read_traces(folder.path / measurement.trace_file)
    assert traces[0].series("gpu_clock_mhz")[1].min() > 0
    assert not list(folder.path.rglob("*.journal"))
    assert figure(verdict, "soak_s").value >= 60


@pytest.mark.covers("T2-02")
def test_without_a_board_the_same_row_is_measured(folder: RunFolder) -> None:
    verdict = tier2(board=None).settle(row("latency", "lightglue"), folder)
    assert verdict.outcome is Outcome.MEASURED
    assert "no budget applies to this board" in verdict.reason


@pytest.mark.covers("OR-07")
def test_onnx_runtime_is_warned_from_half_as_much_again_as_tensorrt_took(folder: RunFolder) -> None:
    physics = load_scenario(SCENARIOS / "steady.toml")
    alike = tier2()
    alike.settle(row("latency", "ultravpr"), folder)
    theirs = replace(row("latency", "ultravpr"), id="theirs", runtime="onnx_trt_ep")
    for ms_at_full_clock, is_warned in ((33.0, False), (42.0, True)):  # and 25 on TensorRT
        model = replace(physics.models["ultravpr"], ms_at_full_clock=ms_at_full_clock)
        slower = replace(physics, models={**physics.models, "ultravpr": model})
        alike.begin = partial(SimulatedOrin, slower)
        verdict = alike.settle(theirs, folder)
        assert verdict.outcome is Outcome.PASS
        assert ["over the target" in words for words in verdict.summary.measurement.warnings] == [True] * is_warned


@pytest.mark.covers("OR-07", "T2-02")
def test_onnx_runtime_keeps_the_lesser_of_the_boards_target_and_what_tensorrt_took_in_its_precision() -> None:
    case = row("latency", "lightglue")
    of_ort = replace(case, runtime="onnx_trt_ep")
    measured = tier2()
    measured._p95_ns = {("lightglue", "fp16"): 20_000_000, ("lightglue", "int8"): 10_000_000}
    assert measured._target_ns(case) is None
    assert measured._target_ns(of_ort) == 30_000_000
    assert measured._target_ns(replace(of_ort, precision="int8")) == 15_000_000
    assert measured._target_ns(replace(of_ort, precision="fp32")) is None
    for target_ms, expected in ((16.0, 24_000_000), (48.0, 30_000_000)):
        budget = {"orin-nx": Budget(p95_ms=60.0, target_p95_ms=target_ms)}
        measured.models = {"lightglue": replace(MATCHER, budget=budget)}
        assert measured._target_ns(of_ort) == expected


@pytest.mark.covers("T2-02")
def test_the_flights_own_targets_warn_before_its_limits_fail(folder: RunFolder) -> None:
    flight = load_configuration(SCENARIOS.parent / "flight.toml")
    physics = load_scenario(SCENARIOS / "steady.toml")
    own = flight.models["ultravpr"]
    assert own.budget["orin-nx"] == Budget(p95_ms=100.0, target_p95_ms=80.0, load_s=5.0)
    row_of = tier2(models={"ultravpr": own})
    for ms_at_full_clock, is_warned in ((25.0, False), (87.0, True)):
        model = replace(physics.models["ultravpr"], ms_at_full_clock=ms_at_full_clock)
        slower = replace(physics, models={**physics.models, "ultravpr": model})
        row_of.begin = partial(SimulatedOrin, slower)
        verdict = row_of.settle(row("latency", "ultravpr"), folder)
        assert verdict.outcome is Outcome.PASS
        warnings = verdict.summary.measurement.warnings
        assert ["over the target of 80 ms" in words for words in warnings] == [True] * is_warned


@pytest.mark.covers("T2-01")
def test_the_flight_mix_is_one_workload_held_to_its_deadlines(folder: RunFolder) -> None:
    verdict = tier2().settle(row("flight"), folder)
    assert verdict.outcome is Outcome.PASS
    assert "ultravpr: p95 is under 333 ms" in verdict.reason
    assert "lightglue: p95 is under 333 ms" in verdict.reason
    columns = read_samples(folder.path / verdict.summary.measurement.samples_file)
    judged = columns["phase"] == Phase.MEASURE
    calls = int(judged.sum())
    assert verdict.summary.measurement.sample_count == calls
    wall_s = (columns["done_ns"][judged].max() - columns["scheduled_ns"][judged].min()) / 1e9
    joules = figure(verdict, "energy_per_call_j").value * calls
    assert joules == pytest.approx(figure(verdict, "mean_power_w").value * wall_s, rel=0.02)
    own = columns["stream"] == [model.name for model in (MATCHER, PLACES)].index("lightglue")
    due = columns["scheduled_ns"][own & (columns["phase"] == Phase.MEASURE)]
    whole = due[: len(due) // 13 * 13].reshape(-1, 13)
    assert len(whole) >= 60
    assert (whole == whole[:, :1]).all()  # 13 at once
    assert sorted({check.name for check in verdict.checks if ":" not in check.name}) == ["lightglue", "ultravpr"]


@pytest.mark.covers("T2-03")
def test_a_declared_power_mode_that_is_another_leaves_every_row_open(folder: RunFolder) -> None:
    other = replace(BOARD, power_mode="15W")
    verdict = tier2(board=other).settle(row("flight"), folder)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "15W" in verdict.reason
    assert "nvpmodel" in verdict.reason


@pytest.mark.covers("T2-01")
def test_memory_is_that_of_each_engine_alone_and_of_all_together_and_a_leak_is_found(folder: RunFolder) -> None:
    verdict = tier2().settle(row("memory"), folder)
    assert (verdict.outcome, verdict.summary.measurement.launches) == (Outcome.PASS, 1)
    alone = figure(verdict, "gpu_bytes[lightglue]").value
    assert 0 < alone < figure(verdict, "gpu_bytes").value
    leaks = tier2("leak_1mb_per_100_frames").settle(row("memory"), folder)
    assert leaks.outcome is Outcome.FAIL
    assert "grows by about 1.00 MB per 100 calls" in leaks.reason


@pytest.mark.covers("T2-01", "TH-04")
def test_heat_is_held_in_its_hottest_minutes_and_the_board_is_watched_while_it_cools(folder: RunFolder) -> None:
    verdict = tier2(profile=replace(SHORT, sustained_s=200.0)).settle(row("heat"), folder)
    assert verdict.outcome is Outcome.PASS, verdict.reason
    assert figure(verdict, "cool_down_s").value is not None


@pytest.mark.covers("T2-03")
def test_the_profile_floor_teaches_what_the_next_sign_off_needs(folder: RunFolder, tmp_path: Path) -> None:
    floors = Floors(tmp_path / "floors")
    few: dict[str, Any] = {"models": {"ultravpr": replace(PLACES, load=LoadRule(1.0, 333.0))}, "floors": floors}
    signoff = replace(PROFILES["signoff"], least_s=60.0, most_s=600.0, launches=2, least_calls=100, soak=SOAK)
    first = tier2(profile=signoff, **few).settle(row("flight"), folder)
    assert first.outcome is Outcome.INCONCLUSIVE
    assert "floor" in first.reason
    assert "0 of 3 sessions of 60 minutes are known of ultravpr on tensorrt" in first.reason
    night = replace(PROFILES["floor"], launches=3, telemetry_hz=0.2, soak=None)
    learning = tier2(profile=night, **few)
    learning.settle(row("flight"), folder)
    assert len(learning.learned) == 3
    again = tier2(profile=signoff, **few).settle(row("flight"), folder)
    assert again.outcome is Outcome.PASS, again.reason
    assert again.summary.measurement.launches == 2
    assert again.summary.judgement is not None
    assert again.summary.judgement.floor is not None
    alone = tier2(**few).settle(row("latency", "ultravpr"), folder)  # no row came before it
    assert alone.summary.judgement is not None
    assert alone.summary.judgement.floor == again.summary.judgement.floor


@pytest.mark.covers("T2-03")
def test_heat_that_a_machine_slept_through_is_no_verdict(folder: RunFolder) -> None:
    verdict = tier2("suspended", replace(SHORT, sustained_s=600.0)).settle(row("heat"), folder)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "the machine was suspended or its clock was stepped, by 600.0 s" in verdict.reason


def test_a_resumed_run_knows_what_its_rows_told_before(folder: RunFolder) -> None:
    first = tier2()
    case = row("latency", "lightglue")
    told = first.settle(case, folder)
    resumed = tier2()
    resumed.recall(told)
    of_ort = replace(case, runtime="onnx_trt_ep")
    assert resumed._target_ns(of_ort) == first._target_ns(of_ort)
    assert first._target_ns(of_ort) is not None
    assert resumed._placed == first._placed


def test_what_was_measured_before_ctrl_c_is_kept_and_said_to_be_incomplete(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = SimulatedOrin.fresh

    def cut_off(self: SimulatedOrin, order: Order, journal: Path | None) -> Seen:
        seen = fresh(self, order, journal)
        return replace(seen, incomplete=f"{INTERRUPTED} after {len(seen.log)} requests")

    monkeypatch.setattr(SimulatedOrin, "fresh", cut_off)
    verdict = tier2().settle(row("latency", "lightglue"), folder)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.summary.measurement.incomplete.startswith(INTERRUPTED)
    assert verdict.summary.measurement.sample_count > 0


def test_a_board_without_a_temperature_has_no_row_about_heat(folder: RunFolder) -> None:
    blind = tier2()
    station = blind.station
    assert isinstance(station, SimulatedOrin)
    frame = station.read(0)
    blind.begin = lambda: _Blind(station)
    assert any(name.endswith("_temp_c") for name in frame.values)
    verdict = blind.settle(row("heat"), folder)
    assert verdict.outcome is Outcome.NOT_RUN
    assert verdict.reason.startswith("not applicable: ")


class _Blind:
    """A station whose temperatures are not there."""

    def __init__(self, station: SimulatedOrin) -> None:
        self._station = station

    def __getattr__(self, name: str) -> Any:
        return getattr(self._station, name)

    def read(self, origin_ns: int) -> Any:
        frame = self._station.read(origin_ns)
        kept = {name: value for name, value in frame.values.items() if "temp" not in name}
        return replace(frame, values=kept)


@pytest.mark.covers("T2-02", "T1-03")
@pytest.mark.parametrize("kind", ["flight", "memory"])
def test_a_flight_that_lacks_a_model_passes_nothing_and_names_it(kind: str, folder: RunFolder) -> None:
    verdict = tier2(missing={"ultravpr": "p.onnx is not there"}).settle(row(kind), folder)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason.startswith("without ultravpr: p.onnx is not there; of the others: ")
    alone = tier2(missing={"ultravpr": "gone", "lightglue": "gone too"}).settle(row(kind), folder)
    assert (alone.outcome, alone.reason) == (Outcome.FAIL, "lightglue: gone too; ultravpr: gone")


@pytest.mark.covers("T2-04")
def test_a_row_about_memory_has_the_boards_state_and_is_open_on_another_board(folder: RunFolder) -> None:
    here = tier2().settle(row("memory"), folder)
    assert (here.outcome, here.summary.measurement.board_start.power_mode) == (Outcome.PASS, "MAXN_SUPER")
    elsewhere = tier2(board=replace(BOARD, power_mode="15W")).settle(row("memory"), folder)
    assert elsewhere.outcome is Outcome.INCONCLUSIVE
    assert "nvpmodel" in elsewhere.reason
    assert "GPU memory" in elsewhere.reason


@pytest.mark.covers("T2-01")
@pytest.mark.parametrize(("values", "idle_w"), [({"power_w": 7.0}, 7.0), ({}, None)])
def test_the_idle_boards_power_is_measured_before_the_first_row_or_said_to_be_unknown(
    values: dict[str, float], idle_w: float | None, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_host = tier2()
    on_host.begin = None
    station = on_host.station
    monkeypatch.setattr(station, "read", lambda origin_ns: Frame(station.now_ns() - origin_ns, values))
    verdict = on_host.settle(Case("harness", 2, "harness", "harness", "harness", "fp32", "fp32", ""), folder)
    idle = figure(verdict, "idle_power_w")
    assert idle.value == pytest.approx(idle_w)
    assert bool(idle.why) is (idle_w is None)
    assert verdict.summary.measurement.profile == on_host.profile.name  # verify holds each row against its run's


@pytest.mark.covers("T1-01")
def test_one_engine_of_the_mix_on_the_cpu_makes_it_a_row_of_the_cpu(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = SimulatedOrin.fresh

    def fallen_back(self: SimulatedOrin, order: Order, journal: Path | None) -> Seen:
        seen = fresh(self, order, journal)
        return replace(seen, placements={**seen.placements, "ultravpr": "onnx_trt_ep[cpu]"})

    monkeypatch.setattr(SimulatedOrin, "fresh", fallen_back)
    verdict = tier2(profile=replace(SHORT, soak=None)).settle(row("flight"), folder)
    assert (verdict.summary.measurement.provider, verdict.summary.measurement.placement) == ("cpu", "onnx_trt_ep[cpu]")


@pytest.mark.covers("T2-01")
def test_a_mix_flies_in_its_precision_and_a_model_that_lacks_it_in_its_own(folder: RunFolder) -> None:
    models = {"lightglue": replace(MATCHER, precision=("fp16", "int8")), "ultravpr": PLACES}
    settling = tier2(profile=replace(SHORT, soak=None), models=models)
    case = replace(row("flight"), id="flight-tensorrt-int8", precision="int8", lane="int8")
    assert [(one.model, one.precision, one.lane) for one in settling._resident_cases(case)] == [
        ("lightglue", "int8", "int8"),
        ("ultravpr", "fp16", "fp16"),
    ]
    measurement = settling.settle(case, folder).summary.measurement
    assert "not every model has int8: ultravpr in fp16" in measurement.notes
    assert {key: key[2] for key in settling._placed} == {
        ("lightglue", "tensorrt", "int8"): "int8",
        ("ultravpr", "tensorrt", "fp16"): "fp16",
    }


@pytest.mark.covers("T2-02", "T2-01")
def test_a_load_that_cannot_be_served_fails_on_a_board_and_is_a_finding_elsewhere(folder: RunFolder) -> None:
    failed = tier2("overload").settle(row("latency", "lightglue"), folder)
    assert failed.outcome is Outcome.FAIL
    assert failed.reason.startswith("overload: ")
    found = tier2("overload", board=None).settle(row("latency", "lightglue"), folder)
    assert found.outcome is Outcome.MEASURED
    assert found.reason.startswith("overload: ")
    assert found.reason.endswith("no budget applies to this board")
    assert Outcome.FAIL not in {check.outcome for check in found.checks}
