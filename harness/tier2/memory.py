"""How much memory engines take: by every source there is, side by side, and judged as a maximum (methods A7).

A process's own pages are its PSS (each shared page counted in parts), read from ``/proc``. What the GPU holds for it is
told by the driver where the driver tells it per process (discrete cards and Thor, facts 5.5); on Orin by ``NvMapMemUsed``,
which is of the whole system, so that the growth since a baseline counts and the figure is called approximate. NvMap's pages
are mapped as device memory and are no part of PSS, so that on a board with one memory for CPU and GPU the sum of both counts
each byte once; what the system has lost meanwhile (MemAvailable) stands beside it. The driver's free memory follows MemFree
on such a board, which merely reading a file lowers (facts 5.3): it is recorded and judged by nowhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np

from harness.config import BoardConfig
from harness.records import Check, Figure, Measurement, Outcome, Summary, Verdict
from runtime.protocol import Array

__all__ = [
    "GpuMemory",
    "HighWater",
    "Marks",
    "MemoryMeter",
    "bytes_in_words",
    "find",
    "footprint",
    "high_water",
    "judge_memory",
    "leak",
    "nvml_memory",
    "poll",
    "supported_share",
]

Marks = tuple[Figure, ...]
"""What the sources say at one moment; a figure of each name, ``None`` with a reason where a source is silent."""

_FALLING = (
    "system_available_bytes",
    "system_free_bytes",
    "driver_free_bytes",
    "largest_block_bytes",
    "free_blocks_4mib",
)
"""Marks whose worst is the smallest; of all others it is the largest."""

_NO_GPU = "no engine computes on a GPU"

_BLOCK_BYTES = 4 << 20
"""tegrastats counts the blocks of its ``lfb`` in this size: the largest order of the buddy allocator with 4 KiB pages."""


@dataclass(frozen=True)
class GpuMemory:
    """What a driver says. ``process_bytes``: what it holds for this process, where it tells. ``is_unified``: it is the system's
    memory (an integrated GPU); ``None``: not known. ``why``: where a figure is ``None``.
    """

    free_bytes: int | None = None
    total_bytes: int | None = None
    process_bytes: int | None = None
    is_unified: bool | None = None
    source: str = ""
    why: str = ""


class MemoryMeter:
    """Reads every source below ``root``, for the process ``pid`` (default: this one). Nothing needs root, nothing raises.

    ``gpu``: what the driver says now (``nvml_memory``, or of the process that holds the context). ``ledger``: bytes that the
    runtime itself counts, such as ``lambda: runtime.resident_bytes``.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        pid: int | None = None,
        gpu: Callable[[], GpuMemory] | None = None,
        ledger: Callable[[], int | None] | None = None,
        *,
        page_bytes: int = 4096,
    ) -> None:
        self._proc = root / "proc"
        self._own = self._proc / ("self" if pid is None else str(pid))
        self._gpu = gpu
        self._ledger = ledger
        self._page_bytes = page_bytes

    def marks(self, *, is_light: bool = False) -> Marks:
        """All marks now. ``is_light``: RSS in place of PSS, whose reading walks every page (milliseconds for gigabytes)."""
        return (*self._process(is_light), *self._system(), *self._blocks(), *self._driver(), self._counted())

    def _process(self, is_light: bool) -> Iterator[Figure]:
        status, why = _table(self._own / "status")
        rollup, why_no_pss = (
            ({}, "not asked for, since reading it walks every page") if is_light else _table(self._own / "smaps_rollup")
        )
        peak = _bytes("process_peak_bytes", status, "VmHWM", "the process's high-water mark (VmHWM)", why)
        if "Pss" in rollup:
            yield _bytes("process_bytes", rollup, "Pss", "the process's share of its pages (PSS)", why_no_pss)
        else:
            source = (
                f"the process's resident pages (RSS, which counts shared ones in full; PSS: {why_no_pss or 'no line'})"
            )
            yield _bytes("process_bytes", status, "VmRSS", source, why)
        yield peak

    def _system(self) -> Iterator[Figure]:
        table, why = _table(self._proc / "meminfo")
        yield _bytes("system_available_bytes", table, "MemAvailable", "/proc/meminfo MemAvailable", why)
        yield _bytes("system_free_bytes", table, "MemFree", "/proc/meminfo MemFree", why)
        total, free = table.get("SwapTotal"), table.get("SwapFree")
        known = total is not None and free is not None
        yield Figure(
            "swap_used_bytes",
            float(total - free) if total is not None and free is not None else None,
            "bytes",
            "/proc/meminfo SwapTotal - SwapFree",
            why="" if known else why or "/proc/meminfo has no swap lines",
        )
        missing = "" if "NvMapMemUsed" in table else why or "no NvMapMemUsed in /proc/meminfo: no Orin, Xavier or TX2"
        yield _bytes("nvmap_bytes", table, "NvMapMemUsed", "/proc/meminfo NvMapMemUsed, of the whole system", missing)

    def _blocks(self) -> Iterator[Figure]:
        source = "/proc/buddyinfo"
        orders, why = _free_blocks(self._proc / "buddyinfo")
        largest = max((order for order, count in orders.items() if count), default=None)
        in_block = sum(count * (self._page_bytes << order) // _BLOCK_BYTES for order, count in orders.items()
                       if self._page_bytes << order >= _BLOCK_BYTES)  # fmt: skip
        yield Figure(
            "largest_block_bytes",
            None if largest is None else float(self._page_bytes << largest),
            "bytes",
            f"{source}, the largest free block",
            why=why if largest is None else "",
        )
        yield Figure(
            "free_blocks_4mib", float(in_block) if orders else None, "count", f"{source}, as tegrastats' lfb", why=why
        )

    def _driver(self) -> Iterator[Figure]:
        said = GpuMemory(why="no driver was asked") if self._gpu is None else self._gpu()
        where = f" ({'one memory with the CPU' if said.is_unified else 'its own memory'})"
        source = f"{said.source or 'driver'}{'' if said.is_unified is None else where}"
        for name, value in (
            ("driver_free_bytes", said.free_bytes),
            ("driver_total_bytes", said.total_bytes),
            ("driver_process_bytes", said.process_bytes),
        ):
            why = "" if value is not None else said.why or "the driver does not tell it"
            yield Figure(name, None if value is None else float(value), "bytes", source, why=why)

    def _counted(self) -> Figure:
        counted = None if self._ledger is None else self._ledger()
        return Figure(
            "ledger_bytes",
            None if counted is None else float(counted),
            "bytes",
            "the runtime's own count (resident_bytes)",
            why="" if counted is not None else "the runtime counts no bytes",
        )


