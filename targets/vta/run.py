#!/usr/bin/env python3
"""Device side of a VTA artifact: needs Python 3.8+, numpy and pynq on the board; Pillow too, to read image files.

    sudo python3 run.py                       check the board on the golden inputs
    sudo python3 run.py cat.jpg images.npy    classify image files, or uint8 [N, height, width, 3] arrays

The bitstream is the artifact's vta.bit, or the one that --bitstream names; its .hwh lies beside it. Prints one JSON
object a line; latency_ms is from the image to its class sums, pack_ms (the host's part) included. Exit codes: 0 done,
1 a known failure, 3 there is no board or bitstream, 4 the golden inputs gave wrong sums.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

BITSTREAM = "vta.bit"
PROGRAM = "program.json"
DRAM = "dram.bin"
GOLDEN = "golden.npz"
MANIFEST = "manifest.json"

IP_TYPE = "squeezeedge:hls:squeezeedge_vta"

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

MOST_DRAM_BYTES = 1 << 30


class Unavailable(Exception):
    """There is no board or no bitstream here; the text says why."""


class ChecksumError(ValueError):
    """A file is not the one that the manifest names."""


class Artifact:
    """The files of an artifact's folder; each is checked against the manifest before it is used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            self._files = dict(manifest["files"])
            self.preprocessing = dict(manifest["preprocessing"])
            self.labels = list(manifest["labels"])
            self.logit_scale = np.asarray(manifest["logit_scale"], np.float32)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"{folder / MANIFEST}: damaged ({error!r}); copy the artifact again") from error

    def read(self, name: str) -> bytes:
        """A file's bytes.

        Raises:
            ChecksumError: they are not those of the manifest.
        """
        path = self.folder / name
        entry = self._files.get(name)
        data = path.read_bytes()
        if not isinstance(entry, dict) or entry.get("sha256") != hashlib.sha256(data).hexdigest():
            raise ChecksumError(f"{path}: differs from its checksum in {MANIFEST}; copy the artifact again")
        return data

    def golden(self) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 [n, H, W, 3] and their sums int32 [n, classes]."""
        self.read(GOLDEN)
        with np.load(str(self.folder / GOLDEN), allow_pickle=False) as file:
            return file["images"], file["sums"]

    def bitstream(self, chosen: Path | None) -> Path:
        """Path of the bitstream, checked.

        Raises:
            Unavailable: there is none.
            ValueError: it is truncated or none.
        """
        path = self.folder / BITSTREAM if chosen is None else chosen
        if not path.is_file():
            raise Unavailable(f"{path}: no bitstream; compile with --bitstream, or name one with --bitstream PATH")
        if chosen is None:
            self.read(BITSTREAM)
        if not path.with_suffix(".hwh").is_file():
            raise Unavailable(f"{path.with_suffix('.hwh')}: missing; pynq needs it beside the bitstream")
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


class Packing:
    """Fills a region of the memory with patches of the image, one for every output position of a convolution.

    Position (y, x) holds the pixels (y * stride[0] - top + ky, x * stride[1] - left + kx); channel c of tap (ky, kx) is
    value v = (ky * kernel[1] + kx) * 3 + c, in lane v % block of block v // block of int8 [blocks, height, width,
    block]. What is stored is q - 128: q ^ 0x80, taken as int8.
    """

    def __init__(self, record: dict[str, Any], regions: dict[str, slice]) -> None:
        self.region = regions[record["region"]]
        self.image = (_natural(record["image"][0]), _natural(record["image"][1]), 3)
        kernel_h, kernel_w = map(_natural, record["kernel"])
        stride_h, stride_w = map(_natural, record["stride"])
        top, left, bottom, right = map(_natural, record["padding"])
        rows, columns, block = (_natural(record[key]) for key in ("height", "width", "block"))
        values = kernel_h * kernel_w * 3
        shape = (-(-values // block), rows, columns, block)
        padded = (top + self.image[0] + bottom, left + self.image[1] + right, 3)
        if (
            int(np.prod(shape, dtype=object)) != self.region.stop - self.region.start
            or int(np.prod(padded, dtype=object)) > MOST_DRAM_BYTES
            or (rows - 1) * stride_h + kernel_h > padded[0]
            or (columns - 1) * stride_w + kernel_w > padded[1]
        ):
            raise ValueError("a packing does not fit its region")
        self._padded = np.empty(padded, np.uint8)
        self._padded[:] = np.frombuffer(bytes(record["pad_value"]), np.uint8) ^ 0x80
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

    Attributes:
        dram_bytes: memory that the program needs.
        registers: register -> value if the memory began at address 0.
        packings: what the host writes before a run.
        sums_region: bytes of the memory that hold the class sums.
        classes: class sums.
    """

    def __init__(self, artifact: Artifact) -> None:
        self._image = np.frombuffer(artifact.read(DRAM), np.uint8)
        try:
            record = json.loads(artifact.read(PROGRAM).decode())
            self.dram_bytes = _natural(record["dram_bytes"])
            if not len(self._image) <= self.dram_bytes <= MOST_DRAM_BYTES:
                raise ValueError(f"dram_bytes {self.dram_bytes}")
            regions, self._fills = {}, []
            for region in record["regions"]:
                begin, size = _natural(region["offset"]), _natural(region["size"])
                if begin + size > self.dram_bytes:
                    raise ValueError(f"region {region['name']} is outside of the memory")
                regions[region["name"]] = slice(begin, begin + size)
                if region["writer"] != "compiler":
                    self._fills.append((regions[region["name"]], _natural(region["fill"])))
            self.registers = {name: _natural(record["bases"][name]) for name in REGISTERS if name in record["bases"]}
            self.registers.update(count=_natural(record["count"]), program=regions["program"].start)
            if set(self.registers) != set(REGISTERS):
                raise ValueError("a base address is missing")
            self.packings = [Packing(packing, regions) for packing in record["packings"]]
            if len({packing.image for packing in self.packings}) != 1:
                raise ValueError("the packings are not of one image")
            sums = record["sums"]
            self.sums_region = regions[sums["region"]]
            self.classes, self._planes = _natural(sums["classes"]), _natural(sums["planes"])
            size = self.sums_region.stop - self.sums_region.start
            if self._planes not in (1, 4) or size % 4 or self.classes > size // 4:
                raise ValueError("region of the sums")
        except (ValueError, TypeError, KeyError, IndexError, ArithmeticError, RecursionError) as error:
            if isinstance(error, ChecksumError):
                raise
            raise ValueError(f"{artifact.folder / PROGRAM}: damaged ({error!r}); copy the artifact again") from error

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

    def sums(self, data: np.ndarray) -> np.ndarray:
        """Bytes of the sums' region -> int32 [classes]."""
        if self._planes == 4:
            data = data.reshape(4, -1).transpose()
        return np.ascontiguousarray(data).reshape(-1).view("<i4")[: self.classes]


