"""Float graphs of an image whose channels come in another order, or with the other sign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from squeezeedge.graph.float.graph import IMAGE, FloatConv, FloatGraph, FloatNode

__all__ = ["with_channels"]


def with_channels(graph: FloatGraph, order: Sequence[int], signs: Sequence[float] = (1, 1, 1)) -> FloatGraph:
    """The same network for an image whose channel ``order[c]``, times ``signs[c]``, is what was channel c.

    The weights of the convolutions that read the image change places; all else that reads it (grouped convolutions,
    too) reads a 1x1 convolution of it. Both are exact.

    Args:
        graph: the network.
        order: of the three channels, a permutation.
        signs: 1 or -1 each.
    """
    if list(order) == [0, 1, 2] and all(sign == 1 for sign in signs):
        return graph
    mixing = np.zeros((3, 3), np.float32)  # [old, new]
    mixing[np.arange(3), list(order)] = signs
    copied, nodes = False, list[FloatNode]()
    name = next(
        text for text in ("image.channels", *map("image.channels{}".format, range(99))) if text not in graph.shapes
    )
    for node in graph.nodes:
        if isinstance(node, FloatConv) and node.inputs == (IMAGE,) and node.groups == 1:
            weight = np.einsum("oikl,ij->ojkl", node.weight, mixing)  # a sum of one term: exact
            nodes.append(replace(node, weight=np.ascontiguousarray(weight)))
        elif IMAGE in node.inputs:
            copied = True
            inputs = tuple(name if source == IMAGE else source for source in node.inputs)
            nodes.append(replace(node, inputs=inputs))  # type: ignore[arg-type]
        else:
            nodes.append(node)
    if copied:
        nodes.insert(0, FloatConv(name, (IMAGE,), mixing[:, :, None, None], np.zeros(3, np.float32), (1, 1), (0,) * 4))
    return FloatGraph(graph.name, tuple(nodes), graph.input_size)