def nvml_memory(pid: int, index: int = 0) -> GpuMemory:
    """What NVML says of card ``index`` and of process ``pid`` there. Orin answers "not supported" to nearly all (facts 7.2)."""
    try:
        import pynvml
    except ImportError as error:
        return GpuMemory(source="NVML", why=f"pynvml is not installed ({error})")
    try:
        pynvml.nvmlInit()
    except Exception as error:  # NVML makes its error classes as it goes
        return GpuMemory(source="NVML", why=f"nvmlInit: {error}")
    try:
        card = pynvml.nvmlDeviceGetHandleByIndex(index)
        free = total = own = None
        missed: list[str] = []
        try:
            memory = pynvml.nvmlDeviceGetMemoryInfo(card)
            free, total = int(memory.free), int(memory.total)
        except Exception as error:
            missed.append(f"nvmlDeviceGetMemoryInfo: {error}")
        try:
            found = [each for each in pynvml.nvmlDeviceGetComputeRunningProcesses(card) if each.pid == pid]
            own = found[0].usedGpuMemory if found else None
            if own is None:
                missed.append(f"process {pid} is not among the card's processes, or its bytes are not told")
        except Exception as error:
            missed.append(f"nvmlDeviceGetComputeRunningProcesses: {error}")
        return GpuMemory(free, total, None if own is None else int(own), None, "NVML", "; ".join(missed))
    except Exception as error:
        return GpuMemory(source="NVML", why=str(error))
    finally:
        pynvml.nvmlShutdown()


