"""How rows of Tier-2 are judged that are about more than one model or more than time: pure, now or from a run folder.

The mix is one workload: each of its streams is held to its deadline by the gate of a latency row, and the row to all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.config import BoardConfig, Budget
from harness.floors import Floor
from harness.gates import worst
from harness.instruments.trace import Trace
from harness.profiles import Profile
from harness.records import Case, Check, Figure, FlownStream, Measurement, Outcome, Summary, Verdict
from harness.tier2 import latency_gate
from harness.tier2.load import missed, select
from harness.tier2.memory import bytes_in_words
from harness.tier2.station import Seen, Stream
from runtime.protocol import Array

__all__ = [
    "FLOOR",
    "KERNEL",
    "MODELS",
    "ORT_TARGET",
    "busiest",
    "flown",
    "indicative",
    "judge_flight",
    "launches_of",
    "of_others",
    "on_its_board",
    "over_memory",
    "streams_of",
    "within_deadline",
]

KERNEL, MODELS = "kernel", "models"
"""Checks of ``over_memory`` and of ``of_others``."""
FLOOR = "design_effect_floor"
"""The figure of a stream's floor: what a stored row is judged with again."""
ORT_TARGET = 1.5
"""ONNX Runtime is warned of from this much over TensorRT's own p95 on (OR-07)."""


def flown(streams: Sequence[Stream], placements: Mapping[str, str]) -> tuple[FlownStream, ...]:
    """The streams of a mix as a record; ``placements`` by model."""
    return tuple(
        FlownStream(
            model=stream.case.model,
            precision=stream.case.precision,
            lane=stream.case.lane,
            placement=placements.get(stream.case.model, ""),
            rate_hz=stream.rate_hz,
            burst=stream.burst,
            deadline_ns=stream.deadline_ns,
            late=stream.late,
        )
        for stream in streams
    )


def streams_of(case: Case, seen: Sequence[FlownStream]) -> tuple[Stream, ...]:
    """The inverse: streams of the row ``case``, in the order that its samples count them in."""
    return tuple(
        Stream(
            replace(
                case,
                id=f"{case.id}-{one.model}",
                model=one.model,
                kind="latency",
                precision=one.precision,
                lane=one.lane,
            ),
            one.rate_hz,
            one.burst,
            one.deadline_ns,
            one.late,
        )
        for one in seen
    )


def within_deadline(stream: Stream, budget: Budget | None) -> Budget | None:
    """In the mix requests queue, and what they must keep is their deadline; judged where the board has a budget of p95."""
    if budget is None or budget.p95_ms is None:
        return None
    limit_ms = stream.deadline_ns / 1e6 if stream.deadline_ns is not None else budget.p95_ms
    return Budget(p95_ms=limit_ms)


def busiest(streams: Sequence[Stream]) -> int:
    """Which of them has the highest rate."""
    return max(range(len(streams)), key=lambda at: streams[at].rate_hz)


def launches_of(launches: Sequence[Seen], stream: Stream, judged: str) -> list[Measurement]:
    """What each launch was for one stream. A launch tells everything of the engine of ``judged``, and of the others where
    they ran; one that ended before it told anything is left out.
    """
    model = stream.case.model
    found = []
    for seen in launches:
        if not (placement := seen.placements.get(model)):
            continue
        own = replace(seen.measurement, placement=placement)
        found.append(own if model == judged else replace(own, provider="", precision_ran="", model_sha256=""))
    return found


