"""Reads a deploy model back: its convolutions with everything that was packed into them, and its rules."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.targets.ascend.deploy import OPSET
from squeezeedge.targets.ascend.shapes import OPERATORS, check_form, check_text

__all__ = ["DeployConv", "attributes", "check_structure", "constants", "deploy_convs", "unpack_scale"]

CUSTOM = ("AscendQuant", "AscendDequant")


@dataclass(frozen=True, eq=False)
class DeployConv:
    """A quantized convolution of a deploy model, unpacked.

    Attributes:
        name: of the layer.
        source: the float tensor that is quantized.
        weight: int8 [out, in / groups, kernel_h, kernel_w].
        bias: int32 [out].
        scale: float32 [out], AscendDequant's.
        quant_scale: AscendQuant's scale.
        offset: AscendQuant's offset.
        dtype: GE's number of AscendDequant's output type.
        output: AscendDequant's output tensor.
        strides: (vertical, horizontal).
        pads: (top, left, bottom, right).
        groups: of the channels.
    """

    name: str
    source: str
    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    scale: NDArray[np.float32]
    quant_scale: float
    offset: float
    dtype: int
    output: str
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    groups: int


def attributes(node: NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def constants(model: ModelProto) -> dict[str, NDArray[Any]]:
    """A model's constants by name; all lie in the model, as :func:`~.shapes.check_form` finds."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def unpack_scale(param: NDArray[np.uint64]) -> NDArray[np.float32]:
    """AscendDequant's parameter, uint64 [out], as float32 [out].

    Raises:
        SqueezeEdgeError: it has a shift or a weight offset.
    """
    if param.dtype != np.uint64 or param.ndim != 1 or (param >> np.uint64(32)).any():
        raise SqueezeEdgeError("a dequantization parameter is not uint64 [out] with nothing but a float32 scale")
    return param.astype(np.uint32).view(np.float32)


def deploy_convs(model: ModelProto) -> list[DeployConv]:
    """The convolutions of a deploy model, in order.

    Args:
        model: in which :func:`~.shapes.check_form` found nothing.

    Raises:
        SqueezeEdgeError: one is not AscendQuant -> int8 Conv -> AscendDequant.
    """
    values = constants(model)
    makers = {node.output[0]: node for node in model.graph.node}
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    convs = []
    for node in (node for node in model.graph.node if node.op_type == "Conv"):
        quant, after = makers.get(node.input[0]), readers.get(node.output[0], [])
        _require(quant is not None and quant.op_type == "AscendQuant", node, "its input is not quantized")
        _require([reader.op_type for reader in after] == ["AscendDequant"], node, "its output is not dequantized once")
        assert quant is not None
        held = {*node.input[1:], after[0].input[1]} <= values.keys()
        _require(held, node, "its weight, bias or scale is no constant")
        weight, bias = values[node.input[1]], values[node.input[2]]
        _require(weight.dtype == np.int8 and bias.dtype == np.int32, node, "it is not int8 with an int32 bias")
        own, before, behind = attributes(node), attributes(quant), attributes(after[0])
        _require(before["dst_type"] == b"INT8", node, "AscendQuant does not make int8")
        scale = unpack_scale(values[after[0].input[1]])
        fits = (
            weight.ndim == 4
            and bias.shape == scale.shape == weight.shape[:1]
            and list(weight.shape[2:]) == own["kernel_shape"]
        )
        _require(fits, node, "bias or scale does not fit the weight")
        _require(after[0].input[1] == f"{node.name}.dequant.param", node, "another name of the parameter")
        _require((quant.name, after[0].name) == (f"{node.name}.quant", f"{node.name}.dequant"), node, "names")
        divides = own["group"] > 0 and len(weight) % own["group"] == 0
        _require(divides and own["dilations"] == [1, 1], node, "groups or dilations")
        convs.append(
            DeployConv(
                name=node.name,
                source=quant.input[0],
                weight=weight,
                bias=bias,
                scale=scale,
                quant_scale=float(before["scale"]),
                offset=float(before["offset"]),
                dtype=int(behind["dtype"]),
                output=after[0].output[0],
                strides=tuple(own["strides"]),
                pads=tuple(own["pads"]),
                groups=int(own["group"]),
            )
        )
    return convs


def check_structure(model: ModelProto) -> Counter[str]:
    """Check a deploy model against what ATC takes.

    Returns:
        How many nodes of each operator there are.

    Raises:
        SqueezeEdgeError: an operator, name, opset, packing or attribute is not as it must be.
    """
    check_text(model)
    counts = Counter(node.op_type for node in model.graph.node)
    unknown = counts.keys() - OPERATORS
    if unknown:
        raise SqueezeEdgeError(f"deploy model: operators that ATC may not take: {', '.join(sorted(unknown))}")
    names = Counter(node.name for node in model.graph.node)
    if max(names.values(), default=0) > 1 or "" in names:
        raise SqueezeEdgeError(f"deploy model: node name {names.most_common(1)[0][0]!r} is used twice or empty")
    if [(entry.domain, entry.version) for entry in model.opset_import] != [("", OPSET)]:
        raise SqueezeEdgeError(f"deploy model: must use opset {OPSET} and no other domain")
    check_form(model)
    for conv in deploy_convs(model):
        power_of_two = (conv.scale > 0) & (np.frexp(conv.scale)[0] == 0.5)
        if conv.quant_scale != 1 or conv.offset not in (-128, 0) or not power_of_two.all():
            raise SqueezeEdgeError(f"deploy model: {conv.name}: scales or offset are not those of q units")
    _check_standard_part(model)
    return counts


def _check_standard_part(model: ModelProto) -> None:
    """onnx.checker on the model with Ascend's operators in a domain of their own."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type in CUSTOM:
            node.domain = "ascend"
    copy.opset_import.append(helper.make_opsetid("ascend", 1))
    try:
        onnx.checker.check_model(copy)
    except onnx.checker.ValidationError as error:
        raise SqueezeEdgeError(f"deploy model: {' '.join(str(error).split())[:300]}") from error


def _require(condition: bool, node: NodeProto, text: str) -> None:
    if not condition:
        raise SqueezeEdgeError(f"deploy model: {node.name}: {text}")
