"""Values of an ONNX graph that do not depend on the image: computed with ONNX's own reference, in bounded memory.

Only operators of :data:`FOLDED` are computed: each has a bound on what it makes, known before it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from squeezeedge.errors import CorruptFileError, UnsupportedError

__all__ = ["FOLDED", "MAX_VALUES", "Budget", "array_of", "attributes", "constant", "evaluate", "fold", "label"]

Array = NDArray[Any]

MAX_VALUES = 1 << 26
"""Numbers that all computed constants of a file may hold together."""


class Budget:
    """How many numbers of a kind may still be made."""

    def __init__(self, what: str = "constants") -> None:
        self.what, self.left = what, MAX_VALUES

    def spend(self, node: NodeProto, values: int) -> None:
        """Take some.

        Raises:
            UnsupportedError: so many are not left.
        """
        self.left -= values
        if values < 0 or self.left < 0:
            raise UnsupportedError(
                f"{label(node)}: {node.op_type} makes {self.what} of more than {MAX_VALUES} numbers with those "
                "before it; export the network with its constants folded and its channels in one order"
            )


def label(node: NodeProto) -> str:
    """A node's name, or what it makes if it has none."""
    return node.name or next(iter(node.output), "") or node.op_type


def attributes(node: NodeProto) -> dict[str, Any]:
    """Values of the attributes that are given."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def array_of(tensor: TensorProto, place: str) -> Array:
    """The values of a tensor.

    Raises:
        CorruptFileError: they do not fit its type and shape.
    """
    try:
        return numpy_helper.to_array(tensor)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{place}: {tensor.name!r} is damaged: {error}") from error


def constant(node: NodeProto) -> Array:
    """Value of a ``Constant``.

    Raises:
        UnsupportedError: it is a text, a sparse tensor or of another kind that no network needs, or given in two ways.
    """
    given = attributes(node)
    if len(given) != 1:
        raise UnsupportedError(f"{label(node)}: a constant given as {' and '.join(given) or 'nothing'}; give it as one")
    ((name, value),) = given.items()
    if isinstance(value, TensorProto):
        return array_of(value, label(node))
    if name not in ("value_float", "value_floats", "value_int", "value_ints"):
        raise UnsupportedError(f"{label(node)}: a constant given as {name} is not supported")
    return np.array(value, np.int64 if "int" in name else np.float32)


def fold(node: NodeProto, inputs: Sequence[Array | None], opset: int, budget: Budget) -> list[Array]:
    """Compute a node of which every input is a constant.

    Args:
        node: of an operator in :data:`FOLDED`.
        inputs: in the node's order; ``None`` where one is left out.
        opset: version of the operators.
        budget: for the numbers that it makes.

    Raises:
        UnsupportedError: it cannot be computed, or makes too much.
    """
    try:
        values = FOLDED[node.op_type](node, inputs)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise _impossible(node, error) from error
    budget.spend(node, values)
    return evaluate(node, inputs, opset)


def evaluate(node: NodeProto, inputs: Sequence[Array | None], opset: int) -> list[Array]:
    """Run one node with ONNX's reference; what it makes must be bounded by the caller."""
    feeds = {name: array for name, array in zip(node.input, inputs, strict=True) if array is not None}
    sources, results = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name]
        for names in (feeds, node.output)
    )
    graph = helper.make_graph(
        [node], "constant", sources, results
    )  # a node alone would be run as of the newest version
    version = max(opset, 19) if node.op_type == "DequantizeLinear" else opset  # older ones are the same, but missing
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    try:
        with np.errstate(all="ignore"):
            made = ReferenceEvaluator(model).run(None, feeds)
    except Exception as error:  # the reference raises whatever its Python code meets
        raise _impossible(node, error) from error
    return [np.asarray(array) for array in made]


def _impossible(node: NodeProto, error: Exception) -> UnsupportedError:
    reason = " ".join(str(error).split())[:120]
    return UnsupportedError(
        f"{label(node)}: {node.op_type} of constants cannot be computed ({type(error).__name__}: {reason})"
    )


Count = Callable[[NodeProto, Sequence[Array | None]], int]


def _all(node: NodeProto, inputs: Sequence[Array | None]) -> int:
    """As many as go in."""
    return sum(array.size for array in inputs if array is not None) + 1


def _broadcast(node: NodeProto, inputs: Sequence[Array | None]) -> int:
    return math.prod(np.broadcast_shapes(*(array.shape for array in inputs if array is not None)))


def _numbers(array: Array | None) -> list[int]:
    if array is None or array.size > 16:
        raise ValueError("a shape of that kind is not possible")
    return [int(number) for number in array.reshape(-1)]


def _shape_given(node: NodeProto, inputs: Sequence[Array | None]) -> int:
    return math.prod(_numbers(inputs[0]))


def _expanded(node: NodeProto, inputs: Sequence[Array | None]) -> int:
    assert inputs[0] is not None
    return math.prod(np.broadcast_shapes(inputs[0].shape, tuple(_numbers(inputs[1]))))


def _tiled(node: NodeProto, inputs: Sequence[Array | None]) -> int:
    assert inputs[0] is not None
    return int(inputs[0].size * math.prod(_numbers(inputs[1])))


def _gathered(node: NodeProto, inputs: Sequence[Array | None]) -> int:
    data, indices = inputs[:2]
    assert data is not None and indices is not None
    axis = attributes(node).get("axis", 0)
    return int(data.size // max(1, data.shape[axis]) * indices.size)


def _range(node: NodeProto, inputs: Sequence[Array | None]) -> int:
    start, limit, step = (float(array.reshape(())) for array in inputs if array is not None)
    return max(0, math.ceil((limit - start) / step))


def _padded(node: NodeProto, inputs: Sequence[Array | None]) -> int:
    data = inputs[0]
    assert data is not None
    given = attributes(node)
    pads = given["pads"] if "pads" in given else _numbers(inputs[1])
    if len(inputs) > 3 and inputs[3] is not None:
        return math.prod(side + sum(map(abs, pads)) for side in data.shape)
    return math.prod(
        side + abs(before) + abs(after)
        for side, before, after in zip(data.shape, pads[: data.ndim], pads[data.ndim :], strict=True)
    )


def _product(node: NodeProto, inputs: Sequence[Array | None]) -> int:
    """Of two matrices; the time counts, too."""
    first, second = inputs[:2]
    assert first is not None and second is not None
    return int(first.size * (second.size // max(1, second.shape[0])))


SAME_SIZE = (
    "Abs BatchNormalization Cast CastLike Ceil Clip Concat CumSum DequantizeLinear Dropout Erf Exp Flatten Floor "
    "Identity Log Neg Not Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare Relu Reshape Round Shape Sigmoid Sign Size Slice Split Sqrt Squeeze Tanh Transpose Unsqueeze"
)
BROADCAST = "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow Sub Sum Where"

FOLDED: Mapping[str, Count] = MappingProxyType(
    dict.fromkeys(SAME_SIZE.split(), _all)
    | dict.fromkeys(BROADCAST.split(), _broadcast)
    | {
        "ConstantOfShape": _shape_given,
        "Expand": _expanded,
        "Gather": _gathered,
        "MatMul": _product,
        "Pad": _padded,
        "Range": _range,
        "Tile": _tiled,
    }
)
"""Operator -> (node, inputs) -> a bound on how many numbers it makes."""
