"""Who owns which bytes: the memory of a simulated device, and the page-locked memory of its host.

Device addresses are handed out once and never again, with a gap around each block: whatever is read or written there, or
in a block that was freed, is found. Host addresses are real, with a red zone on both sides that is looked at when the
block is freed and by ``damage``; a freed block stays in quarantine, filled with poison, up to ``QUARANTINE`` bytes in all.

New memory is poisoned. So that a large block costs nothing until it is used, a block of more than ``FILLED_WHOLE`` bytes
gets its poison in the first and last ``EDGE`` bytes alone.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right, insort
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ALLOCATED", "FREED", "PENDING", "Block", "Bytes", "Ledger", "MisuseError", "edges", "fill", "is_filled"]

Bytes = NDArray[np.uint8]

ALLOCATED = 0xCD
"""New memory. No NaN in any float: a comparison with NaN is false, and a wrong value could pass for a right one."""
FREED = 0xDD
PENDING = 0xCB
"""Where a copy to the host has been enqueued and has not run."""
_ZONE = 0xFA
_RED = 256
_PAGE = 4096
FILLED_WHOLE = 8 << 20
EDGE = 1 << 20
QUARANTINE = 256 << 20
_BASES = itertools.count()


class MisuseError(Exception):
    """An address was used as it must not be."""


class Extents:
    """Ranges of a block that have been written."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def add(self, start: int, end: int) -> None:
        apart = [(a, b) for a, b in self._ranges if b < start or a > end]
        touching = [(a, b) for a, b in self._ranges if not (b < start or a > end)]
        merged = (min([start, *(a for a, _ in touching)]), max([end, *(b for _, b in touching)]))
        self._ranges = sorted([*apart, merged])

    def covers(self, start: int, end: int) -> bool:
        return start >= end or any(a <= start and end <= b for a, b in self._ranges)


@dataclass(eq=False)
class Block:
    """One allocation. ``number``: which one of its kind, from 1. ``context``: the one it belongs to."""

    number: int
    kind: Literal["device", "page-locked"]
    address: int
    size_bytes: int
    context: int
    label: str
    whole: Bytes | None = field(repr=False)
    is_live: bool = True
    written: Extents = field(default_factory=Extents, repr=False)

    def __str__(self) -> str:
        what = f" ({self.label})" if self.label else ""
        return f"{self.kind} block #{self.number}{what} of {self.size_bytes} bytes at {self.address:#x}"

    @property
    def data(self) -> Bytes:
        """The bytes of the block, without its red zones."""
        assert self.whole is not None
        start = self.address - self.whole.ctypes.data if self.kind == "page-locked" else 0
        return self.whole[start : start + self.size_bytes]


class Place(NamedTuple):
    """Some bytes of a live block."""

    block: Block
    start: int
    data: Bytes


