"""One row per scheduled request, none dropped: when it was due, when the harness woke, when it began, when it was done.

Rows lie in one flat array of 64-bit integers, so that taking a sample costs about half a microsecond and an hour at 39 Hz
holds 14 MB. A journal beside the run keeps what was measured if the process is killed.
"""

from __future__ import annotations

import itertools
import struct
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from harness.records.samples import Phase, Status
from runtime.protocol import Array

__all__ = ["COLUMNS", "UNKNOWN", "Phase", "SampleLog", "Status", "open_journal", "places", "read_journal", "together"]

COLUMNS = (
    "launch", "stream", "scheduled_ns", "woke_ns", "started_ns", "done_ns", "phase", "status",
    "h2d_ns", "compute_ns", "d2h_ns", "wait_ns",
)  # fmt: skip
"""Of one row, all int64. Times count from the origin of the launch. ``stream``: which of the log's streams.

A dropped request was never started: its ``woke_ns``, ``started_ns`` and ``done_ns`` repeat ``scheduled_ns``.
The last four are the device's share of the call (CUDA events); ``UNKNOWN`` where the runtime does not split its time.
"""

UNKNOWN = -1
_WIDTH = len(COLUMNS)
_ROW_BYTES = 8 * _WIDTH
_UNSPLIT = (UNKNOWN,) * 4
_PACK = struct.Struct(f"@{_WIDTH}q").pack


class SampleLog:
    """Grows by ``add``. ``streams``: names, one per kind of request (a model's, for a flight mix).

    ``journal``: an open binary file; ``flush`` appends to it what came since.
    """

    def __init__(self, streams: Sequence[str], *, launch: int = 0, journal: BinaryIO | None = None) -> None:
        self.streams = tuple(streams)
        self.launch = launch
        self._rows = array("q")
        self._journal = journal
        self._flushed = 0  # bytes

    @classmethod
    def from_columns(cls, streams: Sequence[str], columns: Mapping[str, Array], *, launch: int = 0) -> SampleLog:
        """A log of rows that were measured elsewhere. Raises ``ValueError`` for columns of unlike lengths."""
        log = cls(streams, launch=launch)
        log.extend(columns)
        return log

    def __len__(self) -> int:
        return len(self._rows) // _WIDTH

    def add(  # noqa: PLR0917 # called for every request: keywords would cost a third more
        self,
        stream: int,
        scheduled_ns: int,
        woke_ns: int,
        started_ns: int,
        done_ns: int,
        phase: int = Phase.MEASURE,
        status: int = Status.OK,
        split: tuple[int, int, int, int] = _UNSPLIT,
    ) -> None:
        """One request. ``split``: nanoseconds of host-to-device, compute, device-to-host, wait."""
        # packed and copied in one piece: twice as fast as array.extend, which asks each number for its value
        self._rows.frombytes(
            _PACK(self.launch, stream, scheduled_ns, woke_ns, started_ns, done_ns, phase, status, *split)
        )

    def flush(self) -> None:
        """Write what is new to the journal, from any thread. Raises ``OSError`` (a full disk) with every row in memory.

        A later call goes on at the byte where this one ended, so that a journal has no gap.
        """
        if self._journal is None:
            return
        new = memoryview(self._rows[self._flushed // 8 :].tobytes())[self._flushed % 8 :]
        while new:
            written = self._journal.write(new)
            self._flushed += written
            new = new[written:]
        self._journal.flush()

    def last(self, name: str) -> int:
        """A value of the last row. Raises ``IndexError`` where there is none."""
        return self._rows[COLUMNS.index(name) - _WIDTH]

    def column(self, name: str) -> Array:
        """The values of one column, int64 [n], a copy."""
        return np.frombuffer(self._rows, np.int64).reshape(-1, _WIDTH)[:, COLUMNS.index(name)].copy()

    def columns(self) -> dict[str, Array]:
        """All of them, int64 [n] each, copies."""
        table = np.frombuffer(self._rows, np.int64).reshape(-1, _WIDTH)
        return {name: table[:, at].copy() for at, name in enumerate(COLUMNS)}

    def extend(self, columns: Mapping[str, Array]) -> None:
        """Take over the rows of another launch."""
        rows = np.stack([np.asarray(columns[name], np.int64) for name in COLUMNS], axis=1)
        self._rows.frombytes(np.ascontiguousarray(rows).tobytes())


def open_journal(path: Path) -> BinaryIO:
    """A journal to go on with: a row that was cut off is cut away, so that the next one begins where a row begins.

    Unbuffered: what was flushed is the kernel's, and outlives the process. Raises ``OSError``.
    """
    file = path.open("ab", buffering=0)
    file.truncate(file.tell() // _ROW_BYTES * _ROW_BYTES)
    return file


def read_journal(path: Path, *, from_byte: int = 0) -> dict[str, Array]:
    """The whole rows of a journal; a last one that was cut off is left out. Raises ``OSError``."""
    with path.open("rb") as file:
        file.seek(from_byte)
        data = file.read()
    table = np.frombuffer(data[: len(data) // _ROW_BYTES * _ROW_BYTES], np.int64).reshape(-1, _WIDTH)
    return {name: table[:, at].copy() for at, name in enumerate(COLUMNS)}


def places(numbers: Array) -> list[tuple[int, slice | Array]]:
    """(number, where its rows lie) of each launch, as they come. ``numbers``: the launch of each row, int64 [n]."""
    begins = [0, *(1 + np.flatnonzero(numbers[1:] != numbers[:-1])).tolist()] if numbers.size else []
    known = [int(numbers[at]) for at in begins]
    if len({*known}) < len(known):
        return [(number, together(numbers == number)) for number in dict.fromkeys(known)]
    return list(zip(known, itertools.starmap(slice, itertools.pairwise([*begins, numbers.size])), strict=True))


def together(wanted: Array) -> slice | Array:
    """Where a bool [n] is true: as a slice if all of it lies together, so that what it takes of a column is a view."""
    first, count = int(np.argmax(wanted)) if wanted.size else 0, int(np.count_nonzero(wanted))
    return slice(first, first + count) if bool(wanted[first : first + count].all()) else np.flatnonzero(wanted)
