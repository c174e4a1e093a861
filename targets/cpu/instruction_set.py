"""What an instruction set is to the kernels: how it multiplies and narrows.

A convolution keeps a register tile of int32 accumulators: ``rows`` x ``pixels`` output pixels times ``blocks`` blocks
of ``lanes`` output channels. One reduction step multiplies ``group`` consecutive input bytes of every pixel with
``group`` weights of every lane. :mod:`.convolution` says where a tile reads and stores.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import rules
from squeezeedge.targets.cpu.depthwise import ChannelProducts, WideProducts
from squeezeedge.targets.cpu.loops import Expr, lanes, scratch
from squeezeedge.targets.cpu.tiling import UNROLL, Accumulators, Operands, Tile

__all__ = ["InstructionSet", "VectorSet"]


@dataclass(frozen=True)
class InstructionSet(ABC):
    """What all instruction sets share.

    Attributes:
        name: as in ``--isa``.
        lanes: int32 accumulators of one block.
        group: input bytes of a lane's reduction step.
        tuned: LLVM's name of the processor that its code is ordered for; what may be used of that is decided elsewhere
            (:data:`squeezeedge.targets.cpu.options.FEATURES`).
    """

    name: str
    lanes: int
    group: int
    tuned: str | None = None

    weight_type: ClassVar[str] = "int8"
    """Of the weights as they are multiplied; they are stored as their bytes."""
    chained: ClassVar[bool] = False
    """Whether its reduction steps are in chains, which :meth:`plan` plans."""

    paired: ClassVar[bool] = False
    """Whether its plans get shorter by another order of channels (:mod:`.channel_order`)."""

    @property
    def weight_size(self) -> int:
        """Bytes of a weight."""
        return np.dtype(self.weight_type).itemsize

    @property
    def input_offset(self) -> int:
        """The multiply instruction sees q - input_offset."""
        return 0

    @property
    def products(self) -> int:
        """Multiplications of one instruction."""
        return self.lanes * self.group

    @property
    @abstractmethod
    def channels(self) -> ChannelProducts:
        """How it multiplies channel by channel."""

    @abstractmethod
    def tile(self, height: int, width: int, blocks: int) -> Tile:
        """The tile for a map of height x width output pixels; its blocks divide ``blocks``."""

    @abstractmethod
    def steps(self, row: int) -> tuple[int, int]:
        """(number of reduction steps, bytes of one) of a window's row of so many bytes."""

    @abstractmethod
    def arrange(self, weights: NDArray[np.int8]) -> NDArray[np.int8]:
        """Weights [tile, block, lane, window row, step, group] in the order in which :meth:`accumulate` reads them."""

    def plan(
        self, name: str, weights: NDArray[np.int8], places: NDArray[np.intp]
    ) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
        """The chains of a convolution, checked, as :meth:`accumulate` reads them.

        Args:
            name: of the convolution.
            weights: [block, lane, step of the window, group].
            places: int [steps of the window]: how many bytes each lies behind the window's first.

        Returns:
            The weights in the chains' order, and the table that is stored behind the biases.
        """
        raise NotImplementedError

    @abstractmethod
    def configure(self, tile: Tile, group: int) -> None:
        """Write what must come before tiles of this shape and steps of so many bytes, on every thread."""

    @abstractmethod
    def accumulate(self, tile: Tile, operands: Operands) -> Accumulators:
        """Write the sums of a tile, which begin with the biases."""

    @abstractmethod
    def release(self) -> None:
        """Write what must come after the last tile, on every thread."""

    def narrow(self, vectors: Sequence[Expr], zero_point: int) -> Expr:
        """clip(v + zero_point, 0, Q_MAX) of some blocks: int32 vectors -> one uint8 vector, in channel order."""
        (value,) = vectors
        bounds = (-zero_point, rules.Q_MAX - zero_point, zero_point)
        low, high, zero = (T.broadcast(T.int32(v), self.lanes) for v in bounds)
        return T.cast(T.max(T.min(value, high), low) + zero, f"uint8x{self.lanes}")

    def narrow_counts(self, blocks: int) -> list[int]:
        """How the blocks of a tile are grouped for :meth:`narrow`."""
        return [1] * blocks

    def lane_order(self, blocks: int) -> NDArray[np.intp]:
        """Channel of the tile that each accumulator lane holds, so that :meth:`narrow` needs no shuffle."""
        return np.arange(blocks * self.lanes)


