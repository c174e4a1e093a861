"""A small artifact for the board's side: a convolution of the image, its sums over the map, written by hand."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.targets.device import run as device_program
from squeezeedge.targets.vta import device
from squeezeedge.targets.vta.isa.encoding import Instruction
from squeezeedge.targets.vta.isa.extended import Epilogue, XGemm
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.program import ALIGNMENT, Layer, Packing, Region, Sums, VtaProgram
from squeezeedge.targets.vta.isa.published import Finish, Store
from squeezeedge.targets.vta.isa.words import encode, encode_micro_ops
from tests.targets.vta.layers import convolve, row

CLASSES = 5
SIZE = (12, 10)
PAD_VALUE = (124, 116, 104)


def expected_sums(images: NDArray[np.uint8], weight: NDArray[np.int8], bias: NDArray[np.int64]) -> NDArray[np.int32]:
    """R6 without a ReLU: int32 [N, classes]."""
    padded = np.empty((len(images), SIZE[0] + 2, SIZE[1] + 2, 3), np.int64)
    padded[:] = PAD_VALUE
    padded[:, 1:-1, 1:-1] = images
    return np.stack([(convolve(q, weight, 2, 0) + bias).sum((0, 1)) for q in padded]).astype(np.int32)


def hand_written(weight: NDArray[np.int8], bias: NDArray[np.int64]) -> VtaProgram:
    """A 3x3 convolution with stride 2, packed by the host; int32 sums."""
    geometry = Geometry()
    block = geometry.block
    rows, cols = SIZE[0] // 2, SIZE[1] // 2
    packing = Packing("image", SIZE, (3, 3), (2, 2), (1, 1, 1, 1), PAD_VALUE, rows, cols, block)
    sums = Sums("sums", CLASSES, 1, block)
    positions = rows * cols
    instructions: list[Instruction] = [
        row(Memory.UOP, 2),
        row(Memory.WGT, 2),
        row(Memory.PAR, 1),
        row(Memory.INP, 2 * positions, push_next=True),
        XGemm(
            uop_bgn=0,
            uops=2,
            blocks=1,
            rows=1,
            cols=positions,
            epilogue=Epilogue.SUM,
            src_base=0,
            dst_base=0,
            wgt_base=0,
            src_col=1,
            pop_prev=True,
        ),
        Store(memory=Memory.ACC, sram_base=0, dram_base=0, y_size=1, x_size=1, x_stride=1),
        Finish(),
    ]
    lanes = np.zeros((block, 2 * block), np.int8)
    lanes[:CLASSES, :27] = weight.reshape(CLASSES, 27)
    biases = np.zeros(block, "<i4")
    biases[:CLASSES] = bias + 128 * weight.sum((1, 2, 3), dtype=np.int64)
    constants: dict[str, NDArray[Any]] = {
        "program": encode(instructions, geometry, "extended"),
        "uop": encode_micro_ops([MicroOp(src=0), MicroOp(src=positions)], geometry),
        "wgt": lanes.reshape(block, 2, block).transpose(1, 0, 2),
        "par": np.concatenate([biases.view(np.uint8), np.zeros(block, np.uint8)]),
    }
    regions, image = [], b""
    for name, array in constants.items():
        regions.append(Region(name, len(image), array.nbytes, "compiler"))
        image += array.tobytes()
        image += bytes(-len(image) % ALIGNMENT)
    offset = len(image)
    for name, size, writer in (("image", packing.size, "host"), ("sums", sums.size, "device")):
        regions.append(Region(name, offset, size, writer, fill=0xEE))  # type: ignore[arg-type]
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    where = {region.name: region.offset for region in regions}
    return VtaProgram(
        instructions="extended",
        geometry=geometry,
        image=image,
        dram_bytes=offset,
        regions=tuple(regions),
        count=len(instructions),
        bases={
            "uop": where["uop"],
            "inp": where["image"],
            "wgt": where["wgt"],
            "acc": where["sums"],
            "out": where["sums"],
            "par": where["par"],
        },
        packings=(packing,),
        sums=sums,
        layers=(Layer("conv", positions * 27 * CLASSES, ""),),
        instruction_layers=np.zeros(len(instructions), np.uint16),
    )


def fake_bitstream(size: int = 1000) -> bytes:
    """A .bit file with the right header around zeros."""
    header = b"\x00\x09\x0f\xf0\x0f\xf0\x0f\xf0\x0f\xf0\x00\x00\x01"
    for key, value in ((b"a", b"FAKE;Version=0\0"), (b"b", b"7z020clg400\0"), (b"c", b"x\0"), (b"d", b"x\0")):
        header += key + struct.pack(">H", len(value)) + value
    return header + b"e" + struct.pack(">I", size) + bytes(size)


def write_manifest(folder: Path, compiled: Mapping[str, int] | None = None) -> None:
    """manifest.json with the checksums of what is there, and the target's entries."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in folder.iterdir()
        if path.name != "manifest.json"
    }
    manifest: dict[str, Any] = {
        "preprocessing": {"size": SIZE, "resize": None, "interpolation": "bilinear"},
        "input": [*SIZE, 3],
        "compiled": dict(compiled or {}),
        "labels": [f"label {n}" for n in range(CLASSES)],
        "logit_scale": [0.5] * CLASSES,
        "files": files,
    }
    manifest["meaning_sha256"] = device_program.meaning_sha256(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def write_board_artifact(
    folder: Path, compiled: Mapping[str, int] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Write the artifact; returns images uint8 [3, H, W, 3] beside the golden ones, and their sums."""
    random = np.random.default_rng(0)
    weight = random.integers(-127, 128, (CLASSES, 3, 3, 3), dtype=np.int8)
    bias = random.integers(-1000, 1000, CLASSES)
    images = random.integers(0, 256, (5, *SIZE, 3), dtype=np.uint8)
    sums = expected_sums(images, weight, bias)
    program = hand_written(weight, bias)
    (folder / device.PROGRAM).write_text(json.dumps(program.to_json()))
    (folder / device.DRAM).write_bytes(program.image)
    np.savez(folder / device_program.GOLDEN, images=images[:2], sums=sums[:2])
    (folder / device.BITSTREAM).write_bytes(fake_bitstream())
    (folder / "vta.hwh").write_text("<FAKE/>")
    shutil.copy(device_program.__file__, folder / "run.py")
    shutil.copy(device.__file__, folder / "device.py")
    write_manifest(folder, compiled)
    return images[2:], sums[2:]
