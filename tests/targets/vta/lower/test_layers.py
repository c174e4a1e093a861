"""Layers of the accelerator."""

from typing import get_args

from squeezeedge.targets.vta.lower.layers import LAYERS, Layer
from tests.targets.vta.lower.by_hand import add_layer, conv_layer


def test_the_family_is_every_layer() -> None:
    assert get_args(Layer) == LAYERS


def test_a_part_counts_in_elements() -> None:
    """40 channels are three blocks of 16, 20 results two."""
    (part,) = conv_layer((5, 5), 40, (20,), (3, 2)).parts
    assert (part.taps, part.blocks) == (3 * 2 * 3, 2)


def test_an_addition_multiplies_nothing() -> None:
    assert add_layer((4, 4), 20).macs == 0
