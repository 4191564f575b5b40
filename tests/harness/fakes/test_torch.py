from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch: not installed")

import torch

from harness.fakes.device import SimulatedDevice
from harness.fakes.faults import Fault
from harness.fakes.torch import ERRORS, make_torch, recorded

GPU = torch.device("cuda:0")


def linear() -> Any:
    return torch.nn.Linear(4, 2)


def test_a_model_computes_on_the_cpu_and_is_allocated_on_the_gpu_for_as_long_as_it_lives() -> None:
    device = SimulatedDevice()
    library = make_torch(device)()
    module = recorded(device, linear)().eval().half().to(GPU)
    assert device.live_bytes == (4 * 2 + 2) * 2
    given = library.tensor(np.ones((3, 4), np.float32), dtype=torch.float16, device=GPU)
    with torch.inference_mode():
        produced = module(given)
    assert device.live_bytes == 20 + 24 + 12
    array = np.empty((3, 2), np.float32)
    library.from_numpy(array).copy_(produced)
    np.testing.assert_array_equal(array, produced.float().numpy())
    del module, given, produced
    gc.collect()
    assert device.leaks() == []
    assert [call.api.removeprefix("torch.") for call in device.calls] == [
        "nn.Module()",
        "nn.Module.eval",
        "nn.Module.half",
        "nn.Module.to",
        "tensor",
        "nn.Module.forward",
        "Tensor.copy_",
    ]


def test_what_is_made_on_the_cpu_takes_nothing_of_the_gpu_and_the_rest_is_torch() -> None:
    device = SimulatedDevice()
    library = make_torch(device)()
    library.tensor(np.ones(3), device=torch.device("cpu"))
    assert device.live_bytes == 0
    assert library.cuda.is_available()
    assert library.nn is torch.nn
    assert library.OutOfMemoryError is torch.OutOfMemoryError
    assert not torch.cuda.is_available() or torch.cuda is not library.cuda


def test_a_gpu_that_is_full_says_so() -> None:
    library = make_torch(SimulatedDevice(memory_bytes=100))()
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate 400 B"):
        library.tensor(np.ones(100, np.float32), device=GPU)


@pytest.mark.covers("T0-05", "PT-06")
@pytest.mark.parametrize("error", ERRORS)
def test_a_planned_error_is_of_torchs_own_class_with_its_words(error: str) -> None:
    device = SimulatedDevice()
    device.faults.add(Fault("torch.tensor", error))
    library = make_torch(device)()
    kind, words = ERRORS[error]
    with pytest.raises(Exception) as caught:  # noqa: PT011
        library.tensor(np.ones(3), device=GPU)
    assert type(caught.value).__name__ in {kind, "RuntimeError"}
    assert str(caught.value) == words
    library.tensor(np.ones(3), device=GPU)


@pytest.mark.covers("T0-05")
def test_after_a_sticky_error_the_gpu_answers_with_nothing_else() -> None:
    device = SimulatedDevice()
    device.faults.add(Fault("torch.cuda.empty_cache", "CUDA_ERROR_ILLEGAL_ADDRESS"))
    library = make_torch(device)()
    for call in (library.cuda.empty_cache, lambda: library.tensor(np.ones(3), device=GPU), library.cuda.empty_cache):
        with pytest.raises(
            RuntimeError, match="CUDA error: an illegal memory access was encountered\nCUDA kernel errors"
        ):
            call()
    library.tensor(np.ones(3), device=torch.device("cpu"))


def test_timing_events_read_the_virtual_clock_and_refuse_what_torch_refuses() -> None:
    device = SimulatedDevice()
    library = make_torch(device)()
    first, second = (library.cuda.Event(enable_timing=True) for _ in range(2))
    with pytest.raises(ValueError, match="recorded"):
        first.elapsed_time(second)
    first.record()
    device.clock.advance(2_500_000)
    second.record()
    second.synchronize()
    assert first.elapsed_time(second) == 2.5
    untimed = library.cuda.Event()
    untimed.record()
    with pytest.raises(ValueError, match="enable_timing"):
        first.elapsed_time(untimed)
