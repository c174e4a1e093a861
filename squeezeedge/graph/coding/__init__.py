r"""Entropy coding of an integer graph's arrays: lossless, adaptive, in integers only.

All arrays of a graph make one code. It is decoded by numpy, thousands of weights at once, and the same on every
machine: nothing of what follows is done in floating point. ``//`` rounds down, ``>>`` is a division by a power of two
that rounds down, ``log2`` and ``exp2`` are whole numbers of 1/256 octave (:mod:`tables`), clip(x, a, b) is a, x or b.

**Symbols** (:mod:`rans`). The code begins with W states, of 5 bytes each; then come 16-bit words. W is the largest
power of two that is at most (number of elements of all arrays) / 2048, but 64..4096. Frequencies sum to TOTAL = 2^15.
Three kinds of distributions: a binary one, in which 1 takes the lower part; a table of cumulative frequencies; a
family of functions, in which a symbol's position is found in a function that depends on where it stands
(:mod:`coder`).

**Learning.** What a distribution learns, it learns after a *part* of an array was coded; a decoder has then seen the
same. The parts of an array are of n, 2n, 4n, ... symbols, at last of N each; the array's end cuts the last.

**An adaptive distribution** (:class:`adaptive.Adaptive`) of ``size`` symbols: counts, at first 1 each; a symbol adds
8 to its own; parts from 1 to 256; where the sum reaches 2^16 after a part, each count c becomes (c + 1) >> 1. The
cumulative frequency of symbol s is ``s * q + (sum of the counts below s) * (TOTAL - size * q) // (sum of all)``, q =
256 // size but at least 1.

**Arrays that are no weights** (:class:`adaptive.SideModel`), each kind (bias, shift, ...: the field's name) with its
own adaptive distributions, in C order. 8 bits: the values, size 256. float32: of the 32 bits the upper 9, then 8, 8
and 7, one array after the other. int32: bit lengths of the magnitudes (0..32); of those that are not 0 the sign (1:
negative); then bit 0 of all magnitudes that have more than one bit, bit 1 of all that have more than two, and so on:
the highest bit is known. Signs and bits are binary symbols with even odds.

**Weights** int8 [out, height, width, in] in -127..127 (:class:`weights.WeightModel`; constants in capitals are
there). They are coded plane by plane (:class:`planes.Planes`): a plane is one place (y, x) of the kernels, [out, in];
of up to 4 input channels and more than one place it is one (channel, y, x), [out, 1]; if that made more than 1024
planes, all weights are one plane, [out, rest]. Of up to 9 planes all earlier ones are a plane's *neighbours*, and
each plane has its own coefficients for them; else those that exist of SAME in the same channel and of OTHER in every
earlier channel, with the same coefficients for all planes of a channel. *Adjacent* are the places to the left and
above.

1. Stated first, by adaptive distributions: whether the kernel is sparse (size 2). Magnitudes: one number m, one for
   each row (less m), one for each column (if there are several), one for each plane (if there are several). If it is
   sparse, odds likewise. The coefficients. Each is in -63..63, coded as 0..126, and each of these nine sorts of
   numbers has a distribution of its own. How an encoder chooses them is free; :mod:`fit` is ours.
2. When a kernel begins, a part of what was learned is forgotten (``_begin``).
3. Of each weight of a plane (``_context``): its *level*, log2 of the magnitude that it is expected to have unless it
   is 0: 128 * (row + column + plane), clipped to -4..8 octaves; if there are neighbours, plus log2 of (what their
   magnitudes sum to, and 6 expected ones of its own) less log2 of (what those that are not 0 were expected to sum to,
   and the same 6); clipped again. Sums in units of 2^-10. Its *context*: odds (row + column + plane + 20, or in a
   dense kernel the level before neighbours >> 7, plus 10; clipped to 0..39), neighbours that are not 0 (at most 9),
   whether the adjacent ones are (1: left, 2: above). Its *prediction*: sum of coefficient/32 * neighbour, in quarters
   of the expected magnitude, rounded, clipped to -8..8.
4. The plane's weights in C order, in parts (``_part``): of 128 at first, twice as many each time, 2048 in the end; a
   new plane begins with the size that would have been next. Of each part three arrays are coded:

   - whether each weight is not 0: by its context, counts of both, for sparse and dense kernels apart;
   - of those, which are negative: by the prediction, counts of both;
   - of those, the magnitudes less 1: the family of the prediction's row (8 + prediction, 8 - prediction of negative
     ones). The function is over log2 of the magnitude, relative to the level, and sums up bins of 1/4 octave. Each
     magnitude then adds 8 to the bins of three points: itself less 1/3, itself, itself plus 1/3.

   A frequency of 1 in binary symbols is clipped to TOTAL/128 .. TOTAL - TOTAL/128.

So every element takes at least 1/128 bit, and a code of n bytes cannot have more than :data:`MOST` * n elements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError
from squeezeedge.graph.coding.adaptive import SideModel
from squeezeedge.graph.coding.coder import Coder, Decoder, Encoder
from squeezeedge.graph.coding.rans import Reader
from squeezeedge.graph.coding.weights import WeightModel

__all__ = ["MOST", "Kind", "decode", "encode", "weight_bits"]

MOST = 1024
"""Elements that a byte of a code can have at most."""

FEWEST_STATES, MOST_STATES = 64, 4096
ELEMENTS_A_STATE = 2048

Kind = tuple[np.dtype[Any], tuple[int, ...]]
"""Type and shape of an array."""


def encode(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Code arrays together.

    Args:
        arrays: ``node.field`` -> uint8, int8, int32 or float32, none empty; an int8 array of four dimensions is a
            weight, in -127..127. The order counts.
    """
    encoder, side, weights = Encoder(), SideModel(), WeightModel()
    for name, array in arrays.items():
        _code(encoder, side, weights, name, (array.dtype, array.shape), array)
    return encoder.code(_states(sum(array.size for array in arrays.values())))


