"""A network -> an integer graph whose file is small: of at most a given size, or with at most a given drop.

First the price of a bit is searched for (:mod:`squeezeedge.compression.search`): part of the calibration images
calibrates and the rest judges. Then the graph is made once more at the price found, with all images.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from squeezeedge.calib.fingerprint import fingerprints
from squeezeedge.calib.selection import Selection, calibration_images, evaluation_images
from squeezeedge.calib.sources import ImageSource
from squeezeedge.compression.finetune import Finetuning, Lesson, finetune, more_images
from squeezeedge.compression.importance import weight_gradients
from squeezeedge.compression.judge import Judge, graph_logits
from squeezeedge.compression.rounding import RateRounding
from squeezeedge.compression.search import BEST, NEAR, WORST, Point, found, price_of_bit
from squeezeedge.errors import SqueezeEdgeError, UsageError, check_path, check_whole, counted
from squeezeedge.files import scratch_folder
from squeezeedge.graph import IntegerGraph
from squeezeedge.loading import choose_network, load
from squeezeedge.model import GOLDEN_IMAGES, Model, suspicion_of
from squeezeedge.networks.registry import NETWORKS, default_weights
from squeezeedge.quantization import pipeline
from squeezeedge.quantization.evidence import evidence
from squeezeedge.quantization.gptq import Rounding
from squeezeedge.quantization.passes import folded_graph

__all__ = ["Compression", "check_float", "check_goal", "compress", "file_bytes"]

JUDGED = 4
"""One image in this many judges."""
DECIBELS_PER_BIT = 6.02
"""What one more bit for every weight gains."""
ROOM = 0.005
"""Share of the size that is left to fine-tuning."""
ATTEMPTS = 5
"""How often the size is tried with all images."""
LESS = 0.15
"""Decibels by which the quality is lowered each time."""
TAKEN = 0.8
"""The first attempt uses this share of the decibels that the size leaves to spare."""
LEAST_DROP = 0.05
"""Points below which a drop is as good as none."""


@dataclass(frozen=True, eq=False)
class Compression:
    """What was made.

    Attributes:
        model: with the compressed integer graph.
        uncompressed: the graph without compression, judged beside itself.
        result: the compressed graph, with its bytes and quality. Its agreement and drop were measured on the graph that
            was made at about that quality without the judged images.
        curve: all points that were judged, by size.
        finetuning: what fine-tuning did, or ``None``; the points are from before it, except for the result's bytes.
    """

    model: Model
    uncompressed: Point
    result: Point
    curve: tuple[Point, ...]
    finetuning: Finetuning | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "uncompressed": self.uncompressed.to_json(),
            "result": self.result.to_json(),
            "curve": [point.to_json() for point in self.curve],
            "finetuning": None if self.finetuning is None else self.finetuning.to_json(),
        }


def compress(
    model: Model | str | os.PathLike[str],
    images: ImageSource | Selection | None = None,
    *,
    target_size: int | None = None,
    max_drop: float | None = None,
    epochs: int = 0,
    count: int = 64,
    seed: int = 0,
    classes: Path | None = None,
    strict: bool = False,
    on_decode: Callable[[int], None] = lambda done: None,
    on_phase: Callable[[str], None] = lambda text: None,
    on_step: Callable[[str, int, int], None] = lambda name, index, total: None,
) -> Compression:
    """Quantize a network to an integer graph whose file is small.

    Args:
        model: a network with its float graph, or what :func:`squeezeedge.load` takes.
        images: to calibrate on and to judge by, as for :func:`squeezeedge.quantize`.
        target_size: bytes that the file may have.
        max_drop: points by which agreement with the uncompressed integer graph, and accuracy where there are labels,
            may be lower. One of both is given.
        epochs: of fine-tuning (:mod:`squeezeedge.compression.finetune`) on the images beside those to calibrate on, of
            which a quarter judges whether it helped; 0: none.
        count: how many images.
        seed: of their choice.
        classes: class list of the data.
        strict: an image that cannot be read is an error.
        on_decode: called with the number of images decoded since the last call.
        on_phase: called with what is done next, one line.
        on_step: called with (name, index, total) before each step of what is done: a layer, or an image.

    Raises:
        UsageError: both or neither goal, the model has no float graph, or there are too few images.
        SqueezeEdgeError: the goal cannot be met; the text says what was reached. Also as :func:`squeezeedge.quantize`.
    """
    check_goal(target_size, max_drop)
    check_whole("epochs", epochs, 0)
    check_whole("count", count, 2)
    check_whole("seed", seed, 0)
    if not isinstance(model, Model):
        check_path("model", model)
        model = load(model)
    check_float(model, model.name)
    if (images := model.dataset if images is None else images) is None:
        raise UsageError(f"{model.name}: calibration images are needed: give some")
    chosen = calibration_images(images, count=count, seed=seed, classes=classes)
    model = choose_network(model, chosen)
    chosen, pixels = chosen.readable(model.preprocessing, on_decode, strict=strict)
    if len(pixels) < 2:
        raise UsageError(f"{chosen.dataset.name}: {counted(len(pixels), 'image')} cannot both calibrate and judge")
    if epochs:
        learned, judging = more_images(chosen)
    doubt = suspicion_of(model, chosen, pixels)
    remarks = [chosen.loss] if chosen.unreadable else []
    work = _Work(model, pixels, _labels(model, chosen), seed, on_phase, on_step, remarks.append)
    room = ROOM if epochs else 0
    uncompressed, result, points = work.run(target_size, max_drop, room)
    graph, tuned = work.graph, None
    if epochs and result.quality is not None:
        on_phase(f"fine-tuning on {counted(len(learned) + len(pixels), 'image')}; {len(judging)} others judge")
        lessons = [Lesson.of(model, part, on_decode, strict=strict) for part in (learned, judging)]
        graph, tuned = finetune(
            graph,
            lessons[0].joined(Lesson.answered(model, pixels)),
            lessons[1],
            work.bytes_of,
            int(result.bytes * (1 + room)) if target_size is None else target_size,
            epochs=epochs,
            seed=seed,
            on_step=on_step,
        )
        on_phase(str(tuned))
        result = replace(result, bytes=tuned.after.bytes if tuned.kept else result.bytes)
    return Compression(
        replace(
            model,
            integer=graph,
            calibration=chosen,
            calibrated_on=frozenset(fingerprints(pixels)),
            golden=pixels[:GOLDEN_IMAGES].copy(),
            remarks=(*model.remarks, *remarks),
            suspicion=doubt,
        ),
        uncompressed,
        result,
        tuple(sorted(points, key=lambda point: point.bytes)),
        tuned,
    )


def check_float(model: Model, name: str) -> None:
    """Raise UsageError for a model without its float weights; the text names what it was given as."""
    if model.floating is None:
        network, weights = str(model.origin.get("network")), model.origin.get("weights")
        if network in NETWORKS and NETWORKS[network].embedded and weights == default_weights().name:
            fix = f"give {network}, the embedded network that it was made of, in its place"
        elif weights:
            fix = f"give {weights}, the file that it was made of, in its place"
        else:
            fix = "give the file that it was made of in its place (it does not say which)"
        raise UsageError(f"{name}: is an integer graph, and compression starts from the float weights: {fix}")


class _Work:
    """The graphs of one network at several prices of a bit.

    Attributes:
        graph: the last one that was made.
    """

    graph: IntegerGraph

    def __init__(
        self,
        model: Model,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64] | None,
        seed: int,
        on_phase: Callable[[str], None],
        on_step: Callable[[str, int, int], None],
        on_remark: Callable[[str], None],
    ) -> None:
        self.model, self.pixels, self.labels = model, pixels, labels
        self.on_phase, self.on_step, self.on_remark = on_phase, on_step, on_remark
        self.seed = seed
        order = np.random.default_rng(seed).permutation(len(pixels))
        judged = max(1, len(pixels) // JUDGED)
        self.judged, self.calibrating = np.sort(order[:judged]), np.sort(order[judged:])

    def run(self, target_size: int | None, max_drop: float | None, room: float = 0) -> tuple[Point, Point, list[Point]]:
        """Make the graph; returns the uncompressed point, the result and the points that were judged.

        Args:
            target_size: as in :func:`compress`,
            max_drop: likewise.
            room: share of the size that is left free.
        """
        self.on_phase(f"quantizing without compression, on {counted(len(self.pixels), 'image')}")
        size = self._quantize(None, self.pixels, self.on_remark)
        known = graph_logits(self.graph, self.pixels)
        judge = Judge(self.pixels[self.judged], known[self.judged], known, self.labels)
        uncompressed = judge.point(self.graph, size, None)
        if target_size is not None and size <= target_size:
            return uncompressed, uncompressed, [uncompressed]
        floating, preprocessing = self.model.floating, self.model.preprocessing
        assert floating is not None
        self.on_phase("measuring how much each weight moves the logits")
        folded = folded_graph(floating, preprocessing)
        gradients = weight_gradients(folded, evidence(self.pixels).pixels, self.seed, self.on_step)
        weights = sum(conv.weight.size for conv in folded.convolutions)
        power = float(np.square(known, dtype=np.float64).sum(1).mean())
        importances: dict[str, Tensor] = {}

        def sized(quality: float, pixels: NDArray[np.uint8]) -> int:
            price = price_of_bit(quality, power, weights)
            return self._quantize(RateRounding(price, gradients, importances, folded.head.name), pixels)

        def walk(quality: float) -> Point:
            self.on_phase(
                f"quantizing for {quality:.1f} dB, on {counted(len(self.calibrating), 'image')}; the others judge"
            )
            size = sized(quality, self.pixels[self.calibrating])  # makes self.graph
            point = judge.point(self.graph, size, quality)
            self.on_phase(said(point))
            return point

        per_decibel = weights / 8 / DECIBELS_PER_BIT
        if target_size is not None:
            aim = int(target_size * (1 - room))
            points = found(walk, lambda point: (point.bytes - aim) / per_decibel, feasible_above=False)
            met = [point for point in points if point.bytes <= aim]
            best_bytes = max((point.bytes for point in met), default=aim)
            reserve = min(TAKEN * (aim - best_bytes) / per_decibel, NEAR)
        else:
            assert max_drop is not None
            points = found(walk, lambda point: _spare(point.drop, max_drop), feasible_above=True)
            met = [point for point in points if point.drop <= max_drop]
            reserve = 0.0
        points.sort(key=lambda point: point.bytes)
        if not met:
            raise SqueezeEdgeError(_unmet(target_size, max_drop, uncompressed, points))
        best = max(met, key=_quality) if target_size is not None else min(met, key=_quality)
        for attempt in range(ATTEMPTS):
            quality = min(_quality(best) + reserve - attempt * LESS, BEST)
            self.on_phase(f"quantizing for {quality:.1f} dB, on all {counted(len(self.pixels), 'image')}")
            size = sized(quality, self.pixels)
            if target_size is None or size <= aim:
                return uncompressed, replace(best, quality=quality, bytes=size), [*points, uncompressed]
            self.on_phase(f"{size:,} bytes, {size - aim:,} too many: once more, of a little less quality")
        raise SqueezeEdgeError(_unmet(target_size, max_drop, uncompressed, [replace(best, bytes=size)]))

    def _quantize(
        self, rounding: Rounding | None, pixels: NDArray[np.uint8], on_remark: Callable[[str], None] = lambda text: None
    ) -> int:
        """Make a graph and return the bytes of its file."""
        assert self.model.floating is not None
        self.graph = pipeline.quantize(
            self.model.floating,
            self.model.preprocessing,
            pixels,
            name=self.model.name,
            labels=self.model.labels,
            on_layer=self.on_step,
            on_remark=on_remark,
            rounding=rounding,
        )
        return self.bytes_of(self.graph)

    def bytes_of(self, graph: IntegerGraph) -> int:
        """Bytes of a graph's file."""
        seen, golden = frozenset(fingerprints(self.pixels)), self.pixels[:GOLDEN_IMAGES]
        return file_bytes(replace(self.model, integer=graph, calibrated_on=seen, golden=golden))


