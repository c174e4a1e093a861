"""No image serves two of the three purposes: to learn, to choose the epoch by, to test on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.calib.datasets import Dataset
from squeezeedge.calib.decode import EncodedImage
from squeezeedge.calib.division import Division, divide, hold_out
from squeezeedge.errors import SqueezeEdgeError, UsageError
from tests.calib.images import png, write_folder


def folder(root: Path, counts: dict[str, int], classes: str = "ab") -> str:
    """Parts ("." for none) with so many images of each class."""
    files = {
        f"{part}/{name}/{i}.png": png(i) for part, count in counts.items() for name in classes for i in range(count)
    }
    return str(write_folder(root / "data", files))


def counted(division: Division) -> list[int]:
    """Images learned, chosen by (0: the same) and tested on, of which no image is in two."""
    chosen = division.chosen
    sets = [names(part) for part in (division.learned, chosen, division.tested) if part is not None]
    assert all(first.isdisjoint(second) for first, second in itertools.combinations(sets, 2))
    return [len(division.learned), 0 if chosen is None else len(chosen), len(division.tested)]


def names(dataset: Dataset) -> set[object]:
    return {image if isinstance(image, EncodedImage) else np.asarray(image).tobytes() for image in dataset.images}


def within(dataset: Dataset, part: str) -> bool:
    return all(isinstance(image, EncodedImage) and f"/data/{part}/" in image.path for image in dataset.images)


@pytest.mark.parametrize(
    ("counts", "expected", "tested", "remark"),
    [
        ({"train": 6, "valid": 2, "test": 3}, [12, 4, 6], "test", ""),
        ({"Train": 6, "Dev": 2, "Eval": 3}, [12, 4, 6], "Eval", ""),
        ({"training_set": 10, "test_set": 3}, [18, 2, 6], "test_set", "to choose the epoch by; 2 of its 20 images"),
        ({"train": 10, "val": 3}, [18, 2, 6], "val", "to choose the epoch by; 2 of its 20 images"),
        ({"train": 3, "test": 3}, [6, 0, 6], "test", "has too few images to hold any out"),
        ({"train": 10}, [14, 2, 4], "train", "has no test part; 4 of its 20 images are held out for testing"),
        ({".": 10}, [14, 2, 4], ".", "has no test part; 4 of its 20 images are held out for testing"),
        ({".": 2}, [2, 0, 2], ".", "chosen by the images to learn"),
    ],
)
def test_parts(tmp_path: Path, counts: dict[str, int], expected: list[int], tested: str, remark: str) -> None:
    division = divide(folder(tmp_path, counts))
    assert counted(division) == expected
    assert within(division.tested, tested) or tested == "."
    assert any(remark in text for text in division.remarks) if remark else not division.remarks
    for dataset in (division.learned, division.chosen, division.tested):
        assert dataset is None or (dataset.classes == ("a", "b") and set(dataset.labels) == {0, 1})  # type: ignore[arg-type]


def test_parts_without_labels_are_not_used(tmp_path: Path) -> None:
    spec = folder(tmp_path, {"train": 10, "val": 3})
    write_folder(tmp_path / "data", {"test/1.png": png(1), "test/2.png": png(2)})
    division = divide(spec)
    assert counted(division) == [18, 2, 6] and within(division.tested, "val")
    assert f"{spec}: the images to test on have no labels and are not used" in division.remarks
    other = tmp_path / "other"
    write_folder(other, {"train/a/1.png": png(1), "train/b/1.png": png(1), "test/2.png": png(2)})
    with pytest.raises(UsageError, match="has one image of each class, so that none can be held out to test on"):
        divide(str(other))


def test_images_to_test_on_in_another_place(tmp_path: Path) -> None:
    spec = folder(tmp_path, {"train": 10, "test": 3})
    more = str(write_folder(tmp_path / "more", {f"{name}/{i}.png": png(i) for name in "ab" for i in range(4)}))
    assert counted(divide(spec, more)) == [18, 2, 8]
    assert counted(divide(more, spec)) == [8, 0, 6], "its part to test on"
    assert counted(divide(spec, spec)) == [18, 2, 6]
    with pytest.raises(UsageError, match="no such file or folder"):
        divide(spec, str(tmp_path / "gone"))
    flat = write_folder(tmp_path / "flat", {"1.png": png(1)})
    with pytest.raises(UsageError, match="flat: has no labels"):
        divide(spec, str(flat))


def test_what_is_tested_on_is_not_learned_wherever_it_is(tmp_path: Path) -> None:
    spec = folder(tmp_path, {".": 10})
    for name in ("a/0.png", "a/1.png", "b/0.png"):
        (tmp_path / "some" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "some" / name).symlink_to(tmp_path / "data" / name)
    division = divide(spec, str(tmp_path / "some"))
    assert f"{spec}: 3 images are among those to test on and left out" in division.remarks
    assert [len(part) for part in (division.learned, division.chosen, division.tested) if part] == [15, 2, 3]
    with pytest.raises(UsageError, match=r"all images of .* are among these; give others to test on"):
        divide(spec, spec)
    pixels = np.arange(40, dtype=np.uint8)[:, None, None, None] + np.zeros((40, 4, 4, 3), np.uint8)
    for name, part in (("all", pixels), ("ten", pixels[:10])):
        np.savez(tmp_path / f"{name}.npz", images=part, labels=np.arange(len(part)) % 2)
    assert counted(divide(str(tmp_path / "all.npz"), str(tmp_path / "ten.npz"))) == [26, 4, 10]


def test_embedded_data() -> None:
    assert counted(divide("digits")) == [1197, 200, 400]


def test_what_cannot_be_learned(tmp_path: Path) -> None:
    spec = folder(tmp_path, {"train": 2, "test": 2})
    write_folder(tmp_path / "data", {"test/c/1.png": png(1)})
    (tmp_path / "data" / "train" / "d").mkdir()
    with pytest.raises(
        SqueezeEdgeError, match="data: no image to learn is in the folders of the classes 'c', 'd'; put"
    ):
        divide(spec)
    with pytest.raises(
        UsageError, match="has no images to learn, only parts to choose by and to test on; name one train"
    ):
        divide(folder(tmp_path / "parts", {"val": 2, "test": 2}))
    with pytest.raises(UsageError, match="flat: has no labels"):
        divide(str(write_folder(tmp_path / "flat", {"1.png": png(1)})))


def test_a_class_list_may_have_more_classes(tmp_path: Path) -> None:
    spec = folder(tmp_path, {".": 10})
    (tmp_path / "data" / "classes.txt").write_text("a\nx\nb\n")
    assert divide(spec).learned.classes == ("a", "x", "b")


@pytest.mark.slow
@pytest.mark.shared
def test_cifar(shared_file: Callable[[str], Path]) -> None:
    assert counted(divide(str(shared_file("data/cifar10.tar")))) == [45000, 5000, 7975]


def test_a_fifth_of_each_class_is_held_out() -> None:
    labels = np.repeat([0, 1, 2, 3], [10, 5, 2, 1])
    pixels = np.arange(18, dtype=np.uint8)[:, None, None, None] + np.zeros((18, 4, 4, 3), np.uint8)
    for images in (pixels, list(pixels)):
        learned, tested = hold_out(Dataset("data", images, labels, ("a", "b", "c", "d")), 3, 0.2, least=1)
        assert tested is not None and learned.labels is not None and tested.labels is not None
        assert np.bincount(learned.labels).tolist() == [8, 4, 1, 1] and np.bincount(tested.labels).tolist() == [2, 1, 1]
        values = [[int(np.asarray(image)[0, 0, 0]) for image in part.images] for part in (learned, tested)]
        assert sorted([*values[0], *values[1]]) == list(range(18)), "each image once"
        assert [labels[value] for value in values[1]] == tested.labels.tolist()
    dataset = Dataset("data", pixels, labels)
    held = [hold_out(dataset, seed, 0.2)[1] for seed in (3, 3, 4)]
    first, again, other = (np.asarray(part.images) for part in held if part is not None)
    assert np.array_equal(again, first) and not np.array_equal(other, first), "the seed decides"
    single = Dataset("data", pixels[:2], np.arange(2))
    assert hold_out(single, 0, 0.2, least=1) == (single, None), "of each class one image"
    assert hold_out(dataset, 0, 0.04) == (dataset, None), "too few"
