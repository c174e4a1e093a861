"""Where the error of an integer graph comes from: what every layer does to the logits, alone and together.

A layer makes three errors: its activations are rounded, they are clipped (R3), and its weights are integers. Each error
is made in the float network, one at a time, and the logits are compared. Weights may make up for errors of the layers
before (:mod:`compensate`). Here those layers have no errors, so this compensation counts as an error itself. A layer's
signal-to-noise ratio is thus a bound rather than what could be gained there.

A channel that is split into pieces (:mod:`split_channels`) is looked at as the one channel of the float network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.graph import oracle, rules
from squeezeedge.graph.float.graph import FloatGraph
from squeezeedge.graph.integer import IMAGE, Add, Conv, IntegerGraph
from squeezeedge.quantization.calibration import pad_codes
from squeezeedge.quantization.folded import FoldedConv, FoldedGraph, FoldedNode, apply_folded, pad
from squeezeedge.quantization.passes import folded_graph
from squeezeedge.quantization.rewrite import of_kind, per_output
from squeezeedge.quantization.split_channels import chains_of

__all__ = ["KINDS", "Attribution", "LayerError", "attribute"]

IMAGES = 16
"""Images that errors are measured on."""

BATCH = 4

KINDS = ("rounding", "clipping", "weights")
"""Of errors."""


@dataclass(frozen=True)
class LayerError:
    """The logits' signal-to-quantization-noise ratios in dB with the errors of one layer; infinite without an error.

    Attributes:
        name: of the layer.
        rounding: with its activations rounded.
        clipping: with its activations clipped.
        weights: with its weights and biases as integers.
        together: with all three.
    """

    name: str
    rounding: float
    clipping: float
    weights: float
    together: float

    @property
    def shares(self) -> Mapping[str, float]:
        """Kind of error -> its share, 0 to 1, of the summed noise of the three errors alone; empty without noise.

        Errors that cancel each other still count in full, so the noise of all together can be less than the sum.
        """
        noise = {kind: 10 ** (-getattr(self, kind) / 10) for kind in KINDS}
        total = sum(noise.values())
        return {kind: value / total for kind, value in noise.items()} if 0 < total < math.inf else {}

    def to_json(self) -> dict[str, Any]:
        """JSON values; infinite: ``None``."""
        return {key: None if value == math.inf else value for key, value in vars(self).items()}


@dataclass(frozen=True)
class Attribution:
    """What was found.

    Attributes:
        layers: convolutions and additions in execution order.
        network: the same of all layers at once; ``together`` is the integer graph itself.
        images: on how many images.
    """

    layers: tuple[LayerError, ...]
    network: LayerError
    images: int

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "images": self.images,
            "network": self.network.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }


def attribute(
    floating: FloatGraph,
    graph: IntegerGraph,
    pixels: NDArray[np.uint8],
    *,
    on_layer: Callable[[str, int, int], None] = lambda name, index, total: None,
) -> Attribution:
    """Measure the errors of every layer.

    Args:
        floating: the float graph that the integer graph was made of.
        graph: the integer graph.
        pixels: images, uint8 [N, height, width, 3]; :data:`IMAGES` of them are used.
        on_layer: called with (name, index, total) for each layer and each part of the images.

    Raises:
        UsageError: no images.
        SqueezeEdgeError: the integer graph was made of another network.
    """
    if len(pixels) == 0:
        raise UsageError("no images to measure errors on")
    chosen = pixels[np.linspace(0, len(pixels) - 1, min(IMAGES, len(pixels))).round().astype(np.int64)]
    network = _Network(folded_graph(floating, graph.preprocessing), graph)
    alone = [(kind,) for kind in KINDS]
    tried: list[tuple[Sequence[str], Sequence[str]]]
    tried = [([name], kinds) for name in network.layers for kinds in (*alone, KINDS)]
    tried += [(network.layers, kinds) for kinds in alone]
    signal, noise = 0.0, np.zeros(len(tried))
    parts = torch.split(torch.from_numpy(chosen).permute(0, 3, 1, 2).float(), BATCH)
    with torch.no_grad():
        references = []
        for index, part in enumerate(parts):
            values = network.values(part)
            reference = network.logits(values)
            references.append(reference)
            signal += _energy(reference)
            for at, (names, kinds) in enumerate(tried):
                if kinds is KINDS:
                    layer = network.layers.index(names[0])
                    on_layer(names[0], index * len(network.layers) + layer, len(parts) * len(network.layers))
                noise[at] += _energy(network.logits(network.changed(values, names, kinds)) - reference)
    whole = _energy(torch.from_numpy(graph.logits(oracle.run(graph, chosen))) - torch.cat(references))
    ratios = [_decibel(signal, value) for value in (*noise, whole)]
    layers = [LayerError(name, *ratios[4 * at : 4 * at + 4]) for at, name in enumerate(network.layers)]
    return Attribution(tuple(layers), LayerError("network", *ratios[4 * len(layers) :]), len(chosen))


def _energy(values: Tensor) -> float:
    return float(values.double().square().sum())


def _decibel(signal: float, noise: float) -> float:
    return 10 * math.log10(signal / noise) if signal and noise else math.inf if not noise else -math.inf


@dataclass(frozen=True, eq=False)
class _Layout:
    """How channels of an integer graph's tensor combine into the float network's; all but ``origin`` is float32.

    Attributes:
        origin: int64 [channels]: the float network's channel that each is a piece of.
        start: [channels]: the value at which the piece starts; 0 of a whole channel.
        lowest, highest: [channels]: what the piece of a value that is not clipped is clamped to.
        scale: [channels].
    """

    origin: Tensor
    start: Tensor
    lowest: Tensor
    highest: Tensor
    scale: Tensor

    def pieces(self, value: Tensor) -> Tensor:
        """The pieces of values, neither rounded nor clipped."""
        columns = (-1, 1, 1)
        moved = value[:, self.origin] - self.start.reshape(columns)
        return torch.minimum(torch.maximum(moved, self.lowest.reshape(columns)), self.highest.reshape(columns))

    def joined(self, pieces: Tensor) -> Tensor:
        """The sums of the pieces of each channel."""
        channels = int(self.origin.max()) + 1
        if len(self.origin) == channels:
            return pieces
        total = pieces[:, :channels].clone()
        return total.index_add_(1, self.origin[channels:], pieces[:, channels:])


def _whole(scale: Tensor) -> _Layout:
    none = torch.zeros_like(scale)
    return _Layout(torch.arange(len(scale)), none, none - math.inf, none + math.inf, scale)


class _Network:
    """The float network, some layers of which can be run with errors.

    Attributes:
        layers: names of those that can, in execution order.
    """

    def __init__(self, floating: FoldedGraph, graph: IntegerGraph) -> None:
        self.graph, self.head = floating, graph.head.name
        self.convolutions = {conv.name: conv for conv in floating.convolutions}
        self.additions = {addition.name: addition for addition in floating.additions}
        self.kernels = {node.name: node for node in graph.convolutions}
        self.requantized = {node.name: node for node in of_kind(graph.nodes, Conv)}
        self.sums = {node.name: node for node in of_kind(graph.nodes, Add)}
        self.scales = {name: torch.from_numpy(tensor.scale) for name, tensor in graph.tensors.items()}
        self.layers = (*floating.scaled, floating.head.name)
        self.zero_points = {name: tensor.zero_point for name, tensor in graph.tensors.items()}
        self.layouts = {IMAGE: _whole(torch.ones(3))}
        head = graph.tensors[graph.head.name]
        self.pixels = head.height * head.width
        if [node.name for node in floating.nodes] != [node.name for node in graph.nodes]:
            raise SqueezeEdgeError(f"{graph.name}: was made of another network; give the weights that it was made of")
        for node in floating.nodes:
            self.layouts[node.name] = self._layout(node)
            if self.layouts[node.name].origin.max() + 1 != floating.shapes[node.name].channels:
                raise SqueezeEdgeError(f"{graph.name}: {node.name} was made of another layer; give its weights")

    def values(self, images: Tensor) -> dict[str, Tensor]:
        """All tensors of the float network after their ReLU; images float32 [N, 3, height, width]."""
        values = {IMAGE: images}
        for node in self.graph.nodes:
            values[node.name] = self._plain(node, [values[name] for name in node.inputs])
        return values

    def logits(self, values: Mapping[str, Tensor]) -> Tensor:
        """float32 [N, classes]."""
        return values[self.graph.head.name].mean((2, 3))

    def changed(self, values: Mapping[str, Tensor], names: Sequence[str], kinds: Sequence[str]) -> dict[str, Tensor]:
        """All tensors if some layers make errors of some kinds; ``values``: those without errors."""
        result = dict(values)
        different: set[str] = set()
        for node in self.graph.nodes:
            inputs = [result[name] for name in node.inputs]
            if node.name in names:
                made = self._with_errors(node, inputs, kinds)
            elif different.intersection(node.inputs):
                made = self._plain(node, inputs)
            else:
                continue
            if not torch.equal(made, values[node.name]):
                result[node.name] = made
                different.add(node.name)
        return result

    def _layout(self, node: FoldedNode) -> _Layout:
        of_inputs = [self.layouts[name] for name in node.inputs]
        if node.name in self.requantized:
            return _of_conv(self.requantized[node.name], self.graph.shapes[node.name].channels)
        if node.name in self.sums or node.name == self.head:
            return _whole(self.scales[node.name])
        starts = np.cumsum([0, *(self.graph.shapes[name].channels for name in node.inputs)]).tolist()
        origin = torch.cat([layout.origin + at for layout, at in zip(of_inputs, starts, strict=False)])
        rest = [
            torch.cat([getattr(layout, key) for layout in of_inputs]) for key in ("start", "lowest", "highest", "scale")
        ]
        return _Layout(origin, *rest)

    def _plain(self, node: FoldedNode, inputs: list[Tensor]) -> Tensor:
        if conv := self.convolutions.get(node.name):
            padded = pad(inputs[0], conv.padding, conv.pad_value)
            weight, bias = torch.from_numpy(conv.weight), torch.from_numpy(conv.bias)
            made = F.conv2d(padded, weight, bias, conv.stride, groups=conv.groups)
        else:
            made = apply_folded(node, inputs)
        return made.clamp(0, self.graph.rectified[node.name]) if node.name in self.graph.rectified else made

    def _with_errors(self, node: FoldedNode, inputs: list[Tensor], kinds: Sequence[str]) -> Tensor:
        layout, columns = self.layouts[node.name], (-1, 1, 1)
        if node.name in self.convolutions and "weights" in kinds:
            made = self._with_integer_weights(self.convolutions[node.name], inputs[0])
        elif node.name in self.sums and "rounding" in kinds:
            scale = layout.scale.reshape(columns)
            shifted = torch.from_numpy(self.sums[node.name].shift > 0).reshape(2, *columns)
            terms = [torch.where(k, _rounded(x, scale), x) for k, x in zip(shifted, inputs, strict=True)]
            made = terms[0] + terms[1]
            made = made.clamp_min(0) if self.additions[node.name].relu else made
        else:
            made = self._plain(node, inputs)
        if node.name == self.head:
            return made
        pieces, scale = layout.pieces(made), layout.scale.reshape(columns)
        if "rounding" in kinds and node.name not in self.sums:
            pieces = _rounded(pieces, scale)
        if "clipping" in kinds:
            low = -self.zero_points[node.name]
            pieces = torch.minimum(torch.maximum(pieces, low * scale), (low + rules.Q_MAX) * scale)
        return layout.joined(pieces)

    def _with_integer_weights(self, node: FoldedConv, value: Tensor) -> Tensor:
        """A convolution and its ReLU, with the integer graph's weights, on the float network's values."""
        integer, source, out = self.kernels[node.name], self.layouts[node.inputs[0]], len(node.weight)
        step = integer.scale.astype(np.float64)
        if node.name == self.head:
            step = step * self.pixels
        else:
            step = step * np.exp2(-self.requantized[node.name].shift.astype(np.float64))
        step = step[:out]
        scale = per_output(source.scale.double().numpy(), out, node.groups)
        kernel = integer.weight[:out].transpose(0, 3, 1, 2) * (step[:, None] / scale)[:, :, None, None]
        bias = torch.from_numpy((integer.bias[:out] * step).astype(np.float32))
        code = pad_codes(node)[source.origin.numpy()]
        padded = pad(source.pieces(value), node.padding, code)
        made = F.conv2d(padded, torch.from_numpy(kernel.astype(np.float32)), bias, node.stride, groups=node.groups)
        return made.clamp(0, self.graph.rectified[node.name]) if node.name in self.graph.rectified else made


def _rounded(value: Tensor, scale: Tensor) -> Tensor:
    """To multiples of the scale as R3 does."""
    return (value / scale + 0.5).floor() * scale


def _of_conv(conv: Conv, channels: int) -> _Layout:
    """The layout of a convolution's output, of so many channels in the float network."""
    scale = torch.from_numpy(conv.scale)
    whole = _whole(scale)
    if len(scale) == channels:
        return whole
    origin, start, lowest, highest = whole.origin, whole.start, whole.lowest, whole.highest
    for chain in chains_of(conv, channels):
        origin[list(chain)] = chain[0]
        reach = torch.cumsum(rules.Q_MAX * scale[list(chain)], 0)
        start[list(chain[1:])] = reach[:-1]
        lowest[list(chain)] = 0
        highest[list(chain[:-1])] = rules.Q_MAX * scale[list(chain[:-1])]
    return _Layout(origin, start, lowest, highest, scale)
