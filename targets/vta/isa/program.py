"""Programs: as instructions, as words, as a listing, and as what the compiler makes of a network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError, UnsupportedError, UsageError
from squeezeedge.targets.vta.host import Packing, Sums, pack_input, unpack_sums
from squeezeedge.targets.vta.isa.encoding import OPCODE_BITS, Instruction
from squeezeedge.targets.vta.isa.extended import XAdd, XGemm, XPool
from squeezeedge.targets.vta.isa.geometry import Geometry
from squeezeedge.targets.vta.isa.published import Alu, Finish, Gemm, Load, MicroOp, Store

__all__ = [
    "ALIGNMENT",
    "INSTRUCTIONS",
    "Layer",
    "Profile",
    "Region",
    "VtaProgram",
    "Writer",
    "decode",
    "disassemble",
    "encode",
    "encode_micro_ops",
    "listing",
]

ALIGNMENT = 256
"""Bytes: what the base of every memory is a multiple of."""

DRAM_LIMIT = 1 << 32
"""Bytes that the instructions' address fields surely reach."""

BASES = ("uop", "inp", "wgt", "acc", "out", "par")

Profile = Literal["vta", "vta-x"]
"""``vta``: published instructions only; ``vta-x``: with the extension."""

INSTRUCTIONS: dict[int, type[Instruction]] = {
    instruction.opcode: instruction for instruction in (Load, Store, Gemm, Finish, Alu, XGemm, XPool, XAdd)
}
"""Every instruction by opcode."""


def encode(program: Iterable[Instruction], geometry: Geometry, profile: Profile) -> NDArray[np.uint64]:
    """Instructions -> little-endian words, uint64 [n, 2]: as they lie in DRAM.

    Raises:
        UnsupportedError: a value does not fit, or the profile lacks an instruction; the text names the instruction.
    """
    words = []
    for number, instruction in enumerate(program):
        if profile == "vta" and instruction.uses_extension:
            raise UnsupportedError(f"instruction {number}: {instruction.mnemonic} needs the profile vta-x")
        try:
            words.append(instruction.encode(geometry))
        except UnsupportedError as error:
            raise UnsupportedError(f"instruction {number}: {error}") from error
    return np.array(words, "<u8").reshape(-1, 2)


def decode(words: NDArray[np.uint64], geometry: Geometry, profile: Profile) -> list[Instruction]:
    """Words, uint64 [n, 2], -> instructions; encoding them gives the same words.

    Raises:
        CorruptFileError: not an instruction of the profile; the text names its number.
    """
    program = []
    for number, (low, high) in enumerate(words.tolist()):
        try:
            instruction = INSTRUCTIONS[low & ((1 << OPCODE_BITS) - 1)].from_words((low, high), geometry)
        except CorruptFileError as error:
            raise CorruptFileError(f"instruction {number}: {error}") from error
        if profile == "vta" and instruction.uses_extension:
            raise CorruptFileError(f"instruction {number}: {instruction.mnemonic} needs the profile vta-x")
        program.append(instruction)
    return program


def encode_micro_ops(micro_ops: Sequence[MicroOp], geometry: Geometry) -> NDArray[np.uint32]:
    """Micro-ops -> little-endian words, uint32 [n]: as they lie in DRAM."""
    return np.array([micro_op.encode(geometry) for micro_op in micro_ops], "<u4")


def listing(program: Sequence[Instruction], geometry: Geometry) -> str:
    """One line an instruction: number, words in hexadecimal, module, mnemonic, operands, tokens."""
    lines = []
    for number, instruction in enumerate(program):
        low, high = instruction.encode(geometry)
        module = instruction.module.name.lower()
        lines.append(f"{number:6d}  {high:016x}_{low:016x}  {module:<8} {instruction}\n")
    return "".join(lines)


def disassemble(words: NDArray[np.uint64], geometry: Geometry, profile: Profile) -> str:
    """The listing of words, uint64 [n, 2].

    Raises:
        CorruptFileError: not an instruction of the profile.
    """
    return listing(decode(words, geometry, profile), geometry)


Writer = Literal["compiler", "host", "device"]

WRITERS = get_args(Writer)


