"""A torch module in true float64 on the CPU, op by op; on request with rounding noise on every op.

A module turned to float64 still computes in float32 where its code says so (``x.float()``, ``torch.zeros(n)``, a
constant). Every op passes a dispatch mode here: a request for a narrower float is widened, and an op that gives one
all the same is an error that names it.

Noise is Monte-Carlo arithmetic (Parker 1997; methods B3): a result x becomes x·(1 + u·U(-1, 1)), unless x is exactly
representable in a float of unit roundoff u, since such a value is not rounded.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["NotFloat64Error", "Rounding", "run", "widened"]

aten = torch.ops.aten

Watch = Callable[[str, torch.Tensor], None]
"""Told the name and every float result of each op."""


class NotFloat64Error(RuntimeError):
    """An op computed in less than float64, so the reference would not be what it says."""


class Rounding:
    """Seeded noise of unit roundoff ``u`` (2^-11: fp16, 2^-24: fp32) on float64 tensors."""

    def __init__(self, u: float, seed: int) -> None:
        self._u = u
        self._generator = torch.Generator().manual_seed(seed)
        self._splitter = 2.0**53 * u + 1.0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        carried = x * self._splitter
        rounded = carried - (carried - x)  # Veltkamp's splitting: x to the bits that u leaves
        draw = torch.empty(x.shape, dtype=torch.float32).uniform_(-self._u, self._u, generator=self._generator)
        return torch.where(rounded == x, x, x * (1.0 + draw.double()))


def widened(module: torch.nn.Module) -> torch.nn.Module:
    """A copy of the module in float64 on the CPU, in evaluation mode, plain tensor attributes included."""
    wide = copy.deepcopy(module).to("cpu").double().eval()
    for part in wide.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, torch.Tensor):
                setattr(part, name, _wide(value.cpu()))
    return wide


def run(
    module: torch.nn.Module,
    args: Sequence[torch.Tensor],
    kwargs: Mapping[str, torch.Tensor],
    *,
    rounding: Rounding | None = None,
    watch: Watch | None = None,
) -> Any:
    """Call a ``widened`` module; with ``rounding``, noise is on the inputs, the weights and every op's result.

    The noise stands on the smallest ops (layer norm, softmax, GELU, attention and biases are taken apart), so that it
    bounds runtimes that fuse them. Raises ``NotFloat64Error`` that names the op.
    """
    args, kwargs = tree_map(_wide, (tuple(args), dict(kwargs)))
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        if rounding is None:
            with _Float64(None, watch):
                return module(*args, **kwargs)
        state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        args, kwargs, state = tree_map(lambda leaf: rounding(leaf) if _is_float(leaf) else leaf, (args, kwargs, state))
        with _Float64(rounding, watch):
            return torch.func.functional_call(module, state, args, dict(kwargs))


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _wide(value: Any) -> Any:
    return value.double() if _is_float(value) else value


class _Float64(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not annotate it
    def __init__(self, rounding: Rounding | None, watch: Watch | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._rounding = rounding
        self._watch = watch

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if given.get("dtype") in _NARROW:
            given["dtype"] = torch.float64
        self._refuse_narrow_targets(func, args)
        args, given = tree_map(_wide, (args, given))
        if self._rounding is not None and func in _UNFUSED:
            with self:
                return _UNFUSED[func](*args, **given)
        result = func(*args, **given)
        floats = [leaf for leaf in tree_leaves(result) if _is_float(leaf)]
        if any(leaf.dtype != torch.float64 for leaf in floats):
            if any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves((args, given))):
                raise NotFloat64Error(f"{func} computed in {floats[0].dtype} on float64 inputs.")
            result = func(*args, **{**given, "dtype": torch.float64})  # a factory: arange, linspace, empty
        if self._rounding is not None and not _only_moves(func):
            result = self._perturbed(func, result, self._rounding)
        if self._watch is not None:
            for leaf in tree_leaves(result):
                if _is_float(leaf):
                    self._watch(str(func), leaf)
        return result

    @staticmethod
    def _refuse_narrow_targets(func: Any, args: tuple[Any, ...]) -> None:
        for value, argument in zip(args, func._schema.arguments, strict=False):
            written = argument.alias_info is not None and argument.alias_info.is_write
            if written and _is_float(value) and value.dtype != torch.float64:
                raise NotFloat64Error(f"{func} writes into a tensor of {value.dtype} that was made outside the model.")

    @staticmethod
    def _perturbed(func: Any, result: Any, rounding: Rounding) -> Any:
        in_place = any(entry.alias_info is not None for entry in func._schema.returns)

        def perturb(leaf: Any) -> Any:
            if not _is_float(leaf):
                return leaf
            return leaf.copy_(rounding(leaf)) if in_place else rounding(leaf)

        return tree_map(perturb, result)


_NARROW = (torch.float32, torch.float16, torch.bfloat16)

_MOVES = frozenset(
    (
        *("_to_copy", "_unsafe_view", "cat", "clone", "constant_pad_nd", "copy", "copy_", "fill_", "flip", "gather"),
        *("index", "index_select", "lift_fresh", "repeat", "roll", "stack", "zero_"),
    )
)
"""Ops that place values and compute none; views are told by their schema."""


def _only_moves(func: Any) -> bool:
    name = func._schema.name.removeprefix("aten::")
    return name in _MOVES or any(
        entry.alias_info is not None and not entry.alias_info.is_write for entry in func._schema.returns
    )


def _layer_norm(
    x: torch.Tensor, shape: Sequence[int], weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    axes = tuple(range(-len(shape), 0))
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    inverse = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + eps)
    out = centred * inverse
    out = out if weight is None else out * weight
    return out if bias is None else out + bias, mean, inverse


def _softmax(x: torch.Tensor, axis: int, half_to_float: bool) -> torch.Tensor:  # noqa: ARG001 (aten's signature)
    raised = torch.exp(x - x.amax(axis, keepdim=True))
    return raised / raised.sum(axis, keepdim=True)


def _gelu(x: torch.Tensor, *, approximate: str = "none") -> torch.Tensor:
    if approximate == "tanh":
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))))
    return 0.5 * x * (1.0 + torch.erf(x * math.sqrt(0.5)))


def _addmm(
    bias: torch.Tensor, left: torch.Tensor, right: torch.Tensor, *, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    product = torch.mm(left, right)
    return (bias if beta == 1 else beta * bias) + (product if alpha == 1 else alpha * product)


def _convolution(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *rest: Any) -> torch.Tensor:
    out: torch.Tensor = aten.convolution.default(x, weight, None, *rest)
    return out if bias is None else out + bias.view(-1, *[1] * (out.dim() - 2))


_UNFUSED: Mapping[Any, Callable[..., Any]] = {
    aten.native_layer_norm.default: _layer_norm,
    aten._softmax.default: _softmax,
    aten.gelu.default: _gelu,
    aten.addmm.default: _addmm,
}
