"""``trigate report``: draws a run again."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from harness.commands.common import command, draw


def add(commands: Any) -> None:
    parser = command(commands, "report", _report, "draw a run's report again")
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE",
        help="write the run's p50, p95 and calls per second into FILE too, as this machine's baselines",
    )  # fmt: skip


def _report(arguments: argparse.Namespace) -> int:
    written = draw(arguments.run)
    if arguments.baseline is not None:
        from harness.baselines import machine_of, write_baselines
        from harness.rejudge import read_run

        run = read_run(arguments.run)
        module = run.environment.get("module", "none")
        machine = machine_of(run.environment, None if module in ("none", "unknown") else module)
        names = ("jetpack", "tensorrt_host", "onnxruntime-gpu", "torch")
        versions = {name: run.environment[name] for name in names if name in run.environment}
        write_baselines(arguments.baseline, machine, run.verdicts, run=run.id, versions=versions)
        written.append(arguments.baseline)
    print(json.dumps([str(path) for path in written]) if arguments.json else "\n".join(map(str, written)))
    return 0
