"""The configuration a user writes (TOML): boards, models, inputs, tolerances, budgets. Unknown keys are errors.

Architecture's "A user's case" is the form. Paths are relative to the file. Nothing is imported or opened here but the
file itself: hooks (``module:function``) stay text until a pack is made.
"""

from __future__ import annotations

import hashlib
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import UsageError, did_you_mean
from runtime.data import PRECISIONS
from runtime.protocol import LABELS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "BoardConfig",
    "Budget",
    "Configuration",
    "LoadLimits",
    "LoadRule",
    "ModelConfig",
    "TaskRule",
    "ToleranceRule",
    "load_configuration",
    "name_of_file",
    "parse_configuration",
    "parse_requirement",
]

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._]*")
_HOOK = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|MB|GB)")
_MOST_BYTES = 2.0**63
_MOST_HZ = 100_000.0
_LEAST_MS, _MOST_MS = 1e-6, 3.6e6  # a nanosecond, an hour
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Budget:
    """Limits of one model on one board; ``None``: not limited. ``target_p95_ms`` warns, ``p95_ms`` fails."""

    p95_ms: float | None = None
    target_p95_ms: float | None = None
    load_s: float | None = None
    energy_mj: float | None = None


@dataclass(frozen=True)
class LoadLimits:
    """In seconds. ONNX Runtime (OR-07): ``session_s`` with a warm cache, ``first_session_s`` with an empty one. TensorRT
    (TT-09): ``build_s`` of an engine, ``rebuild_int8_s`` of an INT8 one from a calibration cache that is trusted.
    """

    session_s: float = 5.0
    first_session_s: float = 30.0
    build_s: float = 60.0
    rebuild_int8_s: float = 30.0


@dataclass(frozen=True)
class BoardConfig:
    """A board that budgets belong to. ``power_mode`` is expected, never set by us.

    ``gpu_memory_bytes``, ``host_memory_bytes``: with all engines resident. ``engines_bytes``, ``caches_bytes``: files of all
    engines together, and of all calibration caches. ``load``: of sessions and builds, for models with a budget for loading.
    """

    name: str
    module: str = ""
    power_mode: str = ""
    require: tuple[str, ...] = ()
    gpu_memory_bytes: int | None = None
    host_memory_bytes: int | None = None
    engines_bytes: int | None = None
    caches_bytes: int | None = None
    load: LoadLimits = LoadLimits()


@dataclass(frozen=True)
class ToleranceRule:
    """``derived`` (methods B3), ``ignore``, or a stated ``rel_l2`` with the reason ``why``."""

    source: str = "derived"
    rel_l2: float | None = None
    why: str = ""


@dataclass(frozen=True)
class TaskRule:
    """A task metric that the candidate may lose at most ``may_lose`` of, against the reference's outputs."""

    metric: str
    direction: str = "higher"
    may_lose: float = 0.005


@dataclass(frozen=True)
class LoadRule:
    """The rate at which the flight calls the model, in Hz, and what becomes of a late call.

    ``burst``: in the flight mix so many calls are due at once (the matcher's of one frame); ``deadline_ms``: later is late.
    """

    rate_hz: float
    deadline_ms: float | None = None
    late: str = "queue"
    burst: int = 1


@dataclass(frozen=True)
class ModelConfig:
    """One model. ``source``: ``flight:NAME`` or ``light:NAME`` for the built-in ones; else ``onnx`` and/or a checkpoint.

    ``inputs``: ``module:function`` (yields feeds), a glob of ``.npz`` files, or empty (made up from the signature).
    ``dims``: a size for each named dimension, or its (min, opt, max).
    """

    name: str
    source: str = ""
    onnx: Path | None = None
    checkpoint: Path | None = None
    architecture: str = ""
    inputs: str = ""
    precision: tuple[str, ...] = ("fp16",)
    calibration: str = ""
    dims: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    measure_at: tuple[Mapping[str, int], ...] = ()
    tolerance: Mapping[str, ToleranceRule] = field(default_factory=dict)
    task: TaskRule | None = None
    load: LoadRule | None = None
    budget: Mapping[str, Budget] = field(default_factory=dict)


