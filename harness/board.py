"""What the machine was when a row began or ended, and whether that is what was declared (T2-04, T2-03).

All of it is read without root, from the files of the kernel and of NVIDIA's ``nvpmodel``; where a discrete GPU (or a
Thor) is, NVML adds what it knows. Nothing is ever written. What is not there is ``None`` or absent, with its reason.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from harness.config import BoardConfig
from harness.instruments.trace import Frame
from harness.records import BoardState, Check, Outcome
from runtime.errors import TelemetryUnavailableError
from runtime.thermal_sources.nvml import load_nvml

__all__ = [
    "GPU_FOLDERS",
    "PowerMode",
    "SystemFiles",
    "check_state",
    "describe_difference",
    "modes_of",
    "parse_nvpmodel",
    "read_board",
]

GPU_FOLDERS = (".gpu", ".ga10b", "gpu-gpc-0")
"""How the GPU's folder below ``/sys/class/devfreq`` ends: Orin on JetPack 6 and 7, Orin on JetPack 5, Thor."""

GPU_DEVICES = re.compile(r"/dev/(nvhost-(as-|ctrl-)?gpu|nvgpu/.+|nvmap|nvidia[0-9]+)")
"""Device files that a process holds open while it has something on the GPU, or memory that the GPU can reach."""

MARGIN_C = 15.0
"""A row that begins this near to the passive trip point begins hot: methods A5's limit of a session's start."""

BUSY_PERCENT = 20.0
"""A GPU that is this busy before the row's own work begins is somebody else's."""

DESKTOP = frozenset({"Xorg", "Xwayland", "gnome-shell", "gdm3", "gdm-x-session", "lightdm", "sddm"})
"""What a desktop is called in ``/proc/PID/comm``: it cannot be ended by ``kill`` for long."""

_MODES = "power modes: "
_DISAGREES = "jtop disagrees: "
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)  # neither exists on Windows
_MOST_BYTES = 1 << 20


