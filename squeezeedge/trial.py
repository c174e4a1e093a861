"""Is the preprocessing right? Where fp32 is right on few labelled images, the usual preprocessings are tried on them.

A network is suspect if fp32 is right on too few of up to :data:`IMAGES` labelled images: the upper Clopper-Pearson
bound of its accuracy is below :data:`LEAST` of the way from chance to all. It is also suspect if the first
convolution's ReLU, or its limit, cuts nearly all activations.

If fp32 is above chance at the level :data:`ALPHA`, the network may simply be poor. Then it is reported only if another
preprocessing is clearly better.

Another preprocessing is called better only if, at the level :data:`LEVEL` divided by the number of those tried,

- it is above chance: how often its answers and the labels would agree if they were shuffled. So a network that answers
  one class only, or images of one class only, prove nothing; and
- the images that it alone is right on outnumber those that the present one alone is right on (sign test); and
- its accuracy is at least :data:`LEAST` of the way from chance to all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from squeezeedge.calib.preprocess import IMAGENET, Preprocessing
from squeezeedge.calib.statement import (
    ASSUMED,
    ONE,
    PLAIN,
    ZERO,
    ChannelOrder,
    NetworkInput,
    Resolved,
    Statement,
    Triple,
    of_preset,
    resolve,
)
from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.graph.float.graph import FloatConv, FloatGraph, FloatRelu

__all__ = ["IMAGES", "Answer", "Reading", "Suspicion", "Tried", "is_low", "suspicion"]

IMAGES = 64
ALPHA = 1e-3
LEVEL = 1e-2
LEAST = 0.25
FEW = 8
"""Images that are tried at a time; the first ones suffice to clear a network that works."""
NEARLY_ALL = 0.99

Answer = Callable[[Preprocessing, NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Reading:
    """A float network whose preprocessing can be chosen anew.

    Attributes:
        answer: (normalization, uint8 [N, H, W, 3]) -> float32 [N, classes].
        floating: its graph; ``None``: not known.
        network: what its file does with its input.
    """

    answer: Answer
    floating: FloatGraph | None
    network: NetworkInput = PLAIN


@dataclass(frozen=True)
class Tried:
    """A preprocessing that was tried.

    Attributes:
        name: for people.
        arguments: those of :func:`squeezeedge.load` that choose it.
        right: images that the network is right on.
    """

    name: str
    arguments: str
    right: int


@dataclass(frozen=True)
class Suspicion:
    """Why a preprocessing is suspect, and what came of others.

    Attributes:
        reason: one clause.
        images: on how many images others were tried; 0 where there were no labels.
        right: of these, those that the present one is right on.
        tried: others, the best one first.
        better: whether the first of them is clearly better; see the module.
    """

    reason: str
    images: int = 0
    right: int = 0
    tried: tuple[Tried, ...] = ()
    better: bool = False

    def __str__(self) -> str:
        """A sentence, and a table where something was tried."""
        if not self.tried:
            return f"{self.reason}; check the preprocessing (`mean`, `std`, `scale`, `channel_order`)"
        best = self.tried[0]
        if self.better:
            sentence = f"{self.reason}; the preprocessing is the suspect: with {best.name} it is right on "
            sentence += f"{best.right} of {self.images}; give {best.arguments}"
        else:
            sentence = f"{self.reason}; none of the usual preprocessings is clearly better, so the weights, the order "
            sentence += "of the classes and the images are as suspect"
        rows = [("as it is", self.right, ""), *((one.name, one.right, one.arguments) for one in self.tried)]
        width = max(len(name) for name, _, _ in rows)
        lines = [
            f"  {name:{width}}  {100 * right / self.images:5.1f} %  {arguments}".rstrip()
            for name, right, arguments in rows
        ]
        return "\n".join([sentence, *lines])

    def to_json(self) -> dict[str, Any]:
        """JSON values; accuracies in percent."""

        def percent(right: int) -> float | None:
            return 100 * right / self.images if self.images else None

        return {
            "reason": self.reason,
            "images": self.images,
            "top1": percent(self.right),
            "better": self.tried[0].name if self.better else None,
            "tried": [{"name": one.name, "options": one.arguments, "top1": percent(one.right)} for one in self.tried],
        }


def is_low(right: int, images: int, classes: int) -> bool:
    """Whether so many right answers are too few for a network that works; see the module."""
    chance = 1 / classes
    low = chance + LEAST * (1 - chance)
    return 1 - _tail(right + 1, images, low) < LEVEL  # P(X <= right) where the accuracy is ``low``


def suspicion(
    reading: Reading, present: Resolved, pixels: NDArray[np.uint8], labels: NDArray[np.int64] | None, classes: int
) -> Suspicion | None:
    """Look for signs of a wrong preprocessing, and for a better one.

    Args:
        reading: the network.
        present: its preprocessing.
        pixels: uint8 [N, H, W, 3], scaled and cropped; the first :data:`IMAGES` are used.
        labels: int64 [N]; ``None``: not known.
        classes: of the network.

    Returns:
        ``None`` where there is no such sign.

    Raises:
        SqueezeEdgeError: the network computes values that are not finite.
    """
    pixels = pixels[:IMAGES]
    reason = _first_activations(reading, present, pixels[:FEW])
    if labels is None or not len(pixels):
        return None if reason is None else Suspicion(reason)
    labels = labels[: len(pixels)]
    right = np.zeros(len(pixels), bool)
    for start in range(0, len(pixels), FEW):
        end = start + FEW
        right[start:end] = reading.answer(present.preprocessing, pixels[start:end]).argmax(1) == labels[start:end]
        if right[:end].mean() > 0.5 + 0.5 / classes:
            return None
    total = int(right.sum())
    by_chance = _tail(total, len(labels), 1 / classes) >= ALPHA
    only_if_better = reason is None and not by_chance
    if not is_low(total, len(labels), classes) and (reason is None or not by_chance):
        return None
    if reason is None:
        what = f"no more than chance ({classes} classes)" if by_chance else "which is few"
        reason = f"fp32 is right on {total} of {len(labels)} labelled images, {what}"
    answers = {
        name: (arguments, _answers(reading, present, other, pixels))
        for name, arguments, other in _usual(reading, present)
    }
    tried = [Tried(name, arguments, int((found == labels).sum())) for name, (arguments, found) in answers.items()]
    tried.sort(key=lambda one: -one.right)
    better = _clearly_better(answers[tried[0].name][1], labels, right, classes, len(tried))
    if only_if_better and not better:
        return None
    return Suspicion(reason, len(labels), total, tuple(tried), better)


def _clearly_better(
    answers: NDArray[np.int64], labels: NDArray[np.int64], before: NDArray[np.bool_], classes: int, tried: int
) -> bool:
    after = answers == labels
    count, level = int(after.sum()), LEVEL / tried
    given = np.bincount(answers[answers >= 0], minlength=classes)
    dealt = given @ np.bincount(labels, minlength=classes) / len(labels) ** 2
    chance = max(1 / classes, float(dealt))
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    return (
        _tail(count, len(labels), chance) < level
        and _tail(gained, gained + lost, 0.5) < level
        and count >= len(labels) * (chance + LEAST * (1 - chance))
    )


def _answers(reading: Reading, present: Resolved, other: Resolved, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Classes under another preprocessing, by the network as it was loaded for the present one: int64 [N]."""
    preprocessing = other.preprocessing
    if other.channel_order != present.channel_order:  # what was loaded for one order gets the channels in the other
        pixels = pixels[..., ::-1]
        preprocessing = Preprocessing(
            preprocessing.size, preprocessing.resize, preprocessing.mean[::-1], preprocessing.std[::-1]
        )
    try:
        answers: NDArray[np.int64] = reading.answer(preprocessing, pixels).argmax(1)
        return answers
    except SqueezeEdgeError:  # its values are not finite
        return np.full(len(pixels), -1)


