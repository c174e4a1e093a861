"""The figures of a run, epoch by epoch: TensorBoard events and a picture."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.figure import Figure
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.files import write_figure

__all__ = ["Epoch", "Logbook", "plot_history"]


@dataclass(frozen=True)
class Epoch:
    """One epoch, counted from 1.

    Attributes:
        epoch: its number.
        size: height and width of its images in pixels.
        learning_rate: of its last step.
        loss: mean over the images learned.
        accuracy: percent of them, varied as they were, that were right before the network learned them.
        top1: percent of the validation images; ``None`` where it was not validated.
        top5: likewise, among the first five.
    """

    epoch: int
    size: int
    learning_rate: float
    loss: float
    accuracy: float
    top1: float | None = None
    top5: float | None = None


class Logbook:
    """Writes a run's figures into its folder: ``tensorboard/`` and ``curve.png``.

    Args:
        folder: of the run.
        title: of the picture.
        step: TensorBoard drops later figures, of a run that was stopped after its last checkpoint.

    Raises:
        SqueezeEdgeError: the folder cannot be written.
    """

    def __init__(self, folder: Path, title: str, step: int) -> None:
        self.folder = folder
        self.title = title
        with self._failures():
            (folder / "tensorboard").mkdir(parents=True, exist_ok=True)
            # SummaryWriter writes in a thread, which dies on a full disk; the run would then wait for it forever.
            self.writer = EventsWriter(str(folder / "tensorboard" / "events"))
            start = SessionLog(status=SessionLog.START)  # readers drop what they have from its step on, included
            self.writer.write_event(Event(wall_time=time.time(), step=step + 1, session_log=start))

    def loss(self, step: int, loss: float, learning_rate: float) -> None:
        """Note one step.

        Raises:
            SqueezeEdgeError: it cannot be written.
        """
        with self._failures():
            self._scalar("step/loss", loss, step)
            self._scalar("step/learning_rate", learning_rate, step)

    def epoch(self, history: Sequence[Epoch], step: int, images_per_s: float) -> None:
        """Note the last epoch of the history.

        Raises:
            SqueezeEdgeError: it cannot be written.
        """
        plot_history(history, self.title, self.folder / "curve.png")
        with self._failures():
            for name, value in asdict(history[-1]).items():
                if value is not None:
                    self._scalar(f"epoch/{name}", value, step)
            self._scalar("epoch/images_per_s", images_per_s, step)
            self.writer.flush()

    def close(self) -> None:
        """Write what is left.

        Raises:
            SqueezeEdgeError: it cannot be written.
        """
        with self._failures():
            self.writer.close()

    def _scalar(self, name: str, value: float, step: int) -> None:
        self.writer.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise SqueezeEdgeError(f"{self.folder / 'tensorboard'}: cannot be written: {reason}") from error


def plot_history(history: Sequence[Epoch], title: str, path: Path) -> None:
    """Draw loss and accuracy over the epochs; the file's ending chooses the format.

    Raises:
        SqueezeEdgeError: the file cannot be written.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    epochs = [epoch.epoch for epoch in history]
    losses.plot(epochs, [epoch.loss for epoch in history], marker=".")
    losses.set(xlabel="epoch", ylabel="loss while learning")
    validated = [(epoch.epoch, epoch.top1) for epoch in history if epoch.top1 is not None]
    accuracies.plot(epochs, [epoch.accuracy for epoch in history], marker=".", label="while learning")
    accuracies.plot(*zip(*validated, strict=True) if validated else ((), ()), marker=".", label="validation images")
    accuracies.set(xlabel="epoch", ylabel="top-1, %")
    accuracies.legend()
    for axes in (losses, accuracies):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    write_figure(path, figure)
