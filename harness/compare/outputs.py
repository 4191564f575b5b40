"""Outputs of two versions of one row against each other, on the same inputs: from what both run folders keep of them.

By digests where both are the same bit for bit; else over the elements that both keep, which are the same ones by rule
(``numerics.raw``). Runs of schema 1 kept none: of these the errors that were drawn for the plots are taken, and it is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.compare.load import Loaded
from harness.numerics.parity import compare
from harness.numerics.raw import KeptOutput, RawFile, places
from harness.records import ParityFigures, RecordError
from harness.records.comparison import Cause, Change, Standing
from runtime.protocol import Array

__all__ = ["KeptRow", "golden_drift", "outputs_apart", "reference_apart"]

_CHANGED_ERROR = 2.0
_DRAWN = "drawn for the plots: not both sides kept their outputs"


@dataclass(frozen=True)
class _Apart:
    """One run of the base against one of the new side. ``difference``: relative L2, the largest of all samples; ``None`` where
    the outputs are all zero or cannot be compared. ``is_same``: bit for bit, by the digests. ``is_broken``: NaN, or Inf on one
    side, which no difference shows.
    """

    difference: float | None
    words: str
    is_same: bool = False
    is_broken: bool = False


@dataclass(frozen=True)
class KeptRow:
    """A row of one run; its id may be another one on the other side."""

    loaded: Loaded
    case_id: str

    @property
    def raw(self) -> RawFile | None:
        return self.loaded.raw.get(self.case_id)


def outputs_apart(output: str, base: Sequence[KeptRow], new: Sequence[KeptRow], limit: float | None) -> Change:
    """Old against new, the pair of runs that is furthest apart. ``limit``: the row's tolerance; within it they are the same."""
    name = f"{output}, old against new"
    found, silent = [], []
    for one in base:
        for other in new:
            try:
                found.append(_pair(output, one, other))
            except RecordError as error:
                silent.append(str(error).rstrip("."))
    if not found:
        why = silent[0] if silent else "there is no run on one side"
        return Change(name, "", Standing.UNKNOWN, f"not known: {why}", about="outputs")
    worst = max(
        found, key=lambda one: (one.is_broken, not one.is_same, -1.0 if one.difference is None else one.difference)
    )
    words = worst.words + (f"; not known of other runs: {silent[0]}" if silent else "")
    why = "the same inputs, and other outputs"
    if worst.is_broken:
        return Change(name, "", Standing.CHANGED, words, Cause.NUMERICS, why, about="outputs")
    if worst.is_same or worst.difference == 0.0:
        return Change(name, "", Standing.SAME, words, about="outputs")
    if worst.difference is None or limit is None:
        return Change(name, "ratio", Standing.UNKNOWN, words, new=worst.difference, about="outputs")
    if worst.difference <= limit:
        words += f"; within the row's tolerance {limit:.3g}"
        return Change(name, "ratio", Standing.SAME, words, new=worst.difference, about="outputs")
    words += f"; more than the row's tolerance {limit:.3g}"
    return Change(name, "ratio", Standing.CHANGED, words, Cause.NUMERICS, why, new=worst.difference, about="outputs")


def _pair(output: str, base: KeptRow, new: KeptRow) -> _Apart:
    """Raises ``RecordError`` where the two folders do not hold it."""
    old, now = base.raw, new.raw
    if old is None or now is None:
        return _drawn(output, base, new)
    before, after = old.of(output), now.of(output)
    if not before or not after:
        raise RecordError(f"the {'base' if not before else 'new'} run keeps nothing of {output}")
    if before.keys() != after.keys():
        raise RecordError(f"{len(before)} samples in the base, {len(after)} in the new run")
    if all(before[at].sha256 == after[at].sha256 for at in before):
        samples = f"{len(before)} sample{'' if len(before) == 1 else 's'}"
        return _Apart(0.0, f"bit for bit the same, by the digests of {samples}", is_same=True)
    return _over_elements(output, old, now)


def _over_elements(output: str, old: RawFile, now: RawFile) -> _Apart:
    before, after = old.elements(output), now.elements(output)
    sides: tuple[list[Array], list[Array]] = ([], [])
    size = 0
    for at in sorted(before.keys() & after.keys()):
        (first, left), (second, right) = before[at], after[at]
        if first.shape != second.shape:
            raise RecordError(f"sample {at} has shape {first.shape} in the base, {second.shape} in the new run")
        size += int(np.prod(first.shape, dtype=np.int64))
        for side, elements in zip(sides, _in_common(output, first, left, second, right), strict=True):
            side.append(elements)
    count = sum(elements.size for elements in sides[0])
    if not count:
        raise RecordError(f"the run folders keep no elements of {output} in common")
    (figures,) = compare([{output: each} for each in sides[0]], [{output: each} for each in sides[1]], {})
    return _Apart(figures.rel_l2_max, _in_words(figures, count, size), is_broken=bool(figures.nan or figures.inf))


def _in_common(output: str, first: KeptOutput, left: Array, second: KeptOutput, right: Array) -> tuple[Array, Array]:
    """The elements that both sides keep, in order: all of them, where both keep as many."""
    if first.count == second.count:
        return left, right
    here, there = (places(output, one.shape, one.sample, one.count) for one in (first, second))
    _, at_here, at_there = np.intersect1d(here, there, assume_unique=True, return_indices=True)
    return left[at_here], right[at_there]


