"""A stored run under other budgets: nothing measured, nothing lost, nothing believed that is not there."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from harness.config import BoardConfig, Budget, Configuration, LoadLimits, LoadRule, ModelConfig
from harness.errors import UsageError
from harness.fakes.orin import SimulatedKill, SimulatedOrin
from harness.floors import Floors, key_of
from harness.instruments.recording import trace_table
from harness.instruments.trace import Frame, Trace
from harness.limits import read_limits
from harness.plan import Ask, plan
from harness.profiles import PROFILES
from harness.records import Case, Check, Measurement, Outcome, Run, Summary, Verdict, run_from_text, to_json
from harness.run_folder import RunFolder
from harness.scenario import load_scenario
from harness.statistics.steadiness import SoakRule
from harness.tier2.gate import streams_of
from harness.tier2.latency_gate import judge
from harness.tier2.load_row import LoadRound, judge_load
from harness.tier2.rejudge import floors_for, read_run, read_samples, read_traces, rejudge
from harness.tier2.rows import Tier2
from harness.tier2.samples import COLUMNS, UNKNOWN, Phase
from runtime.protocol import Array

CASE = Case("latency[m-tensorrt]", 2, "latency", "m", "tensorrt", "fp16", "fp16", "full", required=True)
PARITY = Case("parity[m-tensorrt]", 1, "parity", "m", "tensorrt", "fp16", "fp16", "full")
ROW = Measurement(CASE, rate_hz=39.0, profile="pr", samples_file="samples/a.parquet", trace_file="traces/a.parquet")
COUNT = 4680


def columns(count: int = COUNT) -> dict[str, Array]:
    zero = np.zeros(count, np.int64)
    due = np.round(np.arange(count) * 1e9 / 39).astype(np.int64)
    took = (12e6 * np.random.default_rng(2).lognormal(0.0, 0.05, count)).astype(np.int64)
    return {
        "launch": zero, "stream": zero, "scheduled_ns": due, "woke_ns": due, "started_ns": due, "done_ns": due + took,
        "phase": zero + Phase.MEASURE, "status": zero,
        **dict.fromkeys(("h2d_ns", "compute_ns", "d2h_ns", "wait_ns"), zero + UNKNOWN),
    }  # fmt: skip


def configuration(p95_ms: float | None = 20.0, model: str = "m") -> Configuration:
    budgets = {"orin": Budget(p95_ms=p95_ms)}
    models = {model: ModelConfig(model, load=LoadRule(39.0), budget=budgets)}
    boards = {"orin": BoardConfig("orin"), "thor": BoardConfig("thor")}
    return Configuration("c.toml", Path(), "other-sha", models=models, boards=boards)


def traced() -> Trace:
    values = {"gpu_clock_mhz": 900.0, "gpu_cap_mhz": 900.0, "gpu_load_percent": 95.0, "power_w": 20.0}
    return Trace([Frame(at * 500_000_000, values) for at in range(242)])


def made(path: Path, *, row: Measurement = ROW, checks: tuple[Check, ...] = (), **changes: object) -> Run:
    """A run folder of a parity row that passed and a latency row without a budget."""
    parity = Verdict(Summary(Measurement(PARITY)), Outcome.PASS, "same")
    latency = judge(row, columns(), {0: traced()}, budget=None, profile=PROFILES["pr"], floor=None, state_checks=checks)
    run = Run(
        id="r1", started_at="", finished_at="", complete=True, exit_code=3, last_line="", command="trigate run", seed=0,
        settings={"profile": "pr", "require": "tensorrt"}, environment={}, configuration_sha256="sha", pack_sha256="",
        planned=(PARITY, CASE), verdicts=(parity, latency), trigate_version="0",
    )  # fmt: skip
    run = replace(run, **changes)  # type: ignore[arg-type] # fields by name
    with RunFolder(path) as folder:
        folder.write_samples("samples/a.parquet", columns())
        folder.write_samples("traces/a.parquet", trace_table({0: traced()}))
        folder.write_run(run)
    return run


@pytest.mark.covers("T2-03", "T2-02")
def test_a_run_is_judged_again_under_another_budget(tmp_path: Path) -> None:
    made(tmp_path / "run")
    for p95_ms, outcome, code in ((20.0, Outcome.PASS, 0), (11.0, Outcome.FAIL, 1), (None, Outcome.MEASURED, 3)):
        out = tmp_path / f"out-{p95_ms}"
        run = rejudge(tmp_path / "run", configuration(p95_ms), "orin", out)
        assert [verdict.outcome for verdict in run.verdicts] == [Outcome.PASS, outcome]
        assert run.exit_code == code
        assert run_from_text((out / "run.json").read_text()) == run
        assert run.configuration_sha256 == "other-sha"
        assert run.settings["board"] == "orin"
        assert "judged again from run r1 under board orin" in run.notes[-1]
        assert (out / "samples/a.parquet").read_bytes() == (tmp_path / "run/samples/a.parquet").read_bytes()
        assert any(figure.name == "mean_power_w" and figure.value for figure in run.verdicts[1].summary.figures)
    said: list[str] = []
    boardless = rejudge(tmp_path / "run", configuration(11.0), "", tmp_path / "none", say=said.append)
    assert boardless.verdicts[1].outcome is Outcome.MEASURED
    assert said[:2] == ["0 of 2 rows judged again", "1 of 2 rows judged again"]
    assert "files copied" in said[-1]
    again = rejudge(tmp_path / "out-11.0", configuration(20.0), "orin", tmp_path / "back")
    assert again.verdicts[1].outcome is Outcome.PASS


@pytest.mark.covers("T2-03", "T2-04")
def test_what_samples_do_not_show_is_carried_over(tmp_path: Path) -> None:
    checks = (Check("board: alone", Outcome.INCONCLUSIVE, "PID 7 firefox is on the GPU: kill 7"),)
    made(tmp_path / "run", checks=checks)
    verdict = rejudge(tmp_path / "run", configuration(), "orin", tmp_path / "out").verdicts[1]
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason.startswith("PID 7 firefox is on the GPU: kill 7")
    assert sum(check.name == "board: alone" for check in verdict.checks) == 1


def test_another_profile_and_other_floors_can_be_asked_for(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    strict = rejudge(tmp_path / "run", configuration(), "orin", tmp_path / "a", profile="signoff").verdicts[1]
    assert strict.outcome is Outcome.INCONCLUSIVE
    assert "1 of 5 launches" in strict.reason
    assert strict.summary.measurement.profile == "signoff"
    with pytest.raises(UsageError, match=r"no floors are kept in .*: it has no folder floors-simulated"):
        floors_for(replace(run, settings={"simulated": "steady"}), tmp_path)
    (tmp_path / "floors").mkdir()
    floors = floors_for(run, tmp_path)
    for night in range(3):
        floors.add_session(key_of(run.verdicts[1]), (400.0,), f"night-{night}", 60.0)
    floored = rejudge(tmp_path / "run", configuration(), "orin", tmp_path / "b", floors=floors).verdicts[1]
    assert floored.outcome is Outcome.INCONCLUSIVE
    assert floored.summary.judgement is not None
    assert floored.summary.judgement.floor == 400.0
    kept = rejudge(tmp_path / "b", configuration(), "orin", tmp_path / "c").verdicts[1].summary.judgement
    assert kept is not None
    assert (kept.floor, kept.floor_source) == (400.0, "the largest of 3 sessions, 3.0 h in all")


def test_a_killed_run_is_judged_as_far_as_it_got(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    path = tmp_path / "run"
    (path / "run.json").write_text(json.dumps(to_json(replace(run, verdicts=run.verdicts[:1], complete=False))))
    data = np.stack([columns()[name] for name in COLUMNS], axis=1).tobytes()
    (path / f"samples/{CASE.id}.journal").write_bytes(data[: -7 * 96 - 5])
    fails = rejudge(path, configuration(11.0), "orin", tmp_path / "a")
    assert fails.verdicts[1].outcome is Outcome.FAIL
    assert fails.verdicts[1].summary.measurement.sample_count == COUNT - 8
    assert not fails.complete
    passes = rejudge(path, configuration(20.0), "orin", tmp_path / "b").verdicts[1]
    assert passes.outcome is Outcome.INCONCLUSIVE
    assert passes.reason.startswith("incomplete: the run was killed while this row was measured")


def test_samples_of_the_first_form_are_read(tmp_path: Path) -> None:
    new = columns(100)
    old = {
        "call": np.arange(100), "scheduled_ns": new["scheduled_ns"], "woke_ns": new["woke_ns"],
        "started_ns": new["started_ns"], "done_ns": new["done_ns"],
        "phase": ["warmup"] * 5 + ["measure"] * 95, "ok": [True] * 99 + [False],
    }  # fmt: skip
    with RunFolder(tmp_path / "run") as folder:
        folder.write_samples("old.parquet", old)
        folder.write_samples("new.parquet", {**new, "throttled": [None] + [True] * 50 + [False] * 49})
    read = read_samples(tmp_path / "run/old.parquet")
    assert set(read) == set(COLUMNS)
    assert read["phase"].tolist() == [Phase.WARMUP] * 5 + [Phase.MEASURE] * 95
    assert read["status"].sum() == 1
    assert read["compute_ns"].tolist() == [UNKNOWN] * 100
    read = read_samples(tmp_path / "run/new.parquet")
    assert read["throttled"].tolist() == [-1] + [1] * 50 + [0] * 49
    assert all(np.array_equal(read[name], new[name]) for name in COLUMNS)


def test_files_of_an_older_writer_are_read_like_those_of_this_one(tmp_path: Path) -> None:
    frames = [
        replace(frame, alerts=("hot",) * (at > 3), missing={"tj_temp_c": "no zone"})
        for at, frame in enumerate(traced())
    ]
    tables = {
        "samples": {**columns(), "throttled": np.zeros(COUNT)},
        "traces": trace_table({2: Trace(frames), 0: traced()}),
    }
    with RunFolder(tmp_path / "run") as folder:
        for name, table in tables.items():
            folder.write_samples(f"{name}.parquet", table)
            pyarrow.parquet.write_table(
                pyarrow.table(table), tmp_path / f"run/old-{name}.parquet"
            )  # compressed, by value
    new, old = (read_samples(tmp_path / f"run/{name}.parquet") for name in ("samples", "old-samples"))
    assert list(new) == list(old) == [*COLUMNS, "throttled"]
    assert all(np.array_equal(new[name], old[name]) for name in new)
    new_traces, old_traces = (read_traces(tmp_path / f"run/{name}.parquet") for name in ("traces", "old-traces"))
    assert list(new_traces) == list(old_traces) == [2, 0]
    assert [*new_traces[2]] == [*old_traces[2]] == frames
    assert [*new_traces[0]] == [*old_traces[0]] == [*traced()]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"board_name": "orln"}, "Did you mean 'orin'"),
        ({"profile": "sign-off"}, "Did you mean 'signoff'"),
        (
            {"configuration": configuration(model="n")},
            "the run measured model 'm', which the configuration does not have",
        ),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, wrong: dict[str, object], words: str) -> None:
    made(tmp_path / "run")
    asked = {"configuration": configuration(), "board_name": "orin", "out": tmp_path / "out", **wrong}
    with pytest.raises(UsageError, match=words):
        rejudge(tmp_path / "run", **asked)  # type: ignore[arg-type] # keywords by name
    assert not (tmp_path / "out").exists()


def test_what_is_no_run_or_not_whole_is_refused(tmp_path: Path) -> None:
    def again(words: str, folder: Path = tmp_path / "run") -> None:
        with pytest.raises(UsageError, match=words):
            rejudge(folder, configuration(), "orin", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    again("is no run folder: it has no run.json", tmp_path)
    run = made(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    path.write_text(json.dumps({**to_json(run), "schema": 99}))
    again("cannot be read: run.json has schema 99")
    path.write_text("{")
    again("cannot be read: run.json is not JSON")
    path.write_text(json.dumps(to_json(replace(run, verdicts=run.verdicts[:1]))))
    again("no latency row with samples")
    for outside in ("../secret", "/etc/hostname"):
        measurement = replace(run.verdicts[1].summary.measurement, samples_file=outside)
        verdict = replace(run.verdicts[1], summary=replace(run.verdicts[1].summary, measurement=measurement))
        path.write_text(json.dumps(to_json(replace(run, verdicts=(verdict,)))))
        again("is not inside the run folder")
    (tmp_path / "run/samples/out.parquet").symlink_to(__file__)
    measurement = replace(run.verdicts[1].summary.measurement, samples_file="samples/out.parquet")
    verdict = replace(run.verdicts[1], summary=replace(run.verdicts[1].summary, measurement=measurement))
    path.write_text(json.dumps(to_json(replace(run, verdicts=(verdict,)))))
    again("a link that leads out of the run folder")
    path.write_text(json.dumps(to_json(run)))
    (tmp_path / "run/samples/a.parquet").write_bytes(b"PAR1 and no more")
    again(r"the samples .*a\.parquet cannot be read: .*Copy the whole run folder again")
    (tmp_path / "run/samples/a.parquet").unlink()
    again(r"a\.parquet, which latency\[m-tensorrt\] names, is missing")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    made(tmp_path / "whole")
    with pytest.raises(UsageError, match="exists already"):
        rejudge(tmp_path / "whole", configuration(), "orin", tmp_path / "full")
    with pytest.raises(UsageError, match="exists already"):
        rejudge(tmp_path / "whole", configuration(), "orin", tmp_path / "whole")


def test_damaged_samples_and_traces_are_named(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as folder:
        folder.write("bad.parquet", b"PAR1 and no more")
        lacking = columns(5)
        del lacking["status"]
        folder.write_samples("lacking.parquet", lacking)
        folder.write_samples("words.parquet", {**columns(2), "status": ["fine", "good"]})
        backward = trace_table({0: traced()})
        backward["at_ns"] = list(backward["at_ns"])[::-1]
        folder.write_samples("backward.parquet", backward)
    for name, words in (
        ("bad", "cannot be read"),
        ("lacking", "have no column 'status'"),
        ("words", "are damaged"),
        ("missing", "cannot be read"),
    ):
        with pytest.raises(UsageError, match=words):
            read_samples(tmp_path / f"run/{name}.parquet")
    with pytest.raises(UsageError, match="is damaged: a frame at"):
        read_traces(tmp_path / "run/backward.parquet")
    with pytest.raises(UsageError, match="has no column"):
        read_traces(tmp_path / "run/lacking.parquet")


MIX = (ModelConfig("ultravpr", onnx=Path("p.onnx"), load=LoadRule(3.0, 333.0)),
       ModelConfig("lightglue", onnx=Path("m.onnx"), load=LoadRule(39.0, 333.0, burst=13)))  # fmt: skip
SHORT = replace(
    PROFILES["pr"], least_s=60.0, most_s=90.0, sustained_s=70.0, least_calls=100,
    soak=SoakRule(slope_c_per_min=1.0, window_s=60.0, least_s=60.0, most_s=600.0),
)  # fmt: skip


def flown(deadline_ms: float = 333.0) -> Configuration:
    """The mix, each with a budget on the board."""
    models = {
        model.name: replace(
            model, load=replace(model.load, deadline_ms=deadline_ms), budget={"orin-nx": Budget(p95_ms=100.0)}
        )
        for model in MIX
        if model.load is not None
    }
    board = BoardConfig("orin-nx", "p3767-0000", "MAXN_SUPER", gpu_memory_bytes=4 << 30)
    return Configuration("c.toml", Path(), "other-sha", models=models, boards={"orin-nx": board})


def measured(path: Path, scenario: str, *kinds: str) -> Run:
    """A run folder of rows about the mix on a simulated board."""
    physics = load_scenario(Path(__file__).resolve().parents[3] / f"fixtures/scenarios/{scenario}.toml")

    def begin() -> SimulatedOrin:
        return SimulatedOrin(physics)

    asked, board = flown(), flown().boards["orin-nx"]
    tier2 = Tier2(begin(), SHORT, asked.models, begin=begin, board=board, kills=(SimulatedKill,), is_unified=True)
    planned = plan(Ask((2,), ("tensorrt",), tuple(asked.models.values()), "flight", (), board, {}, scenario=scenario))
    with RunFolder(path) as folder:
        verdicts = tuple(tier2.settle(case, folder) for case in planned if case.kind in kinds)
        run = Run(
            id="r2", started_at="", finished_at="", complete=True, exit_code=0, last_line="", command="", seed=0,
            settings={"profile": "pr"}, environment={}, configuration_sha256="sha", pack_sha256="",
            planned=tuple(verdict.case for verdict in verdicts), verdicts=verdicts, trigate_version="0",
        )  # fmt: skip
        folder.write_run(run)
    return run


@pytest.mark.covers("T2-03", "T2-01")
def test_the_mix_and_heat_are_judged_again_from_their_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "pr", SHORT)
    run = measured(tmp_path / "run", "steady", "flight", "heat")
    assert [verdict.outcome for verdict in run.verdicts] == [Outcome.PASS] * 2, [one.reason for one in run.verdicts]
    alike = rejudge(tmp_path / "run", flown(), "orin-nx", tmp_path / "alike")
    for before, after in zip(run.verdicts, alike.verdicts, strict=True):
        assert (after.outcome, after.reason) == (before.outcome, before.reason)
        assert {figure.name: figure.value for figure in after.summary.figures} == {
            figure.name: figure.value for figure in before.summary.figures
        }
        assert after.summary.judgement == before.summary.judgement
        assert {check.name for check in after.checks} == {check.name for check in before.checks}
    tight = rejudge(tmp_path / "run", flown(5.0), "orin-nx", tmp_path / "tight")
    assert [verdict.outcome for verdict in tight.verdicts] == [Outcome.FAIL] * 2
    floors = Floors(tmp_path / "floors")
    row = run.verdicts[0].summary.measurement
    for stream in streams_of(row.case, row.streams):
        own = replace(row, case=stream.case, placement=row.streams[0].placement, rate_hz=stream.rate_hz)
        for night in range(3):
            floors.add_session(key_of(Verdict(Summary(own), Outcome.PASS, "")), (400.0,), f"night-{night}", 60.0)
    floored = rejudge(tmp_path / "run", flown(), "orin-nx", tmp_path / "floored", floors=floors)
    assert [verdict.outcome for verdict in floored.verdicts] == [Outcome.INCONCLUSIVE] * 2
    again = rejudge(tmp_path / "floored", flown(), "orin-nx", tmp_path / "again")
    assert [verdict.outcome for verdict in again.verdicts] == [Outcome.INCONCLUSIVE] * 2  # a floor stays with its row


@pytest.mark.covers("OR-07")
def test_onnx_runtime_is_warned_of_by_tensorrts_own_p95_again_and_not_by_the_target_of_then(tmp_path: Path) -> None:
    theirs = replace(CASE, id="latency[m-onnx_trt_ep]", runtime="onnx_trt_ep")
    tensorrt = made(tmp_path / "run").verdicts[1]
    stale = Check("target", Outcome.MEASURED, "over the target of then")
    measurement = replace(tensorrt.summary.measurement, case=theirs, warnings=(stale.reason, "swap is full"))
    ort = replace(tensorrt, summary=replace(tensorrt.summary, measurement=measurement), checks=(stale,))
    assert tensorrt.summary.latency is not None
    p95 = replace(tensorrt.summary.latency.p95, value_ns=5_000_000)
    quick = replace(tensorrt, summary=replace(tensorrt.summary, latency=replace(tensorrt.summary.latency, p95=p95)))
    made(tmp_path / "slow", verdicts=(quick, ort))
    made(tmp_path / "alike", verdicts=(tensorrt, ort))
    warned = {}
    for folder in ("slow", "alike"):
        run = rejudge(tmp_path / folder, configuration(), "orin", tmp_path / f"{folder}-again")
        warned[folder] = run.verdicts[1].summary.measurement.warnings
    assert warned["alike"] == ("swap is full",)
    assert warned["slow"][0] == "swap is full"
    assert "is over the target of 7.5 ms" in warned["slow"][1]


@pytest.mark.covers("T2-02")
def test_a_load_row_is_judged_again_from_its_rounds_and_memory_is_said_to_be_as_it_was(tmp_path: Path) -> None:
    rounds = [LoadRound(False, 10**8, 10**9, 10**6, 2 * 10**9, 10**7, 4 * 10**9)] * 59
    loading = replace(CASE, id="load[m-tensorrt]", kind="load")
    memory = replace(CASE, id="memory-tensorrt-fp16", kind="memory", model="memory")
    off = Check("board: alone", Outcome.INCONCLUSIVE, "PID 7 firefox is on the GPU: kill 7")
    verdict = judge_load(Measurement(loading, profile="pr"), rounds, budget=None)
    kept = Verdict(Summary(Measurement(memory)), Outcome.PASS, "small")
    made(tmp_path / "run", verdicts=(verdict, kept))
    made(tmp_path / "open", verdicts=(replace(verdict, checks=(*verdict.checks, off)), kept))
    for folder, load_s, outcome in (
        ("run", 5.0, Outcome.PASS),
        ("run", 1.5, Outcome.FAIL),
        ("run", None, Outcome.MEASURED),
        ("open", 1.5, Outcome.INCONCLUSIVE),
    ):
        model = ModelConfig("m", budget={"orin": Budget(load_s=load_s)})
        asked = replace(configuration(), models={"m": model})
        run = rejudge(tmp_path / folder, asked, "orin", tmp_path / f"{folder}-{load_s}")
        assert [one.outcome for one in run.verdicts] == [outcome, Outcome.PASS]
        assert "under the budgets of then (memory-tensorrt-fp16 of tier 2)" in run.notes[-1]


@pytest.mark.covers("OR-07")
def test_a_board_may_give_sessions_more_time_than_the_flights_does(tmp_path: Path) -> None:
    rounds = [LoadRound(False, 10**8, 10**9, 7 * 10**9, 10**9, 10**7, 10**10)] * 59
    loading = replace(CASE, id="load[m-onnx]", kind="load", runtime="onnx_trt_ep")
    made(tmp_path / "run", verdicts=(judge_load(Measurement(loading, profile="pr"), rounds, budget=None),))
    slow = BoardConfig("orin", load=LoadLimits(session_s=20.0))
    for boards, outcome in (({"orin": BoardConfig("orin")}, Outcome.FAIL), ({"orin": slow}, Outcome.PASS)):
        models = {"m": ModelConfig("m", budget={"orin": Budget(load_s=5.0)})}
        asked = replace(configuration(), models=models, boards=boards)
        run = rejudge(tmp_path / "run", asked, "orin", tmp_path / outcome.value)
        assert [verdict.outcome for verdict in run.verdicts] == [outcome]


@pytest.mark.covers("T2-02")
def test_a_row_that_the_kernel_killed_is_judged_by_the_boards_memory_budget_again(tmp_path: Path) -> None:
    row = replace(ROW, incomplete="killed by signal 9 (SIGKILL): by the kernel")
    made(tmp_path / "run", row=row)
    asked = configuration()
    limited = replace(asked, boards={**asked.boards, "orin": BoardConfig("orin", gpu_memory_bytes=4 << 30)})
    verdict = rejudge(tmp_path / "run", limited, "orin", tmp_path / "limited").verdicts[1]
    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason.startswith("counts as over the memory budget (4 GiB of GPU memory): killed by signal 9")
    back = rejudge(tmp_path / "limited", asked, "orin", tmp_path / "back").verdicts[1]
    assert (back.outcome, back.reason.startswith("incomplete: killed")) == (Outcome.INCONCLUSIVE, True)


@pytest.mark.covers("RE-04", "RE-01")
def test_what_was_required_stays_so_and_the_configuration_and_the_board_add_theirs(tmp_path: Path) -> None:
    lost = Case("parity[m-torch]", 1, "parity", "m", "pytorch_fp16", "fp16", "fp16", "full", not_run="not installed")
    run = made(tmp_path / "run", planned=(PARITY, CASE, lost))
    run = replace(run, verdicts=(*run.verdicts, Verdict(Summary(Measurement(lost)), Outcome.NOT_RUN, lost.not_run)))
    (tmp_path / "run/run.json").write_text(json.dumps(to_json(run)))
    mine = configuration()
    boards = {**mine.boards, "orin": BoardConfig("orin", require=("pytorch_fp16",))}
    for name, asked, more in (
        ("neither", mine, ()),
        ("board", replace(mine, boards=boards), ("pytorch_fp16",)),
        ("top", replace(mine, require=("onnx_trt_ep",)), ("onnx_trt_ep",)),
    ):
        again = rejudge(tmp_path / "run", asked, "orin", tmp_path / name)
        kept = read_limits(tmp_path / name)
        assert kept is not None
        assert kept.require == ("tensorrt", *more)
        assert again.exit_code == (3 if more else 0)
        required = {case.id: case.required for case in again.planned}
        assert required == {PARITY.id: True, CASE.id: True, lost.id: "pytorch_fp16" in more}
        assert required == {verdict.case.id: verdict.case.required for verdict in again.verdicts}
        assert (again.notes[-1] == f"required now as well: {', '.join(more)}") is bool(more)
        # by other limits again, nothing that was asked for is dropped
        once_more = rejudge(tmp_path / name, mine, "thor", tmp_path / f"{name}-again")
        assert once_more.exit_code == 3
        assert set(more) <= set(read_limits(tmp_path / f"{name}-again").require)  # type: ignore[union-attr] # written above
    assert "Required pytorch_fp16: 1 of 1 rows do not show it" in read_run(tmp_path / "board").last_line
    assert "Required onnx_trt_ep: it has no row" in read_run(tmp_path / "top").last_line


@pytest.mark.covers("RE-04", "T2-01")
def test_a_row_that_other_limits_can_decide_is_required_and_one_of_a_simulated_board_is_not(tmp_path: Path) -> None:
    case = replace(CASE, required=False)
    made(tmp_path / "run", row=replace(ROW, case=case, profile="quick"), planned=(PARITY, case))
    for profile, board, outcome, is_asked in (
        (None, "orin", Outcome.PASS, False),
        ("pr", "thor", Outcome.MEASURED, False),
        ("pr", "orin", Outcome.PASS, True),
    ):
        out = tmp_path / f"{profile}-{board}"
        again = rejudge(tmp_path / "run", configuration(), board, out, profile=profile)
        assert [(row.outcome, row.case.required) for row in again.verdicts[1:]] == [(outcome, is_asked)]
    made(tmp_path / "made-up", row=replace(ROW, case=replace(case, simulated="steady"), simulated=True), settings={
        "profile": "pr", "require": "tensorrt", "simulated": "steady"})  # fmt: skip
    own = configuration()
    boards = {"orin": BoardConfig("orin", require=("pytorch_fp16",))}
    again = rejudge(tmp_path / "made-up", replace(own, boards=boards), "orin", tmp_path / "simulated")
    assert not again.verdicts[1].case.required
    assert read_limits(tmp_path / "simulated").require == ("tensorrt",)  # type: ignore[union-attr] # written above
