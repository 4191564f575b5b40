"""How the rows of Tier-2 are settled, on any station: measured by one launch or several, aligned, judged, written down."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.baselines import Baselines, with_baseline
from harness.board import check_state
from harness.bump.builds import build_spread, built, launches_for, why_not
from harness.config import BoardConfig, Budget, LoadLimits, ModelConfig
from harness.floors import Floor, FloorKey, Floors, learn, ran_on
from harness.gates import refusal_of
from harness.instruments.recording import trace_table
from harness.instruments.trace import Frame, Trace
from harness.lineage import EngineFacts
from harness.plan import flight_models, lane_of
from harness.profiles import Profile
from harness.publish import keep_engines
from harness.records import (
    ABOUT_A_FLIGHT,
    BoardState,
    Case,
    Check,
    Figure,
    Measurement,
    Outcome,
    Summary,
    Tolerance,
    Verdict,
)
from harness.run_folder import RunFolder
from harness.statistics.paired import LOOKS
from harness.statistics.stopping import NO_FLOOR
from harness.tier2 import heat, latency_gate
from harness.tier2.align import align, energy
from harness.tier2.child_job import ChildJob
from harness.tier2.gate import (
    ORT_TARGET,
    busiest,
    flown,
    indicative,
    judge_flight,
    launches_of,
    of_others,
    on_its_board,
    over_memory,
    within_deadline,
)
from harness.tier2.heat_figures import NOT_APPLICABLE
from harness.tier2.launch import run_launch
from harness.tier2.load import select
from harness.tier2.load_row import judge_load, measure_load
from harness.tier2.memory import find, footprint
from harness.tier2.memory_row import judge_memory_row, measure_memory
from harness.tier2.null_runtime import harness_cost
from harness.tier2.observer import observer_effect
from harness.tier2.processes import FileSizes, MemoryLooks, judge_looks, judge_starts, keep, starts_of
from harness.tier2.rounds import Rounds
from harness.tier2.samples import SampleLog, open_journal
from harness.tier2.soak import SENSORS
from harness.tier2.station import Order, Seen, Station, Stream
from harness.tier2.takeoff import TakeoffSeen, takeoff
from runtime.data import EngineCacheEntry
from runtime.errors import RuntimeCoreError
from runtime.protocol import Array

__all__ = ["Tier2"]

_COLD_ROUNDS = 1
_UNKNOWN_THROTTLE = -1
_CYCLES, _LOOKS = 20, 20
_CALLS = 100
"""Calls between two looks at memory: what a leak is told from noise by."""
_MEMORY_LAUNCHES = 5
_WITHOUT_LAUNCHES = ("load", "memory", "takeoff", "harness")
_COOL_S = 600.0
_IDLE_FRAMES, _IDLE_STEP_NS = 20, 100_000_000


@dataclass
class Tier2:
    """What the rows of one run share.

    ``begin``: makes a simulated board, anew for each row. ``board``: whose budgets apply; ``None``: nothing is judged, all
    is measured. ``job``, ``environ``: for fresh processes, which a simulated station does not start. ``versions``: of what
    a floor depends on. ``state_checks``: more of them for a case, as from a file of probed assumptions. ``tolerances``: by
    model and lane. ``gpu_index``: of the card that NVML is asked about a process. ``kills``: what a simulated kernel raises
    to end a process. ``observed``: on whose calls the cost of telemetry is measured. ``baselines``,
    ``machine``: what rows are shown against, and whose. ``missing``: models that cannot run at all, and why. ``learned``:
    what the profile ``floor`` taught, in words. ``publish``: see ``publish.keep_engines``. ``builds``: how many engines of each
    kind launches are spread over; 0: one.
    """

    station: Station
    profile: Profile
    models: Mapping[str, ModelConfig]
    begin: Callable[[], Station] | None = None
    board: BoardConfig | None = None
    floors: Floors | None = None
    rounds: Rounds = field(default_factory=Rounds)
    job: ChildJob | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    say: Callable[[str], None] = lambda words: None
    state_checks: Callable[[Case], Sequence[Check]] = lambda case: ()
    tolerances: Mapping[str, Mapping[str, Mapping[str, Tolerance]]] = field(default_factory=dict)
    gpu_index: int | None = None
    is_unified: bool | None = None
    kills: tuple[type[BaseException], ...] = ()
    observed: Case | None = None
    baselines: Baselines = field(default_factory=Baselines)
    machine: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
    learned: list[str] = field(default_factory=list)
    publish: str = ""
    builds: int = 0
    _row_builds: int = 0
    _no_builds: str = ""
    _facts: dict[str, EngineFacts] = field(default_factory=dict)
    _other_builds: list[EngineFacts] = field(default_factory=list)
    _p95_ns: dict[tuple[str, str], int] = field(default_factory=dict)
    _placed: dict[tuple[str, str, str], str] = field(default_factory=dict)
    _is_warm: bool = False
    _cycle_s: float | None = None
    _before: BoardState | None = None
    _idle_w: float | None = None

    def settle(self, case: Case, folder: RunFolder) -> Verdict:
        """Measure and judge one row. Raises the core's errors, and ``FolderError`` where its samples cannot be written."""
        if self.begin is not None:
            self.station, self._is_warm, self._before, self._cycle_s = self.begin(), False, None, None
        if self._before is None:
            self._before = self.station.board_state()
            self._idle_w = None if self.begin is not None else self._idle_power()
        if case.kind in ABOUT_A_FLIGHT and case.kind != "harness" and not self._flying(case):
            return refusal_of(case, self._lacking(case))
        settle: Callable[[Case, RunFolder], Verdict] = getattr(self, f"_{case.kind}")
        start = self.station.board_state() if case.kind in _WITHOUT_LAUNCHES else BoardState()
        self._facts, self._other_builds = {}, []
        verdict = settle(case, folder)
        is_alone = case.kind in ("load", "latency")
        facts = {"" if is_alone else name: each for name, each in self._facts.items()}
        verdict = keep_engines(verdict, facts, folder, publish=self.publish, more=self._other_builds)
        if case.kind in _WITHOUT_LAUNCHES:
            verdict = self._on_its_board(verdict, start)
        return self._of_whole_flight(over_memory(verdict, self.board))

    def _idle_power(self) -> float | None:
        """The mean power before the first row, of the board and of us who wait; ``None`` where no instrument tells it."""
        station, trace, watts = self.station, Trace(), None
        origin_ns = station.now_ns()
        for at in range(_IDLE_FRAMES):
            frame = station.read(origin_ns)
            trace.add(frame)
            if at:
                watts = find(energy(trace, next(iter(trace)).at_ns, frame.at_ns, 0), "mean_power_w").value
                if watts is None:
                    return None
            station.wait_until(origin_ns + (at + 1) * _IDLE_STEP_NS)
        return watts

    def _on_its_board(self, verdict: Verdict, start: BoardState) -> Verdict:
        """A row that no launch read the board for, with its state (T2-04), open where that is not the declared one.

        What failed for a board in any state stays a FAIL: too much memory, or a process that gave nothing.
        """
        case, end = verdict.case, self.station.board_state()
        measurement = replace(verdict.summary.measurement, board_start=start, board_end=end)
        found = [*check_state(self.board, start, end, hot_start_c=math.inf), *self.state_checks(case)]
        verdict = replace(verdict, summary=replace(verdict.summary, measurement=measurement))
        if case.kind == "harness":
            return replace(verdict, checks=(*verdict.checks, *found))
        fails_anyway = case.kind != "load" or any(check.name == "processes" for check in verdict.checks)
        return on_its_board(verdict, found, fails_anyway=fails_anyway)

    def _of_whole_flight(self, verdict: Verdict) -> Verdict:
        """A row about all models that lacks one says so, and passes nothing; one in another precision is noted."""
        case = verdict.case
        if case.kind not in ABOUT_A_FLIGHT or case.kind == "harness" or verdict.outcome is Outcome.NOT_RUN:
            return verdict
        others = [model for model in self._flying(case) if case.precision not in model.precision]
        if others:
            words = ", ".join(f"{model.name} in {model.precision[0]}" for model in others)
            measurement = verdict.summary.measurement
            notes = (*measurement.notes, f"not every model has {case.precision}: {words}")
            verdict = replace(verdict, summary=replace(verdict.summary, measurement=replace(measurement, notes=notes)))
        lacking = self._lacking(case)
        return of_others(verdict, lacking) if lacking else verdict

    def _flying(self, case: Case) -> list[ModelConfig]:
        models = flight_models(list(self.models.values()), case.runtime)
        return [model for model in models if model.name not in self.missing]

    def _lacking(self, case: Case) -> str:
        models = flight_models(list(self.models.values()), case.runtime)
        return "; ".join(f"{model.name}: {self.missing[model.name]}" for model in models if model.name in self.missing)

    def recall(self, verdict: Verdict) -> None:
        """What a row of a resumed run told those after it: where its runtime ran, and TensorRT's p95."""
        if verdict.case.kind in ("load", "latency"):
            self._place(verdict.case, verdict.summary.measurement.placement)
            self._set_target(verdict)

    # Rows of one model

    def _load(self, case: Case, folder: RunFolder) -> Verdict:
        del folder
        assert self.job is not None
        seen = measure_load(
            case,
            self.job,
            rounds=self.profile.load_rounds,
            environ=self.environ,
            runner=self.rounds,
            cold_rounds=self._cold_rounds(case),
        )
        self._place(case, seen.measurement.placement)
        if seen.facts is not None:
            self._facts[case.model] = seen.facts
        measurement = replace(seen.measurement, profile=self.profile.name)
        limits = self.board.load if self.board is not None else LoadLimits()
        return judge_load(measurement, seen.rounds, budget=self._budget(case.model), limits=limits)

    def _cold_rounds(self, case: Case) -> int:
        """With empty caches ONNX Runtime makes a session anew, and TensorRT builds: minutes on a board."""
        return {"onnx_trt_ep": _COLD_ROUNDS, "tensorrt": _COLD_ROUNDS if self.profile.decides else 0}.get(
            case.runtime, 0
        )

    def _latency(self, case: Case, folder: RunFolder) -> Verdict:
        rule = self.models[case.model].load
        stream = Stream(case)
        if rule is not None:
            stream = Stream(case, rule.rate_hz, deadline_ns=_ns(rule.deadline_ms), late=rule.late)
        budget = self._budget(case.model)
        floor = self._floor(case, stream.rate_hz)
        order = Order(
            self.profile,
            (stream,),
            budget_ns=latency_gate.budget_ns_of(budget),
            floor=floor.effect if floor else None,
        )
        launches = self._launches(case, order, folder)
        measurement = self._written(case, launches, folder)
        verdict = latency_gate.judge(
            measurement,
            _pooled(launches),
            _traces(launches),
            budget=budget,
            profile=self.profile,
            floor=floor,
            state_checks=self._state(case, launches),
            target_p95_ns=self._target_ns(case),
            streams=order.streams,
            launches=self._alike(launches_of(launches, stream, case.model)),
            lost_ns=sum(seen.lost_ns for seen in launches),
            idle_w=self._idle_w,
            on_board=self.board is not None,
        )
        self._set_target(verdict)
        verdict = self._missing_floor(verdict, stream)
        self._learn(verdict, _pooled(launches), 0, folder)
        extra = _soak_figures(launches) + _memory_figures(launches)
        if verdict.summary.judgement is not None:
            extra += build_spread(verdict.summary.judgement.launches, measurement.builds, case.model)
        verdict = with_baseline(verdict, self.baselines, self.machine)
        return replace(verdict, summary=replace(verdict.summary, figures=(*verdict.summary.figures, *extra)))

    # Rows of all models of a runtime

    def _flight(self, case: Case, folder: RunFolder) -> Verdict:
        streams = self._mix(case)
        slowest = self._slowest_judged(streams)  # when it has enough, every other stream has more
        budget = self._within_deadline(streams[slowest])
        floor = self._floor(streams[slowest].case, streams[slowest].rate_hz)
        order = Order(
            self.profile,
            streams,
            judged=slowest,
            budget_ns=latency_gate.budget_ns_of(budget),
            floor=floor.effect if floor else None,
        )
        launches = self._launches(case, order, folder)
        measurement = self._written(case, launches, folder)
        measurement = replace(measurement, streams=flown(streams, launches[0].placements))
        columns = _pooled(launches)
        verdict, of_streams = judge_flight(
            measurement,
            columns,
            _traces(launches),
            streams,
            limits=[self._within_deadline(stream) for stream in streams],
            floors=[self._floor(stream.case, stream.rate_hz) for stream in streams],
            profile=self.profile,
            state_checks=self._state(case, launches),
            launches=[self._alike(launches_of(launches, stream, streams[slowest].case.model)) for stream in streams],
            lost_ns=sum(seen.lost_ns for seen in launches),
            idle_w=self._idle_w,
            on_board=self.board is not None,
        )
        for at, (one, stream) in enumerate(zip(of_streams, streams, strict=True)):
            if stream.case.precision == case.precision:  # a model in another one has a mix of its own to learn from
                of_stream = _of(one, stream, launches[0].placements.get(stream.case.model, ""))
                self._learn(replace(one, summary=replace(one.summary, measurement=of_stream)), columns, at, folder)
        named = (stream for stream in streams if verdict.reason.startswith(f"{stream.case.model}: "))
        verdict = self._missing_floor(verdict, next(named, streams[slowest]))
        extra = _soak_figures(launches) + _memory_figures(launches)
        return replace(verdict, summary=replace(verdict.summary, figures=(*verdict.summary.figures, *extra)))

    def _heat(self, case: Case, folder: RunFolder) -> Verdict:
        frame = self.station.read(self.station.now_ns())
        if _temperature_c(frame) is None:
            return Verdict(Summary(Measurement(case=case)), Outcome.NOT_RUN, NOT_APPLICABLE)
        streams = self._mix(case)
        seconds = self.profile.sustained_s
        profile = replace(self.profile, least_s=seconds, most_s=seconds, launches=1, precision=0.0)
        judged = busiest(streams)
        floor = self._floor(streams[judged].case, streams[judged].rate_hz)
        order = Order(profile, streams, judged=judged, is_first=not self._is_warm)
        origin_ns = self.station.now_ns()
        (seen,) = launches = self._launches(case, order, folder, profile)
        if not seen.incomplete:
            self._cool_down(seen.trace, origin_ns, max(seconds / 2, _COOL_S if profile.decides else 0.0))
        measurement = replace(self._written(case, launches, folder), streams=flown(streams, seen.placements))
        if seen.incomplete and not len(seen.trace):
            return Verdict(Summary(measurement), Outcome.INCONCLUSIVE, f"nothing is known of it: {seen.incomplete}")
        stream = streams[judged]
        budget = self._within_deadline(stream)
        verdict = heat.judge_heat(
            measurement,
            seen.log.columns(),
            seen.trace,
            budget_ns=latency_gate.budget_ns_of(budget),
            profile=profile,
            is_open=stream.rate_hz > 0,
            state_checks=(*self._state(case, launches, hot_start_c=math.inf), *latency_gate.lost_checks(seen.lost_ns)),
            soak=seen.soak,
            floor=floor.effect if floor else None,
            stream=judged,
        )
        self._is_warm = True
        return verdict if profile.decides else indicative(verdict)

    def _takeoff(self, case: Case, folder: RunFolder) -> Verdict:
        assert self.job is not None
        cases = self._resident_cases(case)
        seen = takeoff(case, cases, self.job, environ=self.environ, gpu_index=self.gpu_index)
        if seen.filling.seen is not None:
            engines = zip(cases, seen.filling.seen.engines, strict=True)
            self._facts |= {one.model: engine.facts for one, engine in engines if engine.facts is not None}
        budgets = {one.model: budget for one in cases if (budget := self._budget(one.model)) is not None}
        kept = starts_of(seen, cases, _sizes(seen), is_unified=self.is_unified, card_is_ours=self.gpu_index is not None)
        verdict = judge_starts(
            seen,
            kept,
            board=self.board,
            budgets=budgets,
            tolerances={one.model: self.tolerances.get(one.model, {}).get(one.lane, {}) for one in cases},
        )
        return self._with_profile(keep(folder, verdict, kept))

    def _memory(self, case: Case, folder: RunFolder) -> Verdict:
        cases = self._resident_cases(case)
        if self.job is None:
            return self._with_profile(self._simulated_memory(case, cases, folder))
        quick = not self.profile.decides  # a look for leaks takes minutes an engine
        seen = measure_memory(
            case,
            cases,
            self.job,
            launches=1 if quick else max(_MEMORY_LAUNCHES, self.profile.launches),
            environ=self.environ,
            cycles=0 if quick else _CYCLES,
            looks=0 if quick else _LOOKS,
            calls_per_look=_CALLS,
            gpu_index=self.gpu_index,
            card_is_ours=self.gpu_index is not None,
        )
        self._facts |= seen.facts
        return self._with_profile(keep(folder, judge_memory_row(seen, board=self.board), seen.looks))

    def _simulated_memory(self, case: Case, cases: Sequence[Case], folder: RunFolder) -> Verdict:
        """The same in the station's own process: each engine alone, all resident, cycles of loading, many calls."""
        station = self.station
        before = tuple(station.memory())
        engines: dict[str, Sequence[Figure]] = {}
        cycles: dict[str, Sequence[float]] = {}
        calls: dict[str, Sequence[float]] = {}
        killed: list[str] = []
        resident: list[Sequence[Figure]] = []
        measurement = Measurement(case=case, simulated=True)

        def taken() -> Sequence[Figure]:
            return footprint(before, tuple(station.memory()), is_unified=self.is_unified)

        try:
            for one in cases:
                after = []
                for _ in range(_CYCLES):
                    with contextlib.closing(station.open(one)) as engine:
                        engine.infer(0)
                        engines[one.model] = taken()
                        measurement = replace(engine.measurement(), case=case)
                    after.append(_gpu_bytes(taken()))
                cycles[f"{one.model} gpu"] = after
            with contextlib.ExitStack() as opened:
                loaded = [opened.enter_context(contextlib.closing(station.open(one))) for one in cases]
                for engine in loaded:
                    engine.infer(0)
                resident.append(taken())
                for one, engine in zip(cases, loaded, strict=True):
                    looks = []
                    for look in range(_LOOKS):
                        for at in range(_CALLS):
                            engine.infer(look * _CALLS + at)
                        looks.append(_gpu_bytes(taken()))
                    calls[f"{one.model} gpu"] = looks
                resident.append(taken())
        except self.kills as kill:
            killed.append(str(kill))
        measurement = replace(
            measurement, launches=1, board_start=self._before or BoardState(), board_end=station.board_state()
        )
        kept = MemoryLooks(
            case.id,
            {name: tuple(marks) for name, marks in engines.items()},
            tuple(tuple(marks) for marks in resident[-1:]),  # two looks at one process: one launch
            {name: tuple(after) for name, after in cycles.items()},
            {name: tuple(after) for name, after in calls.items()},
            _CALLS,
            tuple(killed),
        )
        return keep(folder, judge_looks(measurement, kept, board=self.board), kept)

    def _cool_down(self, trace: Trace, origin_ns: int, most_s: float) -> None:
        """Watch the board cool, a frame a second, until it is half as warm above where it began, or for ``most_s``."""
        seen = [celsius for frame in trace if (celsius := _temperature_c(frame)) is not None]
        if not seen:
            return
        self.say("cooling down")
        until_ns = self.station.now_ns() + round(most_s * 1e9)
        while self.station.now_ns() < until_ns:
            self.station.wait_until(self.station.now_ns() + 1_000_000_000)
            frame = self.station.read(origin_ns)
            trace.add(frame)
            celsius = _temperature_c(frame)
            if celsius is not None and celsius <= (max(seen) + seen[0]) / 2:
                return

    def _harness(self, case: Case, folder: RunFolder) -> Verdict:
        del folder
        why = "" if self._idle_w is not None else "no instrument tells the board's power"
        idle = Figure("idle_power_w", self._idle_w, "W", "before the first row", why=why)
        figures = (
            idle,
            *harness_cost(self.station, seconds=5.0 if self.profile.decides else 2.0),
            *self._observer_effect(),
        )
        by_name = {figure.name: figure.value for figure in figures}
        cost, late = by_name.get("sample_cost_ns"), by_name.get("wake_p95_ns")
        words = "nothing, in virtual time" if cost is None else f"{cost:.0f} ns a sample"
        if late is not None:
            words += f", woken {late / 1e3:.0f} µs late at p95"
        effect = next((figure for figure in figures if figure.name == "telemetry_effect"), None)
        if effect is not None and effect.value is not None:
            interval = f" [{effect.low:+.2f}, {effect.high:+.2f}]" if effect.low is not None else ""
            words += f"; telemetry at {self.profile.telemetry_hz:g} Hz changes p50 by {effect.value:+.2f} %{interval}"
        measurement = Measurement(case=case, placement="null", lane_name="harness", provider="none")
        seen = Summary(measurement, figures=figures)
        return self._with_profile(Verdict(seen, Outcome.MEASURED, f"the harness itself costs {words}"))

    def _observer_effect(self) -> tuple[Figure, ...]:
        """What telemetry adds to a real call; it is asked less often from here on, if that is too much."""
        if self.observed is None:
            return ()
        station, block_s = self.station, 1.0 if self.profile.decides else 0.25
        looks = LOOKS if self.profile.decides else LOOKS[:1]
        try:
            engine = station.open(self.observed)
        except RuntimeCoreError as error:
            return (Figure("telemetry_effect", None, "%", why=f"{self.observed.model} cannot be loaded: {error}"),)

        def measure(hz: float) -> Array:
            took: list[int] = []
            asking = station.every(1.0 / hz, lambda: _ignore(station.read(0))) if hz else contextlib.nullcontext()
            with asking:
                until_ns = station.now_ns() + round(block_s * 1e9)
                while not took or station.now_ns() < until_ns:
                    begun = station.now_ns()
                    engine.infer(len(took))
                    took.append(station.now_ns() - begun)
            return np.array(took, np.int64)

        with contextlib.closing(engine):
            self.say("what telemetry costs")
            measure(0.0)
            rates = [hz for hz in (10.0, 5.0, 2.0, 1.0) if hz <= self.profile.telemetry_hz]
            hz, figure = observer_effect(measure, rates, looks=looks)
        if figure.value is None:
            return (
                figure,
                Figure("telemetry_hz", self.profile.telemetry_hz, "Hz", "the profile's: its cost is not known"),
            )
        self.profile = replace(self.profile, telemetry_hz=hz)
        return (figure, Figure("telemetry_hz", hz, "Hz", "the highest rate whose cost is small enough"))

    # What rows have in common

    def _resident_cases(self, case: Case) -> list[Case]:
        """All engines of a runtime, as they are resident in flight."""
        return [_of_model(case, model) for model in self._flying(case)]

    def _with_profile(self, verdict: Verdict) -> Verdict:
        measurement = replace(verdict.summary.measurement, profile=self.profile.name)
        return replace(verdict, summary=replace(verdict.summary, measurement=measurement))

    def _budget(self, model: str) -> Budget | None:
        return self.models[model].budget.get(self.board.name) if self.board is not None else None

    def _within_deadline(self, stream: Stream) -> Budget | None:
        """What the stream must keep in the mix on this board."""
        return within_deadline(stream, self._budget(stream.case.model))

    def _slowest_judged(self, streams: Sequence[Stream]) -> int:
        """Of the streams that a budget applies to (of all, where none does) the one with the lowest rate."""
        judged = [at for at, stream in enumerate(streams) if self._within_deadline(stream)] or range(len(streams))
        return min(judged, key=lambda at: streams[at].rate_hz)

    def _mix(self, case: Case) -> tuple[Stream, ...]:
        """The streams of the flight: each model at its rate, its bursts as one; without any rate all in a closed loop."""
        models = self._flying(case)
        rated = [model for model in models if model.load is not None]
        streams = []
        for model in rated or models:
            own = _of_model(case, model)
            rule = model.load
            if rule is None:
                streams.append(Stream(own))
            else:
                streams.append(Stream(own, rule.rate_hz, rule.burst, _ns(rule.deadline_ms), rule.late))
        return tuple(streams)

    def _launches(self, case: Case, order: Order, folder: RunFolder, profile: Profile | None = None) -> list[Seen]:
        """Each launch of a row; more than one are processes of their own. The soak is whole once in a run."""
        count = (profile or self.profile).launches
        self._row_builds, self._no_builds = (self.builds if profile is None else 0), ""
        if self._row_builds and (why := why_not(case, ())):
            self._row_builds, self._no_builds = 0, why
        of_builds = launches_for(count, self._row_builds)
        path = folder.path / "samples" / f"{case.id}.journal"
        seen: list[Seen] = []
        with folder.explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
        for launch in range(of_builds):
            if launch >= count and not self._row_builds:
                break
            one = replace(order, launch=launch, is_first=not self._is_warm, cycle_s=self._cycle_s)
            one = replace(one, build=launch % self._row_builds if self._row_builds else 0)
            if of_builds > 1 or self.begin is not None:
                seen.append(self.station.fresh(one, path))
            else:
                with folder.explained():
                    journal = open_journal(path)
                with contextlib.closing(journal):
                    seen.append(run_launch(self.station, one, journal=journal, say=self.say))
            if 0 < launch < self._row_builds:  # once of each build but the first
                self._other_builds += seen[-1].facts.values()
            self._facts = {**seen[-1].facts, **self._facts}
            for stream in order.streams:
                self._place(stream.case, seen[-1].placements.get(stream.case.model, ""))
            self._is_warm = self._is_warm or bool(self.profile.soak and seen[-1].soak.get("is_over"))
            self._cycle_s = seen[-1].soak.get("period_s") or self._cycle_s
            if self._row_builds and (why := why_not(case, list(seen[-1].placements.values()))):
                self._row_builds, self._no_builds = 0, why
            if seen[-1].incomplete:
                break
        return seen

    def _alike(self, launches: Sequence[Measurement]) -> list[Measurement]:
        """Engines that are meant to be several are no reason not to pool their launches."""
        return [replace(one, model_sha256="") if self._row_builds else one for one in launches]

    def _written(self, case: Case, launches: Sequence[Seen], folder: RunFolder) -> Measurement:
        """Write samples and traces of all launches; the row's measurement, which names them. The journal goes last."""
        columns: dict[str, Any] = dict(_pooled(launches))
        throttled = np.full(len(columns["launch"]), _UNKNOWN_THROTTLE, np.int8)
        clock_mhz = np.full(len(columns["launch"]), np.nan)
        for seen in launches:
            own = columns["launch"] == seen.log.launch
            if len(seen.trace) and own.any():
                aligned = align({name: column[own] for name, column in columns.items()}, seen.trace)
                throttled[own] = np.where(aligned.known, aligned.throttled, _UNKNOWN_THROTTLE)
                clock_mhz[own] = aligned.clock_mhz
        streams = launches[0].log.streams
        columns |= {"throttled": throttled, "clock_mhz": clock_mhz}
        columns["model"] = np.array(streams, dtype=object)[columns["stream"]]
        samples_file = folder.write_samples(f"samples/{case.id}.parquet", columns)
        trace_file = ""
        if any(len(seen.trace) for seen in launches):
            trace_file = folder.write_samples(f"traces/{case.id}.parquet", trace_table(_traces(launches)))
        (folder.path / "samples" / f"{case.id}.journal").unlink(missing_ok=True)
        own = launches[0].measurement
        on_cpu = next((where for seen in launches for where in seen.placements.values() if where.endswith("[cpu]")), "")
        return replace(
            replace(own, placement=on_cpu, provider="cpu") if on_cpu else own,  # one engine of the mix is enough
            case=case,
            samples_file=samples_file,
            trace_file=trace_file,
            launches=len(launches),
            board_end=launches[-1].measurement.board_end,
            duration_ns=sum(seen.measurement.duration_ns for seen in launches),
            builds=built(launches, self._row_builds),
            notes=(*_notes(launches), *([self._no_builds] if self._no_builds else [])),
            incomplete=next((seen.incomplete for seen in launches if seen.incomplete), ""),
        )

    def _state(self, case: Case, launches: Sequence[Seen], *, hot_start_c: float | None = None) -> tuple[Check, ...]:
        start, end = launches[0].measurement.board_start, launches[-1].measurement.board_end
        if not start.source:
            return tuple(self.state_checks(case))  # the launch was over before its board was read
        found = check_state(
            self.board,
            start,
            end,
            before=self._before,
            hot_start_c=math.inf if self._is_warm and self.profile.soak else hot_start_c,
            needs_pinned=self.profile.decides and self.board is not None,
            elapsed_ns=None,
        )
        unsteady = [str(seen.soak.get("words", "")) for seen in launches if seen.soak.get("is_steady") is False]
        soaked = [Check("soak", Outcome.INCONCLUSIVE, f"the board was never steady: {words}") for words in unsteady[:1]]
        return (*found, *soaked, *self.state_checks(case))

    def _target_ns(self, case: Case) -> int | None:
        """What ONNX Runtime is warned from: TensorRT's own p95 in this precision, or the board's target, whichever is less."""
        theirs = self._p95_ns.get((case.model, case.precision))
        if case.runtime != "onnx_trt_ep" or theirs is None:
            return None
        of_board = latency_gate.target_ns_of(self._budget(case.model), case.runtime)
        measured = round(ORT_TARGET * theirs)
        return measured if of_board is None else min(measured, of_board)

    def _set_target(self, verdict: Verdict) -> None:
        case, latency = verdict.case, verdict.summary.latency
        if case.kind == "latency" and case.runtime == "tensorrt" and latency is not None and "@" not in case.id:
            self._p95_ns[case.model, case.precision] = latency.p95.value_ns

    def _learn(self, verdict: Verdict, columns: Mapping[str, Array], stream: int, folder: RunFolder) -> None:
        """Under the profile ``floor`` each hour of each stream of the mix is a session of its floor."""
        if self.profile.name == "floor" and self.floors is not None:
            rows = [(verdict, select(columns, stream=stream, phase=None))]
            is_simulated = bool(self.station.simulated)
            self.learned += learn(self.floors, folder.path.name, rows, self.versions, is_simulated=is_simulated)

    def _place(self, case: Case, placement: str) -> None:
        if placement:
            self._placed[case.model, case.runtime, case.precision] = placement

    def _placement(self, case: Case) -> str:
        """Where it runs, as an earlier row saw; an engine that none has loaded is loaded to tell. Empty: it cannot be."""
        key = case.model, case.runtime, case.precision
        if key not in self._placed:
            station = self.station if self.begin is None else self.begin()
            with contextlib.suppress(RuntimeCoreError, *self.kills), contextlib.closing(station.open(case)) as engine:
                self._place(case, engine.measurement().placement)
        return self._placed.get(key, "")

    def _floor(self, case: Case, rate_hz: float) -> Floor | None:
        """What history says of a row that is about to be measured, on the board as it was before any of them."""
        if self.floors is None or self.floors.is_empty():
            return None
        return self.floors.get(self._floor_key(case, rate_hz))

    def _missing_floor(self, verdict: Verdict, stream: Stream) -> Verdict:
        """A row that is open for want of a floor, with how much of one is known."""
        if self.floors is None or NO_FLOOR not in verdict.reason:
            return verdict
        why = self.floors.why_not(self._floor_key(stream.case, stream.rate_hz))
        return replace(verdict, reason=f"{verdict.reason} ({why})" if why else verdict.reason)

    def _floor_key(self, case: Case, rate_hz: float) -> FloorKey:
        state = self._before or self.station.board_state()
        return FloorKey(
            module=state.module or "",
            model=case.model,
            runtime=ran_on(case, self._placement(case)),
            precision=case.precision,
            caps=dict(state.caps),
            rate_hz=rate_hz,
            versions=dict(self.versions),
        )


