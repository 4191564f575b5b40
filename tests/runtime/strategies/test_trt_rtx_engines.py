"""Real engines of TensorRT-RTX, built on the CPU for GPUs that are not here, and every kind of damage to one (T0-06)."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx: not installed")
onnx = pytest.importorskip("onnx", reason="onnx: not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")
pytest.importorskip("polygraphy", reason="polygraphy: not installed")

from runtime.config import RuntimeConfig  # noqa: E402
from runtime.data import BuildConfig, EngineCacheEntry, Profile  # noqa: E402
from runtime.errors import (  # noqa: E402
    EngineBuildError,
    EngineDeserializeError,
    EngineHashMismatchError,
    EngineSchemaMismatchError,
)
from runtime.gate import EngineGate  # noqa: E402
from runtime.platform import HostTuple  # noqa: E402
from runtime.sidecar import manifest_path, read_manifest, sidecar_path, write_manifest, write_sidecar  # noqa: E402
from runtime.strategies.trt_build import build_engine, provision  # noqa: E402
from runtime.strategies.trt_job import Progress  # noqa: E402
from runtime.strategies.trt_launch import in_process  # noqa: E402
from runtime.strategies.trt_layers import layers_path  # noqa: E402
from tests.runtime.strategies.test_onnx_int8 import write_cnn  # noqa: E402

pytestmark = pytest.mark.covers("T0-06")

HOST = HostTuple("none", "none", "rtx1.7.1.116")
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def for_sm(sm: str) -> HostTuple:
    return replace(HOST, sm=sm)


def write_frames(folder: Path) -> Path:
    folder.mkdir()
    for at in range(3):
        chance = np.random.default_rng(at)
        np.savez(folder / f"{at}.npz", x=chance.uniform(0, 1, (1, 3, 8, 8)).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EngineCacheEntry]:
    """The short form of ``nox -s engines``: three models, a GPU each, through the child process."""
    folder = tmp_path_factory.mktemp("engines")
    cnn, frames = write_cnn(folder / "cnn.onnx"), write_frames(folder / "frames")
    asked = {
        "squeezenet": (LIGHT / "light_squeezenet.onnx", BuildConfig("fp16"), "86"),
        "shufflenet": (LIGHT / "light_shufflenet.onnx", BuildConfig("fp32"), "89"),
        "cnn": (cnn, BuildConfig("int8", calibration_dataset=frames), "120"),
    }
    config = RuntimeConfig(engine_cache_dir=folder / "engines")
    return {
        name: build_engine(model, build, config=config, host=HOST, sm=sm) for name, (model, build, sm) in asked.items()
    }


@pytest.mark.covers("TT-01", "TT-02", "TT-03", "TR-01", "TR-05")
@pytest.mark.parametrize(
    ("name", "sm", "route", "computes"),
    [
        ("squeezenet", "86", "strongly-typed", {"fp16"}),
        ("shufflenet", "89", "strongly-typed", {"fp32"}),
        ("cnn", "120", "strongly-typed+qdq", {"int8"}),
    ],
)
def test_real_engines_are_built_without_a_gpu_and_pass_the_gate_of_the_host_that_they_are_for(
    short: dict[str, EngineCacheEntry], name: str, sm: str, route: str, computes: set[str]
) -> None:
    entry = short[name]
    verified = EngineGate(for_sm(sm)).validate(entry)
    assert verified.header is not None
    assert (verified.header.kind, verified.header.version) == ("tensorrt_rtx", (1, 7, 1, 116))
    manifest = verified.manifest
    assert (manifest.sm, manifest.trt, manifest.route) == (sm, "rtx1.7.1.116", route)
    assert manifest.builder == "tensorrt_rtx 1.7.1.116"
    assert (manifest.device_memory_bytes or 0) > 0
    assert (manifest.weights_bytes or 0) > 0
    assert (manifest.opt_buffer_bytes or 0) > 0
    told = json.loads(layers_path(entry.engine_path).read_text())
    assert told["source"] == "builder log"
    assert set(told["precision"]) >= computes
    # the compute capabilities that the plan is for, where TensorRT-RTX 1.7 keeps them
    mask = {"86": 4, "89": 8, "120": 16}[sm]
    assert struct.unpack_from("<I", verified.data, 32)[0] == mask


@pytest.mark.covers("TR-03")
def test_a_host_of_another_gpu_refuses_it(short: dict[str, EngineCacheEntry]) -> None:
    with pytest.raises(EngineSchemaMismatchError, match=r"built for sm86 .*; this host is sm89"):
        EngineGate(for_sm("89")).validate(short["squeezenet"])


@pytest.mark.covers("TT-10")
def test_what_is_there_is_not_built_again(short: dict[str, EngineCacheEntry]) -> None:
    entry = short["squeezenet"]
    config = RuntimeConfig(engine_cache_dir=entry.engine_path.parent)
    done = provision(LIGHT / "light_squeezenet.onnx", BuildConfig("fp16"), config=config, host=HOST, sm="86")
    assert (done.is_new, done.entry) == (False, entry)


@pytest.mark.covers("TT-01")
def test_two_builds_of_one_model_are_one_engine_here_and_in_a_child(
    short: dict[str, EngineCacheEntry], tmp_path: Path
) -> None:
    config, seen = RuntimeConfig(engine_cache_dir=tmp_path), list[Progress]()
    here = build_engine(
        LIGHT / "light_squeezenet.onnx",
        BuildConfig("fp16"),
        config=config,
        host=HOST,
        sm="86",
        launch=in_process,
        on_progress=seen.append,
    )
    assert here.sha256 == short["squeezenet"].sha256
    assert here.extras == short["squeezenet"].extras
    assert any(told.phase == "Building engine" and told.of > 1 for told in seen)


@pytest.mark.covers("TR-08", "TT-02")
def test_ranges_from_the_cache_give_the_same_engine(short: dict[str, EngineCacheEntry], tmp_path: Path) -> None:
    made = short["cnn"].engine_path.parent
    for source in made.glob("cnn__*_int8.cache*"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (cache,) = tmp_path.glob("*_int8.cache")
    before = cache.read_bytes()
    config, seen = RuntimeConfig(engine_cache_dir=tmp_path), list[Progress]()
    build = BuildConfig("int8", calibration_dataset=made.parent / "frames")
    entry = build_engine(made.parent / "cnn.onnx", build, config=config, host=HOST, sm="120", on_progress=seen.append)
    assert entry.sha256 == short["cnn"].sha256
    assert "calibrating" not in {told.phase for told in seen}
    assert cache.read_bytes() == before


@pytest.mark.covers("TT-01")
def test_free_sizes_are_built_through_their_profile(tmp_path: Path) -> None:
    model = onnx.load(write_cnn(tmp_path / "cnn.onnx"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, tmp_path / "cnn.onnx")
    profile = Profile("x", (1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))
    build = BuildConfig("mixed", optimization_profiles=(profile,))
    entry = build_engine(
        tmp_path / "cnn.onnx", build, config=RuntimeConfig(engine_cache_dir=tmp_path / "e"), host=HOST, sm="89"
    )
    manifest = EngineGate(for_sm("89")).validate(entry).manifest
    assert manifest.inputs[0].shape == ("batch", 3, 8, 8)
    assert manifest.outputs[0].shape == ("batch", 4, 8, 8)
    assert manifest.opt_buffer_bytes == 4 * 4 * (3 + 4) * 64


@pytest.mark.covers("TT-01")
def test_the_real_parser_names_node_and_operator(tmp_path: Path) -> None:
    helper = onnx.helper
    floats = [helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", [1, 3, 3]), ("y", [1]))]
    nodes = [helper.make_node("Relu", ["x"], ["r"], "fine"), helper.make_node("Det", ["r"], ["y"], "the_culprit")]
    graph = helper.make_graph(nodes, "g", floats[:1], floats[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "det.onnx")
    config = RuntimeConfig(engine_cache_dir=tmp_path / "e")
    with pytest.raises(EngineBuildError) as caught:
        build_engine(tmp_path / "det.onnx", BuildConfig("fp32"), config=config, host=HOST, sm="89")
    assert "refused by the parser of TensorRT-RTX 1.7.1.116: node 'the_culprit' (Det)" in caught.value.message
    assert "UNSUPPORTED_NODE" in caught.value.message
    assert not (tmp_path / "e").exists()


@pytest.mark.covers("TT-01")
def test_a_model_with_its_weights_outside_is_built(tmp_path: Path) -> None:
    path = write_cnn(tmp_path / "cnn.onnx", external=True)
    config = RuntimeConfig(engine_cache_dir=tmp_path / "e")
    for precision in ("fp32", "fp16"):
        entry = build_engine(path, BuildConfig(precision), config=config, host=HOST, sm="89")
        assert (read_manifest(entry.engine_path).weights_bytes or 0) > 500


@pytest.mark.covers("TT-03")
@pytest.mark.parametrize("sm", ["87", "90", "110"])
def test_a_jetsons_gpu_is_not_one_of_those_that_are_built_for(tmp_path: Path, sm: str) -> None:
    path = write_cnn(tmp_path / "cnn.onnx")
    with pytest.raises(
        EngineBuildError, match=rf"builds for no GPU of SM {sm}; expected one of 75, 80, 86, 89, 120, 121"
    ):
        build_engine(path, BuildConfig("fp16"), config=RuntimeConfig(engine_cache_dir=tmp_path), host=HOST, sm=sm)


# --- damage -------------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(short: dict[str, EngineCacheEntry], tmp_path: Path) -> EngineCacheEntry:
    """A copy of the smallest real engine, to be spoiled."""
    original = short["cnn"]
    for source in original.engine_path.parent.glob(f"{original.engine_path.name}*"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    return replace(original, engine_path=tmp_path / original.engine_path.name)


def again(entry: EngineCacheEntry, data: bytes) -> EngineCacheEntry:
    """The bytes under the entry's name, with a sidecar, a manifest and an entry that were written for them."""
    import hashlib

    path, digest = entry.engine_path, hashlib.sha256(data).hexdigest()
    manifest = replace(read_manifest(path), sha256=digest)
    path.write_bytes(data)
    write_sidecar(path, digest)
    write_manifest(path, manifest)
    return replace(entry, sha256=digest)


