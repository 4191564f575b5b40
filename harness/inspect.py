"""``trigate inspect``: what a file says of itself, and whether it would pass the engine check here, with each reason.

Several files are listed, one line each; two calibration caches are compared, tensor by tensor.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.lineage import INDEX, broken_links
from harness.packs.folder import load_pack
from harness.publish import published
from harness.records import RecordError, Run, run_from_folder
from harness.words import counted
from runtime import EngineCacheEntry, EngineGate, EngineHashMismatchError, RuntimeCoreError, model_sha256
from runtime.calibration import CalibrationRanges, cache_sidecar, compare_ranges, dataset_sidecar, parse_ranges
from runtime.files import sha256_hex
from runtime.model_file import check_external_data, read_model_facts
from runtime.names import parse_engine_name
from runtime.plan import read_plan_header
from runtime.platform import HostTuple, detect_host
from runtime.sidecar import Manifest, read_manifest, read_sidecar
from runtime.strategies.trt_layers import LAYERS_SCHEMA, layers_path
from runtime.strategies.trt_timing import read_timing_cache

__all__ = ["Findings", "compare_caches", "inspect", "listing"]

_ROWS_SHOWN = 40
_MOST_BUNDLE_BYTES = 64 << 20  # a small archive can unpack to any size
_OF_ROWS = ("samples_file", "trace_file", "errors_file", "raw_file", "layers_file")
_LAYERS_AGAIN = (
    "`trigate compile MODEL --force` writes it again, with the engine. The engine loads without it; where precision was read "
    "says the manifest"
)
_BESIDE = (".layers.json", ".json", ".dataset_sha256", ".sha256")


@dataclass(frozen=True)
class Findings:
    """``says``: the file's own words. ``refusals``: why it would not pass here; empty if it would.

    ``rows``: a table, its head first; of which people are shown the beginning. ``refused``, ``good``: the word in front of a
    refusal, and the sentence where there is none; those of the engine check, unless the file is no matter of that.
    """

    kind: str
    path: Path
    says: Mapping[str, Any]
    refusals: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    rows: tuple[tuple[str, ...], ...] = field(default=())
    where: str = "here"
    refused: str = "REFUSED"
    good: str = ""

    @property
    def passes(self) -> bool:
        return not self.refusals

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "path": str(self.path),
            "says": dict(self.says),
            "passes": self.passes,
            "refusals": list(self.refusals),
            "notes": list(self.notes),
            **({"rows": [dict(zip(self.rows[0], row, strict=True)) for row in self.rows[1:]]} if self.rows else {}),
        }

    def to_text(self) -> str:
        lines = [f"{self.path}: {self.kind}"]
        lines += [f"  {key:<18} {value}" for key, value in self.says.items()]
        lines += [f"    {line}" for line in _aligned(self.rows[: _ROWS_SHOWN + 1])]
        if len(self.rows) > _ROWS_SHOWN + 1:
            lines.append(f"    … {len(self.rows) - _ROWS_SHOWN - 1} more; --json has all.")
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  {self.refused}: {reason}" for reason in self.refusals] or [
            f"  {self.good or f'would pass {self.where}'}"
        ]
        return "\n".join(lines)


def inspect(path: Path, host: HostTuple | None = None, *, elsewhere: bool = False) -> Findings:
    """Look at a model, engine, cache, sidecar, manifest, checkpoint, pack, run folder or bundle.

    ``elsewhere``: hold an engine against the host that its manifest names, and not against this one. Raises
    ``UsageError`` for no such file.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist. Give a model, engine, sidecar, checkpoint, pack or run folder.")
    if path.is_dir():
        return _folder(path)
    readers: Mapping[str, Callable[[Path, HostTuple], Findings]] = {
        ".engine": _engine,
        ".plan": _engine,
        ".onnx": _onnx,
        ".pt": _checkpoint,
        ".pth": _checkpoint,
        ".cache": _cache,
        ".zip": lambda packed, _: _bundle(packed),
        **dict.fromkeys(_BESIDE, _beside),
    }
    reader = readers.get(path.suffix)
    if reader is None:
        raise UsageError(
            f"{path} is none of the files that trigate knows ({', '.join(readers)}, a pack, a run folder)."
        )
    host = host or detect_host()
    try:
        if elsewhere:
            return replace(reader(path, _named_host(path, host)), where="on the host that it says it is for")
        return reader(path, host)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error


