"""One engine is built: the door of Polygraphy, and the program that runs it apart from the runtime (TT-01).

``python -m runtime.strategies.trt_child`` reads a ``BuildJob`` as one line of JSON on standard input, writes progress as
JSON lines to standard output and what it made into the job's folder. It is a process of its own because a builder takes
gigabytes, may crash, and cannot be stopped from inside.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from glob import escape
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from runtime.calibration import CalibrationDataset, open_dataset
from runtime.cuda import Cuda, CudaDriver, CudaError
from runtime.data import TensorSpec
from runtime.errors import CalibrationCacheError, EngineBuildError, RuntimeCoreError, RuntimeNotAvailableError
from runtime.model_file import read_model_facts
from runtime.strategies.common import let_go
from runtime.strategies.trt_calibrator import make_calibrator
from runtime.strategies.trt_job import BuildJob, BuildResult, IsCancelled, OnProgress, Progress, never
from runtime.strategies.trt_layers import (
    INSPECTOR,
    LOG,
    NETWORK,
    Layer,
    counted,
    layers_from_inspector,
    layers_from_log,
    layers_to_json,
    typed,
)
from runtime.strategies.trt_library import Library, Witness, explain, load_library
from runtime.strategies.trt_options import read_back
from runtime.strategies.trt_precision import Expression, choose, prepare
from runtime.strategies.trt_timing import read_timing_cache, timing_cache_name
from runtime.strategies.trt_trtexec import compose, run_trtexec

__all__ = ["FAILURE", "RESULT", "build", "main"]

RESULT, FAILURE = "result.json", "failure.json"
"""What the child leaves in the job's folder: one of the two."""

_MIB = 1 << 20
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "FP8": "float8_e4m3fn",
}
_MEMORY_LINE = re.compile(r"Total (Activation|Weights) Memory: (\d+) bytes")


def build(
    job: BuildJob,
    on_progress: OnProgress,
    is_cancelled: IsCancelled = never,
    *,
    on_line: Callable[[str, str], None] | None = None,
    load: Callable[[], Library] = load_library,
    open_cuda: Callable[[], Cuda] = CudaDriver,
) -> BuildResult:
    """Build the job's engine and say what it is. ``on_line`` gets every line of TensorRT (severity, text).

    Raises ``EngineBuildError`` in TensorRT's own words, ``CalibrationCacheError`` and ``RuntimeNotAvailableError``.
    """
    library = load()
    with ExitStack() as undo:
        try:
            cuda = _open_device(job, library, open_cuda)
            if cuda is not None:
                undo.callback(_close, cuda)
            return _Build(job, library, cuda, on_progress, is_cancelled, on_line, undo).run()
        except RuntimeCoreError as error:
            let_go(error)
            raise
        except CudaError as error:
            let_go(error)
            raise EngineBuildError(f"building {job.model.name} failed on the device: {error}.") from error
        except Exception as error:
            let_go(error)
            raise EngineBuildError(f"building {job.model.name} failed: {type(error).__name__}: {error}.") from error


def _close(cuda: Cuda) -> None:
    """The engine is made, or its failure known: a context that cannot be let go changes neither."""
    with suppress(CudaError):
        cuda.close()


def _open_device(job: BuildJob, library: Library, open_cuda: Callable[[], Cuda]) -> Cuda | None:
    """The GPU that the engine is for, or ``None`` where this library builds for one that is not here."""
    told = library.capabilities
    if job.route == "trtexec" and told.product == "tensorrt_rtx":
        raise EngineBuildError(
            "TensorRT-RTX has no trtexec that builds what its runtime loads.", remedy="Ask for route polygraphy."
        )
    if told.can_build_for_named_gpu:
        known = library.module.ComputeCapability.__members__
        if f"SM{job.sm}" not in known:
            others = ", ".join(name.removeprefix("SM") for name in known if name.startswith("SM"))
            raise EngineBuildError(
                f"TensorRT-RTX {told.version} builds for no GPU of SM {job.sm}; expected one of {others}.",
                remedy="A Jetson's engines are built on the Jetson, by its own TensorRT.",
            )
    try:
        cuda = open_cuda()
    except RuntimeNotAvailableError:
        if told.can_build_for_named_gpu:
            return None
        raise
    facts = cuda.facts()
    if facts.sm == job.sm:
        return cuda
    _close(cuda)
    if told.can_build_for_named_gpu:
        return None
    raise EngineBuildError(
        f"TensorRT {told.version} builds for the GPU of this machine ({facts.name}, SM {facts.sm}), not for SM {job.sm}.",
        remedy="Build on the board itself; only TensorRT-RTX builds for a GPU that is named.",
    )


