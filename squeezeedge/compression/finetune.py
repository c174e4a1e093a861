"""Fine-tuning of a compressed graph, through its own integer arithmetic, towards the logits of the float network.

The loss is that of distillation (Hinton et al., arXiv:1503.02531): the divergence of the softened outputs, on any
images, labelled or not. Scales, shifts and steps stay. Weights that are 0 stay 0, as these keep the file small.
:class:`squeezeedge.quantization.qat.QatNetwork` rounds in the forward pass and lets gradients through. Learning rates
are in steps of each layer's integers, which are large in a compressed graph.

Guarantees: every graph that is yielded is an ordinary integer graph. The caller chooses which one to keep, by images
that were not learned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from squeezeedge.calib.selection import Selection
from squeezeedge.compression.judge import graph_logits
from squeezeedge.errors import UsageError, counted
from squeezeedge.evaluation.metrics import agreement
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.float.run import run_float
from squeezeedge.model import Model
from squeezeedge.quantization.qat import QatNetwork

__all__ = ["Finetuning", "Lesson", "Quality", "divergence", "finetune", "finetuned", "more_images"]

FEWEST, MOST = 12, 4096
"""Fewest and most images, beside those to calibrate on, for fine-tuning and for judging it."""
JUDGED = 4
"""One image in this many judges."""
PART = 64
"""Images that the float network answers at a time."""
BATCH = 16
TEMPERATURE = 2.0
RATE = 0.02
"""Initial learning rate of the weights, in steps of their integers; it decays to 0."""
BIAS_RATE = 0.02
"""Initial learning rate of the biases, in units of the output's codes; it decays to 0."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """Images and the answers to learn.

    Attributes:
        pixels: uint8 [N, H, W, 3].
        reference: the float network's logits, float32 [N, classes].
    """

    pixels: NDArray[np.uint8]
    reference: NDArray[np.float32]

    @classmethod
    def of(cls, model: Model, images: Selection, on_decode: Callable[[int], None], *, strict: bool) -> Lesson:
        """Decode images and compute their answers; unreadable ones are left out unless ``strict``."""
        return cls.answered(model, images.readable(model.preprocessing, on_decode, strict=strict)[1])

    @classmethod
    def answered(cls, model: Model, pixels: NDArray[np.uint8]) -> Lesson:
        """Images with the answers of the model's float graph."""
        assert model.floating is not None
        parts = (model.preprocessing.normalize(pixels[at : at + PART]) for at in range(0, len(pixels), PART))
        return cls(pixels, np.concatenate([run_float(model.floating, part) for part in parts]))

    def joined(self, other: Lesson) -> Lesson:
        """Both together."""
        pixels, reference = (self.pixels, other.pixels), (self.reference, other.reference)
        return Lesson(np.concatenate(pixels), np.concatenate(reference))


class Quality(NamedTuple):
    """Of one graph, on images that were not learned.

    Attributes:
        bytes: of its file.
        divergence: from the float network, see :func:`divergence`.
        agreement: percentage of the images on which it gives the float network's class.
    """

    bytes: int
    divergence: float
    agreement: float


@dataclass(frozen=True)
class Finetuning:
    """What training on did to images that were not learned.

    Attributes:
        learned: how many images were.
        judged: how many others judge.
        kept: whether the trained graph is kept. It must be small enough; on the judging images it must be nearer to the
            float network, and agree with it at least as often.
        before: the graph before training.
        after: the graph of the best epoch that could be kept; if there is none, of the last epoch.
    """

    learned: int
    judged: int
    kept: bool
    before: Quality
    after: Quality

    def __str__(self) -> str:
        """One sentence without an end."""
        said = ", ".join(
            f"{name} {old:{form}} -> {new:{form}}"
            for name, form, old, new in zip(
                ("bytes", "divergence from fp32", "agreement with it in %"),
                (",", ".4f", ".1f"),
                self.before,
                self.after,
                strict=True,
            )
        )
        begin = "fine-tuned" if self.kept else "fine-tuning did not help, so the graph before it is kept"
        return f"{begin}: on {self.judged} images that were not learned, {said}"

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return vars(self) | {"before": self.before._asdict(), "after": self.after._asdict()}


