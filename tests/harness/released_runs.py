"""Run folders that a release could stand on: rows about numerics from real arrays, a latency row from samples, in moments."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness import gates
from harness.config import BoardConfig, Budget, Configuration, LoadRule, ModelConfig
from harness.limits import LIMITS_FILE, limits_of, limits_text
from harness.packs.folder import Pack
from harness.profiles import PROFILES
from harness.records import Case, Check, Measurement, Outcome, Run, Summary, Verdict, run_from_text, to_json
from harness.run_folder import RunFolder
from harness.tier2.latency_gate import judge
from harness.tier2.samples import UNKNOWN, Phase
from runtime.protocol import Array
from tests.harness.numeric_runs import MODEL, a_pack, a_run, as_computed, rows

PARITY = f"{MODEL}-onnx_trt_ep-fp32-b1"
LATENCY = f"{MODEL}-onnx_trt_ep-fp32-b1-latency"
ENGINE = "e9" * 32
REQUIRE = ("onnx_trt_ep",)
BUDGET_MS = 20.0
BEGUN, ENDED = "2026-11-21T10:00:00+00:00", "2026-11-21T11:00:00+00:00"


def samples(took_ms: float, count: int = 5_000) -> dict[str, Array]:
    """Of one launch at 39 Hz, ``took_ms`` each, give or take 5 %."""
    zero = np.zeros(count, np.int64)
    due = np.round(np.arange(count) * 1e9 / 39).astype(np.int64)
    took = (took_ms * 1e6 * np.random.default_rng(2).lognormal(0.0, 0.05, count)).astype(np.int64)
    return {
        "launch": zero, "stream": zero, "scheduled_ns": due, "woke_ns": due, "started_ns": due, "done_ns": due + took,
        "phase": zero + Phase.MEASURE, "status": zero,
        **dict.fromkeys(("h2d_ns", "compute_ns", "d2h_ns", "wait_ns"), zero + UNKNOWN),
    }  # fmt: skip


def configuration() -> Configuration:
    model = ModelConfig(MODEL, load=LoadRule(39.0), budget={"orin": Budget(p95_ms=BUDGET_MS)})
    boards = {"orin": BoardConfig("orin")}
    return Configuration("c.toml", Path(), "c0" * 32, boards=boards, models={MODEL: model})


def a_release(folder: Path, pack: Pack | None = None, *, took_ms: float = 12.0) -> Run:
    """A finished run in ``folder``: a parity row and a latency row that are required, and one of another runtime that did not
    run. They pass, unless calls take longer than 20 ms.
    """
    pack = pack or a_pack(folder.parent / "pack")
    case = replace(rows()[0], required=True)
    run = a_run(folder, pack, lambda *_: as_computed(), cases=[case], lineage={"engine": ENGINE})
    return _timed(folder, run, took_ms)


def timed_alone(folder: Path, took_ms: float = 12.0) -> Run:
    """A finished run whose one measured row is about latency: made in milliseconds."""
    run = Run(
        id="timed", started_at=BEGUN, finished_at=ENDED, complete=True, exit_code=0, last_line="", command="trigate run",
        seed=0, settings={}, environment={}, configuration_sha256="c0" * 32, pack_sha256="9a" * 32, planned=(), verdicts=(),
        trigate_version="0.1.0",
    )  # fmt: skip
    return _timed(folder, run, took_ms, resume=False)


def slower(folder: Path, like: Path, took_ms: float = 25.0) -> Run:
    """The same with calls that take so long; a run of its own."""
    shutil.copytree(like, folder)
    run = run_from_text((folder / "run.json").read_text())
    return _timed(folder, replace(run, id=f"{run.id[:-4]}51ow", verdicts=run.verdicts[:1]), took_ms)


def _timed(folder: Path, run: Run, took_ms: float, *, resume: bool = True) -> Run:
    """With a row about latency, and one that did not run."""
    timed = Case(LATENCY, 2, "latency", MODEL, "onnx_trt_ep", "fp32", "fp32", "small", required=True)
    absent = Case(f"{MODEL}-tensorrt-fp16-b1", 1, "parity", MODEL, "tensorrt", "fp16", "fp16", "small")
    measured = Measurement(
        timed, "here[cpu]", provider="cpu", rate_hz=39.0, profile="pr", samples_file=f"samples/{LATENCY}.parquet",
        lineage={"engine": ENGINE},
    )  # fmt: skip
    limits = limits_of(configuration(), configuration().models, "orin", REQUIRE)
    latency = judge(
        measured, samples(took_ms), None, budget=Budget(p95_ms=BUDGET_MS), profile=PROFILES["pr"], floor=None
    )
    verdicts = (*run.verdicts, latency, gates.not_run(absent, "tensorrt: not installed"))
    run = replace(
        run,
        planned=tuple(verdict.case for verdict in verdicts),
        settings={**run.settings, "board": "orin", "profile": "pr"},
        verdicts=verdicts,
        exit_code=gates.exit_code(verdicts, REQUIRE),
        last_line=gates.last_line(verdicts, REQUIRE),
    )
    with RunFolder(folder, resume=resume) as opened:
        opened.write_samples(f"samples/{LATENCY}.parquet", samples(took_ms))
        opened.write(LIMITS_FILE, limits_text(limits))
        opened.write_run(run)
    return run


def another(folder: Path, like: Run, verdicts: tuple[Verdict, ...], **changes: object) -> Run:
    """A run of the same pack without files, whose rows are told by the record alone."""
    run = replace(
        like,
        id=folder.name,
        planned=tuple(verdict.case for verdict in verdicts),
        verdicts=verdicts,
        exit_code=gates.exit_code(verdicts, ()),
        last_line=gates.last_line(verdicts, ()),
    )
    run = replace(run, **changes)  # type: ignore[arg-type] # fields by name
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(to_json(run)))
    (folder / LIMITS_FILE).write_bytes(limits_text(limits_of(configuration(), configuration().models, "", ())))
    return run


def a_clause(name: str = "conformance-null", outcome: Outcome = Outcome.PASS, **of_case: object) -> Verdict:
    """A row that the record alone tells."""
    case = replace(Case(name, 0, "conformance", "", "null", "", "", ""), **of_case)  # type: ignore[arg-type] # fields by name
    return Verdict(Summary(Measurement(case)), outcome, "1 clause", (Check("clause", outcome, "so it is"),))
