"""The network's stages -> calls of their kernels, with the layouts and borders of all tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph import IMAGE
from squeezeedge.graph.rules import Shape
from squeezeedge.lower.call_plan import KernelCall
from squeezeedge.lower.patterns import Pattern
from squeezeedge.lower.stages import Stage
from squeezeedge.targets.cpu.instruction_set import InstructionSet
from squeezeedge.targets.cpu.layout import Layout
from squeezeedge.targets.cpu.stage import Site, copy_image, scratch_bytes, stage_call
from squeezeedge.targets.trace import Place, Trace, runs

__all__ = ["kernel_calls", "tensor_places"]

COPY = f"{IMAGE}\n"
"""The image with its border; no node has a name that is not printable."""

POOLED = "its rows only live until they are pooled, in the kernel that makes {}"

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
        """The site of a kernel that makes the graph's tensor ``name`` under the name ``out``."""
        sources = tuple(layouts[source] for source in inputs if source in layouts)
        layouts[out] = _layout(name, shape, borders, scratch)
        pad = pads.get(name, np.zeros(shape.channels, np.uint8)).tolist()
        return Site(symbol, inputs, sources, out, layouts[out], pad)

    family = isa.name.replace("-", "_")  # kernels for several instruction sets are linked into one library
    calls = [copy_image(site(f"{family}_image", (IMAGE,), IMAGE, COPY, image))]
    for index, stage in enumerate(stages):
        inputs = tuple(COPY if name == IMAGE else name for name in stage.inputs)
        symbol = f"{family}_stage{index}_{stage.pattern}"
        place = site(symbol, inputs, stage.name, stage.name, stage.out, scratch_bytes(stage, isa))
        calls.append(stage_call(stage, place, isa))
    return calls


def tensor_places(stages: Sequence[Stage], orders: Mapping[str, NDArray[np.intp]]) -> Trace:
    """Where each kernel of :func:`kernel_calls` leaves its tensors, from the start of what it makes.

    Args:
        stages: the network in execution order.
        orders: of tensors whose channels are not in the graph's order, which of its channels stands at each place.
    """
    borders, _ = _borders(stages)
    places: list[Place] = []
    unseen: dict[str, str] = {}
    for kernel, stage in enumerate(stages[:-1], 1):  # the first one copies the image
        layout = _layout(stage.name, stage.out, borders)

        def place(name: str, first: int, count: int, kernel: int = kernel, layout: Layout = layout) -> Place:
            at = np.argsort(orders[name]) if name in orders else np.arange(count)
            addresses = (layout.address(0, 0, first + channel) for channel in at.tolist())
            shape = layout.shape._replace(channels=count)
            return Place(name, kernel, shape, runs(addresses), layout.row, layout.channels)

        if stage.pattern is Pattern.CONCAT_CONVOLUTIONS:
            first = 0
            for conv in stage.convolutions:
                places.append(place(conv.name, first, len(conv.bias)))
                first += len(conv.bias)
        elif stage.pattern is Pattern.CONVOLUTION_POOL:
            unseen[stage.convolutions[0].name] = POOLED.format(stage.name)
        places.append(place(stage.name, 0, layout.channels))
    return Trace(stages[-1].name, tuple(places), unseen)


def _layout(name: str, shape: Shape, borders: Mapping[str, Border], scratch: int = 0) -> Layout:
    """Of the graph's tensor ``name``."""
    return Layout(*shape, borders.get(name, (0, 0, 0, 0)), scratch)


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
