"""A device with an artifact open on it: it runs images and says what is on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.decode import EncodedImage, OnUnreadable, decode
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.calib.selection import Selection
from squeezeedge.calib.sources import ImageSource, image_stream
from squeezeedge.errors import SqueezeEdgeError, UsageError, check_type, check_whole
from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.targets.protocol import Kind, RunResult
from squeezeedge.targets.session import Session

__all__ = ["Answer", "Device", "RankedClass", "answers", "softmax"]


@dataclass(frozen=True)
class RankedClass:
    """A class and how likely it is.

    Attributes:
        label: its name; its index as text where names are not known.
        index: from 0.
        score: softmax probability, in 0..1.
        logit: of the class; comparable between classes and devices.
    """

    label: str
    index: int
    score: float
    logit: float


@dataclass(frozen=True)
class Answer:
    """What is on an image.

    Attributes:
        image: the image's path; for one without, its position among the images, from 0.
        top: the likeliest classes, best first; equal ones rank by index.
        latency_ms: from the image in memory to its class sums there, in milliseconds.
    """

    image: str | int
    top: tuple[RankedClass, ...]
    latency_ms: float

    @property
    def label(self) -> str:
        """Name of the best class; its index as text where names are not known."""
        return self.top[0].label

    @property
    def index(self) -> int:
        """Index of the best class."""
        return self.top[0].index

    @property
    def score(self) -> float:
        """Softmax probability of the best class, in 0..1."""
        return self.top[0].score

    @property
    def logit(self) -> float:
        """Logit of the best class."""
        return self.top[0].logit


class Device:
    """A device that is ready to run an artifact; see :meth:`squeezeedge.artifact.Artifact.open`.

    Attributes:
        name: as in ``--device``.
        kind: what it really is.
    """

    def __init__(self, session: Session, graph: IntegerGraph) -> None:
        self._session, self._graph = session, graph
        self.name: str = session.device
        self.kind: Kind = session.kind

    @property
    def tolerance(self) -> float:
        """Most that class sums may differ from the oracle's, as a share of the largest; 0 unless fp16 is involved."""
        return self._session.tolerance

    def run(self, images: NDArray[np.uint8]) -> RunResult:
        """Run preprocessed images: uint8 [N, height, width, 3] of the network's input size.

        Returns:
            Class sums, which must not be compared between classes (each has a scale of its own), and timings;
            ``graph.logits(sums)`` makes logits of them, :meth:`classify` names the classes.

        Raises:
            UsageError: images of another shape or type.
            SqueezeEdgeError: the device fails.
        """
        check_type("images", images, np.ndarray, "an array, uint8 [N, height, width, 3]")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != tuple(self._graph.input_shape):
            raise UsageError(
                f"images are {images.dtype} {list(images.shape)}; the network takes uint8 "
                f"[N, {', '.join(map(str, self._graph.input_shape))}]"
            )
        return self._session.run(images)

    def trace(self, image: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[Any]]]:
        """Run one preprocessed image, uint8 [height, width, 3], and yield what every layer of the graph made.

        The kernels are those that :meth:`run` calls; what they leave in memory is read.

        Yields:
            (node name, uint8 [height, width, channels]) in execution order; last (head name, int32 [classes]).
            :meth:`unseen` says which tensors are not among them, and why.

        Raises:
            UsageError: an image of another shape or type, or a device that shows no tensors.
            SqueezeEdgeError: the device fails, or yields something that is not of the graph.
        """
        check_type("image", image, np.ndarray, "an array, uint8 [height, width, 3]")
        expected = tuple(self._graph.input_shape)
        if image.dtype != np.uint8 or image.shape != expected:
            raise UsageError(f"the image is {image.dtype} {list(image.shape)}; it must be uint8 {list(expected)}")
        left = {name: f"uint8 {list(tensor.shape)}" for name, tensor in self._graph.tensors.items()}
        left[self._graph.head.name] = f"int32 {[self._graph.classes]}"
        del left[IMAGE]
        for name, values in self._session.trace(image):
            if left.pop(name, None) != f"{values.dtype} {list(values.shape)}":
                raise SqueezeEdgeError(
                    f"{self.name}: it shows {name} as {values.dtype} {list(values.shape)}, once more or not as the "
                    "integer graph has it; compile the model again"
                )
            yield name, values

    def unseen(self) -> Mapping[str, str]:
        """Name of every tensor that :meth:`trace` does not yield -> why, a part of a sentence.

        Raises:
            UsageError: a device that shows no tensors.
            SqueezeEdgeError: a file is damaged.
        """
        return self._session.unseen()

    def classify(
        self, images: ImageSource | Selection, top: int = 5, on_unreadable: OnUnreadable | None = None
    ) -> Iterator[Answer]:
        """Say what is on images, one after the other, each preprocessed as the network's training asks for.

        Args:
            images: in any form; an iterator is read as its answers are asked for.
            top: how many classes an answer names.
            on_unreadable: called with the position of an image that cannot be read, and why; then the next one is
                answered. ``None``: such an image is an error.

        Returns:
            One answer an image, in order, each made when it is asked for.

        Raises:
            UsageError: something is not an image, or ``top`` is less than 1.
            SqueezeEdgeError: an image is damaged, or the device fails.
        """
        graph = self._graph

        def logits_of(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
            result = self.run(pixels[None])
            return graph.logits(result.sums)[0], float(result.latency_ms[0])

        return answers(images, top, graph.preprocessing, graph.labels, logits_of, on_unreadable)


def answers(
    images: ImageSource | Selection,
    top: int,
    preprocessing: Preprocessing,
    labels: Sequence[str],
    logits_of: Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], float]],
    on_unreadable: OnUnreadable | None = None,
) -> Iterator[Answer]:
    """Say what is on images: :meth:`Device.classify` of whatever computes logits.

    Args:
        images: in any form.
        top: how many classes an answer names.
        preprocessing: of the network.
        labels: class names in index order; empty if unknown.
        logits_of: one preprocessed image, uint8 [H, W, 3] -> its logits, float32 [classes], and milliseconds.
        on_unreadable: as :meth:`Device.classify` has it.

    Raises:
        UsageError, SqueezeEdgeError: as :meth:`Device.classify`.
    """
    check_whole("top", top, 1)
    chosen = images.images() if isinstance(images, Selection) else image_stream(images)

    def each() -> Iterator[Answer]:
        for position, image in enumerate(chosen):
            try:
                pixels = decode(image, preprocessing)
            except SqueezeEdgeError as error:
                if on_unreadable is None:
                    raise
                on_unreadable(position, error)
            else:
                name = str(image) if isinstance(image, EncodedImage) else position
                yield _answer(name, *logits_of(pixels), top, labels)

    return each()


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Probabilities [..., classes] of logits [..., classes]; all are NaN where a logit is NaN or positive infinity."""
    wide = logits.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        weights = np.exp(wide - wide.max(-1, keepdims=True))
        probabilities: NDArray[np.float64] = weights / weights.sum(-1, keepdims=True)
    return probabilities


def _answer(
    image: str | int, logits: NDArray[np.float32], latency_ms: float, top: int, labels: Sequence[str]
) -> Answer:
    wide = logits.astype(np.float64)
    scores = softmax(wide)
    best = np.argsort(-wide, kind="stable")[:top].tolist()
    return Answer(
        image=image,
        top=tuple(
            RankedClass(labels[index] if labels else str(index), index, float(scores[index]), float(wide[index]))
            for index in best
        ),
        latency_ms=latency_ms,
    )
