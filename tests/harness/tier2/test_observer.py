"""What telemetry costs: made latencies whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from harness.tier2.observer import LIMIT, observer_effect
from runtime.protocol import Array

pytestmark = pytest.mark.covers("T2-01")


class Blocks:
    """Blocks of latencies about 10 ms, slower by ``cost`` per Hz of telemetry, each a little off; what was asked is kept."""

    def __init__(self, cost: float, *, spread: float = 0.0005, drift: float = 0.0, seed: int = 3) -> None:
        self.cost, self.spread, self.drift = cost, spread, drift
        self.chance = np.random.default_rng(seed)
        self.asked: list[float] = []

    def __call__(self, rate_hz: float) -> Array:
        self.asked.append(rate_hz)
        level = 1e7 * (1.0 + self.cost * rate_hz) * (1.0 + self.drift * len(self.asked))
        level *= np.exp(self.spread * self.chance.standard_normal())
        return np.asarray(level * self.chance.lognormal(0.0, 0.01, 200))


def test_telemetry_that_costs_nothing_keeps_its_rate() -> None:
    blocks = Blocks(0.0)
    rate_hz, figure = observer_effect(blocks)
    assert rate_hz == 10.0
    assert figure.value == pytest.approx(0.0, abs=0.2)
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < figure.high <= 100 * LIMIT
    assert figure.unit == "%"
    assert "6 pairs of blocks, with telemetry at 10 Hz and without, in random order" in figure.source


def test_the_rate_is_lowered_until_the_cost_is_small() -> None:
    blocks = Blocks(0.0013)  # 1.3 % at 10 Hz, 0.65 % at 5, 0.26 % at 2
    rate_hz, figure = observer_effect(blocks)
    assert rate_hz == 2.0
    assert figure.value == pytest.approx(0.26, abs=0.15)


def test_what_is_too_dear_at_every_rate_is_told_so() -> None:
    rate_hz, figure = observer_effect(Blocks(0.05), rates_hz=(10.0, 1.0))
    assert rate_hz == 1.0
    assert figure.value == pytest.approx(5.0, abs=0.3)
    assert figure.source.endswith("over 0.5 % even at the lowest rate")


def test_blocks_that_are_too_noisy_to_decide_are_told_so() -> None:
    rate_hz, figure = observer_effect(Blocks(0.0, spread=0.02, seed=8), looks=(6, 10))
    assert figure.high is not None
    assert figure.high > 100 * LIMIT
    assert "they do not decide" in figure.source
    assert rate_hz in {10.0, 5.0, 2.0, 1.0}


def test_an_interval_that_says_nothing_leaves_the_effect_unknown_and_the_rate_as_it_is() -> None:
    script = iter([1.4, 0.8, 1.3])
    rate_hz, figure = observer_effect(
        lambda rate: np.array([1e7 * (next(script) if rate else 1.0)]), rates_hz=(10.0, 5.0), looks=(3,)
    )
    assert (rate_hz, figure.value) == (10.0, None)
    assert figure.why.startswith("not known: 3 pairs of blocks at 10 Hz lie between ")
    assert figure.why.endswith("wider than 5 % either way")


def test_where_pairs_do_not_decide_the_effect_itself_does() -> None:
    script = {10.0: iter([1.02, 0.996, 1.014]), 5.0: iter([1.01, 0.99, 1.0005])}
    rate_hz, figure = observer_effect(
        lambda rate: np.array([1e7 * (next(script[rate]) if rate else 1.0)]), rates_hz=(10.0, 5.0), looks=(3,)
    )
    assert rate_hz == 5.0
    assert figure.value == pytest.approx(0.02, abs=0.02)


def test_pairs_have_both_kinds_in_random_order_so_that_drift_meets_both() -> None:
    blocks = Blocks(0.0, drift=0.002)
    rate_hz, figure = observer_effect(blocks, seed=1)
    pairs = [tuple(blocks.asked[at : at + 2]) for at in range(0, len(blocks.asked), 2)]
    assert {frozenset(pair) for pair in pairs if 10.0 in pair} == {frozenset({10.0, 0.0})}
    assert {pair[0] for pair in pairs} >= {0.0, 10.0}
    assert figure.low is not None
    assert figure.low <= 0.0
    again = Blocks(0.0, drift=0.002)
    assert observer_effect(again, seed=1) == (rate_hz, figure)
    assert again.asked == blocks.asked


@pytest.mark.parametrize("rates", [(), (0.0,), (10.0, -1.0)])
def test_rates_that_are_none_are_refused(rates: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected rates above 0"):
        observer_effect(Blocks(0.0), rates_hz=rates)


@pytest.mark.parametrize("block", [[], [float("nan")], [0.0]])
def test_a_block_without_latencies_is_refused(block: list[float]) -> None:
    with pytest.raises(ValueError, match="has no latencies"):
        observer_effect(lambda _: np.array(block))
