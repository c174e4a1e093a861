"""Results in DRAM against the layers: one that is missing, wrong, or of no tensor; layers of another network."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.graph import IMAGE, Conv
from squeezeedge.targets.vta.isa.encoding import INSTRUCTION_SETS, InstructionSet
from squeezeedge.targets.vta.lower.layers import AddLayer, ConvLayer
from squeezeedge.targets.vta.verify.layers import Mismatch, check_layers
from squeezeedge.targets.vta.verify.machine import Machine
from squeezeedge.targets.vta.verify.program import VerificationError, verify
from squeezeedge.targets.vta.verify.symbols import Symbols
from squeezeedge.targets.vta.verify.tokens import trace
from tests.graphs import GraphBuilder, random_graph
from tests.targets.vta.compiled import SMALL, build_with_layers, layers_of, legal, small

BOTH = ["extended", pytest.param("published", marks=pytest.mark.slow)]


@cache
def after_a_run(instructions: InstructionSet) -> tuple[Symbols, NDArray[np.bool_]]:
    """The DRAM of :func:`small` in symbols, and where the program stores."""
    program, _ = small(instructions)
    code = program.decoded()
    steps = trace(code)
    machine = Machine(program, steps)
    for number in steps.order:
        machine.execute(number, code[number])
    return machine.dram.symbol, machine.dram.written > 0


def first_cells(instructions: InstructionSet) -> dict[int, int]:
    """For each layer but the head: an element of its result, in DRAM."""
    program, layers = small(instructions)
    arena = program.bases["inp"] // program.geometry.block
    cells = {}
    for index, layer in enumerate(layers.layers[:-1]):
        target = layer.target if isinstance(layer, AddLayer) else layer.parts[-1].target
        assert target is not None
        cells[index] = arena + target.origins[-1] + target.pitch * (target.height - 1) + target.width - 1
    return cells


@pytest.mark.slow
@pytest.mark.parametrize("instructions", BOTH)
def test_an_element_of_each_layer(instructions: InstructionSet) -> None:
    """Whatever the layer makes: the first layer that is wrong is named, not one that reads it."""
    program, layers = small(instructions)
    symbols, written = after_a_run(instructions)
    check_layers(program, layers, symbols, written)
    for index, cell in first_cells(instructions).items():
        changed = symbols.copy()
        changed[cell] += np.uint64(1)
        with pytest.raises(Mismatch, match="stores what is not the layer's result") as caught:
            check_layers(program, layers, changed, written)
        assert (caught.value.layer, caught.value.cell) == (index, cell)
        missing = written.copy()
        missing[cell] = False
        with pytest.raises(Mismatch, match="an element of its result is never stored") as caught:
            check_layers(program, layers, symbols, missing)
        assert (caught.value.layer, caught.value.cell) == (index, cell)


@pytest.mark.parametrize("instructions", BOTH)
def test_the_class_sums(instructions: InstructionSet) -> None:
    program, layers = small(instructions)
    symbols, written = after_a_run(instructions)
    cell = program.region(program.sums.region).offset // program.geometry.block
    changed = symbols.copy()
    changed[cell] += np.uint64(1)
    with pytest.raises(Mismatch, match="stores what is not the layer's result") as caught:
        check_layers(program, layers, changed, written)
    assert (caught.value.layer, caught.value.cell) == (len(layers.layers) - 1, cell)


@pytest.mark.parametrize("instructions", BOTH)
def test_a_store_beside_the_tensors(instructions: InstructionSet) -> None:
    program, layers = small(instructions)
    symbols, written = after_a_run(instructions)
    cell = next(region for region in program.regions if region.writer == "host").offset // program.geometry.block
    stray = written.copy()
    stray[cell] = True
    with pytest.raises(Mismatch, match="stores to padding or to no tensor at all") as caught:
        check_layers(program, layers, symbols, stray)
    assert caught.value.cell == cell


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_another_block_of_the_source(instructions: InstructionSet) -> None:
    """Which blocks a depthwise convolution reads is part of its meaning."""
    builder = GraphBuilder(np.random.default_rng(0), (4, 5))
    value = builder.conv(builder.conv(IMAGE, 40), 40, (3, 3), (1, 1), (1, 1, 1, 1), groups=40, name="depthwise")
    program, layers = build_with_layers(builder.finish(value, 3), instructions, SMALL)
    verify(program, layers)
    layer = layers.layers[1]
    assert isinstance(layer, ConvLayer) and layer.parts[0].first == (0, 1, 2)
    other = replace(layer, parts=(replace(layer.parts[0], first=(0, 2, 2)),))
    changed = replace(layers, layers=(layers.layers[0], other, *layers.layers[2:]))
    with pytest.raises(VerificationError, match=r"\(layer depthwise, \w+\): stores what is not the layer's result"):
        verify(program, changed)


@pytest.mark.slow
@pytest.mark.parametrize("instructions", BOTH)
def test_another_networks_layers_do_not_fit(instructions: InstructionSet) -> None:
    """Rule 6 looks at every constant: one weight, bias or shift that differs is a different network."""
    program, _ = small(instructions)
    graph = legal(random_graph(19))
    convolution = next(node for node in graph.nodes if isinstance(node, Conv))
    for array in (convolution.weight, convolution.bias, convolution.shift):
        array.flat[0] = array.flat[0] ^ 1
        layers = layers_of(graph, instructions, SMALL)
        with pytest.raises(VerificationError, match=r"instruction \d+ \(layer .*, \w+\): stores what is not the layer"):
            verify(program, layers)
        array.flat[0] = array.flat[0] ^ 1
