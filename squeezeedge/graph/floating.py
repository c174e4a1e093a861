"""The float graph: what the importers make and the quantizer reads. NCHW, float32, batch 1, static shapes.

Nodes are in execution order and make one tensor of their own name; the input is ``image``: the normalized
float32 image, RGB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph.integer import IMAGE

__all__ = [
    "IMAGE",
    "FloatAdd",
    "FloatBatchNorm",
    "FloatConcat",
    "FloatConv",
    "FloatGlobalAveragePool",
    "FloatGraph",
    "FloatLinear",
    "FloatMaxPool",
    "FloatNode",
    "FloatRelu",
]

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FloatConv:
    """Convolution, group 1. weight float32 [out, in, kh, kw], bias float32 [out]; padding (t, l, b, r)."""

    name: str
    inputs: tuple[str]
    weight: F32
    bias: F32
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class FloatBatchNorm:
    """Inference batch normalization as y = x * multiplier + offset; both float32 [channels]."""

    name: str
    inputs: tuple[str]
    multiplier: F32
    offset: F32


@dataclass(frozen=True, eq=False)
class FloatRelu:
    """max(x, 0)."""

    name: str
    inputs: tuple[str]


@dataclass(frozen=True, eq=False)
class FloatMaxPool:
    """Max pooling over valid pixels; padding (top, left, bottom, right)."""

    name: str
    inputs: tuple[str]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    ceil_mode: bool


@dataclass(frozen=True, eq=False)
class FloatConcat:
    """Concatenation over channels."""

    name: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class FloatAdd:
    """Element-wise sum of two tensors of one shape."""

    name: str
    inputs: tuple[str, str]


@dataclass(frozen=True, eq=False)
class FloatGlobalAveragePool:
    """Mean over height and width."""

    name: str
    inputs: tuple[str]


@dataclass(frozen=True, eq=False)
class FloatLinear:
    """Fully connected layer on the pooled vector. weight float32 [out, in], bias float32 [out]."""

    name: str
    inputs: tuple[str]
    weight: F32
    bias: F32


FloatNode = (
    FloatConv
    | FloatBatchNorm
    | FloatRelu
    | FloatMaxPool
    | FloatConcat
    | FloatAdd
    | FloatGlobalAveragePool
    | FloatLinear
)


@dataclass(frozen=True, eq=False)
class FloatGraph:
    """A whole float network; the last node's result (flattened) is the logits.

    Attributes:
        name: for people and file names.
        nodes: in execution order.
        input_size: (height, width) of the image.
    """

    name: str
    nodes: tuple[FloatNode, ...]
    input_size: tuple[int, int]
