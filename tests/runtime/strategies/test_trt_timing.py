"""The timing cache beside the engines: keyed by what it holds for, and not used once it was changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.strategies.trt_timing import read_timing_cache, timing_cache_name, write_timing_cache

NAME = timing_cache_name(trt="10.3.0", sm="87", module="p3767-0000", driver_version=12060)

pytestmark = pytest.mark.covers("TT-01")


def test_its_name_says_for_what_it_holds() -> None:
    assert NAME == "timing__sm87_p3767-0000_trt10.3.0_cuda12.6.cache"


def test_it_is_read_back_while_it_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / NAME
    assert read_timing_cache(path) == (b"", "")
    write_timing_cache(path, b"measured")
    assert read_timing_cache(path) == (b"measured", "")


@pytest.mark.parametrize("spoiled", ["cache", "hash", "no hash", "folder"])
def test_one_that_was_changed_is_not_used_and_it_is_said_why(tmp_path: Path, spoiled: str) -> None:
    path = tmp_path / NAME
    write_timing_cache(path, b"measured")
    sidecar = path.with_name(NAME + ".sha256")
    if spoiled == "cache":
        path.write_bytes(b"Measured")
    elif spoiled == "hash":
        sidecar.write_text("")
    elif spoiled == "no hash":
        sidecar.unlink()
    else:
        path.unlink()
        path.mkdir()
    data, why_not = read_timing_cache(path)
    assert data == b""
    assert NAME in why_not
