"""What the commands share between reading their arguments and printing: data, calibration, quantization."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.datasets import Dataset, calibration_split, check_labels, open_dataset
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.cli.output import note, progress
from squeezeedge.cli.source import Source
from squeezeedge.errors import UsageError
from squeezeedge.graph import IntegerGraph
from squeezeedge.networks.registry import NETWORKS

__all__ = ["DataOptions", "Images", "calibration_images", "default_data", "evaluation_images", "to_integer"]

BATCH = 64


@dataclass(frozen=True)
class DataOptions:
    """The data options of the command line, as given.

    Attributes:
        data: images to evaluate on.
        calib: images to calibrate on.
        classes: class list.
        calib_images: how many to calibrate on.
        limit: most images to evaluate on.
        seed: of every random choice.
    """

    data: str | None = None
    calib: str | None = None
    classes: Path | None = None
    calib_images: int = 64
    limit: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Images:
    """Some images of a data set.

    Attributes:
        dataset: where they are.
        indices: int64 [n], which.
    """

    dataset: Dataset
    indices: NDArray[np.int64]

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """int64 [n], or ``None`` if unlabelled."""
        return None if self.dataset.labels is None else self.dataset.labels[self.indices]

    def load(self, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """All of them: uint8 [n, H, W, 3]."""
        with progress("decode", len(self.indices)) as advance:
            return self.dataset.load(preprocessing, self.indices, on_progress=advance)

    def batches(self, preprocessing: Preprocessing) -> Iterator[NDArray[np.uint8]]:
        """Bounded batches: uint8 [b, H, W, 3]."""
        return self.dataset.batches(preprocessing, BATCH, self.indices)


def default_data(source: Source) -> str | None:
    """The data set that a network was trained on, where that is embedded."""
    spec = NETWORKS.get(source.name)
    return spec.dataset if spec is not None else None


def calibration_images(source: Source, options: DataOptions) -> Images:
    """The images to calibrate on: some of ``--calib``, else of ``--data``, else of the embedded data set.

    Data that comes in parts is calibrated on its part "calib" or "train".

    Raises:
        UsageError: none of them is known.
    """
    spec = options.calib or options.data or default_data(source)
    if spec is None:
        raise UsageError(f"{source.name}: calibration images are needed: give --calib (or --data)")
    try:
        dataset = open_dataset(spec, "calib", options.classes)
    except UsageError:  # it has no such part
        dataset = open_dataset(spec, None, options.classes)
    chosen, _ = calibration_split(len(dataset), min(options.calib_images, len(dataset)), options.seed)
    return Images(dataset, chosen)


def evaluation_images(source: Source, options: DataOptions, calibrated_on: Images | None) -> Images:
    """The images to evaluate on: ``--data`` (or the embedded data set), of data in parts the test part.

    None of the images calibrated on is among them, unless ``--calib`` names these.

    Raises:
        UsageError: no data set is known, or no image is left.
        SqueezeEdgeError: its labels do not fit the network's classes.
    """
    spec = options.data or default_data(source)
    if spec is None:
        raise UsageError(f"{source.name}: images to evaluate on are needed: give --data")
    dataset = open_dataset(spec, "test" if spec == default_data(source) else None, options.classes)
    check_labels(dataset, source.classes)
    indices = np.arange(len(dataset))
    if calibrated_on is not None and options.calib is None and _same_images(calibrated_on.dataset, dataset):
        indices = np.setdiff1d(indices, calibrated_on.indices)
        if not len(indices):
            raise UsageError(
                f"{spec}: has {len(dataset)} images and --calib-images is {options.calib_images}: none is left to "
                "evaluate on; give --calib or fewer --calib-images"
            )
    if options.limit is not None and options.limit < len(indices):
        indices = indices[calibration_split(len(indices), options.limit, options.seed)[0]]
    return Images(dataset, indices)


def _same_images(first: Dataset, second: Dataset) -> bool:
    return len(first) == len(second) and bool(np.all(np.asarray(first.images) == np.asarray(second.images)))


def to_integer(source: Source, options: DataOptions) -> tuple[IntegerGraph, Images | None]:
    """The integer graph of a source, quantized if it is not one already.

    Returns:
        The graph, and the images that it was calibrated on (``None`` for an .sqe).
    """
    if source.integer is not None:
        return source.integer, None
    from squeezeedge.quantization.pipeline import quantize

    assert source.floating is not None
    images = calibration_images(source, options)
    pixels = images.load(source.preprocessing)
    note(f"quantizing {source.name} on {len(pixels)} images of {images.dataset.name}")
    with progress("quantize", None) as advance:

        def on_layer(name: str, index: int, total: int) -> None:
            advance(1, f"{name} ({index + 1} of {total})")

        graph = quantize(
            source.floating, source.preprocessing, pixels, name=source.name, labels=source.labels, on_layer=on_layer
        )
    return graph, images
