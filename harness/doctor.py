"""``trigate doctor``: what this host is, what can run here, and what stands in the way with the command that mends it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.host import availability, environment
from runtime.errors import TelemetryUnavailableError
from runtime.libraries import LIBRARIES
from runtime.platform import HostTuple, detect_host
from runtime.thermal_sources import choose_source

__all__ = ["Examination", "Trial", "examine"]

PACKAGES = ("runtime", "harness", "tiers", "fixtures", "reports")
IMPORT_TIMEOUT_S = 120
DESKTOP = frozenset({"Xorg", "Xwayland", "gdm3", "gdm-x-session", "gdm-wayland-ses", "gnome-shell", "lightdm", "sddm"})
"""Process names of display managers and what they start, as ``/proc/PID/comm`` has them (15 letters at most)."""

_ONE_NODE = (
    "08083a350a0e0a01780a017812017922034164641201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a020801"
    "42040a00100d"
)
"""An ONNX model of IR 8 and opset 13: y = x + x, float32 [1]."""

_TRY = {
    "pytorch_fp16": (
        "import torch\n"
        "print(torch.__version__, 'CUDA', torch.version.cuda or 'none')\n"
        "if torch.cuda.is_available():\n"
        "    assert float((torch.ones(1, device='cuda') + 1).cpu()) == 2.0\n"
        "    print('kernel ran on', torch.cuda.get_device_name(0))\n"
        "else:\n"
        "    print('no CUDA device: the CPU only')\n"
    ),
    "onnx_trt_ep": (
        "import os, sys\n"
        "told = os.dup(1)\n"
        "os.dup2(2, 1)\n"  # providers print as they load: only our own words are for standard output
        "import numpy, onnxruntime\n"
        "onnxruntime.set_default_logger_severity(4)\n"
        f"one_node = bytes.fromhex('{_ONE_NODE}')\n"
        "found = {}\n"
        "for name in onnxruntime.get_available_providers():\n"
        "    if name in ('TensorrtExecutionProvider', 'CUDAExecutionProvider', 'CPUExecutionProvider'):\n"
        "        try:\n"
        "            session = onnxruntime.InferenceSession(one_node, providers=[name], enable_fallback=0)\n"
        "            session.disable_fallback()\n"
        "            session.run(None, {'x': numpy.ones(1, numpy.float32)})\n"
        "            found[name] = name in session.get_providers()\n"
        "        except Exception:\n"
        "            found[name] = False\n"
        "loads = [name.removesuffix('ExecutionProvider') for name, does in found.items() if does]\n"
        "fails = [name.removesuffix('ExecutionProvider') for name, does in found.items() if not does]\n"
        "words = onnxruntime.__version__ + ', loads: ' + (' '.join(loads) or 'none')\n"
        "words += '; compiled in, and does not load: ' + ' '.join(fails) if fails else ''\n"
        "os.write(told, words.encode())\n"
        "sys.exit(0 if loads else 'no provider of ONNX Runtime loads: ' + words)\n"
    ),
    "tensorrt": (
        "import pathlib, sys, tempfile\n"
        "import numpy\n"
        "from runtime import BuildConfig, RuntimeConfig\n"
        "from runtime.strategies.trt import TensorrtRuntime\n"
        "from runtime.strategies.trt_library import load_library\n"
        "able = load_library().capabilities\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    model = pathlib.Path(folder, 'one.onnx')\n"
        f"    model.write_bytes(bytes.fromhex('{_ONE_NODE}'))\n"
        "    runtime = TensorrtRuntime(RuntimeConfig('tensorrt', engine_cache_dir=pathlib.Path(folder)))\n"
        "    handle = runtime.deserialize_engine(runtime.compile_engine(model, BuildConfig('fp32')))\n"
        "    assert float(runtime.infer(handle, {'x': numpy.ones(1, numpy.float32)})['y'][0]) == 2.0\n"
        "    runtime.release_engine(handle)\n"
        "print(able.product, able.version, 'built and ran an engine of one node')\n"
    ),
}
"""What a fresh interpreter runs for each runtime. An importable GPU wheel may still be unable to run a kernel."""


@dataclass(frozen=True)
class Trial:
    """One runtime, tried: ``works``, what it said, and how to mend it."""

    runtime: str
    works: bool
    said: str
    remedy: str = ""


@dataclass(frozen=True)
class Examination:
    """Facts, trials, and what stands in the way: (what is wrong, what to do)."""

    facts: Mapping[str, str]
    trials: tuple[Trial, ...]
    telemetry: str
    obstacles: tuple[tuple[str, str], ...]
    tiers: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return {
            "facts": dict(self.facts),
            "runtimes": {t.runtime: {"works": t.works, "said": t.said, "remedy": t.remedy} for t in self.trials},
            "telemetry": self.telemetry,
            "tiers": dict(self.tiers),
            "obstacles": [{"wrong": wrong, "mend": mend} for wrong, mend in self.obstacles],
        }

    def to_text(self) -> str:
        lines = ["This host"]
        lines += [f"  {key:<18} {value}" for key, value in self.facts.items()]
        lines += ["Runtimes"]
        for trial in self.trials:
            lines.append(f"  {trial.runtime:<14} {'works' if trial.works else 'NO   '}  {trial.said}")
            if trial.remedy:
                lines.append(f"  {'':<14}        {trial.remedy}")
        lines += ["Telemetry", f"  {self.telemetry}", "Tiers"]
        lines += [f"  {tier:<14} {words}" for tier, words in self.tiers.items()]
        lines += ["In the way"] if self.obstacles else ["Nothing stands in the way."]
        for wrong, mend in self.obstacles:
            lines += [f"  - {wrong}", f"    {mend}"]
        return "\n".join(lines)


def examine(root: Path, environ: Mapping[str, str], *, python: str = sys.executable) -> Examination:
    """Look at the host under ``root``; libraries are tried in fresh interpreters of ``python`` where ``root`` is ours."""
    host = detect_host(root)
    here = root == Path("/")
    trials = tuple(_try(label, environ, python) for label in LIBRARIES) if here else ()
    telemetry, why_no_telemetry = _telemetry(root)
    obstacles = [
        *_interpreter(host),
        *_shadowed(),
        *_platform(root, host),
        *[(trial.said, trial.remedy) for trial in trials if not trial.works],
    ]
    if why_no_telemetry and host.jetpack != "none":
        obstacles.append(
            (why_no_telemetry, "Read /sys from inside the container (-v /sys:/sys:ro), or run on the board itself.")
        )
    return Examination(
        facts=environment(host) if here else _facts_of(host),
        trials=trials,
        telemetry=telemetry or f"none: {why_no_telemetry}",
        obstacles=tuple(obstacles),
        tiers=_tiers(host, trials),
    )


def _try(label: str, environ: Mapping[str, str], python: str) -> Trial:
    state = availability(environ)[label]
    if not state.can_try:
        return Trial(label, False, state.reason, state.remedy)
    try:
        done = subprocess.run(
            [python, "-c", _TRY[label]],
            capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S, check=False, env=dict(environ),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Trial(label, False, f"trying {label} took over {IMPORT_TIMEOUT_S} s", "Look for a hung driver.")
    except OSError as error:
        return Trial(label, False, f"{python} cannot be started: {error.strerror}", "Name a Python interpreter.")
    if done.returncode == 0:
        return Trial(label, True, ", ".join(done.stdout.split("\n")).strip(", "))
    return Trial(label, False, f"its library cannot be used: {_last_words(done)}", _mend(done.stderr))


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    """The exception without its traceback, in full: an ImportError of several lines keeps its middle."""
    if done.returncode < 0:
        return f"it ended by signal {-done.returncode}"
    lines = [line for line in done.stderr.strip().splitlines() if not line.startswith(("Traceback", " "))]
    return "\n".join(lines) or f"it ended with exit code {done.returncode}"


def _mend(said: str) -> str:
    """The known causes, in plain language (facts 1.1, 4.1, 5.2)."""
    if "libnvdla_compiler" in said:
        return (
            "The package nvidia-l4t-dla-compiler is missing: sudo apt-get install nvidia-l4t-dla-compiler. In a JetPack 6 \
container on a JetPack 7 host it cannot be had: use a container of the host's JetPack."
        )
    if "no kernel image" in said:
        return "This wheel has no code for this GPU. On a Jetson take torch from the Jetson's own index."
    if "libnvinfer" in said or "libcudnn" in said or "libcublas" in said:
        return (
            "A library that it links to is not found: install TensorRT, CUDA and cuDNN of the versions that it names."
        )
    return "Read the error above; `python -c 'import ...'` shows it again."


def _telemetry(root: Path) -> tuple[str, str]:
    try:
        source = choose_source(
            root, name="auto" if root == Path("/") else "sysfs"
        )  # NVML would answer for this machine
        source.read()
    except TelemetryUnavailableError as error:
        return "", str(error)
    source.close()
    return type(source).__name__, ""


def _interpreter(host: HostTuple) -> list[tuple[str, str]]:
    expected = {"5": (3, 8), "6": (3, 10), "7": (3, 12)}.get(host.jetpack.partition(".")[0])
    if expected is None or sys.version_info[:2] == expected:
        return []
    ours, theirs = (".".join(map(str, version)) for version in (sys.version_info[:2], expected))
    return [
        (
            f"this is Python {ours}, and JetPack {host.jetpack} ships its libraries for Python {theirs} alone",
            "Start with: /usr/bin/python3 -m venv --system-site-packages .venv",
        )
    ]


def _shadowed() -> list[tuple[str, str]]:
    """A folder of the user's that is called like one of our packages, and comes first."""
    found = []
    ours = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is not None and origin.parent.parent != ours:
            found.append(
                (f"`import {name}` finds {origin}, not trigate's own", "Run from another folder, or rename that one.")
            )
    return found


