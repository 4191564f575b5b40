"""What a person sees while rows run: a line per row, none of it taken for markup."""

import io

from rich.console import Console

from harness.progress import BuildProgress, ConsoleProgress
from harness.records import Case, Measurement, Outcome, Summary, Verdict
from runtime.strategies.trt_job import Progress as Phase


def verdict(name: str, outcome: Outcome, reason: str = "") -> Verdict:
    case = Case(name, 1, "parity", "m", "pytorch_fp16", "fp32", "fp32", "small")
    return Verdict(Summary(Measurement(case)), outcome, reason)


def shown(rows: list[Verdict], *, terminal: bool) -> str:
    out = io.StringIO()
    progress = ConsoleProgress(Console(file=out, force_terminal=terminal, width=60))
    with progress.rows([row.case for row in rows]):
        for row in rows:
            progress.begun(row.case)
            progress.done(row)
    return out.getvalue()


def test_in_a_log_each_row_is_one_line_however_long_and_without_escape_codes() -> None:
    rows = [verdict(f"row{at}", outcome, "why " * 40) for at, outcome in enumerate([*Outcome, *Outcome])]
    lines = shown(rows, terminal=False).splitlines()
    assert len(lines) == len(rows)
    assert lines[0].startswith("[ 1/10] PASS         row0  why why")
    assert lines[-1].startswith("[10/10] ")
    assert all(row.outcome.value in line for row, line in zip(rows, lines, strict=True))
    assert "\x1b" not in "".join(lines)


def test_brackets_in_a_reason_are_text() -> None:
    assert "onnx_trt_ep[cpu] [red]" in shown([verdict("r", Outcome.FAIL, "onnx_trt_ep[cpu] [red]")], terminal=False)


def test_a_terminal_has_a_bar_with_the_row_that_runs() -> None:
    text = shown([verdict("first-row", Outcome.PASS)], terminal=True)
    assert "\x1b" in text
    assert "1/1" in text
    assert "first-row" in text


def test_a_second_run_counts_from_one() -> None:
    out = io.StringIO()
    progress = ConsoleProgress(Console(file=out, width=60))
    for _ in range(2):
        with progress.rows([verdict("r", Outcome.PASS).case]):
            progress.done(verdict("r", Outcome.PASS))
    assert out.getvalue().count("[1/1] PASS") == 2


def test_a_builders_phases_are_a_line_each_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with BuildProgress(Console(file=stream, force_terminal=False, width=200)) as bar:
        for told in (Phase("parsing", 0, 1), Phase("parsing", 1, 1), Phase("Building engine", 0, 5)):
            bar(told)
        bar(Phase("Timing tactics", 3, 9, "Building engine"))
    assert stream.getvalue().splitlines() == ["parsing", "Building engine"]


def test_on_a_terminal_the_outermost_phase_has_the_bar_and_the_innermost_its_name() -> None:
    stream = io.StringIO()
    with BuildProgress(Console(file=stream, force_terminal=True, width=100)) as bar:
        bar(Phase("Building engine", 1, 5))
        bar(Phase("Timing tactics", 3, 9, "Building engine"))
        (task,) = bar.tasks
        assert (task.description, task.completed, task.total) == ("Building engine: Timing tactics", 1, 5)
