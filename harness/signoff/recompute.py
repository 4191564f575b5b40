"""Every verdict of a stored run, computed again from what its folder keeps, by the code that judged it first (RE-03).

A row about numerics is judged from ``raw/`` (``numerics.raw``), a sampled one of Tier-2 from its samples; of the others only
the record tells, and what is held is that the outcome follows from the row's own checks. With the pack at hand, tolerances,
inputs and reference are held against it, and the statistics against the outputs that are kept. Nothing here raises for what
is forged, damaged or missing: it is told, row by row.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

from harness import gates
from harness.errors import UsageError
from harness.limits import LIMITS_FILE, Limits, read_limits
from harness.numerics.artifact import judge_artifact
from harness.numerics.parity import SampleStatistics, check_parity, digest, examine
from harness.numerics.raw import KeptOutput, Numerics, claims_of, places, read_elements, read_numerics
from harness.packs.folder import Pack
from harness.packs.model import ModelPack
from harness.records import ABOUT_RUNTIMES, Measurement, Outcome, ParityFigures, RecordError, Run, Verdict
from harness.signoff.recompute_record import of_record
from harness.signoff.recompute_tier2 import recompute_tier2
from harness.signoff.recomputed import Recomputed
from harness.tier2.processes import ABOUT_PROCESSES
from runtime.protocol import Array

__all__ = ["recompute", "recompute_run"]

_ABOUT_NUMERICS = ("parity", "semantic", "pair")
_EVIDENCE = ("raw/*.npz", "raw/*.json", "samples/*.parquet", "traces/*.parquet")
_DECIDE = ("pr", "signoff")
_CLOSE = 1e-9
"""Relative: another machine's sums and logarithms may end elsewhere in the last places."""


_JUDGED_AGAIN = ("latency", "flight", "heat", "load", *ABOUT_PROCESSES)
"""What ``trigate judge`` judges anew; it carries over other rows as they were, by the profile that they were judged by."""


def recompute(
    folder: Path, run: Run, pack: Pack | None = None, say: Callable[[str], None] = lambda words: None
) -> tuple[Recomputed, ...]:
    """Each verdict of ``run``, in its order, as the files of ``folder`` make it.

    ``pack``: the one that the run was made with, to hold it against; another one is a ``UsageError``. ``say``: told after each
    row how far it is.
    """
    if pack is not None and pack.sha256 != run.pack_sha256:
        raise UsageError(
            f"the pack is {pack.sha256[:16]}, and run {run.id} was made with {run.pack_sha256[:16] or 'none'}. Give that one."
        )
    sampled = recompute_tier2(folder, run, say)
    held = _Held(folder, run, pack)
    rows: list[Recomputed] = []
    for verdict in run.verdicts:
        known = None if held.has_raw(verdict) else sampled.get(verdict.case.id)
        rows.append(known or held.row(verdict))
        say(f"{run.id}: {len(rows)} of {len(run.verdicts)} verdicts computed again")
    return tuple(rows)


