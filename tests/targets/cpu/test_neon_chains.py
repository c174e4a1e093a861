"""Chains of NEON's 16-bit sums: exact for every weight tensor, or refused; the kernels are run in test_cross."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.graph.rules import SIGN, WEIGHT_LIMIT
from squeezeedge.targets.cpu.neon_chains import BOUND, HALF, STEP, Chains, check_chains, plan_chains, plan_table

SHAPE = (2, 4, 9, STEP)


def _heavy_channel(weights: NDArray[np.int8], index: int) -> NDArray[np.int8]:
    weights[..., index % SHAPE[2], index % STEP] = WEIGHT_LIMIT
    return weights


def _alternating(value: int) -> NDArray[np.int8]:
    return (np.full(SHAPE, value) * np.where(np.indices(SHAPE).sum(0) % 2, 1, -1)).astype(np.int8)


WEIGHTS = st.one_of(
    st.sampled_from([WEIGHT_LIMIT, -WEIGHT_LIMIT, 64, 63, 16, 1, 0]).map(lambda value: np.full(SHAPE, value, np.int8)),
    st.sampled_from([WEIGHT_LIMIT, 64, 33]).map(_alternating),
    hnp.arrays(np.int8, SHAPE, elements=st.integers(-WEIGHT_LIMIT, WEIGHT_LIMIT)),
    st.builds(_heavy_channel, hnp.arrays(np.int8, SHAPE, elements=st.integers(-20, 20)), st.integers(0, 100)),
)


def _worst_sums(plan: Chains, sign: int) -> NDArray[np.int64]:
    """Sums of each chain's lanes, of the inputs -128 and 127 that make them largest (sign 1) or smallest (-1)."""
    weights = plan.weights.astype(np.int64)
    signed = np.where(sign * weights > 0, SIGN - 1, -SIGN) * weights
    lanes = signed.reshape(len(weights), SHAPE[1], 2, HALF).sum(2)
    return np.add.reduceat(lanes, np.cumsum(plan.lengths) - plan.lengths) if len(weights) else lanes


@settings(max_examples=30, deadline=None)
@given(WEIGHTS)
def test_every_weight_tensor_has_a_plan(weights: NDArray[np.int8]) -> None:
    plans = plan_chains(weights)
    check_chains("conv", plans, weights)
    for plan, again, own in zip(plans, plan_chains(weights), weights, strict=True):
        np.testing.assert_array_equal(np.sort(plan.steps), np.flatnonzero(own.any((0, 2))))
        np.testing.assert_array_equal(plan.lengths, again.lengths)
        np.testing.assert_array_equal(plan.steps, again.steps)
        for sign in (1, -1):
            sums = _worst_sums(plan, sign)
            np.testing.assert_array_equal(sums.astype(np.int16), sums)


def test_light_weights_are_in_long_chains() -> None:
    weights = np.full((1, 4, 64, STEP), BOUND // 32, np.int8)  # two products a step and lane
    (plan,) = plan_chains(weights)
    assert max(plan.lengths) == 18 and len(plan.lengths) == 4  # 18 * 2 * 7 <= 255


def test_what_can_overflow_or_computes_something_else_is_refused() -> None:
    weights = np.full((1, 4, 4, STEP), 63, np.int8)
    (plan,) = plan_chains(weights)
    assert plan.lengths.tolist() == [2, 2]  # 4 * 63 <= 255
    with pytest.raises(SqueezeEdgeError, match="conv: a sum of its plan can overflow"):
        check_chains("conv", [replace(plan, lengths=np.array([1, 3]))], weights)
    for other in (replace(plan, steps=plan.steps[[0, 0, 2, 3]]), replace(plan, lengths=np.array([2, 1]))):
        with pytest.raises(SqueezeEdgeError, match="conv: its plan does not have its weights"):
            check_chains("conv", [other], weights)


def test_the_table_leads_to_every_step() -> None:
    weights = np.full((2, 4, 3, STEP), 63, np.int8)
    weights[1, :, 1] = 0
    table = plan_table(plan_chains(weights), np.array([0, 100, 200], np.intp)).tolist()
    found = [
        [
            [table[step] for step in range(table[chain], table[chain + 1])]
            for chain in range(table[part], table[part + 1])
        ]
        for part in (1, 2)
    ]
    assert found == [[[0, 100], [200]], [[0, 200]]] and table[0] == table[table[1]]
