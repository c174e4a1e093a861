"""The network's stages -> calls of their kernels: which tensors there are, and which have a border."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph import IMAGE
from squeezeedge.graph.rules import Shape
from squeezeedge.lower.call_plan import KernelCall
from squeezeedge.lower.stages import Stage
from squeezeedge.targets.cpu.isa import InstructionSet
from squeezeedge.targets.cpu.layout import Layout
from squeezeedge.targets.cpu.stage import Site, copy_image, scratch_bytes, stage_call

__all__ = ["kernel_calls"]

COPY = f"{IMAGE}\n"
"""The image with its border; no node has a name that is not printable."""

Border = tuple[int, int, int, int]


def kernel_calls(stages: Sequence[Stage], image: Shape, isa: InstructionSet) -> list[KernelCall]:
    """Write every stage's kernel.

    Args:
        stages: the network in execution order (:func:`squeezeedge.lower.stages.stages`).
        image: shape of the input.
        isa: the instruction set.

    Returns:
        In execution order. The first one reads the image, uint8 [height * width * 3]; the last one makes int32 sums,
        at least as many as there are classes.

    Raises:
        UnsupportedError: a stage that the kernels cannot compute.
    """
    borders, pads = _borders(stages)
    layouts: dict[str, Layout] = {}

    def site(symbol: str, inputs: tuple[str, ...], name: str, out: str, shape: Shape, scratch: int = 0) -> Site:
        """Of a kernel that makes the graph's tensor ``name`` under the name ``out``."""
        sources = tuple(layouts[source] for source in inputs if source in layouts)
        layouts[out] = Layout(*shape, borders.get(name, (0, 0, 0, 0)), scratch)
        pad = pads.get(name, np.zeros(shape.channels, np.uint8)).tolist()
        return Site(symbol, inputs, sources, out, layouts[out], pad)

    calls = [copy_image(site("image", (IMAGE,), IMAGE, COPY, image))]
    for index, stage in enumerate(stages):
        inputs = tuple(COPY if name == IMAGE else name for name in stage.inputs)
        symbol = f"stage{index}_{stage.pattern}"
        place = site(symbol, inputs, stage.name, stage.name, stage.out, scratch_bytes(stage))
        calls.append(stage_call(stage, place, isa))
    return calls


def _borders(stages: Sequence[Stage]) -> tuple[dict[str, Border], dict[str, NDArray[np.uint8]]]:
    """For each tensor that a convolution pads: the widest padding, and the pad value of each channel."""
    borders: dict[str, Border] = {}
    pads: dict[str, NDArray[np.uint8]] = {}
    for stage in stages:
        for conv in stage.convolutions:
            if any(conv.padding):
                before = borders.get(conv.input, (0, 0, 0, 0))
                top, left, bottom, right = (max(pair) for pair in zip(before, conv.padding, strict=True))
                borders[conv.input] = (top, left, bottom, right)
                pads[conv.input] = conv.pad_value
    return borders, pads