def recompute_run(folder: Path, run: Run, rows: Sequence[Recomputed]) -> tuple[str, ...]:
    """What the run says of itself as a whole and its rows, as ``recompute`` gave them, do not make: in words, or nothing."""
    settled = [verdict.case.id for verdict in run.verdicts]
    told = []
    if run.complete:
        lost = [case.id for case in run.planned if case.id not in settled]
        told += [f"the run is said to be complete, and its row {name} has no verdict" for name in lost]
    told += [f"{name} is of no row of run.json" for name in _of_no_row(folder, {*settled, *_unreached(run)})]
    told += [words for verdict in run.verdicts for words in _unlike_its_run(run, verdict)]
    try:
        limits = read_limits(folder)
    except UsageError as error:
        return (*told, str(error))
    if limits is None:
        unsaid = f"it has no {LIMITS_FILE}, which would say what it had to show and by which budgets"
        return (*told, *([unsaid] if run.schema >= 2 else []))
    asked = run.settings.get("require", "").replace(",", " ").split()
    told += [
        f"{word} was required by its command line, and not by {LIMITS_FILE}"
        for word in asked
        if word not in limits.require
    ]
    told += [
        f"{verdict.case.id} is not required in run.json, and its runtime {verdict.case.runtime} was"
        for verdict in run.verdicts
        if not verdict.case.required and _is_asked_for(run, verdict, limits)
    ]
    verdicts = [replace(verdict, outcome=row.now or row.was) for verdict, row in zip(run.verdicts, rows, strict=True)]
    codes: set[int | None] = {gates.exit_code(verdicts, limits.require)}
    if not run.complete:  # an internal error's code, and Ctrl-C's, come from how the run ended
        codes |= {gates.EXIT_INTERRUPTED} if run.interrupted else {gates.EXIT_INTERNAL, None}
    if run.exit_code not in codes:
        wanted = " or ".join(sorted(str(code) for code in codes))
        told.append(f"the exit code is {run.exit_code} in run.json, and its rows make it {wanted}")
    line = gates.last_line(verdicts, limits.require)
    if run.exit_code is not None and _is_ours(run) and not run.last_line.endswith(line):
        told.append(f"the last line is {run.last_line!r} in run.json, and its rows make it {line!r}")
    return tuple(told)


def _of_no_row(folder: Path, rows: Collection[str]) -> list[str]:
    """Evidence that no row answers for; a journal that a killed row left is none."""
    kept = [path for name in _EVIDENCE for path in folder.glob(name)]
    return sorted(f"{path.parent.name}/{path.name}" for path in kept if path.stem not in rows)


def _unreached(run: Run) -> set[str]:
    return set() if run.complete else {case.id for case in run.planned}


def _unlike_its_run(run: Run, verdict: Verdict) -> Iterator[str]:
    """What a row says of itself and its board or its run says otherwise."""
    case, measurement = verdict.case, verdict.summary.measurement
    boards = (measurement.board_start, measurement.board_end)
    made_up = [each.source or each.boot_id for each in boards if (each.boot_id or "").startswith("simulated-")]
    made_up += [each.source for each in boards if each.source.startswith("the simulated board")]
    if case.tier == 2 and run.settings.get("simulated"):
        made_up.append("its run says so")
    if made_up and not measurement.simulated and verdict.outcome is not Outcome.NOT_RUN:
        yield f"{case.id} is told as measured on a real device, and was simulated ({made_up[0]})"
    ours, profile = measurement.profile, run.settings.get("profile", "")
    carried = case.kind not in _JUDGED_AGAIN and any(note.startswith("judged again from run ") for note in run.notes)
    if case.tier == 2 and ours and profile and ours != profile and not carried:
        yield f"{case.id} was judged by the profile {ours}, and its run by {profile}"


def _is_asked_for(run: Run, verdict: Verdict, limits: Limits) -> bool:
    """Whether ``harness.plan`` makes such a row required, where that is sure: not of runs judged again, by other limits."""
    case, profile = verdict.case, run.settings.get("profile", "")
    if case.simulated or case.runtime not in {word.partition("[")[0] for word in limits.require}:
        return False
    if case.kind in ("parity", "semantic", *ABOUT_RUNTIMES):
        return True
    model = limits.models.get(case.model)
    budget = model.budget.get(limits.board) if model is not None else None
    if budget is None or any(note.startswith("judged again from run ") for note in run.notes):
        return False
    asked = {"latency": budget.p95_ms and profile in _DECIDE, "load": budget.load_s and profile == "signoff"}
    return bool(asked.get(case.kind))


def _is_ours(run: Run) -> bool:
    """Whether this trigate made the run: another one may word its reasons otherwise."""
    return run.trigate_version == importlib.metadata.version("trigate")


