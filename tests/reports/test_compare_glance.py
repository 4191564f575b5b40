"""The bump at a glance: a line for each model, runtime and precision, from every row that tells of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.records.comparison import Cause, Change, RowChange, Standing, State
from reports.compare_glance import COLUMNS, Cell, glance

pytestmark = pytest.mark.covers("RE-02")


def change(about: str, standing: str = "same", name: str = "", **given: object) -> Change:
    return replace(Change(name or about, "", Standing(standing), f"{about} is {standing}", about=about), **given)  # type: ignore[arg-type]


def row(model: str, kind: str, *changes: Change, standing: str = "same") -> RowChange:
    return RowChange(
        f"{model}-{kind}", kind, model, "tensorrt", "fp16", "", State.WORKS, State.WORKS, "", "", Standing(standing),
        Cause.NONE, "", changes=changes,
    )  # fmt: skip


def test_rows_of_one_model_are_one_line_with_the_gravest_of_each_kind() -> None:
    rows = [
        row("disk", "latency", change("p95", "worse", ratio=1.2), change("p50", ratio=1.001), standing="worse"),
        row(
            "disk",
            "parity",
            change("drift", base=4e-4, new=8e-4, ratio=2.0),
            change("outputs", "not known", words="not known: no outputs"),
        ),
        row("aliked", "latency", change("p95", ratio=1.0)),
    ]
    lines = glance(rows)
    assert [(line.name, line.standing, line.row) for line in lines] == [
        ("disk · tensorrt · fp16", "worse", "disk-latency"),
        ("aliked · tensorrt · fp16", "same", "aliked-latency"),
    ]
    assert lines[0].cells == {
        "p95": Cell(Standing.WORSE, "+20.0\u00a0%"),
        "p50": Cell(Standing.SAME, "+0.1\u00a0%"),
        "drift": Cell(Standing.SAME, "4.00e-4 → 8.00e-4"),
        "outputs": Cell(Standing.UNKNOWN, "not known"),
    }
    assert list(COLUMNS)[:2] == ["drift", "outputs"]


def test_what_a_row_about_all_models_says_of_one_is_told_in_its_line() -> None:
    of_disk = change("memory", "worse", "GPU memory of disk", ratio=1.5)
    of_all = change("memory", "same", "GPU memory", ratio=1.0)
    lines = {line.name: line for line in glance([row("disk", "latency"), row("memory", "memory", of_disk, of_all)])}
    assert lines["disk · tensorrt · fp16"].cells["memory"] == Cell(Standing.WORSE, "+50.0\u00a0%")
    assert lines["memory · tensorrt · fp16"].cells["memory"].standing == "worse"


def test_a_figure_that_two_rows_have_by_one_name_is_that_of_the_models_own_row() -> None:
    flown = row("flight", "flight", change("p95", "worse", "p95 of disk", ratio=1.3), standing="worse")
    lines = {one.name: one for one in glance([flown, row("disk", "latency", change("p95", "worse", ratio=1.2))])}
    assert lines["disk · tensorrt · fp16"].cells["p95"] == Cell(Standing.WORSE, "+20.0\u00a0%")
    assert lines["flight · tensorrt · fp16"].cells["p95"] == Cell(Standing.WORSE, "+30.0\u00a0%")


def test_of_several_figures_of_one_kind_the_gravest_is_named() -> None:
    load = [change("load", "worse", "load time", ratio=1.2), change("load", "same", "first call", ratio=1.0)]
    (line,) = glance([row("disk", "load", *load)])
    assert line.cells["load"] == Cell(Standing.WORSE, "load time: +20.0\u00a0%")


def test_several_changes_of_one_kind_are_counted_and_what_is_the_same_is_not() -> None:
    warned = [change("warnings", "changed", words=f"warning {at}") for at in range(3)]
    outputs = [change("outputs", "same", words="bit for bit the same, over 8 stored elements") for _ in range(4)]
    (line,) = glance([row("disk", "parity", *warned, *outputs)])
    assert line.cells == {
        "outputs": Cell(Standing.SAME, "bit for bit the same"),
        "warnings": Cell(Standing.CHANGED, "warning 0", 2),
    }
