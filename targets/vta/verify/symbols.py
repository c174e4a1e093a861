"""Values without arithmetic: every element of a memory stands for a number modulo 2^64.

Elements of the image and weights stand for pseudo-random numbers, a matrix product for the product of two of them,
additions for additions, and everything else (shifts, maxima, requantization) for a hash of its operands. So a program
that computes what a layer means gets the layer's symbols, in whatever order it adds, and a program that doesn't gets
others: equal symbols of different values are as improbable as two random polynomials that agree at a random point
(Schwartz 1980; about 2^-50 here). What overflows in int32 overflows in both, so the ring is no restriction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from squeezeedge.targets.vta.isa.published import AluOp

__all__ = [
    "Symbols",
    "alu",
    "constant",
    "digest",
    "immediate",
    "mix",
    "narrow",
    "parts",
    "pooled",
    "rectified",
    "sum_of",
]

Symbols = NDArray[np.uint64]

_FACTORS = tuple(np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_SHIFTS = tuple(np.uint64(value) for value in (30, 27, 31))
_ONE = 0xD1B54A32D192ED03
_WORD = (1 << 64) - 1
_OPERATORS = {op: np.uint64(0xA24BAED4963EE407 + 2 * op) for op in AluOp}
_NARROW, _SUM, _POOL, _RELU = (np.uint64(0x9FB21C651E98DF25 + 2 * index) for index in range(4))


def mix(value: Symbols) -> Symbols:
    """A hash of each number (the finalizer of SplitMix64: Steele, Lea, Flood 2014)."""
    value = value + _FACTORS[0]
    value = (value ^ (value >> _SHIFTS[0])) * _FACTORS[1]
    value = (value ^ (value >> _SHIFTS[1])) * _FACTORS[2]
    return value ^ (value >> _SHIFTS[2])


def _pair(left: Symbols, right: Symbols, kind: np.uint64) -> Symbols:
    """A hash of two operands in their order."""
    return mix(mix(left ^ kind) + right)


def digest(data: NDArray[np.uint8]) -> Symbols:
    """Symbols of constants: uint8 [n, bytes] -> [n]; the bytes are a multiple of 8."""
    words = np.ascontiguousarray(data).view("<u8")
    place = mix(np.arange(words.shape[1], dtype=np.uint64))
    return mix(mix(words + place).sum(1, dtype=np.uint64))


def constant(byte: int, block: int) -> Symbols:
    """An int8 element with one value in all lanes: [1]."""
    return digest(np.full((1, block), byte, np.uint8))


def immediate(value: int) -> Symbols:
    """An immediate operand: [1]."""
    return np.array([value * _ONE & _WORD], np.uint64)


def alu(op: AluOp, left: Symbols, right: Symbols) -> Symbols:
    """The result of an ALU step."""
    return left + right if op == AluOp.ADD else _pair(left, right, _OPERATORS[op])


def narrow(acc: Symbols, shift: Symbols, low: bool) -> Symbols:
    """R3 in one pass: shift and clip, with the offset -128 (``low``) or 0."""
    return _pair(acc, shift + np.uint64(low), _NARROW)


def sum_of(
    values: tuple[Symbols, Symbols], bias: tuple[Symbols, Symbols], shift: tuple[Symbols, Symbols], low: bool
) -> Symbols:
    """R5's addition in one pass."""
    first, second = (mix(mix(v + b) + s) for v, b, s in zip(values, bias, shift, strict=True))
    return mix((first + second) ^ (_SUM + np.uint64(low)))


def pooled(taps: Symbols, valid: NDArray[np.bool_]) -> Symbols:
    """Maxima over the last axis, of the valid taps only; a maximum does not depend on their order."""
    return mix(np.where(valid, mix(taps ^ _POOL), np.uint64(0)).sum(-1, dtype=np.uint64))


def rectified(acc: Symbols) -> Symbols:
    """R6's ReLU of a sum."""
    return mix(acc ^ _RELU)


def parts(acc: Symbols, count: int) -> Symbols:
    """What accumulators are in DRAM: [n] -> [n, count] elements of one byte a lane."""
    return mix(acc[:, None] + mix(np.arange(count, dtype=np.uint64)))
