"""A smaller input that still fails, and the search that it shares with the fp16 one: delta debugging within a budget.

ddmin: Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from runtime.data import TensorSpec
from runtime.protocol import Array

__all__ = ["minimise", "shrink"]

T = TypeVar("T")
Progress = Callable[[int, int, str], None]
Clock = Callable[[], float]

_BLOCKS = 64


def minimise(items: Sequence[T], holds: Callable[[list[T]], bool], over: Callable[[], bool]) -> tuple[list[T], bool]:
    """A subset of ``items``, in their order, for which ``holds``; and whether it is 1-minimal.

    ``holds(items)`` is true at the start and is not asked. 1-minimal: without any one of the rest it no longer holds.
    Stops, with the best so far and False, as soon as ``over()``.
    """
    kept, parts = list(items), 2
    if over():
        return kept, False
    if holds([]):
        return [], True
    while len(kept) > 1:
        size = -(-len(kept) // parts)
        chunks = [kept[at : at + size] for at in range(0, len(kept), size)]
        smaller = None
        for number, chunk in enumerate(chunks):
            rest = [item for other, group in enumerate(chunks) if other != number for item in group]
            for trial in (chunk, rest) if len(chunks) > 2 else (chunk,):
                if over():
                    return kept, False
                if holds(trial):
                    smaller, parts = trial, 2 if trial is chunk else max(parts - 1, 2)
                    break
            if smaller is not None:
                break
        if smaller is not None:
            kept = smaller
        elif parts >= len(kept):
            break
        else:
            parts = min(len(kept), parts * 2)
    return kept, True


def shrink(
    feed: Mapping[str, Array],
    fails: Callable[[dict[str, Array]], bool],
    *,
    budget_s: float,
    specs: Sequence[TensorSpec] = (),
    progress: Progress | None = None,
    clock: Clock = time.monotonic,
) -> tuple[dict[str, Array], str]:
    """A smaller feed for which ``fails`` still says yes, and in words what is left of it.

    First the free dimensions of ``specs`` (names in their shapes; one name is one size everywhere) are made short, then
    blocks of each input are set to its mean, or to zero. ``fails`` is true for ``feed`` and is not asked for it; one
    that raises for a changed feed does not count as failing. Ends after about ``budget_s``.
    """
    search = _Search(
        {name: np.asarray(array) for name, array in feed.items()}, fails, clock() + budget_s, clock, progress
    )
    words = [said for dim in _free_dimensions(specs) if (said := _shorten(search, specs, dim))]
    words += [_flatten(search, name) for name in sorted(search.feed, key=lambda key: -search.feed[key].size)]
    if search.over():
        words.append(f"the time for the search ran out after {search.asked} trials; a smaller one may exist")
    return search.feed, "; ".join(words)


class _Search:
    """The smallest feed so far, and the question."""

    def __init__(
        self,
        feed: dict[str, Array],
        fails: Callable[[dict[str, Array]], bool],
        deadline: float,
        clock: Clock,
        progress: Progress | None,
    ) -> None:
        self.feed, self.asked = feed, 0
        self._fails, self._deadline, self._clock, self._progress = fails, deadline, clock, progress
        self._started = clock()

    def over(self) -> bool:
        return self._clock() >= self._deadline

    def still_fails(self, changed: Mapping[str, Array], words: str) -> bool:
        """Ask; on yes, ``changed`` becomes the feed."""
        if self.over():
            return False
        self.asked += 1
        if self._progress is not None:
            spent, whole = self._clock() - self._started, self._deadline - self._started
            self._progress(min(round(spent), round(whole)), round(whole), words)
        candidate = self.feed | dict(changed)
        try:
            failed = self._fails(candidate)
        except Exception:  # a feed that cannot be run shows another fault than the one that is looked for
            return False
        if failed:
            self.feed = candidate
        return failed


def _free_dimensions(specs: Sequence[TensorSpec]) -> list[str]:
    """Names of free sizes, the first axes (batch) before the others."""
    ranked = [(axis, size) for spec in specs for axis, size in enumerate(spec.shape) if isinstance(size, str)]
    return list(dict.fromkeys(size for _, size in sorted(ranked)))


def _shorten(search: _Search, specs: Sequence[TensorSpec], dim: str) -> str:
    places = [(spec.name, axis) for spec in specs for axis, size in enumerate(spec.shape) if size == dim]
    places = [(name, axis) for name, axis in places if name in search.feed]
    if not places:
        return ""
    whole = search.feed[places[0][0]].shape[places[0][1]]

    def cut(start: int, length: int) -> bool:
        changed = dict(search.feed)
        for name, axis in places:
            changed[name] = changed[name].take(range(start, start + length), axis=axis)
        return search.still_fails(changed, f"{dim} = {length}")

    now = whole
    if whole <= 8 and any(cut(start, 1) for start in range(whole)):
        now = 1
    while now > 1 and any(cut(start, now // 2) for start in (0, now - now // 2)):
        now //= 2
    return f"{dim} {now} of {whole}" if now < whole else ""


def _flatten(search: _Search, name: str) -> str:
    """Set as much of one input as can be to one value; say what is left."""
    original = search.feed[name]
    count = min(_BLOCKS, original.size)
    if not count:
        return f"`{name}` is empty"
    edges = np.linspace(0, original.size, count + 1).astype(int)
    kept, fill = list(range(count)), None
    for value, said in _fills(original):

        def keeps_failing(blocks: list[int], value: Any = value) -> bool:
            flat = np.full(original.size, value, original.dtype)
            for block in blocks:
                flat[edges[block] : edges[block + 1]] = original.reshape(-1)[edges[block] : edges[block + 1]]
            return search.still_fails({name: flat.reshape(original.shape)}, f"{name}: {len(blocks)} of {count} blocks")

        left, _ = minimise(kept, keeps_failing, search.over)
        if len(left) < len(kept):
            kept, fill = left, said
            break
    if fill is None:
        return f"`{name}` whole"
    if not kept:
        return f"`{name}` all {fill}"
    at = ", ".join(f"{edges[block]}..{edges[block + 1] - 1}" for block in kept[:4]) + (", ..." if len(kept) > 4 else "")
    return f"`{name}` {len(kept)} of {count} blocks (elements {at}), the rest {fill}"


def _fills(array: Array) -> list[tuple[Any, str]]:
    zero = (array.dtype.type(0), "zero")
    if array.dtype.kind != "f" or not np.isfinite(array).any():
        return [zero]
    mean = float(array[np.isfinite(array)].mean(dtype=np.float64))
    return [(mean, f"its mean {mean:.4g}"), zero]
