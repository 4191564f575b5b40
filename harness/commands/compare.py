"""``trigate compare``: the bump, from run folders."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.common import command, kept_history, tell

if TYPE_CHECKING:
    from harness.records.comparison import Comparison

COMPARE_EXAMPLES = """\
examples:
  trigate compare --base runs/jp62a runs/jp62b runs/jp62c --new runs/jp72
  trigate compare --base golden:jetpack-6.2 --new runs/jp72     a baseline by name: trigate history golden set
  trigate compare --base runs/old --new runs/new --margin p95=0.03 --out bump

A session is a boot: measure the base in three or more, since one alone cannot decide. Into DIR go compare.html (the page),
compare.md (a comment on a pull request) and compare.json (all of it). A DIR that holds the comparison of other runs is refused.

exit codes: 0 nothing holds the release; 1 something does; 2 the runs are unlike, or the call is wrong; 3 measure more
"""


def add(commands: Any) -> None:
    parser = command(
        commands, "compare", _compare, "two versions by their run folders: what changed, why, and whether it holds the release",
        epilog=COMPARE_EXAMPLES,
    )  # fmt: skip
    parser.add_argument(
        "--base", type=Path, nargs="+", required=True, metavar="RUN", help="runs of the old version, or golden:NAME"
    )
    parser.add_argument("--new", type=Path, nargs="+", required=True, metavar="RUN", help="runs of the new one")
    parser.add_argument(
        "--history", type=Path, metavar="DIR", help="the history folder that names baselines; default: the cache"
    )
    parser.add_argument(
        "--margin", action="append", default=[], metavar="NAME=SHARE",
        help="what counts as no change, as a share under 1: p95=0.03 for 3 %%; also p50, energy, power, memory, load, build; "
        "may be given again",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("compare"), metavar="DIR", help="where to (compare)")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def _folders(words: Sequence[Path], history: Path | None) -> list[Path]:
    """Run folders; those of a baseline for its name."""
    if not any(str(word).startswith("golden:") for word in words):
        return list(words)
    from harness.history.runs import resolve

    kept = kept_history(history)
    return [folder for word in words for folder in resolve(str(word), kept)]


def _margins(words: Sequence[str]) -> dict[str, float]:
    """``--margin NAME=SHARE``, as often as it is given."""
    from harness.compare.runs import MARGINS
    from harness.errors import UsageError, did_you_mean

    margins = {}
    for word in words:
        name, _, share = word.partition("=")
        if name not in MARGINS:
            raise UsageError(f"--margin: there is none for {name!r}. {did_you_mean(name, MARGINS)}")
        try:
            margins[name] = float(share)
        except ValueError:
            raise UsageError(f"--margin: {word!r}; expected NAME=SHARE, as p95=0.03.") from None
        if not 0 < margins[name] < 1:
            raise UsageError(f"--margin: {word!r}; expected a share above 0 and under 1, as 0.03 for 3 %.")
    return margins


def in_words(found: Comparison) -> list[str]:
    """For the terminal: what was bumped, what whoever typed the call should know, and the decision."""
    bumped = ", ".join(f"{one.name} {one.base} → {one.new}" for one in found.versions)
    return [f"bumped: {bumped or 'nothing, no version differs'}", *_notes(found), found.words]


def _notes(found: Comparison) -> list[str]:
    """That the sides may be mixed up; and what the runs themselves left out, a line for each run: files that are not there, or
    say otherwise than the record.
    """
    from harness.compare.runs import MIXED, OLDER

    lines = [f"note: {words}" for words in found.caveats if words.startswith((MIXED, OLDER))]
    for side in (*found.base, *found.new):
        told = [words for words in found.caveats if words.startswith(f"{side.name}: ")]
        lines += (
            [f"note: {told[0]}" + (f" (and {len(told) - 1} more notes, on the page)" if told[1:] else "")]
            if told
            else []
        )
    return lines


def _compare(arguments: argparse.Namespace) -> int:
    from harness.compare.runs import compare, refuse_other, write_comparison
    from harness.errors import UsageError
    from harness.records import to_json
    from reports import compare_page

    margins, out = _margins(arguments.margin), arguments.out
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "compare.json").exists())):
        raise UsageError(f"--out: {out} holds something that is no comparison. Give another.")

    def say(words: str) -> None:
        if not arguments.quiet:
            print(words, file=sys.stderr)

    base, new = (_folders(words, arguments.history) for words in (arguments.base, arguments.new))
    found = compare(base, new, margins=margins, say=say)
    refuse_other(found, out)
    data = write_comparison(found, out)
    say("drawing the page")
    try:
        written = [*compare_page.write(out), data]
    except OSError as error:
        raise UsageError(f"--out: {out} cannot be written: {error.strerror or error}. Give another.") from error
    if arguments.json:
        print(json.dumps(to_json(found), indent=1))
    else:
        for line in ("written: " + ", ".join(map(str, written)), *in_words(found)):
            tell(line)
    return found.exit_code
