"""Assumptions about time, on the machine that runs the tests and on files of another."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.probes import Host, Probe, State, clocks
from runtime.platform import HostTuple

NOBODY = HostTuple("none", "none", "none")


@pytest.mark.parametrize("probe", clocks.PROBES, ids=lambda probe: probe.id)
def test_clocks_are_asked_here_and_nowhere_else(probe: Probe, tmp_path: Path) -> None:
    here = probe.test(Host(Path("/"), NOBODY, True, {}, subprocess.run, "python3"))
    assert any(digit in here.seen for digit in "0123456789")
    elsewhere = probe.test(Host(tmp_path, NOBODY, False, {}, subprocess.run, "python3"))
    assert (elsewhere.state, elsewhere.seen) == (State.UNKNOWN, "these files are of another machine")


def test_a_clock_that_ticks_in_milliseconds_shows_it() -> None:
    ticks = iter(range(10_000))
    assert clocks.finest_step_ns(lambda: next(ticks) // 2 * 1_000_000) == 1_000_000
