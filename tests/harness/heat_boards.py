"""Made-up boards of known physics, as columns and a trace. No verdict is in here: degrees, clocks, cycles and bytes alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.instruments.trace import Frame, Trace
from harness.tier2.samples import Phase, SampleLog, Status
from runtime.protocol import Array

FULL_MHZ = 1000.0
MS = 1_000_000


def always(value: float) -> Callable[[Array], Array]:
    return lambda t: np.full(t.shape, value)


WARM, FULL, LOADED, NEVER, EVEN = always(70.0), always(FULL_MHZ), always(95.0), always(0.0), always(50.0)


@dataclass(frozen=True)
class Board:
    """Functions of time, s. ``work``: million cycles of a call, beside noise. ``calls_s``: how long calls come, at ``rate_hz``.

    ``lost``: no frame in these spans, s. ``lacks``: values that no instrument gives.
    """

    temp_c: Callable[[Array], Array] = WARM
    clock_mhz: Callable[[Array], Array] = FULL
    cap_mhz: Callable[[Array], Array] = FULL
    load_percent: Callable[[Array], Array] = LOADED
    is_alert: Callable[[Array], Array] = NEVER
    oc_events: Callable[[Array], Array] = NEVER
    work: Callable[[Array], Array] = EVEN
    noise: float = 0.06
    rate_hz: float = 10.0
    soak_s: float = 600.0
    measure_s: float = 600.0
    after_s: float = 0.0
    fails: Callable[[Array], Array] = NEVER
    lost: tuple[tuple[float, float], ...] = ()
    lacks: tuple[str, ...] = ()
    seed: int = 7


def run(board: Board) -> tuple[dict[str, Array], Trace]:
    """Columns and trace of one launch: calls one after the other, each as long as its cycles at the clock when it began."""
    due_s = np.arange(0.0, board.soak_s + board.measure_s, 1.0 / board.rate_hz)
    chance = np.random.default_rng(board.seed)
    cycles = board.work(due_s) * np.exp(board.noise * chance.standard_normal(due_s.size))
    failed = board.fails(due_s) > chance.random(due_s.size)
    clock = board.clock_mhz(np.arange(0.0, 8.0 * (board.soak_s + board.measure_s))).tolist()
    rows, free = SampleLog(["mix"]), 0
    for at, (due, million) in enumerate(zip((due_s * 1e9).astype(np.int64).tolist(), cycles.tolist(), strict=True)):
        begun = max(free, due)
        free = begun + int(1e9 * million / clock[begun // 10**9])
        rows.add(
            0, due, begun, begun, free,
            Phase.SOAK if due < board.soak_s * 1e9 else Phase.MEASURE, Status.FAILED if failed[at] else Status.OK,
        )  # fmt: skip
    return rows.columns(), _trace(board, max(board.soak_s + board.measure_s, free / 1e9) + board.after_s)


def _trace(board: Board, seconds: float) -> Trace:
    times = np.arange(0.0, seconds, 1.0)
    said = {
        name: of(times)
        for name, of in (
            ("gpu_temp_c", board.temp_c), ("gpu_clock_mhz", board.clock_mhz), ("gpu_cap_mhz", board.cap_mhz),
            ("gpu_load_percent", board.load_percent), ("oc_events", board.oc_events),
        )
        if name not in board.lacks
    }  # fmt: skip
    alerts = board.is_alert(times) > 0
    return Trace(
        [
            Frame(
                int(t * 1e9),
                {name: float(values[at]) for name, values in said.items()},
                ("gpu-throttle-alert",) if alerts[at] else (),
            )
            for at, t in enumerate(times)
            if not any(first <= t < last for first, last in board.lost)
        ]
    )
