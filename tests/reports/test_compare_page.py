"""The bump on a page: drawn from compare.json alone, with nothing of a run taken as markup."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness.compare import compare_runs, write_comparison
from harness.records import RecordError, Verdict
from harness.records.comparison import Change, Comparison, Standing
from reports import compare_page
from reports.compare_page import bar, read, render_html, render_markdown
from tests.harness.compared_folders import a_comparison
from tests.harness.compared_runs import base_runs, broken, new_runs, not_run, on

pytestmark = pytest.mark.covers("RE-02")

HOSTILE = "<script>alert('x')</script>|`a`*b* @octocat \u202egnp \x1b[31m \ud800 名前"
VOID = {"meta", "br", "hr", "img", "line", "path", "rect"}


class Page(HTMLParser):
    """The elements of a page, and what was left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def drawn(found: Comparison, folder: Path) -> tuple[str, str]:
    write_comparison(found, folder)
    html, markdown = compare_page.write(folder)
    return html.read_text(encoding="utf-8"), markdown.read_text(encoding="utf-8")


def a_bump(turn: Callable[[Verdict], Verdict] = broken, **given: Any) -> Comparison:
    return compare_runs(base_runs(), new_runs(change=on("parity", turn), **given))


def test_the_decision_comes_first_then_what_matters_most_then_what_stopped_working_then_what_changed(
    tmp_path: Path,
) -> None:
    html, markdown = drawn(a_bump(ms=12.0), tmp_path)
    titles = ("What matters most", "Stopped or started working", "Model by model", "Changed")
    for text, title in ((html, "{}</h2>"), (markdown, "### {}\n")):
        places = [text.index("HOLD"), *(text.index(title.format(each)) for each in titles)]
        assert places == sorted(places)
        assert (
            text.index("stopped working: it ran") < text.index("more work") < text.index(title.format("Model by model"))
        )
        assert "10.16.0" in text
        assert "the version and the reflash" in text
        assert not re.search(r"\b(Cause|Decision|Standing|State)\.[A-Z]", text)
    assert "+20." in markdown or "+19." in markdown


def test_not_installed_reads_differently_from_broke(tmp_path: Path) -> None:
    html, markdown = drawn(a_bump(not_run), tmp_path)
    for text in (html, markdown):
        assert "not installed on the new side" in text
        assert "stopped working: it ran" not in text
        assert "Install tensorrt on the new side" in text


def test_a_page_is_well_formed_needs_no_network_and_links_only_to_itself(tmp_path: Path) -> None:
    html, _ = drawn(a_bump(ms=12.0), tmp_path)
    page = Page(html)
    assert page.open == []
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"] or "" for tag, attrs in page.elements if tag == "a"]
    assert links
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    assert not {"script", "link", "iframe", "img"} & {tag for tag, _ in page.elements}
    assert "<!DOCTYPE html>" in html
    labelled = [attrs for tag, attrs in page.elements if tag == "svg"]
    assert labelled
    assert all(attrs.get("aria-label") for attrs in labelled)


def test_nothing_of_a_run_is_markup_pings_a_person_or_turns_the_text(tmp_path: Path) -> None:
    def hostile(verdict: Verdict) -> Verdict:
        return broken(replace(verdict), f"EngineBuildError: {HOSTILE}")

    html, markdown = drawn(a_bump(hostile), tmp_path)
    assert "<script>" not in html
    assert "<script>" not in markdown
    assert "@octocat" not in markdown
    assert not {"\u202e", "\x1b", "\ud800"} & set(html + markdown)
    assert "名前" in html


def test_a_bump_with_nothing_planted_says_so_in_few_words(tmp_path: Path) -> None:
    html, markdown = drawn(compare_runs(base_runs(), new_runs()), tmp_path)
    assert "ADOPT" in html
    assert "In no row that ran on both sides did anything change" in html
    assert "### Changed" not in markdown
    assert "4 of 4 rows; all are in" in markdown


def test_every_standing_has_a_symbol_and_a_meaning() -> None:
    assert set(compare_page._SYMBOLS) == set(Standing)
    assert set(compare_page._MEANINGS) == set(Standing)


