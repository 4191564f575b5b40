"""After a parity row fails (T1-02): where it starts, how small it can be made, what to keep in fp32, how to see it again.

A diagnosis never changes a verdict, and never hides one: what breaks inside it becomes a note.
"""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from harness.config import ModelConfig
from harness.inputs import Feed
from harness.measure import Bench
from harness.numerics.divergence import locate_artifacts, locate_runtime
from harness.numerics.fp16_search import smallest_fp32_set
from harness.numerics.parity import check_parity, compare
from harness.numerics.shrink import shrink
from harness.records import Case, Divergence, Outcome, Tolerance, to_json
from runtime.architectures import ArchitectureRegistry
from runtime.files import write_atomic
from runtime.protocol import Array

__all__ = ["Diagnosis"]

T = TypeVar("T")

SHRINK_BUDGET_S = 30.0
SEARCH_BUDGET_S = 60.0


@dataclass(frozen=True)
class Diagnosis:
    """Explains one failed row. ``words``: of the command line, that lead to this model again."""

    bench: Bench
    registry: ArchitectureRegistry
    model: ModelConfig
    words: tuple[str, ...]

    def explain(self, case: Case, folder: Path) -> Divergence:
        """Everything that can be found out within the budgets; files go to ``failures/<case id>/`` of the run folder."""
        pack = self.bench.packs[case.model]
        feed = self._worst_feed(case)
        found = _part("where it starts", lambda: self._locate(case, feed))
        small, words = feed, "the first sample that fails; it was not made smaller"
        if case.runtime != "pytorch_fp16" or case.kind == "semantic":
            part = _part("the smallest input", lambda: self._shrunk(case, feed))
            if isinstance(part, tuple):
                small, words = part
        keep: tuple[str, ...] = ()
        notes: list[str] = []
        if case.lane == "fp16" and pack.onnx:
            search = _part("what to keep in fp32", lambda: self._keep_fp32(case, feed))
            if isinstance(search, tuple):
                keep, sentence = search
                notes.append(sentence)
            else:
                notes.append(search)
        if isinstance(found, str):
            found = Divergence(None, notes=(found,))
        where = Path("failures") / case.id
        stored = _store(folder / where, small)
        divergence = replace(
            found,
            smallest_input=words,
            smallest_input_file=(where / stored).as_posix(),
            reproduce=self._command(case, folder / where / stored),
            keep_fp32=keep,
            notes=(*found.notes, *notes),
        )
        write_atomic(folder / where / "failure.json", json.dumps(to_json(divergence), indent=1).encode())
        return divergence

    def _locate(self, case: Case, feed: Feed) -> Divergence:
        """Artifacts first, since float64 shows a difference of meaning without any rounding; then the runtime itself."""
        pack = self.bench.packs[case.model]
        notes: tuple[str, ...] = ()
        if pack.onnx and pack.checkpoint:
            artifacts = locate_artifacts(
                pack.path(pack.onnx), self._module(case), feed, input_names=list(pack.input_names)
            )
            if artifacts.first is not None:
                return artifacts
            notes = artifacts.notes
        if not pack.onnx or case.runtime == "pytorch_fp16":
            return Divergence(
                None, notes=(*notes, "layer by layer only models with an ONNX file on a runtime of ONNX are searched")
            )
        artifact = self.bench.artifact(case)
        found = locate_runtime(artifact, self.bench.candidate(case), feed, lane=case.lane, seed=self.bench.seed)
        return replace(found, notes=(*notes, *found.notes))

    def _module(self, case: Case) -> Any:
        import torch

        pack = self.bench.packs[case.model]
        module = self.registry.get(pack.architecture).factory()
        module.load_state_dict(torch.load(pack.path(pack.checkpoint), map_location="cpu", weights_only=True))
        return module.eval()

    def _worst_feed(self, case: Case) -> Feed:
        """The sample whose output is furthest from what it should be."""
        pack = self.bench.packs[case.model]
        outputs = self.bench.outputs(case).outputs
        expected = self._expected(case)
        errors = []
        for want, got in zip(expected, outputs, strict=True):
            worst = [f.rel_l2_max if f.rel_l2_max is not None else float("inf") for f in compare([want], [got], {})]
            errors.append(max(worst, default=0.0))
        return pack.feeds()[int(np.argmax(errors))]

    def _expected(self, case: Case) -> Sequence[Mapping[str, Array]]:
        if case.kind == "semantic":
            return self.bench.outputs(case, case.against).outputs
        return self.bench.packs[case.model].references()

    def _shrunk(self, case: Case, feed: Feed) -> tuple[Feed, str]:
        """The smallest input on which this runtime and the reference's artifact still part by more than the tolerance."""
        pack = self.bench.packs[case.model]
        tolerances = pack.tolerances[case.lane]
        run = self.bench.open(case)
        truth = self._truth(case)
        try:

            def fails(candidate: Feed) -> bool:
                figures = compare([truth(candidate)], [run(candidate)], _without_median(tolerances))
                return any(check.outcome is Outcome.FAIL for check in check_parity(figures))

            if not fails(feed):
                return feed, "one sample alone is within tolerance: it is the median over all samples that fails"
            return shrink(feed, fails, budget_s=SHRINK_BUDGET_S)
        finally:
            run.close()

    def _truth(self, case: Case) -> Callable[[Feed], Mapping[str, Array]]:
        from harness.numerics.reference import OnnxReference, TorchReference

        pack = self.bench.packs[case.model]
        if pack.checkpoint:
            return TorchReference(self._module(case), list(pack.input_names), list(pack.output_names)).exact
        return OnnxReference(pack.path(pack.onnx)).exact

    def _keep_fp32(self, case: Case, feed: Feed) -> tuple[tuple[str, ...], str]:
        pack = self.bench.packs[case.model]
        reference = self._truth(case)(feed)
        return smallest_fp32_set(
            pack.path(pack.onnx), feed, reference, pack.tolerances["fp16"], budget_s=SEARCH_BUDGET_S
        )

    def _command(self, case: Case, inputs: Path) -> str:
        again = ["--tier", "1", "--runtime", case.runtime, "--inputs", str(inputs.resolve())]
        return shlex.join(["trigate", "run", *self.words, *again])


def _part(what: str, find: Callable[[], T]) -> T | str:
    """The result, or why there is none: a search that breaks must not take the verdict with it."""
    try:
        return find()
    except Exception as error:
        return f"{what} could not be found: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _without_median(tolerances: Mapping[str, Tolerance]) -> dict[str, Tolerance]:
    """One sample has no distribution: hold it against the limit for every sample alone."""
    return {name: replace(entry, rel_l2_median=entry.rel_l2_max) for name, entry in tolerances.items()}


def _store(folder: Path, feed: Feed) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(array) for name, array in feed.items()})  # type: ignore[arg-type] # as in run_folder
    write_atomic(folder / "inputs.npz", buffer.getvalue())
    return "inputs.npz"
