"""How long ``trigate verify`` takes beside hashing the same files: a sign-off run of ``--rows`` latency rows of 117,000 samples.

    python -m tests.benchmarks.bench_verify [--rows 86]

86 rows hold 10,000,000 samples. The row is of five launches of ten minutes at 39 Hz, with telemetry at 10 Hz beside them.
"""
# ruff: noqa: T201

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness import gates
from harness.config import BoardConfig, Budget, Configuration, LoadRule, ModelConfig
from harness.floors import Floor
from harness.instruments.recording import trace_table
from harness.instruments.trace import Frame, Trace
from harness.limits import LIMITS_FILE, limits_of, limits_text
from harness.profiles import PROFILES
from harness.records import Case, Measurement, Run, to_json
from harness.run_folder import RunFolder
from harness.signoff.bundle import ATTESTATION, make_bundle
from harness.signoff.files import hash_file, walk
from harness.signoff.signing import load_private_key, make_key
from harness.signoff.verify import verify
from harness.tier2.latency_gate import judge
from harness.tier2.samples import COLUMNS, Phase
from runtime.protocol import Array

RATE_HZ, LAUNCHES, CALLS = 39.0, 5, 23_400
BUDGET = Budget(p95_ms=15.0)


def columns() -> dict[str, Array]:
    """Calls that hang together (AR(1) 0.9), 2 % of them over the budget; whoever wakes is late by tens of microseconds."""
    chance = np.random.default_rng(1)
    count = LAUNCHES * CALLS
    noise = chance.standard_normal(count)
    for at in range(1, count):
        noise[at] = 0.9 * noise[at - 1] + np.sqrt(1 - 0.81) * noise[at]
    due = np.tile(np.round(np.arange(CALLS) * 1e9 / RATE_HZ).astype(np.int64), LAUNCHES)
    took = (12e6 * np.exp(0.1 * noise)).astype(np.int64)
    zero, wait = np.zeros(count, np.int64), chance.gamma(20.0, 2_500.0, count).astype(np.int64)
    woke = due + chance.gamma(2.0, 20_000.0, count).astype(np.int64)
    started = woke + chance.gamma(4.0, 3_000.0, count).astype(np.int64)
    told = {
        "launch": np.repeat(np.arange(LAUNCHES), CALLS), "scheduled_ns": due, "woke_ns": woke, "started_ns": started,
        "done_ns": started + took, "phase": zero + Phase.MEASURE,
        "h2d_ns": took // 20, "compute_ns": took - took // 20 - took // 40 - wait - 40_000, "d2h_ns": took // 40,
        "wait_ns": wait,
        "throttled": zero,
    }  # fmt: skip
    return {name: told.get(name, zero) for name in (*COLUMNS, "throttled")}


def traces() -> dict[int, Trace]:
    chance = np.random.default_rng(2)

    def frame(at: int) -> Frame:
        watts, warm = chance.normal(20.0, 1.0), chance.normal(55.0, 1.0)
        names = {"gpu_clock_mhz": 900.0, "gpu_cap_mhz": 900.0, "gpu_load_percent": 95.0, "power_w": watts}
        zones = {f"temp_c.zone{zone}": warm + zone for zone in range(8)}
        return Frame(at * 100_000_000, {**names, **zones, "gpu_temp_c": warm, "oc_events": 0.0})

    return {launch: Trace([frame(at) for at in range(6_010)]) for launch in range(LAUNCHES)}


def make_run(folder: Path, rows: int) -> None:
    model = ModelConfig("m", load=LoadRule(RATE_HZ), budget={"orin": BUDGET})
    configuration = Configuration(
        "c.toml", Path(), "c0" * 32, boards={"orin": BoardConfig("orin")}, models={"m": model}
    )
    case = Case("row", 2, "latency", "m", "tensorrt", "fp16", "fp16", "flight", required=True)
    measured = Measurement(case, "here", rate_hz=RATE_HZ, profile="signoff")
    calls, told = columns(), traces()
    verdict = judge(
        measured, calls, told, budget=BUDGET, profile=PROFILES["signoff"], floor=Floor(20.0, 3, "three nights")
    )
    print(f"one row: {verdict.outcome.value}, {verdict.reason}")
    with RunFolder(folder) as opened:
        opened.write_samples("samples/row-0.parquet", calls)
        opened.write_samples("traces/row-0.parquet", trace_table(told))
        verdicts = []
        for at in range(rows):
            if at:  # no two rows have the same samples
                woke = calls["woke_ns"] + at * (np.arange(LAUNCHES * CALLS) == 0)
                opened.write_samples(f"samples/row-{at}.parquet", {**calls, "woke_ns": woke})
                shutil.copy(folder / "traces/row-0.parquet", folder / f"traces/row-{at}.parquet")
            own = replace(
                verdict.summary.measurement,
                case=replace(case, id=f"row-{at}"),
                samples_file=f"samples/row-{at}.parquet",
                trace_file=f"traces/row-{at}.parquet",
            )
            verdicts.append(replace(verdict, summary=replace(verdict.summary, measurement=own)))
        opened.write(LIMITS_FILE, limits_text(limits_of(configuration, configuration.models, "orin", ["tensorrt"])))
        run = Run(
            id="bench", started_at="2026-01-01T00:00:00+00:00", finished_at="2026-01-01T10:00:00+00:00", complete=True,
            exit_code=gates.exit_code(verdicts, ["tensorrt"]), last_line=gates.last_line(verdicts, ["tensorrt"]),
            command="trigate run", seed=0, settings={"board": "orin", "profile": "signoff"}, environment={},
            configuration_sha256="c0" * 32, pack_sha256="aa" * 32, planned=tuple(one.case for one in verdicts),
            verdicts=tuple(verdicts), trigate_version="0",
        )  # fmt: skip
        opened.write("run.json", json.dumps(to_json(run)).encode())


def timed(what: Callable[[], object]) -> tuple[float, float]:
    """(wall, CPU) seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    what()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=86)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as room:
        home = Path(room)
        make_run(home / "run", rows)
        public = make_key(home / "key")
        bundle = home / "bundle"
        key, made_at = load_private_key(home / "key"), "2026-01-02T00:00:00+00:00"
        signing = timed(lambda: make_bundle([home / "run"], bundle, key, made_at=made_at, trigate_version="0"))
        print("sign: {:.2f} s, CPU {:.2f} s".format(*signing))
        names = [name for name in walk(bundle).files if name != ATTESTATION]
        size = sum((bundle / name).stat().st_size for name in names)
        timed(lambda: [hash_file(bundle / name) for name in names])  # into the page cache
        hashing = timed(lambda: [hash_file(bundle / name) for name in names])
        seen = []
        whole = timed(lambda: seen.append(verify(bundle, public, today=datetime.date(2026, 1, 3))))
        print(
            f"{rows * LAUNCHES * CALLS:,} samples, {len(names)} files, {size / 1e6:.0f} MB: {seen[0].to_text().splitlines()[-1]}"
        )
        per_sample = whole[1] / (rows * LAUNCHES * CALLS)
        print("hashing: {:.2f} s, CPU {:.2f} s".format(*hashing))
        print("verify:  {:.2f} s, CPU {:.2f} s, {:.0f} ns a sample".format(*whole, 1e9 * per_sample))
        print(f"verify over hashing: {whole[0] / hashing[0]:.1f} by the clock, {whole[1] / hashing[1]:.1f} of CPU time")


if __name__ == "__main__":
    main()
