"""``trigate doctor --probe``: every platform assumption that this project makes, tested on this machine (decision 13).

None is silent: each has an id, on whose word it is assumed, and OK, WRONG or UNKNOWN with what was seen. Rows that lean on
a WRONG one are INCONCLUSIVE and name it. The file of a real board is what the fakes must reproduce.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from harness.errors import UsageError
from harness.probes import Finding, Host, Probe, State, clocks, files, libraries, unknown
from harness.records import Case, Check, Outcome, to_json
from runtime.platform import HostTuple, detect_host

__all__ = [
    "SCHEMA",
    "Assumption",
    "Assumptions",
    "SimulatedHeat",
    "checks_for",
    "figures_in_doubt",
    "load_assumptions",
    "probe",
    "reproduces",
    "wrong_for",
]

SCHEMA = 1
_IN_PROCESS: tuple[Probe, ...] = (*files.PROBES, *clocks.PROBES)
_ALL: Mapping[str, Probe] = {entry.id: entry for group in (_IN_PROCESS, *libraries.PROBES.values()) for entry in group}
_CHILD_S = {"tensorrt": 75.0, "cuda": 25.0, "onnxruntime": 20.0, "nvml": 10.0, "jtop": 10.0}


@dataclass(frozen=True)
class Assumption:
    """One assumption, tested. ``facts``: what was seen that stays as it is from one minute to the next."""

    id: str
    text: str
    source: str
    how: str
    state: State
    seen: str
    facts: Mapping[str, Any]
    took_ms: int = 0


@dataclass(frozen=True)
class Assumptions:
    """Of one machine: ``host`` is who it is, text to text; ``probed_at`` in UTC."""

    host: Mapping[str, str]
    probed_at: str
    rows: tuple[Assumption, ...]
    trigate_version: str = ""

    def __getitem__(self, name: str) -> Assumption:
        return next(row for row in self.rows if row.id == name)

    def of_state(self, state: State) -> tuple[str, ...]:
        """The ids that came out so."""
        return tuple(row.id for row in self.rows if row.state is state)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "trigate": self.trigate_version,
            "probed_at": self.probed_at,
            "host": dict(self.host),
            "assumptions": [to_json(row) for row in self.rows],
        }

    def to_text(self) -> str:
        """One line each, what is WRONG first, then what is UNKNOWN."""
        order = (State.WRONG, State.UNKNOWN, State.OK)
        rows = sorted(self.rows, key=lambda row: order.index(row.state))
        lines = [f"{row.state.value:<8}{row.id:<28} {row.seen}" for row in rows]
        for row in rows:
            if row.state is State.WRONG:
                lines += [f"        {row.id} was assumed from {row.source}: {row.text}", *_leans(row.id)]
        counts = ", ".join(f"{len(self.of_state(state))} {state.value}" for state in reversed(order))
        who = " ".join(f"{name} {value}" for name, value in self.host.items() if value not in ("", "none"))
        return "\n".join([f"Platform assumptions of {who or 'this host'}: {counts}", *lines])

    def write(self, path: Path) -> Path:
        """``assumptions.json`` at ``path`` or in the folder ``path``. Raises ``UsageError`` where it cannot be written."""
        target = path / "assumptions.json" if path.is_dir() else path
        try:
            target.write_text(json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{target} cannot be written: {error.strerror}. Name another file with --out.") from error
        return target


def _leans(name: str) -> list[str]:
    entry = _ALL.get(name)
    if entry is None or not (entry.kinds or entry.figures):
        return []
    runtimes = f" of {', '.join(entry.runtimes)}" if entry.runtimes else ""
    rows = f"{', '.join(entry.kinds)} rows{runtimes} are INCONCLUSIVE" if entry.kinds else ""
    figures = f"figures in doubt: {', '.join(entry.figures)}" if entry.figures else ""
    return [f"        {'; '.join(filter(None, (rows, figures)))}"]


def probe(
    root: Path = Path("/"),
    *,
    environ: Mapping[str, str],
    run: Callable[..., Any] = subprocess.run,
    budget_s: float = 120.0,
    say: Callable[[str], object] = lambda line: None,
    python: str = sys.executable,
    now: Callable[[], float] = time.monotonic,
) -> Assumptions:
    """Test every assumption under ``root``, in at most ``budget_s``; one that fails or hangs leaves the others alone.

    ``run``: like ``subprocess.run``; libraries are tried in children of ``python``, and only where ``root`` is this machine.
    ``say`` gets a line of progress for each. What there was no time for is UNKNOWN. Never raises for what it meets.
    """
    begun = now()
    host = Host(root, detect_host(root), root == Path("/"), environ, run, python)
    rows: dict[str, Assumption] = {}

    def left_s() -> float:
        return budget_s - (now() - begun)

    def put(entry: Probe, finding: Finding, since: float) -> None:
        before = rows.get(entry.id)
        if before is not None and (finding.state is State.UNKNOWN or before.state is State.WRONG):
            return
        rows[entry.id] = Assumption(
            entry.id, entry.text, entry.source, entry.how, finding.state, finding.seen, finding.facts,
            round((now() - since) * 1000),
        )  # fmt: skip
        say(f"{len(rows)} of {len(_ALL)}: {entry.id}: {finding.state.value}, {finding.seen[:100]}")

    for entry in _IN_PROCESS:
        since = now()
        limit_s = min(entry.limit_s, left_s())
        finding = _tested(entry, host, limit_s) if limit_s > 0 else _no_time(budget_s)
        put(entry, finding, since)
    for name, entries in libraries.PROBES.items():
        since = now()
        limit_s = min(_CHILD_S[name], left_s())
        if limit_s > 1:
            say(f"trying {name}, for at most {limit_s:.0f} s")
            found = libraries.asked(name, host, limit_s)
        else:
            found = {"": _no_time(budget_s)}
        for entry in entries:
            put(entry, found.pop(entry.id, found[""]), since)
        for other in set(found) & set(_ALL):
            put(_ALL[other], found[other], since)
    return Assumptions(
        _who(host), datetime.now(timezone.utc).isoformat(timespec="seconds"), tuple(rows.values()), _ours()
    )


def _no_time(budget_s: float) -> Finding:
    return unknown(f"the {budget_s:g} s were over before it was its turn")


def _tested(entry: Probe, host: Host, limit_s: float) -> Finding:
    """In a thread that is left behind when it hangs: a file of a driver may never answer."""
    found: list[Finding] = []

    def test() -> None:
        try:
            found.append(entry.test(host))
        except Exception as error:
            found.append(unknown(f"the probe itself failed: {type(error).__name__}: {error}"))

    thread = threading.Thread(target=test, name=f"probe-{entry.id}", daemon=True)
    thread.start()
    thread.join(limit_s)
    return found[0] if found else unknown(f"no answer within {limit_s:.1f} s")


def _who(host: Host) -> dict[str, str]:
    identity = host.identity
    model = host.files().text("proc/device-tree/model") or ""
    return {
        "model": model, "module": identity.module, "sm": identity.sm, "jetpack": identity.jetpack, "l4t": identity.l4t,
        "tensorrt": identity.trt,
    }  # fmt: skip


def _ours() -> str:
    try:
        return version("trigate")
    except PackageNotFoundError:
        return ""


def load_assumptions(path: Path, *, of: HostTuple | None = None) -> Assumptions:
    """What ``write`` wrote, at ``path`` or in that folder. Raises ``UsageError`` for what is no such file, or, with ``of``,
    was probed on another machine or under other versions than that host's.
    """
    target = path / "assumptions.json" if path.is_dir() else path
    again = "Make it on the board: trigate doctor --probe --out FILE."
    try:
        told = json.loads(target.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{target} cannot be read: {error.strerror}. {again}") from error
    except ValueError as error:
        raise UsageError(f"{target} is not JSON: {error}. {again}") from error
    if not isinstance(told, dict) or not isinstance(told.get("assumptions"), list):
        raise UsageError(f"{target} holds no platform assumptions. {again}")
    if told.get("schema") != SCHEMA:
        raise UsageError(f"{target} has schema {told.get('schema')!r}; this trigate reads {SCHEMA}. {again}")
    try:
        found = Assumptions(
            {str(name): str(value) for name, value in dict(told["host"]).items()},
            str(told["probed_at"]),
            tuple(_row(entry) for entry in told["assumptions"]),
            str(told.get("trigate", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{target} is damaged: {type(error).__name__}: {error}. {again}") from error
    if of is not None:
        here = {"module": of.module, "sm": of.sm, "l4t": of.l4t, "tensorrt": of.trt}
        other = [
            f"{name} {found.host[name]} there, {value} here"
            for name, value in here.items()
            if found.host.get(name, value) != value
        ]
        if other:
            raise UsageError(
                f"{target} was probed on another machine or under other versions: {'; '.join(other)}. {again}"
            )
    return found


def _row(told: Any) -> Assumption:
    words = {name: str(told[name]) for name in ("id", "text", "source", "how", "seen")}
    return Assumption(
        **words, state=State(told["state"]), facts=dict(told["facts"]), took_ms=int(told.get("took_ms", 0))
    )


def wrong_for(kind: str, runtime: str, assumptions: Assumptions | None) -> list[str]:
    """The ids of WRONG assumptions that the verdict of such a row leans on. ``runtime``: a label."""
    found = []
    for name in assumptions.of_state(State.WRONG) if assumptions is not None else ():
        entry = _ALL.get(name)
        if entry is not None and kind in entry.kinds and (not entry.runtimes or runtime in entry.runtimes):
            found.append(name)
    return found


def figures_in_doubt(assumptions: Assumptions | None) -> dict[str, str]:
    """The beginning of a figure's name, to the id of the WRONG assumption that it comes from."""
    wrong = assumptions.of_state(State.WRONG) if assumptions is not None else ()
    return {figure: name for name in wrong if name in _ALL for figure in _ALL[name].figures}


