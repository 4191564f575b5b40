"""What TensorRT is told by a builder configuration, read back from it when it is whole.

Most of it nobody set: defaults move between versions, and an engine that came out slower for one of them shows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["PREFIX", "builder_words", "in_words", "read_back"]

PREFIX = "config."
"""Of the names of such options in a manifest (``Manifest.builder_options``), beside what the build itself notes."""

_PLAIN = (
    "DLA_core", "avg_timing_iterations", "builder_optimization_level", "default_device_type", "engine_capability",
    "hardware_compatibility_level", "l2_limit_for_tiling", "max_aux_streams", "max_num_tactics", "runtime_platform",
    "tiling_optimization_level",
)  # fmt: skip


def read_back(trt: Any, config: Any) -> dict[str, str]:
    """Options of ``config`` (``IBuilderConfig``) as text by name, with ``PREFIX``; those that this version lacks are left out.

    Enumerations by the name of their member, sets of bits by the names of those that are set, in order.
    """
    found = {name: getattr(config, name, None) for name in _PLAIN}
    told = {name: str(getattr(value, "name", value)) for name, value in found.items() if value is not None}
    told["flags"] = _names(trt.BuilderFlag, config.get_flag)
    sources = config.get_tactic_sources()
    told["tactic_sources"] = _names(trt.TacticSource, lambda source: sources >> int(source) & 1)
    if hasattr(trt, "PreviewFeature"):
        told["preview_features"] = _names(trt.PreviewFeature, config.get_preview_feature)
    return {f"{PREFIX}{name}": value for name, value in sorted(told.items())}


def _names(enum: Any, is_set: Callable[[Any], object]) -> str:
    return " ".join(name for name, member in sorted(enum.__members__.items()) if is_set(member)) or "none"


def builder_words(options: Mapping[str, str]) -> str:
    """What ``read_back`` found among a manifest's ``builder_options``, as ``name=value, name=value``; empty: nothing."""
    return in_words({name.removeprefix(PREFIX): told for name, told in options.items() if name.startswith(PREFIX)})


def in_words(told: Mapping[str, str]) -> str:
    """Options by name as ``name=value, name=value``, in the order of their names."""
    return ", ".join(f"{name}={value}" for name, value in sorted(told.items()))
