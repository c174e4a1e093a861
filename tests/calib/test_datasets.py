"""The one interface: whatever the images lie in, the same data set comes out."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeezeedge.calib.datasets import Dataset, calibration_split, check_labels, open_dataset
from squeezeedge.calib.preprocess import IMAGENET, Preprocessing
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError
from tests.calib.images import png, write_folder, write_tar
from tests.calib.test_arrays import _write_cifar

TINY = Preprocessing(size=(4, 4), resize=None)
FILES = {"cat/1.png": png(10), "cat/2.png": png(20), "dog/1.png": png(30)}


def _all(dataset: Dataset) -> np.ndarray:
    return dataset.load(TINY, np.arange(len(dataset)))


def test_folder_tar_and_npz_are_the_same_data(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", FILES)
    write_tar(tmp_path / "images.tar", FILES)
    pixels = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (10, 20, 30)])
    np.savez(tmp_path / "images.npz", images=pixels, labels=[0, 0, 1])
    for name in ("images", "images.tar", "images.npz"):
        dataset = open_dataset(str(tmp_path / name))
        assert dataset.name == str(tmp_path / name)
        assert len(dataset) == 3
        assert dataset.labels is not None and dataset.labels.tolist() == [0, 0, 1]
        assert dataset.classes == (() if name.endswith("npz") else ("cat", "dog"))
        assert _all(dataset)[:, 0, 0, 0].tolist() == [10, 20, 30]


def test_nothing_is_extracted(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "images.tar", FILES)
    _all(open_dataset(str(path)))
    assert list(tmp_path.iterdir()) == [path]


def test_unlabelled_images(tmp_path: Path) -> None:
    dataset = open_dataset(str(write_folder(tmp_path / "images", {"a.png": png(1), "b.png": png(2)})))
    assert dataset.labels is None and len(dataset) == 2
    check_labels(dataset, 1000)


def test_load_reports_progress_and_keeps_the_order(tmp_path: Path) -> None:
    dataset = open_dataset(str(write_folder(tmp_path / "i", {f"{i:03}.png": png(i) for i in range(70)})))
    done: list[int] = []
    images = dataset.load(TINY, np.arange(70)[::-1], on_progress=done.append)
    assert images.dtype == np.uint8 and images[:, 1, 1, 1].tolist() == list(range(70))[::-1]
    assert sum(done) == 70 and len(done) > 1
    assert [len(batch) for batch in dataset.batches(TINY, 64, np.arange(70))] == [64, 6]


def test_a_damaged_image_is_named_with_its_archive(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "images.tar", FILES | {"dog/2.png": png(1)[:40]})
    with pytest.raises(CorruptFileError, match=r"images\.tar: 'dog/2\.png': "):
        _all(open_dataset(str(path)))


def test_cifar_batches_and_splits(tmp_path: Path) -> None:
    _write_cifar(tmp_path / "cifar-10-batches-py")
    spec = str(tmp_path / "cifar-10-batches-py")
    assert [len(open_dataset(spec, split)) for split in (None, "test", "train", "calib")] == [3, 3, 15, 15]
    for split in ("val", "valid"):
        with pytest.raises(UsageError, match=f"no split '{split}'; it has train, test"):
            open_dataset(spec, split)


@pytest.mark.slow
def test_digits() -> None:
    dataset = open_dataset("digits")
    assert (dataset.name, len(dataset), len(dataset.classes)) == ("digits", 400, 10)
    check_labels(dataset, 10)
    val, calib = open_dataset("digits", "val"), open_dataset("digits", "calib")
    np.testing.assert_array_equal(np.asarray(val.images), np.asarray(calib.images))
    assert sum(len(open_dataset("digits", split)) for split in ("train", "val", "test")) == 1797


def test_class_names_for_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 4, 4, 3), np.uint8), labels=[0, 1])
    (tmp_path / "list.txt").write_text("cat\ndog\n")
    assert open_dataset(str(tmp_path / "a.npz"), None, tmp_path / "list.txt").classes == ("cat", "dog")
    with pytest.raises(UsageError, match=r"list\.txt: lists 2 classes, digits has 10"):
        open_dataset("digits", None, tmp_path / "list.txt")


@pytest.mark.parametrize("name", ["empty", "empty.tar", "empty.npz"])
def test_empty_data(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    write_tar(tmp_path / "empty.tar", {})
    np.savez(tmp_path / "empty.npz", images=np.zeros((0, 4, 4, 3), np.uint8))
    with pytest.raises(SqueezeEdgeError, match=f"{name}: holds no image"):
        open_dataset(str(tmp_path / name))


def test_what_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone: no such file or folder"):
        open_dataset(str(tmp_path / "gone"))
    (tmp_path / "a.zip").touch()
    with pytest.raises(UsageError, match=r"must be a folder, a \.tar \(decompressed\) or an \.npz"):
        open_dataset(str(tmp_path / "a.zip"))
    np.savez(tmp_path / "a.npz", images=np.zeros((1, 4, 4, 3), np.uint8))
    with pytest.raises(UsageError, match="no split 'test'"):
        open_dataset(str(tmp_path / "a.npz"), "test")


def _labelled(labels: list[int], classes: tuple[str, ...] = ()) -> Dataset:
    return Dataset("data", np.zeros((len(labels), 4, 4, 3), np.uint8), np.array(labels, np.int64), classes)


def test_labels_must_be_among_the_network_s_classes() -> None:
    check_labels(_labelled([0, 9]), 10)
    check_labels(_labelled([0, 1], ("a", "b")), 2)
    with pytest.raises(SqueezeEdgeError, match=r"2 labels are outside the network's classes 0\.\.9, the first is 10"):
        check_labels(_labelled([0, 10, -1]), 10)
    with pytest.raises(SqueezeEdgeError, match="has 2 classes, the network has 1000; they are 'a', 'b': complete"):
        check_labels(_labelled([0, 1], ("a", "b")), 1000)


@given(n=st.integers(0, 300), count=st.integers(0, 300), seed=st.integers(0, 2**32))
def test_calibration_split(n: int, count: int, seed: int) -> None:
    chosen, rest = calibration_split(n, count, seed)
    assert chosen.dtype == rest.dtype == np.int64
    assert len(chosen) == min(n, count)
    assert np.all(np.diff(chosen) > 0) and np.all(np.diff(rest) > 0)
    assert sorted([*chosen, *rest]) == list(range(n))
    np.testing.assert_array_equal(chosen, calibration_split(n, count, seed)[0])


@pytest.mark.slow
def test_importing_is_light() -> None:
    code = "import sys, squeezeedge.calib.datasets; print([m for m in ('torch', 'tvm', 'sklearn') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.shared
@pytest.mark.slow
def test_imagenet_finds_its_class_list(shared_file: Callable[[str], Path]) -> None:
    dataset = open_dataset(str(shared_file("data/imagenet700.tar")))
    assert len(dataset) == 709 and len(dataset.classes) == 1000
    assert dataset.labels is not None and dataset.labels[1] == 3 and dataset.classes[3] == "tiger shark"
    check_labels(dataset, 1000)
    images = dataset.load(IMAGENET, np.arange(709))
    in_process = dataset.load(IMAGENET, np.array([708, 0]))
    np.testing.assert_array_equal(images[[708, 0]], in_process)


@pytest.mark.slow
@pytest.mark.shared
def test_cifar_images_have_splits(shared_file: Callable[[str], Path]) -> None:
    spec = str(shared_file("data/cifar10.tar"))
    test = open_dataset(spec)
    assert len(test) == 7975 and test.classes[3] == "cat"
    labels = open_dataset(spec, "train").labels
    assert labels is not None and np.bincount(labels).tolist() == [5000] * 10


def test_a_class_without_an_image_is_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"cat/1.png": png(1), "dog/1.png": png(2)})
    (root / "cow").mkdir()
    dataset = open_dataset(str(root))
    check_labels(dataset, 3)
    assert dataset.labels is not None and dataset.labels.tolist() == [0, 2]
    assert dataset.remarks == (f"{root}: no image is in its folders 'cow', which count as classes",)
    with pytest.raises(
        SqueezeEdgeError, match=r"are 'cat', 'cow', 'dog' \(no image is in 'cow'\): complete the folders"
    ):
        check_labels(dataset, 2)


@pytest.mark.parametrize(
    ("parts", "split", "part", "remark"),
    [
        ("train valid test", None, "test", ""),
        ("train valid test", "val", "valid", ""),
        ("train valid test", "calib", "train", ""),
        ("train valid", "test", "valid", ""),
        ("valid test", "calib", "valid", ""),
        ("test", "calib", "test", ""),
        ("train", None, "train", "has no images to test on, only those to learn; they are taken"),
        ("train valid test.flat", None, "valid", "the images to test on have no labels; those to choose by are taken"),
        (
            "train test.flat",
            None,
            "test.flat",
            "have no labels; put them into folders by class, or .* another part .train",
        ),
        ("train test.flat", "calib", "train", ""),
    ],
)
def test_the_part_that_serves(tmp_path: Path, parts: str, split: str | None, part: str, remark: str) -> None:
    for name in parts.split():
        images = ["1.png", "2.png"] if "flat" in name else ["cat/1.png", "dog/1.png"]
        write_folder(tmp_path / name.partition(".")[0], dict.fromkeys(images, png(1)))
    dataset = open_dataset(str(tmp_path), split)
    assert all(f"/{part.partition('.')[0]}/" in str(image) for image in dataset.images)
    assert (dataset.labels is None) == ("flat" in part)
    assert re.search(remark, " ".join(dataset.remarks)) if remark else not dataset.remarks


def test_a_part_that_is_not_there(tmp_path: Path) -> None:
    root = write_folder(
        tmp_path / "data", {f"{part}/{name}/1.png": png(1) for part in ("val", "test") for name in "ab"}
    )
    with pytest.raises(UsageError, match="data: has no split 'train'; it has val, test"):
        open_dataset(str(root), "train")
    with pytest.raises(UsageError, match="has no split 'test': its folders are not train, val or test"):
        open_dataset(str(root / "val"), "test")
    with pytest.raises(UsageError, match="has no split 'dev'; it has none"):
        open_dataset(str(root / "val"), "dev")
