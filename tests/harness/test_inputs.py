import importlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.inputs import call_hook, check_feeds, concrete, load_npz, made_up, resolve_hook
from runtime.data import TensorSpec

IMAGE = TensorSpec("image", (1, 3, "h", 64), "float32")


def test_made_up_images_are_textured_in_range_and_repeatable() -> None:
    first, second = made_up([IMAGE], {"h": 48}, 2, seed=1)
    again = made_up([IMAGE], {"h": 48}, 2, seed=1)[0]
    image = first["image"]
    assert image.shape == (1, 3, 48, 64)
    assert image.dtype == np.float32
    assert image.min() == 0.0
    assert image.max() == 1.0
    assert np.array_equal(image, again["image"])
    assert not np.array_equal(image, second["image"])
    neighbours = np.corrcoef(image[0, 0, :, :-1].ravel(), image[0, 0, :, 1:].ravel())[0, 1]
    assert neighbours > 0.6  # white noise would have none


@given(st.sampled_from(["float32", "float16", "int64", "bool", "uint8"]), st.lists(st.integers(1, 4), max_size=4))
def test_made_up_inputs_fit_any_signature(dtype: Any, shape: Any) -> None:
    spec = TensorSpec("x", tuple(shape), dtype)
    feeds = made_up([spec], {}, 1, seed=0)
    check_feeds(feeds, [spec], "made up")
    assert feeds[0]["x"].dtype == dtype


def test_a_dimension_without_a_size_is_named() -> None:
    with pytest.raises(UsageError, match="how large 'h' is"):
        concrete(IMAGE, {})
    with pytest.raises(UsageError, match="no input can be made up"):
        made_up([TensorSpec("s", (1,), "object")], {}, 1, seed=0)


@pytest.mark.parametrize(
    ("feed", "says"),
    [
        ({}, "lacks ['image']"),
        ({"image": np.zeros((1, 3, 8, 64), np.float32), "x": np.zeros(1)}, "unknown ['x']"),
        ({"image": np.zeros((1, 3, 8, 63), np.float32)}, "1x3x8x63; the model takes float32 1x3xhx64"),
        ({"image": np.zeros((1, 3, 64), np.float32)}, "1x3x64; the model takes"),
        ({"image": np.zeros((1, 3, 8, 64), np.float64)}, "is float64 1x3x8x64"),
        ({"image": np.full((1, 3, 8, 64), np.nan, np.float32)}, "holds nan at [0, 0, 0, 0]"),
        ({"image": np.full((1, 3, 8, 64), np.inf, np.float32)}, "holds inf at"),
    ],
)
def test_feeds_that_do_not_fit_are_refused_before_anything_is_built(feed: Any, says: Any) -> None:
    with pytest.raises(UsageError) as refused:
        check_feeds([feed], [IMAGE], "inputs")
    assert says in str(refused.value)


def test_files_are_samples_in_the_order_of_their_names(tmp_path: Path) -> None:
    for at in (2, 1):
        np.savez(tmp_path / f"s{at}.npz", x=np.full(1, at))
    assert [int(feed["x"][0]) for feed in load_npz("s*.npz", tmp_path)] == [1, 2]
    with pytest.raises(UsageError, match="no inputs match"):
        load_npz("t*.npz", tmp_path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 broken", b"plain text"])
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, data: Any) -> None:
    (tmp_path / "s.npz").write_bytes(data)
    with pytest.raises(UsageError, match=r"is no \.npz file"):
        load_npz("s.npz", tmp_path)


def test_a_pickle_inside_an_npz_is_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", x=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match="is no"):
        load_npz("s.npz", tmp_path)


def test_a_hook_yields_feeds_and_its_failures_are_told(tmp_path: Path) -> None:
    (tmp_path / "hooks_of_a_test.py").write_text(
        "import numpy as np\n"
        "def feeds():\n    yield {'x': np.zeros(2)}\n"
        "def nothing():\n    return []\n"
        "def wrong():\n    return [1]\n"
        "number = 3\n"
    )
    assert call_hook("hooks_of_a_test:feeds", [tmp_path])[0]["x"].shape == (2,)
    for hook, says in (
        ("nothing", "yields nothing"),
        ("wrong", "yields a int"),
        ("absent", "cannot be loaded"),
        ("number", "is a int"),
    ):
        with pytest.raises(UsageError, match=says):
            call_hook(f"hooks_of_a_test:{hook}", [tmp_path])
    with pytest.raises(UsageError, match="cannot be loaded: ModuleNotFoundError"):
        resolve_hook("no_such_module_at_all:f", [tmp_path])


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def cases(): ...\nclass Frames: ...\n", "has no 'case'. Did you mean 'cases'? It has Frames, cases."),
        ("from os.path import join\ndef frames(): ...\n", "has no 'case'. It has frames."),
        ("from os.path import join\n", "has no 'case'. It has join."),
        ("value = 3\n", "has no 'case'. It has no function and no class."),
        ("".join(f"def f{at:02}(): ...\n" for at in range(14)), "f10, f11 and 2 more."),
    ],
)
def test_a_hook_that_is_not_there_is_told_with_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, says: str
) -> None:
    (tmp_path / "hooks_that_are.py").write_text(source)
    monkeypatch.delitem(sys.modules, "hooks_that_are", raising=False)
    importlib.invalidate_caches()
    with pytest.raises(UsageError, match=re.escape(says)):
        resolve_hook("hooks_that_are:case", [tmp_path])


def test_a_module_that_ends_the_process_does_not_end_it_in_green(tmp_path: Path) -> None:
    (tmp_path / "quits_at_import.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(UsageError, match="quits_at_import:frames cannot be loaded: SystemExit: 0"):
        resolve_hook("quits_at_import:frames", [tmp_path])
