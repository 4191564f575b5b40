"""What can be asked of a network of the fake TensorRT, and changed in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.harness.fakes.kit import (
    FLAVOURS,
    FLOAT,
    INT32,
    INT64,
    Bound,
    Kit,
    computed,
    convolution,
    model,
    node,
    sample,
    value,
)

pytestmark = pytest.mark.covers("T0-02", "T0-03")


def parser_of(trt: Any, logger: Any) -> Any:
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    return builder, network, trt.OnnxParser(network, logger)


def test_the_real_parser_reads_the_same_network() -> None:
    real = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx: not installed")
    kit = Kit("rtx1.7.1.116")
    told = []
    for trt, logger in ((real, real.Logger(real.Logger.INTERNAL_ERROR)), (kit.trt, kit.logger)):
        _, network, parser = keep = parser_of(trt, logger)
        assert parser.parse(convolution("n").SerializeToString()) is True
        tensors = [network.get_input(0), network.get_output(0)]
        told.append([
            *((t.name, tuple(t.shape), t.dtype.name, t.is_network_input, t.is_network_output) for t in tensors),
            network.num_inputs,
            network.num_outputs,
            tensors[0].get_dimension_name(0),
            {network.get_layer(i).type.name for i in range(network.num_layers)} >= {"CONVOLUTION", "ACTIVATION"},
        ])  # fmt: skip
        assert network.get_input(9) is None
        del keep
    assert told[0] == told[1]


@pytest.mark.parametrize("version", FLAVOURS)
def test_a_network_tells_its_tensors_and_layers(version: str) -> None:
    kit = Kit(version)
    _, network, _ = kit.parse(convolution("n"))
    assert (network.num_inputs, network.num_outputs, network.num_layers, len(network)) == (1, 1, 5, 5)
    given, result = network.get_input(0), network.get_output(0)
    assert (given.name, tuple(given.shape), given.dtype) == ("x", (-1, 3, 8, 8), kit.trt.float32)
    assert (result.name, tuple(result.shape), given.is_network_input, given.is_network_output) == (
        "y",
        (-1, 5),
        True,
        False,
    )
    layer = network.get_layer(0)
    assert (layer.name, layer.type.name, layer.num_inputs, layer.metadata) == (
        "conv",
        "CONVOLUTION",
        2,
        "[ONNX Layer: conv]",
    )
    assert layer.get_input(0) is given
    assert layer.get_output(0).name == "a"
    assert layer.get_input(7) is None
    assert network[4].name == "mix"
    with pytest.raises(IndexError):
        network[5]
    assert network.get_output(3) is None
    assert "INetworkDefinition::getOutput" in kit.errors()[-1]


def test_what_is_changed_by_hand_is_what_is_built() -> None:
    kit = Kit("10.3.0")
    builder, network, _ = kit.parse(convolution("n"))
    given, result = network.get_input(0), network.get_output(0)
    given.name, given.shape, result.dtype = "frame", (2, 3, 8, 8), kit.trt.float16
    engine = kit.load(builder.build_serialized_network(network, kit.configure(builder, "FP16")))
    assert [engine.get_tensor_name(i) for i in range(2)] == ["frame", "y"]
    assert tuple(engine.get_tensor_shape("frame")) == (2, 3, 8, 8)
    assert engine.get_tensor_dtype("y") == kit.trt.float16


def test_integers_and_two_outputs_are_computed() -> None:
    proto = model(
        [node("ArgMax", ["x"], ["best"], "best", axis=1), node("Cast", ["best"], ["small"], "small", to=INT32)],
        [value("x", FLOAT, [2, 3, 8, 8])],
        [value("best", INT64, [2, 1, 8, 8]), value("small", INT32, [2, 1, 8, 8])],
    )
    kit = Kit()
    bound = Bound(kit, kit.load(kit.build(proto)), {"x": sample()})
    expected = computed(proto, {"x": sample()})
    assert [np.array_equal(a, b) for a, b in zip(bound.run().values(), expected, strict=True)] == [True, True]
    assert [engine_type(kit, bound.engine, name) for name in ("best", "small")] == ["INT64", "INT32"]


def engine_type(kit: Kit, engine: Any, name: str) -> str:
    return str(engine.get_tensor_dtype(name).name)
