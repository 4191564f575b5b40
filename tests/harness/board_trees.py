"""Made-up file systems of Jetson boards: an Orin NX on JetPack 6.2, an AGX Orin on 6.2.1, a Thor on 7.1.

Names, units and forms are those that boards were seen to have; figures and whole tables of power modes are invented. A
sensor whose power is gated is a FIFO with a silent writer, which answers EAGAIN as the kernel does.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

__all__ = ["BOOT_ID", "GATED", "Tree", "agx_orin", "orin_nx", "thor"]

GATED = "<EAGAIN>"
BOOT_ID = "5a1f0a2c-9d0c-4c53-8a36-0d5a3f6f9f11"
_GB = 1 << 20  # in kB


class Tree:
    """A root that can be changed while it is read. Gated sensors hold a descriptor each, until ``close``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._writers: dict[Path, int] = {}
        self._folders: set[Path] = set()
        weakref.finalize(self, _close, self._writers)

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def write(self, name: str, text: str | bytes | int) -> None:
        """A file below the root; ``GATED`` makes it answer EAGAIN. Text gets the kernel's newline."""
        path = self.root / name
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        if text == GATED or path in self._writers:
            self.remove(name)
        if text == GATED:
            os.mkfifo(path)
            self._writers[path] = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        elif isinstance(text, bytes):
            path.write_bytes(text)
        else:
            path.write_text(f"{text}\n", encoding="utf-8")

    def remove(self, name: str) -> None:
        path = self.root / name
        if path in self._writers:
            os.close(self._writers.pop(path))
        path.unlink(missing_ok=True)

    @contextmanager
    def changed(self, files: Mapping[str, str | bytes | int]) -> Iterator[None]:
        """The tree with these files written; what was there comes back."""
        kept: dict[str, str | bytes | None] = {}
        for name in files:
            path = self.root / name
            kept[name] = GATED if path in self._writers else path.read_bytes() if path.is_file() else None
        try:
            for name, text in files.items():
                self.write(name, text)
            yield
        finally:
            for name, was in kept.items():
                self.remove(name)
                if was is not None:
                    self.write(name, was)

    def of_type(self, folder: str, kind: str, label: str = "type") -> str:
        """The folder below ``folder`` (``sys/class/thermal``, ``sys/class/hwmon``) whose ``label`` says ``kind``."""
        for path in sorted((self.root / folder).glob(f"*/{label}")):
            if path.read_text(encoding="utf-8").strip() == kind:
                return path.parent.relative_to(self.root).as_posix()
        raise LookupError(f"{folder}: no {kind}")

    def zone(self, kind: str, milli_c: int | str) -> None:
        """Set a temperature."""
        self.write(f"{self.of_type('sys/class/thermal', kind)}/temp", milli_c)

    def cooling(self, kind: str, state: int) -> None:
        """Raise or lower a cooling device, as ``gpu-throttle-alert``."""
        self.write(f"{self.of_type('sys/class/thermal', kind)}/cur_state", state)

    def process(self, pid: int, name: str, *held: str, is_hidden: bool = False) -> None:
        """A process with these files open; a hidden one is another user's (nothing is hidden from root)."""
        self.write(f"proc/{pid}/comm", name)
        folder = self.root / f"proc/{pid}/fd"
        folder.mkdir(parents=True, exist_ok=True)
        for number, target in enumerate(("/dev/null", *held)):
            (folder / str(number)).symlink_to(target)
        if is_hidden:
            folder.chmod(0)

    def close(self) -> None:
        _close(self._writers)


def _close(writers: dict[Path, int]) -> None:
    while writers:
        os.close(writers.popitem()[1])


def orin_nx(root: Path) -> Tree:
    """Orin NX 16 GB, JetPack 6.2, mode MAXN_SUPER with id 0, clocks left to the governor, nothing running, 48 °C."""
    tree = Tree(root)
    _linux(tree, cpus=8, clusters=(0, 4), cpu_khz=1_984_000, memory_kb=16 * _GB - 700_000, nvmap_kb=181_240)
    _identity(
        tree,
        "NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
        ("nvidia,p3768-0000+p3767-0000-super", "nvidia,p3767-0000", "nvidia,tegra234"),
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025",
        {"libnvinfer10": "10.3.0.30-1+cuda12.5", "nvidia-l4t-core": "36.4.3-20250107174145"},
    )
    modes = {0: ("MAXN_SUPER", 1_173_000_000, 8), 1: ("10W", 612_000_000, 4), 2: ("15W", 612_000_000, 4),
             3: ("25W", 408_000_000, 8), 4: ("40W", 918_000_000, 8)}  # fmt: skip
    _nvpmodel(tree, modes, mode=0, cpus=8, gpu="17000000.gpu")
    _orin_heat(tree, extra=())
    _gpu(tree, "17000000.gpu", 1_173_000_000)
    tree.write("sys/kernel/nvpmodel_clk_cap/emc", 3_199_000_000)
    _ina3221(tree, 1, {"VDD_IN": (4_960, 1_120), "VDD_CPU_GPU_CV": (4_960, 104), "VDD_SOC": (4_960, 288)})
    return tree


