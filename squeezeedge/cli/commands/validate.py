"""``squeezeedge validate``: fp32 accuracy of a checkpoint on labelled images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from squeezeedge.cli.groups import expanded
from squeezeedge.cli.model_options import ModelOptions, preprocessing_json, suspicion_json, tell_assumption, warn
from squeezeedge.cli.options import Classes, Data, Json, Limit, Model, Seed, Strict
from squeezeedge.errors import UsageError, counted

if TYPE_CHECKING:
    from squeezeedge.calib.selection import Selection
    from squeezeedge.cli.quantizing import DataOptions
    from squeezeedge.model import Model as LoadedModel

__all__ = ["register", "validate_command"]

TRIED = 256
"""Images at most that the network of a checkpoint is chosen by."""


def validate_command(
    model: Model = None,
    *,
    source: ModelOptions,
    data: Data = None,
    classes: Classes = None,
    limit: Limit = None,
    seed: Seed = 0,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Measure the fp32 accuracy of a model on labelled images; under `torchrun`, in several processes."""
    import time

    from squeezeedge.calib.selection import Selection
    from squeezeedge.calib.unreadable import remark as remark_on
    from squeezeedge.cli.output import emit_json, emit_table, note
    from squeezeedge.cli.quantizing import DataOptions
    from squeezeedge.cli.training import lead_progress
    from squeezeedge.evaluation.metrics import wilson_interval
    from squeezeedge.evaluation.reports import FIVE
    from squeezeedge.evaluation.tables import interval, number
    from squeezeedge.loading import choose_network
    from squeezeedge.model import suspicion_of
    from squeezeedge.training.distributed import join_world
    from squeezeedge.training.validate import measure
    from squeezeedge.trial import is_low

    loaded = source.load(model, tell=False)
    if loaded.float_logits is None:
        raise UsageError(f"{model}: an integer graph has no fp32 accuracy; use `squeezeedge eval`")
    given = DataOptions(data=data, classes=classes, limit=limit, seed=seed, strict=strict)
    tried = _tried(given, loaded) if loaded.alternatives else None
    if tried is not None:
        loaded = choose_network(loaded, tried)
    assert loaded.float_logits is not None
    images = given.evaluation(loaded, tried)
    if images.labels is None:
        why = "".join(f"; {remark}" for remark in images.remarks)
        raise UsageError(f"{images.dataset.name}: has no labels (class = subfolder) to measure accuracy with{why}")
    unreadable = images.watch(strict=strict)
    with join_world("cpu") as world:
        if world.leads:
            tell_assumption(loaded)
            for remark in loaded.remarks:
                note(remark)
            if tried is not None:
                served = f"{counted(len(tried), 'image')} of {len(tried.dataset)} served to choose the network"
                note(
                    f"{tried.dataset.name}: {served} and {'is' if len(tried) == 1 else 'are'} left out; {len(images)} "
                    "others are validated on (`network` says which one it is, then none is left out)"
                )
            for remark in images.remarks:
                note(remark)
            note(f"validating {loaded.name} on {counted(len(images), 'image')} of {images.dataset.name}")
        start = time.perf_counter()
        with lead_progress(world, "validate", -(-len(images.indices) // world.size)) as advance:
            score = measure(
                loaded.float_logits,
                lambda mine: Selection(images.dataset, images.indices[mine]).batches(
                    loaded.preprocessing, on_unreadable=unreadable
                ),
                images.labels,
                world,
                on_progress=advance,
                unreadable=unreadable,
            )
        if unreadable.errors:  # each process tells of its share
            note(f"warning: {remark_on(images.dataset.name, unreadable.errors, len(images))}")
        speed = score.images / (time.perf_counter() - start)
        if not world.leads:
            return
    right = round(score.top1 * score.images / 100)
    read = images.without(unreadable, len(images) - len(unreadable.errors)) if world.size == 1 else images
    suspicion = suspicion_of(loaded, read) if is_low(right, score.images, loaded.classes) else None
    warn(suspicion)
    ends = wilson_interval(right, score.images)
    if json:
        result = {"model": loaded.name, "images": score.images, "unreadable": len(images) - score.images}
        result |= {"fp32_top1": score.top1, "fp32_top1_interval": ends, "fp32_top5": score.top5}
        about = {"preprocessing": preprocessing_json(loaded), "suspicion": suspicion_json(suspicion)}
        emit_json(result | {"images_per_s": speed} | about)
    else:
        top5 = number(score.top5 if loaded.classes > FIVE else None)
        row = [loaded.name, str(score.images), number(score.top1), interval(ends), top5, number(speed, 0)]
        columns = ["model", "images", "top-1 %", "95 % interval", "top-5 %", "images/s"]
        emit_table(f"fp32 on {images.dataset.name}", columns, [row])


def _tried(given: DataOptions, model: LoadedModel) -> Selection:
    """Images to choose the network of a checkpoint by, which are not validated on: of the data at most half."""
    from dataclasses import replace

    images = replace(given, calib_images=TRIED).calibration(model)
    return images if 2 * len(images) <= len(images.dataset) else replace(images, indices=images.indices[::2])


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("validate")(expanded(validate_command))
