"""What the lives of all runtimes have in common: a world with one runtime in it, and what is done there."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.fakes.device import Call, SimulatedDevice
from harness.fakes.faults import FaultPlan
from harness.fakes.files import FaultyFiles
from harness.faults.files import contents
from runtime.data import BuildConfig, EngineCacheEntry, EngineHandle
from runtime.logs import Record
from runtime.protocol import Array, InferenceRuntime

__all__ = ["ASYNCHRONOUS", "OF_EARLIER_WORK", "Bench", "RuntimeWorld", "Specimen"]

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


@dataclass(frozen=True)
class Specimen:
    """The model that lives are made of, in the form that a runtime compiles, and three feeds."""

    model: Path
    build: BuildConfig
    feeds: Sequence[Feed]


@dataclass
class Bench:
    """What a runtime stands on: a device, a way to the disk, the folder of all its files, and what it logged.

    ``renew``: puts a new device in the place of the old one, under the same plan. ``held``: what the library holds beside the
    device.
    """

    renew: Callable[[], SimulatedDevice]
    plan: FaultPlan
    fs: FaultyFiles
    folder: Path
    logged: list[Record]
    held: Callable[[], Sequence[str]] = lambda: ()


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
        leaks = [*self._device.leaks(), *self._bench.held()]
        return [line.partition(",")[0] for line in leaks if not line.startswith("primary context")]

    def complaints(self) -> Sequence[str]:
        # what a context takes with it is told by left()
        seen = [line for line in self._device.violations if not line.startswith("a context ended")]
        return [*seen, *(f"{name} is still open" for name in self._fs.opened.values())]

    def is_possible(self, step: str) -> bool:
        return self._handle is not None or step in ("load", "compile", "release")

    def left(self) -> Sequence[str]:
        return self._allocated()

    def end(self) -> Sequence[str]:
        held = weakref.ref(self.runtime)
        del self.runtime
        self._handle = None
        gc.collect()
        left = [line for line in self._device.leaks() if line.startswith("primary context")]
        return [*left, "the runtime itself"] if held() is not None else left
