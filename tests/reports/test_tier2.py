"""Tier-2 as people read it: the page, its tables, and what old runs without any of it look like."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import reports
from harness.records import ABOUT_A_FLIGHT, Outcome
from reports import figures, html, junit, markdown, tables, tier2, timeline, words
from reports.sheets import Table

pytestmark = pytest.mark.covers("RE-01", "T2-03")


@pytest.fixture(scope="module")
def report(flown: Path) -> reports.Report:
    return reports.load(flown)


@pytest.fixture(scope="module")
def source(flown: Path) -> str:
    return (flown / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(source: str) -> str:
    """What a person reads, tags and line ends gone."""
    return " ".join(re.sub(r"<[^>]+>", " ", source.partition("<body>")[2]).split())


def cells(table: Table, first: str) -> dict[str, str]:
    """A line of a table by heading, without markup."""
    line = next(line for line in table.rows if first in line[0])
    return dict(zip(table.headings, (re.sub(r"<[^>]+>", "", str(cell)).strip() for cell in line), strict=True))


def test_every_kind_of_row_about_a_flight_has_its_title_and_place() -> None:
    assert set(words.ABOUT_A_FLIGHT) == set(ABOUT_A_FLIGHT)


def test_the_verdict_stands_first_in_words_gravest_first(text: str) -> None:
    order = [
        "2 of 8 rows are over a limit, or broken: The flight mix, Heat.",
        "1 of 8 rows is not decided: ultravpr.",
        "measured, with no budget that applies: lightglue (load), Take-off, The harness itself.",
        "2 of 8 rows are within every limit that applies: lightglue, Memory.",
        "Every row of Tier-2, gravest first",
    ]
    places = [text.index(told) for told in order]
    assert places == sorted(places)


def test_rows_about_a_flight_are_no_models(report: reports.Report, text: str) -> None:
    assert text.count("Rows of this model by verdict") == 0
    assert 'id="model-1"' in html.render(report.folder, report.run, report.tables)
    assert 'id="model-2"' not in html.render(report.folder, report.run, report.tables)
    assert "All models together: tensorrt · simulated hot" in text


def test_a_latency_row_shows_budget_quantiles_throttling_and_rate(report: reports.Report) -> None:
    rows = [row for row in report.run.verdicts if row.case.kind == "latency"]
    anchors = {row.case.id: "a" for row in rows}
    line = cells(tier2.latency(rows, report.tables["latency"], anchors), "tensorrt")
    assert line["Budget of p95"] == "60.0 ms"
    assert re.fullmatch(r"2\d\.\d ms \[2\d\.\d, 2\d\.\d\]", line["p95"])
    assert line["Throttled"] == "25 %"
    assert line["Calls"].startswith("600, 12 failed")
    assert line["Calls"].endswith("due at 39 /s")


def test_what_would_decide_the_blind_spot_and_the_floor_are_told(text: str) -> None:
    assert "about 900 more requests, 23.1 s at 39 Hz" in text
    assert "Blind spot: clusters of slow calls rarer than about one in 12 s are not bounded." in text
    assert "3.00 (floor 3.00, 12 runs of this board)" in text
    assert "26.6 ms (95 % sure)" in text


def test_each_launch_is_a_line(report: reports.Report) -> None:
    rows = [row for row in report.run.verdicts if row.case.model == "lightglue"]
    launches = next(
        t for t in tier2.of_model(rows, {row.case.id: "a" for row in rows}) if t.caption == "Launch by launch"
    )
    assert [str(line[1]) for line in launches.rows] == ["0", "1"], "as reasons and files count them"
    assert cells(launches, "tensorrt")["Over the budget"] == "6 of 300 (2 %)"


def test_the_gravest_answers_come_first(report: reports.Report) -> None:
    row = next(row for row in report.run.verdicts if row.case.kind == "memory")
    grown = replace(row.checks[0], name="leak of ultravpr gpu", outcome=Outcome.FAIL)
    (part,) = tier2.about_flights(report.folder, [replace(row, checks=(*row.checks, grown))], {row.case.id: "a"})[
        0
    ].parts
    leaks = next(sheet for sheet in part.sheets if sheet.caption.startswith("Growth"))
    assert "ultravpr" in leaks.rows[0][0]


def test_one_launch_without_a_budget_is_no_table(report: reports.Report) -> None:
    row = next(row for row in report.run.verdicts if row.case.kind == "latency")
    judgement = row.summary.judgement
    assert judgement is not None
    bare = replace(judgement, launches=(replace(judgement.launches[0], exceedances=None),))
    made = tier2.of_model([replace(row, summary=replace(row.summary, judgement=bare))], {row.case.id: "a"})
    assert "Launch by launch" not in [table.caption for table in made]


def test_figures_stand_side_by_side_in_units_for_people_with_their_sources(text: str) -> None:
    for told in ("94.2 µs", "25.0 ms", "510 to 1,173 MHz", "67.2 to 99.0 °C", "8.26 W", "2.75 J", "380 MiB"):
        assert told in text, told
    assert "Wait: not known, the runtime does not split its time" in text
    assert "Process, by the driver: not known, an Orin's driver does not tell it" in text.replace("&#39;", "'")


def test_the_flight_has_a_line_per_model_with_deadlines_and_utilisation(text: str) -> None:
    section = text.partition("Model by model, in the mix")[2]
    assert section.index("lightglue") < section.index("ultravpr")
    assert "406 of 1801 requests, later than 333 ms, failed or dropped" in section
    assert "Utilisation of the device by all of them: 0.708" in section


def test_heat_take_off_and_the_harness_list_their_figures(text: str) -> None:
    for told in (
        "Time to throttle 6 min 25 s the throttle detector",
        "Hot over cold p95 17.0 [11.4, –]",
        "Not known: Cool down (it was not reached in the trace).",
        "Ready 1.21 s 1.28 s",
        "Kept after kill (neither NvMap nor MemAvailable is told)",
        "Sample cost 417 ns storing one row",
    ):
        assert told in text, told


def test_memory_tells_each_source_once_and_what_is_not_known(text: str) -> None:
    assert "Host: source of host_bytes. GPU: source of gpu_bytes." in text
    assert "Not known: Total (the card has its own memory)." in text
    assert "Process peak: VmHWM." in text
    assert "87.1 MiB" in text


def test_memory_has_a_bar_per_engine_and_source_on_one_scale(source: str) -> None:
    widths = [float(width) for width in re.findall(r'class="meter".*?width="([\d.]+)%" height="7"', source)]
    assert len(widths) == 6
    assert max(widths) == 100.0
    assert min(widths) == pytest.approx(100 * 200 / 1423.4, abs=0.1)
    assert "all resident" in source


def test_the_board_tells_what_is_alike_once_and_marks_what_changed(report: reports.Report, text: str) -> None:
    facts, sheet = tier2.board(report.tables["board"])
    assert dict(facts)["Module"] == "Orin NX 16GB"
    assert dict(facts)["Caps"] == "gpu_mhz 1173, emc_mhz 3199"
    assert dict(facts)["Memory available"] == "13.9 GiB"
    assert dict(facts)["Zones °C"] == "tj-thermal 63.2"
    line = cells(sheet, "flight-tensorrt-fp16")
    assert "≠" in line["Power mode"]
    assert "MAXN_SUPER → 15W" in line["Power mode"]
    assert line["GPU °C"] == "63.2 → 99.0", "heat is no change of state"
    assert "≠ marks what ought to stay the same" in text


def test_time_lines_show_latency_clock_temperature_and_when_it_was_throttled(source: str) -> None:
    titles = re.findall(r"<title>([^<]+ over time|When [^<]+)</title>", source)
    assert titles.count("Latency over time") == 2
    assert titles.count("Latency of lightglue over time") == 2, "the flight and the heat"
    assert titles.count("GPU clock over time") == 4
    assert titles.count("Temperature (junction) over time") == 4
    assert titles.count("When requests were throttled") == 4
    assert 'Power</bdi></strong> <span class="soft">21.5 W all along' in source
    assert "of all samples of a piece the smallest and the largest bound the filled area" in source


def test_calls_on_a_throttled_board_hang_under_the_line_and_the_budget_is_drawn(source: str) -> None:
    bands = re.findall(r'<svg class="band".*?</svg>\s*(?=<|$)', source, re.DOTALL)
    lines = [line for line in source.splitlines() if 'class="band"' in line]
    assert len(lines) == 2 + 2 * 2, bands[:1]
    assert all('class="apart"' in line for line in lines)
    assert all('class="limit"' in line for line in lines)
    assert "met a throttled board" in lines[0]


def test_each_model_of_a_mix_has_its_quantiles_with_intervals_and_its_own_budget(source: str) -> None:
    mix = source.partition("Latency by model</figcaption>")[2].partition("</figure>")[0]
    bands = re.findall(r"<span class=\"soft\">(.*?)</span>", mix)
    assert len(bands) == 2
    for band in bands:
        assert len(re.findall(r"p\d\d [\d.]+ ms \[[\d.]+, [\d.–]+\]", band)) == 3
        assert "budget of p95 333 ms" in band
    assert mix.count('class="limit"') == 2
    assert mix.count('class="interval"') >= 6
    story = source.partition('id="flight-0"')[2].partition("Latency of ultravpr")[0]
    assert "budget 333 ms" in story


def test_a_quantile_is_inside_its_interval_which_holds_the_true_one_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    held = dict.fromkeys((0.5, 0.95), 0)
    slow = 0
    for _ in range(400):
        values = generator.lognormal(0, 1, 640)
        for p, true in ((0.5, 1.0), (0.95, math.exp(1.6448536))):
            mark = figures._estimated("circle", values, p, 0)
            assert mark.low is not None
            assert mark.high is not None
            assert mark.low <= mark.value <= mark.high
            held[p] += mark.low <= true <= mark.high
        spells = np.repeat(generator.lognormal(0, 1, 64), 10)  # ten calls that are alike
        mark = figures._estimated("circle", spells, 0.5, 0)
        slow += (mark.low or 0) <= 1.0 <= (mark.high or math.inf)
    assert all(370 <= count <= 398 for count in held.values()), held
    assert slow >= 360
    few = figures._estimated("circle", np.array([2.0, 1.0]), 0.95, 3)
    assert (few.value, few.low, few.high) == (2.0, 2.0, None)


def test_memory_over_time_has_round_ends_in_its_own_unit() -> None:
    at, used = np.arange(100.0), np.linspace(90, 110, 100) * 2**20
    strip = figures._strip("Memory", at, used, "bytes", timeline.Clock({0: (0, 99_000_000_000)}))
    assert (strip.bottom, strip.top) == ("90.0 MiB", "110 MiB")


def test_a_trace_that_cannot_be_read_costs_only_its_own_strips(
    report: reports.Report, tmp_path: Path, builder: ModuleType
) -> None:
    run = builder.tier2_run(tmp_path / "run")
    for path in (tmp_path / "run" / "traces").iterdir():
        path.write_bytes(b"no parquet")
    page = html.render(tmp_path / "run", run, tables.make(run))
    assert "Its telemetry is not drawn: traces/lightglue-tensorrt-fp16-b1-latency.parquet cannot be read" in page
    assert "<title>Latency over time</title>" in page


def test_a_run_of_before_tier2_is_drawn_as_it_was(full: Path) -> None:
    page = (full / "report.html").read_text(encoding="utf-8")
    assert "No telemetry was recorded beside it." in page
    assert "Latency over time" in page
    assert "How each latency verdict was reached" not in page
    assert "All models together" not in page


def test_the_tables_have_a_line_per_figure_launch_and_judgement_raw(report: reports.Report) -> None:
    made = report.tables
    figures = [figure for row in report.run.verdicts for figure in row.summary.figures]
    assert len(made["figures"]) == len(figures)
    absent = made["figures"][made["figures"]["name"] == "cool_down_s"]
    assert absent["value"].isna().all()
    assert list(absent["why"]) == ["it was not reached in the trace"]
    assert len(made["launches"]) == 6
    judged = made["judgements"].set_index("case").loc["ultravpr-tensorrt-fp16-b1-latency"]
    assert (judged["budget_ns"], judged["needed"], judged["outcome"]) == (60_000_000, 900, "INCONCLUSIVE")
    line = made["latency"].set_index("case").loc["lightglue-tensorrt-fp16-b1-latency"]
    assert (line["budget_ms"], line["throttled_percent"], line["launches"]) == (60.0, 25.0, 2)


@pytest.mark.covers("T2-04")
def test_the_table_of_the_board_has_both_ends_of_every_field(report: reports.Report) -> None:
    line = report.tables["board"].set_index("case").loc["flight-tensorrt-fp16"]
    assert (line["power_mode_start"], line["power_mode_end"]) == ("MAXN_SUPER", "15W")
    assert line["caps_start"] == "gpu_mhz 1173, emc_mhz 3199"
    assert line["gpu_processes_start"] == "none"
    assert bool(line["throttled"])


def test_a_comment_has_a_table_of_latencies_and_a_line_for_each_other_kind(report: reports.Report) -> None:
    comment = markdown.render(report.run)
    lines = comment.splitlines()
    undecided, row = [line for line in lines if line.startswith("| ? INCONCLUSIVE")]
    assert "To decide: about 900 more requests, 23.1 s at 39 Hz." in undecided
    assert "| 60.0 ms |" in row
    assert "To decide: about 900 more requests, 23.1 s at 39 Hz." in row
    for name in ("The flight mix", "Heat", "Memory", "Take-off", "The harness itself", "Load of lightglue"):
        assert sum(f"| {name} |" in line for line in lines) == 1, name
    assert "<summary>Numerics" not in comment


def test_rows_of_one_kind_and_lane_are_one_line_of_the_comment(report: reports.Report) -> None:
    load = next(row for row in report.run.verdicts if row.case.kind == "load")
    case = replace(load.case, id="ultravpr-load", model="ultravpr")
    other = replace(
        load,
        outcome=Outcome.FAIL,
        summary=replace(load.summary, measurement=replace(load.summary.measurement, case=case)),
    )
    run = replace(report.run, planned=(), verdicts=(load, other))
    (line,) = [line for line in markdown.render(run).splitlines() if "| Load of " in line]
    assert line.startswith("| ✗ FAIL, SIMULATED | Load of ultravpr |")
    assert "| MEASURED 1 |" in line


@pytest.mark.covers("RE-04")
def test_junit_has_a_case_for_every_row(report: reports.Report) -> None:
    xml = junit.render(report.run)
    assert xml.count("<testcase ") == len(report.run.verdicts)
    assert xml.count("<failure ") == 2
    assert 'classname="trigate.tier2.memory"' in xml
