"""``trigate sign``: runs of one pack, all that they measured and what was decided, in one folder or archive, signed.

    attestation.dsse.json   the in-toto statement of every file's digest, signed
    bundle.json             what was decided, row by row, with lineage and waivers (harness.signoff.decision)
    SIGNOFF.md              the same for people
    signer.pub              the public key, for who wants to know whose it claims to be; nobody trusts it
    waivers.toml            as it was given
    pack/<model>/           its tolerances and its reference, where they were asked for: model.json, reference.npz
    runs/<run id>/          each run folder, whole

Whatever is judged is judged from the copies that are signed, and every verdict is computed again before it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.combine import labels_for, requirements_of
from harness.errors import UsageError
from harness.limits import read_limits
from harness.packs.folder import Pack, digest_of
from harness.packs.model import read_model
from harness.records import RecordError, Run, from_json, to_json
from harness.signoff.decision import SCHEMA_VERSION, Problem, SignOff, decide, fit_together, page, statement_of
from harness.signoff.files import copy_hashed, explained, walk, write_archive
from harness.signoff.recompute import recompute, recompute_run
from harness.signoff.recomputed import Recomputed
from harness.signoff.signing import PrivateKey, seal
from harness.signoff.waivers import parse_waivers
from harness.tier2.rejudge import read_run
from runtime.files import sha256_hex

__all__ = [
    "ATTESTATION",
    "BUNDLE",
    "KEY_COPY",
    "PACK",
    "PAGE",
    "WAIVERS",
    "Made",
    "carried_pack",
    "is_bundle",
    "judge_again",
    "make_bundle",
    "record_text",
    "requires_of",
    "same_samples",
    "signoff_from",
]

ATTESTATION, BUNDLE, PAGE, KEY_COPY, WAIVERS = (
    "attestation.dsse.json", "bundle.json", "SIGNOFF.md", "signer.pub", "waivers.toml",
)  # fmt: skip
PACK = "pack"
_NOT_EVIDENCE = (".lock",)
_OF_PACK = ("model.json", "reference.npz")


@dataclass(frozen=True)
class Made:
    """``path``: the bundle; ``None`` where it was refused, for the reasons in ``signoff.problems``."""

    signoff: SignOff
    path: Path | None


def is_bundle(path: Path) -> bool:
    """Whether a folder looks like one; whether it is one, ``trigate verify`` says."""
    return (path / BUNDLE).is_file() or (path / ATTESTATION).is_file()


def make_bundle(
    folders: Sequence[Path],
    out: Path,
    key: PrivateKey,
    *,
    made_at: str,
    trigate_version: str,
    waivers: bytes | None = None,
    evidence_only: bool = False,
    pack: Pack | None = None,
    with_references: bool = False,
    say: Callable[[str], None] = lambda words: None,
) -> Made:
    """Bundle and sign run folders at ``out``, a new folder, or one file where it ends in ``.zip``.

    ``waivers``: the bytes of a waiver file. ``evidence_only``: sign what is no sign-off as well, with the result FAILED.
    ``made_at``: ISO time, UTC. ``pack``: the one of the runs, to hold their outputs and tolerances against before anything is
    signed. ``with_references``: put its tolerances and references into the bundle, to hold outputs against without it.
    Raises ``UsageError`` for runs that make no bundle; nothing is left then, nor where it is refused.
    """
    if os.path.lexists(out):
        raise UsageError(f"--out: {out} exists already. Name a new one, so that no bundle is lost.")
    if around := next((each for each in folders if out.resolve().is_relative_to(each.resolve())), None):
        raise UsageError(
            f"--out: {out} is inside the run folder {around}, which is what goes into it. Name one elsewhere."
        )
    accepted = parse_waivers(waivers, WAIVERS) if waivers is not None else ()
    with _workshop(out) as work:
        files, runs = _gathered(folders, work, say)
        contradictions: list[Problem] = []
        for inside, run in runs.items():
            say(f"computing the verdicts of {run.id} again")
            contradictions += judge_again(run, work / inside, pack if run.pack_sha256 else None)[1]
        contradictions += same_samples(files)
        requires = {run.id: requires_of(run, work / inside) for inside, run in runs.items()}
        signoff = decide(
            list(runs.values()),
            requires,
            accepted,
            made_at=made_at,
            trigate_version=trigate_version,
            contradictions=contradictions,
        )
        if any(problem.fails for problem in contradictions) or (signoff.problems and not evidence_only):
            return Made(signoff, None)
        written = {BUNDLE: record_text(signoff), PAGE: page(signoff).encode(), KEY_COPY: key.public.pem}
        if waivers is not None:
            written[WAIVERS] = waivers
        if pack is not None and with_references:
            files |= _carry(pack, work)
        for name, data in written.items():
            (work / name).write_bytes(data)
            files[name] = sha256_hex(data)
        (work / ATTESTATION).write_bytes(seal(statement_of(signoff, files), key))
        _put(work, out, say)
    return Made(signoff, out)


def _carry(pack: Pack, work: Path) -> dict[str, str]:
    """Copy what outputs are held against; gives sha256 by name."""
    names = [(f"{PACK}/{name}/{file}", model.path(file)) for name, model in pack.models.items() for file in _OF_PACK]
    return {name: copy_hashed(path, work / name) for name, path in names if path.exists()}


def carried_pack(folder: Path) -> Pack | None:
    """As much of its pack as a bundle carries; ``None`` where it carries nothing. Raises ``UsageError`` for a damaged one."""
    home = folder / PACK
    if not home.is_dir():
        return None
    models = {path.name: read_model(path) for path in sorted(home.iterdir())}
    return Pack(models, digest_of(models), 0, "")


def record_text(signoff: SignOff) -> bytes:
    """``bundle.json``."""
    return (json.dumps(to_json(signoff), indent=1, allow_nan=False) + "\n").encode()


def signoff_from(data: bytes) -> SignOff:
    """``bundle.json`` read. Raises ``RecordError``, for one of a newer trigate too, and ``ValueError``."""
    signoff = from_json(SignOff, json.loads(data))
    if signoff.schema > SCHEMA_VERSION:
        raise RecordError(
            f"it has schema {signoff.schema}; this trigate reads up to {SCHEMA_VERSION}: upgrade trigate."
        )
    return signoff


def requires_of(run: Run, folder: Path) -> tuple[str, ...]:
    """What a run had to show: as it kept it, or (a run of an older trigate) as its command line said."""
    limits = read_limits(folder)
    return limits.require if limits is not None else requirements_of(run)


def judge_again(
    run: Run, folder: Path, pack: Pack | None = None, say: Callable[[str], None] = lambda words: None
) -> tuple[tuple[Recomputed, ...], tuple[Problem, ...]]:
    """Each verdict of a run computed again, and where the run is not what its own samples make it, or cannot be computed again.

    No waiver covers such a problem. Words are the same wherever the folder lies. ``pack``, ``say``: as ``recompute`` takes them.
    """
    where = f"{folder}/"
    rows = tuple(
        replace(row, words=row.words.replace(where, ""), differs=tuple(one.replace(where, "") for one in row.differs))
        for row in recompute(folder, run, pack, say)
    )
    told = (words.replace(where, "") for words in recompute_run(folder, run, rows))
    return rows, (*_contradictions(rows), *(Problem(f"run {run.id}: {words}", True) for words in told))


def same_samples(files: Mapping[str, str]) -> tuple[Problem, ...]:
    """Of rows with the same samples to the last nanosecond one was not measured. ``files``: sha256 by name in the bundle."""
    first: dict[str, str] = {}
    told = []
    for name, digest in sorted(files.items()):
        is_samples = re.fullmatch(r"runs/[^/]+/samples/[^/]+\.parquet", name)
        if is_samples and first.setdefault(digest, name) != name:
            words = f"{name} and {first[digest]} are the same samples: one of the rows was not measured"
            told.append(Problem(words, True))
    return tuple(told)


def _contradictions(rows: Sequence[Recomputed]) -> Iterator[Problem]:
    for row in rows:
        if row.now is None:
            words = f"{row.case_id} is {row.was.value}, which cannot be computed again: {row.words}"
            yield Problem(words, False, row.case_id)
        elif row.now is not row.was:
            words = f"{row.case_id} was {row.was.value}; by {row.source} it is {row.now.value}: {row.words}"
            yield Problem(words, True, row.case_id)
        elif row.differs:
            yield Problem(f"{row.case_id}: {'; '.join(row.differs)}", True, row.case_id)


@contextlib.contextmanager
def _workshop(out: Path) -> Iterator[Path]:
    """A folder beside the bundle to be, of nobody else; gone at the end, unless it became the bundle."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise explained(error, out) from error
    try:
        yield work
    except OSError as error:
        raise explained(error, out) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _gathered(folders: Sequence[Path], work: Path, say: Callable[[str], None]) -> tuple[dict[str, str], dict[str, Run]]:
    """(sha256 by name in the bundle, run by folder in it), with every file copied. Raises ``UsageError``."""
    before = list(map(read_run, folders))
    fit_together(dict(zip(labels_for(folders), before, strict=True)))
    files: dict[str, str] = {}
    runs: dict[str, Run] = {}
    for folder, run in zip(folders, before, strict=True):
        say(f"copying {folder}")
        inside = f"runs/{run.id}"
        tree = walk(folder)
        for name, words in tree.odd.items():
            raise UsageError(
                f"{folder / name} {words}, and has no place in a bundle. Take it out, or copy what it names."
            )
        for name in tree.files:
            if name not in _NOT_EVIDENCE:
                files[f"{inside}/{name}"] = copy_hashed(folder / name, work / inside / name)
        runs[inside] = read_run(work / inside)
        if f"runs/{runs[inside].id}" != inside:
            raise UsageError(f"{folder} changed while it was copied: another run stands in it now.")
    return files, runs


def _put(work: Path, out: Path, say: Callable[[str], None]) -> None:
    say(f"writing {out}")
    if out.suffix == ".zip":
        packed = work.with_name(f"{work.name}.zip")
        try:
            write_archive(work, packed)
            packed.rename(out)
        finally:
            packed.unlink(missing_ok=True)
        return
    work.chmod(0o755)
    work.rename(out)
