"""Verdicts of a stored run, computed again: an honest run stands, and whatever was written over is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import UsageError
from harness.numerics.raw import raw_arrays, read_elements, read_numerics
from harness.packs.folder import Pack
from harness.records import Case, Check, Measurement, Outcome, Run, Verdict, run_from_text, to_json
from harness.run_folder import RunFolder
from harness.signoff.recompute import recompute, recompute_run
from harness.signoff.recomputed import Recomputed
from tests.harness.numeric_runs import MODEL, a_pack, a_run, as_computed, references, rows

FIRST = f"{MODEL}-onnx_trt_ep-fp32-b1"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack and a run of it in which every row passes but one, which fails: ``pytorch_fp16``."""
    home = tmp_path_factory.mktemp("recompute")
    pack = a_pack(home / "pack", golden=references())
    a_run(
        home / "run", pack, lambda case, runtime: as_computed(0.1 if runtime == "pytorch_fp16" else 1e-6, len(runtime))
    )
    return home


@pytest.fixture
def folder(home: Path, tmp_path: Path) -> Path:
    """A copy, to be written in."""
    shutil.copytree(home / "run", tmp_path / "run")
    return tmp_path / "run"


def pack_of(home: Path) -> Pack:
    from harness.packs.model import read_model

    return Pack({MODEL: read_model(home / "pack" / MODEL)}, "9a" * 32, 0, "small")


def read(folder: Path) -> Run:
    return run_from_text((folder / "run.json").read_text(encoding="utf-8"))


def forge(folder: Path, case_id: str, change: Callable[[Verdict], Verdict]) -> None:
    """Write over one row of ``run.json``."""
    run = read(folder)
    verdicts = tuple(change(one) if one.case.id == case_id else one for one in run.verdicts)
    (folder / "run.json").write_text(json.dumps(to_json(replace(run, verdicts=verdicts))))


def measured(**given: Any) -> Callable[[Verdict], Verdict]:
    return lambda one: replace(one, summary=replace(one.summary, measurement=replace(one.summary.measurement, **given)))


def figured(**given: Any) -> Callable[[Verdict], Verdict]:
    """Other figures of the row's first output."""
    return lambda one: replace(
        one,
        summary=replace(one.summary, parity=(replace(one.summary.parity[0], **given), *one.summary.parity[1:])),
    )


def row_of(folder: Path, case_id: str = FIRST, pack: Pack | None = None) -> Recomputed:
    return next(row for row in recompute(folder, read(folder), pack) if row.case_id == case_id)


def told(folder: Path) -> tuple[str, ...]:
    run = read(folder)
    return recompute_run(folder, run, recompute(folder, run))


@pytest.mark.covers("RE-03")
def test_an_honest_run_stands_row_by_row_with_and_without_its_pack(home: Path) -> None:
    run = read(home / "run")
    for pack, source in ((None, "raw samples"), (pack_of(home), "raw outputs")):
        found = recompute(home / "run", run, pack)
        assert [row.case_id for row in found] == [verdict.case.id for verdict in run.verdicts]
        assert [row for row in found if not row.agrees] == []
        assert {row.source for row in found} == {source}
    assert [row.now for row in found] == [Outcome.PASS, Outcome.PASS, Outcome.FAIL, Outcome.FAIL, Outcome.MEASURED]
    assert recompute_run(home / "run", run, found) == ()


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize(
    ("case_id", "change", "words"),
    [
        (f"{MODEL}-pytorch_fp16-fp32-b1", lambda one: replace(one, outcome=Outcome.PASS), ""),
        (FIRST, figured(rel_l2_max=1e-9), "rel_l2_max of scores is 1e-09 in run.json"),
        (FIRST, figured(nan=3), "nan of scores is 3 in run.json, and 0 by what is kept"),
        (FIRST, figured(tolerance=None), "the tolerance of scores is none in run.json, and it was judged by derived 0.002"),
        (FIRST, lambda one: replace(one, reason="much better than it was"), "the reason is 'much better than it was'"),
        (FIRST, lambda one: replace(one, checks=one.checks[:1]), "the check parity scores is not there in run.json"),
        (FIRST, measured(raw_file=""), "and run.json does not name it"),
        (FIRST, measured(raw_file=f"raw/{MODEL}-onnx_trt_ep-fp16-b1.npz"), "the row's own file is raw/disk-onnx_trt_ep-fp32"),
        (FIRST, measured(lineage={"reference": "aa"}), "its digest of the reference is aa in run.json"),
        (FIRST, measured(provider="tensorrt"), "its provider is tensorrt in run.json, and cpu in what is kept"),
        (FIRST, measured(witness=False, notes=("a note",)), "its witness is no in run.json, and yes in what is kept"),
        (FIRST, lambda one: replace(one, summary=replace(one.summary, measurement=replace(
            one.summary.measurement, case=replace(one.case, kind="load")))), "its kind is load in run.json"),
        (FIRST, measured(lineage={}), "its digest of the reference is none in run.json"),
        (f"{MODEL}-onnx_trt_ep-fp16-b1", lambda one: replace(one, summary=replace(one.summary, parity=())), "figures of wide"),
    ],
)  # fmt: skip
def test_what_was_written_over_in_a_row_is_named(
    folder: Path, case_id: str, change: Callable[[Verdict], Verdict], words: str
) -> None:
    forge(folder, case_id, change)
    row = row_of(folder, case_id)
    assert not row.agrees
    assert words in "; ".join(row.differs)
    assert (words != "") or (row.was, row.now) == (Outcome.PASS, Outcome.FAIL)
    assert [other.case_id for other in recompute(folder, read(folder)) if not other.agrees] == [case_id]


