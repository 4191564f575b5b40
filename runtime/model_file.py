"""An ONNX file read without ``onnx``: its hash, its external data (TR-06), and what it needs of a runtime.

The protobuf wire format is walked directly, so that nothing is imported, weights are not copied, and no path that a
model names is opened before it is checked. Field numbers are those of ``onnx.proto``.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType

from runtime.data import TensorSpec
from runtime.errors import EngineBuildError
from runtime.files import DISK, FileSystem, open_regular
from runtime.plan import LFS_POINTER

__all__ = ["ModelFacts", "check_external_data", "model_sha256", "read_model_facts"]

_CHECKPOINTS = (".pt", ".pth", ".ckpt", ".safetensors")

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_NESTED: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Which fields of which message lead to tensors, nodes and operator sets."""

# fmt: off
_DTYPES = (
    "undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "object", "bool", "float16", "float64",
    "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
    "float8_e5m2fnuz", "uint4", "int4", "float4_e2m1fn", "float8_e8m0fnu", "uint2", "int2", "float6_e2m3fn", "float6_e3m2fn",
)
# fmt: on

Data = mmap.mmap | bytes
Span = tuple[int, int]


@dataclass(frozen=True)
class ModelFacts:
    """What an ONNX file says of itself. The default domain is ``""``, also where the file writes ``ai.onnx``.

    ``op_types``: (domain, operator) of every node, in subgraphs and functions too, without calls of the model's own
    functions. ``inputs`` has no initializers. A free size without a name is called ``<tensor>_<axis>``, a shape of
    unknown rank is ``("...",)``, and what is no dense tensor has the dtype ``"undefined"``.
    """

    ir_version: int
    opsets: Mapping[str, int]
    producer: str
    op_types: frozenset[tuple[str, str]]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def model_sha256(path: Path, *, fs: FileSystem = DISK) -> str:
    r"""The identity of a model. A file without external data: its SHA-256, as ``sha256sum`` prints it.

    An ONNX model with external data: the SHA-256 of the text ``<sha256>  .\n`` for the model, and then
    ``<sha256>  <location>\n`` for each data file, sorted by location. Raises ``EngineBuildError``.
    """
    with _opened(path, fs) as data:
        own = hashlib.sha256(data).hexdigest()
        found = {} if path.suffix.lower() in _CHECKPOINTS else _external_files(path, data, fs)
    if not found:
        return own
    lines = [f"{own}  .\n"]
    for location, file in sorted(found.items()):
        with _opened(file, fs, is_model=False) as data:
            lines.append(f"{hashlib.sha256(data).hexdigest()}  {location}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_external_data(path: Path, *, fs: FileSystem = DISK) -> tuple[Path, ...]:
    """The external data files of an ONNX model, sorted.

    Raises ``EngineBuildError`` for one that is missing, shorter than the model says, or outside the model's folder:
    absolute, ``..``, a symbolic or hard link; and for what is not a regular file.
    """
    with _opened(path, fs) as data:
        return tuple(sorted(set(_external_files(path, data, fs).values())))


def read_model_facts(path: Path, *, fs: FileSystem = DISK) -> ModelFacts:
    """The facts of an ONNX file; its external data is not looked at. Raises ``EngineBuildError``."""
    with _opened(path, fs) as data:
        walk = _walk(data)
        initializers = {_text(data, tensor, 8) for tensor in walk.initializers}
        called = {(_domain(data, node, 7), _text(data, node, 4)) for node in walk.nodes}
        defined = {(_domain(data, function, 10), _text(data, function, 1)) for function in walk.functions}
        inputs = tuple(_spec(data, value) for value in walk.inputs)
        return ModelFacts(
            walk.ir_version,
            MappingProxyType({_domain(data, opset, 1): _number(data, opset, 2) for opset in walk.opsets}),
            walk.producer,
            frozenset(called - defined),
            tuple(spec for spec in inputs if spec.name not in initializers),
            tuple(_spec(data, value) for value in walk.outputs),
        )


@dataclass
class _Walk:
    """Where the parts of one model lie; nodes and external tensors of every depth, values of the main graph."""

    ir_version: int = 0
    producer: str = ""
    opsets: list[Span] = field(default_factory=list)
    functions: list[Span] = field(default_factory=list)
    nodes: list[Span] = field(default_factory=list)
    initializers: list[Span] = field(default_factory=list)
    inputs: list[Span] = field(default_factory=list)
    outputs: list[Span] = field(default_factory=list)
    external: list[Span] = field(default_factory=list)


class _Malformed(Exception):  # noqa: N818 - internal, and turned into EngineBuildError by _opened
    """The bytes are no ONNX model, or not all of one."""


@contextmanager
def _opened(path: Path, fs: FileSystem, *, is_model: bool = True) -> Iterator[Data]:
    """The bytes of a regular file, and the refusal of it where the body finds them malformed.

    A model may be reached through a link, as model hubs store it; its external data may not.
    """
    try:
        with open_regular(path, follow=is_model, fs=fs) as file:
            size = fs.status(file).st_size
            data: Data = fs.map(file, size) if size else b""
    except FileNotFoundError as error:
        raise EngineBuildError(f"{path.name} is not in {path.parent}.", remedy="Name a model that is there.") from error
    except OSError as error:
        raise EngineBuildError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    if data[: len(LFS_POINTER)] == LFS_POINTER:
        raise EngineBuildError(
            f"{path.name} is a Git LFS pointer, and not the file that it stands for.", remedy="Run `git lfs pull`."
        )
    if not data and is_model:
        raise EngineBuildError(f"{path.name} is an empty file.", remedy="Export the model again.")
    try:
        yield data
    except _Malformed as error:
        if data[0] == 0x08 and 0 < data[min(1, len(data) - 1)] < 64:  # ir_version, which every exporter writes first
            raise EngineBuildError(
                f"{path.name} is truncated or damaged: {error}.", remedy="Copy or export the model again."
            ) from None
        raise EngineBuildError(
            f"{path.name} is not an ONNX file: {kind_of(data)}, {len(data)} bytes.", remedy="Name an .onnx file."
        ) from error


_STARTS = {
    b"PK\x03\x04": "a zip archive (a torch checkpoint is one)",
    b"\x80": "a Python pickle",
    b"\x1f\x8b": "gzip data",
    b"\x89HDF": "an HDF5 file",
    b"\x89PNG": "a PNG image",
    b"ftrt": "a TensorRT engine",
    b"vtrt": "a TensorRT-RTX engine",
    b"\x7fELF": "an ELF program",
}


def kind_of(data: Data) -> str:
    """What a file is by how it begins: ``a zip archive ...``, ``a page of HTML``, ``text that begins '...'``, ``binary data``."""
    head = bytes(data[:64])
    for start, kind in _STARTS.items():
        if head.startswith(start):
            return kind
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "a page of HTML"
    text = head.decode("utf-8", "replace").rstrip("\ufffd")  # the last letter may be cut in two
    is_text = bool(text) and all(letter.isprintable() or letter.isspace() for letter in text)
    return (
        f"text that begins {text.splitlines()[0][:30]!r}" if is_text else f"binary data that begins {head[:8].hex(' ')}"
    )


def _walk(data: Data) -> _Walk:
    walk = _Walk()
    lists = {("model", 8): walk.opsets, ("model", 25): walk.functions}
    main = {5: walk.initializers, 11: walk.inputs, 12: walk.outputs}
    waiting = [("model", (0, len(data)))]
    has_graph = False
    while waiting:
        message, span = waiting.pop()
        nested = _NESTED.get(message, {})
        if message == "node":
            walk.nodes.append(span)
        for number, wire, start, end in _fields(data, span):
            if wire == _BYTES:
                if number in nested:
                    waiting.append((nested[number], (start, end)))
                if (message, number) in lists:
                    lists[message, number].append((start, end))
                elif (message, number) == ("model", 7):
                    has_graph = True
                    for part, kind, begin, stop in _fields(data, (start, end)):
                        if kind == _BYTES and part in main:
                            main[part].append((begin, stop))
            elif wire == _VARINT:
                if message == "tensor" and number == 14 and start & 0xFFFFFFFF == 1:  # an enumeration has 32 bits
                    walk.external.append(span)
                elif (message, number) == ("model", 1):
                    walk.ir_version = start
    if not has_graph:
        raise _Malformed("it holds no graph")
    if not walk.opsets:
        raise _Malformed("it names no operator set")
    walk.producer = _text(data, (0, len(data)), 2)
    return walk


def _fields(data: Data, span: Span) -> Iterator[tuple[int, int, int, int]]:
    """Each field of one message as (number, wire type, start, end); a varint's value stands in place of ``start``."""
    at, stop = span
    while at < stop:
        tag, at = _varint(data, at, stop)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise _Malformed(f"a field number {number} before byte {at}")
        if wire == _VARINT:
            value, at = _varint(data, at, stop)
            yield number, wire, value, at
            continue
        if wire == _BYTES:
            size, at = _varint(data, at, stop)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise _Malformed(f"a wire type {wire} before byte {at}")
        if size > stop - at:
            raise _Malformed(f"the field at byte {at} has {size} bytes, and {stop - at} are left")
        yield number, wire, at, at + size
        at += size


def _varint(data: Data, at: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while at < stop and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise _Malformed(f"a number that does not end before byte {at}")


def _child(data: Data, span: Span, number: int) -> Span | None:
    """A length-delimited field; protobuf lets the last one count."""
    found = None
    for at, wire, start, end in _fields(data, span):
        if at == number and wire == _BYTES:
            found = (start, end)
    return found


def _number(data: Data, span: Span, number: int) -> int:
    """A signed integer field; 0, protobuf's default, where it is not there."""
    found = 0
    for at, wire, value, _ in _fields(data, span):
        if at == number and wire == _VARINT:
            found = value
    return found - (1 << 64) if found >> 63 else found


def _text(data: Data, span: Span, number: int) -> str:
    start, end = _child(data, span, number) or (0, 0)
    try:
        return data[start:end].decode()
    except UnicodeDecodeError:
        raise _Malformed(f"the text at byte {start} is not UTF-8") from None


def _domain(data: Data, span: Span, number: int) -> str:
    name = _text(data, span, number)
    return "" if name == "ai.onnx" else name


def _spec(data: Data, value: Span) -> TensorSpec:
    name = _text(data, value, 1)
    kind = _child(data, value, 2)
    tensor = _child(data, kind, 1) if kind else None
    if tensor is None:
        return TensorSpec(name, ("...",), _DTYPES[0])
    code = _number(data, tensor, 1)
    dtype = _DTYPES[code] if 0 <= code < len(_DTYPES) else _DTYPES[0]
    shape = _child(data, tensor, 2)
    if shape is None:
        return TensorSpec(name, ("...",), dtype)
    dims = [(start, end) for number, wire, start, end in _fields(data, shape) if number == 1 and wire == _BYTES]
    return TensorSpec(name, tuple(_size(data, dim, f"{name}_{axis}") for axis, dim in enumerate(dims)), dtype)


def _size(data: Data, dim: Span, unnamed: str) -> int | str:
    for number, wire, value, _ in _fields(data, dim):
        if number == 1 and wire == _VARINT and value < 1 << 63:  # some exporters write -1 for a free size
            return value
    return _text(data, dim, 2) or unnamed


def _external_files(path: Path, data: Data, fs: FileSystem) -> dict[str, Path]:
    """The data file of each location that a tensor of the model names, checked."""
    found: dict[str, Path] = {}
    sizes: dict[str, int] = {}
    for tensor in _walk(data).external:
        values: dict[str, str] = {}
        for number, wire, start, end in _fields(data, tensor):
            if number == 13 and wire == _BYTES:
                key = _text(data, (start, end), 1)
                if key in values:
                    raise _Malformed(f"a tensor gives its external {key} twice")
                values[key] = _text(data, (start, end), 2)
        location = values.get("location", "")
        if location not in found:
            found[location], sizes[location] = _locate(path, location, fs)
        needed = sum(_bytes_of(path, location, values.get(key, "0")) for key in ("offset", "length"))
        if needed > sizes[location]:
            with _opened(found[location], fs, is_model=False):
                pass  # says so if it is a Git LFS pointer
            raise EngineBuildError(
                f"{path.name}: its external data {location!r} has {sizes[location]} bytes, and a tensor ends at {needed}.",
                remedy="The file is truncated or of another export: copy the model and its data again.",
            )
    return found


def _bytes_of(path: Path, location: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise EngineBuildError(f"{path.name}: its external data {location!r} has the offset or length {text[:40]!r}.")
    return int(text)


def _locate(path: Path, location: str, fs: FileSystem) -> tuple[Path, int]:
    """The file that a model names and its size, reached without leaving the model's folder through any component."""

    def refuse(why: str) -> EngineBuildError:
        return EngineBuildError(
            f"{path.name}: its external data {location!r} {why}.",
            remedy="Keep the data as a plain file in the model's own folder, or export with the weights inside.",
        )

    windows = PureWindowsPath(location)
    if not location or "\0" in location:
        raise refuse("is not a file name")
    if location.startswith("/") or windows.drive or windows.root:
        raise refuse("is an absolute path")
    if ".." in windows.parts:
        raise refuse("leaves the model's folder")
    here = path.parent
    try:
        for part in PurePosixPath(location).parts:
            here /= part
            info = fs.look(here)
            if stat.S_ISLNK(info.st_mode):
                raise refuse(f"goes through the symbolic link {part!r}")
    except OSError as error:
        raise refuse(f"cannot be found: {error.strerror}") from error
    if here == path.parent or not stat.S_ISREG(info.st_mode):
        raise refuse("is not a regular file")
    if info.st_nlink > 1:
        raise refuse("is a hard link, shared with another name")
    return here, info.st_size
