"""A large run folder, made in one go: rows of Tier-2 with samples and telemetry as the harness stores them. Seeded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from harness.records import (
    BoardState,
    Case,
    Check,
    Judgement,
    LatencyFigures,
    Measurement,
    Outcome,
    Quantile,
    Run,
    Summary,
    Verdict,
)

RUNTIMES = ("tensorrt", "onnx_trt_ep", "pytorch_fp16")
PRECISIONS = ("fp32", "fp16")
LAUNCHES = 5
BUDGET_NS = 30_000_000


def big_run(folder: Path, *, rows: int = 60, samples: int = 10_000_000, stored: bool = True) -> Run:
    """``samples`` in all, in five launches of each row, a fifth of them before the measurement begins. ``stored``: as files."""
    generator = np.random.default_rng(0)
    verdicts = tuple(_row(folder, at, samples // rows, generator=generator, stored=stored) for at in range(rows))
    return Run(
        id="7d1f0b9ce2a84c5c9a3f11d2c4b5a696", started_at="2026-03-04T10:00:00+00:00", finished_at="2026-03-04T22:00:00+00:00",
        complete=True, exit_code=0, last_line=f"PASS {rows}.", command="trigate run --profile signoff", seed=0,
        settings={"profile": "signoff"}, environment={"os": "Linux 6.8"}, configuration_sha256="c0" * 32, pack_sha256="9a" * 32,
        planned=tuple(verdict.case for verdict in verdicts), verdicts=verdicts, trigate_version="0.1.0",
    )  # fmt: skip


def _row(folder: Path, at: int, count: int, *, generator: np.random.Generator, stored: bool) -> Verdict:
    runtime, precision = RUNTIMES[at % 3], PRECISIONS[at // 3 % 2]
    model = f"model{at // 6}"
    case = Case(
        id=f"{model}-{runtime}-{precision}-b1-latency", tier=2, kind="latency", model=model, runtime=runtime,
        precision=precision, lane=precision, size="flight", required=True, covers=("T2-01", "T2-02"),
    )  # fmt: skip
    samples_file, trace_file = _write(folder, case.id, count, generator) if stored else ("", "")
    board = BoardState(gpu_temp_c=60.0 + at % 7, throttled=False, power_mode="MAXN_SUPER", boot_id="b1", source="sysfs")
    measurement = Measurement(
        case=case, placement=f"{runtime}[cuda]", lane_name=f"{runtime} · {precision}", precision_ran=precision,
        timing_boundary="host clock around infer()", profile="signoff", rate_hz=39.0, launches=LAUNCHES,
        sample_count=count, board_start=board, board_end=replace(board, gpu_temp_c=71.0),
        samples_file=samples_file, trace_file=trace_file,
    )  # fmt: skip
    told = {p: Quantile(p, round(2e7 * (1 + p / 9)), 20_000_000, 23_000_000, 0.95) for p in (0.5, 0.95, 0.99)}
    measured = count - count // 5
    latency = LatencyFigures(measured, 0, told[0.5], told[0.95], told[0.99], 2e7, 15_000_000, 90_000_000, 39.0)
    judgement = Judgement(
        "at most 5 % of the requests over the budget", BUDGET_NS, 0.05, 3.0, "12 runs of this board", 3.0, 26_000_000,
        0.01, None, "clusters of slow calls rarer than one in 12 s are not bounded",
    )  # fmt: skip
    reason = f"p95 22.1 ms of 30 ms, {measured} requests"
    return Verdict(
        Summary(measurement, latency=latency, judgement=judgement), Outcome.PASS, reason,
        (Check("p95", Outcome.PASS, reason),),
    )  # fmt: skip


def _write(folder: Path, name: str, count: int, generator: np.random.Generator) -> tuple[str, str]:
    each = count // LAUNCHES
    call = np.tile(np.arange(each), LAUNCHES)
    due = call * 25_600_000 + 300_000_000
    took = (2e7 * np.exp(generator.normal(0, 0.05, len(call)))).astype(np.int64)
    throttled = call > 0.9 * each
    took[throttled] *= 2
    table = {
        "launch": np.repeat(np.arange(LAUNCHES), each),
        "stream": np.zeros(len(call), np.int64),
        **dict.fromkeys(("scheduled_ns", "woke_ns", "started_ns"), due),
        "done_ns": due + took,
        "phase": np.where(call < each // 5, 1, 2),
        "status": np.zeros(len(call), np.int64),
        **dict.fromkeys(("h2d_ns", "compute_ns", "d2h_ns", "wait_ns"), took // 4),
        "throttled": throttled.astype(np.int8),
        "clock_mhz": np.where(throttled, 510.0, 1173.0),
        "model": pyarrow.array(np.full(len(call), "model", object)).dictionary_encode(),
    }
    frames = 2_000
    at_ns = np.tile(np.linspace(300_000_000, int(due.max()), frames).astype(np.int64), LAUNCHES)
    part = np.tile(np.arange(frames) / frames, LAUNCHES)
    trace = {
        "launch": np.repeat(np.arange(LAUNCHES), frames),
        "at_ns": at_ns,
        "gpu_clock_mhz": np.where(part < 0.9, 1173.0, 510.0),
        "tj_temp_c": 60 + 39 * part,
        "power_w": 20 + generator.normal(0, 1, len(part)),
        "pss_bytes": 4e8 + 1e6 * part,
        "nvmap_bytes": 9e8 + generator.normal(0, 1e6, len(part)),
        "alerts": [""] * len(part),
        "missing": [""] * len(part),
    }
    for kind, columns in (("samples", table), ("traces", trace)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / kind / f"{name}.parquet")
    return f"samples/{name}.parquet", f"traces/{name}.parquet"
