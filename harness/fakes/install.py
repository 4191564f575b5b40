"""Puts faces of a simulated device where ``import`` finds them, for as long as a ``with`` block lasts.

Nothing is installed unless it is asked for by name. Within the block the real module of that name, with all that is
below it, cannot be imported; behind it everything in ``sys.modules`` is as it was.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from harness.fakes.device import SimulatedDevice

__all__ = ["Installed", "installed"]


@dataclass(frozen=True)
class Installed:
    """The modules that were put in place; None for those that were not asked for."""

    driver: Any = None
    tensorrt: Any = None
    pynvml: Any = None
    jtop: Any = None


@contextmanager
def installed(
    device: SimulatedDevice,
    *,
    tensorrt: str | None = None,
    cuda: bool = True,
    cuda_major: int | None = None,
    nvml: bool = False,
    jtop: bool = False,
) -> Iterator[Installed]:
    """Faces of ``device`` as ``cuda.bindings.driver``, ``tensorrt`` or ``tensorrt_rtx``, ``pynvml`` and ``jtop``.

    ``tensorrt``: a version that there is a fake of, as ``10.3.0`` or ``rtx1.7.1.116``. ``cuda_major``: 12 or 13; by default
    that of the device's driver.
    """
    found: dict[str, Any] = {}
    modules: dict[str, ModuleType] = {}
    if cuda:
        from harness.fakes.cuda_driver import VERSIONS, make_driver

        major = cuda_major or device.driver_version // 1000
        found["driver"] = make_driver(device, major)
    if tensorrt is not None:
        from harness.fakes.tensorrt import make_tensorrt

        found["tensorrt"] = make_tensorrt(device, tensorrt)
    if nvml:
        from harness.fakes.nvml import make_nvml

        found["pynvml"] = make_nvml(device)
    if jtop:
        from harness.fakes.jtop import make_jtop

        found["jtop"] = make_jtop(device)
    for module in found.values():
        modules |= _with_parents(module)
    if cuda:
        modules["cuda.bindings"].__dict__["__version__"] = VERSIONS[major]
    tops = {name for name in modules if "." not in name}
    if tensorrt is not None:
        tops.add("polygraphy")  # imported afresh, since it keeps the TensorRT that it found first
    with _in_place(modules, tops):
        yield Installed(**found)


@contextmanager
def _in_place(modules: dict[str, ModuleType], tops: set[str]) -> Iterator[None]:
    kept = _take_out(tops)
    sys.modules.update(modules)
    try:
        yield
    finally:
        _take_out(tops)
        sys.modules.update(kept)


def _take_out(tops: set[str]) -> dict[str, ModuleType]:
    """Remove these packages with all that is below them."""
    names = [name for name in sys.modules if name.partition(".")[0] in tops]
    return {name: sys.modules.pop(name) for name in names}


def _with_parents(module: ModuleType) -> dict[str, ModuleType]:
    """The module and the packages that it is in, each with a spec, as ``find_spec`` wants."""
    modules = {module.__name__: module}
    _specify(module, is_package=False)
    child = module
    while "." in child.__name__:
        name, _, last = child.__name__.rpartition(".")
        parent = ModuleType(name)
        _specify(parent, is_package=True)
        setattr(parent, last, child)
        modules[name] = child = parent
    return modules


def _specify(module: ModuleType, *, is_package: bool) -> None:
    module.__spec__ = ModuleSpec(module.__name__, None, origin="harness.fakes", is_package=is_package)
    if is_package:
        module.__path__ = []