def more_images(chosen: Selection) -> tuple[Selection, Selection]:
    """Images to learn, and others to judge by, of those that were not chosen to calibrate on.

    Raises:
        UsageError: there are too few.
    """
    spare = chosen.spare[:MOST]
    if len(spare) < FEWEST:
        raise UsageError(
            f"{chosen.dataset.name}: has {counted(len(spare), 'image')} beside the {len(chosen)} to calibrate on, and "
            f"fine-tuning needs at least {FEWEST}: give more images, calibrate on fewer, or do not fine-tune"
        )
    judging, learned = (
        replace(chosen, indices=np.sort(part), unreadable=(), spare=spare[:0], replaced=0)
        for part in np.split(spare, [len(spare) // JUDGED])
    )
    return learned, judging


def finetune(
    graph: IntegerGraph,
    learned: Lesson,
    judged: Lesson,
    size: Callable[[IntegerGraph], int],
    most_bytes: int,
    *,
    epochs: int,
    seed: int = 0,
    on_step: Callable[[str, int, int], None] = lambda name, index, total: None,
) -> tuple[IntegerGraph, Finetuning]:
    """Train a graph on, and keep what is better on other images.

    Args:
        graph: the compressed graph.
        learned: what is learned.
        judged: other images, to judge by.
        size: bytes of a graph's file.
        most_bytes: that it may have.
        epochs: how often each image is seen.
        seed: of their order.
        on_step: as for :func:`finetuned`.

    Returns:
        The better graph, perhaps ``graph`` itself, and what was found.
    """

    def measured(of: IntegerGraph) -> Quality:
        logits = graph_logits(of, judged.pixels)
        return Quality(size(of), divergence(judged.reference, logits), agreement(logits, judged.reference))

    before = measured(graph)
    tried = [
        (trained, measured(trained)) for trained in finetuned(graph, learned, epochs=epochs, seed=seed, on_step=on_step)
    ]
    fitting = [each for each in tried if each[1].bytes <= most_bytes and each[1].agreement >= before.agreement]
    chosen, after = min(fitting, key=lambda each: each[1].divergence) if fitting else tried[-1]
    kept = bool(fitting) and after.divergence < before.divergence
    return chosen if kept else graph, Finetuning(len(learned.pixels), len(judged.pixels), kept, before, after)


def divergence(reference: NDArray[np.float32], logits: NDArray[np.float32]) -> float:
    """Mean divergence (Kullback and Leibler) of the classes' softened probabilities from the reference's.

    Args:
        reference: float32 [N, classes].
        logits: float32 [N, classes].
    """
    return float(_loss(torch.from_numpy(reference).double(), torch.from_numpy(logits).double()))


def finetuned(
    graph: IntegerGraph,
    lesson: Lesson,
    *,
    epochs: int,
    seed: int = 0,
    on_step: Callable[[str, int, int], None] = lambda name, index, total: None,
) -> Iterator[IntegerGraph]:
    """Train a graph; yields it after each epoch.

    Args:
        graph: where training starts from.
        lesson: what is learned.
        epochs: how often each image is seen.
        seed: of their order.
        on_step: called with ("batch", index, total) before each step.
    """
    network = QatNetwork(graph)
    network.eval()  # exactly what devices compute, without dropout
    groups = []
    for layer in network.layer_of.values():
        used = layer.codes().weight.detach() != 0
        layer.weight.register_hook(_kept(used))  # type: ignore[no-untyped-call]
        step = 1 / layer.gain.flatten()
        groups.append({"params": [layer.weight], "lr": RATE * float(step[step > 0].median())})
        unit = layer.step * torch.exp2(layer.shift.double())
        groups.append({"params": [layer.bias], "lr": BIAS_RATE * float(unit.median())})
    optimizer = torch.optim.Adam(groups)
    starts = range(0, len(lesson.pixels), BATCH)
    total = epochs * len(starts)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: (1 + math.cos(math.pi * done / total)) / 2)
    random = np.random.default_rng(seed)
    for epoch in range(epochs):
        order = random.permutation(len(lesson.pixels))
        for index, start in enumerate(starts):
            on_step("batch", epoch * len(starts) + index, total)
            chosen = order[start : start + BATCH]
            images = torch.from_numpy(lesson.pixels[chosen]).permute(0, 3, 1, 2).float()
            optimizer.zero_grad()
            logits = network.class_sums(images).float() * network.scale
            _loss(torch.from_numpy(lesson.reference[chosen]), logits).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        yield network.integer_graph()


def _kept(used: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient * used


def _loss(reference: Tensor, logits: Tensor) -> Tensor:
    aims, found = (F.log_softmax(values / TEMPERATURE, 1) for values in (reference, logits))
    return TEMPERATURE**2 * F.kl_div(found, aims, reduction="batchmean", log_target=True)
