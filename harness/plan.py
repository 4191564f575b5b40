"""Which rows there are to be: models times runtimes times precisions, and why some of them cannot run here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.config import BoardConfig, ModelConfig
from harness.records import Case
from runtime.protocol import LABELS

__all__ = ["SHORT_NAMES", "TIERS", "Ask", "lane_name", "plan"]

TIERS = (0, 1, 2)

SHORT_NAMES: Mapping[str, str] = {"tensorrt": "tensorrt", "onnx_trt_ep": "ort", "pytorch_fp16": "torch"}
"""A runtime's name in front of a lane, ``torch · fp32``: its label would name a precision that the lane may not have."""

_COVERS: Mapping[str, tuple[str, ...]] = {
    "artifact": ("T0-01", "TR-06", "OR-01"),
    "semantic": ("T1-01",),
    "parity": ("T1-01", "T1-03"),
    "pair": ("T1-01", "PT-01"),
    "latency": ("T2-01", "T2-02"),
}


@dataclass(frozen=True)
class Ask:
    """What was asked for. ``unavailable``: runtime to the reason why it cannot run here (``tensorrt: not installed``)."""

    tiers: tuple[int, ...]
    runtimes: tuple[str, ...]
    models: tuple[ModelConfig, ...]
    size: str
    require: tuple[str, ...]
    board: BoardConfig | None
    unavailable: Mapping[str, str]


def lane_name(runtime: str, precision: str) -> str:
    """For people: ``torch · fp32``."""
    return f"{SHORT_NAMES.get(runtime, runtime)} · {precision}"


def plan(ask: Ask) -> tuple[Case, ...]:
    """Every row, in the order in which it runs."""
    cases: list[Case] = []
    for model in ask.models:
        for tier, rows in ((0, _artifact(model)), (1, _parity(model, ask)), (2, _latency(model, ask))):
            if tier in ask.tiers:
                cases += [_ready(replace(case, tier=tier, size=ask.size), model, ask) for case in rows]
    return tuple(cases)


def _artifact(model: ModelConfig) -> list[Case]:
    return [_case(model, "artifact", "onnx", "fp32", "fp32")] if model.onnx or model.source else []


def _parity(model: ModelConfig, ask: Ask) -> list[Case]:
    rows: list[Case] = []
    own = [runtime for runtime in ask.runtimes if _has_artifact(model, runtime)]
    if {"onnx_trt_ep", "pytorch_fp16"} <= set(own):
        rows.append(_case(model, "semantic", "onnx_trt_ep", "fp32", "fp32", against="pytorch_fp16"))
    for precision in dict.fromkeys(("fp32", *model.precision)):
        rows += [_case(model, "parity", runtime, precision, _lane(precision)) for runtime in ask.runtimes]
    for precision in model.precision:
        rows += [
            _case(model, "pair", first, precision, _lane(precision), against=second)
            for at, first in enumerate(own)
            for second in own[at + 1 :]
        ]
    return rows


def _latency(model: ModelConfig, ask: Ask) -> list[Case]:
    own = [runtime for runtime in ask.runtimes if _has_artifact(model, runtime)]
    return [
        _case(model, "latency", runtime, precision, _lane(precision))
        for precision in model.precision
        for runtime in own
    ]


def _lane(precision: str) -> str:
    """Which tolerance applies: what rounding does is derived for fp32 and fp16; what quantising may cost is stated."""
    return {"fp32": "fp32", "fp16": "fp16"}.get(precision, "int8")


def _has_artifact(model: ModelConfig, runtime: str) -> bool:
    """Whether the model has, by its configuration, what the runtime executes."""
    if model.source.startswith("light:"):
        return runtime != "pytorch_fp16"
    if model.source:
        return True
    return model.checkpoint is not None if runtime == "pytorch_fp16" else model.onnx is not None


def _case(model: ModelConfig, kind: str, runtime: str, precision: str, lane: str, *, against: str = "") -> Case:
    name = f"{model.name}-{runtime.replace(':', '.')}-{precision}-b1"
    ends = {"parity": "", "pair": f"-vs-{against}"}
    return Case(
        id=name + ends.get(kind, f"-{kind}"),
        tier=0,
        kind=kind,
        model=model.name,
        runtime=runtime,
        precision=precision,
        lane=lane,
        size="",
        against=against,
        covers=_COVERS[kind],
    )


def _ready(case: Case, model: ModelConfig, ask: Ask) -> Case:
    """The case with what is required of it, and with the reason why it cannot run, if there is one."""
    reason = ""
    if not _has_artifact(model, case.runtime) and case.kind != "artifact":
        reason = f"{case.runtime}: the model has no {'checkpoint' if case.runtime == 'pytorch_fp16' else 'ONNX file'}"
    for runtime in filter(None, (case.runtime, case.against)):
        reason = reason or ask.unavailable.get(runtime, "")
        if runtime in LABELS and case.precision in ("int8", "mixed") and runtime != "tensorrt":
            reason = reason or f"{runtime}: no {case.precision} in this release"
    # latency rows are MEASURED in this release, so nothing may hang on them yet
    judged = case.kind in ("semantic", "parity")
    named = {word.partition("[")[0] for word in ask.require}
    return replace(case, not_run=reason, required=judged and case.runtime in named)


def board_for(boards: Mapping[str, BoardConfig], module: str, name: str) -> BoardConfig | None:
    """The board that was named, or the one whose module this host is; ``None`` on any other host."""
    if name:
        return boards.get(name)
    return next((board for board in boards.values() if board.module and board.module in module), None)


def requirements(
    named: Sequence[str], board: BoardConfig | None, on_jetson: bool, configured: Sequence[str]
) -> tuple[str, ...]:
    """What must pass (RE-04): the command line's, the configuration's and the board's; TensorRT on a Jetson by default."""
    stated = (*configured, *(board.require if board else ()))
    default = ("tensorrt",) if on_jetson and not stated else ()
    return tuple(dict.fromkeys((*named, *stated, *default)))
