"""The states: round trips, what the code holds beside its symbols, damage."""

from __future__ import annotations

import numpy as np
import pytest

from squeezeedge.errors import CorruptFileError
from squeezeedge.graph.coding.rans import REST_BYTES, STATE_BYTES, TOTAL, Integers, Reader, words_of

WIDTH = 8


def _slots(slot: Integers, part: slice) -> tuple[Integers, Integers, Integers]:
    """Symbols 0 and 1, of TOTAL / 8 and the rest."""
    one = (slot >= TOTAL // 8).astype(np.int64)
    return one, one * (TOTAL // 8), np.where(one, TOTAL - TOTAL // 8, TOTAL // 8)


def _code(values: Integers, rest: bytes) -> bytes:
    _, start, frequency = _slots(values * (TOTAL - 1), slice(0, 0))
    return words_of([(start[:100], frequency[:100]), (start[100:], frequency[100:])], WIDTH, rest)


@pytest.mark.parametrize("length", [0, 5, REST_BYTES * WIDTH, 60, 61])
def test_symbols_and_rest(length: int) -> None:
    """A rest of odd length, too; what fits into the states takes less room than beside them."""
    values = np.random.default_rng(0).integers(0, 2, 203)
    rest = bytes(range(1, length + 1))
    code = _code(values, rest)
    reader = Reader(code, WIDTH)
    np.testing.assert_array_equal(np.concatenate([reader.read(100, _slots), reader.read(103, _slots)]), values)
    assert reader.rest() == rest.ljust(REST_BYTES * WIDTH, b"\0")
    assert len(code) <= len(_code(values, b"")) + max(length - REST_BYTES * WIDTH, 0) + 2 * WIDTH


def test_damage() -> None:
    code = _code(np.ones(203, np.int64), b"")
    with pytest.raises(CorruptFileError, match="a code of 39 bytes cannot have 8 states"):
        Reader(code[: STATE_BYTES * WIDTH - 1], WIDTH)
    with pytest.raises(CorruptFileError, match="states are damaged"):
        Reader(bytes(len(code)), WIDTH)
    with pytest.raises(CorruptFileError, match="ends too early"):
        Reader(code, WIDTH).read(10**4, _slots)
    with pytest.raises(CorruptFileError, match="does not end where its arrays do"):
        Reader(b"\xff" * len(code), WIDTH).rest()
