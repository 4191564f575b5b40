"""The child process of a build: every way in which it can end, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import CalibrationCacheError, EngineBuildError, RuntimeNotAvailableError
from runtime.strategies.trt_job import BuildJob, BuildResult, Progress, ignore_progress, never
from runtime.strategies.trt_launch import ChildLaunch

pytestmark = [pytest.mark.covers("TT-01"), pytest.mark.timeout(60)]

HEADER = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
job = json.loads(sys.stdin.readline())
folder = Path(job["folder"])
def tell(phase, step, of):
    print(json.dumps({"phase": phase, "step": step, "of": of, "parent": ""}), flush=True)
"""


def child(tmp_path: Path, body: str) -> ChildLaunch:
    """A child that is a script: the process is real, what it does is said here."""
    path = tmp_path / "child.py"
    path.write_text(HEADER + body)
    return ChildLaunch(command=(sys.executable, str(path)), root=tmp_path)


def job(tmp_path: Path) -> BuildJob:
    folder = tmp_path / "work"
    folder.mkdir(exist_ok=True)
    return BuildJob(tmp_path / "a.onnx", folder, "fp16", 1, "polygraphy", "89")


def launch(tmp_path: Path, body: str, *, timeout_s: float = 30.0, is_cancelled: Any = never) -> list[Progress]:
    seen: list[Progress] = []
    child(tmp_path, body)(job(tmp_path), timeout_s=timeout_s, on_progress=seen.append, is_cancelled=is_cancelled)
    return seen


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid: int) -> bool:
    """A killed process is gone soon, not at once."""
    ends_at = time.monotonic() + 20
    while alive(pid) and time.monotonic() < ends_at:
        time.sleep(0.01)
    return not alive(pid)


RESULT = BuildResult(Path("plan"), "tensorrt", "10.3.0", "flags", (), ())


def test_a_result_comes_back_with_its_progress_and_the_childs_peak(tmp_path: Path) -> None:
    body = (
        "tell('a', 0, 2); tell('a', 2, 2); print('no line of ours', flush=True)\n"
        f"(folder / 'result.json').write_text({RESULT.to_json()!r})\n"
    )
    seen: list[Progress] = []
    done = child(tmp_path, body)(job(tmp_path), timeout_s=30, on_progress=seen.append, is_cancelled=never)
    assert [(told.phase, told.step) for told in seen] == [("a", 0), ("a", 2)]
    assert done.version == "10.3.0"
    assert done.peak_bytes is not None
    assert done.peak_bytes > 1 << 20


@pytest.mark.parametrize("kind", [EngineBuildError, CalibrationCacheError, RuntimeNotAvailableError])
def test_an_error_of_the_core_is_the_same_error_here(tmp_path: Path, kind: Any) -> None:
    failure = json.dumps({"kind": kind.__name__, "message": "so it is.", "remedy": "Do this."})
    with pytest.raises(kind, match=r"so it is\. Do this\.") as caught:
        launch(tmp_path, f"(folder / 'failure.json').write_text({failure!r}); sys.exit(1)")
    assert type(caught.value) is kind
    assert caught.value.remedy == "Do this."


GRANDCHILD = """
tell('building', 3, 9)
grand = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
(folder.parent / 'pids.new').write_text(f'{os.getpid()} {grand.pid}')
(folder.parent / 'pids.new').rename(folder.parent / 'pids')
time.sleep(600)
"""


def pids(tmp_path: Path) -> list[int]:
    found = [int(word) for word in (tmp_path / "pids").read_text().split()]
    assert len(found) == 2
    return found


def test_a_build_that_takes_too_long_is_ended_with_its_whole_group(tmp_path: Path) -> None:
    with pytest.raises(EngineBuildError, match=r"building a\.onnx took longer than 3 s and was ended") as caught:
        launch(tmp_path, GRANDCHILD, timeout_s=3)
    assert "in 'building', step 3 of 9" in caught.value.message
    assert "trtexec_timeout_s" in caught.value.remedy
    assert all(wait_until_gone(pid) for pid in pids(tmp_path))


def test_a_build_can_be_cancelled(tmp_path: Path) -> None:
    with pytest.raises(EngineBuildError, match="was cancelled"):
        launch(tmp_path, GRANDCHILD, is_cancelled=(tmp_path / "pids").exists)
    assert all(wait_until_gone(pid) for pid in pids(tmp_path))


