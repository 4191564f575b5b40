"""The sources of telemetry: sysfs as Orin and Thor have it, jtop's and NVML's shapes, traces (TH-02, TH-04)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import ConfigError, TelemetryUnavailableError
from runtime.thermal import SourceReading, ThermalSource
from runtime.thermal_sources import JtopSource, NvmlSource, SysfsSource, TraceSource, choose_source
from runtime.thermal_sources.jtop import load_jtop
from runtime.thermal_sources.nvml import ALERT_BITS, LIMIT_BITS, load_nvml

TRACES = Path(__file__).parents[2] / "fixtures" / "telemetry"

# --- sysfs -------------------------------------------------------------------------------------------------------

GATED = "<EAGAIN>"

ORIN_JP6 = {
    "class/thermal/thermal_zone0": {"type": "cpu-thermal", "temp": "48468"},
    "class/thermal/thermal_zone1": {"type": "gpu-thermal", "temp": "48562"},
    "class/thermal/thermal_zone2": {"type": "cv0-thermal", "temp": GATED},
    "class/thermal/thermal_zone5": {"type": "soc0-thermal", "temp": "48062"},
    "class/thermal/thermal_zone8": {"type": "tj-thermal", "temp": "49156"},
    "class/thermal/cooling_device0": {"type": "cpufreq-cpu0", "cur_state": "0"},
    "class/thermal/cooling_device1": {"type": "cpu-throttle-alert", "cur_state": "0"},
    "class/thermal/cooling_device2": {"type": "gpu-throttle-alert", "cur_state": "0"},
    "class/thermal/cooling_device3": {"type": "hot-surface-alert", "cur_state": "0"},
    "class/thermal/cooling_device4": {"type": "pwm-fan", "cur_state": "3"},
    "class/thermal/cooling_device5": {"type": "devfreq-17000000.gpu", "cur_state": "0"},
    "class/hwmon/hwmon0": {"name": "tmp451", "temp1_input": "47000", "oc9_event_cnt": "5"},
    "class/hwmon/hwmon3": {
        "name": "soctherm_oc",
        "oc1_event_cnt": "0",
        "oc2_event_cnt": "12",
        "oc3_event_cnt": "27390",
        "oc3_throt_en": "1",
    },
    "class/devfreq/15340000.vic": {"cur_freq": "115200000", "max_freq": "524800000"},
    "class/devfreq/17000000.gpu": {
        "cur_freq": "612000000",
        "min_freq": "306000000",
        "max_freq": "1020000000",
        "governor": "nvhost_podgov",
    },
    "class/devfreq/17000000.gpu/device": {"load": "873"},
}

THOR = {
    "class/thermal/thermal_zone0": {"type": "tj-thermal", "temp": "46250"},
    "class/thermal/thermal_zone1": {"type": "gpu-thermal", "temp": GATED},
    "class/thermal/thermal_zone2": {"type": "cpu-thermal", "temp": "44531"},
    "class/thermal/thermal_zone3": {"type": "soc012-thermal", "temp": "43906"},
    "class/thermal/cooling_device7": {"type": "soc012-throttle-alert", "cur_state": "0"},
    "class/devfreq/gpu-gpc-0": {"cur_freq": "1575000000", "max_freq": "1575000000", "governor": "nvhost_podgov"},
    "class/devfreq/gpu-nvd-0": {"cur_freq": "900000000", "max_freq": "900000000"},
}


class Board:
    """A fake root with real sysfs text; a gated sensor is a FIFO with a silent writer, which really answers EAGAIN."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._writers: list[int] = []

    def build(self, files: Mapping[str, Mapping[str, str]]) -> Path:
        for folder, entries in files.items():
            for name, text in entries.items():
                self.write(f"{folder}/{name}", text)
        return self.root

    def write(self, name: str, text: str) -> None:
        path = self.root / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if text is GATED:
            os.mkfifo(path)
            self._writers.append(os.open(path, os.O_RDWR))
        else:
            path.write_text(f"{text}\n", encoding="ascii")

    def close(self) -> None:
        for writer in self._writers:
            os.close(writer)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    made = Board(tmp_path)
    yield made
    made.close()


