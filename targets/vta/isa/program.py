"""A compiled network: one image of the DRAM, and the facts about it that driver and host need."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError, UsageError
from squeezeedge.targets.vta.device import BYTE, DRAM, INSTRUCTION_BYTES, MOST_DRAM_BYTES, PROGRAM
from squeezeedge.targets.vta.device import Program as HostProgram
from squeezeedge.targets.vta.isa.encoding import INSTRUCTION_SETS, Instruction, InstructionSet
from squeezeedge.targets.vta.isa.geometry import Geometry
from squeezeedge.targets.vta.isa.words import decode

if TYPE_CHECKING:
    from squeezeedge.targets.device.run import Artifact
    from squeezeedge.targets.trace import Trace

__all__ = ["ALIGNMENT", "NUMBER_LIMIT", "Layer", "Packing", "Region", "Sums", "VtaProgram", "Writer", "read_program"]

ALIGNMENT = 256
"""Bytes: what the base of every memory is a multiple of."""

NUMBER_LIMIT = 1 << 62
"""Multiply-accumulates of a layer are the largest numbers of a description."""

MOST_LAYERS = 1 << 16

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
    """A compiled network: one relocatable image of the DRAM, and the facts about it that driver and host need.

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
        trace: where a run leaves the graph's tensors in the DRAM; a file of its own, so not of :meth:`to_json`.
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
    trace: Trace | None = None

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
        record = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "trace"}
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
            program = cls._of(record, image)
            program._check()
        except (LookupError, TypeError, ValueError, AttributeError, StopIteration, UsageError) as error:
            raise CorruptFileError(f"VTA program: damaged description ({error!r}); compile again") from error
        return program

    @classmethod
    def _of(cls, record: Any, image: bytes) -> VtaProgram:  # noqa: ANN401
        expected = record["image"]
        if len(image) != expected["bytes"] or hashlib.sha256(image).hexdigest() != expected["sha256"]:
            raise CorruptFileError("VTA program: the image is truncated or damaged; compile again")
        count, layers = _natural(record["count"]), [_dataclass(Layer, layer) for layer in record["layers"]]
        if count * INSTRUCTION_BYTES > len(image) or len(layers) > MOST_LAYERS:
            raise ValueError("more instructions or layers than there can be")
        runs = [(_natural(layer), _natural(length)) for layer, length in record["instruction_layers"]]
        if sum(length for _, length in runs) != count or any(layer >= len(layers) for layer, _ in runs):
            raise ValueError("instruction_layers do not cover the program")
        return cls(
            instructions=_one_of(record["instructions"], *INSTRUCTION_SETS),
            geometry=_dataclass(Geometry, record["geometry"]),
            image=image,
            dram_bytes=_natural(record["dram_bytes"]),
            regions=tuple(_dataclass(Region, region) for region in record["regions"]),
            count=count,
            bases={name: _natural(record["bases"][name]) for name in BASES},
            packings=tuple(_dataclass(Packing, packing) for packing in record["packings"]),
            sums=_dataclass(Sums, record["sums"]),
            layers=tuple(layers),
            instruction_layers=np.repeat(
                np.array([layer for layer, _ in runs], np.uint16), [length for _, length in runs]
            ),
        )

    def _check(self) -> None:
        """Raise ValueError where the parts don't fit together; bounds every later allocation."""
        if self.dram_bytes > MOST_DRAM_BYTES or self.dram_bytes % ALIGNMENT:
            raise ValueError(f"dram_bytes {self.dram_bytes}")
        end = 0
        for region in self.regions:
            if region.offset < end or region.offset % 16 or region.fill > BYTE:
                raise ValueError(f"region {region.name}")
            end = region.offset + region.size
            if end > (len(self.image) if region.writer == "compiler" else self.dram_bytes):
                raise ValueError(f"region {region.name}")
        if len({region.name for region in self.regions}) != len(self.regions):
            raise ValueError("two regions of one name")
        for name, base in self.bases.items():
            if base > self.dram_bytes or base % 16:
                raise ValueError(f"base of {name}")
        if self.region("program").size != INSTRUCTION_BYTES * self.count or self.region("uop").size % 4:
            raise ValueError("region program or uop")
        if {self.sums.block, *(packing.block for packing in self.packings)} != {self.geometry.block}:
            raise ValueError("blocks")
        if self.region(self.sums.region).size != self.sums.size or self.sums.planes not in (1, 4):
            raise ValueError("region of the sums")
        for packing in self.packings:
            if self.region(packing.region).size != packing.size:
                raise ValueError(f"region {packing.region}")


def read_program(artifact: Artifact) -> VtaProgram:
    """Read an artifact's program and check that it has the artifact's image and classes, on the host's side, too.

    Raises:
        CorruptFileError: a file is damaged; the text names it.
    """
    path = artifact.folder / PROGRAM
    try:
        text, image = artifact.read(PROGRAM), artifact.read(DRAM)
    except ValueError as error:
        raise CorruptFileError(str(error)) from error
    try:
        program = VtaProgram.from_json(json.loads(text.decode()), image)
        host = program.host()
        if (host.shape, host.classes) != (artifact.shape, artifact.classes):
            raise ValueError("of another network")
    except CorruptFileError as error:
        raise CorruptFileError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path}: damaged ({error!r}); compile again") from error
    return program


Record = TypeVar("Record")


def _dataclass(kind: type[Record], value: Any) -> Record:  # noqa: ANN401  (JSON)
    """A dataclass from a JSON object, which must have exactly its fields, with their types."""
    types = {field.name: str(field.type) for field in fields(kind)}  # type: ignore[arg-type]
    if type(value) is not dict or value.keys() != types.keys():
        raise ValueError(f"{kind.__name__} must have {', '.join(types)}")
    return kind(**{name: _VALUES[types[name]](value[name]) for name in types})


def _natural(value: Any) -> int:  # noqa: ANN401
    if type(value) is not int or not 0 <= value < NUMBER_LIMIT:
        raise ValueError(f"{str(value)[:20]!r} is not a whole number in 0..{NUMBER_LIMIT - 1}")
    return value


def _naturals(count: int) -> Callable[[Any], tuple[int, ...]]:
    def read(value: Any) -> tuple[int, ...]:  # noqa: ANN401
        if type(value) not in (list, tuple) or len(value) != count:
            raise ValueError(f"{str(value)[:40]!r} is not {count} numbers")
        return tuple(_natural(number) for number in value)

    return read


def _text(value: Any) -> str:  # noqa: ANN401
    if type(value) is not str:
        raise ValueError(f"{str(value)[:20]!r} is no text")
    value.encode()  # a ValueError for half of a surrogate pair
    return value


def _one_of(value: Any, *choices: Any) -> Any:  # noqa: ANN401
    if not any(value is choice or (type(value) is str and value == choice) for choice in choices):
        raise ValueError(f"{str(value)[:20]!r} is not one of {choices}")
    return value


_VALUES: Mapping[str, Callable[[Any], Any]] = {
    "str": _text,
    "int": _natural,
    "bool": lambda value: _one_of(value, True, False),
    "Writer": lambda value: _one_of(value, *WRITERS),
    **{f"tuple[{', '.join(['int'] * count)}]": _naturals(count) for count in (2, 3, 4)},
}
"""Type of a field -> what checks a JSON value of it."""
