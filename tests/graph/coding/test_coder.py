"""Families of functions: every slot is of exactly one symbol, which encoder and decoder agree on."""

from __future__ import annotations

import numpy as np
import pytest

from squeezeedge.graph.coding.coder import CERTAIN, Decoder, Encoder, Family
from squeezeedge.graph.coding.rans import TOTAL, Reader
from squeezeedge.graph.coding.weights import BEGIN, BIN, BINS, FIRST_BINS, KNOTS


def _family(
    levels: np.ndarray[tuple[int], np.dtype[np.int64]], rises: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> Family:
    return Family(KNOTS, rises, BIN, -BEGIN - levels, np.full(len(levels), BINS))


@pytest.mark.parametrize("level", [-1024, -3, 0, 700, 2048])
def test_symbols_share_all_slots(level: int) -> None:
    values = np.arange(127)
    start, frequency = _family(np.full(127, level), FIRST_BINS).parts(values)
    assert frequency.min() >= 1
    assert start[0] == 0
    np.testing.assert_array_equal(start[1:], (start + frequency)[:-1])
    assert start[-1] + frequency[-1] == TOTAL
    slots = np.concatenate([start, start + frequency - 1])
    found = _family(np.full(254, level), FIRST_BINS).find(slots, slice(0, 254))
    for one, other in zip(found, (values, start, frequency), strict=True):
        np.testing.assert_array_equal(one, np.tile(other, 2))


def test_larger_magnitudes_are_expected_at_a_higher_level() -> None:
    _, frequency = _family(np.array([0, 1024]), FIRST_BINS).parts(np.array([20, 20]))
    assert frequency[1] > 10 * frequency[0]


def test_arrays_of_every_kind_in_turn() -> None:
    random = np.random.default_rng(0)
    ones, cumulative = random.integers(CERTAIN, TOTAL - CERTAIN, 300), np.array([0, 1, 100, TOTAL])
    family = _family(random.integers(-1024, 2048, 200), random.integers(1, 1000, BINS))
    bits, symbols, magnitudes = random.integers(0, 2, 300), random.integers(0, 3, 5), random.integers(0, 127, 200)
    encoder = Encoder()
    encoder.binary(ones, bits)
    encoder.table(cumulative, 5, symbols)
    encoder.family(family, magnitudes)
    assert encoder.symbols == 505
    decoder = Decoder(Reader(encoder.code(64), 64))
    np.testing.assert_array_equal(decoder.binary(ones, None), bits)
    np.testing.assert_array_equal(decoder.table(cumulative, 5, None), symbols)
    np.testing.assert_array_equal(decoder.family(family, None), magnitudes)
