"""Two versions, one page: ``trigate compare --base RUN… --new RUN…`` (RE-02). Sees run folders, and never a device.

Runs apart in time are compared by boot sessions (``statistics.unpaired``); of many rows that may each hold a release, those
that regressed must hold against their number (Holm, ``harness.statistics.paired.block_family``). Unlike is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from harness.board import describe_difference
from harness.combine import labels_for
from harness.compare.decide import beyond_margin, decide, foremost
from harness.compare.likeness import CAPS, LOOSE, VERSIONS, UnlikeError, differences
from harness.compare.load import MOST, Entry, Loaded, boot_of, load_folder
from harness.compare.rows import MARGINS, Judged, judge_row
from harness.errors import UsageError, did_you_mean
from harness.records import ABOUT_A_FLIGHT, Outcome, RecordError, from_json, to_json
from harness.records.comparison import Cause, Comparison, Difference, RowChange, Side, Standing
from harness.statistics.paired import block_family
from runtime.files import write_atomic

__all__ = [
    "MARGINS",
    "MIXED",
    "OLDER",
    "Comparison",
    "UnlikeError",
    "compare",
    "compare_runs",
    "read_comparison",
    "refuse_other",
    "write_comparison",
]

_ENGINE_ROWS = ("latency", "build", "load", "parity", "semantic")
"""Whose rows tell an engine's size, build and layers, the first there is."""

_OUTPUTS = ("artifact", "parity", "semantic", "pair")
"""Kinds of rows that have no figure of a boot session."""

_OWN_SETTINGS = ("seed", "simulated", "like", "out", "history", "against")
"""Of a run alone: where it was put, after which other it was made, and which side of pairs it is."""

MIXED = "By their clocks a new run began before a base run"
OLDER = "The new side is of an older version"
"""How a caveat begins that whoever typed the call should read at once."""

_GRAVITY = {standing: at for at, standing in enumerate(Standing)}
_FIRST = {Standing.BROKE: 0, Standing.MISSING: 1, Standing.STARTED: 2}


def compare(
    base: Sequence[Path],
    new: Sequence[Path],
    *,
    margins: Mapping[str, float] | None = None,
    alpha: float = 0.05,
    say: Callable[[str], None] = lambda words: None,
) -> Comparison:
    """Compare run folders. ``margins``: what counts as no change, as shares, over ``MARGINS``. ``say``: hears what is done.

    Raises ``UsageError`` for what is no run, the same run twice and a margin that is none, ``UnlikeError`` for
    runs of unlike things.
    """
    limits = _margins(margins or {})
    every = (*base, *new)
    loaded = {
        path.resolve(): replace(load_folder(path, say), name=name)
        for path, name in zip(every, labels_for(every), strict=True)
    }
    if len(loaded) < len(base) + len(new):
        raise UsageError("the same run folder is given twice. Each run speaks once, on one side.")
    return compare_runs(
        [loaded[path.resolve()] for path in base],
        [loaded[path.resolve()] for path in new],
        margins=limits,
        alpha=alpha,
        say=say,
    )


