"""Whole networks: compiled, run on the simulator, compared with the oracle bit for bit."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE, Conv, IntegerGraph, oracle, rules
from squeezeedge.targets.vta.isa.encoding import INSTRUCTION_SETS, InstructionSet
from squeezeedge.targets.vta.lower.compiler import compile_program
from squeezeedge.targets.vta.sim.simulator import Registers
from tests.graphs import TOPOLOGIES, GraphBuilder, integer_graphs, random_graph, random_images, squeezenet_graph
from tests.targets.vta.compiled import BLOCK32, DEFAULT, SMALL, build, check, legal, simulator, stages_of
from tests.targets.vta.efficientnet import efficientnet_lite0

GEOMETRIES = (DEFAULT, SMALL, BLOCK32)
ARTIFACT_LIMIT = 4 << 20


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graph=integer_graphs())
@example(graph=random_graph(3858, blocks=3, max_channels=1))  # two equal concatenations
def test_random_graphs_are_bit_exact(graph: IntegerGraph) -> None:
    graph = legal(graph)
    parts, done = stages_of(graph), 0
    for geometry, instructions in itertools.product(GEOMETRIES, INSTRUCTION_SETS):
        try:
            program = compile_program(parts, geometry, instructions)
        except UnsupportedError as error:
            assert re.search(r"one (output|window) .* memory|accumulators", str(error))
            continue  # a layer that really is too large for it
        check(graph, program)
        done += 1
    assert done


@st.composite
def grouped_graphs(draw: st.DrawFn) -> IntegerGraph:
    """Depthwise and grouped convolutions in a row, perhaps of a concatenation or with a pooling behind."""
    size = draw(st.sampled_from([(8, 8), (13, 17), (24, 9)]))
    builder = GraphBuilder(np.random.default_rng(draw(st.integers(0, 999))), size)
    zero_points = st.sampled_from(rules.ZERO_POINTS)
    channels = draw(st.integers(1, 70))
    value = builder.conv(IMAGE, channels, zero_point=draw(zero_points))
    if draw(st.booleans()):
        value = builder.concat([value, builder.conv(IMAGE, 20, zero_point=builder.tensors[value].zero_point)])
    for _ in range(draw(st.integers(1, 2))):
        tensor = builder.tensors[value]
        kernels = [(1, 1), (3, 3), (5, 5), (7, 7), (2, 5), (tensor.height, tensor.width)]
        kernel = draw(st.sampled_from([k for k in kernels if k <= (8, 8) or k[0] * k[1] <= 81]))
        top, left, bottom, right = (draw(st.integers(0, min(k - 1, 3))) for k in (*kernel, *kernel))
        pads = (top, left, bottom, right)
        if kernel[0] > tensor.height + pads[0] + pads[2] or kernel[1] > tensor.width + pads[1] + pads[3]:
            kernel, pads = (1, 1), (0, 0, 0, 0)
        counts = [count for count in range(2, tensor.channels + 1) if tensor.channels % count == 0] or [1]
        groups = tensor.channels if draw(st.booleans()) else draw(st.sampled_from(counts))
        out = groups * draw(st.integers(1, max(1, 80 // groups)) if groups < tensor.channels else st.just(1))
        stride = draw(st.sampled_from([(1, 1), (2, 2), (1, 3)]))
        value = builder.conv(value, out, kernel, stride, pads, draw(zero_points), groups=groups)
    tensor = builder.tensors[value]
    if min(tensor.height, tensor.width) > 2 and draw(st.booleans()):
        value = builder.pool(value)
    groups = builder.tensors[value].channels if draw(st.integers(0, 3)) == 0 else 1
    return builder.finish(value, groups if groups > 1 else 10, groups=groups)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graph=grouped_graphs())
def test_grouped_convolutions_are_bit_exact(graph: IntegerGraph) -> None:
    parts = stages_of(graph)
    for geometry, instructions in itertools.product(GEOMETRIES, INSTRUCTION_SETS):
        check(graph, compile_program(parts, geometry, instructions))


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_a_depthwise_convolution_is_the_diagonals(instructions: InstructionSet) -> None:
    """As many matrices as the array has to multiply by: neither more weights nor more steps."""
    builder = GraphBuilder(np.random.default_rng(0), (9, 8))
    value = builder.conv(IMAGE, 64, zero_point=128)
    value = builder.conv(value, 64, (5, 5), (1, 1), (2, 2, 2, 2), groups=64)
    graph = builder.finish(value, 10)
    program = build(graph, instructions)
    matrices = 4 * 1 + 4 * 25 + 4 * 1
    assert program.region("wgt").size == matrices * 16 * 16
    assert check(graph, program, 1).gemm_steps == 9 * 8 * matrices


@pytest.mark.slow
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_efficientnet_is_bit_exact(instructions: InstructionSet) -> None:
    graph = efficientnet_lite0(64, 10)
    program = build(graph, instructions)
    assert sum(layer.macs for layer in program.layers) == graph.macs
    check(graph, program, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_topologies_are_bit_exact(name: str) -> None:
    graph = legal(squeezenet_graph(name, 96 if name == "resnet18" else 64, 10))
    parts = stages_of(graph)
    for instructions in INSTRUCTION_SETS:
        program = compile_program(parts, DEFAULT, instructions)
        assert len(program.layers) > 10
        check(graph, program, 1)


@pytest.mark.slow
def test_utilization_of_an_imagenet_network() -> None:
    graph = squeezenet_graph("squeezenet1_1", 224)
    targets: dict[InstructionSet, float] = {"extended": 0.90, "published": 0.38}
    for instructions, target in targets.items():
        program = build(graph, instructions)
        report = check(graph, program, 1)
        assert sum(layer.macs for layer in program.layers) == graph.macs
        assert graph.macs / 256 / report.cycles >= target
        assert len(program.image) <= ARTIFACT_LIMIT


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_extreme_accumulators_saturate(instructions: InstructionSet) -> None:
    """The offset of signed storage must not wrap an accumulator at the end of int32."""
    builder = GraphBuilder(np.random.default_rng(0), (6, 6))
    name = builder.conv(IMAGE, 16)
    node = builder.nodes[-1]
    assert isinstance(node, Conv)
    node.weight[:] = 0
    node.shift[:] = 0
    node.bias[:] = np.resize([1 - 2**31, 2**31 - 1, 0, -1, 127, 128, 255, 256], 16)
    builder.values[name] = oracle.apply(node, [builder.values[IMAGE]], builder.tensors).astype(np.uint8)
    graph = builder.finish(name, 5)
    check(graph, build(graph, instructions))


@pytest.mark.slow
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_program_runs_at_any_address(instructions: InstructionSet) -> None:
    graph = random_graph(3)
    program, address = build(graph, instructions), 4096
    dram = np.full(address + program.dram_bytes, 0x55, np.uint8)
    own = dram[address:]
    host = program.host()
    host.load(own)
    image = random_images(graph, 1, 1)[0]
    host.pack(image, own)
    simulator(DEFAULT).run(dram, Registers(**program.registers(address)))
    np.testing.assert_array_equal(host.result(own), oracle.run(graph, image[None])[0])
    assert (dram[:address] == 0x55).all()


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_geometry_that_is_too_small(instructions: InstructionSet) -> None:
    builder = GraphBuilder(np.random.default_rng(0), (9, 9))
    name = builder.conv(builder.conv(IMAGE, 600, name="wide"), 16, (7, 7), name="reduce")
    graph = builder.finish(name, 3)
    tiny = replace(SMALL, inp_buffer=1 << 12)
    with pytest.raises(UnsupportedError, match=r"memory.*(fit|larger)"):
        build(graph, instructions, tiny)


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_too_many_classes(instructions: InstructionSet) -> None:
    graph = GraphBuilder(np.random.default_rng(0), (4, 4)).finish(IMAGE, 40)
    with pytest.raises(UnsupportedError, match="head: 40 classes, half of the accumulator memory holds 16"):
        build(graph, instructions, replace(SMALL, acc_buffer=128))
