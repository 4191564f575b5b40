"""The command as a user types it: whole processes where rows run, in this process where nothing does."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx: not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")
pytest.importorskip("torch", reason="torch: not installed")

from harness.cli import main, make_parser  # noqa: E402
from harness.records import Outcome, Run, run_from_folder  # noqa: E402
from harness.signoff.bundle import judge_again  # noqa: E402
from tests.harness import tiny  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def trigate(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    environ = {**os.environ, "TRIGATE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}

    def call(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "harness.cli", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environ, timeout=300, **more
        )

    return call


def read(folder: Path) -> Run:
    return run_from_folder(folder)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence of a call that ends with exit code 2."""
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "Traceback" not in told.err
    lines = [line for line in told.err.splitlines() if line.startswith("trigate: ")]
    assert len(lines) == 1, told.err
    return lines[0]


@pytest.mark.covers("RE-01", "RE-04", "T1-01", "T1-03")
def test_a_users_model_in_both_forms_is_judged_and_reported(trigate: Any, tmp_path: Path) -> None:
    config = tiny.write_project(tmp_path)
    fresh = "not load and not memory and not takeoff and not harness"  # a test of their own has these
    done = trigate("run", config, "--out", "run", "--", "-k", fresh)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("No evidence about TensorRT.")
    run = read(tmp_path / "run")
    assert run.complete
    assert run.exit_code == 0
    rows = {verdict.case.id: verdict for verdict in run.verdicts}
    assert [case.id for case in run.planned] == list(rows)
    passed = {name for name, verdict in rows.items() if verdict.outcome is Outcome.PASS}
    assert {
        "tiny-onnx-fp32-b1-artifact",
        "tiny-onnx_trt_ep-fp32-b1-semantic",
        "tiny-onnx_trt_ep-fp32-b1",
        "tiny-pytorch_fp16-fp32-b1",
        "tiny-pytorch_fp16-fp16-b1",
        "tiny-onnx_trt_ep-fp16-b1",
    } <= passed
    assert rows["tiny-onnx_trt_ep-fp32-b1"].summary.measurement.placement == "onnx_trt_ep[cpu]"
    assert rows["tiny-tensorrt-fp16-b1"].outcome is Outcome.NOT_RUN
    assert {"conformance-onnx_trt_ep", "conformance-pytorch_fp16"} <= passed
    assert not any(case.simulated for case in run.planned)  # nobody asked for what stands in for a device
    latency = rows["tiny-onnx_trt_ep-fp16-b1-latency"]
    assert latency.outcome is Outcome.MEASURED
    assert latency.summary.latency is not None
    assert (tmp_path / "run" / latency.summary.measurement.samples_file).exists()
    for name in ("report.html", "report.md", "junit.xml", "tables/verdicts.csv"):
        assert (tmp_path / "run" / name).stat().st_size > 0


@pytest.mark.covers("T2-01", "T2-05", "OR-07")
def test_tier_2_runs_whole_on_a_host_without_a_board(trigate: Any, tmp_path: Path) -> None:
    config = tiny.write_project(tmp_path)
    done = trigate("run", config, "--tier", "2", "--runtime", "onnx_trt_ep", "--out", "run")
    assert done.returncode == 3, done.stdout + done.stderr  # named, and nothing here has a budget
    assert "none of its rows is judged here, only measured" in done.stdout
    run = read(tmp_path / "run")
    _, contradictions = judge_again(run, tmp_path / "run")
    assert not contradictions  # what a host really measured can be signed
    rows = {verdict.case.kind: verdict for verdict in run.verdicts}
    measured = {"harness", "load", "latency", "memory", "takeoff"}
    assert {kind for kind, row in rows.items() if row.outcome is Outcome.MEASURED} >= measured
    figures = {kind: {figure.name: figure.value for figure in row.summary.figures} for kind, row in rows.items()}
    assert figures["load"]["load_p95_ns"]
    assert figures["load"]["first_session_p50_ns"]  # once with empty caches
    assert figures["memory"]["host_bytes"]
    assert figures["takeoff"]["restart_ready_ns"]
    assert figures["harness"]["sample_cost_ns"]
    effect = next(one for one in rows["harness"].summary.figures if one.name == "telemetry_effect")
    assert (effect.value is None) is effect.why.startswith("not known: ")  # this machine may be too busy to tell
    assert "the same outputs" in rows["takeoff"].reason
    judged = trigate("judge", "run", config, "--board", "here", "--out", "again")
    assert judged.returncode == 2
    assert "no board 'here'" in judged.stderr