def _in_words(figures: ParityFigures, count: int, size: int) -> str:
    if figures.max_abs is None:
        return f"cannot be compared: {figures.max_abs_at}"
    over = f"over {count} stored elements" + (f" of {size}" if count < size else ", all there are")
    broken = f", {figures.nan} NaN, {figures.inf} unmatched Inf" if figures.nan or figures.inf else ""
    if figures.rel_l2_max == 0.0 and not broken:
        return f"the same values, {over}; their digests differ"
    if figures.rel_l2_max is None or figures.rel_l2_median is None:
        return f"the base is all zero, the new side up to {figures.max_abs:.3g}, {over}{broken}"
    what = "share of differing elements" if np.dtype(figures.dtype).kind in "iub" else "relative L2 difference"
    rest = f"median of the samples {figures.rel_l2_median:.3g}, max abs {figures.max_abs:.3g}{broken}"
    return f"{what} {figures.rel_l2_max:.3g}, {over}, {rest}"


def golden_drift(output: str, base: Sequence[KeptRow], new: Sequence[KeptRow]) -> Change | None:
    """The error against the outputs that the model's authors ship, old and new; ``None`` where they ship none of it."""
    errors, outside = zip(*(_golden(output, side) for side in (base, new)), strict=True)
    known = [[error for error in side if error is not None] for side in errors]
    if not all(known) or any(None in side for side in errors):
        return None
    old, now = (max(side) for side in known)
    ratio = now / old if old > 0 else None
    words = (
        f"error against the outputs that the model's authors ship {old:.3g}, now {now:.3g}; "
        f"{outside[0]} elements beyond their test's tolerance, now {outside[1]}"
    )
    name = f"{output} against its authors' outputs"
    if outside[0] != outside[1] or (ratio is not None and not 1 / _CHANGED_ERROR <= ratio <= _CHANGED_ERROR):
        standing, cause = Standing.CHANGED, Cause.NUMERICS
    else:
        standing, cause = Standing.SAME, Cause.NONE
    return Change(name, "ratio", standing, words, cause, base=old, new=now, ratio=ratio, about="drift")


def _golden(output: str, side: Sequence[KeptRow]) -> tuple[list[float | None], int]:
    told = [one for row in side if (raw := row.raw) is not None for one in raw.numerics.golden if one.output == output]
    return [one.error for one in told], max((one.outside for one in told), default=0)


def reference_apart(base: Sequence[KeptRow], new: Sequence[KeptRow]) -> Change | None:
    """That the two sides were judged against two references; ``None`` where it is one, or not known."""
    told = [
        sorted({raw.numerics.reference_sha256 for one in side if (raw := one.raw) is not None} - {""})
        for side in (base, new)
    ]
    if not told[0] or not told[1] or told[0] == told[1]:
        return None
    shown = [" and ".join(digest[:12] for digest in side) for side in told]
    words = (
        f"the base was judged against the reference {shown[0]}, the new side against {shown[1]}: packs that were made apart. "
        "Measure both sides with one pack (--pack)"
    )
    return Change("reference", "", Standing.CHANGED, words, Cause.ENVIRONMENT, "two packs", about="drift")


def _drawn(output: str, base: KeptRow, new: KeptRow) -> _Apart:
    """From the errors that were drawn for the plots. Seeded alike they are of the same elements: the difference of two errors
    is then the difference of the outputs.
    """
    pairs = [one.loaded.drawn.get(one.case_id, {}).get(output) for one in (base, new)]
    if pairs[0] is None or pairs[1] is None:
        raise RecordError("the run folders hold no outputs of it on both sides")
    found = _difference_of(pairs[0], pairs[1])
    if found is None:
        raise RecordError("the stored elements of the two sides are not the same ones")
    difference, count = found
    what = "the same values" if difference == 0.0 else f"relative L2 difference {difference:.3g}"
    return _Apart(difference, f"{what}, over {count} stored elements {_DRAWN}")


def _difference_of(old: tuple[Array, Array], now: tuple[Array, Array]) -> tuple[float, int] | None:
    """(relative L2 difference of the outputs, of how many elements) where the stored elements are the same ones."""
    (r_old, e_old), (r_new, e_new) = old, now
    if r_old.shape != r_new.shape or not np.array_equal(r_old, r_new):
        values = np.intersect1d(_once(r_old), _once(r_new), assume_unique=True)
        if 2 * values.size < max(r_old.size, 1):
            return None
        at_old, at_new = _places(r_old, values), _places(r_new, values)
        r_old, e_old, e_new = r_old[at_old], e_old[at_old], e_new[at_new]
    norm = float(np.linalg.norm(r_old))
    if not r_old.size or norm == 0.0:
        return None
    return float(np.linalg.norm(e_new - e_old)) / norm, int(r_old.size)


def _places(values: Array, wanted: Array) -> Array:
    """Where each of ``wanted``, which stand in ``values`` once, stands."""
    order = np.argsort(values, kind="stable")
    return np.asarray(order[np.searchsorted(values, wanted, sorter=order)])


def _once(values: Array) -> Array:
    """The values that stand there once: one that stands twice does not tell which element it is."""
    unique, counts = np.unique(values, return_counts=True)
    return np.asarray(unique[counts == 1])