@pytest.mark.covers("RE-03")
def test_a_row_that_failed_and_is_said_not_to_have_run_is_judged_from_what_it_left(folder: Path) -> None:
    case_id = f"{MODEL}-pytorch_fp16-fp32-b1"
    forge(
        folder,
        case_id,
        lambda one: Verdict(
            replace(one.summary, measurement=Measurement(one.case), parity=()), Outcome.NOT_RUN, "no GPU"
        ),
    )
    row = row_of(folder, case_id)
    assert (row.was, row.now) == (Outcome.NOT_RUN, Outcome.FAIL)


@pytest.mark.covers("RE-03")
def test_a_file_of_another_row_put_in_the_place_of_a_rows_own_is_named(folder: Path) -> None:
    case_id = f"{MODEL}-pytorch_fp16-fp32-b1"
    shutil.copyfile(folder / "raw" / f"{FIRST}.npz", folder / "raw" / f"{case_id}.npz")
    row = row_of(folder, case_id)
    assert f"its id is {case_id} in run.json, and {FIRST} in what is kept" in row.differs


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "there is no raw/|cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "is damaged"),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (lambda path: path.write_bytes(b"PK\x03\x04" * 99), "is damaged"),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_file_that_is_missing_or_damaged_is_told_and_nothing_is_raised(
    folder: Path, spoil: Callable[[Path], None], words: str, named: bool
) -> None:
    spoil(folder / "raw" / f"{FIRST}.npz")
    if not named:
        forge(folder, FIRST, measured(raw_file=""))
    row = row_of(folder)
    assert (row.now, row.agrees, row.source) == (None, False, "none")
    assert any(part in row.words for part in words.split("|")), row.words


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd"])
def test_a_file_outside_the_run_folder_is_never_opened(folder: Path, name: str) -> None:
    forge(folder, FIRST, measured(raw_file=name))
    row = row_of(folder)
    assert row.now is None
    assert "not inside the run folder" in row.words


