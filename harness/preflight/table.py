"""What a platform brings: the table of JetPacks and TensorRT versions, and the manifests of TensorRT's Python API."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from harness.errors import UsageError, did_you_mean
from harness.preflight.source import Api
from runtime.names import same_version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["OVERLOADED", "Manifest", "Platform", "Table", "joined_api", "load_table", "numbers"]


OVERLOADED = {
    "Builder.build_serialized_network": "IHostMemory",
    "ICudaEngine.create_execution_context": "IExecutionContext",
    "Runtime.deserialize_cuda_engine": "ICudaEngine",
}
"""What these give back in every version: of a method with several signatures, a manifest has none."""


@dataclass(frozen=True)
class Manifest:
    """The API of one version, as ``fixtures/api_read.py`` writes it down: ``entries`` by the names at the top."""

    version: str
    entries: Mapping[str, Mapping[str, Any]]
    product: str = "TensorRT"

    @property
    def title(self) -> str:
        return f"{self.product} {self.version}"

    @cached_property
    def names(self) -> frozenset[str]:
        """``Builder`` and ``Builder.create_network``: each name and each member."""
        inside = (f"{name}.{member}" for name in self.entries for member in self.members(name))
        return frozenset(self.entries) | frozenset(inside)

    @cached_property
    def all_members(self) -> frozenset[str]:
        """Members of any class."""
        return frozenset(member for entry in self.entries.values() for member in entry.get("members", ()))

    def members(self, name: str) -> Mapping[str, Any]:
        entry = self.entries.get(name, {})
        members: Mapping[str, Any] = entry.get("enum", entry.get("members", {}))
        return members

    def has(self, path: str) -> bool:
        """``*.x``: whether any class has it."""
        return path.removeprefix("*.") in self.all_members if path.startswith("*.") else path in self.names

    def enum(self, name: str) -> Mapping[str, int]:
        values: Mapping[str, int] = self.entries.get(name, {}).get("enum", {})
        return values


@dataclass(frozen=True)
class Platform:
    """``name``: ``jetpack-7.2`` or ``tensorrt-11.4``. ``jetpack`` is empty for TensorRT alone. What is not known is empty."""

    name: str
    jetpack: str
    tensorrt: str
    cuda: str = ""
    cudnn: str = ""
    python: str = ""
    system: str = ""
    boards: tuple[str, ...] = ()
    remark: str = ""
    source: str = ""

    @property
    def title(self) -> str:
        """``JetPack 7.2 (TensorRT 10.16.2.10)``."""
        return f"JetPack {self.jetpack} (TensorRT {self.tensorrt})" if self.jetpack else f"TensorRT {self.tensorrt}"

    def to_json(self) -> dict[str, Any]:
        told = {name: getattr(self, name) for name in ("jetpack", "tensorrt", "cuda", "cudnn", "python", "system")}
        return {"name": self.name, **{key: value or None for key, value in told.items()}, "boards": list(self.boards)}


@dataclass(frozen=True)
class Table:
    """The table as read, and the manifests beside it by version; ``rtx``: those of TensorRT-RTX; ``cuda``: of
    the part of ``cuda.bindings.driver`` that has one.
    """

    values: Mapping[str, Any]
    manifests: Mapping[str, Path]
    rtx: Mapping[str, Path]
    cuda: Mapping[str, Path]

    def rows(self, name: str) -> list[dict[str, Any]]:
        return list(self.values.get(name, []))

    @property
    def platforms(self) -> list[str]:
        """All that can be named."""
        jetpacks = [f"jetpack-{version}" for row in self.rows("jetpack") for version in row["versions"]]
        versions = {row["version"] for row in self.rows("tensorrt")} | {*self.manifests}
        return [*jetpacks, *(f"tensorrt-{version}" for version in sorted(versions, key=numbers))]

    def platform(self, name: str) -> Platform:
        """Raises ``UsageError`` for one that the table does not have."""
        kind, _, version = name.strip().lower().partition("-")
        if kind == "jetpack":
            for row in self.rows("jetpack"):
                if version in row["versions"]:
                    texts = ("tensorrt", "cuda", "cudnn", "python", "system", "remark", "source")
                    told = {key: row.get(key, "") for key in texts}
                    return Platform(f"jetpack-{version}", version, boards=tuple(row["boards"]), **told)
        elif kind == "tensorrt" and re.fullmatch(r"\d+(\.\d+){1,3}", version):
            row = self.tensorrt(version)
            if row or any(same_version(version, known) for known in self.manifests):
                told = {key: row.get(key, "") for key in ("cuda", "remark", "source")}
                return Platform(f"tensorrt-{version}", "", version, boards=tuple(row.get("boards", ())), **told)
        raise UsageError(
            f"{name!r} is no platform of the table; expected jetpack-VERSION or tensorrt-VERSION. "
            f"{did_you_mean(name, self.platforms)}"
        )

    def tensorrt(self, version: str) -> dict[str, Any]:
        """The entry for this version: the longest that it begins with, as 11.4 for 11.4.0.106; empty where there is none."""
        known = [
            row
            for row in self.rows("tensorrt")
            if numbers(version)[: len(numbers(row["version"]))] == numbers(row["version"])
        ]
        return max(known, key=lambda row: len(numbers(row["version"])), default={})

    def manifest(self, version: str) -> Manifest | None:
        """The API of this version, else of the nearest one of the same minor version; ``None`` where none is near."""
        same = [known for known in self.manifests if same_version(version, known)]
        near = [known for known in self.manifests if numbers(known)[:2] == numbers(version)[:2]]
        for found in (same, near):
            if found:
                best = max(found, key=numbers)
                return _manifest(best, self.manifests[best])
        return None

    def others(self, versions: Iterable[str]) -> tuple[Manifest, ...]:
        """The manifests of all other versions, and those of TensorRT-RTX."""
        seen = set(versions)
        same = (_manifest(v, path) for v, path in self.manifests.items() if v not in seen)
        rtx = (_manifest(v, path, "TensorRT-RTX") for v, path in self.rtx.items())
        return (*same, *rtx)

    def cuda_calls(self, version: str) -> tuple[str, Mapping[str, tuple[str, int]]]:
        """Of the bindings of CUDA's major version: their version, and of each function its signature and how many arguments
        it takes; nothing where no manifest is of it.
        """
        for known, path in self.cuda.items():
            if version and numbers(known)[:1] == numbers(version)[:1]:
                entries = _manifest(known, path).entries
                texts = {name: str(entry["function"]) for name, entry in entries.items() if "function" in entry}
                return known, {name: (text, _parameters(text)) for name, text in texts.items()}
        return "", {}

    def instead(self, path: str) -> dict[str, Any]:
        """The row that says what stands in the place of a name: empty where the table has none."""
        for row in self.rows("instead"):
            for pattern in row["names"]:
                if fnmatchcase(path, pattern) or (path.startswith("*.") and pattern == path):
                    return row
        return {}


def load_table(platforms: Path, manifests: Path) -> Table:
    """Read the table and find the manifests, ``tensorrt-VERSION.json``. Raises ``UsageError`` where either is not there."""
    try:
        values = tomllib.loads(platforms.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The table of platforms {platforms} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"The table of platforms {platforms} is not TOML: {error}.") from error
    found = {path.stem.removeprefix("tensorrt-"): path for path in sorted(manifests.glob("tensorrt-*.json"))}
    if not found:
        raise UsageError(f"{manifests} has no manifest of TensorRT's API; expected files like tensorrt-10.3.0.json.")
    rtx = {path.stem.removeprefix("tensorrt_rtx-"): path for path in sorted(manifests.glob("tensorrt_rtx-*.json"))}
    cuda = {path.stem.removeprefix("cuda-bindings-"): path for path in sorted(manifests.glob("cuda-bindings-*.json"))}
    return Table(values, found, rtx, cuda)


def joined_api(*manifests: Manifest, also: frozenset[str] = frozenset()) -> Api:
    """The names of several versions together, for reading a source; return types of the first that tells them.

    ``also``: members that none has, and that are worth finding.
    """
    members: dict[str, frozenset[str]] = {}
    enums: set[str] = set()
    returns = dict(OVERLOADED)
    for manifest in manifests:
        for name, entry in manifest.entries.items():
            members[name] = members.get(name, frozenset()) | frozenset(manifest.members(name))
            if "enum" in entry:
                enums.add(name)
            if "function" in entry or "value" in entry:
                returns.setdefault(name, _returned(entry.get("function", "")))
            for member, text in entry.get("members", {}).items():
                if gives := _returned(text):
                    returns.setdefault(f"{name}.{member}", gives)
    return Api(members, frozenset(enums), returns, also)


def numbers(version: str) -> tuple[int, ...]:
    """``10.16.2`` as numbers, for putting versions in order."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _parameters(signature: str) -> int:
    inside = re.sub(r"\[[^\]]*\]", "", signature.partition("(")[2].rpartition(")")[0]).strip()
    return inside.count(",") + 1 if inside else 0


def _returned(signature: str) -> str:
    found = re.search(r"-> tensorrt(?:_rtx)?\.(\w+)$", signature)
    return found[1] if found else ""


def _manifest(version: str, path: Path, product: str = "TensorRT") -> Manifest:
    try:
        return _read_manifest(version, path, product, path.stat().st_mtime_ns)
    except OSError as error:
        raise UsageError(f"The manifest {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"The manifest {path} is not JSON: {error}.") from error


@lru_cache(maxsize=32)
def _read_manifest(version: str, path: Path, product: str, changed_ns: int) -> Manifest:
    del changed_ns  # part of the key: a file that was written anew is read anew
    entries = json.loads(path.read_bytes())
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise UsageError(f"{path} is no manifest of an API: expected an object of objects.")
    if product != "TensorRT":  # read off a whole package, which brings os, sys and their like along
        entries = {name: entry for name, entry in entries.items() if "members" in entry or "enum" in entry}
    return Manifest(version, entries, product)
