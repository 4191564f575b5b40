"""What every runtime promises to who uses it, written once and run on all of them (T0-01): ours, and yours.

    trigate run --tier 0 --runtime my_package.my_module:MyRuntime

A clause is a function of a ``Subject``: it returns, or raises ``ClauseBroken`` with what was seen, and whatever else comes
out of it breaks the clause too. Its docstring says what it means to who uses the runtime when the clause is broken. Each
begins with a fresh runtime, and relies on ``InferenceRuntime`` alone. ``Subject`` and the verbs are in ``tiers.clause``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from runtime.data import (
    PRECISIONS,
    BuildConfig,
    EngineCacheEntry,
    EngineDescription,
    EngineHandle,
    ThermalState,
    describe_shape,
)
from runtime.errors import EngineBuildError, EngineDeserializeError, InferenceError, OutOfMemoryError
from runtime.libraries import LIBRARIES
from runtime.model_file import model_sha256
from runtime.protocol import LABELS, Array, Describes, InferenceRuntime
from tiers.clause import (
    CLAUSES,
    HARMS,
    Clause,
    ClauseBroken,
    ClauseResult,
    NotApplicable,
    Subject,
    clause,
    copied,
    damaged,
    elsewhere,
    files,
    known_bytes,
    loaded,
    mistakes,
    must,
    named,
    quietly,
    refused,
    right,
    settle,
    together,
    typed,
    unlike,
)

__all__ = ["CLAUSES", "Clause", "ClauseBroken", "ClauseResult", "NotApplicable", "Subject", "run_contract"]


def run_contract(subject: Subject, *, clauses: Sequence[Clause] = CLAUSES, limit_s: float = 60.0) -> list[ClauseResult]:
    """Every clause, each within ``limit_s``. Raises ``RuntimeNotAvailableError`` where the runtime cannot run here."""
    results: list[ClauseResult] = []
    for one in clauses:
        results.append(settle(one, subject, results, limit_s))
    return results


@clause("C-01", "It is an InferenceRuntime, with one fixed label", "RT-01 RT-02")
def _(subject: Subject) -> None:
    """Who composes the system cannot hand it on: a method is missing, or nobody can tell which runtime answered."""
    runtime, other = subject.make(), subject.make()
    lacking = [name for name in dir(InferenceRuntime) if name[0] != "_" and not callable(getattr(runtime, name, None))]
    must(not lacking, f"{type(runtime).__name__} has no method {', '.join(lacking)}")
    labels = {runtime.current_runtime_label(), runtime.current_runtime_label(), other.current_runtime_label()}
    told = ", ".join(sorted(map(repr, labels)))
    must(len(labels) == 1 and labels <= set(LABELS), f"the label is {told}; expected one of {', '.join(LABELS)}")
    must(subject.label in ("", *labels), f"the label is {told}; expected {subject.label!r}")


@clause("C-02", "An entry points at a file, with the SHA-256 of that file", "RT-04")
def _(subject: Subject) -> None:
    """What is loaded at take-off cannot be shown to be what was built and tested."""
    entry = subject.entry
    typed(entry, EngineCacheEntry, "compile_engine")
    path = entry.engine_path
    must(path.is_file(), f"the entry points at {path.name}, which is no file")
    own = {hashlib.sha256(path.read_bytes()).hexdigest()}
    if path.suffix == ".onnx":
        own.add(model_sha256(path))  # with its external data
    must(entry.sha256 in own, f"{path.name} has SHA-256 {min(own)[:16]}…, its entry says {entry.sha256[:16]}…")
    must(entry.precision == subject.build.precision, f"{subject.build.precision} was asked, {entry.precision} is noted")


@clause(
    "C-03", "An entry loads in another runtime of its kind, after a trip through JSON, and runs", "RT-01 RT-04 RT-05"
)
def _(subject: Subject) -> None:
    """An engine that was built on the ground cannot be loaded in the air."""
    entry = EngineCacheEntry.from_json(subject.entry.to_json())
    runtime = subject.make()
    handle = runtime.deserialize_engine(entry)
    typed(handle, EngineHandle, "deserialize_engine")
    must(not handle.released, "a handle that was just loaded says that it is released")
    outputs = runtime.infer(handle, subject.feeds[0])
    typed(outputs, dict, "infer")
    runtime.release_engine(handle)
    must(handle.released, "a handle that was released does not say so")


@clause("C-04", "Compiling leaves the model as it was, and twice gives the same entry", "RT-01 RT-09")
def _(subject: Subject) -> None:
    """A build changes what the next one starts from, or nobody can tell an engine that is up to date."""
    model, runtime = subject.another_model(), subject.make()
    before = model.read_bytes()
    entries = [runtime.compile_engine(model, subject.build) for _ in range(2)]
    must(model.read_bytes() == before, f"{model.name} has other bytes than before")
    told = [(entry.engine_path, entry.precision, entry.sm, entry.trt) for entry in entries]
    must(told[0] == told[1], f"the first entry was {told[0]}, the second {told[1]}")


@clause("C-05", "Outputs have the names, shapes and types of the model", "RT-01")
def _(subject: Subject) -> None:
    """What follows the model reads a tensor that is not there, or reads it wrongly."""
    with loaded(subject) as (runtime, handle):
        for feed, expected in zip(subject.feeds, subject.expected, strict=True):
            outputs = runtime.infer(handle, feed)
            told = ", ".join(map(repr, outputs))
            must(set(outputs) == set(expected), f"the outputs are {told}; expected {', '.join(map(repr, expected))}")
            for name, want in expected.items():
                got = outputs[name]
                must(isinstance(got, np.ndarray), f"{name!r} is a {type(got).__name__}; expected a numpy array")
                what, wanted = (f"{array.dtype} {describe_shape(array.shape)}" for array in (got, want))
                must(what == wanted, f"{name!r} is {what}; expected {wanted}")


@clause("C-06", "Results are those of the model, for this input and no other", "RT-01")
def _(subject: Subject) -> None:
    """The numbers are wrong, or belong to an earlier frame."""
    with loaded(subject) as (runtime, handle):
        for at in (*range(len(subject.feeds)), 0):
            right(subject, at, runtime.infer(handle, subject.feeds[at]), f"for feed {at}")


@clause("C-07", "The same input gives the same result", "RT-01")
def _(subject: Subject) -> None:
    """A failure that was seen once cannot be reproduced."""
    with loaded(subject) as (runtime, handle):
        first = copied(runtime.infer(handle, subject.feeds[0]))
        runtime.infer(handle, subject.feeds[1])
        names = unlike(first, runtime.infer(handle, subject.feeds[0]))
        must(not names, f"{names} differ between two calls with one input")


@clause("C-08", "Inputs are not changed, and may be read-only", "RT-01")
def _(subject: Subject) -> None:
    """A frame that several models share is spoiled by the first of them."""
    feed = copied(subject.feeds[0])
    with loaded(subject) as (runtime, handle):
        runtime.infer(handle, feed)
        names = unlike(subject.feeds[0], feed)
        must(not names, f"{names} were changed by the call")
        for array in feed.values():
            array.flags.writeable = False
        right(subject, 0, runtime.infer(handle, feed), "for read-only inputs")


@clause("C-09", "A result is not changed by a later call", "RT-01")
def _(subject: Subject) -> None:
    """A consumer that keeps the last frame's result finds this frame's in it."""
    with loaded(subject) as (runtime, handle):
        kept = [runtime.infer(handle, feed) for feed in subject.feeds]
        then = [copied(outputs) for outputs in kept]
        for feed in reversed(subject.feeds):
            runtime.infer(handle, feed)
        for at, (outputs, before) in enumerate(zip(kept, then, strict=True)):
            right(subject, at, outputs, f"in the result of feed {at} after later calls")
            must(not unlike(before, outputs), f"{unlike(before, outputs)} of feed {at} were changed by a later call")


@clause("C-10", "A result outlives its engine", "RT-01 RT-10")
def _(subject: Subject) -> None:
    """A consumer reads memory that was given back."""
    with loaded(subject) as (runtime, handle):
        outputs = runtime.infer(handle, subject.feeds[0])
        then = copied(outputs)
        runtime.release_engine(handle)
        again = runtime.deserialize_engine(subject.entry)
        runtime.infer(again, subject.feeds[1])
        runtime.release_engine(again)
    must(not unlike(then, outputs), f"{unlike(then, outputs)} were changed by the release of the engine")


@clause("C-11", "A result belongs to the caller", "RT-01")
def _(subject: Subject) -> None:
    """What a consumer does to its result spoils the input, another output or the next result."""
    feed = copied(subject.feeds[0])
    with loaded(subject) as (runtime, handle):
        first, second = (runtime.infer(handle, feed) for _ in range(2))
        arrays = {
            f"{which} {name}": array
            for which, outputs in (("first", first), ("second", second))
            for name, array in outputs.items()
        }
        arrays |= {f"input {name}": array for name, array in feed.items()}
        shared = [
            f"{one} with {two}"
            for at, one in enumerate(arrays)
            for two in list(arrays)[at + 1 :]
            if np.may_share_memory(arrays[one], arrays[two])
        ]
        must(not shared, f"memory is shared: {', '.join(shared)}")
        for name, array in first.items():
            must(array.flags.writeable, f"{name!r} is read-only")
            array.fill(77)
        right(subject, 0, runtime.infer(handle, feed), "after an earlier result was written into")


@clause("C-12", "out= is filled, and given back", "RT-01")
def _(subject: Subject) -> None:
    """A consumer that brings its own arrays reads what was in them before."""
    with loaded(subject) as (runtime, handle):
        everything = {name: np.full_like(array, 77) for name, array in subject.expected[0].items()}
        for out in (everything, dict(list(everything.items())[:1]), {}):
            for array in out.values():
                array.fill(77)
            outputs = runtime.infer(handle, subject.feeds[0], out=out)
            right(subject, 0, outputs, f"with out={list(out)}")
            right(subject, 0, {**outputs, **out}, f"in the caller's own arrays, with out={list(out)}")
            others = [name for name, array in out.items() if outputs[name] is not array]
            must(not others, f"{others} came back in other arrays than the caller's")
        runtime.infer(handle, subject.feeds[1])
        right(subject, 0, everything, "in the caller's own arrays, after a later call without out=")


@clause("C-13", "A wrong out= is refused, and left as it was", "RT-01 RT-08")
def _(subject: Subject) -> None:
    """A slip of the caller ends in a conversion that nobody asked for, or in memory that is not the output's."""
    feed, expected = copied(subject.feeds[0]), subject.expected[0]
    name, array = next((name, array) for name, array in expected.items() if array.dtype.kind == "f")
    wrong: dict[str, Array] = {
        "of another type": np.full(array.shape, 77, np.float64),
        "with one axis more": np.full((1, *array.shape), 77, array.dtype),
        "with one row more": np.full((array.shape[0] + 1, *array.shape[1:]), 77, array.dtype),
        "that is read-only": np.full_like(array, 77),
        "that is not contiguous": np.full((*array.shape, 2), 77, array.dtype)[..., 0],
    }
    wrong["that is read-only"].flags.writeable = False
    with loaded(subject) as (runtime, handle):
        for what, given in wrong.items():
            refused(InferenceError, f"out= {what}", runtime.infer, handle, feed, out={name: given})
            must(bool(np.all(given == 77)), f"an out= {what} was written into before it was refused")
        stranger = {"no_such_output": np.zeros(1, np.float32)}
        told = refused(InferenceError, "out= of no output", runtime.infer, handle, feed, out=stranger)
        must("no_such_output" in told, f"the error does not name the output that there is not: {told}")
        for of, source in feed.items():
            if source.dtype == array.dtype and source.size >= array.size:
                over = source.reshape(-1)[: array.size].reshape(array.shape)
                refused(InferenceError, f"out= over {of!r}", runtime.infer, handle, feed, out={name: over})
        right(subject, 0, runtime.infer(handle, feed), "after wrong out= arrays were refused")


