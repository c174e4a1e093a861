"""Computes functions of images on several parts of a batch at a time, each part in one thread.

A library that divides one matrix product among threads makes all of them wait at its end. Parts wait for each other
only once a batch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

__all__ = ["PartsInThreads", "images_a_batch"]

Function = Callable[[NDArray[np.uint8]], NDArray[Any]]

PART_PIXELS = 8 * 224 * 224
BATCH_PIXELS = 8 * PART_PIXELS


def images_a_batch(height: int, width: int) -> int:
    """The number of images of a size that gives enough parts to keep some processors busy."""
    return max(1, BATCH_PIXELS // (height * width))


class PartsInThreads:
    """One thread for each processor; numpy and torch use one thread each in them. All end with the block."""

    def __init__(self) -> None:
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self._pool = ThreadPoolExecutor(processors, thread_name_prefix="part")
        self._libraries = ThreadpoolController()

    def __enter__(self) -> PartsInThreads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, functions: Sequence[Function], images: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """What each function answers on all images.

        Args:
            functions: images, uint8 [n, H, W, 3] -> [n, ...]; each may be called by several threads at a time.
            images: uint8 [N, H, W, 3], at least one.

        Returns:
            [N, ...] of each function.
        """
        parts = np.array_split(images, -(-images[..., 0].size // PART_PIXELS))
        with ExitStack() as stack:
            stack.enter_context(self._libraries.limit(limits=1, user_api="blas"))
            if "torch" in sys.modules:
                from squeezeedge.quantization.exact import one_thread

                stack.enter_context(one_thread())
            answers = [[self._pool.submit(function, part) for part in parts] for function in functions]
            return [np.concatenate([part.result() for part in of_function]) for of_function in answers]
