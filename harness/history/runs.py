"""Runs over time: one file in the history folder (docs/adr/0017-history.md), beside the floors that are kept there.

The index holds what is asked again and again: facts, rows, followed figures. Samples stay in the run folders. It can be thrown
away and made again from them with `trigate history add`, but for the names of golden baselines, and for imported evidence, whose
files are kept whole in ``imports/``. What reads samples is imported where it is used: a listing needs none of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.errors import UsageError, did_you_mean
from harness.history.entry import OURS, Entry, digest_of, entry_of
from harness.history.index import SERIES, Index
from harness.history.steps import FEWEST, METHOD, Step, find_steps
from harness.records.history import Added, Golden, Listed, Listing, Point, Query, Series, TimedStep, Told

__all__ = ["GOLDEN", "History", "resolve"]

GOLDEN = "golden:"
"""How a word begins that names a baseline where a run folder is expected."""

_HEADLINES = (
    "p50_ns", "p95_ns", "rel_l2_max", "energy_per_call_j", "gpu_peak_bytes", "gpu_bytes", "total_bytes", "engine_bytes",
    "build_ns", "load_ns", "mean_ns", "max_abs",
)  # fmt: skip
"""What says most of a row, first what is told first."""

_RUN = "SELECT r.seq, r.added, r.path, k.record FROM runs r JOIN records k ON k.run = r.seq WHERE"
_OF_ROWS = ("row", "model", "runtime", "kind", "precision", "machine")
_MOST_SERIES = 64
_TICK_S = 1.0
_NEAR = 3
_MOST_NOTES = 5


class History:
    """An open history. Use as a context manager; raises as ``harness.history.index.Index``."""

    def __init__(self, folder: Path, *, writable: bool = False) -> None:
        self.folder = folder.expanduser()
        self._index = Index(self.folder, writable=writable)

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self._index.close()

    def add(self, folder: Path, *, now: float, is_fresh: bool = False) -> Added:
        """Take a run folder in; with content that is known already, nothing happens.

        ``now``: seconds since 1970. ``is_fresh``: it was made this moment, so its samples need not be held against its record.
        A run that had not ended when it was added is taken again. Raises ``UsageError`` for what is no whole run, is of a newer
        schema, or has the id of another.
        """
        from harness.compare.load import load_folder
        from harness.tier2.rejudge import read_run

        loaded = None if is_fresh else load_folder(folder)
        run, notes = (read_run(folder), ()) if loaded is None else (loaded.run, loaded.notes)
        if not run.id.strip():
            raise UsageError(f"{folder}/run.json has no id. Copy it again from where it was made.")
        try:
            entry = entry_of(run, str(folder.resolve()), notes)
        except OverflowError as error:
            raise UsageError(
                f"{folder} holds a number that nothing measures: {error}. Copy it again from where it was made."
            ) from error
        return self.put(entry, now=now)

    def put(self, entry: Entry, *, now: float) -> Added:
        """As ``add``, of an entry."""
        with self._index.writing():
            known = self._index.ask(
                "SELECT seq, digest, path, complete, source FROM runs WHERE id = ?", given=[entry.id]
            )
            if not known:
                return Added(entry.id, self._index.insert(entry, now), "added", entry.notes)
            seq, digest, path, is_complete, source = known[0]
            if digest == entry.digest:
                if path != entry.path:  # the folder was moved
                    self._index.db.execute("UPDATE runs SET path = ? WHERE seq = ?", (entry.path, seq))
                return Added(entry.id, seq, "known", entry.notes)
            if is_complete or source != entry.source:
                raise UsageError(
                    f"{entry.path or 'the file'} has the id of a run that is in the history already, with other content: "
                    f"{entry.id}, from {path or 'an import'}. One of them was judged again, labelled otherwise or edited. To "
                    f"take this one instead: trigate history forget {entry.id}"
                )
            self._index.delete(seq)
            self._index.insert(entry, now, seq)
            return Added(entry.id, seq, "updated", entry.notes)

    def forget(self, word: str) -> Listed:
        """Take a run out; its folder stays. Raises ``UsageError`` for one that is part of a golden baseline."""
        with self._index.writing():
            run = self.find(word)
            if run.golden:
                raise UsageError(
                    f"run {run.id} is part of the golden baseline {run.golden[0]!r}. Remove that first: "
                    f"trigate history golden remove {run.golden[0]}"
                )
            self._index.delete(run.seq)
        return run

    def runs(self, query: Query, *, limit: int = 20, by_added: bool = False) -> Listing:
        """The runs that fit, latest first: by when they began, or by when they were added."""
        where, given = _runs_where(query)
        order = "ORDER BY r.seq DESC" if by_added else "ORDER BY r.began IS NULL, r.began DESC, r.seq DESC"
        total = self._index.ask("SELECT count(*) FROM runs r WHERE", where, given=given)[0][0]
        found = self._index.ask(_RUN, where, f"{order} LIMIT ?", [*given, limit])
        return Listing(total, tuple(self._listed(row) for row in found), self._notes())

    def find(self, word: str) -> Listed:
        """A run by its id, the beginning of it, or its folder. Raises ``UsageError``."""
        found = self._index.ask(_RUN, "r.id = ?", given=[word])
        if not found and word and "\0" not in word:
            place = str(Path(word).expanduser().resolve())
            found = self._index.ask(_RUN, "r.path = ?", "ORDER BY r.seq DESC LIMIT 1", [place])
        if not found and len(word) >= 4:
            found = self._index.ask(_RUN, "substr(r.id, 1, ?) = ?", given=[len(word), word])
        if len(found) > 1:
            raise UsageError(f"{word!r} is the beginning of {len(found)} runs' ids; give more of it.")
        if not found:
            raise UsageError(
                f"the history in {self.folder} has no run {word!r}: give an id, the first four letters of one or more, or a "
                "folder that was added. Add one with: trigate history add RUN"
            )
        return self._listed(found[0])

    def rows(self, query: Query) -> dict[str, int]:
        """The ids of rows that fit, each with its number of runs."""
        where, given = _series_where(query)
        of_runs, some = _runs_where(query, with_rows=False)
        if some:
            where, given = f"{where} AND w.run IN (SELECT r.seq FROM runs r WHERE {of_runs})", [*given, *some]  # noqa: S608
        if query.outcome:
            where, given = f"{where} AND w.outcome = ?", [*given, query.outcome]
        found = self._index.ask(
            "SELECT s.row, count(*) FROM series s JOIN rows w ON w.series = s.no WHERE",
            where,
            "GROUP BY s.row ORDER BY s.row",
            given,
        )
        return dict(found)

    def series(
        self, query: Query, figures: Sequence[str] = (), *, mix: bool = False, by_added: bool = False
    ) -> tuple[Told, tuple[str, ...]]:
        """Figures of the rows that fit over time with their steps; and the names of all figures that these rows have.

        ``figures``: by default the two that say most of a row. ``mix``: what other tools measured of the same model, runtime and
        machine is put among our own, marked. Raises ``UsageError`` for a row or figure that there is not, and for too many.
        """
        chosen = self._chosen(*_series_where(query))
        if not chosen:
            raise UsageError(self._no_row(query))
        if len(chosen) > _MOST_SERIES:
            raise UsageError(
                f"{len(chosen)} series fit; at most {_MOST_SERIES} are told at once. Narrow it down with --model or --machine."
            )
        names = {number: self._names(number) for number, *_ in chosen}
        known = {name for some in names.values() for _, name, _ in some}
        for figure in figures:
            if figure not in known:
                raise UsageError(f"no row that fits has the figure {figure!r}. {did_you_mean(figure, known)}")
        order = self._order(query, by_added)

        def read(number: int, key: Sequence[Any], names: Sequence[tuple[int, str, str]]) -> list[Series]:
            found = [self._one(number, key, name, order=order, outcome=query.outcome) for name in names]
            return [series for series in found if series.points]

        told = [one for number, *key in chosen for one in read(number, key, _wanted(names[number], figures))]
        if mix:
            foreign = self._chosen("s.source != ?", [OURS])
            guests = [one for number, *key in foreign for one in read(number, key, self._names(number))]
            told = _mixed(told, guests, {seq: place for seq, (place, *_) in order.items()})
        steps = tuple(self._with_steps(one) for one in told)
        return Told(steps, "added" if by_added else "began", self._notes()), tuple(sorted(known))

    def set_golden(self, name: str, words: Sequence[str], *, now: float, replacing: bool = False) -> Golden:
        """Name runs as a baseline. Raises ``UsageError`` for runs that are none: simulated, foreign, not complete, doubtful,
        changed since, or of unlike machines, profiles or packs; and for a name that is taken, without ``replacing``.
        """
        if not name.isprintable() or name != name.strip() or not 0 < len(name) <= 100:
            raise UsageError(f"{name!r} is no name of a baseline; expected printable text, as jetpack-6.2.")
        with self._index.writing():
            runs = list({run.seq: run for run in map(self.find, words)}.values())
            self._refuse_unfit(runs)
            earlier = {seq for (seq,) in self._index.ask("SELECT run FROM golden WHERE name = ?", given=[name])}
            if earlier and not replacing and earlier != {run.seq for run in runs}:
                raise UsageError(
                    f"there is a golden baseline {name!r}, of other runs. Give another name, or --replace: what is compared with "
                    "it from then on is compared with something else."
                )
            self._index.db.execute("DELETE FROM golden WHERE name = ?", (name,))
            self._index.db.executemany("INSERT INTO golden VALUES(?, ?, ?)", [(name, run.seq, now) for run in runs])
        return self.golden(name)

    def remove_golden(self, name: str) -> Golden:
        """Forget a baseline's name; its runs stay. Raises ``UsageError`` for one that is not there."""
        gone = self.golden(name)
        with self._index.writing():
            self._index.db.execute("DELETE FROM golden WHERE name = ?", (name,))
        return gone

    def golden(self, name: str) -> Golden:
        """A baseline by name. Raises ``UsageError``."""
        found = {one.name: one for one in self.all_golden()}
        if name not in found:
            raise UsageError(
                f"the history in {self.folder} has no golden baseline {name!r}. {did_you_mean(name, found)} Set one with: "
                f"trigate history golden set {name} RUN"
            )
        return found[name]

    def all_golden(self) -> tuple[Golden, ...]:
        """All baselines, by name."""
        runs: dict[str, list[Listed]] = {}
        since: dict[str, float] = {}
        for name, seq, at in self._index.ask("SELECT name, run, at FROM golden ORDER BY name, run"):
            runs.setdefault(name, []).append(self._listed(self._index.ask(_RUN, "r.seq = ?", given=[seq])[0]))
            since[name] = at
        return tuple(Golden(name, _moment(since[name]), tuple(some)) for name, some in runs.items())

    def changed(self, run: Listed) -> str:
        """What became of a run's folder since it was added, after "run ... "; empty if nothing did."""
        from harness.tier2.rejudge import read_run

        ((digest,),) = self._index.ask("SELECT digest FROM runs WHERE seq = ?", given=[run.seq])
        if not (Path(run.path) / "run.json").exists():
            return f"was in {run.path}, where it is no longer; put it back, or add it from where it is now"
        if digest_of(read_run(Path(run.path))) != digest:
            return f"is in {run.path}, and was changed there after it was added"
        return ""

    def _listed(self, row: Sequence[Any]) -> Listed:
        seq, added, path, record = row
        told: dict[str, Any] = json.loads(record)
        golden = self._index.ask("SELECT name FROM golden WHERE run = ? ORDER BY name", given=[seq])
        kept = {name: told[name] for name in Listed.__dataclass_fields__ if name in told}
        return Listed(
            seq=seq, path=path, added_at=_moment(added), golden=tuple(name for (name,) in golden),
            **{**kept, "notes": tuple(told["notes"])},
        )  # fmt: skip

    def _chosen(self, where: str, given: Sequence[Any]) -> list[Any]:
        """The series that fit and have a run: number, then what ``SERIES`` names."""
        return self._index.ask(
            f"SELECT s.no, {', '.join(SERIES)} FROM series s WHERE", where,  # noqa: S608 (columns of ours)
            "AND EXISTS (SELECT 1 FROM rows w WHERE w.series = s.no) ORDER BY s.row, s.source, s.simulated, s.machine, s.setting",
            given,
        )  # fmt: skip

    def _names(self, number: int) -> list[tuple[int, str, str]]:
        """The figures of a series: number, name and unit."""
        return self._index.ask(
            "SELECT no, name, unit FROM names WHERE",
            "EXISTS (SELECT 1 FROM figures f WHERE f.series = ? AND f.name = no)",
            "ORDER BY no",
            [number],
        )

    def _order(self, query: Query, by_added: bool) -> dict[int, tuple[int, str, str]]:
        """Of each run that fits: its place in time, its id, and when it began."""
        where, given = _runs_where(query, with_rows=False)
        order = "ORDER BY r.seq" if by_added else "ORDER BY r.began IS NULL, r.began, r.seq"
        found = self._index.ask("SELECT r.seq, r.id, r.started_at FROM runs r WHERE", where, order, given)
        return {seq: (at, run, started_at) for at, (seq, run, started_at) in enumerate(found)}

    def _one(
        self,
        number: int,
        key: Sequence[Any],
        name: tuple[int, str, str],
        *,
        order: Mapping[int, tuple[int, str, str]],
        outcome: str,
    ) -> Series:
        found = self._index.ask(
            "SELECT f.run, f.value, f.low, f.high, w.outcome, w.placement, w.incomplete FROM figures f "
            "JOIN rows w ON w.series = f.series AND w.run = f.run WHERE f.series = ? AND f.name = ? AND ? IN ('', w.outcome)",
            given=[number, name[0], outcome],
        )
        placed = sorted((order[row[0]], row) for row in found if row[0] in order)
        points = tuple(Point(run, row[0], started_at, *row[1:]) for (_, run, started_at), row in placed)
        told = dict[str, Any](zip(SERIES, key, strict=True))
        return Series(**told, figure=name[1], unit=name[2], points=points)

    def _with_steps(self, series: Series) -> Series:
        points = series.points
        steps = tuple(
            TimedStep(
                run=points[step.at].run,
                started_at=points[step.at].started_at,
                changed=self._changed_near(points, step.at),
                **step.__dict__,
            )
            for step in self._steps([point.value for point in points])
        )
        tools = sorted({point.mark for point in points if point.mark})
        told = f"mixed with what {', '.join(tools)} measured, which times something else: a step may be the tool"
        return replace(series, steps=steps, notes=(told,) if tools else (), sought_from=FEWEST)

    def _steps(self, values: Sequence[float]) -> tuple[Step, ...]:
        """Kept in the index by the values: to import what seeks them takes longer than the question."""
        if len(values) < FEWEST:
            return ()
        digest = hashlib.sha256(f"{METHOD} {values!r}".encode()).hexdigest()
        if (told := self._index.kept(digest)) is not None:
            return tuple(Step(*one) for one in json.loads(told))
        steps = find_steps(values)
        self._index.keep(digest, json.dumps([list(step.__dict__.values()) for step in steps]))
        return steps

    def _changed_near(self, points: Sequence[Point], at: int) -> tuple[str, ...]:
        """Which facts changed with a step, in words; where none did, those of the nearest runs: noise shifts a step by a few."""
        for distance in range(_NEAR + 1):
            for place, side in ((at - distance, "before"), (at + distance, "after")):
                told = self._differences(points[place - 1], points[place]) if 0 < place < len(points) else ()
                if told:
                    runs = f" ({distance} run{'s' if distance > 1 else ''} {side})" if distance else ""
                    return tuple(f"{words}{runs}" for words in told)
        return ()

    def _differences(self, before: Point, after: Point) -> tuple[str, ...]:
        """Which facts two runs do not share, in words."""
        old, new = ({"placement": point.placement, **self._facts(point.seq)} for point in (before, after))
        return tuple(
            f"{name} {old.get(name) or 'not there'} → {new.get(name) or 'not there'}"
            for name in dict.fromkeys([*old, *new])
            if old.get(name) != new.get(name)
        )

    def _facts(self, seq: int) -> dict[str, str]:
        return dict(self._index.ask("SELECT name, value FROM facts WHERE run = ?", tail="ORDER BY name", given=[seq]))

    def _no_row(self, query: Query) -> str:
        rows = self.rows(Query())
        if not rows:
            return f"the history in {self.folder} is empty. Add runs with `trigate history add RUN…`, or `trigate run --history`."
        if not query.row or query.row in rows:
            return f"no row of the history in {self.folder} fits."
        near = [row for row in rows if query.row.casefold() in row.casefold()]
        hint = (
            f"Did you mean {near[0]!r}, or '*{query.row}*' for all like it?"
            if near
            else did_you_mean(query.row, list(rows)[:40])
        )
        return f"the history in {self.folder} has no row {query.row!r}. {hint}"

    def _refuse_unfit(self, runs: Sequence[Listed]) -> None:
        """Raise ``UsageError`` for what can be no baseline."""
        for run in runs:
            why = (
                f"was measured by {run.source}, whose figures are no verdicts"
                if run.source != OURS
                else f"is simulated ({run.simulated}), and is no evidence"
                if run.simulated
                else "is not complete"
                if not run.complete
                else f"is doubtful: {run.notes[0]}"
                if run.notes
                else self.changed(run) or _contradicted(run)
            )
            if why:
                raise UsageError(f"run {run.id} can be no golden baseline: it {why}.")
        for what, name in (("machine", "machine"), ("profile", "profile"), ("pack", "pack_sha256")):
            if len(words := {getattr(run, name)[:40] or "none" for run in runs}) > 1:
                raise UsageError(f"these runs are not of one {what}: {', '.join(sorted(words))}. A baseline is.")

    def _notes(self) -> tuple[str, ...]:
        """What there is to say of clocks, not without end."""
        told = list(self._clocks())
        more = [f"a clock ran backward {len(told) - _MOST_NOTES} more times"] if len(told) > _MOST_NOTES else []
        return (*told[:_MOST_NOTES], *more)

    def _clocks(self) -> Iterator[str]:
        """Where a clock ran backward between two runs: the clock here by the order of adding, a board's by its uptime."""
        added = self._index.ask("SELECT seq, added FROM runs ORDER BY seq")
        for (first, before), (second, after) in pairwise(added):
            if after < before - _TICK_S:
                yield (
                    f"the clock here ran backward by {_span(before - after)} between adding run {self._name_of(first)} and run "
                    f"{self._name_of(second)}; --order added keeps the order in which they came"
                )
        begun = self._index.ask(
            "SELECT boot, run, began FROM boots WHERE began IS NOT NULL", tail="ORDER BY boot, up_s"
        )
        for (boot, first, first_s), (other, second, second_s) in pairwise(begun):
            if boot == other and second_s < first_s - _TICK_S:
                yield (
                    f"the board's clock ran backward between runs {self._name_of(first)} and {self._name_of(second)}, of one "
                    f"boot: the second began later, and says {_span(first_s - second_s)} earlier"
                )

    def _name_of(self, seq: int) -> str:
        return str(self._index.ask("SELECT id FROM runs WHERE seq = ?", given=[seq])[0][0])[:12]


