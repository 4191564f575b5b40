"""Whether a release may be signed, from runs of one pack and waivers: pure, so that whoever verifies comes to the same.

Every required row must pass on a real device, nothing may fail, and what does not is answered for by a waiver. A row that
was simulated satisfies nothing.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness import gates
from harness.combine import combine
from harness.errors import UsageError, did_you_mean
from harness.records import Outcome, Run, Verdict
from harness.signoff.waivers import Waiver
from runtime.files import sha256_hex

__all__ = [
    "ARTIFACT",
    "SCHEMA_VERSION",
    "BundledRow",
    "BundledRun",
    "BundledWaiver",
    "Problem",
    "SignOff",
    "decide",
    "fit_together",
    "page",
    "statement_of",
    "tested_as",
]

SCHEMA_VERSION = 1
"""Of ``bundle.json``."""
ARTIFACT = "artifact:"
"""How the names of a statement's subjects begin that are no files of the bundle but what was tested."""
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_TESTED = ("model", "artifact", "engine", "calibration", "sidecar")
_LONG_DAYS = 366
_WIDE_ROWS = 10
_OUTPUTS_SHOWN = 6
_REASONS_SHOWN, _PLACES_SHOWN = 3, 4
_DECIDE = ("pr", "signoff")
_RAW_SINCE = 2
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class BundledRun:
    """One run of a bundle. ``folder``: relative to the bundle. ``require``: what it had to show."""

    id: str
    folder: str
    started_at: str
    finished_at: str
    command: str
    trigate_version: str
    profile: str
    board: str
    configuration_sha256: str
    require: tuple[str, ...]
    environment: Mapping[str, str]
    last_line: str


@dataclass(frozen=True)
class BundledRow:
    """One row. ``run``: whose it is. ``lineage``: sha256 by name, and words.

    ``standing``: ``passed``, ``waived``, ``failed``, ``open`` (required and not shown), ``simulated``, ``measured``,
    ``undecided`` (asked of nobody) or ``not run``. ``waiver``: its number in the file. ``held_against``: by which budget,
    floor, profile or tolerances it was judged, in words.
    """

    id: str
    run: str
    tier: int
    kind: str
    model: str
    runtime: str
    precision: str
    placement: str
    outcome: Outcome
    reason: str
    required: bool
    simulated: bool
    standing: str
    waiver: int | None = None
    lineage: Mapping[str, str] = field(default_factory=dict)
    held_against: str = ""


@dataclass(frozen=True)
class BundledWaiver:
    """``rows``: which it covered; empty: none, for the reason ``unused``."""

    owner: str
    reason: str
    until: str
    about: str
    rows: tuple[str, ...]
    unused: str = ""

    @property
    def words(self) -> str:
        """What it is good for, by whom, until when and why, in one line."""
        what = f"answers for {', '.join(self.rows)}" if self.rows else f"for {self.about} answers for nothing"
        because = f" ({self.unused})" if self.unused else ""
        return f"{self.owner} {what}{because} until {self.until}: {self.reason}"


@dataclass(frozen=True)
class Problem:
    """What keeps a release from being signed. ``fails``: something is wrong; else something is not shown."""

    words: str
    fails: bool
    row: str = ""


