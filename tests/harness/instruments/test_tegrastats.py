"""Lines of tegrastats: those that boards printed, each known form of a token, and anything at all."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.instruments.tegrastats import looks_like, parse, wall_ns

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.covers("T2-04")

FIXTURES = Path(__file__).parents[3] / "fixtures"
LINES = {path.stem.removeprefix("tegrastats_"): path for path in (FIXTURES / "telemetry").glob("tegrastats_*.txt")}
EXPECTED: dict[str, tuple[dict[str, float], list[str]]] = {
    "orin_nano_jp62": (
        {
            "power_w": 4.761, "power_mean_w.VDD_IN": 4.778, "power_w.VDD_SOC": 1.428, "gpu_temp_c": 48.562,
            "cpu_temp_c": 48.468, "tj_temp_c": 49.156, "soc_temp_c": 49.156, "gpu_load_percent": 0.0, "cpus_online": 6.0,
            "cpu_clock_mhz": 729.0, "ram_used_bytes": 775.0 * 1048576, "lfb_blocks": 3.0, "lfb_bytes": 4.0 * 1048576,
            "swap_total_bytes": 3810.0 * 1048576,
        },
        ["gpu_clock_mhz"],
    ),
    "agx_orin_jp621_root": (
        {
            "power_w": 2.412 + 1.607 + 4.707, "cpus_online": 12.0, "cpu_load_percent": 171 / 12, "emc_load_percent": 3.0,
            "emc_clock_mhz": 2133.0, "gpu_load_percent": 0.0, "engine_mhz.NVENC": 166.0, "engine_mhz.VIC": 115.0,
            "engine_mhz.APE": 174.0, "tj_temp_c": 52.562,
        },
        ["gpu_clock_mhz"],
    ),
    "agx_orin_jp72_shortened": (
        {"gpu_clock_mhz": 1300.0, "cpu_temp_c": 52.968, "emc_clock_mhz": 3199.0, "cpus_online": 2.0, "engine_mhz.APE": 174.0},
        ["token ..."],
    ),
    "tx2_jp4": (
        {
            "gpu_clock_mhz": 114.0, "gpu_temp_c": 39.5, "temp_c.pmic": 50.0, "temp_c.tdiode": 39.25, "power_w": 5.297,
            "power_w.VDD_4V0_WIFI": 0.0, "power_w.VDD_SYS_DDR": 1.241, "swap_used_bytes": 1626.0 * 1048576,
        },
        [],
    ),
}  # fmt: skip


def test_the_lines_are_those_whose_origin_is_told() -> None:
    table = tomllib.loads((FIXTURES / "ORIGINS.toml").read_text(encoding="utf-8"))
    told = next(origin for origin in table["origin"] if "telemetry/tegrastats_tx2_jp4.txt" in origin["files"])
    assert sorted(told["files"]) == sorted(f"telemetry/{path.name}" for path in LINES.values())
    assert told["sha256"] == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in LINES.values()}


@pytest.mark.parametrize("name", EXPECTED)
def test_what_boards_printed_is_read_whole(name: str) -> None:
    values, missing = EXPECTED[name]
    frame = parse(LINES[name].read_text(encoding="utf-8"), 7)
    assert frame.at_ns == 7
    assert {key: frame.values.get(key) for key in values} == pytest.approx(values)
    assert list(frame.missing) == missing
    assert not set(frame.values) & set(frame.missing)


def test_every_stored_line_is_expected_here() -> None:
    assert LINES.keys() == EXPECTED.keys()


@pytest.mark.parametrize(
    ("token", "load", "clock"),
    [
        ("GR3D_FREQ 0%", 0.0, None),
        ("GR3D_FREQ 99%@[612]", 99.0, 612.0),
        ("GR3D_FREQ 0%@[0,0]", 0.0, None),
        ("GR3D_FREQ 12%@[1300,0]", 12.0, 1300.0),
        ("GR3D_FREQ 10%@1300", 10.0, 1300.0),
        ("GR3D_FREQ @[1000,1000,1000]", None, 1000.0),
        ("NVENC off", None, None),
    ],
)
def test_the_gpu_is_told_in_four_forms_or_not_at_all(token: str, load: float | None, clock: float | None) -> None:
    frame = parse(f"RAM 1/2MB {token} cpu@40C", 0)
    assert (frame.values.get("gpu_load_percent"), frame.values.get("gpu_clock_mhz")) == (load, clock)
    if "GR3D" in token:
        assert ("gpu_clock_mhz" in frame.missing) == (clock is None)
        assert ("gpu_load_percent" in frame.missing) == (load is None)


@pytest.mark.parametrize(
    ("token", "name", "value"),
    [
        ("cpu@52.968C/52.968C", "cpu_temp_c", 52.968), ("GPU@39.5C", "gpu_temp_c", 39.5), ("soc012@43C", "soc_temp_c", 43.0),
        ("gpu@-256C", "gpu_temp_c", None), ("CPU@-5.5C", "cpu_temp_c", -5.5), ("tj@0C", "tj_temp_c", None),
        ("VDD_GPU_SOC 5139mW/5139mW/5139mW", "power_w", 5.139), ("VDD_IN 5297/5300", "power_w", 5.297),
        ("VIN 25000mW/24000mW VDD_GPU 9000mW/9000mW", "power_w", 25.0),
        ("CPU [off,50%@1190,off,10%@729]", "cpu_load_percent", 30.0), ("CPU [off,off]", "cpu_load_percent", None),
        ("CPU [off,50%@1190,off,10%@729]", "cpus_online", 2.0), ("EMC_FREQ 3%", "emc_load_percent", 3.0),
        ("IRAM 0/252kB(lfb 252kB)", "iram_total_bytes", 252.0 * 1024),
    ],
)  # fmt: skip
def test_each_other_form_of_a_token(token: str, name: str, value: float | None) -> None:
    frame = parse(f"RAM 1/2MB (lfb 1x4MB) {token}", 0)
    assert frame.values.get(name) == value
    assert not [word for word in frame.missing if word.startswith("token ")]


def test_what_is_switched_off_says_so() -> None:
    frame = parse("RAM 1/2MB GR3D_FREQ 0%@[0,0] gpu@-256C cv0@-256C", 0)
    assert frame.missing["gpu_clock_mhz"] == "the GPU is gated"
    assert frame.missing["gpu_temp_c"] == frame.missing["temp_c.cv0"] == "the sensor is off (its power is gated)"


def test_what_is_not_understood_is_kept_as_it_was() -> None:
    frame = parse("RAM 1/2MB (lfb 1x4MB) FROB~17% cpu@40C wibble wobble VIC off", 0)
    assert list(frame.missing) == ["token FROB~17%", "token wibble wobble"]
    assert frame.values["cpu_temp_c"] == 40.0


def test_dates_are_seconds_and_wrong_ones_are_none() -> None:
    first, second = wall_ns("04-27-2026 14:59:41 RAM 1/2MB"), wall_ns("04-28-2026 00:00:01 RAM 1/2MB")
    assert first is not None
    assert second is not None
    assert second - first == (9 * 3600 + 20) * 1_000_000_000
    assert wall_ns("RAM 1/2MB") is None
    assert wall_ns("13-27-2026 14:59:41 RAM 1/2MB") is None
    assert wall_ns("04-27-2026 24:59:41 RAM 1/2MB") is None
    assert not looks_like("sudo: a password is required")


TOKENS = st.sampled_from(
    [token for path in LINES.values() for token in path.read_text(encoding="utf-8").split()]
    + [
        "GR3D_FREQ",
        "@[",
        "]",
        "99999999999999%@[1]",
        "VDD_IN",
        "-256C",
        "cpu@C",
        "CPU [",
        "1%@",
        "VDD_X 1mW/2mW/3mW/4mW",
    ]
)


@given(st.one_of(st.text(max_size=200), st.lists(TOKENS, max_size=30).map(" ".join)))
@example("00-00-0000 00:00:00 RAM 1/2MB")
@example("RAM ١/٢MB cpu@٣C VDD_IN ٤/٥")
@example("GR3D_FREQGR3D_FREQ 0%")
def test_no_line_is_ever_an_error(line: str) -> None:
    frame = parse(line, 0)
    assert not set(frame.values) & {name for name in frame.missing if not name.startswith("token ")}
    assert all(abs(value) < 1e18 for value in frame.values.values())
    wall_ns(line)
    looks_like(line)
