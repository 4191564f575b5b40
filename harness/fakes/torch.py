"""The real torch, whose tensors stay on the CPU and claim to be on the GPU of a simulated device.

Calls are written down by the device, and planned faults called, as ``torch.load``, ``torch.tensor``, ``torch.isfinite``,
``torch.cuda.empty_cache``, ``torch.Tensor.copy_`` (to the host) and ``torch.nn.Module.to`` with the methods beside it. An error
is a key of ``ERRORS``, or a ``CUresult``, which comes as torch tells it. What is made on the GPU is allocated there, and
freed when torch's own object goes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

from harness.fakes.device import DeviceError, SimulatedDevice

__all__ = ["ERRORS", "make_torch", "recorded"]

_ASYNCHRONOUS = (
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect."
    "\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1"
    "\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)
_CUDA_WORDS = {
    "CUDA_ERROR_ILLEGAL_ADDRESS": "an illegal memory access was encountered",
    "CUDA_ERROR_LAUNCH_FAILED": "unspecified launch failure",
    "CUDA_ERROR_ECC_UNCORRECTABLE": "uncorrectable ECC error encountered",
    "CUDA_ERROR_LAUNCH_TIMEOUT": "the launch timed out and was terminated",
    "CUDA_ERROR_ASSERT": "device-side assert triggered",
    "CUDA_ERROR_HARDWARE_STACK_ERROR": "hardware stack error",
    "CUDA_ERROR_ILLEGAL_INSTRUCTION": "an illegal instruction was encountered",
    "CUDA_ERROR_MISALIGNED_ADDRESS": "misaligned address",
    "CUDA_ERROR_INVALID_ADDRESS_SPACE": "operation not supported on global/shared address space",
    "CUDA_ERROR_INVALID_PC": "invalid program counter",
}
"""The runtime API's words, which torch quotes."""

