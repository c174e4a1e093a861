"""Shifts: what the integer graph allows and what the accelerator can do are two limits."""

from dataclasses import replace

import numpy as np
import pytest

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE, Add, Conv, IntegerGraph, oracle, rules
from squeezeedge.targets.vta.isa.encoding import INSTRUCTION_SETS, MAX_SHIFT, InstructionSet
from tests.graphs import GraphBuilder
from tests.targets.vta.lower.test_compiler import build, check


def network(conv_shift: int, add_shift: int) -> IntegerGraph:
    """A convolution with one shift in every channel, and an addition whose first operand has one."""
    builder = GraphBuilder(np.random.default_rng(conv_shift), (9, 8))
    first = builder.conv(IMAGE, 20, (3, 3), (1, 1), (1, 1, 1, 1), name="first")
    node = builder.nodes[-1]
    assert isinstance(node, Conv)
    node.shift[:] = conv_shift
    node.weight[:] = builder.rng.integers(-127, 128, node.weight.shape)
    node.bias[:] = 200 << conv_shift
    node.scale[:] = 1
    second = builder.conv(IMAGE, 20, name="second")
    other = builder.nodes[-1]
    assert isinstance(other, Conv)
    other.scale[:] = 2.0**add_shift
    shift = np.stack([np.full(20, add_shift), np.zeros(20)]).astype(np.uint8)
    builder.nodes.append(Add("sum", (first, second), shift, 0, other.scale))
    builder.tensors["sum"] = replace(builder.tensors[second], scale=other.scale)
    values = oracle_values(builder)
    builder.values.update(values)
    return builder.finish("sum", 5)


def oracle_values(builder: GraphBuilder) -> dict[str, np.ndarray]:
    values = {IMAGE: builder.values[IMAGE]}
    for node in builder.nodes:
        values[node.name] = oracle.apply(node, [values[name] for name in node.inputs], builder.tensors)
    return values


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
@pytest.mark.parametrize("limit", [8, 15, 18])
def test_shifts_up_to_the_limit_of_the_rules(
    limit: int, instructions: InstructionSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MAX_SHIFT", limit)
    for conv_shift, add_shift, refused in (
        (min(limit, MAX_SHIFT), min(limit, MAX_SHIFT), None),
        (limit, 3, "first"),
        (3, limit, "sum"),
    ):
        graph = network(conv_shift, add_shift)
        if limit <= MAX_SHIFT or refused is None:
            check(graph, build(graph, instructions))
        else:
            expected = f"^{refused}: a shift of {limit}; the accelerator's has 4 bits, so 15 at most; quantize again"
            with pytest.raises(UnsupportedError, match=expected):
                build(graph, instructions)
    with pytest.raises(UnsupportedError, match=r"first: shift above"):
        network(limit + 1, 0)