def agx_orin(root: Path) -> Tree:
    """AGX Orin 64 GB, JetPack 6.2.1, MAXN, GPU rail-gated (as of its idle state); no rail is the module's total."""
    tree = Tree(root)
    _linux(tree, cpus=12, clusters=(0, 4, 8), cpu_khz=2_201_600, memory_kb=64 * _GB - 2_700_000, nvmap_kb=402_112)
    _identity(
        tree,
        "NVIDIA Jetson AGX Orin Developer Kit",
        ("nvidia,p3737-0000+p3701-0005", "nvidia,p3701-0005", "nvidia,tegra234"),
        "# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic, EABI: aarch64, DATE: Mon Jun 16 16:07:13 UTC 2025",
        {"libnvinfer10": "10.3.0.30-1+cuda12.5", "nvidia-l4t-core": "36.4.4-20250616085344"},
    )
    modes = {0: ("MAXN", -1, 12), 1: ("MODE_15W", 420_750_000, 4), 2: ("MODE_30W", 624_750_000, 8),
             3: ("MODE_50W", 828_750_000, 12)}  # fmt: skip
    _nvpmodel(tree, modes, mode=0, cpus=12, gpu="17000000.gpu")
    _orin_heat(tree, extra=("tboard-thermal", "tdiode-thermal"))
    tree.zone("gpu-thermal", GATED)
    _gpu(tree, "17000000.gpu", 1_300_500_000)
    tree.write("sys/kernel/nvpmodel_clk_cap/emc", 3_199_000_000)
    _ina3221(tree, 1, {"VDD_GPU_SOC": (19_000, 127), "VDD_CPU_CV": (19_000, 85), "VIN_SYS_5V0": (4_960, 949)})
    _ina3221(tree, 2, {"NC": None, "VDDQ_VDD2_1V8AO": (4_960, 162)})
    return tree


def thor(root: Path) -> Tree:
    """AGX Thor, JetPack 7.1, MAXN, its GPU rail-gated: no NvMap line in meminfo, another devfreq, a rail in microwatts."""
    tree = Tree(root)
    _linux(tree, cpus=14, clusters=(0, 4, 8), cpu_khz=2_601_000, memory_kb=122 * _GB, nvmap_kb=None)
    _identity(
        tree,
        "NVIDIA Jetson AGX Thor Developer Kit",
        ("nvidia,p4071-0000+p3834-0008", "nvidia,p3834-0008", "nvidia,tegra264"),
        "# R38 (release), REVISION: 4.0, GCID: 43443517, BOARD: generic, EABI: aarch64, DATE: Wed Dec 31 21:06:13 UTC 2025",
        {"libnvinfer10": "10.13.3.9-1+cuda13.0", "nvidia-l4t-core": "38.4.0-20251230160601"},
    )
    modes = {0: ("MAXN", -1, 14), 1: ("120W", 1_386_000_000, 12), 2: ("90W", 1_098_000_000, 12),
             3: ("70W", 864_000_000, 10)}  # fmt: skip
    _nvpmodel(tree, modes, mode=0, cpus=14, gpu="gpu-gpc-0")
    zones: dict[str, int | str] = {"tj-thermal": 46_250, "gpu-thermal": GATED, "cpu-thermal": 44_531, "soc012-thermal": 43_906,
             "soc345-thermal": 43_125}  # fmt: skip
    for number, (kind, milli_c) in enumerate(zones.items()):
        _zone(tree, number, kind, milli_c, {"critical": (114_500,)})
    names = ("cpu-throttle-alert", "gpu-throttle-alert", "soc012-throttle-alert", "soc345-throttle-alert",
             "hot-surface-alert", "devfreq-gpu-gpc-0", "cpufreq-cpu0", "pwm-fan")  # fmt: skip
    _coolers(tree, names)
    _hwmon(tree, 0, "soctherm_oc", {f"oc{n}_event_cnt": 0 for n in (1, 2, 3)})
    _fan(tree)
    _gpu(tree, "gpu-gpc-0", 1_575_000_000)
    tree.write("sys/class/devfreq/gpu-nvd-0/cur_freq", 900_000_000)
    tree.write("sys/class/devfreq/gpu-nvd-0/max_freq", 1_692_000_000)
    _ina3221(tree, 1, {"VDD_GPU": (12_000, 290), "VDD_CPU_SOC_MSS": (12_000, 610), "VIN_SYS_5V0": (5_000, 1_020)})
    _hwmon(tree, 6, "ina238", {"power1_label": "VIN", "power1_input": 31_250_000, "in1_input": 19_800})
    tree.write("dev/nvidia0", "")
    return tree