class SystemFiles:
    """Small files of the kernel below ``root``; what cannot be read is ``None``, with its reason in ``notes``.

    A sensor whose power is gated answers EAGAIN, which Python's own text files turn into a ``TypeError``.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self.notes: list[str] = []

    def text(self, name: str | Path) -> str | None:
        """A whole file below ``root``, its NULs at the end and white space taken off."""
        path = self.root / name
        try:
            handle = os.open(path, _FLAGS)
            try:
                data = b""
                while len(data) < _MOST_BYTES and (more := os.read(handle, 1 << 16)):
                    data += more
            finally:
                os.close(handle)
        except (OSError, ValueError) as error:
            self.notes.append(f"{self._called(path)}: {getattr(error, 'strerror', None) or error}")
            return None
        return data.decode("utf-8", "replace").strip("\0 \t\r\n")

    def number(self, name: str | Path) -> int | None:
        """A file that holds one whole number."""
        text = self.text(name)
        if text is None:
            return None
        if not re.fullmatch(r"-?[0-9]{1,19}", text):
            self.notes.append(f"{self._called(self.root / name)}: {text[:40]!r} is not a whole number")
            return None
        return int(text)

    def scaled(self, name: str | Path, divisor: float) -> float | None:
        number = self.number(name)
        return None if number is None else number / divisor

    def has(self, name: str | Path) -> bool:
        """Whether there is such a file, as far as it may be known."""
        try:
            return (self.root / name).exists()
        except OSError:  # older Pythons raise where a folder may not be looked into
            return False

    def match(self, pattern: str) -> list[Path]:
        """Paths below ``root`` that match, sorted."""
        try:
            return sorted(self.root.glob(pattern))
        except OSError as error:  # pragma: no cover - a folder that goes away while it is listed
            self.notes.append(f"{pattern}: {error.strerror}")
            return []

    def kinds(self, pattern: str, label: str) -> Iterator[tuple[Path, str]]:
        """(folder, what its file ``label`` says) for each folder that matches; those without are left out."""
        for path in self.match(pattern):
            kind = SystemFiles(self.root).text(path / label)
            if kind:
                yield path, kind

    def _called(self, path: Path) -> str:
        """The name for a note: as on the board, whatever the root is."""
        try:
            return "/" + path.relative_to(self.root).as_posix()
        except ValueError:
            return str(path)


@dataclass(frozen=True)
class PowerMode:
    """One mode of ``/etc/nvpmodel.conf``. ``None``: the mode sets no such limit (0 and -1 mean the silicon's own)."""

    id: int
    name: str
    gpu_mhz: float | None = None
    emc_mhz: float | None = None
    online_cpus: int | None = None


def parse_nvpmodel(text: str) -> dict[int, PowerMode]:
    """The modes of an ``nvpmodel.conf`` by their ids, which differ between boards. Lines of no known form are skipped."""
    modes: dict[int, PowerMode] = {}
    for section in re.split(r"^\s*<", text, flags=re.MULTILINE)[1:]:
        head = re.match(r"\s*POWER_MODEL\s+ID\s*=\s*([0-9]{1,6})\s+NAME\s*=\s*([^\s>]+)\s*>", section)
        if not head:
            continue
        settings: dict[tuple[str, str], int] = {}
        for line in section[head.end() :].splitlines():
            if entry := re.fullmatch(r"\s*(\w+)\s+(\w+)\s+(-?[0-9]{1,19})\s*", line):
                settings[entry[1], entry[2]] = int(entry[3])
        cores = [value for (name, _), value in settings.items() if name == "CPU_ONLINE"]
        mode = int(head[1])
        modes[mode] = PowerMode(
            mode,
            head[2],
            _limit_mhz(settings, "GPU"),
            _limit_mhz(settings, "EMC"),
            sum(value == 1 for value in cores) if cores else None,
        )
    return modes


def _limit_mhz(settings: Mapping[tuple[str, str], int], name: str) -> float | None:
    hertz = settings.get((name, "MAX_FREQ"), 0)
    return hertz / 1e6 if 0 < hertz < 10**11 and hertz != 2**31 - 1 else None


def modes_of(state: BoardState) -> dict[int, str]:
    """The power modes that the board has, id to name, as the state's notes hold them."""
    note = next((note for note in state.notes if note.startswith(_MODES)), _MODES)
    return {int(mode): name for mode, name in re.findall(r"([0-9]+)=(\S+)", note.removeprefix(_MODES))}


def read_board(
    root: Path = Path("/"),
    *,
    frame: Frame | None = None,
    own_pids: Collection[int] = (),
    nvml: Callable[[], Any] | None = None,
    jtop: Callable[[], Any] | None = None,
) -> BoardState:
    """The state of the machine whose file system is ``root``, now; never raises for what is missing or malformed.

    ``frame``: what the instruments said last; it fills what the files do not tell. ``own_pids``: processes of the run,
    which are no *other* processes on the GPU; on this machine, this process and its children are added. ``nvml``: loads
    ``pynvml``; by default asked on this machine alone. ``jtop``: gives jetson-stats' client (``load_jtop``), which fills what
    is missing and is held against the rest; its service takes up to a second and a half, so it is not asked by default.

    Clocks in MHz. ``caps`` also has ``mode_gpu_mhz``, ``mode_emc_mhz`` and ``mode_online_cpus``, what the power mode's own
    definition says (``nvpmodel`` in a container writes down a mode that it has not set), ``passive_c``, the temperature at
    which the kernel begins to throttle, and, of a discrete GPU, ``power_w``. EMC is 0 in its file where nothing caps it.
    """
    files = SystemFiles(root)
    known: dict[str, Any] = {}
    caps: dict[str, float] = {}
    sources = ["files of the kernel"]
    _who(files, known)
    _power_mode(files, known, caps)
    _gpu(files, known, caps)
    _cpu(files, caps)
    _heat(files, known, caps)
    _fan(files, known)
    _over_current(files, known)
    _memory(files, known)
    own = {*own_pids, *(_family() if root == Path("/") else ())}
    if nvml is None and root == Path("/"):
        nvml = load_nvml
    if nvml is not None and _ask_nvml(nvml, files, known, caps, own):
        sources.append("NVML")
    if known.get("gpu_processes") is None:
        known["gpu_processes"] = _holders(files, own)
    if jtop is not None and _ask_jtop(jtop, files, known, caps):
        sources.append("jtop")
    if frame is not None:
        _fill(known, caps, frame)
        sources.append("instruments")
    return BoardState(**known, caps=caps, source=", ".join(sources), notes=tuple(dict.fromkeys(files.notes)))


def _family() -> Iterator[int]:
    process = psutil.Process()
    yield process.pid
    with suppress(psutil.Error):
        yield from (child.pid for child in process.children(recursive=True))


def _who(files: SystemFiles, known: dict[str, Any]) -> None:
    model = SystemFiles(files.root).text("proc/device-tree/model")
    compatible = (SystemFiles(files.root).text("proc/device-tree/compatible") or "").replace("\0", " ")
    part = re.search(r"\+(p\d{4}-\d{4})", compatible) or re.search(r"nvidia,(p\d{4}-\d{4})", compatible)
    known["module"] = " ".join(filter(None, (part[1] if part else "", model))) or None
    if known["module"] is None:
        files.notes.append("module: there is no device tree here, so this is no Jetson, or a container that hides it")
    known["boot_id"] = files.text("proc/sys/kernel/random/boot_id") or None
    for name, file in (("uptime_s", "proc/uptime"), ("load_1min", "proc/loadavg")):
        text = files.text(file)
        if text is None:
            continue
        first = text.partition(" ")[0]
        if re.fullmatch(r"[0-9]{1,12}(\.[0-9]+)?", first):
            known[name] = float(first)
        else:
            files.notes.append(f"/{file}: {text[:40]!r} does not begin with a number")


def _power_mode(files: SystemFiles, known: dict[str, Any], caps: dict[str, float]) -> None:
    if known["module"] is None and not files.has("etc/nvpmodel.conf"):
        files.notes.append("power mode: this host has none (no nvpmodel)")
        return
    status = files.text("var/lib/nvpmodel/status")
    modes = parse_nvpmodel(files.text("etc/nvpmodel.conf") or "")
    if modes:
        files.notes.append(_MODES + " ".join(f"{mode.id}={mode.name}" for mode in modes.values()))
    found = re.search(r"\bpmode:\s*([0-9]{1,6})\b", status or "")
    if not found:
        if status is not None:
            files.notes.append(f"/var/lib/nvpmodel/status: no pmode in {status[:40]!r}")
        return
    known["power_mode_id"] = int(found[1])
    mode = modes.get(int(found[1]))
    if mode is None:
        files.notes.append(f"power mode: id {int(found[1])} has no name in /etc/nvpmodel.conf")
        return
    known["power_mode"] = mode.name
    for name, value in (("gpu_mhz", mode.gpu_mhz), ("emc_mhz", mode.emc_mhz), ("online_cpus", mode.online_cpus)):
        if value is not None:
            caps[f"mode_{name}"] = float(value)


def _gpu(files: SystemFiles, known: dict[str, Any], caps: dict[str, float]) -> None:
    found = [path for path in files.match("sys/class/devfreq/*") if path.name.endswith(GPU_FOLDERS)]
    if not found:
        files.notes.append("GPU clock: no GPU below /sys/class/devfreq")
        return
    gpu = found[0]
    known["clock_mhz"] = files.scaled(gpu / "cur_freq", 1e6)
    known["governor"] = files.text(gpu / "governor") or None
    lowest, highest = files.number(gpu / "min_freq"), files.number(gpu / "max_freq")
    if highest is not None and highest > 0:
        caps["gpu_mhz"] = highest / 1e6
    if lowest is not None and highest is not None:
        known["is_pinned"] = lowest == highest
    emc = files.number("sys/kernel/nvpmodel_clk_cap/emc")
    if emc is not None and emc > 0:
        caps["emc_mhz"] = emc / 1e6
    missed = SystemFiles(files.root)
    for place in (gpu / "device/load", "sys/devices/platform/gpu.0/load", "sys/devices/gpu.0/load"):
        load = missed.scaled(place, 10.0)
        if load is not None and 0 <= load <= 100:
            known["gpu_load_percent"] = load
            return
    files.notes.extend(missed.notes)


def _cpu(files: SystemFiles, caps: dict[str, float]) -> None:
    highest = [files.number(path) for path in files.match("sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq")]
    known = [number for number in highest if number is not None and number > 0]
    if known:
        caps["cpu_mhz"] = max(known) / 1e3
    elif not highest:
        files.notes.append("CPU clock: no policy below /sys/devices/system/cpu/cpufreq")
    online = files.text("sys/devices/system/cpu/online")
    if online is not None:
        count = _count_of(online)
        if count is None:
            files.notes.append(f"/sys/devices/system/cpu/online: {online[:40]!r} is no list of processors")
        else:
            caps["online_cpus"] = float(count)


def _count_of(text: str) -> int | None:
    """``0-3,6`` is 5."""
    count = 0
    for part in text.split(","):
        ends = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part.strip())
        if not ends:
            return None
        count += int(ends[2] or ends[1]) - int(ends[1]) + 1
    return count if count > 0 else None


