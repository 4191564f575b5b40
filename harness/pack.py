"""Making apart from measuring (architecture, decision 11): models, inputs, references and tolerances in one folder.

    pack.json                 schema, settings, what the configuration says of boards and of each model's load and budgets,
                              and of each model the digests of its folder's files
    <model>/model.json        ModelPack as JSON
    <model>/model.onnx        with its external data; model.fp16.onnx: the same, cast
    <model>/<architecture>.pt the checkpoint
    <model>/inputs.npz        "<sample>/<input>"
    <model>/reference.npz     "<sample>/<output>", float64
    <model>/expected.npz      "<sample>/<output>", what the model's authors ship with it; only where they do
    <model>/calibration/      NNNN.npz, one sample each: what INT8 ranges are made from; only where int8 is asked for

A model's folder is made once per content: its name in the cache is a digest over everything that went into it.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from harness import inputs as feeds_of
from harness.config import BoardConfig, Budget, Configuration, LoadRule, ModelConfig
from harness.errors import UsageError, did_you_mean
from harness.inputs import Feed
from harness.records import RecordError, Tolerance, from_json, to_json
from runtime.architectures import ArchitectureRegistry
from runtime.data import Profile, TensorSpec
from runtime.errors import RuntimeCoreError
from runtime.files import write_atomic
from runtime.model_file import check_external_data, model_sha256, read_model_facts
from runtime.protocol import Array

__all__ = ["METHOD", "Maker", "ModelPack", "Pack", "Source", "SourceModel", "load_pack", "read_model"]

METHOD = "4"
"""Of references and tolerances: changed whenever their figures may change, so that no cache outlives it."""

PACK_SCHEMA = 1
SAMPLES = 4
CALIBRATION_SAMPLES = 2
"""How many of the samples tolerances are derived from; all are compared."""
MONTE_CARLO_RUNS = 8
INT8_SAMPLES = 16
"""Feeds that a built-in model gives for INT8 calibration, of other places than those that are compared."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class SourceModel:
    """What a built-in source gives: artifacts on disk, feeds, and the outputs that its authors expect (may be none)."""

    onnx: Path | None
    checkpoint: Path | None
    architecture: str
    feeds: Sequence[Feed]
    origin: str
    expected: Sequence[Mapping[str, Array]] | None = None
    calibration: Sequence[Feed] = ()


Source = Callable[[str, str, int, Path], SourceModel]
"""(name, size, seed, cache folder) -> the model. ``fixtures`` has them; the command line brings them in."""


