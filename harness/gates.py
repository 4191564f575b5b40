"""From what was observed to a verdict: pure functions, no device, no file.

A verdict is the worst of its checks: FAIL before INCONCLUSIVE before PASS. What nothing can be held against is MEASURED.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.numerics.parity import aggregate, check_parity
from harness.numerics.raw import GoldenSample, Numerics
from harness.records import Case, Check, Measurement, Outcome, Summary, Tolerance, Verdict

__all__ = [
    "doubled",
    "exit_code",
    "judge_numerics",
    "judge_runtime",
    "last_line",
    "not_run",
    "refusal",
    "worst",
]

_GRAVITY = (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS, Outcome.MEASURED)

EXIT_PASS, EXIT_FAIL, EXIT_USAGE, EXIT_OPEN, EXIT_INTERNAL, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130


def worst(checks: Sequence[Check]) -> Check:
    """The check that decides: the first of the gravest."""
    return min(checks, key=lambda check: _GRAVITY.index(check.outcome))


def not_run(case: Case, reason: str, remedy: str = "") -> Verdict:
    """A row that could not run, with its reason (T1-03)."""
    return Verdict(Summary(Measurement(case=case)), Outcome.NOT_RUN, reason, remedy=remedy)


def judge_numerics(measurement: Measurement, numerics: Numerics) -> Verdict:
    """A row of kind parity, semantic or pair, from what is kept of it: at run time and whenever it is judged again.

    A pair is for information: neither runtime is the truth, so nothing is held against either.
    """
    figures = aggregate(numerics.outputs, numerics.tolerances)
    summary = Summary(measurement, parity=figures)
    if numerics.kind == "pair":
        largest = max((figure.rel_l2_max for figure in figures if figure.rel_l2_max is not None), default=None)
        words = "no common output" if largest is None else f"largest relative L2 difference {largest:.2e}"
        return Verdict(summary, Outcome.MEASURED, f"against {numerics.against}: {words}")
    checks = list(check_parity(figures))
    if numerics.task is not None:
        from harness.tasks import judge_task

        checks.append(judge_task(numerics.task))
    if numerics.golden and numerics.lane == "fp32":
        checks.append(_as_authors_expect(numerics.golden))
    return _judged(summary, checks, numerics.inputs)


def doubled(tolerances: Mapping[str, Tolerance]) -> dict[str, Tolerance]:
    """Of two fp32 artifacts of one model against each other: what differs between them is meaning, not rounding.

    Each may be one fp32 tolerance away from the truth, so they may be two apart.
    """
    return {
        name: replace(
            tolerance,
            rel_l2_max=None if tolerance.rel_l2_max is None else 2 * tolerance.rel_l2_max,
            rel_l2_median=None if tolerance.rel_l2_median is None else 2 * tolerance.rel_l2_median,
            why=f"{tolerance.why}; doubled, since each artifact may be one tolerance from the truth",
        )
        for name, tolerance in tolerances.items()
    }


def judge_runtime(measurement: Measurement, checks: Sequence[Check], *, unit: str = "clause") -> Verdict:
    """A runtime by its checks: PASS where each that could be held holds. ``unit``: what one check is called."""
    held = [check for check in checks if check.outcome is not Outcome.NOT_RUN]
    left = f"; {len(checks) - len(held)} not run" if len(held) < len(checks) else ""
    if not held:
        return not_run(measurement.case, checks[0].reason if checks else f"there is no {unit}")
    deciding = worst(held)
    if deciding.outcome is Outcome.PASS:
        where = " on the simulated device" if measurement.simulated else ""
        return Verdict(
            Summary(measurement),
            Outcome.PASS,
            f"{_count(len(held), unit)} hold{'' if len(held) > 1 else 's'}{where}{left}",
            tuple(checks),
        )
    same = sum(check.outcome is deciding.outcome for check in held) - 1
    more = f"; {same} more {unit}{'s do' if same > 1 else ' does'} not hold" if same else ""
    reason = f"{deciding.name}: {deciding.reason}{more}"
    return Verdict(Summary(measurement), deciding.outcome, reason, tuple(checks))


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


def refusal(case: Case, error: Exception) -> Verdict:
    """A row whose runtime refused or broke: FAIL, in the error's own words."""
    return refusal_of(case, f"{type(error).__name__}: {error}")


def refusal_of(case: Case, reason: str) -> Verdict:
    """A row that has nothing to run on, because its model is broken: FAIL, with the reason."""
    checks = (Check("model", Outcome.FAIL, reason),)
    measurement = Measurement(case=case, error=reason, simulated=bool(case.simulated))
    return Verdict(Summary(measurement), Outcome.FAIL, reason, checks)


def misplaced(verdict: Verdict, *, gpu_host: bool, device: str) -> Verdict:
    """Refuse a CPU placement on a host with a GPU, unless ``--device cpu`` asked for it (RE-04)."""
    measurement = verdict.summary.measurement
    if (
        gpu_host
        and device != "cpu"
        and measurement.provider == "cpu"
        and verdict.outcome in (Outcome.PASS, Outcome.MEASURED)
    ):
        reason = f"ran on the CPU of a host with a GPU ({measurement.placement})"
        check = Check("placement", Outcome.FAIL, reason)
        return replace(
            verdict,
            outcome=Outcome.FAIL,
            reason=reason,
            checks=(*verdict.checks, check),
            remedy="Pass --device cpu to run there on purpose.",
        )
    return verdict