@dataclass(frozen=True)
class VectorSet(InstructionSet):
    """Vector registers: the input bytes of one pixel, broadcast, times a vector of weights.

    This class widens to int32 and leaves the choice of instructions to LLVM.

    Attributes:
        registers: vector registers.
        in_flight: multiply instructions that must be independent to hide their latency.
    """

    registers: int = 16
    in_flight: int = 8

    unroll: ClassVar[int] = UNROLL
    """Reduction steps in one iteration."""

    @property
    def channels(self) -> ChannelProducts:
        """Row by row."""
        return WideProducts(self.lanes, self.registers - 3)

    def tile(self, height: int, width: int, blocks: int) -> Tile:
        """The tile with the most useful multiplications per cycle, at two multiplies or two loads a cycle."""
        best, best_rate = Tile(1, 1, 1), 0.0
        for q in (2, 1, 3, 4):
            limit = (self.registers - 2 * q) // q
            if blocks % q or limit < 1:
                continue
            for rows in (1, 2):
                if rows > height or limit < rows:
                    continue
                tiles = -(-width // (limit // rows))
                pixels = -(-width // tiles)
                held = rows * pixels * q
                cycles = max(held, rows * pixels + q, self.in_flight) / 2
                useful = (width / (tiles * pixels)) * (height / (-(-height // rows) * rows))
                if useful * held / cycles > best_rate * 1.01:
                    best, best_rate = Tile(rows, pixels, q), useful * held / cycles
        return best

    def steps(self, row: int) -> tuple[int, int]:
        """As many as it takes, all of ``group`` bytes."""
        return -(-row // self.group), self.group

    def arrange(self, weights: NDArray[np.int8]) -> NDArray[np.int8]:
        """The bytes of a lane's step side by side."""
        return weights.transpose(0, 3, 4, 1, 2, 5)

    def configure(self, tile: Tile, group: int) -> None:
        """Nothing: registers are always there."""

    def release(self) -> None:
        """Nothing."""

    def accumulate(self, tile: Tile, operands: Operands) -> Accumulators:
        """Every sum in a register; a step's activations are used for all blocks."""
        n, group = self.lanes, operands.group
        acc = scratch(tile.rows * tile.pixels * tile.blocks * n, "int32")

        def at(row: int, pixel: int, block: int) -> Expr:
            return lanes(((row * tile.pixels + pixel) * tile.blocks + block) * n, n)

        pixels = [(row, pixel) for row in range(tile.rows) for pixel in range(tile.pixels)]
        for row, pixel in pixels:
            for block in range(tile.blocks):
                bias = operands.parameters[lanes(operands.parameter + block * 2 * n, n)]
                T.buffer_store(acc, bias, [at(row, pixel, block)])

        def step(window_row: Expr, k: Expr) -> None:
            start = operands.start + window_row * operands.row + k * group
            size = n * group * self.weight_size
            first = operands.weight + (window_row * operands.steps + k) * (tile.blocks * size)
            for row, pixel in pixels:
                activation = self.activation(operands.data, start + row * operands.down + pixel * operands.right)
                for block in range(tile.blocks):
                    stored = operands.weights[lanes(first + block * size, size)]
                    weights = T.reinterpret(f"{self.weight_type}x{n * group}", stored)
                    index = at(row, pixel, block)
                    T.buffer_store(acc, self.dot(acc[index], activation, weights), [index])

        operands.reduce(step, self.unroll)
        return lambda *position: acc[at(*position)]

    def activation(self, data: Expr, address: Expr) -> Expr:
        """What :meth:`dot` takes of ``group`` bytes at an address, broadcast to all lanes."""
        return T.broadcast(T.cast(data[address], "int32"), self.lanes)

    def dot(self, acc: Expr, activation: Expr, weight: Expr) -> Expr:
        """The accumulators (int32 vector) plus one reduction step; weight: int8 vector of lanes * group."""
        return acc + activation * T.cast(weight, f"int32x{self.lanes}")
