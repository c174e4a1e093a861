"""The launches of a whole network: what is fused, what is copied, what lies where."""

import re
from collections.abc import Callable

import numpy as np
import pytest

from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.graph.oracle import execute
from squeezeedge.targets.cuda.isa import INSTRUCTION_SETS
from squeezeedge.targets.cuda.lower import graph_launches
from squeezeedge.targets.cuda.module import plan_launches
from tests.graphs import GraphBuilder, random_images, squeezenet_graph
from tests.targets.cuda.emulation import LoopTracer


def test_launches(golden: Callable[[str, str], None]) -> None:
    """SqueezeNet 1.1: poolings in the convolutions that follow them, both halves of a fire side by side."""
    lines = [f"{'kernel':28}{'blocks':>7}{'shared':>7}{'in':>8}{'weights':>8}{'out':>8}{'MMAC':>7}"]
    for kernel in (launch.kernel for launch in graph_launches(squeezenet_graph("squeezenet1_1"))):
        constants = sum(array.nbytes for array in kernel.constants)
        sizes = f"{kernel.blocks:7}{kernel.shared * 4:7}{sum(kernel.inputs):8}{constants:8}{kernel.out[0]:8}"
        lines.append(f"{kernel.name:28}{sizes}{kernel.macs / 1e6:7.1f}")
    golden("squeezenet1_1.txt", "\n".join([*lines, ""]))


def test_only_what_a_pooling_allows_is_fused(every_kernel: IntegerGraph) -> None:
    """The pooling of the image, whose result is read by others too, is a kernel; the one before a 1x1 is not."""
    names = [launch.kernel.name.partition("_")[2] for launch in graph_launches(every_kernel)]
    assert names.count("max_pool") == 1


def test_every_tensor_is_made_before_it_is_read(every_kernel: IntegerGraph) -> None:
    made = {IMAGE}
    for launch in graph_launches(every_kernel):
        assert made.issuperset(launch.inputs) and launch.out not in made
        made.add(launch.out)
    assert launch.out == every_kernel.head.name


def test_a_node_may_be_called_like_what_is_made_here() -> None:
    """No node's name is that of the copied image, which a pooling reads."""
    builder = GraphBuilder(np.random.default_rng(0), (6, 6))
    conv = builder.conv(IMAGE, 3, name=f"{IMAGE}.copy")
    pool = builder.pool(IMAGE, (1, 1), (1, 1))
    launches = graph_launches(builder.finish(builder.concat([conv, pool]), 3))
    names = [launch.out for launch in launches]
    assert len(set(names)) == len(names) and sum(not name.isprintable() for name in names) == 1


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_the_plan_is_the_same_for_every_instruction_set(every_kernel: IntegerGraph, isa: str) -> None:
    launches = graph_launches(every_kernel)
    plan = plan_launches(launches, INSTRUCTION_SETS[isa], 13 * 11 * 3)
    other = plan_launches(launches, next(iter(INSTRUCTION_SETS.values())), 13 * 11 * 3)
    assert (plan.calls, plan.workspace) == (other.calls, other.workspace)
    expected = [array for launch in launches for array in launch.kernel.constants]
    places = [argument for call in plan.calls for argument in call.arguments if argument.place == "constants"]
    for array, place in zip(expected, places, strict=True):
        held = plan.constants[place.offset : place.offset + array.nbytes].view(place.dtype)
        np.testing.assert_array_equal(held, array)


@pytest.mark.slow
def test_every_tensor_is_found_where_a_kernel_leaves_it(every_kernel: IntegerGraph) -> None:
    """Convolutions side by side, pixels that are filled up; a pooling that another kernel does is told."""
    (image,) = random_images(every_kernel, 1, 3)
    tracer, expected = LoopTracer(every_kernel), dict(execute(every_kernel, image))
    found = dict(tracer.trace(image))
    assert found.keys() | tracer.unseen().keys() == expected.keys() and not found.keys() & tracer.unseen().keys()
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], name)
    ((pooled, why),) = tracer.unseen().items()
    assert pooled in expected and re.fullmatch("it is pooled while conv[0-9]+ loads its input", why)