def test_ctrl_c_ends_the_group_and_goes_on_up(tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        while not (tmp_path / "pids").exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        child(tmp_path, GRANDCHILD)(job(tmp_path), timeout_s=30, on_progress=interrupt, is_cancelled=never)
    assert all(wait_until_gone(pid) for pid in pids(tmp_path))


def test_what_a_child_leaves_running_is_ended_too(tmp_path: Path) -> None:
    body = GRANDCHILD.replace("time.sleep(600)\n", f"(folder / 'result.json').write_text({RESULT.to_json()!r})\n")
    launch(tmp_path, body)
    assert all(wait_until_gone(pid) for pid in pids(tmp_path))


@pytest.mark.parametrize(
    ("kills", "by"),
    [
        (("3", "4"), "killed by the kernel, for memory"),
        (("3", "3"), "killed by somebody, and not by the kernel for memory"),
        (("", ""), "killed by somebody, and most likely by the kernel for memory"),
    ],
)
def test_a_killed_child_is_explained_with_the_memory_before_it(tmp_path: Path, kills: Any, by: str) -> None:
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "meminfo").write_text("MemTotal:  8000000 kB\nMemAvailable:    812032 kB\n")
    if kills[0]:
        (proc / "vmstat").write_text(f"nr_free_pages 1\noom_kill {kills[0]}\n")
    body = f"tell('Timing tactics', 4, 40)\nvmstat = {str(proc / 'vmstat')!r}\n"
    body += f"Path({str(proc / 'meminfo')!r}).write_text('MemAvailable: 6000000 kB')\n"  # it is there again afterwards
    body += f"Path(vmstat).write_text('oom_kill {kills[1]}\\n')\n" if kills[1] else ""
    body += "room = bytearray(90 << 20)\ntime.sleep(1)\nos.kill(os.getpid(), signal.SIGKILL)"
    ours = bytearray(400 << 20)  # a parent's own memory is no peak of its child
    with pytest.raises(EngineBuildError) as caught:
        launch(tmp_path, body)
    del ours
    told = caught.value.message
    assert by in told
    assert "793 MiB of memory were available before it" in told
    peak = int(told.partition("it had taken ")[2].partition(" MiB")[0])
    assert 90 <= peak < 300
    assert "It was in 'Timing tactics', step 4 of 40." in told
    assert "workspace_mb" in caught.value.remedy


def test_a_crash_keeps_the_childs_last_words(tmp_path: Path) -> None:
    body = "sys.stderr.write('TensorRT ERROR: myelin gave up\\n'); sys.stderr.flush(); os.abort()"
    with pytest.raises(EngineBuildError, match=r"its process was ended by SIGABRT\..*TensorRT ERROR: myelin gave up"):
        launch(tmp_path, body)


def test_a_fault_of_our_own_keeps_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(EngineBuildError, match=r"ended with exit code 1\..*ZeroDivisionError: division by zero"):
        launch(tmp_path, "1 / 0")


@pytest.mark.parametrize(("file", "code"), [("result.json", 0), ("failure.json", 1)])
@pytest.mark.parametrize("text", [None, "", "[1]", "{}", '{"kind": "EngineBuildError"'])
def test_a_child_that_leaves_no_whole_answer_failed(tmp_path: Path, file: str, code: int, text: str | None) -> None:
    write = "" if text is None else f"(folder / {file!r}).write_text({text!r}); "
    with pytest.raises(EngineBuildError, match=f"its process ended with exit code {code}"):
        launch(tmp_path, f"{write}sys.exit({code})")


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups")
def test_where_there_is_no_waitid_a_child_ends_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "waitid", raising=False)
    test_what_a_child_leaves_running_is_ended_too(tmp_path)
    with pytest.raises(EngineBuildError, match="its process ended with exit code 3"):
        launch(tmp_path, "sys.exit(3)")


def test_a_child_that_never_reads_its_job_is_told_by_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "child.py"
    path.write_text("import sys; sys.stderr.write('no such module'); sys.exit(2)")
    run = ChildLaunch(command=(sys.executable, str(path)), root=tmp_path)
    with pytest.raises(EngineBuildError, match=r"exit code 2\. Its last words: no such module"):
        run(job(tmp_path), timeout_s=30, on_progress=ignore_progress, is_cancelled=never)


def test_a_child_whose_parent_dies_takes_its_files_and_its_group_with_it(tmp_path: Path) -> None:
    """The real child's own watch over its standard input, with a build that never ends."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, time, subprocess\nfrom pathlib import Path\n"
        "from runtime.strategies import trt_child\n"
        "def hang(job, tell, on_line):\n"
        "    grand = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "    import os\n"
        "    (job.folder.parent / 'pids.new').write_text(f'{os.getpid()} {grand.pid}')\n"
        "    (job.folder.parent / 'pids.new').rename(job.folder.parent / 'pids')\n"
        "    time.sleep(600)\n"
        "trt_child.build = hang\n"
        "sys.exit(trt_child.main(['--with-parent']))\n"
    )
    asked = job(tmp_path)
    read, write = os.pipe()
    import subprocess

    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen([sys.executable, str(script)], stdin=read, env=environ, start_new_session=True)
    os.close(read)
    os.write(write, asked.to_json().encode() + b"\n")
    while not (tmp_path / "pids").exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.close(write)
    process.wait(timeout=30)
    assert all(wait_until_gone(pid) for pid in pids(tmp_path))
    assert not asked.folder.exists()


def test_a_killed_child_that_the_kernel_does_not_let_go_is_told_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is stuck in a call of the driver: signalled, and never there to be reaped."""
    monkeypatch.setattr("runtime.strategies.trt_launch._REAP_S", 0.05)
    monkeypatch.setattr(os, "wait4", lambda pid, options: (0, 0, None))
    with pytest.raises(EngineBuildError, match="does not end: it is stuck in a call of the driver"):
        child(tmp_path, "time.sleep(60)")(job(tmp_path), timeout_s=0.2, on_progress=ignore_progress, is_cancelled=never)
