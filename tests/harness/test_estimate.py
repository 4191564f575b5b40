"""What a run will cost: at least if all decides at once, at most if nothing does and every engine is built."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.config import LoadRule, ModelConfig
from harness.estimate import Cost, cost_of
from harness.profiles import PROFILES
from harness.records import Case
from harness.statistics.stopping import MOST_ROWS

RATED = ModelConfig("rated", onnx=Path("a.onnx"), load=LoadRule(39.0, 333.0, burst=13))
FREE = ModelConfig("free", onnx=Path("b.onnx"))
BOTH = {"rated": RATED, "free": FREE}


def row(kind: str, model: str = "rated", runtime: str = "tensorrt", tier: int = 2) -> Case:
    return Case(f"{kind}-{model}-{runtime}", tier, kind, model, runtime, "fp16", "fp16", "flight")


def test_what_cannot_run_costs_nothing() -> None:
    cost = cost_of([replace(row("latency"), not_run="tensorrt: not installed")], PROFILES["quick"], BOTH)
    assert (cost.rows, cost.most_s, cost.disk_bytes) == (0, 0.0, 0)


KINDS = ("load", "latency", "flight", "memory", "takeoff", "heat", "harness")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, kind) for name in ("quick", "pr", "signoff") for kind in KINDS),
        ("floor", "latency"),
        ("floor", "flight"),
    ],
)
def test_no_row_takes_longer_at_least_than_at_most(name: str, kind: str) -> None:
    cost = cost_of([row(kind)], PROFILES[name], BOTH)
    assert 0.0 < cost.least_s < cost.most_s


@pytest.mark.covers("T2-03")
def test_a_night_that_teaches_floors_is_six_hours_a_row_at_least() -> None:
    night = cost_of([row("flight"), row("latency", "free")], PROFILES["floor"], BOTH)
    soaks_s = 180 + 11 * 60  # whole once, and a minute in each later launch
    assert 12 * 3600 + soaks_s <= night.least_s < 12 * 3600 + soaks_s + 60
    assert 12 * (3600 + 1800) < night.most_s < 12 * (3600 + 1800 + 200)


def test_an_engine_is_built_once_by_the_row_that_needs_it_first_and_again_in_a_cold_load() -> None:
    quick, signoff = PROFILES["quick"], PROFILES["signoff"]
    load, latency = row("load"), row("latency")
    alone = cost_of([latency], quick, BOTH).most_s
    assert cost_of([latency, latency], quick, BOTH).most_s == pytest.approx(2 * alone - 60.0)
    assert cost_of([load], quick, BOTH).most_s == 60.0 + 4 * 5.0
    assert cost_of([load], signoff, BOTH).most_s == 60.0 + 60.0 + 62 * 5.0
    assert cost_of([row("load", runtime="onnx_trt_ep")], quick, BOTH).most_s == 30.0 + 30.0 + 5 * 5.0
    assert cost_of([row("load", runtime="pytorch_fp16")], quick, BOTH).most_s == 4 * 5.0
    assert cost_of([row("build", tier=0)], quick, BOTH).most_s == 80.0


def test_a_look_for_leaks_is_of_profiles_that_decide() -> None:
    quick, pr = (cost_of([row("memory")], PROFILES[name], BOTH) for name in ("quick", "pr"))
    assert quick.most_s == 2 * 60.0 + 2 * 5.0 + 10.0
    assert pr.most_s == 2 * 60.0 + 2 * (5.0 + 20 * 5.0 + 2000 * 0.1) + 5 * 10.0
    assert pr.least_s > quick.least_s + 2 * 2.0


def test_heat_counts_the_soak_and_the_minutes_in_which_the_board_cools() -> None:
    pr = PROFILES["pr"]
    cost = cost_of([row("heat")], pr, BOTH)
    assert cost.least_s == pytest.approx(600 + 180 + 1)
    assert 600 + 1800 + 600 < cost.most_s < 600 + 1800 + 600 + 100


def test_a_row_of_few_requests_needs_its_first_look() -> None:
    slow = {"slow": replace(RATED, name="slow", load=LoadRule(0.9))}
    assert cost_of([row("latency", "slow")], PROFILES["pr"], slow).least_s == pytest.approx(300 / 0.9 + 180 + 1)
    assert cost_of([row("latency", "slow")], PROFILES["quick"], slow).least_s == pytest.approx(45 + 1)


def test_a_closed_loop_may_fill_the_disk_up_to_the_rows_that_a_launch_keeps() -> None:
    quick = cost_of([row("latency", "free")], PROFILES["quick"], BOTH)
    assert quick.requests == 5_000
    floor = cost_of([row("latency", "free")], PROFILES["floor"], BOTH)
    assert 6 * 3_600_000 < floor.requests <= 6 * (MOST_ROWS + 1_800_000)
    rated = cost_of([row("latency")], PROFILES["floor"], BOTH)
    assert rated.requests == 6 * 39 * (3600 + 1800)
    assert rated.to_text().endswith("at most 211 MB on disk")


def test_the_hours_of_a_simulated_board_are_minutes() -> None:
    real = cost_of([row("heat")], PROFILES["signoff"], BOTH)
    virtual = cost_of([replace(row("heat"), simulated="steady")], PROFILES["signoff"], BOTH)
    assert virtual.most_s < real.most_s / 40
    assert virtual.disk_bytes == real.disk_bytes


@pytest.mark.parametrize(
    ("least_s", "most_s", "says"),
    [
        (1.0, 20.0, "1 minute"),
        (1.0, 150.0, "1 to 2 minutes"),
        (600.0, 610.0, "10 minutes"),
        (1800.0, 7200.0, "0.5 to 2.0 hours"),
    ],
)
def test_a_span_is_told_once_where_both_ends_are_the_same(least_s: float, most_s: float, says: str) -> None:
    assert Cost(1, least_s, most_s, 0).to_text() == f"1 row, {says}, at most 1 MB on disk"