def listing(found: Sequence[Findings]) -> str:
    """Several files for people: engines as a table, anything else a line each."""
    rows: list[tuple[str, ...]] = [("file", "kind", "size", "precision", "route", "layers", "verdict")]
    for each in found:
        says = each.says
        verdict = f"{each.refused}: {each.refusals[0]}" if each.refusals else each.good or "would pass"
        told = (says.get("manifest precision", ""), says.get("manifest route", ""), says.get("layers", ""))
        rows.append((each.path.name, each.kind, str(says.get("size", "")), *map(str, told), verdict))
    refused = sum(not each.passes for each in found)
    right = "in order" if any(each.good for each in found) else "would pass"
    return "\n".join([*_aligned(rows), f"{len(found)} files: {len(found) - refused} {right}, {refused} refused."])


def compare_caches(old: Path, new: Path) -> Findings:
    """Two calibration caches, tensor by tensor, the largest change first. Both must be such caches."""
    first, second = (_ranges(path) for path in (old, new))
    rows = [("tensor", "old range", "new range", "new/old")]
    changes = compare_ranges(first, second)
    for change in changes:
        ratio = "" if change.ratio is None else f"{change.ratio:.4g}"
        rows.append((change.tensor, _number(change.old), _number(change.new), ratio))
    says = {
        "old": f"{old.name}, {first.header}, {counted(len(first.ranges), 'tensor')}",
        "new": f"{new.name}, {second.header}, {counted(len(second.ranges), 'tensor')}",
        "changed": f"{sum(change.old != change.new for change in changes)} of {len(changes)} tensors",
    }
    return Findings("two calibration caches", new, says, rows=tuple(rows))


def _ranges(path: Path) -> CalibrationRanges:
    try:
        return parse_ranges(path.read_bytes(), path.name)
    except RuntimeCoreError as error:
        raise UsageError(f"{path}: {error}") from error


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _named_host(path: Path, host: HostTuple) -> HostTuple:
    """The host that the engine's manifest names, where it has one that can be read."""
    try:
        manifest: Manifest = read_manifest(_owner(path) or path)
    except RuntimeCoreError:
        return host
    return HostTuple(manifest.sm, manifest.jetpack, manifest.trt, manifest.l4t, manifest.module)


def _engine(path: Path, host: HostTuple) -> Findings:
    """Every field on its own first, since one refusal must not hide the others; then the engine check as it will be."""
    data = path.read_bytes()
    says: dict[str, Any] = {"size": f"{len(data)} bytes"}
    refusals: list[str] = []
    try:
        name = parse_engine_name(path.name)
        says["name"] = f"{name.model}, sm{name.sm}, jp{name.jetpack}, trt{name.trt}, {name.precision}"
    except RuntimeCoreError as error:
        refusals.append(str(error))
    try:
        header = read_plan_header(data)
        says["plan header"] = f"{header.kind} {'.'.join(map(str, header.version))}, {header.length} bytes"
    except RuntimeCoreError as error:
        refusals.append(str(error))
    sha256, is_changed = "", False
    try:
        sha256 = read_sidecar(path)
        says["sidecar sha256"] = sha256
        is_changed = sha256_hex(data) != sha256
        manifest = json.loads(read_manifest(path).to_json())
        says.update({f"manifest {key}": value for key, value in manifest.items() if value not in (None, "", [], {})})
    except RuntimeCoreError as error:
        refusals.append(str(error))
    if not refusals:
        try:
            entry = EngineCacheEntry(path, sha256, name.sm, name.jetpack, name.trt, name.precision)
            EngineGate(host).validate(entry)
        except RuntimeCoreError as error:
            refusals.append(str(error))
            is_changed = is_changed and not isinstance(error, EngineHashMismatchError)  # said once is enough
    if is_changed:
        refusals.append(f"its bytes are not those that its sidecar was written for: sha256 {sha256_hex(data)}.")
    findings = Findings("engine", path, says, tuple(dict.fromkeys(refusals)))
    return _with_layers(findings, layers_path(path))


def _with_published(findings: Findings) -> Findings:
    """The files that ``run --publish`` has kept, and the models that it has listed."""
    files = published(findings.path)
    if not files:
        return findings
    rows: list[tuple[str, ...]] = [("file", "kind", "bytes", "sha256", "of rows")]
    for each in files:
        told = (each["file"], each.get("kind", ""), each.get("size_bytes", ""), str(each.get("sha256", ""))[:16])
        rows.append((*map(str, told), " ".join(map(str, each.get("rows", ())))))
    kept = sum(bool(each.get("copied")) for each in files)
    says = {**findings.says, "published": f"{counted(kept, 'file')} in engines/, {len(files) - kept} listed by digest"}
    return replace(findings, says=says, rows=tuple(rows))


