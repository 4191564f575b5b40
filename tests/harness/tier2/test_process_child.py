"""What a fresh process does with its job: the real libraries, leaks, and an end with its parent."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.records import Outcome, to_json
from harness.tier2.fresh import ProcessJob, run_child
from harness.tier2.memory import find, leak
from tests.harness.children import SAMPLES, case_of, in_process, job_in


@pytest.mark.covers("T2-01", "OR-07")
def test_onnx_runtime_is_loaded_called_and_looked_at_in_a_fresh_process(tmp_path: Path) -> None:
    case = replace(case_of("tiny", "Quick"), runtime="onnx_trt_ep")
    job = ProcessJob(job_in(tmp_path, "tiny"), (case,), outputs=str(tmp_path / "out"))
    result = run_child(job, timeout_s=120, environ=os.environ)
    assert result.in_words() == ""
    assert result.seen is not None
    (engine,) = result.seen.engines
    assert (engine.measurement.placement, engine.measurement.provider) == ("onnx_trt_ep[cpu]", "cpu")
    assert min(engine.load_ns, engine.first_call_ns, result.seen.import_ns) > 0
    assert find(engine.marks, "ledger_bytes").value == (tmp_path / "packs/tiny/model.onnx").stat().st_size
    assert find(result.footprint(), "gpu_bytes").why == "no engine computes on a GPU"
    with np.load(tmp_path / "out/tiny.npz") as arrays:
        assert sorted(arrays.files) == [f"{at}/y" for at in range(SAMPLES)]
        assert arrays["0/y"].shape == (2, 4)


@pytest.mark.covers("T2-01")
def test_a_leak_of_each_call_and_of_each_load_shows_in_the_looks(tmp_path: Path) -> None:
    job = ProcessJob(job_in(tmp_path, "a"), (case_of("a", "Leaks"),), cycles=24, looks=24, calls_per_look=20)
    result = run_child(job, timeout_s=120, environ=os.environ, poll_s=None)
    assert result.seen is not None
    (engine,) = result.seen.engines
    figure, check = leak(engine.cycles["host"])
    assert check.outcome is Outcome.FAIL
    assert figure.value == pytest.approx((1 << 20) + (1 << 15), rel=0.1)
    figure, check = leak(engine.calls["host"], unit="call", calls=20)
    assert check.outcome is Outcome.FAIL
    assert figure.value == pytest.approx(1 << 15, rel=0.1)
    assert "MB per 100 calls" in check.reason
    assert leak(engine.cycles["ledger"])[1].outcome is Outcome.PASS


@pytest.mark.covers("T2-01")
def test_the_driver_is_asked_through_the_runtime_that_has_a_context(tmp_path: Path) -> None:
    seen = in_process(ProcessJob(job_in(tmp_path, "a"), (case_of("a", "Told"),))).seen
    assert seen is not None
    assert seen.is_unified is True
    free = find(seen.marks, "driver_free_bytes")
    assert (free.value, free.source) == (1 << 30, "cuMemGetInfo through the runtime (one memory with the CPU)")
    plain = in_process(ProcessJob(job_in(tmp_path / "b", "a"), (case_of("a", "Quick"),), gpu_index=0)).seen
    assert plain is not None
    assert find(plain.marks, "driver_free_bytes").why


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    job = ProcessJob(job_in(tmp_path, "a"), (case_of("a", "Quick"),), holds=True, spawned_ns=time.monotonic_ns())
    child = subprocess.Popen(
        [sys.executable, "-m", "harness.tier2.process_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[3],
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps(to_json(job)).encode() + b"\n")
    child.stdin.flush()
    while b"ready_ns" not in child.stdout.readline():
        pass
    child.stdin.close()
    assert child.wait(30) == -9
    child.stdout.close()
