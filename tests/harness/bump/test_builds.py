"""Engines that are built several times: each by itself, with the launches of a row spread over them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.bump.builds import EngineBuilds, build_spread, built, check_builds, launches_for, why_none, why_not
from harness.config import ModelConfig
from harness.errors import UsageError
from harness.fakes.orin import SimulatedKill, SimulatedOrin
from harness.instruments.trace import Trace
from harness.lineage import EngineFacts
from harness.measure import Bench
from harness.plan import Ask, plan
from harness.profiles import PROFILES
from harness.records import Case, EngineBuilt, LaunchFigures, Measurement, Outcome
from harness.run_folder import RunFolder
from harness.scenario import load_scenario
from harness.tier2.child_job import ChildJob
from harness.tier2.launch_job import LaunchJob
from harness.tier2.rows import Tier2
from harness.tier2.samples import SampleLog
from harness.tier2.station import Order, Seen, Stream
from runtime.config import RuntimeConfig
from runtime.data import BuildConfig, EngineCacheEntry
from tests.harness.children import write_pack

pytestmark = pytest.mark.covers("RE-02")

SCENARIOS = Path(__file__).resolve().parents[3] / "fixtures" / "scenarios"
CASE = Case("m-latency", 2, "latency", "m", "tensorrt", "fp16", "fp16", "small")


class Builder:
    """A runtime that builds a file, and a timing cache beside it as TensorRT's does."""

    made: list[tuple[Path, str, bool]]

    def __init__(self, config: RuntimeConfig, made: list[tuple[Path, str, bool]]) -> None:
        self.folder, self.made = config.engine_cache_dir, made

    def compile_engine(self, model: Path, config: BuildConfig) -> EngineCacheEntry:
        self.folder.mkdir(parents=True, exist_ok=True)
        had_cache = any(self.folder.glob("timing__*"))
        self.made.append((self.folder, config.typing, had_cache))
        for name in ("m.engine", "timing__sm87.cache", "timing__sm87.cache.sha256"):
            (self.folder / name).write_text(name)
        return EngineCacheEntry(
            self.folder / "m.engine", f"{len(self.made):064x}", "87", "6.2", "10.3", config.precision
        )


def _builder(made: list[tuple[Path, str, bool]], label: str, config: RuntimeConfig) -> Builder:
    assert label == "tensorrt"
    return Builder(config, made)


@pytest.fixture
def made() -> list[tuple[Path, str, bool]]:
    return []


def builds(tmp_path: Path, made: Any, count: int) -> EngineBuilds:
    packs = {name: write_pack(tmp_path / "packs" / name, name) for name in ("m", "n")}
    build: Any = partial(_builder, made)
    bench = Bench(packs, RuntimeConfig(engine_cache_dir=tmp_path / "engines"), build)
    return EngineBuilds(bench, LaunchJob(ChildJob({}, {"device": "cpu"})), count)


def order(number: int, *cases: Case) -> Order:
    return Order(PROFILES["quick"], tuple(Stream(case) for case in cases or (CASE,)), build=number)


def test_each_build_has_a_folder_of_its_own_and_no_timing_cache_of_another(tmp_path: Path, made: Any) -> None:
    ours = builds(tmp_path, made, 2)
    old = tmp_path / "engines/builds/0/ort/old.engine"
    old.parent.mkdir(parents=True)
    old.write_text("of an earlier run")
    other = replace(CASE, model="n")
    jobs = [ours.job_for(order(number, CASE, other)) for number in (0, 1, 0)]
    folders = [tmp_path / "engines/builds/0", tmp_path / "engines/builds/1"]
    assert made == [(folders[0], "", False), (folders[0], "", False), (folders[1], "", False), (folders[1], "", False)]
    assert not old.exists()
    assert [job.bench.config["engine_cache_dir"] for job in jobs] == [str(folders[at]) for at in (0, 1, 0)]
    entries = [EngineCacheEntry.from_json(job.bench.compiled[0].entry).sha256[-1] for job in jobs]
    assert entries == ["1", "3", "1"]  # a launch on a build that is there loads it
    assert [one.case.model for one in jobs[0].bench.compiled] == ["m", "n"]
    assert jobs[0].bench.config["device"] == "cpu"


def test_without_builds_all_launches_load_the_one_engine_that_was_built(tmp_path: Path, made: Any) -> None:
    ours = builds(tmp_path, made, 0)
    jobs = [ours.job_for(order(0)) for _ in range(3)]
    assert made == [(tmp_path / "engines", "", False)]
    assert len({job.bench.compiled[0].entry for job in jobs}) == 1


def test_a_route_that_is_asked_for_is_built_by_it_and_lies_apart(tmp_path: Path, made: Any) -> None:
    ours = builds(tmp_path, made, 0)
    ours.job_for(order(0))
    ours.job_for(order(0, replace(CASE, route="flags")))
    assert made == [(tmp_path / "engines", "", False), (tmp_path / "engines/by-flags", "flags", False)]


@pytest.mark.parametrize(("launches", "count", "expected"), [(1, 0, 1), (1, 3, 3), (5, 3, 6), (5, 5, 5), (6, 3, 6)])
def test_every_build_has_as_many_launches_as_any_other(launches: int, count: int, expected: int) -> None:
    assert launches_for(launches, count) == expected


