"""Latency series of known truth for ``harness.statistics.truth``, and how a generator from outside is called (methods A5).

A generator is a function of (numpy Generator, number of samples, rate in Hz) that gives latencies of any positive scale, in
the order of the schedule. Its budget is put where the wanted share of many long sessions exceeds.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from scipy.signal import lfilter

from harness.errors import UsageError
from harness.statistics.steadiness import SoakRule
from runtime.protocol import Array

__all__ = ["SCENARIOS", "Scenario", "Series", "from_outside"]

Series = Callable[[np.random.Generator, int, float], tuple[Array, Array]]
"""(chance, count, rate_hz) -> latencies float64 [count] with any unit, and missed bool [count]."""

_SIGMA = 0.06
_WARM_C, _RISE_C, _TAU_S = 40.0, 35.0, 200.0


@dataclass(frozen=True)
class Scenario:
    """``times_s``: the most that a decision may take in the median where 2 % exceed. ``has_sensor``: its temperature rises
    as ``drift`` does, and measuring starts when the soak rule says so; without one the rule's least time is waited.
    """

    name: str
    series: Series
    rate_hz: float = 39.0
    has_sensor: bool = False
    most_median_s: float = 600.0
    soak: SoakRule = field(default_factory=SoakRule)

    def soak_s(self) -> float:
        """How long the soak lasts, in seconds: what comes before is measured by the naive rules, and not judged by ours."""
        if not self.has_sensor:
            return self.soak.least_s
        times = np.arange(0.0, self.soak.most_s, 10.0)
        temperatures = _WARM_C + _RISE_C * (1.0 - np.exp(-times / _TAU_S))
        return float(
            next(
                (times[n - 1] for n in range(1, times.size) if self.soak.is_steady(times[:n], temperatures[:n])), 1800.0
            )
        )


def _never_missed(make: Callable[[np.random.Generator, int, float], Array]) -> Series:
    return partial(_with_none_missed, make)


def _with_none_missed(
    make: Callable[[np.random.Generator, int, float], Array], chance: np.random.Generator, count: int, rate_hz: float
) -> tuple[Array, Array]:
    return make(chance, count, rate_hz), np.zeros(count, bool)


def _body(chance: np.random.Generator, count: int) -> Array:
    return np.asarray(np.exp(_SIGMA * chance.standard_normal(count)))


def _spiked(chance: np.random.Generator, body: Array, share: float) -> Array:
    return np.asarray(np.where(chance.random(body.size) < share, 1.5 * body, body))


def iid(chance: np.random.Generator, count: int, rate_hz: float) -> Array:
    """A lognormal body of 6 % with 1 % of spikes, each call for itself."""
    del rate_hz
    return _spiked(chance, _body(chance, count), 0.01)


def autoregressive(rho: float, chance: np.random.Generator, count: int, rate_hz: float) -> Array:
    """The body remembers: each call resembles the one before it."""
    del rate_hz
    noise = math.sqrt(1.0 - rho * rho) * chance.standard_normal(count)
    noise[:1] = chance.standard_normal()
    return _spiked(chance, np.exp(_SIGMA * lfilter([1.0], [1.0, -rho], noise)), 0.01)


def spikes(chance: np.random.Generator, count: int, rate_hz: float) -> Array:
    """6 % of calls are half as slow again."""
    del rate_hz
    return _spiked(chance, _body(chance, count), 0.06)


def bursts(length_s: float, chance: np.random.Generator, count: int, rate_hz: float) -> Array:
    """For ``length_s`` at a time, 3 % of all time, every call is slower by a fifth."""
    per_burst = max(1, round(length_s * rate_hz))
    changes = np.zeros(count + 2 * per_burst + 1)
    starts = np.flatnonzero(chance.random(count + per_burst) < 0.03 / per_burst)
    changes[starts] += 1.0
    changes[starts + per_burst] -= 1.0
    slow = np.cumsum(changes)[per_burst : per_burst + count] > 0.5
    return np.asarray(_body(chance, count) * np.where(slow, 1.2, 1.0))


def throttle_saw(chance: np.random.Generator, count: int, rate_hz: float) -> Array:
    """Once a minute, for 8 % of it, the clock is down and calls take 15 % longer."""
    phase = (np.arange(count) / rate_hz / 60.0 + chance.random()) % 1.0
    return np.asarray(_body(chance, count) * np.where(phase < 0.08, 1.15, 1.0))


def warming(chance: np.random.Generator, count: int, rate_hz: float) -> Array:
    """A cold start: 8 % faster than hot, with the time constant of the board's temperature. The truth is the hot state."""
    cold = np.exp(-np.arange(count) / rate_hz / _TAU_S)
    return np.asarray(iid(chance, count, rate_hz) * (1.0 - 0.08 * cold))


