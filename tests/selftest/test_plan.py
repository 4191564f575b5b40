"""The mutation list fits the tree: this runs everywhere; that each break is found takes `nox -s selftest`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house.test_covers import BUILT, KNOWN
from tests.selftest.plan import ROOT, Mutation, covers_of, load, parts_of

MUTATIONS = load()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: f"{'+'.join(mutation.covers)} {mutation.title}")
def test_a_break_has_one_place_and_a_test_that_covers_what_it_breaks(mutation: Mutation) -> None:
    source = (ROOT / mutation.file).read_text(encoding="utf-8")
    assert source.count(mutation.before) == 1
    assert mutation.before != mutation.after
    assert mutation.file not in parts_of(mutation.test), "a break of the test itself shows nothing"
    assert mutation.title
    assert mutation.covers
    assert set(mutation.covers) <= set(KNOWN)
    marks = covers_of(mutation.test)
    assert marks is not None, f"there is no test {mutation.test}"
    assert set(mutation.covers) <= marks


def test_every_requirement_that_was_built_has_a_break() -> None:
    assert sorted(BUILT - {one for mutation in MUTATIONS for one in mutation.covers}) == []


def test_no_break_is_planted_twice() -> None:
    places = [(mutation.file, mutation.before, mutation.after) for mutation in MUTATIONS]
    assert len(set(places)) == len(places)
    titles = [mutation.title for mutation in MUTATIONS]
    assert len(set(titles)) == len(titles)


def test_marks_are_found_on_the_function_its_class_and_its_module(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(
        "import pytest\n"
        "pytestmark = pytest.mark.covers('RT-01')\n"
        "@pytest.mark.covers('RT-02')\n"
        "class TestIt:\n"
        "    @pytest.mark.parametrize('n', [pytest.param(1, marks=pytest.mark.covers('RT-03'))])\n"
        "    def test_one(self, n): ...\n"
        "def test_two(): ...\n"
    )
    assert covers_of("test_x.py::TestIt::test_one[1]", tmp_path) == {"RT-01", "RT-02", "RT-03"}
    assert covers_of("test_x.py::test_two", tmp_path) == {"RT-01"}
    for absent in ("test_x.py", "test_x.py::test_one", "test_x.py::TestIt::test_two", "test_y.py::test_two"):
        assert covers_of(absent, tmp_path) is None
