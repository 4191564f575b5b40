"""From what was asked, in values, to a job that can run: configuration, packs, plan and bench brought together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import plan as planning
from harness.baselines import Baselines, load_baselines, machine_of
from harness.board import read_board
from harness.build_check import builder_for
from harness.bump.builds import EngineBuilds, check_builds, launches_for, why_none
from harness.bump.like import Like, Planned, check_pack, plan_like
from harness.config import BoardConfig, Configuration, ModelConfig, load_configuration, name_of_file, parse_requirement
from harness.errors import UsageError, did_you_mean
from harness.floors import Floors
from harness.host import Availability, availability, environment, is_there
from harness.instruments.telemetry import Instruments, choose_instruments
from harness.measure import Bench
from harness.packs.folder import Pack, load_pack
from harness.packs.maker import Maker
from harness.packs.model import Source
from harness.plan import Ask
from harness.probe import checks_for, load_assumptions
from harness.profiles import PROFILES, Profile
from harness.records import Case, Divergence
from harness.run import Job, RuntimeSuite
from harness.tier2.child_job import import_plugin, job_of
from harness.tier2.heat_figures import NOT_APPLICABLE
from harness.tier2.host_station import HostStation, state_of
from harness.tier2.launch_job import LaunchJob
from harness.tier2.memory import MemoryMeter
from harness.tier2.rows import Tier2
from harness.tier2.soak import SENSORS
from harness.watchdog import Hangs, call_within
from runtime.architectures import ArchitectureRegistry
from runtime.config import RuntimeConfig
from runtime.errors import ConfigError, RuntimeCoreError, TelemetryUnavailableError
from runtime.platform import HostTuple, detect_host
from runtime.protocol import LABELS, InferenceRuntime
from runtime.thermal import ThermalStatePublisher
from runtime.thermal_sources import choose_source
from runtime.threads import reported_threads, usable_cores

if TYPE_CHECKING:
    from harness.scenario import Scenario

__all__ = ["House", "Request", "assemble", "make_pack"]

_SIMULATED_KINDS = ("latency", "flight", "memory", "heat")
_A_RUNTIME = "Give package.module:Class, where Class(config) makes a runtime.InferenceRuntime from a RuntimeConfig."


@dataclass(frozen=True)
class Request:
    """What the command line asked for, as values."""

    config: Path | None = None
    models: tuple[str, ...] = ()
    inputs: str = ""
    architectures: tuple[str, ...] = ()
    size: str = ""
    seed: int = 0
    cache: Path = Path("~/.cache/trigate")
    tiers: tuple[int, ...] = (0, 1, 2)
    runtimes: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    device: str = "auto"
    board: str = ""
    profile: str = "quick"
    pack: Path | None = None
    threads: int | None = None
    is_tier_named: bool = False
    simulated: str = ""
    history: Path | None = None
    assumptions: Path | None = None
    like: Like | None = None
    builds: int = 0


@dataclass(frozen=True)
class House:
    """What lies in rooms that the harness may not enter, brought in by the roof.

    ``sources``: the built-in models by kind. ``default_config``: the flight models. ``suites``: the installed tiers.
    ``prepare``: fills the cache with several models' packs at once. ``runtime_suites``: what settles rows about runtimes,
    by kind. ``making_limit_s``: for importing a third party's class and making one, heavy libraries and all. ``hooks``:
    ``module:function`` that a fresh process calls with its registry of architectures. ``scenarios``: the folder of the
    simulated boards. ``baselines``: a file of latency figures to show changes against.
    """

    sources: Mapping[str, Source]
    source_names: Callable[[], Mapping[str, Sequence[str]]]
    registry: ArchitectureRegistry
    default_config: Path
    suites: Path
    version: str
    environ: Mapping[str, str]
    prepare: Callable[[Request, Sequence[str]], None]
    say: Callable[[str], None]
    runtime_suites: Mapping[str, RuntimeSuite] = field(default_factory=dict)
    making_limit_s: float = 120.0
    hooks: tuple[str, ...] = ()
    scenarios: Path = Path()
    baselines: Path | None = None


def assemble(request: Request, house: House, command: Sequence[str], *, dry_run: bool = False) -> Job:
    """A job. With ``dry_run`` no pack is made, and the job can be printed but not run. Raises ``UsageError``."""
    asked = _understood(request, house)
    broken: dict[str, str] = {}
    asked, pack = _with_pack(asked, house, broken, dry_run=dry_run)
    instruments = None if asked.scenario else choose_instruments()
    found = availability(house.environ)
    builder = builder_for(asked.host)
    ask = _ask(asked, house, pack, found, builder.label if builder else "", instruments)
    bench = _bench(asked.request, house, pack, asked.host)
    for runtime in asked.runtimes:
        if ":" in runtime:
            bench.build(runtime, bench.config)  # a class that is none is told before anything runs
    planned = _planned(asked, ask, pack, dry_run=dry_run)
    tier2 = _tier2(asked, house, bench, instruments)
    can_run = [case for case in planned.cases if not case.not_run and case.model not in broken]
    tier2.observed = next((case for case in can_run if case.kind == "latency"), None)
    tier2.missing = broken
    profile, scenario = asked.profile, asked.scenario
    return Job(
        ask=ask,
        cases=planned.cases,
        pack=pack,
        broken=broken,
        configuration=asked.configuration,
        models={model.name: model for model in asked.models},
        bench=bench,
        suites=house.suites,
        environment={**environment(asked.host), **(_simulated_facts(scenario) if scenario else {})},
        settings=_settings(asked.request, pack.size, asked.configuration, asked.board_name),
        command=command,
        version=house.version,
        gpu_host=asked.host.sm != "none",
        device=request.device,
        board_name=asked.board_name,
        diagnose=_diagnoser(asked.request, house, bench, asked.models),
        remedies={label: state.remedy for label, state in found.items()},
        runtime_suites=house.runtime_suites,
        builder=builder,
        tier2=tier2,
        row_s=launches_for(profile.launches, request.builds) * profile.most_s
        + (profile.soak.most_s if profile.soak else 0.0),
        notes=planned.notes,
        said=planned.said,
    )


@dataclass(frozen=True)
class _Asked:
    """A request understood on this host. ``given``: the pack that was named; ``kept``: its configuration, where it stands for
    a file that was not given.
    """

    request: Request
    host: HostTuple
    given: Pack | None
    kept: Configuration | None
    configuration: Configuration
    models: tuple[ModelConfig, ...]
    scenario: Scenario | None
    board: BoardConfig | None
    runtimes: tuple[str, ...]
    require: tuple[str, ...]

    @property
    def profile(self) -> Profile:
        return PROFILES[self.request.profile]

    @property
    def board_name(self) -> str:
        return self.board.name if self.board else ""


def _understood(request: Request, house: House) -> _Asked:
    """Configuration, models, board, runtimes and what is required. Raises ``UsageError``."""
    host = detect_host()
    _refuse_what_does_not_go_together(request)
    given = load_pack(request.pack) if request.pack is not None else None
    kept = given.configuration if given is not None and request.config is None else None
    configuration, models = _models(request, house, kept)
    scenario = _scenario(request, house)
    board = planning.board_for(configuration.boards, scenario.board.module if scenario else host.module, request.board)
    if request.board and board is None:
        hint = did_you_mean(request.board, configuration.boards)
        raise UsageError(f"--board: {configuration.path} has no board {request.board!r}. {hint}")
    runtimes = tuple(dict.fromkeys(_runtime(word) for word in request.runtimes))
    require = planning.requirements(
        [*request.runtimes, *(parse_requirement(word, "--require") for word in request.require)],
        # the built-in configuration's rules are for its own models
        board if (request.config or kept or not request.models) and not scenario else None,
        host.jetpack != "none" and not scenario,
        configuration.require,
    )
    if PROFILES[request.profile].decides and not require and not scenario:
        raise UsageError(f"--profile {request.profile} decides something, so it needs --require. Name what must pass.")
    runtimes = runtimes or (("tensorrt",) if scenario else LABELS)
    # a simulated board has builds of its own; of a run like another one, what cannot be measured here stays a row
    may_build = scenario is not None or request.like is not None
    unbuilt = "" if may_build else why_none(runtimes, gpu=host.sm != "none", device=request.device)
    check_builds(request.builds, profile=request.profile, tiers=request.tiers, unbuilt=unbuilt)
    return _Asked(request, host, given, kept, configuration, tuple(models), scenario, board, runtimes, require)


def _with_pack(asked: _Asked, house: House, broken: dict[str, str], *, dry_run: bool) -> tuple[_Asked, Pack]:
    """The pack: given, made, or an empty one where nothing is computed; with the models that are run from it.

    A model that has none goes into ``broken``, with the reason. Raises ``UsageError``.
    """
    request, models, scenario = asked.request, asked.models, asked.scenario
    size = request.size or ("flight" if asked.host.sm != "none" else "small")
    if scenario is not None:
        simulated = tuple(model for model in models if model.name in scenario.models)
        if not simulated:
            raise UsageError(
                f"--simulated {scenario.name}: none of the models is among its own ({', '.join(scenario.models)})."
            )
        return replace(asked, models=simulated), Pack({}, "", request.seed, "flight")
    if asked.given is not None:
        packed = tuple(_packed(asked.given, models, request, broken))
        return replace(asked, models=packed), asked.given
    if dry_run:
        return asked, Pack({}, "", request.seed, size)
    request = replace(request, size=size)
    maker = _maker(request, house, asked.configuration, size)
    words = request.models or tuple(model.name for model in models)
    unmade = [word for word, model in zip(words, models, strict=True) if not maker.has_any(model.name)]
    if len(unmade) > 1:
        house.prepare(request, unmade)
    return replace(asked, request=request), maker.make(models, broken if len(models) > 1 else None)


def _ask(  # noqa: PLR0917 # what it is put together from
    asked: _Asked,
    house: House,
    pack: Pack,
    found: Mapping[str, Availability],
    builder: str,
    instruments: Instruments | None,
) -> Ask:
    """What the rows are planned from."""
    request, scenario, profile = asked.request, asked.scenario, asked.profile
    # a model that is named must be shown by a parity row, where the tier that has them is asked for
    must_show = asked.models if request.models and 1 in request.tiers and not scenario else ()
    return Ask(
        tiers=(2,) if scenario or profile.name == "floor" else tuple(sorted(set(request.tiers))),
        runtimes=asked.runtimes,
        models=asked.models,
        size=pack.size,
        require=(*asked.require, *(f"model[{model.name}]" for model in must_show)),
        board=asked.board,
        unavailable={label: state.reason for label, state in found.items() if not state.can_try},
        about_runtimes=tuple(house.runtime_suites),
        # they are about our runtimes: who asks for a model of his own waits for them only where he names the tier
        simulates=request.is_tier_named or not (request.config or request.models or request.pack),
        unsimulated=_unsimulated(),
        builder=builder,
        scenario=scenario.name if scenario else "",
        unseen=_unseen(instruments) if instruments is not None and 2 in request.tiers else {},
        profile=profile.name,
        # floors are learned in the flight mix, and alone by what does not fly in it; a simulated board computes nothing, and
        # starts no processes of this host
        only=("flight", "latency") if profile.name == "floor" else _SIMULATED_KINDS if scenario else (),
    )


def _planned(asked: _Asked, ask: Ask, pack: Pack, *, dry_run: bool) -> Planned:
    """The rows; where a run is repeated, those that it had. Raises ``UsageError``."""
    request, cases = asked.request, planning.plan(ask)
    if request.like is None:
        return Planned(cases, {})
    if not dry_run or asked.given is not None:
        check_pack(request.like, pack.sha256, request.pack)
    # a simulated board builds nothing, so it has no routes to choose from
    repeated = plan_like(cases, request.like, "none" if asked.scenario else asked.host.trt)
    return replace(repeated, said=(*repeated.said, *_other_configuration(request, asked.configuration)))


def _other_configuration(request: Request, configuration: Configuration) -> tuple[str, ...]:
    """That a run is like another one but for its configuration: budgets and rates may be others."""
    assert request.like is not None
    was = request.like.run.configuration_sha256
    if was == configuration.sha256:
        return ()
    return (f"the configuration {configuration.path} is {configuration.sha256[:16]}; the base's was {was[:16]}",)


def _refuse_what_does_not_go_together(request: Request) -> None:
    """A word that would be left out without a sound is an error. Raises ``UsageError``."""
    if request.simulated:
        tiers = " ".join(map(str, request.tiers))
        labels = sorted({*request.runtimes, *(word.partition("[")[0] for word in request.require)} - {"tensorrt"})
        for is_given, words in (
            (request.is_tier_named and set(request.tiers) != {2}, f"--tier {tiers}: a simulated board is for tier 2"),
            (request.pack is not None, f"--pack {request.pack}: a simulated board computes nothing"),
            (bool(request.inputs), f"--inputs {request.inputs}: a simulated board computes nothing"),
            (request.device != "auto", f"--device {request.device}: a simulated board brings its own"),
            (request.assumptions is not None, "--assumptions: they are of a real board"),
            (bool(labels), f"{', '.join(labels)}: what is simulated stands for tensorrt"),
        ):
            if is_given:
                raise UsageError(f"--simulated {request.simulated} does not go with {words}. Leave one of the two out.")
    if request.history is not None:
        history = request.history.expanduser().absolute()
        spot = next(path for path in (history, *history.parents) if path.exists())
        if not spot.is_dir() or not os.access(spot, os.W_OK | os.X_OK):
            why = "cannot be written" if spot.is_dir() else "is a file"
            raise UsageError(
                f"--history: floors cannot be kept in {request.history}: {spot} {why}. Give another folder."
            )


def _scenario(request: Request, house: House) -> Scenario | None:
    """The simulated board that was asked for, by its file or by the name of one of ours."""
    if not request.simulated:
        return None
    from harness.scenario import load_scenario

    path = Path(request.simulated)
    if path.suffix == ".toml":
        if not path.is_file():
            raise UsageError(f"--simulated: {path} is no file. Give one, or the name of a scenario of ours.")
        return load_scenario(path, house.scenarios)
    ours = {one.stem: one for one in sorted(house.scenarios.glob("*.toml"))}
    if request.simulated not in ours:
        hint = did_you_mean(request.simulated, ours)
        raise UsageError(f"--simulated: there is no scenario {request.simulated!r}. {hint} Or give FILE.toml.")
    return load_scenario(ours[request.simulated])


def _tier2(asked: _Asked, house: House, bench: Bench, instruments: Instruments | None) -> Tier2:
    """What settles the rows of Tier-2: on this host, or on a simulated board that begins anew with each row."""
    request, configuration, profile, scenario = asked.request, asked.configuration, asked.profile, asked.scenario
    history = (request.history or request.cache).expanduser()
    common: dict[str, Any] = {
        "profile": profile,
        "models": {model.name: model for model in asked.models},
        "board": asked.board,
        "environ": house.environ,
        "builds": request.builds,
    }
    if scenario is not None:
        from harness.fakes.orin import SimulatedKill, SimulatedOrin

        def begin() -> SimulatedOrin:
            return SimulatedOrin(scenario, seed=request.seed)

        versions = {"jetpack": scenario.board.jetpack, "tensorrt_host": scenario.board.tensorrt}
        floors = _floors(history / "floors-simulated", request, profile)
        unified = scenario.board.unified
        return Tier2(
            begin(), begin=begin, floors=floors, versions=versions, kills=(SimulatedKill,), is_unified=unified, **common
        )
    assert instruments is not None  # a host's
    meter = MemoryMeter()
    job = job_of(
        bench,
        hooks=house.hooks,
        plugins=configuration.plugins,
        architectures=request.architectures,
        folders=(configuration.folder, Path.cwd()) if request.config else (Path.cwd(),),
    )
    bench.board_state = lambda: read_board(frame=instruments.read(0))
    builds = EngineBuilds(bench, LaunchJob(job), request.builds)
    station = HostStation(
        bench,
        job_for=builds.job_for,
        instruments=instruments,
        memory=meter.marks,
        board_state=lambda: state_of(Path("/"), instruments),
        job=LaunchJob(job),
    )
    host = detect_host()
    found = environment(host)
    versions = {name: found[name] for name in ("jetpack", "tensorrt_host", "onnxruntime-gpu", "torch") if name in found}
    assumptions = load_assumptions(request.assumptions, of=host) if request.assumptions else None
    tier2 = Tier2(
        station,
        floors=_floors(history / "floors", request, profile),
        versions=versions,
        job=job,
        baselines=load_baselines(house.baselines) if house.baselines else Baselines(),
        machine=machine_of(found, host.module if host.jetpack != "none" else None),
        tolerances={name: pack.tolerances for name, pack in bench.packs.items()},
        gpu_index=None if host.sm == "none" or host.jetpack != "none" else _ordinal(request.device),
        is_unified=True if host.jetpack != "none" else None,
        state_checks=(lambda case: checks_for(case, assumptions)) if assumptions else (lambda case: ()),
        **common,
    )

    def tell(words: str) -> None:
        tier2.say(words)  # whoever listens by the time that rows run

    station.say = builds.say = tell
    return tier2


def _unseen(instruments: Instruments) -> dict[str, str]:
    """Kinds of rows that this host's instruments show nothing for, and why, as the row itself would find."""
    values = instruments.read(0).values
    return {} if any(name in values for name in SENSORS) else {"heat": NOT_APPLICABLE}


