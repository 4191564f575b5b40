from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from harness.fakes.faults import Fault, FaultPlan
from harness.fakes.files import SHORT, FaultyFiles
from harness.faults.files import FILE_ERRORS
from runtime.files import FileSystem, open_regular, read_hashed, read_small, write_atomic, write_together


class Disk(FaultyFiles):
    def __init__(self, *faults: Fault) -> None:
        self.plan = FaultPlan(faults)
        self.said: list[str] = []
        super().__init__(self.enter)

    def enter(self, api: str) -> str | None:
        self.said.append(api)
        fault = self.plan.next(api)
        return fault.error if fault else None


def act(folder: Path, disk: FileSystem) -> None:
    """Every operation there is."""
    disk.make_folder(folder / "made")
    engine = folder / "made" / "x_trt10.3_fp16.engine"
    write_together([(engine, b"12345"), (folder / "made" / f"{engine.name}.sha256", b"6")], fs=disk)
    write_together([(engine, b"12345")], fs=disk)
    write_atomic(folder / "made" / f"{engine.name}.json", b"7", fs=disk)
    with open_regular(engine, fs=disk) as file:
        assert bytes(read_hashed(file, fs=disk)[0]) == b"12345"
    with open_regular(engine, fs=disk) as file:
        assert file.readall() == b"12345"
    with open_regular(engine, fs=disk) as file:
        assert disk.map(file, 5)[:] == b"12345"
    assert read_small(folder / "made" / f"{engine.name}.sha256", limit=9, fs=disk) == b"6"
    assert disk.look(engine).st_size == 5
    assert {name for name, _ in disk.entries(folder / "made")} == {
        engine.name,
        f"{engine.name}.sha256",
        f"{engine.name}.json",
    }


@pytest.mark.covers("T0-05")
def test_every_operation_is_written_down_with_the_kind_of_its_file_and_nothing_stays_open(tmp_path: Path) -> None:
    disk = Disk()
    act(tmp_path, disk)
    assert {api.removeprefix("files.").partition(" ")[0] for api in disk.said} == set(FILE_ERRORS)
    kinds = {api.partition(" ")[2] for api in disk.said}
    assert kinds == {"", ".engine", ".engine.sha256", ".engine.json"}
    assert disk.said[:2] == ["files.make_folder", "files.create .engine"]
    assert disk.opened == {}


@pytest.mark.covers("T0-05")
def test_the_seam_has_no_operation_that_cannot_fail_here() -> None:
    operations = {name for name in vars(FileSystem) if not name.startswith("_")}
    assert operations == {name for name in vars(FaultyFiles) if not name.startswith("_")}
    assert operations | {"read"} == set(FILE_ERRORS)
    unknown = [name for names in FILE_ERRORS.values() for name in names if name != SHORT and not hasattr(errno, name)]
    assert unknown == []


@pytest.mark.covers("T0-05")
def test_a_planned_error_is_the_systems_own_and_what_failed_has_not_been_done(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(PermissionError) as caught:
        Disk(Fault("files.create .json", "EACCES")).create(path)
    assert (caught.value.errno, caught.value.strerror) == (errno.EACCES, os.strerror(errno.EACCES))
    assert caught.value.filename == str(path)
    assert not path.exists()
    disk = Disk(Fault("files.close .json", "EIO"))
    descriptor = disk.create(path)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        disk.close(descriptor)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(descriptor)  # closed all the same
    assert disk.opened == {}


@pytest.mark.covers("T0-05")
def test_less_may_be_read_and_written_than_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    disk = Disk(Fault("files.write .json", SHORT, forever=True), Fault("files.read .json", SHORT, forever=True))
    write_atomic(path, b"0123456789", fs=disk)
    assert path.read_bytes() == b"0123456789"
    assert disk.said.count("files.write .json") > 3
    assert read_small(path, limit=99, fs=disk) == b"0123456789"
    assert disk.said.count("files.read .json") > 3
