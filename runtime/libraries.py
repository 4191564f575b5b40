"""The heavy library of each strategy: its import name, and how it is installed where."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass

from runtime.errors import RuntimeNotAvailableError

__all__ = ["LIBRARIES", "Library", "unavailable"]


@dataclass(frozen=True)
class Library:
    """``modules``: the import names that serve, the first choice first. ``extra``: of ``pip install trigate[...]``."""

    modules: tuple[str, ...]
    extra: str
    on_jetson: str


LIBRARIES: Mapping[str, Library] = {
    "tensorrt": Library(
        ("tensorrt", "tensorrt_rtx"), "trt", "JetPack brings it as the system package python3-libnvinfer"
    ),
    "onnx_trt_ep": Library(("onnxruntime",), "ort", "onnxruntime-gpu comes from the Jetson's own package index"),
    "pytorch_fp16": Library(("torch",), "torch", "torch comes from the Jetson's own package index"),
}
"""By label."""


def unavailable(label: str, error: BaseException, *, machine: str | None = None) -> RuntimeNotAvailableError:
    """The error for a library that cannot be imported: its name, the import error in full, and the way to install it.

    ``machine``: as ``platform.machine()`` says; by default this one.
    """
    library = LIBRARIES[label]
    remedy = f"Install it with: pip install 'trigate[{library.extra}]'."
    if label == "tensorrt":
        remedy += " To build engines on a machine without a GPU: pip install 'trigate[rtx]'."
    if (machine or platform.machine()) == "aarch64":
        remedy = (
            f"On aarch64 pip must not replace the system's build: {library.on_jetson}. Use a virtual environment that "
            "was made with: /usr/bin/python3 -m venv --system-site-packages."
        )
    return RuntimeNotAvailableError(
        f"runtime {label} needs the library {' or '.join(library.modules)}, which cannot be imported: "
        f"{type(error).__name__}: {error}.",
        remedy=remedy,
    )