def test_the_gated_sensor_of_these_tests_breaks_the_ordinary_way_to_read_a_file(board: Board) -> None:
    board.write("class/thermal/thermal_zone1/temp", GATED)
    handle = os.open(board.root / "sys/class/thermal/thermal_zone1/temp", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        os.read(handle, 64)
    os.close(handle)


@pytest.mark.covers("TH-02")
def test_an_orin_is_read_by_type_and_name(board: Board) -> None:
    assert SysfsSource(board.build(ORIN_JP6)).read() == SourceReading(
        cpu_temp_c=48.468,
        gpu_temp_c=48.562,
        clock_mhz=612.0,
        clock_cap_mhz=1020.0,
        load_percent=87.3,
        governor="nvhost_podgov",
        over_current_events=27_402,
    )


@pytest.mark.covers("TH-02")
def test_a_thor_with_its_gpu_gated_has_no_gpu_temperature_and_says_why(board: Board) -> None:
    reading = SysfsSource(board.build(THOR)).read()
    assert (reading.cpu_temp_c, reading.gpu_temp_c) == (44.531, None)
    assert (reading.clock_mhz, reading.clock_cap_mhz, reading.load_percent) == (1575.0, 1575.0, None)
    assert reading.over_current_events is None
    assert "thermal_zone1/temp: Resource temporarily unavailable" in reading.notes


@pytest.mark.covers("TH-02")
def test_zones_and_hwmons_may_be_numbered_as_they_like(board: Board) -> None:
    numbers = {"thermal_zone0": "thermal_zone9", "thermal_zone1": "thermal_zone0", "hwmon3": "hwmon11"}
    moved = {}
    for folder, entries in ORIN_JP6.items():
        parent, _, name = folder.rpartition("/")
        moved[f"{parent}/{numbers.get(name, name)}"] = entries
    reading = SysfsSource(board.build(moved)).read()
    assert (reading.cpu_temp_c, reading.gpu_temp_c, reading.over_current_events) == (48.468, 48.562, 27_402)


@pytest.mark.covers("TH-02")
def test_the_gpu_of_jetpack_5_and_its_load_are_found_under_their_old_names(board: Board) -> None:
    files = {
        "class/thermal/thermal_zone0": {"type": "GPU-therm", "temp": "41000"},
        "class/devfreq/17000000.ga10b": {"cur_freq": "306000000", "max_freq": "1300500000"},
        "devices/platform/gpu.0": {"load": "1000"},
    }
    reading = SysfsSource(board.build(files)).read()
    assert (reading.gpu_temp_c, reading.clock_mhz, reading.clock_cap_mhz, reading.load_percent) == (
        41.0,
        306.0,
        1300.5,
        100.0,
    )


@pytest.mark.covers("TH-04")
@pytest.mark.parametrize(
    ("device", "alert"),
    [
        ("cooling_device1", "cpu-throttle-alert"),
        ("cooling_device2", "gpu-throttle-alert"),
        ("cooling_device3", "hot-surface-alert"),
        ("cooling_device5", "devfreq-17000000.gpu"),
        ("cooling_device0", "cpufreq-cpu0"),
    ],
)
def test_an_alert_of_the_kernel_is_seen_and_a_turning_fan_is_none(board: Board, device: str, alert: str) -> None:
    source = SysfsSource(board.build(ORIN_JP6))
    assert source.read().throttle_alerts == ()
    board.write(f"class/thermal/{device}/cur_state", "1")
    assert source.read().throttle_alerts == (alert,)


@pytest.mark.covers("TH-04")
def test_over_current_is_unknown_while_one_of_its_counters_is_not_readable(board: Board) -> None:
    source = SysfsSource(board.build(ORIN_JP6))
    assert source.read().over_current_events == 27_402
    board.write("class/hwmon/hwmon3/oc3_event_cnt", GATED)
    assert source.read().over_current_events is None
    board.write("class/hwmon/hwmon3/oc3_event_cnt", "27391")
    assert source.read().over_current_events == 27_403


@pytest.mark.covers("TH-02", "TH-03")
@pytest.mark.parametrize("text", ["", "\0", "-256000", "48.5", "48", "99999999999999999999999", "0x30", "warm", "nan"])
def test_text_that_is_no_temperature_is_unknown(board: Board, text: str) -> None:
    board.build(ORIN_JP6)
    board.write("class/thermal/thermal_zone1/temp", text)
    reading = SysfsSource(board.root).read()
    assert (reading.cpu_temp_c, reading.gpu_temp_c) == (48.468, None)
    assert reading.notes


@pytest.mark.covers("TH-02")
def test_a_sensor_that_comes_back_is_read_again(board: Board) -> None:
    source = SysfsSource(board.build(THOR))
    assert source.read().gpu_temp_c is None
    board.write("class/thermal/thermal_zone1/temp", "52000")
    assert source.read().gpu_temp_c == 52.0


@pytest.mark.covers("TH-02", "TH-03")
def test_a_host_that_is_no_jetson_is_refused_with_the_place_and_looked_at_again(board: Board) -> None:
    board.write("class/thermal/thermal_zone0/type", "x86_pkg_temp")
    board.write("class/thermal/thermal_zone0/temp", "45000")
    source = SysfsSource(board.root)
    with pytest.raises(TelemetryUnavailableError, match=f"below {board.root / 'sys'} can be read"):
        source.read()
    board.build(ORIN_JP6)
    assert source.read().gpu_temp_c == 48.562
    source.close()
    assert source.read().gpu_temp_c == 48.562


@pytest.mark.covers("TH-02")
def test_nothing_is_written(board: Board) -> None:
    board.build(ORIN_JP6)
    before = {path: path.stat().st_mtime_ns for path in board.root.rglob("*") if path.is_file()}
    for path in before:
        path.chmod(0o444)
    SysfsSource(board.root).read()
    assert {path: path.stat().st_mtime_ns for path in board.root.rglob("*") if path.is_file()} == before


@pytest.mark.covers("TH-02")
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_in_any_file_give_a_reading_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    root = tmp_path_factory.mktemp("board")
    Board(root).build({folder: dict.fromkeys(entries, "1") for folder, entries in ORIN_JP6.items()})
    for path in (root / "sys").rglob("*"):
        if path.is_file() and path.name not in ("type", "name"):
            path.write_bytes(data)
    with suppress(TelemetryUnavailableError):
        assert not SysfsSource(root).read().is_empty


# --- jtop --------------------------------------------------------------------------------------------------------

ORIN_JTOP = {
    "temperature": {
        "cpu": {"temp": 48.5, "online": True},
        "gpu": {"temp": 47.9, "online": True, "max": 99.0},
        "cv0": {"temp": -256, "online": False},
    },
    "gpu": {
        "gpu": {
            "type": "integrated",
            "status": {"load": 87.3, "railgate": False, "tpc_pg_mask": False, "3d_scaling": True},
            "freq": {"governor": "nvhost_podgov", "cur": 612000, "max": 1020000, "min": 306000, "GPC": [611000]},
            "power_control": "auto",
        }
    },
}

THOR_JTOP = {  # 7.x takes the load from NVML, and knows no rail gating there
    "temperature": {"cpu": {"temp": 44.5, "online": True}, "gpu": {"temp": -256, "online": False}},
    "gpu": {
        "Thor": {
            "type": "integrated",
            "status": {"load": 3, "railgate": None, "tpc_pg_mask": None, "3d_scaling": None},
            "freq": {"governor": "nvhost_podgov", "cur": 0, "max": 1575000, "min": 0},
            "power_control": "nvml",
        }
    },
}


class JtopError(Exception):
    """As ``jtop.JtopException``: an ``Exception`` with a text that may have several lines."""


class Jtop:
    """The part of ``jtop.jtop`` that is used, alike in 4.3 and 7: a thread that is started once, and ended by close."""

    def __init__(self, data: Mapping[str, object], *, refuses: str = "", interval: float = 0.0) -> None:
        self.temperature = data["temperature"]
        self.gpu = data["gpu"]
        self.interval = interval
        self.refuses = refuses
        self.state = "new"
        self.answers = True

    def start(self) -> None:
        assert self.state == "new"
        if self.refuses:
            raise JtopError(self.refuses)
        self.state = "running"

    def ok(self) -> bool:
        assert self.state == "running"
        return self.answers

    def close(self) -> None:
        if self.state != "running":
            raise RuntimeError("cannot join thread before it is started")
        self.state = "closed"


class Service:
    """Stands for the library: gives a client for each connection, and keeps them."""

    def __init__(self, data: Mapping[str, object], *, refuses: str = "") -> None:
        self.data = data
        self.refuses = refuses
        self.clients: list[Jtop] = []

    def load(self) -> Service:
        return self

    def __call__(self, *, interval: float) -> Jtop:
        self.clients.append(Jtop(self.data, refuses=self.refuses, interval=interval))
        return self.clients[-1]


@pytest.mark.covers("TH-02")
def test_jtop_is_read_in_degrees_kilohertz_and_percent() -> None:
    service = Service(ORIN_JTOP)
    source = JtopSource(load=service.load)
    assert source.read() == SourceReading(48.5, 47.9, 612.0, 1020.0, 87.3, "nvhost_podgov")
    source.read()
    assert [client.interval for client in service.clients] == [1.0]
    source.close()
    source.close()
    assert [client.state for client in service.clients] == ["closed"]
    assert source.read().gpu_temp_c == 47.9


@pytest.mark.covers("TH-02", "TH-03")
def test_jtop_on_a_thor_with_its_gpu_gated_knows_neither_temperature_nor_clock() -> None:
    reading = JtopSource(load=Service(THOR_JTOP).load).read()
    assert (reading.cpu_temp_c, reading.gpu_temp_c, reading.clock_mhz, reading.load_percent) == (44.5, None, None, 3)


@pytest.mark.covers("TH-02", "TH-03")
@pytest.mark.parametrize("gpu", [{"temp": -256, "online": True}, {"temp": 45.0, "online": False}, {"online": True}])
def test_a_temperature_of_jtop_counts_only_if_flag_and_value_both_say_so(gpu: dict[str, object]) -> None:
    reading = JtopSource(load=Service({**ORIN_JTOP, "temperature": {"gpu": gpu}}).load).read()
    assert (reading.cpu_temp_c, reading.gpu_temp_c) == (None, None)


@pytest.mark.covers("TH-02")
def test_a_board_whose_jtop_knows_no_gpu_still_has_its_cpu() -> None:
    assert JtopSource(load=Service({**ORIN_JTOP, "gpu": {}}).load).read().cpu_temp_c == 48.5


@pytest.mark.covers("TH-03")
@pytest.mark.parametrize("data", [{"temperature": None, "gpu": {}}, {"temperature": {"cpu": 3}, "gpu": {"gpu": 3}}])
def test_jtop_data_of_an_unknown_shape_is_no_telemetry(data: dict[str, object]) -> None:
    with pytest.raises(TelemetryUnavailableError, match="jtop failed") as caught:
        JtopSource(load=Service(data).load).read()
    assert caught.value.__cause__ is not None


@pytest.mark.covers("TH-02", "TH-03")
def test_a_jtop_that_fails_is_closed_and_asked_anew() -> None:
    service = Service(ORIN_JTOP)
    source = JtopSource(load=service.load)
    source.read()
    service.clients[0].answers = False
    with pytest.raises(TelemetryUnavailableError, match="sent nothing"):
        source.read()
    assert service.clients[0].state == "closed"
    service.refuses = "The jtop.service is not active. Please run:\nsudo systemctl restart jtop.service"
    with pytest.raises(TelemetryUnavailableError, match=r"not active\. Please run: sudo systemctl") as caught:
        source.read()
    assert isinstance(caught.value.__cause__, JtopError)
    service.refuses = ""
    assert source.read().gpu_temp_c == 47.9
    assert len(service.clients) == 3


# --- NVML --------------------------------------------------------------------------------------------------------


class Use(NamedTuple):
    gpu: int


class Nvml:
    """The part of ``pynvml`` that is used. ``answers``: by the call's short name; what is not there is not supported."""

    class NVMLError(Exception):
        pass

    def __init__(self, *, dead: str = "", **answers: object) -> None:
        self.answers = answers
        self.dead = dead
        self.references = 0

    def load(self) -> Nvml:
        return self

    def nvmlInit(self) -> None:
        if self.dead:
            raise self.NVMLError(self.dead)
        self.references += 1

    def nvmlShutdown(self) -> None:
        self.references -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index:
            raise self.NVMLError("Invalid Argument")
        return "gpu 0"

    def _answer(self, name: str, device: str) -> object:
        assert device == "gpu 0"
        if name not in self.answers:
            raise self.NVMLError("Not Supported")
        return self.answers[name]

    def nvmlDeviceGetTemperature(self, device: str, sensor: int) -> object:
        assert sensor == 0
        return self._answer("temperature", device)

    def nvmlDeviceGetClockInfo(self, device: str, kind: int) -> object:
        assert kind == 0
        return self._answer("clock", device)

    def nvmlDeviceGetMaxClockInfo(self, device: str, kind: int) -> object:
        assert kind == 0
        return self._answer("cap", device)

    def nvmlDeviceGetUtilizationRates(self, device: str) -> object:
        return self._answer("use", device)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device: str) -> object:
        return self._answer("reasons", device)


