"""Runs as the harness keeps them, made by hand and loaded: two models, two runtimes, three boots of the base. Seeded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.compare.load import LaunchSeen, Loaded
from harness.records import (
    BoardState,
    Case,
    Check,
    Figure,
    Measurement,
    Outcome,
    ParityFigures,
    Run,
    Summary,
    Tolerance,
    Verdict,
)

CAPS = {"gpu_mhz": 1173.0, "emc_mhz": 3199.0, "online_cpus": 8.0}
CLOCK_MHZ = 1000.0


def case(model: str, kind: str, runtime: str = "tensorrt", precision: str = "fp16", **given: Any) -> Case:
    ends = "" if kind == "parity" else f"-{kind}"
    name = f"{model}-{runtime}-{precision}-b{given.get('batch', 1)}{ends}"
    return Case(name, 2, kind, model, runtime, precision, precision, "flight", **given)


def measured(row: Case, boot: str, **given: Any) -> Measurement:
    board = BoardState(module="p3767-0000", caps=CAPS, boot_id=boot, source="files of the kernel", gpu_processes=())
    base = Measurement(
        case=row,
        placement=f"{row.runtime}[cuda]",
        provider="cuda",
        precision_ran=row.precision,
        nodes_by_provider={"TensorRT": 12},
        nodes_by_precision={"fp16": 11, "fp32": 1},
        model_sha256=f"{boot}-engine",
        input_sha256=("aa" * 32, "bb" * 32),
        timing_boundary="host clock around infer()",
        profile="pr",
        board_start=board,
        board_end=board,
        duration_ns=600 * 10**9,
    )
    return replace(base, **given)


def parity_of(error: float, limit: float = 2e-3, output: str = "scores", **given: Any) -> ParityFigures:
    tolerance = Tolerance(output, "derived", limit, limit / 2)
    base = ParityFigures(
        output, (1, 8), "float32", 4, error, error / 2, error, "0[0,1]", error, 1.0, 60.0, 0, 0, tolerance
    )
    return replace(base, **given)


def launch(ms: float, *, clock_mhz: float = CLOCK_MHZ, number: int = 0, **given: Any) -> LaunchSeen:
    """A launch whose p95 is a tenth over its p50, with cycles that follow from the clock."""
    p50, p95 = ms * 1e6, 1.1 * ms * 1e6
    seen = LaunchSeen(
        number, 400, 0, p50, p95, p50, p95, p50 * clock_mhz * 1e-9, p95 * clock_mhz * 1e-9, clock_mhz, 0.0
    )
    return replace(seen, **given)


def a_run(
    name: str,
    *,
    boot: str,
    ms: float = 10.0,
    seed: int = 0,
    launches: int = 3,
    clock_mhz: float = CLOCK_MHZ,
    gpu_bytes: float = 400e6,
    host_bytes: float = 200e6,
    energy_j: float = 0.4,
    load_ms: float = 300.0,
    build_s: float = 30.0,
    error: float = 4e-4,
    change: Callable[[Verdict], Verdict] = lambda verdict: verdict,
    environment: dict[str, str] | None = None,
    **given: Any,
) -> Loaded:
    """A run of one boot: parity and latency of ``disk``, its load row, and the memory of all."""
    chance = np.random.default_rng([seed, *boot.encode()])
    level = float(np.exp(0.004 * chance.standard_normal()))
    timed, loaded, memory, parity = (
        case("disk", "latency"), case("disk", "load"), case("memory", "memory"), case("disk", "parity")
    )  # fmt: skip
    seen = [
        launch(ms * level * float(np.exp(0.003 * chance.standard_normal())), clock_mhz=clock_mhz, number=at)
        for at in range(launches)
    ]
    rounds = [
        figure
        for at in range(4)
        for figure in (
            Figure(f"load_ns[warm {at}]", load_ms * 1e6 * level * (1 + 0.01 * at), "ns", "a fresh process"),
            Figure(f"compile_ns[cold {at}]", build_s * 1e9 * level * (1 + 0.02 * at), "ns", "a fresh process"),
        )
    ]
    power = energy_j * 39 * level
    verdicts = [
        Verdict(Summary(measured(parity, boot), parity=(parity_of(error),)), Outcome.PASS, "within its tolerance"),
        Verdict(
            Summary(
                measured(timed, boot, rate_hz=39.0, sample_count=1200, launches=launches),
                figures=(
                    Figure("energy_per_call_j", energy_j * level, "J", "the energy counter"),
                    Figure("mean_power_w", power, "W", "the energy counter"),
                ),
            ),
            Outcome.PASS,
            "p95 is under 60 ms",
        ),
        Verdict(Summary(measured(loaded, boot), figures=tuple(rounds)), Outcome.MEASURED, "load up to 300 ms"),
        Verdict(
            Summary(
                measured(memory, boot),
                figures=(
                    Figure("gpu_bytes", gpu_bytes, "bytes", "NvMap, worst of 3 looks"),
                    Figure("host_bytes", host_bytes, "bytes", "the process's pages, worst of 3 looks"),
                ),
            ),
            Outcome.PASS,
            "within budget",
        ),
    ]
    changed = tuple(change(verdict) for verdict in verdicts)
    run = Run(
        id=f"id-{name}",
        started_at="2026-03-04T10:00:00+00:00",
        finished_at="2026-03-04T10:40:00+00:00",
        complete=True,
        exit_code=0,
        last_line="PASS 3.",
        command="trigate run",
        seed=0,
        settings={"profile": "pr", "size": "flight"},
        environment={"jetpack": "6.2", "tensorrt": "10.3.0", "cpu": "Orin", **(environment or {})},
        configuration_sha256="c0" * 32,
        pack_sha256="9a" * 32,
        planned=tuple(verdict.case for verdict in changed),
        verdicts=changed,
        trigate_version="0.1.0",
    )
    return Loaded(name, replace(run, **given), {timed.id: {"disk": tuple(seen)}} if seen else {})


def base_runs(**given: Any) -> list[Loaded]:
    """Three boots of the old version."""
    return [a_run(f"old-{boot}", boot=boot, **given) for boot in ("b1", "b2", "b3")]


NEWER = {"jetpack": "7.2", "tensorrt": "10.16.0"}


def new_runs(boots: Sequence[str] = ("n1", "n2"), **given: Any) -> list[Loaded]:
    """Boots of the new version."""
    given.setdefault("environment", NEWER)
    return [a_run(f"new-{boot}", boot=boot, **given) for boot in boots]


def on(kind: str, turn: Callable[[Verdict], Verdict]) -> Callable[[Verdict], Verdict]:
    """A change of the rows of one kind."""
    return lambda verdict: turn(verdict) if verdict.case.kind == kind else verdict


def with_measurement(**given: Any) -> Callable[[Verdict], Verdict]:
    """A change of what was observed in a row."""
    return lambda verdict: replace(
        verdict, summary=replace(verdict.summary, measurement=replace(verdict.summary.measurement, **given))
    )


def broken(verdict: Verdict, error: str = "EngineBuildError: no kernel for node /Softmax") -> Verdict:
    """The row as a refusal leaves it."""
    measurement = Measurement(case=verdict.case, error=error)
    return Verdict(Summary(measurement), Outcome.FAIL, error, (Check("model", Outcome.FAIL, error),))


def not_run(verdict: Verdict, reason: str = "tensorrt: not installed") -> Verdict:
    """The row where it could not run."""
    return Verdict(Summary(Measurement(case=replace(verdict.case, not_run=reason))), Outcome.NOT_RUN, reason)
