"""From a model to an engine that the engine gate lets pass: what the runtime's side of a build does (TT-01, TT-10).

The model, its profiles and its calibration inputs are checked first; the build itself happens elsewhere
(``trt_launch``); then what came back is held against what was asked, and published with its manifest and sidecar.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np

from runtime.calibration import CalibrationDataset, open_dataset, read_cache, write_cache
from runtime.config import RuntimeConfig
from runtime.data import BuildConfig, EngineCacheEntry, Profile, TensorSpec, describe_shape
from runtime.errors import EngineBuildError, EngineDeserializeError, EngineSchemaMismatchError
from runtime.files import DISK, FileSystem, folder_made, open_regular, read_hashed, sha256_hex
from runtime.gate import EngineGate
from runtime.logs import EventLog, Kind
from runtime.model_file import ModelFacts, check_external_data, model_sha256, read_model_facts
from runtime.names import EngineName, same_version
from runtime.plan import read_plan_header
from runtime.platform import HostTuple
from runtime.sidecar import Manifest, publish_engine, read_manifest
from runtime.strategies.common import specs_to_json
from runtime.strategies.trt_job import (
    BuildJob,
    BuildResult,
    IsCancelled,
    Launch,
    OnProgress,
    ignore_progress,
    never,
)
from runtime.strategies.trt_launch import ChildLaunch
from runtime.strategies.trt_layers import judge, layers_path
from runtime.strategies.trt_timing import write_timing_cache
from runtime.strategies.trt_trtexec import find_trtexec

__all__ = ["Provisioned", "build_engine", "check_profiles", "io_bytes", "provision"]

_RECIPE = "2"
"""Of how a model becomes an engine here: raised when the same request would give another engine."""


@dataclass(frozen=True)
class Provisioned:
    """``entry``: of an engine that passes the engine gate. ``is_new``: it was built now; else it was there."""

    entry: EngineCacheEntry
    is_new: bool


def build_engine(
    model_path: Path,
    build_config: BuildConfig,
    *,
    config: RuntimeConfig,
    host: HostTuple,
    sm: str | None = None,
    trtexec: Path | None = None,
    launch: Launch | None = None,
    log: EventLog | None = None,
    fs: FileSystem = DISK,
    on_progress: OnProgress | None = None,
    is_cancelled: IsCancelled | None = None,
) -> EngineCacheEntry:
    """Build an engine into ``config.engine_cache_dir`` and return its entry.

    ``host``: what it is for; ``sm``: another GPU than the host's, where the library can build for one that is named.
    ``trtexec``: the program of that route, where it is not in its usual place. ``launch``: how the job is carried out,
    by default in a child process, ended after ``config.trtexec_timeout_s``. ``on_progress`` is called from this thread
    between polls; ``is_cancelled`` is asked then.

    Raises ``EngineBuildError``, and leaves the folder as it was: a model, profile or name that cannot be built, a
    builder that refuses, crashes, is killed or takes too long, an engine in another precision than was asked for.
    ``CalibrationCacheError`` for calibration inputs or a cache that cannot be trusted, ``RuntimeNotAvailableError``
    where a library is missing.
    """
    order = _take_order(model_path, build_config, config, host, sm, fs=fs)
    how = _How(trtexec, launch or ChildLaunch(), log, fs, on_progress or ignore_progress, is_cancelled or never)
    return _build(order, how)


def provision(
    model_path: Path,
    build_config: BuildConfig,
    *,
    config: RuntimeConfig,
    host: HostTuple,
    sm: str | None = None,
    trtexec: Path | None = None,
    launch: Launch | None = None,
    log: EventLog | None = None,
    fs: FileSystem = DISK,
    on_progress: OnProgress | None = None,
    is_cancelled: IsCancelled | None = None,
) -> Provisioned:
    """``build_engine``, unless an engine of the same model, made as it is asked for now, passes the engine gate."""
    order = _take_order(model_path, build_config, config, host, sm, fs=fs)
    entry = _existing(order, fs)
    if entry is not None:
        return Provisioned(entry, is_new=False)
    how = _How(trtexec, launch or ChildLaunch(), log, fs, on_progress or ignore_progress, is_cancelled or never)
    entry = _build(order, how)
    return Provisioned(entry, is_new=True)


def check_profiles(specs: Sequence[TensorSpec], profiles: Sequence[Profile]) -> None:
    """Hold profiles against a model's inputs; raises ``EngineBuildError`` that names the input, what came, what fits.

    Every input with free sizes needs one; a size that the model fixes cannot be another one in it; a free size that
    two inputs share must be the same in both.
    """
    by_name = {spec.name: spec for spec in specs}
    listed = ", ".join(f"{spec.name} ({spec.dtype} {describe_shape(spec.shape)})" for spec in specs) or "none"
    given = {profile.input for profile in profiles}
    for spec in specs:
        free = [size for size in spec.shape if isinstance(size, str)]
        if free and spec.name not in given:
            raise EngineBuildError(
                f"input {spec.name!r} is {describe_shape(spec.shape)}, with {', '.join(map(repr, free))} free, and no "
                "profile was given for it.",
                remedy="Give optimization_profiles its min, opt and max shapes.",
            )
    shared: dict[str, tuple[str, tuple[int, int, int]]] = {}
    for profile in profiles:
        spec = by_name.get(profile.input)  # type: ignore[assignment]  # mypy keeps the loop's type
        if spec is None:
            raise EngineBuildError(f"a profile names the input {profile.input!r}; the model's inputs are {listed}.")
        if spec.shape == ("...",):
            continue
        shapes = (
            f"min {describe_shape(profile.min)}, opt {describe_shape(profile.opt)}, max {describe_shape(profile.max)}"
        )
        if len(profile.opt) != len(spec.shape):
            raise EngineBuildError(
                f"the profile of {spec.name!r} has {len(profile.opt)} axes ({shapes}); the input is "
                f"{describe_shape(spec.shape)}, with {len(spec.shape)}."
            )
        for axis, size in enumerate(spec.shape):
            sizes = (profile.min[axis], profile.opt[axis], profile.max[axis])
            if isinstance(size, int):
                if set(sizes) != {size}:
                    raise EngineBuildError(
                        f"the profile of {spec.name!r} is {shapes}; the model fixes axis {axis} at {size} "
                        f"({describe_shape(spec.shape)})."
                    )
                continue
            other, known = shared.setdefault(size, (spec.name, sizes))
            if known != sizes:
                raise EngineBuildError(
                    f"the profile of {spec.name!r} lets {size!r} be {sizes[0]}, {sizes[1]}, {sizes[2]} (min, opt, max), "
                    f"that of {other!r} {known[0]}, {known[1]}, {known[2]}; the model has one {size!r}."
                )


def io_bytes(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], profiles: Sequence[Profile]) -> int | None:
    """Bytes of all inputs and outputs at their largest; ``None`` where an output's size follows from nothing known."""
    largest: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {profile.input: profile.max for profile in profiles}
    for spec in inputs:
        for size, bound in zip(spec.shape, shapes.get(spec.name, ()), strict=False):
            if isinstance(size, str):
                largest[size] = max(bound, largest.get(size, 0))
    total = 0
    for spec in (*inputs, *outputs):
        sizes = [size if isinstance(size, int) else largest.get(size) for size in spec.shape]
        try:
            item = 2 if spec.dtype == "bfloat16" else np.dtype(spec.dtype).itemsize
        except TypeError:
            return None
        if None in sizes:
            return None
        total += item * math.prod(size for size in sizes if size is not None)
    return total


