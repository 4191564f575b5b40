"""Memory by every source: made-up /proc trees of boards and hosts, maxima against budgets, and slopes that are leaks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config import BoardConfig
from harness.records import Case, Figure, Measurement, Outcome, Verdict
from harness.tier2.memory import (
    GpuMemory,
    HighWater,
    Marks,
    MemoryMeter,
    find,
    footprint,
    high_water,
    judge_memory,
    leak,
    nvml_memory,
    poll,
    supported_share,
)

MIB, GIB = 1 << 20, 1 << 30
BUDDY = """\
Node 0, zone      DMA      1      0      0      0      2      1      1      0      1      1      3
Node 0, zone   Normal    216     55    189    101     84     38     20      1      0      2      5
"""
CASE = Case("memory", 2, "memory", "memory", "tensorrt", "fp16", "fp16", "flight")
BOARD = BoardConfig("orin", gpu_memory_bytes=4 * GIB, host_memory_bytes=3 * GIB // 2)


def tree(
    root: Path, *, pss_kb: int | None = 300_000, available_kb: int = 4_000_000, nvmap_kb: int | None = None
) -> Path:
    """A /proc with process 7 in it."""
    own = root / "proc/7"
    own.mkdir(parents=True, exist_ok=True)
    (own / "status").write_text("Name:\tpython\nVmHWM:\t  510000 kB\nVmRSS:\t  400000 kB\nThreads:\t4\n")
    if pss_kb is not None:
        (own / "smaps_rollup").write_text(f"5500-7ff [rollup]\nRss:  400000 kB\nPss:  {pss_kb} kB\nPss_Anon:  9 kB\n")
    nvmap = "" if nvmap_kb is None else f"NvMapMemUsed:    {nvmap_kb} kB\n"
    (root / "proc/meminfo").write_text(
        f"MemTotal: 7800000 kB\nMemFree:   900000 kB\nMemAvailable:   {available_kb} kB\n"
        f"SwapTotal: 3900000 kB\nSwapFree: 3800000 kB\n{nvmap}HugePages_Total:       0\n"
    )
    (root / "proc/buddyinfo").write_text(BUDDY)
    return root


def values(marks: Marks) -> dict[str, float | None]:
    return {mark.name: mark.value for mark in marks}


@pytest.mark.covers("T2-01")
def test_an_orin_shows_every_source_side_by_side(tmp_path: Path) -> None:
    gpu = GpuMemory(900_000 * 1024, 7_800_000 * 1024, None, True, "cudaMemGetInfo", "")
    marks = MemoryMeter(tree(tmp_path, nvmap_kb=2_000_000), 7, lambda: gpu, lambda: 123).marks()
    assert values(marks) == {
        "process_bytes": 300_000 * 1024,
        "process_peak_bytes": 510_000 * 1024,
        "system_available_bytes": 4_000_000 * 1024,
        "system_free_bytes": 900_000 * 1024,
        "swap_used_bytes": 100_000 * 1024,
        "nvmap_bytes": 2_000_000 * 1024,
        "largest_block_bytes": 4 * MIB,
        "free_blocks_4mib": 8,
        "driver_free_bytes": 900_000 * 1024,
        "driver_total_bytes": 7_800_000 * 1024,
        "driver_process_bytes": None,
        "ledger_bytes": 123,
    }
    assert all(mark.source for mark in marks)
    assert find(marks, "driver_process_bytes").why == "the driver does not tell it"
    assert "one memory with the CPU" in find(marks, "driver_free_bytes").source


@pytest.mark.covers("T2-01")
def test_what_is_not_there_is_absent_with_a_reason_and_never_zero(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_bytes(b"\xff\xfe nonsense\nMemAvailable: many kB\n")
    marks = MemoryMeter(tmp_path, 7).marks()
    assert {mark.value for mark in marks} == {None}
    assert all(mark.why for mark in marks)
    assert "status cannot be read: No such file or directory" in find(marks, "process_peak_bytes").why
    assert find(marks, "nvmap_bytes").why == "meminfo has no line that can be read"


def test_without_pss_resident_pages_stand_in_and_say_so(tmp_path: Path) -> None:
    mark = find(MemoryMeter(tree(tmp_path, pss_kb=None), 7).marks(), "process_bytes")
    assert mark.value == 400_000 * 1024
    assert "RSS" in mark.source
    assert "smaps_rollup cannot be read" in mark.source
    light = find(MemoryMeter(tree(tmp_path), 7).marks(is_light=True), "process_bytes")
    assert light.value == 400_000 * 1024


def test_this_process_and_this_host_can_be_read() -> None:
    marks = MemoryMeter(gpu=lambda: nvml_memory(1)).marks()
    assert (find(marks, "process_bytes").value or 0) > 10 * MIB
    assert all((mark.value is None) == bool(mark.why) for mark in marks)


@pytest.mark.covers("T2-01", "T2-02")
def test_one_memory_for_cpu_and_gpu_is_counted_once(tmp_path: Path) -> None:
    before = MemoryMeter(tree(tmp_path / "a", nvmap_kb=100_000)).marks()
    now = MemoryMeter(tree(tmp_path / "b", nvmap_kb=2_100_000, available_kb=1_600_000), 7).marks()
    own = values(footprint(before, now))
    assert own["gpu_bytes"] == 2_000_000 * 1024
    assert own["host_bytes"] == 300_000 * 1024
    assert own["total_bytes"] == 2_300_000 * 1024
    assert own["system_taken_bytes"] == 2_400_000 * 1024


def test_a_card_with_its_own_memory_is_not_added_to_the_hosts(tmp_path: Path) -> None:
    tree(tmp_path)
    before = MemoryMeter(tmp_path, 7, lambda: GpuMemory(9 * GIB, 10 * GIB, source="NVML")).marks()
    told = MemoryMeter(tmp_path, 7, lambda: GpuMemory(6 * GIB, 10 * GIB, 2 * GIB, source="NVML"), lambda: GIB).marks()
    untold = MemoryMeter(tmp_path, 7, lambda: GpuMemory(6 * GIB, 10 * GIB, source="NVML"), lambda: GIB).marks()
    assert values(footprint(before, told))["gpu_bytes"] == 2 * GIB
    assert values(footprint(before, told))["total_bytes"] is None
    assert values(footprint(before, untold, card_is_ours=True))["gpu_bytes"] == 3 * GIB
    least = find(footprint(before, untold), "gpu_bytes")
    assert (least.value, "at least" in least.source) == (GIB, True)


@pytest.mark.covers("T2-01", "T2-02")
def test_a_thor_without_nvmap_and_nvml_tells_what_the_system_lost(tmp_path: Path) -> None:
    before = MemoryMeter(tree(tmp_path / "a")).marks()
    now = MemoryMeter(tree(tmp_path / "b", available_kb=2_000_000), 7).marks()
    gpu = find(footprint(before, now, is_unified=True), "gpu_bytes")
    assert gpu.value == (2_000_000 - 300_000) * 1024
    assert "approximate" in gpu.source
    assert values(footprint(before, now, on_gpu=False))["total_bytes"] == 300_000 * 1024


@pytest.mark.covers("T2-01")
@given(st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 9))), min_size=1, max_size=8))
def test_the_high_water_is_the_worst_of_each_source(looks: list[tuple[int, int | None]]) -> None:
    def of(name: str, value: int | None) -> Figure:
        return Figure(name, value, "bytes", "a source", why="" if value is not None else "silent")

    seen = high_water((of("process_bytes", a), of("system_available_bytes", b)) for a, b in looks)
    assert find(seen, "process_bytes").value == max(a for a, _ in looks)
    assert find(seen, "system_available_bytes").value == min((b for _, b in looks if b is not None), default=None)
    looked = f", worst of {len(looks)} looks" if len(looks) > 1 else "a source"
    assert looked in find(seen, "process_bytes").source


def test_a_poll_looks_at_both_ends_and_each_time_it_is_called(tmp_path: Path) -> None:
    calls: list[Callable[[], None]] = []

    @contextmanager
    def every(period_s: float, do: Callable[[], None]) -> Iterator[None]:
        assert period_s == 0.5
        calls.append(do)
        yield

    with poll(MemoryMeter(tree(tmp_path), 7), every, 0.5) as seen:
        tree(tmp_path, pss_kb=800_000)
        calls[0]()
        tree(tmp_path, pss_kb=1_000)
    assert isinstance(seen, HighWater)
    assert (seen.looks, find(seen.figures(), "process_bytes").value) == (3, 800_000 * 1024)


def series(slope: float, *, count: int = 60, noise: float = 3e5, seed: int = 0) -> Any:
    return 1e9 + slope * np.arange(count) + np.random.default_rng(seed).normal(0, noise, count)


@pytest.mark.covers("T2-01")
def test_a_leak_of_one_megabyte_per_hundred_calls_is_found_and_told_with_its_interval() -> None:
    figure, check = leak(series(1e6), unit="call", calls=100)
    assert check.outcome is Outcome.FAIL
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < 1e4 < figure.high
    assert check.reason.startswith("grows by about 1.0")
    assert "MB per 100 calls [0.9" in check.reason


@settings(max_examples=40, deadline=None)
@given(st.floats(2e5, 1e8), st.integers(0, 50), st.integers(1, 1000))
def test_the_slope_is_found_whatever_its_size(slope: float, seed: int, calls: int) -> None:
    figure, check = leak(series(slope, noise=slope / 20, seed=seed), unit="call", calls=calls)
    assert check.outcome is Outcome.FAIL
    assert figure.value == pytest.approx(slope / calls, rel=0.05)


def shapes() -> list[tuple[str, Callable[[Any], Any]]]:
    at = np.arange(60)

    def wanders(chance: Any) -> Any:
        noise = chance.normal(0, 1e6, 60)
        for k in range(1, 60):
            noise[k] += 0.7 * noise[k - 1]
        return noise

    return [
        ("still", lambda chance: chance.normal(0, 1e6, 60)),
        ("warm-up", lambda chance: chance.normal(0, 1e6, 60) - 5e8 * np.exp(-at / 3)),
        ("one step", lambda chance: chance.normal(0, 1e5, 60) + 5e6 * (at >= chance.integers(10, 60))),
        ("whole pages", lambda chance: np.round(chance.normal(0, 1e6, 60) / 4e6) * 4e6),
        ("wandering", wanders),
    ]


@pytest.mark.covers("T2-01")
@pytest.mark.parametrize(("name", "shape"), shapes(), ids=[name for name, _ in shapes()])
def test_what_is_no_leak_raises_no_alarm(name: str, shape: Callable[[Any], Any]) -> None:
    alarms = [leak(1e9 + shape(np.random.default_rng(seed)))[1].outcome is Outcome.FAIL for seed in range(150)]
    assert sum(alarms) <= (9 if name == "wandering" else 4)


def test_the_smallest_leak_that_would_have_been_seen_is_seen() -> None:
    quiet = leak(series(0.0))
    assert "no growth seen" in quiet[1].reason
    assert quiet[0].low is not None
    assert quiet[0].high is not None
    visible = quiet[0].high - quiet[0].low
    found = [leak(series(visible, seed=seed))[1].outcome is Outcome.FAIL for seed in range(60)]
    assert sum(found) >= 54


def test_too_few_looks_and_too_much_noise_say_nothing_and_what_would() -> None:
    figure, check = leak([1.0] * 18)
    assert (figure.value, check.outcome) == (None, Outcome.INCONCLUSIVE)
    assert "at least 19 are needed" in check.reason
    loud = leak(series(0.0, noise=1e8), matters_bytes=1e5)[1]
    assert loud.outcome is Outcome.INCONCLUSIVE
    assert "more looks would decide" in loud.reason
    still = leak([5e8] * 30)
    assert still[1].outcome is Outcome.PASS
    assert "about 0 bytes per cycle [0, 0]" in still[1].reason


def test_a_long_series_is_judged_by_its_medians() -> None:
    figure, check = leak(series(1e3, count=20_000), unit="call", calls=10)
    assert check.outcome is Outcome.FAIL
    assert figure.value == pytest.approx(100, rel=0.01)


def launch(host: float | None, gpu: float | None, *, source: str = "NvMap", why: str = "silent") -> tuple[Figure, ...]:
    return (
        Figure("host_bytes", host, "bytes", "PSS", why="" if host is not None else why),
        Figure("gpu_bytes", gpu, "bytes", source, why="" if gpu is not None else why),
    )


def judged(*launches: Sequence[Figure], board: BoardConfig | None = BOARD, **more: Any) -> Verdict:
    return judge_memory(Measurement(CASE), {}, launches, more.pop("cycles", {}), board=board, **more)


@pytest.mark.covers("T2-01", "T2-02")
def test_a_maximum_is_judged_with_what_its_launches_support() -> None:
    good = judged(*[launch(GIB, 3 * GIB)] * 5)
    assert good.outcome is Outcome.PASS
    assert "all 5 launches are under, which support at least 54.9 % of launches at 95 %" in good.reason
    assert supported_share(59) == pytest.approx(0.95, abs=0.001)
    bad = judged(*[launch(GIB, 3 * GIB)] * 4, launch(GIB, 4 * GIB + 1))
    assert bad.outcome is Outcome.FAIL
    assert "over in 1 of 5 launches" in bad.reason
    assert judged(launch(GIB, 4 * GIB)).outcome is Outcome.PASS


@pytest.mark.covers("T2-02")
def test_without_a_board_memory_is_measured_and_a_leak_is_still_a_failure() -> None:
    plain = judged(launch(GIB, 3 * GIB), board=None)
    assert (plain.outcome, "no budget applies" in plain.reason) == (Outcome.MEASURED, True)
    still = judged(launch(GIB, 3 * GIB), board=None, cycles={"lightglue, host": [5e8] * 30})
    assert still.outcome is Outcome.MEASURED
    leaking = judged(launch(GIB, 3 * GIB), board=None, cycles={"lightglue, host": series(1e6)})
    assert leaking.outcome is Outcome.FAIL
    assert leaking.reason.startswith("lightglue, host grows by about")
    assert find(leaking.summary.figures, "leak_bytes_per_cycle[lightglue, host]").value == pytest.approx(1e6, rel=0.1)


@pytest.mark.covers("T2-02")
def test_a_leak_that_matters_and_could_go_unseen_leaves_the_row_open() -> None:
    fine = judged(launch(GIB, GIB), calls={"disk, host": [5e8] * 30})
    assert fine.outcome is Outcome.PASS
    noisy = {"disk, host": series(0.0, noise=1e7)}  # a leak of 11 kB a call would use up the budget in an hour at 39 Hz
    assert judged(launch(GIB, GIB), calls=noisy, calls_per_look=10).outcome is Outcome.INCONCLUSIVE
    assert judged(launch(GIB, GIB), calls=noisy, calls_per_look=10_000).outcome is Outcome.PASS
    assert judged(launch(GIB, GIB), cycles=noisy).outcome is Outcome.PASS  # a hundredth of it in one load is 16 MB
    assert judged(launch(GIB, GIB), calls=noisy, board=None).outcome is Outcome.MEASURED


@pytest.mark.covers("T2-02")
@pytest.mark.parametrize("board", [BOARD, None])
def test_a_kill_by_the_kernel_is_over_budget_with_a_board_and_without(board: BoardConfig | None) -> None:
    verdict = judged(launch(GIB, GIB), board=board, killed=["killed while loading disk (exit 137)"])
    assert verdict.outcome is Outcome.FAIL
    assert "1 of 2 launches: killed while loading disk (exit 137)" in verdict.reason


@pytest.mark.covers("T2-02")
def test_what_is_not_known_does_not_pass() -> None:
    assert judged(launch(GIB, None)).outcome is Outcome.INCONCLUSIVE
    least = judged(launch(GIB, GIB, source="the ledger: at least, without the context"))
    assert (least.outcome, "a lower bound" in least.reason) == (Outcome.INCONCLUSIVE, True)
    assert judged(launch(GIB, GIB), launch(GIB, None)).outcome is Outcome.INCONCLUSIVE
    assert judged(launch(None, None), board=None).outcome is Outcome.NOT_RUN
    cpu = judged(launch(GIB, None, why="no engine computes on a GPU"))
    assert cpu.outcome is Outcome.PASS
    assert "not applicable: no engine computes on a GPU" in [check.reason for check in cpu.checks]


def test_each_engines_own_marks_are_kept_under_its_name() -> None:
    verdict = judge_memory(Measurement(CASE), {"disk": launch(GIB, GIB)}, [launch(GIB, 2 * GIB)], {}, board=None)
    assert find(verdict.summary.figures, "gpu_bytes[disk]").value == GIB
    assert find(verdict.summary.figures, "gpu_bytes").value == 2 * GIB
