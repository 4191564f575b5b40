"""What is kept of a row about numerics: the same elements of every version, and a file that tells when it is damaged."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.gates import judge_numerics
from harness.numerics.parity import compare, digest, examine
from harness.numerics.raw import (
    LIMIT,
    RULE,
    KeptOutput,
    Numerics,
    TaskScores,
    keep,
    of_authors,
    places,
    raw_arrays,
    read_elements,
    read_numerics,
)
from harness.records import Case, Check, Measurement, Outcome, RecordError, Tolerance, to_json
from harness.run_folder import RunFolder

CASE = Case("disk-onnx_trt_ep-fp32-b1", 1, "parity", "disk", "onnx_trt_ep", "fp32", "fp32", "small")
CHANCE = np.random.default_rng(3)


def written(folder: Path, numerics: Numerics, elements: Any = ()) -> Path:
    with RunFolder(folder) as opened:
        return folder / opened.write_arrays("raw/row.npz", raw_arrays(numerics, elements), compress=False)


def by_the_rule(name: str, shape: tuple[int, ...], sample: int, count: int) -> list[int]:
    """``RULE`` in Python's own integers."""
    seed = int.from_bytes(
        hashlib.sha256(f"{name}|{','.join(map(str, shape))}|{sample}".encode()).digest()[:8], "little"
    )
    size, ones, found = math.prod(shape), 2**64 - 1, []
    for at in range(count):
        mixed = (seed + at + 0x9E3779B97F4A7C15) & ones
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & ones
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & ones
        mixed ^= mixed >> 31
        low, high = at * size // count, (at + 1) * size // count
        found.append(low + mixed % (high - low))
    return found


def test_places_never_change_for_two_versions_must_draw_the_same_ones() -> None:
    assert places("scores", (1, 8), 0, 3).tolist() == [1, 4, 6]
    for row in (("scores", (1, 8), 0, 3), ("größe", (9999,), 2, 40), ("wide", (1000, 1000), 1, 5)):
        assert places(*row).tolist() == by_the_rule(*row)
    assert "splitmix64" in RULE


