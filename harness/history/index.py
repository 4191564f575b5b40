"""The index as a file: one SQLite database, its tables, and what goes wrong with it (docs/adr/0017-history.md)."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.history.entry import Entry, RowEntry, to_seconds

__all__ = ["INDEX", "SERIES", "Index"]

INDEX = "history.sqlite"
"""The file's name in the history folder."""

VERSION = 1
"""Of the tables (``user_version``). 1: first form."""

SERIES = (
    "row", "kind", "model", "runtime", "precision", "machine", "setting", "boundary", "simulated", "source",
)  # fmt: skip
"""What must be the same for figures to be of one series."""

_APPLICATION = 0x54524748
_WAIT_S = 30.0
_FOUND = 1000

_TABLES = f"""
CREATE TABLE runs(seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, digest TEXT NOT NULL, path TEXT NOT NULL,
  source TEXT NOT NULL, started_at TEXT NOT NULL, began REAL, added REAL NOT NULL, complete INTEGER NOT NULL,
  profile TEXT NOT NULL);
CREATE INDEX runs_began ON runs(began);
CREATE INDEX runs_added ON runs(seq, added);
CREATE TABLE records(run INTEGER PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE facts(name TEXT NOT NULL, value TEXT NOT NULL, run INTEGER NOT NULL, PRIMARY KEY(name, value, run)) WITHOUT ROWID;
CREATE INDEX facts_run ON facts(run);
CREATE TABLE boots(boot TEXT NOT NULL, up_s REAL NOT NULL, run INTEGER NOT NULL, began REAL, PRIMARY KEY(boot, up_s, run))
  WITHOUT ROWID;
CREATE TABLE series(no INTEGER PRIMARY KEY, {" TEXT NOT NULL, ".join(SERIES)} TEXT NOT NULL, UNIQUE({", ".join(SERIES)}));
CREATE TABLE rows(series INTEGER NOT NULL, run INTEGER NOT NULL, outcome TEXT NOT NULL, placement TEXT NOT NULL,
  incomplete TEXT NOT NULL, PRIMARY KEY(series, run)) WITHOUT ROWID;
CREATE INDEX rows_run ON rows(run);
CREATE TABLE names(no INTEGER PRIMARY KEY, name TEXT NOT NULL, unit TEXT NOT NULL, UNIQUE(name, unit));
CREATE TABLE figures(series INTEGER NOT NULL, name INTEGER NOT NULL, run INTEGER NOT NULL, value REAL NOT NULL, low REAL,
  high REAL, PRIMARY KEY(series, name, run)) WITHOUT ROWID;
CREATE TABLE golden(name TEXT NOT NULL, run INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY(name, run)) WITHOUT ROWID
"""


