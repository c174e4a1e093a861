"""Tiles of tensors as transfers, executed by the instructions' reference bodies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.state import State
from squeezeedge.targets.vta.lower.layers import ConvLayer
from squeezeedge.targets.vta.lower.tensors import NO_PADS, Pads
from squeezeedge.targets.vta.lower.window import Run, Window, runs
from tests.targets.vta.lower.by_hand import conv_layer

GEOMETRY = Geometry()


@given(
    origins=st.lists(st.integers(0, 500), min_size=1, max_size=4),
    pitch=st.integers(1, 9),
    rows=st.integers(1, 4),
    data=st.data(),
)
def test_runs_bring_every_pixel_to_its_place(origins: list[int], pitch: int, rows: int, data: st.DataObject) -> None:
    columns = data.draw(st.integers(1, pitch))
    expected = [origin + y * pitch + x for origin in origins for y in range(rows) for x in range(columns)]
    found = [
        (run.offset + y * run.size + x, run.dram + y * run.stride + x)
        for run in runs(origins, pitch, rows, columns, first=7)
        for y in range(run.rows)
        for x in range(run.size)
    ]
    assert sorted(found) == list(enumerate(expected, 7))


def test_planes_in_even_steps_are_one_transfer() -> None:
    assert runs([10, 40, 70], 5, 4, 5) == [Run(0, 10, 3, 20, 30)]
    assert runs([10, 40, 75], 5, 4, 5) == [Run(0, 10, 2, 20, 30), Run(40, 75, 1, 20, 20)]
    assert len(runs([10, 40, 70], 5, 4, 3)) == 3, "rows that are not whole"
    assert len(runs([10, 10 + (1 << 16)], 5, 4, 5)) == 2, "too far for the instruction's field"


def test_transfers_of_a_run() -> None:
    run = Run(3, 10, 2, 20, 30)
    load, store = run.load(), run.store(8)
    assert (load.memory, load.sram_base) == (Memory.INP, 3) and (store.memory, store.sram_base) == (Memory.OUT, 8)
    for transfer in (load, store):
        assert (transfer.dram_base, transfer.y_size, transfer.x_size, transfer.x_stride) == (10, 2, 20, 30)


def padded_source(layer: ConvLayer) -> tuple[State, NDArray[np.int8]]:
    """The DRAM with a random source, and the source with its padding: [blocks, rows, columns, block]."""
    source, (top, left) = layer.source, layer.parts[0].padding
    fill = source.zero_point - 128
    blocks = len(source.origins)
    pixels = np.random.default_rng(0).integers(-128, 128, (blocks, source.height, source.width, 16), dtype=np.int8)
    dram = np.full((4096, 16), fill, np.int8)
    for origin, plane in zip(source.origins, pixels, strict=True):
        for y in range(source.height):
            dram[origin + y * source.pitch : origin + y * source.pitch + source.width] = plane[y]
    padded = np.pad(pixels, ((0, 0), (top, top), (left, left), (0, 0)), constant_values=fill)
    return State(GEOMETRY, dram.view(np.uint8).reshape(-1)), padded


@pytest.mark.parametrize("zero_point", [0, 128])
@pytest.mark.parametrize("halo", [NO_PADS, (1, 1, 1, 1), (2, 0, 0, 3)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((1, 1), (1, 1), (0, 0)), ((3, 2), (2, 1), (1, 1)), ((1, 5), (1, 3), (0, 2))]
)
def test_a_tile_s_input(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], halo: Pads, zero_point: int
) -> None:
    """At every corner, in the middle and all of it; then the taps of every output lie where offsets says."""
    layer = conv_layer((9, 11), 20, (16,), kernel, stride, padding, zero_point=zero_point, halo=halo)
    state, padded = padded_source(layer)
    window = Window.of(layer, layer.parts)
    bottom, right = layer.height - 2, layer.width - 2
    tiles = [(0, 2, 0, 2), (0, 2, right, 2), (bottom, 2, 0, 2), (bottom, 2, right, 2), (1, 1, 1, 2)]
    for row, rows, column, columns in [*tiles, (0, layer.height, 0, layer.width)]:
        for load in window.loads(row, rows, column, columns):
            assert load.problem(GEOMETRY) is None
            load.execute(state)
        height, width = window.rows(rows), window.columns(columns)
        count = window.elements(rows, columns)
        expected = padded[:, row * stride[0] :, column * stride[1] :][:, :height, :width]
        np.testing.assert_array_equal(state.inp[:count].reshape(2, height, width, 16), expected)
        offsets = window.offsets(layer.parts[0], rows, columns)
        for y in range(rows):
            for x in range(columns):
                taps = state.inp[y * stride[0] * width + x * stride[1] + offsets]
                patch = expected[:, y * stride[0] :, x * stride[1] :][:, : kernel[0], : kernel[1]]
                np.testing.assert_array_equal(taps, patch.transpose(1, 2, 0, 3).reshape(-1, 16))


def test_padding_that_lies_in_dram_is_not_made() -> None:
    for halo, padded in ((NO_PADS, True), ((1, 1, 1, 1), False)):
        layer = conv_layer((9, 11), 20, (16,), (3, 3), padding=(1, 1), halo=halo)
        loads = Window.of(layer, layer.parts).loads(0, layer.height, 0, layer.width)
        assert any(any(load.pads) for load in loads) == padded


def test_too_wide_padding() -> None:
    layer = conv_layer((9, 11), 16, (16,), (17, 17), padding=(16, 16))
    with pytest.raises(UnsupportedError, match="padding of more than 15 pixels on one side is not supported"):
        Window.of(layer, layer.parts).loads(0, 1, 0, 1)


def test_convolutions_side_by_side_share_a_window() -> None:
    """A 1x1 beside a padded 3x3 begins in the middle of its window."""
    wide = conv_layer((9, 11), 16, (16,), (3, 3), padding=(1, 1))
    narrow = conv_layer((9, 11), 16, (16,))
    window = Window.of(wide, [*narrow.parts, *wide.parts])
    assert (window.top, window.left, window.height, window.width) == (1, 1, 3, 3)
    assert window.offsets(narrow.parts[0], 2, 2).tolist() == [4 + 1]
    assert window.offsets(wide.parts[0], 2, 2).tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]
