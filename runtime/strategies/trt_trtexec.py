"""The route through ``trtexec``, NVIDIA's own builder command: its real flags, and what its output says (TT-01).

Flags as in ``samples/common/sampleOptions.cpp`` of TensorRT 10.3 to 11.1. It calibrates on no inputs of ours (without a
cache it makes some up), so int8 goes in as a calibration cache or as Q/DQ nodes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime.data import Profile, describe_shape
from runtime.errors import EngineBuildError
from runtime.strategies.trt_job import BuildJob, OnProgress, Progress
from runtime.strategies.trt_precision import Expression

__all__ = ["SYSTEM_PATH", "compose", "find_trtexec", "run_trtexec"]

SYSTEM_PATH = Path("/usr/src/tensorrt/bin/trtexec")
"""Where JetPack has it; the Python packages do not bring it."""

_MILESTONES = ("Start parsing network model", "Finished parsing network model", "Engine built in")
_LINE = re.compile(r"^\[[^\]]*\] \[(?P<severity>[VIWEF])\] (?P<text>.*)$")
_SEVERITIES = {"V": "VERBOSE", "I": "INFO", "W": "WARNING", "E": "ERROR", "F": "INTERNAL_ERROR"}


def find_trtexec(given: Path | None = None, search_path: str | None = None) -> Path:
    """The executable: ``given``, else JetPack's place, else on ``search_path`` (as in ``PATH``).

    Raises ``EngineBuildError`` where there is none.
    """
    found = given or (SYSTEM_PATH if SYSTEM_PATH.exists() else None)
    if found is None and search_path is not None and (named := shutil.which("trtexec", path=search_path)):
        found = Path(named)
    if found is None or not found.is_file():
        where = f"{given} is not there" if given else f"it is not at {SYSTEM_PATH}"
        if not given and search_path is not None:
            where = f"it is neither {SYSTEM_PATH} nor on the search path"
        raise EngineBuildError(
            f"route trtexec needs the program trtexec, and {where}.",
            remedy="Install TensorRT's samples (libnvinfer-bin on a Jetson), or ask for route polygraphy.",
        )
    return found.absolute()


def compose(
    trtexec: Path,
    job: BuildJob,
    model: Path,
    expression: Expression,
    *,
    plan: Path,
    layers: Path,
    has_precision_flags: bool,
    calibration_cache: Path | None = None,
    timing_cache: Path | None = None,
) -> list[str]:
    """The command line. Raises ``EngineBuildError`` for an input name that its grammar has no way to write."""
    flags = [f"--{flag.lower()}" for flag in expression.flags]
    if expression.is_strongly_typed and has_precision_flags:  # else there is no other kind, and the flag is deprecated
        flags.append("--stronglyTyped")
    if calibration_cache is not None:
        flags.append(f"--calib={calibration_cache}")
    if timing_cache is not None:
        flags.append(f"--timingCacheFile={timing_cache}")
    if job.profiles:
        flags += [f"--{size}Shapes={_shapes(job.profiles, size)}" for size in ("min", "opt", "max")]
    return [
        str(trtexec),
        f"--onnx={model}",
        f"--saveEngine={plan}",
        f"--memPoolSize=workspace:{job.workspace_mb}",
        "--noTF32",
        *flags,
        "--profilingVerbosity=detailed",
        f"--exportLayerInfo={layers}",
        "--skipInference",
    ]


def run_trtexec(
    command: Sequence[str], *, on_line: Callable[[str, str], None], on_progress: OnProgress, version: str
) -> None:
    """Run it to its end; ``on_line`` gets each line (severity, text).

    ``version``: of the library that is to load the plan. Raises ``EngineBuildError`` where the program cannot be run,
    fails, or is of another version. Its time limit is the parent's, which ends the whole process group.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise EngineBuildError(f"{command[0]} cannot be run: {error.strerror or error}.") from error
    errors: list[str] = []
    is_other = ""
    on_progress(Progress("trtexec", 0, len(_MILESTONES)))
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            match = _LINE.match(line.rstrip("\n"))
            severity, text = (_SEVERITIES[match["severity"]], match["text"]) if match else ("INFO", line.rstrip("\n"))
            on_line(severity, text)
            if "ERROR" in severity:
                errors.append(text)
            for at, words in enumerate(_MILESTONES, 1):
                if text.startswith(words):
                    on_progress(Progress("trtexec", at, len(_MILESTONES)))
            told = re.match(r"TensorRT version: ([\d.]+)", text)
            if told and not _agree(told[1], version):
                is_other = told[1]
                process.kill()
    if is_other:
        raise EngineBuildError(
            f"{command[0]} is of TensorRT {is_other}, and the library that would load its engines is {version}.",
            remedy="Name the trtexec of this TensorRT, or ask for route polygraphy.",
        )
    if process.returncode:
        said = "; ".join(dict.fromkeys(errors[-3:])) or "nothing about why"
        raise EngineBuildError(f"trtexec ended with {process.returncode}; it says: {said}.")


def _shapes(profiles: Sequence[Profile], size: str) -> str:
    return ",".join(f"{_name(profile.input)}:{describe_shape(getattr(profile, size))}" for profile in profiles)


def _name(tensor: str) -> str:
    if "," in tensor or "'" in tensor or "*" in tensor:
        raise EngineBuildError(
            f"input {tensor!r} cannot be named to trtexec, which splits at commas and quotes.",
            remedy="Ask for route polygraphy.",
        )
    return f"'{tensor}'" if ":" in tensor else tensor


def _agree(told: str, version: str) -> bool:
    return told.split(".")[:3] == version.split(".")[:3]
