"""The Jetson's files on made-up boards: what is read, what is summed, and what is missing with which reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.instruments import plausible
from harness.instruments.handles import Handle
from harness.instruments.sysfs import MemoryInstrument, SysfsInstrument
from tests.harness.board_trees import GATED, agx_orin, orin_nx, thor

pytestmark = pytest.mark.covers("T2-01", "T2-04")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_an_orin_nx_tells_heat_clocks_fan_rails_and_caps(tmp_path: Path) -> None:
    with orin_nx(tmp_path) as tree:
        tree.write("sys/class/devfreq/17000000.gpu/device/load", 873)
        instrument = SysfsInstrument(tmp_path)
        reading = instrument.read()
    assert reading.values.items() >= {
        "gpu_temp_c": 48.562, "cpu_temp_c": 48.468, "tj_temp_c": 49.156, "soc_temp_c": 49.156, "temp_c.soc2": 47.531,
        "gpu_clock_mhz": 306.0, "gpu_cap_mhz": 1173.0, "gpu_least_clock_mhz": 306.0, "gpu_load_percent": 87.3,
        "emc_cap_mhz": 3199.0, "cpu_clock_mhz": 1190.4, "fan_rpm": 1636.0, "fan_pwm": 76.0, "oc_events": 12.0,
        "oc3_events": 12.0, "power_w.VDD_IN": 4960 * 1120 / 1e6, "power_w": 4960 * 1120 / 1e6,
        "power_w.VDD_SOC": 4960 * 288 / 1e6, "alert_sensors": 12.0,
    }.items()  # fmt: skip
    assert reading.alerts == []
    assert reading.missing["temp_c.cv0"].endswith("the sensor is off (its power is gated)")
    assert "No such file" in reading.missing["emc_clock_mhz"]
    assert instrument.about() == {"gpu": "17000000.gpu", "governor": "nvhost_podgov", "power_w": "rail VDD_IN"}


def test_without_a_rail_of_the_module_the_rails_are_summed_and_that_is_said(tmp_path: Path) -> None:
    with agx_orin(tmp_path) as tree:
        tree.write("sys/class/hwmon/hwmon1/curr7_input", 2)  # of the "sum of shunt voltages", which is no rail
        instrument = SysfsInstrument(tmp_path)
        reading = instrument.read()
    rails = {name: watts for name, watts in reading.values.items() if name.startswith("power_w.")}
    assert sorted(rails) == [
        f"power_w.{rail}" for rail in ("VDDQ_VDD2_1V8AO", "VDD_CPU_CV", "VDD_GPU_SOC", "VIN_SYS_5V0")
    ]
    assert reading.values["power_w"] == pytest.approx(sum(rails.values()))
    assert instrument.about()["power_w"].startswith("the sum of the rails VDD_GPU_SOC, ")
    assert "gpu_temp_c" not in reading.values
    assert "gated" in reading.missing["gpu_temp_c"]


def test_a_sum_is_unknown_while_one_of_its_parts_is(tmp_path: Path) -> None:
    with agx_orin(tmp_path) as tree:
        instrument = SysfsInstrument(tmp_path)
        instrument.read()
        tree.write("sys/class/hwmon/hwmon1/curr2_input", "nonsense")
        tree.write("sys/class/hwmon/hwmon3/oc1_event_cnt", GATED)
        reading = instrument.read()
        assert not {"power_w", "oc_events"} & reading.values.keys()
        assert reading.missing["power_w"] == "power_w.VDD_CPU_CV cannot be read"
        assert reading.missing["oc_events"] == "oc1_events cannot be read"
        assert reading.values["oc3_events"] == 12.0
        tree.write("sys/class/hwmon/hwmon1/curr2_input", 85)
        tree.write("sys/class/hwmon/hwmon3/oc1_event_cnt", 3)
        assert instrument.read().values["oc_events"] == 15.0


def test_a_thor_has_its_total_in_microwatts_and_its_memory_in_no_line(tmp_path: Path) -> None:
    with thor(tmp_path) as tree:
        reading = SysfsInstrument(tmp_path).read()
        assert reading.values["power_w"] == reading.values["power_w.VIN"] == 31.25
        assert reading.values["soc_temp_c"] == 43.906
        memory = MemoryInstrument(tmp_path)
        told = memory.read()
        assert told.values.keys() == {"available_bytes"}
        assert told.missing["nvmap_bytes"].startswith("no NvMapMemUsed in /proc/meminfo; iovmm/clients: No such file")
        tree.write(
            "sys/kernel/debug/nvmap/iovmm/clients",
            "CLIENT  PROCESS  PID  SIZE\nuser  python3  4711  512K\ntotal  2048K",
        )
        assert memory.read().values["nvmap_bytes"] == 2048 * 1024


def test_memory_of_an_orin(tmp_path: Path) -> None:
    with orin_nx(tmp_path):
        reading = MemoryInstrument(tmp_path).read()
    assert reading.values["nvmap_bytes"] == 181_240 * 1024
    assert reading.values["available_bytes"] > 10e9
    assert not reading.missing


@pytest.mark.covers("TH-04")
@pytest.mark.parametrize("kind", ["gpu-throttle-alert", "hot-surface-alert", "devfreq-17000000.gpu", "cpufreq-cpu4"])
def test_an_alert_is_seen_while_it_is_raised_and_a_turning_fan_is_none(tmp_path: Path, kind: str) -> None:
    with orin_nx(tmp_path) as tree:
        instrument = SysfsInstrument(tmp_path)
        tree.cooling("pwm-fan", 3)
        assert instrument.read().alerts == []
        tree.cooling(kind, 1)
        assert instrument.read().alerts == [kind]
        tree.cooling(kind, 0)
        assert instrument.read().alerts == []


def test_files_stay_open_and_say_each_time_what_they_say_now(tmp_path: Path) -> None:
    path = tmp_path / "temp"
    path.write_text("48000\n")
    handle = Handle(path)
    assert handle.number() == 48_000
    held = open_files()
    for milli_c in range(40_000, 40_200):
        path.write_text(f"{milli_c}\n")
        assert handle.number() == milli_c
    assert open_files() == held
    path.unlink()
    with pytest.raises(FileNotFoundError):
        handle.number()
    path.write_text("50000\n")
    assert handle.number() == 50_000
    handle.close()


def test_close_gives_every_file_back_and_a_later_reading_opens_them_again(tmp_path: Path) -> None:
    with orin_nx(tmp_path):
        before = open_files()
        instrument, memory = SysfsInstrument(tmp_path), MemoryInstrument(tmp_path)
        first = instrument.read().values
        memory.read()
        assert open_files() > before + 20
        instrument.close()
        memory.close()
        assert open_files() == before
        assert instrument.read().values == first
        instrument.close()


def test_a_sensor_that_comes_back_is_read_again(tmp_path: Path) -> None:
    with agx_orin(tmp_path) as tree:
        instrument = SysfsInstrument(tmp_path)
        assert "gpu_temp_c" not in instrument.read().values
        tree.zone("gpu-thermal", 52_000)
        reading = instrument.read()
        assert reading.values["gpu_temp_c"] == 52.0
        assert "gpu_temp_c" not in reading.missing


def test_a_host_without_sensors_says_what_it_lacks(tmp_path: Path) -> None:
    reading = SysfsInstrument(tmp_path).read()
    assert not reading.values
    assert reading.missing["power_w"] == "no INA3221 or INA238 among the hwmons"
    assert reading.missing["gpu_temp_c"] == "no thermal zone of a GPU"
    assert "available_bytes" in MemoryInstrument(tmp_path).read().missing


def test_the_clock_of_a_gated_gpu_is_unknown_and_not_zero(tmp_path: Path) -> None:
    with orin_nx(tmp_path) as tree:
        tree.write("sys/class/devfreq/17000000.gpu/cur_freq", 0)
        tree.zone("tj-thermal", -256_000)
        reading = SysfsInstrument(tmp_path).read()
    assert not {"gpu_clock_mhz", "tj_temp_c"} & reading.values.keys()
    assert reading.missing["gpu_clock_mhz"] == "0.0 is not plausible"
    assert reading.missing["tj_temp_c"] == "-256.0 is not plausible"


@pytest.mark.parametrize(
    ("name", "value", "is_fine"),
    [
        ("gpu_temp_c", 48.5, True), ("gpu_temp_c", 0.045, False), ("temp_c.soc0", 321.0, False),
        ("gpu_clock_mhz", 1_020_000.0, False), ("power_w.VDD_IN", -1.0, False), ("oc_events", 1e12, True),
        ("fan_rpm", float("inf"), False), ("fan_rpm", float("nan"), False),
    ],
)  # fmt: skip
def test_what_a_sensor_can_say(name: str, value: float, is_fine: bool) -> None:
    assert plausible(name, value) is is_fine


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=60))
def test_whatever_is_in_the_files_it_is_a_value_or_missing(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    root = tmp_path_factory.mktemp("board")
    for name in ("class/thermal/thermal_zone0/temp", "class/hwmon/hwmon0/in1_input", "class/hwmon/hwmon0/curr1_input",
                 "class/devfreq/17000000.gpu/cur_freq", "class/hwmon/hwmon1/oc1_event_cnt"):  # fmt: skip
        path = root / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for name, text in (("class/thermal/thermal_zone0/type", "gpu-thermal"), ("class/hwmon/hwmon0/name", "ina3221"),
                       ("class/hwmon/hwmon0/in1_label", "VDD_IN"), ("class/hwmon/hwmon1/name", "soctherm_oc")):  # fmt: skip
        (root / "sys" / name).write_text(text)
    instrument = SysfsInstrument(root)
    reading = instrument.read()
    instrument.close()
    for name in ("gpu_temp_c", "power_w", "gpu_clock_mhz", "oc_events"):
        assert (name in reading.values) != (name in reading.missing), name
