"""One convolution with its inputs and outputs, for the tests of the passes over one layer."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from squeezeedge.quantization.gptq import inverse_factor, round_weights, second_moments, unit_error
from squeezeedge.quantization.ranges import Range, RangeObserver
from squeezeedge.quantization.requantize import requantize
from squeezeedge.quantization.scale_search import Grid, free_scales, search_scales

__all__ = ["Layer"]


class Layer:
    """A 1x1 convolution of one group with correlated inputs.

    Attributes:
        rows: float32 [1, count, fan_in], integers q.
        weight, bias: float64 [1, out, fan_in] and [1, out], in units of q.
        targets: float32 [1, count, out], the outputs before a ReLU, which follows where ``zero_point`` is 0.
    """

    def __init__(self, seed: int, fan_in: int = 24, out: int = 8, count: int = 4000, zero_point: int = 0) -> None:
        rng = np.random.default_rng(seed)
        mixed = rng.normal(size=(count, fan_in // 3)) @ rng.normal(size=(fan_in // 3, fan_in))
        mixed += 0.3 * rng.normal(size=mixed.shape)
        codes = np.rint(30 * mixed).clip(0, 255)
        self.rows = torch.from_numpy(codes).float()[None]
        self.weight = torch.from_numpy(rng.normal(size=(out, fan_in)) * np.exp2(rng.uniform(-3, 3, (out, 1))))[None]
        self.bias = torch.from_numpy(rng.normal(size=out) * 50)[None]
        self.zero_point = zero_point
        self.run()

    def run(self) -> None:
        """Set ``targets`` to what weight and bias make of the rows."""
        self.targets = (self.rows.double() @ self.weight.mT + self.bias[:, None]).float()

    def output(self) -> Tensor:
        """float32 [count, out], after the ReLU."""
        return self.targets[0] if self.zero_point else self.targets[0].relu()

    def range(self, images: int = 40) -> Range:
        observer = RangeObserver("layer", None if self.zero_point else math.inf)
        for part in torch.split(self.targets, self.targets.shape[1] // images, 1):
            observer.add(part.mT[..., None])
        return observer.range()

    def rounded(self, grid: Grid) -> Tensor:
        """Integer weights, float64 [1, out, fan_in]."""
        return round_weights(self.weight, grid.step[None], inverse_factor(second_moments(self.rows)))

    def quantized(self, grid: Grid) -> Tensor:
        """The quantized layer's output, float64 [count, out]."""
        products = (self.rows.double() @ self.rounded(grid).mT)[0]
        codes = requantize(products, (self.bias[0] / grid.step).round(), grid.shift, self.zero_point)
        return (codes - self.zero_point) * grid.scale

    def error(self, grid: Grid) -> Tensor:
        """Mean squared error of every output channel, float64 [out]."""
        return (self.quantized(grid) - self.output()).square().mean(0)

    def search(self, candidates: Tensor | None = None) -> Grid:
        values, moments = self.range(), second_moments(self.rows)
        candidates = free_scales(values, self.zero_point) if candidates is None else candidates
        unit, power = unit_error(inverse_factor(moments)), moments.diagonal(dim1=1, dim2=2)
        return search_scales(candidates, values, self.zero_point, self.weight[0], self.bias[0], power, unit)
