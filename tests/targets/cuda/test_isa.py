"""One step of a warp tile, whichever way it multiplies: 32 bytes of each pixel times the weights of each channel."""

import numpy as np
import pytest
from tvm.script.ir_builder import tirx as T

from squeezeedge.targets.cuda.grid import WARP, Block, Kernel
from squeezeedge.targets.cuda.isa import Operands
from squeezeedge.targets.cuda.options import DOT_PRODUCT, TENSOR_CORE
from squeezeedge.targets.cuda.tiling import GROUP_WORDS, STEP_WORDS, THREADS, Tile
from tests.targets.cuda.emulation import run_kernel

PITCH = STEP_WORDS + GROUP_WORDS


@pytest.mark.parametrize("name", [TENSOR_CORE, pytest.param(DOT_PRODUCT, marks=pytest.mark.slow)])
@pytest.mark.parametrize("tile", [Tile(4, 1, 1, 1, 2), Tile(1, 4, 1, 2, 4), Tile(2, 2, 1, 2, 2)], ids=str)
def test_a_step_adds_every_product(name: str, tile: Tile) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (tile.rows, 32)).astype(np.uint8)
    weights = rng.integers(-128, 128, (2, tile.columns, 16)).astype(np.int8)  # [group][channel][16 bytes]
    held = np.zeros((tile.rows, PITCH), np.uint32)
    held[:, :STEP_WORDS] = pixels.view(np.uint32)
    shared = np.concatenate([held.ravel(), weights.view(np.uint32).ravel()])
    operands = Operands(0, PITCH, held.size)
    count = tile.accumulators

    def body(block: Block) -> None:
        acc = block.registers(count, "int32")
        with block.region(), block.threads() as thread:
            with block.strided(len(shared), thread) as item:
                block.shared.store(item, block.constants[0].load(item))
            with block.unrolled(count) as i:
                acc[i] = T.int32(1000)
        with block.region(barrier=False):
            block.isa.step(block, tile, acc, operands, 0)
            with block.threads() as thread, block.unrolled(count) as i:
                block.out.store(thread * count + i, acc[i])

    kernel = Kernel("test", 1, THREADS, len(shared), (16,), (shared,), (THREADS * count, "int32"), body)
    got = run_kernel(kernel, [np.zeros(16, np.uint8)], 1, name).reshape(THREADS, count)
    products = pixels.astype(int) @ weights.transpose(1, 0, 2).reshape(tile.columns, 32).T.astype(int) + 1000
    for thread in range(THREADS):
        row, column, _ = tile.warp(thread // WARP)
        g, t = thread % WARP // 4, thread % 4
        for i, j, r, e in np.ndindex(tile.row_tiles, tile.column_tiles, 2, 2):
            pixel = (row * tile.row_tiles + i) * 16 + 8 * r + g
            channel = (column * tile.column_tiles + j) * 8 + 2 * t + e
            assert got[thread, (i * tile.column_tiles + j) * 4 + 2 * r + e] == products[pixel, channel]
