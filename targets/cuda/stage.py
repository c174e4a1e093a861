"""One stage of the network -> one kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import rules
from squeezeedge.graph.dispatch import Table
from squeezeedge.lower.legalize import is_depthwise
from squeezeedge.lower.patterns import Pattern
from squeezeedge.lower.stages import Stage
from squeezeedge.targets.cuda import elementwise
from squeezeedge.targets.cuda.convolution import ConvolutionKernel, convolution_kernel
from squeezeedge.targets.cuda.depthwise import DepthwiseKernel, depthwise_kernel
from squeezeedge.targets.cuda.elementwise import Pooling
from squeezeedge.targets.cuda.grid import Block, Kernel
from squeezeedge.targets.cuda.layout import Layout
from squeezeedge.targets.cuda.packing import checked_shift
from squeezeedge.targets.cuda.tiling import THREADS

__all__ = ["Site", "copy_image", "stage_kernel"]


@dataclass(frozen=True, eq=False)
class Site:
    """Where a kernel stands in the network.

    Attributes:
        symbol: its name.
        sources: the tensors that it reads and their layouts, in the order of its arguments.
        inputs: name of each of the stage's inputs among them: a tensor can be there twice.
        target: layout of what it makes, except of the head's class sums.
        pooling: that it does on the way, between its only input and its convolution.
    """

    symbol: str
    sources: Mapping[str, Layout]
    inputs: tuple[str, ...]
    target: Layout
    pooling: Pooling | None = None

    @property
    def layouts(self) -> list[Layout]:
        """Of the arguments."""
        return list(self.sources.values())

    @property
    def positions(self) -> list[int]:
        """Of each input of the stage among the arguments."""
        return [list(self.sources).index(name) for name in self.inputs]


stage_kernel: Table[Stage, Kernel] = Table("CUDA kernels", tuple(Pattern), key=lambda stage: stage.pattern)
"""``stage_kernel(stage, site)``: write a stage's kernel.

Raises:
    UnsupportedError: there is none for this stage.
"""

stage_kernel.refuses(Pattern.CONVOLUTION_POOL, why="a pooling is done by what reads it")


def copy_image(symbol: str, source: Layout, target: Layout) -> Kernel:
    """Copies the image to where its pixels are filled up."""

    def body(block: Block) -> None:
        elementwise.concatenate(block, [(0, source)], target)

    return _elementwise(symbol, [source], (), target, body)


@stage_kernel.implements(Pattern.MAX_POOL)
def _max_pool(stage: Stage, site: Site) -> Kernel:
    (source,), node = site.layouts, stage.pooling
    assert node is not None

    def body(block: Block) -> None:
        elementwise.pool(block, Pooling(node, stage.out), source, site.target)

    return _elementwise(site.symbol, [source], (), site.target, body)


@stage_kernel.implements(Pattern.ADD)
def _add(stage: Stage, site: Site) -> Kernel:
    node, target = stage.addition, site.target
    assert node is not None
    shift = checked_shift(node.name, node.shift)
    zero_points = np.array([[stage.tensors[name].zero_point] for name in node.inputs], np.int32)
    array = np.zeros((2, 2, target.pixel), np.int32)
    array[:, 0, : target.channels] = rules.rounding_term(shift) - zero_points
    array[:, 1, : target.channels] = shift

    def body(block: Block) -> None:
        elementwise.add(block, node.zero_point, target, site.positions)

    return _elementwise(site.symbol, site.layouts, (array.ravel(),), target, body)


@stage_kernel.implements(Pattern.CONCAT)
def _concat(stage: Stage, site: Site) -> Kernel:
    def body(block: Block) -> None:
        sources = [(index, site.layouts[index]) for index in site.positions]
        elementwise.concatenate(block, sources, site.target)

    return _elementwise(site.symbol, site.layouts, (), site.target, body)


@stage_kernel.implements(Pattern.CONVOLUTION, Pattern.CONCAT_CONVOLUTIONS)
def _convolutions(stage: Stage, site: Site) -> Kernel:
    """Convolutions side by side in the channels of one output, each in blocks of its own."""
    target, kernels = site.target, _kernels(stage, site)
    channels = np.cumsum([0] + [kernel.out.channels for kernel in kernels]).tolist()
    firsts = np.cumsum([0] + [kernel.blocks for kernel in kernels]).tolist()

    def body(block: Block) -> None:
        write(block, 0)

    def write(block: Block, number: int) -> None:
        kernel, conv = kernels[number], stage.convolutions[number]
        arrays = (block.constants[2 * number], block.constants[2 * number + 1])

        def own() -> None:
            zero_point = stage.tensors[conv.name].zero_point
            kernel.store(block, arrays, block.index - firsts[number], target, channels[number], zero_point)

        if number == len(kernels) - 1:
            own()
            return
        with T.If(block.index < firsts[number + 1]):
            with T.Then():
                own()
            with T.Else():
                write(block, number + 1)

    shared = max(kernel.shared for kernel in kernels)
    return _convolution_kernel(site, kernels, shared, (target.size, "uint8"), body)


@stage_kernel.implements(Pattern.HEAD)
def _head(stage: Stage, site: Site) -> Kernel:
    """The last convolution, summed over the map (R6)."""
    (kernel,), head = _kernels(stage, site), stage.head
    assert head is not None

    def body(block: Block) -> None:
        weights, parameters = block.constants
        kernel.sum(block, (weights, parameters), block.index, head.relu)

    return _convolution_kernel(site, [kernel], kernel.shared_of_sum, (stage.out.channels, "int32"), body)


def _kernels(stage: Stage, site: Site) -> list[ConvolutionKernel | DepthwiseKernel]:
    """A stage's convolution kernels. One with a fused pooling reads the pooling's input."""
    kernels: list[ConvolutionKernel | DepthwiseKernel] = []
    for conv in stage.convolutions:
        name = conv.input if site.pooling is None else site.pooling.node.input
        index = list(site.sources).index(name)
        tensor, out = stage.tensors[conv.input], stage.shape(conv.name)
        if is_depthwise(conv):
            assert site.pooling is None
            kernels.append(depthwise_kernel(conv, tensor, out, index, site.sources[name]))
        else:
            kernels.append(convolution_kernel(conv, tensor, out, index, site.sources[name], site.pooling))
    return kernels


def _convolution_kernel(
    site: Site,
    kernels: Sequence[ConvolutionKernel | DepthwiseKernel],
    shared: int,
    out: tuple[int, str],
    body: Callable[[Block], None],
) -> Kernel:
    return Kernel(
        site.symbol,
        blocks=sum(kernel.blocks for kernel in kernels),
        threads=THREADS,
        shared=shared,
        inputs=tuple(source.size for source in site.layouts),
        constants=tuple(array for kernel in kernels for array in (kernel.packed.weights, kernel.packed.parameters)),
        out=out,
        body=body,
        macs=sum(kernel.macs for kernel in kernels),
    )


def _elementwise(
    symbol: str,
    sources: Sequence[Layout],
    constants: tuple[NDArray[Any], ...],
    target: Layout,
    body: Callable[[Block], None],
) -> Kernel:
    blocks = -(-target.size // (elementwise.GROUP * elementwise.THREADS))
    inputs = tuple(source.size for source in sources)
    return Kernel(symbol, blocks, elementwise.THREADS, 0, inputs, constants, (target.size, "uint8"), body)
