"""What other tools measured, in the forms that these tools write: kept, marked, never judged; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import UsageError
from harness.history import History
from harness.history.entry import Entry
from harness.history.imports import FORMATS, IMPORTS, Labels, import_file, read_foreign, sniff
from harness.records.history import Query

LABELS = Labels("disk", "tensorrt", "fp16", "orin-nx", "2024-11-05T10:00:00+00:00")
NOW = 1.8e9


def a_query(at: int, compute_ms: float, **given: float) -> dict[str, float]:
    """One of `trtexec --exportTimes`, as ``exportJSONTrace`` of TensorRT 10 writes it."""
    start = 10.0 * at
    return {
        "startEnqMs": start, "endEnqMs": start + 0.4, "startH2dMs": start, "endH2dMs": start + 0.5, "startComputeMs": start + 0.5,
        "endComputeMs": start + 0.5 + compute_ms, "startD2hMs": start + 5, "endD2hMs": start + 5.25, "h2dMs": 0.5,
        "computeMs": compute_ms, "d2hMs": 0.25, "latencyMs": compute_ms + 0.75, **given,
    }  # fmt: skip


TRTEXEC = [a_query(at, 4.0 + at) for at in range(20)]

PYTEST = {
    "machine_info": {"node": "builder", "machine": "aarch64", "python_version": "3.10.12", "cpu": {"brand_raw": "ARMv8"}},
    "commit_info": {"id": "abc123", "time": None, "dirty": False},
    "benchmarks": [
        {
            "group": None, "name": "test_disk", "fullname": "bench.py::test_disk", "params": None, "extra_info": {},
            "options": {"disable_gc": False}, "stats": {
                "min": 0.001, "max": 0.1, "mean": 0.0505, "stddev": 0.01, "rounds": 100, "median": 0.0505, "ops": 19.8,
                "total": 5.05, "data": [at / 1000 for at in range(1, 101)], "iterations": 1,
            },
        },
        {
            "name": "test_<b>thin</b>", "stats": {"min": 1e-6, "max": 2e-6, "mean": 1.5e-6, "rounds": 7, "median": 1.4e-6},
        },
    ],
    "datetime": "2023-06-01T12:00:00.123456+00:00",
    "version": "5.1.0",
}  # fmt: skip


def summary(tag: str, kind: str = "float64", **values: object) -> dict[str, object]:
    return {
        "tag": tag,
        "name": "",
        "data": [{"name": name, "type": kind, "value": str(value)} for name, value in values.items()],
    }


def nvbench(*more: dict[str, object], skipped: bool = False) -> dict[str, Any]:
    """As nvbench's JSON of version 1: numbers of summaries and axes are text."""
    state = {
        "name": "Device=0 Size=64",
        "device": 0,
        "axis_values": [{"name": "Size", "type": "int64", "value": "64"}],
        "summaries": [
            summary("nv/cold/sample_size", "int64", value=3),
            summary("nv/cold/time/cpu/mean", value=0.0021),
            summary("nv/cold/time/gpu/mean", value=0.002),
            *more,
        ],
        "is_skipped": False,
    }
    states = (
        [state, {"name": "Device=0 Size=65", "is_skipped": True, "skip_reason": "too large"}] if skipped else [state]
    )
    return {
        "meta": {
            "version": {"json": {"major": 1, "string": "1.0.0"}, "nvbench": {"string": "0.1.0", "git_sha": "348a"}}
        },
        "devices": [{"id": 0, "name": "Orin (nvgpu)", "sm_version": 870}],
        "benchmarks": [{"name": "gemm", "index": 0, "devices": [0], "axes": None, "states": states}],
    }


def saved(folder: Path, value: Any, name: str = "times.json") -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def read(folder: Path, value: Any, labels: Labels = LABELS) -> Entry:
    return read_foreign(saved(folder, value), labels)[0]


def figures(entry: Entry, at: int = 0) -> dict[str, Any]:
    return {one.name: pytest.approx(one.value) for one in entry.rows[at].figures}


def test_each_form_is_known_by_itself() -> None:
    others: list[Any] = [[], {}, [1], {"benchmarks": 3}, {"benchmarks": []}, "x", None]
    assert [sniff(value) for value in (TRTEXEC, PYTEST, nvbench())] == list(FORMATS)
    assert [sniff(value) for value in others] == [""] * len(others)