def _heat(files: SystemFiles, known: dict[str, Any], caps: dict[str, float]) -> None:
    temperatures: dict[str, float] = {}
    trips: list[float] = []
    silent: list[str] = []
    answers = SystemFiles(files.root)
    for zone, kind in files.kinds("sys/class/thermal/thermal_zone*", "type"):
        celsius = answers.scaled(zone / "temp", 1000.0)
        if celsius is None:
            silent.append(f"{kind} ({answers.notes[-1].rpartition(': ')[2]})")
        elif -55.0 <= celsius <= 150.0:  # -256 is an offline sensor
            temperatures[kind] = max(celsius, temperatures.get(kind, celsius))
        for trip in files.match(f"{zone.relative_to(files.root)}/trip_point_*_type"):
            if files.text(trip) == "passive":
                at = files.scaled(trip.with_name(trip.name.replace("_type", "_temp")), 1000.0)
                if at is not None and 40.0 <= at <= 150.0:
                    trips.append(at)
    if silent:
        files.notes.append(f"temperatures: no answer, as of a sensor whose power is gated, from {', '.join(silent)}")
    if not temperatures:
        files.notes.append("temperatures: no zone below /sys/class/thermal answers")
    known["temperatures_c"] = temperatures
    for name in ("cpu", "gpu"):
        found = [
            value for kind, value in temperatures.items() if re.fullmatch(rf"{name}([-_]therm(al)?)?", kind.lower())
        ]
        known[f"{name}_temp_c"] = max(found, default=None)
    if trips:
        caps["passive_c"] = min(trips)
    alerts = [
        files.number(path / "cur_state") for path, kind in files.kinds(_COOLING, "type") if kind.endswith("-alert")
    ]
    if any(state is not None for state in alerts):
        known["throttled"] = any(state is not None and state > 0 for state in alerts)
    else:
        files.notes.append("throttled: no throttle alert among the cooling devices of /sys/class/thermal")


