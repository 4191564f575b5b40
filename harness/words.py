"""Words for people that several modules need."""

from __future__ import annotations

__all__ = ["counted"]


def counted(count: int, what: str, several: str = "") -> str:
    """``1 row``, ``2 rows``, ``0 rows``. ``several``: a plural that is not made with an s."""
    return f"{count} {what if count == 1 else several or f'{what}s'}"
