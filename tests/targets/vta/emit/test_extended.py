"""Networks in extended instructions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE
from squeezeedge.targets.vta.isa.extended import Epilogue, XAdd, XGemm, XPool
from squeezeedge.targets.vta.isa.geometry import Memory
from squeezeedge.targets.vta.isa.published import Store
from tests.graphs import GraphBuilder
from tests.targets.vta.compiled import SMALL, build, check


def builder(size: tuple[int, int] = (9, 8)) -> GraphBuilder:
    return GraphBuilder(np.random.default_rng(0), size)


def test_a_layer_that_fits_is_one_instruction() -> None:
    """Convolution, pooling on the way to DRAM, addition, sums over the map."""
    made = builder()
    first = made.conv(IMAGE, 16)
    pooled = made.pool(first, (2, 2), (1, 1))
    branch = made.conv(pooled, 16, (3, 3), padding=(1, 1, 1, 1))
    graph = made.finish(made.add(pooled, branch), 5)
    program = build(graph, "extended")
    code = program.decoded()
    gemms = [instruction for instruction in code if isinstance(instruction, XGemm)]
    assert {gemm.epilogue for gemm in gemms} == {Epilogue.OUT, Epilogue.SUM}
    assert len([i for i in code if isinstance(i, XPool)]) >= 1 and len([i for i in code if isinstance(i, XAdd)]) >= 1
    sums = [i for i in code if isinstance(i, Store) and i.memory == Memory.ACC]
    assert len(sums) == 1 and sums[0].x_size == 1
    check(graph, program)


def test_a_head_with_a_larger_map_than_the_accumulators() -> None:
    """Its sums are made in several instructions."""
    graph = GraphBuilder(np.random.default_rng(0), (9, 8)).finish(IMAGE, 10)
    check(graph, build(graph, "extended", replace(SMALL, acc_buffer=1 << 11)))


WIDE: dict[str, Callable[[GraphBuilder], str]] = {
    "column stride 8, at most 7": lambda made: made.conv(made.conv(IMAGE, 4), 4, (1, 1), (1, 8)),
    "pooling kernels, strides and padding up to 7": lambda made: made.pool(made.conv(IMAGE, 4), (8, 2), (1, 1)),
}


@pytest.mark.parametrize("text", WIDE)
def test_fields_that_are_too_narrow(text: str) -> None:
    """The published instructions have loops for it, as the message says."""
    made = builder((18, 18))
    graph = made.finish(WIDE[text](made), 3)
    with pytest.raises(UnsupportedError, match=f"{text}.*use `instructions` published"):
        build(graph, "extended")
    check(graph, build(graph, "published"))
