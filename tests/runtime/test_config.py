from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from runtime.config import BUILD_FLAGS, GIB, RuntimeConfig, is_built
from runtime.errors import ConfigError


@pytest.mark.covers("FA-04", "FA-01")
def test_the_defaults_are_the_conservative_ones() -> None:
    assert dataclasses.asdict(RuntimeConfig()) == {
        "runtime": "pytorch_fp16",
        "gpu_memory_budget_bytes": 4 * GIB,
        "host_memory_budget_bytes": 3 * GIB // 2,
        "trtexec_timeout_s": 600.0,
        "engine_cache_dir": Path("engines"),
        "ort_trt_cache_dir": Path("engines/ort/ground"),
        "ort_disallow_cpu_fallback": False,
        "per_frame_debug_log": False,
        "intra_op_threads": None,
        "device": "auto",
        "flight_id": "ground",
    }


@pytest.mark.covers("FA-04", "OR-08")
def test_the_cache_of_onnx_runtime_is_per_flight_unless_it_is_named() -> None:
    assert RuntimeConfig(engine_cache_dir=Path("e"), flight_id="f7").ort_trt_cache_dir == Path("e/ort/f7")
    assert RuntimeConfig(ort_trt_cache_dir=Path("mine"), flight_id="f7").ort_trt_cache_dir == Path("mine")


@pytest.mark.covers("FA-04")
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("runtime", "torch", "tensorrt, onnx_trt_ep, pytorch_fp16"),
        ("gpu_memory_budget_bytes", -1, "0 or more"),
        ("gpu_memory_budget_bytes", 4.0, "whole number of bytes"),
        ("host_memory_budget_bytes", True, "whole number of bytes"),
        ("trtexec_timeout_s", 0, "above 0"),
        ("trtexec_timeout_s", float("nan"), "above 0"),
        ("intra_op_threads", 0, "above 0"),
        ("device", "gpu", "auto, cpu or cuda:N"),
        ("device", "cuda:", "auto, cpu or cuda:N"),
        ("flight_id", "../up", "letters, digits"),
        ("engine_cache_dir", "", "expected a folder"),
        ("ort_trt_cache_dir", "", "expected a folder"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(name: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        RuntimeConfig(**{name: value})
    assert name in str(refused.value)


@pytest.mark.covers("FA-04")
def test_a_configuration_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RuntimeConfig().device = "cpu"  # type: ignore[misc]  # that it cannot be set is the point


@pytest.mark.covers("FA-02")
@pytest.mark.parametrize("label", sorted(BUILD_FLAGS))
def test_a_build_flag_is_a_switch_in_six_words(label: str) -> None:
    flag = f"BUILD_{label.upper()}_RUNTIME"
    for word in ("ON", "on", "1", "true", " True "):
        assert is_built(label, {flag: word}, unset=False)
    for word in ("OFF", "off", "0", "false", "False"):
        assert not is_built(label, {flag: word})
    assert is_built(label, {})
    assert not is_built(label, {}, unset=False)
    for word in ("", "yes", "2"):
        with pytest.raises(ConfigError, match=flag):
            is_built(label, {flag: word})
