"""One run is one folder (RE-01). Everything in it is written whole or not at all; every row is on disk once it is settled."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from harness.errors import UsageError
from harness.records import JOURNAL, Run, Verdict, run_from_folder, to_json
from runtime.files import write_atomic
from runtime.protocol import Array

__all__ = ["LOG_FILE", "FolderError", "RunFolder"]

LOG_FILE = "logs/run.log"

_PART = 20
"""``run.json`` is written whole at most for this part of the time, since it grows with every row."""


class FolderError(UsageError):
    """The run folder cannot be written: nothing that is measured from now on could be kept."""


class RunFolder:
    """An open run folder, locked for this process. Use as a context manager.

    Raises ``UsageError`` where the folder holds another run (without ``resume``), is in use, read-only or full.
    """

    def __init__(self, path: Path, *, resume: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._run = ""
        self._due_s = 0.0
        self._lock: int | None = None
        if (path / "run.json").exists() and not resume:
            raise UsageError(f"{path} holds a run already. Give another --out, or --resume to go on with it.")
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; --out takes a folder.")
        if path.is_dir() and not resume and any(entry.name != ".lock" for entry in path.iterdir()):
            raise UsageError(f"{path} is not empty and holds no run. Give another --out.")
        with self.explained():
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            self._lock = None
            raise UsageError(f"another trigate writes to {path} now. Give another --out, or wait for it.") from None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            os.close(self._lock)  # the file stays: unlinking it would let two processes hold two locks
            self._lock = None

    def earlier(self) -> Run | None:
        """The run that stands in the folder, to be resumed; ``None`` where there is none."""
        try:
            return run_from_folder(self.path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:  # a RecordError is a ValueError
            raise UsageError(f"{self.path} cannot be resumed: {error}") from error

    def write_run(self, run: Run) -> None:
        """Put ``run.json`` in place of the last one, and of what the journal has added to that."""
        began_s = self._clock()
        self.write("run.json", json.dumps(to_json(run), indent=1, allow_nan=False).encode())
        self.discard(JOURNAL)
        self._run, now_s = run.id, self._clock()
        self._due_s = now_s + _PART * (now_s - began_s)

    @property
    def is_due(self) -> bool:
        """Whether ``run.json`` may be written whole again; until then what is settled is noted in the journal."""
        return self._clock() >= self._due_s

    def note_row(self, verdict: Verdict) -> None:
        """Add a row to the run that was written last."""
        self._note(row=to_json(verdict))

    def note_last_line(self, words: str) -> None:
        """Put words in place of the last line of the run that was written last."""
        self._note(last_line=words)

    def _note(self, **said: Any) -> None:
        line = json.dumps({"run": self._run, **said}, allow_nan=False).encode() + b"\n"
        with self.explained(), (self.path / JOURNAL).open("ab") as journal:
            journal.write(line)
            journal.flush()
            os.fsync(journal.fileno())

    def open_log(self) -> TextIO:
        """``logs/run.log``, to append to: what the runtimes report while rows run, a JSON line each."""
        with self.explained():
            (self.path / "logs").mkdir(exist_ok=True)
            return (self.path / LOG_FILE).open("a", encoding="utf-8")

    def write(self, name: str, data: bytes) -> str:
        """Write one file atomically; returns ``name``, which is relative to the folder."""
        target = self.path / name
        with self.explained():
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(target, data)
        return name

    def write_arrays(self, name: str, arrays: Mapping[str, Array], *, compress: bool = True) -> str:
        """Write an ``.npz`` of arrays by name. Outputs are noise to zlib, and are read faster as they are."""
        buffer = io.BytesIO()
        save = np.savez_compressed if compress else np.savez
        save(buffer, **dict(arrays))  # type: ignore[arg-type] # the stub takes the keywords for allow_pickle
        return self.write(name, buffer.getvalue())

    def discard(self, name: str) -> None:
        """Remove a file that an earlier try at a row left, if there is one."""
        with self.explained():
            (self.path / name).unlink(missing_ok=True)

    def write_samples(self, name: str, columns: Mapping[str, Any]) -> str:
        """Write raw samples as Parquet, a column each; of times the differences, which are small and read fast."""
        import pyarrow
        import pyarrow.parquet

        buffer, table = io.BytesIO(), pyarrow.table(dict(columns))
        times = {field.name for field in table.schema if field.name.endswith("_ns") and field.type == pyarrow.int64()}
        pyarrow.parquet.write_table(
            table,
            buffer,
            compression="none",  # there is little left to find, and undoing it takes longer than hashing what it saves
            use_dictionary=[name for name in table.column_names if name not in times],
            column_encoding=dict.fromkeys(times, "DELTA_BINARY_PACKED"),
        )
        return self.write(name, buffer.getvalue())

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            words = {
                errno.ENOSPC: "the disk is full: free some space, or give --out on another disk",
                errno.EDQUOT: "the disk quota is used up: free some space, or give --out on another disk",
                errno.EROFS: "it is on a read-only file system: give another --out",
                errno.EACCES: "permission is denied: give another --out",
                errno.EPERM: "permission is denied: give another --out",
                errno.ENOTDIR: "a part of the path is a file: give another --out",
            }.get(error.errno or 0, str(error.strerror or error))
            raise FolderError(f"{self.path} cannot be written: {words}. What was written before is whole.") from error
