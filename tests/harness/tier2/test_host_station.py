"""This machine as a station: how it waits, what it counts as lost, and whose engines it opens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.fakes.clock import VirtualClock
from harness.instruments.telemetry import Instruments
from harness.instruments.trace import Frame
from harness.measure import Bench
from harness.packs.model import ModelPack
from harness.records import BoardState, Case, Figure
from harness.tier2.host_station import SPIN_NS, Clocks, HostStation, clock_of, station_on
from harness.tier2.launch import run_launch
from harness.tier2.load import select
from harness.tier2.null_runtime import NullRuntime
from harness.tier2.samples import Status
from harness.tier2.station import Stream
from runtime.config import RuntimeConfig
from runtime.data import EngineHandle
from runtime.errors import EngineDeserializeError, InferenceError
from tests.harness.tiny_pack import write_tiny_pack
from tests.harness.tiny_station import case, order

MS = 1_000_000
SECOND = 1_000_000_000


def bench(make: Callable[[], Any] = NullRuntime, packs: Mapping[str, Any] | None = None) -> Bench:
    return Bench(dict(packs or {}), RuntimeConfig(), lambda label, config: make())


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, ModelPack]:
    room = tmp_path_factory.mktemp("packs")
    return {name: write_tiny_pack(room, name) for name in ("a", "b")}


@pytest.mark.covers("T2-01")
def test_it_sleeps_until_shortly_before_a_request_is_due_and_spins_the_rest() -> None:
    slept: list[float] = []
    clock = VirtualClock()

    def now() -> int:
        clock.advance(1_000)
        return clock.now_ns()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.sleep(seconds + 50e-6)  # as Linux does

    station = HostStation(bench(), clock=now, sleep=sleep)
    station.wait_until(25 * MS)
    assert 25 * MS <= clock.now_ns() < 25 * MS + 5_000
    assert slept == [pytest.approx((25 * MS - SPIN_NS) / 1e9, abs=5e-6)]
    station.wait_until(3)
    assert len(slept) == 1


def torch_case(model: str) -> Case:
    return case(model, "pytorch_fp16")


class Stepping:
    """Three clocks that a test moves: time passes on all, a suspension on two, a step on one."""

    def __init__(self) -> None:
        self.steady = self.boot = self.wall = 0

    def clocks(self) -> Clocks:
        return Clocks(lambda: self.steady, lambda: self.boot, lambda: self.wall)

    def pass_by(self, ns: int, *, suspended: int = 0, step: int = 0) -> None:
        self.steady += ns
        self.boot += ns + suspended
        self.wall += ns + suspended + step


@pytest.mark.covers("T2-04")
@pytest.mark.parametrize(
    ("suspended", "step", "lost"),
    [
        (0, 0, 0),
        (90 * SECOND, 0, 90 * SECOND),
        (0, 2 * SECOND, 2 * SECOND),
        (0, -3600 * SECOND, 3600 * SECOND),
        (5 * SECOND, -5 * SECOND, 10 * SECOND),
        (0, 400_000, 0),  # the clocks are read one after the other
    ],
)
def test_a_suspension_and_a_step_of_the_wall_clock_are_lost_time(suspended: int, step: int, lost: int) -> None:
    moved = Stepping()
    moved.pass_by(1000 * SECOND, suspended=77 * SECOND, step=12 * SECOND)  # before the station was there
    station = HostStation(bench(), clocks=moved.clocks())
    moved.pass_by(60 * SECOND, suspended=suspended, step=step)
    assert station.lost_ns() == lost


def test_a_system_that_lacks_a_clock_loses_nothing_by_it() -> None:
    assert clock_of("CLOCK_OF_NO_SYSTEM") is None
    assert HostStation(bench(), clocks=Clocks(None, None, None)).lost_ns() == 0
    moved = Stepping()
    station = HostStation(bench(), clocks=Clocks(lambda: moved.steady, None, lambda: moved.wall))
    moved.pass_by(SECOND, step=4 * SECOND)
    assert station.lost_ns() == 4 * SECOND
    now = Clocks.of_system().apart_ns()
    assert all(isinstance(part, int) for part in now)


class Timing(NullRuntime):
    """Splits its calls, or refuses to."""

    fails_to: str = ""

    def time_calls(self, handle: EngineHandle) -> bool:
        if self.fails_to == "mark":
            raise InferenceError("no events")
        return True

    def split_ns(self, handle: EngineHandle) -> tuple[int, int, int, int] | None:
        if self.fails_to == "split":
            raise InferenceError("an event was lost")
        return 1, 2, 3, 4


@pytest.mark.covers("T2-01")
@pytest.mark.parametrize(("fails_to", "split"), [("", (1, 2, 3, 4)), ("mark", None), ("split", None)])
def test_a_runtime_that_splits_its_calls_is_asked_and_one_that_cannot_costs_nothing_else(
    fails_to: str, split: Any, packs: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Timing, "fails_to", fails_to)
    engine = HostStation(bench(Timing, packs)).open(torch_case("a"))
    engine.infer(17)
    assert engine.split() == split
    engine.close()
    plain = HostStation(bench(NullRuntime, packs)).open(torch_case("a"))
    assert plain.split() is None
    assert plain.measurement(first_call_ns=5).first_call_ns == 5
    plain.close()


@pytest.mark.covers("T2-02")
def test_engines_of_one_runtime_that_are_open_together_lie_in_one_runtime(packs: Mapping[str, Any]) -> None:
    made: list[NullRuntime] = []

    def make() -> NullRuntime:
        made.append(NullRuntime())
        return made[-1]

    station = HostStation(bench(make, packs))
    first, second = station.open(torch_case("a")), station.open(torch_case("b"))
    assert len(made) == 1
    first.close()
    third = station.open(torch_case("a"))
    assert len(made) == 1
    for engine in (second, third):
        engine.close()
    station.open(torch_case("b")).close()
    assert len(made) == 2  # nothing was left in the old one


def test_an_engine_that_cannot_be_loaded_leaves_no_runtime_behind(packs: Mapping[str, Any]) -> None:
    class Refusing(NullRuntime):
        def deserialize_engine(self, entry: Any) -> EngineHandle:
            raise EngineDeserializeError("not ours")

    station = HostStation(bench(Refusing, packs))
    with pytest.raises(EngineDeserializeError, match="not ours"):
        station.open(torch_case("a"))
    assert station._runtimes == {}


@pytest.mark.covers("T2-01", "T2-04")
def test_a_launch_on_this_machine_in_real_time(packs: Mapping[str, Any]) -> None:
    class Thermometer:
        label = "thermometer"

        def read(self) -> Any:
            from harness.instruments import Reading

            return Reading({"gpu_temp_c": 45.0})

        def about(self) -> dict[str, str]:
            return {}

        def close(self) -> None:
            pass

    interval_s = sys.getswitchinterval()
    frames: list[Frame] = []
    station = HostStation(
        bench(NullRuntime, packs),
        instruments=Instruments([Thermometer()]),
        memory=lambda: [Figure("process_bytes", 5.0, "bytes")],
        board_state=lambda: BoardState(module="a test"),
        on_frame=frames.append,
    )
    seen = run_launch(
        station, order(Stream(torch_case("a"), 200.0), Stream(torch_case("b"), 20.0, burst=4), most_s=0.2, least_s=0.2)
    )
    rows = select(seen.log.columns())
    assert (rows["stream"] == 0).sum() == 40
    assert set(rows["status"].tolist()) == {Status.OK}
    assert (rows["woke_ns"] >= rows["scheduled_ns"]).all()
    assert (rows["started_ns"] >= rows["woke_ns"]).all()
    assert (rows["done_ns"] >= rows["started_ns"]).all()
    assert {frame.values["gpu_temp_c"] for frame in seen.trace} == {45.0}
    assert len(frames) == len(seen.trace) >= 3
    assert not seen.measurement.simulated
    assert seen.measurement.board_end.module == "a test"
    assert seen.memory[0].value == 5.0
    assert sys.getswitchinterval() == interval_s


def test_without_instruments_a_frame_says_so_and_without_a_job_nothing_is_fresh() -> None:
    station = HostStation(bench())
    assert station.read(0).missing == {"instruments": "none were asked for"}
    assert list(station.memory()) == []
    with pytest.raises(UsageError, match="no job"):
        station.fresh(order(Stream(case(), 1.0)), None)


def test_a_whole_station_reads_the_files_of_the_root_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 8000 kB\nMemAvailable: 4000 kB\n")
    station = station_on(bench(), root=tmp_path, telemetry="sysfs")
    assert station.read(0).values["available_bytes"] == 4000 * 1024
    assert any(figure.value == 4000 * 1024 for figure in station.memory())
    assert station.board_state().available_bytes == 4000 * 1024
    assert station_on(bench(), root=tmp_path, telemetry="").instruments is None
