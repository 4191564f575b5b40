"""What goes into a bundle, and what is refused before anything is signed."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.inspect import inspect
from harness.records import Case, Check, Measurement, Outcome, Run, Summary, Verdict, run_from_text, to_json
from harness.signoff.bundle import (
    ATTESTATION,
    BUNDLE,
    KEY_COPY,
    PAGE,
    WAIVERS,
    Made,
    make_bundle,
    same_samples,
    signoff_from,
)
from harness.signoff.decision import Problem, SignOff, decide, page
from harness.signoff.files import hash_file, is_safe_name, unpack, walk, write_archive
from harness.signoff.signing import PrivateKey, load_private_key, make_key, unseal
from tests.harness.numeric_runs import MODEL, a_pack
from tests.harness.released_runs import ENGINE, LATENCY, PARITY, a_clause, a_release, another, slower

MADE_AT = "2026-11-21T12:00:00+00:00"


class Home:
    """A key, and runs: one that passes, one whose latency row fails, one of a clause."""

    def __init__(self, path: Path) -> None:
        self.path = path
        make_key(path / "key")
        self.key: PrivateKey = load_private_key(path / "key")
        self.pack = a_pack(path / "pack")
        self.run = a_release(path / "run", self.pack)
        slower(path / "slow", path / "run")
        another(path / "cloud", self.run, (a_clause(),))

    def sign(self, out: Path, *runs: str | Path, waivers: str | None = None, **more: Any) -> Made:
        folders = [self.path / run for run in runs or ("run",)]
        data = waivers.encode() if waivers is not None else None
        return make_bundle(folders, out, self.key, made_at=MADE_AT, trigate_version="0.1.0", waivers=data, **more)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("bundle"))


def a_waiver(row: str = LATENCY, until: str = "2026-12-31") -> str:
    return f'[[waiver]]\nrow = "{row}"\nowner = "Ada <ada@example.org>"\nreason = "so | so"\nuntil = {until}\n'


def words_of(made: Made) -> list[str]:
    assert made.path is None
    return [problem.words for problem in made.signoff.problems]


@pytest.mark.covers("RE-03")
def test_a_bundle_has_every_file_and_a_statement_of_them(home: Home, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    made = home.sign(out, "run", "cloud")
    assert made.path == out
    assert made.signoff.exit_code == 0
    assert made.signoff.decision == (
        "SIGNED OFF: 3 rows pass (2 on here[cpu], 1 without a device). No evidence about TensorRT."
    )
    assert {path.name for path in out.iterdir()} == {ATTESTATION, BUNDLE, PAGE, KEY_COPY, "runs"}
    for name in walk(home.path / "run").files:
        if name != ".lock":
            assert (out / "runs" / home.run.id / name).read_bytes() == (home.path / "run" / name).read_bytes()
    statement = unseal((out / ATTESTATION).read_bytes(), home.key.public).statement
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    subjects = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    files = {name: hash_file(out / name) for name in walk(out).files if name != ATTESTATION}
    assert {name: digest for name, digest in subjects.items() if not name.startswith("artifact:")} == files
    assert subjects[f"artifact:engine/{PARITY}"] == ENGINE
    predicate = statement["predicate"]
    assert predicate["result"] == "PASSED"
    assert sorted(predicate["passedTests"]) == sorted([PARITY, LATENCY, "conformance-null"])
    assert predicate["failedTests"] == predicate["warnedTests"] == []
    assert {"name": "pack", "digest": {"sha256": home.run.pack_sha256}} in predicate["configuration"]
    assert {path.stat().st_mode & 0o777 for path in (out, out / BUNDLE)} <= {0o755, 0o644}


@pytest.mark.covers("RE-03")
def test_the_record_tells_lineage_environment_and_standing(home: Home, tmp_path: Path) -> None:
    home.sign(tmp_path / "bundle", "run", "cloud")
    signoff = signoff_from((tmp_path / "bundle" / BUNDLE).read_bytes())
    rows = {row.id: row for row in signoff.rows}
    assert rows[LATENCY].lineage["engine"] == ENGINE
    assert rows[PARITY].lineage["pack"] == home.run.pack_sha256
    assert set(rows[PARITY].lineage) >= {"pack", "dataset", "engine"}
    assert rows["disk-tensorrt-fp16-b1"].standing == "not run"
    assert {run.id: run.environment for run in signoff.runs}[home.run.id] == home.run.environment
    assert signoff.runs[0].require == ("onnx_trt_ep",)


@pytest.mark.covers("RE-03")
def test_what_fails_is_not_signed_and_leaves_nothing(home: Home, tmp_path: Path) -> None:
    made = home.sign(tmp_path / "bundle", "slow")
    assert words_of(made)[0].startswith(f"{LATENCY} fails: p95 is over 20 ms")
    assert made.signoff.exit_code == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.covers("RE-03")
def test_a_failing_run_can_be_kept_as_evidence_and_says_so(home: Home, tmp_path: Path) -> None:
    made = home.sign(tmp_path / "bundle", "slow", evidence_only=True)
    assert made.signoff.result == "FAILED"
    statement = unseal((tmp_path / "bundle" / ATTESTATION).read_bytes(), home.key.public).statement
    assert statement["predicate"]["result"] == "FAILED"
    assert statement["predicate"]["failedTests"] == [LATENCY]
    assert "NOT SIGNED OFF" in (tmp_path / "bundle" / PAGE).read_text()


@pytest.mark.covers("RE-03")
def test_a_waiver_signs_a_failing_row_off_and_is_shown_everywhere(home: Home, tmp_path: Path) -> None:
    made = home.sign(tmp_path / "bundle", "slow", waivers=a_waiver())
    assert (made.signoff.result, made.signoff.exit_code) == ("WARNED", 0)
    statement = unseal((tmp_path / "bundle" / ATTESTATION).read_bytes(), home.key.public).statement
    assert statement["predicate"]["warnedTests"] == [LATENCY]
    (told,) = [each for each in statement["predicate"]["configuration"] if each["name"] == WAIVERS]
    assert told["annotations"]["waivers"][0]["owner"] == "Ada <ada@example.org>"
    shown = (tmp_path / "bundle" / PAGE).read_text()
    assert "| Ada &lt;ada@example.org&gt; | so \\| so | 2026-12-31 |" in shown
    assert (tmp_path / "bundle" / WAIVERS).read_text() == a_waiver()


@pytest.mark.covers("RE-03")
def test_an_expired_waiver_blocks_even_where_it_is_about_nothing(home: Home, tmp_path: Path) -> None:
    late = a_waiver(until="2026-11-20")
    made = home.sign(tmp_path / "a", "slow", waivers=late)
    assert f"the waiver of Ada <ada@example.org> for {LATENCY} ended on 2026-11-20" in words_of(made)
    assert made.signoff.exit_code == 1
    good = home.sign(tmp_path / "b", "run", waivers=late)
    assert words_of(good) == [f"the waiver of Ada <ada@example.org> for {LATENCY} ended on 2026-11-20"]
    assert good.signoff.exit_code == 3


def test_a_waiver_of_no_use_and_one_without_an_end_in_sight_are_told(home: Home, tmp_path: Path) -> None:
    made = home.sign(tmp_path / "bundle", "run", waivers=a_waiver(until="2030-01-01"))
    assert made.signoff.result == "PASSED"
    assert [one.unused for one in made.signoff.waivers] == [f"{LATENCY} is PASS and needs none: leave it out"]
    assert any("holds until 2030-01-01, which is more than a year" in note for note in made.signoff.notes)


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize(
    ("waiver", "words"),
    [
        (a_waiver(f"{LATENCY}y"), f"no row is called so. Did you mean '{LATENCY}'?"),
        (a_waiver(PARITY), f"{PARITY} is PASS and needs none: leave it out"),
        (a_waiver(until="2026-11-20"), f"it has ended; {LATENCY} must hold, or needs another"),
        (a_waiver().replace("row =", "model ="), "no row is of that"),
        (a_waiver("disk").replace("row =", "model =") + 'kind = "parity"\n', "none of its 2 rows needs one"),
    ],
)  # fmt: skip
def test_a_waiver_that_covers_nothing_says_why(waiver: str, words: str, home: Home, tmp_path: Path) -> None:
    made = home.sign(tmp_path / "bundle", "slow", waivers=waiver, evidence_only=True)
    (told,) = made.signoff.waivers
    assert words in told.unused
    assert "answers for nothing" in told.words
    assert "nothing: " in (tmp_path / "bundle" / PAGE).read_text()


@pytest.mark.covers("RE-03")
def test_the_decision_names_what_fails_first_and_each_reason_once(home: Home, tmp_path: Path) -> None:
    made = home.sign(tmp_path / "bundle", "slow", waivers=a_waiver(until="2026-11-20"))
    late = f"the waiver of Ada <ada@example.org> for {LATENCY} ended on 2026-11-20"
    assert made.signoff.decision == f"NOT SIGNED OFF: 2 reasons: {LATENCY} fails; {late}."
    run = run_from_text((home.path / "slow" / "run.json").read_text())
    also = [Problem(f"{LATENCY} was PASS; by samples it is FAIL", True, LATENCY)]
    signoff = decide([run], {run.id: ()}, (), made_at=MADE_AT, trigate_version="", contradictions=also)
    assert signoff.decision == f"NOT SIGNED OFF: 1 reason: {LATENCY} fails."


@pytest.mark.covers("RE-03", "RE-04")
def test_a_run_of_which_no_runtime_was_required_signs_nothing_off(home: Home, tmp_path: Path) -> None:
    another(tmp_path / "free", home.run, (a_clause(),))
    made = home.sign(tmp_path / "bundle", tmp_path / "free")
    assert words_of(made)[0].startswith("no runtime was required")
    assert made.signoff.exit_code == 3


@pytest.mark.covers("RE-03")
def test_what_tier_2_does_not_show_is_told_in_the_decision_itself(home: Home) -> None:
    quick = replace(home.run, settings={**home.run.settings, "profile": "quick"})
    signoff = decide([quick], {quick.id: ("onnx_trt_ep",)}, (), made_at=MADE_AT, trigate_version="0.1.0")
    assert "Tier 2 is indicative: measured by the profile quick." in signoff.decision
    verdicts = home.run.verdicts[:1]
    one = replace(home.run, verdicts=verdicts, planned=tuple(each.case for each in verdicts))
    signoff = decide([one], {one.id: ("onnx_trt_ep",)}, (), made_at=MADE_AT, trigate_version="0.1.0")
    assert signoff.decision == "SIGNED OFF: 1 row passes (1 on here[cpu]). Nothing of tier 2 was measured."


@pytest.mark.covers("RE-03", "RE-04")
def test_a_run_of_a_simulated_board_is_refused(home: Home, tmp_path: Path) -> None:
    another(tmp_path / "sim", home.run, (a_clause(),), settings={"simulated": "steady"})
    made = home.sign(tmp_path / "bundle", tmp_path / "sim", "run")
    assert words_of(made) == ["run sim is of a simulated board, which is no evidence. Leave it out"]
    assert made.signoff.exit_code == 3


@pytest.mark.covers("RE-03", "RE-04")
def test_a_simulated_row_signs_nothing_off(home: Home, tmp_path: Path) -> None:
    clause = a_clause("conformance-sim", simulated="a fake")
    another(tmp_path / "sim", home.run, (clause,))
    made = home.sign(tmp_path / "bundle", tmp_path / "sim")
    assert words_of(made)[0] == "no row passes on a real device: there is nothing to sign off"
    required = a_clause("conformance-sim", simulated="a fake", required=True)
    another(tmp_path / "asked", home.run, (required,))
    asked = home.sign(tmp_path / "bundle", tmp_path / "asked", "run")
    assert words_of(asked) == ["conformance-sim is required, and is simulated, which shows nothing"]
    assert asked.signoff.exit_code == 3


@pytest.mark.covers("RE-03", "RE-04")
@pytest.mark.parametrize("outcome", [Outcome.INCONCLUSIVE, Outcome.MEASURED, Outcome.NOT_RUN])
def test_what_is_required_and_not_shown_is_not_signed(outcome: Outcome, home: Home, tmp_path: Path) -> None:
    verdict = a_clause("board", outcome, required=True)
    if outcome is Outcome.NOT_RUN:
        verdict = replace(verdict, checks=())
    another(tmp_path / "open", home.run, (verdict,))
    made = home.sign(tmp_path / "bundle", tmp_path / "open", "run")
    assert words_of(made) == [f"board is required, and is {outcome.value}, 1 clause"]
    assert made.signoff.exit_code == 3
    waived = home.sign(tmp_path / "bundle", tmp_path / "open", "run", waivers=a_waiver("board"))
    assert waived.signoff.result == "WARNED"


@pytest.mark.covers("RE-03")
def test_a_run_that_was_edited_is_not_signed_not_even_as_evidence(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.path / "slow", tmp_path / "run")
    run = run_from_text((tmp_path / "run/run.json").read_text())

    def passed(check: Check) -> Check:
        return replace(check, outcome=Outcome.PASS) if check.outcome is Outcome.FAIL else check

    verdicts = tuple(
        replace(one, outcome=Outcome.PASS, checks=tuple(map(passed, one.checks))) if one.case.id == LATENCY else one
        for one in run.verdicts
    )
    (tmp_path / "run/run.json").write_text(json.dumps(to_json(replace(run, verdicts=verdicts, exit_code=0))))
    made = home.sign(tmp_path / "bundle", tmp_path / "run", evidence_only=True, waivers=a_waiver())
    assert any(words.startswith(f"{LATENCY} was PASS; by samples it is FAIL") for words in words_of(made))


@pytest.mark.covers("RE-03")
def test_a_required_row_that_passes_and_is_no_witness_says_why(home: Home, tmp_path: Path) -> None:
    case = replace(Case("memory", 2, "memory", "", "onnx_trt_ep", "fp16", "fp16", "small"), required=True)
    notes = ("the bytes are those of the file", "asked for fp16, computed in fp32: no witness of fp16 arithmetic")
    measurement = Measurement(case, placement="onnx_trt_ep[cpu]", profile="pr", witness=False, notes=notes)
    verdict = Verdict(
        Summary(measurement), Outcome.PASS, "36 MiB of 4 GiB", (Check("host memory", Outcome.PASS, "it is"),)
    )
    run = another(tmp_path / "cold", home.run, (*home.run.verdicts, verdict))
    signoff = decide([run], {run.id: ()}, (), made_at=MADE_AT, trigate_version="0.1.0")
    assert f"memory is required, and is PASS, but {notes[1]}" in [problem.words for problem in signoff.problems]


@pytest.mark.covers("RE-03")
def test_the_pack_of_the_runs_is_held_against_them_before_anything_is_signed(home: Home, tmp_path: Path) -> None:
    assert home.sign(tmp_path / "good", pack=home.pack).path is not None
    model = home.pack.models[MODEL]
    fp32 = {name: replace(rule, rel_l2_max=1e-30) for name, rule in model.tolerances["fp32"].items()}
    other = replace(home.pack, models={MODEL: replace(model, tolerances={**model.tolerances, "fp32": fp32})})
    words = words_of(home.sign(tmp_path / "bundle", pack=other, evidence_only=True))
    assert "was judged by the tolerance" in words[0]
    assert "and the pack has" in words[0]


@pytest.mark.covers("RE-03")
def test_an_unfinished_run_is_not_signed_and_no_waiver_helps(home: Home, tmp_path: Path) -> None:
    another(tmp_path / "cut", home.run, (a_clause(),), complete=False, interrupted=True, exit_code=130)
    made = home.sign(tmp_path / "bundle", tmp_path / "cut", waivers=a_waiver("conformance-null"))
    assert any("run cut is not finished" in words for words in words_of(made))


def changed(run: Run, **changes: Any) -> Run:
    return replace(run, **changes)


@pytest.mark.covers("RE-03")
def test_runs_that_make_no_bundle_are_refused_by_name(home: Home, tmp_path: Path) -> None:
    another(tmp_path / "packed", home.run, (a_clause(),), pack_sha256="77" * 32)
    with pytest.raises(UsageError, match=r"run is of pack 9a9a9a9a9a9a9a9a and packed of pack 7777777777777777"):
        home.sign(tmp_path / "bundle", "run", tmp_path / "packed")
    shutil.copytree(home.path / "run", tmp_path / "copy")
    with pytest.raises(UsageError, match=rf"run and copy are one run \({home.run.id}\)"):
        home.sign(tmp_path / "bundle", "run", tmp_path / "copy")
    with pytest.raises(UsageError, match=r"rows? ran twice.*" + LATENCY + r" \(PASS in run, FAIL in slow\)"):
        home.sign(tmp_path / "bundle", "run", "slow")
    with pytest.raises(UsageError, match="is no run folder"):
        home.sign(tmp_path / "bundle", tmp_path / "nowhere")
    another(tmp_path / "escapes", home.run, (a_clause(),), id="../../escapes")
    with pytest.raises(UsageError, match="which names no folder"):
        home.sign(tmp_path / "bundle", tmp_path / "escapes")
    another(tmp_path / "twice", home.run, (a_clause(), a_clause()))
    with pytest.raises(UsageError, match=r"two (rows called|verdicts).*conformance-null"):
        home.sign(tmp_path / "bundle", tmp_path / "twice")
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_is_never_written_over(home: Home, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        home.sign(tmp_path / "bundle")
    with pytest.raises(UsageError, match="is inside the run folder"):
        home.sign(home.path / "run" / "bundle")


@pytest.mark.covers("RE-03")
def test_a_private_key_in_a_run_folder_is_not_handed_on(home: Home, tmp_path: Path) -> None:
    another(tmp_path / "keyed", home.run, (a_clause(),))
    shutil.copy(home.path / "key", tmp_path / "keyed" / "notes.txt")
    with pytest.raises(UsageError, match=r"notes\.txt holds a private key, and a bundle is handed on"):
        home.sign(tmp_path / "bundle", tmp_path / "keyed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keyed"]


def test_a_link_in_a_run_folder_is_refused(home: Home, tmp_path: Path) -> None:
    another(tmp_path / "linked", home.run, (a_clause(),))
    (tmp_path / "linked/more").symlink_to("/etc")
    with pytest.raises(UsageError, match="more is a symbolic link, and has no place in a bundle"):
        home.sign(tmp_path / "bundle", tmp_path / "linked")


@pytest.mark.covers("RE-03")
def test_one_file_of_it_is_the_same_bytes_each_time_and_unpacks_to_the_same(home: Home, tmp_path: Path) -> None:
    home.sign(tmp_path / "bundle")
    home.sign(tmp_path / "one.zip")
    write_archive(tmp_path / "bundle", tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert unpack(tmp_path / "one.zip", tmp_path / "out") == []
    for name in walk(tmp_path / "bundle").files:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "bundle" / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../out.txt", "leads out"),
        ("/etc/passwd", "leads out"),
        ("a\\b", "read otherwise"),
        ("C:/x", "read otherwise"),
        ("A.TXT", "is there twice"),
    ],
)
def test_an_archive_that_reaches_elsewhere_is_not_followed(name: str, words: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", b"here")
        archive.writestr(zipfile.ZipInfo(name), b"there")
    (refused,) = unpack(tmp_path / "a.zip", tmp_path / "out" / "deep")
    assert words in refused
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == ["a.txt"]


def test_an_archive_of_more_than_it_has_or_of_nonsense_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", bytes(1 << 20))
    with pytest.raises(UsageError, match=r"is compressed: another program packed it.* verify the folder"):
        unpack(tmp_path / "packed.zip", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w") as archive:
        archive.writestr("a.txt", bytes(1 << 10))
        archive.filelist[0].file_size = 1 << 30
    with pytest.raises(UsageError, match="says that it holds more than it has bytes"):
        unpack(tmp_path / "bomb.zip", tmp_path / "out")
    (tmp_path / "not.zip").write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"is no \.zip file: no bundle, or a damaged one"):
        unpack(tmp_path / "not.zip", tmp_path / "out")


@pytest.mark.covers("RE-03")
def test_nothing_hides_in_an_archive_beside_its_files(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "\u00e4.txt").write_text("here")
    write_archive(tmp_path / "files", tmp_path / "a.zip")
    data = (tmp_path / "a.zip").read_bytes()
    commented = data[:-2] + b"\2\0hi"
    for at, hidden in enumerate((b"#!/bin/sh\n" + data, data + b"\n", data + data, commented)):
        (tmp_path / "b.zip").write_bytes(hidden)
        (words,) = unpack(tmp_path / "b.zip", tmp_path / f"out{at}")
        assert words == "something lies before, between or behind the files of the archive"
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("a.txt_evil", b"here")
    (tmp_path / "c.zip").write_bytes((tmp_path / "c.zip").read_bytes().replace(b"a.txt_evil", b"a.txt\0evil"))
    (words,) = unpack(tmp_path / "c.zip", tmp_path / "nul")
    assert "read otherwise" in words


@pytest.mark.covers("RE-03")
def test_two_rows_with_the_same_samples_are_told() -> None:
    files = {"runs/a/samples/m.parquet": "1", "runs/b/samples/m.parquet": "1", "runs/b/traces/m.parquet": "1"}
    (problem,) = same_samples(files)
    assert problem.fails
    assert problem.words.startswith("runs/b/samples/m.parquet and runs/a/samples/m.parquet are the same samples")


def test_a_waiver_of_many_rows_is_told(home: Home, tmp_path: Path) -> None:
    rows = tuple(a_clause(f"row-{at}", Outcome.FAIL) for at in range(11))
    another(tmp_path / "many", home.run, rows)
    text = a_waiver().replace(f'row = "{LATENCY}"', 'kind = "conformance"')
    made = home.sign(tmp_path / "bundle", tmp_path / "many", waivers=text, evidence_only=True)
    assert any(
        note.endswith("for kind conformance covers 11 rows: are all of them meant?") for note in made.signoff.notes
    )


@pytest.mark.covers("RE-03")
def test_the_page_says_what_each_row_was_held_against(home: Home, tmp_path: Path) -> None:
    home.sign(tmp_path / "bundle")
    shown = (tmp_path / "bundle" / PAGE).read_text()
    assert "| p95 20 ms, no floor; profile pr |" in shown
    assert "relative L2 of scores derived 0.002" in shown


def test_a_name_is_safe_where_every_system_reads_it_alike() -> None:
    assert all(map(is_safe_name, ("run.json", "runs/a1/samples/m[x]-b1.parquet", "runs/a/ä.txt", "runs/a/x:y.npz")))
    assert not any(map(is_safe_name, ("", "/a", "../a", "a/../b", "a//b", "./a", "a\\b", "C:/a", "a\n", "a/")))


def test_names_that_differ_by_accents_alone_are_odd(tmp_path: Path) -> None:
    for name in ("\u00e4.txt", "a\u0308.txt", os.fsdecode(b"\xff.txt")):
        (tmp_path / name).write_text("x")
    odd = walk(tmp_path).odd
    assert len(odd) == 2
    assert any("but for upper and lower case or accents" in words for words in odd.values())


def test_a_bundle_can_be_inspected_and_is_not_believed(home: Home, tmp_path: Path) -> None:
    home.sign(tmp_path / "bundle", "slow", waivers=a_waiver())
    found = inspect(tmp_path / "bundle")
    assert found.kind == "sign-off bundle"
    assert found.says["waiver 1"] == "Ada <ada@example.org>, until 2026-12-31: so | so"
    assert (LATENCY, "waived", "FAIL") in [row[:3] for row in found.rows]
    assert "check it with `trigate verify`" in found.to_text()
    home.sign(tmp_path / "bundle.zip", "slow", waivers=a_waiver())
    assert inspect(tmp_path / "bundle.zip").rows == found.rows
    (tmp_path / "none.zip").write_bytes(b"PK")
    assert not inspect(tmp_path / "none.zip").passes
    (tmp_path / "bundle" / BUNDLE).write_text("[]")
    assert not inspect(tmp_path / "bundle").passes


def test_text_out_of_a_run_means_nothing_on_the_page(home: Home, tmp_path: Path) -> None:
    made = home.sign(tmp_path / "bundle")
    signoff: SignOff = replace(made.signoff, notes=("<img src=x onerror=alert(1)> [a](javascript:b) | `c`\n# d",))
    shown = page(signoff)
    assert "<img" not in shown
    assert "\\[a\\](javascript:b) \\| \\`c\\` \\# d" in shown