def _natural(value: Any) -> int:  # noqa: ANN401  (JSON)
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a natural number")
    return value


class Accelerator:
    """The programmed FPGA with a program in its memory.

    Args:
        artifact: gives program and memory image.
        bitstream: what to program the FPGA with.
        timeout_s: seconds after which an unfinished run is an error.
    """

    def __init__(self, artifact: Artifact, bitstream: Path, timeout_s: float) -> None:
        program = self._program = Program(artifact)
        try:
            import pynq

            self.pynq_version = str(pynq.__version__)
            self._overlay = pynq.Overlay(str(bitstream.resolve()))
            ips = [ip for ip in self._overlay.ip_dict.values() if str(ip["type"]).startswith(IP_TYPE)]
            if len(ips) != 1:
                raise Unavailable(f"{bitstream}: holds {len(ips)} accelerators of type {IP_TYPE}, 1 is needed")
            self._mmio = pynq.MMIO(ips[0]["phys_addr"], ips[0]["addr_range"])
            self._memory = pynq.allocate((program.dram_bytes,), "u1")
        except ImportError as error:
            raise Unavailable(f"pynq is missing ({error}); run this on a PYNQ board, with its Python") from error
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            raise Unavailable(f"{bitstream}: the board can't be set up: {error}; run as root on a board") from error
        self._timeout_s = timeout_s
        program.load(self._memory)
        self._memory.flush()
        base = int(self._memory.physical_address)
        self._registers = {
            name: value if name == "count" else base + value for name, value in program.registers.items()
        }

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images uint8 [N, H, W, 3] -> (int32 [N, classes], milliseconds float64 [N], of these for packing [N]).

        Raises:
            ValueError: images of another shape.
            RuntimeError: the accelerator did not finish.
        """
        program = self._program
        if images.dtype != np.uint8 or images.shape[1:] != program.shape:
            raise ValueError(f"images must be uint8 [N, {', '.join(map(str, program.shape))}]")
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
        return sums, latency, pack_ms

    def _start(self) -> None:
        """Run the program once."""
        for name, value in self._registers.items():
            self._mmio.write(REGISTERS[name], value & 0xFFFFFFFF)
            if name != "count":
                self._mmio.write(REGISTERS[name] + 4, value >> 32)
        self._mmio.write(CONTROL, START)
        deadline = time.perf_counter() + self._timeout_s
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
            f"the accelerator did not finish in {self._timeout_s:g} s ({registers}); "
            "is the bitstream built for this artifact's configuration?"
        )


def read_images(path: Path, record: dict[str, Any]) -> np.ndarray:
    """Images of a file as the manifest's preprocessing record says: uint8 [N, height, width, 3]."""
    if path.suffix == ".npy":
        return np.asarray(np.load(str(path), allow_pickle=False))
    from PIL import Image

    height, width = record["size"]
    resample = getattr(Image, record["interpolation"].upper())
    with Image.open(str(path)) as file:
        if file.mode.startswith(("I", "F")):
            raise ValueError(f"{path}: pixels have more than 8 bits a channel; convert the image to RGB")
        transparent = file.mode == "P" and "transparency" in file.info
        rgb = (file.convert("RGBA") if transparent else file).convert("RGB")
    if record["resize"] is None:
        return np.asarray(rgb.resize((width, height), resample))[None]
    short = min(rgb.size)
    if short != record["resize"]:
        rgb = rgb.resize((rgb.width * record["resize"] // short, rgb.height * record["resize"] // short), resample)
    left, top = round((rgb.width - width) / 2), round((rgb.height - height) / 2)
    return np.asarray(rgb.crop((left, top, left + width, top + height)))[None]


def _arrays(path: Path, record: dict[str, Any]) -> Iterator[np.ndarray]:
    """The images of a file; of ``-``, arrays in .npy form from the standard input, one after the other."""
    if str(path) != "-":
        yield read_images(path, record)
        return
    with open(0, "rb", closefd=False) as stream:
        readable = SimpleNamespace(read=stream.read)  # numpy would seek in a file
        while stream.peek(1):
            yield np.lib.format.read_array(readable, allow_pickle=False)


def _answers(
    path: Path, results: Sequence[np.ndarray], artifact: Artifact, top: int, with_sums: bool
) -> Iterator[dict[str, Any]]:
    for index, (sums, latency, pack_ms) in enumerate(zip(*results)):  # noqa: B905  (Python 3.8)
        logits = sums * artifact.logit_scale
        best = np.argsort(-logits, kind="stable")[:top]
        answer = {
            "image": str(path),
            "index": index,
            "classes": [int(c) for c in best],
            "labels": [artifact.labels[c] for c in best] if artifact.labels else None,
            "logits": [float(logits[c]) for c in best],
            "latency_ms": float(latency),
            "pack_ms": float(pack_ms),
        }
        if with_sums:
            answer["sums"] = sums.tolist()
        yield answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description="Run the compiled network on images, or check the board.")
    images = "image files or .npy arrays; -: arrays from the standard input; none: check the board"
    parser.add_argument("images", nargs="*", type=Path, help=images)
    parser.add_argument("--bitstream", type=Path, help="the FPGA's .bit file (default: the artifact's)")
    parser.add_argument("--timeout", type=float, default=10, help="seconds to wait for an image (default: 10)")
    parser.add_argument("--top", type=int, default=5, help="classes to print (default: 5)")
    parser.add_argument("--sums", action="store_true", help="print every class sum too")
    options = parser.parse_args(arguments)
    try:
        artifact = Artifact(Path(__file__).resolve().parent)
        golden, expected = artifact.golden()
        board = Accelerator(artifact, artifact.bitstream(options.bitstream), options.timeout)
        sums, latency, pack_ms = board.run(golden)
        if sums.shape != expected.shape:
            raise ValueError(f"{artifact.folder / GOLDEN}: sums of another network; copy the artifact again")
        wrong = int((sums != expected).sum())
        report = {"golden": len(sums), "differing_sums": wrong, "pynq": board.pynq_version}
        report.update(latency_ms=float(np.median(latency)), pack_ms=float(np.median(pack_ms)))
        print(json.dumps(report), flush=True)
        if wrong:
            print(f"run.py: error: {wrong} class sums differ from the golden ones", file=sys.stderr)
            return 4
        for path in options.images:
            for array in _arrays(path, artifact.preprocessing):
                results = board.run(array)
                for answer in _answers(path, results, artifact, options.top, options.sums):
                    print(json.dumps(answer), flush=True)
    except Unavailable as error:
        print(f"run.py: error: {error}", file=sys.stderr)
        return 3
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, zipfile.BadZipFile) as error:
        print(f"run.py: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
