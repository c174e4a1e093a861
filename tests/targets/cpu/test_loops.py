"""Tiles over an extent, and loops that are none."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tvm.script.ir_builder import tirx as T

from squeezeedge.targets.cpu.loops import clamped_tiles, lanes, loop, scratch
from tests.targets.cpu.emit import run_body


@given(extent=st.integers(1, 100), data=st.data())
def test_tiles_cover_the_extent_and_stay_inside(extent: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, extent))
    count, start = clamped_tiles(extent, size)
    starts = [int(start(T.int32(i))) for i in range(count)]
    covered = {element for first in starts for element in range(first, first + size)}
    assert covered == set(range(extent)) and count == -(-extent // size)


def test_one_iteration_is_no_loop() -> None:
    with loop(1) as i:
        assert i == 0
    assert lanes(5, 1) == 5


def test_scratch_needs_no_runtime() -> None:
    """A loop over a buffer that is indexed by its variable: it lies on the stack."""

    def body(inputs: list[object], out: object) -> None:
        held = scratch(8, "int32")
        with loop(8) as i:
            T.buffer_store(held, i * i, [i])
        with loop(8) as i:
            T.buffer_store(out, held[7 - i], [i])

    got = run_body(body, [], np.zeros(8, np.int32))
    np.testing.assert_array_equal(got, np.arange(8)[::-1] ** 2)