def satisfies(verdict: Verdict, requirement: str) -> bool:
    """Whether a row is evidence for a requirement: judged PASS, real, of the asked runtime, and where it was asked."""
    label, _, placement = requirement.rstrip("]").partition("[")
    here = not placement or verdict.summary.measurement.provider == placement
    return _is_evidence(verdict) and verdict.case.runtime == label and here


def _is_evidence(verdict: Verdict) -> bool:
    """Judged PASS, on a real device, and what it claims to be."""
    measurement = verdict.summary.measurement
    return verdict.outcome is Outcome.PASS and not measurement.simulated and measurement.witness


def unmet(verdicts: Sequence[Verdict], require: Sequence[str]) -> list[str]:
    """What keeps the run from exit code 0 although nothing failed, in words."""
    words = []
    for requirement in require:
        label = requirement.partition("[")[0]
        if label == "model":
            name = requirement[len("model[") : -1]
            shown = [verdict for verdict in verdicts if verdict.case.model == name and _is_evidence(verdict)]
            if not any(verdict.case.kind in ("parity", "semantic") for verdict in shown):
                words.append(f"model {name} was named, and no parity row of it passed")
            continue
        rows = [verdict for verdict in verdicts if verdict.case.required and verdict.case.runtime == label]
        lacking = [verdict for verdict in rows if not satisfies(verdict, requirement)]
        if not rows:
            there = any(verdict.case.runtime == label for verdict in verdicts)
            why = "none of its rows is judged here, only measured" if there else "it has no row"
            words.append(f"required {requirement}: {why}")
        elif lacking:
            measurement = lacking[0].summary.measurement
            why = lacking[0].reason.partition(";")[0] if measurement.witness else measurement.notes[-1]
            first = f"{lacking[0].case.id}: {lacking[0].outcome.value}, {why}"
            words.append(f"required {requirement}: {len(lacking)} of {len(rows)} rows do not show it ({first})")
    return words


def exit_code(verdicts: Sequence[Verdict], require: Sequence[str], *, internal: bool = False) -> int:
    """RE-04: 4 before 1 before 3 before 0. (2, a wrong call, never gets as far as verdicts.)"""
    if internal:
        return EXIT_INTERNAL
    outcomes = [verdict.outcome for verdict in verdicts]
    if Outcome.FAIL in outcomes:
        return EXIT_FAIL
    if unmet(verdicts, require):
        return EXIT_OPEN
    return EXIT_PASS if any(o in (Outcome.PASS, Outcome.MEASURED) for o in outcomes) else EXIT_OPEN


def last_line(verdicts: Sequence[Verdict], require: Sequence[str]) -> str:
    """The run in one line: ``PASS 21 (5 simulated), NOT RUN 9 (tensorrt: not installed). No evidence about TensorRT.``"""
    counts = []
    for outcome in Outcome:
        rows = [verdict for verdict in verdicts if verdict.outcome is outcome]
        if rows:
            simulated = sum(verdict.summary.measurement.simulated for verdict in rows)
            beside = [f"{simulated} simulated"] if simulated else []
            if outcome is Outcome.NOT_RUN:
                beside = list(dict.fromkeys(verdict.reason for verdict in rows))
            counts.append(f"{outcome.value} {len(rows)}" + (f" ({'; '.join(beside)})" if beside else ""))
    line = (", ".join(counts) or "Nothing ran") + "."
    if any(verdict.case.runtime == "tensorrt" for verdict in verdicts) and not any(
        satisfies(verdict, "tensorrt") for verdict in verdicts
    ):
        line += " No evidence about TensorRT."
    for words in unmet(verdicts, require):
        line += f" {words[0].upper()}{words[1:]}."
    return line


def _judged(summary: Summary, checks: Sequence[Check], packed: Sequence[str]) -> Verdict:
    inputs = _same_inputs(summary.measurement, packed)
    deciding = inputs if inputs.outcome is Outcome.FAIL else worst(checks)
    reason = (
        deciding.reason
        if summary.measurement.witness
        else f"{deciding.reason.rstrip('.')}; {summary.measurement.notes[-1]}"
    )
    return Verdict(summary, deciding.outcome, reason, (inputs, *checks))


def _same_inputs(measurement: Measurement, packed: Sequence[str]) -> Check:
    if tuple(measurement.input_sha256) == tuple(packed):
        return Check("inputs", Outcome.PASS, f"{len(packed)} samples, the packed bytes at the runtime's door")
    return Check("inputs", Outcome.FAIL, "the bytes at the runtime's door are not those of the pack")


def _as_authors_expect(golden: Sequence[GoldenSample]) -> Check:
    """The outputs that a model's authors ship, by the rule of onnx's own tests of its light models: rtol 2e-3, atol 1e-7."""
    for one in golden:
        if one.outside:
            reason = f"sample {one.sample}: {one.output} is not what the model's authors ship (rtol 2e-3)"
            return Check("expected", Outcome.FAIL, reason)
    return Check(
        "expected", Outcome.PASS, "agrees with the outputs that the model's authors ship (rtol 2e-3, atol 1e-7)"
    )
