from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.numerics.parity import (
    OutputStatistics,
    aggregate,
    check_parity,
    compare,
    digest,
    digest_set,
    error_samples,
    examine,
    sample_errors,
)
from harness.records import Outcome, ParityFigures, Tolerance, from_json, to_json

GENERATOR = np.random.default_rng(1)
REFERENCE = [{"y": GENERATOR.standard_normal((2, 5, 3))} for _ in range(4)]
TOLERANCES = {"y": Tolerance("y", "derived", 1e-3, 5e-4, 1.0)}


def close(scale: float = 1e-4) -> list[dict[str, Any]]:
    noise = np.random.default_rng(2)
    return [
        {"y": (sample["y"] * (1 + scale * noise.uniform(-1, 1, sample["y"].shape))).astype(np.float32)}
        for sample in REFERENCE
    ]


def only(expected: Any, got: Any, tolerance: Tolerance | None = None) -> ParityFigures:
    (figures,) = compare([{"y": expected}], [{"y": got}], {} if tolerance is None else {"y": tolerance})
    return figures


def outcome(figures: ParityFigures) -> Outcome:
    (check,) = check_parity([figures])
    return check.outcome


@pytest.mark.covers("T1-01")
def test_figures_are_those_of_the_definitions() -> None:
    got = close()
    (figures,) = compare(REFERENCE, got, TOLERANCES)
    r = np.stack([sample["y"] for sample in REFERENCE])
    y = np.stack([sample["y"].astype(np.float64) for sample in got])
    errors = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(y, r, strict=True)]
    assert figures.rel_l2_max == pytest.approx(max(errors), rel=1e-12)
    assert figures.rel_l2_median == pytest.approx(np.median(errors), rel=1e-12)
    assert figures.max_abs == pytest.approx(np.abs(y - r).max(), rel=1e-12)
    assert figures.max_rel == pytest.approx((np.abs(y - r) / np.abs(r)).max(), rel=1e-12)
    assert figures.sqnr_db == pytest.approx(-20 * math.log10(max(errors)))
    cosines = [float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(y, r, strict=True)]
    assert figures.cosine_min == pytest.approx(min(cosines), rel=1e-12)
    assert (figures.shape, figures.dtype, figures.samples) == ((2, 5, 3), "float32", 4)
    where = np.unravel_index(np.abs(y - r).argmax(), r.shape)
    assert figures.max_abs_at == f"{where[0]}[{','.join(map(str, where[1:]))}]"
    assert outcome(figures) is Outcome.PASS


@pytest.mark.covers("T1-01")
def test_maximum_errors_are_those_of_polygraphys_comparator() -> None:
    pytest.importorskip("polygraphy", reason="polygraphy: not installed")
    from polygraphy.comparator import IterationResult, SimpleCompareFunc
    from polygraphy.logger import G_LOGGER

    got = close(3e-3)[0]["y"]
    expected = REFERENCE[0]["y"].astype(np.float32)
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        theirs = SimpleCompareFunc(check_error_stat="max")(
            IterationResult({"y": got}, runner_name="candidate"),
            IterationResult({"y": expected}, runner_name="reference"),
        )["y"]
    figures = only(expected, got)
    assert figures.max_abs == pytest.approx(theirs.max_absdiff, rel=1e-6)
    assert figures.max_rel == pytest.approx(theirs.max_reldiff, rel=1e-6)


def test_an_error_over_either_limit_fails_and_the_words_hold_the_figures() -> None:
    (figures,) = compare(REFERENCE, close(5e-3), TOLERANCES)
    (check,) = check_parity([figures])
    assert check.outcome is Outcome.FAIL
    assert f"{figures.rel_l2_max:.3g}" in check.reason
    assert "0.001" in check.reason
    strict_median = Tolerance("y", "derived", 1.0, 1e-6)
    (figures,) = compare(REFERENCE, close(), {"y": strict_median})
    (check,) = check_parity([figures])
    assert (check.outcome, "median error" in check.reason) == (Outcome.FAIL, True)


