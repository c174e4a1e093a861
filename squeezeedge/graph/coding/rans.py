"""Range asymmetric numeral systems (Duda, 2013; arXiv:1311.2540), many states side by side.

A code is a sequence of 16-bit words and the states in which the encoder ended. Symbols come in arrays; the i-th symbol
of an array belongs to state i mod W, and all states take one symbol at once (interleaving: Giesen, 2014;
arXiv:1402.3392). A symbol takes the part ``[start, start + frequency)`` of ``0..TOTAL - 1``. To decode it, a state x

    slot = x mod TOTAL;  x = frequency * (x div TOTAL) + slot - start;  if x < LOW: x = 65536 * x + the next word

where the states that need a word take them in ascending order. The first states have LOW or more, and fewer than
65536 * LOW. At the end all states are LOW again and all words are taken; anything else is a damaged code.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError

__all__ = ["LOW", "STATE_BYTES", "TOTAL", "TOTAL_BITS", "Reader", "words_of"]

TOTAL_BITS = 15
TOTAL = 1 << TOTAL_BITS
"""Sum of the frequencies of all symbols, each at least 1."""
WORD_BITS = 16
LOW_BITS = 24
LOW = 1 << LOW_BITS
"""Smallest state."""
STATE_BYTES = (LOW_BITS + WORD_BITS) // 8

Integers = NDArray[np.int64]
Slots = Callable[[Integers, slice], tuple[Integers, Integers, Integers]]
"""From the slots of some symbols of an array, and which these are, their values, starts and frequencies."""


def words_of(arrays: list[tuple[Integers, Integers]], width: int) -> bytes:
    """The code of symbols: states, then words.

    Args:
        arrays: (start, frequency) of the symbols of each array, in the order in which they are decoded.
        width: W, the number of states.
    """
    states = np.full(width, LOW, np.int64)
    words: list[NDArray[np.uint16]] = []
    for starts, frequencies in reversed(arrays):
        for first in reversed(range(0, len(starts), width)):
            start, frequency = starts[first : first + width], frequencies[first : first + width]
            x = states[: len(start)]
            full = x >= frequency << (LOW_BITS + WORD_BITS - TOTAL_BITS)
            words.append(x[full].astype(np.uint16))
            x = np.where(full, x >> WORD_BITS, x)
            quotient, rest = np.divmod(x, frequency)
            states[: len(start)] = (quotient << TOTAL_BITS) + rest + start
    ends = states.astype("<u8").view(np.uint8).reshape(width, 8)[:, :STATE_BYTES].tobytes()
    return ends + np.concatenate([*reversed(words), np.zeros(0, np.uint16)]).astype("<u2").tobytes()


class Reader:
    """Decodes the arrays of a code one after the other."""

    def __init__(self, code: bytes, width: int) -> None:
        """Begin.

        Args:
            code: what :func:`words_of` returned.
            width: W.

        Raises:
            CorruptFileError: it is too short, or its states are none.
        """
        split = STATE_BYTES * width
        if len(code) < split or (len(code) - split) % 2:
            raise CorruptFileError(f"a code of {len(code)} bytes cannot have {width} states")
        states = np.zeros((width, 8), np.uint8)
        states[:, :STATE_BYTES] = np.frombuffer(code, np.uint8, split).reshape(width, STATE_BYTES)
        self._states = states.view("<i8")[:, 0].astype(np.int64)
        if (self._states < LOW).any():
            raise CorruptFileError("the code's states are damaged")
        self._words = np.frombuffer(code, "<u2", offset=split).astype(np.int64)
        self._used = 0

    def read(self, count: int, slots: Slots) -> Integers:
        """The next array: ``count`` values.

        Raises:
            CorruptFileError: the code ends before.
        """
        values = np.empty(count, np.int64)
        width = len(self._states)
        for first in range(0, count, width):
            part = slice(first, min(first + width, count))
            x = self._states[: part.stop - first]
            slot = x & (TOTAL - 1)
            values[part], start, frequency = slots(slot, part)
            x = frequency * (x >> TOTAL_BITS) + slot - start
            (low,) = np.nonzero(x < LOW)
            end = self._used + len(low)
            if end > len(self._words):
                raise CorruptFileError("its code ends too early")
            x[low] = x[low] << WORD_BITS | self._words[self._used : end]
            self._used = end
            self._states[: len(x)] = x
        return values

    def check_end(self) -> None:
        """Refuse a code that goes on, or that ends in other states than it began in."""
        if self._used != len(self._words) or (self._states != LOW).any():
            raise CorruptFileError("its code does not end where its arrays do")
