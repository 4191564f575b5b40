"""Operator kernels for ``harness.numerics.onnx64``, in place of ones of ``onnx.reference`` that are slow, or not right.

Not right in onnx 1.23's own implementations: ``Erf`` goes through float32, ``LRN`` loops over the batch in place of the
channels, ``BatchNormalization`` before opset 14 normalises by a moving average in inference, ``GatherElements`` needs
``numpy.choose`` and so few rows, ``DequantizeLinear`` computes in float32, ``Softmax`` before opset 13 has the later
meaning. Slow: what loops in Python.

A kernel takes the inputs as arrays (a missing optional one is ``None``) and the attributes by keyword, and gives one
array, of the inputs' dtype. It raises ``Declined`` for a form it does not cover; the reference's own code then runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from scipy.special import erf, log_softmax, softmax

from runtime.protocol import Array

__all__ = ["Declined", "find_kernel", "torch_or_none"]

Kernel = Callable[..., Array]


class Declined(Exception):  # noqa: N818 (control flow, not a fault)
    """A form of the operator that is left to the reference's own implementation."""


@cache
def torch_or_none() -> ModuleType | None:
    """Torch, where it is installed."""
    try:
        import torch
    except ImportError:
        return None
    return torch


def find_kernel(op_type: str, opset: int) -> Kernel | None:
    """The kernel of an operator of the main domain, if there is one; those of torch only where it is installed."""
    if op_type in _OLDER and opset < _OLDER[op_type][0]:
        return _OLDER[op_type][1]
    return _NUMPY.get(op_type) or (_TORCH.get(op_type) if torch_or_none() is not None else None)


def _erf(x: Array) -> Array:
    return np.asarray(erf(x), dtype=x.dtype)


def _gelu(x: Array, *, approximate: str | None = None) -> Array:
    if approximate == "tanh":
        inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
        return np.asarray(0.5 * x * (1.0 + np.tanh(inner)), dtype=x.dtype)
    return np.asarray(0.5 * x * (1.0 + erf(x / math.sqrt(2.0))), dtype=x.dtype)


def _softmax_flat(x: Array, *, axis: int) -> Array:
    rows = x.reshape(math.prod(x.shape[: axis % x.ndim]), -1)
    return np.asarray(softmax(rows, axis=1), dtype=x.dtype).reshape(x.shape)


def _log_softmax_flat(x: Array, *, axis: int) -> Array:
    rows = x.reshape(math.prod(x.shape[: axis % x.ndim]), -1)
    return np.asarray(log_softmax(rows, axis=1), dtype=x.dtype).reshape(x.shape)


def _batch_normalization(
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    variance: Array,
    *,
    epsilon: float,
    training_mode: int = 0,
    spatial: int = 1,
    **_: Any,
) -> Array:
    if training_mode or not spatial:
        raise Declined
    per_channel = (-1, *(1,) * (x.ndim - 2))
    slope = scale / np.sqrt(variance + x.dtype.type(epsilon))
    return np.asarray((x - mean.reshape(per_channel)) * slope.reshape(per_channel) + bias.reshape(per_channel))


def _lrn(x: Array, *, alpha: float, beta: float, bias: float, size: int) -> Array:
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    around = np.pad(x * x, [(0, 0), (before, after), *[(0, 0)] * (x.ndim - 2)])
    total = sum(around[:, at : at + x.shape[1]] for at in range(size))
    return np.asarray(x / (bias + alpha / size * total) ** beta, dtype=x.dtype)


def _gather_elements(data: Array, indices: Array, *, axis: int) -> Array:
    if any(
        have != want
        for at, (have, want) in enumerate(zip(data.shape, indices.shape, strict=True))
        if at != axis % data.ndim
    ):
        data = data[
            tuple(slice(None) if at == axis % data.ndim else slice(want) for at, want in enumerate(indices.shape))
        ]
    return np.take_along_axis(data, indices.astype(np.int64), axis=axis)


def _gather_nd(data: Array, indices: Array, *, batch_dims: int) -> Array:
    if batch_dims:
        raise Declined
    return np.asarray(data[tuple(np.moveaxis(indices, -1, 0))])


_UFUNCS = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _scatter(data: Array, at: tuple[Array, ...], updates: Array, reduction: str | None) -> Array:
    result = data.copy()
    if reduction in _UFUNCS:
        _UFUNCS[reduction].at(result, at, updates)
    else:
        result[at] = updates
    return result


