"""What a block finds in shared memory: the windows of its pixels, and the weights as they are packed."""

import numpy as np
import pytest
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import Conv, MaxPool, Tensor
from squeezeedge.graph.oracle import apply
from squeezeedge.graph.rules import Shape
from squeezeedge.targets.cuda.elementwise import Pooling
from squeezeedge.targets.cuda.grid import Block, Kernel
from squeezeedge.targets.cuda.layout import Layout
from squeezeedge.targets.cuda.loading import Loader
from squeezeedge.targets.cuda.packing import reduction_bytes
from squeezeedge.targets.cuda.tiling import STEP_BYTES, STEP_WORDS, THREADS, Plan, Tile
from tests.targets.cuda.emulation import run_kernel

TILE = Tile(4, 1, 1, 1, 2)


def _conv(channels: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int, int, int]) -> Conv:
    out, ones = 5, np.ones(5, np.float32)
    weight, bias, shift = np.zeros((out, *kernel, channels), np.int8), np.zeros(out, np.int32), np.zeros(out, np.uint8)
    pads = np.full(channels, 128, np.uint8) if channels > 3 else np.array([10, 20, 30], np.uint8)
    return Conv("conv", "x", weight, bias, shift, stride, padding, pads, 0, ones)


def _windows(conv: Conv, value: NDArray[np.uint8], out: Shape, pixel: int) -> NDArray[np.int64]:
    """Window bytes of each output pixel; -1 for what may hold anything."""
    _, kernel_h, kernel_w, channels = conv.weight.shape
    top, left, bottom, right = conv.padding
    padded = np.full((value.shape[0] + top + bottom, value.shape[1] + left + right, pixel), -1)
    padded[..., :channels] = conv.pad_value
    padded[top : top + value.shape[0], left : left + value.shape[1], :channels] = value
    rows = []
    for y, x in np.ndindex(out.height, out.width):
        first, second = y * conv.stride[0], x * conv.stride[1]
        rows.append(padded[first : first + kernel_h, second : second + kernel_w].ravel())
    return np.stack(rows)


def _loaded(loader: Loader, image: NDArray[np.uint8], block_: int, chunk: int) -> tuple[NDArray[np.uint8], list[int]]:
    """(bytes of the tile's pixels [rows, bytes of a chunk], words of the weights) after a load."""
    plan = loader.plan
    words = TILE.columns * plan.steps * STEP_WORDS
    weights = np.arange(plan.chunks * words, dtype=np.uint32)
    size = plan.pixel_words + words

    def body(block: Block) -> None:
        with block.region():
            loader.load(block, block.constants[0], 0, block_ * TILE.rows, chunk)
        with block.region(barrier=False), block.threads() as thread, block.strided(size, thread) as item:
            block.out.store(item, T.reinterpret("int32", block.shared.load(item)))

    kernel = Kernel("test", 1, THREADS, plan.shared, (image.size,), (weights,), (size, "int32"), body)
    got = run_kernel(kernel, [image.ravel()], 1).view(np.uint32)
    pixels = got[: plan.pixel_words].reshape(TILE.rows, plan.pitch)[:, : plan.steps * STEP_WORDS]
    return np.ascontiguousarray(pixels).view(np.uint8), got[plan.pixel_words :].tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding"),
    [
        (3, (3, 3), (2, 2), (1, 0, 1, 2)),
        (3, (7, 5), (1, 3), (0, 0, 0, 0)),
        (20, (3, 3), (1, 2), (1, 1, 0, 1)),
        (48, (1, 2), (1, 1), (0, 0, 0, 1)),
    ],
)
def test_windows(
    channels: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int, int, int]
) -> None:
    conv = _conv(channels, kernel, stride, padding)
    source = Layout(11, 10, channels, packed=channels == 3)
    top, left, bottom, right = padding
    out = Shape((11 + top + bottom - kernel[0]) // stride[0] + 1, (10 + left + right - kernel[1]) // stride[1] + 1, 5)
    steps = -(-reduction_bytes(conv, source) // STEP_BYTES)
    loader = Loader(conv, out, 0, source, None, Plan(TILE, 2, -(-steps // 2)))
    value = np.random.default_rng(0).integers(0, 256, (11, 10, channels)).astype(np.uint8)
    image = np.full((11, 10, source.pixel), 77, np.uint8)
    image[..., :channels] = value
    windows = _windows(conv, value, out, source.pixel)
    last = -(-len(windows) // TILE.rows) - 1
    for block, chunk in ((0, 0), (last, loader.plan.chunks - 1)):
        pixels, weights = _loaded(loader, image, block, chunk)
        own = windows[np.minimum(block * TILE.rows + np.arange(TILE.rows), len(windows) - 1)]
        expected = own[:, chunk * pixels.shape[1] :][:, : pixels.shape[1]]
        matter = expected >= 0
        np.testing.assert_array_equal(pixels[:, : expected.shape[1]][matter], expected[matter])
        assert weights == list(range(chunk * len(weights), (chunk + 1) * len(weights)))


def test_a_pooling_on_the_way() -> None:
    node = MaxPool("pool", "x", (3, 3), (2, 2), (0, 1, 0, 0), ceil_mode=True)
    ones = np.ones(20, np.float32)
    tensors = {"x": Tensor(12, 9, 20, 0, ones), "pool": Tensor(6, 5, 20, 0, ones)}
    value = np.random.default_rng(1).integers(0, 256, (12, 9, 20)).astype(np.uint8)
    source = Layout(12, 9, 20)
    image = np.full((12, 9, source.pixel), 77, np.uint8)
    image[..., :20] = value
    pooling = Pooling(node, Shape(6, 5, 20))
    conv = _conv(20, (1, 1), (1, 1), (0, 0, 0, 0))
    pixels, _ = _loaded(Loader(conv, Shape(6, 5, 5), 0, source, pooling, Plan(TILE, 1, 1)), image, 0, 0)
    np.testing.assert_array_equal(pixels[:30, :20], apply(node, [value], tensors).reshape(30, 20))
