"""Words of micro-ops."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeezeedge.errors import UnsupportedError
from squeezeedge.targets.vta.isa.geometry import Geometry
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.words import encode_micro_ops


@given(st.integers(0, 2047), st.integers(0, 2047), st.integers(0, 1023))
def test_micro_ops(dst: int, src: int, wgt: int) -> None:
    (word,) = encode_micro_ops([MicroOp(dst, src, wgt)], Geometry())
    assert word == dst | src << 11 | wgt << 22
    assert MicroOp.decode(int(word), Geometry()) == MicroOp(dst, src, wgt)


def test_a_micro_op_outside_of_the_memory_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="wgt = 1024"):
        MicroOp(wgt=1024).encode(Geometry())


def test_the_widths_are_those_of_the_memories() -> None:
    small = Geometry(inp_buffer=1 << 13, wgt_buffer=1 << 16, acc_buffer=1 << 15)
    assert MicroOp(1, 1, 1).encode(small) == 1 | 1 << 9 | 1 << 18  # the source has the wider of two widths
    assert MicroOp.decode(1 | 1 << 9 | 1 << 18, small) == MicroOp(1, 1, 1)