_COOLING = "sys/class/thermal/cooling_device*"


def _fan(files: SystemFiles, known: dict[str, Any]) -> None:
    for hwmon, name in files.kinds("sys/class/hwmon/hwmon*", "name"):
        if name == "pwmfan" and files.has(hwmon / "pwm1"):
            known["fan_pwm"] = files.scaled(hwmon / "pwm1", 1.0)
        for rpm in ("rpm", "fan1_input"):
            if known.get("fan_rpm") is None and files.has(hwmon / rpm) and ("fan" in name or "tach" in name):
                known["fan_rpm"] = files.scaled(hwmon / rpm, 1.0)
    if known.get("fan_rpm") is None and known.get("fan_pwm") is None:
        files.notes.append("fan: no pwmfan or pwm_tach below /sys/class/hwmon")


def _over_current(files: SystemFiles, known: dict[str, Any]) -> None:
    counters = [
        files.number(path)
        for hwmon, name in files.kinds("sys/class/hwmon/hwmon*", "name")
        if name == "soctherm_oc"
        for path in files.match(f"{hwmon.relative_to(files.root)}/oc*_event_cnt")
    ]
    if not counters:
        files.notes.append("over-current events: no soctherm_oc below /sys/class/hwmon")
    elif None not in counters:  # a sum that leaves one out would rise when it comes back
        known["oc_events"] = sum(count for count in counters if count is not None)


def _memory(files: SystemFiles, known: dict[str, Any]) -> None:
    text = files.text("proc/meminfo")
    found = re.search(r"^MemAvailable:\s+([0-9]{1,15}) kB$", text or "", re.MULTILINE)
    if found:
        known["available_bytes"] = int(found[1]) * 1024
    elif text is not None:
        files.notes.append("/proc/meminfo: no MemAvailable")


def _ask_nvml(
    load: Callable[[], Any], files: SystemFiles, known: dict[str, Any], caps: dict[str, float], own: Collection[int]
) -> bool:
    """Fill in what NVML says of its first GPU; each call stands alone. False where there is no NVML."""
    try:
        library = load()
        library.nvmlInit()
    except TelemetryUnavailableError as error:
        files.notes.append(f"NVML: {error}")
        return False
    except Exception as error:  # NVMLError is made by the library that may be missing
        files.notes.append(f"NVML: {error}")
        return False

    def ask(call: str, *arguments: Any) -> Any:
        try:
            return getattr(library, call)(*arguments)
        except Exception as error:
            files.notes.append(f"{call}: {error}")
            return None

    try:
        device = ask("nvmlDeviceGetHandleByIndex", 0)
        if device is None:
            return False
        if known.get("gpu_temp_c") is None:
            known["gpu_temp_c"] = _float(ask("nvmlDeviceGetTemperature", device, 0))
        if known.get("clock_mhz") is None:
            known["clock_mhz"] = _float(ask("nvmlDeviceGetClockInfo", device, 0))
            use = ask("nvmlDeviceGetUtilizationRates", device)
            known["gpu_load_percent"] = _float(getattr(use, "gpu", None))
            limits = {"gpu_mhz": ask("nvmlDeviceGetMaxClockInfo", device, 0)}
            limits["passive_c"] = ask("nvmlDeviceGetTemperatureThreshold", device, 1)
            watts = _float(ask("nvmlDeviceGetEnforcedPowerLimit", device))
            limits["power_w"] = None if watts is None else watts / 1000
            for name, value in limits.items():
                number = _float(value)
                if number:
                    caps.setdefault(name, number)
        processes = ask("nvmlDeviceGetComputeRunningProcesses", device)
        if processes is not None:
            known["gpu_processes"] = _named(files, [int(process.pid) for process in processes], own)
        return True
    finally:
        ask("nvmlShutdown")


