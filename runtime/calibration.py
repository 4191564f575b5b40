"""INT8 calibration and whether it can be trusted (TR-08): the inputs, the cache of ranges, and what binds the two.

A cache is reused only if its bytes are those that were written and the inputs are those that it was made from:
``<cache>.sha256`` holds the first hash, ``<cache>.dataset_sha256`` the second. Other inputs mean a new cache; a sidecar
that is missing or damaged is an error, and then nothing is overwritten.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from types import MappingProxyType

import numpy as np

from runtime.data import TensorSpec, describe_shape
from runtime.errors import CalibrationCacheError
from runtime.files import DISK, FileSystem, open_regular, read_small, sha256_hex, write_together
from runtime.logs import EventLog, Kind
from runtime.protocol import Array

__all__ = [
    "CalibrationDataset",
    "CalibrationRanges",
    "RangeChange",
    "cache_sidecar",
    "compare_ranges",
    "dataset_sidecar",
    "format_ranges",
    "open_dataset",
    "parse_ranges",
    "read_cache",
    "write_cache",
]

_MAX_CACHE_BYTES = 64 << 20
_LEVELS = 127.0
_UNREADABLE = (OSError, EOFError, KeyError, MemoryError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)
"""What numpy and its readers raise for a damaged file. An archive that is encrypted or packed in an unknown way is a
``RuntimeError``; a header that claims petabytes is a ``MemoryError``."""
_SAMPLE = re.compile(r"(\d+)/(.+)")


@dataclass(frozen=True)
class CalibrationDataset:
    """Calibration inputs on disk that were read once and fit a model.

    ``sha256``: over the arrays, with the files' names below ``path``; how a file is compressed does not matter.
    ``shapes``: of each input, the same in every sample. ``count``: of samples.
    """

    path: Path
    sha256: str
    count: int
    shapes: Mapping[str, tuple[int, ...]]
    specs: tuple[TensorSpec, ...]

    def samples(self) -> Iterator[dict[str, Array]]:
        """Every sample, read again from disk, an array per input in C order.

        Raises ``CalibrationCacheError`` after the last one where the files are not those that were hashed.
        """
        digest = hashlib.sha256()
        for _, sample in _read(self.path, self.specs, digest):
            yield sample
        if digest.hexdigest() != self.sha256:
            raise CalibrationCacheError(
                f"the calibration inputs in {self.path} changed while they were used.",
                remedy="Start again when nothing writes to that folder.",
            )


def open_dataset(path: Path, specs: Sequence[TensorSpec]) -> CalibrationDataset:
    """The calibration inputs under ``path``, checked against a model's inputs ``specs`` and hashed in one reading.

    ``path``: a folder of ``.npz`` files (an array per input) or, for a model with one input, of ``.npy`` files; or one
    ``.npz`` file with arrays ``<number>/<input>``, or an array per input with one more axis in front for the samples.
    Raises ``CalibrationCacheError`` that names the file: nothing there, no such array, another shape or type, NaN.
    """
    digest = hashlib.sha256()
    shapes: dict[str, tuple[int, ...]] = {}
    count = 0
    for where, sample in _read(path, tuple(specs), digest):
        count += 1
        for name, array in sample.items():
            if shapes.setdefault(name, array.shape) != array.shape:
                raise CalibrationCacheError(
                    f"{where}: input {name!r} is {describe_shape(array.shape)}, and "
                    f"{describe_shape(shapes[name])} in the samples before it; expected one shape in all.",
                    remedy="Bring the calibration inputs to one size.",
                )
    if not count:
        raise CalibrationCacheError(
            f"{path} holds no calibration inputs; expected .npz files with an array per input.",
            remedy="Put inputs like those of the flight there, a few dozen of them.",
        )
    return CalibrationDataset(path, digest.hexdigest(), count, MappingProxyType(shapes), tuple(specs))


def cache_sidecar(cache: Path) -> Path:
    """``<cache>.sha256``: the hash of the cache's own bytes."""
    return cache.with_name(cache.name + ".sha256")


def dataset_sidecar(cache: Path) -> Path:
    """``<cache>.dataset_sha256``: the hash of the inputs that the cache was made from."""
    return cache.with_name(cache.name + ".dataset_sha256")


def read_cache(cache: Path, dataset_sha256: str, *, log: EventLog | None = None, fs: FileSystem = DISK) -> bytes | None:
    """A cache that was made from these inputs and is whole; ``None`` where one has to be made.

    None is there, or it was made from other inputs, which is then logged as INFO. Raises ``CalibrationCacheError``
    for a cache that is not what its sidecar was written for, and for a sidecar that is missing or malformed.
    """
    try:
        data = read_small(cache, limit=_MAX_CACHE_BYTES, fs=fs)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CalibrationCacheError(f"{cache.name} cannot be read: {error.strerror or error}.") from error
    if sha256_hex(data) != _read_sidecar(cache_sidecar(cache), fs):
        raise CalibrationCacheError(
            f"{cache.name} is not the file that {cache_sidecar(cache).name} was written for.", remedy=_remedy(cache)
        )
    made_from = _read_sidecar(dataset_sidecar(cache), fs)
    if made_from != dataset_sha256:
        if log is not None:
            log.info(Kind.CALIBRATION_REBUILT, cache=cache.name, was=made_from, now=dataset_sha256)
        return None
    parse_ranges(data, cache.name)
    return data


