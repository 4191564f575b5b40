"""Layers of the engine that ran: from each library as it tells them, small enough to be read, and never another engine's."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.layers import MOST_LAYERS, Layers, layers_beside, layers_of, read_layers, write_layers
from harness.records import RecordError
from harness.run_folder import RunFolder
from runtime.architectures import ArchitectureRegistry
from runtime.config import RuntimeConfig
from runtime.data import BuildConfig, EngineDescription, EngineLayer
from runtime.files import sha256_hex
from runtime.sidecar import Manifest, write_manifest
from runtime.strategies.trt_layers import LOG, Layer, layers_from_log, layers_path, layers_to_json

pytestmark = pytest.mark.covers("RE-02")

CONV = EngineLayer("conv1 + relu", "CaskConvolution", "fp16", "tensorrt", "sm80_xmma_fprop")
MOVE = EngineLayer("reformat", "Reformat")
DIGEST = "ab" * 32


def described(*layers: EngineLayer, source: str = "inspector") -> EngineDescription:
    return EngineDescription((), (), "tensorrt", {}, "fp16", {}, 0, 0, layers=layers, layers_source=source)


def engine_with_layers(folder: Path, *layers: Layer, source: str = LOG) -> Path:
    """An engine with its manifest and what its builder wrote beside it."""
    engine = folder / "tiny__sm87_jp6.2_trt10.3_fp16.engine"
    engine.write_bytes(b"a plan")
    text = layers_to_json(source, layers)
    layers_path(engine).write_text(text)
    options = {"layers_sha256": sha256_hex(text.encode())}
    manifest = Manifest(
        sha256_hex(b"a plan"), "0" * 64, "87", "6.2", "10.3", "fp16", "flags", "t", builder_options=options
    )
    write_manifest(engine, manifest)
    return engine


def test_what_is_written_is_read_again_and_says_of_which_engine_it_is(tmp_path: Path) -> None:
    layers = Layers("inspector", DIGEST, (CONV, MOVE, replace(CONV, name="größe ☃", precision="int8")))
    with RunFolder(tmp_path / "run") as folder:
        name = write_layers(folder, "row", layers)
    assert name == "layers/row.json"
    assert read_layers(tmp_path / "run", name) == layers
    told = json.loads((tmp_path / "run" / name).read_text())
    assert (told["schema"], told["engine"], told["precision"]) == (1, DIGEST, {"fp16": 1, "int8": 1})
    assert told["layers"][0] == {
        "name": "conv1 + relu",
        "type": "CaskConvolution",
        "precision": "fp16",
        "provider": "tensorrt",
        "tactic": "sm80_xmma_fprop",
    }
    assert told["layers"][1] == {"name": "reformat", "type": "Reformat", "precision": ""}


def test_a_row_whose_engine_tells_no_layers_has_no_file(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as folder:
        assert write_layers(folder, "row", Layers()) == ""
    assert not (tmp_path / "run/layers").exists()
    assert read_layers(tmp_path / "run", "") is None


def test_a_file_stays_small_whatever_a_library_says() -> None:
    many = tuple(EngineLayer(f"{at}" + "x" * 5000, "Conv", "fp16") for at in range(MOST_LAYERS + 7))
    told = Layers.from_text(Layers("inspector", DIGEST, many).to_text())
    assert (len(told.layers), told.left_out) == (MOST_LAYERS, 7)
    assert len(told.layers[0].name) == 300
    assert told.layers[0].name.endswith("…")
    assert Layers.from_text(told.to_text()).left_out == 7


def test_an_engine_that_tells_no_types_is_told_by_its_builder(tmp_path: Path) -> None:
    engine = engine_with_layers(tmp_path, Layer("c", "CaskConvolution", ("fp16",), ("fp16",), tactic="t1"))
    silent = described(EngineLayer("c", ""))
    told = layers_of(silent, engine, DIGEST)
    assert (told.source, told.engine) == (LOG, DIGEST)
    assert told.layers == (EngineLayer("c", "CaskConvolution", "fp16", tactic="t1"),)
    assert layers_of(described(CONV), engine, DIGEST).source == "inspector"  # the loaded engine knows best


def test_what_was_not_written_with_this_engine_tells_nothing_of_it(tmp_path: Path) -> None:
    engine = engine_with_layers(tmp_path, Layer("c", "CaskConvolution", ("fp16",), ("fp16",)))
    beside = layers_path(engine)
    beside.write_text(beside.read_text().replace("fp16", "fp32"))
    assert layers_beside(engine, DIGEST) is None
    beside.unlink()
    assert layers_of(described(MOVE), engine, DIGEST).layers == (MOVE,)


def test_the_builders_own_list_tells_tactics_and_no_line_gets_those_of_another() -> None:
    line = "Name: {}, LayerType: gemm, Inputs: [ {{ Name: x, Datatype: Half }}], Outputs: [ {{ Name: y, Datatype: Half }}], {}"
    text = "\n".join(
        [line.format("a", "TacticName: , StreamId: 0"), line.format("b", "TacticName: sm80_gemm, StreamId: 0")]
    )
    assert [(each.name, each.tactic) for each in layers_from_log([text])] == [("a", ""), ("b", "sm80_gemm")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no list of layers"),
        ("[]", "no list of layers"),
        ('{"schema": 2, "layers": []}', "schema 2"),
        ('{"schema": 1}', "no list of layers"),
        ('{"schema": 1, "layers": [3]}', "no list of layers"),
        ('{"schema": 1, "layers": [{"name": 3}]}', "name is 3"),
        ("[" * 100_000, "no list of layers"),
        ('{"schema": 1, "layers": [], "left_out": Infinity}', "no list of layers"),
    ],
)
def test_a_file_that_is_no_such_list_is_refused_in_words(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(RecordError, match=why):
        read_layers(tmp_path, "x.json")


def test_a_name_that_leads_out_of_the_run_folder_is_not_followed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "secret.json").write_text(Layers("inspector", DIGEST, (CONV,)).to_text())
    (run / "link.json").symlink_to(tmp_path / "secret.json")
    for name in ("../secret.json", "link.json", str(tmp_path / "secret.json"), "layers/\0.json"):
        with pytest.raises(RecordError, match="leads out of the run folder"):
            read_layers(run, name)
    with pytest.raises(RecordError, match="cannot be read"):
        read_layers(run, "layers/none.json")


def test_onnx_runtime_tells_each_node_that_ran_with_its_provider_and_type(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")
    pytest.importorskip("onnx", reason="onnx: not installed")
    from runtime.strategies.ort import OnnxTrtEpRuntime
    from tests.harness import tiny

    runtime = OnnxTrtEpRuntime(RuntimeConfig(runtime="onnx_trt_ep", engine_cache_dir=tmp_path, device="cpu"))
    handle = runtime.deserialize_engine(
        runtime.compile_engine(tiny.write_onnx(tmp_path / "tiny.onnx"), BuildConfig("fp32"))
    )
    told = runtime.describe(handle)
    runtime.release_engine(handle)
    assert told.layers_source == "profile"
    assert {each.provider for each in told.layers} == {"cpu"}
    assert sum(each.precision == "fp32" for each in told.layers) == told.nodes_by_precision["fp32"]
    assert len(told.layers) == sum(told.nodes_by_provider.values())
    assert "Gemm" in {each.kind.removeprefix("Fused") for each in told.layers}
    assert told.built == ()


def test_torch_tells_each_module_that_holds_weights_in_the_type_that_they_have(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch: not installed")
    from runtime.strategies.torch_fp16 import PytorchFp16Runtime

    def factory() -> Any:
        return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.LayerNorm(4))

    registry = ArchitectureRegistry()
    registry.register("small", factory)
    torch.save(factory().state_dict(), tmp_path / "small.pt")
    config = RuntimeConfig(runtime="pytorch_fp16", engine_cache_dir=tmp_path, device="cpu")
    runtime = PytorchFp16Runtime(config, architecture_registry=registry)
    entry = runtime.compile_engine(tmp_path / "small.pt", BuildConfig("fp16"))
    handle = runtime.deserialize_engine(replace(entry, extras={**entry.extras, "architecture": "small"}))
    told = runtime.describe(handle)
    runtime.release_engine(handle)
    assert told.layers_source == "modules"
    assert told.layers == (EngineLayer("0", "Linear", "fp16", "cpu"), EngineLayer("2", "LayerNorm", "fp16", "cpu"))
