"""The life of files: engines, manifests and sidecars are stored, checked and replaced while each file operation fails."""

from __future__ import annotations

import errno
import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from io import StringIO
from pathlib import Path

from harness.fakes.faults import FaultPlan
from harness.fakes.files import SHORT, FaultyFiles
from harness.faults.matrix import Expected, Life, Pair
from runtime.calibration import cache_sidecar, dataset_sidecar, read_cache, write_cache
from runtime.data import EngineCacheEntry
from runtime.errors import CalibrationCacheError, EngineBuildError, EngineDeserializeError, EngineSidecarMissingError
from runtime.files import sha256_hex
from runtime.gate import EngineGate
from runtime.logs import EventLog, Kind, Record
from runtime.names import EngineName
from runtime.platform import HostTuple
from runtime.sidecar import Manifest, publish_engine, write_manifest, write_sidecar
from runtime.strategies.trt_timing import read_timing_cache, write_timing_cache

__all__ = [
    "FILE_ERRORS",
    "contents",
    "expect_of_files",
    "file_errors",
    "file_lives",
    "file_words",
    "quiet_log",
    "scratch_folder",
]

FILE_ERRORS: Mapping[str, tuple[str, ...]] = {
    "open": ("EACCES", "EIO", "ELOOP", "EMFILE", "ENFILE", "ENOENT", "ENOMEM", "EPERM", "ESTALE"),
    "status": ("EIO", "ENOMEM", "EOVERFLOW"),
    "read": ("EIO", SHORT),
    "map": ("EACCES", "EAGAIN", "ENFILE", "ENODEV", "ENOMEM"),
    "look": ("EACCES", "EIO", "ELOOP", "ENOENT", "ENOMEM"),
    "entries": ("EACCES", "EMFILE", "ENFILE", "ENOENT", "ENOMEM"),
    "make_folder": ("EACCES", "EDQUOT", "EIO", "EMLINK", "ENOSPC", "EROFS"),
    "create": ("EACCES", "EDQUOT", "EEXIST", "EIO", "EMFILE", "ENFILE", "ENOSPC", "EPERM", "EROFS"),
    "write": ("EDQUOT", "EFBIG", "EIO", "ENOSPC", "EPERM", SHORT),
    "fsync": ("EDQUOT", "EIO", "ENOSPC", "EROFS"),
    "close": ("EDQUOT", "EIO", "ENOSPC"),
    "rename": ("EACCES", "EBUSY", "EDQUOT", "EIO", "ENOSPC", "EPERM", "EROFS"),
    "unlink": ("EACCES", "EBUSY", "EIO", "EPERM", "EROFS"),
    "fsync_folder": ("EACCES", "EIO", "EMFILE", "ENOSPC"),
}
"""By the manual pages of open, fstat, read, mmap, lstat, opendir, mkdir, write, fsync, close, rename and unlink of Linux.

EINTR is left out: Python tries again by itself (PEP 475). So is what cannot come of these calls as they are made here.
"""


class _Nowhere(StringIO):
    def write(self, text: str) -> int:
        return len(text)


_NOWHERE = _Nowhere()
HOST = HostTuple("87", "6.2", "10.3.0", "36.4.3", "p3767-0000")


def file_errors(api: str) -> Sequence[str]:
    """What ``files.write .json`` documents."""
    return FILE_ERRORS[api.removeprefix("files.").partition(" ")[0]]


def file_words(pair: Pair) -> tuple[str, ...]:
    """What an error must say: the system's own words for it."""
    return (os.strerror(getattr(errno, pair.error)),)


