"""Rounding at a price of bits: what it saves, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from squeezeedge.compression.rounding import LAST, RateRounding, code_lengths
from squeezeedge.graph import rules
from squeezeedge.quantization.gptq import inverse_factor

RANDOM = torch.Generator().manual_seed(0)
GROUPS, OUTPUTS, FAN_IN = 2, 12, 20
MIX = torch.randn(GROUPS, FAN_IN, FAN_IN, generator=RANDOM, dtype=torch.float64)
MOMENTS = MIX @ MIX.mT
FACTOR = inverse_factor(MOMENTS)
WEIGHT = torch.randn(GROUPS * OUTPUTS, FAN_IN, generator=RANDOM, dtype=torch.float64)
UNITS = torch.ones_like(WEIGHT)
STEP = WEIGHT.abs().amax(1) / 20


def rounding(price: float) -> RateRounding:
    made = RateRounding(price, {"conv": torch.randn(4, *WEIGHT.shape, generator=RANDOM)}, IMPORTANCES)
    made.price("conv", WEIGHT, UNITS, FACTOR)
    return made


IMPORTANCES: dict[str, Tensor] = {}


def error(rounded: Tensor) -> float:
    lost = (WEIGHT - rounded * STEP[:, None]).reshape(GROUPS, OUTPUTS, FAN_IN)
    of_output = torch.einsum("gof,gfh,goh->go", lost, MOMENTS, lost).flatten()
    return float((IMPORTANCES["conv"] * of_output).sum())


def bits(integers: Tensor) -> float:
    return float(code_lengths(integers)[(integers + rules.WEIGHT_LIMIT).long()].sum())


def test_a_higher_price_takes_fewer_bits_for_more_error() -> None:
    made = [rounding(price).round("conv", WEIGHT, STEP, FACTOR) for price in (0.0, 0.2, 20.0)]
    lengths, errors = [bits(each) for each in made], [error(each) for each in made]
    assert lengths[0] > lengths[1] > lengths[2] and errors[0] < errors[1] < errors[2]
    assert [int((each == 0).sum()) for each in made] == sorted(int((each == 0).sum()) for each in made)
    for each in made:
        assert each.shape == WEIGHT.shape and torch.equal(each, each.round())
        assert float(each.abs().max()) <= rules.WEIGHT_LIMIT
    total = [found + 0.2 * length for found, length in zip(errors, lengths, strict=True)]
    assert total[1] == min(total), "at its price it has the least sum of both"


def test_compensation_makes_up_for_what_becomes_zero() -> None:
    alone = replace(FACTOR, upper=FACTOR.upper.diagonal(dim1=1, dim2=2).diag_embed())  # no column makes up for another
    price = 2.0
    together, single = (rounding(price).round("conv", WEIGHT, STEP, factor) for factor in (FACTOR, alone))
    assert error(together) < error(single)


def test_larger_steps_where_bits_cost_more() -> None:
    steps = [STEP * 2.0**i for i in range(-3, 4)]
    chosen = []
    for price in (1e-3, 1.0, 1e3):
        of = rounding(price).price("conv", WEIGHT, UNITS, FACTOR)
        chosen.append(torch.stack([of(step) for step in steps]).argmin(0))
    assert (chosen[0] <= chosen[1]).all() and (chosen[1] <= chosen[2]).all() and (chosen[0] < chosen[2]).any()


def test_lengths_are_those_of_a_code() -> None:
    integers = torch.tensor([0.0] * 60 + [1.0, -1.0] * 10 + [5.0])
    lengths = code_lengths(integers)
    assert len(lengths) == 2 * rules.WEIGHT_LIMIT + 1 and torch.equal(lengths, lengths.flip(0))
    assert abs(float(torch.exp2(-lengths).sum()) - 1) < 1e-9
    zero, one, five, many = lengths[rules.WEIGHT_LIMIT + torch.tensor([0, 1, 5, 100])]
    assert zero < one < five < many


def test_all_classes_are_equally_important() -> None:
    gradients = {"conv": torch.randn(4, *WEIGHT.shape, generator=RANDOM)}
    each, alike = RateRounding(1.0, gradients), RateRounding(1.0, gradients, head="conv")
    for made in (each, alike):
        made.price("conv", WEIGHT, UNITS, FACTOR)
    found = LAST * each.importances["conv"].mean()
    assert torch.allclose(alike.importances["conv"], found.expand(GROUPS * OUTPUTS))
