"""A launch in a process of its own, which ends well, is killed, refuses, or is interrupted; its rows stay."""

from __future__ import annotations

import _thread
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx: not installed")

from harness.errors import UsageError  # noqa: E402
from harness.instruments.trace import Frame, Trace  # noqa: E402
from harness.measure import Bench  # noqa: E402
from harness.tier2 import launch_child as child  # noqa: E402
from harness.tier2.child_job import ChildJob, job_of  # noqa: E402
from harness.tier2.host_station import HostStation  # noqa: E402
from harness.tier2.launch import INTERRUPTED  # noqa: E402
from harness.tier2.launch_job import Asked, FrameWriter, LaunchJob, read_frames, run_child  # noqa: E402
from harness.tier2.load import select  # noqa: E402
from harness.tier2.null_runtime import NullRuntime  # noqa: E402
from harness.tier2.samples import COLUMNS, Phase, Status, read_journal  # noqa: E402
from harness.tier2.station import Order, Stream  # noqa: E402
from runtime.config import RuntimeConfig  # noqa: E402
from runtime.data import EngineHandle  # noqa: E402
from runtime.errors import EngineDeserializeError, RuntimeCoreError  # noqa: E402
from runtime.protocol import Array  # noqa: E402
from tests.harness import tiny  # noqa: E402
from tests.harness.tiny_pack import write_tiny_pack  # noqa: E402
from tests.harness.tiny_station import case, order  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
ROW = 8 * len(COLUMNS)


class Counting(NullRuntime):
    """What a child loads: it fails at its 30th call, in its own way."""

    calls = 0

    def infer(self, handle: EngineHandle, inputs: Mapping[str, Array], *, out: Any = None) -> dict[str, Array]:
        self.calls += 1
        if self.calls == 30:
            self.ends()
        return super().infer(handle, inputs, out=out)

    def ends(self) -> None:
        sys.stdout.write("a library that prints to standard output\n")
        raise ValueError("odd")


class Killed(Counting):
    def ends(self) -> None:
        time.sleep(1.3)  # the journal gets what came at least once a second
        os.kill(os.getpid(), signal.SIGKILL)


class Refusing(NullRuntime):
    def deserialize_engine(self, entry: Any) -> EngineHandle:
        raise EngineDeserializeError("this engine is not ours", remedy="Build it here.")


class Hanging(Counting):
    def ends(self) -> None:
        sys.stderr.write("hangs\n")
        sys.stderr.flush()
        time.sleep(600.0)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> ChildJob:
    room = tmp_path_factory.mktemp("packs")
    pack = write_tiny_pack(room, "a", tiny.write_onnx(room / "a.onnx").read_bytes())
    bench = Bench({"a": pack}, RuntimeConfig(intra_op_threads=1), lambda label, config: NullRuntime(), seed=9)
    return job_of(bench, folders=[ROOT])


def asked(name: str, **changed: Any) -> Order:
    streams = (Stream(case("a", f"{__name__}:{name}"), 100.0, deadline_ns=10**7),)
    return replace(order(*streams, most_s=0.4, least_s=0.4, **changed), launch=3)


@pytest.mark.covers("T2-01")
def test_a_launch_of_its_own_process_gives_what_one_of_this_process_would(job: ChildJob, tmp_path: Path) -> None:
    said: list[str] = []
    journal = tmp_path / "rows.journal"
    journal.write_bytes(b"\0" * (2 * ROW + 5))  # of a launch before this one, which was killed
    station = HostStation(
        Bench({}, RuntimeConfig(), lambda label, config: NullRuntime()),
        job=LaunchJob(job, telemetry="sysfs"),
        say=said.append,
    )
    seen = station.fresh(asked("Counting"), journal)
    rows = select(seen.log.columns())
    assert seen.incomplete == ""
    assert (seen.log.streams, seen.log.launch) == (("a",), 3)
    assert rows["status"].tolist() == [Status.OK] * 25 + [Status.FAILED] + [Status.OK] * 14
    assert set(rows["launch"].tolist()) == {3}
    assert seen.notes == ("1 calls failed: a: ValueError: odd",)
    told = seen.measurement
    assert (told.sample_count, told.failed_count, told.seed, told.simulated) == (40, 1, 9, False)
    assert (told.rate_hz, told.deadline_ns, told.profile) == (100.0, 10**7, "quick")
    assert seen.first_call_ns["a"] > 0
    assert len(seen.trace) >= 3
    assert seen.trace.frames[0].values["available_bytes"] > 0
    assert any(figure.name == "process_bytes" and figure.value for figure in seen.memory)
    assert said[0] == "a: loading"
    whole = read_journal(journal)
    assert whole["status"].size == 2 + 44  # what was cut off is cut away
    assert whole["phase"][2:].tolist() == [Phase.WARMUP] * 4 + [Phase.MEASURE] * 40


@pytest.mark.covers("T2-02", "T2-05")
def test_a_launch_that_is_killed_leaves_its_rows_and_its_frames(job: ChildJob) -> None:
    seen = run_child(LaunchJob(job, telemetry="sysfs"), asked("Killed"), None)
    assert seen.incomplete.startswith("killed by signal 9 (SIGKILL)")
    assert seen.measurement.incomplete == seen.incomplete
    assert 1 <= len(seen.log) <= 30
    assert set(seen.log.column("status").tolist()) == {Status.OK}
    assert len(seen.trace) >= 10
    assert seen.measurement.case == asked("Killed").streams[0].case


