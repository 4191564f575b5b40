"""An ONNX model with Q/DQ nodes, by ONNX Runtime's static quantisation: int8 for a library that has no calibrator.

Two steps, so that ranges can be kept, read and compared (``runtime.calibration``): ``measure_ranges`` runs the model
on the calibration inputs, ``quantize`` writes the Q/DQ nodes from the ranges. Symmetric throughout, weights per output
channel, biases left alone: TensorRT's parser refuses an int32 bias behind a DequantizeLinear.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.calibration import CalibrationRanges
from runtime.protocol import Array

if TYPE_CHECKING:
    import onnx

__all__ = ["OPERATORS", "QuantizeError", "half_scales", "measure_ranges", "plain_model", "quantize"]

OPERATORS = ("Conv", "Gemm", "MatMul")
"""What is quantised: where int8 gains something, and what every TensorRT takes with Q/DQ in front."""

_FIRST_OPSET, _HALF_OPSET = 13, 19  # per-channel Q/DQ; Q/DQ in fp16
_SMALLEST_HALF = 2.0**-14  # below it fp16 loses digits


class QuantizeError(ValueError):
    """The model has no int8 form; the message says why."""


def plain_model(source: Path) -> onnx.ModelProto:
    """The model with its weights inside and its tensors' types known, in an operator set that has per-channel Q/DQ."""
    import onnx
    from onnx import version_converter

    model = onnx.load(source)
    try:
        if _opset(model) < _FIRST_OPSET:
            model = version_converter.convert_version(model, _FIRST_OPSET)
        return onnx.shape_inference.infer_shapes(model)
    except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:  # convert_version raises bare ones
        raise QuantizeError(f"it cannot be brought to operator set {_FIRST_OPSET}: {_first_line(error)}") from error


def measure_ranges(model: onnx.ModelProto, samples: Iterable[Mapping[str, Array]]) -> CalibrationRanges:
    """The largest magnitude of each tensor that is quantised, over all samples; computed on the CPU."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    with tempfile.TemporaryDirectory(prefix="trigate-ranges-") as folder, _quiet():
        path = Path(folder) / "model.onnx"
        onnx.save_model(model, path)
        try:
            calibrator = create_calibrator(
                path,
                list(OPERATORS),
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=CalibrationMethod.MinMax,
                providers=["CPUExecutionProvider"],
                extra_options={"symmetric": True},
            )
            calibrator.collect_data(_Reader(samples))
            found = calibrator.compute_data().data
        except ValueError as error:
            raise QuantizeError(f"its ranges cannot be measured: {_first_line(error)}") from error
    ranges = {name: float(np.max(np.abs(data.range_value))) for name, data in found.items()}
    return CalibrationRanges(f"ORT-{onnxruntime.__version__}-MinMax", ranges)


def quantize(model: onnx.ModelProto, ranges: CalibrationRanges) -> onnx.ModelProto:
    """The model with Q/DQ nodes before every operator of ``OPERATORS``. ``model`` itself is changed."""
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    limits = {name: (np.float32(-value), np.float32(value)) for name, value in ranges.ranges.items()}
    options: dict[str, Any] = {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "AddQDQPairToWeight": True,  # weights stay float in the file: TensorRT folds them itself
        "DedicatedQDQPair": True,
        "OpTypesToExcludeOutputQuantization": list(OPERATORS),  # a pair behind a Conv keeps it from its activation
        "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},
    }
    with _quiet():
        try:
            quantizer = QDQQuantizer(
                model,
                True,  # per channel
                False,  # the whole range of int8
                QuantType.QInt8,
                QuantType.QInt8,
                TensorsData(CalibrationMethod.MinMax, limits),
                [],
                [],
                list(OPERATORS),
                options,
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()  # the new nodes stand behind those that read them
        except ValueError as error:
            raise QuantizeError(_first_line(error)) from error
    result: onnx.ModelProto = quantizer.model.model
    if not any(node.op_type == "QuantizeLinear" for node in result.graph.node):
        raise QuantizeError(f"it has none of the operators that are quantised ({', '.join(OPERATORS)})")
    return result


def half_scales(model: onnx.ModelProto) -> tuple[onnx.ModelProto, set[str]]:
    """A quantised model whose Q/DQ nodes may be cast to fp16, and the names of those that fp16 has no scale for."""
    from onnx import numpy_helper, version_converter

    if _opset(model) < _HALF_OPSET:
        model = version_converter.convert_version(model, _HALF_OPSET)
    used = {node.input[1] for node in _pairs(model)}
    scales = {
        tensor.name: float(np.min(numpy_helper.to_array(tensor)))
        for tensor in model.graph.initializer
        if tensor.name in used
    }
    return model, {node.name for node in _pairs(model) if scales.get(node.input[1], 1.0) < _SMALLEST_HALF}


class _Reader:
    """ONNX Runtime asks for one sample after the other until there is none."""

    def __init__(self, samples: Iterable[Mapping[str, Array]]) -> None:
        self._samples = iter(samples)

    def get_next(self) -> Mapping[str, Array] | None:
        return next(self._samples, None)


def _pairs(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    return (node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear"))


def _opset(model: onnx.ModelProto) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser advises on the root logger to preprocess, which is done here; a log of ours is JSON lines."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
