"""Training a few steps: it learns, it is reproducible, it fails cleanly."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.training.recipe import Augmentation, Optimizer, Recipe
from squeezeedge.training.train import train

RECIPE = Recipe(
    network="squeezenet1_1_digits",
    dataset="digits",
    preprocessing="digits",
    epochs=2,
    batch_size=8,
    label_smoothing=0.05,
    seed=3,
    optimizer=Optimizer("adamw", 1e-3, 0.9, 0.01),
    augmentation=Augmentation(10, 0.05, 0.05),
)


def _bright_or_dark(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    noise = rng.integers(0, 100, (count, 24, 24, 3))
    return (noise + 150 * labels[:, None, None, None]).astype(np.uint8), labels.astype(np.int64)


@pytest.mark.parametrize(("name", "rate"), [("adamw", 1e-3), ("sgd", 3e-3)])
def test_the_loss_falls(name: Literal["adamw", "sgd"], rate: float) -> None:
    losses: list[float] = []
    recipe = replace(RECIPE, epochs=12, seed=4, optimizer=Optimizer(name, rate, 0.9, 0.0))
    module = train(recipe, *_bright_or_dark(20), 2, losses.append)
    assert len(losses) == 12 * 3
    assert np.mean(losses[-6:]) < 0.6 * np.mean(losses[:3])
    assert not module.training


def test_the_seed_decides_the_weights() -> None:
    images, labels = _bright_or_dark(16)
    torch.manual_seed(1)
    first = train(RECIPE, images, labels, 2).state_dict()
    state = torch.get_rng_state()
    torch.manual_seed(2)
    again = train(RECIPE, images, labels, 2).state_dict()
    other = train(replace(RECIPE, seed=4), images, labels, 2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are left alone"


def test_weights_are_as_stored() -> None:
    for tensor in train(replace(RECIPE, epochs=1), *_bright_or_dark(8), 2).state_dict().values():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, tensor.half().float())


def test_divergence_is_an_error() -> None:
    recipe = replace(RECIPE, epochs=30, optimizer=Optimizer("sgd", 1e6, 0.9, 0.0))
    with pytest.raises(SqueezeEdgeError, match=r"diverged in epoch \d+: .* lower the recipe's"):
        train(recipe, *_bright_or_dark(16), 2)
