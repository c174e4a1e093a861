"""Where the cycles of a run go: a share for every layer, and the unit that limits it.

Layers overlap: while one computes, the next one's weights are loaded and the last one's results are stored. A run's
cycles are therefore divided along the compute module, which works in order. Each of its instructions gives its layer
the cycles from the end of the instruction before to its own end, waits included. The cycles after the last instruction,
for its stores, belong to the last layer. The shares add up to the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np

from squeezeedge.targets.protocol import Column, LayerProfile
from squeezeedge.targets.vta.isa.encoding import Instruction, Module, Unit
from squeezeedge.targets.vta.isa.program import VtaProgram
from squeezeedge.targets.vta.sim.simulator import Report, Timing

__all__ = ["COLUMNS", "UNITS", "layer_profiles"]

UNITS: tuple[Unit, ...] = get_args(Unit)
"""In the order of a layer's record."""

COLUMNS = (Column("bound", "bound"), Column("busy", "busy %", 100), *(Column(unit, unit) for unit in UNITS))
"""The unit that is busy longest with a layer, for what share of the layer's cycles, and the cycles of every unit."""


def layer_profiles(
    program: VtaProgram, instructions: Sequence[Instruction], report: Report, timing: Timing
) -> list[LayerProfile]:
    """A profile for every layer.

    Args:
        program: what was run.
        instructions: its instructions.
        report: of the run.
        timing: with which it was run.
    """
    owners = program.instruction_layers
    compute = np.array([instruction.module is Module.COMPUTE for instruction in instructions])
    ends = report.events[:, 2].astype(np.int64)
    cycles = np.bincount(owners[compute], np.diff(ends[compute], prepend=0), len(program.layers)).astype(np.int64)
    cycles[owners[compute][-1]] += report.cycles - int(ends[compute][-1])
    busy = np.zeros((len(UNITS), len(program.layers)), np.int64)
    moved = np.zeros(len(program.layers), np.int64)
    for instruction, owner, (_, start, end) in zip(instructions, owners, report.events.tolist(), strict=True):
        if instruction.unit is not None:  # the array is busy for its steps, the others all the time
            share = instruction.steps if instruction.unit == "gemm" else end - start
            busy[UNITS.index(instruction.unit), owner] += share
        moved[owner] += instruction.bytes_moved(program.geometry)
    busy[UNITS.index("dram")] = -(-moved // timing.bytes_per_cycle)
    profiles = []
    for index, layer in enumerate(program.layers):
        own = int(cycles[index])
        shares: dict[str, int] = {unit: int(busy[row, index]) for row, unit in enumerate(UNITS)}
        bound = max(UNITS, key=lambda unit: shares[unit])
        figures = {"bound": bound, "busy": shares[bound] / max(own, 1), **shares}
        profiles.append(LayerProfile(layer.name, layer.macs, own, int(moved[index]), figures))
    return profiles