@pytest.mark.covers("T1-01")
@pytest.mark.parametrize(("where", "value"), [("got", np.nan), ("expected", np.nan), ("both", np.nan)])
def test_a_nan_anywhere_fails(where: str, value: float) -> None:
    r, y = np.ones(1000), np.ones(1000)
    if where != "expected":
        y[3] = value
    if where != "got":
        r[3] = value
    figures = only(r, y, TOLERANCES["y"])
    assert figures.nan == 1
    assert outcome(figures) is Outcome.FAIL
    assert outcome(only(r, y)) is Outcome.FAIL


def test_inf_is_legal_only_where_the_reference_has_the_same_one() -> None:
    r = np.array([1.0, np.inf, -np.inf, 2.0])
    figures = only(r, r.astype(np.float16), TOLERANCES["y"])
    assert (figures.inf, figures.rel_l2_max, outcome(figures)) == (0, 0.0, Outcome.PASS)
    for bad in ([1.0, -np.inf, -np.inf, 2.0], [1.0, np.inf, -np.inf, np.inf], [1.0, 7.0, -np.inf, 2.0]):
        figures = only(r, np.array(bad), TOLERANCES["y"])
        assert (figures.inf, outcome(figures)) == (1, Outcome.FAIL)


@pytest.mark.parametrize(
    ("got", "words"),
    [
        ([{"z": np.ones((2, 2))}], "no such output; it has z"),
        ([{"y": np.ones((2, 3))}], "shape (2, 3), the reference (2, 2)"),
        ([{"y": np.ones((2, 2), dtype=np.int64)}], "int64 (integer), the reference float64 (floating)"),
        ([{"y": np.ones((2, 2), dtype=bool)}], "boolean"),
        ([], "0 samples, and 1 of the reference"),
        ([{"y": np.ones((2, 2))}] * 2, "2 samples, and 1 of the reference"),
        ([{}], "it has none"),
    ],
)
@pytest.mark.covers("T1-01")
def test_an_output_that_cannot_be_compared_is_a_fail_in_words_and_no_exception(got: Any, words: str) -> None:
    figures = compare([{"y": np.ones((2, 2))}], got, TOLERANCES)
    check = check_parity(figures)[0]
    assert (check.name, check.outcome) == ("parity y", Outcome.FAIL)
    assert words in check.reason
    assert error_samples([{"y": np.ones((2, 2))}], got) == {}


def test_an_output_that_nobody_asked_for_is_a_fail() -> None:
    figures = compare([{"y": np.ones(2)}], [{"y": np.ones(2), "debug": np.zeros(2)}], TOLERANCES)
    assert [check.outcome for check in check_parity(figures)] == [Outcome.PASS, Outcome.FAIL]
    assert check_parity(figures)[1].name == "parity debug"


def test_nothing_compared_is_no_pass() -> None:
    assert [check.outcome for check in check_parity(compare([], [], {}))] == [Outcome.INCONCLUSIVE]


@pytest.mark.covers("RE-04")
def test_without_a_tolerance_a_row_is_measured_and_without_a_derivable_one_inconclusive() -> None:
    unstable = Tolerance("y", "derived", None, None, 4e5, "reference unstable: rounding is worth 0.7 of it")
    assert outcome(only(np.ones(3), np.ones(3))) is Outcome.MEASURED
    (check,) = check_parity([only(np.ones(3), np.ones(3), unstable)])
    assert (check.outcome, "reference unstable" in check.reason) == (Outcome.INCONCLUSIVE, True)
    ignored = Tolerance("y", "ignore", None, None, why="a debug output")
    (check,) = check_parity([only(np.ones(3), np.full(3, np.nan), ignored)])
    assert (check.outcome, "a debug output" in check.reason) == (Outcome.MEASURED, True)


def test_a_zero_reference_has_no_relative_error_and_is_held_to_an_absolute_one() -> None:
    zero = np.zeros(4)
    figures = only(zero, np.array([0, 0, 5e-4, 0]), TOLERANCES["y"])
    assert (figures.rel_l2_max, figures.max_rel, figures.cosine_min, figures.sqnr_db) == (None, None, None, None)
    assert outcome(figures) is Outcome.PASS
    assert outcome(only(zero, np.array([0, 0, 5e-3, 0]), TOLERANCES["y"])) is Outcome.FAIL
    assert only(zero, zero).rel_l2_max == 0.0


