"""Weights that make up for the errors of the layers before them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from squeezeedge.quantization.compensate import compensate
from squeezeedge.quantization.gptq import second_moments
from tests.quantization.layers import Layer


def test_compensation_repairs_linear_errors_of_the_inputs() -> None:
    layer = Layer(0)
    seen = (layer.rows * 0.8).round()  # the quantized network's inputs
    moments = second_moments(seen)
    weight, bias = compensate(layer.weight, layer.bias, seen, layer.targets, moments, math.inf)

    def error(weight: Tensor, bias: Tensor) -> float:
        return float(((seen.double() @ weight.mT + bias[:, None])[0].relu() - layer.output()).square().mean())

    assert error(weight, bias) < 0.4 * error(layer.weight, layer.bias)


def test_compensation_leaves_exact_inputs_alone() -> None:
    layer = Layer(1)
    weight, bias = compensate(
        layer.weight, layer.bias, layer.rows, layer.targets, second_moments(layer.rows), limit=None
    )
    np.testing.assert_allclose(weight.numpy(), layer.weight.numpy(), atol=1e-4)
    np.testing.assert_allclose(bias.numpy(), layer.bias.numpy(), atol=1e-2)


def test_what_a_relu_cuts_in_both_networks_misses_nothing() -> None:
    layer = Layer(4)
    layer.bias[:] = torch.tensor([-1e5, 1e5, 0, 0, 0, 0, 0, 0])  # always below 0, always above the limit
    layer.run()
    seen = (layer.rows * 0.8).round()
    moments = second_moments(seen)
    weight, bias = compensate(layer.weight, layer.bias, seen, layer.targets, moments, 500.0)
    moved = ((weight != layer.weight).any(2) | (bias != layer.bias))[0]
    assert moved.tolist() == [False, False, *[True] * 6]


def test_compensation_of_constant_inputs_moves_the_bias() -> None:
    rows = torch.full((1, 50, 3), 7.0)
    weight, bias = torch.ones(1, 2, 3, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    targets = torch.full((1, 50, 2), 30.0)
    moved, corrected = compensate(weight, bias, rows, targets, second_moments(rows), limit=None)
    assert torch.equal(moved, weight)
    np.testing.assert_allclose(corrected.numpy(), 9.0)


def test_every_group_is_compensated_as_on_its_own() -> None:
    layers = [Layer(seed) for seed in range(3)]
    layers[1].rows[:] = 7.0  # constant inputs
    weight, bias, rows, targets = (
        torch.cat([getattr(layer, key) for layer in layers]) for key in ("weight", "bias", "rows", "targets")
    )
    seen = (rows * 0.8).round()
    moved, corrected = compensate(weight, bias, seen, targets, second_moments(seen), math.inf)
    assert torch.equal(moved[1], weight[1]) and not torch.equal(moved[0], weight[0])
    for index in range(3):
        one = slice(index, index + 1)
        own = compensate(weight[one], bias[one], seen[one], targets[one], second_moments(seen[one]), math.inf)
        np.testing.assert_allclose(moved[one].numpy(), own[0].numpy(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(corrected[one].numpy(), own[1].numpy(), rtol=1e-4, atol=1e-4)