class Index:
    """An open index. Raises ``UsageError`` for a file that is none, damaged, locked for long, or of a newer trigate.

    ``writable``: make the file where there is none; else a folder without one is an empty history. Numbers of series and names
    are remembered, so one process writes many runs fast.
    """

    def __init__(self, folder: Path, *, writable: bool) -> None:
        self.folder = folder
        self.path = folder / INDEX
        self._numbers: dict[tuple[str, ...], int] = {}
        with self.explained():
            self.db = self._open(writable)

    def close(self) -> None:
        self.db.close()

    def ask(self, head: str, where: str = "", tail: str = "", given: Sequence[Any] = ()) -> list[Any]:
        """The rows of a query; ``where`` is put together from clauses, and values come in ``given`` alone."""
        with self.explained():
            return self.db.execute(f"{head} {where} {tail}", tuple(given)).fetchall()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """All that is written inside, or nothing."""
        with self.explained():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                self._numbers.clear()
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    def insert(self, entry: Entry, now: float, seq: int | None = None) -> int:
        """Write a run; returns its place in the order of adding. Inside ``writing``."""
        run = self.db.execute(
            f"INSERT INTO runs VALUES({_marks(10)})",
            (
                seq, entry.id, entry.digest, entry.path, entry.source, entry.started_at, to_seconds(entry.started_at), now,
                entry.complete, entry.profile,
            ),
        ).lastrowid or 0  # fmt: skip
        self.db.execute("INSERT INTO records VALUES(?, ?)", (run, _record(entry)))
        self._many("facts", [(name, value, run) for name, value in entry.facts.items()])
        self._many("boots", [(boot, up_s, run, to_seconds(entry.started_at)) for boot, up_s in entry.boots.items()])
        rows: list[tuple[Any, ...]] = []
        figures: list[tuple[Any, ...]] = []
        for row in entry.rows:
            number = self._number("series", SERIES, _key(row, entry.source))
            rows.append((number, run, row.outcome, row.placement, row.incomplete))
            figures += [
                (
                    number,
                    self._number("names", ("name", "unit"), (one.name, one.unit)),
                    run,
                    one.value,
                    one.low,
                    one.high,
                )
                for one in row.figures
            ]
        try:
            self._many("rows", rows)
            self._many("figures", figures)
        except sqlite3.IntegrityError as error:
            raise UsageError(
                f"run {entry.id} has a row twice: somebody wrote in its run.json. Copy it again from where it was made."
            ) from error
        return run

    def delete(self, seq: int) -> None:
        """Take a run out. Inside ``writing``."""
        told = self.db.execute("SELECT record FROM records WHERE run = ?", (seq,)).fetchone()
        record = json.loads(told[0]) if told else {"boots": {}}
        for (number,) in self.db.execute("SELECT series FROM rows WHERE run = ?", (seq,)).fetchall():
            # by the names, so that the primary key leads to each figure and no index by run is needed
            self.db.execute(
                "DELETE FROM figures WHERE series = ? AND name IN (SELECT no FROM names) AND run = ?", (number, seq)
            )
        for boot in record["boots"]:
            self.db.execute("DELETE FROM boots WHERE boot = ? AND run = ?", (boot, seq))
        for table, column in (
            ("facts", "run"),
            ("rows", "run"),
            ("golden", "run"),
            ("records", "run"),
            ("runs", "seq"),
        ):
            self.db.execute(f"DELETE FROM {table} WHERE {column} = ?", (seq,))  # noqa: S608 (both are named above)

    def kept(self, digest: str) -> str | None:
        """What was found for data of this digest, by whoever asked before."""
        with contextlib.suppress(sqlite3.Error):  # an index of before there was such a table
            found = self.db.execute("SELECT told FROM found WHERE digest = ?", (digest,)).fetchone()
            return str(found[0]) if found else None
        return None

    def keep(self, digest: str, told: str) -> None:
        """Keep it if it can be written at once, and with it the latest ``_FOUND`` alone."""
        place = f"{self.path.resolve().as_uri()}?mode=rw"  # beside ours, which may only read
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(place, uri=True, timeout=0)) as db,
            db,
        ):
            db.execute("CREATE TABLE IF NOT EXISTS found(digest TEXT PRIMARY KEY, told TEXT NOT NULL)")
            db.execute("INSERT OR REPLACE INTO found VALUES(?, ?)", (digest, told))
            db.execute("DELETE FROM found WHERE rowid <= (SELECT max(rowid) FROM found) - ?", (_FOUND,))

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """What SQLite complains of, for people."""
        try:
            yield
        except sqlite3.Error as error:
            raise UsageError(_complaint(self.path, error)) from error

    def _open(self, writable: bool) -> sqlite3.Connection:
        if not writable and not (self.path.exists() and self.path.stat().st_size):
            db = sqlite3.connect(":memory:", isolation_level=None)
        elif writable:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(
                    f"--history: {self.folder} cannot keep a history: {error.strerror or error}. Give another folder."
                ) from error
            db = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)
        else:
            # not mode=ro: what a killed process left half-written can only be rolled back by who may write
            db = sqlite3.connect(
                f"{self.path.resolve().as_uri()}?mode=rw", uri=True, timeout=_WAIT_S, isolation_level=None
            )
        try:
            self._check(db)
            if not writable:
                db.execute("PRAGMA query_only = ON")
        except BaseException:
            db.close()
            raise
        return db

    def _check(self, db: sqlite3.Connection) -> None:
        if not _count(db):
            db.execute("BEGIN IMMEDIATE")
            if not _count(db):  # no other process was first
                for statement in _TABLES.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {_APPLICATION}")
                db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("COMMIT")
        if db.execute("PRAGMA application_id").fetchone() != (_APPLICATION,):
            raise UsageError(f"{self.path} is another program's database. Give another --history, or move it away.")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise UsageError(
                f"{self.path} has form {version}; this trigate reads up to {VERSION}: upgrade trigate, or give another --history."
            )

    def _many(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            self.db.executemany(f"INSERT INTO {table} VALUES({_marks(len(rows[0]))})", rows)

    def _number(self, table: str, columns: Sequence[str], key: tuple[str, ...]) -> int:
        place = (table, *key)
        if place not in self._numbers:
            where = " AND ".join(f"{name} = ?" for name in columns)
            found = self.ask(f"SELECT no FROM {table} WHERE", where, given=key)  # noqa: S608 (a table of ours)
            self._numbers[place] = found[0][0] if found else self._insert(table, columns, key)
        return self._numbers[place]

    def _insert(self, table: str, columns: Sequence[str], key: tuple[str, ...]) -> int:
        words = f"INSERT INTO {table}({', '.join(columns)}) VALUES({_marks(len(columns))})"
        return self.db.execute(words, key).lastrowid or 0


def _key(row: RowEntry, source: str) -> tuple[str, ...]:
    return (*(str(getattr(row, name)) for name in SERIES[:-1]), source)


def _record(entry: Entry) -> str:
    told = {name: getattr(entry, name) for name in entry.__dataclass_fields__ if name not in ("rows", "digest", "path")}
    return json.dumps({**told, "facts": dict(entry.facts), "boots": dict(entry.boots)}, ensure_ascii=False)


def _count(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _complaint(path: Path, error: sqlite3.Error) -> str:
    words = str(error)
    if "locked" in words:
        return f"another trigate has written to {path} for {_WAIT_S:.0f} s. Wait for it, and try again."
    if any(word in words for word in ("readonly", "unable to open", "full", "disk I/O")):
        return f"{path} cannot be written or opened: {words}. Give another --history."
    return (
        f"{path} is no history, or is damaged: {words}. Move it away, and add the runs again: trigate history add RUN…"
    )
