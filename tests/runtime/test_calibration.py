"""Calibration inputs and caches: what they are bound to, and that nothing that cannot be trusted is used or overwritten."""

from __future__ import annotations

import io
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.calibration import (
    CalibrationRanges,
    RangeChange,
    cache_sidecar,
    compare_ranges,
    dataset_sidecar,
    format_ranges,
    open_dataset,
    parse_ranges,
    read_cache,
    write_cache,
)
from runtime.data import TensorSpec
from runtime.errors import CalibrationCacheError
from runtime.files import FileSystem, sha256_hex
from runtime.logs import EventLog

pytestmark = pytest.mark.covers("TR-08")

SPECS = (TensorSpec("image", (1, 3, 4, 5), "float32"), TensorSpec("points", (1, "n", 2), "float32"))
ONE = (TensorSpec("x", (2, 3), "float32"),)
DATASET = "d" * 64
CACHE = b"TRT-100300-EntropyCalibration2\nimages: 3c010204\nconv1: 3f800000\n"


def feed(seed: int, points: int = 7) -> dict[str, Any]:
    chance = np.random.default_rng(seed)
    image = chance.standard_normal((1, 3, 4, 5)).astype(np.float32)
    return {"image": image, "points": chance.standard_normal((1, points, 2)).astype(np.float32)}


def folder(path: Path, count: int = 3) -> Path:
    path.mkdir()
    for at in range(count):
        np.savez(path / f"{at:02}.npz", **feed(at))
    return path


def test_a_folder_of_samples_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    dataset = open_dataset(folder(tmp_path / "frames"), SPECS)
    assert (dataset.count, dict(dataset.shapes)) == (3, {"image": (1, 3, 4, 5), "points": (1, 7, 2)})
    samples = list(dataset.samples())
    for at, sample in enumerate(samples):
        for name, array in feed(at).items():
            np.testing.assert_array_equal(sample[name], array)


def test_the_hash_is_over_the_arrays_and_their_places_and_not_over_the_archive(tmp_path: Path) -> None:
    first = open_dataset(folder(tmp_path / "a"), SPECS).sha256
    packed = folder(tmp_path / "b")
    for at in range(3):
        np.savez_compressed(packed / f"{at:02}.npz", **dict(reversed(feed(at).items())))
    assert open_dataset(packed, SPECS).sha256 == first
    (packed / "02.npz").rename(packed / "03.npz")
    assert open_dataset(packed, SPECS).sha256 != first
    (packed / "03.npz").rename(packed / "02.npz")
    changed = feed(2)
    changed["image"][0, 0, 0, 0] += 1
    np.savez(packed / "02.npz", **changed)
    assert open_dataset(packed, SPECS).sha256 != first


def test_a_model_with_one_input_takes_npy_files(tmp_path: Path) -> None:
    for at in range(2):
        np.save(tmp_path / f"{at}.npy", np.full((2, 3), at, np.float32))
    assert [sample["x"][0, 0] for sample in open_dataset(tmp_path, ONE).samples()] == [0, 1]
    with pytest.raises(CalibrationCacheError, match=r"0\.npy holds one array, and the model has 2 inputs"):
        open_dataset(tmp_path, SPECS)


def test_one_file_holds_many_samples_numbered_or_stacked(tmp_path: Path) -> None:
    numbered = {f"{at}/{name}": array for at in (0, 1, 10) for name, array in feed(at).items()}
    np.savez(tmp_path / "numbered.npz", **numbered)
    stacked = {name: np.stack([feed(at)[name] for at in (0, 1, 10)]) for name in ("image", "points")}
    np.savez(tmp_path / "stacked.npz", **stacked)  # type: ignore[arg-type] # the stub takes the keywords for allow_pickle
    np.savez(tmp_path / "single.npz", **feed(0))
    for name in ("numbered", "stacked"):
        samples = list(open_dataset(tmp_path / f"{name}.npz", SPECS).samples())
        assert len(samples) == 3
        np.testing.assert_array_equal(samples[2]["image"], feed(10)["image"])
    assert open_dataset(tmp_path / "single.npz", SPECS).count == 1


def spoil(path: Path, **arrays: Any) -> None:
    np.savez(path / "01.npz", **{**feed(1), **arrays})


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"image": np.zeros((1, 3, 4, 6), np.float32)}, r"01\.npz: input 'image' is float32 1x3x4x6; expected float32 1x3x4x5"),
        ({"image": np.zeros((1, 3, 4, 5))}, r"01\.npz: input 'image' is float64 1x3x4x5; expected float32"),
        ({"image": np.zeros((1, 3, 4, 5), ">f4")}, r"01\.npz: input 'image' is >f4 1x3x4x5; expected float32"),
        ({"points": np.zeros((1, 8, 2), np.float32)}, r"01\.npz: input 'points' is 1x8x2, and 1x7x2 in the samples before"),
        ({"image": np.full((1, 3, 4, 5), np.nan, np.float32)}, r"01\.npz: input 'image' holds NaN or infinity"),
        ({"extra": np.zeros(1)}, r"01\.npz has 'extra', which is no input; the model takes image, points"),
    ],
    ids=["shape", "dtype", "order", "mixed", "nan", "extra"],
)  # fmt: skip
def test_a_sample_that_does_not_fit_is_refused_by_its_file(tmp_path: Path, arrays: Any, says: str) -> None:
    path = folder(tmp_path / "frames")
    spoil(path, **arrays)
    with pytest.raises(CalibrationCacheError, match=says):
        open_dataset(path, SPECS)


