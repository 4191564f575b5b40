"""Outputs against a reference: figures, and what they say (T1-01; methods B2 and B4).

All arithmetic is in float64 and scaled by a power of two, so that neither 1e200 nor 1e-200 spoils a norm; and in blocks,
since a dense output of a full frame is 300 MB. What needs the outputs themselves is ``examine``; ``aggregate`` makes figures
of its statistics alone, so that a stored run is judged again by the same code (``harness.numerics.raw``).
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.records import Check, Outcome, ParityFigures, Tolerance
from runtime.protocol import Array

__all__ = [
    "OutputStatistics",
    "SampleStatistics",
    "aggregate",
    "check_parity",
    "compare",
    "digest",
    "digest_set",
    "error_samples",
    "examine",
    "is_exact_kind",
    "sample_errors",
]


def digest(feed: Mapping[str, Array]) -> str:
    """SHA-256 (hex) of a feed's names, dtypes, shapes and bytes: equal exactly if a runtime is given the same input.

    The order of the names and the memory layout do not matter; byte order is little-endian.
    """
    hasher = hashlib.sha256()
    for name in sorted(feed):
        array = np.asarray(feed[name])
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        head = f"{name}\0{array.dtype.name}\0{','.join(map(str, array.shape))}".encode()
        hasher.update(struct.pack("<QQ", len(head), little.nbytes))  # lengths first: no two feeds share one text
        hasher.update(head)
        hasher.update(little.reshape(-1).view(np.uint8).data if little.size else b"")
    return hasher.hexdigest()


def digest_set(feeds: Iterable[Mapping[str, Array]]) -> str:
    """SHA-256 (hex) of a sequence of feeds, in order."""
    return hashlib.sha256("".join(digest(feed) for feed in feeds).encode()).hexdigest()


def is_exact_kind(array: Array) -> bool:
    """Whether outputs of this dtype are compared element for element: integers and booleans."""
    return array.dtype.kind in "iub"


def sample_errors(expected: Sequence[Array], got: Sequence[Array]) -> list[float | None]:
    """The error e of each sample of one output: ‖y-r‖/‖r‖, or of integers and booleans the share that differs.

    A sample whose reference is all zero is held against the largest reference of the other samples; ``None`` if there
    is none and the output is not zero too. NaN and unequal Inf are left out here, and counted by ``compare``.
    """
    return _errors([_sample(reference, output) for reference, output in zip(expected, got, strict=True)])


@dataclass(frozen=True)
class SampleStatistics:
    """One output of one sample against its reference, over the elements that are finite in both.

    ``norm``: of the reference; ``ratio``: the error e, ``None`` where the reference is all zero. ``worst``: the place of the
    largest error ``max_abs`` in the flattened output. ``unequal``: elements that are not the same value. ``nan``, ``inf``: as
    in ``ParityFigures``.
    """

    shape: tuple[int, ...]
    norm: float
    error_norm: float
    ratio: float | None
    max_abs: float
    worst: int
    max_rel: float | None
    cosine: float | None
    unequal: int
    nan: int
    inf: int


@dataclass(frozen=True)
class OutputStatistics:
    """All samples of one output, in order. ``obstacle``: why it cannot be compared; it has no ``samples`` then.

    ``shape``, ``dtype``: of the first sample as it came; ``count``: of the samples that came.
    """

    output: str
    shape: tuple[int, ...]
    dtype: str
    count: int
    samples: tuple[SampleStatistics, ...] = ()
    obstacle: str = ""


def compare(
    expected: Sequence[Mapping[str, Array]],
    got: Sequence[Mapping[str, Array]],
    tolerances: Mapping[str, Tolerance],
) -> tuple[ParityFigures, ...]:
    """The figures of every output over all samples, in the reference's order; nothing is raised for a wrong output.

    ``rel_l2_*`` of an integer or boolean output is the share of elements that differ. Figures are over the elements
    that are finite in both. An output that cannot be compared (missing, unasked for, of another shape, kind or
    number of samples) has ``max_abs`` None, and ``max_abs_at`` says why; ``check_parity`` makes it a FAIL.
    """
    return aggregate(examine(expected, got), tolerances)


def examine(
    expected: Sequence[Mapping[str, Array]], got: Sequence[Mapping[str, Array]]
) -> tuple[OutputStatistics, ...]:
    """The statistics of every output of the reference, in its order, then of those that it does not have."""
    asked = list(dict.fromkeys(name for outputs in expected for name in outputs))
    extra = dict.fromkeys(name for outputs in got for name in outputs if name not in asked)
    strays = [_statistics(name, (), got, "the reference has no such output") for name in extra]
    return (*(_statistics(name, expected, got, _obstacle(name, expected, got)) for name in asked), *strays)


def aggregate(statistics: Sequence[OutputStatistics], tolerances: Mapping[str, Tolerance]) -> tuple[ParityFigures, ...]:
    """The figures of ``examine``'s statistics, with the tolerance that each output is held against. Pure."""
    return tuple(_figures(entry, tolerances.get(entry.output)) for entry in statistics)


