"""What is to go wrong, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from runtime.cuda import STICKY

__all__ = ["Fault", "FaultPlan", "is_sticky"]


def is_sticky(error: str) -> bool:
    """Whether the device is lost after it. ``error``: a name of ``CUresult``, or any other word."""
    return error in STICKY


@dataclass(frozen=True)
class Fault:
    """One planned failure.

    ``api``: the call, as in ``cuMemAlloc`` or ``tensorrt.Runtime.deserialize_cuda_engine``. ``error``: a name of
    ``CUresult``, or for the other faces any words. ``after_calls``: how many calls succeed first. ``forever``: every later
    call of it fails too. ``in_work``: the call itself succeeds, and the work that is enqueued next fails when it runs.
    """

    api: str
    error: str
    after_calls: int = 0
    forever: bool = False
    in_work: bool = False


class FaultPlan:
    """Counts the calls and says which of them fails. ``fired``: what has happened so far, in order."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.faults = list(faults)
        self.fired: list[Fault] = []
        self._count: Counter[str] = Counter()

    def add(self, fault: Fault) -> None:
        """Plan another one; its ``after_calls`` counts from now."""
        seen = self._count[fault.api]
        self.faults.append(Fault(fault.api, fault.error, fault.after_calls + seen, fault.forever, fault.in_work))

    def next(self, api: str) -> Fault | None:
        """Count a call of ``api``; the failure that is planned for it."""
        if not self.faults:
            return None
        number = self._count[api]
        self._count[api] += 1
        for fault in self.faults:
            if fault.api == api and (number == fault.after_calls or (fault.forever and number > fault.after_calls)):
                self.fired.append(fault)
                return fault
        return None
