"""Figures and verdicts as people read them. Text to text; nothing here knows HTML, Markdown or XML."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from harness.records import Case, Measurement, Outcome, Quantile, Run, Summary, Verdict

__all__ = [
    "ABOUT",
    "ABOUT_A_FLIGHT",
    "DASH",
    "REQUIREMENTS",
    "SYMBOLS",
    "as_one",
    "counted",
    "duration",
    "fact",
    "figure",
    "figure_name",
    "headline",
    "interval",
    "is_evidence",
    "is_open",
    "lane",
    "last_line",
    "milliseconds",
    "no_evidence",
    "pairs",
    "percent",
    "plain",
    "quantile",
    "quantity",
    "rows_of",
    "similarity",
    "span",
    "spread",
    "subject",
    "tally",
    "title",
    "undecided",
]

DASH = "–"
"""A figure that is not there. Never a zero."""

SYMBOLS: Mapping[Outcome, str] = {
    Outcome.FAIL: "✗",
    Outcome.INCONCLUSIVE: "?",
    Outcome.NOT_RUN: "○",
    Outcome.MEASURED: "≈",
    Outcome.PASS: "✓",
}
"""Beside the word, so that a verdict is never told by colour alone. Gravest first."""

ABOUT: Mapping[str, tuple[str, str]] = {
    "conformance": (
        "The contract",
        "What every runtime promises, ours or a third party's: each clause, what it means when broken, and who keeps it.",
    ),
    "faults": (
        "The faults",
        "Every call of one life fails in turn, with each error that is documented for it, once and for ever.",
    ),
}
"""Title and first sentence of the section of each kind of row about runtimes."""

ABOUT_A_FLIGHT: Mapping[str, tuple[str, str]] = {
    "flight": (
        "The flight mix",
        "All models at the rates of the flight, in one process, as one workload with deadlines.",
    ),
    "heat": ("Heat", "The same mix for a sustained time: what it holds once the board is hot."),
    "memory": (
        "Memory",
        "Each engine alone and all of them resident, side by side by source. Sources overlap: they are not to be added up.",
    ),
    "takeoff": ("Take-off", "All engines loaded in one fresh process, and the same again after a SIGKILL."),
    "harness": ("The harness itself", "What measuring costs, by a runtime that does nothing."),
}
"""Title and first sentence of each kind of row about all models of a runtime, in the order of the page."""

REQUIREMENTS: Mapping[str, str] = {
    "OR-01": "An ONNX file that cannot be run is refused, and one that can is taken as it is",
    "OR-07": "ONNX Runtime: load times",
    "PT-01": "Every runtime beside pytorch_fp16, the simple baseline",
    "RT-01": "Every runtime keeps one contract",
    "RT-05": "Foreign and released handles are refused",
    "RT-07": "Every failure is an error of one family",
    "RT-08": "A wrong input is refused by name, before any work",
    "RT-09": "A failed call changes nothing",
    "RT-10": "Release gives everything back",
    "T0-01": "Conformance, with no GPU",
    "T0-05": "Every device call fails in turn, and costs no more than it must",
    "T0-06": "The real parser and builder, with no GPU",
    "T1-01": "Outputs against a reference of higher precision",
    "T1-03": "What cannot run here is told, with its reason",
    "T2-01": "Latency, memory, energy and heat at the rates of the flight",
    "T2-02": "The budgets of this board",
    "T2-03": "Latency verdicts with the interval that decided them",
    "T2-04": "The state of the board beside every row",
    "T2-05": "Take-off, and again after a SIGKILL",
    "TH-04": "Throttling, and what caused it",
    "TR-03": "The engine check, before any library is loaded",
    "TR-06": "A model's digest covers its external data",
    "TT-01": "Engines are built within a time limit, or not at all",
    "TT-03": "TensorRT-RTX builds ahead of time",
    "TT-09": "TensorRT: load and build times",
}
"""What the requirements are about that rows bear on (``Case.covers``), in a few words."""

_SHORT: Mapping[str, str] = {"tensorrt": "tensorrt", "onnx_trt_ep": "ort", "pytorch_fp16": "torch"}

_UNITS = frozenset(("ns", "s", "bytes", "w", "j", "c", "mhz", "hz", "percent"))
_TERMS: Mapping[str, str] = {
    "gpu": "GPU", "cpu": "CPU", "emc": "EMC", "soc": "SoC", "tj": "junction", "temp": "temperature", "oc": "over-current",
    "h2d": "host to device", "d2h": "device to host", "nvmap": "NvMap", "mib": "MiB", "4mib": "of 4 MiB",
}  # fmt: skip

# What XML 1.0 cannot hold, what terminals obey, and what turns the direction of the text after it.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def plain(text: str) -> str:
    """Text that is safe to show: control characters, direction overrides and lone surrogates become U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


