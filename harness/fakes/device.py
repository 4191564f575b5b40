"""The simulated device: memory, contexts, streams and events, whose work runs only when something forces it.

Every fake is a thin face of one ``SimulatedDevice``. It keeps the rules of the CUDA driver at their strictest: what the
documentation leaves undefined goes wrong here, visibly and each time.

* Work that was enqueued runs when its stream, an event behind it or the context is waited for, at a synchronous call, and
  when its stream is destroyed. Until then a copy to the host leaves poison in its destination, and a copy from
  page-locked memory has not read it.
* ``mode="eager"`` runs work as it is enqueued; a chooser runs any piece of work that could run now, at any call.
* Misuse is written down in ``violations``, and answered with the error that the driver gives for it.
* A sticky error stays: from then on each call that needs the device fails with it, until there is another device.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from harness.fakes.clock import VirtualClock
from harness.fakes.faults import FaultPlan
from harness.fakes.ledger import PENDING, Bytes, Ledger, MisuseError, edges, fill, is_filled
from harness.fakes.thermal_model import ThermalModel
from runtime.cuda import STICKY

__all__ = ["STICKY", "Allocations", "Call", "Chooser", "DeviceError", "SimulatedDevice", "SimulationError"]

Chooser = Callable[[Sequence[str]], "int | None"]
"""Gets a label of every piece of work that could run now; which of them runs, or None for no more at this call."""

_HANDLES = itertools.count(0x5000_0000, 0x10)  # of all devices: a handle is never given out again


class DeviceError(Exception):
    """What the driver answers: the name of a ``CUresult``."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class SimulationError(Exception):
    """The simulated device was used in a way that a real one does not forgive, or is not there any more."""


class Call(NamedTuple):
    """One call of a face, as ``cuMemAlloc``; ``number`` counts all of them from 1; ``thread`` is its identifier."""

    api: str
    number: int
    thread: int


class Allocations(NamedTuple):
    """How many blocks were ever allocated."""

    device: int
    host: int


@dataclass(eq=False)
class _Context:
    handle: int
    is_primary: bool = False
    is_alive: bool = True
    retained: int = 0
    runtime_holds: bool = False
    default: _Stream = field(init=False)

    def __post_init__(self) -> None:
        self.default = _Stream(0, self)


@dataclass(eq=False)
class _Work:
    label: str
    run: Callable[[], None]
    cost_ns: Callable[[], int]
    enqueued_ns: int
    after: _Mark | None = None


@dataclass(eq=False)
class _Stream:
    handle: int
    context: _Context
    is_blocking: bool = False
    queue: deque[_Work] = field(default_factory=deque)
    ready_ns: int = 0


@dataclass(eq=False)
class _Mark:
    """One recording of an event."""

    stream: _Stream
    is_done: bool = False
    done_ns: int = 0

    def reach(self) -> None:
        self.is_done, self.done_ns = True, self.stream.ready_ns


@dataclass(eq=False)
class _Event:
    handle: int
    context: _Context
    has_timing: bool
    mark: _Mark | None = None


@dataclass(eq=False)
class _Transfer:
    """A pending copy that reads or fills page-locked memory, and whether the bytes there may be judged when it runs."""

    start: int
    end: int
    fills: bool
    is_checked: bool = True


