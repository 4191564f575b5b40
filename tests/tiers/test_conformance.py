"""Rows of kind ``conformance``: each runtime in the form that it takes, with its real library where there is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures import conformance
from harness.records import Case, Outcome, Verdict, from_json, to_json
from runtime import RuntimeConfig
from runtime.architectures import ArchitectureRegistry
from runtime.factory import build_inference_runtime
from tests.tiers.plain import PlainRuntime
from tiers.conformance import settle_conformance
from tiers.contract import CLAUSES

CONFIG = RuntimeConfig(device="cpu", intra_op_threads=1)


def row(runtime: str, **more: Any) -> Case:
    return Case(f"conformance-{runtime}", 0, "conformance", "conformance", runtime, "fp32", "fp32", "", **more)


def build(label: str, config: RuntimeConfig) -> Any:
    if ":" in label:
        return PlainRuntime(config)
    registry = ArchitectureRegistry()
    conformance.register(registry)
    return build_inference_runtime(config, architecture_registry=registry)


def broken(verdict: Verdict) -> list[tuple[str, str]]:
    return [(check.name, check.reason) for check in verdict.checks if check.outcome is Outcome.FAIL]


@pytest.mark.covers("T0-01")
def test_a_row_holds_every_clause_with_what_it_means(tmp_path: Path) -> None:
    verdict = settle_conformance(row("my:Plain"), build, replace(CONFIG, engine_cache_dir=tmp_path))
    assert broken(verdict) == []
    assert verdict.outcome is Outcome.PASS
    assert [check.name for check in verdict.checks] == [f"{clause.id} {clause.title}" for clause in CLAUSES]
    assert [check.means for check in verdict.checks] == [clause.means for clause in CLAUSES]
    assert verdict.summary.measurement.placement == "pytorch_fp16[cpu]"
    assert not verdict.summary.measurement.simulated
    assert list(tmp_path.iterdir()) == []  # it works in a folder of its own
    assert from_json(Verdict, to_json(verdict)) == verdict


@pytest.mark.covers("T0-01", "RT-01", "RT-05", "RT-08", "RT-10")
@pytest.mark.parametrize(
    ("label", "library"), [("onnx_trt_ep", "onnxruntime"), ("pytorch_fp16", "torch")], ids=["ort", "torch"]
)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_our_runtimes_keep_the_contract_on_the_cpu(label: str, library: str, precision: str) -> None:
    pytest.importorskip(library, reason=f"{library}: not installed")
    verdict = settle_conformance(replace(row(label), precision=precision), build, CONFIG)
    assert broken(verdict) == []
    assert verdict.summary.measurement.placement == f"{label}[cpu]"
    not_run = [check.name[:4] for check in verdict.checks if check.outcome is Outcome.NOT_RUN]
    assert not_run == (["C-20"] if label == "onnx_trt_ep" else [])