def figure(value: float | None) -> str:
    """Three significant digits, without unit: ``0.00123``, ``1.23e-5``, ``12,300``; a dash for ``None`` and NaN."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e7:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{value:#.3g}".rstrip(".")


def _scaled(value: float, step: float, units: Sequence[str]) -> str:
    at = 0
    while at < len(units) - 1 and abs(value) >= step * (1 - 5e-4):
        value, at = value / step, at + 1
    return f"{value:,.0f} {units[at]}" if at == 0 and step > 1000 else f"{figure(value)} {units[at]}"


def similarity(value: float | None) -> str:
    """A cosine: seven digits, since what matters is how far it is from 1."""
    return DASH if value is None or math.isnan(value) else f"{value:.7g}"


def milliseconds(value_ms: float | None) -> str:
    """``12.3 ms``."""
    text = figure(value_ms)
    return text if text == DASH else f"{text} ms"


def interval(value: float | None, low: float | None, high: float | None, unit: str = "ms") -> str:
    """``12.3 ms [12.1, 12.6]``; a bound that the samples cannot give is a dash."""
    text = figure(value)
    return text if text == DASH else f"{text} {unit} [{figure(low)}, {figure(high)}]"


def quantile(of: Quantile) -> str:
    """A latency quantile in milliseconds with its interval."""
    low, high = (None if bound is None else bound / 1e6 for bound in (of.low_ns, of.high_ns))
    return interval(of.value_ns / 1e6, low, high)


def quantity(value: float | None, unit: str) -> str:
    """A figure in a unit for people: ``bytes`` as KiB to TiB, ``ns`` as µs, ms or s, ``s`` as s or min; a ``count`` is whole."""
    if value is None or math.isnan(value):
        return DASH
    if unit == "bytes":
        return _scaled(value, 1024.0, ("B", "KiB", "MiB", "GiB", "TiB"))
    if unit == "ns":
        return (
            "0 ms"
            if value == 0
            else f"{value:,.0f} ns"
            if abs(value) < 1000
            else _scaled(value / 1e3, 1000.0, ("µs", "ms", "s"))
        )
    if unit == "s":
        return duration(value)
    if unit == "ratio":
        return figure(value)
    if unit == "count":
        return f"{value:,.0f}" if abs(value) < 1e6 else f"{figure(value / 1e6)} million"
    digits = f"{value:,.1f}" if unit == "°C" else f"{value:,.0f}" if unit == "MHz" else figure(value)
    return f"{digits} {unit}"


def spread(value: float | None, low: float | None, high: float | None, unit: str) -> str:
    """A quantity with its interval, where it has one: ``1.22 [0.877, 1.66]``, ``61.6 ms [61.5, 61.7]``."""
    text, bounds = quantity(value, unit), [quantity(bound, unit) for bound in (low, high)]
    if text == DASH or (low, high) == (None, None):
        return text
    own = f" {text.rpartition(' ')[2]}" if " " in text else ""
    if unit != "s" and all(bound == DASH or bound.endswith(own) for bound in bounds):
        bounds = [bound.removesuffix(own) for bound in bounds]
    return f"{text} [{', '.join(bounds)}]"


def duration(seconds: float | None) -> str:
    """``12.3 s``, and from two minutes on ``6 min 25 s``, from two hours on ``3 h 12 min``."""
    if seconds is None or math.isnan(seconds):
        return DASH
    if abs(seconds) < 120:
        return f"{figure(seconds)} s"
    whole = round(abs(seconds))
    parts = (
        ((whole // 60, "min"), (whole % 60, "s"))
        if whole < 7200
        else ((whole // 3600, "h"), (whole % 3600 // 60, "min"))
    )
    text = " ".join(f"{count} {unit}" for count, unit in parts if count)
    return f"-{text}" if seconds < 0 else text


def figure_name(name: str) -> tuple[str, str]:
    """What a record calls a figure, for people, and what it is about: ``gpu_temp_max_c[disk]`` is GPU temperature max, disk."""
    stem, _, about = name.partition("[")
    stem, about = stem.partition(".")[0], about.removesuffix("]")
    stem = stem.replace("_c_per_min", "_per_min").replace("_bytes_", "_")
    told = [part for part in stem.split("_") if part]
    if len(told) > 1 and told[-1] in _UNITS:
        told.pop()
    text = " ".join(_TERMS.get(part, part) for part in told)
    return text[:1].upper() + text[1:], about


def undecided(needed: int | None, rate_hz: float | None) -> str:
    """What would decide an inconclusive row: ``about 900 more requests, 23.1 s at 39 Hz``; empty where that is not known."""
    if needed is None:
        return ""
    return f"about {needed:,} more requests" + (f", {duration(needed / rate_hz)} at {rate_hz:g} Hz" if rate_hz else "")


def span(run: Run) -> str:
    """When a run began, and how long it took: ``2026-03-04 10:00:00 UTC, 6 min 12 s``; what is no time stands as it is."""
    try:
        begun = datetime.fromisoformat(run.started_at)
        text = f"{begun:%Y-%m-%d %H:%M:%S} {begun.tzname() or ''}".rstrip()
        took_s = (datetime.fromisoformat(run.finished_at) - begun).total_seconds()
    except (ValueError, TypeError):
        return f"{run.started_at} to {run.finished_at}" if run.finished_at else run.started_at
    return f"{text}, {duration(took_s)}" if took_s >= 0 else f"{text} to {run.finished_at}"


def percent(share: float | None) -> str:
    """A share as ``42 %``; between 0 and 1 % ``<1 %``."""
    if share is None or math.isnan(share):
        return DASH
    if math.isinf(share):
        return "∞"
    return "<1 %" if 0 < share < 0.01 else f"{100 * share:,.0f} %"


def pairs(counts: Mapping[str, object]) -> str:
    """``CPUExecutionProvider 36, CUDAExecutionProvider 2``."""
    return ", ".join(f"{name} {value}" for name, value in counts.items())


def counted(count: int, what: str) -> str:
    """``1 more row``, ``1,204 more rows``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def fact(name: str, value: str) -> str:
    """What a record tells of a host, for people."""
    return quantity(float(value), "bytes") if name.endswith("_bytes") and value.isdecimal() else value or DASH


