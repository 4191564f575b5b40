"""What each layer of the engine that ran really computes in, as a file of the run folder: ``layers/<case id>.json``.

Who tells it is in the file: TensorRT's inspector (or its builder, for a plan that cannot be loaded here), one profiled call
of ONNX Runtime, the modules of a torch model. Whatever a library says, the file stays small enough to be read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.records import RecordError
from harness.run_folder import RunFolder
from runtime.data import EngineDescription, EngineLayer
from runtime.errors import RuntimeCoreError
from runtime.files import sha256_hex
from runtime.sidecar import read_manifest
from runtime.strategies.trt_layers import LAYERS_SCHEMA as BESIDE_SCHEMA
from runtime.strategies.trt_layers import layers_path

__all__ = [
    "LAYERS_SCHEMA",
    "MOST_LAYERS",
    "Layers",
    "inside",
    "layers_beside",
    "layers_of",
    "read_layers",
    "write_layers",
]

LAYERS_SCHEMA = 1
"""Of ``layers/<case id>.json``. 1: schema, source, engine, precision, left_out, layers."""

MOST_LAYERS = 20_000
_MOST_CHARACTERS = 300
_MOST_BYTES = 64 << 20
_TEXTS = ("name", "type", "precision", "provider", "tactic")


@dataclass(frozen=True)
class Layers:
    """The layers of one engine. ``source``: ``inspector``, ``builder log``, ``network``, ``profile`` or ``modules``.

    ``engine``: the sha256 of the file that ran. ``left_out``: how many there are beside these.
    """

    source: str = ""
    engine: str = ""
    layers: tuple[EngineLayer, ...] = ()
    left_out: int = 0

    @property
    def by_precision(self) -> dict[str, int]:
        """How many layers compute in which type, the most frequent first."""
        return dict(Counter(each.precision for each in self.layers if each.precision).most_common())

    def to_text(self) -> str:
        """The file, a line per layer; at most ``MOST_LAYERS``, and names that somebody might still read."""
        kept = self.layers[:MOST_LAYERS]
        head = {
            "schema": LAYERS_SCHEMA,
            "source": self.source,
            "engine": self.engine,
            "precision": self.by_precision,
            "left_out": self.left_out + len(self.layers) - len(kept),
        }
        lines = ",\n".join(f"  {json.dumps(_told(each))}" for each in kept)
        return f'{json.dumps(head)[:-1]}, "layers": [\n{lines}\n]}}\n'

    @classmethod
    def from_text(cls, text: str | bytes) -> Layers:
        """The inverse of ``to_text``. Raises ``RecordError`` for what is no such file, or a newer one."""
        try:
            told = json.loads(text)
            schema = told["schema"]
            if not isinstance(schema, int) or schema > LAYERS_SCHEMA:
                raise RecordError(f"layers have schema {schema!r}; this trigate reads up to {LAYERS_SCHEMA}.")
            layers = tuple(EngineLayer(*(_text(each, name) for name in _TEXTS)) for each in told["layers"])
            return cls(_text(told, "source"), _text(told, "engine"), layers, int(told.get("left_out", 0)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            if isinstance(error, RecordError):
                raise
            raise RecordError(f"it is no list of layers: {error!r}") from error


def layers_of(described: EngineDescription, engine: Path, sha256: str) -> Layers:
    """As the loaded engine tells them, else as its builder wrote them beside it.

    An engine that was built without detailed verbosity tells no types when it is loaded, and its builder had seen them.
    """
    told = Layers(described.layers_source, sha256, described.layers)
    if told.by_precision:
        return told
    beside = layers_beside(engine, sha256)
    return beside if beside is not None and beside.by_precision else told


def layers_beside(engine: Path, sha256: str) -> Layers | None:
    """What the builder wrote beside an engine; ``None`` where there is nothing, or not what was written with this engine."""
    try:
        data = layers_path(engine).read_bytes()
        written = read_manifest(engine).builder_options.get("layers_sha256", "")
        told = json.loads(data)
        if written != sha256_hex(data) or told["schema"] != BESIDE_SCHEMA:
            return None
        layers = [
            EngineLayer(each["name"], each["kind"], each["precision"], tactic=each.get("tactic", ""))
            for each in told["layers"]
        ]
        return Layers(str(told["source"]), sha256, tuple(layers))
    except (OSError, RuntimeCoreError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def write_layers(folder: RunFolder, case_id: str, layers: Layers) -> str:
    """Write the row's file; its name in the run folder, or empty where there is nothing to tell."""
    return folder.write(f"layers/{case_id}.json", layers.to_text().encode()) if layers.layers else ""


def read_layers(folder: Path, name: str) -> Layers | None:
    """A row's layers by its ``Measurement.layers_file``; ``None`` where it has none.

    Raises ``RecordError`` for a file that is missing, too large, leads out of the run folder or is none of ours.
    """
    if not name:
        return None
    path = inside(folder, name)
    if path is None:
        raise RecordError(f"{name!r} leads out of the run folder.")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise RecordError(f"it has more than {_MOST_BYTES} bytes.")
        return Layers.from_text(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{name} cannot be read: {error.strerror or error}.") from error
    except RecordError as error:
        raise RecordError(f"{name}: {error}") from error


def inside(folder: Path, name: str) -> Path | None:
    """The file of that name in a folder; ``None`` for a name that leads out of it: a run folder may be anybody's."""
    try:
        path = folder / name
        return path if path.resolve().is_relative_to(folder.resolve()) else None
    except (OSError, ValueError):  # a loop of links; a name with a zero byte
        return None


def _told(layer: EngineLayer) -> dict[str, str]:
    values = (layer.name, layer.kind, layer.precision, layer.provider, layer.tactic)
    told = {name: _short(value) for name, value in zip(_TEXTS, values, strict=True)}
    return {name: value for name, value in told.items() if value or name in ("name", "type", "precision")}


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name, "")
    if not isinstance(value, str):
        raise RecordError(f"{name} is {value!r:.60}; expected text.")
    return value
