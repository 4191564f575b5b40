"""Instruments together, which of them a host has, and the thread that asks them on time."""

from __future__ import annotations

import os
import pickle
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.fakes.clock import VirtualClock
from harness.fakes.device import SimulatedDevice
from harness.fakes.jtop import make_jtop
from harness.fakes.nvml import make_nvml
from harness.instruments import Reading
from harness.instruments.telemetry import Instruments, Replay, Ticker, choose_instruments, next_tick
from harness.instruments.trace import Frame, Trace
from runtime.errors import TelemetryUnavailableError
from tests.harness.board_trees import orin_nx, thor

pytestmark = pytest.mark.covers("T2-01")


class Source:
    """Gives the readings of a list, one after the other; an exception is raised."""

    def __init__(self, label: str, *readings: Reading | Exception) -> None:
        self.label = label
        self.readings = list(readings)
        self.closed = 0

    def read(self) -> Reading:
        reading = self.readings.pop(0)
        if isinstance(reading, Exception):
            raise reading
        return reading

    def about(self) -> dict[str, str]:
        return {"governor": self.label, self.label: "here"}

    def close(self) -> None:
        self.closed += 1
        raise RuntimeError("cannot join thread before it is started")


def no_library() -> Any:
    raise TelemetryUnavailableError("it cannot be imported.")


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20.0
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_source_that_breaks_costs_its_own_figures_and_says_why() -> None:
    broken = Source(
        "a", Reading({"gpu_temp_c": 50.0}), OSError("the bus\n does not answer"), Reading({"gpu_temp_c": 51.0})
    )
    well = Source("b", *(Reading({"available_bytes": 1e9}) for _ in range(3)))
    both = Instruments([broken, well])
    assert both.read(1).values == {"gpu_temp_c": 50.0, "available_bytes": 1e9}
    frame = both.read(2)
    assert (frame.at_ns, frame.values) == (2, {"available_bytes": 1e9})
    why = "a failed: the bus does not answer"
    assert frame.missing == {"a": why, "gpu_temp_c": why}
    assert both.read(3).values["gpu_temp_c"] == 51.0
    assert both.names == ("available_bytes", "gpu_temp_c")
    both.close()
    assert (broken.closed, well.closed) == (1, 1)
    assert both.about() == {"governor": "a", "a": "here", "b": "here"}


def test_frames_are_kept_small_since_they_lie_in_the_process_that_is_measured(tmp_path: Path) -> None:
    with orin_nx(tmp_path):
        found = choose_instruments(tmp_path, nvml=no_library)
        first = found.read(0)
        tracemalloc.start()
        frames = [found.read(at) for at in range(60)]
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        found.close()
    assert held / len(frames) < 1500
    assert frames[7] == Frame(7, dict(first.values), (), first.missing)
    assert pickle.loads(pickle.dumps(frames[7])) == frames[7]


def test_what_a_reading_costs_is_told() -> None:
    clock = VirtualClock()

    class Slow(Source):
        def read(self) -> Reading:
            clock.advance(3_000_000)
            return super().read()

    timed = Instruments([Slow("a", Reading(), OSError("gone")), Source("b", Reading(), Reading())], clock=clock)
    assert timed.reading_ms is None
    timed.read(0)
    timed.read(1)
    assert timed.reading_ms == 3.0


def test_a_reading_that_hangs_keeps_no_other_thread_waiting() -> None:
    hanging, go_on = threading.Event(), threading.Event()

    class Hanging(Source):
        def read(self) -> Reading:
            hanging.set()
            assert go_on.wait(30.0)
            return Reading({"gpu_temp_c": 50.0})

    source = Hanging("nvml")
    shared = Instruments([source])
    shared.PATIENCE_S = 0.01
    frames: list[Frame] = []
    thread = threading.Thread(target=lambda: frames.append(shared.read(1)))
    thread.start()
    assert hanging.wait(20.0)
    assert "another reading hangs" in shared.read(2).missing["instruments"]
    shared.close()
    assert source.closed == 0
    go_on.set()
    thread.join(20.0)
    assert frames == [Frame(1, {"gpu_temp_c": 50.0})]
    shared.close()
    assert source.closed == 1


