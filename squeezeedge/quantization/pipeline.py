"""Float graph + calibration images -> integer graph.

First the float graph is folded (:mod:`passes`), the channels whose rounding costs most are split
(:mod:`split_channels`), and the scales that additions tie together are solved for (:mod:`ties`). Then the layers are
quantized in execution order by :mod:`compensate`, :mod:`scale_search`, :mod:`gptq` and :mod:`overflow`. Each layer
reads the quantized network's own inputs, so it sees the errors of the layers before it. There is no separate bias
correction: compensation has set the bias, and on ImageNet a second correction lowers the agreement with fp32 by half a
point. Depthwise convolutions are the exception. They have too few weights to make up for the shift of the mean that
rounding causes, so their bias is corrected, and rounding uses the covariance of the inputs (:mod:`gptq`).

The result is the same on every machine and with every number of threads: see :mod:`exact`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.graph import rules
from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.float.graph import FloatConcat, FloatGraph, FloatMaxPool
from squeezeedge.graph.integer import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool, Node
from squeezeedge.quantization.calibration import Calibration, Samples, observe, pad_codes
from squeezeedge.quantization.compensate import compensate
from squeezeedge.quantization.dead import always_zero, removed
from squeezeedge.quantization.effort import EFFORTS, Effort
from squeezeedge.quantization.evidence import evidence
from squeezeedge.quantization.exact import one_thread
from squeezeedge.quantization.folded import (
    FOLDED_OPERATORS,
    FoldedAdd,
    FoldedConv,
    FoldedNode,
    apply_folded,
)
from squeezeedge.quantization.gptq import (
    Factor,
    Rounding,
    central_moments,
    inverse_factor,
    mean_output,
    round_weights,
    second_moments,
    unit_error,
)
from squeezeedge.quantization.overflow import bounded
from squeezeedge.quantization.passes import folded_graph
from squeezeedge.quantization.requantize import exact_type, requantize
from squeezeedge.quantization.rewrite import per_output
from squeezeedge.quantization.scale_search import (
    Grid,
    cheapest_step,
    free_scales,
    rounded_up,
    search_scales,
    weight_step,
)
from squeezeedge.quantization.split_channels import SplitGraph, chained, plan, split
from squeezeedge.quantization.ties import Ties, tie_scales

__all__ = ["quantize"]

HEAD_SHARE = 0.9
"""Share of what R6 allows that a class sum may take before weights are rounded."""

HEAD_WEIGHT = 112
"""Largest weight of each class in steps; R3 allows 127. The head has many weights, 41 % of SqueezeNet 1.1's, whose
rounding makes a hundredth of the network's error, so that each can be coded with a sixth of a bit less."""

HEAD_STEPS = 16
"""A remark follows if the classes' largest weights have fewer steps, of 127; R6 leaves few for large maps."""


def quantize(
    floating: FloatGraph,
    preprocessing: Preprocessing,
    pixels: NDArray[np.uint8],
    *,
    name: str,
    labels: Sequence[str] = (),
    effort: Effort = EFFORTS["fast"],
    on_layer: Callable[[str, int, int], None] = lambda name, index, total: None,
    on_remark: Callable[[str], None] = lambda text: None,
    rounding: Rounding | None = None,
) -> IntegerGraph:
    """Quantize a network. The result depends on the arguments only, not on any random state, threads or processor.

    Args:
        floating: the float graph.
        preprocessing: image -> input; its mean and standard deviation become part of the first convolution.
        pixels: calibration images, uint8 [N, height, width, 3].
        name: of the integer graph.
        labels: class names.
        effort: which passes are applied.
        on_layer: called with (name, index, total) before each convolution and addition.
        on_remark: called with what people should know: of the images (:mod:`evidence`), of channels that were removed
            (:mod:`dead`), of a map too large for its class sums, of tiny weights of the head.
        rounding: how weights are rounded; ``None``: as the effort says.

    Raises:
        UnsupportedError: the network cannot be expressed; the text names the node.
        SqueezeEdgeError: a layer computes values that are not finite; the text names it.
        UsageError: no images, or more than fit into memory.
    """
    with torch.no_grad(), torch.backends.nnpack.flags(enabled=False):  # NNPACK's sums of integers are not exact
        graph, seen = folded_graph(floating, preprocessing), evidence(pixels)
        for text in seen.remarks():
            on_remark(text)
        divided = split(graph, plan(graph, seen.pixels, effort.extra_macs))
        graph = divided.graph
        calibration = Calibration(graph, seen.pixels, effort.rows, effort.mirror)
        quantizer = _Quantizer(divided, calibration, effort, on_remark, rounding)
        layers = [*graph.scaled, graph.head.name]
        for node in graph.nodes:
            if node.name in layers:
                on_layer(node.name, layers.index(node.name), len(layers))
            _visit(node, quantizer)
    if quantizer.dead_count:
        on_remark(removed(quantizer.dead_count))
    return IntegerGraph(name, tuple(quantizer.nodes), preprocessing, tuple(labels))


