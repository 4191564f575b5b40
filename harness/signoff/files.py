"""The files of a bundle: walked, hashed as a stream, copied, packed into one archive and out again; nothing is believed.

A name is refused that another system would read otherwise: a link, a path that leads out, two names that differ by case.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import struct
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from harness.errors import UsageError
from runtime.files import open_regular

__all__ = [
    "Tree",
    "copy_hashed",
    "explained",
    "hash_file",
    "identity",
    "is_safe_name",
    "unpack",
    "walk",
    "write_archive",
]

_CHUNK = 4 << 20
_HASHED_AT_ONCE = 256 << 10  # stays in the processor's cache; a buffer of megabytes costs a fault a page, for each file
_LOCAL = struct.Struct("<4s2xH6xIIIHH")
"""Of a local header: signature, flags, CRC-32, sizes, lengths of the name and of the extra field (APPNOTE 4.3.7)."""
_END, _END_64 = 22, 76
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MOST_FILES = 200_000
_KEY_BYTES = 16 << 10
_KEY = b"PRIVATE KEY-----"


@dataclass(frozen=True)
class Tree:
    """``files``: names relative to the folder, with slashes. ``odd``: what has no place in a bundle, and what it is; of two
    names that some systems take for one, the second, although both are files.
    """

    files: tuple[str, ...]
    odd: Mapping[str, str] = field(default_factory=dict)


def walk(folder: Path) -> Tree:
    """Everything under a folder; no link is followed. Raises ``UsageError`` for a folder that cannot be read."""
    files: list[str] = []
    odd: dict[str, str] = {}
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        for name, mode in _entries(folder, inside):
            if stat.S_ISDIR(mode):
                waiting.append(name)
            elif not stat.S_ISREG(mode):
                odd[name] = "is a symbolic link" if stat.S_ISLNK(mode) else "is no regular file"
            elif not is_safe_name(name):
                odd[name] = "has a name that other systems read otherwise"
            else:
                files.append(name)
            if len(files) > _MOST_FILES:
                raise UsageError(f"{folder} has more than {_MOST_FILES} files; a bundle has a few for each row.")
    for name, other in _alike(files):
        odd[name] = f"has the name of {other}, but for upper and lower case or accents"
    return Tree(tuple(sorted(files)), odd)


def _entries(folder: Path, inside: str) -> list[tuple[str, int]]:
    try:
        with os.scandir(folder / inside) as found:
            return [
                (f"{inside}/{one.name}" if inside else one.name, one.stat(follow_symlinks=False).st_mode)
                for one in found
            ]
    except OSError as error:
        raise UsageError(f"{folder / inside} cannot be read: {error.strerror or error}.") from error


def _alike(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of names that are one name on a system that ignores case or composes accents otherwise."""
    seen: dict[str, str] = {}
    for name in sorted(names):
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in seen:
            yield name, seen[folded]
        seen.setdefault(folded, name)


def is_safe_name(name: str) -> bool:
    """Whether it names a file inside, read alike everywhere, and can be written down."""
    path = PurePosixPath(name)
    plain = bool(name) and not path.is_absolute() and str(path) == name and "\\" not in name and name.isprintable()
    return plain and not any(part in ("..", ".") for part in path.parts) and ":" not in path.parts[0]


def hash_file(path: Path) -> str:
    """SHA-256 of a regular file, as a stream. Raises ``OSError``."""
    digest, room = hashlib.sha256(), memoryview(bytearray(_HASHED_AT_ONCE))
    with open_regular(path) as file:
        while count := file.readinto(room):
            digest.update(room[:count])
    return digest.hexdigest()


def identity(status: os.stat_result) -> tuple[int, ...]:
    """Changes whenever a file is written to, replaced or renamed: nobody can set a change time back."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def copy_hashed(source: Path, target: Path) -> str:
    """Copy a regular file, and give the SHA-256 of what was copied. Raises ``OSError`` where the copy cannot be written, and
    ``UsageError`` for a source that cannot be read, or is a private key.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    try:
        opened = open_regular(source)
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror or error}.") from error
    with opened as file, target.open("xb") as copy:
        is_small = os.fstat(file.fileno()).st_size <= _KEY_BYTES
        while part := file.read(_CHUNK):
            if is_small and _KEY in part:
                raise UsageError(f"{source} holds a private key, and a bundle is handed on. Move the key elsewhere.")
            digest.update(part)
            copy.write(part)
    return digest.hexdigest()


