"""CUDA form of a kernel: blocks and threads are the GPU's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from squeezeedge.targets.cuda.grid import Block, Expr, Kernel, Memory, Registers, arguments
from squeezeedge.targets.cuda.isa import InstructionSet

__all__ = ["thread_function"]


def thread_function(kernel: Kernel, isa: InstructionSet, batch: int) -> PrimFunc:
    """The form for a GPU; its code does not depend on the batch, which only bounds the buffers."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(kernel.name)
        T.func_attr({"global_symbol": kernel.name, "tirx.noalias": True})
        buffers = arguments(kernel, batch)
        with (
            T.thread_binding(0, kernel.blocks, "blockIdx.x") as index,
            T.thread_binding(0, batch, "blockIdx.z") as image,
            T.thread_binding(0, kernel.threads, "threadIdx.x") as thread,
        ):
            kernel.body(_ThreadBlock(kernel, isa, buffers, index, image, thread))
    return builder.get()


class _ThreadRegisters(Registers):
    def index(self, i: Expr) -> Expr:
        return i


class _ThreadBlock(Block):
    def __init__(
        self, kernel: Kernel, isa: InstructionSet, buffers: Sequence[Expr], index: Expr, image: Expr, thread: Expr
    ) -> None:
        super().__init__(kernel, isa, [Memory(buffer) for buffer in buffers], index, image)
        self._thread = thread
        if kernel.shared:
            self.shared = Memory(T.alloc_buffer((kernel.shared,), "uint32", scope="shared"))

    def registers(self, count: int, dtype: str) -> Registers:
        return _ThreadRegisters(T.alloc_buffer((count,), dtype, scope="local"))

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

    def permute_bytes(self, a: Expr, b: Expr, selector: int) -> Expr:
        return T.call_pure_extern("uint32", "__byte_perm", a, b, T.uint32(selector))

    def atomic_add(self, index: Expr, value: Expr) -> None:
        T.evaluate(T.call_extern("int32", "atomicAdd", T.address_of(self.out.buffer[index]), value))

    def multiply(self, acc: Registers, first: Expr, a: Registers, a_first: Expr, b: Registers, b_first: Expr) -> None:
        pointer = T.address_of(acc[first])
        operands = [*(a[a_first + i] for i in range(4)), *(b[b_first + i] for i in range(2))]
        T.evaluate(T.call_extern("void", "mma_u8s8", pointer, *operands))
