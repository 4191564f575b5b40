"""A bundle that was tampered with, in every way that we could think of: each is named, whoever did it."""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import zlib
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import UsageError
from harness.gates import judge_numerics
from harness.numerics.raw import raw_arrays, read_numerics
from harness.packs.folder import Pack, digest_of
from harness.packs.model import read_model
from harness.records import BoardState, Outcome, Run, Verdict, run_from_text, to_json
from harness.run_folder import RunFolder
from harness.signoff.bundle import (
    ATTESTATION,
    BUNDLE,
    KEY_COPY,
    PAGE,
    WAIVERS,
    make_bundle,
    record_text,
    requires_of,
    signoff_from,
)
from harness.signoff.decision import decide, page, statement_of
from harness.signoff.files import hash_file, walk
from harness.signoff.recompute import recompute
from harness.signoff.signing import PrivateKey, PublicKey, load_private_key, make_key, seal, unseal
from harness.signoff.verify import Verification, verify
from harness.signoff.waivers import parse_waivers
from tests.harness.numeric_runs import MODEL, a_pack
from tests.harness.released_runs import ENGINE, LATENCY, PARITY, a_clause, a_release, another, samples, slower

MADE_AT = "2026-11-21T12:00:00+00:00"
TODAY = datetime.date(2026, 11, 22)
JOURNAL = "samples/killed.journal"
WAIVER = f"""
[[waiver]]
row = "{LATENCY}"
owner = "Ada Lovelace"
reason = "until the matcher is pruned"
until = 2026-12-31
""".encode()


class Home:
    """Two bundles and the keys: ``good`` of two runs, signed off; ``slow``, whose latency row fails and is waived."""

    def __init__(self, path: Path) -> None:
        self.path = path
        make_key(path / "key")
        make_key(path / "foreign")
        self.key, self.foreign = load_private_key(path / "key"), load_private_key(path / "foreign")
        pack = a_pack(path / "pack")
        run = a_release(path / "run", pack)
        (path / "run" / JOURNAL).write_bytes(bytes(960))
        another(path / "cloud", run, (a_clause(),))
        slower(path / "slow-run", path / "run")
        self.make([path / "run", path / "cloud"], path / "good")
        self.make([path / "slow-run"], path / "slow", waivers=WAIVER)

    def make(self, runs: list[Path], out: Path, **more: Any) -> None:
        made = make_bundle(runs, out, self.key, made_at=MADE_AT, trigate_version="0.1.0", **more)
        assert made.path == out, made.signoff.problems


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("verify"))


@pytest.fixture
def bundle(home: Home, tmp_path: Path) -> Path:
    """A copy of the good one, to be written in."""
    return Path(shutil.copytree(home.path / "good", tmp_path / "bundle"))


@pytest.fixture
def slow(home: Home, tmp_path: Path) -> Path:
    return Path(shutil.copytree(home.path / "slow", tmp_path / "slow"))


def look(bundle: Path, key: PublicKey | None, today: datetime.date = TODAY) -> Verification:
    return verify(bundle, key, today=today)


def all_of(seen: Verification) -> str:
    """What is told, and what people are not shown because it follows from that."""
    lines = [f"{finding.kind.upper()}: {finding.words}" for finding in seen.findings]
    return "\n".join((*lines, seen.to_text()))


def run_of(bundle: Path, file: str = "samples") -> Path:
    """The folder of the run that measured."""
    return next(path for path in (bundle / "runs").iterdir() if (path / file).is_dir())


