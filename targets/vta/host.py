"""The host's share of an inference: the image as patches in DRAM, and the class sums out of it.

Both are described by plain values (:class:`Packing`, :class:`Sums`) that an artifact's manifest carries, so a script
that has numpy only can follow them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Packing", "Sums", "pack_input", "unpack_sums"]

SIGN = 0x80
"""q ^ 0x80, taken as int8, is q - 128: signed storage (R7)."""


@dataclass(frozen=True)
class Packing:
    """One region that the host fills from the image before a run: a patch of the image for every output position.

    A convolution of the image becomes a 1x1 convolution of its patches, so three channels don't waste an element of
    ``block`` lanes. A 1x1 kernel is the image itself.

    Position (y, x) holds the pixels (y * stride[0] - top + ky, x * stride[1] - left + kx). Channel c of tap (ky, kx)
    is patch value (ky * kernel[1] + kx) * 3 + c; value v lies in lane v % block of block v // block. Lanes that are
    left over are 0.

    Attributes:
        region: name of the region in DRAM: int8 [blocks, height, width, block] of q - 128.
        image: height and width of the image.
        kernel: rows and columns of a patch.
        stride: from one patch to the next.
        padding: pixels around the image: top, left, bottom, right.
        pad_value: uint8 q of a pixel there, one for each of the three channels.
        height: patches in a column.
        width: patches in a row.
        block: lanes of an element.
    """

    region: str
    image: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    pad_value: tuple[int, int, int]
    height: int
    width: int
    block: int

    @property
    def blocks(self) -> int:
        """Elements of a patch."""
        return -(-self.kernel[0] * self.kernel[1] * 3 // self.block)

    @property
    def size(self) -> int:
        """Bytes of the region."""
        return self.blocks * self.height * self.width * self.block


@dataclass(frozen=True)
class Sums:
    """Where a run leaves the int32 class sums.

    Attributes:
        region: name of the region in DRAM.
        classes: classes; in the region they are padded to a multiple of the block.
        planes: 1: int32, little-endian. 4: uint8 [4, padded classes], the sums' bytes from the least significant up
            (the published instructions store single bytes).
        block: lanes of an element.
    """

    region: str
    classes: int
    planes: int
    block: int

    @property
    def padded(self) -> int:
        """Classes in the region."""
        return -(-self.classes // self.block) * self.block

    @property
    def size(self) -> int:
        """Bytes of the region."""
        return 4 * self.padded


def pack_input(packing: Packing, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The region's bytes for each image.

    Args:
        packing: what to make.
        images: uint8 [N, height, width, 3].

    Returns:
        uint8 [N, packing.size].
    """
    top, left, bottom, right = packing.padding
    height, width = packing.image
    (kernel_h, kernel_w), (stride_h, stride_w) = packing.kernel, packing.stride
    padded = np.empty((len(images), top + height + bottom, left + width + right, 3), np.uint8)
    padded[:] = packing.pad_value
    padded[:, top : top + height, left : left + width] = images
    padded ^= SIGN
    lanes = packing.blocks * packing.block
    patches = np.zeros((len(images), packing.height, packing.width, lanes), np.uint8)
    for tap in range(kernel_h * kernel_w):
        rows = slice(tap // kernel_w, tap // kernel_w + (packing.height - 1) * stride_h + 1, stride_h)
        columns = slice(tap % kernel_w, tap % kernel_w + (packing.width - 1) * stride_w + 1, stride_w)
        patches[..., 3 * tap : 3 * tap + 3] = padded[:, rows, columns]
    blocked = patches.reshape(*patches.shape[:3], packing.blocks, packing.block).transpose(0, 3, 1, 2, 4)
    return np.ascontiguousarray(blocked).reshape(len(images), -1)


def unpack_sums(sums: Sums, data: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The class sums in a region's bytes.

    Args:
        sums: how they lie there.
        data: uint8 [N, sums.size].

    Returns:
        int32 [N, classes].
    """
    if sums.planes == 4:
        data = data.reshape(len(data), 4, sums.padded).transpose(0, 2, 1)
    values: NDArray[np.int32] = np.ascontiguousarray(data).reshape(len(data), -1).view("<i4")
    return values[:, : sums.classes].astype(np.int32)