@clause("C-14", "A wrong input is refused by name, before any work", "RT-07 RT-08")
def _(subject: Subject) -> None:
    """A slip of the caller becomes a wrong result, or a fault deep in the device with no hint at its cause."""
    feed = subject.feeds[0]
    with loaded(subject) as (runtime, handle):
        for wrong, name, inputs in mistakes(feed):
            before = subject.device_calls() if subject.device_calls else 0
            told = refused(InferenceError, wrong, runtime.infer, handle, inputs)
            is_named = name in told if name else any(known in told for known in (*feed, "input"))
            must(is_named, f"{wrong}: the error names no {name or 'input'}: {told}")
            made = subject.device_calls() - before if subject.device_calls else 0
            must(made == 0, f"{wrong}: {made} device calls were made before it was refused")


@clause("C-15", "A refused call leaves the runtime as it was", "RT-08 RT-09")
def _(subject: Subject) -> None:
    """One bad frame costs the flight its model."""
    with loaded(subject) as (runtime, handle):
        before = subject.resident_bytes(runtime)
        for wrong, _, inputs in mistakes(subject.feeds[0]):
            with contextlib.suppress(Exception):
                runtime.infer(handle, inputs)
            right(subject, 0, runtime.infer(handle, subject.feeds[0]), f"after a call where {wrong}")
        after = subject.resident_bytes(runtime)
        must(before == after, f"{before} bytes were resident, and {after} are after calls that were refused")


