"""Results in DRAM against the layers: one that is missing, wrong, or of no tensor; layers of another network."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.graph import Conv
from squeezeedge.lower.legalize import legalize
from squeezeedge.targets.vta.isa.encoding import InstructionSet
from squeezeedge.targets.vta.lower.layers import AddLayer
from squeezeedge.targets.vta.verify.layers import Mismatch, check_layers
from squeezeedge.targets.vta.verify.machine import Machine
from squeezeedge.targets.vta.verify.program import VerificationError, verify
from squeezeedge.targets.vta.verify.symbols import Symbols
from squeezeedge.targets.vta.verify.tokens import trace
from tests.graphs import random_graph
from tests.targets.vta.compiled import SMALL, layers_of, small

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


@pytest.mark.slow
@pytest.mark.parametrize("instructions", BOTH)
def test_another_networks_layers_do_not_fit(instructions: InstructionSet) -> None:
    """Rule 6 looks at every constant: one weight, bias or shift that differs is a different network."""
    program, _ = small(instructions)
    graph = legalize(random_graph(19), ())
    convolution = next(node for node in graph.nodes if isinstance(node, Conv))
    for array in (convolution.weight, convolution.bias, convolution.shift):
        array.flat[0] = array.flat[0] ^ 1
        layers = layers_of(graph, instructions, SMALL)
        with pytest.raises(VerificationError, match=r"instruction \d+ \(layer .*, \w+\): stores what is not the layer"):
            verify(program, layers)
        array.flat[0] = array.flat[0] ^ 1
