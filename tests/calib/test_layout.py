"""How folders and file names become splits and labels."""

import json
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.calib.decode import EncodedImage
from squeezeedge.calib.files import Listing
from squeezeedge.calib.layout import Arranged, Layout
from squeezeedge.calib.splits import Part
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError


def _layout(tmp_path: Path, *names: str, classes: Path | None = None) -> Layout:
    """Of images, and of folders without any, whose names end in "/"."""
    paths = [tuple(name.split("/")) for name in sorted(names)]
    images = {parts: EncodedImage("/".join(parts)) for parts in paths if parts[-1]}
    return Layout(
        tmp_path / "data.tar", Listing(images, frozenset(parts[:-1] for parts in paths if not parts[-1])), classes
    )


def _arrange(tmp_path: Path, *names: str, part: Part | None = None, classes: Path | None = None) -> Arranged:
    return _layout(tmp_path, *names, classes=classes).read(part)


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


@pytest.mark.parametrize(("part", "number"), [("train", 1), ("val", 2)])
def test_parts(tmp_path: Path, part: Part, number: int) -> None:
    assert _layout(tmp_path, *SPLIT).parts == ("train", "val")
    arranged = _arrange(tmp_path, *SPLIT, part=part)
    assert all(name.endswith(f"{number}.png") for name in _files(arranged))
    assert (_labels(arranged), arranged.classes) == ([0, 1], ("cat", "dog"))


def test_parts_by_other_names(tmp_path: Path) -> None:
    layout = _layout(tmp_path, "Training_Set/cat/1.png", "Training_Set/dog/1.png", "Test_Set/dog/2.png")
    assert layout.parts == ("train", "test")
    assert _labels(layout.read("test")) == [1], "a single folder that is a class of another part is one"
    with pytest.raises(UsageError, match=r"data\.tar: its folders 'extra', 'test', 'train' look like parts"):
        _layout(tmp_path, *(f"{part}/{name}/1.png" for part in ("train", "test", "extra") for name in "ab"))


def test_folders_within_parts(tmp_path: Path) -> None:
    layout = _layout(
        tmp_path, "t/seg_train/seg_train/cat/1.png", "t/seg_train/seg_train/dog/1.png", "t/seg_test/x/2.png"
    )
    assert layout.parts == ("train", "test")
    assert layout.read("train").classes == ("cat", "dog") and _labels(layout.read("test")) is None


def test_a_class_is_one_in_all_parts(tmp_path: Path) -> None:
    layout = _layout(tmp_path, "train/a/1.png", "train/b/1.png", "train/c/1.png", "test/a/1.png", "test/c/1.png")
    for part, labels in (("train", [0, 1, 2]), ("test", [0, 2])):
        arranged = layout.read(part)  # type: ignore[arg-type]
        assert (_labels(arranged), arranged.classes, arranged.remarks) == (labels, ("a", "b", "c"), ())


def test_a_folder_without_an_image_is_a_class(tmp_path: Path) -> None:
    arranged = _arrange(tmp_path, "pets/cat/1.png", "pets/cow/", "pets/dog/1.png")
    assert (_labels(arranged), arranged.classes) == ([0, 2], ("cat", "cow", "dog"))
    assert arranged.remarks == (f"{tmp_path}/data.tar: no image is in its folders 'cow', which count as classes",)
    arranged = _arrange(tmp_path, "cat/", "dog/1.png", "dog/2.png")
    assert (_labels(arranged), arranged.classes) == ([1, 1], ("cat", "dog"))
    layout = _layout(tmp_path, "train/a/1.png", "train/b/", "train/c/1.png", "val/c/1.png", "val/b/", "tmp/")
    assert layout.parts == ("train", "val")
    assert _labels(layout.read("train")) == [0, 2] and _labels(layout.read("val")) == [2]


