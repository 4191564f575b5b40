"""A row of kind ``conformance``: one runtime, with its real library or on the simulated device, held against the contract."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fixtures import conformance
from harness import gates
from harness.measure import Build
from harness.records import Case, Check, Measurement, Verdict
from harness.watchdog import call_within
from runtime.config import RuntimeConfig
from runtime.data import BuildConfig, EngineDescription
from runtime.protocol import LABELS, Describes, InferenceRuntime
from tiers.contract import ClauseResult, Subject, run_contract

__all__ = ["settle_conformance", "subject"]

LIMIT_S = 120.0
"""Of one clause: the first of them builds an engine, which takes a minute on a board."""
_BUDGETED = ("tensorrt", "pytorch_fp16")
"""The labels that weigh an engine before it is loaded; ONNX Runtime does not tell what its arenas take."""


def settle_conformance(case: Case, build: Build, config: RuntimeConfig) -> Verdict:
    """Run the contract on the case's runtime. Raises ``RuntimeNotAvailableError`` where it cannot run here."""
    with tempfile.TemporaryDirectory(prefix="trigate-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        label = case.runtime if case.runtime in LABELS else ""
        config = replace(config, runtime=label or RuntimeConfig().runtime, engine_cache_dir=folder / "engines")
        config.engine_cache_dir.mkdir()
        poor = replace(config, gpu_memory_budget_bytes=0, host_memory_budget_bytes=0)
        held = replace(
            subject(folder, lambda: build(case.runtime, config), label=label, precision=case.precision),
            make_poor=(lambda: build(case.runtime, poor)) if label in _BUDGETED else None,
        )
        if case.simulated:
            from tiers.simulated import simulated

            held = simulated(case.simulated, held, config)
        results = run_contract(held, limit_s=LIMIT_S)
        measurement = Measurement(case, simulated=bool(case.simulated))
        with contextlib.suppress(Exception), held.around():  # what cannot be described has its clause
            measurement = call_within(LIMIT_S, lambda: _described(measurement, held))
    return gates.judge_runtime(measurement, [_check(result) for result in results])


def subject(folder: Path, make: Callable[[], InferenceRuntime], *, label: str = "", precision: str = "fp32") -> Subject:
    """A runtime with the contract's model, in the form that a runtime of its label compiles."""
    feeds = conformance.feeds()
    return Subject(
        make=make,
        model=conformance.write_checkpoint(folder) if label == "pytorch_fp16" else conformance.write_onnx(folder),
        build=BuildConfig(precision=precision, optimization_profiles=conformance.PROFILES),
        feeds=feeds,
        expected=[conformance.expected(feed) for feed in feeds],
        folder=folder,
        label=label,
    )


def _check(result: ClauseResult) -> Check:
    clause = result.clause
    return Check(f"{clause.id} {clause.title}", result.outcome, result.reason or "holds", clause.means)


def _described(measurement: Measurement, held: Subject) -> Measurement:
    """Where the runtime ran, in its own words; on the simulated device in ours."""
    runtime = held.make()
    label, where = runtime.current_runtime_label(), measurement.case.simulated
    placed = replace(
        measurement, placement=f"{label}[{f'simulated {where}' if where else 'unknown'}]", provider="unknown"
    )
    if not isinstance(runtime, Describes):
        return placed
    handle = runtime.deserialize_engine(held.entry)
    try:
        told: EngineDescription = runtime.describe(handle)
    finally:
        runtime.release_engine(handle)
    return replace(
        placed,
        model_sha256=held.entry.sha256,
        placement=placed.placement if where else f"{label}[{told.provider}]",
        provider=told.provider,
        precision_ran=told.precision,
        nodes_by_provider=dict(told.nodes_by_provider),
        nodes_by_precision=dict(told.nodes_by_precision),
    )
