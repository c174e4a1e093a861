"""``squeezeedge finetune``: train a trained network on other classes."""

from __future__ import annotations

from typing import Annotated

import typer

from squeezeedge.cli.options import Json, Pretrained, Weights
from squeezeedge.cli.training import (
    Changes,
    Device,
    Out,
    Qat,
    Resume,
    TestData,
    Workers,
    check_device,
    form_maker,
    run_training,
)
from squeezeedge.errors import UsageError

__all__ = ["finetune_command", "register"]


def finetune_command(
    network: Annotated[str, typer.Argument(help="A network's name (`squeezeedge models`).", show_default=False)],
    data: Annotated[
        str,
        typer.Option(
            help="Labelled images: folder (class = subfolder), .tar, .npz, CIFAR-10 or `digits`.", show_default=False
        ),
    ],
    out: Out,
    weights: Weights = None,
    pretrained: Pretrained = False,
    classes: Annotated[
        int | None, typer.Option(min=1, help="Number of classes; default: those of the images.", show_default=False)
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="An embedded recipe (`squeezeedge recipes`) or a .toml file.")
    ] = "finetune",
    test_data: TestData = None,
    changes: Changes = None,
    qat: Qat = False,
    resume: Resume = False,
    workers: Workers = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Train a trained network on other classes, with a new last convolution.

    NETWORK is what is trained; the recipe says how. With --qat no layer is new: the weights are those of a network for
    these classes.
    """
    from dataclasses import replace

    from squeezeedge.networks.registry import NETWORKS, download
    from squeezeedge.training.distributed import join_world
    from squeezeedge.training.recipe import load_recipe
    from squeezeedge.training.start import check_folder, trained_weights

    if network not in NETWORKS:
        raise UsageError(f"{network}: no such network; the networks are: {', '.join(NETWORKS)}")
    if weights is not None and pretrained:
        raise UsageError("--weights and --pretrained exclude each other")
    if weights is None and not pretrained and not resume:
        raise UsageError("trained weights are needed: give --weights FILE or --pretrained")
    plan = load_recipe(recipe, changes or ())
    if plan.start != "trained":
        raise UsageError(f"{recipe}: starts from random weights; use `squeezeedge train`, or --set start=trained")
    check_folder(out, resume)
    if pretrained and not resume:
        weights = download(network)
    with join_world(check_device(device)) as world:
        run_training(
            replace(plan, network=network),
            data,
            out,
            world,
            json=json,
            test_data=test_data,
            classes=classes,
            trained=None if resume or qat or weights is None else trained_weights(network, weights),
            make_form=form_maker(weights, out, world, resume) if qat else None,
            resume=resume,
            workers=workers,
        )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("finetune")(finetune_command)
