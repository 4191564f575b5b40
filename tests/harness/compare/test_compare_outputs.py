"""Old against new on outputs as two run folders keep them: real run folders, loaded and compared."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.compare.load import Loaded, load_folder
from harness.compare.outputs import KeptRow, golden_drift, outputs_apart, reference_apart
from harness.numerics.raw import LIMIT
from harness.packs.folder import Pack
from harness.records.comparison import Cause, Standing
from tests.harness.numeric_runs import MODEL, WIDE, Outputs, a_pack, a_run, as_computed, references, rows

Rows = dict[str, KeptRow]


def kept(folder: Path, pack: Pack, outputs: dict[str, Outputs]) -> Rows:
    """A run with a parity row of each of these outputs, by its id."""
    (first, *_) = rows()
    a_run(folder, pack, lambda case, runtime: outputs[case.id], cases=[replace(first, id=name) for name in outputs])
    loaded = load_folder(folder)
    return {name: KeptRow(loaded, name) for name in outputs}


def turned(change: Callable[[dict[str, Any]], None]) -> Outputs:
    """Outputs without the large one, which takes its time, each sample of them changed."""
    outputs = as_computed()
    for one in outputs:
        del one["wide"]
        change(one)
    return outputs


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return a_pack(tmp_path_factory.mktemp("compared") / "pack", golden=references())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compared") / "run"


@pytest.fixture(scope="module")
def run(pack: Pack, folder: Path) -> Rows:
    """The base's row ``old``, and rows as new sides have them."""
    return kept(
        folder,
        pack,
        {
            "old": as_computed(),
            "same": as_computed(),
            "other": as_computed(1e-3, seed=9),
            "more": [{**one, "more": np.ones(9)} for one in as_computed()],
            "small": turned(lambda one: None),
            "near": turned(lambda one: one.update(scores=one["scores"] * np.float16(1.001))),
            "far": turned(lambda one: one.update(scores=one["scores"] * np.float16(1.5))),
            "float32": turned(lambda one: one.update(scores=one["scores"].astype(np.float32))),
            "places": turned(lambda one: one.update(places=one["places"] + 1)),
            "nan": turned(lambda one: one["scores"].__setitem__((0, 2), np.nan)),
            "half": turned(lambda one: one.update(scores=one["scores"][:, :4])),
            "none": turned(lambda one: one.pop("scores")),
            "integers": turned(lambda one: one.update(scores=one["scores"].astype(np.int64))),
            "zero": turned(lambda one: one.update(scores=one["scores"] * np.float16(0))),
        },
    )


@pytest.mark.covers("RE-02")
def test_outputs_of_equal_digests_are_the_same_bit_for_bit(run: Rows) -> None:
    old, same = run["old"], run["same"]
    for output in ("scores", "wide", "places"):
        found = outputs_apart(output, [old], [same], 1e-9)
        assert (found.standing, found.words) == (Standing.SAME, "bit for bit the same, by the digests of 2 samples")
    assert reference_apart([old], [same]) is None
    told = golden_drift("scores", [old], [same])
    assert told is not None
    assert told.standing is Standing.SAME
    # though fewer elements of it are kept beside one more output
    assert "bit for bit" in outputs_apart("wide", [old], [run["more"]], 1e-9).words


