"""``trigate verify``: whether a bundle is what was signed, and what was measured."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from harness.commands.common import command, seldom

VERIFY_EXAMPLES = """\
examples:
  trigate verify releases/1.4 --key release.key.pub
  trigate verify 1.4.zip --key release.key.pub --json
  trigate verify releases/1.4 --key release.key.pub --pack packs/flight    outputs too, where the pack is at hand
  trigate verify 1.4.zip --key release.key.pub --artifact flight/*.engine        and are these the engines that were tested?

Verdicts about latency, the mix, heat, loading, memory, take-off and numerics are computed again from what was measured. Others
(a model's file, a clause, what did not run) must follow from their own checks in the record; the summary counts each.

Get the public key from the one who signs, and not out of the bundle: signer.pub in it is for comparison alone.

exit codes: 0 signed off by this key, and every file and verdict holds; 1 something was changed, does not hold, or is no
sign-off; 2 it is no bundle, or the call is wrong; 3 it holds, and something is open: no --key, a waiver that has ended
"""


def add(commands: Any) -> None:
    parser = command(
        commands, "verify", _verify, "check a bundle offline: signature, every file, and every verdict",
        epilog=VERIFY_EXAMPLES,
    )  # fmt: skip
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="what `trigate sign --out` wrote")
    parser.add_argument(
        "--key", type=Path, metavar="PUBLIC", help="the public key of whom you trust; without one, exit code 3"
    )
    parser.add_argument(
        "--pack", type=Path, metavar="DIR", help="the pack of the runs, to hold outputs and tolerances against"
    )
    parser.add_argument(
        "--artifact", type=Path, nargs="+", default=[], metavar="FILE",
        help="models or engines: are they what was tested, and passed?",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def _verify(arguments: argparse.Namespace) -> int:
    import datetime

    from harness.packs.folder import load_pack
    from harness.signoff.signing import load_public_key
    from harness.signoff.verify import verify

    key = load_public_key(arguments.key) if arguments.key is not None else None
    pack = load_pack(arguments.pack) if arguments.pack is not None else None
    today = datetime.datetime.now(datetime.timezone.utc).date()
    say = (lambda words: None) if arguments.quiet else seldom(partial(print, file=sys.stderr))
    seen = verify(arguments.bundle, key, today=today, pack=pack, artifacts=arguments.artifact, say=say)
    print(json.dumps(seen.to_json(), indent=1) if arguments.json else seen.to_text())
    return seen.exit_code