@clause("C-16", "What is no model is refused, at the latest when it is loaded", "RT-07 RT-09")
def _(subject: Subject) -> None:
    """A wrong path in a build script becomes an engine, or a traceback of a library that nobody chose."""
    runtime = subject.make()
    build = replace(subject.build, optimization_profiles=())
    for what, harm in HARMS.items():
        if what == "has a flipped byte":  # may be a model still
            continue
        with tempfile.TemporaryDirectory(dir=subject.folder) as folder:
            model = Path(shutil.copy(subject.model, folder))
            harm(model)
            before = files(subject.folder)
            try:
                entry = runtime.compile_engine(model, build)
            except EngineBuildError:
                left = sorted(set(files(subject.folder)) - set(before))
                must(not left, f"a model that {what} left {', '.join(left)} behind")
                continue
            except Exception as error:
                raise ClauseBroken(f"a model that {what}: {named(error)}; expected EngineBuildError") from error
            refused(
                EngineDeserializeError, f"a model that {what} was compiled, and then", runtime.deserialize_engine, entry
            )


@clause("C-17", "int8 without calibration data is an EngineBuildError", "RT-03")
def _(subject: Subject) -> None:
    """An engine is quantised with ranges that nobody measured."""
    refused(EngineBuildError, "int8 without a dataset", BuildConfig, precision="int8")
    nothing = replace(subject.build, precision="int8", calibration_dataset=subject.folder / "no_such_folder")
    compile_engine = subject.make().compile_engine
    refused(EngineBuildError, "int8 with a dataset that is not there", compile_engine, subject.another_model(), nothing)


