"""The portable instruction set: arithmetic on vectors, in the form in which LLVM finds the instructions of a processor.

Products of 16 bits are added in pairs. With SSE2 that is one pmaddwd, which makes four such sums. Processors without
vectors multiply 16 by 16 bits, which many do with shorter instructions than 32 by 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import rules
from squeezeedge.targets.cpu.instruction_set import VectorSet
from squeezeedge.targets.cpu.loops import Expr, lanes

__all__ = ["PortableSet"]


@dataclass(frozen=True)
class PortableSet(VectorSet):
    """Pairs of 16-bit products; the weights are stored in 16 bits, so that no step widens them."""

    weight_type = "int16"
    unroll = 1

    def arrange(self, weights: NDArray[np.int8]) -> NDArray[np.int8]:
        """The pairs of a step one after the other, in each the two weights of every lane side by side."""
        pairs = weights.reshape(*weights.shape[:-1], self.group // 2, 2).transpose(0, 3, 4, 1, 5, 2, 6)
        return np.ascontiguousarray(pairs, np.int16).view(np.int8)

    def activation(self, data: Expr, address: Expr) -> Sequence[Expr]:
        """The pairs of a step, each broadcast."""
        words = T.cast(data[lanes(address, self.group)], f"int16x{self.group}")
        copies = [words] * (2 * self.lanes // self.group)
        return [T.Shuffle(copies, [pair, pair + 1] * self.lanes) for pair in range(0, self.group, 2)]

    def dot(self, acc: Expr, activation: Sequence[Expr], weight: Expr) -> Expr:
        """Pair by pair: products of both, the even and the odd ones added."""
        n = self.lanes
        for index, pair in enumerate(activation):
            own = T.Shuffle([weight], list(range(2 * n * index, 2 * n * (index + 1))))
            products = T.cast(pair, f"int32x{2 * n}") * T.cast(own, f"int32x{2 * n}")
            even, odd = (T.Shuffle([products], list(range(first, 2 * n, 2))) for first in range(2))
            acc = acc + (even + odd)
        return acc

    def narrow(self, vectors: Sequence[Expr], zero_point: int) -> Expr:
        """Narrow through 16 bits, as saturating instructions do."""
        (value,) = vectors
        half = T.cast(_clipped(value, -(2**15), 2**15 - 1, "int32", self.lanes), f"int16x{self.lanes}")
        value = _clipped(half, -zero_point, rules.Q_MAX - zero_point, "int16", self.lanes)
        return T.cast(value + T.broadcast(T.int16(zero_point), self.lanes), f"uint8x{self.lanes}")


def _clipped(value: Expr, low: int, high: int, dtype: str, count: int) -> Expr:
    """Of a vector of ``count``."""
    most, least = (T.broadcast(T.cast(bound, dtype), count) for bound in (high, low))
    return T.max(T.min(value, most), least)
