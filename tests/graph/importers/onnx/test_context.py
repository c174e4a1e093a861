"""What handlers share: operands, and messages about them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import helper

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.float.graph import FloatConv
from squeezeedge.graph.importers.onnx.context import Context, channels_of, refused
from squeezeedge.graph.importers.onnx.steps import Steps
from squeezeedge.graph.importers.onnx.values import Value

NODE = helper.make_node("Conv", ["x", "w", "missing"], ["y"], name="conv", domain="other", strides=[1, 0])


def _context() -> Context:
    context = Context(Steps((4, 4)), 17, 1)
    context.values["x"] = Value(np.arange(3).reshape(1, 3, 1, 1), (4, 4), (2, 3))
    context.constants["w"] = np.ones((2, 2), np.int32)
    return context


@pytest.mark.parametrize(
    ("ask", "match"),
    [
        (
            lambda context: context.value(NODE, 1),
            r"conv \(other\.Conv\): reads 'w', a constant; a tensor",
        ),
        (lambda context: context.value(NODE, 9), "reads '', a second output, or missing"),
        (lambda context: context.constant(NODE, 0), r"its operand 'x' is computed from the image, \[1, 3, 4, 4\]"),
        (lambda context: context.constant(NODE, 2), "its operand 'missing' is missing; it must be a constant"),
        (lambda context: context.weights(NODE, 1), r"'w' is int32 \[2, 2\]; it must be floating point"),
        (
            lambda context: context.pair(NODE, "strides"),
            r"strides is \[1, 0\]; supported: two in 1\.\.65536",
        ),
        (lambda context: context.pair(NODE, "kernel_shape", None), "kernel_shape is missing; supported"),
    ],
)
def test_operands_that_are_refused(ask: Callable[[Context], object], match: str) -> None:
    with pytest.raises(UnsupportedError, match=match):
        ask(_context())


def test_what_a_node_is_fed() -> None:
    assert _context().fed(NODE) == "'x' [1, 3, 4, 4] and the constant 'w' [2, 2]"
    assert str(refused(helper.make_node("Relu", ["x"], ["y"]), "reason")) == "y (Relu): reason"


def test_padding_is_added_by_a_convolution_that_copies() -> None:
    context = _context()
    image = context.values["x"]
    padded = context.plain(Value(image.ids, image.size, image.spatial, padding=(1, 0, 0, 2), fill=0.5))
    assert padded.shape == (1, 3, 5, 6)
    convs = [step.node for step in context.steps.steps]
    assert [node.bias.tolist() for node in convs if isinstance(node, FloatConv)] == [[-0.5] * 3, [0.5] * 3]
    assert context.plain(image) is image


def test_channels_of_loose_numbers() -> None:
    loose = Value(np.array([7, 5, 7, 5]), (1, 2), None, np.array([0, 0, 1, 1]))
    channels, places = channels_of(loose)
    assert channels.tolist() == [5, 7] and places.tolist() == [1, 0, 1, 0]
