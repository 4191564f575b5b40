"""What the history says of runs, and of rows over time: JSON by ``harness.records``, and all that the page is drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["HISTORY_SCHEMA", "Added", "Golden", "Listed", "Listing", "Point", "Query", "Series", "TimedStep", "Told"]

HISTORY_SCHEMA = 1
"""Of ``Told``."""


@dataclass(frozen=True)
class Query:
    """Which runs and rows. Words about rows, and a fact's value, may hold ``*``. ``since``, ``until``: seconds since 1970.

    ``outcome``: of a row that the other words about rows fit. ``simulated``: ``None``: both. ``source``: "": all.
    """

    row: str = ""
    model: str = ""
    runtime: str = ""
    kind: str = ""
    precision: str = ""
    machine: str = ""
    outcome: str = ""
    profile: str = ""
    source: str = ""
    since: float | None = None
    until: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    simulated: bool | None = None


@dataclass(frozen=True)
class Listed:
    """One run of a listing. ``seq``: the order in which runs were added. ``counts``: rows by outcome. ``notes``: doubts."""

    seq: int
    id: str
    path: str
    source: str
    started_at: str
    added_at: str
    complete: bool
    exit_code: int | None
    last_line: str
    profile: str
    simulated: str
    machine: str
    trigate_version: str
    counts: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    golden: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    pack_sha256: str = ""


@dataclass(frozen=True)
class Listing:
    """``total``: how many runs fit, of which ``runs`` are the latest, latest first. ``notes``: about clocks."""

    total: int
    runs: tuple[Listed, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Point:
    """What one run measured. ``mark``: the tool that did, where series are mixed on demand and it was not this harness."""

    run: str
    seq: int
    started_at: str
    value: float
    low: float | None
    high: float | None
    outcome: str
    placement: str = ""
    incomplete: str = ""
    mark: str = ""


@dataclass(frozen=True)
class TimedStep:
    """From ``run`` on, which is point ``at`` of the series, the figure was ``factor`` of what it was: medians of the points
    before and after, up to the next step. ``changed``: which facts were others
    then than in the run before, or changed a few runs from it.
    """

    at: int
    run: str
    started_at: str
    before: float
    after: float
    factor: float | None
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """One figure of one row on one machine under one setting, over time; all but ``points`` and ``steps`` tell it from others.

    ``sought_from``: the number of points from which on steps are sought; of fewer, ``steps`` is empty and says nothing.
    """

    row: str
    kind: str
    model: str
    runtime: str
    precision: str
    machine: str
    setting: str
    boundary: str
    simulated: str
    source: str
    figure: str
    unit: str
    points: tuple[Point, ...]
    steps: tuple[TimedStep, ...] = ()
    notes: tuple[str, ...] = ()
    sought_from: int = 0


@dataclass(frozen=True)
class Told:
    """Rows over time, as `trigate history show --json` prints them and the page draws them. ``order``: ``began`` or ``added``."""

    series: tuple[Series, ...]
    order: str
    notes: tuple[str, ...] = ()
    trigate_version: str = ""
    schema: int = HISTORY_SCHEMA


@dataclass(frozen=True)
class Golden:
    """A baseline by name."""

    name: str
    set_at: str
    runs: tuple[Listed, ...]


@dataclass(frozen=True)
class Added:
    """What became of a run. ``how``: ``added``, ``known`` (with this content already) or ``updated`` (it has gone on since)."""

    id: str
    seq: int
    how: str
    notes: tuple[str, ...] = ()
