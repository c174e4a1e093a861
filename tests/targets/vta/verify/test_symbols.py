"""Values without arithmetic: what must be equal, and what must not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeezeedge.targets.vta.isa.published import AluOp
from squeezeedge.targets.vta.verify.symbols import (
    Symbols,
    alu,
    constant,
    digest,
    immediate,
    mix,
    narrow,
    parts,
    pooled,
    rectified,
    sum_of,
)

A, B, C = (mix(np.array([number], np.uint64)) for number in (1000, 2000, 3000))
ONE, TWO = np.ones(1, np.uint64), np.full(1, 2, np.uint64)


def test_constants_are_told_by_every_byte_and_its_place() -> None:
    data = np.zeros((1, 16), np.uint8)
    found = {int(digest(data)[0])}
    for place in range(16):
        for value in (1, 2, 128):
            data[:] = 0
            data[0, place] = value
            found.add(int(digest(data)[0]))
    assert len(found) == 1 + 16 * 3
    np.testing.assert_array_equal(constant(7, 16), digest(np.full((1, 16), 7, np.uint8)))
    words = digest(np.array([[1] * 8 + [2] * 8, [2] * 8 + [1] * 8], np.uint8))
    assert words[0] != words[1]


@given(st.integers(-(1 << 31), (1 << 31) - 1), st.integers(-(1 << 31), (1 << 31) - 1))
def test_additions_are_additions(first: int, second: int) -> None:
    """In any order, and of immediates: the ring has int32's sums and more."""
    np.testing.assert_array_equal(alu(AluOp.ADD, immediate(first), immediate(second)), immediate(first + second))
    added = alu(AluOp.ADD, alu(AluOp.ADD, A, immediate(first)), B)
    np.testing.assert_array_equal(added, alu(AluOp.ADD, alu(AluOp.ADD, B, A), immediate(first)))


def test_everything_else_keeps_its_operands_apart() -> None:
    results = [alu(op, *pair) for op in (AluOp.MIN, AluOp.MAX, AluOp.SHR) for pair in ((A, B), (B, A), (A, C))]
    results += [
        rectified(A),
        A,
        narrow(A, ONE, False),
        narrow(A, ONE, True),
        narrow(A, TWO, True),
        narrow(B, ONE, True),
    ]
    assert len({int(result[0]) for result in results}) == len(results)


def test_a_sum_of_two_tensors() -> None:
    """It does not matter which of the operands is the first one; it does what belongs to which."""

    def total(values: tuple[Symbols, Symbols], bias: tuple[Symbols, Symbols], low: bool = False) -> int:
        return int(sum_of(values, bias, (ONE, ONE), low)[0])

    assert total((A, B), (B, C)) == total((B, A), (C, B))
    assert len({total((A, B), (B, C)), total((B, A), (B, C)), total((A, B), (B, C), True), total((A, A), (B, C))}) == 4


def test_maxima_are_of_the_valid_taps_in_any_order() -> None:
    taps = np.stack([A, B, C], 1)
    valid = np.array([True, True, False])
    expected = pooled(taps, valid)
    np.testing.assert_array_equal(pooled(taps[:, [1, 0, 2]], valid), expected)
    np.testing.assert_array_equal(pooled(np.stack([A, B, A], 1), valid), expected)
    assert pooled(taps, np.ones(3, bool)) != expected and pooled(taps, np.array([True, False, False])) != expected


@pytest.mark.parametrize("count", [1, 4])
def test_the_bytes_of_accumulators(count: int) -> None:
    found = parts(np.concatenate([A, B]), count)
    assert found.shape == (2, count) and len(np.unique(found)) == 2 * count
