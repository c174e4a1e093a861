"""Shifts: what the integer graph allows and what the accelerator can do are two limits."""

from __future__ import annotations

import numpy as np
import pytest

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE, IntegerGraph, rules
from squeezeedge.targets.vta.isa.encoding import INSTRUCTION_SETS, MAX_SHIFT, InstructionSet
from tests.graphs import GraphBuilder, largest_shift_graph
from tests.targets.vta.compiled import build, check


def network(first: int, second: int, total: int) -> IntegerGraph:
    """Two convolutions and the sum of their results, with these shifts in every other channel, and none larger."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "MAX_SHIFT", max(first, second, total))
        builder = GraphBuilder(np.random.default_rng(0), (9, 8))
        left = builder.conv(IMAGE, 20, (3, 3), (1, 1), (1, 1, 1, 1), shift=first, name="left")
        right = builder.conv(left, 20, shift=second, name="right")
        builder.tensors[right].scale[::2] = builder.tensors[left].scale[::2] * np.exp2(-total)
        return builder.finish(builder.add(left, right, name="total"), 5)


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
@pytest.mark.parametrize("limit", [pytest.param(8, marks=pytest.mark.slow), 18])
def test_the_limit_of_the_rules_is_another(
    limit: int, instructions: InstructionSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle's bits or a refusal, never an internal error."""
    monkeypatch.setattr(rules, "MAX_SHIFT", limit)
    most = min(limit, MAX_SHIFT)
    for shifts in ((most, 3, 3), (3, most, 3), (3, 3, most)):
        graph = network(*shifts)
        check(graph, build(graph, instructions))
    for seed in range(2):
        graph = largest_shift_graph(seed)
        if limit <= MAX_SHIFT:
            check(graph, build(graph, instructions))
        else:
            with pytest.raises(UnsupportedError, match=r"^conv0: a shift of 18;"):
                build(graph, instructions)


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
@pytest.mark.parametrize(("shifts", "layer"), [((16, 3, 3), "left"), ((3, 16, 3), "right"), ((3, 3, 16), "total")])
def test_a_shift_that_the_accelerator_lacks(
    shifts: tuple[int, int, int], layer: str, instructions: InstructionSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MAX_SHIFT", 18)
    graph = network(*shifts)
    expected = f"^{layer}: a shift of 16; the accelerator's has 4 bits, so 15 at most; quantize again .* or use another"
    with pytest.raises(UnsupportedError, match=expected):
        build(graph, instructions)
