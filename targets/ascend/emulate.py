"""Runs a deploy model with the device's arithmetic on this machine.

What is emulated, and where it was read (sources by name in :mod:`.deploy`):

- AscendQuant: fp16 input (fp32 is cast first), times the scale if that is not 1, plus the offset, both rounded to fp16;
  then int8, ties to even, saturating (TBE kernel ascend_quant; asc-devkit's half -> int8 cast).
- Conv: int32 accumulators, exact; the padding is the offset, ATC corrects the bias.
- AscendDequant: acc * scale, rounded to fp16 once (ascend_dequant; ``vdeq_cast`` of Ascend310P and later. Ascend310
  casts the accumulators first, in a way that is not documented: this emulation is not for it). What fp16 can't hold
  saturates.
- A convolution of at most 16 input channels runs in fp16 instead: input as it is, weights and bias times the scale and
  rounded to fp16, sums in fp32, result rounded to fp16.
- Everything else: fp16 with rounding to nearest, ties to even; GlobalAveragePool sums in fp32.

Not emulated: for some chips ATC fuses AscendDequant, Relu and AscendQuant into one requantization that rounds once
(CANN's fusion reference: V200RequantFusionPass). With ``rounding="fused"`` such a device is nearer to the integer
graph than this emulation; with "exact" there is nothing to join.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto
from torch import Tensor

from squeezeedge.graph import IntegerGraph, rules
from squeezeedge.graph import Tensor as GraphTensor
from squeezeedge.graph.oracle import execute
from squeezeedge.graph.sqe import read_sqe
from squeezeedge.targets.ascend.deploy import FP16_CHANNELS, FP16_DTYPE
from squeezeedge.targets.ascend.device import quantized, read_constants, sums_of
from squeezeedge.targets.ascend.reading import read_deploy_model
from squeezeedge.targets.ascend.structure import DeployConv, attributes, constants, deploy_convs

if TYPE_CHECKING:
    from squeezeedge.targets.device.run import Artifact

__all__ = ["EmulatedNetwork", "Emulator", "differing_values", "quantize"]

GRAPH = "model.sqe"
FP16_MAX = 65504.0

BATCH = 8
COMPARED = 2
"""Images whose tensors are compared with the oracle's."""


class EmulatedNetwork:
    """The deploy model of an artifact with the device's arithmetic; latency is this machine's.

    Args:
        artifact: its files.

    Raises:
        CorruptFileError, ValueError: a file is damaged.
    """

    def __init__(self, artifact: Artifact) -> None:
        self._shape = artifact.shape
        self._sum_scale, self.tolerance = read_constants(artifact)
        self._graph = read_sqe(artifact.path(GRAPH))
        if (tuple(self._graph.input_shape), self._graph.classes) != (artifact.shape, artifact.classes):
            raise ValueError(f"{artifact.folder / GRAPH}: not of this artifact; compile the model again")
        self._emulator = Emulator(read_deploy_model(artifact, self._graph))
        self._differing: dict[str, float] = {}

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.int32], dict[str, NDArray[np.float64]]]:
        """Images uint8 [N, height, width, 3] -> (int32 [N, classes], milliseconds float64 [N] of each image).

        Raises:
            ValueError: images of another shape or type.
        """
        if images.dtype != np.uint8 or images.shape[1:] != self._shape:
            raise ValueError(f"images must be uint8 [N, {', '.join(map(str, self._shape))}]")
        sums, latency = np.empty((len(images), self._graph.classes), np.int32), np.empty(len(images))
        for begin in range(0, len(images), BATCH):
            part = slice(begin, begin + BATCH)
            start = time.perf_counter()
            means = self._emulator.run(images[part])
            latency[part] = (time.perf_counter() - start) * 1e3 / len(means)
            sums[part] = sums_of(means, self._sum_scale)
        if not self._differing and len(images):
            self._differing = differing_values(self._graph, self._emulator, images[:COMPARED])
        return sums, {"latency_ms": latency}

    def trace(self, image: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[Any]]]:
        """Image uint8 [height, width, 3] -> (name, uint8 [height, width, channels]) of each tensor; last the sums.

        The model's float tensors, as the layer that reads them quantizes them.

        Raises:
            ValueError: an image of another shape or type.
        """
        if image.dtype != np.uint8 or image.shape != self._shape:
            raise ValueError(f"an image must be uint8 [{', '.join(map(str, self._shape))}]")
        graph = self._graph
        for name, value in self._emulator.tensors(image[None]):
            if name == self._emulator.output:
                means = value.float().numpy().reshape(1, -1)
            elif name in graph.tensors and name != graph.head.name:
                yield name, quantized_values(value, graph.tensors[name])[0]
        yield graph.head.name, sums_of(means, self._sum_scale)[0]

    def unseen(self) -> Mapping[str, str]:
        """None."""
        return {}

    def about(self) -> dict[str, Any]:
        """``differing_values``: for each layer the percentage of values that differ from the oracle's (R3).

        They are those of the first two images.
        """
        return {"differing_values": self._differing}

    def close(self) -> None:
        """Nothing is held."""


