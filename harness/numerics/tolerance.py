"""Tolerances from the physics of rounding, not by hand (methods B3).

A model's outputs are computed in float64, in true fp32, and under simulated rounding noise; what noise does to an
output is what a correct runtime may do to it. The factors are those of the experiment in methods B3: with them no
legal variant was refused and every planted bug was found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.numerics.parity import is_exact_kind, sample_errors
from harness.numerics.reference import Reference
from harness.records import RecordError, Tolerance, from_json, to_json
from runtime.files import write_atomic
from runtime.protocol import Array

__all__ = ["ROUNDOFF", "StoredTolerances", "derive", "load", "save"]

ROUNDOFF = {"fp32": 2.0**-24, "fp16": 2.0**-11}
"""Unit roundoff of each lane."""

_UNSTABLE = 0.1  # an error of 10 % is no rounding error any more: nothing can be judged by such a reference
_FLOOR_ULP = 2.0  # an output that noise does not touch (a copy, a clamp) may still be rounded once or twice
_FP16_MAX = 65504.0
_FP16_RISK = _FP16_MAX / 4.0
_SCHEMA = 1


def derive(
    reference: Reference,
    feeds: Sequence[Mapping[str, Array]],
    *,
    lane: str,
    runs: int = 8,
    seed: int = 0,
    exact: Sequence[Mapping[str, Array]] | None = None,
) -> dict[str, Tolerance]:
    """The tolerance of each output in a lane (``fp32``, ``fp16``), from realistic ``feeds`` (random ones are too mild).

    ``rel_l2_max`` = 2 · p99 and ``rel_l2_median`` = 1.5 · median of the errors of ``runs`` noisy runs per feed, never
    under a few ulp. In the fp32 lane twice the error of the true fp32 run counts as well, as one of these errors: noise
    on results does not show how products are accumulated inside an op, and another library may be worse at it. Integer
    and boolean outputs: 2 · p99 of the share of elements that noise flips, with no floor, so that a stable one is
    compared exactly. ``amplification`` is κ = e32 / 2^-24 of the worst feed.

    An output with κ·u, or with noise itself, over 10 % has no tolerance (``rel_l2_max`` None, the reason in ``why``):
    its rows are INCONCLUSIVE. ``exact``: the results of ``reference.exact``, if they are at hand.
    Raises ``ValueError`` for an unknown lane or no feeds, and what the reference raises.
    """
    if lane not in ROUNDOFF:
        raise ValueError(f"lane is {lane!r}; expected one of {', '.join(ROUNDOFF)}.")
    if not feeds or runs < 1:
        raise ValueError(f"{len(feeds)} feeds and {runs} runs were given; a tolerance needs at least one of each.")
    u = ROUNDOFF[lane]
    truth = list(exact) if exact is not None else [reference.exact(feed) for feed in feeds]
    single = [reference.single(feed) for feed in feeds]
    noisy = [
        [reference.noisy(feed, u=u, seed=seed + 1000003 * at + run) for at, feed in enumerate(feeds)]
        for run in range(runs)
    ]
    note = _range_note(reference, feeds) if lane == "fp16" else ""
    return {
        name: _tolerance(
            name,
            lane,
            _errors(truth, single, name),
            [error for outputs in noisy for error in _errors(truth, outputs, name)],
            exactly=is_exact_kind(truth[0][name]),
            note=note,
        )
        for name in reference.output_names
    }


@dataclass(frozen=True)
class StoredTolerances:
    """Tolerances of one lane, and the digest (``parity.digest_set``) of the inputs that they were derived from."""

    lane: str
    inputs_sha256: str
    tolerances: tuple[Tolerance, ...]
    schema: int = _SCHEMA

    def by_output(self) -> dict[str, Tolerance]:
        return {entry.output: entry for entry in self.tolerances}


def save(path: Path, stored: StoredTolerances) -> None:
    """Write as JSON, atomically."""
    write_atomic(path, json.dumps(to_json(stored), indent=1, sort_keys=True).encode())


def load(path: Path, *, inputs_sha256: str | None = None) -> StoredTolerances:
    """The inverse of ``save``. Raises ``RecordError`` for another form, or for tolerances of other inputs."""
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise RecordError(f"{path.name} is not JSON: {error}") from error
    stored = from_json(StoredTolerances, value)
    if stored.schema != _SCHEMA:
        raise RecordError(f"{path.name} has schema {stored.schema}; this trigate reads {_SCHEMA}.")
    if inputs_sha256 is not None and stored.inputs_sha256 != inputs_sha256:
        raise RecordError(
            f"{path.name} was derived from inputs {stored.inputs_sha256[:12]}, and these are {inputs_sha256[:12]}: "
            "derive the tolerances again."
        )
    return stored


def _errors(truth: Sequence[Mapping[str, Array]], outputs: Sequence[Mapping[str, Array]], name: str) -> list[float]:
    """Per feed. Infinite where noise changed the shape, put a NaN or an Inf in place, or filled an all-zero output."""
    pairs = [(np.asarray(r[name]), np.asarray(y[name])) for r, y in zip(truth, outputs, strict=True)]
    if any(r.shape != y.shape or not _same_specials(r, y) for r, y in pairs):
        return [float("inf")] * len(pairs)
    errors = sample_errors([r for r, _ in pairs], [y for _, y in pairs])
    return [float("inf") if error is None else error for error in errors]


def _same_specials(r: Array, y: Array) -> bool:
    if is_exact_kind(r):
        return True
    special = ~np.isfinite(r)
    return bool(np.array_equal(special, ~np.isfinite(y)) and np.array_equal(r[special], y[special]))


def _tolerance(
    name: str, lane: str, singles: Sequence[float], noise: Sequence[float], *, exactly: bool, note: str
) -> Tolerance:
    u = ROUNDOFF[lane]
    single, p99 = max(singles), float(np.quantile(noise, 0.99, method="higher"))
    kappa = None if exactly else single / ROUNDOFF["fp32"]
    grown = p99 if exactly or kappa is None else max(p99, kappa * u)
    if not grown <= _UNSTABLE:
        what = "flips" if exactly else "is worth"
        why = f"reference unstable: rounding to {lane} {what} {grown:.2g} of it, more than {_UNSTABLE:g}{note}"
        return Tolerance(name, "derived", None, None, _finite(kappa), why)
    floor = 0.0 if exactly else _FLOOR_ULP * 2.0 * u
    median = float(np.median(noise))
    if lane == "fp32":
        p99, median = max(p99, 2.0 * single), max(median, 2.0 * float(np.median(singles)))
    largest = max(2.0 * p99, floor)
    why = f"2 x p99 and 1.5 x median of {len(noise)} rounding runs at u=2^{int(np.log2(u))}"
    if lane == "fp32":
        why += ", or of twice the fp32 run's"
    elif kappa is not None and largest > floor and not kappa * u / 4.0 <= largest <= kappa * u * 4.0:
        why += f"; a human should look: {largest:.2g} is not within 4 times of kappa*u = {kappa * u:.2g}"
    if exactly:  # shares of a few flips have no useful median
        return Tolerance(name, "derived", largest, largest, kappa, why + note)
    return Tolerance(name, "derived", largest, max(1.5 * median, floor / 2.0), kappa, why + note)


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _range_note(reference: Reference, feeds: Sequence[Mapping[str, Array]]) -> str:
    peak, where = max(reference.peak(feed) for feed in feeds)
    if peak <= _FP16_RISK:
        return ""
    words = "does not fit fp16 (65504)" if peak > _FP16_MAX else "is near the end of fp16 (65504): overflow risk"
    return f"; the largest value, {peak:.3g} at {where}, {words}"