def _scatter_nd(data: Array, indices: Array, updates: Array, *, reduction: str | None = None) -> Array:
    return _scatter(data, tuple(np.moveaxis(indices, -1, 0)), updates, reduction)


def _scatter_elements(
    data: Array, indices: Array, updates: Array, *, axis: int = 0, reduction: str | None = None
) -> Array:
    at: list[Array] = list(np.indices(indices.shape, sparse=True))
    at[axis] = indices
    return _scatter(data, tuple(at), updates, reduction)


def _dequantize_linear(
    x: Array, scale: Array, zero_point: Array | None = None, *, axis: int = 1, block_size: int | None = 0, **_: Any
) -> Array:
    if block_size or x.dtype.kind not in "iu":
        raise Declined
    shape = [1] * x.ndim
    if scale.ndim and scale.size > 1:
        shape[axis] = scale.size
    shift = 0 if zero_point is None else zero_point.astype(scale.dtype).reshape(shape if zero_point.size > 1 else ())
    return np.asarray((x.astype(scale.dtype) - shift) * scale.reshape(shape if scale.size > 1 else ()), scale.dtype)


def _spatial_pads(
    auto_pad: str | None, pads: Sequence[int] | None, sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """(before, after) per spatial axis; ``reach``: the kernel's extent with its dilation."""
    count = len(sizes)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((math.ceil(size / step) - 1) * step + far - size, 0)
            for size, far, step in zip(sizes, reach, strides, strict=True)
        ]
        halves = [(total // 2, total - total // 2) for total in totals]
        return halves if auto_pad == "SAME_UPPER" else [(after, before) for before, after in halves]
    if auto_pad == "VALID" or not pads:
        return [(0, 0)] * count
    return list(zip(pads[:count], pads[count:], strict=True))


def _conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    auto_pad: str | None = None,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,  # noqa: ARG001 (the weight has it)
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    import torch

    axes = x.ndim - 2
    if not 1 <= axes <= 3:
        raise Declined
    steps, spread = list(strides or [1] * axes), list(dilations or [1] * axes)
    reach = [(size - 1) * gap + 1 for size, gap in zip(weight.shape[2:], spread, strict=True)]
    padding = _spatial_pads(auto_pad, pads, x.shape[2:], reach, steps)
    if any(before != after for before, after in padding):
        x = np.pad(x, [(0, 0), (0, 0), *padding])
        padding = [(0, 0)] * axes
    convolve: Any = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)[axes - 1]
    result = convolve(
        _t(x), _t(weight), None if bias is None else _t(bias), steps, [p[0] for p in padding], spread, group
    )
    return _a(result)


def _conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    auto_pad: str | None = None,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,  # noqa: ARG001 (the weight has it)
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    import torch

    axes = x.ndim - 2
    padding = _spatial_pads(None, pads, x.shape[2:], [], [])
    if not 1 <= axes <= 3 or output_shape or auto_pad not in (None, "NOTSET", "VALID"):
        raise Declined
    if any(before != after for before, after in padding):
        raise Declined
    nn = torch.nn.functional
    convolve: Any = (nn.conv_transpose1d, nn.conv_transpose2d, nn.conv_transpose3d)[axes - 1]
    steps, spread = list(strides or [1] * axes), list(dilations or [1] * axes)
    extra = list(output_padding or [0] * axes)
    result = convolve(
        _t(x), _t(weight), None if bias is None else _t(bias), steps, [p[0] for p in padding], extra, group, spread
    )
    return _a(result)


def _pool_windows(
    x: Array,
    kernel_shape: Sequence[int],
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    auto_pad: str | None,
    *,
    pads: Sequence[int] | None,
    ceil_mode: int | None,
) -> tuple[list[int], list[int], list[tuple[int, int]], list[tuple[int, int]]]:
    """Strides, dilations, pads as stated, and the pads that make every window whole (``ceil_mode``)."""
    axes = x.ndim - 2
    if not 1 <= axes <= 3:
        raise Declined
    steps, spread = list(strides or [1] * axes), list(dilations or [1] * axes)
    reach = [(size - 1) * gap + 1 for size, gap in zip(kernel_shape, spread, strict=True)]
    stated = _spatial_pads(auto_pad, pads, x.shape[2:], reach, steps)
    whole = []
    for size, (before, after), far, step in zip(x.shape[2:], stated, reach, steps, strict=True):
        room = size + before + after - far
        count = (math.ceil(room / step) if ceil_mode else room // step) + 1
        if ceil_mode and (count - 1) * step >= size + before:  # a window that starts in the end padding is dropped
            count -= 1
        whole.append((before, (count - 1) * step + far - size - before))
    return steps, spread, stated, whole


def _fit(x: Array, pads: Sequence[tuple[int, int]], fill: float) -> Array:
    """Pad; a negative pad cuts."""
    cut = tuple(slice(None, after if after < 0 else None) for _, after in pads)
    return np.pad(
        x[(slice(None), slice(None), *cut)],
        [(0, 0), (0, 0), *((before, max(after, 0)) for before, after in pads)],
        constant_values=fill,
    )


def _max_pool(
    x: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str | None = None,
    ceil_mode: int | None = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int | None = 0,  # noqa: ARG001 (only for the indices)
    strides: Sequence[int] | None = None,
) -> Array:
    import torch

    if x.dtype.kind != "f":
        raise Declined
    steps, spread, _, whole = _pool_windows(
        x, kernel_shape, strides, dilations, auto_pad, pads=pads, ceil_mode=ceil_mode
    )
    nn = torch.nn.functional
    pool: Any = (nn.max_pool1d, nn.max_pool2d, nn.max_pool3d)[x.ndim - 3]
    return _a(pool(_t(_fit(x, whole, -np.inf)), list(kernel_shape), steps, 0, spread))


def _average_pool(
    x: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str | None = None,
    ceil_mode: int | None = 0,
    count_include_pad: int | None = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    import torch

    if any(gap != 1 for gap in dilations or ()):
        raise Declined
    steps, _, stated, whole = _pool_windows(x, kernel_shape, strides, None, auto_pad, pads=pads, ceil_mode=ceil_mode)
    nn = torch.nn.functional
    pool: Any = (nn.avg_pool1d, nn.avg_pool2d, nn.avg_pool3d)[x.ndim - 3]
    counted = np.ones_like(x[:1, :1])
    if count_include_pad:
        counted = _fit(counted, stated, 1.0)
        rest = [(0, have[1] - said[1]) for have, said in zip(whole, stated, strict=True)]
        counted = _fit(counted, rest, 0.0)
    else:
        counted = _fit(counted, whole, 0.0)
    size = list(kernel_shape)
    return _a(pool(_t(_fit(x, whole, 0.0)), size, steps) / pool(_t(counted), size, steps))


def _grid_sample(
    x: Array, grid: Array, *, align_corners: int | None = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Array:
    import torch

    how = {"linear": "bilinear", "bilinear": "bilinear", "nearest": "nearest", "cubic": "bicubic", "bicubic": "bicubic"}
    if x.ndim not in (4, 5) or (x.ndim == 5 and how[mode] == "bicubic"):
        raise Declined
    grid = grid.astype(x.dtype, copy=False)
    return _a(torch.nn.functional.grid_sample(_t(x), _t(grid), how[mode], padding_mode, bool(align_corners)))


def _affine_grid(theta: Array, size: Array, *, align_corners: int | None = 0) -> Array:
    import torch

    return _a(torch.nn.functional.affine_grid(_t(theta), size.tolist(), bool(align_corners)))


def _t(array: Array) -> Any:
    import torch

    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _a(tensor: Any) -> Array:
    return np.asarray(tensor.numpy())


_NUMPY: dict[str, Kernel] = {
    "BatchNormalization": _batch_normalization,
    "DequantizeLinear": _dequantize_linear,
    "Erf": _erf,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Gelu": _gelu,
    "LRN": _lrn,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
}

# Before opset 13 these see the axes from ``axis`` on as one; the reference knows only the later form.
_OLDER: dict[str, tuple[int, Kernel]] = {"LogSoftmax": (13, _log_softmax_flat), "Softmax": (13, _softmax_flat)}

_TORCH: dict[str, Kernel] = {
    "AffineGrid": _affine_grid,
    "AveragePool": _average_pool,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "GridSample": _grid_sample,
    "MaxPool": _max_pool,
}
