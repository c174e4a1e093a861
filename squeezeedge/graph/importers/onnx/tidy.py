"""Arithmetic with constants that exporters write as operators of their own, folded into what is in front of it.

Arithmetic on the image becomes part of the preprocessing, exactly, where nothing reads the image without it. A bias or
a factor behind a convolution that nothing else reads becomes part of that convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph.float.graph import FloatBatchNorm, FloatConv
from squeezeedge.graph.importers.onnx.steps import Step
from squeezeedge.graph.importers.onnx.values import Ids

__all__ = ["Tidied", "tidied"]


@dataclass(frozen=True, eq=False)
class Tidied:
    """What is left.

    Attributes:
        steps: the layers.
        output: the channels of the answer.
        joined: as :class:`~squeezeedge.graph.importers.onnx.steps.Steps` has it.
        multiplier: float64 [3], of the image.
        offset: float64 [3], of the image.
        on_image: names of the nodes that became part of it.
        folded: names of the nodes that became part of a convolution.
    """

    steps: tuple[Step, ...]
    output: Ids
    joined: tuple[tuple[Ids, str, int], ...]
    multiplier: NDArray[np.float64]
    offset: NDArray[np.float64]
    on_image: tuple[str, ...]
    folded: tuple[str, ...]


def tidied(steps: Sequence[Step], output: Ids, joined: Sequence[tuple[Ids, str, int]]) -> Tidied:
    """Fold what can be folded; see the module."""
    count = 3 + sum(step.shape.channels for step in steps)
    reads = np.zeros(count, np.int64)
    for source in (*(source for step in _live(steps, output) for source in step.sources), output):
        np.add.at(reads, source[source >= 0], 1)
    alias = np.arange(-1, count)  # by number + 1: zeros stay zeros
    multiplier, offset = np.ones(3), np.zeros(3)
    on_image, folded = [], []
    left: list[Step] = []
    convs: dict[int, int] = {}
    for old in steps:
        step = replace(old, sources=tuple(alias[source + 1] for source in old.sources))
        source, norm = step.sources[0], step.node
        if isinstance(norm, FloatBatchNorm) and source.min() >= 0 and (reads[old.sources[0]] == 1).all():
            place = convs.get(int(source[0]))
            if source.max() < 3 and len(np.unique(source)) == len(source):
                multiplier[source] *= norm.multiplier
                offset[source] = offset[source] * norm.multiplier + norm.offset
                on_image.append(norm.name)
                alias[step.made + 1] = source
                continue
            if step.loose and place is not None and np.array_equal(left[place].made, source):
                conv = left[place].node
                assert isinstance(conv, FloatConv)
                left[place] = replace(left[place], node=_scaled(conv, norm))
                folded.append(norm.name)
                alias[step.made + 1] = source
                continue
        if isinstance(norm, FloatConv):
            convs[step.first] = len(left)
        left.append(step)
    return Tidied(
        tuple(left),
        alias[output + 1],
        tuple((alias[ids + 1], name, place) for ids, name, place in joined),
        multiplier,
        offset,
        tuple(on_image),
        tuple(folded),
    )


def _live(steps: Sequence[Step], output: Ids) -> list[Step]:
    """The layers that the answer depends on."""
    needed = np.zeros(3 + sum(step.shape.channels for step in steps), bool)
    needed[output[output >= 0]] = True
    live = []
    for step in reversed(steps):
        if needed[step.first : step.first + step.shape.channels].any():
            live.append(step)
            for source in step.sources:
                needed[source[source >= 0]] = True
    return live


def _scaled(conv: FloatConv, norm: FloatBatchNorm) -> FloatConv:
    """norm(conv(x)) as one convolution."""
    if (norm.multiplier == 1).all():
        return replace(conv, bias=conv.bias + norm.offset)
    factors = norm.multiplier.astype(np.float64)
    weight = (conv.weight * factors[:, None, None, None]).astype(np.float32)
    return replace(conv, weight=weight, bias=(conv.bias * factors + norm.offset).astype(np.float32))
