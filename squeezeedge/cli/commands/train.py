"""``squeezeedge train``: train a network from random weights by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from squeezeedge.cli.completion import data_sets, recipes
from squeezeedge.cli.groups import expanded
from squeezeedge.cli.model_options import PreprocessingOptions
from squeezeedge.cli.options import Json
from squeezeedge.cli.training import (
    Changes,
    Device,
    Out,
    Qat,
    Resume,
    TestData,
    Workers,
    check_device,
    integer_form,
    run_training,
)
from squeezeedge.errors import UsageError

__all__ = ["register", "train_command"]


def train_command(
    recipe: Annotated[
        str,
        typer.Option(
            help="An embedded recipe (`squeezeedge recipes`) or a .toml file.",
            show_default=False,
            autocompletion=recipes,
        ),
    ],
    out: Out,
    data: Annotated[
        str | None,
        typer.Option(
            help="Labelled images: folder (class = subfolder), .tar, .npz, CIFAR-10 or `digits`; default: its own.",
            show_default=False,
            autocompletion=data_sets,
        ),
    ] = None,
    test_data: TestData = None,
    changes: Changes = None,
    qat: Qat = False,
    weights: Annotated[
        Path | None,
        typer.Option(help="With --qat: the trained network to start from.", rich_help_panel="Run", show_default=False),
    ] = None,
    *,
    stated: PreprocessingOptions,
    resume: Resume = False,
    workers: Workers = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Train a network from random weights; under `torchrun`, in several processes."""
    from squeezeedge.training.distributed import join_world
    from squeezeedge.training.recipe import load_recipe
    from squeezeedge.training.start import check_folder

    plan = load_recipe(recipe, changes or ())
    if plan.start != "random":
        raise UsageError(f"{recipe}: starts from a trained network; use `squeezeedge finetune`")
    if weights is not None and not qat:
        raise UsageError("--weights: training starts from random weights; use `squeezeedge finetune`, or --qat")
    if qat and weights is None and not resume:
        raise UsageError("--qat starts from a trained network: train without it first, then give that as --weights")
    given = stated.statement()
    if given.stated() and (weights is None or resume):
        source = next(iter(given.sources.values()))
        raise UsageError(f"{source}: is of the trained network, which --qat starts from (--weights)")
    check_folder(out, resume)
    with join_world(check_device(device)) as world:
        run_training(
            plan,
            data,
            out,
            world,
            json=json,
            test_data=test_data,
            resume=resume,
            workers=workers,
            **(integer_form(plan, weights, out, world, resume, given) if qat else {}),
        )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(expanded(train_command))
