"""The command line of ``trtexec`` by release, and what becomes of each way in which the program can end."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.data import Profile
from runtime.errors import EngineBuildError
from runtime.strategies.trt_job import BuildJob, Progress
from runtime.strategies.trt_precision import choose
from runtime.strategies.trt_trtexec import compose, find_trtexec, run_trtexec

pytestmark = pytest.mark.covers("TT-01")

FLAGS_OF_10_3 = {"strong_typing": False, "precision_flags": True}
FLAGS_OF_11 = {"strong_typing": True, "precision_flags": False}


def job(precision: str = "fp16", *profiles: Profile) -> BuildJob:
    return BuildJob(Path("/m/a.onnx"), Path("/m"), precision, 512, "trtexec", "87", profiles=profiles)


def command(asked: BuildJob, told: dict[str, bool], **more: Path) -> list[str]:
    has_ranges = asked.precision in ("int8", "mixed")
    expression = choose(
        asked.precision,
        strong_typing=told["strong_typing"],
        precision_flags=told["precision_flags"],
        calibrators="calibration_cache" in more,
        has_ranges=has_ranges,
    )
    return compose(
        Path("/t/trtexec"),
        asked,
        asked.model,
        expression,
        plan=Path("/m/plan"),
        layers=Path("/m/layers"),
        has_precision_flags=told["precision_flags"],
        **more,
    )


def test_the_flags_of_10_3_say_the_precision_and_apply_the_workspace() -> None:
    told = command(job(), FLAGS_OF_10_3, timing_cache=Path("/m/t.cache"))
    assert told == [
        "/t/trtexec",
        "--onnx=/m/a.onnx",
        "--saveEngine=/m/plan",
        "--memPoolSize=workspace:512",
        "--noTF32",
        "--fp16",
        "--timingCacheFile=/m/t.cache",
        "--profilingVerbosity=detailed",
        "--exportLayerInfo=/m/layers",
        "--skipInference",
    ]


@pytest.mark.covers("TT-02")
def test_int8_goes_in_as_a_calibration_cache_or_as_nodes_of_the_model() -> None:
    with_cache = command(job("mixed"), FLAGS_OF_10_3, calibration_cache=Path("/m/c.cache"))
    assert {"--fp16", "--int8", "--calib=/m/c.cache"} <= set(with_cache)
    with_nodes = command(job("int8"), FLAGS_OF_10_3)
    assert "--int8" in with_nodes
    assert not [word for word in with_nodes if word.startswith("--calib")]


@pytest.mark.covers("TT-02")
@pytest.mark.parametrize("has_flags", [True, False])
def test_strong_typing_is_asked_for_only_where_there_is_another_kind(has_flags: bool) -> None:
    told = command(job(), {"strong_typing": True, "precision_flags": has_flags})
    assert ("--stronglyTyped" in told) == has_flags
    assert not {"--fp16", "--int8"} & set(told)


def test_shapes_are_written_in_its_grammar() -> None:
    two = (Profile("x", (1, 3), (2, 3), (4, 3)), Profile("in:0", (1,), (1,), (9,)))
    told = command(job("fp32", *two), FLAGS_OF_10_3)
    assert {"--minShapes=x:1x3,'in:0':1", "--optShapes=x:2x3,'in:0':1", "--maxShapes=x:4x3,'in:0':9"} <= set(told)


@pytest.mark.parametrize("name", ["a,b", "it's", "in*"])
def test_a_name_that_its_grammar_cannot_write_is_refused(name: str) -> None:
    with pytest.raises(EngineBuildError, match="cannot be named to trtexec"):
        command(job("fp32", Profile(name, (1,), (1,), (1,))), FLAGS_OF_10_3)


def test_the_program_is_found_where_it_is_given_or_on_the_search_path(tmp_path: Path) -> None:
    program = tmp_path / "trtexec"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_trtexec(program) == program
    assert find_trtexec(None, str(tmp_path)) == program


def test_a_program_that_is_missing_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EngineBuildError, match=r"needs the program trtexec, and .*/nowhere is not there") as caught:
        find_trtexec(tmp_path / "nowhere")
    assert "route polygraphy" in caught.value.remedy
    with pytest.raises(EngineBuildError, match=r"it is neither /usr/src/tensorrt/bin/trtexec nor on the search path"):
        find_trtexec(None, str(tmp_path))
    with pytest.raises(EngineBuildError, match=r"it is not at /usr/src/tensorrt/bin/trtexec\."):
        find_trtexec()  # it was not looked for anywhere else


def script(folder: Path, body: str) -> str:
    path = folder / "trtexec"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def run(program: str, version: str = "10.3.0") -> tuple[list[tuple[str, str]], list[Progress]]:
    lines: list[tuple[str, str]] = []
    progress: list[Progress] = []
    run_trtexec([program], on_line=lambda *line: lines.append(line), on_progress=progress.append, version=version)
    return lines, progress


def test_its_lines_are_read_by_severity_and_its_milestones_are_progress(tmp_path: Path) -> None:
    say = "echo '[11/21/2026-12:00:00] "
    lines, progress = run(
        script(
            tmp_path,
            f"{say}[I] TensorRT version: 10.3.0'\n{say}[W] [TRT] mind this'\n{say}[I] Start parsing network model.'\n"
            f"{say}[I] Finished parsing network model.'\necho plain\n{say}[I] Engine built in 3 sec.'",
        )
    )
    assert ("WARNING", "[TRT] mind this") in lines
    assert ("INFO", "plain") in lines
    assert [told.step for told in progress] == [0, 1, 2, 3]
    assert {told.of for told in progress} == {3}


def test_a_failure_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(EngineBuildError, match=r"trtexec ended with 3; it says: Unknown option: --fp17") as caught:
        run(script(tmp_path, "echo '[11/21/2026-12:00:00] [E] Unknown option: --fp17'; exit 3"))
    assert caught.value.message.endswith(".")


def test_a_program_of_another_release_is_stopped(tmp_path: Path) -> None:
    program = script(tmp_path, "echo '[11/21/2026-12:00:00] [I] TensorRT version: 10.7.0'; exec sleep 60")
    with pytest.raises(EngineBuildError, match=r"is of TensorRT 10\.7\.0, and the library .* is 10\.3\.0"):
        run(program)


def test_what_cannot_be_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trtexec").write_bytes(b"\x7fELF of another machine")
    (tmp_path / "trtexec").chmod(0o755)
    with pytest.raises(EngineBuildError, match="cannot be run"):
        run(str(tmp_path / "trtexec"))