def test_the_page_reads_what_the_harness_writes_and_names_what_a_damaged_file_lacks(tmp_path: Path) -> None:
    found = a_bump(ms=12.0)
    path = write_comparison(found, tmp_path)
    assert read(path) == found
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "decision": "SELL"}))
    with pytest.raises(RecordError, match=r"decision is 'SELL'; expected one of ADOPT, HOLD, MEASURE MORE\."):
        read(path)
    del value["rows"][1]["cause"]
    path.write_text(json.dumps(value))
    with pytest.raises(RecordError, match=r"rows\[1\] lacks a field.*cause"):
        read(path)
    path.write_text(json.dumps({**value, "schema": 3}))
    with pytest.raises(RecordError, match="upgrade trigate"):
        read(path)
    path.write_text("[]")
    with pytest.raises(RecordError, match="no schema number"):
        read(path)
    path.write_text('{"schema": 1')
    with pytest.raises(RecordError, match="cannot be read"):
        read(path)
    path.unlink()
    with pytest.raises(RecordError, match=r"has no compare\.json"):
        read(path)


def test_a_shift_is_drawn_beside_its_margin_and_an_unknown_bound_is_no_line_that_ends() -> None:
    known = Change(
        "p95",
        "ns",
        Standing.SAME,
        "",
        ratio=1.01,
        low=0.99,
        high=1.03,
        margin=0.05,
        is_judged=True,
        base=1e6,
        new=1.01e6,
    )
    svg = str(bar(known))
    assert 'class="interval"' in svg
    assert "+1.0 % [-1.0, +3.0]; the margin is 5 % either way" in svg
    assert 'class="unbounded"' in str(bar(replace(known, low=None, high=None)))
    assert str(bar(replace(known, margin=None))) == ""


def test_thousands_of_rows_are_drawn_within_what_a_pull_request_takes(tmp_path: Path) -> None:
    found = a_bump(ms=12.0)
    many = replace(found, rows=tuple(replace(row, id=f"{row.id}-{at}") for at in range(400) for row in found.rows))
    comparison = read(write_comparison(many, tmp_path))
    assert len(render_markdown(comparison)) <= 60_000
    html = render_html(comparison)
    assert len(html) < 3_000_000
    assert "more rows are in compare.json" in html


def test_a_page_of_run_folders_shows_shifts_and_layers_and_a_comment_that_fits(tmp_path: Path) -> None:
    path = a_comparison(tmp_path)
    html, markdown = path.read_text(encoding="utf-8"), path.with_suffix(".md").read_text(encoding="utf-8")
    page = Page(html)
    assert not page.open
    assert sum(attrs.get("class") == "shift" for _, attrs in page.elements) == 3
    assert "the slow calls alone are slower by more than the margin" in html
    assert "/block0/conv + /block0/relu" in html
    value = json.loads(path.with_name("compare.json").read_text())
    layers = next(row["layers"] for row in value["rows"] if row["layers"] and row["layers"]["changed"])
    layers["changed"] = [{"name": f"layer-{at}-", "base": "fp16", "new": "fp32"} for at in range(100)]
    layers["changed_count"] = 130
    path.with_name("compare.json").write_text(json.dumps(value))
    long = render_html(read(path.with_name("compare.json")))
    assert ("layer-19-" in long, "layer-20-" in long, "110 more; compare.json has the first 100." in long) == (
        True,
        False,
        True,
    )
    assert html.index("What matters most</h2>") < html.index('id="shifts"') < html.index('id="rows"')
    assert "1. **✗ stopped working** model2-tensorrt-fp16-b1-semantic" in markdown
    assert len(markdown) < 65_536


def test_a_comment_that_is_cut_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_page, "_LIMIT", 900)
    write_comparison(a_bump(), tmp_path)
    told = render_markdown(read(tmp_path / "compare.json"))
    assert told.startswith("## trigate compare: HOLD")
    assert told.endswith("**Cut here, at what a pull request takes; all of it is in `compare.html`.**\n")
    assert len(told) < 1100


@pytest.mark.parametrize(("name", "values"), [("ratio", [1.0]), ("low", [-1.0] * 99), ("high", ["nan"] * 99)])
def test_a_percentile_shift_that_was_edited_is_refused_by_name(tmp_path: Path, name: str, values: list[Any]) -> None:
    path = a_comparison(tmp_path).with_name("compare.json")
    value = json.loads(path.read_text())
    row = next(row for row in value["rows"] if row["shifts"])
    row["shifts"][0][name] = values
    path.write_text(json.dumps(value))
    with pytest.raises(RecordError, match=f"percentile shift of {row['model']} in {row['id']}"):
        read(path)