def write_cache(cache: Path, data: bytes, dataset_sha256: str, *, fs: FileSystem = DISK) -> None:
    """Put a cache and its two sidecars in place, together. Raises ``OSError``, with the old three still there.

    A crash in between leaves a mixture that ``read_cache`` refuses, since the cache is renamed first and its own
    hash last.
    """
    write_together(
        [
            (cache, data),
            (dataset_sidecar(cache), f"{dataset_sha256}\n".encode()),
            (cache_sidecar(cache), f"{sha256_hex(data)}  {cache.name}\n".encode()),
        ],
        fs=fs,
    )


@dataclass(frozen=True)
class CalibrationRanges:
    """``header``: the cache's first line, which names its maker. ``ranges``: per tensor, the magnitude that becomes 127."""

    header: str
    ranges: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "ranges", MappingProxyType(dict(self.ranges)))


@dataclass(frozen=True)
class RangeChange:
    """One tensor in two caches; ``None`` where it is not in one of them."""

    tensor: str
    old: float | None
    new: float | None

    @property
    def ratio(self) -> float | None:
        """New over old; ``None`` where one is missing or the old one is 0."""
        return self.new / self.old if self.new is not None and self.old else None


def parse_ranges(data: bytes, name: str = "the calibration cache") -> CalibrationRanges:
    """The ranges in a cache: a header, then ``<tensor>: <float32 in hexadecimal, big endian>``, range over 127.

    Raises ``CalibrationCacheError`` that names the line.
    """
    try:
        header, *lines = data.decode().splitlines()
    except (UnicodeDecodeError, ValueError) as error:
        raise CalibrationCacheError(f"{name} is no calibration cache: it is empty or no text.") from error
    if not re.fullmatch(r"[A-Za-z]+-[\w.]+-\w+", header):
        raise CalibrationCacheError(f"{name}: its first line is {header[:60]!r}; expected TRT-<version>-<calibrator>.")
    ranges: dict[str, float] = {}
    for number, line in enumerate(lines, 2):
        match = re.fullmatch(r"(.+): ([0-9a-fA-F]{1,8})", line)
        scale = struct.unpack(">f", bytes.fromhex(match[2].zfill(8)))[0] if match else float("nan")
        if match is None or match[1] in ranges or not isfinite(scale) or scale < 0:
            raise CalibrationCacheError(
                f"{name}, line {number} is {line[:80]!r}; expected a new tensor's name and a finite float32 in hexadecimal."
            )
        ranges[match[1]] = scale * _LEVELS
    return CalibrationRanges(header, ranges)


def format_ranges(ranges: CalibrationRanges) -> bytes:
    """The inverse of ``parse_ranges``, tensors sorted."""
    lines = [f"{name}: {struct.pack('>f', value / _LEVELS).hex()}" for name, value in sorted(ranges.ranges.items())]
    return ("\n".join([ranges.header, *lines]) + "\n").encode()


def compare_ranges(old: CalibrationRanges, new: CalibrationRanges) -> list[RangeChange]:
    """Every tensor of either cache, the largest change first; what is in one alone comes before all."""
    names = sorted({*old.ranges, *new.ranges})
    changes = [RangeChange(name, old.ranges.get(name), new.ranges.get(name)) for name in names]

    def size(change: RangeChange) -> float:
        ratio = change.ratio
        if ratio is None or ratio == 0:
            return 0.0 if change.old == change.new else float("-inf")
        return -abs(float(np.log(ratio)))

    return sorted(changes, key=size)


def _read_sidecar(path: Path, fs: FileSystem) -> str:
    try:
        line = read_small(path, limit=1 << 10, fs=fs).decode("utf-8", "replace")
    except OSError as error:
        what = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror or error}"
        raise CalibrationCacheError(f"{path.name} {what}.", remedy=_remedy(path.with_suffix(""))) from error
    match = re.fullmatch(r"([0-9a-f]{64})(?:[ ][ *].+)?\n?", line)
    if match is None:
        raise CalibrationCacheError(
            f"{path.name} holds no SHA-256: {line[:40]!r}.", remedy=_remedy(path.with_suffix(""))
        )
    return match[1]


def _remedy(cache: Path) -> str:
    return f"Find out who changed it; then remove {cache.name} and its sidecars, and build again."


