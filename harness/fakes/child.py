"""The child process of a build, on a simulated device.

    python -m harness.fakes.child FLAVOUR SM [--memory-mb N] [--fault CALL=ERROR]... -- ARGUMENT...

It puts the fakes in place and runs ``runtime.strategies.trt_child`` with the arguments, whose exit code it ends with.
"""

from __future__ import annotations

import argparse
import runpy
import sys

from harness.fakes.device import SimulatedDevice
from harness.fakes.faults import Fault, FaultPlan
from harness.fakes.install import installed

__all__ = ["main"]

_CHILD = "runtime.strategies.trt_child"
_INTEGRATED = ("87", "110")


def main(arguments: list[str]) -> int:
    """Run the child; what stands behind ``--`` is its own."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = _options(arguments[:cut])
    faults = [Fault(call, error, forever=True) for call, _, error in (text.partition("=") for text in options.fault)]
    device = SimulatedDevice(
        sm=options.sm,
        name=f"Simulated SM {options.sm}",
        is_integrated=options.sm in _INTEGRATED,
        memory_bytes=options.memory_mb << 20,
        faults=FaultPlan(faults),
    )
    before, sys.argv = sys.argv, [_CHILD, *arguments[cut + 1 :]]
    try:
        with installed(device, tensorrt=options.flavour):
            runpy.run_module(_CHILD, run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    finally:
        sys.argv = before
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m harness.fakes.child")
    parser.add_argument("flavour", help="a release of TensorRT that there is a fake of, as 10.3.0")
    parser.add_argument("sm", help="the compute capability of the device, as 87")
    parser.add_argument("--memory-mb", type=int, default=8192, metavar="N", help="device memory")
    parser.add_argument("--fault", action="append", default=[], metavar="CALL=ERROR", help="a call that always fails")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
