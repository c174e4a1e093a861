"""Which folders are parts of data, by whatever name."""

from __future__ import annotations

import pytest

from squeezeedge.calib.splits import doubt, find_parts, parts_among, says_nothing
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
        {"tr": "train", "te": "test"},
        {"learn": "train", "check": "test"},
        {"tr": "train", "va": "val", "ts_set": "test"},
        {"train": "train", "unseen": "test"},
        {"learning": "train", "validation2": "val", "testing": "test"},
    ],
)
def test_names_of_parts(names: dict[str, str]) -> None:
    found = find_parts("data", dict.fromkeys(names, PETS))
    assert found.folders == {part: name for name, part in names.items()} and not found.remarks
    assert find_parts("data", dict.fromkeys(names, NONE)).folders == found.folders, "without classes"


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
        dict.fromkeys(("de", "en", "te", "tr"), NONE),
        dict.fromkeys(("cash", "check"), PETS),
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


@pytest.mark.parametrize(
    "names",
    [
        *(("fold0", "fold1", "fold2"), ("cv1", "cv2"), ("set1", "set2"), ("part_1", "part_2"), ("split_a", "split_b")),
        *(("trainA", "trainB", "testA", "testB"), ("tr1", "tr2", "cv"), ("Set I", "Set II", "Set III"), ("cv", "te")),
    ],
)
def test_names_of_parts_are_no_classes(names: tuple[str, ...]) -> None:
    text = doubt("data", dict.fromkeys(names, NONE))
    assert text is not None and "may be parts, by their names, and no classes; give the folder of one" in text
    assert doubt("data", dict.fromkeys(names, NONE), names) is None, "a class list names them"
    assert doubt("data", dict.fromkeys((*names, "cat"), NONE)) is None


@pytest.mark.parametrize(
    ("folders", "common"),
    [
        (dict.fromkeys(("indoor", "outdoor"), PETS), "'cat', 'dog'"),
        (dict.fromkeys(("1", "2", "3"), PETS), "'cat', 'dog'"),
        ({"a": PETS, "b": PETS | {"cow"}, "c": PETS | {"emu", "hen"}}, "'cat', 'dog'"),
        ({"a": PETS | {"images"}, "b": PETS, "unlabelled": NONE}, "'cat', 'dog'"),
    ],
)
def test_folders_that_hold_the_same_are_no_classes(folders: dict[str, frozenset[str]], common: str) -> None:
    text = doubt("data", folders)
    assert text is not None and f"may be parts, as they hold the same folders, {common}, and no classes" in text
    assert doubt("data", folders, ("indoor", "1", "a")) is None and doubt("data", folders, known=True) is None


@pytest.mark.parametrize(
    "folders",
    [
        dict.fromkeys(("cat", "dog"), NONE),
        dict.fromkeys("AB", NONE),
        dict.fromkeys(("cat", "dog"), frozenset(("images", "Photos"))),
        {"indoor": frozenset(("chair", "person")), "outdoor": frozenset(("person", "tree"))},
        {"cat": PETS, "dog": PETS, "cow": NONE, "emu": NONE, "hen": NONE},
        {"a": PETS, "b": PETS | {"cow", "emu", "hen"}},
        {"fold0": PETS},
    ],
)
def test_classes_are_not_in_doubt(folders: dict[str, frozenset[str]]) -> None:
    assert doubt("data", folders) is None


def test_names() -> None:
    for name in ("train", "Test_Set", "eval", "trainval", "dev2"):
        assert parts_among([name]) == [name]
    others = ("contest", "latest", "interval", "strain", "device", "images", "trainA", "", "tr", "check")
    assert not parts_among(others) and not parts_among(["tr"]) and parts_among(("tr", "te")) == ["te", "tr"]
    assert all(map(says_nothing, ("images", "Data", "img_data"))) and not any(map(says_nothing, ("cat", "train", "1")))
