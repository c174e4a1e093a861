"""What makes runs cheap."""

from __future__ import annotations

import pytest

from squeezeedge.networks import squeezenet
from squeezeedge.networks.variants import FIRES
from squeezeedge.training import logbook


@pytest.fixture
def cheap_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of an eighth of the channels, and no picture after each epoch, which takes longer than the epoch.

    What the runs prove holds of any network; the picture is drawn by test_logbook.py and by one whole run.
    """
    fires = {number: tuple(channels // 8 for channels in fire) for number, fire in FIRES.items()}
    monkeypatch.setattr(squeezenet, "FIRES", fires)
    monkeypatch.setattr(logbook, "plot_history", lambda *_: None)
