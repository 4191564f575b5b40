from __future__ import annotations

import dataclasses
import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.data import (
    PRECISIONS,
    ROUTES,
    BuildConfig,
    EngineCacheEntry,
    EngineHandle,
    Profile,
    TensorSpec,
    ThermalState,
    describe_shape,
)
from runtime.errors import ConfigError, EngineBuildError

SHA = "0123456789abcdef" * 4
ENTRY = EngineCacheEntry(Path("a.engine"), SHA, "87", "6.2", "10.3", "fp16", {"model_name": "a"})

text = st.text(st.characters(codec="utf-8"), max_size=20)
paths = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30).map(Path)
entries = st.builds(
    EngineCacheEntry,
    engine_path=paths,
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    sm=text,
    jetpack=text,
    trt=text,
    precision=st.sampled_from(PRECISIONS),
    extras=st.dictionaries(text, text, max_size=4),
)
ranges = st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9)).map(
    lambda v: (v[0], v[0] + v[1], v[0] + v[1] + v[2])
)
profiles = st.lists(ranges, max_size=4).map(lambda sizes: Profile("x", *(tuple(s[i] for s in sizes) for i in range(3))))


@pytest.mark.covers("RT-04")
@settings(deadline=None)
@given(entries)
def test_an_entry_round_trips_through_json(entry: EngineCacheEntry) -> None:
    assert EngineCacheEntry.from_json(entry.to_json()) == entry
    assert hash(EngineCacheEntry.from_json(entry.to_json())) == hash(entry)


@pytest.mark.covers("RT-04")
def test_an_entry_is_frozen_through_and_through() -> None:
    extras = {"model_name": "a"}
    entry = dataclasses.replace(ENTRY, extras=extras)
    extras["model_name"] = "b"
    assert entry.extras["model_name"] == "a"
    with pytest.raises(TypeError):
        entry.extras["model_name"] = "b"  # type: ignore[index]  # that it cannot be set is the point
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.sha256 = SHA  # type: ignore[misc]  # that it cannot be set is the point


@pytest.mark.covers("RT-04")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sha256": SHA.upper()}, "lower-case"),
        ({"sha256": SHA[:-1]}, "64"),
        ({"precision": "fp8"}, "fp32, fp16, int8, mixed"),
        ({"extras": {"n": 3}}, "text to text"),
    ],
)
def test_an_entry_with_a_wrong_value_is_not_made(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        dataclasses.replace(ENTRY, **change)


@pytest.mark.covers("RT-04")
@pytest.mark.parametrize(
    ("json_text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "expected an object"),
        (json.dumps({**json.loads(ENTRY.to_json()), "cuda": "12"}), "unknown keys .'cuda'."),
        (json.dumps({key: value for key, value in json.loads(ENTRY.to_json()).items() if key != "sm"}), "lacks .'sm'."),
    ],
)
def test_json_that_is_no_entry_is_refused_by_its_keys(json_text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        EngineCacheEntry.from_json(json_text)


@pytest.mark.covers("RT-03")
@settings(deadline=None)
@given(
    st.sampled_from([p for p in PRECISIONS if p != "int8"]),
    st.integers(1, 1 << 20),
    st.sampled_from(ROUTES),
    profiles,
)
def test_a_build_configuration_holds_what_it_was_given(
    precision: str, workspace: int, route: str, profile: Profile
) -> None:
    as_tuple = (profile.input, profile.min, profile.opt, profile.max)
    config = BuildConfig(precision, workspace, "set", (as_tuple,), route)  # type: ignore[arg-type]  # converted inside
    assert (config.precision, config.workspace_mb, config.route) == (precision, workspace, route)
    assert config.calibration_dataset == Path("set")
    assert config.optimization_profiles == (profile,)
    assert dataclasses.replace(config) == config


@pytest.mark.covers("RT-03")
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"precision": "fp8"}, "precision is 'fp8'; expected one of fp32, fp16, int8, mixed"),
        ({"route": "onnx"}, "polygraphy, trtexec"),
        ({"workspace_mb": 0}, "above 0"),
        ({"workspace_mb": True}, "whole number"),
        ({"workspace_mb": 1.5}, "whole number"),
        ({"optimization_profiles": [Profile("x", (1,), (1,), (1,))] * 2}, "twice: x, x"),
    ],
)
def test_a_wrong_build_configuration_is_not_made(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BuildConfig(**values)


@pytest.mark.covers("RT-03")
def test_int8_without_a_dataset_is_a_build_error_and_mixed_without_one_is_fine() -> None:
    with pytest.raises(EngineBuildError, match="calibration_dataset"):
        BuildConfig(precision="int8")
    assert BuildConfig(precision="mixed").calibration_dataset is None
    assert BuildConfig(precision="int8", calibration_dataset=Path("set")).precision == "int8"


@pytest.mark.covers("RT-03")
@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((1, 2), (1,), (1,)), "one rank"),
        (((2,), (1,), (3,)), "min <= opt <= max"),
        (((0,), (1,), (3,)), "0 < min"),
        (((1,), (4,), (3,)), "min <= opt <= max"),
    ],
)
def test_a_profile_whose_shapes_do_not_agree_is_not_made(shapes: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Profile("x", *shapes)
    with pytest.raises(ConfigError, match="names no input"):
        Profile("", (1,), (1,), (1,))


@pytest.mark.covers("RT-05")
def test_a_handle_knows_whether_it_was_released_and_can_be_held_weakly() -> None:
    handle = EngineHandle(object(), ENTRY, object())
    before = (handle.released, "resident" in repr(handle))
    handle.resources = None
    assert (before, handle.released) == ((False, True), True)
    assert "released" in repr(handle)
    reference = weakref.ref(handle)
    del handle
    gc.collect()
    assert reference() is None


@pytest.mark.covers("RT-06")
def test_the_safe_default_claims_nothing() -> None:
    state = ThermalState.unknown(7)
    assert dataclasses.asdict(state) == {
        "cpu_temp_c": None,
        "gpu_temp_c": None,
        "thermal_throttle_active": False,
        "measured_clock_mhz": None,
        "measured_at_ns": 7,
        "is_telemetry_available": False,
    }


@pytest.mark.covers("RT-08")
def test_a_shape_reads_as_sizes_and_names() -> None:
    assert describe_shape((1, 3, "n")) == "1x3xn"
    assert describe_shape(()) == "scalar"
    assert TensorSpec("x", (), "float32").low is None
