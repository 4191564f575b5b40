"""The engine gate (TR-03 to TR-05): what may be deserialised here, decided before TensorRT or CUDA is touched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runtime.data import EngineCacheEntry
from runtime.errors import (
    EngineDeserializeError,
    EngineHashMismatchError,
    EngineSchemaMismatchError,
    OutOfMemoryError,
)
from runtime.files import DISK, FileSystem, open_regular, read_hashed
from runtime.logs import EventLog, Kind
from runtime.names import EngineName, parse_engine_name, same_version
from runtime.plan import PlanHeader, read_plan_header
from runtime.platform import HostTuple
from runtime.sidecar import Manifest, read_manifest, read_sidecar, sidecar_path

__all__ = ["EngineGate", "VerifiedEngine"]

_REBUILD = "Build it on this host with `trigate compile`."


@dataclass(frozen=True)
class VerifiedEngine:
    """An engine that may be deserialised here. ``data`` is read-only and is what was hashed: load this, not the file.

    ``header`` is ``None`` where the manifest says ``header: not used``.
    """

    data: memoryview
    header: PlanHeader | None
    manifest: Manifest
    name: EngineName


class EngineGate:
    """Holds engines against one host. Stateless between calls, so one may serve every thread.

    ``same_jetpacks``: sets of JetPacks that the operator counts as one. ``allow_other_module``: accept an engine built
    on another module of the same SM.
    """

    def __init__(
        self,
        host: HostTuple,
        *,
        same_jetpacks: Iterable[Iterable[str]] = (),
        allow_other_module: bool = False,
        log: EventLog | None = None,
        fs: FileSystem = DISK,
    ) -> None:
        self._host = host
        self._same_jetpacks = tuple(frozenset(group) for group in same_jetpacks)
        self._allow_other_module = allow_other_module
        self._log = log
        self._fs = fs

    def validate(self, entry: EngineCacheEntry) -> VerifiedEngine:
        """Check name, host, sidecar, content, manifest and header, in this order; the file is read once.

        Raises ``EngineDeserializeError`` or the one of its kinds that says what is wrong, and ``OutOfMemoryError``
        where there is no room to read it.
        """
        try:
            return self._validate(entry)
        except EngineDeserializeError as refusal:
            if self._log is not None:
                name, kind = entry.engine_path.name, type(refusal).__name__
                self._log.error(Kind.ENGINE_REFUSED, engine=name, error=kind, reason=refusal.message)
            raise

    def _validate(self, entry: EngineCacheEntry) -> VerifiedEngine:
        path = entry.engine_path
        name = parse_engine_name(path.name)
        self._check_target(name, entry)
        data = self._read(path, entry)
        manifest = read_manifest(path, fs=self._fs)
        self._check_manifest(path.name, name, entry, manifest)
        header = None
        if manifest.header == "used":
            header = self._read_header(path.name, name, manifest, data)
        return VerifiedEngine(data, header, manifest, name)

    def _check_target(self, name: EngineName, entry: EngineCacheEntry) -> None:
        host = self._host
        differing = []
        if name.sm != host.sm:
            differing.append("sm")
        if host.jetpack == "unknown":
            if self._log is not None:
                self._log.warn(Kind.PLATFORM_UNKNOWN, engine=name.format(), l4t=host.l4t, module=host.module)
        elif not self._is_same_jetpack(name.jetpack, host.jetpack):
            differing.append("jetpack")
        if not same_version(name.trt, host.trt):
            differing.append("trt")
        problems = []
        if differing:
            # as many parts of the version as the name has: 10.16, and not 10.16.2.10, beside 10.3
            trt = ".".join(host.trt.split(".")[: name.trt.count(".") + 1])
            problems.append(
                f"built for {name.target}; this host is sm{host.sm} jp{host.jetpack} trt{trt} "
                f"({', '.join(differing)} {'differs' if len(differing) == 1 else 'differ'})"
            )
        claims = ((key, getattr(entry, key), getattr(name, key)) for key in ("sm", "jetpack", "trt", "precision"))
        problems += [
            f"its entry says {key} {said}, its name {key} {named}"
            for key, said, named in claims
            if not (same_version(said, named) if key == "trt" else said == named)
        ]
        _refuse_if(name.format(), problems)

    def _is_same_jetpack(self, left: str, right: str) -> bool:
        return left == right or any({left, right} <= group for group in self._same_jetpacks)

    def _read(self, path: Path, entry: EngineCacheEntry) -> memoryview:
        """The engine's bytes, read once, that hash to what the sidecar and the entry say."""
        try:
            with open_regular(path, fs=self._fs) as file:
                expected = read_sidecar(path, fs=self._fs)
                data, actual = read_hashed(file, fs=self._fs)
        except FileNotFoundError as error:
            raise EngineDeserializeError(f"{path.name} is not in {path.parent}.", remedy=_REBUILD) from error
        except OSError as error:
            raise EngineDeserializeError(f"{path.name} cannot be read: {error.strerror or error}.") from error
        except MemoryError as error:
            raise OutOfMemoryError(f"{path.name} cannot be read: {error}.") from error
        for where, hashed in ((sidecar_path(path).name, expected), ("its entry", entry.sha256)):
            if hashed != actual:
                raise EngineHashMismatchError(
                    f"{path.name} hashes to {actual[:16]}…, and {where} says {hashed[:16]}…{_what_it_is(data)}.",
                    remedy="Copy the engine and its sidecars again, or build it here with `trigate compile`.",
                )
        return data

    def _check_manifest(self, file_name: str, name: EngineName, entry: EngineCacheEntry, manifest: Manifest) -> None:
        host = self._host
        problems = [
            f"its manifest says {key} {said}, its {of} {key} {given}"
            for key, said, of, given in (
                ("sha256", manifest.sha256, "content", entry.sha256),
                ("sm", manifest.sm, "name", name.sm),
                ("jetpack", manifest.jetpack, "name", name.jetpack),
                ("precision", manifest.precision, "name", name.precision),
            )
            if said != given
        ]
        if not same_version(manifest.trt, name.trt):
            problems.append(f"its manifest says trt {manifest.trt}, its name trt {name.trt}")
        if not same_version(manifest.trt, host.trt):
            problems.append(f"built with trt {manifest.trt}; this host has trt {host.trt}")
        if manifest.module != host.module and not self._allow_other_module:
            problems.append(f"built on module {manifest.module}; this host is module {host.module}")
        _refuse_if(file_name, problems)

    def _read_header(self, file_name: str, name: EngineName, manifest: Manifest, data: memoryview) -> PlanHeader:
        try:
            header = read_plan_header(data)
        except EngineSchemaMismatchError as error:
            raise EngineSchemaMismatchError(f"{file_name} is {error.message}", remedy=error.remedy) from error
        problems = []
        if (header.kind == "tensorrt_rtx") != name.is_rtx:
            kinds = ("TensorRT", "TensorRT-RTX")
            problems.append(f"a plan of {kinds[not name.is_rtx]} under a name of {kinds[name.is_rtx]}")
        else:
            problems += [
                f"its header says trt {header.trt}, {what} trt {said}"
                for what, said in (
                    ("its name", name.trt),
                    ("its manifest", manifest.trt),
                    ("this host has", self._host.trt),
                )
                if not same_version(header.trt, said)
            ]
        _refuse_if(file_name, problems)
        return header


def _refuse_if(file_name: str, problems: list[str]) -> None:
    if problems:
        raise EngineSchemaMismatchError(f"{file_name}: {'; '.join(problems)}.", remedy=_REBUILD)


def _what_it_is(data: memoryview) -> str:
    """The plain cause of a wrong hash, where the bytes themselves tell it."""
    try:
        read_plan_header(data)
    except EngineSchemaMismatchError as error:
        return f"; what is there is {error.message.rstrip('.')}"
    return ""