@pytest.mark.covers("RE-02")
def test_what_was_kept_of_a_large_output_tells_its_difference_as_all_of_it_would(run: Rows) -> None:
    old, new = run["old"], run["other"]
    before, other = as_computed(), as_computed(1e-3, seed=9)
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
    ("name", "output", "words", "standing"),
    [
        ("float32", "scores", "the same values, over 16 stored elements, all there are; their digests", Standing.SAME),
        ("places", "places", "share of differing elements 1,", Standing.CHANGED),
        ("nan", "scores", "2 NaN, 0 unmatched Inf", Standing.CHANGED),
        ("half", "scores", "has shape (1, 8) in the base, (1, 4)", Standing.UNKNOWN),
        ("none", "scores", "the new run keeps nothing of scores", Standing.UNKNOWN),
        ("integers", "scores", "(integer), the reference", Standing.UNKNOWN),
        ("zero", "scores", "relative L2 difference 1,", Standing.CHANGED),
    ],
)
@pytest.mark.covers("RE-02")
def test_outputs_of_another_kind_shape_or_value_are_told(
    run: Rows, name: str, output: str, words: str, standing: Standing
) -> None:
    found = outputs_apart(output, [run["old"]], [run[name]], 1e-3)
    assert words in found.words
    assert found.standing is standing


def test_a_base_of_zeros_has_no_relative_difference(run: Rows) -> None:
    found = outputs_apart("scores", [run["zero"]], [run["old"]], 1e-3)
    assert found.words.startswith("the base is all zero, the new side up to")
    assert found.standing is Standing.UNKNOWN


def test_the_pair_of_runs_that_is_furthest_apart_speaks(run: Rows) -> None:
    old, far = run["old"], run["far"]
    found = outputs_apart("scores", [old, old], [run["near"], far], 2e-2)
    assert found.standing is Standing.CHANGED
    assert found.new == pytest.approx(0.5, rel=0.01)
    assert "NaN" in outputs_apart("scores", [old], [far, run["nan"]], 2e-2).words
    lost = KeptRow(Loaded("lost", old.loaded.run), "old")
    found = outputs_apart("scores", [old], [far, lost], 2e-2)
    assert "not known of other runs: the run folders hold no outputs of it on both sides" in found.words
    assert outputs_apart("scores", [old], [], 1.0).standing is Standing.UNKNOWN


@pytest.mark.covers("RE-02")
def test_a_run_that_kept_no_outputs_is_compared_by_what_was_drawn_for_its_plots_and_it_is_said(run: Rows) -> None:
    before = KeptRow(replace(run["old"].loaded, raw={}), "old")
    found = outputs_apart("scores", [before], [run["near"]], 2e-2)
    assert found.words.startswith("relative L2 difference")
    assert "16 stored elements drawn for the plots: not both sides kept their outputs" in found.words


def test_a_damaged_file_is_noted_and_the_rest_is_loaded(run: Rows, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run/raw/small.npz"
    path.write_bytes(path.read_bytes()[:999])
    loaded = load_folder(tmp_path / "run")
    assert loaded.raw.keys() == run.keys() - {"small"}
    assert [note.partition(" (")[0] for note in loaded.notes] == ["small: what it keeps of its outputs cannot be read"]


@pytest.mark.covers("RE-02")
def test_another_reference_and_a_drift_from_the_authors_outputs_are_named(run: Rows, tmp_path: Path) -> None:
    other = a_pack(tmp_path / "pack", golden=references())
    reference = Path(other.models[MODEL].folder) / "reference.npz"
    arrays: Any = {name: array * 1.0000001 for name, array in np.load(reference).items()}
    np.savez(reference, **arrays)
    new = kept(tmp_path / "new", other, {"old": turned(lambda one: one.update(scores=one["scores"] * np.float16(1.1)))})
    old, found = run["old"], new["old"]
    apart = reference_apart([old], [found])
    assert apart is not None
    assert (apart.standing, apart.cause) == (Standing.CHANGED, Cause.ENVIRONMENT)
    assert "Measure both sides with one pack" in apart.words
    lineage = found.loaded.run.verdicts[0].summary.measurement.lineage
    assert lineage["reference"][:12] in apart.words
    assert len(lineage["golden"]) == 64
    drift = golden_drift("scores", [old], [found])
    assert drift is not None
    assert (drift.standing, drift.cause) == (Standing.CHANGED, Cause.NUMERICS)
    assert drift.new == pytest.approx(0.1, rel=0.02)
    assert golden_drift("none", [old], [found]) is None
