"""Where the tensors of a compiled network lie in a device's memory: trace.json of an artifact.

The kernels are unchanged. :class:`squeezeedge.targets.device.run.Trace` reads the tensors that they leave in memory,
under the integer graph's names. A tensor may have a border, blocks of channels or another order of channels; every
target describes these in the same form.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from squeezeedge.errors import UsageError, did_you_mean
from squeezeedge.graph.rules import Shape
from squeezeedge.targets.device.run import TRACE, Artifact

__all__ = ["Place", "Trace", "no_such_layer", "runs", "step_of"]


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: byte (y, x) of a run of channels at its first byte + y * row + x * pixel.

    Attributes:
        name: of the tensor.
        step: number of the step of a run that makes it, in the device's own count; 0 where nothing of the memory is
            overwritten before a run's end.
        shape: of the tensor.
        runs: (first byte of pixel (0, 0), number of channels) one after the other, in the order of the channels.
        row: bytes from one row to the next.
        pixel: bytes from one pixel to the next.
        flip: what every byte is combined with by exclusive or; 128 where q - 128 is stored (R7).
    """

    name: str
    step: int
    shape: Shape
    runs: tuple[tuple[int, int], ...]
    row: int
    pixel: int
    flip: int = 0


@dataclass(frozen=True)
class Trace:
    """All tensors of a network.

    Attributes:
        head: name of the layer that makes the class sums.
        places: of what lies in memory, in execution order.
        unseen: name of every other tensor -> why it does not, a part of a sentence.
    """

    head: str
    places: tuple[Place, ...]
    unseen: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"head": self.head, "tensors": [vars(place) for place in self.places], "unseen": dict(self.unseen)}

    def write(self, folder: Path, name: str = TRACE) -> None:
        """Write it into a folder."""
        (folder / name).write_text(json.dumps(self.to_json()) + "\n", encoding="utf-8")


def runs(addresses: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Addresses of a pixel's channels in order, as runs of consecutive addresses: (first, number)."""
    found: list[tuple[int, int]] = []
    for address in addresses:
        first, count = found[-1] if found else (address, 0)
        if found and address == first + count:
            found[-1] = (first, count + 1)
        else:
            found.append((address, 1))
    return tuple(found)


def step_of(artifact: Artifact, layer: str, last: int) -> int:
    """Number of the step that makes a layer's tensor, in the device's own count.

    Args:
        artifact: with its trace.json.
        layer: a name of the integer graph.
        last: number of the step that makes the class sums.

    Raises:
        UsageError: no layer has that name, or the layer is part of another one.
        ValueError: trace.json is missing or damaged.
    """
    trace = artifact.trace()
    if layer == trace.head:
        return last
    if layer in trace.unseen:
        raise UsageError(f"`layer` {layer}: is part of another one: {trace.unseen[layer]}")
    steps = {place.name: place.step for place in trace.places}
    if layer not in steps:
        raise no_such_layer(layer, [*steps, trace.head])
    return steps[layer]


def no_such_layer(layer: str, known: Iterable[str]) -> UsageError:
    """The error for a layer that an artifact does not have."""
    known = list(known)
    hint = did_you_mean(layer, known) or f"; there are: {', '.join(known)}"
    return UsageError(f"`layer` {layer}: the artifact has no such layer{hint}")