class _Quantizer:
    """One walk in execution order.

    Attributes:
        nodes: of the integer graph, so far.
        scales: float64 [channels] of every tensor so far: what a unit of q adds to the float network's value. A piece
            of a split channel (:mod:`split_channels`) makes one part of that value.
        dead: bool [channels] of every tensor so far: whether it is 0 for every image.
        dead_count: convolution -> how many of its channels are, and how many it has.
        effort: which passes are applied.
        on_remark: called with what people should know.
        rounding: how weights are rounded; ``None``: as the effort says.
    """

    def __init__(
        self,
        divided: SplitGraph,
        calibration: Calibration,
        effort: Effort,
        on_remark: Callable[[str], None],
        rounding: Rounding | None,
    ) -> None:
        self.divided, self.graph, self.calibration = divided, divided.graph, calibration
        self.effort, self.on_remark, self.rounding = effort, on_remark, rounding
        graph = self.graph
        self.nodes: list[Node] = []
        self.scales = {IMAGE: torch.ones(3, dtype=torch.float64)}
        self.dead = {IMAGE: torch.zeros(3, dtype=torch.bool)}
        self.dead_count: dict[str, tuple[int, int]] = {}
        ranges = observe(graph, calibration) if graph.additions else {}
        with one_thread():
            self.ties = tie_scales(graph, ranges) if graph.additions else Ties({}, {})

    def candidates(self, node: FoldedConv, samples: Samples) -> Tensor:
        """Scales that a convolution may have: float64 [candidates, out]."""
        free = free_scales(samples.range, self.graph.zero_points[node.name])
        if not self.effort.search:
            free = free[:1]  # the least that clips nothing seen
        if node.name not in self.ties.candidates:
            return free
        tied = self.ties.candidates[node.name]
        count = max(len(free), len(tied))
        free, tied = (torch.cat([rows, rows[-1:].expand(count - len(rows), -1)]) for rows in (free, tied))
        return torch.where(tied.isnan(), free, tied)

    def emit_head(self, node: FoldedConv, weight: Tensor, bias: Tensor, step: Tensor) -> None:
        """Append the head; weight int64 [out, fan-in], bias int64 [out], step float64 [out]."""
        shape = self.graph.shapes[node.name]
        self.nodes.append(
            Head(
                name=node.name,
                input=node.inputs[0],
                weight=_kernel(node, weight),
                bias=bias.numpy().astype(np.int32),
                stride=node.stride,
                padding=node.padding,
                pad_value=self._pad_value(node),
                relu=node.relu,
                scale=step.numpy().astype(np.float32) / np.float32(shape.height * shape.width),
                groups=node.groups,
            )
        )

    def emit(self, node: FoldedConv, weight: Tensor, bias: Tensor, grid: Grid) -> None:
        """Append a convolution and run it on the calibration images; weight int64 [out, fan-in], bias int64 [out]."""
        zero_point = self.graph.zero_points[node.name]
        self.nodes.append(
            Conv(
                name=node.name,
                input=node.inputs[0],
                weight=_kernel(node, weight),
                bias=bias.numpy().astype(np.int32),
                shift=grid.shift.numpy().astype(np.uint8),
                stride=node.stride,
                padding=node.padding,
                pad_value=self._pad_value(node),
                zero_point=zero_point,
                scale=grid.scale.numpy().astype(np.float32),
                groups=node.groups,
            )
        )
        self.scales[node.name] = grid.scale * self.divided.pieces.get(node.name, 1)
        reach = rules.Q_MAX * weight.abs().sum(1) + bias.abs() + (1 << grid.shift)
        kernel = weight.reshape(node.weight.shape).to(exact_type(float(reach.max())))

        def codes() -> Iterator[tuple[slice, Tensor]]:
            for part in self.calibration.parts(node):
                padded = self.calibration.padded_codes(node, part, kernel.dtype)
                products = F.conv2d(padded, kernel, None, node.stride, groups=node.groups).permute(0, 2, 3, 1)
                yield part, requantize(products, bias, grid.shift, zero_point).permute(0, 3, 1, 2)

        self.calibration.store(node, codes())

    def copied(self, node: FloatMaxPool | FloatConcat) -> None:
        """Run max pooling or concatenation: the same operation on codes and on float values."""
        for known in (self.scales, self.dead):
            known[node.name] = torch.cat([known[name] for name in node.inputs])
        self.calibration.run_float(node)

        def codes() -> Iterator[tuple[slice, Tensor]]:
            for part in self.calibration.parts(node):
                inputs = [self.calibration.codes[name][part].float() for name in node.inputs]
                yield part, apply_folded(node, inputs)

        self.calibration.store(node, codes())

    def _pad_value(self, node: FoldedConv) -> NDArray[np.uint8]:
        return pad_codes(node) + np.uint8(self.graph.zero_points[node.inputs[0]])


