"""A fresh process is told apart by how it ends, whatever it says and however it dies, and nothing of it stays."""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.tier2.fresh import ProcessJob, run_child
from harness.tier2.memory import find
from tests.harness.children import SAMPLES, case_of, ended, job_in


def job(folder: Path, runtime: str, *models: str, holds: bool = False) -> ProcessJob:
    cases = tuple(case_of(model, runtime) for model in models)
    return ProcessJob(job_in(folder, *models), cases, holds=holds)


@pytest.mark.covers("T2-05", "T2-01")
def test_engines_of_one_process_are_timed_and_what_libraries_print_is_no_answer(tmp_path: Path) -> None:
    result = run_child(job(tmp_path, "Noisy", "a", "b"), timeout_s=60, environ=os.environ)
    assert result.in_words() == ""
    assert result.seen is not None
    assert (result.returncode, result.is_killed, result.notes) == (0, False, ())
    assert [len(engine.digests) for engine in result.seen.engines] == [SAMPLES, SAMPLES]
    assert result.seen.engines[0].digests == result.seen.engines[1].digests
    assert all(engine.load_ns > 0 and engine.compile_ns > 0 for engine in result.seen.engines)
    assert result.ready_ns == result.seen.ready_ns
    assert 0 < result.seen.start_ns < result.seen.ready_ns < result.wall_ns
    assert "a word on standard error" in result.stderr_tail
    host = find(result.footprint(), "host_bytes").value
    assert host is not None
    assert 10e6 < host < 500e6


@pytest.mark.covers("T2-05")
def test_a_kill_by_the_kernel_is_not_taken_for_ours(tmp_path: Path) -> None:
    result = run_child(job(tmp_path, "Killed", "a"), timeout_s=60, environ=os.environ)
    assert result.is_killed
    assert result.seen is None
    assert "killed while loading a (SIGKILL, exit 137)" in result.in_words()
    assert ended(137).is_killed
    assert not ended(-9, is_ours=True).is_killed


def test_an_error_of_the_core_comes_back_in_its_own_words(tmp_path: Path) -> None:
    result = run_child(job(tmp_path, "Full", "a"), timeout_s=60, environ=os.environ)
    assert result.returncode == 1
    assert result.failure is not None
    assert (result.failure.kind, result.failure.remedy) == ("OutOfMemoryError", "Raise gpu_memory_budget_bytes.")
    assert result.in_words() == "OutOfMemoryError while loading a: the engine wants 3 GiB, and 1 is left."


def test_a_process_that_hangs_is_ended_with_all_its_children(tmp_path: Path) -> None:
    hangs = (
        "import os, time\n"
        "child = os.fork()\n"
        'if child: print(\'{"step": "loading a", "ready_ns": %d}\' % child, flush=True)\n'
        "time.sleep(600)"
    )
    result = run_child(
        job(tmp_path, "Quick", "a"), timeout_s=2, environ=os.environ, command=(sys.executable, "-S", "-c", hangs)
    )
    assert result.in_words() == "the process took longer than 2 s and was ended while loading a"
    assert (result.is_killed, result.is_ours, result.signal) == (False, True, 9)
    assert result.ready_ns is not None
    assert _is_gone(result.ready_ns)  # which holds the number of the child's child here


@pytest.mark.covers("T2-05")
def test_a_process_can_be_killed_in_the_middle_of_inference(tmp_path: Path) -> None:
    result = run_child(
        job(tmp_path, "Quick", "a", holds=True), timeout_s=60, environ=os.environ, kill_when_ready_after_s=0.05
    )
    assert (result.signal, result.is_ours, result.is_killed, result.step) == (9, True, False, "inferring")
    assert result.ready_ns is not None


def test_garbage_on_the_answering_pipe_is_noted_and_not_believed(tmp_path: Path) -> None:
    lines = '{"seen": {"start_ns": "late"}}\\n[1]\\n{"step": "x"}\\nno json\\n'
    command = ("sh", "-c", f"printf '{lines}'; echo last words >&2; exit 3")
    result = run_child(job(tmp_path, "Quick", "a"), timeout_s=60, environ=os.environ, command=command)
    assert (result.returncode, result.seen, result.step) == (3, None, "x")
    assert len(result.notes) == 3
    assert result.in_words() == "the process ended with code 3 while x; its last words: last words"


def test_a_time_limit_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="timeout 0 s"):
        run_child(job(tmp_path, "Quick", "a"), timeout_s=0, environ={})


def _is_gone(pid: int) -> bool:
    """An orphan is reaped by whoever adopted it, a moment after it was killed; until then it is a zombie."""
    for _ in range(200):
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.02)
                continue
        return True
    return False
