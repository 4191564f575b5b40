"""Which rows there are to be: models times runtimes times precisions, and why some of them cannot run here."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.config import BoardConfig, ModelConfig
from harness.records import ABOUT_A_FLIGHT, ABOUT_RUNTIMES, Case
from runtime.protocol import LABELS

__all__ = ["SHORT_NAMES", "SIMULATED", "TIERS", "Ask", "flight_models", "is_required", "lane_name", "lane_of", "plan"]

TIERS = (0, 1, 2)

SHORT_NAMES: Mapping[str, str] = {"tensorrt": "tensorrt", "onnx_trt_ep": "ort", "pytorch_fp16": "torch"}
"""A runtime's name in front of a lane, ``torch · fp32``: its label would name a precision that the lane may not have."""

SIMULATED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "conformance": {"tensorrt": ("10.3.0", "10.13.3.9", "10.16.1.11", "11.4.0.106", "rtx1.7.1.116")},
    "faults": {
        "tensorrt": ("10.3.0", "rtx1.7.1.116"),
        "onnx_trt_ep": ("gpu",),
        "pytorch_fp16": ("gpu",),
        "files": ("disk",),
    },
}
"""What a kind of row about runtimes asks the simulated device for by name, by runtime: a fake library, or only a GPU or disk
under the real one. ``files``: what all runtimes do with them."""
_ONLY_SIMULATED = ("faults",)
"""Kinds without rows for real libraries, which do not fail to order."""
_IN_FP16 = (("faults", "tensorrt"), ("faults", "pytorch_fp16"))
"""Rows about runtimes in the precision of the flight, for there more is done; the others are in fp32."""

_COVERS: Mapping[str, tuple[str, ...]] = {
    "conformance": ("T0-01", "RT-01", "RT-05", "RT-07", "RT-08", "RT-09", "RT-10"),
    "faults": ("T0-05", "RT-07", "RT-09", "RT-10"),
    "artifact": ("T0-01", "TR-06", "OR-01"),
    "build": ("T0-01", "T0-06", "TT-01", "TT-03", "TR-03"),
    "semantic": ("T1-01",),
    "parity": ("T1-01", "T1-03"),
    "pair": ("T1-01", "PT-01"),
    "latency": ("T2-01", "T2-02", "T2-03", "T2-04"),
    "load": ("T2-01", "T2-02", "TT-09", "OR-07"),
    "flight": ("T2-01", "T2-03"),
    "memory": ("T2-01", "T2-02"),
    "takeoff": ("T2-05",),
    "heat": ("T2-01", "T2-03", "TH-04"),
    "harness": ("T2-03",),
}


