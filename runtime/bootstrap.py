"""Composing the flight binary: one runtime, made once, handed to every consumer (FA-03)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from runtime.architectures import ArchitectureRegistry
from runtime.config import BUILD_FLAGS, RuntimeConfig
from runtime.errors import BootstrapError, ConfigError, RuntimeCoreError
from runtime.factory import build_inference_runtime
from runtime.logs import EventLog, Kind, Record
from runtime.protocol import InferenceRuntime
from runtime.thermal import ThermalStatePublisher

__all__ = ["AIRBORNE", "INFERENCE", "LIGHTGLUE", "MODES", "Consumer", "FlightConfig", "bootstrap_airborne"]

AIRBORNE = ("tensorrt", "pytorch_fp16")
"""The labels that may fly."""

INFERENCE = "c7_inference"
LIGHTGLUE = "lightglue_runtime"
"""The keys of the two shared parts."""

MODES = ("live", "replay")


@dataclass(frozen=True)
class FlightConfig:
    """``mode``: ``live``, or ``replay`` of a recorded flight. ``runtime``: the runtime section, ``None`` without one."""

    mode: str = "live"
    runtime: RuntimeConfig | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"mode is {self.mode!r}; expected one of {', '.join(MODES)}.")


@dataclass(frozen=True)
class Consumer:
    """A part of the flight binary. ``start`` gets the shared parts by key and returns the started part.

    With ``needs_runtime`` False it starts also where no runtime was built, and then gets no shared part.
    """

    start: Callable[[Mapping[str, Any]], object]
    needs_runtime: bool = True


def bootstrap_airborne(
    config: FlightConfig,
    consumers: Mapping[str, Consumer | Callable[[Mapping[str, Any]], object]],
    *,
    lightglue: Callable[[InferenceRuntime], object] | None = None,
    thermal_publisher: ThermalStatePublisher | None = None,
    architecture_registry: ArchitectureRegistry | None = None,
    clock: Callable[[], int] | None = None,
    on_alert: Callable[[Record], None] | None = None,
    on_record: Callable[[Record], None] | None = None,
    environ: Mapping[str, str] | None = None,
    build: Callable[..., InferenceRuntime] = build_inference_runtime,
) -> Mapping[str, object]:
    """Build the one runtime, make LightGlue's shared runtime from it, start the consumers in their order.

    ``consumers``: by name; a bare callable is a ``Consumer`` that needs the runtime. ``lightglue``: makes the part
    under ``LIGHTGLUE`` from the runtime; called once. ``environ``: default ``os.environ``; a build flag that is not set
    means OFF here. ``build``: makes the runtime.

    Returns the shared parts by key and what each consumer's ``start`` returned by its name. In ``replay`` without a
    runtime section nothing is built, and what needs it is left out. Says ``c7.ready`` with the engines that are loaded,
    where the runtime has ``resident_engines``.

    Raises ``BootstrapError``, with what stopped it as ``__cause__``.
    """
    wanted = {
        name: consumer if isinstance(consumer, Consumer) else Consumer(consumer) for name, consumer in consumers.items()
    }
    taken = [name for name in (INFERENCE, LIGHTGLUE) if name in wanted]
    if taken:
        raise BootstrapError(f"a consumer is called {taken[0]!r}, which is the key of a shared part.")
    environ = os.environ if environ is None else environ
    shared: dict[str, Any] = {}
    if config.runtime is not None:
        shared[INFERENCE] = _build_runtime(
            config.runtime,
            wanted,
            environ,
            lambda runtime, flags: build(
                runtime,
                thermal_publisher=thermal_publisher,
                architecture_registry=architecture_registry,
                clock=clock,
                on_alert=on_alert,
                on_record=on_record,
                environ=flags,
            ),
        )
        if lightglue is not None:
            shared[LIGHTGLUE] = _started(LIGHTGLUE, lightglue, shared[INFERENCE])
    elif config.mode != "replay" and any(consumer.needs_runtime for consumer in wanted.values()):
        missing = ConfigError("the configuration has no runtime section.")
        raise _lacking(wanted, environ, missing) from missing
    parts = dict(shared)
    for name, consumer in wanted.items():
        if shared or not consumer.needs_runtime:
            parts[name] = _started(name, consumer.start, MappingProxyType(shared))
    if config.runtime is not None:
        loaded = getattr(shared[INFERENCE], "resident_engines", list)
        log = EventLog(on_record=on_record, on_alert=on_alert)
        log.info(Kind.READY, runtime=config.runtime.runtime, parts=list(parts), engines=loaded())
    return MappingProxyType(parts)


def _build_runtime(
    config: RuntimeConfig,
    consumers: Mapping[str, Consumer],
    environ: Mapping[str, str],
    build: Callable[[RuntimeConfig, Mapping[str, str]], InferenceRuntime],
) -> InferenceRuntime:
    if config.runtime not in AIRBORNE:
        airborne = ", ".join(f"{BUILD_FLAGS[label]} ({label})" for label in AIRBORNE)
        raise BootstrapError(
            f"runtime {config.runtime} does not fly.",
            remedy=f"Configure a runtime that does, with its flag ON: {airborne}.",
        )
    flags = {**environ, **{BUILD_FLAGS[label]: environ.get(BUILD_FLAGS[label], "OFF") for label in AIRBORNE}}
    try:
        return build(config, flags)
    except RuntimeCoreError as error:
        raise _lacking(consumers, environ, error) from error


def _lacking(
    consumers: Mapping[str, Consumer], environ: Mapping[str, str], upstream: RuntimeCoreError
) -> BootstrapError:
    flags = ", ".join(
        f"{BUILD_FLAGS[label]} ({label}) is {environ.get(BUILD_FLAGS[label], 'not set, which is OFF in flight')}"
        for label in AIRBORNE
    )
    return BootstrapError(
        f"the part {INFERENCE!r} is missing: {upstream} Build flags: {flags}. "
        f"Configured consumers: {', '.join(consumers) or 'none'}.",
        remedy="Set the configured runtime's flag to ON and install its library, or configure the other runtime.",
    )


def _started(name: str, start: Callable[[Any], object], given: Any) -> object:
    try:
        return start(given)
    except Exception as error:
        raise BootstrapError(f"the part {name!r} did not start: {type(error).__name__}: {error}") from error
