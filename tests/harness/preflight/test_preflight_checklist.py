"""What `trigate preflight` says of a move: of sources that are written out here, of our own runtime, and of the table."""

import json
import os
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from harness.errors import UsageError
from harness.preflight import Checklist, Finding, Item, State, preflight
from harness.preflight.table import OVERLOADED, Table, load_table
from harness.records import Outcome
from runtime.platform import JETPACK_OF_L4T, HostTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"
WORKSTATION = HostTuple("89", "none", "none")
IMPLICIT_INT8 = """
    import tensorrt as trt

    EXPLICIT_BATCH = 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)

    class Calibrator(trt.IInt8EntropyCalibrator2):
        def get_batch_size(self):
            return 8

    def build(path):
        logger = trt.Logger(trt.Logger.WARNING)
        with trt.Builder(logger) as builder, builder.create_network(EXPLICIT_BATCH) as network:
            config = builder.create_builder_config()
            config.set_flag(trt.BuilderFlag.INT8)
            config.int8_calibrator = Calibrator()
            return builder.build_serialized_network(network, config)
"""


def check(
    source: Path | None, to: str = "tensorrt-11.4", come_from: str = "tensorrt-10.3", host: HostTuple = WORKSTATION
) -> Checklist:
    return preflight(
        to,
        source=source,
        come_from=come_from,
        manifests=FIXTURES / "api",
        platforms=FIXTURES / "platforms.toml",
        host=host,
    )


def read(tmp_path: Path, code: str, to: str = "tensorrt-11.4", come_from: str = "tensorrt-10.3") -> Checklist:
    (tmp_path / "user.py").write_text(dedent(code))
    return check(tmp_path, to, come_from)


def found(checklist: Checklist, area: str = "API") -> dict[str, Finding]:
    return {one.what: one for item in checklist.items if item.area == area for one in item.findings}


def item(checklist: Checklist, title: str) -> Item:
    (one,) = [item for item in checklist.items if item.title == title]
    return one


def states(checklist: Checklist) -> dict[str, State]:
    return {what: finding.state for what, finding in found(checklist).items()}


@pytest.fixture(scope="module")
def ours() -> Checklist:
    return check(None)


@pytest.fixture(scope="module")
def table() -> Table:
    return load_table(FIXTURES / "platforms.toml", FIXTURES / "api")


# ---- our own runtime, and a script that cannot move ------------------------------------------------------------------


def test_our_own_runtime_is_able_to_move_to_tensorrt_11(ours: Checklist) -> None:
    assert ours.verdict is Outcome.PASS, ours.to_text()
    assert ours.exit_code == 0
    calibrator = found(ours)["IInt8EntropyCalibrator2"]
    assert calibrator.state is State.OK
    assert calibrator.places[0].startswith("strategies/trt_calibrator.py:")
    assert "`choose` sets only under" in calibrator.guard
    assert "hasattr(trt, 'IInt8EntropyCalibrator2')" in calibrator.guard
    assert "alone `make_calibrator` is called (strategies/trt_child.py:" in calibrator.guard
    assert found(ours)["EngineInvalidityDiagnostics"].told == "only TensorRT-RTX 1.7.1.116 has it"
    assert found(ours, "precision")["trtexec --calib"].guard.startswith("`calibration_cache`, given only under")


def test_our_own_runtime_says_what_to_do_on_the_way(ours: Checklist) -> None:
    todo = {one.title for one in ours.items if one.state is State.TO_DO}
    assert {"engines", "timing caches", "calibration caches", "from weak to strong typing", "ONNX Runtime"} <= todo
    assert "no way over" in item(ours, "calibration caches").told


def test_a_script_with_implicit_int8_is_not_able_and_each_place_is_named_with_what_replaces_it(tmp_path: Path) -> None:
    checklist = read(tmp_path, IMPLICIT_INT8)
    assert (checklist.verdict, checklist.exit_code) == (Outcome.FAIL, 1)
    gone = {what: one.places for what, one in found(checklist).items() if one.state is State.BREAKS}
    assert gone == {
        "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": ("user.py:4",),
        "IInt8EntropyCalibrator2": ("user.py:6",),
        "BuilderFlag.INT8": ("user.py:14",),
        "IBuilderConfig.int8_calibrator": ("user.py:15",),
    }
    assert "modelopt.onnx.quantization" in found(checklist)["BuilderFlag.INT8"].instead
    assert item(checklist, "int8 by a builder flag and a calibrator").state is State.BREAKS
    assert item(checklist, "fp16 by a builder flag").state is State.OK


def test_the_same_script_moves_within_tensorrt_10(tmp_path: Path) -> None:
    checklist = read(tmp_path, IMPLICIT_INT8, to="jetpack-7.2", come_from="jetpack-6.2")
    assert checklist.verdict is Outcome.PASS
    assert checklist.apis == ("10.3.0", "10.16.1.11")
    assert "10.16.1.11 stands for 10.16.2.10" in item(checklist, "names that were read").told


@pytest.mark.covers("RE-01")
def test_what_is_deprecated_there_has_a_line_of_its_own_with_its_places(tmp_path: Path) -> None:
    implicit = item(
        read(tmp_path, IMPLICIT_INT8, "jetpack-7.2", "jetpack-6.2"), "implicit int8 quantisation, deprecated"
    )
    assert implicit.state is State.TO_DO
    assert {one.what: one.places for one in implicit.findings} == {
        "IInt8EntropyCalibrator2": ("user.py:6",),
        "IBuilderConfig.int8_calibrator": ("user.py:15",),
    }
    weak = item(read(tmp_path, IMPLICIT_INT8, "jetpack-7.2", "jetpack-6.2"), "weak typing, deprecated")
    assert [one.what for one in weak.findings] == ["BuilderFlag.INT8"]
    for to, come_from in (("tensorrt-11.4", "tensorrt-10.3"), ("tensorrt-10.3", "tensorrt-10.3")):
        titles = {one.title for one in read(tmp_path, IMPLICIT_INT8, to, come_from).items}
        assert "weak typing, deprecated" not in titles  # gone already, or not deprecated yet