@dataclass(frozen=True)
class Ask:
    """What was asked for.

    ``unavailable``: runtime to the reason why it cannot run here (``tensorrt: not installed``). ``about_runtimes``: the kinds
    of rows about runtimes that there is a suite for. ``simulates``: rows on the simulated device are wanted;
    ``unsimulated``: why it cannot run here; empty if it can. ``builder``: the TensorRT that builds here (``tensorrt`` or
    ``tensorrt_rtx``), empty if there is none. ``scenario``: the name of a simulated board that all rows run on; empty: this
    host. ``unseen``: kinds of rows that no instrument of this host shows anything for, and why. ``only``: these kinds of
    rows; empty: all. ``profile``: how sure the verdicts of Tier-2 are.
    """

    tiers: tuple[int, ...]
    runtimes: tuple[str, ...]
    models: tuple[ModelConfig, ...]
    size: str
    require: tuple[str, ...]
    board: BoardConfig | None
    unavailable: Mapping[str, str]
    about_runtimes: tuple[str, ...] = ()
    simulates: bool = True
    unsimulated: str = ""
    builder: str = ""
    scenario: str = ""
    unseen: Mapping[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    profile: str = "pr"


def lane_name(runtime: str, precision: str) -> str:
    """For people: ``torch · fp32``."""
    return f"{SHORT_NAMES.get(runtime, runtime)} · {precision}"


def plan(ask: Ask) -> tuple[Case, ...]:
    """Every row, in the order in which it runs."""
    cases = _about_runtimes(ask) if 0 in ask.tiers else []
    if 2 in ask.tiers and not ask.scenario:
        cases.append(_about_the_harness(ask))  # first: what telemetry costs decides how often it is asked
    for model in ask.models:
        for tier, rows in (
            (0, [*_artifact(model), *_builds(model, ask)]),
            (1, _parity(model, ask)),
            (2, _latency(model, ask)),
        ):
            if tier in ask.tiers:
                cases += [_ready(replace(case, tier=tier, size=ask.size), model, ask) for case in rows]
    if 2 in ask.tiers:
        cases += _about_a_flight(ask)
    return tuple(case for case in cases if (not ask.only or case.kind in ask.only) and not _has_taught(case, ask))


def _has_taught(case: Case, ask: Ask) -> bool:
    """Under the profile ``floor``: whether a latency row has nothing to learn that the flight mix, or no budget, asks for."""
    if ask.profile != "floor" or case.kind != "latency":
        return False
    model = next(model for model in ask.models if model.name == case.model)
    return model.load is not None or (ask.board is not None and not _is_limited("latency", ask.board, [model]))


def _about_the_harness(ask: Ask) -> Case:
    covers = _COVERS["harness"]
    return Case("harness", 2, "harness", "harness", "harness", "fp32", "fp32", ask.size, covers=covers)


def _about_a_flight(ask: Ask) -> list[Case]:
    """All models of a runtime together, once in each precision that any of them has."""
    rows: list[Case] = []
    for runtime in ask.runtimes:
        models = flight_models(ask.models, runtime)
        if not models:
            continue
        precisions = dict.fromkeys(precision for model in models for precision in model.precision)
        for precision, kind in itertools.product(precisions, ABOUT_A_FLIGHT):
            if kind == "harness" or (kind == "flight" and not any(model.load for model in models)):
                continue
            case = Case(
                id=f"{kind}-{runtime.replace(':', '.')}-{precision}",
                tier=2,
                kind=kind,
                model=kind,
                runtime=runtime,
                precision=precision,
                lane=lane_of(precision),
                size=ask.size,
                covers=_COVERS[kind],
                simulated=ask.scenario,
            )
            reason = "" if ask.scenario else ask.unavailable.get(runtime, "")
            reason = reason or _unable(runtime, precision) or ask.unseen.get(kind, "")
            is_asked = is_required(replace(case, simulated=""), ask.require, ask.board, ask.profile, models)
            rows.append(replace(case, not_run=reason, required=is_asked))
    return rows


def flight_models(models: Sequence[ModelConfig], runtime: str) -> list[ModelConfig]:
    """The models that a runtime flies with: those that it has a file for."""
    return [model for model in models if _has_artifact(model, runtime)]


def is_required(
    case: Case, require: Sequence[str], board: BoardConfig | None, profile: str, models: Sequence[ModelConfig]
) -> bool:
    """Whether ``require`` asks a row to pass: a real one of a runtime that it names, and one that is judged.

    Numerics and a runtime's own clauses always are. A row of Tier-2 is where the board limits it (``models``: those that it is
    about), under a profile that is long enough to say whether the limit is kept; any other is MEASURED, and asks for nothing.
    """
    if case.simulated or case.runtime not in {word.partition("[")[0] for word in require}:
        return False
    if case.kind in ("semantic", "parity", *ABOUT_RUNTIMES):
        return True
    if case.tier != 2 or board is None or profile == "quick" or (case.kind == "load" and profile != "signoff"):
        return False
    return _is_limited(case.kind, board, models)


def _is_limited(kind: str, board: BoardConfig, models: Sequence[ModelConfig]) -> bool:
    """Whether the board says what a row of this kind must keep to."""
    budgets = [budget for model in models if (budget := model.budget.get(board.name))]
    return {
        "latency": any(budget.p95_ms for budget in budgets),
        "flight": any(budget.p95_ms for budget in budgets),
        "heat": any(budget.p95_ms for budget in budgets),
        "load": any(budget.load_s for budget in budgets),
        "takeoff": any(budget.load_s for budget in budgets),
        "memory": board.gpu_memory_bytes is not None or board.host_memory_bytes is not None,
    }.get(kind, False)


def _about_runtimes(ask: Ask) -> list[Case]:
    """Each runtime itself, by each suite, then on each fake of its library."""
    ours = [runtime for runtime in ask.runtimes if runtime in LABELS]
    rows: list[Case] = []
    for kind in ask.about_runtimes:
        for runtime in (*ask.runtimes, *(["files"] if ours else [])):
            of_its_own = f"{kind}-{runtime.replace(':', '.')}"
            precision = "fp16" if (kind, runtime) in _IN_FP16 else "fp32"
            real = Case(of_its_own, 0, kind, kind, runtime, precision, precision, "", covers=_COVERS[kind])
            if kind not in _ONLY_SIMULATED and runtime != "files":
                is_asked = is_required(real, ask.require, ask.board, ask.profile, ())
                rows.append(replace(real, required=is_asked, not_run=ask.unavailable.get(runtime, "")))
            for version in SIMULATED.get(kind, {}).get(runtime, ()) if ask.simulates else ():
                # a fake TensorRT computes with ONNX Runtime; the other two are themselves
                lacking = ask.unsimulated if runtime == "tensorrt" else ask.unavailable.get(runtime, "")
                rows.append(replace(real, id=f"{of_its_own}-simulated-{version}", simulated=version, not_run=lacking))
    return rows


def _artifact(model: ModelConfig) -> list[Case]:
    return [_case(model, "artifact", "onnx", "fp32", "fp32")] if model.onnx or model.source else []


def _builds(model: ModelConfig, ask: Ask) -> list[Case]:
    """The real parser and builder, where TensorRT is asked for or can be asked at no cost."""
    if not _has_artifact(model, "tensorrt") or "tensorrt" not in ask.runtimes:
        return []
    builder = ask.builder or "tensorrt"
    return [_case(model, "build", builder, precision, lane_of(precision)) for precision in model.precision]


def _parity(model: ModelConfig, ask: Ask) -> list[Case]:
    rows: list[Case] = []
    own = [runtime for runtime in ask.runtimes if _has_artifact(model, runtime)]
    if {"onnx_trt_ep", "pytorch_fp16"} <= set(own):
        rows.append(_case(model, "semantic", "onnx_trt_ep", "fp32", "fp32", against="pytorch_fp16"))
    for precision in dict.fromkeys(("fp32", *model.precision)):
        rows += [_case(model, "parity", runtime, precision, lane_of(precision)) for runtime in ask.runtimes]
    for precision in model.precision:
        rows += [
            _case(model, "pair", first, precision, lane_of(precision), against=second)
            for at, first in enumerate(own)
            for second in own[at + 1 :]
        ]
    return rows


def _latency(model: ModelConfig, ask: Ask) -> list[Case]:
    own = [runtime for runtime in ask.runtimes if _has_artifact(model, runtime)]
    return [
        _case(model, kind, runtime, precision, lane_of(precision))
        for precision in model.precision
        for runtime in own
        for kind in ("load", "latency")
    ]


def lane_of(precision: str) -> str:
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
        reason = reason or ("" if ask.scenario else ask.unavailable.get(runtime, ""))
        reason = reason or _unable(runtime, case.precision)
    if ask.scenario:
        return replace(case, not_run=reason, simulated=ask.scenario)
    return replace(case, not_run=reason, required=is_required(case, ask.require, ask.board, ask.profile, [model]))


def _unable(runtime: str, precision: str) -> str:
    """Why a runtime of ours cannot run in a precision; empty if it can."""
    is_without = runtime in LABELS and runtime != "tensorrt" and precision in ("int8", "mixed")
    return f"{runtime}: no {precision} in this release" if is_without else ""


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
