"""A training run in a folder: epochs, validation, checkpoints. A run that is stopped at any step resumes bit for bit.

The folder holds ``best.safetensors`` and ``last.safetensors`` (the network for use: the most accurate one, the latest
one), ``state.safetensors`` (what ``resume`` goes on from), ``curve.png`` and ``tensorboard/``.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError
from squeezeedge.training.checkpoint import State, read_state, write_checkpoint, write_state
from squeezeedge.training.data import Batch, Images, batch_workers, batches
from squeezeedge.training.digest import digest
from squeezeedge.training.distributed import World
from squeezeedge.training.logbook import Epoch, Logbook
from squeezeedge.training.recipe import Recipe
from squeezeedge.training.schedule import image_size, learning_rate_factor
from squeezeedge.training.train import Form, Trainer
from squeezeedge.training.validate import Score, logits, measure

__all__ = ["BEST", "LAST", "STATE", "Report", "Result", "run"]

BEST, LAST, STATE = "best.safetensors", "last.safetensors", "state.safetensors"
LOG_STEPS = 20
"""Every how many steps TensorBoard gets the loss."""
STATE_S = 300.0
"""After so many seconds within an epoch the state is written."""
GRACE_S = 1.0
"""Signals so soon after the first are the same one, which a launcher passes on although all processes have it."""


@dataclass(frozen=True)
class Report:
    """Where a run is, after a step.

    Attributes:
        epoch: which one, from 1.
        images: learned in this step, by all processes.
        loss: mean over the images of this epoch so far.
        accuracy: percent of them.
        images_per_s: of this epoch so far, all processes together.
    """

    epoch: int
    images: int
    loss: float
    accuracy: float
    images_per_s: float


@dataclass
class _Position:
    """How far a run has come; all of it is stored.

    Attributes:
        epoch: complete epochs.
        step: steps since.
        sums: loss, right ones and images in these steps.
        history: complete epochs.
        best: of them, by accuracy on the validation images. The latest of equally accurate ones is taken: with few
            images, an early epoch that has all of them right has hardly learned.
    """

    epoch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    history: list[Epoch] = field(default_factory=list)
    best: Epoch | None = None


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        history: complete epochs.
        best: the one whose network is in ``best.safetensors``; ``None`` before the first validation.
        finished: whether all epochs are done; if not, the run was interrupted and its state written.
    """

    history: tuple[Epoch, ...]
    best: Epoch | None
    finished: bool


def run(
    recipe: Recipe,
    images: Images,
    folder: Path,
    *,
    world: World | None = None,
    workers: int = 0,
    trained: Mapping[str, Tensor] | None = None,
    form: Form | None = None,
    resume: bool = False,
    on_remark: Callable[[str], None] = lambda text: None,
    on_start: Callable[[int], None] = lambda images: None,
    on_step: Callable[[Report], None] = lambda report: None,
    on_epoch: Callable[[Epoch, float], None] = lambda epoch, images_per_s: None,
) -> Result:
    """Train as a recipe says. Ctrl-C (or SIGTERM) ends the run after the current step, with its state written.

    Where the process was started with one of them ignored (``nohup``), that one stays ignored. The state is also
    written before the first step, every five minutes, after every epoch, and where an image turns out to be damaged, so
    a run that is killed at any moment goes on.

    A run that was interrupted and resumed writes the same bytes as one that was not, given the same library
    versions, threads and number of processes.

    Args:
        recipe: what to do.
        images: what to learn and to measure.
        folder: where to write; made if it is not there.
        world: the processes that share the work, of which the first writes; ``None``: this one alone.
        workers: processes that prepare images, for each process of the world.
        trained: weights to start from, those of the last convolution left out.
        form: trained in place of the recipe's network; the files of the network have its suffix.
        resume: go on from the folder's state.
        on_remark: called with what people should know: processes that died, a state from other circumstances.
        on_start: called with the number of images already learned.
        on_step: called after each step.
        on_epoch: called after each epoch, with the images learned per second.

    Raises:
        SqueezeEdgeError: the loss is no longer finite, a file cannot be written, an image is damaged, or the
            folder's state is damaged or not of this recipe and these images.
    """
    world = world or World()
    examples = images.training.examples() if recipe.batch_norm and form is None else None
    trainer = Trainer(recipe, len(images.classes), world, trained, form, examples)
    run_ = _Run(recipe, images, folder, world, trainer)
    if resume:
        for text in run_.resume():
            on_remark(text)
    done = min(run_.position.step * recipe.batch_size, len(images.training))
    on_start(run_.position.epoch * len(images.training) + done)
    devices = [world.device] if world.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        _stop_requests() as stop,
        run_.logbook() as logbook,
        batch_workers(images.training, workers, on_remark) as made_by,
    ):
        if not resume:
            run_.save_state()
        finished = run_.epochs(batches(images.training, world, made_by), stop, logbook, on_step, on_epoch)
    return Result(tuple(run_.position.history), run_.position.best, finished)


