"""Rooms and who may enter (architecture): read from the source, so that a lazy import counts like any other."""

import ast
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"runtime", "harness", "tiers", "fixtures", "reports", "tests"}
HEAVY = {
    "torch",
    "onnxruntime",
    "tensorrt",
    "tensorrt_rtx",
    "cuda",
    "polygraphy",
    "onnx",
    "pynvml",
    "jtop",
    "kornia",
    "pandas",
}

MAY_IMPORT = {
    "runtime": {"runtime"},
    "harness": {"harness", "runtime"},
    "reports": {"reports", "harness.records"},
    "fixtures": {"fixtures", "runtime", "harness.records"},
    "tiers": OURS - {"tests"},
}
THE_ROOF = ("harness/cli.py", "harness/commands/")
OF_A_BUILD = {"onnx_fp16.py", "onnx_int8.py"}
"""Doors beside a library's one door: they rewrite a model, in the process that builds an engine and nowhere else."""


def imports(path: Path) -> Any:
    """(imported module, whether at the module's top) for every import in a file; TYPE_CHECKING blocks left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            hidden |= {id(child) for child in ast.walk(node)}
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, id(node) in top
        elif isinstance(node, ast.Call) and _loads(node):
            yield str(getattr(node.args[0], "value", "")), False


def _loads(call: ast.Call) -> bool:
    """Whether the call is ``import_module("literal")``."""
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    return name == "import_module" and bool(call.args) and isinstance(call.args[0], ast.Constant)


def files(folder: str) -> Any:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_room_is_entered_only_from_where_it_may_be(folder: Any) -> None:
    wrong = []
    for path in files(folder):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(THE_ROOF):
            continue
        for module, _ in imports(path):
            allowed = any(module == room or module.startswith(room + ".") for room in MAY_IMPORT[folder])
            if module.partition(".")[0] in OURS and not allowed:
                wrong.append(f"{name} imports {module}")
    assert not wrong


def test_nothing_imports_the_roof() -> None:
    assert [str(p) for folder in MAY_IMPORT for p in files(folder) if "harness.cli" in {m for m, _ in imports(p)}] == []
    below = [path for folder in MAY_IMPORT for path in files(folder)]
    below = [path for path in below if not path.relative_to(ROOT).as_posix().startswith(THE_ROOF)]
    assert [str(path) for path in below if any(m.startswith("harness.commands") for m, _ in imports(path))] == []


def cuda_users(root: Path) -> list[str]:
    """Files of the harness, outside its fakes, that look at CUDA's door, and files that open CUDA anywhere else."""
    found = []
    for path in sorted(path for room in MAY_IMPORT for path in (root / room).rglob("*.py")):
        name = path.relative_to(root).as_posix()
        for module, _ in imports(path):
            is_door = module == "runtime.cuda" and name.startswith("harness/") and not name.startswith("harness/fakes/")
            is_library = module.partition(".")[0] == "cuda" and name not in {"runtime/cuda.py", "fixtures/api_cuda.py"}
            if is_door or is_library:
                found.append(f"{name} imports {module}")
    return found


def test_cuda_has_one_door_and_of_the_harness_only_the_fakes_look_at_it() -> None:
    assert cuda_users(ROOT) == []


def test_a_second_door_of_cuda_would_be_found(tmp_path: Path) -> None:
    for name, line in {
        "harness/measure.py": "from runtime.cuda import CudaDriver",
        "harness/fakes/device.py": "from runtime.cuda import STICKY",
        "runtime/cuda.py": "def load():\n    from cuda.bindings import driver",
        "runtime/strategies/trt.py": "def load():\n    import cuda.bindings.runtime",
        "tiers/contract.py": "from importlib import import_module\nimport_module('cuda.bindings.driver')",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(line, encoding="utf-8")
    assert cuda_users(tmp_path) == [
        "harness/measure.py imports runtime.cuda",
        "runtime/strategies/trt.py imports cuda.bindings.runtime",
        "tiers/contract.py imports cuda.bindings.driver",
    ]


@pytest.mark.covers("RT-11")
def test_the_core_imports_no_heavy_library_at_the_top_of_any_file() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files("runtime")
        for module, at_top in imports(path)
        if at_top and module.partition(".")[0] in HEAVY
    ]
    assert not wrong


@pytest.mark.covers("RT-11")
def test_each_heavy_library_has_one_door_in_the_core() -> None:
    doors: dict[str, set[str]] = {}
    for path in files("runtime"):
        for module, _ in imports(path):
            library = module.partition(".")[0]
            if library in HEAVY:
                doors.setdefault(library, set()).add(path.name)
    assert doors.pop("onnx") == OF_A_BUILD
    for where in doors.values():
        where.difference_update(OF_A_BUILD)
    assert {library: len(where) for library, where in doors.items()} == dict.fromkeys(doors, 1), doors
    assert doors.get("torch") == {"torch_fp16.py"}
    assert doors.get("onnxruntime") == {"ort.py"}
    assert doors.get("polygraphy") == {"trt_child.py"}
    assert doors.get("cuda") == {"cuda.py"}


@pytest.mark.covers("RT-11")
def test_what_rewrites_a_model_is_reached_by_the_process_that_builds_alone() -> None:
    sources = {path.name: path.read_text(encoding="utf-8") for path in files("runtime")}
    modules = [name.removesuffix(".py") for name in OF_A_BUILD]
    assert {name for name, source in sources.items() if any(module in source for module in modules)} == {
        "trt_precision.py"
    }