def test_one_zero_sample_among_others_is_held_against_the_largest() -> None:
    errors = sample_errors([np.zeros(4), np.full(4, 5.0)], [np.array([1.0, 0, 0, 0]), np.full(4, 5.0)])
    assert errors == [pytest.approx(0.1), 0.0]


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1e200, 1.5e308])
def test_figures_neither_overflow_nor_vanish(scale: float) -> None:
    r = scale * np.array([1.0, -0.5, 0.25])
    figures = only(r, r * np.array([1.0, 1.0, 1.01]))
    assert figures.rel_l2_max == pytest.approx(0.0025 / np.linalg.norm([1.0, 0.5, 0.25]), rel=1e-3)
    assert figures.max_rel == pytest.approx(0.01, rel=1e-3)
    assert figures.cosine_min == pytest.approx(1.0, abs=1e-5)
    assert only(r, -r).rel_l2_max == pytest.approx(2.0)


def test_exact_outputs_have_an_infinite_sqnr_that_survives_json() -> None:
    figures = only(np.arange(3.0), np.arange(3.0))
    assert figures.sqnr_db == math.inf
    assert from_json(ParityFigures, to_json(figures)) == figures


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_integers_and_booleans_are_compared_element_for_element(dtype: Any) -> None:
    r = np.array([0, 1, 1, 0, 1, 1, 0, 1]).astype(dtype)
    y = r.copy()
    y[2] = 0
    exactly = Tolerance("y", "derived", 0.0, 0.0)
    assert outcome(only(r, r, exactly)) is Outcome.PASS
    figures = only(r, y, exactly)
    assert figures.rel_l2_max == pytest.approx(1 / 8)
    assert "1 of 8 elements differ" in figures.max_abs_at
    (check,) = check_parity([figures])
    assert (check.outcome, "share of differing elements" in check.reason) == (Outcome.FAIL, True)
    assert outcome(only(r, y, Tolerance("y", "derived", 0.2, 0.2))) is Outcome.PASS


def test_large_integers_are_not_rounded_to_floats() -> None:
    assert only(np.array([2**60]), np.array([2**60 + 1])).rel_l2_max == 1.0


def test_scalars_and_empty_outputs_are_compared() -> None:
    figures = only(np.array(2.0), np.array(2.5))
    assert (figures.max_abs, figures.max_abs_at, figures.rel_l2_max) == (0.5, "0[]", 0.25)
    figures = only(np.ones((0, 3)), np.ones((0, 3), dtype=np.float32), TOLERANCES["y"])
    assert (figures.max_abs, outcome(figures)) == (0.0, Outcome.PASS)


def test_samples_may_differ_in_shape() -> None:
    sizes = [{"y": np.ones(3)}, {"y": np.ones(5)}]
    (figures,) = compare(sizes, sizes, TOLERANCES)
    assert (figures.samples, outcome(figures)) == (2, Outcome.PASS)


@pytest.mark.covers("T1-01")
def test_a_digest_is_of_names_dtypes_shapes_and_bytes_and_of_nothing_else() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    feed: dict[str, Any] = {"a": x, "b": np.array(1, dtype=np.int64)}
    same: dict[str, Any] = {"b": np.array(1, dtype=np.int64), "a": np.asfortranarray(x)}
    assert digest(feed) == digest(same) == digest({**feed, "a": x.astype(">f4")})
    others: list[dict[str, Any]] = [
        {**feed, "a": x.reshape(4, 3)},
        {**feed, "a": x.view(np.int32)},
        {**feed, "a": np.nextafter(x, np.float32(9))},
        {**feed, "a": -0.0 * x},
        {"a2": x, "b": feed["b"]},
        {"a": x},
    ]
    assert len({digest(feed), *(digest(other) for other in others)}) == 7
    assert digest({"a": np.ones((0, 2))}) != digest({"a": np.ones((2, 0))})
    assert digest_set([feed, same]) != digest_set([feed])


