"""The bench: an engine is compiled once in a run, with the profiles and the calibration inputs of its pack."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx: not installed")

from harness.config import ModelConfig  # noqa: E402
from harness.measure import Bench  # noqa: E402
from harness.packs.maker import Maker  # noqa: E402
from harness.records import Case  # noqa: E402
from runtime.architectures import ArchitectureRegistry  # noqa: E402
from runtime.config import RuntimeConfig  # noqa: E402
from runtime.data import BuildConfig, EngineCacheEntry, EngineHandle, ThermalState  # noqa: E402
from runtime.protocol import Array  # noqa: E402
from tests.harness import tiny  # noqa: E402


class Counting:
    """Computes nothing, and keeps what it was asked to compile."""

    asked: list[tuple[str, BuildConfig]] = []  # noqa: RUF012 (of all instances, which is the point)

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        self.asked.append((model_path.name, build_config))
        return EngineCacheEntry(model_path, "0" * 64, "none", "none", "none", build_config.precision, {})

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        return EngineHandle(self, entry, object())

    def infer(
        self, handle: EngineHandle, inputs: Mapping[str, Array], *, out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        return {"y": np.zeros((2, 4), np.float32)}

    def release_engine(self, handle: EngineHandle) -> None:
        handle.resources = None

    def thermal_state(self) -> ThermalState:
        return ThermalState.unknown(0)

    def current_runtime_label(self) -> str:
        return "tensorrt"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    model = onnx.load(tiny.write_onnx(tmp_path / "tiny.onnx"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(model, tmp_path / "tiny.onnx")
    np.savez(tmp_path / "frame.npz", x=np.ones((2, tiny.WIDTH), np.float32))
    asked = ModelConfig(
        "tiny",
        onnx=tmp_path / "tiny.onnx",
        precision=("fp32", "int8"),
        calibration=f"{tmp_path}/frame.npz",
        dims={"n": (1, 2, 8)},
    )
    pack = Maker(tmp_path / "cache", {}, ArchitectureRegistry()).make([asked])
    Counting.asked.clear()
    yield Bench(pack.models, RuntimeConfig(), lambda label, config: Counting())
    Counting.asked.clear()


def case(precision: str, runtime: str = "tensorrt", kind: str = "parity") -> Case:
    return Case(f"{runtime}-{precision}-{kind}", 1, kind, "tiny", runtime, precision, "int8", "small")


@pytest.mark.covers("BA-07", "T1-01")
def test_rows_of_one_model_runtime_and_precision_share_one_engine(bench: Bench) -> None:
    bench.outputs(case("fp32"))
    bench.open(case("fp32", kind="latency")).close()
    assert [config.precision for _, config in Counting.asked] == ["fp32"]
    bench.outputs(case("int8"))
    bench.outputs(case("fp32", "third.party:Class"))
    assert [config.precision for _, config in Counting.asked] == ["fp32", "int8", "fp32"]


@pytest.mark.covers("RT-03", "TR-08")
def test_engines_are_built_with_the_models_profiles_and_int8_with_its_calibration_inputs(bench: Bench) -> None:
    bench.outputs(case("fp32"))
    bench.outputs(case("int8"))
    (_, plain), (_, quantised) = Counting.asked
    assert [(p.input, p.min, p.opt, p.max) for p in plain.optimization_profiles] == [("x", (1, 16), (2, 16), (8, 16))]
    assert plain.calibration_dataset is None
    assert quantised.calibration_dataset is not None
    assert [path.name for path in quantised.calibration_dataset.iterdir()] == ["0000.npz"]