def _simulated_facts(scenario: Scenario) -> dict[str, str]:
    """What a board's host would say of it."""
    return {
        "simulated": scenario.name,
        "jetpack": scenario.board.jetpack,
        "tensorrt_host": scenario.board.tensorrt,
    }


def _floors(folder: Path, request: Request, profile: Profile) -> Floors:
    """Whoever counts on floors hears of a damaged one before anything is measured."""
    floors = Floors(folder)
    if request.history is not None or profile.needs_floor:
        floors.check()
    return floors


def _ordinal(device: str) -> int:
    return int(device.partition(":")[2] or 0)


def _unsimulated() -> str:
    """Why the simulated device cannot run here; empty if it can."""
    missing = [name for name in ("onnx", "onnxruntime", "polygraphy") if not is_there(name)]
    return f"the simulated device needs {' and '.join(missing)} (pip install 'trigate[ort,sim]')" if missing else ""


def make_pack(request: Request, house: House) -> tuple[Pack, Configuration]:
    """Every model of the request, packed; the first that cannot be raises ``UsageError``.

    The configuration is that of these models alone: of a file that is named it says nothing.
    """
    configuration, models = _models(request, house)
    pack = _maker(request, house, configuration, request.size or "small").make(models)
    for model in models:
        if model.task is not None:
            house.say(
                f"{model.name}: the task metric {model.task.metric} is code, and not in the pack: "
                "give the configuration beside --pack"
            )
    boards = configuration.boards
    if request.models and not request.config:  # the built-in configuration's rules are for its own models
        boards = {name: replace(board, require=()) for name, board in boards.items()}
    return pack, replace(configuration, boards=boards, models={model.name: model for model in models})


