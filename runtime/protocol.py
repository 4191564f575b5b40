"""The one interface of the core (RT-01). Strategies implement it; consumers, tiers and fakes rely on nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from runtime.data import BuildConfig, EngineCacheEntry, EngineDescription, EngineHandle, ThermalState

__all__ = ["LABELS", "Array", "Describes", "InferenceRuntime", "Splits"]

Array = np.ndarray[Any, np.dtype[Any]]

LABELS = ("tensorrt", "onnx_trt_ep", "pytorch_fp16")
"""The fixed labels (RT-02), whichever provider or device a strategy runs on."""


@runtime_checkable
class InferenceRuntime(Protocol):
    """Compile before take-off, load at take-off, call per frame. Every failure is a ``RuntimeCoreError``.

    A failed call leaves the runtime as it was (RT-09): resident bytes, handles and files are what they were before.
    """

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        """Make (or point at) the engine of ``model_path``. Raises ``EngineBuildError``."""
        ...

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        """Load an engine, after the engine gate. Raises ``EngineDeserializeError`` or ``OutOfMemoryError``."""
        ...

    def infer(
        self, handle: EngineHandle, inputs: Mapping[str, Array], *, out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """Run one call; return when the outputs are on the host, by name.

        ``inputs``: C-contiguous arrays by input name, of the declared shape and dtype; they are not changed.
        ``out``: the caller's own arrays by output name, which are filled and returned; any left out are allocated.
        A result is not changed by a later call. Raises ``InferenceError`` that names the input, what came and
        what was expected, before any device work; ``OutOfMemoryError``; ``DeviceLostError``.
        """
        ...

    def release_engine(self, handle: EngineHandle) -> None:
        """Free everything that the handle holds. A released handle is a no-op, a foreign one is ignored."""
        ...

    def thermal_state(self) -> ThermalState:
        """The last reading, or the safe default. Never blocks, never raises."""
        ...

    def current_runtime_label(self) -> str:
        """One of ``LABELS``; fixed for the strategy."""
        ...


@runtime_checkable
class Describes(Protocol):
    """The optional part of the protocol: what a loaded engine really is."""

    def describe(self, handle: EngineHandle) -> EngineDescription:
        """Provider, placement of nodes, precision really used, bytes. May run the model once, untimed."""
        ...


@runtime_checkable
class Splits(Protocol):
    """The optional part of the protocol that tells where a call's time went, by the device's own clock."""

    def time_calls(self, handle: EngineHandle) -> bool:
        """From now on mark the parts of each call with timing events; False where there is no device to ask.

        Costs a few microseconds a call. Raises ``InferenceError`` where the events cannot be made.
        """
        ...

    def split_ns(self, handle: EngineHandle) -> tuple[int, int, int, int] | None:
        """Of the last call that succeeded, in ns: host to device, compute, device to host, and wait.

        The first three are the device's, from its first copy to its last; ``wait`` is the rest of the call, in which the
        host prepared and waited. ``None`` before the first such call, and where calls are not timed.
        """
        ...
