"""How strongly calls hang together on a board, learned from long sessions and kept (methods A4, A5).

A run's own estimate of its design effect is smallest exactly when the run was lucky: with rare bursts of 2.5 s it let 43 %
of the boards at the boundary pass, and none with a floor from history. One small JSON file per key.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UsageError
from harness.records import BoardState, Case, RecordError, Verdict, from_json, to_json
from harness.statistics.sequential import session_effect
from harness.tier2 import load
from runtime.files import write_atomic
from runtime.protocol import Array

__all__ = [
    "LEAST_MINUTES",
    "LEAST_SESSIONS",
    "Floor",
    "FloorKey",
    "Floors",
    "Kept",
    "effects_of",
    "key_of",
    "learn",
    "ran_on",
]

LEAST_SESSIONS = 3
LEAST_MINUTES = 60.0
"""A floor is the largest design effect of at least so many sessions of at least so long; shorter ones are not kept."""

_SHORT_BY = 0.99  # the last request of an hour is due a little before its end
_SCHEMA = 1


@dataclass(frozen=True)
class FloorKey:
    """What a floor holds for. ``caps``: of the power mode (``BoardState.caps``): two modes of one name differ by them.

    ``rate_hz`` 0: closed loop. ``versions``: of what a bump changes (``tensorrt``, ``jetpack``): a floor that was learned
    under others is carried over, and marked.
    """

    module: str
    model: str
    runtime: str
    precision: str
    caps: Mapping[str, float] = field(default_factory=dict)
    rate_hz: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        rate = f"{self.rate_hz:g} Hz" if self.rate_hz else "closed loop"
        caps = ", ".join(f"{name} {value:g}" for name, value in sorted(self.caps.items())) or "no caps known"
        return f"{self.model} on {self.runtime} ({self.precision}) at {rate}, {self.module or 'unknown board'} ({caps})"


@dataclass(frozen=True)
class Floor:
    """``effect``: the largest of ``sessions`` sessions. ``source``: in words. ``carried_from``: versions it was learned under,
    where these were others; empty where they are the same.
    """

    effect: float
    sessions: int
    source: str
    carried_from: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.effect) and self.effect >= 1.0):
            raise ValueError(f"design effect {self.effect}; expected a finite number of at least 1.")


@dataclass(frozen=True)
class Kept:
    """What is kept of a key. ``effect``: the floor; ``None`` while there are fewer than ``LEAST_SESSIONS``."""

    key: FloorKey
    effect: float | None
    sessions: int
    minutes: float


@dataclass(frozen=True)
class _Session:
    run: str
    minutes: float
    effects: tuple[float, ...]


@dataclass(frozen=True)
class _Kept:
    schema: int
    key: FloorKey
    sessions: tuple[_Session, ...] = ()


class Floors:
    """A folder of floors. Files that are damaged raise ``UsageError`` with their name: a floor is never guessed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add_session(self, key: FloorKey, effects: Sequence[float], run: str, minutes: float) -> Floor | None:
        """Keep what one session taught: the design effect of each of its launches. The same ``run`` again replaces it.

        Returns the floor of the key as it is now. Raises ``UsageError`` for a session under an hour, effects that are
        none, or a folder that cannot be written.
        """
        if minutes < LEAST_MINUTES * _SHORT_BY:
            raise UsageError(
                f"a session of {minutes:.0f} minutes teaches no floor: rare slow spells need {LEAST_MINUTES:.0f}. "
                "Run the profile 'floor'."
            )
        if not effects or not all(math.isfinite(effect) and effect >= 1.0 for effect in effects):
            raise UsageError(f"design effects {list(effects)}; expected at least one, each a number of 1 or more.")
        earlier = self._read(self._path(key))
        sessions = [one for one in (earlier.sessions if earlier else ()) if one.run != run]
        kept = _Kept(_SCHEMA, key, (*sessions, _Session(run, minutes, tuple(map(float, effects)))))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path(key), json.dumps(to_json(kept), indent=1, sort_keys=True).encode())
        except OSError as error:
            raise UsageError(f"{self.folder} cannot keep a floor: {error.strerror or error}. Give another.") from error
        return self.get(key)

    def get(self, key: FloorKey) -> Floor | None:
        """The floor of a key; else one of the same board, model, runtime and rate under other versions; else ``None``."""
        kept = self._read(self._path(key))
        if kept is not None and len(kept.sessions) >= LEAST_SESSIONS:
            return _floor(kept)
        carried = [one for one in self._akin(key) if len(one.sessions) >= LEAST_SESSIONS]
        if not carried:
            return None
        # the largest: of two earlier versions neither is known to be nearer
        floors = [replace(_floor(one), carried_from=_versions(one.key)) for one in carried]
        return max(floors, key=lambda floor: floor.effect)

    def check(self) -> None:
        """Read every file. Raises ``UsageError`` for one that is damaged."""
        for path in sorted(self.folder.glob("*.json")):
            self._read(path)

    def all(self) -> tuple[Kept, ...]:
        """All keys of which a session is kept, with the effect where there are enough. Raises ``UsageError``."""
        found = [one for path in sorted(self.folder.glob("*.json")) if (one := self._read(path)) is not None]
        return tuple(
            Kept(
                one.key,
                _floor(one).effect if len(one.sessions) >= LEAST_SESSIONS else None,
                len(one.sessions),
                sum(session.minutes for session in one.sessions),
            )
            for one in found
        )

    def is_empty(self) -> bool:
        """Whether nothing was ever learned."""
        return not any(self.folder.glob("*.json"))

    def why_not(self, key: FloorKey) -> str:
        """Why ``get`` has nothing; empty where it has."""
        if self.get(key) is not None:
            return ""
        kept = self._read(self._path(key))
        count = len(kept.sessions) if kept else 0
        return f"{count} of {LEAST_SESSIONS} sessions of {LEAST_MINUTES:.0f} minutes are known of {key}"

    def _path(self, key: FloorKey) -> Path:
        digest = hashlib.sha256(json.dumps(to_json(key), sort_keys=True).encode()).hexdigest()[:16]
        name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{key.module}_{key.model}_{key.runtime}_{key.precision}").strip("-")
        return self.folder / f"{name[:80]}_{digest}.json"

    def _akin(self, key: FloorKey) -> list[_Kept]:
        if not self.folder.is_dir():
            return []
        found = [self._read(path) for path in sorted(self.folder.glob("*.json"))]
        return [
            one
            for one in found
            if one and one.key != key and replace(one.key, versions={}) == replace(key, versions={})
        ]

    def _read(self, path: Path) -> _Kept | None:
        try:
            value: Any = json.loads(path.read_bytes())
            kept = from_json(_Kept, value)
            if kept.schema != _SCHEMA:
                raise RecordError(f"its schema is {kept.schema}, this trigate reads {_SCHEMA}")
            for session in kept.sessions:
                if not session.effects or not all(math.isfinite(one) and one >= 1.0 for one in session.effects):
                    raise RecordError(f"session {session.run!r} has the design effects {session.effects}")
                if not session.minutes >= LEAST_MINUTES * _SHORT_BY:
                    raise RecordError(f"session {session.run!r} lasted {session.minutes} minutes")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{path} is no floor: {error}. Restore it, or delete it and run the profile 'floor' again."
            ) from error
        return kept