def edit(folder: Path, change: Callable[[Run], Run]) -> None:
    """Write over a run.json."""
    run = run_from_text((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(to_json(change(run)), indent=1))


def settled(case_id: str, change: Callable[[Verdict], Verdict]) -> Callable[[Run], Run]:
    return lambda run: replace(
        run, verdicts=tuple(change(one) if one.case.id == case_id else one for one in run.verdicts)
    )


def measured(**changes: Any) -> Callable[[Verdict], Verdict]:
    return lambda one: replace(
        one, summary=replace(one.summary, measurement=replace(one.summary.measurement, **changes))
    )


def passing(run: Run) -> Run:
    """A failed run made one that passes, with nothing forgotten."""

    def passed(one: Verdict) -> Verdict:
        checks = tuple(
            replace(check, outcome=Outcome.PASS) if check.outcome is Outcome.FAIL else check for check in one.checks
        )
        return replace(one, outcome=Outcome.PASS, reason="p95 is under 20 ms", checks=checks)

    return replace(
        settled(LATENCY, passed)(run),
        exit_code=0,
        last_line="PASS 2, NOT RUN 1 (tensorrt: not installed). No evidence about TensorRT.",
    )


def rewritten(bundle: Path) -> bytes:
    """The payload of a statement of what lies in the bundle now: every digest right again."""
    statement = dict(unseal((bundle / ATTESTATION).read_bytes(), None).statement)
    now = {name: hash_file(bundle / name) for name in walk(bundle).files if name != ATTESTATION}
    kept = [one for one in statement["subject"] if one["name"].startswith("artifact:")]
    statement["subject"] = [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(now.items())] + kept
    return json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()


def sign_again(bundle: Path, key: PrivateKey) -> None:
    (bundle / ATTESTATION).write_bytes(seal(json.loads(rewritten(bundle)), key))


def made_again(bundle: Path, key: PrivateKey) -> None:
    """As whoever holds the key would: the decision, the page and the statement are all made from what lies there now."""
    told = signoff_from((bundle / BUNDLE).read_bytes())
    runs = [run_from_text((bundle / one.folder / "run.json").read_text()) for one in told.runs]
    requires = {run.id: requires_of(run, bundle / f"runs/{run.id}") for run in runs}
    waivers = parse_waivers((bundle / WAIVERS).read_bytes(), "") if (bundle / WAIVERS).exists() else ()
    again = decide(runs, requires, waivers, made_at=told.made_at, trigate_version=told.trigate_version)
    (bundle / BUNDLE).write_bytes(record_text(again))
    (bundle / PAGE).write_text(page(again))
    files = {name: hash_file(bundle / name) for name in walk(bundle).files if name != ATTESTATION}
    (bundle / ATTESTATION).write_bytes(seal(statement_of(again, files), key))


def envelope(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    table = json.loads((bundle / ATTESTATION).read_text())
    change(table)
    (bundle / ATTESTATION).write_text(json.dumps(table, indent=1) + "\n")


def write_samples(folder: Path, took_ms: float) -> None:
    with RunFolder(folder, resume=True) as opened:
        opened.write_samples(f"samples/{LATENCY}.parquet", samples(took_ms))
    (folder / ".lock").unlink()


@pytest.mark.covers("RE-03")
def test_an_honest_bundle_is_verified_with_every_verdict_computed_again(home: Home) -> None:
    seen = look(home.path / "good", home.key.public)
    assert seen.exit_code == 0, seen.to_text()
    assert seen.to_text().endswith(f"VERIFIED: {home.path / 'good'}")
    assert {row.row.case_id: row.row.source for row in seen.rows} == {
        PARITY: "raw samples", LATENCY: "samples", "disk-tensorrt-fp16-b1": "record", "conformance-null": "record",
    }  # fmt: skip
    assert seen.to_json()["exit_code"] == 0
    waived = look(home.path / "slow", home.key.public)
    assert waived.exit_code == 0, waived.to_text()
    assert waived.decision == (
        "SIGNED OFF WITH WAIVERS: 1 row passes (1 on here[cpu]), 1 waived. No evidence about TensorRT."
    )
    assert f"Ada Lovelace answers for {LATENCY} until 2026-12-31" in waived.to_text()


def a_sample_changed(bundle: Path, home: Home) -> None:
    write_samples(run_of(bundle), 12.1)


def a_sample_file_removed(bundle: Path, home: Home) -> None:
    (run_of(bundle) / f"samples/{LATENCY}.parquet").unlink()


def a_file_added(bundle: Path, home: Home) -> None:
    (bundle / "runs" / "release-notes.txt").write_text("all is well")


def a_verdict_changed(bundle: Path, home: Home) -> None:
    edit(run_of(bundle), settled(LATENCY, lambda one: replace(one, outcome=Outcome.MEASURED)))


def a_verdict_its_hash_and_the_statement_rewritten(bundle: Path, home: Home) -> None:
    edit(run_of(bundle), settled(LATENCY, lambda one: replace(one, outcome=Outcome.MEASURED)))
    payload = b64encode(rewritten(bundle)).decode()
    envelope(bundle, lambda table: table.update(payload=payload))


def an_engine_digest_changed(bundle: Path, home: Home) -> None:
    edit(run_of(bundle), settled(LATENCY, measured(lineage={"engine": "00" * 32})))


def the_environment_changed(bundle: Path, home: Home) -> None:
    edit(run_of(bundle), lambda run: replace(run, environment={**run.environment, "jetpack": "7.2"}))


def the_signature_removed(bundle: Path, home: Home) -> None:
    envelope(bundle, lambda table: table.update(signatures=[]))


def a_file_changed_and_the_signature_removed(bundle: Path, home: Home) -> None:
    the_environment_changed(bundle, home)
    the_signature_removed(bundle, home)


def the_attestation_removed(bundle: Path, home: Home) -> None:
    (bundle / ATTESTATION).unlink()


def signed_by_a_foreign_key(bundle: Path, home: Home) -> None:
    sign_again(bundle, home.foreign)


def a_foreign_signature_under_the_right_name(bundle: Path, home: Home) -> None:
    sign_again(bundle, home.foreign)
    envelope(bundle, lambda table: table["signatures"][0].update(keyid=home.key.public.id))


def the_payload_type_changed(bundle: Path, home: Home) -> None:
    envelope(bundle, lambda table: table.update(payloadType="application/vnd.other+json"))


def a_second_signature(bundle: Path, home: Home) -> None:
    other = json.loads(seal({}, home.foreign))["signatures"]
    envelope(bundle, lambda table: table["signatures"].extend(other))


def an_envelope_written_otherwise(bundle: Path, home: Home) -> None:
    table = json.loads((bundle / ATTESTATION).read_text())
    (bundle / ATTESTATION).write_text(json.dumps(table))


def line_ends_changed(bundle: Path, home: Home) -> None:
    for path in (bundle / ATTESTATION, bundle / PAGE, bundle / KEY_COPY, run_of(bundle) / "run.json"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def the_key_copy_replaced(bundle: Path, home: Home) -> None:
    (bundle / KEY_COPY).write_bytes(home.foreign.public.pem)


def two_runs_exchanged(bundle: Path, home: Home) -> None:
    measured_in = run_of(bundle)
    cloud = bundle / "runs" / "cloud"
    for one, other in ((measured_in, bundle / "aside"), (cloud, measured_in), (bundle / "aside", cloud)):
        one.rename(other)


def a_run_id_rewritten(bundle: Path, home: Home) -> None:
    edit(run_of(bundle), lambda run: replace(run, id="cloud"))


def samples_truncated(bundle: Path, home: Home) -> None:
    path = run_of(bundle) / f"samples/{LATENCY}.parquet"
    path.write_bytes(path.read_bytes()[:1000])


def a_journal_truncated(bundle: Path, home: Home) -> None:
    (run_of(bundle) / JOURNAL).write_bytes(bytes(96))


def a_link_in_place_of_a_file(bundle: Path, home: Home) -> None:
    path = run_of(bundle) / "limits.json"
    path.rename(home.path / "elsewhere.json")
    path.symlink_to(home.path / "elsewhere.json")


def a_name_that_differs_by_case(bundle: Path, home: Home) -> None:
    shutil.copy(run_of(bundle) / "run.json", run_of(bundle) / "RUN.json")


def the_page_changed(bundle: Path, home: Home) -> None:
    (bundle / PAGE).write_text("# Sign-off\n\nEverything passes.\n")


def raw_statistics_changed(bundle: Path, home: Home) -> None:
    path = run_of(bundle) / f"raw/{PARITY}.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def a_row_dropped(bundle: Path, home: Home) -> None:
    edit(run_of(bundle), lambda run: replace(run, verdicts=run.verdicts[:1]))


ORDER = ("changed", "removed", "added", "signature", "verdict", "record", "failed", "open", "signer")
RUN_CHANGED = "CHANGED: runs/.*/run.json was changed"
OTHER_VERDICT = f"VERDICT: {LATENCY} was MEASURED; by samples it is PASS"
TAMPERINGS: tuple[tuple[Callable[[Path, Home], None], tuple[str, ...]], ...] = (
    (
        a_sample_changed,
        (f"CHANGED: runs/.*/samples/{LATENCY}.parquet was", f"VERDICT: {LATENCY}: .*p95 is .* ms by the samples"),
    ),
    (
        a_sample_file_removed,
        (f"REMOVED: runs/.*/samples/{LATENCY}.parquet was", "cannot be computed again: .* is missing|cannot be read"),
    ),
    (a_file_added, ("ADDED: runs/release-notes.txt was added",)),
    (a_verdict_changed, (RUN_CHANGED, OTHER_VERDICT)),
    (
        a_verdict_its_hash_and_the_statement_rewritten,
        ("SIGNATURE: .*the statement or the signature was changed", OTHER_VERDICT),
    ),
    (
        an_engine_digest_changed,
        (RUN_CHANGED, f"RECORD: bundle.json: rows.{LATENCY}.lineage.engine is '{ENGINE}'; the runs .* '0000"),
    ),
    (
        the_environment_changed,
        (RUN_CHANGED, "RECORD: bundle.json: runs.*environment.jetpack is not there; the runs .* '7.2'"),
    ),
    (the_signature_removed, ("SIGNATURE: .*it is not signed: the envelope has no signature", "\nnot signed")),
    (a_file_changed_and_the_signature_removed, ("SIGNATURE: .*it is not signed", RUN_CHANGED)),
    (the_attestation_removed, ("SIGNATURE: .*is not there: the bundle is unsigned",)),
    (signed_by_a_foreign_key, ("SIGNATURE: .*signed by the key .*, not by .* that you trust: a foreign key",)),
    (a_foreign_signature_under_the_right_name, ("SIGNATURE: .*the signature is not of this content by the key",)),
    (the_payload_type_changed, ("SIGNATURE: .*its payloadType is 'application/vnd.other",)),
    (a_second_signature, ("SIGNATURE: .*it has 2 signatures, and one is expected: a signature was added",)),
    (an_envelope_written_otherwise, ("SIGNATURE: .*its bytes were changed",)),
    (
        line_ends_changed,
        (
            "SIGNATURE: .*its line ends were changed, as by a copy as text",
            "CHANGED: SIGNOFF.md was changed",
            RUN_CHANGED,
            "said to be signed by",
        ),
    ),
    (the_key_copy_replaced, ("CHANGED: signer.pub was changed", "SIGNATURE: signer.pub is not the key that you gave")),
    (two_runs_exchanged, ("RECORD: runs/.* holds the run cloud: runs were exchanged",)),
    (a_run_id_rewritten, (RUN_CHANGED, "RECORD: runs/.* holds the run cloud")),
    (
        samples_truncated,
        (f"CHANGED: runs/.*/samples/{LATENCY}.parquet was changed", "cannot be computed again: .*cannot be read"),
    ),
    (a_journal_truncated, (f"CHANGED: runs/.*/{JOURNAL} was changed",)),
    (
        a_link_in_place_of_a_file,
        ("ADDED: runs/.*/limits.json is a symbolic link", "REMOVED: runs/.*/limits.json was removed"),
    ),
    (
        a_name_that_differs_by_case,
        ("ADDED: runs/.*/run.json has the name of .*RUN.json, but for", "ADDED: runs/.*/RUN.json was added"),
    ),
    (the_page_changed, ("CHANGED: SIGNOFF.md was changed", "RECORD: SIGNOFF.md does not say what was decided")),
    (raw_statistics_changed, (f"CHANGED: runs/.*/raw/{PARITY}.npz was changed",)),
    (a_row_dropped, (RUN_CHANGED, f"the run is said to be complete, and its row {LATENCY} has no verdict")),
)


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize(("tamper", "named"), TAMPERINGS, ids=[each[0].__name__ for each in TAMPERINGS])
def test_what_was_tampered_with_is_named(
    tamper: Callable[[Path, Home], None], named: tuple[str, ...], bundle: Path, home: Home
) -> None:
    tamper(bundle, home)
    seen = look(bundle, home.key.public)
    assert seen.exit_code == 1, seen.to_text()
    for words in named:
        assert re.search(words, all_of(seen)), f"{words}\n{all_of(seen)}"
    gravest = [finding.kind for finding in seen.findings]
    assert gravest == sorted(gravest, key=ORDER.index)


def test_what_follows_from_a_touched_run_is_counted_and_not_listed(bundle: Path, home: Home) -> None:
    the_environment_changed(bundle, home)
    lines = look(bundle, home.key.public).to_text().splitlines()
    assert re.fullmatch("CHANGED: runs/.*/run.json was changed: .*", lines[0])
    assert lines[1] == "and what follows from it: 2 lines, --json has them"
    lines = [line for line in lines if not line.startswith("note: ")]  # of clocks, this machine's too
    assert lines[2].startswith("made 2026-11-21T12:00:00+00:00 of pack 9a9a")
    assert lines[3].startswith(
        "12 files, 4 verdicts: 1 from raw samples, 1 from samples, 2 from their own checks in the"
    )
    assert len(lines) == 6


def test_whoever_signed_is_told_as_what_they_are(bundle: Path, home: Home) -> None:
    mine, theirs = home.key.public.id[:16], home.foreign.public.id[:16]
    assert f"signed by {mine}, the key you gave. " in look(bundle, home.key.public).to_text()
    assert f"signed by {mine}, as it says of itself: no key was given" in look(bundle, None).to_text()
    foreign = look(bundle, home.foreign.public).to_text()
    assert f"signed by {mine}, as it says of itself, and not by {theirs}, the key you gave" in foreign
    a_foreign_signature_under_the_right_name(bundle, home)
    assert (
        f"said to be signed by {mine}, the key you gave, which does not hold" in look(bundle, home.key.public).to_text()
    )
    the_signature_removed(bundle, home)
    assert "\nnot signed. It says of itself: SIGNED OFF" in look(bundle, home.key.public).to_text()


def test_an_old_bundle_under_a_new_name_is_told_by_when_and_of_what_it_was_made(home: Home, tmp_path: Path) -> None:
    seen = look(Path(shutil.copytree(home.path / "good", tmp_path / "1.5")), home.key.public)
    assert f"made {MADE_AT} of pack {'9a' * 8} and of the runs " in seen.to_text()
    assert ", cloud (ended 2" in seen.made
    assert "note: Run " in seen.to_text()  # what the page notes, whoever verifies is told as well


@pytest.mark.covers("RE-03")
def test_whether_an_engine_is_the_tested_one_is_told(bundle: Path, home: Home, tmp_path: Path) -> None:
    plan, other = tmp_path / "matcher.engine", tmp_path / "other.engine"
    plan.write_bytes(b"plan")
    other.write_bytes(b"another")
    edit(run_of(bundle), settled(LATENCY, measured(lineage={"engine": hash_file(plan)})))
    made_again(bundle, home.key)
    seen = verify(bundle, home.key.public, today=TODAY, artifacts=[plan])
    assert seen.exit_code == 0, seen.to_text()
    assert f"{plan} is what was tested: {LATENCY} (passed)" in seen.to_text()
    seen = verify(bundle, home.key.public, today=TODAY, artifacts=[plan, other])
    assert (seen.exit_code, [one.kind for one in seen.findings]) == (1, ["artifact"])
    assert "other.engine (sha256 " in seen.findings[0].words
    assert "is nothing that was tested here" in seen.findings[0].words
    with pytest.raises(UsageError, match=r"--artifact: .*nothing cannot be read"):
        verify(bundle, home.key.public, today=TODAY, artifacts=[tmp_path / "nothing"])


def test_an_engine_that_passes_in_no_row_is_told(home: Home, tmp_path: Path) -> None:
    plan = tmp_path / "matcher.engine"
    plan.write_bytes(b"plan")
    home.make([home.path / "slow-run"], tmp_path / "evidence", evidence_only=True)
    edit(run_of(tmp_path / "evidence"), settled(LATENCY, measured(lineage={"engine": hash_file(plan)})))
    made_again(tmp_path / "evidence", home.key)
    seen = verify(tmp_path / "evidence", home.key.public, today=TODAY, artifacts=[plan])
    assert f"was tested, and passes in no row: {LATENCY} (failed)" in seen.to_text()


def test_an_empty_folder_that_was_added_is_named(bundle: Path, home: Home) -> None:
    (bundle / "runs/extra").mkdir()
    seen = look(bundle, home.key.public)
    assert [(one.kind, one.words) for one in seen.findings] == [("added", "runs/extra/ was added, and is empty")]
    assert seen.exit_code == 1


def test_a_run_that_is_cut_off_is_not_told_as_removed(bundle: Path, home: Home) -> None:
    for path in (bundle / "runs").glob("*/run.json"):
        path.write_bytes(path.read_bytes()[:100])
    kinds = [finding.kind for finding in look(bundle, home.key.public).findings]
    assert kinds == ["changed", "changed", "record", "record"]


@pytest.mark.covers("RE-03")
def test_a_failed_verdict_that_was_rewritten_and_signed_again_with_the_right_key_fails_at_the_samples(
    slow: Path, home: Home
) -> None:
    (slow / WAIVERS).unlink()
    edit(run_of(slow), passing)
    made_again(slow, home.key)
    assert signoff_from((slow / BUNDLE).read_bytes()).result == "PASSED"
    seen = look(slow, home.key.public)
    assert seen.exit_code == 1
    assert seen.is_trusted
    assert {finding.kind for finding in seen.findings} == {"verdict", "record"}, seen.to_text()
    assert f"VERDICT: {LATENCY} was PASS; by samples it is FAIL: p95 is over 20 ms" in seen.to_text()


def test_a_figure_that_was_rewritten_and_signed_again_fails_although_the_verdict_is_the_same(
    bundle: Path, home: Home
) -> None:
    def faster(one: Verdict) -> Verdict:
        latency = one.summary.latency
        assert latency is not None
        return replace(
            one, summary=replace(one.summary, latency=replace(latency, p95=replace(latency.p95, value_ns=1_000_000)))
        )

    edit(run_of(bundle), settled(LATENCY, faster))
    made_again(bundle, home.key)
    seen = look(bundle, home.key.public)
    assert f"VERDICT: {LATENCY}: p95 is 1 ms in run.json" in seen.to_text()
    assert seen.exit_code == 1


@pytest.mark.covers("RE-03")
def test_a_waiver_whose_date_was_moved_is_named_and_one_that_ended_since_is_told(slow: Path, home: Home) -> None:
    after = datetime.date(2027, 1, 1)
    ended = look(slow, home.key.public, after)
    assert ended.exit_code == 3
    assert "has ended on 2026-12-31, after it was signed" in ended.to_text()
    path = slow / WAIVERS
    path.write_bytes(path.read_bytes().replace(b"2026-12-31", b"2027-12-31"))
    moved = look(slow, home.key.public, after)
    assert moved.exit_code == 1
    assert "CHANGED: waivers.toml was changed" in moved.to_text()
    wanted = "RECORD: bundle.json: waivers.1.until is '2026-12-31'; the runs and waivers make it '2027-12-31'"
    assert wanted in all_of(moved)


def test_a_waiver_that_was_added_is_named(bundle: Path, home: Home) -> None:
    (bundle / WAIVERS).write_bytes(WAIVER)
    seen = look(bundle, home.key.public)
    assert "ADDED: waivers.toml was added" in seen.to_text()
    assert seen.exit_code == 1


@pytest.mark.covers("RE-03")
def test_without_a_key_nothing_is_verified(home: Home) -> None:
    seen = look(home.path / "good", None)
    assert seen.exit_code == 3
    assert "SIGNER: the signer is unknown: give the public key that you trust with --key" in seen.to_text()
    assert not seen.is_trusted


def test_with_the_pack_at_hand_outputs_are_held_against_it(home: Home) -> None:
    pack = Pack({MODEL: read_model(home.path / "pack" / MODEL)}, "9a" * 32, 0, "small")
    seen = verify(home.path / "good", home.key.public, today=TODAY, pack=pack)
    assert seen.exit_code == 0, seen.to_text()
    assert "raw outputs" in {row.row.source for row in seen.rows}
    with pytest.raises(UsageError, match="the pack is 7777777777777777, and run"):
        verify(home.path / "good", home.key.public, today=TODAY, pack=replace(pack, sha256="77" * 32))


@pytest.fixture(scope="module")
def carrying(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that carries the references of its pack."""
    path = tmp_path_factory.mktemp("carrying")
    pack = a_pack(path / "pack")
    pack = replace(pack, sha256=digest_of(pack.models))
    a_release(path / "run", pack)
    home.make([path / "run"], path / "bundle", pack=pack, with_references=True)
    return path / "bundle"


def nearer(folder: Path) -> None:
    """Statistics, figures, checks and verdict of the parity row, all a hundredth of what was measured."""
    path = folder / f"raw/{PARITY}.npz"
    numerics = read_numerics(path)
    outputs = tuple(
        replace(one, samples=tuple(replace(each, error_norm=each.error_norm / 100) for each in one.samples))
        for one in numerics.outputs
    )
    numerics = replace(numerics, outputs=outputs)
    with np.load(path) as kept:
        elements = [kept[f"elements/{at}"] for at in range(len(numerics.kept))]
    with path.open("wb") as file:
        np.savez(file, **raw_arrays(numerics, elements))  # type: ignore[arg-type] # the stub takes them for allow_pickle
    edit(folder, settled(PARITY, lambda one: judge_numerics(one.summary.measurement, numerics)))


@pytest.mark.covers("RE-03")
def test_statistics_that_were_rewritten_with_figures_and_verdict_fail_at_the_references_that_a_bundle_carries(
    carrying: Path, home: Home, tmp_path: Path
) -> None:
    seen = look(carrying, home.key.public)
    assert seen.exit_code == 0, seen.to_text()
    assert {row.row.case_id: row.row.source for row in seen.rows}[PARITY] == "raw outputs"
    bundle = Path(shutil.copytree(carrying, tmp_path / "bundle"))
    nearer(run_of(bundle))
    made_again(bundle, home.key)
    assert re.search(
        f"VERDICT: {PARITY}: .* against the pack, and .* was judged", all_of(look(bundle, home.key.public))
    )


def of_another_key(bundle: Path) -> None:
    path = bundle / "pack" / MODEL / "model.json"
    path.write_text(path.read_text().replace('"key": "', '"key": "other'))


def without_its_model(bundle: Path) -> None:
    (bundle / "pack" / MODEL / "model.json").write_text("{")


def with_a_link(bundle: Path) -> None:
    (bundle / "pack" / MODEL / "reference.npz").unlink()
    (bundle / "pack" / MODEL / "reference.npz").symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (of_another_key, "RECORD: pack is of the pack [0-9a-f]{16}, and the run .* of another"),
        (without_its_model, f"RECORD: pack: pack/{MODEL} is damaged"),
        (with_a_link, f"ADDED: pack/{MODEL}/reference.npz is a symbolic link"),
    ],
)
def test_references_that_are_not_those_of_the_runs_are_named(
    change: Callable[[Path], None], words: str, carrying: Path, home: Home, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(carrying, tmp_path / "bundle"))
    change(bundle)
    made_again(bundle, home.key)
    seen = look(bundle, home.key.public)
    assert (seen.exit_code, bool(re.search(words, all_of(seen)))) == (1, True), seen.to_text()


def test_an_unsigned_bundle_fails_without_a_key_as_well(bundle: Path, home: Home) -> None:
    the_signature_removed(bundle, home)
    assert look(bundle, None).exit_code == 1


@pytest.mark.covers("RE-03")
def test_evidence_that_lacks_samples_is_intact_and_no_sign_off_wherever_it_lies(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.path / "run", tmp_path / "run")
    (tmp_path / f"run/samples/{LATENCY}.parquet").unlink()
    home.make([tmp_path / "run"], tmp_path / "bundle", evidence_only=True)
    (tmp_path / "bundle").rename(tmp_path / "moved")
    seen = look(tmp_path / "moved", home.key.public)
    assert {finding.kind for finding in seen.findings} == {"open"}, seen.to_text()
    assert str(tmp_path) not in (tmp_path / "moved" / PAGE).read_text()
    assert (seen.exit_code, seen.to_text().splitlines()[-1]) == (3, f"INTACT, AND NO SIGN-OFF: {tmp_path / 'moved'}")


@pytest.mark.covers("RE-03")
def test_a_byte_changed_in_any_file_is_named_with_the_file(bundle: Path, home: Home) -> None:
    for name in walk(bundle).files:
        path = bundle / name
        kept = path.read_bytes()
        if not kept:
            continue
        at = zlib.crc32(name.encode()) % len(kept)
        path.write_bytes(bytes((*kept[:at], kept[at] ^ 4, *kept[at + 1 :])))
        seen = look(bundle, home.key.public)
        assert seen.exit_code == 1, name
        assert f"CHANGED: {name} was changed" in seen.to_text() or f"SIGNATURE: {name}" in seen.to_text()
        path.write_bytes(kept)
    assert look(bundle, home.key.public).exit_code == 0


def test_what_a_forger_writes_commands_no_terminal(bundle: Path, home: Home) -> None:
    edit(run_of(bundle), lambda run: replace(run, last_line="\x1b[2J\x1b[32mVERIFIED\n"))
    assert "\x1b" not in look(bundle, home.key.public).to_text()


def test_a_verdict_of_another_version_is_told_with_it(slow: Path, home: Home) -> None:
    edit(run_of(slow), passing)
    table = json.loads((slow / BUNDLE).read_text())
    (slow / BUNDLE).write_text(json.dumps({**table, "trigate_version": "0.0.9"}))
    assert "judged by trigate 0.0.9, and again by" in look(slow, home.key.public).to_text()
    (slow / BUNDLE).write_text(json.dumps({**table, "schema": 99}))
    assert "it has schema 99; this trigate reads up to 1: upgrade trigate" in look(slow, home.key.public).to_text()


def of_another_version(
    bundle: Path, home: Home, change: Callable[[dict[str, Any]], object] = lambda table: None
) -> str:
    """What is told of a bundle that another trigate signed, which had other words and fields; by the right key."""
    table = json.loads((bundle / BUNDLE).read_text())
    table |= {"trigate_version": "0.0.9", "decision": "It may be released.", "notes": ["of then"], "mood": "good"}
    for row in table["rows"]:
        row.pop("held_against")
        row["colour"] = "green"
    change(table)
    (bundle / BUNDLE).write_text(json.dumps(table))
    (bundle / PAGE).write_text("# It may be released\n")
    sign_again(bundle, home.key)
    return all_of(look(bundle, home.key.public))


@pytest.mark.covers("RE-03")
def test_a_bundle_of_another_version_is_held_to_what_it_says_and_not_to_its_words(bundle: Path, home: Home) -> None:
    told = of_another_version(bundle, home)
    assert told.endswith(f"VERIFIED: {bundle}")
    assert "note: It was signed by trigate 0.0.9, which words a decision and SIGNOFF.md in its own way" in told


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.update(result="WARNED"), "result is 'WARNED'; the runs and waivers make it 'PASSED'"),
        (lambda table: table["rows"].pop(), "is not there; the runs and waivers make it there"),
        (
            lambda table: table["rows"][0].update(standing="waived"),
            "standing is 'waived'; the runs and waivers make it",
        ),
        (lambda table: table["rows"][0].update(lineage={}), "lineage.* is not there; the runs and waivers make it"),
    ],
)
def test_what_a_bundle_of_another_version_says_is_still_what_its_runs_make_it(
    change: Callable[[dict[str, Any]], object], words: str, bundle: Path, home: Home
) -> None:
    assert re.search(f"RECORD: bundle.json: .*{words}", of_another_version(bundle, home, change))


@pytest.mark.parametrize(
    ("file", "data"),
    [
        (BUNDLE, b"[" * 100_000),
        (BUNDLE, b'{"made_at": 1}'),
        (ATTESTATION, b"[]"),
        (ATTESTATION, b"\xff\xfe"),
        (WAIVERS, b"waiver = 3"),
    ],
)
def test_a_file_that_is_nonsense_is_named_and_nothing_breaks(file: str, data: bytes, bundle: Path, home: Home) -> None:
    (bundle / file).write_bytes(data)
    seen = look(bundle, home.key.public)
    assert seen.exit_code == 1
    assert file in seen.to_text()


@pytest.mark.parametrize("data", [b"", b"{}", b'{"schema": 99}', b"[" * 100_000, b'{"schema": 2, "id": 7}'])
def test_a_run_that_is_nonsense_is_named_and_nothing_breaks(data: bytes, bundle: Path, home: Home) -> None:
    (run_of(bundle) / "run.json").write_bytes(data)
    seen = look(bundle, home.key.public)
    assert seen.exit_code == 1
    assert "run.json was changed" in seen.to_text()
    assert "run.json cannot be" in seen.to_text()


def test_a_pipe_in_a_bundle_is_named_and_not_waited_for(bundle: Path, home: Home) -> None:
    os.mkfifo(bundle / "runs" / "pipe")
    assert "ADDED: runs/pipe is no regular file" in look(bundle, home.key.public).to_text()


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize("name", ["run.json", f"raw/{PARITY}.npz", f"samples/{LATENCY}.parquet"])
def test_a_pipe_among_what_is_judged_is_not_waited_for(name: str, bundle: Path, home: Home) -> None:
    (run_of(bundle) / name).unlink()
    os.mkfifo(run_of(bundle) / name)
    seen = look(bundle, home.key.public)
    assert "is not judged: it holds what is no file of its own" in seen.to_text()
    assert seen.exit_code == 1


@pytest.mark.covers("RE-03")
def test_a_record_that_is_no_file_is_not_opened(bundle: Path, home: Home) -> None:
    path = run_of(bundle) / "run.json"
    path.rename(home.path / "aside.json")
    path.symlink_to(home.path / "aside.json")
    seen = look(bundle, home.key.public)
    assert f"{path.parent.relative_to(bundle)} is not judged: it holds what is no file of its own" in seen.to_text()


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table["subject"].append(table["subject"][0]), "one is twice, or says more"),
        (lambda table: table["subject"][0].update(annotations={"by": "x"}), "one is twice, or says more"),
        (lambda table: table.update(approved=True), "the statement has 'approved', which no bundle's has"),
    ],
)
def test_a_statement_that_says_more_than_the_bundle_is_named(
    change: Callable[[dict[str, Any]], object], words: str, bundle: Path, home: Home
) -> None:
    statement = json.loads(rewritten(bundle))
    change(statement)
    (bundle / ATTESTATION).write_bytes(seal(statement, home.key))
    seen = look(bundle, home.key.public)
    assert words in seen.to_text()
    assert seen.exit_code == 1


def test_figures_of_no_machine_and_a_date_to_come_break_nothing(bundle: Path, home: Home) -> None:
    state = BoardState(boot_id="b", uptime_s=1e300)
    edit(run_of(bundle), settled(LATENCY, measured(board_start=state, started_at=MADE_AT, duration_ns=10**400)))
    seen = look(bundle, home.key.public, datetime.date(2025, 1, 1))
    assert "OPEN: it was made on 2026-11-21, which is yet to come: a clock is wrong" in seen.to_text()
    assert seen.exit_code == 1


def test_a_file_that_changes_while_it_is_verified_is_named(
    bundle: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(folder: Path, run: Run, *others: Any) -> Any:
        rows = recompute(folder, run, *others)
        path = run_of(bundle) / f"samples/{LATENCY}.parquet"
        data = path.read_bytes()
        path.with_name("other").write_bytes(data)
        path.with_name("other").replace(path)  # the same bytes, by way of another file
        return rows

    monkeypatch.setattr("harness.signoff.bundle.recompute", slowly)
    seen = look(bundle, home.key.public)
    assert f"samples/{LATENCY}.parquet was touched while the bundle was verified" in seen.to_text()
    assert seen.exit_code == 1


def test_a_statement_that_names_files_outside_is_refused(bundle: Path, home: Home) -> None:
    statement = json.loads(rewritten(bundle))
    statement["subject"].append({"name": "../../etc/passwd", "digest": {"sha256": "00" * 32}})
    (bundle / ATTESTATION).write_bytes(seal(statement, home.key))
    seen = look(bundle, home.key.public)
    assert "RECORD: the statement names '../../etc/passwd', which is no file of a bundle" in seen.to_text()
    assert seen.exit_code == 1


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("missing", "does not exist; expected a bundle"),
        ("run", "is no bundle: expected what `trigate sign --out` wrote"),
    ],
)
def test_what_is_no_bundle_is_refused(what: str, words: str, home: Home) -> None:
    with pytest.raises(UsageError, match=words):
        look(home.path / what, home.key.public)
