"""TensorRT's door: what is imported when, what it can do, and the objects of ours that it calls."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from harness.fakes.device import SimulatedDevice
from harness.fakes.install import installed
from runtime.errors import RuntimeNotAvailableError
from runtime.strategies.trt_library import (
    Library,
    Witness,
    ask_validity,
    load_library,
    make_allocator,
    make_logger,
    make_recorder,
)

FLAVOURS = ("10.3.0", "10.13.3.9", "10.16.1.11", "11.4.0.106", "rtx1.7.1.116")


@pytest.fixture(params=FLAVOURS)
def library(request: pytest.FixtureRequest) -> Iterator[Library]:
    with installed(SimulatedDevice(), tensorrt=request.param):
        yield load_library()


@pytest.mark.covers("TT-02", "TT-03")
@pytest.mark.parametrize(
    ("flavour", "version", "able"),
    [
        ("10.3.0", "10.3.0", "precision_flags calibrators timing_cache progress"),
        ("10.13.3.9", "10.13.3.9", "precision_flags calibrators strong_typing timing_cache progress"),
        (
            "10.16.1.11",
            "10.16.1.11",
            "precision_flags calibrators strong_typing engine_statistics timing_cache progress",
        ),
        ("11.4.0.106", "11.4.0.106", "strong_typing engine_statistics timing_cache progress"),
        (
            "rtx1.7.1.116",
            "rtx1.7.1.116",
            "strong_typing can_build_for_named_gpu engine_validity engine_statistics progress",
        ),
    ],
)
def test_what_each_tensorrt_can_do_is_one_record(flavour: str, version: str, able: str) -> None:
    with installed(SimulatedDevice(), tensorrt=flavour):
        capabilities = load_library().capabilities
    found = {name.removeprefix("has_") for name, value in vars(capabilities).items() if value is True}
    assert found == set(able.split())
    assert capabilities.trt == version
    assert capabilities.product == ("tensorrt_rtx" if flavour.startswith("rtx") else "tensorrt")


class Broken:
    """An import hook: ``errors`` by the name of the module whose import raises them."""

    def __init__(self, **errors: Exception) -> None:
        self.errors = errors

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in self.errors:
            raise self.errors[name]


def without_libraries(monkeypatch: pytest.MonkeyPatch, **errors: Exception) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tensorrt", "tensorrt_rtx")]:
        monkeypatch.delitem(sys.modules, name)
    absent = {
        name: ModuleNotFoundError(f"No module named {name!r}", name=name) for name in ("tensorrt", "tensorrt_rtx")
    }
    monkeypatch.setattr(sys, "meta_path", [Broken(**{**absent, **errors}), *sys.meta_path])


@pytest.mark.covers("FA-02", "RT-11")
def test_a_missing_library_is_named_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    without_libraries(monkeypatch)
    with pytest.raises(RuntimeNotAvailableError, match="No module named 'tensorrt'") as refused:
        load_library()
    assert "tensorrt or tensorrt_rtx" in str(refused.value)
    assert refused.value.remedy


@pytest.mark.covers("FA-02", "TT-03")
def test_a_tensorrt_that_is_broken_is_told_in_full_and_not_replaced_by_tensorrt_rtx(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "libnvdla_compiler.so: cannot open shared object file: No such file or directory"
    asked: list[str] = []

    class Watching(Broken):
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
            asked.append(name)
            super().find_spec(name, path, target)

    without_libraries(monkeypatch, tensorrt=ImportError(text))
    monkeypatch.setattr(sys, "meta_path", [Watching(tensorrt=ImportError(text)), *sys.meta_path])
    with pytest.raises(RuntimeNotAvailableError) as refused:
        load_library()
    assert f"ImportError: {text}" in str(refused.value)
    assert "nvidia-l4t-dla-compiler" in str(refused.value)
    assert "tensorrt_rtx" not in asked
    assert isinstance(refused.value.__cause__, ImportError)


@pytest.mark.covers("FA-02")
def test_a_part_of_tensorrt_that_is_missing_is_no_missing_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    part = ModuleNotFoundError("No module named 'tensorrt_bindings'", name="tensorrt_bindings")
    without_libraries(monkeypatch, tensorrt=part)
    with pytest.raises(RuntimeNotAvailableError, match="tensorrt_bindings"):
        load_library()
    without_libraries(monkeypatch, tensorrt_rtx=OSError("libtensorrt_rtx.so.1: truncated"))
    with pytest.raises(RuntimeNotAvailableError, match=r"OSError: libtensorrt_rtx.so.1: truncated"):
        load_library()


@pytest.mark.covers("RT-07")
def test_the_logger_keeps_the_last_warnings_and_errors_of_all_threads_and_is_one_per_library(library: Library) -> None:
    trt = library.module
    logger = make_logger(trt)
    assert make_logger(trt) is logger
    assert isinstance(logger, trt.ILogger)
    mark = logger.lines.mark()
    logger.log(trt.ILogger.Severity.INFO, "chatter")
    logger.log(trt.ILogger.Severity.WARNING, "careful")
    assert logger.lines.since(mark) == [("WARNING", "careful")]

    def shout(index: int) -> None:
        for step in range(500):
            logger.log(trt.ILogger.Severity.ERROR, f"{index}.{step}")

    threads = [threading.Thread(target=shout, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = logger.lines.since(mark)
    assert len(kept) == 64
    assert len({text for _, text in kept}) == 64


@pytest.mark.covers("RT-07")
def test_the_recorder_answers_what_tensorrt_asks_of_one(library: Library) -> None:
    trt = library.module
    recorder = make_recorder(trt)
    assert isinstance(recorder, trt.IErrorRecorder)
    assert (recorder.num_errors(), recorder.has_overflowed()) == (0, False)
    assert recorder.report_error(trt.ErrorCodeTRT.FAILED_ALLOCATION, "no room") is False
    # the bindings look for the override of num_errors under another name
    assert recorder.num_errors() == recorder.get_num_errors() == 1
    assert recorder.get_error_code(0) == trt.ErrorCodeTRT.FAILED_ALLOCATION
    assert recorder.get_error_desc(0) == "no room"
    recorder.clear()
    assert recorder.num_errors() == 0
    for step in range(65):
        recorder.report_error(trt.ErrorCodeTRT.INTERNAL_ERROR, str(step))
    assert recorder.has_overflowed()
    assert recorder.get_error_desc(0) == "1"


@pytest.mark.covers("RT-07")
def test_a_witness_tells_each_line_once_and_its_own_errors_before_the_processs(library: Library) -> None:
    trt = library.module
    witness = Witness(trt)
    witness.logger.log(trt.ILogger.Severity.ERROR, "somebody's")
    assert witness.take() == ([("ERROR", "somebody's")], [])
    witness.logger.log(trt.ILogger.Severity.ERROR, "somebody's")
    witness.recorder.report_error(trt.ErrorCodeTRT.INVALID_STATE, "mine")
    assert witness.take() == ([("ERROR", "mine")], ["INVALID_STATE"])
    assert witness.take() == ([], [])


class Memory:
    """Device memory that is not there: what is asked of it is written down."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[tuple[str, int]] = []

    def _ask(self, what: str, number: int) -> int:
        self.asked.append((what, number))
        if self.error is not None:
            raise self.error
        return 0x7000

    def allocate(self, size_bytes: int, *, for_library: bool = False) -> int:
        assert for_library
        return self._ask("allocate", size_bytes)

    def free(self, address: int) -> None:
        self._ask("free", address)

    def wait_for(self, stream: int) -> None:
        self._ask("wait", stream)


