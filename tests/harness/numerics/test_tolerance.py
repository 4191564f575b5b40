"""The experiment of methods B3 on a toy vision transformer: legal variants pass, planted bugs do not."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch: not installed")

from torch import nn  # noqa: E402 (after importorskip)
from torch.nn import functional  # noqa: E402

from harness.numerics.parity import check_parity, compare, digest_set  # noqa: E402
from harness.numerics.reference import TorchReference  # noqa: E402
from harness.numerics.tolerance import ROUNDOFF, StoredTolerances, derive, load, save  # noqa: E402
from harness.records import Outcome, RecordError, Tolerance  # noqa: E402
from runtime.protocol import Array  # noqa: E402

WIDTH, HEADS, DEPTH = 64, 4, 3


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mix, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.scale = 1.0 / math.sqrt(WIDTH // HEADS)
        self.gelu = "none"
        self.fused = False

    def forward(self, x: Any) -> Any:
        batch, tokens, _ = x.shape
        q, k, v = self.mix(self.first(x)).view(batch, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v, scale=self.scale)
        else:
            mixed = torch.softmax((q * self.scale) @ k.transpose(-2, -1), -1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, WIDTH))
        return x + self.down(functional.gelu(self.up(self.second(x)), approximate=self.gelu))


class Toy(nn.Module):
    """``image`` (1, 3, 32, 32) to ``features`` (1, 64, WIDTH), ``best`` (1, 64) int64, and unit ``descriptor`` (1, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 4, stride=4)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.head = nn.Linear(WIDTH, 16)

    def forward(self, image: Any) -> Any:
        x = self.stem(image).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return x, x.argmax(-1), functional.normalize(self.head(x.mean(1)), dim=-1)


OUTPUTS = ("features", "best", "descriptor")


def toy() -> Toy:
    torch.manual_seed(7)
    model = Toy().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.0, 0.1)
            elif parameter.dim() > 1:
                parameter.mul_(1.7)
    return model


