"""``trigate verify``: whether a bundle is what was signed, and whether what was signed is what was measured. Offline.

Nothing is believed: the signature is held against a key that is given, every file against the statement, every verdict
against the raw samples, and the decision is made again. A verdict and its hash that were both rewritten fail at the
signature; by whoever holds the key, at the samples.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import itertools
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.packs.folder import Pack
from harness.records import Outcome, RecordError, Run, to_json
from harness.signoff.bundle import (
    ATTESTATION,
    BUNDLE,
    KEY_COPY,
    PACK,
    PAGE,
    WAIVERS,
    carried_pack,
    is_bundle,
    judge_again,
    requires_of,
    same_samples,
    signoff_from,
)
from harness.signoff.decision import ARTIFACT, Problem, SignOff, decide, fit_together, page, statement_of, tested_as
from harness.signoff.files import hash_file, identity, is_safe_name, unpack, walk
from harness.signoff.recomputed import Recomputed
from harness.signoff.signing import Envelope, PublicKey, SignatureError, said_by, unseal
from harness.signoff.waivers import Waiver, parse_waivers
from harness.tier2.rejudge import read_run
from runtime.errors import RuntimeCoreError
from runtime.files import read_small
from runtime.model_file import model_sha256

__all__ = ["Finding", "Verification", "verify"]

_MOST_BYTES = 64 << 20
_MOST_RUN_BYTES = 1 << 30
_MOST_SHOWN = 30
_MOST_LETTERS = 200
_WORDED = ("decision", "notes", "held_against", "unused")
"""What code words in ``bundle.json``."""
_TOUCHED = ("changed", "removed", "added")
_GRAVE = (*_TOUCHED, "signature", "verdict", "record")
_ORDER = (*_GRAVE, "artifact", "failed", "open", "signer")


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be. ``kind``: ``signature``, ``changed``, ``added``, ``removed``, ``verdict`` (not
    what the samples say), ``record`` (the bundle contradicts itself), ``artifact`` (a file that was not tested), ``failed``,
    ``open``, or ``signer`` (no key was given).
    ``follows``: of a bundle whose runs were touched, it is no more than a consequence.
    """

    kind: str
    words: str
    follows: bool = False


@dataclass(frozen=True)
class RowSeen:
    """One verdict of one run, computed again."""

    run: str
    row: Recomputed


