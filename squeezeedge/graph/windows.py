"""Where the windows of a convolution or a pooling lie: counted once, for float graph, integer graph and lowering.

Sizes, kernels and strides are (vertical, horizontal); padding is (top, left, bottom, right).
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["floor_padding", "window_map", "window_outputs", "window_pixels"]

Pads = tuple[int, int, int, int]


def window_outputs(size: int, kernel: int, stride: int, before: int, after: int, ceil_mode: bool = False) -> int:
    """Number of window positions along one axis.

    In ceil mode the last window must start inside the input or the padding before it (as torch has it).
    """
    span = size + before + after - kernel
    count = (-(-span // stride) if ceil_mode else span // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + before:
        count -= 1
    return count


def window_pixels(size: int, kernel: int, stride: int, before: int, after: int) -> list[int]:
    """Number of pixels of the input, not of its padding, in every window along one axis."""
    starts = [place * stride - before for place in range(window_outputs(size, kernel, stride, before, after))]
    return [max(0, min(start + kernel, size) - max(start, 0)) for start in starts]


def window_map(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Pads, ceil_mode: bool = False
) -> tuple[int, int]:
    """Number of window positions, (vertical, horizontal); below 1 where the input is smaller than the window.

    Args:
        size: of the input; what follows height and width is not read, so a :class:`~squeezeedge.graph.rules.Shape` will
            do.
        kernel: of the window.
        stride: of the window.
        padding: around the input.
        ceil_mode: whether a last, partly valid window counts.
    """
    top, left, bottom, right = padding
    return (
        window_outputs(size[0], kernel[0], stride[0], top, bottom, ceil_mode),
        window_outputs(size[1], kernel[1], stride[1], left, right, ceil_mode),
    )


def floor_padding(
    size: Sequence[int], windows: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Pads
) -> Pads:
    """Padding for which floor mode has exactly these windows and none ends beyond it: R5 without ceil mode.

    Args:
        size: of the input; the first two values are read.
        windows: how many there are; the first two values are read.
        kernel: of the window.
        stride: of the window.
        padding: the given one; that before the input stays.
    """
    before = padding[:2]
    below, beside = (
        max(0, (windows[axis] - 1) * stride[axis] + kernel[axis] - size[axis] - before[axis]) for axis in (0, 1)
    )
    return *before, below, beside