@clause("C-18", "An engine that is not what its entry says is refused", "RT-07")
def _(subject: Subject) -> None:
    """A file that was damaged on its way, or put in the engine's place, flies."""
    runtime = subject.make()
    for what, harm in HARMS.items():
        with damaged(subject, harm) as entry:
            refused(EngineDeserializeError, f"an engine that {what}", runtime.deserialize_engine, entry)
    other = replace(subject.entry, sha256="0" * 64)
    refused(EngineDeserializeError, "an entry with another hash", runtime.deserialize_engine, other)


@clause("C-19", "A load that fails leaves nothing behind, and harms no other engine", "RT-09")
def _(subject: Subject) -> None:
    """Each attempt to load a bad engine costs memory, or the engines that already fly."""
    with loaded(subject) as (runtime, handle):
        resident = subject.resident_bytes(runtime)
        for what, harm in HARMS.items():
            with damaged(subject, harm) as entry:
                before = files(subject.folder)
                with contextlib.suppress(Exception):
                    runtime.deserialize_engine(entry)
                after = files(subject.folder)
                must(after == before, f"an engine that {what} left files behind, or changed some")
            now = subject.resident_bytes(runtime)
            must(now == resident, f"{resident} bytes were resident, and {now} are after an engine that {what}")
            right(subject, 0, runtime.infer(handle, subject.feeds[0]), f"after an engine that {what}")
        again = runtime.deserialize_engine(subject.entry)
        right(subject, 1, runtime.infer(again, subject.feeds[1]), "of an engine loaded after loads that failed")
        runtime.release_engine(again)


@clause("C-20", "A memory budget is kept", "RT-09")
def _(subject: Subject) -> None:
    """One engine takes the memory that the rest of the flight was promised."""
    if subject.make_poor is None:
        raise NotApplicable("nothing is promised about its budget")
    runtime = subject.make_poor()
    before = subject.resident_bytes(runtime)
    refused(OutOfMemoryError, "a budget of 0 bytes", runtime.deserialize_engine, subject.entry)
    after = subject.resident_bytes(runtime)
    must(before == after, f"{before} bytes were resident, and {after} are after an engine was over the budget")