class NewNvml(Nvml):
    """With the names of NVML 13 beside the old ones."""

    def nvmlDeviceGetTemperatureV(self, device: str, sensor: int) -> object:
        return self.nvmlDeviceGetTemperature(device, sensor)

    def nvmlDeviceGetCurrentClocksEventReasons(self, device: str) -> object:
        return self.nvmlDeviceGetCurrentClocksThrottleReasons(device)


@pytest.mark.covers("TH-02")
@pytest.mark.parametrize("kind", [Nvml, NewNvml])
def test_nvml_is_read_under_its_old_and_its_new_names(kind: type[Nvml]) -> None:
    library = kind(temperature=61, clock=1410, cap=1980, use=Use(97), reasons=0x1)
    source = NvmlSource(load=library.load)
    assert source.read() == SourceReading(
        gpu_temp_c=61, clock_mhz=1410, clock_cap_mhz=1980, load_percent=97, clock_limits=()
    )
    source.read()
    assert library.references == 1
    source.close()
    source.close()
    assert library.references == 0


@pytest.mark.covers("TH-02", "TH-04")
@pytest.mark.parametrize(
    ("reasons", "alerts", "limits"),
    [
        (0x0, (), ()),
        (0x1 | 0x2 | 0x10 | 0x100, (), ()),
        (0x4, (), ("sw-power-cap",)),
        (0x20, ("sw-thermal-slowdown",), ()),
        (0x8 | 0x40, ("hw-thermal-slowdown",), ()),
        (0x8 | 0x80, ("hw-power-brake",), ()),
        (0x8, ("hw-slowdown",), ()),
        (0x8 | 0x20, ("hw-slowdown", "sw-thermal-slowdown"), ()),
        (0x200 | 0x400, (), ("board-limit", "reliability")),
    ],
)
def test_clock_reasons_are_told_apart(reasons: int, alerts: tuple[str, ...], limits: tuple[str, ...]) -> None:
    reading = NvmlSource(load=Nvml(temperature=50, reasons=reasons).load).read()
    assert (reading.throttle_alerts, reading.clock_limits) == (alerts, limits)


