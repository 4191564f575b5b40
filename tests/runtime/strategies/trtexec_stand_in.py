"""Stands in for NVIDIA's ``trtexec``: takes the flags of that release, refuses others in its words, writes a real plan.

    python trtexec_stand_in.py VERSION SM --onnx=... --saveEngine=... ...

The plan is built by the fake TensorRT of that version on a simulated device, through TensorRT's own API and not through
anything of ours. Flags and lines are those of ``samples/trtexec`` and ``samples/common`` of releases 10.3 and 11.1.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import Any

COMMON = {
    *("onnx", "saveEngine", "memPoolSize", "minShapes", "optShapes", "maxShapes", "timingCacheFile", "verbose"),
    *("exportLayerInfo", "profilingVerbosity", "skipInference", "noTF32", "stronglyTyped", "builderOptimizationLevel"),
}
OF_TEN = {"fp16", "int8", "bf16", "best", "calib", "precisionConstraints"}


def say(severity: str, text: str) -> None:
    sys.stdout.write(f"[11/21/2026-12:00:00] [{severity}] {text}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    version, sm, *given = arguments
    say("I", f"&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] # trtexec {' '.join(given)}")
    code = run(version, sm, given)
    sys.stdout.write(f"&&&& {'FAILED' if code else 'PASSED'} TensorRT.trtexec [TensorRT v{version}]\n")
    return code


def run(version: str, sm: str, given: list[str]) -> int:
    options: dict[str, str] = {}
    for word in given:
        name, _, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in COMMON | (OF_TEN if version.startswith("10") else set()):
            say("E", f"Unknown option: {word.partition('=')[0]} {value}")
            return 1
        options[name] = value
    if mode := os.environ.get("STAND_IN_MODE"):
        return misbehave(mode, options)
    say("I", f"TensorRT version: {'.'.join(version.split('.')[:3])}")
    from harness.fakes.device import SimulatedDevice
    from harness.fakes.install import installed

    with installed(SimulatedDevice(sm=sm, is_integrated=sm == "87"), tensorrt=version) as fakes:
        return build(fakes.tensorrt, options)


def misbehave(mode: str, options: dict[str, str]) -> int:
    if mode == "hang":
        time.sleep(600)
    if mode == "other version":
        say("I", "TensorRT version: 10.7.0")
        time.sleep(600)
    if mode == "no file":
        return 0
    Path(options["saveEngine"]).write_bytes(b"half a plan")
    say("E", "Error[2]: [codeGenerator.cpp::compileGraph::894] Error Code 2: Internal Error (CUDA out of memory)")
    return 1


def build(trt: Any, options: dict[str, str]) -> int:
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            say(severity.name[0] if severity.name != "INTERNAL_ERROR" else "F", f"[TRT] {msg}")

    logger = Logger()
    builder = trt.Builder(logger)
    flags = trt.NetworkDefinitionCreationFlag
    is_strong = "stronglyTyped" in options or not hasattr(trt.BuilderFlag, "FP16")
    network = builder.create_network(1 << int(flags.STRONGLY_TYPED) if is_strong else 0)
    parser = trt.OnnxParser(network, logger)
    say("I", "Start parsing network model.")
    if not parser.parse_from_file(options["onnx"]):
        say("E", "Failed to parse onnx file")
        return 1
    say("I", "Finished parsing network model. Parse time: 0.1")
    config = builder.create_builder_config()
    pool, _, size = options["memPoolSize"].partition(":")
    assert pool == "workspace", pool
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(size) << 20)
    if "noTF32" in options:
        config.clear_flag(trt.BuilderFlag.TF32)
    for flag in ("fp16", "int8"):
        if flag in options:
            config.set_flag(getattr(trt.BuilderFlag, flag.upper()))
    if options.get("profilingVerbosity") == "detailed":
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if "calib" in options:
        config.int8_calibrator = calibrator(trt, Path(options["calib"]).read_bytes())
    if "minShapes" in options:
        profile = builder.create_optimization_profile()
        shapes = {size: parse_shapes(options[f"{size}Shapes"]) for size in ("min", "opt", "max")}
        for name in shapes["opt"]:
            profile.set_shape(name, shapes["min"][name], shapes["opt"][name], shapes["max"][name])
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        say("E", "Engine could not be created from network")
        return 1
    Path(options["saveEngine"]).write_bytes(bytes(plan))
    if "timingCacheFile" in options:
        Path(options["timingCacheFile"]).write_bytes(b"timings of the stand-in")
    say("I", "Engine built in 1.2 sec.")
    if "exportLayerInfo" in options:
        engine = trt.Runtime(logger).deserialize_cuda_engine(bytes(plan))
        inspector = engine.create_engine_inspector()
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        Path(options["exportLayerInfo"]).write_text(text, encoding="utf-8")
    return 0


def calibrator(trt: Any, cache: bytes) -> Any:
    class FromFile(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str]) -> None:
            return None

        def read_calibration_cache(self) -> bytes:
            return cache

        def write_calibration_cache(self, cache: Any) -> None:
            pass

    return FromFile()


def parse_shapes(text: str) -> dict[str, tuple[int, ...]]:
    """``a:1x3,'b:0':2x4``, as ``splitNameAndDims`` reads it."""
    shapes = {}
    for part in text.split(","):
        match = re.fullmatch(r"(?:'(.+)'|([^':]+)):([\dx]+)", part)
        assert match is not None, part
        shapes[match[1] or match[2]] = tuple(int(size) for size in match[3].split("x"))
    return shapes


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
