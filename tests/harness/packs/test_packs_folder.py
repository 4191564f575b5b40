"""Packs: made once per content, whole or absent, and refused by the file that is not what was packed."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx: not installed")

from harness.config import Configuration, ModelConfig, ToleranceRule  # noqa: E402
from harness.errors import UsageError  # noqa: E402
from harness.packs.folder import Pack, load_pack, write_pack  # noqa: E402
from harness.packs.maker import Maker  # noqa: E402
from harness.packs.model import ModelPack  # noqa: E402
from runtime.architectures import ArchitectureRegistry  # noqa: E402
from runtime.data import Profile  # noqa: E402
from tests.harness import tiny  # noqa: E402


def maker(cache: Path, said: list[str] | None = None) -> Maker:
    return Maker(cache, {}, ArchitectureRegistry(), say=(lambda words: None) if said is None else said.append)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """The tiny model, packed in a cache that no test changes."""
    folder = tmp_path_factory.mktemp("made")
    model = ModelConfig("tiny", onnx=tiny.write_onnx(folder / "tiny.onnx"), precision=("fp32",))
    return maker(folder / "cache").make([model])


@pytest.fixture
def packed(made: Pack, tmp_path: Path) -> Path:
    write_pack(made, Configuration("my.toml", tmp_path, "0" * 64), tmp_path / "pack")
    return tmp_path / "pack"


def test_a_pack_is_read_back_as_it_was_made(made: Pack, packed: Path) -> None:
    read = load_pack(packed)
    assert read == made
    assert [path.name for path in packed.parent.iterdir()] == ["pack"]
    tiny_pack = read.models["tiny"]
    feeds, references = tiny_pack.feeds(), tiny_pack.references()
    assert len(feeds) == len(references) == 4
    assert {name: (a.shape, a.dtype) for name, a in feeds[0].items()} == {"x": ((2, 16), np.dtype("float32"))}
    assert {name: (a.shape, a.dtype) for name, a in references[0].items()} == {"y": ((2, 4), np.dtype("float64"))}
    assert tiny_pack.tolerances.keys() == {"fp32"}


@pytest.mark.covers("TR-06")
@pytest.mark.parametrize("name", ["model.onnx", "inputs.npz", "reference.npz", "model.json"])
def test_a_file_whose_bytes_changed_is_refused_by_its_name(packed: Path, name: str) -> None:
    path = packed / "tiny" / name
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(UsageError) as refused:
        load_pack(packed)
    assert str(refused.value).startswith(f"{path} was changed since the pack was made.")


def test_a_file_that_is_missing_or_was_put_there_is_refused_by_its_name(packed: Path) -> None:
    extra = packed / "tiny" / "expected.npz"
    shutil.copyfile(packed / "tiny" / "reference.npz", extra)
    with pytest.raises(UsageError, match=r"expected\.npz was put there since the pack was made"):
        load_pack(packed)
    extra.unlink()
    (packed / "tiny" / "reference.npz").unlink()
    with pytest.raises(UsageError, match=r"reference\.npz is missing since the pack was made"):
        load_pack(packed)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sha256": "0" * 64}, "pack.json was changed"),
        ({"schema": 99}, "is a pack of schema 99"),
        ({"models": {"tiny": "0" * 64}}, "cannot be read"),
        ({"models": []}, "cannot be read"),
        ({"seed": "x"}, "cannot be read"),
    ],
    ids=str,
)
def test_a_table_that_does_not_fit_is_refused(packed: Path, changes: dict[str, Any], says: str) -> None:
    table = packed / "pack.json"
    table.write_text(json.dumps({**json.loads(table.read_text()), **changes}))
    with pytest.raises(UsageError, match=says):
        load_pack(packed)


class Interrupted(dict[str, ModelPack]):
    """Models of which the second is never reached: Ctrl-C comes first."""

    def items(self) -> Any:
        def first() -> Iterator[tuple[str, ModelPack]]:
            yield next(iter(super(Interrupted, self).items()))
            raise KeyboardInterrupt

        return first()


def test_an_interrupted_pack_leaves_nothing_half_made(made: Pack, tmp_path: Path) -> None:
    pack = replace(made, models=Interrupted(made.models))
    with pytest.raises(KeyboardInterrupt):
        write_pack(pack, Configuration("my.toml", tmp_path, ""), tmp_path / "out" / "pack")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_pack_that_cannot_be_copied_leaves_nothing_and_says_so(made: Pack, tmp_path: Path) -> None:
    shutil.copytree(made.models["tiny"].folder, tmp_path / "broken")
    (tmp_path / "broken" / "lost").symlink_to(tmp_path / "nowhere")
    pack = replace(made, models={"tiny": replace(made.models["tiny"], folder=str(tmp_path / "broken"))})
    with pytest.raises(UsageError, match="Nothing was left there") as refused:
        write_pack(pack, Configuration("my.toml", tmp_path, ""), tmp_path / "out" / "pack")
    assert "None" not in str(refused.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_there_is_not_overwritten(made: Pack, packed: Path) -> None:
    (packed.parent / "file").write_text("mine")
    for taken in (packed, packed.parent / "file"):
        with pytest.raises(UsageError, match="Give a new folder"):
            write_pack(made, Configuration("my.toml", packed, ""), taken)
    assert load_pack(packed) == made


def test_a_model_is_made_once_per_content(tmp_path: Path) -> None:
    model = ModelConfig("tiny", onnx=tiny.write_onnx(tmp_path / "tiny.onnx"), precision=("fp32",))
    said: list[str] = []
    first = maker(tmp_path / "cache", said).make([model])
    assert len(said) == 2
    assert maker(tmp_path / "cache", said).make([model]) == first
    assert len(said) == 2
    tiny.write_onnx(tmp_path / "tiny.onnx", tiny.weights(seed=4))
    other = maker(tmp_path / "cache", said).make([model])
    assert len(said) == 4
    assert other.sha256 != first.sha256
    assert not list((tmp_path / "cache").glob("making-*"))


def test_a_model_that_cannot_be_packed_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    model = ModelConfig(
        "tiny", onnx=tiny.write_onnx(tmp_path / "tiny.onnx"), tolerance={"absent": ToleranceRule("ignore")}
    )
    failed: dict[str, str] = {}
    assert maker(tmp_path / "cache").make([model], failed).models == {}
    assert failed == {"tiny": "model 'tiny': tolerance names ['absent']; its outputs are y."}
    assert list((tmp_path / "cache").iterdir()) == [tmp_path / "cache" / "models"]
    assert list((tmp_path / "cache" / "models").iterdir()) == []
    with pytest.raises(UsageError, match="model 'tiny'"):
        maker(tmp_path / "cache").make([model])


def test_a_checkpoint_alone_is_told_with_all_that_is_to_be_added(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(b"weights")
    alone = maker(tmp_path / "cache")
    model = ModelConfig("net", checkpoint=path, architecture="net")
    with pytest.raises(
        UsageError, match=r"net\.pt holds weights alone\. Give --architecture net=\S+ .*, and --inputs "
    ):
        alone.make([model])
    alone.registry.register("net", object)
    with pytest.raises(UsageError, match=r"net\.pt holds weights alone\. Give --inputs 'FILES"):
        alone.make([model])


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model = ModelConfig("tiny", onnx=tiny.write_onnx(tmp_path / "tiny.onnx"))
    with pytest.raises(UsageError, match="cannot be written: Not a directory"):
        maker(tmp_path / "file" / "cache").make([model])


@pytest.mark.covers("T1-01")
def test_stated_and_ignored_tolerances_are_for_the_deployed_lane_with_their_reason(tmp_path: Path) -> None:
    stated = ToleranceRule("stated", rel_l2=2e-3, why="ADR 7")
    onnx_file = tiny.write_onnx(tmp_path / "tiny.onnx")
    ruled = maker(tmp_path).make([ModelConfig("tiny", onnx=onnx_file, tolerance={"y": stated})]).models["tiny"]
    fp16 = ruled.tolerances["fp16"]["y"]
    assert (fp16.source, fp16.rel_l2_max, fp16.rel_l2_median, fp16.why) == ("stated", 2e-3, 2e-3, "ADR 7")
    assert ruled.tolerances["fp32"]["y"].source == "derived"
    ignore = {"default": ToleranceRule("ignore")}
    ignored = maker(tmp_path).make([ModelConfig("tiny", onnx=onnx_file, tolerance=ignore)]).models["tiny"]
    assert {lane["y"].source for lane in ignored.tolerances.values()} == {"ignore"}
    assert {lane["y"].rel_l2_max for lane in ignored.tolerances.values()} == {None}


def test_a_damaged_file_of_the_cache_is_told_by_its_name(made: Pack, tmp_path: Path) -> None:
    shutil.copytree(made.models["tiny"].folder, tmp_path / "tiny")
    damaged = replace(made.models["tiny"], folder=str(tmp_path / "tiny"))
    (tmp_path / "tiny" / "inputs.npz").write_bytes(b"PK\3\4 not a zip")
    with pytest.raises(UsageError, match=r"inputs\.npz is damaged"):
        damaged.feeds()


def test_int8_needs_calibration_inputs_and_packs_them_beside_the_model(tmp_path: Path) -> None:
    onnx = tiny.write_onnx(tmp_path / "tiny.onnx")
    asked = ModelConfig("tiny", onnx=onnx, precision=("int8",), tolerance={"y": ToleranceRule("stated", 0.05, "felt")})
    with pytest.raises(UsageError, match="asks for int8, and nothing says what to calibrate on"):
        maker(tmp_path / "cache").make([asked])
    chance = np.random.default_rng(5)
    for at in range(3):
        np.savez(tmp_path / f"frame{at}.npz", x=chance.standard_normal((2, tiny.WIDTH)).astype(np.float32))
    first = maker(tmp_path / "cache").make([replace(asked, calibration=f"{tmp_path}/frame*.npz")])
    pack = first.models["tiny"]
    assert sorted(path.name for path in pack.path(pack.calibration).iterdir()) == ["0000.npz", "0001.npz", "0002.npz"]
    assert pack.tolerances["int8"]["y"].rel_l2_max == 0.05
    assert set(pack.tolerances) == {"fp32", "int8"}
    np.savez(tmp_path / "frame0.npz", x=np.ones((2, tiny.WIDTH), np.float32))
    again = maker(tmp_path / "cache").make([replace(asked, calibration=f"{tmp_path}/frame*.npz")])
    assert again.sha256 != first.sha256


def test_calibration_inputs_that_do_not_fit_the_model_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "frame.npz", x=np.zeros((2, tiny.WIDTH - 1), np.float32))
    asked = ModelConfig(
        "tiny",
        onnx=tiny.write_onnx(tmp_path / "tiny.onnx"),
        precision=("int8",),
        calibration=f"{tmp_path}/frame.npz",
    )
    with pytest.raises(UsageError, match=r"frame\.npz, sample 0: input 'x' is float32 2x15"):
        maker(tmp_path / "cache").make([asked])


def test_free_sizes_become_profiles_by_dims_or_by_the_packed_samples(tmp_path: Path) -> None:
    model = onnx.load(tiny.write_onnx(tmp_path / "tiny.onnx"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(model, tmp_path / "tiny.onnx")
    asked = ModelConfig("tiny", onnx=tmp_path / "tiny.onnx", precision=("fp32",), dims={"n": (1, 4, 8)})
    pack = maker(tmp_path / "cache").make([asked]).models["tiny"]
    assert pack.profiles() == (Profile("x", (1, tiny.WIDTH), (4, tiny.WIDTH), (8, tiny.WIDTH)),)
    np.savez(tmp_path / "one.npz", x=np.zeros((3, tiny.WIDTH), np.float32))
    given = replace(asked, dims={}, inputs=f"{tmp_path}/one.npz")
    pack = maker(tmp_path / "cache").make([given]).models["tiny"]
    assert pack.profiles() == (Profile("x", (3, tiny.WIDTH), (3, tiny.WIDTH), (3, tiny.WIDTH)),)
