"""Plant each break of the mutation list in a copy of the tree: each must turn its named test red.

    python -m tests.selftest.run [--id RT-07 ...] [--grep WORDS] [--list] [--json FILE] [--workers 2]

Exit codes: 0 all are red; 1 a test stays green, or ends in another way than by failing; 2 the call is wrong, or a named
test fails in the tree as it is; 3 nothing else, and a named test could not run here.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path

from tests.selftest.plan import ROOT, Mutation, load, parts_of

__all__ = ["Copy", "Outcome", "Result", "Unusable", "baseline", "copy_tree", "main", "plant", "plant_all"]

PACKAGES = ("runtime", "harness", "reports", "fixtures", "tiers", "tests")
OPTIONS = ("--hypothesis-profile=ci",)
"""Derandomised: a break is found by the same examples each time, and none are kept from one break to the next."""


class Outcome(str, Enum):
    """Only RED is good. ERROR: the test did not fail but ended otherwise: not collected, not set up, out of time."""

    RED = "red"
    GREEN = "STILL GREEN"
    ERROR = "error"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Result:
    """``why``: the first line of the failure, or what happened instead."""

    mutation: Mutation
    outcome: Outcome
    why: str
    seconds: float


class Unusable(Exception):
    """The list, the call or the tree is such that no result would mean anything."""


@dataclass
class Copy:
    """A copy of the tree in which breaks are planted, one at a time."""

    folder: Path
    options: Sequence[str] = OPTIONS
    planted: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def environ(self) -> dict[str, str]:
        # first on the path of every child process: an editable installation points at the tree, not at this copy
        return {**os.environ, "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"}

    def check_imports(self, packages: Sequence[str] = PACKAGES) -> None:
        """Raise ``Unusable`` unless the copy's own packages are those that its tests import."""
        code = f"import sys; [print(n, *list(__import__(n).__path__)[:1], sep='\\t') for n in {packages!r}]"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False
        )
        places = dict(line.split("\t") for line in done.stdout.splitlines())
        wrong = [name for name in packages if not Path(places.get(name, "/")).is_relative_to(self.folder)]
        if wrong:
            raise Unusable(f"tests in the copy would import another {wrong[0]}: {places or done.stderr}")

    def place_of(self, mutation: Mutation) -> tuple[Path, str]:
        """The file that it breaks, and what is in it. Raises ``Unusable`` where its place is not exactly one."""
        path = self.folder / mutation.file
        whole = path.read_text(encoding="utf-8")
        if whole.count(mutation.before) != 1:
            raise Unusable(f"{mutation.title}: {mutation.file} holds its text {whole.count(mutation.before)} times.")
        return path, whole

    @contextmanager
    def broken(self, mutation: Mutation) -> Iterator[None]:
        """The bug is there in the body."""
        path, whole = self.place_of(mutation)
        try:
            self._write(path, whole.replace(mutation.before, mutation.after))
            yield
        finally:
            self._write(path, whole)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        # another second each time, since Python takes a .pyc for current by the source's size and whole seconds
        when = 1_000_000_000 + next(self.planted)
        os.utime(path, (when, when))

    def pytest(self, tests: Sequence[str], *options: str, limit_s: float) -> tuple[int | None, str, dict[str, str]]:
        """Run tests: pytest's exit code (``None``: out of time), its output, and what became of each of ``tests``.

        That is ``passed``, ``failed: why``, ``error: why``, ``skipped: why``, or nothing where it was not collected.
        """
        report = self.folder / "report.xml"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "--tb=short"]
        command += [f"--junitxml={report}", *self.options, *options, *tests]
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # a test's own children too
            output, _ = process.communicate()
            return None, output, {}
        if not report.exists():
            return process.returncode, output, {}
        cases = list(ET.parse(report).iter("testcase"))
        return process.returncode, output, {test: said for test in tests if (said := _said(test, cases))}