def _ask_jtop(load: Callable[[], Any], files: SystemFiles, known: dict[str, Any], caps: dict[str, float]) -> bool:
    """Hold what jetson-stats says against the files, and take from it what they do not tell. False where it says nothing."""
    try:
        with load()(interval=0.5) as client, closing(client):  # leaving jetson-stats 4.3 by itself ends no thread
            if not client.ok():
                files.notes.append("jtop: its service sends nothing")
                return False
            mode, zones = getattr(client, "nvpmodel", None), dict(client.temperature)
            gpus = [dict(value) for _, value in client.gpu.items()]
            pinned = getattr(client, "jetson_clocks", None)
    except Exception as error:  # JtopException, and what sockets and pickles raise beneath it
        files.notes.append(f"jtop: {' '.join(str(error).split())}")
        return False
    clocks: Mapping[str, Any] = next((gpu["freq"] for gpu in gpus if gpu.get("freq")), {})
    gpu = dict(zones.get("gpu") or {})
    told = {
        "power_mode": getattr(mode, "name", None),
        "power_mode_id": getattr(mode, "id", None),
        "is_pinned": None if pinned is None else bool(pinned),
        "governor": clocks.get("governor"),
        "gpu_temp_c": _float(gpu.get("temp")) if gpu.get("online") else None,
    }
    for name, theirs in told.items():
        ours = known.get(name)
        if ours is None:
            known[name] = theirs
        elif theirs is not None and not _agrees(ours, theirs):
            files.notes.append(f"{_DISAGREES}{name} is {_said(theirs)} for jtop, and {_said(ours)} by the files")
    highest_khz = _float(clocks.get("max"))
    if highest_khz:
        cap = caps.setdefault("gpu_mhz", highest_khz / 1e3)
        if not _is_near(cap, highest_khz / 1e3):
            files.notes.append(f"{_DISAGREES}gpu_mhz is {highest_khz / 1e3:g} for jtop, and {cap:g} by the files")
    return True


def _agrees(ours: Any, theirs: Any) -> bool:
    """Temperatures move between two readings; all else is the same or is not."""
    if isinstance(ours, float) and isinstance(theirs, int | float):
        return abs(ours - theirs) <= 5.0
    return bool(ours == theirs)


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _named(files: SystemFiles, pids: list[int], own: Collection[int]) -> tuple[str, ...] | None:
    """``None`` where the driver names processes that this PID namespace does not have: one of them may be this one."""
    others = [pid for pid in pids if pid not in own]
    names = {pid: SystemFiles(files.root).text(f"proc/{pid}/comm") for pid in others}
    if own and pids and all(name is None for name in names.values()) and not set(pids) & set(own):
        files.notes.append("processes on the GPU: the driver's process ids are not those of this PID namespace")
        return None
    return tuple(f"{pid} {names[pid] or '?'}" for pid in sorted(others))


def _holders(files: SystemFiles, own: Collection[int]) -> tuple[str, ...] | None:
    """The processes on a Jetson's GPU: NvMap's clients for root, else those of this user that hold its device files."""
    clients = SystemFiles(files.root).text("sys/kernel/debug/nvmap/iovmm/clients")
    if clients is not None:
        found = re.findall(r"^\s*user\s+(\S.*?)\s+([0-9]{1,10})\s+[0-9]+K?\s*$", clients, re.MULTILINE)
        return tuple(f"{pid} {name}" for name, pid in found if int(pid) not in own)
    if not any(files.has(f"dev/{name}") for name in ("nvhost-gpu", "nvgpu", "nvmap", "nvidia0")):
        files.notes.append("processes on the GPU: no device file of a GPU in /dev")
        return None
    holders: list[str] = []
    hidden = 0
    for process in files.match("proc/[0-9]*"):
        if not process.name.isdecimal() or int(process.name) in own:
            continue
        try:
            links = [str(link.readlink()) for link in (process / "fd").iterdir()]
        except PermissionError:
            hidden += 1
            continue
        except OSError:  # it ended meanwhile
            continue
        if any(GPU_DEVICES.fullmatch(link) for link in links):
            holders.append(f"{process.name} {SystemFiles(files.root).text(process / 'comm') or '?'}")
    if hidden and not holders:
        files.notes.append(
            f"processes on the GPU: none of this user's; the files of {hidden} others can be seen by root alone"
        )
        return None
    if hidden:
        files.notes.append(f"processes on the GPU: those of this user; the files of {hidden} others are hidden")
    return tuple(holders)


