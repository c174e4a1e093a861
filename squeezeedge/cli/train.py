"""``squeezeedge train``: train a network from random weights by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squeezeedge.cli.options import Json
from squeezeedge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from torch import Tensor

    from squeezeedge.calib.datasets import Dataset
    from squeezeedge.training.distributed import World
    from squeezeedge.training.logbook import Epoch
    from squeezeedge.training.recipe import Recipe
    from squeezeedge.training.run import Report, Result

__all__ = [
    "Changes",
    "Device",
    "Out",
    "Qat",
    "Resume",
    "TestData",
    "Workers",
    "check_device",
    "check_folder",
    "lead_progress",
    "register",
    "run_recipe",
    "train_command",
]

_RUN = "Run"

Out = Annotated[Path, typer.Option("-o", "--out", help="Folder of the run.", show_default=False)]
TestData = Annotated[
    str | None,
    typer.Option(help="Images to measure accuracy on, if --data has no test part.", show_default=False),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Instead of the recipe's value; may be repeated.", show_default=False
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run in --out, where it was stopped.", rich_help_panel=_RUN)
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Processes that prepare images; default: one a processor, none for images kept in memory.",
        rich_help_panel=_RUN,
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(help="cpu or cuda; default: a GPU if there is one.", rich_help_panel=_RUN, show_default=False),
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


def train_command(
    recipe: Annotated[
        str, typer.Option(help="An embedded recipe (`squeezeedge recipes`) or a .toml file.", show_default=False)
    ],
    out: Out,
    data: Annotated[
        str | None,
        typer.Option(
            help="Labelled images: folder (class = subfolder), .tar, .npz, CIFAR-10 or `digits`; default: its own.",
            show_default=False,
        ),
    ] = None,
    test_data: TestData = None,
    changes: Changes = None,
    qat: Qat = False,
    weights: Annotated[
        Path | None,
        typer.Option(help="With --qat: the trained network to start from.", rich_help_panel=_RUN, show_default=False),
    ] = None,
    resume: Resume = False,
    workers: Workers = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Train a network from random weights; under `torchrun`, in several processes."""
    from squeezeedge.training.distributed import join_world
    from squeezeedge.training.recipe import load_recipe

    plan = load_recipe(recipe, changes or ())
    if plan.start != "random":
        raise UsageError(f"{recipe}: starts from a trained network; use `squeezeedge finetune`")
    if weights is not None and not qat:
        raise UsageError("--weights: training starts from random weights; use `squeezeedge finetune`, or --qat")
    if qat and weights is None and not resume:
        raise UsageError("--qat starts from a trained network: train without it first, then give that as --weights")
    check_folder(out, resume)
    with join_world(check_device(device)) as world:
        run_recipe(
            plan, data, test_data, out, world, resume=resume, workers=workers, json=json, qat=qat, weights=weights
        )


def check_folder(out: Path, resume: bool) -> None:
    """Refuse to write into a folder that holds something already, unless a run goes on there.

    Raises:
        UsageError: it does, or its parent does not exist.
    """
    if not out.absolute().parent.is_dir():
        raise UsageError(f"{out}: the folder that it is to be in does not exist")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; give a folder with -o")
    if not resume and out.is_dir() and any(out.iterdir()):
        fix = "go on with the run in it by --resume" if (out / "state.safetensors").exists() else "empty it"
        raise UsageError(f"{out}: is not empty; {fix}, or choose another folder with -o")


def check_device(device: str | None) -> str | None:
    """What ``--device`` says.

    Raises:
        UsageError: neither cpu nor cuda.
    """
    if device not in (None, "cpu", "cuda"):
        raise UsageError(f"--device {device}: must be cpu or cuda")
    return device


