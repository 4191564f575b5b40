"""Assumptions about the files of a Jetson's kernel, and of NVIDIA's tools beside it."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from pathlib import Path

from harness.board import GPU_FOLDERS, PowerMode, parse_nvpmodel
from harness.probes import Finding, Host, Probe, ok, unknown, wrong
from harness.words import counted
from runtime.platform import JETPACK_OF_L4T

__all__ = ["KNOWN_ZONES", "PROBES", "TOTAL_RAILS"]

KNOWN_ZONES = re.compile(r"(cpu|gpu|cv[0-2]|soc[0-2]|tj|tboard|tdiode|soc012|soc345)-thermal")
TOTAL_RAILS = ("VDD_IN", "VIN", "POM_5V_IN")
"""Rails that carry all of the module; a board without one has its rails summed."""

SUMMED_RAILS = frozenset({"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO", "VDD_GPU", "VDD_CPU_SOC_MSS"})
_LATENCY = ("latency", "flight", "heat")
_NO_JETSON = "this is no Jetson"


def _jetpack_of_l4t(host: Host) -> Finding:
    if not host.is_jetson:
        return unknown(_NO_JETSON)
    l4t, jetpack = host.identity.l4t, host.identity.jetpack
    if l4t == "unknown":
        return unknown("neither /etc/nv_tegra_release nor the package nvidia-l4t-core is there")
    if l4t not in JETPACK_OF_L4T:
        return wrong(f"L4T {l4t} is not in the table", l4t=l4t)
    status = host.files().text("var/lib/dpkg/status") or ""
    stanza = re.search(r"^Package: nvidia-jetpack\n(?:.+\n)*?Version: ([0-9.]+)", status, re.MULTILINE)
    if stanza and not f"{stanza[1]}.0.".startswith(f"{jetpack}."):
        return wrong(f"L4T {l4t} is JetPack {jetpack} by the table, and the package says {stanza[1]}", l4t=l4t)
    return ok(f"L4T {l4t} is JetPack {jetpack}", l4t=l4t, jetpack=jetpack)


def _module_compatible(host: Host) -> Finding:
    text = host.files().text("proc/device-tree/compatible")
    if text is None:
        return unknown("there is no device tree here")
    entries = [entry for entry in text.split("\0") if entry]
    soc = re.search(r"nvidia,(tegra\d+)", text)
    module = re.search(r"p\d{4}-\d{4}", text)
    if "nvidia" not in text:
        return unknown(f"the device tree is of another maker: {', '.join(entries)[:120]}")
    if soc is None or module is None:
        return wrong(f"no {'SoC (tegraNNN)' if soc is None else 'module (pNNNN-NNNN)'} in {', '.join(entries)[:200]}")
    return ok(f"module {host.identity.module}, SoC {soc[1]}", module=host.identity.module, soc=soc[1])


def _zones(host: Host) -> dict[str, Path]:
    return {kind: path for path, kind in host.files().kinds("sys/class/thermal/thermal_zone*", "type")}


def _zones_by_type(host: Host) -> Finding:
    found = _zones(host)
    if not found:
        return unknown("no thermal zone below /sys/class/thermal")
    if not host.is_jetson:
        return unknown(f"{_NO_JETSON}; its zones are {', '.join(sorted(found))}")
    kinds = sorted(found)
    strange = [kind for kind in kinds if not KNOWN_ZONES.fullmatch(kind)]
    missing = [name for name in ("cpu", "gpu") if f"{name}-thermal" not in found]
    words = f"{', '.join(kinds)}{'; not known to us: ' + ', '.join(strange) if strange else ''}"
    if missing:
        return wrong(f"no zone of type {' or '.join(f'{name}-thermal' for name in missing)} among {words}", zones=kinds)
    return ok(words, zones=kinds)


def _gated(host: Host) -> Finding:
    codes: dict[str, int] = {}
    offline: list[str] = []
    for kind, zone in _zones(host).items():
        try:
            handle = os.open(zone / "temp", os.O_RDONLY | os.O_NONBLOCK)
            try:
                text = os.read(handle, 64).decode("ascii", "replace").strip()
            finally:
                os.close(handle)
        except OSError as error:
            codes[kind] = error.errno or 0
            continue
        if re.fullmatch(r"-?[0-9]+", text) and not -55_000 <= int(text) <= 150_000:
            offline.append(f"{kind} says {text}")
    others = {kind: errno.errorcode.get(code, str(code)) for kind, code in codes.items() if code != errno.EAGAIN}
    if others or offline:
        words = [*(f"{kind} answers {name}" for kind, name in others.items()), *offline]
        return wrong(f"a sensor that is off does not answer EAGAIN: {', '.join(words)}")
    if not codes:
        return unknown("every sensor answers now, so none is gated")
    return ok(f"gated now, each with EAGAIN: {', '.join(sorted(codes))}", answer="EAGAIN")


def _trips(host: Host) -> Finding:
    files = host.files()
    passive: dict[str, float] = {}
    critical: dict[str, float] = {}
    for kind, zone in _zones(host).items():
        for point in files.match(f"{zone.relative_to(host.root)}/trip_point_*_type"):
            celsius = files.scaled(point.with_name(point.name.replace("_type", "_temp")), 1000.0)
            name = files.text(point)
            if celsius is not None and name in ("passive", "critical"):
                place = passive if name == "passive" else critical
                place[kind] = min(celsius, place.get(kind, celsius))
    if not passive and not critical:
        return unknown("no zone has trip points")
    odd = [f"{kind} {value:g} °C" for kind, value in (*passive.items(), *critical.items()) if not 40 <= value <= 130]
    if odd:
        return wrong(f"not in milli-degrees, or no trip point of silicon: {', '.join(odd)}")
    lowest = f"throttling begins at {min(passive.values()):g} °C" if passive else "no passive trip point"
    ends = f"; {min(critical.values()):g} °C is critical" if critical else ""
    return ok(f"{lowest}{ends}", passive_c=passive, critical_c=critical)


def _throttle_alerts(host: Host) -> Finding:
    if not host.is_jetson:
        return unknown(_NO_JETSON)
    files = host.files()
    found = {
        kind: files.number(path / "cur_state")
        for path, kind in files.kinds("sys/class/thermal/cooling_device*", "type")
    }
    alerts = {kind: state for kind, state in found.items() if kind.endswith("-alert")}
    if not found:
        return unknown("no cooling device below /sys/class/thermal")
    if not any(kind.endswith("throttle-alert") for kind in alerts):
        return wrong(f"no *-throttle-alert among the cooling devices {', '.join(sorted(found))}", alerts=sorted(alerts))
    mute = [kind for kind, state in alerts.items() if state is None or state < 0]
    if mute:
        return wrong(f"no state can be read of {', '.join(mute)}", alerts=sorted(alerts))
    raised = [kind for kind, state in alerts.items() if state]
    return ok(f"{counted(len(alerts), 'alert')}, raised now: {', '.join(raised) or 'none'}", alerts=sorted(alerts))


def _frequency_caps(host: Host) -> Finding:
    if not host.is_jetson:
        return unknown(_NO_JETSON)
    kinds = sorted(kind for _, kind in host.files().kinds("sys/class/thermal/cooling_device*", "type"))
    if not kinds:
        return unknown("no cooling device below /sys/class/thermal")
    cpu = [kind for kind in kinds if kind.startswith("cpufreq-")]
    gpu = [kind for kind in kinds if re.fullmatch(r"devfreq-.*(gpu|ga10b).*", kind)]
    if not cpu or not gpu:
        return wrong(f"no cpufreq-* or no devfreq-*gpu* among {', '.join(kinds)}", devices=[*cpu, *gpu])
    return ok(", ".join([*cpu, *gpu]), devices=[*cpu, *gpu])


def _oc_counters(host: Host) -> Finding:
    if not host.is_jetson:
        return unknown(_NO_JETSON)
    files = host.files()
    folders = [path for path, name in files.kinds("sys/class/hwmon/hwmon*", "name") if name == "soctherm_oc"]
    if not folders:
        return wrong("no hwmon is called soctherm_oc", counters=[])
    counters = {
        path.name: path for folder in folders for path in files.match(f"{folder.relative_to(host.root)}/oc*_event_cnt")
    }
    first = {name: files.number(path) for name, path in counters.items()}
    second = {name: files.number(path) for name, path in counters.items()}
    if not counters or None in first.values():
        return wrong(f"soctherm_oc has no counters that can be read: {'; '.join(files.notes) or 'none is there'}")
    if any((second[name] or 0) < (first[name] or 0) for name in counters):
        return wrong(f"a counter went back: {first}, then {second}")
    return ok(", ".join(f"{name} {value}" for name, value in sorted(first.items())), counters=sorted(counters))


def _gpu_folder(host: Host) -> Path | None:
    return next((path for path in host.files().match("sys/class/devfreq/*") if path.name.endswith(GPU_FOLDERS)), None)


def _devfreq_gpu(host: Host) -> Finding:
    if not host.is_jetson:
        return unknown(_NO_JETSON)
    names = [path.name for path in host.files().match("sys/class/devfreq/*")]
    gpu = _gpu_folder(host)
    if gpu is None:
        return wrong(
            f"no folder below /sys/class/devfreq ends in {' or '.join(GPU_FOLDERS)}: {', '.join(names) or 'none'}"
        )
    files = host.files()
    missing = [name for name in ("cur_freq", "min_freq", "max_freq") if files.number(gpu / name) is None]
    governor = files.text(gpu / "governor")
    if missing or not governor:
        return wrong(f"{gpu.name} has no {', '.join(missing or ['governor'])} that can be read")
    clocks = [int(word) / 1e6 for word in (files.text(gpu / "available_frequencies") or "").split() if word.isdecimal()]
    return ok(f"{gpu.name}, governor {governor}", folder=gpu.name, clocks_mhz=clocks)


def _devfreq_units(host: Host) -> Finding:
    gpu = _gpu_folder(host)
    if gpu is None:
        return unknown("there is no devfreq of a GPU")
    files = host.files()
    hertz = {name: files.number(gpu / name) for name in ("cur_freq", "min_freq", "max_freq")}
    known = {name: value for name, value in hertz.items() if value is not None and value > 0}
    if not known:
        return unknown("no clock is above zero now: " + ("; ".join(files.notes) or "the GPU is gated"))
    odd = [f"{name} {value}" for name, value in known.items() if not 5e7 <= value <= 5e9]
    if odd:
        return wrong(f"not in Hz: {', '.join(odd)}")
    return ok(", ".join(f"{name} {value / 1e6:g} MHz" for name, value in known.items()), unit="Hz")


def _load_range(host: Host) -> Finding:
    gpu = _gpu_folder(host)
    places = ([gpu / "device/load"] if gpu else []) + [host.root / "sys/devices/platform/gpu.0/load"]
    for place in places:
        values = [host.files().number(place) for _ in range(20)]
        known = [value for value in values if value is not None]
        if not known:
            continue
        if min(known) < 0 or max(known) > 1000:
            return wrong(f"the load goes from {min(known)} to {max(known)}")
        if max(known) > 100:
            return ok(f"up to {max(known)} was seen: per mille", unit="per mille")
        return unknown(f"at most {max(known)} was seen, which per cent would be too: the GPU hardly works now")
    return unknown("no load of a GPU can be read")


def _rails(host: Host) -> Finding:
    if not host.is_jetson:
        return unknown(_NO_JETSON)
    files = host.files()
    watts: dict[str, float] = {}
    for folder, name in files.kinds("sys/class/hwmon/hwmon*", "name"):
        if name == "ina3221":
            for label in files.match(f"{folder.relative_to(host.root)}/in*_label"):
                number = label.name.removeprefix("in").removesuffix("_label")
                rail, milli_volts = files.text(label), host.files().number(folder / f"in{number}_input")
                milli_amperes = host.files().number(folder / f"curr{number}_input")
                if rail and milli_volts is not None and milli_amperes is not None:
                    watts[rail] = milli_volts * milli_amperes / 1e6
        elif name == "ina238" and (micro := host.files().number(folder / "power1_input")) is not None:
            watts[host.files().text(folder / "power1_label") or "VIN"] = micro / 1e6
    if not watts:
        return wrong("no hwmon called ina3221 or ina238 has a rail with volts and amperes", rails=[])
    total = next((rail for rail in TOTAL_RAILS if rail in watts), "")
    strange = sorted(set(watts) - SUMMED_RAILS) if not total else []
    module_w = watts[total] if total else sum(watts.values())
    words = ", ".join(f"{rail} {value:.2f} W" for rail, value in sorted(watts.items()))
    if strange:
        return wrong(f"no rail is the module's total, and these are not known to be part of it: {', '.join(strange)} ({words})",
                     rails=sorted(watts))  # fmt: skip
    if not 0.5 <= module_w <= 300:
        return wrong(
            f"the module would draw {module_w:.3g} W: other units than mV, mA and µW ({words})", rails=sorted(watts)
        )
    return ok(
        f"{total or 'the sum'} is the module's {module_w:.2f} W ({words})", rails=sorted(watts), total=total or "sum"
    )


def _modes(host: Host) -> tuple[int | None, dict[int, PowerMode]]:
    files = host.files()
    found = re.search(r"\bpmode:\s*([0-9]{1,6})\b", files.text("var/lib/nvpmodel/status") or "")
    return (int(found[1]) if found else None), parse_nvpmodel(files.text("etc/nvpmodel.conf") or "")


def _nvpmodel_status(host: Host) -> Finding:
    if not host.is_jetson:
        return unknown(_NO_JETSON)
    mode, modes = _modes(host)
    table = {str(number): entry.name for number, entry in modes.items()}
    if mode is None:
        return wrong("/var/lib/nvpmodel/status has no pmode that can be read", modes=table)
    if mode not in modes:
        return wrong(f"mode {mode} has no name in /etc/nvpmodel.conf", modes=table)
    return ok(
        f"mode {mode} is {modes[mode].name}; there are {', '.join(f'{k}={v}' for k, v in table.items())}", modes=table
    )


def _nvpmodel_asked(host: Host) -> Finding:
    if not host.is_jetson:
        return unknown(_NO_JETSON)
    if not host.is_here:
        return unknown("nvpmodel can be asked on the board itself alone")
    try:
        done = host.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return unknown(f"nvpmodel cannot be asked: {error}")
    said = str(done.stdout)
    found = re.search(r"NV Power Mode:\s*(\S+)\s+([0-9]+)", said)
    if not found:
        return unknown(f"nvpmodel -q said {(said or str(done.stderr))[:120]!r}")
    mode, modes = _modes(host)
    name = modes[mode].name if mode is not None and mode in modes else None
    if int(found[2]) != mode or (name is not None and found[1] != name):
        return wrong(f"nvpmodel says {found[1]} (id {found[2]}), and its files say {name} (id {mode})")
    return ok(f"{found[1]} (id {found[2]})")


def _nvpmodel_applied(host: Host) -> Finding:
    mode, modes = _modes(host)
    if mode is None or mode not in modes:
        return unknown("the power mode is not known")
    files, stated = host.files(), modes[mode]
    gpu = _gpu_folder(host)
    highest = files.number(gpu / "max_freq") if gpu else None
    if (
        stated.gpu_mhz is not None
        and highest is not None
        and abs(highest / 1e6 - stated.gpu_mhz) > 0.02 * stated.gpu_mhz
    ):
        return wrong(
            f"{stated.name} says the GPU goes to {stated.gpu_mhz:g} MHz, and max_freq is {highest / 1e6:g} MHz"
        )
    if stated.gpu_mhz is None or highest is None:
        return unknown(f"{stated.name} sets no clock of the GPU that could be compared")
    return ok(f"max_freq is {highest / 1e6:g} MHz, as {stated.name} says")


def _emc_cap(host: Host) -> Finding:
    hertz = host.files().number("sys/kernel/nvpmodel_clk_cap/emc")
    if hertz is None:
        return unknown("/sys/kernel/nvpmodel_clk_cap/emc cannot be read")
    if hertz != 0 and not 1e8 <= hertz <= 2e10:
        return wrong(f"{hertz} is no clock of a memory in Hz")
    return ok(f"{hertz / 1e6:g} MHz" if hertz else "0: nothing caps it", unit="Hz")


def _cpufreq(host: Host) -> Finding:
    files = host.files()
    kilohertz = [files.number(path) for path in files.match("sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq")]
    known = [value for value in kilohertz if value is not None]
    if not known:
        return unknown("no cpufreq policy can be read")
    if any(not 2e5 <= value <= 1e7 for value in known):
        return wrong(f"not in kHz: {known}")
    return ok(f"{', '.join(f'{value / 1e3:g} MHz' for value in known)}", policies=len(known))


def _fan(host: Host) -> Finding:
    if not host.is_jetson:
        return unknown(_NO_JETSON)
    names = {name for _, name in host.files().kinds("sys/class/hwmon/hwmon*", "name")}
    found = sorted(names & {"pwmfan", "pwm_tach"})
    return ok(", ".join(found), fan=found) if found else unknown("neither pwmfan nor pwm_tach: a board without a fan?")


def _meminfo(host: Host, name: str) -> int | None:
    found = re.search(rf"^{name}:\s+([0-9]{{1,15}}) kB$", host.files().text("proc/meminfo") or "", re.MULTILINE)
    return int(found[1]) if found else None


def _available(host: Host) -> Finding:
    total, free, available = (_meminfo(host, name) for name in ("MemTotal", "MemFree", "MemAvailable"))
    if total is None or free is None or available is None:
        return wrong("/proc/meminfo has no MemTotal, MemFree and MemAvailable")
    if not 0 < available <= total:
        return wrong(f"MemAvailable {available} kB of MemTotal {total} kB")
    return ok(f"{available // 1024} of {total // 1024} MiB can be had, {free // 1024} MiB are free")


def _nvmap(host: Host) -> Finding:
    if not host.is_jetson:
        return unknown(_NO_JETSON)
    used, is_thor = _meminfo(host, "NvMapMemUsed"), host.identity.sm == "110"
    if used is None:
        words = "/proc/meminfo has no NvMapMemUsed"
        return ok(f"{words}, as on a Thor", has_nvmap=False) if is_thor else wrong(words, has_nvmap=False)
    if is_thor:
        return wrong(f"a Thor has NvMapMemUsed ({used} kB) after all", has_nvmap=True)
    return ok(f"{used // 1024} MiB are with the GPU and its neighbours", has_nvmap=True)


def _pss(host: Host) -> Finding:
    text = host.files().text("proc/self/smaps_rollup")
    if text is None:
        return wrong("/proc/self/smaps_rollup cannot be read")
    found = re.search(r"^Pss:\s+([0-9]+) kB$", text, re.MULTILINE)
    return ok(f"{int(found[1]) // 1024} MiB") if found else wrong("/proc/self/smaps_rollup has no line Pss")


def _buddyinfo(host: Host) -> Finding:
    text = host.files().text("proc/buddyinfo")
    if text is None:
        return unknown("/proc/buddyinfo cannot be read")
    zones = re.findall(r"^Node +[0-9]+, zone +(\S+)((?: +[0-9]+){5,})$", text, re.MULTILINE)
    if not zones or len({len(counts.split()) for _, counts in zones}) != 1:
        return wrong(f"not one row of counts per zone: {text[:80]!r}")
    return ok(f"{', '.join(dict.fromkeys(name for name, _ in zones))}: {len(zones[0][1].split())} orders")


def _boot_id(host: Host) -> Finding:
    boot = host.files().text("proc/sys/kernel/random/boot_id")
    if boot is None:
        return wrong("/proc/sys/kernel/random/boot_id cannot be read")
    return ok("there is one") if re.fullmatch(r"[0-9a-f-]{36}", boot) else wrong(f"{boot[:60]!r} is no boot id")


def _nvmap_clients(host: Host) -> Finding:
    if not host.is_jetson:
        return unknown(_NO_JETSON)
    files = host.files()
    text = files.text("sys/kernel/debug/nvmap/iovmm/clients")
    if text is None:
        return unknown(f"only root can read it, as expected ({'; '.join(files.notes)})")
    found = re.findall(r"^\s*user\s+\S.*?\s+[0-9]+\s+[0-9]+K?\s*$", text, re.MULTILINE)
    rows = [line for line in text.splitlines() if line.strip() and not re.match(r"\s*(CLIENT|total)", line)]
    if len(found) < len(rows):
        return wrong(f"{len(rows) - len(found)} of {len(rows)} lines are of another form: {rows[0][:80]!r}")
    return ok(counted(len(found), "process", "processes"))


_KERNEL = "public reports and dumps of boards; the kernel's documentation"
_NVIDIA = "NVIDIA's documentation of L4T, and public dumps of boards"

PROBES = (
    Probe("jetpack-of-l4t", "The L4T release decides the JetPack, by a table.", "jetson-stats' table of releases",
          "the release file and the packages, looked up", _jetpack_of_l4t),
    Probe("module-compatible", "The device tree's 'compatible' names the module (pNNNN-NNNN) and the SoC (tegraNNN).",
          _NVIDIA, "read and matched", _module_compatible),
    Probe("sysfs-zones-by-type", "Thermal zones are found by their type; cpu-thermal and gpu-thermal are among them.",
          _KERNEL, "the types of all zones", _zones_by_type, kinds=_LATENCY, figures=("gpu_temp", "cpu_temp", "temp")),
    Probe("gated-zone-eagain", "A sensor whose power is gated answers EAGAIN, and never a figure.", _KERNEL,
          "each zone read once, without waiting", _gated, kinds=("heat",), figures=("gpu_temp", "cpu_temp", "temp")),
    Probe("thermal-trips", "Trip points are in milli-degrees; the passive one is where throttling begins.",
          "the kernel's device tree of the Orin family", "all trip points of all zones", _trips, kinds=("heat",)),
    Probe("throttle-alert-files", "Throttling shows as *-throttle-alert cooling devices whose cur_state rises.", _KERNEL,
          "types and states of all cooling devices", _throttle_alerts, kinds=_LATENCY, figures=("throttled", "held")),
    Probe("frequency-cap-devices", "The caps that heat imposes are cooling devices called cpufreq-* and devfreq-*gpu*.", _KERNEL,
          "the types of all cooling devices", _frequency_caps, kinds=("heat",)),
    Probe("oc-counters", "soctherm_oc counts over-current events since boot, and never back.", "source of its driver",
          "each counter read twice", _oc_counters, kinds=("heat",), figures=("oc_",)),
    Probe("devfreq-gpu", "The GPU's devfreq is the folder that ends in .gpu, .ga10b or gpu-gpc-0.", _KERNEL,
          "the folders, and what is in that one", _devfreq_gpu, kinds=_LATENCY, figures=("gpu_clock", "clock")),
    Probe("devfreq-units-hz", "devfreq's clocks are in Hz.", _KERNEL, "whether they are clocks of a GPU then",
          _devfreq_units, kinds=_LATENCY, figures=("gpu_clock", "clock")),
    Probe("load-0-1000", "The GPU's load is in parts of a thousand.", "jetson-stats and public reports",
          "twenty readings", _load_range, figures=("gpu_load",)),
    Probe("ina-rails-total", "VDD_IN or VIN is the module's power, in mV and mA (INA3221) or µW (INA238); else the sum is.",
          "jetson-stats and public reports", "rails by their labels", _rails, figures=("mean_power", "energy", "power")),
    Probe("nvpmodel-status", "The power mode's id is in /var/lib/nvpmodel/status, its name in /etc/nvpmodel.conf.", _NVIDIA,
          "both read", _nvpmodel_status, kinds=("latency", "flight", "heat", "memory", "takeoff", "load")),
    Probe("nvpmodel-ids", "nvpmodel itself gives the mode that its files give.", _NVIDIA, "nvpmodel -q, which needs no root",
          _nvpmodel_asked, kinds=_LATENCY),
    Probe("nvpmodel-applied", "The mode that is written down is the mode that is set.", "public reports of containers",
          "the GPU's highest clock against the mode's", _nvpmodel_applied, kinds=_LATENCY),
    Probe("emc-cap", "The memory's cap is in /sys/kernel/nvpmodel_clk_cap/emc, in Hz, 0 for none.", "public reports",
          "read", _emc_cap, figures=("emc",)),
    Probe("cpufreq-khz", "cpufreq's clocks are in kHz.", "the kernel's documentation", "whether they are clocks of a CPU then",
          _cpufreq, figures=("cpu_clock",)),
    Probe("fan-files", "The fan is the hwmon pwmfan (duty), pwm_tach (rpm).", "public reports", "the names of all hwmons",
          _fan, figures=("fan",)),
    Probe("meminfo-available", "MemAvailable is what can be had, by the GPU too.", "the kernel's documentation",
          "read, and held against MemTotal", _available, kinds=("memory", "takeoff")),
    Probe("meminfo-nvmap", "NvMapMemUsed in /proc/meminfo is what the GPU and its neighbours hold; a Thor has none.",
          "jetson-stats", "read", _nvmap, figures=("nvmap",)),
    Probe("pss-readable", "A process may read its own proportional set size.", "the kernel's documentation",
          "/proc/self/smaps_rollup", _pss, kinds=("memory",), figures=("pss",)),
    Probe("buddyinfo-orders", "/proc/buddyinfo has a row of counts per zone, one per order.", "the kernel's documentation",
          "read", _buddyinfo, figures=("largest_free",)),
    Probe("boot-id", "The kernel gives each boot an id.", "the kernel's documentation", "read", _boot_id, kinds=("latency",)),
    Probe("nvmap-clients", "NvMap's list of clients is 'user NAME PID SIZEK', for root alone.", "jetson-stats",
          "read, where it can be", _nvmap_clients),
)  # fmt: skip