def compare_runs(
    base: Sequence[Loaded],
    new: Sequence[Loaded],
    *,
    margins: Mapping[str, float] | None = None,
    alpha: float = 0.05,
    say: Callable[[str], None] = lambda words: None,
    paired: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
) -> Comparison:
    """The comparison of runs that are loaded. Pure; raises as ``compare``. ``paired``: by row and figure (``p95``, ``p50``)
    ln(new) - ln(base) of interleaved pairs, which then decide on it in place of boot sessions (``harness.bump.against``).
    """
    limits = _margins(margins or {})
    _refuse(base, new, alpha)
    sides = [_entries(base), _entries(new)]
    shared = [case_id for case_id in sides[0] if case_id in sides[1]]
    unlike = differences(base, new, sides, shared)
    if unlike:
        raise UnlikeError(unlike)
    if not shared:
        raise UsageError("the base and the new runs have no row in common: there is nothing to compare.")
    count = len({*sides[0], *sides[1]})
    say(f"comparing {count} row{'' if count == 1 else 's'}")
    rows, family = _judge(sides, shared, limits, alpha, paired or {})
    versions, environment = _differences(base, new)
    shown = [_boards_differ(sides, case_id) for case_id in shared]
    board = [_of_board(words) for words in dict.fromkeys(word for words in shown for word in words)]
    told = [_side(one) for one in base], [_side(one) for one in new]
    decision, words, code, to_do = decide(rows, *told, is_reflashed=_is_reflashed(versions))
    return Comparison(
        decision=decision,
        words=words,
        exit_code=code,
        base=tuple(told[0]),
        new=tuple(told[1]),
        rows=tuple(rows),
        versions=tuple(versions),
        environment=(*environment, *board),
        caveats=tuple(_caveats(base, new, versions, sides, shared)),
        to_do=tuple(to_do),
        margins=limits,
        alpha=alpha,
        family=family,
        trigate_version=new[0].run.trigate_version,
        foremost=foremost(rows),
    )


def _judge(
    sides: Sequence[Mapping[str, Sequence[Entry]]],
    shared: Sequence[str],
    margins: Mapping[str, float],
    alpha: float,
    paired: Mapping[str, Mapping[str, Sequence[float]]],
) -> tuple[list[RowChange], int]:
    """Every row of either side, in order, and how many figures may hold the release."""
    engines, twins = _of_engines(sides, shared), _twins(sides)
    judged = [
        judge_row(
            sides[0].get(twins.get(each, each), ()),
            sides[1].get(each, ()),
            margins,
            alpha,
            tells_engine=twins.get(each, each) in engines,
            paired=paired.get(each),
        )
        for each in dict.fromkeys([*sides[0], *sides[1]])
    ]
    judged = [_by_the_way(*one) if one[0].id in twins else one for one in _with_engines(judged)]
    judged, family = _held_against_number(judged, alpha)
    rows = [_settled(*one) if one[0].id not in twins else _settled_beside(*one) for one in judged]
    return sorted(rows, key=_order), family


