"""Damaged program.json: both readers refuse it as they must, or the host's side does what it says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.vta import TARGET, device
from squeezeedge.targets.vta.isa.program import read_program
from squeezeedge.targets.vta.sim.session import SimulatorNetwork, profile_on_simulator
from tests.targets.mutations import flipped, mutations
from tests.targets.vta.board_artifact import CLASSES, SIZE, write_board_artifact, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_board_artifact(tmp_path, {"clock_mhz": 100, "macs": 1000})
    return tmp_path


def taken(folder: Path, data: bytes) -> tuple[bool, bool]:
    """Whether the device's program, and the package, take a program.json with the right checksum."""
    (folder / "program.json").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["program.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    artifact = Artifact(folder)
    try:
        program = device.Program.of(artifact)
        use(program)
    except ValueError as error:
        assert str(error).startswith(f"{folder}/program.json: ") and "copy the artifact again" in str(error)
        on_board = False
    else:
        on_board = True
    try:
        use(read_program(artifact).host())
    except CorruptFileError as error:
        assert str(error).startswith(f"{folder}/program.json: ") and "compile again" in str(error)
        return on_board, False
    return on_board, True


def use(program: device.Program) -> None:
    """What a board does with it."""
    memory = np.empty(program.dram_bytes, np.uint8)
    program.load(memory)
    program.pack(np.zeros((*SIZE, 3), np.uint8), memory)
    assert program.result(memory).shape == (CLASSES,)
    assert all(type(value) is int and 0 <= value <= program.dram_bytes for value in program.registers.values())


@pytest.mark.slow
def test_mutations(folder: Path) -> None:
    data = (folder / "program.json").read_bytes()
    assert taken(folder, data) == (True, True)
    results = [taken(folder, json.dumps(record).encode()) for record in mutations(json.loads(data), 200, 0)]
    assert 0 < sum(package for _, package in results) < sum(board for board, _ in results) < 120
    for damaged in flipped(data, 100, 1):
        taken(folder, damaged)


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", "[" * 100_000, '{"count": 1' + "0" * 5000 + "}"])
def test_what_is_no_program(folder: Path, text: str) -> None:
    assert taken(folder, text.encode()) == (False, False)


CHANGES: dict[str, tuple[Any, ...]] = {
    "instruction_layers": ([[0, 2**63 - 1], [0, 2**63 - 1], [0, 9]], [["0", 7]], [[0, 7.0]], [[0]], [[1, 7]], "x"),
    "geometry": ([], {"block": 16}, None),
    "packings": (["x"], {}, None),
    "regions": (["x"], [[]], {"a": 1}),
    "layers": ([7], [{"name": "\ud800", "macs": 1, "tiling": ""}], [{"name": [], "macs": 1, "tiling": ""}]),
    "image": ({"bytes": 1.0, "sha256": 7}, 3),
    "bases": ({"uop": 0}, {name: 8 for name in ("uop", "inp", "wgt", "acc", "out", "par")}),
    "instructions": ([], None, "vta"),
    "dram_bytes": (1 << 29, 4096.0, True),
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in CHANGES.items() for value in values])
def test_what_the_package_refuses(folder: Path, key: str, value: object) -> None:
    record = json.loads((folder / "program.json").read_text())
    record[key] = value
    assert not taken(folder, json.dumps(record).encode())[1]
    for read in (lambda: list(TARGET.listing(folder)), lambda: SimulatorNetwork(Artifact(folder))):
        with pytest.raises(CorruptFileError, match=r"program\.json: "):
            read()


@pytest.mark.parametrize(
    ("name", "value"), [("block", 16.0), ("dsp_packing", "1"), ("dsp_packing", 1), ("block", "16")]
)
def test_a_geometry_of_other_types(folder: Path, name: str, value: object) -> None:
    """It is written into a C++ header."""
    record = json.loads((folder / "program.json").read_text())
    record["geometry"][name] = value
    assert not taken(folder, json.dumps(record).encode())[1]


@pytest.mark.parametrize("compiled", [{}, {"clock_mhz": 0, "macs": 1}, {"clock_mhz": "100", "macs": 1}])
def test_a_manifest_without_clock(folder: Path, compiled: dict[str, Any]) -> None:
    write_manifest(folder, compiled)
    with pytest.raises(CorruptFileError, match="the manifest's clock_mhz or macs is damaged; compile again"):
        SimulatorNetwork(Artifact(folder))
    with pytest.raises(CorruptFileError, match="the manifest's clock_mhz or macs is damaged; compile again"):
        profile_on_simulator(folder, np.zeros((*SIZE, 3), np.uint8))


def test_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="this folder is no artifact"):
        profile_on_simulator(tmp_path, np.zeros((*SIZE, 3), np.uint8))


def test_instructions_that_are_none(folder: Path) -> None:
    """The program's description is right, its words are not."""
    record = json.loads((folder / "program.json").read_text())
    image = bytearray((folder / "dram.bin").read_bytes())
    image[:16] = b"\xff" * 16
    record["image"]["sha256"] = hashlib.sha256(image).hexdigest()
    (folder / "program.json").write_text(json.dumps(record))
    (folder / "dram.bin").write_bytes(image)
    write_manifest(folder, {"clock_mhz": 100, "macs": 1000})
    with pytest.raises(CorruptFileError, match=r"program\.json: .*; compile again"):
        list(TARGET.listing(folder))
    with pytest.raises(CorruptFileError, match="; compile the model again"):
        profile_on_simulator(folder, np.zeros((*SIZE, 3), np.uint8))
