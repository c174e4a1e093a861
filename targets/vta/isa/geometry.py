"""Geometry of the accelerator: block size and on-chip memories, from a board's JSON file.

The default is the published geometry of VTA (batch 1, block 16; its pynq, ultra96 and simulator samples are all the
same). Field widths of instructions and micro-ops follow from the depths by the published rule.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import Any

from squeezeedge.errors import CorruptFileError, UsageError

__all__ = ["CONFIGS", "DEFAULT_CONFIG", "Config", "Geometry", "Memory", "config_names", "load_config"]

CONFIGS = Path(__file__).parents[1] / "configs"
"""One JSON file a board."""

DEFAULT_CONFIG = "pynq-z2"

LIMITS = {"uop": 13, "inp": 13, "wgt": 13, "acc": 11, "par": 7}
"""Largest log2 depth of each memory that the 64-bit words of GEMM, ALU and XGEMM leave room for."""


class Memory(IntEnum):
    """On-chip memories, numbered as in an instruction's memory type (5, int8 accumulators, is not supported)."""

    UOP = 0
    WGT = 1
    INP = 2
    ACC = 3
    OUT = 4
    PAR = 6
    """Extended: bias and shift of one output channel block."""


_ELEMENT_BYTES = {
    Memory.UOP: (4, 0),
    Memory.WGT: (1, 2),
    Memory.INP: (1, 1),
    Memory.ACC: (4, 1),
    Memory.OUT: (1, 1),
    Memory.PAR: (5, 1),
}
"""A factor, and the power of ``block`` that it is multiplied by."""


@dataclass(frozen=True)
class Geometry:
    """Sizes that instructions, programs and the hardware agree on.

    Attributes:
        block: input and output channels of one element, 16 or 32.
        uop_buffer: bytes of the micro-op memory (4 each).
        inp_buffer: bytes of the input memory (elements of ``block`` int8).
        wgt_buffer: bytes of the weight memory (elements of ``block`` x ``block`` int8).
        acc_buffer: bytes of the accumulator memory (elements of ``block`` int32); outputs have the same depth.
        par_entries: depth of the parameter memory (elements of ``block`` int32 biases and ``block`` int8 shifts).
        bus_bytes: width of the DRAM ports, 8 or 16 bytes.
        dsp_packing: whether two multiplications share a DSP slice.

    Raises:
        UsageError: a size is not a power of two or the fields do not fit into an instruction.
    """

    block: int = 16
    uop_buffer: int = 1 << 15
    inp_buffer: int = 1 << 15
    wgt_buffer: int = 1 << 18
    acc_buffer: int = 1 << 17
    par_entries: int = 128
    bus_bytes: int = 8
    dsp_packing: bool = True

    def __post_init__(self) -> None:
        if self.block not in (16, 32):
            raise UsageError(f"geometry: block {self.block}, must be 16 or 32")
        if self.bus_bytes not in (8, 16):
            raise UsageError(f"geometry: bus_bytes {self.bus_bytes}, must be 8 or 16")
        for memory in (Memory.UOP, Memory.INP, Memory.WGT, Memory.ACC, Memory.PAR):
            name = memory.name.lower()
            size = self.par_entries if memory == Memory.PAR else getattr(self, f"{name}_buffer")
            most = (1 << LIMITS[name]) * (1 if memory == Memory.PAR else self.element_bytes(memory))
            if size & (size - 1) or not 0 < size <= most or self.depth(memory) < 2:
                raise UsageError(f"geometry: {name} memory of {size}, must be a power of two, at most {most}")
        acc, inp, wgt = self.acc_bits, self.inp_bits, self.wgt_bits
        if acc + max(acc, inp) + wgt > 32 or 2 * (acc + inp) + wgt > 54:
            raise UsageError("geometry: accumulator, input and weight memories together are too deep; halve one")

    def depth(self, memory: Memory) -> int:
        """Elements of a memory."""
        if memory == Memory.PAR:
            return self.par_entries
        name = "acc" if memory == Memory.OUT else memory.name.lower()
        size: int = getattr(self, f"{name}_buffer")
        return size // self.element_bytes(Memory.ACC if memory == Memory.OUT else memory)

    def element_bytes(self, memory: Memory) -> int:
        """Bytes of one element in DRAM."""
        factor, power = _ELEMENT_BYTES[memory]
        size: int = factor * self.block**power
        return size

    @property
    def uop_bits(self) -> int:
        """Width of a micro-op index."""
        return self.depth(Memory.UOP).bit_length() - 1

    @property
    def inp_bits(self) -> int:
        """Width of an input index."""
        return self.depth(Memory.INP).bit_length() - 1

    @property
    def wgt_bits(self) -> int:
        """Width of a weight index."""
        return self.depth(Memory.WGT).bit_length() - 1

    @property
    def acc_bits(self) -> int:
        """Width of an accumulator or output index."""
        return self.depth(Memory.ACC).bit_length() - 1


@dataclass(frozen=True)
class Config:
    """A board.

    Attributes:
        name: the file's name without ``.json``.
        part: the FPGA.
        board_part: pattern that finds the board's files in Vivado, in any version and of any publisher.
        clock_mhz: default clock of the accelerator.
        geometry: of the accelerator built for it.
    """

    name: str
    part: str
    board_part: str
    clock_mhz: int
    geometry: Geometry


def config_names() -> list[str]:
    """Names that :func:`load_config` knows without a path."""
    return sorted(path.stem for path in CONFIGS.glob("*.json"))


def load_config(name: str = DEFAULT_CONFIG) -> Config:
    """Read a board's configuration.

    Args:
        name: one of :func:`config_names`, or the path of a JSON file of that form.

    Raises:
        UsageError: no such configuration, or its geometry is impossible.
        CorruptFileError: the file is not of that form.
    """
    path = Path(name) if name.endswith(".json") else CONFIGS / f"{name}.json"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"no VTA configuration {name!r}; there are: {', '.join(config_names())}") from error
    try:
        record: Any = json.loads(text)
        geometry = record["geometry"]
        _check_keys(path, record, {f.name: f.type for f in fields(Config) if f.name != "name"})
        _check_keys(path, geometry, {f.name: f.type for f in fields(Geometry)})
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CorruptFileError(f"{path}: not a VTA configuration ({error!r})") from error
    return Config(path.stem, record["part"], record["board_part"], record["clock_mhz"], Geometry(**geometry))


def _check_keys(path: Path, record: dict[str, Any], types: dict[str, Any]) -> None:
    if set(record) != set(types):
        wrong = ", ".join(sorted(set(record) ^ set(types)))
        raise CorruptFileError(f"{path}: missing or unknown: {wrong}")
    known = {"int": int, "str": str, "bool": bool, "Geometry": dict}
    for key, value in record.items():
        if type(value) is not known[types[key]]:
            raise CorruptFileError(f"{path}: {key} must be {types[key]}")
