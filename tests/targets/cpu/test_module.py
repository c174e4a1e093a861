"""The calls of a whole network: their order, names and borders."""

import numpy as np

from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.lower.call_plan import KernelCall
from squeezeedge.lower.patterns import partition
from squeezeedge.lower.relax_module import to_relax
from squeezeedge.lower.stages import stages
from squeezeedge.targets.cpu.isa import INSTRUCTION_SETS
from squeezeedge.targets.cpu.layout import Layout
from squeezeedge.targets.cpu.lower import FUSIONS
from squeezeedge.targets.cpu.module import kernel_calls
from tests.graphs import GraphBuilder, squeezenet_graph


def _calls(graph: IntegerGraph) -> list[KernelCall]:
    found = stages(partition(to_relax(graph), FUSIONS), graph)
    return kernel_calls(found, graph.input_shape, INSTRUCTION_SETS["generic"])


def test_every_tensor_is_made_before_it_is_read() -> None:
    graph = squeezenet_graph("squeezenet1_0_complex_bypass", 64, 10)
    calls = _calls(graph)
    made = {IMAGE}
    for call in calls:
        assert made.issuperset(call.inputs) and call.out not in made
        made.add(call.out)
    assert calls[-1].out == graph.head.name and calls[-1].dtype == "int32"
    symbols = [str(call.function.attrs["global_symbol"]) for call in calls]
    assert len(set(symbols)) == len(symbols) and symbols[0] == "generic_image"


def test_a_node_may_be_called_like_what_is_made_here() -> None:
    """No node's name is the bordered image's."""
    builder = GraphBuilder(np.random.default_rng(0), (6, 6))
    copy = builder.conv(IMAGE, 4, (3, 3), padding=(1, 1, 1, 1), name=f"{IMAGE}.copy")
    first = _calls(builder.finish(copy, 3))[0]
    assert first.inputs == (IMAGE,) and not first.out.isprintable()


def test_borders_are_as_wide_as_the_widest_padding() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (6, 7))
    value = builder.conv(IMAGE, 4)
    left = builder.conv(value, 5, (1, 5), padding=(0, 4, 0, 0))
    low = builder.conv(value, 5, (3, 1), padding=(0, 0, 2, 0))
    calls = _calls(builder.finish(builder.concat([left, low]), 3))
    sizes = {call.out: call.size for call in calls}
    assert sizes[value] == Layout(6, 7, 4, (0, 4, 2, 0)).size
    assert calls[0].size == Layout(6, 7, 3).size  # nobody pads the image
