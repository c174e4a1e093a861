"""Device side of a VTA artifact: a PYNQ board, whose accelerator it programs. Beside run.py in the artifact.

The bitstream is the artifact's vta.bit, or the one that --bitstream names; its .hwh lies beside it. latency_ms is from
an image in memory to its class sums there; pack_ms is the host's part of it. pynq needs root.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import math
import os
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squeezeedge.targets.device.run import Artifact, Placed

__all__ = [
    "FILES",
    "REQUIRED",
    "Network",
    "Packing",
    "Program",
    "Unavailable",
    "add_arguments",
    "check_bitstream",
    "check_images",
    "check_places",
    "core_version",
]

BITSTREAM = "vta.bit"
HANDOFF = "vta.hwh"
PROGRAM = "program.json"
DRAM = "dram.bin"

FILES = (PROGRAM, DRAM, BITSTREAM, HANDOFF, "trace.json")
NO_BITSTREAM = "no bitstream; compile with --bitstream or --bitstream-file PATH, or give run.py --bitstream PATH"
REQUIRED = (
    (BITSTREAM, NO_BITSTREAM),
    (HANDOFF, "missing; pynq needs it beside the bitstream"),
)
"""What may be missing from an artifact and is needed to run it, and what to do then."""

INSTRUCTION_BYTES = 16

IP_TYPE = "squeezeedge:hls:squeezeedge_vta"
"""Of the accelerator in a .hwh, followed by its :func:`core_version`."""

LOCK = "squeezeedge-vta.lock"
"""In the folder for temporary files: locked by who uses the FPGA, and names them."""

MEMORY_INFO = Path("/proc/meminfo")

CONTROL = 0x00
START, DONE = 1, 2
REGISTERS = {
    "count": 0x10,
    "program": 0x20,
    "uop": 0x30,
    "inp": 0x40,
    "wgt": 0x50,
    "acc": 0x60,
    "out": 0x70,
    "par": 0x80,
}
"""Offsets in the control port; all but the instruction count are 64-bit byte addresses."""

MOST_DRAM_BYTES = 1 << 28
"""Of a program: checked before anything is allocated. Boards reserve 128 MiB or less for such memory."""

MOST_PACKINGS, MOST_TAPS, MOST_PADDED_BYTES = 8, 1 << 16, 1 << 26
"""Packings, values of a patch, and bytes of an image with its border."""

BYTE = 0xFF


class Unavailable(Exception):
    """There is no board or no bitstream here; the text says why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The board's own options of run.py."""
    parser.add_argument("--bitstream", type=Path, help="the FPGA's .bit file (default: the artifact's)")
    parser.add_argument("--timeout", type=_seconds, default=10.0, help="seconds to wait for an image (default: 10)")


def _seconds(text: str) -> float:
    if not 0 < float(text) <= 86400:  # NaN neither: an accelerator that hangs would be waited for without an end
        raise argparse.ArgumentTypeError(f"{text!r}: must be more than 0 and at most 86400 seconds")
    return float(text)


