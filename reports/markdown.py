"""``report.md``: the run as a comment on a pull request. GitHub takes 65,536 characters; rows are left out, counted, to fit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harness.records import ABOUT_A_FLIGHT, ABOUT_RUNTIMES, Outcome, Run, Verdict
from reports import words
from reports.ranking import matters, nearest
from reports.tables import figure_of

__all__ = ["LIMIT", "render"]

LIMIT = 60_000
"""Characters; leaves room for what a bot puts around it."""

_CELL = 240
"""Characters of one cell; more of a reason is in ``report.html``."""


_JUDGED = ("", "Model", "Lane", "Ran on", "Of its tolerance", "Why")
_TIMED = ("", "Model", "Lane", "Ran on", "Budget of p95", "p95", "p50", "Throttled", "Calls", "Why")


def render(run: Run) -> str:
    """The text. The gravest rows are the last to be left out."""
    most = len(words.rows_of(run))
    text = _draw(run, most)
    while len(text) > LIMIT and most > 1:
        most //= 2
        text = _draw(run, most)
    return text if len(text) <= LIMIT else text[:LIMIT]


def _draw(run: Run, most: int) -> str:
    rows = sorted(words.rows_of(run), key=lambda row: list(words.SYMBOLS).index(row.outcome))
    others = ("pair", "latency", "load", *ABOUT_A_FLIGHT, *ABOUT_RUNTIMES)
    judged = [row for row in rows if row.case.kind not in others and row.outcome is not Outcome.NOT_RUN]
    timed = [row for row in rows if row.case.kind == "latency" and row.outcome is not Outcome.NOT_RUN]
    whole = [row for row in rows if row.case.kind in ("load", *ABOUT_A_FLIGHT) and row.outcome is not Outcome.NOT_RUN]
    code = "not finished" if run.exit_code is None else f"exit code {run.exit_code}"
    parts = [
        f"## trigate: {words.title(run)}",
        f"{_text(words.headline(run))} ({code})",
        f"**{_text(words.last_line(run), 2000)}**",
        _simulated(rows),
        "### What matters most" if rows else "",
        "\n".join(_matters(rows)),
        _table("Not simply PASS", _JUDGED, _judged(row for row in judged if not words.is_evidence(row)), most),
        _folded(_table("PASS", _JUDGED, _judged(row for row in judged if words.is_evidence(row)), most)),
        *(_about(kind, [row for row in rows if row.case.kind == kind], most) for kind in ABOUT_RUNTIMES),
        _table("Latency", _TIMED, _timed(timed), most),
        "\n".join(_whole(whole)),
        _table("Not run", ("Reason", "Rows", "What to do"), _not_run(rows), most),
        "### Again",
        _fenced(run.command),
        _text(_host(run), 2000),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _matters(rows: Sequence[Verdict]) -> list[str]:
    lines = []
    for at, matter in enumerate(matters(rows), start=1):
        row = matter.row
        more = f" (and {matter.others} more rows)" if matter.others else ""
        told = f"{_text(row.case.id)}{more}: {_text(words.as_one((matter.why, row.remedy)))}"
        lines.append(f"{at}. {words.SYMBOLS[row.outcome]} **{row.outcome.value}** {told}")
    return lines


def _judged(rows: Iterable[Verdict]) -> Iterable[Sequence[str]]:
    for row in rows:
        measurement, near = row.summary.measurement, nearest(row)
        kind = "" if row.case.kind == "parity" else f" ({row.case.kind})"
        share = f"{words.percent(near[0])} ({_text(near[1])})" if near else words.DASH
        why = row.reason if row.outcome is not Outcome.PASS or not measurement.witness else ""
        lane = _text(words.lane(row.case, measurement.lane_name) + kind)
        yield _outcome(row), _text(row.case.model), lane, _text(measurement.placement), share, _text(why)


def _about(kind: str, rows: Sequence[Verdict], most: int) -> str:
    """The rows about runtimes, each clause that one breaks, and folded every clause with who keeps it."""
    title = words.ABOUT.get(kind, (kind.capitalize(), ""))[0]
    ran = [row for row in rows if row.checks]
    outcomes = {(row.case.id, check.name): check.outcome for row in ran for check in row.checks}
    clauses = {check.name: check.means for row in ran for check in row.checks}
    verdicts = (
        (_outcome(row), _text(words.lane(row.case)), _text(row.summary.measurement.placement), _text(row.reason))
        for row in ran
    )
    broken = (
        (_text(words.subject(row.case)), _text(check.name), _text(check.reason), _text(check.means))
        for row in ran
        for check in row.checks
        if check.outcome is Outcome.FAIL
    )
    kept = (
        (
            _text(name),
            _text(means),
            *(
                words.SYMBOLS[outcomes[row.case.id, name]] if (row.case.id, name) in outcomes else words.DASH
                for row in ran
            ),
        )
        for name, means in clauses.items()
    )
    everyone = (_text(words.subject(row.case)) for row in ran)
    parts = (
        _table(title, ("", "Runtime", "Ran on", "Why"), verdicts, most),
        _table(f"{title}: broken", ("Runtime", "Clause", "What was seen", "What it means"), broken, most),
        _folded(_table(f"{title}: every clause", ("Clause", "When it is broken", *everyone), kept, most)),
    )
    return "\n\n".join(filter(None, parts))


def _timed(rows: Iterable[Verdict]) -> Iterable[Sequence[str]]:
    for row in rows:
        measurement, figures, judgement = row.summary.measurement, row.summary.latency, row.summary.judgement
        budget_ns = judgement.budget_ns if judgement else None
        quantiles = [words.quantile(at) for at in (figures.p95, figures.p50)] if figures else [words.DASH] * 2
        share = figure_of(row, "throttled_requests_share")
        told = row.outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE)
        rate_hz = measurement.rate_hz or (figures.calls_per_s if figures else None)
        decides = (
            words.undecided(judgement.needed, rate_hz) if judgement and row.outcome is Outcome.INCONCLUSIVE else ""
        )
        why = words.as_one((row.reason, f"To decide: {decides}" if decides else "")) if told or not figures else ""
        yield (
            _outcome(row),
            _text(row.case.model),
            _text(words.lane(row.case, measurement.lane_name)),
            _text(measurement.placement),
            words.quantity(budget_ns, "ns"),
            *quantiles,
            words.DASH if share is None else words.percent(share / 100),
            f"{figures.count:,}" if figures else words.DASH,
            _text(why),
        )


def _whole(rows: Sequence[Verdict]) -> list[str]:
    """A line per kind and lane of what is about whole processes: its gravest row, and how the others ended."""
    grouped: dict[tuple[str, str], list[Verdict]] = {}
    for row in rows:
        grouped.setdefault((row.case.kind, words.lane(row.case, row.summary.measurement.lane_name)), []).append(row)
    order = (*words.ABOUT_A_FLIGHT, "load")
    lines = []
    for (kind, lane), own in sorted(grouped.items(), key=lambda item: order.index(item[0][0])):
        name = words.ABOUT_A_FLIGHT[kind][0] if kind in words.ABOUT_A_FLIGHT else f"Load of {own[0].case.model}"
        others = ", ".join(f"{outcome.value} {count}" for outcome, count in words.tally(own[1:]).items() if count)
        more = f" (of the other models: {others})" if others else ""
        told = _text(words.as_one((own[0].reason, own[0].remedy)))
        lines.append(f"- {_outcome(own[0])} **{_text(name)}**, {_text(lane)}{more}: {told}")
    return lines


def _not_run(rows: Iterable[Verdict]) -> Iterable[Sequence[str]]:
    reasons: dict[tuple[str, str], int] = {}
    for row in rows:
        if row.outcome is Outcome.NOT_RUN:
            reasons[row.reason, row.remedy] = reasons.get((row.reason, row.remedy), 0) + 1
    return [(_text(reason), str(count), _text(remedy)) for (reason, remedy), count in reasons.items()]


def _outcome(row: Verdict) -> str:
    required = ", required" if row.case.required and row.outcome is not Outcome.PASS else ""
    measurement = row.summary.measurement
    simulated = ", SIMULATED" if measurement.simulated else "" if measurement.witness else ", no witness"
    return f"{words.SYMBOLS[row.outcome]} {row.outcome.value}{required}{simulated}"


def _simulated(rows: Sequence[Verdict]) -> str:
    count = sum(row.summary.measurement.simulated for row in rows)
    return f"**{count} of {len(rows)} rows are SIMULATED and are no evidence.**" if count else ""


def _table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], most: int) -> str:
    lines = list(rows)
    if not lines:
        return ""
    left_out = f"\n\n{len(lines) - most} more rows are in `report.html`." if len(lines) > most else ""
    table = (headings, ["---"] * len(headings), *lines[:most])
    return f"### {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in table) + left_out


def _text(text: str, most: int = _CELL) -> str:
    """Text from a run, so that nothing in it is markup, pings a person or links an issue."""
    shown = " ".join(words.plain(text).split())
    shown = shown if len(shown) <= most else f"{shown[: most - 1]}…"
    shown = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    shown = re.sub(r"([\\`*_{}\[\]|~$])", r"\\\1", shown)
    return re.sub(r"([@#])(?=\w)", "\\1\u2060", shown)  # a word joiner: no mention, no link


def _folded(section: str) -> str:
    """A section that opens on a click."""
    title, _, body = section.removeprefix("### ").partition("\n\n")
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>" if section else ""


def _fenced(text: str) -> str:
    """A code block that nothing in the text can close."""
    inside = words.plain(text)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", inside)), default=0))
    return f"{fence}\n{inside}\n{fence}" if inside else ""


def _host(run: Run) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in run.environment.items() if value)
    return f"Seed {run.seed}, trigate {run.trigate_version}, run {run.id}, {run.started_at}. {facts}."
