"""``--builds K``: each engine built K times, and the launches of a row spread over them.

TensorRT's builder chooses by timing, and noise decides ties, so two engines of one version differ; a bump has to be judged
against that spread (``statistics.unpaired``). Each build has a folder of its own, without the timing cache of another, which
would make it choose alike. The engines stay there until the next run with ``--builds``.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from harness.errors import UsageError
from harness.measure import Bench
from harness.records import Case, EngineBuilt, Figure, LaunchFigures
from harness.tier2.child_job import Compiled
from harness.tier2.launch_job import LaunchJob
from harness.tier2.station import Order, Seen
from runtime.data import EngineCacheEntry
from runtime.protocol import LABELS

__all__ = ["MOST", "EngineBuilds", "build_spread", "built", "check_builds", "launches_for", "why_none", "why_not"]

MOST = 50
"""Builds of one engine: on a board each takes minutes."""

_BUILT_BY_US = "tensorrt"
_BUILT_INSIDE = "onnx_trt_ep"


def check_builds(count: int, *, profile: str, tiers: Sequence[int], unbuilt: str = "") -> None:
    """Raises ``UsageError`` for a number that is none, and for a run in which nothing would be spread over builds.

    ``count`` 0: each engine is built once. ``unbuilt``: why no runtime of the run builds an engine; empty where one may.
    """
    if not 0 <= count <= MOST:
        raise UsageError(f"--builds {count}: expected a number of builds from 1 to {MOST}.")
    if count and profile == "floor":
        raise UsageError(f"--builds {count} does not go with --profile floor: a floor is learned of one engine.")
    if count and 2 not in tiers:
        raise UsageError(
            f"--builds {count} spreads the launches of tier 2, and --tier leaves it out. Leave one of the two out."
        )
    if count and unbuilt:
        raise UsageError(f"--builds {count} spreads launches over engines, and {unbuilt}. Leave it out.")


def why_none(runtimes: Sequence[str], *, gpu: bool, device: str) -> str:
    """Why none of ``runtimes`` builds an engine on this host; empty where one may: a third party's class does as it likes."""
    if any(runtime not in LABELS for runtime in runtimes):
        return ""
    if not {_BUILT_BY_US, _BUILT_INSIDE} & set(runtimes):
        return f"{' and '.join(runtimes)} builds none"
    if not gpu:
        return "none is built and run on a host without a GPU"
    return "none is built with --device cpu" if device == "cpu" else ""


def launches_for(launches: int, builds: int) -> int:
    """How many launches there are, so that each build has as many as any other."""
    return builds * math.ceil(launches / builds) if builds else launches


def why_not(case: Case, placements: Sequence[str]) -> str:
    """Why a row has one build whatever is asked for; empty where engines are built. ``placements``: as a first launch ran."""
    words = "--builds: NOT APPLICABLE: "
    if case.runtime == _BUILT_BY_US:
        return ""
    if case.runtime == _BUILT_INSIDE:
        where = next((each for each in placements if each and not each.endswith("[tensorrt]")), "")
        return f"{words}{where} builds no engine" if where else ""
    if case.runtime in LABELS:
        return f"{words}{case.runtime} builds no engine"
    return f"{words}whether {case.runtime} builds an engine is not known here"


@dataclass
class EngineBuilds:
    """How launches in processes of their own come to their engines. Filled as rows run; one for a run.

    ``bench``: of this process. ``job``: of a child, as it would be without builds. ``count`` 0: an engine is built once, here,
    and every launch loads that one.
    """

    bench: Bench
    job: LaunchJob
    count: int = 0
    say: Callable[[str], None] = lambda words: None
    _benches: dict[int, Bench] = field(default_factory=dict)

    def job_for(self, order: Order) -> LaunchJob:
        """The job of a launch, with the engines of its build. Raises the core's errors for one that cannot be built."""
        bench = self._bench(order.build)
        cases = {stream.case.model: stream.case for stream in order.streams if stream.case.runtime == _BUILT_BY_US}
        compiled = tuple(Compiled(case, self._entry(bench, case, order.build).to_json()) for case in cases.values())
        own = {**self.job.bench.config, "engine_cache_dir": str(Path(bench.config.engine_cache_dir).absolute())}
        return replace(self.job, bench=replace(self.job.bench, config=own, compiled=compiled))

    def _bench(self, number: int) -> Bench:
        if not self.count:
            return self.bench
        if number not in self._benches:
            folder = self.bench.config.engine_cache_dir / "builds" / str(number)
            shutil.rmtree(folder, ignore_errors=True)  # engines of an earlier run, and ONNX Runtime's caches
            config = replace(self.bench.config, engine_cache_dir=folder)
            self._benches[number] = replace(self.bench, config=config, _seen={}, _entries={})
        return self._benches[number]

    def _entry(self, bench: Bench, case: Case, number: int) -> EngineCacheEntry:
        runtime = bench.make(case.runtime, case.route)
        if self.count:
            self.say(f"{case.model}: build {number + 1} of {self.count}")
            for cache in bench.config.engine_cache_dir.rglob("timing__*"):
                cache.unlink()  # of another model of this build
        return bench.entry(case, runtime, bench.artifact(case))


def built(launches: Sequence[Seen], count: int) -> tuple[EngineBuilt, ...]:
    """The engines of a row's launches, by build and model; none where it was not built several times."""
    found: dict[tuple[int, str], EngineBuilt] = {}
    for seen in launches if count else ():
        number = seen.log.launch % count
        own = seen.measurement
        for model in dict.fromkeys(seen.log.streams):
            facts = seen.facts.get(model)
            lineage = facts.lineage if facts is not None else {}
            is_alone = len(set(seen.log.streams)) == 1 and own.case.runtime == _BUILT_BY_US
            known = found.get((number, model)) or EngineBuilt(
                number,
                model,
                sha256=lineage.get("engine", own.model_sha256 if is_alone else ""),
                size_bytes=facts.size_bytes if facts is not None else None,
                build_ns=facts.build_ns if facts is not None else None,
                route=lineage.get("route", ""),
            )
            found[number, model] = replace(known, launches=(*known.launches, seen.log.launch))
    return tuple(found[key] for key in sorted(found))


def build_spread(launches: Sequence[LaunchFigures], engines: Sequence[EngineBuilt], model: str) -> tuple[Figure, ...]:
    """How far the engines of one row lie apart, in p95; nothing where there are not two that were timed."""
    p95_ns = {one.launch: one.p95_ns for one in launches if one.p95_ns}
    means = [
        float(np.mean([math.log(p95_ns[launch]) for launch in engine.launches if launch in p95_ns]))
        for engine in engines
        if engine.model == model and any(launch in p95_ns for launch in engine.launches)
    ]
    if len(means) < 2:
        return ()
    words = f"standard deviation of ln p95 between {len(means)} builds, of {len(p95_ns)} launches"
    return (Figure("build_spread", 100 * float(np.std(means, ddof=1)), "%", words),)
