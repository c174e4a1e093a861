"""The range of a tensor's values on the calibration images, and the cost of clipping them on other images.

Many other images exceed the largest value of a channel that a few dozen images show. A clipped value is a feature that
the network has found, so it weighs more than the rounding of the rest. The error beyond a limit is therefore
extrapolated. By extreme value theory (peaks over threshold; Pickands, 1975), the excess of the images' peaks over a
high threshold is close to exponentially distributed. A channel's mean excess comes from a dozen peaks, too few to tell
how far others reach. So the mean excess of all channels of the tensor, relative to their thresholds, counts as a few
more peaks of each channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.graph.float.run import not_finite

__all__ = ["Range", "RangeObserver"]

TAIL_SHARE = 0.19
"""Share of the images whose peaks make up the tail: enough to estimate its mean, few enough to be a tail."""

CLIP_WEIGHT = 3.0
"""Cost of a clipped squared error against a rounded one: clipping errors share their sign and neighbourhood, so they
do not average out in the layers behind. Between 1 and 10 the result hardly changes."""

COMMON_PEAKS = 12
"""The mean excess of all channels counts as this many peaks of each channel."""

LEAST_EXCESS = 0.01
"""Least mean excess, as a share of the largest peak: peaks can be equal, such as those of an overexposed image."""

ENOUGH = 64
"""Images for which ``LEAST_EXCESS`` holds; with fewer images, the least excess is larger in proportion."""


@dataclass(frozen=True, eq=False)
class Range:
    """Values of a tensor after its ReLU, per channel.

    Attributes:
        peaks: float64 [images, channels]: largest magnitude in each image, images sorted by it, largest first.
        common: mean excess of all channels, as a share of their mean threshold.
        active: float64 [channels]: share of values that are neither 0 nor at the limit.
        level: float64 [channels]: largest magnitude, positive. For a channel that is always 0, it is the magnitude
            before the ReLU (1 if that is 0, too), but at most the largest magnitude of the other channels, if they have
            one: a larger level would crowd the others out of the weights that read them all.
        pixels: height * width of the tensor.
        limited: float64 [channels]: share of values at the limit.
        limit: that of its ReLU: no value is larger. Infinite without one.
    """

    peaks: Tensor
    common: float
    active: Tensor
    level: Tensor
    pixels: int
    limited: Tensor
    limit: float

    @cached_property
    def expected_tail(self) -> tuple[Tensor, Tensor]:
        """The threshold that the tail's peaks exceed, and their expected mean excess: float64 [channels] each."""
        threshold, seen = _tail(self.peaks)
        count = _tail_count(len(self.peaks))
        together = (count * seen + COMMON_PEAKS * self.common * threshold) / (count + COMMON_PEAKS)
        return threshold, torch.where(threshold > 0, together, seen).clamp_min(torch.finfo(torch.float64).tiny)

    def select(self, channels: Tensor) -> Range:
        """The range of some channels, int64 [...], in that order."""
        return replace(
            self,
            peaks=self.peaks[:, channels],
            active=self.active[channels],
            level=self.level[channels],
            limited=self.limited[channels],
        )

    def clipping_error(self, limit: Tensor) -> Tensor:
        """Expected squared error per pixel, weighted by ``CLIP_WEIGHT``, if magnitudes are clipped.

        With threshold u (a high quantile of the peaks) and expected excess b, a peak exceeds ``limit`` with probability
        p(peak > u) * exp(-(limit - u) / b), and its mean squared excess is 2 b^2. If a ReLU's limit bounds the excess
        by d, this is multiplied by P(3, d / b), the regularized incomplete gamma function. This error counts for one
        value of each image. Many values can lie at the ReLU's limit, so their error is added by their share.

        Args:
            limit: float64 [..., channels].

        Returns:
            float64 [..., channels].
        """
        threshold, excess = self.expected_tail
        rate = CLIP_WEIGHT * _tail_count(len(self.peaks)) / len(self.peaks) / self.pixels
        steep = (threshold - limit) / excess
        beyond = (self.limit - limit).clamp_min(0) / excess
        share: Tensor = torch.special.gammainc(torch.full_like(beyond, 3), beyond)
        error = rate * 2 * excess.square() * steep.clamp_max(100).exp() * share
        if math.isinf(self.limit):
            return error
        return error + CLIP_WEIGHT * self.limited * (self.limit - limit).clamp_min(0).square()


class RangeObserver:
    """Collects a tensor's :class:`Range` batch by batch.

    Args:
        name: of the tensor, for messages.
        limit: that of the ReLU that follows, perhaps infinite; ``None`` if none follows.
    """

    def __init__(self, name: str, limit: float | None) -> None:
        self.name, self.limit = name, limit
        self._peaks: list[Tensor] = []
        self._natural: list[Tensor] = []
        self._active = self._limited = torch.zeros((), dtype=torch.int64)
        self._pixels = 0

    def add(self, value: Tensor) -> None:
        """Look at a batch.

        Args:
            value: float32 [N, channels, height, width], before the ReLU.

        Raises:
            SqueezeEdgeError: a value is not finite.
        """
        highest, lowest = value.amax((2, 3)), value.amin((2, 3))
        natural = torch.maximum(highest, -lowest)
        if not natural.isfinite().all():
            raise SqueezeEdgeError(not_finite(self.name))
        self._peaks.append(natural if self.limit is None else highest.clamp(0, self.limit))
        self._natural.append(natural.amax(0))
        self._active = self._active + _count(value != 0 if self.limit is None else value > 0)
        if self.limit is not None and math.isfinite(self.limit):
            self._limited = self._limited + _count(value >= self.limit)
        self._pixels = value.shape[2] * value.shape[3]

    def range(self) -> Range:
        """What was seen."""
        peaks = torch.cat(self._peaks).double().sort(0, descending=True).values
        active = self._active.double() / (len(peaks) * self._pixels)
        natural = torch.stack(self._natural).amax(0).double()
        natural = torch.where(natural > 0, natural, 1)
        largest = peaks[0].amax()
        if largest > 0:
            natural = natural.clamp_max(largest)
        limit = math.inf if self.limit is None else self.limit
        level = torch.where(peaks[0] > 0, peaks[0], natural).clamp_max(limit)
        limited = self._limited.expand_as(self._active).double() / (len(peaks) * self._pixels)
        threshold, excess = _tail(peaks)
        total = math.fsum(threshold.tolist())  # fsum: the same on every processor
        common = math.fsum(excess[threshold > 0].tolist()) / total if total > 0 else 0.0
        return Range(peaks, common, active - limited, level, self._pixels, limited, limit)


def _tail_count(images: int) -> int:
    """How many images' peaks make up the tail."""
    return max(1, round(TAIL_SHARE * images))


def _tail(peaks: Tensor) -> tuple[Tensor, Tensor]:
    """The threshold that the tail's peaks exceed, and their mean excess: float64 [channels] each.

    Args:
        peaks: float64 [images, channels]: largest magnitude in each image, largest first.
    """
    images, count = len(peaks), _tail_count(len(peaks))
    threshold = peaks[count] if count < images else torch.zeros_like(peaks[0])
    least = LEAST_EXCESS * max(1, ENOUGH / images)
    return threshold, torch.maximum((peaks[:count] - threshold).mean(0), least * peaks[0])


def _count(found: Tensor) -> Tensor:
    """How many of a part's values are found: int64 [channels], added up as int32, which is faster."""
    return found.sum((0, 2, 3), dtype=torch.int32).long()
