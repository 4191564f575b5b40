"""For every test here: seeds in the header, one steady profile for CI, and at the end what was NOT RUN and why."""

from __future__ import annotations

import random
import signal
from collections import Counter

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: here Ctrl-C is tested
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("hypothesis_seed", None) is None:  # a seed that nobody knows cannot be given again
        config.option.hypothesis_seed = random.SystemRandom().randrange(2**32)


def pytest_report_header(config: pytest.Config) -> str:
    seed = f"again with --hypothesis-seed={config.getoption('hypothesis_seed')}"
    profile = config.getoption("hypothesis_profile", None) or "default"
    chance = "derandomized" if settings().derandomize else seed
    return f"random: hypothesis profile {profile}, {chance}; numpy: each test's own fixed seed"


def not_run(reports: list[pytest.TestReport | pytest.CollectReport]) -> Counter[str]:
    """How many modules and tests were skipped for each reason, ``torch: not installed`` and the like."""
    reasons: Counter[str] = Counter()
    for report in reports:
        told = report.longrepr
        reason = told[2] if isinstance(told, tuple) else str(told)
        kind = "module" if isinstance(report, pytest.CollectReport) else "test"
        reasons[f"{reason.removeprefix('Skipped: ')}\0{kind}"] += 1
    return reasons


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = not_run(terminalreporter.stats.get("skipped", []))
    if not reasons:
        return
    terminalreporter.section("NOT RUN")
    for key in sorted(reasons):
        reason, _, kind = key.partition("\0")
        count = reasons[key]
        terminalreporter.write_line(f"{reason}  ({count} {kind}{'s' if count > 1 else ''})")