@pytest.mark.parametrize(
    ("runtime", "placements", "words"),
    [
        ("tensorrt", ["tensorrt[tensorrt]"], ""),
        ("onnx_trt_ep", [], ""),  # not known before it ran
        ("onnx_trt_ep", ["onnx_trt_ep[tensorrt]"], ""),
        ("onnx_trt_ep", ["onnx_trt_ep[cpu]"], "NOT APPLICABLE: onnx_trt_ep[cpu] builds no engine"),
        ("pytorch_fp16", [], "NOT APPLICABLE: pytorch_fp16 builds no engine"),
        ("a.b:C", [], "NOT APPLICABLE: whether a.b:C builds an engine is not known"),
    ],
)
def test_what_builds_nothing_says_so(runtime: str, placements: list[str], words: str) -> None:
    told = why_not(replace(CASE, runtime=runtime), placements)
    assert words in told
    assert bool(told) is bool(words)


@pytest.mark.parametrize(
    ("count", "profile", "tiers", "words"),
    [
        (-1, "pr", (2,), "from 1 to 50"),
        (51, "pr", (2,), "from 1 to 50"),
        (3, "floor", (2,), "a floor is learned of one engine"),
        (3, "pr", (0, 1), "--tier leaves it out"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(count: int, profile: str, tiers: tuple[int, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_builds(count, profile=profile, tiers=tiers)
    check_builds(3, profile="signoff", tiers=(0, 1, 2))


@pytest.mark.parametrize(
    ("runtimes", "gpu", "device", "words"),
    [
        (("tensorrt", "onnx_trt_ep"), True, "auto", ""),
        (("tensorrt", "onnx_trt_ep"), False, "auto", "a host without a GPU"),
        (("onnx_trt_ep",), True, "cpu", "--device cpu"),
        (("pytorch_fp16",), True, "auto", "pytorch_fp16 builds none"),
        (("pytorch_fp16", "theirs:Runtime"), False, "auto", ""),
    ],
)
def test_builds_of_nothing_are_refused(runtimes: tuple[str, ...], gpu: bool, device: str, words: str) -> None:
    told = why_none(runtimes, gpu=gpu, device=device)
    assert words in told
    assert bool(told) is bool(words)
    check_builds(0, profile="pr", tiers=(2,), unbuilt=told)
    if words:
        with pytest.raises(UsageError, match=r"spreads launches over engines, and .*Leave it out"):
            check_builds(3, profile="pr", tiers=(2,), unbuilt=told)


def seen(launch: int, *models: str, facts: bool = True) -> Seen:
    told = {
        model: EngineFacts({"engine": f"{model}{launch % 2}", "route": "flags"}, size_bytes=9, build_ns=5)
        for model in models
    }
    measurement = Measurement(CASE, model_sha256=f"own{launch % 2}")
    return Seen(measurement, SampleLog(models, launch=launch), Trace(), facts=told if facts else {})


def test_the_record_says_which_launches_ran_on_which_engine() -> None:
    launches = [seen(at, "m") for at in range(4)]
    assert built(launches, 0) == ()
    assert built(launches, 2) == (
        EngineBuilt(0, "m", (0, 2), "m0", 9, 5, "flags"),
        EngineBuilt(1, "m", (1, 3), "m1", 9, 5, "flags"),
    )
    of_mix = built([seen(at, "m", "n") for at in range(2)], 2)
    assert [(one.number, one.model, one.launches) for one in of_mix] == [
        (0, "m", (0,)), (0, "n", (0,)), (1, "m", (1,)), (1, "n", (1,)),
    ]  # fmt: skip
    untold = built([seen(0, "m", facts=False), seen(1, "m", "n", facts=False)], 2)
    assert [one.sha256 for one in untold] == ["own0", "", ""]  # of the mix its measurement tells one engine alone


def test_how_far_builds_lie_apart_is_a_figure() -> None:
    engines = [EngineBuilt(0, "m", (0, 2)), EngineBuilt(1, "m", (1, 3)), EngineBuilt(0, "n", (0,))]
    p95_ns = [100.0, 102.0, 100.0, 102.0]
    of_launches = [
        LaunchFigures(at, 9, 0, None, round(1e6 * value), None, None, 1.0, None, None, Outcome.PASS, "")
        for at, value in enumerate(p95_ns)
    ]
    (figure,) = build_spread(of_launches, engines, "m")
    assert figure.value == pytest.approx(100 * math.log(1.02) / math.sqrt(2))
    assert "2 builds, of 4 launches" in figure.source
    assert build_spread(of_launches, engines[:1], "m") == ()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    with RunFolder(tmp_path / "run") as folder:
        yield folder


def test_on_a_simulated_board_a_latency_row_is_of_several_builds_and_heat_is_of_one(folder: RunFolder) -> None:
    physics = load_scenario(SCENARIOS / "bump_base.toml")
    model = ModelConfig("lightglue", onnx=Path("m.onnx"))
    profile = replace(PROFILES["quick"], least_s=0.0, most_s=2.0, least_calls=20, most_calls=40, sustained_s=2.0)

    def begin() -> SimulatedOrin:
        return SimulatedOrin(physics)

    tier2 = Tier2(begin(), profile, {"lightglue": model}, begin=begin, builds=3, kills=(SimulatedKill,))
    asked = Ask((2,), ("tensorrt",), (model,), "flight", (), None, {}, scenario="bump_base")
    rows = {case.kind: case for case in plan(asked)}
    latency = tier2.settle(rows["latency"], folder)
    measurement = latency.summary.measurement
    assert [one.launches for one in measurement.builds] == [(0,), (1,), (2,)]
    assert len({one.sha256 for one in measurement.builds}) == 3
    assert latency.summary.judgement is not None
    assert len(latency.summary.judgement.launches) == 3
    assert not any(check.name == "launches alike" for check in latency.checks)
    assert any(figure.name == "build_spread" and figure.value for figure in latency.summary.figures)
    heat = tier2.settle(rows["heat"], folder).summary.measurement
    assert (heat.launches, heat.builds) == (1, ())