def _sizes(seen: TakeoffSeen) -> dict[str, FileSizes]:
    """Of the engines' files, and of the calibration caches beside them."""
    if seen.filling.seen is None:
        return {}
    paths = {EngineCacheEntry.from_json(engine.entry).engine_path for engine in seen.filling.seen.engines}
    caches = {path for folder in {path.parent for path in paths} for path in folder.glob("*.cache")}
    return {
        what: FileSizes(len(files), sum(path.stat().st_size for path in files if path.exists()))
        for what, files in (("engine files", paths), ("calibration caches", caches))
    }


def _of_model(case: Case, model: ModelConfig) -> Case:
    """A row about all models as one of a single model, for the station: in the row's precision, or the model's first."""
    precision = case.precision if case.precision in model.precision else model.precision[0]
    name = f"{case.id}-{model.name}"
    return replace(case, id=name, model=model.name, kind="latency", precision=precision, lane=lane_of(precision))


def _gpu_bytes(marks: Sequence[Figure]) -> float:
    return find(marks, "gpu_bytes").value or 0.0


def _ignore(frame: Frame) -> None:
    del frame


def _ns(ms: float | None) -> int | None:
    return None if ms is None else round(ms * 1e6)


def _pooled(launches: Sequence[Seen]) -> dict[str, Array]:
    """The columns of all launches, one after the other."""
    log = SampleLog(launches[0].log.streams)
    for seen in launches:
        log.extend(seen.log.columns())
    return log.columns()


