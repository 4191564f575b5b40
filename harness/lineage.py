"""What each row descends from: model, inputs, calibration, engine, row; and whether that chain is whole (RE-03).

A digest comes from who can know it: the packed model's from the pack, the engine's from the bytes that were loaded, and which
model it was built from out of the engine's own manifest. So a chain that does not hold shows, and is no matter of form.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.layers import Layers, inside, layers_beside, layers_of, read_layers
from harness.packs.model import ModelPack
from harness.records import ABOUT_RUNTIMES, Figure, Measurement, Outcome, RecordError, Run, Verdict
from runtime.calibration import cache_sidecar, dataset_sidecar
from runtime.data import EngineCacheEntry, EngineDescription
from runtime.errors import RuntimeCoreError
from runtime.files import open_regular
from runtime.model_file import check_external_data, model_sha256
from runtime.names import SUFFIX
from runtime.sidecar import Manifest, manifest_path, read_manifest, sidecar_path
from runtime.strategies.trt_layers import layers_path
from runtime.strategies.trt_options import builder_words

__all__ = [
    "INDEX",
    "EngineFacts",
    "EngineFile",
    "about",
    "another_model",
    "broken_links",
    "engine_figures",
    "facts_of",
    "file_of",
    "inputs_sha256",
    "lineage_of_all",
    "lineage_table",
    "with_lineage",
]

INDEX = "engines/index.json"
_CHUNK = 1 << 20
_DIGESTS = (
    "model",
    "inputs",
    "calibration",
    "calibration_cache",
    "built_from",
    "engine",
    "sidecar",
    "manifest",
    "reference",
    "golden",
)
_WITHOUT_ENGINE = ("artifact", "harness", *ABOUT_RUNTIMES)
_SIZES = {".onnx": "the model file", SUFFIX: "the plan file"}
_KEY = re.compile(r"(?P<name>[^\[]+)(?:\[(?P<about>.*)\])?", re.DOTALL)


@dataclass(frozen=True)
class EngineFile:
    """A file that a row ran from. ``kind``: ``engine``, ``sidecar``, ``manifest``, ``layers``, ``calibration cache``, ``model``.

    ``path``: on the machine that ran it. ``is_ours``: written whole by us and never in place, so that a link to it is safe.
    """

    kind: str
    path: str
    sha256: str
    is_ours: bool = True


@dataclass(frozen=True)
class EngineFacts:
    """What an engine is, beside its measurement; travels from a child to its parent as JSON.

    ``lineage``: as ``Measurement.lineage``. ``size_bytes``, ``build_ns``: ``None`` where not known, or where nothing is built;
    the sources in words.
    """

    lineage: Mapping[str, str] = field(default_factory=dict)
    size_bytes: int | None = None
    size_source: str = ""
    build_ns: int | None = None
    build_source: str = ""
    files: tuple[EngineFile, ...] = ()
    layers: Layers = field(default_factory=Layers)


def inputs_sha256(digests: Iterable[str]) -> str:
    """One digest over the digests of all feeds, in their order."""
    return hashlib.sha256("".join(f"{each}\n" for each in digests).encode()).hexdigest()


def facts_of(
    entry: EngineCacheEntry,
    pack: ModelPack,
    artifact: Path,
    described: EngineDescription | None = None,
    *,
    build_ns: int | None = None,
) -> EngineFacts:
    """The facts of an engine that was built or loaded from ``entry``. ``artifact``: the pack's file that it stands for.

    ``build_ns``: how long its build took; ``None`` for one that was found in the cache, since no file keeps a time.

    What cannot be read any more is left out, and never raised: the row ran.
    """
    lineage = {"model": _packed_sha256(pack, artifact), "inputs": inputs_sha256(pack.feed_sha256)}
    path = entry.engine_path
    manifest = _manifest(path)
    if manifest is not None:
        return _of_engine(entry, manifest, lineage, described, build_ns)
    built = tuple(
        filter(None, (file_of("engine", each, is_ours=False) for each in (described.built if described else ())))
    )
    files = [path, *_external(path)]
    if built:
        lineage |= {"built_from": entry.sha256, "builder": "ONNX Runtime's TensorRT provider"}
        lineage |= {"engine" if not at else f"engine#{at + 1}": each.sha256 for at, each in enumerate(built)}
        size, source = _size([Path(each.path) for each in built]), "the engines in ONNX Runtime's cache"
    else:
        lineage["engine"] = entry.sha256
        if path.resolve() != artifact.resolve():
            lineage["builder"] = "the runtime itself"  # a third party's class may build what it likes
        size, source = _size(files), _SIZES.get(path.suffix, "the checkpoint")
    layers = layers_of(described, path, lineage["engine"]) if described is not None else Layers()
    kind = "engine" if path.suffix == SUFFIX else "model"
    # a link would make the pack's own external data one that the core refuses
    alone = (EngineFile(kind, str(path), entry.sha256, is_ours=False),)
    of_model = alone if len(files) == 1 else tuple(filter(None, (file_of(kind, each, is_ours=False) for each in files)))
    return EngineFacts(_known(lineage), size, source, files=(*built, *of_model), layers=layers)


def _of_engine(
    entry: EngineCacheEntry,
    manifest: Manifest,
    lineage: Mapping[str, str],
    described: EngineDescription | None,
    build_ns: int | None,
) -> EngineFacts:
    path, options = entry.engine_path, manifest.builder_options
    dataset = options.get("calibration_dataset_sha256", "none")
    wanted = options.get("calibration_cache_sha256", "")
    files = [
        EngineFile("engine", str(path), entry.sha256),
        *filter(None, (file_of("sidecar", sidecar_path(path)), file_of("manifest", manifest_path(path)))),
    ]
    if (listed := file_of("layers", layers_path(path))) and listed.sha256 == options.get("layers_sha256"):
        files.append(listed)
    if wanted:
        files += _calibration_files(path.parent, wanted)
    digests = {each.kind: each.sha256 for each in files}
    layers = layers_of(described, path, entry.sha256) if described is not None else layers_beside(path, entry.sha256)
    return EngineFacts(
        _known(
            {
                **lineage,
                "engine": entry.sha256,
                "built_from": manifest.model_sha256,
                "sidecar": digests.get("sidecar", ""),
                "manifest": digests.get("manifest", ""),
                "calibration": "" if dataset == "none" else dataset,
                "calibration_cache": wanted,
                "route": manifest.route,
                "builder": manifest.builder,
                "builder_options": builder_words(options),
            }
        ),
        _size([path]),
        "the plan file",
        build_ns,
        "the host's clock around compile_engine" if build_ns is not None else "",
        tuple(files),
        layers or Layers(),
    )


def engine_figures(facts: EngineFacts, name: str = "") -> tuple[Figure, ...]:
    """``engine_bytes`` and, of an engine that somebody built, ``build_ns``. ``name``: of the model, in rows about several."""
    suffix = f"[{name}]" if name else ""
    figures = []
    if facts.size_bytes is not None:
        figures.append(Figure(f"engine_bytes{suffix}", float(facts.size_bytes), "bytes", facts.size_source))
    if facts.build_ns is not None:
        figures.append(Figure(f"build_ns{suffix}", float(facts.build_ns), "ns", facts.build_source))
    return tuple(figures)


def about(name: str, lineage: Mapping[str, str]) -> dict[str, str]:
    """The lineage of one engine of several: ``engine[disk]``."""
    return {f"{key}[{name}]": value for key, value in lineage.items()}


def another_model(lineage: Mapping[str, str]) -> str:
    """Why what ran is not of the packed model; empty where it is, or where that is not known."""
    model, engine, built_from = (lineage.get(key, "") for key in ("model", "engine", "built_from"))
    if model and built_from and built_from != model:
        return f"its engine was built from the model {built_from[:16]}, and the packed one is {model[:16]}"
    if model and engine and engine != model and not built_from and "builder" not in lineage:
        return f"the file that ran is {engine[:16]}, and the packed one is {model[:16]}"
    return ""


def with_lineage(measurement: Measurement, facts: EngineFacts) -> Measurement:
    """The measurement with its engine's lineage; of an engine that is not of the packed model it is no witness."""
    other = another_model(facts.lineage)
    notes = (*measurement.notes, f"{other}: no witness of the packed model") if other else measurement.notes
    witness = measurement.witness and not other
    return replace(measurement, lineage=dict(facts.lineage), notes=notes, witness=witness)


