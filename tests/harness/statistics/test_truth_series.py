"""Series of known truth, and generators as other people write them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from harness.errors import UsageError
from harness.statistics.truth_series import SCENARIOS, from_outside
from runtime.protocol import Array

pytestmark = pytest.mark.long


def by_position(a: Any, b: Any, c: Any) -> Array:
    return np.asarray(a.lognormal(0, 0.1, b) * (c / c))


def by_name(size: int, rate: float, rng: np.random.Generator) -> Array:
    assert rate == 39.0
    return rng.lognormal(0, 0.1, size)


def seed_first(seed: int, n: int) -> Array:
    assert isinstance(seed, int)
    return np.random.default_rng(seed).lognormal(0, 0.1, n)


def seed_as_keyword(n: int, *, seed: int) -> Array:
    return np.random.default_rng(seed).lognormal(0, 0.1, n)


def unnamed_seed(start: int, many: int) -> Array:
    return np.random.RandomState(start).lognormal(0, 0.1, many)


def with_defaults(rng: np.random.Generator, n: int, rate_hz: float = 1.0, rho: float = 0.5) -> list[float]:
    assert (rate_hz, rho) == (39.0, 0.5)
    return [1.0 + float(one) for one in rng.random(n)]


def with_missed(rng: np.random.Generator, n: int, rate_hz: float) -> tuple[Array, Array]:
    return rng.random(n) + rate_hz, rng.random(n) < 0.1


def endless(rng: np.random.Generator) -> Iterator[float]:
    for _ in itertools.count():
        yield 1.0 + rng.random()


class Stateful:
    def __call__(self, rng: np.random.Generator, n: int, rate: float) -> Array:
        return 1.0 + rng.random(n) / rate


@pytest.mark.parametrize(
    "function",
    [
        by_position, by_name, seed_first, seed_as_keyword, unnamed_seed, with_defaults, with_missed, endless, Stateful(),
        lambda rng, n, rate: 1.0 + rng.random(n) / rate,
    ],
)  # fmt: skip
def test_a_generator_is_called_as_its_author_meant(function: Callable[..., Any]) -> None:
    series = from_outside("somebody's", function, 39.0).series
    first, missed = series(np.random.default_rng(1), 1000, 39.0)
    again, _ = series(np.random.default_rng(1), 1000, 39.0)
    other, _ = series(np.random.default_rng(2), 1000, 39.0)
    assert first.shape == missed.shape == (1000,)
    assert first.dtype == np.float64
    assert missed.dtype == bool
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_is_infinite_or_said_to_be_missed_is_missed() -> None:
    def failing(rng: np.random.Generator, n: int, rate: float) -> Array:
        return np.where(rng.random(n) < 0.1, np.where(rng.random(n) < 0.5, np.inf, np.nan), rate)

    latencies, missed = from_outside("failing", failing, 39.0).series(np.random.default_rng(1), 1000, 39.0)
    assert 60 < missed.sum() < 140
    assert np.isinf(latencies[missed]).all()
    _, told = from_outside("told", with_missed, 39.0).series(np.random.default_rng(1), 1000, 39.0)
    assert 60 < told.sum() < 140


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda rng, n, rate: np.ones(n // 2), "expected 512 latencies in one row"),
        (lambda rng, n, rate: np.ones((n, 2)), "expected 512 latencies in one row"),
        (lambda rng, n, rate: rng.random(n) - 0.5, "expected latencies above 0"),
        (lambda rng, n, rate: np.random.default_rng().random(n) + 1.0, "another series for the same chance"),
        (lambda: 1.0, "cannot be called as (numpy Generator, number of samples, rate in Hz)"),
        (lambda rng, n, rate: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_generator_that_cannot_be_used_is_told_what_it_should_be(function: Callable[..., Any], words: str) -> None:
    with pytest.raises(UsageError) as told:
        from_outside("mine:series", function, 39.0)
    assert words in str(told.value)
    assert str(told.value).startswith("mine:series ")


def test_bursts_take_the_share_of_time_that_they_say() -> None:
    slow, _ = SCENARIOS["bursts 2.5 s"].series(np.random.default_rng(1), 2_000_000, 39.0)
    assert (slow > 1.19).mean() == pytest.approx(0.03 * 0.55, rel=0.15)


def test_where_there_is_a_sensor_the_soak_waits_for_it() -> None:
    assert SCENARIOS["iid"].soak_s() == 180.0
    assert from_outside("mine", by_position, 39.0, 20.0).soak_s() == 20.0
    assert 500.0 <= SCENARIOS["drift"].soak_s() <= 850.0
