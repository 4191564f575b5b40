"""From a configuration to a runtime. What is configured is built or refused; nothing stands in for it (FA-05)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from runtime.architectures import ArchitectureRegistry
from runtime.config import BUILD_FLAGS, RuntimeConfig, is_built
from runtime.errors import RuntimeNotAvailableError
from runtime.libraries import LIBRARIES, unavailable
from runtime.logs import EventLog, Kind, Record
from runtime.protocol import InferenceRuntime
from runtime.thermal import ThermalStatePublisher

__all__ = ["STRATEGIES", "build_inference_runtime"]

STRATEGIES: Mapping[str, str] = {
    "tensorrt": "runtime.strategies.trt:TensorrtRuntime",
    "onnx_trt_ep": "runtime.strategies.ort:OnnxTrtEpRuntime",
    "pytorch_fp16": "runtime.strategies.torch_fp16:PytorchFp16Runtime",
}
"""Where each label's class is; imported when it is built."""


def build_inference_runtime(
    config: RuntimeConfig,
    *,
    thermal_publisher: ThermalStatePublisher | None = None,
    architecture_registry: ArchitectureRegistry | None = None,
    clock: Callable[[], int] | None = None,
    on_alert: Callable[[Record], None] | None = None,
    on_record: Callable[[Record], None] | None = None,
    is_fallback: bool = False,
    environ: Mapping[str, str] | None = None,
) -> InferenceRuntime:
    """The runtime that ``config.runtime`` names, with no engine loaded.

    ``architecture_registry``: of ``pytorch_fp16`` (default: ``default_registry``). ``clock``: monotonic nanoseconds.
    ``on_alert``, ``on_record``: the operator's and the flight recorder's callbacks. ``is_fallback``: the operator chose
    ``onnx_trt_ep`` in place of TensorRT, which is then said once. ``environ``: default ``os.environ``.

    Raises ``RuntimeNotAvailableError`` where the build flag is off, the library or the device is missing, and
    ``ConfigError`` for a build flag that is no switch.
    """
    label = config.runtime
    environ = os.environ if environ is None else environ
    if not is_built(label, environ):
        flag = BUILD_FLAGS[label]
        raise RuntimeNotAvailableError(
            f"runtime {label} is switched off: {flag} is {environ[flag]}.",
            remedy=f"Set {flag}=ON, or configure another runtime.",
        )
    strategy = _strategy(label)
    of_its_own: dict[str, dict[str, Any]] = {
        "onnx_trt_ep": {"is_fallback": is_fallback, "environ": environ},
        "pytorch_fp16": {"architecture_registry": architecture_registry},
    }
    log = EventLog(on_record=on_record, on_alert=on_alert)
    runtime: InferenceRuntime = strategy(
        config, thermal_publisher=thermal_publisher, log=log, clock=clock, **of_its_own.get(label, {})
    )
    log.info(Kind.READY, runtime=label, engines=[])
    return runtime


def _strategy(label: str) -> Any:
    """The class, once its library is known to be installed; the library itself is imported by its one door."""
    modules = LIBRARIES[label].modules
    if not any(_is_installed(name) for name in modules):
        try:
            import_module(modules[0])
        except ImportError as error:
            raise unavailable(label, error) from error
    module, _, name = STRATEGIES[label].partition(":")
    return getattr(import_module(module), name)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # an import hook that refuses it, or a stub without a specification
        return False
