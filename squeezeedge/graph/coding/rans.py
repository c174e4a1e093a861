"""Range asymmetric numeral systems (Duda, 2013; arXiv:1311.2540), many states side by side.

A code is a sequence of 16-bit words and the states in which the encoder ended. Symbols come in arrays; the i-th symbol
of an array belongs to state i mod W, and all states take one symbol at once (interleaving: Giesen, 2014;
arXiv:1402.3392). A symbol takes the part ``[start, start + frequency)`` of ``0..TOTAL - 1``. To decode it, a state x

    slot = x mod TOTAL;  x = frequency * (x div TOTAL) + slot - start;  if x < LOW: x = 65536 * x + the next word

where the states that need a word take them in ascending order. LOW is 2^24, TOTAL is 2^15. The first states have LOW or
more, and fewer than 65536 * LOW; they are written as 5 bytes each, little-endian like the words. In the end each state
is LOW and 24 bits of something else, which therefore take hardly any room: the *rest* of the code is these 3 bytes of
each state, in ascending order, and after them all bytes that were not taken as words.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError

__all__ = ["LOW", "REST_BYTES", "STATE_BYTES", "TOTAL", "TOTAL_BITS", "Reader", "words_of"]

TOTAL_BITS = 15
TOTAL = 1 << TOTAL_BITS
"""Sum of the frequencies of all symbols, each at least 1."""
WORD_BITS = 16
LOW_BITS = 24
LOW = 1 << LOW_BITS
"""Smallest state."""
STATE_BYTES = (LOW_BITS + WORD_BITS) // 8
REST_BYTES = LOW_BITS // 8
"""Of the rest, in each state."""

Integers = NDArray[np.int64]
Slots = Callable[[Integers, slice], tuple[Integers, Integers, Integers]]
"""(slots of some symbols, their places in the array) -> the symbols' values, starts and frequencies."""


def words_of(arrays: list[tuple[Integers, Integers]], width: int, rest: bytes = b"") -> bytes:
    """The code of symbols: states, then words, then what of the rest the states cannot hold.

    Args:
        arrays: (start, frequency) of the symbols of each array, in the order in which they are decoded.
        width: W, the number of states.
        rest: bytes that the code holds beside the symbols.
    """
    kept = REST_BYTES * width
    states = _of_bytes(rest[:kept].ljust(kept, b"\0"), width) + LOW
    words: list[NDArray[np.uint16]] = []
    for starts, frequencies in reversed(arrays):
        for first in reversed(range(0, len(starts), width)):
            start, frequency = starts[first : first + width], frequencies[first : first + width]
            x = states[: len(start)]
            full = x >= frequency << (LOW_BITS + WORD_BITS - TOTAL_BITS)
            words.append(x[full].astype(np.uint16))
            x = np.where(full, x >> WORD_BITS, x)
            quotient, remainder = np.divmod(x, frequency)
            states[: len(start)] = (quotient << TOTAL_BITS) + remainder + start
    ends = states.astype("<u8").view(np.uint8).reshape(width, 8)[:, :STATE_BYTES].tobytes()
    return ends + np.concatenate([*reversed(words), np.zeros(0, np.uint16)]).astype("<u2").tobytes() + rest[kept:]


def _of_bytes(code: bytes, width: int) -> Integers:
    """So many little-endian numbers of equally many bytes: int64 [width]."""
    numbers = np.zeros((width, 8), np.uint8)
    numbers[:, : len(code) // width] = np.frombuffer(code, np.uint8).reshape(width, -1)
    return numbers.view("<i8")[:, 0].astype(np.int64)


class Reader:
    """Decodes the arrays of a code one after the other.

    Attributes:
        width: W, the number of states.
    """

    def __init__(self, code: bytes, width: int) -> None:
        """Begin.

        Args:
            code: what :func:`words_of` returned.
            width: W.

        Raises:
            CorruptFileError: it is too short, or its states are none.
        """
        split = STATE_BYTES * width
        if len(code) < split:
            raise CorruptFileError(f"a code of {len(code)} bytes cannot have {width} states")
        self._states = _of_bytes(code[:split], width)
        if (self._states < LOW).any():
            raise CorruptFileError("the code's states are damaged")
        self._after = code[split:]
        self._words = np.frombuffer(self._after, "<u2", len(self._after) // 2).astype(np.int64)
        self._used = 0
        self.width = width

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
            x >>= TOTAL_BITS  # a view of the states: all of this changes them
            x *= frequency
            x += slot
            x -= start
            (low,) = (x < LOW).nonzero()
            end = self._used + len(low)
            if end > len(self._words):
                raise CorruptFileError("its code ends too early")
            x[low] = x.take(low) << WORD_BITS | self._words[self._used : end]
            self._used = end
        return values

    def rest(self) -> bytes:
        """What the code holds beside its symbols, once all of them are read.

        Raises:
            CorruptFileError: the states are none in which an encoder begins.
        """
        if (self._states >= 2 * LOW).any():
            raise CorruptFileError("its code does not end where its arrays do")
        inside = (self._states - LOW).astype("<i8").view(np.uint8).reshape(-1, 8)[:, :REST_BYTES].tobytes()
        return inside + self._after[2 * self._used :]
