"""The layers that a walk over an ONNX graph has met: float operators that read channels by number.

A step is a node of the float graph whose inputs are lists of channel numbers instead of whole tensors;
:mod:`channels` turns them into tensors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.float.graph import (
    IMAGE,
    FloatAdd,
    FloatAveragePool,
    FloatMaxPool,
    FloatNode,
    FloatRelu,
    output_shape,
)
from squeezeedge.graph.importers.onnx.values import Ids, Value
from squeezeedge.graph.rules import Shape

__all__ = ["ZERO", "Step", "Steps"]

ZERO = -1
"""In place of a channel's number: a channel of zeros."""

MAX_CHANNELS = 1 << 24
"""That all layers may read together."""

_KEEP_SIGN = (FloatMaxPool, FloatAveragePool, FloatAdd)
"""Operators that make no negatives of what has none."""


@dataclass(frozen=True, eq=False)
class Step:
    """One layer.

    Attributes:
        node: what it computes; what its ``inputs`` say is not looked at.
        sources: the channels of each of its inputs, in order, int64 [channels].
        first: number of the first channel that it makes.
        shape: of what it makes.
        loose: whether it is constant arithmetic that an exporter wrote as operators of its own, to be folded.
    """

    node: FloatNode
    sources: tuple[Ids, ...]
    first: int
    shape: Shape
    loose: bool = False

    @property
    def made(self) -> Ids:
        """The channels that it makes."""
        return np.arange(self.first, self.first + self.shape.channels)


class Steps:
    """Grows the list.

    Attributes:
        size: (height, width) of the image, whose channels are 0, 1 and 2.
        steps: so far, in execution order.
        joined: concatenations: (channels, name of the node that joined them, number of the next channel then).
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.steps: list[Step] = []
        self.joined: list[tuple[Ids, str, int]] = []
        self._next, self._left = 3, MAX_CHANNELS
        self._names: Counter[str] = Counter({IMAGE: 1})
        self._firsts: list[int] = []
        self._nonnegative: list[bool] = []

    def join(self, ids: Ids, name: str) -> None:
        """Write a concatenation down; it becomes a layer where one reads it whole."""
        self.joined.append((ids, name, self._next))

    def unique(self, wanted: str) -> str:
        """``wanted`` made printable, with a number behind it if a layer has that name already."""
        base = name = "".join(letter if letter.isprintable() else "_" for letter in wanted) or "node"
        while name in self._names:
            name = f"{base}_{self._names[base]}"
            self._names[base] += 1
        self._names[name] += 1
        return name

    def append(
        self, node: FloatNode, sources: Sequence[Value | Ids], size: tuple[int, int], *, loose: bool = False
    ) -> Ids:
        """Add a layer.

        Args:
            node: the layer.
            sources: the channels that it reads.
            size: (height, width) of these.
            loose: see :class:`Step`.

        Returns:
            The channels that it makes.

        Raises:
            UnsupportedError: it does not fit them.
        """
        self._left -= sum(source.size if isinstance(source, np.ndarray) else source.ids.size for source in sources)
        if self._left < 0:
            raise UnsupportedError(f"{node.name}: the layers up to here read more than {MAX_CHANNELS} channels")
        ids = [source.channels if isinstance(source, Value) else source for source in sources]
        shape = output_shape(node, [Shape(*size, len(channels)) for channels in ids])
        step = Step(node, tuple(ids), self._next, shape, loose)
        keeps = isinstance(node, _KEEP_SIGN) and all(self.nonnegative(channels) for channels in ids)
        self.steps.append(step)
        self._nonnegative.append(keeps or isinstance(node, FloatRelu))
        self._firsts.append(step.first)
        self._next += shape.channels
        return step.made

    def maker(self, channel: int) -> Step | None:
        """The layer that makes a channel; nothing for the image and for zeros."""
        if channel < 3:
            return None
        return self.steps[int(np.searchsorted(self._firsts, channel, "right")) - 1]

    def nonnegative(self, channels: Ids) -> bool:
        """Whether these channels are known to have no negatives."""
        known = channels[channels != ZERO]
        places = set(np.searchsorted(self._firsts, known, "right").tolist())
        return all(place > 0 and self._nonnegative[place - 1] for place in places)
