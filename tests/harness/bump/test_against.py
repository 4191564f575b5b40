"""Two installations in turn on one host: what they are, pairs of fresh processes, and what becomes of them."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiers
from harness.bump import against
from harness.bump.against import (
    Paired,
    PairedRow,
    _with_pair,
    check_against,
    check_out,
    code_alone,
    compare_sides,
    examine,
    judged_by,
    run_against,
)
from harness.cli import main
from harness.compare.rows import standing_of
from harness.config import Configuration, ModelConfig
from harness.errors import UsageError
from harness.instruments.trace import Trace
from harness.measure import Bench
from harness.packs.folder import Pack
from harness.plan import Ask, plan
from harness.profiles import PROFILES
from harness.records import Case, Measurement, Outcome, Verdict, run_from_text
from harness.records.comparison import Standing
from harness.run import Job, Progress
from harness.tier2.host_station import HostStation
from harness.tier2.rows import Tier2
from harness.tier2.samples import Phase, SampleLog, Status
from harness.tier2.station import Seen
from runtime.config import RuntimeConfig
from tests.harness.children import job_in

ROOT = Path(__file__).resolve().parents[3]
CASE = Case("m-latency", 2, "latency", "m", "onnx_trt_ep", "fp32", "fp32", "small")


def environment(folder: Path, *, with_ours: bool) -> Path:
    """A virtual environment without pip, made in a moment; ``with_ours``: it sees the libraries that are installed here."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, capture_output=True)
    (site,) = folder.glob("lib/python*/site-packages")
    if with_ours:
        (site / "ours.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("other") / "venv", with_ours=True)


def look(python: Path) -> Any:
    with code_alone() as code:
        return examine(python, code, os.environ)


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.covers("RE-02")
def test_another_installation_says_what_it_is_and_what_it_has(other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(other)
    assert found.environment["python"] == sys.version.split()[0]
    assert found.environment["numpy"] == np.__version__
    assert set(found.runtimes) == {"tensorrt", "onnx_trt_ep", "pytorch_fp16"}
    assert found.environ["PYTHONPATH"].startswith(str(Path(found.environ["PYTHONPATH"]).parent))
    assert Path(found.python).parent == other.parent
    monkeypatch.chdir(other.parents[2])
    assert look(other.relative_to(other.parents[2])).python == found.python


@pytest.mark.covers("RE-04")
def test_one_that_cannot_be_used_is_refused_with_what_mends_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is the installation that this trigate runs in"):
        look(Path(sys.executable))
    with pytest.raises(UsageError, match=r"cannot be started: No such file or directory\. Give the python of"):
        look(tmp_path / "nothing")
    with pytest.raises(UsageError, match="is no Python: it said nothing"):
        look(script(tmp_path / "shell", "exit 0"))
    old = script(tmp_path / "old", 'echo \'[[3, 8, 10], "/usr", "/usr/bin/python3.8"]\'')
    with pytest.raises(UsageError, match=r"is Python 3\.8\.10; our code needs 3\.10 or newer.*-m venv OLD"):
        look(old)
    bare = environment(tmp_path / "bare", with_ours=False)
    with pytest.raises(UsageError, match=r"lacks numpy, which .*Install it: \S+ -m pip install numpy"):
        look(bare)


@pytest.mark.covers("RE-04")
def test_the_other_installation_is_looked_at_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.assemble.assemble", lambda *_, **__: pytest.fail("packs are made"))
    call = ["run", "--against", str(tmp_path / "no/python"), "--out"]
    assert main([*call, str(tmp_path / "out")]) == 2
    assert "no/python cannot be started: No such file" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    assert main([*call, str(tmp_path / "full")]) == 2
    assert "full is not empty. Give another --out." in capsys.readouterr().err


@pytest.mark.parametrize("name", ["--simulated", "--resume", "--profile", "--builds", "--like"])
def test_what_does_not_go_together_is_refused(name: str) -> None:
    check_against({name: False})
    with pytest.raises(UsageError, match=f"--against does not go with {name}: "):
        check_against({name: True})


# Pairs


def launch(chance: np.random.Generator, ratio: float = 1.0, *, failed: int = 0) -> Seen:
    """Sixty calls of about 10 ms, all of a launch moved by 1 %."""
    took = np.exp(math.log(ratio) + 0.01 * chance.standard_normal() + 0.03 * chance.standard_normal(60)) * 1e7
    log = SampleLog(["m"])
    for at, each in enumerate(took):
        status = Status.FAILED if at < failed else Status.OK
        log.add(0, at * 10**8, at * 10**8, at * 10**8, at * 10**8 + int(each), Phase.MEASURE, status)
    return Seen(Measurement(CASE), log, Trace())


def pairs(seed: int, ratio: float) -> PairedRow:
    chance = np.random.default_rng(seed)
    row = PairedRow("m")
    while len(row.decided) < 2 and len(row.log_ratios.get("p95", ())) < 24:
        row = _with_pair(row, launch(chance), launch(chance, ratio))
    return row


@pytest.mark.covers("RE-02", "T2-03")
def test_where_nothing_changed_pairs_say_so_and_eight_percent_are_found() -> None:
    alike = [pairs(seed, 1.0) for seed in range(40)]
    assert not any(words.startswith("worse") for row in alike for words in row.words.values())
    assert np.mean([len(row.decided) == 2 for row in alike]) > 0.9
    slower = [pairs(seed, 1.08) for seed in range(40)]
    assert np.mean([row.words["p50"].startswith("worse: slower, beyond the margin of 3 %") for row in slower]) > 0.95
    assert np.mean([row.words["p95"].startswith("worse") for row in slower]) > 0.9
    faster = pairs(1, 0.9)
    assert faster.words["p50"].startswith("better: faster, beyond the margin")


def test_pairs_that_end_without_a_decision_have_one_word_and_it_does_not_ask_for_more_pairs() -> None:
    row = PairedRow("m", log_ratios={"p95": (), "p50": ()})
    chance = np.random.default_rng(3)
    for pair in range(24):
        row = _with_pair(row, launch(chance, math.exp(0.1 * (-1) ** pair)), launch(chance, 0.98))
    told = judged_by(row.log_ratios["p95"], "p95")
    assert (told.outcome, told.low < 1 / 1.05, told.high < 1.05) == (Outcome.INCONCLUSIVE, True, True)
    assert standing_of(told, 0.05) is Standing.NOT_WORSE
    assert row.words["p95"].startswith("not worse: not slower by the margin of 5 %, how much faster is open: -")
    assert row.words["p95"].endswith(", 24 pairs")


def test_a_figure_is_judged_by_the_pairs_until_it_was_decided() -> None:
    values = tuple(float(at) for at in range(10))
    row = PairedRow("m", log_ratios={"p95": values, "p50": values[:4]}, decided={"p95": 6})
    assert row.judged() == {"p95": values[:6]}


def test_a_side_that_broke_or_whose_calls_fail_ends_the_pairs() -> None:
    chance = np.random.default_rng(1)
    good = launch(chance)
    assert _with_pair(PairedRow("m"), None, good).ended == "the base side broke"
    assert _with_pair(PairedRow("m"), good, None).ended == "the new side broke"
    assert (
        "so many calls failed that there is no p95" in _with_pair(PairedRow("m"), good, launch(chance, failed=9)).ended
    )


# Whole runs


RUNTIMES = """
import sys, time
from tests.harness.children import Quick

OTHER = {other!r}

class Slow(Quick):
    \"\"\"Three times as slow in the other installation.\"\"\"
    def infer(self, handle, inputs, *, out=None):
        time.sleep(0.003 if sys.prefix.startswith(OTHER) else 0.001)
        return super().infer(handle, inputs, out=out)

class Dies(Quick):
    \"\"\"Cannot be loaded in the other installation.\"\"\"
    def deserialize_engine(self, entry):
        if sys.prefix.startswith(OTHER):
            raise SystemExit(3)
        return super().deserialize_engine(entry)
"""


def job_with(folder: Path, other: Path, *runtimes: str) -> Job:
    """Latency rows of a tiny model on these classes."""
    (folder / "against_runtimes.py").write_text(RUNTIMES.format(other=str(other.parent.parent)))
    child = replace(job_in(folder, "tiny"), folders=(str(folder), str(ROOT)))
    from harness.packs.model import read_model

    pack = read_model(Path(child.packs["tiny"]))
    labels = tuple(f"against_runtimes:{name}" for name in runtimes)
    models = (ModelConfig("tiny", onnx=Path("tiny.onnx"), precision=("fp32",)),)
    ask = Ask((2,), labels, models, "small", (), None, {})
    bench = Bench(
        {"tiny": pack}, RuntimeConfig(engine_cache_dir=folder / "engines"), lambda *_: pytest.fail("built here")
    )
    return Job(
        ask=ask,
        cases=tuple(case for case in plan(ask) if case.kind == "latency"),
        pack=Pack({"tiny": pack}, "p" * 64, 0, "small"),
        broken={},
        configuration=Configuration("c.toml", folder, ""),
        models={model.name: model for model in models},
        bench=bench,
        suites=Path(str(tiers.__file__)).parent,
        environment={"python": "here", "cpu": "made up"},
        settings={"profile": "quick", "size": "small"},
        command=["trigate", "run"],
        version="0",
        gpu_host=False,
        device="cpu",
        tier2=Tier2(
            HostStation(bench),
            PROFILES["quick"],
            {model.name: model for model in models},
            job=child,
            environ=os.environ,
        ),
    )


def read(folder: Path) -> dict[str, Verdict]:
    run = run_from_text((folder / "run.json").read_text())
    return {verdict.case.runtime.partition(":")[2]: verdict for verdict in run.verdicts}


class Heard(Progress):
    """What is told of rows that ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, Outcome]] = []

    def done(self, verdict: Verdict) -> None:
        self.ended.append((verdict.case.id, verdict.outcome))


@pytest.mark.covers("RE-01", "RE-02")
def test_both_sides_become_runs_and_their_pairs_decide_on_the_time(
    tmp_path: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(against, "LOOKS", (3,))
    monkeypatch.setattr(against, "CALLS", 12)
    monkeypatch.setattr(against, "WARM_UP", 1)
    out = tmp_path / "out"
    job = job_with(tmp_path, other, "Slow", "Dies")
    with code_alone() as code:
        heard = Heard()
        base, new, paired = run_against(job, examine(other, code, os.environ), out, heard, [], seed=4, code=code)
    died = {
        name.partition(":")[0] if ": " in name else "pairs": outcome for name, outcome in heard.ended if ".Dies" in name
    }
    assert died == {
        "pairs": Outcome.NOT_RUN,
        "base": Outcome.FAIL,
        "new": Outcome.MEASURED,
    }  # the new side fails nothing
    told: Mapping[str, Any] = json.loads((out / "pairs/pairs.json").read_text())
    rows = {row["case"].partition(".")[2].partition("-")[0]: row for row in told["rows"]}
    slow, dies = rows["Slow"], rows["Dies"]
    assert (told["seed"], len(slow["orders"]), set(slow["orders"]) <= {"base new", "new base"}) == (4, 3, True)
    assert np.mean(slow["log_ratios"]["p50"]) < math.log(0.7)  # the new side is the fast one
    assert (dies["ended"], dies["log_ratios"]) == ("the base side broke", {})
    assert (base.environment["cpu"], base.environment["numpy"], new.environment["python"]) == (
        "made up", np.__version__, "here",
    )  # fmt: skip
    assert [run.settings["against"] for run in (base, new)] == ["base", "new"]
    on_base, on_new = read(out / "base"), read(out / "new")
    assert on_base["Slow"].outcome is on_new["Slow"].outcome is Outcome.MEASURED
    assert on_base["Slow"].summary.measurement.launches == 3
    assert (on_base["Dies"].outcome, on_new["Dies"].outcome) == (Outcome.FAIL, Outcome.MEASURED)
    assert "ended with code" in on_base["Dies"].reason or "broke" in on_base["Dies"].reason
    monkeypatch.setattr(PairedRow, "judged", lambda row: row.log_ratios)  # three pairs are under the first look
    found = compare_sides(out, paired)
    assert (out / "compare.json").exists()
    changes = {change.name: change for row in found.rows for change in row.changes if "Slow" in row.runtime}
    assert changes["p50"].pairs == 3
    assert "interleaved pairs of fresh processes" in found.caveats[0]
    assert not any("boot session" in words for words in found.caveats)
    with pytest.raises(UsageError, match="is not empty"):
        check_out(out)


@pytest.mark.covers("RE-04")
def test_ctrl_c_keeps_what_was_measured_and_neither_side_that_can_run_is_refused(
    tmp_path: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(against, "CALLS", 3)
    monkeypatch.setattr(against, "WARM_UP", 0)

    class Impatient(Progress):
        def said(self, words: str) -> None:
            if words.startswith("pair 2"):
                raise KeyboardInterrupt

    job = job_with(tmp_path, other, "Slow", "Quick")
    with code_alone() as code:
        there = examine(other, code, os.environ)
        base, new, paired = run_against(job, there, tmp_path / "out", Impatient(), [], seed=0, code=code)
        nothing = replace(job, cases=())
        with pytest.raises(UsageError, match="neither installation can run any row"):
            run_against(nothing, there, tmp_path / "none", Progress(), [], seed=0, code=code)
    assert [(run.interrupted, run.complete, run.exit_code) for run in (base, new)] == [(True, False, 130)] * 2
    assert base.last_line.startswith("Interrupted after 1 of 2 rows.")
    assert (len(base.planned), len(base.verdicts)) == (2, 1)
    assert paired == Paired(str(other), sys.executable, 0, 3, paired.rows)
    assert len(paired.rows[0].orders) == 1
