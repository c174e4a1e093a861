"""Loop form of a kernel, for any processor: blocks, warps and lanes are loops.

Between two barriers the warps run one after the other, the lanes of a warp in step. With ``check_races`` every word of
shared memory remembers who touched it since the last barrier; after a conflict, loads give garbage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from squeezeedge.targets.cuda.grid import WARP, Block, Expr, Kernel, Registers, Shared, arguments, only

__all__ = ["loop_function"]

MOST_THREADS = 1024
GARBAGE = 0xDEADBEEF


def loop_function(kernel: Kernel, batch: int, check_races: bool = False) -> PrimFunc:
    """The form for a processor.

    Args:
        kernel: what to write.
        batch: number of images.
        check_races: see above; slower.
    """
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(kernel.name)
        T.func_attr({"global_symbol": kernel.name, "tirx.noalias": True})
        buffers = arguments(kernel, batch)
        with T.serial(0, batch) as image, T.serial(0, kernel.blocks) as index:
            kernel.body(_LoopBlock(kernel, buffers, index, image, check_races))
    return builder.get()


class _LoopRegisters(Registers):
    def __init__(self, buffer: Expr, count: int, block: _LoopBlock) -> None:
        super().__init__(buffer)
        self.count = count
        self._block = block

    def index(self, i: Expr) -> Expr:
        return self.of(self._block.thread, i)

    def of(self, thread: Expr, i: Expr) -> Expr:
        """Element that is register i of any thread."""
        return thread * self.count + i


class _LoopBlock(Block):
    def __init__(self, kernel: Kernel, buffers: Sequence[Expr], index: Expr, image: Expr, check_races: bool) -> None:
        super().__init__(kernel, buffers, index, image)
        self.thread: Expr = None
        self._warp: Expr = None
        if kernel.shared:
            checked = _CheckedShared(self, kernel.shared) if check_races else None
            self.shared = checked or Shared(_scratch(kernel.shared, "uint32"))

    def registers(self, count: int, dtype: str) -> Registers:
        return _LoopRegisters(_scratch(count * self.threads_count, dtype), count, self)

    @contextmanager
    def region(self, barrier: bool = True) -> Iterator[None]:
        with T.serial(0, self.threads_count // WARP) as self._warp:
            yield
        if barrier and isinstance(self.shared, _CheckedShared):
            self.shared.barrier()

    @contextmanager
    def threads(self) -> Iterator[Expr]:
        with T.serial(0, WARP) as lane:
            self.thread = self._warp * WARP + lane
            yield self.thread

    @contextmanager
    def unrolled(self, count: int) -> Iterator[Expr]:
        with T.serial(0, count) as i:
            yield i

    def dot(self, activations: Expr, weights: Expr, total: Expr) -> Expr:
        signed = T.reinterpret("int32", weights)
        products: Expr = T.cast(total, "int64")  # int32 addition of TVM may not wrap, the instruction's does
        for byte in range(4):
            activation = T.cast(T.bitwise_and(T.shift_right(activations, T.uint32(8 * byte)), T.uint32(255)), "int32")
            weight = T.shift_right(T.shift_left(signed, T.int32(24 - 8 * byte)), T.int32(24))
            products = products + T.cast(activation * weight, "int64")
        return T.cast(products, "int32")

    def byte_max(self, a: Expr, b: Expr) -> Expr:
        return T.reinterpret("uint32", T.max(T.reinterpret("uint8x4", a), T.reinterpret("uint8x4", b)))

    def atomic_add(self, index: Expr, value: Expr) -> None:
        T.buffer_store(self.out, self.out[index] + value, [index])

    def multiply(self, acc: Registers, first: Expr, a: Registers, a_first: Expr, b: Registers, b_first: Expr) -> None:
        """Lane 4g + t holds rows g, g + 8 of A, column g of B (bytes 4t.. of each 16) and columns 2t, 2t + 1 of C."""
        assert isinstance(acc, _LoopRegisters) and isinstance(a, _LoopRegisters) and isinstance(b, _LoopRegisters)
        base = self._warp * WARP
        with T.serial(0, 16) as row, T.serial(0, 8) as column, T.serial(0, 2) as half, T.serial(0, 4) as quad:
            register = acc.of(base + row % 8 * 4 + column // 2, first + row // 8 * 2 + column % 2)
            activations = a.buffer[a.of(base + row % 8 * 4 + quad, a_first + half * 2 + row // 8)]
            weights = b.buffer[b.of(base + column * 4 + quad, b_first + half)]
            T.buffer_store(acc.buffer, self.dot(activations, weights, acc.buffer[register]), [register])


class _CheckedShared(Shared):
    """Shared memory that two threads may not touch between two barriers, unless both read."""

    def __init__(self, block: _LoopBlock, words: int) -> None:
        super().__init__(_scratch(words, "uint32"))
        self._block = block
        self._writer, self._reader = _scratch(words, "int32"), _scratch(words, "int32")
        self._epoch, self._race = _scratch(1, "int32"), _scratch(1, "int32")
        with T.serial(0, words) as i:
            T.buffer_store(self._writer, T.int32(0), [i])
            T.buffer_store(self._reader, T.int32(0), [i])
        T.buffer_store(self._epoch, T.int32(1), [0])
        T.buffer_store(self._race, T.int32(0), [0])

    def barrier(self) -> None:
        """Whatever was touched is forgotten."""
        T.buffer_store(self._epoch, self._epoch[0] + 1, [0])

    def load(self, index: Expr, count: int = 1) -> Expr:
        """See :class:`Shared`."""
        own, several = self._mark(), self._epoch[0] * (2 * MOST_THREADS) + MOST_THREADS
        for i in range(count):
            self._conflict(self._writer[index + i], own)
            shared = T.And(self._recent(self._reader[index + i]), self._reader[index + i] != own)
            T.buffer_store(self._reader, T.Select(shared, several, own), [index + i])
        value, garbage = super().load(index, count), T.uint32(GARBAGE)
        return T.Select(self._race[0] == 0, value, T.broadcast(garbage, count) if count > 1 else garbage)

    def store(self, index: Expr, value: Expr, count: int = 1) -> None:
        """See :class:`Shared`."""
        own = self._mark()
        for i in range(count):
            self._conflict(self._writer[index + i], own)
            self._conflict(self._reader[index + i], own)
            T.buffer_store(self._writer, own, [index + i])
        super().store(index, value, count)

    def _mark(self) -> Expr:
        """This thread, since the last barrier."""
        return self._epoch[0] * (2 * MOST_THREADS) + self._block.thread

    def _recent(self, mark: Expr) -> Expr:
        return mark >= self._epoch[0] * (2 * MOST_THREADS)

    def _conflict(self, mark: Expr, own: Expr) -> None:
        with only(T.And(self._recent(mark), mark != own)):
            T.buffer_store(self._race, T.int32(1), [0])


def _scratch(size: int, dtype: str) -> Expr:
    """A buffer on the stack; without the annotation TVM would ask its runtime for it."""
    return T.alloc_buffer((size,), dtype, scope="local", align=64, annotations={"disable_lower_builtin": True})