@dataclass(frozen=True)
class Configuration:
    """A whole file. ``folder``: what its paths are relative to. ``sha256``: of its bytes."""

    path: str
    folder: Path
    sha256: str
    plugins: tuple[Path, ...] = ()
    require: tuple[str, ...] = ()
    boards: Mapping[str, BoardConfig] = field(default_factory=dict)
    models: Mapping[str, ModelConfig] = field(default_factory=dict)


def load_configuration(path: Path) -> Configuration:
    """Read a configuration file. Raises ``UsageError`` that names the file, the key, what came and what was expected."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist. Write one with `trigate init`.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    return parse_configuration(data, path)


def parse_configuration(data: bytes, path: Path) -> Configuration:
    """The same, from bytes that are at hand."""
    try:
        table = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}.") from error
    top = _Table(table, str(path))
    folder = path.resolve().parent
    configuration = Configuration(
        path=str(path),
        folder=folder,
        sha256=hashlib.sha256(data).hexdigest(),
        plugins=tuple(folder / name for name in top.texts("plugins")),
        require=tuple(parse_requirement(word, top.where) for word in top.texts("require")),
        boards={name: _board(name, top.inside("board", name)) for name in top.names("board")},
        models={name: _model(name, top.inside("model", name), folder) for name in top.names("model")},
    )
    top.done()
    for model in configuration.models.values():
        for board in model.budget:
            if board not in configuration.boards:
                raise UsageError(
                    f"{path}: model {model.name!r} has a budget for the board {board!r}, which the file does not "
                    f"describe. {did_you_mean(board, configuration.boards)} Or add [board.{board}]."
                )
    return configuration


def name_of_file(path: Path) -> str:
    """What a model is called whose file is named, not a configuration: its stem as ``[model.NAME]`` may have it.

    Where letters are lost that ASCII does not have, six digits of the stem's SHA-256 keep two such files apart.
    """
    name = re.sub(r"[^A-Za-z0-9._]", "_", path.stem).lstrip("._") or "model"
    if all(letter.isascii() or not letter.isalnum() for letter in path.stem):
        return name
    return f"{name.rstrip('._')}_{hashlib.sha256(path.stem.encode(errors='surrogateescape')).hexdigest()[:6]}"


def parse_requirement(word: str, where: str = "require") -> str:
    """``onnx_trt_ep`` or ``onnx_trt_ep[tensorrt]`` as it stands; ``UsageError`` for anything else."""
    match = re.fullmatch(r"([\w.:]+)(?:\[(\w+)\])?", word)
    if match is None:
        raise UsageError(f"{where}: {word!r} is no requirement; expected a runtime, or runtime[placement].")
    label, placement = match.groups()
    if label not in LABELS and ":" not in label:
        raise UsageError(f"{where}: {label!r} is no runtime. {did_you_mean(label, LABELS)}")
    if placement is not None and placement not in ("tensorrt", "cuda", "cpu"):
        raise UsageError(f"{where}: {word!r} names the placement {placement!r}; expected tensorrt, cuda or cpu.")
    return word


class _Table:
    """A TOML table that is read key by key; ``done`` refuses what nobody asked for."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where
        self._asked: set[str] = set()

    def get(self, key: str, kinds: type | tuple[type, ...], expected: str) -> Any:
        self._asked.add(key)
        value = self.values.get(key)
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise UsageError(f"{self.where}: {key} is {value!r}; expected {expected}.")
        return value

    def text(self, key: str, default: str = "", *, among: tuple[str, ...] = ()) -> str:
        value = self.get(key, str, "text")
        if value is None:
            return default
        if among and value not in among:
            raise UsageError(f"{self.where}: {key} is {value!r}; expected one of {', '.join(among)}.")
        return str(value)

    def texts(self, key: str, *, among: tuple[str, ...] = ()) -> tuple[str, ...]:
        values = self.get(key, list, "a list of texts") or []
        for value in values:
            if not isinstance(value, str) or (among and value not in among):
                words = f"among {', '.join(among)}" if among else "text"
                raise UsageError(f"{self.where}: {key} holds {value!r}; expected {words}.")
        return tuple(values)

    def number(self, key: str, *, above: float | None = 0.0) -> float | None:
        value = self.get(key, (int, float), "a number")
        if value is None:
            return None
        if not (math.isfinite(value) and (above is None or value > above)):
            number = "a finite number" if math.isinf(value) else "a number"
            least = "" if above is None else f" above {above:g}"
            raise UsageError(f"{self.where}: {key} is {value!r}; expected {number}{least}.")
        return float(value)

    def size_bytes(self, key: str) -> int | None:
        value = self.text(key)
        if not value:
            return None
        match = _SIZE.fullmatch(value)
        size = float(match[1]) * _UNITS[match[2]] if match is not None else 0.0
        if not 1 <= size < _MOST_BYTES:
            raise UsageError(f"{self.where}: {key} is {value!r:.60}; expected a size such as '4 GiB' or '50 MB'.")
        return int(size)

    def names(self, key: str) -> list[str]:
        table = self.get(key, dict, "a table of tables") or {}
        for name, value in table.items():
            if not isinstance(value, dict):
                raise UsageError(f"{self.where}: [{key}] has {name} = {value!r}; expected [{key}.NAME] tables.")
        return list(table)

    def inside(self, key: str, name: str) -> _Table:
        return _Table(self.values[key][name], f"{self.where}: [{key}.{name}]")

    def optional(self, key: str, read: Callable[[_Table], T]) -> T | None:
        values = self.get(key, dict, "a table")
        if values is None:
            return None
        table = _Table(values, f"{self.where}: {key}")
        result = read(table)
        table.done()
        return result

    def done(self) -> None:
        for key in self.values:
            if key not in self._asked:
                raise UsageError(f"{self.where}: unknown key {key!r}. {did_you_mean(key, self._asked)}")


