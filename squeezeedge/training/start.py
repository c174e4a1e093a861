"""A training run from its first check to its last epoch: folder, images, form, weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from squeezeedge.calib.datasets import Dataset, check_labels
from squeezeedge.calib.division import divide
from squeezeedge.calib.labels import a_few
from squeezeedge.calib.matching import with_classes_of
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.calib.statement import ASSUMED, Statement
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.files import check_unlocked, is_leftover, locked_folder, sha256_of
from squeezeedge.graph import oracle
from squeezeedge.graph.sqe import read_sqe
from squeezeedge.networks.checkpoints import read_checkpoint
from squeezeedge.networks.image_input import read_rgb, renormalize, stated_of
from squeezeedge.networks.registry import build, load_weights, networks_of
from squeezeedge.training.data import TestImages, default_workers, load_images
from squeezeedge.training.distributed import World
from squeezeedge.training.logbook import Epoch
from squeezeedge.training.memory import keep_freed_memory
from squeezeedge.training.recipe import Recipe
from squeezeedge.training.run import BEST, Report, Result, run
from squeezeedge.training.train import LAST, Form
from squeezeedge.training.validate import Score, logits, measure

__all__ = ["START", "MakeForm", "Outcome", "Watcher", "check_folder", "networks_in", "train", "trained_weights"]

START = "start.sqe"
"""Of a run with ``--qat``: the network as it was quantized; scales, shifts and zero points stay as they are there."""

BEFORE_THE_STATE = (START, "tensorboard")
"""What a run that was killed before it wrote its state may leave."""

OTHER_CLASSES = "rename the folders; `qat` trains no new layer: for other classes fine-tune without it first"

MakeForm: TypeAlias = Callable[[Recipe, Dataset, tuple[str, ...]], Form]
"""(recipe, images to learn, their classes) -> what is trained in place of the recipe's network."""


