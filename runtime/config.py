"""What the operator configures (FA-04), and the build flags (FA-02)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import ConfigError
from runtime.protocol import LABELS

__all__ = ["BUILD_FLAGS", "GIB", "RuntimeConfig", "is_built"]

GIB = 1024**3

BUILD_FLAGS: Mapping[str, str] = {label: f"BUILD_{label.upper()}_RUNTIME" for label in LABELS}
"""The environment variable that leaves a strategy out of a build, by label."""

_FLAG_WORDS = {"on": True, "1": True, "true": True, "off": False, "0": False, "false": False}


def is_built(label: str, environ: Mapping[str, str], *, unset: bool = True) -> bool:
    """Whether the strategy's build flag is on; ``unset`` is the answer where the variable is not there.

    Raises ``ConfigError`` for a word that is none of ON, OFF, 1, 0, true, false (in any case).
    """
    flag = BUILD_FLAGS[label]
    word = environ.get(flag)
    if word is None:
        return unset
    try:
        return _FLAG_WORDS[word.strip().lower()]
    except KeyError:
        raise ConfigError(f"{flag} is {word!r}; expected ON, OFF, 1, 0, true or false.") from None


@dataclass(frozen=True)
class RuntimeConfig:
    """Validated on construction; raises ``ConfigError`` that names the field, what came and what was expected.

    ``runtime``: a label of ``LABELS``; the default is the conservative one. Budgets in bytes.
    ``ort_trt_cache_dir``: ONNX Runtime's own engine cache; default ``<engine_cache_dir>/ort/<flight_id>``.
    ``device``: ``auto``, ``cuda:N`` or ``cpu``. ``intra_op_threads``: threads of one CPU call; ``None``: one per core.
    """

    runtime: str = "pytorch_fp16"
    gpu_memory_budget_bytes: int = 4 * GIB
    host_memory_budget_bytes: int = 3 * GIB // 2
    trtexec_timeout_s: float = 600.0
    engine_cache_dir: Path = Path("engines")
    ort_trt_cache_dir: Path | None = None
    ort_disallow_cpu_fallback: bool = False
    per_frame_debug_log: bool = False
    intra_op_threads: int | None = None
    device: str = "auto"
    flight_id: str = "ground"

    def __post_init__(self) -> None:
        if self.runtime not in LABELS:
            raise ConfigError(f"runtime is {self.runtime!r}; expected one of {', '.join(LABELS)}.")
        for name in ("gpu_memory_budget_bytes", "host_memory_budget_bytes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ConfigError(f"{name} is {value!r}; expected a whole number of bytes, 0 or more.")
        if not self.trtexec_timeout_s > 0:
            raise ConfigError(f"trtexec_timeout_s is {self.trtexec_timeout_s!r}; expected seconds above 0.")
        if self.intra_op_threads is not None and not (
            isinstance(self.intra_op_threads, int) and self.intra_op_threads > 0
        ):
            raise ConfigError(f"intra_op_threads is {self.intra_op_threads!r}; expected a whole number above 0.")
        if not re.fullmatch(r"auto|cpu|cuda:\d+", self.device):
            raise ConfigError(f"device is {self.device!r}; expected auto, cpu or cuda:N.")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.flight_id):
            raise ConfigError(f"flight_id is {self.flight_id!r}; expected letters, digits, '.', '_' and '-'.")
        for name in ("engine_cache_dir", "ort_trt_cache_dir"):
            value = getattr(self, name)
            if value is not None and not str(value):
                raise ConfigError(f"{name} is empty; expected a folder.")
        object.__setattr__(self, "engine_cache_dir", Path(self.engine_cache_dir))
        cache = self.ort_trt_cache_dir
        chosen = Path(cache) if cache is not None else self.engine_cache_dir / "ort" / self.flight_id
        object.__setattr__(self, "ort_trt_cache_dir", chosen)