def _board(name: str, table: _Table) -> BoardConfig:
    memory = table.optional("memory", lambda inner: (inner.size_bytes("gpu"), inner.size_bytes("host")))
    disk = table.optional("disk", lambda inner: (inner.size_bytes("engines"), inner.size_bytes("caches")))
    board = BoardConfig(
        name=name,
        module=table.text("module"),
        power_mode=table.text("power_mode"),
        require=tuple(parse_requirement(word, table.where) for word in table.texts("require")),
        gpu_memory_bytes=memory[0] if memory else None,
        host_memory_bytes=memory[1] if memory else None,
        engines_bytes=disk[0] if disk else None,
        caches_bytes=disk[1] if disk else None,
        load=table.optional("load", _load_limits) or LoadLimits(),
    )
    table.done()
    return board


def _load_limits(table: _Table) -> LoadLimits:
    given = {entry.name: table.number(entry.name) for entry in fields(LoadLimits)}
    return LoadLimits(**{name: seconds for name, seconds in given.items() if seconds is not None})


def _model(name: str, table: _Table, folder: Path) -> ModelConfig:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{table.where}: a model's name has letters, digits, '.' and '_' only, since it names files.")
    torch = table.optional("torch", lambda inner: (inner.text("checkpoint"), inner.text("architecture")))
    onnx = table.text("onnx")
    source = table.text("source")
    if source and (onnx or torch):
        raise UsageError(f"{table.where}: source names a built-in model; onnx and torch have no place beside it.")
    if not (source or onnx or torch):
        raise UsageError(
            f"{table.where}: names no model. Give onnx = 'FILE.onnx', or torch = {{ checkpoint, architecture }}."
        )
    if torch is not None and not all(torch):
        raise UsageError(f"{table.where}: torch needs both checkpoint and architecture.")
    model = ModelConfig(
        name=name,
        source=source,
        onnx=folder / onnx if onnx else None,
        checkpoint=folder / torch[0] if torch else None,
        architecture=torch[1] if torch else "",
        inputs=table.text("inputs"),
        precision=table.texts("precision", among=PRECISIONS) or ("fp16",),
        calibration=table.text("calibration"),
        dims=table.optional("dims", _dims) or {},
        measure_at=_points(table),
        tolerance=table.optional("tolerance", _tolerances) or {},
        task=table.optional("task", _task),
        load=table.optional("load", _load),
        budget=table.optional("budget", _budgets) or {},
    )
    table.done()
    return model