def images(count: int, seed: int) -> list[dict[str, Array]]:
    """Smooth, as images are, with a white frame or two: not white noise (methods B3)."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        coarse = torch.from_numpy(generator.standard_normal((1, 3, 8, 8)).astype(np.float32))
        image = functional.interpolate(coarse, size=(32, 32), mode="bilinear")
        found.append({"image": image.numpy() * np.float32(generator.uniform(0.3, 1.5))})
    return found


CALIBRATION, HELD_OUT = images(6, 1), images(8, 2)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> Toy:
    return toy()


@pytest.fixture(scope="module")
def reference(model: Toy) -> TorchReference:
    return TorchReference(model, ["image"], OUTPUTS)


@pytest.fixture(scope="module")
def truth(reference: TorchReference) -> list[dict[str, Array]]:
    return [reference.exact(feed) for feed in HELD_OUT]


@pytest.fixture(scope="module")
def fp32(reference: TorchReference) -> dict[str, Tolerance]:
    return derive(reference, CALIBRATION, lane="fp32")


@pytest.fixture(scope="module")
def fp16(reference: TorchReference) -> dict[str, Tolerance]:
    return derive(reference, CALIBRATION, lane="fp16")


def run(model: Toy, dtype: Any = torch.float32) -> list[dict[str, Array]]:
    with torch.no_grad():
        found = [model(torch.from_numpy(feed["image"]).to(dtype)) for feed in HELD_OUT]
    return [dict(zip(OUTPUTS, (tensor.numpy() for tensor in outputs), strict=True)) for outputs in found]


def outcomes(
    truth: Sequence[Mapping[str, Array]], got: Sequence[Mapping[str, Array]], tolerances: Mapping[str, Tolerance]
) -> list[Outcome]:
    return [check.outcome for check in check_parity(compare(truth, got, tolerances))]


def transposed_weight(model: Any) -> None:
    model.blocks[1].out.weight.data = model.blocks[1].out.weight.data.T.contiguous()


def epsilon_times_hundred(model: Any) -> None:
    model.blocks[2].second.eps *= 100


def attention_scale_off_by_five_percent(model: Any) -> None:
    model.blocks[1].scale *= 1.05


def channel_swap(model: Any) -> None:
    model.stem.weight.data = model.stem.weight.data[:, [1, 0, 2]].contiguous()


def missing_bias(model: Any) -> None:
    model.blocks[0].down.bias.data.zero_()


def other_gelu(model: Any) -> None:
    model.blocks[1].gelu = "tanh"


BUGS = [
    transposed_weight,
    epsilon_times_hundred,
    attention_scale_off_by_five_percent,
    channel_swap,
    missing_bias,
    other_gelu,
]


@pytest.mark.covers("T1-01")
@pytest.mark.parametrize("plant", BUGS)
def test_the_fp32_lane_finds_each_planted_bug(
    plant: Callable[[Any], None], model: Toy, truth: list[dict[str, Array]], fp32: dict[str, Tolerance]
) -> None:
    broken = copy.deepcopy(model)
    plant(broken)
    figures = compare(truth, run(broken), fp32)
    checks = {check.name: check.outcome for check in check_parity(figures)}
    assert checks["parity features"] is Outcome.FAIL
    assert checks["parity descriptor"] is Outcome.FAIL
    tolerance = fp32["features"].rel_l2_max
    assert tolerance is not None
    assert figures[0].rel_l2_max is not None
    assert figures[0].rel_l2_max > 5 * tolerance  # far over it, not by luck


def fused(model: Any) -> None:
    for block in model.blocks:
        block.fused = True


def permuted_summation(model: Any) -> None:
    """The hidden units of each MLP in another order: the same function, summed in another order."""
    for block in model.blocks:
        order = torch.randperm(2 * WIDTH, generator=torch.Generator().manual_seed(3))
        block.up.weight.data, block.up.bias.data = block.up.weight.data[order], block.up.bias.data[order]
        block.down.weight.data = block.down.weight.data[:, order].contiguous()


def other_memory_format(model: Any) -> None:
    model.stem.to(memory_format=torch.channels_last)


def as_it_is(model: Any) -> None:
    del model


LEGAL = [as_it_is, fused, permuted_summation, other_memory_format]


@pytest.mark.covers("T1-01")
@pytest.mark.parametrize("vary", LEGAL)
@pytest.mark.parametrize("lane", ["fp32", "fp16"])
def test_no_legal_variant_is_refused(
    vary: Callable[[Any], None],
    lane: str,
    model: Toy,
    truth: list[dict[str, Array]],
    fp32: dict[str, Tolerance],
    fp16: dict[str, Tolerance],
) -> None:
    variant = copy.deepcopy(model)
    vary(variant)
    got = run(variant) if lane == "fp32" else run(variant.half(), torch.float16)
    judged = zip(OUTPUTS, outcomes(truth, got, fp32 if lane == "fp32" else fp16), strict=True)
    refused = [name for name, outcome in judged if outcome is Outcome.FAIL]
    assert refused == []


@pytest.mark.covers("T1-01")
def test_another_number_of_threads_is_never_refused(
    model: Toy, truth: list[dict[str, Array]], fp32: dict[str, Tolerance]
) -> None:
    torch.set_num_threads(2)
    try:
        assert outcomes(truth, run(model), fp32) == [Outcome.PASS] * 3
    finally:
        torch.set_num_threads(1)


@pytest.mark.covers("T1-01")
def test_the_fp16_lane_finds_what_rounding_cannot_explain(
    model: Toy, truth: list[dict[str, Array]], fp16: dict[str, Tolerance]
) -> None:
    for plant in (transposed_weight, attention_scale_off_by_five_percent, channel_swap, missing_bias):
        broken = copy.deepcopy(model)
        plant(broken)
        assert outcomes(truth, run(broken.half(), torch.float16), fp16)[0] is Outcome.FAIL, plant.__name__


def test_the_two_lanes_are_as_far_apart_as_their_roundoffs(
    fp32: dict[str, Tolerance], fp16: dict[str, Tolerance]
) -> None:
    for name in ("features", "descriptor"):
        sharp, blunt = fp32[name].rel_l2_max, fp16[name].rel_l2_max
        assert sharp is not None
        assert blunt is not None
        assert 1000 < blunt / sharp < 2.0**14
        assert fp32[name].amplification == fp16[name].amplification
        assert "48 rounding runs" in fp16[name].why


def test_exact_results_that_are_at_hand_change_nothing(reference: TorchReference, fp32: dict[str, Tolerance]) -> None:
    exact = [reference.exact(feed) for feed in CALIBRATION]
    assert derive(reference, CALIBRATION, lane="fp32", exact=exact) == fp32


class Scripted:
    """A reference whose three forms are given: ``noise(u, seed)`` is added to the exact output."""

    name = "scripted"
    output_names = ("y",)

    def __init__(self, y: Array, single: float, noise: Callable[[float, int], Any], peak: float = 1.0) -> None:
        self.y, self.e32, self.noise, self.top = y, single, noise, peak

    def exact(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": self.y}

    def single(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": self.y * (1 + self.e32) if self.e32 else self.y}

    def noisy(self, feed: Mapping[str, Array], *, u: float, seed: int) -> dict[str, Array]:
        return {"y": self.y + self.noise(u, seed)}

    def peak(self, feed: Mapping[str, Array]) -> tuple[float, str]:
        return self.top, "aten.mul"


ONES = np.ones(100)


def test_the_recipe_is_twice_p99_and_one_and_a_half_times_the_median() -> None:
    errors = iter(np.linspace(0.001, 0.05, 50))
    found = derive(Scripted(ONES, 0.01 * 2.0**-13, lambda u, seed: next(errors)), [{}] * 5, lane="fp16", runs=10)["y"]
    assert found.rel_l2_max == pytest.approx(2 * 0.05)
    assert found.rel_l2_median == pytest.approx(1.5 * (0.001 + 0.05) / 2)
    assert found.amplification == pytest.approx(0.01 * 2.0**11)
    assert found.source == "derived"


@pytest.mark.parametrize(("kappa", "look"), [(8.0, False), (30.0, False), (1.5, True), (200.0, True)])
def test_noise_that_does_not_fit_the_amplification_asks_for_a_human(kappa: float, look: bool) -> None:
    found = derive(Scripted(ONES, kappa * 2.0**-24, lambda u, seed: 8 * u), [{}], lane="fp16")["y"]
    assert ("a human should look" in found.why) == look


def test_an_output_that_noise_leaves_alone_may_differ_by_a_few_ulp() -> None:
    for lane, u in ROUNDOFF.items():
        found = derive(Scripted(ONES, 0.0, lambda u, seed: 0.0), [{}], lane=lane)["y"]
        assert (found.rel_l2_max, found.rel_l2_median) == (4 * u, 2 * u)
        assert "human" not in found.why


def test_the_fp32_lane_allows_what_the_true_fp32_run_needs() -> None:
    found = derive(Scripted(ONES, 40 * 2.0**-24, lambda u, seed: u), [{}], lane="fp32")["y"]
    assert found.rel_l2_max == pytest.approx(160 * 2.0**-24)
    assert found.rel_l2_median == pytest.approx(120 * 2.0**-24)


@pytest.mark.parametrize(
    ("single", "noise"), [(0.11 * 2.0**-13, 1e-4), (1e-7, 0.2), (1e-7, np.nan), (1e-7, np.inf), (1e-7, np.ones((3, 1)))]
)
def test_an_unstable_reference_judges_nothing(single: float, noise: Any) -> None:
    found = derive(Scripted(ONES, single, lambda u, seed: noise), [{}], lane="fp16")["y"]
    assert (found.rel_l2_max, found.rel_l2_median) == (None, None)
    assert "reference unstable" in found.why
    (check,) = check_parity(compare([{"y": ONES}], [{"y": ONES}], {"y": found}))
    assert check.outcome is Outcome.INCONCLUSIVE


def test_integers_are_exact_unless_noise_flips_them() -> None:
    whole = np.arange(100)
    stable = derive(Scripted(whole, 0.0, lambda u, seed: 0), [{}], lane="fp16")["y"]
    assert (stable.rel_l2_max, stable.rel_l2_median, stable.amplification) == (0.0, 0.0, None)
    flipped = derive(Scripted(whole, 0.0, lambda u, seed: (whole == seed % 7).astype(int)), [{}], lane="fp16")["y"]
    assert flipped.rel_l2_max == pytest.approx(0.02)
    wild = derive(Scripted(whole, 0.0, lambda u, seed: (whole < 20).astype(int)), [{}], lane="fp16")["y"]
    assert (wild.rel_l2_max, "unstable" in wild.why) == (None, True)


@pytest.mark.parametrize(("peak", "words"), [(1e4, ""), (2e4, "overflow risk"), (7e4, "does not fit fp16")])
def test_values_near_the_end_of_fp16_are_said(peak: float, words: str) -> None:
    why = derive(Scripted(ONES, 2.0**-24, lambda u, seed: u, peak), [{}], lane="fp16")["y"].why
    assert words in why
    assert ("aten.mul" in why) == bool(words)
    assert "aten.mul" not in derive(Scripted(ONES, 2.0**-24, lambda u, seed: u, peak), [{}], lane="fp32")["y"].why


def test_tolerances_are_kept_with_the_digest_of_their_inputs(tmp_path: Path, fp16: dict[str, Tolerance]) -> None:
    path = tmp_path / "tolerances.json"
    stored = StoredTolerances("fp16", digest_set(CALIBRATION), tuple(fp16.values()))
    save(path, stored)
    assert load(path, inputs_sha256=digest_set(CALIBRATION)) == stored
    assert load(path).by_output() == fp16
    with pytest.raises(RecordError, match="derive the tolerances again"):
        load(path, inputs_sha256=digest_set(HELD_OUT))
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(RecordError, match="has schema 2"):
        load(path)
    path.write_text("{")
    with pytest.raises(RecordError, match="not JSON"):
        load(path)


def test_an_unknown_lane_and_no_feeds_are_errors(reference: TorchReference) -> None:
    with pytest.raises(ValueError, match="expected one of fp32, fp16"):
        derive(reference, CALIBRATION, lane="int8")
    with pytest.raises(ValueError, match="at least one of each"):
        derive(reference, [], lane="fp32")