def contents(folder: Path) -> dict[str, str]:
    """Every file below with the hash of its bytes, and every folder."""
    return {
        str(path.relative_to(folder)): "folder" if path.is_dir() else sha256_hex(path.read_bytes())
        for path in sorted(folder.rglob("*"))
    }


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder in memory where the system has such: thousands of lives make and remove their files."""
    memory = Path("/dev/shm")  # noqa: S108  # no file of a known name is put there
    room = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    return tempfile.TemporaryDirectory(prefix="trigate-faults-", dir=room)


def quiet_log(records: list[Record]) -> EventLog:
    """A log that writes nowhere, and keeps what is WARN or ERROR."""
    return EventLog(stream=_NOWHERE, on_record=records.append)


class _FilesWorld:
    """A world without a device: ``folder`` and a faulty way to it."""

    silent: frozenset[str] = frozenset()
    after_loss: Mapping[str, Callable[[], object]] = {}
    steps: Mapping[str, Callable[[], object]] = {}
    names: frozenset[str] = frozenset()

    def __init__(self, folder: Path) -> None:
        self.plan = FaultPlan()
        self.logged: list[Record] = []
        self.folder = folder
        self.fs = FaultyFiles(self._enter)
        self._calls: list[str] = []

    def _enter(self, api: str) -> str | None:
        self._calls.append(api)
        fault = self.plan.next(api)
        return fault.error if fault else None

    def calls(self) -> Sequence[str]:
        return self._calls

    def touches(self) -> Sequence[str]:
        return ()

    def state(self) -> Mapping[str, object]:
        return {"the folder": contents(self.folder)}

    def complaints(self) -> Sequence[str]:
        return [f"{name} is still open" for name in self.fs.opened.values()]

    def is_possible(self, step: str) -> bool:
        return bool(step)

    def end(self) -> Sequence[str]:
        return ()

    def left(self) -> Sequence[str]:
        return [path.name for path in self.folder.rglob("*") if path.is_file() and path.name not in self.names]


class _StoreWorld(_FilesWorld):
    """A store of engines in a folder that is not there yet."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._gate = EngineGate(HOST, log=quiet_log(self.logged), fs=self.fs)
        first, second = (_engine(folder / "store" / "engines", bytes([at]) * 100) for at in (1, 2))
        name = first[0].engine_path.name
        self.names = frozenset({name, f"{name}.json", f"{name}.sha256"})
        self.steps = {
            "store": partial(self._store, *first),
            "check": partial(self._check, first[0]),
            "store another": partial(self._store, *second),
            "check the other": partial(self._check, second[0]),
            "write its manifest": lambda: write_manifest(second[0].engine_path, second[2], fs=self.fs),
            "write its sidecar": lambda: write_sidecar(second[0].engine_path, second[0].sha256, fs=self.fs),
        }

    def _store(self, entry: EngineCacheEntry, data: bytes, manifest: Manifest) -> None:
        publish_engine(entry.engine_path, data, manifest, fs=self.fs)

    def _check(self, entry: EngineCacheEntry) -> str:
        return sha256_hex(self._gate.validate(entry).data)


