"""TensorRT on a simulated device as a third party's class: what `--runtime` is given in tests, where the faces are installed."""

from __future__ import annotations

from runtime.config import RuntimeConfig
from runtime.strategies.trt import TensorrtRuntime
from runtime.strategies.trt_launch import in_process
from tiers.simulated import HOSTS

__all__ = ["OnTheSimulatedDevice"]


class OnTheSimulatedDevice(TensorrtRuntime):
    """``version``: of the fake library that is in place."""

    version = "10.3.0"

    def __init__(self, config: RuntimeConfig) -> None:
        super().__init__(config, host=HOSTS[self.version], launch=in_process)
