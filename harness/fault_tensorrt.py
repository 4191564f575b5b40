"""The lives of ``tensorrt`` on the simulated device: one builds an engine, one loads it, runs it and lets it go."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from harness.fakes.bindings import read_manifest
from harness.fakes.cuda_driver import VERSIONS
from harness.fakes.device import Call, SimulatedDevice
from harness.fakes.faults import FaultPlan, is_sticky
from harness.fakes.files import FaultyFiles
from harness.fakes.install import installed
from harness.fakes.tensorrt_plan import flavour_of
from harness.fault_files import contents, expect_of_files, file_errors, quiet_log, scratch_folder
from harness.faults import IN_WORK, Expected, Life, Pair
from runtime.config import RuntimeConfig
from runtime.data import BuildConfig, EngineCacheEntry, EngineHandle
from runtime.errors import (
    DeviceLostError,
    EngineBuildError,
    EngineDeserializeError,
    InferenceError,
    OutOfMemoryError,
    RuntimeNotAvailableError,
)
from runtime.logs import Kind, Record
from runtime.platform import HostTuple
from runtime.protocol import Array, InferenceRuntime

__all__ = ["ASYNCHRONOUS", "OF_EARLIER_WORK", "Bench", "RuntimeWorld", "Specimen", "tensorrt_lives"]

Feed = Mapping[str, Array]

ASYNCHRONOUS = tuple(
    f"CUDA_ERROR_{name}"
    for name in (
        *("ILLEGAL_ADDRESS", "LAUNCH_FAILED", "ECC_UNCORRECTABLE"),
        *("LAUNCH_TIMEOUT", "ASSERT", "HARDWARE_STACK_ERROR", "ILLEGAL_INSTRUCTION"),
        *("MISALIGNED_ADDRESS", "INVALID_ADDRESS_SPACE", "INVALID_PC"),
    )
)
"""What kernels and copies end in. Of nearly every call CUDA says that it may return the error of earlier work."""
OF_EARLIER_WORK = ASYNCHRONOUS[:3]
"""Of these, what every call answers with in its turn: a kernel's fault, a launch's, and the memory's own. All of them are
planted where work is enqueued and where it is waited for."""
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


@dataclass(frozen=True)
class Specimen:
    """The model that lives are made of, in the form that a runtime compiles, and three feeds."""

    model: Path
    build: BuildConfig
    feeds: Sequence[Feed]


@contextmanager
def tensorrt_lives(specimen: Specimen, version: str, host: HostTuple) -> Iterator[tuple[Life, ...]]:
    """Both lives on the fake TensorRT of ``version``, which stands on ``host``."""
    major = 12 if version == "10.3.0" else 13
    socket: Any = Socket()
    house = _House(specimen, host, socket, driver_version=12060 if major == 12 else 13000)
    errors = partial(_errors, major=major, flavour=version)
    expect = partial(_expect, is_rtx=version.startswith("rtx"))
    with installed(socket, tensorrt=version, cuda_major=major), scratch_folder() as name:
        with house.flight(Path(name), None) as world:
            entry = world.runtime.compile_engine(specimen.model, specimen.build)
        yield (
            Life(f"tensorrt {version}, build", house.build, errors, expect),
            Life(f"tensorrt {version}, flight", partial(house.flight, Path(name), entry), errors, expect),
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
    driver_version: int

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
        bench = Bench(renew, plan, fs, folder, [])
        config = RuntimeConfig(runtime="tensorrt", engine_cache_dir=folder / "engines")
        yield RuntimeWorld(
            TensorrtRuntime(config, log=quiet_log(bench.logged), host=self.host, launch=in_process, fs=bench.fs),
            bench,
            self.specimen,
            entry,
        )


@dataclass
class Bench:
    """What a runtime stands on: a device, a way to the disk, the folder of all its files, and what it logged.

    ``renew``: puts a new device in the place of the old one, under the same plan.
    """

    renew: Callable[[], SimulatedDevice]
    plan: FaultPlan
    fs: FaultyFiles
    folder: Path
    logged: list[Record]


class RuntimeWorld:
    """One runtime on one simulated device: the flight of ``entry``, or where there is none, its build.

    The runtime is held here and nowhere else, so that it is gone at the end.
    """

    silent = frozenset({"release"})

    def __init__(
        self, runtime: InferenceRuntime, bench: Bench, specimen: Specimen, entry: EngineCacheEntry | None
    ) -> None:
        self.runtime = runtime
        self.plan = bench.plan
        self.logged = bench.logged
        self._bench, self._device, self._fs, self._folder = bench, bench.renew(), bench.fs, bench.folder
        self._past: list[Call] = []
        self._specimen = specimen
        self._entry = entry
        self._handle: EngineHandle | None = None
        self._seen: list[str] | None = None
        self.steps: Mapping[str, Callable[[], object]] = {"compile": self._compile}
        self.after_loss: Mapping[str, Callable[[], object]] = {}
        if entry is not None:
            self.after_loss = {"load again": self._load, **self.steps}
            self.steps = {
                "load": self._load,
                **{f"infer {at + 1}": partial(self._infer, feed) for at, feed in enumerate(specimen.feeds[:3])},
                "describe": self._describe,
                "release": self._release,
            }

    def _compile(self) -> object:
        if self._entry is None and self._device.lost_to:
            self._renew()
        entry = self.runtime.compile_engine(self._specimen.model, self._specimen.build)
        made = contents(self._folder) if self._entry is None else {}
        return entry.engine_path.name, entry.sha256, entry.precision, made

    def _load(self) -> object:
        assert self._entry is not None
        self._handle = self.runtime.deserialize_engine(self._entry)
        return self._resident()

    def _infer(self, feed: Feed) -> object:
        assert self._handle is not None
        before = {name: array.tobytes() for name, array in feed.items()}
        outputs = self.runtime.infer(self._handle, feed)
        changed = [name for name, array in feed.items() if array.tobytes() != before[name]]
        return {name: array.tobytes() for name, array in outputs.items()}, changed

    def _describe(self) -> object:
        describe: Callable[[EngineHandle | None], object] = getattr(self.runtime, "describe")  # noqa: B009
        return describe(self._handle)

    def _release(self) -> object:
        handle, self._handle = self._handle, None
        if handle is not None:
            self.runtime.release_engine(handle)
        return self._resident()

    def _resident(self) -> object:
        return getattr(self.runtime, "resident_bytes", None)

    def _renew(self) -> None:
        """Another build has a process of its own, which has its own device, as far as it can tell."""
        self._past += self._device.calls
        self._device = self._bench.renew()

    def calls(self) -> Sequence[str]:
        return [call.api for call in (*self._past, *self._device.calls)]

    def touches(self) -> Sequence[str]:
        return [api for api in self.calls() if not api.startswith("files.")]

    def state(self) -> Mapping[str, object]:
        state = {"what is resident": self._resident(), "the open files": dict(self._fs.opened)}
        if self._entry is None:
            state["the folder"] = contents(self._folder)
        if not self._device.lost_to:
            state["what is allocated"] = self._allocated()
        return state

    def _allocated(self) -> list[str]:
        """The primary context belongs to the runtime, which may keep it; work that waits in a stream is no leak."""
        leaks = self._device.leaks()
        return [line.partition(",")[0] for line in leaks if not line.startswith("primary context")]

    def complaints(self) -> Sequence[str]:
        seen = self._device.violations if self._seen is None else self._seen
        return [*seen, *(f"{name} is still open" for name in self._fs.opened.values())]

    def is_possible(self, step: str) -> bool:
        return self._handle is not None or step in ("load", "compile", "release")

    def left(self) -> Sequence[str]:
        return self._allocated()

    def end(self) -> Sequence[str]:
        self._seen = list(self._device.violations)
        held = weakref.ref(self.runtime)
        del self.runtime
        self._handle = None
        gc.collect()
        left = [line for line in self._device.leaks() if line.startswith("primary context")]
        return [*left, "the runtime itself"] if held() is not None else left


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
    api, step = pair.site.api, pair.site.step.partition(" ")[0]
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