def test_the_first_source_that_gives_a_figure_gives_it() -> None:
    first = Source("sysfs", Reading({"gpu_temp_c": 50.0}, ["alert"], {"power_w": "no rail"}))
    second = Source("nvml", Reading({"gpu_temp_c": 40.0, "power_w": 9.0, "energy_j": 5.0}, ["alert", "other"]))
    third = Source("jtop", Reading(missing={"gpu_temp_c": "offline", "fan_rpm": "no fan"}))
    frame = Instruments([first, second, third]).read(0)
    assert frame.values == {"gpu_temp_c": 50.0, "power_w": 9.0, "energy_j": 5.0}
    assert frame.alerts == ("alert", "other")
    assert frame.missing == {"fan_rpm": "no fan"}


def test_a_counter_of_the_gpu_is_not_taken_for_one_of_the_module_nor_a_drivers_limits_for_the_kernels_clock() -> None:
    kernel = Source("sysfs", Reading({"power_w": 30.0, "gpu_clock_mhz": 612.0}))
    driver = Source(
        "nvml",
        Reading({"power_w": 9.0, "energy_j": 5.0, "gpu_clock_mhz": 1500.0, "gpu_cap_mhz": 1575.0, "limit.x": 0.0}),
    )
    assert Instruments([kernel, driver]).read(0).values == {
        "power_w": 30.0, "gpu_clock_mhz": 612.0, "power_w.nvml": 9.0, "energy_j.nvml": 5.0
    }  # fmt: skip


def test_a_jetson_is_read_from_sysfs_and_its_silent_driver_is_left_out(tmp_path: Path) -> None:
    orin = make_nvml(SimulatedDevice())
    with orin_nx(tmp_path):
        found = choose_instruments(tmp_path, nvml=lambda: orin)
        frame = found.read(5)
        found.close()
    assert found.labels == ("sysfs", "proc")
    assert found.notes == ("nvml answers nothing here: nvmlDeviceGetClockInfo: Not Supported",)
    assert frame.values.keys() >= {"gpu_temp_c", "power_w", "oc_events", "available_bytes", "nvmap_bytes"}


def test_a_thor_has_both_and_a_pc_its_card_and_its_memory(tmp_path: Path) -> None:
    card = make_nvml(SimulatedDevice(sm="89", is_integrated=False))
    with thor(tmp_path / "thor"):
        both = choose_instruments(tmp_path / "thor", nvml=lambda: card)
        values = both.read(0).values
        both.close()
    assert both.labels == ("sysfs", "nvml", "proc")
    assert values["power_w"] == 31.25
    assert values["gpu_temp_c"] == 36.0  # the kernel's zone is gated
    assert {"power_w.nvml", "energy_j.nvml"} <= values.keys()
    pc = choose_instruments(tmp_path, nvml=lambda: card)
    assert {"energy_j", "limit.sw-power-cap"} <= pc.read(0).values.keys()


def test_a_host_without_anything_still_gives_frames_with_reasons(tmp_path: Path) -> None:
    found = choose_instruments(tmp_path, nvml=no_library)
    frame = found.read(0)
    assert frame.values == {}
    assert {"gpu_temp_c", "power_w", "available_bytes"} <= frame.missing.keys()
    assert found.notes == ("nvml: it cannot be imported.",)
    asked = choose_instruments(tmp_path, name="nvml", nvml=no_library).read(0)
    assert asked.missing["nvml"] == "nvml failed: it cannot be imported."


def test_sources_are_taken_by_name_and_jtop_only_so(tmp_path: Path) -> None:
    jtop = make_jtop(SimulatedDevice())
    found = choose_instruments(tmp_path, name="jtop", jtop=lambda: jtop.jtop)
    assert found.read(0).values["gpu_clock_mhz"] == 918.0
    found.close()
    assert choose_instruments(tmp_path, name="sysfs", nvml=no_library).labels == ("sysfs", "proc")
    with pytest.raises(UsageError, match=r"'sysf'\. Did you mean 'sysfs'"):
        choose_instruments(tmp_path, name="sysf")
    with pytest.raises(UsageError, match="no trace was given"):
        choose_instruments(tmp_path, name="trace")