@dataclass(frozen=True)
class _Order:
    """A request that was found sound. ``host``: what the engine is for."""

    model: Path
    sha256: str
    facts: ModelFacts
    build: BuildConfig
    config: RuntimeConfig
    host: HostTuple
    dataset: CalibrationDataset | None

    @property
    def asked(self) -> dict[str, str]:
        """What else the engine follows from, as it stands in the manifest."""
        return {
            "recipe": _RECIPE,
            "tool": self.build.route,
            "workspace_mb": str(self.build.workspace_mb),
            "calibration_dataset_sha256": self.dataset.sha256 if self.dataset is not None else "none",
            **({"typing": self.build.typing} if self.build.typing else {}),
        }

    def name(self, trt: str) -> EngineName:
        stem = re.sub(r"[^A-Za-z0-9._-]", "-", self.model.stem).lstrip("._-") or "model"
        try:
            return EngineName(stem, self.host.sm, self.host.jetpack, ".".join(trt.split(".")[:2]), self.build.precision)
        except EngineSchemaMismatchError as error:
            raise EngineBuildError(f"an engine of {self.model.name} cannot be named: {error.message}") from error

    def path(self, trt: str) -> Path:
        return self.config.engine_cache_dir / self.name(trt).format()


@dataclass(frozen=True)
class _How:
    """By which means an order is carried out, and who is told."""

    trtexec: Path | None
    launch: Launch
    log: EventLog | None
    fs: FileSystem
    on_progress: OnProgress
    is_cancelled: IsCancelled