class _Run:
    """The parts of a run, and its position."""

    def __init__(self, recipe: Recipe, images: Images, folder: Path, world: World, trainer: Trainer) -> None:
        self.recipe = recipe
        self.images = images
        self.folder = folder
        self.world = world
        self.trainer = trainer
        self.position = _Position()
        self.saved = time.monotonic()
        self.steps = math.ceil(len(images.training) / recipe.batch_size)

    def epochs(
        self,
        batches_of: Callable[[int, int], Iterator[Batch]],
        stop: threading.Event,
        logbook: Logbook | None,
        on_step: Callable[[Report], None],
        on_epoch: Callable[[Epoch, float], None],
    ) -> bool:
        """Train the remaining epochs; return whether all are done."""
        at, world = self.position, self.world
        while at.epoch < self.recipe.epochs:
            start, before = time.perf_counter(), at.sums[2]
            rate = self._factor(max(0, at.step - 1))
            for batch in self._batches(batches_of):
                rate = self._factor(at.step)
                loss, right, count, stopping = world.total([*self.trainer.step(batch, rate), stop.is_set()])
                _check_loss(loss / count, at.epoch)
                at.step += 1
                at.sums = [total + new for total, new in zip(at.sums, (loss, right, count), strict=True)]
                speed = (at.sums[2] - before) / (time.perf_counter() - start)
                report = Report(at.epoch + 1, int(count), at.sums[0] / at.sums[2], 100 * at.sums[1] / at.sums[2], speed)
                on_step(report)
                done = at.epoch * self.steps + at.step
                if logbook is not None and done % LOG_STEPS == 0:
                    logbook.loss(done, loss / count, self.recipe.optimizer.learning_rate * rate)
                if stopping:
                    self._save()
                    return False
                if time.monotonic() - self.saved > STATE_S:
                    self._save()
            speed = (at.sums[2] - before) / (time.perf_counter() - start)
            self._end_epoch(rate, speed, logbook)
            on_epoch(at.history[-1], speed)
            if world.total([stop.is_set()])[0] and at.epoch < self.recipe.epochs:
                return False
        return True

    def _batches(self, batches_of: Callable[[int, int], Iterator[Batch]]) -> Iterator[Batch]:
        """The rest of the epoch; the state is saved if an image is damaged."""
        try:
            yield from batches_of(self.position.epoch, self.position.step)
        except SqueezeEdgeError:
            self._save()
            raise

    def resume(self) -> list[str]:
        """Take over the folder's state.

        Returns:
            Remarks for people: circumstances have changed, so that the result will differ.

        Raises:
            SqueezeEdgeError: it is damaged, or not of this recipe and these images.
        """
        path = self.folder / STATE
        state = read_state(path)
        values = state.values
        try:
            differences = [*_differences(values["recipe"], self.recipe.to_json(), "")]
            if differences:
                raise UsageError(
                    f"{path}: is of another recipe: {'; '.join(differences)}; give that one, or leave out `resume` "
                    "and choose another folder"
                )
            if values["images"] != self._fingerprint:
                raise UsageError(f"{path}: was trained on other images; give those, or begin again in another folder")
            then = {name: values["circumstances"][name] for name in self._circumstances()}
            history = [Epoch(**epoch) for epoch in values["history"]]
            best = None if values["best"] is None else Epoch(**values["best"])
            loss, right, count = map(float, values["sums"])
            epoch, step = int(values["epoch"]), int(values["step"])
            if not (0 <= epoch <= self.recipe.epochs and 0 <= step <= self.steps and len(history) == epoch):
                raise ValueError(f"epoch {epoch}, step {step}")
            self.position = _Position(epoch, step, [loss, right, count], history, best)
            self.trainer.load(state.tensors, values["scaler"], str(path))
        except (LookupError, TypeError, ValueError) as error:
            raise CorruptFileError(f"{path}: is damaged ({error!r}); begin again in another folder") from error
        others = [
            f"{name} {then[name]}, here {now}" for name, now in self._circumstances().items() if now != then[name]
        ]
        if not others:
            return []
        return [
            f"{path}: was written with {'; '.join(others)}: the run goes on, but its result will not be, bit for bit, "
            "that of a run that was never stopped"
        ]

    @contextmanager
    def logbook(self) -> Iterator[Logbook | None]:
        """The logbook of the process that writes."""
        if not self.world.leads:
            yield None
            return
        step = self.position.epoch * self.steps + self.position.step
        book = Logbook(self.folder, f"{self.recipe.network}: {self.recipe.summary}", step)
        with closing(book):
            yield book

    def _factor(self, step: int) -> float:
        """Of the learning rate in a step of the current epoch."""
        done = self.position.epoch * self.steps + step
        return learning_rate_factor(self.recipe.schedule, done, self.steps, self.recipe.epochs)

    def _end_epoch(self, factor: float, images_per_s: float, logbook: Logbook | None) -> None:
        """Validate if it is due, and write the files. The state comes last, so that missing files are written again."""
        at, recipe = self.position, self.recipe
        number = at.epoch + 1
        score = self._validate() if number == recipe.epochs or number % recipe.validate_every == 0 else None
        loss, right, count = at.sums
        epoch = Epoch(
            epoch=number,
            size=image_size(recipe, at.epoch),
            learning_rate=recipe.optimizer.learning_rate * factor,
            loss=loss / count,
            accuracy=100 * right / count,
            top1=None if score is None else score.top1,
            top5=None if score is None else score.top5,
        )
        at.history.append(epoch)
        at.epoch, at.step, at.sums = number, 0, [0.0, 0.0, 0.0]
        if score is not None and (at.best is None or score.top1 >= (at.best.top1 or 0)):
            at.best = epoch
            if self.world.leads:
                self._write_network(BEST)
        if logbook is not None:
            logbook.epoch(at.history, number * self.steps, images_per_s)
        self._save()

    def _validate(self) -> Score:
        test = self.images.test
        assert test.dataset.labels is not None
        module = self.trainer.network_for_use()
        return measure(
            lambda batch: logits(module, batch, test.preprocessing), test.batches, test.dataset.labels, self.world
        )

    def _save(self) -> None:
        if self.world.leads:
            self._write_network(LAST)
            self.save_state()

    def save_state(self) -> None:
        """Write the state that :meth:`resume` takes over; only the first process writes."""
        if not self.world.leads:
            return
        at = self.position
        values = {
            "recipe": self.recipe.to_json(),
            "images": self._fingerprint,
            "circumstances": self._circumstances(),
            "epoch": at.epoch,
            "step": at.step,
            "sums": at.sums,
            "history": [asdict(epoch) for epoch in at.history],
            "best": None if at.best is None else asdict(at.best),
            "scaler": self.trainer.scaler.state_dict(),
        }
        write_state(self.folder / STATE, State(self.trainer.tensors(), values))
        self.saved = time.monotonic()

    def _write_network(self, name: str) -> None:
        path, module, form = self.folder / name, self.trainer.network_for_use(), self.trainer.form
        if form is not None:
            form.write(path.with_suffix(form.suffix), module)
            return
        write_checkpoint(path, module, self.recipe, self.images.classes)

    @cached_property
    def _fingerprint(self) -> dict[str, Any]:
        """What tells other images from these."""
        training, test = self.images.training, self.images.test
        assert test.dataset.labels is not None
        tested = test.dataset.images if test.pixels is None else test.pixels
        return {
            "classes": list(self.images.classes),
            "learned": digest(training.images, training.labels),
            "tested": digest(tested, test.dataset.labels),
        }

    def _circumstances(self) -> dict[str, Any]:
        """The circumstances, besides the recipe, that the order of sums depends on."""
        on_gpu = self.world.device.type == "cuda"
        return {
            "processes": self.world.size,
            "threads": torch.get_num_threads(),
            "processor": torch.cuda.get_device_name() if on_gpu else torch.backends.cpu.get_cpu_capability(),
            "torch": torch.__version__,
        }


def _check_loss(loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise SqueezeEdgeError(
            f"training diverged in epoch {epoch + 1}: the loss is {loss}; lower optimizer.learning_rate (by `set` or "
            "in the recipe) or set clip_norm"
        )


def _differences(stored: Mapping[str, Any], given: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key in sorted(stored.keys() | given.keys()):
        old, new = stored.get(key), given.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key} is {old!r} there and {new!r} here"


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; a later signal has its usual effect.

    A signal that is already ignored stays ignored, as in a shell's background job or under ``nohup``.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
        yield stop
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
    latest = math.inf

    def request(number: int, frame: object) -> None:
        nonlocal latest
        if time.monotonic() > latest:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)
        elif not stop.is_set():
            latest = time.monotonic() + GRACE_S
            stop.set()

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