@pytest.mark.parametrize("name", ["Refusing", "Counting"])
def test_what_a_launch_refuses_is_told_in_its_own_words(name: str, job: ChildJob, tmp_path: Path) -> None:
    whole = replace(job, hooks=() if name == "Refusing" else ("no.such.module:register",))
    rows, trace, result = (str(tmp_path / file) for file in ("rows", "trace", "result"))
    told = child.perform(
        Asked(LaunchJob(whole, telemetry=""), asked(name), rows, trace, result, str(tmp_path)), lambda words: None
    )
    if name == "Refusing":
        assert (told.error, told.message, told.remedy) == (
            "EngineDeserializeError", "this engine is not ours", "Build it here.",
        )  # fmt: skip
    else:
        assert told.error == "UsageError"
        assert "no.such.module:register cannot be loaded" in told.message


def standing_in(tmp_path: Path, script: str) -> str:
    """A shell script in place of Python; ``$result`` is where the child's answer is looked for."""
    python = tmp_path / "python"
    reads = """read line; result=$(printf '%s' "$line" | sed 's/.*"result": "\\([^"]*\\)".*/\\1/')"""
    python.write_text(f"#!/bin/sh\n{reads}\n{script}\n", encoding="utf-8")
    python.chmod(0o755)
    return str(python)


@pytest.mark.parametrize(
    ("error", "kind"),
    [("EngineDeserializeError", EngineDeserializeError), ("UsageError", UsageError), ("Odd", RuntimeCoreError)],
)
def test_what_a_launch_refuses_is_raised_here(error: str, kind: type[Exception], job: ChildJob, tmp_path: Path) -> None:
    answer = json.dumps({"error": error, "message": "this engine is not ours.", "remedy": "Build it here."})
    python = standing_in(tmp_path, f"echo '{answer}' > \"$result\"")
    with pytest.raises(kind, match="this engine is not ours"):
        run_child(LaunchJob(job), asked("Refusing"), None, python=python)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo first >&2; echo 'cannot open shared object' >&2; exit 127", "exit code 127: cannot open shared object"),
        ("exit 3", "the process ended with exit code 3: it said nothing"),
        ("exit 0", "the process ended without a word"),
        ("kill -SEGV $$", "killed by signal 11 (SIGSEGV)"),
        ("exit 137", "killed by signal 9 (SIGKILL)"),  # as a shell between us and the child tells it
        ("exec sleep 600", "the launch did not end in 1 s, and was ended"),
    ],
)
def test_a_process_that_ends_in_any_other_way_is_told(
    script: str, words: str, job: ChildJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LaunchJob, "limit_s", lambda self, order: 1.0)
    seen = run_child(LaunchJob(job), asked("Counting"), None, python=standing_in(tmp_path, script))
    assert words in seen.incomplete
    assert seen.measurement.incomplete == seen.incomplete
    assert len(seen.log) == 0


def test_a_launch_that_hangs_is_interrupted_and_its_rows_stay(job: ChildJob, capfd: pytest.CaptureFixture[str]) -> None:
    measures = threading.Event()

    def heard(words: str) -> None:
        if words.startswith("measuring") and not measures.is_set():
            measures.set()
            threading.Timer(1.5, _thread.interrupt_main).start()

    seen = run_child(LaunchJob(job, telemetry=""), asked("Hanging"), None, say=heard)
    assert seen.incomplete == f"{INTERRUPTED} after 30 requests"
    assert len(seen.log) == 30
    assert seen.log.last("status") == Status.FAILED
    assert seen.measurement.placement == "pytorch_fp16[none]"
    assert "hangs" in capfd.readouterr().err


def test_frames_go_through_a_file_and_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    frames = [
        Frame(0, {"gpu_temp_c": 45.25, "power_w": 9.0}),
        Frame(100, {"gpu_temp_c": 45.5, "power_w": 9.5}, ("oc1",)),
        Frame(200, {"gpu_temp_c": 46.0}, (), {"power_w": "the rail is gated"}),
        Frame(300, {"gpu_temp_c": 46.5}, (), {"power_w": "the rail is gated"}),
    ]
    path = tmp_path / "frames"
    with path.open("w", encoding="utf-8") as file:
        writer = FrameWriter(file)
        for frame in frames:
            writer.write(frame)
    assert read_frames(path).frames == frames
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) == 6
    assert [list(json.loads(line)) for line in text.splitlines() if line.startswith("{")] == [["names", "missing"]] * 2
    path.write_text(text[:-9], encoding="utf-8")
    assert read_frames(path).frames == frames[:3]
    assert len(read_frames(tmp_path / "none")) == 0
    assert isinstance(read_frames(path), Trace)
    times, _ = read_frames(path).series("gpu_temp_c")
    assert times.dtype == np.int64


def test_the_time_limit_has_room_for_loading_the_soak_and_what_is_measured(job: ChildJob) -> None:
    from harness.profiles import PROFILES

    limits = [LaunchJob(job).limit_s(Order(PROFILES[name], ())) for name in ("quick", "pr", "signoff")]
    assert limits == sorted(limits)
    assert limits[2] > PROFILES["signoff"].most_s + 1800 + 1800
