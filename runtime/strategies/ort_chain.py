"""From a model to a session of ONNX Runtime, with no silent way to the CPU (OR-02, OR-04).

The library falls back by itself: in its constructor from TensorRT to CUDA and the CPU, from CUDA to the CPU (also with
``enable_fallback=0``), from an unknown provider, and inside ``run()``. So the chain is walked here: one explicit
attempt per head with all of that off, and a session counts only if its providers are those that were asked for.
"""

from __future__ import annotations

import ctypes
import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from runtime.config import RuntimeConfig
from runtime.data import Profile, TensorSpec, describe_shape
from runtime.errors import (
    DeviceLostError,
    EngineDeserializeError,
    OutOfMemoryError,
    RuntimeCoreError,
)
from runtime.files import DISK, FileSystem, folder_made
from runtime.protocol import Array
from runtime.strategies.common import zeros
from runtime.strategies.ort_options import cuda_options, parse_version, tensorrt_options
from runtime.strategies.ort_profile import PROVIDER_NAMES
from runtime.threads import usable_cores

__all__ = ["CHAIN", "CPU", "CUDA", "TENSORRT", "Opened", "ProviderChain", "Source"]

TENSORRT, CUDA, CPU = PROVIDER_NAMES
CHAIN = (TENSORRT, CUDA, CPU)
"""The heads in the order in which they are tried, whatever is configured."""

_MEMORY = re.compile(
    r"out of memory|OutOfMemory|failed to allocate memory|bad_alloc|MemoryAllocation|ALLOC_FAILED|"
    r"Available memory of|insufficient memory|Tactic Device request",
    re.IGNORECASE,
)
_LOST = re.compile(
    r"CUDA (?:failure|error)\D{0,3}(?:214|70[029]|71\d|999)\b|illegal memory access|unspecified launch failure|"
    r"device-side assert|context is destroyed|uncorrectable ECC|launch timed out",
    re.IGNORECASE,
)
_PLACES = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed:|/\S+\.(?:cc|h|cu):\d+ .*?\) ")
"""What ONNX Runtime puts before its messages: its error code, our path, and the C++ function."""


@dataclass(frozen=True)
class Source:
    """What a session is made of: the path of a model, or the bytes of an EP-context model.

    ``cache``: where TensorRT's engines go; ``None`` for an EP-context model, where there is nothing to build.
    ``size_bytes``: of the files, which is about the weights.
    """

    model: str | bytes
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profiles: tuple[Profile, ...]
    size_bytes: int
    sha256: str
    cache: Path | None

    def warmup_feed(self) -> dict[str, Array]:
        """Zeros of the declared shapes, or of the profiles' optimum. Raises ``EngineDeserializeError`` if sizes are free."""
        best = {profile.input: profile.opt for profile in self.profiles}
        concrete = [replace(spec, shape=best.get(spec.name, spec.shape)) for spec in self.inputs]
        feed = zeros(concrete)
        if feed is None:
            free = next(spec for spec in concrete if any(isinstance(size, str) for size in spec.shape))
            raise EngineDeserializeError(
                f"input {free.name!r} has the shape {describe_shape(free.shape)}, and nothing says which sizes to warm "
                "up with.",
                remedy="Give an optimization profile when compiling, or concrete shapes in extras['inputs'].",
            )
        return feed

    @property
    def static_output_bytes(self) -> int:
        """Bytes of all outputs, or 0 where a size is free."""
        if any(isinstance(size, str) for spec in self.outputs for size in spec.shape):
            return 0
        return sum(math.prod(map(int, spec.shape)) * np.dtype(spec.dtype).itemsize for spec in self.outputs)


@dataclass(frozen=True)
class Opened:
    """A session, the head that took it, and why each head before it did not."""

    session: Any
    head: str
    refusals: dict[str, str]


