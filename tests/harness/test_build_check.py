"""Tier-0's build rows: the real TensorRT-RTX where it is installed, and what each answer of a builder comes to."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.build_check import BUILD_SM, Builder, builder_for, judge_build
from harness.layers import Layers, layers_beside
from harness.records import Case, Measurement, Outcome, Verdict
from runtime.data import BuildConfig, EngineCacheEntry
from runtime.errors import EngineBuildError
from runtime.platform import HostTuple, detect_host

ROW = Measurement(case=Case("tiny-build", 0, "build", "tiny", "tensorrt_rtx", "fp32", "fp32", "small"))
ORIN = HostTuple("87", "6.2", "10.3.0", "36.4.3", "p3767-0000")


def refusing(label: str) -> Builder:
    def build(model: Path, config: BuildConfig, folder: Path) -> EngineCacheEntry:
        raise EngineBuildError("node 'act' (NoSuchOp): no importer.", remedy="Export with opset 18.")

    return Builder(label, "TensorRT 10.3.0", ORIN, build)


@pytest.mark.covers("T0-01", "TT-01")
def test_a_refusal_of_the_flights_library_fails_the_model_and_one_of_rtx_decides_nothing(tmp_path: Path) -> None:
    flown = judge_build(ROW, tmp_path / "tiny.onnx", BuildConfig("fp32"), refusing("tensorrt"))
    assert (flown.outcome, flown.remedy) == (Outcome.FAIL, "Export with opset 18.")
    assert "node 'act' (NoSuchOp): no importer." in flown.reason
    other = judge_build(ROW, tmp_path / "tiny.onnx", BuildConfig("fp32"), refusing("tensorrt_rtx"))
    assert other.outcome is Outcome.INCONCLUSIVE
    assert "TensorRT may take what TensorRT-RTX refuses" in other.reason


def test_where_no_tensorrt_is_installed_nothing_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.build_check.is_there", lambda name: False)
    assert builder_for(ORIN) is None


@pytest.mark.covers("T0-06", "TT-03", "TR-03", "TR-05", "RE-02")
def test_the_real_builder_makes_an_engine_that_the_engine_check_takes_whole_alone(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx: not installed")
    pytest.importorskip("onnx", reason="onnx: not installed")
    from tests.harness import tiny

    builder = builder_for(replace(detect_host(), sm="none"))
    assert builder is not None
    if builder.flies:
        pytest.skip("TensorRT itself is installed, and needs a GPU to build")
    told: list[Layers | None] = []

    def keep(verdict: Verdict, entry: EngineCacheEntry) -> Verdict:
        told.append(layers_beside(entry.engine_path, entry.sha256))  # the engine is still there
        return verdict

    verdict = judge_build(ROW, tiny.write_onnx(tmp_path / "tiny.onnx"), BuildConfig("fp32"), builder, keep=keep)
    assert verdict.outcome is Outcome.PASS, verdict.reason
    (layers,) = told
    assert layers is not None
    assert layers.source == "builder log"
    assert set(layers.by_precision) == {"fp32"}
    (figure,) = verdict.summary.figures
    assert (figure.name, figure.unit) == ("build_ns", "ns")
    assert f"in {(figure.value or 0) / 1e9:.1f} s" in verdict.reason
    assert [check.name for check in verdict.checks] == ["build", "engine check", "another GPU", "one bit"]
    assert f"for SM {BUILD_SM}" in verdict.reason
    assert "built for sm89" in verdict.checks[2].reason
    assert "hashes to" in verdict.checks[3].reason
    measurement = verdict.summary.measurement
    assert measurement.placement == f"tensorrt[{builder.library}, builder]"
    assert measurement.model_sha256
    assert not measurement.witness
    assert list(tmp_path.iterdir()) == [tmp_path / "tiny.onnx"]


@pytest.mark.covers("TR-04", "TR-05")
def test_an_engine_that_the_engine_check_would_take_damaged_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gate that waves everything through turns the row red."""
    engine = tmp_path / "tiny__sm87_jp6.2_trt10.3_fp32.engine"
    for path in (engine, Path(f"{engine}.sha256"), Path(f"{engine}.json")):
        path.write_bytes(b"0123456789")
    entry = EngineCacheEntry(engine, "0" * 64, "87", "6.2", "10.3", "fp32", {})
    monkeypatch.setattr("harness.build_check.EngineGate.validate", lambda self, entry: None)
    verdict = judge_build(
        ROW, tmp_path / "x.onnx", BuildConfig("fp32"), Builder("tensorrt", "T", ORIN, lambda *_: entry)
    )
    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason == "another GPU: the engine check takes it"