@pytest.mark.covers("RE-03")
def test_statistics_that_were_forged_with_the_verdict_are_found_with_the_pack(home: Path, folder: Path) -> None:
    """All of it rewritten: the statistics, the figures, the checks. What is kept of the outputs bears none of it."""
    case_id = f"{MODEL}-pytorch_fp16-fp32-b1"
    path = folder / "raw" / f"{case_id}.npz"
    honest = read_numerics(folder / "raw" / f"{FIRST}.npz")
    failed = read_numerics(path)
    elements = [array for one in failed.kept for array in [read_elements(path, failed, one.output)[one.sample][1]]]
    with RunFolder(folder, resume=True) as opened:
        opened.write_arrays(
            f"raw/{case_id}.npz",
            raw_arrays(replace(honest, row=case_id, kept=failed.kept), elements),
            compress=False,
        )
    first = next(one for one in read(folder).verdicts if one.case.id == FIRST)
    forge(
        folder,
        case_id,
        lambda one: replace(
            first,
            summary=replace(
                first.summary,
                measurement=replace(first.summary.measurement, case=one.case, raw_file=f"raw/{case_id}.npz"),
            ),
        ),
    )
    assert row_of(folder, case_id).agrees  # without the pack nothing tells: the signature and the digests do
    row = row_of(folder, case_id, pack_of(home))
    assert any(words.startswith("scores of sample 0: its kept output has error") for words in row.differs)
    assert any(words.startswith("wide of sample 1: its kept elements have error") for words in row.differs)


@pytest.mark.covers("RE-03")
def test_a_kept_output_that_was_written_over_has_not_its_digest(home: Path, folder: Path) -> None:
    path = folder / "raw" / f"{FIRST}.npz"
    numerics = read_numerics(path)
    elements = [read_elements(path, numerics, one.output)[one.sample][1].copy() for one in numerics.kept]
    elements[0][0] += 1
    with RunFolder(folder, resume=True) as opened:
        opened.write_arrays(f"raw/{FIRST}.npz", raw_arrays(numerics, elements), compress=False)
    for pack in (None, pack_of(home)):
        (told,) = row_of(folder, pack=pack).differs
        assert told == "the kept output scores of sample 0 has not the digest that stands beside it"


@pytest.mark.covers("RE-03")
def test_a_tolerance_an_input_or_a_reference_that_is_not_the_packs_is_named(home: Path, folder: Path) -> None:
    pack = pack_of(home)
    model = pack.models[MODEL]
    wider = {
        lane: {name: replace(one, rel_l2_max=1e-12) for name, one in rules.items()}
        for lane, rules in model.tolerances.items()
    }
    other = replace(pack, models={MODEL: replace(model, tolerances=wider, feed_sha256=("00",))})
    row = row_of(folder, pack=other)
    assert (
        "scores was judged by the tolerance derived 0.002, of the median 0.001, and the pack has derived 1e-12"
        in (row.differs[1])
    )
    assert "its inputs are not those of the pack" in row.differs
    assert "was judged by the tolerance" in row_of(folder, f"{FIRST}-semantic", other).differs[0]
    lost = replace(pack, models={})
    assert row_of(folder, pack=lost).differs == (f"the pack has no model {MODEL}",)
    with pytest.raises(UsageError, match="Give that one"):
        recompute(folder, read(folder), replace(pack, sha256="00" * 32))


@pytest.mark.covers("RE-03", "RE-04")
def test_what_a_run_says_of_itself_follows_from_its_rows(folder: Path) -> None:
    run = read(folder)
    assert told(folder) == ()
    for change, words in (
        ({"exit_code": 0}, "the exit code is 0 in run.json, and its rows make it 1"),
        ({"last_line": "PASS 5."}, "the last line is 'PASS 5.' in run.json"),
        (
            {"verdicts": run.verdicts[:2]},
            "is said to be complete, and its row disk-pytorch_fp16-fp32-b1 has no verdict",
        ),
        ({"verdicts": run.verdicts[:2], "planned": run.planned[:2]}, "is of no row of run.json"),
    ):
        (folder / "run.json").write_text(json.dumps(to_json(replace(run, **change))))
        assert words in "; ".join(told(folder))


@pytest.mark.covers("RE-03")
def test_a_run_of_schema_1_is_judged_from_its_figures_and_says_so(folder: Path) -> None:
    shutil.rmtree(folder / "raw")
    run = read(folder)
    old = tuple(measured(raw_file="", lineage={})(one) for one in run.verdicts)
    (folder / "run.json").write_text(json.dumps(to_json(replace(run, verdicts=old, schema=1))))
    found = recompute(folder, read(folder))
    assert all(row.agrees and row.source == "record" for row in found)
    assert "schema 1 kept nothing" in found[0].words
    forge(folder, f"{MODEL}-pytorch_fp16-fp32-b1", lambda one: replace(one, outcome=Outcome.PASS))
    assert row_of(folder, f"{MODEL}-pytorch_fp16-fp32-b1").now is Outcome.FAIL
    forge(folder, FIRST, figured(rel_l2_max=1.0))
    row = row_of(folder)
    assert (row.was, row.now) == (Outcome.PASS, Outcome.FAIL)
    assert "the check parity scores is PASS in run.json, and FAIL by its figures" in row.differs


