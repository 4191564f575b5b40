"""One request in, one response out (BA-01): what is asked is held against the model's signature before any compute."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from weakref import WeakKeyDictionary

import numpy as np

from runtime.data import EngineHandle, TensorSpec
from runtime.errors import ConfigError, InferenceError
from runtime.protocol import Array, Describes, InferenceRuntime
from runtime.strategies.common import InputChecker

__all__ = ["BATCH_MAX", "VERSION", "InferenceRequest", "InferenceResponse", "Signature", "serve"]

VERSION = 1
"""Of the request and the response. 1: first form."""

BATCH_MAX = 128
BATCH_AXIS = "batch"
"""The name of a free first size that is the batch."""


@dataclass(frozen=True, eq=False)
class InferenceRequest:
    """``inputs``: arrays by name. ``batch``: how many items they carry, 1 to 128. Raises ``InferenceError``."""

    inputs: Mapping[str, Array]
    batch: int = 1
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise InferenceError(f"the request has version {self.version!r}; expected {VERSION}.")
        if isinstance(self.batch, bool) or not isinstance(self.batch, int) or not 1 <= self.batch <= BATCH_MAX:
            raise InferenceError(f"batch is {self.batch!r}; expected a whole number from 1 to {BATCH_MAX}.")
        if not isinstance(self.inputs, Mapping):
            raise InferenceError(f"inputs are a {type(self.inputs).__name__}; expected a mapping of names to arrays.")
        object.__setattr__(self, "inputs", MappingProxyType(dict(self.inputs)))


@dataclass(frozen=True, eq=False)
class InferenceResponse:
    """``outputs``: arrays by name. ``scores``: the one of them that says how sure the model is, ``None`` without one.

    ``ms``: wall time of ``infer``. ``batch`` and ``version`` are the request's.
    """

    outputs: Mapping[str, Array]
    scores: Array | None
    ms: float
    batch: int
    version: int = VERSION


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives, with its declared ranges (``TensorSpec.low``, ``high``).

    ``scores``: the name of the output that becomes ``InferenceResponse.scores``. Without ``inputs`` only the finiteness
    of what comes is checked here, and the rest by the runtime.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...] = ()
    scores: str = "scores"
    checker: InputChecker = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "checker", InputChecker(self.inputs))


_signatures: WeakKeyDictionary[EngineHandle, Signature] = WeakKeyDictionary()


def serve(
    runtime: InferenceRuntime,
    handle: EngineHandle,
    request: InferenceRequest,
    *,
    signature: Signature | None = None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> InferenceResponse:
    """Check the inputs, run, check the outputs.

    ``signature``: default: what ``describe`` says of the handle, asked once per handle. Nothing is loaded (BA-07).

    Raises ``InferenceError`` that names the input or output and says why it was refused, and whatever ``infer`` raises.
    """
    if signature is None:
        signature = _signature_of(runtime, handle)
    _check_request(request, signature)
    started_ns = clock()
    outputs = runtime.infer(handle, request.inputs)
    took_ns = clock() - started_ns
    _check_outputs(outputs, signature)
    return InferenceResponse(outputs, outputs.get(signature.scores), took_ns / 1e6, request.batch)


def _signature_of(runtime: InferenceRuntime, handle: EngineHandle) -> Signature:
    known = _signatures.get(handle)
    if known is None:
        if not isinstance(runtime, Describes):
            raise ConfigError(
                f"{type(runtime).__name__} does not describe its engines.", remedy="Pass serve(..., signature=...)."
            )
        described = runtime.describe(handle)
        known = _signatures[handle] = Signature(described.inputs, described.outputs)
    return known


def _check_request(request: InferenceRequest, signature: Signature) -> None:
    if signature.inputs:
        signature.checker.check(request.inputs)
    ranges = {spec.name: (spec.low, spec.high) for spec in signature.inputs}
    for name, array in request.inputs.items():
        low, high = ranges.get(name, (None, None))
        _check_values(f"input {name!r}", array, low, high, finite=True)
    _check_batch(request, signature)


def _check_batch(request: InferenceRequest, signature: Signature) -> None:
    """A free first size named ``batch`` is the request's; where no input has one, the model's fixed first size is."""
    first = [(spec, spec.shape[0]) for spec in signature.inputs if spec.shape]
    free = [spec for spec, size in first if size == BATCH_AXIS]
    for spec in free:
        came = request.inputs[spec.name].shape[0]
        if came != request.batch:
            raise InferenceError(f"input {spec.name!r} carries {came} items; the request says batch {request.batch}.")
    if first and not free and request.batch != 1 and all(size != request.batch for _, size in first):
        raise InferenceError(
            f"the request says batch {request.batch}; no input of this engine has a first size of {request.batch}, "
            f"or one that is free and named {BATCH_AXIS!r}."
        )


def _check_outputs(outputs: Mapping[str, Array], signature: Signature) -> None:
    for spec in signature.outputs:
        if spec.name not in outputs:
            raise InferenceError(f"output {spec.name!r} is missing; the model gave {', '.join(outputs) or 'nothing'}.")
        _check_values(f"output {spec.name!r}", outputs[spec.name], spec.low, spec.high, finite=False)


def _check_values(what: str, array: Array, low: float | None, high: float | None, *, finite: bool) -> None:
    """Two passes over the values: a NaN comes through ``min``, an infinity is one of the two ends.

    What is no array of numbers is left to the runtime, which refuses it.
    """
    if not isinstance(array, np.ndarray) or array.size == 0 or array.dtype.kind not in "biuf":
        return
    least, most = float(array.min()), float(array.max())
    if math.isnan(least):
        raise InferenceError(f"{what} holds NaN; expected numbers.")
    if finite and (math.isinf(least) or math.isinf(most)):
        raise InferenceError(f"{what} holds an infinity; expected finite numbers.")
    if (low is not None and least < low) or (high is not None and most > high):
        declared = f"{'-inf' if low is None else low} to {'inf' if high is None else high}"
        raise InferenceError(f"{what} runs from {least:g} to {most:g}; its declared range is {declared}.")