@pytest.mark.covers("T1-02", "T1-01")
def test_a_planted_fault_is_found_located_shrunk_and_can_be_reproduced(trigate: Any, tmp_path: Path) -> None:
    state = tiny.weights()
    state["first.weight"] = np.ascontiguousarray(state["first.weight"].T)
    config = tiny.write_project(tmp_path, onnx_state=state)
    done = trigate("run", config, "--tier", "1", "--out", "run")
    assert done.returncode == 1, done.stdout + done.stderr
    failed = {v.case.id: v for v in read(tmp_path / "run").verdicts if v.outcome is Outcome.FAIL}
    assert "tiny-onnx_trt_ep-fp32-b1-semantic" in failed
    assert "tiny-pytorch_fp16-fp32-b1" not in failed
    found = failed["tiny-onnx_trt_ep-fp32-b1"].divergence
    assert found is not None
    assert found.first is not None
    assert found.first.layer == "first"
    assert (tmp_path / "run" / found.smallest_input_file).exists()
    again = trigate(*found.reproduce.split()[1:], "--out", "again")
    assert again.returncode == 1, again.stdout + again.stderr


@pytest.mark.covers("RE-04")
def test_what_is_required_and_not_shown_is_exit_code_3(trigate: Any, tmp_path: Path) -> None:
    path = tiny.write_onnx(tmp_path / "tiny.onnx")
    done = trigate("run", "--model", path, "--tier", "1", "--require", "onnx_trt_ep[tensorrt]", "--out", "run")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Required onnx_trt_ep[tensorrt]" in done.stdout
    assert trigate("run", "--model", path, "--tier", "1", "--require", "tensorrt", "--out", "run2").returncode == 3


