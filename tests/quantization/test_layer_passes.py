"""What happens to one convolution: scale search, GPTQ, compensation, overflow."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from squeezeedge.quantization.compensate import compensate
from squeezeedge.quantization.gptq import inverse_factor, round_weights, second_moments, unit_error
from squeezeedge.quantization.overflow import bounded
from squeezeedge.quantization.ranges import Range, RangeObserver
from squeezeedge.quantization.requantize import exact_type, requantize
from squeezeedge.quantization.scale_search import Grid, free_scales, search_scales, weight_step


class Layer:
    """A 1x1 convolution with correlated inputs: integers q, and the float outputs that they stand for."""

    def __init__(self, seed: int, fan_in: int = 24, out: int = 8, count: int = 4000, zero_point: int = 0) -> None:
        rng = np.random.default_rng(seed)
        mixed = rng.normal(size=(count, fan_in // 3)) @ rng.normal(size=(fan_in // 3, fan_in))
        mixed += 0.3 * rng.normal(size=mixed.shape)
        codes = np.rint(30 * mixed).clip(0, 255)
        self.rows = torch.from_numpy(codes).float()
        self.weight = torch.from_numpy(rng.normal(size=(out, fan_in)) * np.exp2(rng.uniform(-3, 3, (out, 1))))
        self.bias = torch.from_numpy(rng.normal(size=out) * 50)
        self.zero_point = zero_point
        self.targets = (self.rows.double() @ self.weight.T + self.bias).float()

    def output(self) -> Tensor:
        return self.targets if self.zero_point else self.targets.relu()

    def range(self, images: int = 40) -> Range:
        observer = RangeObserver()
        for part in self.targets.split(len(self.targets) // images):
            observer.add(part.T[None, :, :, None], not self.zero_point)
        return observer.range()

    def quantized(self, grid: Grid, rounded: Tensor, bias: Tensor) -> Tensor:
        products = self.rows.double() @ rounded.T
        codes = requantize(products, (bias / grid.step).round(), grid.shift, self.zero_point)
        return (codes - self.zero_point) * grid.scale

    def error(self, grid: Grid) -> Tensor:
        factor = inverse_factor(second_moments(self.rows))
        rounded = round_weights(self.weight, grid.step, factor)
        return (self.quantized(grid, rounded, self.bias) - self.output()).square().mean(0)

    def search(self, candidates: Tensor | None = None) -> Grid:
        values, moments = self.range(), second_moments(self.rows)
        candidates = free_scales(values, self.zero_point) if candidates is None else candidates
        unit = unit_error(inverse_factor(moments))
        return search_scales(candidates, values, self.zero_point, self.weight, self.bias, moments.diagonal(), unit)


def test_requantize_is_r3() -> None:
    rng = np.random.default_rng(0)
    products, bias = rng.integers(-(2**22), 2**22, (500, 16)), rng.integers(-(2**20), 2**20, 16)
    shift = np.arange(16)
    expected = (((products + bias + ((1 << shift) >> 1)) >> shift) + 128).clip(0, 255)
    arguments = torch.from_numpy(bias), torch.from_numpy(shift), 128
    for kind in (torch.float32, torch.float64):
        codes = requantize(torch.from_numpy(products).to(kind), *arguments)
        np.testing.assert_array_equal(codes.numpy(), expected)


def test_exact_type() -> None:
    assert exact_type(2**24 - 1) == torch.float32
    assert exact_type(2**24) == torch.float64


def test_second_moments_are_exact() -> None:
    rows = Layer(0, count=1001).rows
    expected = rows.long().T @ rows.long()
    assert torch.equal(second_moments(rows) * len(rows), expected.double().div(len(rows)).mul(len(rows)))
    np.testing.assert_allclose((second_moments(rows) * len(rows)).numpy(), expected.numpy(), rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("zero_point", [0, 128])
def test_search_is_close_to_brute_force(seed: int, zero_point: int) -> None:
    layer = Layer(seed, zero_point=zero_point)
    values, limit = layer.range(), 127 if zero_point else 255

    def error(grid: Grid) -> Tensor:
        """What these samples show, and what is provided for those to come."""
        return layer.error(grid) + values.clipping_error(grid.scale * limit)

    least = weight_step(layer.weight, layer.bias)
    best = torch.full_like(least, torch.inf)
    for octave in np.arange(-0.5, 2.01, 0.125):
        scale = (values.level / limit * 2**octave).float().double()
        for extra in (-1, 0, 1):
            shift = (torch.log2(scale / least).floor().long() + extra).clamp(0, 15)
            best = torch.minimum(best, error(Grid(scale, shift)))
    often = values.active > 0.05  # enough samples to measure an error
    assert often.sum() >= 4
    assert (error(layer.search())[often] <= 1.6 * best[often]).all()


def test_shift_and_scale_stay_in_range() -> None:
    layer = Layer(1)
    scaled = torch.exp2(torch.tensor([-60, -30, -12, -4, 4, 12, 30, 60.0]).double())
    layer.weight *= scaled[:, None]
    layer.bias *= scaled
    layer.targets = (layer.rows.double() @ layer.weight.T + layer.bias).float()
    grid = layer.search()
    assert grid.shift.min() >= 0 and grid.shift.max() <= 15
    assert (grid.scale > 0).all() and grid.scale.isfinite().all()
    relative = layer.error(grid) / layer.output().double().square().mean(0)
    assert relative[2:6].max() < 1e-3


def test_dead_channels_stay_dead_and_keep_a_usable_scale() -> None:
    layer = Layer(3)
    layer.bias[:4] = -1e6
    layer.weight[4:6] = 0
    layer.bias[4] = 0
    layer.bias[5] = 3.0
    layer.targets = (layer.rows.double() @ layer.weight.T + layer.bias).float()
    grid = layer.search()
    factor = inverse_factor(second_moments(layer.rows))
    rounded = round_weights(layer.weight, grid.step, factor)
    output = layer.quantized(grid, rounded, layer.bias)
    assert not output[:, :5].any()
    np.testing.assert_allclose(output[:, 5].numpy(), 3.0, rtol=0.01)


def test_candidates_are_obeyed() -> None:
    layer = Layer(4)
    wanted = torch.linspace(1, 9, 8, dtype=torch.float64)[None]
    assert torch.equal(layer.search(wanted).scale, wanted[0].float().double())


def test_headroom_above_the_values_seen() -> None:
    """A channel whose peaks differ between images gets more room than one whose peaks are alike."""
    rng = np.random.default_rng(0)
    observer = RangeObserver()
    for _ in range(64):
        values = rng.uniform(0, 1, (1, 2, 20, 20))
        values[0, 1] *= rng.exponential(1)
        values[0] /= [[[1.0]], [[4.0]]]
        observer.add(torch.from_numpy(values).float(), True)
    values = observer.range()
    limit = values.level * 1.2
    assert values.clipping_error(limit)[0] < 1e-6 * values.clipping_error(limit)[1]
    wider = values.clipping_error(limit * 1.5)
    assert (wider < values.clipping_error(limit)).all()


@pytest.mark.parametrize("seed", range(4))
def test_gptq_beats_rounding_to_nearest(seed: int) -> None:
    layer = Layer(seed)
    step = layer.weight.abs().amax(1) / 7  # coarse
    moments = second_moments(layer.rows)

    def error(rounded: Tensor) -> Tensor:
        difference = rounded * step[:, None] - layer.weight
        return (difference @ moments * difference).sum(1)

    rounded = round_weights(layer.weight, step, inverse_factor(moments))
    assert torch.equal(rounded, rounded.round()) and rounded.abs().max() <= 127
    nearest = error((layer.weight / step[:, None]).round())
    assert error(rounded).sum() < 0.6 * nearest.sum()
    predicted = unit_error(inverse_factor(moments)) * step.square()
    assert 0.5 < (error(rounded) / predicted).mean() < 1.5


def test_gptq_clips_what_does_not_fit() -> None:
    layer = Layer(0)
    rounded = round_weights(layer.weight, layer.weight.abs().amax(1) / 500, inverse_factor(second_moments(layer.rows)))
    assert rounded.abs().max() == 127


def test_compensation_repairs_linear_errors_of_the_inputs() -> None:
    layer = Layer(0)
    seen = (layer.rows * 0.8).round()  # the quantized network's inputs
    moments = second_moments(seen)
    weight, bias = compensate(layer.weight, layer.bias, seen, layer.targets, moments, True)

    def error(weight: Tensor, bias: Tensor) -> float:
        return float(((seen.double() @ weight.T + bias).relu() - layer.output()).square().mean())

    assert error(weight, bias) < 0.4 * error(layer.weight, layer.bias)


def test_compensation_leaves_exact_inputs_alone() -> None:
    layer = Layer(1)
    weight, bias = compensate(
        layer.weight, layer.bias, layer.rows, layer.targets, second_moments(layer.rows), relu=False
    )
    np.testing.assert_allclose(weight.numpy(), layer.weight.numpy(), atol=1e-4)
    np.testing.assert_allclose(bias.numpy(), layer.bias.numpy(), atol=1e-2)


def test_compensation_of_constant_inputs_moves_the_bias() -> None:
    rows = torch.full((50, 3), 7.0)
    weight, bias = torch.ones(2, 3, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    targets = torch.full((50, 2), 30.0)
    moved, corrected = compensate(weight, bias, rows, targets, second_moments(rows), relu=False)
    assert torch.equal(moved, weight)
    np.testing.assert_allclose(corrected.numpy(), 9.0)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    fan_in=st.sampled_from([1, 40, 5000, 70_000]),
    biases=st.lists(st.integers(-(2**45), 2**45), min_size=3, max_size=3),
    shift=st.integers(0, 15),
    zero_point=st.sampled_from([0, 128]),
    pixels=st.sampled_from([1, 169, 10_000, 2**20]),
)
def test_no_accumulator_overflows(
    seed: int, fan_in: int, biases: list[int], shift: int, zero_point: int, pixels: int
) -> None:
    rng = np.random.default_rng(seed)
    amplitude = rng.choice([0, 1, 20, 127], 3)[:, None]
    weight = torch.from_numpy(np.rint(rng.uniform(-1, 1, (3, fan_in)) * amplitude))
    if rng.random() < 0.5:
        weight = weight.sign() * torch.from_numpy(amplitude)
    bias, shifts = torch.tensor(biases).double(), torch.full((3,), shift)
    if pixels > 1:
        shifts, zero_point = torch.zeros(3, dtype=torch.int64), 0
    new_weight, new_bias = bounded(weight, bias, shifts, zero_point, pixels)
    bound = new_bias.abs() + 255 * new_weight.abs().sum(1) + ((1 << shifts) >> 1) + zero_point
    assert int(bound.max()) * pixels < 2**31
    assert (new_weight.abs() <= weight.abs()).all()
    old = bias.abs() + 255 * weight.abs().sum(1) + ((1 << shifts) >> 1) + zero_point
    untouched = old * pixels < 2**31
    assert torch.equal(new_weight[untouched].double(), weight[untouched])
    assert torch.equal(new_bias[untouched].double(), bias[untouched])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 15))
def test_clipping_a_bias_does_not_change_the_output(seed: int, shift: int) -> None:
    rng = np.random.default_rng(seed)
    weight = torch.from_numpy(rng.integers(-127, 128, (4, 30)).astype(np.float64))
    bias = torch.from_numpy(rng.choice([-1, 1], 4) * np.exp2(rng.uniform(20, 50, 4))).round()
    shifts = torch.full((4,), shift)
    clipped = bounded(weight, bias, shifts, 0, 1)[1]
    products = torch.from_numpy(rng.integers(0, 256, (50, 30)).astype(np.float64)) @ weight.T
    assert torch.equal(requantize(products, bias, shifts, 0), requantize(products, clipped.double(), shifts, 0))
