"""Run folders as the harness writes them, made by hand: every outcome, six models, hostile names. Seeded."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from harness.records import (
    ABOUT_A_FLIGHT,
    BoardState,
    Case,
    Check,
    Divergence,
    Figure,
    FlownStream,
    Judgement,
    LatencyFigures,
    LaunchFigures,
    LayerFinding,
    Measurement,
    Outcome,
    ParityFigures,
    Quantile,
    Run,
    Summary,
    Tolerance,
    Verdict,
    to_json,
)

MODELS = {
    "disk": ("keypoints", "descriptors", "scores"),
    "aliked": ("keypoints", "descriptors"),
    "xfeat": ("features", "heatmap"),
    "lightglue": ("matches", "scores"),
    "ultravpr": ("descriptor",),
    "adhop": ("refined",),
}
HOSTILE = "<script>alert('x')</script>|`a`*b* @octocat #1 \u202egnp \x00\x1b[31m \ud800 名前 عربي"
SPEED_MS = {"disk": 61.0, "aliked": 44.0, "xfeat": 9.5, "lightglue": 18.0, "ultravpr": 31.0, "adhop": 37.0}
FACTOR = {"onnx_trt_ep": 1.0, "pytorch_fp16": 2.7, "tensorrt": 0.2}
CPU = {"onnx_trt_ep": "onnx_trt_ep[cpu]", "pytorch_fp16": "pytorch_fp16[cpu]"}
SHORT = {"onnx_trt_ep": "ort", "pytorch_fp16": "torch", "tensorrt": "tensorrt"}


def write_run(folder: Path, run: Run) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(to_json(run), indent=1, allow_nan=False), encoding="utf-8")
    return folder


def case(
    model: str, runtime: str, precision: str, kind: str = "parity", *, against: str = "", required: bool = False
) -> Case:
    ends = {"parity": "", "pair": f"-vs-{against}"}
    covers = {
        "parity": ("T1-01", "T1-03"),
        "pair": ("T1-01", "PT-01"),
        "latency": ("T2-01", "T2-02"),
        "semantic": ("T1-01",),
    }
    return Case(
        id=f"{model}-{runtime}-{precision}-b1{ends.get(kind, f'-{kind}')}",
        tier=2 if kind == "latency" else 1,
        kind=kind,
        model=model,
        runtime=runtime,
        precision=precision,
        lane="fp32" if precision == "fp32" else "fp16",
        size="small",
        against=against,
        required=required,
        covers=covers.get(kind, ()),
    )


def measured(row: Case, **given: object) -> Measurement:
    base = Measurement(
        case=row,
        placement=CPU.get(row.runtime, f"{row.runtime}[cuda]"),
        lane_name=f"{SHORT.get(row.runtime, row.runtime)} · {row.precision}",
        provider="cpu",
        precision_ran=row.precision,
        nodes_by_provider={"CPUExecutionProvider": 36},
        model_sha256="5f" * 32,
        input_sha256=("aa" * 32, "bb" * 32),
        load_ns=412_000_000,
        threads={"intra_op": 2},
        board_start=BoardState(cpu_temp_c=48.0, load_1min=0.4),
        board_end=BoardState(cpu_temp_c=57.5, load_1min=1.9),
        seed=7,
        started_at="2026-03-04T10:00:00+00:00",
        duration_ns=1_730_000_000,
    )
    return replace(base, **given)  # type: ignore[arg-type] # fields by name


def parity_of(name: str, error: float, limit: float | None) -> ParityFigures:
    tolerance = None
    if limit is not None:
        why = "2 × p99 of 8 Monte-Carlo rounding runs, u = 2^-11"
        tolerance = Tolerance(name, "derived", limit, limit * 0.6, amplification=6.2, why=why)
    return ParityFigures(
        output=name,
        shape=(1, 1024, 2),
        dtype="float32",
        samples=4,
        rel_l2_max=error,
        rel_l2_median=error * 0.45,
        max_abs=error * 12,
        max_abs_at="2[0, 511, 1]",
        max_rel=error * 310,
        cosine_min=1 - error**2,
        sqnr_db=math.inf if error == 0 else -20 * math.log10(error),
        nan=0,
        inf=0,
        tolerance=tolerance,
    )


def write_errors(folder: Path, row: Case, outputs: Sequence[ParityFigures], seed: int) -> str:
    generator = np.random.default_rng(seed)
    arrays = {}
    for figures in outputs:
        reference = generator.normal(0, 3, 2000)
        error = generator.standard_t(4, 2000) * 3 * (figures.rel_l2_median or 0.0)
        error[:140] = 0.0
        arrays[f"{figures.output}/reference"], arrays[f"{figures.output}/error"] = reference, error
    name = f"outputs/{row.id}.npz"
    (folder / "outputs").mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / name, **arrays)  # type: ignore[arg-type]  # the stub takes every keyword for allow_pickle
    return name


def write_samples(folder: Path, name: str, latency_ns: np.ndarray, *, warmup: int = 10, failed: int = 0) -> str:
    count = len(latency_ns)
    done = np.cumsum(latency_ns)
    started = done - latency_ns
    table = {
        "call": np.arange(count),
        "scheduled_ns": started,
        "woke_ns": started,
        "started_ns": started,
        "done_ns": done,
        "phase": ["warmup"] * warmup + ["measure"] * (count - warmup),
        "ok": [True] * (count - failed) + [False] * failed,
    }
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    return name


def latency_of(values_ns: np.ndarray, failed: int = 0) -> LatencyFigures:
    ordered = np.sort(values_ns)
    count = len(ordered)

    def quantile(p: float) -> Quantile:
        reach = 1.96 * math.sqrt(p * (1 - p) / count)
        low, high = max(0, int((p - reach) * count)), math.ceil((p + reach) * count)
        value = int(ordered[min(int(p * count), count - 1)])
        return Quantile(p, value, int(ordered[low]), int(ordered[high]) if high < count else None, 0.95)

    return LatencyFigures(
        count, failed, quantile(0.5), quantile(0.95), quantile(0.99), float(ordered.mean()),
        int(ordered[0]), int(ordered[-1]), 1e9 / float(ordered.mean()),
    )  # fmt: skip


def full_run(folder: Path) -> Run:
    """Six models on two runtimes with TensorRT missing: every outcome, a divergence, a simulated row, a hostile name."""
    verdicts: list[Verdict] = []
    for at, (model, outputs) in enumerate(MODELS.items()):
        verdicts += _parity_rows(folder, model, outputs, at)
        verdicts += [_pair(model, outputs, precision) for precision in ("fp32", "fp16")]
        verdicts += [_missing(case(model, "tensorrt", "fp16", "pair", against="pytorch_fp16"))]
        verdicts += [_latency(folder, model, runtime, at) for runtime in ("onnx_trt_ep", "pytorch_fp16")]
    verdicts += _hostile(folder)
    run = Run(
        id="0f8c2a6e4b7d4c13a5b0c9d8e7f60123",
        started_at="2026-03-04T10:00:00+00:00",
        finished_at="2026-03-04T10:06:12+00:00",
        complete=True,
        exit_code=1,
        last_line="PASS 23, FAIL 1, INCONCLUSIVE 1, MEASURED 25, NOT RUN 18 (tensorrt: not installed). "
        "No evidence about TensorRT.",
        command="trigate run fixtures/flight.toml --tier 0 1 2 --size small --require pytorch_fp16 --seed 7",
        seed=7,
        settings={"tier": "0 1 2", "size": "small", "require": "pytorch_fp16", "device": "auto", "profile": "quick"},
        environment={"os": "Linux 6.8", "cpu": "Example CPU @ 2.10GHz", "cpu_count": "2", "python": "3.11.9", "torch": "2.13.0",
                     "onnxruntime-gpu": "1.31.1", "numpy": "2.4.0", "evil": HOSTILE},
        configuration_sha256="c0" * 32,
        pack_sha256="9a" * 32,
        planned=tuple(verdict.case for verdict in verdicts),
        verdicts=tuple(verdicts),
        trigate_version="0.1.0",
    )  # fmt: skip
    write_run(folder, run)
    return run


def _parity_rows(folder: Path, model: str, outputs: Sequence[str], at: int) -> list[Verdict]:
    rows = []
    for runtime in ("onnx_trt_ep", "pytorch_fp16"):
        for precision, error, limit in (("fp32", 4.1e-7, 1.9e-6), ("fp16", 6.4e-4, 2.1e-3)):
            row = case(model, runtime, precision, required=runtime == "pytorch_fp16")
            broken = model == "lightglue" and row.id.startswith("lightglue-onnx_trt_ep-fp32")
            unstable = model == "adhop" and runtime == "pytorch_fp16" and precision == "fp16"
            factor = 40.0 if broken else 0.4 + 0.1 * at
            figures = [parity_of(output, error * factor * (1 + 0.3 * k), limit) for k, output in enumerate(outputs)]
            no_witness = runtime == "onnx_trt_ep" and precision == "fp16"
            note = "asked for fp16, computed in fp32: no witness of fp16 arithmetic"
            measurement = measured(
                row,
                errors_file=write_errors(folder, row, figures, seed=at),
                witness=not no_witness,
                precision_ran="fp32" if no_witness else precision,
                notes=(note,) if no_witness else (),
            )
            outcome = Outcome.FAIL if broken else Outcome.INCONCLUSIVE if unstable else Outcome.PASS
            worst = max(figures, key=lambda entry: entry.rel_l2_max or 0.0)
            reason = f"{worst.output}: relative L2 error at most {worst.rel_l2_max:.3g}; derived tolerance {limit:.3g}"
            reason += f"; {note}" if no_witness else ""
            reason = (
                "the reference is unstable here: κ·u > 0.1; a larger sample of inputs would decide"
                if unstable
                else reason
            )
            checks = tuple(Check(f"parity {entry.output}", outcome, reason) for entry in figures)
            summary = Summary(measurement, parity=tuple(figures), task={"recall": 0.914} if model == "ultravpr" else {})
            remedy = "Run the command under “See it again”." if broken else ""
            rows.append(Verdict(summary, outcome, reason, checks, _divergence(row) if broken else None, remedy))
    return [*rows, *(_missing(case(model, "tensorrt", precision)) for precision in ("fp32", "fp16"))]


def _divergence(row: Case) -> Divergence:
    first = LayerFinding(
        "/transformers.3/self_attn/Softmax", "Softmax", "transformers.3.self_attn", "attention", 3.1e-4, 3.3e-4, 8.0e-8,
        "Softmax of transformers.3.self_attn: the attention scale differs by about 5 %, 3,900 times its own rounding noise.",
    )  # fmt: skip
    suspect = replace(
        first, layer="/transformers.4/mlp/Gelu", operator="Gelu", local_error=2.2e-7, words="follows the first"
    )
    return Divergence(
        first,
        (suspect,),
        smallest_input="8 of 64 keypoints, 1 of 4 samples",
        smallest_input_file=f"failures/{row.id}/inputs.npz",
        reproduce=f"trigate run --model lightglue --runtime onnx_trt_ep --inputs failures/{row.id}/inputs.npz",
        keep_fp32=("/transformers.3/self_attn/Softmax",),
    )


def _missing(row: Case) -> Verdict:
    remedy = "Install it with: python -m pip install 'trigate[trt]'."
    return Verdict(Summary(Measurement(case=row)), Outcome.NOT_RUN, "tensorrt: not installed", remedy=remedy)


def _pair(model: str, outputs: Sequence[str], precision: str) -> Verdict:
    row = case(model, "onnx_trt_ep", precision, "pair", against="pytorch_fp16")
    figures = tuple(parity_of(output, 5e-7 if precision == "fp32" else 7e-4, None) for output in outputs)
    summary = Summary(measured(row), parity=figures)
    return Verdict(summary, Outcome.MEASURED, "against pytorch_fp16: largest relative L2 difference 7.00e-04")


def _latency(folder: Path, model: str, runtime: str, at: int, calls: int = 400) -> Verdict:
    row = case(model, runtime, "fp16", "latency")
    generator = np.random.default_rng(100 + at)
    body = SPEED_MS[model] * FACTOR[runtime] * np.exp(generator.normal(0, 0.06, calls + 10))
    spikes = generator.random(calls + 10) < 0.02
    latency_ns = (1e6 * np.where(spikes, body * 2.6, body)).astype(np.int64)
    figures = latency_of(latency_ns[10:])
    measurement = measured(
        row,
        samples_file=write_samples(folder, f"samples/{row.id}.parquet", latency_ns),
        sample_count=calls,
        first_call_ns=int(latency_ns[0] * 3),
        timing_boundary="host clock around infer(): inputs and outputs on the host",
    )
    reason = f"p95 {figures.p95.value_ns / 1e6:.3g} ms, {calls} calls; no budget applies to this board"
    return Verdict(Summary(measurement, latency=figures), Outcome.MEASURED, reason)


def _hostile(folder: Path) -> list[Verdict]:
    simulated = replace(case("evil", "tensorrt", "int8", required=True), model=HOSTILE, id="evil-tensorrt-int8-b1")
    figures = parity_of(HOSTILE.replace("\x00", "").replace("\ud800", ""), 1e-3, 2e-3)  # what a zip can hold as a name
    files = {"errors_file": write_errors(folder, simulated, [figures], seed=3)}
    measurement = measured(
        simulated, simulated=True, lane_name=f"tensorrt · int8 {HOSTILE}", warnings=(HOSTILE,), **files
    )
    first = Verdict(
        Summary(measurement, parity=(figures,)), Outcome.PASS, HOSTILE, (Check(HOSTILE, Outcome.PASS, HOSTILE),)
    )
    escaping = replace(case("evil", "tensorrt", "fp16", "latency"), model=HOSTILE, id="evil-tensorrt-fp16-b1-latency")
    damaged = measured(escaping, samples_file="../../etc/passwd", errors_file="outputs/absent.npz")
    figures_ns = latency_of(np.full(30, 5_000_000))
    return [first, Verdict(Summary(damaged, latency=figures_ns), Outcome.MEASURED, "p95 5 ms")]


# Tier-2: one simulated model under its budget, one model that is not decided, and every kind of row about a flight.

STREAMS = ("lightglue", "ultravpr")
BUDGET_NS = 60_000_000
FIGURES = (
    Figure("h2d_p50_ns", 94_160.0, "ns", "device events"),
    Figure("compute_p50_ns", 25_014_587.0, "ns", "device events"),
    Figure("wait_p50_ns", None, "ns", why="the runtime does not split its time"),
    Figure("harness_late_p99_ns", 0.0, "ns", "woke less due"),
    Figure("throttled_requests_share", 25.0, "%", "telemetry beside the samples"),
    Figure("mean_power_w", 8.264, "W", "the energy counter"),
    Figure("energy_per_call_j", 2.7477, "J", "the energy counter"),
    Figure("gpu_clock_min_mhz", 510.0, "MHz", "telemetry"),
    Figure("gpu_clock_max_mhz", 1173.0, "MHz", "telemetry"),
    Figure("tj_temp_start_c", 67.2, "°C", "telemetry"),
    Figure("tj_temp_max_c", 99.0, "°C", "telemetry"),
    Figure("process_peak_bytes", 398_458_880.0, "bytes", "the process's high-water mark"),
    Figure("driver_process_bytes", None, "bytes", why="an Orin's driver does not tell it"),
)


def tier2_case(kind: str, model: str = "", runtime: str = "tensorrt") -> Case:
    about = kind in ABOUT_A_FLIGHT
    return Case(
        id=f"{kind}-{runtime}-fp16" if about else f"{model}-{runtime}-fp16-b1-{kind}",
        tier=2,
        kind=kind,
        model=kind if about else model,
        runtime=runtime,
        precision="fp16",
        lane="fp16",
        size="flight",
        simulated="hot" if runtime == "tensorrt" else "",
        covers=("T2-01", "T2-03"),
    )


def write_tier2_samples(folder: Path, name: str, *, launches: int = 2, calls: int = 400, mixed: bool = False) -> str:
    """As ``tier2.samples`` lays them out: 100 calls before the measurement begins; the last quarter meets a throttled board.

    One request in fifty of the measured failed. Launches begin at unlike times: each has its own origin.
    """
    generator = np.random.default_rng(11)
    columns: dict[str, list[np.ndarray]] = {}
    for launch in range(launches):
        scheduled = 300_000_000 * (1 + launch) + np.arange(calls) * 25_000_000
        throttled = np.arange(calls) >= 3 * calls // 4
        took = (1e6 * np.where(throttled, 20.0, 10.0) * np.exp(generator.normal(0, 0.05, calls))).astype(np.int64)
        columns.setdefault("launch", []).append(np.full(calls, launch))
        columns.setdefault("stream", []).append(np.arange(calls) % 4 // 3 * mixed)
        for at in ("scheduled_ns", "woke_ns", "started_ns"):
            columns.setdefault(at, []).append(scheduled)
        columns.setdefault("done_ns", []).append(scheduled + took)
        columns.setdefault("phase", []).append(np.where(np.arange(calls) < 100, 1, 2))
        columns.setdefault("status", []).append(np.where(np.arange(calls) % 50 == 49, 1, 0))
        columns.setdefault("throttled", []).append(throttled.astype(np.int8))
    table = {name: np.concatenate(parts) for name, parts in columns.items()}
    table["model"] = np.array(STREAMS, object)[table["stream"]]
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    return name


def write_trace(folder: Path, name: str, *, launches: int = 2) -> str:
    """As ``harness.instruments.recording.trace_table`` lays it out: ten frames a second; the clock falls for the last quarter."""
    frames = 110
    at = np.concatenate([300_000_000 * (1 + launch) + np.arange(frames) * 100_000_000 for launch in range(launches)])
    part = np.tile(np.arange(frames) / frames, launches)
    table = {
        "launch": np.repeat(np.arange(launches), frames),
        "at_ns": at,
        "gpu_clock_mhz": np.where(part < 0.75, 1173.0, 510.0),
        "tj_temp_c": 60.0 + 39.0 * part,
        "power_w": np.full(len(at), 21.5),
        "fan_rpm": np.full(len(at), np.nan),
        "alerts": [""] * len(at),
        "missing": [""] * len(at),
    }
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    return name


def judgement_of(
    figures: LatencyFigures, outcome: Outcome, *, needed: int | None = None, launches: int = 2
) -> Judgement:
    def launch(at: int) -> LaunchFigures:
        return LaunchFigures(
            at,
            300,
            6,
            figures.p50.value_ns,
            figures.p95.value_ns,
            6,
            100,
            1.7,
            7.6,
            -2.2,
            outcome,
            "6 of 300 over the budget",
        )

    return Judgement(
        rule="at most 5 % of the requests over the budget",
        budget_ns=BUDGET_NS,
        alpha=0.05,
        floor=3.0,
        floor_source="12 runs of this board",
        effect=3.0,
        bound_ns=26_584_297,
        drift=0.0107,
        needed=needed,
        blind_spot="clusters of slow calls rarer than about one in 12 s are not bounded",
        launches=tuple(launch(at) for at in range(launches)),
    )


def tier2_run(folder: Path) -> Run:
    """Rows of Tier-2: a model that passes and one that is not decided, load, and each kind about a flight; all simulated."""
    board = BoardState(
        gpu_temp_c=63.2, clock_mhz=1173.0, throttled=False, power_mode="MAXN_SUPER", power_mode_id=0, module="Orin NX 16GB",
        caps={"gpu_mhz": 1173.0, "emc_mhz": 3199.0}, is_pinned=True, governor="nvhost_podgov", gpu_processes=(),
        temperatures_c={"tj-thermal": 63.1875}, available_bytes=14_914_945_024, uptime_s=4_000.0, boot_id="b1", source="sysfs",
    )  # fmt: skip
    hot = replace(board, gpu_temp_c=99.0, power_mode="15W", power_mode_id=2, throttled=True)

    def seen(row: Case, **given: object) -> Measurement:
        return measured(
            row, simulated=True, witness=False, placement="tensorrt[simulated hot]", board_start=board, board_end=hot,
            profile="pr", rate_hz=39.0, deadline_ns=333_000_000, launches=2, **given
        )  # fmt: skip

    def sampled(row: Case, **given: bool) -> Measurement:
        streams = {"streams": tuple(FlownStream(model, "fp16", "fp16", deadline_ns=333_000_000) for model in STREAMS)}
        files = {
            "samples_file": write_tier2_samples(folder, f"samples/{row.id}.parquet", **given),
            "trace_file": write_trace(folder, f"traces/{row.id}.parquet"),
        }
        return seen(row, **files, **(streams if given.get("mixed") else {}))

    figures = latency_of(np.full(588, 10_500_000) + np.arange(588) * 20_000, failed=12)
    figures = replace(figures, count=600)
    verdicts = []
    for model, outcome, needed in (("lightglue", Outcome.PASS, None), ("ultravpr", Outcome.INCONCLUSIVE, 900)):
        summary = Summary(
            sampled(tier2_case("latency", model)),
            latency=figures,
            figures=FIGURES,
            judgement=judgement_of(figures, outcome, needed=needed),
        )
        checks = (
            Check("p95", outcome, "12 of 600 over it"),
            Check("throttling", Outcome.MEASURED, "25 % were throttled"),
        )
        verdicts.append(Verdict(summary, outcome, f"p95 against 60 ms: {model}", checks))
    of_load = [
        Figure(f"load_{name}", 4e8, "ns", "5 fresh processes", 3e8, 5e8) for name in ("p50_ns", "p95_ns", "max_ns")
    ]
    of_load.append(Figure("first_load_max_ns", 9e9, "ns", "1 fresh process"))
    load = Summary(seen(tier2_case("load", "lightglue")), figures=tuple(of_load))
    verdicts.append(Verdict(load, Outcome.MEASURED, "load up to 400 ms"))
    verdicts += _about_a_flight(seen, sampled, figures)
    run = Run(
        id="2b8c2a6e4b7d4c13a5b0c9d8e7f60124", started_at="2026-03-04T10:00:00+00:00", finished_at="2026-03-04T11:00:00+00:00",
        complete=True, exit_code=1, last_line="PASS 2, FAIL 2, INCONCLUSIVE 1, MEASURED 3.",
        command="trigate run --simulated hot --profile pr", seed=0,
        settings={"profile": "pr"}, environment={"os": "Linux 6.8"}, configuration_sha256="c0" * 32, pack_sha256="",
        planned=tuple(verdict.case for verdict in verdicts), verdicts=tuple(verdicts), trigate_version="0.1.0",
    )  # fmt: skip
    write_run(folder, run)
    return run


def _about_a_flight(
    seen: Callable[..., Measurement], sampled: Callable[..., Measurement], figures: LatencyFigures
) -> list[Verdict]:
    by_model = tuple(
        figure
        for model in STREAMS
        for figure in (
            Figure(f"compute_p50_ns[{model}]", 10_108_077.0, "ns", "device events"),
            Figure(
                f"deadline_misses.{model}[{model}]",
                406.0,
                "count",
                "of 1801 requests, later than 333 ms, failed or dropped",
            ),
            Figure(f"utilisation[{model}]", 0.708, "ratio", "mean service time times rate"),
        )
    )
    checks = tuple(Check(model, Outcome.FAIL, f"{model}: p95 is over 333 ms") for model in STREAMS)
    flight = Summary(
        sampled(tier2_case("flight"), mixed=True), latency=figures, figures=(*by_model, *FIGURES),
        judgement=judgement_of(figures, Outcome.FAIL),
    )  # fmt: skip
    heat = Summary(
        sampled(tier2_case("heat"), mixed=True),
        latency=figures,
        figures=(
            Figure("time_to_throttle_s", 385.35, "s", "the throttle detector"),
            Figure("hot_over_cold_p95", 17.0, "ratio", "the last minutes over the first", 11.4, None),
            Figure("cool_down_s", None, "s", "tj_temp_c", why="it was not reached in the trace"),
            Figure("exceeding_p50_cycles", 10_739_574.9, "count", "time of the call × the GPU's clock then"),
        ),
    )
    marks = tuple(
        Figure(f"{kind}{about}", value * 2**20, "bytes", f"source of {kind}, worst of 12 looks, worst of 1 look")
        for about, value in (("[lightglue]", 200.0), ("[ultravpr]", 300.0), ("", 1423.4))
        for kind in ("host_bytes", "gpu_bytes")
    )
    memory = Summary(
        seen(tier2_case("memory")),
        figures=(
            *marks,
            Figure("total_bytes", None, "bytes", why="the card has its own memory"),
            Figure("process_peak_bytes[lightglue]", 91_330_970.0, "bytes", "VmHWM, worst of 15 looks"),
            Figure("leak_bytes_per_cycle[lightglue gpu]", 0.0, "bytes", "slope of 20 looks", 0.0, 0.0),
        ),
    )
    leak = Check("leak of lightglue gpu", Outcome.PASS, "no growth seen")
    takeoff = Summary(
        seen(tier2_case("takeoff")),
        figures=(
            Figure("takeoff_ready_ns", 1.21e9, "ns", "a fresh process"),
            Figure("restart_ready_ns", 1.28e9, "ns", "a fresh process after a SIGKILL"),
            Figure("kept_after_kill_bytes", None, "bytes", why="neither NvMap nor MemAvailable is told"),
        ),
    )
    harness = Summary(seen(tier2_case("harness")), figures=(Figure("sample_cost_ns", 417.0, "ns", "storing one row"),))
    return [
        Verdict(flight, Outcome.FAIL, "lightglue: p95 is over 333 ms", checks),
        Verdict(heat, Outcome.FAIL, "p95 over the sustained time", remedy="Cool the board better."),
        Verdict(
            memory, Outcome.PASS, "host memory 300 MiB of 1.5 GiB", (leak, Check("host memory", Outcome.PASS, "under"))
        ),
        Verdict(takeoff, Outcome.MEASURED, "take-off ready in 1.21 s"),
        Verdict(harness, Outcome.MEASURED, "the harness itself costs 417 ns a sample"),
    ]
