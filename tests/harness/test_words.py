"""One thing is told in the singular."""

from __future__ import annotations

import pytest

from harness.words import counted


@pytest.mark.parametrize(("count", "told"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows")])
def test_one_thing_is_told_in_the_singular(count: int, told: str) -> None:
    assert counted(count, "row") == told


def test_a_plural_may_be_given() -> None:
    assert [counted(count, "process", "processes") for count in (1, 2)] == ["1 process", "2 processes"]