class SimulatedDevice:
    """One GPU. May be used from several threads; work that it runs holds its lock.

    ``sm``: ``"87"``. ``memory_bytes``: device memory, and on an integrated GPU the page-locked memory too. ``mode``: see
    above. ``copy_bytes_per_us`` and ``call_ns``: what copies and calls cost in virtual time. ``kernel_error``: by which share
    (standard deviation) its kernels are off.
    """

    def __init__(
        self,
        *,
        sm: str = "87",
        name: str = "Simulated Orin",
        memory_bytes: int = 8 << 30,
        is_integrated: bool = True,
        driver_version: int = 12060,
        mode: Literal["lazy", "eager"] | Chooser = "lazy",
        faults: FaultPlan | None = None,
        clock: VirtualClock | None = None,
        thermal: ThermalModel | None = None,
        copy_bytes_per_us: int = 10_000,
        call_ns: int = 1_000,
        kernel_error: float = 0.0,
    ) -> None:
        self.sm = sm
        self.name = name
        self.memory_bytes = memory_bytes
        self.is_integrated = is_integrated
        self.driver_version = driver_version
        self.mode = mode
        self.faults = faults if faults is not None else FaultPlan()
        self.clock = clock if clock is not None else VirtualClock()
        self.thermal = thermal if thermal is not None else ThermalModel()
        self.calls: list[Call] = []
        self.violations: list[str] = []
        self.lost_to: str | None = None
        self.kernel_error = kernel_error
        self._copy_bytes_per_us = copy_bytes_per_us
        self._call_ns = call_ns
        self._device = Ledger("device")
        self._host = Ledger("page-locked")
        self._primary = _Context(next(_HANDLES), is_primary=True, is_alive=False)
        self._contexts = {self._primary.handle: self._primary}
        self._streams: dict[int, _Stream] = {}
        self._events: dict[int, _Event] = {}
        self._gone: set[int] = set()
        self._transfers: list[_Transfer] = []
        self._error: str | None = None
        self._work_fault: str | None = None
        self._running: _Stream | None = None
        self._busy_ns = 0
        self._current = threading.local()
        self._lock = threading.RLock()
        self.clock.listen(self._heat)

    # Calls and faults

    def enter(self, api: str, *, needs_device: bool = True) -> str | None:
        """Write a call down; the error it has to answer with, or None. Each face asks this first.

        That error is the sticky one, a planned one, or that of work which has failed since the last call. A call that
        only asks the library something (``needs_device`` false) has planned ones alone.
        """
        with self._lock:
            if self.thermal.is_shut_down:
                raise SimulationError(f"the board switched itself off at {self.thermal.temperature_c:.1f} °C")
            self.calls.append(Call(api, len(self.calls) + 1, threading.get_ident()))
            self.clock.advance(self._call_ns)
            self._interleave()
            if needs_device and self.lost_to:
                return self.lost_to
            fault = self.faults.next(api)
            if fault and fault.in_work:
                self._work_fault = fault.error
            elif fault:
                if fault.error in STICKY:
                    self._fail(fault.error)
                return fault.error
            return self._take_error() if needs_device else None

    def _take_error(self) -> str | None:
        error, self._error = self._error, None
        return self.lost_to or error

    def _fail(self, name: str) -> None:
        """Work has failed. A sticky error ends all work there is."""
        if name not in STICKY:
            self._error = self._error or name
            return
        self.lost_to = self.lost_to or name
        for stream in self._all_streams():
            stream.queue.clear()

    def _misused(self, what: object, error: str) -> DeviceError:
        self.violations.append(str(what))
        return DeviceError(error)

    # Contexts

    @property
    def primary_context(self) -> int:
        """The handle of the primary context, whether it is alive or not."""
        return self._primary.handle

    def retain_primary(self) -> int:
        """Its handle, and one more that holds it."""
        with self._lock:
            self._primary.retained += 1
            self._primary.is_alive = True
            return self._primary.handle

    def release_primary(self) -> None:
        """One fewer that holds it; with the last one goes all that belongs to it."""
        with self._lock:
            if not self._primary.retained:
                raise self._misused("release of a primary context that nobody holds", "CUDA_ERROR_INVALID_CONTEXT")
            self._primary.retained -= 1
            if not self._primary.retained and not self._primary.runtime_holds:
                self._end(self._primary)

    def create_context(self) -> int:
        """A context that is not the primary one, as another library may make, current on the calling thread."""
        with self._lock:
            context = _Context(next(_HANDLES))
            self._contexts[context.handle] = context
            self._current.context = context
            return context.handle

    def destroy_context(self, handle: int) -> None:
        """End such a context, with all that belongs to it."""
        with self._lock:
            context = self._contexts.get(handle)
            if context is None or context.is_primary or not context.is_alive:
                raise self._misused(f"destruction of {handle:#x}, no live context", "CUDA_ERROR_INVALID_CONTEXT")
            self._end(context)

    def set_current(self, handle: int) -> None:
        """Make a context current on the calling thread; 0: none."""
        with self._lock:
            context = self._contexts.get(handle)
            if handle and (context is None or not context.is_alive):
                raise self._misused(f"{handle:#x} is no live context", "CUDA_ERROR_INVALID_CONTEXT")
            self._current.context = context

    def current(self) -> int:
        """The context that is current on the calling thread; 0: none."""
        context: _Context | None = getattr(self._current, "context", None)
        return context.handle if context else 0

    def require_context(self, doing: str) -> None:
        """``DeviceError`` on a thread that has no current context, or one that is gone."""
        context: _Context | None = getattr(self._current, "context", None)
        if context is None:
            raise self._misused(f"{doing} on a thread without a current context", "CUDA_ERROR_INVALID_CONTEXT")
        if not context.is_alive:
            raise self._misused(f"{doing} in a context that is gone", "CUDA_ERROR_CONTEXT_IS_DESTROYED")

    def hold_for_runtime(self) -> None:
        """What a library does that uses the CUDA runtime (TensorRT, torch): hold the primary context until the end."""
        self._primary.is_alive = self._primary.runtime_holds = True

    def _context_here(self) -> _Context:
        """That of the running work, of the thread, or, for a library that uses the CUDA runtime, the primary one."""
        if self._running:
            return self._running.context
        context: _Context | None = getattr(self._current, "context", None)
        if context is None:
            self.hold_for_runtime()
        return context or self._primary

    def _end(self, context: _Context) -> None:
        context.is_alive = False
        lost = []
        for ledger in (self._device, self._host):
            for block in ledger.live():
                if block.context == context.handle:
                    lost.append(str(block))
                    ledger.free(block.address)
        for kind, things in (("stream", self._streams), ("event", self._events)):
            for handle in [handle for handle, thing in things.items() if thing.context is context]:
                lost.append(f"{kind} {handle:#x}")
                del things[handle]
                self._gone.add(handle)
        if lost and not self.lost_to:
            self.violations.append(f"a context ended with {len(lost)} things in it: {'; '.join(lost)}")

    # Memory

    @property
    def live_bytes(self) -> int:
        """Device memory that is allocated now."""
        return self._device.live_bytes

    @property
    def peak_bytes(self) -> int:
        """The most device memory that was ever allocated at once."""
        return self._device.peak_bytes

    @property
    def live_host_bytes(self) -> int:
        """Page-locked memory that is allocated now."""
        return self._host.live_bytes

    @property
    def allocations(self) -> Allocations:
        """How many blocks have been allocated so far, freed or not."""
        return Allocations(self._device.count, self._host.count)

    @property
    def free_bytes(self) -> int:
        """Device memory that is left."""
        return self.memory_bytes - self.live_bytes - (self.live_host_bytes if self.is_integrated else 0)

    def allocate(self, size_bytes: int, *, label: str = "", is_backed: bool = True) -> int:
        """The address of new device memory. ``DeviceError`` when it does not fit, or its size is 0.

        Memory that no work will touch need not be backed by the host's: it is counted, and touching it is misuse.
        """
        return self._allocate(self._device, size_bytes, label, is_backed=is_backed)

    def allocate_host(self, size_bytes: int, *, label: str = "") -> int:
        """The (real) address of new page-locked memory."""
        return self._allocate(self._host, size_bytes, label)

    def _allocate(self, ledger: Ledger, size_bytes: int, label: str, *, is_backed: bool = True) -> int:
        with self._lock:
            if size_bytes <= 0:
                raise DeviceError("CUDA_ERROR_INVALID_VALUE")
            if size_bytes > self.free_bytes and (ledger is self._device or self.is_integrated):
                raise DeviceError("CUDA_ERROR_OUT_OF_MEMORY")
            return ledger.allocate(size_bytes, self._context_here().handle, label, is_backed=is_backed).address

    def free(self, address: int) -> None:
        """Free device memory. Work that still needs it is not waited for, and will be caught."""
        with self._lock:
            try:
                self._device.free(address, self._context_here().handle)
            except MisuseError as misuse:
                raise self._misused(misuse, "CUDA_ERROR_INVALID_VALUE") from misuse

    def free_host(self, address: int) -> None:
        """Free page-locked memory; its red zones are looked at."""
        with self._lock:
            try:
                self.violations += self._host.free(address)
            except MisuseError as misuse:
                raise self._misused(misuse, "CUDA_ERROR_INVALID_VALUE") from misuse

    def view(self, address: int, size_bytes: int, *, writes: bool, doing: str = "a kernel") -> Bytes:
        """The bytes at a device (or page-locked) address, for work that is running.

        MisuseError is written down and raises ``DeviceError("CUDA_ERROR_ILLEGAL_ADDRESS")``. Reading bytes that nobody has
        written is written down too, and gives poison, as on a real device there is no error for it.
        """
        with self._lock:
            ledger = self._host if self._host.knows(address) else self._device
            try:
                place = ledger.place(address, size_bytes, self._context_here().handle, doing)
            except MisuseError as misuse:
                raise self._misused(misuse, "CUDA_ERROR_ILLEGAL_ADDRESS") from misuse
            if writes:
                place.block.written.add(place.start, place.start + size_bytes)
            elif place.block.kind == "device" and not place.block.written.covers(place.start, place.start + size_bytes):
                self.violations.append(f"{doing} reads bytes of {place.block} that were never written")
            return place.data

    def read(self, address: int, size_bytes: int) -> bytes:
        """A copy of ``view``, for work that is running."""
        return self.view(address, size_bytes, writes=False).tobytes()

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write through ``view``, for work that is running."""
        source = np.frombuffer(data, np.uint8)
        self.view(address, source.size, writes=True)[:] = source

    # Streams and events

    def create_stream(self, *, is_blocking: bool = False) -> int:
        """A stream. Only a blocking one waits for the work of the context's default stream (0), and that for its."""
        with self._lock:
            stream = _Stream(next(_HANDLES), self._context_here(), is_blocking)
            self._streams[stream.handle] = stream
            return stream.handle

    def destroy_stream(self, handle: int) -> None:
        """Run what is left in it, and end it."""
        with self._lock:
            stream = self._stream(handle)
            if not handle:
                raise self._misused("destruction of the default stream", "CUDA_ERROR_INVALID_HANDLE")
            self._force(stream)
            del self._streams[handle]
            self._gone.add(handle)

    def enqueue(
        self, handle: int, label: str, work: Callable[[], None], *, busy_ns: int = 0, fixed_ns: int = 0
    ) -> None:
        """Let a stream do ``work``, which may raise ``DeviceError``. ``busy_ns``: what it takes at the highest clock;
        ``fixed_ns``: what it takes besides at any clock.

        Kernels are of the current context, so one that is put into another one's stream is refused.
        """
        thermal = self.thermal
        with self._lock:
            if not self.lost_to and self._stream(handle).context is not self._context_here():
                raise self._misused(f"{label} in stream {handle:#x} of a foreign context", "CUDA_ERROR_INVALID_HANDLE")
            self._enqueue(handle, label, work, lambda: fixed_ns + busy_ns * thermal.max_clock_mhz // thermal.clock_mhz)

    def _enqueue(
        self, handle: int, label: str, work: Callable[[], None], cost_ns: Callable[[], int], after: _Mark | None = None
    ) -> None:
        with self._lock:
            if self.lost_to:
                raise DeviceError(self.lost_to)
            stream = self._stream(handle)
            self._order(stream)
            fault, self._work_fault = self._work_fault, None
            run = work if fault is None else lambda: _raise(fault)
            stream.queue.append(_Work(label, run, cost_ns, self.clock.now_ns(), after))
            if self.mode == "eager":
                self._force(stream)

    def _order(self, stream: _Stream) -> None:
        """The default stream and the blocking streams wait for each other."""
        if stream is stream.context.default:
            before = [s for s in self._streams.values() if s.is_blocking and s.context is stream.context]
        else:
            before = [stream.context.default] if stream.is_blocking else []
        for other in before:
            if other.queue:
                now = self.clock.now_ns()
                mark = _Mark(other)
                other.queue.append(_Work("default stream", lambda m=mark: m.reach(), _nothing, now))  # type: ignore[misc]
                stream.queue.append(_Work("default stream", lambda: None, _nothing, now, mark))

    def synchronize(self, handle: int) -> None:
        """Return once a stream is done; ``DeviceError`` for work that failed since the last call."""
        with self._lock:
            stream = self._stream(handle)
            self._force(stream)
            self._surface(stream.ready_ns)

    def synchronize_context(self) -> None:
        """Return once every stream of the context is done."""
        with self._lock:
            context = self._context_here()
            streams = [stream for stream in self._all_streams() if stream.context is context]
            for stream in streams:
                self._force(stream)
            self._surface(max(stream.ready_ns for stream in streams))

    def is_done(self, handle: int) -> bool:
        """Whether a stream has nothing left to do. Asking lets it do one piece of work, so that polling ends."""
        with self._lock:
            stream = self._stream(handle)
            if stream.queue:
                self._run_next(stream)
            if error := self._take_error():
                raise DeviceError(error)
            return not stream.queue

    def create_event(self, *, has_timing: bool = False) -> int:
        """An event that has not been recorded."""
        with self._lock:
            event = _Event(next(_HANDLES), self._context_here(), has_timing)
            self._events[event.handle] = event
            return event.handle

    def destroy_event(self, handle: int) -> None:
        """End an event; whoever waits for it goes on waiting for its recording."""
        with self._lock:
            del self._events[self._event(handle).handle]
            self._gone.add(handle)

    def record_event(self, handle: int, stream_handle: int) -> None:
        """The event is complete once all that the stream has now is done."""
        with self._lock:
            event, stream = self._event(handle), self._stream(stream_handle)
            if event.context is not stream.context:
                raise self._misused(f"event {handle:#x} is of a foreign context", "CUDA_ERROR_INVALID_HANDLE")
            mark = event.mark = _Mark(stream)
            self._enqueue(stream_handle, f"event {handle:#x}", mark.reach, _nothing)

    def wait_event(self, stream_handle: int, handle: int) -> None:
        """Later work of the stream waits for the event as recorded last; for one never recorded it does not wait."""
        with self._lock:
            mark = self._event(handle).mark
            self._stream(stream_handle)
            if mark is not None:
                self._enqueue(stream_handle, f"wait for event {handle:#x}", lambda: None, _nothing, mark)

    def synchronize_event(self, handle: int) -> None:
        """Return once the event, as recorded last, is complete."""
        with self._lock:
            mark = self._event(handle).mark
            if mark is not None:
                self._force(mark.stream, mark)
            self._surface(mark.done_ns if mark else 0)

    def is_complete(self, handle: int) -> bool:
        """Whether an event, as recorded last, is complete; asking lets its stream do one piece of work."""
        with self._lock:
            mark = self._event(handle).mark
            if mark is not None and not mark.is_done and mark.stream.queue:
                self._run_next(mark.stream)
            if error := self._take_error():
                raise DeviceError(error)
            return mark is None or mark.is_done

    def elapsed_ms(self, start: int, end: int) -> float:
        """The time between two complete events that keep the time."""
        with self._lock:
            events = (self._event(start), self._event(end))
            marks = [event.mark for event in events if event.mark is not None and event.has_timing]
            if len(marks) < 2:
                raise DeviceError("CUDA_ERROR_INVALID_HANDLE")
            if not all(mark.is_done for mark in marks):
                raise DeviceError("CUDA_ERROR_NOT_READY")
            return (marks[1].done_ns - marks[0].done_ns) / 1e6

    def _stream(self, handle: int) -> _Stream:
        stream = self._streams.get(handle) if handle else self._context_here().default
        if stream is None:
            raise self._misused(self._no_such("stream", handle), "CUDA_ERROR_INVALID_HANDLE")
        if not stream.context.is_alive:
            raise self._misused(f"stream {handle:#x} of a context that is gone", "CUDA_ERROR_CONTEXT_IS_DESTROYED")
        return stream

    def _event(self, handle: int) -> _Event:
        event = self._events.get(handle)
        if event is None:
            raise self._misused(self._no_such("event", handle), "CUDA_ERROR_INVALID_HANDLE")
        return event

    def _no_such(self, kind: str, handle: int) -> str:
        return f"use of {kind} {handle:#x}, which {'was destroyed' if handle in self._gone else 'is none'}"

    # Copies

    def copy_in(self, address: int, host_address: int, size_bytes: int, stream: int) -> None:
        """Enqueue a copy to the device. Page-locked memory is read when it runs, other memory now."""
        with self._lock:
            context = self._stream(stream).context.handle
            self._device_place(address, size_bytes, context, "a copy to the device")
            source = self._host_place(host_address, size_bytes, "a copy to the device")
            data, transfer, before = source, None, 0
            if self._host.find(host_address) is None:
                data = source.copy()  # the driver stages pageable memory before it returns
            else:
                transfer, before = self._expect(host_address, size_bytes, fills=False), _checksum(source)

            def work() -> None:
                if transfer is not None:
                    self._settle(transfer)
                    self._device_read_host(host_address, size_bytes, "a copy to the device")
                    if transfer.is_checked and _checksum(source) != before:
                        self.violations.append(
                            f"page-locked memory at {host_address:#x} was changed while a copy from it was pending"
                        )
                self.view(address, size_bytes, writes=True, doing="a copy to the device")[:] = data

            self._enqueue(stream, f"copy in {size_bytes} bytes", work, lambda: self.copy_ns(size_bytes))

    def copy_out(self, host_address: int, address: int, size_bytes: int, stream: int) -> None:
        """Enqueue a copy to the host. Page-locked memory holds poison until it runs; for other memory it runs now."""
        with self._lock:
            of = self._stream(stream)
            self._device_place(address, size_bytes, of.context.handle, "a copy to the host")
            target = self._host_place(host_address, size_bytes, "a copy to the host")
            is_pinned = self._host.find(host_address) is not None
            transfer = self._expect(host_address, size_bytes, fills=True) if is_pinned else None
            if transfer is not None and transfer.is_checked:
                fill(target, PENDING)

            def work() -> None:
                if transfer is not None:
                    self._settle(transfer)
                    self._device_read_host(host_address, size_bytes, "a copy to the host")
                    if transfer.is_checked and not is_filled(target, PENDING):
                        self.violations.append(
                            f"page-locked memory at {host_address:#x} was written to while a copy into it was pending"
                        )
                place = self._device_place(address, size_bytes, of.context.handle, "a copy to the host", running=True)
                target[:] = place

            self._enqueue(stream, f"copy out {size_bytes} bytes", work, lambda: self.copy_ns(size_bytes))
            if not is_pinned:
                self._force(of)
                self._surface(of.ready_ns)

    def _device_place(self, address: int, size_bytes: int, context: int, doing: str, *, running: bool = False) -> Bytes:
        try:
            return self._device.place(address, size_bytes, context, doing).data
        except MisuseError as misuse:
            # the driver looks at the addresses of a copy when it is asked for it; later it is the device that finds out
            error = "CUDA_ERROR_ILLEGAL_ADDRESS" if running else "CUDA_ERROR_INVALID_VALUE"
            raise self._misused(misuse, error) from misuse

    def _host_place(self, address: int, size_bytes: int, doing: str) -> Bytes:
        if not self._host.knows(address):
            return np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(address))
        try:
            return self._host.place(address, size_bytes, 0, doing).data
        except MisuseError as misuse:
            raise self._misused(misuse, "CUDA_ERROR_INVALID_VALUE") from misuse

    def _device_read_host(self, address: int, size_bytes: int, doing: str) -> None:
        """Page-locked memory may have been freed since the copy was enqueued."""
        try:
            self._host.place(address, size_bytes, 0, doing)
        except MisuseError as misuse:
            raise self._misused(misuse, "CUDA_ERROR_ILLEGAL_ADDRESS") from misuse

    def _expect(self, address: int, size_bytes: int, *, fills: bool) -> _Transfer:
        """A pending copy. Where it overlaps with one before it, and either fills, its bytes may change until it runs."""
        transfer = _Transfer(address, address + size_bytes, fills)
        for other in self._transfers:
            if other.start < transfer.end and transfer.start < other.end and (fills or other.fills):
                transfer.is_checked = False
        self._transfers.append(transfer)
        return transfer

    def _settle(self, transfer: _Transfer) -> None:
        if transfer in self._transfers:
            self._transfers.remove(transfer)

    def copy_ns(self, size_bytes: int) -> int:
        """What a copy takes, either way."""
        return 2_000 + size_bytes * 1_000 // self._copy_bytes_per_us

    # Running

    def _all_streams(self) -> list[_Stream]:
        return [*(context.default for context in self._contexts.values()), *self._streams.values()]

    def _interleave(self) -> None:
        if not callable(self.mode) or self._running:
            return
        while ready := [s for s in self._all_streams() if s.queue and _can_run(s.queue[0])]:
            chosen = self.mode([f"stream {s.handle:#x}: {s.queue[0].label}" for s in ready])
            if chosen is None:
                return
            self._run_next(ready[chosen])

    def _force(self, stream: _Stream, until: _Mark | None = None) -> None:
        while stream.queue and not (until and until.is_done):
            self._run_next(stream)

    def _run_next(self, stream: _Stream) -> None:
        after = stream.queue[0].after
        if after is not None and not after.is_done:
            self._force(after.stream, after)
            if not stream.queue:  # what it waited for has lost the device
                return
        work = stream.queue.popleft()
        before, self._running = self._running, stream
        cost_ns = work.cost_ns()
        start_ns = max(stream.ready_ns, work.enqueued_ns, after.done_ns if after else 0)
        stream.ready_ns = start_ns + cost_ns
        self._busy_ns += cost_ns
        try:
            work.run()
        except DeviceError as error:
            self._fail(error.name)
        finally:
            self._running = before

    def _surface(self, ready_ns: int) -> None:
        """The host has waited until then, and hears of what failed."""
        self.clock.advance_to(ready_ns)
        if error := self._take_error():
            raise DeviceError(error)

    def _heat(self, from_ns: int, to_ns: int) -> None:
        passed_ns = to_ns - from_ns
        busy_ns = min(self._busy_ns, passed_ns)
        self._busy_ns -= busy_ns
        self.thermal.step(passed_ns / 1e9, busy_ns / passed_ns)

    # Judging

    def leaks(self) -> list[str]:
        """What has not been given back. Nothing of a lost device can be."""
        with self._lock:
            if self.lost_to:
                return []
            return [
                *(str(block) for ledger in (self._device, self._host) for block in ledger.live()),
                *(
                    f"stream {stream.handle:#x}{f', {len(stream.queue)} pieces of work not run' if stream.queue else ''}"
                    for stream in self._streams.values()
                ),
                *(f"event {handle:#x}" for handle in self._events),
                *(f"primary context, held {self._primary.retained} times" for _ in range(bool(self._primary.retained))),
                *(
                    f"context {context.handle:#x}"
                    for context in self._contexts.values()
                    if context.is_alive and not context.is_primary
                ),
            ]

    def check(self) -> None:
        """Raise ``SimulationError`` with every violation so far; red zones and freed memory are looked at first."""
        with self._lock:
            found = [*self.violations, *(line for line in self._host.damage() if line not in self.violations)]
        if found:
            raise SimulationError("; ".join(found))


def _nothing() -> int:
    return 0


def _can_run(work: _Work) -> bool:
    return work.after is None or work.after.is_done


def _checksum(data: Bytes) -> int:
    total = 0
    for part in edges(data):
        total = zlib.crc32(part.data, total)
    return total


def _raise(name: str) -> None:
    raise DeviceError(name)
