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
    """Parts ("." for none) with so many images of each class, no two alike."""
    files = [f"{part}/{name}/{i}.png" for part, count in counts.items() for name in classes for i in range(count)]
    return str(write_folder(root / "data", {file: png(value) for value, file in enumerate(files)}))


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
    write_folder(tmp_path / "data", {"test/1.png": png(101), "test/2.png": png(102)})
    division = divide(spec)
    assert counted(division) == [18, 2, 6] and within(division.tested, "val")
    assert f"{spec}: the images to test on have no labels and are not used" in division.remarks
    other = tmp_path / "other"
    write_folder(other, {"train/a/1.png": png(1), "train/b/1.png": png(2), "test/2.png": png(3)})
    with pytest.raises(
        UsageError, match="has no two different images of one class, so that none can be held out to test on"
    ):
        divide(str(other))


def test_images_to_test_on_in_another_place(tmp_path: Path) -> None:
    spec = folder(tmp_path, {"train": 10, "test": 3})
    files = [f"{name}/{i}.png" for name in "ab" for i in range(4)]
    more = str(write_folder(tmp_path / "more", {file: png(value) for value, file in enumerate(files, 100)}))
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
    assert f"{spec}: 3 images to learn are left out: the same are among those to test on" in division.remarks
    assert [len(part) for part in (division.learned, division.chosen, division.tested) if part] == [15, 2, 3]
    with pytest.raises(UsageError, match=r"data: all its images to learn are among those to test on; give others"):
        divide(spec, spec)
    pixels = np.arange(40, dtype=np.uint8)[:, None, None, None] + np.zeros((40, 4, 4, 3), np.uint8)
    for name, part in (("all", pixels), ("ten", pixels[:10])):
        np.savez(tmp_path / f"{name}.npz", images=part, labels=np.arange(len(part)) % 2)
    assert counted(divide(str(tmp_path / "all.npz"), str(tmp_path / "ten.npz"))) == [26, 4, 10]


def test_copies_in_several_parts_serve_one_purpose(tmp_path: Path) -> None:
    spec = folder(tmp_path, {"train": 6, "val": 4, "test": 3})
    data = tmp_path / "data"
    for copy, image in (
        *(("train/a/0.png", "test/a/0.png"), ("train/a/1.png", "test/b/1.png"), ("train/b/0.png", "val/b/0.png")),
        *(("val/a/3.png", "test/a/2.png"), ("train/b/5.png", "test/a/2.png")),
    ):
        (data / copy).write_bytes((data / image).read_bytes())
    division = divide(spec)
    assert [len(part) for part in (division.learned, division.chosen, division.tested) if part] == [8, 7, 6]
    assert division.remarks == (
        f"{spec} (val): 1 image to choose by is left out: the same is among those to test on",
        f"{spec}: 4 images to learn are left out: the same are among those to test on or to choose by",
    )
    assert division.chosen is not None and division.chosen.name == f"{spec} (val)"
    for name in "ab":
        for path in (data / "val" / name).iterdir():
            path.write_bytes((data / "test" / "a" / "0.png").read_bytes())
    with pytest.raises(UsageError, match=r"data \(val\): all its images to choose by are among those to test on"):
        divide(spec)
    for path in (data / "train" / "b").iterdir():
        path.write_bytes((data / "test" / "a" / "0.png").read_bytes())
    (data / "val").rename(tmp_path / "val")
    with pytest.raises(SqueezeEdgeError, match=r"no image to learn that is in no other part is in .* classes 'b'"):
        divide(spec)


@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_copies_are_held_out_together(tmp_path: Path, kind: str) -> None:
    """Each image three times; image 9 of one class is in the other, too, and is no good to measure with."""
    values = [[10 * (i % 10) + label for i in range(30)] for label in range(2)]
    values[1][29] = 90
    if kind == "folder":
        files = {f"{'ab'[label]}/{i}.png": png(values[label][i]) for label in range(2) for i in range(30)}
        spec = str(write_folder(tmp_path / "data", files))
    else:
        spec = str(tmp_path / "data.npz")
        pixels = np.array(values, np.uint8).ravel()[:, None, None, None] + np.zeros((60, 4, 4, 3), np.uint8)
        np.savez(spec, images=pixels, labels=np.repeat([0, 1], 30))
    division = divide(spec)
    found = [
        {(image.read() if isinstance(image, EncodedImage) else np.asarray(image).tobytes()) for image in part.images}
        for part in (division.learned, division.chosen, division.tested)
        if part is not None
    ]
    assert [len(images) for images in found] == [14, 2, 4] and len(set.union(*found)) == 20
    assert (png(90) if kind == "folder" else bytes([90] * 48)) in found[0]
    assert sum(len(part) for part in (division.learned, division.chosen, division.tested) if part) == 60


def test_embedded_data() -> None:
    assert counted(divide("digits")) == [1197, 200, 400]


def test_what_cannot_be_learned(tmp_path: Path) -> None:
    spec = folder(tmp_path, {"train": 2, "test": 2})
    write_folder(tmp_path / "data", {"test/c/1.png": png(100)})
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
    labels, single = np.repeat([0, 1, 2, 3], [10, 5, 2, 1]), np.arange(18)
    held = hold_out(labels, single, 3, 0.2, least=1)
    assert np.bincount(labels[held]).tolist() == [2, 1, 1] and np.bincount(labels[~held]).tolist() == [8, 4, 1, 1]
    again, other = (hold_out(labels, single, seed, 0.2, least=1) for seed in (3, 4))
    assert np.array_equal(again, held) and not np.array_equal(other, held), "the seed decides"
    assert not hold_out(np.arange(2), np.arange(2), 0, 0.2, least=1).any(), "of each class one image"
    assert not hold_out(labels, single, 0, 0.04).any(), "too few"
    same = np.where(labels == 0, 0, single)
    held = hold_out(labels, same, 3, 0.2, least=1)
    assert np.bincount(labels[held]).tolist() == [0, 1, 1], "copies of one image are one image"
