"""A region of a partitioned Relax module (:mod:`.byoc`) -> one program for the accelerator.

region_stages(region) -> layers -> operations -> instructions and one image of the DRAM
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE, rules
from squeezeedge.graph.rules import Shape
from squeezeedge.lower.patterns import Pattern
from squeezeedge.lower.stages import Stage
from squeezeedge.targets.trace import Place, Trace, runs
from squeezeedge.targets.vta.device import MOST_DRAM_BYTES
from squeezeedge.targets.vta.emit.accumulators import vectors
from squeezeedge.targets.vta.emit.common import Emitter
from squeezeedge.targets.vta.emit.extended import ExtendedEmitter
from squeezeedge.targets.vta.emit.published import PublishedEmitter
from squeezeedge.targets.vta.emit.schedule import Schedule
from squeezeedge.targets.vta.isa.encoding import InstructionSet
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.program import ALIGNMENT, Layer, Region, Sums, VtaProgram
from squeezeedge.targets.vta.isa.words import encode
from squeezeedge.targets.vta.lower.layers import Layers
from squeezeedge.targets.vta.lower.lowering import to_layers
from squeezeedge.targets.vta.lower.tensors import Value
from squeezeedge.targets.vta.verify.program import verify

__all__ = ["FUSIONS", "compile_program"]

FUSIONS = (Pattern.CONVOLUTION_POOL, Pattern.CONCAT_CONVOLUTIONS)
"""What :func:`squeezeedge.lower.patterns.partition` should group for this compiler."""


def compile_program(stages: Sequence[Stage], geometry: Geometry, instructions: InstructionSet) -> VtaProgram:
    """Compile a network.

    Args:
        stages: of the region, in execution order; the head is the last.
        geometry: of the accelerator.
        instructions: which it has.

    Raises:
        UnsupportedError: the geometry can't hold a layer; the text names layer, memory and what would fit.
        VerificationError: a defect of this compiler; nothing of the program may be used.
    """
    published = instructions == "published"
    lowered = to_layers(stages, geometry.block, halos=published)
    classes = -(-lowered.classes // geometry.block)
    most = geometry.depth(Memory.ACC) // 2
    if classes > most:
        raise UnsupportedError(
            f"{stages[-1].name}: {lowered.classes} classes, half of the accumulator memory holds "
            f"{most * geometry.block}; use a configuration with a larger acc_buffer"
        )
    reserved = vectors(geometry) + classes if published else 0
    schedule = Schedule(geometry, lowered.elements + 4 * classes, wrap=not published, reserved=reserved)
    emitter: Emitter
    emitter = PublishedEmitter(geometry, schedule, classes) if published else ExtendedEmitter(geometry, schedule)
    layers = emitter.emit_all(lowered.layers)
    emitter.sums(lowered.elements, classes)
    emitter.close_micro_ops()
    program, owners = schedule.finish()
    words = encode(program, geometry, instructions).tobytes()
    constants = {memory.name.lower(): constant.data for memory, constant in emitter.constants.items()}
    compiled = _assemble(
        instructions, geometry, lowered, {"program": words, **constants}, layers, np.array(owners, np.uint16)
    )
    verify(compiled, lowered)
    arena, values = compiled.bases["out"], lowered.values.items()
    places = tuple(_place(name, value, arena, geometry.block) for name, value in values if name != IMAGE)
    return replace(compiled, trace=Trace(stages[-1].name, places, lowered.unseen))


def _place(name: str, value: Value, arena: int, block: int) -> Place:
    """Where a tensor lies in the DRAM; nothing is overwritten before the end of a run."""
    lanes = np.argsort(value.lanes, kind="stable")[np.count_nonzero(value.lanes < 0) :].tolist()
    addresses = (arena + value.origins[lane // block] * block + lane % block for lane in lanes)
    shape = Shape(value.height, value.width, len(lanes))
    return Place(name, 0, shape, runs(addresses), value.pitch * block, block, rules.SIGN)


def _assemble(
    instructions: InstructionSet,
    geometry: Geometry,
    lowered: Layers,
    constants: dict[str, bytes],
    layers: tuple[Layer, ...],
    owners: NDArray[np.uint16],
) -> VtaProgram:
    """One image: constants, then activations, then sums."""
    image = b""
    regions: list[Region] = []
    bases = {}
    for name, data in constants.items():
        bases[name] = len(image)
        if data:
            regions.append(Region(name, len(image), len(data), "compiler"))
            image += data + bytes(-len(data) % ALIGNMENT)
    arena = len(image)
    for fill in lowered.fills:
        writer: Literal["host", "device"] = "host" if fill.host else "device"
        regions.append(
            Region(fill.name, arena + fill.first * geometry.block, fill.count * geometry.block, writer, fill.value)
        )
    offset = arena + lowered.elements * geometry.block
    sums = Sums("sums", lowered.classes, 4 if instructions == "published" else 1, geometry.block)
    regions.append(Region("sums", offset, sums.size, "device"))
    total = -(-(offset + sums.size) // ALIGNMENT) * ALIGNMENT
    if total > MOST_DRAM_BYTES:
        raise UnsupportedError(
            f"the program needs {total >> 20} MiB of a board's memory, at most {MOST_DRAM_BYTES >> 20} are supported; "
            "use a smaller image or network"
        )
    del bases["program"]
    bases |= {"inp": arena, "out": arena}
    if instructions == "extended":
        bases["acc"] = offset
    return VtaProgram(
        instructions=instructions,
        geometry=geometry,
        image=image,
        dram_bytes=total,
        regions=tuple(regions),
        count=len(constants["program"]) // 16,
        bases=bases,
        packings=lowered.packings,
        sums=sums,
        layers=layers,
        instruction_layers=owners,
    )
