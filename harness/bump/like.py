"""``--like RUN``: what another run measured, measured again here, where TensorRT may be another one.

The same models, inputs, profile and rows; and the same precision route where this TensorRT still has it. What the base has and
this host has not stays a row that could not run, so that a comparison shows it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.records import ABOUT_A_FLIGHT, ABOUT_RUNTIMES, Case, Run, Verdict
from harness.tier2.rejudge import read_run
from harness.words import counted
from runtime.strategies.trt_precision import typings_of

__all__ = [
    "Like",
    "Planned",
    "call_as",
    "check_pack",
    "differing",
    "model_names",
    "pack_for",
    "plan_like",
    "read_like",
    "stored_call",
]

_SHARED = {
    "config": "CONFIG.toml", "model": "--model", "inputs": "--inputs", "architecture": "--architecture", "size": "--size",
    "seed": "--seed", "tier": "--tier", "runtime": "--runtime", "require": "--require", "device": "--device",
    "board": "--board", "profile": "--profile", "threads": "--threads", "simulated": "--simulated", "pack": "--pack",
    "builds": "--builds", "like": "--like", "against": "--against",
}  # fmt: skip
"""What of a call says what is measured, and how that is typed."""

_NOT_TAKEN = ("like", "against")
_OF_THE_TARGET = ("config", "pack")
_PRECISIONS = ("fp16", "int8", "mixed")
_BY_FLAGS, _BY_TYPES = "flags", "strongly-typed"


@dataclass(frozen=True)
class Like:
    """The run that is repeated, and where it lies."""

    folder: Path
    run: Run


@dataclass(frozen=True)
class Planned:
    """The rows, in the base's order. ``notes``: by row, what is to be said of it. ``said``: of all of them."""

    cases: tuple[Case, ...]
    notes: Mapping[str, tuple[str, ...]]
    said: tuple[str, ...] = ()


def read_like(folder: Path) -> Like:
    """Raises ``UsageError`` for what is no run that can be read."""
    return Like(folder, read_run(folder))


def stored_call(run: Run) -> list[str]:
    """The words of the call that began a run, without the program's name and ``run``. Raises ``UsageError``."""
    try:
        words = shlex.split(run.command)
    except ValueError:
        words = []
    if len(words) < 2 or words[1] != "run":
        raise UsageError(
            f"run {run.id} was not begun by `trigate run`, so its call cannot be repeated "
            f"({run.command or 'it does not say how it was begun'})."
        )
    return words[2:]


def call_as(asked: Mapping[str, Any], base: Mapping[str, Any], like: Like) -> dict[str, Any]:
    """The options of a call (by their names) with those of the base's in place of what was left out.

    Raises ``UsageError`` for one that asks for something else than the base measured. Of a simulated board the scenario and
    the seed are the target's own.
    """
    taken = dict(asked)
    own = ("simulated", "seed") if base.get("simulated") else ()
    for name, option in _SHARED.items():
        was, now = base.get(name), asked.get(name)
        if name in _NOT_TAKEN:
            continue
        if not now and now != 0:
            taken[name] = None if name == "pack" else was
        elif name not in (*_OF_THE_TARGET, *own) and not _same(was, now):
            measured = f"with {option} {_words(was)}" if was else f"without {option}"
            raise UsageError(
                f"{option} {_words(now)} does not go with --like {like.folder}: that run was measured {measured}, and what is "
                f"compared must be measured alike. Leave {option} out."
            )
    history = base.get("history")
    if not asked.get("history") and history is not None and Path(history).exists():
        taken["history"] = history
    return taken


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Which options two calls do not share, of those that say what is measured, as they are typed."""
    return [option for name, option in _SHARED.items() if not _same(first.get(name), second.get(name))]


def _same(was: Any, now: Any) -> bool:
    if isinstance(was, list | tuple) or isinstance(now, list | tuple):
        return [str(one) for one in was or ()] == [str(one) for one in now or ()]
    return (was or None) == (now or None) or str(was) == str(now)


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def pack_for(like: Like, stored: Path | None) -> Path | None:
    """The base's pack: as its call named it, or beside the run. ``None`` where the base had none.

    Raises ``UsageError`` that names the digest, and how to give the pack, where it is not found.
    """
    if stored is None:
        return None
    beside = [stored, like.folder.parent / stored.name, like.folder / stored.name, Path(stored.name)]
    wanted = like.run.pack_sha256
    found = {path: _digest(path) for path in beside}
    right = next((path for path, sha256 in found.items() if sha256 == wanted), None)
    if right is None:
        other = next(((path, sha256) for path, sha256 in found.items() if sha256), None)
        seen = f"{other[0]} is another one (sha256 {other[1][:16]})" if other else f"{stored} is not here"
        raise UsageError(
            f"--like {like.folder}: it was measured with the pack of sha256 {wanted}, and {seen}. Copy that pack to this "
            f"machine and name it: trigate run --like {like.folder} --pack DIR"
        )
    return right


def _digest(folder: Path) -> str:
    """What a pack says its digest is; whether that is so is asked when it is loaded. Empty for no pack."""
    try:
        return str(json.loads((folder / "pack.json").read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def check_pack(like: Like, sha256: str, given: Path | None) -> None:
    """Raises ``UsageError`` where the models and inputs are not the base's."""
    wanted = like.run.pack_sha256
    if sha256 == wanted:
        return
    if given is not None:
        raise UsageError(
            f"--pack {given} has sha256 {sha256}; {like.folder} was measured with {wanted}. Give that pack with --pack."
        )
    raise UsageError(
        f"--like {like.folder}: it was measured with models and inputs of sha256 {wanted}; as they are made here they have "
        f"{sha256} (another file, or another exporter). Where it was measured, make a pack of the same models (`trigate pack "
        f"... --out P`), and give it here: trigate run --like {like.folder} --pack P"
    )


