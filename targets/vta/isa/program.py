"""What the compiler makes of a network: one image of the DRAM, and what driver and host have to know about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError, UsageError
from squeezeedge.targets.vta.device import DRAM, PROGRAM
from squeezeedge.targets.vta.device import Program as HostProgram
from squeezeedge.targets.vta.isa.encoding import INSTRUCTION_SETS, Instruction, InstructionSet
from squeezeedge.targets.vta.isa.geometry import Geometry
from squeezeedge.targets.vta.isa.words import decode

if TYPE_CHECKING:
    from squeezeedge.targets.device.run import Artifact

__all__ = ["ALIGNMENT", "Layer", "Packing", "Region", "Sums", "VtaProgram", "Writer", "read_program"]

ALIGNMENT = 256
"""Bytes: what the base of every memory is a multiple of."""

DRAM_LIMIT = 1 << 32
"""Bytes that the instructions' address fields surely reach."""

BASES = ("uop", "inp", "wgt", "acc", "out", "par")

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
            don't write: halos around activations, which the published instructions need, are this value.
    """

    name: str
    offset: int
    size: int
    writer: Writer
    fill: int = 0


@dataclass(frozen=True)
class Packing:
    """One region that the host fills from the image before a run: a patch of the image for every output position.

    A convolution of the image becomes a 1x1 convolution of its patches, so three channels don't waste an element of
    ``block`` lanes. A 1x1 kernel is the image itself.

    Position (y, x) holds the pixels (y * stride[0] - top + ky, x * stride[1] - left + kx). Channel c of tap (ky, kx)
    is patch value (ky * kernel[1] + kx) * 3 + c; value v lies in lane v % block of block v // block. Lanes that are
    left over are 0.

    Attributes:
        region: name of the region in DRAM: int8 [blocks, height, width, block] of q - 128.
        image: height and width of the image.
        kernel: rows and columns of a patch.
        stride: from one patch to the next.
        padding: pixels around the image: top, left, bottom, right.
        pad_value: uint8 q of a pixel there, one for each of the three channels.
        height: patches in a column.
        width: patches in a row.
        block: lanes of an element.
    """

    region: str
    image: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    pad_value: tuple[int, int, int]
    height: int
    width: int
    block: int

    @property
    def blocks(self) -> int:
        """Elements of a patch."""
        return -(-self.kernel[0] * self.kernel[1] * 3 // self.block)

    @property
    def size(self) -> int:
        """Bytes of the region."""
        return self.blocks * self.height * self.width * self.block


@dataclass(frozen=True)
class Sums:
    """Where a run leaves the int32 class sums.

    Attributes:
        region: name of the region in DRAM.
        classes: classes; in the region they are padded to a multiple of the block.
        planes: 1: int32, little-endian. 4: uint8 [4, padded classes], the sums' bytes from the least significant up
            (the published instructions store single bytes).
        block: lanes of an element.
    """

    region: str
    classes: int
    planes: int
    block: int

    @property
    def padded(self) -> int:
        """Classes in the region."""
        return -(-self.classes // self.block) * self.block

    @property
    def size(self) -> int:
        """Bytes of the region."""
        return 4 * self.padded


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
        instructions: which it uses.
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

    instructions: InstructionSet
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

    def decoded(self) -> list[Instruction]:
        """The instructions."""
        return decode(self.words(), self.geometry, self.instructions)

    def micro_ops(self) -> NDArray[np.uint32]:
        """The micro-ops: uint32 [n]."""
        region = self.region("uop")
        return np.frombuffer(self.image, "<u4", region.size // 4, region.offset)

    def registers(self, address: int = 0) -> dict[str, int]:
        """Values of the accelerator's registers for a DRAM at an address: arguments of :class:`.Registers`."""
        bases = {name: address + offset for name, offset in self.bases.items()}
        return {"count": self.count, "program": address + self.region("program").offset, **bases}

    def host(self) -> HostProgram:
        """The host's side of it: fills the memory, packs images, reads class sums."""
        return HostProgram(self.to_json(), self.image)

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
                instructions=_one_of(record["instructions"], *INSTRUCTION_SETS),
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


def read_program(artifact: Artifact) -> VtaProgram:
    """The program of an artifact.

    Raises:
        CorruptFileError: it is damaged; the text names the file.
        ValueError: a file is not the manifest's.
    """
    text, image = artifact.read(PROGRAM), artifact.read(DRAM)
    try:
        return VtaProgram.from_json(json.loads(text.decode()), image)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{artifact.folder / PROGRAM}: damaged ({error!r}); compile again") from error
    except CorruptFileError as error:
        raise CorruptFileError(f"{artifact.folder}: {error}") from error


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