def test_trtexec_gives_quantiles_of_latency_and_of_each_stage(tmp_path: Path) -> None:
    entry = read(tmp_path, TRTEXEC)
    told = figures(entry)
    assert (told["p50_ns"], told["p95_ns"], told["count"]) == (13.75e6, 22.75e6, 20)
    assert (told["compute_p50_ns"], told["h2d_p50_ns"], told["d2h_p50_ns"], told["enqueue_p50_ns"]) == (
        13e6,
        5e5,
        2.5e5,
        4e5,
    )
    (row,) = entry.rows
    assert (row.row, row.machine, row.outcome, row.simulated) == (
        "disk-tensorrt-fp16-trtexec",
        "orin-nx",
        "MEASURED",
        "",
    )
    assert row.boundary.startswith("GPU events")
    assert (entry.source, entry.exit_code, entry.started_at) == ("trtexec", None, LABELS.at)


def test_the_older_form_of_trtexec_is_read_and_its_warmup_is_said(tmp_path: Path) -> None:
    old = [
        {"startInMs": 1, "inMs": 0.5, "computeMs": 4, "outMs": 0.25, "latencyMs": 4.75, "endToEndMs": 9.0}
        for _ in range(3)
    ]
    entry = read(tmp_path, old)
    assert figures(entry)["h2d_p50_ns"] == 5e5
    assert "its warm-up is among the queries" in entry.last_line


def test_pytest_benchmark_gives_a_row_for_each_benchmark(tmp_path: Path) -> None:
    entry = read(tmp_path, PYTEST, Labels(runtime="pytorch_fp16"))
    assert [row.model for row in entry.rows] == ["test_disk", "test_<b>thin</b>"]
    assert (figures(entry)["p95_ns"], figures(entry)["count"]) == (95e6, 100)
    assert set(figures(entry, 1)) == {"p50_ns", "mean_ns", "min_ns", "max_ns", "count"}
    assert "1 of 2 were saved without their data: their p95 is not known." in entry.last_line
    assert (entry.machine, entry.started_at) == ("ARMv8", "2023-06-01T12:00:00.123456+00:00")
    assert entry.facts == {"file": "times.json", "python": "3.10.12", "pytest-benchmark": "5.1.0", "commit": "abc123"}


def test_nvbench_without_samples_gives_its_mean_and_no_median_that_nobody_measured(tmp_path: Path) -> None:
    entry = read(tmp_path, nvbench(skipped=True))
    assert figures(entry) == {"mean_ns": 2e6, "count": 3}
    (row,) = entry.rows
    assert (row.setting, row.row) == ("Size=64", "disk-tensorrt-fp16-gemm-Size=64-nvbench")
    assert "1 states were skipped" in entry.last_line


def test_nvbench_with_its_sidecar_gives_quantiles_and_both_files_are_kept(tmp_path: Path) -> None:
    (tmp_path / "times.json-bin").mkdir()
    np.array([0.001, 0.002, 0.003], "<f4").tofile(tmp_path / "times.json-bin" / "0.bin")
    sidecar = summary("nv/json/bin:nv/cold/sample_times", "string", filename="times.json-bin/0.bin", size=3)
    path = saved(tmp_path, nvbench(sidecar))
    added = import_file(path, tmp_path / "history", LABELS, now=NOW)
    with History(tmp_path / "history") as history:
        told, _ = history.series(Query(model="disk"), ["p50_ns", "p95_ns"])
    assert [series.points[0].value for series in told.series] == [pytest.approx(2e6), pytest.approx(3e6)]
    kept = tmp_path / "history" / IMPORTS / added.id
    assert sorted(file.name for file in kept.rglob("*") if file.is_file()) == ["0.bin", "times.json"]
    assert read_foreign(kept / "times.json", LABELS)[0].rows == read_foreign(path, LABELS)[0].rows


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside.bin"])
def test_a_sidecar_elsewhere_is_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    np.array([0.001], "<f4").tofile(tmp_path / "outside.bin")
    sidecar = summary("nv/json/bin:nv/cold/sample_times", "string", filename=name, size=1)
    entry, files = read_foreign(saved(tmp_path / "in", nvbench(sidecar)), LABELS)
    assert figures(entry) == {"mean_ns": 2e6, "count": 3}
    assert len(files) == 1


def test_a_sidecar_of_another_length_is_refused(tmp_path: Path) -> None:
    np.array([0.001], "<f4").tofile(tmp_path / "0.bin")
    sidecar = summary("nv/json/bin:nv/cold/sample_times", "string", filename="0.bin", size=3)
    with pytest.raises(UsageError, match=r"its samples 0\.bin hold 4 bytes; expected 3 numbers of 4"):
        read(tmp_path, nvbench(sidecar))


def test_a_benchmark_that_is_there_twice_is_two_rows(tmp_path: Path) -> None:
    twice = {**PYTEST, "benchmarks": [PYTEST["benchmarks"][0]] * 2}  # type: ignore[index]
    assert [row.row for row in read(tmp_path, twice).rows] == [
        "disk-tensorrt-fp16-test_disk-bench.py-pytest-benchmark",
        "disk-tensorrt-fp16-test_disk (2)-bench.py-pytest-benchmark",
    ]


