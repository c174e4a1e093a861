"""Artifacts: their manifest, golden inputs and what each target's device reads, checksums right again."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from squeezeedge.artifact import open_artifact, write_artifact
from squeezeedge.graph.rules import Shape
from squeezeedge.graph.sqe import read_sqe
from squeezeedge.targets.ascend.atc import DEPLOY_MODEL
from squeezeedge.targets.ascend.options import AscendOptions
from squeezeedge.targets.cuda import device as cuda
from squeezeedge.targets.device import run
from squeezeedge.targets.protocol import Target
from squeezeedge.targets.registry import get_target
from squeezeedge.targets.trace import Place, Trace
from squeezeedge.targets.vta import device as vta
from squeezeedge.targets.vta.isa.program import read_program
from tests.fuzz import Files, Format
from tests.fuzz.containers import change_npy, change_zip
from tests.fuzz.devices import of_device
from tests.fuzz.graph_files import change_sqe, sqe_bytes
from tests.fuzz.protobuf import change_protobuf
from tests.fuzz.values import change_bytes, change_json, dump_json
from tests.targets.vta.board_artifact import CLASSES, SIZE, fake_bitstream, hand_written

__all__ = ["BITSTREAM", "DEPLOY", "GOLDEN", "MANIFEST", "PLAN", "PROGRAM", "TRACE", "seal"]

MANIFEST_FILE, GOLDEN_FILE = "manifest.json", "golden.npz"
GPUS = ((7, 2), (7, 5), (8, 0), (8, 7), (9, 0), (12, 0))
"""Compute capabilities."""
BITSTREAM_FILE = "vta.bit"
MOST_MEMORY = 1 << 24
"""Bytes of a VTA program's memory that are really made."""


@dataclass(frozen=True)
class _Canned:
    """A target whose compiler has these files ready; its device side is the real one."""

    name: str
    files: Files
    compiled: Mapping[str, Any]
    device_module: str

    def check_options(self, options: object) -> None:
        """All are right."""

    def lower(self, graph: object, options: object) -> _Canned:
        """Itself."""
        return self

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the files."""
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        return dict(self.compiled)


def _artifact(target: Any, options: object, sqe: bytes) -> Files:  # noqa: ANN401  (a Target, real or canned)
    """A sound artifact's files."""
    with tempfile.TemporaryDirectory() as place:
        Path(place, "model.sqe").write_bytes(sqe)
        graph = read_sqe(Path(place, "model.sqe"))
        images = np.random.default_rng(0).integers(0, 256, (2, *graph.input_shape)).astype(np.uint8)
        folder = Path(place, "artifact")
        write_artifact(graph, target, options, folder, golden=images, source={"network": "small"})
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _canned(name: str, files: Files, compiled: Mapping[str, Any], size: tuple[int, int], classes: int) -> Files:
    real: Target = get_target(name)
    return _artifact(_Canned(name, files, compiled, real.device_module), real.options(), sqe_bytes(0, size, classes))


def ascend_artifact() -> Files:
    """For the emulation."""
    return _artifact(get_target("ascend"), AscendOptions(soc_version="emulated"), sqe_bytes(0))


def cuda_artifact() -> Files:
    """A plan of two launches, with code that no driver would load."""
    launches = [
        {"kernel": "a", "blocks": 2, "threads": 32, "arguments": [["input", 0], ["constants", 0], ["workspace", 64]]},
        {"kernel": "b", "blocks": 1, "threads": 64, "arguments": [["workspace", 64], ["constants", 16], ["output", 0]]},
    ]
    plan = {
        "input": [6, 5, 3],
        "classes": 4,
        "workspace_bytes": 256,
        "constant_bytes": 64,
        "most_images": 8,
        "cubins": {arch: f"kernels.{arch}.cubin" for arch in ("sm_80", "sm_90")},
        "ptx": {"sm_80": "kernels.sm_80.ptx"},
        "launches": launches,
    }
    files = {"plan.json": dump_json(plan), "constants.bin": bytes(64), "kernels.sm_80.ptx": b".version 8.0\n// text\n"}
    files |= {name: b"code" for name in ("kernels.sm_80.cubin", "kernels.sm_90.cubin")}
    compiled = {"architectures": ["sm_80", "sm_90"], "kernels": 2, "workspace_bytes": 256, "constant_bytes": 64}
    return _canned("cuda", files, compiled, (6, 5), 4)


