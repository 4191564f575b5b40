"""``tensorrt`` on the simulated device: what a row asks for by name, and what then stands in for library and GPU (T0-02)."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from harness.fakes.device import SimulatedDevice, SimulationError
from harness.fakes.install import installed
from runtime.config import RuntimeConfig
from runtime.platform import HostTuple
from tiers.clause import ClauseBroken, Subject, must

__all__ = ["HOSTS", "simulated"]

HOSTS: Mapping[str, HostTuple] = {
    "10.3.0": HostTuple("87", "6.2", "10.3.0", "36.4.3", "p3767-0000"),
    "10.13.3.9": HostTuple("110", "7.0", "10.13.3.9", "38.2.0", "p3834-0008"),
    "10.16.1.11": HostTuple("87", "7.2", "10.16.1.11", "39.2.0", "p3767-0000"),
    "11.4.0.106": HostTuple("89", "none", "11.4.0.106"),
    "rtx1.7.1.116": HostTuple("120", "none", "rtx1.7.1.116"),
}
"""The host that each fake library stands on: boards with their JetPack, and workstations."""

_CUDA_13 = 13000
_CUDA_12_6 = 12060


@dataclass
class _Bench:
    """The device of the clause that runs now."""

    host: HostTuple
    version: str
    device: SimulatedDevice = field(default_factory=SimulatedDevice)

    @contextmanager
    def around(self) -> Iterator[None]:
        """A fresh device, and its faces in the place of the libraries; what it saw breaks the clause."""
        is_old = self.version == "10.3.0"
        self.device = SimulatedDevice(
            sm=self.host.sm,
            is_integrated=self.host.jetpack != "none",
            driver_version=_CUDA_12_6 if is_old else _CUDA_13,
        )
        with installed(self.device, tensorrt=self.version):
            yield
            if self.device.leaks():
                gc.collect()  # a runtime that the clause let go of may stand in a ring
            try:
                self.device.check()
            except SimulationError as error:
                raise ClauseBroken(f"the simulated device saw: {error}") from error
            leaks = self.device.leaks()
            must(not leaks, f"the simulated device still holds: {'; '.join(leaks)}")


def simulated(version: str, held: Subject, config: RuntimeConfig) -> Subject:
    """The subject, made on the fake TensorRT of ``version``; each clause gets a device of its own."""
    from runtime.strategies.trt import TensorrtRuntime
    from runtime.strategies.trt_launch import in_process

    bench = _Bench(HOSTS[version], version)

    def make(**more: Any) -> TensorrtRuntime:
        return TensorrtRuntime(replace(config, **more), host=bench.host, launch=in_process)

    return replace(
        held,
        make=make,
        make_poor=lambda: make(gpu_memory_budget_bytes=0),
        around=bench.around,
        device_calls=lambda: len(bench.device.calls),
    )
