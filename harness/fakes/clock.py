"""Time that passes only when something is simulated."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["VirtualClock"]


class VirtualClock:
    """Nanoseconds that only ``advance`` moves. Calling it reads it, so it serves wherever a clock is an argument."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns
        self._listeners: list[Callable[[int, int], None]] = []

    def now_ns(self) -> int:
        """The time."""
        return self._now_ns

    __call__ = now_ns

    def advance(self, ns: int) -> None:
        """Let ``ns`` nanoseconds pass. Time does not run backwards: ``ValueError``."""
        if ns < 0:
            raise ValueError(f"time does not run backwards: {ns} ns")
        before, self._now_ns = self._now_ns, self._now_ns + ns
        if ns:
            for listener in self._listeners:
                listener(before, self._now_ns)

    def advance_to(self, ns: int) -> None:
        """Let time pass until ``ns``; nothing happens if that is past."""
        self.advance(max(0, ns - self._now_ns))

    def sleep(self, seconds: float) -> None:
        """As ``time.sleep``."""
        self.advance(round(seconds * 1e9))

    def listen(self, listener: Callable[[int, int], None]) -> None:
        """Call ``listener(from_ns, to_ns)`` whenever time has passed."""
        self._listeners.append(listener)
