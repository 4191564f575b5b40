"""One thing is told in the singular."""

from __future__ import annotations

import pytest

from harness.words import counted, fitted


@pytest.mark.parametrize(("count", "told"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows")])
def test_one_thing_is_told_in_the_singular(count: int, told: str) -> None:
    assert counted(count, "row") == told


def test_a_plural_may_be_given() -> None:
    assert [counted(count, "process", "processes") for count in (1, 2)] == ["1 process", "2 processes"]


def test_prose_goes_on_from_where_its_first_word_stands_and_a_command_stays_whole() -> None:
    text = (
        "TO DO      stored\n             - A cache is of one device\n  works  and no other\n  pip install 'a long name'"
    )
    assert fitted(text, 24).splitlines() == [
        "TO DO      stored",
        "             - A cache",
        "               is of one",
        "               device",
        "  works  and no other",
        "  pip install 'a long name'",
    ]
    assert fitted(text, 0) == text