_visit: Table[FoldedNode, None] = Table("quantizer", FOLDED_OPERATORS)


@_visit.implements(FoldedConv)
def _conv(node: FoldedConv, quantizer: _Quantizer) -> None:
    samples = quantizer.calibration.sample(node)
    moments = second_moments(samples.rows)
    scale_in, dead_in = (
        torch.from_numpy(per_output(known[node.inputs[0]].numpy(), len(node.weight), node.groups))[:, :, None, None]
        for known in (quantizer.scales, quantizer.dead)
    )
    units = scale_in.expand(node.weight.shape).flatten(1)
    weight = (torch.from_numpy(node.weight).double() * scale_in).masked_fill(dead_in, 0).flatten(1)
    bias = torch.from_numpy(node.bias).double()
    if node is quantizer.graph.head:
        quantizer.emit_head(node, *_fitted_head(node, quantizer, moments, weight, bias, units))
    else:
        quantizer.emit(node, *_fitted(node, quantizer, samples, moments, weight, bias, units))


def _fitted(
    node: FoldedConv,
    quantizer: _Quantizer,
    samples: Samples,
    moments: Tensor,
    weight: Tensor,
    bias: Tensor,
    units: Tensor,
) -> tuple[Tensor, Tensor, Grid]:
    """Integer weight and bias, int64 [out, fan-in] and [out], and the grid of a convolution that is not the head."""
    source, by_group = node.inputs[0], (node.groups, len(node.weight) // node.groups)
    depthwise = node.groups == len(node.weight) > 1
    zero_point = quantizer.graph.zero_points[node.name]
    limit = quantizer.graph.rectified.get(node.name)
    dead = always_zero(weight, bias, quantizer.graph.zero_points[source], node.relu)
    if source != IMAGE and quantizer.effort.compensate:  # the image is exact
        weights, biases = weight.reshape(*by_group, -1), bias.reshape(by_group)
        weights, biases = compensate(
            weights, biases, samples.rows, samples.targets, moments, limit, quantizer.effort.ridge
        )
        weight, bias = weights.flatten(0, 1), biases.flatten()
    weight, bias = weight.masked_fill(dead[:, None], 0), bias.masked_fill(dead, 0)
    quantizer.dead[node.name] = dead
    if dead.any():
        quantizer.dead_count[node.name] = int(dead.sum()), len(dead)
    with one_thread():
        factor = inverse_factor(central_moments(moments, samples.rows) if depthwise else moments)
        power = moments.diagonal(dim1=1, dim2=2)
        candidates = quantizer.candidates(node, samples)
        rounding = quantizer.rounding
        price = None if rounding is None else rounding.price(node.name, weight, units, factor)
        grid = search_scales(candidates, samples.range, zero_point, weight, bias, power, unit_error(factor), price)
        rounded = _rounded(node, quantizer, weight, grid.step, factor)
    if depthwise:
        lost = (weight - rounded * grid.step[:, None]).reshape(*by_group, -1)
        bias = bias + mean_output(lost, samples.rows).flatten()
    steps = (bias / grid.step).round()
    rounded, steps, grid = chained(quantizer.divided.chains.get(node.name, ()), rounded, steps, grid)
    integers, offset = bounded(rounded, steps, grid.shift, zero_point, 1)
    return integers, offset, grid


def _rounded(node: FoldedConv, quantizer: _Quantizer, weight: Tensor, step: Tensor, factor: Factor) -> Tensor:
    """Multiples of the step, float64 integers [out, fan-in]; weights that were trained to be 0 stay 0."""
    if quantizer.rounding is not None:
        return quantizer.rounding.round(node.name, weight, step, factor)
    kept = torch.from_numpy(node.weight != 0).flatten(1)
    if not quantizer.effort.gptq:
        return (weight / step[:, None]).round().clamp(-rules.WEIGHT_LIMIT, rules.WEIGHT_LIMIT) * kept
    by_group = len(factor.order), len(weight) // len(factor.order)
    weights, of_weights = (values.reshape(*by_group, -1) for values in (weight, kept))
    return round_weights(weights, step.reshape(by_group), factor, of_weights).flatten(0, 1)


def _fitted_head(
    node: FoldedConv, quantizer: _Quantizer, moments: Tensor, weight: Tensor, bias: Tensor, units: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Integer weight and bias, int64 [out, fan-in] and [out], and step of the head; pooling averages errors out."""
    height, width, _ = quantizer.graph.shapes[node.name]
    pixels = height * width
    limit = HEAD_SHARE * rules.INT32_LIMIT / pixels
    step = weight_step(weight, bias, limit)
    if quantizer.rounding is None:
        step = torch.maximum(step, weight.abs().amax(1) / HEAD_WEIGHT)
    step = rounded_up(step / pixels) * pixels  # what the host multiplies by is step / pixels
    used = weight.any(1)
    largest = weight.abs().amax(1)[used]
    if used.any() and (steps := float((largest / step[used]).median())) < HEAD_STEPS:
        room = float((largest * limit / (rules.Q_MAX * weight[used].abs().sum(1))).median())
        if room < HEAD_STEPS:
            text = (
                f"the class sums over a map of {height}x{width} pixels must fit into 32 bits (R6), so a class's "
                f"largest weight has {steps:.1f} steps instead of {HEAD_WEIGHT}, and the accuracy falls; use a "
                f"smaller input than {quantizer.graph.input_size[0]}x{quantizer.graph.input_size[1]} pixels"
            )
        else:
            text = (
                f"its weights are tiny (at most {np.abs(node.weight).max():.1e}, biases up to "
                f"{np.abs(node.bias).max():.1e}), so that the image hardly changes the class sums; check the weights"
            )
        quantizer.on_remark(f"{node.name}: {text}")
    with one_thread():
        factor = inverse_factor(moments)
        if quantizer.rounding is not None:
            step = cheapest_step(step, quantizer.rounding.price(node.name, weight, units, factor))
            step = rounded_up(step / pixels) * pixels
        rounded = _rounded(node, quantizer, weight, step, factor)
    integers, offset = bounded(rounded, (bias / step).round(), torch.zeros(len(step), dtype=torch.int64), 0, pixels)
    return integers, offset, step


@_visit.implements(FoldedAdd)
def _add(node: FoldedAdd, quantizer: _Quantizer) -> None:
    zero_points, calibration = quantizer.graph.zero_points, quantizer.calibration
    scale = quantizer.ties.sums[node.name]
    shifts = torch.stack([torch.log2(scale / quantizer.scales[name]).round().long() for name in node.inputs])
    quantizer.nodes.append(
        Add(
            name=node.name,
            inputs=node.inputs,
            shift=shifts.numpy().astype(np.uint8),
            zero_point=zero_points[node.name],
            scale=scale.numpy().astype(np.float32),
        )
    )
    quantizer.scales[node.name] = scale
    quantizer.dead[node.name] = torch.zeros(len(scale), dtype=torch.bool)
    calibration.run_float(node)

    def codes() -> Iterator[tuple[slice, Tensor]]:
        for part in calibration.parts(node):
            total = torch.zeros(())
            for name, shift in zip(node.inputs, shifts, strict=True):
                term = rules.rounding_term(shift)[:, None, None]
                operand = calibration.codes[name][part].float() - (zero_points[name] - term)
                total = total + (operand * torch.exp2(-shift.float())[:, None, None]).floor()
            yield part, (total + zero_points[node.name]).clamp(0, rules.Q_MAX)

    calibration.store(node, codes())


@_visit.implements(FloatMaxPool)
def _max_pool(node: FloatMaxPool, quantizer: _Quantizer) -> None:
    pool = MaxPool(node.name, node.inputs[0], node.kernel, node.stride, node.padding, node.ceil_mode)
    quantizer.nodes.append(pool)
    quantizer.copied(node)


@_visit.implements(FloatConcat)
def _concat(node: FloatConcat, quantizer: _Quantizer) -> None:
    quantizer.nodes.append(Concat(node.name, node.inputs))
    quantizer.copied(node)


def _kernel(node: FoldedConv, weight: Tensor) -> NDArray[np.int8]:
    """Integers [out, fan-in] as the integer graph has them: int8 [out, kh, kw, in / groups]."""
    kernel = weight.reshape(node.weight.shape).permute(0, 2, 3, 1).numpy()
    return np.ascontiguousarray(kernel.astype(np.int8))
