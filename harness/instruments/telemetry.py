"""What a board says while something runs on it: its instruments together, and a thread that asks them on time.

An instrument that is absent, slow or broken costs its own figures, with the reason, and never a measurement.
"""

from __future__ import annotations

import os
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.errors import UsageError, did_you_mean
from harness.instruments import Instrument, Reading
from harness.instruments.jtop import JtopInstrument
from harness.instruments.nvml import NvmlInstrument
from harness.instruments.sysfs import MemoryInstrument, SysfsInstrument
from harness.instruments.trace import Frame, Trace, Values
from runtime.thermal_sources.jtop import load_jtop
from runtime.thermal_sources.nvml import load_nvml

__all__ = ["INSTRUMENTS", "Instruments", "Replay", "Ticker", "Values", "choose_instruments", "next_tick"]

INSTRUMENTS = ("auto", "sysfs", "nvml", "jtop", "trace")
"""What a configuration may name."""

_POLITE = 10  # nice; 19 could starve on a loaded board


class Instruments:
    """Several sources as one frame. Where two give a figure, the first does; ``close`` lets go of all.

    ``notes``: why a source was left out. Threads may share it: they wait for each other, and not for one that hangs in a
    source (``PATIENCE_S``).
    """

    PATIENCE_S = 2.0

    def __init__(
        self,
        sources: Sequence[Instrument],
        *,
        notes: Sequence[str] = (),
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._clock = clock
        self._spent_ns, self._readings = 0, 0
        self.sources = tuple(sources)
        self.notes = tuple(notes)
        self._given: dict[str, set[str]] = {source.label: set() for source in sources}
        self._places: dict[tuple[str, ...], dict[str, int]] = {}
        self._missing: dict[str, str] = {}
        self._use = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the values that any reading had so far, sorted."""
        return tuple(sorted(set().union(*self._given.values())))

    @property
    def labels(self) -> tuple[str, ...]:
        """Which sources are asked."""
        return tuple(source.label for source in self.sources)

    @property
    def reading_ms(self) -> float | None:
        """How long a reading took, on average; ``None`` before the first."""
        return self._spent_ns / self._readings / 1e6 if self._readings else None

    def read(self, at_ns: int) -> Frame:
        """All sources, once. Never raises."""
        if not self._use.acquire(timeout=self.PATIENCE_S):
            return Frame(at_ns, missing={"instruments": f"another reading hangs, for over {self.PATIENCE_S:g} s"})
        begun_ns = self._clock()
        try:
            return self._read(at_ns)
        finally:
            self._spent_ns, self._readings = self._spent_ns + self._clock() - begun_ns, self._readings + 1
            self._use.release()

    def _read(self, at_ns: int) -> Frame:
        whole = Reading()
        for source in self.sources:
            try:
                part = source.read()
            except Exception as error:  # whatever a library or a file system does to us
                why = f"{source.label} failed: {' '.join(str(error).split()) or repr(error)}"
                part = Reading(missing={source.label: why, **dict.fromkeys(self._given[source.label], why)})
            self._given[source.label].update(part.values)
            _merge(whole, part, source.label)
        names = tuple(whole.values)
        places = self._places.get(names)
        if places is None:
            places = self._places[names] = {name: at for at, name in enumerate(names)}
        if whole.missing != self._missing:
            self._missing = whole.missing
        return Frame(at_ns, Values(places, array("d", whole.values.values())), tuple(whole.alerts), self._missing)

    def about(self) -> dict[str, str]:
        """What is no number, by name: ``governor``, ``power_w`` (how the total is made up). After a reading."""
        told: dict[str, str] = {}
        for source in self.sources:
            with suppress(Exception):
                told = {**source.about(), **told}
        return told

    def close(self) -> None:
        """Lets go of all, unless a reading hangs in them: what it holds is then left to it."""
        if not self._use.acquire(timeout=self.PATIENCE_S):
            return
        try:
            for source in self.sources:
                with suppress(Exception):
                    source.close()
        finally:
            self._use.release()


_WITH = {"energy_j": "power_w", "gpu_cap_mhz": "gpu_clock_mhz"}
"""A figure that is only good beside another one of the same source: Thor's driver counts its GPU, and sysfs the module."""


def _merge(whole: Reading, part: Reading, label: str) -> None:
    taken = set(whole.values)
    for name, value in part.values.items():
        beside = "gpu_clock_mhz" if name.startswith("limit.") else _WITH.get(name)
        if name not in taken and (beside is None or beside not in taken):
            whole.values[name] = value
            whole.missing.pop(name, None)
        elif name in ("power_w", "energy_j"):
            whole.values[f"{name}.{label}"] = value
    for name, why in part.missing.items():
        if name not in whole.values:
            whole.missing[name] = f"{whole.missing[name]}; {why}" if name in whole.missing else why
    whole.alerts.extend(alert for alert in part.alerts if alert not in whole.alerts)


class Replay:
    """A recorded trace in place of a board: its first frame is now, at the first ``read`` of ``clock`` (monotonic ns)."""

    label = "trace"

    def __init__(self, trace: Trace, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        if not len(trace):
            raise UsageError("the trace holds no frame; record one with `trigate telemetry record`.")
        self._trace = trace
        self._clock = clock
        self._shift_ns: int | None = None

    def read(self) -> Reading:
        """Raises ``EOFError`` once the trace is over."""
        first, last = self._trace.frames[0].at_ns, self._trace.frames[-1].at_ns
        if self._shift_ns is None:
            self._shift_ns = first - self._clock()
        ns = self._clock() + self._shift_ns
        frame = self._trace.at(ns)
        if frame is None or ns > last:
            raise EOFError(f"the trace is over, after {(last - first) / 1e9:g} s")
        return Reading(dict(frame.values), list(frame.alerts), dict(frame.missing))

    def about(self) -> dict[str, str]:
        return {}

    def close(self) -> None:
        self._shift_ns = None


def choose_instruments(
    root: Path = Path("/"),
    *,
    name: str = "auto",
    nvml: Callable[[], Any] = load_nvml,
    jtop: Callable[[], Any] = load_jtop,
    trace: Trace | None = None,
    clock: Callable[[], int] = time.monotonic_ns,
) -> Instruments:
    """The instruments of this host. ``auto``: sysfs, and NVML where it answers. Memory of ``/proc`` is always there.

    ``jtop`` is asked only by name: its service samples once a second. ``nvml``, ``jtop``: what loads the library.
    ``clock``: of a trace. Raises ``UsageError`` for an unknown name, or ``trace`` without one.
    """
    if name not in INSTRUMENTS:
        raise UsageError(f"the telemetry source is {name!r}. {did_you_mean(name, INSTRUMENTS)}")
    memory = MemoryInstrument(root)
    if name == "trace":
        if trace is None:
            raise UsageError("the telemetry source is 'trace', and no trace was given; name its file.")
        return Instruments([Replay(trace, clock=clock)])
    if name == "nvml":
        return Instruments([NvmlInstrument(load=nvml), memory])
    if name == "jtop":
        return Instruments([JtopInstrument(load=jtop), memory])
    if name == "sysfs":
        return Instruments([SysfsInstrument(root), memory])
    driver = NvmlInstrument(load=nvml)
    try:
        answer = driver.read()
    except Exception as error:  # no library, no driver, no GPU: each has its own class
        return Instruments([SysfsInstrument(root), memory], notes=[f"nvml: {error}"])
    if not answer.values:
        driver.close()
        first = next(iter(answer.missing.values()), "no answer")
        return Instruments([SysfsInstrument(root), memory], notes=[f"nvml answers nothing here: {first}"])
    return Instruments([SysfsInstrument(root), driver, memory])


def next_tick(begun_ns: int, period_ns: int, now_ns: int) -> int:
    """When the next tick is due, on the grid of ``begun_ns``: those that were missed are left out, and none drifts."""
    return begun_ns + ((now_ns - begun_ns) // period_ns + 1) * period_ns


class Ticker:
    """Calls ``do`` at once and then each ``period_s``, while inside a ``with``, on a thread of low priority.

    A slow ``do`` misses ticks and never piles up. What it raises is kept in ``error`` (the first one), and it is called
    again. Leaving takes at most a second: a ``do`` that hangs is left behind. ``ticks``: how often it came back.
    Raises ``ValueError`` for a period that is not above 0.
    """

    STOP_WITHIN_S = 1.0

    def __init__(self, period_s: float, do: Callable[[], object]) -> None:
        if not period_s > 0:
            raise ValueError(f"period_s is {period_s!r}; expected seconds above 0.")
        self.error: BaseException | None = None
        self.ticks = 0
        self._period_ns = max(1, round(period_s * 1e9))
        self._do = do
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Ticker:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(self.STOP_WITHIN_S)

    def _run(self) -> None:
        with suppress(AttributeError, OSError):  # Linux alone can do it for one thread
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, max(_POLITE, os.getpriority(os.PRIO_PROCESS, thread)))
        begun_ns = time.monotonic_ns()
        while not self._stopping.is_set():
            try:
                self._do()
            except Exception as error:
                self.error = self.error or error
            self.ticks += 1
            now_ns = time.monotonic_ns()
            self._stopping.wait((next_tick(begun_ns, self._period_ns, now_ns) - now_ns) / 1e9)