def _maker(request: Request, house: House, configuration: Configuration, size: str) -> Maker:
    return Maker(
        cache=request.cache.expanduser(),
        sources=house.sources,
        registry=house.registry,
        seed=request.seed,
        size=size,
        folders=(configuration.folder, Path.cwd()) if request.config else (Path.cwd(),),
        say=house.say,
    )


def _telemetry() -> ThermalStatePublisher | None:
    """A started publisher, where this host has a source of telemetry; it is a daemon and ends with the process."""
    try:
        publisher = ThermalStatePublisher(choose_source())
    except TelemetryUnavailableError:
        return None
    publisher.start()
    return publisher


def _bench(request: Request, house: House, pack: Pack, host: HostTuple) -> Bench:
    threads = usable_cores() if request.threads is None else request.threads
    try:
        config = RuntimeConfig(
            engine_cache_dir=request.cache.expanduser() / "engines", device=request.device, intra_op_threads=threads
        )
    except ConfigError as error:
        raise UsageError(str(error)) from error
    if request.device.startswith("cuda") and host.sm == "none":
        raise UsageError(
            f"--device {request.device}: this host shows no GPU. Pass --device cpu, or see `trigate doctor`."
        )
    telemetry = _telemetry()
    return Bench(
        packs=pack.models,
        config=config,
        build=_builder(house, (Path.cwd(),), telemetry),
        threads={"intra_op": threads, **reported_threads(house.environ)},
        seed=request.seed,
    )


