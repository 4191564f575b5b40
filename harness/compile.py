"""``trigate compile``: an engine of one model for one runtime; nothing is built that is there and passes the engine check."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from runtime.config import BUILD_FLAGS, RuntimeConfig, is_built
from runtime.data import BuildConfig, EngineCacheEntry, Profile
from runtime.errors import ConfigError, EngineBuildError, RuntimeNotAvailableError
from runtime.factory import build_inference_runtime
from runtime.logs import EventLog
from runtime.model_file import check_external_data, read_model_facts
from runtime.platform import HostTuple, detect_host
from runtime.strategies.trt_build import build_engine, check_profiles, provision
from runtime.strategies.trt_job import Launch, Progress
from runtime.strategies.trt_layers import layers_path
from runtime.strategies.trt_trtexec import find_trtexec

__all__ = ["Compiled", "Order", "compile_model", "parse_shapes"]

_OPTIONS = {"calibration_dataset": "--calibration DIR", "optimization_profiles": "--shapes INPUT:MIN..OPT..MAX"}


@dataclass(frozen=True)
class Order:
    """What is asked for. ``trtexec``: the program, where it is named. ``force``: build also what is there."""

    model: Path
    runtime: str = "tensorrt"
    precision: str = "fp16"
    route: str = "polygraphy"
    sm: str | None = None
    calibration: Path | None = None
    shapes: Sequence[str] = ()
    out: Path = Path("engines")
    workspace_mb: int = 1024
    timeout_s: float = 600.0
    trtexec: Path | None = None
    force: bool = False


@dataclass(frozen=True)
class Compiled:
    """``is_new``: built now; ``None`` for a runtime that compiles nothing and only points at the file."""

    entry: EngineCacheEntry
    is_new: bool | None
    took_s: float

    def to_json(self) -> dict[str, Any]:
        entry = json.loads(self.entry.to_json())
        return {"entry": entry, "built": self.is_new, "took_s": round(self.took_s, 3)}

    def to_text(self) -> str:
        entry, extras = self.entry, self.entry.extras
        size = entry.engine_path.stat().st_size
        if self.is_new is None:
            head = f"{entry.engine_path}: this runtime compiles nothing; the entry points at the file."
        elif self.is_new:
            head = f"{entry.engine_path}: built in {self.took_s:.1f} s, {size / 1e6:.1f} MB."
        else:
            head = f"{entry.engine_path}: nothing to build; it is there, made as asked, and passes the engine check."
        lines = [head, f"  for            sm{entry.sm} jp{entry.jetpack} trt{entry.trt}"]
        lines.append(f"  precision      {entry.precision}" + (f", by {extras['route']}" if "route" in extras else ""))
        if "precision_got" in extras:
            lines.append(f"  layers         {extras['precision_got']}  ({layers_path(entry.engine_path).name})")
        lines.append(f"  sha256         {entry.sha256}")
        return "\n".join(lines)


def parse_shapes(text: str) -> Profile:
    """``image:1x3x240x320..1x3x480x640..1x3x960x1280`` (min, opt, max), or one shape for all three.

    Raises ``UsageError``.
    """
    name, separator, shapes = text.rpartition(":")
    parts = shapes.split("..")
    try:
        sizes = [tuple(int(size) for size in part.split("x")) for part in parts]
        if not separator or len(sizes) not in (1, 3):
            raise ValueError("not one shape, and not three")
        return Profile(name, sizes[0], sizes[len(sizes) // 2], sizes[-1])
    except (ValueError, ConfigError) as error:
        why = error.message if isinstance(error, ConfigError) else "it is written otherwise."
        raise UsageError(
            f"--shapes {text!r}: {why} Write INPUT:MIN..OPT..MAX, as in image:1x3x96x128..1x3x480x640..1x3x480x640, "
            "or INPUT:SHAPE."
        ) from error


def _checked(order: Order, environ: Mapping[str, str], host: HostTuple) -> tuple[BuildConfig, Path | None]:
    """What is to be built, and the program of that route. Raises ``UsageError`` for what was named wrongly."""
    if order.runtime != "tensorrt" and order.sm is not None:
        raise UsageError(f"--sm is for tensorrt; {order.runtime} compiles nothing.")
    if order.calibration is not None and not order.calibration.exists():
        raise UsageError(
            f"--calibration {order.calibration} does not exist. Give a folder of .npz files, one sample each."
        )
    try:
        asked = BuildConfig(
            precision=order.precision,
            workspace_mb=order.workspace_mb,
            calibration_dataset=order.calibration,
            optimization_profiles=tuple(map(parse_shapes, order.shapes)),
            route=order.route,
        )
        if order.runtime != "pytorch_fp16":
            model = order.model.absolute()  # a message names its folder
            check_external_data(model)
            inputs = read_model_facts(model).inputs
        elif not order.model.is_file():
            raise UsageError(f"{order.model} is no file. Give a checkpoint.")
        if order.runtime != "tensorrt":
            return asked, None
        check_profiles(inputs, asked.optimization_profiles)
        program = find_trtexec(order.trtexec, environ.get("PATH")) if order.route == "trtexec" else None
    except EngineBuildError as error:
        hint = next((f" Here that is {option}." for key, option in _OPTIONS.items() if key in str(error)), "")
        raise UsageError(f"{error}{hint}") from error
    if order.sm is None and host.sm == "none":
        raise UsageError(
            "there is no GPU here, and none was named to build for. Name its compute capability, as in --sm 89 "
            "(TensorRT-RTX builds without it), or build on the board."
        )
    return asked, program


def compile_model(
    order: Order,
    environ: Mapping[str, str],
    *,
    on_progress: Callable[[Progress], None] | None = None,
    host: HostTuple | None = None,
    launch: Launch | None = None,
    log: EventLog | None = None,
) -> Compiled:
    """Carry the order out. Raises ``UsageError`` for an order that no build could carry out, and the errors of the core."""
    begun = time.perf_counter()
    host = host or detect_host()
    asked, program = _checked(order, environ, host)
    config = RuntimeConfig(runtime=order.runtime, engine_cache_dir=order.out, trtexec_timeout_s=order.timeout_s)
    if order.runtime != "tensorrt":
        entry = build_inference_runtime(config, environ=environ).compile_engine(order.model, asked)
        return Compiled(entry, None, time.perf_counter() - begun)
    if not is_built(order.runtime, environ):
        flag = BUILD_FLAGS[order.runtime]
        raise RuntimeNotAvailableError(
            f"runtime {order.runtime} is switched off: {flag} is {environ[flag]}.", remedy=f"Set {flag}=ON."
        )
    how: dict[str, Any] = {
        "config": config,
        "host": host,
        "sm": order.sm,
        "trtexec": program,
        "launch": launch,
        "log": log,
        "on_progress": on_progress,
    }
    if order.force:
        return Compiled(build_engine(order.model, asked, **how), True, time.perf_counter() - begun)
    done = provision(order.model, asked, **how)
    return Compiled(done.entry, done.is_new, time.perf_counter() - begun)
