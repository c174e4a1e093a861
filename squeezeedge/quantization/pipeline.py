"""Float graph + calibration images -> integer graph.

The float graph is folded (:mod:`fold_batch_norm`, :mod:`convolution_head`, :mod:`place_relu`, :mod:`fold`), scales
that additions tie together are solved for (:mod:`ties`), then the layers are quantized in execution order, each on
the quantized network's own inputs, so that it sees the errors of those before it: :mod:`compensate`,
:mod:`scale_search`, :mod:`gptq`, :mod:`overflow`. A separate bias correction was measured and left out: compensation
has set the bias, and on ImageNet correcting it once more lowers the agreement with fp32 by half a point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.graph.float.graph import FloatConcat, FloatGraph, FloatMaxPool
from squeezeedge.graph.integer import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool, Node
from squeezeedge.quantization.calibration import Calibration, observe, pad_codes
from squeezeedge.quantization.compensate import compensate
from squeezeedge.quantization.convolution_head import convolution_head
from squeezeedge.quantization.fold import fold
from squeezeedge.quantization.fold_batch_norm import fold_batch_norm
from squeezeedge.quantization.folded import FoldedAdd, FoldedConv, FoldedGraph, FoldedNode, apply_folded
from squeezeedge.quantization.gptq import inverse_factor, round_weights, second_moments, unit_error
from squeezeedge.quantization.overflow import INT32_LIMIT, bounded
from squeezeedge.quantization.place_relu import place_relu
from squeezeedge.quantization.requantize import exact_type, requantize
from squeezeedge.quantization.scale_search import Grid, free_scales, search_scales, weight_step
from squeezeedge.quantization.ties import Ties, tie_scales

__all__ = ["quantize"]


def quantize(
    floating: FloatGraph,
    preprocessing: Preprocessing,
    pixels: NDArray[np.uint8],
    *,
    name: str,
    labels: Sequence[str] = (),
    on_layer: Callable[[str, int, int], None] = lambda name, index, total: None,
) -> IntegerGraph:
    """Quantize a network. The result depends on the arguments only, not on any random state.

    Args:
        floating: the float graph.
        preprocessing: image -> input; its mean and standard deviation become part of the first convolution.
        pixels: calibration images, uint8 [N, height, width, 3].
        name: of the integer graph.
        labels: class names.
        on_layer: called with (name, index, total) before each convolution and addition.

    Raises:
        UnsupportedError: the network cannot be expressed; the text names the node.
        UsageError: no images, or more than fit into memory.
    """
    with torch.no_grad():
        graph = fold(place_relu(convolution_head(fold_batch_norm(floating))), preprocessing)
        quantizer = _Quantizer(graph, Calibration(graph, pixels))
        layers = [node for node in graph.nodes if isinstance(node, FoldedConv | FoldedAdd)]
        for node in graph.nodes:
            if node in layers:
                on_layer(node.name, layers.index(node), len(layers))
            quantizer.visit(node)
    return IntegerGraph(name, tuple(quantizer.nodes), preprocessing, tuple(labels))


class _Quantizer:
    """One walk in execution order.

    Attributes:
        nodes: of the integer graph, so far.
        scales: float64 [channels] of every tensor so far.
    """

    def __init__(self, graph: FoldedGraph, calibration: Calibration) -> None:
        self.graph, self.calibration = graph, calibration
        self.nodes: list[Node] = []
        self.scales = {IMAGE: torch.ones(3, dtype=torch.float64)}
        self.ties = Ties({}, {})
        if any(isinstance(node, FoldedAdd) for node in graph.nodes):
            self.ties = tie_scales(graph, observe(graph, calibration))

    def visit(self, node: FoldedNode) -> None:
        if isinstance(node, FoldedConv):
            self._conv(node)
        elif isinstance(node, FoldedAdd):
            self._add(node)
        else:
            self._copied(node)

    def _conv(self, node: FoldedConv) -> None:
        head = node is self.graph.head
        zero_point = self.graph.zero_points[node.name]
        samples = self.calibration.sample(node)
        moments = second_moments(samples.rows)
        scale_in = self.scales[node.inputs[0]]
        weight = (torch.from_numpy(node.weight).double() * scale_in[:, None, None]).flatten(1)
        bias = torch.from_numpy(node.bias).double()
        if not head and node.inputs[0] != IMAGE:  # the image is exact; in the head, pooling averages errors out
            weight, bias = compensate(weight, bias, samples.rows, samples.targets, moments, node.relu)
        factor = inverse_factor(moments)
        pixels = 1
        if head:
            _, height, width = self.graph.shapes[node.name]
            pixels = height * width
            step = weight_step(weight, bias, 0.9 * INT32_LIMIT / pixels).float().double()
            grid = Grid(step, torch.zeros(len(step), dtype=torch.int64))
            zero_point = 0
        else:
            candidates = free_scales(samples.range, zero_point)
            if node.name in self.ties.candidates:
                tied = self.ties.candidates[node.name]
                tied = torch.cat([tied, tied[-1:].expand(len(candidates) - len(tied), -1)])
                candidates = torch.where(tied.isnan(), candidates, tied)
            grid = search_scales(
                candidates, samples.range, zero_point, weight, bias, moments.diagonal(), unit_error(factor)
            )
        rounded = round_weights(weight, grid.step, factor)
        steps = (bias / grid.step).round()
        integers, offset = bounded(rounded, steps, grid.shift, zero_point, pixels)
        self._emit(node, integers, offset, grid)

    def _emit(self, node: FoldedConv, weight: Tensor, bias: Tensor, grid: Grid) -> None:
        """Append a convolution or the head; run a convolution on the calibration images."""
        (source,) = node.inputs
        kernel = weight.reshape(node.weight.shape)
        kernel_q8 = np.ascontiguousarray(kernel.permute(0, 2, 3, 1).numpy().astype(np.int8))
        bias_q32 = bias.numpy().astype(np.int32)
        pad_value = pad_codes(node) + np.uint8(self.graph.zero_points[source])
        scale = grid.scale.numpy().astype(np.float32)
        if node is self.graph.head:
            _, height, width = self.graph.shapes[node.name]
            self.nodes.append(
                Head(
                    name=node.name,
                    input=source,
                    weight=kernel_q8,
                    bias=bias_q32,
                    stride=node.stride,
                    padding=node.padding,
                    pad_value=pad_value,
                    relu=node.relu,
                    scale=scale / np.float32(height * width),
                )
            )
            return
        zero_point = self.graph.zero_points[node.name]
        self.nodes.append(
            Conv(
                name=node.name,
                input=source,
                weight=kernel_q8,
                bias=bias_q32,
                shift=grid.shift.numpy().astype(np.uint8),
                stride=node.stride,
                padding=node.padding,
                pad_value=pad_value,
                zero_point=zero_point,
                scale=scale,
            )
        )
        self.scales[node.name] = grid.scale
        reach = 255 * weight.abs().sum(1) + bias.abs() + (1 << grid.shift)
        kernel = kernel.to(exact_type(float(reach.max())))

        def codes() -> Iterator[tuple[slice, Tensor]]:
            for part in self.calibration.parts(node):
                padded = self.calibration.padded_codes(node, part, kernel.dtype)
                products = F.conv2d(padded, kernel, None, node.stride).permute(0, 2, 3, 1)
                yield part, requantize(products, bias, grid.shift, zero_point).permute(0, 3, 1, 2)

        self.calibration.store(node, codes())

    def _add(self, node: FoldedAdd) -> None:
        zero_point = self.graph.zero_points[node.name]
        scale = self.ties.sums[node.name]
        shifts = torch.stack([torch.log2(scale / self.scales[name]).round().long() for name in node.inputs])
        zero_points = [self.graph.zero_points[name] for name in node.inputs]
        self.nodes.append(
            Add(
                name=node.name,
                inputs=node.inputs,
                shift=shifts.numpy().astype(np.uint8),
                zero_point=zero_point,
                scale=scale.numpy().astype(np.float32),
            )
        )
        self.scales[node.name] = scale
        self.calibration.run_float(node)

        def codes() -> Iterator[tuple[slice, Tensor]]:
            for part in self.calibration.parts(node):
                total = torch.zeros(())
                for name, zero, shift in zip(node.inputs, zero_points, shifts, strict=True):
                    half = ((1 << shift) >> 1)[:, None, None]
                    operand = self.calibration.codes[name][part].float() - (zero - half)
                    total = total + (operand * torch.exp2(-shift.float())[:, None, None]).floor()
                yield part, (total + zero_point).clamp(0, 255)

        self.calibration.store(node, codes())

    def _copied(self, node: FloatMaxPool | FloatConcat) -> None:
        """Max pooling and concatenation: the same operation on codes and on float values."""
        if isinstance(node, FloatConcat):
            self.nodes.append(Concat(node.name, node.inputs))
        else:
            self.nodes.append(
                MaxPool(node.name, node.inputs[0], node.kernel, node.stride, node.padding, node.ceil_mode)
            )
        self.scales[node.name] = torch.cat([self.scales[name] for name in node.inputs])
        self.calibration.run_float(node)

        def codes() -> Iterator[tuple[slice, Tensor]]:
            for part in self.calibration.parts(node):
                inputs = [self.calibration.codes[name][part].float() for name in node.inputs]
                yield part, apply_folded(node, inputs)

        self.calibration.store(node, codes())
