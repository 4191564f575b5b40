"""From what was asked to models: names, paths, plugins and architectures, each refused in one sentence where it is wrong."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fixtures
import harness.assemble
from harness.assemble import House, Request, _unsimulated, assemble
from harness.errors import UsageError
from harness.run import Job
from runtime.architectures import ArchitectureRegistry
from runtime.protocol import LABELS

NOTHING_BUILT = dict.fromkeys(
    ("BUILD_TENSORRT_RUNTIME", "BUILD_ONNX_TRT_EP_RUNTIME", "BUILD_PYTORCH_FP16_RUNTIME"), "OFF"
)


@pytest.fixture
def house(tmp_path: Path) -> House:
    default = tmp_path / "default.toml"
    default.write_text('[model.disk]\nsource = "flight:disk"\n[model.aliked]\nsource = "flight:aliked"\n')
    names: Mapping[str, list[str]] = {"flight": ["disk"], "light": ["resnet"]}
    return House(
        sources={},
        source_names=lambda: names,
        registry=ArchitectureRegistry(),
        default_config=default,
        suites=tmp_path,
        version="0",
        environ=NOTHING_BUILT,
        prepare=lambda request, names: None,
        say=lambda words: None,
    )


def planned(house: House, **asked: Any) -> Job:
    return assemble(Request(**asked), house, ["trigate", "run"], dry_run=True)


def test_without_a_model_all_of_the_configuration_are_planned(house: House) -> None:
    assert list(planned(house).models) == ["disk", "aliked"]


@pytest.mark.covers("T1-03", "FA-05")
def test_a_runtime_that_was_not_built_is_a_row_with_its_reason_and_its_remedy(house: House) -> None:
    job = planned(house, tiers=(1,))
    assert {case.runtime for case in job.cases if case.kind == "parity"} == {"tensorrt", "onnx_trt_ep", "pytorch_fp16"}
    assert {case.not_run for case in job.cases if case.runtime == "tensorrt"} == {
        "tensorrt: BUILD_TENSORRT_RUNTIME is off"
    }
    assert job.remedies["tensorrt"] == "Set BUILD_TENSORRT_RUNTIME=ON."


@pytest.mark.parametrize("name", ["onnx", "onnxruntime", "polygraphy"])
def test_what_the_simulated_device_needs_is_named_where_it_is_missing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness.assemble, "is_there", lambda asked: asked != name)
    assert f"the simulated device needs {name} (" in _unsimulated()


def test_a_file_is_a_model_whatever_it_is_called(house: House, tmp_path: Path) -> None:
    path = tmp_path / "my model-é.onnx"
    path.write_bytes(b"")
    (model,) = planned(house, models=(str(path),)).models.values()
    assert (model.name, model.onnx) == ("my_model__", path)


def test_a_checkpoint_is_of_the_architecture_that_is_given_or_of_its_own_name(house: House, tmp_path: Path) -> None:
    path = tmp_path / "tiny.pt"
    path.write_bytes(b"")
    (model,) = planned(house, models=(str(path),)).models.values()
    assert (model.checkpoint, model.architecture) == (path, "tiny")
    (model,) = planned(house, models=(str(path),), architectures=("ordered=collections:OrderedDict",)).models.values()
    assert model.architecture == "ordered"
    assert "ordered" in house.registry


def test_a_built_in_model_is_named_by_its_kind_and_light_ones_are_for_fp32(house: House) -> None:
    (light,) = planned(house, models=("light_resnet",)).models.values()
    assert (light.source, light.precision) == ("light:resnet", ("fp32",))


@pytest.mark.covers("RE-04")
def test_what_is_named_on_the_command_line_is_required(house: House) -> None:
    assert set(planned(house, models=("disk",), runtimes=("tensorrt",)).ask.require) == {"tensorrt", "model[disk]"}
    assert planned(house).ask.require == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("raise ValueError('theirs')", "cannot be imported: ValueError: theirs"),
        ("def (", "cannot be imported: SyntaxError"),
        (None, "does not exist, or is no Python file"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_told_by_its_path(
    house: House, tmp_path: Path, text: str | None, says: str
) -> None:
    if text is not None:
        (tmp_path / "broken_plugin.py").write_text(text)
    house.default_config.write_text('plugins = ["broken_plugin.py"]\n[model.m]\nonnx = "m.onnx"\n')
    with pytest.raises(UsageError, match=says) as refused:
        planned(house)
    assert "broken_plugin.py" in str(refused.value)


def test_a_configuration_without_a_model_is_refused(house: House, tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("")
    with pytest.raises(UsageError, match="names no model"):
        planned(house, config=tmp_path / "empty.toml")
    with pytest.raises(UsageError, match="names no model"):
        planned(replace(house, default_config=tmp_path / "empty.toml"))


CLASSES = """
import threading
from runtime import BuildConfig, RuntimeConfig
def build(config): raise OSError("no licence")
def stuck(config): threading.Event().wait()
def nothing(config): return 3
VALUE = 3
"""


@pytest.mark.covers("T0-01")
@pytest.mark.parametrize(
    ("hook", "says"),
    [
        ("no_such_module:Mine", "no_such_module:Mine cannot be loaded: ModuleNotFoundError: No module named"),
        ("theirs:Mine", "theirs:Mine cannot be loaded: AttributeError: module 'theirs' has no attribute 'Mine'"),
        ("theirs:VALUE", "theirs:VALUE is a int; expected a function or class"),
        ("theirs:build", "theirs:build cannot be made: OSError: no licence"),
        ("theirs:stuck", r"theirs:stuck cannot be made: it did not come back in 0\.2 s"),
        (
            "theirs:nothing",
            "theirs:nothing: int is no InferenceRuntime: it lacks compile_engine, current_runtime_label",
        ),
    ],
)
def test_a_third_partys_class_that_is_no_runtime_is_refused_before_anything_runs(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: str, says: str
) -> None:
    (tmp_path / "theirs.py").write_text(CLASSES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    with pytest.raises(UsageError, match=says) as refused:
        planned(replace(house, making_limit_s=0.2 if "stuck" in hook else 60.0), runtimes=(hook,))
    assert str(refused.value).startswith("--runtime")
    assert str(refused.value).endswith("Class(config) makes a runtime.InferenceRuntime from a RuntimeConfig.")


@pytest.mark.covers("T0-01")
def test_suites_about_runtimes_are_planned_where_the_house_brings_them(house: House) -> None:
    def suite(*_: Any) -> Any: ...

    job = planned(replace(house, runtime_suites={"conformance": suite}), tiers=(0,))
    assert job.runtime_suites["conformance"] is suite
    assert [case.runtime for case in job.cases if case.kind == "conformance" and not case.simulated] == list(LABELS)
    assert not [case for case in planned(house, tiers=(0,)).cases if case.kind == "conformance"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"simulated": "stedy"}, "there is no scenario 'stedy'. Did you mean 'steady'\\?"),
        ({"simulated": "../steady"}, "there is no scenario '../steady'"),
        ({"simulated": "mine.toml"}, "mine.toml is no file"),
        ({"simulated": "steady", "tiers": (1,), "is_tier_named": True}, "does not go with --tier 1"),
        ({"simulated": "steady", "pack": Path("a")}, "does not go with --pack a"),
        ({"simulated": "steady", "inputs": "a.npz"}, "does not go with --inputs a.npz"),
        ({"simulated": "steady", "device": "cpu"}, "does not go with --device cpu"),
        ({"simulated": "steady", "assumptions": Path("a")}, "does not go with --assumptions"),
        ({"simulated": "steady", "runtimes": ("onnx_trt_ep",)}, "does not go with onnx_trt_ep: .* stands for tensorrt"),
        ({"simulated": "steady", "require": ("onnx_trt_ep[cpu]",)}, "does not go with onnx_trt_ep"),
        ({"history": Path(__file__)}, "--history: floors cannot be kept in .* is a file. Give another folder"),
        ({"history": Path(__file__) / "floors"}, "--history: floors cannot be kept in .* is a file"),
        ({"profile": "signoff"}, "--profile signoff decides something, so it needs --require"),
    ],
)
def test_words_that_would_be_left_out_without_a_sound_are_refused(
    house: House, asked: dict[str, Any], says: str
) -> None:
    scenarios = Path(fixtures.__file__).parent / "scenarios"
    with pytest.raises(UsageError, match=says):
        planned(replace(house, scenarios=scenarios), **asked)


def test_a_damaged_floor_is_told_before_anything_is_measured(house: House, tmp_path: Path) -> None:
    for folder in ("floors", "floors-simulated"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one.json").write_text("{")
    with pytest.raises(UsageError, match=r"floors/one\.json is no floor"):
        planned(house, history=tmp_path)
    assert planned(house, history=tmp_path / "other").tier2 is not None
    assert not (tmp_path / "other").exists()