@dataclass(frozen=True)
class ModelPack:
    """One model, ready to be measured on any machine that has its folder. File names are relative to ``folder``."""

    name: str
    size: str
    key: str
    onnx: str
    onnx_fp16: str
    checkpoint: str
    architecture: str
    inputs_origin: str
    reference: str
    feed_sha256: tuple[str, ...]
    onnx_sha256: str
    checkpoint_sha256: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    tolerances: Mapping[str, Mapping[str, Tolerance]]
    tensors: str = "{}"
    precision: tuple[str, ...] = ("fp16",)
    notes: tuple[str, ...] = ()
    no_fp16: str = ""
    calibration: str = ""
    dims: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    schema: int = PACK_SCHEMA
    folder: str = field(default="", compare=False)

    def path(self, name: str) -> Path:
        """A file of the pack. Raises ``UsageError`` for a name that leads out of it: a pack may come from a stranger."""
        if Path(name).name != name:
            raise UsageError(f"the pack of {self.name!r} names the file {name!r}; expected a plain file name.")
        return Path(self.folder) / name

    def config(self) -> ModelConfig:
        """What a pack alone says of a model."""
        return ModelConfig(
            self.name,
            onnx=self.path(self.onnx) if self.onnx else None,
            checkpoint=self.path(self.checkpoint) if self.checkpoint else None,
            architecture=self.architecture,
            precision=self.precision,
        )

    def feeds(self) -> list[dict[str, Array]]:
        """The stored inputs, one mapping per sample. Raises ``UsageError`` if the bytes are not those that were packed."""
        feeds = _read_samples(self.path("inputs.npz"))
        if tuple(feeds_of.digest(feed) for feed in feeds) != self.feed_sha256:
            raise UsageError(f"{self.path('inputs.npz')} was changed since the pack was made. Make the pack again.")
        return feeds

    def references(self) -> list[dict[str, Array]]:
        """The high-precision outputs, float64, one mapping per sample."""
        return _read_samples(self.path("reference.npz"))

    def sha256_of(self, name: str) -> str:
        """The digest of a file of the pack; empty where it has none of that name."""
        path = self.path(name)
        if not path.is_file():
            return ""
        known = path.stat()
        return _known_sha256(path, known.st_mtime_ns, known.st_size)

    def expected(self) -> list[dict[str, Array]]:
        """What the model's authors ship as its outputs; empty where they ship none."""
        path = self.path("expected.npz")
        return _read_samples(path) if path.exists() else []

    def profiles(self) -> tuple[Profile, ...]:
        """The shapes that each input with free sizes may take: what ``dims`` allows, else the packed samples' own."""
        if not self.onnx:
            return ()
        sizes = {spec.name: spec.shape for spec in self.specs()[0]}
        profiles = []
        for spec in read_model_facts(self.path(self.onnx)).inputs:
            if not any(isinstance(size, str) for size in spec.shape):
                continue
            seen = zip(spec.shape, sizes[spec.name], strict=True)
            ranges = [self.dims.get(free, (size,) * 3) if isinstance(free, str) else (size,) * 3 for free, size in seen]
            low, best, high = zip(*ranges, strict=True)
            profiles.append(Profile(spec.name, low, best, high))
        return tuple(profiles)

    def specs(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """The concrete inputs and outputs of the packed samples."""
        table = json.loads(self.tensors)
        first, second = (
            tuple(TensorSpec(t["name"], tuple(t["shape"]), t["dtype"]) for t in table[side])
            for side in ("inputs", "outputs")
        )
        return first, second


@dataclass(frozen=True)
class Pack:
    """All models of one configuration. ``sha256``: of the models' keys, so of everything that went into them.

    ``configuration``: what it said of boards, rates and budgets, for a machine that has the pack alone; its models are those
    of the pack. ``None`` for a pack that was not read from a folder, and for one of before it was kept. Task metrics and
    plugins are code, and are not in it.
    """

    models: Mapping[str, ModelPack]
    sha256: str
    seed: int
    size: str
    configuration: Configuration | None = field(default=None, compare=False)


@dataclass(frozen=True)
class _StatedModel:
    load: LoadRule | None = None
    budget: Mapping[str, Budget] = field(default_factory=dict)
    measure_at: tuple[Mapping[str, int], ...] = ()


@dataclass(frozen=True)
class _Stated:
    """What ``pack.json`` keeps of a configuration."""

    require: tuple[str, ...]
    boards: Mapping[str, BoardConfig]
    models: Mapping[str, _StatedModel]


@dataclass(frozen=True)
class Maker:
    """Makes model packs. ``cache``: where finished ones are kept by content. ``say``: progress, in words."""

    cache: Path
    sources: Mapping[str, Source]
    registry: ArchitectureRegistry
    seed: int = 0
    size: str = "small"
    folders: tuple[Path, ...] = ()
    say: Say = lambda words: None

    def make(self, models: Sequence[ModelConfig], failed: dict[str, str] | None = None) -> Pack:
        """Every model, from the cache where it is there.

        A model that cannot be packed raises ``UsageError``; with ``failed`` its reason is put there, and the rest goes on.
        """
        done: dict[str, ModelPack] = {}
        for model in models:
            try:
                done[model.name] = self.model(model)
            except UsageError as error:
                if failed is None:
                    raise
                failed[model.name] = str(error)
        return Pack(done, _digest_of(done), self.seed, self.size)

    def has_any(self, name: str) -> bool:
        """Whether some pack of that name and size is in the cache; it may be an older one."""
        return any((self.cache / "models").glob(f"{name}-{self.size}-*/model.json"))

    def model(self, model: ModelConfig) -> ModelPack:
        """One model: its artifacts, inputs, reference and tolerances."""
        try:
            source = self._with_calibration(model, self._source(model))
            key = self._key(model, source)
        except RuntimeCoreError as error:
            raise UsageError(f"model {model.name!r}: {error}") from error
        folder = self.cache / "models" / f"{model.name}-{self.size}-{key[:16]}"
        if (folder / "model.json").exists():
            return read_model(folder)
        self.say(f"{model.name}: making its reference and tolerances (once)")
        try:
            return self._made(model, source, key, folder)
        except OSError as error:
            why = f"{error.strerror or error}. Free some space, or give another --cache"
            raise UsageError(f"the cache {self.cache} cannot be written: {why}.") from error

    def _made(self, model: ModelConfig, source: SourceModel, key: str, folder: Path) -> ModelPack:
        (self.cache / "models").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix="making-") as draft:
            from harness.pack_maker import fill

            fill(Path(draft), model, source, self, key)
            try:
                Path(draft).rename(folder)
            except OSError:
                if not (folder / "model.json").exists():  # another trigate may have made it meanwhile
                    raise
            Path(draft).mkdir(exist_ok=True)
        return read_model(folder)

    def _source(self, model: ModelConfig) -> SourceModel:
        if model.source:
            kind, _, name = model.source.partition(":")
            if kind not in self.sources or not name:
                known = [f"{known}:NAME" for known in self.sources]
                raise UsageError(
                    f"model {model.name!r}: source is {model.source!r}. {did_you_mean(model.source, known)}"
                )
            built_in = self.sources[kind](name, self.size, self.seed, self.cache)
            return built_in if not model.inputs else _with_feeds(built_in, self._given(model), model.inputs)
        specs: tuple[TensorSpec, ...] = ()
        if model.onnx is not None:
            check_external_data(model.onnx)
            specs = read_model_facts(model.onnx).inputs
        elif model.architecture in self.registry:
            specs = tuple(self.registry.get(model.architecture).inputs)
        if model.inputs:
            feeds, origin = self._given(model), model.inputs
        elif specs:
            sizes = {name: opt for name, (_, opt, _) in model.dims.items()}
            feeds, origin = feeds_of.made_up(specs, sizes, SAMPLES, seed=self.seed), "made up from the signature"
        else:
            raise UsageError(_says_too_little(model, is_known=model.architecture in self.registry))
        if specs:
            feeds_of.check_feeds(feeds, specs, f"model {model.name!r}, inputs {origin}")
        return SourceModel(model.onnx, model.checkpoint, model.architecture, feeds, origin)

    def _with_calibration(self, model: ModelConfig, source: SourceModel) -> SourceModel:
        """The source with its INT8 calibration feeds where int8 is asked for, and with none where it is not."""
        if not {"int8", "mixed"} & set(model.precision):
            return replace(source, calibration=())
        feeds = self._feeds(model.calibration) if model.calibration else source.calibration
        if not feeds and "int8" in model.precision:
            raise UsageError(
                f"model {model.name!r} asks for int8, and nothing says what to calibrate on. "
                "Give calibration = 'FOLDER/*.npz' or a hook, with inputs like those of the flight."
            )
        origin = f"model {model.name!r}, calibration {model.calibration or source.origin}"
        if source.onnx is not None:
            feeds_of.check_feeds(feeds, read_model_facts(source.onnx).inputs, origin)
        return replace(source, calibration=feeds)

    def _given(self, model: ModelConfig) -> list[dict[str, Array]]:
        return self._feeds(model.inputs)

    def _feeds(self, where: str) -> list[dict[str, Array]]:
        """Of a hook, or of the files that a pattern matches."""
        if ":" in where and not where.endswith(".npz"):
            return feeds_of.call_hook(where, self.folders)
        return feeds_of.load_npz(where, self.folders[0] if self.folders else Path())

    def _key(self, model: ModelConfig, source: SourceModel) -> str:
        seen = hashlib.sha256(
            f"{METHOD} {self.seed} {self.size} {SAMPLES} {CALIBRATION_SAMPLES} {MONTE_CARLO_RUNS}".encode()
        )
        seen.update(model_sha256(source.onnx).encode() if source.onnx else b"-")
        seen.update(_file_sha256(source.checkpoint).encode() if source.checkpoint else b"-")
        asked = f"{source.architecture} {source.origin} {sorted(model.tolerance.items())} {sorted(model.precision)}"
        seen.update(asked.encode())
        if source.architecture in self.registry:
            seen.update(_source_of(self.registry.get(source.architecture).factory).encode())
        for feed in (*source.feeds, *source.calibration):
            seen.update(feeds_of.digest(feed).encode())
        if model.dims:
            seen.update(f"{sorted(model.dims.items())}".encode())
        return seen.hexdigest()


