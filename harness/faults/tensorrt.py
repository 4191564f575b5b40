"""The lives of ``tensorrt`` on the simulated device: one builds an engine, one loads it, runs it and lets it go."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from harness.fakes.bindings import read_manifest
from harness.fakes.cuda_driver import VERSIONS
from harness.fakes.device import SimulatedDevice
from harness.fakes.faults import FaultPlan, is_sticky
from harness.fakes.files import FaultyFiles
from harness.fakes.install import installed
from harness.fakes.tensorrt import live_runtimes
from harness.fakes.tensorrt_plan import flavour_of
from harness.faults.files import expect_of_files, file_errors, quiet_log, scratch_folder
from harness.faults.lives import ASYNCHRONOUS, OF_EARLIER_WORK, Bench, RuntimeWorld, Specimen
from harness.faults.matrix import IN_WORK, Expected, Life, Pair
from runtime.config import RuntimeConfig
from runtime.data import EngineCacheEntry
from runtime.errors import (
    DeviceLostError,
    EngineBuildError,
    EngineDeserializeError,
    InferenceError,
    OutOfMemoryError,
    RuntimeNotAvailableError,
)
from runtime.logs import Kind
from runtime.platform import HostTuple

__all__ = ["tensorrt_lives"]

_WAITS = ("cuStreamSynchronize", "cuEventSynchronize")
_SAYS_NOTHING_OF_WORK = ("cuInit", "cuDriverGetVersion", "cuGetErrorString", "cuGetErrorName")
_ENQUEUES = ("cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "tensorrt.IExecutionContext.execute_async_v3")
_OPENS = ("cuInit", "cuDriverGetVersion", "cuDeviceGet")
"""The calls that fail where there is no driver or no device: with any error of theirs, CUDA is not available."""
_ON_DEVICE = (
    *("Runtime.deserialize_cuda_engine", "Runtime.get_engine_validity", "ICudaEngine.create_execution_context"),
    *("IExecutionContext.set_optimization_profile_async", "IExecutionContext.execute_async_v3"),
    *("Builder.build_serialized_network",),
)
"""The methods of TensorRT that call CUDA themselves, whose errors they report as their own."""
_INSIDE = ("CUDA_ERROR_OUT_OF_MEMORY", *OF_EARLIER_WORK)
_FREES = ("cuMemFree", "cuMemFreeHost", "cuStreamDestroy", "cuEventDestroy", "cuDevicePrimaryCtxRelease")


@contextmanager
def tensorrt_lives(specimen: Specimen, version: str, host: HostTuple, *, large: Specimen) -> Iterator[tuple[Life, ...]]:
    """Three lives on the fake TensorRT of ``version``, which stands on ``host``: a build, a flight, and a flight with inputs so
    ``large`` that they are copied in pieces, of which only the calls that this adds are made to fail.
    """
    major = 12 if version == "10.3.0" else 13
    socket: Any = Socket()
    house = _House(specimen, host, socket, version, driver_version=12060 if major == 12 else 13000)
    errors = partial(_errors, major=major, flavour=version)
    expect = partial(_expect, is_rtx=version.startswith("rtx"))
    lofty = replace(house, specimen=large)
    with installed(socket, tensorrt=version, cuda_major=major), scratch_folder() as one, scratch_folder() as other:
        flight = partial(house.flight, Path(one), house.compiled(Path(one)))
        large_flight = partial(lofty.flight, Path(other), lofty.compiled(Path(other)))
        yield (
            Life(f"tensorrt {version}, build", house.build, errors, expect),
            Life(f"tensorrt {version}, flight", flight, errors, expect),
            Life(
                f"tensorrt {version}, flight with large inputs",
                large_flight,
                lambda api: errors(api) if api.startswith("cuEvent") else (),
                expect,
            ),
        )


class Socket:
    """Stands where faces expect a device, and is the one that is plugged in: faces are made once, devices by the thousand."""

    def __init__(self) -> None:
        self.device = SimulatedDevice()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.device, name)


@dataclass(frozen=True)
class _House:
    """Where worlds are made."""

    specimen: Specimen
    host: HostTuple
    socket: Socket
    version: str
    driver_version: int

    def compiled(self, folder: Path) -> EngineCacheEntry:
        """The engine that flights are made with."""
        with self.flight(folder, None) as world:
            return world.runtime.compile_engine(self.specimen.model, self.specimen.build)

    @contextmanager
    def build(self) -> Iterator[RuntimeWorld]:
        with scratch_folder() as name, self.flight(Path(name), None) as world:
            yield world

    @contextmanager
    def flight(self, folder: Path, entry: EngineCacheEntry | None) -> Iterator[RuntimeWorld]:
        from runtime.strategies.trt import TensorrtRuntime
        from runtime.strategies.trt_launch import in_process

        plan, socket = FaultPlan(), self.socket

        def renew() -> SimulatedDevice:
            socket.device = SimulatedDevice(
                sm=self.host.sm,
                is_integrated=self.host.jetpack != "none",
                driver_version=self.driver_version,
                faults=plan,
            )
            return socket.device

        fs = FaultyFiles(lambda api: socket.device.enter(api, needs_device=False))
        library = sys.modules["tensorrt_rtx" if self.version.startswith("rtx") else "tensorrt"]
        bench = Bench(renew, plan, fs, folder, [], partial(live_runtimes, library))
        config = RuntimeConfig(runtime="tensorrt", engine_cache_dir=folder / "engines")
        yield RuntimeWorld(
            TensorrtRuntime(config, log=quiet_log(bench.logged), host=self.host, launch=in_process, fs=bench.fs),
            bench,
            self.specimen,
            entry,
        )


def _errors(api: str, *, major: int, flavour: str) -> Sequence[str]:
    if api.startswith("files."):
        return file_errors(api)
    if api.startswith("tensorrt."):
        inside = _INSIDE if api.removeprefix("tensorrt.") in _ON_DEVICE else ()
        documented = (*_codes(flavour), *inside)
    else:
        documented = tuple(read_manifest(f"cuda-bindings-{VERSIONS[major]}")[api]["errors"])
        if api not in _SAYS_NOTHING_OF_WORK:
            documented += ASYNCHRONOUS if api in _WAITS else OF_EARLIER_WORK
    in_work = tuple(name + IN_WORK for name in ASYNCHRONOUS) if api in _ENQUEUES else ()
    return tuple(dict.fromkeys((*documented, *in_work)))


@cache
def _codes(flavour: str) -> tuple[str, ...]:
    codes = read_manifest(flavour_of(flavour).manifest)["ErrorCodeTRT"]["enum"]
    return tuple(name for name in codes if name != "SUCCESS")


def _name(api: str) -> str:
    """What an error has to say: the call's name, TensorRT's in Python or as its own messages have it."""
    owner, _, method = api.removeprefix("tensorrt.").rpartition(".")
    if not owner:
        return api
    if method == "__init__":
        return f"createInfer{owner}"
    first, *others = method.removesuffix("_v2").removesuffix("_v3").split("_")
    return f"{method}|{first}{''.join(word.title() for word in others)}"


_FAILURES = {
    "load": EngineDeserializeError,
    "infer": InferenceError,
    "describe": InferenceError,
}


def _expect(pair: Pair, *, is_rtx: bool) -> Expected:
    api, step = pair.site.api, pair.site.phase
    if api.startswith("files."):
        return expect_of_files(pair)
    error = pair.error.removesuffix(IN_WORK)
    name = "cuStreamSynchronize" if pair.error.endswith(IN_WORK) else _name(api)
    is_lost = is_sticky(error)
    if step == "compile":
        return _expect_of_a_build(pair, error, name, is_rtx=is_rtx)
    if step == "release":
        return Expected(log=Kind.RELEASE_FAILED, words=(name,), is_lost=is_lost, may_stay=api in _FREES)
    if is_lost:
        return Expected(DeviceLostError, (name,), is_lost=True)
    if error in ("CUDA_ERROR_OUT_OF_MEMORY", "FAILED_ALLOCATION"):
        return Expected(OutOfMemoryError, (name,))
    if api in _OPENS:
        return Expected(RuntimeNotAvailableError, (name,))
    return Expected(_FAILURES[step], (name,))


_READ_BACK = ("create_execution_context", "set_input_shape", "create_engine_inspector", "get_engine_information")
"""What a build asks of the new engine for its layers."""


def _expect_of_a_build(pair: Pair, error: str, name: str, *, is_rtx: bool) -> Expected:
    """A build is apart: what it loses or runs out of, the runtime has still. TensorRT-RTX also builds where no GPU is."""
    api, method = pair.site.api, pair.site.api.rpartition(".")[2]
    if api == "cuDevicePrimaryCtxRelease":
        return Expected(may_stay=True)
    if "timing_cache" in method:
        if pair.site.number == 1:  # Polygraphy's own, which cannot do without one, and does not ask if it was taken
            if method == "create_timing_cache":
                return Expected(EngineBuildError, (name,))
            if is_rtx or not pair.forever:
                return Expected()
        return Expected(log=Kind.BUILD_REMARK, words=("timing cache",), differs=("compile",))
    if method in _READ_BACK:  # the builder's own list of layers serves
        return Expected(differs=("compile",))
    if api in _OPENS and not is_sticky(error):
        return Expected(differs=("compile",)) if is_rtx else Expected(RuntimeNotAvailableError, (name,))
    return Expected(EngineBuildError, (name,))
