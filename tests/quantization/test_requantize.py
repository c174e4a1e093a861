"""The integer arithmetic of R3."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from squeezeedge.graph import rules
from squeezeedge.quantization.requantize import exact_type, requantize


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


def test_the_limit_of_exactness_is_that_of_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "FLOAT32_EXACT", 1000)
    assert (exact_type(999), exact_type(1000)) == (torch.float32, torch.float64)
