"""The child of ``harness.tier2.launch_job``: reads on standard input what to do, as JSON, and writes what it saw."""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from harness.errors import UsageError
from harness.records import from_json, to_json
from harness.tier2.child_job import bench_of
from harness.tier2.host_station import station_on
from harness.tier2.launch import run_launch
from harness.tier2.launch_job import GRACE_S, SAID, Asked, FrameWriter, Told
from harness.tier2.samples import open_journal
from runtime.errors import RuntimeCoreError
from runtime.threads import thread_environment

__all__ = ["main", "perform"]


def main() -> int:
    """What the child does. Its standard output carries progress alone; what libraries print goes to standard error."""
    said = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    asked = from_json(Asked, json.loads(sys.stdin.readline()))
    threading.Thread(target=_until_the_parent_ends, daemon=True).start()
    os.chdir(asked.cwd)
    threads = asked.job.bench.config.get("intra_op_threads")
    if isinstance(threads, int):
        os.environ.update(thread_environment(threads))  # before any library is loaded that reads it once

    def say(words: str) -> None:
        with contextlib.suppress(OSError):
            said.write(f"{SAID}{words}\n")

    told = perform(asked, say)
    draft = Path(f"{asked.result}.part")
    draft.write_text(json.dumps(to_json(told)), encoding="utf-8")
    draft.rename(asked.result)
    return 0


def perform(asked: Asked, say: Callable[[str], None]) -> Told:
    """Run the launch that is asked for; what it refuses is told, and not raised."""
    try:
        return _launch(asked, say)
    except UsageError as error:
        return Told(error=UsageError.__name__, message=str(error))
    except RuntimeCoreError as error:
        return Told(error=type(error).__name__, message=error.message, remedy=error.remedy)


def _launch(asked: Asked, say: Callable[[str], None]) -> Told:
    bench = bench_of(asked.job.bench, os.environ)
    with (
        open_journal(Path(asked.journal)) as journal,
        Path(asked.trace).open("w", buffering=1, encoding="utf-8") as file,
    ):
        station = station_on(
            bench,
            root=Path(asked.job.root),
            telemetry=asked.job.telemetry,
            on_frame=FrameWriter(file).write,
            own_pids=(os.getppid(),),  # earlier rows of the run may have left it on the GPU
        )
        seen = run_launch(station, asked.order, journal=journal, say=say)
    return Told(
        seen.measurement,
        seen.first_call_ns,
        seen.load_ns,
        seen.memory,
        seen.soak,
        seen.lost_ns,
        seen.incomplete,
        seen.notes,
        seen.placements,
        seen.facts,
    )


def _until_the_parent_ends() -> None:
    """Standard input ends with the parent: then stop as for Ctrl-C, and if that is not heard, at once."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):  # not sys.stdin: whoever holds its lock when Python ends is a fatal error
            pass
    _thread.interrupt_main()
    time.sleep(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
