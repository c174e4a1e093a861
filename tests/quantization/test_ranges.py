"""Ranges of a tensor's values, and what clipping them costs on others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.quantization.ranges import RangeObserver


def test_headroom_above_the_values_seen() -> None:
    """A channel whose peaks differ between images gets more room than those whose peaks are alike."""
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 1, (64, 33, 20, 20))
    image[:, 32] *= rng.exponential(1, (64, 1, 1))
    image /= np.geomspace(1, 8, 33)[:, None, None]
    observer = RangeObserver("layer", math.inf)
    for part in np.split(image, 4):
        observer.add(torch.from_numpy(part).float())
    values = observer.range()
    limit = values.level * 1.2
    errors = values.clipping_error(limit) / values.level.square()
    assert (errors[:32] < 1e-3 * errors[32]).all()
    wider = values.clipping_error(limit * 1.5)
    assert (wider < values.clipping_error(limit)).all()


def test_channels_tell_of_each_other_how_far_peaks_reach() -> None:
    """Channels of one distribution but for their scale; by chance some had no high peaks."""
    channels, sizes = 200, np.geomspace(0.1, 10, 200)
    peaks = (np.random.default_rng(2).exponential(1, (64, channels)) + 3) * sizes
    values = torch.from_numpy(peaks).float()[:, :, None, None]

    def errors(values: torch.Tensor, sizes: Sequence[float]) -> torch.Tensor:
        observer = RangeObserver("layer", math.inf)
        observer.add(values)
        size = torch.tensor(sizes).double()
        return torch.log(observer.range().clipping_error(10 * size) / size**2)

    alone = torch.cat([errors(values[:, [channel]], [sizes[channel]]) for channel in range(channels)])
    assert errors(values, sizes.tolist()).std() < 0.7 * alone.std()


def test_what_a_range_holds() -> None:
    first = torch.tensor([[[[1.0, -5.0]], [[-2.0, -1.0]], [[0.0, 0.0]]]])
    second = torch.tensor([[[[3.0, 0.0]], [[-4.0, -1.0]], [[0.0, 0.0]]]])
    rectified, signed = RangeObserver("layer", math.inf), RangeObserver("layer", None)
    for part in (first, second):
        rectified.add(part)
        signed.add(part)
    values = rectified.range()
    assert values.peaks.tolist() == [[3, 0, 0], [1, 0, 0]] and values.common == 2
    assert values.active.tolist() == [0.5, 0, 0]
    assert values.level.tolist() == [3, 3, 1], (
        "a dead channel's is its magnitude before the ReLU, or 1, up to the others'"
    )
    assert values.pixels == 2
    assert signed.range().peaks.tolist() == [[5, 4, 0], [3, 2, 0]]
    assert signed.range().select(torch.tensor([1, 0])).level.tolist() == [4, 5]


def test_nothing_is_clipped_beyond_a_limit() -> None:
    rng = np.random.default_rng(1)
    limited, free = RangeObserver("layer", 6.0), RangeObserver("layer", math.inf)
    values = torch.from_numpy(rng.exponential(1.5, (64, 2, 5, 5))).float()
    values[:, 1] = -7.0
    for observer in (limited, free):
        observer.add(values)
    bounded, open_ended = limited.range(), free.range()
    assert bounded.peaks.max() == 6 and bounded.level.tolist() == [6, 6], "a dead channel's level is bounded, too"
    share = (values[:, 0] >= 6).double().mean()
    assert bounded.limited.tolist() == [share, 0] and open_ended.limited.tolist() == [0, 0]
    assert bounded.active[0] == open_ended.active[0] - share
    errors = [bounded.clipping_error(torch.full((2,), limit).double())[0] for limit in (4, 5.5, 6, 7)]
    assert errors[0] > errors[1] > errors[2] == errors[3] == 0
    assert errors[0] > 3 * share * 4, "every value at the limit counts, not one in an image"
    one = bounded.select(torch.tensor([0]))
    assert one.limit == 6 and one.limited.tolist() == [share]


def test_fewer_images_leave_more_room() -> None:
    errors = []
    for count in (2, 8, 64, 128):
        observer = RangeObserver("layer", math.inf)
        observer.add(torch.ones(count, 1, 2, 2))
        errors.append(observer.range().clipping_error(torch.tensor([1.05])).item())
    assert errors[0] > errors[1] > errors[2] > 0
    assert errors[3] == pytest.approx(errors[2], rel=0.1), "64 are enough"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    wrong = torch.ones(2, 3, 4, 4)
    wrong[1, 2, 3, 3] = value
    with pytest.raises(SqueezeEdgeError, match="fire2: computes values that are not finite"):
        RangeObserver("fire2", math.inf).add(wrong)
