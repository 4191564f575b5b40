"""A simulated Orin as a station: rows are measured on it in virtual time, by the procedure that measures on a real one.

Its physics are a scenario's (``harness.scenario``), its memory, streams, events and clock those of one simulated device.
Engines compute nothing: their work takes its time, its power and its memory. All that comes from here says that it is
simulated, and counts for no sign-off.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import zip_longest
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from harness.errors import UsageError, did_you_mean
from harness.fakes.clock import VirtualClock
from harness.fakes.device import DeviceError, SimulatedDevice
from harness.fakes.faults import Fault
from harness.fakes.meters import Meters
from harness.fakes.thermal_model import Board, ThermalModel
from harness.instruments.trace import Frame, Trace
from harness.layers import Layers
from harness.lineage import EngineFacts
from harness.plan import lane_name
from harness.records import BoardState, Case, Figure, Measurement
from harness.scenario import Event, Scenario, SimulatedModel
from harness.tier2.launch import run_launch
from harness.tier2.samples import SampleLog, open_journal, read_journal
from harness.tier2.station import Order, Seen
from runtime.cuda import STICKY
from runtime.data import EngineLayer
from runtime.errors import DeviceLostError, InferenceError, OutOfMemoryError
from runtime.protocol import Array

__all__ = ["SimulatedEngine", "SimulatedKill", "SimulatedOrin"]

_TICK_S = 0.1
_CALL_NS = 20_000
_BLOCK = 4096


class SimulatedKill(BaseException):
    """The kernel has killed the simulated process for the memory it held. No ``except Exception`` survives that."""


class _Machine:
    """The board itself: what stays when a process ends."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        board = scenario.board
        self.scenario = scenario
        self.seed = seed
        self.boot_factor = _factor(board.boot_cv, f"{board.tensorrt} boot {seed} of {scenario.seed}")
        self.clock = VirtualClock()
        self.thermal = ThermalModel(
            Board(
                board.clocks_mhz,
                board.idle_w,
                board.busy_w,
                board.kelvin_per_w,
                board.seconds_to_settle,
                board.passive_c,
                board.critical_c,
                board.hysteresis_c,
                board.throttled_mhz,
            ),
            ambient_c=board.ambient_c,
            temperature_c=board.start_c,
        )
        self.device = SimulatedDevice(
            sm=board.sm,
            name=f"Simulated {board.name}",
            memory_bytes=board.memory_bytes,
            is_integrated=board.unified,
            clock=self.clock,
            thermal=self.thermal,
            call_ns=_CALL_NS,
        )
        self.meters = Meters(self.device)
        self.processes = 0
        self.running: list[_Process] = []
        self.over_currents = 0
        self.slept_ns = 0
        self.stepped_ns = 0
        self.guests: list[str] = []
        self.guests_slow = 1.0
        self.fan_on = False
        self._ticks = 0
        self._slow_until = 0
        self._noise = np.random.default_rng([scenario.seed, seed, 1])
        self._bursts = [
            (round(n.get("from_s", 0.0) * 1e9), round(n["every_s"] * 1e9), round(n["for_s"] * 1e9), n["slower"])
            for n in (event.numbers for event in scenario.of("burst"))
        ]
        self._warmings = [
            (n["from_s"], n["from_s"] + n["for_s"], n["c_per_min"] / 60.0 * _TICK_S)
            for n in (event.numbers for event in scenario.of("warming"))
        ]
        self._sensors = [
            (event.texts["name"], event.numbers["gone_at_s"] * 1e9, event.numbers.get("back_at_s", math.inf) * 1e9)
            for event in scenario.of("sensor")
        ]
        if board.over_current is not None or board.fan is not None or self._warmings:
            self.thermal.every_tick = self._tick
        self._plan()

    def _plan(self) -> None:
        """What happens at a time is an alarm of the clock."""
        doing: dict[str, Callable[[Event], None]] = {
            "cap": self._cap,
            "other_process": self._join,
            "suspend": self._suspend,
            "clock_step": self._step,
        }
        for event in self.scenario.events:
            if event.kind in doing:
                self.clock.ring(round(event.numbers["at_s"] * 1e9), partial(doing[event.kind], event))

    def _cap(self, event: Event) -> None:
        self.thermal.cap_mhz = int(event.numbers["mhz"])

    def _join(self, event: Event) -> None:
        self.guests.append(f"{4000 + len(self.guests)} {event.texts['name']}")
        self.guests_slow *= event.numbers.get("slower", 1.0)

    def _suspend(self, event: Event) -> None:
        """The monotonic clock stands still meanwhile, and the board cools."""
        self.thermal.step(event.numbers["for_s"], 0.0)
        self.slept_ns += round(event.numbers["for_s"] * 1e9)

    def _step(self, event: Event) -> None:
        self.stepped_ns += abs(round(event.numbers["by_s"] * 1e9))

    def _tick(self, highest_w: float) -> None:
        """Ten times a second of the board's own time: its fan, its over-current circuit, the air around it."""
        board, thermal = self.scenario.board, self.thermal
        self._ticks += 1
        at_s = self._ticks * _TICK_S
        circuit, fan = board.over_current, board.fan
        if circuit is not None:
            if self._ticks >= self._slow_until:
                thermal.slowed_to = 1.0
            seen_w = highest_w + circuit.noise_w * float(self._noise.standard_normal())
            if seen_w > circuit.limit_w:
                self.over_currents += 1
                thermal.slowed_to = circuit.slow_to
                self._slow_until = self._ticks + round(circuit.for_s / _TICK_S)
        if fan is not None:
            if fan.every_s is not None and fan.on_s is not None:
                self.fan_on = at_s % fan.every_s < fan.on_s
            elif fan.on_c is not None and fan.off_c is not None:
                self.fan_on = thermal.temperature_c >= (fan.off_c if self.fan_on else fan.on_c)
            thermal.kelvin_per_w = fan.kelvin_per_w_on if self.fan_on else board.kelvin_per_w
        thermal.ambient_c += sum(step for begin_s, end_s, step in self._warmings if begin_s <= at_s < end_s)

    def slower(self) -> float:
        """How many times as long the GPU takes now as it would alone."""
        factor, now_ns = self.guests_slow, self.clock.now_ns()
        for from_ns, every_ns, for_ns, slower in self._bursts:
            if now_ns >= from_ns and (now_ns - from_ns) % every_ns < for_ns:
                factor *= slower
        return factor

    def values(self, process: _Process) -> dict[str, float]:
        """What all instruments would say, those that are gone as well."""
        thermal, board = self.thermal, self.scenario.board
        celsius = round(thermal.temperature_c * 32) / 32  # as fine as the sensor of a Tegra
        watts = round(self.meters.power_w, 3)
        values = {
            "gpu_temp_c": celsius,
            "tj_temp_c": celsius,
            "gpu_clock_mhz": float(thermal.clock_mhz),
            "gpu_cap_mhz": float(thermal.cap_mhz),
            "gpu_load_percent": round(100 * self.meters.load, 1),
            "emc_clock_mhz": board.emc_mhz,
            "emc_cap_mhz": board.emc_mhz,
            "power_w": watts,
            "power_w.VDD_IN": watts,
            "energy_j": self.meters.energy_mj / 1e3,
            "alert_sensors": 1.0,
            "available_bytes": float(self.available_bytes()),
            "pss_bytes": float(process.host_bytes),
        }
        values["nvmap_bytes" if board.unified else "gpu_used_bytes"] = float(self.device.live_bytes)
        if board.over_current is not None:
            values["oc_events"] = values["oc3_events"] = float(self.over_currents)
        if board.fan is not None:
            values["fan_rpm"] = board.fan.rpm if self.fan_on else 0.0
        return values

    def available_bytes(self) -> int:
        """Of the host's memory, as ``MemAvailable``."""
        board = self.scenario.board
        on_device = self.device.live_bytes if board.unified else 0
        return board.memory_bytes - board.system_bytes - sum(each.host_bytes for each in self.running) - on_device

    def gone(self) -> list[str]:
        """Patterns of the values whose sensors do not answer now."""
        now_ns = self.clock.now_ns()
        return [name for name, gone_ns, back_ns in self._sensors if gone_ns <= now_ns < back_ns]


