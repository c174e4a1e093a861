"""The shapes in which a target takes the graph of :mod:`squeezeedge.lower.relax_module`.

``partition`` groups the operators of every node into one composite function (attribute ``Composite``), named by
:class:`Pattern`; every graph is covered completely. A target may ask for larger groups: a convolution with the pooling
that follows it, or a concatenation with the convolutions that feed it (then it is an offset of their stores).
:mod:`squeezeedge.lower.stages` tells which nodes a composite stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from tvm import IRModule, relax
from tvm.relax.dpl import DFPattern, is_const, is_op, is_tuple, wildcard

__all__ = ["Pattern", "partition"]

NODE = "node"
"""Attribute of a composite: name of the node whose tensor it makes. It keeps TVM from merging equal composites."""

MAX_CONCAT = 4


class Pattern(StrEnum):
    """Names of the composites."""

    CONVOLUTION = "conv"
    HEAD = "head"
    MAX_POOL = "max_pool"
    ADD = "add"
    CONCAT = "concat"
    CONVOLUTION_POOL = "conv_pool"
    CONCAT_CONVOLUTIONS = "concat_convs"


def partition(module: IRModule, fusions: Sequence[Pattern] = (), codegen: str | None = None) -> IRModule:
    """Group the operators into composites.

    Args:
        module: from :func:`squeezeedge.lower.relax_module.to_relax`.
        fusions: which of ``CONVOLUTION_POOL`` and ``CONCAT_CONVOLUTIONS`` the target has kernels for.
        codegen: TVM's name of the code generator that compiles the composites, for ``MergeCompositeFunctions``. With a
            dot, it becomes the prefix of their names.

    Returns:
        A module whose ``main`` only calls composites; constants are inside them.
    """
    prefix = "" if codegen is None else f"{codegen}."
    patterns: list[relax.transform.FusionPattern] = []

    def add(name: Pattern, pattern: DFPattern, check: Callable[[Any], bool] | None = None) -> None:
        patterns.append(
            relax.transform.FusionPattern(f"{prefix}{name.value}", pattern, {"result": pattern}, check, _node_attribute)
        )

    if Pattern.CONCAT_CONVOLUTIONS in fusions:
        for count in range(MAX_CONCAT, 1, -1):
            convolutions = is_tuple([_convolution() for _ in range(count)])
            add(Pattern.CONCAT_CONVOLUTIONS, is_op("relax.concat")(convolutions), _side_by_side)
    if Pattern.CONVOLUTION_POOL in fusions:
        add(Pattern.CONVOLUTION_POOL, is_op("relax.nn.max_pool2d")(_convolution()), _private)
    relu = is_op("relax.maximum")(_accumulator(), is_const())
    add(Pattern.CONVOLUTION, _convolution())
    add(Pattern.HEAD, is_op("relax.sum")(relu | _accumulator()))
    add(Pattern.MAX_POOL, is_op("relax.nn.max_pool2d")(wildcard()))
    add(Pattern.ADD, _requantized(is_op("relax.add")(_operand(), _operand())))
    add(Pattern.CONCAT, is_op("relax.concat")(wildcard()))
    return relax.transform.FuseOpsByPattern(patterns, bind_constants=True)(module)


def _node_attribute(matched: Mapping[str, Any]) -> Mapping[str, str]:
    return {NODE: matched["result"].span.source_name.name}


def _private(context: relax.transform.PatternCheckContext) -> bool:
    """Whether nobody else reads what is inside the group."""
    fused = context.matched_bindings
    inside = {var for var, value in fused.items() if not value.same_as(context.matched_expr)}
    return all(user in fused for var in inside for user in context.var_usages.get(var, ()))


def _side_by_side(context: relax.transform.PatternCheckContext) -> bool:
    """Whether a concatenation's operands are different convolutions, none of which reads another's result."""
    if not _private(context):
        return False
    fused = context.matched_bindings
    reads = [value.args[0] for value in fused.values() if _is_call(value, "relax.astype") and value.ty.dtype == "int32"]
    convolutions = sum(_is_call(value, "relax.nn.conv2d") for value in fused.values())
    operands = context.matched_expr.args[0].fields
    return convolutions == len(operands) and not any(isinstance(read, relax.Var) and read in fused for read in reads)


def _is_call(value: Any, operator: str) -> bool:  # noqa: ANN401
    return isinstance(value, relax.Call) and value.op.name == operator


def _accumulator() -> DFPattern:
    centred = is_op("relax.subtract")(is_op("relax.astype")(wildcard()), is_const())
    weight = is_op("relax.astype")(is_const())
    return is_op("relax.add")(is_op("relax.nn.conv2d")(centred, weight), is_const())


def _requantized(value: DFPattern) -> DFPattern:
    moved = is_op("relax.add")(value, is_const())
    return is_op("relax.astype")(is_op("relax.clip")(moved, wildcard(), wildcard()))


def _convolution() -> DFPattern:
    return _requantized(is_op("relax.right_shift")(_accumulator(), is_const()))


def _operand() -> DFPattern:
    moved = is_op("relax.add")(is_op("relax.astype")(wildcard()), is_const())
    return is_op("relax.right_shift")(moved, is_const())