def checks_for(case: Case, assumptions: Assumptions | None) -> tuple[Check, ...]:
    """An INCONCLUSIVE check for each WRONG assumption that the row leans on."""
    found = []
    for name in wrong_for(case.kind, case.runtime, assumptions):
        row = assumptions[name]  # type: ignore[index]  # there is none without assumptions
        reason = f"the platform assumption {name} is WRONG on this machine: {row.text} What was seen: {row.seen}."
        found.append(Check(f"assumption: {name}", Outcome.INCONCLUSIVE, reason))
    return tuple(found)


# --- what the fakes must reproduce ------------------------------------------------------------------------------------


class SimulatedHeat(Protocol):
    """What of a simulated device can be held against a board: ``harness.fakes.device.SimulatedDevice`` has it."""

    sm: str

    @property
    def thermal(self) -> Any: ...


def reproduces(assumptions: Assumptions, fake: Path | SimulatedHeat) -> list[str]:
    """In what a fake differs from the board that ``assumptions`` are of: sentences, none where it reproduces it.

    ``fake``: the root of a made-up file system, whose files are asked the same questions, or a simulated device.
    """
    if isinstance(fake, Path):
        return _against_files(assumptions, fake)
    return _against_device(assumptions, fake)


def _against_files(assumptions: Assumptions, root: Path) -> list[str]:
    host = Host(root, detect_host(root), False, {}, subprocess.run, sys.executable)
    asked = {entry.id: entry for entry in files.PROBES}
    differences = []
    for row in assumptions.rows:
        if row.id not in asked or not row.facts:
            continue
        found = _tested(asked[row.id], host, asked[row.id].limit_s)
        for name, real in row.facts.items():
            made = to_json(found.facts.get(name))
            if made != to_json(real):
                differences.append(f"{row.id}: {name} is {_short(real)} on the board, and {_short(made)} in the fake")
        if row.state is not found.state and State.UNKNOWN not in (row.state, found.state):
            differences.append(
                f"{row.id}: {row.state.value} on the board, and {found.state.value} in the fake ({found.seen})"
            )
    return differences


def _against_device(assumptions: Assumptions, device: SimulatedHeat) -> list[str]:
    facts = {row.id: row.facts for row in assumptions.rows}
    board = device.thermal.board
    differences = []

    def hold(what: str, real: Any, made: Any) -> None:
        if real != made:
            differences.append(f"{what} is {_short(real)} on the board, and {_short(made)} in the fake")

    if (sm := assumptions.host.get("sm", "none")) not in ("", "none"):
        hold("sm", sm, device.sm)
    for name in ("passive_c", "critical_c"):
        if points := facts.get("thermal-trips", {}).get(name):
            hold(f"thermal-trips: {name}", min(points.values()), getattr(board, name))
    if clocks_mhz := facts.get("devfreq-gpu", {}).get("clocks_mhz"):
        hold("devfreq-gpu: clocks_mhz", [round(value) for value in clocks_mhz], list(board.clocks_mhz))
    return differences


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(entry)}" for name, entry in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return "missing" if value is None else str(value)