def _said(test: str, cases: Iterable[ET.Element]) -> str:
    """The gravest of what pytest says of one test, whose parameters are separate cases there."""
    path, names = parts_of(test)
    place = ".".join([path.removesuffix(".py").replace("/", "."), *names[:-1]])
    name = test.removeprefix("::".join([path, *names[:-1], ""]))
    told: dict[str, str] = {}
    for case in cases:
        called = str(case.get("name"))
        if case.get("classname") == place and (called == name or called.startswith(f"{name}[")):
            tag = next((tag for tag in ("failure", "error", "skipped") if case.find(tag) is not None), "passed")
            element = case.find(tag)
            told[tag] = " ".join(str(element.get("message")).split())[:200] if element is not None else ""
    for tag, word in (("failure", "failed"), ("error", "error"), ("passed", "passed"), ("skipped", "skipped")):
        if tag in told:
            return f"{word}: {told[tag]}" if told[tag] else word
    return ""


def copy_tree(target: Path, root: Path = ROOT) -> None:
    """What git knows of or would, as it stands in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)


def baseline(copy: Copy, tests: Sequence[str], *, limit_s: float = 900.0) -> dict[str, str]:
    """Why each test that cannot run here cannot. Raises ``Unusable`` where one is not green in the tree as it is."""
    code, output, said = copy.pytest(tests, limit_s=limit_s)
    if code == 4:  # a module that is skipped as a whole has no tests to name, and stops all others
        said = {}
        for _, group in itertools.groupby(sorted(tests), key=lambda test: parts_of(test)[0]):
            part = list(group)
            code, output, told = copy.pytest(part, limit_s=limit_s)
            skipped = code == 4 and " skipped" in output
            said |= dict.fromkeys(part, "skipped: its module, for want of a library") if skipped else told
    wrong = {test: said.get(test, "was not collected") for test in tests}
    wrong = {test: word for test, word in wrong.items() if not word.startswith(("passed", "skipped"))}
    if wrong:
        listed = "\n".join(f"  {test}: {word}" for test, word in wrong.items())
        raise Unusable(f"not green in the tree as it is:\n{listed}\n{output[-3000:]}")
    return {test: word.removeprefix("skipped: ") for test, word in said.items() if word.startswith("skipped")}


def plant(copy: Copy, mutation: Mutation) -> Result:
    """Break it, run the named test, mend it."""
    began = time.monotonic()
    with copy.broken(mutation):
        code, output, said = copy.pytest([mutation.test], "-x", limit_s=mutation.limit_s)
    outcome, why = _judged(mutation, code, said.get(mutation.test, ""))
    if outcome is Outcome.ERROR and not why:
        lines = [line for line in output.splitlines() if line.strip()] or [f"pytest ended with {code}"]
        told = [line for line in lines if line.startswith(("E  ", "ERROR"))]
        why = next((line for line in reversed(told) if line.startswith("E  ")), (told or lines)[-1])[:200]
    return Result(mutation, outcome, why, time.monotonic() - began)


def _judged(mutation: Mutation, code: int | None, said: str) -> tuple[Outcome, str]:
    if code is None:
        why = f"did not end within {mutation.limit_s:g} s"
        return (Outcome.RED if mutation.hangs else Outcome.ERROR), why
    word, _, why = said.partition(": ")
    if code == 1 and word == "failed":
        return Outcome.RED, why
    if code == 0 and word == "passed":
        return Outcome.GREEN, "the test passes with the break in place"
    return Outcome.ERROR, said


def plant_all(copies: Sequence[Copy], mutations: Sequence[Mutation], say: Callable[[Result], None]) -> list[Result]:
    """Every mutation, one at a time per copy; the results in the list's order."""
    free: queue.SimpleQueue[Copy] = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)

    def work(mutation: Mutation) -> Result:
        copy = free.get()
        try:
            return plant(copy, mutation)
        finally:
            free.put(copy)

    done: dict[int, Result] = {}
    with ThreadPoolExecutor(len(copies)) as pool:
        waiting = {pool.submit(work, mutation): index for index, mutation in enumerate(mutations)}
        try:
            for future in as_completed(waiting):
                done[waiting[future]] = future.result()
                say(future.result())
        except BaseException:  # Ctrl-C, or a list that does not fit the tree: do not plant the rest first
            pool.shutdown(cancel_futures=True)
            raise
    return [done[index] for index in range(len(mutations))]


