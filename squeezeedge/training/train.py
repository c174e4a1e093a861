"""A network in training: weights, optimizer and moving average, and what one step does with them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, AdamW
from torch.optim import Optimizer as TorchOptimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from squeezeedge.errors import CorruptFileError, UnsupportedError, UsageError
from squeezeedge.networks.registry import build, load_weights
from squeezeedge.training.checkpoint import as_stored, check_finite
from squeezeedge.training.data import Batch
from squeezeedge.training.distributed import World
from squeezeedge.training.normalize import folded_weights, normalize
from squeezeedge.training.recipe import Recipe

__all__ = ["Form", "Step", "Trainer"]

LAST = "classifier.1."
"""Names of the last convolution's weights begin so."""


@dataclass(frozen=True)
class Form:
    """Another form of the recipe's network, to be trained in its place.

    Attributes:
        module: normalized float32 [N, 3, H, W] -> logits, float32 [N, classes]; it holds the weights to start from.
        suffix: of the files that it is written to.
        write: writes a copy of the module, in evaluation mode, whole or not at all.
    """

    module: nn.Module
    suffix: str
    write: Callable[[Path, nn.Module], None]


class Step(NamedTuple):
    """What one step measured, in this process.

    Attributes:
        loss: sum over the images.
        right: images whose class was the network's first.
        images: how many.
    """

    loss: float
    right: float
    images: float


class Trainer:
    """The state of a run and its steps.

    The same recipe, batches, library versions and threads give the same weights.

    Args:
        recipe: what to do.
        classes: number of classes.
        world: the processes that share each step.
        trained: weights to start from, by name, those of the last convolution left out; ``None``: random ones.
        form: trained in place of the recipe's network.
        examples: images to begin batch normalization with; needed where the recipe has it.

    Raises:
        UnsupportedError: the device lacks the recipe's precision.
        UsageError: fewer images a step than processes, or no convolution that is not frozen.
        SqueezeEdgeError: the weights do not fit the network.
    """

    def __init__(
        self,
        recipe: Recipe,
        classes: int,
        world: World,
        trained: Mapping[str, Tensor] | None = None,
        form: Form | None = None,
        examples: Batch | None = None,
    ) -> None:
        if recipe.precision == "float16" and world.device.type == "cpu":
            raise UnsupportedError("precision float16 needs a GPU; use bfloat16 on a processor")
        if recipe.batch_size < world.size:
            raise UsageError(
                f"batch_size {recipe.batch_size} is less than one image for each of {world.size} processes"
            )
        self.recipe = recipe
        self.classes = classes
        self.world = world
        self.form = form
        shape = (1, 3, 1, 1)
        preprocessing = recipe.input.preprocessing
        self.mean = torch.tensor(preprocessing.mean, device=world.device).reshape(shape)
        self.std = torch.tensor(preprocessing.std, device=world.device).reshape(shape)
        module = _network(recipe, classes, trained) if form is None else form.module.train()
        for layer in module.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = recipe.dropout
        memory = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.module = module.to(world.device, memory_format=memory)  # type: ignore[call-overload]
        normalized = recipe.batch_norm and form is None
        if normalized:
            assert examples is not None
            normalize(self.module, self._inputs(examples))
        self.average: AveragedModel | None = None
        if recipe.ema:
            mean = get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(self.module, multi_avg_fn=mean, use_buffers=normalized)
        self.optimizer = _optimizer(recipe, self.module)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=recipe.precision == "float16")
        self.network: nn.Module = self.module
        if world.size > 1:
            devices = [world.device] if world.device.type == "cuda" else None
            self.network = DistributedDataParallel(self.module, devices)

    def step(self, batch: Batch, factor: float) -> Step:
        """Learn one batch.

        Args:
            batch: this process's images.
            factor: of the recipe's learning rate.

        Returns:
            What was measured before the weights changed.
        """
        recipe, device = self.recipe, self.world.device
        for group in self.optimizer.param_groups:
            group["lr"] = group["highest"] * factor
        torch.manual_seed(batch.seed)  # dropout; there is no state of random numbers to go on from
        labels = batch.labels.to(device, non_blocking=True)
        dtype = getattr(torch, recipe.precision)
        with torch.autocast(device.type, dtype, enabled=recipe.precision != "float32"):
            answers = self.network(self._inputs(batch)).float()
        losses = functional.cross_entropy(answers, labels, label_smoothing=recipe.label_smoothing, reduction="sum")
        # The mean over the images of all processes: gradients are averaged over the processes.
        loss = losses * (self.world.size / batch.total)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if recipe.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.module.parameters(), recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.module)
        return Step(losses.item(), (answers.argmax(1) == labels).sum().item(), len(labels))

    def network_for_use(self) -> nn.Module:
        """A copy of the network (its average if there is one) in evaluation mode.

        Its weights are as they are stored: those of the recipe's network are rounded (:func:`as_stored`).

        Raises:
            SqueezeEdgeError: they are not finite.
        """
        source = self.module if self.average is None else self.average.module
        if self.form is not None:
            for tensor in source.state_dict().values():
                check_finite(tensor)
            return copy.deepcopy(source).eval()
        module = build(self.recipe.network, self.classes).to(self.world.device)
        weights = {name: as_stored(tensor).float() for name, tensor in folded_weights(source).items()}
        load_weights(module, weights, "weights")
        return module.eval()

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the state by name."""
        result = {f"model.{name}": tensor for name, tensor in self.module.state_dict().items()}
        if self.average is not None:
            result |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        for name, parameter in self.module.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if value is not None:
                    result[f"optimizer.{key}.{name}"] = value
        return result

    def load(self, tensors: Mapping[str, Tensor], scaler: Mapping[str, Any], file_name: str) -> None:
        """Go on from what :meth:`tensors` and ``scaler.state_dict()`` gave.

        Raises:
            CorruptFileError: they are not of this network and recipe.
        """
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts.get(part, {})[rest] = tensor
        moments: dict[int, dict[str, Tensor]] = {}
        parameters = dict(self.module.named_parameters())
        # The optimizer numbers its parameters in the order of its groups.
        order = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        number = {id(parameter): index for index, parameter in enumerate(order)}
        try:
            for key, tensor in parts["optimizer"].items():
                moment, _, name = key.partition(".")
                if tensor.ndim and tensor.shape != parameters[name].shape:
                    raise ValueError(f"{key} is of shape {list(tensor.shape)}")
                moments.setdefault(number[id(parameters[name])], {})[moment] = tensor
            self.module.load_state_dict(parts["model"])
            if self.average is not None:
                self.average.load_state_dict(parts["average"])
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
            self.scaler.load_state_dict(dict(scaler))
        except (RuntimeError, LookupError, ValueError) as failure:
            raise CorruptFileError(f"{file_name}: does not fit the recipe's network: {failure}") from failure

    def _inputs(self, batch: Batch) -> Tensor:
        """Normalized float32 [n, 3, size, size], in the recipe's memory format."""
        images = batch.images.to(self.world.device, non_blocking=True).float()
        if images.shape[-1] != batch.size:
            images = functional.interpolate(images, (batch.size, batch.size), mode="bilinear", antialias=True)
        memory = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        return ((images / 255 - self.mean) / self.std).contiguous(memory_format=memory)