def refusal(entry: EngineCacheEntry, kind: Any = EngineSchemaMismatchError, host: HostTuple | None = None) -> str:
    with pytest.raises(EngineDeserializeError) as caught:
        EngineGate(host or for_sm("120")).validate(entry)
    assert type(caught.value) is kind, caught.value
    return str(caught.value)


@pytest.mark.covers("TR-03", "TR-04")
def test_a_real_plan_that_is_cut_anywhere_is_refused(engine: EngineCacheEntry) -> None:
    data = engine.engine_path.read_bytes()
    cuts = sorted({*range(70), *(len(data) * at // 16 for at in range(16)), len(data) - 28, len(data) - 1})
    for cut in cuts:
        engine.engine_path.write_bytes(data[:cut])
        told = refusal(engine, EngineHashMismatchError)
        assert ("an empty file" if cut == 0 else "truncated") in told, cut


@pytest.mark.covers("TR-05")
def test_a_cut_plan_is_refused_also_where_everything_beside_it_was_written_for_it(engine: EngineCacheEntry) -> None:
    data = engine.engine_path.read_bytes()
    for cut in (0, 1, 4, 16, 24, 27, 28, 64, len(data) // 2, len(data) - 1):
        assert ("an empty file" if cut == 0 else "truncated") in refusal(again(engine, data[:cut])), cut
    assert "longer than the plan in it" in refusal(again(engine, data + b"\0"))


@pytest.mark.covers("TR-03", "TR-04")
def test_a_flipped_bit_anywhere_is_refused(engine: EngineCacheEntry) -> None:
    data = bytearray(engine.engine_path.read_bytes())
    places = {*range(64), *(int(at) for at in np.random.default_rng(0).integers(0, len(data), 64)), len(data) - 1}
    for place in sorted(places):
        data[place] ^= 1 << place % 8
        engine.engine_path.write_bytes(data)
        refusal(engine, EngineHashMismatchError)
        data[place] ^= 1 << place % 8
    engine.engine_path.write_bytes(data)
    EngineGate(for_sm("120")).validate(engine)


@pytest.mark.covers("TR-05")
@pytest.mark.parametrize(
    ("at", "says"),
    [
        (0, "no TensorRT plan: it begins with b'wtrt'"),
        (16, "longer than the plan in it"),
        (18, "truncated"),
        (24, "its header says trt rtx0.7.1.116, its name trt rtx1.7"),
        (25, "its header says trt rtx1.6.1.116, its name trt rtx1.7"),
        (27, "its header says trt rtx1.7.1.117, its manifest trt rtx1.7.1.116"),
    ],
)
def test_a_bit_of_the_header_is_missed_also_where_every_hash_is_right(
    engine: EngineCacheEntry, at: int, says: str
) -> None:
    data = bytearray(engine.engine_path.read_bytes())
    if at == 16:
        length = struct.unpack_from("<Q", data, 16)[0]
        struct.pack_into("<Q", data, 16, length - 1)
    else:
        data[at] ^= {18: 0x80}.get(at, 1)
    assert says in refusal(again(engine, bytes(data)))


@pytest.mark.covers("TR-05")
@pytest.mark.parametrize(
    ("prefix", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n", "a Git LFS pointer"),
        (struct.pack("<I", 15) + b'{"stride": 32 }', "a foreign prefix of 19 bytes of JSON metadata, as Ultralytics"),
        (b"PK\3\4", "no TensorRT plan"),
        (b"\0" * 512, "no TensorRT plan"),
    ],
    ids=["lfs", "json", "zip", "zeros"],
)
def test_a_real_plan_behind_something_else_is_told_by_what_that_is(
    engine: EngineCacheEntry, prefix: bytes, says: str
) -> None:
    data = engine.engine_path.read_bytes()
    assert says in refusal(again(engine, prefix + data))
    engine.engine_path.write_bytes(prefix + data)
    assert says in refusal(engine, EngineHashMismatchError)


def move(entry: EngineCacheEntry, name: str, **changes: Any) -> EngineCacheEntry:
    """The engine under another name, with a manifest and a sidecar that agree with it."""
    old, new = entry.engine_path, entry.engine_path.with_name(name)
    manifest = replace(read_manifest(old), **changes)
    old.rename(new)
    for path in (sidecar_path(old), manifest_path(old)):
        path.unlink()
    write_manifest(new, manifest)
    write_sidecar(new, entry.sha256)
    fields = {key: value for key, value in changes.items() if key in ("sm", "precision")}
    trt = changes.get("trt", entry.trt)
    return replace(entry, engine_path=new, trt=".".join(trt.split(".")[:2]), **fields)


@pytest.mark.covers("TR-05")
def test_a_plan_of_tensorrt_rtx_under_a_name_of_tensorrt_is_told(engine: EngineCacheEntry) -> None:
    moved = move(engine, "cnn__sm120_jpnone_trt10.3_int8.engine", trt="10.3.0")
    told = refusal(moved, host=HostTuple("120", "none", "10.3.0"))
    assert "a plan of TensorRT-RTX under a name of TensorRT" in told


@pytest.mark.covers("TR-05")
def test_a_plan_of_tensorrt_under_a_name_of_tensorrt_rtx_is_told(engine: EngineCacheEntry) -> None:
    data = b"ftrt" + bytes(4) + engine.engine_path.read_bytes()[8:]
    assert "a plan of TensorRT under a name of TensorRT-RTX" in refusal(again(engine, data))


@pytest.mark.covers("TR-03", "TR-05")
@pytest.mark.parametrize(
    ("name", "changes", "host", "says"),
    [
        ("cnn__sm120_jpnone_trtrtx1.6_int8.engine", {"trt": "rtx1.6"}, HostTuple("120", "none", "rtx1.6"), "header says trt"),
        ("cnn__sm120_jpnone_trtrtx1.6_int8.engine", {}, None, "its manifest says trt rtx1.7.1.116, its name trt rtx1.6"),
        ("cnn__sm89_jpnone_trtrtx1.7_int8.engine", {}, for_sm("89"), "its manifest says sm 120, its name sm 89"),
        ("cnn__sm120_jpnone_trtrtx1.7_fp16.engine", {}, None, "its manifest says precision int8, its name precision fp16"),
    ],
    ids=["version everywhere", "version", "sm", "precision"],
)  # fmt: skip
def test_a_name_that_lies_is_refused(
    engine: EngineCacheEntry, name: str, changes: Any, host: HostTuple | None, says: str
) -> None:
    moved = move(engine, name, **changes)
    parts = name.removesuffix(".engine").split("_")
    moved = replace(moved, sm=parts[2][2:], precision=parts[5], trt=parts[4][3:])
    if host is None:
        host = replace(for_sm(moved.sm), trt=moved.trt if says.endswith("rtx1.6") else HOST.trt)
    assert says in refusal(moved, host=host)


@pytest.mark.covers("TR-02", "TR-03")
@pytest.mark.parametrize(
    ("suffix", "spoil", "says"),
    [
        (".sha256", lambda text: "", "holds no SHA-256"),
        (".sha256", lambda text: text[:63], "holds no SHA-256"),
        (".sha256", lambda text: text.upper(), "holds no SHA-256"),
        (".sha256", lambda text: text.replace("cnn", "disk"), "holds the hash of"),
        (".json", lambda text: "", "it is not JSON"),
        (".json", lambda text: text[:-20], "it is not JSON"),
        (".json", lambda text: "[]", "expected a JSON object"),
        (".json", lambda text: text.replace('"schema": 1', '"schema": 2'), "schema is 2"),
        (".json", lambda text: text.replace('"sm": "120"', '"sm": 120'), "sm is 120"),
        (".json", lambda text: text.replace('"sm": "120"', '"sm": "89"'), "its manifest says sm 89"),
        (".json", lambda text: text.replace('"header": "used"', '"header": "maybe"'), "header is 'maybe'"),
        (".json", lambda text: text.replace('"l4t": "none",', ""), "it lacks l4t"),
    ],
)
def test_a_spoiled_file_beside_a_real_engine_is_refused(
    engine: EngineCacheEntry, suffix: str, spoil: Callable[[str], str], says: str
) -> None:
    path = engine.engine_path.with_name(engine.engine_path.name + suffix)
    before = path.read_text()
    path.write_text(spoil(before))
    assert path.read_text() != before
    kind = EngineHashMismatchError if suffix == ".sha256" else EngineSchemaMismatchError
    assert says in refusal(engine, kind)


def test_the_damage_above_was_done_to_a_plan_that_tensorrt_rtx_wrote(engine: EngineCacheEntry) -> None:
    data = engine.engine_path.read_bytes()
    assert data[:4] == b"vtrt"
    assert len(data) > 100_000
