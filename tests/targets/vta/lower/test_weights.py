"""Matrices of a convolution: together with the blocks that they read they are its weights, and nothing else is read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from squeezeedge.targets.vta.lower.weights import weight_elements


def lanes_of(parts: list[int], block: int) -> NDArray[np.int64]:
    """Of a concatenation of tensors with so many channels."""
    lanes, first = [], 0
    for channels in parts:
        lanes.append(np.full(-(-channels // block) * block, -1))
        lanes[-1][:channels] = first + np.arange(channels)
        first += channels
    return np.concatenate(lanes)


def dense(weight: NDArray[np.int8], groups: int) -> NDArray[np.int8]:
    """Channel by channel."""
    out, height, width, inputs = weight.shape
    found = np.zeros((out, height, width, groups * inputs), np.int8)
    for row in range(out):
        first = row // (out // groups) * inputs
        found[row, :, :, first : first + inputs] = weight[row]
    return found


@settings(deadline=None, max_examples=25)
@given(
    parts=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    per_group=st.integers(1, 4),
    block=st.sampled_from([16, 32]),
    data=st.data(),
)
def test_matrices_at_their_places_are_the_weights(
    parts: list[int], per_group: int, block: int, data: st.DataObject
) -> None:
    lanes, channels = lanes_of(parts, block), sum(parts)
    groups = data.draw(st.sampled_from([count for count in range(1, channels + 1) if channels % count == 0]))
    shape = (groups * per_group, 2, 3, channels // groups)
    weight = np.random.default_rng(channels).integers(-127, 128, shape, dtype=np.int8)
    elements, first = weight_elements(weight, groups, lanes, block)
    depth = elements.shape[1] // 6
    whole = np.zeros((len(first), block, 2, 3, len(lanes)), np.int8)
    for index, start in enumerate(first):
        placed = elements[index].reshape(2, 3, depth, block, block).transpose(3, 0, 1, 2, 4)
        whole[index][..., start * block : (start + depth) * block] = placed.reshape(block, 2, 3, -1)
    rows = whole.reshape(-1, 2, 3, len(lanes))
    expected = np.where(lanes >= 0, dense(weight, groups)[..., lanes], 0)
    np.testing.assert_array_equal(rows[: len(weight)], expected)
    assert not rows[len(weight) :].any()
    if groups == 1:
        assert depth * block == len(lanes) and not any(first)


@pytest.mark.parametrize("block", [16, 32])
def test_of_a_depthwise_convolution_the_diagonals(block: int) -> None:
    weight = np.random.default_rng(0).integers(1, 128, (70, 5, 5, 1), dtype=np.int8)
    elements, first = weight_elements(weight, 70, lanes_of([70], block), block)
    blocks = -(-70 // block)
    assert elements.shape == (blocks, 25, block, block) and first == tuple(range(blocks))
    assert not elements[..., ~np.eye(block, dtype=bool)].any()


def test_groups_read_the_blocks_that_they_touch() -> None:
    weight = np.ones((64, 1, 1, 24), np.int8)
    elements, first = weight_elements(weight, 4, lanes_of([96], 16), 16)
    assert elements.shape[1] == 2 and first == (0, 1, 3, 4), "channels 0..23, 24..47, 48..71, 72..95"
    elements, first = weight_elements(np.ones((8, 1, 1, 1), np.int8), 4, lanes_of([4], 16), 16)
    assert elements.shape == (1, 1, 16, 16) and first == (0,)