def _network(recipe: Recipe, classes: int, trained: Mapping[str, Tensor] | None) -> nn.Module:
    """The recipe's network with the weights that it starts from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        module = build(recipe.network, classes).train()
        _start_classes(module, recipe)
    if trained is not None:
        load_weights(module, {**module.state_dict(), **trained}, "weights")
    convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    if recipe.frozen >= len(convolutions):
        raise UsageError(f"frozen = {recipe.frozen}: {recipe.network} has {len(convolutions)} convolutions in all")
    for layer in convolutions[: recipe.frozen]:
        layer.requires_grad_(False)  # so nothing is computed backwards through them
    return module


def _start_classes(module: nn.Module, recipe: Recipe) -> None:
    """Start the last convolution's biases at 1, and its weights at 0 where the others are trained.

    SqueezeNet rectifies its class scores, so a class whose scores are negative everywhere gets no gradient and is
    never learned. Trained features are so large that random weights on them give losses near 10, whose gradients spoil
    them; 0 is what Kolesnikov et al. ("Big Transfer", 2020) start from.
    """
    *_, last = (layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    assert last.bias is not None
    nn.init.ones_(last.bias)
    if recipe.start == "trained":
        nn.init.zeros_(last.weight)


def _optimizer(recipe: Recipe, module: nn.Module) -> TorchOptimizer:
    """The optimizer; where a run starts from a trained network, only the last convolution is new."""
    options = recipe.optimizer
    new: list[nn.Parameter] = []
    loaded: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        (loaded if recipe.start == "trained" and not name.startswith(LAST) else new).append(parameter)
    rates = [options.learning_rate, options.learning_rate * options.loaded_rate]
    groups = [{"params": p, "highest": rate} for p, rate in zip((new, loaded), rates, strict=True) if p]
    rate, decay = options.learning_rate, options.weight_decay
    if options.name == "adamw":
        return AdamW(groups, rate, betas=(options.momentum, 0.999), weight_decay=decay)
    return SGD(groups, rate, momentum=options.momentum, weight_decay=decay, nesterov=options.nesterov)