def check_parity(figures: Sequence[ParityFigures]) -> tuple[Check, ...]:
    """One check per output, with the figures that decided in words.

    FAIL: not comparable, a NaN anywhere, an Inf that the reference does not have, or an error over the tolerance.
    INCONCLUSIVE: the derivation found the reference unstable. MEASURED: ignored by the configuration, or no tolerance.
    """
    if not figures:
        return (Check("parity", Outcome.INCONCLUSIVE, "no output was compared."),)
    return tuple(Check(f"parity {entry.output}", *_judge(entry)) for entry in figures)


def error_samples(
    expected: Sequence[Mapping[str, Array]],
    got: Sequence[Mapping[str, Array]],
    *,
    limit: int = 5000,
    seed: int = 0,
    statistics: Sequence[OutputStatistics] | None = None,
) -> dict[str, Array]:
    """For plots: ``<output>/reference`` and ``<output>/error`` (output minus reference), 1-D float64, paired.

    At most ``limit`` finite elements per output, drawn evenly, the largest error always among them. Outputs that
    cannot be compared are left out. ``statistics``: what ``examine`` gave for them, where it was asked already.
    """
    drawn: dict[str, Array] = {}
    generator = np.random.default_rng(seed)
    for entry in examine(expected, got) if statistics is None else statistics:
        name = entry.output
        if entry.obstacle:
            continue
        pairs = [
            (np.asarray(reference[name]).reshape(-1), np.asarray(output[name]).reshape(-1))
            for reference, output in zip(expected, got, strict=True)
        ]
        ends = np.cumsum([len(r) for r, _ in pairs])
        total = int(ends[-1])
        chosen = np.arange(total) if total <= limit else _draw(generator, entry.samples, ends, limit)
        places = np.split(chosen, np.searchsorted(chosen, ends))
        starts = [0, *ends[:-1]]
        taken = zip(pairs, places, starts, strict=False)
        rows = np.concatenate(
            [np.stack((r[at - start], y[at - start]), dtype=np.float64) for (r, y), at, start in taken], axis=1
        )
        references, outputs64 = rows[:, np.isfinite(rows).all(axis=0)]
        with np.errstate(over="ignore"):
            drawn[f"{name}/reference"], drawn[f"{name}/error"] = references, outputs64 - references
    return drawn


def _draw(generator: np.random.Generator, samples: Sequence[SampleStatistics], ends: Array, limit: int) -> Array:
    """``limit`` positions in the samples put end to end, sorted, with that of the largest error among them."""
    worst = _worst(samples)
    largest = int(ends[worst]) - math.prod(samples[worst].shape) + samples[worst].worst
    chosen = generator.choice(int(ends[-1]), size=limit, replace=False)
    if largest not in chosen:
        chosen[0] = largest
    return np.sort(chosen)


def _worst(samples: Sequence[SampleStatistics]) -> int:
    return max(range(len(samples)), key=lambda at: samples[at].max_abs)


_BLOCK = 1 << 15
_SAFE = 400  # numbers under 2^400 and over 2^-400 have squares


def _blocks(reference: Array, output: Array) -> Iterator[tuple[int, Array, Array]]:
    r, y = reference.reshape(-1), output.reshape(-1)
    for start in range(0, len(r), _BLOCK):
        part = slice(start, start + _BLOCK)
        yield start, r[part].astype(np.float64, copy=False), y[part].astype(np.float64, copy=False)


def _top(array: Array) -> float:
    top = float(np.abs(array).max(initial=0.0))
    return top if math.isfinite(top) else float(np.abs(array).max(initial=0.0, where=np.isfinite(array)))


def _dot(left: Array, right: Array) -> float:
    return float(np.einsum("i,i->", left, right))  # np.dot wakes a pool of threads, which costs more than it gives here