def _usual(reading: Reading, present: Resolved) -> Iterator[tuple[str, str, Resolved]]:
    """(name, arguments, preprocessing) of the usual ones, without the present one."""
    gray = present.channel_order == "gray"
    orders: tuple[ChannelOrder, ...] = ("gray",) if gray else ("rgb", "bgr")
    for name, mean, std, scale in _normalizations(gray):
        for order in orders:
            in_order = [(z, y, x) if order == "bgr" else (x, y, z) for x, y, z in (mean, std)]
            stated = Statement(in_order[0], in_order[1], scale, order)
            base = of_preset(Preprocessing(present.preprocessing.size, present.preprocessing.resize), ASSUMED)
            other = resolve(stated, base, reading.network)
            same = np.allclose(
                [other.preprocessing.mean, other.preprocessing.std],
                [present.preprocessing.mean, present.preprocessing.std],
                rtol=0.02,
                atol=0.02 * min(present.preprocessing.std),
            )
            if same and order == present.channel_order:
                continue
            means, stds = map(_listed, in_order)
            unit = "1" if scale == 1 else "1/255"
            arguments = f"`mean` {means} `std` {stds} `scale` {unit} `channel_order` {order}"
            yield f"{name} {'Gray' if gray else order.upper()}", arguments, other


def _listed(values: Triple) -> str:
    return ",".join(f"{value:g}" for value in (values if len({*values}) > 1 else values[:1]))


