"""Noise, saturation and where it comes from, on the same images; and that fp32 must be known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.errors import UsageError
from squeezeedge.evaluation.layer_errors import measure_errors
from squeezeedge.graph import rules
from squeezeedge.graph.oracle import execute
from squeezeedge.model import Model


@pytest.mark.slow
def test_both_halves(digits_model: Model, digits_pixels: NDArray[np.uint8]) -> None:
    graph, pixels = digits_model.integer, digits_model.golden
    assert graph is not None and pixels is not None
    images: list[tuple[int, int]] = []
    layers: list[tuple[str, int, int]] = []
    found = measure_errors(
        digits_model,
        pixels[:2],
        on_image=lambda *given: images.append(given),
        on_layer=lambda *given: layers.append(given),
    )
    assert images == [(1, 2), (2, 2)] and [index for _, index, _ in layers] == list(range(len(layers)))
    assert list(found.layers) == [node.name for node in graph.nodes]
    ends = dict.fromkeys(found.layers, 0)
    for image in pixels[:2]:
        for name, values in execute(graph, image):
            ends[name] += int((values == rules.Q_MAX).sum()) if name != graph.head.name else 0
    assert {name: beside.saturated for name, (beside, _) in found.layers.items()} == ends, "all zero points are 0"
    assert {name for name, (_, alone) in found.layers.items() if alone} == {conv.name for conv in graph.convolutions}
    logits = found.to_json()["logits"]
    assert sum(logits["shares"].values()) == pytest.approx(1) and logits["together"] > 20
    head = found.layer_json(graph.head.name)
    assert head["alone"]["shares"] == {"rounding": 0, "clipping": 0, "weights": 1}
    assert head["sqnr_db"] == pytest.approx(logits["together"], rel=1e-3)


def test_what_is_needed(digits_network: Model, digits_model: Model, digits_pixels: NDArray[np.uint8]) -> None:
    with pytest.raises(UsageError, match="is not quantized; quantize it on some images first"):
        measure_errors(digits_network, digits_pixels)
    with pytest.raises(UsageError, match="no images to measure errors on"):
        measure_errors(digits_model, digits_pixels[:0])
    unknown = replace(digits_model, floating=None, origin={"network": "odd"})
    with pytest.raises(UsageError, match="give `weights`, the file it was made of"):
        measure_errors(unknown, digits_pixels[:1])
