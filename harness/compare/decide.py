"""What to do with the new version: ADOPT, HOLD (which rows) or MEASURE MORE (how long), and what matters most. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from harness.records.comparison import Cause, Change, Decision, Foremost, RowChange, Side, Standing, State

__all__ = ["beyond_margin", "counted", "decide", "foremost"]

_MOST_SESSIONS = 12
"""Boot sessions of a side that are still advised: four times as many would only halve the interval."""

_MOST_HOURS = 72.0

_BUT = " (but for that"
_ASIDE = re.compile(r"\s*\([^()]*\)\s*$")

_RESTS_ON = {"drift": "numerics", "p95": "latency", "energy": "energy", "memory": "memory"}
"""What a release rests on, by what a change is about."""

_WEIGHT = {standing: at for at, standing in enumerate((
    Standing.BROKE, Standing.WORSE, Standing.MISSING, Standing.OPEN, Standing.STARTED, Standing.CHANGED, Standing.BETTER,
))}  # fmt: skip


def decide(
    rows: Sequence[RowChange], base: Sequence[Side], new: Sequence[Side], *, is_reflashed: bool = False
) -> tuple[Decision, str, int, list[str]]:
    """(what to do, that in words, the exit code, what would decide). ``is_reflashed``: the base's board is not there any more."""
    holding = [row for row in rows if row.may_block and row.standing in (Standing.BROKE, Standing.WORSE)]
    missing = [row for row in rows if row.may_block and row.standing is Standing.MISSING]
    undecided = [row for row in rows if row.may_block and row.standing is Standing.OPEN]
    to_do = [*_missing(missing), *_more(undecided, base, new, is_reflashed)]
    if holding:
        broke = sum(row.standing is Standing.BROKE for row in holding)
        parts = (
            f"{broke} stopped working or {_many(broke, 'fails its limit', 'fail their limit')}" if broke else "",
            f"{len(holding) - broke} regressed" if len(holding) > broke else "",
        )
        told = f"Of {counted(len(rows), 'row')} {' and '.join(filter(None, parts))}."
        told = f"HOLD: {_ended(_first_of_all(holding[0]))} {_beside(holding[1:])}{told}{_simulated(rows)}"
        return Decision.HOLD, told, 1, to_do
    evidence = [row for row in rows if row.base_state is State.WORKS and row.new_state is State.WORKS]
    if missing or undecided or not evidence:
        open_ = len(missing) + len(undecided)
        told = (
            f"{open_} of {counted(len(rows), 'row')} {_many(open_, 'is', 'are')} open"
            if open_
            else "no row works on both sides"
        )
        to_do = [*to_do, *([] if evidence else _without_evidence(rows))]
        return Decision.MEASURE_MORE, f"MEASURE MORE: {told}. {' '.join(to_do)}".strip() + _simulated(rows), 3, to_do
    better = sum(row.standing is Standing.BETTER for row in rows)
    changed = sum(row.standing in (Standing.CHANGED, Standing.STARTED) for row in rows)
    alike = [row.new_state for row in rows if row.base_state is row.new_state]
    fail, broke = (alike.count(state) for state in (State.FAILS, State.BROKE))
    dark = sum(row.new_state not in (State.WORKS, State.FAILS) for row in rows) - broke
    beside = "".join(
        f", {count} {what}"
        for count, what in (
            (better, "better"),
            (changed, "with changes to look at"),
            (fail, f"{_many(fail, 'fails its limit', 'fail their limits')} on both sides"),
            (broke, "broke on both sides"),
            (dark, "without evidence on either side"),
        )
        if count
    )
    work = f"{counted(len(evidence), 'row')} {_many(len(evidence), 'works', 'work')} on both sides"
    told = f"ADOPT: no row regressed or stopped working; {work}{beside}.{_not_compared(evidence)}{_simulated(rows)}"
    return Decision.ADOPT, told, 0, to_do


def _simulated(rows: Sequence[RowChange]) -> str:
    count = sum(row.simulated for row in rows)
    if not count:
        return ""
    return " All SIMULATED: no evidence." if count == len(rows) else f" {counted(count, 'row')} SIMULATED: no evidence."


def _first_of_all(row: RowChange) -> str:
    """A row that holds the release, with the figure that does, by how much, and why."""
    change = _telling(row)
    if row.standing is Standing.BROKE or change is None:
        return f"{row.id}: {_brief(row.words.replace('it ran, and now breaks: ', ''))}"
    how_much = f"{change.name}{_shift_in_words(change)}" if change.margin else f"{change.name}: {_brief(change.words)}"
    cause = f", {change.cause.value}: {_brief(change.why)}" if change.cause not in (Cause.NONE, Cause.UNKNOWN) else ""
    return f"{row.id}: {how_much}{cause or ', the run folders do not tell why'}"


