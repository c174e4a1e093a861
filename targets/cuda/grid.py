"""One kernel, two forms: CUDA threads, or loops over blocks and threads that any processor runs.

A kernel body is written once, against :class:`Block`. Between two barriers (``region``) it alternates code of every
thread (``threads``) with instructions of whole warps. In the loop form the warps of a region run one after the
other, the lanes of a warp in step: a missing barrier between warps gives wrong sums there too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

__all__ = ["WARP", "Block", "Expr", "Kernel", "Registers", "device_function", "loop_function", "only", "vector"]

Expr = Any
"""An int or a TVM expression; TVM's classes are untyped."""

WARP = 32


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel before it has a form.

    Attributes:
        name: its symbol; the CUDA function is called ``<name>_kernel``.
        blocks: thread blocks an image; the images of a batch are the grid's third dimension.
        threads: of a block; a multiple of 32.
        shared: 32-bit words of shared memory.
        inputs: bytes of each input of one image.
        constants: 1-D arrays.
        out: (elements, dtype) of the output of one image.
        body: writes the code of a block.
        macs: multiply-accumulates of one image, padding included.
    """

    name: str
    blocks: int
    threads: int
    shared: int
    inputs: tuple[int, ...]
    constants: tuple[NDArray[Any], ...]
    out: tuple[int, str]
    body: Callable[[Block], None]
    macs: int = 0


class Registers(ABC):
    """A few 32-bit registers of every thread; use inside ``threads`` only."""

    @abstractmethod
    def index(self, i: Expr) -> Expr:
        """Element of the underlying buffer that is register i of the current thread."""

    def __init__(self, buffer: Expr) -> None:
        self.buffer = buffer

    def __getitem__(self, i: Expr) -> Expr:
        return self.buffer[self.index(i)]

    def __setitem__(self, i: Expr, value: Expr) -> None:
        T.buffer_store(self.buffer, value, [self.index(i)])

    def load(self, i: Expr, count: int, value: Expr) -> None:
        """Set ``count`` registers, from i on, to the lanes of a vector."""
        T.buffer_store(self.buffer, value, [vector(self.index(i), count)])

    def lanes(self, i: Expr, count: int) -> Expr:
        """``count`` registers, from i on, as a vector."""
        return self.buffer[vector(self.index(i), count)]


class Block(ABC):
    """What a kernel body may do.

    Attributes:
        index: which of the kernel's blocks.
        image: which image of the batch.
        inputs: uint8 buffers of the whole batch.
        constants: buffers.
        out: buffer of the whole batch.
        shared: uint32 buffer.
        threads_count: threads of the block.
    """

    def __init__(self, kernel: Kernel, buffers: Sequence[Expr], index: Expr, image: Expr) -> None:
        count = len(kernel.inputs)
        self.index = index
        self.image = image
        self.inputs = list(buffers[:count])
        self.constants = list(buffers[count:-1])
        self.out = buffers[-1]
        self.threads_count = kernel.threads

    shared: Expr

    @abstractmethod
    def registers(self, count: int, dtype: str) -> Registers:
        """Registers that live from here to the end of the kernel."""

    @abstractmethod
    def region(self, barrier: bool = True) -> AbstractContextManager[None]:
        """Code between two barriers; ``barrier``: whether there is one after it."""

    @abstractmethod
    def threads(self) -> AbstractContextManager[Expr]:
        """Code of every thread; yields the thread's number."""

    @abstractmethod
    def unrolled(self, count: int) -> AbstractContextManager[Expr]:
        """A short loop, the same for every thread."""

    @abstractmethod
    def dot(self, activations: Expr, weights: Expr, total: Expr) -> Expr:
        """Add four products to ``total``: bytes of a uint32 times signed bytes of another."""

    @abstractmethod
    def byte_max(self, a: Expr, b: Expr) -> Expr:
        """The larger of each of the four bytes of two uint32."""

    @abstractmethod
    def atomic_add(self, index: Expr, value: Expr) -> None:
        """Add an int32 to an element of ``out``; other blocks may add to it at the same time."""

    @abstractmethod
    def multiply(self, acc: Registers, first: Expr, a: Registers, a_first: Expr, b: Registers, b_first: Expr) -> None:
        """``mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32`` of each warp: 4 += 4 x 2 registers a lane (PTX ISA)."""

    @contextmanager
    def strided(self, count: int, thread: Expr) -> Iterator[Expr]:
        """Divide ``count`` items among the threads; neighbours take neighbouring items."""
        steps = -(-count // self.threads_count)
        with self.unrolled(steps) as step:
            item = step * self.threads_count + thread
            with only(None if count % self.threads_count == 0 else item < count):
                yield item


@contextmanager
def only(condition: Expr | None) -> Iterator[None]:
    """Code for threads that fulfil a condition; ``None``: for all."""
    if condition is None:
        yield
    else:
        with T.If(condition), T.Then():
            yield


def vector(start: Expr, count: int) -> Expr:
    """Index of ``count`` neighbouring elements."""
    return T.ramp(start, 1, count) if count > 1 else start


class _DeviceRegisters(Registers):
    def index(self, i: Expr) -> Expr:
        return i


class _DeviceBlock(Block):
    def __init__(self, kernel: Kernel, buffers: Sequence[Expr], index: Expr, image: Expr, thread: Expr) -> None:
        super().__init__(kernel, buffers, index, image)
        self._thread = thread
        if kernel.shared:
            self.shared = T.alloc_buffer((kernel.shared,), "uint32", scope="shared")

    def registers(self, count: int, dtype: str) -> Registers:
        return _DeviceRegisters(T.alloc_buffer((count,), dtype, scope="local"))

    @contextmanager
    def region(self, barrier: bool = True) -> Iterator[None]:
        yield
        if barrier:
            T.evaluate(T.tvm_storage_sync("shared"))

    @contextmanager
    def threads(self) -> Iterator[Expr]:
        yield self._thread

    @contextmanager
    def unrolled(self, count: int) -> Iterator[Expr]:
        with T.unroll(0, count) as i:
            yield i

    def dot(self, activations: Expr, weights: Expr, total: Expr) -> Expr:
        return T.call_pure_extern("int32", "dp4a_u8s8", activations, weights, total)

    def byte_max(self, a: Expr, b: Expr) -> Expr:
        return T.call_pure_extern("uint32", "__vmaxu4", a, b)

    def atomic_add(self, index: Expr, value: Expr) -> None:
        T.evaluate(T.call_extern("int32", "atomicAdd", T.address_of(self.out[index]), value))

    def multiply(self, acc: Registers, first: Expr, a: Registers, a_first: Expr, b: Registers, b_first: Expr) -> None:
        pointer = T.address_of(acc[first])
        operands = [*(a[a_first + i] for i in range(4)), *(b[b_first + i] for i in range(2))]
        T.evaluate(T.call_extern("void", "mma_u8s8", pointer, *operands))


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
    def __init__(self, kernel: Kernel, buffers: Sequence[Expr], index: Expr, image: Expr) -> None:
        super().__init__(kernel, buffers, index, image)
        self.thread: Expr = None
        self._warp: Expr = None
        if kernel.shared:
            self.shared = _scratch(kernel.shared, "uint32")

    def registers(self, count: int, dtype: str) -> Registers:
        return _LoopRegisters(_scratch(count * self.threads_count, dtype), count, self)

    @contextmanager
    def region(self, barrier: bool = True) -> Iterator[None]:
        with T.serial(0, self.threads_count // WARP) as self._warp:
            yield

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


def _scratch(size: int, dtype: str) -> Expr:
    """A buffer on the stack; without the annotation TVM would ask its runtime for it."""
    return T.alloc_buffer((size,), dtype, scope="local", align=64, annotations={"disable_lower_builtin": True})


def _arguments(kernel: Kernel, batch: Expr) -> list[Expr]:
    """Buffers of a whole batch."""
    arguments = [T.arg(f"x{i}", T.Buffer((batch * size,), "uint8")) for i, size in enumerate(kernel.inputs)]
    arguments += [T.arg(f"c{i}", T.Buffer(array.shape, str(array.dtype))) for i, array in enumerate(kernel.constants)]
    size, dtype = kernel.out
    return [*arguments, T.arg("y", T.Buffer((batch * size,), dtype))]


def device_function(kernel: Kernel, batch: int) -> PrimFunc:
    """The form for a GPU; its code does not depend on the batch, which only bounds the buffers."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(kernel.name)
        T.func_attr({"global_symbol": kernel.name, "tirx.noalias": True})
        buffers = _arguments(kernel, batch)
        with (
            T.thread_binding(0, kernel.blocks, "blockIdx.x") as index,
            T.thread_binding(0, batch, "blockIdx.z") as image,
            T.thread_binding(0, kernel.threads, "threadIdx.x") as thread,
        ):
            kernel.body(_DeviceBlock(kernel, buffers, index, image, thread))
    return builder.get()


def loop_function(kernel: Kernel, batch: int) -> PrimFunc:
    """The form for a processor: blocks, warps and lanes are loops."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(kernel.name)
        T.func_attr({"global_symbol": kernel.name, "tirx.noalias": True})
        buffers = _arguments(kernel, batch)
        with T.serial(0, batch) as image, T.serial(0, kernel.blocks) as index:
            kernel.body(_LoopBlock(kernel, buffers, index, image))
    return builder.get()
