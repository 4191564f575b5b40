"""Making model packs: what goes into one is found and checked, and a finished one is kept by content."""

from __future__ import annotations

import hashlib
import inspect
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import inputs as feeds_of
from harness.config import ModelConfig
from harness.errors import UsageError, did_you_mean
from harness.inputs import Feed
from harness.packs.fill import CALIBRATION_SAMPLES, MONTE_CARLO_RUNS, Making, fill
from harness.packs.folder import Pack, digest_of
from harness.packs.model import ModelPack, Source, SourceModel, file_sha256, read_model
from runtime.architectures import ArchitectureRegistry
from runtime.data import TensorSpec
from runtime.errors import RuntimeCoreError
from runtime.model_file import check_external_data, model_sha256, read_model_facts
from runtime.protocol import Array

__all__ = ["INT8_SAMPLES", "METHOD", "SAMPLES", "Maker"]

METHOD = "4"
"""Of references and tolerances: changed whenever their figures may change, so that no cache outlives it."""

SAMPLES = 4
INT8_SAMPLES = 16
"""Feeds that a built-in model gives for INT8 calibration, of other places than those that are compared."""

Say = Callable[[str], None]


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
        return Pack(done, digest_of(done), self.seed, self.size)

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
            fill(Path(draft), model, source, Making(key, self.size, self.seed, self.registry, self.say))
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
        seen.update(file_sha256(source.checkpoint).encode() if source.checkpoint else b"-")
        asked = f"{source.architecture} {source.origin} {sorted(model.tolerance.items())} {sorted(model.precision)}"
        seen.update(asked.encode())
        if source.architecture in self.registry:
            seen.update(_source_of(self.registry.get(source.architecture).factory).encode())
        for feed in (*source.feeds, *source.calibration):
            seen.update(feeds_of.digest(feed).encode())
        if model.dims:
            seen.update(f"{sorted(model.dims.items())}".encode())
        return seen.hexdigest()


def _says_too_little(model: ModelConfig, *, is_known: bool) -> str:
    """What to add to a model of which nobody knows what it takes."""
    lacking = ["--inputs 'FILES*.npz' or module:function for what it takes (inputs = in a configuration)"]
    if model.architecture and not is_known:
        lacking.insert(0, f"--architecture {model.architecture}=package.module:factory for its torch module")
    holds = f": {model.checkpoint.name} holds weights alone" if model.checkpoint else " says nothing of its inputs"
    return f"model {model.name!r}{holds}. Give {', and '.join(lacking)}."


def _with_feeds(source: SourceModel, feeds: Sequence[Feed], origin: str) -> SourceModel:
    return replace(source, feeds=feeds, origin=origin, expected=None)


def _source_of(factory: Callable[[], object]) -> str:
    """A digest of the file that a factory stands in: a user's edited module must not meet a stale reference."""
    try:
        path = inspect.getsourcefile(inspect.unwrap(factory))
    except TypeError:  # a partial or an instance: its checkpoint and outputs are in the key all the same
        path = None
    return file_sha256(Path(path)) if path else ""