def _shift_in_words(change: Change) -> str:
    """As the page has it, ``reports.compare_page.shifted``."""
    bounds = [one for one in (change.ratio, change.low, change.high) if one is not None]
    told = [f"{100 * (one - 1):+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0") for one in bounds]
    if change.ratio is None:
        return ""
    return f" {told[0]} % " + (f"[{told[1]}, {told[2]}]" if len(told) == 3 else "(interval not known)")


def _beside(rows: Sequence[RowChange]) -> str:
    """The rows that hold the release as well."""
    names = ", ".join(row.id for row in rows[:2])
    more = f" and {len(rows) - 2} more" if len(rows) > 2 else ""
    return f"And {names}{more}. " if rows else ""


def _without_evidence(rows: Sequence[RowChange]) -> list[str]:
    """Which side cannot run what: more measuring does not help there."""
    found = []
    for name, state_of_side in (("base", "base_state"), ("new", "new_state")):
        dark = [row for row in rows if getattr(row, state_of_side) is State.NOT_INSTALLED]
        if dark:
            runtimes = ", ".join(dict.fromkeys(row.runtime for row in dark))
            found.append(
                f"Measuring longer does not help: {runtimes} is not installed on the {name} side. Install it there."
            )
    return found


def _not_compared(rows: Sequence[RowChange]) -> str:
    """Of what a release rests on, what no row tells on both sides."""
    told = {change.about for row in rows for change in row.changes if change.is_judged}
    silent = [name for about, name in _RESTS_ON.items() if about not in told]
    return f" Not compared: {', '.join(silent)}." if silent else ""


def _missing(rows: Sequence[RowChange]) -> list[str]:
    absent: dict[str, list[str]] = {}
    for row in rows:
        is_library = row.new_state is State.NOT_INSTALLED
        what = f"Install {row.runtime} on the new side" if is_library else "Measure on the new side what it lacks"
        why = "" if is_library else f": {_brief(row.words.partition(': ')[2])}"
        absent.setdefault(f"{what} ({{}}){why}.", []).append(row.id)
    return [told.replace("{}", _and_more(ids), 1) for told, ids in absent.items()]


def _more(rows: Sequence[RowChange], base: Sequence[Side], new: Sequence[Side], is_reflashed: bool) -> list[str]:
    """How long: boot sessions on each side, at what a run of that side took."""
    named = [
        (row.id, change)
        for row in rows
        for change in row.changes
        if change.standing is Standing.OPEN and change.may_block
    ]
    every = [change for _, change in named]
    spoilt = [change for change in every if change.again]
    again = [
        f"Measure the new side again, about {_duration(max((one.took_s for one in new), default=0.0))}: {spoilt[0].again}."
    ] if spoilt else []  # fmt: skip
    facts: dict[str, list[str]] = {}
    for row in rows:
        for change in () if any(change.again for change in row.changes) else row.changes:
            if change.standing is Standing.OPEN and change.may_block and not change.is_judged:
                facts.setdefault(_to_decide(change), []).append(row.id)
    told = [_ended(f"Decide {_and_more(ids)}: {what}") for what, ids in facts.items()]
    open_ = [(row, change) for row, change in named if change.is_judged and not change.again]
    return [
        *again,
        *told[:3],
        *([f"And {counted(len(told) - 3, 'fact')} more."] if told[3:] else []),
        *_sessions(open_, base, new, is_reflashed),
    ]


def _to_decide(change: Change) -> str:
    """What is to be decided, so that rows that wait for one step say the same: the clause with the command that helps."""
    if change.about == "verdict":
        state, _, reason = change.words.partition(_BUT)[0].partition(": ")
        step = next((clause for clause in reason.split("; ") if "`" in clause), "")
        return f"{state}: {re.sub(_ASIDE, '', step).strip().rstrip('.')}" if step else _brief(change.words)
    return f"{change.name}: {_brief(change.words)}"


def _and_more(ids: Sequence[str]) -> str:
    return ids[0] + (f" and {len(ids) - 1} more" if ids[1:] else "")


def _ended(words: str) -> str:
    return words if words.endswith("…") else f"{words}."


def _brief(words: str, most: int = 160) -> str:
    """The first sentences, as far as they are short; all of it stands in its row."""
    words = words.partition(_BUT)[0].rstrip(".")
    return words if len(words) <= most else f"{words[:most].rpartition(' ')[0]} …"