def _dims(table: _Table) -> Mapping[str, tuple[int, int, int]]:
    sizes: dict[str, tuple[int, int, int]] = {}
    for name in table.values:
        value = table.get(name, (int, list), "a size, or [min, opt, max]")
        triple = [value] * 3 if isinstance(value, int) else value
        whole = all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in triple)
        if len(triple) != 3 or not whole or sorted(triple) != triple:
            raise UsageError(
                f"{table.where}: {name} is {value!r}; expected a size, or [min, opt, max] in rising order."
            )
        sizes[name] = (triple[0], triple[1], triple[2])
    return sizes


def _points(table: _Table) -> tuple[Mapping[str, int], ...]:
    points = table.get("measure_at", list, "a list of tables such as { n = 512 }") or []
    for point in points:
        if not isinstance(point, dict) or not all(isinstance(size, int) and size > 0 for size in point.values()):
            raise UsageError(f"{table.where}: measure_at holds {point!r}; expected tables such as {{ n = 512 }}.")
    return tuple(points)


def _tolerances(table: _Table) -> Mapping[str, ToleranceRule]:
    rules: dict[str, ToleranceRule] = {}
    for output in table.values:
        value = table.get(output, (str, dict), "'derived', 'ignore', or { rel_l2 = ..., why = '...' }")
        if isinstance(value, str):
            rules[output] = ToleranceRule(source=table.text(output, among=("derived", "ignore")))
            continue
        stated = _Table(value, f"{table.where}: {output}")
        limit, why = stated.number("rel_l2"), stated.text("why")
        stated.done()
        if limit is None or not why:
            raise UsageError(f"{stated.where}: a stated tolerance needs rel_l2 and why, so that a reader can judge it.")
        rules[output] = ToleranceRule(source="stated", rel_l2=limit, why=why)
    return rules


def _task(table: _Table) -> TaskRule:
    metric = table.text("metric")
    if not _HOOK.fullmatch(metric):
        raise UsageError(f"{table.where}: metric is {metric!r}; expected module:function.")
    lose = table.number("may_lose", above=-1e-300)
    return TaskRule(
        metric, table.text("direction", "higher", among=("higher", "lower")), 0.005 if lose is None else lose
    )


def _load(table: _Table) -> LoadRule:
    rate = table.number("rate_hz")
    if rate is None:
        raise UsageError(f"{table.where}: needs rate_hz.")
    burst = table.get("burst", int, "a whole number of calls, 1 or more")
    if burst is not None and burst < 1:
        raise UsageError(f"{table.where}: burst is {burst}; expected a whole number of calls, 1 or more.")
    burst = 1 if burst is None else burst
    if rate > _MOST_HZ or rate * burst > _MOST_HZ:
        raise UsageError(
            f"{table.where}: rate_hz is {rate:g} with bursts of {burst}; expected at most {_MOST_HZ:g} calls a second."
        )
    late = table.text("late", "queue", among=("queue", "drop"))
    return LoadRule(rate, _ms(table, "deadline_ms"), late, burst)


def _ms(table: _Table, key: str) -> float | None:
    """A time that is told in nanoseconds, none of them half."""
    value = table.number(key)
    if value is not None and not _LEAST_MS <= value <= _MOST_MS:
        raise UsageError(f"{table.where}: {key} is {value:g}; expected milliseconds, up to an hour's.")
    return value


def _budgets(table: _Table) -> Mapping[str, Budget]:
    def one(inner: _Table) -> Budget:
        p95_ms, target_ms = _ms(inner, "p95_ms"), _ms(inner, "target_p95_ms")
        if p95_ms is not None and target_ms is not None and target_ms > p95_ms:
            raise UsageError(
                f"{inner.where}: target_p95_ms is {target_ms:g}, over p95_ms, {p95_ms:g}. A target warns before the budget "
                "fails: give a smaller one, or leave it out."
            )
        return Budget(p95_ms, target_ms, inner.number("load_s"), inner.number("energy_mj"))

    return {board: budget for board in table.values if (budget := table.optional(board, one)) is not None}
