"""Integer graph -> the ONNX form from which ATC makes int8 kernels.

ATC takes quantized networks in the form that AMCT (Ascend's quantizer) writes: ``AscendQuant`` -> ``Conv`` with int8
weights and int32 bias -> ``AscendDequant``. A tensor of the graph is a float16 tensor x = q - zero_point here, so
activations have scale 1 and only the shifts remain: AscendDequant multiplies by 2^-k.

What is written, and where that was settled (repository: file):

=====================================  ===============================================================================
AscendQuant                            attributes scale, offset (FLOAT), dst_type (STRING "INT8"); name <layer>.quant
                                       (hicann/amct: insert_quant_pass.py; read by CANN's ONNX plugin
                                       ascend_quant_plugin, opset 9 and up, default domain)
offset                                 y = clip(round(x * scale + offset)), so -128 for 0..255 and 0 for -128..127
                                       (hicann/ops-nn: ascend_quant; AMCT: activation_offset, on by default)
Conv's bias                            round(bias / scale): without the offset's share (hicann/amct:
                                       insert_bias_quant_pass.py). ATC subtracts offset * sum of w and pads with the
                                       offset (GE's QuantBiasOptimization and offset_x: hicann/ge:
                                       fusion_quant_util_impl.cc), so a convolution sees y - offset = q - zero_point
AscendDequant                          second input UINT64 [out], named <layer>.dequant.param: float32 bits of the scale
                                       in bits 0..31, shift in 32..39, weight offset in 40..47 (hicann/amct:
                                       insert_dequant_pass.py; hicann/ge: quant_host_cpu_op_common.h); attribute dtype:
                                       1 is float16, the type that the kernels compute in (TBE kernel ascend_dequant:
                                       int32 -> fp16)
16 input channels and fewer            ATC takes quantization back: such a layer runs in fp16, its input is neither
                                       rounded nor clipped (CANN's fusion reference: *QuantProcessFusionPass,
                                       "unquantization"; the limit: bias_optimize_quant_rollback_base.h of GE's fusion
                                       engine). Those of AscendQuant's input count, whatever the groups are (the same
                                       engine: bias_optimize_quant_rollback_base.cc, dwconv2d_quant_process_fusion_pass)
groups                                 Conv's attribute; AMCT quantizes such a Conv as any other
=====================================  ===============================================================================

Rounding. The device rounds acc * 2^-k to fp16 (11 bits), then x + offset to fp16, then to int8 with ties to even. From
64 on fp16 has less than 5 fractional bits, so values next to a tie fall on it and are rounded a second time; the
integer graph rounds ties up (R3). ``rounding="exact"`` avoids that: 512.25 * 2^k in the bias moves every value that
matters into 512..1023, where fp16 is the fixed-point grid of halves. The quarter puts the rounding boundary n + 1/2
between the grid points n + 1/2 and n + 1, and the tie between those goes to the even one, n + 1: up, as in R3. Less 512
and 1/4 (two ``Add``, because fp16 has no 512.25) a value is n - 1/4 or n + 1/4 with the n of R3: no rounding behind it
can go wrong.
So that ATC doesn't take quantization back, narrow inputs get channels of zeros (int8 is computed in blocks of 32). With
groups these would need outputs of their own, so a grouped convolution of few channels becomes a dense one.

Head (R6). Its accumulators become fp16, too, and their rounding averages out over the map. What the fp16 means lose is
averaged a second time: the host adds mean(x) + mean(x - mean(x)).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool, Node, rules
from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.integer import INTEGER_OPERATORS
from squeezeedge.lower.legalize import dense_weight
from squeezeedge.lower.onnx_module import OnnxBuilder, conv_attributes, pool_attributes

__all__ = ["CLASS_MEANS", "FP16_CHANNELS", "FP16_DTYPE", "OPSET", "deploy_model", "pack_scale", "sum_scale"]

Convolution = TypeVar("Convolution", Conv, Head)

OPSET = 11
CLASS_MEANS = "class_means"

FP16_CHANNELS = 16
"""Convolutions of so many input channels, or fewer, lose their quantization in ATC."""

BLOCK = 32
"""Channels that int8 kernels compute together."""

FP16_DTYPE = 1
"""GE's number of float16."""

GRID = 512
"""Beginning of the binade in which fp16 is the grid of halves."""

