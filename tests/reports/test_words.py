from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from harness.records import Outcome, Verdict
from reports import words
from reports.run_folder import read_run


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0.0, "0"),
        (12.345, "12.3"),
        (0.00123, "0.00123"),
        (1.234e-5, "1.23e-5"),
        (9.999, "10.0"),
        (999.9, "1,000"),
        (12_345.0, "12,300"),
        (2.5e9, "2.50e9"),
        (-0.5, "-0.500"),
        (150.0, "150"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
    ],
)
def test_a_figure_has_three_digits_and_is_never_a_zero_when_it_is_missing(value: float | None, text: str) -> None:
    assert words.figure(value) == text


def test_an_interval_has_its_unit_and_a_dash_for_a_bound_that_is_not_known() -> None:
    assert words.interval(12.34, 12.1, None) == "12.3 ms [12.1, –]"
    assert words.interval(None, 1.0, 2.0) == "–"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "ns", "–"),
        (math.nan, "W", "–"),
        (0.0, "ns", "0 ms"),
        (417.0, "ns", "417 ns"),
        (2_409.0, "ns", "2.41 µs"),
        (999_990.0, "ns", "1.00 ms"),
        (25_014_587.0, "ns", "25.0 ms"),
        (2.6e9, "ns", "2.60 s"),
        (512.0, "bytes", "512 B"),
        (210_000.0, "bytes", "205 KiB"),
        (398_458_880.0, "bytes", "380 MiB"),
        (1_495_269_376.0, "bytes", "1.39 GiB"),
        (-2_097_152.0, "bytes", "-2.00 MiB"),
        (8.264, "W", "8.26 W"),
        (2.7477, "J", "2.75 J"),
        (67.1875, "°C", "67.2 °C"),
        (1173.0, "MHz", "1,173 MHz"),
        (406.0, "count", "406"),
        (10_739_574.9, "count", "10.7 million"),
        (1.2226, "ratio", "1.22"),
        (385.35, "s", "6 min 25 s"),
        (240.0, "s", "4 min"),
        (11_520.0, "s", "3 h 12 min"),
        (-300.0, "s", "-5 min"),
        (12.34, "s", "12.3 s"),
    ],
)
def test_a_quantity_is_in_a_unit_for_people(value: float | None, unit: str, text: str) -> None:
    assert words.quantity(value, unit) == text


def test_a_quantity_has_its_interval_where_it_has_one() -> None:
    assert words.spread(17.0, 11.4, None, "ratio") == "17.0 [11.4, –]"
    assert words.spread(1e6, None, None, "ns") == "1.00 ms"
    assert words.spread(None, 1.0, 2.0, "W") == "–"
    assert words.spread(6.16e7, 6.15e7, 6.17e7, "ns") == "61.6 ms [61.5, 61.7]"
    assert words.spread(6.16e7, None, 6.17e9, "ns") == "61.6 ms [–, 6.17 s]"
    assert words.spread(100.0, 90.0, 130.0, "s") == "100 s [90.0 s, 2 min 10 s]"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gpu_temp_max_c[disk]", ("GPU temperature max", "disk")),
        ("deadline_misses.disk[disk]", ("Deadline misses", "disk")),
        ("leak_bytes_per_cycle[disk gpu]", ("Leak per cycle", "disk gpu")),
        ("soak_slope_c_per_min", ("Soak slope per min", "")),
        ("h2d_p50_ns", ("Host to device p50", "")),
        ("host_bytes", ("Host", "")),
    ],
)
def test_a_figure_has_a_name_for_people(name: str, told: tuple[str, str]) -> None:
    assert words.figure_name(name) == told


def test_what_would_decide_is_a_count_and_a_time() -> None:
    assert words.undecided(900, 39.0) == "about 900 more requests, 23.1 s at 39 Hz"
    assert words.undecided(900, None) == "about 900 more requests"
    assert words.undecided(None, 39.0) == ""


def test_a_run_is_told_by_when_it_began_and_how_long_it_took(small: Path) -> None:
    run = read_run(small)
    for begun, ended, told in (
        ("2026-03-04T10:00:00+00:00", "2026-03-04T10:06:12+00:00", "2026-03-04 10:00:00 UTC, 6 min 12 s"),
        (
            "2026-03-04T10:00:00+00:00",
            "2026-03-04T09:00:00+00:00",
            "2026-03-04 10:00:00 UTC to 2026-03-04T09:00:00+00:00",
        ),
        ("2026-03-04T10:00:00+00:00", "", "2026-03-04T10:00:00+00:00"),
        ("2026-03-04T10:00:00+00:00", "2026-03-04T10:06:12", "2026-03-04T10:00:00+00:00 to 2026-03-04T10:06:12"),
        ("yesterday", "today", "yesterday to today"),
    ):
        assert words.span(replace(run, started_at=begun, finished_at=ended)) == told


