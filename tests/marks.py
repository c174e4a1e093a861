"""Marks of parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

__all__ = ["first_quick"]


def first_quick(values: Iterable[object]) -> Sequence[object]:
    """The values of a test's parameter, of which all but the first are for the slow tests."""
    first, *others = values
    return [first, *(pytest.param(value, marks=pytest.mark.slow) for value in others)]