ROUNDER = 1152
"""fp16 has no fraction at 1024 and above: x + 1152 rounds x in -128..255 to an integer."""

HEAD_LIMIT = 2**15

EXACT_SHIFT = 21
"""Largest shift of a convolution with exact rounding: 512 * 2^22 is no int32."""

FUSED_SHIFT = 30
"""Largest shift of a convolution without: beyond, the shift of an int32 leaves nothing but its sign."""

ADD_SHIFT = 24
"""Largest shift of an addition's operand: 2^-24 is the smallest fp16."""


QUANTIZE_AGAIN = "quantize the network again with a smaller limit of shifts (squeezeedge/graph/rules.py)"


def deploy_model(graph: IntegerGraph, rounding: str) -> ModelProto:
    """Write the model for ATC.

    Args:
        graph: the integer graph.
        rounding: "exact" or "fused", see the module's text.

    Returns:
        Input ``image`` float16 [1, 3, height, width] of 0..255, output ``class_means`` float16 [1, 2 * classes, 1, 1]:
        the class sums divided by :func:`sum_scale`, and behind them what the rounding of these left over. The float16
        tensor x of a node has the node's name.

    Raises:
        UnsupportedError: a layer's accumulators leave no room for exact rounding, or its shift is too large for this
            arithmetic; the text names the layer.
    """
    writer = _Writer(graph, exact=rounding == "exact")
    for node in graph.nodes:
        _write(node, writer)
    return writer.finish()


def pack_scale(scale: NDArray[np.float32]) -> NDArray[np.uint64]:
    """AscendDequant's parameter: float32 [out] -> uint64 [out], no shift and no weight offset."""
    return scale.astype(np.float32).view(np.uint32).astype(np.uint64)


def sum_scale(graph: IntegerGraph) -> float:
    """Class sum / class mean (both parts) of the deploy model: pixels * 2^shift.

    The shift keeps every accumulator of the head (R6) below what float16 holds.
    """
    out = graph.tensors[graph.head.name]
    return float(out.height * out.width * 2 ** _head_shift(graph.head))


