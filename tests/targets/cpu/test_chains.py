"""Chains of 16-bit sums: exact for every weight tensor, in the plan and in the kernel, or refused."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.graph.rules import WEIGHT_LIMIT
from squeezeedge.targets.cpu.chains import BOUND, HEADER, LENGTHS, TOGETHER, check_chains, plan_chains, plan_table
from squeezeedge.targets.cpu.isa import INSTRUCTION_SETS
from squeezeedge.targets.cpu.loops import Expr, lanes
from squeezeedge.targets.cpu.tiling import Operands, Tile
from tests.targets.cpu.conftest import available
from tests.targets.cpu.emit import Compiled, compiled_body

ROWS, STEPS, ROW, CHANNELS = 2, 5, 29, 16
PLACES = np.add.outer(np.arange(ROWS) * ROW, np.arange(STEPS) * 4).ravel()
SHAPE = (2, CHANNELS // 2, ROWS * STEPS, 4)
PIXELS = 3
CHAINED = [name for name, isa in INSTRUCTION_SETS.items() if isa.paired]


def _heavy_channel(weights: NDArray[np.int8], index: int) -> NDArray[np.int8]:
    weights[..., index % SHAPE[2], index % 4] = WEIGHT_LIMIT
    return weights


def _alternating(value: int) -> NDArray[np.int8]:
    return (np.full(SHAPE, value) * np.where(np.indices(SHAPE).sum(0) % 2, 1, -1)).astype(np.int8)


WEIGHTS = st.one_of(
    st.sampled_from([WEIGHT_LIMIT, -WEIGHT_LIMIT, 64, 65, 16, 1, 0]).map(lambda value: np.full(SHAPE, value, np.int8)),
    st.sampled_from([WEIGHT_LIMIT, 64, 33]).map(_alternating),
    hnp.arrays(np.int8, SHAPE, elements=st.integers(-WEIGHT_LIMIT, WEIGHT_LIMIT)),
    st.builds(_heavy_channel, hnp.arrays(np.int8, SHAPE, elements=st.integers(-20, 20)), st.integers(0, 100)),
)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(WEIGHTS)
def test_every_weight_tensor_has_a_plan(weights: NDArray[np.int8]) -> None:
    plans = plan_chains(weights)
    check_chains("conv", plans, weights)
    for plan, again in zip(plans, plan_chains(weights), strict=True):
        assert max(np.bincount(plan.steps), default=0) <= 2
        assert plan.counts == again.counts
        np.testing.assert_array_equal(plan.steps, again.steps)
        np.testing.assert_array_equal(plan.weights, again.weights)


def test_light_weights_are_in_long_chains() -> None:
    """Also where there are more steps than chains are made from."""
    weights = np.full((1, 1, 2 * TOGETHER, 4), BOUND // (2 * max(LENGTHS)), np.int8)
    (plan,) = plan_chains(weights)
    assert plan.counts == (2 * TOGETHER // max(LENGTHS), 0, 0, 0)


def test_what_can_overflow_or_computes_something_else_is_refused() -> None:
    weights = np.full((1, 8, 4, 4), 27, np.int8)
    (plan,) = plan_chains(weights)
    assert plan.counts == (0, 0, 2, 0)  # 2 * 2 * 27 <= 128 < 3 * 2 * 27
    with pytest.raises(SqueezeEdgeError, match="conv: a sum of its plan can overflow"):
        check_chains("conv", [replace(plan, counts=(1, 0, 0, 0))], weights)
    for other in (replace(plan, steps=plan.steps[[0, 0, 2, 3]]), replace(plan, counts=(0, 0, 1, 0))):
        with pytest.raises(SqueezeEdgeError, match="conv: its plan does not have its weights"):
            check_chains("conv", [other], weights)


@cache
def _kernel(name: str) -> Compiled:
    """The sums of a tile a block; the same code runs every plan."""
    isa = INSTRUCTION_SETS[available(name)]
    n, blocks = isa.lanes, CHANNELS // isa.lanes
    tile, plan = Tile(1, PIXELS, 1), 2 * CHANNELS

    def body(inputs: list[Expr], out: Expr) -> None:
        data, weights, parameters = inputs
        right = ROW - 1  # bytes from a window to the next one: unaligned
        with T.serial(0, blocks) as block:
            at = (parameters, 2 * n * block, plan, block)
            sums = isa.accumulate(tile, Operands(data, 0, 0, right, ROW, ROWS, STEPS, 4, weights, 0, *at))
            for pixel in range(PIXELS):
                T.buffer_store(out, sums(0, pixel, 0), [lanes((pixel * blocks + block) * n, n)])

    empty = np.zeros((blocks, n, *SHAPE[2:]), np.int8)
    return compiled_body(body, _inputs(empty, np.zeros(0, np.uint8)), _OUT, isa)


_OUT = np.zeros(PIXELS * CHANNELS, np.int32)


def _inputs(weights: NDArray[np.int8], data: NDArray[np.uint8]) -> list[NDArray[Any]]:
    """Buffers that are large enough for every plan."""
    plans = plan_chains(weights)
    buffers: list[NDArray[Any]] = [np.zeros(size, dtype) for size, dtype in _SIZES]
    parts: tuple[NDArray[Any], ...] = (
        data,
        np.concatenate([plan.weights.ravel() for plan in plans]),
        _parameters(len(plans), plan_table(plans, PLACES)),
    )
    for buffer, part in zip(buffers, parts, strict=True):
        buffer[: part.size] = part
    return buffers


def _parameters(blocks: int, table: NDArray[np.int32]) -> NDArray[np.int32]:
    """Biases of 1000 a lane, shifts that are not read, and the plan."""
    return np.concatenate([*[np.repeat([1000, 7], CHANNELS // blocks)] * blocks, table]).astype(np.int32)


_SIZES = (
    (PIXELS * ROW + 2 * ROW, np.uint8),
    (2 * int(np.prod(SHAPE)), np.int8),
    (2 * CHANNELS + CHANNELS // 4 * (HEADER + 2 * SHAPE[2]), np.int32),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAINED)
@settings(max_examples=20, deadline=None)
@given(weights=WEIGHTS, lowest=st.sampled_from([0, 1, 255]), seed=st.integers(0, 2**32 - 1))
def test_the_kernel_is_exact(name: str, weights: NDArray[np.int8], lowest: int, seed: int) -> None:
    weights = weights.reshape(-1, INSTRUCTION_SETS[name].lanes, *SHAPE[2:])
    data = np.random.default_rng(seed).integers(lowest, 256, _SIZES[0][0]).astype(np.uint8)
    got = _kernel(name)(_inputs(weights, data), _OUT).reshape(PIXELS, *weights.shape[:2])
    windows = data[np.add.outer(np.add.outer(np.arange(PIXELS) * (ROW - 1), PLACES), np.arange(4))]
    expected = 1000 + np.einsum("blsg,psg->pbl", weights.astype(int), windows.astype(int))
    np.testing.assert_array_equal(got, expected)