def differing_values(graph: IntegerGraph, emulator: Emulator, images: NDArray[np.uint8]) -> dict[str, float]:
    """Percentage of values that differ from the oracle's, for each node but the head.

    Args:
        graph: the integer graph.
        emulator: its deploy model.
        images: uint8 [N, height, width, 3].
    """
    expected = [dict(execute(graph, image)) for image in images]
    shares = {}
    for name, value in emulator.tensors(images):
        if name in graph.tensors and name != graph.head.name:
            values = np.stack([result[name] for result in expected])
            shares[name] = 100 * float(np.mean(quantized_values(value, graph.tensors[name]) != values))
    return shares


def quantized_values(value: Tensor, tensor: GraphTensor) -> NDArray[np.uint8]:
    """A float tensor of the model, [N, C, H, W] -> the graph's tensor that it represents, uint8 [N, H, W, channels]."""
    return quantized(value[:, : tensor.channels].numpy().transpose(0, 2, 3, 1), tensor.zero_point)


def quantize(x: Tensor, scale: float, offset: float) -> Tensor:
    """AscendQuant: any float tensor -> int8."""
    half = x.half()
    if scale != 1:
        half = (half.float() * scale).half()
    return (half.float() + offset).half().float().round().clamp(-128, 127).to(torch.int8)


