"""What the harness tells a person when it cannot go on: one sentence, and the next step (exit code 2)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["UsageError", "did_you_mean"]


class UsageError(Exception):
    """The call or the configuration is wrong. ``str()`` is one clear sentence with the next step in it."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``Did you mean 'x'?``, or the list of what there is; for the end of an error message."""
    choices = sorted(known)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known: {', '.join(choices)}." if choices else "There is none."
