"""``trigate run`` is pytest inside (architecture, decision 12): one item per row, settled here, written at once."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness import gates
from harness.errors import UsageError
from harness.gates import not_run
from harness.records import INTERRUPTED, Case, Outcome, Verdict
from harness.run_folder import FolderError
from harness.tier2.rounds import Rounds

__all__ = ["Row", "RowPlugin", "run_rows"]

Settle = Callable[[Case], Verdict]
Heard = Callable[[Verdict], None]


@dataclass(frozen=True)
class Row:
    """What a tier's item gets: ``settle()`` measures and judges its case, and ends the item with the verdict."""

    case: Case
    _settle: Settle
    _heard: Heard
    _rounds: Rounds = field(default_factory=Rounds)

    def settle(self, *, item: pytest.FixtureRequest | None = None) -> None:
        """Measure, judge, write down; then end as pytest ends: passed, failed, or skipped with the reason.

        ``item``: of a row that is measured in rounds: they are run by its ``benchmark`` fixture, where there is one.
        """
        with self._rounds.by(_benchmark_of(item)):
            verdict = self._settle(self.case)
        self._heard(verdict)
        if verdict.summary.measurement.incomplete.startswith(INTERRUPTED):
            raise KeyboardInterrupt
        if verdict.outcome is Outcome.FAIL:
            pytest.fail(verdict.reason, pytrace=False)
        if verdict.outcome is Outcome.NOT_RUN:
            pytest.skip(verdict.reason)
        if verdict.outcome is Outcome.INCONCLUSIVE:
            pytest.xfail(verdict.reason)


@dataclass
class RowPlugin:
    """The planned rows as pytest items: ``@pytest.mark.rows(tier, *kinds)`` on a function that takes ``row``."""

    cases: Sequence[Case]
    settle: Settle
    heard: Heard
    rounds: Rounds = field(default_factory=Rounds)
    internal: list[str] = field(default_factory=list)
    folder_error: FolderError | None = None

    def pytest_configure(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", "rows(tier, *kinds): the planned rows that this item stands for")
        # pytest-benchmark makes its folder where the user stands, before anything is to be kept there
        asked = config.option.__dict__
        keeps = any(asked.get(f"benchmark_{what}") for what in ("save", "autosave", "save_data", "compare"))
        if "benchmark_storage" in asked and not keeps:
            asked["benchmark_storage"] = f"file://{config.rootpath}"

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        marker = metafunc.definition.get_closest_marker("rows")
        if marker is None:
            return
        tier, *kinds = marker.args
        rows = [
            Row(case, self.settle, self.heard, self.rounds)
            for case in self.cases
            if case.tier == tier and case.kind in kinds
        ]
        metafunc.parametrize("row", rows, ids=[row.case.id for row in rows])

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        order = {case.id: at for at, case in enumerate(self.cases)}
        items.sort(key=lambda item: order.get(_row_of(item), len(order)))

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """A row that a selection leaves out is a row too (T1-03)."""
        chosen = {_row_of(item) for item in items}
        for case in self.cases:
            if case.id in chosen:
                self.heard(not_run(case, "left out by the selection (-k, -m)"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> object:
        report = yield
        error = call.excinfo
        ended = (pytest.fail.Exception, pytest.skip.Exception, pytest.xfail.Exception, KeyboardInterrupt)
        if error is not None and isinstance(error.value, FolderError):
            self.folder_error = error.value
            item.session.shouldstop = str(error.value)
            return report
        if error is not None and not isinstance(error.value, ended):
            self.internal.append(f"{item.name}: {''.join(traceback.format_exception(error.value)).rstrip()}")
        return report


def _benchmark_of(item: pytest.FixtureRequest | None) -> Callable[[], Any] | None:
    """Gives pytest-benchmark's fixture when it is asked: one that a row asked for and left would be warned of."""
    if item is None or not item.config.pluginmanager.hasplugin("benchmark"):
        return None
    return partial(item.getfixturevalue, "benchmark")


def _row_of(item: pytest.Item) -> str:
    row = getattr(item, "callspec", None)
    value = row.params.get("row") if row is not None else None
    return value.case.id if isinstance(value, Row) else ""


def run_rows(
    cases: Sequence[Case],
    suites: Path,
    settle: Settle,
    heard: Heard,
    arguments: Sequence[str] = (),
    *,
    rounds: Rounds | None = None,
) -> tuple[bool, list[str]]:
    """Run the rows; (interrupted by Ctrl-C, internal errors with their tracebacks).

    ``suites``: the folder of the installed tiers. ``arguments``: passed on to pytest (``-k``, ``-m``, plugins).
    ``rounds``: where ``settle`` asks for rounds of what it measures.
    """
    plugin = RowPlugin(cases, settle, heard, rounds or Rounds())
    os.environ.pop("PYTEST_ADDOPTS", None)  # meant for the user's own tests
    code = pytest.main(
        [
            str(suites),
            f"--rootdir={suites}",
            "-c",
            str(suites / "pytest.ini"),
            "--import-mode=importlib",
            "--capture=no",  # our progress is on standard error
            "-p",
            "no:terminal",
            "-p",
            "no:cacheprovider",
            *arguments,
        ],
        plugins=[plugin],
    )
    if plugin.folder_error is not None:
        raise plugin.folder_error
    if code == pytest.ExitCode.USAGE_ERROR:
        raise UsageError(f"pytest does not take {' '.join(arguments)}. After -- come its own options, such as -k NAME.")
    if code == pytest.ExitCode.INTERNAL_ERROR:
        plugin.internal.append("pytest ended with an internal error; logs/run.log has it")
    return code == pytest.ExitCode.INTERRUPTED, plugin.internal


def timed(settle: Settle) -> Settle:
    """The same, with the row's duration filled in where its measurement has none."""

    def with_duration(case: Case) -> Verdict:
        begun = time.perf_counter_ns()
        verdict = settle(case)
        measurement = verdict.summary.measurement
        if measurement.duration_ns:
            return verdict
        measured = replace(measurement, duration_ns=time.perf_counter_ns() - begun)
        return replace(verdict, summary=replace(verdict.summary, measurement=measured))

    return with_duration


def exit_of(verdicts: Sequence[Verdict], require: Sequence[str], interrupted: bool, internal: Sequence[str]) -> int:
    """The exit code of a whole session."""
    if interrupted:
        return gates.EXIT_INTERRUPTED
    return gates.exit_code(verdicts, require, internal=bool(internal))
