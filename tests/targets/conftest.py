"""Fixtures of all targets' tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.targets.loopback import serve_ssh


@pytest.fixture
def loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A real sshd that ``ssh`` on the path reaches as USER@anything; the file that it logs to."""
    with serve_ssh(tmp_path, monkeypatch) as log:
        yield log