def _read(path: Path, specs: Sequence[TensorSpec], digest: hashlib._Hash) -> Iterator[tuple[str, dict[str, Array]]]:
    """(where it is from, sample) for every sample; what is read goes into ``digest`` in the order of names."""
    for file in _files(path):
        relative = file.relative_to(path).as_posix() if file != path else ""
        arrays = _load(file, specs)
        for name in sorted(arrays):
            array = arrays[name]
            if array.dtype.kind in "mM":  # dates: numpy gives out no bytes of them
                raise CalibrationCacheError(f"{file.name}: {name!r} is {array.dtype}, which no input is.")
            digest.update(f"{relative}\0{name}\0{array.dtype.str}\0{array.shape}\n".encode())
            digest.update(array.data)
        for sample in _split(file, arrays, specs):
            yield file.name, _checked(file, sample, specs)


def _files(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if not file.is_dir() and not file.name.startswith("."))
        else:
            files = [path]
            path.stat()
    except OSError as error:
        raise CalibrationCacheError(
            f"the calibration inputs {path} cannot be read: {error.strerror or error}."
        ) from error
    for file in files:
        if file.suffix != ".npz" and (file.suffix != ".npy" or file == path):
            raise CalibrationCacheError(
                f"{file.name} in {file.parent} is no calibration input; expected .npz or .npy files and nothing else."
            )
    return files


def _load(file: Path, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    try:
        with open_regular(file, follow=True) as opened:
            loaded = np.load(opened, allow_pickle=False)
            if file.suffix == ".npz":
                if isinstance(loaded, np.ndarray):
                    raise zipfile.BadZipFile("it holds one array without a name")
                return {name: np.ascontiguousarray(loaded[name]) for name in loaded.files}
            if not isinstance(loaded, np.ndarray):
                raise zipfile.BadZipFile("it is an archive")
            if len(specs) != 1:
                names = ", ".join(spec.name for spec in specs)
                raise CalibrationCacheError(
                    f"{file.name} holds one array, and the model has {len(specs)} inputs ({names}); expected .npz files."
                )
            return {specs[0].name: np.ascontiguousarray(loaded)}
    except _UNREADABLE as error:
        raise CalibrationCacheError(
            f"{file.name} in {file.parent} cannot be read as arrays: {error}.", remedy="Write it with numpy.savez."
        ) from error


def _split(file: Path, arrays: Mapping[str, Array], specs: Sequence[TensorSpec]) -> list[dict[str, Array]]:
    """The samples in one file's arrays."""
    numbered = {name: match for name in arrays if (match := _SAMPLE.fullmatch(name))}
    known = {spec.name for spec in specs}
    if numbered and not known & set(arrays):
        if len(numbered) != len(arrays):
            raise CalibrationCacheError(f"{file.name} mixes arrays <number>/<input> with others: {', '.join(arrays)}.")
        samples: dict[int, dict[str, Array]] = {}
        for name, match in numbered.items():
            sample = samples.setdefault(int(match[1]), {})
            if match[2] in sample:  # as in 1/x and 01/x
                raise CalibrationCacheError(f"{file.name} has sample {int(match[1])} of {match[2]!r} twice.")
            sample[match[2]] = arrays[name]
        return [samples[at] for at in sorted(samples)]
    ranks = {spec.name: len(spec.shape) for spec in specs}
    if arrays and all(name in ranks and array.ndim == ranks[name] + 1 for name, array in arrays.items()):
        lengths = {array.shape[0] for array in arrays.values()}
        if len(lengths) > 1:
            raise CalibrationCacheError(
                f"{file.name} has {sorted(lengths)} samples of its inputs; expected one number."
            )
        return [{name: array[at] for name, array in arrays.items()} for at in range(lengths.pop())]
    return [dict(arrays)]


def _checked(file: Path, sample: Mapping[str, Array], specs: Sequence[TensorSpec]) -> dict[str, Array]:
    names = [spec.name for spec in specs]
    missing, unknown = [name for name in names if name not in sample], sorted(set(sample) - set(names))
    if missing or unknown:
        what = f"has no {missing[0]!r}" if missing else f"has {unknown[0]!r}, which is no input"
        raise CalibrationCacheError(f"{file.name} {what}; the model takes {', '.join(names)}.")
    for spec in specs:
        array = sample[spec.name]
        fits = array.ndim == len(spec.shape) and all(
            isinstance(want, str) or want == size for want, size in zip(spec.shape, array.shape, strict=True)
        )
        if not fits or array.dtype.name != spec.dtype or not array.dtype.isnative:
            raise CalibrationCacheError(
                f"{file.name}: input {spec.name!r} is {array.dtype} {describe_shape(array.shape)}; "
                f"expected {spec.dtype} {describe_shape(spec.shape)}."
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CalibrationCacheError(f"{file.name}: input {spec.name!r} holds NaN or infinity.")
    return {name: np.ascontiguousarray(sample[name]) for name in names}
