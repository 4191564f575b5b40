"""Engines for the simulated device, and a TensorrtRuntime with everything around it in one folder."""

from __future__ import annotations

import gc
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness.fakes.device import SimulatedDevice
from harness.fakes.install import Installed, installed
from harness.fakes.tensorrt_plan import Flavour, Plan, flavour_of, write_plan
from runtime.config import RuntimeConfig
from runtime.data import EngineCacheEntry, TensorSpec
from runtime.files import FileSystem, sha256_hex
from runtime.logs import EventLog, Record
from runtime.platform import HostTuple
from runtime.sidecar import Manifest, publish_engine
from runtime.strategies.trt import TensorrtRuntime

FLAVOURS = ("10.3.0", "10.13.3.9", "10.16.1.11", "11.4.0.106", "rtx1.7.1.116")
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
WEIGHTS_BYTES, SCRATCH_BYTES = 640, 4096

node, value = helper.make_node, helper.make_tensor_value_info
Range = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def model(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], *arrays: Any) -> bytes:
    graph = helper.make_graph(nodes, "m", inputs, outputs, [numpy_helper.from_array(a, n) for n, a in arrays])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(proto.SerializeToString())


def doubled(shape: Sequence[int | str] = (1, 8)) -> bytes:
    """y = relu(2 x)."""
    return model(
        [node("Mul", ["x", "two"], ["t"]), node("Relu", ["t"], ["y"])],
        [value("x", FLOAT, shape)],
        [value("y", FLOAT, shape)],
        ("two", np.full(1, 2, np.float32)),
    )


def added(shape: Sequence[int | str] = (2, 4)) -> bytes:
    """sum = a + b, difference = a - b."""
    return model(
        [node("Add", ["a", "b"], ["sum"]), node("Sub", ["a", "b"], ["difference"])],
        [value("a", FLOAT, shape), value("b", FLOAT, shape)],
        [value("sum", FLOAT, shape), value("difference", FLOAT, shape)],
    )


def selected() -> bytes:
    """The places where x is not zero: how many there are, only the data tell."""
    return model([node("NonZero", ["x"], ["y"])], [value("x", FLOAT, [1, 8])], [value("y", INT64, [2, "found"])])


def expanded() -> bytes:
    """y = x, repeated to the shape that the values of ``shape`` give."""
    return model(
        [node("Expand", ["x", "shape"], ["y"])],
        [value("x", FLOAT, [1, 4]), value("shape", INT64, [2])],
        [value("y", FLOAT, ["rows", "columns"])],
    )


LAYER = {
    "Name": "mul",
    "LayerType": "PointWise",
    "Inputs": [{"Name": "x", "Format/Datatype": "Row major linear FP16 format"}],
    "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP16 format"}],
}


class Unsynced(FileSystem):
    """A disk that need not survive a power cut."""

    def fsync(self, descriptor: int) -> None:
        return

    def fsync_folder(self, folder: Path) -> None:
        return


@dataclass
class Bench:
    """A simulated device with a TensorRT on it, and what a runtime writes and says."""

    folder: Path
    device: SimulatedDevice
    flavour: Flavour
    fakes: Installed
    stream: io.StringIO = field(default_factory=io.StringIO)
    alerts: list[Record] = field(default_factory=list)

    @property
    def host(self) -> HostTuple:
        trt = f"rtx{self.flavour.text}" if self.flavour.is_rtx else self.flavour.text
        return HostTuple(self.device.sm, "6.2", trt, "36.4.3", "p3767-0000")

    def runtime(self, **options: Any) -> TensorrtRuntime:
        given = {
            name: options.pop(name)
            for name in ("cuda", "load", "launch", "fs", "host", "clock", "thermal_publisher")
            if name in options
        }
        config = RuntimeConfig(**{"runtime": "tensorrt", "engine_cache_dir": self.folder / "engines", **options})
        log = EventLog(stream=self.stream, on_alert=self.alerts.append)
        return TensorrtRuntime(config, log=log, **{"host": self.host, **given})

    def entry(
        self,
        proto: bytes | None = None,
        *,
        name: str = "m",
        profile: Mapping[str, Range] | None = None,
        shape_values: Mapping[str, Range] | None = None,
        weights_bytes: int = WEIGHTS_BYTES,
        scratch_bytes: int = SCRATCH_BYTES,
        built_for: str = "",
        built_with: str = "",
        **manifest: Any,
    ) -> EngineCacheEntry:
        """An engine on disk. ``built_for``, ``built_with``: what the plan is, where that is not what its name says."""
        flavour = flavour_of(built_with) if built_with else self.flavour
        sm = built_for or self.device.sm
        profiles = (dict(profile),) if profile else ()
        plan = Plan(
            "m",
            (sm,),
            proto or doubled(),
            profiles,
            (scratch_bytes,),
            weights_bytes,
            (LAYER,),
            verbosity="DETAILED",
            shape_values=(dict(shape_values),) if shape_values else (),
        )
        data, host = write_plan(plan, flavour), self.host
        told: dict[str, Any] = {
            "sha256": sha256_hex(data),
            "model_sha256": "0" * 64,
            "sm": host.sm,
            "jetpack": host.jetpack,
            "trt": host.trt,
            "precision": "fp16",
            "route": "flags",
            "builder": "by hand",
            "module": host.module,
            "l4t": host.l4t,
            "opt_buffer_bytes": 1024,
            "device_memory_bytes": scratch_bytes,
            **manifest,
        }
        path = self.folder / "engines" / host.engine_name(name, "fp16").format()
        publish_engine(path, data, Manifest(**told), fs=Unsynced())
        trt = ".".join(host.trt.split(".")[:2])
        return EngineCacheEntry(path, told["sha256"], host.sm, host.jetpack, trt, "fp16", {"model_name": name})

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [line for line in lines if not kind or line["kind"] == kind]

    def since(self, number: int) -> list[str]:
        """The calls of the device after the first ``number``."""
        return [call.api for call in self.device.calls[number:]]

    def at_rest(self) -> None:
        """Nothing is left on the device once every runtime is gone, and nothing was done that must not be."""
        if self.device.leaks():
            gc.collect()
        self.device.check()
        assert self.device.leaks() == []


@contextmanager
def on_device(folder: Path, flavour: str = "10.3.0", **device: Any) -> Iterator[Bench]:
    """A bench, whose device must be at rest in the end."""
    simulated = SimulatedDevice(**{"sm": "89" if flavour.startswith("rtx") else "87", **device})
    if flavour == "10.13.3.9":
        simulated.sm = "89"
    with installed(simulated, tensorrt=flavour) as fakes:
        bench = Bench(folder, simulated, flavour_of(flavour), fakes)
        yield bench
        bench.at_rest()


def spec(name: str, *shape: int | str, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name, shape, dtype)


def ramp(*shape: int) -> Any:
    """Numbers of both signs, each another one."""
    return (np.arange(np.prod(shape), dtype=np.float32) - 3).reshape(shape)


def save(proto: bytes, path: Path) -> Path:
    onnx.save(onnx.load_from_string(proto), path)
    return path