def test_what_is_deprecated_is_told_only_where_it_is_reached(tmp_path: Path) -> None:
    code = """
        import tensorrt as trt
        def f(config):
            if int(trt.__version__.split(".")[1]) < 12:
                config.set_flag(trt.BuilderFlag.FP16)
    """
    titles = {one.title for one in read(tmp_path, code, "jetpack-7.2", "jetpack-6.2").items}
    assert "weak typing, deprecated" not in titles
    titles = {one.title for one in read(tmp_path, code.replace("< 12", "< 99"), "jetpack-7.2", "jetpack-6.2").items}
    assert "weak typing, deprecated" in titles


# ---- how a name is found ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import tensorrt\ntensorrt.BuilderFlag.FP16", "BuilderFlag.FP16"),
        ("import tensorrt.tensorrt as t\nt.BuilderFlag.FP16", "BuilderFlag.FP16"),
        ("from tensorrt import BuilderFlag as F\nF.FP16", "BuilderFlag.FP16"),
        ("from tensorrt import IInt8Calibrator", "IInt8Calibrator"),
        ("from tensorrt import *\nx = BuilderFlag.FP16", "BuilderFlag.FP16"),
        (
            "from importlib import import_module\nt = import_module('tensorrt')\nF = t.BuilderFlag\nF.FP16",
            "BuilderFlag.FP16",
        ),
        ("def f(trt):\n    return trt.BuilderFlag.FP16", "BuilderFlag.FP16"),
        ("class A:\n    def f(self):\n        return self.trt.BuilderFlag.FP16", "BuilderFlag.FP16"),
        ("def f(library):\n    return library.module.BuilderFlag.FP16", "BuilderFlag.FP16"),
        (
            "try:\n    import tensorrt as t\nexcept ImportError:\n    t = None\nx = t.BuilderFlag.FP16",
            "BuilderFlag.FP16",
        ),
        ("import tensorrt as t\nx = getattr(t.BuilderFlag, 'FP16')", "BuilderFlag.FP16"),
        ("import tensorrt as t\nx = t.BuilderFlag.__members__['FP16']", "BuilderFlag.FP16"),
        ("import tensorrt as t\nb = t.Builder(None)\nb.platform_has_fast_fp16", "Builder.platform_has_fast_fp16"),
        (
            "import tensorrt as t\ndef f(c: 't.IBuilderConfig | None'):\n    c.int8_calibrator = 1",
            "IBuilderConfig.int8_calibrator",
        ),
        (
            """
            import tensorrt as t
            class A:
                def __init__(self):
                    self.e = t.Runtime(None).deserialize_cuda_engine(b"")
                def f(self):
                    return self.e.device_memory_size
            """,
            "ICudaEngine.device_memory_size",
        ),
        (
            "import tensorrt as t\nn = t.Builder(None).create_network(0)\nn[0].set_output_type(0, 1)",
            "ILayer.set_output_type",
        ),
        (
            "import tensorrt as t\nn = t.Builder(None).create_network(0)\nfor layer in n:\n    layer.precision = t.float16",
            "ILayer.precision",
        ),
    ],
)
def test_a_name_is_followed_to_what_it_stands_for(tmp_path: Path, code: str, what: str) -> None:
    finding = found(read(tmp_path, code))[what]
    assert (finding.state, finding.is_certain) == (State.BREAKS, True)


def test_an_object_of_an_unknown_class_is_possibly_tensorrts(tmp_path: Path) -> None:
    checklist = read(
        tmp_path,
        "def f(engine, config, profile):\n    config.set_calibration_profile(profile)\n    return engine.device_memory_size\n",
    )
    assert (checklist.verdict, checklist.exit_code) == (Outcome.INCONCLUSIVE, 3)
    finding = found(checklist)["*.set_calibration_profile"]
    assert (finding.state, finding.is_certain, finding.places) == (State.READ, False, ("user.py:2",))
    assert "possibly IBuilderConfig.set_calibration_profile" in finding.told
    assert found(checklist)["*.device_memory_size"].change == "renamed"


def test_what_is_not_tensorrts_is_left_alone(tmp_path: Path) -> None:
    code = """
        import logging, numpy as np, argparse
        '''Run trtexec --fp16 first.'''
        class Loader:
            def get_batch(self): ...
        def f(job, dataset, precision: str):
            parser = argparse.ArgumentParser()
            parser.add_argument("--fp16")
            logging.Logger("x").precision = job.precision
            np.set_dynamic_range(1)
            return dataset.get_batch(), job.trt.split("."), precision, "trtexec"
    """
    checklist = read(tmp_path, code)
    assert checklist.verdict is Outcome.PASS, checklist.to_text()
    assert found(checklist) == {}


def test_an_annotation_with_another_type_beside_tensorrts_says_nothing_of_the_object(tmp_path: Path) -> None:
    checklist = read(
        tmp_path,
        "import tensorrt as trt\ndef f(x: 'dict | trt.DataType', y: list[trt.DataType]):\n    return x.items(), y.append(1)\n",
    )
    assert found(checklist) == {}


def test_calls_of_tensorrt_8_are_told_as_such(tmp_path: Path) -> None:
    checklist = read(
        tmp_path,
        "import tensorrt as trt\nb = trt.Builder(None)\nb.max_batch_size = 1\ndef f(c):\n    c.execute_async_v2([], 0)\n",
    )
    assert states(checklist) == {"Builder.max_batch_size": State.BREAKS, "*.execute_async_v2": State.READ}
    assert "execute_async_v3" in found(checklist)["*.execute_async_v2"].instead


OF_TENSORRT_8 = """
    import tensorrt as trt
    b = trt.Builder(None)
    b.max_batch_size = 1
    b.create_builder_config().set_flag(trt.BuilderFlag.STRICT_TYPES)
"""


@pytest.mark.covers("RE-01")
def test_what_the_old_side_lacks_too_is_not_laid_to_the_move(tmp_path: Path) -> None:
    checklist = read(tmp_path, OF_TENSORRT_8, "jetpack-7.2", "jetpack-6.2")
    assert checklist.verdict is Outcome.FAIL
    assert "1 check would break there (without the move too) and " in checklist.words
    broken = item(checklist, "names in use that both sides lack")
    assert broken.was_broken
    assert broken.told.startswith("2 names or numbers that JetPack 6.2 (TensorRT 10.3.0) has not either")
    assert "--from" in broken.todo
    assert "PREFER_PRECISION_CONSTRAINTS" in found(checklist)["BuilderFlag.STRICT_TYPES"].instead
    assert checklist.to_json()["checks"][0]["broken_before"] is True


