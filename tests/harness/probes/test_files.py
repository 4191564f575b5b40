"""Assumptions about a Jetson's files: true of the made-up boards, and each one found out where it is not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.probes import Host, State
from harness.probes.files import PROBES
from runtime.platform import detect_host
from tests.harness import board_trees
from tests.harness.board_trees import GATED, Tree

BY_ID = {probe.id: probe for probe in PROBES}


def host_of(tree: Tree, run: Callable[..., Any] = subprocess.run) -> Host:
    return Host(tree.root, detect_host(tree.root), False, {}, run, "python3")


def ask(tree: Tree, name: str) -> Any:
    return BY_ID[name].test(host_of(tree))


@pytest.fixture(scope="module")
def nx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """One board for all: what a test changes it changes back."""
    with board_trees.orin_nx(tmp_path_factory.mktemp("nx")) as tree:
        yield tree


@pytest.mark.parametrize("board", ["orin_nx", "agx_orin", "thor"])
def test_nothing_is_wrong_with_a_board_as_it_is_described(tmp_path: Path, board: str) -> None:
    with getattr(board_trees, board)(tmp_path) as tree:
        found = {probe.id: probe.test(host_of(tree)) for probe in PROBES}
    assert {name for name, finding in found.items() if finding.state is State.WRONG} == set()
    unknown = {name for name, finding in found.items() if finding.state is State.UNKNOWN}
    assert unknown <= {"load-0-1000", "nvpmodel-ids", "nvpmodel-applied", "nvmap-clients", "emc-cap"}
    assert all(found[name].seen for name in found)


def test_a_host_that_is_no_jetson_gets_no_wrong_answers(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.write("proc/meminfo", "MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable: 5 kB")
    tree.write("proc/self/smaps_rollup", "Pss: 2048 kB")
    tree.write("proc/sys/kernel/random/boot_id", board_trees.BOOT_ID)
    found = {probe.id: probe.test(host_of(tree)).state for probe in PROBES}
    assert {name for name, state in found.items() if state is State.OK} == {
        "meminfo-available",
        "pss-readable",
        "boot-id",
    }
    assert State.WRONG not in found.values()


ZONE, COOLER, OC, GPU, INA = (
    "sys/class/thermal/thermal_zone{}", "sys/class/thermal/cooling_device{}", "sys/class/hwmon/hwmon3",
    "sys/class/devfreq/17000000.gpu", "sys/class/hwmon/hwmon1",
)  # fmt: skip

WRONG: dict[str, tuple[dict[str, str | int | bytes], str]] = {
    "jetpack-of-l4t": ({"etc/nv_tegra_release": "# R36 (release), REVISION: 9.9, GCID: 1"}, "L4T 36.9.9 is not in the table"),
    "module-compatible": ({"proc/device-tree/compatible": b"nvidia,p3768-0000+p3767-0000\0nvidia,orin\0"}, "no SoC"),
    "sysfs-zones-by-type": ({f"{ZONE.format(1)}/type": "GPU-therm"}, "no zone of type gpu-thermal"),
    "gated-zone-eagain": ({f"{ZONE.format(2)}/temp": -256_000}, "cv0-thermal says -256000"),
    "thermal-trips": ({f"{ZONE.format(0)}/trip_point_0_temp": 99}, "not in milli-degrees"),
    "throttle-alert-files": (
        {f"{COOLER.format(number)}/type": "fan" for number in range(8)}, "no *-throttle-alert among the cooling devices"),
    "frequency-cap-devices": ({f"{COOLER.format(12)}/type": "devfreq-nvdla"}, "no cpufreq-* or no devfreq-*gpu*"),
    "oc-counters": ({f"{OC}/oc1_event_cnt": "none"}, "no counters that can be read"),
    "devfreq-gpu": ({f"{GPU}/governor": ""}, "no governor"),
    "devfreq-units-hz": ({f"{GPU}/cur_freq": 306_000}, "not in Hz: cur_freq 306000"),
    "load-0-1000": ({f"{GPU}/device/load": 1001}, "goes from 1001 to 1001"),
    "ina-rails-total": ({f"{INA}/in1_label": "VDD_NEW"}, "not known to be part of it: VDD_CPU_GPU_CV, VDD_NEW"),
    "nvpmodel-status": ({"var/lib/nvpmodel/status": "pmode:0009"}, "mode 9 has no name"),
    "nvpmodel-applied": ({f"{GPU}/max_freq": 918_000_000}, "goes to 1173 MHz, and max_freq is 918 MHz"),
    "emc-cap": ({"sys/kernel/nvpmodel_clk_cap/emc": 3199}, "3199 is no clock of a memory in Hz"),
    "cpufreq-khz": ({"sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": 1_984_000_000}, "not in kHz"),
    "meminfo-available": ({"proc/meminfo": "MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable: 10 kB"}, "10 kB of MemTotal 9 kB"),
    "meminfo-nvmap": ({"proc/meminfo": "MemTotal: 9 kB"}, "has no NvMapMemUsed"),
    "pss-readable": ({"proc/self/smaps_rollup": "Rss: 1 kB"}, "no line Pss"),
    "buddyinfo-orders": ({"proc/buddyinfo": "Node 0, zone Normal"}, "not one row of counts"),
    "boot-id": ({"proc/sys/kernel/random/boot_id": "?"}, "'?' is no boot id"),
    "nvmap-clients": ({"sys/kernel/debug/nvmap/iovmm/clients": "CLIENT PROCESS PID SIZE\npython3 user 12 5K"}, "1 of 1 lines"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_an_assumption_that_does_not_hold_is_wrong_and_says_what_was_seen(nx: Tree, name: str) -> None:
    files, says = WRONG[name]
    with nx.changed(files):
        finding = ask(nx, name)
    assert finding.state is State.WRONG, finding
    assert says in finding.seen


def test_every_assumption_that_can_be_wrong_on_a_board_is_shown_to_be() -> None:
    assert set(BY_ID) - set(WRONG) == {"nvpmodel-ids", "fan-files"}  # the first asks a program; a board may have no fan


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("NV Power Mode: MAXN_SUPER\n0\n", State.OK),
        ("NV Power Mode: 15W\n2\n", State.WRONG),
        ("NV Fan Mode:quiet\n", State.UNKNOWN),
    ],
)
def test_nvpmodel_itself_is_asked_on_the_board(nx: Tree, said: str, state: State) -> None:
    host = replace(host_of(nx, lambda *_args, **_kwargs: SimpleNamespace(stdout=said, stderr="")), is_here=True)
    assert BY_ID["nvpmodel-ids"].test(host).state is state

    def absent(*_args: Any, **_kwargs: Any) -> Any:
        raise FileNotFoundError(2, "No such file", "nvpmodel")

    assert BY_ID["nvpmodel-ids"].test(replace(host, run=absent)).state is State.UNKNOWN


def test_a_gated_sensor_that_answers_another_error_is_found_out(nx: Tree) -> None:
    with nx.changed({f"{ZONE.format(2)}/temp": ""}):
        nx.remove(f"{ZONE.format(2)}/temp")
        (nx.root / ZONE.format(2) / "temp").mkdir()
        seen = ask(nx, "gated-zone-eagain").seen
        (nx.root / ZONE.format(2) / "temp").rmdir()
    assert "cv0-thermal answers EISDIR" in seen


def test_a_load_over_a_hundred_shows_its_unit(nx: Tree) -> None:
    with nx.changed({f"{GPU}/device/load": 734}):
        assert ask(nx, "load-0-1000").facts == {"unit": "per mille"}


def test_a_rail_that_is_gated_is_left_out_of_a_sum(tmp_path: Path) -> None:
    with board_trees.agx_orin(tmp_path) as tree:
        tree.write("sys/class/hwmon/hwmon2/curr2_input", GATED)
        assert "VDDQ_VDD2_1V8AO" not in ask(tree, "ina-rails-total").facts["rails"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(WRONG)), st.binary(max_size=40))
def test_files_that_hold_anything_never_break_a_probe(nx: Tree, name: str, data: bytes) -> None:
    for file in WRONG[name][0]:
        with nx.changed({file: data}):
            assert ask(nx, name).seen