def lineage_of_all(facts: Mapping[str, EngineFacts]) -> dict[str, str]:
    """Of a row about several models."""
    return {key: value for name, each in facts.items() for key, value in about(name, each.lineage).items()}


def lineage_table(run: Run) -> tuple[dict[str, str], ...]:
    """A line for each engine of each row that ran: row, outcome, model name, runtime, precision, and the lineage."""
    lines = []
    for verdict in run.verdicts:
        case = verdict.case
        for name, lineage in _by_engine(verdict.summary.measurement):
            head = {"row": case.id, "outcome": verdict.outcome.value, "name": name or case.model}
            lines.append({**head, "runtime": case.runtime, "precision": case.precision, **lineage})
    return tuple(lines)


def broken_links(run: Run, folder: Path | None = None) -> tuple[str, ...]:
    """What is wrong with the chain from model to row, a sentence each; empty where it is whole.

    ``folder``: the run folder, whose layers and published engines are held against the record as well. Of a run that was
    written before rows had a lineage (schema 1) nothing is said.
    """
    if run.schema < 2:
        return ()
    found = [sentence for verdict in run.verdicts for sentence in _broken_row(verdict, folder)]
    found += _broken_between(run)
    if folder is not None and (folder / INDEX).exists():
        found += _broken_index(run, folder)
    return tuple(dict.fromkeys(found))


