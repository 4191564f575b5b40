"""What ``trigate doctor --probe`` asks: one small function per platform assumption, found by its id (decision 13).

``files``: what the kernel's and NVIDIA's files say. ``clocks``: what this interpreter can see of time and of itself.
``libraries``: TensorRT, ONNX Runtime and CUDA, each in a child of its own, through the runtimes' public interface.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from harness.board import SystemFiles
from runtime.platform import HostTuple

__all__ = ["Finding", "Host", "Probe", "State", "ok", "unknown", "wrong"]


class State(str, Enum):
    """``UNKNOWN``: could not be tested here, and why. Only ``WRONG`` makes a row inconclusive."""

    OK = "OK"
    WRONG = "WRONG"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Finding:
    """``seen``: in words. ``facts``: what does not change from one minute to the next, and a fake must reproduce."""

    state: State
    seen: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def ok(seen: str, **facts: Any) -> Finding:
    return Finding(State.OK, seen, facts)


def wrong(seen: str, **facts: Any) -> Finding:
    return Finding(State.WRONG, seen, facts)


def unknown(seen: str, **facts: Any) -> Finding:
    return Finding(State.UNKNOWN, seen, facts)


@dataclass(frozen=True)
class Host:
    """What a probe may look at. ``is_here``: ``root`` is this machine's, so libraries and clocks are of it too.

    ``run``: like ``subprocess.run``. ``python``: the interpreter of children.
    """

    root: Path
    identity: HostTuple
    is_here: bool
    environ: Mapping[str, str]
    run: Callable[..., Any]
    python: str

    @property
    def is_jetson(self) -> bool:
        return self.identity.l4t != "none"

    def files(self) -> SystemFiles:
        """A reader with notes of its own."""
        return SystemFiles(self.root)


@dataclass(frozen=True)
class Probe:
    """One assumption. ``source``: on whose word we assume it. ``how``: how it is tested.

    ``kinds``: of the rows whose verdict leans on it; ``runtimes``: of these rows, those of these runtimes (none named:
    all). ``figures``: the beginnings of the names of figures that are in doubt where it is wrong.
    """

    id: str
    text: str
    source: str
    how: str
    test: Callable[[Host], Finding]
    kinds: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    limit_s: float = 5.0