def _table(results: Sequence[Result]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "planted break", "named test", "outcome", "what the test says", box=None, padding=(0, 1))
    for result in results:
        name = parts_of(result.mutation.test)[1][-1].removeprefix("test_").replace("_", " ")
        style = "" if result.outcome is Outcome.RED else "bold"
        ids = " ".join(result.mutation.covers)
        table.add_row(ids, result.mutation.title, name, result.outcome.value, result.why[:80], style=style)
    Console(width=None if sys.stdout.isatty() else 200, markup=False).print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.selftest.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--id", nargs="+", default=[], metavar="ID", help="only the breaks of these requirements")
    parser.add_argument(
        "--grep", default="", metavar="WORDS", help="only those with these words in title, file or test"
    )
    parser.add_argument("--list", action="store_true", help="print the list, and plant nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--workers", type=int, default=2, help="how many at a time (default 2)")
    asked = parser.parse_args(arguments)
    mutations = [
        mutation
        for mutation in load()
        if (not asked.id or set(asked.id) & set(mutation.covers))
        and asked.grep in f"{mutation.title} {mutation.file} {mutation.test}"
    ]
    if not mutations or asked.workers < 1:
        parser.error("nothing to plant: see --list" if not mutations else "--workers: expected 1 or more")
    if asked.list:
        for mutation in mutations:
            print(f"{' '.join(mutation.covers):12} {mutation.title}  ({mutation.file}; {mutation.test})")
        return 0
    try:
        with tempfile.TemporaryDirectory(prefix="trigate-selftest-") as folder:
            return _run(Path(folder), mutations, asked.workers, asked.json)
    except Unusable as error:
        print(f"selftest: {error}", file=sys.stderr)
        return 2


def _run(folder: Path, mutations: Sequence[Mutation], workers: int, report: Path | None) -> int:
    began = time.monotonic()
    copies = [Copy((folder / str(number)).resolve()) for number in range(min(workers, len(mutations)))]
    copy_tree(copies[0].folder)
    for copy in copies[1:]:
        shutil.copytree(copies[0].folder, copy.folder)  # of the first, so that all are of one instant
    for copy in copies:
        copy.check_imports()
    for mutation in mutations:
        copies[0].place_of(mutation)
    tests = list(dict.fromkeys(mutation.test for mutation in mutations))
    print(f"{len(tests)} named tests, unmutated ...", file=sys.stderr)
    skipped = baseline(copies[0], tests)
    print(f"all green or not to be run here ({len(skipped)}), {time.monotonic() - began:.0f} s", file=sys.stderr)
    counter = itertools.count(1)

    def say(result: Result) -> None:
        number = f"[{next(counter):3}/{len(mutations)}]"
        ids, title = " ".join(result.mutation.covers), result.mutation.title
        print(f"{number} {result.outcome.value:11} {result.seconds:5.1f} s  {ids:12} {title}", file=sys.stderr)
        if result.outcome is not Outcome.RED:
            print(f"{'':22}{result.mutation.test}: {result.why}", file=sys.stderr)

    planted = iter(plant_all(copies, [mutation for mutation in mutations if mutation.test not in skipped], say))
    results = [
        Result(mutation, Outcome.NOT_RUN, skipped[mutation.test], 0.0) if mutation.test in skipped else next(planted)
        for mutation in mutations
    ]
    _table(results)
    counts = Counter(result.outcome for result in results)
    words = ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome)
    print(f"{len(results)} breaks planted: {words}; {time.monotonic() - began:.0f} s.")
    if report is not None:
        rows = [{**asdict(result), "outcome": result.outcome.value} for result in results]
        report.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if counts[Outcome.GREEN] or counts[Outcome.ERROR]:
        return 1
    return 3 if counts[Outcome.NOT_RUN] else 0


if __name__ == "__main__":
    sys.exit(main())