def _take_order(
    model_path: Path,
    build_config: BuildConfig,
    config: RuntimeConfig,
    host: HostTuple,
    sm: str | None,
    *,
    fs: FileSystem,
) -> _Order:
    model = Path(os.path.abspath(model_path))  # noqa: PTH100  # resolve() would follow a link away from the external data
    check_external_data(model, fs=fs)
    facts = read_model_facts(model, fs=fs)
    check_profiles(facts.inputs, build_config.optimization_profiles)
    target = replace(host, sm=sm or host.sm)
    if target.sm == "none":
        raise EngineBuildError(
            "there is no GPU here, and none was named to build for.",
            remedy="Name its compute capability, as in --sm 89 (TensorRT-RTX builds without it), or build on the board.",
        )
    dataset = None
    if build_config.calibration_dataset is not None and build_config.precision in ("int8", "mixed"):
        dataset = open_dataset(build_config.calibration_dataset, facts.inputs)
        _check_dataset(dataset, build_config.optimization_profiles)
    order = _Order(model, model_sha256(model, fs=fs), facts, build_config, config, target, dataset)
    order.name(host.trt if host.trt != "none" else "0.0")
    return order


def _check_dataset(dataset: CalibrationDataset, profiles: Sequence[Profile]) -> None:
    for profile in profiles:
        shape = dataset.shapes.get(profile.input, profile.opt)
        if not all(low <= size <= high for low, size, high in zip(profile.min, shape, profile.max, strict=True)):
            raise EngineBuildError(
                f"the calibration inputs have {profile.input!r} {describe_shape(shape)}; its profile allows "
                f"{describe_shape(profile.min)} to {describe_shape(profile.max)}."
            )


def _existing(order: _Order, fs: FileSystem) -> EngineCacheEntry | None:
    """The entry of an engine that is there, was made as it would be made now, and passes the gate."""
    if order.host.trt == "none":
        return None
    path = order.path(order.host.trt)
    try:
        manifest = read_manifest(path, fs=fs)
        is_same = (
            manifest.model_sha256 == order.sha256
            and manifest.profiles == order.build.optimization_profiles
            and order.asked.items() <= manifest.builder_options.items()
            and manifest.builder_options.get("typing", "") == order.build.typing
        )
        if not is_same:
            return None
        entry = _entry(path, order, manifest)
        EngineGate(order.host, fs=fs).validate(entry)
    except EngineDeserializeError:
        return None
    return entry