def _builder(
    house: House, folders: Sequence[Path], telemetry: ThermalStatePublisher | None
) -> Callable[[str, RuntimeConfig], InferenceRuntime]:
    def build(runtime: str, config: RuntimeConfig) -> InferenceRuntime:
        if ":" not in runtime:
            from runtime.factory import build_inference_runtime

            return build_inference_runtime(
                config, thermal_publisher=telemetry, architecture_registry=house.registry, environ=house.environ
            )
        from harness.inputs import resolve_hook

        try:
            made = call_within(house.making_limit_s, lambda: resolve_hook(runtime, folders)(config))
        except UsageError as error:
            raise UsageError(f"--runtime: {error} {_A_RUNTIME}") from error
        except RuntimeCoreError:
            raise
        except Hangs as error:
            raise UsageError(f"--runtime {runtime} cannot be made: {error}. {_A_RUNTIME}") from error
        except (Exception, SystemExit) as error:  # whoever ends the process would end it in green
            told = f"{type(error).__name__}: {error}"
            raise UsageError(f"--runtime {runtime} cannot be made: {told}. {_A_RUNTIME}") from error
        if not isinstance(made, InferenceRuntime):
            methods = [name for name in dir(InferenceRuntime) if not name.startswith("_")]
            lacking = [name for name in methods if not callable(getattr(made, name, None))]
            raise UsageError(
                f"--runtime {runtime}: {type(made).__name__} is no InferenceRuntime: it lacks {', '.join(lacking)}. "
                f"{_A_RUNTIME}"
            )
        return made

    return build