ERRORS: Mapping[str, tuple[str, str]] = {
    "OutOfMemoryError": (
        "OutOfMemoryError",
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has 7.44 GiB in all",
    ),
    "out of memory as RuntimeError": ("RuntimeError", "CUDA error: out of memory" + _ASYNCHRONOUS),
    "out of memory as NVML's assertion": (
        "RuntimeError",
        'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/opt/pytorch/c10/cuda/CUDACachingAllocator.cpp":1016, please report a bug',
    ),
    "out of memory in cuBLAS": (
        "RuntimeError",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ),
    "out of host memory": (
        "RuntimeError",
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 B.",
    ),
    "MemoryError": ("MemoryError", ""),
    "an error of cuBLAS": ("RuntimeError", "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
    "an error of cuDNN": ("RuntimeError", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    "no kernel image": (
        "AcceleratorError",
        "CUDA error: no kernel image is available for execution on the device" + _ASYNCHRONOUS,
    ),
    "RuntimeError": ("RuntimeError", "something that is not of the device"),
    "UnpicklingError": ("UnpicklingError", "invalid load key, '\\x00'."),
    "a truncated archive": (
        "RuntimeError",
        "PytorchStreamReader failed reading zip archive: failed finding central directory",
    ),
}
"""What torch documents and what is seen of it: the name of a class, and its words."""


def make_torch(device: SimulatedDevice) -> Callable[[], ModuleType]:
    """What ``PytorchFp16Runtime(load=...)`` takes. The modules that it is to run go through ``recorded``."""

    def load() -> ModuleType:
        import torch

        face = _Face(torch, device)
        library = ModuleType("torch", make_torch.__doc__)
        vars(library).update(vars(torch))
        vars(library).update(
            load=face.load,
            tensor=face.tensor,
            isfinite=face.isfinite,
            from_numpy=face.from_numpy,
            set_num_threads=lambda count: None,
            cuda=SimpleNamespace(
                is_available=lambda: True,
                device_count=lambda: 1,
                empty_cache=face.empty_cache,
                is_initialized=lambda: True,
                Event=face.event,
            ),
        )
        return library

    return load


def recorded(device: SimulatedDevice, factory: Callable[[], Any]) -> Callable[[], Any]:
    """The same factory, whose modules go to the simulated device."""

    def make() -> Any:
        import torch

        face = _Face(torch, device)
        face.enter("torch.nn.Module()")
        module = factory()
        module.__class__ = _recorded_class(type(module), face)
        return module

    return make


class _Event:
    """``torch.cuda.Event``. Torch's work is done as it is enqueued here, so that an event is complete once it is recorded."""

    def __init__(self, device: SimulatedDevice, has_timing: bool) -> None:
        self._device = device
        self._has_timing = has_timing
        self._at_ns: int | None = None

    def record(self) -> None:
        self._at_ns = self._device.clock.now_ns()

    def synchronize(self) -> None:
        """Nothing is left to wait for."""

    def elapsed_time(self, end: _Event) -> float:
        if self._at_ns is None or end._at_ns is None or not (self._has_timing and end._has_timing):
            raise ValueError("Both events must be recorded, and made with enable_timing, before they are compared")
        return (end._at_ns - self._at_ns) / 1e6


class _Face:
    """The functions that are put in place of torch's own."""

    def __init__(self, torch: Any, device: SimulatedDevice) -> None:
        self._torch = torch
        self._device = device

    def enter(self, api: str, *, needs_device: bool = False) -> None:
        """Write a call down, and raise what is planned for it."""
        name = self._device.enter(api, needs_device=needs_device)
        if name is None:
            return
        if name in ERRORS:
            kind, words = ERRORS[name]
            raise self._class(kind)(words)
        raise self._class("AcceleratorError")(f"CUDA error: {_CUDA_WORDS[name]}{_ASYNCHRONOUS}")

    def event(self, *, enable_timing: bool = False) -> _Event:
        self.enter("torch.cuda.Event")
        return _Event(self._device, enable_timing)

    def load(self, *arguments: Any, **named: Any) -> Any:
        self.enter("torch.load")
        return self._torch.load(*arguments, **named)

    def isfinite(self, tensor: Any) -> Any:
        self.enter("torch.isfinite")
        return self._torch.isfinite(tensor)

    def tensor(self, data: Any, *, dtype: Any = None, device: Any = None) -> Any:
        is_there = device is not None and device.type == "cuda"
        self.enter("torch.tensor", needs_device=is_there)
        made = self._torch.tensor(data, dtype=dtype)
        if is_there:
            self.keep(made)
        return made

    def from_numpy(self, array: Any) -> Any:
        """Of this one only ``copy_`` is called, which waits for the device."""

        def copy(tensor: Any) -> None:
            self.enter("torch.Tensor.copy_", needs_device=True)
            self._torch.from_numpy(array).copy_(tensor)

        return SimpleNamespace(copy_=copy)

    def empty_cache(self) -> None:
        self.enter("torch.cuda.empty_cache", needs_device=True)

    def keep(self, tensor: Any) -> None:
        """Allocate what the tensor would need on the GPU, for as long as it lives."""
        if not tensor.nbytes:
            return
        try:
            address = self._device.allocate(tensor.nbytes, label="a tensor")
        except DeviceError as error:
            raise self._torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {tensor.nbytes} B") from error
        weakref.finalize(tensor, self._device.free, address).atexit = False

    def _class(self, name: str) -> type[Exception]:
        import builtins
        import pickle

        for owner in (self._torch, pickle, builtins):
            if hasattr(owner, name):
                return getattr(owner, name)  # type: ignore[no-any-return]
        return RuntimeError  # AcceleratorError, before torch had it


def _recorded_class(kind: type[Any], face: _Face) -> type[Any]:
    """A subclass that writes its calls down. Only the module itself: its parts are called by torch."""

    class Recorded(kind):  # type: ignore[misc]
        def load_state_dict(self, *arguments: Any, **named: Any) -> Any:
            face.enter("torch.nn.Module.load_state_dict")
            return super().load_state_dict(*arguments, **named)

        def eval(self) -> Any:
            face.enter("torch.nn.Module.eval")
            return super().eval()

        def half(self) -> Any:
            face.enter("torch.nn.Module.half")
            return super().half()

        def to(self, device: Any) -> Any:
            face.enter("torch.nn.Module.to", needs_device=device.type == "cuda")
            if device.type == "cuda":
                for tensor in (*self.parameters(), *self.buffers()):
                    face.keep(tensor)
            return self

        def forward(self, *arguments: Any) -> Any:
            face.enter("torch.nn.Module.forward", needs_device=True)
            produced = super().forward(*arguments)
            for tensor in produced if isinstance(produced, tuple) else (produced,):
                face.keep(tensor)
            return produced

    return Recorded
