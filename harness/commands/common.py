"""What several commands do alike."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.words import fitted

if TYPE_CHECKING:
    from harness.records import Run

__all__ = [
    "check_root", "command", "default_cache", "draw", "kept_history", "plain", "print_end", "seldom", "stamp",
    "tell", "terminal_width", "version",
]  # fmt: skip


def command(commands: Any, name: str, do: Callable[[argparse.Namespace], int], summary: str, **more: Any) -> Any:
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(name, help=summary, description=summary, formatter_class=raw, **more)
    parser.set_defaults(do=do)
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    return parser


def plain(text: str) -> str:
    """Text that a terminal shows and does not obey; joiners are letters of some scripts."""
    return "".join(letter if letter.isprintable() or letter in "\n\u200c\u200d" else "\ufffd" for letter in text)


def check_root(root: Path) -> None:
    from harness.errors import UsageError

    if not root.is_dir():
        raise UsageError(f"--root is {root}, which is no folder; expected one that holds sys/ and proc/.")


def draw(folder: Path) -> list[Path]:
    from harness.errors import UsageError
    from reports import write_reports

    try:
        return write_reports(folder)
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}: the report cannot be drawn: {error}") from error


def print_end(finished: Run, out: Path, written: Sequence[Path], arguments: argparse.Namespace) -> None:
    from harness.records import to_json

    if arguments.json:
        print(json.dumps({"run": str(out), **to_json(finished)}, indent=1))
        return
    report = next((path for path in written if path.name == "report.html"), out)
    print(f"report: {report}")
    print(finished.last_line)


def seldom(
    say: Callable[[str], object], *, every_s: float = 2.0, clock: Callable[[], float] = time.monotonic
) -> Callable[[str], None]:
    """Says how far something is where it takes long: nothing at first, and then the latest words every ``every_s``."""
    last_s = clock()

    def told(words: str) -> None:
        nonlocal last_s
        if clock() - last_s >= every_s:
            last_s = clock()
            say(words)

    return told


def terminal_width() -> int:
    """Of standard output, in letters; 0 where it is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def tell(text: str) -> None:
    """Print what people read."""
    print(fitted(text, terminal_width()))


def version() -> str:
    import importlib.metadata

    return importlib.metadata.version("trigate")


def stamp() -> str:
    import datetime

    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d-%H%M%S-%f")


def default_cache() -> Path:
    base = os.environ.get("TRIGATE_CACHE") or os.environ.get("XDG_CACHE_HOME")
    named = os.environ.get("TRIGATE_CACHE")
    return Path(named) if named else Path(base or Path.home() / ".cache") / "trigate"


def kept_history(given: Path | None) -> Path:
    """The folder of a history to read from. One that was named and is not there is a slip, and no history without runs."""
    from harness.errors import UsageError

    folder = (given or default_cache()).expanduser()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--history: {folder} is a file; give the folder that a history is kept in.")
    if given is not None and not folder.exists():
        raise UsageError(
            f"--history: there is no folder {folder}. `trigate run --history {folder}` and "
            f"`trigate history add RUN --history {folder}` make one."
        )
    return folder
