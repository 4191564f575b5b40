"""``trigate sign``: one signed bundle of the runs that a release stands on."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.common import command, version
from harness.commands.key import add_passphrase, passphrase

if TYPE_CHECKING:
    from harness.signoff.bundle import Made
    from harness.signoff.signing import PrivateKey

SIGN_EXAMPLES = """\
examples:
  trigate sign runs/cloud runs/board --key release.key --out releases/1.4
  trigate sign runs/board --key release.key --waivers waivers.toml --out 1.4.zip
  trigate sign runs/board --key release.key --pack packs/flight --out releases/1.4    outputs held against the pack first
  trigate sign runs/board --key release.key --evidence-only --out why-not-1.4    a failing run, kept as evidence

A waiver, in a file of [[waiver]] tables, accepts a row that does not pass:
  [[waiver]]
  row = "lightglue-tensorrt-fp16-b1-latency"   # or model, runtime and kind
  owner = "Ada Lovelace <ada@example.org>"
  reason = "over by 0.4 ms until the matcher is pruned"
  until = 2026-12-31                            # its last day, in UTC; an expired one blocks

exit codes: 0 signed off, with waivers or without; 1 a row fails, or a run is not what its samples make it: refused;
3 something required is not shown, no runtime is required, or a run is simulated: refused;
with --evidence-only the bundle is made all the same, and says FAILED; of a run that its own samples contradict none is made
"""


def add(commands: Any) -> None:
    parser = command(
        commands, "sign", _sign, "bundle runs of one pack with all their evidence, and sign it, if it may be signed off",
        epilog=SIGN_EXAMPLES,
    )  # fmt: skip
    parser.add_argument("run", type=Path, nargs="+", metavar="RUN", help="a run folder; several must be of one pack")
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="the private key, of `trigate key new`")
    add_passphrase(parser)
    parser.add_argument(
        "--pack", type=Path, metavar="DIR", help="the pack of the runs: hold outputs and tolerances against it first"
    )
    parser.add_argument(
        "--references", action="store_true",
        help="put the pack's references and tolerances into the bundle: outputs are held against them without the pack",
    )  # fmt: skip
    parser.add_argument("--waivers", type=Path, metavar="FILE", help="what is accepted although it does not pass")
    parser.add_argument(
        "--evidence-only", action="store_true", help="sign also what is no sign-off, with the result FAILED"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="a new folder, or a new .zip file")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def _sign(arguments: argparse.Namespace) -> int:
    import datetime

    from harness.errors import UsageError
    from harness.packs.folder import load_pack
    from harness.signoff.bundle import make_bundle
    from harness.signoff.waivers import read_waivers

    if arguments.references and arguments.pack is None:
        raise UsageError("--references are those of a pack. Give --pack DIR as well.")
    made = make_bundle(
        arguments.run,
        arguments.out,
        _key(arguments),
        made_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        trigate_version=version(),
        waivers=read_waivers(arguments.waivers) if arguments.waivers is not None else None,
        evidence_only=arguments.evidence_only,
        pack=load_pack(arguments.pack) if arguments.pack is not None else None,
        with_references=arguments.references,
        say=(lambda words: None) if arguments.quiet else (lambda words: print(words, file=sys.stderr)),
    )
    _print(made, arguments)
    return made.signoff.exit_code


def _key(arguments: argparse.Namespace) -> PrivateKey:
    from harness.signoff.signing import load_private_key

    def secret() -> bytes | None:
        if (known := passphrase(arguments)) is not None:
            return known
        if not sys.stdin.isatty():
            return None
        import getpass

        return getpass.getpass(f"Passphrase of {arguments.key}: ").encode(errors="surrogateescape")

    return load_private_key(arguments.key, secret)


def _print(made: Made, arguments: argparse.Namespace) -> None:
    from harness.records import to_json

    signoff = made.signoff
    if arguments.json:
        bundle = str(made.path) if made.path is not None else None
        print(json.dumps({"bundle": bundle, "exit_code": signoff.exit_code, **to_json(signoff)}, indent=1))
        return
    for problem in signoff.problems:
        print(f"{'FAILS' if problem.fails else 'OPEN'}: {problem.words}")
    for waiver in signoff.waivers:
        print(f"waiver: {waiver.words}")
    for note in signoff.notes:
        print(f"note: {note}")
    print(f"bundle: {made.path}" if made.path is not None else f"nothing was signed, and {arguments.out} was not made")
    print(signoff.decision)
