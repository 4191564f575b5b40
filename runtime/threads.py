"""Thread counts of CPU runs, set on purpose and reported (BA-04).

``OMP_NUM_THREADS`` and ``MKL_NUM_THREADS`` are read once, when torch or MKL is imported: they belong into the environment
of the process that is started (``thread_environment``). A strategy sets its library's own count besides.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from runtime.errors import ConfigError

__all__ = ["VARIABLES", "reported_threads", "thread_environment", "usable_cores"]

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def usable_cores() -> int:
    """The cores that this process may use, which ``taskset`` and a container's cpuset make fewer than the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_environment(count: int) -> dict[str, str]:
    """What a child process's environment must hold for ``count`` threads of one CPU call. Raises ``ConfigError``."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(f"the thread count is {count!r}; expected a whole number above 0.")
    return dict.fromkeys(VARIABLES, str(count))


def reported_threads(environ: Mapping[str, str], modules: Mapping[str, Any] = sys.modules) -> dict[str, int]:
    """``cores``, each variable of ``VARIABLES`` that ``environ`` sets to a number, and ``torch``'s own count.

    What is not set is left out, and so is torch where ``modules`` has not loaded it: nothing is imported here.
    ``OMP_NUM_THREADS`` may be a list by nesting level (``"4,2"``): the first, which is what one call uses, counts.
    """
    counts = {"cores": usable_cores()}
    for name in VARIABLES:
        outermost = environ.get(name, "").split(",")[0].strip()
        if outermost.isdecimal():
            counts[name] = int(outermost)
    if "torch" in modules:
        counts["torch"] = modules["torch"].get_num_threads()
    return counts
