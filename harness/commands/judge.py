"""``trigate judge``: a stored run under other budgets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.commands.common import command, draw, print_end

JUDGE_EXAMPLES = """\
examples:
  trigate judge runs/jp62 tighter.toml --board orin-nx --out runs/jp62-tighter
  trigate judge runs/quick --profile pr --out runs/quick-as-pr

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
        help="whose budgets apply; default: the built-in flight's",
    )
    parser.add_argument("--board", default="", metavar="NAME", help="whose budgets; default: the run's own board")
    parser.add_argument("--profile", choices=("quick", "pr", "signoff"), help="whose rules; default: the run's own")
    parser.add_argument(
        "--history", type=Path, metavar="DIR", help="where floors are kept; default: the floors of each row of the run"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new run folder")


def _judge(arguments: argparse.Namespace) -> int:
    import fixtures
    from harness.config import load_configuration
    from harness.rejudge import floors_for, read_run, rejudge

    configuration = load_configuration(arguments.config or Path(fixtures.__file__).parent / "flight.toml")
    run = read_run(arguments.run)
    board = arguments.board or run.settings.get("board", "")
    floors = floors_for(run, arguments.history) if arguments.history else None
    judged = rejudge(arguments.run, configuration, board, arguments.out, profile=arguments.profile, floors=floors)
    print_end(judged, arguments.out, draw(arguments.out), arguments)
    return 4 if judged.exit_code is None else judged.exit_code