@dataclass(frozen=True)
class Verification:
    """``signer``: the id of the key that signed, as the envelope says; to be believed where ``is_trusted``. ``judged_by``,
    ``verified_by``: versions of trigate. ``key``: the id of the one that was given. ``made``: when, and of what. ``artifacts``:
    which rows ran the files that were asked about.
    """

    bundle: str
    signer: str
    is_trusted: bool
    result: str
    decision: str
    files: int
    rows: tuple[RowSeen, ...]
    findings: tuple[Finding, ...]
    waivers: tuple[str, ...]
    judged_by: str
    verified_by: str
    key: str = ""
    made: str = ""
    notes: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0: signed off, by the key, and all of it holds. 1: something was changed, does not hold or fails. 3: it holds, and
        something is open: no key was given, a waiver has ended, a verdict cannot be computed again.
        """
        kinds = {finding.kind for finding in self.findings}
        if kinds & {*_GRAVE, "artifact", "failed"}:
            return 1
        return 3 if kinds else 0

    def to_json(self) -> dict[str, Any]:
        return {**to_json(self), "exit_code": self.exit_code}

    def to_text(self) -> str:
        """For people: what is wrong first, then what was looked at; the verdict is the last line."""
        shown, more = self._shown()
        lines = [f"{finding.kind.upper()}: {finding.words}" for finding in shown]
        lines += [f"and what follows from it: {more} line{'s' if more > 1 else ''}, --json has them"] if more else []
        lines += [f"waiver: {words}" for words in self.waivers]
        lines += [f"note: {words}" for words in self.notes]
        lines += [*self.artifacts, *filter(None, [self.made])]
        count = f"{len(self.rows)} verdict{'' if len(self.rows) == 1 else 's'}"
        lines += [f"{self.files} files, {count}: {_sources(self.rows)}."]
        is_grave = any(finding.kind in _GRAVE for finding in self.findings)
        told = f"It says of itself: {self.decision}" if is_grave else self.decision
        if (
            any(finding.kind in ("verdict", "record") for finding in self.findings)
            and self.judged_by != self.verified_by
        ):
            lines.append(
                f"judged by trigate {self.judged_by}, and again by {self.verified_by}: a rule may have changed."
            )
        lines.append(f"{self._signed()}. {told}".rstrip())
        words = {0: "VERIFIED", 1: "NOT VERIFIED", 3: "VERIFIED IN PART"}[self.exit_code]
        if self.result == "FAILED" and not is_grave:
            words = "INTACT, AND NO SIGN-OFF"
        return "\n".join(_printable(line) for line in [*lines, f"{words}: {self.bundle}"])

    def _shown(self) -> tuple[list[Finding], int]:
        """(findings for people, how many are left out): where the runs were touched, the rest of the record follows."""
        touched = any(
            finding.kind in _TOUCHED and finding.words.startswith(("runs/", WAIVERS)) for finding in self.findings
        )
        shown = [finding for finding in self.findings if not (touched and finding.follows)]
        return shown, len(self.findings) - len(shown)

    def _signed(self) -> str:
        signer, key = self.signer[:16], self.key[:16]
        if not signer:
            return "not signed"
        if self.is_trusted:
            return f"signed by {signer}, the key you gave"
        if not key:
            return f"signed by {signer}, as it says of itself: no key was given"
        if signer != key:
            return f"signed by {signer}, as it says of itself, and not by {key}, the key you gave"
        return f"said to be signed by {signer}, the key you gave, which does not hold"


def verify(
    bundle: Path,
    key: PublicKey | None,
    *,
    today: datetime.date,
    pack: Pack | None = None,
    artifacts: Sequence[Path] = (),
    say: Callable[[str], None] = lambda words: None,
) -> Verification:
    """Look at everything in a bundle (a folder, or the ``.zip`` of one). ``today``: what waivers are held against. ``pack``: the
    one that its runs were made with; outputs, tolerances and references are then held against it too. ``artifacts``: models and
    engines that are to be the tested ones. ``say``: told after each row and file how far it is.

    Raises ``UsageError`` for what is no bundle at all, another pack, and an artifact that cannot be read.
    """
    if not bundle.exists():
        raise UsageError(f"{bundle} does not exist; expected a bundle, a folder or a .zip.")
    wanted = {str(path): _identity_of(path) for path in artifacts}
    with ExitStack() as stack:
        found: list[Finding] = []
        folder = bundle
        if bundle.is_file():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trigate-verify-")))
            found += [Finding("added", f"{words}; it was not unpacked") for words in unpack(bundle, folder)]
        if not folder.is_dir() or not is_bundle(folder):
            raise UsageError(f"{bundle} is no bundle: expected what `trigate sign --out` wrote, a folder or a .zip.")
        return _Verifier(folder, key, today, pack, found, say).look(str(bundle), wanted)


class _Verifier:
    """``found``: findings, in the order of looking."""

    def __init__(  # noqa: PLR0917 # what ``verify`` was given
        self,
        folder: Path,
        key: PublicKey | None,
        today: datetime.date,
        pack: Pack | None,
        found: list[Finding],
        say: Callable[[str], None],
    ) -> None:
        self.folder, self.key, self.today, self.pack, self.found, self.say = folder, key, today, pack, found, say
        self.rows: list[RowSeen] = []
        self.contradictions: dict[str, tuple[Problem, ...]] = {}
        self.waivers: tuple[Waiver, ...] = ()
        self.odd: tuple[str, ...] = ()

    def look(self, name: str, wanted: Mapping[str, str]) -> Verification:
        envelope = self._envelope()
        tree = walk(self.folder)
        self.odd = tuple(tree.odd)
        self.found += [Finding("added", f"{file} {words}") for file, words in tree.odd.items()]
        self.found += [Finding("added", f"{name}/ was added, and is empty") for name in _empty_folders(self.folder)]
        names = [file for file in tree.files if file != ATTESTATION]
        before = self._identities(names)
        pool = ThreadPoolExecutor(1, thread_name_prefix="hash")  # hashing lets go of the interpreter
        try:
            hashed = {file: pool.submit(hash_file, self.folder / file) for file in names}
            runs = self._runs(names)
            files = self._hashes(hashed)
        finally:
            pool.shutdown(cancel_futures=True)
        self.contradictions[""] = same_samples(files)
        for problem in self.contradictions[""]:
            self._say("verdict", problem.words)
        again = self._decided(runs)
        self._compare_files(files, envelope)
        self._compare_statement(files, again, envelope)
        self._compare_untouched(before)
        told = self._told()
        signoff = again or told
        self._compare_decision(signoff, told)
        artifacts = tuple(self._tested(signoff, wanted))
        return Verification(
            bundle=name,
            signer=envelope.signer if envelope else "",
            is_trusted=bool(envelope and envelope.is_trusted),
            result=signoff.result if signoff else "",
            decision=told.decision if told else "",
            files=len(names),
            rows=tuple(self.rows),
            findings=tuple(sorted(dict.fromkeys(self.found), key=lambda finding: _ORDER.index(finding.kind))),
            waivers=tuple(self._waivers_in_words(signoff)),
            judged_by=signoff.trigate_version if signoff else "",
            verified_by=importlib.metadata.version("trigate"),
            key=self.key.id if self.key else "",
            made=_made(signoff),
            notes=tuple(_notes(signoff)),
            artifacts=artifacts,
        )

    def _tested(self, signoff: SignOff | None, wanted: Mapping[str, str]) -> Iterator[str]:
        """Which rows ran each file that was asked about; one that none ran, or that passes in none, is a finding."""
        for name, sha256 in wanted.items():
            rows = tested_as(signoff, sha256) if signoff is not None else ()
            ran = ", ".join(f"{row.id} ({row.standing})" for row in rows)
            if not rows:
                self._say("artifact", f"{name} (sha256 {sha256[:16]}) is nothing that was tested here")
            elif not any(row.standing in ("passed", "waived") for row in rows):
                self._say("artifact", f"{name} (sha256 {sha256[:16]}) was tested, and passes in no row: {ran}")
            else:
                yield f"{name} is what was tested: {ran}"

    def _say(self, kind: str, words: str, *, follows: bool = False) -> None:
        self.found.append(Finding(kind, words, follows))

    def _envelope(self) -> Envelope | None:
        """The statement as far as anybody can say, so that what differs is named even where the signature does not hold."""
        try:
            data = read_small(self.folder / ATTESTATION, limit=_MOST_BYTES)
        except OSError as error:
            self._say("signature", f"{ATTESTATION} is not there: the bundle is unsigned ({error.strerror or error})")
            return None
        if self.key is None:
            self._say("signer", "the signer is unknown: give the public key that you trust with --key")
        try:
            return unseal(data, self.key)
        except SignatureError as error:
            self._say("signature", f"{ATTESTATION}: {error}")
        return said_by(data)

    def _identities(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Of files and of the folders that they lie in."""
        folders = {str(parent) for name in names for parent in Path(name).parents}
        found = {}
        for name in (*names, *sorted(folders)):
            try:
                found[name] = identity((self.folder / name).lstat())
            except OSError:
                found[name] = ()
        return found

    def _compare_untouched(self, before: Mapping[str, tuple[int, ...]]) -> None:
        """What was judged must be what was hashed."""
        after = self._identities([name for name in before if not (self.folder / name).is_dir()])
        for name, was in before.items():
            if after.get(name, was) != was:
                self._say(
                    "changed", f"{name} was touched while the bundle was verified: verify it again, where nobody writes"
                )

    def _hashes(self, hashed: Mapping[str, Future[str]]) -> dict[str, str]:
        files = {}
        for name, future in hashed.items():
            try:
                files[name] = future.result()
            except OSError as error:
                self._say("changed", f"{name} cannot be read: {error.strerror or error}")
                files[name] = ""
            self.say(f"{len(files)} of {len(hashed)} files hashed")
        return files

    def _runs(self, names: Sequence[str]) -> dict[str, Run]:
        """Each run of the bundle by its folder, with its verdicts computed again."""
        runs: dict[str, Run] = {}
        carried = self._carried() if self.pack is None else None
        parts = [name.split("/") for name in names]
        folders = sorted({"/".join(each[:2]) for each in parts if each[0] == "runs" and len(each) > 2})
        for inside in folders:
            if self._is_strange(inside):  # a pipe may never end, and a link leads to what was not hashed
                self._say(
                    "record",
                    f"{inside} is not judged: it holds what is no file of its own, or a record too large to be one",
                )
                continue
            try:
                run = read_run(self.folder / inside)
            except UsageError as error:
                self._say("record", str(error).replace(f"{self.folder}/", ""))
                continue
            if f"runs/{run.id}" != inside:
                self._say("record", f"{inside} holds the run {run.id}: runs were exchanged")
            runs[inside] = run
            self._judge(run, inside, carried)
        if not folders:
            self._say("removed", "there is no run in it")
        return runs

    def _carried(self) -> Pack | None:
        """The tolerances and references that lie in the bundle."""
        if self._is_strange(PACK):
            return None  # told as added
        try:
            return carried_pack(self.folder)
        except (UsageError, OSError) as error:
            self._say("record", f"{PACK}: {error}".replace(f"{self.folder}/", ""))
            return None

    def _is_strange(self, inside: str) -> bool:
        with suppress(OSError):
            if (self.folder / inside / "run.json").lstat().st_size > _MOST_RUN_BYTES:
                return True
        odd = (self.folder / name for name in self.odd if name.startswith(f"{inside}/"))
        return any(path.is_symlink() or not path.is_file() for path in odd)

    def _judge(self, run: Run, inside: str, carried: Pack | None) -> None:
        pack = self.pack or carried
        if carried is not None and run.pack_sha256 not in ("", carried.sha256):
            self._say("record", f"{PACK} is of the pack {carried.sha256[:16]}, and the run {run.id} of another")
            pack = None
        try:
            rows, found = judge_again(run, self.folder / inside, pack if run.pack_sha256 else None, self.say)
        except UsageError:
            raise  # another pack was given: the call is wrong
        except Exception as error:  # whatever a forger may think of is a finding, and no reason to stop looking
            self._say("verdict", f"run {run.id} cannot be judged again: {type(error).__name__}: {error}")
            return
        self.rows += [RowSeen(run.id, row) for row in rows]
        self.contradictions[inside] = found
        for problem in found:
            self._say("verdict" if problem.fails else "open", problem.words)

    def _decided(self, runs: Mapping[str, Run]) -> SignOff | None:
        """The decision made again, of what lies in the bundle; ``None`` where that cannot be."""
        told = self._told()
        if told is None or not runs:
            return None
        ordered = sorted(runs, key=lambda inside: _place(told, runs[inside].id))
        try:
            fit_together({inside: runs[inside] for inside in ordered})
            requires = {runs[inside].id: requires_of(runs[inside], self.folder / inside) for inside in ordered}
            self.waivers = self._accepted()
            again = decide(
                [runs[inside] for inside in ordered],
                requires,
                self.waivers,
                made_at=told.made_at,
                trigate_version=told.trigate_version,
                contradictions=[each for run in (*ordered, "") for each in self.contradictions.get(run, ())],
            )
        except (UsageError, ValueError) as error:
            self._say("record", str(error))
            return None
        except Exception as error:  # as with a verdict: told, and no reason to stop looking
            self._say("record", f"the decision cannot be made again: {type(error).__name__}: {error}")
            return None
        data = json.loads(read_small(self.folder / BUNDLE, limit=_MOST_BYTES))
        for words in _differences(data, again, is_ours=_is_ours(told)):
            self._say("record", f"{BUNDLE}: {words}", follows=True)
        return again

    def _told(self) -> SignOff | None:
        try:
            return signoff_from(read_small(self.folder / BUNDLE, limit=_MOST_BYTES))
        except (OSError, RecordError, ValueError, RecursionError) as error:
            self._say("record", f"{BUNDLE} cannot be read: {error}")
            return None

    def _accepted(self) -> tuple[Waiver, ...]:
        try:
            return parse_waivers(read_small(self.folder / WAIVERS, limit=_MOST_BYTES), WAIVERS)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise UsageError(f"{WAIVERS} cannot be read: {error.strerror or error}") from error

    def _compare_files(self, files: Mapping[str, str], envelope: Envelope | None) -> None:
        """Each file against the statement, by name."""
        if envelope is None:
            return
        signed = _subjects(envelope.statement)
        for name, digest in signed.items():
            if not is_safe_name(name):
                self._say("record", f"the statement names {name!r}, which is no file of a bundle")
            elif name not in files:
                self._say("removed", f"{name} was removed")
            elif digest != files[name]:
                self._say("changed", f"{name} was changed: sha256 {files[name][:16]}, signed was {digest[:16]}")
        for name in files:
            if name not in signed:
                self._say("added", f"{name} was added")

    def _compare_statement(self, files: Mapping[str, str], again: SignOff | None, envelope: Envelope | None) -> None:
        """What the statement says beside digests, against what the bundle makes it say."""
        if again is not None and _is_ours(again):
            self._compare_page(again)
        if envelope is None or again is None:
            return
        expected = json.loads(json.dumps(statement_of(again, files)))
        if not _is_ours(again):
            expected["predicate"] = _as_told(expected["predicate"], envelope.statement.get("predicate"))
        for name in ("_type", "predicateType", "predicate"):
            if envelope.statement.get(name) != expected[name]:
                self._say(
                    "record",
                    f"the statement's {name} is not what the bundle makes it{_where(envelope.statement, expected, name)}",
                    follows=True,
                )
        tested, made = ([each for each in _listed(one) if _is_artifact(each)] for one in (envelope.statement, expected))
        if tested != made:
            self._say("record", "the statement names other models or engines than the runs", follows=True)
        told = [_plain_subject(each) for each in _listed(envelope.statement)]
        if told != _listed(envelope.statement) or len(_subjects(envelope.statement)) + len(tested) != len(told):
            self._say(
                "record", "the statement's subjects are not written as a bundle's are: one is twice, or says more"
            )
        if more := sorted({*envelope.statement} - {*expected}):
            self._say("record", f"the statement has {', '.join(map(repr, more))}, which no bundle's has")

    def _compare_page(self, again: SignOff) -> None:
        try:
            shown = read_small(self.folder / PAGE, limit=_MOST_BYTES)
        except OSError:
            return  # told as removed
        if shown != page(again).encode():
            self._say("record", f"{PAGE} does not say what was decided", follows=True)

    def _compare_decision(self, signoff: SignOff | None, told: SignOff | None) -> None:
        """A bundle that is whole may yet be none of a release; and what was signed may have ended since."""
        known = [each for found in self.contradictions.values() for each in found]
        for problem in signoff.problems if signoff else ():
            if problem not in known:
                is_new = told is not None and problem not in told.problems
                self._say("failed" if problem.fails else "open", problem.words, follows=is_new)
        if signoff is not None and signoff.made_at[:10] > (self.today + datetime.timedelta(days=1)).isoformat():
            self._say("open", f"it was made on {signoff.made_at[:10]}, which is yet to come: a clock is wrong")
        for waiver in self._ended_since(signoff):
            words = f"the waiver of {waiver.owner} for {waiver.about} has ended on {waiver.until}, after it was signed"
            self._say("open", words)
        if self.key is None:
            return
        try:
            is_same = read_small(self.folder / KEY_COPY, limit=_MOST_BYTES).split() == self.key.pem.split()
        except OSError:
            return  # told as removed
        if not is_same:
            words = f"{KEY_COPY} is not the key that you gave: it was replaced, or the bundle is somebody else's"
            self._say("signature", words)

    def _ended_since(self, signoff: SignOff | None) -> Iterator[Waiver]:
        if signoff is None or not self.waivers:
            return
        try:
            signed = datetime.datetime.fromisoformat(signoff.made_at).date()
        except ValueError:
            return  # told with the decision that could not be made
        for waiver in self.waivers:
            if waiver.has_expired(self.today) and not waiver.has_expired(signed):
                yield waiver

    def _waivers_in_words(self, signoff: SignOff | None) -> Iterator[str]:
        for one in signoff.waivers if signoff else ():
            yield one.words


