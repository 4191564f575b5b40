"""What somebody answers for: rows that do not pass and are accepted nevertheless, by whom, why, and until when.

[[waiver]]
row = "lightglue-tensorrt-fp16-b1-latency"   # a row's id; or model, runtime and kind, of which all given must agree
owner = "Ada Lovelace <ada@example.org>"
reason = "over by 0.4 ms until the matcher is pruned (TICKET-12)"
until = 2026-12-31                            # the last day on which it holds, in UTC
"""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError, did_you_mean
from harness.records import Case, Outcome
from runtime.files import read_small

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Waiver", "parse_waivers", "read_waivers"]

_SELECTORS = ("row", "model", "runtime", "kind")
_TEXTS = (*_SELECTORS, "owner", "reason")
_MOST_BYTES = 1 << 20
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WAIVABLE = (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.MEASURED, Outcome.NOT_RUN)


@dataclass(frozen=True)
class Waiver:
    """``until``: an ISO date, the last day on which it holds. Empty selectors choose nothing and exclude nothing."""

    owner: str
    reason: str
    until: str
    row: str = ""
    model: str = ""
    runtime: str = ""
    kind: str = ""

    def covers(self, case: Case, outcome: Outcome) -> bool:
        """Whether it is about the row. One that passes needs none, and gets none."""
        return outcome in _WAIVABLE and self.chooses(case)

    def chooses(self, case: Case) -> bool:
        """Whether it names the row, whatever came of it."""
        chosen = ((self.row, case.id), (self.model, case.model), (self.runtime, case.runtime), (self.kind, case.kind))
        return all(not word or word == own for word, own in chosen)

    def has_expired(self, today: datetime.date) -> bool:
        return today > datetime.date.fromisoformat(self.until)

    @property
    def about(self) -> str:
        """Which rows, in words."""
        return self.row or ", ".join(f"{name} {value}" for name in _SELECTORS[1:] if (value := getattr(self, name)))


def read_waivers(path: Path) -> bytes:
    """The bytes of a waiver file that ``parse_waivers`` takes. Raises ``UsageError``, with the file's own name."""
    try:
        data = read_small(path, limit=_MOST_BYTES, follow=True)
    except FileNotFoundError:
        raise UsageError(f"--waivers: {path} does not exist.") from None
    except OSError as error:
        raise UsageError(f"--waivers: {path} cannot be read: {error.strerror or error}.") from error
    parse_waivers(data, str(path))
    return data


def parse_waivers(data: bytes, where: str) -> tuple[Waiver, ...]:
    """Every waiver of a file. Raises ``UsageError`` that names the waiver, the key, what came and what was expected."""
    try:
        table = tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not UTF-8 text (byte {error.start}).") from error
    except (ValueError, RecursionError) as error:  # of a number or a nesting that no waiver has, too
        raise UsageError(f"{where} is not TOML: {error}.") from error
    for key in table:
        if key != "waiver":
            raise UsageError(f"{where}: unknown key {key!r}; expected [[waiver]] tables.")
    entries = table.get("waiver", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"{where}: waiver is {entries!r:.60}; expected [[waiver]] tables.")
    return tuple(_waiver(entry, f"{where}: waiver {at}") for at, entry in enumerate(entries, 1))


def _waiver(entry: Mapping[str, Any], where: str) -> Waiver:
    for key, value in entry.items():
        if key not in (*_TEXTS, "until"):
            raise UsageError(f"{where}: unknown key {key!r}. {did_you_mean(key, (*_TEXTS, 'until'))}")
        if key in _TEXTS and not (isinstance(value, str) and any(map(str.isalnum, value))):
            raise UsageError(
                f"{where}: {key} is {value!r}; expected text with a letter or digit (there are no wildcards)."
            )
    _require(entry, ("owner", "reason", "until"), where)
    if not any(name in entry for name in _SELECTORS):
        raise UsageError(f"{where}: names no row. Give row = 'ID', or model, runtime or kind.")
    if "row" in entry and any(name in entry for name in _SELECTORS[1:]):
        raise UsageError(f"{where}: names a row, so model, runtime and kind have no place beside it.")
    texts = {key: " ".join(str(entry[key]).split()) for key in _TEXTS if key in entry}
    return Waiver(until=_date(entry["until"], where), **texts)


def _require(entry: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    for name in names:
        if name not in entry:
            raise UsageError(f"{where}: has no {name}. A waiver has an owner, a reason and an end date (until).")


def _date(value: Any, where: str) -> str:
    if isinstance(value, str):
        try:
            value = datetime.date.fromisoformat(value if _DATE.fullmatch(value) else "")
        except ValueError:
            raise UsageError(f"{where}: until is {value!r}; expected a date such as 2026-12-31.") from None
    if not isinstance(value, datetime.date) or isinstance(value, datetime.datetime):
        raise UsageError(f"{where}: until is {value!s:.40}; expected a date such as 2026-12-31, without a time.")
    return value.isoformat()