def _diagnoser(
    request: Request, house: House, bench: Bench, models: Sequence[ModelConfig]
) -> Callable[[Case, Path], Divergence | None]:
    def diagnose(case: Case, folder: Path) -> Divergence | None:
        from harness.numerics.diagnose import Diagnosis

        model = next(model for model in models if model.name == case.model)
        return Diagnosis(bench, house.registry, model, _how_to_ask(model, request)).explain(case, folder)

    return diagnose


def _how_to_ask(model: ModelConfig, request: Request) -> tuple[str, ...]:
    """The words of the command line that lead to this model again, from any folder."""
    words = [str(request.config.resolve())] if request.config else []
    given = next(
        (word for word in request.models if Path(word).exists() and name_of_file(Path(word)) == model.name), ""
    )
    words += ["--model", str(Path(given).resolve()) if given else model.name]
    for architecture in request.architectures:
        words += ["--architecture", architecture]
    return (*words, "--size", request.size or "small", "--seed", str(request.seed), "--device", request.device)


def _settings(request: Request, size: str, configuration: Configuration, board: str) -> dict[str, str]:
    asked = {
        "tier": " ".join(map(str, request.tiers)),
        "runtime": " ".join(request.runtimes),
        "require": " ".join(request.require),
        "device": request.device,
        "profile": request.profile,
        "board": board,
        "seed": str(request.seed),
        "threads": str(request.threads or ""),
        "simulated": request.simulated,
        "like": request.like.run.id if request.like else "",
        "builds": str(request.builds or ""),
    }
    return {
        **{key: value for key, value in asked.items() if value},
        "size": size,
        "config": Path(configuration.path).name,
    }


