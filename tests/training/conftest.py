"""What makes runs cheap."""

from __future__ import annotations

import pytest

from squeezeedge.training import logbook


@pytest.fixture
def without_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture after each epoch, which takes longer than the epoch; test_logbook.py and one whole run draw it."""
    monkeypatch.setattr(logbook, "plot_history", lambda *_: None)
