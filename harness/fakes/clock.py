"""Time that passes only when something is simulated."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from heapq import heappop, heappush

__all__ = ["VirtualClock"]


class VirtualClock:
    """Nanoseconds that only ``advance`` moves. Calling it reads it, so it serves wherever a clock is an argument."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns
        self._listeners: list[Callable[[int, int], None]] = []
        self._alarms: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def now_ns(self) -> int:
        """The time."""
        return self._now_ns

    __call__ = now_ns

    def advance(self, ns: int) -> None:
        """Let ``ns`` nanoseconds pass. Time does not run backwards: ``ValueError``."""
        if ns < 0:
            raise ValueError(f"time does not run backwards: {ns} ns")
        end_ns = self._now_ns + ns
        while self._alarms and self._alarms[0][0] <= end_ns:
            due_ns, _, do = heappop(self._alarms)
            self._pass_until(due_ns)
            do()
        self._pass_until(end_ns)

    def _pass_until(self, ns: int) -> None:
        before = self._now_ns
        if ns > before:  # an alarm may have let time pass itself
            self._now_ns = ns
            for listener in self._listeners:
                listener(before, ns)

    def advance_to(self, ns: int) -> None:
        """Let time pass until ``ns``; nothing happens if that is past."""
        self.advance(max(0, ns - self._now_ns))

    def sleep(self, seconds: float) -> None:
        """As ``time.sleep``."""
        self.advance(round(seconds * 1e9))

    def listen(self, listener: Callable[[int, int], None]) -> None:
        """Call ``listener(from_ns, to_ns)`` whenever time has passed."""
        self._listeners.append(listener)

    def ring(self, ns: int, do: Callable[[], None]) -> None:
        """Call ``do`` once when it is ``ns``, with time stopped there; as time passes next where that is past."""
        heappush(self._alarms, (ns, next(self._numbers), do))