def _runtime(word: str) -> str:
    if ":" in word or word in LABELS:
        return word
    raise UsageError(f"--runtime: {word!r} is no runtime. {did_you_mean(word, LABELS)} Or give package.module:Class.")


def _models(
    request: Request, house: House, kept: Configuration | None = None
) -> tuple[Configuration, list[ModelConfig]]:
    """The configuration, and the models that were asked for (all of its own where none was named).

    ``kept``: the one that a pack brings, which stands for a file that was not given.
    """
    configuration = kept or load_configuration(request.config or house.default_config)
    for plugin in configuration.plugins:
        import_plugin(plugin)
    for word in request.architectures:
        _register(word, house.registry)
    models = [_named(word, request, house, configuration) for word in request.models]
    if not request.models:
        models = list(configuration.models.values())
    if not models:
        raise UsageError(f"{configuration.path} names no model. Add [model.NAME], or give --model FILE.onnx.")
    names = [model.name for model in models]
    twice = next((name for at, name in enumerate(names) if name in names[:at]), "")
    if twice:
        raise UsageError(f"--model: two models are called {twice!r}, and rows are named after them. Rename one file.")
    if request.inputs and len(models) != 1:
        raise UsageError(f"--inputs is for one model, and {len(models)} are asked for. Name it with --model.")
    if request.inputs:
        models = [replace(models[0], inputs=request.inputs)]
    for model in models:
        if model.measure_at:
            usual = "of its samples" if model.inputs else "in the middle of dims"
            house.say(f"{model.name}: measure_at is not used yet: its latency is of the sizes {usual} alone")
    return configuration, models


