"""Train a network as a recipe says."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim import Optimizer as TorchOptimizer
from torch.optim.lr_scheduler import OneCycleLR

from squeezeedge.calib.preprocess import PRESETS
from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.networks.registry import build
from squeezeedge.training.augment import random_affine
from squeezeedge.training.recipe import Optimizer, Recipe

__all__ = ["train"]


def train(
    recipe: Recipe,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: int,
    on_step: Callable[[float], None] = lambda loss: None,
) -> nn.Module:
    """Train from random weights. The same recipe, images, library versions and threads give the same weights.

    Args:
        recipe: what to do.
        images: uint8 [N, H, W, 3], preprocessed, at the network's input size.
        labels: int64 [N], each below ``classes``.
        classes: number of classes.
        on_step: called after each of the epochs * ceil(N / batch_size) steps with its loss.

    Returns:
        The network in evaluation mode, its weights float32 but rounded to float16: as they are stored.

    Raises:
        SqueezeEdgeError: the loss is no longer finite.
    """
    preprocessing = PRESETS[recipe.preprocessing]
    steps = math.ceil(len(images) / recipe.batch_size)
    generator = torch.Generator().manual_seed(recipe.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # initialization and dropout draw from the global generator
        module = build(recipe.network, classes).train()
        _wake_classes(module)
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on processors
        optimizer = _optimizer(recipe.optimizer, module)
        schedule = OneCycleLR(
            optimizer,
            recipe.optimizer.peak_learning_rate,
            total_steps=recipe.epochs * steps,
            cycle_momentum=False,
        )
        criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        for epoch in range(recipe.epochs):
            order = torch.randperm(len(images), generator=generator).numpy()
            for start in range(0, len(order), recipe.batch_size):
                chosen = order[start : start + recipe.batch_size]
                batch = random_affine(images[chosen], recipe.augmentation, generator)
                inputs = torch.from_numpy(preprocessing.normalize(batch)).to(memory_format=torch.channels_last)
                logits = module(inputs)
                loss = criterion(logits, torch.from_numpy(labels[chosen]))
                if not math.isfinite(loss.item()):
                    raise SqueezeEdgeError(
                        f"training diverged in epoch {epoch + 1}: the loss is {loss.item()}; lower the recipe's "
                        "optimizer.peak_learning_rate"
                    )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                on_step(loss.item())
    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return module.half().float().eval()


def _wake_classes(module: nn.Module) -> None:
    """Start the last convolution's biases at 1.

    SqueezeNet rectifies its class scores, so a class whose scores are negative everywhere gets no gradient and is
    never learned.
    """
    *_, last = (layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    assert last.bias is not None
    nn.init.ones_(last.bias)


def _optimizer(options: Optimizer, module: nn.Module) -> TorchOptimizer:
    rate, decay = options.peak_learning_rate, options.weight_decay
    if options.name == "adamw":
        return AdamW(module.parameters(), rate, betas=(options.momentum, 0.999), weight_decay=decay)
    return SGD(module.parameters(), rate, momentum=options.momentum, weight_decay=decay, nesterov=True)