def test_a_pack_runs_elsewhere_without_torch_and_onnx(trigate: Any, tmp_path: Path) -> None:
    tiny.write_onnx(tmp_path / "tiny.onnx")
    (tmp_path / "my.toml").write_text('[model.tiny]\nonnx = "tiny.onnx"\nprecision = ["fp32"]\n')
    assert trigate("pack", "my.toml", "--out", "pack").returncode == 0
    (tmp_path / "tiny.onnx").unlink()
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'onnx', 'kornia'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "TRIGATE_CACHE": str(tmp_path / "other")}
    command = [sys.executable, "-m", "harness.cli", "run", "my.toml", "--pack", "pack", "--tier", "1", "--out", "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environ, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {verdict.case.id: verdict.outcome for verdict in read(tmp_path / "run").verdicts}
    assert rows["tiny-onnx_trt_ep-fp32-b1"] is Outcome.PASS
    inputs = tmp_path / "pack" / "tiny" / "inputs.npz"
    data = bytearray(inputs.read_bytes())
    data[len(data) // 2] ^= 1
    inputs.write_bytes(data)
    command[-1] = "run2"
    tampered = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environ, timeout=300
    )
    assert tampered.returncode == 2
    assert "was changed since the pack was made" in tampered.stderr


SLOW = """
import time
from dataclasses import replace
from pathlib import Path
from runtime.strategies.ort import OnnxTrtEpRuntime

class Slow(OnnxTrtEpRuntime):
    def __init__(self, config):
        super().__init__(replace(config, runtime='onnx_trt_ep'))

    def compile_engine(self, model_path, build_config):
        if build_config.precision == 'fp16' and Path('slow').exists():
            time.sleep(300)
        return super().compile_engine(model_path, build_config)
"""


def test_ctrl_c_leaves_a_whole_folder_and_resume_goes_on(trigate: Any, tmp_path: Path) -> None:
    config = tiny.write_project(tmp_path)
    (tmp_path / "theirs.py").write_text(SLOW)
    (tmp_path / "slow").touch()
    environ = {**os.environ, "TRIGATE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    asked = ["run", str(config), "--runtime", "theirs:Slow", "--runtime", "tensorrt", "--tier", "1", "--out", "run"]
    command = [sys.executable, "-m", "harness.cli", *asked]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 240
    run_json = tmp_path / "run" / "run.json"
    while time.monotonic() < deadline and process.poll() is None:
        if run_json.exists() and len(read(tmp_path / "run").verdicts) >= 2:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    interrupted = read(tmp_path / "run")
    assert interrupted.interrupted
    assert not interrupted.complete
    assert 0 < len(interrupted.verdicts) < len(interrupted.planned)
    assert "--resume" in interrupted.last_line
    assert (tmp_path / "run" / "report.html").exists()
    other = trigate(*asked, "--resume", "--require", "onnx_trt_ep")
    assert other.returncode == 2
    assert "this call differs in --require. Give that call again" in other.stderr  # at once, before a model is made
    (tmp_path / "slow").unlink()
    done = trigate(*asked, "--resume")
    finished = read(tmp_path / "run")
    assert done.returncode == finished.exit_code == 3, done.stdout + done.stderr  # tensorrt was asked for
    assert finished.complete
    assert finished.id == interrupted.id
    kept = {v.case.id: v for v in finished.verdicts}
    assert all(kept[v.case.id] == v for v in interrupted.verdicts if v.outcome is not Outcome.NOT_RUN)


def test_a_fault_of_the_runtime_itself_is_found_in_an_onnx_only_model(trigate: Any, tmp_path: Path) -> None:
    tiny.write_onnx(tmp_path / "m.onnx")
    (tmp_path / "theirs.py").write_text(
        "from dataclasses import replace\n"
        "from runtime.strategies.ort import OnnxTrtEpRuntime\n"
        "class Wrong(OnnxTrtEpRuntime):\n"
        "    def __init__(self, config):\n"
        "        super().__init__(replace(config, runtime='onnx_trt_ep'))\n"
        "    def infer(self, handle, inputs, *, out=None):\n"
        "        outputs = super().infer(handle, inputs, out=out)\n"
        "        return {n: a * (1.01 if n in ('g', 'y') else 1) for n, a in outputs.items()}\n"
    )
    done = trigate("run", "--model", "m.onnx", "--tier", "1", "--runtime", "theirs:Wrong", "--out", "run")
    assert done.returncode == 1, done.stdout + done.stderr
    failed = next(v for v in read(tmp_path / "run").verdicts if v.outcome is Outcome.FAIL and v.case.lane == "fp32")
    assert failed.divergence is not None
    assert failed.divergence.first is not None, failed.divergence.notes
    assert failed.divergence.first.layer == "act"


def test_a_checkpoint_alone_is_run_with_its_architecture_and_inputs_from_the_command_line(
    trigate: Any, tmp_path: Path
) -> None:
    tiny.write_checkpoint(tmp_path / "matcher.pt")
    (tmp_path / "my_models.py").write_text(tiny.MODULE)
    (tmp_path / "my_cases.py").write_text(
        "import numpy as np\ndef frames():\n    chance = np.random.default_rng(0)\n"
        "    for _ in range(3):\n        yield {'x': chance.standard_normal((2, 16)).astype(np.float32)}\n"
    )
    asked = ["run", "--model", "matcher.pt", "--architecture", "matcher=my_models:Tiny", "--inputs", "my_cases:frames"]
    done = trigate(*asked, "--tier", "1", "--out", "run")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {v.case.id: v for v in read(tmp_path / "run").verdicts}
    assert rows["matcher-pytorch_fp16-fp16-b1"].outcome is Outcome.PASS
    assert rows["matcher-onnx_trt_ep-fp32-b1"].reason == "onnx_trt_ep: the model has no ONNX file"


@pytest.mark.covers("T1-03")
def test_what_a_selection_leaves_out_is_a_row(trigate: Any, tmp_path: Path) -> None:
    path = tiny.write_onnx(tmp_path / "m.onnx")
    done = trigate("run", "--model", path, "--tier", "1", "--out", "run", "--", "-k", "fp32")
    rows = {v.case.id: v for v in read(tmp_path / "run").verdicts}
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows["m-onnx_trt_ep-fp32-b1"].outcome is Outcome.PASS
    assert rows["m-onnx_trt_ep-fp16-b1"].reason == "left out by the selection (-k, -m)"
    assert trigate("run", "--model", path, "--tier", "1", "--out", "run2", "--", "--nonsense").returncode == 2


@pytest.mark.covers("FA-05", "RT-07")
@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b""), "is an empty file"),
        (lambda path: path.write_text("not a model"), ""),
        (lambda path: path.write_bytes(tiny.write_onnx(path).read_bytes()[:-100]), ""),
        (
            lambda path: path.write_text(
                "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 9\n"
            ),
            "Git LFS",
        ),
    ],
    ids=["missing", "empty", "text", "truncated", "lfs"],
)
def test_a_file_that_is_no_model_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write: Any, says: str
) -> None:
    path = tmp_path / "broken.onnx"
    write(path)
    sentence = refused(
        ["run", "--model", str(path), "--cache", str(tmp_path / "c"), "--out", str(tmp_path / "run")], capsys
    )
    assert says in sentence
    assert "broken.onnx" in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.covers("TR-06")
