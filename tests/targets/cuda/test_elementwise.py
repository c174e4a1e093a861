"""Poolings of odd shapes, additions of a tensor to itself, and channels that fill no group, alone."""

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.graph import MaxPool, Tensor, rules
from squeezeedge.graph.oracle import apply
from squeezeedge.graph.windows import window_outputs
from squeezeedge.targets.cuda import elementwise
from squeezeedge.targets.cuda.elementwise import GROUP, THREADS, Pooling
from squeezeedge.targets.cuda.grid import Block, Kernel
from squeezeedge.targets.cuda.layout import Layout
from tests.targets.cuda.emulation import run_kernel


def _memory(layout: Layout, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    memory = np.full((len(images), layout.height, layout.width, layout.pixel), 77, np.uint8)
    memory[..., : layout.channels] = images
    return memory.ravel()


def _blocks(target: Layout) -> int:
    return -(-target.size // (GROUP * THREADS))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "ceil_mode"),
    [
        ((3, 3), (2, 2), (0, 0, 0, 0), False),
        ((3, 2), (1, 3), (2, 1, 1, 0), False),
        ((3, 3), (2, 2), (0, 1, 0, 0), True),
    ],
)
@pytest.mark.parametrize("channels", [5, 32])
def test_poolings(
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    ceil_mode: bool,
) -> None:
    node, ones = MaxPool("pool", "x", kernel, stride, padding, ceil_mode), np.ones(channels, np.float32)
    height, width = (
        window_outputs((9, 8)[axis], kernel[axis], stride[axis], padding[axis], padding[2 + axis], ceil_mode)
        for axis in (0, 1)
    )
    tensors = {"x": Tensor(9, 8, channels, 0, ones), "pool": Tensor(height, width, channels, 0, ones)}
    source, target = Layout(9, 8, channels), Layout(height, width, channels)
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 8, channels)).astype(np.uint8)

    def body(block: Block) -> None:
        elementwise.pool(block, Pooling(node, target.shape), source, target)

    made = Kernel("test", _blocks(target), THREADS, 0, (source.size,), (), (target.size, "uint8"), body)
    got = run_kernel(made, [_memory(source, images)], 2).reshape(2, height, width, -1)[..., :channels]
    np.testing.assert_array_equal(got, [apply(node, [image], tensors) for image in images])


@pytest.mark.parametrize("zero_point", rules.ZERO_POINTS)
def test_a_tensor_added_to_itself(zero_point: int) -> None:
    layout = Layout(5, 7, 20)
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 20)).astype(np.uint8)
    offset, shift = np.array([1, 2])[:, None] - 128, np.array([1, 2])[:, None]
    constants = np.zeros((2, 2, layout.pixel), np.int32)
    constants[:, 0], constants[:, 1] = offset, shift

    def body(block: Block) -> None:
        elementwise.add(block, zero_point, layout, [0, 0])

    kernel = Kernel(
        "test", _blocks(layout), THREADS, 0, (layout.size,), (constants.ravel(),), (layout.size, "uint8"), body
    )
    got = run_kernel(kernel, [_memory(layout, images)], 2).reshape(2, 5, 7, -1)[..., :20]
    wide = images.astype(int)
    np.testing.assert_array_equal(got, ((wide - 127 >> 1) + (wide - 126 >> 2) + zero_point).clip(0, rules.Q_MAX))


def test_concatenations_byte_by_byte() -> None:
    """One source is as the image comes, one is there twice."""
    sources = [Layout(4, 3, 3, packed=True), Layout(4, 3, 18)]
    target = Layout(4, 3, 39)
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 256, (2, *source.shape)).astype(np.uint8) for source in sources)

    def body(block: Block) -> None:
        elementwise.concatenate(block, [(1, sources[1]), (0, sources[0]), (1, sources[1])], target)

    sizes = tuple(source.size for source in sources)
    kernel = Kernel("test", _blocks(target), THREADS, 0, sizes, (), (target.size, "uint8"), body)
    got = run_kernel(kernel, [_memory(sources[0], first), _memory(sources[1], second)], 2)
    expected = np.concatenate([second, first, second], 3)
    np.testing.assert_array_equal(got.reshape(2, 4, 3, -1)[..., :39], expected)
