"""Which way a precision is expressed, by what the library can do; and what becomes of the model on that way."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.calibration import open_dataset
from runtime.data import TensorSpec
from runtime.errors import CalibrationCacheError, EngineBuildError, RuntimeNotAvailableError
from runtime.strategies.trt_precision import choose, prepare

pytestmark = pytest.mark.covers("TT-02")

TEN_3: Any = {"strong_typing": False, "precision_flags": True, "calibrators": True}
TEN_13: Any = {"strong_typing": True, "precision_flags": True, "calibrators": True}
ELEVEN: Any = {"strong_typing": True, "precision_flags": False, "calibrators": False}
NO_CALIBRATOR: Any = {"strong_typing": False, "precision_flags": True, "calibrators": False}


@pytest.mark.parametrize(
    ("library", "precision", "has_ranges", "name", "flags", "casts"),
    [
        (TEN_3, "fp32", False, "flags", (), False),
        (TEN_3, "fp16", False, "flags", ("FP16",), False),
        (TEN_3, "int8", True, "flags+calibrator", ("INT8",), False),
        (TEN_3, "mixed", True, "flags+calibrator", ("FP16", "INT8"), False),
        (TEN_3, "mixed", False, "flags", ("FP16",), False),
        (NO_CALIBRATOR, "int8", True, "flags+qdq", ("INT8",), False),
        (TEN_13, "fp32", False, "strongly-typed", (), False),
        (TEN_13, "fp16", False, "strongly-typed", (), True),
        (ELEVEN, "fp16", True, "strongly-typed", (), True),
        (ELEVEN, "int8", True, "strongly-typed+qdq", (), False),
        (ELEVEN, "mixed", True, "strongly-typed+qdq", (), True),
        (ELEVEN, "mixed", False, "strongly-typed", (), True),
    ],
)
def test_the_way_follows_from_what_the_library_can_do(
    library: Any, precision: str, has_ranges: bool, name: str, flags: Any, casts: bool
) -> None:
    way = choose(precision, **library, has_ranges=has_ranges)
    assert (way.name, way.flags, way.casts) == (name, flags, casts)
    assert not (way.is_strongly_typed and way.flags)


@pytest.mark.parametrize(
    ("library", "typing", "name"),
    [
        (TEN_13, "flags", "flags+calibrator"),
        (TEN_13, "strongly-typed", "strongly-typed+qdq"),
        (TEN_3, "flags", "flags+calibrator"),
    ],
)
def test_of_two_ways_the_one_that_is_asked_for_is_taken(library: Any, typing: str, name: str) -> None:
    assert choose("int8", **library, has_ranges=True, typing=typing).name == name


@pytest.mark.parametrize(("library", "typing"), [(ELEVEN, "flags"), (TEN_3, "strongly-typed")])
def test_a_way_that_a_library_lost_or_never_had_is_refused_by_its_name(library: Any, typing: str) -> None:
    with pytest.raises(EngineBuildError, match=f"by the route '{typing}'"):
        choose("fp16", **library, has_ranges=False, typing=typing)


def test_a_library_with_no_way_at_all_is_refused() -> None:
    with pytest.raises(EngineBuildError, match="fp16 cannot be expressed"):
        choose("fp16", strong_typing=False, precision_flags=False, calibrators=False, has_ranges=False)


def test_a_model_that_needs_nothing_is_the_file_itself(tmp_path: Path) -> None:
    way = choose("fp16", **TEN_3, has_ranges=False)
    assert prepare(tmp_path / "absent.onnx", way, tmp_path / "b.onnx").model == tmp_path / "absent.onnx"


def dataset(folder: Path, count: int = 3) -> Any:
    folder.mkdir()
    for at in range(count):
        sample = np.random.default_rng(at).uniform(0, 1, (1, 3, 8, 8)).astype(np.float32)
        np.savez(folder / f"{at}.npz", x=sample)
    return open_dataset(folder, [TensorSpec("x", (1, 3, 8, 8), "float32")])


def ops(path: Path) -> list[str]:
    import onnx

    return [node.op_type for node in onnx.load(path).graph.node]


def test_ranges_are_measured_once_and_then_taken_from_the_cache(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx: not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")
    from tests.runtime.strategies.test_onnx_int8 import write_cnn

    source, done = write_cnn(tmp_path / "a.onnx"), list[int]()
    way = choose("mixed", **ELEVEN, has_ranges=True)
    first = prepare(source, way, tmp_path / "b.onnx", dataset=dataset(tmp_path / "frames"), on_sample=done.append)
    assert done == [1, 2, 3]
    assert first.cache is not None
    assert {"QuantizeLinear", "Cast"} <= set(ops(first.model))
    done.clear()
    again = prepare(source, way, tmp_path / "c.onnx", cache=first.cache, on_sample=done.append)
    assert (again.cache, done) == (None, [])
    assert again.model.read_bytes() == first.model.read_bytes()


def test_inputs_that_change_while_ranges_are_measured_are_an_error_of_calibration(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx: not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")
    from tests.runtime.strategies.test_onnx_int8 import write_cnn

    source, frames = write_cnn(tmp_path / "a.onnx"), dataset(tmp_path / "frames")
    np.savez(tmp_path / "frames" / "2.npz", x=np.ones((1, 3, 8, 8), np.float32))
    with pytest.raises(CalibrationCacheError, match="changed while they were used"):
        prepare(source, choose("int8", **ELEVEN, has_ranges=True), tmp_path / "b.onnx", dataset=frames)


def test_a_model_that_has_no_such_form_is_refused_by_its_name(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx: not installed")
    helper = onnx.helper
    floats = [helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    huge = onnx.numpy_helper.from_array(np.array([1e6], np.float32), "w")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", floats[:1], floats[1:], [huge])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "a.onnx")
    with pytest.raises(EngineBuildError, match=r"a\.onnx cannot be cast to fp16: 'w' holds 1e\+06"):
        prepare(tmp_path / "a.onnx", choose("fp16", **ELEVEN, has_ranges=False), tmp_path / "b.onnx")


def test_a_host_without_onnx_is_told_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        RuntimeNotAvailableError, match=r"casting a\.onnx needs onnx, which cannot be imported"
    ) as caught:
        prepare(tmp_path / "a.onnx", choose("fp16", **ELEVEN, has_ranges=False), tmp_path / "b.onnx")
    assert "pip install onnx" in caught.value.remedy
