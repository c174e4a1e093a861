"""How far an integer graph is from fp32, layer by layer, and why: noise, saturation, and each layer's own share.

Both halves are measured on the same images: :mod:`.compare` puts the oracle's tensors beside those of fp32, and
:mod:`squeezeedge.quantization.attribution` makes the errors of one layer at a time in the float network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UsageError
from squeezeedge.evaluation.compare import compare_sides
from squeezeedge.evaluation.comparison import FloatComparison, FloatLayer
from squeezeedge.evaluation.sides import FP32, open_sides
from squeezeedge.loading import load_reference
from squeezeedge.model import Model
from squeezeedge.quantization.attribution import Attribution, LayerError, attribute

__all__ = ["LayerErrors", "measure_errors"]


@dataclass(frozen=True)
class LayerErrors:
    """What was measured.

    Attributes:
        beside: the layers' tensors beside those of fp32; its last layer are the logits.
        alone: the effect on the logits of each layer's errors alone, and of all together.
    """

    beside: FloatComparison
    alone: Attribution

    @property
    def layers(self) -> Mapping[str, tuple[FloatLayer, LayerError | None]]:
        """Name -> both; ``None`` for layers that neither round nor multiply, and so make no error."""
        alone = {layer.name: layer for layer in self.alone.layers}
        return {layer.name: (layer, alone.get(layer.name)) for layer in self.beside.layers}

    def to_json(self) -> dict[str, Any]:
        """JSON values of the whole network."""
        network = self.alone.network
        return {
            "images": self.beside.images,
            "changed": self.beside.changed,
            "attributed_on": self.alone.images,
            "logits": network.to_json() | {"shares": dict(network.shares)},
        }

    def layer_json(self, name: str) -> dict[str, Any]:
        """JSON values of a layer."""
        beside, alone = self.layers[name]
        values: dict[str, Any] = {
            "sqnr_db": beside.sqnr_db,
            "largest_error": beside.largest_error,
            "saturated": beside.saturated,
            "values": beside.values,
        }
        if alone is not None:
            values["alone"] = alone.to_json() | {"shares": dict(alone.shares)}
        return values


def measure_errors(
    model: Model,
    pixels: NDArray[np.uint8],
    *,
    weights: str | os.PathLike[str] | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
    on_layer: Callable[[str, int, int], None] = lambda name, index, total: None,
) -> LayerErrors:
    """Measure them on some images.

    Args:
        model: a quantized one; its float network is its own, or the one that its integer graph was made of.
        pixels: uint8 [N, height, width, 3], preprocessed.
        weights: the file that the integer graph was made of; ``None``: the embedded one, if it was made of that.
        on_image: called with the number of images done, and of all.
        on_layer: then called with (name, index, total) for each layer and each part of the images.

    Raises:
        UsageError: no images, the model is not quantized, or its float network is not known.
        SqueezeEdgeError: the weights are those of another network.
    """
    graph = model.integer
    if graph is None:
        raise UsageError(f"{model.name}: is not quantized; quantize it on some images first")
    if len(pixels) == 0:
        raise UsageError("no images to measure errors on")
    if model.floating is None or weights is not None:
        known = load_reference(graph, model.origin, weights)
        model = replace(model, floating=None if known is None else known.floating)
    with ExitStack() as stack:
        sides = open_sides(stack, model, FP32)
        beside = compare_sides(graph, sides, pixels, on_progress=on_image)
    assert isinstance(beside, FloatComparison) and model.floating is not None
    return LayerErrors(beside, attribute(model.floating, graph, pixels, on_layer=on_layer))