class _Process:
    """What one simulated process holds, and what it will meet."""

    def __init__(self, machine: _Machine) -> None:
        scenario, device = machine.scenario, machine.device
        self.machine = machine
        self.number, machine.processes = machine.processes, machine.processes + 1
        self.blocks: dict[int, int] = {}
        self.host_bytes = self.peak_bytes = 0
        self._killed_above = min((event.numbers["size"] for event in scenario.of("kill")), default=math.inf)
        machine.running.append(self)
        self.grow(scenario.board.process_bytes)
        device.faults.faults.clear()
        for event in scenario.of("fault"):
            for model in [event.texts["model"]] if "model" in event.texts else scenario.models:
                device.faults.add(
                    Fault(_api(model), event.texts["error"], int(event.numbers["at_call"]) - 1, in_work=True)
                )

    @property
    def device_bytes(self) -> int:
        return sum(self.blocks.values())

    def grow(self, size_bytes: int) -> None:
        """Host memory, or less of it. Raises ``OutOfMemoryError``, or ends the process, where it is too much."""
        self.host_bytes += size_bytes
        if self.machine.available_bytes() < 0:
            self.host_bytes -= size_bytes
            raise OutOfMemoryError(f"the simulated host has no {size_bytes} bytes left")
        self.peak_bytes = max(self.peak_bytes, self.host_bytes)
        self._survive()

    def allocate(self, size_bytes: int, label: str) -> int:
        """Device memory, which is never touched. Raises ``OutOfMemoryError``, or ends the process."""
        left = self.machine.available_bytes() if self.machine.scenario.board.unified else size_bytes
        try:
            if size_bytes > left:
                raise DeviceError("CUDA_ERROR_OUT_OF_MEMORY")
            address = self.machine.device.allocate(size_bytes, label=label, is_backed=False)
        except DeviceError as error:
            raise OutOfMemoryError(f"the simulated device has no {size_bytes} bytes left for {label}") from error
        self.blocks[address] = size_bytes
        self._survive()
        return address

    def free(self, address: int) -> None:
        """Nothing happens where the process has ended meanwhile."""
        if self.blocks.pop(address, None) is not None:
            self.machine.device.free(address)

    def end(self) -> None:
        """A sticky error ends with its process, and so does all its memory."""
        self.machine.device.lost_to = None
        for address in list(self.blocks):
            self.free(address)
        self.host_bytes = 0
        if self in self.machine.running:
            self.machine.running.remove(self)

    def _survive(self) -> None:
        held = self.host_bytes + self.device_bytes
        if held > self._killed_above:
            raise SimulatedKill(f"killed (SIGKILL): the kernel was out of memory, and the process held {held} bytes")


