"""Every value that a torch module computes, in float64, with the operator and the path of the module that made it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary

from harness.numerics.sketch import Sketch, sketch
from harness.numerics.torch64 import widened
from runtime.protocol import Array

__all__ = ["TorchOp", "Trace", "trace"]

_NARROW = (torch.float32, torch.float16, torch.bfloat16)
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class TorchOp:
    """One aten call. ``inputs`` and ``outputs``: positions in ``Trace.values``. ``scalars``: its float arguments."""

    name: str
    module: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    scalars: tuple[float, ...]


@dataclass
class Trace:
    """``parameters``: value position to name, for what is made of parameters alone; ``arrays``: their elements."""

    values: list[Sketch] = field(default_factory=list)
    ops: list[TorchOp] = field(default_factory=list)
    parameters: dict[int, str] = field(default_factory=dict)
    arrays: dict[int, Array] = field(default_factory=dict)
    outputs: tuple[int, ...] = ()


def trace(module: torch.nn.Module, arguments: Sequence[Array]) -> Trace:
    """Run a float64 copy of ``module`` on ``arguments`` (in the order of ``forward``) and record each operator's values.

    Casts to a narrower float, and Python floats (which an exporter stores as float32), are treated as the ONNX side
    treats them, so that only what means something else differs.
    """
    twin = widened(module)
    recorder = _Recorder()
    given = [torch.from_numpy(np.array(array, np.float64 if array.dtype.kind == "f" else None)) for array in arguments]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        for name, tensor in (*twin.named_parameters(), *twin.named_buffers()):
            recorder.know(tensor, name)
        sdpa = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
        with torch.no_grad(), sdpa, _module_paths(twin, recorder.path), recorder:
            result = twin(*given)
    finally:
        torch.set_default_dtype(before)
    tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]
    recorder.trace.outputs = tuple(recorder.position(tensor) for tensor in tensors)
    return recorder.trace


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch is not annotated there
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch is not annotated there
        self.trace = Trace()
        self.path: list[str] = []
        self._seen: Any = WeakIdKeyDictionary()  # tensor -> (version, position); a value is summarised once
        self._positions: dict[tuple[tuple[int, ...], int, bytes], int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(_widen, (args, kwargs or {}))
        leaves = tree_leaves((args, kwargs))
        inputs = [self.position(leaf) for leaf in leaves if _is_float(leaf)]
        result = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(result) if _is_float(leaf)]
        outputs = [self.position(leaf) for leaf in made]
        if inputs and all(position in self.trace.parameters for position in inputs):
            for tensor, position in zip(made, outputs, strict=True):
                self._name(tensor, position, self.trace.parameters[inputs[0]])
        self.trace.ops.append(
            TorchOp(
                name=str(func.overloadpacket),
                module=self.path[-1] if self.path else "",
                inputs=tuple(inputs),
                outputs=tuple(outputs),
                scalars=tuple(leaf for leaf in leaves if isinstance(leaf, float)),
            )
        )
        return result

    def know(self, tensor: torch.Tensor, name: str) -> None:
        if _is_float(tensor):
            self._name(tensor, self.position(tensor.detach()), name)

    def position(self, tensor: torch.Tensor) -> int:
        """Of the tensor's value in ``trace.values``."""
        seen = self._seen.get(tensor)
        if seen is not None and seen[0] == tensor._version:
            return int(seen[1])
        summary = sketch(_elements(tensor))
        at = self._positions.setdefault((summary.shape, *summary.key), len(self.trace.values))
        if at == len(self.trace.values):
            self.trace.values.append(summary)
        self._seen[tensor] = (tensor._version, at)
        return at

    def _name(self, tensor: torch.Tensor, position: int, name: str) -> None:
        self.trace.parameters.setdefault(position, name)
        self.trace.arrays.setdefault(position, _elements(tensor))


def _widen(leaf: Any) -> Any:
    if isinstance(leaf, torch.dtype) and leaf in _NARROW:
        return torch.float64
    if isinstance(leaf, float) and abs(leaf) <= _FLOAT32_MAX:
        return float(np.float32(leaf))
    return leaf


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.is_floating_point()


def _elements(tensor: torch.Tensor) -> Array:
    return np.array(tensor.detach().to(torch.float64).numpy())


@contextmanager
def _module_paths(module: torch.nn.Module, path: list[str]) -> Iterator[None]:
    """Keep in ``path`` the names of the modules that are running, outermost first."""

    def entering(name: str) -> Any:
        return lambda *_: path.append(name)

    def leaving(*_: Any) -> None:
        path.pop()

    with ExitStack() as undo:
        for name, inner in module.named_modules():
            undo.callback(inner.register_forward_pre_hook(entering(name)).remove)
            undo.callback(inner.register_forward_hook(leaving, always_call=True).remove)
        yield
