"""The shapes in which a target takes the graph of :mod:`squeezeedge.lower.relax_module`, and how they are read back.

``partition`` groups the operators of every node into one composite function (attribute ``Composite``), named by
:class:`Pattern`; every graph is covered completely. ``stages`` reads the composites back as parameters, and
``region_stages`` those of a function that ``MergeCompositeFunctions`` has made of them. A target may ask for larger
groups: a convolution with the pooling that follows it, or a concatenation with the convolutions that feed it (then it
is an offset of their stores).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax
from tvm.relax.dpl import DFPattern, is_const, is_op, is_tuple, wildcard

from squeezeedge.graph import IMAGE
from squeezeedge.lower.relax_module import MAIN

__all__ = ["Addition", "Convolution", "Pattern", "Pooling", "Shape", "Stage", "partition", "region_stages", "stages"]

Shape = tuple[int, int, int]
"""Height, width, channels."""

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


@dataclass(frozen=True, eq=False)
class Convolution:
    """acc = sum w * (q - pad_value) + bias; then R3's ``clip((acc >> shift) + zero_point)``, or the head's sum.

    Attributes:
        source: shape of the input.
        out: shape of the output (of the head: of its accumulators).
        weight: int8 [out, kernel_h, kernel_w, in].
        bias: int32 [out], modulo 2**32; holds the pad value's part and the rounding term.
        pad_value: int32 [in]: the q of a padded pixel.
        stride: (vertical, horizontal).
        padding: (top, left, bottom, right).
        shift: int32 [out]; ``None`` in the head.
        zero_point: of the output.
        relu: whether the head clips its accumulators at 0.
        input: index among the stage's inputs.
    """

    source: Shape
    out: Shape
    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    pad_value: NDArray[np.int32]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    shift: NDArray[np.int32] | None
    zero_point: int
    relu: bool
    input: int

    def bias_for(self, offset: int) -> NDArray[np.int32]:
        """The bias with which ``sum w * (q - offset)`` gives the same accumulator, modulo 2**32: int32 [out]."""
        missing = (self.weight * (offset - self.pad_value.astype(np.int64))).sum((1, 2, 3))
        bias: NDArray[np.int32] = (self.bias + missing).astype(np.uint32).view(np.int32)
        return bias


@dataclass(frozen=True)
class Pooling:
    """Max pooling over the valid pixels (R5); ``padding`` is (top, left), what hangs over elsewhere follows."""

    source: Shape
    out: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Addition:
    """clip(((a + offset[0]) >> shift[0]) + ((b + offset[1]) >> shift[1]) + zero_point, 0, 255): R5.

    Attributes:
        offset: int32 [2, channels]: rounding term less zero point.
        shift: int32 [2, channels].
        zero_point: of the output.
    """

    offset: NDArray[np.int32]
    shift: NDArray[np.int32]
    zero_point: int


@dataclass(frozen=True, eq=False)
class Stage:
    """One composite of a partitioned module.

    Attributes:
        name: of the tensor it makes, as in the integer graph; unique: of two equal poolings or concatenations (same
            shapes, no constants) the second one's is the first one's with a number.
        pattern: which composite.
        inputs: names of the tensors it reads.
        input_shapes: their shapes.
        out: shape of what it makes; of the head, (1, 1, classes).
        convolutions: in the order of the concatenation where there are several.
        pooling: of the pool patterns.
        addition: of ``ADD``.
    """

    name: str
    pattern: Pattern
    inputs: tuple[str, ...]
    input_shapes: tuple[Shape, ...]
    out: Shape
    convolutions: tuple[Convolution, ...] = ()
    pooling: Pooling | None = None
    addition: Addition | None = None


def partition(module: IRModule, fusions: Sequence[Pattern] = (), codegen: str | None = None) -> IRModule:
    """Group the operators into composites.

    Args:
        module: from :func:`squeezeedge.lower.relax_module.to_relax`.
        fusions: which of ``CONVOLUTION_POOL`` and ``CONCAT_CONVOLUTIONS`` the target has kernels for.
        codegen: TVM's name of who compiles the composites, for ``MergeCompositeFunctions``; it is put in front of their
            names, with a dot.

    Returns:
        A module whose ``main`` only calls composites; constants are inside them.
    """
    patterns: list[tuple[Any, ...]] = []
    if Pattern.CONCAT_CONVOLUTIONS in fusions:
        for count in range(MAX_CONCAT, 1, -1):
            convolutions = is_tuple([_convolution() for _ in range(count)])
            patterns.append((Pattern.CONCAT_CONVOLUTIONS.value, is_op("relax.concat")(convolutions), {}, _side_by_side))
    if Pattern.CONVOLUTION_POOL in fusions:
        pooled = is_op("relax.nn.max_pool2d")(_convolution())
        patterns.append((Pattern.CONVOLUTION_POOL.value, pooled, {}, _private))
    relu = is_op("relax.maximum")(_accumulator(), is_const())
    patterns += [
        (Pattern.CONVOLUTION.value, _convolution()),
        (Pattern.HEAD.value, is_op("relax.sum")(relu | _accumulator())),
        (Pattern.MAX_POOL.value, is_op("relax.nn.max_pool2d")(wildcard())),
        (Pattern.ADD.value, _requantized(is_op("relax.add")(_operand(), _operand()))),
        (Pattern.CONCAT.value, is_op("relax.concat")(wildcard())),
    ]
    if codegen is not None:
        patterns = [(f"{codegen}.{name}", *rest) for name, *rest in patterns]
    return relax.transform.FuseOpsByPattern(patterns, bind_constants=True)(module)


def stages(module: IRModule) -> list[Stage]:
    """Read a partitioned module back as parameters, in execution order."""
    return _stages(module[MAIN], dict(module.functions.items()))


def region_stages(region: relax.Function) -> list[Stage]:
    """Read a region of merged composites, whose only parameter is the image, back as parameters, in execution order."""
    local = {binding.var: binding.value for binding in _bindings(region) if isinstance(binding.value, relax.Function)}
    return _stages(region, local)


def _stages(caller: relax.Function, composites: Mapping[Any, relax.Function]) -> list[Stage]:
    names = {caller.params[0]: IMAGE}
    found: list[Stage] = []
    for binding in _bindings(caller):
        value = binding.value
        if isinstance(value, relax.Function):
            continue
        if isinstance(value, relax.Var):  # the function's result under another name
            names[binding.var] = names[value]
            continue
        function = composites[value.op]
        stage = _stage(function, [names[argument] for argument in value.args])
        while stage.name in names.values():  # equal composites without constants are one function, named by the first
            stage = replace(stage, name=f"{stage.name}.{len(found)}")
        names[binding.var] = stage.name
        found.append(stage)
    return found


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


def _bindings(function: relax.Function) -> list[Any]:
    return [binding for block in function.body.blocks for binding in block.bindings]


def _shape(expression: Any) -> Shape:  # noqa: ANN401  (TVM's classes are untyped)
    dims = [int(dim) for dim in expression.ty.shape]
    return (dims[1], dims[2], dims[3]) if len(dims) == 4 else (1, 1, dims[-1])


def _pair(values: Any) -> tuple[int, int]:  # noqa: ANN401
    vertical, horizontal = values
    return int(vertical), int(horizontal)


def _stage(function: relax.Function, inputs: list[str]) -> Stage:
    """One composite function -> its parameters, by walking from its result to its arguments."""
    reader = _Reader(function)
    pattern = Pattern(str(function.attrs["Composite"]).rpartition(".")[2])
    result = reader.result
    convolutions: list[Convolution] = []
    pooling = addition = None
    if pattern is Pattern.ADD:
        addition = reader.addition(result)
    elif pattern is Pattern.CONCAT_CONVOLUTIONS:
        convolutions = [reader.convolution(reader.value(part)) for part in reader.value(result.args[0]).fields]
    elif pattern in (Pattern.MAX_POOL, Pattern.CONVOLUTION_POOL):
        pooling = reader.pooling(result)
        if pattern is Pattern.CONVOLUTION_POOL:
            convolutions = [reader.convolution(reader.value(result.args[0]))]
    elif pattern in (Pattern.CONVOLUTION, Pattern.HEAD):
        convolutions = [reader.convolution(result)]
    order = inputs
    if pattern is Pattern.CONCAT:
        fields = reader.value(result.args[0]).fields
        order = [inputs[reader.parameters[field]] for field in fields]
    elif pattern is Pattern.ADD:
        order = [inputs[index] for index in reader.addition_inputs(result)]
    shapes = {inputs[index]: _shape(parameter) for parameter, index in reader.parameters.items()}
    return Stage(
        result.span.source_name.name,
        pattern,
        tuple(order),
        tuple(shapes[key] for key in order),
        _shape(result),
        tuple(convolutions),
        pooling,
        addition,
    )


class _Reader:
    """Follows the bindings of one composite function backwards."""

    def __init__(self, function: relax.Function) -> None:
        self.values: Mapping[Any, Any] = {binding.var: binding.value for binding in _bindings(function)}
        self.parameters = {parameter: index for index, parameter in enumerate(function.params)}
        self.result = self.value(function.body.body)

    def value(self, expression: Any) -> Any:  # noqa: ANN401
        while isinstance(expression, relax.Var) and expression in self.values:
            expression = self.values[expression]
        return expression

    def argument(self, call: Any, index: int) -> Any:  # noqa: ANN401
        return self.value(call.args[index])

    def array(self, call: Any, index: int) -> NDArray[Any]:  # noqa: ANN401
        constant: NDArray[Any] = self.argument(call, index).value.numpy()
        return constant

    def operand(self, shifted: Any) -> tuple[int, NDArray[Any], NDArray[Any]]:  # noqa: ANN401
        moved = self.argument(shifted, 0)
        parameter = self.argument(self.argument(moved, 0), 0)
        return self.parameters[parameter], self.array(moved, 1), self.array(shifted, 1)

    def _added(self, result: Any) -> tuple[int, list[tuple[int, NDArray[Any], NDArray[Any]]]]:  # noqa: ANN401
        moved = self.argument(self.argument(result, 0), 0)
        total = self.argument(moved, 0)
        return int(self.array(moved, 1)), [self.operand(self.argument(total, index)) for index in (0, 1)]

    def addition(self, result: Any) -> Addition:  # noqa: ANN401
        zero_point, operands = self._added(result)
        return Addition(np.stack([o[1] for o in operands]), np.stack([o[2] for o in operands]), zero_point)

    def addition_inputs(self, result: Any) -> list[int]:  # noqa: ANN401
        return [operand[0] for operand in self._added(result)[1]]

    def pooling(self, call: Any) -> Pooling:  # noqa: ANN401
        attrs = call.attrs
        top, left, _, _ = attrs.padding
        return Pooling(
            _shape(call.args[0]), _shape(call), _pair(attrs.pool_size), _pair(attrs.strides), (int(top), int(left))
        )

    def convolution(self, result: Any) -> Convolution:  # noqa: ANN401
        shift, zero_point, relu = None, 0, False
        if result.op.name == "relax.sum":
            biased = self.argument(result, 0)
            if biased.op.name == "relax.maximum":
                relu, biased = True, self.argument(biased, 0)
        else:
            moved = self.argument(self.argument(result, 0), 0)
            shifted = self.argument(moved, 0)
            zero_point, shift = int(self.array(moved, 1)), self.array(shifted, 1)
            biased = self.argument(shifted, 0)
        conv = self.argument(biased, 0)
        centred = self.argument(conv, 0)
        parameter = self.argument(self.argument(centred, 0), 0)
        attrs = conv.attrs
        top, left, bottom, right = attrs.padding
        return Convolution(
            source=_shape(conv.args[0]),
            out=_shape(conv),
            weight=self.array(self.argument(conv, 1), 0),
            bias=self.array(biased, 1),
            pad_value=self.array(centred, 1),
            stride=_pair(attrs.strides),
            padding=(int(top), int(left), int(bottom), int(right)),
            shift=shift,
            zero_point=zero_point,
            relu=relu,
            input=self.parameters[parameter],
        )
