r"""Entropy coding of an integer graph's arrays: lossless, adaptive, in integers only.

All arrays of a graph make one code. It is decoded by numpy, thousands of weights at once, and the same on every
machine: nothing of what follows is done in floating point. ``//`` rounds down, ``>>`` is a division by a power of two
that rounds down, ``log2`` and ``exp2`` are whole numbers of 1/256 octave (:mod:`tables`), clip(x, a, b) is a, x or b.
What follows, the named modules' docstrings and the constants at their heads are the specification.

**Symbols** (:mod:`rans`). The weights make a code, the other arrays one of their own; both begin with the number of
their states W as uint16, 32..4096, which an encoder chooses. W states follow, then 16-bit words. The code of the other
arrays is the rest of the weights' code, filled with zeros where the states are more than it needs; its own rest is
zeros. Frequencies sum to TOTAL = 2^15. Three kinds of distributions: a binary one, in which 1 takes the lower part; a
table of cumulative frequencies; a family of functions, in which a symbol's position is found in a function that
depends on where it stands (:mod:`coder`).

**Learning.** What a distribution learns, it learns after a *part* of an array was coded; a decoder has then seen the
same. The parts of an array are of n, 2n, 4n, ... symbols, at last of N each; the array's end cuts the last. The next
array that is coded by the same distribution begins with the size that would have been next.

**An adaptive distribution** (:class:`adaptive.Adaptive`) of ``size`` symbols: counts, at first 1 each; a symbol adds
16 to its own; parts from 1 to 64; where the sum reaches 2^16 after a part, each count c becomes (c + 1) >> 1. The
cumulative frequency of symbol s is ``s * q + (sum of the counts below s) * (TOTAL - size * q) // (sum of all)``, q =
256 // size but at least 1.

**Arrays that are no weights** (:func:`adaptive.code_side`). Those of the same field (bias, shift, ...) and type are
coded as one, in C order and in the order of the header; the fields in the order of their first arrays. Each has its own
adaptive distributions. 8 bits: the values, size 256. float32: of the 32 bits the upper 9, then 8, 8 and 7, one array
after the other. int32: bit lengths of the magnitudes (0..32), size 33; of those that are not 0 the sign (1: negative);
then bit 0 of all magnitudes that have more than one bit, bit 1 of all that have more than two, and so on to bit 30: the
highest bit is known. Signs and bits are binary symbols with even odds.

**Weights** int8 [out, height, width, in] in -127..127 (:class:`weights.WeightModel`; constants in capitals are
there). They are coded one after the other, each plane by plane (:class:`planes.Planes`): a plane is one place (y, x) of
the kernels, [out, in]; of up to 4 input channels and more than one place it is one (channel, y, x), [out, 1]; if that
made more than 1024 planes, all weights are one plane, [out, rest]. Of up to 9 planes all earlier ones are a plane's
*neighbours*, and each plane has its own coefficients for them; else those that exist of SAME in the same channel and of
OTHER in every earlier channel (both in :mod:`planes`), with the same coefficients for all planes of a channel.
*Adjacent* are the places to the left and above.

1. Stated first, by adaptive distributions: whether the kernel is sparse (size 2). Magnitudes: one number m, one for
   each row (less m), one for each column (if there are several), one for each plane (if there are several). If it is
   sparse, odds likewise. The coefficients. Each is in -63..63, coded as 0..126, and each of these nine sorts of
   numbers has a distribution of its own, of size 127, for all weights of the graph. Magnitudes and odds are logarithms
   in halves of an octave. How an encoder chooses them is free; :mod:`fit` is ours.
2. What was learned, at first and when a kernel begins (the first, too; all divisions round down):

   - bins, 17 rows of 88, at first FIRST_BINS: each row times KEPT / (its sum), if that is below 1, but no bin below
     (FIRST_BINS + 2) / 3;
   - counts of signs, 17 rows of two, at first 4: c / 3 + 2;
   - counts of zeros and others in each context, of dense and sparse kernels, at first 0: 5 c / 8.
3. Of each weight of a plane (``_context``): its *level*, log2 of the magnitude that it is expected to have unless it
   is 0: 128 * (row + column + plane), clipped to -4..8 octaves; if there are neighbours, plus log2 of (what their
   magnitudes sum to, and 6 expected ones of its own) less log2 of (what those that are not 0 were expected to sum to
   before their own neighbours, and the same 6); clipped again. Sums in units of 2^-10. Its *context*: odds (row +
   column + plane + 20, or in a dense kernel the level before neighbours >> 7, plus 10; clipped to 0..39), neighbours
   that are not 0 (at most 9), whether the adjacent ones are (1: left, 2: above); its number is (odds * 10 +
   neighbours) * 4 + adjacent. Its *prediction*: p, the sum of coefficient * neighbour, in
   quarters of the expected magnitude e = exp2(level) in units of 2^-10: (256 p + e) // (2 e), clipped to -8..8; 0 if
   there are no neighbours.
4. The plane's weights in C order, in parts (``_part``): of 128 at first, twice as many each time, 4096 in the end; a
   new plane begins with the size that would have been next, a new kernel with 128. Of each part three arrays are coded:

   - whether each weight is not 0: by its context. The frequency of 1 is (ones * TOTAL + 3 * FIRST_ONES) / (counts + 3);
     each weight then adds 2 to its count;
   - of those, which are negative: by the prediction; ones * TOTAL / (counts); each adds 1;
   - of those, the magnitudes less 1: the family of the prediction's row (8 + prediction, 8 - prediction of negative
     ones). The function is over log2 of the magnitude, relative to the level, from -10 octaves on, and sums up bins of
     1/4 octave; the symbols' runs are KNOTS. Each magnitude then adds 8 to the bins of three points: itself less 1/3,
     itself, itself plus 1/3.

   A frequency of 1 in binary symbols is clipped to TOTAL/128 .. TOTAL - TOTAL/128.

**Limits.** So that a small file cannot take long (one of 1 MB less than 10 s), a code of n bytes has at most
2^22 + 8 n elements, of which at most 2^18 + n // 16 are no weights; its weights are at most 1024 + n // 512 planes, and
at most 2^17 of them are there for each state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError, UnsupportedError
from squeezeedge.graph.coding.adaptive import code_side
from squeezeedge.graph.coding.coder import Coder, Decoder, Encoder
from squeezeedge.graph.coding.planes import plane_count
from squeezeedge.graph.coding.rans import REST_BYTES, Reader
from squeezeedge.graph.coding.weights import WeightModel

__all__ = ["Kind", "decode", "encode", "most_elements", "weight_bits"]

FREE_ELEMENTS, ELEMENTS_A_BYTE = 2**22, 8
"""Elements that any code may have, and further elements per byte of the code."""
FREE_OTHERS, BYTES_AN_OTHER = 2**18, 16
"""Such elements outside weights that any code may have, and bytes per further one; these take longer to decode."""
MOST_A_STATE = 2**17
"""Most weights per state, which is the number of steps that decoding takes."""
FREE_PLANES, BYTES_A_PLANE = 1024, 512
"""Planes of weights that any code may have, and bytes of code per further plane."""
FEWEST_STATES, MOST_STATES = 32, 4096
BYTES_A_STATE, OTHER_BYTES_A_STATE = 330, 100
"""Bytes of code per state, for weights and for other arrays; a state costs about 1 or 4 bytes more."""

Kind = tuple[np.dtype[Any], tuple[int, ...]]
"""Type and shape of an array."""


def encode(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Code arrays together.

    Args:
        arrays: ``node.field`` -> uint8, int8, int32 or float32, none empty; an int8 array of four dimensions is a
            weight, in -127..127. The order counts.

    Raises:
        UnsupportedError: decoding would take too long for so short a code.
    """
    kinds = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    weights, others = Encoder(), Encoder()
    _code_weights(weights, kinds, arrays)
    _code_others(others, kinds, arrays)
    fewest = -(-_weights_in(kinds) // MOST_A_STATE)
    code = _written(weights, BYTES_A_STATE, _written(others, OTHER_BYTES_A_STATE), fewest)
    if problem := _problem(len(code), kinds):
        raise UnsupportedError(f"its weights are split too finely, or almost all are 0: {problem}")
    return code


def decode(code: bytes, kinds: Mapping[str, Kind]) -> dict[str, NDArray[Any]]:
    """The arrays of a code.

    Args:
        code: what :func:`encode` returned.
        kinds: their names, in the same order, with types and shapes. They bound the memory that this takes.

    Raises:
        CorruptFileError: the code is damaged, or is not of such arrays.
    """
    if problem := _problem(len(code), kinds):
        raise CorruptFileError(problem)
    reader = _reader(code)
    if (count := _weights_in(kinds)) > MOST_A_STATE * reader.width:
        raise CorruptFileError(f"a code of {reader.width} states cannot hold {count} weights")
    arrays = _code_weights(Decoder(reader), kinds, None)
    rest = reader.rest()
    inner = _reader(rest)
    arrays |= _code_others(Decoder(inner), kinds, None)
    spare = inner.rest()
    if any(spare) or (len(spare) > REST_BYTES * inner.width and len(rest) > REST_BYTES * reader.width):
        raise CorruptFileError("its code does not end where its arrays do")
    return {name: arrays[name] for name in kinds}


def weight_bits(weight: NDArray[np.int8]) -> float:
    """Length in bits of the code of one weight, int8 [out, kernel_h, kernel_w, in / groups], by itself."""
    encoder = Encoder()
    WeightModel().code(encoder, weight.shape, weight)
    return encoder.bits


def _is_weight(kind: Kind) -> bool:
    return kind[0] == np.int8 and len(kind[1]) == 4


def _code_weights(
    coder: Coder, kinds: Mapping[str, Kind], arrays: Mapping[str, NDArray[Any]] | None
) -> dict[str, NDArray[Any]]:
    """One after the other."""
    model = WeightModel()
    return {
        name: model.code(coder, kind[1], None if arrays is None else arrays[name])
        for name, kind in kinds.items()
        if _is_weight(kind)
    }


def _code_others(
    coder: Coder, kinds: Mapping[str, Kind], arrays: Mapping[str, NDArray[Any]] | None
) -> dict[str, NDArray[Any]]:
    """All of one field and type together."""
    groups: dict[tuple[str, np.dtype[Any]], list[str]] = {}
    for name, kind in kinds.items():
        if not _is_weight(kind):
            groups.setdefault((name.rpartition(".")[2], kind[0]), []).append(name)
    result: dict[str, NDArray[Any]] = {}
    for (_, dtype), names in groups.items():
        shapes = [kinds[name][1] for name in names]
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        known = None if arrays is None else np.concatenate([arrays[name].ravel() for name in names])
        parts = np.split(code_side(coder, dtype, int(ends[-1]), known), ends[:-1])
        result |= {name: part.reshape(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
    return result


def most_elements(length: int) -> int:
    """Elements that a code of so many bytes can have at most."""
    return FREE_ELEMENTS + ELEMENTS_A_BYTE * length


def _problem(length: int, kinds: Mapping[str, Kind]) -> str:
    """Why a code of so many bytes would take too much time; empty if it does not."""
    elements = sum(math.prod(shape) for _, shape in kinds.values())
    if elements > most_elements(length):
        return f"a code of {length} bytes cannot hold {elements} elements"
    others = elements - _weights_in(kinds)
    if others > FREE_OTHERS + length // BYTES_AN_OTHER:
        return f"a code of {length} bytes cannot hold {others} elements beside the weights"
    planes = sum(plane_count(kind[1]) for kind in kinds.values() if _is_weight(kind))
    if planes > FREE_PLANES + length // BYTES_A_PLANE:
        return f"a code of {length} bytes cannot hold weights of {planes} planes"
    return ""


def _weights_in(kinds: Mapping[str, Kind]) -> int:
    """How many weights arrays of these kinds have."""
    return sum(math.prod(kind[1]) for kind in kinds.values() if _is_weight(kind))


def _written(encoder: Encoder, bytes_a_state: int, rest: bytes = b"", fewest: int = FEWEST_STATES) -> bytes:
    """The number of states, then the code with so many."""
    states = min(max(int(encoder.bits) // (8 * bytes_a_state), FEWEST_STATES, fewest), MOST_STATES)
    return states.to_bytes(2, "little") + encoder.code(states, rest)


def _reader(code: bytes) -> Reader:
    """Of what :func:`_written` returned."""
    states = int.from_bytes(code[:2], "little")
    if not FEWEST_STATES <= states <= MOST_STATES:
        raise CorruptFileError(f"a code has {states} states, not {FEWEST_STATES} to {MOST_STATES}")
    return Reader(code[2:], states)
