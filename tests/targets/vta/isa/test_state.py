"""What the reference bodies work on."""

import numpy as np
import pytest

from squeezeedge.errors import UnsupportedError
from squeezeedge.targets.vta.isa.encoding import MAX_SHIFT
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.state import State


@pytest.fixture
def state() -> State:
    return State(Geometry(), np.zeros(1024, np.uint8), {Memory.INP: 512})


def test_elements_in_dram_are_a_view(state: State) -> None:
    state.dram_elements(Memory.INP, 2, 3)[1] = 7
    np.testing.assert_array_equal(state.dram.nonzero()[0], 512 + 3 * 16 + np.arange(16))
    assert state.dram_elements(Memory.WGT, 0, 4).shape == (4, 256), "a memory without a base begins at 0"


def test_elements_outside_of_the_dram(state: State) -> None:
    state.dram_elements(Memory.INP, 30, 2)
    with pytest.raises(UnsupportedError, match=r"inp elements 30\.\.32 are outside of the DRAM"):
        state.dram_elements(Memory.INP, 30, 3)


def test_memories_are_rings(state: State) -> None:
    depth = Geometry().depth(Memory.ACC)
    raw = np.arange(3 * 64).astype(np.uint8).reshape(3, 64)
    state.write(Memory.ACC, depth - 1, raw)
    np.testing.assert_array_equal(state.acc[[depth - 1, 0, 1]], raw.view("<i4"))
    assert not state.acc[2 : depth - 1].any()


def test_a_weight_is_a_matrix(state: State) -> None:
    state.write(Memory.WGT, 5, np.arange(256).astype(np.uint8)[None])
    assert (state.wgt[5, 2, 3], state.wgt[5, 15, 15]) == (35, -1)  # output channel, input channel


def test_a_parameter_is_biases_and_then_shifts(state: State) -> None:
    biases = np.arange(16, dtype="<i4") - 8
    shifts = np.arange(16, dtype=np.uint8) + 16 * 5
    state.write(Memory.PAR, 3, np.concatenate([biases.view(np.uint8), shifts])[None])
    np.testing.assert_array_equal(state.bias[3], biases)
    np.testing.assert_array_equal(state.shift[3], shifts & MAX_SHIFT)
