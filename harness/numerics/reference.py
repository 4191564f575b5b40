"""What is held to be right: a model in float64 on the CPU, its true fp32 form, and its form under rounding noise.

The three together say what an output should be, and by how much a correct runtime may miss it (methods B3).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from harness.numerics.rounding import Rounding
from runtime.errors import RuntimeCoreError
from runtime.protocol import Array

if TYPE_CHECKING:
    import onnx
    import torch

    from harness.numerics.onnx64 import Node, OnnxEvaluator

__all__ = ["OnnxReference", "Reference", "ReferenceUnusableError", "TorchReference", "prove_true_fp32"]


class ReferenceUnusableError(RuntimeCoreError):
    """The reference cannot be computed as promised, so nothing may be judged by it."""


class Reference(Protocol):
    """A model that can be computed more exactly than any runtime does. A feed is input name to array."""

    @property
    def name(self) -> str: ...

    @property
    def output_names(self) -> tuple[str, ...]: ...

    def exact(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """All in float64; integer and boolean outputs keep their dtype."""
        ...

    def single(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """All in true float32, no TF32 and no bfloat16 inside."""
        ...

    def noisy(self, feed: Mapping[str, Array], *, u: float, seed: int) -> dict[str, Array]:
        """One Monte-Carlo run in float64: inputs, weights and every op's result times 1 + u·U(-1, 1), unfused.

        Values that a float of unit roundoff ``u`` holds exactly stay as they are. The same seed gives the same run.
        """
        ...

    def peak(self, feed: Mapping[str, Array]) -> tuple[float, str]:
        """The largest finite |value| of any op's float64 result, and the op: what fp16 must hold (65504)."""
        ...


def prove_true_fp32(multiply: Callable[[Array, Array], Array]) -> None:
    """Raise ``ReferenceUnusableError`` unless a float32 matrix product keeps 1 + 2^-20.

    TF32 (10 bits of mantissa), bfloat16 and fp16 round it to 1. Large enough for the library's fast path.
    """
    size = 256
    value = np.float32(1.0 + 2.0**-20)
    product = multiply(np.full((size, size), value, np.float32), np.eye(size, dtype=np.float32))
    if not (product == value).all():
        raise ReferenceUnusableError(
            f"a float32 matrix product rounds {float(value)!r} to {float(product.min())!r}: TF32 or bfloat16 is on.",
            remedy='Call torch.set_float32_matmul_precision("highest") and unset NVIDIA_TF32_OVERRIDE.',
        )


