"""`trigate compile`: what is built, what is there already, and how the command ends."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx: not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")
pytest.importorskip("polygraphy", reason="polygraphy: not installed")

from harness.compile import Compiled, Order, compile_model, parse_shapes
from harness.errors import UsageError
from harness.fakes.device import SimulatedDevice
from harness.fakes.install import installed
from runtime.data import EngineCacheEntry, Profile
from runtime.errors import CalibrationCacheError, EngineBuildError, RuntimeNotAvailableError
from runtime.gate import EngineGate
from runtime.logs import EventLog
from runtime.platform import HostTuple
from runtime.strategies.trt_job import Progress
from runtime.strategies.trt_launch import in_process
from tests.harness import tiny

ORIN = HostTuple("87", "6.2", "10.3.0", "36.4.3", "p3767-0000")


@pytest.fixture
def orin() -> Iterator[SimulatedDevice]:
    device = SimulatedDevice(sm="87", is_integrated=True)
    with installed(device, tensorrt="10.3.0"):
        yield device


def order(tmp_path: Path, **more: Any) -> Order:
    path = tmp_path / "tiny.onnx"
    return Order(path if path.exists() else tiny.write_onnx(path), out=tmp_path / "engines", **more)


def compile_here(asked: Order, environ: dict[str, str] | None = None, **more: Any) -> Compiled:
    log = EventLog(stream=io.StringIO())
    return compile_model(asked, environ or {}, host=ORIN, launch=in_process, log=log, **more)


@pytest.mark.covers("TT-10")
def test_a_second_call_builds_nothing_and_says_so(orin: SimulatedDevice, tmp_path: Path) -> None:
    first = compile_here(order(tmp_path))
    assert (first.is_new, "built in" in first.to_text()) == (True, True)
    calls = len(orin.calls)
    second = compile_here(order(tmp_path))
    assert (second.is_new, second.entry) == (False, first.entry)
    assert "nothing to build; it is there, made as asked, and passes the engine check." in second.to_text()
    assert len(orin.calls) == calls
    assert compile_here(order(tmp_path, force=True)).is_new


@pytest.mark.covers("TT-01")
def test_what_is_printed_for_machines_is_the_entry(orin: SimulatedDevice, tmp_path: Path) -> None:
    done = compile_here(order(tmp_path))
    told = json.loads(json.dumps(done.to_json()))
    entry = EngineCacheEntry.from_json(json.dumps(told["entry"]))
    assert entry == done.entry
    EngineGate(ORIN).validate(entry)
    assert told["built"] is True
    text = done.to_text()
    assert "for            sm87 jp6.2 trt10.3" in text
    assert "fp16, by flags" in text
    assert "layers         fp16 4" in text


@pytest.mark.covers("TR-08", "TT-02")
def test_int8_is_calibrated_on_the_folder_that_is_named(orin: SimulatedDevice, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for at in range(3):
        np.savez(tmp_path / "frames" / f"{at}.npz", x=np.full((2, tiny.WIDTH), at, np.float32))
    done = compile_here(order(tmp_path, precision="int8", calibration=tmp_path / "frames"))
    assert done.entry.extras["route"] == "flags+calibrator"
    with pytest.raises(UsageError, match=r"int8 needs a calibration_dataset.* Here that is --calibration DIR\."):
        compile_here(order(tmp_path, precision="int8"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CalibrationCacheError, match="holds no calibration inputs"):
        compile_here(order(tmp_path, precision="int8", calibration=tmp_path / "empty"))


def test_phases_are_passed_on(orin: SimulatedDevice, tmp_path: Path) -> None:
    seen: list[Progress] = []
    compile_here(order(tmp_path), on_progress=seen.append)
    assert {"preparing", "parsing"} <= {told.phase for told in seen}


@pytest.mark.covers("OR-01", "PT-03")
def test_the_other_runtimes_point_at_the_file_and_build_nothing(tmp_path: Path) -> None:
    done = compile_here(order(tmp_path, runtime="onnx_trt_ep"))
    assert (done.is_new, done.entry.engine_path) == (None, tmp_path / "tiny.onnx")
    assert "this runtime compiles nothing" in done.to_text()
    assert not (tmp_path / "engines").exists()
    with pytest.raises(UsageError, match="--sm is for tensorrt"):
        compile_here(order(tmp_path, runtime="onnx_trt_ep", sm="89"))


@pytest.mark.covers("FA-02")
def test_a_runtime_that_is_switched_off_compiles_nothing(orin: SimulatedDevice, tmp_path: Path) -> None:
    for label in ("tensorrt", "onnx_trt_ep"):
        flag = f"BUILD_{label.upper()}_RUNTIME"
        with pytest.raises(RuntimeNotAvailableError, match=f"{flag} is OFF"):
            compile_here(order(tmp_path, runtime=label), {flag: "OFF"})


@pytest.mark.covers("TT-01")
def test_trtexec_is_looked_for_on_the_search_path(orin: SimulatedDevice, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither /usr/src/tensorrt/bin/trtexec nor on the search path"):
        compile_here(order(tmp_path, route="trtexec"), {"PATH": str(tmp_path)})


@pytest.mark.parametrize(
    ("text", "profile"),
    [
        ("x:1x3..2x3..4x3", Profile("x", (1, 3), (2, 3), (4, 3))),
        ("x:2x3", Profile("x", (2, 3), (2, 3), (2, 3))),
        ("in:0:7", Profile("in:0", (7,), (7,), (7,))),
    ],
)
def test_shapes_are_read(text: str, profile: Profile) -> None:
    assert parse_shapes(text) == profile


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1x3", "it is written otherwise"),
        ("x:1x3..2x3", "it is written otherwise"),
        ("x:ax3", "it is written otherwise"),
        ("x:", "it is written otherwise"),
        ("x:4x3..2x3..1x3", "each size must satisfy 0 < min <= opt <= max"),
        ("x:1..2x3..4", "the three must have one rank"),
    ],
)
def test_shapes_that_cannot_be_are_refused_with_an_example(text: str, says: str) -> None:
    with pytest.raises(UsageError, match="as in image:1x3x96x128") as caught:
        parse_shapes(text)
    assert says in str(caught.value)


@pytest.mark.covers("TT-10", "T0-06")
def test_the_command_builds_a_real_engine_once_and_ends_with_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx: not installed")
    from harness.cli import main

    monkeypatch.chdir(tmp_path)
    tiny.write_onnx(tmp_path / "tiny.onnx")
    words = ["compile", "tiny.onnx", "--sm", "89", "--precision", "fp32"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert "built in" in told.out
    assert "parsing" in told.err
    assert (tmp_path / "engines" / "tiny__sm89_jpnone_trtrtx1.7_fp32.engine").exists()
    assert main([*words, "--json", "--quiet"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["built"] is False
    assert told.err == ""


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["absent.onnx"], 2, "absent.onnx is not in /"),
        (["page.onnx", "--sm", "89"], 2, "page.onnx is not an ONNX file"),
        (["page.onnx", "--runtime", "onnx_trt_ep"], 2, "page.onnx is not an ONNX file"),
        (["absent.pt", "--runtime", "pytorch_fp16"], 2, "absent.pt is no file"),
        (["tiny.onnx"], 2, "there is no GPU here, and none was named to build for"),
        (["tiny.onnx", "--sm", "89", "--shapes", "x:1..2"], 2, "--shapes 'x:1..2'"),
        (["tiny.onnx", "--sm", "89", "--workspace-mb", "0"], 2, "workspace_mb is 0"),
        (["tiny.onnx", "--sm", "89", "--shapes", "y:1x2"], 2, "'y'"),
        (["tiny.onnx", "--sm", "89", "--calibration", "frames"], 2, "--calibration frames does not exist"),
        (["tiny.onnx", "--sm", "89", "--route", "trtexec", "--trtexec", "absent"], 2, "absent"),
        (["tiny.onnx", "--sm", "89", "--precision", "fp17"], 2, "invalid choice: 'fp17'"),
        (["tiny.onnx", "--bogus"], 2, "unrecognized arguments: --bogus"),
        (["tiny.onnx", "--sm", "89", "--precision", "int8"], 2, "int8 needs a calibration_dataset"),
        (["tiny.onnx", "--runtime", "onnx_trt_ep", "--sm", "89"], 2, "--sm is for tensorrt"),
        (["tiny.onnx", "--sm", "89"], 1, "the builder gave up"),
        (["tiny.onnx", "--sm", "89"], 2, "tensorrt is not installed"),
        (["tiny.onnx", "--sm", "89"], 4, "internal error"),
    ],
)
def test_the_command_ends_with_1_where_a_build_fails_and_2_where_the_call_is_wrong_or_a_library_missing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    says: str,
) -> None:
    from harness.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.compile.detect_host", lambda: HostTuple("none", "none", "rtx1.7.1.116"))
    raised = {1: EngineBuildError(says), 2: RuntimeNotAvailableError(says), 4: ValueError(says)}

    def provision(*_: object, **__: object) -> None:
        raise raised[code]

    monkeypatch.setattr("harness.compile.provision", provision)
    tiny.write_onnx(tmp_path / "tiny.onnx")
    (tmp_path / "page.onnx").write_text("<!DOCTYPE html>")
    try:
        ended = main(["compile", *words, "--quiet", "--json"])
    except SystemExit as wrong:
        ended = int(wrong.code or 0)
    assert ended == code
    told = capsys.readouterr()
    assert says in json.loads(told.out)["error"]
    assert json.loads(told.out)["exit_code"] == code
    assert says in told.err
    assert ("Traceback" in told.err) == (code == 4)
    assert not (tmp_path / "engines").exists()