def write_pack(pack: Pack, configuration: Configuration, folder: Path) -> Path:
    """Copy every model of ``pack`` into ``folder`` (new or empty) and write ``pack.json`` last. Returns its path."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty. Give a new folder for the pack.")
    whole = folder.absolute()
    try:
        whole.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=whole.parent, prefix=f".{whole.name}-") as room:
            draft = Path(room) / "pack"
            draft.mkdir()
            for name, model in pack.models.items():
                shutil.copytree(model.folder, draft / name)
            stated = to_json(_stated(configuration, pack))
            table = {
                "schema": PACK_SCHEMA,
                "seed": pack.seed,
                "size": pack.size,
                "sha256": pack.sha256,
                "configuration": {"path": Path(configuration.path).name, "sha256": configuration.sha256},
                "stated": stated,
                "stated_sha256": _json_sha256(stated),
                "models": {name: _digests(draft / name) for name in pack.models},
            }
            write_atomic(draft / "pack.json", json.dumps(table, indent=1).encode())
            draft.rename(whole)  # so that no instant shows half a pack
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror or error}. Nothing was left there.") from error
    return folder / "pack.json"


def load_pack(folder: Path) -> Pack:
    """Read a pack, checking every file against its digest. Raises ``UsageError`` that names what was changed."""
    try:
        table = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
        models: Mapping[str, dict[str, str]] = {name: dict(files) for name, files in table["models"].items()}
        sha256, seed, size = str(table["sha256"]), int(table["seed"]), str(table["size"])
        if table["schema"] > PACK_SCHEMA:
            raise UsageError(f"{folder} is a pack of schema {table['schema']}; this trigate reads {PACK_SCHEMA}.")
    except FileNotFoundError:
        raise UsageError(
            f"{folder} is no pack: it has no pack.json. Make one with `trigate pack CONFIG.toml`."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{folder}/pack.json cannot be read: {error!r}. Make the pack again.") from error
    done = {}
    for name, files in models.items():
        found = _digests(folder / name)
        for file in sorted({*files, *found, "model.json"}):
            if file not in found or found[file] != files.get(file):
                what = "is missing" if file not in found else "was changed" if file in files else "was put there"
                raise UsageError(f"{folder / name / file} {what} since the pack was made. Copy or make the pack again.")
        done[name] = read_model(folder / name)
    if _digest_of(done) != sha256:
        raise UsageError(f"{folder}/pack.json was changed since the pack was made. Copy or make the pack again.")
    return Pack(done, sha256, seed, size, _configuration(folder, table, done))


def _stated(configuration: Configuration, pack: Pack) -> _Stated:
    models = {name: model for name, model in configuration.models.items() if name in pack.models}
    return _Stated(
        configuration.require,
        configuration.boards,
        {name: _StatedModel(model.load, model.budget, model.measure_at) for name, model in models.items()},
    )


def _configuration(folder: Path, table: Mapping[str, Any], models: Mapping[str, ModelPack]) -> Configuration | None:
    """The configuration that a pack was made with, as far as it is kept. Raises ``UsageError`` where it was changed."""
    if "stated" not in table:
        return None
    if table.get("stated_sha256") != _json_sha256(table["stated"]):
        raise UsageError(f"{folder}/pack.json was changed since the pack was made. Copy or make the pack again.")
    try:
        stated = from_json(_Stated, table["stated"])
        path, sha256 = str(table["configuration"]["path"]), str(table["configuration"]["sha256"])
    except (KeyError, TypeError, RecordError) as error:
        raise UsageError(f"{folder}/pack.json cannot be read: {error}. Make the pack again.") from error
    said = {name: stated.models.get(name, _StatedModel()) for name in models}
    return Configuration(
        path,
        folder.resolve(),
        sha256,
        require=stated.require,
        boards=stated.boards,
        models={
            name: replace(
                model.config(), load=said[name].load, budget=said[name].budget, measure_at=said[name].measure_at
            )
            for name, model in models.items()
        },
    )


def _json_sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _says_too_little(model: ModelConfig, *, is_known: bool) -> str:
    """What to add to a model of which nobody knows what it takes."""
    lacking = ["--inputs 'FILES*.npz' or module:function for what it takes (inputs = in a configuration)"]
    if model.architecture and not is_known:
        lacking.insert(0, f"--architecture {model.architecture}=package.module:factory for its torch module")
    holds = f": {model.checkpoint.name} holds weights alone" if model.checkpoint else " says nothing of its inputs"
    return f"model {model.name!r}{holds}. Give {', and '.join(lacking)}."


def _with_feeds(source: SourceModel, feeds: Sequence[Feed], origin: str) -> SourceModel:
    return replace(source, feeds=feeds, origin=origin, expected=None)


def read_model(folder: Path) -> ModelPack:
    """One model's pack from its folder. Raises ``UsageError`` for a damaged one."""
    try:
        value: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        return from_json(ModelPack, {**value, "folder": str(folder)})
    except (OSError, ValueError, TypeError, RecordError) as error:
        raise UsageError(f"{folder} is damaged: {error}. Remove it; it is made again.") from error