class _Held:
    """The rows of one run whose evidence are no requests, held against what its folder and the pack say."""

    def __init__(self, folder: Path, run: Run, pack: Pack | None) -> None:
        self.folder, self.run, self.pack = folder, run, pack
        self.is_ours = _is_ours(run)
        self._references: tuple[str, list[dict[str, Array]]] = ("", [])

    def has_raw(self, verdict: Verdict) -> bool:
        """Whether the row left what it was judged from, whatever ``run.json`` calls it."""
        path = _inside(self.folder, f"raw/{verdict.case.id}.npz")
        return path is not None and path.exists()

    def row(self, verdict: Verdict) -> Recomputed:
        case = verdict.case
        model = self.pack.models.get(case.model) if self.pack is not None else None
        if case.kind == "artifact" and model is not None and (not model.onnx or model.path(model.onnx).exists()):
            again = judge_artifact(verdict.summary.measurement, model)
            return self._told(verdict, again, "the pack", [])
        measurement = verdict.summary.measurement
        name = measurement.raw_file or f"raw/{case.id}.npz"
        path = _inside(self.folder, name)
        if path is None:
            return _unsaid(verdict, f"run.json names the file {name!r}, which is not inside the run folder")
        if measurement.raw_file or path.exists():
            return self._numerics(verdict, path)
        if case.kind not in _ABOUT_NUMERICS or not _was_measured(verdict):
            return of_record(verdict)
        if self.run.schema < 2:
            return _of_figures(verdict)
        return _unsaid(verdict, f"run.json names no file of what it was computed from, and there is no {name}")

    def _numerics(self, verdict: Verdict, path: Path) -> Recomputed:
        try:
            numerics = read_numerics(path)
            again = gates.judge_numerics(_as_measured(verdict), numerics)
            strange = [*self._strange(verdict, numerics), *_not_as_kept(path, numerics)]
            differs = [*strange, *self._against_pack(verdict, path, numerics)]
        except RecordError as error:
            return _unsaid(verdict, str(error))
        except (ArithmeticError, LookupError, TypeError, ValueError, OSError, UsageError) as error:
            return _unsaid(verdict, f"{path.name} is damaged: {type(error).__name__}: {error}")
        facts, asked = self.run.environment, self.run.settings
        again = gates.misplaced(again, gpu_host=facts.get("sm", "none") != "none", device=asked.get("device", "auto"))
        return self._told(verdict, again, "raw outputs" if self.pack is not None else "raw samples", differs)

    def _told(self, was: Verdict, now: Verdict, source: str, differs: Iterable[str]) -> Recomputed:
        words = [*differs, *_figures_differ(was.summary.parity, now.summary.parity), *_checks_differ(was, now)]
        if self.is_ours and was.outcome is now.outcome and was.reason not in _reasons(now):
            words.append(f"the reason is {was.reason!r} in run.json, and {now.reason!r} by what is kept")
        told = now.reason if was.outcome is now.outcome else f"{now.outcome.value} by what is kept of it: {now.reason}"
        return Recomputed(was.case.id, was.outcome, now.outcome, told, source, tuple(words))

    def _strange(self, verdict: Verdict, numerics: Numerics) -> Iterator[str]:
        """What the record says of the row that the kept file says otherwise."""
        case, measurement = verdict.case, verdict.summary.measurement
        if not measurement.raw_file:
            yield f"raw/{case.id}.npz is there, and run.json does not name it"
        elif measurement.raw_file != f"raw/{case.id}.npz":
            yield f"run.json names {measurement.raw_file!r}, and the row's own file is raw/{case.id}.npz"
        for what, said, kept in (
            ("id", case.id, numerics.row),
            ("kind", case.kind, numerics.kind),
            ("lane", case.lane, numerics.lane),
            ("reference", case.against or "reference", numerics.against),
            *((name, fact, numerics.facts.get(name, "")) for name, fact in claims_of(measurement).items()),
            ("digest of the reference", measurement.lineage.get("reference", ""), numerics.reference_sha256),
        ):
            if said != kept:
                yield f"its {what} is {said or 'none'} in run.json, and {kept or 'none'} in what is kept"

    def _against_pack(self, verdict: Verdict, path: Path, numerics: Numerics) -> Iterator[str]:
        """What the pack says otherwise: tolerances, inputs, the reference; and of the kept outputs the statistics."""
        if self.pack is None or numerics.kind == "pair":
            return
        model = self.pack.models.get(verdict.case.model)
        if model is None:
            yield f"the pack has no model {verdict.case.model}"
            return
        is_parity = numerics.kind == "parity"
        ruled = model.tolerances.get(numerics.lane, {}) if is_parity else gates.doubled(model.tolerances["fp32"])
        for name in sorted({*ruled, *numerics.tolerances}):
            if ruled.get(name) != numerics.tolerances.get(name):
                judged, packed = _limit(numerics.tolerances.get(name)), _limit(ruled.get(name))
                yield f"{name} was judged by the tolerance {judged}, and the pack has {packed}"
        if model.feed_sha256 != numerics.inputs:
            yield "its inputs are not those of the pack"
        if is_parity and model.sha256_of("reference.npz") != numerics.reference_sha256:
            yield "its reference is not that of the pack"
        elif is_parity:
            yield from _statistics_differ(path, numerics, self._reference_of(model))

    def _reference_of(self, model: ModelPack) -> list[dict[str, Array]]:
        """Rows come model by model, and a dense reference is large: one is kept."""
        if self._references[0] != model.name:
            self._references = model.name, model.references()
        return self._references[1]


