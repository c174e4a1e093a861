"""Compare two sides layer by layer: where devices first differ, or how far integers are from fp32.

All tensors are integers, so the answer is exact: the first layer and element that differ, the right value, and the side
at fault. To separate a side's own faults from those that it passes on, each layer of the oracle is run on that side's
own inputs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.artifact import Artifact, open_artifact
from squeezeedge.calib.selection import Selection, evaluation_images
from squeezeedge.calib.sources import ImageSource
from squeezeedge.errors import SqueezeEdgeError, UsageError, check_path, check_type, check_whole
from squeezeedge.evaluation.comparison import (
    Comparison,
    Element,
    ExactComparison,
    ExactLayer,
    FloatComparison,
    FloatLayer,
)
from squeezeedge.evaluation.sides import ORACLE, Side, Subject, integer_graph, is_name, open_sides
from squeezeedge.graph import IMAGE, IntegerGraph, rules
from squeezeedge.graph.oracle import apply, execute
from squeezeedge.loading import load
from squeezeedge.manifest import is_artifact
from squeezeedge.model import GOLDEN_IMAGES, Model

__all__ = ["IMAGES", "compare", "compare_sides"]

IMAGES = 8
"""How many images are compared unless another number is asked for."""

NOT_SHOWN = "it does not say why"


def compare(
    a: Artifact | Model | IntegerGraph | str | os.PathLike[str],
    b: Artifact | Model | IntegerGraph | str | os.PathLike[str] = ORACLE,
    data: ImageSource | Selection | None = None,
    *,
    device: str | Sequence[str] | None = None,
    board: str | None = None,
    timeout: float | None = None,
    weights: str | os.PathLike[str] | None = None,
    classes: Path | None = None,
    limit: int = IMAGES,
    seed: int = 0,
    strict: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Run images through two sides and compare every tensor that both show.

    A side is an artifact or its folder, which its device runs; a quantized model, an .sqe or an integer graph, which
    the oracle runs; ``"oracle"``; ``"fp32"``, the float network; ``"onnx"``, ONNX Runtime on the standard ONNX form; or
    the name of a device, which runs the other side's artifact, or its network compiled for it.

    Args:
        a: one side.
        b: the other.
        data: images in any form; ``None``: those with which the artifact checks itself.
        device: the device or devices that artifacts run on, where a target has several; ``None``: the hardware.
        board: ``user@host[:port]`` of the machine of the first device that can be on another one.
        timeout: seconds that the board may take for each answer.
        weights: the weight file that the network was made of, for fp32; ``None``: the embedded one.
        classes: class list of the data.
        limit: at most so many images, drawn by the seed.
        seed: of the choice.
        strict: an image that cannot be read is an error.
        on_progress: called with the number of images done, and of all.

    Returns:
        :class:`~squeezeedge.evaluation.comparison.FloatComparison` if one side is fp32, else
        :class:`~squeezeedge.evaluation.comparison.ExactComparison`; it prints as a table.

    Raises:
        UsageError: the sides are the same, of no network or of different ones, or there are no images.
        UnavailableError: a device or a tool is missing.
        GateError: a board's own check on the golden inputs failed.
        SqueezeEdgeError: a device fails, or a file is damaged.
    """
    check_whole("limit", limit, 1)
    check_whole("seed", seed, 0)
    for name, path in (("weights", weights), ("classes", classes)):
        if path is not None:
            check_path(name, path)
    check_type("device", device, (str, Sequence, type(None)), "a device's name, or several")
    devices = [device] if isinstance(device, str) else list(device or ())
    subjects = _subject("a", a), _subject("b", b)
    graph, source = integer_graph(*subjects)
    images, remarks = _images(graph, source, data, limit, seed, classes, strict)
    with ExitStack() as stack:
        sides = open_sides(
            stack,
            *subjects,
            devices=devices,
            board=board,
            timeout=timeout,
            weights=None if weights is None else Path(weights),
        )
        return compare_sides(graph, sides, images, remarks, on_progress)


