"""Virtual time: it stops for what is due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.fakes.clock import VirtualClock

pytestmark = pytest.mark.covers("T0-02")


@given(st.lists(st.integers(0, 50), max_size=20), st.lists(st.integers(0, 20), min_size=1, max_size=10))
def test_alarms_ring_at_their_time_and_in_order_however_the_time_is_cut(due: list[int], parts: list[int]) -> None:
    clock, rang, heard = VirtualClock(), list[tuple[int, int]](), list[tuple[int, int]]()
    clock.listen(lambda a, b: heard.append((a, b)))
    for ns in due:
        clock.ring(ns, lambda ns=ns: rang.append((ns, clock.now_ns())))  # type: ignore[misc]
    for part in parts:
        clock.advance(part)
    assert rang == [(ns, ns) for ns in sorted(due) if ns <= sum(parts)]
    assert clock.now_ns() == sum(parts) == sum(b - a for a, b in heard)
    assert all(a < b for a, b in heard)
    assert [b for _, b in heard[:-1]] == [a for a, _ in heard[1:]]


def test_an_alarm_that_is_past_rings_as_time_passes_next_and_one_may_set_another() -> None:
    clock, rang = VirtualClock(10), list[int]()
    clock.ring(3, lambda: rang.append(clock.now_ns()))
    clock.ring(12, lambda: clock.ring(14, lambda: rang.append(clock.now_ns())))
    clock.advance(0)
    assert rang == [10]
    clock.advance(5)
    assert rang == [10, 14]


def test_an_alarm_may_let_time_pass_itself() -> None:
    clock, rang = VirtualClock(), list[int]()
    clock.ring(2, lambda: clock.advance(7))
    clock.ring(3, lambda: rang.append(clock.now_ns()))
    clock.advance(5)
    assert (rang, clock.now_ns()) == ([3], 9)
