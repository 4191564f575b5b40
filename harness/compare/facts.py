"""What a row tells of itself on two sides, in words, where that is not the same: what may be the cause of what changed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from harness.compare.layers import in_words
from harness.compare.likeness import LOOSE, VERSIONS
from harness.compare.load import Entry
from harness.records.comparison import LayersChange

__all__ = [
    "ROUTE_CHANGED",
    "caps_words",
    "counts_of",
    "fused_words",
    "layers_words",
    "options_words",
    "others_words",
    "place_words",
    "route_words",
    "said",
    "settings_words",
    "values_of",
    "versions_differ",
]

_NEAR = 0.02

_HEEDED = {
    "onnx": ("cores", "intra_op"),
    "tensorrt": ("cores",),
    "pytorch": ("cores", "torch", "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
}
"""By the first word of a runtime's label what of ``Measurement.threads`` it heeds; a runtime of somebody else's may heed all."""

Entries = Sequence[Entry]
T = TypeVar("T")

ROUTE_CHANGED = "route changed: "
"""How a note begins that tells of a row whose route the new version has not."""


def route_words(base: Entries, new: Entries, layers: LayersChange | None) -> str:
    """In which precision the row ran, by what route, and its layers, where that is not the same; empty where it is or is not
    known.
    """
    told = [
        note.removeprefix(ROUTE_CHANGED)
        for one in new
        for note in one.measurement.notes
        if note.startswith(ROUTE_CHANGED)
    ]
    if told:
        return f"another route: {told[0]}"
    ran = [
        [value for value in values_of(side, lambda one: one.measurement.precision_ran) if value != "unknown"]
        for side in (base, new)
    ]
    if ran[0] and ran[1] and not set(map(str, ran[0])) & set(map(str, ran[1])):
        return f"ran in {' or '.join(map(str, ran[0]))}, now in {' or '.join(map(str, ran[1]))}"
    routes = [values_of(side, lambda one: one.measurement.lineage.get("route", "")) for side in (base, new)]
    if routes[0] and routes[1] and not set(routes[0]) & set(routes[1]):
        return f"route {' or '.join(routes[0])}, now {' or '.join(routes[1])}"
    if of_layers := layers_words(layers):
        return of_layers
    nodes = [counts_of(side, lambda one: one.measurement.nodes_by_precision) for side in (base, new)]
    if (
        nodes[0]
        and nodes[1]
        and not any(one in nodes[1] for one in nodes[0])
        and _shares_differ(nodes[0][0], nodes[1][0])
    ):
        return f"nodes in {said(nodes[0])}, now {said(nodes[1])}"
    return ""


def layers_words(layers: LayersChange | None) -> str:
    if layers is None:
        return ""
    return in_words(layers.changed, layers.changed_count, sum(layers.base.values()), "precision")


def place_words(base: Entries, new: Entries, layers: LayersChange | None) -> str:
    if layers is not None and layers.moved_count:
        return in_words(layers.moved, layers.moved_count, sum(layers.base.values()), "place")
    nodes = _placed(base, new)
    if nodes and (
        any({*old} != {*now} for old in nodes[0] for now in nodes[1]) or _shares_differ(nodes[0][0], nodes[1][0])
    ):
        return f"nodes on {said(nodes[0])}, now on {said(nodes[1])}"
    return ""


def fused_words(base: Entries, new: Entries) -> str:
    """That the graph has another number of nodes where the same providers run it, in about the same shares."""
    nodes = _placed(base, new)
    counts = [" or ".join(dict.fromkeys(str(sum(one.values())) for one in side)) for side in nodes]
    return f"the graph was optimised otherwise: {counts[0]} nodes, now {counts[1]}" if len({*counts}) > 1 else ""


def _placed(base: Entries, new: Entries) -> list[list[dict[str, int]]]:
    """The nodes by provider of both sides; empty where these are the same, or not known."""
    nodes = [counts_of(side, lambda one: one.measurement.nodes_by_provider) for side in (base, new)]
    return nodes if nodes[0] and nodes[1] and not any(one in nodes[1] for one in nodes[0]) else []


def settings_words(base: Entries, new: Entries) -> str:
    """The thread counts that the row's own runtime heeds and both sides tell, where these are not the same: the cores, and a
    library's count. What the rest of the process had (``torch`` beside a row of ONNX Runtime) moved nothing.
    """
    heeded = _HEEDED.get(new[0].case.runtime.partition("_")[0])
    told = [[one.measurement.threads for one in side if one.measurement.threads] for side in (base, new)]
    if not told[0] or not told[1]:
        return ""
    everywhere = set.intersection(*(set(one) for side in told for one in side))
    names = sorted(name for name in everywhere if heeded is None or name in heeded)
    old, now = ({name: sorted({one[name] for one in side}) for name in names} for side in told)
    apart = [name for name in names if not {*old[name]} & {*now[name]}]
    was, is_ = (", ".join(f"{name} {' or '.join(map(str, side[name]))}" for name in apart) for side in (old, now))
    return f"threads {was}, now {is_}" if apart else ""


def options_words(base: Entries, new: Entries) -> str:
    """Options of TensorRT's builder, as they were read back (``lineage``), that both sides tell and that are not the same.

    One that only one version has is left out: nobody could have set it otherwise before.
    """
    old, now = (_options(side) for side in (base, new))
    apart = [name for name in sorted({*old} & {*now}) if not old[name] & now[name]]
    return "; ".join(f"{name} {' or '.join(sorted(old[name]))}, now {' or '.join(sorted(now[name]))}" for name in apart)


def _options(side: Entries) -> dict[str, set[str]]:
    """By name, with the model in rows about several."""
    found: dict[str, set[str]] = {}
    for key, told in ((key, told) for one in side for key, told in one.measurement.lineage.items()):
        stem, _, of = key.partition("[")
        for option in told.split(", ") if stem == "builder_options" else ():
            name, _, value = option.partition("=")
            found.setdefault(f"{name} of {of.removesuffix(']')}" if of else name, set()).add(value)
    return found


def versions_differ(base: Entries, new: Entries) -> bool:
    """Whether any library or system version of the system under test is another one on the new side."""
    facts = [{tuple(one.loaded.run.environment.get(name, "") for name in VERSIONS if name not in LOOSE) for one in side}
             for side in (base, new)]  # fmt: skip
    return facts[0] != facts[1]


def others_words(base: Entries, new: Entries) -> str:
    """Who else used the GPU while the new side was measured, and not while the base was."""
    seen = [
        {
            process.partition(" ")[2] or process
            for one in side
            for board in (one.measurement.board_start, one.measurement.board_end)
            for process in board.gpu_processes or ()
        }
        for side in (base, new)
    ]
    fresh = sorted(seen[1] - seen[0])
    return f"another process used the GPU: {', '.join(fresh)}" if fresh else ""


def caps_words(base: Entries, new: Entries) -> str:
    """Which power cap moved while the new side was measured, where none did while the base was."""
    moved = []
    for side in (base, new):
        boards = [(one.measurement.board_start.caps, one.measurement.board_end.caps) for one in side]
        moved.append({
            name: (start[name], end[name])
            for start, end in boards
            for name in ("gpu_mhz", "emc_mhz", "online_cpus")
            if name in start and name in end and abs(end[name] - start[name]) > _NEAR * start[name]
        })  # fmt: skip
    told = [f"{name} from {start:g} to {end:g}" for name, (start, end) in moved[1].items() if name not in moved[0]]
    return f"a power cap moved in mid-run ({', '.join(told)})" if told else ""


def values_of(side: Entries, get: Callable[[Entry], T]) -> list[T]:
    return [value for value in dict.fromkeys(get(one) for one in side) if value != ""]


def counts_of(side: Entries, get: Callable[[Entry], Mapping[str, int]]) -> list[dict[str, int]]:
    found: list[dict[str, int]] = []
    for one in side:
        counts = dict(sorted(get(one).items()))
        if counts and counts not in found:
            found.append(counts)
    return found


def said(counts: Sequence[Mapping[str, int]]) -> str:
    return " or ".join(", ".join(f"{name} {count}" for name, count in one.items()) for one in counts)


def _shares_differ(old: Mapping[str, int], now: Mapping[str, int]) -> bool:
    """Builders fuse layers otherwise in every version: counts differ always; a share that moved by 5 points is a route."""
    totals = sum(old.values()) or 1, sum(now.values()) or 1
    return any(abs(old.get(name, 0) / totals[0] - now.get(name, 0) / totals[1]) > 0.05 for name in {*old, *now})