def compare_sides(
    graph: IntegerGraph,
    sides: tuple[Side, Side],
    images: NDArray[np.uint8],
    remarks: tuple[str, ...] = (),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """:func:`compare`, of two sides that are ready.

    Args:
        graph: that both are of.
        sides: the two.
        images: uint8 [n, height, width, 3], at least one.
        remarks: what people should know of them.
        on_progress: called with the number of images done, and of all.
    """
    if sides[0].floating or sides[1].floating:
        return _beside_fp32(graph, sides, images, remarks, on_progress)
    return _exact(graph, sides, images, remarks, on_progress)


def _subject(name: str, given: object) -> Subject:
    """What a side is made of.

    Raises:
        UsageError: it is nothing of the kind.
        SqueezeEdgeError: its file cannot be read.
    """
    if isinstance(given, Artifact | Model):
        return given
    if isinstance(given, IntegerGraph):
        return Model.of_graph(given)
    check_path(name, given)
    assert isinstance(given, str | os.PathLike)
    text = os.fspath(given)
    if isinstance(given, str) and is_name(text):
        return text
    return open_artifact(given) if is_artifact(Path(given)) or Path(given).is_dir() else load(given)


def _images(
    graph: IntegerGraph,
    source: Artifact | Model,
    data: ImageSource | Selection | None,
    limit: int,
    seed: int,
    classes: Path | None,
    strict: bool,
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """uint8 [n, H, W, 3], and what people should know of them."""
    if data is None:
        golden = source.golden
        if golden is None:
            shape = (GOLDEN_IMAGES, *graph.input_shape)
            golden = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
            return golden[:limit], ("the images are noise: none are known; give some (`data`)",)
        return golden[:limit], ()
    chosen = evaluation_images(data, graph.classes, graph.labels, limit=limit, seed=seed, classes=classes)
    chosen, pixels = chosen.readable(graph.preprocessing, strict=strict)
    return pixels, (*chosen.remarks, *([chosen.loss] if chosen.unreadable else []))


class _Tally:
    """The results for one layer so far."""

    def __init__(self, graph: IntegerGraph, name: str) -> None:
        head = name == graph.head.name
        self.shape = rules.Shape(1, 1, graph.classes) if head else graph.tensors[name].shape
        self.values = self.differing = self.largest = self.saturated = 0
        self.wrong = [0, 0]
        self.first: Element | None = None
        self.signal = self.noise = self.largest_error = 0.0

    def add(self, image: int, a: NDArray[Any], b: NDArray[Any], oracle: NDArray[Any]) -> None:
        """Add a tensor of both sides, and the right one."""
        self.values += a.size
        different = a != b
        count = int(np.count_nonzero(different))
        if not count:
            return
        self.differing += count
        self.largest = max(self.largest, int(np.abs(a.astype(np.int64) - b).max()))
        if self.first is None:
            place = int(np.flatnonzero(different)[0])
            at = [int(index) for index in np.unravel_index(place, self.shape)]
            self.first = Element(image, at[0], at[1], at[2], *(int(array.flat[place]) for array in (a, b, oracle)))

    def add_float(self, reference: NDArray[Any], value: NDArray[Any]) -> None:
        """Add a tensor of fp32 and what the integers stand for."""
        wide, error = reference.astype(np.float64), value.astype(np.float64) - reference
        self.values += wide.size
        self.signal += float((wide**2).sum())
        self.noise += float((error**2).sum())
        self.largest_error = max(self.largest_error, float(np.abs(error).max()))

    @property
    def sqnr_db(self) -> float:
        """Signal-to-quantization-noise ratio."""
        if not self.noise:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else math.nan


def _exact(
    graph: IntegerGraph,
    sides: tuple[Side, Side],
    images: NDArray[np.uint8],
    remarks: tuple[str, ...],
    on_progress: Callable[[int, int], None],
) -> ExactComparison:
    tallies = {node.name: _Tally(graph, node.name) for node in graph.nodes}
    head, share, changed = graph.head.name, 0.0, 0
    for number, image in enumerate(images):
        oracle = dict(execute(graph, image))
        both: list[Mapping[str, NDArray[Any]]] = [
            oracle if side.label == ORACLE else _shown(side, image, graph) for side in sides
        ]
        for name, tally in tallies.items():
            if all(name in seen for seen in both):
                tally.add(number, both[0][name], both[1][name], oracle[name])
        for index, seen in enumerate(both):
            if any((values != oracle[name]).any() for name, values in seen.items()):
                for name, wrong in _own_faults(graph, image, seen):
                    tallies[name].wrong[index] += wrong
        sums = [seen[head].astype(np.int64) for seen in both]
        largest = max(1, int(np.abs(oracle[head].astype(np.int64)).max()))
        share = max(share, int(np.abs(sums[0] - sums[1]).max()) / largest)
        changed += _classes_differ(graph.logits(both[0][head]), graph.logits(both[1][head]))
        on_progress(number + 1, len(images))
    reasons = _reasons(sides, [name for name, tally in tallies.items() if not tally.values])
    layers = tuple(
        ExactLayer(
            name,
            tally.shape,
            tally.values,
            tally.differing,
            tally.largest,
            tally.first,
            tally.wrong[0],
            tally.wrong[1],
            reasons.get(name, ""),
        )
        for name, tally in tallies.items()
    )
    tolerance = max(side.tolerance for side in sides)
    labels = (sides[0].label, sides[1].label)
    return ExactComparison(graph.name, *labels, len(images), changed, remarks, layers, tolerance, share)


def _shown(side: Side, image: NDArray[np.uint8], graph: IntegerGraph) -> dict[str, NDArray[Any]]:
    """What a side shows of an image.

    Raises:
        SqueezeEdgeError: it shows no class sums.
    """
    seen = dict(side.trace(image))
    if graph.head.name not in seen:
        raise SqueezeEdgeError(f"{side.label}: it shows no class sums; compile the model again")
    return seen


def _own_faults(
    graph: IntegerGraph, image: NDArray[np.uint8], seen: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[str, int]]:
    """For each layer that a side shows, how many values differ from the oracle's for the side's own inputs.

    The oracle computes a tensor that the side does not show from the side's tensors before it.
    """
    values: dict[str, NDArray[Any]] = {IMAGE: image}
    for node in graph.nodes:
        expected = apply(node, [values[name] for name in node.inputs], graph.tensors)
        made = seen.get(node.name)
        values[node.name] = expected if made is None else made
        if made is not None:
            yield node.name, int(np.count_nonzero(made != expected))


def _classes_differ(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    return int(a.argmax()) != int(b.argmax())


def _reasons(sides: Sequence[Side], names: Sequence[str]) -> dict[str, str]:
    """Why tensors were not compared."""
    if not names:
        return {}
    unseen = [(side.label, side.unseen()) for side in sides]
    found = {}
    for name in names:
        told = [f"{label}: {reasons[name]}" for label, reasons in unseen if name in reasons]
        found[name] = "; ".join(told) or NOT_SHOWN
    return found


def _beside_fp32(
    graph: IntegerGraph,
    sides: tuple[Side, Side],
    images: NDArray[np.uint8],
    remarks: tuple[str, ...],
    on_progress: Callable[[int, int], None],
) -> FloatComparison:
    if sides[0].floating and sides[1].floating:
        raise UsageError("both sides are fp32; compare with an artifact or a model")
    floating, integers = sides if sides[0].floating else (sides[1], sides[0])
    tallies = {node.name: _Tally(graph, node.name) for node in graph.nodes}
    head, changed = graph.head.name, 0
    for number, image in enumerate(images):
        seen = _shown(integers, image, graph)
        for name, reference in floating.trace(image):
            if name not in seen:
                continue
            if name == head:
                logits = graph.logits(seen[name])
                tallies[name].add_float(reference, logits)
                changed += _classes_differ(reference, logits)
                continue
            tensor, values = graph.tensors[name], seen[name]
            real = tensor.scale * (values.astype(np.int16) - tensor.zero_point)
            tallies[name].add_float(reference, real)
            ends = values == rules.Q_MAX
            if tensor.zero_point:
                ends |= values == 0
            tallies[name].saturated += int(np.count_nonzero(ends))
        on_progress(number + 1, len(images))
    reasons = _reasons(sides, [name for name, tally in tallies.items() if not tally.values])
    layers = tuple(
        FloatLayer(
            name,
            tally.shape,
            tally.values,
            tally.sqnr_db,
            tally.largest_error,
            tally.saturated,
            reasons.get(name, ""),
        )
        for name, tally in tallies.items()
    )
    return FloatComparison(graph.name, sides[0].label, sides[1].label, len(images), changed, remarks, layers)
