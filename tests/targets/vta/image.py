"""A DRAM image from arrays, for programs written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.targets.vta.isa.encoding import Instruction
from squeezeedge.targets.vta.geometry import Geometry
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.encoding import InstructionSet
from squeezeedge.targets.vta.isa.words import encode, encode_micro_ops
from squeezeedge.targets.vta.simulator import Registers

ALIGNMENT = 256


class Image:
    """Regions one after the other, and the registers that point to them."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.parts: list[NDArray[np.uint8]] = []
        self.bases: dict[str, int] = {}
        self.size = 0
        self.count = 0

    def add(self, name: str, array: NDArray[Any]) -> None:
        """A region for the base register ``name``."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self.bases[name] = self.size
        self.parts.append(np.pad(data, (0, -len(data) % ALIGNMENT)))
        self.size += len(self.parts[-1])

    def program(self, program: Sequence[Instruction], micro_ops: Sequence[MicroOp], instructions: InstructionSet) -> None:
        """The instructions and micro-ops."""
        self.count = len(program)
        self.add("program", encode(program, self.geometry, instructions))
        self.add("uop", encode_micro_ops(micro_ops, self.geometry))

    def parameters(self, bias: NDArray[Any], shift: NDArray[Any]) -> None:
        """Elements of the parameter memory from [blocks * block] biases and shifts."""
        block = self.geometry.block
        parts = [bias.astype("<i4").reshape(-1, block).view(np.uint8), shift.astype(np.uint8).reshape(-1, block)]
        self.add("par", np.concatenate(parts, 1))

    def build(self) -> tuple[NDArray[np.uint8], Registers]:
        """The DRAM and the registers."""
        return np.concatenate(self.parts), Registers(count=self.count, **self.bases)

    def region(self, dram: NDArray[np.uint8], name: str, dtype: str, count: int) -> NDArray[Any]:
        """The first ``count`` values of a region."""
        start = self.bases[name]
        return dram[start : start + count * np.dtype(dtype).itemsize].view(dtype)


def blocked(value: NDArray[np.int8], block: int) -> NDArray[np.int8]:
    """[H, W, C] -> [C / block, H, W, block]."""
    height, width, channels = value.shape
    return value.reshape(height, width, channels // block, block).transpose(2, 0, 1, 3)


def unblocked(value: NDArray[Any]) -> NDArray[Any]:
    """[C / block, H, W, block] -> [H, W, C]."""
    blocks, height, width, block = value.shape
    return value.transpose(1, 2, 0, 3).reshape(height, width, blocks * block)


def weight_elements(weight: NDArray[np.int8], block: int) -> NDArray[np.int8]:
    """[out, kernel_h, kernel_w, in] -> elements in the order block of out, kernel_h, kernel_w, block of in."""
    out, height, width, channels = weight.shape
    split = weight.reshape(out // block, block, height, width, channels // block, block)
    return split.transpose(0, 2, 3, 4, 1, 5)
