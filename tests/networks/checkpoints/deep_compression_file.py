"""Writes files in the format of Deep Compression's SqueezeNet, for tests."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from squeezeedge.networks.squeezenet import SqueezeNet
from squeezeedge.networks.variants import VARIANTS

__all__ = ["LAYERS", "SHAPES", "encode", "sparse_network"]

with torch.device("meta"):
    _STATE = SqueezeNet(VARIANTS["1.0"]).state_dict()
SHAPES = {name.removesuffix(".weight"): tuple(t.shape) for name, t in _STATE.items() if name.endswith(".weight")}
LAYERS = list(SHAPES)


def sparse_network(seed: int, density: float) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """(weight, bias) of each convolution: at most 255 different values, the others zero."""
    rng = np.random.default_rng(seed)
    network = {}
    for name, shape in SHAPES.items():
        values = rng.normal(size=255).astype(np.float32)
        weight = values[rng.integers(0, 255, shape)] * (rng.random(shape) < density)
        network[name] = weight.astype(np.float32), rng.normal(size=shape[0]).astype(np.float32)
    return network


def encode(network: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]) -> bytes:
    """The file's bytes for a network on BGR images."""
    counts, layers = [], []
    for weight, bias in network.values():
        values = np.unique(weight[weight != 0])
        codebook = np.zeros(256, np.float32)
        codebook[1 : 1 + len(values)] = values
        codes, gaps, last = [], [], -1
        for place in np.flatnonzero(weight):
            fillers, gap = divmod(int(place) - last - 1, 16)
            codes += [0] * fillers + [1 + int(np.searchsorted(values, weight.flat[place]))]
            gaps += [15] * fillers + [gap]
            last = int(place)
        nibbles = np.array(gaps + [0] * (len(gaps) % 2), np.uint8).reshape(-1, 2)
        packed = nibbles[:, 0] | nibbles[:, 1] << 4
        counts.append(len(codes))
        layers.append(codebook.tobytes() + bias.tobytes() + bytes(codes) + packed.astype(np.uint8).tobytes())
    return np.array(counts, "<u4").tobytes() + b"".join(layers)
