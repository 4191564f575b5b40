"""Layers of two engines: matched by the operators that they were made of, and counted where no name survives."""

from __future__ import annotations

import pytest

from harness.compare import compare_runs
from harness.compare.layers import compare_layers, in_words
from harness.compare.load import Loaded
from harness.layers import Layers
from harness.records.comparison import Cause, LayerChange, Standing
from runtime.data import EngineLayer
from tests.harness.compared_runs import base_runs, new_runs

pytestmark = pytest.mark.covers("RE-02")

LATENCY = "disk-tensorrt-fp16-b1-latency"


def engine(*layers: tuple[str, str, str], provider: str = "") -> Layers:
    return Layers("inspector", "e0" * 32, tuple(EngineLayer(*layer, provider=provider) for layer in layers))


OLD = engine(
    ("/a/conv + /a/relu", "Convolution", "fp16"),
    ("PWN(/b/mul)", "PointWise", "fp16"),
    ("reformat", "Reformat", ""),
)


def test_a_layer_that_is_fused_otherwise_now_is_matched_by_its_operators() -> None:
    now = engine(("/a/conv", "Convolution", "fp32"), ("/a/relu", "Activation", "fp32"), ("/b/mul", "PointWise", "fp16"))
    found = compare_layers([OLD], [now])
    assert found is not None
    assert (found.base, found.new) == ({"fp16": 2}, {"fp32": 2, "fp16": 1})
    assert found.changed == (LayerChange("/a/conv + /a/relu", "fp16", "fp32"),)
    assert (found.matched, found.base_only, found.new_only) == (3, 1, 0)
    assert in_words(found.changed, found.changed_count, 2, "precision") == (
        "1 of 2 layers changed precision: /a/conv + /a/relu fp16 → fp32"
    )


def test_what_no_name_matches_is_counted_by_type_and_precision() -> None:
    found = compare_layers([OLD], [engine(("{ForeignNode[/a/conv.../b/mul]}", "Myelin", "fp16"))])
    assert found is not None
    assert (found.changed_count, found.matched, found.base_only, found.new_only) == (0, 0, 3, 1)
    assert found.unmatched == (
        "Convolution in fp16: 1, now 0",
        "Myelin in fp16: 0, now 1",
        "PointWise in fp16: 1, now 0",
        "Reformat in no precision of its own: 1, now 0",
    )


def test_a_precision_that_some_build_of_the_base_gave_as_well_is_no_change() -> None:
    half, whole = engine(("/a/conv", "Convolution", "fp16")), engine(("/a/conv", "Convolution", "fp32"))
    alone, both = compare_layers([half], [whole]), compare_layers([half, whole], [whole])
    assert alone is not None
    assert both is not None
    assert (alone.changed_count, both.changed_count) == (1, 0)


def test_what_does_not_tell_its_precision_has_not_changed_it() -> None:
    found = compare_layers([OLD], [engine(("/a/conv", "Convolution", "mixed"), ("/b/mul", "PointWise", ""))])
    assert found is not None
    assert found.changed_count == 0


def test_a_layer_that_runs_elsewhere_now_is_named() -> None:
    old, now = (engine(("/a/conv", "Conv", "fp32"), provider=provider) for provider in ("tensorrt", "cpu"))
    found = compare_layers([old], [now])
    assert found is not None
    assert found.moved == (LayerChange("/a/conv", "tensorrt", "cpu"),)


@pytest.mark.parametrize(("base", "new"), [([], [OLD]), ([Layers()], [OLD]), ([OLD], [Layers(), Layers()])])
def test_layers_of_one_side_alone_are_not_compared(base: list[Layers], new: list[Layers]) -> None:
    assert compare_layers(base, new) is None


def test_thousands_of_layers_that_changed_are_counted_and_a_hundred_are_named() -> None:
    old, now = (
        engine(*((f"/{at}/conv", "Convolution", precision) for at in range(3000))) for precision in ("fp16", "fp32")
    )
    found = compare_layers([old], [now])
    assert found is not None
    assert (len(found.changed), found.changed_count) == (100, 3000)


def with_layers(runs: list[Loaded], layers: Layers) -> list[Loaded]:
    return [Loaded(one.name, one.run, one.launches, layers={LATENCY: layers}) for one in runs]


def test_layers_that_lost_their_precision_are_the_cause_of_more_time() -> None:
    now = engine(("/a/conv + /a/relu", "Convolution", "fp32"), ("/b/mul", "PointWise", "fp16"))
    found = compare_runs(with_layers(base_runs(), OLD), with_layers(new_runs(ms=12.0), now))
    row = next(row for row in found.rows if row.id == LATENCY)
    told = {change.name: change for change in row.changes}
    assert row.layers is not None
    assert row.layers.changed_count == 1
    assert told["layers"].standing is Standing.CHANGED
    assert (told["p95"].standing, told["p95"].cause) == (Standing.WORSE, Cause.PRECISION)
    assert "/a/conv + /a/relu fp16 → fp32" in told["p95"].why
    assert found.foremost[0].why == told["p95"].why


def test_where_no_name_survives_it_says_that_it_does_not_know_which_changed() -> None:
    now = engine(("__myl_fused_0", "Myelin", "fp16"), ("__myl_fused_1", "Myelin", "fp16"))
    found = compare_runs(with_layers(base_runs(), OLD), with_layers(new_runs(), now))
    (told,) = (change for row in found.rows for change in row.changes if change.name == "layers")
    assert told.standing is Standing.UNKNOWN
    assert told.words.startswith("which layers changed is not known")


def test_layers_of_the_same_precision_are_the_same_and_told_once() -> None:
    found = compare_runs(with_layers(base_runs(), OLD), with_layers(new_runs(), OLD))
    told = [(row.kind, change) for row in found.rows for change in row.changes if change.name == "layers"]
    assert [(kind, change.standing) for kind, change in told] == [("latency", Standing.SAME)]