def _fill(known: dict[str, Any], caps: dict[str, float], frame: Frame) -> None:
    names = {
        "cpu_temp_c": "cpu_temp_c", "gpu_temp_c": "gpu_temp_c", "clock_mhz": "gpu_clock_mhz", "fan_rpm": "fan_rpm",
        "fan_pwm": "fan_pwm", "gpu_load_percent": "gpu_load_percent", "available_bytes": "available_bytes",
    }  # fmt: skip
    for ours, theirs in names.items():
        value = frame.values.get(theirs)
        if known.get(ours) is None and value is not None and math.isfinite(value):
            known[ours] = int(value) if ours == "available_bytes" else value
    for cap in ("gpu", "emc"):
        if f"{cap}_cap_mhz" in frame.values:
            caps.setdefault(f"{cap}_mhz", frame.values[f"{cap}_cap_mhz"])
    if frame.alerts:
        known["throttled"] = True


def check_state(
    declared: BoardConfig | None,
    start: BoardState,
    end: BoardState,
    *,
    before: BoardState | None = None,
    hot_start_c: float | None = None,
    own_pids: Collection[int] = (),
    needs_pinned: bool = False,
    elapsed_ns: int | None = None,
) -> tuple[Check, ...]:
    """One INCONCLUSIVE check for each thing that makes the row's figures those of another board than was declared.

    ``start``: read before the row's own work. ``before``: read earlier, with nothing of the run on the GPU: over-current
    events that were counted between the two are somebody else's. ``hot_start_c``: a start above it is hot; by default
    15 °C under the passive trip point (``math.inf`` where the row begins hot on purpose). ``needs_pinned``: the profile
    judges only pinned clocks. ``elapsed_ns``: on the monotonic clock, which stands still while the machine sleeps.

    Caps that sank while the board throttled are heat's doing, and no change of its state. Of a host that is no Jetson, and
    of which nothing is declared, only a boot or a sleep in mid-run is told.
    """
    found = [*_same_boot(start, end, elapsed_ns)]
    if declared is None and not _is_jetson(start):
        return tuple(found)
    found += [
        *_as_declared(declared, start, end),
        *_caps_of_mode(declared, start),
        *_caps_kept(start, end),
        *_alone(start, end, own_pids),
        *_cold(start, hot_start_c),
        *_unpinned(start, end, needs_pinned),
        *_agreeing(start),
    ]
    if before is not None:
        found += _over_current_before(before, start)
    return tuple(found)


def _check(name: str, reason: str) -> Check:
    return Check(f"board: {name}", Outcome.INCONCLUSIVE, reason)


def _over_current_before(before: BoardState, start: BoardState) -> Iterator[Check]:
    then, now = before.oc_events, start.oc_events
    if before.boot_id == start.boot_id and then is not None and now is not None and now > then:
        yield _check(
            "over-current",
            f"over-current events were counted before the row began: {then}, then {now}. "
            "Stop what loads the board, or feed it with a supply that holds its peaks.",
        )


def _same_boot(start: BoardState, end: BoardState, elapsed_ns: int | None) -> Iterator[Check]:
    if start.boot_id and end.boot_id and start.boot_id != end.boot_id:
        yield _check(
            "boot", f"the board was booted in mid-run (boot {start.boot_id}, then {end.boot_id}). Run the row again."
        )
    elif elapsed_ns is not None and start.uptime_s is not None and end.uptime_s is not None:
        asleep_s = end.uptime_s - start.uptime_s - elapsed_ns / 1e9
        if asleep_s > 1.0 + 0.01 * elapsed_ns / 1e9:
            yield _check(
                "suspend",
                f"the machine slept for about {asleep_s:.0f} s in mid-run. Run the row again under "
                "`systemd-inhibit --what=sleep trigate run ...`.",
            )


def _is_jetson(state: BoardState) -> bool:
    name = state.module or ""
    return state.power_mode_id is not None or "jetson" in name.lower() or bool(re.search(r"\bp[0-9]{4}-[0-9]{4}", name))


def _is_named(wanted: str, name: str | None) -> bool:
    """AGX Orin calls its 30 W mode ``MODE_30W``; Orin NX ``30W``."""
    return name is not None and wanted.upper().removeprefix("MODE_") == name.upper().removeprefix("MODE_")


def _mode(state: BoardState) -> str:
    if state.power_mode_id is None and state.power_mode is None:
        return "unknown"
    if state.power_mode_id is None:
        return str(state.power_mode)
    return f"{state.power_mode or 'a mode without a name'} (id {state.power_mode_id})"


