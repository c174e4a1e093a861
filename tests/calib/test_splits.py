"""Which folders are parts of data, by whatever name."""

from __future__ import annotations

import pytest

from squeezeedge.calib.splits import find_parts, names_a_part, says_nothing
from squeezeedge.errors import UsageError

PETS = frozenset(("cat", "dog"))
NONE: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    "names",
    [
        {"train": "train", "valid": "val", "test": "test"},
        {"training_set": "train", "test_set": "test"},
        {"Train": "train", "Test": "test"},
        {"TRAIN": "train", "VALIDATION": "val"},
        {"trainval": "train", "test": "test"},
        {"TrainVal": "train", "Testing": "test"},
        {"train_val": "train", "holdout": "test"},
        {"minitrain": "train", "minival": "val"},
        {"train2017": "train", "val2017": "val"},
        {"ILSVRC2012_img_train": "train", "ILSVRC2012_img_val": "val"},
        {"trainset": "train", "valset": "val", "testset": "test"},
        {"Training Images": "train", "Test Images": "test"},
        {"1-training": "train", "2-dev": "val", "3-hold-out": "test"},
        {"train": "train", "eval": "test"},
        {"train": "train", "eval": "val", "test": "test"},
        {"train": "train", "dev": "val", "evaluation": "test"},
        {"train": "train", "calibration": "calib", "validate": "val"},
        {"seg_train": "train", "seg_test": "test"},
        {"asl_alphabet_train": "train", "asl_alphabet_test": "test"},
        {"development": "val"},
    ],
)
def test_names_of_parts(names: dict[str, str]) -> None:
    found = find_parts("data", dict.fromkeys(names, PETS))
    assert found.folders == {part: name for name, part in names.items()} and not found.remarks


def test_both_together() -> None:
    found = find_parts("data", dict.fromkeys(("train", "val", "trainval", "test"), PETS))
    assert found.folders == {"train": "train", "val": "val", "test": "test"}
    assert found.remarks == ("data: 'trainval' is left out, because there is 'train'",)
    found = find_parts("data", dict.fromkeys(("val", "trainval", "test"), PETS))
    assert found.folders == {"train": "trainval", "test": "test"}
    assert found.remarks == ("data: 'val' is left out, because 'trainval' holds its images",)


@pytest.mark.parametrize(
    "folders",
    [
        dict.fromkeys(("cat", "dog"), NONE),
        dict.fromkeys(("bus", "car", "train"), NONE),
        dict.fromkeys(("valid", "invalid"), NONE),
        dict.fromkeys(("test tube", "train_station"), NONE),
        dict.fromkeys(("1", "2"), PETS),
        {"train": frozenset(("steam",)), "bus": NONE},
    ],
)
def test_classes_are_no_parts(folders: dict[str, frozenset[str]]) -> None:
    assert not find_parts("data", folders).folders


def test_what_a_class_list_names_is_a_class() -> None:
    assert not find_parts("data", {"train": NONE}, ("bus", "train")).folders
    assert find_parts("data", {"train": NONE, "test": NONE}, ("bus", "train")).folders


@pytest.mark.parametrize(
    ("folders", "unknown"),
    [
        (dict.fromkeys(("train", "test", "extra"), PETS), "'extra'"),
        ({"train": PETS, "test": NONE, "unsorted": NONE}, "'unsorted'"),
        ({"train": PETS, "others": PETS}, "'others'"),
        ({"train": PETS, "others": NONE}, "'others'"),
        (dict.fromkeys(("trainA", "trainB", "testA", "testB"), PETS), "'testA', 'testB', 'trainA', 'trainB'"),
        (dict.fromkeys(("train_old", "test_new"), PETS), "'test_new', 'train_old'"),
        (dict.fromkeys(("test-dev", "train"), PETS), "'test-dev'"),
        (dict.fromkeys(("fold_1", "fold_2", "fold_3"), PETS), "'fold_1', 'fold_2', 'fold_3'"),
        (dict.fromkeys(("set1", "set2"), PETS), "'set1', 'set2'"),
    ],
)
def test_what_looks_like_parts_and_is_not_known_is_refused(folders: dict[str, frozenset[str]], unknown: str) -> None:
    with pytest.raises(
        UsageError, match=f"data: its folders .* look like parts, but what {unknown} is for cannot be told"
    ):
        find_parts("data", folders)


@pytest.mark.parametrize("names", [("train", "Train"), ("val", "valid", "train"), ("train1", "train2", "test")])
def test_two_of_the_same_part_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"are all a part to (learn|choose by); put them into one folder"):
        find_parts("data", dict.fromkeys(names, PETS))


def test_what_may_be_either_is_said() -> None:
    (remark,) = find_parts("data", dict.fromkeys(("cat", "dog", "test"), NONE)).remarks
    assert remark == "data: its folder 'test' is taken for a class, as the others beside it"
    (remark,) = find_parts("data", dict.fromkeys(("indoor", "outdoor"), PETS)).remarks
    assert "'indoor', 'outdoor' are taken for the classes, and all of them hold 'cat', 'dog'" in remark


def test_names() -> None:
    assert all(map(names_a_part, ("train", "Test_Set", "eval", "trainval", "dev2")))
    assert not any(map(names_a_part, ("contest", "latest", "interval", "strain", "device", "images", "trainA", "")))
    assert all(map(says_nothing, ("images", "Data", "img_data"))) and not any(map(says_nothing, ("cat", "train", "1")))