def vta_artifact() -> Files:
    """A program that was written by hand."""
    rng = np.random.default_rng(0)
    program = hand_written(rng.integers(-127, 128, (CLASSES, 3, 3, 3), dtype=np.int8), rng.integers(-99, 99, CLASSES))
    region, packing = program.region(program.packings[0].region), program.packings[0]
    shape, row = Shape(packing.height, packing.width, packing.block), packing.width * packing.block
    place = Place("patches", 0, shape, ((region.offset, 4), (region.offset + 4, 12)), row, packing.block, 128)
    said = Trace("conv", (place,), {"other": "it stays on the chip"}).to_json()
    files = {vta.PROGRAM: json.dumps(program.to_json()).encode(), vta.DRAM: program.image, run.TRACE: dump_json(said)}
    return _canned("vta", files, {"clock_mhz": 100, "macs": 1000}, SIZE, CLASSES)


def cpu_artifact() -> Files:
    """A library that is none."""
    return _canned("cpu", {"libmodel.so": b"\x7fELF" + bytes(60)}, {"isa": "avx2"}, (6, 5), 4)


def seal(files: Files) -> Files:
    """The files with their sizes and checksums in the manifest."""
    manifest = json.loads(files[MANIFEST_FILE])
    for name, data in files.items():
        if name != MANIFEST_FILE:
            manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest["meaning_sha256"] = run.meaning_sha256(manifest)
    return {**files, MANIFEST_FILE: json.dumps(manifest).encode()}


def _change_file(name: str, change: Callable[[Random, bytes], bytes], random: Random, files: Files) -> Files:
    return seal({**files, name: change(random, files[name])})


def _change_manifest(random: Random, files: Files) -> Files:
    data = files[MANIFEST_FILE]
    if random.random() < 0.1:
        return {**files, MANIFEST_FILE: change_bytes(random, data)}
    manifest = json.loads(data)
    if random.random() < 0.4:  # what is there besides the files and versions
        key = random.choice(list(manifest))
        manifest[key] = change_json(random, manifest[key])
    else:
        manifest = change_json(random, manifest)
    if random.random() < 0.9:  # so that more than its checksum is looked at
        with contextlib.suppress(AttributeError, LookupError, TypeError, ValueError, RecursionError):
            manifest["meaning_sha256"] = run.meaning_sha256(manifest)
    return {**files, MANIFEST_FILE: dump_json(manifest)}


def _change_golden(random: Random, data: bytes) -> bytes:
    return change_zip(random, data, lambda random, _, member: change_npy(random, member))


def _change_document(random: Random, data: bytes) -> bytes:
    return change_bytes(random, data) if random.random() < 0.05 else dump_json(change_json(random, json.loads(data)))


def _change_program(random: Random, files: Files) -> Files:
    """The description, or the memory with its checksum in the description."""
    if random.random() < 0.75:
        return _change_file(vta.PROGRAM, _change_document, random, files)
    record, image = json.loads(files[vta.PROGRAM]), change_bytes(random, files[vta.DRAM])
    if random.random() < 0.9:
        image = image[: len(files[vta.DRAM])].ljust(len(files[vta.DRAM]), b"\0")
    record["image"] = {"bytes": len(image), "sha256": hashlib.sha256(image).hexdigest()}
    return seal({**files, vta.PROGRAM: json.dumps(record).encode(), vta.DRAM: image})


def _change_deploy(random: Random, files: Files) -> Files:
    if random.random() < 0.9:
        return _change_file(DEPLOY_MODEL, change_protobuf, random, files)
    return _change_file("model.sqe", change_sqe, random, files)


def _opened(folder: Path) -> object:
    """Everything that an artifact says of itself."""
    artifact = open_artifact(folder)
    said = artifact.labels, artifact.model_bytes, artifact.calibrated_on, artifact.reference()
    return artifact.graph, artifact.golden, artifact.target, said


