"""The symbols that every layer's results in DRAM must have, derived from the layer and not from the program.

The symbols of a layer's input are those that the program left in DRAM, which are proved by then. By induction from the
image, layer by layer, the last stores hold the network's class sums. A wrong address, a missing iteration or a swapped
pair of instructions gives other symbols, even where it breaks no rule of the memories.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph import MaxPool, rules
from squeezeedge.graph.dispatch import Table
from squeezeedge.targets.vta.isa.program import VtaProgram
from squeezeedge.targets.vta.isa.published import AluOp
from squeezeedge.targets.vta.lower.layers import LAYERS, AddLayer, ConvLayer, Layer, Layers, Part
from squeezeedge.targets.vta.lower.tensors import Value
from squeezeedge.targets.vta.verify.symbols import (
    Symbols,
    alu,
    constant,
    digest,
    immediate,
    narrow,
    parts,
    pooled,
    rectified,
    sum_of,
)

__all__ = ["Mismatch", "check_layers"]


class Mismatch(Exception):
    """An element in DRAM is not what a layer means.

    Attributes:
        layer: its index.
        cell: element of ``block`` bytes, from the start of the DRAM.
        text: what is wrong.
    """

    def __init__(self, layer: int, cell: int, text: str) -> None:
        super().__init__(text)
        self.layer = layer
        self.cell = cell
        self.text = text


def check_layers(program: VtaProgram, layers: Layers, symbols: Symbols, written: NDArray[np.bool_]) -> None:
    """Compare the DRAM after a run with what the layers mean.

    Args:
        program: gives instructions, geometry and places.
        layers: what it was compiled from.
        symbols: [dram_bytes / block].
        written: bool, likewise: whether the program stores there.

    Raises:
        Mismatch: the first element, in the order of the layers, that is missing, different, or of no tensor.
    """
    check = _Check(program, symbols, written)
    for index, layer in enumerate(layers.layers):
        _CHECK(layer, check, index)
    stray = np.flatnonzero(written & ~check.seen)
    if stray.size:
        raise Mismatch(0, int(stray[0]), "stores to padding or to no tensor at all")


class _Check:
    def __init__(self, program: VtaProgram, symbols: Symbols, written: NDArray[np.bool_]) -> None:
        self.program, self.symbols, self.written = program, symbols, written
        self.block = program.geometry.block
        self.published = program.instructions == "published"
        self.arena = program.bases["inp"] // self.block
        self.seen = np.zeros(len(symbols), bool)

    def convolution(self, index: int, layer: ConvLayer) -> None:
        for part in layer.parts:
            sums = self._sums(layer, part)
            if layer.head:
                self._compare(index, *self._head(layer, part, sums))
            else:
                assert part.target is not None
                self._compare(index, self._cells(part.target), self._results(layer, part, sums))

    def addition(self, index: int, layer: AddLayer) -> None:
        self._compare(index, self._cells(layer.target), self._sum(layer))

    def _compare(self, layer: int, cells: NDArray[np.int64], forms: Sequence[Symbols]) -> None:
        """``forms``: symbols of one value, computed in different ways; each in the shape of the cells."""
        self.seen[cells] = True
        missing = ~self.written[cells]
        if missing.any():
            raise Mismatch(layer, int(cells[missing][0]), "an element of its result is never stored")
        wrong = np.logical_and.reduce([self.symbols[cells] != form for form in forms])
        if wrong.any():
            raise Mismatch(layer, int(cells[wrong][0]), "stores what is not the layer's result")

    def _cells(self, value: Value) -> NDArray[np.int64]:
        """The elements of a tensor: [blocks, rows, columns]."""
        y, x = np.arange(value.height)[:, None], np.arange(value.width)
        return self.arena + np.array(value.origins)[:, None, None] + y * value.pitch + x

    # Convolutions -----------------------------------------------------------------------------------------------------

    def _sums(self, layer: ConvLayer, part: Part) -> Symbols:
        """Products without bias: [out blocks, rows, columns]."""
        source, (top, left) = layer.source, part.padding
        (kernel_h, kernel_w), (stride_h, stride_w) = part.kernel, layer.stride
        height = max((layer.height - 1) * stride_h + kernel_h, top + source.height)
        width = max((layer.width - 1) * stride_w + kernel_w, left + source.width)
        padding = constant(rules.SIGN if source.zero_point == 0 else 0, self.block)
        padded = np.full((len(source.origins), height, width), padding)
        padded[:, top : top + source.height, left : left + source.width] = self.symbols[self._cells(source)]
        windows = np.lib.stride_tricks.sliding_window_view(padded, part.kernel, (1, 2))
        windows = windows[:, ::stride_h, ::stride_w][:, : layer.height, : layer.width]
        taps = windows.transpose(3, 4, 0, 1, 2)
        weights = digest(part.weight.reshape(part.blocks * part.taps, -1).view(np.uint8)).reshape(
            part.blocks, part.taps
        )
        sums = np.empty((part.blocks, layer.height * layer.width), np.uint64)
        for start, end in part.alike(0, part.blocks):
            first = part.first[start]
            sums[start:end] = weights[start:end] @ taps[:, :, first : first + part.depth].reshape(part.taps, -1)
        return sums.reshape(part.blocks, layer.height, layer.width)

    def _results(self, layer: ConvLayer, part: Part, sums: Symbols) -> list[Symbols]:
        """R3 and the pooling: [out blocks, rows, columns] in each form that the instructions may use."""
        if self.published:
            acc = sums if layer.pool is None else self._largest(layer, layer.pool, sums)
            return list(self._vector_steps(part, acc))
        shift = digest(part.shift)[:, None, None]
        values = narrow(sums + self._bias(part.bias), shift, part.low)
        if layer.pool is None:
            return [values]
        taps, valid = _taps(layer, layer.pool, values)
        return [pooled(taps, valid)]

    def _largest(self, layer: ConvLayer, pool: MaxPool, acc: Symbols) -> Symbols:
        """Maxima in published instructions: of the accumulators, from the least int32 on, row by row of the window."""
        taps, valid = _taps(layer, pool, acc)
        least = alu(AluOp.MIN, np.zeros(1, np.uint64), immediate(-(1 << 15)))
        result = np.broadcast_to(alu(AluOp.SHR, least, immediate(-16)), taps.shape[:-1])
        for tap in range(taps.shape[-1]):
            result = np.where(valid[..., tap], alu(AluOp.MAX, result, taps[..., tap]), result)
        return result

    def _vector_steps(self, part: Part, acc: Symbols) -> Iterator[Symbols]:
        """R3 in the published instructions: the offset -128 behind the shift, or inside the bias where it fits."""
        shift = digest(part.shift.astype("<i4").view(np.uint8))[:, None, None]
        bias = part.bias.astype(np.int64)
        exact = alu(AluOp.SHR, acc + self._bias(bias), shift)
        if not part.low:
            yield _clipped(exact)
            return
        yield alu(
            AluOp.MIN, alu(AluOp.MAX, exact, immediate(0)) + immediate(-rules.SIGN), immediate(rules.Q_MAX - rules.SIGN)
        )
        offset = rules.SIGN << part.shift.astype(np.int64)
        weight = part.weight.astype(np.int64)
        reach = np.minimum(weight * -rules.SIGN, weight * (rules.Q_MAX - rules.SIGN)).sum((1, 3))
        least = rules.wrap_int32(bias + reach).astype(np.int64)  # R4: it lies in int32, modulo 2^32
        fits = np.all(least - offset >= -rules.INT32_LIMIT, 1)[:, None, None]
        folded = _clipped(alu(AluOp.SHR, acc + self._bias(bias - offset), shift))
        yield np.where(fits, folded, np.uint64(0))

    def _bias(self, bias: NDArray[np.integer]) -> Symbols:
        """int32 [blocks, block], modulo 2^32 -> [blocks, 1, 1]."""
        return digest((bias.astype(np.int64) % (1 << 32)).astype("<u4").view(np.uint8))[:, None, None]

    # Others -----------------------------------------------------------------------------------------------------------

    def _head(self, layer: ConvLayer, part: Part, sums: Symbols) -> tuple[NDArray[np.int64], list[Symbols]]:
        """R6: the elements of the class sums and their symbols, [out blocks, elements of one sum]."""
        acc = sums + self._bias(part.bias)
        first = self.program.region(self.program.sums.region).offset // self.block
        blocks, planes = np.arange(part.blocks)[:, None], np.arange(4)
        if self.published:
            total = (alu(AluOp.MAX, acc, immediate(0)) if layer.relu else acc).sum((1, 2), dtype=np.uint64)
            steps = [total + immediate(0)]
            for _ in range(3):
                steps.append(alu(AluOp.SHR, steps[-1], immediate(8)))
            return first + planes * part.blocks + blocks, [np.stack(steps, 1)]
        total = (rectified(acc) if layer.relu else acc).sum((1, 2), dtype=np.uint64)
        return first + 4 * blocks + planes, [parts(total, 4)]

    def _sum(self, layer: AddLayer) -> list[Symbols]:
        """R5: [blocks, rows, columns]."""
        first, second = (self.symbols[self._cells(operand)] for operand in layer.operands)
        bias = self._bias(layer.bias[:, 0]), self._bias(layer.bias[:, 1])
        if not self.published:
            narrow_shift = digest(layer.shift[:, 0])[:, None, None], digest(layer.shift[:, 1])[:, None, None]
            return [sum_of((first, second), bias, narrow_shift, layer.low)]
        identity = digest(np.eye(self.block, dtype=np.uint8).reshape(1, -1))
        shifts = [digest(layer.shift[:, i].astype("<i4").view(np.uint8))[:, None, None] for i in range(2)]
        operands = [
            alu(AluOp.SHR, value * identity + b, shift)
            for value, b, shift in zip((first, second), bias, shifts, strict=True)
        ]
        return [_clipped(operands[0] + operands[1] + (immediate(-rules.SIGN) if layer.low else np.uint64(0)))]


_CHECK: Table[Layer, None] = Table("VTA verifier of layers", LAYERS)


@_CHECK.implements(ConvLayer)
def _convolution(layer: ConvLayer, check: _Check, index: int) -> None:
    check.convolution(index, layer)


@_CHECK.implements(AddLayer)
def _addition(layer: AddLayer, check: _Check, index: int) -> None:
    check.addition(index, layer)


def _clipped(acc: Symbols) -> Symbols:
    return alu(AluOp.MIN, alu(AluOp.MAX, acc, immediate(-rules.SIGN)), immediate(rules.Q_MAX - rules.SIGN))


def _taps(layer: ConvLayer, pool: MaxPool, values: Symbols) -> tuple[Symbols, NDArray[np.bool_]]:
    """[blocks, rows, columns] -> [blocks, pooled rows, pooled columns, taps], and which of them are pixels (R5)."""
    index, inside = [], []
    for axis in range(2):
        start = np.arange(layer.out[axis])[:, None] * pool.stride[axis] - pool.padding[axis]
        at = start + np.arange(pool.kernel[axis])
        inside.append((at >= 0) & (at < values.shape[axis + 1]))
        index.append(np.where(inside[-1], at, 0))
    taps = values[:, index[0][:, None, :, None], index[1][None, :, None, :]]
    valid = inside[0][:, None, :, None] & inside[1][None, :, None, :]
    shape = (*layer.out[:2], pool.kernel[0] * pool.kernel[1])
    return taps.reshape(len(values), *shape), np.broadcast_to(valid.reshape(shape), (len(values), *shape))
