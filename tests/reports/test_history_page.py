"""Rows over time on a page: drawn from JSON alone, nothing of a run taken as markup, nothing told by sight alone."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness.records import RecordError
from reports import history_page
from reports.history_page import read, render_html, shift

HOSTILE = "<script>alert('x')</script>\u202e\x1b[31m 名前"
VOID = {"meta", "br", "hr", "img", "line", "path", "rect"}


class Elements(HTMLParser):
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


def a_point(at: int, value: float, **given: Any) -> dict[str, Any]:
    base = {"run": f"run{at:05}", "seq": at, "started_at": f"2026-03-{1 + at % 28:02}T10:00:00+00:00", "value": value}
    return {**base, "low": None, "high": None, "outcome": "PASS", **given}


def a_history(*values: float, name: str = "disk-latency", step: int | None = None, **given: Any) -> dict[str, Any]:
    points = [a_point(at, value) for at, value in enumerate(values)]
    steps = []
    if step is not None:
        factor = values[step] / values[0]
        steps = [
            {"at": step, "run": points[step]["run"], "started_at": points[step]["started_at"], "before": values[0],
             "after": values[step], "factor": factor, "changed": ["tensorrt 10.3 → 10.16"]}
        ]  # fmt: skip
    series = {
        "row": name, "kind": "latency", "model": "disk", "runtime": "tensorrt", "precision": "fp16", "machine": "orin",
        "setting": "39 Hz", "boundary": "host clock", "simulated": "", "source": "trigate", "figure": "p50_ns", "unit": "ns",
        "points": points, "steps": steps, "notes": [], **given,
    }  # fmt: skip
    return {"series": [series], "order": "began", "notes": [], "trigate_version": "0.1.0", "schema": 1}


def test_a_step_is_drawn_and_said_with_what_changed() -> None:
    text = render_html(read(a_history(*[1e7] * 5, *[1.2e7] * 5, step=5)))
    assert "1 of 1 series stepped." in text
    assert "From run run00005 (2026-03-06 10:00) on +20.0 %: median 10.0 ms before, 12.0 ms after" in text
    assert "with it changed: tensorrt 10.3 → 10.16" in text
    page = Elements(text)
    assert page.open == []
    assert sum(attributes.get("class") == "step" for _, attributes in page.elements) == 2
    assert sum(attributes.get("class") == "level" for _, attributes in page.elements) == 2


def test_the_page_is_one_file_without_scripts_and_each_picture_says_itself() -> None:
    page = Elements(render_html(read(a_history(*[1e7] * 5))))
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.elements}
    assert not [
        value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "onclick")
    ]
    pictures = [attributes for tag, attributes in page.elements if tag == "svg" and attributes.get("role") == "img"]
    assert len(pictures) == sum(tag == "desc" for tag, _ in page.elements) == 1
    text = render_html(read(a_history(*[1e7] * 5)))
    assert "default-src 'none'" in text
    assert "5 runs, 10.0 ms to 10.0 ms, median 10.0 ms. No step." in text
    assert "prefers-color-scheme: dark" in text


def test_nothing_of_a_run_is_markup() -> None:
    value = a_history(
        1e7, 2e7, name=HOSTILE, machine=HOSTILE, boundary=HOSTILE, source=HOSTILE, simulated=HOSTILE, figure=HOSTILE
    )
    value["series"][0]["points"][0].update(
        run=HOSTILE, started_at=HOSTILE, outcome=HOSTILE, placement=HOSTILE, mark=HOSTILE
    )
    value["series"][0]["notes"] = value["notes"] = [HOSTILE]
    text = render_html(read(value))
    page = Elements(text)
    assert page.open == []
    assert "script" not in {tag for tag, _ in page.elements}
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "名前" in text


def test_marks_differ_in_shape_and_what_is_cut_short_or_foreign_is_hollow() -> None:
    value = a_history(*[1e7 + at for at in range(5)])
    points = value["series"][0]["points"]
    for at, given in enumerate(
        ({"outcome": "FAIL"}, {"outcome": "INCONCLUSIVE"}, {"incomplete": "Ctrl-C"}, {"mark": "trtexec"})
    ):
        points[at].update(given)
    page = Elements(render_html(read(value)))
    marks = [
        attributes["class"] for _, attributes in page.elements if (attributes.get("class") or "").startswith("mark")
    ]
    assert marks == ["mark full", "mark full", "mark hollow", "mark hollow", "mark full"]
    shapes = [attributes["d"] for tag, attributes in page.elements if tag == "path"]
    assert len(set(shapes)) == 4


def test_ten_thousand_runs_are_drawn_in_pieces_that_lose_no_peak() -> None:
    values = [1e7] * 10_000
    values[7777] = 9e7
    value = a_history(*values)
    value["series"][0]["points"][5]["outcome"] = "FAIL"
    text = render_html(read(value))
    assert "10000 runs, 1 of them FAIL, in 160 pieces" in text
    assert "9940 earlier ones are in" in text
    assert len(text) < 100_000
    low = text.index('class="bars"')
    assert "10.0 ms to 90.0 ms" in text[:low]


def test_simulated_rows_are_said_to_be_no_evidence() -> None:
    text = render_html(read(a_history(1.0, 2.0, simulated="steady")))
    assert "1 of 1 series come from a simulated device. They are no evidence." in text


@pytest.mark.parametrize(
    ("before", "after", "words"), [(10.0, 10.8, "+8.0 %"), (10.0, 30.0, "x 3.00"), (0.0, 3.0, "—"), (10.0, 4.0, "x 0.400")]
)  # fmt: skip
def test_a_shift_is_said_in_percent_or_as_a_factor(before: float, after: float, words: str) -> None:
    from reports.words import DASH

    assert shift(before, after) == words.replace("—", DASH)


@pytest.mark.parametrize("values", [(0.0, 0.0, 0.0), (-1.0, -2.0), (5.0,), (1e-30, 1e30)])
def test_any_finite_values_have_a_picture(values: tuple[float, ...]) -> None:
    assert "nan" not in render_html(read(a_history(*values))).split("<main", 1)[1].lower()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([], "no schema number"),
        ({"schema": 2}, "has schema 2; this trigate draws up to 1: upgrade"),
        ({"schema": 1, "order": "began"}, "lacks a field"),
    ],
)
def test_what_is_no_history_is_refused(value: Any, why: str) -> None:
    with pytest.raises(RecordError, match=why):
        read(value)


@pytest.mark.parametrize(("count", "told"), [(2, "Too few runs to tell a step: 2"), (8, "No series stepped.")])
def test_no_step_is_told_only_where_there_were_runs_enough_to_seek_one(count: int, told: str) -> None:
    page = render_html(read(a_history(*[1e7] * count, sought_from=8)))
    assert f'<p class="line">{told}' in page
    assert ("No step in it." in page) == (count == 8)


def test_the_page_counts_the_series_with_too_few_runs() -> None:
    told = a_history(*[1e7] * 5, *[1.2e7] * 5, step=5, sought_from=8)
    told["series"] += a_history(1.0, name="new", sought_from=8)["series"]
    page = render_html(read(told))
    assert "1 of 2 series stepped. 1 of them has too few runs to tell." in page
    assert "</span>, 1 run</p>" in page


def test_a_page_is_put_in_place_whole(tmp_path: Path) -> None:
    history_page.write(a_history(1.0, 2.0), tmp_path / "h.html")
    assert [path.name for path in tmp_path.iterdir()] == ["h.html"]
    with pytest.raises(RecordError):
        history_page.write({}, tmp_path / "h.html")
    assert "</html>" in (tmp_path / "h.html").read_text("utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["h.html"]
