"""Run folders as a sign-off leaves them, made in bulk: rows of many models with all their samples and layers. Seeded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from harness.layers import Layers
from harness.records import Figure, Outcome, Run, Summary, Verdict, to_json
from harness.tier2.samples import COLUMNS
from runtime.data import EngineLayer
from tests.harness.compared_runs import NEWER, a_run, broken, case, measured, parity_of

KINDS = ("latency", "parity", "load", "build", "semantic")
"""Five rows of each model."""

LAYERS = tuple(EngineLayer(f"/block{at}/conv + /block{at}/relu", "Convolution", "fp16") for at in range(40))


def samples(
    chance: np.random.Generator, count: int, launches: int, ms: float, clock_mhz: float, tail: float = 1.0
) -> dict[str, Any]:
    """Requests at 39 Hz in launches; one in twenty takes longer, ``tail`` times so."""
    each = count // launches
    scheduled = np.tile(np.arange(each) * 25_641_025, launches)
    slow = chance.random(each * launches) < 0.06
    took = ms * 1e6 * np.exp(0.02 * chance.standard_normal(slow.size)) * np.where(slow, 1.2 * tail, 1.0)
    columns = {name: np.zeros(slow.size, np.int64) for name in COLUMNS}
    columns |= {"launch": np.repeat(np.arange(launches), each), "phase": np.full(slow.size, 2)}
    columns |= {"scheduled_ns": scheduled, "woke_ns": scheduled, "started_ns": scheduled}
    columns["done_ns"] = scheduled + took.astype(np.int64)
    return {**columns, "throttled": np.zeros(slow.size, np.int8), "clock_mhz": np.full(slow.size, clock_mhz)}


def a_signoff(
    folder: Path,
    *,
    boot: str,
    models: int = 12,
    requests: int = 120_000,
    launches: int = 5,
    ms: float = 10.0,
    tail: float = 1.0,
    clock_mhz: float = 1000.0,
    engine_mb: float = 30.0,
    layers: tuple[EngineLayer, ...] = LAYERS,
    environment: Mapping[str, str] | None = None,
    kinds: tuple[str, ...] = KINDS,
    names: tuple[str, ...] = (),
) -> Path:
    """A run folder of ``models`` times ``kinds`` rows, whose latency rows have ``requests`` each."""
    chance = np.random.default_rng([*boot.encode()])
    for name in ("samples", "layers"):
        (folder / name).mkdir(parents=True)
    verdicts = []
    for at in range(models):
        model = names[at] if at < len(names) else f"model{at}"
        for kind in kinds:
            row = case(model, kind)
            given: dict[str, Any] = {"layers_file": "", "started_at": boot}
            figures: tuple[Figure, ...] = ()
            if kind == "latency":
                level = float(np.exp(0.003 * chance.standard_normal()))
                table = samples(chance, requests, launches, ms * level * (1 + at / 10), clock_mhz, tail)
                pyarrow.parquet.write_table(pyarrow.table(table), folder / "samples" / f"{at}.parquet")
                (folder / "layers" / f"{at}.json").write_text(Layers("inspector", boot, layers).to_text(), "utf-8")
                given |= {"samples_file": f"samples/{at}.parquet", "layers_file": f"layers/{at}.json", "rate_hz": 39.0}
                figures = (
                    Figure("energy_per_call_j", 0.4 * level, "J", "the energy counter"),
                    Figure("engine_bytes", engine_mb * 1e6, "bytes", "the plan file"),
                )
            if kind == "load":
                figures = tuple(
                    Figure(f"load_ns[warm {each}]", 3e8 * (1 + 0.01 * each), "ns", "a fresh process")
                    for each in range(3)
                )
            parity = (parity_of(4e-4),) if kind in ("parity", "semantic") else ()
            summary = Summary(measured(row, boot, **given), parity=parity, figures=figures)
            verdicts.append(Verdict(summary, Outcome.PASS, "as promised"))
    run = a_run(folder.name, boot=boot, environment=dict(environment or {})).run
    write_run(folder, replace(run, verdicts=tuple(verdicts), planned=tuple(one.case for one in verdicts)))
    return folder


def write_run(folder: Path, run: Run) -> None:
    (folder / "run.json").write_text(json.dumps(to_json(run)), encoding="utf-8")


def a_comparison(folder: Path) -> Path:
    """The page of a bump of three models: slower in the tail, three layers in another precision, and a row that broke."""
    from harness.compare import compare, write_comparison
    from harness.records import run_from_text
    from reports import compare_page

    base = [a_signoff(folder / f"old-{boot}", boot=boot, models=3, requests=2000) for boot in ("b1", "b2", "b3")]
    whole = tuple(replace(one, precision="fp32") if at < 3 else one for at, one in enumerate(LAYERS[:38]))
    new = [
        a_signoff(folder / f"new-{boot}", boot=boot, models=3, requests=2000, tail=1.3, layers=whole, environment=NEWER)
        for boot in ("n1", "n2")
    ]
    for one in new:
        run = run_from_text((one / "run.json").read_text(encoding="utf-8"))
        write_run(one, replace(run, verdicts=(*run.verdicts[:-1], broken(run.verdicts[-1]))))
    write_comparison(compare(base, new), folder / "page")
    return next(path for path in compare_page.write(folder / "page") if path.suffix == ".html")
