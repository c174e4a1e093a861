"""``--qat``: the integer network that a run trains in place of the float one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from squeezeedge.errors import SqueezeEdgeError, UsageError

if TYPE_CHECKING:
    from torch.nn import Module

    from squeezeedge.calib.datasets import Dataset
    from squeezeedge.quantization.qat import QatNetwork
    from squeezeedge.training.distributed import World
    from squeezeedge.training.recipe import Recipe
    from squeezeedge.training.train import Form

__all__ = ["START", "qat_form"]

START = "start.sqe"
"""The network as it was quantized, before training: scales, shifts and zero points stay as they are there."""

CALIBRATION_IMAGES = 64


def qat_form(
    recipe: Recipe, weights: Path | None, learned: Dataset, classes: tuple[str, ...], out: Path, world: World
) -> Form:
    """Quantize a trained network as ``squeezeedge quantize`` does, on some of the images to learn.

    Args:
        recipe: what will be done.
        weights: checkpoint of the recipe's network; ``None``: go on with the run in ``out``.
        learned: images to learn.
        classes: their classes.
        out: folder of the run; the quantized network is written there.
        world: the processes that share the work; each quantizes, the result is the same.

    Raises:
        UsageError: the weights are an integer graph, or the run in ``out`` is not one with ``--qat`` and this recipe.
        UnsupportedError: the network cannot be quantized; the text names the layer.
        SqueezeEdgeError: a file is damaged or cannot be written, or the network has other classes.
    """
    from squeezeedge.cli.output import note
    from squeezeedge.graph.sqe import read_sqe, write_sqe
    from squeezeedge.quantization.qat import QatNetwork
    from squeezeedge.training.train import Form

    def write(path: Path, module: Module) -> None:
        assert isinstance(module, QatNetwork)
        write_sqe(module.integer_graph(), path)

    start = out / START
    if weights is None:
        if not start.is_file():
            raise UsageError(f"{start}: no such file, so the run in {out} is not one with --qat; leave out --qat")
        graph = read_sqe(start)
        if graph.preprocessing != recipe.input.preprocessing:
            raise UsageError(f"{start}: was quantized for another input than the recipe's; give the run's own recipe")
        return Form(QatNetwork(graph), ".sqe", write)
    if world.leads:
        note(f"quantizing {recipe.network} with the weights of {weights}")
    network = _quantized(recipe, weights, learned, classes)
    if world.leads:
        try:
            out.mkdir(exist_ok=True)
        except OSError as error:
            raise SqueezeEdgeError(f"{out}: cannot be written: {error.strerror or error}") from error
        write_sqe(network.integer_graph(), start)
    return Form(network, ".sqe", write)


def _quantized(recipe: Recipe, weights: Path, learned: Dataset, classes: tuple[str, ...]) -> QatNetwork:
    from squeezeedge.calib.datasets import calibration_split
    from squeezeedge.cli.source import load_source
    from squeezeedge.quantization.pipeline import quantize
    from squeezeedge.quantization.qat import QatNetwork

    if weights.suffix == ".sqe":
        raise UsageError(f"{weights}: is an integer graph; --qat starts from the float weights that it was made from")
    preprocessing = recipe.input.preprocessing
    source = load_source(recipe.network, weights, size=recipe.input.size)
    if source.classes != len(classes):
        raise SqueezeEdgeError(
            f"{weights}: has {source.classes} classes, the images have {len(classes)}; --qat trains no new layer, so "
            "fine-tune without it first"
        )
    assert source.floating is not None
    chosen, _ = calibration_split(len(learned), min(CALIBRATION_IMAGES, len(learned)), recipe.seed)
    pixels = learned.load(preprocessing, chosen)
    graph = quantize(source.floating, preprocessing, pixels, name=recipe.network, labels=classes)
    return QatNetwork(graph, source.floating)
