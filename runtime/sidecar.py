"""What stands beside an engine (TR-02): ``<name>.sha256``, as ``sha256sum`` writes it, and the manifest ``<name>.json``.

Engine, manifest and sidecar each carry or are the engine's content hash, so that any mixture of an old and a new
triple is refused by the engine gate, whatever was renamed before a crash.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from runtime.data import PRECISIONS, Profile, TensorSpec
from runtime.errors import (
    EngineBuildError,
    EngineDeserializeError,
    EngineHashMismatchError,
    EngineSchemaMismatchError,
    EngineSidecarMissingError,
    RuntimeCoreError,
)
from runtime.files import DISK, FileSystem, folder_made, read_small, sha256_hex, write_atomic, write_together
from runtime.names import parse_engine_name, same_version

__all__ = [
    "MANIFEST_SCHEMA",
    "Manifest",
    "manifest_path",
    "publish_engine",
    "read_manifest",
    "read_sidecar",
    "sidecar_path",
    "write_manifest",
    "write_sidecar",
]

MANIFEST_SCHEMA = 1
"""1: the fields of ``Manifest``."""

_MAX_MANIFEST_BYTES = 1 << 20
_MAX_SIDECAR_BYTES = 1 << 10
_MAX_COUNT = 2**63 - 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEADER = ("used", "not used")


@dataclass(frozen=True)
class Manifest:
    """What an engine was built from, for and with. Validated on construction: ``EngineSchemaMismatchError`` names the
    field.

    ``sha256``, ``model_sha256``: of the engine's content and of the model it was built from, lower-case hexadecimal.
    ``sm``, ``jetpack``, ``trt``, ``module``, ``l4t``: the host it is for, as in ``HostTuple``; ``trt`` as exact as
    the builder knows it. ``route``: how precision was expressed. Byte figures are ``None`` where not known.
    ``header``: ``"not used"`` where the plan's own header and the builder's library disagreed at build time.
    """

    sha256: str
    model_sha256: str
    sm: str
    jetpack: str
    trt: str
    precision: str
    route: str
    builder: str
    module: str = "none"
    l4t: str = "none"
    profiles: tuple[Profile, ...] = ()
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    opt_buffer_bytes: int | None = None
    device_memory_bytes: int | None = None
    weights_bytes: int | None = None
    builder_options: Mapping[str, str] = field(default_factory=dict)
    header: str = "used"

    def __post_init__(self) -> None:
        for name in ("sha256", "model_sha256"):
            _text(getattr(self, name), name, _SHA256.fullmatch, "64 lower-case hexadecimal digits")
        for name in ("sm", "jetpack", "trt", "module", "l4t", "route", "builder"):
            _text(getattr(self, name), name, bool, "text that is not empty")
        _text(self.precision, "precision", PRECISIONS.__contains__, f"one of {', '.join(PRECISIONS)}")
        _text(self.header, "header", _HEADER.__contains__, "'used' or 'not used'")
        for name in ("opt_buffer_bytes", "device_memory_bytes", "weights_bytes"):
            if getattr(self, name) is not None:
                _count(getattr(self, name), name)
        for name in ("profiles", "inputs", "outputs"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("inputs", "outputs"):
            for spec in getattr(self, name):
                _check_spec(spec, name)
        if not all(isinstance(text, str) for pair in self.builder_options.items() for text in pair):
            _wrong("builder_options", dict(self.builder_options), "a mapping from text to text")
        object.__setattr__(self, "builder_options", MappingProxyType(dict(self.builder_options)))

    def __hash__(self) -> int:
        return hash((self.sha256, self.model_sha256))

    def to_json(self) -> str:
        """One JSON object, keys sorted, ending in a newline."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        values["schema"] = MANIFEST_SCHEMA
        values["builder_options"] = dict(self.builder_options)
        for name in ("profiles", "inputs", "outputs"):
            values[name] = [vars(item) for item in values[name]]
        return json.dumps(values, sort_keys=True, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """The inverse of ``to_json``. Raises ``EngineSchemaMismatchError`` that names what is wrong, for any text."""
        try:
            values = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise _refusal(f"it is not JSON: {error}.") from error
        if not isinstance(values, dict):
            _wrong("the manifest", values, "a JSON object")
        schema = values.pop("schema", None)
        if schema != MANIFEST_SCHEMA:
            raise _refusal(f"schema is {_short(schema)}; this core reads {MANIFEST_SCHEMA}.")
        _same_keys(values, cls, "it")
        for name, kind in (("profiles", Profile), ("inputs", TensorSpec), ("outputs", TensorSpec)):
            if not isinstance(values[name], list):
                _wrong(name, values[name], "a list")
            values[name] = tuple(_item(kind, item, name) for item in values[name])
        if not isinstance(values["builder_options"], dict):
            _wrong("builder_options", values["builder_options"], "a mapping from text to text")
        return cls(**values)


def sidecar_path(engine: Path) -> Path:
    """``<name>.sha256`` beside the engine."""
    return engine.with_name(engine.name + ".sha256")


def manifest_path(engine: Path) -> Path:
    """``<name>.json`` beside the engine."""
    return engine.with_name(engine.name + ".json")


def write_sidecar(engine: Path, sha256: str, *, fs: FileSystem = DISK) -> None:
    """Write the engine's hash in the form that ``sha256sum -c`` reads. Raises ``OSError``."""
    write_atomic(sidecar_path(engine), _sidecar_line(engine, sha256), fs=fs)


def write_manifest(engine: Path, manifest: Manifest, *, fs: FileSystem = DISK) -> None:
    """Write the manifest beside the engine. Raises ``OSError``."""
    write_atomic(manifest_path(engine), manifest.to_json().encode(), fs=fs)


def read_sidecar(engine: Path, *, fs: FileSystem = DISK) -> str:
    """The hash in the engine's sidecar, lower-case hexadecimal.

    Raises ``EngineSidecarMissingError``, and ``EngineHashMismatchError`` for a sidecar that holds no hash of this file.
    """
    line = _read_beside(sidecar_path(engine), _MAX_SIDECAR_BYTES, fs).decode("utf-8", "replace")
    match = re.fullmatch(r"([0-9a-f]{64})(?:[ ][ *](.+))?\n?", line)
    if match is None or match[2] not in (None, engine.name):
        holds = "no SHA-256" if match is None else f"the hash of {match[2]!r}"
        raise EngineHashMismatchError(
            f"{sidecar_path(engine).name} holds {holds}; expected one of {engine.name}.",
            remedy="Build the engine again with `trigate compile`.",
        )
    return match[1]


def read_manifest(engine: Path, *, fs: FileSystem = DISK) -> Manifest:
    """The manifest beside an engine. Raises ``EngineSidecarMissingError`` and ``EngineSchemaMismatchError``."""
    path = manifest_path(engine)
    data = _read_beside(path, _MAX_MANIFEST_BYTES, fs)
    try:
        return Manifest.from_json(data)
    except EngineSchemaMismatchError as error:
        raise EngineSchemaMismatchError(f"{path.name}: {error.message}", remedy=error.remedy) from error


def publish_engine(
    path: Path, data: bytes, manifest: Manifest, *, beside: Sequence[tuple[Path, bytes]] = (), fs: FileSystem = DISK
) -> None:
    """Put an engine, its manifest and its sidecar in place, together; the folder is made if it is not there.

    ``beside``: further files of the same folder that come and go with them; nobody's trust hangs on them.
    Raises ``EngineBuildError``, with the files on disk as they were: for a name or manifest that is not this engine's,
    and for a disk that fails. A crash leaves the old three, the new three, or a mixture that the gate refuses.
    """
    try:
        name = parse_engine_name(path.name)
    except EngineSchemaMismatchError as error:
        raise EngineBuildError(f"the engine cannot be stored: {error.message}") from error
    sha256 = sha256_hex(data)
    claims = {"sha256": sha256, "sm": name.sm, "jetpack": name.jetpack, "precision": name.precision}
    wrong = [key for key, value in claims.items() if getattr(manifest, key) != value]
    if wrong or not same_version(name.trt, manifest.trt):
        raise EngineBuildError(f"the manifest is not that of {path.name}: {', '.join(wrong or ['trt'])} differ.")
    files = [
        *beside,
        (path, data),
        (manifest_path(path), manifest.to_json().encode()),
        (sidecar_path(path), _sidecar_line(path, sha256)),
    ]
    try:
        with folder_made(path.parent, fs=fs):
            write_together(files, fs=fs)
    except OSError as error:
        raise EngineBuildError(
            f"{path.name} ({len(data)} bytes) cannot be stored in {path.parent}: {error.strerror or error}.",
            remedy="Free space in that folder, or name another engine_cache_dir.",
        ) from error


def _sidecar_line(engine: Path, sha256: str) -> bytes:
    return f"{sha256}  {engine.name}\n".encode()


def _read_beside(path: Path, limit: int, fs: FileSystem) -> bytes:
    try:
        return read_small(path, limit=limit, fs=fs)
    except FileNotFoundError as error:
        raise EngineSidecarMissingError(
            f"{path.name} is missing in {path.parent}.",
            remedy="Copy the .engine, .engine.sha256 and .engine.json together, or build with `trigate compile`.",
        ) from error
    except OSError as error:
        raise EngineDeserializeError(f"{path.name} cannot be read: {error.strerror or error}.") from error


def _refusal(message: str) -> EngineSchemaMismatchError:
    return EngineSchemaMismatchError(message, remedy="Build the engine again with `trigate compile`.")


def _wrong(name: str, value: object, expected: str) -> NoReturn:
    raise _refusal(f"{name} is {_short(value)}; expected {expected}.")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _text(value: object, name: str, accepts: Callable[[str], object], expected: str) -> None:
    if not isinstance(value, str) or not accepts(value):
        _wrong(name, value, expected)


def _count(value: object, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_COUNT:
        _wrong(name, value, "a whole number from 0 to 2**63 - 1")


def _check_spec(spec: TensorSpec, where: str) -> None:
    _text(spec.name, f"a name in {where}", bool, "text that is not empty")
    where = f"{where}[{_short(spec.name)}]"
    _text(spec.dtype, f"{where}.dtype", bool, "text that is not empty")
    for size in spec.shape:
        if not isinstance(size, str):
            _count(size, f"a size in {where}.shape")
    for name in ("low", "high"):
        value = getattr(spec, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and abs(value) <= sys.float_info.max):
            _wrong(f"{where}.{name}", value, "a finite number or nothing")


def _item(kind: type[Profile | TensorSpec], item: object, where: str) -> Profile | TensorSpec:
    if not isinstance(item, dict):
        _wrong(f"an entry of {where}", item, "a JSON object")
    _same_keys(item, kind, f"an entry of {where}")
    values = dict(item)
    for name in ("shape", "min", "opt", "max"):
        if name in values:
            if not isinstance(values[name], list):
                _wrong(f"{name} in {where}", values[name], "a list of sizes")
            if kind is Profile:
                for size in values[name]:
                    _count(size, f"a size in {where}.{name}")
            values[name] = tuple(values[name])
    if kind is Profile:
        _text(values["input"], f"an input in {where}", bool, "text that is not empty")
    try:
        return kind(**values)
    except RuntimeCoreError as error:
        raise _refusal(error.message) from error


def _same_keys(values: Mapping[str, Any], kind: type[Any], what: str) -> None:
    known = {entry.name for entry in fields(kind)}
    if unknown := sorted(set(values) - known):
        raise _refusal(f"{what} has unknown keys: {_short(unknown)}.")
    if missing := sorted(known - set(values)):
        raise _refusal(f"{what} lacks {', '.join(missing)}.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is given twice")
    return values


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")
