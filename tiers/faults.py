"""A row of kind ``faults``: one runtime on the simulated device, or the files of all, through the fault matrix (T0-05)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fixtures import conformance
from harness.faults.files import file_lives
from harness.faults.lives import Specimen
from harness.faults.matrix import FaultReport, Life, run_life
from harness.measure import Build
from harness.records import Case, Check, Measurement, Outcome, Summary, Verdict
from runtime.architectures import ArchitectureRegistry
from runtime.config import RuntimeConfig
from runtime.data import BuildConfig
from runtime.errors import RuntimeNotAvailableError

__all__ = ["lives_of", "settle_faults"]

_MEANS: Mapping[str, str] = {
    "compile": "A build that fails leaves half an engine, or says something else than what went wrong.",
    "load": "A fault at take-off leaks memory, or the engine cannot be loaded once it is over.",
    "infer": "A fault in flight costs more than one frame, or its frame's results are wrong and nobody is told.",
    "describe": "Asking an engine what it is can break it.",
    "release": "A fault while freeing stops the caller, or leaves what could have been freed.",
    "store": "An engine is lost, or is there without what it is checked by.",
    "check": "An engine that cannot be read passes for another one, or for none.",
    "write": "What stood beside an engine is lost.",
    "keep": "What was measured for INT8 is lost, or is there without what it is trusted by.",
    "trust": "INT8 ranges that cannot be read pass for others, or for none.",
    "use": "A build fails for want of timings that it can do without.",
}
_LISTED = 5


def settle_faults(case: Case, build: Build, config: RuntimeConfig) -> Verdict:
    """Run the matrix. Raises ``RuntimeNotAvailableError`` where a library that it needs is missing."""
    del build, config  # the runtimes of this row stand on a device of their own
    report = FaultReport()
    with lives_of(case.runtime, case.simulated, case.precision) as lives:
        for life in lives:
            report += run_life(life)
    told = ", ".join(f"{api} {count}" for api, count in report.by_api.items())
    measurement = Measurement(
        case,
        placement=f"{case.runtime}[simulated {case.simulated}]",
        provider="simulated",
        simulated=True,
        witness=False,
        notes=(f"pairs by call: {told}",),
    )
    phases = dict.fromkeys(site.phase for site in report.ran)
    return Verdict(Summary(measurement), *_judged(report), tuple(_check(report, phase) for phase in phases))


@contextmanager
def lives_of(runtime: str, simulated: str, precision: str) -> Iterator[Sequence[Life]]:
    """What is lived. ``simulated``: the fake library, for ``tensorrt``."""
    if runtime == "files":
        with file_lives() as lives:
            yield lives
        return
    library = "torch" if runtime == "pytorch_fp16" else "onnxruntime"
    if find_spec(library) is None:
        raise RuntimeNotAvailableError(f"{library} is not installed.", remedy=f"pip install {library}")
    with tempfile.TemporaryDirectory(prefix="trigate-") as name:
        folder = Path(name)
        is_torch = runtime == "pytorch_fp16"
        specimen = Specimen(
            model=conformance.write_checkpoint(folder) if is_torch else conformance.write_onnx(folder),
            build=BuildConfig(precision, optimization_profiles=() if is_torch else conformance.PROFILES),
            feeds=conformance.feeds()[1:],
        )
        with _lives_of_runtime(runtime, simulated, specimen) as lives:
            yield lives


@contextmanager
def _lives_of_runtime(runtime: str, simulated: str, specimen: Specimen) -> Iterator[Sequence[Life]]:
    if runtime == "tensorrt":
        from harness.faults.tensorrt import tensorrt_lives
        from tiers.simulated import HOSTS

        with tensorrt_lives(specimen, simulated, HOSTS[simulated], large=_large(specimen)) as lives:
            yield lives
    elif runtime == "onnx_trt_ep":
        from harness.faults.ort import ort_lives

        with ort_lives(specimen) as lives:
            yield lives
    else:
        from harness.faults.torch import torch_lives

        registry = ArchitectureRegistry()
        conformance.register(registry)
        with torch_lives(specimen, registry) as lives:
            yield lives


def _large(specimen: Specimen) -> Specimen:
    """The same model with more rows than two of the banks hold through which inputs pass."""
    rows = 60_000
    profiles = [replace(profile, max=(rows, *profile.max[1:])) for profile in specimen.build.optimization_profiles]
    feeds = [
        {name: np.resize(array, (rows - at, *array.shape[1:])) for name, array in specimen.feeds[0].items()}
        for at in (0, 0, 1)
    ]
    return replace(specimen, build=replace(specimen.build, optimization_profiles=tuple(profiles)), feeds=feeds)


def _judged(report: FaultReport) -> tuple[Outcome, str]:
    pairs, calls = f"{report.pairs_run:,} pairs", len(report.ran)
    if report.failures:
        pair, seen = report.failures[0]
        return Outcome.FAIL, f"{len(report.failures):,} of {pairs} fail; {pair}: {seen}"
    told = f"each of the {calls} calls of one life fails with every error that is documented for it, once and for ever"
    return Outcome.PASS, f"{pairs}: {told}; nothing leaked"


def _check(report: FaultReport, phase: str) -> Check:
    """One part of a life. The worst of it first, by name."""
    calls = sum(site.phase == phase for site in report.ran)
    ran = sum(count for site, count in report.ran.items() if site.phase == phase)
    failed = [f"{pair}: {seen}" for pair, seen in report.failures if pair.site.phase == phase]
    means = _MEANS[phase]
    if not failed:
        return Check(phase, Outcome.PASS, f"{ran:,} pairs of {calls} calls", means)
    more = f"; and {len(failed) - _LISTED:,} more" if len(failed) > _LISTED else ""
    return Check(phase, Outcome.FAIL, f"{len(failed):,} of {ran:,} pairs: {'; '.join(failed[:_LISTED])}{more}", means)