def _broken_row(verdict: Verdict, folder: Path | None) -> Iterator[str]:
    measurement, case = verdict.summary.measurement, verdict.case
    if not measurement.lineage:
        has_run = measurement.placement and not measurement.simulated and verdict.outcome is not Outcome.NOT_RUN
        if has_run and case.kind not in _WITHOUT_ENGINE and not measurement.incomplete:
            yield f"{case.id}: it ran, and tells no model and no engine"
        return
    for name, lineage in _by_engine(measurement):
        which = f"{case.id}{f' ({name})' if name else ''}"
        for key, value in lineage.items():
            if key.partition("#")[0] in _DIGESTS and not re.fullmatch(r"[0-9a-f]{64}", value):
                yield f"{which}: its {key} is {value!r:.40}, which is no sha256"
        if other := another_model(lineage):
            yield f"{which}: {other}"
        if "engine" not in lineage:
            yield f"{which}: it ran, and tells no engine"
    own = measurement.lineage
    ran = measurement.model_sha256
    if ran and "engine" in own and ran not in (own["engine"], own.get("built_from")):
        yield f"{case.id}: the record says that {ran[:16]} ran, and its lineage that {own['engine'][:16]} did"
    fed = measurement.input_sha256
    if fed and "inputs" in own and inputs_sha256(fed) != own["inputs"]:
        yield f"{case.id}: the inputs at the runtime's door are not the packed ones"
    if folder is not None and measurement.layers_file:
        try:
            layers = read_layers(folder, measurement.layers_file)
        except RecordError as error:
            yield f"{case.id}: {error}"
        else:
            if layers is not None and layers.engine != own.get("engine", layers.engine):
                yield f"{case.id}: its layers are of the engine {layers.engine[:16]}, and {own['engine'][:16]} ran"


def _broken_between(run: Run) -> Iterator[str]:
    """One model has one set of inputs, and one packed file for one runtime and precision; one engine is of one model."""
    seen: dict[tuple[str, ...], tuple[str, str]] = {}
    for line in lineage_table(run):
        row, model, engine = line["row"], line.get("model", ""), line.get("engine", "")
        for what, key, value in (
            ("inputs", (line["name"],), line.get("inputs", "")),
            ("packed model", (line["name"], line["runtime"], line["precision"]), model),
            ("model", (engine,) if engine else (), model),
        ):
            first, other = seen.setdefault((what, *key), (value, row)) if key and value else (value, row)
            if first == value:
                continue
            of = f"its engine {engine[:16]} also ran in {other}, and there its" if what == "model" else "its"
            yield f"{row}: {of} {what} is {value[:16]}, and that of {other} is {first[:16]}"