def write_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write ``compare.json`` into a folder, which is made; returns its path. Raises ``UsageError`` where it cannot be written."""
    path = folder / "compare.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(to_json(comparison), indent=1, allow_nan=False).encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}. Give another --out.") from error
    return path


def refuse_other(comparison: Comparison, folder: Path) -> None:
    """Raises ``UsageError`` where a folder holds the comparison of other runs, which nobody meant to lose."""
    path = folder / "compare.json"
    if not path.exists():
        return
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        there = [{side["id"]: side["name"] for side in held[name]} for name in ("base", "new")]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"--out: {path} is not what `trigate compare` wrote. Give another folder, or remove it."
        ) from error
    if [set(side) for side in there] != [{side.id for side in told} for told in (comparison.base, comparison.new)]:
        base, new = (", ".join(map(str, side.values())) for side in there)
        raise UsageError(
            f"--out: {folder} holds the comparison of other runs ({base} against {new}). Give another --out DIR, or remove it."
        )


def read_comparison(path: Path) -> Comparison:
    """The inverse of ``write_comparison``. Raises ``RecordError``."""
    try:
        return from_json(Comparison, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RecordError(f"{path} holds no comparison: {error}") from error


def _boards_differ(sides: Sequence[Mapping[str, Sequence[Entry]]], case_id: str) -> list[str]:
    """In what the boards differ on which one row was measured, by its first run of each side that ran it."""
    boards = [
        next((one.measurement.board_start for one in side[case_id] if one.measurement.board_start.source), None)
        for side in sides
    ]
    return describe_difference(boards[0], boards[1]) if boards[0] is not None and boards[1] is not None else []


def _of_board(words: str) -> Difference:
    name, _, values = words.partition(": ")
    old, _, now = values.partition(" and ")
    return Difference(f"board, {name}", old, now)


def _margins(given: Mapping[str, float]) -> dict[str, float]:
    for name, value in given.items():
        if name not in MARGINS:
            raise UsageError(f"there is no margin {name!r}. {did_you_mean(name, MARGINS)}")
        if not 0 < value < 1:
            raise UsageError(
                f"the margin of {name} is {value!r}; expected a share above 0 and under 1, as 0.05 for 5 %."
            )
    return {**MARGINS, **given}


def _refuse(base: Sequence[Loaded], new: Sequence[Loaded], alpha: float) -> None:
    if not base or not new:
        raise UsageError("a comparison needs a run on each side: --base RUN… --new RUN….")
    if not 0 < alpha < 0.5:
        raise UsageError(f"alpha is {alpha!r}; expected a share under 0.5, as 0.05.")
    names: dict[str, str] = {}
    for one in (*base, *new):
        if one.run.id in names:
            raise UsageError(
                f"{names[one.run.id]} and {one.name} are one run ({one.run.id}): a copy says nothing that its original does "
                "not. Leave one out."
            )
        names[one.run.id] = one.name


def _entries(side: Sequence[Loaded]) -> dict[str, list[Entry]]:
    """By case id the row in each run that has it, planned rows that were not reached among them."""
    found: dict[str, list[Entry]] = {}
    for loaded in side:
        settled = {verdict.case.id: verdict for verdict in loaded.run.verdicts}
        cases = {case.id: case for case in loaded.run.planned} | {key: one.case for key, one in settled.items()}
        for case_id, case in cases.items():
            found.setdefault(case_id, []).append(Entry(loaded, case, settled.get(case_id)))
    return found


def _with_engines(judged: Sequence[tuple[RowChange, list[Judged]]]) -> list[tuple[RowChange, list[Judged]]]:
    """Memory that an engine of another size explains says so: another row tells the engine."""
    sizes: dict[tuple[str, str], dict[str, tuple[str, float]]] = {}
    for row, changes in judged:
        for change in (one.change for one in changes if one.change.about == "engine"):
            if change.standing is Standing.CHANGED and change.base and change.new and change.ratio:
                of = change.name.partition(" of ")[2] or row.model
                words = f"the engine of {of} {change.base / 2**20:.1f} MiB, now {change.new / 2**20:.1f} MiB"
                sizes.setdefault((row.runtime, row.precision), {})[of] = words, change.ratio

    def told(row: RowChange, one: Judged) -> Judged:
        change, known = one.change, sizes.get((row.runtime, row.precision), {})
        if change.about != "memory" or change.cause is not Cause.MEMORY or not change.ratio:
            return one
        of = change.name.partition(" of ")[2]
        why = "; ".join(words for model, (words, ratio) in known.items()
                        if of in ("", model) and (ratio > 1) == (change.ratio > 1))  # fmt: skip
        return replace(one, change=replace(change, why=why)) if why else one

    return [(row, [told(row, one) for one in changes]) for row, changes in judged]


def _twins(sides: Sequence[Mapping[str, Sequence[Entry]]]) -> dict[str, str]:
    """Rows that the new side has beside those of the base by another precision route (``--like``: ``ID@ROUTE``), with these."""
    stems = {each: each.partition("@")[0] for each in sides[1] if "@" in each and each not in sides[0]}
    return {each: stem for each, stem in stems.items() if stem in sides[0] and stem in sides[1]}


def _by_the_way(row: RowChange, changes: Sequence[Judged]) -> tuple[RowChange, list[Judged]]:
    """A row that shows what another route would bring: it holds no release, which is judged by the route that the base took."""
    quiet = [replace(one, change=replace(one.change, may_block=False)) for one in changes]
    return replace(row, may_block=False), quiet


def _settled_beside(row: RowChange, judged: Sequence[Judged]) -> RowChange:
    """Its standing is that of its figures all the same."""
    loud = [replace(one, change=replace(one.change, may_block=one.change.is_judged)) for one in judged]
    told = _settled(row, loud)
    changes = tuple(one.change for one in judged)
    return replace(
        told, changes=changes, may_block=False, words=f"by another precision route than the base's: {told.words}"
    )


def _of_engines(sides: Sequence[Mapping[str, Sequence[Entry]]], shared: Sequence[str]) -> set[str]:
    """Of the rows of one engine, the one that tells its size, build and layers: most of them have these. Rows about all models
    tell them where no row of a single model does.
    """
    by_engine: dict[tuple[object, ...], list[tuple[int, int, str]]] = {}
    for case_id in shared:
        case = sides[1][case_id][0].case
        knows = [max(map(_knows_engine, side[case_id])) for side in sides]
        if case.kind == "pair" or not all(knows):
            continue
        model = "" if case.kind in ABOUT_A_FLIGHT else case.model
        engine = (model, case.runtime, case.precision, case.batch, case.size, *sorted(case.point.items()))
        rank = _ENGINE_ROWS.index(case.kind) if case.kind in _ENGINE_ROWS else len(_ENGINE_ROWS)
        by_engine.setdefault(engine, []).append((-min(knows), rank, case_id))
    told_alone = {engine[1:3] for engine in by_engine if engine[0]}
    return {min(rows)[2] for engine, rows in by_engine.items() if engine[0] or engine[1:3] not in told_alone}


def _knows_engine(one: Entry) -> int:
    """How much a row tells of its engine; a build row does so at least in words."""
    has_figures = any(figure.name.partition("[")[0] in ("build_ns", "engine_bytes") for figure in one.figures)
    tells_options = any(key.startswith("builder_options") for key in one.measurement.lineage)
    return 4 * has_figures + 2 * bool(one.layers.layers) + (one.case.kind == "build" or tells_options)


# --- the family of rows, and the decision ---------------------------------------------------------------------------


def _held_against_number(
    judged: Sequence[tuple[RowChange, list[Judged]]], alpha: float
) -> tuple[list[tuple[RowChange, list[Judged]]], int]:
    """Holm over every figure that may hold the release, and the number of these."""
    family = [one for _, changes in judged for one in changes if one.apart is not None and one.change.may_block]
    able = [one for one in family if one.apart is not None and one.apart.base_sessions > 1]
    settled = block_family([one.apart for one in able if one.apart is not None], alpha=alpha)
    weaker = {
        id(one): after.reason.rpartition("; ")[2]
        for one, after in zip(able, settled, strict=True)
        if one.change.standing is Standing.WORSE and after.outcome is Outcome.INCONCLUSIVE
    }

    def after_all(one: Judged) -> Judged:
        if id(one) not in weaker:
            return one
        sessions = one.change.base_sessions + 1, one.change.new_sessions + 1
        change = replace(one.change, standing=Standing.OPEN, words=f"{one.change.words}; {weaker[id(one)]}")
        return replace(one, change=replace(change, needed_base=sessions[0], needed_new=sessions[1]))

    return [(row, [after_all(one) for one in changes]) for row, changes in judged], len(family)


def _settled(row: RowChange, judged: Sequence[Judged]) -> RowChange:
    """The row with its changes, and its standing: the gravest that may hold a release, else the gravest of all."""
    changes = tuple(one.change for one in judged)
    blocking = [one for one in changes if one.may_block and one.standing in (Standing.WORSE, Standing.OPEN)]
    quiet = (Standing.SAME, Standing.UNKNOWN)
    others = [one for one in changes if one.standing not in (*quiet, Standing.OPEN, Standing.WORSE)]
    if row.standing is not Standing.SAME and row.standing is not Standing.BETTER:
        cause = next((one.cause for one in blocking if one.cause not in (Cause.NONE, Cause.NOISE)), row.cause)
        return replace(row, changes=changes, cause=cause if row.cause is Cause.UNKNOWN else row.cause)
    if not blocking and (not others or row.standing is Standing.BETTER):
        return replace(row, changes=changes)
    gravest = min(blocking or others, key=lambda one: _GRAVITY[one.standing])
    what = ", ".join(
        f"{one.name} {one.standing.value}" for one in (blocking or others)[:3] if one.standing is gravest.standing
    )
    told = [one.cause for one in (blocking or others) if one.standing is gravest.standing]
    cause = next((one for one in told if one not in (Cause.NONE, Cause.NOISE, Cause.UNKNOWN)), gravest.cause)
    return replace(
        row, changes=changes, standing=gravest.standing, cause=cause, words=f"{what}: {gravest.words}", may_block=bool(blocking)
    )  # fmt: skip


def _order(row: RowChange) -> tuple[int, int, float, str]:
    return _FIRST.get(row.standing, len(_FIRST)), _GRAVITY[row.standing], -beyond_margin(row), row.id


# --- what is said of it all -----------------------------------------------------------------------------------------


def _side(loaded: Loaded) -> Side:
    run = loaded.run
    measurements = [verdict.summary.measurement for verdict in run.verdicts]
    took_s = min(max(0, sum(one.duration_ns for one in measurements)), int(MOST)) / 1e9
    begun, ended = _time(run.started_at), _time(run.finished_at)
    if begun is not None and ended is not None:
        took_s = max(took_s, (ended - begun).total_seconds())
    return Side(
        name=loaded.name,
        id=run.id,
        started_at=run.started_at,
        finished_at=run.finished_at,
        complete=run.complete,
        trigate_version=run.trigate_version,
        sessions=tuple(dict.fromkeys(boot for one in measurements if (boot := boot_of(one)))),
        took_s=took_s,
    )


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _differences(base: Sequence[Loaded], new: Sequence[Loaded]) -> tuple[list[Difference], list[Difference]]:
    """(versions, all else) of the hosts, settings and configurations that are not the same on both sides."""
    facts = [
        [
            {
                **one.run.environment,
                "trigate": one.run.trigate_version,
                "configuration": one.run.configuration_sha256[:16],
                **{f"setting {name}": value for name, value in one.run.settings.items() if name not in _OWN_SETTINGS},
            }
            for one in side
        ]
        for side in (base, new)
    ]  # fmt: skip
    found: tuple[list[Difference], list[Difference]] = [], []
    for name in dict.fromkeys(key for side in facts for one in side for key in one):
        old, now = (" / ".join(dict.fromkeys(one.get(name, "none") for one in side)) for side in facts)
        if old != now:
            is_version = name in VERSIONS
            found[0 if is_version else 1].append(Difference(name, old, now, is_version))
    return found


def _caveats(
    base: Sequence[Loaded],
    new: Sequence[Loaded],
    versions: Sequence[Difference],
    sides: Sequence[Mapping[str, Sequence[Entry]]],
    shared: Sequence[str],
) -> Iterable[str]:
    reflashed = _is_reflashed(versions)
    if any(one.measurement.simulated for case_id in shared for side in sides for one in side[case_id]):
        yield "Rows of a simulated board are among these: they show how the comparison works, and are no evidence."
    if not versions:
        yield "No library and no system version differs: this is a comparison of a version with itself."
    yield from _backward(versions)
    what = "the version and the reflash" if reflashed else "the version and whatever else changed between the two sides"
    yield (
        f"On one board {what} cannot be told apart: each happened once, and together. Two boards swapped over would tell: "
        "A first on the old version and B on the new one, then A on the new and B on the old. With dA and dB the change of each "
        "board from first to second, (dA - dB) / 2 is the version, and (dA + dB) / 2 what every reflash or day brings."
    )
    rows = [one for side in sides for entries in side.values() for one in entries]
    built = [one for one in rows if one.verdict and _runs_engines(one) and one.verdict.outcome is not Outcome.NOT_RUN]
    if built and not any(len(one.measurement.builds) > 1 for one in built):
        yield (
            "Two builds of one version differ already, since a builder chooses by timing: a shift of one engine is that "
            "engine's, until each version was built several times (--builds)."
        )
    yield from _of_boots(sides)
    for case_id in shared:
        boards = [[board for one in side[case_id] if (board := one.measurement.board_start).source] for side in sides]
        caps = [{cap for board in side for cap in board.caps} for side in boards]
        if all(boards) and any(cap in (caps[0] ^ caps[1]) for cap in CAPS):  # a row that broke tells no board
            yield f"The power caps are known on one side only ({case_id} and perhaps others): likeness is not shown."
            break
    yield from _of_times(base, new)
    yield from (f"{one.name}: {note}" for one in (*base, *new) for note in one.notes)


def _backward(versions: Sequence[Difference]) -> Iterable[str]:
    """That a version goes down, where both are told as numbers after the same words."""
    older = [
        f"{one.name} from {one.base} to {one.new}"
        for one in versions
        if one.name not in LOOSE
        for (old, was), (now, is_) in [(_parted(one.base), _parted(one.new))]
        if old == now and is_ < was
    ]
    if older:
        yield (
            f"{OLDER} ({', '.join(older)}): were the sides mixed up? --base, and --against PYTHON, name the version that is left."
        )


def _parted(version: str) -> tuple[str, tuple[int, ...]]:
    """``("JetPack ", (6, 2))``."""
    number = re.search(r"\d+(?:\.\d+)*", version)
    return (version[: number.start()], tuple(map(int, number[0].split(".")))) if number else (version, ())


def _runs_engines(one: Entry) -> bool:
    """Whether a builder that chooses by timing has a part in a row."""
    return one.case.runtime == "tensorrt" or one.measurement.placement.endswith("[tensorrt]")


def _of_boots(sides: Sequence[Mapping[str, Sequence[Entry]]]) -> Iterable[str]:
    """What the boot sessions of rows with figures of time, energy or memory leave open."""
    boots = [
        {
            boot_of(one.measurement)
            for rows in side.values()
            for one in rows
            if one.verdict and one.case.kind not in _OUTPUTS
        }
        for side in sides
    ]
    known = [{boot for boot in side if boot} for side in boots]
    if any("" in side and not side - {""} for side in boots):
        yield "A side does not tell its boot sessions: all its launches count as one."
    for name, side in (("base", known[0]), ("new", known[1])):
        if len(side) == 1:
            yield f"The {name} side was measured in a single boot session" + (
                ": nothing in time, energy or memory can be decided."
                if name == "base"
                else ", held against the base's spread."
            )
    if known[0] & known[1]:
        yield "Base and new share a boot session: what that boot brought with it is on both sides."


def _of_times(base: Sequence[Loaded], new: Sequence[Loaded]) -> Iterable[str]:
    """Runs that did not end, and clocks that cannot be right."""
    for one in (*base, *new):
        if not one.run.complete:
            why = "was interrupted" if one.run.interrupted else "had not finished"
            yield f"{one.name} {why}: rows that it did not reach have no evidence."
        begun, ended = _time(one.run.started_at), _time(one.run.finished_at)
        if begun is not None and ended is not None and ended < begun:
            yield f"{one.name} ends before it begins: its clock was set meanwhile. Nothing here is decided by it."
    starts = [[time for one in side if (time := _time(one.run.started_at)) is not None] for side in (base, new)]
    if starts[0] and starts[1] and _earlier(min(starts[1]), max(starts[0])):
        yield f"{MIXED}: sides were mixed up, measured in turn, or a clock was set. Nothing here is decided by it."


def _is_reflashed(versions: Sequence[Difference]) -> bool:
    return any(one.name in ("jetpack", "l4t") and "none" not in (one.base, one.new) for one in versions)


def _earlier(first: datetime, second: datetime) -> bool:
    """Times with and without a zone do not compare; then neither is called earlier."""
    return (first.tzinfo is None) == (second.tzinfo is None) and first < second
