"""What a build is told and what it answers: values that travel between the runtime and the process that builds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from runtime.data import Profile, TensorSpec

__all__ = ["BuildJob", "BuildResult", "Launch", "Progress", "ignore_progress", "never"]


@dataclass(frozen=True)
class Progress:
    """Where a build is: ``step`` steps of ``of`` in ``phase`` are done. ``parent``: the phase around it, or empty."""

    phase: str
    step: int
    of: int
    parent: str = ""


@dataclass(frozen=True)
class BuildJob:
    """One engine to build, as the child gets it. Paths are absolute.

    ``folder``: where everything that is made is put; the parent's, and removed by it. ``sm``: the GPU to build for.
    ``module``: of the host, keys the timing cache. ``dataset_sha256``: what the calibration inputs must still hash to.
    ``calibration_cache``: one that was found trustworthy, copied. ``timing_folder``: where timing caches are kept, or
    ``None`` for none. ``typing``: as in ``BuildConfig``.
    """

    model: Path
    folder: Path
    precision: str
    workspace_mb: int
    route: str
    sm: str
    module: str = "none"
    profiles: tuple[Profile, ...] = ()
    calibration_dataset: Path | None = None
    dataset_sha256: str = ""
    calibration_cache: Path | None = None
    timing_folder: Path | None = None
    trtexec: Path | None = None
    typing: str = ""

    def to_json(self) -> str:
        """One line; the inverse of ``from_json``."""
        return _to_json(self)

    @classmethod
    def from_json(cls, text: str) -> BuildJob:
        """Raises ``ValueError`` for what is no job."""
        values = _known(cls, text)
        for name in ("model", "folder", "calibration_dataset", "calibration_cache", "timing_folder", "trtexec"):
            if values.get(name) is not None:
                values[name] = Path(values[name])
        values["profiles"] = tuple(Profile(**profile) for profile in values.get("profiles", ()))
        return cls(**values)


@dataclass(frozen=True)
class BuildResult:
    """What was built; every path is in the job's folder.

    ``library``: ``tensorrt`` or ``tensorrt_rtx``, ``version`` as it says itself. ``expression``: how precision was
    expressed. ``inputs``, ``outputs``: as the engine says, in the order of its tensors. Byte figures are ``None`` where
    the library does not tell. ``layers``: JSON of ``trt_layers``. ``timing_cache``: a new one, under its final name.
    ``calibration_cache``: a new one. ``remarks``: what the operator should see. ``peak_bytes``: of the child.
    """

    plan: Path
    library: str
    version: str
    expression: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: Path | None = None
    precisions: Mapping[str, int] = field(default_factory=dict)
    device_memory_bytes: int | None = None
    weights_bytes: int | None = None
    timing_cache: Path | None = None
    calibration_cache: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    peak_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("precisions", "options"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def to_json(self) -> str:
        """One line; the inverse of ``from_json``."""
        return _to_json(self)

    @classmethod
    def from_json(cls, text: str) -> BuildResult:
        """Raises ``ValueError`` for what is no result."""
        values = _known(cls, text)
        for name in ("plan", "layers", "timing_cache", "calibration_cache"):
            if values.get(name) is not None:
                values[name] = Path(values[name])
        for name in ("inputs", "outputs"):
            values[name] = tuple(TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in values[name])
        values["remarks"] = tuple(values.get("remarks", ()))
        return cls(**values)


OnProgress = Callable[[Progress], None]
IsCancelled = Callable[[], bool]


class Launch(Protocol):
    """How a job is carried out: in a child process, or in this one.

    Raises the errors of the core; ``EngineBuildError`` for a job that took longer than ``timeout_s`` or was cancelled.
    """

    def __call__(
        self, job: BuildJob, *, timeout_s: float, on_progress: OnProgress, is_cancelled: IsCancelled
    ) -> BuildResult: ...


def ignore_progress(progress: Progress) -> None:
    """For those who do not watch."""


def never() -> bool:
    """For those who do not cancel."""
    return False


def _to_json(value: BuildJob | BuildResult) -> str:
    return json.dumps({entry.name: getattr(value, entry.name) for entry in fields(value)}, default=_plain)


def _plain(value: object) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, MappingProxyType):
        return dict(value)
    return vars(value)


def _known(kind: type[BuildJob | BuildResult], text: str) -> dict[str, Any]:
    values = json.loads(text)
    names = {entry.name for entry in fields(kind)}
    if not isinstance(values, dict) or set(values) - names:
        raise ValueError(f"not a {kind.__name__}: {text[:200]!r}")
    return values