class SimulatedOrin:
    """A station (``harness.tier2.station``) on the board of a scenario, in virtual time, and the process that measures on it.

    ``seed``: of what is random, beside the scenario's own: a boot. ``build``: which build of the engines it has. Times are those
    of the virtual clock, which starts with the board.
    """

    def __init__(self, scenario: Scenario, *, seed: int = 0, build: int = 0, _machine: _Machine | None = None) -> None:
        self.scenario = scenario
        self.simulated = scenario.name
        self.build = build
        self._machine = _Machine(scenario, seed) if _machine is None else _machine
        self._process = _Process(self._machine)

    @property
    def device(self) -> SimulatedDevice:
        """The simulated device behind it."""
        return self._machine.device

    def now_ns(self) -> int:
        return self._machine.clock.now_ns()

    def wait_until(self, ns: int) -> None:
        self._machine.clock.advance_to(ns)

    def lost_ns(self) -> int:
        return self._machine.slept_ns + self._machine.stepped_ns

    def read(self, origin_ns: int) -> Frame:
        machine = self._machine
        values, missing = machine.values(self._process), dict[str, str]()
        alerts = ("gpu-throttle-alert",) if machine.thermal.is_throttled else ()
        for pattern in machine.gone():
            for name in [name for name in values if fnmatchcase(name, pattern)]:
                del values[name]
                missing[name] = "the sensor does not answer (EAGAIN)"
                alerts = () if name == "alert_sensors" else alerts
        return Frame(machine.clock.now_ns() - origin_ns, values, alerts, missing)

    @contextlib.contextmanager
    def every(self, period_s: float, do: Callable[[], None]) -> Iterator[None]:
        clock, period_ns = self._machine.clock, round(period_s * 1e9)
        due_ns, is_inside = clock.now_ns() + period_ns, True

        def ring() -> None:
            nonlocal due_ns
            if is_inside:
                do()
                due_ns = max(due_ns + period_ns, clock.now_ns())
                clock.ring(due_ns, ring)

        clock.ring(due_ns, ring)
        try:
            yield
        finally:
            is_inside = False

    def board_state(self) -> BoardState:
        machine, board = self._machine, self.scenario.board
        frame = self.read(0)
        told = frame.values.get
        celsius = {zone: told(f"{zone}_temp_c") for zone in ("gpu", "tj")}
        events, available = told("oc_events"), told("available_bytes")
        caps = {"gpu_mhz": told("gpu_cap_mhz"), "emc_mhz": told("emc_cap_mhz"), "passive_c": board.passive_c}
        return BoardState(
            gpu_temp_c=told("gpu_temp_c"),
            clock_mhz=told("gpu_clock_mhz"),
            throttled=bool(frame.alerts) if "alert_sensors" in frame.values else None,
            power_mode=board.power_mode,
            power_mode_id=board.power_mode_id,
            module=f"{board.module} {board.name}",
            caps={name: cap for name, cap in caps.items() if cap is not None},
            is_pinned=True,
            governor="nvhost_podgov",
            fan_rpm=told("fan_rpm"),
            temperatures_c={f"{zone}-thermal": value for zone, value in celsius.items() if value is not None},
            gpu_load_percent=told("gpu_load_percent"),
            gpu_processes=tuple(machine.guests),
            oc_events=None if events is None else int(events),
            available_bytes=None if available is None else int(available),
            uptime_s=(machine.clock.now_ns() + machine.slept_ns) / 1e9,
            boot_id=f"simulated-{self.scenario.name}-{machine.seed}",
            source=f"the simulated board {self.scenario.name}, {board.jetpack}",
            notes=tuple(f"{name}: {why}" for name, why in frame.missing.items()),
        )

    def memory(self) -> Sequence[Figure]:
        """As ``harness.tier2.memory.MemoryMeter.marks`` names them."""
        machine, process, device = self._machine, self._process, self.device
        board, own = self.scenario.board, float(process.device_bytes)
        available = float(machine.available_bytes())
        driver_free = available if board.unified else float(device.free_bytes)
        not_told = "an Orin's driver does not tell it"

        def mark(name: str, value: float | None, what: str, why: str = "") -> Figure:
            return Figure(name, value, "bytes", f"the simulated board {self.scenario.name}, {what}", why=why)

        return [
            mark("process_bytes", float(process.host_bytes), "the process's pages"),
            mark("process_peak_bytes", float(process.peak_bytes), "the process's high-water mark"),
            mark("system_available_bytes", available, "MemAvailable"),
            mark("system_free_bytes", available, "MemFree"),
            mark("swap_used_bytes", None, "swap", "the simulated board has none"),
            mark("nvmap_bytes", float(device.live_bytes), "NvMapMemUsed")
            if board.unified
            else mark("nvmap_bytes", None, "NvMapMemUsed", "the GPU has its own memory"),
            mark("driver_free_bytes", driver_free, "the driver's free memory"),
            mark("driver_total_bytes", float(board.memory_bytes), "the driver's total"),
            mark(
                "driver_process_bytes", None if board.unified else own, "the driver", not_told if board.unified else ""
            ),
            mark("ledger_bytes", own, "the device's ledger"),
            mark("largest_block_bytes", None, "free blocks", "simulated memory does not fragment"),
            mark("free_blocks_4mib", None, "free blocks", "simulated memory does not fragment"),
        ]

    def open(self, case: Case) -> SimulatedEngine:
        """Raises ``UsageError`` for a model that the scenario does not have, and ``OutOfMemoryError``."""
        model = self.scenario.models.get(case.model)
        if model is None:
            raise UsageError(
                f"the scenario {self.scenario.name} has no model {case.model!r}. "
                f"{did_you_mean(case.model, self.scenario.models)}"
            )
        return SimulatedEngine(self, self._machine, self._process, case, model)

    def fresh(self, order: Order, journal: Path | None) -> Seen:
        """A new process on the same board; when it ends its memory is free again, and the heat stays.

        A process that the kernel kills leaves the rows of its journal, and ``Seen.incomplete``.
        """
        other, begun = SimulatedOrin(self.scenario, build=order.build, _machine=self._machine), 0
        try:
            with contextlib.ExitStack() as around:
                file = None if journal is None else around.enter_context(open_journal(journal))
                begun = file.tell() if file is not None else 0
                return run_launch(other, order, journal=file)
        except SimulatedKill as kill:
            log = SampleLog([stream.case.model for stream in order.streams], launch=order.launch)
            if journal is not None:
                log.extend(read_journal(journal, from_byte=begun))
            case = order.streams[order.judged].case
            dead = Measurement(case, simulated=True, incomplete=str(kill), profile=order.profile.name)
            return Seen(dead, log, Trace(), incomplete=str(kill))
        finally:
            other.exit()

    def exit(self) -> None:
        """End the process of this station, as an exit or a SIGKILL does: its memory is free again."""
        self._process.end()