@pytest.mark.parametrize(
    ("share", "text"), [(None, "–"), (0.0, "0 %"), (0.004, "<1 %"), (0.42, "42 %"), (11.2, "1,120 %"), (math.inf, "∞")]
)
def test_a_share_is_told_in_percent(share: float | None, text: str) -> None:
    assert words.percent(share) == text


def test_plain_text_keeps_every_script_and_loses_what_steers_a_terminal_or_the_direction() -> None:
    assert words.plain("名前 عربي ñ 🛩\t\n") == "名前 عربي ñ 🛩\t\n"
    assert words.plain("a\x00b\x1b[31m\u202ec\u2067d\ud800\ufffe\x85") == "a�b�[31m�c�d���"


@pytest.mark.covers("T1-03")
def test_a_planned_row_without_a_verdict_is_not_run_and_keeps_its_place(small: Path) -> None:
    from reports.run_folder import read_run

    run = read_run(small)
    cut = replace(run, verdicts=run.verdicts[:3] + run.verdicts[5:], complete=False, interrupted=True)
    rows = words.rows_of(cut)
    assert [row.case.id for row in rows] == [case.id for case in run.planned]
    assert [row.outcome for row in rows[3:5]] == [Outcome.NOT_RUN] * 2
    assert rows[3].reason == "not reached: the run is interrupted"


@pytest.mark.covers("RE-04", "T1-01")
def test_a_pass_that_is_simulated_or_no_witness_is_no_evidence_and_leaves_a_requirement_open(small: Path) -> None:
    from reports.run_folder import read_run

    row = next(
        v for v in read_run(small).verdicts if v.outcome is Outcome.PASS and v.case.required and words.is_evidence(v)
    )
    for change in ({"simulated": True}, {"witness": False}):
        measurement = replace(row.summary.measurement, **change)  # type: ignore[arg-type]  # fields by name
        doubtful = replace(row, summary=replace(row.summary, measurement=measurement))
        assert not words.is_evidence(doubtful)
        assert words.is_open(doubtful)
    assert words.is_evidence(row)
    assert not words.is_open(row)


@pytest.mark.covers("RE-04")
@pytest.mark.parametrize(
    ("code", "word"),
    [(0, "PASS"), (1, "FAIL"), (3, "OPEN"), (4, "INTERNAL ERROR"), (130, "INTERRUPTED"), (None, "NOT FINISHED")],
)
def test_every_exit_code_has_its_words(small: Path, code: int | None, word: str) -> None:
    from reports.run_folder import read_run

    run = replace(read_run(small), exit_code=code)
    assert words.title(run) == word
    assert words.headline(run).endswith(".")


@pytest.mark.covers("RE-04")
def test_the_headline_names_what_fails_the_required_first(small: Path) -> None:
    run = read_run(small)
    rows = [replace(row, outcome=Outcome.FAIL) for row in run.verdicts[:4]]
    named = [row.case.id for row in sorted(rows, key=lambda row: not row.case.required)]
    assert rows[0].case.id != named[0]

    def headline(*fails: Verdict) -> str:
        return words.headline(replace(run, planned=(), verdicts=fails, exit_code=1))

    assert headline(*rows) == f"4 rows fail: {named[0]}, {named[1]} and 2 more."
    assert headline(*rows[:2]) == f"2 rows fail: {rows[0].case.id} and {rows[1].case.id}."
    assert headline(rows[0]) == f"{rows[0].case.id} fails."
    assert headline() == "At least one row fails."
    measurement = rows[0].summary.measurement
    long = replace(measurement, case=replace(rows[0].case, id="x" * 200))
    assert headline(replace(rows[0], summary=replace(rows[0].summary, measurement=long))) == f"{'x' * 60}… fails."


def test_every_requirement_that_a_row_bears_on_is_told_in_words() -> None:
    from harness.plan import _COVERS

    assert {name for names in _COVERS.values() for name in names} <= set(words.REQUIREMENTS)
    assert all(words.REQUIREMENTS.values())


def test_a_run_without_a_last_line_says_the_counts_so_far(small: Path) -> None:
    from reports.run_folder import read_run

    run = read_run(small)
    line = words.last_line(replace(run, last_line="", exit_code=None))
    assert line.startswith("FAIL 1, INCONCLUSIVE 1,")
    assert line.endswith("so far.")
    assert words.last_line(replace(run, last_line="", verdicts=())) == "No row has a verdict so far."
