"""Gradients of the weights and importances of the channels, beside what they estimate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.compression import importance as module
from squeezeedge.compression.importance import importance, weight_gradients
from squeezeedge.quantization.folded import execute_folded
from squeezeedge.quantization.gptq import inverse_factor
from squeezeedge.quantization.passes import folded_graph
from tests.quantization.networks import FloatNet, natural_images

SIZE = (5, 5)
PREPROCESSING = Preprocessing(size=SIZE, resize=None, mean=(0.4, 0.5, 0.3), std=(0.2, 0.3, 0.25))
NET = FloatNet(0, SIZE)
GRAPH = NET.classifier(NET.relu(NET.conv(NET.relu(NET.conv("image", 4, 3)), 5)))


def test_gradients_are_samples_of_the_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBES", 300)
    folded, pixels = folded_graph(GRAPH, PREPROCESSING), natural_images(2, SIZE)
    gradients = weight_gradients(folded, pixels)
    assert {name: len(samples) for name, samples in gradients.items()} == dict.fromkeys(gradients, 300)
    conv = folded.convolutions[1]
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()

    def logits(change: float) -> NDArray[np.float32]:
        conv.weight[2, 1, 0, 0] += np.float32(change)
        *_, (_, last) = execute_folded(folded, images)
        conv.weight[2, 1, 0, 0] -= np.float32(change)
        limit = folded.rectified.get(folded.head.name)
        found: NDArray[np.float32] = (last if limit is None else last.clamp(0, limit)).mean((2, 3)).numpy()
        return found

    step = 1e-3 * float(np.abs(conv.weight).max())
    change = (logits(step) - logits(-step)) / (2 * step)
    chance = np.exp(logits(0) / module.TEMPERATURE)
    chance /= chance.sum(1, keepdims=True)
    of_probable = (chance * change**2).sum(1) - (chance * change).sum(1) ** 2
    exact = (1 - module.SHARE) * change.shape[1] * of_probable
    exact += module.SHARE * change.shape[1] * change.var(1)
    estimated = float(gradients[conv.name][:, 2, 1].double().square().sum())
    assert estimated == pytest.approx(exact.mean(), rel=0.3)


def test_the_importance_is_the_logits_error_for_each_error_of_an_output() -> None:
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 50, 6, generator=random, dtype=torch.float64)
    factor = inverse_factor(rows.mT @ rows / 50)  # two groups
    gradients = torch.randn(3, 8, 6, generator=random)
    units = torch.rand(8, 6, generator=random, dtype=torch.float64) + 0.5
    found = importance(gradients, units, factor)
    steps = torch.randn(20_000, 2, 4, 6, generator=random, dtype=torch.float64)
    steps /= factor.upper.diagonal(dim1=1, dim2=2)[:, None]
    errors = torch.empty_like(steps)
    errors.scatter_(3, factor.order[:, None].expand_as(errors), steps @ factor.upper)  # as GPTQ leaves them
    errors = errors.flatten(1, 2)
    noticed = torch.einsum("nof,sof->nso", errors, gradients.double() / units).square().sum(1).mean(0)
    made = steps.square().sum(3).mean(0).flatten()
    assert torch.allclose(found, noticed / made, rtol=0.1)
