"""Rounds are run by whoever is there to run them, and are always as many as were asked for."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from harness.tier2.rounds import Rounds


class Runner:
    """pytest-benchmark's fixture, as far as it is used: ``most`` rounds, as one that was disabled runs but one."""

    def __init__(self, most: int = 1000) -> None:
        self.most = most
        self.asked: dict[str, int] = {}

    def pedantic(self, target: Callable[[], Any], **asked: int) -> None:
        self.asked = asked
        for _ in range(min(self.most, asked["rounds"])):
            target()


@pytest.mark.covers("T2-01")
def test_the_fixture_runs_them_without_warm_up_one_call_each() -> None:
    rounds, runner, numbers = Rounds(), Runner(), count()
    with rounds.by(lambda: runner):
        assert rounds.run(lambda: next(numbers), 4) == [0, 1, 2, 3]
        assert runner.asked == {"rounds": 4, "iterations": 1, "warmup_rounds": 0}
        runner.asked = {}
        assert rounds.run(lambda: next(numbers), 1) == [4]  # a fixture runs one series
    assert runner.asked == {}


def test_a_loop_runs_them_where_there_is_no_fixture_or_it_stops_early() -> None:
    rounds, numbers = Rounds(), count()
    assert rounds.run(lambda: next(numbers), 3) == [0, 1, 2]
    with rounds.by(lambda: Runner(most=1)):
        assert rounds.run(lambda: next(numbers), 3) == [3, 4, 5]
    with rounds.by(Runner):
        pass
    assert rounds.run(lambda: next(numbers), 1) == [6]


def test_a_fixture_is_not_asked_for_where_there_are_no_rounds() -> None:
    rounds = Rounds()

    def never() -> Any:
        raise AssertionError

    with rounds.by(never):
        assert rounds.run(lambda: 1, 0) == []
