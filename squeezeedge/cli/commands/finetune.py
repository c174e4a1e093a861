"""``squeezeedge finetune``: train a trained network on other classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from squeezeedge.cli.completion import data_sets, models, recipes
from squeezeedge.cli.groups import expanded
from squeezeedge.cli.model_options import PreprocessingOptions
from squeezeedge.cli.options import Ema, Json, Network, Pretrained, Weights
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
from squeezeedge.errors import UsageError, did_you_mean

__all__ = ["finetune_command", "register"]


def finetune_command(
    data: Annotated[
        str,
        typer.Option(
            help="Labelled images: folder (class = subfolder), .tar, .npz, CIFAR-10 or `digits`.",
            show_default=False,
            autocompletion=data_sets,
        ),
    ],
    out: Out,
    network: Annotated[
        Optional[str],  # noqa: UP045  (typer shows it as an optional argument)
        typer.Argument(
            metavar="NETWORK",
            help="A network's name (`squeezeedge models`), or a checkpoint. Default: the network of --weights.",
            show_default=False,
            autocompletion=models,
        ),
    ] = None,
    weights: Weights = None,
    of_network: Network = None,
    ema: Ema = False,
    pretrained: Pretrained = False,
    *,
    stated: PreprocessingOptions,
    classes: Annotated[
        int | None, typer.Option(min=1, help="Number of classes. Default: the images' own.", show_default=False)
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(help="An embedded recipe (`squeezeedge recipes`) or a .toml file.", autocompletion=recipes),
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

    NETWORK is what is trained, a name or a checkpoint; the recipe says how. With --qat no layer is new: the weights are
    those of a network for these classes.
    """
    from dataclasses import replace

    from squeezeedge.cli.output import note
    from squeezeedge.networks.registry import download
    from squeezeedge.training.distributed import join_world
    from squeezeedge.training.recipe import load_recipe
    from squeezeedge.training.start import check_folder, trained_weights

    network, weights = _trained(network, weights, pretrained, resume, of_network)
    plan = load_recipe(recipe, changes or ())
    if plan.start != "trained":
        raise UsageError(f"{recipe}: starts from random weights; use `squeezeedge train`, or --set start=trained")
    plan = replace(plan, network=network)
    check_folder(out, resume)
    if pretrained and not resume:
        weights = download(network)
    given = stated.statement()
    if resume and given.stated():
        raise UsageError(f"{next(iter(given.sources.values()))}: a run goes on with the weights that it has")
    with join_world(check_device(device)) as world:
        trained = None
        if not (resume or qat or weights is None):
            tell = note if world.leads else lambda text: None
            trained = trained_weights(network, weights, plan.input.preprocessing, given, tell, ema=ema)
        run_training(
            plan,
            data,
            out,
            world,
            json=json,
            test_data=test_data,
            classes=classes,
            trained=trained,
            resume=resume,
            workers=workers,
            **(integer_form(plan, weights, out, world, resume, given, ema=ema) if qat else {}),
        )


def _trained(
    network: str | None, weights: Path | None, pretrained: bool, resume: bool, of_network: str | None
) -> tuple[str, Path | None]:
    """The network's name, and the file with its weights where one is given.

    Raises:
        UsageError: there is no such network or file, or what is given does not go together.
        SqueezeEdgeError: the file is damaged, or of none of the networks.
    """
    from squeezeedge.cli.output import note
    from squeezeedge.networks.endings import CHECKPOINTS, ending_of
    from squeezeedge.networks.registry import NETWORKS, ambiguous
    from squeezeedge.training.start import networks_in

    if weights is not None and pretrained:
        raise UsageError("--weights and --pretrained exclude each other")
    if network is None and weights is None:
        raise UsageError("fine-tuning needs a network; give its name (`squeezeedge models`) or a checkpoint")
    if of_network is not None and of_network not in NETWORKS:
        raise UsageError(f"{of_network}: no such network{did_you_mean(of_network, NETWORKS)}")
    if network is not None and network in NETWORKS:
        if of_network not in (None, network):
            raise UsageError(f"--network {of_network} contradicts {network}")
        if weights is None and not pretrained and not resume:
            raise UsageError("fine-tuning needs trained weights; give --weights FILE or --pretrained")
        return network, weights
    if network is not None:
        path = Path(network)
        if ending_of(path) not in CHECKPOINTS:
            known = ", ".join(NETWORKS)
            raise UsageError(
                f"{network}: no such network{did_you_mean(network, NETWORKS)}, and no checkpoint "
                f"({' '.join(CHECKPOINTS)}); the networks are: {known}"
            )
        if pretrained or weights not in (None, path):
            raise UsageError(
                f"--{'pretrained' if pretrained else 'weights'} goes with a network's name, not with {network}"
            )
        weights = path
    assert weights is not None
    if not weights.is_file():
        raise UsageError(f"{weights}: no such file")
    if of_network is not None:
        return of_network, weights
    fitting = networks_in(weights)
    if len(fitting) > 1:
        note(ambiguous(weights, fitting, fitting[0]))
    return fitting[0], weights


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("finetune")(expanded(finetune_command))
