"""The simulated Orin as a station: its heat, its power, its memory, its instruments, and what happens to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fixtures
from harness.errors import UsageError
from harness.fakes.device import DeviceError
from harness.fakes.orin import SimulatedKill, SimulatedOrin
from harness.profiles import PROFILES, Profile
from harness.records import Case, Figure
from harness.scenario import Event, Fan, OverCurrent, Scenario, load_scenario
from harness.tier2.load import latencies_ns, select
from harness.tier2.samples import COLUMNS, SampleLog, Status, open_journal, read_journal
from harness.tier2.station import Order, Stream
from runtime.errors import DeviceLostError, InferenceError, OutOfMemoryError

pytestmark = [pytest.mark.long, pytest.mark.covers("T2-01", "T0-02")]

STEADY = load_scenario(Path(str(fixtures.__file__)).parent / "scenarios" / "steady.toml")
SECOND = 1_000_000_000
MIB = 2**20
BRIEF = replace(PROFILES["pr"], soak=None, warmup_calls=2, least_calls=1, least_s=10.0, most_s=10.0, precision=0.0)


def scenario(*events: Event, models: dict[str, dict[str, Any]] | None = None, **board: Any) -> Scenario:
    changed = {name: replace(STEADY.models[name], **change) for name, change in (models or {}).items()}
    return replace(STEADY, board=replace(STEADY.board, **board), models={**STEADY.models, **changed}, events=events)


def case(model: str) -> Case:
    return Case(f"{model}-tensorrt-fp16-b1", 2, "latency", model, "tensorrt", "fp16", "fp16", "flight")


def order(model: str = "lightglue", rate_hz: float = 39.0, profile: Profile = BRIEF, **how: Any) -> Order:
    return Order(profile, (Stream(case(model), rate_hz),), **how)


def marks(figures: Any) -> dict[str, float | None]:
    return {figure.name: figure.value for figure in figures}


def call_for(station: SimulatedOrin, model: str, seconds: float) -> None:
    engine = station.open(case(model))
    until = station.now_ns() + round(seconds * SECOND)
    while station.now_ns() < until:
        engine.infer(0)
    engine.close()


# Time


def test_a_call_takes_its_copies_its_computation_and_the_hosts_own_time() -> None:
    station = SimulatedOrin(scenario(models={"lightglue": {"jitter_cv": 0.0, "first_call_ms": 0.0}}))
    engine = station.open(case("lightglue"))
    begun = station.now_ns()
    engine.infer(0)
    took = station.now_ns() - begun
    h2d, compute, d2h, wait = engine.split()
    assert compute == 10_000_000
    assert h2d == 2_000 + 1040 * 1024 // 10
    assert d2h == 2_000 + 24 * 1024 // 10
    assert took == h2d + compute + d2h + wait


def test_the_part_that_is_bound_by_memory_does_not_follow_the_clock() -> None:
    def compute_ns(mhz: int) -> int:
        models = {"lightglue": {"jitter_cv": 0.0, "first_call_ms": 0.0}}
        station = SimulatedOrin(scenario(Event("cap", {"at_s": 0.0, "mhz": mhz}), models=models))
        engine = station.open(case("lightglue"))
        engine.infer(0)
        return engine.split()[1]

    assert compute_ns(1173) == 10_000_000
    assert compute_ns(510) == pytest.approx(2_000_000 + 8_000_000 * 1173 / 510, abs=1)


def test_calls_scatter_as_the_scenario_says() -> None:
    model = {"jitter_cv": 0.1, "correlation": 0.8, "spike_share": 0.02, "spike_ratio": 5.0}
    station = SimulatedOrin(scenario(models={"xfeat": model}))
    engine = station.open(case("xfeat"))
    compute = []
    for at in range(6000):
        engine.infer(at)
        compute.append(engine.split()[1])
    logs = np.log(np.array(compute) / 9e6)
    calm = logs[logs < np.log(2.5)]
    assert np.mean(logs > np.log(2.5)) == pytest.approx(0.02, abs=0.006)
    assert float(np.std(calm)) == pytest.approx(0.1, abs=0.015)
    plain = np.where(logs > np.log(2.5), logs - np.log(5.0), logs)
    assert float(np.corrcoef(plain[1:], plain[:-1])[0, 1]) == pytest.approx(0.8, abs=0.04)


def test_the_same_seed_gives_the_same_hour_and_another_process_another_one() -> None:
    def seen(seed: int) -> list[Any]:
        station = SimulatedOrin(STEADY, seed=seed)
        return [select(station.fresh(order(launch=launch), None).log.columns()) for launch in (0, 1)]

    first, again, other = seen(3), seen(3), seen(4)
    for one, two in zip(first, again, strict=True):
        assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(latencies_ns(first[0], True), latencies_ns(first[1], True))
    assert not np.array_equal(latencies_ns(first[0], True), latencies_ns(other[0], True))


def test_what_is_done_every_period_is_done_on_time_and_no_longer_than_inside() -> None:
    station, at = SimulatedOrin(STEADY), list[int]()
    with station.every(0.1, lambda: at.append(station.now_ns())):
        call_for(station, "disk", 0.5)
        station.wait_until(2 * SECOND)
    station.wait_until(3 * SECOND)
    assert at == [count * SECOND // 10 for count in range(1, 21)]


# Heat and power


def test_a_board_settles_where_its_power_and_its_cooling_say() -> None:
    board = replace(STEADY.board, seconds_to_settle=2.0, ambient_c=0.0)
    station = SimulatedOrin(replace(STEADY, board=board))
    engine, busy = station.open(case("disk")), 0
    begun = station.now_ns()
    for at in range(600):
        engine.infer(at)
        busy += sum(engine.split()[:3])
    load = busy / (station.now_ns() - begun)
    settled = board.ambient_c + board.kelvin_per_w * (board.idle_w + (board.busy_w - board.idle_w) * load)
    assert load > 0.95
    assert station.read(0).values["gpu_temp_c"] == pytest.approx(settled, abs=0.6)


@pytest.mark.parametrize(("name", "throttles"), [("throttles_after_400s", True), ("stays_just_below", False)])
def test_under_the_flights_load_it_throttles_after_about_400_seconds_or_not_at_all(name: str, throttles: bool) -> None:
    flight = load_scenario(Path(str(fixtures.__file__)).parent / "scenarios" / f"{name}.toml")
    rates = {"lightglue": 39.0, "ultravpr": 3.0, "disk": 3.0, "adhop": 0.5}
    load = sum(rate * flight.models[model].ms_at_full_clock / 1e3 for model, rate in rates.items())
    thermal, since = SimulatedOrin(flight).device.thermal, 0.0
    while not thermal.is_throttled and since < 3600.0:
        thermal.step(1.0, load)
        since += 1.0
    assert (since < 3600.0) == throttles
    if throttles:
        assert since == pytest.approx(400.0, abs=40.0)
    assert not thermal.is_shut_down


def test_energy_is_the_power_of_the_idle_and_of_the_busy_time() -> None:
    station = SimulatedOrin(STEADY)
    engine = station.open(case("ultravpr"))
    busy = 0
    for at in range(40):
        engine.infer(at)
        busy += sum(engine.split()[:3])
        station.wait_until(station.now_ns() + SECOND // 10)
    board, total_s = STEADY.board, station.now_ns() / 1e9
    joules = board.idle_w * total_s + (board.busy_w - board.idle_w) * busy / 1e9
    assert station.read(0).values["energy_j"] == pytest.approx(joules, rel=1e-3)


def test_an_over_current_is_counted_and_slows_the_clock_for_its_time() -> None:
    station = SimulatedOrin(scenario(over_current=OverCurrent(30.0, 2.0, 0.5)))
    engine = station.open(case("lightglue"))
    clocks = []
    for at in range(400):
        engine.infer(at)
        clocks.append(station.read(0).values["gpu_clock_mhz"])
    frame = station.read(0)
    assert set(clocks) == {586.0, 1173.0}
    slowed_s = sum(18.0 if clock < 1000 else 10.0 for clock in clocks if clock < 1000) / 1e3
    assert frame.values["oc_events"] == pytest.approx(slowed_s / 2.0, abs=1.0)
    assert frame.values["oc_events"] == station.board_state().oc_events
    assert frame.alerts == ()


def test_a_thermostat_keeps_the_temperature_between_its_points_and_a_timer_keeps_its_time() -> None:
    thermostat = Fan(0.5, 3000.0, on_c=60.0, off_c=50.0)
    station = SimulatedOrin(scenario(fan=thermostat, seconds_to_settle=10.0))
    thermal, turns, warmest = station.device.thermal, [], list[float]()
    for _ in range(1200):
        thermal.step(0.1, 1.0)
        turns.append(station.read(0).values["fan_rpm"])
        warmest.append(thermal.temperature_c)
    settled = warmest[300:]
    assert min(settled) == pytest.approx(50.0, abs=0.6)
    assert max(settled) == pytest.approx(60.0, abs=0.6)
    assert set(turns) == {0.0, 3000.0}
    timed = SimulatedOrin(scenario(fan=Fan(0.8, 3000.0, every_s=10.0, on_s=4.0)))
    on = 0
    for _ in range(1000):
        timed.device.thermal.step(0.1, 1.0)
        on += timed.read(0).values["fan_rpm"] > 0
    assert on == pytest.approx(400, abs=2)


def test_air_that_warms_moves_what_the_board_settles_at() -> None:
    station = SimulatedOrin(scenario(Event("warming", {"from_s": 10.0, "for_s": 60.0, "c_per_min": 3.0})))
    station.wait_until(200 * SECOND)
    assert station.device.thermal.ambient_c == pytest.approx(28.0, abs=0.01)


def test_a_board_that_switches_itself_off_is_a_lost_device() -> None:
    station = SimulatedOrin(scenario(start_c=104.4, ambient_c=110.0))
    with pytest.raises(DeviceLostError, match=r"switched itself off at 104\.\d"):
        call_for(station, "lightglue", 60.0)


# Memory


def test_an_engines_bytes_are_counted_once_by_every_source_and_given_back() -> None:
    station = SimulatedOrin(STEADY)
    before = marks(station.memory())
    engine = station.open(case("disk"))
    during = marks(station.memory())
    engine.close()
    engine.close()
    after = marks(station.memory())
    assert during["ledger_bytes"] == during["nvmap_bytes"] == 426 * MIB
    host = 20 * MIB
    assert (during["process_bytes"] or 0) - (before["process_bytes"] or 0) == host
    assert (before["system_available_bytes"] or 0) - (during["system_available_bytes"] or 0) == 426 * MIB + host
    assert {**after, "process_peak_bytes": before["process_peak_bytes"]} == before
    assert (after["process_peak_bytes"] or 0) - (before["process_peak_bytes"] or 0) == (20 + 6) * MIB
    assert station.device.peak_bytes == 426 * MIB
    assert all(figure.value is not None or figure.why for figure in station.memory())
    assert station.device.leaks() == []
    assert station.device.violations == []


def test_memory_without_bytes_behind_it_is_counted_and_must_not_be_touched() -> None:
    device = SimulatedOrin(STEADY).device
    address = device.allocate(1 << 33, is_backed=False)
    assert device.live_bytes == 1 << 33
    with pytest.raises(DeviceError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        device.view(address, 4, writes=True)
    assert "without bytes behind it" in device.violations[0]
    device.free(address)


def test_a_gpu_with_its_own_memory_takes_none_of_the_hosts() -> None:
    station = SimulatedOrin(scenario(unified=False))
    before = marks(station.memory())
    station.open(case("disk"))
    during = marks(station.memory())
    assert during["nvmap_bytes"] is None
    assert during["driver_process_bytes"] == 426 * MIB
    assert (before["system_available_bytes"] or 0) - (during["system_available_bytes"] or 0) == 20 * MIB


def test_a_leak_stays_until_the_process_ends() -> None:
    leak = Event("leak", {"size": 1_000_000, "every_calls": 100}, {"model": "lightglue"})
    station = SimulatedOrin(scenario(leak))
    for model in ("lightglue", "xfeat"):
        engine = station.open(case(model))
        for at in range(250):
            engine.infer(at)
        engine.close()
    assert station.device.live_bytes == 2_000_000
    station.exit()
    assert station.device.live_bytes == 0


def test_memory_that_is_not_there_is_an_error_of_the_core_and_leaves_nothing_behind() -> None:
    station = SimulatedOrin(scenario(memory_bytes=2400 * MIB))
    free = station.read(0).values["available_bytes"]
    with pytest.raises(OutOfMemoryError, match="disk: scratch"):
        station.open(case("disk"))
    assert station.read(0).values["available_bytes"] == free
    assert station.device.live_bytes == 0
    station.open(case("lightglue"))


def test_a_process_that_is_killed_leaves_its_journal_and_no_memory(tmp_path: Path) -> None:
    doomed = (Event("leak", {"size": 10_000_000, "every_calls": 20}), Event("kill", {"size": 350 * MIB}))
    station = SimulatedOrin(scenario(*doomed))
    with open_journal(tmp_path / "journal") as file:  # of the launch before
        earlier = SampleLog(["lightglue"], journal=file)
        earlier.extend({name: np.full(7, 5) for name in COLUMNS})
        earlier.flush()
    seen = station.fresh(order(), tmp_path / "journal")
    assert len(read_journal(tmp_path / "journal")["launch"]) == 7 + len(seen.log)
    assert seen.incomplete.startswith("killed (SIGKILL)")
    assert seen.measurement.simulated
    assert 39 <= len(seen.log) < 400
    assert station.device.live_bytes == 0
    with pytest.raises(SimulatedKill):
        call_for(station, "lightglue", 100.0)
    assert station.fresh(order("ultravpr"), None).incomplete  # alone it is too much as well


# What else happens


def test_a_process_that_is_fresh_finds_the_heat_and_not_the_memory() -> None:
    station = SimulatedOrin(scenario(models={"lightglue": {"launch_cv": 0.05}}))
    profile = replace(BRIEF, least_s=60.0, most_s=60.0)
    first, second = (station.fresh(order(launch=launch, profile=profile), None) for launch in (0, 1))
    starts = [seen.measurement.board_start for seen in (first, second)]
    assert (starts[1].gpu_temp_c or 0) > (starts[0].gpu_temp_c or 0) + 5
    assert starts[0].boot_id == starts[1].boot_id
    assert station.device.live_bytes == 0
    p50 = [float(np.median(latencies_ns(select(seen.log.columns()), True))) for seen in (first, second)]
    assert abs(p50[0] / p50[1] - 1) > 0.005


def test_a_sensor_that_is_gone_is_absent_with_its_reason_and_comes_back() -> None:
    gone = [
        Event("sensor", {"gone_at_s": 1.0, "back_at_s": 4.0}, {"name": "gpu_*"}),
        Event("sensor", {"gone_at_s": 2.0}, {"name": "alert_sensors"}),
    ]
    station = SimulatedOrin(scenario(*gone, start_c=99.5))
    station.wait_until(SECOND // 2)
    assert station.read(0).alerts == ("gpu-throttle-alert",)
    whole = station.read(0).values.keys()
    station.wait_until(3 * SECOND)
    frame = station.read(0)
    assert station.device.thermal.is_throttled
    assert frame.missing.keys() == whole - frame.values.keys()
    assert {"gpu_temp_c", "gpu_clock_mhz", "gpu_cap_mhz", "gpu_load_percent", "alert_sensors"} == frame.missing.keys()
    assert frame.alerts == ()
    state = station.board_state()
    assert (state.gpu_temp_c, state.clock_mhz, state.throttled) == (None, None, None)
    assert "gpu_mhz" not in state.caps
    assert any("EAGAIN" in note for note in state.notes)
    station.wait_until(4 * SECOND)
    assert station.read(0).missing.keys() == {"alert_sensors"}


def test_a_machine_that_sleeps_loses_time_and_cools_and_its_monotonic_clock_stands_still() -> None:
    station = SimulatedOrin(scenario(Event("suspend", {"at_s": 5.0, "for_s": 600.0}), start_c=80.0))
    before = station.board_state()
    station.wait_until(6 * SECOND)
    after = station.board_state()
    assert station.lost_ns() == 600 * SECOND
    assert station.now_ns() == 6 * SECOND
    assert (after.uptime_s or 0) - (before.uptime_s or 0) == 606.0
    assert (after.gpu_temp_c or 0) < 40.0


def test_a_wall_clock_that_is_set_is_lost_time_either_way() -> None:
    steps = [Event("clock_step", {"at_s": at, "by_s": by}) for at, by in ((1.0, 2.0), (2.0, -3.0))]
    station = SimulatedOrin(scenario(*steps))
    station.wait_until(3 * SECOND)
    assert station.lost_ns() == 5 * SECOND


def test_another_process_is_named_and_takes_its_share() -> None:
    station = SimulatedOrin(scenario(Event("other_process", {"at_s": 5.0, "slower": 2.0}, {"name": "Xorg"})))
    assert station.board_state().gpu_processes == ()
    engine = station.open(case("xfeat"))
    engine.infer(0)
    alone = engine.split()[1]
    station.wait_until(5 * SECOND)
    engine.infer(1)
    assert engine.split()[1] == pytest.approx(2 * alone, rel=0.2)
    assert station.board_state().gpu_processes == ("4000 Xorg",)


def test_a_burst_comes_every_so_often_from_its_time_on() -> None:
    station = SimulatedOrin(scenario(Event("burst", {"every_s": 2.0, "for_s": 0.5, "slower": 10.0, "from_s": 4.0})))
    engine = station.open(case("xfeat"))
    slow = []
    while station.now_ns() < 12 * SECOND:
        begun = station.now_ns()
        engine.infer(0)
        slow.append((begun / 1e9, engine.split()[1] > 45e6))
    assert {round(at - at % 0.5, 1) for at, is_slow in slow if is_slow} == {4.0, 6.0, 8.0, 10.0}


def test_a_call_that_fails_is_one_row_and_a_lost_device_ends_its_process_alone() -> None:
    def seen(error: str) -> Any:
        fault = Event("fault", {"at_call": 200}, {"error": error, "model": "lightglue"})
        station = SimulatedOrin(scenario(fault))
        launch = station.fresh(order(), None)
        return station, launch

    station, one = seen("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES")
    assert not one.incomplete
    assert list(np.flatnonzero(one.log.column("status") == Status.FAILED)) == [199]
    station, lost = seen("CUDA_ERROR_ILLEGAL_ADDRESS")
    assert "the device was lost after 200 requests" in lost.incomplete
    station.open(case("lightglue")).infer(0)
    engine = station.open(case("xfeat"))
    engine.infer(0)
    station.device.lost_to = "CUDA_ERROR_ILLEGAL_ADDRESS"
    with pytest.raises(DeviceLostError):
        engine.infer(1)
    station.device.lost_to = None
    station.device.faults.add(
        replace(station.device.faults.faults[0], api="enqueueV3 of xfeat", error="CUDA_ERROR_NOT_READY", after_calls=0)
    )
    with pytest.raises(InferenceError, match="CUDA_ERROR_NOT_READY"):
        engine.infer(2)


# What it says of itself


def test_all_that_comes_from_it_says_that_it_is_simulated() -> None:
    station = SimulatedOrin(STEADY)
    seen = station.fresh(order(), None)
    measurement = seen.measurement
    assert station.simulated == "steady"
    assert (measurement.simulated, measurement.witness, measurement.provider) == (True, False, "simulated")
    assert measurement.placement == "tensorrt[simulated steady]"
    assert measurement.case.simulated == "steady"
    assert "nothing was computed" in measurement.notes[0]
    assert "simulated" in measurement.board_start.source
    assert all("simulated" in figure.source for figure in station.memory() if isinstance(figure, Figure))
    assert seen.load_ns == {"lightglue": 400_000_000}
    assert seen.first_call_ns["lightglue"] > 90_000_000


def test_outputs_depend_on_the_model_and_the_feed_alone() -> None:
    first, second = SimulatedOrin(STEADY), SimulatedOrin(STEADY, seed=5)
    one, same = (station.open(case("disk")).infer(3)["simulated"] for station in (first, second))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, first.open(case("disk")).infer(4)["simulated"])
    assert not np.array_equal(one, first.open(case("xfeat")).infer(3)["simulated"])


def test_a_model_that_the_board_does_not_have_is_named() -> None:
    with pytest.raises(UsageError, match=r"steady has no model 'lihgtglue'. Did you mean 'lightglue'\?"):
        SimulatedOrin(STEADY).open(case("lihgtglue"))
