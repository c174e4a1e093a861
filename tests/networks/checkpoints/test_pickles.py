"""Pickles as data: the same plain values as Python's unpickler makes, and nothing called for the rest."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezeedge.networks.checkpoints import pickles
from squeezeedge.networks.checkpoints.pickles import HostileError, Name, Unknown, interpret
from tests.networks.checkpoints.mutations import hostile_pickle

PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


def read(content: bytes) -> Any:  # noqa: ANN401
    return interpret(io.BytesIO(content), {})


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(value=PLAIN, protocol=st.integers(0, 5))
def test_plain_values(value: object, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


class Pair:
    """Of a script's own."""

    def __init__(self, left: int) -> None:
        self.left = left


class Table(dict[str, int]):
    """A mapping of a script's own."""


@pytest.mark.parametrize("protocol", range(2, 6))
def test_instances_are_inert(protocol: int) -> None:
    pair, table, kind, path = read(pickle.dumps([Pair(3), Table(a=1), Pair, Path("x")], protocol))
    assert isinstance(pair, Unknown) and pair.state == {"left": 3}
    assert isinstance(table, Unknown) and table.items == {"a": 1}
    assert isinstance(kind, Name) and kind.name == f"{__name__} Pair"
    assert isinstance(path, Unknown) and path.name.startswith("pathlib") and path.arguments == ("x",)


def test_calls_are_made_by_those_who_know_them() -> None:
    stream = io.BytesIO(pickle.dumps([Path("a"), Path("b")], 2) + b"rest")
    found = interpret(stream, {f"pathlib {type(Path()).__name__}": lambda arguments: arguments[0]})
    assert found == ["a", "b"] and stream.read() == b"rest"


def test_hostile_pickles_do_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for seed in range(60):
        with pytest.raises(HostileError, match=r"^(os system|builtins exec)$"):
            read(hostile_pickle(mark, Random(seed)))
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"N",
        b"(.",
        b"e.",
        b"]Na",
        b"h\x05.",
        b"NNR.",
        b"]NQ.",
        b"]NNs.",
        b"}(Nu.",
        b"(o.",
        b"\x82\x01.",  # an entry of copyreg's registry
        b"\x97.",  # a buffer outside of the pickle
        b"P1\n.",  # an object outside of it
        b"\x8e" + b"\xff" * 7 + b"\x7f.",  # bytes that are not there
        b"\x8b\xff\xff\xff\x7f.",
        b"I" + b"9" * 5000 + b"\n.",
        b"NN\x93.",
    ],
)
def test_what_is_no_pickle(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(content)


def test_a_place_far_away_takes_no_memory() -> None:
    assert read(b"]r\xff\xff\xff\x7f0j\xff\xff\xff\x7f.") == []


def test_depth_is_no_matter() -> None:
    """A nested tuple as a key would be hashed without end by Python's unpickler."""
    found = read(b"})" + b"\x85" * 10_000 + b"Ns.")
    assert found == {}


def test_a_pickle_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_OPERATIONS", 100)
    assert read(b"N0" * 49 + b"N.") is None
    with pytest.raises(ValueError, match="more than 100 operations"):
        read(b"N0" * 50 + b"N.")