def decode(code: bytes, kinds: Mapping[str, Kind]) -> dict[str, NDArray[Any]]:
    """The arrays of a code.

    Args:
        code: what :func:`encode` returned.
        kinds: their names, in the same order, with types and shapes. They bound the memory that this takes.

    Raises:
        CorruptFileError: the code is damaged, or is not of such arrays.
    """
    count = sum(math.prod(shape) for _, shape in kinds.values())
    if count > MOST * len(code):
        raise CorruptFileError(f"a code of {len(code)} bytes cannot hold {count} elements")
    reader = Reader(code, _states(count))
    decoder, side, weights = Decoder(reader), SideModel(), WeightModel()
    arrays = {name: _code(decoder, side, weights, name, kind, None) for name, kind in kinds.items()}
    reader.check_end()
    return arrays


def weight_bits(weight: NDArray[np.int8]) -> float:
    """Length in bits of the code of one weight, int8 [out, kernel_h, kernel_w, in / groups], by itself."""
    encoder = Encoder()
    WeightModel().code(encoder, weight.shape, weight)
    return encoder.bits


def _code(
    coder: Coder, side: SideModel, weights: WeightModel, name: str, kind: Kind, array: NDArray[Any] | None
) -> NDArray[Any]:
    dtype, shape = kind
    if dtype == np.int8 and len(shape) == 4:
        return weights.code(coder, shape, array)
    known = None if array is None else np.ascontiguousarray(array).reshape(-1)
    return side.code(coder, name.rpartition(".")[2], dtype, math.prod(shape), known).reshape(shape)


def _states(elements: int) -> int:
    """W for so many elements."""
    most = max(elements // ELEMENTS_A_STATE, FEWEST_STATES)
    return int(min(1 << most.bit_length() - 1, MOST_STATES))
