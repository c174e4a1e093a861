"""Scale and shift of every channel of a convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from squeezeedge.graph import rules
from squeezeedge.quantization.gptq import inverse_factor, second_moments, unit_error
from squeezeedge.quantization.ranges import RangeObserver
from squeezeedge.quantization.scale_search import (
    ACCUMULATOR_SHARE,
    Grid,
    free_scales,
    largest_scale,
    output_limit,
    search_scales,
    weight_step,
)
from tests.quantization.layers import Layer


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("zero_point", [0, 128])
def test_search_is_close_to_brute_force(seed: int, zero_point: int) -> None:
    layer = Layer(seed, zero_point=zero_point)
    values, limit = layer.range(), 127 if zero_point else 255

    def error(grid: Grid) -> Tensor:
        """What these samples show, and what is provided for those to come."""
        return layer.error(grid) + values.clipping_error(grid.scale * limit)

    least = weight_step(layer.weight[0], layer.bias[0], ACCUMULATOR_SHARE * rules.INT32_LIMIT)
    best = torch.full_like(least, torch.inf)
    for octave in np.arange(-0.5, 2.01, 0.125):
        scale = (values.level / limit * 2**octave).float().double()
        for extra in (-1, 0, 1):
            shift = (torch.log2(scale / least).floor().long() + extra).clamp(0, 15)
            best = torch.minimum(best, error(Grid(scale, shift)))
    often = values.active > 0.05  # enough samples to measure an error
    assert often.sum() >= 4
    assert (error(layer.search())[often] <= 1.8 * best[often]).all()


def test_shift_and_scale_stay_in_range() -> None:
    layer = Layer(1)
    scaled = torch.exp2(torch.tensor([-60, -30, -12, -4, 4, 12, 30, 60.0]).double())
    layer.weight *= scaled[:, None]
    layer.bias *= scaled
    layer.run()
    grid = layer.search()
    assert grid.shift.min() >= 0 and grid.shift.max() <= 15
    assert (grid.scale > 0).all() and grid.scale.isfinite().all()
    relative = layer.error(grid) / layer.output().double().square().mean(0)
    assert relative[2:6].max() < 1e-3


def test_dead_channels_stay_dead_and_keep_a_usable_scale() -> None:
    layer = Layer(3)
    layer.bias[0, :4] = -1e6
    layer.weight[0, 4:6] = 0
    layer.bias[0, 4:6] = torch.tensor([0.0, 3.0])
    layer.run()
    output = layer.quantized(layer.search())
    assert not output[:, :5].any()
    np.testing.assert_allclose(output[:, 5].numpy(), 3.0, rtol=0.01)


def test_candidates_are_obeyed() -> None:
    layer = Layer(4)
    wanted = torch.linspace(1, 9, 8, dtype=torch.float64)[None]
    assert torch.equal(layer.search(wanted).scale, wanted[0].float().double())


@pytest.mark.parametrize("most", [0, 3, 8, 15, 18])
def test_the_largest_shift_is_that_of_the_rules(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Outputs far larger than the weights make them: every shift is at the limit."""
    layer = Layer(2)
    layer.weight, layer.bias = layer.weight.abs() * 2.0**-20, layer.bias * 0
    layer.targets = (layer.rows.double() @ layer.weight.mT).float() * 2.0**12
    monkeypatch.setattr(rules, "MAX_SHIFT", most)
    shift = layer.search().shift
    assert int(shift.max()) == most and int(shift.min()) >= 0


def test_every_group_is_searched_as_on_its_own() -> None:
    layers = [Layer(seed, out=4) for seed in range(3)]
    rows, weight, bias = (torch.cat([getattr(layer, key) for layer in layers]) for key in ("rows", "weight", "bias"))
    targets = torch.cat([layer.targets for layer in layers], 2)
    together = Layer(0)
    together.targets, together.rows = targets, rows
    moments = second_moments(rows)
    values = together.range()
    candidates = free_scales(values, 0) * 2.0**-6  # so fine that weights are clipped
    grid = search_scales(
        candidates,
        values,
        0,
        weight.flatten(0, 1),
        bias.flatten(),
        moments.diagonal(dim1=1, dim2=2),
        unit_error(inverse_factor(moments)),
    )
    for index, layer in enumerate(layers):
        part = slice(4 * index, 4 * index + 4)
        own = layer.search(candidates[:, part])
        assert torch.equal(grid.shift[part], own.shift) and torch.equal(grid.scale[part], own.scale)


def test_limits_are_those_of_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [output_limit(zero_point) for zero_point in rules.ZERO_POINTS] == [255, 127]
    weight, bias = torch.tensor([[6.0, -12.0]]).double(), torch.zeros(1).double()
    monkeypatch.setattr(rules, "WEIGHT_LIMIT", 3)
    monkeypatch.setattr(rules, "Q_MAX", 15)
    assert weight_step(weight, bias, 1e9).item() == 4
    assert weight_step(weight, bias, 27).item() == 10
    assert output_limit(0) == 15


def test_the_largest_code_is_at_most_a_limit() -> None:
    layer = Layer(2)
    limit = float(layer.range().level.median())
    observer = RangeObserver("layer", limit)
    observer.add(layer.targets.mT[..., None])
    candidates = free_scales(observer.range(), 0)
    assert largest_scale(limit) == np.float32(limit / 255)
    assert (candidates == largest_scale(limit)).all(), "also of channels that stay below it"
    far = RangeObserver("layer", 4 * float(layer.range().level.max()))
    far.add(layer.targets.mT[..., None])
    assert len(free_scales(far.range(), 0)) > 1
    assert largest_scale(np.inf) == np.inf
