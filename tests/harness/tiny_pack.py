"""A model's pack on disk that holds two feeds and no model: enough for a runtime that computes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from harness.inputs import digest
from harness.packs.model import ModelPack, model_json


def write_tiny_pack(folder: Path, name: str, onnx: bytes = b"") -> ModelPack:
    """Written to ``folder / name``, as ``read_model`` reads it. ``onnx``: what a third party's class is given."""
    home = folder / name
    home.mkdir(parents=True)
    feeds = [{"x": np.full((2, 3), value, np.float32)} for value in (1.0, 2.0)]
    arrays: Any = {f"{at}/x": feed["x"] for at, feed in enumerate(feeds)}
    np.savez(home / "inputs.npz", **arrays)
    (home / "model.pt").write_bytes(b"no weights")
    if onnx:
        (home / "model.onnx").write_bytes(onnx)
    tensor = {"name": "x", "shape": [2, 3], "dtype": "float32"}
    pack = ModelPack(
        name=name,
        size="small",
        key="0" * 64,
        onnx="model.onnx" if onnx else "",
        onnx_fp16="",
        checkpoint="model.pt",
        architecture="tiny",
        inputs_origin="a test's",
        reference="none",
        feed_sha256=tuple(map(digest, feeds)),
        onnx_sha256="",
        checkpoint_sha256="0" * 64,
        input_names=("x",),
        output_names=("x",),
        tolerances={},
        tensors=json.dumps({"inputs": [tensor], "outputs": [tensor]}),
        folder=str(home),
    )
    (home / "model.json").write_bytes(model_json(pack))
    return pack
