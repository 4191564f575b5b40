"""The limits that a run was judged by, kept beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.config import BoardConfig, Budget, Configuration, LoadLimits, LoadRule, ModelConfig
from harness.errors import UsageError
from harness.limits import LIMITS_FILE, Limits, limits_of, limits_text, read_limits

BOARD = BoardConfig(
    "orin", module="p3767", require=("tensorrt",), gpu_memory_bytes=4 << 30, load=LoadLimits(session_s=3.0)
)
MODEL = ModelConfig(
    "m", onnx=Path("m.onnx"), load=LoadRule(39.0, 20.0, "drop", 2), budget={"orin": Budget(15.0, 12.0, energy_mj=40.0)}
)
CONFIGURATION = Configuration("c.toml", Path(), "c0" * 32, boards={"orin": BOARD}, models={"m": MODEL, "other": MODEL})


@pytest.mark.covers("RE-03")
def test_limits_come_back_as_they_were_and_make_a_configuration_to_judge_by(tmp_path: Path) -> None:
    limits = limits_of(CONFIGURATION, {"m": MODEL}, "orin", ["tensorrt"])
    (tmp_path / LIMITS_FILE).write_bytes(limits_text(limits))
    assert read_limits(tmp_path) == limits
    again = limits.configuration(tmp_path)
    assert (again.sha256, again.boards, again.require) == ("c0" * 32, {"orin": BOARD}, ("tensorrt",))
    assert again.models == {"m": ModelConfig("m", load=MODEL.load, budget=MODEL.budget)}


def test_a_run_of_an_older_trigate_has_none(tmp_path: Path) -> None:
    assert read_limits(tmp_path) is None


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"configuration_sha256": 3}', b"\xff", b"[" * 100_000])
def test_damaged_ones_are_refused_by_name(data: bytes, tmp_path: Path) -> None:
    (tmp_path / LIMITS_FILE).write_bytes(data)
    with pytest.raises(UsageError, match=r"limits\.json is damaged"):
        read_limits(tmp_path)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(limits_text(replace(Limits("c0"), board="orin")))
    (tmp_path / LIMITS_FILE).symlink_to(tmp_path / "real")
    with pytest.raises(UsageError, match="it is a symbolic link"):
        read_limits(tmp_path)
