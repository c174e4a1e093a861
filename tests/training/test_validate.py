"""fp32 inference."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.calib.unreadable import Unreadable
from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.training.distributed import World
from squeezeedge.training.validate import certainty, logits, measure

SMALL = Preprocessing(size=(4, 4), resize=None)


class _Means(nn.Module):
    """Channel means through a dropout, which shows in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.9)
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        assert torch.is_inference_mode_enabled()
        means: Tensor = self.dropout(x).mean((2, 3))
        return means


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("count", [0, 1, 64, 65, 150])
def test_batches_in_evaluation_mode(count: int, training: bool) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
    module = _Means().train(training)
    answers = logits(module, images, SMALL)
    assert answers.shape == (count, 3) and answers.dtype == np.float32
    np.testing.assert_allclose(answers, SMALL.normalize(images).mean((2, 3)), rtol=1e-5, atol=1e-6)
    assert max(module.sizes) <= 64 and sum(module.sizes) == count
    assert module.training == training


@pytest.mark.parametrize("size", [1, 2, 3])
def test_shares_add_up_to_the_whole(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal logits rank by lower class; each process measures its own images."""
    answers = np.random.default_rng(1).integers(0, 4, (50, 8)).astype(np.float32)
    labels = np.random.default_rng(2).integers(0, 8, 50)
    sums: list[list[float]] = []

    def total(self: World, values: Sequence[float]) -> list[float]:
        sums.append(list(values))
        return list(values)

    monkeypatch.setattr(World, "total", total)
    for rank in range(size):
        done: list[int] = []
        measure(
            lambda batch: answers[batch],
            lambda indices: iter(np.array_split(indices, 3)),
            labels,
            World(rank=rank, size=size),
            done.append,
        )
        assert sum(done) == sums[-1][2]
    order = np.lexsort((np.broadcast_to(np.arange(8), answers.shape), -answers), axis=1)
    first, five, count = np.sum(sums, axis=0)
    assert (first, count) == ((order[:, 0] == labels).sum(), 50)
    assert five == (order[:, :5] == labels[:, None]).sum()


def test_images_that_cannot_be_read_are_no_wrong_answers() -> None:
    answers, labels = np.eye(8, dtype=np.float32), np.arange(8)
    unreadable = Unreadable("data", 8)

    def batches(mine: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        for index in mine.tolist():
            if index in (3, 4):
                unreadable(index, SqueezeEdgeError("bad"))
            else:
                yield np.array([index], np.uint8)

    score = measure(lambda batch: answers[batch], batches, labels, unreadable=unreadable)
    assert (score.images, score.top1) == (6, 100.0)


def test_shares_of_which_most_cannot_be_read_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No share alone is more than half of all; together they are."""
    monkeypatch.setattr(World, "total", lambda self, values: [0, 0, 0])
    with pytest.raises(SqueezeEdgeError, match="data: more than half of 4 images cannot be read"):
        measure(
            lambda batch: np.empty((0, 8), np.float32),
            lambda mine: iter(()),
            np.arange(4),
            World(size=2),
            unreadable=Unreadable("data", 4),
        )


def test_certainty() -> None:
    answers = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], np.float32)) + np.float32(3)
    assert certainty(answers, np.array([0, 2])) == pytest.approx(30)


@pytest.mark.parametrize("training", [False, True])
def test_a_network_that_overflows_is_refused_by_layer(training: bool) -> None:
    first, second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
    module = nn.Sequential(first, nn.Sequential(second, nn.ReLU()), nn.Flatten())
    with torch.no_grad():
        for weight in (first.weight, second.weight):
            weight.fill_(1e30)
    module.train(training)
    with pytest.raises(SqueezeEdgeError, match=r"^1\.0: computes values that are not finite"):
        logits(module, np.full((3, 4, 4, 3), 200, np.uint8), SMALL)
    assert module.training is training
    assert not any(layer._forward_hooks for layer in module.modules())