@pytest.mark.covers("TT-06")
def test_the_allocator_has_all_five_methods_and_answers_as_documented(library: Library) -> None:
    memory = Memory()
    allocator = make_allocator(library.module, memory)
    assert isinstance(allocator, library.module.IGpuAllocator)
    assert allocator.allocate(64, 256, 0) == allocator.allocate_async(64, 256, 0, 5) == 0x7000
    assert allocator.allocate(0, 256, 0) is allocator.allocate_async(0, 256, 0, 5) is None
    assert allocator.reallocate(0x7000, 256, 128) is None
    assert allocator.deallocate(0x7000) is allocator.deallocate_async(0x7000, 5) is True
    assert allocator.deallocate(0) is True
    assert memory.asked == [("allocate", 64)] * 2 + [("free", 0x7000), ("wait", 5), ("free", 0x7000)]


@pytest.mark.covers("TT-06")
def test_whatever_fails_in_the_allocator_is_a_refusal_and_no_exception(library: Library) -> None:
    allocator = make_allocator(library.module, Memory(ValueError("broken")))
    assert allocator.allocate(64, 256, 0) is None
    assert allocator.deallocate(0x7000) is False
    assert allocator.deallocate_async(0x7000, 5) is False


@pytest.mark.covers("RT-07")
def test_a_library_that_diagnoses_engines_is_asked_and_others_are_not(library: Library) -> None:
    trt = library.module
    runtime = trt.Runtime(make_logger(trt))
    found = ask_validity(library, runtime, memoryview(b"not a plan at all" * 10))
    assert found == ("INVALID: MALFORMED_ENGINE" if library.capabilities.has_engine_validity else "")


# The real library, where there is one


@pytest.fixture
def real() -> Library:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx: not installed")
    return load_library()


@pytest.mark.covers("T0-06", "RT-07")
def test_the_real_library_calls_our_recorder_and_logger(real: Library) -> None:
    trt = real.module
    witness = Witness(trt)
    runtime = trt.Runtime(witness.logger)
    runtime.error_recorder = witness.recorder
    runtime.gpu_allocator = make_allocator(trt, Memory())
    assert runtime.deserialize_cuda_engine(memoryview(b"vtrt" + bytes(100))) is None
    lines, codes = witness.take()
    assert any("blobSize" in text for _, text in lines)
    assert "UNSPECIFIED_ERROR" in codes
    # through the binding, which dispatches to the override as the library does
    assert trt.IErrorRecorder.num_errors(witness.recorder) == witness.recorder.num_errors() > 0
    assert "blobSize" in trt.IErrorRecorder.get_error_desc(witness.recorder, 0)
    assert trt.IErrorRecorder.has_overflowed(witness.recorder) is False
    trt.IErrorRecorder.clear(witness.recorder)
    assert witness.recorder.num_errors() == 0