def test_a_trace_stands_in_for_a_board_in_the_time_of_a_clock() -> None:
    clock = VirtualClock(7_000)
    trace = Trace([Frame(10_000, {"tj_temp_c": 50.0}, ("alert",)), Frame(11_000, {"tj_temp_c": 60.0})])
    found = choose_instruments(name="trace", trace=trace, clock=clock)
    assert found.read(0) == Frame(0, {"tj_temp_c": 50.0}, ("alert",))
    clock.advance(999)
    assert found.read(999).values == {"tj_temp_c": 50.0}
    clock.advance(1)
    assert found.read(1000).values == {"tj_temp_c": 60.0}
    clock.advance(1)
    assert "the trace is over" in found.read(1001).missing["tj_temp_c"]
    found.close()
    assert found.read(1002).values == {"tj_temp_c": 50.0}
    with pytest.raises(UsageError, match="holds no frame"):
        Replay(Trace())


@pytest.mark.parametrize(
    ("now", "due"), [(100, 110), (101, 110), (109, 110), (110, 120), (137, 140), (1_000_005, 1_000_010)]
)
def test_ticks_stay_on_their_grid_and_missed_ones_are_left_out(now: int, due: int) -> None:
    assert next_tick(100, 10, now) == due


def test_a_ticker_calls_at_once_and_again_on_one_thread_of_its_own() -> None:
    seen: list[threading.Thread] = []
    with Ticker(0.001, lambda: seen.append(threading.current_thread())) as ticker:
        wait_for(lambda: ticker.ticks >= 3)
    assert len(set(seen)) == 1
    assert seen[0].daemon
    assert not seen[0].is_alive()
    assert seen[0] is not threading.current_thread()
    ticks = len(seen)
    time.sleep(0.01)
    assert len(seen) == ticks


@pytest.mark.skipif(not hasattr(os, "setpriority"), reason="setpriority: not on this system")
def test_the_thread_is_of_lower_priority_than_its_process() -> None:
    seen: list[int] = []
    with Ticker(60.0, lambda: seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))) as ticker:
        wait_for(lambda: ticker.ticks == 1)
    mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert seen == [max(mine, 10)]


def test_a_slow_call_is_never_made_twice_at_a_time() -> None:
    at_once, most = 0, 0

    def slow() -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.01)
        at_once -= 1

    with Ticker(0.001, slow) as ticker:
        wait_for(lambda: ticker.ticks >= 3)
    assert most == 1


def test_what_a_call_raises_is_kept_and_it_is_called_again() -> None:
    raised = [ValueError("first"), ValueError("second")]
    left = list(raised)

    def fail() -> None:
        if left:
            raise left.pop(0)

    with Ticker(0.001, fail) as ticker:
        wait_for(lambda: ticker.ticks >= 3)
    assert ticker.error is raised[0]


def test_a_call_that_hangs_is_left_behind() -> None:
    hanging, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        go_on.wait(30.0)

    ticker = Ticker(60.0, hang)
    ticker.STOP_WITHIN_S = 0.01
    with ticker:
        assert hanging.wait(20.0)
    assert ticker.ticks == 0
    go_on.set()
    wait_for(lambda: ticker.ticks == 1)


def test_a_long_period_does_not_keep_the_end_waiting() -> None:
    with Ticker(3600.0, lambda: None) as ticker:
        wait_for(lambda: ticker.ticks == 1)
    assert not [thread for thread in threading.enumerate() if thread.name == "telemetry" and thread.is_alive()]


@pytest.mark.parametrize("period_s", [0.0, -1.0, float("nan")])
def test_a_period_that_is_none_is_refused(period_s: float) -> None:
    with pytest.raises(ValueError, match="expected seconds above 0"):
        Ticker(period_s, lambda: None)
