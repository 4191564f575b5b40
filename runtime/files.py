"""Reading and writing files so that what is read is whole, and what is written survives a crash."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path

__all__ = [
    "DISK",
    "FileSystem",
    "folder_made",
    "open_regular",
    "read_hashed",
    "read_small",
    "sha256_hex",
    "write_atomic",
    "write_together",
]

Data = bytes | bytearray | memoryview

_CHUNK = 4 << 20
_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


class FileSystem:
    """The calls that can fail, one method each; a test hands in one that fails or dies at a chosen call."""

    def open(self, path: Path, *, follow: bool) -> FileIO:
        # without O_NONBLOCK the open itself hangs on a FIFO that nobody writes to
        return FileIO(os.open(path, os.O_RDONLY | _NO_WAIT | (0 if follow else _NO_FOLLOW)))

    def status(self, file: FileIO) -> os.stat_result:
        return os.fstat(file.fileno())

    def map(self, file: FileIO, size: int) -> mmap.mmap:
        return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)

    def look(self, path: Path) -> os.stat_result:
        return path.lstat()

    def entries(self, folder: Path) -> list[tuple[str, os.stat_result]]:
        """Each name in a folder, with what it is."""
        with os.scandir(folder) as found:
            return [(entry.name, entry.stat(follow_symlinks=False)) for entry in found]

    def make_folder(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_WAIT | _NO_FOLLOW, 0o666)

    def write(self, descriptor: int, data: memoryview) -> int:
        return os.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def fsync_folder(self, folder: Path) -> None:
        if os.name == "nt":
            return  # Windows opens no folders; its renames are journalled
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


DISK = FileSystem()


def sha256_hex(data: Data) -> str:
    """Lower-case hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def open_regular(path: Path, *, follow: bool = False, fs: FileSystem = DISK) -> FileIO:
    """Open a regular file for reading, and nothing else: no folder, FIFO or device, no link unless ``follow``.

    Raises ``OSError`` whose ``strerror`` says in words what stands there instead.
    """
    try:
        file = fs.open(path, follow=follow)
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise OSError(errno.ELOOP, "it is a symbolic link, which is not followed", str(path)) from error
        if error.errno == errno.ENXIO:
            raise OSError(errno.EINVAL, "it is not a regular file", str(path)) from error
        raise
    try:
        if not stat.S_ISREG(fs.status(file).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    except BaseException:
        file.close()
        raise
    return file


def read_small(path: Path, *, limit: int, follow: bool = False, fs: FileSystem = DISK) -> bytes:
    """The bytes of a regular file of at most ``limit`` bytes. Raises ``OSError``, for a larger one before reading it."""
    with open_regular(path, follow=follow, fs=fs) as file:
        size = fs.status(file).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"it has {size} bytes, at most {limit} were expected", str(path))
        data = b""
        while len(data) < size:
            part = file.read(size - len(data))
            _arrived(len(part or b""), len(data), size)
            data += part
        return data


def read_hashed(file: FileIO, *, fs: FileSystem = DISK) -> tuple[memoryview, str]:
    """All bytes of an open file, read once, and the SHA-256 of exactly these bytes.

    The next slice is read while the last is hashed, into huge pages where the system has them: on a first touch
    of 4 KiB pages the faults alone would halve the speed. Raises ``OSError`` and ``MemoryError``.
    """
    size = fs.status(file).st_size
    view = _room(size)
    digest = hashlib.sha256()
    done = 0
    if size <= _CHUNK:
        while done < size:
            done += _arrived(file.readinto(view[done:]), done, size)
        digest.update(view)
        return view.toreadonly(), digest.hexdigest()
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as ahead:
        coming = ahead.submit(file.readinto, view[:_CHUNK])
        while done < size:
            start, done = done, done + _arrived(coming.result(), done, size)
            if done < size:
                coming = ahead.submit(file.readinto, view[done : done + _CHUNK])
            digest.update(view[start:done])
    return view.toreadonly(), digest.hexdigest()


def _room(size: int) -> memoryview:
    if size <= _CHUNK or not hasattr(mmap, "MADV_HUGEPAGE"):
        return memoryview(bytearray(size))
    try:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no room for a file of {size} bytes") from error
    with suppress(OSError):  # a kernel without transparent huge pages
        pages.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(pages)


def _arrived(count: int | None, done: int, size: int) -> int:
    if not count:
        raise OSError(errno.EIO, f"it ended after {done} of {size} bytes while it was read")
    return count


@contextmanager
def folder_made(folder: Path, *, fs: FileSystem = DISK) -> Iterator[None]:
    """The folder is there in the body; if the body fails, the folders that were not there before are gone again.

    Raises ``OSError``. What the body left in them must be gone by then.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        fs.make_folder(folder)
        yield
    except BaseException:
        for path in missing:
            with suppress(OSError):
                path.rmdir()
        raise


def write_atomic(path: Path, data: Data, *, fs: FileSystem = DISK) -> None:
    """Put ``data`` at ``path`` so that a crash at any instant leaves the old file or the new one, whole.

    Raises ``OSError``. If the last step alone fails (the folder's fsync), the new file stands, and may not survive
    a power cut; before that, the old one stands and nothing else is left.
    """
    temporary = _stage(path, data, fs)
    try:
        fs.rename(temporary, path)
    except BaseException:
        _discard(temporary, fs)
        raise
    fs.fsync_folder(path.parent)


def write_together(files: Sequence[tuple[Path, Data]], *, fs: FileSystem = DISK) -> None:
    """Put several files into one folder. If a step fails, every file is put back and ``OSError`` is raised.

    All are on disk under temporary names before the first is renamed, so that a full disk is found while nothing
    has changed. A crash between two renames leaves a mixture of old and new: a reader must be able to tell.
    """
    replaced = []
    with ExitStack() as undo:
        staged = []
        for path, data in files:
            temporary = _stage(path, data, fs)
            undo.callback(_discard, temporary, fs)
            staged.append((temporary, path))
        for temporary, path in staged:
            old = temporary.with_suffix(".old")
            undo.callback(_put_back, old, path, fs)
            try:
                fs.rename(path, old)
                replaced.append(old)
            except FileNotFoundError:
                undo.callback(_discard, path, fs)
            fs.rename(temporary, path)
        fs.fsync_folder(files[0][0].parent)
        undo.pop_all()
    for old in replaced:
        _discard(old, fs)


def _stage(path: Path, data: Data, fs: FileSystem) -> Path:
    """Write and sync ``data`` beside ``path`` under a temporary name; leave nothing behind on failure."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    _write_new(temporary, data, fs)
    return temporary


def _write_new(path: Path, data: Data, fs: FileSystem) -> None:
    descriptor = fs.create(path)
    try:
        try:
            view = memoryview(data).cast("B")
            while view:
                view = view[fs.write(descriptor, view[:_CHUNK]) :]
            # never retried: after a failed fsync the kernel may have dropped the pages and report success
            fs.fsync(descriptor)
        finally:
            fs.close(descriptor)
    except BaseException:
        _discard(path, fs)
        raise


def _put_back(old: Path, path: Path, fs: FileSystem) -> None:
    with suppress(OSError):
        try:
            fs.rename(old, path)
        except FileNotFoundError:
            return  # there was none
        except OSError:  # where nothing can be renamed any more, a copy may still be written
            with open_regular(old, fs=fs) as file:
                data, _ = read_hashed(file, fs=fs)
            _discard(path, fs)
            _write_new(path, data, fs)
            _discard(old, fs)


def _discard(path: Path, fs: FileSystem) -> None:
    with suppress(OSError):
        fs.unlink(path)