def _floor(kept: _Kept) -> Floor:
    effect = max(max(session.effects) for session in kept.sessions)
    minutes = sum(session.minutes for session in kept.sessions)
    count = len(kept.sessions)
    return Floor(effect, count, f"the largest of {count} sessions, {minutes / 60.0:.1f} h in all")


def _versions(key: FloorKey) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(key.versions.items())) or "versions unknown"


def ran_on(case: Case, placement: str) -> str:
    """``FloorKey.runtime``: where it ran; a third party's class under its own name, wherever it says that it ran."""
    if ":" in case.runtime:
        return f"{case.runtime} on {placement}" if placement else case.runtime
    return placement


def key_of(verdict: Verdict, board: BoardState | None = None, versions: Mapping[str, str] | None = None) -> FloorKey:
    """The key of a latency row that was measured; ``board``: its state at the start, where another is to be taken."""
    measurement = verdict.summary.measurement
    state = board or measurement.board_start
    return FloorKey(
        module=state.module or "",
        model=measurement.case.model,
        runtime=ran_on(measurement.case, measurement.placement) or measurement.case.runtime,
        precision=measurement.case.precision,
        caps=dict(state.caps),
        rate_hz=measurement.rate_hz or 0.0,
        versions=dict(versions or {}),
    )


def effects_of(
    columns: Mapping[str, Array], is_open: bool, budget_ns: int | None = None
) -> dict[int, tuple[float, float]]:
    """Of each launch: (design effect, minutes measured). The larger of the budget's and of the run's own p95."""
    found = {}
    for launch in np.unique(columns["launch"]):
        rows = load.select(columns, launch=int(launch))
        if rows["status"].size == 0:
            continue
        ranked = np.where(load.missed(rows), np.iinfo(np.int64).max, load.latencies_ns(rows, is_open))
        over = ranked > (budget_ns if budget_ns is not None else np.iinfo(np.int64).max - 1)
        minutes = float(rows["done_ns"].max() - rows["scheduled_ns"].min()) / 60e9
        found[int(launch)] = session_effect(ranked, over), minutes
    return found


def learn(
    floors: Floors,
    run: str,
    rows: Sequence[tuple[Verdict, Mapping[str, Array]]],
    versions: Mapping[str, str] | None = None,
    *,
    is_simulated: bool = False,
) -> list[str]:
    """Feed the floors with the latency rows of a run by the profile ``floor``; returns what was learned, in words.

    ``rows``: verdicts with the columns of their samples, of one stream each. Each launch of an hour is a session, also of a
    row that ended early: its last launch is cut short, and it alone teaches nothing. A launch that is too short, or that was
    simulated where others are not, is told.
    """
    words = []
    for verdict, columns in rows:
        measurement = verdict.summary.measurement
        key = key_of(verdict, versions=versions)
        judgement = verdict.summary.judgement
        if measurement.simulated is not is_simulated:
            words.append(f"{measurement.case.id}: teaches no floor: simulated")
            continue
        budget_ns = judgement.budget_ns if judgement is not None else None
        sessions = effects_of(columns, bool(measurement.rate_hz), budget_ns)
        if measurement.incomplete:  # launches end with the one that was cut short, which may have measured nothing
            sessions.pop(max(measurement.launches - 1, 0), None)
            words.append(
                f"{measurement.case.id}, launch {max(measurement.launches - 1, 0)}: teaches no floor: "
                f"incomplete ({measurement.incomplete})"
            )
        for launch, (effect, minutes) in sessions.items():
            try:
                floors.add_session(key, (effect,), f"{run}/{launch}", minutes)
            except UsageError as error:
                words.append(f"{measurement.case.id}, launch {launch}: {error}")
            else:
                words.append(f"{measurement.case.id}, launch {launch}: design effect {effect:.1f} in {minutes:.0f} min")
    return words