def resolve(word: str, history: Path) -> list[Path]:
    """The run folders that a word names: ``golden:NAME`` those of that baseline, any other word itself.

    Raises ``UsageError`` for a baseline that is not there, or whose folders are gone or were changed since it was set.
    """
    if not word.startswith(GOLDEN):
        return [Path(word)]
    with History(history) as index:
        golden = index.golden(word.removeprefix(GOLDEN))
        for run in golden.runs:
            if why := index.changed(run):
                raise UsageError(f"the golden baseline {golden.name!r} cannot be used: run {run.id} {why}.")
        return [Path(run.path) for run in golden.runs]


def _contradicted(run: Listed) -> str:
    """What a run's samples say against its record, after "run ... "."""
    from harness.compare.load import load_folder

    notes = load_folder(Path(run.path)).notes
    return f"is doubtful: {notes[0]}" if notes else ""


def _wanted(names: Sequence[tuple[int, str, str]], figures: Sequence[str]) -> list[tuple[int, str, str]]:
    if figures:
        return [one for one in names if one[1] in figures]
    ranked = sorted(names, key=lambda one: _HEADLINES.index(one[1]) if one[1] in _HEADLINES else len(_HEADLINES))
    return [one for one in ranked if one[1] in _HEADLINES][:2] or ranked[:1]


