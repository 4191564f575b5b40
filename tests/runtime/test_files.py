"""Atomic writes under faults at every step, and one honest read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from runtime.files import FileSystem, open_regular, read_hashed, read_small, sha256_hex, write_atomic, write_together


class Crash(BaseException):
    """The process is gone: nothing after it happens, no clean-up either."""


class FaultyDisk(FileSystem):
    """Does what the real one does until step ``at``, which fails: once, or, for a crash, from then on."""

    def __init__(
        self, at: int | None = None, fault: Callable[[], BaseException] = Crash, *, done: bool = False
    ) -> None:
        self.at = at
        self.fault = fault
        self.done = done  # whether the failing step still takes effect
        self.steps: list[str] = []

    def _step(self, name: str, act: Callable[[], object]) -> object:
        self.steps.append(name)
        number = len(self.steps) - 1
        crashed = self.at is not None and self.fault is Crash and number > self.at
        if number == self.at or crashed:
            if self.done and not crashed:
                act()
            raise self.fault()
        return act()

    def create(self, path: Any) -> Any:
        return self._step(f"create {path.suffix}", lambda: super(FaultyDisk, self).create(path))

    def write(self, descriptor: Any, data: Any) -> Any:
        half = data[: (len(data) + 1) // 2]  # short writes always, so that the loop is exercised and writes tear
        return self._step("write", lambda: super(FaultyDisk, self).write(descriptor, half))

    def fsync(self, descriptor: Any) -> None:
        self._step(f"fsync {descriptor}", lambda: super(FaultyDisk, self).fsync(descriptor))

    def close(self, descriptor: Any) -> None:
        os.close(descriptor)  # really, whatever follows: the test process lives on
        self._step("close", lambda: None)

    def rename(self, source: Any, target: Any) -> None:
        self._step(f"rename {source.name} {target.name}", lambda: super(FaultyDisk, self).rename(source, target))

    def unlink(self, path: Any) -> None:
        self._step(f"unlink {path.name}", lambda: super(FaultyDisk, self).unlink(path))

    def fsync_folder(self, folder: Any) -> None:
        self._step("fsync folder", lambda: super(FaultyDisk, self).fsync_folder(folder))


def error(code: int) -> Callable[[], BaseException]:
    return lambda: OSError(code, os.strerror(code))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def steps_of(act: Callable[[FileSystem], object]) -> int:
    disk = FaultyDisk()
    act(disk)
    return len(disk.steps)


@pytest.mark.covers("TR-02")
@pytest.mark.parametrize("done", [False, True])
def test_a_crash_at_any_step_of_an_atomic_write_leaves_the_old_file_or_the_new_one(tmp_path: Path, done: Any) -> None:
    target = tmp_path / "state.json"
    target.write_bytes(b"old")
    count = steps_of(lambda disk: write_atomic(target, b"newer", fs=disk))
    assert count >= 6
    seen = set()
    for step in range(count):
        target.write_bytes(b"old")
        with pytest.raises(Crash):
            write_atomic(target, b"newer", fs=FaultyDisk(step, done=done))
        seen.add(target.read_bytes())
    assert seen == {b"old", b"newer"}


@pytest.mark.covers("TR-02", "RT-09")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_step_before_the_last_leaves_the_old_file_and_nothing_else(tmp_path: Path, code: Any) -> None:
    target = tmp_path / "state.json"
    for step in range(steps_of(lambda disk: write_atomic(target, b"newer", fs=disk))):
        target.write_bytes(b"old")
        disk = FaultyDisk(step, error(code))
        with pytest.raises(OSError, match=os.strerror(code)):
            write_atomic(target, b"newer", fs=disk)
        expected = b"newer" if disk.steps[step] == "fsync folder" else b"old"
        assert contents(tmp_path) == {"state.json": expected}, disk.steps


@pytest.mark.covers("TR-02")
def test_a_failed_fsync_is_never_tried_again_on_that_descriptor(tmp_path: Path) -> None:
    disk = FaultyDisk(fault=error(errno.EIO))
    write_atomic(tmp_path / "a", b"x", fs=disk)
    step = next(i for i, name in enumerate(disk.steps) if name.startswith("fsync "))
    disk = FaultyDisk(step, error(errno.EIO))
    with pytest.raises(OSError, match="error"):
        write_atomic(tmp_path / "b", b"x", fs=disk)
    assert sum(name.startswith("fsync ") for name in disk.steps) == 1
    assert not (tmp_path / "b").exists()


@pytest.mark.covers("TR-02")
def test_bytes_are_synced_before_the_rename_and_the_folder_after_it(tmp_path: Path) -> None:
    disk = FaultyDisk()
    write_atomic(tmp_path / "a", b"x" * 100, fs=disk)
    kinds = [step.split(" ")[0] for step in disk.steps if step.split(" ")[0] != "write"]
    assert kinds == ["create", "fsync", "close", "rename", "fsync"]
    assert disk.steps[-1] == "fsync folder"


@pytest.mark.covers("TR-02", "RT-09")
@pytest.mark.parametrize("there", [(), ("a", "b", "c"), ("b",)])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_group_that_fails_at_any_step_puts_every_file_back(tmp_path: Path, there: Any, code: Any) -> None:
    files = [(tmp_path / name, f"new {name}".encode()) for name in "abc"]
    old = {name: f"old {name}".encode() for name in there}
    count = steps_of(lambda disk: write_together(files, fs=disk))
    for step in range(count + len(there)):
        for path in tmp_path.iterdir():
            path.unlink()
        for name, data in old.items():
            (tmp_path / name).write_bytes(data)
        disk = FaultyDisk(step, error(code))
        try:
            write_together(files, fs=disk)
        except OSError:
            assert contents(tmp_path) == old, disk.steps
        else:  # only dropping an old copy failed, or there were fewer steps
            assert contents(tmp_path).items() >= {name: f"new {name}".encode() for name in "abc"}.items()
            assert step >= len(disk.steps) or disk.steps[step].startswith("unlink")


@pytest.mark.covers("TR-02")
def test_a_group_is_wholly_on_disk_before_the_first_rename(tmp_path: Path) -> None:
    disk = FaultyDisk()
    write_together([(tmp_path / name, b"12345") for name in "abc"], fs=disk)
    kinds = [step.split(" ")[0] for step in disk.steps]
    first = kinds.index("rename")
    assert kinds[:first].count("fsync") == 3
    assert "write" not in kinds[first:]
    assert disk.steps[-1] == "fsync folder"
    write_together([(tmp_path / name, b"again") for name in "abc"])
    assert contents(tmp_path) == dict.fromkeys("abc", b"again")


@pytest.mark.covers("TR-04")
@pytest.mark.parametrize("size", [0, 1, 4 << 20, (4 << 20) + 1, 13_000_001])
def test_what_is_read_is_the_file_and_its_hash(tmp_path: Path, size: int) -> None:
    path = tmp_path / "data"
    path.write_bytes((b"0123456789" * (size // 10 + 1))[:size])
    with open_regular(path) as file:
        data, digest = read_hashed(file)
    assert data.readonly
    assert bytes(data) == path.read_bytes()
    assert digest == sha256_hex(path.read_bytes())


@pytest.mark.covers("TR-04")
@pytest.mark.parametrize("size", [1000, 9 << 20])
def test_short_reads_are_all_hashed(tmp_path: Path, size: int) -> None:
    class Short(FileIO):
        def readinto(self, buffer: Any) -> Any:
            return super().readinto(memoryview(buffer)[: len(buffer) // 3 + 1])

    path = tmp_path / "data"
    path.write_bytes(os.urandom(size))
    with Short(path) as file:
        data, digest = read_hashed(file)
    assert sha256_hex(data) == digest == sha256_hex(path.read_bytes())


@pytest.mark.covers("TR-04")
@pytest.mark.parametrize("size", [1000, 9 << 20])
def test_a_file_that_shrinks_while_it_is_read_is_an_error_and_not_zeros(tmp_path: Path, size: int) -> None:
    class Shrinking(FileIO):
        def readinto(self, buffer: Any) -> Any:
            os.truncate(self.fileno(), size // 2)
            return super().readinto(buffer)

    path = tmp_path / "data"
    path.write_bytes(b"x" * size)
    with Shrinking(os.open(path, os.O_RDWR), "r+") as file, pytest.raises(OSError, match="it ended after"):
        read_hashed(file)


@pytest.mark.covers("TR-04")
def test_a_fault_of_the_disk_while_reading_ahead_is_raised(tmp_path: Path) -> None:
    class Bad(FileIO):
        def readinto(self, buffer: Any) -> Any:
            if self.tell():
                raise OSError(errno.EIO, "bad sector")
            return super().readinto(buffer)

    path = tmp_path / "data"
    path.write_bytes(bytes(9 << 20))
    with Bad(path) as file, pytest.raises(OSError, match="bad sector"):
        read_hashed(file)


@pytest.mark.covers("TR-04")
def test_only_a_regular_file_is_opened_and_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    for name, words in (("fifo", "regular"), ("link", "symbolic link"), (".", "regular|directory")):
        with pytest.raises(OSError, match=words):
            open_regular(tmp_path / name)
    with pytest.raises(OSError, match="regular"):
        open_regular(Path("/dev/zero"))
    open_regular(tmp_path / "link", follow=True).close()


@pytest.mark.covers("TR-02")
def test_a_file_larger_than_its_limit_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(11))
    with pytest.raises(OSError, match="it has 11 bytes, at most 10"):
        read_small(tmp_path / "big", limit=10)
    assert read_small(tmp_path / "big", limit=11) == bytes(11)
