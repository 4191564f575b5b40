"""A simulated board and what happens to it, as a file: watts, trip points, bytes, delays, clocks (architecture, decision 4).

A scenario holds physics only. What a budget is, and whether it was kept, is the business of configurations and gates.

``like`` names another scenario of the same folder, whose tables this one's overlay; its events are taken where this one has
none. So twins differ by the line that puts them on either side of a threshold.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config import _Table as Table
from harness.errors import UsageError, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["EVENTS", "Event", "Fan", "OverCurrent", "Scenario", "SimulatedBoard", "SimulatedModel", "load_scenario"]


@dataclass(frozen=True)
class OverCurrent:
    """Above ``limit_w`` a counter goes up, and the clock to the share ``slow_to`` of itself for ``for_s``.

    ``noise_w``: standard deviation of the power that the circuit sees, ten times a second.
    """

    limit_w: float
    for_s: float
    slow_to: float
    noise_w: float = 0.0


@dataclass(frozen=True)
class Fan:
    """With it on a watt warms the board by ``kelvin_per_w_on``, at ``rpm`` turns a minute.

    A thermostat: on from ``on_c``, off again under ``off_c``. Or a timer: on for ``on_s`` of every ``every_s``.
    """

    kelvin_per_w_on: float
    rpm: float
    on_c: float | None = None
    off_c: float | None = None
    every_s: float | None = None
    on_s: float | None = None


@dataclass(frozen=True)
class SimulatedBoard:
    """``busy_w``: at the highest clock, with the GPU busy all the time. ``kelvin_per_w``: what one watt ends in.

    ``passive_c``: from here the governor takes clocks, or the hardware goes to ``throttled_mhz``; ``critical_c``: off.
    ``start_c`` ``None``: as it settles when idle. ``system_bytes``: in use before anything of ours; ``process_bytes``: by
    a process before it loads an engine. ``unified``: the GPU's memory is the host's. ``tensorrt``: what builds its engines.
    ``boot_cv``: how much slower or faster all of it is from one boot (a seed) to the next.
    """

    name: str
    module: str
    sm: str
    jetpack: str
    power_mode: str
    power_mode_id: int
    clocks_mhz: tuple[int, ...]
    emc_mhz: float
    idle_w: float
    busy_w: float
    kelvin_per_w: float
    seconds_to_settle: float
    ambient_c: float
    passive_c: float
    critical_c: float
    hysteresis_c: float
    memory_bytes: int
    start_c: float | None = None
    throttled_mhz: int | None = None
    unified: bool = True
    system_bytes: int = 0
    process_bytes: int = 0
    over_current: OverCurrent | None = None
    fan: Fan | None = None
    tensorrt: str = "10.3.0"
    boot_cv: float = 0.0


@dataclass(frozen=True)
class SimulatedModel:
    """``ms_at_full_clock``: of the computation alone. ``memory_bound``: share of it that does not follow the clock.

    The times are log-normal, of coefficient of variation ``jitter_cv``, each one's logarithm correlated with the last one's
    by ``correlation``. ``spike_share`` of the calls take ``spike_ratio`` times as long. ``launch_cv``: from one process to
    the next. ``first_call_ms``: what the first call takes besides. ``host_bytes``: what it adds to the process.
    ``build_s``: what building its engine takes; ``build_cv``: how that and the engine vary from build to build. ``layers``:
    of the engine, by precision; ``placed``: by where they run (``gpu``, ``dla``); ``options``: of the builder, as they are
    read back from it. Empty: it does not tell.
    """

    name: str
    ms_at_full_clock: float
    memory_bound: float
    engine_bytes: int
    scratch_bytes: int
    load_s: float
    input_bytes: int
    output_bytes: int
    host_bytes: int = 0
    jitter_cv: float = 0.0
    correlation: float = 0.0
    spike_share: float = 0.0
    spike_ratio: float = 1.0
    launch_cv: float = 0.0
    first_call_ms: float = 0.0
    build_s: float = 0.0
    build_cv: float = 0.0
    layers: Mapping[str, int] = field(default_factory=dict)
    placed: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


EVENTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "burst": (("every_s", "for_s", "slower"), ("from_s",)),
    "cap": (("at_s", "mhz"), ()),
    "sensor": (("name", "gone_at_s"), ("back_at_s",)),
    "leak": (("size", "every_calls"), ("model",)),
    "other_process": (("at_s", "name"), ("slower",)),
    "suspend": (("at_s", "for_s"), ()),
    "clock_step": (("at_s", "by_s"), ()),
    "warming": (("from_s", "for_s", "c_per_min"), ()),
    "fault": (("at_call", "error"), ("model",)),
    "kill": (("size",), ()),
}
"""What can happen, with the keys that it needs and those that it may have. Seconds count from when the board was started.