@pytest.mark.parametrize("names", [("images/1.png", "masks/"), ("top/cat/1.png", "top/dog/1.png", "tmp/")])
def test_a_container_is_no_class(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert _arrange(tmp_path, *names).classes == (("cat", "dog") if "tmp/" in names else ())


def test_an_empty_part(tmp_path: Path) -> None:
    layout = _layout(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/")
    assert layout.parts == ("train", "test")
    with pytest.raises(SqueezeEdgeError, match="its part 'test' holds no image; fill the folder or remove it"):
        layout.read("test")


def test_a_flat_part_beside_labelled_ones(tmp_path: Path) -> None:
    layout = _layout(tmp_path, *SPLIT, "top/test/3.png", "top/test/4.png")
    assert layout.parts == ("train", "val", "test")
    assert _labels(layout.read("test")) is None and _labels(layout.read("val")) == [0, 1]


def test_parts_within_classes_are_refused(tmp_path: Path) -> None:
    names = [f"{name}/{part}/1.png" for name in ("cat", "dog") for part in ("train", "test")]
    layout = _layout(tmp_path, *names)
    with pytest.raises(UsageError, match=r"'test', 'train' lie in other folders; put .* test/CLASS"):
        layout.read()
    with pytest.raises(UsageError, match="lie in other folders"):
        layout.read(None, labelled=False)
    layout = _layout(tmp_path, *(f"train/{name}" for name in names), "test/cat/1.png", "test/dog/1.png")
    with pytest.raises(UsageError, match="lie in other folders"):
        layout.read("train")


@pytest.mark.parametrize("above", ["test", "test/data", "train/train"])
def test_parts_within_a_folder_called_like_one(tmp_path: Path, above: str) -> None:
    layout = _layout(tmp_path, *(f"{above}/{part}/{name}/1.png" for name in "ab" for part in ("train", "val")))
    if above == "test/data":
        with pytest.raises(UsageError, match="the parts 'train', 'val' lie in other folders"):
            layout.read("test")
    else:
        assert layout.parts == ("train", "val") and layout.read("val").classes == ("a", "b")


@pytest.mark.parametrize("names", ["cv1/{}/1.png cv2/{}/1.png", "a/x/{}/1.png b/y/{}/1.png c/{}/1.png", "set1 set2"])
def test_folders_that_may_be_parts_are_no_classes(tmp_path: Path, names: str) -> None:
    """Nothing is evaluated over a mix of them; where no label is needed they are as good as any; a list settles it."""
    files = [
        name.format(pet) if "{" in name else f"{name}/{pet}.png" for name in names.split() for pet in ("cat", "dog")
    ]
    layout = _layout(tmp_path, *files)
    with pytest.raises(
        UsageError, match=r"data\.tar: its folders .* may be parts, .* list them in a file classes\.txt"
    ):
        layout.read()
    arranged = layout.read(labelled=False)
    assert len(arranged.images) == len(files) and arranged.labels is None
    assert "no labels are needed here: " in arranged.remarks[0] and "may be parts" in arranged.remarks[0]
    tops = sorted({file.partition("/")[0] for file in files})
    (tmp_path / "classes.txt").write_text("\n".join(tops))
    assert _arrange(tmp_path, *files).classes == tuple(tops)


def test_parts_within_a_part_are_no_classes(tmp_path: Path) -> None:
    names = [f"train/{part}/{pet}/1.png" for part in ("fold0", "fold1") for pet in ("cat", "dog")]
    layout = _layout(tmp_path, *names, "test/cat/1.png", "test/dog/1.png")
    with pytest.raises(UsageError, match="its folders 'fold0', 'fold1' may be parts, by their names"):
        layout.read("train")
    layout = _layout(
        tmp_path, *(f"{part}/part{i}/{day}/1.png" for part in ("train", "val") for i in "12" for day in "xy")
    )
    assert layout.read("val").classes == ("part1", "part2"), "a class is one in all parts"


def test_images_without_labels_where_none_are_needed(tmp_path: Path) -> None:
    """A mixed folder, a partial list, and a list that lacks a class: all images, and what is wrong with the labels."""
    (tmp_path / "val.txt").write_text("1.JPEG 7\n")
    (tmp_path / "pets.txt").write_text("cat\n")
    for names, classes, reason in (
        (("cat/1.png", "dog/1.png", "stray.png"), None, "1 images are in no class folder"),
        (("1.JPEG", "2.JPEG"), None, "labels no class to 1 images"),
        (("cat/1.png", "dog/1.png"), tmp_path / "pets.txt", "are not in the class list"),
    ):
        layout = _layout(tmp_path, *names, classes=classes)
        with pytest.raises(SqueezeEdgeError, match=reason):
            layout.read()
        arranged = layout.read(labelled=False)
        assert len(arranged.images) == len(names) and arranged.labels is None
        (remark,) = arranged.remarks
        assert remark.startswith("no labels are needed here: ") and reason in remark


def test_images_beside_parts_are_named(tmp_path: Path) -> None:
    layout = _layout(tmp_path, *SPLIT, "top/cover.png")
    with pytest.raises(CorruptFileError, match=r"1 images lie beside its parts 'train', 'val': 'cover\.png'"):
        layout.read("train")
    assert _files(layout.read("train", labelled=False)) == SPLIT[:2]


def test_images_beside_class_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match=r"1 images are in no class folder but others are: 'stray\.png'"):
        _arrange(tmp_path, "cat/1.png", "dog/1.png", "stray.png")


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(SqueezeEdgeError, match=r"data\.tar: holds no image \(\.avif"):
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
    (tmp_path / "val.txt").write_text("1.JPEG n09999999\n2.JPEG n01440764\n")
    with pytest.raises(SqueezeEdgeError, match="'n09999999', 'n01440764'; give the class list"):
        _arrange(tmp_path, "1.JPEG", "2.JPEG")
    (tmp_path / "val.txt").write_text("1.JPEG n01443537\n2.JPEG n01484850\n")
    arranged = _arrange(tmp_path, "1.JPEG", "2.JPEG")
    assert (_labels(arranged), len(arranged.classes)) == ([1, 2], 1000)  # ImageNet's
    (tmp_path / "val.txt").write_text("1.JPEG n01443537\n2.JPEG n01440764\n")
    (tmp_path / "imagenet_classes.json").write_text(json.dumps(IDS))
    arranged = _arrange(tmp_path, "1.JPEG", "2.JPEG")
    assert (_labels(arranged), arranged.classes) == ([1, 0], ("tench", "goldfish"))


def test_labels_that_are_no_index(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text(f"1.JPEG {'9' * 30}\n")
    with pytest.raises(SqueezeEdgeError, match="give the class list"):
        _arrange(tmp_path, "1.JPEG")
