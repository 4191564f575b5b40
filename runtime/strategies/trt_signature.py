"""What an engine takes and gives, read off the engine itself, and held against what its manifest declares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from runtime.data import Profile, TensorSpec, describe_shape
from runtime.errors import EngineDeserializeError, EngineSchemaMismatchError

__all__ = ["Signature", "Slot", "read_signature"]

_PROFILE = 0
_FREE = -1
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}
"""TensorRT's types that numpy has, too; by the enumeration's names, as its numbers are not the same in every version."""


@dataclass(frozen=True)
class Slot:
    """One input or output. ``shape``: as built, -1 where free. ``largest``: of an input, in the profile.

    ``is_on_host``: TensorRT reads or writes it in host memory, as it needs the values to know shapes. ``values``: such an
    input's largest values in the profile.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_on_host: bool
    largest: tuple[int, ...] = ()
    values: tuple[int, ...] = ()

    @property
    def is_free(self) -> bool:
        """Whether a size of it may differ from call to call."""
        return _FREE in self.shape


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs in the engine's order, and what is said of them to the outside."""

    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    input_specs: tuple[TensorSpec, ...]
    output_specs: tuple[TensorSpec, ...]
    profiles: tuple[Profile, ...]
    profile_count: int


def read_signature(
    trt: ModuleType, engine: Any, *, inputs: Sequence[TensorSpec] = (), outputs: Sequence[TensorSpec] = ()
) -> Signature:
    """Read an engine's tensors and its first optimization profile; ``inputs`` and ``outputs`` are what is declared.

    Raises ``EngineDeserializeError`` for what this runtime cannot feed or read (a type that numpy lacks, a format that
    is not linear, a free size with no profile), and ``EngineSchemaMismatchError`` where the declaration does not fit.
    """
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    slots = {name: _slot(trt, engine, name) for name in names}
    is_input = {name: engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
    taken, profiles = [], []
    for name in names:
        if is_input[name]:
            slot, profile = _with_profile(engine, slots[name])
            taken.append(slot)
            profiles += [profile] if profile else []
    given = [slots[name] for name in names if not is_input[name]]
    return Signature(
        tuple(taken),
        tuple(given),
        _specs("inputs", taken, inputs),
        _specs("outputs", given, outputs),
        tuple(profiles),
        engine.num_optimization_profiles,
    )


def _slot(trt: ModuleType, engine: Any, name: str) -> Slot:
    kind = engine.get_tensor_dtype(name).name
    if kind not in _DTYPES:
        raise EngineDeserializeError(
            f"{name!r} is of type {kind}, which numpy does not have.",
            remedy=f"Cast it in the model to one of {', '.join(_DTYPES.values())}.",
        )
    form = engine.get_tensor_format(name)
    if form != trt.TensorFormat.LINEAR:
        raise EngineDeserializeError(
            f"{name!r} has the format {form.name}; only LINEAR (C order) can be fed and read.",
            remedy="Build the engine again with `trigate compile`.",
        )
    is_on_host = engine.get_tensor_location(name) == trt.TensorLocation.HOST
    return Slot(name, tuple(engine.get_tensor_shape(name)), np.dtype(_DTYPES[kind]), is_on_host)


def _with_profile(engine: Any, slot: Slot) -> tuple[Slot, Profile | None]:
    """An input with its largest shape and, where TensorRT needs its values, the largest of them."""
    largest, profile, values = slot.shape, None, ()
    if slot.is_free:
        low, best, largest = _bounds(engine, slot)
        # an input with no elements is legal for TensorRT, and of no use to a model
        profile = Profile(slot.name, tuple(max(1, size) for size in low), best, largest)
    if slot.is_on_host:
        # bound as (profile_index, name), whatever its docstring says
        listed = engine.get_tensor_profile_values(_PROFILE, slot.name)
        values = tuple(listed[-1]) if listed else ()
    return replace(slot, largest=largest, values=values), profile


def _bounds(engine: Any, slot: Slot) -> tuple[tuple[int, ...], ...]:
    """Smallest, best and largest shape. Raises ``EngineDeserializeError`` where there are none."""
    listed = engine.get_tensor_profile_shape(slot.name, _PROFILE) if engine.num_optimization_profiles else []
    shapes = tuple(tuple(shape) for shape in listed)
    if len(shapes) != 3 or any(len(shape) != len(slot.shape) or min(shape) < 0 for shape in shapes):
        raise EngineDeserializeError(
            f"input {slot.name!r} is {_shown(slot.shape)}, and the engine has no optimization profile for it.",
            remedy="Build it again with a profile: smallest, best and largest shape of each input with free sizes.",
        )
    return shapes


def _specs(what: str, slots: Sequence[Slot], declared: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Ours for each slot, with the names of free sizes and the ranges that are declared."""
    by_name = {spec.name: spec for spec in declared}
    if declared and set(by_name) != {slot.name for slot in slots}:
        raise EngineSchemaMismatchError(
            f"its manifest declares the {what} {', '.join(by_name)}; the engine has "
            f"{', '.join(slot.name for slot in slots) or 'none'}.",
            remedy="Build the engine again with `trigate compile`.",
        )
    return tuple(_spec(slot, by_name.get(slot.name)) for slot in slots)


def _spec(slot: Slot, declared: TensorSpec | None) -> TensorSpec:
    own = tuple(f"{slot.name}_{axis}" if size == _FREE else size for axis, size in enumerate(slot.shape))
    if declared is None:
        return TensorSpec(slot.name, own, slot.dtype.name)
    fits = len(declared.shape) == len(own) and all(
        isinstance(mine, str) or mine == theirs for mine, theirs in zip(own, declared.shape, strict=True)
    )
    if not fits or declared.dtype != slot.dtype.name:
        raise EngineSchemaMismatchError(
            f"its manifest declares {slot.name!r} as {declared.dtype} {describe_shape(declared.shape)}; the engine has "
            f"{slot.dtype.name} {_shown(slot.shape)}.",
            remedy="Build the engine again with `trigate compile`.",
        )
    return declared


def _shown(shape: tuple[int, ...]) -> str:
    return describe_shape(["?" if size == _FREE else size for size in shape])