def find(marks: Iterable[Figure], name: str) -> Figure:
    """The figure of that name; one without a value where it is not among them."""
    return next((mark for mark in marks if mark.name == name), Figure(name, None, "bytes", why="it was not read"))


def footprint(
    before: Marks, now: Marks, *, is_unified: bool | None = None, card_is_ours: bool = False, on_gpu: bool = True
) -> Marks:
    """What one process takes: ``host_bytes``, ``gpu_bytes``, ``total_bytes``, and ``system_taken_bytes`` to hold against them.

    ``before``: marks from before the process began (or opened anything), for sources that speak of the whole system.
    ``is_unified``: CPU and GPU share one memory; by default where there is NvMap. ``card_is_ours``: nobody else uses a
    discrete card, so that the fall of its free memory is ours. ``on_gpu``: any engine computes there.

    The GPU's bytes are the first that is known of: the driver's for this process; NvMap's growth; the fall of the driver's
    free memory, or on one memory what the system lost beside the process's own pages; and at last the runtime's ledger,
    which knows nothing of the context and the libraries' own: it is the least it can be, and is said to be.
    """
    unified = find(now, "nvmap_bytes").value is not None if is_unified is None else is_unified
    host = replace(find(now, "process_bytes"), name="host_bytes")
    gpu = Figure("gpu_bytes", None, "bytes", why=_NO_GPU)
    if on_gpu:
        gpu = _gpu_bytes(before, now, unified=unified, card_is_ours=card_is_ours)
    taken = _growth(before, now, "system_available_bytes", falling=True)
    if not on_gpu:
        total = replace(host, name="total_bytes")
    elif not unified:
        total = Figure("total_bytes", None, "bytes", why="the card has its own memory: host and GPU are two figures")
    elif host.value is None or gpu.value is None:
        total = Figure("total_bytes", None, "bytes", why=host.why or gpu.why)
    else:
        total = Figure("total_bytes", host.value + gpu.value, "bytes", f"{host.source} + {gpu.source}")
    available = "fall of MemAvailable since the baseline, of the whole system (approximate)"
    silent = "" if taken is not None else "MemAvailable is not known at both moments"
    return (host, gpu, total, Figure("system_taken_bytes", taken, "bytes", available, why=silent))


def _gpu_bytes(before: Marks, now: Marks, *, unified: bool, card_is_ours: bool) -> Figure:
    own, counted = find(now, "driver_process_bytes"), find(now, "ledger_bytes")
    if own.value is not None:
        return replace(own, name="gpu_bytes", source=f"{own.source}, for this process")
    nvmap = _growth(before, now, "nvmap_bytes")
    if nvmap is not None:
        return Figure(
            "gpu_bytes", nvmap, "bytes", "growth of NvMapMemUsed since the baseline, of the whole system (approximate)"
        )
    given = _growth(before, now, "driver_free_bytes", falling=True)
    if given is not None and card_is_ours and not unified:
        return Figure(
            "gpu_bytes", given, "bytes", f"fall of the driver's free memory ({find(now, 'driver_free_bytes').source})"
        )
    taken, host = _growth(before, now, "system_available_bytes", falling=True), find(now, "process_bytes").value
    if unified and taken is not None and host is not None:
        source = "fall of MemAvailable since the baseline less the process's own pages (approximate)"
        return Figure("gpu_bytes", max(0.0, taken - host), "bytes", source)
    if counted.value is not None:
        return replace(
            counted, name="gpu_bytes", source=f"{counted.source}: at least, without the context and libraries"
        )
    return Figure("gpu_bytes", None, "bytes", why=f"neither driver nor NvMap nor the runtime tells ({own.why})")


def _growth(before: Marks, now: Marks, name: str, *, falling: bool = False) -> float | None:
    first, last = find(before, name).value, find(now, name).value
    if first is None or last is None:
        return None
    return max(0.0, first - last if falling else last - first)


