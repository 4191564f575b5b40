"""What was warned of while a row ran: kept with the row, and the same in two runs of one version."""

import io
import json
import sys
import warnings
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path

import pytest

from harness.records import Case, Measurement, Outcome, Summary, Verdict
from harness.run_folder import LOG_FILE, RunFolder
from harness.warned import MOST_WARNINGS, Ear, listening, plain, warnings_of
from runtime.logs import EventLog, Kind

pytestmark = pytest.mark.covers("RE-02")

ROW = Case("row", 2, "latency", "disk", "tensorrt", "fp16", "fp16", "small")


def event(**told: object) -> str:
    return json.dumps({"kind": "c7.build_remark", "level": "WARN", "time_ns": 1, **told})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("the object at 0x7f3c88d2aa10 was lost", "the object at 0x7f11aa000010 was lost"),
        ("process 8123 holds the GPU", "process 77 holds the GPU"),
        ("at 2026-11-21T18:49:29Z the clock fell", "at 2025-01-02T03:04:05Z the clock fell"),
        ("the build took 12.25 s", "the build took 9 s"),
        ("/home/a/.cache/engines/m.cache is stale", "/mnt/of/b/m.cache is stale"),
        ("'/tmp/trigate-load-a1b2c3d4/m.onnx' is gone", "'/var/tmp/trigate-load-zz99yy88/m.onnx' is gone"),
        ("hashes to 49a3afd52974a1b3c69174a690ede440", "hashes to 770b0f3c8623e18bf58b53754d710051"),
        ("functional.py:123: it is deprecated", "functional.py:99: it is deprecated"),
        ("1731356 bytes were not used", "88 bytes were not used"),
    ],
)
def test_what_changes_by_itself_makes_no_new_warning(one: str, other: str) -> None:
    assert plain(one) == plain(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("layer conv1 is in fp32", "layer conv2 is in fp32"),
        ("TensorRT 10.3.0 warns", "TensorRT 10.16.1 warns"),
        ("/a/b/m.cache is stale", "/a/b/m.engine is stale"),
        ("opset 17 is old", "opset 18 is old"),
    ],
)
def test_what_a_person_would_call_another_warning_stays_another(one: str, other: str) -> None:
    assert plain(one) != plain(other)


def test_each_form_in_which_a_library_warns_is_heard_once() -> None:
    lines = [
        event(remark="the timing cache cannot be kept: disk full", engine="m__sm87.engine"),
        event(remark="the timing cache cannot be kept: disk full", engine="other.engine", time_ns=9),
        event(refused={"tensorrt": "no GPU", "cuda": ["a", "b"]}).replace("build_remark", "cpu_fallback"),
        event(level="INFO", remark="all is well"),
        event(level="ERROR", message="that is the row's own reason"),
        "/usr/lib/python3/site-packages/torch/nn/functional.py:17: UserWarning: old call",
        "  return old(call)",
        "2026-11-21 18:49:29.123 [W:onnxruntime:, graph.cc:1372 Graph] Initializer w is not used",
        "[11/21/2026-18:49:29] [W] [TRT] Missing scale for tensor t",
        "[11/21/2026-18:49:29] [I] [TRT] Engine built",
        "{ no JSON",
        '"WARN"',
    ]
    assert warnings_of(lines) == (
        "build_remark: the timing cache cannot be kept: disk full",
        "cpu_fallback: refused tensorrt (no GPU), cuda (a, b)",
        "UserWarning: old call",
        "onnxruntime: Initializer w is not used",
        "TRT: Missing scale for tensor t",
    )


def test_a_row_that_warns_without_end_keeps_a_few_and_says_how_many_more() -> None:
    found = warnings_of(event(remark=f"tensor {'x' * at} has no range") for at in range(50))
    assert len(found) == MOST_WARNINGS + 1
    assert found[-1] == "30 more kinds of warnings, in logs/run.log"
    assert all(len(each) <= 240 for each in found)


def settle(case: Case) -> Verdict:
    EventLog().warn(Kind.PRECISION_DIFFERS, engine="m.engine", reason="asked for fp16; the layers compute in fp32")
    warnings.warn("an old call at 0x7f00aa11bb22", UserWarning, stacklevel=1)
    sys.stderr.write("x.py:3: FutureWarning: of a child\n")
    measurement = Measurement(case, warnings=("its own",))
    return Verdict(Summary(measurement), Outcome.MEASURED, "")


@pytest.mark.filterwarnings("default")
def test_a_row_keeps_what_the_runtime_the_libraries_and_children_warned_of(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as folder, folder.open_log() as log, redirect_stderr(log):
        log.write(event(remark="of an earlier row") + "\n")
        heard = listening(settle, Ear(log, folder.path / LOG_FILE))
        first, second = heard(ROW), heard(replace(ROW, id="second"))
    assert first.summary.measurement.warnings == (
        "its own",
        "precision_differs: asked for fp16; the layers compute in fp32",
        "FutureWarning: of a child",
        "UserWarning: an old call at 0x…",
    )
    assert second.summary.measurement.warnings == first.summary.measurement.warnings
    assert "an old call at 0x7f00aa11bb22" in (tmp_path / "run" / LOG_FILE).read_text()


@pytest.mark.filterwarnings("default")
def test_rows_about_runtimes_warn_on_purpose_and_are_left_as_they_are(tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path / "run") as folder,
        folder.open_log() as log,
        redirect_stderr(log),
        warnings.catch_warnings(record=True),
    ):
        verdict = listening(settle, Ear(log, folder.path / LOG_FILE))(replace(ROW, kind="faults"))
    assert verdict.summary.measurement.warnings == ("its own",)


class Full(io.StringIO):
    """A disk that is full."""

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


@pytest.mark.filterwarnings("default")
def test_a_log_that_cannot_be_written_costs_its_lines_and_never_the_row(tmp_path: Path) -> None:
    with redirect_stderr(io.StringIO()):
        verdict = listening(settle, Ear(Full(), tmp_path / "run.log"))(ROW)
    assert verdict.summary.measurement.warnings == ("its own", "UserWarning: an old call at 0x…")