def _identity_of(artifact: Path) -> str:
    """The digest by which a run knows a model or an engine. Raises ``UsageError``."""
    try:
        return model_sha256(artifact) if artifact.suffix == ".onnx" else hash_file(artifact)
    except OSError as error:
        raise UsageError(f"--artifact: {artifact} cannot be read: {error.strerror or error}.") from error
    except RuntimeCoreError as error:
        raise UsageError(f"--artifact: {error}") from error


def _made(signoff: SignOff | None) -> str:
    """When, and of what: an old bundle under a new name is whole as well."""
    if signoff is None:
        return ""
    runs = ", ".join(f"{run.id[:8]} (ended {run.finished_at or 'never'})" for run in signoff.runs)
    return f"made {signoff.made_at} of pack {signoff.pack_sha256[:16] or 'none'} and of the runs {runs}."


def _printable(text: str) -> str:
    """Text out of a bundle, which may be anybody's, commands no terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _empty_folders(folder: Path) -> list[str]:
    """Nobody's file lies in them, and no bundle is made with one."""
    found = (Path(base) for base, inside, files in os.walk(folder) if not inside and not files)
    return sorted(path.relative_to(folder).as_posix() for path in found if path != folder)


def _sources(rows: Sequence[RowSeen]) -> str:
    """``12 from raw samples, 4 from their own checks in the record (3 of them did not run)``."""
    counts = Counter(seen.row.source for seen in rows)
    idle = sum(seen.row.source == "record" and seen.row.was is Outcome.NOT_RUN for seen in rows)
    beside = f" ({idle} of them did not run)" if idle else ""
    told = {"record": f"from their own checks in the record{beside}", "none": "not computed again"}
    ordered = sorted(counts, key=lambda source: source in told)
    return ", ".join(f"{counts[source]} {told.get(source, f'from {source}')}" for source in ordered) or "none"


