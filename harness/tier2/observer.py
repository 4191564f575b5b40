"""What telemetry itself costs the calls that it watches: blocks with it and without it, in turn, and a rate that is cheap enough.

Pure: what measures a block comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from harness.records import Figure, Outcome
from harness.statistics.paired import LOOKS, Change, compare_pairs
from runtime.protocol import Array

__all__ = ["KNOWN_WITHIN", "LIMIT", "observer_effect"]

LIMIT = 0.005
"""Of p50: telemetry that costs more than this share is asked less often."""
KNOWN_WITHIN = 0.05
"""Of p50: an interval that reaches farther than this to either side says nothing of so small a cost."""


def observer_effect(
    measure: Callable[[float], Array],
    rates_hz: Sequence[float] = (10.0, 5.0, 2.0, 1.0),
    *,
    seed: int = 0,
    limit: float = LIMIT,
    looks: Sequence[int] = LOOKS,
) -> tuple[float, Figure]:
    """The highest of ``rates_hz`` at which telemetry makes p50 slower by less than ``limit``, and by how much (in %).

    ``measure(rate_hz)``: latencies [n] in ns of one block with telemetry at that rate; 0: none. Blocks come in pairs, one of
    each kind in random order, so that warmth and drift meet both alike; the pair is what is replicated, and whether there are
    enough of them is judged as between two builds (``statistics.paired``). A rate that the pairs leave undecided is taken if the
    effect itself is under the limit. Where none is, the last rate is given; its figure says so. Where the interval is wider
    than ``KNOWN_WITHIN`` either way the effect is not known: the first rate stays, and the figure has no value.
    Raises ``ValueError`` without rates, or for a block without latencies.
    """
    if not rates_hz or min(rates_hz) <= 0:
        raise ValueError(f"rates {rates_hz!r}; expected rates above 0.")
    random = np.random.default_rng(seed)
    for rate_hz in rates_hz:
        change = _change(measure, rate_hz, random, limit, looks)
        if (change.high - change.low) / 2.0 > KNOWN_WITHIN and change.outcome is Outcome.INCONCLUSIVE:
            return rates_hz[0], _unknown(change, rate_hz)
        is_small = change.ratio - 1.0 <= limit
        if change.outcome is Outcome.PASS or (change.outcome is Outcome.INCONCLUSIVE and is_small):
            break
    percents = [100.0 * (ratio - 1.0) for ratio in (change.ratio, change.low, change.high)]
    source = f"p50 of {change.pairs} pairs of blocks, with telemetry at {rate_hz:g} Hz and without, in random order"
    if change.outcome is Outcome.INCONCLUSIVE:
        source += f"; they do not decide whether it is under {100 * limit:g} %"
    elif change.outcome is Outcome.FAIL:
        source += f"; over {100 * limit:g} % even at the lowest rate"
    return rate_hz, Figure("telemetry_effect", percents[0], "%", source, low=percents[1], high=percents[2])


def _unknown(change: Change, rate_hz: float) -> Figure:
    low, high = (100.0 * (ratio - 1.0) for ratio in (change.low, change.high))
    why = (
        f"not known: {change.pairs} pairs of blocks at {rate_hz:g} Hz lie between {low:+.1f} and {high:+.1f} %, wider than "
        f"{100 * KNOWN_WITHIN:g} % either way"
    )
    return Figure("telemetry_effect", None, "%", f"p50 of {change.pairs} pairs of blocks", why=why)


def _change(
    measure: Callable[[float], Array], rate_hz: float, random: np.random.Generator, limit: float, looks: Sequence[int]
) -> Change:
    ratios: list[float] = []
    for look in looks:
        while len(ratios) < look:
            order = random.permutation([rate_hz, 0.0])
            median = {float(rate): _median(measure(float(rate)), rate) for rate in order}
            ratios.append(float(np.log(median[rate_hz] / median[0.0])))
        change = compare_pairs(ratios, margin=limit)
        if change.outcome is not Outcome.INCONCLUSIVE:
            break
    return change


def _median(latencies: Array, rate_hz: float) -> float:
    median = float(np.median(latencies)) if np.size(latencies) else 0.0
    if not 0.0 < median < float("inf"):
        raise ValueError(f"a block at {rate_hz:g} Hz has no latencies, or such as {median:g} ns.")
    return median
