"""How folders and file names become splits and labels."""

import json
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.calib.decode import EncodedImage
from squeezeedge.calib.layout import Arranged, arrange
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError


def _arrange(tmp_path: Path, *names: str, split: str | None = None, classes: Path | None = None) -> Arranged:
    listing = {tuple(name.split("/")): EncodedImage(name) for name in sorted(names)}
    return arrange(tmp_path / "data.tar", listing, split, classes)


def _files(arranged: Arranged) -> list[str]:
    return [image.path for image in arranged.images]


def _labels(arranged: Arranged) -> list[int] | None:
    if arranged.labels is None:
        return None
    assert arranged.labels.dtype == np.int64
    return [int(label) for label in arranged.labels]


def test_sorted_folder_names_are_the_classes(tmp_path: Path) -> None:
    arranged = _arrange(tmp_path, "dog/1.png", "cat/1.png", "cat/sub/2.png")
    assert _files(arranged) == ["cat/1.png", "cat/sub/2.png", "dog/1.png"]
    assert (_labels(arranged), arranged.classes) == ([0, 0, 1], ("cat", "dog"))


def test_shared_folders_are_skipped(tmp_path: Path) -> None:
    arranged = _arrange(tmp_path, "a/b/dog/1.png", "a/b/cat/1.png")
    assert arranged.classes == ("cat", "dog")


def test_a_single_folder_is_no_class_without_a_list(tmp_path: Path) -> None:
    arranged = _arrange(tmp_path, "images/1.png", "images/2.png")
    assert (_labels(arranged), arranged.classes) == (None, ())


def test_a_single_folder_of_the_list_is_a_class(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    arranged = _arrange(tmp_path, "pets/dog/1.png")
    assert (_labels(arranged), arranged.classes) == ([1], ("cat", "dog"))


def test_a_given_list_gives_the_indices(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps([["dog", "a dog"], ["emu", "an emu"], ["cat", "a cat"]]))
    arranged = _arrange(tmp_path, "cat/1.png", "dog/1.png", classes=path)
    assert (_labels(arranged), arranged.classes) == ([2, 0], ("a dog", "an emu", "a cat"))
    with pytest.raises(SqueezeEdgeError, match="'cow'"):
        _arrange(tmp_path, "cat/1.png", "cow/1.png", classes=path)


SPLIT = ["top/train/cat/1.png", "top/train/dog/1.png", "top/val/cat/2.png", "top/val/dog/2.png"]


@pytest.mark.parametrize(("split", "number"), [(None, 2), ("test", 2), ("train", 1), ("calib", 1)])
def test_splits(tmp_path: Path, split: str | None, number: int) -> None:
    arranged = _arrange(tmp_path, *SPLIT, split=split)
    assert all(name.endswith(f"{number}.png") for name in _files(arranged))
    assert (_labels(arranged), arranged.classes) == ([0, 1], ("cat", "dog"))


def test_test_comes_before_val(tmp_path: Path) -> None:
    assert _files(_arrange(tmp_path, *SPLIT, "top/test/cat/3.png")) == ["top/test/cat/3.png"]


def test_a_single_split_is_the_default(tmp_path: Path) -> None:
    assert len(_arrange(tmp_path, "train/cat/1.png", "train/dog/1.png").images) == 2
    with pytest.raises(UsageError, match="no split 'test'; it has train"):
        _arrange(tmp_path, "train/cat/1.png", "train/dog/1.png", split="test")


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no split 'calib'; it has val"):
        _arrange(tmp_path, *SPLIT[2:], split="calib")
    with pytest.raises(UsageError, match="no split 'train': its folders are not"):
        _arrange(tmp_path, "cat/1.png", "dog/1.png", split="train")


def test_images_beside_class_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match=r"1 images are in no class folder but others are: 'stray\.png'"):
        _arrange(tmp_path, "cat/1.png", "dog/1.png", "stray.png")


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(SqueezeEdgeError, match=r"data\.tar: holds no image \(\.bmp"):
        _arrange(tmp_path)


IDS = [["n01440764", "tench"], ["n01443537", "goldfish"]]


def test_wordnet_ids_in_file_names(tmp_path: Path) -> None:
    names = ["ILSVRC2012_val_00000001_n01443537.JPEG", "n01440764_10026.JPEG", "n01443537_goldfish.jpg"]
    assert _labels(_arrange(tmp_path, *names)) is None
    (tmp_path / "imagenet_classes.json").write_text(json.dumps(IDS))
    arranged = _arrange(tmp_path, *names)
    assert (_labels(arranged), arranged.classes) == ([1, 0, 1], ("tench", "goldfish"))
    with pytest.raises(CorruptFileError, match=r"1 images have no WordNet id .*'holiday\.jpg'"):
        _arrange(tmp_path, *names, "holiday.jpg")
    with pytest.raises(SqueezeEdgeError, match="'n09999999'"):
        _arrange(tmp_path, *names, "n09999999_1.jpg")


def test_a_file_of_labels(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("1.JPEG 7\n2.JPEG 0\n")
    arranged = _arrange(tmp_path, "1.JPEG", "2.JPEG")
    assert (_labels(arranged), arranged.classes) == ([7, 0], ())


def test_a_file_of_labels_with_class_names(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("1.JPEG n01443537\n2.JPEG n01440764\n")
    with pytest.raises(SqueezeEdgeError, match="'n01443537', 'n01440764'; give the class list"):
        _arrange(tmp_path, "1.JPEG", "2.JPEG")
    (tmp_path / "imagenet_classes.json").write_text(json.dumps(IDS))
    arranged = _arrange(tmp_path, "1.JPEG", "2.JPEG")
    assert (_labels(arranged), arranged.classes) == ([1, 0], ("tench", "goldfish"))


def test_labels_that_are_no_index(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text(f"1.JPEG {'9' * 30}\n")
    with pytest.raises(SqueezeEdgeError, match="give the class list"):
        _arrange(tmp_path, "1.JPEG")
