"""The provider options of ONNX Runtime: nothing else in the core writes them (OR-03).

An option that the provider does not know makes it fail to load, and a host without TensorRT cannot find that out, so
the names are held against a list by version. The list was read off the strings of ten releases of the provider's
library (1.16.3 to 1.31.1); a test holds it against the installed one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from runtime.data import Profile, describe_shape

__all__ = [
    "allowed_options",
    "cache_folder",
    "cuda_options",
    "ignored_environment",
    "parse_version",
    "tensorrt_options",
]

Version = tuple[int, int]

# fmt: off
_SINCE: Mapping[Version, str] = {
    (1, 16): """
        device_id has_user_compute_stream user_compute_stream trt_max_partition_iterations trt_min_subgraph_size
        trt_max_workspace_size trt_fp16_enable trt_int8_enable trt_int8_calibration_table_name
        trt_int8_use_native_calibration_table trt_dla_enable trt_dla_core trt_dump_subgraphs trt_detailed_build_log
        trt_engine_cache_enable trt_engine_cache_path trt_engine_decryption_enable trt_engine_decryption_lib_path
        trt_force_sequential_engine_build trt_context_memory_sharing_enable trt_layer_norm_fp32_fallback
        trt_timing_cache_enable trt_build_heuristics_enable trt_sparsity_enable trt_builder_optimization_level
        trt_auxiliary_streams trt_tactic_sources trt_extra_plugin_lib_paths trt_profile_min_shapes
        trt_profile_opt_shapes trt_profile_max_shapes trt_cuda_graph_enable
        """,
    (1, 17): """
        trt_engine_cache_prefix trt_timing_cache_path trt_force_timing_cache trt_dump_ep_context_model
        trt_ep_context_file_path trt_ep_context_embed_mode
        """,
    (1, 18): "trt_weight_stripped_engine_enable trt_onnx_model_folder_path trt_engine_hw_compatible",
    (1, 19): "trt_onnx_bytestream trt_onnx_bytestream_size",
    (1, 22): "trt_op_types_to_exclude trt_preview_features",
    (1, 23): "trt_bf16_enable trt_external_data_bytestream trt_external_data_bytestream_size trt_load_user_initializer",
}
# fmt: on

_USE_TF32_SINCE = (1, 18)


def parse_version(text: str) -> Version:
    """``"1.31.1"`` or ``"1.24.0+cu126"`` as ``(1, 31)``; raises ``ValueError`` for what is no version."""
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def allowed_options(version: Version) -> frozenset[str]:
    """The options that the TensorRT provider of this release knows."""
    return frozenset(name for since, names in _SINCE.items() if since <= version for name in names.split())


def tensorrt_options(
    version: Version,
    *,
    device_id: int,
    gpu_budget_bytes: int,
    precision: str,
    profiles: Sequence[Profile] = (),
    cache: Path | None = None,
    model_sha256: str = "",
) -> dict[str, str]:
    """Every option that we set, explicitly: ONNX Runtime then reads none of its ``ORT_TENSORRT_*`` variables.

    The workspace is a quarter of the GPU budget. ``cache``: the folder of its engines, named with ``model_sha256``,
    since ONNX Runtime's own names do not depend on the weights; ``None`` where there is nothing to build.
    """
    wanted = {
        "device_id": str(device_id),
        "trt_max_workspace_size": str(max(gpu_budget_bytes // 4, 1)),  # 0 would mean all of the device
        "trt_fp16_enable": str(precision in ("fp16", "mixed")),
        "trt_int8_enable": str(precision == "int8"),
        "trt_bf16_enable": "False",
        "trt_context_memory_sharing_enable": "False",  # reported to fail with EP-context models
        "trt_engine_cache_enable": str(cache is not None),
    }
    if cache is not None:
        wanted["trt_engine_cache_path"] = str(cache)
        wanted["trt_engine_cache_prefix"] = model_sha256[:16]
    if profiles:
        for bound in ("min", "opt", "max"):  # all three or none
            shapes = (f"{profile.input}:{describe_shape(getattr(profile, bound))}" for profile in profiles)
            wanted[f"trt_profile_{bound}_shapes"] = ",".join(shapes)
    allowed = allowed_options(version)
    return {name: value for name, value in wanted.items() if name in allowed}


def cuda_options(version: Version, *, device_id: int, gpu_budget_bytes: int, precision: str) -> dict[str, str]:
    """The CUDA provider's: its arena is held to the budget, and an fp32 engine computes in fp32, not in TF32."""
    options = {"device_id": str(device_id), "gpu_mem_limit": str(gpu_budget_bytes)}
    if precision == "fp32" and version >= _USE_TF32_SINCE:
        options["use_tf32"] = "0"
    return options


def cache_folder(
    root: Path, *, model_sha256: str, ort_version: str, trt: str, sm: str, precision: str, profiles: Sequence[Profile]
) -> Path:
    """The folder of one key (OR-08). ONNX Runtime invalidates nothing itself: not for other weights, not for a profile."""
    shapes = "static"
    if profiles:
        text = json.dumps([vars(profile) for profile in profiles], sort_keys=True)
        shapes = hashlib.sha256(text.encode()).hexdigest()[:12]
    # The whole path, since the library's working directory is the process's at the time of the call.
    return root.absolute() / f"{model_sha256[:32]}_ort{ort_version}_trt{trt}_sm{sm}_{precision}_{shapes}"


def ignored_environment(environ: Iterable[str]) -> tuple[str, ...]:
    """The variables that would steer the TensorRT provider if its options were not given explicitly."""
    prefixes = ("ORT_TENSORRT_", "ORT_DUMP_EP_CONTEXT", "ORT_EP_CONTEXT")
    # ORT_TENSORRT_UNAVAILABLE is obeyed, not ignored: the provider is then left out, which the session's list shows.
    found = (name for name in environ if name.startswith(prefixes) and name != "ORT_TENSORRT_UNAVAILABLE")
    return tuple(sorted(found))