def test_what_the_move_breaks_stands_apart_from_what_was_broken_before(tmp_path: Path) -> None:
    code = f"{dedent(OF_TENSORRT_8)}x = trt.BuilderFlag.FP16\ndef f(c):\n    c.execute_async_v2([], 0)\n"
    checklist = read(tmp_path, code)
    assert [one.what for one in item(checklist, "names in use that are gone or changed").findings] == [
        "BuilderFlag.FP16"
    ]
    assert "3 checks would break there (1 of them without the move too), 1 check to be read and " in checklist.words
    assert [one.what for one in item(checklist, "names that both sides may lack").findings] == ["*.execute_async_v2"]


def test_what_the_old_side_may_have_is_laid_to_the_move(tmp_path: Path) -> None:
    checklist = read(tmp_path, OF_TENSORRT_8, "jetpack-7.2", "jetpack-5.1")  # of which there is no manifest
    assert not item(checklist, "names in use that are gone or changed").was_broken
    assert "without the move" not in checklist.words


def test_a_call_of_tensorrt_8_under_a_guard_is_not_reached(tmp_path: Path) -> None:
    code = """
        import tensorrt as trt
        def f(engine: trt.ICudaEngine):
            if hasattr(engine, "num_bindings"):
                return engine.num_bindings
            return engine.num_io_tensors
    """
    assert states(read(tmp_path, code)) == {"ICudaEngine.num_bindings": State.OK}


def test_a_name_that_no_manifest_has_is_to_be_looked_at(tmp_path: Path) -> None:
    checklist = read(tmp_path, "import tensorrt as trt\nx = trt.nptype(trt.float32), trt.__version__, trt.whatever\n")
    assert states(checklist) == {"nptype": State.NOT_KNOWN, "whatever": State.READ}
    assert checklist.verdict is Outcome.INCONCLUSIVE


def test_a_name_that_came_and_went_between_the_two_versions_breaks(tmp_path: Path) -> None:
    finding = found(read(tmp_path, "import tensorrt as trt\nx = trt.BuilderFlag.FP4\n"))["BuilderFlag.FP4"]
    assert finding.state is State.BREAKS
    assert finding.told == "in neither 10.3.0 nor 11.4.0.106; TensorRT 10.13.3.9 has it"


def test_a_member_that_is_chosen_while_it_runs_has_to_be_read(tmp_path: Path) -> None:
    checklist = read(
        tmp_path,
        "import tensorrt as trt\ndef f(name):\n    return getattr(trt.BuilderFlag, name), getattr(trt.DataType, name)\n",
    )
    assert states(checklist) == {"BuilderFlag.*": State.READ}  # DataType has lost none
    assert "gone are FP16, " in found(checklist)["BuilderFlag.*"].told.replace("BF16, ", "")


def test_a_version_that_has_no_manifest_is_held_against_the_target_alone(tmp_path: Path) -> None:
    checklist = read(
        tmp_path, "import tensorrt as trt\nb = trt.Builder(None)\nb.max_batch_size = 1\n", "jetpack-7.2", "jetpack-5.1"
    )
    assert "no manifest of 8.5.2" in item(checklist, "names that were read").told
    assert states(checklist) == {"Builder.max_batch_size": State.BREAKS}
    other_way = check(tmp_path, "jetpack-5.1", "jetpack-6.2")
    assert item(other_way, "names that were read").state is State.READ


# ---- guards ----------------------------------------------------------------------------------------------------------

HEAD = "import tensorrt as trt\nimport sys\n"


@pytest.mark.parametrize(
    "code",
    [
        "if hasattr(trt.BuilderFlag, 'FP16'):\n    x = trt.BuilderFlag.FP16",
        "x = trt.BuilderFlag.FP16 if hasattr(trt.BuilderFlag, 'FP16') else None",
        "x = hasattr(trt.BuilderFlag, 'FP16') and trt.BuilderFlag.FP16",
        "x = getattr(trt.BuilderFlag, 'FP16', None)",
        "if 'FP16' in trt.BuilderFlag.__members__:\n    x = trt.BuilderFlag.FP16",
        "has = hasattr(trt.BuilderFlag, 'FP16')\nif has:\n    x = trt.BuilderFlag.FP16",
        "def f():\n    if not hasattr(trt.BuilderFlag, 'FP16'):\n        return None\n    return trt.BuilderFlag.FP16",
        "def f(caps):\n    if caps.has_flags:\n        return trt.BuilderFlag.FP16",
        """
        class C:
            def __init__(self):
                self.half = hasattr(trt.BuilderFlag, 'FP16')
            def f(self):
                return trt.BuilderFlag.FP16 if self.half else None
        """,
        "def g():\n    return trt.BuilderFlag.FP16\ndef f():\n    if hasattr(trt.BuilderFlag, 'FP16'):\n        g()",
        "try:\n    x = trt.BuilderFlag.FP16\nexcept AttributeError:\n    x = None",
        "if hasattr(trt.NetworkDefinitionCreationFlag, 'STRONGLY_TYPED'):\n    pass\nelse:\n    x = trt.BuilderFlag.FP16",
        "x = getattr(trt.BuilderFlag, 'FP16', None) or trt.BuilderFlag.TF32\ny = x",
        "flag = None\nif hasattr(trt.BuilderFlag, 'FP16'):\n    flag = 1\nif flag is not None:\n    x = trt.BuilderFlag.FP16",
    ],
)
def test_a_use_under_a_guard_that_the_target_fails_is_told_as_guarded(tmp_path: Path, code: str) -> None:
    checklist = read(tmp_path, HEAD + dedent(code))
    finding = found(checklist)["BuilderFlag.FP16"]
    assert finding.state is State.OK, checklist.to_text()
    assert finding.guard
    assert checklist.verdict is Outcome.PASS


