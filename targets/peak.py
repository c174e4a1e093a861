"""The measured peak of a device: the rate of the target's own kernels on convolutions that suit them.

Nothing is read from a data sheet. The target compiles its own kernels for the artifact's instructions. The convolutions
are 3x3. They have so many channels that multiplications dominate, and so few pixels that all data fit into the caches.
The fastest run of the fastest convolution counts.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.files import scratch_folder
from squeezeedge.graph import IMAGE, Conv, Head, IntegerGraph
from squeezeedge.graph.rules import Shape
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.protocol import Network, Target, Timer

__all__ = ["fastest_rate", "measured_rate", "suitable"]

RUNS, WARM_UP = 40, 5
LARGEST_WEIGHT = 3
"""Small ones: kernels whose sums could overflow 16 bits then take their longest chains."""
SHIFT = 5


def suitable(size: int, channels: Sequence[int]) -> IntegerGraph:
    """A network of such convolutions.

    Args:
        size: pixels of each side.
        channels: of what each convolution makes.
    """
    rng = np.random.default_rng(0)
    nodes: list[Conv | Head] = []
    for count, inputs in zip(channels, (3, *channels), strict=False):
        source = nodes[-1].name if nodes else IMAGE
        weight = rng.integers(-LARGEST_WEIGHT, LARGEST_WEIGHT + 1, (count, 3, 3, inputs)).astype(np.int8)
        nodes.append(
            Conv(
                name=f"conv{len(nodes)}",
                input=source,
                weight=weight,
                bias=np.zeros(count, np.int32),
                shift=np.full(count, SHIFT, np.uint8),
                stride=(1, 1),
                padding=(1, 1, 1, 1),
                pad_value=np.zeros(inputs, np.uint8),
                zero_point=0,
                scale=np.ones(count, np.float32),
            )
        )
    head = Head(
        name="head",
        input=nodes[-1].name,
        weight=np.ones((1, 1, 1, channels[-1]), np.int8),
        bias=np.zeros(1, np.int32),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        pad_value=np.zeros(channels[-1], np.uint8),
        relu=False,
        scale=np.ones(1, np.float32),
    )
    preprocessing = Preprocessing(size=(size, size), resize=None, mean=(0.0,) * 3, std=(1.0,) * 3)
    return IntegerGraph("peak", (*nodes, head), preprocessing)


@dataclass(frozen=True)
class _Written:
    """The part of an artifact's interface that a device uses, on files that were just written."""

    folder: Path
    shape: Shape
    classes: int
    compiled: dict[str, Any]

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file()


def measured_rate(
    target: Target,
    options: Any,  # noqa: ANN401  (the target's own)
    graph: IntegerGraph,
    network: Callable[[Artifact], Network],
) -> float:
    """Multiply-accumulates in a millisecond.

    Args:
        target: whose kernels.
        options: for which instructions.
        graph: :func:`suitable`.
        network: opens what was compiled; a :class:`squeezeedge.targets.protocol.Timer`.

    Raises:
        UnavailableError: a tool is missing that compiling needs.
        SqueezeEdgeError: it fails.
    """
    module: Any = importlib.import_module(target.device_module)
    lowered = target.lower(graph, options)
    with scratch_folder() as folder:
        written = _Written(folder, graph.input_shape, graph.classes, lowered.write(folder))
        try:
            opened = network(cast(Artifact, written))
            try:
                assert isinstance(opened, Timer)
                return fastest_rate(opened, graph.input_shape, written.compiled)
            finally:
                opened.close()
        except (module.Unavailable, OSError, ValueError, RuntimeError) as error:
            raise SqueezeEdgeError(str(error)) from error


def fastest_rate(network: Timer, shape: Shape, compiled: Mapping[str, Any]) -> float:
    """Multiply-accumulates in a millisecond, of the fastest run of the fastest convolution.

    Args:
        network: of :func:`suitable`.
        shape: of an image.
        compiled: what lowering said of the network.
    """
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    network.kernel_times(image, WARM_UP)
    _, clock = network.kernel_times(image, RUNS)
    macs = np.array([layer["macs"] for layer in compiled["layers"]])
    return float((macs / np.diff(clock, axis=1)).max())