SCENARIOS: Mapping[str, Scenario] = {
    one.name: one
    for one in (
        Scenario("iid", _never_missed(iid), most_median_s=120.0),
        Scenario("AR 0.9", _never_missed(partial(autoregressive, 0.9)), most_median_s=120.0),
        Scenario("AR 0.98", _never_missed(partial(autoregressive, 0.98)), most_median_s=295.0),
        Scenario("spikes", _never_missed(spikes), most_median_s=120.0),
        Scenario("bursts 0.5 s", _never_missed(partial(bursts, 0.5)), most_median_s=220.0),
        Scenario("bursts 2.5 s", _never_missed(partial(bursts, 2.5)), most_median_s=math.inf),
        Scenario("throttle saw", _never_missed(throttle_saw)),
        Scenario("drift", _never_missed(warming), has_sensor=True, most_median_s=120.0),
        Scenario("3 Hz AR 0.5", _never_missed(partial(autoregressive, 0.5)), rate_hz=3.0, most_median_s=220.0),
    )
}

_TRIAL = 512
_ROLES = {
    "chance": ("rng", "chance", "random", "generator", "gen", "rand", "random_state", "prng", "rnd"),
    "seed": ("seed", "random_seed"),
    "count": ("n", "count", "size", "samples", "n_samples", "num_samples", "nsamples", "length", "num", "number"),
    "rate": ("rate", "rate_hz", "hz", "fs", "frequency", "frequency_hz"),
}


def from_outside(name: str, function: Callable[..., Any], rate_hz: float, soak_s: float = 180.0) -> Scenario:
    """A scenario from somebody's function, however it names or orders its arguments.

    Called as ``function(chance, count, rate_hz)``. Arguments that are named for what they are (rng, seed, n, size, rate,
    ...) get that instead, in any order; an argument named ``seed`` gets an integer. It may return an array, an array and a
    bool array of what was missed, or an iterator of numbers; a latency that is infinite or NaN is a missed call. The
    first ``soak_s`` seconds of each series are not judged. Raises
    ``UsageError`` where no way of calling it gives latencies, or where the same chance gives two different series.
    """
    said = []
    for form in _forms(function):
        try:
            series = _Outside(name, function, form)
            first, again = (series(np.random.default_rng(1), _TRIAL, rate_hz) for _ in range(2))
        except UsageError:
            raise
        except Exception as error:
            said.append(f"({', '.join(form)}): {type(error).__name__}: {error}")
            continue
        if not np.array_equal(first[0], again[0]):
            raise UsageError(
                f"{name} gives another series for the same chance; draw all randomness from its first argument, so that "
                "a seed repeats the judgement."
            )
        return Scenario(name, series, rate_hz=rate_hz, most_median_s=math.inf, soak=SoakRule(least_s=soak_s))
    raise UsageError(
        f"{name} cannot be called as (numpy Generator, number of samples, rate in Hz) -> latencies. Tried "
        + "; ".join(said[:3])
        + "."
    )


def _forms(function: Callable[..., Any]) -> list[tuple[str, ...]]:
    """Ways to call it, the likeliest first: what each positional argument (or ``name=``) is given."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a callable of an extension module
        parameters = []
    named = {word: role for role, words in _ROLES.items() for word in words}
    roles = [(one, named.get(one.name.lower().strip("_"))) for one in parameters]
    forms: list[tuple[str, ...]] = []
    required = [
        (one, role)
        for one, role in roles
        if role or (one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD))
    ]
    if required and sum(role is None for _, role in required) <= 1 and any(role for _, role in required):
        left = [role for role in ("chance", "count", "rate") if role not in {found for _, found in required}]
        filled = [(one, role or (left[0] if left else "chance")) for one, role in required]
        forms.append(
            tuple(f"{one.name}={role}" if one.kind is not one.POSITIONAL_ONLY else role for one, role in filled)
        )
    for first in ("chance", "seed"):
        forms += [(first, "count", "rate"), (first, "count"), ("count", first), ("count", "rate", first), (first,)]
    return forms


@dataclass(frozen=True)
class _Outside:
    """Somebody's function as a ``Series``. ``form``: what each positional argument (or ``name=``) is given."""

    name: str
    function: Callable[..., Any]
    form: tuple[str, ...]

    def __call__(self, chance: np.random.Generator, count: int, rate_hz: float) -> tuple[Array, Array]:
        given: dict[str, Any] = {"chance": chance, "count": count, "rate": rate_hz}
        if any(part.endswith("seed") for part in self.form):
            given["seed"] = int(chance.integers(0, 2**31 - 1))
        plain = [given[part] for part in self.form if "=" not in part]
        keywords = {part.partition("=")[0]: given[part.partition("=")[2]] for part in self.form if "=" in part}
        found = self.function(*plain, **keywords)
        missed: Any = None
        if isinstance(found, tuple) and len(found) == 2 and np.size(found[0]) == np.size(found[1]) > 2:
            found, missed = found
        if hasattr(found, "__next__"):
            found = np.fromiter(itertools.islice(found, count), np.float64)
        latencies = np.asarray(found, np.float64)
        if latencies.ndim != 1 or latencies.size < count:
            raise UsageError(
                f"{self.name} gives an array of shape {latencies.shape}; expected {count} latencies in one row."
            )
        latencies = latencies[:count]
        lost = ~np.isfinite(latencies) if missed is None else ~np.isfinite(latencies) | np.asarray(missed, bool)[:count]
        if (latencies[~lost] <= 0.0).any():
            raise UsageError(f"{self.name} gives a latency of {latencies[~lost].min():g}; expected latencies above 0.")
        return np.where(lost, np.inf, latencies), lost
