from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from reports import markdown
from reports.run_folder import read_run

pytestmark = pytest.mark.covers("RE-01")


@pytest.fixture(scope="module")
def text(full: Path) -> str:
    return (full / "report.md").read_text(encoding="utf-8")


def html_of(text: str) -> str:
    return str(MarkdownIt("commonmark").enable("table").render(text))


@pytest.mark.covers("RE-04")
def test_the_verdict_and_the_last_line_come_first(text: str) -> None:
    lines = [line for line in text.splitlines() if line]
    assert lines[0] == "## trigate: FAIL"
    assert lines[1] == "At least one row fails. (exit code 1)"
    assert lines[2].startswith("**PASS 23, FAIL 1,")
    assert "No evidence about TensorRT." in lines[2]


def test_it_renders_to_tables_with_as_many_cells_as_headings(text: str) -> None:
    page = html_of(text)
    tables = re.findall(r"<table>(.*?)</table>", page, re.DOTALL)
    assert len(tables) == 5
    for table in tables:
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        assert len({len(re.findall(r"<t[hd]", row)) for row in rows}) == 1


def test_a_hostile_name_is_text_and_pings_nobody(text: str) -> None:
    page = html_of(text)
    assert "<script" not in page
    assert "&lt;script&gt;alert" in page
    assert "@octocat" not in text
    assert "#1 " not in text
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "\x00" not in text


@pytest.mark.covers("T1-03")
def test_what_did_not_run_is_told_with_reason_and_count(text: str) -> None:
    assert "| tensorrt: not installed | 18 |" in text


def test_a_long_run_is_cut_to_fit_a_comment_with_the_gravest_rows_kept_and_the_rest_counted(full: Path) -> None:
    run = read_run(full)
    many = [
        replace(
            v,
            summary=replace(
                v.summary, measurement=replace(v.summary.measurement, case=replace(v.case, id=f"{v.case.id}-{at}"))
            ),
        )
        for at in range(30)
        for v in run.verdicts
    ]
    text = markdown.render(replace(run, planned=(), verdicts=tuple(many)))
    assert 10_000 < len(text) <= markdown.LIMIT
    assert "rows are in `report.html` and `tables/verdicts.csv`." in text
    assert "✗ FAIL | lightglue" in text


def test_a_command_cannot_close_its_code_block(full: Path) -> None:
    run = replace(read_run(full), command="x\n```\n<b>bold</b>\n````")
    page = html_of(markdown.render(run))
    assert "<b>" not in page
    assert "&lt;b&gt;bold" in page


def test_a_run_that_is_not_finished_says_so(full: Path) -> None:
    run = read_run(full)
    text = markdown.render(replace(run, exit_code=None, complete=False, last_line="", verdicts=run.verdicts[:4]))
    assert text.startswith("## trigate: NOT FINISHED\n\n4 of 68 rows have a verdict")
    assert "not reached: the run is not finished | 64, 11 required |" in text