def _platform(root: Path, host: HostTuple) -> list[tuple[str, str]]:
    if host.l4t == "none":
        return []
    found = []
    in_container = (root / ".dockerenv").exists() or (root / "run/.containerenv").exists()
    if in_container and not (root / "etc/nv_tegra_release").exists():
        found.append(
            (
                "the container does not show /etc/nv_tegra_release",
                "Mount it: -v /etc/nv_tegra_release:/etc/nv_tegra_release:ro",
            )
        )
    elif host.l4t == "unknown":
        found.append(
            (
                "no L4T release is found, so the JetPack is unknown",
                "Look for /etc/nv_tegra_release, or the package nvidia-l4t-core.",
            )
        )
    if host.jetpack == "unknown" and host.l4t != "unknown":
        found.append(
            (
                f"L4T {host.l4t} is not in our table, so its JetPack is unknown",
                "Engines are decided by their other fields.",
            )
        )
    if _has_desktop(root):
        found.append(("a desktop is running: it takes GPU time and memory", "sudo systemctl isolate multi-user.target"))
    return found


def _has_desktop(root: Path) -> bool:
    if any((root / "tmp/.X11-unix").glob("X*")):
        return True
    for comm in (root / "proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text(errors="replace").strip() in DESKTOP:
                return True
        except OSError:  # it ended meanwhile
            continue
    return False


def _facts_of(host: HostTuple) -> dict[str, str]:
    names = ("sm", "jetpack", "trt", "l4t", "module")
    return {name: value for name in names if (value := getattr(host, name))}


def _tiers(host: HostTuple, trials: tuple[Trial, ...]) -> dict[str, str]:
    working = [trial.runtime for trial in trials if trial.works]
    can = f"runs ({', '.join(working)})" if working else "nothing can run: install a runtime"
    board = "a board" if host.jetpack != "none" else "latency is measured, and judged by no budget: this is no board"
    return {"tier 0": "runs (any machine)", "tier 1": can, "tier 2": board}
