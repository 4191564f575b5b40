"""`trigate init`: whatever a model, its files and its dimensions are called, what is written is read back."""

import string
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config import load_configuration
from harness.errors import UsageError
from harness.init import write_configuration

LETTERS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
STEMS = LETTERS.filter(lambda name: name not in (".", ".."))
DIMS = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from('"\\\n#=.-' + string.digits)), max_size=8
)


def test_the_example_has_a_board_and_a_model_and_is_read_back(tmp_path: Path) -> None:
    configuration = load_configuration(write_configuration(tmp_path / "my.toml", None))
    assert configuration.boards["orin-nx"].module == "p3767-0000"
    assert configuration.boards["orin-nx"].gpu_memory_bytes == 4 << 30
    assert configuration.models["matcher"].onnx == tmp_path / "matcher.onnx"
    assert configuration.models["matcher"].budget["orin-nx"].p95_ms == 60


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    target = tmp_path / "my.toml"
    target.write_text("mine")
    with pytest.raises(UsageError, match=r"exists\. Give another --out"):
        write_configuration(target, None)
    assert target.read_text() == "mine"


def test_a_folder_that_is_not_there_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written: No such file or directory"):
        write_configuration(tmp_path / "absent" / "my.toml", None)
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None)
@given(name=LETTERS.filter(lambda name: name not in (".", "..") and len(name.encode()) < 200))
def test_the_configuration_may_be_called_anything(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert load_configuration(write_configuration(Path(folder) / name, None)).models.keys() == {"matcher"}


class TestOfAModel:
    """Filled from an ONNX file."""

    @pytest.fixture(autouse=True)
    def _with_onnx(self) -> None:
        pytest.importorskip("onnx", reason="onnx: not installed")

    @settings(deadline=None)
    @given(stem=STEMS, first=DIMS, second=DIMS, tensor=DIMS)
    def test_any_name_is_read_back(self, stem: str, first: str, second: str, tensor: str) -> None:
        import onnx
        from onnx import TensorProto, helper

        sizes = [first or 3, second or 4]
        graph = helper.make_graph(
            [helper.make_node("Relu", [f"x{tensor}"], ["y"])],
            "any",
            [helper.make_tensor_value_info(f"x{tensor}", TensorProto.FLOAT, sizes)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, sizes)],
        )
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / f"{stem}.onnx"
            onnx.save(helper.make_model(graph), str(model))
            configuration = load_configuration(write_configuration(Path(folder) / "my.toml", model))
            (read,) = configuration.models.values()
            assert read.onnx is not None
            assert read.onnx.resolve() == model.resolve()
            assert dict(read.dims) == {size: (1, 1, 1) for size in (first, second) if size}

    def test_a_model_elsewhere_is_named_by_its_whole_path(self, tmp_path: Path) -> None:
        from tests.harness import tiny

        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        model = tiny.write_onnx(tmp_path / "a" / "tiny.onnx")
        target = write_configuration(tmp_path / "b" / "my.toml", model)
        assert load_configuration(target).models["tiny"].onnx == model.resolve()
        assert "# input x: float32 [2, 16]" in target.read_text()

    @pytest.mark.parametrize("data", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"])
    def test_what_is_no_model_is_refused_by_name_and_nothing_is_written(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "m.onnx").write_bytes(data)
        with pytest.raises(UsageError, match=r"m\.onnx"):
            write_configuration(tmp_path / "my.toml", tmp_path / "m.onnx")
        assert not (tmp_path / "my.toml").exists()
