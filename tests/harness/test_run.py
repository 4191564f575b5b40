"""How one row is settled: by the suite of its kind, within a time limit where the class is a third party's."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import tiers
from harness.config import Configuration
from harness.gates import judge_runtime
from harness.measure import Bench, Observed
from harness.packs.folder import Pack
from harness.plan import Ask
from harness.records import JOURNAL, Case, Check, Measurement, Outcome, Run, Verdict, run_from_folder, run_from_text
from harness.run import Job, Progress, run
from harness.run_folder import RunFolder
from runtime import RuntimeConfig, RuntimeNotAvailableError

CLASS = "my.module:MyRuntime"


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def about(runtime: str = "pytorch_fp16", **more: Any) -> Case:
    return Case(f"conformance-{runtime}", 0, "conformance", "conformance", runtime, "fp32", "fp32", "", **more)


def of_a_model(at: int = 0) -> Case:
    return Case(f"m{at}-{CLASS}", 1, "parity", f"m{at}", CLASS, "fp32", "fp32", "small")


def finished(tmp_path: Path, cases: list[Case], suite: Any = None, **more: Any) -> Run:
    progress, opened = more.pop("progress", Progress()), more.pop("opened", {})
    job = Job(
        ask=Ask((0, 1, 2), (), (), "small", (), None, {}),
        cases=tuple(cases),
        pack=Pack({}, "", 0, "small"),
        broken={},
        configuration=Configuration("c.toml", tmp_path, ""),
        models={},
        bench=more.pop(
            "bench", Bench({}, RuntimeConfig(), lambda label, config: pytest.fail("no runtime is asked for"))
        ),
        suites=Path(str(tiers.__file__)).parent,
        environment={},
        settings={},
        command=["trigate"],
        version="0",
        gpu_host=more.pop("gpu_host", False),
        device="auto",
        runtime_suites={"conformance": suite},
        **more,
    )
    with RunFolder(tmp_path / "run", **opened) as folder:
        return run(job, folder, progress)


def verdict_of(case: Case, reason: str = "", **measured: Any) -> Verdict:
    check = Check("C-01 It is one", Outcome.FAIL if reason else Outcome.PASS, reason or "holds", "It means much.")
    return judge_runtime(Measurement(case, **measured), [check])


@pytest.mark.covers("T0-01")
def test_a_row_about_a_runtime_is_settled_by_the_suite_of_its_kind(tmp_path: Path) -> None:
    done = finished(tmp_path, [about()], lambda case, build, config: verdict_of(case))
    (row,) = done.verdicts
    assert (row.outcome, row.reason, row.checks[0].means) == (Outcome.PASS, "1 clause holds", "It means much.")
    assert done.exit_code == 0


@pytest.mark.covers("T1-03")
def test_a_runtime_that_cannot_run_here_is_not_run_with_its_reason(tmp_path: Path) -> None:
    def suite(*_: Any) -> Verdict:
        raise RuntimeNotAvailableError("no GPU.", remedy="Find one.")

    (row,) = finished(tmp_path, [about()], suite).verdicts
    assert (row.outcome, row.reason, row.remedy) == (Outcome.NOT_RUN, "no GPU.", "Find one.")


def test_on_a_host_with_a_gpu_a_runtime_that_ran_on_the_cpu_is_misplaced_and_a_simulated_one_is_not(
    tmp_path: Path,
) -> None:
    def suite(case: Case, *_: Any) -> Verdict:
        provider = "tensorrt" if case.simulated else "cpu"
        return verdict_of(case, provider=provider, simulated=bool(case.simulated))

    cases = [about(), about("tensorrt", simulated="10.3.0")]
    real, fake = finished(tmp_path, cases, suite, gpu_host=True).verdicts
    assert real.outcome is Outcome.FAIL
    assert "on the CPU of a host with a GPU" in real.reason
    assert fake.outcome is Outcome.PASS


@pytest.mark.covers("T0-01")
def test_a_third_partys_class_that_hangs_costs_its_rows_and_not_the_run(
    tmp_path: Path, let_go: threading.Event
) -> None:
    class Stuck(Bench):
        def outputs(self, case: Case, runtime: str = "") -> Observed:
            let_go.wait()
            raise AssertionError(case.id)

    bench = Stuck({}, RuntimeConfig(), lambda label, config: pytest.fail("built"))
    cases = [about(CLASS), of_a_model(0), of_a_model(1)]
    hanging = lambda case, build, config: verdict_of(case, "HANGS: it did not come back in 1 s")  # noqa: E731
    done = finished(tmp_path, cases, hanging, bench=bench, foreign_limit_s=4.0, row_s=0.0)
    reasons = [row.reason for row in done.verdicts]
    assert reasons[0] == "C-01 It is one: HANGS: it did not come back in 1 s"
    assert reasons[1:] == ["Hangs: it did not come back in 0.2 s"] * 2  # once seen to hang, it is given less time
    assert done.complete


def test_ctrl_c_between_two_rows_ends_the_run_as_interrupted_and_it_is_written_down(tmp_path: Path) -> None:
    class Impatient(Progress):
        @contextlib.contextmanager
        def rows(self, planned: Sequence[Case]) -> Iterator[None]:
            if planned:
                raise KeyboardInterrupt
            yield

    run = finished(tmp_path, [about()], None, progress=Impatient())
    assert (run.interrupted, run.complete, run.exit_code) == (True, False, 130)
    assert run.last_line.startswith("Interrupted after 0 of 1 rows; go on with --resume.")
    assert run_from_text((tmp_path / "run/run.json").read_text()).interrupted


@pytest.mark.covers("RE-01")
def test_the_row_that_runs_is_named_in_the_record_before_it_does(tmp_path: Path) -> None:
    """As after a class that ends the process: nothing is written any more."""
    seen = []

    def suite(case: Case, *_: Any) -> Verdict:
        seen.append(run_from_folder(tmp_path / "run"))
        return verdict_of(case)

    done = finished(tmp_path, [about(), about("onnx_trt_ep"), about("tensorrt", not_run="no GPU")], suite)
    first, second = seen
    assert first.last_line.startswith(
        "conformance-pytorch_fp16 was running when this was written, and 0 of 3 rows have a verdict"
    )
    assert second.last_line.startswith(
        "conformance-onnx_trt_ep was running when this was written, and 1 of 3 rows have a verdict"
    )
    assert (second.complete, second.exit_code, len(second.verdicts)) == (False, None, 1)
    assert "was running" not in done.last_line


@pytest.mark.covers("RE-01")
def test_a_report_of_a_run_whose_process_was_ended_names_the_row(tmp_path: Path) -> None:
    from reports import write_reports

    class Ends(Bench):
        def outputs(self, case: Case, runtime: str = "") -> Observed:
            shutil.copytree(tmp_path / "run", tmp_path / "kept")
            raise AssertionError(case.id)

    bench = Ends({}, RuntimeConfig(), lambda label, config: pytest.fail("built"))
    finished(tmp_path, [of_a_model()], bench=bench)
    write_reports(tmp_path / "kept")
    for name in ("report.html", "report.md"):
        assert "was running when this was written" in (tmp_path / "kept" / name).read_text()


@pytest.mark.covers("RE-01")
def test_a_run_that_goes_on_keeps_the_rows_of_the_journal_and_has_no_exit_code_until_its_end(tmp_path: Path) -> None:
    cases, asked = [about(), about("onnx_trt_ep"), about("tensorrt", not_run="no GPU")], []

    def suite(case: Case, *_: Any) -> Verdict:
        asked.append(case.id)
        if len(asked) == 2:  # as after a SIGKILL
            shutil.copytree(tmp_path / "run", tmp_path / "killed" / "run")
        return verdict_of(case)

    assert finished(tmp_path, cases, suite, opened={"clock": itertools.count().__next__}).exit_code == 0
    asked.clear()
    killed = tmp_path / "killed"
    assert (killed / "run" / JOURNAL).exists()
    assert finished(killed, cases, suite, opened={"resume": True}).exit_code == 0
    assert asked == ["conformance-onnx_trt_ep"]

    def ends(case: Case, *_: Any) -> Verdict:
        going = run_from_folder(killed / "run")
        assert (going.exit_code, going.finished_at, len(going.verdicts)) == (None, "", 2)
        return verdict_of(case)

    finished(killed, [*cases[:2], about("tensorrt")], ends, opened={"resume": True})
