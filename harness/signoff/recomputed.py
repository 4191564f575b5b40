"""What a verdict of a stored run is, computed again from what the run folder keeps of it (RE-03)."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import Outcome

__all__ = ["Recomputed"]


@dataclass(frozen=True)
class Recomputed:
    """One row: ``was`` as ``run.json`` says, ``now`` as what is kept says; ``None``: it cannot be said.

    ``source``: ``raw`` (statistics of every sample), ``outputs`` (the stored outputs, against a pack), ``samples`` (of
    requests), ``record`` (nothing but ``run.json`` tells it), or ``none``. ``differs``: each contradiction in words, also
    where the outcome is the same: a figure, a tolerance or a reason that is not what was measured.
    """

    case_id: str
    was: Outcome
    now: Outcome | None
    words: str
    source: str
    differs: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether the row stands: the same outcome, and nothing contradicts the record."""
        return self.was is self.now and not self.differs