def _build(order: _Order, how: _How) -> EngineCacheEntry:
    started_ns = time.monotonic_ns()
    log = how.log
    cache = _Caches(order, log, how.fs)
    trusted = cache.read_calibration()
    program = find_trtexec(how.trtexec) if order.build.route == "trtexec" else None
    folder = order.config.engine_cache_dir
    with ExitStack() as undo:
        try:
            undo.enter_context(folder_made(folder, fs=how.fs))
            name = undo.enter_context(
                tempfile.TemporaryDirectory(prefix=".build-", dir=folder, ignore_cleanup_errors=True)
            )
            job = _job(order, Path(name).absolute(), program, trusted)
        except OSError as error:
            raise EngineBuildError(
                f"{folder} cannot be written: {error.strerror or error}.", remedy="Name another engine_cache_dir."
            ) from error
        result = how.launch(
            job, timeout_s=order.config.trtexec_timeout_s, on_progress=how.on_progress, is_cancelled=how.is_cancelled
        )
        if model_sha256(order.model, fs=how.fs) != order.sha256:
            raise EngineBuildError(
                f"{order.model.name} changed while its engine was built.",
                remedy="Build again when nothing writes to it.",
            )
        made = _read_made(order, result, how.fs)
        manifest, remarks = _manifest(order, result, made, trusted)
        path = order.path(manifest.trt)
        beside = [] if made.layers is None else [(layers_path(path), made.layers)]
        publish_engine(path, made.plan, manifest, beside=beside, fs=how.fs)
        remarks += cache.write(made)
    entry = _entry(path, order, manifest)
    if log is not None:
        for remark in remarks:
            log.warn(Kind.BUILD_REMARK, engine=path.name, remark=remark)
        if differs := judge(order.build.precision, result.precisions, has_ranges=order.dataset is not None)[1]:
            log.warn(Kind.PRECISION_DIFFERS, engine=path.name, reason=differs)
        log.info(
            Kind.ENGINE_BUILT,
            engine=path.name,
            route=manifest.route,
            precisions=dict(result.precisions),
            size_bytes=len(made.plan),
            peak_bytes=result.peak_bytes,
            took_ms=(time.monotonic_ns() - started_ns) / 1e6,
        )
    return entry


def _job(order: _Order, folder: Path, program: Path | None, trusted: bytes | None) -> BuildJob:
    given = None
    if trusted is not None:
        given = folder / "trusted.cache"  # these very bytes were checked; the file that they came from may change
        given.write_bytes(trusted)
    dataset = order.dataset
    return BuildJob(
        model=order.model,
        folder=folder,
        precision=order.build.precision,
        workspace_mb=order.build.workspace_mb,
        route=order.build.route,
        sm=order.host.sm,
        module=order.host.module,
        profiles=order.build.optimization_profiles,
        calibration_dataset=None if dataset is None else dataset.path.absolute(),
        dataset_sha256="" if dataset is None else dataset.sha256,
        calibration_cache=given,
        timing_folder=order.config.engine_cache_dir.absolute(),
        trtexec=program,
        typing=order.build.typing,
    )


@dataclass(frozen=True)
class _Made:
    """What a build left in its folder, read once. ``calibration``: a new cache; ``timing``: its name, and the cache.
    ``remarks``: what the operator should see.
    """

    plan: bytes
    layers: bytes | None
    calibration: bytes | None
    timing: tuple[str, bytes] | None
    remarks: tuple[str, ...]


def _read_made(order: _Order, result: BuildResult, fs: FileSystem) -> _Made:
    def read(path: Path) -> bytes:
        with open_regular(path, fs=fs) as file:
            return bytes(read_hashed(file, fs=fs)[0])

    timing, remarks = None, result.remarks
    if result.timing_cache is not None:
        try:
            timing = (result.timing_cache.name, read(result.timing_cache))
        except OSError as error:
            remarks += (f"the new timing cache cannot be read: {error.strerror or error}",)
    try:
        return _Made(
            plan=read(result.plan),
            layers=None if result.layers is None else read(result.layers),
            calibration=None if result.calibration_cache is None else read(result.calibration_cache),
            timing=timing,
            remarks=remarks,
        )
    except OSError as error:
        raise EngineBuildError(
            f"what was built of {order.model.name} cannot be read: {error.strerror or error}."
        ) from error


