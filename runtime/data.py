"""The values that travel through the core: what to build, what was built, what it takes and gives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from runtime.errors import ConfigError, EngineBuildError

__all__ = [
    "PRECISIONS",
    "ROUTES",
    "TYPINGS",
    "BuildConfig",
    "EngineCacheEntry",
    "EngineDescription",
    "EngineHandle",
    "EngineLayer",
    "Profile",
    "TensorSpec",
    "ThermalState",
]

PRECISIONS = ("fp32", "fp16", "int8", "mixed")
ROUTES = ("polygraphy", "trtexec")
TYPINGS = ("", "flags", "strongly-typed")


@dataclass(frozen=True)
class Profile:
    """The shapes that one input may take: ``min``, ``opt`` and ``max`` have the same rank and min <= opt <= max."""

    input: str
    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("min", "opt", "max"):
            object.__setattr__(self, name, tuple(int(size) for size in getattr(self, name)))
        if not self.input:
            raise ConfigError("an optimization profile names no input.")
        if not len(self.min) == len(self.opt) == len(self.max):
            raise ConfigError(
                f"the profile of {self.input!r} has shapes of rank {len(self.min)}, {len(self.opt)} and "
                f"{len(self.max)}; the three must have one rank."
            )
        if any(not 0 < low <= best <= high for low, best, high in zip(self.min, self.opt, self.max, strict=True)):
            raise ConfigError(
                f"the profile of {self.input!r} is min {self.min}, opt {self.opt}, max {self.max}; "
                "each size must satisfy 0 < min <= opt <= max."
            )


@dataclass(frozen=True)
class BuildConfig:
    """How to build an engine (RT-03). Validated on construction.

    ``precision``: ``fp32``, ``fp16``, ``int8``, or ``mixed`` (fp16, plus int8 where a dataset is given).
    ``workspace_mb``: the builder's workspace limit in MiB. ``calibration_dataset``: a folder or file of
    calibration inputs, needed for ``int8``. ``route``: ``polygraphy`` or ``trtexec``. ``typing``: how precision is told to a
    TensorRT that knows both ways, ``flags`` (of the builder, and a calibrator) or ``strongly-typed`` (the model's own types);
    empty: the library's own.

    Raises ``ConfigError`` for a value out of range and ``EngineBuildError`` for int8 without a dataset.
    """

    precision: str = "fp16"
    workspace_mb: int = 1024
    calibration_dataset: Path | None = None
    optimization_profiles: tuple[Profile, ...] = ()
    route: str = "polygraphy"
    typing: str = ""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision is {self.precision!r}; expected one of {', '.join(PRECISIONS)}.")
        if self.route not in ROUTES:
            raise ConfigError(f"route is {self.route!r}; expected one of {', '.join(ROUTES)}.")
        if self.typing not in TYPINGS:
            raise ConfigError(f"typing is {self.typing!r}; expected one of {', '.join(TYPINGS[1:])}, or nothing.")
        if isinstance(self.workspace_mb, bool) or not isinstance(self.workspace_mb, int) or self.workspace_mb <= 0:
            raise ConfigError(f"workspace_mb is {self.workspace_mb!r}; expected a whole number of MiB above 0.")
        if self.calibration_dataset is not None:
            object.__setattr__(self, "calibration_dataset", Path(self.calibration_dataset))
        profiles = tuple(p if isinstance(p, Profile) else Profile(*p) for p in self.optimization_profiles)
        object.__setattr__(self, "optimization_profiles", profiles)
        names = [profile.input for profile in profiles]
        if len(set(names)) != len(names):
            raise ConfigError(f"optimization_profiles name an input twice: {', '.join(names)}.")
        if self.precision == "int8" and self.calibration_dataset is None:
            raise EngineBuildError(
                "precision int8 needs a calibration_dataset, and none was given.",
                remedy="Name a folder of calibration inputs, or ask for fp16.",
            )


@dataclass(frozen=True)
class EngineCacheEntry:
    """The record that points at an engine on disk (RT-04). Says what the file claims; the engine gate checks it.

    ``sha256``: lower-case hex of the file's bytes (of an ONNX model: with its external data, TR-06).
    ``sm``: compute capability as ``"87"``, or ``"none"`` without a GPU. ``jetpack``: ``"6.2"`` or ``"none"``.
    ``trt``: ``"10.3"``, ``"rtx1.7"`` or ``"none"``. ``extras``: strings only.
    """

    engine_path: Path
    sha256: str
    sm: str
    jetpack: str
    trt: str
    precision: str
    extras: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "engine_path", Path(self.engine_path))
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ConfigError(f"sha256 is {self.sha256!r}; expected 64 lower-case hexadecimal digits.")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision is {self.precision!r}; expected one of {', '.join(PRECISIONS)}.")
        bad = [key for key, value in self.extras.items() if not isinstance(key, str) or not isinstance(value, str)]
        if bad:
            raise ConfigError(f"extras[{bad[0]!r}] is not text; extras map text to text.")
        object.__setattr__(self, "extras", MappingProxyType(dict(self.extras)))

    def __hash__(self) -> int:
        return hash((self.engine_path, self.sha256, self.precision))

    def to_json(self) -> str:
        """One JSON object with the field names as keys, keys sorted."""
        values: dict[str, Any] = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        values["engine_path"] = str(self.engine_path)
        values["extras"] = dict(self.extras)
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EngineCacheEntry:
        """The inverse of ``to_json``. Raises ``ConfigError`` that names the missing or unknown key."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"an engine entry is not JSON: {error}.") from error
        if not isinstance(values, dict):
            raise ConfigError(f"an engine entry is a JSON {type(values).__name__}; expected an object.")
        known = {entry.name for entry in fields(cls)}
        unknown, missing = sorted(set(values) - known), sorted(known - set(values) - {"extras"})
        if unknown or missing:
            raise ConfigError(f"an engine entry has unknown keys {unknown} and lacks {missing}.")
        return cls(**values)


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: ``shape`` holds an ``int``, or a name (``"n"``) where the size is free.

    ``dtype``: numpy's name (``"float32"``). ``low`` and ``high``: the declared range of values, inclusive, or ``None``.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    low: float | None = None
    high: float | None = None


class EngineHandle:
    """An engine in memory, opaque to its user (RT-05): give it to ``infer`` and ``release_engine`` of its own runtime.

    Holds whatever its strategy needs in ``resources``; nobody else looks there.
    """

    __slots__ = ("__weakref__", "entry", "owner", "resources")

    def __init__(self, owner: object, entry: EngineCacheEntry, resources: Any) -> None:
        self.owner = owner
        self.entry = entry
        self.resources = resources

    @property
    def released(self) -> bool:
        """True once ``release_engine`` has taken the resources away."""
        return self.resources is None

    def __repr__(self) -> str:
        state = "released" if self.released else "resident"
        return f"<EngineHandle {self.entry.engine_path.name} {self.entry.precision} {state}>"


@dataclass(frozen=True)
class EngineLayer:
    """One layer, node or module of a loaded engine. ``kind``: the library's own word (``Conv``, ``CaskConvolution``).

    ``precision``: what it computes in; empty for one that moves or converts values, or that does not tell. ``provider``:
    where it ran; ``tactic``: which kernel was chosen; empty where the library does not tell.
    """

    name: str
    kind: str
    precision: str = ""
    provider: str = ""
    tactic: str = ""


@dataclass(frozen=True)
class EngineDescription:
    """What a loaded engine says of itself, read back from the library and never from the request (``describe``).

    ``provider``: what computes (``"cpu"``, ``"cuda"``, ``"tensorrt"``). ``nodes_by_provider``: how many graph nodes
    ran where; empty where the library has no such notion. ``precision``: what was really used: ``fp32``, ``fp16``,
    ``int8``, ``mixed`` or ``unknown``. ``nodes_by_precision``: how many nodes computed in which type.
    ``device_bytes`` / ``host_bytes``: resident bytes, ``None`` where they cannot be known (then ``notes`` says why).
    ``layers``: each of them, as ``layers_source`` told it (``inspector``, ``profile``, ``modules``). ``built``: files of
    engines that the library built for itself and loaded, beside the entry's own file.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    provider: str
    nodes_by_provider: Mapping[str, int]
    precision: str
    nodes_by_precision: Mapping[str, int]
    device_bytes: int | None
    host_bytes: int | None
    notes: tuple[str, ...] = ()
    layers: tuple[EngineLayer, ...] = ()
    layers_source: str = ""
    built: tuple[Path, ...] = ()


@dataclass(frozen=True)
class ThermalState:
    """One reading (RT-06). Temperatures in °C, clock in MHz, time in monotonic ns. ``None``: not known, with no guess.

    With ``is_telemetry_available`` False, ``thermal_throttle_active`` is False and every figure is ``None`` (TH-03).
    """

    cpu_temp_c: float | None
    gpu_temp_c: float | None
    thermal_throttle_active: bool
    measured_clock_mhz: float | None
    measured_at_ns: int
    is_telemetry_available: bool

    @classmethod
    def unknown(cls, measured_at_ns: int) -> ThermalState:
        """The safe default: nothing is known, and nothing is claimed."""
        return cls(None, None, False, None, measured_at_ns, False)


def describe_shape(shape: Sequence[int | str]) -> str:
    """``(1, 3, n, 640)`` as ``1x3xnx640``; a scalar as ``scalar``."""
    return "x".join(str(size) for size in shape) or "scalar"
