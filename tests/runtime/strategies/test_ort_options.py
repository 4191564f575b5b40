"""The provider options: their names are the library's, their values ours, and the cache's key is complete."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from runtime.data import Profile
from runtime.strategies.ort_options import (
    allowed_options,
    cache_folder,
    cuda_options,
    ignored_environment,
    parse_version,
    tensorrt_options,
)

GIB = 1024**3
PROFILES = (
    Profile("left", (1, 64, 2), (1, 512, 2), (1, 1024, 2)),
    Profile("right", (1, 64, 2), (1, 256, 2), (1, 1024, 2)),
)


def options(version: tuple[int, int] = (1, 31), **changes: Any) -> dict[str, str]:
    values: dict[str, Any] = {"device_id": 0, "gpu_budget_bytes": 4 * GIB, "precision": "fp16", **changes}
    return tensorrt_options(version, **values)


def provider_library() -> Path:
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        pytest.skip("onnxruntime: not installed")
    library = Path(spec.origin).parent / "capi/libonnxruntime_providers_tensorrt.so"
    if not library.exists():
        pytest.skip("onnxruntime-gpu: not installed, or its build has no TensorRT provider")
    return library


@pytest.mark.covers("OR-03")
def test_the_allow_list_is_what_the_installed_provider_library_knows() -> None:
    from importlib.metadata import version

    data = provider_library().read_bytes()
    allowed = allowed_options(parse_version(version("onnxruntime-gpu")))
    missing = {name for name in allowed if name.encode() + b"\0" not in data}
    assert not missing
    in_library = {match.decode() for match in re.findall(rb"\0(trt_[a-z0-9_]+)(?=\0)", data)}
    assert in_library <= allowed
    assert len(in_library) > 40  # the pattern finds them


@pytest.mark.covers("OR-03")
def test_the_allow_list_grows_with_the_version_to_49_names() -> None:
    sizes = [len(allowed_options((1, minor))) for minor in range(16, 32)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (32, 49)
    assert not allowed_options((1, 15))


@pytest.mark.covers("OR-03")
def test_options_carry_precision_workspace_cache_prefix_and_profiles() -> None:
    found = options(cache=Path("/cache"), model_sha256="ab" * 32, profiles=PROFILES, device_id=1)
    assert found["device_id"] == "1"
    assert found["trt_fp16_enable"] == "True"
    assert found["trt_int8_enable"] == "False"
    assert found["trt_max_workspace_size"] == str(GIB)
    assert found["trt_engine_cache_enable"] == "True"
    assert found["trt_engine_cache_path"] == "/cache"
    assert found["trt_engine_cache_prefix"] == "ab" * 8
    assert found["trt_profile_min_shapes"] == "left:1x64x2,right:1x64x2"
    assert found["trt_profile_opt_shapes"] == "left:1x512x2,right:1x256x2"
    assert found["trt_profile_max_shapes"] == "left:1x1024x2,right:1x1024x2"


@pytest.mark.covers("OR-03")
@pytest.mark.parametrize(
    ("precision", "fp16", "int8"),
    [("fp32", "False", "False"), ("fp16", "True", "False"), ("mixed", "True", "False"), ("int8", "False", "True")],
)
def test_precision_is_always_said_explicitly(precision: Any, fp16: Any, int8: Any) -> None:
    found = options(precision=precision)
    assert (found["trt_fp16_enable"], found["trt_int8_enable"], found["trt_bf16_enable"]) == (fp16, int8, "False")


@pytest.mark.covers("OR-03")
def test_without_a_cache_nothing_is_cached_and_without_profiles_none_is_named() -> None:
    found = options()
    assert found["trt_engine_cache_enable"] == "False"
    assert not [name for name in found if "path" in name or "prefix" in name or "profile" in name]


@pytest.mark.covers("OR-03")
@pytest.mark.parametrize("minor", range(16, 32))
def test_no_version_is_given_an_option_that_it_does_not_know(minor: Any) -> None:
    found = options((1, minor), cache=Path("/cache"), model_sha256="0" * 64, profiles=PROFILES)
    assert set(found) <= allowed_options((1, minor))
    assert "trt_engine_cache_path" in found
    assert ("trt_engine_cache_prefix" in found) == (minor >= 17)


@pytest.mark.covers("OR-03")
def test_a_budget_of_nothing_does_not_become_all_of_the_device() -> None:
    assert options(gpu_budget_bytes=0)["trt_max_workspace_size"] != "0"


@pytest.mark.covers("OR-03")
def test_the_cuda_provider_is_held_to_the_budget_and_fp32_means_no_tf32() -> None:
    assert cuda_options((1, 31), device_id=2, gpu_budget_bytes=7, precision="fp32") == {
        "device_id": "2",
        "gpu_mem_limit": "7",
        "use_tf32": "0",
    }
    assert "use_tf32" not in cuda_options((1, 31), device_id=0, gpu_budget_bytes=7, precision="fp16")
    assert "use_tf32" not in cuda_options((1, 17), device_id=0, gpu_budget_bytes=7, precision="fp32")


@pytest.mark.covers("OR-08")
def test_each_part_of_the_key_has_its_own_cache_folder() -> None:
    key = {
        "model_sha256": "a" * 64,
        "ort_version": "1.31.1",
        "trt": "10.3.0.30",
        "sm": "87",
        "precision": "fp16",
        "profiles": PROFILES,
    }
    other = {
        "model_sha256": "b" * 64,
        "ort_version": "1.23.2",
        "trt": "10.13",
        "sm": "110",
        "precision": "fp32",
        "profiles": (),
    }
    changed = [{**key, name: value} for name, value in other.items()]
    changed.append({**key, "profiles": PROFILES[:1]})
    folders = [cache_folder(Path("/flight"), **values) for values in (key, *changed)]  # type: ignore[arg-type]  # mixed
    assert len(set(folders)) == len(folders)
    assert {folder.parent for folder in folders} == {Path("/flight")}
    assert cache_folder(Path("/flight"), **key) == folders[0]  # type: ignore[arg-type]  # mixed
    assert cache_folder(Path("here"), **key).is_absolute()  # type: ignore[arg-type]  # mixed


@pytest.mark.parametrize(("text", "version"), [("1.31.1", (1, 31)), ("1.24.0+cu126", (1, 24)), ("1.9", (1, 9))])
def test_versions_are_read(text: Any, version: Any) -> None:
    assert parse_version(text) == version


@pytest.mark.covers("OR-03")
def test_environment_variables_of_the_provider_are_found() -> None:
    environ = ["PATH", "ORT_TENSORRT_FP16_ENABLE", "ORT_EP_CONTEXT_EMBED_MODE", "ORT_TENSORRT_UNAVAILABLE"]
    assert ignored_environment(environ) == ("ORT_EP_CONTEXT_EMBED_MODE", "ORT_TENSORRT_FP16_ENABLE")
