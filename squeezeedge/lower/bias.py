"""The bias for a kernel that does not subtract the zero point from q, but another offset (R2, R7)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph import Conv, Head, Tensor
from squeezeedge.graph.rules import wrap_int32

__all__ = ["offset_bias"]


def offset_bias(conv: Conv | Head, source: Tensor, offset: int | NDArray[np.uint8]) -> NDArray[np.int32]:
    """The bias with which ``sum w * (q - offset)`` gives R3's accumulator plus its rounding term, modulo 2**32.

    Args:
        conv: the convolution.
        source: its input tensor.
        offset: what the kernel subtracts from every q, padded ones included: 0, 128 for signed storage (R7), or the pad
            value, uint8 [in], where padding is with zeros (R2).

    Returns:
        int32 [out].
    """
    excess = np.broadcast_to(np.asarray(offset, np.int64) - source.zero_point, source.channels)
    read = excess.reshape(conv.groups, -1).repeat(len(conv.weight) // conv.groups, 0)[:, None, None]
    return wrap_int32(conv.bias + conv.rounding + (conv.weight * read).sum((1, 2, 3)))
