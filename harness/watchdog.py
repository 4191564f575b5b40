"""A time limit for code that is not ours: it runs in a thread, and is left there if it does not come back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Hangs", "call_within"]

T = TypeVar("T")


class Hangs(Exception):  # noqa: N818 (what it does, as a word in a report)
    """A call did not come back in time. Its thread goes on until the process ends."""


def call_within(limit_s: float, call: Callable[[], T]) -> T:
    """What ``call`` returns or raises, or ``Hangs`` after ``limit_s``. Code that never lets Python run cannot be left."""
    ended: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            ended.append((call(), None))
        except BaseException as error:  # it belongs to the caller's thread, whatever it is
            ended.append((None, error))

    thread = threading.Thread(target=run, name="watched", daemon=True)
    thread.start()
    thread.join(limit_s)
    if not ended:
        raise Hangs(f"it did not come back in {limit_s:g} s")
    value, error = ended[0]
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return] # as call gave it
