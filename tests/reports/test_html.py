from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pyarrow
import pyarrow.parquet
import pytest

import reports
from harness.records import SCHEMA_VERSION, Figure, Outcome, Run, Verdict, to_json
from reports import figures, html, sheets, tables
from tests.reports.big_run import big_run

pytestmark = pytest.mark.covers("RE-01")

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Every element with its attributes, and what was opened and not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.disorder: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.disorder.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module", params=["full", "flown"])
def any_page(request: pytest.FixtureRequest) -> Page:
    """Of a run of every tier but the last, and of one of Tier-2."""
    return Page((request.getfixturevalue(request.param) / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def source(full: Path) -> str:
    return (full / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_every_element_is_closed_and_every_id_is_there_once(any_page: Page) -> None:
    assert any_page.disorder == []
    assert any_page.open == []
    ids = [attributes["id"] for _, attributes in any_page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] or "" for attributes in any_page.all("a")]
    assert len(links) > 20
    assert {link.removeprefix("#") for link in links} <= set(ids), "every link leads somewhere on the page"


def test_it_stands_alone_without_network_or_script(page: Page, source: str) -> None:
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert not [a for _, a in page.elements if a.get("src") or any(name.startswith("on") for name in a) or "style" in a]
    assert all((a["href"] or "").startswith("#") for a in page.all("a"))
    assert "url(" not in source
    assert "@import" not in source
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert len(source.encode()) < 3_000_000


@pytest.mark.covers("RE-04")
def test_the_verdict_stands_first_in_words_then_the_three_rows_that_matter(page: Page) -> None:
    text = " ".join(page.text.partition("To what matters most")[2].split())
    order = [
        "FAIL. lightglue-onnx_trt_ep-fp32-b1 fails.",
        "NOT RUN 18 (tensorrt: not installed). No evidence about TensorRT.",
        "Exit code 1",
        "What matters most ✗",
        "scores: relative L2 error",
        "adhop-pytorch_fp16-fp16-b1",
        "Builds, parity and latency at a glance",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def test_hostile_text_is_shown_as_text(page: Page, source: str) -> None:
    assert "<script" not in source
    assert "<script>alert('x')</script>" in page.text
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", source)
    assert "名前" in page.text
    assert "عربي" in page.text


def test_each_model_has_an_error_plot_per_output_and_a_latency_plot(page: Page, builder: ModuleType) -> None:
    for model, outputs in builder.MODELS.items():
        section = page.text.partition(f"\n{model}\n")[2] or page.text
        assert all(f"Error of {output}" in section for output in outputs)
    captions = page.text.count("Latency of every call")
    assert captions == len(builder.MODELS) + 1, "and one that says why the hostile model's samples are not drawn"
    bands = [a for a in page.all("svg") if a.get("class") == "band"]
    assert len(bands) == 11 * 4 + 1 + 6 * 2, (
        "a band per lane and output, one of the hostile model, two lanes of latency each"
    )


def test_plots_and_tables_have_names_for_who_cannot_see_them(any_page: Page) -> None:
    bands = [a for a in any_page.all("svg") if a.get("role") == "img"]
    assert len(any_page.all("title")) == len(bands) + 1
    assert len(any_page.all("desc")) == len(bands)
    assert len(any_page.all("caption")) == len(any_page.all("table"))
    assert all(a.get("scope") in ("col", "row") for a in any_page.all("th"))
    assert any_page.all("html")[0]["lang"] == "en"
    assert [tag for tag, _ in any_page.elements].count("h1") == 1


def test_every_wide_table_can_be_reached_by_keyboard(any_page: Page) -> None:
    wide = [a for a in any_page.all("div") if a.get("class") == "wide"]
    assert len(wide) == len(any_page.all("table"))
    assert all(a["tabindex"] == "0" and a["role"] == "group" and a["aria-label"] for a in wide)


@pytest.mark.covers("T1-03")
def test_what_did_not_run_is_told_with_its_reason_and_what_to_do(page: Page) -> None:
    assert "tensorrt: not installed" in page.text.partition("Rows that did not run, by reason")[2]
    assert "python -m pip install 'trigate[trt]'" in page.text


@pytest.mark.covers("T1-01")
def test_a_row_shows_where_it_ran_what_it_computed_in_and_that_it_is_no_witness(page: Page) -> None:
    assert "onnx_trt_ep[cpu]" in page.text
    assert "fp16 asked, fp32 ran" in page.text
    assert page.text.count("no witness") >= 6


def test_a_simulated_row_says_so_on_the_page_and_at_the_row(page: Page) -> None:
    assert "SIMULATED: 1 of 68 rows. What comes from a simulated device satisfies no requirement." in " ".join(
        page.text.split()
    )
    assert page.text.count("SIMULATED") >= 4


def test_figures_have_units_and_intervals_and_a_missing_bound_is_explained(page: Page) -> None:
    assert re.search(r"61\.\d ms \[60\.\d, 61\.\d\]", page.text)
    assert re.search(r"71\.\d ms \[[\d.]+, –\]", page.text)
    assert "the 95 % interval by order statistics; –: too few calls for that bound" in page.text


def test_files_that_cannot_be_read_are_said_in_their_place_and_stop_nothing(page: Page) -> None:
    text = " ".join(page.text.split())
    assert "'../../etc/passwd' is not inside the run folder" in text
    assert "outputs/absent.npz cannot be read" in text


def test_samples_that_do_not_fit_the_record_are_pointed_out(small: Path, builder: ModuleType) -> None:
    import numpy as np

    builder.write_samples(
        small, "samples/disk-onnx_trt_ep-fp16-b1-latency.parquet", np.append(np.full(59, 5_000_000), -7)
    )
    report = reports.load(small)
    text = html.render(small, report.run, report.tables)
    assert "50 samples are on disk, and the record says 400." in text
    assert "1 calls took no time or less (the clock ran backward)" in text


def damaged(column: str, value: object) -> Callable[[pyarrow.Table], pyarrow.Table]:
    """A file in which one column holds this alone."""

    def turn(table: pyarrow.Table) -> pyarrow.Table:
        return table.set_column(table.column_names.index(column), column, pyarrow.array([value] * len(table)))

    return turn


@pytest.mark.parametrize(
    ("kind", "turn", "said"),
    [
        ("samples", damaged("scheduled_ns", "x"), "is of type string; expected whole numbers."),
        ("samples", damaged("done_ns", None), "is of type null; expected whole numbers."),
        ("samples", lambda t: t.append_column("a", t["phase"]).drop_columns(["phase"]), "lacks the columns phase."),
        ("samples", damaged("throttled", 0.5), "is of type double; expected whole numbers."),
        ("samples", damaged("model", 7), ""),
        ("samples", damaged("done_ns", 2**62), ""),
        ("samples", lambda table: table.slice(0, 0), "0 samples are on disk, and the record says 320."),
        ("traces", damaged("at_ns", None), "is of type null; expected whole numbers."),
        ("traces", damaged("launch", 0.5), "is of type double; expected whole numbers."),
        ("traces", damaged("gpu_clock_mhz", "fast"), "No instrument of its telemetry told: GPU clock"),
        ("traces", damaged("power_w", float("inf")), "No instrument of its telemetry told: Power"),
        ("traces", damaged("tj_temp_c", 1e308), ""),
        ("traces", lambda table: table.slice(0, 0), "No instrument of its telemetry told: GPU clock, "),
    ],
)
def test_whatever_a_damaged_file_holds_the_page_is_drawn_and_says_what_is_wrong(
    tmp_path: Path, kind: str, turn: Callable[[pyarrow.Table], pyarrow.Table], said: str
) -> None:
    run = big_run(tmp_path, rows=1, samples=400)
    (file,) = (tmp_path / kind).iterdir()
    pyarrow.parquet.write_table(turn(pyarrow.parquet.read_table(file)), file)
    text = Page(html.render(tmp_path, run, tables.make(run))).text
    assert said in text
    assert not said.startswith("is of") or f"{kind}/{file.name}: the column" in text


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_run_that_is_not_complete_says_so_in_the_heading(full: Path, interrupted: bool) -> None:
    run = replace(
        reports.load(full).run,
        complete=False,
        interrupted=interrupted,
        exit_code=130 if interrupted else None,
        finished_at="",
    )
    run = replace(run, verdicts=run.verdicts[:5])
    page = Page(html.render(full, run, tables.make(run)))
    assert ("INTERRUPTED." if interrupted else "NOT FINISHED.") in page.text
    assert "Not complete:" in page.text
    assert "5 of 68 rows have a verdict" in page.text
    assert f"not reached: the run is {'interrupted' if interrupted else 'not finished'}" in page.text


def test_a_run_without_any_row_is_a_page(full: Path) -> None:
    run = replace(reports.load(full).run, planned=(), verdicts=(), exit_code=3, last_line="Nothing ran.")
    page = Page(html.render(full, run, tables.make(run)))
    assert page.disorder == []
    assert "There is no row." in page.text


def test_only_the_outputs_nearest_to_their_tolerance_are_plotted_when_there_are_many(
    small: Path, builder: ModuleType
) -> None:
    report = reports.load(small)
    row = next(v for v in report.run.verdicts if v.summary.measurement.errors_file)
    figures = tuple(builder.parity_of(f"output{at}", 1e-4 * (at + 1), 1e-2) for at in range(20))
    name = builder.write_errors(small, row.case, figures, seed=1)
    summary = replace(row.summary, parity=figures, measurement=replace(row.summary.measurement, errors_file=name))
    run = replace(report.run, planned=(), verdicts=(replace(row, summary=summary),))
    text = html.render(small, run, tables.make(run))
    assert "Of 20 outputs the 12 nearest to their tolerance are plotted" in text
    assert "Error of output19" in text
    assert "Error of output7," not in text


def some_rows(folder: Path) -> Run:
    """A run of four of the rows that were stored."""
    run = reports.load(folder).run
    return replace(run, planned=run.planned[:4], verdicts=run.verdicts[:4])


def test_a_large_run_is_cut_to_the_rows_that_matter_and_says_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "ROWS_IN_FULL", 30)
    run = big_run(tmp_path, rows=90, samples=90 * 400, stored=False)
    late = replace(run.verdicts[-1], outcome=Outcome.FAIL, reason="p95 is over 30 ms")
    run = replace(run, verdicts=(*run.verdicts[:-1], late))
    text = html.render(tmp_path, run, tables.make(run))
    page = Page(text)
    assert (
        "Of 90 rows the 30 that matter most are told in full. Not told in full: PASS 60. They count in every sum here; "
        "tables/verdicts.csv (trigate report --format csv) has a line for each, run.json everything." in page.text
    )
    assert page.disorder == []
    assert "<summary>" not in text
    assert 'id="row-29"' in text
    assert 'id="row-30"' not in text
    assert late.case.id in page.text, "what fails is told, wherever it stands"
    assert "1 of 90 rows is over a limit, or broken: model14." in page.text
    assert "89 of 90 rows are within every limit that applies: model0, model1, " in page.text
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert {(a["href"] or "").removeprefix("#") for a in page.all("a")} <= set(ids)


def test_the_links_to_many_models_are_folded_so_that_what_matters_stays_in_sight(tmp_path: Path) -> None:
    run = big_run(tmp_path, rows=13 * 6, samples=13 * 6 * 400, stored=False)
    page = Page(html.render(tmp_path, run, tables.make(run)))
    assert "13 models" in page.text.partition("What matters most")[0]
    assert len(page.all("details")) == len(page.all("summary")) == 1
    assert page.disorder == []


def test_of_many_rows_with_samples_those_that_matter_most_are_plotted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = big_run(tmp_path, rows=6, samples=6 * 400)
    monkeypatch.setattr(figures, "PLOTTED_ROWS", 4)
    text = html.render(tmp_path, run, tables.make(run))
    assert "Plotted are those that matter most: 4 of 6 rows over time." in text
    assert text.count("<title>Memory of the process (PSS) over time</title>") == 4
    assert text.count("<title>Latency of ") == 6, "a distribution has every row"


def test_the_rules_by_which_samples_are_thinned_stand_beside_the_plots(page: Page, flown: Path) -> None:
    assert "at most 5,000 per output, drawn evenly at random, the largest error always among them" in page.text
    text = (flown / "report.html").read_text(encoding="utf-8")
    assert "every measured call, none left out, in 160 classes" in text
    assert "Thinned by this rule: time is cut into 160 pieces" in text


def test_what_no_instrument_told_is_said_under_the_time_lines(flown: Path) -> None:
    text = (flown / "report.html").read_text(encoding="utf-8")
    untold = "No instrument of its telemetry told: Memory of the process, Memory of the GPU, Memory available."
    assert text.count(untold) == 4


def test_what_ought_to_be_the_same_for_all_rows_and_was_not_is_told_with_its_rows(flown: Path) -> None:
    text = (flown / "report.html").read_text(encoding="utf-8")
    section = Page(text.partition('<section aria-labelledby="environment">')[2]).text
    assert "What ought to be the same for all rows, and was not" in section
    assert re.search(r"Power mode\s*MAXN_SUPER\s*8\s*lightglue-tensorrt-fp16-b1-latency,", section)
    assert re.search(r"Power mode\s*15W\s*8", section)
    assert (
        "One and the same from the first row to the last: Caps, Clocks pinned, Governor, Others on the GPU" in section
    )


def test_of_runs_together_the_facts_that_differ_stand_side_by_side(full: Path) -> None:
    run = some_rows(full)
    made = tables.make(run)
    frame = made["environment"].assign(cloud=made["environment"]["value"], board=made["environment"]["value"])
    frame.loc[frame["name"] == "torch", "board"] = "2.9.0"
    text = Page(html.render(full, run, {**made, "environment": frame})).text
    assert re.search(r"What differs from run to run\s*Fact\s*cloud\s*board\s*host: torch\s*2\.13\.0\s*2\.9\.0", text)
    assert text.count("2.13.0") == 1, "what differs is told once"


def test_what_a_row_descends_from_is_told_by_digests_and_words(full: Path) -> None:
    run = some_rows(full)
    row = run.verdicts[0]
    measurement = replace(row.summary.measurement, lineage={"model": "ab" * 32, "route": "strongly typed"})
    size = Figure("engine_bytes", 3 * 2**20, "bytes", "the plan file")
    row = replace(row, summary=replace(row.summary, measurement=measurement, figures=(size,)))
    run = replace(run, verdicts=(row, *run.verdicts[1:]))
    text = html.render(full, run, tables.make(run))
    assert text.count("What each row ran, and descends from") == 2, "the table of one model: its label and its caption"
    assert f'<code title="{"ab" * 32}">abababababab</code>' in text
    assert "strongly typed" in text
    assert "3.00\u00a0MiB" in text, "a figure is not parted from its unit"


@pytest.mark.covers("T1-03")
def test_a_requirement_names_the_rows_that_are_no_evidence_for_it(page: Page) -> None:
    line = "T1-03 What cannot run here is told, with its reason 37 16 1 1 12 0 23 "
    line += "disk-onnx_trt_ep-fp16-b1, disk-tensorrt-fp32-b1, .* and 17 more"
    assert re.search(
        line.replace(" ", r"\s*"), page.text.partition("Requirement ids and the rows that bear on them")[2]
    )


def test_what_is_said_of_several_lanes_is_said_once_under_the_table_with_their_names(full: Path) -> None:
    run = some_rows(full)
    rows = [row for row in run.verdicts if row.case.kind == "parity"][:3]

    def noted(row: Verdict, *notes: str) -> Verdict:
        measurement = replace(row.summary.measurement, notes=notes, warnings=())
        return replace(row, summary=replace(row.summary, measurement=measurement))

    rows = [noted(rows[0], "of all", "of two."), noted(rows[1], "of all", "of two."), noted(rows[2], "of all")]
    table = sheets.lanes(rows, {row.case.id: f"row-{at}" for at, row in enumerate(rows)})
    names = [sheets.lane_and_kind(row) for row in rows]
    assert table.notes == ["of all.", f"{names[0]}, {names[1]}: of two."]
    assert not any("of all" in cell for line in table.rows for cell in line)


def test_a_tolerance_names_its_lanes_where_there_are_several(full: Path) -> None:
    frame = tables.make(some_rows(full))["parity"]
    (alone, units) = sheets.parity(frame).notes
    assert alone.startswith("Tolerance of keypoints, descriptors, scores, derived: 2 × p99")
    assert units.startswith("Max abs is in the output's own unit")
    frame.loc[frame["lane"] == "ort · fp16", "tolerance_why"] = "another"
    both = sheets.parity(frame).notes
    assert "Tolerance of keypoints, descriptors, scores in ort · fp16, derived: another" in both
    assert both[0].startswith("Tolerance of keypoints, descriptors, scores in ort · fp32, torch · fp32, torch · fp16, ")


def test_doubts_about_the_record_stand_above_everything(full: Path) -> None:
    run = some_rows(full)
    text = Page(html.render(full, run, tables.make(run), ["<b>run.json was perhaps edited.</b>"])).text
    assert text.index("Doubt: <b>run.json was perhaps edited.</b>") < text.index("What matters most")


def test_a_run_of_which_nothing_was_required_is_not_drawn_as_a_release(full: Path) -> None:
    run = replace(some_rows(full), exit_code=0)
    assert '<header class="pass">' in html.render(full, run, tables.make(run))
    free = [replace(row.summary.measurement.case, required=False) for row in run.verdicts]
    rows = [
        replace(row, summary=replace(row.summary, measurement=replace(row.summary.measurement, case=case)))
        for row, case in zip(run.verdicts, free, strict=True)
    ]
    run = replace(run, planned=tuple(free), verdicts=tuple(rows))
    text = html.render(full, run, tables.make(run))
    assert '<header class="open">' in text
    assert "nothing was required: no release can rest on it." in text


def contrast(first: str, second: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_every_text_colour_can_be_read_in_both_schemes(scheme: int) -> None:
    css = Path(html.__file__).with_name("templates") / "report.css"
    block = re.findall(r":root \{(.*?)\}", css.read_text(), re.DOTALL)[scheme]
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
    for ink in ("ink", "soft", "link", "pass", "fail", "open"):
        for paper in ("page", "panel"):
            assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
    for shape in ("bars", "mark", "limit"):
        assert contrast(colours[shape], colours["panel"]) >= 2.4, shape


def test_the_run_of_the_builder_is_what_the_harness_would_write(full: Path) -> None:
    run = reports.load(full).run
    assert json.loads((full / "run.json").read_text())["schema"] == SCHEMA_VERSION
    assert len(to_json(run)["verdicts"]) == 68
