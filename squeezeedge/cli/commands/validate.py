"""``squeezeedge validate``: fp32 accuracy of a checkpoint on labelled images."""

from __future__ import annotations

import typer

from squeezeedge.cli.options import Classes, Data, Json, Limit, Model, Pretrained, Seed, Size, Weights
from squeezeedge.errors import UsageError

__all__ = ["register", "validate_command"]


def validate_command(
    model: Model = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    size: Size = None,
    data: Data = None,
    classes: Classes = None,
    limit: Limit = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Measure the fp32 accuracy of a model on labelled images; under `torchrun`, in several processes."""
    import time

    from squeezeedge.calib.selection import Selection
    from squeezeedge.cli.output import emit_json, emit_table, note
    from squeezeedge.cli.quantizing import DataOptions
    from squeezeedge.cli.training import lead_progress
    from squeezeedge.evaluation.reports import number
    from squeezeedge.model import load
    from squeezeedge.training.distributed import join_world
    from squeezeedge.training.validate import measure

    network = load(model, weights, pretrained=pretrained, size=size)
    if network.float_logits is None:
        raise UsageError(f"{model}: an integer graph has no fp32 accuracy; use `squeezeedge eval`")
    images = DataOptions(data=data, classes=classes, limit=limit, seed=seed).evaluation(network)
    if images.labels is None:
        raise UsageError(f"{images.dataset.name}: has no labels (class = subfolder) to measure accuracy with")
    with join_world("cpu") as world:
        if world.leads:
            for remark in images.remarks:
                note(remark)
        start = time.perf_counter()
        with lead_progress(world, "validate", -(-len(images.indices) // world.size)) as advance:
            score = measure(
                network.float_logits,
                lambda mine: Selection(images.dataset, images.indices[mine]).batches(network.preprocessing),
                images.labels,
                world,
                on_progress=advance,
            )
        speed = score.images / (time.perf_counter() - start)
        if not world.leads:
            return
    if json:
        result = {"model": network.name, "images": score.images, "fp32_top1": score.top1, "fp32_top5": score.top5}
        emit_json(result | {"images_per_s": speed})
    else:
        row = [network.name, str(score.images), number(score.top1), number(score.top5), number(speed, 0)]
        columns = ["model", "images", "top-1 %", "top-5 %", "images/s"]
        emit_table(f"fp32 on {images.dataset.name}", columns, [row])


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("validate")(validate_command)
