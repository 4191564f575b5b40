"""Small summaries of big tensors, close enough to tell whether two tensors are the same, or the same but transposed.

The flat order is summarised by a count sketch (Charikar, Chen, Farach-Colton 2002): every element gets a fixed random
sign and one of 64 buckets, so that the distance of two sketches estimates the L2 distance of the tensors (18 % standard
deviation; exact up to 64 elements). A transposition is recognised by the sums of x and of x**2 along each axis.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from runtime.protocol import Array

__all__ = ["SAME", "Index", "Sketch", "relative", "same_values", "sketch", "transposed"]

SAME = 1e-6
"""Relative L2 distance up to which two float64 tensors are one: above constants that an exporter rounds to float32."""

_BUCKETS = 64


@dataclass(frozen=True, eq=False)
class Sketch:
    """Of one tensor. ``weak``: too small, or constant, so that a coincidence proves nothing. ``shape``: without ones."""

    shape: tuple[int, ...]
    size: int
    norm: float
    buckets: Array
    sums: tuple[Array, ...]
    squares: tuple[Array, ...]
    extent: tuple[float, float]
    infinite: int
    weak: bool

    @property
    def key(self) -> tuple[int, bytes]:
        """Equal for tensors of the same elements in the same flat order."""
        return self.size, self.buckets.tobytes()


def sketch(array: Array) -> Sketch:
    """Summarise a floating tensor. NaN and infinities count as zero, and are counted."""
    shape = tuple(size for size in array.shape if size != 1)
    values = np.ascontiguousarray(array, np.float64).reshape(shape)
    finite = np.isfinite(values)
    infinite = values.size - int(np.count_nonzero(finite))
    if infinite:
        values = np.where(finite, values, 0.0)
    signed = values.ravel() * _signs(values.size.bit_length())[: values.size]
    signed = np.pad(signed, (0, -signed.size % _BUCKETS)).reshape(-1, _BUCKETS)
    axes = range(values.ndim)
    extent = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    squared = values * values
    return Sketch(
        shape=shape,
        size=values.size,
        norm=float(np.sqrt(squared.sum())),
        buckets=signed.sum(axis=0),
        sums=tuple(values.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes),
        squares=tuple(squared.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes),
        extent=extent,
        infinite=infinite,
        weak=values.size < 4 or extent[1] - extent[0] <= 1e-12 * max(map(abs, extent)),
    )


def relative(one: Sketch, other: Sketch) -> float:
    """The relative L2 distance in flat order, estimated; infinite for tensors of different size."""
    if one.size != other.size or one.infinite != other.infinite:
        return math.inf
    scale = max(one.norm, other.norm)
    return float(np.linalg.norm(one.buckets - other.buckets)) / scale if scale else 0.0


def transposed(one: Sketch, other: Sketch) -> bool:
    """Whether ``one`` is ``other`` with its axes in another order."""
    if len(one.shape) < 2 or sorted(one.shape) != sorted(other.shape) or not same_values(one, other):
        return False
    free = list(range(len(other.shape)))
    order = []
    for at, size in enumerate(one.shape):
        fits = [axis for axis in free if other.shape[axis] == size and _same_axis(one, at, other, axis)]
        if not fits:
            return False
        order.append(fits[0])
        free.remove(fits[0])
    return order != sorted(order)


def same_values(one: Sketch, other: Sketch) -> bool:
    """Whether both hold the same elements in some order, as far as extent, sum and sum of squares tell."""
    if one.size != other.size or one.infinite != other.infinite or abs(one.norm - other.norm) > SAME * one.norm:
        return False
    reach = max(map(abs, one.extent))
    extents = all(abs(mine - its) <= 10 * SAME * reach for mine, its in zip(one.extent, other.extent, strict=True))
    if not extents or not one.sums or not other.sums:
        return extents
    return bool(abs(one.sums[0].sum() - other.sums[0].sum()) <= 10 * SAME * one.norm * math.sqrt(one.size))


class Index:
    """Sketches by size, to find the one that a tensor equals."""

    def __init__(self, sketches: Sequence[Sketch]) -> None:
        self._sketches = sketches
        grouped = defaultdict(list)
        for at, entry in enumerate(sketches):
            grouped[entry.size].append(at)
        self._by_size = {
            size: (np.array(members), np.stack([sketches[at].buckets for at in members]))
            for size, members in grouped.items()
        }

    def find(self, wanted: Sketch) -> int | None:
        """The position of the tensor that equals ``wanted`` in flat order, or transposed; the closest one."""
        members, distances = self._distances(wanted)
        if not len(members):
            return None
        closest = int(np.argmin(distances))
        if distances[closest] <= SAME * wanted.norm and self._sketches[members[closest]].infinite == wanted.infinite:
            return int(members[closest])
        return next((int(at) for at in members if transposed(wanted, self._sketches[at])), None)

    def _distances(self, wanted: Sketch) -> tuple[Array, Array]:
        members, buckets = self._by_size.get(wanted.size, (np.empty(0, int), np.empty((0, _BUCKETS))))
        return members, np.linalg.norm(buckets - wanted.buckets, axis=1)


def _same_axis(one: Sketch, at: int, other: Sketch, axis: int) -> bool:
    sums = float(np.linalg.norm(one.sums[at] - other.sums[axis]))
    squares = float(np.linalg.norm(one.squares[at] - other.squares[axis]))
    return sums <= 10 * SAME * one.norm and squares <= 10 * SAME * float(np.linalg.norm(one.squares[at]))


@cache
def _signs(bits: int) -> Array:
    return np.random.default_rng(20240229).integers(0, 2, 1 << bits, np.int8) * np.int8(2) - np.int8(1)