def _on_device(folder: Path) -> object:
    with of_device(folder):
        artifact = run.Artifact(folder)
        return artifact.golden(), [artifact.read(name) for name in artifact.manifest["files"]]


def _listed(folder: Path) -> object:
    artifact = open_artifact(folder)
    return list(artifact.target.listing(artifact.path))


def _with_device(folder: Path) -> object:
    """Opened on the device, and run if it is an emulation."""
    artifact = open_artifact(folder)
    name = next((name for name, kind in artifact.target.devices.items() if kind == "emulation"), None)
    with artifact.open(name) as device:
        return device.run(artifact.golden) if name else None


def _plan(folder: Path) -> object:
    """The plan, and what each of a few GPUs would load."""
    with of_device(folder):
        plan = cuda.read_plan(run.Artifact(folder))
    chosen = []
    for capability, integrated in itertools.product(GPUS, (False, True)):
        with contextlib.suppress(cuda.Unavailable):
            chosen.append(cuda.choose_code(plan["cubins"], plan["ptx"], capability, integrated))
    return chosen


def _program(folder: Path) -> object:
    """The host's side with a memory, and the description of the program; its instructions are in the listing."""
    with of_device(folder, vta.Unavailable):
        artifact = run.Artifact(folder)
        program = vta.Program.of(artifact)
        if program.dram_bytes <= MOST_MEMORY:
            memory = np.zeros(program.dram_bytes, np.uint8)
            program.load(memory)
            program.pack(np.zeros(program.shape, np.uint8), memory)
            program.result(memory)
        return read_program(artifact)


def _trace(folder: Path) -> object:
    """The tensors that lie in the program's memory."""
    with of_device(folder):
        artifact = run.Artifact(folder)
        said, program = artifact.trace(), vta.Program.of(artifact)
        vta.check_places(said.places, program, artifact)
        memory = np.zeros(program.dram_bytes, np.uint8)
        return [place.values(memory[place.begin : place.end]) for place in said.places]


def _bitstream(folder: Path) -> None:
    with of_device(folder):
        vta.check_bitstream(folder / BITSTREAM_FILE)


def _disasm(folder: Path) -> list[str]:
    return ["disasm", str(folder)]


MANIFEST = Format(
    name="manifest",
    share=14,
    seeds=lambda: [ascend_artifact(), cuda_artifact(), vta_artifact(), cpu_artifact()],
    mutate=_change_manifest,
    readers=(_opened, _on_device),
    rare=(_with_device, _listed),
    command=lambda folder: ["eval", str(folder), "--data", str(folder / "none")],
)
GOLDEN = Format(
    name="golden",
    share=8,
    seeds=lambda: [cuda_artifact()],
    mutate=partial(_change_file, GOLDEN_FILE, _change_golden),
    readers=(_opened, _on_device),
    command=lambda folder: ["eval", str(folder), "--data", "digits"],
)
PLAN = Format(
    name="plan",
    share=10,
    seeds=lambda: [cuda_artifact()],
    mutate=partial(_change_file, cuda.PLAN, _change_document),
    readers=(_plan,),
    rare=(_with_device, _listed),
    command=_disasm,
)
TRACE = Format(
    name="trace",
    share=4,
    seeds=lambda: [vta_artifact()],
    mutate=partial(_change_file, run.TRACE, _change_document),
    readers=(_trace,),
)
BITSTREAM = Format(
    name="bitstream",
    share=2,
    seeds=lambda: [{BITSTREAM_FILE: fake_bitstream(200)}],
    mutate=lambda random, files: {BITSTREAM_FILE: change_bytes(random, files[BITSTREAM_FILE])},
    readers=(_bitstream,),
)
PROGRAM = Format(
    name="program",
    share=10,
    seeds=lambda: [vta_artifact()],
    mutate=_change_program,
    readers=(_program, _listed),
    command=_disasm,
)
DEPLOY = Format(
    name="deploy",
    share=8,
    seeds=lambda: [ascend_artifact()],
    mutate=_change_deploy,
    readers=(_with_device, _listed),
    command=_disasm,
)
