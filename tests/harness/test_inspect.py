"""`trigate inspect`: each way in which a file is not what it should be is told by its reason, the others beside it."""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.errors import UsageError
from harness.inspect import Findings, compare_caches, inspect, listing
from harness.records import Case, Measurement, Outcome, Run, Summary, Verdict
from harness.run_folder import RunFolder
from runtime.files import sha256_hex
from runtime.names import parse_engine_name
from runtime.platform import HostTuple
from runtime.sidecar import Manifest, manifest_path, publish_engine, sidecar_path

HOST = HostTuple("87", "6.2", "10.3.0.30", "36.4.3", "p3767-0000")
NAME = "disk__sm87_jp6.2_trt10.3_fp16.engine"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 28\n"


def plan(tag: bytes = b"ftrt", version: tuple[int, ...] = (10, 3, 0, 30), body: bytes = b"body") -> bytes:
    return struct.pack("<4sI8xQ4B", tag, 0, 28 + len(body), *version) + body


def engine(folder: Path, data: bytes = b"", name: str = NAME) -> Path:
    """An engine for the flight's Orin with its sidecar and manifest, whatever its bytes are."""
    data = data or plan()
    parts = parse_engine_name(name)
    digest = sha256_hex(data)
    publish_engine(
        folder / name,
        data,
        Manifest(
            sha256=digest,
            model_sha256=digest,
            sm=parts.sm,
            jetpack=parts.jetpack,
            trt="10.3.0.30",
            precision=parts.precision,
            route="polygraphy",
            builder="test",
            module="p3767-0000",
            l4t="36.4.3",
        ),
    )
    return folder / name


def only(findings: Findings) -> str:
    assert not findings.passes
    (reason,) = findings.refusals
    assert f"{findings.refused}: {reason}" in findings.to_text()
    assert json.loads(json.dumps(findings.to_json()))["refusals"] == [reason]
    return reason


@pytest.mark.covers("TR-02", "TR-05")
@pytest.mark.parametrize("beside", ["", ".sha256", ".json"])
def test_an_engine_that_was_built_here_says_what_it_is_and_would_pass(tmp_path: Path, beside: str) -> None:
    path = engine(tmp_path)
    found = inspect(path.with_name(path.name + beside), HOST)
    assert found.passes, found.refusals
    assert found.says["name"] == "disk, sm87, jp6.2, trt10.3, fp16"
    assert found.says["plan header"] == "tensorrt 10.3.0.30, 32 bytes"
    assert found.says["manifest route"] == "polygraphy"
    assert found.to_text().splitlines()[-1] == "  would pass here"


@pytest.mark.covers("TR-01", "TR-03")
def test_a_renamed_engine_is_refused_and_its_fields_are_named(tmp_path: Path) -> None:
    path = engine(tmp_path)
    renamed = tmp_path / "disk__sm87_jp6.2_trt10.3_int8.engine"
    for old, new in ((path, renamed), (manifest_path(path), manifest_path(renamed))):
        old.rename(new)
    sidecar_path(renamed).write_text(sidecar_path(path).read_text().replace(path.name, renamed.name))
    assert "int8" in only(inspect(renamed, HOST))
    foreign = renamed.rename(tmp_path / "disk.engine")
    refusals = inspect(foreign, HOST).refusals
    assert "is not of the form" in refusals[0]
    assert "disk.engine.sha256 is missing" in refusals[1]


@pytest.mark.covers("TR-05")
def test_an_engine_of_tensorrt_rtx_under_a_name_of_tensorrt_is_refused(tmp_path: Path) -> None:
    reason = only(inspect(engine(tmp_path, plan(b"vtrt", (1, 7, 1, 116))), HOST))
    assert "a plan of TensorRT-RTX under a name of TensorRT" in reason


@pytest.mark.covers("TR-05")
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (LFS, "a Git LFS pointer"),
        (plan()[:-1], "truncated"),
        (plan() + b"\0", "longer than the plan in it"),
        (b"PK\3\4" + bytes(40), "no TensorRT plan"),
        (struct.pack("<I", 2) + b"{}" + plan(), "a foreign prefix"),
    ],
    ids=["lfs", "truncated", "longer", "zip", "prefix"],
)
def test_bytes_that_are_no_plan_are_refused_by_what_they_are(tmp_path: Path, data: bytes, says: str) -> None:
    assert says in only(inspect(engine(tmp_path, data), HOST))


@pytest.mark.covers("TR-04")
def test_changed_bytes_are_refused(tmp_path: Path) -> None:
    path = engine(tmp_path)
    path.write_bytes(plan(body=b"bodY"))
    found = inspect(path, HOST)
    assert sha256_hex(path.read_bytes())[:12] in only(found)


