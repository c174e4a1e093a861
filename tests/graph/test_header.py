"""Values of a header: only what a field may be is taken."""

from __future__ import annotations

import pytest

from squeezeedge.errors import CorruptFileError
from squeezeedge.graph.header import fields_of, integer_of, node_of, value_of


@pytest.mark.parametrize("value", [True, -1, 11, 1.0, "1", None])
def test_what_is_no_integer_in_bounds(value: object) -> None:
    assert integer_of("side", 10, 10) == 10
    with pytest.raises(CorruptFileError, match=r"side is .*, must be an integer in 0\.\.10"):
        integer_of("side", value, 10)


def test_tuples_have_the_annotated_length() -> None:
    assert value_of("pads", tuple[int, int], [1, 2]) == (1, 2)
    assert value_of("inputs", tuple[str, ...], ["a", "b", "c"]) == ("a", "b", "c")
    with pytest.raises(CorruptFileError, match="pads has 3 values instead of 2"):
        value_of("pads", tuple[int, int], [1, 2, 3])


def test_fields_are_exactly_those() -> None:
    with pytest.raises(CorruptFileError, match="x lacks or should not have: b, c"):
        fields_of("x", {"a": 1, "c": 2}, {"a", "b"})


def test_an_unknown_operator() -> None:
    with pytest.raises(CorruptFileError, match="an op of Conv"):
        node_of({"op": "Exec"}, {}, 5)
