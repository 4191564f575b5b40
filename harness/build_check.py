"""Tier-0 of a model's engine: does a real TensorRT parse and build it, and does the engine check hold what came out?"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.gates import worst
from harness.host import is_there
from harness.records import Check, Figure, Measurement, Outcome, Summary, Verdict
from runtime.config import RuntimeConfig
from runtime.data import BuildConfig, EngineCacheEntry
from runtime.errors import EngineBuildError, EngineDeserializeError
from runtime.gate import EngineGate
from runtime.platform import HostTuple
from runtime.sidecar import manifest_path, sidecar_path

__all__ = ["BUILD_SM", "Builder", "builder_for", "judge_build"]

BUILD_SM = "89"
"""The compute capability that TensorRT-RTX builds for on a host with no GPU: the one that most workstations have."""


@dataclass(frozen=True)
class Builder:
    """What builds engines here. ``label``: ``tensorrt`` or ``tensorrt_rtx``. ``host``: what it builds for.

    ``build``: (model, how, folder) -> the entry of an engine in that folder; raises ``EngineBuildError``.
    """

    label: str
    library: str
    host: HostTuple
    build: Callable[[Path, BuildConfig, Path], EngineCacheEntry]

    @property
    def flies(self) -> bool:
        """Whether this is the library of the flight: what TensorRT-RTX takes or refuses says nothing final of TensorRT."""
        return self.label == "tensorrt"


def builder_for(host: HostTuple) -> Builder | None:
    """The installed TensorRT, or TensorRT-RTX, which needs no GPU; ``None`` where there is neither. Imports neither."""
    if is_there("tensorrt"):
        label, library = "tensorrt", f"TensorRT {host.trt}"
    elif is_there("tensorrt_rtx"):
        label, library = "tensorrt_rtx", f"TensorRT-RTX {host.trt.removeprefix('rtx')}"
        host = replace(host, sm=BUILD_SM if host.sm == "none" else host.sm)
    else:
        return None

    def build(model: Path, config: BuildConfig, folder: Path) -> EngineCacheEntry:
        from runtime.strategies.trt_build import build_engine

        return build_engine(model, config, config=RuntimeConfig("tensorrt", engine_cache_dir=folder), host=host)

    return Builder(label, library, host, build)


def judge_build(
    measurement: Measurement,
    model: Path,
    config: BuildConfig,
    builder: Builder,
    *,
    keep: Callable[[Verdict, EngineCacheEntry], Verdict] = lambda verdict, entry: verdict,
) -> Verdict:
    """Build the model, then hold the engine against the engine check: as it is, for another GPU, and damaged.

    A model that the library refuses is FAIL where that library flies, and INCONCLUSIVE where it is TensorRT-RTX.
    ``keep``: makes the verdict whole while the engine is there, which is thrown away afterwards.
    """
    measurement = replace(
        measurement,
        placement=f"tensorrt[{builder.library}, builder]",
        provider=builder.label,
        witness=False,
        notes=("it was built, and not run: no witness of numerics",),
    )
    with tempfile.TemporaryDirectory(prefix="trigate-build-") as room:
        begun = time.perf_counter_ns()
        try:
            entry = builder.build(model, config, Path(room))
        except EngineBuildError as error:
            return _unbuilt(measurement, error, builder)
        took_ns = time.perf_counter_ns() - begun
        size_mb = entry.engine_path.stat().st_size / 1e6
        built = f"{builder.library} built it for SM {entry.sm} in {took_ns / 1e9:.1f} s, {size_mb:.1f} MB"
        checks = (
            Check("build", Outcome.PASS, built),
            _takes(entry, builder.host),
            _refuses("another GPU", entry, replace(builder.host, sm="87" if entry.sm != "87" else "89")),
            _refuses("one bit", _damaged(entry, Path(room, "damaged")), builder.host),
        )
        deciding = worst(checks)
        whole = f"{built}; the engine check takes it, and refuses it on another GPU or with one bit flipped"
        measured = replace(measurement, model_sha256=entry.sha256, precision_ran=entry.precision)
        figure = Figure("build_ns", float(took_ns), "ns", "the host's clock around the build")
        reason = whole if deciding.outcome is Outcome.PASS else f"{deciding.name}: {deciding.reason}"
        return keep(Verdict(Summary(measured, figures=(figure,)), deciding.outcome, reason, checks), entry)


def _unbuilt(measurement: Measurement, error: EngineBuildError, builder: Builder) -> Verdict:
    outcome = Outcome.FAIL if builder.flies else Outcome.INCONCLUSIVE
    reason = f"{builder.library} does not build it: {error.message}"
    if not builder.flies:
        reason += " TensorRT may take what TensorRT-RTX refuses: a build on the board decides."
    return Verdict(Summary(measurement), outcome, reason, (Check("build", outcome, reason),), remedy=error.remedy)


def _refusal(entry: EngineCacheEntry, host: HostTuple) -> str:
    """Why the engine check refuses an entry on a host; empty where it takes it."""
    try:
        EngineGate(host).validate(entry)
    except EngineDeserializeError as error:
        return error.message
    return ""


def _takes(entry: EngineCacheEntry, host: HostTuple) -> Check:
    refusal = _refusal(entry, host)
    if refusal:
        return Check("engine check", Outcome.FAIL, f"a fresh engine is refused: {refusal}")
    return Check("engine check", Outcome.PASS, "name, host, sidecar, content, manifest and header agree")


def _refuses(name: str, entry: EngineCacheEntry, host: HostTuple) -> Check:
    refusal = _refusal(entry, host)
    return Check(name, Outcome.PASS if refusal else Outcome.FAIL, refusal or "the engine check takes it")


def _damaged(entry: EngineCacheEntry, room: Path) -> EngineCacheEntry:
    """A copy of the engine with one bit flipped in the middle of the plan."""
    room.mkdir()
    path = room / entry.engine_path.name
    data = bytearray(entry.engine_path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for beside in (sidecar_path, manifest_path):
        shutil.copyfile(beside(entry.engine_path), beside(path))
    return replace(entry, engine_path=path)
