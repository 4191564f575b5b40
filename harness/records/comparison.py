"""What a comparison of two versions says (RE-02): JSON out and in by ``harness.records``. The page is drawn from it alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

__all__ = [
    "COMPARE_SCHEMA",
    "Cause",
    "Change",
    "Comparison",
    "Decision",
    "Difference",
    "Foremost",
    "LayerChange",
    "LayersChange",
    "RowChange",
    "Shift",
    "Side",
    "Standing",
    "State",
]

COMPARE_SCHEMA = 2
"""Of ``compare.json``. 1: first form. 2: what a change is about, layers, percentile shifts, what matters most."""


class _Word(str, Enum):
    """Its text is its value on every Python, so that a page may hold it as it is; ``StrEnum`` is there from 3.11 on."""

    __str__ = str.__str__


class State(_Word):
    """What became of a row on one side. Of several runs of the base the best counts, of the new side the worst."""

    WORKS = "works"
    FAILS = "fails its limit"
    BROKE = "broke"
    NOT_INSTALLED = "not installed"
    NOT_RUN = "not run"
    NOT_REACHED = "not reached"
    ABSENT = "no such row"


class Standing(_Word):
    """How the new side stands to the base, in a row or in one figure. Gravest first."""

    BROKE = "stopped working"
    WORSE = "worse"
    MISSING = "no evidence"
    OPEN = "open"
    STARTED = "started working"
    CHANGED = "changed"
    UNKNOWN = "not known"
    BETTER = "better"
    NOT_WORSE = "not worse"
    SAME = "same"


class Cause(_Word):
    """The class of what explains a change, told by figures of the run folders and by nothing else."""

    NUMERICS = "numerics"
    PRECISION = "precision route"
    WORK = "more work"
    LESS_WORK = "less work"
    CLOCK = "clock or heat"
    MEMORY = "memory"
    TOOL = "tool default"
    ENVIRONMENT = "environment"
    NOISE = "noise"
    UNKNOWN = "not known"
    NONE = ""


class Decision(_Word):
    """What to do with the new version."""

    ADOPT = "ADOPT"
    HOLD = "HOLD"
    MEASURE_MORE = "MEASURE MORE"


@dataclass(frozen=True)
class Side:
    """One run. ``sessions``: the boots that its rows were measured in. ``took_s``: measuring time of all rows."""

    name: str
    id: str
    started_at: str
    finished_at: str
    complete: bool
    trigate_version: str
    sessions: tuple[str, ...]
    took_s: float


@dataclass(frozen=True)
class Difference:
    """One fact that is not the same on both sides. ``is_version``: of a library or the system, so part of the bump."""

    name: str
    base: str
    new: str
    is_version: bool = False


@dataclass(frozen=True)
class Change:
    """One figure or fact of a row, old against new.

    ``base``, ``new``: the figure in ``unit``, over sessions the geometric mean; ``None`` where unknown or no number.
    ``ratio``, ``low``, ``high``: new over old with the interval of 1 - 2 alpha; ``None`` where nothing gives one.
    ``is_judged``: against a margin. ``may_block``: WORSE here is HOLD, OPEN here is MEASURE MORE. ``p_regression``: see
    ``harness.statistics.paired.Change``. ``needed_base``, ``needed_new``: boot sessions that would decide; ``None``: not known.
    ``why``: what tells the cause. ``again``: what spoilt the measurement, so that no number of sessions decides.
    ``about``: ``verdict``, ``precision``, ``placement``, ``contract``, ``drift``, ``outputs``, ``task``, ``p95``, ``p50``,
    ``lost``, ``energy``, ``power``, ``memory``, ``load``, ``build``, ``engine``, ``warnings``. ``between``: how far boot sessions
    of one side lie apart, as a share (standard deviation of the logarithm). ``base_builds``, ``new_builds``: engines; 0: unknown.
    ``pairs``: how many interleaved pairs decided, in place of sessions.
    """

    name: str
    unit: str
    standing: Standing
    words: str
    cause: Cause = Cause.NONE
    why: str = ""
    base: float | None = None
    new: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None
    is_judged: bool = False
    may_block: bool = False
    p_regression: float | None = None
    base_sessions: int = 0
    new_sessions: int = 0
    needed_base: int | None = None
    needed_new: int | None = None
    again: str = ""
    about: str = ""
    between: float | None = None
    pairs: int = 0
    base_builds: int = 0
    new_builds: int = 0


@dataclass(frozen=True)
class Shift:
    """Percentile by percentile, new over old: the shift function (Doksum 1974; Wilcox and Erceg-Hurn 2012) of all measured
    requests of one model in one row, none thinned; what failed is slower than all others.

    ``percents``: which. Beside each: ``base_ns``, the base's, ``ratio`` with ``low`` and ``high``, pointwise and with the boot
    session as what is replicated, as ``Change`` has it; ``None`` where a percentile lies among the failed, or no bound is given.
    """

    model: str
    percents: tuple[int, ...]
    base_ns: tuple[float | None, ...]
    ratio: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    margin: float
    base_requests: int
    new_requests: int
    base_sessions: int
    new_sessions: int


@dataclass(frozen=True)
class LayerChange:
    """An operator that runs in another precision, or elsewhere, now."""

    name: str
    base: str
    new: str


@dataclass(frozen=True)
class LayersChange:
    """The engine's layers. ``base``, ``new``: by precision how many, of each side's first run. ``changed``: the first hundred of
    ``changed_count`` operators in another precision; ``moved``: on another provider. ``matched``: operators that both sides have
    by name. ``base_only``, ``new_only``: layers that no name matches, and ``unmatched`` how these differ by type and precision.
    """

    base: Mapping[str, int]
    new: Mapping[str, int]
    changed: tuple[LayerChange, ...]
    changed_count: int
    moved: tuple[LayerChange, ...]
    moved_count: int
    matched: int
    base_only: int
    new_only: int
    unmatched: tuple[str, ...]
    base_source: str
    new_source: str


@dataclass(frozen=True)
class RowChange:
    """One row on both sides. ``standing``: the gravest of what may block, else of all. ``words``: one sentence for people."""

    id: str
    kind: str
    model: str
    runtime: str
    precision: str
    against: str
    base_state: State
    new_state: State
    base_placement: str
    new_placement: str
    standing: Standing
    cause: Cause
    words: str
    simulated: bool = False
    may_block: bool = False
    changes: tuple[Change, ...] = ()
    layers: LayersChange | None = None
    shifts: tuple[Shift, ...] = ()


@dataclass(frozen=True)
class Foremost:
    """One of the changes that matter most. ``others``: how many more rows say the same."""

    row: str
    standing: Standing
    words: str
    cause: Cause
    why: str
    others: int


@dataclass(frozen=True)
class Comparison:
    """Two versions, compared. ``versions``: what was bumped. ``caveats``: what this comparison cannot tell. ``foremost``: the
    changes that matter most, at most three, gravest first.

    ``rows``: those that stopped or started working first, then by gravity. ``exit_code``: 0 equivalent or better, 1 a row
    regressed or stopped working, 3 open.
    """

    decision: Decision
    words: str
    exit_code: int
    base: tuple[Side, ...]
    new: tuple[Side, ...]
    rows: tuple[RowChange, ...]
    versions: tuple[Difference, ...]
    environment: tuple[Difference, ...]
    caveats: tuple[str, ...]
    to_do: tuple[str, ...]
    margins: Mapping[str, float]
    alpha: float
    family: int
    trigate_version: str
    foremost: tuple[Foremost, ...]
    schema: int = COMPARE_SCHEMA
