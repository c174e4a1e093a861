"""What the readers share: sizes are compared before anything is allocated, and errors are short."""

from __future__ import annotations

from pathlib import Path

import pytest

from squeezeedge.errors import CorruptFileError
from squeezeedge.networks.checkpoints.record import Checkpoint, check_bytes, corrupt


@pytest.mark.parametrize(
    ("dims", "item_bytes", "found"),
    [([2, 3], 4, 24), ([], 4, 4), ([0, 5], 4, 0), ([7], 1, 7), ([1] * 8, 2, 2)],
)
def test_bytes_that_fit(dims: list[int], item_bytes: int, found: int) -> None:
    assert check_bytes(dims, item_bytes, found) is None


@pytest.mark.parametrize(
    ("dims", "found", "reason"),
    [
        ([2, 3], 23, "shape [2, 3] needs 24 bytes and 23 are there"),
        ([2, 3], 25, "shape [2, 3] needs 24 bytes and 25 are there"),
        ([], 0, "shape [] needs 4 bytes and 0 are there"),
        ([0, 5], 4, "shape [0, 5] needs 0 bytes and 4 are there"),
        ([1 << 40, 1 << 40], 4, f"shape {[1 << 40, 1 << 40]} needs {1 << 82} bytes and 4 are there"),
        ([-1, -4], 16, "shape [-1, -4] is not possible"),
        ([1] * 9, 4, f"shape {[1] * 8} is not possible"),
        ([1] * 100_000, 4, f"shape {[1] * 8} is not possible"),
    ],
)
def test_bytes_that_do_not_fit(dims: list[int], found: int, reason: str) -> None:
    assert check_bytes(dims, 4, found) == reason


def test_an_error_names_the_file_and_shows_the_start_of_the_reason() -> None:
    error = corrupt(Path("a.pth"), "a PyTorch file", "first line\nsecond line")
    assert isinstance(error, CorruptFileError)
    assert str(error) == "a.pth: not a PyTorch file, truncated or damaged (first line); get or save the file again"
    assert "(ValueError);" in str(corrupt(Path("a.pth"), "a file", ValueError())), "one without a text"
    assert "(" + 200 * "x" + ");" in str(corrupt(Path("a.pth"), "a file", 1000 * "x"))


def test_nothing_is_known_of_a_file_that_says_nothing() -> None:
    first, second = Checkpoint({}), Checkpoint({})
    assert first.metadata == {} and first.metadata is not second.metadata
