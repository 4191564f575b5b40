"""The lives of ``onnx_trt_ep`` on the simulated device: sessions are ONNX Runtime's own, and their GPU is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from harness.fakes.device import SimulatedDevice
from harness.fakes.faults import FaultPlan, is_sticky
from harness.fakes.files import FaultyFiles
from harness.fakes.ort import make_ort
from harness.faults.files import expect_of_files, file_errors, quiet_log, scratch_folder
from harness.faults.lives import ASYNCHRONOUS, OF_EARLIER_WORK, Bench, RuntimeWorld, Specimen
from harness.faults.matrix import Expected, Life, Pair
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

__all__ = ["ort_lives"]

_HOST = HostTuple("87", "6.2", "10.3.0", "36.4.3", "p3767-0000")
_STATES = (
    *("DeviceReset", "EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf"),
    *("ModelLoadCanceled", "ModelLoaded", "ModelRequiresCompilation", "NoModel", "NoSuchFile", "NotFound"),
    *("NotImplemented", "RuntimeException"),
)
"""Every exception of ONNX Runtime 1.31; earlier releases lack some. They have no common base."""
_BUILTIN = ("RuntimeError", "ValueError", "MemoryError")
_WORDS = {
    ("compile", "InferenceSession"): "is refused by ONNX Runtime",
    ("load", "InferenceSession"): "refused it",
    ("load", "run"): "the warm-up run",
    ("infer", "run"): "the run failed",
    ("describe", "InferenceSession"): "refused it",
    ("describe", "run"): "cannot be profiled",
    ("describe", "end_profiling"): "cannot be profiled",
}
"""What an error says of the call that failed, in this runtime's words for it."""
_FAILURES = {"compile": EngineBuildError, "load": EngineDeserializeError}


@contextmanager
def ort_lives(specimen: Specimen) -> Iterator[tuple[Life, ...]]:
    """Compile, which validates; load through the chain of providers, three infers, release; and with no CPU at its end."""
    with scratch_folder() as name:
        folder = Path(name)
        with _world(specimen, folder, None) as world:
            entry = world.runtime.compile_engine(specimen.model, specimen.build)
        alone = partial(_world, specimen, folder, entry, may_fall_back=False)
        yield (
            Life("onnx_trt_ep, build", partial(_world, specimen, folder, None), _errors, _expect),
            Life("onnx_trt_ep, flight", partial(_world, specimen, folder, entry), _errors, _expect),
            Life("onnx_trt_ep, flight without the CPU", alone, _errors, partial(_expect, may_fall_back=False)),
        )


@contextmanager
def _world(
    specimen: Specimen, folder: Path, entry: EngineCacheEntry | None, *, may_fall_back: bool = True
) -> Iterator[RuntimeWorld]:
    from runtime.strategies.ort import OnnxTrtEpRuntime

    plan = FaultPlan()
    device = SimulatedDevice(faults=plan)
    fs = FaultyFiles(partial(device.enter, needs_device=False))
    with scratch_folder() as cache:
        bench = Bench(lambda: device, plan, fs, Path(cache), [])
        runtime = OnnxTrtEpRuntime(
            RuntimeConfig(
                runtime="onnx_trt_ep",
                device="cuda:0",
                engine_cache_dir=folder,
                ort_trt_cache_dir=Path(cache) / "ort",
                ort_disallow_cpu_fallback=not may_fall_back,
                intra_op_threads=1,
            ),
            log=quiet_log(bench.logged),
            host=_HOST,
            load=make_ort(device),
            fs=fs,
        )
        world = RuntimeWorld(runtime, bench, specimen, entry)
        del runtime
        yield world


def _errors(api: str) -> Sequence[str]:
    if api.startswith("files."):
        return file_errors(api)
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    if api.endswith("end_profiling"):
        return ("Fail", "RuntimeError")
    documented = [name for name in _STATES if hasattr(state, name)]
    cuda = ASYNCHRONOUS if api.endswith(".run") else OF_EARLIER_WORK
    return (*documented, *_BUILTIN, "CUDA_ERROR_OUT_OF_MEMORY", *cuda)


def _expect(pair: Pair, *, may_fall_back: bool = True) -> Expected:
    api, step = pair.site.api, pair.site.phase
    if api == "files.entries":  # the call has succeeded; what cannot be seen is only whether it took too long
        return Expected(log=Kind.BUILD_REMARK, words=("the engine cache cannot be read",))
    is_refusal = api == "files.make_folder"
    if api.startswith("files.") and not is_refusal:
        return expect_of_files(pair)
    method = api.rpartition(".")[2]
    if is_sticky(pair.error) or pair.error == "DeviceReset":
        return Expected(DeviceLostError, (_WORDS[step, method],), is_lost=True)
    if pair.error in ("MemoryError", "CUDA_ERROR_OUT_OF_MEMORY"):
        return Expected(OutOfMemoryError, (_WORDS[step, method],))
    if step == "compile" and not pair.forever:
        return Expected()  # it is tried again, optimised, as some releases need it
    if step == "load" and (is_refusal or method == "InferenceSession"):
        if may_fall_back and (is_refusal or not pair.forever):
            return Expected(log=Kind.CPU_FALLBACK, words=("tensorrt",), differs=("describe",))
        return Expected(EngineDeserializeError, ("refused it",))
    words = "cannot be profiled" if step == "describe" else _WORDS[step, method]
    return Expected(_FAILURES.get(step, InferenceError), (words,))
