"""What layers compute in, read from each form in which TensorRT tells it, and held against what was asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.strategies.trt_layers import (
    INSPECTOR,
    Layer,
    counted,
    judge,
    layers_from_inspector,
    layers_from_log,
    layers_path,
    layers_to_json,
)

pytestmark = pytest.mark.covers("TT-02")

HALF, FLOAT = {"Format/Datatype": "Half"}, {"Format/Datatype": "Row major linear FP32 format"}


def inspector(*layers: Any) -> str:
    return json.dumps({"Layers": list(layers), "Bindings": []})


def test_each_form_of_a_type_in_the_inspectors_output_is_read() -> None:
    text = inspector(
        {"Name": "a", "LayerType": "CaskConvolution", "Inputs": [HALF], "Outputs": [HALF]},
        {"Name": "b", "LayerType": "gemm", "Inputs": [FLOAT], "Outputs": [FLOAT]},
        {
            "Name": "c",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Format/Datatype": "Channel major INT8 format where channel % 32 == 0"}],
            "Outputs": [HALF],
            "Weights": {"Type": "Int8", "Count": 9},
        },
        {"Name": "d", "LayerType": "kgen", "Inputs": [{"Datatype": "BFloat16"}], "Outputs": [{"Datatype": "BFloat16"}]},
        {"Name": "e", "LayerType": "Reformat", "Inputs": [FLOAT], "Outputs": [HALF]},
        {"Name": "f", "LayerType": "Gather", "Inputs": [{"Format/Datatype": "Int32"}], "Outputs": []},
        {"Name": "g", "LayerType": "Pooling", "Inputs": [{"Format/Datatype": "N/A due to dynamic shapes"}]},
    )
    layers = layers_from_inspector(text)
    assert [layer.precision for layer in layers] == ["fp16", "fp32", "int8", "bf16", "", "", ""]
    assert layers[2].constants == ("int8",)
    assert counted(layers) == {"fp16": 1, "fp32": 1, "int8": 1, "bf16": 1}


@pytest.mark.parametrize("text", ["", "{}", "[]", "not json", '{"Layers": null}', inspector("names", "only")])
def test_an_inspector_that_tells_no_types_gives_no_layers(text: str) -> None:
    assert layers_from_inspector(text) == ()


LINES = """Layers:
Name: __myl_Cast_myl0_0, LayerType: kgen, Inputs: [ { Name: x, Dimensions: [1,3], Datatype: Float, Format: (Linear) }], \
Constants: [], Outputs: [ { Name: x16, Dimensions: [1,3], Datatype: Half, Format: (NHWC) }], TacticName: t, Metadata: 
Name: n0, with, commas, LayerType: correlation, Inputs: [ { Name: x16, Dimensions: [1,3], Datatype: Half }], Constants: \
[ { Name: w, Dimensions: [9], Datatype: Half }], Outputs: [ { Name: y, Datatype: Half }], TacticName: t, StreamId: 0
Name: wait, LayerType: wait, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 1, EventId: 2
Name: q, LayerType: gemm, Inputs: [ { Name: y, Datatype: Int8 }, { Name: z, Datatype: Int8 }], Outputs: [ { Name: o, \
Format/Datatype: Float }], TacticName: t
"""  # noqa: W291 - as TensorRT-RTX 1.7.1 writes it


def test_the_builders_own_list_of_layers_is_read() -> None:
    layers = layers_from_log(["Engine generation completed in 0.2 seconds.", LINES])
    assert [(layer.kind, layer.precision) for layer in layers] == [
        ("kgen", ""),
        ("correlation", "fp16"),
        ("wait", ""),
        ("gemm", "int8"),
    ]
    assert layers[1].name == "n0, with, commas"


def test_a_fused_seam_between_two_types_says_nothing_of_either() -> None:
    assert Layer("in", "kgen", ("fp32",), ("fp16",), ("fp16",)).precision == ""
    assert Layer("both", "kgen", ("fp32", "fp16"), ("fp16",)).precision == "fp16"
    assert Layer("mask", "kgen", ("fp16",), ()).precision == "fp16"
    assert Layer("gemm", "gemm", ("int8",), ("fp16",)).precision == "int8"


@pytest.mark.parametrize(
    ("asked", "counts", "has_ranges", "refusal", "remark"),
    [
        ("fp16", {"fp16": 9}, False, "", ""),
        ("fp16", {"fp32": 12}, False, "asked for fp16, and every layer computes in fp32 (fp32 12)", ""),
        ("fp16", {"fp16": 9, "fp32": 2}, False, "", "asked for fp16; the layers compute in fp16 9, fp32 2"),
        ("fp32", {"fp32": 3}, False, "", ""),
        ("fp32", {"fp16": 3}, False, "asked for fp32, and every layer computes in fp16 (fp16 3)", ""),
        ("int8", {"int8": 4, "fp32": 5}, True, "", ""),
        ("int8", {"fp32": 5, "fp16": 1}, True, "asked for int8, and every layer computes in fp32 or fp16", ""),
        ("mixed", {"fp16": 5, "int8": 2, "fp32": 1}, True, "", ""),
        ("mixed", {"fp16": 5}, True, "", "asked for mixed; the layers compute in fp16 5"),
        ("mixed", {"fp16": 5}, False, "", ""),
        ("mixed", {"fp32": 5}, True, "asked for mixed, and every layer computes in fp32", ""),
        ("fp16", {}, False, "", "asked for fp16; no layer tells what it computes in"),
    ],
)
def test_what_was_got_is_held_against_what_was_asked(
    asked: str, counts: dict[str, int], has_ranges: bool, refusal: str, remark: str
) -> None:
    told = judge(asked, counts, has_ranges=has_ranges)
    assert told[0].startswith(refusal)
    assert bool(told[0]) == bool(refusal)
    assert told[1] == remark


def test_the_file_beside_an_engine_keeps_the_inspectors_own_words() -> None:
    text = inspector({"Name": "a", "LayerType": "gemm", "Inputs": [HALF], "Outputs": [HALF]})
    told = json.loads(layers_to_json(INSPECTOR, layers_from_inspector(text), text))
    assert told["precision"] == {"fp16": 1}
    assert told["layers"][0]["precision"] == "fp16"
    assert told["inspector"] == json.loads(text)
    assert layers_path(Path("/e/a.engine")) == Path("/e/a.engine.layers.json")
