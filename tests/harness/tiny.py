"""A small model in every form that the command line takes, made by hand: x -> Gemm -> LayerNorm -> Gelu -> Gemm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 16


def weights(seed: int = 3) -> dict[str, Any]:
    """Torch's names and layouts (``Linear.weight`` is out x in)."""
    chance = np.random.default_rng(seed)

    def draw(*shape: int) -> Any:
        return (chance.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    return {
        "first.weight": draw(WIDTH, WIDTH),
        "first.bias": draw(WIDTH),
        "norm.weight": 1 + 0.1 * draw(WIDTH),
        "norm.bias": draw(WIDTH),
        "last.weight": draw(4, WIDTH),
        "last.bias": draw(4),
    }


def write_onnx(
    path: Path, state: dict[str, Any] | None = None, *, eps: float = 1e-5, opset: int = 18, ir: int = 10
) -> Path:
    state = weights() if state is None else state
    nodes = [
        helper.make_node("Gemm", ["x", "first.weight", "first.bias"], ["h"], "first", transB=1),
        helper.make_node("LayerNormalization", ["h", "norm.weight", "norm.bias"], ["n"], "norm", axis=-1, epsilon=eps),
        helper.make_node("Relu", ["n"], ["g"], "act"),
        helper.make_node("Gemm", ["g", "last.weight", "last.bias"], ["y"], "last", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in state.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir), path)
    return path


MODULE = f"""
import torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear({WIDTH}, {WIDTH})
        self.norm = nn.LayerNorm({WIDTH})
        self.last = nn.Linear({WIDTH}, 4)

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))))
"""


def write_checkpoint(path: Path, state: dict[str, Any] | None = None) -> Path:
    import torch

    state = weights() if state is None else state
    torch.save({name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}, path)
    return path


def write_project(folder: Path, *, onnx_state: dict[str, Any] | None = None, eps: float = 1e-5) -> Path:
    """A folder as a user has it: artifacts, a plugin that registers the architecture, and a configuration."""
    write_onnx(folder / "tiny.onnx", onnx_state, eps=eps)
    write_checkpoint(folder / "tiny.pt")
    (folder / "tiny_module.py").write_text(MODULE)
    (folder / "my_cases.py").write_text(
        "import sys, pathlib\nsys.path.insert(0, str(pathlib.Path(__file__).parent))\n"
        "from runtime import register_architecture\nfrom runtime.data import TensorSpec\n\n"
        "def tiny():\n    from tiny_module import Tiny\n    return Tiny()\n\n"
        "register_architecture('tiny', tiny, inputs=[TensorSpec('x', (2, 16), 'float32')], "
        "outputs=[TensorSpec('y', (2, 4), 'float32')])\n"
    )
    config = folder / "my.toml"
    config.write_text(
        'plugins = ["my_cases.py"]\n[model.tiny]\nonnx = "tiny.onnx"\n'
        'torch = { checkpoint = "tiny.pt", architecture = "tiny" }\n'
    )
    return config
