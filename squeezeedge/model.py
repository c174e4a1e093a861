"""A network, and how it is quantized."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.decode import OnUnreadable
from squeezeedge.calib.fingerprint import fingerprints
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.calib.selection import Selection, calibration_images, evaluation_images
from squeezeedge.calib.sources import ImageSource
from squeezeedge.calib.statement import ChannelOrder, Resolved, of_preset
from squeezeedge.device import Answer, answers
from squeezeedge.errors import SqueezeEdgeError, UsageError, check_path, check_whole
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.float.graph import FloatGraph
from squeezeedge.graph.oracle import run
from squeezeedge.graph.sqe import CHANNEL_ORDER, GOLDEN_IMAGES, ORIGIN, SAID, Record, write_sqe
from squeezeedge.networks.registry import NETWORKS
from squeezeedge.quantization.effort import Effort, with_budget
from squeezeedge.trial import IMAGES, Reading, Suspicion, suspicion

if TYPE_CHECKING:
    from torch.nn import Module


__all__ = ["GOLDEN_IMAGES", "Model", "quantize", "suspicion_of"]


@dataclass(frozen=True, eq=False)
class Model:
    """A network, ready to quantize, quantized, or both.

    Attributes:
        name: for people and file names.
        preprocessing: image -> input.
        labels: class names in index order, empty if unknown.
        classes: number of classes.
        origin: network, weight file and its SHA-256: where the numbers came from (JSON values).
        floating: the float graph; ``None`` if only the integer graph is known.
        integer: the integer graph; ``None`` before quantization.
        float_logits: fp32 on preprocessed images, uint8 [N, H, W, 3] -> float32 [N, classes]; ``None`` as ``floating``.
        module: the torch network, if it is one.
        calibration: the images that it was quantized on, if it was quantized here.
        calibrated_on: their fingerprints (:func:`squeezeedge.calib.fingerprint.fingerprints`); empty if not known.
        golden: a few of them, preprocessed, uint8 [n, H, W, 3].
        alternatives: other networks that a checkpoint fits as well: name -> what loads it; for
            :func:`squeezeedge.loading.choose_network`.
        remarks: what people should know of the choice among them, and of the quantization, if it was done here.
        resolved: where each part of the preprocessing comes from; ``None``: not known.
        reading: its float network, for :mod:`squeezeedge.trial`; ``None`` as ``floating``.
        suspicion: what makes its preprocessing suspect, if it was looked for (:mod:`squeezeedge.trial`).
    """

    name: str
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    classes: int
    origin: Mapping[str, Any]
    floating: FloatGraph | None = field(default=None, repr=False)
    integer: IntegerGraph | None = field(default=None, repr=False)
    float_logits: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = field(default=None, repr=False)
    module: Module | None = field(default=None, repr=False)
    calibration: Selection | None = field(default=None, repr=False)
    calibrated_on: frozenset[str] = field(default=frozenset(), repr=False)
    golden: NDArray[np.uint8] | None = field(default=None, repr=False)
    alternatives: Mapping[str, Callable[[], Model]] = field(default_factory=dict, repr=False)
    remarks: tuple[str, ...] = field(default=(), repr=False)
    resolved: Resolved | None = field(default=None, repr=False)
    reading: Reading | None = field(default=None, repr=False)
    suspicion: Suspicion | None = field(default=None, repr=False)

    @classmethod
    def of_graph(cls, graph: IntegerGraph, origin: Mapping[str, Any] | None = None) -> Model:
        """A model of which only the integer graph is known."""
        return cls(
            name=graph.name,
            preprocessing=graph.preprocessing,
            labels=graph.labels,
            classes=graph.classes,
            origin=origin or {"network": graph.name},
            integer=graph,
            resolved=_resolved_in(graph, origin or {}),
        )

    @property
    def assumption(self) -> str:
        """What nothing states of the preprocessing; one sentence, or empty."""
        return "" if self.resolved is None else self.resolved.assumption

    def preprocessing_json(self) -> dict[str, Any]:
        """The preprocessing, the weight file's order of channels, and who says so (``source``); JSON values."""
        return self.preprocessing.to_json() if self.resolved is None else self.resolved.to_json()

    @property
    def dataset(self) -> str | None:
        """The embedded data set that the network was trained on, if there is one."""
        spec = NETWORKS.get(self.name)
        return spec.dataset if spec is not None else None

    def reference(self, weights: str | os.PathLike[str] | None = None) -> Model | None:
        """The float network to compare with: itself if it has it, else the one that its integer graph was made of.

        A network that its graph was made of comes without its float graph, which takes seconds to export.

        Args:
            weights: the weight file it was made of; ``None``: the embedded one, if it was made of that.

        Returns:
            ``None`` if it is not known.

        Raises:
            UsageError: it was made of another file.
            SqueezeEdgeError: that file is missing or damaged.
        """
        if self.float_logits is not None and weights is None:
            return self
        from squeezeedge.loading import load_reference

        return None if self.integer is None else load_reference(self.integer, self.origin, weights, floating=False)

    def classify(
        self, images: ImageSource | Selection, top: int = 5, on_unreadable: OnUnreadable | None = None
    ) -> Iterator[Answer]:
        """Say what is on images, by the float network, or by the oracle where only the integer graph is known.

        Arguments, answers and failures are those of :meth:`squeezeedge.device.Device.classify`; an answer's latency is
        that of this machine.
        """
        floating, integer = self.float_logits, self.integer

        def logits_of(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
            start = time.perf_counter()
            if floating is not None:
                (logits,) = floating(pixels[None])
            else:
                assert integer is not None
                (logits,) = integer.logits(run(integer, pixels[None]))
            return logits, (time.perf_counter() - start) * 1e3

        return answers(images, top, self.preprocessing, self.labels, logits_of, on_unreadable)

    def save(self, path: str | os.PathLike[str], *, force: bool = True) -> None:
        """Write the integer graph as .sqe, with origin, fingerprints and golden images, whole or not at all.

        Args:
            path: the file.
            force: replace what is there.

        Raises:
            UsageError: the model is not quantized, or something is there that is not to be replaced.
            SqueezeEdgeError: the file cannot be written.
        """
        check_path("path", path)
        if self.integer is None:
            raise UsageError(f"{self.name}: only an integer graph can be saved; save what quantize returned")
        known = self.origin if all(key in self.origin for key in ORIGIN) else {}
        keys = (*ORIGIN, *SAID)
        origin = {"network": self.name, **{key: str(known[key]) for key in keys if key in known}}
        write_sqe(self.integer, Path(path), Record(origin, self.calibrated_on, self.golden), force=force)


def quantize(
    model: Model | str | os.PathLike[str],
    images: ImageSource | Selection | None = None,
    *,
    count: int = 64,
    seed: int = 0,
    classes: Path | None = None,
    strict: bool = False,
    effort: str | Effort = "fast",
    extra_macs: float | None = None,
    on_decode: Callable[[int], None] = lambda done: None,
    on_layer: Callable[[str, int, int], None] = lambda name, index, total: None,
) -> Model:
    """Quantize a network to one integer-only int8 graph.

    The result depends on the model, the images and the seed only. Where a checkpoint fits several networks and the
    images have labels, the network is chosen by them (:func:`squeezeedge.loading.choose_network`).

    Args:
        model: a network with its float graph, or what :func:`load` takes.
        images: to calibrate on, in any form. Each is preprocessed as the model says; this includes pixels of the
            model's own input size, unless it only scales. ``None``: images of the embedded data set that the network
            was trained on. A selection is taken as it is.
        count: how many of them at most, drawn by the seed; of an iterator the first ones.
        seed: of the choice.
        classes: class list of the data.
        strict: an image that cannot be read is an error; else it is left out, unless more than half are.
        effort: "fast", "best" (:data:`squeezeedge.quantization.effort.EFFORTS`), or one of your own.
        extra_macs: multiply-accumulates that may be added for more resolution, as a share of the network's
            (:mod:`squeezeedge.quantization.split_channels`); ``None``: as the effort says, "fast" 0, "best" 0.05.
        on_decode: called with the number of images decoded since the last call.
        on_layer: called with (name, index, total) before each convolution and addition.

    Returns:
        The model with its integer graph, beside its float one, :data:`GOLDEN_IMAGES` of the images, and remarks.

    Raises:
        UsageError: the model is quantized already, no images are known, or they are more than fit into memory; or there
            is no such effort or budget.
        UnsupportedError: the network cannot be expressed as integers; the text names the node.
        SqueezeEdgeError: the images cannot be read, or a layer computes values that are not finite.
    """
    from squeezeedge.loading import choose_network, load
    from squeezeedge.quantization import pipeline

    check_whole("count", count, 1)
    check_whole("seed", seed, 0)
    chosen_effort = with_budget(effort, extra_macs)
    if classes is not None:
        check_path("classes", classes)
        classes = Path(classes)
    if not isinstance(model, Model):
        check_path("model", model)
        model = load(model)
    if model.floating is None:
        raise UsageError(f"{model.name}: is an integer graph already")
    if images is None:
        images = model.dataset
    if images is None:
        raise UsageError(f"{model.name}: quantization needs calibration images; give some")
    chosen = calibration_images(images, model.labels, count=count, seed=seed, classes=classes)
    model = choose_network(model, chosen)
    assert model.floating is not None
    chosen, pixels = chosen.readable(model.preprocessing, on_decode, strict=strict)
    doubt = suspicion_of(model, chosen, pixels)
    told = any(chosen.loss in remark for remark in model.remarks)  # where the network was chosen by these images
    remarks = [chosen.loss] if chosen.unreadable and not told else []
    graph = pipeline.quantize(
        model.floating,
        model.preprocessing,
        pixels,
        name=model.name,
        labels=model.labels,
        effort=chosen_effort,
        on_layer=on_layer,
        on_remark=remarks.append,
    )
    return replace(
        model,
        integer=graph,
        calibration=chosen,
        calibrated_on=frozenset(fingerprints(pixels)),
        golden=pixels[:GOLDEN_IMAGES].copy(),
        remarks=(*model.remarks, *remarks),
        suspicion=doubt,
    )


def suspicion_of(model: Model, images: Selection, pixels: NDArray[np.uint8] | None = None) -> Suspicion | None:
    """Whether a model's preprocessing is suspect on some images, see :mod:`squeezeedge.trial`.

    Args:
        model: with its float network, or there is no answer.
        images: to try it on, with labels or without.
        pixels: uint8 [N, H, W, 3]: they, as the model preprocesses them; ``None``: some of them are loaded.

    Raises:
        SqueezeEdgeError: an image is damaged, or the network computes values that are not finite.
    """
    if model.reading is None or model.resolved is None:
        return None
    if pixels is None:
        some = np.random.default_rng(0).permutation(len(images))[:IMAGES]
        images = replace(images, indices=images.indices[some])
        images, pixels = images.readable(model.preprocessing)
    try:
        labels = evaluation_images(images, model.classes, model.labels).labels
    except SqueezeEdgeError:  # they are of other classes
        labels = None
    return suspicion(model.reading, model.resolved, pixels, labels, model.classes)


def _resolved_in(graph: IntegerGraph, origin: Mapping[str, Any]) -> Resolved:
    """What an integer graph says of its preprocessing, and its record of the weight file's order of channels."""
    stated = of_preset(graph.preprocessing, "the integer graph")
    order: ChannelOrder = "bgr" if origin.get(CHANNEL_ORDER) == "bgr" else stated.channel_order or "rgb"
    return Resolved(graph.preprocessing, order, sources=stated.sources)
