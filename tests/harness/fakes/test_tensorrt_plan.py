"""Plans of the fake: the real header, and everything that TensorRT refuses refused in its words."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.fakes.tensorrt_plan import (
    Flavour,
    Plan,
    PlanRefusedError,
    flavour_of,
    read_any_plan,
    read_plan,
    write_plan,
)
from runtime.plan import read_plan_header

pytestmark = pytest.mark.covers("T0-02")

PLAN = Plan(
    name="net",
    sms=("87",),
    model=b"the model" * 20,
    profiles=({"x": ((1, 8), (2, 8), (4, 8))},),
    scratch_bytes=(4096,),
    weights_bytes=64,
    layers=({"Name": "a", "LayerType": "kgen", "Inputs": [], "Outputs": []},),
)
OLD, ORIN, LATE = flavour_of("10.3.0"), flavour_of("10.16.1.11"), flavour_of("11.4.0.106")
RTX = flavour_of("rtx1.7.1.116")


def read(data: bytes, flavour: Flavour = OLD, sm: str = "87", **how: Any) -> Plan:
    return read_plan(memoryview(data), flavour, sm, **how)


def refusal(data: bytes, flavour: Flavour = OLD, sm: str = "87", **how: Any) -> PlanRefusedError:
    with pytest.raises(PlanRefusedError) as caught:
        read(data, flavour, sm, **how)
    return caught.value


@pytest.mark.parametrize("flavour", [OLD, ORIN, LATE])
def test_a_plan_comes_back_as_it_was_written(flavour: Flavour) -> None:
    assert read(write_plan(PLAN, flavour), flavour) == PLAN


def test_a_plan_of_tensorrt_rtx_runs_on_each_gpu_that_it_was_built_for() -> None:
    data = write_plan(replace(PLAN, sms=("86", "89")), RTX)
    assert struct.unpack_from("<I", data, 32) == (12,)
    assert data[28:32] == b"vtrt"
    for sm in ("86", "89"):
        assert read(data, RTX, sm).sms == ("86", "89")
    assert "expecting compute 12.0 got compute 8.6" in refusal(data, RTX, "120").text


@pytest.mark.parametrize(
    ("flavour", "trt"), [(OLD, "10.3.0.30"), (ORIN, "10.16.1.11"), (LATE, "11.4.0.106"), (RTX, "rtx1.7.1.116")]
)
def test_the_header_is_the_one_that_real_plans_have(flavour: Flavour, trt: str) -> None:
    data = write_plan(PLAN if not flavour.is_rtx else replace(PLAN, sms=("89",)), flavour)
    header = read_plan_header(data)
    assert (header.trt, header.length) == (trt, len(data))


def test_another_version_is_refused_by_its_serialisation_number() -> None:
    error = refusal(write_plan(PLAN, LATE))
    assert error.code == "UNSPECIFIED_ERROR"
    assert "Version tag does not match. Note: Current Version: 239, Serialized Engine Version: 244" in error.text


def test_another_build_of_the_same_version_is_refused_by_its_library_version() -> None:
    error = refusal(write_plan(PLAN, replace(OLD, version=(10, 3, 0, 26))))
    assert "expecting library version 10.3.0.30 got 10.3.0.26, please rebuild" in error.text


def test_another_gpu_is_refused_with_both() -> None:
    error = refusal(write_plan(PLAN, OLD), sm="110")
    assert error.code == "FAILED_INITIALIZATION"
    assert "incompatible device, expecting compute 11.0 got compute 8.7, please rebuild" in error.text


def test_ampere_plus_is_for_other_desktop_gpus_and_not_for_a_jetson() -> None:
    data = write_plan(replace(PLAN, sms=("86",), hardware_level="AMPERE_PLUS"), OLD)
    assert read(data, sm="89").sms == ("86",)
    assert "expecting compute 8.7" in refusal(data, sm="87").text
    assert "expecting compute 7.5" in refusal(data, sm="75").text


def test_a_version_compatible_plan_loads_in_a_later_release_that_allows_host_code() -> None:
    with_code = replace(PLAN, is_version_compatible=True, has_lean_runtime=True)
    data = write_plan(with_code, OLD)
    assert "host executable code" in refusal(data, ORIN).text
    assert read(data, ORIN, allows_host_code=True) == with_code
    assert read(write_plan(replace(with_code, has_lean_runtime=False), OLD), LATE).name == "net"
    assert "Version tag" in refusal(write_plan(with_code, LATE), OLD, allows_host_code=True).text


@pytest.mark.parametrize(
    ("data", "flavour", "code", "words"),
    [
        (b"", OLD, "INVALID_ARGUMENT", "empty memory buffer"),
        (b"ftrt" + bytes(20), OLD, "INTERNAL_ERROR", "bufferSize >= minBufferSize"),
        (
            b"version https://git-lfs.github.com/spec/v1\n" + b"x" * 90,
            OLD,
            "UNSPECIFIED_ERROR",
            "Magic tag does not match",
        ),
        (b"version https://git-lfs.github.com/spec/v1\n" + b"x" * 90, LATE, "UNSPECIFIED_ERROR", "kEXPECTED_MAGIC_TAG"),
        (b"\x80\x00\x00\x00{" + b"x" * 200, OLD, "UNSPECIFIED_ERROR", "Magic tag does not match"),
        (write_plan(replace(PLAN, sms=("89",)), RTX), ORIN, "UNSPECIFIED_ERROR", "1953657974 != 1953657958"),
        (write_plan(PLAN, OLD), RTX, "UNSPECIFIED_ERROR", "1953657958 != 1953657974"),
        (write_plan(PLAN, OLD) + b"x", OLD, "UNSPECIFIED_ERROR", "plan.header.size == blobSize"),
    ],
)
def test_what_is_no_plan_is_refused(data: bytes, flavour: Flavour, code: str, words: str) -> None:
    error = refusal(data, flavour, "89")
    assert error.code == code
    assert words in error.text


@given(st.data())
def test_a_plan_that_was_cut_anywhere_is_refused(data: st.DataObject) -> None:
    whole = write_plan(PLAN, OLD)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert refusal(whole[:cut]).code in ("INVALID_ARGUMENT", "INTERNAL_ERROR", "UNSPECIFIED_ERROR")


@given(st.data())
def test_a_plan_with_any_bit_flipped_is_refused(data: st.DataObject) -> None:
    whole = bytearray(write_plan(PLAN, OLD))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    assert "Error Code" in refusal(bytes(whole)).text


def test_a_plan_is_found_by_the_version_in_its_header() -> None:
    for flavour in (OLD, ORIN, LATE):
        assert read_any_plan(memoryview(write_plan(PLAN, flavour)), "87") == PLAN
    with pytest.raises(PlanRefusedError):
        read_any_plan(memoryview(b"no plan at all"), "87")