@pytest.mark.covers("TH-02", "TH-04")
def test_the_reason_bits_are_those_of_the_library() -> None:
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py: not installed")
    names = {
        "hw-slowdown": "EventReasonHwSlowdown",
        "sw-thermal-slowdown": "EventReasonSwThermalSlowdown",
        "hw-thermal-slowdown": "EventReasonHwThermalSlowdown",
        "hw-power-brake": "EventReasonHwPowerBrakeSlowdown",
        "sw-power-cap": "EventReasonSwPowerCap",
        "board-limit": "ThrottleReasonBoardLimit",
        "reliability": "ThrottleReasonReliability",
    }
    assert {getattr(pynvml, f"nvmlClocks{names[text]}"): text for text in names} == {**ALERT_BITS, **LIMIT_BITS}
    assert (pynvml.NVML_TEMPERATURE_GPU, pynvml.NVML_CLOCK_GRAPHICS) == (0, 0)


@pytest.mark.covers("TH-02", "TH-03")
def test_what_a_gpu_does_not_support_is_unknown_with_the_reason_and_costs_nothing_else() -> None:
    reading = NvmlSource(load=Nvml(clock=1410).load).read()
    assert reading == SourceReading(clock_mhz=1410, notes=reading.notes)
    assert reading.clock_limits is None
    assert "nvmlDeviceGetMaxClockInfo: Not Supported" in reading.notes
    assert len(reading.notes) == 4