def judge_flight(
    measurement: Measurement,
    columns: Mapping[str, Array],
    traces: Mapping[int, Trace],
    streams: Sequence[Stream],
    *,
    limits: Sequence[Budget | None],
    floors: Sequence[Floor | None],
    profile: Profile,
    state_checks: Sequence[Check] = (),
    stream_checks: Sequence[Sequence[Check]] = (),
    launches: Sequence[Sequence[Measurement]] = (),
    lost_ns: int = 0,
    idle_w: float | None = None,
    on_board: bool = True,
) -> tuple[Verdict, tuple[Verdict, ...]]:
    """The row's verdict, and that of each stream as a latency row of its own.

    ``limits`` (``within_deadline``), ``floors``, ``launches`` (``launches_of``) and ``stream_checks``, of who measured: by
    stream. Others as in ``latency_gate.judge``. PASS where every stream keeps its limit; what has none decides nothing.
    """
    of_streams: list[Verdict] = []
    checks: list[Check] = list(state_checks)
    figures: list[Figure] = []
    for at, stream in enumerate(streams):
        one = latency_gate.judge(
            replace(measurement, rate_hz=stream.rate_hz or None, deadline_ns=stream.deadline_ns),
            columns,
            traces,
            budget=limits[at],
            profile=profile,
            floor=floors[at],
            state_checks=stream_checks[at] if stream_checks else (),
            streams=streams,
            judged=at,
            launches=launches[at] if launches else (),
            lost_ns=lost_ns,
            idle_w=idle_w,
            on_board=on_board,
        )
        of_streams.append(one)
        name, floor = stream.case.model, floors[at]
        figures += [
            replace(figure, name=f"{figure.name}[{name}]") for figure in one.summary.figures if not _is_shared(figure)
        ]
        if floor is not None:
            figures.append(Figure(f"{FLOOR}[{name}]", floor.effect, "ratio", floor.source))
        if at == 0:
            share = one.summary.measurement.sample_count / max(1, len(select(columns)["status"]))
            figures += [_of_mix(figure, share) for figure in one.summary.figures if _is_shared(figure)]
        checks += [replace(check, name=f"{name}: {check.name}") for check in one.checks]
        checks.append(Check(name, one.outcome, one.reason))
    own = [check for check in checks if check.name in {stream.case.model for stream in streams}]
    judged = [check for check, limit in zip(own, limits, strict=True) if limit is not None]
    undecided = [check for check in judged if check.outcome is Outcome.MEASURED]
    deciding = worst([*state_checks, *own])
    if deciding.outcome is Outcome.PASS and undecided:
        deciding = undecided[0]
    calls = select(columns)
    shown = of_streams[busiest(streams)].summary
    summary = Summary(
        replace(measurement, sample_count=int(calls["status"].size), failed_count=int(missed(calls).sum())),
        latency=shown.latency,
        judgement=shown.judgement,
        figures=tuple(figures),
    )
    reason = f"{deciding.name}: {deciding.reason}" if deciding in own else deciding.reason
    if deciding.outcome in (Outcome.PASS, Outcome.MEASURED):
        reason = "; ".join(f"{check.name}: {check.reason}" for check in own)
    return Verdict(summary, deciding.outcome, reason, tuple(checks)), tuple(of_streams)


def over_memory(verdict: Verdict, board: BoardConfig | None) -> Verdict:
    """A row whose process the kernel killed is over the board's memory budget, whatever else was seen; else as it was."""
    words = verdict.summary.measurement.incomplete
    limits = [
        f"{bytes_in_words(limit)} of {what} memory"
        for what, limit in (
            ("GPU", board.gpu_memory_bytes if board else None),
            ("host", board.host_memory_bytes if board else None),
        )
        if limit is not None
    ]
    if not (words.startswith("killed") and "SIGKILL" in words and limits):
        return verdict
    reason = f"counts as over the memory budget ({', '.join(limits)}): {words}"
    check = Check(KERNEL, Outcome.FAIL, reason, "the system has not enough memory for these engines")
    return replace(verdict, outcome=Outcome.FAIL, reason=reason, checks=(check, *verdict.checks))


def of_others(verdict: Verdict, lacking: str) -> Verdict:
    """A row about all models of which some are ``lacking``, in words, passes nothing and says so."""
    outcome = Outcome.INCONCLUSIVE if verdict.outcome is Outcome.PASS else verdict.outcome
    reason = f"without {lacking}; of the others: {verdict.reason}"
    check = Check(MODELS, Outcome.INCONCLUSIVE, lacking)
    return replace(verdict, outcome=outcome, reason=reason, checks=(*verdict.checks, check))


def on_its_board(verdict: Verdict, found: Sequence[Check], *, fails_anyway: bool) -> Verdict:
    """A verdict with the checks of the board's state, open where that is not the declared one.

    ``fails_anyway``: what failed would on a board in any state, and stays a FAIL.
    """
    verdict = replace(verdict, checks=(*verdict.checks, *found))
    gravest = next((check for check in found if check.outcome is Outcome.INCONCLUSIVE), None)
    stays = verdict.outcome is Outcome.NOT_RUN or (verdict.outcome is Outcome.FAIL and fails_anyway)
    if gravest is None or stays:
        return verdict
    return replace(verdict, outcome=Outcome.INCONCLUSIVE, reason=f"{gravest.reason} (but for that: {verdict.reason})")


def indicative(verdict: Verdict) -> Verdict:
    """A profile that decides nothing measures, where a longer one would leave the row open."""
    if verdict.outcome is not Outcome.INCONCLUSIVE:
        return verdict
    return replace(verdict, outcome=Outcome.MEASURED, reason=f"indicative: {verdict.reason}")


def _is_shared(figure: Figure) -> bool:
    """Of the board, and so the same for every stream of a mix."""
    words = ("power", "temp", "clock", "energy", "oc_events", "throttled", "wake", "harness")
    return any(word in figure.name for word in words)


def _of_mix(figure: Figure, share: float) -> Figure:
    """The board's energy is spent on the calls of all streams, of which one stream has this share."""
    if "per_call" not in figure.name or figure.value is None:
        return figure
    return replace(figure, value=figure.value * share, source=f"{figure.source}, of all calls of the mix")
