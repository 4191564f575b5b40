"""What a person sees on standard error while rows run, or an engine is built: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from harness.records import Case, Outcome, Verdict
from harness.run import Progress
from runtime.strategies.trt_job import Progress as Phase

__all__ = ["BuildProgress", "ConsoleProgress"]

_STYLES = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.INCONCLUSIVE: "yellow",
    Outcome.MEASURED: "cyan",
    Outcome.NOT_RUN: "dim",
}


class ConsoleProgress(Progress):
    """Rows as they end, and on a terminal a bar with the row that runs now."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    @contextlib.contextmanager
    def rows(self, planned: Sequence[Case]) -> Iterator[None]:
        self._done, self._count = 0, len(planned)
        self._task = self._bar.add_task("", total=len(planned))
        with self._bar:
            yield

    def begun(self, case: Case) -> None:
        self._row = case.id
        self._bar.update(self._task, description=case.id)

    def said(self, words: str) -> None:
        self._bar.update(self._task, description=f"{self._row}: {words}")

    def done(self, verdict: Verdict) -> None:
        self._done += 1
        self._bar.advance(self._task)
        line = Text(f"[{self._done:>{len(str(self._count))}}/{self._count}] ")
        line.append(f"{verdict.outcome.value:<12} ", style=_STYLES[verdict.outcome])
        line.append(f"{verdict.case.id}  ")
        brief = verdict.reason.partition(";")[0] if verdict.outcome is Outcome.PASS else verdict.reason
        line.append(brief, style="dim")
        self.console.print(line, soft_wrap=True, highlight=False)


class BuildProgress:
    """A builder's phases: on a terminal a bar of the outermost one, with the innermost one's name; elsewhere a line each."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None)
        self._outer = ""

    @property
    def tasks(self) -> list[Task]:
        """The bar's own state."""
        return self._bar.tasks

    def __enter__(self) -> BuildProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, phase: Phase) -> None:
        if phase.parent:
            self._bar.update(self._task, description=f"{self._outer}: {phase.phase}")
            return
        if phase.phase != self._outer:
            self._outer = phase.phase
            if not self.console.is_terminal:
                self.console.print(phase.phase, soft_wrap=True, highlight=False, style="dim")
        self._bar.update(self._task, description=phase.phase, completed=phase.step, total=phase.of or None)