def _place(told: SignOff, run_id: str) -> int:
    order = [run.id for run in told.runs]
    return order.index(run_id) if run_id in order else len(order)


def _subjects(statement: Mapping[str, Any]) -> dict[str, str]:
    """sha256 by file name; what is no subject of ours has no digest that a file could have."""
    found: dict[str, str] = {}
    for each in _listed(statement):
        if isinstance(each, dict) and not _is_artifact(each):
            digest = each.get("digest")
            found[str(each.get("name"))] = str(digest.get("sha256")) if isinstance(digest, dict) else ""
    return found


def _listed(statement: Mapping[str, Any]) -> list[Any]:
    subjects = statement.get("subject")
    return subjects if isinstance(subjects, list) else []


def _is_artifact(subject: Any) -> bool:
    return isinstance(subject, dict) and str(subject.get("name")).startswith(ARTIFACT)


def _plain_subject(subject: Any) -> Any:
    """As ``statement_of`` writes one, from what this says."""
    if not isinstance(subject, dict) or not isinstance(subject.get("digest"), dict):
        return None
    return {"name": subject.get("name"), "digest": {"sha256": subject["digest"].get("sha256")}}


def _where(statement: Mapping[str, Any], expected: Mapping[str, Any], name: str) -> str:
    """Which field of it, and what it says there."""
    told, made = statement.get(name), expected[name]
    if not (isinstance(told, dict) and isinstance(made, dict)):
        return f": {told!r:.80}"
    fields = [key for key in {**told, **made} if told.get(key) != made.get(key)]
    return f": {', '.join(fields)}"