@dataclass
class HighWater:
    """The worst of many looks, in little memory: any thread may add, and the record stays as small as one look."""

    looks: int = 0
    _worst: dict[str, Figure] = field(default_factory=dict)

    def add(self, marks: Iterable[Figure]) -> None:
        """One more look. A source that is silent now takes nothing from what it said before."""
        self.looks += 1
        for mark in marks:
            known = self._worst.get(mark.name)
            if known is None or known.value is None or (mark.value is not None and _is_worse(mark, known.value)):
                self._worst[mark.name] = mark

    def figures(self) -> Marks:
        """One figure of each name, with how often was looked in its source."""
        looked = f", worst of {self.looks} looks" if self.looks > 1 else ""
        return tuple(
            replace(mark, source=f"{mark.source}{looked}" if mark.source else "") for mark in list(self._worst.values())
        )


def _is_worse(mark: Figure, than: float) -> bool:
    value = mark.value
    return value is not None and (value < than if mark.name in _FALLING else value > than)


def high_water(samples: Iterable[Marks]) -> Marks:
    """The worst of each mark over all looks."""
    seen = HighWater()
    for marks in samples:
        seen.add(marks)
    return seen.figures()


@contextmanager
def poll(
    meter: MemoryMeter,
    every: Callable[[float, Callable[[], None]], AbstractContextManager[None]],
    period_s: float = 1.0,
    *,
    is_light: bool = False,
) -> Iterator[HighWater]:
    """Look each period while inside, and once at each end. ``every``: as ``Station.every``."""
    seen = HighWater()
    seen.add(meter.marks())
    with every(period_s, lambda: seen.add(meter.marks(is_light=is_light))):
        yield seen
    seen.add(meter.marks())


_CYCLE_SHARE = 0.01
_LEAST_CYCLES = 10
_MOST_POINTS = 300