def _head_shift(head: Head) -> int:
    bound = int((np.abs(head.bias.astype(np.int64)) + rules.accumulator_reach(head.weight)).max())
    return max(0, (bound // HEAD_LIMIT).bit_length())


class _Writer:
    """The state that all nodes of a graph share while they are written."""

    def __init__(self, graph: IntegerGraph, *, exact: bool) -> None:
        self.graph = graph
        self.exact = exact
        self.builder = OnnxBuilder(graph.name, graph.tensors)
        self.output = self.builder.unique(CLASS_MEANS)
        self._channels = {name: tensor.channels for name, tensor in graph.tensors.items()}
        self._wide: dict[str, str] = {}

    def finish(self) -> ModelProto:
        """The model of all that was written."""
        graph = self.graph
        image = helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT16, [1, 3, *graph.input_shape[:2]])
        means = helper.make_tensor_value_info(self.output, TensorProto.FLOAT16, [1, 2 * graph.classes, 1, 1])
        return self.builder.model(image, means, OPSET, graph.preprocessing)

    def widen(self, node: Conv) -> int:
        """Let a narrow convolution make extra channels of zeros itself, if only convolutions read it."""
        narrow = len(node.bias) <= FP16_CHANNELS
        convolutions = {conv.name for conv in self.graph.convolutions}
        readers = {reader.name for reader in self.graph.nodes if node.name in reader.inputs}
        missing = BLOCK - len(node.bias) if self.exact and narrow and readers <= convolutions else 0
        self._channels[node.name] += missing
        return missing

    def quantized_conv(
        self,
        node: Conv | Head,
        weight: NDArray[np.int8],
        bias: NDArray[np.int64],
        scale: NDArray[np.float32],
        output: str,
    ) -> None:
        """AscendQuant, Conv, AscendDequant: the float16 tensor acc * scale."""
        builder, name = self.builder, node.name
        at_edge = node.input == IMAGE and any(node.padding)
        value, channels = self._input(node, at_edge)
        missing = channels - weight.shape[3] * node.groups
        quantized = builder.node(
            "AscendQuant",
            [value],
            builder.unique(f"{name}.quant.output0"),
            name=f"{name}.quant",
            scale=1.0,
            offset=float(self.graph.tensors[node.input].zero_point - rules.SIGN),
            dst_type="INT8",
        )
        operands = [
            quantized,
            builder.constant(f"{name}.weight", np.pad(weight, ((0, 0),) * 3 + ((0, missing),)).transpose(0, 3, 1, 2)),
            builder.constant(f"{name}.bias", bias.astype(np.int32)),
        ]
        acc = builder.unique(f"{name}.dequant.input0")
        builder.node("Conv", operands, acc, name=name, **conv_attributes(node, padded=not at_edge))
        param = builder.constant(f"{name}.dequant.param", pack_scale(scale))
        builder.node("AscendDequant", [acc, param], output, name=f"{name}.dequant", dtype=FP16_DTYPE)

    def _input(self, node: Conv | Head, at_edge: bool) -> tuple[str, int]:
        """What a convolution reads, and its channels: with the image's border (R2), and wide enough for int8."""
        value, channels = node.input, self._channels[node.input]
        missing = BLOCK - channels if self.exact and channels <= FP16_CHANNELS else 0
        if at_edge:
            return self._bordered_image(node, missing), channels + missing
        if missing and value not in self._wide:
            self._wide[value] = self._pad(value, missing, (0, 0, 0, 0), f"{value}.wide")
        return self._wide.get(value, value), channels + missing

    def _bordered_image(self, node: Conv | Head, missing: int) -> str:
        """Pad the image with the mean pixel: the mean is subtracted first, as ONNX pads all channels with one value."""
        mean = node.pad_value.astype(np.float16)
        centred = self.plus(IMAGE, -mean, self.builder.unique(f"{node.name}.image.centred"))
        padded = self._pad(centred, missing, node.padding, f"{node.name}.image.padded")
        return self.plus(padded, np.pad(mean, (0, missing)), self.builder.unique(f"{node.name}.image"))

    def _pad(self, value: str, channels: int, padding: tuple[int, int, int, int], name: str) -> str:
        """Zeros behind the channels and around the pixels."""
        top, left, bottom, right = padding
        pads = np.array([0, 0, top, left, 0, channels, bottom, right], np.int64)
        return self.builder.step("Pad", [value, self.builder.constant(f"{name}.pads", pads)], name, mode="constant")

    def round(self, value: str, label: str) -> str:
        """The nearest integer of a float16 tensor in -128..255 that has no ties."""
        rounded = self.plus(value, np.float16(ROUNDER), self.builder.unique(f"{label}.rounded"))
        return self.plus(rounded, np.float16(-ROUNDER), self.builder.unique(f"{label}.integer"))

    def plus(self, value: str, constant: NDArray[np.floating] | np.float16, output: str) -> str:
        """Add a scalar or one float16 a channel."""
        array = np.asarray(constant, np.float16)
        shaped = array.reshape(1, -1, 1, 1) if array.ndim else array
        return self.builder.node("Add", [value, self.builder.constant(f"{output}.by", shaped)], output)


_write: Table[Node, None] = Table("Ascend's deploy model", INTEGER_OPERATORS)
"""Writes one node; the float16 tensor that it makes has the node's name."""


@_write.implements(Conv)
def _write_conv(node: Conv, writer: _Writer) -> None:
    node = _ungrouped(node)
    name, shift, builder = node.name, node.shift.astype(np.int64), writer.builder
    if writer.exact:
        _check_shift(node, EXACT_SHIFT, "of exact rounding; compile with `rounding` fused")
    _check_shift(node, FUSED_SHIFT, f"of Ascend's int32; {QUANTIZE_AGAIN}")
    bias = _on_grid(node) if writer.exact else node.bias.astype(np.int64)
    bounds = np.abs(bias) + rules.accumulator_reach(node.weight)
    if bounds.max() >= rules.INT32_LIMIT:
        raise UnsupportedError(
            f"{name}: int32 can overflow in channel {bounds.argmax()} with the offset of exact rounding; "
            "compile with `rounding` fused"
        )
    missing = writer.widen(node)
    weight = np.pad(node.weight, ((0, missing), (0, 0), (0, 0), (0, 0)))
    scale = np.exp2(-np.pad(shift, (0, missing)).astype(np.float32))
    last = name if node.zero_point else builder.unique(f"{name}.float")
    acc = builder.unique(f"{name}.dequant.output0") if writer.exact else last
    writer.quantized_conv(node, weight, np.pad(bias, (0, missing)), scale, acc)
    if writer.exact:
        halves = writer.plus(acc, np.float16(-GRID - node.zero_point), builder.unique(f"{name}.halves"))
        writer.plus(halves, np.float16(-0.25), last)
    if not node.zero_point:
        builder.node("Relu", [last], name, name=f"{name}.relu")


@_write.implements(MaxPool)
def _write_pool(node: MaxPool, writer: _Writer) -> None:
    tensors = writer.graph.tensors
    attributes = pool_attributes(node, tensors[node.input], tensors[node.name])
    writer.builder.node("MaxPool", node.inputs, node.name, **attributes)


@_write.implements(Concat)
def _write_concat(node: Concat, writer: _Writer) -> None:
    writer.builder.node("Concat", node.inputs, node.name, axis=1)


@_write.implements(Add)
def _write_add(node: Add, writer: _Writer) -> None:
    """Bypass addition (R5) of clipped operands; exact: of rounded ones, shifted as in R3."""
    builder, operands = writer.builder, []
    _check_shift(node, ADD_SHIFT, f"of Ascend's fp16; {QUANTIZE_AGAIN}")
    for index, (source, shift) in enumerate(zip(node.inputs, node.shift, strict=True)):
        label, zero_point = f"{node.name}.operand{index}", writer.graph.tensors[source].zero_point
        low = builder.constant(f"{label}.low", np.array(-zero_point, np.float16))
        high = builder.constant(f"{label}.high", np.array(rules.Q_MAX - zero_point, np.float16))
        value = builder.step("Clip", [source, low, high], f"{label}.clipped")
        if writer.exact:
            value = writer.round(value, label)
        if shift.any():
            factor = np.exp2(-shift.astype(np.float16))
            constant = builder.constant(f"{label}.factor", factor.reshape(1, -1, 1, 1))
            value = builder.step("Mul", [value, constant], f"{label}.scaled")
        if writer.exact and shift.any():  # half of the last bit keeps ties away and rounds them up
            value = writer.plus(value, np.where(shift > 0, factor / 2, 0), builder.unique(f"{label}.off_tie"))
            value = writer.round(value, label)
        operands.append(value)
    if node.zero_point:
        builder.node("Add", operands, node.name)
    else:
        total = builder.step("Add", operands, f"{node.name}.sum")
        builder.node("Relu", [total], node.name, name=f"{node.name}.relu")


@_write.implements(Head)
def _write_head(head: Head, writer: _Writer) -> None:
    head = _ungrouped(head)
    builder, name = writer.builder, head.name
    scale = np.full(len(head.bias), 2.0 ** -_head_shift(head), np.float32)
    value = builder.unique(f"{name}.dequant.output0")
    writer.quantized_conv(head, head.weight, head.bias.astype(np.int64), scale, value)
    if head.relu:
        value = builder.step("Relu", [value], f"{name}.relu")
    means = builder.step("GlobalAveragePool", [value], f"{name}.means")
    left = builder.step("Sub", [value, means], f"{name}.left")
    left = builder.step("GlobalAveragePool", [left], f"{name}.left.means")
    builder.node("Concat", [means, left], writer.output, axis=1)


def _ungrouped(node: Convolution) -> Convolution:
    """Write a grouped convolution as a dense one where its input or output may need extra channels of zeros."""
    narrow = min(len(node.weight), node.weight.shape[3] * node.groups) <= FP16_CHANNELS
    return replace(node, weight=dense_weight(node), groups=1) if node.groups > 1 and narrow else node


def _check_shift(node: Conv | Add, most: int, what: str) -> None:
    if node.shift.max() > most:
        raise UnsupportedError(f"{node.name}: its shift of {node.shift.max()} is more than the {most} {what}")


def _on_grid(node: Conv) -> NDArray[np.int64]:
    """Bias with (512 + zero point + 1/4) * 2^k added, see the module's text.

    Without fractional bits (k = 0) there is nothing to round; with one (k = 1) the term is 1/2, as in R3. A channel
    that clips whatever its input is may have a huge bias: it is made as small as keeps it clipping.
    """
    shift = node.shift.astype(np.int64)
    limit = ((rules.Q_MAX + 1) << shift) + rules.accumulator_reach(node.weight)
    quarter = np.where(shift == 1, 1, (1 << shift) >> 2)
    bias: NDArray[np.int64] = node.bias.astype(np.int64).clip(-limit, limit)
    return bias + ((GRID + node.zero_point) << shift) + quarter
