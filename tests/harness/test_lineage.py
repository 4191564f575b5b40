"""The chain from model to row: each digest from who can know it, and each break of it named."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx: not installed")
pytest.importorskip("polygraphy", reason="polygraphy: not installed")

import tiers  # noqa: E402
from harness.config import Configuration, ModelConfig  # noqa: E402
from harness.fakes.device import SimulatedDevice  # noqa: E402
from harness.fakes.install import installed  # noqa: E402
from harness.inputs import digest  # noqa: E402
from harness.inspect import inspect  # noqa: E402
from harness.layers import read_layers  # noqa: E402
from harness.lineage import EngineFacts, broken_links, facts_of, inputs_sha256, lineage_table  # noqa: E402
from harness.measure import Bench, Observed  # noqa: E402
from harness.packs.folder import Pack  # noqa: E402
from harness.packs.maker import Maker  # noqa: E402
from harness.packs.model import ModelPack  # noqa: E402
from harness.plan import Ask  # noqa: E402
from harness.publish import keep_engines, published  # noqa: E402
from harness.records import Case, Figure, Measurement, Outcome, Run, Summary, Verdict, from_json, to_json  # noqa: E402
from harness.run import Job, Progress, run  # noqa: E402
from harness.run_folder import RunFolder  # noqa: E402
from runtime.architectures import ArchitectureRegistry  # noqa: E402
from runtime.config import RuntimeConfig  # noqa: E402
from runtime.data import EngineCacheEntry, EngineDescription, EngineLayer  # noqa: E402
from runtime.files import sha256_hex  # noqa: E402
from runtime.gate import EngineGate  # noqa: E402
from runtime.model_file import model_sha256  # noqa: E402
from runtime.sidecar import read_manifest, read_sidecar, sidecar_path  # noqa: E402
from runtime.strategies.trt import TensorrtRuntime  # noqa: E402
from runtime.strategies.trt_launch import in_process  # noqa: E402
from tests.harness import tiny  # noqa: E402
from tiers.simulated import HOSTS  # noqa: E402

pytestmark = pytest.mark.covers("RE-03")

HOST = HOSTS["10.3.0"]


def case(precision: str = "int8", kind: str = "parity", runtime: str = "tensorrt") -> Case:
    return Case(f"tiny-{runtime}-{precision}-{kind}", 1, kind, "tiny", runtime, precision, precision, "small")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """TensorRT on a simulated Orin, with a model that has calibration inputs."""
    room = tmp_path_factory.mktemp("lineage")
    tiny.write_onnx(room / "tiny.onnx")
    np.savez(room / "frame.npz", x=np.ones((2, tiny.WIDTH), np.float32))
    asked = ModelConfig("tiny", onnx=room / "tiny.onnx", precision=("fp32", "int8"), calibration=f"{room}/frame.npz")
    pack = Maker(room / "cache", {}, ArchitectureRegistry()).make([asked])
    config = RuntimeConfig(engine_cache_dir=room / "engines")
    with installed(SimulatedDevice(sm="87", is_integrated=True, driver_version=12060), tensorrt="10.3.0"):
        yield Bench(pack.models, config, lambda label, config: TensorrtRuntime(config, host=HOST, launch=in_process))


@pytest.fixture(scope="module")
def seen(bench: Bench) -> Observed:
    return bench.outputs(case())


def later_on(bench: Bench, pack: ModelPack | None = None) -> Bench:
    """Another run with the same engine."""
    later = Bench({"tiny": pack or bench.packs["tiny"]}, bench.config, bench.build)
    later.remember(case(), bench.entry(case(), bench.make("tensorrt"), Path()))
    return later


def facts(seen: Observed) -> EngineFacts:
    assert seen.facts is not None
    return seen.facts


def settled(seen: Observed) -> Verdict:
    return Verdict(Summary(seen.measurement), Outcome.MEASURED, "measured")


def run_of(*verdicts: Verdict, **more: Any) -> Run:
    cases = tuple(verdict.case for verdict in verdicts)
    told: dict[str, Any] = {"schema": 2, **more}
    return Run("a" * 32, "", "", True, 0, "", "", 0, {}, {}, "", "", cases, verdicts, "0", **told)


def kept(tmp_path: Path, seen: Observed, publish: str = "engines", name: str = "run") -> tuple[Run, Path]:
    """A run folder with one row, and its record."""
    with RunFolder(tmp_path / name) as folder:
        verdict = keep_engines(settled(seen), {"": facts(seen)}, folder, publish=publish)
    return run_of(verdict), tmp_path / name


def altered(run: Run, **lineage: str) -> Run:
    measurement = run.verdicts[0].summary.measurement
    return with_measurement(run, lineage={**measurement.lineage, **lineage})


def with_measurement(run: Run, **changes: Any) -> Run:
    (verdict, *rest) = run.verdicts
    measurement = replace(verdict.summary.measurement, **changes)
    return replace(run, verdicts=(replace(verdict, summary=replace(verdict.summary, measurement=measurement)), *rest))


def test_a_row_tells_what_it_descends_from_each_digest_from_who_can_know_it(bench: Bench, seen: Observed) -> None:
    pack = bench.packs["tiny"]
    lineage = seen.measurement.lineage
    (engine,) = bench.config.engine_cache_dir.glob("*_int8.engine")
    manifest = read_manifest(engine)
    assert lineage["model"] == lineage["built_from"] == model_sha256(pack.path(pack.onnx))
    assert lineage["inputs"] == inputs_sha256(pack.feed_sha256) == inputs_sha256(map(digest, pack.feeds()))
    assert lineage["engine"] == sha256_hex(engine.read_bytes()) == read_sidecar(engine)
    assert lineage["sidecar"] == sha256_hex(sidecar_path(engine).read_bytes())
    assert lineage["calibration"] == manifest.builder_options["calibration_dataset_sha256"]
    (cache,) = bench.config.engine_cache_dir.glob("*_int8.cache")
    assert lineage["calibration_cache"] == sha256_hex(cache.read_bytes())
    assert (lineage["builder"], lineage["route"]) == ("tensorrt 10.3.0", manifest.route)


@pytest.mark.covers("RE-02")
def test_the_inspectors_layers_the_size_and_the_time_of_the_build_come_with_the_row(
    tmp_path: Path, seen: Observed
) -> None:
    run, folder = kept(tmp_path, seen)
    summary = run.verdicts[0].summary
    layers = read_layers(folder, summary.measurement.layers_file)
    assert layers is not None
    assert (layers.source, layers.engine) == ("inspector", summary.measurement.lineage["engine"])
    assert layers.by_precision == summary.measurement.nodes_by_precision
    assert {"int8"} <= set(layers.by_precision)
    assert all(layer.provider == "simulated" for layer in layers.layers)
    assert any(layer.tactic.startswith("sim_sm_") for layer in layers.layers)
    figures = {figure.name: figure for figure in summary.figures}
    assert (figures["engine_bytes"].unit, figures["engine_bytes"].source) == ("bytes", "the plan file")
    assert (figures["build_ns"].value or 0) > 0


@pytest.mark.covers("RE-02")
def test_an_engine_that_was_found_in_the_cache_has_no_build_time(bench: Bench, seen: Observed) -> None:
    assert facts(seen).build_ns is not None
    again = later_on(bench).outputs(case())
    assert facts(again).build_ns is None
    assert facts(again).lineage == facts(seen).lineage


def test_what_a_child_tells_its_parent_comes_back_as_it_was(seen: Observed) -> None:
    assert from_json(EngineFacts, json.loads(json.dumps(to_json(facts(seen))))) == facts(seen)


def test_a_whole_chain_is_silent_and_stands_in_the_table(tmp_path: Path, seen: Observed) -> None:
    run, folder = kept(tmp_path, seen)
    assert broken_links(run, folder) == ()
    (line,) = lineage_table(run)
    assert (line["row"], line["name"], line["runtime"]) == (case().id, "tiny", "tensorrt")
    assert line["engine"] == seen.measurement.lineage["engine"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda run: altered(run, built_from="1f" * 32),
            "its engine was built from the model 1f1f1f1f1f1f1f1f, and the",
        ),
        (lambda run: altered(run, model="2f" * 32), "and the packed one is 2f2f2f2f2f2f2f2f"),
        (lambda run: altered(run, engine="3f" * 32), "its lineage that 3f3f3f3f3f3f3f3f did"),
        (lambda run: altered(run, inputs="4f" * 32), "the inputs at the runtime's door are not the packed ones"),
        (lambda run: altered(run, sidecar="no digest"), "its sidecar is 'no digest', which is no sha256"),
        (lambda run: with_measurement(run, model_sha256="5f" * 32), "the record says that 5f5f5f5f5f5f5f5f ran"),
        (lambda run: with_measurement(run, lineage={}, simulated=False), "it ran, and tells no model and no engine"),
        (lambda run: with_measurement(run, layers_file="layers/none.json"), "layers/none.json cannot be read"),
    ],
)
def test_each_break_of_the_chain_is_named_with_its_row(
    tmp_path: Path, seen: Observed, change: Callable[[Run], Run], told: str
) -> None:
    run, folder = kept(tmp_path, seen)
    found = broken_links(change(run), folder)
    assert any(told in sentence and sentence.startswith(case().id) for sentence in found), found


def test_rows_of_one_model_that_tell_different_inputs_or_models_are_named(tmp_path: Path, seen: Observed) -> None:
    run, _ = kept(tmp_path, seen)
    other = replace(case(), id="other")
    (second,) = with_measurement(run, case=other).verdicts
    both = replace(run, verdicts=(*run.verdicts, second))
    assert broken_links(both) == ()
    changed = altered(replace(run, verdicts=(second,)), model="6f" * 32, built_from="6f" * 32, inputs="7f" * 32)
    changed = with_measurement(changed, input_sha256=())
    found = broken_links(replace(both, verdicts=(run.verdicts[0], *changed.verdicts)))
    assert [sentence.partition(" is ")[0] for sentence in found] == [
        "other: its inputs",
        "other: its packed model",
        f"other: its engine {seen.measurement.lineage['engine'][:16]} also ran in {case().id}, and there its model",
    ]


def test_a_run_from_before_rows_had_a_lineage_and_rows_that_never_ran_are_not_blamed() -> None:
    ran = Verdict(Summary(Measurement(case(), placement="tensorrt[tensorrt]")), Outcome.PASS, "")
    assert broken_links(run_of(ran, schema=1)) == ()
    simulated = replace(ran, summary=Summary(replace(ran.summary.measurement, simulated=True)))
    artifact = replace(ran, summary=Summary(replace(ran.summary.measurement, case=case(kind="artifact"))))
    missing = replace(ran, outcome=Outcome.NOT_RUN)
    assert broken_links(run_of(simulated, artifact, missing)) == ()
    assert broken_links(run_of(ran)) == (f"{case().id}: it ran, and tells no model and no engine",)


def test_an_engine_of_another_model_is_no_witness_of_the_packed_one(
    bench: Bench, tmp_path: Path, seen: Observed
) -> None:
    """The pack says that its model is another than the one that the engine was built from."""
    pack = replace(bench.packs["tiny"], onnx_sha256="8f" * 32)
    measured = later_on(bench, pack).outputs(case()).measurement
    assert not measured.witness
    assert any("no witness of the packed model" in note for note in measured.notes)
    assert seen.measurement.witness


@pytest.mark.covers("RE-02")
def test_several_models_in_one_row_are_told_by_name(tmp_path: Path, seen: Observed) -> None:
    row = replace(case(), id="flight", kind="flight", model="flight")
    verdict = Verdict(Summary(replace(seen.measurement, case=row)), Outcome.MEASURED, "")
    with RunFolder(tmp_path / "run") as folder:
        verdict = keep_engines(verdict, {"disk": facts(seen), "größe [1]": facts(seen)}, folder)
    measurement = verdict.summary.measurement
    assert "engine" not in measurement.lineage
    assert measurement.lineage["engine[disk]"] == facts(seen).lineage["engine"]
    assert measurement.layers_file == ""
    assert [figure.name for figure in verdict.summary.figures][::2] == ["engine_bytes[disk]", "engine_bytes[größe [1]]"]
    assert [line["name"] for line in lineage_table(run_of(verdict))] == ["disk", "größe [1]"]


@pytest.mark.covers("RE-05")
def test_publishing_puts_whole_engines_into_the_run_folder_with_an_index(tmp_path: Path, seen: Observed) -> None:
    run, folder = kept(tmp_path, seen)
    files = published(folder)
    assert sorted(each["kind"] for each in files) == [
        "calibration cache", "calibration cache", "calibration cache", "engine", "layers", "manifest", "sidecar",
    ]  # fmt: skip
    for each in files:
        assert each["copied"]
        assert each["rows"] == [case().id]
        assert sha256_hex((folder / each["file"]).read_bytes()) == each["sha256"]
    lineage = run.verdicts[0].summary.measurement.lineage
    (engine,) = folder.glob("engines/*/*.engine")
    assert engine.parent.name == lineage["engine"][:16]
    entry = EngineCacheEntry(engine, lineage["engine"], "87", "6.2", "10.3", "int8")
    assert EngineGate(HOST).validate(entry).manifest.model_sha256 == lineage["model"]
    assert json.loads((folder / "engines/index.json").read_text())["rows"] == {case().id: dict(lineage)}


@pytest.mark.covers("RE-05")
def test_a_second_row_shares_the_files_and_a_row_that_is_run_again_is_listed_once(
    tmp_path: Path, seen: Observed
) -> None:
    run, path = kept(tmp_path, seen)
    other = replace(seen, measurement=replace(seen.measurement, case=replace(case(), id="other")))
    with RunFolder(path, resume=True) as folder:
        for each in (other, other):
            keep_engines(settled(each), {"": facts(each)}, folder, publish="engines")
    assert {tuple(each["rows"]) for each in published(path)} == {("other", case().id)}
    assert len(list(path.glob("engines/*"))) == 2  # one engine's folder, and the index
    assert broken_links(run, path) == ()


@pytest.mark.covers("RE-05")
def test_nothing_is_published_unless_asked_and_never_what_has_changed_since(tmp_path: Path, seen: Observed) -> None:
    _, plain = kept(tmp_path, seen, publish="", name="plain")
    assert not (plain / "engines").exists()
    stale = replace(facts(seen), files=tuple(replace(each, sha256="9f" * 32) for each in facts(seen).files))
    with RunFolder(tmp_path / "stale") as folder:
        keep_engines(settled(seen), {"": stale}, folder, publish="engines")
    assert {each["why"] for each in published(tmp_path / "stale")} == {"it was changed since the row ran"}
    assert not list((tmp_path / "stale").glob("engines/*/*"))


def test_what_was_published_and_then_damaged_exchanged_or_taken_away_is_named(tmp_path: Path, seen: Observed) -> None:
    run, folder = kept(tmp_path, seen)
    (engine,) = folder.glob("engines/*/*.engine")
    content = engine.read_bytes()
    engine.unlink()
    assert any("it is missing" in each for each in broken_links(run, folder))
    engine.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert any(each.startswith("engines/") and "its sha256 is" in each for each in broken_links(run, folder))
    engine.write_bytes(content)
    assert broken_links(run, folder) == ()
    (folder / "engines/index.json").write_text('{"files": 3}')
    assert broken_links(run, folder) == (
        "engines/index.json cannot be read: TypeError(\"'int' object is not iterable\")",
    )


@pytest.mark.covers("RE-02", "RE-05")
def test_model_files_are_listed_by_digest_and_copied_where_that_is_asked(bench: Bench, tmp_path: Path) -> None:
    pack: ModelPack = bench.packs["tiny"]
    model = pack.path(pack.onnx)
    entry = EngineCacheEntry(model, model_sha256(model), "none", "none", "none", "fp32")
    told = EngineDescription(
        (),
        (),
        "cpu",
        {},
        "fp32",
        {},
        0,
        0,
        layers=(EngineLayer("first", "Gemm", "fp32", "cpu"),),
        layers_source="profile",
    )
    found = facts_of(entry, pack, model, told)
    assert found.lineage["engine"] == found.lineage["model"] == pack.onnx_sha256
    assert (found.size_bytes, found.size_source) == (model.stat().st_size, "the model file")
    row = Verdict(Summary(Measurement(case("fp32", runtime="onnx_trt_ep"), "onnx_trt_ep[cpu]")), Outcome.MEASURED, "")
    for publish, copies in (("engines", 0), ("all", 1)):
        with RunFolder(tmp_path / publish) as folder:
            verdict = keep_engines(row, {"": found}, folder, publish=publish)
        (listed,) = published(tmp_path / publish)
        assert (listed["sha256"], listed["copied"]) == (pack.onnx_sha256, bool(copies))
        assert len(list((tmp_path / publish).glob("engines/*/*"))) == copies
        assert broken_links(run_of(verdict), tmp_path / publish) == ()
    assert model.stat().st_nlink == 1  # a second link would make the core refuse a model's external data


def test_engines_that_onnx_runtime_built_for_itself_are_what_ran(bench: Bench, tmp_path: Path) -> None:
    pack: ModelPack = bench.packs["tiny"]
    model = pack.path(pack.onnx)
    built = []
    for name in ("first.engine", "second.engine"):
        (tmp_path / name).write_bytes(name.encode())
        built.append(tmp_path / name)
    entry = EngineCacheEntry(model, model_sha256(model), "87", "6.2", "10.3", "fp16")
    told = EngineDescription((), (), "tensorrt", {}, "unknown", {}, 0, 0, built=tuple(built))
    found = facts_of(entry, pack, model, told)
    assert found.lineage["engine"] == sha256_hex(b"first.engine")
    assert found.lineage["engine#2"] == sha256_hex(b"second.engine")
    assert found.lineage["built_from"] == found.lineage["model"] == entry.sha256
    assert (found.size_bytes, found.size_source) == (25, "the engines in ONNX Runtime's cache")
    with RunFolder(tmp_path / "run") as folder:
        row = Verdict(Summary(Measurement(case("fp16"), "onnx_trt_ep[tensorrt]")), Outcome.MEASURED, "")
        verdict = keep_engines(row, {"": found}, folder, publish="engines")
    assert (tmp_path / "first.engine").stat().st_nlink == 1  # ONNX Runtime writes its cache in place: no link to it
    assert broken_links(run_of(verdict), tmp_path / "run") == ()


def test_a_figure_that_the_row_has_already_is_not_told_twice(tmp_path: Path, seen: Observed) -> None:
    own = Figure("build_ns", 5.0, "ns", "the host's clock around the build")
    verdict = settled(seen)
    verdict = replace(verdict, summary=replace(verdict.summary, figures=(own,)))
    with RunFolder(tmp_path / "run") as folder:
        figures = keep_engines(verdict, {"": facts(seen)}, folder).summary.figures
    assert [figure for figure in figures if figure.name == "build_ns"] == [own]


@pytest.mark.covers("RE-05")
def test_inspect_lists_what_a_run_has_published_and_each_break_of_the_chain(tmp_path: Path, seen: Observed) -> None:
    run, path = kept(tmp_path, seen)
    with RunFolder(path, resume=True) as folder:
        folder.write_run(altered(run, inputs="4f" * 32))
    found = inspect(path)
    assert str(found.says["published"]).startswith("7 files in engines/")
    assert {row[1] for row in found.rows[1:]} == {"calibration cache", "engine", "layers", "manifest", "sidecar"}
    assert all(row[-1] == case().id for row in found.rows[1:])
    assert any("the inputs at the runtime's door are not the packed ones" in note for note in found.notes)


@pytest.mark.covers("RE-02", "RE-05")
def test_a_row_of_a_real_run_comes_with_all_of_it_and_a_pair_with_both_engines(bench: Bench, tmp_path: Path) -> None:
    """By ``harness.run.run``: what ends in run.json, and in the folder."""
    rows = [case("fp32"), replace(case("fp32", kind="pair"), against="third.party:Class")]
    job = Job(
        ask=Ask((1,), (), (), "small", (), None, {}),
        cases=tuple(rows),
        pack=Pack(bench.packs, "9a" * 32, 0, "small"),
        broken={},
        configuration=Configuration("c.toml", tmp_path, "c0" * 32),
        models={name: pack.config() for name, pack in bench.packs.items()},
        bench=Bench(bench.packs, bench.config, bench.build),
        suites=Path(str(tiers.__file__)).parent,
        environment={"sm": "none"},
        settings={},
        command=["trigate"],
        version="0",
        gpu_host=False,
        device="auto",
        publish="engines",
    )
    with RunFolder(tmp_path / "run") as folder:
        stale = folder.write(f"layers/{rows[1].id}.json", b"of a try that was cut off")
        done = run(job, folder, Progress())
    parity, pair = (verdict.summary.measurement for verdict in done.verdicts)
    layers = read_layers(tmp_path / "run", parity.layers_file)
    assert layers is not None
    assert layers.engine == parity.lineage["engine"]
    assert parity.lineage["reference"]
    assert pair.layers_file == ""
    assert not (tmp_path / "run" / stale).exists()
    assert pair.lineage["engine[third.party:Class]"]
    assert {"engine_bytes", "build_ns"} <= {figure.name for figure in done.verdicts[0].summary.figures}
    assert {row for each in published(tmp_path / "run") for row in each["rows"]} == {row.id for row in rows}
    assert broken_links(done, tmp_path / "run") == ()


@pytest.mark.covers("RE-05")
def test_an_index_of_a_strangers_run_folder_removes_and_reads_nothing_outside_of_it(
    tmp_path: Path, seen: Observed
) -> None:
    run, path = kept(tmp_path, seen)
    outside = tmp_path / "precious"
    outside.write_text("mine")
    index = path / "engines/index.json"
    told = json.loads(index.read_text())
    strange = {"kind": "engine", "sha256": "0" * 64, "rows": [case().id], "copied": True}
    for name in ("engines/../../precious", "../precious", "engines/\0", str(outside)):
        told["files"].append({**strange, "file": name})
    index.write_text(json.dumps(told))
    assert sum("leads out of the run folder" in each for each in broken_links(run, path)) == 4
    told["files"] += [3, {"file": 4}, {"file": "x", "rows": 5}]
    index.write_text(json.dumps(told))
    assert [each.partition(":")[0] for each in broken_links(run, path)] == ["engines/index.json cannot be read"]
    with RunFolder(path, resume=True) as folder:
        keep_engines(settled(seen), {"": facts(seen)}, folder, publish="engines")
    assert outside.read_text() == "mine"
    assert {each["file"].split("/")[0] for each in published(path)} == {"engines"}
    assert broken_links(run, path) == ()
