"""Builder options, read back from the configuration that TensorRT builds by."""

from __future__ import annotations

import pytest

from runtime.strategies.trt_options import builder_words, in_words, read_back

pytestmark = pytest.mark.covers("RE-02")

rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx: not installed")


def test_what_a_real_builder_does_unless_it_is_told_is_read_back() -> None:
    config = rtx.Builder(rtx.Logger(rtx.Logger.ERROR)).create_builder_config()
    config.builder_optimization_level = 1
    config.set_flag(rtx.BuilderFlag.REFIT)
    told = read_back(rtx, config)
    assert told["config.builder_optimization_level"] == "1"
    assert told["config.engine_capability"] == "STANDARD"
    assert set(told["config.flags"].split()) >= {"REFIT", "TF32"}
    assert told["config.tactic_sources"] == "EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS"
    assert builder_words({**told, "tool": "polygraphy"}) == in_words(
        {name.removeprefix("config."): value for name, value in told.items()}
    )


def test_a_manifest_without_options_says_nothing() -> None:
    assert not builder_words({"tool": "trtexec", "workspace_mb": "37"})