def leak(
    after: Sequence[float],
    *,
    unit: str = "cycle",
    calls: int = 1,
    confidence: float = 0.99,
    matters_bytes: float | None = None,
    page_bytes: int = 4096,
) -> tuple[Figure, Check]:
    """Whether memory grows from one look to the next, and how fast; bytes per ``unit``.

    ``after``: bytes after each cycle of load and release, or after every ``calls`` calls. The first half is left out: what is
    allocated once grows there and then stays. The slope is the median of the slopes of all pairs (Theil 1950), its interval
    that of Kendall's S (Sen 1968) with the variance of correlated series (Yue and Wang 2004), so that single steps and slow
    wandering are no leak. FAIL where the whole interval is above zero. Else no growth was seen, together with the smallest
    leak that would have been; INCONCLUSIVE where that is over ``matters_bytes`` per ``unit``, or with too few looks.
    """
    name, source = f"leak_bytes_per_{unit}", f"slope of {len(after)} looks, one each {calls} {unit}s"
    if calls == 1:
        source = f"slope of {len(after)} looks, one each {unit}"
    kept = np.asarray(after, np.float64)[len(after) // 2 :]
    if len(kept) < _LEAST_CYCLES:
        why = f"{len(after)} looks say nothing of a leak; at least {2 * _LEAST_CYCLES - 1} are needed"
        return Figure(name, None, "bytes", source, why=why), Check("leak", Outcome.INCONCLUSIVE, why)
    points = _thinned(np.arange(len(kept), dtype=np.float64), kept)
    slope, low, high = (value / calls for value in _theil_sen(*points, confidence=confidence))
    figure = Figure(name, slope, "bytes", source, low, high)
    # where all looks are alike, one page at the very end would still not be a trend
    visible = max(high - low, page_bytes / len(kept) / calls)
    if low > 0:
        reason = f"grows by {_per(slope, low, high, unit)}"
        return figure, Check("leak", Outcome.FAIL, reason, "memory runs out in a long flight")
    reason = f"no growth seen ({_per(slope, low, high, unit)}); {_each(visible, unit)} or more would have been"
    if matters_bytes is not None and visible > matters_bytes:
        more = math.ceil(len(after) * ((visible / matters_bytes) ** (2 / 3) - 1))
        needs = f", and {_each(matters_bytes, unit)} matter: about {more} more looks would decide"
        return figure, Check("leak", Outcome.INCONCLUSIVE, reason + needs)
    return figure, Check("leak", Outcome.PASS, reason)


def _thinned(x: Array, y: Array) -> tuple[Array, Array]:
    """At most ``_MOST_POINTS`` points, each the median of those that it stands for: all pairs of a million are too many."""
    groups = min(len(x), _MOST_POINTS)
    parts = zip(np.array_split(x, groups), np.array_split(y, groups), strict=True)
    middle = [(float(a.mean()), float(np.median(b))) for a, b in parts]
    return np.array([a for a, _ in middle]), np.array([b for _, b in middle])


def _theil_sen(x: Array, y: Array, *, confidence: float) -> tuple[float, float, float]:
    count = len(x)
    first, second = np.triu_indices(count, 1)
    slopes = np.sort((y[second] - y[first]) / (x[second] - x[first]))
    slope = float(np.median(slopes))
    ties = np.unique(y, return_counts=True)[1].astype(np.float64)
    variance = (count * (count - 1) * (2 * count + 5) - float(np.sum(ties * (ties - 1) * (2 * ties + 5)))) / 18
    spread = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(
        max(variance, 0.0) * _correlation_factor(y - slope * x)
    )
    lower, upper = math.floor((len(slopes) - spread) / 2), math.ceil((len(slopes) + spread) / 2)
    return slope, float(slopes[max(lower, 0)]), float(slopes[min(upper, len(slopes) - 1)])


def _correlation_factor(rest: Array) -> float:
    """By how much correlation between looks widens the variance of Kendall's S; at least 1 (Yue and Wang 2004).

    As of a series whose neighbours correlate as these do, corrected for what a short series hides of it.
    """
    count = len(rest)
    centred = rest - rest.mean()
    power = float(np.dot(centred, centred))
    if power == 0:
        return 1.0
    neighbours = float(np.dot(centred[1:], centred[:-1])) / power
    correlation = min(max((count * neighbours + 2) / (count - 4), 0.0), 0.95)
    return (1 + correlation) / (1 - correlation)


def _per(slope: float, low: float, high: float, unit: str) -> str:
    """``about 1.0 MB per 100 calls [0.9, 1.1]``."""
    each = 100 if unit == "call" else 1
    scale, word = _scale(max(abs(value) for value in (slope, low, high)) * each)
    a, b, c = (value * each / scale for value in (slope, low, high))
    return f"about {_figures(a)} {word} per {_count(each, unit)} [{_figures(b)}, {_figures(c)}]"


def _each(value: float, unit: str) -> str:
    each = 100 if unit == "call" else 1
    scale, word = _scale(value * each)
    return f"{_figures(value * each / scale, 2)} {word} per {_count(each, unit)}"


def _figures(value: float, digits: int = 3) -> str:
    """So many figures that count, and no exponent."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    return f"{round(value, digits - 1 - exponent):.{max(0, digits - 1 - exponent)}f}"


def _count(number: int, unit: str) -> str:
    return unit if number == 1 else f"{number} {unit}s"


def _scale(value: float) -> tuple[float, str]:
    return next(
        ((size, word) for size, word in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if value >= size), (1.0, "bytes")
    )


def bytes_in_words(value: float) -> str:
    """``3.21 GiB``, ``812 MiB``."""
    for size, word in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if abs(value) >= size:
            return f"{value / size:.3g} {word}"
    return f"{value:g} bytes"


def supported_share(launches: int, confidence: float = 0.95) -> float:
    """The share q of all launches that stay under a limit which none of ``launches`` exceeded: 1 - q^n = confidence (A7)."""
    return (1.0 - confidence) ** (1.0 / launches) if launches else 0.0


def judge_memory(
    measurement: Measurement,
    engines: Mapping[str, Sequence[Figure]],
    resident: Sequence[Sequence[Figure]],
    cycles: Mapping[str, Sequence[float]],
    *,
    board: BoardConfig | None,
    killed: Sequence[str] = (),
    failed: Sequence[str] = (),
    calls: Mapping[str, Sequence[float]] | None = None,
    calls_per_look: int = 100,
    flight_calls: int = 140_400,
) -> Verdict:
    """The row about memory of one runtime: a maximum over launches, never a percentile.

    ``engines``: the footprint and high-water marks of each engine alone, by model. ``resident``: those with all engines
    resident, one per launch. ``cycles``: bytes after each load and release, ``calls``: bytes after every
    ``calls_per_look`` calls, by what was repeated. ``killed``: launches that the kernel ended (SIGKILL that was not ours,
    exit 137), in words; each counts as over budget. ``failed``: processes that ended otherwise, in words.

    FAIL: over a budget of ``board``, a leak, or a process without a result. INCONCLUSIVE where a leak could go unseen that
    would use up a budget in ``flight_calls`` calls (an hour at 39 Hz), or a hundredth of it in one load and release.
    MEASURED without a board.
    """
    from harness.gates import worst  # brings scipy, which a process that is measured for its memory must not hold

    figures: list[Figure] = [
        replace(mark, name=f"{mark.name}[{model}]") for model, marks in engines.items() for mark in marks
    ]
    figures += high_water(tuple(marks) for marks in resident)
    checks = list(budget_checks(resident, killed, board))
    for what, after in cycles.items():
        found = leak(after, matters_bytes=_share_of(board, what, _CYCLE_SHARE))
        figures.append(_leak_into(checks, what, *found, is_held=board is not None))
    for what, after in (calls or {}).items():
        found = leak(after, unit="call", calls=calls_per_look, matters_bytes=_share_of(board, what, 1 / flight_calls))
        figures.append(_leak_into(checks, what, *found, is_held=board is not None))
    if killed and all(check.outcome is Outcome.MEASURED for check in checks[:2]):
        reason = f"{len(killed)} of {len(resident) + len(killed)} launches: {killed[0]}"
        checks.append(Check("kernel", Outcome.FAIL, reason, "the system has not enough memory for these engines"))
    checks += [Check("processes", Outcome.FAIL, words, "the runtime does not come up") for words in failed]
    summary = Summary(measurement, figures=tuple(figures))
    held = [check for check in checks if check.outcome is not Outcome.NOT_RUN]
    if not held:
        return Verdict(summary, Outcome.NOT_RUN, checks[0].reason, tuple(checks))
    deciding = worst(held)
    budgets = [check for check in checks[:2] if check.outcome is not Outcome.NOT_RUN]
    reason = (
        "; ".join(check.reason for check in budgets)
        if deciding.outcome in (Outcome.PASS, Outcome.MEASURED)
        else (deciding.reason)
    )
    if deciding.outcome is Outcome.PASS and any(check.outcome is Outcome.MEASURED for check in budgets):
        # no leak is no evidence that a budget is kept
        return Verdict(summary, Outcome.MEASURED, reason, tuple(checks))
    return Verdict(summary, deciding.outcome, reason, tuple(checks))


def _share_of(board: BoardConfig | None, what: str, share: float) -> float | None:
    """That share of the budget for which a series of looks counts: ``MODEL, host`` or ``MODEL, gpu``."""
    if board is None:
        return None
    budget = board.host_memory_bytes if what.endswith("host") else board.gpu_memory_bytes
    return None if budget is None else budget * share


def _leak_into(checks: list[Check], what: str, figure: Figure, check: Check, *, is_held: bool) -> Figure:
    """Where nothing says how large a leak matters, one that was not seen is no evidence of anything."""
    outcome = check.outcome if is_held or check.outcome is Outcome.FAIL else Outcome.MEASURED
    checks.append(replace(check, name=f"leak of {what}", reason=f"{what} {check.reason}", outcome=outcome))
    return replace(figure, name=f"{figure.name}[{what}]")


def budget_checks(
    resident: Sequence[Sequence[Figure]], killed: Sequence[str], board: BoardConfig | None
) -> tuple[Check, Check]:
    """Host and GPU memory of launches with all engines resident, as maxima, against the board's budgets; see ``judge_memory``."""
    return (
        _budget_check("host memory", "host_bytes", resident, killed, board.host_memory_bytes if board else None),
        _budget_check("GPU memory", "gpu_bytes", resident, killed, board.gpu_memory_bytes if board else None),
    )


def _budget_check(
    what: str, name: str, resident: Sequence[Sequence[Figure]], killed: Sequence[str], limit_bytes: int | None
) -> Check:
    marks = [find(launch, name) for launch in resident]
    known = [mark for mark in marks if mark.value is not None]
    largest = max(known, key=lambda mark: mark.value or 0.0, default=None)
    launches = len(resident) + len(killed)
    if marks and all(mark.why == _NO_GPU for mark in marks):
        return Check(what, Outcome.NOT_RUN, f"not applicable: {_NO_GPU}")
    if limit_bytes is None:
        if largest is None or largest.value is None:
            return Check(what, Outcome.NOT_RUN, f"not applicable: {what} is not known: {_silence(marks, killed)}")
        seen = f"{what} up to {bytes_in_words(largest.value)}, all engines resident"
        return Check(what, Outcome.MEASURED, f"{seen}; no budget applies to this board")
    limit = bytes_in_words(limit_bytes)
    if killed:
        reason = f"{what}: over {limit} in {len(killed)} of {launches} launches: {killed[0]}"
        return Check(what, Outcome.FAIL, reason, "the system has not enough memory for these engines")
    if largest is None or largest.value is None:
        return Check(
            what, Outcome.INCONCLUSIVE, f"{what} is not known: {_silence(marks, killed)}; its budget is {limit}"
        )
    over = [mark for mark in known if (mark.value or 0.0) > limit_bytes]
    said = f"{what} {bytes_in_words(largest.value)} of {limit} ({largest.source})"
    if over:
        return Check(what, Outcome.FAIL, f"{said}: over in {len(over)} of {launches} launches")
    if len(known) < launches:
        return Check(
            what, Outcome.INCONCLUSIVE, f"{said}, and {launches - len(known)} of {launches} launches do not tell"
        )
    if "at least" in largest.source:
        return Check(what, Outcome.INCONCLUSIVE, f"{said}: a lower bound cannot show that a budget is kept")
    share = math.floor(1000 * supported_share(launches)) / 10
    under = (
        "the launch is under, which supports" if launches == 1 else f"all {launches} launches are under, which support"
    )
    return Check(what, Outcome.PASS, f"{said}: {under} at least {share:g} % of launches at 95 %")


def _silence(marks: Sequence[Figure], killed: Sequence[str]) -> str:
    return next((mark.why for mark in marks if mark.why), killed[0] if killed else "no launch was seen")


def _table(path: Path) -> tuple[dict[str, int], str]:
    """The ``Name:  123 kB`` lines of a file in bytes, and why there are none."""
    try:
        text = path.read_bytes().decode("ascii", "replace")
    except OSError as error:
        return {}, f"{path.name} cannot be read: {error.strerror or error}"
    found = {
        name: int(number) * 1024 for name, number in re.findall(r"^(\w+):\s+([0-9]{1,18}) kB$", text, re.MULTILINE)
    }
    return found, "" if found else f"{path.name} has no line that can be read"


def _bytes(name: str, table: Mapping[str, int], key: str, source: str, why: str) -> Figure:
    value = table.get(key)
    silent = "" if value is not None else why or f"there is no line {key}"
    return Figure(name, None if value is None else float(value), "bytes", source, why=silent)


def _free_blocks(path: Path) -> tuple[dict[int, int], str]:
    """Free blocks by order (a block of order k has 2^k pages), over all nodes and zones."""
    try:
        text = path.read_bytes().decode("ascii", "replace")
    except OSError as error:
        return {}, f"{path.name} cannot be read: {error.strerror or error}"
    orders: dict[int, int] = {}
    for counts in re.findall(r"^Node\s+\d+,\s+zone\s+\S+((?:\s+[0-9]{1,15})+)\s*$", text, re.MULTILINE):
        for order, count in enumerate(counts.split()):
            orders[order] = orders.get(order, 0) + int(count)
    return orders, "" if orders else f"{path.name} has no line that can be read"
