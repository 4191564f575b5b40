"""``python -m runtime.strategies.trt compile``: an engine from a model, with no runtime held (TT-08)."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from runtime.config import RuntimeConfig
from runtime.data import BuildConfig, Profile
from runtime.errors import ConfigError, RuntimeCoreError
from runtime.logs import EventLog, Kind
from runtime.platform import detect_host
from runtime.strategies.common import reported
from runtime.strategies.trt_job import Progress

__all__ = ["main"]

_MODULE = "python -m runtime.strategies.trt"
_CONFIG_WRONG = 2

_EPILOG = """\
BUILD_CONFIG.json is one object, and every key may be left out:

  {
    "precision": "fp16",              fp32, fp16, int8, or mixed (fp16, and int8 where a dataset is given)
    "workspace_mb": 1024,             the builder's workspace, in MiB
    "calibration_dataset": "frames",  a folder or file of inputs; int8 needs it; relative to this file
    "optimization_profiles": [        for inputs whose sizes are free
      {"input": "image", "min": [1, 3, 240, 320], "opt": [1, 3, 480, 640], "max": [1, 3, 480, 640]}
    ],
    "route": "polygraphy"             or trtexec
  }

The entry of the engine is printed as one line of JSON; load it with EngineCacheEntry.from_json. Logs and progress go to
standard error. Exit code: 0 built, 1 the build failed, 2 the call or the configuration is wrong.

  echo '{"precision": "fp16"}' > fp16.json
  python -m runtime.strategies.trt compile matcher.onnx fp16.json --out engines > entry.json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    log = EventLog()
    if options.sm is not None and not re.fullmatch(r"[1-9]\d{1,2}", options.sm):
        parser.error(f"--sm is {options.sm!r}; expected a compute capability like 89.")
    try:
        build_config = _read(options.config)
        config = RuntimeConfig(runtime="tensorrt", engine_cache_dir=options.out, trtexec_timeout_s=options.timeout_s)
    except RuntimeCoreError as error:
        sys.stderr.write(f"{_MODULE} compile: {error}\n")
        return _CONFIG_WRONG
    from runtime.strategies.trt_build import build_engine

    try:
        with reported(log, Kind.BUILD_FAILED, backbone=options.model.stem):
            entry = build_engine(
                options.model,
                build_config,
                config=config,
                host=detect_host(),
                sm=options.sm,
                log=log,
                on_progress=_tell,
            )
    except RuntimeCoreError:
        return 1
    sys.stdout.write(entry.to_json() + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_MODULE, description="TensorRT engines without a runtime.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "compile",
        help="build an engine with its sidecar and manifest, and print its entry",
        description="Build an engine with its sidecar and manifest, and print its entry.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("model", type=Path, metavar="MODEL.onnx")
    command.add_argument("config", type=Path, metavar="BUILD_CONFIG.json")
    command.add_argument("--out", type=Path, default=Path("engines"), metavar="DIR", help="where to (default: engines)")
    command.add_argument(
        "--sm", metavar="SM", help="build for this compute capability, as in 89, where the library can without the GPU"
    )
    command.add_argument(
        "--timeout-s", type=float, default=600.0, metavar="SECONDS", help="end the build after so long (default: 600)"
    )
    return parser


def _read(path: Path) -> BuildConfig:
    """The file as a ``BuildConfig``. Raises ``ConfigError`` that names what is wrong, and what ``BuildConfig`` raises."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is a JSON {type(values).__name__}; expected an object.")
    known = [entry.name for entry in fields(BuildConfig)]
    unknown = [key for key in values if key not in known]
    if unknown:
        raise ConfigError(f"{path} has the unknown key {unknown[0]!r}; known are {', '.join(known)}.")
    if "optimization_profiles" in values:
        values["optimization_profiles"] = tuple(_profile(path, item) for item in _list(path, values))
    if isinstance(values.get("calibration_dataset"), str):
        values["calibration_dataset"] = path.parent / values["calibration_dataset"]
    try:
        return BuildConfig(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path} cannot be used: {error}.") from error


def _list(path: Path, values: dict[str, Any]) -> list[Any]:
    profiles = values["optimization_profiles"]
    if not isinstance(profiles, list):
        raise ConfigError(f"{path}: optimization_profiles is {profiles!r}; expected a list.")
    return profiles


def _profile(path: Path, item: Any) -> Profile:
    try:
        return Profile(**item) if isinstance(item, dict) else Profile(*item)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{path}: a profile is {item!r}; expected an input's name and its min, opt and max shapes."
        ) from error


def _tell(progress: Progress) -> None:
    """One line for each step of the outermost phases."""
    if not progress.parent:
        sys.stderr.write(f"{progress.phase}: {progress.step} of {progress.of}\n")
