"""A child makes the same bench of its job as its parent has."""

import json
import sys
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.measure import Bench
from harness.records import from_json, to_json
from harness.tier2.child_job import ChildJob, bench_of, import_plugin, job_of
from runtime.architectures import ArchitectureRegistry
from runtime.config import RuntimeConfig
from runtime.errors import RuntimeNotAvailableError
from tests.harness.children import Quick, write_pack

HOOKS = """
def register(registry):
    registry.register("hooked", make)

def make():
    return None
"""


def test_a_job_survives_its_way_through_json_and_makes_the_same_bench(tmp_path: Path) -> None:
    (tmp_path / "hooks_of_the_job.py").write_text(HOOKS)
    packs = {"a": write_pack(tmp_path / "a", "a")}
    config = RuntimeConfig(engine_cache_dir=tmp_path / "engines", device="cpu", intra_op_threads=3)
    bench = Bench(packs, config, lambda runtime, config: Quick(config), threads={"intra_op": 3}, seed=7)
    job = job_of(
        bench, hooks=["hooks_of_the_job:register"], architectures=["named=hooks_of_the_job:make"], folders=[tmp_path]
    )
    registry = ArchitectureRegistry()
    path = list(sys.path)
    try:
        made = bench_of(from_json(ChildJob, json.loads(json.dumps(to_json(job)))), {}, registry)
    finally:
        sys.path[:] = path
    assert (made.packs, made.config, made.threads, made.seed) == (packs, config, {"intra_op": 3}, 7)
    assert list(registry) == ["hooked", "named"]
    assert isinstance(made.make("tests.harness.children:Quick"), Quick)
    with pytest.raises(UsageError, match=r"makes a str; expected a runtime\.InferenceRuntime"):
        made.make("builtins:str")
    with pytest.raises(UsageError, match="builtins:dict broke: TypeError"):
        made.make("builtins:dict")


def test_an_unavailable_runtime_and_an_unknown_field_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the job's config has \['speed'\]"):
        bench_of(ChildJob({}, {"speed": 1}), {}, ArchitectureRegistry())
    off = bench_of(ChildJob({}), {"BUILD_PYTORCH_FP16_RUNTIME": "OFF"}, ArchitectureRegistry())
    with pytest.raises(RuntimeNotAvailableError):
        off.make("pytorch_fp16")


def test_a_plugin_is_imported_once_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin_of_a_test.py"
    plugin.write_text("import sys\nsys.modules[__name__].count = getattr(sys.modules[__name__], 'count', 0) + 1\n")
    import_plugin(plugin)
    import_plugin(plugin)
    assert sys.modules.pop("plugin_of_a_test").__dict__["count"] == 1
    plugin.write_text("raise SystemExit(0)\n")
    with pytest.raises(UsageError, match="cannot be imported: SystemExit"):
        import_plugin(plugin)
    with pytest.raises(UsageError, match="does not exist"):
        import_plugin(tmp_path / "none.py")
