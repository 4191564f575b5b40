"""The disk, with every call written down, and failing by plan (T0-05)."""

from __future__ import annotations

import errno
import mmap
import os
import re
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

from runtime.files import FileSystem

__all__ = ["SHORT", "FaultyFiles"]

SHORT = "SHORT"
"""No error: less is read or written than was asked for, as the calls may."""

_KIND = re.compile(r"(?:\.(?:engine|layers|cache|dataset_sha256|sha256|json))+$")
_TEMPORARY = re.compile(r"\.[0-9a-f]{12}\.(?:tmp|old)$")


class FaultyFiles(FileSystem):
    """Does what the real one does, unless ``enter`` answers with the name of an ``errno``, or ``SHORT``.

    ``enter`` is asked before each call, with ``files.write .engine.json`` and the like: the operation, and the suffixes of
    the file that it serves (of a temporary one: of what it becomes). ``opened``: descriptors that have not been closed.
    """

    def __init__(self, enter: Callable[[str], str | None]) -> None:
        self.opened: dict[int, str] = {}
        self._enter = enter

    def open(self, path: Path, *, follow: bool) -> FileIO:
        self._check("open", path)
        with super().open(path, follow=follow) as real:
            file = _File(os.dup(real.fileno()), self, path)
        self.opened[file.fileno()] = path.name
        return file

    def status(self, file: FileIO) -> os.stat_result:
        self._check("status", _path_of(file))
        return super().status(file)

    def map(self, file: FileIO, size: int) -> mmap.mmap:
        self._check("map", _path_of(file))
        return super().map(file, size)

    def look(self, path: Path) -> os.stat_result:
        self._check("look", path)
        return super().look(path)

    def entries(self, folder: Path) -> list[tuple[str, os.stat_result]]:
        self._check("entries")
        return super().entries(folder)

    def make_folder(self, folder: Path) -> None:
        self._check("make_folder")
        super().make_folder(folder)

    def create(self, path: Path) -> int:
        self._check("create", path)
        descriptor = super().create(path)
        self.opened[descriptor] = str(path)
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        is_short = self._check("write", Path(self.opened[descriptor]))
        return super().write(descriptor, data[: max(1, len(data) // 3)] if is_short else data)

    def fsync(self, descriptor: int) -> None:
        self._check("fsync", Path(self.opened[descriptor]))  # and no more: nobody cuts the power here

    def close(self, descriptor: int) -> None:
        path = Path(self.opened.pop(descriptor))
        super().close(descriptor)  # a close that reports an error has closed all the same
        self._check("close", path)

    def rename(self, source: Path, target: Path) -> None:
        self._check("rename", target)
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._check("unlink", path)
        super().unlink(path)

    def fsync_folder(self, folder: Path) -> None:
        del folder
        self._check("fsync_folder")

    def _check(self, operation: str, path: Path = Path()) -> bool:
        """Raise the planned error; True where the call is to do less than it was asked for."""
        name = _TEMPORARY.sub("", path.name)
        kind = _KIND.search(name)
        error = self._enter(f"files.{operation} {kind[0] if kind else Path(name).suffix}".rstrip())
        if error is None or error == SHORT:
            return error == SHORT
        code = getattr(errno, error)
        raise OSError(code, os.strerror(code), str(path))


class _File(FileIO):
    """Reads by the plan of its disk."""

    def __init__(self, descriptor: int, disk: FaultyFiles, path: Path) -> None:
        super().__init__(descriptor)
        self.path = path
        self._disk = disk

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        is_short = self._disk._check("read", self.path)
        return super().readinto(view[: max(1, len(view) // 3)] if is_short else view) or 0

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return self.readall()
        room = bytearray(size)
        return bytes(room[: self.readinto(room)])

    def readall(self) -> bytes:
        found = b""
        while part := self.read(1 << 16):
            found += part
        return found

    def close(self) -> None:
        if not self.closed:
            self._disk.opened.pop(self.fileno(), None)
        super().close()


def _path_of(file: FileIO) -> Path:
    assert isinstance(file, _File)
    return file.path