class ProviderChain:
    """Opens sessions, and turns ONNX Runtime's exceptions into the core's. ``ort`` is the imported library; ``fs`` makes the
    folders of its caches.

    ``device`` = ``cpu`` passes over the two GPU heads, with that as their reason; the chain is the same.
    """

    def __init__(self, ort: ModuleType, config: RuntimeConfig, fs: FileSystem = DISK) -> None:
        self._ort = ort
        self._fs = fs
        self._version = parse_version(ort.__version__)
        self._config = config
        self._lost = ""

    def open(self, name: str, source: Source) -> Opened:
        """The first head that takes the source. A refusal for want of memory is final, and so is a lost device."""
        refusals: dict[str, str] = {}
        last: BaseException | None = None
        for head in CHAIN:
            if head != CPU and self._config.device == "cpu":
                refusals[head] = "passed over: device is cpu by configuration"
            elif head == CPU and self._config.ort_disallow_cpu_fallback:
                refusals[head] = "left off: ort_disallow_cpu_fallback is set"
            else:
                try:
                    session = self.attempt(head, source)
                except EngineDeserializeError as refusal:
                    refusals[head] = refusal.message.rstrip(".") + self._loader_error(head)
                    last = refusal.__cause__ or refusal
                else:
                    last = None  # through its traceback it would hold the session in a cycle, past release_engine
                    return Opened(session, head, refusals)
        reasons = "; ".join(f"{head} {reason}" for head, reason in refusals.items())
        raise EngineDeserializeError(
            f"{name}: no provider of ONNX Runtime {self._ort.__version__} took it: {reasons}.",
            remedy="Run `trigate doctor`, which names what is missing.",
        ) from last

    def attempt(self, head: str, source: Source, *, profile_prefix: str = "") -> Any:
        """One session headed by ``head`` and by nothing else, or ``EngineDeserializeError`` with the reason.

        ``profile_prefix``: where the session writes its profile; empty for none.
        """
        available = self._ort.get_available_providers()
        if head not in available:
            raise EngineDeserializeError(f"is not in this build, which has {', '.join(available)}.")
        chain = [name for name in CHAIN[CHAIN.index(head) :] if name in available]
        if self._config.ort_disallow_cpu_fallback:
            chain.remove(CPU)  # listing it and session.disable_cpu_ep_fallback exclude each other
        providers = [(name, self._provider_options(name, source)) for name in chain]
        cache = _made(source.cache, self._fs) if head == TENSORRT and source.cache is not None else nullcontext()
        with self.translated("refused it", EngineDeserializeError), cache:
            options = self._session_options(source, profile_prefix)
            session = self._ort.InferenceSession(source.model, options, providers=providers, enable_fallback=0)
            session.disable_fallback()  # the one inside run()
            active = session.get_providers()
            if active not in (chain, [*chain, CPU]):  # enable_fallback=0 does not cover CUDA
                raise EngineDeserializeError(
                    f"gave way to {', '.join(active)}, where {', '.join(chain)} was asked for."
                )
        return session

    def _session_options(self, source: Source, profile_prefix: str) -> Any:
        levels, threads = self._ort.GraphOptimizationLevel, self._config.intra_op_threads
        options = self._ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        if threads is not None:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self._config.ort_disallow_cpu_fallback:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.graph_optimization_level = levels.ORT_ENABLE_ALL
        if source.cache is None:
            options.graph_optimization_level = levels.ORT_DISABLE_ALL
            options.add_session_config_entry("session.disable_model_compile", "1")
        if profile_prefix:
            options.enable_profiling = True
            options.profile_file_prefix = profile_prefix
        return options

    def _provider_options(self, provider: str, source: Source) -> dict[str, str]:
        if provider == CPU:
            return {}
        device_id = int(self._config.device.partition(":")[2] or 0)
        budget = self._config.gpu_memory_budget_bytes
        if provider == CUDA:
            return cuda_options(self._version, device_id=device_id, gpu_budget_bytes=budget, precision=source.precision)
        return tensorrt_options(
            self._version,
            device_id=device_id,
            gpu_budget_bytes=budget,
            precision=source.precision,
            profiles=source.profiles,
            cache=source.cache,
            model_sha256=source.sha256,
        )

    def _loader_error(self, head: str) -> str:
        """What the dynamic loader says to the provider's library: ONNX Runtime tells it to its log alone."""
        library = Path(str(self._ort.__file__)).parent / f"capi/libonnxruntime_providers_{PROVIDER_NAMES[head]}.so"
        if head == CPU or not library.exists():
            return ""
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            return f" ({error})"
        return ""

    @contextmanager
    def translated(self, doing: str, kind: type[RuntimeCoreError]) -> Iterator[None]:
        """Let no exception of the library through (RT-07): what is neither memory nor a lost device becomes ``kind``."""
        try:
            yield
        except RuntimeCoreError:
            raise
        except Exception as error:
            raise self.error(doing, error, kind) from error

    def error(self, doing: str, error: Exception, kind: type[RuntimeCoreError]) -> RuntimeCoreError:
        """ONNX Runtime's exceptions have no common base, and their text alone tells memory and a lost device apart."""
        text = " ".join(_PLACES.sub("", str(error)).split()).rstrip(".") or type(error).__name__
        if isinstance(error, MemoryError) or _MEMORY.search(text):
            remedy = "Release an engine, or raise gpu_memory_budget_bytes."
            return OutOfMemoryError(f"{doing}, for want of memory: {text}.", remedy=remedy)
        if type(error).__name__ == "DeviceReset" or _LOST.search(text):
            self._lost = text
            return DeviceLostError(f"{doing}: {text}.", remedy="Restart the process.")
        return kind(f"{doing}: {text}.")

    def refuse_if_lost(self) -> None:
        """Raise ``DeviceLostError`` at once where an earlier call lost the device for good."""
        if self._lost:
            raise DeviceLostError(f"an earlier call lost the device: {self._lost}.", remedy="Restart the process.")


@contextmanager
def _made(folder: Path, fs: FileSystem) -> Iterator[None]:
    """The folder is there in the body; if the body fails, what was not there before is gone again (RT-09)."""
    is_new = not folder.exists()
    with folder_made(folder, fs=fs):
        try:
            yield
        except BaseException:
            if is_new:
                shutil.rmtree(folder, ignore_errors=True)
            raise