class Network:
    """The programmed FPGA with a program in its memory.

    Args:
        artifact: gives program, memory image and bitstream.
        bitstream: what to program the FPGA with instead; its .hwh lies beside it.
        timeout: seconds after which an unfinished run is an error.

    Raises:
        Unavailable: there is no bitstream, no pynq, no board or no memory, or somebody else uses the FPGA.
        ValueError: a file is damaged, or the bitstream is of another geometry.
    """

    tolerance = 0.0

    def __init__(self, artifact: Artifact, bitstream: Path | None = None, timeout: float = 10.0) -> None:
        self._artifact, self._program = artifact, Program.of(artifact)
        path = _bitstream(artifact, bitstream)
        try:
            import pynq
        except ImportError as error:
            raise Unavailable(f"pynq is missing ({error}); run this on a PYNQ board, with its Python") from error
        self._pynq_version = str(pynq.__version__)
        if not hasattr(pynq, "allocate"):
            raise Unavailable(f"pynq {self._pynq_version} has no allocate; install pynq 2.5 or later, or a newer image")
        self._timeout = timeout
        self._lock: int | None = _claim()
        try:
            self._set_up(pynq, path)
        except BaseException:
            self.close()
            raise

    def _set_up(self, pynq: Any, path: Path) -> None:  # noqa: ANN401  (the module)
        """Program the FPGA, and put the program into its memory."""
        program = self._program
        try:
            self._overlay = pynq.Overlay(str(path.resolve()))
            ips = [ip for ip in self._overlay.ip_dict.values() if str(ip["type"]).startswith(IP_TYPE + ":")]
            if len(ips) == 1:
                self._mmio = pynq.MMIO(ips[0]["phys_addr"], ips[0]["addr_range"])
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            fix = "run as root" if os.geteuid() else "is it a PYNQ board, and the bitstream one for it?"
            raise Unavailable(f"{path}: the board can't be set up: {error}; {fix}") from error
        if len(ips) != 1:
            raise Unavailable(f"{path}: holds {len(ips)} accelerators of type {IP_TYPE}, 1 is needed")
        core = str(ips[0]["type"]).rpartition(":")[2]
        if core != program.core:
            raise ValueError(
                f"{path}: the accelerator in it is {core}, the artifact is for {program.core}, of another geometry; "
                "compile with the --config that the bitstream was built for, or build one for the artifact's"
            )
        try:
            self._memory = pynq.allocate((program.dram_bytes,), "u1")
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            raise Unavailable(_too_little_memory(program.dram_bytes, error)) from error
        program.load(self._memory)
        self._memory.flush()
        base = int(self._memory.physical_address)
        self._registers = {
            name: value if name == "count" else base + value for name, value in program.registers.items()
        }

    def run(self, images: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Images uint8 [N, height, width, 3] -> int32 [N, classes], and latency_ms and pack_ms, float64 [N] each.

        Raises:
            ValueError: images of another shape.
            RuntimeError: the accelerator did not finish.
        """
        program = self._program
        check_images(images, program.shape)
        sums = np.empty((len(images), program.classes), np.int32)
        latency, pack_ms = np.empty(len(images)), np.empty(len(images))
        regions = [(packing, self._memory[packing.region]) for packing in program.packings]
        result = self._memory[program.sums_region]
        for i, image in enumerate(images):
            start = time.perf_counter()
            for packing, region in regions:
                region[:] = packing.pack(image)
                region.flush()
            packed = time.perf_counter()
            self._start()
            result.invalidate()
            sums[i] = program.sums(np.array(result))
            latency[i] = (time.perf_counter() - start) * 1e3
            pack_ms[i] = (packed - start) * 1e3
        return sums, {"latency_ms": latency, "pack_ms": pack_ms}

    def trace(self, image: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Image uint8 [H, W, 3] -> (name, uint8 [height, width, channels]) of each tensor; last the class sums.

        Raises:
            ValueError: an image of another shape, or trace.json is damaged or of another program.
            RuntimeError: the accelerator did not finish.
        """
        said = self._artifact.trace()
        check_places(said.places, self._program, self._artifact)
        sums, _ = self.run(image[None])
        for place in said.places:
            region = self._memory[place.begin : place.end]
            region.invalidate()
            yield place.name, place.values(np.array(region))
        yield said.head, sums[0]

    def unseen(self) -> dict[str, str]:
        """The tensors that stay on the chip -> why."""
        return self._artifact.trace().unseen

    def about(self) -> dict[str, Any]:
        """The board's version of pynq."""
        return {"pynq": self._pynq_version}

    def close(self) -> None:
        """Give the FPGA back, and the memory: pynq frees what nobody refers to."""
        self.__dict__.pop("_memory", None)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _start(self) -> None:
        """Run the program once."""
        for name, value in self._registers.items():
            self._mmio.write(REGISTERS[name], value & 0xFFFFFFFF)
            if name != "count":
                self._mmio.write(REGISTERS[name] + 4, value >> 32)
        self._mmio.write(CONTROL, START)
        deadline = time.perf_counter() + self._timeout
        while not self._mmio.read(CONTROL) & DONE:
            if time.perf_counter() > deadline:
                raise RuntimeError(self._stuck())

    def _stuck(self) -> str:
        """Stop an accelerator that doesn't finish, so that it no longer writes into memory; what to say."""
        read = {"control": self._mmio.read(CONTROL)}
        for name, offset in REGISTERS.items():
            low = self._mmio.read(offset)
            read[name] = low if name == "count" else low | self._mmio.read(offset + 4) << 32
        self._overlay.download()
        registers = ", ".join(f"{name} {value:#x}" for name, value in read.items())
        return (
            f"the accelerator did not finish in {self._timeout:g} s ({registers}); "
            "is the bitstream built for this artifact's configuration?"
        )


def core_version(geometry: dict[str, Any]) -> str:
    """Version of the accelerator's IP, by which a bitstream tells its geometry: 1.N."""
    digest = hashlib.sha256(json.dumps(geometry, sort_keys=True).encode()).hexdigest()
    return f"1.{int(digest[:4], 16)}"


def _claim() -> int:
    """Lock the FPGA, as a file descriptor, until that is closed or this process ends.

    Raises:
        Unavailable: somebody else uses it.
    """
    path = os.path.join(os.environ.get("TMPDIR") or "/tmp", LOCK)  # noqa: PTH118
    try:
        # O_CREAT only where it is missing: in a folder for all, Linux refuses it for files of others, also to root.
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(path, flags if os.path.lexists(path) else flags | os.O_CREAT, 0o644)
    except OSError as error:
        raise Unavailable(f"{path}: the FPGA can't be locked: {error.strerror}; run as root") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(lock, 200, 0).decode(errors="replace") or "another process"
        os.close(lock)
        raise Unavailable(f"the FPGA is in use by {holder}; try again when that has ended") from None
    user = os.environ.get("SUDO_USER") or os.environ.get("USER") or f"user {os.getuid()}"
    origin = os.environ.get("SSH_CONNECTION", "").split(" ")[0]
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{user}{' from ' if origin else ''}{origin}, process {os.getpid()}".encode(errors="replace"), 0)
    return lock


def _too_little_memory(needed: int, error: Exception) -> str:
    """What to say where the board's contiguous memory does not suffice."""
    try:
        lines = dict(line.split(":", 1) for line in MEMORY_INFO.read_text().splitlines())
        sizes = [int(lines[key].split()[0]) * 1024 for key in ("CmaFree", "CmaTotal")]
        found = "{} of {} are free".format(*sizes)
    except (OSError, ValueError, LookupError):
        found = "how many are free is not known"
    megabytes = 64
    while megabytes << 19 < needed:  # half of it
        megabytes *= 2
    return (
        f"the program needs {needed} bytes of contiguous memory (CMA), of which {found} ({error}): end what else holds "
        f"some, or raise it with cma={megabytes}M on the kernel's command line (bootargs)"
    )


def _bitstream(artifact: Artifact, chosen: Path | None) -> Path:
    """Path of the bitstream, checked.

    Raises:
        Unavailable: there is none.
        ValueError: it is truncated or none.
    """
    path = artifact.folder / BITSTREAM if chosen is None else chosen
    for file, (_, remedy) in zip((path, path.with_suffix(".hwh")), REQUIRED):  # noqa: B905  (Python 3.8)
        if not file.is_file():
            raise Unavailable(f"{file}: {remedy}")
    if chosen is None:
        for name in (BITSTREAM, HANDOFF):
            artifact.path(name)
    check_bitstream(path)
    return path


def check_bitstream(path: Path) -> None:
    """Raise ValueError unless a .bit file has its whole length: header fields 'a'..'d', then 'e' with the size."""
    data = path.read_bytes()
    try:
        offset = 4 + struct.unpack_from(">H", data)[0]
        while data[offset : offset + 1] in (b"a", b"b", b"c", b"d"):
            offset += 3 + struct.unpack_from(">H", data, offset + 1)[0]
        if data[offset : offset + 1] != b"e":
            raise ValueError(f"{path}: not a bitstream")
        declared = struct.unpack_from(">I", data, offset + 1)[0]
    except struct.error as error:
        raise ValueError(f"{path}: truncated; copy it again") from error
    if declared != len(data) - offset - 5:
        raise ValueError(f"{path}: truncated, {len(data) - offset - 5} of {declared} bytes; copy it again")


def check_places(places: list[Placed], program: Program, artifact: Artifact) -> None:
    """Raise ValueError unless the tensors lie in the program's memory."""
    if any(place.end > program.dram_bytes for place in places):
        raise ValueError(f"{artifact.folder}: trace.json is of another program; compile the model again")


def check_images(images: np.ndarray, shape: tuple[int, int, int]) -> None:
    """Raise ValueError unless the images are uint8 [N, *shape]."""
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise ValueError(f"images must be uint8 [N, {', '.join(map(str, shape))}]")


class Packing:
    """Fills a region of the memory with patches of the image, one for every output position of a convolution.

    Position (y, x) holds the pixels (y * stride[0] - top + ky, x * stride[1] - left + kx); channel c of tap (ky, kx) is
    value v = (ky * kernel[1] + kx) * 3 + c, in lane v % block of block v // block of int8 [blocks, height, width,
    block]. What is stored is q - 128: q ^ 0x80, taken as int8.
    """

    def __init__(self, record: dict[str, Any], regions: dict[str, slice]) -> None:
        self.region = regions[record["region"]]
        height, width = _numbers(record["image"], 2, least=1)
        self.image = (height, width, 3)
        kernel_h, kernel_w = _numbers(record["kernel"], 2, least=1)
        stride_h, stride_w = _numbers(record["stride"], 2, least=1)
        top, left, bottom, right = _numbers(record["padding"], 4)
        rows, columns, block = (_number(record[key], least=1) for key in ("height", "width", "block"))
        pad_value = _numbers(record["pad_value"], 3, most=BYTE)
        values = kernel_h * kernel_w * 3
        if values > MOST_TAPS:
            raise ValueError(f"a packing of {values} values")
        shape = (-(-values // block), rows, columns, block)
        padded = (top + self.image[0] + bottom, left + self.image[1] + right, 3)
        if (
            math.prod(shape) != self.region.stop - self.region.start
            or math.prod(padded) > MOST_PADDED_BYTES
            or (rows - 1) * stride_h + kernel_h > padded[0]
            or (columns - 1) * stride_w + kernel_w > padded[1]
        ):
            raise ValueError("a packing does not fit its region")
        self._padded = np.empty(padded, np.uint8)
        self._padded[:] = np.array(pad_value, np.uint8) ^ 0x80
        self._inside = self._padded[top : top + self.image[0], left : left + self.image[1]]
        self._patches = np.zeros(shape, np.uint8)
        self._copies = []
        for value in range(values):
            tap, channel = divmod(value, 3)
            y, x = divmod(tap, kernel_w)
            pixels = self._padded[y:, x:, channel][: (rows - 1) * stride_h + 1 : stride_h]
            pixels = pixels[:, : (columns - 1) * stride_w + 1 : stride_w]
            self._copies.append((self._patches[value // block, :, :, value % block], pixels))

    def pack(self, image: np.ndarray) -> np.ndarray:
        """Image uint8 [height, width, 3] -> the region's bytes, uint8; overwritten by the next call."""
        np.bitwise_xor(image, np.uint8(0x80), out=self._inside)
        for patches, pixels in self._copies:
            patches[...] = pixels
        return self._patches.reshape(-1)


class Program:
    """What program.json says of the memory: what lies where, and how images get in and class sums out.

    Args:
        record: program.json.
        image: dram.bin: the constants, from the start of the memory on.

    Raises:
        ValueError: values are missing, or don't fit together.

    Attributes:
        dram_bytes: memory that the program needs.
        registers: register -> value if the memory began at address 0.
        packings: what the host writes before a run.
        sums_region: bytes of the memory that hold the class sums.
        classes: class sums.
        core: version of the accelerator that executes it.
    """

    def __init__(self, record: dict[str, Any], image: bytes) -> None:
        self._image = np.frombuffer(image, np.uint8)
        try:
            self.dram_bytes = _number(record["dram_bytes"], least=len(self._image), most=MOST_DRAM_BYTES)
            self.core = core_version(record["geometry"])
            regions, self._fills, end = {}, [], 0
            for region in record["regions"]:
                begin, size = _number(region["offset"], least=end), _number(region["size"])
                end = begin + size
                if end > self.dram_bytes:
                    raise ValueError(f"region {region['name']} is outside of the memory")
                regions[region["name"]] = slice(begin, end)
                if region["writer"] != "compiler":
                    self._fills.append((regions[region["name"]], _number(region["fill"], most=BYTE)))
            bases = record["bases"]
            self.registers = {
                name: _number(bases[name], most=self.dram_bytes)
                for name in REGISTERS
                if name not in ("count", "program")
            }
            program = regions["program"]
            most = (program.stop - program.start) // INSTRUCTION_BYTES
            self.registers.update(count=_number(record["count"], most=most), program=program.start)
            if len(record["packings"]) > MOST_PACKINGS:
                raise ValueError("too many packings")
            self.packings = [Packing(packing, regions) for packing in record["packings"]]
            if len({packing.image for packing in self.packings}) != 1:
                raise ValueError("the packings are not of one image")
            if len({packing.region.start for packing in self.packings}) != len(self.packings):
                raise ValueError("two packings of one region")
            sums = record["sums"]
            self.sums_region = regions[sums["region"]]
            size = self.sums_region.stop - self.sums_region.start
            self.classes = _number(sums["classes"], least=1, most=size // 4)
            self._planes = _number(sums["planes"])
            if self._planes not in (1, 4) or size % 4:
                raise ValueError("region of the sums")
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            raise ValueError(f"damaged ({error!r}); copy the artifact again") from error

    @classmethod
    def of(cls, artifact: Artifact) -> Program:
        """Of an artifact's files.

        Raises:
            ValueError: a file is damaged; the text names it.
        """
        image, text = artifact.read(DRAM), artifact.read(PROGRAM)
        try:
            record = json.loads(text.decode())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{artifact.folder / PROGRAM}: damaged ({error!r}); copy the artifact again") from error
        try:
            program = cls(record, image)
            if (program.shape, program.classes) != (artifact.shape, artifact.classes):
                raise ValueError("of another network; copy the artifact again")
        except ValueError as error:
            raise ValueError(f"{artifact.folder / PROGRAM}: {error}") from error
        return program

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return self.packings[0].image

    def load(self, memory: np.ndarray) -> None:
        """Write what the memory (uint8 [dram_bytes]) holds before the first run."""
        memory[: len(self._image)] = self._image
        memory[len(self._image) :] = 0
        for region, fill in self._fills:
            memory[region] = fill

    def pack(self, image: np.ndarray, memory: np.ndarray) -> None:
        """Write an image (uint8 [height, width, 3]) into the memory (uint8 [dram_bytes])."""
        for packing in self.packings:
            memory[packing.region] = packing.pack(image)

    def result(self, memory: np.ndarray) -> np.ndarray:
        """The class sums in the memory after a run: int32 [classes]."""
        return self.sums(np.array(memory[self.sums_region]))

    def sums(self, data: np.ndarray) -> np.ndarray:
        """Bytes of the sums' region -> int32 [classes]."""
        if self._planes == 4:
            data = data.reshape(4, -1).transpose()
        return np.ascontiguousarray(data).reshape(-1).view("<i4")[: self.classes]


def _number(value: Any, least: int = 0, most: int = MOST_DRAM_BYTES) -> int:  # noqa: ANN401  (JSON)
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{str(value)[:20]!r} is not a whole number in {least}..{most}")
    return value


def _numbers(values: Any, count: int, least: int = 0, most: int = MOST_DRAM_BYTES) -> list[int]:  # noqa: ANN401
    if type(values) not in (list, tuple) or len(values) != count:
        raise ValueError(f"{str(values)[:40]!r} is not {count} numbers")
    return [_number(value, least, most) for value in values]