def _manifest(order: _Order, result: BuildResult, made: _Made, trusted: bytes | None) -> tuple[Manifest, list[str]]:
    """The manifest, and what the operator should see. Raises ``EngineBuildError`` for an engine that is not the asked one."""
    precision = order.build.precision
    refusal, _ = judge(precision, result.precisions, has_ranges=order.dataset is not None)
    if refusal:
        _refuse(order, refusal)
    library = f"rtx{result.version}" if result.library == "tensorrt_rtx" else result.version
    if order.host.trt != "none" and not same_version(library, order.host.trt):
        _refuse(order, f"it was built by trt {library}, and this host says that it has trt {order.host.trt}")
    remarks = list(made.remarks)
    trt, header = library, "used"
    try:
        told = read_plan_header(made.plan).trt
        if same_version(told, library):
            trt = told
        else:
            header = "not used"
            remarks.append(f"the plan's header says trt {told}, the library {library}; the header is not used")
    except EngineSchemaMismatchError as error:
        header = "not used"
        remarks.append(f"the plan's header is not used: to us it is {error.message.rstrip('.')}")
    buffers = io_bytes(result.inputs, result.outputs, order.build.optimization_profiles)
    options = {**result.options, **order.asked}
    options["precision_got"] = ", ".join(f"{kind} {count}" for kind, count in result.precisions.items()) or "unknown"
    cache = trusted if made.calibration is None else made.calibration
    if order.dataset is not None and cache is not None:
        options["calibration_cache_sha256"] = sha256_hex(cache)
    for name, data in (("timing_cache_sha256", made.timing and made.timing[1]), ("layers_sha256", made.layers)):
        if data is not None:
            options[name] = sha256_hex(data)
    manifest = Manifest(
        sha256=sha256_hex(made.plan),
        model_sha256=order.sha256,
        sm=order.host.sm,
        jetpack=order.host.jetpack,
        trt=trt,
        precision=precision,
        route=result.expression,
        builder=f"{result.library} {result.version}",
        module=order.host.module,
        l4t=order.host.l4t,
        profiles=order.build.optimization_profiles,
        inputs=result.inputs,
        outputs=result.outputs,
        opt_buffer_bytes=buffers,
        device_memory_bytes=result.device_memory_bytes,
        weights_bytes=result.weights_bytes,
        builder_options=options,
        header=header,
    )
    return manifest, remarks


def _refuse(order: _Order, reason: str) -> NoReturn:
    raise EngineBuildError(f"the engine of {order.model.name} is not kept: {reason}.")


def _entry(path: Path, order: _Order, manifest: Manifest) -> EngineCacheEntry:
    extras = {
        "model_name": order.model.stem,
        "inputs": specs_to_json(manifest.inputs),
        "outputs": specs_to_json(manifest.outputs),
        "route": manifest.route,
        "tool": order.build.route,
        "precision_got": manifest.builder_options.get("precision_got", "unknown"),
    }
    trt = order.name(manifest.trt).trt
    return EngineCacheEntry(path, manifest.sha256, manifest.sm, manifest.jetpack, trt, manifest.precision, extras)


@dataclass(frozen=True)
class _Caches:
    """The caches that are kept beside the engines: of calibration, which must be trusted, and of timing."""

    order: _Order
    log: EventLog | None
    fs: FileSystem

    @property
    def _calibration(self) -> Path:
        order = self.order
        return order.config.engine_cache_dir / f"{order.name('0.0').model}__{order.sha256[:12]}_int8.cache"

    def read_calibration(self) -> bytes | None:
        if self.order.dataset is None:
            return None
        return read_cache(self._calibration, self.order.dataset.sha256, log=self.log, fs=self.fs)

    def write(self, made: _Made) -> list[str]:
        """Keep what was measured; what cannot be kept costs time in the next build, and is said."""
        writes: dict[str, Callable[[], None]] = {}
        if made.timing is not None:
            path = self.order.config.engine_cache_dir / made.timing[0]
            writes["timing"] = partial(write_timing_cache, path, made.timing[1], fs=self.fs)
        if made.calibration is not None and self.order.dataset is not None:
            dataset = self.order.dataset.sha256
            writes["calibration"] = partial(write_cache, self._calibration, made.calibration, dataset, fs=self.fs)
        remarks = []
        for kind, write in writes.items():
            try:
                write()
            except OSError as error:
                remarks.append(f"the {kind} cache cannot be kept: {error.strerror or error}")
        return remarks
