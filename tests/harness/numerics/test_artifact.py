"""Tier-0 of a model's file: what is whole, known and packed passes; anything else is told by its reason."""

from dataclasses import replace
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx", reason="onnx: not installed")

from harness.config import ModelConfig  # noqa: E402
from harness.numerics.artifact import judge_artifact  # noqa: E402
from harness.packs.maker import Maker  # noqa: E402
from harness.packs.model import ModelPack  # noqa: E402
from harness.records import Case, Measurement, Outcome, Verdict  # noqa: E402
from runtime import model_sha256  # noqa: E402
from runtime.architectures import ArchitectureRegistry  # noqa: E402
from tests.harness import tiny  # noqa: E402

CASE = Case("tiny-onnx-fp32-b1-artifact", 0, "artifact", "tiny", "onnx", "fp32", "fp32", "small")


def judged(pack: ModelPack) -> Verdict:
    return judge_artifact(Measurement(CASE), pack)


@pytest.fixture
def packed(tmp_path: Path) -> ModelPack:
    model = ModelConfig("tiny", onnx=tiny.write_onnx(tmp_path / "tiny.onnx"), precision=("fp32",))
    return Maker(tmp_path / "cache", {}, ArchitectureRegistry()).model(model)


def test_a_whole_file_of_known_operators_passes(packed: ModelPack) -> None:
    verdict = judged(packed)
    assert verdict.outcome is Outcome.PASS
    assert "opset 18, IR 10" in verdict.reason


@pytest.mark.covers("T1-03")
def test_a_model_without_an_onnx_file_is_not_run(packed: ModelPack) -> None:
    assert judged(replace(packed, onnx="")).outcome is Outcome.NOT_RUN


@pytest.mark.covers("TR-06")
def test_bytes_that_were_not_packed_fail(packed: ModelPack) -> None:
    tiny.write_onnx(packed.path("model.onnx"), tiny.weights(seed=5))
    verdict = judged(packed)
    assert (verdict.outcome, verdict.reason) == (Outcome.FAIL, "its bytes are not those that were packed")


@pytest.mark.parametrize("opset", [21, 22])
def test_an_opset_that_jetpack_6_is_not_known_to_take_is_inconclusive(packed: ModelPack, opset: int) -> None:
    path = tiny.write_onnx(packed.path("model.onnx"), opset=opset)
    verdict = judged(replace(packed, onnx_sha256=model_sha256(path)))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "export with opset 18" in verdict.reason


@pytest.mark.covers("TR-06")
def test_a_custom_operator_fails_by_its_name(packed: ModelPack) -> None:
    path = packed.path("model.onnx")
    model = onnx.load(path)
    model.graph.node[2].op_type, model.graph.node[2].domain = "Sparkle", "my.company"
    model.opset_import.add(domain="my.company", version=1)
    onnx.save(model, path)
    verdict = judged(replace(packed, onnx_sha256=model_sha256(path)))
    assert verdict.outcome is Outcome.FAIL
    assert "my.company::Sparkle" in verdict.reason
