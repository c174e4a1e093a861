"""What the passes share: who reads what, new names and nodes, and channels by group."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import count
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph.float.graph import FloatConv, FloatNode

__all__ = ["fresh_name", "identity_conv", "of_kind", "per_output", "pointwise_conv", "readers", "rewired"]

Kind = TypeVar("Kind")
Value = TypeVar("Value", bound=np.generic)


def of_kind(nodes: Iterable[object], kind: type[Kind]) -> list[Kind]:
    """The nodes of one kind, in their order."""
    return [node for node in nodes if isinstance(node, kind)]


def readers(nodes: Iterable[FloatNode]) -> dict[str, list[FloatNode]]:
    """The nodes that read each tensor, in execution order; one that reads it twice is there twice."""
    found: dict[str, list[FloatNode]] = {}
    for node in nodes:
        found.setdefault(node.name, [])
        for name in node.inputs:
            found.setdefault(name, []).append(node)
    return found


def rewired(node: FloatNode, alias: Mapping[str, str]) -> FloatNode:
    """The node with its inputs replaced: ``alias`` maps old names to new ones."""
    return replace(node, inputs=tuple(alias[name] for name in node.inputs))  # type: ignore[arg-type]


def fresh_name(wanted: str, taken: Collection[str]) -> str:
    """``wanted``, with a number behind it if that name is taken."""
    if wanted not in taken:
        return wanted
    return next(name for number in count(2) if (name := f"{wanted}_{number}") not in taken)


def pointwise_conv(name: str, source: str, weight: np.ndarray, bias: np.ndarray) -> FloatConv:
    """A 1x1 convolution; weight [out, in] and bias [out] of any floating-point type."""
    return FloatConv(
        name,
        (source,),
        np.ascontiguousarray(weight[:, :, None, None], np.float32),
        np.ascontiguousarray(bias, np.float32),
        (1, 1),
        (0, 0, 0, 0),
    )


def identity_conv(name: str, source: str, channels: int) -> FloatConv:
    """A 1x1 convolution of each channel on its own that copies it, for a scale and zero point of its own."""
    weight, bias = np.ones((channels, 1, 1, 1), np.float32), np.zeros(channels, np.float32)
    return FloatConv(name, (source,), weight, bias, (1, 1), (0, 0, 0, 0), groups=channels)


def per_output(values: NDArray[Value], out: int, groups: int) -> NDArray[Value]:
    """What each output channel of a convolution sees of its input channels' values.

    Args:
        values: [in], one for each input channel.
        out: output channels.
        groups: of the convolution.

    Returns:
        [out, in / groups].
    """
    return values.reshape(groups, -1).repeat(out // groups, 0)