def test_benchmarks_of_one_name_in_two_files_are_two_series_in_whatever_order_they_stand(tmp_path: Path) -> None:
    one = PYTEST["benchmarks"][0]  # type: ignore[index]
    other = {**one, "fullname": "other.py::test_disk"}
    both = [
        [row.setting for row in read(tmp_path, {**PYTEST, "benchmarks": some}).rows] for some in ([one, other], [other])
    ]
    assert both == [["bench.py", "other.py"], ["other.py"]]


def test_a_value_of_another_kind_is_told_without_pythons_words(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="no file of pytest-benchmark that can be read: a value in it is of another kind"
    ):
        read(tmp_path, {**PYTEST, "machine_info": "a text"})


def test_the_same_file_again_is_known_and_with_other_labels_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, TRTEXEC)
    assert import_file(path, tmp_path / "history", LABELS, now=NOW).how == "added"
    assert import_file(path, tmp_path / "history", LABELS, now=NOW).how == "known"
    with pytest.raises(
        UsageError, match=r"with other content: import-trtexec-.* trigate history forget import-trtexec-"
    ):
        import_file(path, tmp_path / "history", Labels("other", at=LABELS.at), now=NOW)


@pytest.mark.parametrize(
    ("value", "labels", "why"),
    [
        ("{", LABELS, "is not JSON"),
        ("[" * 100_000, LABELS, "is not JSON"),
        ({"a": 1}, LABELS, r"of no format that is known; name one with --as\. Known: nvbench, pytest-benchmark, trtexec"),
        ([], LABELS, "of no format that is known"),
        (TRTEXEC, Labels("disk"), r"--at is ''; expected a time, .*which .*times\.json does not say"),
        (TRTEXEC, Labels("disk", at="yesterday"), "--at is 'yesterday'; expected a time"),
        (TRTEXEC, Labels(at=LABELS.at), "--model: name what was measured"),
        ([{**TRTEXEC[0], "latencyMs": "fast"}], LABELS, "latencyMs is no list of times"),
        ([{**TRTEXEC[0], "latencyMs": -1.0}], LABELS, "latencyMs is no list of times of 0 or more"),
        ([*TRTEXEC, {"latencyMs": 1.0}], LABELS, "it lacks 'computeMs'"),
        ([*TRTEXEC, 3], LABELS, "the file holds what is no object"),
        ({**PYTEST, "benchmarks": [{"name": "x", "stats": {"median": "nan", "mean": 1}}]}, LABELS, "median is 'nan'"),
        ({**PYTEST, "benchmarks": [{"name": "x", "stats": {"data": [True]}}]}, LABELS, "stats.data of x is no list of times"),
        ({**PYTEST, "benchmarks": []}, LABELS, "holds nothing that was measured"),
        ({"devices": [], "benchmarks": [{"name": "x", "states": [{"summaries": {"a": 1}}]}]}, LABELS, "no tags"),
        ({"devices": [], "benchmarks": [{"name": "x", "states": [{"name": "s"}]}]}, LABELS, "x s has no time"),
        ('[{"computeMs": 1e400, "latencyMs": 1}]', LABELS, "computeMs is no list of times|it lacks"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name_and_nothing_is_kept(
    tmp_path: Path, value: Any, labels: Labels, why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        import_file(saved(tmp_path, value), tmp_path / "history", labels, now=NOW)
    assert not (tmp_path / "history").exists()


def test_a_format_that_there_is_not_is_named_and_one_that_it_is_not_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, TRTEXEC)
    with pytest.raises(UsageError, match=r"'trtexe' is no format; name one with --as\. Did you mean 'trtexec'"):
        read_foreign(path, LABELS, form="trtexe")
    with pytest.raises(UsageError, match="is no file of nvbench that can be read"):
        read_foreign(path, LABELS, form="nvbench")
    with pytest.raises(UsageError, match=r"gone\.json cannot be read"):
        read_foreign(tmp_path / "gone.json", LABELS)


def test_an_import_is_listed_as_foreign_with_no_verdict(tmp_path: Path) -> None:
    import_file(saved(tmp_path, TRTEXEC), tmp_path / "history", LABELS, now=NOW)
    with History(tmp_path / "history") as history:
        (run,) = history.runs(Query(source="trtexec")).runs
        assert history.runs(Query(source="trigate")).total == 0
    assert (run.source, run.counts, run.exit_code) == ("trtexec", {"MEASURED": 1}, None)
    assert "no verdict" in run.last_line
