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
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.config import BoardConfig, Budget, Configuration, LoadRule
from harness.errors import UsageError
from harness.packs.model import PACK_SCHEMA, ModelPack, file_sha256, read_model
from harness.records import RecordError, from_json, to_json
from runtime.files import write_atomic

__all__ = ["Pack", "digest_of", "load_pack", "write_pack"]


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
    if digest_of(done) != sha256:
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


def _digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file in a folder, by its path there."""
    return {
        path.relative_to(folder).as_posix(): file_sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def digest_of(models: Mapping[str, ModelPack]) -> str:
    """Of a pack: of the keys of its models, so of everything that went into them."""
    seen = hashlib.sha256()
    for name in sorted(models):
        seen.update(f"{name} {models[name].key}\n".encode())
    return seen.hexdigest()
