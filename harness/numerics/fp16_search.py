"""After an fp16 failure: the smallest set of layers that has to stay in fp32, found by emulation.

fp16 is emulated by rounding what every operator reads and writes to float16 (overflow becomes infinity), with sums in
float32: what an fp16 engine stores, not how a kernel accumulates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from harness.numerics.onnx64 import Node, OnnxEvaluator
from harness.numerics.shrink import minimise
from harness.records import Tolerance
from runtime.protocol import Array

__all__ = ["run_fp16", "smallest_fp32_set"]

Progress = Callable[[int, int, str], None]


def run_fp16(evaluator: OnnxEvaluator, feed: Mapping[str, Array], keep_fp32: Collection[int] = ()) -> dict[str, Array]:
    """The outputs in emulated fp16; the nodes of index ``keep_fp32`` compute in fp32 on what their inputs hold."""
    kept = frozenset(keep_fp32)

    def rounded(node: Node, values: list[Array]) -> list[Array]:
        return values if node.index in kept else [_to_fp16(value) for value in values]

    return evaluator.run(feed, before=rounded, after=rounded)


def smallest_fp32_set(
    model_path: Path | onnx.ModelProto,
    feed: Mapping[str, Array],
    reference: Mapping[str, Array],
    tolerance: Mapping[str, Tolerance],
    *,
    budget_s: float,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[tuple[str, ...], str]:
    """Names of nodes that suffice, kept in fp32, to bring every output within ``tolerance``; and a sentence about them.

    ``reference``: float64 outputs by name. The set is 1-minimal (no single node of it can be left out) unless the
    sentence says that ``budget_s`` ran out. Empty if fp16 as emulated passes, or if not even fp32 does.
    """
    started = clock()
    evaluator = OnnxEvaluator(model_path, dtype=np.float32)

    def over() -> bool:
        return clock() - started >= budget_s

    def holds(nodes: Sequence[Node]) -> bool:
        if progress is not None:
            progress(min(round(clock() - started), round(budget_s)), round(budget_s), f"{len(nodes)} nodes in fp32")
        return _within(run_fp16(evaluator, feed, {node.index for node in nodes}), reference, tolerance)

    if holds([]):
        return (), "fp16 as emulated is within tolerance: look at how the runtime accumulates, not at what it stores."
    every = [node for node in evaluator.nodes if node.op_type not in {"Constant", "ConstantOfShape", "Shape"}]
    if not holds(every):
        return (), "not even fp32 is within tolerance: this is no matter of precision."
    kept, minimal = minimise(every, holds, over)
    names = ", ".join(f"`{node.module or node.name}` {node.op_type}" for node in kept[:5])
    more = f" and {len(kept) - 5} more" if len(kept) > 5 else ""
    sure = "" if minimal else f"; the search was stopped after {budget_s:g} s, a smaller set may do"
    return tuple(node.name for node in kept), f"{len(kept)} of {len(every)} nodes in fp32 suffice: {names}{more}{sure}."


def _to_fp16(value: Array) -> Array:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    with np.errstate(over="ignore", under="ignore"):
        return value.astype(np.float16).astype(value.dtype)


def _within(got: Mapping[str, Array], reference: Mapping[str, Array], tolerance: Mapping[str, Tolerance]) -> bool:
    for name, stated in tolerance.items():
        limit = stated.rel_l2_max
        if limit is None or name not in reference:
            continue
        wanted = np.asarray(reference[name], np.float64)
        finite = np.isfinite(wanted)
        if not np.array_equal(got[name][~finite], wanted[~finite], equal_nan=True):
            return False
        distance = float(np.linalg.norm((got[name] - wanted)[finite]))
        if not distance <= limit * float(np.linalg.norm(wanted[finite])):  # also for NaN
            return False
    return True
