"""The page in a real browser, from a file and without a network: what it fits, what is read of it, what can be reached."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.compare import compare_runs, write_comparison
from reports import compare_page, html, tables
from reports.history_page import read, render_html
from reports.run_folder import read_run
from tests.harness.compared_runs import base_runs, broken, new_runs, on
from tests.reports.browsers import installed
from tests.reports.test_history_page import a_history

playwright = pytest.importorskip("playwright.sync_api", reason="playwright: not installed")

pytestmark = pytest.mark.covers("RE-01")

A4_LANDSCAPE_PX = round((297 - 2 * 12) / 25.4 * 96)
"""Between the margins of the page, at 96 to the inch."""

CONTRAST = """() => {
  const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1] };
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const linear = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const behind = e => {
    const layers = [];
    for (; e && layers.at(-1)?.[3] !== 1; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reduceRight((under, top) => over(top, under), [255, 255, 255, 1]) };
  const found = {}, walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || ['title', 'desc', 'style'].includes(e.tagName.toLowerCase())) continue;
    const style = getComputedStyle(e), px = parseFloat(style.fontSize), paper = behind(e);
    const ink = over(parse(e instanceof SVGElement ? style.fill : style.color), paper);
    const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05) / (px >= 24 || (px >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5);
    const key = `${ink} on ${paper}`;
    if (!(found[key]?.ratio <= ratio)) found[key] = {ratio, text: text.slice(0, 40)};
  }
  return found }"""
"""Of every text, how its contrast with what is behind it stands to what WCAG 2.2 (1.4.3) asks: 1 is just enough."""

BEYOND = """() => [...document.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > innerWidth + 1
  && !e.closest('svg') && getComputedStyle(e).clipPath === 'none').map(e => e.outerHTML.slice(0, 120))"""
"""What stands beyond the right edge."""

SIZES = """() => {
  const sizes = (which, side) => [...document.querySelectorAll(which)].map(e => e.getBoundingClientRect()[side]);
  return {whole: document.documentElement.scrollWidth, tick: Math.min(...sizes('.axis text', 'height')),
    plot: Math.min(...sizes('svg.band, svg.lane', 'width')),
    scrolled: [...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.ariaLabel)} }"""

"""Of the page; of the smallest text and the narrowest plot, endless where there is none; and which tables are scrolled."""

FOCUS = """() => { const e = document.activeElement, style = getComputedStyle(e), at = e.getBoundingClientRect();
  return [stops.indexOf(e), style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2
    && at.bottom > 0 && at.top < innerHeight && at.right > 0] }"""
"""Which of the stops has the focus, and whether that is seen."""


@dataclass
class Opened:
    """A page, what it asked for, and what the console said."""

    page: Any
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def at(self, width: int, *, media: str = "screen", scheme: str = "light", forced: str = "none") -> Any:
        """The page at a width in px, as someone sees it who prefers this."""
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(media=media, color_scheme=scheme, forced_colors=forced)
        return self.page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = installed()
    if not path:
        pytest.skip("chromium: not installed")
    with playwright.sync_playwright() as driver:
        try:
            started = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        except playwright.Error as error:
            pytest.skip(f"chromium: does not start here: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(flown: Path, builder: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports of a run of Tier-1 with every outcome and a hostile name, and of one of Tier-2; a bump; and a history."""
    folder = tmp_path_factory.mktemp("pages")
    builder.full_run(folder)
    run, models = read_run(folder), ("lightglue", "adhop", builder.HOSTILE.replace("\ud800", "?"))
    few = tuple(verdict for verdict in run.verdicts if verdict.case.model in models)
    run = replace(run, planned=tuple(verdict.case for verdict in few), verdicts=few)
    (folder / "full.html").write_text(html.render(folder, run, tables.make(run)), encoding="utf-8")
    write_comparison(compare_runs(base_runs(), new_runs(change=on("parity", broken), ms=12.0)), folder)
    compare_page.write(folder)
    history = render_html(read(a_history(*[1e7] * 5, *[1.2e7] * 5, step=5)))
    (folder / "history.html").write_text(history, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in ("full", "compare", "history")} | {"flown": flown / "report.html"}


@pytest.fixture(scope="module", params=["full", "flown", "compare", "history"])
def opened(request: pytest.FixtureRequest, browser: Any, pages: dict[str, Path]) -> Iterator[Opened]:
    """One of the pages, opened once, offline."""
    context = browser.new_context(offline=True)
    seen = Opened(context.new_page())
    context.on("request", lambda asked: seen.asked.append(asked.url))
    seen.page.on("console", lambda message: seen.said.append(message.text))
    seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
    seen.page.goto(pages[request.param].as_uri())
    seen.page.evaluate("document.querySelectorAll('details').forEach(folded => { folded.open = true })")
    yield seen
    context.close()


