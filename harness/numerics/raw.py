"""What the verdict of a row about numerics is computed from, and outputs as they came: ``raw/<case id>.npz`` (RE-03, RE-02).

    numerics        uint8 [n]: ``Numerics`` as JSON. The row is judged from it, when it is measured and whenever it is again
    elements/<at>   elements of the output ``Numerics.kept[at]``, 1-D, in the runtime's own dtype

An output is kept whole where all outputs of a row have at most ``LIMIT`` elements together. Of larger ones elements are kept,
at places that follow from the output's name, its shape and the number of the sample alone (``places``): two versions of a
runtime keep the same elements, and nothing needs to be known of the other.
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness.numerics.parity import OutputStatistics, digest, sample_errors
from harness.records import Check, Measurement, RecordError, Tolerance, from_json, to_json
from runtime.protocol import Array

__all__ = [
    "AUTHORS_ATOL",
    "AUTHORS_RTOL",
    "LIMIT",
    "RULE",
    "GoldenSample",
    "KeptOutput",
    "Numerics",
    "RawFile",
    "TaskScores",
    "claims_of",
    "keep",
    "of_authors",
    "places",
    "raw_arrays",
    "read_elements",
    "read_numerics",
]

LIMIT = 1 << 19
"""Elements that are kept of all outputs of a row together: 2 MiB of float32."""

RULE = (
    "strata 1: of n elements in C order, k are kept: number i at floor(i n / k) + splitmix64(s + i) mod the stratum's length, "
    "s the first 8 bytes (little-endian) of SHA-256 of 'name|shape|sample', as 'scores|1,8|0'"
)
AUTHORS_RTOL, AUTHORS_ATOL = 2e-3, 1e-7
"""Of onnx's own tests of its light models: weights that are all equal make every logit tie, and no noise leaves a tie."""

RAW_SCHEMA = 1
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class KeptOutput:
    """One output of one sample. ``sha256``: ``parity.digest`` of it alone, whole. ``count``: how many elements are kept."""

    output: str
    sample: int
    shape: tuple[int, ...]
    dtype: str
    sha256: str
    count: int


@dataclass(frozen=True)
class GoldenSample:
    """One output of one sample against what the model's authors ship. ``outside``: elements beyond their test's tolerance.

    ``error``: as ``parity.sample_errors``; ``None`` where it is not defined or cannot be compared.
    """

    output: str
    sample: int
    size: int
    outside: int
    error: float | None


@dataclass(frozen=True)
class TaskScores:
    """A task's metric on the reference's outputs and on the row's, by sample, and its rule (``harness.tasks``).

    ``broken``: the check where the metric broke, and no scores.
    """

    metric: str
    direction: str
    may_lose: float
    reference: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()
    broken: Check | None = None


@dataclass(frozen=True)
class Numerics:
    """All that ``gates.judge_numerics`` needs of a row beside its measurement.

    ``row``: its id; ``kind``, ``lane``: of it. ``against``: ``reference``, or the other runtime. ``inputs``: digests of the
    packed feeds. ``reference_sha256``: of the pack's file. ``golden``: against the authors' outputs, where they ship some.
    ``facts``: ``claims_of`` the measurement. ``kept``: what lies in the file, by ``rule``.
    """

    row: str
    kind: str
    lane: str
    against: str
    outputs: tuple[OutputStatistics, ...]
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    reference_sha256: str = ""
    golden: tuple[GoldenSample, ...] = ()
    task: TaskScores | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[KeptOutput, ...] = ()
    rule: str = RULE
    schema: int = RAW_SCHEMA


def claims_of(measurement: Measurement) -> dict[str, str]:
    """What makes a row evidence beside its figures: where it ran, in what, of which file, and whether it is a witness."""
    return {
        "provider": measurement.provider,
        "precision that ran": measurement.precision_ran,
        "model": measurement.model_sha256,
        "witness": "yes" if measurement.witness else "no",
        "simulated": "yes" if measurement.simulated else "no",
    }


def of_authors(expected: Sequence[Mapping[str, Array]], got: Sequence[Mapping[str, Array]]) -> tuple[GoldenSample, ...]:
    """The outputs that a model's authors ship, element by element: rtol 2e-3, atol 1e-7, NaN never equal."""
    found = []
    for at, (want, outputs) in enumerate(zip(expected, got, strict=False)):
        for name, array in want.items():
            output = np.asarray(outputs[name]) if name in outputs else None
            if output is None or output.shape != array.shape or output.dtype.kind not in "fiub":
                found.append(GoldenSample(name, at, array.size, max(array.size, 1), None))
                continue
            near = np.isclose(output, array, rtol=AUTHORS_RTOL, atol=AUTHORS_ATOL, equal_nan=False)
            (error,) = sample_errors([array], [output])
            found.append(GoldenSample(name, at, array.size, int(np.count_nonzero(~near)), error))
    return tuple(found)


def places(output: str, shape: Sequence[int], sample: int, count: int) -> Array:
    """Where the ``count`` kept elements of an output lie in it, flattened: int64, sorted, each once (``RULE``).

    Made of integers alone: the same on every machine and with every version of NumPy, whose generators may change.
    """
    size = math.prod(shape)
    if count >= size:
        return np.arange(size)
    edges = np.arange(count + 1, dtype=np.int64) * size // max(count, 1)
    text = f"{output}|{','.join(map(str, shape))}|{sample}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    noise = _splitmix64(np.arange(count, dtype=np.uint64) + np.uint64(seed))
    return edges[:-1] + (noise % (edges[1:] - edges[:-1]).astype(np.uint64)).astype(np.int64)


