"""What distinguishes the variants of SqueezeNet, and what they cost; loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from squeezeedge.errors import UsageError

__all__ = ["FIRES", "STRIDE", "VARIANTS", "Variant"]

FIRES = {  # fire module -> channels of (squeeze, expand1x1, expand3x3); table 1 of the paper, equal in 1.1
    2: (16, 64, 64),
    3: (16, 64, 64),
    4: (32, 128, 128),
    5: (32, 128, 128),
    6: (48, 192, 192),
    7: (48, 192, 192),
    8: (64, 256, 256),
    9: (64, 256, 256),
}


STRIDE = 2
"""Of the first convolution, in every variant."""


@dataclass(frozen=True)
class Variant:
    """What distinguishes the variants.

    Attributes:
        channels: output channels of the first convolution.
        kernel: its height and width.
        padding: its padding on each side.
        pool_before: the fire modules that a 3x3 max pooling with stride 2 precedes.
        ceil_mode: those pools keep a partial last window.
        bypass: "simple" adds a fire module's input to its output where the channels are equal (fire 3, 5, 7, 9);
            "complex" does so at the others too, through a 1x1 convolution without ReLU (section 6 of the paper).
    """

    channels: int
    kernel: int
    padding: int
    pool_before: tuple[int, ...]
    ceil_mode: bool
    bypass: Literal["simple", "complex"] | None = None

    @property
    def smallest_input(self) -> int:
        """Least height and width in pixels for which every layer has an output."""
        size = 1
        for _ in self.pool_before:
            size = 2 * size if self.ceil_mode else 2 * size + 1
        return STRIDE * (size - 1) + self.kernel - 2 * self.padding

    def check_input(self, size: tuple[int, int]) -> None:
        """Refuse an input that is too small.

        Raises:
            UsageError: height or width is less than :attr:`smallest_input`.
        """
        if min(size) < self.smallest_input:
            raise UsageError(
                f"an input of {size[0]}x{size[1]} pixels is too small for this network: "
                f"it needs {self.smallest_input}x{self.smallest_input}"
            )

    def convolutions(self, classes: int, size: tuple[int, int]) -> Iterator[tuple[int, int, int]]:
        """(weights, outputs, positions in the output's map) of each convolution, in execution order.

        Args:
            classes: number of classes.
            size: (height, width) of the input in pixels.

        Raises:
            UsageError: the input is too small.
        """
        self.check_input(size)
        height, width = ((length + 2 * self.padding - self.kernel) // STRIDE + 1 for length in size)
        yield 3 * self.channels * self.kernel**2, self.channels, height * width
        channels = self.channels
        for index, (squeeze, expand1x1, expand3x3) in FIRES.items():
            if index in self.pool_before:
                height, width = ((length - 3 + self.ceil_mode) // 2 + 1 for length in (height, width))
            expanded, positions = expand1x1 + expand3x3, height * width
            yield channels * squeeze, squeeze, positions
            yield squeeze * expand1x1, expand1x1, positions
            yield 9 * squeeze * expand3x3, expand3x3, positions
            if self.bypass == "complex" and channels != expanded:
                yield channels * expanded, expanded, positions
            channels = expanded
        yield channels * classes, classes, height * width


_V1_0 = Variant(channels=96, kernel=7, padding=0, pool_before=(2, 5, 9), ceil_mode=True)
_V1_1 = Variant(channels=64, kernel=3, padding=0, pool_before=(2, 4, 6), ceil_mode=True)

VARIANTS: Mapping[str, Variant] = {
    "1.0": _V1_0,
    "1.1": _V1_1,
    "1.0-simple-bypass": replace(_V1_0, bypass="simple"),
    "1.0-complex-bypass": replace(_V1_0, bypass="complex"),
    "1.0-mindcv": replace(_V1_0, ceil_mode=False),
    "1.1-mindcv": replace(_V1_1, padding=1, ceil_mode=False),
}