def test_a_row_of_this_schema_that_lost_its_file_is_not_judged_from_its_figures(folder: Path) -> None:
    shutil.rmtree(folder / "raw")
    forge(folder, FIRST, measured(raw_file=""))
    row = row_of(folder)
    assert (row.now, row.agrees) == (None, False)
    assert "names no file" in row.words


@pytest.mark.covers("RE-03", "RE-04")
def test_a_placement_that_was_refused_stays_refused(home: Path, folder: Path) -> None:
    run = read(folder)
    on_gpu = replace(run, environment={**run.environment, "sm": "87"})
    (folder / "run.json").write_text(json.dumps(to_json(on_gpu)))
    row = row_of(folder)
    assert (row.now, row.differs[-1]) == (
        Outcome.FAIL,
        "the check placement is not there in run.json, and FAIL by what is kept",
    )


def test_an_output_that_cannot_be_compared_fails_again(tmp_path: Path) -> None:
    pack = a_pack(tmp_path / "pack")
    wrong = [{"scores": one["scores"][:, :4], "more": np.ones(3)} for one in as_computed()]
    run = a_run(tmp_path / "run", pack, lambda case, runtime: wrong)
    found = recompute(tmp_path / "run", run)
    assert [row.now for row in found[:4]] == [Outcome.FAIL, Outcome.FAIL, Outcome.FAIL, Outcome.PASS]
    assert all(row.agrees for row in found)
    assert all(row.agrees for row in recompute(tmp_path / "run", run, pack))


@pytest.mark.covers("RE-03")
def test_a_row_that_is_no_witness_stands_with_notes_that_were_written_after_it_was_judged(tmp_path: Path) -> None:
    pack = a_pack(tmp_path / "pack")
    small = [{"scores": one["scores"]} for one in as_computed()]
    told = {"witness": False, "notes": ("from an old cache", "asked for fp16, computed in fp32")}
    a_run(tmp_path / "run", pack, lambda case, runtime: small, cases=rows()[1:2], **told)
    case_id = rows()[1].id
    assert row_of(tmp_path / "run", case_id).agrees
    assert row_of(tmp_path / "run", case_id).words.endswith("; asked for fp16, computed in fp32")
    forge(tmp_path / "run", case_id, measured(notes=(*told["notes"], "its engine could not be kept")))  # type: ignore[misc]
    assert row_of(tmp_path / "run", case_id).agrees
    forge(tmp_path / "run", case_id, lambda one: replace(one, reason=one.reason.partition(";")[0]))
    assert "the reason is" in row_of(tmp_path / "run", case_id).differs[0]
    forge(tmp_path / "run", case_id, measured(notes=()))
    assert "is said to be no witness" in row_of(tmp_path / "run", case_id).words


@pytest.mark.covers("RE-03")
def test_a_row_about_a_models_file_is_judged_again_where_the_pack_is_at_hand(tmp_path: Path) -> None:
    pack = a_pack(tmp_path / "pack")
    row = Case(f"{MODEL}-artifact", 0, "artifact", MODEL, "onnx_trt_ep", "fp32", "fp32", "small")
    run = a_run(tmp_path / "run", pack, cases=[row])
    forged = replace(run.verdicts[0], outcome=Outcome.PASS, checks=(Check("file", Outcome.PASS, "whole"),))
    run = replace(run, verdicts=(forged,))
    (by_record,) = recompute(tmp_path / "run", run)
    assert (by_record.now, by_record.source) == (Outcome.PASS, "record")
    (by_pack,) = recompute(tmp_path / "run", run, pack)
    assert (by_pack.now, by_pack.source, by_pack.agrees) == (Outcome.NOT_RUN, "the pack", False)
    assert by_pack.words == "NOT RUN by what is kept of it: the model has no ONNX file"
