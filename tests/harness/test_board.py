"""The board's state, read off made-up Jetsons, and held against what was declared (T2-04, T2-03)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.board import SystemFiles, check_state, describe_difference, modes_of, parse_nvpmodel, read_board
from harness.config import BoardConfig
from harness.fakes.device import SimulatedDevice
from harness.fakes.install import installed
from harness.instruments.trace import Frame
from harness.records import BoardState, Outcome, from_json, to_json
from runtime.thermal_sources.jtop import load_jtop
from runtime.thermal_sources.nvml import load_nvml
from tests.harness import board_trees
from tests.harness.board_trees import BOOT_ID, GATED, Tree

DECLARED = BoardConfig("orin-nx", module="p3767-0000", power_mode="MAXN_SUPER")


@pytest.fixture
def nx(tmp_path: Path) -> Iterator[Tree]:
    with board_trees.orin_nx(tmp_path) as tree:
        yield tree


@pytest.fixture(scope="module")
def resting(tmp_path_factory: pytest.TempPathFactory) -> BoardState:
    """The state of an Orin NX at rest."""
    with board_trees.orin_nx(tmp_path_factory.mktemp("nx")) as tree:
        return read_board(tree.root)


def found(*checks: Any) -> str:
    """The reasons in one text; each check must be inconclusive."""
    assert all(check.outcome is Outcome.INCONCLUSIVE for check in checks)
    return " ".join(f"{check.name}: {check.reason}" for check in checks)


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.covers("T2-04")
def test_an_orin_nx_is_read_with_its_mode_its_caps_and_its_heat(nx: Tree) -> None:
    state = read_board(nx.root)
    assert state.module == "p3767-0000 NVIDIA Jetson Orin NX Engineering Reference Developer Kit"
    assert (state.power_mode, state.power_mode_id) == ("MAXN_SUPER", 0)
    assert state.caps == {
        "gpu_mhz": 1173.0, "emc_mhz": 3199.0, "cpu_mhz": 1984.0, "online_cpus": 8.0, "mode_gpu_mhz": 1173.0,
        "mode_online_cpus": 8.0, "passive_c": 99.0,
    }  # fmt: skip
    assert (state.is_pinned, state.governor, state.clock_mhz) == (False, "nvhost_podgov", 306.0)
    assert (state.fan_rpm, state.fan_pwm) == (1636.0, 76.0)
    assert (state.cpu_temp_c, state.gpu_temp_c, state.temperatures_c["tj-thermal"]) == (48.468, 48.562, 49.156)
    assert "cv0-thermal" not in state.temperatures_c
    assert any("cv0-thermal (Resource temporarily unavailable)" in note for note in state.notes)
    assert (state.throttled, state.oc_events, state.gpu_load_percent) == (False, 12, 0.0)
    assert (state.available_bytes, state.uptime_s, state.load_1min) == (13_980_064 * 1024, 5140.22, 0.21)
    assert (state.boot_id, state.gpu_processes) == (BOOT_ID, ())
    assert modes_of(state) == {0: "MAXN_SUPER", 1: "10W", 2: "15W", 3: "25W", 4: "40W"}
    assert from_json(BoardState, json.loads(json.dumps(to_json(state)))) == state


@pytest.mark.covers("T2-04")
def test_an_agx_and_a_thor_are_read_by_the_same_code(tmp_path: Path) -> None:
    with board_trees.agx_orin(tmp_path / "agx") as agx, board_trees.thor(tmp_path / "thor") as thor:
        orin, other = read_board(agx.root), read_board(thor.root)
    assert (orin.power_mode, orin.caps["gpu_mhz"], orin.gpu_temp_c) == ("MAXN", 1300.5, None)
    assert "mode_gpu_mhz" not in orin.caps  # -1: the silicon's own
    assert (other.module or "").startswith("p3834-0008")
    assert (other.caps["gpu_mhz"], other.caps["online_cpus"], other.gpu_temp_c) == (1575.0, 14.0, None)
    assert "passive_c" not in other.caps
    assert any("gpu-thermal" in note for note in other.notes)


@pytest.mark.covers("T2-04")
def test_a_host_that_is_no_jetson_says_what_is_missing_and_gets_no_check(tmp_path: Path) -> None:
    state = read_board(tmp_path)
    assert state == BoardState(source="files of the kernel", notes=state.notes)
    assert len(state.notes) >= 8
    assert check_state(None, state, state) == ()
    here = read_board()
    assert here.boot_id
    assert here.available_bytes
    assert here.load_1min is not None


@pytest.mark.covers("T2-03")
def test_of_a_workstation_of_which_nothing_is_declared_only_a_broken_run_is_told() -> None:
    state = BoardState(
        gpu_processes=("9 python3",), gpu_temp_c=95.0, caps={"passive_c": 99.0}, boot_id="a", uptime_s=10.0
    )
    assert check_state(None, state, state) == ()
    assert len(check_state(BoardConfig("bench"), state, state)) == 2
    later = replace(state, uptime_s=100.0)
    assert "slept for about 60 s" in found(*check_state(None, state, later, elapsed_ns=30_000_000_000))
    assert check_state(None, state, later, elapsed_ns=90_000_000_000) == ()


def test_what_the_files_do_not_tell_comes_from_the_instruments(tmp_path: Path) -> None:
    values = {
        "gpu_temp_c": 61.0,
        "gpu_clock_mhz": 1980.0,
        "fan_rpm": math.nan,
        "available_bytes": 5.0,
        "gpu_cap_mhz": 1980.0,
    }
    state = read_board(tmp_path, frame=Frame(0, values, alerts=("sw-thermal-slowdown",)))
    assert (state.gpu_temp_c, state.clock_mhz, state.fan_rpm, state.available_bytes) == (61.0, 1980.0, None, 5)
    assert (state.caps["gpu_mhz"], state.throttled) == (1980.0, True)
    assert "instruments" in state.source


def test_a_discrete_gpu_is_read_by_nvml(tmp_path: Path) -> None:
    device = SimulatedDevice(sm="89", is_integrated=False)
    with installed(device, cuda=False, nvml=True):
        state = read_board(tmp_path, nvml=load_nvml)
    assert (state.gpu_temp_c, state.clock_mhz) == (36.0, 918.0)
    assert state.caps == {"gpu_mhz": 918.0, "passive_c": 99.0, "power_w": 25.0}
    assert (state.gpu_processes, state.source) == ((), "files of the kernel, NVML")


def test_an_orin_whose_nvml_supports_nothing_keeps_what_its_files_say(nx: Tree) -> None:
    with installed(SimulatedDevice(sm="87"), cuda=False, nvml=True):
        state = read_board(nx.root, nvml=load_nvml)
    assert (state.clock_mhz, state.gpu_processes) == (306.0, ())
    assert any(note.startswith("nvmlDeviceGetComputeRunningProcesses") for note in state.notes)


class Jtop:
    """jetson-stats' client on an Orin NX: ``mode`` is nvpmodel's, clocks are in kHz."""

    def __init__(self, mode: tuple[int, str] | None = (0, "MAXN_SUPER"), max_khz: int = 1_173_000) -> None:
        self.nvpmodel = None if mode is None else SimpleNamespace(id=mode[0], name=mode[1])
        self.jetson_clocks = False
        self.gpu = {"gpu": {"freq": {"governor": "nvhost_podgov", "max": max_khz}}}
        self.temperature = {"gpu": {"temp": 50.0, "online": True}, "cv0": {"temp": -256, "online": False}}

    def __call__(self, interval: float) -> Jtop:
        return self

    def __enter__(self) -> Jtop:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def ok(self) -> bool:
        return True

    def close(self) -> None:
        return


@pytest.mark.covers("T2-04")
def test_jtop_is_held_against_the_files(nx: Tree) -> None:
    state = read_board(nx.root, jtop=Jtop)
    assert "jtop" in state.source
    assert check_state(DECLARED, state, state) == ()
    other = read_board(nx.root, jtop=lambda: Jtop((2, "15W"), 612_000))
    text = found(*check_state(DECLARED, other, other))
    assert "power_mode is 15W for jtop, and MAXN_SUPER by the files" in text
    assert "gpu_mhz is 612 for jtop, and 1173 by the files" in text
    assert "`sudo systemctl restart jtop`" in text


def test_jtop_knows_the_mode_where_a_container_hides_it(nx: Tree) -> None:
    nx.remove("var/lib/nvpmodel/status")
    nx.remove("etc/nvpmodel.conf")
    assert check_state(DECLARED, *[read_board(nx.root)] * 2) != ()
    state = read_board(nx.root, jtop=Jtop)
    assert (state.power_mode, state.power_mode_id) == ("MAXN_SUPER", 0)
    assert check_state(DECLARED, state, state) == ()


def test_a_jtop_without_its_service_is_a_note(nx: Tree) -> None:
    with installed(SimulatedDevice(sm="89", is_integrated=False), cuda=False, jtop=True):
        state = read_board(nx.root, jtop=load_jtop)
    assert any(note.startswith("jtop: The jtop.service is not active") for note in state.notes)
    assert state.power_mode == "MAXN_SUPER"


class Nvml:
    """An NVML that knows processes, and nothing else."""

    def __init__(self, *pids: int) -> None:
        self.pids = pids

    def nvmlInit(self) -> None:
        return

    nvmlShutdown = nvmlInit

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetComputeRunningProcesses(self, device: int) -> list[Any]:
        return [type("Process", (), {"pid": pid}) for pid in self.pids]


def test_nvml_names_processes_and_ours_are_none_of_them(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.process(700, "vllm")
    state = read_board(tmp_path, own_pids=[800], nvml=lambda: Nvml(800, 700))
    assert state.gpu_processes == ("700 vllm",)


def test_process_ids_of_another_namespace_are_not_called_strangers(tmp_path: Path) -> None:
    state = read_board(tmp_path, own_pids=[800], nvml=lambda: Nvml(41_234))
    assert state.gpu_processes is None
    assert any("PID namespace" in note for note in state.notes)


def test_a_process_that_holds_the_gpu_is_found_and_ours_is_not(nx: Tree) -> None:
    nx.process(700, "python3", "/dev/nvhost-gpu", "socket:[12]")
    nx.process(701, "trigate", "/dev/nvgpu/igpu0/ctrl")
    nx.process(702, "bash", "/dev/pts/0")
    assert read_board(nx.root, own_pids=[701]).gpu_processes == ("700 python3",)


def test_what_another_user_holds_is_unknown_and_not_nothing(nx: Tree) -> None:
    nx.process(700, "gnome-shell", "/dev/nvhost-gpu", is_hidden=True)
    state = read_board(nx.root)
    (nx.root / "proc/700/fd").chmod(0o700)
    if os.geteuid() == 0:
        assert state.gpu_processes == ("700 gnome-shell",)
    else:
        assert state.gpu_processes is None
        assert any("root alone" in note for note in state.notes)


def test_root_reads_nvmaps_own_list(nx: Tree) -> None:
    lines = ["CLIENT                        PROCESS      PID        SIZE",
             "user                          nvargus-daemon     1026      71940K",
             "user                          my app     1234      5K",
             "total                                                  71945K"]  # fmt: skip
    nx.write("sys/kernel/debug/nvmap/iovmm/clients", "\n".join(lines))
    assert read_board(nx.root, own_pids=[1234]).gpu_processes == ("1026 nvargus-daemon",)


def test_a_sum_of_counters_is_unknown_without_one_of_them(nx: Tree) -> None:
    folder = nx.of_type("sys/class/hwmon", "soctherm_oc", "name")
    nx.write(f"{folder}/oc2_event_cnt", GATED)
    assert read_board(nx.root).oc_events is None


@pytest.mark.covers("T2-04")
def test_emc_without_a_cap_has_none(nx: Tree) -> None:
    nx.write("sys/kernel/nvpmodel_clk_cap/emc", 0)
    assert "emc_mhz" not in read_board(nx.root).caps


NAMES = (
    "var/lib/nvpmodel/status", "etc/nvpmodel.conf", "proc/uptime", "proc/loadavg", "proc/meminfo",
    "proc/device-tree/compatible", "proc/device-tree/model", "sys/devices/system/cpu/online",
    "sys/class/devfreq/17000000.gpu/max_freq", "sys/class/devfreq/17000000.gpu/device/load",
    "sys/class/thermal/thermal_zone0/temp", "sys/class/thermal/thermal_zone0/trip_point_0_temp",
    "sys/class/thermal/thermal_zone1/type", "sys/class/thermal/cooling_device1/cur_state",
    "sys/class/hwmon/hwmon3/oc1_event_cnt", "sys/class/hwmon/hwmon4/pwm1", "sys/kernel/nvpmodel_clk_cap/emc",
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(NAMES), st.binary(max_size=60) | st.sampled_from([GATED, "", "-1", "9" * 30])))
def test_files_that_hold_anything_never_break_the_reading(nx: Tree, files: dict[str, Any]) -> None:
    kept = {name: (nx.root / name).read_bytes() for name in files}
    try:
        for name, text in files.items():
            nx.write(name, text)
        state = read_board(nx.root)
        check_state(DECLARED, state, state, elapsed_ns=0)
        assert all(math.isfinite(value) and value > 0 for value in state.caps.values())
        assert all(-55 <= value <= 150 for value in state.temperatures_c.values())
    finally:
        for name, text in kept.items():
            nx.write(name, text)


@given(st.text(max_size=300))
def test_an_nvpmodel_conf_of_any_form_is_read(text: str) -> None:
    for mode in parse_nvpmodel(f"< POWER_MODEL ID=3 NAME=7W >\n{text}").values():
        assert mode.gpu_mhz is None or mode.gpu_mhz > 0


def test_an_nvpmodel_conf_has_names_and_limits_by_id() -> None:
    modes = parse_nvpmodel(
        "# < POWER_MODEL ID=id NAME=x >\n< POWER_MODEL ID=2 NAME=MODE_30W >\nCPU_ONLINE CORE_0 1\nCPU_ONLINE CORE_1 0\n"
        "GPU MAX_FREQ 612000000\nEMC MAX_FREQ 2133000000\n< POWER_MODEL ID=0 NAME=MAXN >\nGPU MAX_FREQ -1\nEMC MAX_FREQ 0\n"
    )
    assert (modes[2].name, modes[2].gpu_mhz, modes[2].emc_mhz, modes[2].online_cpus) == ("MODE_30W", 612.0, 2133.0, 1)
    assert (modes[0].name, modes[0].gpu_mhz, modes[0].emc_mhz, modes[0].online_cpus) == ("MAXN", None, None, None)


def test_a_file_in_a_folder_that_is_none_has_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    files = SystemFiles(tmp_path)
    assert (files.text("a"), files.number("b/c"), files.text("x\0y")) == (None, None, None)
    assert len(files.notes) == 3
    assert files.notes[1] == "/b/c: No such file or directory"


# --- checks ----------------------------------------------------------------------------------------------------------


@pytest.mark.covers("T2-04", "T2-03")
def test_a_board_in_its_declared_state_has_no_check(resting: BoardState) -> None:
    state = resting
    assert check_state(DECLARED, state, state, before=state, elapsed_ns=0) == ()
    assert check_state(None, state, state) == ()


def change(name: str, text: str | int) -> Callable[[Tree], None]:
    return lambda tree: tree.write(name, text)


@pytest.mark.covers("T2-04", "T2-03")
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (change("var/lib/nvpmodel/status", "pmode:0002 fmode:quiet"),
         ["power mode is 15W (id 2)", "declares MAXN_SUPER", "`sudo nvpmodel -m 0`"]),
        (lambda tree: tree.remove("var/lib/nvpmodel/status"),
         ["power mode is unknown, and MAXN_SUPER is declared", "/var/lib/nvpmodel/status: No such file", "sudo nvpmodel -q"]),
        (change("sys/class/devfreq/17000000.gpu/max_freq", 918_000_000),
         ["says gpu_mhz 1173 MHz, and the kernel says 918", "`sudo nvpmodel -m 0` sets it again"]),
        (change("sys/devices/system/cpu/online", "0-3"), ["online_cpus 8 processors, and the kernel says 4"]),
        (lambda tree: tree.process(700, "python3", "/dev/nvhost-gpu"),
         ["1 other process on the GPU", "700 python3", "`kill 700`"]),
        (lambda tree: tree.process(700, "Xorg", "/dev/nvhost-gpu"), ["`sudo systemctl isolate multi-user.target`"]),
        (lambda tree: tree.zone("gpu-thermal", 86_000),
         ["began at 86 °C, and under 84 °C was expected", "until GPU and CPU are under 50 °C"]),
        (lambda tree: tree.cooling("gpu-throttle-alert", 1), ["already throttled at 49 °C"]),
        (change("proc/device-tree/compatible", "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234"),
         ["this is p3767-0005", "declares module p3767-0000", "--board"]),
    ],
)  # fmt: skip
def test_a_start_in_another_state_is_named_with_what_mends_it(
    nx: Tree, spoil: Callable[[Tree], None], says: list[str]
) -> None:
    spoil(nx)
    state = read_board(nx.root)
    checks = check_state(DECLARED, state, state)
    text = found(*checks)
    assert len(checks) == 1, text
    for words in says:
        assert words in text


@pytest.mark.covers("T2-03", "T2-04")
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"boot_id": "another"}, "the board was booted in mid-run"),
        (
            {"power_mode": "15W", "power_mode_id": 2},
            "was MAXN_SUPER (id 0) and became 15W (id 2) in mid-run: `sudo nvpmodel -m 0`",
        ),
        ({"caps": {"gpu_mhz": 918.0}}, "the cap gpu_mhz was 1173 and became 918 in mid-run"),
        ({"gpu_processes": ("9 x",)}, "9 x. `kill 9`"),
        ({"is_pinned": True}, "left to its governor and then pinned in mid-run: `sudo jetson_clocks`"),
        ({"governor": "userspace"}, "governor was nvhost_podgov and became userspace"),
        ({"uptime_s": 5140.22 + 700}, "slept for about 100 s in mid-run"),
    ],
)
def test_a_state_that_changes_in_mid_run_is_named(resting: BoardState, changes: dict[str, Any], says: str) -> None:
    start = resting
    end = replace(start, **({"uptime_s": 5140.22 + 600} | changes))
    checks = check_state(DECLARED, start, end, elapsed_ns=600_000_000_000)
    assert len(checks) == 1
    assert says in found(*checks)


def test_caps_that_heat_takes_away_are_no_change_of_state(resting: BoardState) -> None:
    start = resting
    end = replace(start, throttled=True, caps={**start.caps, "gpu_mhz": 918.0, "cpu_mhz": 1190.0}, is_pinned=True)
    assert check_state(DECLARED, start, end) == ()
    assert "emc_mhz" in found(*check_state(DECLARED, start, replace(end, caps={**end.caps, "emc_mhz": 2133.0})))


def test_a_profile_that_needs_pinned_clocks_says_jetson_clocks(nx: Tree) -> None:
    state = read_board(nx.root)
    assert "`sudo jetson_clocks`" in found(*check_state(DECLARED, state, state, needs_pinned=True))
    nx.write("sys/class/devfreq/17000000.gpu/min_freq", 1_173_000_000)
    pinned = read_board(nx.root)
    assert check_state(DECLARED, pinned, pinned, needs_pinned=True) == ()


def test_over_current_that_is_counted_before_the_row_is_named_and_of_another_boot_is_not(resting: BoardState) -> None:
    before = resting
    start = replace(before, oc_events=19)
    assert "12, then 19" in found(*check_state(DECLARED, start, start, before=before))
    assert check_state(DECLARED, start, start, before=replace(before, boot_id="earlier")) == ()
    assert check_state(DECLARED, start, start, before=replace(before, oc_events=None)) == ()


def test_a_busy_gpu_whose_processes_cannot_be_seen_is_somebody_elses(resting: BoardState) -> None:
    state = replace(resting, gpu_processes=None, gpu_load_percent=35.0)
    assert "35 % busy before the row began" in found(*check_state(DECLARED, state, state))
    quiet = replace(state, gpu_load_percent=3.0)
    assert check_state(DECLARED, quiet, quiet) == ()


def test_a_row_that_begins_hot_on_purpose_is_not_called_hot(nx: Tree) -> None:
    nx.zone("gpu-thermal", 90_000)
    state = read_board(nx.root)
    assert check_state(DECLARED, state, state, hot_start_c=math.inf) == ()
    assert "under 60 °C was expected" in found(*check_state(DECLARED, state, state, hot_start_c=60.0))


def test_our_own_processes_are_no_strangers(resting: BoardState) -> None:
    state = replace(resting, gpu_processes=("77 python3",))
    assert check_state(DECLARED, state, state, own_pids=[77]) == ()


def test_a_mode_may_be_declared_without_nvidias_prefix(tmp_path: Path) -> None:
    with board_trees.agx_orin(tmp_path) as tree:
        tree.write("var/lib/nvpmodel/status", "pmode:0002")
        for core in ("max_freq", "min_freq"):
            tree.write(f"sys/class/devfreq/17000000.gpu/{core}", 624_750_000)
        tree.write("sys/devices/system/cpu/online", "0-7")
        state = read_board(tree.root)
    assert check_state(BoardConfig("agx", "p3701", "30W"), state, state) == ()
    assert "`sudo nvpmodel -m 3`" in found(*check_state(BoardConfig("agx", "p3701", "50W"), state, state))
    text = found(*check_state(BoardConfig("agx", "p3701", "90W"), state, state))
    assert "grep POWER_MODEL /etc/nvpmodel.conf; this board has MAXN, MODE_15W" in text.replace("`", "")


def test_a_mode_that_is_declared_for_a_host_without_any_is_unknown() -> None:
    state = BoardState(notes=("power mode: this host has none (no nvpmodel)",))
    assert "this host has none" in found(*check_state(DECLARED, state, state))


@pytest.mark.covers("T2-02")
def test_a_machine_that_nothing_shows_to_be_the_named_board_keeps_no_budget_of_it(resting: BoardState) -> None:
    declared = BoardConfig("orin-nx", module="p3767-0000")
    for workstation in (BoardState(), BoardState(module="Precision 7960")):
        (check,) = check_state(declared, workstation, workstation)
        assert (check.name, check.outcome) == ("board: module", Outcome.INCONCLUSIVE)
        assert "is board orin-nx, module p3767-0000. Run on that board; without --board" in check.reason
    hidden = replace(resting, module=None)  # a container on a Jetson, which has a power mode
    assert "module" not in {check.name for check in check_state(declared, hidden, hidden)}
    assert check_state(replace(declared, module="Precision"), workstation, workstation) == ()


# --- two boards ------------------------------------------------------------------------------------------------------


def test_a_board_does_not_differ_from_itself_and_two_boards_do(tmp_path: Path) -> None:
    with board_trees.orin_nx(tmp_path / "nx") as nx, board_trees.agx_orin(tmp_path / "agx") as agx:
        one, other = read_board(nx.root), read_board(agx.root)
    assert describe_difference(one, one) == []
    text = "; ".join(describe_difference(one, other))
    assert "power mode: MAXN_SUPER and MAXN" in text
    assert "cap gpu_mhz: 1173 and 1300.5" in text
    assert "cap mode_gpu_mhz: 1173 and unknown" in text


def test_modes_of_one_name_and_other_caps_are_told_apart(resting: BoardState) -> None:
    one = resting
    other = replace(one, caps={**one.caps, "gpu_mhz": 918.0}, gpu_temp_c=70.0, is_pinned=None, gpu_processes=("1 x",))
    assert describe_difference(one, other) == [
        "clocks pinned: no and unknown",
        "cap gpu_mhz: 1173 and 918",
        "GPU temperature: 49 °C and 70 °C",
        "other processes on the GPU: none and 1 x",
    ]
