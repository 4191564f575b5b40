from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.errors import ConfigError
from runtime.threads import reported_threads, thread_environment, usable_cores


@pytest.mark.covers("BA-04")
def test_the_environment_of_a_child_holds_the_count_for_every_library() -> None:
    assert thread_environment(2) == {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}


@pytest.mark.covers("BA-04")
@pytest.mark.parametrize("count", [0, -1, True, 1.5, "2"])
def test_what_is_no_count_is_refused(count: Any) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        thread_environment(count)


@pytest.mark.covers("BA-04")
def test_what_was_set_is_reported_and_what_was_not_is_left_out() -> None:
    cores = {"cores": usable_cores()}
    assert reported_threads(thread_environment(3), {}) == cores | dict.fromkeys(thread_environment(3), 3)
    assert reported_threads({}, {}) == cores
    loaded = {"torch": SimpleNamespace(get_num_threads=lambda: 5)}
    assert reported_threads({}, loaded) == cores | {"torch": 5}
    assert reported_threads({"OMP_NUM_THREADS": "4,2", "MKL_NUM_THREADS": "many"})["OMP_NUM_THREADS"] == 4
    assert "MKL_NUM_THREADS" not in reported_threads({"MKL_NUM_THREADS": "many"})


@pytest.mark.covers("BA-04")
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity masks")
def test_the_usable_cores_are_those_of_the_process_and_not_of_the_machine() -> None:
    one_core = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    code = f"{one_core}; from runtime.threads import usable_cores; print(usable_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
