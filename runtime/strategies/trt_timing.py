"""TensorRT's timing cache, kept beside the engines: what it measured of its kernels on one GPU, reused by the next build.

It is keyed in its name by what it is true for, and hashed: a cache that was changed is not used.
"""

from __future__ import annotations

from pathlib import Path

from runtime.files import DISK, FileSystem, read_small, sha256_hex, write_together

__all__ = ["read_timing_cache", "timing_cache_name", "write_timing_cache"]

_MAX_BYTES = 1 << 30


def timing_cache_name(*, trt: str, sm: str, module: str, driver_version: int) -> str:
    """``timing__sm87_p3767-0000_trt10.3.0_cuda12.6.cache``; ``driver_version`` as CUDA gives it (12060)."""
    cuda = f"{driver_version // 1000}.{driver_version % 1000 // 10}"
    return f"timing__sm{sm}_{module}_trt{trt}_cuda{cuda}.cache"


def read_timing_cache(path: Path, *, fs: FileSystem = DISK) -> tuple[bytes, str]:
    """(the cache, or nothing; why a cache that is there is not used, or nothing)."""
    try:
        data = read_small(path, limit=_MAX_BYTES, fs=fs)
    except FileNotFoundError:
        return b"", ""
    except OSError as error:
        return b"", f"{path.name} cannot be read: {error.strerror or error}"
    try:
        expected = read_small(_sidecar(path), limit=1 << 10, fs=fs).decode("utf-8", "replace")
    except OSError:
        return b"", f"{path.name} has no hash beside it"
    if expected.partition(" ")[0].strip() != sha256_hex(data):
        return b"", f"{path.name} is not the file that its hash was written for"
    return data, ""


def write_timing_cache(path: Path, data: bytes, *, fs: FileSystem = DISK) -> None:
    """Put the cache and its hash in place, together. Raises ``OSError``."""
    write_together([(path, data), (_sidecar(path), f"{sha256_hex(data)}  {path.name}\n".encode())], fs=fs)


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")
