"""Class lists: their forms, where they are found, and what is wrong with some."""

import json
from pathlib import Path

import pytest

from squeezeedge.calib import labels
from squeezeedge.calib.labels import find_class_list, find_file_labels, read_class_list
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError

PAIRS = [["n01440764", "tench"], ["n01443537", "goldfish"]]


@pytest.mark.parametrize(
    ("name", "text", "keys", "names"),
    [
        ("a.json", json.dumps(PAIRS), ("n01440764", "n01443537"), ("tench", "goldfish")),
        ("a.json", json.dumps(["cat", "dog"]), ("cat", "dog"), ("cat", "dog")),
        ("a.json", json.dumps({"1": PAIRS[1], "0": PAIRS[0]}), ("n01440764", "n01443537"), ("tench", "goldfish")),
        ("a.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish\n", ("n01440764", "n01443537"), None),
        ("a.txt", "n01440764\nn01443537", ("n01440764", "n01443537"), ("n01440764", "n01443537")),
        ("a.txt", "\ufeffpolar bear\r\n\r\n grey wolf \r\n", ("polar bear", "grey wolf"), ("polar bear", "grey wolf")),
    ],
)
def test_forms(tmp_path: Path, name: str, text: str, keys: tuple[str, ...], names: tuple[str, ...] | None) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_class_list(tmp_path / name)
    assert found.keys == keys
    assert found.names == (names or ("tench, Tinca tinca", "goldfish"))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", b"[", "not a class list"),
        ("a.json", b"[]", "empty"),
        ("a.json", b"1", "neither a JSON list"),
        ("a.json", b"[[1, 2]]", "not a class"),
        ("a.json", b'[["a", "b", "c"]]', "not a class list"),
        ("a.json", b'{"a": 0}', "not a class list"),
        ("a.json", b'["cat", "dog", "cat"]', "named twice: 'cat'"),
        ("a.json", b"[" * 100_000, "not a class list"),
        ("a.json", b"[" * 10_000 + b"]" * 10_000, "not a class list"),
        ("a.json", b'["cat", ' + b"[" * 900 + b"]" * 900 + b"]", "not a class list"),
        ("a.json", b'["cat", NaN]', "entry 1 is not a class"),
        ("a.json", b'["cat", ' + b"1" * 5000 + b"]", "not a class list"),
        ("a.json", b'["cat", "\\ud800"]', "entry 1 holds control characters"),
        ("a.json", b'["a\\u0000", "dog"]', "entry 0 holds control characters"),
        ("a.json", b'[["a", "\\u001b[31m"]]', "entry 0 holds control characters"),
        ("a.txt", b"\n\n", "empty"),
        ("a.txt", b"\xff\xfe", "UTF-8"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorruptFileError, match=rf"{name}.*{reason}"):
        read_class_list(tmp_path / name)


def test_long_names_are_cut_in_messages(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([["x" * 10_000] * 2] * 2))
    with pytest.raises(CorruptFileError, match="named twice") as failure:
        read_class_list(tmp_path / "a.json")
    assert len(str(failure.value)) < 400
    (tmp_path / "a.json").write_text(json.dumps([[{"x" * 10_000: 1}, "a"]]))
    with pytest.raises(CorruptFileError, match="not a class") as failure:
        read_class_list(tmp_path / "a.json")
    assert len(str(failure.value)) < 400


def test_a_missing_or_huge_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_class_list(tmp_path / "a.txt")
    monkeypatch.setattr(labels, "MAX_LIST_BYTES", 10)
    (tmp_path / "a.txt").write_text("x" * 11)
    with pytest.raises(CorruptFileError, match="larger"):
        read_class_list(tmp_path / "a.txt")


def test_folders_outside_the_list_are_named(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    found = read_class_list(tmp_path / "classes.txt")
    assert found.indices(["dog", "cat", "dog"], "data").tolist() == [1, 0, 1]
    with pytest.raises(SqueezeEdgeError, match=r"data: 7 of its classes .*classes\.txt: 'c0', .*'c4', \.\.\.; give"):
        found.indices(["dog", *(f"c{i}" for i in range(7))], "data")


def keys_beside(data: Path) -> tuple[str, ...]:
    found = find_class_list(data, ["cat"])
    assert found is not None
    return found.keys


def test_the_list_in_the_folder_comes_before_the_one_beside_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "pet_classes.json").write_text('["cat", "dog"]')
    assert keys_beside(data) == ("cat", "dog")
    assert keys_beside(tmp_path / "data.tar") == ("cat", "dog")
    (data / "classes.txt").write_text("dog\ncat")
    assert keys_beside(data) == ("dog", "cat")


def test_a_list_of_other_data_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "imagenet_classes.json").write_text(json.dumps(PAIRS))
    assert find_class_list(tmp_path / "cifar10.tar", ["cat", "dog"]) is None


def test_two_lists_that_fit_are_ambiguous(tmp_path: Path) -> None:
    (tmp_path / "a_classes.json").write_text('["cat", "dog"]')
    (tmp_path / "b_classes.txt").write_text("dog\ncat")
    with pytest.raises(UsageError, match=r"several class lists fit: .*a_classes\.json, .*b_classes\.txt"):
        find_class_list(tmp_path / "data.tar", ["cat"])


def test_labels_of_files(tmp_path: Path) -> None:
    data = tmp_path / "data.tar"
    assert find_file_labels(data, ["1.jpg"]) is None
    (tmp_path / "val.txt").write_text("1.jpg 65\nmy cat.jpg 970\n\n")
    assert find_file_labels(data, ["1.jpg", "my cat.jpg"]) == {"1.jpg": "65", "my cat.jpg": "970"}
    assert find_file_labels(data, ["other.jpg"]) is None
    with pytest.raises(CorruptFileError, match=r"val\.txt: labels no class to 1 images of .*'2\.jpg'"):
        find_file_labels(data, ["1.jpg", "2.jpg"])
