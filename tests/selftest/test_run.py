"""The runner on a project of one file: what is red, what is green, and what is neither."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.selftest import run
from tests.selftest.plan import Mutation
from tests.selftest.run import Copy, Outcome, Unusable

SOURCE = """\
import time

def add(a, b):
    return a + b

def wait():
    return "done"
"""
TESTS = """\
import pytest
from unit import add, wait

@pytest.mark.parametrize("b", [0, 1])
def test_sums(b):
    assert add(2, b) == 2 + b

def test_nothing():
    add(1, 1)

def test_waits():
    assert wait() == "done"

@pytest.fixture
def four():
    assert add(2, 2) == 4
    return 4

def test_set_up(four):
    pass

@pytest.mark.skip(reason="no such library")
def test_skipped():
    pass

def test_wrong():
    assert add(1, 1) == 3
"""


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # half of the time that a child takes
    (tmp_path / "unit.py").write_text(SOURCE)
    (tmp_path / "test_unit.py").write_text(TESTS)
    (tmp_path / "test_absent.py").write_text(
        "import pytest\npytest.importorskip('no_such_library')\ndef test_x(): ...\n"
    )
    return Copy(tmp_path, options=())


def bug(test: str = "test_sums", before: str = "a + b", after: str = "a - b", **more: object) -> Mutation:
    return Mutation(("RT-01",), "a bug", "unit.py", before, after, f"test_unit.py::{test}", **more)  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("mutation", "outcome", "why"),
    [
        (bug(), Outcome.RED, "assert 1 == (2 + 1)"),
        (bug("test_sums[0]"), Outcome.GREEN, "passes with the break"),
        (bug("test_nothing"), Outcome.GREEN, "passes with the break"),
        (bug("test_set_up"), Outcome.ERROR, "failed on setup"),
        (bug("test_skipped"), Outcome.ERROR, "skipped"),
        (bug("test_not_there"), Outcome.ERROR, "ERROR: "),
        (bug(after="a +"), Outcome.ERROR, "SyntaxError"),
        (bug(before="import time", after="import no_such_module"), Outcome.ERROR, "ModuleNotFoundError"),
        (bug("test_waits", 'return "done"', "time.sleep(60)", limit_s=2.0), Outcome.ERROR, "did not end within 2 s"),
        (bug("test_waits", 'return "done"', "time.sleep(60)", limit_s=2.0, hangs=True), Outcome.RED, "did not end"),
    ],
)
def test_a_break_is_red_only_if_the_named_test_fails(
    copy: Copy, mutation: Mutation, outcome: Outcome, why: str
) -> None:
    result = run.plant(copy, mutation)
    assert (result.outcome, why in result.why) == (outcome, True), result.why
    assert (copy.folder / "unit.py").read_text() == SOURCE


def test_a_break_of_the_same_length_is_seen_and_so_is_its_mending(copy: Copy) -> None:
    for _ in range(2):
        assert run.plant(copy, bug()).outcome is Outcome.RED
        assert run.baseline(copy, ["test_unit.py::test_sums"]) == {}


@pytest.mark.parametrize("before", ["a * b", "a"])
def test_a_place_that_is_not_one_is_refused(copy: Copy, before: str) -> None:
    with pytest.raises(Unusable, match="times"):
        run.plant(copy, bug(before=before))
    assert (copy.folder / "unit.py").read_text() == SOURCE


def test_the_tree_must_be_green_as_it_is_and_what_cannot_run_is_told(copy: Copy) -> None:
    good = ["test_unit.py::test_sums", "test_unit.py::test_skipped", "test_absent.py::test_x"]
    assert run.baseline(copy, good[:2]) == {good[1]: "no such library"}
    assert set(run.baseline(copy, good)) == set(good[1:])
    with pytest.raises(Unusable, match=r"test_wrong: failed: .*assert 2 == 3"):
        run.baseline(copy, ["test_unit.py::test_sums", "test_unit.py::test_wrong"])
    with pytest.raises(Unusable, match="test_gone: was not collected"):
        run.baseline(copy, ["test_unit.py::test_sums", "test_unit.py::test_gone"])


def test_results_come_in_the_order_of_the_list_from_any_number_of_copies(
    copy: Copy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    second = tmp_path_factory.mktemp("second")
    for name in ("unit.py", "test_unit.py"):
        (second / name).write_bytes((copy.folder / name).read_bytes())
    mutations = [bug(test) for test in ("test_sums", "test_nothing", "test_sums[1]", "test_sums[0]")]
    said: list[run.Result] = []
    results = run.plant_all([copy, Copy(second, options=())], mutations, said.append)
    assert [result.mutation for result in results] == mutations
    assert [result.outcome for result in results] == [Outcome.RED, Outcome.GREEN] * 2
    assert len(said) == 4


def test_the_copys_own_packages_are_imported_and_no_installed_one(copy: Copy) -> None:
    with pytest.raises(Unusable, match="would import another runtime"):
        copy.check_imports(["runtime"])
    (copy.folder / "runtime").mkdir()
    (copy.folder / "runtime/__init__.py").write_text("")
    copy.check_imports(["runtime"])


def test_a_copy_holds_the_working_tree_and_not_what_git_ignores(tmp_path: Path) -> None:
    tree, target = tmp_path / "tree", tmp_path / "copy"
    tree.mkdir()
    subprocess.run(["git", "init", "-q", tree], check=True)
    for name, text in {".gitignore": "ignored\n", "a/kept": "old", "gone": "", "ignored": "", "new": ""}.items():
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(text)
    subprocess.run(["git", "add", "a/kept", "gone"], cwd=tree, check=True)
    (tree / "a/kept").write_text("as it stands")
    (tree / "gone").unlink()
    run.copy_tree(target, tree)
    assert {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()} == {
        ".gitignore",
        "a/kept",
        "new",
    }
    assert (target / "a/kept").read_text() == "as it stands"


def test_the_list_is_printed_and_what_is_not_in_it_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--list", "--id", "RT-02"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("RT-02")
    for wrong in (["--id", "RT-99"], ["--workers", "0"]):
        with pytest.raises(SystemExit) as ended:
            run.main(wrong)
        assert ended.value.code == 2