def _with_layers(findings: Findings, path: Path) -> Findings:
    """What each layer computes in, from the file beside the engine; it is no part of the engine check."""
    options = findings.says.get("manifest builder_options", {})
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        lacking = (f"{path.name} is missing: {_LAYERS_AGAIN}",) if "layers_sha256" in options else ()
        return replace(findings, notes=(*findings.notes, *lacking))
    try:
        told = json.loads(data)
        if told["schema"] != LAYERS_SCHEMA:
            raise ValueError(f"its schema is {told['schema']}")
        counts = ", ".join(f"{kind} {count}" for kind, count in told["precision"].items())
        rows = [("precision", "kind", "layer", "reads", "writes")]
        for layer in told["layers"]:
            reads, writes = (" ".join(dict.fromkeys(layer[key])) for key in ("inputs", "outputs"))
            rows.append((layer["precision"] or "-", layer["kind"], layer["name"], reads, writes))
        says = {**findings.says, "layers": counts or "unknown", "layers told by": str(told["source"])}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        words = f"{path.name} cannot be read ({error!r:.80}): {_LAYERS_AGAIN}"
        return replace(findings, notes=(*findings.notes, words))
    notes = findings.notes
    if options.get("layers_sha256", sha256_hex(data)) != sha256_hex(data):
        notes = (*notes, f"{path.name} is not the file that was written with this engine: {_LAYERS_AGAIN}")
    return replace(findings, says=says, rows=tuple(rows), notes=notes)


def _onnx(path: Path, host: HostTuple) -> Findings:
    del host
    try:
        external = check_external_data(path)
        facts = read_model_facts(path)
        sha256 = model_sha256(path)
    except RuntimeCoreError as error:
        return Findings("ONNX model", path, {"size": f"{path.stat().st_size} bytes"}, (str(error),))
    says = {
        "sha256": sha256,
        "IR": facts.ir_version,
        "opsets": ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in facts.opsets.items()),
        "producer": facts.producer,
        "external data": ", ".join(file.name for file in external) or "none",
        **{f"input {spec.name}": f"{spec.dtype} {list(spec.shape)}" for spec in facts.inputs},
        **{f"output {spec.name}": f"{spec.dtype} {list(spec.shape)}" for spec in facts.outputs},
        "operators": ", ".join(sorted({name for _, name in facts.op_types})),
    }
    return Findings("ONNX model", path, says)


def _checkpoint(path: Path, host: HostTuple) -> Findings:
    del host
    try:
        import torch
    except ImportError:
        return Findings("checkpoint", path, {"size": f"{path.stat().st_size} bytes"}, notes=("torch is not installed",))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = f"does not load with weights_only=True: {str(error).splitlines()[0]}"
        return Findings("checkpoint", path, {"size": f"{path.stat().st_size} bytes"}, (reason,))
    if not isinstance(state, dict):
        return Findings("checkpoint", path, {}, (f"holds a {type(state).__name__}; expected a state dict.",))
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    says: dict[str, Any] = {
        "tensors": len(tensors),
        "parameters": sum(value.numel() for value in tensors.values()),
        "dtypes": ", ".join(sorted({str(value.dtype) for value in tensors.values()})),
    }
    strange = sorted(set(state) - set(tensors))
    return Findings("checkpoint", path, says, notes=(f"other entries: {strange}",) if strange else ())


def _cache(path: Path, host: HostTuple) -> Findings:
    del host
    if path.name.startswith("timing__"):
        data, why_not = read_timing_cache(path)
        says: dict[str, Any] = {"size": f"{path.stat().st_size} bytes", "used by a build": "no" if why_not else "yes"}
        return Findings("timing cache", path, says, (f"{why_not}.",) if why_not else ())
    data = path.read_bytes()
    says = {"size": f"{len(data)} bytes"}
    try:
        told = parse_ranges(data, path.name)
    except RuntimeCoreError as error:
        return Findings("calibration cache", path, says, (str(error),))
    refusals = []
    for name, sidecar in (("sha256", cache_sidecar(path)), ("made from inputs", dataset_sidecar(path))):
        try:
            says[name] = sidecar.read_text(encoding="utf-8").split()[0]
        except (OSError, UnicodeDecodeError, IndexError):
            refusals.append(f"{sidecar.name} is missing or damaged: a build would refuse the cache.")
    if says.get("sha256", sha256_hex(data)) != sha256_hex(data):
        refusals.append(f"its bytes are not those that {cache_sidecar(path).name} was written for.")
    says |= {"made by": told.header, "tensors": len(told.ranges)}
    widest = sorted(told.ranges.items(), key=lambda pair: -pair[1])
    rows = (("tensor", "range"), *((name, _number(value)) for name, value in widest))
    return Findings("calibration cache", path, says, tuple(refusals), rows=rows)


