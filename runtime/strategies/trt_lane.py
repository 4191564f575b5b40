"""One execution context with a stream and buffers of its own: where an engine really runs.

Inputs pass through page-locked memory in pieces. Where all of them together need no more than two banks, one buffer holds
them. Larger ones share two banks: while the device copies from one, the host fills the other, and an event tells when
a bank may be filled again. So copying on the host and to the device overlap, and a 24 MB frame holds 2 MiB of memory
that a Jetson can neither move nor reclaim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from runtime.cuda import Cuda, CudaError, HostMemory
from runtime.data import describe_shape
from runtime.errors import EngineDeserializeError, InferenceError
from runtime.protocol import Array
from runtime.strategies.trt_memory import DeviceLedger
from runtime.strategies.trt_signature import Signature, Slot

__all__ = ["BANK_BYTES", "Lane", "LibraryRefusedError"]

BANK_BYTES = 1 << 20
"""Of each of the two banks. Copying so much takes the host about as long as the copy to the device that it hides."""

_ALIGNMENT = 256
_PROFILE = 0


class LibraryRefusedError(Exception):
    """A call of TensorRT answered ``None`` or ``False``; its own words are with the witness. Never leaves the runtime."""

    def __init__(self, call: str, detail: str = "") -> None:
        super().__init__(f"{call} ({detail})" if detail else call)


@dataclass(frozen=True, eq=False)
class _Piece:
    """Part of an input on its way: ``start`` to ``stop`` are bytes of it, or both ``None`` for the whole array.

    ``waits`` and ``records``: the bank's event before it is filled again, and after the last copy from it; 0 for none.
    """

    name: str
    start: int | None
    stop: int | None
    staged: Array
    host: int
    device: int
    size_bytes: int
    waits: int
    records: int = 0


@dataclass(frozen=True, eq=False)
class _Output:
    """Where an output arrives. ``view``: of the page-locked memory, in the shape of this call."""

    name: str
    view: Array
    host: int
    device: int
    size_bytes: int


class _Marks:
    """Timing events around the parts of a call: before the copies in, before the kernels, behind them, behind the copies out."""

    def __init__(self, cuda: Cuda, clock: Callable[[], int], undo: ExitStack, later: Callable[..., Any]) -> None:
        self._cuda = cuda
        self._clock = clock
        self._began_ns = self._took_ns = 0
        self.events: list[int] = []
        for _ in range(4):
            self.events.append(cuda.create_event(timing=True))
            undo.callback(later, cuda.destroy_event, self.events[-1])

    def begin(self) -> None:
        """A call starts on the host."""
        self._took_ns, self._began_ns = 0, self._clock()

    def end(self) -> None:
        """The host has the outputs."""
        self._took_ns = self._clock() - self._began_ns

    def split_ns(self) -> tuple[int, int, int, int] | None:
        """Of the last whole call."""
        if not self._took_ns:
            return None
        first, second, third, fourth = self.events
        pairs = ((first, second), (second, third), (third, fourth))
        copied_in, computed, copied_out = (round(1e6 * self._cuda.elapsed_ms(a, b)) for a, b in pairs)
        return copied_in, computed, copied_out, max(0, self._took_ns - copied_in - computed - copied_out)


class Lane:
    """Runs one call at a time; whoever shares it holds a lock around ``run``.

    ``context``: one whose memory is ours to give. ``scratch_bytes``: what it needs at most. Then ``open``, ``size`` and
    ``allocate``, which arm in ``undo`` what takes back each of their steps.
    """

    def __init__(
        self, cuda: Cuda, memory: DeviceLedger, context: Any, signature: Signature, *, scratch_bytes: int
    ) -> None:
        self.context = context
        self.host_bytes = 0
        self._cuda = cuda
        self._memory = memory
        self._signature = signature
        self._scratch_bytes = scratch_bytes
        self._stream = 0
        self._events: list[int] = []
        self._bank_bytes = 0
        self._staging: HostMemory | None = None
        self._devices: dict[str, int] = {}
        self._landings: dict[str, HostMemory] = {}
        self._capacity: dict[str, int] = {}
        self._values: dict[str, Array] = {}
        self._is_in_flight = False
        self._sent = tuple(slot for slot in signature.inputs if not slot.is_on_host)
        self._free = tuple(slot for slot in signature.inputs if slot.is_free)
        self._shapes: tuple[tuple[int, ...], ...] | None = None
        self._pieces: tuple[_Piece, ...] = ()
        self._outputs: tuple[_Output, ...] = ()
        self._marks: _Marks | None = None

    @property
    def is_dynamic(self) -> bool:
        """Whether shapes may differ from call to call."""
        return bool(self._free or self._values)

    def open(self, undo: ExitStack, later: Callable[..., Any]) -> None:
        """Make the stream, choose the profile, and set the largest shapes, so that sizes can be asked for.

        ``later(call, *arguments)`` wraps what is undone, so that a fault there stops nothing.
        """
        self._stream = self._cuda.create_stream()
        undo.callback(later, self._cuda.destroy_stream, self._stream)
        for slot in self._signature.inputs:
            if slot.is_on_host:
                memory = self._page_locked(_size(slot, slot.largest), undo, later)
                values: Array = memory.array[: _size(slot, slot.largest)].view(slot.dtype)
                values[:] = slot.values or 0
                self._values[slot.name] = values.reshape(slot.largest)
                self._set_address(slot.name, memory.address)
        if self.is_dynamic:
            if not self.context.set_optimization_profile_async(_PROFILE, self._stream):
                raise LibraryRefusedError("IExecutionContext.set_optimization_profile_async")
            # it may copy on the stream, and shapes are worked out on the host
            self._cuda.synchronize(self._stream)
        for slot in self._free:
            self._set_shape(slot.name, slot.largest)
        self._infer_shapes()

    def size(self) -> int:
        """Bytes of device memory that ``allocate`` will ask for: scratch, inputs and outputs at their largest."""
        for slot in self._signature.inputs:
            self._capacity[slot.name] = _size(slot, slot.largest)
        for slot in self._signature.outputs:
            shape = tuple(self.context.get_tensor_shape(slot.name))
            if min(shape, default=0) < 0:
                raise EngineDeserializeError(
                    f"the shape of output {slot.name!r} depends on the data, and buffers are made once, before there are any.",
                    remedy="End the model in a fixed number of results, as TopK gives them, and build it again.",
                )
            # a smaller input may make an output larger; the library's own bound covers that
            self._capacity[slot.name] = max(_size(slot, shape), self.context.get_max_output_size(slot.name))
        on_device = [
            self._capacity[slot.name] for slot in (*self._sent, *self._signature.outputs) if not slot.is_on_host
        ]
        return self._scratch_room() + sum(max(1, size) for size in on_device)

    def allocate(self, undo: ExitStack, later: Callable[..., Any]) -> None:
        """Make every buffer and hand out the addresses, once: nothing is allocated after this."""
        scratch = self._scratch_room()
        address = self._device(scratch, undo, later)
        self.context.set_device_memory(address, scratch)
        for slot in self._sent:
            self._devices[slot.name] = self._device(self._capacity[slot.name], undo, later)
            self._set_address(slot.name, self._devices[slot.name])
        for slot in self._signature.outputs:
            self._landings[slot.name] = self._page_locked(self._capacity[slot.name], undo, later)
            self._devices[slot.name] = 0
            if not slot.is_on_host:
                self._devices[slot.name] = self._device(self._capacity[slot.name], undo, later)
            self._set_address(slot.name, self._devices[slot.name] or self._landings[slot.name].address)
        total = sum(_aligned(self._capacity[slot.name]) for slot in self._sent)
        banks = 1 if total <= 2 * BANK_BYTES else 2
        self._bank_bytes = total if banks == 1 else BANK_BYTES
        self._staging = self._page_locked(banks * self._bank_bytes, undo, later)
        for _ in range(banks - 1 and banks):
            self._events.append(self._cuda.create_event())
            undo.callback(later, self._cuda.destroy_event, self._events[-1])
        undo.callback(self.let_context_go)  # before the memory that it was given
        undo.callback(later, self.finish)
        if not self.is_dynamic:
            self._lay_out({slot.name: slot.shape for slot in self._signature.inputs})

    def time_calls(self, clock: Callable[[], int], undo: ExitStack, later: Callable[..., Any]) -> None:
        """Put timing events around the parts of every call from now on; once."""
        if self._marks is None:
            self._cuda.make_current()
            self._marks = _Marks(self._cuda, clock, undo, later)

    def split_ns(self) -> tuple[int, int, int, int] | None:
        """Of the last call that succeeded, if calls are timed: see ``runtime.protocol.Splits``."""
        if self._marks is None:
            return None
        self._cuda.make_current()
        return self._marks.split_ns()

    def run(self, inputs: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Copy in, enqueue, copy out, wait. The results are the caller's: no later call changes them.

        ``inputs`` and ``out`` were checked. Raises what CUDA and TensorRT raise, ``LibraryRefusedError``, and
        ``InferenceError`` for an array of ``out`` whose shape is not that of this call's output.
        """
        cuda, stream, marks = self._cuda, self._stream, self._marks
        cuda.make_current()
        self.wait()
        if marks:
            marks.begin()
        if self.is_dynamic:
            self._follow(inputs)
        if out:
            self._check_shapes(out)
        self._is_in_flight = True
        if marks:
            cuda.record_event(marks.events[0], stream)
        for piece in self._pieces:
            if piece.waits:
                cuda.synchronize_event(piece.waits)
            source = inputs[piece.name]
            if piece.start is not None:
                source = source.reshape(-1).view(np.uint8)[piece.start : piece.stop]
            np.copyto(piece.staged, source)
            cuda.copy_in(piece.device, piece.host, piece.size_bytes, stream)
            if piece.records:
                cuda.record_event(piece.records, stream)
        if marks:
            cuda.record_event(marks.events[1], stream)
        if not self.context.execute_async_v3(stream):
            raise LibraryRefusedError("IExecutionContext.execute_async_v3")
        if marks:
            cuda.record_event(marks.events[2], stream)
        for output in self._outputs:
            if output.device and output.size_bytes:
                cuda.copy_out(output.host, output.device, output.size_bytes, stream)
        if marks:
            cuda.record_event(marks.events[3], stream)
        cuda.synchronize(stream)
        self._is_in_flight = False
        results = self._handed_over(out)
        if marks:
            marks.end()
        return results

    def _handed_over(self, out: Mapping[str, Array] | None) -> dict[str, Array]:
        """The outputs, copied into arrays that are the caller's."""
        if not out:
            return {output.name: output.view.copy() for output in self._outputs}
        results = {}
        for output in self._outputs:
            target = out.get(output.name)
            if target is None:
                target = output.view.copy()
            else:
                np.copyto(target, output.view)
            results[output.name] = target
        return results

    def zeros(self) -> dict[str, Array]:
        """A feed for the warm-up: zeros in the largest shapes, and the largest values where these make shapes."""
        feed = {slot.name: np.zeros(slot.largest, slot.dtype) for slot in self._signature.inputs}
        return {**feed, **{name: values.copy() for name, values in self._values.items()}}

    def let_context_go(self) -> None:
        """Drop the context, which frees it: nobody else refers to it."""
        self.context = None

    def wait(self) -> None:
        """Return once no copy and no kernel of a call that failed uses the buffers; raises what came of them."""
        if self._is_in_flight:
            self._cuda.synchronize(self._stream)
            self._is_in_flight = False

    def finish(self) -> None:
        """``wait``, and where that itself fails, by another way: nothing may be freed under work that goes on."""
        try:
            self.wait()
        except CudaError as error:
            if not error.is_sticky:
                self._cuda.synchronize_context()
                self._is_in_flight = False
            raise

    def settle(self) -> CudaError | None:
        """``wait``, and hand back what it would raise."""
        try:
            self.wait()
        except CudaError as error:
            return error
        return None

    def _follow(self, inputs: Mapping[str, Array]) -> None:
        """Set this call's shapes, where they are not those of the call before."""
        shapes = tuple(inputs[slot.name].shape for slot in self._free)
        if shapes == self._shapes and not self._values:
            return
        self._shapes = None  # half set, should one of the next calls fail
        for slot, shape in zip(self._free, shapes, strict=True):
            self._set_shape(slot.name, shape)
        for name, values in self._values.items():
            np.copyto(values, inputs[name])
        self._infer_shapes()
        self._lay_out({slot.name: inputs[slot.name].shape for slot in self._sent})
        self._shapes = shapes

    def _lay_out(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Plan the pieces of the inputs, and view the outputs in their shapes."""
        self._pieces = self._plan(shapes)
        outputs = []
        for slot in self._signature.outputs:
            shape = tuple(self.context.get_tensor_shape(slot.name))
            size = _size(slot, shape)
            if size > self._capacity[slot.name]:
                raise InferenceError(
                    f"output {slot.name!r} would be {describe_shape(shape)}, {size} bytes; TensorRT's own bound for it, and "
                    f"so its buffer, is {self._capacity[slot.name]}."
                )
            landing = self._landings[slot.name]
            view = landing.array[:size].view(slot.dtype).reshape(shape)
            outputs.append(_Output(slot.name, view, landing.address, self._devices[slot.name], size))
        self._outputs = tuple(outputs)

    def _plan(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[_Piece, ...]:
        assert self._staging is not None
        pieces: list[_Piece] = []
        bank, at, filled, waits = 0, 0, set[int](), 0
        for slot in self._sent:
            total, done = _size(slot, shapes[slot.name]), 0
            while done < total:
                if at >= self._bank_bytes:  # the bank is full: go on in the other one, once its copies are done
                    pieces[-1] = replace(pieces[-1], records=self._events[bank])
                    filled.add(bank)
                    bank, at = 1 - bank, 0
                    waits = self._events[bank] if bank in filled else 0
                size = min(total - done, self._bank_bytes - at)
                offset = bank * self._bank_bytes + at
                staged: Array = self._staging.array[offset : offset + size]
                is_whole = size == total
                if is_whole:
                    staged = staged.view(slot.dtype).reshape(shapes[slot.name])
                pieces.append(
                    _Piece(
                        slot.name,
                        None if is_whole else done,
                        None if is_whole else done + size,
                        staged,
                        self._staging.address + offset,
                        self._devices[slot.name] + done,
                        size,
                        waits,
                    )
                )
                waits = 0
                done += size
                at += _aligned(size)
        return tuple(pieces)

    def _check_shapes(self, out: Mapping[str, Array]) -> None:
        for output in self._outputs:
            array = out.get(output.name)
            if array is not None and array.shape != output.view.shape:
                raise InferenceError(
                    f"out[{output.name!r}] has shape {describe_shape(array.shape)}; this call's output is "
                    f"{describe_shape(output.view.shape)}."
                )

    def _scratch_room(self) -> int:
        return max(_ALIGNMENT, self._scratch_bytes)

    def _device(self, size_bytes: int, undo: ExitStack, later: Callable[..., Any]) -> int:
        address = self._memory.allocate(max(1, size_bytes))
        undo.callback(later, self._memory.free, address)
        return address

    def _page_locked(self, size_bytes: int, undo: ExitStack, later: Callable[..., Any]) -> HostMemory:
        memory = self._cuda.allocate_host(max(1, size_bytes))
        undo.callback(later, self._cuda.free_host, memory)
        self.host_bytes += memory.size_bytes
        return memory

    def _set_address(self, name: str, address: int) -> None:
        if not self.context.set_tensor_address(name, address):
            raise LibraryRefusedError("IExecutionContext.set_tensor_address", f"{name!r}")

    def _set_shape(self, name: str, shape: tuple[int, ...]) -> None:
        if not self.context.set_input_shape(name, shape):
            raise LibraryRefusedError("IExecutionContext.set_input_shape", f"{name!r} as {describe_shape(shape)}")

    def _infer_shapes(self) -> None:
        if unknown := self.context.infer_shapes():
            raise LibraryRefusedError("IExecutionContext.infer_shapes", f"it does not know {', '.join(unknown)}")


def _size(slot: Slot, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * slot.dtype.itemsize


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT
