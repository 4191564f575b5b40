"""What a person sees on standard error while rows run: a bar on a terminal, a line per row elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from harness.records import Case, Outcome, Verdict
from harness.run import Progress

__all__ = ["ConsoleProgress"]

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
        self._bar.update(self._task, description=case.id)

    def done(self, verdict: Verdict) -> None:
        self._done += 1
        self._bar.advance(self._task)
        line = Text(f"[{self._done:>{len(str(self._count))}}/{self._count}] ")
        line.append(f"{verdict.outcome.value:<12} ", style=_STYLES[verdict.outcome])
        line.append(f"{verdict.case.id}  ")
        brief = verdict.reason.partition(";")[0] if verdict.outcome is Outcome.PASS else verdict.reason
        line.append(brief, style="dim")
        self.console.print(line, soft_wrap=True, highlight=False)
