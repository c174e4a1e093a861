"""The file of SqueezeNet 1.0 that the authors of Deep Compression published (.net; Han, Mao and Dally 2016).

Little-endian: uint32 number of stored entries of each of the 26 convolutions; then for each convolution a float32
codebook [256], float32 biases, one code byte an entry, and 4-bit gaps, two a byte, low nibble first. An entry lies
gap + 1 places after the one before it; places without an entry are zero, and where a gap exceeds 15 a filler entry
carries the code of zero. The convolutions come in the order of the network: first, then squeeze, expand1x1 and
expand3x3 of each fire module, then the classifier.

The network was trained on BGR images in 0..255 less (104, 117, 123). Its first convolution is rewritten for RGB
images with ImageNet's mean and standard deviation: with x = (p / 255 - mean) / std and p - m the training input,

    w * (p - m) = (w * 255 std) x + w * (255 mean - m),

so the weights of a channel are multiplied by 255 std, and w * (255 mean - m) summed over the window goes into the
bias. This is exact because the convolution does not pad.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import IMAGENET
from squeezeedge.networks.checkpoints.record import Contents, corrupt
from squeezeedge.networks.squeezenet import SqueezeNet
from squeezeedge.networks.variants import VARIANTS

__all__ = ["read"]

_Scalar = TypeVar("_Scalar", np.uint8, np.uint32, np.float32)

_METADATA = {"network": "squeezenet1_0", "preprocessing": json.dumps(IMAGENET.to_json())}
KIND = "SqueezeNet 1.0 from Deep Compression"
CODES = 256

# As float32, in which a float network normalizes its input; the products are summed in float64.
_TRAINING_MEAN_RGB = np.array([123, 117, 104], np.float32)
_SCALE_RGB = np.array([0.229, 0.224, 0.225], np.float32) * np.float32(255)
_OFFSET_RGB = np.array([0.485, 0.456, 0.406], np.float32) * np.float32(255) - _TRAINING_MEAN_RGB


def read(path: Path, data: bytes) -> Contents:
    """Decode the file and convert it to RGB and ImageNet's normalization.

    Args:
        path: for messages.
        data: the file's content.

    Raises:
        CorruptFileError: not such a file.
    """
    shapes = _shapes()
    convolutions = [name.removesuffix(".weight") for name in shapes if name.endswith(".weight")]
    reader = _Reader(path, data)
    counts = reader.take(np.uint32, len(convolutions), "entry counts")
    state: dict[str, NDArray[np.float32]] = {}
    for name, count in zip(convolutions, counts.tolist(), strict=True):
        shape = shapes[f"{name}.weight"]
        codebook = reader.take(np.float32, CODES, f"codebook of {name}")
        bias = reader.take(np.float32, shape[0], f"biases of {name}")
        codes = reader.take(np.uint8, count, f"codes of {name}")
        gaps = reader.take(np.uint8, (count + 1) // 2, f"gaps of {name}")
        if codebook[0] != 0:
            raise corrupt(path, KIND, f"code 0 of {name} does not stand for zero")
        if not (np.isfinite(codebook).all() and np.isfinite(bias).all()):
            raise corrupt(path, KIND, f"codebook or biases of {name} are not finite")
        places = np.cumsum(np.stack([gaps & 15, gaps >> 4], axis=1).reshape(-1)[:count].astype(np.int64) + 1) - 1
        size = int(np.prod(shape))
        if count and places[-1] >= size:
            raise corrupt(path, KIND, f"entries of {name} go beyond its {size} weights")
        weight = np.zeros(size, np.float32)
        weight[places] = codebook[codes]
        state[f"{name}.weight"], state[f"{name}.bias"] = weight.reshape(shape), bias.astype(np.float32)
    if reader.position != len(data):
        raise corrupt(path, KIND, f"{len(data) - reader.position} bytes follow the last convolution")
    first = convolutions[0]
    state |= _to_imagenet_rgb(first, state[f"{first}.weight"], state[f"{first}.bias"])
    return Contents({(): {name: torch.from_numpy(value) for name, value in state.items()}}, _METADATA)


@cache
def _shapes() -> dict[str, tuple[int, ...]]:
    """Of the network's tensors, in its order."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in SqueezeNet(VARIANTS["1.0"]).state_dict().items()}


def _to_imagenet_rgb(
    name: str, weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Rewrite a convolution on BGR less the training mean, float32 [out, 3, k, k], for normalized RGB."""
    rgb = weight[:, ::-1].astype(np.float64)
    with np.errstate(over="ignore"):  # what float32 cannot hold is reported as not finite
        folded = bias + rgb.sum(axis=(2, 3)) @ _OFFSET_RGB.astype(np.float64)
        scaled = rgb * _SCALE_RGB.astype(np.float64)[:, None, None]
        return {f"{name}.weight": scaled.astype(np.float32), f"{name}.bias": folded.astype(np.float32)}


class _Reader:
    """Takes arrays off the front of a buffer."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.data, self.position = path, data, 0

    def take(self, dtype: type[_Scalar], count: int, what: str) -> NDArray[_Scalar]:
        kind = np.dtype(dtype).newbyteorder("<")
        end = self.position + count * kind.itemsize
        if end > len(self.data):
            raise corrupt(self.path, KIND, f"{what}: {end} bytes are needed and {len(self.data)} are there")
        array = np.frombuffer(self.data, kind, count, self.position)
        self.position = end
        return array
