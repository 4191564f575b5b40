"""Rows whose evidence is the record itself: no sample was kept because none was taken (a model's file, a clause that holds).

What can be computed again is whether the outcome follows from the row's own checks.
"""

from __future__ import annotations

from harness.records import Outcome, Verdict
from harness.signoff.recomputed import Recomputed

__all__ = ["of_record"]

_GRAVITY = (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS, Outcome.MEASURED)
_ON_A_BOARD = {
    Outcome.FAIL: {Outcome.FAIL, Outcome.INCONCLUSIVE},
    Outcome.INCONCLUSIVE: {Outcome.INCONCLUSIVE, Outcome.MEASURED},
    Outcome.PASS: {Outcome.PASS, Outcome.MEASURED},
    Outcome.MEASURED: {Outcome.MEASURED, Outcome.NOT_RUN},
}
"""In Tier-2 the state of the board may leave a row open whatever else was seen, and a profile may decide nothing."""


def of_record(verdict: Verdict) -> Recomputed:
    """Whether a row's outcome follows from its checks; a row that names raw evidence is none of this module's."""
    gravest = next((each for each in _GRAVITY if any(check.outcome is each for check in verdict.checks)), None)
    if gravest is None:
        allowed = {
            Outcome.MEASURED,
            Outcome.NOT_RUN,
            Outcome.INCONCLUSIVE,
        }  # what nothing shows can neither pass nor fail
        gravest = Outcome.NOT_RUN
    else:
        allowed = _ON_A_BOARD[gravest] if verdict.case.tier == 2 else {gravest}
    now = verdict.outcome if verdict.outcome in allowed else gravest
    words = "as its checks say" if verdict.checks else "it has no checks"
    if now is not verdict.outcome:
        words = f"its checks make it {now.value}" if verdict.checks else "it has no check that would show it"
    return Recomputed(verdict.case.id, verdict.outcome, now, words, "record")
