from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from harness.records import Case, Check, Measurement, Outcome, Run, Summary, Verdict
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
    assert lines[1] == "lightglue-onnx\\_trt\\_ep-fp32-b1 fails. (exit code 1)"
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


def test_an_address_in_a_name_is_no_link_and_letters_from_right_to_left_turn_nothing_after_them(full: Path) -> None:
    run = read_run(full)
    name = "https://evil.example www.evil.example mailto:a@b.example GH-12 gh-7 عربي"
    measurement = replace(run.verdicts[0].summary.measurement, case=replace(run.verdicts[0].case, id=name))
    row = Verdict(Summary(measurement), Outcome.FAIL, name)
    text = markdown.render(replace(run, planned=(), verdicts=(row,)))
    assert not re.search(r"://|www\.|@b|GH-\d", text, re.IGNORECASE)
    assert "evil.example" in text
    page = str(MarkdownIt("gfm-like", {"linkify": False}).render(text))
    assert "<a " not in page
    assert re.search("\u2068[^\u2069|]*عربي\u2069", text)
    assert text.count("\u2068") == text.count("\u2069")


def test_the_host_is_told_without_what_it_has_not_and_bytes_in_their_unit(full: Path) -> None:
    facts = {"os": "Linux", "memory_bytes": "17179869184", "jetpack": "none", "sm": "unknown", "l4t": ""}
    text = markdown.render(replace(read_run(full), environment=facts))
    assert text.endswith("os Linux, memory 16.0 GiB.\n")


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


def many(outcome: Outcome, name: str = "row", count: int = 2_000) -> Run:
    """Rows of every kind, each with a reason of its own."""
    kinds = ("parity", "latency", "load", "conformance", "artifact")
    rows = []
    for at in range(count):
        case = Case(f"{name}-{at}", 1, kinds[at % 5], f"{name} {at}", f"runtime {at}", "fp16", "fp16", "small")
        checks = (Check(f"clause {at}", outcome, name, name),)
        rows.append(
            Verdict(
                Summary(Measurement(case=case, lane_name=f"lane {at}")), outcome, f"{name} {at}", checks, remedy=name
            )
        )
    cases = tuple(row.case for row in rows)
    return Run("i", "", "", True, 1, name * 999, name * 999, 0, {}, {name: name}, "", "", cases, tuple(rows), name)


@pytest.mark.parametrize(
    ("outcome", "name", "count"),
    [
        (Outcome.FAIL, "row", 10_000),
        (Outcome.NOT_RUN, "&<|@#*" * 60, 2_500),
        (Outcome.INCONCLUSIVE, "&<|@#*" * 60, 2_500),
        (Outcome.PASS, "名前 عربي 🛩", 2_500),
        (Outcome.MEASURED, "名前 عربي 🛩", 2_500),
    ],
)
def test_ten_thousand_rows_fit_a_comment_with_what_was_cut_counted(outcome: Outcome, name: str, count: int) -> None:
    text = markdown.render(many(outcome, name, count), doubts=[name * 100] * 50)
    assert len(text) < 65_536
    assert text.startswith("## trigate: FAIL\n")
    cut = [int(count) for count in re.findall(r"^(\d+) more of \d+ rows are in `report.html`", text, re.MULTILINE)]
    assert sum(cut) > count // 3
    assert text.count("<details>") == text.count("</details>")
    assert "What matters most" in text
    assert "### Again" in text, "the end is not what is cut"


def test_short_sections_are_whole_beside_long_ones_and_long_ones_share_the_rest() -> None:
    run = many(Outcome.FAIL)
    few = tuple(replace(row, outcome=Outcome.NOT_RUN, reason="no GPU") for row in run.verdicts[:7])
    text = markdown.render(replace(run, verdicts=(*few, *run.verdicts[7:])))
    assert "| no GPU | 7 |" in text
    sections = {part.partition("\n")[0]: len(part) for part in re.split(r"\n(?=### |<details>)", text)}
    long = [size for title, size in sections.items() if title.startswith(("### Fails", "<details><summary>Numerics"))]
    assert len(long) == 2
    assert max(long) < 1.2 * min(long)


@pytest.mark.covers("RE-04")
def test_what_fails_is_open_to_see_and_all_other_rows_are_folded(text: str) -> None:
    shown = re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)
    assert "### Fails" in shown
    assert shown.count("✗ FAIL |") == 1
    assert "### Not decided" in shown
    assert "✓ PASS |" not in shown
    assert "<summary>Numerics: FAIL 1, INCONCLUSIVE 1, PASS 23</summary>" in text


def test_an_interrupted_run_says_so_at_the_top(full: Path) -> None:
    run = replace(read_run(full), interrupted=True, complete=False, exit_code=130, verdicts=read_run(full).verdicts[:9])
    top = markdown.render(run).partition("### What matters most")[0]
    assert top.startswith("## trigate: INTERRUPTED\n")
    assert "**Not complete:** interrupted; what has no verdict is NOT RUN." in top


def test_a_doubt_stands_above_the_rows(full: Path) -> None:
    text = markdown.render(read_run(full), doubts=["the clock ran <backward>"])
    assert "**Doubt:** the clock ran &lt;backward&gt;" in text.partition("### What matters most")[0]
