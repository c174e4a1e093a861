"""Fixtures and helpers that every test folder shares."""

from collections.abc import Callable
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_file() -> Callable[[str], Path]:
    """``shared_file("weights/x.pth")``: a file of the folder beside the checkout, or skip the test."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"needs {name} in the folder shared/ beside the checkout")
        return path

    return find