@pytest.mark.parametrize(
    "code",
    [
        "if hasattr(trt.BuilderFlag, 'TF32'):\n    x = trt.BuilderFlag.FP16",
        "if hasattr(trt.BuilderFlag, 'FP16') or sys.argv:\n    x = trt.BuilderFlag.FP16",
        "if not hasattr(trt.BuilderFlag, 'FP16'):\n    x = trt.BuilderFlag.FP16",
        "if hasattr(trt.BuilderFlag, 'FP16'):\n    pass\nx = trt.BuilderFlag.FP16",
        "def g():\n    return trt.BuilderFlag.FP16\ndef f():\n    if hasattr(trt.BuilderFlag, 'FP16'):\n        g()\ng()",
        "def g():\n    return trt.BuilderFlag.FP16\ndef f():\n    if hasattr(trt.BuilderFlag, 'FP16'):\n        g()\nhooks = [g]",
        """
        class C:
            def __init__(self):
                self.half = hasattr(trt.BuilderFlag, 'FP16')
                self.half = sys.argv
            def f(self):
                return trt.BuilderFlag.FP16 if self.half else None
        """,
        "flag = 0\nif hasattr(trt.BuilderFlag, 'FP16'):\n    flag = 1\nif flag is not None:\n    x = trt.BuilderFlag.FP16",
        "try:\n    x = trt.BuilderFlag.FP16\nexcept AttributeError:\n    raise",
        "try:\n    x = trt.BuilderFlag.FP16\nexcept ValueError:\n    x = None",
    ],
)
def test_a_use_under_a_guard_that_does_not_keep_it_from_being_reached_breaks(tmp_path: Path, code: str) -> None:
    assert found(read(tmp_path, HEAD + dedent(code)))["BuilderFlag.FP16"].state is State.BREAKS


def test_an_except_of_everything_has_to_be_read(tmp_path: Path) -> None:
    checklist = read(tmp_path, HEAD + "try:\n    x = trt.BuilderFlag.FP16\nexcept Exception:\n    x = None\n")
    assert states(checklist) == {"BuilderFlag.FP16": State.READ}


@pytest.mark.parametrize("returned", ["Way(half=half)", "Way(half=half and fast)"])
def test_a_capability_is_followed_through_the_record_that_a_function_makes(tmp_path: Path, returned: str) -> None:
    record = f"""
        from dataclasses import dataclass
        import tensorrt as trt
        @dataclass
        class Way:
            half: bool = False
            fast: bool = True
        def choose(half, fast=True):
            if not fast:
                return Way()
            return {returned}
        way = choose(half=hasattr(trt.BuilderFlag, "FP16"))
        if way.NAME:
            x = trt.BuilderFlag.FP16
    """
    assert states(read(tmp_path, record.replace("NAME", "half"))) == {"BuilderFlag.FP16": State.OK}
    assert states(read(tmp_path, record.replace("NAME", "fast"))) == {"BuilderFlag.FP16": State.BREAKS}
    assert states(read(tmp_path, record.replace("NAME", "half").replace("Way()", "Way(half=True)"))) == {
        "BuilderFlag.FP16": State.BREAKS
    }


@pytest.mark.parametrize(
    ("test", "state"),
    [
        ("trt.__version__.startswith('10')", State.OK),
        ("int(trt.__version__.split('.')[0]) < 11", State.OK),
        ("int(trt.__version__.split('.')[0]) >= 10", State.BREAKS),
        ("trt.__version__[:2] == '10'", State.OK),
        ("trt.__version__ < '11'", State.OK),
        ("Version(trt.__version__) < Version('11.0.0')", State.OK),
        ("version.parse(trt.__version__).major >= 11", State.BREAKS),
        ("not Version(trt.__version__) >= Version('11')", State.OK),
        ("tuple(int(x) for x in trt.__version__.split('.')[:2]) < (11, 0)", State.OK),
        ("tuple(map(int, trt.__version__.split('.'))) >= (10, 12) and sys.argv", State.BREAKS),
        ("is_old(trt.__version__)", State.READ),
    ],
)
def test_a_test_of_the_version_is_held_against_the_targets(tmp_path: Path, test: str, state: State) -> None:
    finding = found(read(tmp_path, HEAD + f"if {test}:\n    x = trt.BuilderFlag.FP16\n"))["BuilderFlag.FP16"]
    assert finding.state is state, finding


# ---- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "what", "told"),
    [
        (
            "b.create_network(1)",
            "NetworkDefinitionCreationFlag = 1",
            "1 is EXPLICIT_BATCH in 10.3.0, and STRONGLY_TYPED in",
        ),
        (
            "b.create_network(flags=1 << 1)",
            "NetworkDefinitionCreationFlag = 2",
            "STRONGLY_TYPED in 10.3.0, and PREFER_JIT",
        ),
        ("F = 1 << 0\nb.create_network(F)", "NetworkDefinitionCreationFlag = 1", "EXPLICIT_BATCH"),
        ("trt.BuilderFlag(13)", "BuilderFlag = 13", "13 is VERSION_COMPATIBLE in 10.3.0, and EXCLUDE_LEAN_RUNTIME in"),
        (
            "int(trt.BuilderFlag.STRIP_PLAN) == 19",
            "BuilderFlag.STRIP_PLAN = 19",
            "is 19 in 10.3.0, and 18 in 11.4.0.106",
        ),
        ("18 == trt.BuilderFlag.STRIP_PLAN.value", "BuilderFlag.STRIP_PLAN = 18", "is 19 in 10.3.0"),
        ("c = b.create_builder_config()\nc.flags = 1 << 19", "BuilderFlag = 524288", "and REFIT_IDENTICAL in"),
        (
            "b.x.set_tactic_sources(8)",
            "TacticSource = 8",
            "EDGE_MASK_CONVOLUTIONS in 10.3.0, and bit 3, which is nothing",
        ),
    ],
)
def test_a_literal_number_of_an_enum_that_is_numbered_anew_breaks(
    tmp_path: Path, code: str, what: str, told: str
) -> None:
    finding = found(read(tmp_path, f"import tensorrt as trt\nb = trt.Builder(None)\n{code}\n"))[what]
    assert (finding.change, finding.state) == ("renumbered", State.BREAKS)
    assert told in finding.told


