"""Images that cannot be read: which ones are left, and when they are too many."""

import numpy as np
import pytest

from squeezeedge.calib.unreadable import Unreadable, remark
from squeezeedge.errors import CorruptFileError, UnsupportedError

ERROR = UnsupportedError("a.png: has 16 bits")


def test_places_are_those_of_the_readable_ones() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 5, 40):
        readable = rng.random(2 * count) < 0.7
        bad = np.flatnonzero(~readable)[: count // 2]
        unreadable = Unreadable("data", 2 * count)
        for place in bad.tolist():
            unreadable(place, ERROR)
        expected = np.setdiff1d(np.arange(2 * count), bad)
        assert unreadable.places(0, len(expected)).tolist() == expected.tolist()
        assert unreadable.places(1, len(expected) - 1).tolist() == expected[1:].tolist()


def test_more_than_half_is_an_error() -> None:
    unreadable = Unreadable("data", 4)
    unreadable(0, ERROR)
    unreadable(2, UnsupportedError("b.png: too large"))
    with pytest.raises(CorruptFileError, match=r"^data: more than half of 4 .*; the first is a\.png: has 16 bits$"):
        unreadable(3, ERROR)
    with pytest.raises(CorruptFileError, match=r"^data: more than half of 4 images cannot be read$"):
        Unreadable("data", 4).check(3)  # other processes know which


@pytest.mark.parametrize(("total", "strict"), [(1, False), (9, True)])
def test_the_only_one_and_any_where_it_is_strict(total: int, strict: bool) -> None:
    with pytest.raises(UnsupportedError, match=r"^a\.png: has 16 bits$"):
        Unreadable("data", total, strict=strict)(0, ERROR)


def test_the_only_one_has_a_stand_in() -> None:
    unreadable = Unreadable("data", 1, spare=True)
    unreadable(0, ERROR)
    unreadable.go_on(1)
    assert unreadable.places(0, 1).tolist() == [1]
    with pytest.raises(CorruptFileError, match="more than half of 2 images"):
        unreadable(0, ERROR)


def test_the_remark_names_the_first() -> None:
    assert remark("data", (), 9) == ""
    assert remark("data", ["a.png: bad"], 9) == (
        "data: 1 of 9 images cannot be read and is left out (`strict` makes that an error): a.png: bad"
    )
    assert remark("data", ["a: bad", "b: bad", "c: bad", "d: bad", "e: bad"], 90) == (
        "data: 5 of 90 images cannot be read and are left out (`strict` makes that an error): "
        "a: bad; b: bad; c: bad; and 2 more"
    )


def test_more_can_be_asked_for() -> None:
    unreadable = Unreadable("data", 4)
    unreadable(1, ERROR)
    unreadable(2, ERROR)
    unreadable.go_on(2)
    unreadable(0, ERROR)
    assert unreadable.places(0, 3).tolist() == [0, 3, 5]
    with pytest.raises(CorruptFileError, match="more than half of 6 images"):
        unreadable(1, ERROR)


def test_the_remark_counts_what_is_taken_instead() -> None:
    assert "and is left out, 1 is taken instead (`strict`" in remark("data", ["a.png: bad"], 9, 1)
    assert "and are left out, 2 are taken instead (`strict`" in remark("data", ["a: bad", "b: bad", "c: bad"], 9, 2)
