"""The wire walker against `onnx` itself, hostile external data, and bytes that are no model."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    import onnx
else:
    onnx = pytest.importorskip("onnx", reason="onnx: not installed")

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from runtime.data import TensorSpec
from runtime.errors import EngineBuildError
from runtime.model_file import check_external_data, model_sha256, read_model_facts

LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("light_*.onnx"))


def value(name: str, *shape: int | str | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def external(name: str, location: str, *, offset: int | str | None = None, length: int | str | None = 8) -> TensorProto:
    tensor = TensorProto(name=name, dims=[2], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, said in (("location", location), ("offset", offset), ("length", length)):
        if said is not None:
            tensor.external_data.add(key=key, value=str(said))
    return tensor


def model(*initializers: TensorProto, nodes: list[onnx.NodeProto] | None = None, **rest: object) -> onnx.ModelProto:
    nodes = nodes or [helper.make_node("Add", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", [value("x", 2)], [value("y", 2)], initializer=list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10, **rest)


def save(folder: Path, made: onnx.ModelProto, *data: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in data:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"12345678")
    (folder / "m.onnx").write_bytes(made.SerializeToString())
    return folder / "m.onnx"


def every_node(graph: onnx.GraphProto) -> set[tuple[str, str]]:
    found = {(node.domain, node.op_type) for node in graph.node}
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                found |= every_node(inner)
    return found


@pytest.mark.covers("TR-06")
def test_there_are_light_models_to_compare_with() -> None:
    assert len(LIGHT) == 9


@pytest.mark.covers("TR-06")
@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_facts_of_the_light_models_are_those_that_onnx_reads(path: Path) -> None:
    facts, read = read_model_facts(path), onnx.load(path)
    assert facts.ir_version == read.ir_version
    assert facts.producer == read.producer_name
    assert dict(facts.opsets) == {entry.domain: entry.version for entry in read.opset_import}
    assert facts.op_types == every_node(read.graph)
    weights = {tensor.name for tensor in read.graph.initializer}

    def specs(values: Any) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(entry.name, tuple(d.dim_value for d in entry.type.tensor_type.shape.dim), "float32")
            for entry in values
            if entry.name not in weights
        )

    assert facts.inputs == specs(read.graph.input)
    assert facts.outputs == specs(read.graph.output)
    assert model_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert check_external_data(path) == ()


@pytest.mark.covers("TR-06")
def test_facts_hold_subgraphs_functions_custom_domains_and_free_shapes(tmp_path: Path) -> None:
    inner = helper.make_graph([helper.make_node("Exp", ["x"], ["z"])], "then", [], [value("z", 2)])
    function = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Mul", ["a", "a"], ["b"])], [helper.make_opsetid("", 18)]
    )
    nodes = [
        helper.make_node("If", ["c"], ["t"], then_branch=inner, else_branch=inner),
        helper.make_node("Twice", ["t"], ["u"], domain="local"),
        helper.make_node("EPContext", ["u"], ["y"], domain="com.microsoft"),
    ]
    unranked = onnx.ValueInfoProto(name="r")
    unranked.type.tensor_type.elem_type = TensorProto.INT64
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        nodes,
        "g",
        [value("c", kind=TensorProto.BOOL), value("x", 0, "n", None, -1, kind=TensorProto.FLOAT16), unranked, sequence],
        [value("y", 2)],
    )
    opsets = [helper.make_opsetid("ai.onnx", 18), helper.make_opsetid("com.microsoft", 1)]
    path = save(tmp_path, helper.make_model(graph, functions=[function], opset_imports=opsets, producer_name="né"))
    facts = read_model_facts(path)
    assert facts.op_types == {("", "If"), ("", "Exp"), ("", "Mul"), ("com.microsoft", "EPContext")}
    assert facts.opsets == {"": 18, "com.microsoft": 1}
    assert facts.producer == "né"
    assert facts.inputs == (
        TensorSpec("c", (), "bool"),
        TensorSpec("x", (0, "n", "x_2", "x_3"), "float16"),
        TensorSpec("r", ("...",), "int64"),
        TensorSpec("s", ("...",), "undefined"),
    )


@pytest.mark.covers("TR-06")
def test_every_element_type_of_onnx_has_its_numpy_name(tmp_path: Path) -> None:
    for code in TensorProto.DataType.values():
        made = model(numpy_helper.from_array(np.zeros(2, np.float32), "w"))
        made.graph.input[0].type.tensor_type.elem_type = code
        dtype = read_model_facts(save(tmp_path, made)).inputs[0].dtype
        assert dtype == (helper.tensor_dtype_to_np_dtype(code).name if code else "undefined")


def hosts(tensor: TensorProto) -> dict[str, onnx.ModelProto]:
    """One model for each place where ONNX lets a tensor stand."""
    sparse = onnx.SparseTensorProto(
        values=tensor, indices=helper.make_tensor("i", TensorProto.INT64, [2], [0, 1]), dims=[4]
    )
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    branch = helper.make_graph([constant], "b", [], [value("w", 2)])
    for _ in range(3):
        branch = helper.make_graph(
            [helper.make_node("If", ["c"], ["w"], then_branch=branch, else_branch=helper.make_graph([], "e", [], []))],
            "b",
            [],
            [value("w", 2)],
        )
    function = helper.make_function("local", "F", [], ["w"], [constant], [helper.make_opsetid("", 18)])
    several = helper.make_node("Custom", ["x"], ["y"], domain="d")
    several.attribute.append(onnx.AttributeProto(name="ts", type=onnx.AttributeProto.TENSORS, tensors=[tensor]))
    default = helper.make_function("local", "F", [], ["w"], [constant], [helper.make_opsetid("", 18)])
    del default.node[:]
    default.attribute_proto.append(helper.make_attribute("d", tensor))
    made = {
        "initializer": model(tensor),
        "sparse initializer": model(),
        "attribute": model(nodes=[constant]),
        "attribute with several": model(nodes=[several]),
        "sparse attribute": model(nodes=[helper.make_node("Constant", [], ["w"], sparse_value=sparse)]),
        "nested subgraph": model(nodes=list(branch.node)),
        "function": model(functions=[function]),
        "default of a function": model(functions=[default]),
        "training": model(),
    }
    made["sparse initializer"].graph.sparse_initializer.append(sparse)
    made["training"].training_info.add().algorithm.initializer.append(tensor)
    return made


@pytest.mark.covers("TR-06")
@pytest.mark.parametrize("place", sorted(hosts(external("w", "w.bin"))))
def test_external_data_is_found_wherever_a_tensor_may_stand(tmp_path: Path, place: Any) -> None:
    inside = save(tmp_path, hosts(external("w", "sub/w.bin"))[place], "sub/w.bin")
    assert check_external_data(inside) == (tmp_path / "sub/w.bin",)
    outside = save(tmp_path, hosts(external("w", "../w.bin"))[place])
    with pytest.raises(EngineBuildError, match=re.escape("'../w.bin' leaves the model's folder")):
        check_external_data(outside)


@pytest.mark.covers("TR-06")
def test_a_model_that_onnx_saved_with_external_data_is_read_and_hashed_over_both_files(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.arange(2000, dtype=np.float32), "w")
    path = tmp_path / "m.onnx"
    onnx.save(model(weights), path, save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    data = tmp_path / "m.onnx.data"
    assert check_external_data(path) == (data,)

    def digest(file: Path) -> str:
        return hashlib.sha256(file.read_bytes()).hexdigest()

    listing = f"{digest(path)}  .\n{digest(data)}  m.onnx.data\n"
    before = model_sha256(path)
    assert before == hashlib.sha256(listing.encode()).hexdigest()
    changed = bytearray(data.read_bytes())
    changed[-1] ^= 1
    data.write_bytes(changed)
    assert model_sha256(path) != before
    moved = tmp_path / "other"
    moved.mkdir()
    shutil.copy(path, moved / "renamed.onnx")
    shutil.copy(data, moved)
    assert model_sha256(moved / "renamed.onnx") == model_sha256(path)


@pytest.mark.covers("TR-06")
@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("/etc/passwd", "is an absolute path"),
        ("C:\\data.bin", "is an absolute path"),
        ("\\\\server\\share\\data.bin", "is an absolute path"),
        ("..", "leaves the model's folder"),
        ("../w.bin", "leaves the model's folder"),
        ("sub/../w.bin", "leaves the model's folder"),
        ("sub\\..\\..\\w.bin", "leaves the model's folder"),
        ("w.bin\0.txt", "is not a file name"),
        ("", "is not a file name"),
        (".", "is not a regular file"),
        ("sub", "is not a regular file"),
        ("fifo", "is not a regular file"),
        ("link.bin", "goes through the symbolic link 'link.bin'"),
        ("linked/w.bin", "goes through the symbolic link 'linked'"),
        ("hard.bin", "is a hard link"),
        ("missing.bin", "cannot be found: No such file"),
        ("w.bin/more", "cannot be found: Not a directory"),
        ("x" * 300, "cannot be found: File name too long"),
        ("*/_ORT_MEM_ADDR_/*", "cannot be found"),
    ],
)
def test_external_data_that_leaves_the_folder_or_is_no_plain_file_is_refused(
    tmp_path: Path, location: Any, words: Any
) -> None:
    path = save(tmp_path / "model", model(external("w", location)), "w.bin", "sub/w.bin", "../outside.bin")
    (tmp_path / "model/link.bin").symlink_to("w.bin")
    (tmp_path / "model/linked").symlink_to("sub")
    (tmp_path / "model/hard.bin").hardlink_to(tmp_path / "outside.bin")
    os.mkfifo(tmp_path / "model/fifo")
    for act in (check_external_data, model_sha256):
        with pytest.raises(EngineBuildError, match=re.escape(words)) as caught:
            act(path)
        assert "model's own folder" in caught.value.remedy


@pytest.mark.covers("TR-06")
@pytest.mark.parametrize(
    ("offset", "length", "words"),
    [
        (0, 9, "has 8 bytes, and a tensor ends at 9"),
        (1, 8, "has 8 bytes, and a tensor ends at 9"),
        (9, None, "has 8 bytes, and a tensor ends at 9"),
        (-1, 8, "the offset or length '-1'"),
        (0, -8, "the offset or length '-8'"),
        (2**70, 8, "the offset or length '1180591620717411303424'"),
        ("1e3", 8, "the offset or length '1e3'"),
        ("٣", 8, "the offset or length '٣'"),
        (10**18 - 1, 10**18 - 1, "a tensor ends at 1999999999999999998"),
    ],
)
def test_a_tensor_beyond_its_external_file_is_refused(tmp_path: Path, offset: Any, length: Any, words: Any) -> None:
    path = save(tmp_path, model(external("w", "w.bin", offset=offset, length=length)), "w.bin")
    with pytest.raises(EngineBuildError, match=re.escape(words)):
        check_external_data(path)


@pytest.mark.covers("TR-06")
def test_external_data_that_is_a_git_lfs_pointer_is_said_to_be_one(tmp_path: Path) -> None:
    path = save(tmp_path, model(external("w", "w.bin", length=4096)))
    (tmp_path / "w.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4096\n")
    with pytest.raises(EngineBuildError, match=r"w\.bin is a Git LFS pointer"):
        check_external_data(path)


@pytest.mark.covers("TR-06")
def test_a_location_that_is_given_twice_is_refused_since_readers_differ_on_it(tmp_path: Path) -> None:
    tensor = external("w", "w.bin")
    tensor.external_data.add(key="location", value="../../etc/passwd")
    with pytest.raises(EngineBuildError, match="gives its external location twice"):
        check_external_data(save(tmp_path, model(tensor), "w.bin"))


@pytest.mark.covers("TR-06")
@pytest.mark.parametrize("flag", [b"\x70\x01", b"\x70\x81\x80\x00", b"\x70\x81\x80\x80\x80\x10"])
def test_every_way_to_write_the_external_flag_is_seen(tmp_path: Path, flag: Any) -> None:
    tensor = external("w", "../w.bin")
    tensor.ClearField("data_location")
    raw = tensor.SerializeToString() + flag
    assert TensorProto.FromString(raw).data_location == TensorProto.EXTERNAL
    made = model(tensor).SerializeToString()
    head = model().SerializeToString()
    assert made.count(tensor.SerializeToString()) == 1

    def field(number: int, body: bytes) -> bytes:
        return bytes([number << 3 | 2, len(body)]) + body

    (tmp_path / "m.onnx").write_bytes(head + field(7, field(5, raw)))  # a second graph field merges with the first
    assert onnx.load(tmp_path / "m.onnx", load_external_data=False).graph.initializer[0].data_location == 1
    with pytest.raises(EngineBuildError, match="leaves the model's folder"):
        check_external_data(tmp_path / "m.onnx")


GOOD = model(numpy_helper.from_array(np.zeros(2, np.float32), "w")).SerializeToString()


@pytest.mark.covers("TR-06", "OR-01")
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a Git LFS pointer"),
        (GOOD[:-20], "is truncated or damaged"),
        (GOOD[: len(GOOD) // 2], "is truncated or damaged"),
        (b"\x08\x0a\x42\x02\x10\x12", "is truncated or damaged: it holds no graph"),
        (b"\x08\x0a\x10" + b"\x80" * 10 + b"\x01" + GOOD, "a number that does not end before byte 13"),
        (GOOD[:1], r"is truncated or damaged|is not an ONNX file"),
        (
            b"PK\x03\x04" + bytes(100),
            r"m\.onnx is not an ONNX file: a zip archive \(a torch checkpoint is one\), 104 bytes\.",
        ),
        (b"<!DOCTYPE html><html></html>", "is not an ONNX file: a page of HTML, 28 bytes"),
        (
            b"hello world, this is a text",
            "is not an ONNX file: text that begins 'hello world, this is a text', 27 bytes",
        ),
        ("grüße".encode() * 20, "is not an ONNX file: text that begins 'grüße"),
        (bytes(range(128, 256)), "is not an ONNX file: a Python pickle, 128 bytes"),
        (bytes(range(200, 256)), "is not an ONNX file: binary data that begins c8 c9 ca cb cc cd ce cf, 56 bytes"),
    ],
)
def test_what_is_no_model_is_told_apart(tmp_path: Path, data: Any, words: Any) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    for act in (model_sha256, check_external_data, read_model_facts):
        with pytest.raises(EngineBuildError, match=words) as caught:
            act(path)
        assert caught.value.remedy


@pytest.mark.covers("TR-06", "OR-01")
def test_every_truncation_of_a_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for length in range(len(GOOD)):
        path.write_bytes(GOOD[:length])
        with pytest.raises(EngineBuildError):
            read_model_facts(path)


@pytest.mark.covers("OR-01")
def test_a_model_path_that_is_missing_a_folder_or_a_fifo_is_a_clear_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.onnx")
    for name, words in (("none.onnx", "is not in"), (".", "cannot be read"), ("fifo.onnx", "not a regular file")):
        with pytest.raises(EngineBuildError, match=words):
            model_sha256(tmp_path / name)


@pytest.mark.covers("TR-06")
def test_a_model_may_be_reached_through_a_link_and_a_checkpoint_is_hashed_as_it_is(tmp_path: Path) -> None:
    path = save(tmp_path / "store", model(external("w", "w.bin")), "w.bin")
    shutil.copy(path, tmp_path / "plain.onnx")
    (tmp_path / "store/link.onnx").symlink_to("m.onnx")
    assert model_sha256(tmp_path / "store/link.onnx") == model_sha256(path)
    (tmp_path / "m.pt").write_bytes(b"PK\x03\x04 a checkpoint")
    assert model_sha256(tmp_path / "m.pt") == hashlib.sha256(b"PK\x03\x04 a checkpoint").hexdigest()
    (tmp_path / "m.pt").write_bytes(b"")
    with pytest.raises(EngineBuildError, match="is an empty file"):
        model_sha256(tmp_path / "m.pt")


SEEDS = [
    hosts(external("w", "w.bin"))[place].SerializeToString() for place in ("nested subgraph", "function", "training")
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        position = draw(st.integers(0, len(data)))
        data[position : position + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


@pytest.mark.covers("TR-06")
@settings(max_examples=400, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300) | damaged())
def test_any_bytes_give_an_answer_or_a_build_error_and_quickly(tmp_path: Path, data: Any) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    for act in (check_external_data, read_model_facts, model_sha256):
        try:
            act(path)
        except EngineBuildError:
            continue


@pytest.mark.covers("TR-06")
def test_deep_nesting_and_many_small_fields_take_no_recursion_and_little_time(tmp_path: Path) -> None:
    nested = b""
    for _ in range(3000):  # a graph in an attribute of a node of a graph, and so on
        for number in (6, 5, 1):
            size, head = len(nested), bytes([number << 3 | 2])
            while size > 127:
                head += bytes([size & 127 | 128])
                size >>= 7
            nested = head + bytes([size]) + nested
    (tmp_path / "deep.onnx").write_bytes(b"\x08\x0a\x42\x02\x10\x12\x3a" + _varint(len(nested)) + nested)
    (tmp_path / "wide.onnx").write_bytes(b"\x08\x0a\x42\x02\x10\x12\x3a\x00" + b"\x28\x01" * 200_000)
    for name in ("deep.onnx", "wide.onnx"):
        start = time.perf_counter()
        read_model_facts(tmp_path / name)
        assert time.perf_counter() - start < 10.0  # a walk that backtracks takes minutes


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])