def test_an_archive_that_is_damaged_anywhere_is_read_or_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.npz"
    np.savez_compressed(good, x=np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32))
    data = good.read_bytes()
    good.unlink()
    refusals = set()
    for at in range(len(data)):
        for bit in (0, 4):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            (tmp_path / "a.npz").write_bytes(damaged)
            try:
                open_dataset(tmp_path, ONE)
            except CalibrationCacheError as error:
                refusals.add(type(error.__cause__).__name__)
    assert {"BadZipFile", "error", "NotImplementedError"} <= refusals  # "error" is zlib's


def test_a_header_that_claims_more_than_there_is_memory_is_refused(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(CalibrationCacheError, match=r"a\.npy in .* cannot be read as arrays"):
        open_dataset(tmp_path, ONE)


def test_dates_are_no_inputs(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array(["2026-01-01"], "M8[D]"))
    with pytest.raises(CalibrationCacheError, match=r"a\.npz: 'x' is datetime64\[D\], which no input is"):
        open_dataset(tmp_path, ONE)


def test_an_input_of_a_type_that_numpy_lacks_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3), np.float32))
    with pytest.raises(CalibrationCacheError, match=r"input 'x' is float32 2x3; expected bfloat16 2x3"):
        open_dataset(tmp_path, [TensorSpec("x", (2, 3), "bfloat16")])


def test_two_arrays_of_one_number_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"1/x": np.zeros((2, 3), np.float32), "01/x": np.ones((2, 3), np.float32)})  # type: ignore[arg-type]
    with pytest.raises(CalibrationCacheError, match=r"a\.npz has sample 1 of 'x' twice"):
        open_dataset(tmp_path, ONE)


def test_a_missing_input_a_missing_folder_and_an_empty_one_are_told_apart(tmp_path: Path) -> None:
    path = folder(tmp_path / "frames")
    np.savez(path / "01.npz", image=feed(1)["image"])
    with pytest.raises(CalibrationCacheError, match=r"01\.npz has no 'points'"):
        open_dataset(path, SPECS)
    with pytest.raises(CalibrationCacheError, match="cannot be read: No such file"):
        open_dataset(tmp_path / "nowhere", SPECS)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".hidden").write_text("")
    with pytest.raises(CalibrationCacheError, match="holds no calibration inputs"):
        open_dataset(tmp_path / "empty", SPECS)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("01.npz", b"PK\3\4 half a file", "01.npz in .* cannot be read as arrays"),
        ("01.npz", b"", "01.npz in .* cannot be read as arrays"),
        ("notes.txt", b"calibrate on these", "notes.txt in .* is no calibration input"),
    ],
)
def test_what_is_no_array_file_is_refused_by_its_name(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    path = folder(tmp_path / "frames")
    (path / name).write_bytes(data)
    with pytest.raises(CalibrationCacheError, match=says):
        open_dataset(path, SPECS)


def test_a_pickle_runs_no_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.mkdir, (tmp_path / "owned",))

    (tmp_path / "frames").mkdir()
    np.savez(tmp_path / "frames" / "0.npz", x=np.array([Trap()], dtype=object))
    with pytest.raises(CalibrationCacheError, match="cannot be read as arrays"):
        open_dataset(tmp_path / "frames", ONE)
    assert not (tmp_path / "owned").exists()


def test_a_file_that_is_written_while_it_is_used_is_found(tmp_path: Path) -> None:
    path = folder(tmp_path / "frames")
    dataset = open_dataset(path, SPECS)
    samples = dataset.samples()
    next(samples)
    np.savez(path / "02.npz", **feed(77))
    with pytest.raises(CalibrationCacheError, match="changed while they were used"):
        list(samples)


def test_a_cache_is_reused_while_it_and_its_inputs_are_the_same(tmp_path: Path) -> None:
    cache = tmp_path / "a.cache"
    assert read_cache(cache, DATASET) is None
    write_cache(cache, CACHE, DATASET)
    assert read_cache(cache, DATASET) == CACHE
    assert cache_sidecar(cache).read_text() == f"{sha256_hex(CACHE)}  a.cache\n"
    assert dataset_sidecar(cache).read_text() == f"{DATASET}\n"


def test_other_inputs_mean_a_new_cache_and_one_info_line(tmp_path: Path) -> None:
    cache, stream = tmp_path / "a.cache", io.StringIO()
    write_cache(cache, CACHE, DATASET)
    assert read_cache(cache, "e" * 64, log=EventLog(stream=stream)) is None
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert (line["kind"], line["level"], line["was"], line["now"]) == (
        "c7.calibration_rebuilt",
        "INFO",
        DATASET,
        "e" * 64,
    )
    assert cache.read_bytes() == CACHE


