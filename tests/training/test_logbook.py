"""The picture and the TensorBoard events of a run."""

import errno
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.training import logbook
from squeezeedge.training.logbook import Epoch, Logbook, plot_history

HISTORY = [Epoch(1, 24, 0.1, 2.0, 30.0), Epoch(2, 24, 0.05, 1.0, 60.0, 55.0, 90.0)]


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 2])
def test_the_picture(tmp_path: Path, length: int) -> None:
    plot_history(HISTORY[:length], "a run", tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as picture:
        assert len(set(picture.convert("L").tobytes())) > 20, "something is drawn"


def test_the_picture_counts_epochs_and_names_the_images_that_choose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(logbook, "write_figure", lambda path, figure: drawn.append(figure))
    plot_history(HISTORY, "a run", tmp_path / "curve.png")
    losses, accuracies = drawn[0].axes
    assert all(float(tick).is_integer() for axes in (losses, accuracies) for tick in axes.get_xticks())
    assert [str(line.get_label()) for line in accuracies.lines] == ["while learning", "validation images"]


def _events(folder: Path) -> list[Event]:
    """Length, its checksum, event, its checksum (TensorFlow's record format)."""
    (path,) = (folder / "tensorboard").iterdir()
    data, events = path.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    return events


@pytest.mark.usefixtures("cheap_runs")
def test_the_events(tmp_path: Path) -> None:
    book = Logbook(tmp_path, "a run", 0)
    book.loss(20, 1.5, 0.1)
    book.epoch(HISTORY, 40, 123.0)
    book.close()
    scalars = {
        (event.step, value.tag): value.simple_value for event in _events(tmp_path) for value in event.summary.value
    }
    assert (
        scalars[20, "step/loss"] == 1.5 and scalars[40, "epoch/top1"] == 55 and scalars[40, "epoch/images_per_s"] == 123
    )
    assert {tag for _, tag in scalars} >= {"step/learning_rate", "epoch/loss", "epoch/accuracy", "epoch/top5"}


def test_steps_after_the_last_checkpoint_are_forgotten(tmp_path: Path) -> None:
    """And no others: TensorBoard drops what has the step of such an event, or a later one."""
    Logbook(tmp_path, "a run", 30).close()
    (event,) = (event for event in _events(tmp_path) if event.HasField("session_log"))
    assert (event.step, event.session_log.status) == (31, SessionLog.START)


@pytest.mark.usefixtures("cheap_runs")
@pytest.mark.parametrize("action", ["loss", "epoch", "close"])
def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    book = Logbook(tmp_path, "a run", 0)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(book.writer, "write_event", full)
    monkeypatch.setattr(book.writer, "close", full)
    call = {"loss": lambda: book.loss(1, 1, 1), "epoch": lambda: book.epoch(HISTORY, 1, 1), "close": book.close}[action]
    with pytest.raises(SqueezeEdgeError, match="tensorboard: cannot be written: No space left on device"):
        call()
    monkeypatch.undo()
    book.close()
