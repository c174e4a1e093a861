"""Rounding of weights with regard to the inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from squeezeedge.graph import rules
from squeezeedge.quantization.gptq import (
    central_moments,
    inverse_factor,
    mean_output,
    round_weights,
    second_moments,
    unit_error,
)
from tests.quantization.layers import Layer


def test_second_moments_are_exact() -> None:
    count = 1001
    rows = torch.cat([Layer(seed, count=count).rows for seed in range(2)])
    expected = (rows.long().mT @ rows.long()).double()
    assert torch.equal(second_moments(rows), expected / count)


@pytest.mark.parametrize("seed", range(4))
def test_gptq_beats_rounding_to_nearest(seed: int) -> None:
    layer = Layer(seed)
    step = layer.weight.abs().amax(2) / 7  # coarse
    moments = second_moments(layer.rows)

    def error(rounded: Tensor) -> Tensor:
        difference = rounded * step[..., None] - layer.weight
        return (difference @ moments * difference).sum(2)

    rounded = round_weights(layer.weight, step, inverse_factor(moments))
    assert torch.equal(rounded, rounded.round()) and rounded.abs().max() <= 127
    nearest = error((layer.weight / step[..., None]).round())
    assert error(rounded).sum() < 0.6 * nearest.sum()
    predicted = unit_error(inverse_factor(moments)) * step.square()
    assert 0.5 < (error(rounded) / predicted).mean() < 1.5


def test_gptq_clips_what_does_not_fit() -> None:
    layer = Layer(0)
    rounded = round_weights(layer.weight, layer.weight.abs().amax(2) / 500, inverse_factor(second_moments(layer.rows)))
    assert rounded.abs().max() == 127


def test_every_group_is_rounded_as_on_its_own() -> None:
    layers = [Layer(seed) for seed in range(3)]
    rows, weight = (torch.cat([getattr(layer, key) for layer in layers]) for key in ("rows", "weight"))
    step = weight.abs().amax(2) / 7
    factor = inverse_factor(second_moments(rows))
    together = round_weights(weight, step, factor)
    for index in range(3):
        one = slice(index, index + 1)
        own = inverse_factor(second_moments(rows[one]))
        assert torch.equal(together[one], round_weights(weight[one], step[one], own))
        assert torch.equal(unit_error(factor)[one], unit_error(own))


def test_the_order_of_inputs_makes_no_difference() -> None:
    """Those of most power are rounded first, wherever they stand."""
    layer = Layer(0)
    step, shuffled = layer.weight.abs().amax(2) / 7, torch.randperm(layer.weight.shape[2])
    power = second_moments(layer.rows).diagonal(dim1=1, dim2=2)
    factor = inverse_factor(second_moments(layer.rows))
    assert (power.gather(1, factor.order).diff() <= 0).all()
    rounded = round_weights(layer.weight, step, factor)
    other = inverse_factor(second_moments(layer.rows[..., shuffled]))
    assert torch.equal(round_weights(layer.weight[..., shuffled], step, other), rounded[..., shuffled])


def test_weights_that_must_be_zero_are_made_up_for_by_the_others() -> None:
    layer = Layer(0)
    step, moments = layer.weight.abs().amax(2) / 7, second_moments(layer.rows)
    kept = torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    factor = inverse_factor(moments)
    errors = []
    for rounded in (round_weights(layer.weight, step, factor, kept), round_weights(layer.weight, step, factor) * kept):
        assert (rounded[~kept] == 0).all() and (rounded[kept] != 0).any()
        difference = rounded * step[..., None] - layer.weight
        errors.append(float((difference @ moments * difference).sum()))
    assert errors[0] < 0.5 * errors[1]


def test_groups_without_inputs_are_rounded_to_nearest() -> None:
    rows = torch.stack([Layer(0).rows[0], torch.zeros_like(Layer(0).rows[0])])
    weight = torch.cat([Layer(0).weight, Layer(1).weight])
    step = weight.abs().amax(2) / 50
    rounded = round_weights(weight, step, inverse_factor(second_moments(rows)))
    assert torch.equal(rounded[1], (weight[1] / step[1, :, None]).round())


def test_all_groups_are_factorized_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Depthwise layers have hundreds of groups: calls must not grow with them."""
    calls: list[torch.Size] = []
    cholesky = torch.linalg.cholesky

    def counted(matrix: Tensor, *, upper: bool = False) -> Tensor:
        calls.append(matrix.shape)
        factor: Tensor = cholesky(matrix, upper=upper)
        return factor

    monkeypatch.setattr(torch.linalg, "cholesky", counted)
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.integers(0, 256, (500, 300, 9))).float()
    weight = torch.from_numpy(rng.normal(size=(500, 1, 9)))
    rounded = round_weights(weight, weight.abs().amax(2) / 127, inverse_factor(second_moments(rows)))
    assert rounded.shape == weight.shape and rounded.abs().max() <= 127
    assert calls == [(500, 9, 9)] * 2


def test_the_limit_of_weights_is_that_of_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "WEIGHT_LIMIT", 7)
    layer = Layer(0)
    rounded = round_weights(layer.weight, layer.weight.abs().amax(2) / 50, inverse_factor(second_moments(layer.rows)))
    assert rounded.abs().max() == 7


def test_a_bias_that_takes_in_the_mean_leaves_less_error() -> None:
    """Of a depthwise layer with bright inputs, which have few weights and a mean far above their deviation."""
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(np.rint(150 + 20 * rng.normal(size=(12, 3000, 9))).clip(0, 255)).float()
    weight = torch.from_numpy(rng.normal(size=(12, 1, 9)))
    step, moments = weight.abs().amax(2) / 100, second_moments(rows)
    central = central_moments(moments, rows)
    wide = rows.double().numpy()
    np.testing.assert_allclose(central[3].numpy(), np.cov(wide[3].T, bias=True), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(mean_output(weight, rows).numpy(), (wide.mean(1)[:, None] @ weight.mT.numpy())[:, 0])

    def error(rounded: Tensor, corrected: bool) -> float:
        lost = weight - rounded * step[..., None]
        outputs = rows.double() @ lost.mT - (mean_output(lost, rows)[:, None] if corrected else 0)
        return float(outputs.square().mean())

    plain, better = (round_weights(weight, step, inverse_factor(known)) for known in (moments, central))
    assert error(better, True) < 0.7 * error(plain, False)
