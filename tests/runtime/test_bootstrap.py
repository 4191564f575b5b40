from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runtime.bootstrap import AIRBORNE, INFERENCE, LIGHTGLUE, Consumer, FlightConfig, bootstrap_airborne
from runtime.config import BUILD_FLAGS, RuntimeConfig, is_built
from runtime.data import BuildConfig, EngineCacheEntry, EngineHandle, ThermalState
from runtime.errors import BootstrapError, ConfigError, RuntimeCoreError, RuntimeNotAvailableError
from runtime.factory import build_inference_runtime
from runtime.protocol import Array, InferenceRuntime

TORCH, TENSORRT = BUILD_FLAGS["pytorch_fp16"], BUILD_FLAGS["tensorrt"]
LIVE = FlightConfig("live", RuntimeConfig())
ON = {TORCH: "ON"}


class Inert:
    """A runtime that does nothing, and is one by the protocol."""

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        raise NotImplementedError

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        raise NotImplementedError

    def infer(self, handle: EngineHandle, inputs: Mapping[str, Array], *, out: Any = None) -> dict[str, Array]:
        raise NotImplementedError

    def release_engine(self, handle: EngineHandle) -> None:
        raise NotImplementedError

    def thermal_state(self) -> ThermalState:
        return ThermalState.unknown(0)

    def current_runtime_label(self) -> str:
        return "pytorch_fp16"

    def resident_engines(self) -> list[str]:
        return ["disk@fp16"]


class Yard:
    """Builds inert runtimes where the real factory would not refuse, and counts them."""

    def __init__(self, failure: RuntimeCoreError | None = None) -> None:
        self.built: list[InferenceRuntime] = []
        self.given: dict[str, Any] = {}
        self.failure = failure

    def __call__(self, config: RuntimeConfig, *, environ: Mapping[str, str], **given: Any) -> InferenceRuntime:
        if self.failure:
            raise self.failure
        if not is_built(config.runtime, environ):
            build_inference_runtime(config, environ=environ)  # refuses in its own words
        self.given = given
        self.built.append(Inert())
        return self.built[-1]


def take(parts: Mapping[str, Any]) -> Mapping[str, Any]:
    return dict(parts)


@pytest.mark.covers("FA-03")
def test_the_one_runtime_is_under_its_key_and_the_same_instance_goes_to_every_consumer() -> None:
    yard = Yard()
    parts: Mapping[str, Any] = bootstrap_airborne(
        LIVE, {"place": take, "match": Consumer(take)}, environ=ON, build=yard
    )
    assert len(yard.built) == 1
    assert parts[INFERENCE] is yard.built[0]
    assert INFERENCE == "c7_inference"
    assert parts["place"][INFERENCE] is parts["match"][INFERENCE] is yard.built[0]


@pytest.mark.covers("FA-03")
def test_lightglues_shared_runtime_is_made_once_from_the_one_runtime_and_shared() -> None:
    made: list[tuple[str, InferenceRuntime]] = []

    def lightglue(runtime: InferenceRuntime) -> object:
        made.append(("lightglue", runtime))
        return made[-1]

    yard = Yard()
    consumers = {"match": take, "refine": take, "verify": take}
    parts: Mapping[str, Any] = bootstrap_airborne(LIVE, consumers, lightglue=lightglue, environ=ON, build=yard)
    assert len(made) == 1
    assert made[0][1] is parts[INFERENCE]
    assert len(yard.built) == 1
    for name in consumers:
        assert parts[name][LIGHTGLUE] is parts[LIGHTGLUE] is made[0]


@pytest.mark.covers("FA-03", "FA-02")
@pytest.mark.parametrize("label", AIRBORNE)
def test_an_unset_flag_means_off_in_flight(label: str) -> None:
    config = FlightConfig("live", RuntimeConfig(runtime=label))
    with pytest.raises(BootstrapError) as refused:
        bootstrap_airborne(config, {"place": take}, environ={}, build=Yard())
    assert isinstance(refused.value.__cause__, RuntimeNotAvailableError)
    assert f"{BUILD_FLAGS[label]} is OFF" in str(refused.value.__cause__)
    assert "not set, which is OFF in flight" in str(refused.value)


@pytest.mark.covers("FA-03")
def test_the_other_runtimes_flag_being_on_does_not_help() -> None:
    yard = Yard()
    with pytest.raises(BootstrapError) as refused:
        bootstrap_airborne(LIVE, {"place": take, "match": take}, environ={TORCH: "off", TENSORRT: "ON"}, build=yard)
    message = str(refused.value)
    assert "'c7_inference' is missing" in message
    assert f"{TENSORRT} (tensorrt) is ON" in message
    assert f"{TORCH} (pytorch_fp16) is off" in message
    assert "Configured consumers: place, match." in message
    assert isinstance(refused.value.__cause__, RuntimeNotAvailableError)
    assert yard.built == []


@pytest.mark.covers("FA-03")
def test_onnx_trt_ep_does_not_fly_and_the_error_lists_only_the_two_flags_that_do() -> None:
    config = FlightConfig("live", RuntimeConfig(runtime="onnx_trt_ep"))
    environ = dict.fromkeys(BUILD_FLAGS.values(), "ON")
    with pytest.raises(BootstrapError, match="onnx_trt_ep does not fly") as refused:
        bootstrap_airborne(config, {"place": take}, environ=environ, build=Yard())
    assert TORCH in str(refused.value)
    assert TENSORRT in str(refused.value)
    assert BUILD_FLAGS["onnx_trt_ep"] not in str(refused.value)


