"""Sidecars and manifests: round trips, malformed forms, and publishing that survives faults and crashes."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.data import PRECISIONS, EngineCacheEntry, Profile, TensorSpec
from runtime.errors import (
    EngineBuildError,
    EngineDeserializeError,
    EngineHashMismatchError,
    EngineSchemaMismatchError,
    EngineSidecarMissingError,
)
from runtime.files import FileSystem, sha256_hex
from runtime.gate import EngineGate
from runtime.platform import HostTuple
from runtime.sidecar import (
    Manifest,
    manifest_path,
    publish_engine,
    read_manifest,
    read_sidecar,
    sidecar_path,
    write_manifest,
    write_sidecar,
)

HOST = HostTuple("87", "6.2", "10.3.0.30", "36.4.3", "p3767-0000")
NAME = "disk__sm87_jp6.2_trt10.3_fp16.engine"
OLD, NEW = (struct.pack("<4sI8xQ4B", b"ftrt", 0, 28 + 5, 10, 3, 0, 30) + body for body in (b"older", b"newer"))


def manifest(data: bytes, **changes: object) -> Manifest:
    made = Manifest(
        sha256=sha256_hex(data),
        model_sha256="0" * 64,
        sm="87",
        jetpack="6.2",
        trt="10.3.0.30",
        precision="fp16",
        route="polygraphy",
        builder="tensorrt 10.3.0.30",
        module="p3767-0000",
        l4t="36.4.3",
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # fields by name


def entry(engine: Path, data: bytes) -> EngineCacheEntry:
    return EngineCacheEntry(engine, sha256_hex(data), "87", "6.2", "10.3", "fp16")


counts = st.none() | st.integers(0, 2**63 - 1)
words = st.text(min_size=1, max_size=10)
sizes = st.lists(st.integers(1, 10**6), min_size=1, max_size=4)
specs = st.builds(
    TensorSpec,
    name=words,
    shape=st.lists(st.integers(0, 10**6) | words, max_size=4).map(tuple),
    dtype=words,
    low=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    high=st.none() | st.integers(-(2**60), 2**60),
)
manifests = st.builds(
    Manifest,
    sha256=st.binary().map(sha256_hex),
    model_sha256=st.binary().map(sha256_hex),
    precision=st.sampled_from(PRECISIONS),
    **dict.fromkeys(("sm", "jetpack", "trt", "route", "builder", "module", "l4t"), words),
    profiles=st.lists(st.builds(lambda name, size: Profile(name, size, size, size), words, sizes), max_size=2).map(
        tuple
    ),
    inputs=st.lists(specs, max_size=2).map(tuple),
    outputs=st.lists(specs, max_size=2).map(tuple),
    opt_buffer_bytes=counts,
    device_memory_bytes=counts,
    weights_bytes=counts,
    builder_options=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    header=st.sampled_from(["used", "not used"]),
)


@pytest.mark.covers("TR-02")
@given(manifests)
def test_a_manifest_round_trips_through_json(made: Any) -> None:
    assert Manifest.from_json(made.to_json()) == made
    assert Manifest.from_json(made.to_json().encode()) == made


@pytest.mark.covers("TR-02")
@given(st.text() | st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_other_text_is_refused_and_never_crashes(text: Any) -> None:
    with pytest.raises(EngineSchemaMismatchError):
        Manifest.from_json(text)


junk = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.lists(st.integers() | st.text(), max_size=2)
)


@pytest.mark.covers("TR-02")
@given(st.data())
def test_a_manifest_with_any_value_replaced_is_refused_or_still_valid(data: Any) -> None:
    values = json.loads(manifest(OLD, inputs=(TensorSpec("x", (1, "n"), "float32"),)).to_json())
    values[data.draw(st.sampled_from(sorted(values)))] = data.draw(junk | st.dictionaries(st.text(), junk, max_size=2))
    try:
        made = Manifest.from_json(json.dumps(values))
    except EngineSchemaMismatchError:
        return
    assert Manifest.from_json(made.to_json()) == made


def changed(**changes: object) -> str:
    profile = {"input": "x", "min": [1], "opt": [1], "max": [1]}
    values = {**json.loads(manifest(OLD).to_json()), "profiles": [profile], **changes}
    return json.dumps({key: value for key, value in values.items() if value != "absent"})


@pytest.mark.covers("TR-02")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "the manifest is []; expected a JSON object"),
        ('{"schema": 1, "schema": 1}', "a key is given twice"),
        ('{"schema": NaN}', "NaN is not a JSON number"),
        (changed(schema=2), "schema is 2; this core reads 1"),
        (changed(sm="absent"), "it lacks sm"),
        (changed(colour="red"), "unknown keys: ['colour']"),
        (changed(sha256="A" * 64), "expected 64 lower-case hexadecimal digits"),
        (changed(precision="fp8"), "precision is 'fp8'; expected one of fp32"),
        (changed(header="maybe"), "header is 'maybe'"),
        (changed(jetpack=6.2), "jetpack is 6.2; expected text"),
        (changed(device_memory_bytes=-1), "device_memory_bytes is -1; expected a whole number"),
        (changed(device_memory_bytes=2**63), "expected a whole number from 0 to 2**63 - 1"),
        (changed(weights_bytes=True), "weights_bytes is True"),
        (changed(opt_buffer_bytes=1.5), "opt_buffer_bytes is 1.5"),
        (changed(inputs={}), "inputs is {}; expected a list"),
        (changed(inputs=[{"name": "x"}]), "an entry of inputs lacks dtype, high, low, shape"),
        (changed(profiles=[{"input": "x", "min": [2], "opt": [1], "max": [1]}]), "min <= opt <= max"),
        (changed(profiles=[{"input": "x", "min": [1], "opt": [1], "max": [10**30]}]), "a size in profiles.max"),
        (changed(builder_options={"a": 1}), "expected a mapping from text to text"),
    ],
)
def test_a_malformed_manifest_is_refused_with_the_field_that_is_wrong(text: Any, words: Any) -> None:
    with pytest.raises(EngineSchemaMismatchError, match=re.escape(words)):
        Manifest.from_json(text)


@pytest.mark.covers("TR-02")
def test_a_huge_manifest_is_refused_unread(tmp_path: Path) -> None:
    engine = tmp_path / NAME
    with manifest_path(engine).open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(EngineDeserializeError, match="1099511627776 bytes, at most 1048576"):
        read_manifest(engine)


@pytest.mark.covers("TR-02")
def test_sidecar_and_manifest_are_written_beside_the_engine_and_read_back(tmp_path: Path) -> None:
    engine = tmp_path / NAME
    engine.write_bytes(OLD)
    write_sidecar(engine, sha256_hex(OLD))
    write_manifest(engine, manifest(OLD))
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, f"{NAME}.json", f"{NAME}.sha256"]
    assert read_sidecar(engine) == sha256_hex(OLD)
    assert read_manifest(engine) == manifest(OLD)
    assert subprocess.run(["sha256sum", "-c", f"{NAME}.sha256"], cwd=tmp_path, check=False).returncode == 0


@pytest.mark.covers("TR-02")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no SHA-256"),
        ("abc", "no SHA-256"),
        ("A" * 64, "no SHA-256"),
        ("0" * 64 + "  other.engine\n", "the hash of 'other.engine'"),
        ("0" * 64 + f"  {NAME}\n" * 2, "no SHA-256"),
        ("\udcff" * 64, "no SHA-256"),
    ],
)
def test_a_sidecar_without_a_hash_of_this_engine_is_refused(tmp_path: Path, text: Any, words: Any) -> None:
    engine = tmp_path / NAME
    sidecar_path(engine).write_text(text, errors="surrogateescape")
    with pytest.raises(EngineHashMismatchError, match=re.escape(words)):
        read_sidecar(engine)


@pytest.mark.covers("TR-02")
def test_a_missing_sidecar_or_manifest_says_what_to_copy(tmp_path: Path) -> None:
    for read in (read_sidecar, read_manifest):
        with pytest.raises(EngineSidecarMissingError, match=r"is missing in .* Copy the \.engine"):
            read(tmp_path / NAME)


class Crash(BaseException):
    """The process is gone; no clean-up follows."""


class FaultyDisk(FileSystem):
    """The real one, until its call number ``at`` fails: once with an error, or for ever with a crash."""

    def __init__(self, at: int, fault: Callable[[], BaseException], *, done: bool = False) -> None:
        self.at, self.fault, self.done, self.calls = at, fault, done, 0

    def act(self, name: str, *arguments: Any) -> Any:
        self.calls += 1
        now = self.calls - 1
        if now == self.at and self.done:
            getattr(FileSystem, name)(self, *arguments)
        if now == self.at or (self.fault is Crash and now > self.at):
            if name == "close":
                os.close(*arguments)
            raise self.fault()
        return getattr(FileSystem, name)(self, *arguments)

    def write(self, descriptor: int, data: memoryview) -> int:
        return int(self.act("write", descriptor, data[: len(data) // 2 + 1]))


for call in ("create", "fsync", "rename", "unlink", "fsync_folder"):
    setattr(FaultyDisk, call, lambda self, *arguments, _name=call: self.act(_name, *arguments))


def accepted(engine: Path) -> set[bytes]:
    """What the engine check lets through, with the entry of the old engine, of the new one, and one from the sidecar."""
    entries = [entry(engine, OLD), entry(engine, NEW)]
    if sidecar_path(engine).exists():
        entries.append(replace(entries[0], sha256=sidecar_path(engine).read_text()[:64]))
    through = set()
    for made in entries:
        try:
            verified = EngineGate(HOST).validate(made)
        except EngineDeserializeError:
            continue
        assert sha256_hex(verified.data) == made.sha256 == verified.manifest.sha256
        through.add(bytes(verified.data))
    return through


def lay_out(folder: Path, old: bool) -> Path:
    for path in folder.iterdir():
        path.unlink()
    if old:
        publish_engine(folder / NAME, OLD, manifest(OLD))
    return folder / NAME


@pytest.mark.covers("TR-02")
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("done", [False, True])
def test_a_crash_at_any_step_of_publishing_leaves_old_new_or_what_the_gate_refuses(
    tmp_path: Path, old: Any, done: Any
) -> None:
    disk = FaultyDisk(-1, Exception)
    publish_engine(lay_out(tmp_path, old), NEW, manifest(NEW), fs=disk)
    assert disk.calls > 20
    outcomes = []
    for step in range(disk.calls):
        engine = lay_out(tmp_path, old)
        with pytest.raises(Crash):
            publish_engine(engine, NEW, manifest(NEW), fs=FaultyDisk(step, Crash, done=done))
        outcomes.append(accepted(engine))
        assert outcomes[-1] in (set(), {OLD}, {NEW})
    assert outcomes[0] == ({OLD} if old else set())
    assert outcomes[-1] == {NEW}


@pytest.mark.covers("TR-02", "RT-09")
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_an_error_at_any_step_of_publishing_leaves_the_files_as_they_were(tmp_path: Path, old: Any, code: Any) -> None:
    disk = FaultyDisk(-1, Exception)
    publish_engine(lay_out(tmp_path, old), NEW, manifest(NEW), fs=disk)
    for step in range(disk.calls - 3 * old):  # the last three drop the old copies
        engine = lay_out(tmp_path, old)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(EngineBuildError, match=os.strerror(code)) as caught:
            publish_engine(engine, NEW, manifest(NEW), fs=FaultyDisk(step, lambda: OSError(code, os.strerror(code))))
        assert isinstance(caught.value.__cause__, OSError)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.covers("TR-02")
def test_of_all_mixtures_that_a_power_cut_can_leave_only_the_whole_ones_pass(tmp_path: Path) -> None:
    engine = tmp_path / NAME
    versions = {}
    for data in (OLD, NEW):
        publish_engine(engine, data, manifest(data))
        versions[data] = [path.read_bytes() for path in (engine, manifest_path(engine), sidecar_path(engine))]
    for mixture in itertools.product((OLD, NEW, None), repeat=3):
        for number, (version, path) in enumerate(
            zip(mixture, (engine, manifest_path(engine), sidecar_path(engine)), strict=True)
        ):
            path.unlink(missing_ok=True)
            if version is not None:
                path.write_bytes(versions[version][number])
        whole = len(set(mixture)) == 1 and mixture[0] is not None
        assert accepted(engine) == ({mixture[0]} if whole else set()), mixture


@pytest.mark.covers("TR-02")
@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("disk.engine", {}, "not of the form"),
        (NAME, {"sha256": "0" * 64}, "sha256 differ"),
        (NAME, {"sm": "89", "precision": "int8"}, "sm, precision differ"),
        (NAME, {"trt": "10.16.2.10"}, "trt differ"),
    ],
)
def test_an_engine_is_not_published_under_a_name_or_manifest_of_another(
    tmp_path: Path, name: Any, changes: Any, words: Any
) -> None:
    with pytest.raises(EngineBuildError, match=words):
        publish_engine(tmp_path / "cache" / name, NEW, manifest(NEW, **changes))
    assert not list(tmp_path.iterdir())
