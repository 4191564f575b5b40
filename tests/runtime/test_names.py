"""Engine names: parse and format are inverse, and everything else is refused by part."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.data import PRECISIONS
from runtime.errors import EngineSchemaMismatchError
from runtime.names import EngineName, parse_engine_name, same_version

pytestmark = pytest.mark.covers("TR-01")

numbers = st.integers(0, 999).map(str)


def versions(least: int, most: int) -> st.SearchStrategy[str]:
    return st.lists(numbers, min_size=least, max_size=most).map(".".join)


names = st.builds(
    EngineName,
    model=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}", fullmatch=True),
    sm=st.integers(10, 999).map(str),
    jetpack=st.just("none") | st.just("unknown") | versions(2, 3),
    trt=st.builds(str.__add__, st.sampled_from(["", "rtx"]), versions(2, 4)),
    precision=st.sampled_from(PRECISIONS),
)


@given(names)
@example(EngineName("a__sm87_jp6.2_trt10.3_fp16.engine", "87", "6.2", "10.3", "fp16"))
@example(EngineName("a_", "87", "6.2", "10.3", "fp16"))
def test_parse_is_the_inverse_of_format(name: Any) -> None:
    assert parse_engine_name(name.format()) == name


@given(st.text() | st.from_regex(r"[a-z_]*__sm\w{0,3}_jp[\w.]{0,5}_trt[\w.]{0,6}_(fp16|x)\.engine"))
def test_any_text_is_refused_or_is_exactly_a_formatted_name(text: Any) -> None:
    try:
        name = parse_engine_name(text)
    except EngineSchemaMismatchError:
        return
    assert name.format() == text


def test_a_name_reads_as_the_requirement_writes_it() -> None:
    assert EngineName("disk", "87", "6.2", "10.3", "fp16").format() == "disk__sm87_jp6.2_trt10.3_fp16.engine"
    rtx = parse_engine_name("disk__sm89_jpnone_trtrtx1.7_fp16.engine")
    assert (rtx.jetpack, rtx.trt, rtx.is_rtx) == ("none", "rtx1.7", True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("disk__sm87_jp6.2_trt10.3_fp16.plan", "does not end in .engine"),
        ("disk__sm87_jp6.2_trt10.3_fp16.engine\n", "does not end in .engine"),
        ("disk.engine", "not of the form"),
        ("disk__sm87_jp6.2_fp16.engine", "not of the form"),
        ("disk_sm87_jp6.2_trt10.3_fp16.engine", "not of the form"),
        ("disk__jp6.2_sm87_trt10.3_fp16.engine", "'jp6.2' where sm<SM>"),
        ("disk__sm87_jp6.2_rtx1.7_fp16.engine", "'rtx1.7' where trt<TRT>"),
        ("__sm87_jp6.2_trt10.3_fp16.engine", "model is ''"),
        ("../disk__sm87_jp6.2_trt10.3_fp16.engine", "model is '../disk'"),
        ("disk__sm8.7_jp6.2_trt10.3_fp16.engine", "sm is '8.7'"),
        ("disk__smnone_jp6.2_trt10.3_fp16.engine", "sm is 'none'"),
        ("disk__sm087_jp6.2_trt10.3_fp16.engine", "sm is '087'"),
        ("disk__sm٨٧_jp6.2_trt10.3_fp16.engine", "sm is '٨٧'"),
        ("disk__sm87_jp6_trt10.3_fp16.engine", "jetpack is '6'"),
        ("disk__sm87_jp06.2_trt10.3_fp16.engine", "jetpack is '06.2'"),
        ("disk__sm87_jp6.2_trt10_fp16.engine", "trt is '10'"),
        ("disk__sm87_jp6.2_trt10.3_fp8.engine", "precision is 'fp8'"),
        ("disk__sm87_jp6.2_trt10.3_fp16x.engine", "precision is 'fp16x'"),
        ("disk__sm87_jp6.2_trt10.3-rc1_fp16.engine", "trt is '10.3-rc1'"),
        ("di sk__sm87_jp6.2_trt10.3_fp16.engine", "model is 'di sk'"),
        (f"{'m' * 180}__sm87_jp6.2_trt10.3_fp16.engine", "model is too long"),
    ],
)
def test_every_other_name_is_refused_with_the_part_that_is_wrong(name: Any, words: Any) -> None:
    with pytest.raises(EngineSchemaMismatchError, match=re.escape(words)):
        parse_engine_name(name)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("10.3", "10.3.0.30", True),
        ("10.3", "10.30", False),
        ("10.3.0.26", "10.3.0.30", False),
        ("rtx1.7", "rtx1.7.1.116", True),
        ("rtx1.7", "1.7", False),
        ("10.3", "none", False),
    ],
)
def test_versions_agree_in_every_part_that_both_give(left: Any, right: Any, same: Any) -> None:
    assert same_version(left, right) is same
    assert same_version(right, left) is same