@pytest.mark.parametrize("where", ["../outside.bin", "gone.bin"])
def test_external_data_that_is_missing_or_outside_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(b"\0" * 4096)
    model = onnx.load(tiny.write_onnx(folder / "m.onnx"))
    for tensor in model.graph.initializer:
        size = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", where), ("offset", "0"), ("length", str(size))):
            tensor.external_data.add(key=key, value=value)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    sentence = refused(
        ["run", "--model", str(folder / "m.onnx"), "--cache", str(tmp_path / "c"), "--out", str(tmp_path / "r")], capsys
    )
    assert where in sentence


def test_custom_operators_and_a_future_opset_are_told(trigate: Any, tmp_path: Path) -> None:
    model = onnx.load(tiny.write_onnx(tmp_path / "m.onnx"))
    model.graph.node[2].op_type, model.graph.node[2].domain = "Sparkle", "my.company"
    model.opset_import.add(domain="my.company", version=1)
    onnx.save(model, tmp_path / "custom.onnx")
    asked = ("--runtime", "onnx_trt_ep")
    done = trigate("run", "--model", "custom.onnx", *asked, "--out", "run")
    assert done.returncode in (1, 2)
    assert "Sparkle" in done.stderr + done.stdout
    new = trigate("run", "--model", tiny.write_onnx(tmp_path / "new.onnx", opset=99), *asked, "--out", "run2")
    assert new.returncode in (1, 2)
    assert "99" in new.stderr + new.stdout
    assert "Traceback" not in done.stderr + new.stderr


def test_a_checkpoint_of_another_architecture_and_a_pickle_that_runs_code_are_refused(
    trigate: Any, tmp_path: Path
) -> None:
    import torch

    config = tiny.write_project(tmp_path)
    state = tiny.weights()
    del state["norm.bias"]
    tiny.write_checkpoint(tmp_path / "tiny.pt", state)
    done = trigate("run", config, "--tier", "1", "--out", "run")
    assert done.returncode == 2
    assert "norm.bias" in done.stderr

    class Trap:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "owned"),))

    torch.save({"first.weight": Trap()}, tmp_path / "tiny.pt")
    done = trigate("run", config, "--tier", "1", "--out", "run")
    assert done.returncode == 2
    assert not (tmp_path / "owned").exists()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--model", "disc"], "Did you mean 'disk'?"),
        (["run", "--runtime", "tensorr"], "Did you mean 'tensorrt'?"),
        (["run", "--require", "tensorrt[gpu]"], "expected tensorrt, cuda or cpu"),
        (["run", "absent.toml"], "does not exist"),
        (["run", "--board", "orin"], "Did you mean 'orin-nx'?"),
        (["run", "--profile", "signoff"], "needs --require"),
        (["run", "--device", "gpu"], "expected auto, cpu or cuda:N"),
        (["run", "--pack", "absent"], "is no pack"),
        (["run", "--inputs", "x.npz"], "--inputs is for one model"),
        (["run", "--model", "x.onnx"], "does not exist"),
        (["run", "--architecture", "a"], "expected NAME=package.module:factory"),
        (["inspect", "absent"], "does not exist"),
        (["init", "--model", "absent.onnx"], "absent.onnx"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_a_wrong_call_is_one_sentence_with_the_next_step(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIGATE_CACHE", str(tmp_path / "cache"))
    extra = ["--dry-run"] if arguments[0] == "run" else []
    assert says in refused([*arguments, *extra], capsys)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--tier", "7"],
        ["run", "--profile", "slow"],
        ["run", "--builds", "0"],
        ["run", "--builds", "x"],
        ["fly"],
        [],
    ],
)
def test_a_wrong_option_ends_with_2_and_points_to_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "--help" in capsys.readouterr().err


