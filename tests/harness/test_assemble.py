"""From what was asked to models: names, paths, plugins and architectures, each refused in one sentence where it is wrong."""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fixtures
import harness.assemble
from harness.assemble import House, Request, _how_to_ask, _unsimulated, assemble
from harness.config import BoardConfig, load_configuration
from harness.errors import UsageError
from harness.instruments import Reading
from harness.instruments.telemetry import Instruments
from harness.packs.folder import Pack, digest_of, write_pack
from harness.run import Job
from runtime.architectures import ArchitectureRegistry
from runtime.protocol import LABELS
from tests.harness.tiny_pack import write_tiny_pack

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


def test_a_file_is_a_model_whatever_it_is_called_and_another_name_is_said(house: House, tmp_path: Path) -> None:
    said: list[str] = []
    house = replace(house, say=said.append)
    paths = [tmp_path / f"{stem}.onnx" for stem in ("plain", "my model-1", "squirrel é", "松鼠", "老鼠")]
    for path in paths:
        path.write_bytes(b"")
    models = planned(house, models=tuple(map(str, paths))).models.values()
    assert [model.onnx for model in models] == paths
    plain, spaced, accented, *others = (model.name for model in models)
    assert (plain, spaced) == ("plain", "my_model_1")
    assert re.fullmatch("squirrel_[0-9a-f]{6}", accented)
    assert len(set(others)) == 2
    assert all(re.fullmatch("model_[0-9a-f]{6}", name) for name in others)
    assert [words.partition(":")[0] for words in said] == [
        f"{path.name} is called {model.name} here" for path, model in list(zip(paths, models, strict=True))[1:]
    ]
    (model,) = planned(house, models=(str(paths[3]),)).models.values()
    assert _how_to_ask(model, Request(models=(str(paths[3]),)))[:2] == ("--model", str(paths[3]))


def test_a_checkpoint_is_of_the_architecture_that_is_given_or_of_its_own_name(house: House, tmp_path: Path) -> None:
    path = tmp_path / "tiny.pt"
    path.write_bytes(b"")
    (model,) = planned(house, models=(str(path),)).models.values()
    assert (model.checkpoint, model.architecture) == (path, "tiny")
    (model,) = planned(house, models=(str(path),), architectures=("ordered=collections:OrderedDict",)).models.values()
    assert model.architecture == "ordered"
    assert "ordered" in house.registry