def _sessions(
    open_: Sequence[tuple[str, Change]], base: Sequence[Side], new: Sequence[Side], is_reflashed: bool
) -> list[str]:
    """Boot sessions that would decide, and what no number of them would that anybody measures."""
    if not open_:
        return []
    took_s = [max((one.took_s for one in side), default=0.0) for side in (base, new)]
    able = [one for _, one in open_ if _is_within_reach(one, took_s)]
    hopeless = [(row, one) for row, one in open_ if not _is_within_reach(one, took_s)]
    more = [max((count for one in able if (count := _more_sessions(one)[at]) is not None), default=0) for at in (0, 1)]
    old = "base (on a board that still has its version)" if is_reflashed else "base"
    parts = [
        f"{counted(count, 'more boot session')} of the {name}, about {_duration(count * took)}"
        for name, count, took in zip((old, "new side"), more, took_s, strict=True)
        if count > 0
    ]
    told = _in_vain(hopeless)
    if parts:
        told.append(f"{'For the other open figures measure' if hopeless else 'Measure'} {' and '.join(parts)}.")
    elif able:
        told.append("Boot sessions as there are would decide if they lay closer; measure one more of each.")
    if able and {boot for one in base for boot in one.sessions} & {boot for one in new for boot in one.sessions}:
        told.append(
            "Both sides share a boot: trigate run --against PYTHON decides there, in pairs and without a reboot."
        )
    return told


def _more_sessions(change: Change) -> tuple[int | None, int | None]:
    if change.needed_base is None or change.needed_new is None:
        return None, None
    return change.needed_base - change.base_sessions, change.needed_new - change.new_sessions


def _is_within_reach(change: Change, took_s: Sequence[float]) -> bool:
    if change.needed_base is None or change.needed_new is None:
        return False
    hours = sum(max(0, more or 0) * took for more, took in zip(_more_sessions(change), took_s, strict=True)) / 3600
    return max(change.needed_base, change.needed_new) <= _MOST_SESSIONS and hours <= _MOST_HOURS


def _in_vain(hopeless: Sequence[tuple[str, Change]]) -> list[str]:
    if not hopeless:
        return []
    row, worst = max(hopeless, key=lambda one: (one[1].between or 0.0) / (one[1].margin or 1.0))
    what = f"{worst.name} of {row}" + (f" (and {counted(len(hopeless) - 1, 'more figure')})" if hopeless[1:] else "")
    if worst.between is None or worst.margin is None:
        return [f"Measuring longer will not decide {what}: how far boot sessions lie apart is not known."]
    spread = f"boot sessions of one side lie {100 * math.expm1(math.sqrt(2.0) * worst.between):.2g} % apart"
    needed = f"{worst.needed_base} of each side" if worst.needed_base is not None else "over 100 of each side"
    words = (
        f"Measuring longer will not decide {what}: {spread}, against a margin of {100 * worst.margin:g} %, so that {needed} "
        "would be needed. Find what sets boots apart (clocks not pinned, no soak, other processes), measure pairs in turn on "
        "one host (trigate run --against), or accept a wider --margin."
    )
    return [words]


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{max(1, round(seconds / 60))} min"


def counted(count: int, what: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{count} {what}" + ("" if count == 1 else "s")


def _many(count: int, one: str, several: str) -> str:
    return one if count == 1 else several


# --- what matters most -----------------------------------------------------------------------------------------------


def foremost(rows: Sequence[RowChange], most: int = 3) -> tuple[Foremost, ...]:
    """The changes that matter most, gravest first; rows that say the same for the same reason are one.

    What may hold the release comes before what cannot; within one standing, what lies furthest beyond its margin.
    """
    told = [row for row in rows if row.standing in _WEIGHT]
    groups: dict[tuple[object, ...], list[RowChange]] = {}
    for row in sorted(told, key=_weight):
        groups.setdefault(_alike(row), []).append(row)
    found = []
    for row, *others in list(groups.values())[:most]:
        change = _telling(row)
        why = change.why if change is not None and change.cause is row.cause else ""
        found.append(Foremost(row.id, row.standing, row.words, row.cause, why, len(others)))
    return tuple(found)


def _weight(row: RowChange) -> tuple[int, int, float, str]:
    return 0 if row.may_block else 1, _WEIGHT[row.standing], -beyond_margin(row), row.id


def beyond_margin(row: RowChange) -> float:
    """How many margins off the change lies that gave the row its standing; 0.0 where it has no margin."""
    change = _telling(row)
    if change is None or not change.ratio or not change.margin:
        return 0.0
    return abs(math.log(change.ratio)) / math.log1p(change.margin)


def _telling(row: RowChange) -> Change | None:
    """The change that gave the row its standing."""
    return next(
        (one for one in row.changes if one.standing is row.standing and (one.may_block or not row.may_block)), None
    )


def _alike(row: RowChange) -> tuple[object, ...]:
    change = _telling(row)
    if change is None:
        return row.standing, row.words.partition(":")[0], row.runtime
    return row.standing, change.about, row.cause, row.model if row.cause in (Cause.NONE, Cause.UNKNOWN) else row.runtime
