"""Run a float network."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import Module

from squeezeedge.calib.preprocess import Preprocessing

__all__ = ["logits"]

BATCH = 64


def logits(module: Module, images: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """The network's answers in evaluation mode, 64 images at a time.

    Args:
        module: normalized float32 [N, 3, H, W] -> float32 [N, classes]; its mode is as before afterwards.
        images: uint8 [N, H, W, 3], preprocessed.
        preprocessing: how to normalize them.

    Returns:
        float32 [N, classes].
    """
    training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            answers: list[NDArray[np.float32]] = [
                module(torch.from_numpy(preprocessing.normalize(images[start : start + BATCH]))).numpy()
                for start in range(0, max(1, len(images)), BATCH)
            ]
    finally:
        module.train(training)
    return np.concatenate(answers)