def _linux(
    tree: Tree, *, cpus: int, clusters: Iterable[int], cpu_khz: int, memory_kb: int, nvmap_kb: int | None
) -> None:
    lines = [
        f"MemTotal:       {memory_kb} kB",
        f"MemFree:        {memory_kb // 2} kB",
        f"MemAvailable:   {memory_kb - 2 * _GB} kB",
        f"Buffers:        {51_200} kB",
        f"Cached:         {memory_kb // 4} kB",
        "SwapTotal:      3905536 kB",
        "SwapFree:       3905536 kB",
        *([f"NvMapMemFree:   0 kB\nNvMapMemUsed:   {nvmap_kb} kB"] if nvmap_kb is not None else []),
    ]
    tree.write("proc/meminfo", "\n".join(lines))
    tree.write("proc/buddyinfo", "Node 0, zone      DMA     12     8     4     9     3     2     1     0     2     1   512\n"
               "Node 0, zone   Normal    931   420   377   208   110    52    31    12     8     4   803")  # fmt: skip
    tree.write("proc/uptime", "5140.22 38012.77")
    tree.write("proc/loadavg", "0.21 0.34 0.30 1/512 4711")
    tree.write("proc/sys/kernel/random/boot_id", BOOT_ID)
    tree.write("proc/self/smaps_rollup", "00400000-7fff00000000 ---p 00000000 00:00 0    [rollup]\n"
               "Rss:              128044 kB\nPss:              101377 kB\nPss_Anon:          77201 kB")  # fmt: skip
    tree.write("sys/devices/system/cpu/online", f"0-{cpus - 1}")
    for first in clusters:
        policy = f"sys/devices/system/cpu/cpufreq/policy{first}"
        tree.write(f"{policy}/scaling_min_freq", 729_600)
        tree.write(f"{policy}/scaling_max_freq", cpu_khz)
        tree.write(f"{policy}/scaling_cur_freq", 1_190_400)
        tree.write(f"{policy}/cpuinfo_max_freq", cpu_khz)
        tree.write(f"{policy}/scaling_governor", "schedutil")
    for device in ("nvhost-gpu", "nvmap"):
        tree.write(f"dev/{device}", "")


def _identity(tree: Tree, model: str, compatible: Iterable[str], release: str, packages: Mapping[str, str]) -> None:
    tree.write("proc/device-tree/model", model.encode() + b"\0")
    tree.write("proc/device-tree/compatible", "\0".join(compatible).encode() + b"\0")
    tree.write("etc/nv_tegra_release", release)
    stanzas = [
        f"Package: {name}\nStatus: install ok installed\nArchitecture: arm64\nVersion: {version}\n"
        for name, version in packages.items()
    ]
    tree.write("var/lib/dpkg/status", "\n".join(stanzas))


def _nvpmodel(tree: Tree, modes: Mapping[int, tuple[str, int, int]], *, mode: int, cpus: int, gpu: str) -> None:
    """``modes``: id to name, highest clock of the GPU in Hz (-1: the silicon's), processors online."""
    lines = ["< PARAM TYPE=FILE NAME=CPU_ONLINE >"]
    lines += [f"CORE_{core} /sys/devices/system/cpu/cpu{core}/online" for core in range(cpus)]
    lines += ["", "< PARAM TYPE=CLOCK NAME=GPU >", f"MAX_FREQ /sys/class/devfreq/{gpu}/max_freq",
              "", "< PARAM TYPE=CLOCK NAME=EMC >", "MAX_FREQ /sys/kernel/nvpmodel_clk_cap/emc"]  # fmt: skip
    for number, (name, hertz, online) in modes.items():
        lines += ["", f"< POWER_MODEL ID={number} NAME={name} >"]
        lines += [f"CPU_ONLINE CORE_{core} {int(core < online)}" for core in range(cpus)]
        lines += [f"GPU MAX_FREQ {hertz}", "EMC MAX_FREQ 0"]
    lines += ["", f"< PM_CONFIG DEFAULT={mode} >"]
    tree.write("etc/nvpmodel.conf", "\n".join(lines))
    tree.write("var/lib/nvpmodel/status", f"pmode:{mode:04d} fmode:fan_mode_quiet")


