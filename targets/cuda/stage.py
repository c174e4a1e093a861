"""Stages of the network -> kernels: what each tensor looks like, what is fused, how the blocks are shared out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import IMAGE
from squeezeedge.lower.patterns import Pattern, Pooling, Shape, Stage
from squeezeedge.targets.cuda import elementwise
from squeezeedge.targets.cuda.convolution import ConvolutionKernel, convolution_kernel
from squeezeedge.targets.cuda.grid import Block, Kernel
from squeezeedge.targets.cuda.isa import InstructionSet
from squeezeedge.targets.cuda.layout import Layout
from squeezeedge.targets.cuda.tiling import THREADS

__all__ = ["KernelCall", "kernel_calls"]

COPY = f"{IMAGE}.copy"
"""The image with filled-up pixels, for what is not a convolution."""

MOST_POOLED_CHANNELS = 64
"""A convolution with more output channels would pool its input several times."""


@dataclass(frozen=True, eq=False)
class KernelCall:
    """A kernel and the tensors that it reads and makes, by name."""

    kernel: Kernel
    inputs: tuple[str, ...]
    out: str


@dataclass(frozen=True, eq=False)
class _Fused:
    """A stage, and the pooling that it does on the way."""

    stage: Stage
    pooling: Pooling | None = None


def kernel_calls(stages: Sequence[Stage], image: Shape, isa: InstructionSet) -> list[KernelCall]:
    """Write every stage's kernel.

    Args:
        stages: the network in execution order (:func:`squeezeedge.lower.patterns.stages`).
        image: shape of the input.
        isa: how convolutions multiply.

    Returns:
        In execution order; the last one makes int32 class sums. Constants do not depend on ``isa``.
    """
    layouts = {IMAGE: Layout(*image, packed=True), COPY: Layout(*image)}
    calls: list[KernelCall] = []
    for fused in _fuse_pooling(stages):
        stage = fused.stage
        inputs = stage.inputs
        if not stage.convolutions and IMAGE in inputs:
            inputs = tuple(COPY if name == IMAGE else name for name in inputs)
            if COPY not in {call.out for call in calls}:
                calls.append(_copy(layouts))
        layouts[stage.name] = Layout(*stage.out)
        name = f"stage{len(calls)}_{stage.pattern}"
        sources = tuple(dict.fromkeys(inputs))
        kernel = _kernel(name, fused, isa, {source: layouts[source] for source in sources}, inputs)
        calls.append(KernelCall(kernel, sources, stage.name))
    return calls


def _fuse_pooling(stages: Sequence[Stage]) -> list[_Fused]:
    """A pooling that only one pixelwise convolution reads is done while that loads its input."""
    readers: dict[str, list[Stage]] = {}
    for stage in stages:
        for name in stage.inputs:
            readers.setdefault(name, []).append(stage)
    poolings = {
        stage.name: stage
        for stage in stages
        if stage.pattern is Pattern.MAX_POOL and IMAGE not in stage.inputs and _takes_pooling(readers[stage.name])
    }
    fused: list[_Fused] = []
    for stage in stages:
        if stage.name in poolings:
            continue
        pool = poolings.get(stage.inputs[0])
        if pool is None:
            fused.append(_Fused(stage))
        else:
            fused.append(_Fused(replace(stage, inputs=pool.inputs, input_shapes=pool.input_shapes), pool.pooling))
    return fused


def _takes_pooling(readers: Sequence[Stage]) -> bool:
    if len(readers) != 1 or readers[0].pattern is not Pattern.CONVOLUTION:
        return False
    (conv,) = readers[0].convolutions
    pixelwise = conv.weight.shape[1:3] == conv.stride == (1, 1) and not any(conv.padding)
    return pixelwise and conv.out[2] <= MOST_POOLED_CHANNELS


def _copy(layouts: Mapping[str, Layout]) -> KernelCall:
    source, target = layouts[IMAGE], layouts[COPY]

    def body(block: Block) -> None:
        elementwise.concatenate(block, [(0, source)], target)

    return KernelCall(_elementwise("image", [source], (), target, body), (IMAGE,), COPY)


def _kernel(
    name: str, fused: _Fused, isa: InstructionSet, sources: Mapping[str, Layout], inputs: Sequence[str]
) -> Kernel:
    """The kernel of a stage.

    Args:
        name: its symbol.
        fused: the stage.
        isa: how convolutions multiply.
        sources: layouts of the tensors that it reads, in the order of its arguments.
        inputs: name of each of the stage's inputs.
    """
    stage = fused.stage
    target = Layout(*stage.out)
    layouts = list(sources.values())
    position = [list(sources).index(source) for source in inputs]
    if stage.convolutions:
        head = stage.pattern is Pattern.HEAD
        kernels = [
            convolution_kernel(
                replace(conv, input=position[conv.input]), sources[inputs[conv.input]], fused.pooling, isa
            )
            for conv in stage.convolutions
        ]
        return _convolutions(name, kernels, layouts, target, head)
    constants: tuple[NDArray[Any], ...] = ()
    if stage.addition is not None:
        array = np.zeros((2, 2, target.pixel), np.int32)
        array[:, 0, : target.channels] = stage.addition.offset
        array[:, 1, : target.channels] = stage.addition.shift
        constants = (array.ravel(),)

    def body(block: Block) -> None:
        if stage.addition is not None:
            elementwise.add(block, stage.addition, target, position)
        elif stage.pooling is not None:
            elementwise.pool(block, stage.pooling, layouts[0], target)
        else:
            elementwise.concatenate(block, [(index, layouts[index]) for index in position], target)

    return _elementwise(name, layouts, constants, target, body)


def _elementwise(
    name: str,
    sources: Sequence[Layout],
    constants: tuple[NDArray[Any], ...],
    target: Layout,
    body: Callable[[Block], None],
) -> Kernel:
    blocks = -(-target.size // (elementwise.GROUP * elementwise.THREADS))
    inputs = tuple(source.size for source in sources)
    return Kernel(name, blocks, elementwise.THREADS, 0, inputs, constants, (target.size, "uint8"), body)


def _convolutions(
    name: str, kernels: Sequence[ConvolutionKernel], sources: Sequence[Layout], target: Layout, head: bool
) -> Kernel:
    """Convolutions side by side in the channels of one output, each in blocks of its own."""
    channels = np.cumsum([0] + [kernel.conv.out[2] for kernel in kernels]).tolist()
    firsts = np.cumsum([0] + [kernel.blocks for kernel in kernels]).tolist()

    def body(block: Block) -> None:
        write(block, 0)

    def write(block: Block, number: int) -> None:
        kernel = kernels[number]
        arrays = (block.constants[2 * number], block.constants[2 * number + 1])

        def own() -> None:
            if head:
                kernel.sum(block, arrays, block.index - firsts[number])
            else:
                kernel.store(block, arrays, block.index - firsts[number], target, channels[number])

        if number == len(kernels) - 1:
            own()
            return
        with T.If(block.index < firsts[number + 1]):
            with T.Then():
                own()
            with T.Else():
                write(block, number + 1)

    constants = [array for kernel in kernels for array in (kernel.packed.weights, kernel.packed.parameters)]
    return Kernel(
        name,
        blocks=firsts[-1],
        threads=THREADS,
        shared=max(kernel.shared for kernel in kernels),
        inputs=tuple(source.size for source in sources),
        constants=tuple(constants),
        out=(target.channels, "int32") if head else (target.size, "uint8"),
        body=body,
        macs=sum(kernel.macs for kernel in kernels),
    )