class Watcher(Protocol):
    """What is told how a run goes, in each process."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Callable[..., None]]:
        """A part of the work with ``total`` steps, maybe 0, begins; yields ``advance(steps=1, detail="")``."""

    def remark(self, text: str) -> None:
        """There is something that people should know of the images."""

    def begins(self, recipe: Recipe, learned: Dataset, form: Form | None) -> None:
        """Training is about to begin."""

    def epoch(self, recipe: Recipe, epoch: Epoch, images_per_s: float, images: int) -> None:
        """An epoch of so many images is done."""


class _Silent:
    """A watcher that says nothing."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Callable[..., None]]:
        return nullcontext(lambda steps=1, detail="": None)

    def remark(self, text: str) -> None:
        pass

    def begins(self, recipe: Recipe, learned: Dataset, form: Form | None) -> None:
        pass

    def epoch(self, recipe: Recipe, epoch: Epoch, images_per_s: float, images: int) -> None:
        pass


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        result: of its epochs; accuracies are on the images by which the best epoch was chosen.
        chosen: these images.
        tested: the images for the last figure; none was used to learn or to choose.
        score: this figure, of the best epoch; ``None`` before all epochs are done, and in processes other than the
            first.
        suffix: ending of the network's files.
    """

    result: Result
    chosen: Dataset
    tested: Dataset
    score: Score | None
    suffix: str


def check_folder(out: Path, resume: bool) -> None:
    """Refuse to write into a folder that holds something already, unless a run goes on there.

    Raises:
        UsageError: it does, another run writes there, or its parent does not exist.
    """
    if not out.absolute().parent.is_dir():
        raise UsageError(f"{out}: the folder that it is to be in does not exist")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; give a folder with `out`")
    check_unlocked(out)
    _check_content(out, resume)


def _check_content(out: Path, resume: bool) -> None:
    if resume or not out.is_dir():
        return
    there = [path.name for path in out.iterdir() if not is_leftover(path)]
    if any(name not in BEFORE_THE_STATE for name in there):
        fix = "go on with the run in it by `resume`" if "state.safetensors" in there else "empty it"
        raise UsageError(f"{out}: is not empty; {fix}, or choose another folder with `out`")


@contextmanager
def _alone(out: Path, resume: bool, world: World) -> Iterator[None]:
    """The folder of a run is locked, which the first process does."""
    if not world.leads:
        yield
        return
    with locked_folder(out):
        _check_content(out, resume)
        yield


def networks_in(path: Path) -> tuple[str, ...]:
    """The names of the networks that a checkpoint can be of, the likeliest first.

    Raises:
        SqueezeEdgeError: the file is damaged, or it is of none of the networks here.
    """
    try:
        return networks_of(read_checkpoint(path), sha256_of(path))[0]
    except SqueezeEdgeError as failure:
        raise type(failure)(f"{path}: {str(failure).removeprefix(f'{path}: ')}") from None


def trained_weights(
    network: str,
    path: Path,
    target: Preprocessing,
    given: Statement | None = None,
    on_assumption: Callable[[str], None] = lambda text: None,
    *,
    ema: bool = False,
) -> dict[str, Tensor]:
    """The weights of a checkpoint without those of the last convolution, to be trained on other classes.

    The weights of the first convolution are rewritten for RGB images normalized as ``target`` says, where the
    checkpoint is stated to expect other images.

    Args:
        network: of the checkpoint, a name.
        path: the checkpoint.
        target: how the images to learn are preprocessed.
        given: what is stated of the checkpoint's own preprocessing, beside what is stated in it.
        on_assumption: is told what nothing states of that.
        ema: the moving average of the weights, where the file holds it beside them.

    Raises:
        SqueezeEdgeError: the file is damaged, its weights are not those of the network, or what is stated is not
            possible.
    """
    checkpoint = read_checkpoint(path, ema=ema)
    state = checkpoint.state
    last = state.get(f"{LAST}weight")
    if last is None or last.ndim != 4:
        raise SqueezeEdgeError(f"{path}: holds no {LAST}weight, so it is none of the networks here")
    module = build(network, last.shape[0])
    load_weights(module, state, str(path))
    resolved = stated_of(path, network, checkpoint, sha256_of(path), given)
    if resolved.assumption:
        on_assumption(f"{path.name}: {resolved.assumption}")
    if resolved.channel_order == "bgr":
        read_rgb(module, target.size)
    if resolved.sources["mean"] != ASSUMED:
        renormalize(module, target.size, resolved.preprocessing, target)
    return {name: tensor for name, tensor in module.state_dict().items() if not name.startswith(LAST)}


def train(
    recipe: Recipe,
    data: str | None,
    out: Path,
    *,
    test_data: str | None = None,
    world: World | None = None,
    classes: int | None = None,
    trained: Mapping[str, Tensor] | None = None,
    make_form: MakeForm | None = None,
    names: Sequence[str] = (),
    resume: bool = False,
    workers: int | None = None,
    watcher: Watcher | None = None,
) -> Outcome:
    """Open the images and train as a recipe says.

    Args:
        recipe: what to do; with ``make_form`` at its full input size throughout.
        data: labelled images, as for ``--data``; ``None``: the recipe's.
        out: folder of the run.
        test_data: images for the last figure; ``None``: of ``data``, as :func:`squeezeedge.calib.division.divide` says,
            by the recipe's seed.
        world: the processes that share the work; ``None``: this one alone.
        classes: number of classes that the images must have; ``None``: any.
        trained: weights to start from, see :func:`trained_weights`; ``None``: random ones.
        make_form: makes what is trained in place of the recipe's network.
        names: of the classes that this has in index order, by which those of the images are found; empty: the images'
            own are learned.
        resume: go on with the run in ``out``.
        workers: processes that prepare images; ``None``: as many as pay.
        watcher: is told how the run goes, in each process.

    Raises:
        UsageError: no images are known, ``out`` is not empty, another run writes there, or the run in it is one of
            another form.
        SqueezeEdgeError: the images are damaged or of other classes; see also :func:`squeezeedge.training.run.run`.
    """
    world, watcher = world or World(), watcher or _Silent()
    spec = data or recipe.dataset
    if not spec:
        raise UsageError("training needs labelled images; give `data`")
    if resume and make_form is None and (out / START).is_file():
        raise UsageError(f"{out}: the run in it is one with `qat`; give that, too")
    if make_form is not None:
        recipe = replace(recipe, input=replace(recipe.input, first_size=0))
    if world.device.type == "cpu":
        keep_freed_memory()
    with _alone(out, resume, world):
        learned, chosen, tested, remarks = divide(spec, test_data, recipe.seed)
        for text in remarks:
            watcher.remark(text)
        if make_form is not None and learned.classes:
            learned = _named(learned, names, watcher)
        if classes is not None:
            _check_count(learned, classes)
        chosen = learned if chosen is None else chosen
        if learned.classes:
            whose = f"{learned.name}'s"
            chosen, _ = with_classes_of(chosen, len(learned.classes), learned.classes, whose, "rename the folders")
            tested, remarks = with_classes_of(
                tested, len(learned.classes), learned.classes, whose, "rename the folders"
            )
            for text in remarks:
                watcher.remark(text)
        check_labels(tested, _count(learned))
        with watcher.progress("decode", len(learned) + len(chosen) if recipe.input.cache else 0) as advance:
            images = load_images(recipe, learned, chosen, advance)
        form = None if make_form is None else make_form(recipe, learned, images.classes)
        watcher.begins(recipe, learned, form)
        with watcher.progress("train", recipe.epochs * len(learned)) as advance:

            def on_step(report: Report) -> None:
                figures = f"loss {report.loss:.3f} accuracy {report.accuracy:.1f} % {report.images_per_s:.0f} images/s"
                advance(report.images, f"{report.epoch}/{recipe.epochs} {figures}")

            result = run(
                recipe,
                images,
                out,
                world=world,
                workers=default_workers(images.training, world) if workers is None else workers,
                trained=trained,
                form=form,
                resume=resume,
                on_remark=watcher.remark,
                on_start=advance,
                on_step=on_step,
                on_epoch=lambda epoch, speed: watcher.epoch(recipe, epoch, speed, len(learned)),
            )
        suffix = ".safetensors" if form is None else form.suffix
        score = None
        if result.finished and world.leads:
            with watcher.progress("test", len(tested)) as advance:
                score = _score(recipe, (out / BEST).with_suffix(suffix), tested, world, advance)
        return Outcome(result, chosen, tested, score, suffix)


def _named(learned: Dataset, names: Sequence[str], watcher: Watcher) -> Dataset:
    """The images to learn with the class indices of a network whose last layer is kept."""
    learned, remarks = with_classes_of(learned, len(names or learned.classes), names, fix=OTHER_CLASSES)
    for text in remarks:
        watcher.remark(text)
    return learned


def _count(dataset: Dataset) -> int:
    """Number of its classes."""
    assert dataset.labels is not None
    return len(dataset.classes) or int(dataset.labels.max()) + 1


def _check_count(learned: Dataset, classes: int) -> None:
    """Refuse images that are not of so many classes."""
    found = _count(learned)
    if found != classes:
        names = f" ({a_few(learned.classes)})" if learned.classes else ""
        raise SqueezeEdgeError(
            f"{learned.name}: has {found} classes{names} instead of {classes}; give that number or none, or "
            "complete its folders"
        )


def _score(recipe: Recipe, best: Path, tested: Dataset, world: World, on_progress: Callable[[int], None]) -> Score:
    """Accuracy of a run's chosen network, as it is stored, on images that were used for nothing else."""
    assert tested.labels is not None
    if best.suffix == ".sqe":
        graph = read_sqe(best)
        preprocessing = graph.preprocessing

        def answer(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
            return graph.logits(oracle.run(graph, batch))
    else:
        state = read_checkpoint(best).state
        module = build(recipe.network, state[f"{LAST}bias"].shape[0])
        load_weights(module, state, str(best))
        module.to(world.device)
        preprocessing = recipe.input.preprocessing

        def answer(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
            return logits(module, batch, preprocessing)

    images = TestImages(tested, preprocessing)
    return measure(answer, images.batches, tested.labels, on_progress=on_progress)
