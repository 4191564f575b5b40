"""What every strategy does alike: check what comes in, fill what is asked for, know its handles, report failures."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from runtime.data import EngineCacheEntry, EngineHandle, Profile, TensorSpec, describe_shape
from runtime.errors import ConfigError, EngineDeserializeError, InferenceError, OutOfMemoryError, RuntimeCoreError
from runtime.logs import EventLog, Kind, Level
from runtime.protocol import Array

__all__ = [
    "InputChecker",
    "ResidentHandles",
    "check_out",
    "declared_profiles",
    "declared_specs",
    "fill",
    "let_go",
    "model_name",
    "owned",
    "reported",
    "specs_to_json",
    "zeros",
]


class InputChecker:
    """Holds the inputs of a call against the signature (RT-08): names, types, shapes, memory order.

    ``profiles`` bound the free sizes of the inputs that they name. A symbolic size must be the same wherever its name
    stands in one call. The shapes of the last accepted call are kept, so that a call like the one before costs one
    comparison per input; only what differs is looked at closely.
    """

    __slots__ = ("_count", "_expected", "_profiles", "_specs")

    def __init__(self, specs: Sequence[TensorSpec], profiles: Sequence[Profile] = ()) -> None:
        self._specs = tuple(specs)
        self._profiles = {profile.input: profile for profile in profiles}
        self._count = len(self._specs)
        # A symbolic shape equals no array's shape, so the first call of a free size takes the slow path.
        self._expected: tuple[tuple[str, np.dtype[Any], tuple[int | str, ...]], ...] = tuple(
            (spec.name, np.dtype(spec.dtype), tuple(spec.shape)) for spec in self._specs
        )

    def check(self, inputs: Mapping[str, Array]) -> None:
        """Raise ``InferenceError`` that names the input, what came, and what was expected."""
        if hasattr(inputs, "get") and len(inputs) == self._count:
            for name, dtype, shape in self._expected:
                array = inputs.get(name)
                if (
                    not isinstance(array, np.ndarray)
                    or array.shape != shape
                    or array.dtype != dtype
                    or not array.flags.c_contiguous
                ):
                    break
            else:
                return
        self._accept(inputs)

    def _accept(self, inputs: Mapping[str, Array]) -> None:
        if not isinstance(inputs, Mapping):
            raise InferenceError(f"inputs are a {type(inputs).__name__}; expected a mapping of names to arrays.")
        names = [spec.name for spec in self._specs]
        for name in inputs:
            if name not in names:
                raise InferenceError(f"input {name!r} came, and this engine has none of that name; {self._wanted()}")
        sizes: dict[str, tuple[int, str]] = {}
        accepted = []
        for spec in self._specs:
            if spec.name not in inputs:
                raise InferenceError(f"input {spec.name!r} is missing; {self._wanted()}")
            array = inputs[spec.name]
            _check_array(f"input {spec.name!r}", array, spec)
            self._check_range(spec.name, array.shape)
            for free, size in zip(spec.shape, array.shape, strict=True):
                if not isinstance(free, str):
                    continue
                bound, where = sizes.setdefault(free, (size, spec.name))
                if bound != size:
                    raise InferenceError(
                        f"input {spec.name!r} is {describe_shape(array.shape)}, which makes {free!r} {size}, but "
                        f"input {where!r} made it {bound}; expected one size for {free!r} in one call."
                    )
            accepted.append((spec.name, np.dtype(spec.dtype), array.shape))
        self._expected = tuple(accepted)

    def _check_range(self, name: str, shape: tuple[int, ...]) -> None:
        profile = self._profiles.get(name)
        if profile is None:
            return
        if not all(low <= size <= high for low, size, high in zip(profile.min, shape, profile.max, strict=True)):
            raise InferenceError(
                f"input {name!r} has shape {describe_shape(shape)}; its profile allows "
                f"{describe_shape(profile.min)} to {describe_shape(profile.max)}."
            )

    def _wanted(self) -> str:
        listed = ", ".join(f"{spec.name} ({spec.dtype} {describe_shape(spec.shape)})" for spec in self._specs)
        return f"expected {listed or 'no inputs'}."


def _check_array(what: str, array: Any, spec: TensorSpec) -> None:
    expected = f"expected {spec.dtype} {describe_shape(spec.shape)}"
    if not isinstance(array, np.ndarray):
        raise InferenceError(f"{what} is a {type(array).__name__}; {expected} as a numpy array.")
    if array.dtype != np.dtype(spec.dtype):
        raise InferenceError(f"{what} is {array.dtype} {describe_shape(array.shape)}; {expected}.")
    fits = array.ndim == len(spec.shape) and all(
        isinstance(want, str) or want == size for want, size in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise InferenceError(f"{what} has shape {describe_shape(array.shape)}; {expected}.")
    if not array.flags.c_contiguous:
        raise InferenceError(
            f"{what} is not C-contiguous (a view, a slice or a transpose); {expected} in C order.",
            remedy="Pass numpy.ascontiguousarray(...).",
        )


def check_out(specs: Sequence[TensorSpec], out: Mapping[str, Array], inputs: Mapping[str, Array]) -> None:
    """Hold the caller's output arrays against the signature before any device work; raises ``InferenceError``.

    Free sizes are seen only after the call, by ``fill``. An array that overlaps an input or another output is refused.
    """
    if not isinstance(out, Mapping):
        raise InferenceError(f"out is a {type(out).__name__}; expected a mapping of names to arrays.")
    by_name = {spec.name: spec for spec in specs}
    for name, array in out.items():
        if name not in by_name:
            raise InferenceError(f"out names {name!r}; expected names among {', '.join(by_name)}.")
        _check_array(f"out[{name!r}]", array, by_name[name])
        if not array.flags.writeable:
            raise InferenceError(f"out[{name!r}] is read-only; expected an array that can be filled.")
        for other, source in inputs.items():
            if np.may_share_memory(array, source):
                raise InferenceError(f"out[{name!r}] overlaps input {other!r}, which must not be changed.")
    for (one, first), (two, second) in combinations(out.items(), 2):
        if np.may_share_memory(first, second):
            raise InferenceError(f"out[{one!r}] and out[{two!r}] overlap; expected separate arrays.")


def fill(out: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Copy ``outputs`` into the caller's arrays; return all outputs, the caller's arrays where there are some.

    Raises ``InferenceError`` before the first copy, so that a misfit changes none of the caller's arrays.
    """
    for name, array in out.items():
        if name not in outputs:
            raise InferenceError(f"out names {name!r}; expected names among {', '.join(outputs)}.")
        got = outputs[name]
        if array.shape != got.shape or array.dtype != got.dtype:
            raise InferenceError(
                f"out[{name!r}] is {array.dtype} {describe_shape(array.shape)}; "
                f"the output is {got.dtype} {describe_shape(got.shape)}."
            )
    for name, array in out.items():
        if array is not outputs[name]:
            np.copyto(array, outputs[name])
    return {name: out.get(name, value) for name, value in outputs.items()}