class Ledger:
    """The blocks of one kind. Not safe between threads: the device that owns it is."""

    def __init__(self, kind: Literal["device", "page-locked"]) -> None:
        self.kind: Literal["device", "page-locked"] = kind
        self.count = 0
        self.live_bytes = 0
        self.peak_bytes = 0
        self._blocks: dict[int, Block] = {}
        self._addresses: list[int] = []
        self._quarantine: deque[Block] = deque()
        self._quarantined_bytes = 0
        # another device has other addresses, and the memory of no host is there
        self._next_address = ((1 + next(_BASES) % 64) << 40) + _RED

    def allocate(self, size_bytes: int, context: int, label: str = "", *, is_backed: bool = True) -> Block:
        """A new block, poisoned. Device memory that is not backed is counted, and has no bytes that could be reached."""
        self.count += 1
        whole: Bytes | None
        if self.kind == "device":
            whole, address = np.empty(size_bytes if is_backed else 0, np.uint8), self._next_address + _RED
            self._next_address = -(-(address + size_bytes + _RED) // 512) * 512 + 512 - _RED
        else:
            whole = np.empty(size_bytes + 2 * _RED + _PAGE, np.uint8)
            address = -(-(whole.ctypes.data + _RED) // _PAGE) * _PAGE
        block = Block(self.count, self.kind, address, size_bytes, context, label, whole)
        for zone in _zones(block):
            zone[:] = _ZONE
        fill(block.data, ALLOCATED)
        self._blocks[address] = block
        insort(self._addresses, address)
        self.live_bytes += size_bytes
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        return block

    def free(self, address: int, context: int | None = None) -> list[str]:
        """Free the block that starts there; what its red zones tell. ``MisuseError`` when there is none to free."""
        block = self._blocks.get(address)
        if block is None:
            near = self._near(address)
            raise MisuseError(f"free of {address:#x}, which is {f'inside {near}' if near else f'no {self.kind} block'}")
        if not block.is_live:
            raise MisuseError(f"double free of {block}")
        if context is not None and block.context != context:
            raise MisuseError(f"free of {block} from a foreign context")
        damage = _zone_damage(block)
        block.is_live = False
        self.live_bytes -= block.size_bytes
        if self.kind == "device":
            block.whole = None  # nobody can reach it but through this ledger
        else:
            fill(block.data, FREED)
            self._quarantine.append(block)
            self._quarantined_bytes += block.size_bytes
            while self._quarantined_bytes > QUARANTINE:
                damage += self._let_out()
        return damage

    def find(self, address: int) -> Block | None:
        """The live block that holds this address."""
        block = self._near(address)
        return block if block and block.is_live and address < block.address + block.size_bytes else None

    def knows(self, address: int) -> bool:
        """Whether the address lies in a block, live or freed, or in the gap around one."""
        return self._near(address) is not None

    def place(self, address: int, size_bytes: int, context: int, doing: str) -> Place:
        """The bytes at an address. ``MisuseError`` when they are not all in one live block of the context."""
        block = self._near(address)
        if block is None:
            raise MisuseError(f"{doing}: {address:#x} is no address of this device")
        if not block.is_live:
            raise MisuseError(f"{doing}: use after free of {block}")
        if not block.data.size:
            raise MisuseError(f"{doing}: {block} was allocated without bytes behind it")
        start = address - block.address
        if start < 0 or start + size_bytes > block.size_bytes:
            raise MisuseError(f"{doing}: {size_bytes} bytes at {start:+} are out of bounds of {block}")
        if block.kind == "device" and block.context != context:
            raise MisuseError(f"{doing}: {block} belongs to a foreign context")
        return Place(block, start, block.data[start : start + size_bytes])

    def live(self) -> list[Block]:
        """What has not been freed, oldest first."""
        return sorted((block for block in self._blocks.values() if block.is_live), key=lambda block: block.number)

    def damage(self) -> list[str]:
        """Red zones that were written to, and freed memory that was written to."""
        return [
            *(line for block in self.live() for line in _zone_damage(block)),
            *(line for block in self._quarantine for line in _freed_damage(block)),
        ]

    def _near(self, address: int) -> Block | None:
        """The block that the address lies in or within the gap of."""
        index = bisect_right(self._addresses, address)
        before = self._blocks[self._addresses[index - 1]] if index else None
        if before and address < before.address + before.size_bytes + _RED:
            return before
        after = self._blocks[self._addresses[index]] if index < len(self._addresses) else None
        return after if after and after.address - _RED <= address else None

    def _let_out(self) -> list[str]:
        block = self._quarantine.popleft()
        damage = _freed_damage(block)
        self._quarantined_bytes -= block.size_bytes
        self._addresses.remove(block.address)
        del self._blocks[block.address]
        return damage


def edges(data: Bytes) -> tuple[Bytes, ...]:
    """All of a small block; the first and last bytes of a large one."""
    return (data,) if data.size <= FILLED_WHOLE else (data[:EDGE], data[-EDGE:])


def fill(data: Bytes, pattern: int) -> None:
    """Poison."""
    for part in edges(data):
        part[:] = pattern


def is_filled(data: Bytes, pattern: int) -> bool:
    """Whether the poison is as ``fill`` left it."""
    return all(bool((part == pattern).all()) for part in edges(data))


def _zones(block: Block) -> tuple[Bytes, ...]:
    if block.kind == "device" or block.whole is None:
        return ()
    start = block.address - block.whole.ctypes.data
    end = start + block.size_bytes
    return block.whole[start - _RED : start], block.whole[end : end + _RED]


def _zone_damage(block: Block) -> list[str]:
    return [
        f"{'underrun' if before else 'overrun'}: the red zone {'before' if before else 'behind'} {block} was written to"
        for before, zone in zip((True, False), _zones(block), strict=False)
        if not (zone == _ZONE).all()
    ]


def _freed_damage(block: Block) -> list[str]:
    return [] if is_filled(block.data, FREED) else [f"{block} was written to after it was freed"]
