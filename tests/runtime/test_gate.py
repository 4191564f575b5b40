"""The engine gate: what it refuses, in which words, and that it reads once."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import struct
import subprocess
import sys
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from runtime.data import EngineCacheEntry
from runtime.errors import (
    EngineDeserializeError,
    EngineHashMismatchError,
    EngineSchemaMismatchError,
    EngineSidecarMissingError,
    OutOfMemoryError,
)
from runtime.files import FileSystem, sha256_hex
from runtime.gate import EngineGate
from runtime.logs import EventLog
from runtime.names import parse_engine_name
from runtime.plan import PlanHeader
from runtime.platform import HostTuple
from runtime.sidecar import Manifest, manifest_path, sidecar_path, write_manifest, write_sidecar

HOST = HostTuple("87", "6.2", "10.3.0.30", "36.4.3", "p3767-0000")
JP72 = HostTuple("87", "7.2", "10.16.2.10", "39.2.0", "p3767-0000")
NAME = "disk__sm87_jp6.2_trt10.3_fp16.engine"
RTX_NAME = "disk__sm89_jpnone_trtrtx1.7_fp16.engine"
RTX_HOST = HostTuple("89", "none", "rtx1.7.1.116")


def plan(tag: bytes = b"ftrt", version: tuple[int, ...] = (10, 3, 0, 30), body: bytes = b"body") -> bytes:
    return struct.pack("<4sI8xQ4B", tag, 0, 28 + len(body), *version) + body


RTX_PLAN = plan(b"vtrt", (1, 7, 1, 116))


def store(
    folder: Path, name: str = NAME, data: bytes = b"", host: HostTuple = HOST, **changes: str
) -> EngineCacheEntry:
    """An engine with its sidecars, as if built on ``host``; ``changes`` are made to the manifest."""
    data = data or plan()
    engine = folder / name
    engine.write_bytes(data)
    parts = parse_engine_name(name)
    digest = sha256_hex(data)
    said = {
        "sha256": digest,
        "model_sha256": digest,
        "sm": host.sm,
        "jetpack": parts.jetpack,
        "trt": host.trt,
        **changes,
    }
    said = {
        "precision": parts.precision,
        "route": "polygraphy",
        "builder": "x",
        "module": host.module,
        "l4t": host.l4t,
        **said,
    }
    write_manifest(engine, Manifest(**said))  # type: ignore[arg-type]  # fields by name
    write_sidecar(engine, digest)
    return EngineCacheEntry(engine, digest, host.sm, parts.jetpack, parts.trt, parts.precision)


@pytest.mark.covers("TR-03", "TR-04", "TR-05")
def test_an_engine_built_here_passes_with_its_bytes_header_and_manifest(tmp_path: Path) -> None:
    verified = EngineGate(HOST).validate(store(tmp_path))
    assert bytes(verified.data) == plan()
    assert verified.data.readonly
    assert verified.header == PlanHeader("tensorrt", (10, 3, 0, 30), 32)
    assert verified.name.model == "disk"
    assert verified.manifest.module == "p3767-0000"


@pytest.mark.covers("TR-03")
def test_the_refusal_names_every_differing_field_with_what_the_file_says_and_the_host_is(tmp_path: Path) -> None:
    with pytest.raises(EngineSchemaMismatchError) as caught:
        EngineGate(JP72).validate(store(tmp_path))
    assert caught.value.message == (
        f"{NAME}: built for sm87 jp6.2 trt10.3 fp16; this host is sm87 jp7.2 trt10.16 (jetpack, trt differ)."
    )
    assert "trigate compile" in caught.value.remedy


@pytest.mark.covers("TR-03")
@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("sm", "110", "this host is sm110 jp6.2 trt10.3 (sm differs)"),
        ("jetpack", "6.2.1", "this host is sm87 jp6.2.1 trt10.3 (jetpack differs)"),
        ("jetpack", "none", "this host is sm87 jpnone trt10.3 (jetpack differs)"),
        ("trt", "10.30", "this host is sm87 jp6.2 trt10.30 (trt differs)"),
        ("trt", "none", "this host is sm87 jp6.2 trtnone (trt differs)"),
        ("trt", "rtx10.3", "this host is sm87 jp6.2 trtrtx10.3 (trt differs)"),
        ("trt", "10.3.0.31", "built with trt 10.3.0.30; this host has trt 10.3.0.31"),
        ("module", "p3767-0003", "built on module p3767-0000; this host is module p3767-0003"),
    ],
)
def test_each_field_of_the_host_alone_refuses(tmp_path: Path, field: Any, value: Any, words: Any) -> None:
    with pytest.raises(EngineSchemaMismatchError, match=re.escape(words)):
        EngineGate(replace(HOST, **{field: value})).validate(store(tmp_path))


@pytest.mark.covers("TR-03")
@pytest.mark.parametrize(
    ("field", "value"),
    [("sm", "89"), ("jetpack", "6.1"), ("trt", "10.4"), ("precision", "fp32"), ("precision", "int8")],
)
def test_an_entry_that_says_other_than_the_name_is_refused(tmp_path: Path, field: Any, value: Any) -> None:
    entry = replace(store(tmp_path), **{field: value})
    with pytest.raises(EngineSchemaMismatchError, match=f"its entry says {field} {value}, its name {field} "):
        EngineGate(HOST).validate(entry)


@pytest.mark.covers("TR-03")
@pytest.mark.parametrize(
    ("field", "value"),
    [("sm", "89"), ("jetpack", "6.1"), ("trt", "10.4.0"), ("precision", "fp32"), ("sha256", "0" * 64)],
)
def test_a_manifest_that_says_other_than_the_engine_is_refused(tmp_path: Path, field: Any, value: Any) -> None:
    with pytest.raises(EngineSchemaMismatchError, match=f"its manifest says {field} {value}"):
        EngineGate(HOST).validate(store(tmp_path, **{field: value}))


@pytest.mark.covers("TR-03")
def test_an_operator_may_count_jetpacks_as_one_and_accept_another_module(tmp_path: Path) -> None:
    entry = store(tmp_path)
    board = replace(HOST, jetpack="6.2.1", module="p3767-0003")
    with pytest.raises(EngineSchemaMismatchError, match="jetpack differs"):
        EngineGate(board, allow_other_module=True).validate(entry)
    with pytest.raises(EngineSchemaMismatchError, match="module p3767-0003"):
        EngineGate(board, same_jetpacks=[{"6.2", "6.2.1"}]).validate(entry)
    with pytest.raises(EngineSchemaMismatchError, match="jetpack differs"):
        EngineGate(board, same_jetpacks=[{"6.2", "6.1"}, {"6.2.1"}], allow_other_module=True).validate(entry)
    EngineGate(board, same_jetpacks=[("6.2", "6.2.1")], allow_other_module=True).validate(entry)


@pytest.mark.covers("TR-03", "LO-01")
def test_an_l4t_that_we_do_not_know_is_a_warning_and_the_other_fields_decide(tmp_path: Path) -> None:
    entry, lines = store(tmp_path), io.StringIO()
    board = replace(HOST, jetpack="unknown", l4t="36.9.0")
    EngineGate(board, log=EventLog(stream=lines)).validate(entry)
    record = json.loads(lines.getvalue())
    assert (record["kind"], record["level"], record["l4t"]) == ("c7.platform_unknown", "WARN", "36.9.0")
    with pytest.raises(EngineSchemaMismatchError, match=r"this host is sm110 jpunknown trt10.3 \(sm differs\)"):
        EngineGate(replace(board, sm="110")).validate(entry)


@pytest.mark.covers("TR-03")
def test_an_engine_named_for_an_unknown_jetpack_does_not_pass_on_a_known_one(tmp_path: Path) -> None:
    entry = store(tmp_path, NAME.replace("6.2", "unknown"))
    EngineGate(replace(HOST, jetpack="unknown")).validate(entry)
    with pytest.raises(EngineSchemaMismatchError, match="jetpack differs"):
        EngineGate(HOST).validate(entry)


@pytest.mark.covers("TR-03", "TR-01")
def test_checks_come_in_order_name_host_sidecar_content_manifest_header(tmp_path: Path) -> None:
    entry = store(tmp_path, data=plan(version=(10, 4, 0, 0)))
    stages = []
    wrong = replace(entry, engine_path=tmp_path / "disk.engine", sha256="0" * 64)
    manifest, sidecar = manifest_path(entry.engine_path), sidecar_path(entry.engine_path)
    kept = manifest.read_bytes(), sidecar.read_bytes()
    manifest.unlink()
    sidecar.unlink()

    def attempt(gate: EngineGate, tried: EngineCacheEntry) -> None:
        with pytest.raises(EngineDeserializeError) as caught:
            gate.validate(tried)
        stages.append((type(caught.value).__name__, caught.value.message))

    attempt(EngineGate(JP72), wrong)
    wrong = replace(wrong, engine_path=entry.engine_path)
    attempt(EngineGate(JP72), wrong)
    attempt(EngineGate(HOST), wrong)
    sidecar.write_bytes(kept[1])
    attempt(EngineGate(HOST), wrong)
    attempt(EngineGate(HOST), entry)
    manifest.write_bytes(kept[0])
    attempt(EngineGate(HOST), entry)
    assert [kind for kind, _ in stages] == [
        "EngineSchemaMismatchError",
        "EngineSchemaMismatchError",
        "EngineSidecarMissingError",
        "EngineHashMismatchError",
        "EngineSidecarMissingError",
        "EngineSchemaMismatchError",
    ]
    words = (
        "engine name",
        "built for",
        ".sha256 is missing",
        "hashes to",
        ".json is missing",
        "header says trt 10.4.0.0",
    )
    assert all(word in text for (_, text), word in zip(stages, words, strict=True)), stages


@pytest.mark.covers("TR-03", "TR-04")
def test_any_changed_byte_of_the_content_is_refused(tmp_path: Path) -> None:
    entry = store(tmp_path)
    for position in range(len(plan())):
        data = bytearray(plan())
        data[position] ^= 1
        entry.engine_path.write_bytes(data)
        with pytest.raises(EngineHashMismatchError, match="sha256 says"):
            EngineGate(HOST).validate(entry)


@pytest.mark.covers("TR-03")
def test_an_engine_that_was_replaced_with_its_sidecars_is_not_the_one_of_the_entry(tmp_path: Path) -> None:
    entry = store(tmp_path)
    store(tmp_path, data=plan(body=b"evil"))
    with pytest.raises(EngineHashMismatchError, match="its entry says"):
        EngineGate(HOST).validate(entry)


class WatchedDisk(FileSystem):
    """Counts opens and the bytes of engines that are read. ``instead`` is raised by the first read.

    As soon as the last byte was read, the file is overwritten where it stands, and replaced.
    """

    def __init__(self, instead: Exception | None = None) -> None:
        self.opened: list[str] = []
        self.bytes_read = 0
        self.instead = instead

    def open(self, path: Path, *, follow: bool) -> FileIO:
        self.opened.append(path.name)
        disk, size = self, path.stat().st_size

        class Watched(FileIO):
            def readinto(self, buffer: Any) -> Any:
                if disk.instead is not None:
                    raise disk.instead
                count = super().readinto(buffer)
                disk.bytes_read += count
                if disk.bytes_read == size:
                    with path.open("r+b") as file:
                        file.write(b"e" * size)
                    path.with_suffix(".evil").write_bytes(b"evil")
                    path.with_suffix(".evil").replace(path)
                return count

        return Watched(path)


@pytest.mark.covers("TR-04")
@pytest.mark.parametrize("size", [4, 9 << 20])
def test_the_engine_is_read_once_and_a_file_swapped_after_that_changes_nothing(tmp_path: Path, size: Any) -> None:
    data = plan(body=b"g" * size)
    entry = store(tmp_path, data=data)
    disk = WatchedDisk()
    verified = EngineGate(HOST, fs=disk).validate(entry)
    assert entry.engine_path.read_bytes() == b"evil"
    assert sorted(disk.opened) == [NAME, f"{NAME}.json", f"{NAME}.sha256"]
    assert disk.bytes_read == len(data)
    assert sha256_hex(verified.data) == entry.sha256
    with pytest.raises(TypeError, match=r"read-?only"):
        verified.data[0] = 1


@pytest.mark.covers("RT-07")
def test_a_fault_while_reading_is_an_error_of_the_family_with_its_cause(tmp_path: Path) -> None:
    entry = store(tmp_path)
    for fault, expected in (
        (OSError(errno.EIO, "Input/output error"), EngineDeserializeError),
        (MemoryError("no room for a file of 99 bytes"), OutOfMemoryError),
    ):
        with pytest.raises(expected, match=re.escape(str(fault.args[-1]))) as caught:
            EngineGate(HOST, fs=WatchedDisk(fault)).validate(entry)
        assert caught.value.__cause__ is fault


@pytest.mark.covers("TR-03")
@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "link", "unreadable sidecar"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    entry = store(tmp_path)
    engine = entry.engine_path
    if kind == "link":
        engine.rename(tmp_path / "real")
        engine.symlink_to("real")
    elif kind == "unreadable sidecar":
        sidecar_path(engine).unlink()
        os.mkfifo(sidecar_path(engine))
    else:
        engine.unlink()
        if kind == "folder":
            engine.mkdir()
        elif kind == "fifo":
            os.mkfifo(engine)
        else:
            assert kind == "missing"
    words = {"missing": "is not in", "folder": "directory|regular", "link": "symbolic link"}.get(kind, "regular file")
    with pytest.raises(EngineDeserializeError, match=words):
        EngineGate(HOST).validate(entry)


JSON = b'{"stride": 32}'
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.mark.covers("TR-05")
@pytest.mark.parametrize(
    ("name", "data", "host", "words"),
    [
        (NAME, RTX_PLAN, HOST, "a plan of TensorRT-RTX under a name of TensorRT"),
        (RTX_NAME, plan(), RTX_HOST, "a plan of TensorRT under a name of TensorRT-RTX"),
        (NAME, plan(version=(10, 16, 2, 10)), HOST, "its header says trt 10.16.2.10, its name trt 10.3; "),
        (RTX_NAME, plan(b"vtrt", (1, 6, 1, 120)), RTX_HOST, "its header says trt rtx1.6.1.120, its name trt rtx1.7"),
        (NAME, plan(version=(10, 3, 0, 31)), HOST, "its header says trt 10.3.0.31, its manifest trt 10.3.0.30"),
        (NAME, POINTER, HOST, "is a Git LFS pointer"),
        (NAME, struct.pack("<I", len(JSON)) + JSON + plan(), HOST, "as Ultralytics writes it, with a plan behind it"),
        (NAME, plan()[:-1], HOST, "is truncated"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_told_apart_though_its_hash_is_right(
    tmp_path: Path, name: Any, data: Any, host: Any, words: Any
) -> None:
    with pytest.raises(EngineSchemaMismatchError, match=re.escape(words)):
        EngineGate(host).validate(store(tmp_path, name, data, host))


@pytest.mark.covers("TR-05")
@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "what is there is an empty file"), (POINTER, "a Git LFS pointer"), (plan()[:30], "truncated")],
)
def test_a_wrong_hash_with_a_plain_cause_says_the_cause(tmp_path: Path, data: Any, words: Any) -> None:
    entry = store(tmp_path)
    entry.engine_path.write_bytes(data)
    with pytest.raises(EngineHashMismatchError, match=words):
        EngineGate(HOST).validate(entry)


@pytest.mark.covers("TR-05")
def test_an_rtx_plan_under_its_own_name_passes(tmp_path: Path) -> None:
    verified = EngineGate(RTX_HOST).validate(store(tmp_path, RTX_NAME, RTX_PLAN, RTX_HOST))
    assert verified.header is not None
    assert verified.header.kind == "tensorrt_rtx"


@pytest.mark.covers("TR-05")
def test_with_header_not_used_the_hash_decides(tmp_path: Path) -> None:
    verified = EngineGate(HOST).validate(store(tmp_path, data=b"a plan of another layout", header="not used"))
    assert (bytes(verified.data), verified.header) == (b"a plan of another layout", None)


@pytest.mark.covers("TR-03", "LO-01")
def test_a_refusal_is_logged_once_with_its_reason(tmp_path: Path) -> None:
    lines = io.StringIO()
    entry = store(tmp_path)
    sidecar_path(entry.engine_path).unlink()
    with pytest.raises(EngineSidecarMissingError):
        EngineGate(HOST, log=EventLog(stream=lines)).validate(entry)
    record = json.loads(lines.getvalue())
    assert (record["kind"], record["level"], record["engine"]) == ("c7.engine_refused", "ERROR", NAME)
    assert record["error"] == "EngineSidecarMissingError"
    assert "is missing" in record["reason"]


@pytest.mark.covers("TR-03", "RT-11")
def test_the_gate_decides_without_importing_anything_heavy(tmp_path: Path) -> None:
    entry = store(tmp_path)
    code = (
        "import sys; from runtime.gate import EngineGate; from runtime.platform import HostTuple\n"
        "from runtime.data import EngineCacheEntry\n"
        f"EngineGate(HostTuple{(HOST.sm, HOST.jetpack, HOST.trt, HOST.l4t, HOST.module)!r})"
        f".validate(EngineCacheEntry.from_json({entry.to_json()!r}))\n"
        "heavy = {'tensorrt', 'tensorrt_rtx', 'cuda', 'torch', 'onnxruntime', 'onnx', 'polygraphy'}\n"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