@dataclass(frozen=True)
class SignOff:
    """``bundle.json``. ``result``: of the in-toto predicate: ``PASSED``, ``WARNED`` (signed off with waivers), ``FAILED``.

    ``made_at``: ISO time, UTC; waivers are held against its date.
    """

    made_at: str
    trigate_version: str
    result: str
    decision: str
    pack_sha256: str
    runs: tuple[BundledRun, ...]
    rows: tuple[BundledRow, ...]
    waivers: tuple[BundledWaiver, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    schema: int = SCHEMA_VERSION

    @property
    def exit_code(self) -> int:
        """0: it may be signed; 1: something fails; 3: nothing fails, and something required is not shown."""
        if any(problem.fails for problem in self.problems):
            return gates.EXIT_FAIL
        return gates.EXIT_OPEN if self.problems else gates.EXIT_PASS


def fit_together(runs: Mapping[str, Run]) -> None:
    """Refuse runs that make no bundle. ``runs``: by what each is called here. Raises ``UsageError`` that names both."""
    for name, run in runs.items():
        if not _RUN_ID.fullmatch(run.id):
            raise UsageError(f"{name} has the run id {run.id!r:.60}, which names no folder. Was its run.json edited?")
        counts = Counter(verdict.case.id for verdict in run.verdicts)
        if twice := next((case for case, count in counts.items() if count > 1), ""):
            raise UsageError(f"{name} has two verdicts of the row {twice}. Was its run.json edited?")
    combine(list(runs.items()))


def decide(
    runs: Sequence[Run],
    requires: Mapping[str, Sequence[str]],
    waivers: Sequence[Waiver],
    *,
    made_at: str,
    trigate_version: str,
    contradictions: Sequence[Problem] = (),
) -> SignOff:
    """Runs that ``fit_together`` to a decision. ``requires``: by run id, what it had to show. ``contradictions``: of the runs
    with their own samples (``harness.signoff.recompute``); no waiver covers them. Raises ``UsageError`` where they do not fit.
    """
    together = combine([(run.id, run) for run in runs], requires)
    today = datetime.datetime.fromisoformat(made_at).date()
    verdicts = [_marked(verdict) for verdict in together.run.verdicts]
    covers = [_waiver_of(verdict, waivers, today) for verdict in verdicts]
    rows = tuple(
        _row(verdict, cover, together.parts[together.rows[verdict.case.id]])
        for verdict, cover in zip(verdicts, covers, strict=True)
    )
    require = list(dict.fromkeys(word for run in runs for word in requires.get(run.id, ())))
    problems = [
        *contradictions,
        *_unfinished(runs),
        *_of_rows(rows, verdicts),
        *_of_requirements(verdicts, rows, require),
        *_expired(waivers, today),
        *_simulated(runs),
        *_of_nothing(rows, require),
    ]
    problems.sort(key=lambda problem: not problem.fails)
    told = tuple(_told(waiver, at, rows, verdicts, today) for at, waiver in enumerate(waivers, 1))
    result = "FAILED" if problems else "WARNED" if any(row.standing == "waived" for row in rows) else "PASSED"
    bundled = tuple(_run(run, requires.get(run.id, ())) for run in runs)
    return SignOff(
        made_at=made_at,
        trigate_version=trigate_version,
        result=result,
        decision=_decision(result, rows, bundled, problems),
        pack_sha256=together.run.pack_sha256,
        runs=bundled,
        rows=rows,
        waivers=told,
        problems=tuple(problems),
        notes=(*_notes(told, today), *_odd_runs(runs, made_at), *together.notes),
    )


def _marked(verdict: Verdict) -> Verdict:
    """What is simulated says so at both places."""
    measurement = verdict.summary.measurement
    simulated = measurement.simulated or bool(verdict.case.simulated)
    return replace(verdict, summary=replace(verdict.summary, measurement=replace(measurement, simulated=simulated)))


def _waiver_of(verdict: Verdict, waivers: Sequence[Waiver], today: datetime.date) -> int | None:
    """The number of the first that holds and covers it; only what would keep the release back needs one."""
    if _standing(verdict) not in ("failed", "open"):
        return None
    covering = (
        at
        for at, waiver in enumerate(waivers, 1)
        if waiver.covers(verdict.case, verdict.outcome) and not waiver.has_expired(today)
    )
    return next(covering, None)


def _is_shown(verdict: Verdict) -> bool:
    measurement = verdict.summary.measurement
    return verdict.outcome is Outcome.PASS and not measurement.simulated and measurement.witness


def _row(verdict: Verdict, cover: int | None, run: Run) -> BundledRow:
    case, measurement = verdict.case, verdict.summary.measurement
    return BundledRow(
        id=case.id,
        run=run.id,
        tier=case.tier,
        kind=case.kind,
        model=case.model,
        runtime=case.runtime,
        precision=case.precision,
        placement=measurement.placement,
        outcome=verdict.outcome,
        reason=verdict.reason,
        required=case.required,
        simulated=measurement.simulated,
        standing="waived" if cover is not None else _standing(verdict),
        waiver=cover,
        lineage=_lineage(verdict, run),
        held_against="; ".join(_limits_of(verdict)),
    )


def _limits_of(verdict: Verdict) -> Iterator[str]:
    """What whoever reads a PASS must believe was rightly asked."""
    summary = verdict.summary
    judgement, profile = summary.judgement, summary.measurement.profile
    if judgement is not None:
        budget = "no budget" if judgement.budget_ns is None else f"p95 {judgement.budget_ns / 1e6:g} ms"
        floor = "no floor" if judgement.floor is None else f"floor {judgement.floor:g} ({judgement.floor_source})"
        yield f"{budget}, {floor}"
    yield from (f"{one.model}: {one.deadline_ns / 1e6:g} ms" for one in summary.measurement.streams if one.deadline_ns)
    if profile:
        yield f"profile {profile}"
    ruled = [(one.output, one.tolerance) for one in summary.parity if one.tolerance is not None]
    told = [
        f"{output} {rule.source} {'none' if rule.rel_l2_max is None else f'{rule.rel_l2_max:.3g}'}"
        for output, rule in ruled[:_OUTPUTS_SHOWN]
    ]
    more = f" and {len(ruled) - len(told)} more" if len(ruled) > len(told) else ""
    if told:
        yield f"relative L2 of {', '.join(told)}{more}"


def _standing(verdict: Verdict) -> str:
    if verdict.outcome is Outcome.FAIL:
        return "failed"
    if verdict.case.required and not _is_shown(verdict):
        return "open"
    if verdict.outcome is Outcome.NOT_RUN:
        return "not run"
    if verdict.summary.measurement.simulated:
        return "simulated"
    words = {Outcome.PASS: "passed", Outcome.MEASURED: "measured", Outcome.INCONCLUSIVE: "undecided"}
    return words[verdict.outcome]


def _lineage(verdict: Verdict, run: Run) -> dict[str, str]:
    """What the row descends from; of runs that kept no lineage, what their rows say of themselves."""
    measurement = verdict.summary.measurement
    known = {"pack": run.pack_sha256, "artifact": measurement.model_sha256}
    if measurement.input_sha256:
        known["dataset"] = sha256_hex("\n".join(measurement.input_sha256).encode())
    return {name: value for name, value in {**known, **measurement.lineage}.items() if value}


def _run(run: Run, require: Sequence[str]) -> BundledRun:
    return BundledRun(
        id=run.id,
        folder=f"runs/{run.id}",
        started_at=run.started_at,
        finished_at=run.finished_at,
        command=run.command,
        trigate_version=run.trigate_version,
        profile=run.settings.get("profile", ""),
        board=run.settings.get("board", ""),
        configuration_sha256=run.configuration_sha256,
        require=tuple(require),
        environment=dict(run.environment),
        last_line=run.last_line,
    )


def _unfinished(runs: Sequence[Run]) -> Iterator[Problem]:
    for run in runs:
        if not run.complete:
            yield Problem(f"run {run.id} is not finished: {run.last_line or 'it was cut off'}", True)


def _expired(waivers: Sequence[Waiver], today: datetime.date) -> Iterator[Problem]:
    for waiver in waivers:
        if waiver.has_expired(today):
            yield Problem(f"the waiver of {waiver.owner} for {waiver.about} ended on {waiver.until}", False)


def _simulated(runs: Sequence[Run]) -> Iterator[Problem]:
    for run in runs:
        measured = (verdict for verdict in run.verdicts if verdict.case.tier == 2)
        if run.settings.get("simulated") or any(_marked(each).summary.measurement.simulated for each in measured):
            yield Problem(f"run {run.id} is of a simulated board, which is no evidence. Leave it out", False)


def _of_nothing(rows: Sequence[BundledRow], require: Sequence[str]) -> Iterator[Problem]:
    """A set that could not but hold: no release can rest on it."""
    if not any(row.standing == "passed" for row in rows):
        yield Problem("no row passes on a real device: there is nothing to sign off", False)
    if all(word.startswith("model[") for word in require) and not any(row.required for row in rows):
        why = "no runtime was required: no release can rest on it. What did not run was not missed"
        yield Problem(f"{why}; run with --require, or require one in the configuration", False)


def _of_rows(rows: Sequence[BundledRow], verdicts: Sequence[Verdict]) -> Iterator[Problem]:
    for row, verdict in zip(rows, verdicts, strict=True):
        if row.standing == "failed":
            yield Problem(f"{row.id} fails: {row.reason}", True, row.id)
        elif row.standing == "open":
            what = "simulated, which shows nothing" if row.simulated else f"{row.outcome.value}, {row.reason}"
            if row.outcome is Outcome.PASS and not row.simulated:
                what = "PASS, but " + next(
                    reversed(verdict.summary.measurement.notes), "no witness of what it is about"
                )
            yield Problem(f"{row.id} is required, and is {what}", False, row.id)


def _of_requirements(
    verdicts: Sequence[Verdict], rows: Sequence[BundledRow], require: Sequence[str]
) -> Iterator[Problem]:
    """What was required and no row is about; a row that does not show it is told by itself, and a waived one is accepted."""
    lacking = {row.runtime for row in rows if row.standing in ("failed", "open")}
    for requirement in require:
        label, _, placement = requirement.rstrip("]").partition("[")
        seen = [
            _accepted(verdict, placement) if row.standing == "waived" else verdict
            for verdict, row in zip(verdicts, rows, strict=True)
        ]
        if label not in lacking:
            yield from (Problem(words, False) for words in gates.unmet(seen, [requirement]))


def _accepted(verdict: Verdict, placement: str) -> Verdict:
    """As if it had passed where it was asked to."""
    measurement = verdict.summary.measurement
    shown = replace(measurement, simulated=False, witness=True, provider=placement or measurement.provider)
    return replace(verdict, outcome=Outcome.PASS, summary=replace(verdict.summary, measurement=shown))


def _told(
    waiver: Waiver, at: int, rows: Sequence[BundledRow], verdicts: Sequence[Verdict], today: datetime.date
) -> BundledWaiver:
    covered = tuple(row.id for row in rows if row.waiver == at)
    unused = "" if covered else _unused(waiver, rows, verdicts, today)
    return BundledWaiver(waiver.owner, waiver.reason, waiver.until, waiver.about, covered, unused)


def _unused(waiver: Waiver, rows: Sequence[BundledRow], verdicts: Sequence[Verdict], today: datetime.date) -> str:
    """Why a waiver covers no row."""
    chosen = [row for row, verdict in zip(rows, verdicts, strict=True) if waiver.chooses(verdict.case)]
    if not chosen and waiver.row:
        return f"no row is called so. {did_you_mean(waiver.row, [row.id for row in rows])}"
    if not chosen:
        return "no row is of that"
    lacking = [row.id for row in chosen if row.standing in ("failed", "open", "waived")]
    if not lacking:
        told = f"{chosen[0].id} is {chosen[0].outcome.value} and needs none"
        return f"{told if len(chosen) == 1 else f'none of its {len(chosen)} rows needs one'}: leave it out"
    if waiver.has_expired(today):
        return f"it has ended; {', '.join(lacking)} must hold, or needs another"
    return "another before it covers the same"


def _decision(result: str, rows: Sequence[BundledRow], runs: Sequence[BundledRun], problems: Sequence[Problem]) -> str:
    """One line: on what the rows ran that pass, and what they are no evidence of; or what stands against it, by name."""
    if result == "FAILED":
        reasons = list(dict.fromkeys(map(_briefly, problems)))
        more = f"; and {len(reasons) - _REASONS_SHOWN} more" if len(reasons) > _REASONS_SHOWN else ""
        told = "; ".join(reasons[:_REASONS_SHOWN])
        return f"NOT SIGNED OFF: {_count(len(reasons), 'reason', 'reasons')}: {told}{more}."
    passed = [row for row in rows if row.standing == "passed"]
    waived = sum(row.standing == "waived" for row in rows)
    words, also = ("SIGNED OFF WITH WAIVERS", f", {waived} waived") if result == "WARNED" else ("SIGNED OFF", "")
    unsaid = [f" Tier 2 is indicative: measured by the profile {name}." for name in _indicative(rows, runs)]
    if not any(row.tier == 2 and row.outcome is not Outcome.NOT_RUN for row in rows):
        unsaid.append(" Nothing of tier 2 was measured.")
    tensorrt = [row for row in rows if row.runtime == "tensorrt"]
    if tensorrt and not any(row.standing == "passed" for row in tensorrt):
        unsaid.append(" No evidence about TensorRT.")
    return f"{words}: {_count(len(passed), 'row passes', 'rows pass')} ({_where_ran(passed)}){also}.{''.join(unsaid)}"


def _briefly(problem: Problem) -> str:
    """The whole of it is told where problems are listed."""
    if not problem.row:
        return problem.words.partition(". ")[0].rstrip(".")
    return f"{problem.row} {'fails' if problem.fails else 'is not shown'}"


def _where_ran(rows: Sequence[BundledRow]) -> str:
    counts = Counter(f"on {row.placement}" if row.placement else "without a device" for row in rows).most_common()
    more = sum(count for _, count in counts[_PLACES_SHOWN:])
    told = [f"{count} {place}" for place, count in counts[:_PLACES_SHOWN]]
    return ", ".join([*told, f"{more} elsewhere"] if more else told)


def _indicative(rows: Sequence[BundledRow], runs: Sequence[BundledRun]) -> list[str]:
    """Profiles that decide nothing, by which rows of Tier-2 ran."""
    profiles = {run.id: run.profile for run in runs}
    ran = [row for row in rows if row.tier == 2 and row.outcome is not Outcome.NOT_RUN]
    return sorted({profiles[row.run] for row in ran} - {"", *_DECIDE})


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _notes(waivers: Sequence[BundledWaiver], today: datetime.date) -> Iterator[str]:
    for waiver in waivers:
        if len(waiver.rows) > _WIDE_ROWS:
            yield f"The waiver of {waiver.owner} for {waiver.about} covers {len(waiver.rows)} rows: are all of them meant?"
        if (datetime.date.fromisoformat(waiver.until) - today).days > _LONG_DAYS:
            yield f"The waiver of {waiver.owner} for {waiver.about} holds until {waiver.until}, which is more than a year."


def _odd_runs(runs: Sequence[Run], made_at: str) -> Iterator[str]:
    for run in runs:
        if run.schema < _RAW_SINCE:
            yield f"Run {run.id} is of schema {run.schema}, which kept no raw outputs: rows about numerics are judged by figures."
        profile = run.settings.get("profile", "")
        if profile != "signoff" and any(verdict.case.tier == 2 for verdict in run.verdicts):
            yield f"Run {run.id} measured by the profile {profile or 'that it does not name'}; a release is measured by signoff."
        if _is_after(run.finished_at, made_at):
            yield f"Run {run.id} ended at {run.finished_at}, after it was signed: the clock of one machine is wrong."


def _is_after(one: str, other: str) -> bool:
    try:
        return datetime.datetime.fromisoformat(one) > datetime.datetime.fromisoformat(other)
    except (ValueError, TypeError):  # no time, or one without a zone
        return False


def statement_of(signoff: SignOff, files: Mapping[str, str]) -> dict[str, object]:
    """An in-toto Statement v1 with a test-result predicate v0.1. ``files``: sha256 of each file of the bundle by name.

    Subjects are the files, and after them what was tested: its name begins with ``ARTIFACT``. Rows that decide nothing
    (measured, not run, simulated) are in none of the lists. (github.com/in-toto/attestation, spec/predicates/test-result.md)
    """
    subjects = [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(files.items())]
    subjects += [{"name": name, "digest": {"sha256": digest}} for name, digest in _artifacts(signoff)]
    lists = {"passedTests": "passed", "warnedTests": "waived"}
    return {
        "_type": _STATEMENT,
        "subject": subjects,
        "predicateType": _PREDICATE,
        "predicate": {
            "result": signoff.result,
            "configuration": _configuration(signoff, files),
            **{name: [row.id for row in signoff.rows if row.standing == standing] for name, standing in lists.items()},
            "failedTests": [row.id for row in signoff.rows if row.standing in ("failed", "open")],
        },
    }


def _artifacts(signoff: SignOff) -> list[tuple[str, str]]:
    """(name, sha256) of models, engines and calibrations that real rows ran, each once."""
    found: dict[tuple[str, str], str] = {}
    for row in signoff.rows:
        for kind in _TESTED:
            digest = row.lineage.get(kind, "")
            if not row.simulated and _SHA256.fullmatch(digest):
                found.setdefault((kind, digest), f"{ARTIFACT}{kind}/{row.id}")
    return sorted((name, digest) for (_, digest), name in found.items())


def tested_as(signoff: SignOff, sha256: str) -> tuple[BundledRow, ...]:
    """The rows of real devices that ran a model, an engine or a calibration of this digest."""
    return tuple(
        row
        for row in signoff.rows
        if not row.simulated
        and any(value == sha256 and name.partition("[")[0] in _TESTED for name, value in row.lineage.items())
    )


def _configuration(signoff: SignOff, files: Mapping[str, str]) -> list[dict[str, object]]:
    """What the runs were made and judged by."""
    told: list[dict[str, object]] = []
    if signoff.pack_sha256:
        told.append({"name": "pack", "digest": {"sha256": signoff.pack_sha256}})
    for run in signoff.runs:
        annotations = {"run": run.id, "profile": run.profile, "board": run.board, "require": " ".join(run.require)}
        digest = {"sha256": run.configuration_sha256}
        told.append({"name": "configuration", "digest": digest, "annotations": annotations})
    if "waivers.toml" in files:
        waivers = [
            {"owner": one.owner, "reason": one.reason, "until": one.until, "rows": list(one.rows)}
            for one in signoff.waivers
        ]
        digest = {"sha256": files["waivers.toml"]}
        told.append({"name": "waivers.toml", "digest": digest, "annotations": {"waivers": waivers}})
    return told


def page(signoff: SignOff) -> str:
    """``SIGNOFF.md``: the same for people."""
    lines = ["# Sign-off", "", f"**{_plain(signoff.decision)}**", ""]
    lines += [
        f"Made {signoff.made_at} by trigate {_plain(signoff.trigate_version)}; pack {_plain(signoff.pack_sha256) or 'none'}.",
        "",
    ]
    lines += _section("What stands against it", [f"- {_plain(problem.words)}" for problem in signoff.problems])
    lines += _section(
        "Waivers",
        _table(
            ("owner", "reason", "until", "covers"),
            [
                (one.owner, one.reason, one.until, ", ".join(one.rows) or f"nothing: {one.unused}")
                for one in signoff.waivers
            ],
        ),
    )
    lines += _section(
        "Runs",
        _table(
            ("run", "finished", "host", "profile", "board", "last line"),
            [(run.id, run.finished_at, _host(run), run.profile, run.board, run.last_line) for run in signoff.runs],
        ),
    )
    lines += _section(
        "Rows",
        _table(
            ("row", "standing", "outcome", "required", "run", "reason", "held against"),
            [
                (
                    row.id,
                    _standing_words(row),
                    row.outcome.value,
                    "yes" if row.required else "",
                    row.run[:8],
                    row.reason,
                    row.held_against,
                )
                for row in signoff.rows
            ],
        ),
    )
    facts = sorted({name for run in signoff.runs for name in run.environment})
    lines += _section(
        "Environment",
        _table(
            ("", *(run.id[:8] for run in signoff.runs)),
            [(name, *(run.environment.get(name, "") for run in signoff.runs)) for name in facts],
        ),
    )
    lines += _section(
        "Lineage",
        _table(
            ("row", "descends from", ""),
            [(row.id, name, value) for row in signoff.rows for name, value in row.lineage.items()],
        ),
    )
    lines += _section("Notes", [f"- {_plain(note)}" for note in signoff.notes])
    lines += ["Check it with `trigate verify`, which believes nothing on this page.", ""]
    return "\n".join(lines)


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""] if lines else []


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell if line is lines[1] else _plain(cell) for cell in line) + " |" for line in lines]


def _plain(text: str) -> str:
    """Text out of a run, which may be anybody's, without a meaning in Markdown or HTML."""
    kept = "".join(letter if letter.isprintable() else " " for letter in text)
    return (
        re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", kept)
        .replace("\\<", "&lt;")
        .replace("\\>", "&gt;")
        .replace("\\&", "&amp;")
    )


def _standing_words(row: BundledRow) -> str:
    waived = f"waived ({row.waiver})" if row.waiver is not None else row.standing
    return f"{waived}, SIMULATED" if row.simulated and row.standing != "simulated" else waived


def _host(run: BundledRun) -> str:
    facts = (run.environment.get(name, "") for name in ("module", "gpu", "cpu", "os"))
    return next((fact for fact in facts if fact and fact != "none"), "")
