"""Host time of a call on the simulated device: ours, and a loop that allocates, copies and frees around every call.

The second is what Polygraphy's ``TrtRunner`` does at heart; it cannot be run on the simulated device itself, since it
calls the CUDA runtime. Both run the same plan, so that what the device costs is in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.cuda import CudaDriver
from runtime.protocol import Array
from tests.runtime.strategies.trt_bench import Bench, added, on_device, ramp

SHAPE = (1, 3, 60, 80)
FEED = {"a": ramp(*SHAPE), "b": ramp(*SHAPE) * 3}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with on_device(tmp_path) as made:
        yield made


def _pedantic(benchmark: Any, call: Callable[[], dict[str, Array]]) -> None:
    np.testing.assert_array_equal(call()["sum"], FEED["a"] + FEED["b"])
    benchmark.pedantic(call, rounds=400, iterations=5, warmup_rounds=20)


@pytest.mark.benchmark(group="tensorrt")
def test_trt_infer_ours(benchmark: Any, bench: Bench) -> None:
    runtime = bench.runtime()
    handle = runtime.deserialize_engine(bench.entry(added(SHAPE)))
    before = bench.device.allocations
    _pedantic(benchmark, lambda: runtime.infer(handle, FEED))
    assert bench.device.allocations == before
    runtime.release_engine(handle)


class Allocating:
    """The peer: nothing is kept from call to call but the context and its stream."""

    def __init__(self, bench: Bench) -> None:
        self.trt = bench.fakes.tensorrt
        self.cuda = CudaDriver()
        self.cuda.make_current()
        self.stream = self.cuda.create_stream()
        self.runtime = self.trt.Runtime(self.trt.Logger(self.trt.Logger.ERROR))
        plan = bench.entry(added(SHAPE)).engine_path.read_bytes()
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        self.context = self.engine.create_execution_context()
        self.names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]

    def __call__(self) -> dict[str, Array]:
        cuda, held, results = self.cuda, {}, {}
        for name in self.names:
            shape = tuple(self.context.get_tensor_shape(name))
            results[name] = np.empty(shape, self.trt.nptype(self.engine.get_tensor_dtype(name)))
            held[name] = cuda.allocate(results[name].nbytes)
            self.context.set_tensor_address(name, held[name])
            if name in FEED:
                cuda.copy_in(held[name], FEED[name].ctypes.data, FEED[name].nbytes, self.stream)
        assert self.context.execute_async_v3(self.stream)
        for name in self.names:
            if name not in FEED:
                cuda.copy_out(results[name].ctypes.data, held[name], results[name].nbytes, self.stream)
        cuda.synchronize(self.stream)
        for address in held.values():
            cuda.free(address)
        return results

    def close(self) -> None:
        self.cuda.destroy_stream(self.stream)
        self.context = self.engine = self.runtime = None
        self.cuda.close()


@pytest.mark.benchmark(group="tensorrt")
def test_trt_infer_allocating(benchmark: Any, bench: Bench) -> None:
    peer = Allocating(bench)
    _pedantic(benchmark, peer)
    peer.close()
