"""Rounding noise, as Monte-Carlo arithmetic has it (Parker 1997; methods B3), for numpy.

A result x becomes x·(1 + u·U(-1, 1)), unless a float of unit roundoff u holds x exactly: such a value is not rounded.
"""

from __future__ import annotations

import math

import numpy as np

from runtime.protocol import Array

__all__ = ["Rounding", "noise_width", "splitter"]


def noise_width(u: float, terms: int = 1) -> float:
    """The half-width of the noise on a result for which ``terms`` were summed.

    A library may add them one by one, in float32 if not finer; the sum of n terms of one sign is then off by
    0.41·2^-24·sqrt(n/3) in standard deviation: a random walk (Higham and Mary 2019) of roundings of 0.41 units. A
    uniform draw of that deviation is sqrt(3) times as wide. It is more than ``u`` in long sums of the fp32 lane.
    """
    return max(u, min(u, 2.0**-24) * 0.41 * math.sqrt(terms))


def splitter(u: float) -> float:
    """Veltkamp's factor c: ``x·c - (x·c - x)`` is the float64 x rounded to the bits of a float of unit roundoff u."""
    return 2.0**53 * u + 1.0


class Rounding:
    """Seeded noise on float arrays, given back in float64. Anything else is given back as it is."""

    def __init__(self, u: float, seed: int) -> None:
        self._u = u
        self._generator = np.random.default_rng(seed)

    def __call__(self, value: Array, *, terms: int = 1) -> Array:
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            return value
        x = value.astype(np.float64, copy=False)
        width = noise_width(self._u, terms)
        with np.errstate(over="ignore", invalid="ignore"):
            carried = x * splitter(self._u)
            rounded = carried - (carried - x)
            noisy = x * self._generator.uniform(1.0 - width, 1.0 + width, x.shape)
            return np.asarray(np.where(rounded == x, x, noisy))