def _zone(tree: Tree, number: int, kind: str, milli_c: int | str, trips: Mapping[str, Iterable[int]]) -> None:
    folder = f"sys/class/thermal/thermal_zone{number}"
    tree.write(f"{folder}/type", kind)
    tree.write(f"{folder}/temp", milli_c)
    points = [(name, at) for name, places in trips.items() for at in places]
    for point, (name, at) in enumerate(points):
        tree.write(f"{folder}/trip_point_{point}_type", name)
        tree.write(f"{folder}/trip_point_{point}_temp", at)


def _orin_heat(tree: Tree, extra: Iterable[str]) -> None:
    zones: dict[str, int | str] = {"cpu-thermal": 48_468, "gpu-thermal": 48_562, "cv0-thermal": GATED, "cv1-thermal": GATED,
             "cv2-thermal": GATED, "soc0-thermal": 48_062, "soc1-thermal": 49_156, "soc2-thermal": 47_531}  # fmt: skip
    for number, (kind, milli_c) in enumerate(zones.items()):
        _zone(tree, number, kind, milli_c, {"passive": (99_000,), "critical": (104_500,)})
    _zone(tree, 8, "tj-thermal", 49_156, {"active": (74_000, 95_000), "critical": (104_500,)})
    for number, kind in enumerate(extra, 9):
        _zone(tree, number, kind, 41_000, {"critical": (107_000,)})
    alerts = [f"{name}-throttle-alert" for name in ("cpu", "gpu", "cv0", "cv1", "cv2", "soc0", "soc1", "soc2")]
    _coolers(tree, [*alerts, "hot-surface-alert", "pwm-fan", "cpufreq-cpu0", "cpufreq-cpu4", "devfreq-17000000.gpu"])
    counts = {"oc1_event_cnt": 0, "oc2_event_cnt": 0, "oc3_event_cnt": 12, "oc3_throt_en": 1}
    _hwmon(tree, 3, "soctherm_oc", counts)
    _fan(tree)


def _coolers(tree: Tree, kinds: Iterable[str]) -> None:
    for number, kind in enumerate(kinds):
        tree.write(f"sys/class/thermal/cooling_device{number}/type", kind)
        tree.write(f"sys/class/thermal/cooling_device{number}/cur_state", 0)
        tree.write(f"sys/class/thermal/cooling_device{number}/max_state", 1)


def _hwmon(tree: Tree, number: int, name: str, files: Mapping[str, int | str]) -> None:
    tree.write(f"sys/class/hwmon/hwmon{number}/name", name)
    for file, value in files.items():
        tree.write(f"sys/class/hwmon/hwmon{number}/{file}", value)


def _fan(tree: Tree) -> None:
    _hwmon(tree, 4, "pwmfan", {"pwm1": 76, "pwm1_enable": 1})
    _hwmon(tree, 5, "pwm_tach", {"rpm": 1636})


def _gpu(tree: Tree, name: str, highest_hz: int) -> None:
    folder = f"sys/class/devfreq/{name}"
    for file, value in (
        ("cur_freq", 306_000_000), ("min_freq", 306_000_000), ("max_freq", highest_hz), ("governor", "nvhost_podgov"),
        ("available_frequencies", f"306000000 408000000 510000000 612000000 {highest_hz}"), ("device/load", 0),
    ):  # fmt: skip
        tree.write(f"{folder}/{file}", value)


def _ina3221(tree: Tree, number: int, rails: Mapping[str, tuple[int, int] | None]) -> None:
    """Three channels in mV and mA; one that is not connected has no current. The fourth is the sum of the shunts."""
    files: dict[str, int | str] = {}
    for channel, (label, measured) in enumerate(rails.items(), 1):
        files[f"in{channel}_label"] = label
        if measured is None:
            continue
        files[f"in{channel}_input"], files[f"curr{channel}_input"] = measured
        files[f"in{channel + 3}_input"] = 5
        files[f"curr{channel}_crit"] = files[f"curr{channel}_max"] = 32_764
    files |= {"in7_label": "sum of shunt voltages", "in7_input": 15}
    _hwmon(tree, number, "ina3221", files)
