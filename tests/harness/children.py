"""Runtimes that a fresh process can be given in a test: one that works, and one for each way to go wrong. No heavy library."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from harness.numerics.parity import digest
from harness.packs.model import ModelPack, model_json
from harness.records import Case, from_json
from harness.tier2.child_job import ChildJob
from harness.tier2.fresh import ChildResult, ProcessJob, ProcessSeen
from runtime.config import RuntimeConfig
from runtime.data import BuildConfig, EngineCacheEntry, EngineHandle, ThermalState
from runtime.errors import OutOfMemoryError
from runtime.protocol import Array

SAMPLES = 2


class Quick:
    """y = x summed up; the engine is a file in the cache."""

    def __init__(self, config: RuntimeConfig) -> None:
        self.config = config
        self.resident_bytes = 0

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        self.config.engine_cache_dir.mkdir(parents=True, exist_ok=True)
        engine = self.config.engine_cache_dir / f"{model_path.parent.name}.engine"
        engine.write_bytes(b"engine")
        return EngineCacheEntry(engine, "0" * 64, "none", "none", "0.0", build_config.precision)

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        self.resident_bytes += entry.engine_path.stat().st_size
        return EngineHandle(self, entry, object())

    def infer(
        self, handle: EngineHandle, inputs: Mapping[str, Array], *, out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        return {"y": np.asarray([inputs["x"].sum()], np.float32)}

    def release_engine(self, handle: EngineHandle) -> None:
        handle.resources = None
        self.resident_bytes -= handle.entry.engine_path.stat().st_size

    def thermal_state(self) -> ThermalState:
        return ThermalState.unknown(0)

    def current_runtime_label(self) -> str:
        return "onnx_trt_ep"


class Told(Quick):
    """Has a context of its own on a GPU that computes in the system's memory, and says what the driver says."""

    def memory_info(self) -> SimpleNamespace:
        return SimpleNamespace(free_bytes=1 << 30, total_bytes=8 << 30, available_bytes=3 << 30)


class Noisy(Quick):
    """Writes on standard output, as libraries do, both through Python and past it."""

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        sys.stdout.write('{"seen": {}}\n')
        sys.stdout.flush()
        os.write(1, b'\n\xff garbage {"step": 3\n')
        sys.stderr.write("a word on standard error\n")
        return super().deserialize_engine(entry)


class Killed(Quick):
    """Ends as the kernel ends a process when memory runs out."""

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class Full(Quick):
    """Refuses in the core's words."""

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        raise OutOfMemoryError("the engine wants 3 GiB, and 1 is left.", remedy="Raise gpu_memory_budget_bytes.")


class Leaks(Quick):
    """A page at least with every call, and much with every load."""

    kept: list[bytearray] = []  # noqa: RUF012 (of the process, on purpose)

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        self.kept.append(bytearray(os.urandom(1 << 20)))
        return super().deserialize_engine(entry)

    def infer(
        self, handle: EngineHandle, inputs: Mapping[str, Array], *, out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        self.kept.append(bytearray(os.urandom(1 << 15)))
        return super().infer(handle, inputs, out=out)


def write_pack(folder: Path, name: str) -> ModelPack:
    """The tiny model's pack without reference: what a load needs."""
    import pytest

    pytest.importorskip("onnx", reason="onnx: not installed")
    from tests.harness.tiny import WIDTH, write_onnx  # brings onnx, which no child shall hold

    folder.mkdir(parents=True)
    chance = np.random.default_rng(5)
    feeds = [{"x": chance.standard_normal((2, WIDTH)).astype(np.float32)} for _ in range(SAMPLES)]
    with (folder / "inputs.npz").open("wb") as file:
        arrays: dict[str, Any] = {f"{at}/x": feed["x"] for at, feed in enumerate(feeds)}
        np.savez(file, **arrays)
    write_onnx(folder / "model.onnx")
    shapes = {
        "inputs": [{"name": "x", "shape": [2, WIDTH], "dtype": "float32"}],
        "outputs": [{"name": "y", "shape": [2, 4], "dtype": "float32"}],
    }
    pack = ModelPack(
        name=name,
        size="small",
        key=name,
        onnx="model.onnx",
        onnx_fp16="",
        checkpoint="",
        architecture="",
        inputs_origin="a test",
        reference="none",
        feed_sha256=tuple(digest(feed) for feed in feeds),
        onnx_sha256="",
        checkpoint_sha256="",
        input_names=("x",),
        output_names=("y",),
        tolerances={},
        tensors=json.dumps(shapes),
    )
    (folder / "model.json").write_bytes(model_json(pack))
    return replace(pack, folder=str(folder))


def job_in(folder: Path, *models: str) -> ChildJob:
    """A job with these models, made up below ``folder``, on the CPU."""
    packs = {name: write_pack(folder / "packs" / name, name).folder for name in models}
    return ChildJob(packs, {"engine_cache_dir": str(folder / "engines"), "device": "cpu", "intra_op_threads": 1})


def case_of(model: str, runtime: str, kind: str = "load") -> Case:
    return Case(f"{model}-{kind}", 2, kind, model, f"tests.harness.children:{runtime}", "fp32", "fp32", "small")


def in_process(job: ProcessJob, **_: object) -> ChildResult:
    """``run_child`` without a child, for what a test does not need one for; a job that holds is killed at once."""
    from harness.tier2.process_child import run_job

    told: dict[str, Any] = {}
    run_job(replace(job, holds=False, spawned_ns=time.monotonic_ns()), told.update, {})
    if job.holds:
        return ended(-signal.SIGKILL, is_ours=True, why="was killed in the middle of inference, as asked", ready_ns=1)
    return ended(0, seen=from_json(ProcessSeen, told["seen"]), ready_ns=told["ready_ns"])


def ended(code: int, **more: Any) -> ChildResult:
    """A result with this exit code, and what else is given."""
    plain: dict[str, Any] = {
        "is_ours": False, "why": "", "seen": None, "failure": None, "ready_ns": None, "step": "", "stderr_tail": "",
        "wall_ns": 10**9,
    }  # fmt: skip
    return ChildResult(returncode=code, signal=-code if code < 0 else None, **{**plain, **more})
