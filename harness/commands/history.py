"""``trigate history``: runs over time, baselines by name, floors, and what other tools measured before."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.common import default_cache, kept_history, plain, terminal_width, version

if TYPE_CHECKING:
    from harness.records.history import Added, Listed, Query, Series, Told

HISTORY_EXAMPLES = """\
examples:
  trigate history add runs/*                              take run folders in; `trigate run --history DIR` does it itself
  trigate history --model disk --outcome FAIL             runs in which a row of disk failed
  trigate history --fact tensorrt_host=10.3* --since 2026-03      under TensorRT 10.3, since March
  trigate history show disk-tensorrt-fp16-b1-latency      that row over time, and where it stepped
  trigate history plot '*-latency' --out history.html     all latency rows, as a page
  trigate history golden set jetpack-6.2 runs/a runs/b    name a baseline: trigate compare --base golden:jetpack-6.2
  trigate history import times.json --model disk --runtime tensorrt --board orin-nx --at 2024-11-05
  trigate history floors                                  the design effects that sign-off leans on

A figure of a row over time is of one machine, one setting and one timing boundary. Simulated rows, and what another tool
measured, stand apart.
"""

_WORDS = (
    ("model", "NAME", "of this model"),
    ("runtime", "LABEL", "on this runtime"),
    ("kind", "KIND", "of this kind: latency, parity, load, memory, ..."),
    ("precision", "NAME", "fp32, fp16 or int8"),
    ("machine", "NAME", "of this board or machine"),
)


_NOTHING = "No run that fits has a figure of these rows: a row that did not run has none. `trigate history` says how runs ended."


def add(commands: Any) -> None:
    parser = _command(commands, "history", _list, "runs over time: list, plot, baselines, imports", HISTORY_EXAMPLES)
    _add_filters(parser)
    below = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_filters(_command(below, "list", _list, "the runs that fit, latest first (this is the default)"))
    taken = _command(below, "add", _add, "take run folders in; one that is known is left as it is")
    taken.add_argument("run", type=Path, nargs="+", metavar="RUN", help="a run folder")
    taken.add_argument("--quiet", action="store_true", help="no progress on standard error")
    gone = _command(below, "forget", _forget, "take runs out of the history; their folders stay")
    gone.add_argument("run", nargs="+", metavar="RUN", help="an id, the beginning of one, or a folder")
    _add_filters(_command(below, "rows", _rows, "which rows there are, each with its number of runs"), limited=False)
    for name, do, summary in (
        ("show", _show, "a row over time, as text, and where it stepped"),
        ("plot", _plot, "a row over time, as a page"),
    ):
        shown = _command(below, name, do, summary)
        shown.add_argument("row", nargs="?", default="", metavar="ROW", help="a row's id; * stands for any text")
        shown.add_argument(
            "--figure", action="append", default=[], metavar="NAME",
            help="as p50_ns, gpu_bytes; may be given again; default: the two that say most of a row",
        )  # fmt: skip
        shown.add_argument(
            "--mix", action="store_true", help="put what other tools measured of it among our own runs, marked"
        )
        _add_filters(shown, limited=name == "show")
        if name == "plot":
            shown.add_argument(
                "--out", type=Path, default=Path("history.html"), metavar="FILE", help="where to (history.html)"
            )
    _add_golden(below)
    _command(below, "floors", _floors, "the floors of the design effect that are kept, learned by the profile 'floor'")
    _add_import(below)


def _command(
    commands: Any, name: str, do: Callable[[argparse.Namespace], int], summary: str, epilog: str | None = None
) -> argparse.ArgumentParser:
    """A command whose --json and --history may stand before or after the words of a command below it."""
    raw = argparse.RawDescriptionHelpFormatter
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, epilog=epilog, formatter_class=raw
    )
    parser.set_defaults(do=do)
    hidden = argparse.SUPPRESS  # so that the command below does not put its default over what the one above was given
    parser.add_argument(
        "--json", action="store_true", default=hidden, help="print the result as JSON on standard output"
    )
    parser.add_argument(
        "--history", type=Path, default=hidden, metavar="DIR", help="the history folder; default: the cache"
    )
    return parser


def _add_filters(parser: argparse.ArgumentParser, *, limited: bool = True) -> None:
    hidden = argparse.SUPPRESS
    some = parser.add_argument_group("which runs and rows; * stands for any text")
    for name, metavar, words in _WORDS:
        some.add_argument(f"--{name}", default=hidden, metavar=metavar, help=words)
    some.add_argument(
        "--outcome", default=hidden, metavar="OUTCOME", help="with such a row: PASS, FAIL, INCONCLUSIVE, ..."
    )
    some.add_argument("--profile", default=hidden, metavar="NAME", help="measured with this profile")
    some.add_argument(
        "--since", default=hidden, metavar="TIME", help="begun then or later, as 2026-03-04 or 2026-03-04T10:00"
    )
    some.add_argument(
        "--until", default=hidden, metavar="TIME", help="begun then or before; a day or month counts whole"
    )
    some.add_argument(
        "--fact",
        action="append",
        default=hidden,
        metavar="NAME=VALUE",
        help="as jetpack=6.2, tensorrt_host=10.3*; may be given again",
    )
    some.add_argument("--source", default=hidden, metavar="NAME", help="trigate, or the tool of an import")
    either = some.add_mutually_exclusive_group()
    either.add_argument("--simulated", action="store_true", default=hidden, help="simulated rows alone")
    either.add_argument("--real", action="store_true", default=hidden, help="no simulated rows")
    some.add_argument(
        "--order",
        choices=("began", "added"),
        default=hidden,
        help="by when runs began (default), or by when they were added",
    )
    if limited:
        some.add_argument("--limit", type=int, default=hidden, metavar="N", help="how many at most (20)")


def _add_golden(below: Any) -> None:
    golden = _command(below, "golden", _golden_list, "baselines by name")
    inner = golden.add_subparsers(title="commands", metavar="COMMAND")
    _command(inner, "list", _golden_list, "the baselines that there are (this is the default)")
    put = _command(inner, "set", _golden_set, "name runs as a baseline; folders that are not in the history are added")
    put.add_argument("name", metavar="NAME", help="as jetpack-6.2; `trigate compare --base golden:NAME` takes it")
    put.add_argument("run", nargs="+", metavar="RUN", help="an id, the beginning of one, or a folder")
    put.add_argument("--replace", action="store_true", help="also where the name is taken")
    gone = _command(inner, "remove", _golden_remove, "forget a baseline's name; its runs stay")
    gone.add_argument("name", metavar="NAME")


def _add_import(below: Any) -> None:
    taken = _command(below, "import", _import, "take in what another tool measured: MEASURED, and never judged")
    taken.add_argument(
        "file", type=Path, nargs="+", metavar="FILE", help="JSON of trtexec --exportTimes, pytest-benchmark or nvbench"
    )
    taken.add_argument(
        "--as", dest="form", default="", metavar="FORMAT", help="trtexec, pytest-benchmark, nvbench; default: as found"
    )
    taken.add_argument("--model", default="", metavar="NAME", help="what was measured; default: the name in the file")
    taken.add_argument("--runtime", default="", metavar="LABEL", help="on what")
    taken.add_argument("--precision", default="", metavar="NAME", help="in which precision")
    taken.add_argument(
        "--board", default="", metavar="NAME", help="on which board or machine; default: what the file says"
    )
    taken.add_argument("--at", default="", metavar="TIME", help="when, where the file does not say it")
    taken.add_argument("--quiet", action="store_true", help="no progress on standard error")


def remember(history: Path, folder: Path) -> None:
    """Take a run that has just ended into the history. Where that fails it is said, and the run's exit code stays its own."""
    from harness.errors import UsageError
    from harness.history.runs import History

    try:
        with History(history, writable=True) as index:
            index.add(folder, now=time.time(), is_fresh=True)
    except UsageError as error:
        print(f"trigate: --history: the run is not in it: {error}", file=sys.stderr)


# --- what they do --------------------------------------------------------------------------------------------


def _folder(arguments: argparse.Namespace) -> Path:
    given: Path = getattr(arguments, "history", None) or default_cache()
    return given.expanduser()


def _kept(arguments: argparse.Namespace) -> Path:
    return kept_history(getattr(arguments, "history", None))


def _query(arguments: argparse.Namespace) -> Query:
    from harness.errors import UsageError, did_you_mean
    from harness.records import Outcome
    from harness.records.history import Query

    facts = {}
    for word in getattr(arguments, "fact", []):
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise UsageError(f"--fact: {word!r}; expected NAME=VALUE, as jetpack=6.2.")
        facts[name] = value
    outcome = getattr(arguments, "outcome", "").upper()
    known = [one.value for one in Outcome]
    if outcome and outcome not in known:
        raise UsageError(f"--outcome: there is none {outcome!r}. {did_you_mean(outcome, known)}")
    words = {
        name: getattr(arguments, name, "") for name in ("row", "profile", "source", *(word for word, *_ in _WORDS))
    }
    return Query(
        **words,
        outcome=outcome,
        since=_time("--since", getattr(arguments, "since", "")),
        until=_time("--until", getattr(arguments, "until", ""), end=True),
        facts=facts,
        simulated=True
        if getattr(arguments, "simulated", False)
        else False
        if getattr(arguments, "real", False)
        else None,
    )


def _time(option: str, word: str, *, end: bool = False) -> float | None:
    """Seconds since 1970; of a month or a day its beginning, or the next one's."""
    from datetime import timedelta

    from harness.errors import UsageError
    from harness.history.entry import to_seconds

    if not word:
        return None
    is_month, is_day = len(word) == 7, len(word) == 10
    seconds = to_seconds(f"{word}-01" if is_month else word)
    if seconds is None:
        raise UsageError(f"{option} is {word!r}; expected a time, as 2026-03, 2026-03-04 or 2026-03-04T10:00.")
    if end and is_month:
        year, month = int(word[:4]), int(word[5:])
        return to_seconds(f"{year + month // 12:04}-{month % 12 + 1:02}-01")
    return seconds + timedelta(days=1).total_seconds() if end and is_day else seconds + 1e-3 if end else seconds


def _list(arguments: argparse.Namespace) -> int:
    from harness.history.runs import History
    from harness.records import to_json
    from harness.records.history import Query

    with History(_kept(arguments)) as history:
        found = history.runs(_query(arguments), limit=_limit(arguments), by_added=_by_added(arguments))
        known = found.total or history.runs(Query(), limit=1).total
    if _as_json(arguments, to_json(found)):
        return 0
    if not found.total:
        print(
            f"No run of the history in {_folder(arguments)} fits; it has {known}: leave out a filter."
            if known
            else f"No run is in a history in {_folder(arguments)} yet. Add some with: trigate history add RUN…"
        )
        return 0
    _table(
        ("Began", "Run", "Ended", "Rows", "Profile", "Machine", "Versions", ""),
        [_run_line(run) for run in found.runs],
        below=4,
    )
    if found.total > len(found.runs):
        print(f"{len(found.runs)} of {found.total} runs; --limit {found.total} lists all.")
    _notes(found.notes)
    _notes(f"run {_short(run.id)} is doubtful: {note}" for run in found.runs for note in run.notes)
    return 0


def _run_line(run: Listed) -> Sequence[str]:
    from harness.records import Outcome

    names = ("jetpack", "tensorrt_host", "tensorrt", "onnxruntime-gpu", "torch")
    marks = [f"golden:{name}" for name in run.golden]
    marks += [f"SIMULATED {run.simulated}"] if run.simulated else []
    marks += [f"by {run.source}"] if run.source != "trigate" else []
    return (
        run.started_at[:16].replace("T", " "),
        _short(run.id),
        ("not complete" if not run.complete else "" if run.exit_code is None else f"exit {run.exit_code}"),
        ", ".join(f"{one.value} {run.counts[one.value]}" for one in Outcome if one.value in run.counts),
        run.profile,
        run.machine,
        ", ".join(f"{name} {run.facts[name]}" for name in names if name in run.facts),
        "; ".join([*marks, *(["doubtful"] if run.notes else [])]),
    )


def _add(arguments: argparse.Namespace) -> int:
    from harness.history.runs import History

    with History(_folder(arguments), writable=True) as history:
        return _take(arguments, arguments.run, lambda path: history.add(path, now=time.time()))


def _take(arguments: argparse.Namespace, paths: Sequence[Path], take: Callable[[Path], Added]) -> int:
    """Take each in, whatever becomes of the others, and tell what became of it; the exit code."""
    from harness.errors import UsageError
    from harness.records import to_json

    taken: list[tuple[Path, Added]] = []
    refused: list[str] = []
    for number, path in enumerate(paths, 1):
        if not arguments.quiet:
            print(f"[{number}/{len(paths)}] {plain(str(path))}", file=sys.stderr)
        try:
            taken.append((path, take(path)))
        except UsageError as error:
            refused.append(str(error))
    if not _as_json(arguments, {"added": to_json(tuple(one for _, one in taken)), "refused": refused}):
        for path, one in taken:
            print(plain("; doubtful: ".join([f"{path}: {one.how}, run {one.id}", *one.notes])))
    for sentence in refused:
        print(f"trigate: {plain(sentence)}", file=sys.stderr)
    return 2 if refused else 0


def _forget(arguments: argparse.Namespace) -> int:
    from harness.history.runs import History
    from harness.records import to_json

    with History(_folder(arguments), writable=True) as history:
        gone = [history.forget(word) for word in arguments.run]
    if not _as_json(arguments, to_json(tuple(gone))):
        print("\n".join(f"{run.id}: forgotten" for run in gone))
    return 0


def _rows(arguments: argparse.Namespace) -> int:
    from harness.history.runs import History

    with History(_kept(arguments)) as history:
        found = history.rows(_query(arguments))
    if not _as_json(arguments, found):
        _table(("Row", "Runs"), [(row, str(count)) for row, count in found.items()])
    return 0


def _told(arguments: argparse.Namespace) -> tuple[Told, tuple[str, ...]]:
    from harness.history.runs import History

    with History(_kept(arguments)) as history:
        told, known = history.series(
            _query(arguments), arguments.figure, mix=arguments.mix, by_added=_by_added(arguments)
        )
    return replace(told, trigate_version=version()), known


def _show(arguments: argparse.Namespace) -> int:
    from harness.records import to_json

    told, known = _told(arguments)
    if getattr(arguments, "json", False) and _as_json(arguments, {**to_json(told), "figures": list(known)}):
        return 0  # ten thousand points are not made into JSON for nobody
    for series in told.series:
        _show_series(series, _limit(arguments))
    if not told.series:
        print(_NOTHING)
    _notes(told.notes)
    others = [name for name in known if name not in {series.figure for series in told.series}]
    if others and not arguments.figure:
        print(f"Other figures, by --figure: {', '.join(map(plain, others))}.")
    return 0


def _show_series(series: Series, limit: int) -> None:
    from reports import history_page, words

    print(plain(f"\n{series.row}: {history_page.title(series.figure)}, {history_page.about(series)}"))
    steps = {step.at: step for step in series.steps}
    begin = max(0, len(series.points) - limit)
    lines = []
    for at, point in enumerate(series.points[begin:], begin):
        step = steps.get(at)
        mark = "" if step is None else history_page.shift(step.before, step.after)
        told = [
            mark,
            f"by {point.mark}" if point.mark else "",
            f"cut short: {point.incomplete}" if point.incomplete else "",
        ]
        lines.append(
            (
                point.started_at[:16].replace("T", " "),
                _short(point.run),
                words.spread(point.value, point.low, point.high, series.unit),
                point.outcome,
                "; ".join(filter(None, told)),
            )
        )
    _table(("Began", "Run", history_page.title(series.figure), "Outcome", "Step"), lines, below=1)
    if begin:
        print(f"The latest {limit} of {len(series.points)} runs.")
    for sentence in history_page.steps_in_words(series):
        print(plain(sentence))
    if short := history_page.too_few(series):
        print(short)
    _notes(series.notes)


def _plot(arguments: argparse.Namespace) -> int:
    from harness.errors import UsageError
    from harness.records import to_json
    from reports import history_page

    told, _ = _told(arguments)
    try:
        history_page.write(to_json(told), arguments.out)
    except OSError as error:
        raise UsageError(f"--out: {arguments.out} cannot be written: {error.strerror or error}.") from error
    if not _as_json(arguments, {"written": str(arguments.out), "series": len(told.series)}):
        print(f"written: {arguments.out} ({len(told.series)} series)")
        print(history_page.summary(told.series) if told.series else _NOTHING)
    return 0


def _golden_list(arguments: argparse.Namespace) -> int:
    from harness.history.runs import History
    from harness.records import to_json

    with History(_kept(arguments)) as history:
        found = history.all_golden()
    if _as_json(arguments, to_json(found)):
        return 0
    if not found:
        print(
            f"The history in {_folder(arguments)} names no baseline. Set one with: trigate history golden set NAME RUN…"
        )
        return 0
    _table(
        ("Name", "Set", "Run", "Began", "Machine", "Where"),
        [
            (one.name, one.set_at[:10], _short(run.id), run.started_at[:16].replace("T", " "), run.machine, run.path)
            for one in found
            for run in one.runs
        ],
        below=2,
    )
    return 0


def _golden_set(arguments: argparse.Namespace) -> int:
    from harness.history.runs import History
    from harness.records import to_json

    with History(_folder(arguments), writable=True) as history:
        words = [
            history.add(Path(word), now=time.time()).id if (Path(word) / "run.json").is_file() else word
            for word in arguments.run
        ]
        golden = history.set_golden(arguments.name, words, now=time.time(), replacing=arguments.replace)
    if not _as_json(arguments, to_json(golden)):
        print(f"golden:{golden.name} is {', '.join(_short(run.id) for run in golden.runs)}")
        for run in golden.runs:
            if run.exit_code:
                print(plain(f"Note: run {_short(run.id)} ended with exit code {run.exit_code}: {run.last_line}"))
    return 0


def _golden_remove(arguments: argparse.Namespace) -> int:
    from harness.history.runs import History
    from harness.records import to_json

    with History(_folder(arguments), writable=True) as history:
        gone = history.remove_golden(arguments.name)
    if not _as_json(arguments, to_json(gone)):
        print(f"golden:{gone.name} is forgotten; it was {', '.join(_short(run.id) for run in gone.runs)}")
    return 0


def _floors(arguments: argparse.Namespace) -> int:
    from harness.floors import Floors
    from harness.records import to_json

    kept = [
        (name, one)
        for name in ("floors", "floors-simulated")
        for one in Floors(_kept(arguments) / name).all()
    ]  # fmt: skip
    told = [{"simulated": name != "floors", **to_json(one)} for name, one in kept]
    if _as_json(arguments, told):
        return 0
    if not kept:
        print(f"No floor is kept in {_folder(arguments)}. The profile 'floor' learns them, overnight.")
        return 0
    _table(
        ("Design effect", "Sessions", "What", "Learned under", ""),
        [
            (
                "not yet" if one.effect is None else f"{one.effect:.1f}",
                f"{one.sessions} of {one.minutes / 60:.1f} h in all",
                str(one.key),
                ", ".join(f"{what} {value}" for what, value in sorted(one.key.versions.items())) or "versions unknown",
                "" if name == "floors" else "SIMULATED",
            )
            for name, one in kept
        ],
        below=3,
    )
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from harness.history.imports import Labels, import_file

    folder = _folder(arguments)
    labels = Labels(arguments.model, arguments.runtime, arguments.precision, arguments.board, arguments.at)
    return _take(
        arguments, arguments.file, lambda path: import_file(path, folder, labels, now=time.time(), form=arguments.form)
    )


# --- how they say it --------------------------------------------------------------------------------------------


def _as_json(arguments: argparse.Namespace, told: Any) -> bool:
    if not getattr(arguments, "json", False):
        return False
    print(json.dumps(told, indent=1))
    return True


def _limit(arguments: argparse.Namespace) -> int:
    from harness.errors import UsageError

    limit: int = getattr(arguments, "limit", 20)
    if limit < 1:
        raise UsageError(f"--limit is {limit}; expected 1 or more.")
    return limit


def _by_added(arguments: argparse.Namespace) -> bool:
    return getattr(arguments, "order", "began") == "added"


def _short(run: str) -> str:
    """As on the page, without its libraries."""
    return run if run.startswith("import-") else run[:12]


def _notes(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"Note: {plain(note).rstrip('.')}.")


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]], *, below: int = 0) -> None:
    """A table as wide as its text; on a terminal that is narrower the last ``below`` columns stand under each line instead."""
    drawn = _drawn(headings, lines)
    width = terminal_width()
    if below and 0 < width < max(map(len, drawn)):
        drawn = _drawn(headings[:-below], [line[:-below] for line in lines])
        for at, line in reversed([*enumerate(lines, len(drawn) - len(lines))]):
            words = plain("; ".join(filter(None, line[-below:])))
            drawn[at + 1 : at + 1] = textwrap.wrap(words, width, initial_indent="    ", subsequent_indent="    ")
    print("\n".join(drawn))


def _drawn(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """The table's lines, one of each of ``lines`` at the end; text of runs is text, and no markup."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    used = [at for at, heading in enumerate(headings) if any(line[at] for line in lines)]
    for at in used:
        table.add_column(headings[at])
    for line in lines:
        table.add_row(*(Text(" ".join(plain(line[at]).split())) for at in used))
    console = Console(width=100_000, highlight=False, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n").splitlines()
