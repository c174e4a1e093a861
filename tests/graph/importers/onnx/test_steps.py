"""Layers that read channels by number."""

from __future__ import annotations

import numpy as np
import pytest

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.float.graph import FloatAdd, FloatMaxPool, FloatRelu
from squeezeedge.graph.importers.onnx.steps import MAX_CHANNELS, ZERO, Steps

IMAGE_IDS = np.arange(3)


def test_channels_are_counted_through() -> None:
    steps = Steps((4, 4))
    first = steps.append(FloatRelu("a", ("",)), (IMAGE_IDS,), (4, 4))
    second = steps.append(FloatMaxPool("b", ("",), (2, 2), (2, 2), (0, 0, 0, 0), False), (first[:2],), (4, 4))
    assert first.tolist() == [3, 4, 5] and second.tolist() == [6, 7]
    assert steps.steps[1].shape == (2, 2, 2)
    assert [steps.maker(channel) for channel in (ZERO, 2, 3, 5, 6)] == [
        None,
        None,
        *steps.steps[:1] * 2,
        steps.steps[1],
    ]


def test_what_has_no_negatives() -> None:
    steps = Steps((4, 4))
    relu = steps.append(FloatRelu("a", ("",)), (IMAGE_IDS,), (4, 4))
    mixed = steps.append(FloatAdd("b", ("", "")), (relu, IMAGE_IDS), (4, 4))
    added = steps.append(FloatAdd("c", ("", "")), (relu, relu), (4, 4))
    assert steps.nonnegative(np.array([ZERO, *relu, *added]))
    assert not steps.nonnegative(mixed) and not steps.nonnegative(np.array([*relu, 0]))


def test_more_channels_than_a_network_has() -> None:
    steps, many = Steps((1, 1)), np.zeros(MAX_CHANNELS // 4, np.int64)
    with pytest.raises(UnsupportedError, match=rf"a: the layers up to here read more than {MAX_CHANNELS} channels"):
        for _ in range(6):
            steps.append(FloatRelu("a", ("",)), (many,), (1, 1))


def test_names() -> None:
    steps = Steps((4, 4))
    assert [steps.unique(name) for name in ("image", "a", "a", "a_1", "\n", "")] == [
        *("image_1", "a", "a_1", "a_1_1", "_", "node"),
    ]
