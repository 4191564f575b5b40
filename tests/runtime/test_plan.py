"""Plan headers, and what else is found under an engine's name."""

from __future__ import annotations

import re
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import EngineSchemaMismatchError
from runtime.plan import PlanHeader, read_plan_header

pytestmark = pytest.mark.covers("TR-05")


def plan(
    tag: bytes = b"ftrt", version: tuple[int, ...] = (10, 3, 0, 30), body: bytes = b"body", serial: int = 0
) -> bytes:
    return struct.pack("<4sI8xQ4B", tag, serial, 28 + len(body), *version) + body


@given(st.sampled_from([b"ftrt", b"vtrt"]), st.tuples(*[st.integers(0, 255)] * 4), st.binary(max_size=64))
def test_a_header_says_library_version_and_length(tag: Any, version: Any, body: Any) -> None:
    data = plan(tag, version, body)
    header = read_plan_header(memoryview(data))
    assert header == PlanHeader("tensorrt" if tag == b"ftrt" else "tensorrt_rtx", version, len(data))
    assert header.trt == ("" if tag == b"ftrt" else "rtx") + ".".join(map(str, version))


@given(st.binary(max_size=80))
def test_any_bytes_are_a_header_or_a_refusal(data: Any) -> None:
    try:
        assert read_plan_header(data).length == len(data)
    except EngineSchemaMismatchError as error:
        assert error.remedy  # noqa: PT017 - either outcome is right


JSON = b'{"stride": 32}'


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"),
        (
            struct.pack("<I", len(JSON)) + JSON + plan(),
            "of 18 bytes of JSON metadata, as Ultralytics writes it, with a plan",
        ),
        (struct.pack("<I", len(JSON)) + JSON + b"other", "and no plan behind it"),
        (plan()[:20], "truncated: it has 20 bytes"),
        (plan()[:-1], "truncated: it has 31 bytes of the 32"),
        (plan() + b"x", "longer than the plan in it: 33 bytes"),
        (plan(serial=3), "serialization version 3"),
        (plan(b"PK\x03\x04"), r"no TensorRT plan: it begins with b'PK\x03\x04'"),
    ],
)
def test_what_is_no_whole_plan_is_told_apart(data: Any, words: Any) -> None:
    with pytest.raises(EngineSchemaMismatchError, match=re.escape(words)):
        read_plan_header(data)