def _set_mode(wanted: str, state: BoardState) -> str:
    """The command for a mode by name. Ids differ between boards: where the board's own are not known, how to see them."""
    number = next((mode for mode, name in modes_of(state).items() if _is_named(wanted, name)), None)
    if number is not None:
        return f"`sudo nvpmodel -m {number}`"
    known = ", ".join(name for name in modes_of(state).values())
    hint = f"; this board has {known}" if known else ""
    return f"`sudo nvpmodel -m ID`, with the ID of {wanted} from `grep POWER_MODEL /etc/nvpmodel.conf`{hint}"


def _as_declared(declared: BoardConfig | None, start: BoardState, end: BoardState) -> Iterator[Check]:
    wanted = declared.power_mode if declared else ""
    module = start.module or ""
    if declared and declared.module not in module:
        yield from _of_another_module(declared, start)
    if not _is_jetson(start) and not wanted:
        return
    if _mode(start) == "unknown":
        expected = f", and {wanted} is declared" if wanted else ""
        yield _check(
            "power mode",
            f"the power mode is unknown{expected} ({_why(start, 'power mode', 'nvpmodel', 'module')}). See "
            "`sudo nvpmodel -q`; into a container mount /var/lib/nvpmodel and /etc/nvpmodel.conf (-v ...:ro).",
        )
        return
    if wanted and not _is_named(wanted, start.power_mode):
        yield _check(
            "power mode",
            f"the power mode is {_mode(start)}, and board {declared.name if declared else ''} declares {wanted}: "
            f"{_set_mode(wanted, start)}.",
        )
    if _mode(end) != _mode(start):
        back = _set_mode(wanted or start.power_mode or "", start)
        yield _check(
            "power mode",
            f"the power mode was {_mode(start)} and became {_mode(end)} in mid-run: {back}, and run again.",
        )


def _of_another_module(declared: BoardConfig, start: BoardState) -> Iterator[Check]:
    """A Jetson that tells nothing of its module (in a container) is believed to be the named one; no other machine is."""
    if start.module and re.search(r"\bp[0-9]{4}-[0-9]{4}", start.module):
        yield _check(
            "module",
            f"this is {start.module}, and board {declared.name} declares module {declared.module}. "
            "Run on that board, or name this one with --board.",
        )
    elif not _is_jetson(start):
        yield _check(
            "module",
            f"nothing shows that this machine ({start.module or 'no module is known'}) is board {declared.name}, module "
            f"{declared.module}. Run on that board; without --board its budgets do not apply here, and rows are MEASURED. Into a "
            "container on it mount /proc/device-tree and /etc/nvpmodel.conf (-v ...:ro).",
        )


def _why(state: BoardState, *words: str) -> str:
    """The first of the state's notes that is about one of ``words``."""
    return next(
        (note for word in words for note in state.notes if word in note and not note.startswith(_MODES)),
        "no reason is noted",
    )


def _set_again(state: BoardState) -> str:
    return f"`sudo nvpmodel -m {state.power_mode_id}` sets it again (a reboot, where nvpmodel asks for one)"


def _caps_of_mode(declared: BoardConfig | None, start: BoardState) -> Iterator[Check]:
    if declared and declared.power_mode and not _is_named(declared.power_mode, start.power_mode):
        return  # another mode is to be set anyway
    for name, unit in (("gpu_mhz", "MHz"), ("emc_mhz", "MHz"), ("online_cpus", "processors")):
        stated, real = start.caps.get(f"mode_{name}"), start.caps.get(name)
        if stated is None or real is None or _is_near(stated, real):
            continue
        if not (start.throttled and real < stated):
            yield _check(
                "caps",
                f"power mode {_mode(start)} says {name} {stated:g} {unit}, and the kernel says {real:g}: {_set_again(start)}.",
            )


def _caps_kept(start: BoardState, end: BoardState) -> Iterator[Check]:
    for name in sorted(set(start.caps) | set(end.caps)):
        if name.startswith("mode_") or name == "passive_c":
            continue
        then, now = start.caps.get(name), end.caps.get(name)
        if then is None or now is None or _is_near(then, now):
            continue
        cooler, hotter = (start, end) if then > now else (end, start)
        if name in ("gpu_mhz", "cpu_mhz") and hotter.throttled and not cooler.throttled:
            continue
        how = _set_again(start) if start.power_mode_id is not None else "find what sets it, and run again"
        yield _check("caps", f"the cap {name} was {then:g} and became {now:g} in mid-run: {how}.")


def _is_near(a: float, b: float) -> bool:
    return abs(a - b) <= 0.02 * max(abs(a), abs(b))