@given(st.lists(st.integers(0, 60), max_size=3), st.integers(0, 5), st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_places_are_in_the_output_sorted_and_one_in_each_stratum(shape: list[int], sample: int, count: int) -> None:
    found, size = places("y", shape, sample, count), math.prod(shape)
    assert found.size == min(count, size)
    assert (np.diff(found) > 0).all()
    if found.size:
        edges = np.arange(found.size + 1) * size // found.size
        assert ((edges[:-1] <= found) & (found < edges[1:])).all()


@given(st.lists(st.integers(0, 400), max_size=5), st.integers(0, 900))
@settings(max_examples=60, deadline=None)
def test_small_outputs_are_kept_whole_and_all_together_are_within_the_limit(sizes: list[int], limit: int) -> None:
    outputs = [{f"y{at}": np.zeros(size, np.float32) for at, size in enumerate(sizes)}]
    kept, elements = keep(outputs, limit=limit)
    counts = [one.count for one in kept]
    assert [array.size for array in elements] == counts
    assert sum(counts) <= max(limit, 0) or counts == sizes == []
    if sum(sizes) <= limit:
        assert counts == sizes
    else:
        cap = max(counts)
        assert counts == [min(size, cap) for size in sizes]
        assert sum(min(size, cap + 1) for size in sizes) > limit  # nothing more would have fitted


@pytest.mark.covers("RE-03")
def test_outputs_are_kept_as_they_came_whole_or_at_places_that_no_dtype_moves(tmp_path: Path) -> None:
    wide = CHANCE.standard_normal((LIMIT // 1000, 1001))
    outputs: list[dict[str, Any]] = [
        {
            "half": CHANCE.standard_normal((2, 3)).astype(np.float16),
            "ids": np.array([[3, -1]], np.int64),
            "mask": np.array([True, False]),
            "none": np.empty((0, 4), np.float32),
            "one": np.float32(2.5) * np.ones(()),
            "wide": wide.astype(np.float32),
        }
    ]
    kept, elements = keep(outputs)
    numerics = Numerics("row", "parity", "fp32", "reference", examine(outputs, outputs), kept=kept)
    path = written(tmp_path / "run", numerics, elements)
    assert read_numerics(path) == numerics
    for name, array in outputs[0].items():
        ((known, back),) = read_elements(path, numerics, name).values()
        assert (back.dtype, known.shape, known.sha256) == (array.dtype, array.shape, digest({name: array}))
        if name != "wide":
            np.testing.assert_array_equal(back.reshape(array.shape), array)
    assert known.count < wide.size
    np.testing.assert_array_equal(back, array.reshape(-1)[places("wide", array.shape, 0, known.count)])
    for size in (LIMIT + 1000, LIMIT * 3 // 4):
        counts = [
            [one.count for one in keep([{**outputs[0], "wide": np.zeros(size, dtype)}])[0]]
            for dtype in (np.float16, np.float32, np.float64)
        ]
        assert counts[0] == counts[1] == counts[2]


def test_what_is_no_number_is_not_kept_and_keeps_nothing_else_from_it() -> None:
    outputs = [{"words": np.array(["a", "b"]), "objects": np.array([{}], object), "y": np.ones(2)}]
    kept, elements = keep(outputs)
    assert [one.output for one in kept] == ["y"]
    assert elements[0].tolist() == [1.0, 1.0]
    assert keep([]) == ((), ())


def numerics_of(**given: Any) -> Numerics:
    r, y = [{"y": np.ones(4)}], [{"y": np.full(4, 1.5)}]
    base = Numerics(
        "row",
        "parity",
        "fp32",
        "reference",
        examine(r, y),
        {"y": Tolerance("y", "derived", 1.0, None)},
        task=TaskScores("my:metric", "higher", 0.1, (1.0,) * 6, (1.0,) * 6),
    )
    return replace(base, **given)


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize(
    ("task", "outcome"),
    [
        (None, Outcome.PASS),
        (TaskScores("my:metric", "higher", 0.1, (1.0,) * 6, (1.0,) * 6), Outcome.PASS),
        (TaskScores("my:metric", "higher", 0.1, (1.0,) * 6, (0.0,) * 6), Outcome.FAIL),
        (TaskScores("my:metric", "higher", 0.1, (1.0,) * 2, (0.0,) * 2), Outcome.INCONCLUSIVE),
        (
            TaskScores("my:metric", "higher", 0.1, broken=Check("task", Outcome.FAIL, "my:metric fails")),
            Outcome.FAIL,
        ),
    ],
)
def test_a_row_is_judged_from_the_file_alone_its_task_too(
    tmp_path: Path, task: TaskScores | None, outcome: Outcome
) -> None:
    numerics = numerics_of(task=task)
    back = read_numerics(written(tmp_path / "run", numerics))
    assert judge_numerics(Measurement(CASE), back) == judge_numerics(Measurement(CASE), numerics)
    assert judge_numerics(Measurement(CASE), back).outcome is outcome


@pytest.mark.parametrize(
    ("want", "got", "outside"),
    [
        ([1.0, 2.0], [1.001, 2.0], 0),
        ([1.0, 2.0], [1.01, 2.0], 1),
        ([1.0, np.nan], [1.0, np.nan], 1),
        ([1.0, np.inf], [1.0, np.inf], 0),
        ([1.0, 2.0], [1.0, 2.0, 3.0], 2),
        ([1.0, 2.0], None, 2),
    ],
)
def test_what_a_models_authors_ship_is_held_element_by_element(want: Any, got: Any, outside: int) -> None:
    outputs = [{"y": np.array(got, np.float32)} if got is not None else {}]
    (one,) = of_authors([{"y": np.array(want, np.float32)}], outputs)
    assert (one.outside, one.size) == (outside, 2)
    if got is not None and len(got) == 2:
        assert (one.outside == 0) is np.allclose(got, want, rtol=2e-3, atol=1e-7)
    judged = judge_numerics(Measurement(CASE), numerics_of(golden=(one,), task=None))
    assert judged.outcome is (Outcome.FAIL if outside else Outcome.PASS)
    in_half = replace(numerics_of(golden=(one,), task=None), lane="fp16")
    assert judge_numerics(Measurement(CASE), in_half).outcome is Outcome.PASS  # their rule is for fp32


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 99}, "has schema 99; this trigate reads up to 1: upgrade"),
        ({"outputs": [{"output": "y"}]}, "lacks a field"),
        ({"outputs": None}, "expected a list"),
        ("ratio", "are none that a row gives"),
        ("count", "are none that a row gives"),
        ("samples", "are none that a row gives"),
        ("worst", "are none that a row gives"),
    ],
)
def test_statistics_that_no_row_gives_are_refused(tmp_path: Path, change: Any, words: str) -> None:
    value = to_json(numerics_of())
    entry = value["outputs"][0]
    if change == "ratio":
        entry["samples"][0]["ratio"] = "nan"  # a NaN is over no tolerance
    elif change == "count":
        entry["count"] = 7
    elif change == "samples":
        entry["samples"] = []
    elif change == "worst":
        entry["samples"][0]["worst"] = 4
    else:
        value.update(change)
    with RunFolder(tmp_path / "run") as opened:
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        path = tmp_path / "run" / opened.write_arrays("raw/row.npz", {"numerics": text})
    with pytest.raises(RecordError, match=words):
        read_numerics(path)


@pytest.mark.covers("RE-03")
def test_elements_that_are_not_what_they_are_said_to_be_are_refused(tmp_path: Path) -> None:
    kept = (KeptOutput("y", 0, (4,), "float32", "", 4), KeptOutput("z", 0, (2,), "float32", "", 3))
    elements = (np.ones(4), np.ones(3, np.float32))
    numerics = numerics_of(kept=kept)
    path = written(tmp_path / "run", numerics, elements)
    for name in ("y", "z"):  # another dtype; more elements than the output has
        with pytest.raises(RecordError, match="are not the"):
            read_elements(path, numerics, name)
    lost = replace(numerics, kept=(*kept, KeptOutput("w", 0, (2,), "float32", "", 2)))
    with pytest.raises(RecordError, match="has no elements/2"):
        read_elements(path, lost, "w")
    with pytest.raises(RecordError, match="cannot be read"):
        read_numerics(tmp_path / "nowhere.npz")


def test_a_file_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as opened:
        name = opened.write_arrays("raw/row.npz", {"numerics": np.zeros(65 << 20, np.uint8)})
    with pytest.raises(RecordError, match="expected at most"):
        read_numerics(tmp_path / "run" / name)


def test_figures_from_the_file_are_those_of_the_outputs(tmp_path: Path) -> None:
    r = [{"y": CHANCE.standard_normal((3, 5))} for _ in range(3)]
    y = [{"y": (one["y"] + 1e-5).astype(np.float16)} for one in r]
    path = written(tmp_path / "run", numerics_of(outputs=examine(r, y), tolerances={}, task=None))
    assert judge_numerics(Measurement(CASE), read_numerics(path)).summary.parity == compare(r, y, {})