def owned(handle: EngineHandle, runtime: object) -> Any:
    """The resources of a live handle of this runtime (RT-05); raises ``InferenceError`` for any other."""
    if not isinstance(handle, EngineHandle):
        raise InferenceError(f"a {type(handle).__name__} came; expected a handle of deserialize_engine.")
    if handle.owner is not runtime:
        raise InferenceError(
            f"{handle!r} belongs to another runtime.", remedy="Give it to the runtime that deserialised it."
        )
    resources = handle.resources
    if resources is None:
        raise InferenceError(f"{handle!r} was released.", remedy="Deserialise the entry again.")
    return resources


class ResidentHandles:
    """The ledger of a runtime: which handles live, and the bytes that each holds (RT-09, RT-10).

    It keeps no handle alive: one that its user dropped without releasing is freed, and its bytes no longer count.
    """

    def __init__(self) -> None:
        self._bytes: WeakKeyDictionary[EngineHandle, int] = WeakKeyDictionary()

    def add(self, handle: EngineHandle, size_bytes: int) -> None:
        self._bytes[handle] = size_bytes

    def remove(self, handle: EngineHandle) -> None:
        self._bytes.pop(handle, None)

    def __len__(self) -> int:
        return len(self._bytes)

    def __contains__(self, handle: EngineHandle) -> bool:
        return handle in self._bytes

    @property
    def resident_bytes(self) -> int:
        return sum(list(self._bytes.values()))

    def names(self) -> list[str]:
        """``model@precision`` of each live handle, for the event ``c7.ready``."""
        return sorted(f"{model_name(handle.entry)}@{handle.entry.precision}" for handle in list(self._bytes))


