"""Bit-exactness with the oracle: every instruction set, random graphs and real topologies; what is refused."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE, Add, Conv, IntegerGraph, rules
from squeezeedge.graph.oracle import run
from squeezeedge.targets.cpu import TARGET, CpuOptions
from squeezeedge.targets.cpu.lower import CpuLowered
from tests.graphs import TOPOLOGIES, GraphBuilder, integer_graphs, random_images, squeezenet_graph
from tests.targets.cpu.conftest import Runner


@pytest.mark.slow
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=integer_graphs())
def test_random_graphs(graph: IntegerGraph, isa: str, run_graph: Runner) -> None:
    """The number of threads changes nothing."""
    images = random_images(graph, 3, 0)
    np.testing.assert_array_equal(run_graph(graph, images, isa, 1, 3), [run(graph, images)] * 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_topologies(name: str, run_graph: Runner) -> None:
    """One of them at full size, where the maps are large enough to be divided among threads by rows."""
    full = name == "squeezenet1_1"
    graph = squeezenet_graph(name, (224, 224) if full else (75, 64), 1000 if full else 13)
    images = random_images(graph, 2, 1)
    np.testing.assert_array_equal(run_graph(graph, images, "auto", 2)[0], run(graph, images))


def test_nothing_is_written_or_linked_before_write(two_layers: IntegerGraph, lowered: CpuLowered) -> None:
    """The machine code is made already: what LLVM does not take is an error of ``lower``."""
    (variant,) = lowered.variants
    assert variant.machine_code.startswith(b"\x7fELF") and lowered.interface.shape == two_layers.input_shape
    assert variant.plan.constants.nbytes >= sum(node.weight.nbytes for node in two_layers.convolutions)


def test_shifts_beyond_int32_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_SHIFT", 33)
    builder = GraphBuilder(np.random.default_rng(0), (5, 5))
    first, second = (builder.conv(IMAGE, 4, name=name) for name in ("a", "b"))
    builder.add(first, second, name="sum")
    operand, _, added = builder.nodes
    assert isinstance(operand, Conv) and isinstance(added, Add)
    added.shift[:] += 33 - added.shift.max()
    added.scale[:] = operand.scale * np.exp2(added.shift[0].astype(np.float32))
    with pytest.raises(UnsupportedError, match="sum: shift 33, the CPU's kernels shift by at most 30"):
        TARGET.lower(builder.finish("sum", 3), CpuOptions(isa="generic"))


def test_other_zero_points_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "ZERO_POINTS", (0, 100, 128))
    builder = GraphBuilder(np.random.default_rng(0), (5, 5))
    graph = builder.finish(builder.conv(IMAGE, 4, zero_point=100, name="conv"), 3)
    with pytest.raises(UnsupportedError, match="conv: zero point 100, the CPU's kernels narrow to 0 and 128 only"):
        TARGET.lower(graph, CpuOptions(isa="generic"))