@clause("C-21", "A foreign handle is refused by infer, and ignored by release", "RT-05")
def _(subject: Subject) -> None:
    """Two runtimes in one process run, or free, each other's engines."""
    with loaded(subject) as (runtime, handle), loaded(subject) as (other, foreign):
        strange: Any = object()
        for what, given in {"another runtime's handle": foreign, "no handle": strange, "None": None}.items():
            refused(InferenceError, f"infer with {what}", runtime.infer, given, subject.feeds[0])
            quietly(f"release of {what}", runtime.release_engine, given)
        must(not foreign.released, "a handle was released by a runtime that it does not belong to")
        right(subject, 0, other.infer(foreign, subject.feeds[0]), "after another runtime was told to release it")
        right(subject, 1, runtime.infer(handle, subject.feeds[1]), "after foreign handles were refused")


@clause("C-22", "A released handle is refused by infer, and released again without a word", "RT-05 RT-10")
def _(subject: Subject) -> None:
    """An engine that is gone is run on memory that is someone else's by now; or cleaning up twice fails."""
    with loaded(subject) as (runtime, living), loaded(subject) as (other, _):
        dead = runtime.deserialize_engine(subject.entry)
        runtime.infer(dead, subject.feeds[0])
        runtime.release_engine(dead)
        refused(InferenceError, "infer with a released handle", runtime.infer, dead, subject.feeds[0])
        before = subject.resident_bytes(runtime)
        for owner in (runtime, other, runtime):
            quietly("releasing again", owner.release_engine, dead)
        after = subject.resident_bytes(runtime)
        must(before == after, f"{before} bytes were resident, and {after} are after releasing again")
        right(subject, 0, runtime.infer(living, subject.feeds[0]), "of an engine beside one that was released twice")


@clause("C-23", "Release gives everything back", "RT-10")
def _(subject: Subject) -> None:
    """Memory runs out some loads later, in the air."""
    runtime = subject.make()
    start = known_bytes(subject, runtime)
    for cycle in range(4):
        handle = runtime.deserialize_engine(subject.entry)
        full = known_bytes(subject, runtime)
        must(full > start, f"{start} bytes were resident, and {full} are with an engine loaded")
        for feed in subject.feeds:
            runtime.infer(handle, feed)
        runtime.release_engine(handle)
        now = known_bytes(subject, runtime)
        must(now == start, f"{start} bytes were resident, and {now} are after release {cycle + 1}")


@clause("C-24", "Handles are independent", "RT-05 RT-10")
def _(subject: Subject) -> None:
    """Loading, running or releasing one model disturbs another."""
    with loaded(subject) as (runtime, first):
        second = runtime.deserialize_engine(subject.entry)
        for at, _ in enumerate(subject.feeds):
            right(subject, at, runtime.infer(first, subject.feeds[at]), f"of the first handle for feed {at}")
            right(subject, -1 - at, runtime.infer(second, subject.feeds[-1 - at]), "of the second handle")
        runtime.release_engine(second)
        right(subject, 0, runtime.infer(first, subject.feeds[0]), "after the other handle was released")


@clause("C-25", "Any thread may load, run and release", "RT-01")
def _(subject: Subject) -> None:
    """A consumer on a thread of its own gets an error that the one who loaded the engine never saw."""
    with loaded(subject) as (runtime, here):
        right(subject, 0, elsewhere(runtime.infer, here, subject.feeds[0]), "on another thread than it was loaded on")
        there = elsewhere(runtime.deserialize_engine, subject.entry)
        right(subject, 1, runtime.infer(there, subject.feeds[1]), "after the thread that loaded it ended")
        for handle in (here, there):
            elsewhere(runtime.release_engine, handle)
            must(handle.released, "a handle that another thread released does not say so")


@clause("C-26", "Threads that share a handle get their own results, or an InferenceError", "RT-01")
def _(subject: Subject) -> None:
    """Two consumers of one model get each other's results."""
    with loaded(subject) as (runtime, handle):
        _crowd(subject, runtime, [handle] * len(subject.feeds), may_refuse=True)
        right(subject, 0, runtime.infer(handle, subject.feeds[0]), "after threads shared the handle")


@clause("C-27", "Threads with a handle each do not disturb one another", "RT-01")
def _(subject: Subject) -> None:
    """Two models that run at the same time get each other's results, or wait for ever."""
    runtime = subject.make()
    handles = [runtime.deserialize_engine(subject.entry) for _ in subject.feeds]
    try:
        _crowd(subject, runtime, handles, may_refuse=False)
    finally:
        for handle in handles:
            runtime.release_engine(handle)


