"""A plan's own header, read without TensorRT (TR-05).

TensorRT: the layout that ``trtexec --getPlanVersionOnly`` reads: tag ``ftrt``, u32 at 4 (serialization version) 0,
bytes 24 to 27 the version. TensorRT-RTX: tag ``vtrt``, the rest as observed on files of 1.7. In both the u64 at 16 is
the file's length, by observation only; where it ever is not, the manifest says ``header: not used``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from runtime.errors import EngineSchemaMismatchError

__all__ = ["LFS_POINTER", "PlanHeader", "read_plan_header"]

LFS_POINTER = b"version https://git-lfs"

_SIZE = 28
_KINDS: dict[bytes, Literal["tensorrt", "tensorrt_rtx"]] = {b"ftrt": "tensorrt", b"vtrt": "tensorrt_rtx"}


@dataclass(frozen=True)
class PlanHeader:
    """What a plan says of itself: the library that wrote it, its version (four numbers), the plan's length in bytes."""

    kind: Literal["tensorrt", "tensorrt_rtx"]
    version: tuple[int, ...]
    length: int

    @property
    def trt(self) -> str:
        """The version as in names and manifests: ``"10.3.0.30"`` or ``"rtx1.7.1.116"``."""
        return ("rtx" if self.kind == "tensorrt_rtx" else "") + ".".join(map(str, self.version))


def read_plan_header(data: bytes | bytearray | memoryview) -> PlanHeader:
    """The header of a whole plan. Raises ``EngineSchemaMismatchError`` that says what the bytes are instead."""
    head = bytes(data[:_SIZE])
    kind = _KINDS.get(head[:4])
    if not head:
        raise _refusal("an empty file.")
    if head.startswith(LFS_POINTER):
        raise EngineSchemaMismatchError(
            "a Git LFS pointer, and not the file that it stands for.", remedy="Run `git lfs pull`."
        )
    if kind is None and head[4:5] == b"{":
        length = struct.unpack_from("<I", head)[0]
        follows = bytes(data[4 + length : 8 + length]) in _KINDS
        raise EngineSchemaMismatchError(
            f"a foreign prefix of {4 + length} bytes of JSON metadata, as Ultralytics writes it, "
            f"{'with a plan behind it' if follows else 'and no plan behind it'}.",
            remedy="Build the engine with `trigate compile`.",
        )
    if len(head) < _SIZE:
        raise _refusal(f"truncated: it has {len(head)} bytes, and a plan's header alone has {_SIZE}.")
    if kind is None:
        raise _refusal(f"no TensorRT plan: it begins with {head[:4]!r}, a plan with b'ftrt' (TensorRT-RTX: b'vtrt').")
    serialization, length = struct.unpack_from("<I", head, 4)[0], struct.unpack_from("<Q", head, 16)[0]
    if kind == "tensorrt" and serialization != 0:
        raise _refusal(f"a plan of serialization version {serialization}; only 0 is known.")
    if length > len(data):
        raise _refusal(f"truncated: it has {len(data)} bytes of the {length} that its header declares.")
    if length < len(data):
        raise _refusal(f"longer than the plan in it: {len(data)} bytes, and its header declares {length}.")
    return PlanHeader(kind, tuple(head[24:28]), length)


def _refusal(message: str) -> EngineSchemaMismatchError:
    return EngineSchemaMismatchError(message, remedy="Copy the file again, or build it with `trigate compile`.")
