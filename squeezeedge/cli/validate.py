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
    """Measure the fp32 accuracy of a model on labelled images."""
    import time

    import numpy as np

    from squeezeedge.cli.output import emit_json, emit_table, number, progress
    from squeezeedge.cli.pipeline import DataOptions, evaluation_images
    from squeezeedge.cli.source import load_source
    from squeezeedge.parity.metrics import topk_accuracy

    source = load_source(model, weights, pretrained, size)
    if source.float_logits is None:
        raise UsageError(f"{model}: an integer graph has no fp32 accuracy; use `squeezeedge eval`")
    images = evaluation_images(source, DataOptions(data=data, classes=classes, limit=limit, seed=seed), None)
    if images.labels is None:
        raise UsageError(f"{images.dataset.name}: has no labels (class = subfolder) to measure accuracy with")
    logits = []
    start = time.perf_counter()
    with progress("validate", len(images.indices)) as advance:
        for batch in images.batches(source.preprocessing):
            logits.append(source.float_logits(batch))
            advance(len(batch))
    seconds = time.perf_counter() - start
    top1, top5 = (topk_accuracy(np.concatenate(logits), images.labels, k) for k in (1, 5))
    count = len(images.indices)
    if json:
        result = {"model": source.name, "images": count, "fp32_top1": top1, "fp32_top5": top5}
        emit_json(result | {"images_per_s": count / seconds})
    else:
        row = [source.name, str(count), number(top1), number(top5), number(count / seconds, 0)]
        columns = ["model", "images", "top-1 %", "top-5 %", "images/s"]
        emit_table(f"fp32 on {images.dataset.name}", columns, [row])


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("validate")(validate_command)
