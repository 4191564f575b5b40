"""Outputs against a reference: figures, and what they say (T1-01; methods B2 and B4).

All arithmetic is in float64 and scaled by a power of two, so that neither 1e200 nor 1e-200 spoils a norm.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.records import Check, Outcome, ParityFigures, Tolerance
from runtime.protocol import Array

__all__ = ["check_parity", "compare", "digest", "digest_set", "error_samples", "is_exact_kind", "sample_errors"]


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
    asked = list(dict.fromkeys(name for outputs in expected for name in outputs))
    extra = dict.fromkeys(name for outputs in got for name in outputs if name not in asked)
    figures = [_figures(name, expected, got, tolerances.get(name)) for name in asked]
    strays = [
        _uncomparable(name, [outputs[name] for outputs in got if name in outputs], "the reference has no such output")
        for name in extra
    ]
    return (*figures, *strays)


def check_parity(figures: Sequence[ParityFigures]) -> tuple[Check, ...]:
    """One check per output, with the figures that decided in words.

    FAIL: not comparable, a NaN anywhere, an Inf that the reference does not have, or an error over the tolerance.
    INCONCLUSIVE: the derivation found the reference unstable. MEASURED: ignored by the configuration, or no tolerance.
    """
    if not figures:
        return (Check("parity", Outcome.INCONCLUSIVE, "no output was compared."),)
    return tuple(Check(f"parity {entry.output}", *_judge(entry)) for entry in figures)


def error_samples(
    expected: Sequence[Mapping[str, Array]], got: Sequence[Mapping[str, Array]], *, limit: int = 5000, seed: int = 0
) -> dict[str, Array]:
    """For plots: ``<output>/reference`` and ``<output>/error`` (output minus reference), 1-D float64, paired.

    At most ``limit`` finite elements per output, drawn evenly, the largest error always among them. Outputs that
    cannot be compared are left out.
    """
    drawn: dict[str, Array] = {}
    generator = np.random.default_rng(seed)
    for name in dict.fromkeys(name for outputs in expected for name in outputs):
        if _obstacle(name, expected, got):
            continue
        references = np.concatenate([_flat(outputs[name]) for outputs in expected])
        outputs64 = np.concatenate([_flat(outputs[name]) for outputs in got])
        finite = np.flatnonzero(np.isfinite(references) & np.isfinite(outputs64))
        with np.errstate(over="ignore"):
            errors = outputs64[finite] - references[finite]
        if len(finite) > limit:
            chosen = generator.choice(len(finite), size=limit, replace=False)
            largest = int(np.argmax(np.abs(errors)))
            if largest not in chosen:
                chosen[0] = largest
            finite, errors = finite[chosen], errors[chosen]
        drawn[f"{name}/reference"], drawn[f"{name}/error"] = references[finite], errors
    return drawn


@dataclass(frozen=True)
class _Sample:
    """One output of one sample. ``norm``: of the reference; ``ratio``: e, ``None`` where the reference is all zero."""

    norm: float
    error_norm: float
    ratio: float | None
    max_abs: float
    at: str
    max_rel: float | None
    cosine: float | None
    unequal: int
    size: int
    nan: int
    inf: int


def _flat(array: Array) -> Array:
    return np.asarray(array).reshape(-1).astype(np.float64, copy=False)


def _sample(reference: Array, output: Array) -> _Sample:
    reference, output = np.asarray(reference), np.asarray(output)
    r, y = _flat(reference), _flat(output)
    nan, finite = np.isnan(r) | np.isnan(y), np.isfinite(r) & np.isfinite(y)
    unequal_inf = ~nan & ~finite & (r != y)
    unequal = int(np.count_nonzero(reference.reshape(-1) != output.reshape(-1)))
    r, y = np.where(finite, r, 0.0), np.where(finite, y, 0.0)
    exponent = int(np.frexp(max(np.abs(r).max(initial=0.0), np.abs(y).max(initial=0.0)))[1])
    scaled_r, scaled_y = np.ldexp(r, -exponent), np.ldexp(y, -exponent)  # exact: only the exponent moves
    distance = np.abs(scaled_y - scaled_r)
    norm_r, norm_y = float(np.linalg.norm(scaled_r)), float(np.linalg.norm(scaled_y))
    error_norm = float(np.linalg.norm(distance))
    nonzero = scaled_r != 0.0
    with np.errstate(over="ignore"):
        max_rel = float((distance[nonzero] / np.abs(scaled_r[nonzero])).max()) if nonzero.any() else None
        worst = int(np.argmax(distance)) if distance.size else 0
        max_abs = float(np.ldexp(distance[worst], exponent)) if distance.size else 0.0
        ratio: float | None = error_norm / norm_r if norm_r > 0.0 else (0.0 if error_norm == 0.0 else None)
        if is_exact_kind(reference):
            ratio = unequal / max(reference.size, 1)
        place = np.unravel_index(worst, reference.shape) if distance.size else ()
        return _Sample(
            norm=float(np.ldexp(norm_r, exponent)),
            error_norm=float(np.ldexp(error_norm, exponent)),
            ratio=ratio,
            max_abs=max_abs,
            at=f"[{','.join(str(int(step)) for step in place)}]",
            max_rel=max_rel,
            cosine=_cosine(scaled_r, scaled_y, norm_r, norm_y),
            unequal=unequal,
            size=reference.size,
            nan=int(np.count_nonzero(nan)),
            inf=int(np.count_nonzero(unequal_inf)),
        )


def _cosine(r: Array, y: Array, norm_r: float, norm_y: float) -> float | None:
    if norm_r == 0.0 or norm_y == 0.0:
        return None
    return min(1.0, max(-1.0, float(np.dot(r / norm_r, y / norm_y))))


def _errors(samples: Sequence[_Sample]) -> list[float | None]:
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


def _uncomparable(name: str, arrays: Sequence[Array], why: str, tolerance: Tolerance | None = None) -> ParityFigures:
    first = np.asarray(arrays[0]) if arrays else None
    return ParityFigures(
        output=name,
        shape=first.shape if first is not None else (),
        dtype=first.dtype.name if first is not None else "",
        samples=len(arrays),
        rel_l2_max=None,
        rel_l2_median=None,
        max_abs=None,
        max_abs_at=why,
        max_rel=None,
        cosine_min=None,
        sqnr_db=None,
        nan=0,
        inf=0,
        tolerance=tolerance,
    )


def _figures(
    name: str,
    expected: Sequence[Mapping[str, Array]],
    got: Sequence[Mapping[str, Array]],
    tolerance: Tolerance | None,
) -> ParityFigures:
    why = _obstacle(name, expected, got)
    if why:
        return _uncomparable(name, [outputs[name] for outputs in got if name in outputs], why, tolerance)
    first = np.asarray(got[0][name])
    samples = [_sample(reference[name], output[name]) for reference, output in zip(expected, got, strict=True)]
    defined = [error for error in _errors(samples) if error is not None]
    worst = max(range(len(samples)), key=lambda at: samples[at].max_abs)
    at = f"{worst}{samples[worst].at}"
    exact = is_exact_kind(first)
    if exact and any(sample.unequal for sample in samples):
        at += f"; {sum(s.unequal for s in samples)} of {sum(s.size for s in samples)} elements differ"
    error = max(defined, default=None)
    return ParityFigures(
        output=name,
        shape=first.shape,
        dtype=first.dtype.name,
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