def model_json(pack: ModelPack) -> bytes:
    """What ``model.json`` holds: everything but where it lies."""
    return json.dumps({**to_json(pack), "folder": ""}, indent=1).encode()


def _read_samples(path: Path) -> list[dict[str, Array]]:
    samples: dict[int, dict[str, Array]] = {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # numpy leaves a damaged one open
            for key in arrays.files:
                at, _, name = key.partition("/")
                samples.setdefault(int(at), {})[name] = arrays[key]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"{path} is damaged: {error}. Remove {path.parent}; it is made again.") from error
    return [samples[at] for at in sorted(samples)]


def _file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            seen = hashlib.sha256()
            while block := file.read(1 << 20):  # hashlib.file_digest comes with Python 3.11
                seen.update(block)
            return seen.hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error


@lru_cache(maxsize=64)
def _known_sha256(path: Path, modified_ns: int, size: int) -> str:
    """Asked for once per row, of files that stay what they are while a run goes on."""
    del modified_ns, size
    return _file_sha256(path)


def _source_of(factory: Callable[[], Any]) -> str:
    """A digest of the file that a factory stands in: a user's edited module must not meet a stale reference."""
    try:
        path = inspect.getsourcefile(inspect.unwrap(factory))
    except TypeError:  # a partial or an instance: its checkpoint and outputs are in the key all the same
        path = None
    return _file_sha256(Path(path)) if path else ""


def _digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file in a folder, by its path there."""
    return {
        path.relative_to(folder).as_posix(): _file_sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def _digest_of(models: Mapping[str, ModelPack]) -> str:
    seen = hashlib.sha256()
    for name in sorted(models):
        seen.update(f"{name} {models[name].key}\n".encode())
    return seen.hexdigest()