def as_one(texts: Iterable[str]) -> str:
    """Sentences in a row, each once."""
    return " ".join(
        text if text.endswith((".", "!", "?", "…")) else f"{text}." for text in dict.fromkeys(filter(None, texts))
    )


def lane(case: Case, name: str = "") -> str:
    """A row for people: ``torch · fp32``, ``ort · fp16 against torch · fp16``. ``name``: what the row calls its lane."""
    own = (
        name
        or f"{_SHORT.get(case.runtime, case.runtime)} · {f'simulated {case.simulated}' if case.simulated else case.precision}"
    )
    return f"{own} against {_SHORT.get(case.against, case.against)} · {case.precision}" if case.against else own


def subject(case: Case) -> str:
    """The runtime that a row is about, in few letters: ``torch``, ``tensorrt simulated 10.3.0``, ``MyRuntime``."""
    name = _SHORT.get(case.runtime, case.runtime.rpartition(":")[2])
    return f"{name} simulated {case.simulated}" if case.simulated else name


def rows_of(run: Run) -> tuple[Verdict, ...]:
    """Every planned row in its order, then rows that no plan names. One that was not reached is NOT RUN (T1-03)."""
    why = (
        "interrupted"
        if run.interrupted
        else "not finished"
        if not run.complete
        else "finished without a verdict for it"
    )
    settled = {verdict.case.id for verdict in run.verdicts}
    order = {case.id: at for at, case in enumerate(run.planned)}
    pending = [
        Verdict(Summary(Measurement(case=case)), Outcome.NOT_RUN, f"not reached: the run is {why}")
        for case in run.planned
        if case.id not in settled
    ]
    return tuple(sorted((*run.verdicts, *pending), key=lambda verdict: order.get(verdict.case.id, len(order))))