def _traces(launches: Sequence[Seen]) -> dict[int, Trace]:
    return {seen.log.launch: seen.trace for seen in launches}


def _notes(launches: Sequence[Seen]) -> tuple[str, ...]:
    said = [note for seen in launches for note in (*seen.measurement.notes, *seen.notes)]
    return tuple(dict.fromkeys(said))


def _of(verdict: Verdict, stream: Stream, placement: str) -> Measurement:
    """A row of the mix as one of the stream's own model."""
    own = verdict.summary.measurement
    return replace(own, case=stream.case, placement=placement or own.placement)


def _temperature_c(frame: Frame) -> float | None:
    """The one that decides: the first of ``SENSORS`` that reads."""
    return next((frame.values[name] for name in SENSORS if name in frame.values), None)


def _soak_figures(launches: Sequence[Seen]) -> tuple[Figure, ...]:
    soak = launches[0].soak
    if not soak:
        return ()
    waited, slope = soak.get("waited_s"), soak.get("slope_c_per_min")
    words = str(soak.get("words", ""))
    return (
        Figure("soak_s", waited, "s", words),
        Figure(
            "soak_slope_c_per_min", slope, "°C/min", words, why="" if slope is not None else "no temperature was read"
        ),
    )


def _memory_figures(launches: Sequence[Seen]) -> tuple[Figure, ...]:
    """The marks at the end of the last launch."""
    return launches[-1].memory
