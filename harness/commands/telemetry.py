"""``trigate telemetry``: record a board, and replay what was recorded."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.commands.common import check_root, command

TELEMETRY_EXAMPLES = """\
examples:
  trigate telemetry record --out board.jsonl --seconds 600
  trigate telemetry record --out board.jsonl --hz 2 --follow tegrastats
  trigate telemetry replay board.jsonl
  trigate telemetry replay tegrastats.log --interval 1
"""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "telemetry", help="record a board's instruments, and replay what was recorded",
        description="record a board's instruments, and replay what was recorded", epilog=TELEMETRY_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    below = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    record = command(below, "record", _telemetry_record, "write what all instruments say, as JSON lines")
    record.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file, as board.jsonl")
    record.add_argument("--seconds", type=float, default=60.0, metavar="S", help="how long (60); Ctrl-C ends it too")
    record.add_argument("--hz", type=float, default=10.0, metavar="HZ", help="readings a second (10)")
    record.add_argument(
        "--follow",
        default="",
        metavar="COMMAND",
        help="read the lines of a program instead: tegrastats, or 'sudo tegrastats'",
    )
    record.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="read another root file system")
    record.add_argument("--quiet", action="store_true", help="no progress on standard error")
    replay = command(below, "replay", _telemetry_replay, "what a trace says: ranges, gaps, throttling, energy")
    replay.add_argument(
        "file", type=Path, metavar="FILE", help="a recorded trace, a run's trace, or lines of tegrastats"
    )
    replay.add_argument("--interval", type=float, metavar="S", help="between lines of tegrastats that carry no time")


def _telemetry_record(arguments: argparse.Namespace) -> int:
    from harness.instruments.recording import run_record
    from harness.instruments.telemetry import choose_instruments

    say: Callable[[str], None] = (
        (lambda words: None) if arguments.quiet else (lambda words: print(words, file=sys.stderr))
    )
    check_root(arguments.root)
    with contextlib.closing(choose_instruments(arguments.root)) as instruments:
        text, told = run_record(
            instruments,
            arguments.out,
            seconds=arguments.seconds,
            hz=arguments.hz,
            following=_words("--follow", arguments.follow) if arguments.follow else (),
            say=say,
        )
    print(json.dumps(told, indent=1) if arguments.json else text)
    return 0


def _words(option: str, text: str) -> list[str]:
    """A command as a shell would take it apart."""
    import shlex

    from harness.errors import UsageError

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{option} is {text!r}, which is no command: {error}.") from error
    if not words:
        raise UsageError(f"{option} is {text!r}; expected a command, as tegrastats or 'sudo tegrastats'.")
    return words


def _telemetry_replay(arguments: argparse.Namespace) -> int:
    from harness.instruments.recording import run_replay

    text, told = run_replay(arguments.file, interval_s=arguments.interval)
    print(json.dumps(told, indent=1) if arguments.json else text)
    return 0