def is_evidence(verdict: Verdict) -> bool:
    """Whether a row counts for a requirement: PASS, on a real device, and really what it claims to be (T1-01)."""
    measurement = verdict.summary.measurement
    return verdict.outcome is Outcome.PASS and measurement.witness and not measurement.simulated


def no_evidence(verdict: Verdict) -> str:
    """Why a row that passes does not count; empty for one that counts, or does not pass."""
    if verdict.outcome is not Outcome.PASS or is_evidence(verdict):
        return ""
    return "SIMULATED" if verdict.summary.measurement.simulated else "not what it claims to be"


def is_open(verdict: Verdict) -> bool:
    """Whether a row that did not fail still keeps the run from passing (RE-04)."""
    if verdict.outcome is Outcome.INCONCLUSIVE:
        return True
    return verdict.case.required and verdict.outcome is not Outcome.FAIL and not is_evidence(verdict)


def tally(verdicts: Iterable[Verdict]) -> dict[Outcome, int]:
    """How many rows of each outcome, gravest first, none left out."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    return {outcome: counts[outcome] for outcome in SYMBOLS}


def title(run: Run) -> str:
    """The verdict on the run in one word."""
    if run.exit_code is None:
        return "NOT FINISHED"
    return {0: "PASS", 1: "FAIL", 2: "REFUSED", 3: "OPEN", 4: "INTERNAL ERROR", 130: "INTERRUPTED"}.get(
        run.exit_code, "FAIL"
    )


def headline(run: Run) -> str:
    """What the exit code means for this run."""
    rows = rows_of(run)
    if run.exit_code is None:
        return (
            f"{len(run.verdicts)} of {len(rows)} rows have a verdict; the run goes on, or was stopped without a word."
        )
    required = any(case.required for case in run.planned)
    return {
        0: "Every required row passes."
        if required
        else "Nothing failed, and nothing was required: no release can rest on it.",
        1: _failing(rows),
        2: "The call or the configuration is wrong.",
        3: "Nothing fails, but the evidence is not complete.",
        4: "trigate itself broke; the rows below it are what was settled before.",
        130: "Stopped by Ctrl-C; every row that was settled is here.",
    }.get(run.exit_code, f"Exit code {run.exit_code}.")


_NAMED = 2
_NAME = 60


def _failing(rows: Sequence[Verdict]) -> str:
    """``a fails.``, ``3 rows fail: a, b and 1 more.``: the required first, long names cut."""
    fails = sorted((row for row in rows if row.outcome is Outcome.FAIL), key=lambda row: not row.case.required)
    names = [name if len(name) <= _NAME else f"{name[:_NAME]}…" for name in (row.case.id for row in fails)]
    if len(names) < 2:
        return f"{names[0]} fails." if names else "At least one row fails."
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{len(names):,} rows fail: {', '.join(names[:_NAMED]) if more else ' and '.join(names)}{more}."


def last_line(run: Run) -> str:
    """The harness's own last line, or the counts so far where it has not been written yet."""
    if run.last_line:
        return run.last_line
    counts = ", ".join(f"{outcome.value} {count}" for outcome, count in tally(run.verdicts).items() if count)
    return f"{counts or 'No row has a verdict'} so far."