def _owner(path: Path) -> Path | None:
    """The engine or cache that a file stands beside."""
    for suffix in _BESIDE:
        owner = path.with_name(path.name.removesuffix(suffix))
        if owner != path and owner.suffix in (".engine", ".plan", ".cache") and owner.exists():
            return owner
    return None


def _beside(path: Path, host: HostTuple) -> Findings:
    owner = _owner(path)
    if owner is None:
        raise UsageError(f"{path} stands beside no engine; inspect the engine itself.")
    return (_cache if owner.suffix == ".cache" else _engine)(owner, host)


def _folder(path: Path) -> Findings:
    if (path / "pack.json").exists():
        try:
            pack = load_pack(path)
        except UsageError as error:
            return Findings("pack", path, {}, (str(error),))
        says: dict[str, Any] = {"sha256": pack.sha256, "size": pack.size, "seed": pack.seed}
        for name, model in pack.models.items():
            says[name] = f"reference: {model.reference}; inputs: {len(model.feed_sha256)}, {model.inputs_origin}"
        return Findings("pack", path, says, good="the pack is whole")
    if (path / "run.json").exists():
        return _run(path)
    if (path / "bundle.json").exists():
        return _bundle(path)
    raise UsageError(
        f"{path} is neither a pack nor a run folder, nor a bundle: it has no pack.json, run.json or bundle.json."
    )


def _run(path: Path) -> Findings:
    """What a run came to, and whether its folder holds what ``run.json`` names; a run that failed is as whole as any."""
    try:
        run = run_from_folder(path)
    except (OSError, RecordError, ValueError, RecursionError) as error:
        return Findings("run", path, {}, (f"run.json cannot be read: {error}",), refused="DAMAGED")
    says: dict[str, Any] = {
        "id": run.id,
        "started": run.started_at,
        "complete": run.complete,
        "rows": f"{len(run.verdicts)} of {len(run.planned)} have a verdict",
        "exit code": run.exit_code,
        "verdict": run.last_line,
        "published": "nothing; `trigate run --publish` keeps engines, sidecars and manifests",
    }
    notes = () if run.complete else ("the run is not complete: give its call again, with --resume",)
    good = "the run folder is whole: every file that run.json names is there"
    found = Findings("run", path, says, tuple(_damages(run, path)), (*notes, *broken_links(run, path)))
    return _with_published(replace(found, refused="DAMAGED", good=good))


def _damages(run: Run, folder: Path) -> Iterator[str]:
    """The files that a record or its index of engines names and its folder has not, a sentence each."""
    measured = ((verdict.case.id, verdict.summary.measurement) for verdict in run.verdicts)
    named = [(name, row) for row, one in measured for kind in _OF_ROWS if (name := getattr(one, kind))]
    named += [(each["file"], INDEX) for each in published(folder) if each.get("copied")]
    for name, whose in named:
        if "\0" in name or not (folder / name).resolve().is_relative_to(folder.resolve()):
            yield f"{whose} names {name!r}, which is not inside the run folder."
        elif not (folder / name).is_file():
            yield f"{name} is missing, which {whose} names: copy the whole folder again."


def _bundle(path: Path) -> Findings:
    """What a bundle says of itself; whether that is so, ``trigate verify`` tells."""
    from harness.signoff.bundle import signoff_from

    try:
        if path.is_dir():
            data = (path / "bundle.json").read_bytes()
        else:
            with zipfile.ZipFile(path) as packed, packed.open("bundle.json") as file:
                data = file.read(_MOST_BUNDLE_BYTES)
        signoff = signoff_from(data)
    except KeyError as error:
        raise UsageError(f"{path} is no bundle of one file: it has no bundle.json.") from error
    except (OSError, RecordError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        return Findings("sign-off bundle", path, {}, (f"bundle.json cannot be read: {error}",))
    says: dict[str, Any] = {
        "decision": signoff.decision,
        "made": signoff.made_at,
        "pack": signoff.pack_sha256,
        "runs": ", ".join(run.id for run in signoff.runs),
        **{
            f"waiver {at}": f"{one.owner}, until {one.until}: {one.reason}" for at, one in enumerate(signoff.waivers, 1)
        },
    }
    rows = [
        ("row", "standing", "outcome", "run"),
        *((row.id, row.standing, row.outcome.value, row.run) for row in signoff.rows),
    ]
    refusals = tuple(problem.words for problem in signoff.problems)
    good = "as it says of itself: check it with `trigate verify`"
    return Findings("sign-off bundle", path, says, refusals, (good,) if refusals else (), tuple(rows), good=good)
