"""Networks in published instructions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.published import Alu, AluOp, Store
from tests.graphs import GraphBuilder
from tests.targets.vta.compiled import BLOCK32, DEFAULT, SMALL, build, check


def network(zero_point: int) -> IntegerGraph:
    """Pooling, addition, a reduction over several blocks."""
    made = GraphBuilder(np.random.default_rng(zero_point), (9, 8))
    first = made.conv(IMAGE, 40, (3, 3), padding=(1, 1, 1, 1), zero_point=zero_point)
    pooled = made.pool(first, (3, 2), (2, 1))
    branch = made.conv(pooled, 40, (3, 3), padding=(1, 1, 1, 1), zero_point=zero_point)
    return made.finish(made.add(pooled, branch, zero_point), 5)


@pytest.mark.parametrize(
    ("geometry", "zero_point"), [(DEFAULT, 0), (SMALL, 128), (BLOCK32, 128)], ids=["default", "small", "block32"]
)
def test_every_kind_of_layer(geometry: Geometry, zero_point: int) -> None:
    graph = network(zero_point)
    program = build(graph, "published", geometry)
    assert not any(instruction.is_extended for instruction in program.decoded())
    check(graph, program)


def test_the_sums_are_stored_byte_by_byte() -> None:
    """Four stores of the same accumulators around shifts by 8, one plane of bytes behind the other."""
    program = build(network(0), "published")
    code = program.decoded()
    stores = [i for i in code if isinstance(i, Store)][-4:]
    assert len({store.sram_base for store in stores}) == 1
    assert np.diff([store.dram_base for store in stores]).tolist() == [1, 1, 1]
    shifts = [i for i in code if isinstance(i, Alu) and i.op is AluOp.SHR and i.use_imm][-3:]
    assert [shift.imm for shift in shifts] == [8, 8, 8]
    assert program.sums.planes == 4


def test_micro_ops_that_do_not_fit_at_once() -> None:
    graph = network(0)
    geometry = replace(DEFAULT, uop_buffer=1 << 8)
    program = build(graph, "published", geometry)
    assert len(program.micro_ops()) > geometry.depth(Memory.UOP) == 64
    check(graph, program)
