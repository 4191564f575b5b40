"""ONNX Runtime headed by its TensorRT provider (label ``onnx_trt_ep``).

The door of onnxruntime: it is imported when a runtime is made, and nowhere else in the core.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from runtime.config import RuntimeConfig
from runtime.data import (
    BuildConfig,
    EngineCacheEntry,
    EngineDescription,
    EngineHandle,
    EngineLayer,
    TensorSpec,
    ThermalState,
    describe_shape,
)
from runtime.errors import (
    EngineBuildError,
    EngineDeserializeError,
    EngineHashMismatchError,
    EngineSchemaMismatchError,
    InferenceError,
    OutOfMemoryError,
    RuntimeCoreError,
)
from runtime.files import DISK, FileSystem
from runtime.gate import EngineGate
from runtime.libraries import unavailable
from runtime.logs import EventLog, Kind, Level
from runtime.model_file import ModelFacts, check_external_data, model_sha256, read_model_facts
from runtime.names import SUFFIX
from runtime.platform import HostTuple, detect_host
from runtime.protocol import Array
from runtime.strategies.common import (
    InputChecker,
    ResidentHandles,
    check_out,
    declared_profiles,
    declared_specs,
    fill,
    let_go,
    model_name,
    owned,
    reported,
    specs_to_json,
)
from runtime.strategies.ep_context import ep_context_model
from runtime.strategies.ort_chain import CPU, TENSORRT, Opened, ProviderChain, Source
from runtime.strategies.ort_options import cache_folder, ignored_environment
from runtime.strategies.ort_profile import PROVIDER_NAMES, Placement, read_placement

if TYPE_CHECKING:
    from runtime.thermal import ThermalStatePublisher

__all__ = ["OnnxTrtEpRuntime"]

_LABEL = "onnx_trt_ep"
_BIND_FROM_BYTES = 1 << 16
"""Outputs of this size and more are written straight into ``out=``; below it, binding costs more than the copy."""

# fmt: off
_NUMERIC = (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
)
# fmt: on


@dataclass
class _Engine:
    """What a handle holds. ``stamp`` is of the cache folder after the last call, where a rebuild would show."""

    name: str
    source: Source
    head: str
    session: Any
    run: Callable[..., list[Array]] | None
    output_names: list[str]
    checker: InputChecker
    is_bound: bool
    stamp: frozenset[tuple[str, int]] | None
    calls: int = 0
    description: EngineDescription | None = field(default=None, repr=False)


def _load() -> ModuleType:
    """ONNX Runtime, told to keep its own lines off standard error: what it has to say comes as exceptions."""
    try:
        import onnxruntime
    except Exception as error:  # a broken installation raises more than ImportError
        raise unavailable(_LABEL, error) from error
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime  # type: ignore[no-any-return]  # the library is not typed


class OnnxTrtEpRuntime:
    """Runs ONNX models and TensorRT engines through ONNX Runtime (OR-01 to OR-09).

    ``device`` = ``cpu`` is no mode of its own: the chain is the same, the two GPU heads are passed over with that as
    the reason, and what comes of it is a CPU fallback with its warning and alert, or an error with
    ``ort_disallow_cpu_fallback``. A handle may be shared between threads.

    ``is_fallback``: the operator chose this runtime in place of TensorRT, which the first ``infer`` says once.
    ``environ``: where ``ORT_TENSORRT_*`` is looked for, to say that it is ignored. ``load``: gives the library. ``fs``:
    through which files are looked at and read; ONNX Runtime opens models by itself.
    Raises ``RuntimeNotAvailableError`` where ONNX Runtime cannot be imported.
    """

    def __init__(
        self,
        config: RuntimeConfig,
        *,
        thermal_publisher: ThermalStatePublisher | None = None,
        log: EventLog | None = None,
        is_fallback: bool = False,
        clock: Callable[[], int] | None = None,
        host: HostTuple | None = None,
        environ: Mapping[str, str] | None = None,
        load: Callable[[], ModuleType] = _load,
        fs: FileSystem = DISK,
    ) -> None:
        self._ort = load()
        self._chain = ProviderChain(self._ort, config, fs)
        self._fs = fs
        self._config = config
        self._thermal_publisher = thermal_publisher
        self._log = log if log is not None else EventLog()
        self._is_fallback_unsaid = is_fallback
        self._clock = clock if clock is not None else time.monotonic_ns
        self._host = host
        self._handles = ResidentHandles()
        self._lock = threading.Lock()
        ignored = ignored_environment(environ or ())
        if ignored:
            self._log.warn(
                Kind.PROVIDER_ACTIVE, runtime=_LABEL, ignored=list(ignored), reason="options are given explicitly"
            )

    @property
    def resident_bytes(self) -> int:
        """Bytes of the model or engine files of all live handles: the weights, without ONNX Runtime's arenas."""
        return self._handles.resident_bytes

    def current_runtime_label(self) -> str:
        return _LABEL

    def thermal_state(self) -> ThermalState:
        if self._thermal_publisher is None:
            return ThermalState.unknown(self._clock())
        return self._thermal_publisher.read()

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        """Compile nothing: hold the file against ONNX Runtime, and point at it with its hash (OR-01)."""
        path = Path(model_path)
        with reported(self._log, Kind.BUILD_FAILED, backbone=path.stem):
            self._chain.refuse_if_lost()
            check_external_data(path, fs=self._fs)
            facts = read_model_facts(path, fs=self._fs)
            dataset = build_config.calibration_dataset
            if dataset is not None and not dataset.exists():
                raise EngineBuildError(
                    f"the calibration_dataset {dataset} does not exist.", remedy="Name a folder of calibration inputs."
                )
            self._validate(path, facts)
            sha256 = model_sha256(path, fs=self._fs)
            host = self._host_tuple()
            extras = {
                "model_name": path.stem,
                "inputs": specs_to_json(facts.inputs),
                "outputs": specs_to_json(facts.outputs),
            }
            if build_config.optimization_profiles:
                extras["profiles"] = json.dumps([vars(profile) for profile in build_config.optimization_profiles])
            trt = ".".join(host.trt.split(".")[:2])
            entry = EngineCacheEntry(path, sha256, host.sm, host.jetpack, trt, build_config.precision, extras)
            try:
                declared_profiles(entry, facts.inputs)
            except EngineDeserializeError as error:
                raise EngineBuildError(error.message) from error
            return entry

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        """Walk the chain, and warm up. An ``.engine`` passes the engine gate first."""
        started_ns = self._clock()
        name = model_name(entry)
        with reported(self._log, Kind.DESERIALIZE_FAILED, backbone=name):
            self._chain.refuse_if_lost()
            try:
                engine, refusals = self._load_engine(entry, name)
            except RuntimeCoreError as error:
                let_go(error)
                raise
        handle = EngineHandle(self, entry, engine)
        self._handles.add(handle, engine.source.size_bytes)
        self._announce(engine, refusals, took_ms=(self._clock() - started_ns) / 1e6)
        return handle

    def infer(
        self, handle: EngineHandle, inputs: Mapping[str, Array], *, out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """One call. What the library allocates for the outputs is the caller's; see the protocol for the rest."""
        if self._is_fallback_unsaid:
            self._say_fallback()
        engine: _Engine = owned(handle, self)
        engine.calls += 1
        if self._config.per_frame_debug_log:
            return self._timed(engine, inputs, out)
        return self._infer(engine, inputs, out)

    def release_engine(self, handle: EngineHandle) -> None:
        """Drop the session, which frees what it holds; where a call still runs in another thread, when that call ends."""
        if not isinstance(handle, EngineHandle) or handle.owner is not self:
            return
        with self._lock:
            engine, handle.resources = handle.resources, None
        if engine is not None:
            self._handles.remove(handle)
            engine.session = engine.run = None  # who keeps an error of this engine keeps no session
            self._log.info(Kind.ENGINE_RELEASED, backbone=engine.name, resident_bytes=self.resident_bytes)

    def describe(self, handle: EngineHandle) -> EngineDescription:
        """Placement and precision of every node, from one profiled run of zeros in a session of its own; cached.

        The second session needs the memory of the first one again while this runs.
        """
        self._chain.refuse_if_lost()
        engine: _Engine = owned(handle, self)
        if engine.description is None:
            try:
                engine.description = self._describe(engine)
            except RuntimeCoreError as error:
                let_go(error)
                raise
        return engine.description

    def _validate(self, path: Path, facts: ModelFacts) -> None:
        strange = [spec for spec in (*facts.inputs, *facts.outputs) if spec.dtype not in _NUMERIC]
        if strange:
            raise EngineBuildError(
                f"{path.name}: tensor {strange[0].name!r} is {strange[0].dtype}; expected one of {', '.join(_NUMERIC)}."
            )
        opset = ", ".join(f"opset {version} of {domain or 'ai.onnx'}" for domain, version in facts.opsets.items())
        doing = f"{path.name} ({opset}, IR {facts.ir_version}) is refused by ONNX Runtime {self._ort.__version__}"
        levels = self._ort.GraphOptimizationLevel
        with self._chain.translated(doing, EngineBuildError):
            try:
                self._open_bare(path, levels.ORT_DISABLE_ALL)  # the fastest
            except Exception as error:
                if type(self._chain.error(doing, error, EngineBuildError)) is not EngineBuildError:
                    raise  # for want of memory, or a device
                # ONNX Runtime 1.23 refuses some half-precision models so, which it runs optimised
                self._open_bare(path, levels.ORT_ENABLE_ALL)

    def _open_bare(self, path: Path, level: Any) -> None:
        options = self._ort.SessionOptions()
        options.graph_optimization_level = level
        options.intra_op_num_threads = 1
        self._ort.InferenceSession(str(path), options, providers=[CPU], enable_fallback=0)

    def _host_tuple(self) -> HostTuple:
        if self._host is None:
            self._host = detect_host()
        return self._host

    def _load_engine(self, entry: EngineCacheEntry, name: str) -> tuple[_Engine, dict[str, str]]:
        source = self._engine_source(entry) if entry.engine_path.suffix == SUFFIX else self._model_source(entry)
        feed = source.warmup_feed()
        opened = self._chain.open(name, source)
        with self._chain.translated(f"{name}: the warm-up run with zeros failed", EngineDeserializeError):
            warm = opened.session.run(None, feed)
        outputs = tuple(map(_with_rank, source.outputs, warm))
        model = b"" if source.cache is None else source.model  # the plan's bytes are the session's now
        source = replace(source, outputs=outputs, model=model)
        engine = _resident(name, source, opened)
        if engine.head == TENSORRT and source.cache is not None:
            engine.stamp = self._stamp(engine)
        return engine, opened.refusals

    def _model_source(self, entry: EngineCacheEntry) -> Source:
        path, host = entry.engine_path, self._host_tuple()
        try:
            sha256, files = model_sha256(path, fs=self._fs), check_external_data(path, fs=self._fs)
            facts = read_model_facts(path, fs=self._fs)
            size_bytes = sum(self._fs.look(file.resolve()).st_size for file in (path, *files))
        except EngineBuildError as error:
            raise EngineDeserializeError(error.message, remedy=error.remedy) from error
        except OSError as error:
            raise EngineDeserializeError(f"{path.name} cannot be read: {error.strerror or error}.") from error
        if sha256 != entry.sha256:
            raise EngineHashMismatchError(
                f"{path.name} hashes to {sha256[:16]}…, and its entry says {entry.sha256[:16]}….",
                remedy="The model was changed: make its entry again with `trigate compile`.",
            )
        inputs = _narrowed(path, facts.inputs, declared_specs(entry, "inputs"))
        profiles = declared_profiles(entry, inputs)
        return Source(
            model=str(path.absolute()),
            precision=entry.precision,
            inputs=inputs,
            outputs=facts.outputs,
            profiles=profiles,
            size_bytes=size_bytes,
            sha256=sha256,
            cache=cache_folder(
                Path(self._config.ort_trt_cache_dir or ""),  # never None: the configuration fills it in
                model_sha256=sha256,
                ort_version=self._ort.__version__,
                trt=host.trt,
                sm=host.sm,
                precision=entry.precision,
                profiles=profiles,
            ),
        )

    def _engine_source(self, entry: EngineCacheEntry) -> Source:
        verified = EngineGate(self._host_tuple(), log=self._log, fs=self._fs).validate(entry)
        manifest, file_name = verified.manifest, entry.engine_path.name
        if verified.name.is_rtx:
            raise EngineSchemaMismatchError(
                f"{file_name} is an engine of TensorRT-RTX, and ONNX Runtime's TensorRT provider takes TensorRT's alone.",
                remedy="Build it with TensorRT, or load it with the runtime tensorrt.",
            )
        if not manifest.inputs or not manifest.outputs:
            raise EngineSchemaMismatchError(
                f"the manifest of {file_name} names no {'outputs' if manifest.inputs else 'inputs'}; an EP-context "
                "model needs both.",
                remedy="Build the engine here with `trigate compile`.",
            )
        return Source(
            model=ep_context_model(verified.data, manifest.inputs, manifest.outputs, sm=manifest.sm, trt=manifest.trt),
            precision=entry.precision,
            inputs=_narrowed(entry.engine_path, manifest.inputs, declared_specs(entry, "inputs")),
            outputs=manifest.outputs,
            profiles=manifest.profiles,
            size_bytes=len(verified.data),
            sha256=entry.sha256,
            cache=None,
        )

    def _announce(self, engine: _Engine, refusals: Mapping[str, str], *, took_ms: float) -> None:
        provider = PROVIDER_NAMES[engine.head]
        refused = {PROVIDER_NAMES[head]: reason for head, reason in refusals.items()}
        self._log.info(Kind.PROVIDER_ACTIVE, runtime=_LABEL, backbone=engine.name, provider=provider, refused=refused)
        if engine.head == CPU:
            self._log.alert(Level.WARN, Kind.CPU_FALLBACK, runtime=_LABEL, backbone=engine.name, refused=refused)
        self._log.info(
            Kind.ENGINE_LOADED,
            backbone=engine.name,
            precision=engine.source.precision,
            provider=provider,
            resident_bytes=self.resident_bytes,
            took_ms=took_ms,
        )

    def _infer(self, engine: _Engine, inputs: Mapping[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        try:
            self._chain.refuse_if_lost()
            engine.checker.check(inputs)
            if out:
                check_out(engine.source.outputs, out, inputs)
            try:
                results = _run(engine, inputs, out)
            except RuntimeCoreError:
                raise
            except Exception as error:
                failure = self._chain.error(f"{engine.name}: the run failed", error, InferenceError)
                let_go(error)  # who keeps the error keeps no session
                raise failure from error
            if engine.stamp is not None:
                self._refuse_rebuild(engine)
            return fill(out, results) if out else results
        except RuntimeCoreError as error:
            self._log_failure(engine, error)
            raise

    def _timed(self, engine: _Engine, inputs: Mapping[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        started_ns = self._clock()
        results = self._infer(engine, inputs, out)
        took_ms = (self._clock() - started_ns) / 1e6
        self._log.debug(Kind.FRAME, backbone=engine.name, frame=engine.calls, took_ms=took_ms)
        return results

    def _refuse_rebuild(self, engine: _Engine) -> None:
        """RT-12. A rebuild takes minutes on a board; its results are right, but the frame is lost anyway."""
        before, engine.stamp = engine.stamp, self._stamp(engine)
        if engine.stamp is not None and engine.stamp != before:
            raise InferenceError(
                f"{engine.name}: ONNX Runtime built an engine inside this call.",
                remedy="Give an optimization profile that covers the shapes of the flight when compiling.",
            )

    def _stamp(self, engine: _Engine) -> frozenset[tuple[str, int]] | None:
        """Which engines are in the cache, and when each was written; None, said once, where that cannot be seen."""
        folder = engine.source.cache
        assert folder is not None
        try:
            return frozenset((name, told.st_mtime_ns) for name, told in self._fs.entries(folder))
        except OSError as error:
            reason = f"the engine cache cannot be read, so a build inside a call goes unseen: {error.strerror or error}"
            self._log.warn(Kind.BUILD_REMARK, backbone=engine.name, remark=reason)
            return None

    def _say_fallback(self) -> None:
        with self._lock:
            unsaid, self._is_fallback_unsaid = self._is_fallback_unsaid, False
        if unsaid:
            reason = "the operator chose it in place of TensorRT"
            self._log.alert(Level.WARN, Kind.FALLBACK_TO_ONNX_TRT_EP, runtime=_LABEL, reason=reason)

    def _log_failure(self, engine: _Engine, error: RuntimeCoreError) -> None:
        kind = Kind.OUT_OF_MEMORY if isinstance(error, OutOfMemoryError) else Kind.INFERENCE_FAILED
        failure = type(error).__name__
        self._log.error(kind, backbone=engine.name, frame=engine.calls, error=failure, message=str(error))

    def _describe(self, engine: _Engine) -> EngineDescription:
        source = engine.source
        placement = self._placement(engine)
        provider = PROVIDER_NAMES[engine.head]
        if provider not in placement.by_provider and placement.by_provider:
            provider = max(placement.by_provider, key=lambda name: placement.by_provider[name])
        notes = ["bytes are those of the file; ONNX Runtime does not tell those of its arenas"]
        if "unknown" in placement.by_precision:
            notes.append("the types inside TensorRT's fused nodes are not visible through ONNX Runtime")
        if source.precision != placement.precision and placement.casts:
            notes.append(f"{placement.casts} casts ran: the provider computes in other types than the model's")
        on_cpu = provider == "cpu"
        return EngineDescription(
            inputs=source.inputs,
            outputs=source.outputs,
            provider=provider,
            nodes_by_provider=placement.by_provider,
            precision=placement.precision,
            nodes_by_precision=placement.by_precision,
            device_bytes=0 if on_cpu else source.size_bytes,
            host_bytes=source.size_bytes if on_cpu else None,
            notes=tuple(notes),
            layers=placement.layers,
            layers_source="profile",
            built=self._built(engine),
        )

    def _built(self, engine: _Engine) -> tuple[Path, ...]:
        """The engines in the model's own cache folder, which TensorRT's provider built or found there."""
        folder = engine.source.cache
        if engine.head != TENSORRT or folder is None:
            return ()
        try:
            names = sorted(name for name, _ in self._fs.entries(folder))
        except OSError as error:
            reason = f"the engine cache cannot be read, so its engines are not told: {error.strerror or error}"
            self._log.warn(Kind.BUILD_REMARK, backbone=engine.name, remark=reason)
            return ()
        return tuple(folder / name for name in names if name.endswith(SUFFIX))

    def _placement(self, engine: _Engine) -> Placement:
        if engine.source.cache is None:  # one EP-context node, which no other provider has
            only = EngineLayer("engine", "EPContext", "unknown", "tensorrt")
            return Placement({"tensorrt": 1}, {"unknown": 1}, 0, (only,))
        with (
            self._chain.translated(f"{engine.name} cannot be profiled", InferenceError),
            tempfile.TemporaryDirectory(prefix="trigate-profile-") as folder,
        ):
            try:
                session = self._chain.attempt(engine.head, engine.source, profile_prefix=f"{folder}/run")
            except EngineDeserializeError as error:
                raise InferenceError(
                    f"{engine.name} cannot be profiled: a second session was {error.message}"
                ) from error
            session.run(None, engine.source.warmup_feed())
            return read_placement(Path(session.end_profiling()).read_bytes())


def _resident(name: str, source: Source, opened: Opened) -> _Engine:
    return _Engine(
        name=name,
        source=source,
        head=opened.head,
        session=opened.session,
        run=opened.session.run,
        output_names=[spec.name for spec in source.outputs],
        checker=InputChecker(source.inputs, source.profiles),
        is_bound=source.static_output_bytes >= _BIND_FROM_BYTES,
        stamp=None,
    )


def _run(engine: _Engine, inputs: Mapping[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
    run, session, names = engine.run, engine.session, engine.output_names
    if run is None:
        raise InferenceError(f"{engine.name} was released while this call began.")
    feed = inputs if type(inputs) is dict else dict(inputs)
    if out and engine.is_bound and len(out) == len(names):
        return _run_into(engine, session, feed, out)
    return dict(zip(names, run(names, feed), strict=True))


def _run_into(engine: _Engine, session: Any, feed: dict[str, Array], out: Mapping[str, Array]) -> dict[str, Array]:
    """One run that writes into the caller's arrays, all of which are there, and were checked."""
    binding = session.io_binding()
    for name, array in feed.items():
        binding.bind_cpu_input(name, array)
    for name, array in out.items():
        binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    session.run_with_iobinding(binding)
    return {name: out[name] for name in engine.output_names}


def _with_rank(spec: TensorSpec, warm: Array) -> TensorSpec:
    """A model may leave the rank of an output open; the warm-up run shows it."""
    if spec.shape != ("...",):
        return spec
    return replace(spec, shape=tuple(f"{spec.name}_{axis}" for axis in range(warm.ndim)))


def _narrowed(
    path: Path, own: tuple[TensorSpec, ...], declared: tuple[TensorSpec, ...] | None
) -> tuple[TensorSpec, ...]:
    """The model's inputs with the entry's sizes, which must fit them. A rank that the model leaves open is ``...``."""
    given = {spec.name: spec for spec in declared or ()}
    merged = tuple(replace(spec, shape=given[spec.name].shape) if spec.name in given else spec for spec in own)
    for mine, theirs in zip(own, merged, strict=True):
        fits = mine.shape == ("...",) or (
            len(mine.shape) == len(theirs.shape)
            and all(isinstance(want, str) or want == got for want, got in zip(mine.shape, theirs.shape, strict=True))
        )
        if not fits or given.get(mine.name, mine).dtype != mine.dtype:
            raise EngineDeserializeError(
                f"extras['inputs'] says {mine.name!r} is {given[mine.name].dtype} {describe_shape(theirs.shape)}; "
                f"{path.name} has {mine.dtype} {describe_shape(mine.shape)}."
            )
    unknown = sorted(set(given) - {spec.name for spec in own})
    if unknown:
        raise EngineDeserializeError(
            f"extras['inputs'] names {unknown[0]!r}; {path.name} has {', '.join(spec.name for spec in own) or 'none'}."
        )
    return merged