@dataclass(frozen=True)
class Region:
    """A part of the DRAM that a program uses.

    Attributes:
        name: unique.
        offset: first byte, from the start of the DRAM; a multiple of 16.
        size: bytes.
        writer: ``compiler``: constant, its bytes are in the image; ``host``: before every run; ``device``: in a run.
        fill: value of every byte before the first run where the writer is not the compiler. Runs keep what they
            don't write: halos around activations in the profile ``vta`` are this value.
    """

    name: str
    offset: int
    size: int
    writer: Writer
    fill: int = 0


@dataclass(frozen=True)
class Layer:
    """What the compiler made of a part of the network.

    Attributes:
        name: as in the graph; fused parts are joined by ``+``.
        macs: multiply-accumulates of the network's own (without padding of channels).
        tiling: the compiler's choice, for people.
    """

    name: str
    macs: int
    tiling: str


@dataclass(frozen=True, eq=False)
class VtaProgram:
    """A compiled network: one image of the DRAM, relocatable, and what driver and host have to know about it.

    A driver allocates ``dram_bytes`` (aligned to 4096), copies ``image`` to its start, fills the other regions with
    their ``fill``, and then for every inference: writes the packed image, starts the accelerator with
    :meth:`registers`, waits, reads the sums. Every run reads and writes the same places, so a program runs any number
    of times without a new copy.

    Attributes:
        profile: the instructions it uses.
        geometry: of the accelerator that it is made for.
        image: the constant regions, from DRAM offset 0 on: instructions, micro-ops, weights, parameters.
        dram_bytes: size of the whole DRAM.
        regions: all parts of the DRAM, by offset; they don't overlap. ``program`` holds the instructions.
        count: instructions.
        bases: byte offset of element 0 of ``uop``, ``inp``, ``wgt``, ``acc``, ``out`` and ``par`` in the DRAM.
        packings: what the host writes before a run; usually one.
        sums: what the host reads after it.
        layers: parts of the network in execution order.
        instruction_layers: uint16 [count]: for each instruction, the index of the layer that it works for.
    """

    profile: Profile
    geometry: Geometry
    image: bytes
    dram_bytes: int
    regions: tuple[Region, ...]
    count: int
    bases: Mapping[str, int]
    packings: tuple[Packing, ...]
    sums: Sums
    layers: tuple[Layer, ...]
    instruction_layers: NDArray[np.uint16]

    def region(self, name: str) -> Region:
        """The region of that name."""
        return next(region for region in self.regions if region.name == name)

    def words(self) -> NDArray[np.uint64]:
        """The instructions: uint64 [count, 2]."""
        return np.frombuffer(self.image, "<u8", 2 * self.count, self.region("program").offset).reshape(-1, 2)

    def instructions(self) -> list[Instruction]:
        """The instructions, decoded."""
        return decode(self.words(), self.geometry, self.profile)

    def micro_ops(self) -> NDArray[np.uint32]:
        """The micro-ops: uint32 [n]."""
        region = self.region("uop")
        return np.frombuffer(self.image, "<u4", region.size // 4, region.offset)

    def registers(self, address: int = 0) -> dict[str, int]:
        """Values of the accelerator's registers for a DRAM at an address: arguments of :class:`.Registers`."""
        bases = {name: address + offset for name, offset in self.bases.items()}
        return {"count": self.count, "program": address + self.region("program").offset, **bases}

    def dram(self) -> NDArray[np.uint8]:
        """The DRAM before the first run: uint8 [dram_bytes]."""
        dram = np.zeros(self.dram_bytes, np.uint8)
        dram[: len(self.image)] = np.frombuffer(self.image, np.uint8)
        for region in self.regions:
            if region.writer != "compiler":
                dram[region.offset : region.offset + region.size] = region.fill
        return dram

    def pack(self, image: NDArray[np.uint8], dram: NDArray[np.uint8]) -> None:
        """Write one image (uint8 [height, width, 3]) into the DRAM."""
        for packing in self.packings:
            region = self.region(packing.region)
            dram[region.offset : region.offset + region.size] = pack_input(packing, image[None])[0]

    def unpack(self, dram: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Read the class sums out of the DRAM: int32 [classes]."""
        region = self.region(self.sums.region)
        sums: NDArray[np.int32] = unpack_sums(self.sums, dram[None, region.offset : region.offset + region.size])[0]
        return sums

    def to_json(self) -> dict[str, Any]:
        """All but the image, as JSON values; ``instruction_layers`` as [layer, instructions] runs."""
        record = {field.name: getattr(self, field.name) for field in fields(self)}
        starts = np.flatnonzero(np.diff(self.instruction_layers, prepend=-1))
        lengths = np.diff(starts, append=self.count)
        record["instruction_layers"] = np.stack([self.instruction_layers[starts], lengths], 1).tolist()
        record["image"] = {"bytes": len(self.image), "sha256": hashlib.sha256(self.image).hexdigest()}
        record |= {"geometry": asdict(self.geometry), "sums": asdict(self.sums), "bases": dict(self.bases)}
        for key in ("regions", "packings", "layers"):
            record[key] = [asdict(value) for value in record[key]]
        return record

    @classmethod
    def from_json(cls, record: Any, image: bytes) -> VtaProgram:  # noqa: ANN401  (JSON)
        """The program of :meth:`to_json` and its image.

        Raises:
            CorruptFileError: a value is missing, of the wrong type or out of range, or the image is not the record's.
        """
        try:
            expected = record["image"]
            if len(image) != expected["bytes"] or hashlib.sha256(image).hexdigest() != expected["sha256"]:
                raise CorruptFileError("VTA program: the image is truncated or damaged; compile again")
            runs = np.array(record["instruction_layers"], np.int64).reshape(-1, 2)
            if runs.min(initial=0) < 0 or runs[:, 0].max(initial=0) >= len(record["layers"]):
                raise ValueError("instruction_layers out of range")
            if runs[:, 1].sum() != record["count"] or record["count"] > len(image) // 16:
                raise ValueError("instruction_layers do not cover the program")
            program = cls(
                profile=_one_of(record["profile"], "vta", "vta-x"),
                geometry=Geometry(**record["geometry"]),
                image=image,
                dram_bytes=_natural(record["dram_bytes"]),
                regions=tuple(Region(**region) for region in record["regions"]),
                count=_natural(record["count"]),
                bases={name: _natural(record["bases"][name]) for name in BASES},
                packings=tuple(Packing(**_tuples(packing)) for packing in record["packings"]),
                sums=Sums(**record["sums"]),
                layers=tuple(Layer(**layer) for layer in record["layers"]),
                instruction_layers=np.repeat(runs[:, 0], runs[:, 1]).astype(np.uint16),
            )
            program._check()
        except (KeyError, TypeError, ValueError, OverflowError, StopIteration, UsageError) as error:
            raise CorruptFileError(f"VTA program: damaged description ({error!r}); compile again") from error
        return program

    def _check(self) -> None:
        """Raise ValueError where the parts don't fit together; bounds every later allocation."""
        if self.dram_bytes >= DRAM_LIMIT:
            raise ValueError(f"dram_bytes {self.dram_bytes}")
        end = 0
        for region in self.regions:
            if _natural(region.offset) < end or region.offset % 16 or not 0 <= _natural(region.fill) < 256:
                raise ValueError(f"region {region.name}")
            end = region.offset + _natural(region.size)
            if end > (len(self.image) if _one_of(region.writer, *WRITERS) == "compiler" else self.dram_bytes):
                raise ValueError(f"region {region.name}")
        if self.region("program").size != 16 * self.count or self.region("uop").size % 4:
            raise ValueError("region program or uop")
        if self.region(self.sums.region).size != self.sums.size or self.sums.planes not in (1, 4):
            raise ValueError("region of the sums")
        for packing in self.packings:
            if self.region(packing.region).size != packing.size:
                raise ValueError(f"region {packing.region}")


def _natural(value: Any) -> int:  # noqa: ANN401
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a natural number")
    return value


def _one_of(value: Any, *choices: str) -> Any:  # noqa: ANN401
    if value not in choices:
        raise ValueError(f"{value!r} is not one of {choices}")
    return value


def _tuples(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
