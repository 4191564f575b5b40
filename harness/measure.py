"""The only stage that touches a device: run one case and write down what was seen, with nothing judged."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from harness.inputs import Feed, digest
from harness.lineage import EngineFacts, facts_of, with_lineage
from harness.packs.model import ModelPack
from harness.plan import lane_name
from harness.records import BoardState, Case, Measurement
from runtime import (
    BuildConfig,
    Describes,
    EngineCacheEntry,
    EngineDescription,
    EngineHandle,
    InferenceRuntime,
    RuntimeConfig,
    RuntimeNotAvailableError,
)
from runtime.protocol import LABELS, Array

__all__ = ["BOUNDARY", "Bench", "Observed", "Opened"]

BOUNDARY = "host clock around infer(): inputs and outputs on the host"
"""What a latency sample spans. Rows of unlike boundaries are never compared."""

_TICK_NS = 20_000_000
"""A file's time is of the kernel's last tick, and may lie so far before the clock."""

Build = Callable[[str, RuntimeConfig], InferenceRuntime]


@dataclass(frozen=True)
class Observed:
    """A measurement with what does not go into the record: the raw arrays, and what the engine was."""

    measurement: Measurement
    outputs: tuple[Mapping[str, Array], ...] = ()
    facts: EngineFacts | None = None


@dataclass
class Bench:
    """Runs cases on this machine. One engine is resident at a time; outputs are kept per runtime and precision.

    ``build``: (label or ``module:Class``, configuration) -> a runtime. ``clock``: monotonic nanoseconds. ``listen``: gives a
    context, and in it a list of what was warned of when that has ended.
    """

    packs: Mapping[str, ModelPack]
    config: RuntimeConfig
    build: Build
    clock: Callable[[], int] = time.perf_counter_ns
    board_state: Callable[[], BoardState] = BoardState
    threads: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0
    listen: Callable[[], AbstractContextManager[Sequence[str]]] = lambda: nullcontext(())
    _seen: dict[tuple[str, str, str, str], Observed] = field(default_factory=dict)
    _entries: dict[tuple[str, str, str, str], EngineCacheEntry] = field(default_factory=dict)
    _built_ns: dict[tuple[str, str, str, str], int] = field(default_factory=dict)

    def outputs(self, case: Case, runtime: str = "") -> Observed:
        """Every packed sample through the case's runtime (or through ``runtime``), once per run of the harness.

        Raises the core's errors; nothing stays resident.
        """
        label = runtime or case.runtime
        key = _key(case, label)
        seen = self._seen.get(key)
        if seen is None:
            if any(model != case.model for model, *_ in self._seen):
                self._seen.clear()  # rows come model by model: what another one gave is not asked for again
            seen = self._seen[key] = self._run(replace(case, runtime=label))
        return replace(seen, measurement=replace(seen.measurement, case=case))

    def seen(self, case: Case, runtime: str = "") -> Observed | None:
        """What ``outputs`` has given, and still has; runs nothing."""
        return self._seen.get(_key(case, runtime or case.runtime))

    def candidate(self, case: Case, runtime: str = "") -> Callable[[Path, Feed], dict[str, Array]]:
        """(a model file of the runtime's kind, a feed) -> its outputs on the case's runtime: for the divergence search."""
        label = runtime or case.runtime

        def run(model: Path, feed: Feed) -> dict[str, Array]:
            backend = self.make(label)
            entry = backend.compile_engine(model, self.build_config(case, label))
            handle = backend.deserialize_engine(entry)
            try:
                return backend.infer(handle, feed)
            finally:
                backend.release_engine(handle)

        return run

    def build_config(self, case: Case, runtime: str = "") -> BuildConfig:
        """How the case's engine is built: its precision, the model's profiles, the packed calibration set."""
        pack = self.packs[case.model]
        wants_ranges = case.precision in ("int8", "mixed") and pack.calibration
        return BuildConfig(
            precision=case.precision,
            calibration_dataset=pack.path(pack.calibration) if wants_ranges else None,
            optimization_profiles=() if (runtime or case.runtime) == "pytorch_fp16" else pack.profiles(),
            typing=case.route if (runtime or case.runtime) == "tensorrt" else "",
        )

    def entry(self, case: Case, runtime: InferenceRuntime, artifact: Path) -> EngineCacheEntry:
        """The case's engine, compiled once in a run of the harness: TensorRT's take minutes on a board."""
        key = _key(case, case.runtime)
        if key not in self._entries:
            begun, since = self.clock(), time.time_ns() - _TICK_NS
            entry = self._entries[key] = runtime.compile_engine(artifact, self.build_config(case))
            path = entry.engine_path
            if path != artifact and path.exists() and path.stat().st_mtime_ns >= since:
                self._built_ns[key] = self.clock() - begun
        return self._entries[key]

    def build_ns(self, case: Case) -> int | None:
        """How long the build of the case's engine took; ``None`` where it was found, or there is nothing to build."""
        return self._built_ns.get(_key(case, case.runtime))

    def remember(self, case: Case, entry: EngineCacheEntry) -> None:
        """The case's engine, where it was compiled elsewhere."""
        self._entries[_key(case, case.runtime)] = entry

    def make(self, runtime: str, route: str = "") -> InferenceRuntime:
        """The runtime of that label, or of a third party's class, with no engine loaded. ``route``: as ``Case.route``; engines
        of one that is asked for by name lie in a folder of their own, since their names are the same.
        """
        config = replace(self.config, runtime=_label(runtime))
        if route:
            config = replace(config, engine_cache_dir=config.engine_cache_dir / f"by-{route}")
        return self.build(runtime, config)

    def open(self, case: Case, runtime: InferenceRuntime | None = None) -> Opened:
        """The case's engine, loaded, to be called many times; the caller closes it.

        ``runtime``: the one that shall hold it, beside what it holds already; by default one of its own.
        """
        return Opened(_Resident(self, case, runtime))

    def artifact(self, case: Case, runtime: str = "") -> Path:
        """The file of the pack that the runtime executes. Raises ``RuntimeNotAvailableError`` where there is none."""
        pack = self.packs[case.model]
        if (runtime or case.runtime) == "pytorch_fp16":
            name, missing = pack.checkpoint, "the model has no checkpoint"
        elif case.precision == "fp16" and (runtime or case.runtime) == "onnx_trt_ep":
            name, missing = pack.onnx_fp16, pack.no_fp16
        else:
            name, missing = pack.onnx, "the model has no ONNX file"
        if not name:
            raise RuntimeNotAvailableError(f"{runtime or case.runtime}: {missing}")
        return pack.path(name)

    def _run(self, case: Case) -> Observed:
        feeds = self.packs[case.model].feeds()
        with self.listen() as warned, _Resident(self, case) as engine:
            outputs = tuple(engine.infer(feed) for feed in feeds)
            at_the_door = tuple(
                digest(feed) for feed in feeds
            )  # after the calls: a runtime that changes its inputs shows
            measurement, facts = replace(engine.measurement(), input_sha256=at_the_door), engine.facts()
        return Observed(with_lineage(replace(measurement, warnings=tuple(warned)), facts), outputs, facts)


class Opened:
    """A loaded engine as a function of a feed. ``close`` releases it.

    ``compile_ns``: how long ``compile_engine`` took, ``load_ns``: ``deserialize_engine``.
    """

    def __init__(self, resident: _Resident) -> None:
        self._resident = resident.__enter__()
        self.runtime = resident.runtime
        self.handle = resident.handle
        self.entry = resident.entry
        self.compile_ns = resident.compile_ns
        self.load_ns = resident.load_ns

    def __call__(self, feed: Feed) -> dict[str, Array]:
        return self._resident.infer(feed)

    def measurement(self, *, first_call_ns: int | None = None) -> Measurement:
        """What it is, read back from it; may run the model once more."""
        return self._resident.measurement(first_call_ns=first_call_ns)

    def facts(self) -> EngineFacts:
        """Its lineage, size, files and layers; may run the model once more."""
        return self._resident.facts()

    def close(self) -> None:
        self._resident.__exit__()


class _Resident:
    """One engine in memory for one case: loaded on entry, released on exit, described in between."""

    def __init__(self, bench: Bench, case: Case, runtime: InferenceRuntime | None = None) -> None:
        self.bench = bench
        self.case = case
        self.given = runtime

    def __enter__(self) -> _Resident:
        bench, case = self.bench, self.case
        self.started_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.begun_ns = bench.clock()
        self.board_start = bench.board_state()
        self.artifact = bench.artifact(case)
        self._facts: EngineFacts | None = None
        self.runtime = self.given or bench.make(case.runtime, case.route)
        compiling = bench.clock()
        self.entry = _with_tensors(bench.entry(case, self.runtime, self.artifact), bench.packs[case.model])
        loading = bench.clock()
        self.compile_ns = loading - compiling
        self.handle: EngineHandle = self.runtime.deserialize_engine(self.entry)
        self.load_ns = bench.clock() - loading
        return self

    def __exit__(self, *_: object) -> None:
        self.runtime.release_engine(self.handle)

    def infer(self, feed: Feed) -> dict[str, Array]:
        return self.runtime.infer(self.handle, feed)

    def facts(self) -> EngineFacts:
        if self._facts is None:
            build_ns = self.bench.build_ns(self.case)
            pack, described = self.bench.packs[self.case.model], self._description()
            self._facts = facts_of(self.entry, pack, self.artifact, described, build_ns=build_ns)
        return self._facts

    def _description(self) -> EngineDescription | None:
        return self.runtime.describe(self.handle) if isinstance(self.runtime, Describes) else None

    def measurement(self, *, first_call_ns: int | None = None) -> Measurement:
        bench, case = self.bench, self.case
        label = self.runtime.current_runtime_label()
        described = self._description()
        ran = described.precision if described else "unknown"
        notes = list(described.notes) if described else ["the runtime does not describe its engines"]
        if described and label == "onnx_trt_ep" and described.provider == "tensorrt" and ran == "unknown":
            notes.append(
                "ONNX Runtime does not tell which precision TensorRT computed in; the model's own types are as asked"
            )
            ran = case.precision
        claim = _broken_claim(case, label, ran, described.nodes_by_precision if described else {})
        if claim:
            notes.append(claim)
        return Measurement(
            case=case,
            placement=f"{label}[{described.provider if described else 'unknown'}]",
            lane_name=lane_name(case.runtime, case.precision),
            provider=described.provider if described else "unknown",
            precision_ran=described.precision if described else "unknown",
            nodes_by_provider=dict(described.nodes_by_provider) if described else {},
            nodes_by_precision=dict(described.nodes_by_precision) if described else {},
            simulated=bool(getattr(self.runtime, "simulated", False)),
            witness=not claim,
            model_sha256=self.entry.sha256,
            load_ns=self.load_ns,
            first_call_ns=first_call_ns,
            threads=dict(bench.threads),
            board_start=self.board_start,
            board_end=bench.board_state(),
            seed=bench.seed,
            started_at=self.started_at,
            duration_ns=bench.clock() - self.begun_ns,
            notes=tuple(notes),
        )


def _key(case: Case, runtime: str) -> tuple[str, str, str, str]:
    """What an engine is known by. A route is TensorRT's alone."""
    return case.model, runtime, case.precision, case.route if runtime == "tensorrt" else ""


def _label(runtime: str) -> str:
    """The label that a configuration of this runtime carries; a third party's class gets the default one."""
    return runtime if runtime in LABELS else RuntimeConfig().runtime


def _broken_claim(case: Case, label: str, ran: str, nodes: Mapping[str, int]) -> str:
    """Why the row is no independent witness of what it claims; empty if it is one (T1-01)."""
    if case.runtime in LABELS and label != case.runtime:
        return f"asked for {case.runtime}, and {label} answered: no witness"
    if ran == case.precision:
        return ""
    asked = nodes.get(case.precision, 0)
    if ran == "mixed" and 2 * asked > sum(nodes.values()):
        return ""  # most of it is what was asked for; what must stay in fp32 does
    share = f" ({asked} of {sum(nodes.values())} nodes in {case.precision})" if ran == "mixed" else ""
    return f"asked for {case.precision}, computed in {ran}{share}: no witness of {case.precision} arithmetic"


def _with_tensors(entry: EngineCacheEntry, pack: ModelPack) -> EngineCacheEntry:
    table = json.loads(pack.tensors)
    extras = {**entry.extras, "inputs": json.dumps(table["inputs"]), "outputs": json.dumps(table["outputs"])}
    return replace(entry, extras=extras)
