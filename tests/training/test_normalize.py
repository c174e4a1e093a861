"""Batch normalization in training: nothing changes when it comes or goes, and it is over all processes' images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from squeezeedge.networks.registry import build
from squeezeedge.networks.squeezenet import Fire, SqueezeNet
from squeezeedge.training.distributed import World
from squeezeedge.training.normalize import SharedBatchNorm, folded_weights, normalize
from squeezeedge.training.train import Trainer
from tests.marks import first_quick
from tests.training.tiny import RECIPE, changed, images


def _network(name: str = "squeezenet1_1") -> SqueezeNet:
    """With biases, and activations in the hundreds as published weights have them."""
    torch.manual_seed(0)
    module = build(name, 5)
    assert isinstance(module, SqueezeNet)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                assert layer.bias is not None
                layer.bias.uniform_(-0.3, 0.6)
        first = module.features[0]
        assert isinstance(first, nn.Conv2d)
        first.weight.mul_(100)
    return module


def _inputs(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "name", first_quick(["squeezenet1_1", "squeezenet1_0_simple_bypass", "squeezenet1_0_complex_bypass"])
)
def test_the_network_computes_the_same(name: str) -> None:
    module, inputs = _network(name), _inputs()
    with torch.no_grad():
        expected = module(inputs)
        normalize(module, inputs[:2])
        assert not module.training
        torch.testing.assert_close(module(inputs), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
        plain = build(name, 5)
        plain.load_state_dict(folded_weights(module))
        torch.testing.assert_close(plain(inputs), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_squeeze_outputs_have_unit_variance() -> None:
    module, inputs = _network(), _inputs()
    normalize(module, inputs)
    seen: list[Tensor] = []
    fires = [layer for layer in module.features if isinstance(layer, Fire)]
    for fire in fires:
        fire.squeeze.register_forward_hook(lambda layer, given, result: seen.append(result))
    with torch.no_grad():
        module(inputs)
    for result in seen:
        deviations = result.var((0, 2, 3)).sqrt()
        assert deviations.max() < 1.01
        assert deviations.median() > 0.99
    for fire in fires:
        norms = fire.squeeze.weight.flatten(1).norm(dim=1)
        torch.testing.assert_close(norms, torch.full_like(norms, 2**0.5))


def test_a_module_whose_squeeze_is_always_zero() -> None:
    module, inputs = _network(), _inputs()
    fire = module.features[4]
    assert isinstance(fire, Fire) and fire.squeeze.bias is not None
    with torch.no_grad():
        fire.squeeze.weight[:] = 0
        fire.squeeze.bias[:] = -1
        expected = module(inputs)
        normalize(module, inputs[:2])
        torch.testing.assert_close(module(inputs), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_a_channel_that_is_always_zero() -> None:
    module, inputs = _network(), _inputs()
    first = module.features[3]
    assert isinstance(first, Fire)
    with torch.no_grad():
        first.squeeze.weight[0] = 0
        first.expand1x1.weight[:] = 0
        normalize(module, inputs)
        assert torch.isfinite(module(inputs)).all()
    module.train()(inputs).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_frozen_convolutions_stay() -> None:
    module, inputs = _network(), _inputs()
    first = module.features[3]
    assert isinstance(first, Fire)
    first.squeeze.requires_grad_(False)
    normalize(module, inputs)
    kinds = [type(layer.squeeze) is nn.Conv2d for layer in module.features if isinstance(layer, Fire)]
    assert kinds == [True] + [False] * 7


def test_statistics_are_torch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if another process had no image: the formula for several gives torch's result for one."""
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: None)
    ours, theirs = SharedBatchNorm(6), nn.BatchNorm2d(6, momentum=0.05)
    x = torch.randn(5, 6, 3, 3) * 3 + 1
    weight = torch.randn(5, 6, 3, 3)
    gradients = []
    for norm in (ours, theirs):
        given = x.clone().requires_grad_()
        (norm(given) * weight).sum().backward()
        gradients.append([given.grad, norm.weight.grad, norm.bias.grad])
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(gradients[0], gradients[1])
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_one_value_a_channel() -> None:
    norm = SharedBatchNorm(3)
    assert torch.equal(norm(torch.ones(1, 3, 1, 1)), torch.zeros(1, 3, 1, 1))


@pytest.mark.usefixtures("cheap_runs")
@pytest.mark.parametrize("precision", first_quick(["float32", "bfloat16"]))
def test_the_network_for_use_has_none(precision: str) -> None:
    """It answers as the average does, whose statistics are averages too."""
    recipe = changed(batch_norm=True, ema=0.5, precision=precision)
    learned = images(recipe).training
    trainer = Trainer(recipe, 2, World(), examples=learned.examples())
    batch = learned.examples()
    before = {name: tensor.clone() for name, tensor in trainer.module.state_dict().items()}
    for _ in range(5):
        trainer.step(batch, 1.0)
    network = trainer.network_for_use()
    assert network.state_dict().keys() == build(RECIPE.network, 2).state_dict().keys()
    assert trainer.average is not None
    average = trainer.average.module.eval()
    inputs = trainer._inputs(batch)
    with torch.no_grad():
        torch.testing.assert_close(network(inputs), average(inputs), rtol=1e-2, atol=1e-2)
    key = "features.3.squeeze.norm.running_mean"
    now, averaged = trainer.module.state_dict()[key], average.state_dict()[key]
    assert not torch.equal(now, before[key])
    assert not torch.equal(now, averaged)