class TorchReference:
    """An ``nn.Module`` as the reference. The module given is copied and never changed.

    ``inputs``: names in the order of ``forward``; given by keyword if they are its parameters' names. ``outputs``:
    names in the order in which tensors come back (a tensor, tuple, list or dict, nested; a dict that has all the
    names is read by name). Feeds are numpy arrays; floats become float64, other dtypes stay.
    """

    def __init__(
        self, module: torch.nn.Module, inputs: Sequence[str], outputs: Sequence[str], *, name: str = "torch float64"
    ) -> None:
        from harness.numerics import torch64

        self.name = name
        self.output_names = tuple(outputs)
        self._inputs = tuple(inputs)
        self._module = module
        self._wide = torch64.widened(module)
        self._single: torch.nn.Module | None = None
        named = inspect.signature(module.forward).parameters
        self._by_keyword = all(input_name in named for input_name in self._inputs)

    def exact(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        return self._run(feed)

    def noisy(self, feed: Mapping[str, Array], *, u: float, seed: int) -> dict[str, Array]:
        from harness.numerics import torch64

        return self._run(feed, rounding=torch64.Rounding(u, seed))

    def peak(self, feed: Mapping[str, Array]) -> tuple[float, str]:
        largest = (0.0, "")

        def watch(op: str, value: torch.Tensor) -> None:
            nonlocal largest
            magnitude = value.abs()
            if magnitude.numel() and not magnitude.amax().isfinite():
                magnitude = magnitude[magnitude.isfinite()]
            if magnitude.numel() and float(magnitude.amax()) > largest[0]:
                largest = (float(magnitude.amax()), op)

        self._run(feed, watch=watch)
        return largest

    def single(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        import torch

        prove_true_fp32(lambda left, right: torch.mm(torch.from_numpy(left), torch.from_numpy(right)).numpy())
        prove_true_fp32(_as_convolution)
        if self._single is None:
            self._single = copy.deepcopy(self._module).to("cpu").float().eval()
        args, kwargs = self._arguments(feed)
        args, kwargs = [_as_single(value) for value in args], {key: _as_single(v) for key, v in kwargs.items()}
        with torch.no_grad(), self._faults():
            return self._named(self._single(*args, **kwargs))

    def _run(self, feed: Mapping[str, Array], **options: Any) -> dict[str, Array]:
        from harness.numerics import torch64

        args, kwargs = self._arguments(feed)
        with self._faults():
            outputs = self._named(torch64.run(self._wide, args, kwargs, **options))
        narrow = [key for key, value in outputs.items() if value.dtype.kind == "f" and value.dtype != np.float64]
        if narrow:
            raise ReferenceUnusableError(f"{self.name} gives {narrow[0]} as {outputs[narrow[0]].dtype}, not float64.")
        return outputs

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """What a model of a user raises, in one sentence."""
        from harness.numerics.torch64 import NotFloat64Error

        try:
            yield
        except ReferenceUnusableError:
            raise
        except NotFloat64Error as error:
            raise ReferenceUnusableError(
                f"{self.name} is not float64 throughout: {error}",
                remedy="Make constants and buffers inside the model, without a dtype of their own.",
            ) from error
        except Exception as error:
            raise ReferenceUnusableError(f"{self.name} fails on this input: {type(error).__name__}: {error}") from error

    def _arguments(self, feed: Mapping[str, Array]) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
        import torch

        missing = [input_name for input_name in self._inputs if input_name not in feed]
        if missing:
            raise ReferenceUnusableError(
                f"the feed lacks {missing[0]!r}; it has {', '.join(sorted(feed)) or 'nothing'}."
            )
        tensors = {key: torch.from_numpy(np.array(feed[key])) for key in self._inputs}  # a copy: a model may write
        return ([], tensors) if self._by_keyword else (list(tensors.values()), {})

    def _named(self, outputs: Any) -> dict[str, Array]:
        if isinstance(outputs, Mapping) and set(self.output_names) <= set(outputs):
            tensors = [outputs[key] for key in self.output_names]
        else:
            tensors = list(_leaves(outputs))
        if len(tensors) != len(self.output_names):
            raise ReferenceUnusableError(
                f"{self.name} gives {len(tensors)} tensors; {len(self.output_names)} outputs are named: "
                f"{', '.join(self.output_names)}."
            )
        return {key: tensor.detach().numpy() for key, tensor in zip(self.output_names, tensors, strict=True)}


class OnnxReference:
    """An ONNX model as the reference, through the stated evaluator (``harness.numerics.onnx64``).

    ``model``: a path, or a model with its data inside. Noise stands on whole nodes, and on an ``If`` or a ``Loop`` as
    one node. Raises ``EvaluatorError`` for what the evaluator has no operator for.
    """

    def __init__(self, model: Path | onnx.ModelProto) -> None:
        from harness.numerics.onnx64 import OnnxEvaluator

        self._model = model
        self._wide = OnnxEvaluator(model)
        self._single: OnnxEvaluator | None = None
        self.name = self._wide.name
        self.output_names = tuple(spec.name for spec in self._wide.outputs)

    def exact(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        return self._wide.run(feed)

    def single(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        from harness.numerics.onnx64 import OnnxEvaluator

        prove_true_fp32(np.matmul)
        if self._single is None:
            self._single = OnnxEvaluator(self._model, dtype=np.float32)
        return self._single.run(feed)

    def noisy(self, feed: Mapping[str, Array], *, u: float, seed: int) -> dict[str, Array]:
        rounding = Rounding(u, seed)
        sizes = {key: np.size(value) for key, value in feed.items()}

        def after(node: Node, outputs: list[Array]) -> list[Array]:
            sizes.update({key: np.size(output) for key, output in zip(node.outputs, outputs, strict=False)})
            if node.op_type in _MOVES:
                return outputs
            return [rounding(output, terms=_terms(node, output, sizes.get(node.inputs[0], 0))) for output in outputs]

        inputs = {key: rounding(np.asarray(value)) for key, value in feed.items()}
        return self._wide.run(inputs, after=after, weights=lambda _, array: rounding(array))

    def peak(self, feed: Mapping[str, Array]) -> tuple[float, str]:
        largest = (0.0, "")

        def after(node: Node, outputs: list[Array]) -> list[Array]:
            nonlocal largest
            for output in outputs:
                if isinstance(output, np.ndarray) and output.dtype.kind == "f":
                    top = float(np.abs(output).max(initial=0.0, where=np.isfinite(output)))
                    largest = max(largest, (top, f"{node.op_type} {node.name}"))
            return outputs

        self._wide.run(feed, after=after)
        return largest


_MOVES = frozenset(
    (
        *("Cast", "Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherND"),
        *("GatherElements", "Identity", "Pad", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile"),
        *("Transpose", "Unsqueeze"),
    )
)
"""Operators that place values and compute none."""


def _terms(node: Node, output: Array, input_size: int) -> int:
    """How many values were summed for one element of the result."""
    if node.op_type.startswith("Reduce") or node.op_type == "GlobalAveragePool":
        return input_size // max(output.size, 1)
    if node.op_type in ("InstanceNormalization", "GroupNormalization"):
        groups = node.attributes.get("num_groups", output.shape[1])
        return int(output.size // max(output.shape[0] * groups, 1))
    if node.op_type in ("LayerNormalization", "Softmax", "LogSoftmax"):
        return int(output.shape[node.attributes.get("axis", -1)])
    return 1


def _as_convolution(left: Array, right: Array) -> Array:
    """``left @ right``, by a 1x1 convolution: libraries have a precision setting of its own for these."""
    import torch

    image = torch.from_numpy(left.T.copy())[None, :, :, None]
    product = torch.nn.functional.conv2d(image, torch.from_numpy(right.T.copy())[:, :, None, None])
    return np.asarray(product[0, :, :, 0].numpy().T)


def _as_single(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.is_floating_point() else value


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, tuple | list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]
