"""Several rounds of one function: by pytest-benchmark inside a tier's item (it runs, our gates judge), else by a loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["Rounds"]

T = TypeVar("T")


class Rounds:
    """Who settles a row asks for rounds here; the row's item says by what they are run, while it is settled.

    One object per run: ``Row.settle`` puts pytest-benchmark's fixture in, ``load_row`` takes its rounds out.
    """

    def __init__(self) -> None:
        self._benchmark: Callable[[], Any] | None = None
        self._lock = threading.Lock()

    @contextmanager
    def by(self, benchmark: Callable[[], Any] | None) -> Iterator[None]:
        """While inside, the first rounds are run by the fixture that ``benchmark`` gives; it is asked only when needed."""
        with self._lock:
            self._benchmark = benchmark
        try:
            yield
        finally:
            with self._lock:
                self._benchmark = None

    def run(self, target: Callable[[], T], rounds: int) -> list[T]:
        """What ``target`` gave in each of ``rounds`` rounds, with no warm-up and one call in each; raises what it raises.

        A fixture runs one series, and runs it short where it was disabled (``--benchmark-disable``): the rest is a loop.
        """
        with self._lock:
            benchmark, self._benchmark = self._benchmark, None
        results: list[T] = []
        if benchmark is not None and rounds > 0:
            benchmark().pedantic(lambda: results.append(target()), rounds=rounds, iterations=1, warmup_rounds=0)
        while len(results) < rounds:
            results.append(target())
        return results
