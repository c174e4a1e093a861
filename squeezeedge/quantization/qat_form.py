"""Training of the integer network in place of the float one (``--qat``)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch.nn import Module

from squeezeedge.calib.fingerprint import fingerprints
from squeezeedge.calib.selection import calibration_images
from squeezeedge.calib.sources import ImageSource
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.graph.float.graph import FloatGraph
from squeezeedge.graph.sqe import GOLDEN_IMAGES, Record, read_recorded, write_sqe
from squeezeedge.quantization.pipeline import quantize
from squeezeedge.quantization.qat import QatNetwork
from squeezeedge.training.distributed import World
from squeezeedge.training.recipe import Recipe
from squeezeedge.training.start import START
from squeezeedge.training.train import Form

__all__ = ["new_form", "resumed_form"]

CALIBRATION_IMAGES = 64


def resumed_form(recipe: Recipe, out: Path) -> Form:
    """Go on with the run in a folder.

    Args:
        recipe: of the run.
        out: folder of the run.

    Raises:
        UsageError: the run is not one of an integer network with this recipe.
        SqueezeEdgeError: a file is damaged.
    """
    start = out / START
    if not start.is_file():
        raise UsageError(f"{start}: no such file, so the run in {out} is not one with `qat`; leave out `qat`")
    graph, record = read_recorded(start)
    if graph.preprocessing != recipe.input.preprocessing:
        raise UsageError(f"{start}: was quantized for another input than the recipe's; give the run's own recipe")
    return Form(QatNetwork(graph), ".sqe", partial(_write, record))


def new_form(
    recipe: Recipe,
    floating: FloatGraph,
    images: ImageSource,
    classes: tuple[str, ...],
    out: Path,
    world: World,
    on_remark: Callable[[str], None] = lambda text: None,
) -> Form:
    """Quantize a trained network on some of the images to learn, and train on from there.

    Args:
        recipe: what will be done.
        floating: the trained network, of the recipe's input size.
        images: to learn.
        classes: their names.
        out: folder of the run; the quantized network is written there.
        world: the processes that share the work; each quantizes, the result is the same.
        on_remark: called with what people should know of the quantization.

    Raises:
        UnsupportedError: the network cannot be quantized; the text names the layer.
        SqueezeEdgeError: the network has other classes, an image is damaged, or a file cannot be written.
    """
    trained = floating.shapes[floating.nodes[-1].name].channels
    if trained != len(classes):
        raise SqueezeEdgeError(
            f"{floating.name}: has {trained} classes, the images have {len(classes)}; `qat` trains no new layer, so "
            "fine-tune without it first"
        )
    preprocessing = recipe.input.preprocessing
    pixels = calibration_images(images, count=CALIBRATION_IMAGES, seed=recipe.seed).load(preprocessing)
    graph = quantize(floating, preprocessing, pixels, name=recipe.network, labels=classes, on_remark=on_remark)
    network = QatNetwork(graph, floating)
    record = Record({"network": recipe.network}, frozenset(fingerprints(pixels)), pixels[:GOLDEN_IMAGES])
    if world.leads:
        try:
            out.mkdir(exist_ok=True)
        except OSError as error:
            raise SqueezeEdgeError(f"{out}: cannot be written: {error.strerror or error}") from error
        write_sqe(network.integer_graph(), out / START, record)
    return Form(network, ".sqe", partial(_write, record))


def _write(record: Record | None, path: Path, module: Module) -> None:
    assert isinstance(module, QatNetwork)
    write_sqe(module.integer_graph(), path, record)
