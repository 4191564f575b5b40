"""What libraries and the runtime warned of while a row ran, in words that are the same in every run of one version.

Two runs of one version on one machine must have the same set, or a comparison finds news where there is none. So what
changes by itself is taken out: addresses, process numbers, times, digests, and folders.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from harness.records import ABOUT_RUNTIMES, Case, Verdict

__all__ = ["ABOUT_NUMERICS", "MOST_WARNINGS", "Ear", "listening", "plain", "warned", "warnings_of"]

ABOUT_NUMERICS = ("parity", "semantic", "pair")
"""The kinds of rows that share engines: each runs once, and what it gave is kept."""

MOST_WARNINGS = 20
"""Of one row; how many more there are is said, and ``logs/run.log`` has all."""

_PYTHON = "python.warning"
_MOST_CHARACTERS = 240
_MOST_BYTES = 8 << 20
_CHANGING = (
    "kind",
    "level",
    "time_ns",
    "took_ms",
    "frame",
    "resident_bytes",
    "size_bytes",
    "backbone",
    "engine",
    "runtime",
)
_SAID = re.compile(
    r"^\S[^\n]*?:\d+: (?P<category>\w*Warning): (?P<words>.+)$|"  # a Python of a child
    r"\[W:(?P<library>onnxruntime):[^\]]*\] (?P<told>.+)$|"
    r"\[W\] \[(?P<trt>TRT)\] (?P<says>.+)$"
)
_PLAINER = (
    (re.compile(r"0x[0-9a-fA-F]+"), "0x…"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d:\d\d\S*)?"), "…"),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:\.\d+)?"), "…"),
    (re.compile(r"(?<![\w.…])/(?:[^\s/'\":,;()]+/)+"), "…/"),
    (re.compile(r"\b(trigate-[a-z]+-|\.build-|tmp)[a-z0-9_]{8}\b"), r"\1…"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{12,}\b"), "…"),
    (re.compile(r"\b(pid|PID|process|thread|Thread)([ =:#]+)\d+"), r"\1\2…"),
    (re.compile(r"(?<=\.py):\d+"), ""),
    (re.compile(r"\b\d+(?:\.\d+)? ?(ns|us|µs|ms|s|seconds|MiB|MB|bytes)\b"), r"… \1"),
    (re.compile(r"\b\d{6,}\b"), "…"),
    (re.compile(r"\s+"), " "),
)

Settle = Callable[[Case], Verdict]


@dataclass(frozen=True)
class Ear:
    """Hears what is warned of while something runs. ``log``: where standard error goes meanwhile, open on ``path``."""

    log: TextIO
    path: Path

    @contextmanager
    def __call__(self) -> Iterator[list[str]]:
        """Around what runs; the list is filled when it has ended."""
        heard: list[str] = []
        begun = self._written()
        with warnings.catch_warnings(record=True) as caught:
            yield heard
        # nobody else would keep them
        told = [{"reason": f"{each.category.__name__}: {each.message}"} for each in caught]
        lines = [json.dumps({"kind": _PYTHON, "level": "WARN", **each}) for each in told]
        was_written = begun is not None and self._written(lines) is not None
        heard += warnings_of(self._lines(begun or 0) if was_written else lines)

    def _written(self, lines: Iterable[str] = ()) -> int | None:
        """How many bytes the log has with these lines; ``None`` where it cannot be written, which must not end the run."""
        try:
            self.log.writelines(f"{line}\n" for line in lines)
            self.log.flush()
            return self.path.stat().st_size
        except (OSError, ValueError):
            return None

    def _lines(self, begun: int) -> Iterator[str]:
        with self.path.open("rb") as file:
            file.seek(begun)
            yield from file.read(_MOST_BYTES).decode("utf-8", "replace").splitlines()


def listening(settle: Settle, ear: Ear) -> Settle:
    """The same, with ``Measurement.warnings`` of what was warned meanwhile.

    A row about a runtime is left as it is, since it warns on purpose, thousands of times; and one about numerics, whose engine
    may have run for an earlier row: the bench listens there.
    """

    def heard(case: Case) -> Verdict:
        if case.kind in (*ABOUT_RUNTIMES, *ABOUT_NUMERICS):
            return settle(case)
        with ear() as told:
            verdict = settle(case)
        return warned(verdict, told)

    return heard


def warned(verdict: Verdict, words: Iterable[str]) -> Verdict:
    """The verdict with these warnings beside its own, each once."""
    measurement = verdict.summary.measurement
    every = tuple(dict.fromkeys((*measurement.warnings, *words)))
    return replace(verdict, summary=replace(verdict.summary, measurement=replace(measurement, warnings=every)))


def warnings_of(lines: Iterable[str]) -> tuple[str, ...]:
    """The warnings among lines of a log, each once, in the order in which they came; at most ``MOST_WARNINGS``, and how many
    more there are.
    """
    found = list(dict.fromkeys(plain(words) for line in lines if (words := _words(line))))
    more = len(found) - MOST_WARNINGS
    return (*found[:MOST_WARNINGS], *([f"{more} more kinds of warnings, in logs/run.log"] if more > 0 else []))


def plain(text: str) -> str:
    """The text without what is another in each run, and without a line too long to be read."""
    for pattern, instead in _PLAINER:
        text = pattern.sub(instead, text)
    text = text.strip()
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"


def _words(line: str) -> str:
    """What a line warns of; empty where it warns of nothing."""
    if line.startswith("{"):
        try:
            event = json.loads(line)
        except ValueError:
            return ""
        return _of_event(event) if isinstance(event, dict) and event.get("level") == "WARN" else ""
    match = _SAID.search(line.rstrip())
    if match is None:
        return ""
    parts = match.groupdict()
    who = parts["category"] or parts["library"] or parts["trt"]
    return f"{who}: {parts['words'] or parts['told'] or parts['says']}"


def _of_event(event: Mapping[str, Any]) -> str:
    told = {key: value for key, value in event.items() if key not in _CHANGING}
    words = [str(told.pop(key)) for key in ("reason", "remark", "message") if key in told]
    words += [f"{key} {_flat(value)}" for key, value in told.items()]
    kind = str(event.get("kind", ""))
    return "; ".join(words) if kind == _PYTHON else f"{kind.rpartition('.')[2]}: {'; '.join(words)}"


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} ({_flat(each)})" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_flat, value))
    return str(value)
