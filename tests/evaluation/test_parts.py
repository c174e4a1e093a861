"""What is computed of parts of a batch is that of the batch, by one thread each."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from squeezeedge.evaluation import parts
from squeezeedge.evaluation.parts import PartsInThreads, images_a_batch

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), dtype=np.uint8)


def _blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_each_function_answers_all_images_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_PIXELS", 2 * 4 * 5)
    sizes: list[int] = []
    threads: list[tuple[set[int], int]] = []

    def first(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        sizes.append(len(images))
        threads.append((_blas_threads(), torch.get_num_threads()))
        return images[:, 0, 0]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with threadpool_limits(2, "blas"), PartsInThreads() as in_parts:
            answers = in_parts([first, lambda images: images.sum((1, 2, 3))], IMAGES)
            assert _blas_threads() == {2} and torch.get_num_threads() == 2, "as before"
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(answers[0], IMAGES[:, 0, 0])
    np.testing.assert_array_equal(answers[1], IMAGES.sum((1, 2, 3)))
    assert sorted(sizes) == [1, 2, 2, 2] and threads == [({1}, 1)] * 4


def test_a_failure_is_raised() -> None:
    def fail(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        raise ArithmeticError("a part")

    with PartsInThreads() as in_parts, pytest.raises(ArithmeticError, match="a part"):
        in_parts([fail], IMAGES)


def test_a_batch_holds_as_many_pixels_whatever_the_size() -> None:
    assert images_a_batch(224, 224) == 64 and images_a_batch(112, 112) == 256 and images_a_batch(10**5, 10**5) == 1
