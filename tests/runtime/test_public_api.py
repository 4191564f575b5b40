"""The public API (FA-01), and what importing it costs (RT-11)."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any, get_origin

import pytest

import runtime
from runtime import errors
from runtime.protocol import InferenceRuntime

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch", "onnxruntime", "onnx", "tensorrt", "tensorrt_rtx", "cuda", "polygraphy", "pynvml", "jtop", "scipy", "pandas",
    "pyarrow", "kornia", "psutil", "rich", "pytest",
)  # fmt: skip

WITHOUT_LIBRARIES = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
sys.path.insert(0, {str(ROOT)!r})
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_LIBRARIES + code], capture_output=True, text=True, check=False
    )


@pytest.mark.covers("FA-01")
def test_all_is_sorted_importable_documented_and_complete() -> None:
    public = {
        name for name in vars(runtime) if not name.startswith("_") and not inspect.ismodule(getattr(runtime, name))
    }
    assert public - set(runtime.__all__) <= {"annotations", "import_module", "TYPE_CHECKING", "Any"}
    assert len(set(runtime.__all__)) == len(runtime.__all__)
    assert set(errors.__all__) <= set(runtime.__all__)
    assert set(runtime.__all__) <= set(dir(runtime))
    for name in runtime.__all__:
        value: Any = getattr(runtime, name)
        is_alias = get_origin(value) is not None  # Python 3.10 takes Callable[[], Any] for a class
        if (inspect.isclass(value) and not is_alias) or inspect.isfunction(value):
            assert value.__doc__, f"{name} has no docstring"
            assert value.__module__.startswith("runtime."), f"{name} is not ours"
            assert getattr(sys.modules[value.__module__], name) is value
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = runtime.nothing


@pytest.mark.covers("FA-01")
def test_the_public_api_holds_what_the_contract_names() -> None:
    named = {
        "build_inference_runtime", "InferenceRuntime", "RuntimeConfig", "BuildConfig", "EngineCacheEntry", "EngineHandle",
        "ThermalState", "EngineGate", "read_sidecar", "write_sidecar", "read_manifest", "write_manifest", "publish_engine",
        "ThermalStatePublisher", "SysfsSource", "JtopSource", "NvmlSource", "TraceSource", "choose_source",
        "register_architecture", "default_registry", "ArchitectureFactory", "bootstrap_airborne",
    }  # fmt: skip
    assert sorted({*named, *errors.__all__} - set(runtime.__all__)) == []


@pytest.mark.covers("FA-01")
def test_what_a_type_checker_sees_is_what_is_imported_on_first_use() -> None:
    source = Path(runtime.__file__ or "").read_text(encoding="utf-8")
    seen = source.partition("if TYPE_CHECKING:")[2].partition("__all__")[0]
    for name, module in runtime._MODULE_OF.items():
        assert name in seen.partition(f"from {module} import")[2].partition("from runtime.")[0].replace(
            ",", " "
        ).split() or (f"{name}," in seen.partition(f"from {module} import")[2]), name


@pytest.mark.covers("FA-01")
def test_the_factory_takes_what_the_contract_says() -> None:
    parameters = inspect.signature(runtime.build_inference_runtime).parameters
    assert list(parameters) == [
        "config",
        "thermal_publisher",
        "architecture_registry",
        "clock",
        "on_alert",
        "on_record",
        "is_fallback",
        "environ",
    ]
    assert all(entry.kind is entry.KEYWORD_ONLY for entry in list(parameters.values())[1:])


@pytest.mark.covers("RT-01")
def test_the_protocol_has_six_methods_and_is_checked_at_run_time() -> None:
    names = {name for name in vars(InferenceRuntime) if not name.startswith("_")}
    assert names == {
        "compile_engine",
        "deserialize_engine",
        "infer",
        "release_engine",
        "thermal_state",
        "current_runtime_label",
    }
    out = inspect.signature(InferenceRuntime.infer).parameters["out"]
    assert (out.kind, out.default) == (out.KEYWORD_ONLY, None)
    lacking = type("Lacking", (), {name: lambda self: None for name in names - {"release_engine"}})
    whole = type("Whole", (), {name: lambda self: None for name in names})
    assert isinstance(whole(), InferenceRuntime)
    assert not isinstance(lacking(), InferenceRuntime)


@pytest.mark.covers("RT-02")
def test_the_labels_are_fixed() -> None:
    assert runtime.LABELS == ("tensorrt", "onnx_trt_ep", "pytorch_fp16")


@pytest.mark.covers("RT-11")
def test_the_core_and_every_public_name_import_with_no_heavy_library_there() -> None:
    done = python(
        f"""
import runtime
for name in runtime.__all__:
    getattr(runtime, name)
import runtime.strategies.common, runtime.threads
third = {{name.partition(".")[0] for name in sys.modules}} & set({HEAVY!r})
assert not third, third
print("ok")
"""
    )
    assert done.stdout == "ok\n", done.stderr


@pytest.mark.covers("RT-11")
def test_importing_the_core_loads_numpy_and_the_standard_library_alone() -> None:
    done = python(
        """
import numpy
before = set(sys.modules)
import runtime
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(loaded - set(sys.stdlib_module_names)))
print(sorted(name for name in sys.modules if name.startswith("runtime.")))
"""
    )
    modules = ["config", "data", "errors", "protocol"]
    assert done.stdout.splitlines() == ["['runtime']", str([f"runtime.{name}" for name in modules])], done.stderr
