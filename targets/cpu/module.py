"""The partitioned network -> one Relax function over the generated kernels, which TVM plans memory for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax

from squeezeedge.graph import IMAGE
from squeezeedge.lower.call_plan import emit_call
from squeezeedge.lower.patterns import Pattern, Shape, Stage
from squeezeedge.lower.relax_module import MAIN
from squeezeedge.targets.cpu.isa import InstructionSet
from squeezeedge.targets.cpu.layout import Layout
from squeezeedge.targets.cpu.stage import StageFunction, copy_function, stage_function

__all__ = ["kernel_module"]

Border = tuple[int, int, int, int]


def kernel_module(stages: Sequence[Stage], image: Shape, isa: InstructionSet) -> IRModule:
    """Replace every stage by a call of its kernel.

    Args:
        stages: the network in execution order (:func:`squeezeedge.lower.patterns.stages`).
        image: shape of the input.
        isa: the instruction set.

    Returns:
        A module whose ``main`` takes the image, uint8 [height * width * 3], and returns int32 sums, at least as many
        as there are classes; weights are constants in it.
    """
    borders, pads = _borders(stages)
    layouts = {IMAGE: Layout(*image, borders.get(IMAGE, (0, 0, 0, 0)))}
    builder = relax.BlockBuilder()
    raw = relax.Var(IMAGE, relax.TensorType((image[0] * image[1] * image[2],), "uint8"))
    with builder.function(MAIN, [raw]):
        with builder.dataflow():
            pad = pads.get(IMAGE, np.zeros(image[2], np.int32)).tolist()
            copied = copy_function(Layout(*image), layouts[IMAGE], pad)
            values = {IMAGE: _call(builder, copied, [raw])}
            for index, stage in enumerate(stages):
                target = None
                if stage.pattern is not Pattern.HEAD:
                    target = layouts[stage.name] = Layout(*stage.out, borders.get(stage.name, (0, 0, 0, 0)))
                pad_value = int(pads[stage.name][0]) if stage.name in pads else 0
                sources = [layouts[name] for name in stage.inputs]
                kernel = stage_function(stage, f"stage{index}_{stage.pattern}", isa, sources, target, pad_value)
                values[stage.name] = _call(builder, kernel, [values[name] for name in stage.inputs])
            result = builder.emit_output(values[stages[-1].name])
        builder.emit_func_output(result)
    return builder.get()


def _borders(stages: Sequence[Stage]) -> tuple[dict[str, Border], dict[str, NDArray[np.int32]]]:
    """For each tensor that a convolution pads: the widest padding, and the pad value of each channel."""
    borders: dict[str, Border] = {}
    pads: dict[str, NDArray[np.int32]] = {}
    for stage in stages:
        for conv in stage.convolutions:
            name = stage.inputs[conv.input]
            if any(conv.padding):
                before = borders.get(name, (0, 0, 0, 0))
                top, left, bottom, right = (max(pair) for pair in zip(before, conv.padding, strict=True))
                borders[name] = (top, left, bottom, right)
                pads[name] = conv.pad_value
    return borders, pads


def _call(builder: relax.BlockBuilder, kernel: StageFunction, inputs: list[Any]) -> Any:  # noqa: ANN401  (TVM's)
    return emit_call(builder, kernel.function, inputs, kernel.constants, kernel.out)
