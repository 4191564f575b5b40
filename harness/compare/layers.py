"""The layers of two engines, old against new, and the precision that each really got.

Builders fuse otherwise in every version, so names do not all survive. A layer's name joins the operators that it was made
of (``/conv + /relu``): layers are matched by these, and what no operator matches is counted by type and precision.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from harness.layers import Layers
from harness.records.comparison import LayerChange, LayersChange
from runtime.data import EngineLayer

__all__ = ["compare_layers", "in_words"]

_MOST = 100
"""Layers that changed, and kinds of layers, that are named; the rest are counted."""

_UNKNOWN = ("", "unknown", "mixed")
_WRAPPED = re.compile(r"^(?:PWN|fusedPointwiseNode)\((.*)\)$|^\{ForeignNode\[(.*)\]\}$")


def compare_layers(base: Sequence[Layers], new: Sequence[Layers]) -> LayersChange | None:
    """``base``, ``new``: the layers of each run of a side. ``None`` where a side has none.

    What some run of the base gave a layer as well is no change: two builds of one version differ already.
    """
    if not any(one.layers for one in base) or not any(one.layers for one in new):
        return None
    changed = _changed(base, new, lambda layer: layer.precision)
    moved = _changed(base, new, lambda layer: layer.provider)
    rest = [_unmatched(side, other) for side, other in ((base, new), (new, base))]
    kinds = [Counter((one.kind, one.precision or "no precision of its own") for one in side) for side in rest]
    counts = [
        f"{kind} in {precision}: {kinds[0][kind, precision]}, now {kinds[1][kind, precision]}"
        for kind, precision in sorted({*kinds[0], *kinds[1]})
        if kinds[0][kind, precision] != kinds[1][kind, precision]
    ]
    return LayersChange(
        base=_first(base).by_precision,
        new=_first(new).by_precision,
        changed=tuple(changed[:_MOST]),
        changed_count=len(changed),
        moved=tuple(moved[:_MOST]),
        moved_count=len(moved),
        matched=len({*_told(base)} & {*_told(new)}),
        base_only=len(rest[0]),
        new_only=len(rest[1]),
        unmatched=tuple(counts[:_MOST]),
        base_source=_first(base).source,
        new_source=_first(new).source,
    )


def in_words(changed: Sequence[LayerChange], count: int, total: int, what: str, most: int = 3) -> str:
    """``2 of 40 layers changed precision: /conv fp16 → fp32, …``; empty where none did."""
    named = ", ".join(f"{one.name} {one.base} → {one.new}" for one in changed[:most])
    more = f" and {count - most} more" if count > most else ""
    return f"{count} of {max(count, total)} layers changed {what}: {named}{more}" if count else ""


def _first(runs: Sequence[Layers]) -> Layers:
    return next((one for one in runs if one.layers), Layers())


def _changed(base: Sequence[Layers], new: Sequence[Layers], get: Callable[[EngineLayer], str]) -> list[LayerChange]:
    """Of the first run of the base: the layers of which all operators that the new side has are otherwise there."""
    old, now = _told(base, get), _told(new, get)
    found = []
    for layer in _first(base).layers:
        operators = _operators(layer)
        was = set().union(*(old[one] for one in operators))
        is_ = set().union(*(now.get(one, set()) for one in operators))
        if was and is_ and not was & is_:
            found.append(LayerChange(layer.name, " or ".join(sorted(was)), " or ".join(sorted(is_))))
    return found


def _told(runs: Iterable[Layers], get: Callable[[EngineLayer], str] = lambda layer: "") -> dict[str, set[str]]:
    """What each operator got, over the runs of a side; empty for one that does not tell."""
    found: dict[str, set[str]] = {}
    for one in runs:
        for layer in one.layers:
            for operator in _operators(layer):
                found.setdefault(operator, set()).update({get(layer)} - set(_UNKNOWN))
    return found


def _operators(layer: EngineLayer) -> list[str]:
    """What a layer was made of, by its name; of a whole region (Myelin) only the region itself is known."""
    wrapped = _WRAPPED.match(layer.name)
    name = next(filter(None, wrapped.groups()), layer.name) if wrapped else layer.name
    return [part for part in (one.strip() for one in name.split(" + ")) if part]


def _unmatched(runs: Sequence[Layers], others: Sequence[Layers]) -> list[EngineLayer]:
    """Of the first run that tells its layers: those of which the other side has no operator."""
    known: Mapping[str, object] = _told(others)
    return [layer for layer in _first(runs).layers if not any(operator in known for operator in _operators(layer))]
