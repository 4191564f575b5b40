from pathlib import Path
from typing import Any

import pytest

from harness.config import _NAME, Configuration, LoadLimits, name_of_file, parse_configuration, parse_requirement
from harness.errors import UsageError

GOOD = """
require = ["pytorch_fp16"]
[board.orin-nx]
module = "p3767-0000"
power_mode = "MAXN_SUPER"
require = ["tensorrt", "onnx_trt_ep[tensorrt]"]
memory = { gpu = "4 GiB", host = "1.5 GiB" }
load = { build_s = 240, first_session_s = 90 }
[model.matcher]
onnx = "matcher.onnx"
torch = { checkpoint = "matcher.pt", architecture = "matcher" }
inputs = "my_cases:frames"
precision = ["fp16", "int8"]
calibration = "my_cases:calibration"
dims = { batch = 1, n = [256, 1024, 2048] }
measure_at = [{ n = 512 }, { n = 2048 }]
tolerance = { default = "derived", scores = { rel_l2 = 2e-3, why = "ADR 7" }, debug = "ignore" }
task = { metric = "my_cases:recall", direction = "higher", may_lose = 0.005 }
load = { rate_hz = 39, deadline_ms = 25, late = "drop" }
budget.orin-nx = { p95_ms = 60, load_s = 5, energy_mj = 400 }
"""


def parsed(text: str, tmp_path: Path) -> Configuration:
    return parse_configuration(text.encode(), tmp_path / "my.toml")


def test_the_example_of_the_architecture_is_read_whole(tmp_path: Path) -> None:
    configuration = parsed(GOOD, tmp_path)
    model, board = configuration.models["matcher"], configuration.boards["orin-nx"]
    assert model.onnx == tmp_path / "matcher.onnx"
    assert model.dims == {"batch": (1, 1, 1), "n": (256, 1024, 2048)}
    assert model.tolerance["scores"].rel_l2 == 2e-3
    assert model.tolerance["debug"].source == "ignore"
    assert model.task is not None
    assert model.task.may_lose == 0.005
    assert model.load is not None
    assert model.load.late == "drop"
    assert model.budget["orin-nx"].p95_ms == 60
    assert (board.gpu_memory_bytes, board.host_memory_bytes) == (4 * 2**30, 3 * 2**29)
    assert board.load == LoadLimits(session_s=5.0, first_session_s=90.0, build_s=240.0, rebuild_int8_s=30.0)
    assert configuration.require == ("pytorch_fp16",)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('onnx = "matcher.onnx"', 'onx = "matcher.onnx"', "Did you mean 'onnx'?"),
        ("[board.orin-nx]", "[boards.orin-nx]", "Did you mean 'board'?"),
        ('precision = ["fp16", "int8"]', 'precision = ["fp8"]', "expected among fp32, fp16, int8, mixed"),
        ("n = [256, 1024, 2048]", "n = [2048, 1024]", "expected a size, or [min, opt, max]"),
        ("rel_l2 = 2e-3, why = ", "rel_l2 = 2e-3, wy = ", "Did you mean 'why'?"),
        ('why = "ADR 7"', 'why = ""', "needs rel_l2 and why"),
        ("rate_hz = 39", "rate_hz = -1", "expected a number above 0"),
        ("p95_ms = 60", "p95_ms = 0", "expected a number above 0"),
        ("p95_ms = 60", "p95_ms = nan", "expected a number above 0"),
        ("p95_ms = 60", "p95_ms = inf", "expected a finite number above 0"),
        ("p95_ms = 60", "p95_ms = 1e-9", "expected milliseconds, up to an hour's"),
        ("p95_ms = 60", "p95_ms = 60, target_p95_ms = 61", "target_p95_ms is 61, over p95_ms, 60"),
        ("rate_hz = 39", "rate_hz = inf", "expected a finite number above 0"),
        ("rate_hz = 39", "rate_hz = 39, burst = 0", "burst is 0; expected a whole number of calls"),
        ("rate_hz = 39", "rate_hz = 39, burst = 100000", "expected at most 100000 calls a second"),
        ("deadline_ms = 25", "deadline_ms = 0", "deadline_ms is 0; expected a number above 0"),
        ("build_s = 240", "build_s = 0", "build_s is 0; expected a number above 0"),
        ("build_s = 240", "builds_s = 240", "Did you mean 'build_s'?"),
        ('late = "drop"', 'late = "maybe"', "expected one of queue, drop"),
        ('gpu = "4 GiB"', 'gpu = "0 GiB"', "expected a size such as '4 GiB'"),
        ("budget.orin-nx", "budget.orin", "Did you mean 'orin-nx'?"),
        ('gpu = "4 GiB"', 'gpu = "4 Gb"', "expected a size such as '4 GiB'"),
        ('require = ["tensorrt"', 'require = ["tensorr"', "Did you mean 'tensorrt'?"),
        ("[tensorrt]", "[gpu]", "expected tensorrt, cuda or cpu"),
        ('metric = "my_cases:recall"', 'metric = "my_cases.recall"', "expected module:function"),
        ('direction = "higher"', 'direction = "up"', "expected one of higher, lower"),
        ("[model.matcher]", '[model."a/b"]', "it names files"),
        ("require = [", "require = ", "is not TOML"),
        ('module = "p3767-0000"', "module = 3767", "expected text"),
    ],
)
def test_a_wrong_configuration_is_refused_with_the_key_and_a_hint(
    tmp_path: Path, old: Any, new: Any, says: Any
) -> None:
    assert old in GOOD
    with pytest.raises(UsageError) as refused:
        parsed(GOOD.replace(old, new, 1), tmp_path)
    assert says in str(refused.value)
    assert "my.toml" in str(refused.value)


def test_a_model_without_any_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names no model"):
        parsed("[model.a]\n", tmp_path)


def test_a_requirement_may_name_a_placement_and_a_third_partys_class() -> None:
    assert parse_requirement("onnx_trt_ep[tensorrt]") == "onnx_trt_ep[tensorrt]"
    assert parse_requirement("package.module:Class") == "package.module:Class"
    with pytest.raises(UsageError, match="no requirement"):
        parse_requirement("tensorrt]")


def test_a_file_gives_its_model_a_name_that_a_configuration_may_have() -> None:
    names = {
        stem: name_of_file(Path(f"folder/{stem}.onnx"))
        for stem in ("m", "a-b c", "_.x", "...", "松鼠", "老鼠", "松鼠<b>x", "é")
    }
    assert all(_NAME.fullmatch(name) for name in names.values())
    assert [names[stem] for stem in ("m", "a-b c", "_.x")] == ["m", "a_b_c", "x"]
    assert names["松鼠<b>x"].startswith("b_x_")
    assert len({names[stem] for stem in ("松鼠", "老鼠", "é")}) == 3
