"""``report.md``: the run as a comment on a pull request. GitHub takes 65,536 characters; rows are left out, counted, to fit.

The verdict first, then the three rows that matter most, what fails, what is open, what did not run; the rest opens on a
click. Sections share the room: a short one is whole, and the long ones get equal parts, the gravest rows first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.records import ABOUT_A_FLIGHT, ABOUT_RUNTIMES, Outcome, Run, Verdict
from reports import combine, words
from reports.ranking import matters, nearest
from reports.tables import figure_of

__all__ = ["LIMIT", "render"]

LIMIT = 60_000
"""Characters; leaves room for what a bot puts around it."""

_CELL = 240
"""Characters of one cell; more of a reason is in ``report.html``."""

_CLAUSES_OF = 12
"""Runtimes, at most, that the table of every clause has a column for."""

Line = Sequence[str]

_JUDGED = ("", "Model", "Lane", "Ran on", "Of its tolerance", "Why")
_TIMED = ("", "Model", "Lane", "Ran on", "Budget of p95", "p95", "p50", "Throttled", "Calls", "Why")


@dataclass(frozen=True)
class _Section:
    """A table to be. ``lines`` are made only as far as there is room for them; ``count``: how many there are."""

    title: str
    headings: Line
    lines: Callable[[], Iterable[Line]]
    count: int
    is_folded: bool = True

    def draw(self, room: int) -> str:
        """The section in at most about ``room`` characters, with what was left out counted; empty where it has no line."""
        if not self.count:
            return ""
        head = f"| {' | '.join(self.headings)} |\n| {' | '.join(['---'] * len(self.headings))} |"
        taken, left = [head], room - len(head) - len(self.title) - 200
        for line in self.lines():
            text = f"| {' | '.join(line)} |"
            left -= len(text) + 1
            if left < 0:
                break
            taken.append(text)
        missing = self.count - len(taken) + 1
        if missing:
            taken += ["", f"{missing} more of {self.count} rows are in `report.html` and `tables/verdicts.csv`."]
        body = "\n".join(taken)
        if self.is_folded:
            return f"<details><summary>{self.title}</summary>\n\n{body}\n\n</details>"
        return f"### {self.title}\n\n{body}"


def render(
    run: Run,
    doubts: Sequence[str] = (),
    parts: Mapping[str, Run] | None = None,
    sources: Mapping[str, str] | None = None,
) -> str:
    """The text, shorter than ``LIMIT``. ``doubts``: what the record says against itself. Of several runs together, ``parts``
    has each by its label, and ``sources`` the label of each case id.
    """
    rows = sorted(words.rows_of(run), key=lambda row: _GRAVITY[row.outcome])
    first = _first(run, rows, doubts)
    last = ["### Again", _fenced(run.command[:4000]), _text(_host(run), 2000)]
    room = LIMIT - sum(map(len, (*first, *last))) - 2 * (len(first) + len(last)) - 200
    sections = [_runs(parts or {}, sources or {}), *_sections(rows, sources or {})]
    return "\n\n".join(filter(None, (*first, *_fitted(sections, room), *last))) + "\n"


def _first(run: Run, rows: Sequence[Verdict], doubts: Sequence[str]) -> list[str]:
    code = "not finished" if run.exit_code is None else f"exit code {run.exit_code}"
    why = "interrupted" if run.interrupted else "not finished when this was drawn"
    return [
        f"## trigate: {words.title(run)}",
        f"{_text(words.headline(run))} ({code})",
        f"**{_text(words.last_line(run), 2000)}**",
        "" if run.complete else f"**Not complete:** {why}; what has no verdict is NOT RUN.",
        "\n".join(f"**Doubt:** {_text(doubt, 500)}\n" for doubt in doubts[:10]).rstrip("\n"),
        _simulated(rows),
        "### What matters most" if rows else "",
        "\n".join(_matters(rows)),
    ]


def _fitted(sections: Sequence[_Section], room: int) -> list[str]:
    """The sections in the room that there is. Who needs less than an equal part leaves the rest to the others."""
    drawn = [section.draw(room) for section in sections]
    if sum(map(len, drawn)) + 2 * len(drawn) <= room:
        return drawn
    by_need = sorted(range(len(drawn)), key=lambda at: len(drawn[at]))
    for done, at in enumerate(by_need):
        part = room // (len(drawn) - done) - 2
        if len(drawn[at]) > part:
            drawn[at] = sections[at].draw(part)
        room -= len(drawn[at]) + 2
    return drawn


def _runs(parts: Mapping[str, Run], sources: Mapping[str, str]) -> _Section:
    lines = [tuple(map(_text, line)) for line in combine.told(parts, sources)]
    return _Section("Runs", combine.HEADINGS, lambda: lines, len(lines), is_folded=False)


def _sections(rows: Sequence[Verdict], sources: Mapping[str, str]) -> list[_Section]:
    """By gravity: what fails, what is open, what did not run; then, folded, every row that ran."""
    ran = [row for row in rows if row.outcome is not Outcome.NOT_RUN]
    fails = [row for row in ran if row.outcome is Outcome.FAIL]
    undecided = [row for row in ran if words.is_open(row)]
    others = ("pair", "latency", "load", *ABOUT_A_FLIGHT, *ABOUT_RUNTIMES)
    judged = [row for row in ran if row.case.kind not in others]
    timed = [row for row in ran if row.case.kind == "latency"]
    whole = _whole([row for row in ran if row.case.kind in ("load", *ABOUT_A_FLIGHT)])
    missing = _not_run(rows)
    told = ("", "Row", *(("Run",) if sources else ()), "Ran on", "Why", "What to do")
    return [
        _Section("Fails", told, lambda: _told(fails, sources), len(fails), is_folded=False),
        _Section("Not decided", told, lambda: _told(undecided, sources), len(undecided), is_folded=False),
        _Section("Not run", ("Reason", "Rows", "What to do"), lambda: missing, len(missing), is_folded=False),
        _Section(f"Numerics: {_counts(judged)}", _JUDGED, lambda: _judged(judged), len(judged)),
        _Section(f"Latency: {_counts(timed)}", _TIMED, lambda: _timed(timed), len(timed)),
        _Section("Memory, heat, loading", ("", "What", "Lane", "The others", "Why"), lambda: whole, len(whole)),
        *(
            section
            for kind in ABOUT_RUNTIMES
            for section in _about(kind, [row for row in ran if row.case.kind == kind])
        ),
    ]


def _counts(rows: Iterable[Verdict]) -> str:
    return ", ".join(f"{outcome.value} {count:,}" for outcome, count in words.tally(rows).items() if count)


def _matters(rows: Sequence[Verdict]) -> list[str]:
    lines = []
    for at, matter in enumerate(matters(rows), start=1):
        row = matter.row
        more = f" (and {words.counted(matter.others, 'more row')})" if matter.others else ""
        told = f"{_text(row.case.id)}{more}: {_text(words.as_one((matter.why, row.remedy)), 2 * _CELL)}"
        lines.append(f"{at}. {words.SYMBOLS[row.outcome]} **{row.outcome.value}** {told}")
    return lines


def _told(rows: Sequence[Verdict], sources: Mapping[str, str]) -> Iterator[Line]:
    for row in rows:
        run = (_text(sources.get(row.case.id, "")),) if sources else ()
        placed = _text(row.summary.measurement.placement) or words.DASH
        yield _outcome(row), _text(row.case.id), *run, placed, _text(_why(row)), _text(row.remedy)


def _why(row: Verdict) -> str:
    judgement, figures = row.summary.judgement, row.summary.latency
    rate_hz = row.summary.measurement.rate_hz or (figures.calls_per_s if figures else None)
    decides = words.undecided(judgement.needed, rate_hz) if judgement and row.outcome is Outcome.INCONCLUSIVE else ""
    doubt = words.no_evidence(row)
    return words.as_one(
        (f"no evidence: {doubt}" if doubt else "", row.reason, f"To decide: {decides}" if decides else "")
    )


def _judged(rows: Sequence[Verdict]) -> Iterator[Line]:
    for row in rows:
        measurement, near = row.summary.measurement, nearest(row)
        kind = "" if row.case.kind == "parity" else f" ({row.case.kind})"
        share = f"{words.percent(near[0])} ({_text(near[1])})" if near else words.DASH
        why = row.reason if row.outcome is not Outcome.PASS or not measurement.witness else ""
        lane = _text(words.lane(row.case, measurement.lane_name) + kind)
        placed = _text(measurement.placement) or words.DASH
        yield _outcome(row), _text(row.case.model), lane, placed, share, _text(why)


def _about(kind: str, rows: Sequence[Verdict]) -> Iterator[_Section]:
    """The rows about runtimes, each clause that one breaks, and every clause with who keeps it."""
    title = words.ABOUT.get(kind, (kind.capitalize(), ""))[0]
    ran = [row for row in rows if row.checks]
    verdicts = [
        (_outcome(row), _text(words.lane(row.case)), _text(row.summary.measurement.placement), _text(row.reason))
        for row in ran
    ]
    yield _Section(f"{title}: {_counts(ran)}", ("", "Runtime", "Ran on", "Why"), lambda: verdicts, len(verdicts))
    broken = [
        (_text(words.subject(row.case)), _text(check.name), _text(check.reason), _text(check.means))
        for row in ran
        for check in row.checks
        if check.outcome is Outcome.FAIL
    ]
    seen = ("Runtime", "Clause", "What was seen", "What it means")
    yield _Section(f"{title}: broken", seen, lambda: broken, len(broken), is_folded=False)
    yield _clauses(title, ran)


def _clauses(title: str, ran: Sequence[Verdict]) -> _Section:
    outcomes = {(row.case.id, check.name): check.outcome for row in ran for check in row.checks}
    clauses = {check.name: check.means for row in ran for check in row.checks}
    shown = ran[:_CLAUSES_OF]

    def lines() -> Iterator[Line]:
        for name, means in clauses.items():
            kept = (outcomes.get((row.case.id, name)) for row in shown)
            yield _text(name), _text(means), *(words.SYMBOLS[outcome] if outcome else words.DASH for outcome in kept)

    everyone = (_text(words.subject(row.case), 40) for row in shown)
    return _Section(f"{title}: every clause", ("Clause", "When it is broken", *everyone), lines, len(clauses))


def _timed(rows: Sequence[Verdict]) -> Iterator[Line]:
    for row in rows:
        measurement, figures, judgement = row.summary.measurement, row.summary.latency, row.summary.judgement
        budget_ns = judgement.budget_ns if judgement else None
        quantiles = [words.quantile(at) for at in (figures.p95, figures.p50)] if figures else [words.DASH] * 2
        share = figure_of(row, "throttled_requests_share")
        told = row.outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE) or not figures
        yield (
            _outcome(row),
            _text(row.case.model),
            _text(words.lane(row.case, measurement.lane_name)),
            _text(measurement.placement),
            words.quantity(budget_ns, "ns"),
            *quantiles,
            words.DASH if share is None else words.percent(share / 100),
            f"{figures.count:,}" if figures else words.DASH,
            _text(_why(row)) if told else "",
        )


def _whole(rows: Sequence[Verdict]) -> list[Line]:
    """A line per kind and lane of what is about whole processes: its gravest row, and how the others ended."""
    grouped: dict[tuple[str, str], list[Verdict]] = {}
    for row in rows:
        grouped.setdefault((row.case.kind, words.lane(row.case, row.summary.measurement.lane_name)), []).append(row)
    order = (*words.ABOUT_A_FLIGHT, "load")
    lines: list[Line] = []
    for (kind, lane), own in sorted(grouped.items(), key=lambda item: order.index(item[0][0])):
        name = words.ABOUT_A_FLIGHT[kind][0] if kind in words.ABOUT_A_FLIGHT else f"Load of {own[0].case.model}"
        told = _text(words.as_one((own[0].reason, own[0].remedy)))
        lines.append((_outcome(own[0]), _text(name), _text(lane), _counts(own[1:]) or words.DASH, told))
    return lines


def _not_run(rows: Iterable[Verdict]) -> list[Line]:
    reasons: dict[tuple[str, str], list[bool]] = {}
    for row in rows:
        if row.outcome is Outcome.NOT_RUN:
            reasons.setdefault((row.reason, row.remedy), []).append(row.case.required)
    ordered = sorted(reasons.items(), key=lambda item: (-any(item[1]), -len(item[1])))
    return [
        (_text(reason), f"{len(own)}{f', {sum(own)} required' if any(own) else ''}", _text(remedy))
        for (reason, remedy), own in ordered
    ]


def _outcome(row: Verdict) -> str:
    required = ", required" if row.case.required and row.outcome is not Outcome.PASS else ""
    measurement = row.summary.measurement
    simulated = ", SIMULATED" if measurement.simulated else "" if measurement.witness else ", no witness"
    return f"{words.SYMBOLS[row.outcome]} {row.outcome.value}{required}{simulated}"


def _simulated(rows: Sequence[Verdict]) -> str:
    count = sum(row.summary.measurement.simulated for row in rows)
    return f"**SIMULATED, and no evidence: {count:,} of {words.counted(len(rows), 'row')}.**" if count else ""


_ESCAPES = {
    **{mark: f"\\{mark}" for mark in "\\`*_{}[]|~$"},
    **{mark: f"{mark}\u2060" for mark in "@#"},  # a word joiner: no mention, no link
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
}


_LINKED = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=\bGH)(?=-\d)", re.IGNORECASE)
"""Where GitHub would see the address of a page or an issue, although nothing marks it as one."""

_TO_THE_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")
"""Letters that would turn what stands after them; isolated, they do not."""


def _text(text: str, most: int = _CELL) -> str:
    """Text from a run, so that nothing in it is markup or a link, or pings a person; at most 1.5 ``most`` characters and 2."""
    shown = _LINKED.sub("\u2060", " ".join(words.plain(text[: 4 * most]).split()))
    pieces = [_ESCAPES.get(character, character) for character in shown[:most]]
    room = most + most // 2 - sum(map(len, pieces))
    while room < 0:
        room += len(pieces.pop())
    told = "".join(pieces) + ("…" if len(pieces) < len(shown) else "")
    return f"\u2068{told}\u2069" if _TO_THE_LEFT.search(told) else told


def _fenced(text: str) -> str:
    """A code block that nothing in the text can close."""
    inside = words.plain(text)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", inside)), default=0))
    return f"{fence}\n{inside}\n{fence}" if inside else ""


def _host(run: Run) -> str:
    known = {name: value for name, value in run.environment.items() if value not in ("", "none", "unknown")}
    facts = words.pairs({name.removesuffix("_bytes"): words.fact(name, value) for name, value in known.items()})
    return f"Seed {run.seed}, trigate {run.trigate_version}, run {run.id}, {run.started_at}. {facts}."


_GRAVITY: Mapping[Outcome, int] = {outcome: at for at, outcome in enumerate(words.SYMBOLS)}