@pytest.mark.covers("TH-03")
def test_a_gpu_that_answers_nothing_is_no_telemetry_and_is_opened_anew() -> None:
    library = Nvml()
    source = NvmlSource(load=library.load)
    with pytest.raises(TelemetryUnavailableError, match=r"answers nothing.*Not Supported"):
        source.read()
    assert library.references == 0
    library.answers = {"temperature": 50}
    assert source.read().gpu_temp_c == 50


@pytest.mark.covers("TH-02", "TH-03")
def test_a_missing_driver_and_a_missing_gpu_are_reasons_and_leave_nothing_open() -> None:
    with pytest.raises(TelemetryUnavailableError, match="NVML Shared Library Not Found"):
        NvmlSource(load=Nvml(dead="NVML Shared Library Not Found").load).read()
    library = Nvml(temperature=50)
    with pytest.raises(TelemetryUnavailableError, match="GPU 3: Invalid Argument"):
        NvmlSource(3, load=library.load).read()
    assert library.references == 0


@pytest.mark.covers("TH-03")
@pytest.mark.parametrize(("load", "library"), [(load_jtop, "jtop"), (load_nvml, "pynvml")])
def test_a_door_gives_its_library_or_a_reason_that_says_what_to_install(
    load: Callable[[], object], library: str
) -> None:
    missing = None
    try:
        load()
    except TelemetryUnavailableError as error:
        missing = error
    assert (missing is not None) == (find_spec(library) is None)
    assert missing is None or (missing.remedy and isinstance(missing.__cause__, ImportError))


