"""Tier-0 of a model's file: is it whole, is it what was packed, and will the parsers of the flight take it?"""

from __future__ import annotations

from harness.gates import worst
from harness.packs.model import ModelPack
from harness.records import Check, Measurement, Outcome, Summary, Verdict
from runtime.errors import RuntimeCoreError
from runtime.model_file import ModelFacts, check_external_data, model_sha256, read_model_facts

__all__ = ["judge_artifact"]

KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
JETPACK_6_OPSET = 20
JETPACK_6_IR = 10


def judge_artifact(measurement: Measurement, pack: ModelPack) -> Verdict:
    """Judge the ONNX file of a model pack. NOT RUN where the model has none."""
    if not pack.onnx:
        return Verdict(Summary(measurement), Outcome.NOT_RUN, "the model has no ONNX file")
    path = pack.path(pack.onnx)
    try:
        files = check_external_data(path)
        same = model_sha256(path) == pack.onnx_sha256
        facts = read_model_facts(path)
    except RuntimeCoreError as error:
        checks = [Check("file", Outcome.FAIL, str(error))]
    else:
        whole = f"whole, with {len(files)} external files" if files else "whole, one file"
        checks = [
            Check("file", Outcome.PASS, f"{whole}, sha256 {pack.onnx_sha256[:12]}")
            if same
            else Check("file", Outcome.FAIL, "its bytes are not those that were packed"),
            _operators(facts),
            _dialect(facts),
        ]
    deciding = worst(checks)
    reason = deciding.reason if deciding.outcome is not Outcome.PASS else "; ".join(check.reason for check in checks)
    return Verdict(Summary(measurement), deciding.outcome, reason, tuple(checks))


def _operators(facts: ModelFacts) -> Check:
    foreign = sorted(f"{domain}::{name}" for domain, name in facts.op_types if domain not in KNOWN_DOMAINS)
    if foreign:
        reason = f"custom operators {', '.join(foreign)}: no runtime here has them; register a plugin, or export without them"
        return Check("operators", Outcome.FAIL, reason)
    return Check("operators", Outcome.PASS, f"{len(facts.op_types)} kinds of operators, all of known domains")


def _dialect(facts: ModelFacts) -> Check:
    """JetPack 6 ships the ONNX parser of TensorRT 10.3: opset 20 and IR 10 are the newest it is known to take."""
    opset = max((version for domain, version in facts.opsets.items() if domain in ("", "ai.onnx")), default=0)
    words = f"opset {opset}, IR {facts.ir_version}"
    if opset > JETPACK_6_OPSET or facts.ir_version > JETPACK_6_IR:
        limits = f"JetPack 6 is known to take up to opset {JETPACK_6_OPSET}, IR {JETPACK_6_IR}; export with opset 18"
        return Check("dialect", Outcome.INCONCLUSIVE, f"{words}: {limits}")
    return Check("dialect", Outcome.PASS, words)
