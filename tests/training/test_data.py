"""Batches: the same in any number of processes, every image once an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from squeezeedge.calib.datasets import Dataset, open_dataset
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError
from squeezeedge.training import data
from squeezeedge.training.data import Batch, TrainingImages, batch_workers, batches, default_workers, load_images
from squeezeedge.training.distributed import World
from squeezeedge.training.recipe import Augmentation, Input, Recipe
from tests.calib.images import png, write_folder
from tests.training.tiny import RECIPE, bright_or_dark, changed, images

PLAIN = changed(augmentation=Augmentation())
AREA = changed(input=Input("digits", 24), augmentation=Augmentation(area=0.3, flip=True))


def _numbered(count: int) -> Dataset:
    """Each image's first pixel is its number."""
    pixels = np.zeros((count, 24, 24, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(count)
    return Dataset("numbered", pixels, np.arange(count) % 2, ("a", "b"))


def _epoch(recipe: Recipe, epoch: int, world: World, first: int = 0, count: int = 20) -> list[Batch]:
    training = TrainingImages(_numbered(count), recipe)
    return list(batches(training, world, batch_workers(training, 0))(epoch, first))


def _numbers(batch: Batch) -> list[int]:
    return batch.images[:, 0, 0, 0].tolist()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path, {f"{name}/{i}.png": png(40 * i + 5, (30, 40)) for name in "ab" for i in range(5)})


def test_every_image_once_an_epoch_in_an_order_of_its_own() -> None:
    orders = [[n for batch in _epoch(PLAIN, epoch, World()) for n in _numbers(batch)] for epoch in (0, 1, 0)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20))
    assert orders[0] == orders[2] != orders[1] and orders[0] != list(range(20))
    found = _epoch(PLAIN, 0, World())
    assert [batch.total for batch in found] == [6, 6, 6, 2]
    assert all(batch.labels.tolist() == [n % 2 for n in _numbers(batch)] for batch in found)


@pytest.mark.parametrize("size", [2, 3, 6])
def test_processes_share_the_batches_of_one(size: int) -> None:
    whole = _epoch(PLAIN, 1, World())
    shares = [_epoch(PLAIN, 1, World(rank=rank, size=size)) for rank in range(size)]
    for step, batch in enumerate(whole):
        parts = [share[step] for share in shares]
        assert sorted(n for part in parts for n in _numbers(part)) == sorted(_numbers(batch))
        assert {part.total for part in parts} == {batch.total}
        assert len({part.seed for part in parts}) == size


def test_an_epoch_from_the_middle() -> None:
    whole, rest = _epoch(RECIPE, 2, World()), _epoch(RECIPE, 2, World(), first=2)
    assert len(rest) == len(whole) - 2
    for batch, expected in zip(rest, whole[2:], strict=True):
        assert torch.equal(batch.images, expected.images) and batch.seed == expected.seed
    assert _epoch(RECIPE, 2, World(), first=4) == []


def test_the_global_random_numbers_are_left_alone() -> None:
    state = torch.get_rng_state()
    _epoch(RECIPE, 0, World())
    assert torch.equal(torch.get_rng_state(), state)


def _made_here(training: TrainingImages) -> Callable[[int, int], Iterator[Batch]]:
    return batches(training, World(), batch_workers(training, 0))


@pytest.mark.slow
def test_worker_processes_make_the_same_batches(folder: Path) -> None:
    training = TrainingImages(open_dataset(str(folder)), AREA)
    with batch_workers(training, 1) as workers:
        make = batches(training, World(), workers)
        for epoch, first in ((0, 0), (1, 1)):
            for found, expected in zip(make(epoch, first), _made_here(training)(epoch, first), strict=True):
                assert torch.equal(found.images, expected.images) and torch.equal(found.labels, expected.labels)
                assert found[2:] == expected[2:] and found.images.stride() == expected.images.stride()
        (folder / "a" / "3.png").write_bytes(b"no image")
        with pytest.raises(CorruptFileError, match=r"a/3\.png: not an image"):
            list(make(2, 0))
    with pytest.raises(CorruptFileError, match=r"a/3\.png: not an image"):
        list(_made_here(training)(2, 0))


def test_examples(folder: Path) -> None:
    """Chosen and varied by the seed alone; a damaged image is an error."""
    dataset = open_dataset(str(folder))
    first, again = (TrainingImages(dataset, AREA).examples() for _ in range(2))
    other = TrainingImages(dataset, replace(AREA, seed=AREA.seed + 1)).examples()
    assert len(first.images) == first.total == len(dataset)
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, other.images)
    (folder / "a" / "3.png").write_bytes(b"no image")
    with pytest.raises(CorruptFileError, match=r"a/3\.png: not an image"):
        TrainingImages(dataset, AREA).examples()


def test_images_that_are_not_cached_come_at_the_epoch_s_size(folder: Path) -> None:
    recipe = replace(AREA, input=Input("digits", 64, first_size=32), epochs=3)
    make = _made_here(TrainingImages(open_dataset(str(folder)), recipe))
    assert [next(make(epoch, 0)).images.shape[2] for epoch in (0, 1, 2)] == [32, 48, 64]


@pytest.mark.slow
def test_validation_s_pixels_where_nothing_varies(folder: Path) -> None:
    recipe = changed(input=Input("imagenet", 24, resize=27), augmentation=Augmentation())
    dataset = open_dataset(str(folder))
    expected = dataset.load(recipe.input.preprocessing, np.arange(10))
    for cache in (0, 24):
        cached = replace(recipe, input=replace(recipe.input, cache=cache), batch_size=10)
        training = TrainingImages(dataset, cached)
        (batch,) = _made_here(training)(0, 0)
        found = sorted(batch.images.permute(0, 2, 3, 1).numpy().tolist())
        assert found == sorted(expected.tolist())
        found_workers = [default_workers(training, World(local_size=size)) for size in (1, 1000)]
        assert found_workers == [0, 0] if cache else 1 <= found_workers[0] <= 8 and found_workers[1] == 1


def test_too_many_images_for_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "MAX_CACHE_BYTES", 1000)
    with pytest.raises(UsageError, match=r"set input\.cache to 0"):
        images()


def test_unlabelled_images() -> None:
    unlabelled = replace(bright_or_dark(4), labels=None)
    for pair in ((unlabelled, bright_or_dark(4)), (bright_or_dark(4), unlabelled)):
        with pytest.raises(UsageError, match="has no labels"):
            load_images(RECIPE, *pair)


def test_classes_that_differ() -> None:
    learned = bright_or_dark(4)
    with pytest.raises(SqueezeEdgeError, match="has 3 classes, the network has 2"):
        load_images(RECIPE, learned, replace(learned, classes=("dark", "bright", "grey")))
    with pytest.raises(SqueezeEdgeError, match="class 1 is 'grey' instead of 'bright'"):
        load_images(RECIPE, learned, replace(learned, classes=("dark", "grey")))
    nameless = replace(learned, classes=())
    assert load_images(RECIPE, nameless, nameless).classes == ("0", "1")
