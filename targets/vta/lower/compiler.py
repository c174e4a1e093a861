"""A region of a partitioned Relax module (:mod:`.byoc`) -> one program for the accelerator.

region_stages(region) -> layers -> operations -> instructions and one image of the DRAM
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from squeezeedge.errors import UnsupportedError
from squeezeedge.lower.patterns import Pattern, Stage
from squeezeedge.targets.vta.emit.extended import ExtensionEmitter
from squeezeedge.targets.vta.emit.published import PublishedEmitter, vectors
from squeezeedge.targets.vta.emit.schedule import Schedule
from squeezeedge.targets.vta.host import Sums
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.program import ALIGNMENT, Layer, Profile, Region, VtaProgram, encode
from squeezeedge.targets.vta.lower.layers import Layers, to_layers
from squeezeedge.targets.vta.verify.program import verify

__all__ = ["FUSIONS", "compile_program"]

FUSIONS = (Pattern.CONVOLUTION_POOL, Pattern.CONCAT_CONVOLUTIONS)
"""What :func:`squeezeedge.lower.patterns.partition` should group for this compiler."""


def compile_program(stages: Sequence[Stage], geometry: Geometry, profile: Profile) -> VtaProgram:
    """Compile a network.

    Args:
        stages: of the region, in execution order; the head is the last.
        geometry: of the accelerator.
        profile: which instructions it has.

    Raises:
        UnsupportedError: the geometry can't hold a layer; the text names layer, memory and what would fit.
        VerificationError: a defect of this compiler; nothing of the program may be used.
    """
    stock = profile == "vta"
    lowered = to_layers(stages, geometry.block, halos=stock)
    classes = -(-lowered.classes // geometry.block)
    most = geometry.depth(Memory.ACC) // 2
    if classes > most:
        raise UnsupportedError(
            f"{stages[-1].name}: {lowered.classes} classes, half of the accumulator memory holds "
            f"{most * geometry.block}; use a configuration with a larger acc_buffer"
        )
    reserved = vectors(geometry) + classes if stock else 0
    schedule = Schedule(geometry, lowered.elements + 4 * classes, wrap=not stock, reserved=reserved)
    emitter: PublishedEmitter | ExtensionEmitter
    emitter = PublishedEmitter(geometry, schedule, classes) if stock else ExtensionEmitter(geometry, schedule)
    layers = emitter.emit_all(lowered.layers)
    emitter.sums(lowered.elements if stock else classes)
    emitter.close_micro_ops()
    program, owners = schedule.finish()
    words = encode(program, geometry, profile).tobytes()
    constants = {memory.name.lower(): constant.data for memory, constant in emitter.constants.items()}
    compiled = _assemble(
        profile, geometry, lowered, {"program": words, **constants}, layers, np.array(owners, np.uint16)
    )
    verify(compiled, lowered)
    return compiled


def _assemble(
    profile: Profile,
    geometry: Geometry,
    lowered: Layers,
    constants: dict[str, bytes],
    layers: tuple[Layer, ...],
    owners: np.ndarray,
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
    sums = Sums("sums", lowered.classes, 4 if profile == "vta" else 1, geometry.block)
    regions.append(Region("sums", offset, sums.size, "device"))
    total = -(-(offset + sums.size) // ALIGNMENT) * ALIGNMENT
    del bases["program"]
    bases |= {"inp": arena, "out": arena}
    if profile == "vta-x":
        bases["acc"] = offset
    return VtaProgram(
        profile=profile,
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
