"""The loop form means what the hardware does: instructions, registers, barriers."""

from collections.abc import Callable

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from squeezeedge.targets.cuda.grid import Block, Kernel
from tests.targets.cuda.emulation import build_loops


def _kernel(body: Callable[[Block], None], out: int, constants: tuple[NDArray[np.generic], ...] = ()) -> Kernel:
    return Kernel("test", 1, 64, 64, (64,), constants, (out, "int32"), body)


def _run(kernel: Kernel) -> NDArray[np.int32]:
    return _checked(kernel)[0]


def _checked(kernel: Kernel) -> tuple[NDArray[np.int32], list[int]]:
    """What a kernel computes from zeros, and its faults."""
    arrays = [np.zeros(64, np.uint8), *kernel.constants, np.zeros(kernel.out[0], np.int32), np.zeros(2, np.int32)]
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    build_loops([kernel], 1, checked=True)["test"](*tensors)
    return tensors[-2].numpy(), tensors[-1].numpy().tolist()


def test_the_matrix_instruction() -> None:
    """Fragments as the PTX ISA lays them out for mma.m16n8k32 with 8-bit operands; two warps, wrapping sums."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (2, 16, 32)).astype(np.uint8)
    b = rng.integers(-128, 128, (2, 32, 8)).astype(np.int8)
    c = rng.integers(-(2**31), 2**31, (2, 16, 8)).astype(np.int32)
    lane = np.arange(32)
    group, quad = lane // 4, lane % 4
    fragments = np.empty((2, 32, 10), np.uint32)
    for warp in range(2):
        words_a = a[warp].view(np.uint32)  # [16, 8]
        words_b = np.ascontiguousarray(b[warp].T).view(np.uint32)  # [8, 8]
        for i, (row, column) in enumerate(((0, 0), (8, 0), (0, 4), (8, 4))):
            fragments[warp, :, i] = words_a[group + row, quad + column]
        for i in range(2):
            fragments[warp, :, 4 + i] = words_b[group, quad + 4 * i]
        for i in range(4):
            fragments[warp, :, 6 + i] = c[warp, group + i // 2 * 8, quad * 2 + i % 2].view(np.uint32)

    def body(block: Block) -> None:
        operands = [block.registers(count, dtype) for count, dtype in ((4, "uint32"), (2, "uint32"), (4, "int32"))]
        with block.region(barrier=False):
            with block.threads() as thread:
                first = 0
                for registers, count in zip(operands, (4, 2, 4), strict=True):
                    for i in range(count):
                        word = block.constants[0].load(thread * 10 + first + i)
                        registers[i] = T.reinterpret("int32", word) if first == 6 else word
                    first += count
            block.multiply(operands[2], 0, operands[0], 0, operands[1], 0)
            with block.threads() as thread, block.unrolled(4) as i:
                block.out.store(thread * 4 + i, operands[2][i])

    got = _run(_kernel(body, 256, (fragments.ravel(),))).reshape(2, 32, 4)
    expected = (c + a.astype(np.int64) @ b.astype(np.int64)).astype(np.uint32).view(np.int32).reshape(2, 16, 8)
    for i in range(4):
        np.testing.assert_array_equal(got[:, :, i], expected[:, group + i // 2 * 8, quad * 2 + i % 2])


def test_dot_products_and_byte_maxima() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 256, (64, 4)).astype(np.uint8), rng.integers(-128, 128, (64, 4)).astype(np.int8)
    words = np.concatenate([a.view(np.uint32).ravel(), b.view(np.uint32).ravel()])

    def body(block: Block) -> None:
        with block.region(barrier=False), block.threads() as thread:
            first, second = (block.constants[0].load(thread + i) for i in (0, 64))
            block.out.store(thread, block.dot(first, second, T.int32(2**31 - 1)))
            block.out.store(64 + thread, T.reinterpret("int32", block.byte_max(first, second)))

    got = _run(_kernel(body, 128, (words,)))
    dots = (2**31 - 1 + (a.astype(np.int64) * b).sum(1)).astype(np.uint32).view(np.int32)
    np.testing.assert_array_equal(got[:64], dots)
    np.testing.assert_array_equal(got[64:].view(np.uint8).reshape(64, 4), np.maximum(a, b.view(np.uint8)))


@pytest.mark.parametrize("missing", [None, "read after write", "write after read"])
def test_missing_barriers_are_seen(missing: str | None) -> None:
    """Each thread reads what its neighbour wrote, one of another warp or of its own."""

    def body(block: Block) -> None:
        value = block.registers(1, "uint32")

        def write(first: int) -> None:
            with block.threads() as thread:
                block.shared.store(thread, T.cast(thread + first, "uint32"))

        def read(first: int) -> None:
            with block.threads() as thread:
                value[0] = block.shared.load((thread + 1) % 64)
                block.out.store(first + thread, T.reinterpret("int32", value[0]))

        with block.region(barrier=missing != "read after write"):
            write(0)
        with block.region(barrier=missing != "write after read"):
            read(0)
        with block.region():
            write(100)
        with block.region(barrier=False):
            read(64)

    races, outside = _checked(_kernel(body, 128))[1]
    assert (races > 0) == (missing is not None) and not outside


@pytest.mark.parametrize("start", [-1, 0, 1])
def test_accesses_outside_a_buffer_are_seen(start: int) -> None:
    def body(block: Block) -> None:
        with block.region(barrier=False), block.threads() as thread, block.strided(4, thread) as item:
            words = T.reinterpret("int32x4", block.inputs[0].load(item * 16 + 16 * start, 16))
            block.out.store(item * 4, words, 4)

    assert _checked(_kernel(body, 16))[1] == [0, int(start != 0)]


@pytest.mark.parametrize("selector", [0x3210, 0x5140, 0x7362, 0x0747])
def test_bytes_of_two_words(selector: int) -> None:
    """As CUDA's ``__byte_perm``."""
    words = np.random.default_rng(0).integers(0, 2**32, (64, 2)).astype(np.uint32)

    def body(block: Block) -> None:
        with block.region(barrier=False), block.threads() as thread:
            a, b = (block.constants[0].load(thread * 2 + i) for i in range(2))
            block.out.store(thread, T.reinterpret("int32", block.permute_bytes(a, b, selector)))

    digits = [selector >> 4 * i & 15 for i in range(4)]
    expected = np.ascontiguousarray(words.view(np.uint8)[:, digits]).view(np.int32).ravel()
    np.testing.assert_array_equal(_run(_kernel(body, 64, (words.ravel(),))), expected)