def model_name(entry: EngineCacheEntry) -> str:
    """The name for logs and registries: ``extras["model_name"]``, else the file's stem."""
    return entry.extras.get("model_name") or entry.engine_path.stem


def specs_to_json(specs: Sequence[TensorSpec]) -> str:
    """The form of ``extras["inputs"]`` and ``extras["outputs"]``."""
    return json.dumps([{"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype} for spec in specs])


def declared_specs(entry: EngineCacheEntry, key: str) -> tuple[TensorSpec, ...] | None:
    """``extras[key]`` (``"inputs"`` or ``"outputs"``) as specifications, or ``None`` where the entry has none.

    Raises ``EngineDeserializeError`` for text that is not such a list.
    """
    text = entry.extras.get(key)
    if text is None:
        return None
    try:
        specs = tuple(
            TensorSpec(str(value["name"]), tuple(value["shape"]), np.dtype(value["dtype"]).name)
            for value in json.loads(text)
        )
        if all(isinstance(size, (int, str)) for spec in specs for size in spec.shape):
            return specs
        raise TypeError("a size is neither a number nor a name")
    except (KeyError, TypeError, ValueError) as error:
        raise EngineDeserializeError(
            f"extras[{key!r}] of {entry.engine_path.name} is {text!r} ({error}); "
            'expected a JSON list of {"name", "shape", "dtype"}.'
        ) from error


def declared_profiles(entry: EngineCacheEntry, specs: Sequence[TensorSpec]) -> tuple[Profile, ...]:
    """``extras["profiles"]``, a JSON list of {"input", "min", "opt", "max"}, or nothing where the entry has none.

    Raises ``EngineDeserializeError`` for text that is not such a list, or that does not fit the inputs ``specs``.
    """
    text = entry.extras.get("profiles")
    if text is None:
        return ()
    ranks = {spec.name: len(spec.shape) for spec in specs}
    try:
        profiles = tuple(Profile(**value) for value in json.loads(text))
    except (ConfigError, TypeError, ValueError) as error:
        raise EngineDeserializeError(
            f"extras['profiles'] of {entry.engine_path.name} is {text!r} ({error}); "
            'expected a JSON list of {"input", "min", "opt", "max"}.'
        ) from error
    for profile in profiles:
        if ranks.get(profile.input) != len(profile.opt):
            raise EngineDeserializeError(
                f"the profile of {profile.input!r} has shapes like {describe_shape(profile.opt)}; expected one of "
                + ", ".join(f"{spec.name} ({describe_shape(spec.shape)})" for spec in specs)
            )
    return profiles


def zeros(specs: Sequence[TensorSpec]) -> dict[str, Array] | None:
    """A feed of zeros for a warm-up, or ``None`` where a size is free."""
    if any(isinstance(size, str) for spec in specs for size in spec.shape):
        return None
    return {spec.name: np.zeros([int(size) for size in spec.shape], spec.dtype) for spec in specs}


@contextmanager
def reported(log: EventLog, kind: Kind, **values: Any) -> Iterator[None]:
    """Log a core error that passes through as ERROR (LO-01), a refused allocation under its own kind."""
    try:
        yield
    except RuntimeCoreError as error:
        refused = isinstance(error, OutOfMemoryError)
        kind = Kind.OUT_OF_MEMORY if refused else kind
        log.emit(Level.ERROR, kind, error=type(error).__name__, message=str(error), **values)
        raise


def let_go(error: BaseException | None) -> None:
    """Drop the locals of the failed frames: through the traceback they would keep sessions and tensors alive."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__
