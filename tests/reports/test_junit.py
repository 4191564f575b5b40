from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records import Case, Measurement, Outcome, Run, Summary, Verdict
from reports import junit

pytestmark = pytest.mark.covers("RE-04")

CASE = Case("disk-tensorrt-fp16-b1", 1, "parity", "disk", "tensorrt", "fp16", "fp16", "small")


def run_of(*verdicts: Verdict, code: int | None = 0, text: str = "x") -> Run:
    return Run(
        id=text,
        started_at="2026-03-04T10:00:00+00:00",
        finished_at="",
        complete=True,
        exit_code=code,
        last_line=text,
        command=text,
        seed=0,
        settings={},
        environment={},
        configuration_sha256="",
        pack_sha256="",
        planned=tuple(verdict.case for verdict in verdicts),
        verdicts=verdicts,
        trigate_version="0.1.0",
    )


def row(outcome: Outcome, *, required: bool, simulated: bool = False, witness: bool = True) -> Verdict:
    measurement = Measurement(case=replace(CASE, required=required), simulated=simulated, witness=witness)
    return Verdict(Summary(measurement), outcome, "because")


@pytest.mark.parametrize(
    ("outcome", "required", "tag"),
    [
        (Outcome.PASS, False, None),
        (Outcome.PASS, True, None),
        (Outcome.FAIL, False, "failure"),
        (Outcome.FAIL, True, "failure"),
        (Outcome.NOT_RUN, False, "skipped"),
        (Outcome.NOT_RUN, True, "error"),
        (Outcome.MEASURED, False, None),
        (Outcome.MEASURED, True, "error"),
        (Outcome.INCONCLUSIVE, False, "error"),
        (Outcome.INCONCLUSIVE, True, "error"),
    ],
)
def test_each_outcome_has_its_element(outcome: Outcome, required: bool, tag: str | None) -> None:
    root = ET.fromstring(
        junit.render(run_of(row(outcome, required=required)).__class__(**vars(run_of(row(outcome, required=required)))))
    )
    case = root.find(".//testcase[@name='disk-tensorrt-fp16-b1']")
    assert case is not None
    found = [child for child in case if child.tag in ("failure", "error", "skipped")]
    assert [child.tag for child in found] == ([tag] if tag else [])
    assert all(child.get("message") == "because" for child in found)


@pytest.mark.parametrize("doubt", [{"simulated": True}, {"witness": False}])
def test_a_required_pass_that_is_no_evidence_is_an_error(doubt: dict[str, bool]) -> None:
    root = ET.fromstring(junit.render(run_of(row(Outcome.PASS, required=True, **doubt), code=3)))
    error = root.find(".//error")
    assert error is not None
    assert "no evidence" in error.attrib["message"]


@pytest.mark.parametrize("code", [2, 3, 4, 130, None])
def test_the_file_is_never_greener_than_the_exit_code(code: int | None) -> None:
    root = ET.fromstring(junit.render(run_of(row(Outcome.PASS, required=False), code=code, text="the last line")))
    assert root.get("errors") == "1"
    assert root.findtext(".//testsuite[@name='run']/testcase/error") == "the last line"
    assert ET.fromstring(junit.render(run_of(row(Outcome.PASS, required=False), code=0))).get("errors") == "0"


@pytest.mark.covers("T1-03")
def test_a_planned_row_that_was_not_reached_is_there(full: Path) -> None:
    from reports.run_folder import read_run

    run = read_run(full)
    cut = replace(run, verdicts=run.verdicts[:2], complete=False, exit_code=None)
    names = [case.get("name") for case in ET.fromstring(junit.render(cut)).iter("testcase")]
    assert set(names) >= {case.id for case in run.planned}


def test_the_counts_are_those_of_the_elements(full: Path) -> None:
    root = ET.parse(full / "junit.xml").getroot()
    for suite in (root, *root.findall("testsuite")):
        for attribute, tag in (
            ("tests", "testcase"),
            ("failures", "failure"),
            ("errors", "error"),
            ("skipped", "skipped"),
        ):
            assert int(suite.attrib[attribute]) == len(suite.findall(f".//{tag}"))
    assert [int(root.attrib[name]) for name in ("tests", "failures", "errors", "skipped")] == [68, 1, 2, 18]


@given(st.text())
def test_any_text_gives_a_file_that_parses(text: str) -> None:
    verdict = Verdict(Summary(Measurement(case=replace(CASE, id=text, model=text))), Outcome.FAIL, text, remedy=text)
    root = ET.fromstring(junit.render(run_of(verdict, text=text)))
    assert len(root.findall(".//failure")) == 1


ATTRIBUTES = {
    "testsuites": {"name", "time", "tests", "failures", "errors", "skipped", "disabled"},
    "testsuite": {
        "name",
        "tests",
        "failures",
        "errors",
        "skipped",
        "disabled",
        "time",
        "timestamp",
        "hostname",
        "id",
        "package",
    },
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"name", "classname", "time", "status", "assertions"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "skipped": {"type", "message"},
    "system-out": set(),
}
NEEDED = {
    "testsuite": {"name", "tests", "timestamp"},
    "testcase": {"name", "classname", "time"},
    "property": {"name", "value"},
}
INSIDE = {
    "testsuites": "(testsuite )*",
    "testsuite": "(properties )?(testcase )*(system-out )?",
    "properties": "(property )*",
    "testcase": "(skipped |error |failure )*(system-out )?",
}


def against_the_schema(root: ET.Element) -> list[str]:
    """What Jenkins' junit-10.xsd says against a file: elements, their order, attributes, and figures that are none."""
    found = [] if root.tag == "testsuites" else [f"the root is {root.tag}"]
    for element in root.iter():
        tag, given = element.tag, set(element.attrib)
        found += [f"{tag} has {name}" for name in given - ATTRIBUTES.get(tag, set())]
        found += [f"{tag} lacks {name}" for name in NEEDED.get(tag, set()) - given]
        inside = "".join(f"{child.tag} " for child in element)
        if not re.fullmatch(INSIDE.get(tag, ""), inside):
            found.append(f"{tag} holds {inside}")
        for name in given & {"tests", "failures", "errors", "skipped"}:
            found += [] if element.attrib[name].isdecimal() else [f"{tag} {name}"]
        if not re.fullmatch(r"\d+(\.\d+)?", element.get("time", "0")):
            found.append(f"{tag} time {element.get('time')}")
    return found


@pytest.mark.parametrize("of", ["full", "flown"])
def test_the_file_is_what_the_readers_of_junit_take(of: str, request: pytest.FixtureRequest) -> None:
    assert against_the_schema(ET.parse(request.getfixturevalue(of) / "junit.xml").getroot()) == []


@pytest.mark.parametrize("code", [0, 3, None])
def test_a_run_without_rows_and_one_with_a_clock_that_ran_backward_are_taken_too(code: int | None) -> None:
    backward = Measurement(case=CASE, duration_ns=-5_000_000_000)
    for run in (run_of(code=code), run_of(Verdict(Summary(backward), Outcome.FAIL, "because"), code=code)):
        assert against_the_schema(ET.fromstring(junit.render(run))) == []


def test_ten_thousand_rows_are_ten_thousand_cases() -> None:
    rows = [
        Verdict(Summary(Measurement(case=replace(CASE, id=f"r{at}", model=f"m{at}"))), Outcome.FAIL, "because")
        for at in range(10_000)
    ]
    root = ET.fromstring(junit.render(run_of(*rows, code=1)))
    assert (root.get("tests"), root.get("failures")) == ("10000", "10000")
    assert against_the_schema(root) == []