def _broken_index(run: Run, folder: Path) -> Iterator[str]:
    """Published files against the index, the engines' own manifests, and the rows."""
    try:
        listed = json.loads((folder / INDEX).read_bytes())["files"]
        entries = [
            (str(each["file"]), str(each["kind"]), str(each["sha256"]), each.get("copied", True)) for each in listed
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"{INDEX} cannot be read: {error!r}"
        return
    models = {line["engine"]: line.get("model", "") for line in lineage_table(run) if "engine" in line}
    for name, kind, sha256, is_copied in entries:
        if not is_copied:
            continue
        path = inside(folder, name)
        if path is None:
            yield f"{INDEX} names {name!r}, which leads out of the run folder"
            continue
        found = file_of(kind, path)
        if found is None or found.sha256 != sha256:
            now = "it is missing" if found is None else f"its sha256 is {found.sha256[:16]}"
            yield f"{name}: {now}, published was {sha256[:16]}"
        elif kind == "engine" and (manifest := _manifest(path)) is not None:
            model = models.get(sha256, "")
            if manifest.sha256 != sha256:
                yield f"{name}: its manifest is of another engine, {manifest.sha256[:16]}"
            elif model and manifest.model_sha256 != model:
                yield f"{name}: its manifest names the model {manifest.model_sha256[:16]}, and the packed one is {model[:16]}"


def _by_engine(measurement: Measurement) -> list[tuple[str, dict[str, str]]]:
    """(what it is about, its lineage): one without a name, or one for each model of a row about several.

    What stands in brackets beside a lineage without them (``engine[build 1]``, ``reference[...]``) belongs to that row.
    """
    found: dict[str, dict[str, str]] = {}
    for key, value in measurement.lineage.items():
        match = _KEY.fullmatch(key)
        if match is not None:
            found.setdefault(match["about"] or "", {})[match["name"]] = value
    if "" in found and "engine" in found[""]:
        return [("", found[""])]
    return [(name, each) for name, each in found.items() if name]


def _packed_sha256(pack: ModelPack, artifact: Path) -> str:
    if artifact.name == pack.onnx:
        return pack.onnx_sha256
    if artifact.name == pack.checkpoint:
        return pack.checkpoint_sha256
    try:
        return model_sha256(artifact)
    except RuntimeCoreError:
        return ""


def _manifest(engine: Path) -> Manifest | None:
    if engine.suffix != SUFFIX:
        return None
    try:
        return read_manifest(engine)
    except RuntimeCoreError:
        return None


def file_of(kind: str, path: Path, *, is_ours: bool = True) -> EngineFile | None:
    """A file with its digest; ``None`` where it cannot be read."""
    try:
        with open_regular(path, follow=True) as file:
            digest = hashlib.sha256()
            while part := file.read(_CHUNK):
                digest.update(part)
        return EngineFile(kind, str(path), digest.hexdigest(), is_ours)
    except OSError:
        return None


def _calibration_files(folder: Path, sha256: str) -> list[EngineFile]:
    """The calibration cache of that digest in the folder of the engines, with what stands beside it."""
    for cache in sorted(folder.glob("*.cache")):
        found = file_of("calibration cache", cache) if not cache.name.startswith("timing__") else None
        if found is not None and found.sha256 == sha256:
            beside = (file_of("calibration cache", each) for each in (cache_sidecar(cache), dataset_sidecar(cache)))
            return [found, *filter(None, beside)]
    return []


def _external(path: Path) -> Sequence[Path]:
    if path.suffix != ".onnx":
        return ()
    try:
        return check_external_data(path)
    except RuntimeCoreError:
        return ()


def _size(paths: Sequence[Path]) -> int | None:
    try:
        return sum(path.stat().st_size for path in paths)
    except OSError:
        return None


def _known(lineage: Mapping[str, Any]) -> dict[str, str]:
    return {key: value for key, value in lineage.items() if value}
