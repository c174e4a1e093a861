"""What is calibrated on is not evaluated on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.calib.decode import EncodedImage
from squeezeedge.calib.preprocess import DIGITS, Preprocessing
from squeezeedge.calib.selection import Selection, calibration_images, evaluation_images
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError
from tests.calib.images import png, write_folder

CLASSES = 2
TINY = Preprocessing(size=(4, 4), resize=None)


def chosen(data: str, count: int = 4) -> tuple[set[str], set[str]]:
    """Names of the images to calibrate on and of those to evaluate on."""
    calibration = calibration_images(data, count=count)
    return names(calibration), names(evaluation_images(data, CLASSES, without=calibration))


def names(images: Selection) -> set[str]:
    found = set()
    for image in images.images():
        assert isinstance(image, EncodedImage)
        found.add(image.path.rpartition("data/")[2])
    return found


def folder(root: Path, *parts: str, count: int = 3) -> str:
    files = {f"{part}{kind}/{i}.png": png(i) for part in parts for kind in ("cat", "dog") for i in range(count)}
    return str(write_folder(root / "data", files))


def test_images_without_parts_are_divided(tmp_path: Path) -> None:
    calibration, evaluation = chosen(folder(tmp_path, ""))
    assert len(calibration) == 4 and len(evaluation) == 2 and not calibration & evaluation


def test_images_in_parts(tmp_path: Path) -> None:
    calibration, evaluation = chosen(folder(tmp_path, "train/", "val/"))
    assert len(calibration) == 4 and all(name.startswith("train/") for name in calibration)
    assert len(evaluation) == 6 and all(name.startswith("val/") for name in evaluation)


@pytest.mark.parametrize("part", ["train/", "test/"])
def test_a_single_part_is_divided(tmp_path: Path, part: str) -> None:
    calibration, evaluation = chosen(folder(tmp_path, part))
    assert len(calibration) == 4 and len(evaluation) == 2 and not calibration & evaluation


def test_nothing_is_left_out_unless_asked_for(tmp_path: Path) -> None:
    assert len(evaluation_images(folder(tmp_path, ""), CLASSES)) == 6
    some = evaluation_images(folder(tmp_path / "more", ""), CLASSES, limit=2, seed=3)
    assert len(some) == 2 and some.labels is not None and len(some.labels) == 2


def test_none_is_left(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="all its 6 images are calibrated on, none is left"):
        chosen(folder(tmp_path, ""), 64)


def test_images_in_memory_are_divided_too() -> None:
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] + np.zeros((6, 4, 4, 3), np.uint8)
    calibration = calibration_images(images, count=4, seed=1)
    rest = evaluation_images(images.copy(), CLASSES, without=calibration)
    assert sorted([*calibration.indices, *rest.indices]) == list(range(6))
    others = evaluation_images(images + np.uint8(1), CLASSES, without=calibration)
    assert len(others) == 6, "other images"
    assert len(evaluation_images(list(images), CLASSES, without=calibration)) == 2


def test_a_selection_is_taken_as_it_is(tmp_path: Path) -> None:
    selection = calibration_images(folder(tmp_path, ""), count=2)
    assert calibration_images(selection, count=1) is selection
    evaluated = evaluation_images(selection, CLASSES, limit=1)
    assert evaluated.indices is selection.indices and "taken in order: 0 = cat, 1 = dog" in evaluated.remarks[0]
    assert selection.load(DIGITS).shape == (2, *DIGITS.size, 3)
    assert [len(batch) for batch in selection.batches(DIGITS, 1)] == [1, 1]


def test_classes_are_found_by_name_unless_they_are_listed(tmp_path: Path) -> None:
    data, network = folder(tmp_path, ""), ("Dog", "bird", "Cat")
    found = evaluation_images(data, 3, network)
    assert found.labels is not None and found.labels.tolist() == [2, 2, 2, 0, 0, 0]
    assert found.dataset.classes == network and found.remarks == (f"{data}: has 2 of the network's 3 classes",)
    again = evaluation_images(calibration_images(data, count=6), 3, network)
    assert again.labels is not None and again.labels.tolist() == [2, 2, 2, 0, 0, 0]
    assert evaluation_images(found, 3, network).labels is not None, "done once"
    with pytest.raises(SqueezeEdgeError, match="1 of its classes are none of the network's: 'dog'"):
        evaluation_images(data, 2, ("cat", "wolf"))
    listed = tmp_path / "list.txt"
    listed.write_text("dog\ncat\n")
    found = evaluation_images(data, 2, ("wolf", "lynx"), classes=listed)
    assert found.labels is not None and found.labels.tolist() == [1, 1, 1, 0, 0, 0] and not found.remarks
    again = evaluation_images(found, 2, ("wolf", "lynx"))
    assert again.labels is not None and again.labels.tolist() == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("folders", [("set1", "set2"), ("Train", "Test"), ("fold0", "class_b")])
def test_the_networks_names_settle_what_is_a_class(tmp_path: Path, folders: tuple[str, str]) -> None:
    """Whether the folders alone would be refused, or be the parts of a data set."""
    data = str(write_folder(tmp_path / "data", {f"{name}/{i}.png": png(i) for name in folders for i in range(3)}))
    names = tuple(name.lower().replace("_", " ") for name in folders)
    found = evaluation_images(data, 2, names)
    first = 0 if folders[0] < folders[1] else 1
    assert found.labels is not None and found.labels.tolist() == [first] * 3 + [1 - first] * 3
    assert len(found) == len(calibration_images(data, names)) == 6


def test_what_cannot_be_read_takes_its_label_along(tmp_path: Path) -> None:
    files = {f"{'ab'[number % 2]}/{number}.png": png(number) for number in range(6)}
    data = evaluation_images(str(write_folder(tmp_path / "data", files | {"a/2.png": b"", "b/1.png": png(1)[:40]})), 2)
    readable, pixels = data.readable(TINY)
    assert readable.labels is not None and readable.labels.tolist() == [0, 0, 1, 1] and len(readable) == 4
    assert pixels[:, 0, 0, 0].tolist() == [0, 4, 3, 5] == readable.load(TINY)[:, 0, 0, 0].tolist()
    assert [text.split(": ")[0][-7:] for text in readable.unreadable] == ["a/2.png", "b/1.png"]
    assert readable.loss.startswith(f"{tmp_path / 'data'}: 2 of 6 images cannot be read and are left out")
    assert not data.unreadable and not data.loss
    with pytest.raises(CorruptFileError, match=r"a/2\.png: not an image, or damaged"):
        data.readable(TINY, strict=True)


def test_others_take_the_place_of_calibration_images_that_cannot_be_read(tmp_path: Path) -> None:
    """The next ones of the same draw, as many as there are."""
    data = str(write_folder(tmp_path / "data", {f"{number:02}.png": png(number) for number in range(20)}))
    before = calibration_images(data, count=8, seed=3)
    order = np.random.default_rng(3).permutation(20)
    for number in (order[0], order[5], order[8]):  # one that would take a place, too
        (tmp_path / "data" / f"{number:02}.png").write_bytes(b"damaged")
    found, pixels = calibration_images(data, count=8, seed=3).readable(TINY)
    expected = sorted({*order[:11].tolist()} - {order[0], order[5], order[8]})
    assert len(before) == 8 and found.indices.tolist() == expected == pixels[:, 0, 0, 0].tolist()
    assert found.replaced == 2 and "3 of 11 images cannot be read and are left out, 2 are taken instead" in found.loss
    again, same = found.readable(TINY)
    assert again.indices.tolist() == expected and np.array_equal(same, pixels)
    all_, _ = calibration_images(data, count=19, seed=3).readable(TINY)
    assert len(all_) == 17 and all_.replaced == 1
    seed = next(seed for seed in range(99) if calibration_images(data, count=1, seed=seed).indices[0] == order[0])
    single, _ = calibration_images(data, count=1, seed=seed).readable(TINY)
    assert len(single) == single.replaced == len(single.unreadable) == 1


def test_of_an_iterator_the_first_are_taken() -> None:
    taken = 0

    def camera() -> Iterator[NDArray[np.uint8]]:
        nonlocal taken
        while True:
            taken += 1
            yield np.zeros((4, 4, 3), np.uint8)

    assert len(calibration_images(camera(), count=5)) == 5 and taken == 5


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 calibration images are too few"):
        calibration_images(folder(tmp_path, ""), count=0)
    with pytest.raises(SqueezeEdgeError, match="2 classes, the network has 5"):
        evaluation_images(folder(tmp_path / "five", ""), 5)
    with pytest.raises(UsageError, match="image 0 is a int"):
        calibration_images(iter([1, 2]))  # type: ignore[arg-type]