def _splitmix64(state: Array) -> Array:
    """The finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), after one step; wraps around."""
    mixed = state + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def keep(
    outputs: Sequence[Mapping[str, Array]], *, limit: int = LIMIT
) -> tuple[tuple[KeptOutput, ...], tuple[Array, ...]]:
    """(what is kept of each output of each sample, its elements). ``limit`` 0: digests alone.

    How many depends on shapes alone, never on a dtype, which versions of a runtime may choose otherwise.
    """
    arrays = [(name, at, np.asarray(array)) for at, sample in enumerate(outputs) for name, array in sample.items()]
    can = [(name, at, array) for name, at, array in arrays if array.dtype.kind in "fiub"]
    cap = _cap([array.size for _, _, array in can], limit)
    kept = tuple(
        KeptOutput(name, at, array.shape, array.dtype.name, digest({name: array}), min(array.size, cap))
        for name, at, array in can
    )
    elements = (
        array.reshape(-1)[places(name, array.shape, at, one.count)] if one.count < array.size else array.reshape(-1)
        for one, (name, at, array) in zip(kept, can, strict=True)
    )
    return kept, tuple(elements)


def _cap(sizes: Sequence[int], limit: int) -> int:
    """Of how many elements an array may be to be kept whole, so that all of them together are within the limit."""
    left, sizes = limit, sorted(sizes)
    for at, size in enumerate(sizes):
        share = left // (len(sizes) - at)
        if size > share:
            return share
        left -= size
    return max(sizes, default=0)


def raw_arrays(numerics: Numerics, elements: Sequence[Array]) -> dict[str, Array]:
    """The members of the file. ``elements``: as ``keep`` gave them with ``numerics.kept``."""
    text = json.dumps(to_json(numerics), allow_nan=False).encode()
    members = {f"elements/{at}": array for at, array in enumerate(elements) if numerics.kept[at].count}
    return {"numerics": np.frombuffer(text, np.uint8), **members}


def read_numerics(path: Path) -> Numerics:
    """What a row was judged from. Raises ``RecordError`` for a file that is missing, damaged or of a newer schema."""
    try:
        value = json.loads(bytes(_member(path, "numerics")))
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path.name} is damaged: {error}") from error
    schema = value.get("schema") if isinstance(value, dict) else None
    if isinstance(schema, int) and schema > RAW_SCHEMA:
        raise RecordError(f"{path.name} has schema {schema}; this trigate reads up to {RAW_SCHEMA}: upgrade trigate.")
    numerics = from_json(Numerics, value)
    for entry in numerics.outputs:
        _check(entry, path.name)
    return numerics


def _check(entry: OutputStatistics, where: str) -> None:
    """Statistics that nobody measured: none at all, or a NaN, which no tolerance is under or over."""
    figures = [
        figure
        for one in entry.samples
        for figure in (one.norm, one.error_norm, one.ratio, one.max_abs, one.max_rel, one.cosine)
    ]
    is_whole = bool(entry.samples) != bool(entry.obstacle) and (
        bool(entry.obstacle) or len(entry.samples) == entry.count
    )
    if (
        not is_whole
        or any(figure is not None and math.isnan(figure) for figure in figures)
        or any(not 0 <= one.worst < max(math.prod(one.shape), 1) for one in entry.samples)
    ):
        raise RecordError(f"{where}: the statistics of {entry.output!r} are none that a row gives.")


def read_elements(path: Path, numerics: Numerics, output: str) -> dict[int, tuple[KeptOutput, Array]]:
    """By sample what is kept of one output. Raises ``RecordError`` for what is missing, damaged or not what it is said to be."""
    found = {}
    for at, one in enumerate(numerics.kept):
        size = math.prod(one.shape)
        if one.output != output or (not one.count and size):
            continue
        array = _member(path, f"elements/{at}") if one.count else np.empty(0, one.dtype)
        if array.shape != (one.count,) or one.count > size or array.dtype.name != one.dtype:
            raise RecordError(f"{path.name}: elements/{at} are not the {one.count} of {one.dtype} that it names.")
        found[one.sample] = one, array
    return found


def _member(path: Path, name: str) -> Array:
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo(f"{name}.npy").file_size
            if size > _MOST_BYTES:
                raise RecordError(f"{path.name}: {name} is said to have {size} bytes; expected at most {_MOST_BYTES}.")
            with archive.open(f"{name}.npy") as member:
                return np.asarray(np.lib.format.read_array(member, allow_pickle=False))
    except KeyError as error:
        raise RecordError(f"{path.name} has no {name}.") from error
    except OSError as error:
        raise RecordError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    except (ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(f"{path.name} is damaged: {error}.") from error


@dataclass(frozen=True)
class RawFile:
    """A row's file, of which the elements are read where they are asked for."""

    path: Path
    numerics: Numerics

    def of(self, output: str) -> dict[int, KeptOutput]:
        """By sample what is known of one output."""
        return {one.sample: one for one in self.numerics.kept if one.output == output}

    def elements(self, output: str) -> dict[int, tuple[KeptOutput, Array]]:
        """As ``read_elements``."""
        return read_elements(self.path, self.numerics, output)