class SimulatedEngine:
    """A loaded engine of ``SimulatedOrin``."""

    def __init__(
        self, station: SimulatedOrin, machine: _Machine, process: _Process, case: Case, model: SimulatedModel
    ) -> None:
        self.station = station
        self.case = case if case.simulated else replace(case, simulated=station.simulated)
        self.model = model
        self._machine, self._process, self._device = machine, process, machine.device
        self._api = _api(model.name)
        version = machine.scenario.board.tensorrt
        self.engine = f"{model.name} {case.precision} by {version}: build {station.build} of run {machine.seed}"
        self._calls = 0
        self._split = (0, 0, 0, 0)
        self._leaks = [
            (int(event.numbers["every_calls"]), int(event.numbers["size"]))
            for event in station.scenario.of("leak")
            if event.texts.get("model", model.name) == model.name
        ]
        self._durations = self._times()
        self._parts = (machine.device.copy_ns(model.input_bytes), machine.device.copy_ns(model.output_bytes))
        self._blocks: list[int] = []
        self._host_bytes = 0
        self.board_start = station.board_state()
        begun_ns = machine.clock.now_ns()
        with contextlib.ExitStack() as undo:
            undo.callback(self._give_back)
            self._grow(model.host_bytes + model.engine_bytes)  # the plan file is read before the GPU has its weights
            self._blocks.append(process.allocate(model.engine_bytes, f"{model.name}: engine"))
            machine.clock.sleep(model.load_s)
            self._grow(-model.engine_bytes)
            self._blocks.append(process.allocate(model.scratch_bytes, f"{model.name}: scratch"))
            undo.pop_all()
        self._stream = machine.device.create_stream()
        self._events = [machine.device.create_event(has_timing=True) for _ in range(4)]
        self.load_ns = machine.clock.now_ns() - begun_ns

    def _grow(self, size_bytes: int) -> None:
        self._process.grow(size_bytes)
        self._host_bytes += size_bytes

    def _give_back(self) -> None:
        while self._blocks:
            self._process.free(self._blocks.pop())
        if self._process in self._machine.running:
            self._grow(-self._host_bytes)

    def _times(self) -> Iterator[float]:
        """Of one call after the other at the highest clock, in ns."""
        model, machine = self.model, self._machine
        which = zlib.crc32(f"{model.name} {self._process.number}".encode())
        random = np.random.default_rng([machine.scenario.seed, machine.seed, which])
        sigma = math.sqrt(math.log1p(model.jitter_cv**2))
        launch_sigma = math.sqrt(math.log1p(model.launch_cv**2))
        typical_ns = model.ms_at_full_clock * 1e6 * math.exp(launch_sigma * float(random.standard_normal()))
        typical_ns *= machine.boot_factor * _factor(model.build_cv, self.engine)
        rho = model.correlation
        state = np.array([rho * float(random.standard_normal())])
        while True:
            fresh = math.sqrt(1 - rho * rho) * random.standard_normal(_BLOCK)
            levels, state = lfilter([1.0], [1.0, -rho], fresh, zi=state)
            factors = np.exp(sigma * levels)
            factors[random.random(_BLOCK) < model.spike_share] *= model.spike_ratio
            yield from (typical_ns * factors).tolist()

    def infer(self, at: int) -> dict[str, Array]:
        """Copy in, compute, copy out, in virtual time. The values given depend on the model and on ``at``, and mean nothing.

        Raises ``InferenceError``, ``DeviceLostError`` or ``OutOfMemoryError``; ``SimulatedKill`` ends the process.
        """
        device, machine, model = self._device, self._machine, self.model
        begun_ns = machine.clock.now_ns()
        if machine.thermal.is_shut_down:
            raise DeviceLostError(f"the board switched itself off at {machine.thermal.temperature_c:.1f} °C")
        self._calls += 1
        for every, size_bytes in self._leaks:
            if self._calls % every == 0:
                self._process.allocate(size_bytes, f"{model.name}: never given back")
        if self._calls == 1 and model.first_call_ms:
            machine.clock.sleep(model.first_call_ms / 1e3)
        try:
            if refused := device.enter(self._api):
                raise DeviceError(refused)
            took_ns = next(self._durations) * machine.slower()
            fixed_ns = round(took_ns * model.memory_bound)
            stream, (first, second, third, fourth) = self._stream, self._events
            device.record_event(first, stream)
            device.enqueue(stream, "copy in", _nothing, fixed_ns=self._parts[0])
            device.record_event(second, stream)
            device.enqueue(stream, model.name, _nothing, busy_ns=round(took_ns) - fixed_ns, fixed_ns=fixed_ns)
            device.record_event(third, stream)
            device.enqueue(stream, "copy out", _nothing, fixed_ns=self._parts[1])
            device.record_event(fourth, stream)
            device.synchronize(stream)
            spans = [
                round(device.elapsed_ms(a, b) * 1e6) for a, b in ((first, second), (second, third), (third, fourth))
            ]
        except DeviceError as error:
            sticky = error.name in STICKY
            raise (DeviceLostError if sticky else InferenceError)(f"{model.name}: {error.name}") from error
        total_ns = machine.clock.now_ns() - begun_ns
        self._split = (spans[0], spans[1], spans[2], max(0, total_ns - sum(spans)))
        return {"simulated": np.array([zlib.crc32(model.name.encode()), at], np.int64)}

    def split(self) -> tuple[int, int, int, int]:
        return self._split

    def measurement(self, *, first_call_ns: int | None = None) -> Measurement:
        """It says that it is simulated, and that it is no witness of any numerics."""
        case, where = self.case, f"simulated {self.station.simulated}"
        return Measurement(
            case=case,
            placement=f"{case.runtime}[{where}]",
            lane_name=lane_name(case.runtime, case.precision),
            provider="simulated",
            precision_ran=_ran_in(self.model.layers) or case.precision,
            nodes_by_precision=dict(self.model.layers),
            nodes_by_provider=dict(self.model.placed),
            model_sha256=self._sha256(),
            simulated=True,
            witness=False,
            load_ns=self.load_ns,
            first_call_ns=first_call_ns,
            board_start=self.board_start,
            board_end=self.station.board_state(),
            seed=self._machine.seed,
            notes=(f"virtual time on the simulated board {self.station.simulated}: nothing was computed",),
        )

    def facts(self) -> EngineFacts:
        """Of the engine as a file, as a real station's tells it; one that its scenario says nothing of has no layers."""
        version, model = self._machine.scenario.board.tensorrt, self.model
        precisions = [each for each, count in model.layers.items() for _ in range(count)]
        places = [each for each, count in model.placed.items() for _ in range(count)][: len(precisions)]
        layers = tuple(
            EngineLayer(f"{model.name} {at}", "Layer", precision, place)
            for at, (precision, place) in enumerate(zip_longest(precisions, places, fillvalue=""))
        )
        return EngineFacts(
            lineage={
                "engine": self._sha256(),
                "builder": f"tensorrt {version} (simulated)",
                **(
                    {"builder_options": ", ".join(f"{name}={value}" for name, value in sorted(model.options.items()))}
                    if model.options
                    else {}
                ),
            },
            size_bytes=model.engine_bytes,
            size_source="the plan file",
            build_ns=round(model.build_s * 1e9 * _factor(model.build_cv, f"{self.engine}: its build")) or None,
            build_source="virtual time",
            layers=Layers("inspector", self._sha256(), layers),
        )

    def _sha256(self) -> str:
        return hashlib.sha256(f"{self.engine}: {self.model}".encode()).hexdigest()

    def close(self) -> None:
        """Its memory is given back; what leaked is not. A second time does nothing."""
        if self._events:
            for event in self._events:
                self._device.destroy_event(event)
            self._device.destroy_stream(self._stream)
            self._events = []
        self._give_back()


def _nothing() -> None:
    """What the work of a simulated engine does."""


def _factor(cv: float, what: str) -> float:
    """Log-normal, of median 1, and the same each time for the same thing."""
    random = np.random.default_rng(zlib.crc32(what.encode()))
    return math.exp(math.sqrt(math.log1p(cv**2)) * float(random.standard_normal()))


def _ran_in(layers: Mapping[str, int]) -> str:
    """The precision of an engine's layers; ``mixed`` where they are of several, and "" where it does not tell."""
    return "mixed" if len(layers) > 1 else next(iter(layers), "")


def _api(model: str) -> str:
    return f"enqueueV3 of {model}"
