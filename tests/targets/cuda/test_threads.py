"""The thread form: blocks and threads are the GPU's, barriers and instructions are the hardware's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tvm.script.ir_builder import tirx as T

from squeezeedge.targets.cuda.grid import Block, Kernel
from squeezeedge.targets.cuda.isa import INSTRUCTION_SETS
from squeezeedge.targets.cuda.options import DOT_PRODUCT
from squeezeedge.targets.cuda.source import cuda_source
from squeezeedge.targets.cuda.threads import thread_function

ISA = INSTRUCTION_SETS[DOT_PRODUCT]


def _kernel(body: Callable[[Block], None], shared: int = 64) -> Kernel:
    return Kernel("test", 5, 64, shared, (64,), (), (128, "int32"), body)


def _code(body: Callable[[Block], None], shared: int = 64) -> str:
    """The body as CUDA C, without what stands in front of every kernel."""
    source = cuda_source([_kernel(body, shared)], ISA, "sm_80")
    return source[source.index('extern "C"') :]


def _store(block: Block) -> None:
    with block.region(barrier=False), block.threads() as thread:
        block.out.store(block.index * 64 + thread, T.cast(block.image, "int32"))


@pytest.mark.parametrize("batch", [1, 7])
def test_the_grid(batch: int) -> None:
    """Blocks of an image in the first dimension, images in the third."""
    function = thread_function(_kernel(_store), ISA, batch)
    text = function.script()
    for extent, name in ((5, "blockIdx.x"), (batch, "blockIdx.z"), (64, "threadIdx.x")):
        assert f'T.thread_binding({extent}, thread="{name}")' in text
    assert function.attrs["global_symbol"] == "test"


def test_barriers_are_where_regions_end() -> None:
    def body(block: Block) -> None:
        with block.region(), block.threads() as thread:
            block.shared.store(thread, T.cast(thread, "uint32"))
        with block.region(barrier=False), block.threads() as thread:
            block.out.store(thread, T.reinterpret("int32", block.shared.load((thread + 1) % 64)))

    code = _code(body)
    assert code.count("__syncthreads()") == 1 and code.count("__shared__") == 1
    assert code.index("__shared__") < code.index("__syncthreads()")
    assert "__syncthreads()" not in _code(_store) and "__shared__" not in _code(_store, shared=0)


def test_registers_are_local_and_loops_unrolled() -> None:
    def body(block: Block) -> None:
        values = block.registers(4, "int32")
        with block.region(barrier=False), block.threads() as thread:
            with block.unrolled(4) as i:
                values[i] = T.cast(thread, "int32") + i
            with block.unrolled(2) as i:
                block.out.store(thread * 2 + i, values[i] * values[i + 2])

    code = _code(body, shared=0)
    assert "[4];" in code and "__shared__" not in code
    assert code.count("#pragma unroll") == 2 or "for (" not in code


def test_instructions_of_the_hardware() -> None:
    def body(block: Block) -> None:
        words = block.registers(6, "uint32")
        sums = block.registers(4, "int32")
        with block.region(barrier=False):
            with block.threads() as thread:
                word = T.reinterpret("uint32", T.cast(thread, "int32"))
                sums[0] = block.dot(word, word, T.int32(3))
                words[0] = block.byte_max(word, word + T.uint32(1))
                words[1] = block.permute_bytes(word, words[0], 0x5140)
            block.multiply(sums, 0, words, 0, words, 4)
            with block.threads() as thread:
                block.atomic_add(thread, sums[0])

    code = _code(body, shared=0)
    for call in ("dp4a_u8s8(", "__vmaxu4(", "__byte_perm(", "mma_u8s8(", "atomicAdd("):
        assert code.count(call) == 1, call