@pytest.mark.parametrize(
    "code",
    [
        "b.create_network(0)",
        "b.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))",
        "int(trt.DataType.HALF) == 1",
        "trt.DataType(1)",
        "int(trt.BuilderFlag.STRIP_PLAN) == 3",
        "if hasattr(trt.NetworkDefinitionCreationFlag, 'EXPLICIT_BATCH'):\n    b.create_network(1)",
    ],
)
def test_a_number_that_stays_or_is_not_reached_does_not_break(tmp_path: Path, code: str) -> None:
    checklist = read(tmp_path, f"import tensorrt as trt\nb = trt.Builder(None)\n{code}\n")
    assert checklist.verdict is Outcome.PASS, checklist.to_text()


# ---- other tools, files, modules -------------------------------------------------------------------------------------


def test_precisions_asked_of_trtexec_and_polygraphy_are_found(tmp_path: Path) -> None:
    code = """
        from polygraphy.backend.trt import Calibrator
        command = ["trtexec", "--onnx=m.onnx", "--fp16"]
        shell = "trtexec --onnx=m.onnx --calib=x.cache"
        options = {"trt_fp16_enable": True}
        c = Calibrator(None)
    """
    checklist = read(tmp_path, code)
    findings = found(checklist, "precision")
    assert findings["trtexec --fp16"].places == ("user.py:3",)
    assert findings["trtexec --calib"].state is State.READ
    assert findings["Polygraphy's Calibrator"].state is State.BREAKS
    assert findings["trt_fp16_enable"].state is State.NOT_KNOWN
    assert item(checklist, "bf16 by a builder flag").state is State.OK


def test_a_source_that_uses_the_dla_has_to_be_read_where_it_may_be_gone(tmp_path: Path) -> None:
    code = """
        import tensorrt as trt
        def f(config, runtime):
            config.default_device_type = trt.DeviceType.DLA
            runtime.DLA_core = 0
            return ["trtexec", "--useDLACore=0"]
    """
    dla = item(read(tmp_path, code, "jetpack-7.2", "jetpack-6.2"), "DLA")
    assert (dla.state, dla.findings[0].places) == (State.READ, ("user.py:4", "user.py:5", "user.py:6"))
    assert "DLA" not in [one.title for one in check(tmp_path, "jetpack-6.2.2", "jetpack-6.2").items]


def test_modules_that_the_targets_python_has_not_are_found(tmp_path: Path) -> None:
    code = "import distutils.version\nfrom cuda import cudart\nimport implicit\n"
    checklist = read(tmp_path, code, "jetpack-7.2", "jetpack-6.2")
    assert {what: one.state for what, one in found(checklist, "Python").items()} == {
        "import distutils.version": State.BREAKS,
        "import cuda.cudart": State.READ,
    }
    assert found(check(tmp_path, "jetpack-6.2.2", "jetpack-6.2"), "Python") == {}


def test_a_driver_call_that_takes_other_arguments_in_the_targets_cuda_breaks(tmp_path: Path) -> None:
    code = (
        "from cuda.bindings import driver\ndriver.cuCtxCreate(0, 1)\ndriver.cuCtxCreate(None, 0, 1)\ndriver.cuInit(0)\n"
    )
    checklist = read(tmp_path, code, "jetpack-7.2", "jetpack-6.2")
    calls = item(checklist, "CUDA's driver calls")
    assert (calls.state, [(one.what, one.places) for one in calls.findings]) == (
        State.BREAKS,
        [("cuCtxCreate", ("user.py:2",))],
    )
    assert "(unsigned int flags, dev) in 12.9.0, and is cuCtxCreate(CUctxCreateParams" in calls.findings[0].told
    assert check(tmp_path, "jetpack-6.2.2", "jetpack-6.2").verdict is Outcome.PASS


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text('print "x"\n')
    (tmp_path / "engine.cpp").write_text("#include <NvInfer.h>\n")
    (tmp_path / "other.cpp").write_text("int main() {}\n")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "x.py").write_text("import tensorrt as t\nt.BuilderFlag.FP16\n")
    checklist = read(tmp_path, "import tensorrt\n")
    assert item(checklist, "files that are not read").findings[0].places == ("old.py",)
    assert item(checklist, "files of other languages").told.startswith("engine.cpp:")
    assert checklist.verdict is Outcome.INCONCLUSIVE
    assert "BuilderFlag.FP16" not in found(checklist)


def test_files_that_python_warns_of_or_that_are_nested_deeply_do_not_stop_it(tmp_path: Path) -> None:
    (tmp_path / "deep.py").write_text(f"x = {' + '.join(['1'] * 3000)}\n")
    (tmp_path / "escape.py").write_text("x = '\\d' is 1\n")
    (tmp_path / "empty.py").write_bytes(b"")
    checklist = read(tmp_path, "import tensorrt as t\nt.BuilderFlag.FP16\n")
    assert [one.what for one in item(checklist, "files that are not read").findings] == ["deep.py"]
    assert states(checklist)["BuilderFlag.FP16"] is State.BREAKS


# ---- boards, and where a move comes from -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "come_from", "state"),
    [
        ("jetpack-7.2", "jetpack-6.2", State.OK),
        ("jetpack-7.1", "jetpack-6.2", State.BREAKS),
        ("jetpack-7.2", "jetpack-5.1.2", State.READ),  # a Xavier cannot
        ("tensorrt-11.4", "jetpack-6.2", State.BREAKS),
        ("tensorrt-10.16", "jetpack-7.2", State.OK),
        ("tensorrt-11.4", "tensorrt-10.3", State.OK),
        ("jetpack-7.2", "tensorrt-10.3", State.OK),
    ],
)
def test_which_boards_the_target_is_for(tmp_path: Path, to: str, come_from: str, state: State) -> None:
    assert item(read(tmp_path, "x = 1\n", to, come_from), "what it is for").state is state


def test_a_move_comes_from_this_host_where_it_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("")
    thor = check(tmp_path, "jetpack-7.2", "", HostTuple("110", "7.1", "10.13.3.9", "38.4.0", "p3834-0008"))
    assert (thor.base.name, thor.how, item(thor, "what it is for").state) == (
        "jetpack-7.1",
        "what this host is",
        State.OK,
    )
    xavier = check(tmp_path, "jetpack-7.2", "", HostTuple("72", "5.1", "8.5.2", "35.2.1", "p2888-0001"))
    assert item(xavier, "what it is for").state is State.BREAKS
    assert check(tmp_path, "jetpack-7.2", "", HostTuple("89", "none", "10.13.3.9")).base.name == "tensorrt-10.13.3.9"
    for unknown in (
        WORKSTATION,
        HostTuple("89", "none", "rtx1.7.1.116"),
        HostTuple("87", "unknown", "10.3.0", "36.9.9"),
    ):
        checklist = check(tmp_path, "tensorrt-11.4", "", unknown)
        assert checklist.base.name == "jetpack-6.2"
        assert "assumed" in checklist.how
        assert checklist.verdict is Outcome.PASS  # nobody said that the board is a Jetson


