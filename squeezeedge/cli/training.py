"""Shared by ``train`` and ``finetune``: their options, their output, and the end of a run."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from squeezeedge.cli.completion import data_sets, one_of
from squeezeedge.errors import UsageError, counted

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from squeezeedge.calib.datasets import Dataset
    from squeezeedge.calib.statement import Statement
    from squeezeedge.training.distributed import World
    from squeezeedge.training.logbook import Epoch
    from squeezeedge.training.recipe import Recipe
    from squeezeedge.training.start import Outcome
    from squeezeedge.training.train import Form

__all__ = [
    "Changes",
    "Device",
    "Notes",
    "Out",
    "Qat",
    "Resume",
    "TestData",
    "Workers",
    "check_device",
    "integer_form",
    "lead_progress",
    "run_training",
]

_RUN = "Run"

Out = Annotated[Path, typer.Option("-o", "--out", help="Folder of the run.", show_default=False)]
TestData = Annotated[
    str | None,
    typer.Option(
        help="Images for the last figure; training neither learns nor chooses by them. Default: the part test of "
        "--data (else val), or a fifth of each class, held out.",
        show_default=False,
        autocompletion=data_sets,
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a value of the recipe; may be repeated.", show_default=False
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run in --out, where it was stopped.", rich_help_panel=_RUN)
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Processes that prepare images. Default: one for each processor, none for images kept in memory.",
        rich_help_panel=_RUN,
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Where to train: cpu or cuda. Default: a GPU if there is one.",
        rich_help_panel=_RUN,
        show_default=False,
        autocompletion=one_of(("cpu", "cuda")),
    ),
]
Qat = Annotated[
    bool,
    typer.Option(
        "--qat",
        help="Train the integer network itself, from trained weights, through the int8 arithmetic that all targets "
        "share; writes best.sqe and last.sqe instead of .safetensors, and start.sqe as it was before. Give about a "
        "tenth of the learning rate (--set).",
        rich_help_panel=_RUN,
    ),
]
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def check_device(device: str | None) -> str | None:
    """What ``--device`` says.

    Raises:
        UsageError: neither cpu nor cuda.
    """
    if device not in (None, "cpu", "cuda"):
        raise UsageError(f"--device {device}: must be cpu or cuda")
    return device


def integer_form(
    recipe: Recipe,
    weights: Path | None,
    out: Path,
    world: World,
    resume: bool,
    given: Statement,
    *,
    ema: bool = False,
) -> dict[str, Any]:
    """What ``--qat`` trains: arguments of :func:`squeezeedge.training.start.train`.

    Args:
        recipe: of the run.
        weights: the trained network to start from, unless ``resume``.
        out: folder of the run.
        world: the processes that share the work.
        resume: go on with the run in ``out``.
        given: what is stated of the network's preprocessing.
        ema: of the trained network, the moving average of the weights.

    Returns:
        ``make_form``, and ``names`` of the network's classes.

    Raises:
        UsageError: there is no float network in ``weights``, or no such run in ``out``.
        SqueezeEdgeError: a file is damaged.
    """
    import numpy as np

    from squeezeedge.calib.statement import ASSUMED
    from squeezeedge.cli.model_options import tell_assumption
    from squeezeedge.cli.output import note
    from squeezeedge.loading import load
    from squeezeedge.quantization.qat_form import new_form, resumed_form
    from squeezeedge.training.start import START

    if resume or weights is None:
        form = resumed_form(recipe, out)
        return {"make_form": lambda recipe, learned, classes: form, "names": load(out / START).labels}
    if weights.suffix == ".sqe":
        raise UsageError(f"{weights}: is an integer graph; --qat starts from the float weights that it was made from")
    model = load(recipe.network, weights, size=recipe.input.size, ema=ema, preprocessing=given)
    own, learned = model.preprocessing, recipe.input.preprocessing
    stated = model.resolved is not None and model.resolved.sources["mean"] != ASSUMED
    if stated and not np.allclose([own.mean, own.std], [learned.mean, learned.std], rtol=1e-3):
        raise UsageError(
            f"{weights}: is for images of mean {own.mean} and standard deviation {own.std}, the recipe's have "
            f"{learned.mean} and {learned.std}; fine-tune it without --qat first, which changes that"
        )
    if world.leads:
        tell_assumption(model)

    def warn(text: str) -> None:
        if world.leads:
            note(f"warning: {text}")

    def make(recipe: Recipe, learned: Dataset, classes: tuple[str, ...]) -> Form:
        if world.leads:
            note(f"quantizing {recipe.network} with the weights of {weights}")
        assert model.floating is not None
        return new_form(recipe, model.floating, learned, classes, out, world, warn)

    return {"make_form": make, "names": model.labels}


def run_training(recipe: Recipe, data: str | None, out: Path, world: World, *, json: bool, **arguments: Any) -> None:  # noqa: ANN401
    """Train, and print the result; only the first process prints.

    Args:
        recipe: what to do.
        data: labelled images; ``None``: the recipe's.
        out: folder of the run.
        world: the processes that share the work.
        json: print JSON instead of a table.
        arguments: the others of :func:`squeezeedge.training.start.train`.

    Raises:
        SqueezeEdgeError: see :func:`squeezeedge.training.start.train`.
        typer.Exit: the run was interrupted.
    """
    from squeezeedge.cli.output import note
    from squeezeedge.training.run import BEST
    from squeezeedge.training.start import train

    outcome = train(recipe, data, out, world=world, watcher=Notes(world), **arguments)
    if world.leads:
        _report(recipe, out, outcome, json)
        if outcome.result.finished:
            best = (out / BEST).with_suffix(outcome.suffix)
            images = "" if outcome.suffix == ".sqe" else f" --data {quote(data or recipe.dataset)}"
            note(f"next: squeezeedge compile {quote(str(best))}{images}")
    if not outcome.result.finished:
        raise typer.Exit(INTERRUPTED)


class Notes:
    """Reports the progress of a run on stderr: the :class:`squeezeedge.training.start.Watcher` of the first process."""

    def __init__(self, world: World) -> None:
        self._world = world

    def progress(self, label: str, total: int) -> AbstractContextManager[Callable[..., None]]:
        """A progress bar."""
        return lead_progress(self._world, label, total)

    def remark(self, text: str) -> None:
        """What people should know of the images."""
        from squeezeedge.cli.output import note

        if self._world.leads:
            note(text)

    def begins(self, recipe: Recipe, learned: Dataset, form: Form | None) -> None:
        """What is trained on what."""
        from squeezeedge.cli.output import note

        if self._world.leads:
            shared = f", {self._world.size} processes" if self._world.size > 1 else ""
            kind = "" if form is None else " in int8"
            where = f"{self._world.device.type}{shared}"
            note(f"training {recipe.network}{kind} on {counted(len(learned), 'image')} of {learned.name} ({where})")

    def epoch(self, recipe: Recipe, epoch: Epoch, images_per_s: float, images: int) -> None:
        """One line an epoch."""
        from squeezeedge.cli.output import note

        if self._world.leads:
            test = "" if epoch.top1 is None else f", validation {epoch.top1:.2f} %"
            epochs = recipe.epochs - epoch.epoch
            left = f", about {epochs * images / images_per_s / 60:.1f} min left" if epochs and images_per_s else ""
            speed = f"{images_per_s:.{0 if images_per_s >= 10 else 1}f} images/s"
            figures = f"loss {epoch.loss:.3f}, accuracy {epoch.accuracy:.2f} %{test}, {speed}"
            note(f"epoch {epoch.epoch}/{recipe.epochs}: {figures}{left}")


def lead_progress(world: World, label: str, total: int) -> AbstractContextManager[Callable[..., None]]:
    """A progress bar of the first process; nothing in the others, or where there is nothing to do."""
    from contextlib import nullcontext

    from squeezeedge.cli.output import progress

    if world.leads and total:
        return progress(label, total)

    def ignore(steps: int = 1, detail: str = "") -> None:
        pass

    return nullcontext(ignore)


def _report(recipe: Recipe, out: Path, outcome: Outcome, json: bool) -> None:
    from dataclasses import asdict

    from squeezeedge.cli.output import emit_json, emit_table, note
    from squeezeedge.evaluation.metrics import wilson_interval
    from squeezeedge.evaluation.reports import FIVE
    from squeezeedge.evaluation.tables import interval, number
    from squeezeedge.training.run import BEST, LAST

    result, tested, score, suffix = outcome.result, outcome.tested, outcome.score, outcome.suffix
    if not result.finished:
        last = (out / LAST).with_suffix(suffix)
        note(f"stopped; the network so far is {last}. Give the same command with --resume to go on.")
    best = result.best
    if best is None:
        return
    path, precision = (out / BEST).with_suffix(suffix), "int8" if suffix == ".sqe" else "fp32"
    top1, top5 = (None, None) if score is None else (score.top1, score.top5)
    if json:
        emit_json(
            {
                "model": recipe.network,
                "file": str(path),
                "bytes": path.stat().st_size,
                "epochs": len(result.history),
                "best_epoch": best.epoch,
                "seed": recipe.seed,
                "validation_images": len(outcome.chosen),
                "validation_top1": best.top1,
                "images": len(tested),
                f"{precision}_top1": top1,
                f"{precision}_top5": top5,
                "finished": result.finished,
                "history": [asdict(epoch) for epoch in result.history],
            }
        )
        return
    top5 = top5 if len(tested.classes) > FIVE else None
    columns = ["model", "epochs", "best epoch", "seed", "validation %", "test images", "top-1 %", "95 % interval"]
    counts = [str(len(result.history)), str(best.epoch), str(recipe.seed), number(best.top1), str(len(tested))]
    ends = None if score is None else wilson_interval(round(score.top1 * score.images / 100), score.images)
    row = [recipe.network, *counts, number(top1), interval(ends), number(top5), number(path.stat().st_size / 1e6)]
    emit_table(f"{path}: {precision} on {tested.name}", [*columns, "top-5 %", "MB"], [row])