def _reasons(verdict: Verdict) -> list[str]:
    """The reason, and as it would be with another of the row's notes at its end: some are written after it was judged."""
    notes = verdict.summary.measurement.notes
    stem = verdict.reason.removesuffix(notes[-1]) if notes and not verdict.summary.measurement.witness else ""
    return [verdict.reason, *(f"{stem}{note}" for note in notes if stem)]


def _as_measured(verdict: Verdict) -> Measurement:
    """The measurement that the row was judged from; the word about a witness is the last of its notes."""
    measurement = verdict.summary.measurement
    if not measurement.witness and not measurement.notes:
        raise RecordError(f"{verdict.case.id} is said to be no witness, and no note says why.")
    return measurement


def _was_measured(verdict: Verdict) -> bool:
    """Whether the row came to outputs: one that did not run, and one whose runtime refused, has none to keep."""
    if verdict.outcome is Outcome.NOT_RUN:
        return False
    return verdict.outcome is not Outcome.FAIL or bool(verdict.summary.parity)


def _unsaid(verdict: Verdict, why: str) -> Recomputed:
    return Recomputed(verdict.case.id, verdict.outcome, None, why.rstrip("."), "none")


def _of_figures(verdict: Verdict) -> Recomputed:
    """A row of schema 1, which kept no statistics: whether its figures make its checks, and these its outcome."""
    if verdict.case.kind == "pair":
        return of_record(verdict)
    anew = {check.name: check for check in check_parity(verdict.summary.parity)}
    differs = [
        f"the check {check.name} is {check.outcome.value} in run.json, and {anew[check.name].outcome.value} by its figures"
        for check in verdict.checks
        if check.name in anew and check.outcome is not anew[check.name].outcome
    ]
    found = of_record(replace(verdict, checks=tuple(anew.get(check.name, check) for check in verdict.checks)))
    words = "by the figures in run.json: a run of schema 1 kept nothing that they were computed from"
    return replace(found, words=words, differs=tuple(differs))


def _figures_differ(was: Sequence[ParityFigures], now: Sequence[ParityFigures]) -> Iterator[str]:
    told, kept = ({entry.output: entry for entry in side} for side in (was, now))
    for output in {**told, **kept}:
        old, new = told.get(output), kept.get(output)
        if old is None or new is None:
            yield f"figures of {output} are in {'what is kept' if old is None else 'run.json'} alone"
            continue
        for name in (entry.name for entry in fields(ParityFigures)):
            left, right = getattr(old, name), getattr(new, name)
            if _is_same(left, right):
                continue
            if name == "tolerance":
                yield f"the tolerance of {output} is {_limit(left)} in run.json, and it was judged by {_limit(right)}"
            else:
                yield f"{name} of {output} is {left} in run.json, and {right} by what is kept"