@pytest.mark.covers("TR-03")
def test_neither_another_host_nor_a_missing_manifest_hides_that_bytes_were_changed(tmp_path: Path) -> None:
    path = engine(tmp_path)
    path.write_bytes(plan(body=b"bodY"))
    elsewhere = inspect(path, HostTuple("87", "7.2", "10.16.2.10", "39.2.0", "p3767-0000"))
    assert len(elsewhere.refusals) == 2
    assert "this host is sm87 jp7.2 trt10.16" in elsewhere.refusals[0]
    assert "its bytes are not those" in elsewhere.refusals[1]
    manifest_path(path).unlink()
    assert "its bytes are not those" in inspect(path, HOST).refusals[1]


@pytest.mark.covers("TR-03")
@pytest.mark.parametrize("beside", [".sha256", ".json"])
def test_what_is_missing_beside_an_engine_is_named(tmp_path: Path, beside: str) -> None:
    path = engine(tmp_path)
    path.with_name(path.name + beside).unlink()
    assert f"{path.name}{beside} is missing" in only(inspect(path, HOST))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("absent.engine", "does not exist"),
        ("notes.txt", "is none of the files"),
        ("lonely.json", "stands beside no engine"),
        ("folder", "is neither a pack nor a run folder"),
    ],
)
def test_what_is_no_file_of_ours_is_a_usage_error(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "lonely.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=says):
        inspect(tmp_path / name, HOST)


def test_a_damaged_run_folder_or_pack_is_refused_with_the_reason(tmp_path: Path) -> None:
    for name, kind in (("run.json", "run"), ("pack.json", "pack")):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / name).write_text("{")
        found = inspect(folder, HOST)
        assert found.kind == kind
        assert only(found)


def a_run_folder(path: Path, **changes: Any) -> Path:
    """A run of two planned rows, of which one has failed, with the one file that it names."""
    rows = tuple(Case(name, 1, "parity", "disk", "onnx_trt_ep", "fp32", "fp32", "small") for name in ("a", "b"))
    row = Verdict(Summary(Measurement(rows[0], raw_file="raw/a.npz")), Outcome.FAIL, "too far")
    given: dict[str, Any] = {"complete": True, "exit_code": 1, "last_line": "FAIL 1: a.", "verdicts": (row,)}
    run = Run(
        "r1", "t0", "t1", command="trigate run", seed=0, settings={}, environment={}, configuration_sha256="",
        pack_sha256="", planned=rows, trigate_version="0", **{**given, **changes},
    )  # fmt: skip
    with RunFolder(path) as folder:
        folder.write_run(run)
        folder.write("raw/a.npz", b"PK")
    return path


@pytest.mark.covers("RE-01")
def test_a_run_that_failed_tells_its_verdict_and_that_its_folder_is_whole(tmp_path: Path) -> None:
    found = inspect(a_run_folder(tmp_path / "run"), HOST)
    assert found.passes
    assert (found.says["exit code"], found.says["verdict"]) == (1, "FAIL 1: a.")
    assert found.says["rows"] == "1 of 2 have a verdict"
    assert found.says["published"].startswith("nothing; ")
    text = found.to_text()
    assert "would pass" not in text
    assert text.endswith("the run folder is whole: every file that run.json names is there")
    assert listing([found, found]).splitlines()[-1] == "2 files: 2 in order, 0 refused."


@pytest.mark.covers("RE-01")
def test_a_run_that_was_cut_off_is_no_damaged_one(tmp_path: Path) -> None:
    found = inspect(a_run_folder(tmp_path / "run", complete=False, exit_code=None, last_line="b is running."), HOST)
    assert found.passes
    assert found.says["verdict"] == "b is running."
    assert "give its call again, with --resume" in found.notes[0]


@pytest.mark.covers("RE-01")
def test_a_file_that_a_run_names_and_lacks_is_damage_as_is_one_outside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run_folder(tmp_path / "run")
    assert main(["inspect", str(run)]) == 0
    (run / "raw/a.npz").unlink()
    assert "raw/a.npz is missing, which a names" in only(inspect(run, HOST))
    assert main(["inspect", str(run)]) == 1
    assert "  DAMAGED: raw/a.npz" in capsys.readouterr().out
    (run / "run.json").write_text((run / "run.json").read_text().replace("raw/a.npz", "../a.npz"))
    assert "is not inside the run folder" in only(inspect(run, HOST))