def _sample(reference: Array, output: Array) -> SampleStatistics:
    reference, output = np.asarray(reference), np.asarray(output)
    exponent = math.frexp(max((max(_top(r), _top(y)) for _, r, y in _blocks(reference, output)), default=0.0))[1]
    exponent = exponent if abs(exponent) > _SAFE else 0
    square_r = square_y = square_error = product = largest = 0.0
    max_rel: float | None = None
    worst = nan = inf = 0
    for start, given, got in _blocks(reference, output):
        r, y = given, got
        finite = np.isfinite(r) & np.isfinite(y)
        if not finite.all():
            broken = np.isnan(r) | np.isnan(y)
            nan += int(np.count_nonzero(broken))
            inf += int(np.count_nonzero(~finite & ~broken & (r != y)))
            r, y = np.where(finite, r, 0.0), np.where(finite, y, 0.0)
        if exponent:
            r, y = np.ldexp(r, -exponent), np.ldexp(y, -exponent)  # exact: only the exponent moves
        distance = np.abs(y - r)
        square_r, square_y = square_r + _dot(r, r), square_y + _dot(y, y)
        square_error, product = square_error + _dot(distance, distance), product + _dot(r, y)
        at = int(np.argmax(distance))
        if distance[at] > largest:
            largest, worst = float(distance[at]), start + at
        nonzero = r != 0.0
        if nonzero.any():
            with np.errstate(over="ignore"):
                relative = np.divide(distance, np.abs(r), out=np.zeros_like(distance), where=nonzero)
            max_rel = max(max_rel or 0.0, float(relative.max()))
    norm_r, norm_y, error_norm = math.sqrt(square_r), math.sqrt(square_y), math.sqrt(square_error)
    unequal = int(np.count_nonzero(reference != output))
    ratio: float | None = error_norm / norm_r if norm_r > 0.0 else (0.0 if error_norm == 0.0 else None)
    if is_exact_kind(reference):
        ratio = unequal / max(reference.size, 1)
    lengths = norm_r * norm_y
    with np.errstate(over="ignore"):
        return SampleStatistics(
            shape=reference.shape,
            norm=float(np.ldexp(norm_r, exponent)),
            error_norm=float(np.ldexp(error_norm, exponent)),
            ratio=ratio,
            max_abs=float(np.ldexp(largest, exponent)),
            worst=worst,
            max_rel=max_rel,
            cosine=min(1.0, max(-1.0, product / lengths)) if lengths > 0.0 else None,
            unequal=unequal,
            nan=nan,
            inf=inf,
        )


def _errors(samples: Sequence[SampleStatistics]) -> list[float | None]:
    largest = max((sample.norm for sample in samples), default=0.0)
    return [
        sample.error_norm / largest if sample.ratio is None and largest > 0.0 else sample.ratio for sample in samples
    ]


def _kind(array: Array) -> str:
    return {"f": "floating", "i": "integer", "u": "integer", "b": "boolean"}.get(array.dtype.kind, array.dtype.name)


def _obstacle(name: str, expected: Sequence[Mapping[str, Array]], got: Sequence[Mapping[str, Array]]) -> str:
    """Why an output cannot be compared, or nothing."""
    if len(expected) != len(got):
        return f"there are {len(got)} samples, and {len(expected)} of the reference"
    for at, (reference, output) in enumerate(zip(expected, got, strict=True)):
        if name not in reference:
            return f"the reference's sample {at} has no such output"
        if name not in output:
            return f"sample {at} has no such output; it has {', '.join(sorted(output)) or 'none'}"
        r, y = np.asarray(reference[name]), np.asarray(output[name])
        if r.shape != y.shape:
            return f"sample {at} has shape {y.shape}, the reference {r.shape}"
        if _kind(r) != _kind(y):
            return f"sample {at} is {y.dtype} ({_kind(y)}), the reference {r.dtype} ({_kind(r)})"
        if _kind(r) not in ("floating", "integer", "boolean"):
            return f"outputs of {r.dtype} cannot be compared"
    return ""


def _statistics(
    name: str, expected: Sequence[Mapping[str, Array]], got: Sequence[Mapping[str, Array]], obstacle: str
) -> OutputStatistics:
    arrays = [np.asarray(outputs[name]) for outputs in got if name in outputs]
    shape, dtype = (arrays[0].shape, arrays[0].dtype.name) if arrays else ((), "")
    if obstacle:
        return OutputStatistics(name, shape, dtype, len(arrays), obstacle=obstacle)
    samples = tuple(_sample(reference[name], output) for reference, output in zip(expected, arrays, strict=True))
    return OutputStatistics(name, shape, dtype, len(arrays), samples)


def _uncomparable(entry: OutputStatistics, tolerance: Tolerance | None) -> ParityFigures:
    return ParityFigures(
        output=entry.output,
        shape=entry.shape,
        dtype=entry.dtype,
        samples=entry.count,
        rel_l2_max=None,
        rel_l2_median=None,
        max_abs=None,
        max_abs_at=entry.obstacle,
        max_rel=None,
        cosine_min=None,
        sqnr_db=None,
        nan=0,
        inf=0,
        tolerance=tolerance,
    )


