"""The simulated device: what it catches, and that it lets what is right go through."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.fakes.clock import VirtualClock
from harness.fakes.device import Allocations, DeviceError, SimulatedDevice, SimulationError
from harness.fakes.faults import Fault, FaultPlan
from harness.fakes.thermal_model import ThermalModel

POISON = 0xCD
LATE = 0xCB
N = 64


def host(device: SimulatedDevice, size: int = N) -> tuple[int, Any]:
    """A page-locked block and a view of it."""
    address = device.allocate_host(size)
    return address, np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


def add(device: SimulatedDevice, source: int, target: int, amount: int) -> Callable[[], None]:
    """A kernel: ``target = source + amount``."""

    def work() -> None:
        device.view(target, N, writes=True)[:] = device.view(source, N, writes=False) + amount

    return work


@pytest.fixture
def device() -> SimulatedDevice:
    made = SimulatedDevice()
    made.set_current(made.retain_primary())
    return made


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(DeviceError) as caught:
        call()
    return caught.value.name


# What T0-02 names


@pytest.mark.covers("T0-02", "TT-07")
def test_without_a_synchronise_the_host_reads_poison(device: SimulatedDevice) -> None:
    stream, (given, array), (out, result), block = (
        device.create_stream(),
        host(device),
        host(device),
        device.allocate(N),
    )
    for value in (1, 2):  # the second time the buffer would still hold a right-looking result
        array[:] = value
        device.copy_in(block, given, N, stream)
        device.copy_out(out, block, N, stream)
        assert (result == LATE).all()
        device.synchronize(stream)
        assert (result == value).all()
    device.check()


@pytest.mark.covers("T0-02", "TT-07")
def test_an_input_buffer_that_is_reused_too_early_gives_the_wrong_value_and_is_named(device: SimulatedDevice) -> None:
    stream, (given, array), (out, result), block = (
        device.create_stream(),
        host(device),
        host(device),
        device.allocate(N),
    )
    array[:] = 1
    device.copy_in(block, given, N, stream)
    array[:] = 2
    device.copy_out(out, block, N, stream)
    device.synchronize(stream)
    assert (result == 2).all()
    with pytest.raises(SimulationError, match="changed while a copy from it was pending"):
        device.check()


@pytest.mark.covers("T0-02")
def test_an_output_buffer_that_is_written_while_its_copy_is_pending_is_named(device: SimulatedDevice) -> None:
    stream, (out, result), block = device.create_stream(), host(device), device.allocate(N)
    device.copy_out(out, block, N, stream)
    result[3] = 0
    device.synchronize(stream)
    with pytest.raises(SimulationError, match="written to while a copy into it was pending"):
        device.check()


@pytest.mark.covers("T0-02")
def test_a_copy_to_freed_device_memory_is_refused(device: SimulatedDevice) -> None:
    stream, (given, _), block = device.create_stream(), host(device), device.allocate(N)
    device.free(block)
    assert error_of(lambda: device.copy_in(block, given, N, stream)) == "CUDA_ERROR_INVALID_VALUE"
    with pytest.raises(SimulationError, match=r"use after free of device block #1 of 64 bytes"):
        device.check()


@pytest.mark.covers("T0-02")
@pytest.mark.parametrize("which", ["device", "host"])
@pytest.mark.parametrize("way", ["in", "out"])
def test_memory_that_is_freed_while_a_copy_needs_it_loses_the_device(
    device: SimulatedDevice, way: str, which: str
) -> None:
    stream, (given, _), block = device.create_stream(), host(device), device.allocate(N)
    if way == "in":
        device.copy_in(block, given, N, stream)
    else:
        device.copy_out(given, block, N, stream)
    if which == "device":
        device.free(block)
    else:
        device.free_host(given)
    assert error_of(lambda: device.synchronize(stream)) == "CUDA_ERROR_ILLEGAL_ADDRESS"
    assert device.enter("cuMemAlloc") == "CUDA_ERROR_ILLEGAL_ADDRESS"
    with pytest.raises(SimulationError, match="use after free"):
        device.check()


@pytest.mark.covers("T0-02")
def test_a_kernel_that_uses_freed_memory_loses_the_device(device: SimulatedDevice) -> None:
    stream, block, other = device.create_stream(), device.allocate(N), device.allocate(N)
    device.free(block)
    device.enqueue(stream, "kernel", add(device, block, other, 1))
    assert error_of(lambda: device.synchronize(stream)) == "CUDA_ERROR_ILLEGAL_ADDRESS"
    assert "use after free" in device.violations[0]


@pytest.mark.covers("T0-02")
def test_page_locked_memory_that_is_read_after_its_free_holds_poison_and_a_write_to_it_is_found(
    device: SimulatedDevice,
) -> None:
    address, array = host(device)
    array[:] = 1
    device.free_host(address)
    assert (array == 0xDD).all()
    device.check()
    array[5] = 1
    with pytest.raises(SimulationError, match="written to after it was freed"):
        device.check()


@pytest.mark.covers("T0-02")
def test_what_is_not_given_back_is_a_leak_with_its_name(device: SimulatedDevice) -> None:
    assert device.leaks() == ["primary context, held 1 times"]
    device.release_primary()
    assert device.leaks() == []
    device.set_current(device.retain_primary())
    device.allocate(100, label="weights")
    device.allocate_host(200)
    stream = device.create_stream()
    device.enqueue(stream, "never waited for", lambda: None)
    device.create_event()
    told = device.leaks()
    assert len(told) == 5
    for leak, kind in zip(
        told, ("device block #1 (weights)", "page-locked block", "stream", "event", "primary"), strict=True
    ):
        assert leak.startswith(kind)
    assert "1 pieces of work not run" in told[2]


@pytest.mark.covers("T0-02")
def test_a_context_that_ends_with_things_in_it_is_named(device: SimulatedDevice) -> None:
    block, stream = device.allocate(N), device.create_stream()
    device.release_primary()
    assert error_of(lambda: device.enqueue(0, "work", lambda: None)) == "CUDA_ERROR_CONTEXT_IS_DESTROYED"
    assert error_of(lambda: device.synchronize(stream)) == "CUDA_ERROR_INVALID_HANDLE"
    assert "was destroyed" in device.violations[-1]
    with pytest.raises(SimulationError, match=r"a context ended with 2 things in it: device block #1 .*; stream"):
        device.check()
    assert error_of(lambda: device.require_context("cuMemFree")) == "CUDA_ERROR_CONTEXT_IS_DESTROYED"
    device.set_current(device.retain_primary())
    assert error_of(lambda: device.free(block)) == "CUDA_ERROR_INVALID_VALUE"


@pytest.mark.covers("T0-02")
@pytest.mark.parametrize("kind", ["device", "host"])
def test_a_double_free_is_named_and_refused(device: SimulatedDevice, kind: str) -> None:
    free = device.free if kind == "device" else device.free_host
    block = device.allocate(N) if kind == "device" else device.allocate_host(N)
    free(block)
    assert error_of(lambda: free(block)) == "CUDA_ERROR_INVALID_VALUE"
    assert "double free" in device.violations[0]


@pytest.mark.covers("T0-02")
def test_a_free_of_an_address_inside_a_block_is_named_and_refused(device: SimulatedDevice) -> None:
    block = device.allocate(N)
    assert error_of(lambda: device.free(block + 8)) == "CUDA_ERROR_INVALID_VALUE"
    assert "inside device block #1" in device.violations[0]
    device.free(block)


@pytest.mark.covers("T0-02")
@pytest.mark.parametrize(("offset", "size"), [(0, N + 1), (-1, 4), (N, 1), (N - 1, 2)])
@pytest.mark.parametrize("side", ["device", "host"])
@pytest.mark.parametrize("way", ["in", "out"])
def test_a_copy_that_leaves_its_block_is_refused(
    device: SimulatedDevice, way: str, side: str, offset: int, size: int
) -> None:
    stream, (address, _), block = device.create_stream(), host(device), device.allocate(N)
    big_host, big_block = device.allocate_host(4 * N), device.allocate(4 * N)
    on_device = block + offset if side == "device" else big_block
    on_host = address + offset if side == "host" else big_host
    call = (
        (lambda: device.copy_in(on_device, on_host, size, stream))
        if way == "in"
        else (lambda: device.copy_out(on_host, on_device, size, stream))
    )
    assert error_of(call) == "CUDA_ERROR_INVALID_VALUE"
    with pytest.raises(SimulationError, match="out of bounds"):
        device.check()
    device.synchronize(stream)


@pytest.mark.covers("T0-02")
@pytest.mark.parametrize(("at", "side"), [(-1, "underrun"), (N, "overrun")])
def test_a_write_of_the_host_beyond_page_locked_memory_is_found(device: SimulatedDevice, at: int, side: str) -> None:
    address, _ = host(device)
    ctypes.c_uint8.from_address(address + at).value = 0
    with pytest.raises(SimulationError, match=f"{side}: the red zone"):
        device.check()
    device.free_host(address)
    assert side in device.violations[0]


@pytest.mark.covers("T0-02")
def test_a_pointer_of_a_foreign_context_is_refused(device: SimulatedDevice) -> None:
    stream, (given, _), ours = device.create_stream(), host(device), device.current()
    foreign = device.create_context()
    block = device.allocate(N)
    device.set_current(ours)
    assert error_of(lambda: device.copy_in(block, given, N, stream)) == "CUDA_ERROR_INVALID_VALUE"
    assert error_of(lambda: device.free(block)) == "CUDA_ERROR_INVALID_VALUE"
    assert all("foreign context" in line for line in device.violations)
    device.enqueue(stream, "kernel", lambda: device.write(block, b"1"))
    assert error_of(lambda: device.synchronize(stream)) == "CUDA_ERROR_ILLEGAL_ADDRESS"
    assert foreign != ours


@pytest.mark.covers("T0-02", "TT-07")
def test_a_kernel_is_not_taken_by_a_stream_of_a_foreign_context(device: SimulatedDevice) -> None:
    stream, done = device.create_stream(), list[int]()
    foreign = device.create_context()
    assert error_of(lambda: device.enqueue(stream, "kernel", lambda: done.append(1))) == "CUDA_ERROR_INVALID_HANDLE"
    assert device.violations == [f"kernel in stream {stream:#x} of a foreign context"]
    device.set_current(device.primary_context)
    device.enqueue(stream, "kernel", lambda: done.append(2))
    device.set_current(0)  # a library that uses the CUDA runtime takes the primary one there
    device.enqueue(stream, "kernel", lambda: done.append(3))
    device.synchronize(stream)
    assert done == [2, 3]
    device.destroy_context(foreign)


@pytest.mark.covers("T0-02")
def test_an_event_of_a_foreign_context_cannot_be_recorded(device: SimulatedDevice) -> None:
    stream = device.create_stream()
    device.create_context()
    event = device.create_event()
    assert error_of(lambda: device.record_event(event, stream)) == "CUDA_ERROR_INVALID_HANDLE"


@pytest.mark.covers("T0-02")
def test_a_pointer_of_another_device_is_no_address_here(device: SimulatedDevice) -> None:
    other = SimulatedDevice()
    block, stream, (given, _) = other.allocate(N), device.create_stream(), host(device)
    assert error_of(lambda: device.copy_in(block, given, N, stream)) == "CUDA_ERROR_INVALID_VALUE"
    assert "no address of this device" in device.violations[0]


@pytest.mark.covers("T0-02", "TT-07")
def test_a_thread_without_a_current_context_is_refused(device: SimulatedDevice) -> None:
    told: list[str] = []
    thread = threading.Thread(target=lambda: told.append(error_of(lambda: device.require_context("cuMemAlloc"))))
    thread.start()
    thread.join()
    assert told == ["CUDA_ERROR_INVALID_CONTEXT"]
    assert device.violations == ["cuMemAlloc on a thread without a current context"]
    device.require_context("cuMemAlloc")


# Streams and events


@pytest.mark.covers("T0-02")
def test_work_of_another_stream_is_not_waited_for_without_an_event(device: SimulatedDevice) -> None:
    first, second = device.create_stream(), device.create_stream()
    (given, array), (out, result), block, other = host(device), host(device), device.allocate(N), device.allocate(N)
    array[:] = 5
    device.copy_in(block, given, N, first)
    device.enqueue(second, "kernel", add(device, block, other, 1))
    device.copy_out(out, other, N, second)
    device.synchronize(second)
    assert (result == (POISON + 1) % 256).all()
    with pytest.raises(SimulationError, match=r"a kernel reads bytes of device block #1 .* never written"):
        device.check()


@pytest.mark.covers("T0-02")
def test_an_event_carries_the_order_to_another_stream(device: SimulatedDevice) -> None:
    first, second, event = device.create_stream(), device.create_stream(), device.create_event()
    (given, array), (out, result), block, other = host(device), host(device), device.allocate(N), device.allocate(N)
    array[:] = 5
    device.copy_in(block, given, N, first)
    device.record_event(event, first)
    device.wait_event(second, event)
    device.enqueue(second, "kernel", add(device, block, other, 1))
    device.copy_out(out, other, N, second)
    device.synchronize(second)
    assert (result == 6).all()
    device.check()


def test_a_wait_is_for_the_recording_that_was_there_when_it_was_asked_for(device: SimulatedDevice) -> None:
    first, second, event = device.create_stream(), device.create_stream(), device.create_event()
    done: list[str] = []
    device.wait_event(second, event)  # never recorded: no wait
    device.enqueue(first, "1", lambda: done.append("1"))
    device.record_event(event, first)
    device.wait_event(second, event)
    device.enqueue(first, "2", lambda: done.append("2"))
    device.record_event(event, first)
    device.enqueue(second, "3", lambda: done.append("3"))
    device.synchronize(second)
    assert done == ["1", "3"]
    device.synchronize_event(event)
    assert done == ["1", "3", "2"]


def test_synchronising_an_event_runs_no_more_than_what_is_before_it(device: SimulatedDevice) -> None:
    stream, event = device.create_stream(), device.create_event()
    done: list[int] = []
    device.enqueue(stream, "1", lambda: done.append(1))
    device.record_event(event, stream)
    device.enqueue(stream, "2", lambda: done.append(2))
    device.synchronize_event(event)
    assert done == [1]
    assert device.is_complete(event)
    assert not device.is_done(stream) or done == [1, 2]


def test_polling_ends(device: SimulatedDevice) -> None:
    stream, event, done = device.create_stream(), device.create_event(), []
    for number in range(3):
        device.enqueue(stream, str(number), lambda n=number: done.append(n))  # type: ignore[misc]
    device.record_event(event, stream)
    polls = 1
    while not device.is_complete(event):
        polls += 1
    assert (polls, done) == (4, [0, 1, 2])
    assert device.is_done(stream)


def test_destroying_a_stream_runs_what_is_left_in_it(device: SimulatedDevice) -> None:
    stream, done = device.create_stream(), []
    device.enqueue(stream, "work", lambda: done.append(1))
    device.destroy_stream(stream)
    assert done == [1]


@pytest.mark.covers("T0-02")
def test_a_destroyed_handle_is_never_valid_again(device: SimulatedDevice) -> None:
    stream, event = device.create_stream(), device.create_event()
    device.destroy_stream(stream)
    device.destroy_event(event)
    assert {device.create_stream(), device.create_event()}.isdisjoint({stream, event})
    alive = device.create_stream()
    for call in (
        lambda: device.synchronize(stream),
        lambda: device.destroy_stream(stream),
        lambda: device.enqueue(stream, "work", lambda: None),
        lambda: device.record_event(event, alive),
        lambda: device.destroy_event(event),
        lambda: device.synchronize(0x1234),
    ):
        assert error_of(call) == "CUDA_ERROR_INVALID_HANDLE"
    assert all("which was destroyed" in line for line in device.violations[:-1])
    assert "which is none" in device.violations[-1]


def test_a_context_synchronise_runs_every_stream_of_it(device: SimulatedDevice) -> None:
    done: list[int] = []
    for number in range(3):
        device.enqueue(device.create_stream(), "work", lambda n=number: done.append(n))  # type: ignore[misc]
    device.enqueue(0, "work", lambda: done.append(9))
    device.synchronize_context()
    assert sorted(done) == [0, 1, 2, 9]


def test_the_default_stream_and_a_blocking_stream_wait_for_each_other_and_others_do_not(
    device: SimulatedDevice,
) -> None:
    blocking, free, done = device.create_stream(is_blocking=True), device.create_stream(), list[str]()
    device.enqueue(blocking, "1", lambda: done.append("blocking"))
    device.enqueue(free, "2", lambda: done.append("free"))
    device.enqueue(0, "3", lambda: done.append("default"))
    device.synchronize(0)
    assert done == ["blocking", "default"]
    device.enqueue(0, "4", lambda: done.append("default"))
    device.enqueue(blocking, "5", lambda: done.append("blocking"))
    device.synchronize(blocking)
    assert done == ["blocking", "default", "default", "blocking"]


def test_pageable_memory_is_read_at_once_and_filled_before_the_copy_returns(device: SimulatedDevice) -> None:
    stream, block = device.create_stream(), device.allocate(N)
    source, target = np.full(N, 3, np.uint8), np.zeros(N, np.uint8)
    device.copy_in(block, source.ctypes.data, N, stream)
    source[:] = 9
    device.copy_out(target.ctypes.data, block, N, stream)
    assert (target == 3).all()
    device.check()


def test_a_buffer_may_be_copied_from_and_then_filled_in_one_stream(device: SimulatedDevice) -> None:
    stream, (address, array), block = device.create_stream(), host(device), device.allocate(N)
    array[:] = 4
    device.copy_in(block, address, N, stream)
    device.enqueue(stream, "kernel", add(device, block, block, 1))
    device.copy_out(address, block, N, stream)
    device.copy_in(block, address, N, stream)
    device.synchronize(stream)
    assert (array == 5).all()
    device.check()


def test_eager_mode_runs_work_as_it_is_enqueued() -> None:
    device = SimulatedDevice(mode="eager")
    stream, (given, array), (out, result), block = (
        device.create_stream(),
        host(device),
        host(device),
        device.allocate(N),
    )
    array[:] = 8
    device.copy_in(block, given, N, stream)
    array[:] = 1
    device.copy_out(out, block, N, stream)
    assert (result == 8).all()
    device.check()


# Interleavings


def pipeline(device: SimulatedDevice, *, has_event: bool) -> list[int]:
    """Two rounds through two streams, with or without the event between them; every call asks the device first."""
    copies, kernels, event = device.create_stream(), device.create_stream(), device.create_event()
    (given, array), (out, result), block, other = host(device), host(device), device.allocate(N), device.allocate(N)
    seen = []
    for value in (10, 20):
        array[:] = value
        device.enter("copy")
        device.copy_in(block, given, N, copies)
        device.enter("record")
        device.record_event(event, copies)
        device.enter("wait")
        if has_event:
            device.wait_event(kernels, event)
        device.enter("kernel")
        device.enqueue(kernels, "kernel", add(device, block, other, 1))
        device.enter("copy")
        device.copy_out(out, other, N, kernels)
        device.enter("synchronize")
        device.synchronize(kernels)
        device.synchronize(copies)
        seen.append(int(result[0]))
    return seen


@pytest.mark.covers("T0-02")
@settings(max_examples=60)
@given(st.data())
def test_a_right_program_gives_the_same_in_every_interleaving(data: st.DataObject) -> None:
    def choose(heads: Any) -> int | None:
        return data.draw(st.none() | st.integers(0, len(heads) - 1), label=" | ".join(heads))

    device = SimulatedDevice(mode=choose)
    assert pipeline(device, has_event=True) == [11, 21]
    device.check()


@pytest.mark.covers("T0-02")
def test_a_missing_event_goes_unnoticed_in_one_interleaving_and_is_caught_in_another() -> None:
    lucky = SimulatedDevice(mode=lambda heads: 0)
    assert pipeline(lucky, has_event=False) == [11, 21]
    lucky.check()
    unlucky = SimulatedDevice(mode=lambda heads: next((i for i, head in enumerate(heads) if "kernel" in head), None))
    assert pipeline(unlucky, has_event=False) == [(POISON + 1) % 256, 11]
    with pytest.raises(SimulationError, match="never written"):
        unlucky.check()


@pytest.mark.covers("T0-02")
@settings(max_examples=60)
@given(st.data())
def test_a_stream_keeps_its_order_and_an_event_its_place_whatever_runs_when(data: st.DataObject) -> None:
    """Random work in three streams with random events between them, against the order that CUDA promises."""

    def choose(heads: Any) -> int | None:
        return data.draw(st.none() | st.integers(0, len(heads) - 1))

    device = SimulatedDevice(mode=choose)
    streams = [device.create_stream() for _ in range(3)]
    before: list[set[int]] = []  # of each piece of work, those that must be done first
    ahead: list[set[int]] = [set(), set(), set()]
    done: list[int] = []
    events: list[tuple[int, set[int]]] = []
    for number in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(0, 2))
        kind = data.draw(st.sampled_from(["work", "record", "wait"]))
        device.enter(kind)
        if kind == "record":
            event = device.create_event()
            device.record_event(event, streams[at])
            events.append((event, set(ahead[at])))
        elif kind == "wait" and events:
            event, covered = data.draw(st.sampled_from(events))
            device.wait_event(streams[at], event)
            ahead[at] |= covered
        else:
            index = len(before)
            before.append(set(ahead[at]))
            ahead[at].add(index)

            def work(index: int = index) -> None:
                assert before[index] <= set(done)
                done.append(index)

            device.enqueue(streams[at], f"work {number}", work)
    for stream in data.draw(st.permutations(streams)):
        device.synchronize(stream)
    assert sorted(done) == list(range(len(before)))


# Errors


@pytest.mark.covers("T0-02")
def test_an_error_in_work_surfaces_at_the_next_call_and_is_then_gone_unless_it_is_sticky(
    device: SimulatedDevice,
) -> None:
    def fail() -> None:
        raise DeviceError("CUDA_ERROR_NOT_PERMITTED")

    stream = device.create_stream()
    device.enqueue(stream, "kernel", fail)
    assert device.enter("cuMemAlloc") is None  # it has not run yet
    device.destroy_stream(stream)
    assert device.enter("cuMemAlloc") == "CUDA_ERROR_NOT_PERMITTED"
    assert device.enter("cuMemAlloc") is None
    assert device.lost_to is None


@pytest.mark.covers("T0-02")
def test_a_sticky_error_ends_all_work_and_answers_every_later_call(device: SimulatedDevice) -> None:
    def fail() -> None:
        raise DeviceError("CUDA_ERROR_LAUNCH_FAILED")

    stream, other, done = device.create_stream(), device.create_stream(), list[int]()
    device.enqueue(other, "other", lambda: done.append(1))
    device.enqueue(stream, "kernel", fail)
    device.enqueue(stream, "next", lambda: done.append(2))
    assert error_of(lambda: device.synchronize(stream)) == "CUDA_ERROR_LAUNCH_FAILED"
    for _ in range(3):
        assert device.enter("cuMemFree") == "CUDA_ERROR_LAUNCH_FAILED"
    assert device.enter("cuDriverGetVersion", needs_device=False) is None
    for call in (lambda: device.synchronize(other), lambda: device.enqueue(other, "late", lambda: None)):
        assert error_of(call) == "CUDA_ERROR_LAUNCH_FAILED"
    assert done == []
    assert device.leaks() == []
    assert SimulatedDevice().enter("cuMemFree") is None


@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("after_calls", [0, 1, 3])
def test_a_planned_fault_fails_the_call_it_names_once_or_for_ever(after_calls: int, forever: bool) -> None:
    fault = Fault("cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY", after_calls=after_calls, forever=forever)
    device = SimulatedDevice(faults=FaultPlan([fault]))
    told = []
    for _ in range(6):
        assert device.enter("cuMemFree") is None
        told.append(device.enter("cuMemAlloc"))
    wanted = [i == after_calls or (forever and i > after_calls) for i in range(6)]
    assert told == ["CUDA_ERROR_OUT_OF_MEMORY" if failed else None for failed in wanted]
    assert device.faults.fired == [fault] * sum(wanted)


def test_a_fault_may_be_planned_later_and_counts_from_then() -> None:
    device = SimulatedDevice(faults=FaultPlan([Fault("b", "words of another face")]))
    assert [device.enter("a"), device.enter("b"), device.enter("a")] == [None, "words of another face", None]
    device.faults.add(Fault("a", "late", after_calls=1))
    assert [device.enter("a"), device.enter("a"), device.enter("a")] == [None, "late", None]


def test_a_planned_sticky_fault_loses_the_device() -> None:
    device = SimulatedDevice(faults=FaultPlan([Fault("cuStreamSynchronize", "CUDA_ERROR_ECC_UNCORRECTABLE")]))
    assert device.enter("cuStreamSynchronize") == "CUDA_ERROR_ECC_UNCORRECTABLE"
    assert device.enter("cuMemAlloc") == "CUDA_ERROR_ECC_UNCORRECTABLE"


def test_a_lost_device_answers_with_what_lost_it_whatever_was_planned() -> None:
    plan = FaultPlan([Fault("a", "CUDA_ERROR_LAUNCH_FAILED"), Fault("b", "CUDA_ERROR_INVALID_VALUE")])
    device = SimulatedDevice(faults=plan)
    assert [device.enter("a"), device.enter("b")] == ["CUDA_ERROR_LAUNCH_FAILED"] * 2
    assert device.enter("b", needs_device=False) == "CUDA_ERROR_INVALID_VALUE"


def test_a_fault_in_work_lets_the_call_succeed_and_fails_what_it_enqueued(device: SimulatedDevice) -> None:
    device.faults.add(Fault("enqueue", "CUDA_ERROR_LAUNCH_FAILED", in_work=True))
    stream, done = device.create_stream(), list[int]()
    assert device.enter("enqueue") is None
    device.enqueue(stream, "kernel", lambda: done.append(1))
    assert error_of(lambda: device.synchronize(stream)) == "CUDA_ERROR_LAUNCH_FAILED"
    assert done == []


def test_every_call_is_written_down_with_its_thread(device: SimulatedDevice) -> None:
    device.enter("one")
    thread = threading.Thread(target=lambda: device.enter("two"))
    thread.start()
    thread.join()
    assert [(call.api, call.number) for call in device.calls] == [("one", 1), ("two", 2)]
    assert device.calls[0].thread == threading.get_ident() != device.calls[1].thread


# Memory


def test_memory_is_counted_and_runs_out() -> None:
    device = SimulatedDevice(memory_bytes=1000)
    first = device.allocate(600)
    pinned = device.allocate_host(300)
    assert device.free_bytes == 100
    assert error_of(lambda: device.allocate(101)) == "CUDA_ERROR_OUT_OF_MEMORY"
    assert error_of(lambda: device.allocate_host(101)) == "CUDA_ERROR_OUT_OF_MEMORY"
    assert error_of(lambda: device.allocate(0)) == "CUDA_ERROR_INVALID_VALUE"
    device.free(first)
    device.allocate(700)
    device.free_host(pinned)
    assert (device.live_bytes, device.peak_bytes, device.live_host_bytes) == (700, 700, 0)
    assert device.allocations == Allocations(device=2, host=1)
    assert device.violations == []


def test_page_locked_memory_of_a_board_with_its_own_memory_does_not_count_as_the_devices() -> None:
    device = SimulatedDevice(memory_bytes=1000, is_integrated=False)
    device.allocate_host(5000)
    assert device.free_bytes == 1000


def test_new_memory_is_poisoned(device: SimulatedDevice) -> None:
    _, array = host(device)
    assert (array == POISON).all()
    assert device.view(device.allocate(N), N, writes=True)[0] == POISON


def test_half_a_gigabyte_is_allocated_without_touching_its_pages(device: SimulatedDevice) -> None:
    import resource

    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    blocks = [device.allocate(512 << 20) for _ in range(8)]
    (address, array) = host(device, 512 << 20)
    assert (int(array[0]), int(array[-1])) == (POISON, POISON)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 256 << 10
    for block in blocks:
        device.free(block)
    device.free_host(address)
    device.check()


def test_a_large_block_that_is_freed_or_changed_too_early_is_still_caught(device: SimulatedDevice) -> None:
    size = 9 << 20
    stream, (given, array), block = device.create_stream(), host(device, size), device.allocate(size)
    device.copy_in(block, given, size, stream)
    array[-1] = 1
    device.synchronize(stream)
    assert "changed while a copy from it was pending" in device.violations[0]


def test_the_host_s_memory_for_a_freed_block_is_given_back(device: SimulatedDevice) -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        for _ in range(100):
            device.free(device.allocate(1 << 20))
        assert tracemalloc.get_traced_memory()[0] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.covers("T0-02")
def test_freed_page_locked_memory_that_leaves_quarantine_is_looked_at_once_more(device: SimulatedDevice) -> None:
    size = 200 << 20
    address, array = host(device, size)
    device.free_host(address)
    array[0] = 1
    device.free_host(device.allocate_host(size))
    assert "was written to after it was freed" in device.violations[0]


def test_a_kernel_writes_and_reads_through_views_that_are_checked(device: SimulatedDevice) -> None:
    block, done = device.allocate(N), list[bytes]()
    stream = device.create_stream()
    device.enqueue(stream, "write", lambda: device.write(block + 4, b"abcd"))
    device.enqueue(stream, "read", lambda: done.append(device.read(block + 4, 4)))
    device.synchronize(stream)
    assert done == [b"abcd"]
    device.check()
    device.enqueue(stream, "read", lambda: done.append(device.read(block + 4, 5)))
    device.synchronize(stream)
    assert done[1] == b"abcd\xcd"
    assert "never written" in device.violations[0]
    device.enqueue(stream, "read", lambda: done.append(device.read(block + N - 1, 2)))
    assert error_of(lambda: device.synchronize(stream)) == "CUDA_ERROR_ILLEGAL_ADDRESS"


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5000), st.integers(0, 10)), max_size=30))
def test_blocks_never_overlap_and_the_ledger_adds_up(steps: list[tuple[bool, int, int]]) -> None:
    device = SimulatedDevice(memory_bytes=1 << 30)
    live: dict[int, tuple[int, bool]] = {}
    ever: set[int] = set()
    for is_host, size, which in steps:
        if which > 6 and live:
            address = sorted(live)[which % len(live)]
            _, was_host = live.pop(address)
            (device.free_host if was_host else device.free)(address)
            continue
        address = device.allocate_host(size) if is_host else device.allocate(size)
        assert address not in ever
        ever.add(address)
        live[address] = (size, is_host)
        ranges = sorted((start, start + length) for start, (length, _) in live.items())
        assert all(end < start for (_, end), (start, _) in pairwise(ranges))
        assert device.live_bytes == sum(length for length, was_host in live.values() if not was_host)
        assert device.live_host_bytes == sum(length for length, was_host in live.values() if was_host)
        assert device.peak_bytes >= device.live_bytes
    assert len(device.leaks()) == len(live)
    device.check()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 63), st.integers(1, 64)), max_size=8), st.integers(0, 63), st.integers(1, 64))
@example(writes=[(0, 4), (8, 4), (4, 4)], start=0, size=12)
def test_what_was_written_is_known_to_the_byte(writes: list[tuple[int, int]], start: int, size: int) -> None:
    device, written = SimulatedDevice(), set()
    block = device.allocate(128)
    for at, length in writes:
        device.write(block + at, b"\1" * length)
        written |= set(range(at, at + length))
    device.read(block + start, size)
    assert bool(device.violations) == (not set(range(start, start + size)) <= written)


def test_threads_may_share_a_device() -> None:
    device = SimulatedDevice()
    primary = device.retain_primary()
    failures: list[BaseException] = []

    def life(value: int) -> None:
        try:
            device.set_current(primary)
            for _ in range(20):
                stream, (given, array), (out, result) = device.create_stream(), host(device), host(device)
                block = device.allocate(N)
                array[:] = value
                device.copy_in(block, given, N, stream)
                device.copy_out(out, block, N, stream)
                device.synchronize(stream)
                assert (result == value).all()
                device.destroy_stream(stream)
                device.free(block)
                device.free_host(given)
                device.free_host(out)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=life, args=(value,)) for value in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    device.release_primary()
    assert device.leaks() == []
    device.check()


def test_a_library_on_the_cuda_runtime_keeps_the_primary_context(device: SimulatedDevice) -> None:
    device.hold_for_runtime()
    device.allocate(N)
    device.release_primary()
    device.check()
    device.require_context("cuMemFree")


# Time and heat


def test_time_passes_for_the_host_only_when_it_waits() -> None:
    device = SimulatedDevice(call_ns=0, copy_bytes_per_us=1000)
    stream, (given, _), block = device.create_stream(), host(device, 1_000_000), device.allocate(1_000_000)
    device.copy_in(block, given, 1_000_000, stream)
    device.enqueue(stream, "kernel", lambda: None, busy_ns=5_000_000)
    assert device.clock.now_ns() == 0
    device.synchronize(stream)
    assert device.clock.now_ns() == 1_002_000 + 5_000_000


def test_streams_run_side_by_side_in_virtual_time_and_events_measure_it() -> None:
    device = SimulatedDevice(call_ns=0)
    first, second = device.create_stream(), device.create_stream()
    start, end, untimed = (
        device.create_event(has_timing=True),
        device.create_event(has_timing=True),
        device.create_event(),
    )
    device.record_event(start, first)
    device.enqueue(first, "kernel", lambda: None, busy_ns=3_000_000)
    device.enqueue(second, "kernel", lambda: None, busy_ns=2_000_000)
    device.record_event(end, first)
    device.record_event(untimed, first)
    assert error_of(lambda: device.elapsed_ms(start, end)) == "CUDA_ERROR_NOT_READY"
    device.synchronize(first)
    device.synchronize(second)
    assert device.clock.now_ns() == 3_000_000
    assert device.elapsed_ms(start, end) == pytest.approx(3.0)
    assert error_of(lambda: device.elapsed_ms(start, untimed)) == "CUDA_ERROR_INVALID_HANDLE"


def test_a_hot_board_gives_its_clock_away_and_kernels_take_longer() -> None:
    thermal = ThermalModel(ambient_c=60.0, temperature_c=98.0)
    device = SimulatedDevice(thermal=thermal)
    stream = device.create_stream()

    def kernel_ns() -> int:
        before = device.clock.now_ns()
        device.enqueue(stream, "kernel", lambda: None, busy_ns=10_000_000)
        device.synchronize(stream)
        return device.clock.now_ns() - before

    cold_ns = kernel_ns()
    while not thermal.is_throttled:
        kernel_ns()
    assert thermal.temperature_c >= 99.0
    assert kernel_ns() >= cold_ns * thermal.max_clock_mhz // thermal.clock_mhz
    assert not thermal.is_shut_down


def test_a_board_that_gets_too_hot_switches_itself_off() -> None:
    device = SimulatedDevice(thermal=ThermalModel(ambient_c=110.0, temperature_c=104.0))
    device.clock.sleep(10)
    with pytest.raises(SimulationError, match=r"switched itself off at 104\.[5-9]"):
        device.enter("cuMemAlloc")


def test_an_idle_board_cools_and_gets_its_clock_back() -> None:
    thermal = ThermalModel(ambient_c=60.0, temperature_c=100.0)
    for _ in range(100):
        thermal.step(0.1, 1.0)
    hot = (thermal.is_throttled, thermal.throttled_s > 0)
    thermal.step(60.0, 0.0)
    assert (hot, thermal.is_throttled) == ((True, True), False)
    assert thermal.clock_mhz == thermal.max_clock_mhz
    assert thermal.power_w == thermal.board.idle_w


@given(st.floats(0, 50), st.floats(0, 1), st.lists(st.floats(0.001, 30), min_size=1, max_size=20))
def test_heat_does_not_depend_on_how_the_time_is_cut(ambient_c: float, load: float, parts: list[float]) -> None:
    whole, cut = ThermalModel(ambient_c=ambient_c), ThermalModel(ambient_c=ambient_c)
    whole.step(sum(parts), load)
    for part in parts:
        cut.step(part, load)
    assert cut.temperature_c == pytest.approx(whole.temperature_c, abs=0.2)
    assert ambient_c <= whole.temperature_c <= ambient_c + whole.board.busy_w * whole.board.kelvin_per_w


def test_the_clock_is_a_clock_and_does_not_run_backwards() -> None:
    clock, heard = VirtualClock(5), list[tuple[int, int]]()
    clock.listen(lambda a, b: heard.append((a, b)))
    clock.advance(3)
    clock.advance_to(2)
    clock.sleep(1e-9)
    assert clock() == clock.now_ns() == 9
    assert heard == [(5, 8), (8, 9)]
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)