@pytest.mark.covers("RE-05")
def test_a_published_engine_that_is_gone_is_damage(tmp_path: Path) -> None:
    run = a_run_folder(tmp_path / "run")
    (run / "engines").mkdir()
    told = {"kind": "engine", "sha256": "0" * 64, "rows": []}
    files = [{**told, "file": "engines/x/a.engine", "copied": True}, {**told, "file": "model.onnx", "copied": False}]
    (run / "engines/index.json").write_text(json.dumps({"schema": 1, "files": files, "rows": {}}))
    found = inspect(run, HOST)
    assert found.says["published"] == "1 file in engines/, 1 listed by digest"
    assert "engines/x/a.engine is missing" in only(found)


@pytest.mark.covers("TR-06")
def test_an_onnx_model_says_its_signature_and_its_operators(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx: not installed")
    from tests.harness import tiny

    found = inspect(tiny.write_onnx(tmp_path / "tiny.onnx"), HOST)
    assert found.passes
    assert found.says["input x"] == "float32 [2, 16]"
    assert found.says["opsets"] == "ai.onnx 18"
    assert found.says["operators"] == "Gemm, LayerNormalization, Relu"
    (tmp_path / "tiny.onnx").write_bytes(LFS)
    assert "Git LFS" in only(inspect(tmp_path / "tiny.onnx", HOST))


@pytest.mark.covers("TR-07")
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch: not installed")
    from tests.harness import tiny

    found = inspect(tiny.write_checkpoint(tmp_path / "tiny.pt"), HOST)
    assert (found.says["tensors"], found.passes) == (6, True)

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.mkdir, (tmp_path / "owned",))

    torch.save({"first.weight": Trap()}, tmp_path / "tiny.pt")
    assert "weights_only=True" in only(inspect(tmp_path / "tiny.pt", HOST))
    assert not (tmp_path / "owned").exists()
    torch.save([1, 2], tmp_path / "tiny.pt")
    assert "expected a state dict" in only(inspect(tmp_path / "tiny.pt", HOST))


def layers(path: Path, schema: int = 1) -> Path:
    told = {
        "schema": schema,
        "source": "inspector",
        "precision": {"fp16": 2, "fp32": 1},
        "layers": [
            {"name": f"n{at}", "kind": "gemm", "inputs": [kind], "outputs": [kind], "constants": [], "precision": kind}
            for at, kind in enumerate(("fp16", "fp16", "fp32"))
        ],
    }
    beside = path.with_name(path.name + ".layers.json")
    beside.write_text(json.dumps(told))
    return beside


@pytest.mark.covers("TT-02")
def test_an_engine_says_what_each_layer_computes_in(tmp_path: Path) -> None:
    path = engine(tmp_path)
    beside = layers(path)
    for asked in (path, beside):
        found = inspect(asked, HOST)
        assert found.passes, found.refusals
        assert (found.says["layers"], found.says["layers told by"]) == ("fp16 2, fp32 1", "inspector")
        assert found.rows[0] == ("precision", "kind", "layer", "reads", "writes")
        assert found.rows[3] == ("fp32", "gemm", "n2", "fp32", "fp32")
    text = inspect(path, HOST).to_text()
    assert "fp32       gemm  n2     fp32   fp32" in text
    assert json.loads(json.dumps(inspect(path, HOST).to_json()))["rows"][0]["layer"] == "n0"


def test_a_file_of_layers_that_cannot_be_read_is_a_note_and_no_refusal(tmp_path: Path) -> None:
    path = engine(tmp_path)
    layers(path, schema=9)
    found = inspect(path, HOST)
    assert found.passes
    assert "its schema is 9" in found.notes[0]
    for damaged in ("[", "[" * 100_000):
        path.with_name(path.name + ".layers.json").write_text(damaged)
        (note,) = inspect(path, HOST).notes
        assert "cannot be read" in note
        assert "`trigate compile MODEL --force` writes it again" in note


def test_a_file_of_layers_that_was_written_and_is_gone_is_a_note_which_says_how_to_have_it_again(
    tmp_path: Path,
) -> None:
    path = engine(tmp_path)
    assert inspect(path, HOST).notes == ()  # nothing says that there was one
    told = json.loads(manifest_path(path).read_text())
    manifest_path(path).write_text(json.dumps({**told, "builder_options": {"layers_sha256": "0" * 64}}))
    found = inspect(path, HOST)
    assert found.passes
    assert f"{path.name}.layers.json is missing: `trigate compile MODEL --force`" in found.notes[0]


@pytest.mark.covers("TR-03")
def test_an_engine_can_be_held_against_the_host_that_it_is_for(tmp_path: Path) -> None:
    path = engine(tmp_path)
    here = HostTuple("89", "none", "rtx1.7.1.116")
    assert not inspect(path, here).passes
    assert inspect(path, here, elsewhere=True).passes
    path.write_bytes(plan(body=b"bodY"))
    assert not inspect(path, here, elsewhere=True).passes


