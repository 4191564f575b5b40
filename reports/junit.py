"""``junit.xml`` per RE-04: NOT RUN is skipped, what is required and open is an error, FAIL is a failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from harness.records import Outcome, Run, Verdict
from reports import words

__all__ = ["render"]


def render(run: Run, parts: Mapping[str, Run] | None = None, sources: Mapping[str, str] | None = None) -> str:
    """A suite per tier and model, of several runs (``parts``, and the label of each case id in ``sources``) one per run as well.

    The file is never greener than the exit code: what no row says, one more case says.
    """
    suites: dict[tuple[str, int, str], list[Verdict]] = {}
    for row in words.rows_of(run):
        label = (sources or {}).get(row.case.id, "")
        suites.setdefault((label, row.case.tier, row.case.model), []).append(row)
    root = ET.Element("testsuites", name="trigate", time=_seconds(words.rows_of(run)))
    for (label, tier, model), rows in suites.items():
        _suite(root, f"tier{tier}.{model}", label, (parts or {}).get(label, run), rows)
    if run.exit_code != 0 and root.find(".//failure") is None and root.find(".//error") is None:
        suite = ET.SubElement(root, "testsuite", name="run", timestamp=run.started_at, time="0")
        case = ET.SubElement(suite, "testcase", classname="trigate", name="run", time="0")
        ET.SubElement(case, "error", type="run", message=words.headline(run)).text = words.last_line(run)
    _count(root)
    for element in root.iter():
        element.text = words.plain(element.text) if element.text else element.text
        element.attrib = {name: words.plain(value) for name, value in element.attrib.items()}
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, name: str, label: str, run: Run, rows: Sequence[Verdict]) -> None:
    title = f"{label}.{name}" if label else name
    suite = ET.SubElement(root, "testsuite", name=title, timestamp=run.started_at, time=_seconds(rows))
    properties = ET.SubElement(suite, "properties")
    for key, value in {"run": run.id, "seed": run.seed, "trigate": run.trigate_version, "command": run.command}.items():
        ET.SubElement(properties, "property", name=key, value=str(value))
    for row in rows:
        case = ET.SubElement(suite, "testcase", classname=f"trigate.{name}", name=row.case.id, time=_seconds([row]))
        outcome = _element(row)
        if outcome is not None:
            tag, kind = outcome
            ET.SubElement(case, tag, type=kind, message=_message(row)).text = _details(row)
        else:
            ET.SubElement(case, "system-out").text = _details(row)


def _element(row: Verdict) -> tuple[str, str] | None:
    """The element of a row's outcome with its type; ``None`` for a row that is green."""
    if row.outcome is Outcome.FAIL:
        return "failure", row.outcome.value
    if words.is_open(row):
        return "error", f"required {row.outcome.value}" if row.case.required else row.outcome.value
    return ("skipped", row.outcome.value) if row.outcome is Outcome.NOT_RUN else None


def _message(row: Verdict) -> str:
    doubt = words.no_evidence(row)
    return f"PASS, but no evidence ({doubt}): {row.reason}" if doubt else row.reason


def _details(row: Verdict) -> str:
    measurement = row.summary.measurement
    where = f"{words.lane(row.case, measurement.lane_name)} on {measurement.placement or 'nothing'}"
    simulated = " SIMULATED: no evidence." if measurement.simulated else ""
    checks = [f"{check.outcome.value} {check.name}: {check.reason}" for check in row.checks]
    first = row.divergence.first.words if row.divergence and row.divergence.first else ""
    lines = (
        f"{row.outcome.value}: {row.reason}",
        row.remedy,
        f"{where}.{simulated}",
        *checks,
        *measurement.notes,
        first,
    )
    return "\n".join(filter(None, lines))


def _seconds(rows: Sequence[Verdict]) -> str:
    return f"{max(0, sum(row.summary.measurement.duration_ns for row in rows)) / 1e9:.3f}"


def _count(root: ET.Element) -> None:
    for element in (*root.findall("testsuite"), root):
        for attribute, path in (
            ("tests", "testcase"),
            ("failures", "failure"),
            ("errors", "error"),
            ("skipped", "skipped"),
        ):
            element.set(attribute, str(len(element.findall(f".//{path}"))))