def file_bytes(model: Model) -> int:
    """Bytes of the file that a model's integer graph is saved in."""
    with scratch_folder() as folder:
        file = folder / "model.sqe"
        model.save(file)
        return file.stat().st_size


def said(point: Point) -> str:
    """One line on a point of the curve."""
    top1 = "" if point.top1_drop is None else f", top-1 {-point.top1_drop:+z.1f} points"
    return f"{point.bytes:,} bytes, {point.agreement:.1f} % of the uncompressed graph's class{top1}"


def check_goal(target_size: int | None, max_drop: float | None) -> None:
    """Raise UsageError unless one of both is given, as :func:`compress` takes them."""
    if (target_size is None) == (max_drop is None):
        raise UsageError("give either `target_size` or `max_drop`")
    if target_size is not None:
        check_whole("target_size", target_size, 1)
    elif not isinstance(max_drop, int | float) or isinstance(max_drop, bool) or not 0 <= max_drop <= 100:
        raise UsageError(f"`max_drop` is {max_drop!r}; it must be 0 to 100 points")


def _spare(drop: float, most: float) -> float:
    """Decibels by which errors may grow until the drop reaches ``most``, if it grows with their amplitude."""
    return 20 * math.log10(max(most, LEAST_DROP) / max(drop, LEAST_DROP)) + (0 if drop <= most else -NEAR)


def _quality(point: Point) -> float:
    return WORST if point.quality is None else point.quality


def _unmet(target_size: int | None, max_drop: float | None, uncompressed: Point, points: Sequence[Point]) -> str:
    if target_size is not None:
        least = min(points, key=lambda point: point.bytes)
        return (
            f"`target_size`: {target_size:,} bytes cannot be met; the smallest file of this network has "
            f"{least.bytes:,} bytes, at a drop of {least.drop:.1f} points: give more"
        )
    best = min(points, key=lambda point: point.drop)
    return (
        f"`max_drop`: {max_drop:g} points cannot be met; the best compressed file has {best.bytes:,} bytes at a drop "
        f"of {best.drop:.1f} points, the uncompressed one {uncompressed.bytes:,}: give more points or more images"
    )


def _labels(model: Model, images: Selection) -> NDArray[np.int64] | None:
    """The network's classes of the images, if they are known."""
    try:
        return evaluation_images(images, model.classes, model.labels).labels
    except SqueezeEdgeError:  # they are of other classes
        return None