def _named(word: str, request: Request, house: House, configuration: Configuration) -> ModelConfig:
    path = Path(word)
    if word in configuration.models:
        return configuration.models[word]
    built_in = {f"{kind}_{name}": f"{kind}:{name}" for kind, names in house.source_names().items() for name in names}
    if path.exists():
        stem = name_of_file(path)
        if stem != path.stem:
            house.say(f"{path.name} is called {stem} here: a model's name has letters a to z, digits, '.' and '_' only")
        if path.suffix in (".pt", ".pth"):
            names = [entry.partition("=")[0] for entry in request.architectures] or [path.stem]
            return ModelConfig(stem, checkpoint=path, architecture=names[0], inputs=request.inputs)
        return ModelConfig(stem, onnx=path, inputs=request.inputs)
    for name in (word, word.removesuffix(".onnx")):
        if name in built_in:
            # the onnx package's light models are for parity in fp32: their made-up weights overflow fp16
            return ModelConfig(
                name, source=built_in[name], precision=("fp32",) if name.startswith("light_") else ("fp16",)
            )
    if path.suffix in (".onnx", ".pt", ".pth") or os.sep in word:
        raise UsageError(f"--model: {word} does not exist. Give the path of an .onnx file, or the name of a model.")
    raise UsageError(f"--model: {word!r} is no model. {did_you_mean(word, [*configuration.models, *built_in])}")


def _packed(pack: Pack, models: Sequence[ModelConfig], request: Request, broken: dict[str, str]) -> list[ModelConfig]:
    """The models that were asked for, as the pack has them; one that it lacks goes into ``broken``.

    Without a configuration and without --model these are all models of the pack.
    """
    if request.config is None and not request.models:
        return [packed.config() for packed in pack.models.values()] if pack.configuration is None else list(models)
    for model in models:
        if model.name not in pack.models:
            if request.models:
                raise UsageError(f"--model: the pack has no {model.name!r}. {did_you_mean(model.name, pack.models)}")
            broken[model.name] = f"the pack {request.pack} has no model {model.name!r}: make the pack again"
    return list(models)


def _register(word: str, registry: ArchitectureRegistry) -> None:
    from harness.inputs import resolve_hook

    name, equals, hook = word.partition("=")
    if not equals or ":" not in hook:
        raise UsageError(f"--architecture: {word!r}; expected NAME=package.module:factory.")
    registry.register(name, resolve_hook(hook, (Path.cwd(),)))
