"""What an importer hands over: the float graph, and what the file says about its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph.float.graph import FloatGraph

__all__ = ["Imported"]


@dataclass(frozen=True, eq=False)
class Imported:
    """A network as a file has it.

    Attributes:
        graph: the float graph; its image has the three channels of the file's input, in the file's order. A network of
            gray images reads the first of three equal channels.
        multiplier: float64 [3]; the file computes x * multiplier + offset of its input before anything else, which is
            not part of ``graph``: it belongs to the preprocessing.
        offset: float64 [3].
        gray: whether the file's input has one channel.
        pixels: whether the file's input are integers, 0 to 255.
        metadata: what the file says of itself, key -> text; not checked.
        notes: one sentence for each thing that was folded, dropped or assumed.
    """

    graph: FloatGraph
    multiplier: NDArray[np.float64] = field(default_factory=lambda: np.ones(3))
    offset: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    gray: bool = False
    pixels: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
