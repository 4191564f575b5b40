"""What a clause of the contract is, what it is held against, and the verbs that clauses are written with."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from harness.records import Outcome
from harness.watchdog import Hangs, call_within
from runtime.data import BuildConfig, EngineCacheEntry, EngineHandle, describe_shape
from runtime.errors import RuntimeCoreError, RuntimeNotAvailableError
from runtime.protocol import Array, InferenceRuntime

Feed = Mapping[str, Array]
T = TypeVar("T")


class ClauseBroken(AssertionError):  # noqa: N818 (what it is, as a word)
    """What was seen, in words."""


class NotApplicable(Exception):  # noqa: N818 (it is no error)
    """Why a clause says nothing about this runtime."""


@dataclass(frozen=True)
class Subject:
    """A runtime to be held against the contract, and a small model with what comes of it.

    ``make``: a fresh runtime with no engine loaded. ``model``, ``build``: what it compiles. ``feeds`` and ``expected``:
    inputs and outputs by name, feed by feed; the first two feeds are of one shape, the third is of another.
    ``folder``: everything that may be written lies in it. ``label``: the one that it must carry; empty: any of ``LABELS``.

    What not every runtime tells: ``resident_bytes`` of a runtime; ``device_calls``: how many there were so far;
    ``make_poor``: a runtime whose memory budget is 0. ``around``: what each clause runs in, a simulated device perhaps; it
    may break the clause on leaving. ``printed``: what went to standard output while clauses ran.
    """

    make: Callable[[], InferenceRuntime]
    model: Path
    build: BuildConfig
    feeds: Sequence[Feed]
    expected: Sequence[Feed]
    folder: Path
    label: str = ""
    resident_bytes: Callable[[InferenceRuntime], int | None] = lambda runtime: getattr(runtime, "resident_bytes", None)
    device_calls: Callable[[], int] | None = None
    make_poor: Callable[[], InferenceRuntime] | None = None
    around: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    printed: list[str] = field(default_factory=list, init=False)

    @cached_property
    def entry(self) -> EngineCacheEntry:
        """The engine of the model: compiled once, loaded by every clause."""
        return self.make().compile_engine(self.model, self.build)

    def another_model(self) -> Path:
        """The same model under another name: compiling it again leaves the engine of ``entry`` alone."""
        copy = self.model.with_name(f"{self.model.stem}_again{self.model.suffix}")
        return Path(shutil.copyfile(self.model, copy))


@dataclass(frozen=True)
class Clause:
    """``means``: what it means for who uses the runtime when it is broken. ``serves``: the requirements behind it."""

    id: str
    title: str
    means: str
    serves: tuple[str, ...]
    hold: Callable[[Subject], None] = field(repr=False, compare=False)


@dataclass(frozen=True)
class ClauseResult:
    """``outcome``: PASS, FAIL or NOT RUN. ``reason``: what was seen, or why it was not run; empty for PASS."""

    clause: Clause
    outcome: Outcome
    reason: str = ""


CLAUSES: list[Clause] = []
"""In the order in which they run; ``tiers.contract`` fills it."""

_FIRST = ("C-01", "C-02", "C-03")
"""Without these there is nothing to hold the others against."""
_PATIENCE = 2
"""After so many clauses that hang, the rest is left: their threads cannot be ended, and may disturb what follows."""


def clause(id: str, title: str, serves: str) -> Callable[[Callable[[Subject], None]], None]:  # noqa: A002
    """Put the function into ``CLAUSES``; its docstring says what it means when the clause is broken."""

    def register(hold: Callable[[Subject], None]) -> None:
        CLAUSES.append(Clause(id, title, hold.__doc__ or "", tuple(serves.split()), hold))

    return register


def settle(one: Clause, subject: Subject, earlier: Sequence[ClauseResult], limit_s: float) -> ClauseResult:
    """Hold one clause against the subject, in the light of what was found before."""
    broken = [result.clause.id for result in earlier if result.outcome is Outcome.FAIL]
    needed = [name for name in _FIRST if name in broken]
    if needed:
        return ClauseResult(one, Outcome.NOT_RUN, f"nothing to hold it against: {needed[0]} is broken")
    if sum("HANGS" in result.reason for result in earlier) >= _PATIENCE:
        return ClauseResult(one, Outcome.NOT_RUN, f"{_PATIENCE} clauses hang already")
    try:
        with _caught(subject.printed), subject.around():
            call_within(limit_s, lambda: one.hold(subject))
    except NotApplicable as reason:
        return ClauseResult(one, Outcome.NOT_RUN, str(reason))
    except Hangs as error:
        return ClauseResult(one, Outcome.FAIL, f"HANGS: {error}")
    except ClauseBroken as error:
        return ClauseResult(one, Outcome.FAIL, str(error))
    except (Exception, SystemExit) as error:
        if isinstance(error, RuntimeNotAvailableError) and one.id in _FIRST:
            raise
        return ClauseResult(one, Outcome.FAIL, f"{named(error)} came out")
    return ClauseResult(one, Outcome.PASS)


# What the clauses are made of.


def must(holds: bool, otherwise: str) -> None:
    """No ``assert``: the contract is also checked under ``python -O``."""
    if not holds:
        raise ClauseBroken(otherwise)


@contextlib.contextmanager
def loaded(subject: Subject) -> Iterator[tuple[InferenceRuntime, EngineHandle]]:
    """A fresh runtime with the engine in it, which is released at the end."""
    runtime = subject.make()
    handle = runtime.deserialize_engine(subject.entry)
    try:
        yield runtime, handle
    finally:
        runtime.release_engine(handle)


def refused(
    kind: type[RuntimeCoreError], doing: str, call: Callable[..., object], *arguments: object, **more: object
) -> str:
    """The message of the error of ``kind`` that the call must raise."""
    try:
        call(*arguments, **more)
    except kind as error:
        return str(error)
    except Exception as error:
        raise ClauseBroken(f"{doing}: {named(error)} came out; expected {kind.__name__}") from error
    raise ClauseBroken(f"{doing}: nothing was raised; expected {kind.__name__}")


def quietly(doing: str, call: Callable[..., object], *arguments: object) -> None:
    """Nothing may be raised."""
    try:
        call(*arguments)
    except Exception as error:
        raise ClauseBroken(f"{doing}: {named(error)} came out; expected nothing") from error


def typed(value: object, kind: type, giver: str) -> None:
    must(isinstance(value, kind), f"{giver} gave a {type(value).__name__}; expected a {kind.__name__}")


def right(subject: Subject, at: int, outputs: Any, when: str = "") -> None:
    """The outputs of feed ``at`` are there, and about what they should be: half precision may have computed them."""
    after = f" {when}" if when else ""
    typed(outputs, dict, "infer")
    for name, want in subject.expected[at].items():
        must(name in outputs, f"there is no output {name!r}{after}; there are {', '.join(map(repr, outputs))}")
        got = np.asarray(outputs[name])
        must(
            got.shape == want.shape,
            f"{name!r} is {describe_shape(got.shape)}{after}; expected {describe_shape(want.shape)}",
        )
        scale = float(np.max(np.abs(want), initial=1.0))
        error = float(np.max(np.abs(got.astype(np.float64) - want), initial=0.0))
        must(error <= 0.02 * scale, f"{name!r} is off by {error:.3g}{after}, where values go up to {scale:.3g}")


def copied(arrays: Feed) -> dict[str, Array]:
    return {name: np.array(array) for name, array in arrays.items()}


def unlike(first: Feed, second: Feed) -> list[str]:
    """The names whose arrays differ in a single bit."""
    return [
        name for name in first if not np.array_equal(first[name], second[name], equal_nan=first[name].dtype.kind == "f")
    ]


def mistakes(feed: Feed) -> Iterator[tuple[str, str, Any]]:
    """(what is wrong, the name that the error must tell, the inputs)."""
    for name, array in feed.items():
        other = np.float64 if array.dtype != np.float64 else np.float32
        yield f"{name!r} is missing", name, {key: value for key, value in feed.items() if key != name}
        yield f"{name!r} is a list", name, {**feed, name: array.tolist()}
        yield f"{name!r} is {np.dtype(other)}", name, {**feed, name: array.astype(other)}
        yield f"{name!r} has one axis more", name, {**feed, name: array[np.newaxis]}
        yield f"{name!r} is wider", "", {**feed, name: np.concatenate([array, array[..., :1]], axis=-1)}
        yield f"{name!r} is not contiguous", name, {**feed, name: np.repeat(array, 2, axis=-1)[..., ::2]}
    yield "there is one input too many", "no_such_input", {**feed, "no_such_input": np.zeros(1, np.float32)}
    yield "the inputs are no mapping", "", list(feed.values())


def together(calls: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """All at once, a thread each; what each gave or raised."""
    results: list[Any] = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def run(at: int) -> None:
        start.wait()
        try:
            results[at] = calls[at]()
        except Exception as error:
            results[at] = error

    threads = [threading.Thread(target=run, args=(at,), daemon=True) for at in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def elsewhere(call: Callable[..., T], *arguments: object) -> T:
    """In a thread that did nothing before."""
    (result,) = together([partial(call, *arguments)])
    if isinstance(result, Exception):
        raise result
    return result


def known_bytes(subject: Subject, runtime: InferenceRuntime) -> int:
    count = subject.resident_bytes(runtime)
    if count is None:
        raise NotApplicable("the runtime does not tell its resident_bytes")
    return count


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@contextlib.contextmanager
def damaged(subject: Subject, harm: Callable[[Path], object]) -> Iterator[EngineCacheEntry]:
    """An entry that points at a copy of the engine, with what lies beside it, after ``harm`` was done to the copy."""
    path = subject.entry.engine_path
    with tempfile.TemporaryDirectory(dir=subject.folder) as folder:
        for beside in path.parent.glob(f"{path.stem}*"):
            if beside.is_file():
                shutil.copy(beside, folder)
        copy = Path(folder, path.name)
        harm(copy)
        yield replace(subject.entry, engine_path=copy)


def _flip_the_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 0xFF
    path.write_bytes(data)


def _become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


HARMS: Mapping[str, Callable[[Path], object]] = {
    "is not there": Path.unlink,
    "is empty": lambda path: path.write_bytes(b""),
    "is a folder": _become_a_folder,
    "is cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "has a flipped byte": _flip_the_last_byte,
    "is text": lambda path: path.write_text("no engine, whatever its name says\n"),
}
"""What may have happened to an engine file, and the hash in its entry tells."""


def named(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error) or 'without a word'}"[:300]


@contextlib.contextmanager
def _caught(told: list[str]) -> Iterator[None]:
    """What is written to standard output meanwhile, by Python or by a library beneath it, goes into ``told``.

    For the thread that watches, since one that hangs would never put it back.
    """
    sys.stdout.flush()
    with tempfile.TemporaryFile(mode="w+b") as below, tempfile.TemporaryFile(mode="w+", encoding="utf-8") as above:
        copy = _duplicate(1)
        if copy is not None:
            os.dup2(below.fileno(), 1)
        try:
            with contextlib.redirect_stdout(above):
                yield
        finally:
            if copy is not None:
                ctypes.CDLL(None).fflush(None)  # what C's printf still holds
                os.dup2(copy, 1)
                os.close(copy)
            for file in (above, below):
                file.seek(0)
            told += [above.read(), below.read().decode(errors="replace")]


def _duplicate(descriptor: int) -> int | None:
    with contextlib.suppress(OSError):  # the process has none
        return os.dup(descriptor)
    return None
