"""Old against new on outputs as two run folders keep them: real run folders, loaded and compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.compare_load import Loaded, load_folder
from harness.compare_outputs import KeptRow, golden_drift, outputs_apart, reference_apart
from harness.compare_records import Cause, Standing
from harness.pack import Pack
from harness.raw import LIMIT
from tests.harness.numeric_runs import MODEL, WIDE, Outputs, a_pack, a_run, as_computed, references, rows

ROW = f"{MODEL}-onnx_trt_ep-fp32-b1"


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return a_pack(tmp_path_factory.mktemp("compared") / "pack", golden=references())


@pytest.fixture(scope="module")
def old(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> KeptRow:
    return kept(tmp_path_factory.mktemp("compared") / "old", pack, as_computed())


def kept(folder: Path, pack: Pack, outputs: Outputs) -> KeptRow:
    """One parity row of a run with these outputs."""
    a_run(folder, pack, lambda case, runtime: outputs, cases=rows()[:1])
    return KeptRow(load_folder(folder), ROW)


def turned(change: Callable[[dict[str, Any]], None]) -> Outputs:
    outputs = as_computed()
    for one in outputs:
        change(one)
        if "more" not in one:
            del one["wide"]  # the large one takes its time
    return outputs


@pytest.mark.covers("RE-02")
def test_outputs_of_equal_digests_are_the_same_bit_for_bit(tmp_path: Path, pack: Pack, old: KeptRow) -> None:
    same = kept(tmp_path / "new", pack, as_computed())
    for output in ("scores", "wide", "places"):
        found = outputs_apart(output, [old], [same], 1e-9)
        assert (found.standing, found.words) == (Standing.SAME, "bit for bit the same, by the digests of 2 samples")
    assert reference_apart([old], [same]) is None
    told = golden_drift("scores", [old], [same])
    assert told is not None
    assert told.standing is Standing.SAME


@pytest.mark.covers("RE-02")
def test_what_was_kept_of_a_large_output_tells_its_difference_as_all_of_it_would(
    tmp_path: Path, pack: Pack, old: KeptRow
) -> None:
    other = as_computed(1e-3, seed=9)
    new = kept(tmp_path / "new", pack, other)
    before = as_computed()
    for output in ("scores", "wide"):
        exact = [
            float(np.linalg.norm(b[output].astype(float) - a[output].astype(float)) / np.linalg.norm(a[output].astype(float)))
            for a, b in zip(before, other, strict=True)
        ]  # fmt: skip
        found = outputs_apart(output, [old], [new], 2e-3)
        assert found.new == pytest.approx(max(exact), rel=1e-9 if output == "scores" else 0.02)
        assert found.standing is Standing.SAME
        assert "within the row's tolerance 0.002" in found.words
        strict = outputs_apart(output, [old], [new], 1e-4)
        assert (strict.standing, strict.cause) == (Standing.CHANGED, Cause.NUMERICS)
        assert outputs_apart(output, [old], [new], None).standing is Standing.UNKNOWN
    whole = 2 * int(np.prod(WIDE))
    words = outputs_apart("wide", [old], [new], 2e-3).words
    count = int(words.partition(" stored elements")[0].rpartition(" ")[2])
    assert f"over {count} stored elements of {whole}" in words
    assert 0.9 * LIMIT < count <= LIMIT
    assert "over 16 stored elements, all there are" in outputs_apart("scores", [old], [new], 2e-3).words


@pytest.mark.parametrize(
    ("change", "output", "words", "standing"),
    [
        (lambda one: one.update(scores=one["scores"].astype(np.float32)), "scores", "the same values, over 16", Standing.SAME),
        (lambda one: one.update(places=one["places"] + 1), "places", "share of differing elements 1,", Standing.CHANGED),
        (lambda one: one["scores"].__setitem__((0, 2), np.nan), "scores", "2 NaN, 0 unmatched Inf", Standing.CHANGED),
        (lambda one: one.update(scores=one["scores"][:, :4]), "scores", "has shape (1, 8) in the base, (1, 4)", Standing.UNKNOWN),
        (lambda one: one.pop("scores"), "scores", "the new run keeps nothing of scores", Standing.UNKNOWN),
        (lambda one: one.update(scores=one["scores"].astype(np.int64)), "scores", "(integer), the reference", Standing.UNKNOWN),
        (lambda one: one.update(more=np.ones(9)), "wide", "the same values", Standing.SAME),
    ],
)  # fmt: skip
def test_outputs_of_another_kind_shape_or_value_are_told(
    tmp_path: Path, pack: Pack, old: KeptRow, change: Any, output: str, words: str, standing: Standing
) -> None:
    new = kept(tmp_path / "new", pack, turned(change))
    found = outputs_apart(output, [old], [new], 1e-3)
    if output == "wide":  # its digests are the same, though fewer of its elements are kept beside the new output
        assert "bit for bit" in found.words
        return
    assert words in found.words
    assert found.standing is standing


def test_the_pair_of_runs_that_is_furthest_apart_speaks(tmp_path: Path, pack: Pack, old: KeptRow) -> None:
    near, far = (
        kept(tmp_path / name, pack, [{"scores": one["scores"] * np.float16(factor)} for one in as_computed()])
        for name, factor in (("near", 1.001), ("far", 1.5))
    )
    found = outputs_apart("scores", [old, old], [near, far], 2e-2)
    assert found.standing is Standing.CHANGED
    assert found.new == pytest.approx(0.5, rel=0.01)
    lost = KeptRow(Loaded("lost", old.loaded.run), ROW)
    found = outputs_apart("scores", [old], [far, lost], 2e-2)
    assert "not known of other runs: the run folders hold no outputs of it on both sides" in found.words
    assert outputs_apart("scores", [old], [], 1.0).standing is Standing.UNKNOWN


@pytest.mark.covers("RE-02")
def test_a_run_that_kept_no_outputs_is_compared_by_what_was_drawn_for_its_plots_and_it_is_said(
    tmp_path: Path, pack: Pack, old: KeptRow
) -> None:
    new = kept(tmp_path / "new", pack, as_computed(1e-3, seed=9))
    before = KeptRow(replace(old.loaded, raw={}), ROW)
    found = outputs_apart("scores", [before], [new], 2e-3)
    assert found.words.startswith("relative L2 difference")
    assert "16 stored elements drawn for the plots: not both sides kept their outputs" in found.words


def test_a_damaged_file_is_noted_and_the_rest_is_compared(tmp_path: Path, pack: Pack) -> None:
    folder = tmp_path / "new"
    kept(folder, pack, turned(lambda one: None))
    path = folder / "raw" / f"{ROW}.npz"
    path.write_bytes(path.read_bytes()[:999])
    loaded = load_folder(folder)
    assert loaded.raw == {}
    assert any("what it keeps of its outputs cannot be read" in note for note in loaded.notes)


@pytest.mark.covers("RE-02")
def test_another_reference_and_a_drift_from_the_authors_outputs_are_named(
    tmp_path: Path, pack: Pack, old: KeptRow
) -> None:
    other = a_pack(tmp_path / "pack", golden=references())
    reference = Path(other.models[MODEL].folder) / "reference.npz"
    arrays: Any = {name: array * 1.0000001 for name, array in np.load(reference).items()}
    np.savez(reference, **arrays)
    new = kept(tmp_path / "new", other, as_computed(1e-2, seed=4))
    apart = reference_apart([old], [new])
    assert apart is not None
    assert (apart.standing, apart.cause) == (Standing.CHANGED, Cause.ENVIRONMENT)
    assert "Measure both sides with one pack" in apart.words
    lineage = new.loaded.run.verdicts[0].summary.measurement.lineage
    assert lineage["reference"][:12] in apart.words
    assert len(lineage["golden"]) == 64
    drift = golden_drift("wide", [old], [new])
    assert drift is not None
    assert (drift.standing, drift.cause) == (Standing.CHANGED, Cause.NUMERICS)
    assert drift.new == pytest.approx(1e-2, rel=0.1)
    assert golden_drift("none", [old], [new]) is None