def _is_ours(signoff: SignOff) -> bool:
    """Whether this version signed it: another one words its decision and its page otherwise, and may know fewer fields."""
    return signoff.trigate_version == importlib.metadata.version("trigate")


def _notes(signoff: SignOff | None) -> Iterator[str]:
    if signoff is None:
        return
    yield from signoff.notes
    if not _is_ours(signoff):
        yield (
            f"It was signed by trigate {signoff.trigate_version}, which words a decision and {PAGE} in its own way: these words "
            "are held against nothing. Outcomes, standings, lineage and waivers are."
        )


def _as_told(expected: dict[str, Any], told: Any) -> Any:
    """What another version's predicate says of the result and of rows; its configuration is in its own words."""
    if not isinstance(told, dict):
        return expected
    return {name: told[name] if name == "configuration" else expected.get(name) for name in told}


def _differences(data: dict[str, Any], again: SignOff, *, is_ours: bool) -> list[str]:
    """Where the record of the decision is not what the runs and waivers in the bundle make it. ``data``: ``bundle.json``."""
    made = to_json(again)
    told, made = (data, made) if is_ours else (_of_substance(data, made), _of_substance(made, data))
    words = list(itertools.islice(_unlike(_by_id(told), _by_id(made), ""), _MOST_SHOWN + 1))
    return words if len(words) <= _MOST_SHOWN else [*words[:_MOST_SHOWN], "and more"]


