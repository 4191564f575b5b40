"""``trigate report``: draws a run again, or several runs of one pack together."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.common import command

if TYPE_CHECKING:
    from harness.combine import Combined
    from harness.records import Run
    from reports import Report

REPORT_EXAMPLES = """\
examples:
  trigate report runs/a                                  its report again, into the run's own folder
  trigate report runs/a --format md --out -              the comment for a pull request, on standard output
  trigate report runs/a --format csv --table latency --out - > latency.csv
  trigate report runs/a --format json --out results      results/tables.json: every table, lines as objects
  trigate report cloud desk board --out release --gate   three runs of one pack as one, and its exit code

formats: html report.html, md report.md (fits a pull request's comment), csv tables/*.csv, json tables.json, junit junit.xml

Several runs are drawn together where they are of one pack (give every host the same --pack): Tier-0 from the cloud, Tier-1
from a workstation, Tier-2 from a board. A row that ran in one and is NOT RUN in another is taken from where it ran; a row
that ran in two is refused by name. combined.json says which row is from which run. The folder is a report and no run:
sign and compare take the runs themselves.

exit codes: 0 drawn (with --gate: that of what is drawn, as of `trigate run`); 2 the runs do not go together, or the call is
wrong
"""


def add(commands: Any) -> None:
    parser = command(
        commands,
        "report",
        _report,
        "draw a run's report again, or several runs of one pack together",
        epilog=REPORT_EXAMPLES,
    )
    parser.add_argument("run", type=Path, nargs="+", metavar="RUN", help="a run folder; several are drawn together")
    parser.add_argument(
        "--format", action="append", default=[], metavar="NAME",
        help="html, md, csv, json or junit, also as html,md; may be given again (html,md,csv,junit)",
    )  # fmt: skip
    parser.add_argument(
        "--table",
        action="append",
        default=[],
        metavar="NAME",
        help="of csv and json this table alone; may be given again",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to (the run's own folder); - is standard output, for one file"
    )
    parser.add_argument(
        "--gate", action="store_true", help="end with the exit code of what is drawn, as `trigate run` does"
    )
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE",
        help="write the run's p50, p95 and calls per second into FILE too, as this machine's baselines",
    )  # fmt: skip


def _report(arguments: argparse.Namespace) -> int:
    from harness.errors import UsageError
    from reports import doubts_of, texts, write

    formats = _formats(arguments.format)
    to_stdout = str(arguments.out) == "-"
    if to_stdout and arguments.json:
        raise UsageError("--out - prints the report itself, and --json the names of its files. Give one of them.")
    if len(arguments.run) > 1 and arguments.out is None:
        raise UsageError("several runs together have no folder of their own. Give --out DIR.")
    if arguments.baseline is not None and (len(arguments.run) > 1 or to_stdout):
        raise UsageError("--baseline is of one machine, so of one run, and of none with --out -.")
    report = _load(arguments.run)
    names = _tables(arguments.table, report, formats)
    if to_stdout:
        made = {name: text for name, text in texts(report, formats, names).items() if name != "combined.json"}
        if len(made) != 1:
            raise UsageError(
                f"--out - prints one file, and this would be {len(made)} ({', '.join(list(made)[:3])}...). "
                "Give --format md, html, json or junit, or --format csv with --table NAME."
            )
        _print(next(iter(made.values())))
    else:
        out = arguments.out or report.folder
        _refuse_another_run(out, arguments.run)
        try:
            written = write(report, out, formats, names)
        except OSError as error:
            raise UsageError(f"{out}: the report cannot be written: {error.strerror or error}") from error
        written += _baseline(arguments)
        for doubt in doubts_of(report):
            print(f"doubt: {doubt}", file=sys.stderr)
        print(json.dumps([str(path) for path in written]) if arguments.json else "\n".join(map(str, written)))
    return _code(report.run) if arguments.gate else 0


def _print(text: str) -> None:
    from harness.errors import UsageError

    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads it has read enough
        raise
    except OSError as error:
        raise UsageError(f"standard output cannot be written: {error.strerror or error}.") from error


def _code(run: Run) -> int:
    """The exit code of RE-04, never greener than the rows: ``run.json`` may have been edited."""
    from harness.gates import EXIT_FAIL, EXIT_INTERNAL, EXIT_OPEN, EXIT_PASS
    from harness.records import Outcome

    if run.exit_code is None:
        return EXIT_INTERNAL
    fails = any(verdict.outcome is Outcome.FAIL for verdict in run.verdicts)
    return EXIT_FAIL if fails and run.exit_code in (EXIT_PASS, EXIT_OPEN) else run.exit_code


def _formats(words: Sequence[str]) -> tuple[str, ...]:
    from harness.errors import UsageError, did_you_mean
    from reports import FORMATS, USUAL

    asked = [name.strip() for word in words for name in word.split(",") if name.strip()]
    for name in asked:
        if name not in FORMATS:
            raise UsageError(f"--format: there is no {name!r}. {did_you_mean(name, FORMATS)}")
    return tuple(dict.fromkeys(asked)) or USUAL


def _tables(asked: Sequence[str], report: Report, formats: Collection[str]) -> tuple[str, ...]:
    from harness.errors import UsageError, did_you_mean

    for name in asked:
        if name not in report.tables:
            raise UsageError(f"--table: there is no {name!r}. {did_you_mean(name, report.tables)}")
    if asked and not {"csv", "json"} & set(formats):
        raise UsageError("--table is for --format csv and json; the others show all tables.")
    return tuple(dict.fromkeys(asked))


def _load(folders: Sequence[Path]) -> Report:
    """The report of one run, or of several together. Raises ``UsageError``."""
    from harness.combine import combine, labels_for
    from harness.errors import UsageError
    from harness.limits import read_limits
    from harness.records import RecordError
    from reports import load, load_together
    from reports.run_folder import read_run

    try:
        if len(folders) == 1:
            return load(folders[0])
        labels = dict(zip(labels_for(folders), folders, strict=True))
        runs = [(label, read_run(folder)) for label, folder in labels.items()]
        limits = {label: read_limits(folder) for label, folder in labels.items()}
        asked = {label: limit.require for label, limit in limits.items() if limit is not None}
        found: Combined = combine(runs, asked)
        return load_together(found.run, found.parts, labels, found.rows)
    except RecordError as error:
        raise UsageError(str(error)) from error


def _refuse_another_run(out: Path, runs: Sequence[Path]) -> None:
    """A folder that holds a run keeps the report of that run."""
    from harness.errors import UsageError

    if out.exists() and not out.is_dir():
        raise UsageError(f"--out: {out} is a file; it takes a folder.")
    its_own = len(runs) == 1 and out.resolve() == runs[0].resolve()
    if (out / "run.json").exists() and not its_own:
        raise UsageError(f"--out: {out} holds a run, and its report would be written over. Give another folder.")


def _baseline(arguments: argparse.Namespace) -> list[Path]:
    if arguments.baseline is None:
        return []
    from harness.baselines import machine_of, write_baselines
    from harness.tier2.rejudge import read_run

    run = read_run(arguments.run[0])
    module = run.environment.get("module", "none")
    machine = machine_of(run.environment, None if module in ("none", "unknown") else module)
    names = ("jetpack", "tensorrt_host", "onnxruntime-gpu", "torch")
    versions = {name: run.environment[name] for name in names if name in run.environment}
    write_baselines(arguments.baseline, machine, run.verdicts, run=run.id, versions=versions)
    return [arguments.baseline]