def run_recipe(
    recipe: Recipe,
    data: str | None,
    test_data: str | None,
    out: Path,
    world: World,
    *,
    resume: bool,
    workers: int | None,
    json: bool,
    classes: int | None = None,
    trained: Mapping[str, Tensor] | None = None,
    qat: bool = False,
    weights: Path | None = None,
) -> None:
    """Train, and print the result; only the first process prints.

    Args:
        recipe: what to do.
        data: labelled images; ``None``: the recipe's.
        test_data: images to measure accuracy on; ``None``: the test part of ``data``.
        out: folder of the run.
        world: the processes that share the work.
        resume: go on with the run in ``out``.
        workers: processes that prepare images; ``None``: as many as pay.
        json: print JSON instead of a table.
        classes: number of classes that the images must have; ``None``: any.
        trained: weights to start from.
        qat: train the integer network, at the recipe's full input size throughout.
        weights: checkpoint that it starts from, unless ``resume``.

    Raises:
        SqueezeEdgeError: see :func:`squeezeedge.training.run.run` and :func:`squeezeedge.cli.qat.qat_form`.
        typer.Exit: the run was interrupted.
    """
    from dataclasses import replace

    from squeezeedge.calib.datasets import check_labels
    from squeezeedge.cli.output import note
    from squeezeedge.cli.qat import START, qat_form
    from squeezeedge.training.data import default_workers, load_images
    from squeezeedge.training.memory import keep_freed_memory
    from squeezeedge.training.run import run

    spec = data or recipe.dataset
    if not spec:
        raise UsageError("labelled images are needed: give --data")
    if resume and not qat and (out / START).is_file():
        raise UsageError(f"{out}: the run in it is one with --qat; give that, too")
    if qat:
        recipe = replace(recipe, input=replace(recipe.input, first_size=0))
    if world.device.type == "cpu":
        keep_freed_memory()
    learned, tested = _open(spec, test_data)
    if classes is not None:
        check_labels(learned, classes)
    with lead_progress(world, "decode", len(learned) + len(tested) if recipe.input.cache else 0) as advance:
        images = load_images(recipe, learned, tested, advance)
    form = qat_form(recipe, None if resume else weights, learned, images.classes, out, world) if qat else None
    if world.leads:
        shared = f", {world.size} processes" if world.size > 1 else ""
        kind = " in int8" if qat else ""
        note(
            f"training {recipe.network}{kind} on {len(learned)} images of {learned.name} ({world.device.type}{shared})"
        )
    with lead_progress(world, "train", recipe.epochs * len(learned)) as advance:

        def on_step(report: Report) -> None:
            figures = f"loss {report.loss:.3f} accuracy {report.accuracy:.1f} % {report.images_per_s:.0f} images/s"
            advance(report.images, f"{report.epoch}/{recipe.epochs} {figures}")

        def on_epoch(epoch: Epoch, images_per_s: float) -> None:
            if world.leads:
                note(_epoch_line(recipe, epoch, images_per_s, len(learned)))

        result = run(
            recipe,
            images,
            out,
            world=world,
            workers=default_workers(images.training, world) if workers is None else workers,
            trained=trained,
            form=form,
            resume=resume,
            on_start=advance,
            on_step=on_step,
            on_epoch=on_epoch,
        )
    if world.leads:
        _report(recipe, out, result, tested, json, ".sqe" if qat else ".safetensors")
    if not result.finished:
        raise typer.Exit(INTERRUPTED)


def _open(spec: str, test_spec: str | None) -> tuple[Dataset, Dataset]:
    """Images to learn and to measure."""
    from squeezeedge.calib.datasets import open_dataset

    if test_spec is None:
        return open_dataset(spec, "train"), open_dataset(spec, "test")
    try:
        learned = open_dataset(spec, "train")
    except UsageError:  # it has no parts: all of it
        learned = open_dataset(spec)
    return learned, open_dataset(test_spec)


def lead_progress(world: World, label: str, total: int) -> AbstractContextManager[Callable[..., None]]:
    """A progress bar of the first process; nothing in the others, or where there is nothing to do."""
    from contextlib import nullcontext

    from squeezeedge.cli.output import progress

    if world.leads and total:
        return progress(label, total)

    def ignore(steps: int = 1, detail: str = "") -> None:
        pass

    return nullcontext(ignore)


def _epoch_line(recipe: Recipe, epoch: Epoch, images_per_s: float, images: int) -> str:
    test = "" if epoch.top1 is None else f", test {epoch.top1:.2f} %"
    left = (recipe.epochs - epoch.epoch) * images / images_per_s / 60 if images_per_s else 0
    figures = f"loss {epoch.loss:.3f}, accuracy {epoch.accuracy:.2f} %{test}, {images_per_s:.0f} images/s"
    return f"epoch {epoch.epoch}/{recipe.epochs}: {figures}, about {left:.1f} min left"


def _report(recipe: Recipe, out: Path, result: Result, tested: Dataset, json: bool, suffix: str) -> None:
    from dataclasses import asdict

    from squeezeedge.cli.output import emit_json, emit_table, note, number
    from squeezeedge.training.run import BEST, LAST

    if not result.finished:
        last = (out / LAST).with_suffix(suffix)
        note(f"stopped; the network so far is {last}. Give the same command with --resume to go on.")
    best = result.best
    if best is None:
        return
    path, precision = (out / BEST).with_suffix(suffix), "int8" if suffix == ".sqe" else "fp32"
    if json:
        emit_json(
            {
                "model": recipe.network,
                "file": str(path),
                "bytes": path.stat().st_size,
                "epochs": len(result.history),
                "best_epoch": best.epoch,
                "seed": recipe.seed,
                "images": len(tested),
                f"{precision}_top1": best.top1,
                f"{precision}_top5": best.top5,
                "finished": result.finished,
                "history": [asdict(epoch) for epoch in result.history],
            }
        )
        return
    columns = ["model", "epochs", "best epoch", "seed", "test images", "top-1 %", "top-5 %", "MB"]
    counts = [str(len(result.history)), str(best.epoch), str(recipe.seed), str(len(tested))]
    row = [recipe.network, *counts, number(best.top1), number(best.top5), number(path.stat().st_size / 1e6)]
    emit_table(f"{path}: {precision} on {tested.name}", columns, [row])


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train_command)
