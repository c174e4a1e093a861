"""The network's stages -> launches of their kernels, the plan of their memory, and where it has the tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from squeezeedge.graph import IMAGE
from squeezeedge.graph.rules import Shape
from squeezeedge.lower.call_plan import CallPlan, KernelCall, plan_calls
from squeezeedge.lower.legalize import is_depthwise
from squeezeedge.lower.patterns import Pattern
from squeezeedge.lower.stages import Stage
from squeezeedge.targets.cuda.elementwise import Pooling
from squeezeedge.targets.cuda.grid import Kernel
from squeezeedge.targets.cuda.isa import InstructionSet
from squeezeedge.targets.cuda.layout import Layout
from squeezeedge.targets.cuda.loops import loop_function
from squeezeedge.targets.cuda.stage import Site, copy_image, stage_kernel
from squeezeedge.targets.trace import Place, Trace, runs

__all__ = ["Launch", "kernel_launches", "plan_launches", "tensor_places"]

COPY = f"{IMAGE}\n"
"""The image with filled-up pixels, for what is not a convolution; no node has a name that is not printable."""

MOST_POOLED_CHANNELS = 64
"""A convolution with more output channels would pool its input several times."""


@dataclass(frozen=True, eq=False)
class Launch:
    """A kernel and the tensors that it reads and makes, by name.

    Attributes:
        kernel: what is launched.
        inputs: names of the tensors that it reads.
        out: name of the tensor that it makes.
        stage: of the network that it computes; ``None``: it copies the image.
        pooling: name of the pooling that it does on the way, if any.
    """

    kernel: Kernel
    inputs: tuple[str, ...]
    out: str
    stage: Stage | None = None
    pooling: str | None = None


def kernel_launches(stages: Sequence[Stage], image: Shape) -> list[Launch]:
    """Write every stage's kernel.

    Args:
        stages: the network in execution order (:func:`squeezeedge.lower.stages.stages`).
        image: shape of the input.

    Returns:
        In execution order; the last one makes int32 class sums.

    Raises:
        UnsupportedError: a stage that the kernels cannot compute.
    """
    layouts = {IMAGE: Layout(*image, packed=True)}
    launches: list[Launch] = []
    for stage, pool in _fuse_pooling(stages):
        inputs = stage.inputs if pool is None else pool.inputs
        if not stage.convolutions and IMAGE in inputs:
            inputs = tuple(COPY if name == IMAGE else name for name in inputs)
            if COPY not in layouts:
                layouts[COPY] = Layout(*image)
                launches.append(Launch(copy_image("image", layouts[IMAGE], layouts[COPY]), (IMAGE,), COPY))
        layouts[stage.name] = Layout(*stage.out)
        sources = {name: layouts[name] for name in dict.fromkeys(inputs)}
        pooling = None if pool is None or pool.pooling is None else Pooling(pool.pooling, pool.out)
        site = Site(f"stage{len(launches)}_{stage.pattern}", sources, inputs, layouts[stage.name], pooling)
        name = None if pool is None else pool.name
        launches.append(Launch(stage_kernel(stage, site), tuple(sources), stage.name, stage, name))
    return launches


def plan_launches(launches: Sequence[Launch], isa: InstructionSet, image_bytes: int) -> CallPlan:
    """Plan the memory of one image; a batch of n takes n times as much of every buffer, at n times its offset.

    Args:
        launches: in execution order; the last one makes the result.
        isa: of the loop forms; nothing else of the plan depends on it.
        image_bytes: of the input.

    Returns:
        The plan; its ``kernels`` are the loop forms for one image.
    """
    calls = [
        KernelCall(
            loop_function(launch.kernel, isa, 1), launch.inputs, launch.kernel.constants, launch.out, *launch.kernel.out
        )
        for launch in launches
    ]
    return plan_calls(calls, image_bytes)


def tensor_places(launches: Sequence[Launch], plan: CallPlan) -> Trace:
    """Where each launch leaves its tensors in the workspace of one image.

    Args:
        launches: in execution order.
        plan: of them.
    """
    places: list[Place] = []
    unseen = {
        launch.pooling: f"it is pooled while {launch.out} loads its input" for launch in launches if launch.pooling
    }
    for number, (launch, call) in enumerate(zip(launches[:-1], plan.calls, strict=False)):
        if launch.stage is None:
            continue
        layout, start, first = Layout(*launch.stage.out), call.arguments[-1].offset, 0
        parts = [(conv.name, len(conv.bias)) for conv in launch.stage.convolutions if conv.name != launch.out]
        for name, count in (*parts, (launch.out, layout.channels)):
            first = 0 if name == launch.out else first
            addresses = (start + layout.address(0, 0, 0, channel) for channel in range(first, first + count))
            shape = layout.shape._replace(channels=count)
            places.append(Place(name, number, shape, runs(addresses), layout.width * layout.pixel, layout.pixel))
            first += count
    return Trace(launches[-1].out, tuple(places), unseen)


def _fuse_pooling(stages: Sequence[Stage]) -> list[tuple[Stage, Stage | None]]:
    """Fuse a pooling that only one pixelwise convolution reads into the loading of its input: (stage, pooling)."""
    readers: dict[str, list[Stage]] = {}
    for stage in stages:
        for name in stage.inputs:
            readers.setdefault(name, []).append(stage)
    poolings = {
        stage.name: stage
        for stage in stages
        if stage.pattern is Pattern.MAX_POOL and IMAGE not in stage.inputs and _takes_pooling(readers[stage.name])
    }
    return [(stage, poolings.get(stage.inputs[0])) for stage in stages if stage.name not in poolings]


def _takes_pooling(readers: Sequence[Stage]) -> bool:
    if len(readers) != 1 or readers[0].pattern is not Pattern.CONVOLUTION:
        return False
    (conv,) = readers[0].convolutions
    pixelwise = conv.weight.shape[1:3] == conv.stride == (1, 1) and not any(conv.padding)
    return pixelwise and not is_depthwise(conv) and len(conv.bias) <= MOST_POOLED_CHANNELS
