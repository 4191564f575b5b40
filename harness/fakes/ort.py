"""The real ONNX Runtime, whose sessions compute on the CPU and claim the provider that the script names (T0-02).

Calls are written down by the device, and planned faults called, as ``onnxruntime.InferenceSession``,
``onnxruntime.InferenceSession.run``, ``...run_with_iobinding`` and ``...end_profiling``. An error is the name of an exception
of ONNX Runtime (``EPFail``, ``RuntimeException``) or of Python (``MemoryError``), or a ``CUresult``, which comes as ONNX Runtime
tells it.
"""

from __future__ import annotations

import builtins
import json
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.fakes.device import SimulatedDevice
from harness.fakes.tensorrt_library import cuda_words

__all__ = ["make_ort"]

_CPU, _CUDA, _TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_CHAIN = (_TENSORRT, _CUDA, _CPU)
_NO_LIBRARIES = (
    "Please install TensorRT libraries as mentioned in the GPU requirements page, make sure they're in the PATH or "
    "LD_LIBRARY_PATH, and that your GPU is supported."
)


def make_ort(
    device: SimulatedDevice, active: str = _TENSORRT, *, available: Sequence[str] = _CHAIN
) -> Callable[[], ModuleType]:
    """What ``OnnxTrtEpRuntime(load=...)`` takes: it gives a module with all that the installed library has.

    ``active``: the one provider of a GPU that loads; the CPU's name for none. A session that asks for another GPU
    provider first is answered as the real library answers where its libraries are missing: TensorRT's with an exception
    (``enable_fallback=0``), CUDA's by silently running on the CPU. ``available``: what the build is said to have.
    """

    def load() -> ModuleType:
        import onnxruntime

        library = ModuleType("onnxruntime", make_ort.__doc__)
        vars(library).update(vars(onnxruntime))
        vars(library).update(
            InferenceSession=_session_class(onnxruntime, device, active),
            get_available_providers=lambda: list(available),
        )
        return library

    return load


def _session_class(onnxruntime: Any, device: SimulatedDevice, active: str) -> type[Any]:
    class InferenceSession(onnxruntime.InferenceSession):  # type: ignore[misc]  # the library is not typed
        def __init__(self, path_or_bytes: Any, sess_options: Any = None, providers: Any = None, **kwargs: Any) -> None:
            asked = [entry if isinstance(entry, str) else entry[0] for entry in providers or [_CPU]]
            _enter(onnxruntime, device, "onnxruntime.InferenceSession")
            if asked[0] == _TENSORRT != active:
                raise RuntimeError(_NO_LIBRARIES)
            self._claimed = asked if asked[0] in (active, _CPU) else [_CPU]
            plain = onnxruntime.SessionOptions()
            plain.log_severity_level = 4
            plain.intra_op_num_threads = 1
            if sess_options is not None:
                plain.enable_profiling = sess_options.enable_profiling
                plain.profile_file_prefix = sess_options.profile_file_prefix
            source = _without_context(onnxruntime, device, path_or_bytes) if asked[0] == _TENSORRT else path_or_bytes
            super().__init__(source, plain, providers=[_CPU], enable_fallback=0, **_without_fallback(kwargs))
            if self._claimed[0] != _CPU:  # what it would hold on the GPU, for as long as it lives
                weakref.finalize(self, device.free, device.allocate(1, label="a session")).atexit = False

        def get_providers(self) -> list[str]:
            return list(self._claimed)

        def run(self, output_names: Any, input_feed: Any, run_options: Any = None) -> Any:
            _enter(onnxruntime, device, "onnxruntime.InferenceSession.run")
            return super().run(output_names, input_feed, run_options)

        def run_with_iobinding(self, iobinding: Any, run_options: Any = None) -> None:
            _enter(onnxruntime, device, "onnxruntime.InferenceSession.run_with_iobinding")
            super().run_with_iobinding(iobinding, run_options)

        def end_profiling(self) -> str:
            _enter(onnxruntime, device, "onnxruntime.InferenceSession.end_profiling")
            path = Path(super().end_profiling())
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(json.dumps(_CPU), json.dumps(self._claimed[0])), encoding="utf-8")
            return str(path)

    return InferenceSession


def _without_fallback(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if key not in ("enable_fallback", "provider_options")}


def _enter(onnxruntime: Any, device: SimulatedDevice, api: str) -> None:
    name = device.enter(api)
    if name is None:
        return
    state = onnxruntime.capi.onnxruntime_pybind11_state
    kind = getattr(state, name, None) or getattr(builtins, name, None)
    if kind is not None:
        raise kind(f"[ONNXRuntimeError] : injected {name}")
    number, words = cuda_words(name)
    raise state.RuntimeException(
        f"[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : CUDA failure {number}: {words} ; GPU=0 ; expr=injected"
    )


def _without_context(onnxruntime: Any, device: SimulatedDevice, source: Any) -> Any:
    """The model to compute: for an EP-context model, the one in the fake plan that it carries."""
    import onnx

    if not isinstance(source, bytes):
        return source
    nodes = onnx.load_from_string(source).graph.node
    if not nodes or nodes[0].op_type != "EPContext":
        return source
    from harness.fakes.tensorrt_plan import PlanRefusedError, read_any_plan

    payload = next(attribute.s for attribute in nodes[0].attribute if attribute.name == "ep_cache_context")
    try:
        return read_any_plan(memoryview(payload), device.sm).model
    except PlanRefusedError as refusal:
        raise onnxruntime.capi.onnxruntime_pybind11_state.EPFail(
            "[ONNXRuntimeError] : 11 : EP_FAIL : TensorRT EP could not deserialize engine from binary data"
        ) from refusal