@dataclass
class _Build:
    """One build, step by step. ``cuda`` is ``None`` where the engine is for a GPU elsewhere."""

    job: BuildJob
    library: Library
    cuda: Cuda | None
    on_progress: OnProgress
    is_cancelled: IsCancelled
    on_line: Callable[[str, str], None] | None
    undo: ExitStack
    remarks: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @property
    def trt(self) -> ModuleType:
        return self.library.module

    def run(self) -> BuildResult:
        job, told = self.job, self.library.capabilities
        dataset = self._dataset()
        cache = job.calibration_cache.read_bytes() if job.calibration_cache is not None else b""
        expression = choose(
            job.precision,
            strong_typing=told.has_strong_typing,
            precision_flags=told.has_precision_flags,
            # trtexec reads a calibrator's cache, and makes inputs up where it has none
            calibrators=told.has_calibrators and (job.route == "polygraphy" or cache.startswith(b"TRT-")),
            has_ranges=dataset is not None,
            typing=job.typing,
        )
        if not cache.startswith(b"TRT-" if expression.calibrates else b"ORT-"):
            cache = b""  # of the other kind
        self.on_progress(Progress("preparing", 0, 1))
        prepared = prepare(
            job.model,
            expression,
            job.folder / "model.onnx",
            dataset=dataset,
            cache=cache or None,
            on_sample=self._calibrating(dataset),
        )
        self.on_progress(Progress("preparing", 1, 1))
        self.remarks += prepared.remarks
        self.options |= {
            "tool": job.route,
            "workspace_mb": str(job.workspace_mb),
            "builder_flags": ",".join(expression.flags) or "none",
            "tf32": "off",
        }
        result = self._through_trtexec if job.route == "trtexec" else self._through_polygraphy
        built = result(prepared.model, expression, dataset, cache or None)
        if prepared.cache is not None:
            built = replace(built, calibration_cache=self._write("calibration.cache", prepared.cache))
        return replace(built, options=self.options, remarks=tuple(self.remarks))

    def _dataset(self) -> CalibrationDataset | None:
        job = self.job
        if job.calibration_dataset is None or job.precision not in ("int8", "mixed"):
            return None
        dataset = open_dataset(job.calibration_dataset, read_model_facts(job.model).inputs)
        if job.dataset_sha256 and dataset.sha256 != job.dataset_sha256:
            raise CalibrationCacheError(
                f"the calibration inputs in {job.calibration_dataset} changed since they were checked.",
                remedy="Start again when nothing writes to that folder.",
            )
        return dataset

    def _calibrating(self, dataset: CalibrationDataset | None) -> Callable[[int], None]:
        of = dataset.count if dataset is not None else 0
        return lambda done: self.on_progress(Progress("calibrating", done, of))

    def _through_polygraphy(
        self, model: Path, expression: Expression, dataset: CalibrationDataset | None, cache: bytes | None
    ) -> BuildResult:
        witness = self._listen()
        builder, network = self._parse(model, expression, witness)
        calibrator = None
        if expression.calibrates:
            assert dataset is not None
            assert self.cuda is not None
            calibrator = make_calibrator(self.trt, dataset, cache, self.cuda, on_sample=self._calibrating(dataset))
            self.undo.callback(calibrator.close)
        timing = _Timing()

        def configure(builder: Any, network: Any) -> Any:
            nonlocal timing
            config = self._polygraphy_config(expression, calibrator)(builder, network)
            timing = self._configure(config)
            # refused, TensorRT would calibrate at another shape than that of the buffers it is handed
            if (
                calibrator is not None
                and self.job.profiles
                and not config.set_calibration_profile(self._calibration_profile(builder, dataset))
            ):
                raise EngineBuildError(
                    f"TensorRT takes no calibration profile of the shapes of {self.job.model.name}'s calibration inputs.",
                    remedy="Give calibration inputs of shapes that the profiles allow.",
                )
            self.options |= read_back(self.trt, config)
            return config

        with _polygraphy(self.library) as polygraphy:
            try:
                made = polygraphy.engine_bytes_from_network((builder, network), configure)
                plan = bytes(made)
            except (CudaError, RuntimeCoreError):
                raise
            except Exception as error:  # Polygraphy's own, and what comes of a None where it expects none
                raise self._failed(witness, calibrator, error) from error
        if calibrator is not None and calibrator.failure is not None:
            raise self._failed(witness, calibrator)  # TensorRT took it for the end of the inputs, and went on
        new_cache = calibrator.written if calibrator is not None else None
        result = self._examined(self._write("plan", plan), expression, network, witness)
        return replace(
            result,
            timing_cache=self._serialized(timing),
            calibration_cache=self._write("calibration.cache", new_cache) if new_cache and new_cache != cache else None,
        )

    def _listen(self) -> Witness:
        """From here on every line of TensorRT is seen: what the layers became is told in the builder's last ones."""
        witness = Witness(self.trt)
        previous = witness.logger.tap
        witness.logger.tap = self._hear
        self.undo.callback(setattr, witness.logger, "tap", previous)
        return witness

    def _hear(self, severity: str, text: str) -> None:
        if "LayerType: " in text or _MEMORY_LINE.search(text):
            self.lines.append(text)
        if self.on_line is not None:
            self.on_line(severity, text)

    def _parse(self, model: Path, expression: Expression, witness: Witness) -> tuple[Any, Any]:
        trt = self.trt
        trt.init_libnvinfer_plugins(witness.logger, "")
        try:
            builder = trt.Builder(witness.logger)
        except TypeError as error:  # what pybind11 makes of a null pointer
            raise self._failed(witness, error=error) from error
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if expression.is_strongly_typed else 0
        network = builder.create_network(flags)
        if network is None:
            raise self._failed(witness)
        parser = trt.OnnxParser(network, witness.logger)
        self.on_progress(Progress("parsing", 0, 1))
        if not parser.parse_from_file(str(model)):
            nodes = [_told(parser.get_error(at)) for at in range(parser.num_errors)]
            lines, codes = witness.take()
            what = "; ".join(nodes) or explain(lines, codes, doing="parsing")
            raise EngineBuildError(
                f"{self.job.model.name} is refused by the parser of {self._name}: {what}.",
                remedy="Export the model without that operator, or with another operator set.",
            )
        witness.take()
        self.on_progress(Progress("parsing", 1, 1))
        builder.error_recorder = witness.recorder
        return builder, network

    def _polygraphy_config(self, expression: Expression, calibrator: Any) -> Any:
        trt, job = self.trt, self.job
        with _polygraphy(self.library) as polygraphy:
            profile = polygraphy.Profile()
            for shapes in job.profiles:
                profile.add(escape(shapes.input), min=shapes.min, opt=shapes.opt, max=shapes.max)
            common = {
                "profiles": [profile],
                "memory_pool_limits": {trt.MemoryPoolType.WORKSPACE: job.workspace_mb * _MIB},
                "profiling_verbosity": trt.ProfilingVerbosity.DETAILED,
            }
            if self.library.capabilities.can_build_for_named_gpu:
                return polygraphy.CreateConfigRTX(compute_capabilities=[(int(job.sm[:-1]), int(job.sm[-1]))], **common)
            return polygraphy.CreateConfig(
                tf32=False,
                fp16="FP16" in expression.flags,
                int8="INT8" in expression.flags,
                calibrator=calibrator,
                **common,
            )

    def _configure(self, config: Any) -> _Timing:
        """What Polygraphy's configuration leaves out."""
        trt, told = self.trt, self.library.capabilities
        if hasattr(trt.BuilderFlag, "TF32"):
            config.clear_flag(trt.BuilderFlag.TF32)  # on unless it is cleared, and then fp32 has fp16's mantissa
        if told.has_progress:
            config.progress_monitor = _make_monitor(trt, self.on_progress, self.is_cancelled)
        if self.cuda is None:
            return _Timing()
        if self.cuda.facts().is_integrated:
            self.cuda.make_current()
            memory = self.cuda.memory_info()
            available = memory.free_bytes if memory.available_bytes is None else memory.available_bytes
            # TensorRT takes 75 % of all memory for trying kernels, which here is also everybody else's memory
            limit = max(min(available, memory.total_bytes) // 2, self.job.workspace_mb * _MIB)
            config.set_memory_pool_limit(trt.MemoryPoolType.TACTIC_DRAM, limit)
            self.options["tactic_dram_mb"] = str(limit // _MIB)
        return self._time_with(config)

    def _time_with(self, config: Any) -> _Timing:
        path = self._timing_path()
        if path is None:
            return _Timing()
        data, why_not = read_timing_cache(path)
        cache = config.create_timing_cache(data)
        is_set = cache is not None and config.set_timing_cache(cache, False)
        if data and not is_set:
            why_not = f"{path.name} is not of this device or this TensorRT"
            data, cache = b"", config.create_timing_cache(b"")
            is_set = cache is not None and config.set_timing_cache(cache, False)
        if not is_set:
            why_not = "TensorRT makes none"
        if why_not:
            self.remarks.append(f"the timing cache is not used: {why_not}")
        self.options["timing_cache"] = "reused" if data else "new" if is_set else "none"
        return _Timing(path.name, config, cache, data) if is_set else _Timing()

    def _timing_path(self) -> Path | None:
        if self.cuda is None or self.job.timing_folder is None or not self.library.capabilities.has_timing_cache:
            return None
        version, driver = self.library.capabilities.version, self.cuda.facts().driver_version
        name = timing_cache_name(trt=version, sm=self.job.sm, module=self.job.module, driver_version=driver)
        return self.job.timing_folder / name

    def _serialized(self, timing: _Timing) -> Path | None:
        if not timing.name:
            return None
        data = bytes(timing.config.get_timing_cache().serialize())
        return self._write(timing.name, data) if data != timing.before else None

    def _calibration_profile(self, builder: Any, dataset: CalibrationDataset | None) -> Any:
        assert dataset is not None
        profile = builder.create_optimization_profile()
        for shapes in self.job.profiles:
            shape = dataset.shapes[shapes.input]
            profile.set_shape(shapes.input, shape, shape, shape)
        return profile

    def _failed(self, witness: Witness, calibrator: Any = None, error: Exception | None = None) -> RuntimeCoreError:
        if calibrator is not None and calibrator.failure is not None:
            failure = calibrator.failure
            if isinstance(failure, RuntimeCoreError):
                return failure
            return EngineBuildError(f"calibrating {self.job.model.name} failed: {failure}.")
        if self.is_cancelled():
            return EngineBuildError(f"building {self.job.model.name} was cancelled.")
        lines, codes = witness.take()
        told = explain(lines, codes, doing=f"building {self.job.model.name} with {self._name}")
        if error is not None and not lines:
            told += f" Polygraphy says: {str(error).strip()}"
        return EngineBuildError(told)

    def _through_trtexec(
        self, model: Path, expression: Expression, dataset: CalibrationDataset | None, cache: bytes | None
    ) -> BuildResult:
        del dataset
        job, told = self.job, self.library.capabilities
        assert job.trtexec is not None
        timing_path, timing_copy = self._timing_path(), None
        if timing_path is not None:
            data, why_not = read_timing_cache(timing_path)
            timing_copy = self._write(timing_path.name, data) if data else job.folder / timing_path.name
            self.options["timing_cache"] = "reused" if data else "new"
            if why_not:
                self.remarks.append(f"the timing cache is not used: {why_not}")
        plan, layers = job.folder / "plan", job.folder / "trtexec.layers.json"
        command = compose(
            job.trtexec,
            job,
            model,
            expression,
            plan=plan,
            layers=layers,
            has_precision_flags=told.has_precision_flags,
            calibration_cache=self._write("given.cache", cache) if expression.calibrates and cache else None,
            timing_cache=timing_copy,
        )
        witness = self._listen()
        run_trtexec(command, on_line=self._hear, on_progress=self.on_progress, version=told.version)
        if not plan.is_file() or not plan.stat().st_size:
            raise EngineBuildError("trtexec ended well and wrote no engine.")
        result = self._examined(plan, expression, None, witness, layers)
        changed = timing_copy is not None and timing_copy.is_file()
        return replace(result, timing_cache=timing_copy if changed else None)

    def _examined(
        self, plan: Path, expression: Expression, network: Any, witness: Witness, told_layers: Path | None = None
    ) -> BuildResult:
        """What the engine is: from itself where it can be loaded here, else from what it was made of."""
        told = self.library.capabilities
        result = BuildResult(plan, told.product, told.version, expression.name, (), ())
        if self.cuda is not None:
            return self._of_engine(result, witness, told_layers)
        found = {match[1]: int(match[2]) for line in self.lines for match in _MEMORY_LINE.finditer(line)}
        source, layers = LOG, layers_from_log(self.lines)
        if not layers:
            source, layers = NETWORK, _layers_of_network(network)
        facts = read_model_facts(self.job.model)
        named = {spec.name: spec for spec in (*facts.inputs, *facts.outputs)}
        return replace(
            result,
            inputs=tuple(_spec(network.get_input(at), named) for at in range(network.num_inputs)),
            outputs=tuple(_spec(network.get_output(at), named) for at in range(network.num_outputs)),
            device_memory_bytes=found.get("Activation"),
            weights_bytes=found.get("Weights"),
            layers=self._write("layers.json", layers_to_json(source, layers).encode()),
            precisions=counted(layers),
        )

    def _of_engine(self, result: BuildResult, witness: Witness, told_layers: Path | None) -> BuildResult:
        trt, told = self.trt, self.library.capabilities
        self.on_progress(Progress("reading back", 0, 1))
        assert self.cuda is not None
        self.cuda.make_current()
        doing = f"loading the new engine of {self.job.model.name} again"
        try:
            runtime = trt.Runtime(witness.logger)
        except TypeError as error:  # what pybind11 makes of a null pointer
            raise EngineBuildError(explain(*witness.take(), doing=doing)) from error
        runtime.error_recorder = witness.recorder
        engine = runtime.deserialize_cuda_engine(result.plan.read_bytes())
        if engine is None:
            raise EngineBuildError(explain(*witness.take(), doing=doing))
        facts = read_model_facts(self.job.model)
        named = {spec.name: spec for spec in (*facts.inputs, *facts.outputs)}
        names = [engine.get_tensor_name(at) for at in range(engine.num_io_tensors)]
        is_input = {name: engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        specs = {name: _engine_spec(engine, name, named) for name in names}
        raw = self._inspected(engine)
        source, layers = INSPECTOR, layers_from_inspector(raw)
        if not layers and told_layers is not None and told_layers.is_file():
            raw = told_layers.read_text(encoding="utf-8", errors="replace")
            layers = layers_from_inspector(raw)
        if not counted(layers) and counted(logged := layers_from_log(self.lines)):
            source, layers = LOG, logged
        weights = None
        if told.has_engine_statistics:
            weights = int(engine.get_engine_stat(trt.EngineStat.TOTAL_WEIGHTS_SIZE))
        self.on_progress(Progress("reading back", 1, 1))
        return replace(
            result,
            inputs=tuple(specs[name] for name in names if is_input[name]),
            outputs=tuple(specs[name] for name in names if not is_input[name]),
            device_memory_bytes=int(engine.device_memory_size_v2),
            weights_bytes=weights,
            layers=self._write(
                "layers.json", layers_to_json(source, layers, raw if source == INSPECTOR and layers else "").encode()
            ),
            precisions=counted(layers),
        )

    def _inspected(self, engine: Any) -> str:
        """The engine inspector's JSON; with free sizes it tells types only of a context whose shapes are set."""
        trt = self.trt
        inspector = engine.create_engine_inspector()
        if inspector is None:
            return ""
        if self.job.profiles:
            context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
            if context is not None and all(context.set_input_shape(each.input, each.opt) for each in self.job.profiles):
                inspector.execution_context = context
        return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON) or "")

    @property
    def _name(self) -> str:
        told = self.library.capabilities
        return f"{'TensorRT-RTX' if told.product == 'tensorrt_rtx' else 'TensorRT'} {told.version}"

    def _write(self, name: str, data: bytes) -> Path:
        path = self.job.folder / name
        path.write_bytes(data)
        return path


@dataclass(frozen=True)
class _Timing:
    """A timing cache in use. The object is kept: TensorRT holds a pointer to it during the build."""

    name: str = ""
    config: Any = None
    cache: Any = None
    before: bytes = b""


def _make_monitor(trt: ModuleType, on_progress: OnProgress, is_cancelled: IsCancelled) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]  # the library is not typed
        """Called from threads of the builder; an exception must not reach it."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)  # pybind11 needs the base's own call
            self._phases: dict[str, tuple[str, int]] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases[phase_name] = (parent_phase or "", num_steps)
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return not is_cancelled()

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, self._phases.get(phase_name, ("", 0))[1])

        def _tell(self, phase: str, step: int) -> None:
            parent, of = self._phases.get(phase, ("", 0))
            on_progress(Progress(phase, step, of, parent))

    return Monitor()


@dataclass(frozen=True)
class _Polygraphy:
    """What is used of it."""

    CreateConfig: Any
    CreateConfigRTX: Any
    Profile: Any
    engine_bytes_from_network: Any
    PolygraphyException: type[Exception]


@contextmanager
def _polygraphy(library: Library) -> Iterator[_Polygraphy]:
    """Polygraphy bound to this very library, and quiet. Raises ``RuntimeNotAvailableError`` where it is missing."""
    try:
        loaded = _load_polygraphy(library)
        logger = import_module("polygraphy.logger").G_LOGGER
    except ImportError as error:
        raise RuntimeNotAvailableError(
            f"building through Polygraphy needs the library polygraphy, which cannot be imported: {error}.",
            remedy="Install it with: pip install polygraphy; or ask for route trtexec.",
        ) from error
    with logger.verbosity(logger.CRITICAL + 1), warnings.catch_warnings():
        # its own last words are those of its exception; and it touches TensorRT-RTX's timing cache, which is deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        yield loaded


def _load_polygraphy(library: Library) -> _Polygraphy:
    is_rtx = library.capabilities.product == "tensorrt_rtx"
    settings = sys.modules.get("polygraphy.config")
    bound = sys.modules.get("polygraphy.backend.trt.config")
    is_other = settings is not None and settings.USE_TENSORRT_RTX is not is_rtx
    if is_other or (bound is not None and bound.trt.module not in (None, library.module)):
        for name in [name for name in sys.modules if name.partition(".")[0] == "polygraphy"]:
            del sys.modules[name]  # it binds to one TensorRT when it is imported, and to this one only anew
    variable = "POLYGRAPHY_USE_TENSORRT_RTX"
    before = os.environ.get(variable)
    os.environ[variable] = "1" if is_rtx else "0"
    try:
        trt = import_module("polygraphy.backend.trt")
        rtx = import_module("polygraphy.backend.tensorrt_rtx").CreateConfigRTX if is_rtx else None
        failure = import_module("polygraphy.exception").PolygraphyException
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
    return _Polygraphy(trt.CreateConfig, rtx, trt.Profile, trt.engine_bytes_from_network, failure)


def _told(error: Any) -> str:
    """One error of the parser: where in the model, then its own words."""
    where = f"node {error.node_name()!r} ({error.node_operator()})" if error.node_operator() else "the model"
    return f"{where}: {error.desc()} [{error.code().name}, {error.func()} at {Path(error.file()).name}:{error.line()}]"


def _spec(tensor: Any, named: Mapping[str, TensorSpec]) -> TensorSpec:
    return _named_spec(tensor.name, tuple(tensor.shape), _dtype(tensor.dtype), named)


def _engine_spec(engine: Any, name: str, named: Mapping[str, TensorSpec]) -> TensorSpec:
    return _named_spec(name, tuple(engine.get_tensor_shape(name)), _dtype(engine.get_tensor_dtype(name)), named)


def _named_spec(name: str, shape: tuple[int, ...], dtype: str, named: Mapping[str, TensorSpec]) -> TensorSpec:
    """A free size, -1 to TensorRT, is called what the model calls it."""
    model = named[name].shape if name in named and len(named[name].shape) == len(shape) else ()
    free = [model[axis] if model else f"{name}_{axis}" for axis in range(len(shape))]
    sizes = tuple(int(size) if size >= 0 else str(free[axis]) for axis, size in enumerate(shape))
    return TensorSpec(name, sizes, dtype)


def _dtype(kind: Any) -> str:
    name = str(kind).rpartition(".")[2]
    return _DTYPES.get(name, name.lower())


def _layers_of_network(network: Any) -> tuple[Layer, ...]:
    """Of a strongly typed network, whose types the builder may not change."""
    layers = []
    for at in range(network.num_layers):
        layer = network.get_layer(at)
        inputs = [layer.get_input(index) for index in range(layer.num_inputs)]
        outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
        words = ([str(tensor.dtype) for tensor in tensors if tensor is not None] for tensors in (inputs, outputs))
        layers.append(Layer(layer.name, str(layer.type).rpartition(".")[2], *map(typed, words)))
    return tuple(layers)


def main(arguments: list[str]) -> int:
    """The child: 0 with ``result.json`` in the folder, 1 with ``failure.json`` for an error of the core."""
    faulthandler.enable()
    progress = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries write to standard output as they please
    job = BuildJob.from_json(sys.stdin.readline())
    if "--with-parent" in arguments:
        threading.Thread(target=_end_with_parent, args=(job.folder,), daemon=True).start()

    def tell(told: Progress) -> None:
        progress.write(json.dumps(vars(told)) + "\n")
        progress.flush()

    try:
        result = build(job, tell, on_line=_say)
    except RuntimeCoreError as error:
        failure = {"kind": type(error).__name__, "message": error.message, "remedy": error.remedy}
        (job.folder / FAILURE).write_text(json.dumps(failure), encoding="utf-8")
        return 1
    (job.folder / RESULT).write_text(result.to_json(), encoding="utf-8")
    return 0


def _say(severity: str, text: str) -> None:
    """What is worth reading after a crash."""
    if severity != "VERBOSE":
        sys.stderr.write(f"TensorRT {severity}: {text}\n")
        sys.stderr.flush()


def _end_with_parent(folder: Path) -> None:
    """The parent holds our standard input open; when it is gone, so is whoever would use what is built here."""
    while os.read(0, 1 << 10):  # not through sys.stdin, whose lock the interpreter wants when it ends
        pass
    shutil.rmtree(folder, ignore_errors=True)
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
