"""Integer graph -> one Relax function of standard operators.

The function is exact by itself: TVM's default lowering of it equals the oracle. Targets partition it with
:mod:`squeezeedge.lower.patterns`.

A padded pixel holds ``pad_value`` (R2), and Relax pads with zero, so a convolution is written as
``conv2d(q - pad_value, w) + (bias + sum w * (pad_value - z))``, which is R3's accumulator.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax
from tvm.ir import SourceName, Span

from squeezeedge.graph import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool, Node, Tensor

__all__ = ["MAIN", "to_relax"]

MAIN = "main"
"""Name of the Relax function."""


def to_relax(graph: IntegerGraph) -> IRModule:
    """Write a graph as one Relax function.

    Args:
        graph: the integer graph.

    Returns:
        A module whose function ``main`` takes uint8 [1, height, width, 3] and returns int32 [1, classes]. The call
        that makes a node's tensor has the node's name as its span's source.
    """
    builder = relax.BlockBuilder()
    image = relax.Var(IMAGE, relax.TensorType((1, *graph.input_shape), "uint8"))
    values: dict[str, relax.Expr] = {IMAGE: image}
    with builder.function(MAIN, [image]):
        with builder.dataflow():
            for node in graph.nodes[:-1]:
                values[node.name] = builder.emit(_named(_node(builder, node, values, graph), node.name))
            output = builder.emit_output(_named(_node(builder, graph.head, values, graph), graph.head.name))
        builder.emit_func_output(output)
    return builder.get()


def _named(call: relax.Call, name: str) -> relax.Call:
    """The call with a node's name as its source: passes keep that, unlike the names of variables."""
    return relax.Call(call.op, call.args, call.attrs, call.ty_args, Span(SourceName(name), 0, 0, 0, 0))


def _node(builder: relax.BlockBuilder, node: Node, values: dict[str, relax.Expr], graph: IntegerGraph) -> relax.Expr:
    inputs = [values[name] for name in node.inputs]
    if isinstance(node, Conv):
        rounding = (1 << node.shift.astype(np.int32)) >> 1
        acc = _accumulate(builder, node, inputs[0], graph.tensors[node.input], rounding)
        shifted = builder.emit(relax.op.right_shift(acc, _const(node.shift, np.int32)))
        return _requantized(builder, shifted, node.zero_point)
    if isinstance(node, Head):
        acc = _accumulate(builder, node, inputs[0], graph.tensors[node.input], np.zeros_like(node.bias))
        if node.relu:
            acc = builder.emit(relax.op.maximum(acc, relax.const(0, "int32")))
        return relax.op.sum(acc, axis=[1, 2])
    if isinstance(node, MaxPool):
        return _max_pool(node, inputs[0], graph.tensors[node.input], graph.tensors[node.name])
    if isinstance(node, Concat):
        return relax.op.concat(inputs, axis=3)
    assert isinstance(node, Add)
    operands = []
    for name, value, shift in zip(node.inputs, inputs, node.shift, strict=True):
        rounding = (1 << shift.astype(np.int32)) >> 1
        wide = builder.emit(relax.op.astype(value, "int32"))
        centred = builder.emit(relax.op.add(wide, _const(rounding - graph.tensors[name].zero_point, np.int32)))
        operands.append(builder.emit(relax.op.right_shift(centred, _const(shift, np.int32))))
    return _requantized(builder, builder.emit(relax.op.add(*operands)), node.zero_point)


def _accumulate(
    builder: relax.BlockBuilder, node: Conv | Head, value: relax.Expr, source: Tensor, rounding: NDArray[np.int32]
) -> relax.Expr:
    """R3's accumulator plus ``rounding`` [out], in int32."""
    excess = node.pad_value.astype(np.int64) - source.zero_point
    bias = node.bias + rounding + (node.weight * excess).sum((1, 2, 3))
    wide = builder.emit(relax.op.astype(value, "int32"))
    centred = builder.emit(relax.op.subtract(wide, _const(node.pad_value, np.int32)))
    weight = builder.emit(relax.op.astype(_const(node.weight, np.int8), "int32"))
    acc = builder.emit(
        relax.op.nn.conv2d(
            centred,
            weight,
            strides=node.stride,
            padding=node.padding,
            data_layout="NHWC",
            kernel_layout="OHWI",
            out_dtype="int32",
        )
    )
    return builder.emit(relax.op.add(acc, _const(_wrapped(bias), np.int32)))


def _requantized(builder: relax.BlockBuilder, value: relax.Expr, zero_point: int) -> relax.Expr:
    moved = builder.emit(relax.op.add(value, relax.const(zero_point, "int32")))
    return relax.op.astype(builder.emit(relax.op.clip(moved, 0, 255)), "uint8")


def _max_pool(node: MaxPool, value: relax.Expr, source: Tensor, out: Tensor) -> relax.Expr:
    """Valid pixels only: TVM pads with the type's minimum, 0, which never wins; ceil mode is padding."""
    after = [
        max(0, (count - 1) * stride + kernel - size - before)
        for count, stride, kernel, size, before in zip(
            (out.height, out.width),
            node.stride,
            node.kernel,
            (source.height, source.width),
            node.padding[:2],
            strict=True,
        )
    ]
    return relax.op.nn.max_pool2d(
        value, pool_size=node.kernel, strides=node.stride, padding=[*node.padding[:2], *after], layout="NHWC"
    )


def _wrapped(bias: NDArray[np.int64]) -> NDArray[np.int32]:
    """Modulo 2**32: R4 bounds the accumulator, but not the bias with a pad value folded in."""
    return bias.astype(np.uint32).view(np.int32)


def _const(array: NDArray[np.generic], dtype: type[np.generic]) -> relax.Constant:
    return relax.const(np.ascontiguousarray(array.astype(dtype)))