def _figures(entry: OutputStatistics, tolerance: Tolerance | None) -> ParityFigures:
    if entry.obstacle:
        return _uncomparable(entry, tolerance)
    samples = entry.samples
    defined = [error for error in _errors(samples) if error is not None]
    worst = _worst(samples)
    at = f"{worst}[{','.join(map(str, _place(samples[worst])))}]"
    exact = np.dtype(entry.dtype).kind in "iub"
    if exact and any(sample.unequal for sample in samples):
        at += f"; {sum(s.unequal for s in samples)} of {sum(math.prod(s.shape) for s in samples)} elements differ"
    error = max(defined, default=None)
    return ParityFigures(
        output=entry.output,
        shape=entry.shape,
        dtype=entry.dtype,
        samples=len(samples),
        rel_l2_max=error,
        rel_l2_median=float(np.median(defined)) if defined else None,
        max_abs=samples[worst].max_abs,
        max_abs_at=at,
        max_rel=max((sample.max_rel for sample in samples if sample.max_rel is not None), default=None),
        cosine_min=min((sample.cosine for sample in samples if sample.cosine is not None), default=None),
        sqnr_db=None if error is None or exact else math.inf if error == 0.0 else -20.0 * math.log10(error),
        nan=sum(sample.nan for sample in samples),
        inf=sum(sample.inf for sample in samples),
        tolerance=tolerance,
    )


def _place(sample: SampleStatistics) -> tuple[int, ...]:
    """The indices of the largest error; none of an output without elements."""
    where = np.unravel_index(sample.worst, sample.shape) if math.prod(sample.shape) else ()
    return tuple(int(step) for step in where)


def _judge(entry: ParityFigures) -> tuple[Outcome, str]:
    tolerance = entry.tolerance
    if tolerance is not None and tolerance.source == "ignore":
        return Outcome.MEASURED, f"ignored{_because(tolerance)}; {_words(entry)}."
    if entry.max_abs is None:
        return Outcome.FAIL, f"{entry.output} cannot be compared: {entry.max_abs_at}."
    if entry.nan:
        return Outcome.FAIL, f"{entry.nan} elements are NaN in the output or in the reference; {_words(entry)}."
    if entry.inf:
        return Outcome.FAIL, f"{entry.inf} elements are Inf where the other side is not; {_words(entry)}."
    if tolerance is None:
        return Outcome.MEASURED, f"no tolerance is set; {_words(entry)}."
    if tolerance.rel_l2_max is None:
        return Outcome.INCONCLUSIVE, f"no tolerance could be derived{_because(tolerance)}; {_words(entry)}."
    if entry.rel_l2_max is None:  # an all-zero reference: the tolerance counts as an absolute one
        passed = entry.max_abs <= tolerance.rel_l2_max
        limit = f"the reference is all zero, so the absolute error is held against {tolerance.rel_l2_max:.3g}"
        return Outcome.PASS if passed else Outcome.FAIL, f"{limit}; {_words(entry)}."
    over = entry.rel_l2_max > tolerance.rel_l2_max
    median = tolerance.rel_l2_median
    over_median = median is not None and entry.rel_l2_median is not None and entry.rel_l2_median > median
    limits = f"{tolerance.source} tolerance {tolerance.rel_l2_max:.3g}" + (
        f", of the median {median:.3g}" if median is not None else ""
    )
    if not over and not over_median:
        return Outcome.PASS, f"{_words(entry)}; {limits}."
    what = " and the ".join(["largest error"] * over + ["median error"] * over_median)
    return Outcome.FAIL, f"over the tolerance, by the {what}: {_words(entry)}; {limits}."


def _because(tolerance: Tolerance) -> str:
    return f" ({tolerance.why})" if tolerance.why else ""


def _words(entry: ParityFigures) -> str:
    if entry.max_abs is None:
        return entry.max_abs_at
    measure = "share of differing elements" if np.dtype(entry.dtype).kind in "iub" else "relative L2 error"
    parts = []
    if entry.rel_l2_max is not None and entry.rel_l2_median is not None:
        parts.append(f"{measure} at most {entry.rel_l2_max:.3g}, median {entry.rel_l2_median:.3g}")
    parts.append(f"max abs {entry.max_abs:.3g} at sample {entry.max_abs_at}")
    if entry.cosine_min is not None and entry.sqnr_db is not None:
        parts.append(f"cosine {entry.cosine_min:.7g}, SQNR {entry.sqnr_db:.1f} dB")
    return ", ".join(parts) + f" ({entry.samples} samples)"