def test_a_move_to_the_same_place_changes_nothing(tmp_path: Path) -> None:
    checklist = read(tmp_path, "import tensorrt as trt\nx = trt.BuilderFlag.FP16\n", "jetpack-6.2", "jetpack-6.2")
    assert (checklist.verdict, {one.state for one in checklist.items}) == (Outcome.PASS, {State.OK})


def test_engines_are_built_again_where_only_jetpack_changes_because_the_engine_check_asks_it(tmp_path: Path) -> None:
    engines = item(read(tmp_path, "x = 1\n", "jetpack-6.2.2", "jetpack-6.2"), "engines")
    assert engines.state is State.TO_DO
    assert "engine check refuses" in engines.told


def test_python_and_cuda_of_the_target_are_told(tmp_path: Path) -> None:
    checklist = read(tmp_path, "x = 1\n", "jetpack-7.2", "jetpack-6.2")
    assert "python3.12 -m venv" in item(checklist, "interpreter").todo
    assert item(checklist, "CUDA").told == "CUDA 12.6 becomes 13.2."
    assert "3.10 or later" in item(read(tmp_path, "x = 1\n"), "interpreter").told


# ---- bad input, and what is written out ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("jetpack-7.3", "Did you mean 'jetpack-7.2'?"),
        ("jetpak-7.2", "Did you mean 'jetpack-7.2'?"),
        ("tensorrt-12.0", "is no platform of the table"),
        ("tensorrt-", "expected jetpack-VERSION or tensorrt-VERSION"),
        ("", "is no platform of the table"),
    ],
)
def test_an_unknown_platform_is_refused_with_what_was_meant(tmp_path: Path, to: str, words: str) -> None:
    with pytest.raises(UsageError, match="is no platform") as caught:
        check(tmp_path, to)
    assert words in str(caught.value)
    with pytest.raises(UsageError):
        check(tmp_path, "jetpack-7.2", to or "x")


def test_a_source_without_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no Python file"):
        check(tmp_path)
    with pytest.raises(UsageError, match="There is no"):
        check(tmp_path / "nowhere")


