"""All assumptions together: in time, one by one, in a file, and what leans on a wrong one (architecture, decision 13)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import probe as probing
from harness.errors import UsageError
from harness.fakes.device import SimulatedDevice
from harness.fakes.thermal_model import ORIN_NX, ThermalModel
from harness.probe import (
    Assumptions,
    checks_for,
    figures_in_doubt,
    load_assumptions,
    probe,
    reproduces,
    wrong_for,
)
from harness.probes import Host, Probe, State, files, libraries, ok
from harness.records import ABOUT_A_FLIGHT, Case, Outcome
from runtime import LABELS
from runtime.platform import HostTuple
from tests.harness import board_trees
from tests.harness.board_trees import Tree


@pytest.fixture(scope="module")
def nx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """One board for all: what a test changes it changes back."""
    with board_trees.orin_nx(tmp_path_factory.mktemp("nx")) as tree:
        yield tree


@pytest.fixture(scope="module")
def assumed(nx: Tree) -> Assumptions:
    return probe(nx.root, environ={})


def case(kind: str, runtime: str = "tensorrt") -> Case:
    return Case("t2", 2, kind, "lightglue", runtime, "fp16", "fp16", "small")


def spoiled(assumed: Assumptions, *names: str) -> Assumptions:
    rows = tuple(replace(row, state=State.WRONG, seen="other") if row.id in names else row for row in assumed.rows)
    return replace(assumed, rows=rows)


# --- asking -----------------------------------------------------------------------------------------------------------


def test_a_board_is_asked_everything_and_says_who_it_is(nx: Tree, assumed: Assumptions) -> None:
    said: list[str] = []
    again = probe(nx.root, environ={}, say=said.append)
    assert len(said) >= len(again.rows) == len({row.id for row in again.rows}) >= 40
    assert assumed.host == {
        "model": "NVIDIA Jetson Orin NX Engineering Reference Developer Kit", "module": "p3767-0000", "sm": "87",
        "jetpack": "6.2", "l4t": "36.4.3", "tensorrt": "10.3.0.30",
    }  # fmt: skip
    assert assumed.of_state(State.WRONG) == ()
    assert {"sysfs-zones-by-type", "gated-zone-eagain", "ina-rails-total"} <= set(assumed.of_state(State.OK))
    assert all(row.text.endswith(".") and row.source and row.how and row.seen for row in assumed.rows)


def test_libraries_are_tried_in_children_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_IN_PROCESS", ())
    tried: list[tuple[str, float]] = []

    def run(command: list[str], *, timeout: float, **_options: Any) -> Any:
        tried.append((command[3], timeout))
        told = {"id": "plan-header", "state": "WRONG", "seen": "another tag"}
        return SimpleNamespace(stdout=json.dumps(told) if command[3] == "tensorrt" else "", stderr="", returncode=0)

    found = probe(environ={}, run=run)
    assert [name for name, _ in tried] == list(libraries.PROBES)
    assert found.of_state(State.WRONG) == ("plan-header",)
    assert sum(limit for _, limit in tried) <= 150
    assert "latency" in found.to_text()
    assert found.to_text().splitlines()[1].startswith("WRONG   plan-header")


def test_a_probe_that_fails_or_hangs_leaves_the_others_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_host: Any) -> Any:
        raise ZeroDivisionError("by design")

    def hangs(_host: Any) -> Any:
        time.sleep(30)

    entries = [Probe(name, "It is.", "nobody", "asked", test, limit_s=0.05) for name, test in
               {"fails": fails, "hangs": hangs, "works": lambda _host: ok("yes")}.items()]  # fmt: skip
    monkeypatch.setattr(probing, "_IN_PROCESS", tuple(entries))
    found = probe(tmp_path, environ={})
    assert "ZeroDivisionError: by design" in found["fails"].seen
    assert "no answer within" in found["hangs"].seen
    assert found["works"].state is State.OK


def test_what_there_is_no_time_for_is_unknown(tmp_path: Path) -> None:
    ticks = iter(range(0, 10_000, 15))
    found = probe(tmp_path, environ={}, budget_s=60, now=lambda: float(next(ticks)))
    late = [row.id for row in found.rows if "60 s were over" in row.seen]
    assert 0 < len(late) < len(found.rows)
    assert "plan-header" in late


def test_a_wrong_answer_is_not_covered_by_an_unknown_one(nx: Tree) -> None:
    with nx.changed({"sys/class/devfreq/17000000.gpu/device/load": 1001}):
        assert probe(nx.root, environ={})["load-0-1000"].state is State.WRONG


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_file_brings_back_what_was_written(assumed: Assumptions, tmp_path: Path) -> None:
    path = assumed.write(tmp_path)
    assert path == tmp_path / "assumptions.json"
    assert load_assumptions(path) == load_assumptions(tmp_path)
    back = load_assumptions(path)
    assert (back.host, back.probed_at, back.to_text()) == (assumed.host, assumed.probed_at, assumed.to_text())
    assert reproduces(back, SimulatedDevice()) == reproduces(assumed, SimulatedDevice())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no platform assumptions"),
        ('{"assumptions": 1}', "holds no platform assumptions"),
        ('{"schema": 9, "assumptions": []}', "has schema 9; this trigate reads 1"),
        ('{"schema": 1, "assumptions": []}', "is damaged: KeyError: 'host'"),
        ('{"schema": 1, "host": {}, "probed_at": "", "assumptions": [{"id": "x"}]}', "is damaged: KeyError: 'text'"),
        ('{"schema": 1, "host": 3, "probed_at": "", "assumptions": []}', "is damaged: TypeError"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_with_what_makes_one(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="trigate doctor --probe --out FILE") as refusal:
        load_assumptions(tmp_path / "a.json")
    assert says in str(refusal.value)


@settings(max_examples=40, deadline=None)
@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["schema", "host", "assumptions", "probed_at", "id", "state", "facts"]), inner), max_leaves=12))  # fmt: skip
def test_json_of_any_form_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(UsageError):
        load_assumptions(path)


def test_a_file_that_is_missing_or_cannot_be_written_is_told(assumed: Assumptions, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_assumptions(tmp_path / "none.json")
    with pytest.raises(UsageError, match="cannot be written"):
        assumed.write(tmp_path / "no" / "where.json")


# --- what leans on what -----------------------------------------------------------------------------------------------


@pytest.mark.covers("T2-03")
def test_a_row_that_leans_on_a_wrong_assumption_is_inconclusive_and_names_it(assumed: Assumptions) -> None:
    wrong = spoiled(assumed, "throttle-alert-files", "plan-header", "ina-rails-total")
    assert wrong_for("latency", "tensorrt", wrong) == ["throttle-alert-files", "plan-header"]
    assert wrong_for("latency", "onnx_trt_ep", wrong) == ["throttle-alert-files"]
    assert wrong_for("artifact", "tensorrt", wrong) == []
    checks = checks_for(case("heat"), wrong)
    assert [check.outcome for check in checks] == [Outcome.INCONCLUSIVE] * 2
    assert "throttle-alert-files is WRONG on this machine: Throttling shows" in checks[0].reason
    assert figures_in_doubt(wrong)["mean_power"] == "ina-rails-total"


def test_nothing_leans_on_what_is_right_or_was_never_asked(assumed: Assumptions) -> None:
    assert checks_for(case("latency"), assumed) == checks_for(case("latency"), None) == ()
    assert figures_in_doubt(None) == {}
    elsewhere = replace(assumed, rows=(replace(assumed.rows[0], id="of-a-later-release", state=State.WRONG),))
    assert checks_for(case("latency"), elsewhere) == ()
    assert figures_in_doubt(elsewhere) == {}


def test_rows_and_runtimes_that_are_named_exist() -> None:
    entries = [*files.PROBES, *(entry for group in libraries.PROBES.values() for entry in group)]
    known = {"latency", "load", "parity", "pair", "semantic", "artifact", *ABOUT_A_FLIGHT}
    for entry in entries:
        assert set(entry.kinds) <= known, entry.id
        assert set(entry.runtimes) <= set(LABELS), entry.id


# --- what the fakes must reproduce ------------------------------------------------------------------------------------


def test_a_made_up_orin_reproduces_the_orin_that_was_asked(assumed: Assumptions, nx: Tree) -> None:
    assert reproduces(assumed, nx.root) == []


def test_another_board_and_a_changed_one_are_told_apart(assumed: Assumptions, nx: Tree, tmp_path: Path) -> None:
    with board_trees.agx_orin(tmp_path) as agx:
        differences = reproduces(assumed, agx.root)
    assert any(
        line.startswith("ina-rails-total: rails is VDD_CPU_GPU_CV, VDD_IN, VDD_SOC on the board")
        for line in differences
    )
    assert any("nvpmodel-status: modes is 0 MAXN_SUPER" in line for line in differences)
    with nx.changed({"sys/class/thermal/thermal_zone8/type": "Tj", "sys/class/devfreq/17000000.gpu/cur_freq": 306_000}):
        changed = reproduces(assumed, nx.root)
    assert any(line.startswith("sysfs-zones-by-type: zones") for line in changed)
    assert any("devfreq-units-hz: OK on the board, and WRONG in the fake" in line for line in changed)


def test_a_simulated_device_is_held_against_the_board(assumed: Assumptions) -> None:
    clocks_mhz = (306, 408, 510, 612, 1173)
    alike = SimulatedDevice(sm="87", thermal=ThermalModel(replace(ORIN_NX, clocks_mhz=clocks_mhz)))
    assert reproduces(assumed, alike) == []
    other = SimulatedDevice(sm="110", thermal=ThermalModel(replace(ORIN_NX, passive_c=95.0, critical_c=110.0)))
    assert [line.partition(" is ")[0] for line in reproduces(assumed, other)] == [
        "sm", "thermal-trips: passive_c", "thermal-trips: critical_c", "devfreq-gpu: clocks_mhz",
    ]  # fmt: skip


def test_a_real_child_is_asked_on_this_machine_and_answers() -> None:
    here = Host(Path("/"), HostTuple("none", "none", "none"), True, {}, subprocess.run, sys.executable)
    found = libraries.asked("jtop", here, 60)
    assert "jtop-units" in found or "jtop" in found[""].seen


def test_assumptions_of_another_machine_are_refused_with_the_difference(tmp_path: Path) -> None:
    found = Assumptions({"module": "p3767-0000", "sm": "87", "l4t": "36.4.3", "tensorrt": "10.3.0"}, "now", ())
    path = found.write(tmp_path / "assumptions.json")
    same = HostTuple("87", "6.2", "10.3.0", "36.4.3", "p3767-0000")
    assert load_assumptions(path, of=same) == found
    with pytest.raises(
        UsageError, match=r"another machine or under other versions: tensorrt 10\.3\.0 there, 10\.16\.1 here"
    ):
        load_assumptions(path, of=replace(same, trt="10.16.1"))
