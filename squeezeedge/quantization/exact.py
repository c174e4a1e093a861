"""Sums that no order changes, so that a graph depends neither on the number of threads nor on the processor.

A sum of floats depends on the order in which they are added, which libraries choose by threads, caches and instruction
sets. Here the factors become integers in fixed point, with a power of two as the unit of each channel. They have so
few bits that float64 holds every product and every partial sum exactly. The rounding error lies 20 bits or more below
the largest value of the channel, while what is chosen by the sums has only eight bits.

What cannot be made exact, such as the factors of a matrix, is computed in float64 by one thread (:func:`one_thread`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["FLOAT64_BITS", "exact_conv2d", "fixed_point", "one_thread", "sum_bits"]

FLOAT64_BITS = 53
"""Integers up to 2^53 are exact in float64."""

PART_VALUES = 2**20
"""Values of an input that are worked on at a time, so that they stay in the cache."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in this thread alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def sum_bits(terms: int) -> int:
    """Bits that the sum of so many integers may have beyond those of one."""
    return (terms - 1).bit_length()


def fixed_point(values: Tensor, bits: int, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Round to integers of ``bits`` bits, in units of a power of two.

    Args:
        values: float64, of any shape.
        bits: magnitudes become 2^bits at most.
        dims: over which the unit is the same.

    Returns:
        The integers, float64 of the same shape, and the units, float64 with 1 in place of ``dims``.
    """
    unit = power_above(values, dims) * 2.0**-bits
    return (values / unit).round_(), unit


def power_above(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The power of two above all magnitudes: float64 with 1 in place of ``dims``."""
    peak = torch.maximum(values.amax(dims, keepdim=True), -values.amin(dims, keepdim=True))
    return torch.exp2(torch.frexp(peak.double()).exponent.double())


def exact_conv2d(x: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, int], groups: int) -> Tensor:
    """A convolution without padding whose sums no order changes.

    Args:
        x: float32 [N, in, height, width].
        weight: float32 [out, in / groups, kh, kw].
        bias: float32 [out].
        stride: (down, right).
        groups: of channels.

    Returns:
        float32 [N, out, height, width], channels last in memory.
    """
    fan_in = math.prod(weight.shape[1:])
    bits = FLOAT64_BITS - sum_bits(fan_in)
    unit = power_above(x, (0, 2, 3)) * 2.0 ** -(bits // 2)
    by_output = unit.reshape(groups, -1).repeat_interleave(len(weight) // groups, 0)[:, :, None, None]
    kernel, step = fixed_point(weight.double() * by_output, bits - bits // 2, (1, 2, 3))
    flat = kernel.flatten(1).T if groups == 1 and weight.shape[2:] == (1, 1) and stride == (1, 1) else None
    height, width = ((size - of) // by + 1 for size, of, by in zip(x.shape[2:], weight.shape[2:], stride, strict=True))
    result = torch.empty(len(x), height, width, len(weight))
    images = max(1, PART_VALUES // math.prod(x.shape[1:]))
    for part, made in zip(torch.split(x, images), torch.split(result, images), strict=True):
        if flat is not None:
            sums = part.permute(0, 2, 3, 1).double().div_(unit.flatten()).round_() @ flat
        elif len(weight) == groups == x.shape[1]:
            integers = part.permute(0, 2, 3, 1).double().div_(unit.flatten()).round_()
            sums = _by_channel(integers, kernel[:, 0], stride)
        else:
            integers = part.contiguous().double().div_(unit).round_()
            sums = F.conv2d(integers, kernel, None, stride, groups=groups).permute(0, 2, 3, 1)
        made.copy_(sums.mul_(step.flatten()).add_(bias.double()))
    return result.permute(0, 3, 1, 2)


def _by_channel(x: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
    """A convolution of each channel on its own; torch has no fast one of float64.

    Args:
        x: [N, height, width, channels].
        weight: [channels, kh, kw].
        stride: (down, right).

    Returns:
        [N, out height, out width, channels].
    """
    (down, right), (kernel_h, kernel_w) = stride, weight.shape[1:]
    rows, columns = (x.shape[1] - kernel_h) // down, (x.shape[2] - kernel_w) // right
    sums = x.new_zeros(len(x), rows + 1, columns + 1, len(weight))
    for top in range(kernel_h):
        for left in range(kernel_w):
            pixels = x[:, top : top + rows * down + 1 : down, left : left + columns * right + 1 : right]
            sums.addcmul_(pixels, weight[:, top, left])
    return sums
