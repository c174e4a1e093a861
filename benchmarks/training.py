"""Images learned per second beside a plain loop: the same network, images and optimizer.

    python -m benchmarks.training --recipe cifar10-finetune-hour --data IMAGES -o FILE.json

The plain loop decodes with Pillow, one image after the other, and learns in float32 without varying any image. The
others are `squeezeedge train` in float32 and with the recipe's precision, without and with worker processes; they vary
the images as the recipe says. Each loop runs in a process of its own, because `train` changes the allocator's settings
for the whole process. The loops take turns, and the median counts. Prints a table and writes a JSON file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.nn import functional
from torch.optim import SGD

from benchmarks.report import note, print_table, write_report
from squeezeedge.calib.datasets import Dataset, open_dataset
from squeezeedge.calib.decode import decode
from squeezeedge.evaluation.tables import number
from squeezeedge.networks.registry import build
from squeezeedge.training.data import TrainingImages, batch_workers, batches
from squeezeedge.training.distributed import World
from squeezeedge.training.memory import keep_freed_memory
from squeezeedge.training.recipe import Recipe, load_recipe
from squeezeedge.training.train import Trainer


def main() -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", required=True, help="as in `squeezeedge recipes`")
    parser.add_argument("--data", required=True, help="labelled images")
    parser.add_argument("--images", type=int, default=1024, help="so many of them")
    parser.add_argument("--size", type=int, help="height and width in pixels, if not the recipe's")
    parser.add_argument("--steps", type=int, default=4, help="steps a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON file")
    options = parser.parse_args()

    recipe = load_recipe(options.recipe)
    size = options.size or recipe.input.size
    recipe = replace(recipe, input=replace(recipe.input, size=size, resize=0, first_size=0))
    dataset = _part(open_dataset(options.data, "train"), options.images)
    single = replace(recipe, precision="float32")
    loops: dict[str, tuple[Recipe, int | None]] = {
        "plain loop, float32": (recipe, None),
        "float32": (single, 0),
        recipe.precision: (recipe, 0),
        f"{recipe.precision}, {options.workers} workers": (recipe, options.workers),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    with ExitStack() as stack:
        spawn = get_context("spawn")
        processes = {
            name: stack.enter_context(ProcessPoolExecutor(1, spawn, _start, (options.threads, *arguments, dataset)))
            for name, arguments in loops.items()
        }
        for process in processes.values():
            process.submit(_measure, 2).result()  # workers start, memory is allocated
        for _ in range(options.rounds):
            for name, process in processes.items():
                seconds[name].append(process.submit(_measure, options.steps).result())
    speeds = {name: 1 / median(values) for name, values in seconds.items()}
    first = speeds["plain loop, float32"]
    rows = [[name, number(speed, 0), number(speed / first)] for name, speed in speeds.items()]
    print_table(f"{recipe.network} at {size}, batch {recipe.batch_size}", ["", "images/s", "ratio"], rows)
    write_report(
        options.out,
        "training",
        recipe=recipe.to_json(),
        threads=options.threads,
        images_per_s=speeds,
        ratio={name: speed / first for name, speed in speeds.items()},
    )
    note(f"written: {options.out}")


_loop: Iterator[int]
"""Of the process that :func:`_start` made ready."""


def _start(threads: int, recipe: Recipe, workers: int | None, dataset: Dataset) -> None:
    """Make a process ready to learn; ``None`` workers: by the plain loop."""
    global _loop
    torch.set_num_threads(threads)
    if workers is None:
        _loop = _plain(recipe, dataset)
        return
    keep_freed_memory()
    _loop = _ours(recipe, dataset, workers)


def _measure(steps: int) -> float:
    """Seconds an image."""
    start = time.perf_counter()
    images = sum(islice(_loop, steps))
    return (time.perf_counter() - start) / images


def _part(dataset: Dataset, count: int) -> Dataset:
    """Some images, evenly taken."""
    assert dataset.labels is not None
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)
    return Dataset(dataset.name, [dataset.images[i] for i in chosen], dataset.labels[chosen], dataset.classes)


def _plain(recipe: Recipe, dataset: Dataset) -> Iterator[int]:
    """Learn without end; the number of images of each step."""
    assert dataset.labels is not None
    preprocessing = recipe.input.preprocessing
    module = build(recipe.network, len(dataset.classes)).train()
    optimizer = SGD(module.parameters(), 1e-3, momentum=recipe.optimizer.momentum)
    random = np.random.default_rng(0)
    while True:
        chosen = random.integers(len(dataset), size=recipe.batch_size)
        pixels = np.stack([decode(dataset.images[i], preprocessing) for i in chosen])
        answers = module(torch.from_numpy(preprocessing.normalize(pixels)))
        loss = functional.cross_entropy(answers, torch.from_numpy(dataset.labels[chosen]))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        yield len(chosen)


def _ours(recipe: Recipe, dataset: Dataset, workers: int) -> Iterator[int]:
    """Learn without end; the number of images of each step."""
    training = TrainingImages(dataset, recipe)
    trainer = Trainer(recipe, len(dataset.classes), World())
    epoch = 0
    with batch_workers(training, workers) as made_by:
        make = batches(training, World(), made_by)
        while True:
            for batch in make(epoch, 0):
                trainer.step(batch, 0.01)
                yield batch.total
            epoch += 1


if __name__ == "__main__":
    main()
