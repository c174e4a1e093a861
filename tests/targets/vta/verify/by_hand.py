"""Small programs by hand: a good one, what it is made of, and how wrong ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from squeezeedge.targets.vta.isa.encoding import Instruction, InstructionSet
from squeezeedge.targets.vta.isa.extended import XGemm
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.program import Layer, Region, Sums, VtaProgram
from squeezeedge.targets.vta.isa.published import Alu, AluOp, Finish, Gemm, Load, Store
from squeezeedge.targets.vta.isa.words import encode, encode_micro_ops
from squeezeedge.targets.vta.verify.program import VerificationError, verify

Wrong = dict[str, tuple[Callable[[], VtaProgram], str]]
"""What is wrong -> the program, and a pattern of what is said about it."""

GEOMETRY = Geometry()
BLOCK = GEOMETRY.block
OPS = [MicroOp(dst=index) for index in range(32)]


def program(
    code: list[Instruction],
    instructions: InstructionSet = "published",
    micro_ops: list[MicroOp] = OPS,
    vectors: int = 1,
) -> VtaProgram:
    """A program with 8 elements of everything: host input, device tensor (fill 0), sums; vectors of one number."""
    constants = {
        "program": encode(code, GEOMETRY, instructions).tobytes(),
        "uop": encode_micro_ops(micro_ops, GEOMETRY).tobytes(),
        "wgt": bytes(8 * BLOCK * BLOCK),
        "par": bytes(8 * 5 * BLOCK),
        "acc": np.full(8 * BLOCK, vectors, "<i4").tobytes(),
    }
    regions, image = [], b""
    for name, data in constants.items():
        regions.append(Region(name, len(image), len(data), "compiler"))
        image += data + bytes(-len(data) % 256)
    bases = {region.name: region.offset for region in regions[1:]} | {"inp": len(image), "out": len(image)}
    regions.append(Region("image", len(image), 8 * BLOCK, "host"))
    regions.append(Region("tensor", len(image) + 8 * BLOCK, 8 * BLOCK, "device"))
    regions.append(Region("sums", len(image) + 16 * BLOCK, 4 * BLOCK, "device"))
    if instructions == "extended":
        bases["acc"] = regions[-1].offset
    return VtaProgram(
        instructions=instructions,
        geometry=GEOMETRY,
        image=image,
        dram_bytes=len(image) + 20 * BLOCK,
        regions=tuple(regions),
        count=len(code),
        bases=bases,
        packings=(),
        sums=Sums("sums", BLOCK, 4, BLOCK),
        layers=(Layer("stem", 0, ""), Layer("fire", 0, "")),
        instruction_layers=(np.arange(len(code)) % 2).astype(np.uint16),
    )


def load(memory: Memory, size: int = 8, **fields: object) -> Load:
    values = {"sram_base": 0, "dram_base": 0, "y_size": 1, "x_size": size, "x_stride": size}
    return Load(memory=memory, **(values | fields))  # type: ignore[arg-type]


def store(dram: int = 8, size: int = 8, **fields: object) -> Store:
    values = {"sram_base": 0, "dram_base": dram, "y_size": 1, "x_size": size, "x_stride": size}
    return Store(memory=Memory.OUT, **(values | fields))  # type: ignore[arg-type]


def gemm(**fields: object) -> Gemm:
    values = {"uop_bgn": 0, "uop_end": 1, "iter_out": 1, "iter_in": 8, "dst_in": 1}
    return Gemm(**(values | fields))  # type: ignore[arg-type]


def alu(op: AluOp = AluOp.ADD, **fields: object) -> Alu:
    values = {"uop_bgn": 0, "uop_end": 1, "iter_out": 1, "iter_in": 8, "dst_in": 1, "use_imm": True, "imm": 1}
    return Alu(op=op, **(values | fields))  # type: ignore[arg-type]


LOADS = [load(Memory.WGT), load(Memory.INP, push_next=True)]
UOPS = load(Memory.UOP, 32)
RESET = gemm(reset=True)
FINISH = Finish(pop_next=True)
GOOD: list[Instruction] = [UOPS, *LOADS, RESET, gemm(src_in=1, pop_prev=True, push_next=True)]
GOOD += [store(pop_prev=True, push_prev=True), FINISH]


def changed(index: int, **fields: object) -> list[Instruction]:
    return [replace(item, **fields) if number == index else item for number, item in enumerate(GOOD)]  # type: ignore[arg-type]


def x(**fields: object) -> XGemm:
    values = {"uop_bgn": 0, "uops": 1, "blocks": 1, "rows": 1, "cols": 8, "epilogue": 1, "src_base": 0}
    return XGemm(**(values | {"dst_base": 0, "wgt_base": 0} | fields))  # type: ignore[arg-type]


X_LOADS = [load(Memory.WGT), load(Memory.PAR), load(Memory.INP, push_next=True)]


def refused(wrong: Wrong, name: str) -> None:
    """The verifier says what is expected about a wrong program."""
    make, text = wrong[name]
    with pytest.raises(VerificationError, match=text) as caught:
        verify(make())
    assert str(caught.value).startswith("VTA program: ")