def test_a_single_file_may_be_the_source(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(dedent(IMPLICIT_INT8))
    (tmp_path / "two.py").write_text('print "x"')
    assert found(check(tmp_path / "one.py"))["BuilderFlag.INT8"].places == ("one.py:14",)


def test_a_table_or_manifest_that_is_broken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("[[")
    (tmp_path / "tensorrt-10.3.0.json").write_text("[]")
    with pytest.raises(UsageError, match="is not TOML"):
        load_table(tmp_path / "broken.toml", FIXTURES / "api")
    with pytest.raises(UsageError, match="cannot be read"):
        load_table(tmp_path / "none.toml", FIXTURES / "api")
    with pytest.raises(UsageError, match="has no manifest"):
        load_table(FIXTURES / "platforms.toml", tmp_path / "none")
    with pytest.raises(UsageError, match="is no manifest of an API"):
        load_table(FIXTURES / "platforms.toml", tmp_path).manifest("10.3")


def test_json_has_all_that_the_list_has(tmp_path: Path) -> None:
    checklist = read(tmp_path, IMPLICIT_INT8)
    told: dict[str, Any] = json.loads(json.dumps(checklist.to_json()))
    assert (told["verdict"], told["exit_code"]) == ("FAIL", 1)
    assert told["from"]["api"] == "10.3.0"
    assert told["to"]["tensorrt"] == "11.4"
    assert told["to"]["jetpack"] is None
    assert [one["title"] for one in told["checks"]] == [one.title for one in checklist.items]
    gone = next(one for one in told["checks"] if one["title"] == "names in use that are gone or changed")
    assert {"what", "change", "state", "certain", "places", "instead", "guarded_by", "source"} <= gone["findings"][
        0
    ].keys()


def test_text_and_markdown_name_each_place_and_break_no_table(tmp_path: Path) -> None:
    (tmp_path / "a|b.py").write_text("import tensorrt as trt\nx = trt.BuilderFlag.FP16\n")
    checklist = check(tmp_path)
    assert checklist.to_text().startswith("FAIL: not able to move from TensorRT 10.3 to TensorRT 11.4")
    assert "at a|b.py:2" in checklist.to_text()
    lines = checklist.to_markdown().splitlines()
    assert lines[0] == "# TensorRT 11.4: FAIL"
    table = [line for line in lines if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in table} == {5}
    assert any("`BuilderFlag.FP16`: gone, at a\\|b.py:2" in line for line in lines)
    assert any(line.startswith("- docs.nvidia.com/") for line in lines)


def test_what_a_source_calls_itself_is_no_markup(tmp_path: Path) -> None:
    (tmp_path / "<b>*x*`.py").write_text("import tensorrt as trt\nx = trt.Builder(None).create_network(1 << 0)\n")
    text = check(tmp_path).to_markdown()
    assert "<b>" not in text.replace("&lt;b>", "")
    assert "at &lt;b>\\*x\\*'.py:2" in text
    assert "`trt.Builder(None).create_network(1 << 0)`" in text


# ---- the table -------------------------------------------------------------------------------------------------------


def test_the_table_has_every_jetpack_that_an_l4t_belongs_to(table: Table) -> None:
    assert set(JETPACK_OF_L4T.values()) == {version for row in table.rows("jetpack") for version in row["versions"]}


def test_each_entry_of_the_table_names_its_source(table: Table) -> None:
    kinds = (
        "board", "jetpack", "tensorrt", "instead", "never", "deprecated", "library", "module", "front", "trtexec", "wrapper",
    )  # fmt: skip
    assert [row for kind in kinds for row in table.rows(kind) if not row.get("source")] == []
    single = ("typing", "engines", "timing_caches", "onnxruntime_caches")
    assert [name for name in single if not table.values[name].get("source")] == []


def test_every_name_that_is_gone_in_tensorrt_11_has_a_row_that_says_what_to_use(table: Table) -> None:
    new = table.manifest("11.4")
    assert new is not None
    for version in ("10.3", "10.13", "10.16"):
        old = table.manifest(version)
        assert old is not None
        gone = {name for name in old.names - new.names if name.partition(".")[0] in new.entries or "." not in name}
        assert {name for name in gone if not table.instead(name)} - {
            "PreviewFeature.MULTIDEVICE_RUNTIME_10_16"
        } == set()


def test_what_the_table_puts_in_the_place_of_a_name_is_there(table: Table) -> None:
    old, new = table.manifest("10.3"), table.manifest("11.4")
    assert old is not None
    assert new is not None
    for row in table.rows("instead"):
        if "member" in row:
            assert new.has(row["member"]) or any(name.endswith(f".{row['member']}") for name in new.names), row
    for row in table.rows("precision"):
        assert table.instead(row["needs"][0])
    every = [table.manifest(version) for version in table.manifests]
    for row in table.rows("never"):
        names = [path for name in row["names"] for path in (f"*.{name}", name)]
        assert not [name for name in names for one in every if one is not None and one.has(name)]


def test_methods_with_several_signatures_have_none_in_the_manifests(table: Table) -> None:
    for version in table.manifests:
        manifest = table.manifest(version)
        assert manifest is not None
        for path, gives in OVERLOADED.items():
            name, _, method = path.partition(".")
            assert "*args" in manifest.members(name)[method] or manifest.members(name)[method].endswith(
                f"tensorrt.{gives}"
            )
            assert gives in manifest.entries


def test_the_table_has_its_origin() -> None:
    origins = tomllib.loads((FIXTURES / "ORIGINS.toml").read_text(encoding="utf-8"))
    assert [one for one in origins["origin"] if "platforms.toml" in one["files"]]


GUARDED = """
    import contextlib
    import tensorrt as trt
    from importlib.metadata import version
    from packaging.version import parse
    from tensorrt import __version__ as TEXT
    MAJOR = int(trt.__version__.split(".")[0])
    major, minor = (int(part) for part in trt.__version__.split(".")[:2])
    def at_least(): return parse(trt.__version__) >= parse("11")
    class Builder:
        def __init__(self):
            self.old = MAJOR < 11
        def build(self, config: trt.IBuilderConfig):
            with contextlib.suppress(AttributeError):
                config.set_flag(trt.BuilderFlag.FP16)
            {head}
                config.set_flag(trt.BuilderFlag.INT8)
"""


@pytest.mark.covers("RE-02")
@pytest.mark.parametrize(
    ("head", "state"),
    [
        ("if MAJOR < 11:", State.OK),
        ("if MAJOR >= 11:", State.BREAKS),
        ("if major * 100 + minor < 1100:", State.OK),
        ("if not at_least():", State.OK),
        ("if at_least():", State.BREAKS),
        ("if self.old:", State.OK),
        ("if not self.old:", State.BREAKS),
        ("if TEXT.startswith('10'):", State.OK),
        ("if version('tensorrt').partition('.')[0] == '10':", State.OK),
        ("if parse(trt.__version__).release[0] < 11:", State.OK),
        ("if (now := MAJOR) < 11:", State.OK),
        ("if callable(getattr(trt, 'IInt8Calibrator', None)):", State.OK),
        ("if parse(torch.__version__) < parse('2.0'):", State.BREAKS),
        ("if config.old < 2:", State.BREAKS),
        ("if some_of(MAJOR) < 11:", State.READ),
    ],
)
def test_a_version_is_followed_to_where_it_was_kept(tmp_path: Path, head: str, state: State) -> None:
    told = states(read(tmp_path, GUARDED.format(head=head)))
    assert (told["BuilderFlag.FP16"], told["BuilderFlag.INT8"]) == (State.OK, state)


@pytest.mark.covers("RE-02")
@pytest.mark.parametrize(
    ("code", "caught", "state"),
    [
        ("x = trt.BuilderFlag.FP16", "ImportError", State.BREAKS),
        ("x = trt.BuilderFlag.FP16", "(ImportError, AttributeError)", State.OK),
        ("x = trt.BuilderFlag.FP16", "Exception", State.READ),
        ("from tensorrt import IInt8Calibrator", "ImportError", State.OK),
        ("from tensorrt import IInt8Calibrator", "AttributeError", State.BREAKS),
    ],
)
def test_only_the_error_that_a_missing_name_raises_is_caught(
    tmp_path: Path, code: str, caught: str, state: State
) -> None:
    found = states(read(tmp_path, f"import tensorrt as trt\ntry:\n    {code}\nexcept {caught}:\n    x = None\n"))
    assert list(found.values()) == [state]


def test_a_number_that_means_something_else_is_not_caught(tmp_path: Path) -> None:
    code = """
        import tensorrt as trt
        try:
            network = trt.Builder(trt.Logger()).create_network(1)
        except AttributeError:
            pass
    """
    assert list(states(read(tmp_path, code)).values()) == [State.BREAKS]


@pytest.mark.parametrize(
    "instead", ["sys.exit('TensorRT 10 is needed')", "raise RuntimeError('TensorRT 10 is needed')"]
)
def test_a_program_that_ends_in_the_target_is_to_be_looked_at(tmp_path: Path, instead: str) -> None:
    code = f"import sys, tensorrt as trt\nif int(trt.__version__.split('.')[0]) > 10:\n    {instead}\nx = trt.BuilderFlag.FP16\n"
    checklist = read(tmp_path, code)
    assert states(checklist) == {"BuilderFlag.FP16": State.READ}
    assert checklist.verdict is Outcome.INCONCLUSIVE


def test_the_api_of_tensorrt_8_breaks_and_has_its_own_words_for_each_name(tmp_path: Path) -> None:
    code = """
        import tensorrt as trt
        def f(context: trt.IExecutionContext, network: trt.INetworkDefinition, engine: trt.ICudaEngine):
            trt.UffParser()
            network.add_fully_connected(None, 1, None)
            network.add_resize(None).resize_mode = trt.ResizeMode.LINEAR
            engine.get_profile_shape(0, 0)
            context.execute_async(1, [], 0)
            match context:
                case trt.BuilderFlag.STRICT_TYPES: pass
            setattr(engine, "max_batch_size", 1)
    """
    told = {one.what: (one.state, one.instead) for item in read(tmp_path, code).items for one in item.findings}
    assert {state for state, _ in told.values()} == {State.BREAKS}
    assert told["ResizeMode"][1] == "InterpolationMode"
    assert told["ICudaEngine.get_profile_shape"][1] == "get_tensor_profile_shape"
    assert told["INetworkDefinition.add_fully_connected"][1] == "add_matrix_multiply"
    assert {
        "UffParser",
        "IExecutionContext.execute_async",
        "BuilderFlag.STRICT_TYPES",
        "ICudaEngine.max_batch_size",
    } < set(told)
    assert "ResizeMode.LINEAR" not in told


def test_a_part_of_the_package_that_the_target_is_too_old_for_breaks(tmp_path: Path) -> None:
    code = "import tensorrt.plugin as trtp\ntrtp.register('a::b')\n"
    assert states(read(tmp_path, code, to="tensorrt-10.3", come_from="tensorrt-11.4")) == {"plugin": State.BREAKS}
    assert states(read(tmp_path, code)) == {"plugin": State.NOT_KNOWN}


def test_a_notebook_is_read_with_the_lines_of_its_file(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["import tensorrt as trt"]},
        {
            "cell_type": "code",
            "source": ["%matplotlib inline\n", "import tensorrt as trt\n", "!trtexec --onnx=m --int8\n"],
        },
        {"cell_type": "code", "source": ["print 'x'"]},
        {"cell_type": "code", "source": ["trt.Builder?\n", "files = !ls\n", "text = ('%d'\n", "  % 3)"]},
        {"cell_type": "code", "source": "text = ('%d'\n  % trt.BuilderFlag.BF16)"},
        {"cell_type": "code", "source": ["x = trt.BuilderFlag.FP16"]},
    ]
    text = json.dumps({"cells": cells, "nbformat": 4}, indent=1)
    (tmp_path / "a.ipynb").write_text(text)
    checklist = check(tmp_path)
    found = {one.what: one.places for item in checklist.items for one in item.findings}
    at = {word: 1 + next(n for n, line in enumerate(text.splitlines()) if word in line) for word in ("FP16", "--int8")}
    assert found["BuilderFlag.FP16"] == (f"a.ipynb:{at['FP16']}",)
    assert found["trtexec --int8"] == (f"a.ipynb:{at['--int8']}",)
    (unread,) = item(checklist, "files that are not read").findings
    assert "code cell 2" in unread.told
    assert "BuilderFlag.BF16" in found


