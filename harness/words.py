"""Words for people that several modules need."""

from __future__ import annotations

import re
import textwrap

__all__ = ["counted", "fitted"]


def counted(count: int, what: str, several: str = "") -> str:
    """``1 row``, ``2 rows``, ``0 rows``. ``several``: a plural that is not made with an s."""
    return f"{count} {what if count == 1 else several or f'{what}s'}"


def fitted(text: str, width: int) -> str:
    """Prose broken between words to a terminal of so many letters (0: as it is), each line on from where its first word stands.

    Columns are set off by two spaces. A line with a command stays whole, to be copied.
    """

    def lines(line: str) -> list[str]:
        hang = re.match(r"(?:.{0,38} {2,})?(?:[->] )?", line)
        if hang is None or len(line) <= width or re.search(r" -m |pip install|`", line):
            return [line]
        return textwrap.wrap(
            line, width, subsequent_indent=" " * hang.end(), break_long_words=False, break_on_hyphens=False
        )

    return "\n".join(part for line in text.splitlines() for part in lines(line)) if width else text
