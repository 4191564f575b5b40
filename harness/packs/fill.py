"""The slow part of a pack: artifacts copied and cast, references computed, tolerances derived. Needs onnx or torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.config import ModelConfig
from harness.errors import UsageError
from harness.inputs import Feed, digest
from harness.numerics.raw import AUTHORS_RTOL
from harness.packs.model import ModelPack, SourceModel, file_sha256, model_json
from harness.records import Tolerance
from runtime.architectures import ArchitectureRegistry
from runtime.errors import RuntimeCoreError
from runtime.files import write_atomic
from runtime.model_file import check_external_data, model_sha256
from runtime.protocol import Array

if TYPE_CHECKING:
    from harness.numerics.reference import Reference

__all__ = ["CALIBRATION_SAMPLES", "MONTE_CARLO_RUNS", "Making", "fill"]

CALIBRATION = "calibration"
CALIBRATION_SAMPLES = 2
"""How many of the samples tolerances are derived from; all are compared."""
MONTE_CARLO_RUNS = 8


@dataclass(frozen=True)
class Making:
    """How a model's folder is made. ``key``: its content's digest. ``say``: progress, in words."""

    key: str
    size: str
    seed: int
    registry: ArchitectureRegistry
    say: Callable[[str], None]


def fill(folder: Path, model: ModelConfig, source: SourceModel, making: Making) -> None:
    """Write one model's files into ``folder``, ``model.json`` last. Raises ``UsageError`` in words."""
    onnx = _copy_onnx(folder, source.onnx)
    checkpoint = _copy_checkpoint(folder, source)
    onnx_fp16, no_fp16 = "", "no ONNX file"
    if source.onnx is not None and "fp16" in model.precision:
        onnx_fp16, no_fp16 = _cast(source.onnx, folder / "model.fp16.onnx")
    try:
        reference = _reference(source, making.registry)
        exact = [reference.exact(feed) for feed in source.feeds]
        tolerances = _tolerances(model, source, reference, exact, making)
        single = reference.single(source.feeds[0])
    except RuntimeCoreError as error:
        raise UsageError(f"model {model.name!r}: {error}") from error
    _write_feeds(folder, source, exact)
    pack = ModelPack(
        name=model.name,
        size=making.size,
        key=making.key,
        onnx=onnx,
        onnx_fp16=onnx_fp16,
        checkpoint=checkpoint,
        architecture=source.architecture,
        inputs_origin=source.origin,
        reference=reference.name,
        feed_sha256=tuple(digest(feed) for feed in source.feeds),
        onnx_sha256=model_sha256(source.onnx) if source.onnx else "",
        checkpoint_sha256=file_sha256(source.checkpoint) if source.checkpoint else "",
        input_names=tuple(source.feeds[0]),
        output_names=tuple(reference.output_names),
        tolerances=tolerances,
        tensors=json.dumps({"inputs": _tensors(source.feeds[0]), "outputs": _tensors(single)}),
        no_fp16=no_fp16,
        precision=model.precision,
        calibration=CALIBRATION if source.calibration else "",
        dims=model.dims,
    )
    write_atomic(folder / "model.json", model_json(pack))


def _tolerances(
    model: ModelConfig,
    source: SourceModel,
    reference: Reference,
    exact: Sequence[Mapping[str, Array]],
    making: Making,
) -> dict[str, dict[str, Tolerance]]:
    """By lane and output. ``exact``: the reference's outputs of ``source.feeds``."""
    from harness.numerics.tolerance import derive

    making.say(f"{model.name}: deriving tolerances, {MONTE_CARLO_RUNS} Monte-Carlo runs per lane")
    tolerances = {}
    for lane in _lanes(model):
        derived = derive(
            reference,
            source.feeds[:CALIBRATION_SAMPLES],
            lane=lane,
            runs=MONTE_CARLO_RUNS,
            seed=making.seed,
            exact=exact[:CALIBRATION_SAMPLES],
        )
        tolerances[lane] = _with_rules(derived, model, lane, authors=bool(source.expected))
    if {"int8", "mixed"} & set(model.precision):
        ruled = _with_rules(next(iter(tolerances.values())), model, "int8", authors=False)
        tolerances["int8"] = {output: rule for output, rule in ruled.items() if rule.source != "derived"}
    return tolerances


def _write_feeds(folder: Path, source: SourceModel, exact: Sequence[Mapping[str, Array]]) -> None:
    _write_samples(folder / "inputs.npz", source.feeds)
    _write_samples(folder / "reference.npz", exact)
    if source.expected:
        _write_samples(folder / "expected.npz", source.expected)
    for at, feed in enumerate(source.calibration):
        (folder / CALIBRATION).mkdir(exist_ok=True)
        np.savez(folder / CALIBRATION / f"{at:04}.npz", **{name: np.asarray(array) for name, array in feed.items()})  # type: ignore[arg-type] # the stub takes the keywords for allow_pickle