def _crowd(
    subject: Subject, runtime: InferenceRuntime, handles: Sequence[EngineHandle], *, may_refuse: bool, calls: int = 12
) -> None:
    """A thread per feed, each calling again and again."""

    def run(at: int) -> None:
        for _ in range(calls):
            try:
                outputs = runtime.infer(handles[at], subject.feeds[at])
            except InferenceError:
                if not may_refuse:
                    raise
            else:
                right(subject, at, outputs, f"for feed {at}, beside other threads")

    for result in together([partial(run, at) for at in range(len(handles))]):
        if isinstance(result, Exception):
            raise result


@clause("C-28", "thermal_state answers at any time, and claims nothing that it does not know", "RT-06")
def _(subject: Subject) -> None:
    """A consumer slows the flight down for heat that there is not, or dies of asking."""
    runtime = subject.make()
    _check_heat(runtime.thermal_state())
    handle = runtime.deserialize_engine(subject.entry)
    runtime.infer(handle, subject.feeds[0])
    _check_heat(elsewhere(runtime.thermal_state))
    runtime.release_engine(handle)
    _check_heat(runtime.thermal_state())


def _check_heat(state: Any) -> None:
    typed(state, ThermalState, "thermal_state")
    figures = (state.cpu_temp_c, state.gpu_temp_c, state.measured_clock_mhz)
    claimed = state.thermal_throttle_active or any(figure is not None for figure in figures)
    must(state.is_telemetry_available or not claimed, f"without telemetry it claims {state}")


@clause("C-29", "describe fits what the engine does", "RT-01")
def _(subject: Subject) -> None:
    """Parity is judged in the wrong precision, or buffers are made for tensors that never come."""
    with loaded(subject) as (runtime, handle):
        if not isinstance(runtime, Describes):
            raise NotApplicable("the runtime does not describe its engines")
        told = runtime.describe(handle)
        typed(told, EngineDescription, "describe")
        for feed, expected in zip(subject.feeds, subject.expected, strict=True):
            for kind, specs, arrays in (("input", told.inputs, feed), ("output", told.outputs, expected)):
                given, names = {spec.name: spec for spec in specs}, sorted(arrays)
                must(sorted(given) == names, f"it tells of the {kind}s {sorted(given)}; there are {names}")
                for name, array in arrays.items():
                    what = f"{array.dtype} {describe_shape(array.shape)}"
                    spec = given[name]
                    fits = len(spec.shape) == array.ndim and all(
                        isinstance(size, str) or size == real
                        for size, real in zip(spec.shape, array.shape, strict=True)
                    )
                    must(
                        fits and spec.dtype == array.dtype,
                        f"it tells that {kind} {name!r} is {spec.dtype} {describe_shape(spec.shape)}; it is {what}",
                    )
        known = (*PRECISIONS, "unknown")
        must(told.precision in known, f"it tells the precision {told.precision!r}; expected one of {', '.join(known)}")
        unknown = told.device_bytes is None or told.host_bytes is None
        must(not unknown or bool(told.notes), "it tells no bytes, and no reason why")
        right(subject, 0, runtime.infer(handle, subject.feeds[0]), "after describe")
    refused(InferenceError, "describe of a released handle", runtime.describe, handle)


@clause("C-30", "Nothing is printed to standard output", "RT-01")
def _(subject: Subject) -> None:
    """A program whose output another one reads breaks when it changes its runtime."""
    text = "".join(subject.printed).strip()
    must(not text, f"the clauses before this one printed {text[:120]!r}")


@clause("C-31", "Importing its module loads no library of another runtime", "RT-11")
def _(subject: Subject) -> None:
    """A board that has only the one library cannot import the class."""
    runtime = subject.make()
    own = runtime.current_runtime_label()
    foreign = [module for label, library in LIBRARIES.items() if label != own for module in library.modules]
    name = type(runtime).__module__
    code = f"import importlib, json, sys; importlib.import_module({name!r}); print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    if done.returncode:
        raise NotApplicable(f"{name} cannot be imported by its name: {done.stderr.strip().splitlines()[-1]}")
    extra = [module for module in json.loads(done.stdout.splitlines()[-1]) if module in foreign]
    must(not extra, f"importing {name} imports {', '.join(extra)}")


@clause("C-32", "Any order of calls keeps the promises", "RT-05 RT-08 RT-09 RT-10")
def _(subject: Subject) -> None:
    """What holds for each call alone does not hold for a flight."""
    try:
        import hypothesis
    except ImportError:
        raise NotApplicable("hypothesis: not installed (pip install 'trigate[sim]')") from None
    del hypothesis
    from tiers.any_order import hold_in_any_order

    hold_in_any_order(subject)
