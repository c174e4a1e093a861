"""Loop form of a kernel, for any processor: blocks, warps and lanes are loops.

Between two barriers the warps run one after the other, and the lanes of a warp in step. The checked form counts errors
that only a GPU would show: accesses outside a buffer, and threads that race for shared memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from squeezeedge.targets.cuda.grid import WARP, Block, Expr, Kernel, Memory, Registers, arguments, only
from squeezeedge.targets.cuda.isa import InstructionSet

__all__ = ["loop_function"]

MOST_THREADS = 1024
RACE, OUTSIDE = 0, 1


def loop_function(kernel: Kernel, isa: InstructionSet, batch: int, checked: bool = False) -> PrimFunc:
    """The form for a processor.

    Args:
        kernel: what to write.
        isa: how warps multiply.
        batch: number of images.
        checked: whether it has one more parameter, the last: int32 [2], to which it adds the number of races and of
            accesses outside a buffer.
    """
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(kernel.name)
        T.func_attr({"global_symbol": kernel.name, "tirx.noalias": True})
        buffers = arguments(kernel, batch)
        faults = T.arg("faults", T.Buffer((2,), "int32")) if checked else None
        memories = [Memory(buffer) for buffer in buffers]
        if checked:
            sizes = [batch * size for size in kernel.inputs] + [array.size for array in kernel.constants]
            sizes.append(batch * kernel.out[0])
            memories = [_Checked(buffer, size, faults) for buffer, size in zip(buffers, sizes, strict=True)]
        with T.serial(0, batch) as image, T.serial(0, kernel.blocks) as index:
            kernel.body(_LoopBlock(kernel, isa, memories, index, image, faults))
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
    def __init__(
        self,
        kernel: Kernel,
        isa: InstructionSet,
        memories: Sequence[Memory],
        index: Expr,
        image: Expr,
        faults: Expr | None,
    ) -> None:
        super().__init__(kernel, isa, memories, index, image)
        self.thread: Expr = None
        self._warp: Expr = None
        if kernel.shared:
            if faults is None:
                self.shared = Memory(_scratch(kernel.shared, "uint32"))
            else:
                self.shared = _CheckedShared(self, kernel.shared, faults)

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

    def permute_bytes(self, a: Expr, b: Expr, selector: int) -> Expr:
        value: Expr = T.uint32(0)
        for byte in range(4):
            taken = selector >> 4 * byte & 7
            moved = T.shift_right(a if taken < 4 else b, T.uint32(8 * (taken % 4)))
            value = T.bitwise_or(value, T.shift_left(T.bitwise_and(moved, T.uint32(255)), T.uint32(8 * byte)))
        return value

    def atomic_add(self, index: Expr, value: Expr) -> None:
        self.out.store(index, self.out.load(index) + value)

    def multiply(self, acc: Registers, first: Expr, a: Registers, a_first: Expr, b: Registers, b_first: Expr) -> None:
        """Lane 4g + t holds rows g, g + 8 of A, column g of B (bytes 4t.. of each 16) and columns 2t, 2t + 1 of C."""
        assert isinstance(acc, _LoopRegisters) and isinstance(a, _LoopRegisters) and isinstance(b, _LoopRegisters)
        base = self._warp * WARP
        with T.serial(0, 16) as row, T.serial(0, 8) as column, T.serial(0, 2) as half, T.serial(0, 4) as quad:
            register = acc.of(base + row % 8 * 4 + column // 2, first + row // 8 * 2 + column % 2)
            activations = a.buffer[a.of(base + row % 8 * 4 + quad, a_first + half * 2 + row // 8)]
            weights = b.buffer[b.of(base + column * 4 + quad, b_first + half)]
            T.buffer_store(acc.buffer, self.dot(activations, weights, acc.buffer[register]), [register])


class _Checked(Memory):
    """Memory whose every use is checked."""

    def __init__(self, buffer: Expr, size: int, faults: Expr) -> None:
        super().__init__(buffer)
        self._size, self._faults = size, faults

    def load(self, index: Expr, count: int = 1) -> Expr:
        """See :class:`Memory`."""
        self._inside(index, count)
        return super().load(index, count)

    def store(self, index: Expr, value: Expr, count: int = 1) -> None:
        """See :class:`Memory`."""
        self._inside(index, count)
        super().store(index, value, count)

    def _inside(self, index: Expr, count: int) -> None:
        self._count(OUTSIDE, T.Or(index < 0, index + count > self._size))

    def _count(self, fault: int, condition: Expr) -> None:
        with only(condition):
            T.buffer_store(self._faults, self._faults[fault] + 1, [fault])


class _CheckedShared(_Checked):
    """Shared memory that two threads may not touch between two barriers, unless both read."""

    def __init__(self, block: _LoopBlock, words: int, faults: Expr) -> None:
        super().__init__(_scratch(words, "uint32"), words, faults)
        self._block = block
        self._writer, self._reader = _scratch(words, "int32"), _scratch(words, "int32")
        self._epoch = _scratch(1, "int32")
        with T.serial(0, words) as i:
            T.buffer_store(self._writer, T.int32(0), [i])
            T.buffer_store(self._reader, T.int32(0), [i])
        T.buffer_store(self._epoch, T.int32(1), [0])

    def barrier(self) -> None:
        """Whatever was touched is forgotten."""
        T.buffer_store(self._epoch, self._epoch[0] + 1, [0])

    def load(self, index: Expr, count: int = 1) -> Expr:
        """See :class:`Memory`."""
        own, several = self._mark(self._block.thread), self._mark(MOST_THREADS)
        for i in range(count):
            self._count(RACE, self._other(self._writer[index + i], own))
            seen = T.Select(self._other(self._reader[index + i], own), several, own)
            T.buffer_store(self._reader, seen, [index + i])
        return super().load(index, count)

    def store(self, index: Expr, value: Expr, count: int = 1) -> None:
        """See :class:`Memory`."""
        own = self._mark(self._block.thread)
        for i in range(count):
            self._count(RACE, self._other(self._writer[index + i], own))
            self._count(RACE, self._other(self._reader[index + i], own))
            T.buffer_store(self._writer, own, [index + i])
        super().store(index, value, count)

    def _mark(self, thread: Expr) -> Expr:
        """A thread since the last barrier; ``MOST_THREADS`` stands for several."""
        return self._epoch[0] * (2 * MOST_THREADS) + thread

    def _other(self, mark: Expr, own: Expr) -> Expr:
        """Whether a mark is another thread's since the last barrier."""
        return T.And(mark >= self._mark(0), mark != own)


def _scratch(size: int, dtype: str) -> Expr:
    """A buffer on the stack; without the annotation TVM would ask its runtime for it."""
    return T.alloc_buffer((size,), dtype, scope="local", align=64, annotations={"disable_lower_builtin": True})