def _normalizations(gray: bool) -> Iterator[tuple[str, Triple, Triple, float]]:
    """(name, mean, std, scale) by colour: R, G, B."""
    unit, half = 1 / 255, (0.5, 0.5, 0.5)
    if gray:
        yield "ImageNet", (0.449, 0.449, 0.449), (0.226, 0.226, 0.226), unit
    else:
        yield "ImageNet", IMAGENET.mean, IMAGENET.std, unit
        yield "Caffe", (123.0, 117.0, 104.0), ONE, 1
    yield "[0, 1]", ZERO, ONE, unit
    yield "[-1, 1]", half, half, unit
    yield "0..255", ZERO, ONE, 1


def _first_activations(reading: Reading, present: Resolved, pixels: NDArray[np.uint8]) -> str | None:
    """A clause where nearly nothing of the images gets through the first convolution's ReLU."""
    if reading.floating is None:
        return None
    nodes = reading.floating.nodes
    convolution = next((node for node in nodes if isinstance(node, FloatConv)), None)
    if convolution is None or not len(pixels):
        return None
    relu = next((n for n in nodes if isinstance(n, FloatRelu) and _follows(reading.floating, n, convolution)), None)
    if relu is None:
        return None
    import torch

    from squeezeedge.graph.float.run import execute_float

    x = torch.from_numpy(present.preprocessing.normalize(pixels))
    values = next(value for name, value in execute_float(reading.floating, x) if name == relu.name)
    cut = float((values <= 0).float().mean())
    limited = float((values >= relu.limit).float().mean()) if math.isfinite(relu.limit) else 0.0
    for share, what in ((cut, "is cut by its ReLU"), (limited, f"reaches its limit of {relu.limit:g}")):
        if share >= NEARLY_ALL:
            return f"{100 * share:.1f} % of what {convolution.name}, the first convolution, makes of the images {what}"
    return None


def _follows(graph: FloatGraph, relu: FloatRelu, convolution: FloatConv) -> bool:
    """Whether a ReLU is of this convolution, maybe behind a batch normalization."""
    by_name = {node.name: node for node in graph.nodes}
    source = relu.inputs[0]
    for _ in range(2):
        if source == convolution.name:
            return True
        if source not in by_name or len(by_name[source].inputs) != 1:
            return False
        source = by_name[source].inputs[0]
    return False


def _tail(count: int, of: int, chance: float) -> float:
    """P(X >= count) of a binomial distribution."""
    return float(bdtrc(count - 1, of, chance))