SPOILED = {
    "cache changed": ("a.cache", CACHE.replace(b"3f", b"40"), "is not the file that a.cache.sha256 was written for"),
    "no hash": ("a.cache.sha256", None, "a.cache.sha256 is missing"),
    "hash malformed": ("a.cache.sha256", b"zz" * 32, "a.cache.sha256 holds no SHA-256"),
    "hash empty": ("a.cache.sha256", b"", "a.cache.sha256 holds no SHA-256"),
    "no inputs' hash": ("a.cache.dataset_sha256", None, "a.cache.dataset_sha256 is missing"),
    "inputs' hash malformed": ("a.cache.dataset_sha256", b"D" * 64, "a.cache.dataset_sha256 holds no SHA-256"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_cannot_be_trusted_is_an_error_and_nothing_is_overwritten(tmp_path: Path, case: str) -> None:
    name, data, says = SPOILED[case]
    cache = tmp_path / "a.cache"
    write_cache(cache, CACHE, DATASET)
    (tmp_path / name).unlink()
    if data is not None:
        (tmp_path / name).write_bytes(data)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CalibrationCacheError, match=says) as caught:
        read_cache(cache, DATASET)
    assert "a.cache" in caught.value.remedy
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_cache_whose_hash_is_right_and_whose_text_is_none_is_refused(tmp_path: Path) -> None:
    write_cache(tmp_path / "a.cache", b"\0\1", DATASET)
    with pytest.raises(CalibrationCacheError, match="first line"):
        read_cache(tmp_path / "a.cache", DATASET)


class DyingDisk(FileSystem):
    """Dies at the n-th rename, and stays dead."""

    def __init__(self, after: int) -> None:
        self.left = after

    def rename(self, source: Path, target: Path) -> None:
        if self.left == 0:
            os._exit(9)
        self.left -= 1
        super().rename(source, target)


@pytest.mark.parametrize("after", range(7))
def test_a_crash_while_a_cache_is_written_leaves_one_that_is_whole_or_refused(tmp_path: Path, after: int) -> None:
    cache, newer = tmp_path / "a.cache", CACHE + b"conv2: 3f800000\n"
    write_cache(cache, CACHE, DATASET)
    child = os.fork()
    if child == 0:
        write_cache(cache, newer, "e" * 64, fs=DyingDisk(after))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (9 if after < 6 else 0)
    for dataset, whole in ((DATASET, CACHE), ("e" * 64, newer)):
        try:
            found = read_cache(cache, dataset)
        except CalibrationCacheError:
            continue
        assert found in (None, whole)


def test_ranges_are_the_scales_of_127_steps() -> None:
    told = parse_ranges(CACHE)
    assert told.header == "TRT-100300-EntropyCalibration2"
    assert told.ranges["conv1"] == 127.0
    assert told.ranges["images"] == pytest.approx(struct.unpack(">f", bytes.fromhex("3c010204"))[0] * 127)


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1), st.floats(0, 2.0**99, width=32)
    )
)
def test_what_is_written_is_read_back(ranges: dict[str, float]) -> None:
    told = parse_ranges(format_ranges(CalibrationRanges("ORT-1.31.1-MinMax", ranges)))
    assert set(told.ranges) == set(ranges)
    for name, value in ranges.items():
        assert told.ranges[name] == pytest.approx(value, rel=1e-6, abs=1e-40)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty or no text"),
        (b"\xff\xfe", "it is empty or no text"),
        (b"images: 3c010204\n", "its first line"),
        (b"TRT-1-A\nx 3f800000\n", "line 2 is 'x 3f800000'"),
        (b"TRT-1-A\nx: 3f800000\nx: 3f800000\n", "line 3"),
        (b"TRT-1-A\nx: 7f800000\n", "line 2"),
        (b"TRT-1-A\nx: 7fc00000\n", "line 2"),
        (b"TRT-1-A\nx: bf800000\n", "line 2"),
        (b"TRT-1-A\nx: 3f8000001\n", "line 2"),
    ],
)
def test_a_damaged_cache_is_refused_by_its_line(data: bytes, says: str) -> None:
    with pytest.raises(CalibrationCacheError, match=says):
        parse_ranges(data)


@given(st.binary(max_size=120))
def test_any_bytes_are_ranges_or_a_refusal(data: bytes) -> None:
    try:
        parse_ranges(data)
    except CalibrationCacheError as error:
        assert error.message  # noqa: PT017 - either outcome is right


def test_two_caches_are_compared_by_tensor_the_largest_change_first() -> None:
    old = CalibrationRanges("TRT-1-A", {"same": 1.0, "half": 2.0, "gone": 1.0, "triple": 1.0})
    new = CalibrationRanges("TRT-1-A", {"same": 1.0, "half": 1.0, "new": 5.0, "triple": 3.0})
    changes = compare_ranges(old, new)
    assert [change.tensor for change in changes] == ["gone", "new", "triple", "half", "same"]
    assert changes[0] == RangeChange("gone", 1.0, None)
    assert [change.ratio for change in changes] == [None, None, 3.0, 0.5, 1.0]