def test_nothing_is_asked_for_but_the_file_and_the_console_says_nothing(opened: Opened) -> None:
    page = opened.at(1280)
    assert opened.asked == [page.url]
    assert opened.said == []
    assert page.evaluate("document.scripts.length") == 0
    assert page.evaluate("document.compatMode") == "CSS1Compat"


def test_the_page_is_never_wider_than_the_screen(opened: Opened) -> None:
    for width in (320, 390, 1280):
        seen = opened.at(width).evaluate(SIZES)
        assert seen["whole"] <= width
        assert seen["tick"] >= 12, "text in plots keeps its size"
        assert seen["plot"] > min(width, 500) / 2
        assert seen["scrolled"] == [], "no table is scrolled sideways, on a phone or on a desk"


@pytest.mark.parametrize(("scheme", "media"), [("light", "screen"), ("dark", "screen"), ("dark", "print")])
def test_every_text_can_be_read_on_what_is_behind_it(opened: Opened, scheme: str, media: str) -> None:
    page = opened.at(1280, scheme=scheme, media=media)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is (scheme == "light" or media == "print")
    found = page.evaluate(CONTRAST)
    assert len(found) >= 2
    assert {key: at for key, at in found.items() if at["ratio"] < 1} == {}


def test_a_screen_reader_hears_a_name_of_every_picture_and_a_table_is_one_on_a_phone_too(opened: Opened) -> None:
    page = opened.at(390)
    session = page.context.new_cdp_session(page)
    heard: dict[str, list[str]] = {}
    for node in session.send("Accessibility.getFullAXTree")["nodes"]:
        if not node["ignored"]:
            heard.setdefault(node["role"]["value"].lower(), []).append(node.get("name", {}).get("value", ""))
    session.detach()
    pictures = heard.get("image", []) + heard.get("img", [])
    assert len(pictures) == page.locator("svg[role=img]").count() > 0
    assert all(pictures)
    assert len(heard["table"]) == page.locator("table").count()
    assert all(heard["table"])
    assert len(heard["columnheader"]) == page.locator("thead th").count()
    assert len(heard["rowheader"]) == page.locator("tbody th").count()
    assert len(heard["main"]) == len(heard["navigation"]) == 1


def test_headings_go_down_step_by_step_and_every_heading_of_a_table_has_its_scope(opened: Opened) -> None:
    page = opened.at(1280)
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => Number(h.tagName[1]))")
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    named = page.evaluate("[...document.querySelectorAll('table')].map(t => t.caption?.textContent.trim() ?? '')")
    assert all(named)
    assert page.locator("th:not([scope=col]):not([scope=row])").count() == 0


def test_the_tab_key_reaches_every_link_and_table_in_order_and_shows_where_it_is(opened: Opened) -> None:
    page = opened.at(1280)
    count = page.evaluate(
        "(window.stops = [...document.querySelectorAll('a[href], summary, [tabindex=\"0\"]')]).length"
    )
    most = min(count, 15)
    for first in sorted({0, count - most}):  # from the top, and to the end
        page.evaluate("first => first ? stops[first - 1].focus() : document.activeElement.blur()", first)
        seen = []
        for _ in range(most):
            page.keyboard.press("Tab")
            seen.append(page.evaluate(FOCUS))
        assert seen == [[first + at, True] for at in range(most)]


def test_every_verdict_is_told_by_a_word_and_a_sign_and_not_by_its_colour_alone(opened: Opened) -> None:
    page = opened.at(1280, forced="active")
    colours: dict[str, set[str]] = {}
    for kind, text, width in page.evaluate(
        "[...document.querySelectorAll('.badge')].map(b => [b.className, b.textContent.trim(), b.offsetWidth])"
    ):
        assert width > 10
        sign, word = re.split(r"\s*\b", text, maxsplit=1)
        assert sign
        colours.setdefault(word, set()).add(kind)
    assert all(len(kinds) == 1 for kinds in colours.values())
    assert "history" in page.url or len(colours) >= 4


def test_no_table_is_cut_on_paper(opened: Opened) -> None:
    page = opened.at(A4_LANDSCAPE_PX, media="print")
    assert page.evaluate(BEYOND) == []
    assert page.locator("nav").is_hidden()
    paper = page.pdf(prefer_css_page_size=True)
    sizes = set(re.findall(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)\]", paper))
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) >= 1
    assert all(
        float(width) == pytest.approx(842, abs=1) and float(height) == pytest.approx(595, abs=1)
        for width, height in sizes
    )


@pytest.mark.parametrize("opened", ["full"], indirect=True)
def test_html_in_the_name_of_a_model_stays_text(opened: Opened) -> None:
    page = opened.at(390)
    heading = page.locator("h2", has_text="<script>alert('x')</script>")
    assert heading.count() == 1
    assert "名前 عربي" in heading.inner_text()
    assert page.locator("script").count() == 0
    assert opened.said == [], "a script would be refused by the page's policy, and told here"
