"""``trigate preflight``: what a move will break, with no device."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from harness.commands.common import command, tell

PREFLIGHT_EXAMPLES = """\
examples:
  trigate preflight --to jetpack-7.2 --source src/        what of your code's TensorRT is gone or renumbered there
  trigate preflight --from tensorrt-10.3 --to tensorrt-11.4

exit codes: 0 able; 1 something breaks; 2 the call is wrong; 3 somebody has to look
"""


def add(commands: Any) -> None:
    parser = command(
        commands, "preflight", _preflight, "what a move to another JetPack or TensorRT will break, with no device",
        epilog=PREFLIGHT_EXAMPLES,
    )  # fmt: skip
    parser.add_argument("--to", required=True, metavar="PLATFORM", help="where to, as jetpack-7.2 or tensorrt-11.4")
    parser.add_argument(
        "--from", dest="come_from", default="", metavar="PLATFORM",
        help="where from; default: what this host is, else jetpack-6.2",
    )  # fmt: skip
    parser.add_argument(
        "--source",
        type=Path,
        metavar="DIR",
        help="your own code, a folder or a file: Python and notebooks, and scripts for trtexec's options; "
        "default: trigate's runtime",
    )
    parser.add_argument("--markdown", action="store_true", help="print the check list as Markdown")


def _preflight(arguments: argparse.Namespace) -> int:
    import fixtures
    from harness.preflight.checklist import preflight

    folder = Path(fixtures.__file__).parent
    checklist = preflight(
        arguments.to,
        source=arguments.source,
        come_from=arguments.come_from,
        manifests=folder / "api",
        platforms=folder / "platforms.toml",
    )
    if arguments.json:
        print(json.dumps(checklist.to_json(), indent=1))
    elif arguments.markdown:
        print(checklist.to_markdown())
    else:
        tell(checklist.to_text())
    return checklist.exit_code