def test_several_files_are_listed_one_line_each(tmp_path: Path) -> None:
    first = engine(tmp_path)
    layers(first)
    second = engine(tmp_path, name="disk__sm72_jp6.2_trt10.3_int8.engine")
    told = listing([inspect(path, HOST) for path in (first, second)]).splitlines()
    assert told[0].split() == ["file", "kind", "size", "precision", "route", "layers", "verdict"]
    assert "fp16 2, fp32 1" in told[1]
    assert told[1].endswith("would pass")
    assert "REFUSED: " in told[2]
    assert told[3] == "2 files: 1 would pass, 1 refused."


RANGES = b"TRT-100300-EntropyCalibration2\nimage: 3f800000\nconv: 40000000\n"


def cache(folder: Path, name: str = "disk__0_int8.cache", data: bytes = RANGES) -> Path:
    from runtime.calibration import write_cache

    write_cache(folder / name, data, "d" * 64)
    return folder / name


@pytest.mark.covers("TR-08")
@pytest.mark.parametrize("beside", ["", ".sha256", ".dataset_sha256"])
def test_a_calibration_cache_shows_its_ranges_and_what_it_was_made_from(tmp_path: Path, beside: str) -> None:
    path = cache(tmp_path)
    found = inspect(path.with_name(path.name + beside), HOST)
    assert found.passes
    assert (found.says["made by"], found.says["made from inputs"]) == ("TRT-100300-EntropyCalibration2", "d" * 64)
    assert found.rows == (("tensor", "range"), ("conv", "254"), ("image", "127"))


@pytest.mark.covers("TR-08")
def test_a_calibration_cache_that_a_build_would_refuse_is_refused_here(tmp_path: Path) -> None:
    path = cache(tmp_path)
    path.write_bytes(RANGES.replace(b"3f8", b"3f9"))
    assert "its bytes are not those" in only(inspect(path, HOST))
    path = cache(tmp_path)
    path.with_name(path.name + ".dataset_sha256").unlink()
    assert "dataset_sha256 is missing or damaged" in only(inspect(path, HOST))
    path.write_bytes(b"no cache")
    assert "first line" in only(inspect(path, HOST))


@pytest.mark.covers("TR-08")
def test_two_calibration_caches_are_compared_by_tensor(tmp_path: Path) -> None:
    old = cache(tmp_path)
    new = cache(tmp_path, "new.cache", RANGES.replace(b"40000000", b"40800000") + b"more: 3f800000\n")
    found = compare_caches(old, new)
    assert found.says["changed"] == "2 of 3 tensors"
    assert found.rows[1:] == (("more", "", "127", ""), ("conv", "254", "508", "2"), ("image", "127", "127", "1"))
    old.write_bytes(b"")
    with pytest.raises(UsageError, match="is no calibration cache"):
        compare_caches(old, new)


def test_the_command_lists_several_files_and_compares_two_caches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = [str(cache(tmp_path, name)) for name in ("a.cache", "b.cache")]
    assert main(["inspect", *two]) == 0
    assert "0 of 2 tensors" in capsys.readouterr().out
    assert main(["inspect", *two, two[0], "--json"]) == 0
    assert [found["kind"] for found in json.loads(capsys.readouterr().out)] == ["calibration cache"] * 3
    built = engine(tmp_path)
    assert main(["inspect", "--elsewhere", str(built)]) == 0
    capsys.readouterr()
    built.write_bytes(plan(body=b"bodY"))
    assert main(["inspect", "--elsewhere", str(built), two[0]]) == 1
    assert "2 files: 1 would pass, 1 refused." in capsys.readouterr().out


def test_a_timing_cache_says_whether_a_build_would_use_it(tmp_path: Path) -> None:
    from runtime.strategies.trt_timing import write_timing_cache

    path = tmp_path / "timing__sm87_p3767-0000_trt10.3.0_cuda12.6.cache"
    write_timing_cache(path, b"timings")
    assert (inspect(path, HOST).kind, inspect(path, HOST).passes) == ("timing cache", True)
    path.write_bytes(b"Timings")
    assert "is not the file" in only(inspect(path, HOST))


def test_a_file_that_may_not_be_read_is_told_and_is_no_internal_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path, host: HostTuple) -> Findings:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "m.engine").touch()
    monkeypatch.setattr("harness.inspect._engine", forbidden)  # root may read everything
    with pytest.raises(UsageError, match=r"m\.engine cannot be read: Permission denied\."):
        inspect(tmp_path / "m.engine")


def test_elsewhere_is_not_called_here(tmp_path: Path) -> None:
    found = Findings("engine", tmp_path / "m.engine", {})
    assert found.to_text().endswith("would pass here")
    assert replace(found, where="on the host that it says it is for").to_text().endswith("that it says it is for")
