"""``trigate key``: what signs a release, and what it is checked with."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from harness.commands.common import command

KEY_EXAMPLES = """\
examples:
  trigate key new --out release.key                       release.key, for you alone, and release.key.pub, for everybody
  trigate key new --out release.key --ask                 the same, encrypted with a passphrase that is asked for
  trigate key show release.key.pub                        its id, to be read to somebody over the telephone

The id is the SHA-256 of the public key in DER: openssl pkey -pubin -in release.key.pub -outform DER | sha256sum
"""


def add(commands: Any) -> None:
    summary, raw = "make the Ed25519 key that signs a release, or show one", argparse.RawDescriptionHelpFormatter
    keys = commands.add_parser("key", help=summary, description=summary, formatter_class=raw, epilog=KEY_EXAMPLES)
    actions = keys.add_subparsers(required=True, metavar="ACTION", parser_class=type(keys))
    new = command(actions, "new", _new, "make a key pair: a private file that you alone can read, and a public one")
    new.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the private key; the public one is FILE.pub"
    )
    secret = new.add_mutually_exclusive_group()
    add_passphrase(secret)
    secret.add_argument("--ask", action="store_true", help="ask for a passphrase to encrypt it with")
    show = command(actions, "show", _show, "the id of a public key")
    show.add_argument("key", type=Path, metavar="PUBLIC", help="a public key, as FILE.pub")


def add_passphrase(parser: Any) -> None:
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE",
        help="its passphrase, in a file that you alone can read; default: TRIGATE_KEY_PASSPHRASE, where it is set",
    )  # fmt: skip


def passphrase(arguments: argparse.Namespace) -> bytes | None:
    """From the file or the environment; ``None`` where there is neither."""
    from harness.signoff.signing import read_secret

    if arguments.passphrase_file is not None:
        return read_secret(arguments.passphrase_file, "the passphrase").rstrip(b"\r\n")
    word = os.environ.get("TRIGATE_KEY_PASSPHRASE")
    return os.fsencode(word) if word else None  # of any bytes: an error would quote it


def _new(arguments: argparse.Namespace) -> int:
    from harness.errors import UsageError
    from harness.signoff.signing import PUBLIC_SUFFIX, make_key

    if os.environ.get("TRIGATE_KEY_PASSPHRASE") == "" and not (arguments.ask or arguments.passphrase_file):
        raise UsageError(
            "TRIGATE_KEY_PASSPHRASE is set, and empty. Set a passphrase; or unset it, and the key is not encrypted."
        )
    secret = _asked() if arguments.ask else passphrase(arguments)
    public = make_key(arguments.out, secret)
    beside = f"{arguments.out}{PUBLIC_SUFFIX}"
    if arguments.json:
        told = {"private": str(arguments.out), "public": beside, "id": public.id, "encrypted": secret is not None}
        print(json.dumps(told))
        return 0
    how = "encrypted" if secret is not None else "not encrypted: whoever reads the file can sign"
    print(f"{arguments.out}: the private key, {how}. Keep it off machines that run models.")
    print(f"{beside}: the public key, id {public.id}. Give it to whoever verifies.")
    return 0


def _asked() -> bytes:
    import getpass

    from harness.errors import UsageError

    first = getpass.getpass("Passphrase: ")
    if first != getpass.getpass("The same again: "):
        raise UsageError("the two passphrases are not the same; no key was made.")
    return first.encode(errors="surrogateescape")


def _show(arguments: argparse.Namespace) -> int:
    from harness.signoff.signing import load_public_key

    public = load_public_key(arguments.key)
    if arguments.json:
        print(json.dumps({"id": public.id, "kind": "ed25519", "pem": public.pem.decode()}))
    else:
        print(f"{arguments.key}: Ed25519, id {public.id}")
    return 0