def _limit(tolerance: Any) -> str:
    if tolerance is None:
        return "none"
    limits = f"{tolerance.rel_l2_max:g}" if tolerance.rel_l2_max is not None else "none"
    median = f", of the median {tolerance.rel_l2_median:g}" if tolerance.rel_l2_median is not None else ""
    return f"{tolerance.source} {limits}{median}"


def _is_same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float | int):
        return left == right or math.isclose(left, right, rel_tol=_CLOSE)
    return bool(left == right)


def _checks_differ(was: Verdict, now: Verdict) -> Iterator[str]:
    told, kept = ({check.name: check for check in side.checks} for side in (was, now))
    for name in {**told, **kept}:
        old, new = (side[name].outcome.value if name in side else "not there" for side in (told, kept))
        if old != new:
            yield f"the check {name} is {old} in run.json, and {new} by what is kept"


def _statistics_differ(path: Path, numerics: Numerics, references: Sequence[Mapping[str, Array]]) -> Iterator[str]:
    """Where the outputs that are kept do not bear the statistics: all of an output, or elements of it, which bound them."""
    for entry in numerics.outputs:
        if entry.obstacle:
            continue
        kept = read_elements(path, numerics, entry.output)
        for at, (one, reference) in enumerate(zip(entry.samples, references, strict=True)):
            if at not in kept:
                continue
            known, elements = kept[at]
            is_whole = _is_whole(known)
            where = f"{entry.output} of sample {at}"
            if is_whole and not _has_its_digest(known, elements):
                continue  # told by ``_not_as_kept``
            wanted = reference[entry.output].reshape(-1)[places(entry.output, known.shape, at, known.count)]
            (found,) = examine([{"": wanted}], [{"": elements}])[0].samples
            if not (_is_of(found, one) if is_whole else _is_within(found, one)):
                yield (
                    f"{where}: its kept {'output has' if is_whole else 'elements have'} error {found.error_norm:.6g} "
                    f"(largest {found.max_abs:.6g}) against the pack, and {one.error_norm:.6g} ({one.max_abs:.6g}) was judged"
                )


def _not_as_kept(path: Path, numerics: Numerics) -> Iterator[str]:
    """Outputs that are kept whole and are not those that were digested; of elements alone nothing tells but the pack."""
    for output in dict.fromkeys(one.output for one in numerics.kept):
        for at, (known, elements) in read_elements(path, numerics, output).items():
            if _is_whole(known) and not _has_its_digest(known, elements):
                yield f"the kept output {output} of sample {at} has not the digest that stands beside it"


def _is_whole(known: KeptOutput) -> bool:
    return known.count == math.prod(known.shape)


def _has_its_digest(known: KeptOutput, elements: Array) -> bool:
    return digest({known.output: elements.reshape(known.shape)}) == known.sha256


def _is_of(found: SampleStatistics, said: SampleStatistics) -> bool:
    """The statistics of a whole output; its places were flattened."""
    same = replace(found, shape=said.shape)
    if found.cosine is not None and said.cosine is not None and abs(found.cosine - said.cosine) <= _CLOSE:
        same = replace(same, cosine=said.cosine)  # may be near zero, where its last places are far apart
    return all(_is_same(getattr(same, entry.name), getattr(said, entry.name)) for entry in fields(SampleStatistics))


def _is_within(found: SampleStatistics, said: SampleStatistics) -> bool:
    """Some elements of an output differ by no more than all of them."""
    return all(
        getattr(found, name) <= getattr(said, name) * (1 + _CLOSE)
        for name in ("norm", "error_norm", "max_abs", "unequal", "nan", "inf")
    )


def _inside(folder: Path, name: str) -> Path | None:
    """A file that a record names: a run may come from anybody."""
    path = PurePosixPath(name)
    whole = folder / name
    is_within = not path.is_absolute() and ".." not in path.parts and whole.resolve().is_relative_to(folder.resolve())
    return whole if is_within else None