def model_names(like: Like) -> tuple[str, ...]:
    """The models that rows of the base are about."""
    about = (*ABOUT_A_FLIGHT, *ABOUT_RUNTIMES)
    return tuple(dict.fromkeys(case.model for case in like.run.planned if case.kind not in about))


def plan_like(planned: Sequence[Case], like: Like, trt: str) -> Planned:
    """The base's rows, as far as they are among ``planned``. ``trt``: this host's TensorRT, ``none`` without one.

    A row that is not is one that cannot run. A row whose precision goes another way here than in the base is measured by the
    base's where this TensorRT still has it, and once more by this TensorRT's own (``@strongly-typed`` at the end of its id).
    """
    here = {case.id: case for case in planned}
    settled = {verdict.case.id: verdict for verdict in like.run.verdicts}
    known = {case.id for case in like.run.planned}
    cases: list[Case] = []
    notes: dict[str, tuple[str, ...]] = {}
    for was in like.run.planned:
        stem, _, asked = was.id.partition("@")
        case = here.get(stem)
        if case is None:
            cases.append(replace(was, required=False, not_run=_absent(was, like, planned)))
            continue
        for row, note in _by_routes(case, asked, _route(settled.get(was.id), was, like.run), trt):
            if row.id in known and row.id != was.id:
                continue  # the base has that row itself
            cases.append(row)
            notes |= {row.id: (note,)} if note else {}
    absent = sum(bool(case.not_run) for case in cases)
    extra = [case.id for case in planned if case.id not in known]
    said = [
        f"like run {like.run.id} ({like.folder.resolve().name}): {counted(len(cases), 'row')}, {absent} of them cannot run here"
    ]
    if extra:
        are = "is" if len(extra) == 1 else "are"
        said.append(
            f"{counted(len(extra), 'row')} that this host could have {are} left out: the base has no {extra[0]}"
        )
    return Planned(tuple(cases), notes, tuple(said))


def _absent(was: Case, like: Like, planned: Sequence[Case]) -> str:
    """Why a row of the base is not among those that there can be here."""
    if was.not_run:
        return was.not_run
    if was.kind == "build":
        other = next((case.runtime for case in planned if (case.kind, case.model) == ("build", was.model)), "nothing")
        return f"{was.runtime}: it built the engine in {like.folder.resolve().name}; here {other} does"
    if was.model not in {case.model for case in planned}:
        return f"the model {was.model} is not among those of this run"
    return f"{like.folder.resolve().name} (trigate {like.run.trigate_version}) had this row; here it is not planned"


def _route(verdict: Verdict | None, case: Case, run: Run) -> str:
    """How the base's row told its precision to TensorRT, ``flags+calibrator`` for one; empty where TensorRT has no part in it."""
    if case.runtime != "tensorrt" or case.precision not in _PRECISIONS:
        return ""
    lineage = verdict.summary.measurement.lineage if verdict is not None else {}
    told = next((value for key, value in lineage.items() if key.partition("[")[0] == "route" and value), "")
    if told.partition("+")[0] in (_BY_FLAGS, _BY_TYPES):
        return told
    return case.route or next(iter(typings_of(run.environment.get("tensorrt_host", "none"))), "")


def _by_routes(case: Case, asked: str, was: str, trt: str) -> Iterable[tuple[Case, str]]:
    """The row by the route of the base, and by this TensorRT's own. ``asked``: the base's row asked for this one by name."""
    typing, here = was.partition("+")[0], typings_of(trt)
    if asked:
        named = replace(case, id=f"{case.id}@{asked}", route=asked)
        gone = "" if asked in here or case.not_run else _gone(was or asked, case.precision, trt)
        yield replace(named, not_run=named.not_run or gone, required=named.required and not gone), ""
    elif not typing or not here or typing == here[0] or case.not_run:
        yield case, ""
    elif typing in here:
        if case.kind == "pair":  # for information: once is enough
            yield replace(case, route=typing), ""
            return
        own = replace(case, id=f"{case.id}@{here[0]}", route=here[0], required=False)
        yield (
            replace(case, route=typing),
            f"by the base's route, {was}; TensorRT {trt} would take {here[0]}: see {own.id}",
        )
        yield own, f"by the route that TensorRT {trt} takes by itself, {here[0]}; the base's, {was}: see {case.id}"
    else:
        yield case, _gone(was, case.precision, trt)


def _gone(was: str, precision: str, trt: str) -> str:
    """What of the base's route this TensorRT has no more, and what it is replaced by; begins as comparisons expect it."""
    product = f"TensorRT-RTX {trt.removeprefix('rtx')}" if trt.startswith("rtx") else f"TensorRT {trt}"
    if was.startswith(_BY_TYPES):
        return f"route changed: {product} does not take precision from the model's types; builder flags instead"
    whole = precision == "int8" or was.endswith("+calibrator")
    lost = "implicit INT8 with a calibrator" if whole else "the builder's FP16 flag"
    new = "explicit Q/DQ nodes in the model" if whole else "the model is cast to fp16, and strongly typed"
    return f"route changed: {lost} is gone in {product}; {new} instead"