``burst``: from ``from_s`` on, every ``every_s`` for ``for_s``, the GPU takes ``slower`` times as long. ``cap``: the power mode
allows this clock. ``sensor``: a value of the instruments (``gpu_temp_c``; all that begin so where it ends in ``*``) cannot be
read for a time. ``leak``: so much device memory is never given back, once in so many calls. ``other_process``: begins to use
the GPU. ``suspend``: the machine sleeps. ``clock_step``: its wall clock is set. ``warming``: of the air around it. ``fault``:
the call of this number in a process fails with an error of the driver. ``kill``: the kernel kills the process that has come
to hold so much.
"""


@dataclass(frozen=True)
class Event:
    """``kind``: one of ``EVENTS``; ``numbers`` and ``texts`` by key. ``size`` is in bytes."""

    kind: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """``name``: of its file. ``seed``: of all that is random in it."""

    name: str
    board: SimulatedBoard
    models: Mapping[str, SimulatedModel]
    events: tuple[Event, ...] = ()
    seed: int = 0

    def of(self, kind: str) -> list[Event]:
        """The events of a kind."""
        return [event for event in self.events if event.kind == kind]


def load_scenario(path: Path, library: Path | None = None) -> Scenario:
    """Read a scenario. ``library``: a folder where what it is ``like`` is looked for after its own.

    Raises ``UsageError`` that names the file, the key, what came and what was expected.
    """
    table = Table(_overlaid(path, (), library), str(path))
    table.get("like", str, "the name of a scenario")
    if not isinstance(table.values.get("board"), dict):
        raise UsageError(f"{path} has no [board]. Give it one, or say like = 'NAME' of a scenario beside it.")
    board = table.optional("board", _board)
    models = {name: _model(name, table.inside("model", name)) for name in table.names("model")}
    assert board is not None
    events = table.get("event", list, "[[event]] tables") or []
    seed = table.number("seed", above=-1.0)
    table.done()
    if not models:
        raise UsageError(f"{path} has no [model.NAME]: nothing could run on this board.")
    read = tuple(_event(Table(event, f"{path}: [[event]] {at + 1}"), board, models) for at, event in enumerate(events))
    return Scenario(path.stem, board, models, read, int(seed or 0))


def _overlaid(path: Path, seen: tuple[Path, ...], library: Path | None) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = [file.stem for file in path.parent.glob("*.toml")]
        raise UsageError(f"There is no scenario {path}. {did_you_mean(path.stem, known)}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}.") from error
    like = values.get("like")
    if not isinstance(like, str):
        return values
    below = path.with_name(f"{like}.toml")
    if library is not None and not below.exists():
        below = library / below.name
    if below in (*seen, path):
        raise UsageError(f"{path}: like = {like!r} goes round in a circle. One of them has to stand alone.")
    return _merged(_overlaid(below, (*seen, path), library), values)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _merged(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _needed(table: Table, key: str, *, above: float | None = 0.0) -> float:
    value = table.number(key, above=above)
    if value is None:
        raise UsageError(f"{table.where}: needs {key}.")
    return value


def _share(table: Table, key: str, default: float = 0.0) -> float:
    value = table.number(key, above=None)
    if value is not None and not 0 <= value <= 1:
        raise UsageError(f"{table.where}: {key} is {value!r}; expected a share from 0 to 1.")
    return default if value is None else value


def _text(table: Table, key: str) -> str:
    value = table.text(key)
    if not value:
        raise UsageError(f"{table.where}: needs {key}.")
    return value


def _size(table: Table, key: str) -> int:
    value = table.size_bytes(key)
    if value is None:
        raise UsageError(f"{table.where}: needs {key}, a size such as '180 MiB'.")
    return value


def _board(table: Table) -> SimulatedBoard:
    clocks = table.get("clocks_mhz", list, "a list of clocks") or []
    if not clocks or any(type(clock) is not int or clock <= 0 for clock in clocks) or sorted(set(clocks)) != clocks:
        raise UsageError(f"{table.where}: clocks_mhz is {clocks!r}; expected whole numbers above 0 that rise.")
    mode = table.optional("power_mode", lambda inner: (_needed(inner, "id", above=-1.0), _text(inner, "name")))
    if mode is None:
        raise UsageError(f"{table.where}: needs power_mode = {{ id = 0, name = 'MAXN' }}.")
    throttled = table.number("throttled_mhz")
    if throttled is not None and throttled not in clocks:
        raise UsageError(f"{table.where}: throttled_mhz is {throttled:g}; expected one of clocks_mhz.")
    board = SimulatedBoard(
        name=_text(table, "name"),
        module=_text(table, "module"),
        sm=_text(table, "sm"),
        jetpack=_text(table, "jetpack"),
        power_mode=mode[1],
        power_mode_id=int(mode[0]),
        clocks_mhz=tuple(clocks),
        emc_mhz=_needed(table, "emc_mhz"),
        idle_w=_needed(table, "idle_w"),
        busy_w=_needed(table, "busy_w"),
        kelvin_per_w=_needed(table, "kelvin_per_w"),
        seconds_to_settle=_needed(table, "seconds_to_settle"),
        ambient_c=_needed(table, "ambient_c", above=None),
        passive_c=_needed(table, "passive_c"),
        critical_c=_needed(table, "critical_c"),
        hysteresis_c=_needed(table, "hysteresis_c"),
        memory_bytes=_size(table, "memory"),
        start_c=table.number("start_c", above=None),
        throttled_mhz=None if throttled is None else int(throttled),
        unified=table.text("memory_kind", "unified", among=("unified", "own")) == "unified",
        system_bytes=table.size_bytes("system") or 0,
        process_bytes=table.size_bytes("process") or 0,
        over_current=table.optional("over_current", _over_current),
        fan=table.optional("fan", _fan),
        tensorrt=table.text("tensorrt") or "10.3.0",
        boot_cv=_share(table, "boot_cv"),
    )
    if board.busy_w < board.idle_w or board.critical_c <= board.passive_c:
        raise UsageError(f"{table.where}: expected idle_w <= busy_w and passive_c < critical_c.")
    return board


def _over_current(table: Table) -> OverCurrent:
    noise = table.number("noise_w", above=-1e-300)
    slow_to = _share(table, "slow_to", 0.5)
    return OverCurrent(_needed(table, "limit_w"), _needed(table, "for_s"), slow_to or 0.01, noise or 0.0)


def _fan(table: Table) -> Fan:
    fan = Fan(
        _needed(table, "kelvin_per_w_on"),
        _needed(table, "rpm"),
        *(table.number(key) for key in ("on_c", "off_c", "every_s", "on_s")),
    )
    is_thermostat = fan.on_c is not None and fan.off_c is not None and fan.off_c < fan.on_c
    is_timer = fan.every_s is not None and fan.on_s is not None and fan.on_s < fan.every_s
    if is_thermostat == is_timer or None not in (fan.on_c, fan.every_s):
        raise UsageError(f"{table.where}: expected off_c < on_c (a thermostat), or on_s < every_s (a timer).")
    return fan


def _model(name: str, table: Table) -> SimulatedModel:
    correlation = _share(table, "correlation")
    if correlation >= 1:
        raise UsageError(f"{table.where}: correlation is {correlation:g}; expected less than 1.")
    model = SimulatedModel(
        name=name,
        ms_at_full_clock=_needed(table, "ms_at_full_clock"),
        memory_bound=_share(table, "memory_bound"),
        engine_bytes=_size(table, "engine"),
        scratch_bytes=_size(table, "scratch"),
        load_s=_needed(table, "load_s"),
        input_bytes=_size(table, "input"),
        output_bytes=_size(table, "output"),
        host_bytes=table.size_bytes("host") or 0,
        jitter_cv=_share(table, "jitter_cv"),
        correlation=correlation,
        spike_share=_share(table, "spike_share"),
        spike_ratio=table.number("spike_ratio") or 1.0,
        launch_cv=_share(table, "launch_cv"),
        first_call_ms=table.number("first_call_ms", above=-1e-300) or 0.0,
        build_s=table.number("build_s") or 0.0,
        build_cv=_share(table, "build_cv"),
        layers=_counts(table, "layers"),
        placed=_counts(table, "placed"),
        options=_options(table),
    )
    table.done()
    return model


def _counts(table: Table, key: str) -> Mapping[str, int]:
    counts: dict[str, int] = table.get(key, dict, "numbers of layers, as { fp16 = 60, fp32 = 4 }") or {}
    for name, count in counts.items():
        if type(count) is not int or count < 0:
            raise UsageError(f"{table.where}: {key}.{name} is {count!r}; expected a number of layers.")
    return {name: count for name, count in counts.items() if count}


def _options(table: Table) -> Mapping[str, str]:
    options: dict[str, str] = table.get("options", dict, 'text by name, as { builder_optimization_level = "3" }') or {}
    for name, value in options.items():
        if type(value) is not str:
            raise UsageError(f"{table.where}: options.{name} is {value!r}; expected text.")
    return options


_TEXTS = ("name", "model", "error")
_SIGNED = ("by_s", "c_per_min")
_TIMES = ("at_s", "from_s", "gone_at_s")


def _event(table: Table, board: SimulatedBoard, models: Mapping[str, SimulatedModel]) -> Event:
    if not isinstance(table.values, dict):
        raise UsageError(f"{table.where} is {table.values!r}; expected a table.")
    kind = _text(table, "kind")
    if kind not in EVENTS:
        raise UsageError(f"{table.where}: kind is {kind!r}. {did_you_mean(kind, EVENTS)}")
    needed, possible = EVENTS[kind]
    numbers: dict[str, float] = {}
    texts: dict[str, str] = {}
    for key in (*needed, *possible):
        if key not in table.values and key in possible:
            table.get(key, object, "")
        elif key in _TEXTS:
            texts[key] = _text(table, key)
        else:
            above = None if key in _SIGNED else -1e-300 if key in _TIMES else 0.0
            numbers[key] = _size(table, key) if key == "size" else _needed(table, key, above=above)
    table.done()
    if "model" in texts and texts["model"] not in models:
        raise UsageError(f"{table.where}: there is no model {texts['model']!r}. {did_you_mean(texts['model'], models)}")
    if kind == "burst" and numbers["for_s"] >= numbers["every_s"]:
        raise UsageError(
            f"{table.where}: lasts {numbers['for_s']:g} s of every {numbers['every_s']:g} s; expected less."
        )
    if kind == "cap" and numbers["mhz"] < board.clocks_mhz[0]:
        raise UsageError(f"{table.where}: mhz is {numbers['mhz']:g}, under the lowest clock, {board.clocks_mhz[0]}.")
    return Event(kind, numbers, texts)
