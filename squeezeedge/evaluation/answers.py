"""The answers to every image of an evaluation: a class and its probability, a few bytes for each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.device import softmax

__all__ = ["AnswerLog", "Answers", "Ranked"]


@dataclass(frozen=True, eq=False)
class Ranked:
    """The best class of every image; the first of equally good ones.

    Attributes:
        classes: int64 [N], index of the class.
        scores: float32 [N], its softmax probability, in 0..1; not a number where a logit is none.
    """

    classes: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Answers:
    """All answers to the N images that were run, in the order in which they were.

    Attributes:
        places: int64 [N], which of the images that were asked for.
        labels: int64 [N], the right classes; ``None`` if they are not known.
        fp32: of the float network; ``None`` if it is not known.
        devices: of each device, in the order of their reports.
        latency_ms: float64 [N] of each device, in milliseconds.
    """

    places: NDArray[np.int64]
    labels: NDArray[np.int64] | None
    fp32: Ranked | None
    devices: tuple[Ranked, ...]
    latency_ms: tuple[NDArray[np.float64], ...]


class AnswerLog:
    """Best classes of logits that come batch by batch; none of the logits is kept."""

    def __init__(self) -> None:
        self._classes: list[NDArray[np.int64]] = []
        self._scores: list[NDArray[np.float32]] = []

    def add(self, logits: NDArray[Any]) -> None:
        """Add a batch, float [n, classes], n at least 1."""
        best = logits.argmax(1)
        scores = np.take_along_axis(softmax(logits), best[:, None], 1)[:, 0]
        self._classes.append(best.astype(np.int64))
        self._scores.append(scores.astype(np.float32))

    def ranked(self) -> Ranked:
        """Of all that were added, which is at least one batch."""
        return Ranked(np.concatenate(self._classes), np.concatenate(self._scores))
