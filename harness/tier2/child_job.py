"""What a child process needs in order to run rows as its parent would: packs, configuration, who registers what.

A plain value that travels as JSON; the child turns it into a ``Bench`` of its own. What lies in rooms that the harness may
not enter (the flight models) is named as text and resolved there.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.inputs import resolve_hook
from harness.measure import Bench
from harness.packs.model import read_model
from harness.records import Case
from runtime.architectures import ArchitectureRegistry
from runtime.config import RuntimeConfig
from runtime.data import EngineCacheEntry
from runtime.errors import RuntimeCoreError
from runtime.protocol import InferenceRuntime

__all__ = ["ChildJob", "Compiled", "bench_of", "build_runtime", "job_of"]


@dataclass(frozen=True)
class Compiled:
    """An engine that the parent has compiled, as ``EngineCacheEntry.to_json``, and for which case."""

    case: Case
    entry: str


@dataclass(frozen=True)
class ChildJob:
    """``packs``: the folder of each model's pack. ``config``: the fields of a ``RuntimeConfig``, as JSON holds them.

    ``hooks``: ``module:function``, called with the registry of architectures (``fixtures.flight:register``).
    ``plugins``: Python files that register by being imported. ``architectures``: ``NAME=module:factory``.
    ``folders``: where hooks and runtime classes are looked for first. ``threads``: as ``Bench.threads``. ``compiled``: engines
    that are there already; any other is compiled by the child.
    """

    packs: Mapping[str, str]
    config: Mapping[str, Any] = field(default_factory=dict)
    hooks: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    threads: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0
    compiled: tuple[Compiled, ...] = ()

    def runtime_config(self) -> RuntimeConfig:
        """Raises ``ConfigError`` for values that it does not take, and ``UsageError`` for a field that it has not."""
        unknown = set(self.config) - {entry.name for entry in fields(RuntimeConfig)}
        if unknown:
            raise UsageError(f"the job's config has {sorted(unknown)}; a RuntimeConfig has no such field.")
        return RuntimeConfig(**self.config)


def job_of(
    bench: Bench,
    *,
    hooks: Sequence[str] = (),
    plugins: Sequence[Path] = (),
    architectures: Sequence[str] = (),
    folders: Sequence[Path] = (),
) -> ChildJob:
    """The job of a child that shall run ``bench``'s rows; all paths are made absolute."""
    config = {entry.name: getattr(bench.config, entry.name) for entry in fields(bench.config)}
    return ChildJob(
        packs={name: str(Path(pack.folder).absolute()) for name, pack in bench.packs.items()},
        config={key: str(value.absolute()) if isinstance(value, Path) else value for key, value in config.items()},
        hooks=tuple(hooks),
        plugins=tuple(str(path.absolute()) for path in plugins),
        architectures=tuple(architectures),
        folders=tuple(str(path.absolute()) for path in folders),
        threads=dict(bench.threads),
        seed=bench.seed,
    )


def bench_of(job: ChildJob, environ: Mapping[str, str], registry: ArchitectureRegistry | None = None) -> Bench:
    """The job as a bench, in the child. ``registry``: filled by the job's hooks (default: that of the process).

    Raises ``UsageError`` for a hook, plugin or pack that cannot be had.
    """
    from runtime.architectures import default_registry

    registry = default_registry if registry is None else registry
    folders = tuple(map(Path, job.folders))
    for hook in job.hooks:
        _called(hook, folders, registry)
    for plugin in job.plugins:
        import_plugin(Path(plugin))
    for word in job.architectures:
        name, _, factory = word.partition("=")
        registry.register(name, resolve_hook(factory, folders))
    bench = Bench(
        packs={name: read_model(Path(folder)) for name, folder in job.packs.items()},
        config=job.runtime_config(),
        build=lambda runtime, config: build_runtime(runtime, config, folders, registry, environ),
        threads=job.threads,
        seed=job.seed,
    )
    for each in job.compiled:
        bench.remember(each.case, EngineCacheEntry.from_json(each.entry))
    return bench


def build_runtime(
    runtime: str,
    config: RuntimeConfig,
    folders: Sequence[Path],
    registry: ArchitectureRegistry,
    environ: Mapping[str, str],
) -> InferenceRuntime:
    """A runtime by its label, or by ``module:Class``. Raises ``RuntimeNotAvailableError``, ``ConfigError``, ``UsageError``."""
    if ":" not in runtime:
        from runtime.factory import build_inference_runtime

        return build_inference_runtime(config, architecture_registry=registry, environ=environ)
    made = _called(runtime, folders, config)
    if not isinstance(made, InferenceRuntime):
        raise UsageError(f"{runtime} makes a {type(made).__name__}; expected a runtime.InferenceRuntime.")
    return made


def _called(hook: str, folders: Sequence[Path], argument: object) -> Any:
    """What the hook gives. Whatever foreign code raises is a ``UsageError``; the core's errors stay what they are."""
    call = resolve_hook(hook, folders)
    try:
        return call(argument)
    except RuntimeCoreError:
        raise
    except (Exception, SystemExit) as error:  # whoever ends the process would end it in green
        raise UsageError(f"{hook} broke: {type(error).__name__}: {error}.") from error


def import_plugin(path: Path) -> None:
    """Import a plugin file once, under its own name. Raises ``UsageError``."""
    name = path.stem
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) == str(path):
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.exists():
        raise UsageError(f"the plugin {path} does not exist, or is no Python file.")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(f"the plugin {path} cannot be imported: {type(error).__name__}: {error}.") from error
