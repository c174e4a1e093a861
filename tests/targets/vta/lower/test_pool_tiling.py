"""Tiles with a pooling behind them fit the memories; what fits nowhere is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import MaxPool
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.lower.pool_tiling import flat_pool_tiling, pool_tiling
from squeezeedge.targets.vta.lower.tiling import Limits
from squeezeedge.targets.vta.lower.window import Window
from tests.targets.vta.compiled import DEFAULT, SMALL
from tests.targets.vta.lower.by_hand import conv_layer

POOL = MaxPool("pool", "layer", (3, 3), (2, 2), (0, 0, 0, 0), False)


def limits(geometry: Geometry) -> Limits:
    """As of the published instructions."""
    wide, blocks = geometry.depth(Memory.OUT) // 2, geometry.par_entries // 2
    return Limits(wide, blocks, geometry.depth(Memory.UOP), sums=False, start=lambda part, piece: 300)


@pytest.mark.parametrize("instructions", ["extended", "published"])
def test_a_depthwise_convolution_loads_what_its_blocks_read(instructions: str) -> None:
    """With a small part of the 1152 channels on the chip, a whole map fits."""
    layer = conv_layer((14, 14), 1152, (1152,), (3, 3), padding=(1, 1), pool=POOL, depthwise=True)
    (part,) = layer.parts
    whole = Window.of(layer, [part])
    if instructions == "extended":
        ring = pool_tiling(layer, part, DEFAULT)
        rows, columns, group = ring.rows * ring.steps, ring.columns, ring.group
    else:
        flat = flat_pool_tiling(layer, part, DEFAULT, limits(DEFAULT))
        rows, columns, group = flat.rows, flat.columns, flat.group
    assert (rows, columns) == (6, 6)
    assert whole.only(0, part.most_inputs(group)).elements(13, 13) <= DEFAULT.depth(Memory.INP)


@pytest.mark.parametrize("geometry", [DEFAULT, SMALL])
@pytest.mark.parametrize(("size", "channels", "out"), [((31, 33), 16, 64), ((57, 20), 48, 96), ((7, 7), 16, 16)])
def test_tiles_with_a_pooling(geometry: Geometry, size: tuple[int, int], channels: int, out: int) -> None:
    layer = conv_layer(size, channels, (out,), (3, 3), padding=(1, 1), pool=POOL)
    (part,) = layer.parts
    window, depth = Window.of(layer, [part]), geometry.depth(Memory.INP)
    ring = pool_tiling(layer, part, geometry)
    wide = min((ring.columns - 1) * 2 + 3, layer.width)
    assert (ring.rows * 2 + 1) * wide * ring.group <= geometry.depth(Memory.OUT)
    assert window.elements(min(ring.rows * ring.steps * 2 + 1, layer.height), wide) <= depth
    assert ring.group * part.taps <= geometry.depth(Memory.WGT) and ring.group <= geometry.par_entries // 2
    allowed = limits(geometry)
    flat = flat_pool_tiling(layer, part, geometry, allowed)
    down, across = (min((count - 1) * 2 + 3, most) for count, most in zip((flat.rows, flat.columns), size, strict=True))
    assert flat.group * (down * across + flat.rows * flat.columns) <= 2 * allowed.wide
    assert window.elements(down, across) <= depth
    assert flat.group * down <= allowed.micro_ops


def test_a_pooling_that_does_not_fit() -> None:
    pool = MaxPool("pool", "layer", (7, 7), (1, 1), (0, 0, 0, 0), False)
    layer = conv_layer((20, 20), 16, (16,), pool=pool)
    tiny = replace(SMALL, acc_buffer=1 << 11)
    assert tiny.depth(Memory.OUT) < 49
    with pytest.raises(UnsupportedError, match=r"layer: one window of the 7x7 pooling does not fit into the output"):
        pool_tiling(layer, layer.parts[0], tiny)
    with pytest.raises(UnsupportedError, match=r"layer: one window of the 7x7 pooling does not fit into \d+ accumul"):
        flat_pool_tiling(layer, layer.parts[0], tiny, limits(tiny))