def _of_substance(table: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Without what code words, and without fields that only one of two versions knows."""
    fields = {name: {key for entry in other[name] for key in entry} for name in ("rows", "runs", "waivers")}
    kept: dict[str, Any] = {
        name: [
            {key: entry[key] for key in entry if key in fields[name] and key not in _WORDED} for entry in table[name]
        ]
        for name in fields
    }
    return {name: kept.get(name, table[name]) for name in table if name in other and name not in _WORDED} | {
        "problems": []
    }


def _by_id(table: dict[str, Any]) -> dict[str, Any]:
    """Rows and runs by their ids, lists by number, problems by their words."""
    table = dict(table)
    for name in ("rows", "runs"):
        table[name] = {entry["id"]: entry for entry in table[name]}
    table["problems"] = [problem["words"] for problem in table["problems"]]
    return {name: dict(enumerate(value, 1)) if isinstance(value, list) else value for name, value in table.items()}


def _unlike(told: Any, again: Any, where: str) -> Iterator[str]:
    """Each place at which two JSON values differ."""
    if told == again:
        return
    if isinstance(told, dict) and isinstance(again, dict):
        for key in {**told, **again}:
            yield from _unlike(told.get(key), again.get(key), f"{where}.{key}".lstrip("."))
    else:
        yield f"{where} is {_shown(told)}; the runs and waivers make it {_shown(again)}"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, dict):
        return "not there" if value is None else "there"
    text = repr(value)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]} …"
