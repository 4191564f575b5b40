"""Several runs of one pack as one: Tier-0 from the cloud, Tier-1 from a workstation, Tier-2 from a board. Pure.

What does not go together is refused by name. Nothing is measured or judged here; what each run says of a row stands.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

from harness import gates
from harness.config import name_of_file
from harness.errors import UsageError
from harness.records import ABOUT_RUNTIMES, Case, Outcome, Run, Verdict, to_json

__all__ = ["Combined", "combine", "labels_for", "requirements_of"]

_NAMED_AT_MOST = 5


@dataclass(frozen=True)
class Combined:
    """Several runs as one. ``run``: of all together, with the exit code and last line of RE-04. ``parts``: the runs as they
    were, by label. ``rows``: which run each row is from, label by case id. ``notes``: what to know when they are read together.
    """

    run: Run
    parts: Mapping[str, Run]
    rows: Mapping[str, str]
    notes: tuple[str, ...] = ()


def combine(runs: Sequence[tuple[str, Run]], require: Mapping[str, Sequence[str]] | None = None) -> Combined:
    """The runs, each with its label, as one. ``require``: by label, what a run had to show, where its folder tells it.

    A row with a verdict in two runs is refused, unless one is NOT RUN (that which ran is taken, and the other's reason
    becomes a note) or the two are the same. Raises ``UsageError`` for that, for several packs, and for one run given twice.
    """
    parts = dict(runs)
    if len(parts) < len(runs) or not runs:
        raise UsageError(
            "two runs have one label; give each its own." if runs else "there is no run. Name one or more."
        )
    _refuse_the_same_run(runs)
    _refuse_other_packs(runs)
    taken, notes = _take_rows(parts)
    required = {case.id for run in parts.values() for case in _cases(run) if case.required}
    verdicts = tuple(_marked(verdict, label, required) for label, verdict in taken)
    notes = [*_odd_together(parts), *notes]
    reached = {verdict.case.id for run in parts.values() for verdict in run.verdicts}
    complete = all(verdict.case.id in reached for verdict in verdicts)
    known = require or {}
    asked = [word for label, run in parts.items() for word in known.get(label, requirements_of(run))]
    words = tuple(dict.fromkeys(asked))
    code = gates.exit_code(
        verdicts, words, internal=any(run.exit_code == gates.EXIT_INTERNAL for run in parts.values())
    )
    whole = Run(
        id=hashlib.sha256("\n".join(sorted(run.id for run in parts.values())).encode()).hexdigest()[:32],
        started_at=min(run.started_at for run in parts.values()),
        finished_at=max(run.finished_at for run in parts.values()),
        complete=complete,
        exit_code=code if complete or code != gates.EXIT_PASS else gates.EXIT_OPEN,
        last_line=gates.last_line(verdicts, words),
        command="\n".join(run.command for run in parts.values()),
        seed=next((run.seed for run in parts.values() if run.pack_sha256), runs[0][1].seed),
        settings=_side_by_side({label: run.settings for label, run in parts.items()}),
        environment=_side_by_side({label: run.environment for label, run in parts.items()}),
        configuration_sha256=_one_or_each({label: run.configuration_sha256 for label, run in parts.items()}),
        pack_sha256=next((run.pack_sha256 for run in parts.values() if run.pack_sha256), ""),
        planned=tuple(verdict.case for verdict in verdicts),
        verdicts=verdicts,
        trigate_version=_one_or_each({label: run.trigate_version for label, run in parts.items()}),
        interrupted=not complete and any(run.interrupted for run in parts.values()),
        notes=(*notes, *(f"{label}: {note}" for label, run in parts.items() for note in run.notes)),
        schema=max(run.schema for run in parts.values()),
    )  # fmt: skip
    return Combined(whole, parts, {verdict.case.id: label for label, verdict in taken}, tuple(notes))


def labels_for(folders: Sequence[Path]) -> tuple[str, ...]:
    """Short names for run folders, all different: the last part of each path, or as many parts as it takes."""
    paths = [folder.resolve() for folder in folders]
    labels = list(map(str, paths))
    for depth in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        labels = ["/".join(path.parts[-depth:]).lstrip("/") or "run" for path in paths]
        if len(set(labels)) == len(set(paths)):
            break
    return tuple(label if label not in labels[:at] else f"{label} ({at + 1})" for at, label in enumerate(labels))


def requirements_of(run: Run) -> tuple[str, ...]:
    """What a stored run had to show, in words of ``--require``, as far as its record tells: what was named on the command line,
    and the runtimes of the rows that it says are required.
    """
    named = [word for key in ("require", "runtime") for word in run.settings.get(key, "").replace(",", " ").split()]
    labels = {word.partition("[")[0] for word in named}
    rows = dict.fromkeys(case.runtime for case in _cases(run) if case.required and case.runtime not in labels)
    return (*dict.fromkeys(named), *rows, *(f"model[{name}]" for name in _models_named(run)))


def _models_named(run: Run) -> list[str]:
    """The models of ``--model`` in a run that has Tier-1, where each must be shown by a row about numerics."""
    try:
        words = shlex.split(run.command)
    except ValueError:
        return []
    given = [after for word, after in pairwise(words) if word == "--model"]
    given += [word.partition("=")[2] for word in words if word.startswith("--model=")]
    given += [name_of_file(Path(word)) for word in given]
    rows = [case for case in _cases(run) if case.kind in ("parity", "semantic") and not case.simulated]
    return list(dict.fromkeys(case.model for case in rows if case.model in given))


def _cases(run: Run) -> tuple[Case, ...]:
    planned = {case.id for case in run.planned}
    return (*run.planned, *(verdict.case for verdict in run.verdicts if verdict.case.id not in planned))


def _refuse_the_same_run(runs: Sequence[tuple[str, Run]]) -> None:
    seen: dict[str, str] = {}
    for label, run in runs:
        if run.id in seen:
            raise UsageError(
                f"{seen[run.id]} and {label} are one run ({run.id}): a copy, or the same samples judged again. Give one of them."
            )
        seen[run.id] = label


def _refuse_other_packs(runs: Sequence[tuple[str, Run]]) -> None:
    """One pack is one set of models, inputs and references; rows that need none may join."""
    packed = [(label, run) for label, run in runs if run.pack_sha256]
    for label, run in packed[1:]:
        first, other = packed[0]
        if run.pack_sha256 != other.pack_sha256:
            raise UsageError(
                f"{first} is of pack {other.pack_sha256[:16]} and {label} of pack {run.pack_sha256[:16]}: their rows are about "
                "other models or inputs. Make one pack with `trigate pack`, and run it on each host with --pack."
            )
    for label, run in runs if len(runs) > 1 else ():
        alone = [case for case in _cases(run) if case.kind not in (*ABOUT_RUNTIMES, "harness") and not case.simulated]
        if not run.pack_sha256 and alone:
            raise UsageError(
                f"{label} has no pack, and rows about models ({_some([case.id for case in alone])}): nothing shows that they "
                "are the same models. Run it again with --pack."
            )


def _take_rows(parts: Mapping[str, Run]) -> tuple[list[tuple[str, Verdict]], list[str]]:
    """Every row once with the label of its run, by tier and then as planned; and what was left aside, in words."""
    rows: dict[str, tuple[str, Verdict]] = {}
    conflicts, notes = [], []
    for label, run in parts.items():
        for verdict in _rows(run):
            first, other = rows.setdefault(verdict.case.id, (label, verdict))
            if other is verdict:
                continue
            if other.outcome is Outcome.NOT_RUN and verdict.outcome is not Outcome.NOT_RUN:
                rows[verdict.case.id] = (label, verdict)
                notes.append(f"{verdict.case.id} is from {label}; in {first} it did not run: {other.reason}")
            elif verdict.outcome is Outcome.NOT_RUN:
                if verdict.reason != other.reason:
                    how = "did not run either" if other.outcome is Outcome.NOT_RUN else "did not run"
                    notes.append(f"{verdict.case.id} is from {first}; in {label} it {how}: {verdict.reason}")
            elif _text(verdict) != _text(other):
                conflicts.append(
                    f"{verdict.case.id} ({other.outcome.value} in {first}, {verdict.outcome.value} in {label})"
                )
    if conflicts:
        rows_ran = f"{len(conflicts)} rows ran" if len(conflicts) > 1 else "1 row ran"
        raise UsageError(
            f"{rows_ran} twice, and only one of the two can count: {_some(conflicts)}. "
            "Leave one of the runs out, or run each host with the --tier, --model or --runtime that is its own."
        )
    return sorted(rows.values(), key=lambda row: row[1].case.tier), _counted(notes)


def _rows(run: Run) -> list[Verdict]:
    """Every row of a run; one without a verdict yet is NOT RUN."""
    settled = {verdict.case.id: verdict for verdict in run.verdicts}
    why = "the run was interrupted" if run.interrupted else "the run did not finish"
    planned = {case.id: settled.get(case.id) or gates.not_run(case, f"not reached: {why}") for case in run.planned}
    return list({**planned, **settled}.values())


def _text(verdict: Verdict) -> object:
    """What must be the same in two runs; whether a row was required there is the run's, not the row's."""
    return to_json(_marked(verdict, "", set()))


def _marked(verdict: Verdict, label: str, required: set[str]) -> Verdict:
    measurement = verdict.summary.measurement
    case = replace(measurement.case, required=measurement.case.id in required)
    notes = (f"from run {label}", *measurement.notes) if label else measurement.notes
    return replace(verdict, summary=replace(verdict.summary, measurement=replace(measurement, case=case, notes=notes)))


def _counted(notes: Sequence[str], most: int = 50) -> list[str]:
    left = len(notes) - most
    return [*notes[:most], *([f"and {left} more rows that did not run everywhere"] if left > 0 else [])]


def _odd_together(parts: Mapping[str, Run]) -> list[str]:
    """What does not keep the runs apart, and who reads them together must know."""
    found = []
    for what, values in (
        ("schemas", {label: str(run.schema) for label, run in parts.items()}),
        ("versions of trigate", {label: run.trigate_version for label, run in parts.items()}),
        ("configurations", {label: run.configuration_sha256[:16] for label, run in parts.items()}),
    ):
        if len(set(values.values())) > 1:
            found.append(f"the runs are of several {what}: {_told(values)}")
    found += [
        f"{label} has no pack: its rows are about runtimes, or SIMULATED"
        for label, run in parts.items()
        if not run.pack_sha256
    ]
    for label, run in parts.items():
        if run.exit_code is None:
            found.append(f"{label} did not finish, or is still running: what it had settled is here")
        elif run.interrupted:
            found.append(f"{label} was interrupted: what it had settled is here")
    return [*found, *_moved_clocks(parts)]


def _moved_clocks(parts: Mapping[str, Run]) -> list[str]:
    """Within one boot a row's time of day less the uptime is when the machine was booted; where two runs differ in it by more
    than a minute and a row's length, its clock was moved between them.
    """
    booted: dict[str, tuple[str, datetime]] = {}
    found = []
    for label, run in parts.items():
        for verdict in run.verdicts:
            measurement = verdict.summary.measurement
            boot, uptime_s, at = (
                measurement.board_start.boot_id,
                measurement.board_start.uptime_s,
                _time(measurement.started_at),
            )
            if not boot or uptime_s is None or at is None or measurement.simulated:
                continue
            try:
                moment = at - timedelta(seconds=uptime_s)
                longest = timedelta(seconds=60, microseconds=measurement.duration_ns / 1000)
            except (OverflowError, ValueError):  # of no machine
                continue
            first, other = booted.setdefault(boot, (label, moment))
            moved = moment - other
            if abs(moved) > longest:
                way = "backward" if moved < timedelta(0) else "forward"
                minutes = f"{abs(moved).total_seconds() / 60:,.0f} min"
                found.append(
                    f"the clock ran {way} by {minutes} between {first} and {label}, in one boot: times of day mislead"
                )
                break
    return found


def _time(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


def _side_by_side(facts: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Facts of several runs as one: a value that all share as it is, others each with its label."""
    names = dict.fromkeys(name for of_one in facts.values() for name in of_one)
    return {name: _one_or_each({label: of_one.get(name, "") for label, of_one in facts.items()}) for name in names}


def _one_or_each(values: Mapping[str, str]) -> str:
    told = set(values.values())
    return next(iter(told)) if len(told) == 1 else _told({label: value for label, value in values.items() if value})


def _told(values: Mapping[str, str]) -> str:
    return "; ".join(f"{label}: {value}" for label, value in values.items())


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(names[:_NAMED_AT_MOST]) + more
