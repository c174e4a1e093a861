"""A few steps of training: they learn, they are reproducible, each option does what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from squeezeedge.errors import SqueezeEdgeError, UnsupportedError, UsageError
from squeezeedge.networks.registry import build
from squeezeedge.training.data import Batch, batch_workers, batches
from squeezeedge.training.distributed import World
from squeezeedge.training.recipe import Input, Optimizer, Recipe
from squeezeedge.training.train import Trainer
from tests.training.tiny import RECIPE, changed, images


def _train(recipe: Recipe, steps: int = 4, trainer: Trainer | None = None) -> tuple[Trainer, list[float]]:
    torch.set_num_threads(1)
    trainer = trainer or Trainer(recipe, 2, World())
    training = images(recipe).training
    make = batches(training, World(), batch_workers(training, 0))
    losses: list[float] = []
    while len(losses) < steps:
        for batch in make(len(losses), 0):
            losses.append(trainer.step(batch, 1.0).loss / batch.total)
    return trainer, losses


def _batch(count: int, total: int, size: int = 24) -> Batch:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (8, 3, 24, 24), dtype=torch.uint8, generator=generator)
    return Batch(pixels[:count], torch.arange(8)[:count] % 2, size, 5, total)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [Optimizer("adamw", 1e-3, 0.9, 0.01), Optimizer("sgd", 3e-3, 0.9, 0.0, True)])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_loss_falls(optimizer: Optimizer, precision: str) -> None:
    _, losses = _train(changed(optimizer=optimizer, precision=precision, seed=4), 36)
    assert np.mean(losses[-6:]) < 0.6 * np.mean(losses[:3])


@pytest.mark.slow
@pytest.mark.usefixtures("cheap_runs")
def test_the_seed_decides_the_weights() -> None:
    first, again, other = (_train(changed(seed=seed))[0].module.state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.usefixtures("cheap_runs")
def test_the_network_for_use_is_as_stored() -> None:
    trainer, _ = _train(RECIPE, 3)
    network = trainer.network_for_use()
    assert not network.training
    for name, tensor in trainer.module.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor.half().float())


@pytest.mark.usefixtures("cheap_runs")
def test_the_average_follows_the_weights() -> None:
    recipe = changed(ema=0.9)
    trainer = Trainer(recipe, 2, World())
    key = "features.0.weight"
    expected = torch.zeros(())
    for step in range(4):
        trainer.step(_batch(6, 6), 1.0)
        weights = trainer.module.state_dict()[key].clone()
        expected = weights if step == 0 else 0.9 * expected + 0.1 * weights
    torch.testing.assert_close(
        trainer.network_for_use().state_dict()[key], expected.half().float(), rtol=2e-3, atol=1e-5
    )
    assert not torch.equal(expected, weights)


def test_clipping_bounds_the_step() -> None:
    """Without momentum and decay, a step is the learning rate times the gradient."""
    optimizer = Optimizer("sgd", 0.5, 1e-9, 0.0)
    for norm, bounded in ((0.01, True), (0.0, False)):
        trainer = Trainer(changed(optimizer=optimizer, clip_norm=norm), 2, World())
        before = [parameter.detach().clone() for parameter in trainer.module.parameters()]
        trainer.step(_batch(6, 6), 1.0)
        pairs = zip(trainer.module.parameters(), before, strict=True)
        moved = torch.stack([(after - start).norm() for after, start in pairs]).norm()
        assert (moved <= 0.5 * 0.01 * 1.001) == bounded


@pytest.mark.usefixtures("cheap_runs")
def test_the_rate_of_loaded_layers() -> None:
    trained = {n: t for n, t in build("squeezenet1_1", 7).state_dict().items() if not n.startswith("classifier.1.")}
    recipe = changed(start="trained", optimizer=replace(RECIPE.optimizer, loaded_rate=0.0))
    trainer, _ = _train(recipe, 3, Trainer(recipe, 2, World(), trained))
    state = trainer.module.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in trained.items())
    assert state["classifier.1.weight"].shape[0] == 2
    assert not torch.equal(state["classifier.1.bias"], torch.ones(2)), "the new layer is learned"


@pytest.mark.usefixtures("cheap_runs")
def test_frozen_layers_keep_their_weights() -> None:
    trained = {n: t for n, t in build("squeezenet1_1", 7).state_dict().items() if not n.startswith("classifier.1.")}
    recipe = changed(start="trained", frozen=2, ema=0.9, optimizer=replace(RECIPE.optimizer, weight_decay=0.1))
    trainer, _ = _train(recipe, 3, Trainer(recipe, 2, World(), trained))
    state, average = trainer.module.state_dict(), trainer.network_for_use().state_dict()
    frozen = {"features.0.weight", "features.0.bias", "features.3.squeeze.weight", "features.3.squeeze.bias"}
    assert {name for name, tensor in trained.items() if torch.equal(state[name], tensor)} == frozen
    assert all(torch.equal(average[name], trained[name].half().float()) for name in frozen)


def test_something_must_be_trained() -> None:
    with pytest.raises(UsageError, match=r"frozen = 26: squeezenet1_1 has 26 convolutions in all"):
        Trainer(changed(start="trained", frozen=26), 2, World())


def test_a_new_layer_on_trained_ones_starts_at_zero() -> None:
    for start, spread in (("random", 0.0625), ("trained", 0.0)):  # sqrt(2 / 512 inputs)
        layer = Trainer(changed(start=start), 20, World()).module.state_dict()
        assert layer["classifier.1.weight"].std() == pytest.approx(spread, rel=0.05)
        assert (layer["classifier.1.bias"] == 1).all()


@pytest.mark.usefixtures("cheap_runs")
def test_weights_of_another_network() -> None:
    trained = {n: t for n, t in build("squeezenet1_0", 7).state_dict().items() if not n.startswith("classifier.1.")}
    with pytest.raises(SqueezeEdgeError, match=r"features\.0\.weight"):
        Trainer(changed(start="trained"), 2, World(), trained)


def test_images_are_scaled_to_the_batch_s_size() -> None:
    sizes: list[torch.Size] = []
    trainer = Trainer(RECIPE, 2, World())
    trainer.module.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].shape))
    for size in (24, 33):
        trainer.step(_batch(6, 6, size), 1.0)
    assert sizes == [(6, 3, 24, 24), (6, 3, 33, 33)]


def test_the_input_is_what_validation_sees() -> None:
    recipe = changed(input=Input("imagenet", 24))
    batch = _batch(6, 6)
    inputs = Trainer(recipe, 2, World())._inputs(batch)
    expected = recipe.input.preprocessing.normalize(batch.images.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(inputs.numpy(), expected, atol=1e-6)
    assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_an_empty_share_of_a_batch() -> None:
    """The last batch of an epoch may have fewer images than there are processes."""
    trainer = Trainer(changed(dropout=0.0), 2, World())
    assert trainer.step(_batch(0, 1), 1.0) == (0, 0, 0)
    assert all(torch.isfinite(parameter).all() for parameter in trainer.module.parameters())


def test_float16_needs_a_gpu() -> None:
    with pytest.raises(UnsupportedError, match="float16 needs a GPU; use bfloat16"):
        Trainer(changed(precision="float16"), 2, World())


def test_more_processes_than_images_a_step() -> None:
    with pytest.raises(SqueezeEdgeError, match="batch_size 6 is less than one image for each of 7 processes"):
        Trainer(RECIPE, 2, World(size=7))
