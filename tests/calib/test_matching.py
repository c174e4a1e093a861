"""Classes of data and network are brought together by name."""

from __future__ import annotations

import numpy as np
import pytest

from squeezeedge.calib.datasets import Dataset
from squeezeedge.calib.imagenet import imagenet_classes
from squeezeedge.calib.matching import with_classes_of
from squeezeedge.errors import SqueezeEdgeError

NETWORK = ("cat", "dog", "plane", "sail ship", "truck")


def dataset(*classes: str, keys: tuple[str, ...] = (), labels: list[int] | None = None) -> Dataset:
    """One image of each class, or images of those named."""
    chosen = np.arange(len(classes)) if labels is None else np.array(labels)
    return Dataset("data", np.zeros((len(chosen), 4, 4, 3), np.uint8), chosen.astype(np.int64), classes, keys)


def matched(data: Dataset, network: tuple[str, ...] = NETWORK) -> list[int]:
    found, _ = with_classes_of(data, len(network), network)
    assert found.labels is not None and found.classes == network
    again, _ = with_classes_of(found, len(network), network)
    assert again is found, "done once, it changes nothing more"
    return [int(label) for label in found.labels]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("truck", "cat"), [4, 0]),
        (NETWORK, [0, 1, 2, 3, 4]),
        (("DOG", "Sail_Ship", "truck"), [1, 3, 4]),
        (("sail-ship",), [3]),
        (("sail  ship",), [3]),
    ],
)
def test_by_name(classes: tuple[str, ...], expected: list[int]) -> None:
    assert matched(dataset(*classes)) == expected


def test_exact_names_go_first() -> None:
    assert matched(dataset("Cat", "cat"), ("cat", "Cat")) == [1, 0]
    assert matched(dataset("caf\N{LATIN SMALL LETTER E}\N{COMBINING ACUTE ACCENT}"), ("a", "café")) == [1]


def test_the_folder_goes_before_the_name() -> None:
    assert matched(dataset("one", "two", keys=("dog", "cat"))) == [1, 0]
    assert matched(dataset("dog", "cat", keys=("d", "c"))) == [1, 0]


def test_a_part_of_the_classes_is_said() -> None:
    _, remarks = with_classes_of(dataset("truck", "cat", "dog"), 5, NETWORK)
    assert remarks == ("data: has 3 of the network's 5 classes",)
    assert with_classes_of(dataset(*reversed(NETWORK)), 5, NETWORK)[1] == ()
    _, remarks = with_classes_of(dataset(*NETWORK, labels=[0, 3, 3]), 5, NETWORK)
    assert remarks == ("data: has 2 of the network's 5 classes",)


def test_only_classes_that_have_images_must_be_known() -> None:
    assert matched(dataset("zebra", "dog", "lorry", labels=[1, 1])) == [1, 1]


def test_other_names_are_refused() -> None:
    with pytest.raises(SqueezeEdgeError) as failure:
        with_classes_of(dataset("a", "boat", "lorry", "truck", "zebra"), 5, NETWORK)
    text = str(failure.value)
    assert "4 of its classes are none of the network's: 'a', 'boat', 'lorry', 'zebra'; the network's are 'cat'" in text
    assert "`classes`" in text
    with pytest.raises(SqueezeEdgeError, match="classes 'cat', 'Cat' are one of the network's, 'cat'"):
        with_classes_of(dataset("cat", "Cat"), 5, NETWORK)
    with pytest.raises(SqueezeEdgeError, match="none of the network's: 'crane'"):
        with_classes_of(dataset("crane"), 3, ("crane", "x", "crane"))
    with pytest.raises(SqueezeEdgeError, match="1 labels are outside"):
        with_classes_of(dataset("cat", labels=[0, 7]), 5, NETWORK)


def test_without_names_by_order_which_is_said() -> None:
    given = dataset("a", "b", "c", "d")
    found, remarks = with_classes_of(given, 4, ())
    assert found is given
    assert remarks == ("data: the network has no class names; classes are taken in order: 0 = a, 1 = b, 2 = c, ...",)
    with pytest.raises(SqueezeEdgeError, match="has 4 classes, the network has 5"):
        with_classes_of(given, 5, ())
    numbers = Dataset("data", np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 4]))
    assert with_classes_of(numbers, 5, NETWORK) == (numbers, ())
    unlabelled = Dataset("data", np.zeros((2, 4, 4, 3), np.uint8), None, ("x", "y"))
    assert with_classes_of(unlabelled, 5, NETWORK) == (unlabelled, ())


def test_wordnet_ids() -> None:
    names = imagenet_classes().names
    assert matched(dataset("n02123045", "n01440764"), names) == [281, 0]
    assert matched(dataset("whatever", "tench, Tinca", keys=("n02012849", "n01440764")), names) == [134, 0]
    assert matched(dataset("Tench", "tiger_shark"), ("n01491361", "n01440764")) == [1, 0]
    with pytest.raises(SqueezeEdgeError, match="'crane'"):
        with_classes_of(dataset("crane"), 1000, names)
