"""Assumptions about time, on the machine that measures."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.probes import Finding, Host, Probe, ok, unknown, wrong

__all__ = ["PROBES", "finest_step_ns"]

_ELSEWHERE = "these files are of another machine"


def finest_step_ns(clock: Callable[[], int] = time.perf_counter_ns) -> int:
    """The smallest of 200 steps that a clock took."""
    steps = []
    for _ in range(200):
        first = clock()
        while (second := clock()) == first:
            pass
        steps.append(second - first)
    return min(steps)


def _resolution(host: Host) -> Finding:
    if not host.is_here:
        return unknown(_ELSEWHERE)
    finest = finest_step_ns()
    words = f"the finest step is {finest} ns ({time.get_clock_info('perf_counter').implementation})"
    return ok(words) if finest <= 1_000 else wrong(words)


def _overshoot(host: Host) -> Finding:
    if not host.is_here:
        return unknown(_ELSEWHERE)
    late_us = []
    for _ in range(200):
        begun = time.perf_counter_ns()
        time.sleep(0.001)
        late_us.append((time.perf_counter_ns() - begun - 1_000_000) / 1e3)
    late_us.sort()
    words = f"a sleep of 1 ms ends {late_us[100]:.0f} µs late in the median and {late_us[190]:.0f} µs at p95"
    return ok(words) if late_us[0] >= 0 and late_us[190] < 1_000 else wrong(words)


def _asleep(host: Host) -> Finding:
    if not host.is_here:
        return unknown(_ELSEWHERE)
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    uptime = host.files().text("proc/uptime")
    if boot is None or uptime is None:
        return unknown("this system has no boot clock beside the monotonic one")
    difference = abs(time.clock_gettime(boot) - float(uptime.partition(" ")[0]))
    words = f"/proc/uptime is {difference:.2f} s from the boot clock"
    return ok(words) if difference < 1.0 else wrong(words)


PROBES = (
    Probe("monotonic-clock-resolution", "The clock of the samples tells a microsecond apart.", "Python's documentation",
          "its finest step, of 200", _resolution, kinds=("latency", "flight", "heat", "harness", "load")),
    Probe("sleep-overshoot", "A sleep ends within a millisecond of its time, so that requests are sent when they are due.",
          "measured on ordinary Linux hosts", "200 sleeps of a millisecond", _overshoot, kinds=("harness",)),
    Probe("uptime-counts-sleep", "/proc/uptime goes on while the machine is suspended, and the monotonic clock does not.",
          "the kernel's documentation", "held against the boot clock", _asleep),
)  # fmt: skip