@pytest.mark.covers("RE-02")
@pytest.mark.parametrize("name", ["build.sh", "Makefile", "Dockerfile.orin", "ci.yaml"])
def test_scripts_are_read_for_the_options_of_trtexec(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(
        "# trtexec --best\ntrtexec --onnx=m.onnx --fp16 \\\n  --calib=c.cache --workspace=1024\n"
    )
    checklist = check(tmp_path)
    found = {one.what: one.places for item in checklist.items for one in item.findings}
    assert found == {
        "trtexec --fp16": (f"{name}:2",), "trtexec --calib": (f"{name}:3",), "trtexec --workspace": (f"{name}:3",),
    }  # fmt: skip
    assert checklist.verdict is Outcome.INCONCLUSIVE


def test_options_in_a_formatted_text_are_found(tmp_path: Path) -> None:
    code = 'import os\nos.system(f"trtexec --onnx={path} --best --layerPrecisions={layers}")\n'
    assert set(found(read(tmp_path, code), "precision")) == {"trtexec --best", "trtexec --layerPrecisions"}


def test_packages_that_build_by_themselves_are_to_be_looked_at(tmp_path: Path) -> None:
    code = """
        from polygraphy.backend.trt import CreateConfig
        from torch2trt import torch2trt
        CreateConfig(fp16=True, int8=False)
    """
    checklist = read(tmp_path, code)
    assert set(found(checklist, "precision")) == {"Polygraphy's CreateConfig(fp16=…)"}
    assert item(checklist, "torch2trt").state is State.READ
    assert read(tmp_path, code, to="tensorrt-10.3").verdict is Outcome.PASS


def test_a_pipe_and_a_file_without_end_are_named_and_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    with (tmp_path / "huge.py").open("wb") as huge:
        huge.truncate((32 << 20) + 1)
    told = {one.what: one.told for one in item(read(tmp_path, "x = 1\n"), "files that are not read").findings}
    assert told == {
        "huge.py": "is not read: it has more than 32 MiB", "pipe.py": "is not read: it is no file that can be read",
    }  # fmt: skip


def test_a_version_that_a_sibling_keeps_is_followed_there(tmp_path: Path) -> None:
    (tmp_path / "sibling.py").write_text(
        "import tensorrt as trt\nTRT_MAJOR = int(trt.__version__[:2])\ndef is_new():\n    return TRT_MAJOR > 10\n"
    )
    code = """
        import tensorrt as trt
        from sibling import TRT_MAJOR, is_new
        if TRT_MAJOR < 11:
            x = trt.BuilderFlag.FP16
        if is_new():
            x = trt.BuilderFlag.INT8
    """
    assert states(read(tmp_path, code)) == {"BuilderFlag.FP16": State.OK, "BuilderFlag.INT8": State.BREAKS}


def test_data_and_links_to_nowhere_beside_the_code_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('{"note": "trtexec --fp16"}' + " " * (1 << 20))
    (tmp_path / "gone.sh").symlink_to(tmp_path / "nowhere.sh")
    checklist = read(tmp_path, "import tensorrt\n")
    assert checklist.verdict is Outcome.PASS
    assert not found(checklist)


def test_options_that_are_turned_off_are_no_use(tmp_path: Path) -> None:
    code = 'PROVIDERS = [("TensorrtExecutionProvider", {"trt_fp16_enable": True, "trt_int8_enable": False, "trt_dla_enable": 0})]'
    assert set(found(read(tmp_path, code), "precision")) == {"trt_fp16_enable"}