def write_archive(folder: Path, out: Path) -> None:
    """Every file of a folder into one ``.zip``, stored as it is; the same files make the same bytes. Raises ``OSError``."""
    with zipfile.ZipFile(out, "x", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name in walk(folder).files:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            size = (folder / name).stat().st_size
            with open_regular(folder / name) as file, archive.open(entry, "w", force_zip64=size >= 1 << 31) as into:
                shutil.copyfileobj(file, into, _CHUNK)


def unpack(archive: Path, folder: Path) -> list[str]:
    """Unpack a bundle of one file; gives what in it has no place in a bundle, in words. Raises ``UsageError``."""
    strange = []
    if not zipfile.is_zipfile(archive):
        raise UsageError(
            f"{archive} is no .zip file: no bundle, or a damaged one. Name what `trigate sign --out` wrote."
        )
    try:
        with zipfile.ZipFile(archive) as packed:
            entries = packed.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise UsageError(
                    f"{archive} is compressed: another program packed it. Unpack it, if you trust it, and verify the folder."
                )
            if sum(entry.file_size for entry in entries) > archive.stat().st_size or len(entries) > _MOST_FILES:
                raise UsageError(f"{archive} says that it holds more than it has bytes; it is no bundle.")
            if not _is_packed_tight(packed, archive):
                strange.append("something lies before, between or behind the files of the archive")
            seen: set[str] = set()
            for entry in entries:
                words = _refused(entry, seen)
                seen.add(unicodedata.normalize("NFC", entry.filename).casefold())
                if words:
                    strange.append(f"{entry.filename!r} {words}")
                    continue
                target = folder / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(entry) as file, target.open("xb") as copy:
                    shutil.copyfileobj(file, copy, _CHUNK)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise UsageError(f"{archive} is damaged: {error}.") from error
    except OSError as error:
        raise UsageError(f"{archive} cannot be unpacked: {error.strerror or error}.") from error
    return strange


def _is_packed_tight(packed: zipfile.ZipFile, archive: Path) -> bool:
    """Whether an archive holds its files, its directory and nothing else: another reader would find no other files in it."""
    entries = packed.infolist()
    at = 0
    with open_regular(archive, follow=True) as file:
        for entry in entries:
            file.seek(at)
            head = file.read(_LOCAL.size) or b""
            if len(head) < _LOCAL.size or entry.header_offset != at or entry.comment:
                return False
            signature, flags, crc, *sizes, name, extra = _LOCAL.unpack(head)
            is_plain = signature == b"PK\3\4" and not flags & 0x8 and crc == entry.CRC
            if not is_plain or not {*sizes} <= {entry.file_size, 0xFFFFFFFF}:
                return False
            at += _LOCAL.size + name + extra + entry.compress_size
        directory = sum(46 + len(entry.orig_filename.encode()) + len(entry.extra) for entry in entries)
        rest = archive.stat().st_size - at - directory
    return not packed.comment and rest in (_END, _END + _END_64)


def _refused(entry: zipfile.ZipInfo, seen: set[str]) -> str:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if not is_safe_name(entry.filename) or entry.orig_filename != entry.filename:  # which ends at a NUL
        return "has a name that leads out of the bundle, or that other systems read otherwise"
    if unicodedata.normalize("NFC", entry.filename).casefold() in seen:
        return "is there twice, but for upper and lower case or accents"
    if kind not in (0, stat.S_IFREG):
        return "is no regular file"
    if entry.flag_bits & 0x1:
        return "is encrypted, and no bundle's file is"
    return ""


def explained(error: OSError, path: Path) -> UsageError:
    """In a sentence, for people."""
    words = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
    return UsageError(f"{path} cannot be written: {words}. Nothing of it is left.")
