"""The classes that a build is told by: ``IBuilderConfig``, ``IOptimizationProfile``, ``ITimingCache``."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass, field
from typing import Any

from harness.fakes.bindings import Face
from harness.fakes.onnx_model import Shape
from harness.fakes.tensorrt_library import Library, Voice
from harness.fakes.tensorrt_properties import enum_setting, object_setting, setting

__all__ = ["FACES", "Config", "Profile", "new_config"]

_TIMING_HEADER = b"simulated timing cache\n"
_RTX_TIMING = "Use Deprecated in TensorRT-RTX 1.2. Timing cache operations are no-ops in TensorRT-RTX. instead."


@dataclass(eq=False)
class Config:
    library: Library
    voice: Voice
    flags: int
    pools: dict[str, int] = field(default_factory=dict)
    profiles: list[dict[str, tuple[Shape, ...]]] = field(default_factory=list)
    profile_values: list[dict[str, list[list[int]]]] = field(default_factory=list)
    calibration_profile: Any = None
    cache: Any = None
    capabilities: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, Any] = field(default_factory=dict)

    def has(self, flag: str) -> bool:
        """Whether a builder flag is set; one that this release does not have never is."""
        member = getattr(self.library.module.BuilderFlag, flag, None)
        return member is not None and bool(self.flags >> int(member) & 1)

    def choice(self, name: str, default: str) -> str:
        """The name of the enum member that a setting has."""
        return str(self.settings[name].name) if name in self.settings else default


@dataclass(eq=False)
class Profile:
    voice: Voice
    shapes: dict[str, tuple[Shape, ...]] = field(default_factory=dict)
    values: dict[str, list[list[int]]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class _Timings:
    """``key``: of the device and library that the timings are from."""

    key: str
    entries: dict[str, str] = field(default_factory=dict)


class IBuilderConfig(Face):
    __slots__ = ()
    DLA_core = setting("DLA_core", -1)
    avg_timing_iterations = setting("avg_timing_iterations", 1)
    l2_limit_for_tiling = setting("l2_limit_for_tiling", 0)
    max_aux_streams = setting("max_aux_streams", -1)
    max_num_tactics = setting("max_num_tactics", -1)
    plugins_to_serialize = setting("plugins_to_serialize", [])
    profile_stream = setting("profile_stream", 0)
    quantization_flags = setting("quantization_flags", 0)
    profiling_verbosity = enum_setting("profiling_verbosity", "ProfilingVerbosity", "LAYER_NAMES_ONLY")
    hardware_compatibility_level = enum_setting("hardware_compatibility_level", "HardwareCompatibilityLevel", "NONE")
    engine_capability = enum_setting("engine_capability", "EngineCapability", "STANDARD")
    default_device_type = enum_setting("default_device_type", "DeviceType", "GPU")
    runtime_platform = enum_setting("runtime_platform", "RuntimePlatform", "SAME_AS_BUILD")
    tiling_optimization_level = enum_setting("tiling_optimization_level", "TilingOptimizationLevel", "NONE")
    progress_monitor = object_setting("progress_monitor", "IProgressMonitor")
    int8_calibrator = object_setting("int8_calibrator", "IInt8Calibrator")
    num_optimization_profiles = property(lambda self: len(self._state.profiles))

    @property
    def flags(self) -> int:
        return int(self._state.flags)

    @flags.setter
    def flags(self, value: int) -> None:
        self._state.flags = int(value)

    @property
    def builder_optimization_level(self) -> int:
        return int(self._state.settings.get("builder_optimization_level", 3))

    @builder_optimization_level.setter
    def builder_optimization_level(self, value: int) -> None:
        self._state.settings["builder_optimization_level"] = min(5, max(0, int(value)))

    def set_flag(self, flag: Any) -> None:
        self._state.flags |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        self._state.flags &= ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        return bool(self._state.flags >> int(flag) & 1)

    def set_preview_feature(self, feature: Any, enable: bool) -> None:
        self._state.settings[str(feature)] = bool(enable)

    def get_preview_feature(self, feature: Any) -> bool:
        return bool(self._state.settings.get(str(feature), False))

    def set_tactic_sources(self, tactic_sources: int) -> bool:
        self._state.settings["tactic_sources"] = int(tactic_sources)
        return True

    def get_tactic_sources(self) -> int:
        every = self._library.module.TacticSource.__members__.values()
        return int(self._state.settings.get("tactic_sources", sum(1 << int(source) for source in every)))

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._state.pools[pool.name] = int(pool_size)

    def get_memory_pool_limit(self, pool: Any) -> int:
        total = self._library.device.memory_bytes
        whole = {
            "WORKSPACE": total,
            "TACTIC_DRAM": total * 3 // 4,
            "DLA_LOCAL_DRAM": 1 << 30,
            "DLA_GLOBAL_DRAM": 1 << 29,
        }
        return int(self._state.pools.get(pool.name, whole.get(pool.name, 0)))

    def add_optimization_profile(self, profile: Any) -> int:
        state = self._state
        if not profile:
            self._fail("addOptimizationProfile", "profile->isValid(). ")
            return -1
        state.profiles.append(dict(profile._state.shapes))
        state.profile_values.append(dict(profile._state.values))
        return len(state.profiles) - 1

    def set_calibration_profile(self, profile: Any) -> bool:
        self._state.calibration_profile = profile
        return bool(profile)

    def get_calibration_profile(self) -> Any:
        return self._state.calibration_profile

    def set_quantization_flag(self, flag: Any) -> None:
        self.quantization_flags = self.quantization_flags | 1 << int(flag)

    def clear_quantization_flag(self, flag: Any) -> None:
        self.quantization_flags = self.quantization_flags & ~(1 << int(flag))

    def get_quantization_flag(self, flag: Any) -> bool:
        return bool(self.quantization_flags >> int(flag) & 1)

    def create_timing_cache(self, serialized_timing_cache: Any) -> Any:
        self._tell_deprecated()
        library, voice = self._library, self._state.voice
        api = "IBuilderConfig.create_timing_cache"
        if not library.entered(api, voice, "IBuilderConfig::createTimingCache", needs_device=False):
            return None
        data = bytes(memoryview(serialized_timing_cache))
        timings = _Timings(_timing_key(library)) if not data else _read_timings(data)
        if timings is None:
            library.say(voice.logger, "WARNING", "The timing cache will not be used!")
            library.say(voice.logger, "WARNING", "Failed to deserialize timing cache. Returning an empty timing cache.")
            timings = _Timings(_timing_key(library))
        return library.make("ITimingCache", timings)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        self._tell_deprecated()
        library, voice = self._library, self._state.voice
        api = "IBuilderConfig.set_timing_cache"
        if not library.entered(api, voice, "IBuilderConfig::setTimingCache", needs_device=False):
            return False
        if cache._state.key != _timing_key(library) and not ignore_mismatch:
            library.say(
                voice.logger,
                "WARNING",
                "The CUDA/TensorRT version or the device of the timing cache does not match. The timing cache will not be used!",
            )
            return False
        self._state.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._state.cache

    @property
    def num_compute_capabilities(self) -> int:
        return len(self._state.capabilities)

    @num_compute_capabilities.setter
    def num_compute_capabilities(self, value: int) -> None:
        had = self._state.capabilities
        self._state.capabilities = [*had, *["NONE"] * value][:value]

    def set_compute_capability(self, compute_capability: Any, index: int) -> bool:
        if not 0 <= index < len(self._state.capabilities):
            condition = (
                "index >= 0 && index < std::ssize(mConfig.computeCapabilities). Index of compute capability is not in a"
            )
            self._fail("setComputeCapability", f"{condition} valid range.")
            return False
        self._state.capabilities[index] = compute_capability.name
        return True

    def get_compute_capability(self, index: int) -> Any:
        return self._library.enum("ComputeCapability", self._state.capabilities[index])

    def reset(self) -> None:
        fresh = new_config(self._library, self._state.voice)
        self._state = fresh

    def _tell_deprecated(self) -> None:
        if self._library.flavour.is_rtx:
            warnings.warn(_RTX_TIMING, DeprecationWarning, stacklevel=4)

    def _fail(self, method: str, condition: str) -> None:
        text = (
            f"IBuilderConfig::{method}: Error Code 3: API Usage Error (Parameter check failed, condition: {condition})"
        )
        self._library.fail(self._state.voice, "INVALID_ARGUMENT", text)


class IOptimizationProfile(Face):
    __slots__ = ()
    extra_memory_target = setting("extra_memory_target", 1.0)

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002  # the library's names
        shapes = tuple(tuple(int(size) for size in shape) for shape in (min, opt, max))
        if len({len(shape) for shape in shapes}) != 1 or any(size < 0 for shape in shapes for size in shape):
            raise ValueError(f"the shapes for {input} are inconsistent: {shapes}")
        self._state.shapes[input] = shapes

    def get_shape(self, input: str) -> list[Any]:  # noqa: A002
        if input not in self._state.shapes:
            self._library.fail(
                self._state.voice,
                "INVALID_CONFIG",
                "IOptimizationProfile::getDimensions: Error Code 4: API Usage Error (Cannot get dimensions for input: "
                f"{input}. Input is not present in this OptimizationProfile)",
            )
            return []
        return [self._library.dims(shape) for shape in self._state.shapes[input]]

    def set_shape_input(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
        self._state.values[input] = [list(values) for values in (min, opt, max)]

    def get_shape_input(self, input: str) -> list[list[int]]:  # noqa: A002
        return list(self._state.values.get(input, []))

    def __bool__(self) -> bool:
        wrong = [
            name
            for name, (least, best, most) in self._state.shapes.items()
            if not all(a <= b <= c for a, b, c in zip(least, best, most, strict=True))
        ]
        if wrong:
            self._library.fail(
                self._state.voice,
                "INVALID_CONFIG",
                "IOptimizationProfile::isValid: Error Code 4: API Usage Error (Invalid optimization profiles for input tensors "
                f"{', '.join(wrong)}, please ensure that the optimization profiles satisfy MIN<=OPT<=MAX.)",
            )
        return not wrong


class ITimingCache(Face):
    __slots__ = ()

    def serialize(self) -> Any:
        timings = self._state
        body = json.dumps({"key": timings.key, "entries": timings.entries}, sort_keys=True).encode()
        return self._library.host_memory(_TIMING_HEADER + hashlib.sha256(body).digest() + body)

    def combine(self, input_cache: Any, ignore_mismatch: bool) -> bool:
        if input_cache._state.key != self._state.key and not ignore_mismatch:
            return False
        self._state.entries.update(input_cache._state.entries)
        return True

    def reset(self) -> bool:
        self._state.entries.clear()
        return True


def new_config(library: Library, voice: Voice) -> Config:
    """What a configuration starts with."""
    return Config(library, voice, 1 << int(library.module.BuilderFlag.TF32))


def _timing_key(library: Library) -> str:
    return f"{library.flavour.text} sm{library.device.sm} {library.device.name}"


def _read_timings(data: bytes) -> _Timings | None:
    digest, body = data[len(_TIMING_HEADER) :][:32], data[len(_TIMING_HEADER) + 32 :]
    if not data.startswith(_TIMING_HEADER) or hashlib.sha256(body).digest() != digest:
        return None
    told = json.loads(body)
    return _Timings(told["key"], told["entries"])


FACES: tuple[type[Face], ...] = (IBuilderConfig, IOptimizationProfile, ITimingCache)
