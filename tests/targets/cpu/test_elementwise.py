"""Copies, borders, poolings and additions alone, against numpy and the oracle."""

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.graph import Add, MaxPool, Tensor, rules
from squeezeedge.graph.oracle import apply
from squeezeedge.targets.cpu.elementwise import add_rows, copy_rows, fill_border, pool_row, vector_width
from squeezeedge.targets.cpu.layout import Layout
from squeezeedge.targets.cpu.loops import Expr, loop
from tests.targets.cpu.emit import run_body

UNTOUCHED = 77


def _memory(layout: Layout, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A tensor in its layout; the border and what lies behind hold ``UNTOUCHED``."""
    memory = np.full(layout.size, UNTOUCHED, np.uint8)
    y, x, channel = np.indices(values.shape)
    memory[layout.address(y, x, channel)] = values
    return memory


def _values(layout: Layout, memory: NDArray[np.uint8]) -> NDArray[np.uint8]:
    values: NDArray[np.uint8] = memory[layout.address(*np.indices(layout.shape))]
    return values


@pytest.mark.parametrize(("size", "width"), [(1, 1), (6, 2), (48, 16), (64, 64), (256, 64)])
def test_vector_width(size: int, width: int) -> None:
    assert vector_width(size) == width


@pytest.mark.parametrize("channels", [1, 3, 16, 24])
@pytest.mark.parametrize("wide", [0, 5])
def test_copies_into_some_channels(channels: int, wide: int) -> None:
    rng = np.random.default_rng(channels)
    source, target = Layout(3, 4, channels, (0, 1, 0, 0)), Layout(3, 4, channels + wide, (1, 0, 0, 2))
    values = rng.integers(0, 256, source.shape).astype(np.uint8)
    first = wide // 2

    def body(inputs: list[Expr], out: Expr) -> None:
        with loop(3) as y:
            copy_rows(source, inputs[0], target, out, first, y)

    got = run_body(body, [_memory(source, values)], np.full(target.size, UNTOUCHED, np.uint8))
    expected = np.full(target.shape, UNTOUCHED, np.uint8)
    expected[..., first : first + channels] = values
    np.testing.assert_array_equal(got, _memory(target, expected))


@pytest.mark.parametrize("pad", [[9, 9, 9], [1, 2, 3]])
@pytest.mark.parametrize("border", [(0, 0, 0, 0), (1, 0, 2, 0), (0, 1, 0, 2), (2, 1, 1, 3)])
def test_borders(border: tuple[int, int, int, int], pad: list[int]) -> None:
    layout = Layout(3, 4, 3, border)
    got = run_body(lambda _, out: fill_border(layout, out, pad), [], np.full(layout.size, UNTOUCHED, np.uint8))
    expected = np.full((layout.rows, layout.row // 3, 3), pad, np.uint8)
    expected[border[0] : border[0] + 3, border[1] : border[1] + 4] = UNTOUCHED
    whole = expected.size
    np.testing.assert_array_equal(got[:whole], expected.ravel())
    assert (got[whole:] == UNTOUCHED).all()


@pytest.mark.parametrize(
    "node",
    [
        MaxPool("pool", "x", (3, 3), (2, 2)),
        MaxPool("pool", "x", (3, 2), (1, 3), (2, 1, 1, 0)),
        MaxPool("pool", "x", (3, 3), (2, 2), (0, 1, 0, 0), ceil_mode=True),
    ],
    ids=["plain", "padded", "ceil"],
)
@pytest.mark.parametrize("channels", [3, 32])
def test_poolings(node: MaxPool, channels: int) -> None:
    source = Tensor(8, 9, channels, 0, np.ones(channels, np.float32))
    values = np.random.default_rng(0).integers(0, 256, source.shape).astype(np.uint8)
    height, width = {(3, 3): (3, 4), (3, 2): (9, 3)}[node.kernel]
    if node.ceil_mode:
        height, width = 4, 5
    tensors = {"x": source, "pool": Tensor(height, width, channels, 0, source.scale)}
    layout, target = Layout(*source.shape, (1, 0, 0, 1)), Layout(height, width, channels)

    def body(inputs: list[Expr], out: Expr) -> None:
        with loop(height) as y:
            pool_row(node, source.height, layout, inputs[0], target, out, y)

    got = run_body(body, [_memory(layout, values)], np.zeros(target.size, np.uint8))
    np.testing.assert_array_equal(_values(target, got), apply(node, [values], tensors))


@pytest.mark.parametrize("zero_points", [(0, 0, 0), (0, 128, 128), (128, 128, 0)])
@pytest.mark.parametrize("channels", [1, 24])
def test_additions(zero_points: tuple[int, int, int], channels: int) -> None:
    rng = np.random.default_rng(channels)
    first, second, out_zero = zero_points
    shift = rng.integers(0, 10, (2, channels)).astype(np.uint8)
    ones = np.ones(channels, np.float32)
    node = Add("sum", ("a", "b"), shift, out_zero, ones)
    tensors = {
        "a": Tensor(5, 6, channels, first, ones),
        "b": Tensor(5, 6, channels, second, ones),
        "sum": Tensor(5, 6, channels, out_zero, ones),
    }
    layouts = [Layout(5, 6, channels, (1, 1, 1, 1)), Layout(5, 6, channels)]
    values = [rng.integers(0, 256, (5, 6, channels)).astype(np.uint8) for _ in layouts]
    wide = shift.astype(np.int32)
    constants = np.stack([rules.rounding_term(wide) - np.array([[first], [second]]), wide], 1).astype(np.int32)

    def body(inputs: list[Expr], out: Expr) -> None:
        with loop(5) as y:
            add_rows(layouts, inputs[:2], layouts[1], out, inputs[2], out_zero, y)

    memories = [_memory(layout, array) for layout, array in zip(layouts, values, strict=True)]
    got = run_body(body, [*memories, constants.ravel()], np.zeros(layouts[1].size, np.uint8))
    np.testing.assert_array_equal(_values(layouts[1], got), apply(node, values, tensors))
