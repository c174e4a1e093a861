"""What the writers of other toolkits' files need of a float network: its layers with their ReLUs, and their ranges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from squeezeedge.graph.float.graph import IMAGE, FloatGraph, FloatNode, FloatRelu
from squeezeedge.graph.float.run import execute_float

__all__ = ["Layer", "fused", "largest_values"]


@dataclass(frozen=True)
class Layer:
    """An operator and the ReLU behind it.

    Attributes:
        node: the operator.
        name: of the tensor that both make: the ReLU's, if there is one.
        inputs: the tensors that it reads.
        limit: the ReLU's limit; ``None``: there is none.
    """

    node: FloatNode
    name: str
    inputs: tuple[str, ...]
    limit: float | None


def fused(graph: FloatGraph) -> list[Layer]:
    """The layers in execution order; a ReLU belongs to the operator that it follows, if nothing else reads that."""
    readers: dict[str, list[FloatNode]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    layers = []
    taken: set[str] = set()
    for node in graph.nodes:
        if node.name in taken:
            continue
        name, limit = node.name, None
        following = readers.get(name, [])
        if len(following) == 1 and isinstance(following[0], FloatRelu):
            name, limit = following[0].name, following[0].limit
            taken.add(name)
        layers.append(Layer(node, name, tuple(node.inputs), limit))
    return layers


def largest_values(graph: FloatGraph, images: NDArray[np.float32]) -> dict[str, float]:
    """Tensor -> its largest absolute value; images: normalized, float32 [N, 3, H, W]."""
    largest = {IMAGE: float(np.abs(images).max())}
    for image in images:
        for name, value in execute_float(graph, torch.from_numpy(image[None])):
            largest[name] = max(largest.get(name, 0.0), float(value.abs().max()))
    return largest