def test_json_for_machines_even_when_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "absent", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["exit_code"] == 2


def test_a_plan_can_be_seen_first(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tiny.write_onnx(tmp_path / "m.onnx")
    assert main(["run", "--model", str(path), "--dry-run", "--cache", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "m-onnx_trt_ep-fp32-b1" in told
    assert "conformance-tensorrt-simulated-10.3.0" not in told  # it says nothing of this model
    if find_spec("tensorrt") is None:
        assert re.search(r"NOT RUN: tensorrt: (not installed|no GPU)", told)


@pytest.mark.covers("OR-04")
def test_standard_output_is_for_results(trigate: Any, tmp_path: Path) -> None:
    path = tiny.write_onnx(tmp_path / "m.onnx")
    done = trigate("run", "--model", path, "--tier", "1", "--out", "run", "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["exit_code"] == 0


def test_a_third_partys_runtime_is_built_from_its_class(trigate: Any, tmp_path: Path) -> None:
    path = tiny.write_onnx(tmp_path / "m.onnx")
    (tmp_path / "theirs.py").write_text(
        "from dataclasses import replace\n"
        "from runtime.strategies.ort import OnnxTrtEpRuntime\n"
        "class Theirs(OnnxTrtEpRuntime):\n"
        "    def __init__(self, config):\n"
        "        super().__init__(replace(config, runtime='onnx_trt_ep'))\n"
        "class NoRuntime:\n"
        "    def __init__(self, config): pass\n"
    )
    done = trigate("run", "--model", path, "--tier", "1", "--runtime", "theirs:Theirs", "--out", "run")
    rows = {verdict.case.id: verdict.outcome for verdict in read(tmp_path / "run").verdicts}
    assert rows["m-theirs.Theirs-fp32-b1"] is Outcome.PASS, done.stdout + done.stderr
    wrong = trigate("run", "--model", path, "--tier", "1", "--runtime", "theirs:NoRuntime", "--out", "run2")
    assert wrong.returncode == 2
    assert "is no InferenceRuntime" in wrong.stderr
    absent = trigate("run", "--model", path, "--tier", "1", "--runtime", "theirs:Absent", "--out", "run3")
    assert absent.returncode == 2


@pytest.mark.covers("T0-01", "RE-01")
def test_a_third_partys_runtime_that_breaks_a_clause_fails_tier_0_and_the_page_says_which(
    trigate: Any, tmp_path: Path
) -> None:
    path = tiny.write_onnx(tmp_path / "m.onnx")
    (tmp_path / "theirs.py").write_text(
        "from dataclasses import replace\n"
        "from runtime.strategies.ort import OnnxTrtEpRuntime\n"
        "class Theirs(OnnxTrtEpRuntime):\n"
        "    def __init__(self, config):\n"
        "        super().__init__(replace(config, runtime='onnx_trt_ep'))\n"
        "class Forgets(Theirs):\n"
        "    def infer(self, handle, inputs, *, out=None):\n"
        "        return super().infer(handle, inputs)\n"
    )
    kept = trigate("run", "--model", path, "--tier", "0", "--runtime", "theirs:Theirs", "--out", "kept")
    (row,) = [verdict for verdict in read(tmp_path / "kept").verdicts if verdict.case.kind == "conformance"]
    assert (row.outcome, row.case.required) == (Outcome.PASS, True), kept.stdout + kept.stderr
    done = trigate("run", "--model", path, "--tier", "0", "--runtime", "theirs:Forgets", "--out", "run")
    assert done.returncode == 1, done.stdout + done.stderr
    (row,) = [verdict for verdict in read(tmp_path / "run").verdicts if verdict.case.kind == "conformance"]
    broken = [check for check in row.checks if check.outcome is Outcome.FAIL]
    assert broken[0].name == "C-12 out= is filled, and given back"
    assert "in the caller's own arrays, with out=" in broken[0].reason
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert all(check.name in page for check in row.checks)
    assert broken[0].means in page


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("telemetry", "record", "--out", "x", "--follow", "'"), '--follow is "\'", which is no command'),
        (("telemetry", "record", "--out", "x", "--follow", "  "), "--follow is '  '; expected a command"),
        (("telemetry", "record", "--out", "x", "--hz", "0"), "--hz is 0; expected a rate above 0"),
        (("telemetry", "record", "--out", "x", "--seconds", "nan"), "--seconds is nan; expected a time above 0"),
        (("telemetry", "record", "--out", "x", "--root", "nowhere"), "--root is nowhere, which is no folder"),
        (("telemetry", "replay", "."), "the trace . cannot be read: Is a directory"),
        (("doctor", "--root", "nowhere"), "--root is nowhere, which is no folder"),
        (("judge", ".", "--out", "x"), ". is no run folder: it has no run.json"),
    ],
)
def test_what_no_device_is_needed_for_is_refused_in_a_sentence(
    words: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"trigate: {says}")
    assert "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


def test_a_move_is_looked_at_before_it_is_made(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import tensorrt as trt\nflag = trt.BuilderFlag.FP16\n")
    move = ["preflight", "--from", "tensorrt-10.3", "--to", "tensorrt-11.4", "--source", str(tmp_path)]
    assert main([*move, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert "FP16" in json.dumps(told)
    assert main([*move, "--markdown"]) == 1
    assert "mine.py:2" in capsys.readouterr().out
    assert main(["preflight", "--to", "jetpack-9"]) == 2
    assert "Did you mean" in capsys.readouterr().err


@pytest.mark.covers("RE-02")
def test_two_runs_are_compared_and_a_wrong_call_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    asked = ["run", "--simulated", "steady", "--model", "lightglue", "--quiet", "--out"]
    for name in ("old", "new"):
        assert main([*asked, str(tmp_path / name), "--", "-k", "latency"]) == 0
    out = ["--out", str(tmp_path / "page")]
    runs = ["--base", str(tmp_path / "old"), "--new", str(tmp_path / "new")]
    assert main(["compare", *runs, *out]) == 3  # one base session decides nothing
    assert "MEASURE MORE" in capsys.readouterr().out
    assert (tmp_path / "page" / "compare.html").exists()
    for wrong, says in (
        (["--margin", "p59=0.1"], "Did you mean"),
        (["--margin", "p95=2"], "a share above 0"),
        (["--out", str(tmp_path / "old")], "holds something that is no comparison"),
    ):
        assert main(["compare", *runs, *wrong]) == 2
        assert says in capsys.readouterr().err


@pytest.mark.covers("RE-01")
@pytest.mark.parametrize("quiet", [True, False])
def test_a_pack_is_made_with_progress_or_quietly_and_one_model_is_told_in_the_singular(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], quiet: bool
) -> None:
    model = tiny.write_onnx(tmp_path / "tiny.onnx")
    words = ["pack", "--model", str(model), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "pack")]
    assert main([*words, "--quiet"] if quiet else words) == 0
    told = capsys.readouterr()
    assert f"{tmp_path / 'pack'}: 1 model, sha256 " in told.out
    assert (told.err == "") == quiet


@pytest.mark.parametrize("name", ["run", "pack", "compile", "doctor", "judge", "compare", "sign", "verify"])
def test_what_takes_long_can_be_quiet(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert "--quiet" in capsys.readouterr().out


@pytest.mark.covers("RE-04")
def test_a_call_that_cannot_be_parsed_is_an_object_where_json_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["inspect", "--json"], ["run", "--json", "--bogus"], ["run", "--bogus"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        told = capsys.readouterr()
        assert told.err.startswith("trigate: ")
        assert told.err.endswith(f". Try `trigate {words[0]} --help`.\n")
        if "--json" not in words:
            assert told.out == ""
            continue
        found = json.loads(told.out)
        assert found["exit_code"] == 2
        assert told.err == f"trigate: {found['error']}\n"


def test_a_tier_that_is_given_again_is_one_more() -> None:
    for words in (["--tier", "1", "--tier", "2"], ["--tier", "1", "2"]):
        assert make_parser().parse_args(["run", *words]).tier == [1, 2]