def _reference(source: SourceModel, registry: ArchitectureRegistry) -> Reference:
    """The float64 witness: torch where the architecture is known, else the stated ONNX evaluator."""
    from harness.numerics.reference import OnnxReference, TorchReference

    names = None
    if source.onnx is not None:
        from runtime.model_file import read_model_facts

        names = [spec.name for spec in read_model_facts(source.onnx).outputs]
    if source.checkpoint is not None:
        module, output_names = _load_module(source.checkpoint, source.architecture, registry)
        names = names or output_names or _output_names(module, source.feeds[0])
        return TorchReference(module, list(source.feeds[0]), names)
    if source.onnx is None:
        raise UsageError("neither an ONNX file nor a checkpoint is given; there is nothing to compare with.")
    return OnnxReference(source.onnx)


def _output_names(module: Any, feed: Feed) -> list[str]:
    """Names for outputs that nobody declared, as ``PytorchFp16Runtime`` gives them: a dict's keys, else by number."""
    import inspect

    import torch

    parameters = list(inspect.signature(module.forward).parameters)
    given = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feed.items()}
    with torch.inference_mode():
        outputs = module(**given) if set(given) <= set(parameters) else module(*given.values())
    if isinstance(outputs, dict):
        return [str(name) for name in outputs]
    return [f"output_{at}" for at in range(len(outputs) if isinstance(outputs, tuple | list) else 1)]


def _load_module(checkpoint: Path, architecture: str, registry: ArchitectureRegistry) -> tuple[Any, list[str]]:
    """The architecture with the checkpoint's weights, and the names of its outputs."""
    import torch

    if architecture not in registry:
        known = ", ".join(registry) or "none"
        raise UsageError(
            f"the architecture {architecture!r} is not known (known: {known}). "
            f"Give --architecture {architecture}=package.module:factory, or plugins in the configuration."
        )
    registered = registry.get(architecture)
    try:
        module = registered.factory()
        module.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    except Exception as error:
        raise UsageError(f"{checkpoint} does not load into {architecture!r}: {str(error).strip()}") from error
    return module.eval(), [spec.name for spec in registered.outputs]


def _cast(source: Path, target: Path) -> tuple[str, str]:
    """(the name of the fp16 file, why there is none)."""
    from runtime.strategies.onnx_fp16 import CastError, cast_to_fp16

    try:
        cast_to_fp16(source, target)
    except CastError as error:
        return "", f"the ONNX file cannot be cast to fp16: {error}"
    return target.name, ""


def _lanes(model: ModelConfig) -> tuple[str, ...]:
    """The lanes whose tolerances are derived. Of int8 none is: what quantising may cost is the user's to state."""
    return ("fp32", "fp16") if {"fp16", "mixed"} & set(model.precision) else ("fp32",)


def _with_rules(
    derived: Mapping[str, Tolerance], model: ModelConfig, lane: str, *, authors: bool
) -> dict[str, Tolerance]:
    """The derived tolerances with what the configuration says of them, and what a model's authors state."""
    unknown = set(model.tolerance) - set(derived) - {"default"}
    if unknown:
        raise UsageError(
            f"model {model.name!r}: tolerance names {sorted(unknown)}; its outputs are {', '.join(sorted(derived))}."
        )
    default = model.tolerance.get("default")
    ruled = {}
    for output, tolerance in derived.items():
        rule = model.tolerance.get(output, default)
        if authors and lane == "fp32" and tolerance.rel_l2_max is None:
            why = f"{tolerance.why}; so the rule of its authors' own test holds, rtol 2e-3"
            ruled[output] = Tolerance(output, "stated", AUTHORS_RTOL, AUTHORS_RTOL, tolerance.amplification, why)
        elif rule is None or rule.source == "derived":
            ruled[output] = tolerance
        elif rule.source == "ignore":
            ruled[output] = Tolerance(
                output, "ignore", None, None, tolerance.amplification, "the configuration says so"
            )
        elif lane != "fp32":
            ruled[output] = Tolerance(output, "stated", rule.rel_l2, rule.rel_l2, tolerance.amplification, rule.why)
        else:  # a stated tolerance is for the deployed precision; the fp32 lane stays as sharp as it is
            ruled[output] = tolerance
    return ruled


def _copy_onnx(folder: Path, onnx: Path | None) -> str:
    if onnx is None:
        return ""
    for data in check_external_data(onnx):
        target = folder / data.relative_to(onnx.resolve().parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data, target)
    shutil.copyfile(onnx, folder / "model.onnx")
    return "model.onnx"


def _copy_checkpoint(folder: Path, source: SourceModel) -> str:
    if source.checkpoint is None:
        return ""
    name = f"{source.architecture}.pt"  # the file's stem names the architecture (PT-03)
    shutil.copyfile(source.checkpoint, folder / name)
    return name


def _write_samples(path: Path, samples: Sequence[Mapping[str, Array]]) -> None:
    arrays = {f"{at}/{name}": np.asarray(array) for at, sample in enumerate(samples) for name, array in sample.items()}
    np.savez(path, **arrays)  # type: ignore[arg-type] # the stub takes the keywords for allow_pickle


def _tensors(sample: Mapping[str, Array]) -> list[dict[str, Any]]:
    return [{"name": name, "shape": list(a.shape), "dtype": str(np.asarray(a).dtype)} for name, a in sample.items()]