class _CachesWorld(_FilesWorld):
    """What is kept beside engines for the next build: calibration ranges, which must be trusted, and timings."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        ranges, timings = folder / "m_int8.cache", folder / "timing__sm87.cache"
        beside = (cache_sidecar(ranges), dataset_sidecar(ranges), timings.with_name(f"{timings.name}.sha256"))
        self.names = frozenset(path.name for path in (ranges, timings, *beside))
        data, dataset = b"TRT-100300-EntropyCalibration2\nx: 3c010a14\n", sha256_hex(b"inputs")
        log = quiet_log(self.logged)
        self.steps = {
            "keep ranges": lambda: write_cache(ranges, data, dataset, fs=self.fs),
            "trust ranges": lambda: read_cache(ranges, dataset, log=log, fs=self.fs),
            "keep ranges again": lambda: write_cache(ranges, data, dataset, fs=self.fs),
            "keep timings": lambda: write_timing_cache(timings, b"timings", fs=self.fs),
            "use timings": lambda: bool(read_timing_cache(timings, fs=self.fs)[0]),
        }


class _LargeWorld(_FilesWorld):
    """An engine that is larger than what is read at once."""

    def __init__(self, entry: EngineCacheEntry) -> None:
        super().__init__(entry.engine_path.parent)
        name = entry.engine_path.name
        self.names = frozenset({name, f"{name}.json", f"{name}.sha256"})
        gate = EngineGate(HOST, log=quiet_log(self.logged), fs=self.fs)
        self.steps = {"check": lambda: sha256_hex(gate.validate(entry).data)}

    def state(self) -> Mapping[str, object]:
        return {"the folder": sorted(path.name for path in self.folder.iterdir())}


@contextmanager
def file_lives() -> Iterator[tuple[Life, ...]]:
    """Engines are stored, checked and replaced; a large one is checked; caches are kept and trusted."""
    with scratch_folder() as name:
        entry, data, manifest = _engine(Path(name), bytes(9 << 20))
        publish_engine(entry.engine_path, data, manifest)

        @contextmanager
        def store() -> Iterator[_StoreWorld]:
            with scratch_folder() as folder:
                yield _StoreWorld(Path(folder))

        @contextmanager
        def caches() -> Iterator[_CachesWorld]:
            with scratch_folder() as folder:
                yield _CachesWorld(Path(folder))

        yield (
            Life("files", store, file_errors, expect_of_files),
            Life("files, caches", caches, file_errors, expect_of_files),
            Life("files, a large engine", lambda: nullcontext(_LargeWorld(entry)), file_errors, expect_of_files),
        )


def expect_of_files(pair: Pair) -> Expected:
    """What a fault of the disk must lead to, by the step that it strikes."""
    operation, _, kind = pair.site.api.removeprefix("files.").partition(" ")
    step = pair.site.phase
    if pair.error == SHORT:
        return Expected()
    if operation == "unlink":  # of what is no longer needed: nobody waits for it
        return Expected(may_stay=True)
    words = file_words(pair)
    if pair.error == "ENOENT" and operation == "open" and kind == ".onnx":
        words = ("is not in",)
    is_last = operation == "fsync_folder" and pair.site.number > 1
    if step == "compile" and (kind.startswith(".cache") or is_last):  # of kernels' times: they are measured again
        return Expected(log=Kind.BUILD_REMARK, words=("timing cache",), differs=("compile",))
    if step == "use":  # a build without them takes longer, and says why it does
        return Expected(differs=(pair.site.step,))
    if step == "trust":
        if (kind, pair.error) == (".cache", "ENOENT"):
            return Expected(differs=(pair.site.step, "use timings"))  # there is none, so one is made
        return Expected(CalibrationCacheError, (kind,))
    if step in ("write", "keep"):
        return Expected(os_error_of(pair.error), words, is_done=(step, operation) == ("write", "fsync_folder"))
    if step in ("store", "compile"):
        return Expected(EngineBuildError, words)
    if pair.error == "ENOENT" and kind.startswith(".engine"):
        error = EngineDeserializeError if kind == ".engine" else EngineSidecarMissingError
        return Expected(error, (kind, "is not in|is missing in"))
    return Expected(EngineDeserializeError, words)


def os_error_of(name: str) -> type[BaseException]:
    """The class that Python chooses for an ``errno``."""
    return type(OSError(getattr(errno, name), ""))


def _engine(folder: Path, body: bytes) -> tuple[EngineCacheEntry, bytes, Manifest]:
    name = EngineName("stored", HOST.sm, HOST.jetpack, "10.3", "fp16")
    length = 28 + len(body)
    data = b"ftrt" + struct.pack("<IQQ", 0, 0, length) + bytes([10, 3, 0, 30]) + body
    sha256 = sha256_hex(data)
    manifest = Manifest(
        sha256=sha256,
        model_sha256=sha256_hex(body),
        sm=name.sm,
        jetpack=name.jetpack,
        trt=HOST.trt,
        precision=name.precision,
        route="flags",
        builder="the fault matrix",
        module=HOST.module,
        l4t=HOST.l4t,
    )
    path = folder / name.format()
    return EngineCacheEntry(path, sha256, name.sm, name.jetpack, name.trt, name.precision), data, manifest