def test_a_key_of_a_configuration_that_does_nothing_yet_is_said(house: House, tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "mine.toml"
    path.write_text('[model.m]\nonnx = "m.onnx"\nmeasure_at = [{ n = 512 }]\n[model.other]\nonnx = "o.onnx"\n', "utf-8")
    (tmp_path / "m.onnx").touch()
    (tmp_path / "o.onnx").touch()
    planned(replace(house, say=said.append), config=path)
    assert said == ["m: measure_at is not used yet: its latency is of the sizes in the middle of dims alone"]


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
        ("theirs:Mine", "theirs:Mine cannot be loaded: theirs has no 'Mine'"),
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


STATED = """
require = ["pytorch_fp16"]
[board.mine]
module = "p3767-0000"
require = ["onnx_trt_ep"]
memory = { gpu = "4 GiB" }
[model.%s]
torch = { checkpoint = "m.pt", architecture = "tiny" }
load = { rate_hz = 39, burst = 13, deadline_ms = 333 }
budget.mine = { p95_ms = 60, load_s = 5 }
"""


def carried(tmp_path: Path, name: str = "tiny", kept: bool = True) -> Path:
    """A pack of one model as it is carried to a board, written with a configuration that says something of it."""
    model = write_tiny_pack(tmp_path / "made", "tiny")
    (tmp_path / "my.toml").write_text(STATED % name)
    configuration = load_configuration(tmp_path / "my.toml")
    models = {"tiny": model}
    write_pack(Pack(models, digest_of(models), 0, "small"), configuration, tmp_path / "pack")
    if not kept:
        table = json.loads((tmp_path / "pack" / "pack.json").read_text())
        del table["stated"], table["stated_sha256"]
        (tmp_path / "pack" / "pack.json").write_text(json.dumps(table))
    return tmp_path / "pack"


@pytest.mark.covers("T2-02", "RE-04")
def test_a_pack_alone_brings_the_rates_budgets_boards_and_requirements_it_was_made_with(
    house: House, tmp_path: Path
) -> None:
    pack = carried(tmp_path)
    (tmp_path / "my.toml").unlink()
    job = planned(house, pack=pack, board="mine", profile="pr", tiers=(2,))
    own = job.models["tiny"]
    assert own.load is not None
    assert (own.load.rate_hz, own.load.burst, own.budget["mine"].p95_ms) == (39.0, 13, 60.0)
    assert own.checkpoint == pack / "tiny" / "model.pt"
    assert set(job.ask.require) == {"pytorch_fp16", "onnx_trt_ep"}
    assert "flight-pytorch_fp16-fp16" in [case.id for case in job.cases]
    assert job.ask.board == BoardConfig("mine", "p3767-0000", require=("onnx_trt_ep",), gpu_memory_bytes=4 << 30)
    assert next(case for case in job.cases if case.id == "tiny-pytorch_fp16-fp16-b1-latency").required
    assert (job.configuration.path, job.settings["config"]) == ("my.toml", "my.toml")


def test_a_configuration_that_is_given_beside_a_pack_is_the_one_that_counts(house: House, tmp_path: Path) -> None:
    pack = carried(tmp_path)
    other = (tmp_path / "my.toml").read_text().replace("p95_ms = 60", "p95_ms = 20").replace("pytorch_fp16", "tensorrt")
    (tmp_path / "other.toml").write_text(other)
    job = planned(house, pack=pack, config=tmp_path / "other.toml", board="mine")
    assert job.models["tiny"].budget["mine"].p95_ms == 20.0
    assert set(job.ask.require) == {"tensorrt", "onnx_trt_ep"}


def test_a_pack_of_before_that_was_kept_and_a_model_that_no_configuration_names_still_run(
    house: House, tmp_path: Path
) -> None:
    for at, pack in enumerate((carried(tmp_path / "a", kept=False), carried(tmp_path / "b", name="other"))):
        own = planned(house, pack=pack).models["tiny"]
        assert (own.load, own.budget) == (None, {})
        assert planned(house, pack=pack).ask.require == (() if at == 0 else ("pytorch_fp16",))


def test_a_budget_that_was_changed_in_a_pack_is_refused(house: House, tmp_path: Path) -> None:
    path = carried(tmp_path) / "pack.json"
    path.write_text(path.read_text().replace('"p95_ms": 60.0', '"p95_ms": 90.0'))
    with pytest.raises(UsageError, match=r"pack\.json was changed since the pack was made"):
        planned(house, pack=path.parent)


class Thermometer:
    label = "board"

    def __init__(self, **values: float) -> None:
        self.values = values

    def read(self) -> Reading:
        return Reading(dict(self.values))

    def about(self) -> dict[str, str]:
        return {}

    def close(self) -> None:
        self.values = {}


@pytest.mark.covers("T2-03")
@pytest.mark.parametrize(("values", "can_run"), [({"power_w": 9.0}, False), ({"cpu_temp_c": 40.0}, True)])
def test_a_row_about_heat_cannot_run_where_no_sensor_reads_which_the_plan_says(
    house: House, monkeypatch: pytest.MonkeyPatch, values: dict[str, float], can_run: bool
) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")
    monkeypatch.setattr(harness.assemble, "choose_instruments", lambda: Instruments([Thermometer(**values)]))
    job = planned(replace(house, environ={}), tiers=(2,), runtimes=("onnx_trt_ep",))
    told = {case.kind: case.not_run for case in job.cases if case.runtime == "onnx_trt_ep"}
    assert told["memory"] == ""
    assert (told["heat"] == "") == can_run
    assert can_run or "no temperature sensor on this host reads" in told["heat"]
