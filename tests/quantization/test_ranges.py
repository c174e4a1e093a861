"""Ranges of a tensor's values, and what clipping them costs on others."""

from __future__ import annotations

import numpy as np
import torch

from squeezeedge.quantization.ranges import RangeObserver


def test_headroom_above_the_values_seen() -> None:
    """A channel whose peaks differ between images gets more room than one whose peaks are alike."""
    rng = np.random.default_rng(0)
    observer = RangeObserver()
    for _ in range(64):
        image = rng.uniform(0, 1, (1, 2, 20, 20))
        image[0, 1] *= rng.exponential(1)
        image[0] /= [[[1.0]], [[4.0]]]
        observer.add(torch.from_numpy(image).float(), True)
    values = observer.range()
    limit = values.level * 1.2
    assert values.clipping_error(limit)[0] < 1e-6 * values.clipping_error(limit)[1]
    wider = values.clipping_error(limit * 1.5)
    assert (wider < values.clipping_error(limit)).all()


def test_what_a_range_holds() -> None:
    first = torch.tensor([[[[1.0, -5.0]], [[-2.0, -1.0]], [[0.0, 0.0]]]])
    second = torch.tensor([[[[3.0, 0.0]], [[-4.0, -1.0]], [[0.0, 0.0]]]])
    rectified, signed = RangeObserver(), RangeObserver()
    for part in (first, second):
        rectified.add(part, True)
        signed.add(part, False)
    values = rectified.range()
    assert values.peaks.tolist() == [[3, 0, 0], [1, 0, 0]]
    assert values.active.tolist() == [0.5, 0, 0]
    assert values.level.tolist() == [3, 4, 1], "a dead channel's is its magnitude before the ReLU, or 1"
    assert values.pixels == 2
    assert signed.range().peaks.tolist() == [[5, 4, 0], [3, 2, 0]]
    assert signed.range().select(torch.tensor([1, 0])).level.tolist() == [4, 5]
