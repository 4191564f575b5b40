"""The INT8 calibrator that a TensorRT with calibrators asks for batches, over the core's own CUDA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import numpy as np

from runtime.calibration import CalibrationDataset
from runtime.cuda import Cuda, HostMemory
from runtime.protocol import Array

__all__ = ["make_calibrator"]


def make_calibrator(
    trt: ModuleType,
    dataset: CalibrationDataset,
    cache: bytes | None,
    cuda: Cuda,
    *,
    on_sample: Callable[[int], None] = lambda done: None,
) -> Any:
    """An ``IInt8EntropyCalibrator2`` that feeds every sample once.

    ``cache``: ranges that were found trustworthy; with them no batch is asked for. Afterwards ``written`` holds the
    cache that TensorRT wrote, and ``failure`` what went wrong in a call: it cannot be raised through TensorRT. The
    caller calls ``close``. ``on_sample`` is told how many samples are done.
    """

    class EntropyCalibrator(trt.IInt8EntropyCalibrator2):  # type: ignore[misc, name-defined]  # the library is not typed
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)  # pybind11 needs the base's own call
            self.failure: Exception | None = None
            self.written: bytes | None = None
            self.done = 0
            self._samples: Iterator[dict[str, Array]] = dataset.samples()
            self._buffers: dict[str, tuple[int, HostMemory]] = {}
            self._undo = ExitStack()
            self._stream: int | None = None

        def get_batch_size(self) -> int:
            return 1  # of an implicit batch; a network's own batch axis is part of its shapes

        def get_batch(self, names: list[str]) -> list[int] | None:
            try:
                return self._next(names)
            except Exception as error:
                self.failure = error
                return None

        def read_calibration_cache(self) -> bytes | None:
            return cache

        def write_calibration_cache(self, cache: Any) -> None:
            self.written = bytes(cache)

        def close(self) -> None:
            self._undo.close()

        def _next(self, names: list[str]) -> list[int] | None:
            sample = next(self._samples, None)
            if sample is None:
                return None
            cuda.make_current()
            if self._stream is None:
                self._stream = cuda.create_stream()
                self._undo.callback(cuda.destroy_stream, self._stream)
            for name in names:
                self._copy(name, sample[name])
            cuda.synchronize(self._stream)
            self.done += 1
            on_sample(self.done)
            return [self._buffers[name][0] for name in names]

        def _copy(self, name: str, array: Array) -> None:
            assert self._stream is not None
            if name not in self._buffers:
                device = cuda.allocate(array.nbytes)
                self._undo.callback(cuda.free, device)
                host = cuda.allocate_host(array.nbytes)
                self._undo.callback(cuda.free_host, host)
                self._buffers[name] = (device, host)
            device, host = self._buffers[name]
            host.array[:] = array.reshape(-1).view(np.uint8)
            cuda.copy_in(device, host.address, array.nbytes, self._stream)

    return EntropyCalibrator()
