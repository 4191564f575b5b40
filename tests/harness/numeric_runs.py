"""A real run of rows about numerics, with outputs that are made up: by ``harness.run.run``, from a pack on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import tiers
from harness.config import Configuration
from harness.measure import Bench, Observed
from harness.packs.folder import Pack
from harness.packs.model import ModelPack, model_json
from harness.plan import Ask
from harness.records import Case, Measurement, Run, Tolerance
from harness.run import Job, Progress, run
from harness.run_folder import RunFolder
from runtime import RuntimeConfig
from runtime.protocol import Array
from tests.harness.tiny_pack import write_tiny_pack

MODEL = "disk"
WIDE = (700, 500)
"""Two samples of it do not fit into what is kept of a row."""

Outputs = list[dict[str, Array]]


def references() -> Outputs:
    """What the pack holds: a small output, one too large to be kept whole, and one of integers."""
    chance = np.random.default_rng(7)
    return [
        {
            "scores": chance.standard_normal((1, 8)),
            "wide": chance.standard_normal(WIDE),
            "places": chance.integers(0, 9, 5),
        }
        for _ in range(2)
    ]


def as_computed(scale: float = 1e-6, seed: int = 1) -> Outputs:
    """Outputs of a runtime with a relative error of about ``scale``; ``scores`` in fp16, ``wide`` in fp32."""
    chance = np.random.default_rng(seed)

    def off(array: Array, dtype: type) -> Array:
        return np.asarray(array * (1 + scale * chance.standard_normal(array.shape)), dtype)

    return [
        {"scores": off(one["scores"], np.float16), "wide": off(one["wide"], np.float32), "places": one["places"]}
        for one in references()
    ]


def a_pack(folder: Path, *, golden: Outputs | None = None) -> Pack:
    """Written to ``folder``, with tolerances of 2e-3 and 2e-2."""
    model = write_tiny_pack(folder, MODEL)
    home = Path(model.folder)
    for name, samples in (("reference", references()), ("expected", golden)):
        if samples:
            arrays: Any = {f"{at}/{key}": array for at, one in enumerate(samples) for key, array in one.items()}
            np.savez(home / f"{name}.npz", **arrays)
    tolerances = {
        lane: {name: Tolerance(name, "derived", limit, limit / 2, 1.0) for name in ("scores", "wide", "places")}
        for lane, limit in (("fp32", 2e-3), ("fp16", 2e-2))
    }
    model = replace(model, tolerances=tolerances)
    (home / "model.json").write_bytes(model_json(model))
    return Pack({MODEL: model}, "9a" * 32, 0, "small")


def rows() -> list[Case]:
    """Of two runtimes: one parity row each, the fp32 artifacts against each other, and a pair."""

    def row(kind: str, runtime: str, end: str = "", against: str = "", precision: str = "fp32") -> Case:
        name = f"{MODEL}-{runtime}-{precision}-b1{end}"
        return Case(name, 1, kind, MODEL, runtime, precision, precision, "small", against=against)

    return [
        row("parity", "onnx_trt_ep"),
        row("parity", "onnx_trt_ep", precision="fp16"),
        row("parity", "pytorch_fp16"),
        row("semantic", "onnx_trt_ep", "-semantic", "pytorch_fp16"),
        row("pair", "onnx_trt_ep", "-vs-pytorch_fp16", "pytorch_fp16", "fp16"),
    ]


class _Bench(Bench):
    """Gives what it is told to."""

    got: Callable[[Case, str], Outputs]
    measured: Mapping[str, Any]

    def outputs(self, case: Case, runtime: str = "") -> Observed:
        packed: ModelPack = self.packs[case.model]
        seen = Measurement(
            case, "here[cpu]", provider="cpu", precision_ran=case.precision, input_sha256=packed.feed_sha256
        )
        return Observed(replace(seen, **self.measured), tuple(self.got(case, runtime or case.runtime)))


def a_run(
    folder: Path,
    pack: Pack,
    got: Callable[[Case, str], Outputs] = lambda case, runtime: as_computed(seed=len(runtime)),
    cases: list[Case] | None = None,
    **measured: Any,
) -> Run:
    """The finished run in ``folder``. ``got``: (row, runtime) -> its outputs; ``measured``: fields of each measurement."""
    bench = _Bench(pack.models, RuntimeConfig(), lambda *_: None)  # type: ignore[arg-type] # builds nothing
    bench.got, bench.measured = got, measured
    job = Job(
        ask=Ask((1,), (), (), "small", (), None, {}),
        cases=tuple(rows() if cases is None else cases),
        pack=pack,
        broken={},
        configuration=Configuration("c.toml", folder.parent, "c0" * 32),
        models={name: model.config() for name, model in pack.models.items()},
        bench=bench,
        suites=Path(str(tiers.__file__)).parent,
        environment={"sm": "none"},
        settings={"device": "auto"},
        command=["trigate"],
        version="0.1.0",
        gpu_host=False,
        device="auto",
    )
    with RunFolder(folder) as opened:
        return run(job, opened, Progress())
