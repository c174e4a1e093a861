"""Graphs compiled for the accelerator, and what they answer on its simulator."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from squeezeedge.graph import IntegerGraph, oracle
from squeezeedge.lower.legalize import legalize
from squeezeedge.lower.patterns import partition
from squeezeedge.lower.relax_module import to_relax
from squeezeedge.lower.stages import Stage, stages
from squeezeedge.targets.vta import TARGET
from squeezeedge.targets.vta.isa.encoding import InstructionSet
from squeezeedge.targets.vta.isa.geometry import Geometry, load_config
from squeezeedge.targets.vta.isa.program import VtaProgram
from squeezeedge.targets.vta.lower.byoc import lower_graph
from squeezeedge.targets.vta.lower.compiler import FUSIONS, compile_program
from squeezeedge.targets.vta.lower.layers import Layers
from squeezeedge.targets.vta.lower.lowering import to_layers
from squeezeedge.targets.vta.sim.simulator import Registers, Report, Simulator
from tests.graphs import random_graph, random_images

DEFAULT = Geometry()
SMALL = Geometry(inp_buffer=1 << 13, wgt_buffer=1 << 16, acc_buffer=1 << 15, uop_buffer=1 << 12, par_entries=32)
BLOCK32 = load_config("zcu104-block32").geometry


@cache
def simulator(geometry: Geometry) -> Simulator:
    return Simulator(geometry)


def legal(graph: IntegerGraph) -> IntegerGraph:
    """Of what the target supports."""
    return legalize(graph, TARGET.supports)


def build(graph: IntegerGraph, instructions: InstructionSet, geometry: Geometry = DEFAULT) -> VtaProgram:
    return lower_graph(legal(graph), geometry, instructions).program


def stages_of(graph: IntegerGraph) -> Sequence[Stage]:
    """Of a legalized graph: what compile_program takes, for any geometry."""
    return stages(partition(to_relax(graph), FUSIONS), graph)


def layers_of(graph: IntegerGraph, instructions: InstructionSet, geometry: Geometry = DEFAULT) -> Layers:
    """What the compiler makes instructions of."""
    return to_layers(stages_of(legal(graph)), geometry.block, halos=instructions == "published")


def build_with_layers(
    graph: IntegerGraph, instructions: InstructionSet, geometry: Geometry
) -> tuple[VtaProgram, Layers]:
    """The program, which compile_program has verified, and the layers it comes from."""
    parts = stages_of(legal(graph))
    layers = to_layers(parts, geometry.block, halos=instructions == "published")
    return compile_program(parts, geometry, instructions), layers


@cache
def small(instructions: InstructionSet) -> tuple[VtaProgram, Layers]:
    """One network in the small geometry; nobody changes it."""
    return build_with_layers(random_graph(19), instructions, SMALL)


def check(graph: IntegerGraph, program: VtaProgram, count: int = 2) -> Report:
    """One image after the other in the same DRAM, as a board does it."""
    images = random_images(graph, count, 0)
    host, dram = program.host(), np.zeros(program.dram_bytes, np.uint8)
    host.load(dram)
    for image, expected in zip(images, oracle.run(graph, images), strict=True):
        host.pack(image, dram)
        report = simulator(program.geometry).run(dram, Registers(**program.registers()))
        np.testing.assert_array_equal(host.result(dram), expected)
    return report
