"""Integer graph -> one Relax function of standard operators.

The function is exact by itself: TVM's default lowering of it equals the oracle. Targets partition it with
:mod:`squeezeedge.lower.patterns`.

A padded pixel holds ``pad_value`` (R2), and Relax pads with zero, so a convolution is written as
``conv2d(q - pad_value, w) + (bias + sum w * (pad_value - z))``, which is R3's accumulator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax
from tvm.ir import SourceName, Span

from squeezeedge.graph import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool, Node, Tensor, rules
from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.integer import INTEGER_OPERATORS
from squeezeedge.graph.rules import rounding_term
from squeezeedge.graph.windows import floor_padding
from squeezeedge.lower.bias import offset_bias

__all__ = ["MAIN", "to_relax"]

MAIN = "main"
"""Name of the Relax function."""


def to_relax(graph: IntegerGraph) -> IRModule:
    """Write a graph as one Relax function.

    Args:
        graph: the integer graph; grouped convolutions are those of ``conv2d``.

    Returns:
        A module whose function ``main`` takes uint8 [1, height, width, 3] and returns int32 [1, classes]. The call
        that makes a node's tensor has the node's name as its span's source.
    """
    builder = relax.BlockBuilder()
    image = relax.Var(IMAGE, relax.TensorType((1, *graph.input_shape), "uint8"))
    values: dict[str, relax.Expr] = {IMAGE: image}

    def emitted(node: Node) -> relax.Call:
        return _node(node, [values[name] for name in node.inputs], builder, graph.tensors)

    with builder.function(MAIN, [image]):
        with builder.dataflow():
            for node in graph.nodes[:-1]:
                values[node.name] = builder.emit(_named(emitted(node), node.name))
            output = builder.emit_output(_named(emitted(graph.head), graph.head.name))
        builder.emit_func_output(output)
    return builder.get()


def _named(call: relax.Call, name: str) -> relax.Call:
    """The call with a node's name as its source: passes keep that, unlike the names of variables."""
    return relax.Call(call.op, call.args, call.attrs, call.ty_args, Span(SourceName(name), 0, 0, 0, 0))


_node: Table[Node, relax.Expr] = Table("Relax", INTEGER_OPERATORS)
"""``_node(node, inputs, builder, tensors)``: emit what a node's last call reads, and make that call."""

Tensors = Mapping[str, Tensor]


@_node.implements(Conv)
def _conv(node: Conv, inputs: Sequence[relax.Expr], builder: relax.BlockBuilder, tensors: Tensors) -> relax.Expr:
    acc = _accumulate(builder, node, inputs[0], tensors[node.input])
    shifted = builder.emit(relax.op.right_shift(acc, _const(node.shift, np.int32)))
    return _requantized(builder, shifted, node.zero_point)


@_node.implements(Head)
def _head(node: Head, inputs: Sequence[relax.Expr], builder: relax.BlockBuilder, tensors: Tensors) -> relax.Expr:
    acc = _accumulate(builder, node, inputs[0], tensors[node.input])
    if node.relu:
        acc = builder.emit(relax.op.maximum(acc, relax.const(0, "int32")))
    return relax.op.sum(acc, axis=[1, 2])


@_node.implements(MaxPool)
def _max_pool(node: MaxPool, inputs: Sequence[relax.Expr], builder: relax.BlockBuilder, tensors: Tensors) -> relax.Expr:
    """Valid pixels only: TVM pads with the type's minimum, 0, which never wins; ceil mode is padding."""
    source, out = tensors[node.input].shape, tensors[node.name].shape
    padding = floor_padding(source, out, node.kernel, node.stride, node.padding)
    return relax.op.nn.max_pool2d(
        inputs[0], pool_size=node.kernel, strides=node.stride, padding=list(padding), layout="NHWC"
    )


@_node.implements(Concat)
def _concat(node: Concat, inputs: Sequence[relax.Expr], builder: relax.BlockBuilder, tensors: Tensors) -> relax.Expr:
    return relax.op.concat(inputs, axis=3)


@_node.implements(Add)
def _add(node: Add, inputs: Sequence[relax.Expr], builder: relax.BlockBuilder, tensors: Tensors) -> relax.Expr:
    operands = []
    for name, value, shift in zip(node.inputs, inputs, node.shift, strict=True):
        offset = rounding_term(shift.astype(np.int32)) - tensors[name].zero_point
        wide = builder.emit(relax.op.astype(value, "int32"))
        centred = builder.emit(relax.op.add(wide, _const(offset, np.int32)))
        operands.append(builder.emit(relax.op.right_shift(centred, _const(shift, np.int32))))
    return _requantized(builder, builder.emit(relax.op.add(*operands)), node.zero_point)


def _accumulate(builder: relax.BlockBuilder, node: Conv | Head, value: relax.Expr, source: Tensor) -> relax.Expr:
    """R3's accumulator plus its rounding term, in int32."""
    wide = builder.emit(relax.op.astype(value, "int32"))
    centred = builder.emit(relax.op.subtract(wide, _const(node.pad_value, np.int32)))
    weight = builder.emit(relax.op.astype(_const(node.weight, np.int8), "int32"))
    acc = builder.emit(
        relax.op.nn.conv2d(
            centred,
            weight,
            strides=node.stride,
            padding=node.padding,
            groups=node.groups,
            data_layout="NHWC",
            kernel_layout="OHWI",
            out_dtype="int32",
        )
    )
    return builder.emit(relax.op.add(acc, _const(offset_bias(node, source, node.pad_value), np.int32)))


def _requantized(builder: relax.BlockBuilder, value: relax.Expr, zero_point: int) -> relax.Expr:
    moved = builder.emit(relax.op.add(value, relax.const(zero_point, "int32")))
    return relax.op.astype(builder.emit(relax.op.clip(moved, 0, rules.Q_MAX)), "uint8")


def _const(array: NDArray[np.generic], dtype: type[np.generic]) -> relax.Constant:
    return relax.const(np.ascontiguousarray(array.astype(dtype)))
