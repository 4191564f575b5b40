"""Where a case's inputs come from: a file, a hook, or made up from the model's signature (and then said to be)."""

from __future__ import annotations

import glob
import importlib
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from harness.errors import UsageError, did_you_mean
from harness.numerics.parity import digest
from runtime.data import TensorSpec, describe_shape
from runtime.protocol import Array

__all__ = ["Feed", "call_hook", "check_feeds", "concrete", "digest", "load_npz", "made_up", "resolve_hook"]

Feed = Mapping[str, Array]

_INTEGER_HIGH = 2
_MOST_OFFERED = 12


def concrete(spec: TensorSpec, dims: Mapping[str, int]) -> tuple[int, ...]:
    """The shape with every named dimension given its size. Raises ``UsageError`` that names one without a size."""
    shape: list[int] = []
    for size in spec.shape:
        if isinstance(size, str) and size not in dims:
            raise UsageError(
                f"input {spec.name!r} is {describe_shape(spec.shape)} and nothing says how large {size!r} is. "
                f"Give dims = {{ {size} = ... }} in the configuration, or inputs as an .npz file."
            )
        shape.append(dims[size] if isinstance(size, str) else size)
    return tuple(shape)


def made_up(specs: Sequence[TensorSpec], dims: Mapping[str, int], count: int, *, seed: int) -> list[dict[str, Array]]:
    """``count`` feeds that fit a signature; deterministic by seed.

    Rank-4 floating inputs get image-like texture in [0, 1] (a 1/f spectrum: white noise drives other activations than
    images do, methods B3), other floating ones a smooth signal around 0, integers small indices, booleans a mask.
    """
    chance = np.random.default_rng(seed)
    return [{spec.name: _one(spec, concrete(spec, dims), chance) for spec in specs} for _ in range(count)]


def _one(spec: TensorSpec, shape: tuple[int, ...], chance: np.random.Generator) -> Array:
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "b":
        return chance.random(shape) < 0.5
    if dtype.kind in "iu":
        return chance.integers(0, _INTEGER_HIGH, shape).astype(dtype)
    if dtype.kind != "f":
        raise UsageError(
            f"input {spec.name!r} has type {spec.dtype}; no input can be made up. Give inputs as an .npz file."
        )
    low, high = (0.0, 1.0) if len(shape) == 4 else (-1.0, 1.0)
    low = spec.low if spec.low is not None else low
    high = spec.high if spec.high is not None else high
    field = _texture(shape, chance)
    return (low + (high - low) * field).astype(dtype)


def _texture(shape: tuple[int, ...], chance: np.random.Generator) -> Array:
    """A field in [0, 1] with a 1/f amplitude spectrum along its last two axes (natural images have one)."""
    if not shape:
        return np.asarray(chance.random())
    axes = tuple(range(max(0, len(shape) - 2), len(shape)))
    frequency = np.zeros(shape[axes[0] :])
    for at, axis in enumerate(axes):
        steps = np.fft.fftfreq(shape[axis]) * shape[axis]
        frequency = frequency + np.expand_dims(steps**2, tuple(i for i in range(len(axes)) if i != at))
    spectrum = np.fft.fftn(chance.standard_normal(shape), axes=axes) / np.sqrt(np.maximum(frequency, 1.0))
    field = np.real(np.fft.ifftn(spectrum, axes=axes))
    spread = float(np.ptp(field))
    return np.asarray((field - field.min()) / spread if spread else np.full(shape, 0.5))


def load_npz(pattern: str, folder: Path) -> list[dict[str, Array]]:
    """One feed per ``.npz`` file that the glob ``pattern`` matches (relative to ``folder``), in the order of names."""
    paths = sorted(glob.glob(str(folder / pattern)))  # noqa: PTH207 (an absolute pattern must work too)
    if not paths:
        raise UsageError(f"no inputs match {pattern!r} in {folder}. Each .npz file is one sample, an array per input.")
    return [_read_npz(Path(path)) for path in paths]


def _read_npz(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as file:  # opened here, since numpy leaves it open when it refuses
            arrays = np.load(file, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise zipfile.BadZipFile("it holds one array without a name")
            return {name: np.ascontiguousarray(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is no .npz file of arrays: {error}. Write it with numpy.savez.") from error


def resolve_hook(hook: str, folders: Iterable[Path]) -> Callable[..., Any]:
    """``module:function``, looked for in ``folders`` first. Raises ``UsageError`` with the import error in it."""
    module_name, _, name = hook.partition(":")
    for folder in map(str, folders):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
        found = getattr(module, name, None)
    except (Exception, SystemExit) as error:  # whoever ends the process would end it in green
        raise UsageError(f"{hook} cannot be loaded: {type(error).__name__}: {error}.") from error
    if found is None:
        raise UsageError(f"{hook} cannot be loaded: {module_name} has no {name!r}. {_offer(name, module)}")
    if not callable(found):
        raise UsageError(f"{hook} is a {type(found).__name__}; expected a function or class.")
    return found  # type: ignore[no-any-return] # callable() does not narrow Any


def _offer(word: str, module: ModuleType) -> str:
    """What a hook of this module may name: its own functions and classes, or all that it has where it has none."""
    known = {name: value for name, value in vars(module).items() if callable(value) and not name.startswith("_")}
    own = sorted(name for name, value in known.items() if getattr(value, "__module__", "") == module.__name__)
    names = own or sorted(known)
    if not names:
        return "It has no function and no class."
    near = did_you_mean(word, names)
    more = f" and {len(names) - _MOST_OFFERED} more" if len(names) > _MOST_OFFERED else ""
    has = f"It has {', '.join(names[:_MOST_OFFERED])}{more}."
    return f"{near} {has}" if near.startswith("Did") else has


def call_hook(hook: str, folders: Iterable[Path]) -> list[dict[str, Array]]:
    """The feeds that a hook yields: mappings from input name to array."""
    feeds = []
    try:
        given = list(resolve_hook(hook, folders)())
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{hook} broke: {type(error).__name__}: {error}.") from error
    for at, feed in enumerate(given):
        if not isinstance(feed, Mapping):
            raise UsageError(f"{hook} yields a {type(feed).__name__} (sample {at}); expected a mapping of arrays.")
        feeds.append({str(name): np.ascontiguousarray(array) for name, array in feed.items()})
    if not feeds:
        raise UsageError(f"{hook} yields nothing; expected at least one feed.")
    return feeds


def check_feeds(feeds: Sequence[Feed], specs: Sequence[TensorSpec], origin: str) -> None:
    """Refuse feeds that do not fit a signature, or hold NaN or Inf, before anything is built from them."""
    for at, feed in enumerate(feeds):
        missing = [spec.name for spec in specs if spec.name not in feed]
        extra = sorted(set(feed) - {spec.name for spec in specs})
        if missing or extra:
            raise UsageError(f"{origin}, sample {at}: lacks {missing} and has unknown {extra}.")
        for spec in specs:
            array = feed[spec.name]
            fits = len(array.shape) == len(spec.shape) and all(
                isinstance(want, str) or want == got for want, got in zip(spec.shape, array.shape, strict=True)
            )
            if not fits or array.dtype != np.dtype(spec.dtype):
                raise UsageError(
                    f"{origin}, sample {at}: input {spec.name!r} is {array.dtype} {describe_shape(array.shape)}; "
                    f"the model takes {spec.dtype} {describe_shape(spec.shape)}."
                )
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
                raise UsageError(f"{origin}, sample {at}: input {spec.name!r} holds {array[where]} at {list(where)}.")
