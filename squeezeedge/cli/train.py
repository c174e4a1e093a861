"""``squeezeedge train``: train a network by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from squeezeedge.cli.options import Json
from squeezeedge.errors import UsageError

__all__ = ["register", "train_command"]


def train_command(
    recipe: Annotated[str, typer.Option(help="An embedded recipe (`digits`) or a .toml file.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", help=".safetensors file to write.", show_default=False)],
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Instead of the recipe's number.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the recipe's seed.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Train a network from random weights and measure its fp32 accuracy on the test images."""
    import math
    from dataclasses import replace

    import numpy as np

    from squeezeedge.calib.datasets import check_labels, open_dataset
    from squeezeedge.calib.preprocess import PRESETS
    from squeezeedge.cli.output import emit_json, emit_table, note, number, progress
    from squeezeedge.parity.metrics import topk_accuracy
    from squeezeedge.training.checkpoint import write_checkpoint
    from squeezeedge.training.recipe import load_recipe
    from squeezeedge.training.train import train
    from squeezeedge.training.validate import logits

    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: the ending must be .safetensors, which is what is written")
    if out.exists():
        raise UsageError(f"{out}: exists already; choose another file with -o or remove it")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"{out}: its folder does not exist")
    plan = load_recipe(recipe)
    plan = replace(plan, epochs=epochs or plan.epochs, seed=plan.seed if seed is None else seed)
    preprocessing = PRESETS[plan.preprocessing]
    learned, tested = open_dataset(plan.dataset, "train"), open_dataset(plan.dataset, "test")
    if learned.labels is None or tested.labels is None:
        raise UsageError(f"{plan.dataset}: has no labels (class = subfolder) to learn from")
    classes = len(learned.classes)
    check_labels(tested, classes)
    with progress("decode", len(learned)) as advance:
        images = learned.load(preprocessing, np.arange(len(learned)), on_progress=advance)
    note(f"training {plan.network} on {len(images)} images of {learned.name}")
    with progress("train", plan.epochs * math.ceil(len(images) / plan.batch_size)) as advance:
        module = train(plan, images, learned.labels, classes, lambda loss: advance(1, f"loss {loss:.3f}"))
    write_checkpoint(out, module, plan, learned.classes)
    batches = tested.batches(preprocessing, plan.batch_size, np.arange(len(tested)))
    answers = np.concatenate([logits(module, batch, preprocessing) for batch in batches])
    top1, top5 = (topk_accuracy(answers, tested.labels, k) for k in (1, 5))
    size = out.stat().st_size
    if json:
        result = {"model": plan.network, "file": str(out), "bytes": size, "epochs": plan.epochs, "seed": plan.seed}
        emit_json(result | {"images": len(tested), "fp32_top1": top1, "fp32_top5": top5})
    else:
        columns = ["model", "epochs", "seed", "test images", "top-1 %", "top-5 %", "MB"]
        counts = [str(plan.epochs), str(plan.seed), str(len(tested))]
        row = [plan.network, *counts, number(top1), number(top5), number(size / 1e6)]
        emit_table(f"{out}: fp32 on {tested.name}", columns, [row])


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train_command)
