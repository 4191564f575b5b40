"""What a call costs beyond ONNX Runtime's own, on a one-node model: ours and Polygraphy's runner, in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from runtime import BuildConfig, RuntimeConfig, build_inference_runtime

X = np.ones((1, 8), np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = [1, 8]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "one-node",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    path = tmp_path_factory.mktemp("bench") / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def _pedantic(benchmark: Any, call: Any) -> None:
    benchmark.pedantic(call, rounds=2000, iterations=20, warmup_rounds=100)


@pytest.mark.benchmark(group="infer")
def test_infer_session_run(benchmark: Any, model: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {"x": X}
    _pedantic(benchmark, lambda: session.run(["y"], feed))


@pytest.mark.benchmark(group="infer")
def test_infer_ours(benchmark: Any, model: Path, tmp_path: Path) -> None:
    config = RuntimeConfig(runtime="onnx_trt_ep", engine_cache_dir=tmp_path, device="cpu", intra_op_threads=1)
    runtime = build_inference_runtime(config)
    handle = runtime.deserialize_engine(runtime.compile_engine(model, BuildConfig(precision="fp32")))
    feed = {"x": X}
    _pedantic(benchmark, lambda: runtime.infer(handle, feed))
    runtime.release_engine(handle)


@pytest.mark.benchmark(group="infer")
def test_infer_polygraphy(benchmark: Any, model: Path) -> None:
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx

    feed = {"x": X}
    with OnnxrtRunner(SessionFromOnnx(str(model), providers=["cpu"])) as runner:
        _pedantic(benchmark, lambda: runner.infer(feed))