def test_the_errors_for_plots_are_paired_limited_and_hold_the_largest() -> None:
    r = np.random.default_rng(3).standard_normal(20_000)
    y = r + 1e-6
    y[12_345] += 1.0
    drawn = error_samples([{"y": r}], [{"y": y}], limit=500, seed=4)
    assert drawn["y/reference"].shape == drawn["y/error"].shape == (500,)
    assert drawn["y/error"].max() == pytest.approx(1.0, abs=1e-5)
    assert r[12_345] in drawn["y/reference"]
    again = error_samples([{"y": r}], [{"y": y}], limit=500, seed=4)
    assert np.array_equal(drawn["y/reference"], again["y/reference"])
    finite = error_samples([{"y": np.array([1.0, np.inf, 2.0])}], [{"y": np.array([1.5, np.inf, np.nan])}])
    assert finite["y/error"].tolist() == [0.5]


def test_figures_do_not_depend_on_the_blocks_in_which_they_are_summed() -> None:
    generator = np.random.default_rng(9)
    r = generator.standard_normal((3, 100_003))
    y = (r * (1 + 1e-4 * generator.standard_normal(r.shape))).astype(np.float32)
    y[2, 99_999] += 3.0
    figures = only(r, y)
    assert figures.max_abs_at == "0[2,99999]"
    assert figures.rel_l2_max == pytest.approx(np.linalg.norm(y - r) / np.linalg.norm(r), rel=1e-9)
    assert figures.max_rel == pytest.approx(np.abs((y - r) / r).max(), rel=1e-12)
    y[2, 5] = np.nan
    r[1, 7] = np.inf
    assert (only(r, y).nan, only(r, y).inf) == (1, 1)


def test_the_errors_for_plots_come_from_every_sample() -> None:
    expected = [{"y": np.full(at + 1, float(at))} for at in range(4)]
    got = [{"y": np.full(at + 1, at + 0.5)} for at in range(4)]
    drawn = error_samples(expected, got)
    assert drawn["y/reference"].tolist() == [0.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0]
    assert set(drawn["y/error"]) == {0.5}
    few = error_samples(expected, got, limit=6)
    assert len(few["y/reference"]) == 6


_NUMBERS = st.sampled_from([0.0, 1.0, -2.5, 1e-200, 1e200, math.nan, math.inf, -math.inf, 3.0])
_PAIRS = st.lists(st.lists(st.tuples(_NUMBERS, _NUMBERS), max_size=4), min_size=1, max_size=3)


@pytest.mark.covers("RE-03")
@given(_PAIRS, st.sampled_from([np.float64, np.float32, np.int64, np.bool_]))
@settings(max_examples=120, deadline=None)
def test_figures_made_again_from_stored_statistics_are_those_of_the_outputs(pairs: Any, dtype: Any) -> None:
    with np.errstate(all="ignore"):
        numbers = [np.array(sample, np.float64).reshape(-1, 2) for sample in pairs]
        if dtype is not np.float64:
            numbers = [np.nan_to_num(sample, nan=3.0, posinf=9.0, neginf=-9.0).clip(-9, 9) for sample in numbers]
        expected, got = ([{"y": sample[:, side].astype(dtype)} for sample in numbers] for side in (0, 1))
    statistics = examine(expected, got)
    text = json.dumps(to_json(statistics[0]), allow_nan=False)
    again = from_json(OutputStatistics, json.loads(text))
    assert again == statistics[0]
    assert aggregate([again], TOLERANCES) == compare(expected, got, TOLERANCES)
    errors = sample_errors([one["y"] for one in expected], [one["y"] for one in got])
    defined = [error for error in errors if error is not None]
    assert aggregate([again], {})[0].rel_l2_max == max(defined, default=None)
    drawn, known = error_samples(expected, got, limit=3), error_samples(expected, got, limit=3, statistics=statistics)
    assert all(np.array_equal(drawn[name], known[name]) for name in {**drawn, **known})


@pytest.mark.covers("RE-03")
def test_what_cannot_be_compared_keeps_its_reason_among_the_statistics() -> None:
    (missing, stray) = examine([{"y": np.ones(2)}], [{"z": np.ones(3, np.float32)}])
    assert (missing.obstacle, missing.samples) == ("sample 0 has no such output; it has z", ())
    assert (stray.output, stray.shape, stray.dtype, stray.count) == ("z", (3,), "float32", 1)
    assert aggregate([missing, stray], {}) == compare([{"y": np.ones(2)}], [{"z": np.ones(3, np.float32)}], {})