# --- traces ------------------------------------------------------------------------------------------------------

HEADER = '{"trace": 1, "origin": "made by this test"}'


def trace_of(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.covers("TH-02")
def test_a_trace_replays_in_the_time_of_the_clock_and_again_after_close(tmp_path: Path) -> None:
    path = trace_of(
        tmp_path / "board.jsonl",
        HEADER,
        '{"t_s": 0, "gpu_temp_c": 50}',
        "",
        '{"t_s": 1.5, "offline": "bus error"}',
        '{"t_s": 2, "gpu_temp_c": NaN, "cpu_temp_c": 51, "throttle_alerts": ["gpu-throttle-alert"], "clock_mhz": null}',
    )
    now_ns = [5_000_000_000]
    source = TraceSource(path, clock=lambda: now_ns[0])
    assert source.origin == "made by this test"
    assert source.duration_s == 2.5

    def at(seconds: float) -> SourceReading:
        now_ns[0] = 5_000_000_000 + int(seconds * 1e9)
        return source.read()

    assert at(0.0).gpu_temp_c == 50
    assert at(1.49).gpu_temp_c == 50
    with pytest.raises(TelemetryUnavailableError, match="bus error"):
        at(1.5)
    last = at(2.0)
    assert (last.gpu_temp_c, last.cpu_temp_c, last.throttle_alerts) == (None, 51, ("gpu-throttle-alert",))
    assert at(2.49) == last
    with pytest.raises(TelemetryUnavailableError, match=r"over, after 2\.5 s"):
        at(2.5)
    source.close()
    assert at(3.0).gpu_temp_c == 50


@pytest.mark.covers("TH-02")
@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "no moment"),
        ([HEADER], "no moment"),
        (["[1]"], "line 1 .* expected a JSON object"),
        (['{"t_s": 0, "gpu_temp_c": 50}'], "line 1 .* trace is None"),
        (['{"trace": 2, "origin": "x"}'], "line 1 .* trace is 2"),
        (['{"trace": 1}'], "line 1 .* origin"),
        ([HEADER, '{"t_s": 0'], "line 2"),
        ([HEADER, '{"gpu_temp_c": 50}'], "line 2 .* t_s is None"),
        ([HEADER, '{"t_s": -1}'], "line 2 .* t_s is -1"),
        ([HEADER, '{"t_s": NaN}'], "line 2 .* t_s is nan"),
        ([HEADER, '{"t_s": 1%s}' % ("0" * 400)], "line 2"),
        ([HEADER, '{"t_s": 1}', '{"t_s": 1}'], "line 3 .* twice"),
        ([HEADER, '{"t_s": 1}', '{"t_s": 0.5}'], "line 3 .* t_s is 0.5"),
        ([HEADER, '{"t_s": 1, "gpu_temp": 50}'], "line 2 .* unknown figures gpu_temp;"),
        ([HEADER, '{"t_s": 1, "throttle_alerts": "gpu"}'], "line 2 .* expected a list of texts"),
        ([HEADER, '{"t_s": 1, "governor": 7}'], "line 2 .* governor is 7"),
        ([HEADER, '{"t_s": 1, "offline": "x", "gpu_temp_c": 5}'], "line 2 .* offline"),
        ([HEADER, "[" * 100_000], "line 2"),
    ],
)
def test_a_malformed_trace_is_refused_with_its_line(tmp_path: Path, lines: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        TraceSource(trace_of(tmp_path / "board.jsonl", *lines))


@pytest.mark.covers("TH-02")
def test_a_trace_that_cannot_be_read_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.jsonl cannot be read"):
        TraceSource(tmp_path / "missing.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.jsonl cannot be read"):
        TraceSource(tmp_path / "binary.jsonl")


@pytest.mark.covers("TH-02")
@settings(max_examples=60)
@given(
    reading=st.builds(
        SourceReading,
        cpu_temp_c=st.none() | st.floats(1, 150),
        gpu_temp_c=st.none() | st.floats(-55, -1),
        clock_mhz=st.none() | st.floats(10, 10_000),
        load_percent=st.none() | st.floats(0, 100),
        governor=st.none() | st.text(),
        throttle_alerts=st.lists(st.text()).map(tuple),
        over_current_events=st.none() | st.integers(0, 2**63),
        clock_limits=st.none() | st.lists(st.text()).map(tuple),
    )
)
def test_a_reading_written_by_its_field_names_comes_back(
    tmp_path_factory: pytest.TempPathFactory, reading: SourceReading
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.jsonl"
    trace_of(path, HEADER, json.dumps({"t_s": 0.0, **asdict(reading)}))
    assert TraceSource(path).read() == reading


@pytest.mark.covers("TH-02")
@pytest.mark.parametrize("path", sorted(TRACES.glob("*.jsonl")), ids=lambda path: path.stem)
def test_the_shipped_traces_say_their_origin_and_licence_and_hold_no_implausible_figure(path: Path) -> None:
    source = TraceSource(path)
    header = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert header["licence"]
    assert header["board"]
    assert "constructed" in source.origin
    assert source.duration_s >= 30
    assert all(moment.reading is None or not moment.reading.notes for moment in source._moments)


# --- the choice --------------------------------------------------------------------------------------------------


@pytest.mark.covers("TH-02")
def test_sysfs_is_taken_on_a_jetson_without_asking_a_library(board: Board) -> None:
    nvml, jtop = Nvml(temperature=50), Service(ORIN_JTOP)
    assert isinstance(choose_source(board.build(ORIN_JP6), nvml=nvml.load, jtop=jtop.load), SysfsSource)
    assert (nvml.references, jtop.clients) == (0, [])


@pytest.mark.covers("TH-02")
def test_nvml_is_taken_where_there_is_no_jetson_and_jtop_where_only_it_answers(tmp_path: Path) -> None:
    nvml, jtop = Nvml(temperature=50), Service(ORIN_JTOP)
    assert isinstance(choose_source(tmp_path, nvml=nvml.load, jtop=jtop.load), NvmlSource)
    dead = Nvml(dead="Driver Not Loaded")
    chosen = choose_source(tmp_path, nvml=dead.load, jtop=jtop.load)
    assert isinstance(chosen, JtopSource)
    assert chosen.read().gpu_temp_c == 47.9
    assert len(jtop.clients) == 1


@pytest.mark.covers("TH-02", "TH-03")
def test_where_nothing_answers_each_reason_is_given(tmp_path: Path) -> None:
    dead, refusing = Nvml(dead="Driver Not Loaded"), Service(ORIN_JTOP, refuses="The jtop.service is not active.")
    with pytest.raises(TelemetryUnavailableError) as caught:
        choose_source(tmp_path, nvml=dead.load, jtop=refusing.load)
    for said in ("sysfs: no file", "nvml: NVML does not give GPU 0: Driver Not Loaded", "jtop: jtop failed: The jtop"):
        assert said in str(caught.value)


@pytest.mark.covers("TH-02")
@pytest.mark.parametrize(
    ("name", "kind"), [("sysfs", SysfsSource), ("nvml", NvmlSource), ("jtop", JtopSource), ("trace", TraceSource)]
)
def test_a_configured_source_is_taken_even_where_another_would_answer(
    board: Board, name: str, kind: type[ThermalSource]
) -> None:
    trace = TRACES / "orin_nx_heat.jsonl"
    assert isinstance(choose_source(board.build(ORIN_JP6), name=name, trace=trace), kind)


@pytest.mark.covers("TH-02")
def test_a_configuration_that_names_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'tegrastats'; expected one of auto, sysfs, nvml, jtop, trace"):
        choose_source(tmp_path, name="tegrastats")
    with pytest.raises(ConfigError, match="no trace was named"):
        choose_source(tmp_path, name="trace")
