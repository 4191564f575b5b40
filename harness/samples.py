"""One row per scheduled request, none dropped: when it was due, when the harness woke, when it began, when it was done.

Rows lie in one flat array of 64-bit integers, so that taking a sample costs well under two microseconds and an hour at
39 Hz holds 14 MB. A journal beside the run keeps what was measured if the process is killed.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO

import numpy as np

from runtime.protocol import Array

__all__ = ["COLUMNS", "UNKNOWN", "Phase", "SampleLog", "Status", "read_journal"]

COLUMNS = (
    "launch", "stream", "scheduled_ns", "woke_ns", "started_ns", "done_ns", "phase", "status",
    "h2d_ns", "compute_ns", "d2h_ns", "wait_ns",
)  # fmt: skip
"""Of one row, all int64. Times count from the origin of the launch. ``stream``: which of the log's streams.

The last four are the device's share of the call (CUDA events); ``UNKNOWN`` where the runtime does not split its time.
"""

UNKNOWN = -1
_WIDTH = len(COLUMNS)
_UNSPLIT = (UNKNOWN,) * 4


class Phase(IntEnum):
    """What a request was sent for. Only ``MEASURE`` is judged; all are stored."""

    WARMUP = 0
    SOAK = 1
    MEASURE = 2


class Status(IntEnum):
    """What became of it. All but ``OK`` exceed any budget."""

    OK = 0
    FAILED = 1
    DROPPED = 2


class SampleLog:
    """Grows by ``add``. ``streams``: names, one per kind of request (a model's, for a flight mix).

    ``journal``: an open binary file; ``flush`` appends to it what came since.
    """

    def __init__(self, streams: Sequence[str], *, launch: int = 0, journal: BinaryIO | None = None) -> None:
        self.streams = tuple(streams)
        self.launch = launch
        self._rows = array("q")
        self._journal = journal
        self._flushed = 0

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
        self._rows.extend((self.launch, stream, scheduled_ns, woke_ns, started_ns, done_ns, phase, status, *split))

    def flush(self) -> None:
        """Write what is new to the journal. Raises ``OSError`` (a full disk) with every row still in memory."""
        if self._journal is not None and self._flushed < len(self._rows):
            self._journal.write(self._rows[self._flushed :].tobytes())
            self._journal.flush()
            self._flushed = len(self._rows)

    def column(self, name: str) -> Array:
        """int64 [n], a copy."""
        return np.frombuffer(self._rows, np.int64).reshape(-1, _WIDTH)[:, COLUMNS.index(name)].copy()

    def columns(self) -> dict[str, Array]:
        """All of them, int64 [n] each, copies."""
        table = np.frombuffer(self._rows, np.int64).reshape(-1, _WIDTH)
        return {name: table[:, at].copy() for at, name in enumerate(COLUMNS)}

    def extend(self, columns: Mapping[str, Array]) -> None:
        """Take over the rows of another launch."""
        rows = np.stack([np.asarray(columns[name], np.int64) for name in COLUMNS], axis=1)
        self._rows.frombytes(np.ascontiguousarray(rows).tobytes())


def read_journal(path: Path) -> dict[str, Array]:
    """The whole rows of a journal; a last one that was cut off is left out. Raises ``OSError``."""
    data = path.read_bytes()
    whole = len(data) // (8 * _WIDTH) * 8 * _WIDTH
    table = np.frombuffer(data[:whole], np.int64).reshape(-1, _WIDTH)
    return {name: table[:, at].copy() for at, name in enumerate(COLUMNS)}
