"""Jobs and results travel between processes as one line of JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.data import Profile, TensorSpec
from runtime.strategies.trt_job import BuildJob, BuildResult

pytestmark = pytest.mark.covers("TT-01")

JOB = BuildJob(
    model=Path("/m/a.onnx"),
    folder=Path("/m/.build-1"),
    precision="int8",
    workspace_mb=64,
    route="trtexec",
    sm="87",
    module="p3767-0000",
    profiles=(Profile("x", (1, 2), (3, 4), (5, 6)),),
    calibration_dataset=Path("/m/frames"),
    dataset_sha256="d" * 64,
    calibration_cache=Path("/m/.build-1/trusted.cache"),
    timing_folder=Path("/m"),
    trtexec=Path("/usr/src/tensorrt/bin/trtexec"),
)
RESULT = BuildResult(
    plan=Path("/m/.build-1/plan"),
    library="tensorrt",
    version="10.3.0",
    expression="flags+calibrator",
    inputs=(TensorSpec("x", (1, "n"), "float32"),),
    outputs=(TensorSpec("y", (1,), "float16"),),
    layers=Path("/m/.build-1/layers.json"),
    precisions={"int8": 3, "fp32": 1},
    device_memory_bytes=10,
    timing_cache=Path("/m/.build-1/t.cache"),
    options={"workspace_mb": "64"},
    remarks=("a timing cache was not used",),
    peak_bytes=5,
)


@pytest.mark.parametrize("job", [JOB, BuildJob(Path("a"), Path("b"), "fp32", 1, "polygraphy", "none")])
def test_a_job_round_trips(job: BuildJob) -> None:
    assert "\n" not in job.to_json()
    assert BuildJob.from_json(job.to_json()) == job


@pytest.mark.parametrize("result", [RESULT, BuildResult(Path("p"), "tensorrt_rtx", "1.7", "strongly-typed", (), ())])
def test_a_result_round_trips(result: BuildResult) -> None:
    assert BuildResult.from_json(result.to_json()) == result


@pytest.mark.parametrize("text", ["", "[]", '{"modell": 1}', "half a li"])
def test_what_is_no_job_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"BuildJob|Expecting"):
        BuildJob.from_json(text)