def _mixed(told: Sequence[Series], guests: Sequence[Series], place: Mapping[int, int]) -> list[Series]:
    """Among our own points those of ``guests``, which other tools measured, of the same model, runtime, machine and figure.

    ``place``: of a run in the order of time. A foreign series that was asked for and finds none of ours stays alone.
    """
    ours = [one for one in told if one.source == OURS]
    alone = [one for one in told if one.source != OURS and not any(_alike(own, one) for own in ours)]
    mixed = []
    for own in ours:
        points = [*own.points]
        points += [replace(point, mark=one.source) for one in guests if _alike(own, one) for point in one.points]
        mixed.append(replace(own, points=tuple(sorted(points, key=lambda point: place[point.seq]))))
    return mixed + alone


def _alike(one: Series, other: Series) -> bool:
    same = ("model", "runtime", "machine", "figure", "unit")
    return not one.simulated and all(getattr(one, name) == getattr(other, name) for name in same)


def _runs_where(query: Query, *, with_rows: bool = True) -> tuple[str, list[Any]]:
    """The clause for table ``runs`` as ``r``."""
    clauses, given = ["1"], list[Any]()
    for column in ("profile", "source"):
        if word := getattr(query, column):
            clauses.append(f"r.{column} = ?")
            given.append(word)
    for bound, sign in ((query.since, ">="), (query.until, "<")):
        if bound is not None:
            clauses.append(f"r.began {sign} ?")
            given.append(bound)
    for name, value in query.facts.items():
        clauses.append("r.seq IN (SELECT run FROM facts WHERE name = ? AND value GLOB ?)")
        given += [name, _glob(value)]
    if with_rows:
        where, some = _series_where(replace(query, source=""))
        if query.outcome:
            where, some = f"{where} AND w.outcome = ?", [*some, query.outcome]
        if where != "1":
            clauses.append(f"r.seq IN (SELECT w.run FROM series s JOIN rows w ON w.series = s.no WHERE {where})")  # noqa: S608
            given += some
    return " AND ".join(clauses), given


def _series_where(query: Query) -> tuple[str, list[Any]]:
    """The clause for table ``series`` as ``s``."""
    clauses, given = ["1"], list[Any]()
    for column in _OF_ROWS:
        if word := getattr(query, column):
            clauses.append(f"s.{column} GLOB ?")
            given.append(_glob(word))
    if query.source:
        clauses.append("s.source = ?")
        given.append(query.source)
    if query.simulated is not None:
        clauses.append("s.simulated != ''" if query.simulated else "s.simulated = ''")
    return " AND ".join(clauses), given


def _glob(word: str) -> str:
    """``*`` is any text; every other letter is itself, brackets and question marks too."""
    return "".join(f"[{letter}]" if letter in "[?" else letter for letter in word)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _span(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
