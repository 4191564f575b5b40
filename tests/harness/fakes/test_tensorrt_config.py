"""What a build of the fake TensorRT is told by: settings with the real defaults, profiles, timing caches."""

from __future__ import annotations

import warnings

import pytest

from tests.harness.fakes.kit import FLAVOURS, Kit, convolution

pytestmark = pytest.mark.covers("T0-02")


def test_a_profile_out_of_order_is_not_added() -> None:
    kit = Kit()
    builder = kit.trt.Builder(kit.logger)
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    assert profile.set_shape("x", (4, 3), (2, 3), (1, 3)) is None
    assert config.add_optimization_profile(profile) == -1
    assert ["isValid" in text or "addOptimizationProfile" in text for text in kit.errors()] == [True, True]
    assert config.num_optimization_profiles == 0
    with pytest.raises(ValueError, match="inconsistent"):
        profile.set_shape("x", (1, 3), (1, 3, 4), (1, 3))
    assert profile.get_shape("nothing") == []
    assert profile.get_shape("x") == [(4, 3), (2, 3), (1, 3)]


def test_a_timing_cache_saves_the_time_of_layers_that_it_knows() -> None:
    kit = Kit("10.3.0")

    def timed(blob: bytes) -> tuple[int, bytes]:
        builder, network, _ = kit.parse(convolution())
        config = kit.configure(builder)
        cache = config.create_timing_cache(blob)
        assert config.set_timing_cache(cache, False) is True
        before = kit.device.clock.now_ns()
        assert builder.build_serialized_network(network, config) is not None
        return kit.device.clock.now_ns() - before, bytes(config.get_timing_cache().serialize())

    first_ns, blob = timed(b"")
    second_ns, again = timed(blob)
    assert second_ns < first_ns / 10
    assert again == blob


def test_a_timing_cache_of_another_device_is_not_taken_unless_mismatches_are_ignored() -> None:
    orin, thor = Kit("10.16.1.11", "87"), Kit("10.16.1.11", "110")
    blob = bytes(orin.trt.Builder(orin.logger).create_builder_config().create_timing_cache(b"").serialize())
    config = thor.trt.Builder(thor.logger).create_builder_config()
    cache = config.create_timing_cache(blob)
    assert (config.set_timing_cache(cache, False), config.get_timing_cache()) == (False, None)
    assert config.set_timing_cache(cache, True) is True
    fresh = config.create_timing_cache(b"")
    assert (fresh.combine(cache, False), fresh.combine(cache, True), fresh.reset()) == (False, True, True)


@pytest.mark.parametrize("blob", [b"junk", b"simulated timing cache\n" + bytes(40)])
def test_a_damaged_timing_cache_is_an_empty_one_with_a_warning(blob: bytes) -> None:
    kit = Kit()
    config = kit.trt.Builder(kit.logger).create_builder_config()
    assert config.create_timing_cache(blob) is not None
    assert ("WARNING", "Failed to deserialize timing cache. Returning an empty timing cache.") in kit.lines


def test_a_timing_cache_of_tensorrt_rtx_warns_that_it_does_nothing() -> None:
    kit = Kit("rtx1.7.1.116")
    config = kit.trt.Builder(kit.logger).create_builder_config()
    with pytest.warns(DeprecationWarning, match="Timing cache operations are no-ops in TensorRT-RTX"):
        cache = config.create_timing_cache(b"")
    with pytest.warns(DeprecationWarning, match="no-ops"):
        config.set_timing_cache(cache, False)


@pytest.mark.parametrize("version", FLAVOURS)
def test_a_configuration_starts_with_the_real_defaults_and_keeps_what_it_is_told(version: str) -> None:
    kit = Kit(version)
    trt = kit.trt
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = trt.Builder(kit.logger).create_builder_config()
    assert config.flags == 1 << int(trt.BuilderFlag.TF32)
    assert (config.builder_optimization_level, config.max_aux_streams, config.num_optimization_profiles) == (3, -1, 0)
    assert config.profiling_verbosity == trt.ProfilingVerbosity.LAYER_NAMES_ONLY
    assert config.hardware_compatibility_level == trt.HardwareCompatibilityLevel.NONE
    assert (config.progress_monitor, config.get_timing_cache()) == (None, None)
    config.builder_optimization_level = 9
    config.clear_flag(trt.BuilderFlag.TF32)
    config.set_flag(trt.BuilderFlag.REFIT)
    config.set_preview_feature(next(iter(trt.PreviewFeature.__members__.values())), True)
    assert (config.builder_optimization_level, config.get_flag(trt.BuilderFlag.TF32)) == (5, False)
    assert config.get_flag(trt.BuilderFlag.REFIT)
    config.reset()
    assert config.flags == 1 << int(trt.BuilderFlag.TF32)
    with pytest.raises(TypeError):
        config.set_flag(3)
    with pytest.raises(TypeError):
        config.profiling_verbosity = 2
    with pytest.raises(AttributeError):
        config.verbosity = 2
