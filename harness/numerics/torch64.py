"""A torch module in true float64 on the CPU, op by op; on request with rounding noise on every op.

A module turned to float64 still computes in float32 where its code says so (``x.float()``, ``torch.zeros(n)``, a
constant). Every op passes a dispatch mode here: a request for a narrower float is widened, and an op that gives one
all the same is an error that names it.

Noise is Monte-Carlo arithmetic (Parker 1997; methods B3): a result x becomes x·(1 + u·U(-1, 1)), unless x is exactly
representable in a float of unit roundoff u, since such a value is not rounded. As in
``harness.numerics.rounding``, which says what long sums get.
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

from harness.numerics.rounding import noise_width, splitter

__all__ = ["NotFloat64Error", "Rounding", "run", "widened"]

aten = torch.ops.aten

Watch = Callable[[str, torch.Tensor], None]
"""Told the name and every float result of each op."""


class NotFloat64Error(RuntimeError):
    """An op computed in less than float64, so the reference would not be what it says."""


class Rounding:
    """Seeded noise of unit roundoff ``u`` (2^-11: fp16, 2^-24: fp32) on float64 tensors; ``terms`` were summed."""

    def __init__(self, u: float, seed: int) -> None:
        self._u = u
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, x: torch.Tensor, *, terms: int = 1) -> torch.Tensor:
        width = noise_width(self._u, terms)
        noisy = torch.empty_like(x).uniform_(1.0 - width, 1.0 + width, generator=self._generator).mul_(x)
        carried = x * splitter(self._u)
        rounded = carried - x
        torch.sub(carried, rounded, out=rounded)
        return torch.where(rounded == x, x, noisy)


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
                parts = _UNFUSED[func](*args, **given)
            if parts is not None:
                return parts
        result = func(*args, **given)
        floats = [leaf for leaf in tree_leaves(result) if _is_float(leaf)]
        if any(leaf.dtype != torch.float64 for leaf in floats):
            if any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves((args, given))):
                raise NotFloat64Error(f"{func} computed in {floats[0].dtype} on float64 inputs.")
            result = func(*args, **{**given, "dtype": torch.float64})  # a factory: arange, linspace, empty
        if self._rounding is not None and not _only_moves(func):
            result = self._perturbed(func, args, result, self._rounding)
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
    def _perturbed(func: Any, args: tuple[Any, ...], result: Any, rounding: Rounding) -> Any:
        summed = func._schema.name.removeprefix("aten::") in _SUMS

        def terms(leaf: torch.Tensor) -> int:
            return args[0].numel() // max(leaf.numel(), 1) if summed else 1

        in_place = any(entry.alias_info is not None for entry in func._schema.returns)

        def perturb(leaf: Any) -> Any:
            if not _is_float(leaf):
                return leaf
            noisy = rounding(leaf, terms=terms(leaf))
            return leaf.copy_(noisy) if in_place else noisy

        return tree_map(perturb, result)


_NARROW = (torch.float32, torch.float16, torch.bfloat16)

_MOVES = frozenset(
    (
        *("_to_copy", "_unsafe_view", "cat", "clone", "constant_pad_nd", "copy", "copy_", "fill_", "flip", "gather"),
        *("index", "index_select", "lift_fresh", "repeat", "roll", "stack", "zero_"),
    )
)
"""Ops that place values and compute none; views are told by their schema."""

_SUMS = frozenset(("_adaptive_avg_pool2d", "linalg_vector_norm", "logsumexp", "mean", "std", "sum", "var", "var_mean"))


def _only_moves(func: Any) -> bool:
    name = func._schema.name.removeprefix("aten::")
    return name in _MOVES or any(
        entry.alias_info is not None and not entry.alias_info.is_write for entry in func._schema.returns
    )


def _standardized(
    x: torch.Tensor, axes: tuple[int, ...], eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    inverse = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + eps)
    return centred * inverse, mean, inverse


def _scaled(x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _per_channel(value: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor | None:
    return None if value is None else value.view(-1, *[1] * (x.dim() - 2))


def _layer_norm(
    x: torch.Tensor, shape: Sequence[int], weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
) -> tuple[torch.Tensor, ...]:
    out, *statistics = _standardized(x, tuple(range(-len(shape), 0)), eps)
    return _scaled(out, weight, bias), *statistics


def _group_norm(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, *rest: Any
) -> tuple[torch.Tensor, ...]:
    batch, _, _, groups, eps = rest
    out, *statistics = _standardized(x.reshape(batch, groups, -1), (-1,), eps)
    out = _scaled(out.reshape(x.shape), _per_channel(weight, x), _per_channel(bias, x))
    return out, *(value.view(batch, groups) for value in statistics)


def _batch_norm(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, *rest: Any
) -> tuple[torch.Tensor, ...] | None:
    *_, training, _, eps = rest
    if not training:  # one multiplication and one addition, which engines fold into a convolution
        return None
    out, *statistics = _standardized(x, (0, *range(2, x.dim())), eps)  # torch's instance norm comes as this
    return _scaled(out, _per_channel(weight, x), _per_channel(bias, x)), *(value.flatten() for value in statistics)


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


_UNFUSED: Mapping[Any, Callable[..., Any]] = {
    aten.native_layer_norm.default: _layer_norm,
    aten.native_group_norm.default: _group_norm,
    aten.native_batch_norm.default: _batch_norm,
    aten._softmax.default: _softmax,
    aten.gelu.default: _gelu,
    aten.addmm.default: _addmm,
}
