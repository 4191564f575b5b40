"""``trigate judge``: a stored run under other budgets."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.common import command, draw, print_end, seldom

if TYPE_CHECKING:
    from harness.config import Configuration
    from harness.records import Run

JUDGE_EXAMPLES = """\
examples:
  trigate judge runs/jp62 tighter.toml --board orin-nx --out runs/jp62-tighter
  trigate judge runs/quick --profile pr --out runs/quick-as-pr    by the run's own budgets

What the run had to show it still has to; what CONFIG.toml and the board have under require is asked for as well.
exit codes: as of `trigate run`
"""


def add(commands: Any) -> None:
    parser = command(
        commands, "judge", _judge, "judge a run's rows of tier 2 again, under other budgets, with no device",
        epilog=JUDGE_EXAMPLES,
    )  # fmt: skip
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument(
        "config",
        nargs="?",
        type=Path,
        metavar="CONFIG.toml",
        help="whose budgets apply; default: the run's own (its limits.json), of an older run the built-in flight's",
    )
    parser.add_argument("--board", default="", metavar="NAME", help="whose budgets; default: the run's own board")
    parser.add_argument("--profile", choices=("quick", "pr", "signoff"), help="whose rules; default: the run's own")
    parser.add_argument(
        "--history", type=Path, metavar="DIR", help="where floors are kept; default: the floors of each row of the run"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new run folder")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def _judge(arguments: argparse.Namespace) -> int:
    from harness.tier2.rejudge import floors_for, read_run, rejudge

    run = read_run(arguments.run)
    configuration = _configuration(arguments, run)
    board = arguments.board or run.settings.get("board", "")
    floors = floors_for(run, arguments.history) if arguments.history else None
    say = (lambda words: None) if arguments.quiet else seldom(partial(print, file=sys.stderr))
    judged = rejudge(
        arguments.run, configuration, board, arguments.out, profile=arguments.profile, floors=floors, say=say
    )
    print_end(judged, arguments.out, draw(arguments.out), arguments)
    return 4 if judged.exit_code is None else judged.exit_code


def _configuration(arguments: argparse.Namespace, run: Run) -> Configuration:
    """That which is named, or that by which the run was judged, which is said. Raises ``UsageError`` where it is not known."""
    import fixtures
    from harness.config import load_configuration
    from harness.errors import UsageError
    from harness.limits import LIMITS_FILE, read_limits

    if arguments.config is not None:
        return load_configuration(arguments.config)
    limits = read_limits(arguments.run)
    if limits is not None:
        print(
            f"trigate: by the run's own limits, {arguments.run / LIMITS_FILE}; CONFIG.toml gives others",
            file=sys.stderr,
        )
        return limits.configuration(arguments.run)
    built_in = load_configuration(Path(fixtures.__file__).parent / "flight.toml")
    named = run.settings.get("config", "")
    measured = {stream.model for row in run.verdicts for stream in row.summary.measurement.streams}
    measured |= {case.model for case in run.planned if case.kind in ("latency", "load")}
    foreign = sorted(measured - set(built_in.models))
    if named not in ("", Path(built_in.path).name) or foreign:
        what = f"measured {foreign[0]!r}, a model of your own" if foreign else f"was judged by the budgets of {named}"
        raise UsageError(
            f"{arguments.run} {what}, and has no {LIMITS_FILE}. Give the CONFIG.toml whose budgets apply: "
            f"trigate judge {arguments.run} {named if named and not foreign else 'CONFIG.toml'} --out {arguments.out}"
        )
    print(f"trigate: by the budgets of the built-in flight ({named or 'flight.toml'}), as the run was", file=sys.stderr)
    return built_in