@pytest.mark.covers("FA-03")
@pytest.mark.parametrize("upstream", [RuntimeNotAvailableError("no torch."), ConfigError("odd flag.")])
def test_what_stopped_the_build_is_the_cause_and_is_said(upstream: RuntimeCoreError) -> None:
    with pytest.raises(BootstrapError) as refused:
        bootstrap_airborne(LIVE, {"place": take}, environ=ON, build=Yard(upstream))
    assert refused.value.__cause__ is upstream
    for words in (str(upstream), "'c7_inference'", TORCH, TENSORRT, "pytorch_fp16", "tensorrt", "place"):
        assert words in str(refused.value)


@pytest.mark.covers("FA-03", "FA-02")
def test_a_flag_that_is_no_switch_stops_the_flight_too() -> None:
    with pytest.raises(BootstrapError, match="perhaps") as refused:
        bootstrap_airborne(LIVE, {"place": take}, environ={TORCH: "perhaps"})
    assert isinstance(refused.value.__cause__, ConfigError)


@pytest.mark.covers("FA-03")
def test_a_live_flight_without_a_runtime_section_is_refused_where_a_consumer_needs_one() -> None:
    with pytest.raises(BootstrapError, match="no runtime section") as refused:
        bootstrap_airborne(FlightConfig("live"), {"place": take, "log": Consumer(take, False)}, environ=ON)
    assert isinstance(refused.value.__cause__, ConfigError)
    assert "Configured consumers: place, log." in str(refused.value)
    parts = bootstrap_airborne(FlightConfig("live"), {"log": Consumer(take, False)}, environ=ON)
    assert dict(parts) == {"log": {}}


@pytest.mark.covers("FA-03")
def test_a_replay_without_a_runtime_section_builds_nothing_and_skips_what_needs_it() -> None:
    yard = Yard()
    made: list[InferenceRuntime] = []
    consumers: dict[str, Any] = {"place": take, "log": Consumer(take, needs_runtime=False)}
    parts = bootstrap_airborne(FlightConfig("replay"), consumers, lightglue=made.append, environ={}, build=yard)
    assert dict(parts) == {"log": {}}
    assert (yard.built, made) == ([], [])


@pytest.mark.covers("FA-03")
def test_a_replay_with_a_runtime_section_is_built_like_a_flight() -> None:
    yard = Yard()
    config = FlightConfig("replay", RuntimeConfig())
    assert bootstrap_airborne(config, {"place": take}, environ=ON, build=yard)[INFERENCE] is yard.built[0]
    with pytest.raises(BootstrapError, match="c7_inference"):
        bootstrap_airborne(config, {"place": take}, environ={}, build=yard)


@pytest.mark.covers("FA-03")
def test_a_part_that_does_not_start_is_named_with_its_cause() -> None:
    error = OSError("camera gone")

    def broken(_given: Any) -> object:
        raise error

    for consumers, lightglue, name in (({"place": broken}, None, "place"), ({}, broken, LIGHTGLUE)):
        with pytest.raises(BootstrapError, match=f"'{name}' did not start: OSError: camera gone") as refused:
            bootstrap_airborne(LIVE, consumers, lightglue=lightglue, environ=ON, build=Yard())
        assert refused.value.__cause__ is error


@pytest.mark.covers("FA-03")
@pytest.mark.parametrize("name", [INFERENCE, LIGHTGLUE])
def test_a_consumer_cannot_take_the_key_of_a_shared_part(name: str) -> None:
    with pytest.raises(BootstrapError, match=name):
        bootstrap_airborne(LIVE, {name: take}, environ=ON, build=Yard())


@pytest.mark.covers("FA-03")
def test_nobody_can_put_another_runtime_in_place_of_the_shared_one() -> None:
    def steal(parts: Any) -> object:
        parts[INFERENCE] = None
        return parts

    with pytest.raises(BootstrapError, match="TypeError"):
        bootstrap_airborne(LIVE, {"thief": steal}, environ=ON, build=Yard())
    parts: Any = bootstrap_airborne(LIVE, {}, environ=ON, build=Yard())
    with pytest.raises(TypeError):
        parts[INFERENCE] = None


@pytest.mark.covers("FA-01", "FA-03")
def test_what_the_factory_needs_is_handed_on() -> None:
    yard, sentinel = Yard(), object()
    names = ("thermal_publisher", "architecture_registry", "clock")
    given: dict[str, Any] = dict.fromkeys(names, sentinel)
    bootstrap_airborne(LIVE, {}, environ=ON, build=yard, **given)
    assert all(yard.given[name] is sentinel for name in names)


@pytest.mark.covers("LO-01")
def test_ready_is_said_last_with_the_engines_that_are_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    bootstrap_airborne(LIVE, {"place": take}, environ=ON, build=Yard())
    (line,) = capsys.readouterr().err.splitlines()
    ready = json.loads(line)
    assert (ready["kind"], ready["engines"], ready["parts"]) == ("c7.ready", ["disk@fp16"], [INFERENCE, "place"])


@pytest.mark.covers("FA-03")
def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="live, replay"):
        FlightConfig("flight")
