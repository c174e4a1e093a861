"""Adaptive distributions: their parts, what they learn, the extremes of the types that are coded with them."""

from __future__ import annotations

import numpy as np
import pytest

from squeezeedge.graph.coding.adaptive import Adaptive, chunks, code_side
from squeezeedge.graph.coding.coder import Decoder, Encoder
from squeezeedge.graph.coding.rans import Reader


def test_parts_double_up_to_the_longest() -> None:
    parts = chunks(20, 1, 8)
    assert [part.stop - part.start for part in parts] == [1, 2, 4, 8, 5]
    assert [part.start for part in parts] == [0, 1, 3, 7, 15]
    assert chunks(0, 1, 8) == []


def test_what_was_seen_becomes_short() -> None:
    """Also from one array to the next; what was never seen can still be coded."""
    encoder, model = Encoder(), Adaptive(100)
    lengths = []
    for values in (np.full(50, 7), np.full(50, 7), np.array([99])):
        before = encoder.bits
        model.code(encoder, len(values), values)
        lengths.append(encoder.bits - before)
    assert lengths[1] < lengths[0] / 2
    assert lengths[1] / 50 < 0.5 < 5 < lengths[2] < 15


@pytest.mark.parametrize("value", [-(2**31), -1, 0, 1, 2**31 - 1])
def test_extreme_integers(value: int) -> None:
    array = np.array([value, value, 0, value], np.int32)
    encoder = Encoder()
    code_side(encoder, array.dtype, 4, array)
    assert code_side(Decoder(Reader(encoder.code(32), 32)), array.dtype, 4, None).tobytes() == array.tobytes()


def test_any_float_keeps_its_bits() -> None:
    array = np.array([np.nan, -np.inf, -0.0, 0.0, 1e-45, 1.5], np.float32)
    encoder = Encoder()
    code_side(encoder, array.dtype, 6, array)
    assert code_side(Decoder(Reader(encoder.code(32), 32)), array.dtype, 6, None).tobytes() == array.tobytes()
