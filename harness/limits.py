"""By what a run was judged: budgets, rates and boards as they stood, kept in its folder so that it can be judged again.

A run names its configuration by digest alone; whoever verifies it later, elsewhere, has no such file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.config import BoardConfig, Budget, Configuration, LoadRule, ModelConfig
from harness.errors import UsageError
from harness.records import RecordError, from_json, to_json
from runtime.files import read_small

__all__ = ["LIMITS_FILE", "Limits", "ModelLimits", "limits_of", "limits_text", "read_limits"]

LIMITS_FILE = "limits.json"
_MOST_BYTES = 16 << 20


@dataclass(frozen=True)
class ModelLimits:
    """What a model is asked for: its rate, and its budget by board."""

    load: LoadRule | None = None
    budget: Mapping[str, Budget] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """``board``: whose budgets applied; empty: none. ``require``: what the run had to show, from wherever it was asked."""

    configuration_sha256: str
    board: str = ""
    require: tuple[str, ...] = ()
    boards: Mapping[str, BoardConfig] = field(default_factory=dict)
    models: Mapping[str, ModelLimits] = field(default_factory=dict)

    def configuration(self, where: Path) -> Configuration:
        """As much of the configuration as judging needs; it makes no model."""
        return Configuration(
            path=str(where / LIMITS_FILE),
            folder=where,
            sha256=self.configuration_sha256,
            require=self.require,
            boards=self.boards,
            models={name: ModelConfig(name, load=one.load, budget=one.budget) for name, one in self.models.items()},
        )


def limits_of(
    configuration: Configuration, models: Mapping[str, ModelConfig], board: str, require: Sequence[str]
) -> Limits:
    """Of a run of ``models``, judged by the budgets of ``board``."""
    return Limits(
        configuration.sha256,
        board,
        tuple(require),
        dict(configuration.boards),
        {name: ModelLimits(model.load, dict(model.budget)) for name, model in models.items()},
    )


def limits_text(limits: Limits) -> bytes:
    """``limits.json``."""
    return json.dumps(to_json(limits), indent=1, allow_nan=False, sort_keys=True).encode()


def read_limits(folder: Path) -> Limits | None:
    """Of a run folder; ``None`` where it has none (a run of an older trigate). Raises ``UsageError`` for a damaged one."""
    path = folder / LIMITS_FILE
    try:
        return from_json(Limits, json.loads(read_small(path, limit=_MOST_BYTES)))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (RecordError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: {error}") from error
