"""``squeezeedge finetune``: train a trained network on other classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squeezeedge.cli.options import Json, Pretrained, Weights
from squeezeedge.cli.train import (
    Changes,
    Device,
    Out,
    Qat,
    Resume,
    TestData,
    Workers,
    check_device,
    check_folder,
    run_recipe,
)
from squeezeedge.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

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
        run_recipe(
            replace(plan, network=network),
            data,
            test_data,
            out,
            world,
            resume=resume,
            workers=workers,
            json=json,
            classes=classes,
            trained=None if resume or qat or weights is None else _trained(network, weights),
            qat=qat,
            weights=weights,
        )


def _trained(network: str, path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint without those of the last convolution."""
    from squeezeedge.errors import SqueezeEdgeError
    from squeezeedge.networks.checkpoints import read_checkpoint
    from squeezeedge.networks.registry import build, load_weights
    from squeezeedge.training.train import LAST

    state = read_checkpoint(path).state
    last = state.get(f"{LAST}weight")
    if last is None or last.ndim != 4:
        raise SqueezeEdgeError(f"{path}: holds no {LAST}weight, so it is none of the networks here")
    load_weights(build(network, last.shape[0]), state, str(path))
    return {name: tensor for name, tensor in state.items() if not name.startswith(LAST)}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("finetune")(finetune_command)
