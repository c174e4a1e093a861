"""The passes over the float graph, in their order: what the quantization and the training of its result start from."""

from __future__ import annotations

from collections.abc import Callable

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.graph.float.graph import FloatGraph
from squeezeedge.quantization.average_convolution import average_convolution
from squeezeedge.quantization.convolution_head import convolution_head
from squeezeedge.quantization.fold import fold
from squeezeedge.quantization.fold_batch_norm import fold_batch_norm
from squeezeedge.quantization.folded import FoldedGraph
from squeezeedge.quantization.place_relu import place_relu

__all__ = ["FLOAT_PASSES", "folded_graph"]

FLOAT_PASSES: tuple[Callable[[FloatGraph], FloatGraph], ...] = (
    average_convolution,
    fold_batch_norm,
    convolution_head,
    place_relu,
)
"""Each keeps the function, and assumes what those before it guarantee."""


def folded_graph(floating: FloatGraph, preprocessing: Preprocessing) -> FoldedGraph:
    """All passes, then :func:`~squeezeedge.quantization.fold.fold`.

    Args:
        floating: the float graph, as it was imported; its input is normalized.
        preprocessing: mean and standard deviation of that normalization.

    Raises:
        UnsupportedError: the network cannot be expressed; the text names the node.
    """
    for change in FLOAT_PASSES:
        floating = change(floating)
    return fold(floating, preprocessing)
