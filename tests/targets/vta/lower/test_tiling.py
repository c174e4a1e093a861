"""Tiles fit the memories and cover the layer; what fits nowhere is refused."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from squeezeedge.errors import UnsupportedError
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.lower.layers import ConvLayer
from squeezeedge.targets.vta.lower.tiling import (
    Limits,
    add_tiling,
    chunk_inputs,
    conv_tiling,
    spans,
)
from squeezeedge.targets.vta.lower.window import Window
from tests.targets.vta.compiled import DEFAULT, SMALL
from tests.targets.vta.lower.by_hand import add_layer, conv_layer


def limits(geometry: Geometry, *, sums: bool = True) -> Limits:
    """As of the extended instructions."""
    return Limits(
        geometry.depth(Memory.OUT) // 2, geometry.par_entries // 2, 1 << 30, sums=sums, start=lambda part, piece: 20
    )


@given(st.integers(1, 500), st.integers(1, 500))
def test_spans_are_even(total: int, step: int) -> None:
    found = spans(total, step)
    assert [first for first, _ in found] == [0, *(end for _, end in found[:-1])] and found[-1][1] == total
    sizes = [end - first for first, end in found]
    assert max(sizes) <= step and max(sizes) - min(sizes) <= 1
    assert len(found) == -(-total // step)


LAYERS = st.builds(
    conv_layer,
    st.tuples(st.integers(6, 60), st.integers(6, 60)),
    st.sampled_from([3, 16, 64, 130]),
    st.lists(st.sampled_from([8, 40, 100]), min_size=1, max_size=2).map(tuple),
    st.sampled_from([(1, 1), (3, 3), (5, 2)]),
    st.sampled_from([(1, 1), (2, 2)]),
) | st.builds(
    lambda size, channels, kernel: conv_layer(size, channels, (channels,), kernel, depthwise=True),
    st.tuples(st.integers(6, 60), st.integers(6, 60)),
    st.sampled_from([64, 300]),
    st.sampled_from([(3, 3), (5, 5)]),
)


@settings(deadline=None, max_examples=25)
@given(layer=LAYERS, geometry=st.sampled_from([DEFAULT, SMALL]), head=st.booleans())
def test_tiles_of_convolutions(layer: ConvLayer, geometry: Geometry, head: bool) -> None:
    layer, allowed = replace(layer, head=head), limits(geometry)
    assume(layer.parts[0].taps <= geometry.depth(Memory.WGT) // 2)
    try:
        tiling = conv_tiling(layer, geometry, allowed)
    except UnsupportedError as error:
        assert "one output needs" in str(error)
        return
    depth, whole = geometry.depth(Memory.INP), Window.of(layer, layer.parts)
    for (first, end), _ in chunk_inputs(layer.parts, tiling.chunks):
        window = whole.only(first, end)
        assert window.elements(tiling.rows, tiling.columns) <= depth
        if window.elements(1, 1) <= depth // 2:
            assert window.elements(tiling.rows, tiling.columns) <= depth // 2, "the next tile is loaded meanwhile"
    assert 1 <= tiling.sub_rows <= tiling.rows <= layer.height and tiling.columns <= layer.width
    pieces = [piece for chunk in tiling.chunks for piece in chunk]
    for index, part in enumerate(layer.parts):
        own = [(piece.first, piece.end) for piece in pieces if piece.part == index]
        assert own == spans(part.blocks, max(end - first for first, end in own)), "every block once, in order"
    for chunk in tiling.chunks:
        assert sum((p.end - p.first) * layer.parts[p.part].taps for p in chunk) <= geometry.depth(Memory.WGT)
        assert sum(p.end - p.first for p in chunk) <= allowed.blocks
    for piece in pieces:
        if not head:
            assert (piece.end - piece.first) * tiling.sub_rows * tiling.columns <= allowed.wide


def test_what_fits_is_not_cut() -> None:
    layer = conv_layer((10, 12), 32, (32,))
    tiling = conv_tiling(layer, DEFAULT, limits(DEFAULT))
    assert (tiling.rows, tiling.columns) == (10, 12) and len(tiling.chunks) == 1
    assert str(tiling) == f"Tiling(rows=10, columns=12, sub_rows={tiling.sub_rows})", "for people, without the pieces"


def test_weights_that_do_not_fit_come_in_chunks() -> None:
    layer = conv_layer((10, 12), 256, (256,), (3, 3), padding=(1, 1))
    assert layer.parts[0].taps * layer.parts[0].blocks > 2 * DEFAULT.depth(Memory.WGT)
    tiling = conv_tiling(layer, DEFAULT, limits(DEFAULT))
    weights = [sum(p.end - p.first for p in chunk) * layer.parts[0].taps for chunk in tiling.chunks]
    assert len(weights) > 2 and max(weights) <= DEFAULT.depth(Memory.WGT) // 2, "the next are loaded meanwhile"


def test_what_does_not_fit() -> None:
    wide = conv_layer((9, 9), 600, (16,), (7, 7))
    expected = "layer: one output needs 1862 weight and input elements (7x7, 38 blocks of 16 channels)"
    with pytest.raises(UnsupportedError, match=re.escape(expected)):
        conv_tiling(wide, DEFAULT, limits(DEFAULT))
    with pytest.raises(UnsupportedError, match="; at most 320 input channels fit"):
        conv_tiling(wide, DEFAULT, limits(DEFAULT))
    side_by_side = conv_layer((9, 9), 64, (16,), (3, 3))
    apart = replace(side_by_side.parts[0], padding=(40, 40))
    layer = replace(side_by_side, parts=(*side_by_side.parts, apart))
    with pytest.raises(UnsupportedError, match=r"layer: one output needs \d+ elements of the input memory, it has 512"):
        conv_tiling(layer, SMALL, limits(SMALL))


@pytest.mark.parametrize("geometry", [DEFAULT, SMALL])
@pytest.mark.parametrize(("size", "channels"), [((13, 13), 512), ((56, 56), 64), ((1, 1), 16)])
def test_tiles_of_additions(geometry: Geometry, size: tuple[int, int], channels: int) -> None:
    layer = add_layer(size, channels)
    tiling = add_tiling(layer, geometry, outputs=geometry.depth(Memory.OUT) // 2, most_blocks=8)
    assert tiling.blocks <= min(8, len(layer.target.origins))
    assert tiling.blocks * tiling.rows * tiling.columns * 4 <= geometry.depth(Memory.INP)
    assert tiling.rows <= size[0] and tiling.columns <= size[1]
