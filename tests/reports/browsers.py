"""Which browser the pages are opened in; as a program, gets one where none is installed, and says what came of it.

``python -m tests.reports.browsers``: what is there is used; else playwright's own build is fetched; else, for root on
Debian, its package. Each step ends after 90 s. Ends with 0 in any case: without a browser those tests are NOT RUN.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LIMIT_S = 90
APT = ("apt-get", "-qq", "-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=10")


def installed() -> str:
    """Path of a Chromium that is installed, playwright's own last; empty where there is none, or no playwright."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return ""
    with sync_playwright() as driver:
        own = driver.chromium.executable_path
    return own if Path(own).exists() else ""


def starts(path: str) -> str:
    """Why it does not start here (a library that is missing), in one line; empty where it does."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        return "playwright: not installed"
    try:
        with sync_playwright() as driver:
            driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"]).close()
    except Error as error:
        return next(
            (line.strip() for line in str(error).splitlines() if "error while" in line), str(error).splitlines()[0]
        )
    return ""


def _ways() -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """How one can be had here, in the order in which it is tried."""
    yield "playwright's own build", [(sys.executable, "-m", "playwright", "install", "--no-shell", "chromium")]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        install = (*APT, "install", "--yes", "--no-install-recommends", "chromium")
        yield "Debian's package", [(*APT, "update"), install]


def _tried(commands: list[tuple[str, ...]]) -> str:
    """What went wrong, in one line; empty for nothing."""
    for command in commands:
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=LIMIT_S, check=False,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error).splitlines()[0][:200]
        if done.returncode:
            told = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            named = [line for line in told if line.startswith(("Error", "E:"))]
            return (named or told or [f"ended with {done.returncode}"])[0][:200]
    return ""


def _say(words: str) -> None:
    sys.stdout.write(f"browser: {words}\n")
    sys.stdout.flush()


def main() -> None:
    path = installed()
    for way, commands in () if path else _ways():
        wrong = _tried(commands)
        path = installed()
        _say(f"{way}: {wrong or ('installed' if path else 'nothing was installed')}")
        if path:
            break
    why = starts(path) if path else "chromium: not installed"
    _say(f"NOT RUN  {why}" if why else f"{Path(path).name} starts")


if __name__ == "__main__":
    main()
