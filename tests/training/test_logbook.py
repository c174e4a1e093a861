"""The picture and the TensorBoard events of a run."""

from pathlib import Path

import pytest
from PIL import Image

from squeezeedge.training.logbook import Epoch, Logbook, plot_history

HISTORY = [Epoch(1, 24, 0.1, 2.0, 30.0), Epoch(2, 24, 0.05, 1.0, 60.0, 55.0, 90.0)]


@pytest.mark.parametrize("length", [1, 2])
def test_the_picture(tmp_path: Path, length: int) -> None:
    plot_history(HISTORY[:length], "a run", tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as picture:
        assert len(set(picture.convert("L").tobytes())) > 20, "something is drawn"


def test_the_events(tmp_path: Path) -> None:
    book = Logbook(tmp_path, "a run", 0)
    book.loss(20, 1.5, 0.1)
    book.epoch(HISTORY, 40, 123.0)
    book.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    data = events.read_bytes()
    for tag in ("step/loss", "step/learning_rate", "epoch/loss", "epoch/top1", "epoch/top5", "epoch/images_per_s"):
        assert tag.encode() in data
