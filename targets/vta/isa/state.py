"""What the reference bodies of the instructions work on: on-chip memories, DRAM and base addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.targets.vta.isa.encoding import MAX_SHIFT
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory

__all__ = ["State"]


@dataclass
class State:
    """Memories of one accelerator, all zero at first.

    Every on-chip index wraps modulo the memory's depth, as the hardware's index registers do.

    Attributes:
        geometry: gives the shapes.
        dram: uint8 [bytes], all of the DRAM that the program may touch.
        base: byte address in ``dram`` of element 0 of each memory; 0 if missing.
        uop: uint32 [depth].
        wgt: int8 [depth, block, block]: element, output channel, input channel.
        inp: int8 [depth, block].
        acc: int32 [depth, block].
        out: int8 [depth, block].
        bias: int32 [depth, block] of the parameter memory.
        shift: int8 [depth, block] of the parameter memory, 0..MAX_SHIFT.
    """

    geometry: Geometry
    dram: NDArray[np.uint8]
    base: Mapping[Memory, int] = field(default_factory=dict)
    uop: NDArray[np.uint32] = field(init=False)
    wgt: NDArray[np.int8] = field(init=False)
    inp: NDArray[np.int8] = field(init=False)
    acc: NDArray[np.int32] = field(init=False)
    out: NDArray[np.int8] = field(init=False)
    bias: NDArray[np.int32] = field(init=False)
    shift: NDArray[np.int8] = field(init=False)

    def __post_init__(self) -> None:
        block, depth = self.geometry.block, self.geometry.depth
        self.uop = np.zeros(depth(Memory.UOP), np.uint32)
        self.wgt = np.zeros((depth(Memory.WGT), block, block), np.int8)
        self.inp = np.zeros((depth(Memory.INP), block), np.int8)
        self.acc = np.zeros((depth(Memory.ACC), block), np.int32)
        self.out = np.zeros((depth(Memory.OUT), block), np.int8)
        self.bias = np.zeros((depth(Memory.PAR), block), np.int32)
        self.shift = np.zeros((depth(Memory.PAR), block), np.int8)

    def dram_elements(self, memory: Memory, first: int, count: int) -> NDArray[np.uint8]:
        """A view of consecutive elements in DRAM: uint8 [count, bytes of one].

        Raises:
            UnsupportedError: outside of the DRAM.
        """
        size = self.geometry.element_bytes(memory)
        start = self.base.get(memory, 0) + first * size
        if start + count * size > len(self.dram):
            raise UnsupportedError(
                f"{memory.name.lower()} elements {first}..{first + count - 1} are outside of the DRAM"
            )
        return self.dram[start : start + count * size].reshape(count, size)

    def write(self, memory: Memory, first: int, raw: NDArray[np.uint8]) -> None:
        """Elements as they lie in DRAM (uint8 [count, bytes of one]) into a memory from an index on."""
        index = self.wrap(memory, first + np.arange(len(raw)))
        if memory == Memory.PAR:
            split = 4 * self.geometry.block
            self.bias[index] = np.ascontiguousarray(raw[:, :split]).view("<i4")
            self.shift[index] = raw[:, split:].view(np.int8) & MAX_SHIFT
        else:
            target: NDArray[Any] = getattr(self, memory.name.lower())
            little = target.dtype.newbyteorder("<")
            target[index] = np.ascontiguousarray(raw).view(little).reshape(len(raw), *target.shape[1:])

    def wrap(self, memory: Memory, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Indices modulo the memory's depth."""
        return index & (self.geometry.depth(memory) - 1)
