"""The marks that say what a test covers: every id exists, and every id of what has been built has a test."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
KNOWN = (TESTS / "house" / "requirement_ids.txt").read_text(encoding="utf-8").split()
BUILT = {
    *(f"RT-{n:02}" for n in range(1, 13)),
    *(f"FA-{n:02}" for n in range(1, 7)),
    *(f"TR-{n:02}" for n in range(1, 9)),
    *(f"TT-{n:02}" for n in range(1, 11)),
    *(f"T0-{n:02}" for n in range(1, 7)),
    *(f"TH-{n:02}" for n in range(1, 6)),
    *("LO-01", "LO-02", "OR-01", "OR-02", "OR-03", "OR-04", "OR-05", "OR-06", "OR-07", "OR-08", "OR-09"),
    *(f"PT-{n:02}" for n in range(1, 7)),
    *(f"T2-{n:02}" for n in range(1, 6)),
    *("BA-01", "BA-04", "BA-05", "BA-06", "BA-07", "T1-01", "T1-02", "T1-03", "T1-04"),
    *(f"RE-{n:02}" for n in range(1, 6)),
}
"""Requirements that this release meets; each later one is added with its code."""


def marks(source: str) -> list[tuple[int, str]]:
    """(line, id) of every ``covers`` mark on a test, a test class, a parameter or a whole module."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.covers"):
            for argument in node.args:
                assert isinstance(argument, ast.Constant), f"line {node.lineno}: an id has to be written out"
                found.append((node.lineno, str(argument.value)))
    return found


ALL = [
    (f"{path.relative_to(TESTS.parent)}:{line}", mark)
    for path in sorted(TESTS.rglob("*.py"))
    for line, mark in marks(path.read_text(encoding="utf-8"))
]


def test_every_id_that_a_test_names_is_a_requirement() -> None:
    assert [f"{where}: {mark}" for where, mark in ALL if mark not in KNOWN] == []


def test_the_list_of_requirements_has_no_id_twice() -> None:
    assert len(set(KNOWN)) == len(KNOWN)
    assert set(KNOWN) >= BUILT


@pytest.mark.parametrize("requirement", sorted(BUILT))
def test_what_was_built_has_a_test(requirement: str) -> None:
    assert requirement in {mark for _, mark in ALL}
