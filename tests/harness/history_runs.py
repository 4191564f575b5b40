"""Runs for the history, made by a seed: as many as are asked for, of models on runtimes, with a step where one is planted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np

from harness.history.entry import OURS, Entry, Followed, RowEntry

BEGIN = datetime(2024, 1, 1, tzinfo=timezone.utc)
MODELS = tuple(f"model{at}" for at in range(13))
RUNTIMES = ("tensorrt", "onnx_trt_ep")
ROW = "model0-tensorrt-fp16-b1-latency"
SPREAD = 0.02
_BYTES = 4e8


def entry(number: int, rows: int = 4, *, seed: int = 0, factor: float = 1.0, **given: Any) -> Entry:
    """Run ``number``: ``rows`` rows of latency and parity, whose p50 spread by ``SPREAD`` about 10 ms times ``factor``."""
    chance = np.random.default_rng([seed, number])
    began = BEGIN + timedelta(hours=2 * number)
    made = tuple(_row(at, chance, factor) for at in range(rows))
    told: dict[str, Any] = {
        "id": f"{number:08x}{seed:024x}",
        "digest": f"{number}-{seed}-{factor}",
        "path": f"/runs/{number}",
        "source": OURS,
        "started_at": began.isoformat(),
        "finished_at": (began + timedelta(hours=1)).isoformat(),
        "complete": True,
        "exit_code": 0,
        "last_line": f"PASS {rows}.",
        "profile": "pr",
        "simulated": "",
        "machine": "p3767-0000",
        "pack_sha256": "9a" * 32,
        "schema": 2,
        "trigate_version": "0.1.0",
        "counts": {"PASS": rows},
        "facts": {
            "jetpack": "6.2", "tensorrt": "10.3.0" if number < 5000 else "10.16.1", "onnxruntime-gpu": "1.23.0",
            "python": "3.10.12", "os": "Linux-5.15-tegra", "cpu": "Orin", "numpy": "1.26.4", "trigate": "0.1.0",
            "module": "p3767-0000", "sm": "87",
        },
        "boots": {f"boot-{number}": 300.0},
        "rows": made,
    }  # fmt: skip
    return Entry(**{**told, **given})


def entries(count: int, rows: int = 50, *, seed: int = 0) -> Iterator[Entry]:
    """Many runs; from the middle on all are 8 % slower."""
    for number in range(count):
        yield entry(number, rows, seed=seed, factor=1.08 if number >= count // 2 else 1.0)


def _row(at: int, chance: np.random.Generator, factor: float) -> RowEntry:
    model, runtime = MODELS[at // 4 % len(MODELS)], RUNTIMES[at // 2 % 2]
    kind = ("latency", "parity")[at % 2]
    name = f"{model}-{runtime}-fp16-b1" + ("-latency" if kind == "latency" else "")
    return RowEntry(
        row=name,
        kind=kind,
        model=model,
        runtime=runtime,
        precision="fp16",
        machine="p3767-0000",
        setting="flight, 39 Hz, gpu_mhz 1173",
        boundary="host clock around infer()" if kind == "latency" else "",
        simulated="",
        outcome="PASS" if chance.random() < 0.98 else "FAIL",
        placement=f"{runtime}[cuda]",
        figures=_latency(chance, factor) if kind == "latency" else _parity(chance),
    )


def _latency(chance: np.random.Generator, factor: float) -> tuple[Followed, ...]:
    p50, p95 = 1e7 * factor * np.exp(SPREAD * chance.standard_normal(2)) * (1.0, 1.1)
    others = chance.random(6)
    return (
        Followed("p50_ns", "ns", float(p50), float(p50 * 0.99), float(p50 * 1.01)),
        Followed("p95_ns", "ns", float(p95), float(p95 * 0.98), float(p95 * 1.02)),
        Followed("mean_ns", "ns", float(p50 * 1.02)),
        Followed("calls_per_s", "Hz", 39.0),
        Followed("energy_per_call_j", "J", 0.4 + 0.01 * float(others[0])),
        Followed("mean_power_w", "W", 15.0 + float(others[1])),
        Followed("gpu_bytes", "bytes", _BYTES),
        Followed("load_ns", "ns", 3e8 * (1 + 0.05 * float(others[2]))),
        Followed("gpu_temp_max_c", "°C", 50 + 10 * float(others[3])),
        Followed("engine_bytes", "bytes", 2.2e7),
    )


def _parity(chance: np.random.Generator) -> tuple[Followed, ...]:
    worst = 4e-4 * float(np.exp(0.1 * chance.standard_normal()))
    return (
        Followed("rel_l2_max", "ratio", worst),
        Followed("rel_l2_median", "ratio", worst / 2),
        Followed("max_abs", "", worst * 3),
        Followed("cosine_min", "ratio", 1 - worst**2),
        Followed("load_ns", "ns", 3e8),
    )
