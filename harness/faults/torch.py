"""The lives of ``pytorch_fp16`` on the simulated device: torch is the real one, and its GPU is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from harness.fakes.device import SimulatedDevice
from harness.fakes.faults import FaultPlan, is_sticky
from harness.fakes.files import FaultyFiles
from harness.fakes.torch import make_torch, recorded
from harness.faults.files import expect_of_files, file_errors, quiet_log, scratch_folder
from harness.faults.lives import ASYNCHRONOUS, OF_EARLIER_WORK, Bench, RuntimeWorld, Specimen
from harness.faults.matrix import Expected, Life, Pair
from runtime.architectures import ArchitectureRegistry
from runtime.config import RuntimeConfig
from runtime.data import EngineCacheEntry
from runtime.errors import (
    DeviceLostError,
    EngineBuildError,
    EngineDeserializeError,
    InferenceError,
    OutOfMemoryError,
)
from runtime.logs import Kind
from runtime.platform import HostTuple

__all__ = ["torch_lives"]

_HOST = HostTuple("87", "6.2", "10.3.0", "36.4.3", "p3767-0000")
_MEMORY = ("out of host memory", "MemoryError")
_LIBRARIES = ("an error of cuBLAS", "an error of cuDNN", "no kernel image", "RuntimeError")
_DEVICE_MEMORY = (
    *("OutOfMemoryError", "out of memory as RuntimeError", "out of memory as NVML's assertion"),
    "out of memory in cuBLAS",
)
_DOCUMENTED: dict[str, tuple[str, ...]] = {
    "torch.load": (*_MEMORY, "UnpicklingError", "a truncated archive"),
    "torch.nn.Module()": (*_MEMORY, "RuntimeError"),
    "torch.nn.Module.load_state_dict": (*_MEMORY, "RuntimeError"),
    "torch.nn.Module.eval": ("RuntimeError",),
    "torch.nn.Module.half": (*_MEMORY, "RuntimeError"),
    "torch.isfinite": (*_MEMORY, "RuntimeError"),
    "torch.nn.Module.to": (*_DEVICE_MEMORY[:3], "RuntimeError", *OF_EARLIER_WORK),
    "torch.tensor": (*_DEVICE_MEMORY[:3], *_MEMORY, "RuntimeError", *OF_EARLIER_WORK),
    "torch.nn.Module.forward": (*_DEVICE_MEMORY, *_LIBRARIES, *ASYNCHRONOUS),
    "torch.Tensor.copy_": (*_DEVICE_MEMORY[:3], *_LIBRARIES, *ASYNCHRONOUS),
    "torch.cuda.Event": ("RuntimeError", *OF_EARLIER_WORK),
    "torch.cuda.empty_cache": ("RuntimeError", *OF_EARLIER_WORK),
}
"""By torch's documentation of these calls and of ``torch.OutOfMemoryError`` and ``torch.AcceleratorError``, and by what is
reported of Jetsons. Kernels run behind the host, so that any call that waits may tell of any before it."""


@contextmanager
def torch_lives(specimen: Specimen, registry: ArchitectureRegistry) -> Iterator[tuple[Life, ...]]:
    """Compile, which only points at the checkpoint; load, three infers, release. ``registry``: has the specimen's model."""
    with scratch_folder() as name:
        folder = Path(name)
        with _world(specimen, registry, folder, None) as world:
            entry = world.runtime.compile_engine(specimen.model, specimen.build)
        yield (
            Life("pytorch_fp16, build", partial(_world, specimen, registry, folder, None), _errors, _expect),
            Life("pytorch_fp16, flight", partial(_world, specimen, registry, folder, entry), _errors, _expect),
        )


@contextmanager
def _world(
    specimen: Specimen, registry: ArchitectureRegistry, folder: Path, entry: EngineCacheEntry | None
) -> Iterator[RuntimeWorld]:
    from runtime.strategies.torch_fp16 import PytorchFp16Runtime

    plan = FaultPlan()
    device = SimulatedDevice(faults=plan)
    fs = FaultyFiles(partial(device.enter, needs_device=False))
    bench = Bench(lambda: device, plan, fs, folder, [])
    name = specimen.model.stem
    known = registry.get(name)
    own = ArchitectureRegistry()
    own.register(name, recorded(device, known.factory), inputs=known.inputs, outputs=known.outputs)
    runtime = PytorchFp16Runtime(
        RuntimeConfig(runtime="pytorch_fp16", device="cuda:0", engine_cache_dir=folder),
        log=quiet_log(bench.logged),
        architecture_registry=own,
        host=_HOST,
        load=make_torch(device),
        fs=fs,
    )
    world = RuntimeWorld(runtime, bench, specimen, entry)
    del runtime
    yield world


def _errors(api: str) -> Sequence[str]:
    return file_errors(api) if api.startswith("files.") else _DOCUMENTED[api]


def _expect(pair: Pair) -> Expected:
    api, step = pair.site.api, pair.site.phase
    if api.startswith("files."):
        return expect_of_files(pair)
    name = api.removeprefix("torch.nn.") if api != "torch.nn.Module()" else "building architecture"
    name = name.replace("torch.Tensor", "Tensor")
    is_lost = is_sticky(pair.error)
    if step == "release":
        return Expected(log=Kind.RELEASE_FAILED, words=(name,), is_lost=is_lost)
    if is_lost:
        return Expected(DeviceLostError, (name,), is_lost=True)
    if "memory" in pair.error.lower():
        return Expected(OutOfMemoryError, (name,))
    if api in ("torch.load", "torch.nn.Module.load_state_dict"):
        return Expected(EngineDeserializeError, (".pt",))
    failures = {"compile": EngineBuildError, "load": EngineDeserializeError}
    return Expected(failures.get(step, InferenceError), (name,))
