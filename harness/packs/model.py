"""One model, ready to be measured: its artifacts, inputs, references and tolerances, in a folder of its own."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from harness import inputs as feeds_of
from harness.config import ModelConfig
from harness.errors import UsageError
from harness.inputs import Feed
from harness.records import RecordError, Tolerance, from_json, to_json
from runtime.data import Profile, TensorSpec
from runtime.model_file import read_model_facts
from runtime.protocol import Array

__all__ = ["PACK_SCHEMA", "ModelPack", "Source", "SourceModel", "file_sha256", "model_json", "read_model"]

PACK_SCHEMA = 1


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


def file_sha256(path: Path) -> str:
    """Of a file of any size, in hexadecimal digits. Raises ``UsageError`` where it cannot be read."""
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
    return file_sha256(path)