def _alone(start: BoardState, end: BoardState, own_pids: Collection[int]) -> Iterator[Check]:
    own = {str(pid) for pid in own_pids}
    seen = dict.fromkeys((*(start.gpu_processes or ()), *(end.gpu_processes or ())))
    others = [entry for entry in seen if entry.partition(" ")[0] not in own]
    if others:
        desktop = any(entry.partition(" ")[2] in DESKTOP for entry in others)
        pids = " ".join(entry.partition(" ")[0] for entry in others)
        mend = "`sudo systemctl isolate multi-user.target` ends the desktop" if desktop else f"`kill {pids}`"
        yield _check(
            "processes", f"{len(others)} other process{'es' if len(others) > 1 else ''} on the GPU, and none was expected: "
            f"{', '.join(others[:5])}{', ...' if len(others) > 5 else ''}. {mend}.",
        )  # fmt: skip
    elif start.gpu_processes is None and (start.gpu_load_percent or 0) >= BUSY_PERCENT:
        yield _check(
            "processes",
            f"the GPU was {start.gpu_load_percent:.0f} % busy before the row began, under {BUSY_PERCENT:.0f} % was expected, and "
            "whose work it is only root can see: `sudo cat /sys/kernel/debug/nvmap/iovmm/clients`, and stop it.",
        )


def _cold(start: BoardState, hot_start_c: float | None) -> Iterator[Check]:
    hottest = max((value for value in (start.gpu_temp_c, start.cpu_temp_c) if value is not None), default=None)
    limit = start.caps.get("passive_c", math.inf) - MARGIN_C if hot_start_c is None else hot_start_c
    wait = f"Wait until GPU and CPU are under {min(limit, 50.0):.0f} °C (`cat /sys/class/thermal/thermal_zone*/temp`)."
    if start.throttled:
        at = f" at {hottest:.0f} °C" if hottest is not None else ""
        yield _check("hot start", f"the board was already throttled{at} when the row began. {wait}")
    elif hottest is not None and hottest >= limit:
        yield _check("hot start", f"the row began at {hottest:.0f} °C, and under {limit:.0f} °C was expected. {wait}")


def _unpinned(start: BoardState, end: BoardState, needs_pinned: bool) -> Iterator[Check]:
    if needs_pinned and start.is_pinned is False:
        yield _check(
            "clocks",
            f"the GPU's clock is not pinned (governor {start.governor or 'unknown'}), and this profile needs it to be: "
            "`sudo jetson_clocks`.",
        )
    elif start.is_pinned is not None and end.is_pinned is not None and start.is_pinned != end.is_pinned:
        if start.throttled or end.throttled:
            return
        words = ("pinned", "left to its governor") if start.is_pinned else ("left to its governor", "pinned")
        yield _check(
            "clocks",
            f"the GPU's clock was {words[0]} and then {words[1]} in mid-run: `sudo jetson_clocks`, and run again.",
        )
    elif start.governor and end.governor and start.governor != end.governor:
        yield _check(
            "clocks", f"the GPU's governor was {start.governor} and became {end.governor} in mid-run. Run again."
        )


def _agreeing(start: BoardState) -> Iterator[Check]:
    words = [note.removeprefix(_DISAGREES) for note in start.notes if note.startswith(_DISAGREES)]
    if words:
        yield _check(
            "instruments",
            f"two instruments disagree: {'; '.join(words)}. `sudo systemctl restart jtop`, and run again.",
        )


def describe_difference(a: BoardState, b: BoardState) -> list[str]:
    """In what the boards of two runs differ, as far as latency can come of it; empty where they are the same board.

    Modes are compared by name *and* caps: an id means another mode on another board, and a name other caps.
    """
    found = []
    for name, mine, theirs in (
        ("module", a.module, b.module),
        ("power mode", a.power_mode, b.power_mode),
        ("clocks pinned", a.is_pinned, b.is_pinned),
        ("governor", a.governor, b.governor),
        ("throttled", a.throttled, b.throttled),
    ):
        if mine != theirs:
            found.append(f"{name}: {_said(mine)} and {_said(theirs)}")
    for name in sorted(set(a.caps) | set(b.caps)):
        one, other = a.caps.get(name), b.caps.get(name)
        if one is None or other is None or not _is_near(one, other):
            found.append(f"cap {name}: {_said(one)} and {_said(other)}")
    if a.gpu_temp_c is not None and b.gpu_temp_c is not None and abs(a.gpu_temp_c - b.gpu_temp_c) > 10:
        found.append(f"GPU temperature: {a.gpu_temp_c:.0f} °C and {b.gpu_temp_c:.0f} °C")
    if (a.gpu_processes or ()) != (b.gpu_processes or ()):
        found.append(f"other processes on the GPU: {_said(a.gpu_processes)} and {_said(b.gpu_processes)}")
    return found


def _said(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