class Emulator:
    """A deploy model, ready to run.

    Args:
        model: as :mod:`.deploy` makes it or :mod:`.reading` reads it.

    Attributes:
        output: name of the tensor of the class means.
    """

    def __init__(self, model: ModelProto) -> None:
        self._nodes = list(model.graph.node)
        self._input = model.graph.input[0].name
        self.output = model.graph.output[0].name
        self._constants = {
            name: torch.from_numpy(value.copy())
            for name, value in constants(model).items()
            if value.dtype in (np.float16, np.int64)
        }
        self._convs = {conv.name: _Conv(conv) for conv in deploy_convs(model)}
        self._readers = Counter(name for node in self._nodes for name in {*node.input})

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the model answers, float32 [N, 2 * classes], to images uint8 [N, height, width, 3]."""
        for name, value in self.tensors(images):
            if name == self.output:
                return value.float().numpy().reshape(len(images), -1)
        raise AssertionError("the model has no output")

    def tensors(self, images: NDArray[np.uint8]) -> Iterator[tuple[str, Tensor]]:
        """Run images and yield every float tensor in execution order: (name, float16 [N, C, H, W])."""
        values = {self._input: torch.tensor(images).permute(0, 3, 1, 2).half()}
        left = dict(self._readers)
        with torch.inference_mode():
            for node in self._nodes:
                if node.op_type in ("AscendQuant", "Conv"):  # one step with the AscendDequant behind them
                    continue
                if node.op_type == "AscendDequant":
                    conv = self._convs[node.name.removesuffix(".dequant")]
                    inputs = [conv.source]
                    result = conv.run(values[conv.source])
                else:
                    inputs = [name for name in node.input if name in values]
                    result = self._apply(node, values)
                values[node.output[0]] = result
                yield node.output[0], result
                for name in {*inputs}:
                    left[name] -= 1
                    if not left[name]:
                        del values[name]

    def _apply(self, node: NodeProto, values: dict[str, Tensor]) -> Tensor:
        inputs = [values[name] if name in values else self._constants[name] for name in node.input]
        return _OPERATORS[node.op_type](inputs, attributes(node))


def _pad(inputs: Sequence[Tensor], settings: Mapping[str, Any]) -> Tensor:
    _, _, top, left, _, channels, bottom, right = inputs[1].tolist()
    return torch.nn.functional.pad(inputs[0], (left, right, top, bottom, 0, channels))


def _max_pool(inputs: Sequence[Tensor], settings: Mapping[str, Any]) -> Tensor:
    top, left, bottom, right = settings["pads"]
    padded = torch.nn.functional.pad(inputs[0].float(), (left, right, top, bottom), value=-torch.inf)
    return torch.nn.functional.max_pool2d(padded, settings["kernel_shape"], settings["strides"]).half()


_OPERATORS: Mapping[str, Callable[[Sequence[Tensor], Mapping[str, Any]], Tensor]] = {
    "Relu": lambda x, _: x[0].relu(),
    "Add": lambda x, _: (x[0].float() + x[1].float()).half(),
    "Sub": lambda x, _: (x[0].float() - x[1].float()).half(),
    "Mul": lambda x, _: (x[0].float() * x[1].float()).half(),
    "Clip": lambda x, _: x[0].clamp(x[1].item(), x[2].item()),
    "Concat": lambda x, _: torch.cat(list(x), 1),
    "GlobalAveragePool": lambda x, _: x[0].double().mean((2, 3), keepdim=True).float().half(),
    "Pad": _pad,
    "MaxPool": _max_pool,
}
"""ONNX operator -> what it makes of its inputs and its attributes; the convolutions are :class:`_Conv`."""


class _Conv:
    """AscendQuant, Conv and AscendDequant, or the fp16 convolution that ATC makes of them."""

    def __init__(self, conv: DeployConv) -> None:
        self.source = conv.source
        self._conv = conv
        self._in_fp16 = conv.weight.shape[1] * conv.groups <= FP16_CHANNELS
        weight, bias = conv.weight.astype(np.float64), conv.bias.astype(np.float64)
        self._scale: Tensor | None = None
        if self._in_fp16:
            scale = conv.scale.astype(np.float64)
            weight = _half(weight * scale[:, None, None, None] * conv.quant_scale).astype(np.float64)
            bias = _half(bias * scale).astype(np.float64)
            self._type = torch.float64
        else:
            reach = 256 * np.abs(weight).sum((1, 2, 3)) + np.abs(bias)
            self._type = torch.float32 if reach.max() < rules.FLOAT32_EXACT else torch.float64
            self._scale = torch.from_numpy(conv.scale.copy()).to(self._type)[:, None, None]
        self._weight, self._bias = (torch.from_numpy(array).to(self._type) for array in (weight, bias))

    def run(self, x: Tensor) -> Tensor:
        """float16 [N, in, H, W] -> float16 (float32 if AscendDequant says so) [N, out, H, W]."""
        conv = self._conv
        value = x if self._in_fp16 else quantize(x, conv.quant_scale, conv.offset)
        wide = value.to(self._type)
        if self._scale is not None:
            wide -= conv.offset
        top, left, bottom, right = conv.pads
        wide = torch.nn.functional.pad(wide, (left, right, top, bottom))
        acc = torch.nn.functional.conv2d(wide, self._weight, self._bias, conv.strides, groups=conv.groups)
        if self._scale is not None:
            acc *= self._scale
        if conv.dtype != FP16_DTYPE and not self._in_fp16:
            return acc.float()
        if self._type == torch.float32:
            return acc.clamp_(-FP16_MAX, FP16_MAX).half()
        return torch.from_numpy(_half(acc.numpy()))  # torch would round to float32 first


def _half(values: NDArray[np.float64]) -> NDArray[np.float16]:
    return values.clip(-FP16_MAX, FP16_MAX).astype(np.float16)
