"""The simulator as a device."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError
from squeezeedge.graph.rules import Shape
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.trace import Place, Trace
from squeezeedge.targets.vta.isa.geometry import Geometry
from squeezeedge.targets.vta.isa.program import read_program
from squeezeedge.targets.vta.isa.published import Gemm
from squeezeedge.targets.vta.isa.words import encode
from squeezeedge.targets.vta.sim.session import SimulatorNetwork, profile_on_simulator
from squeezeedge.targets.vta.sim.simulator import SimulationError
from tests.targets.vta.board_artifact import SIZE, write_board_artifact, write_manifest

Made = tuple[Path, NDArray[np.uint8], NDArray[np.int32]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return tmp_path, *write_board_artifact(tmp_path, {"clock_mhz": 100, "macs": 1000})


@pytest.fixture
def network(made: Made) -> Iterator[SimulatorNetwork]:
    opened = SimulatorNetwork(Artifact(made[0]))
    yield opened
    opened.close()


def test_many_images_at_a_time(network: SimulatorNetwork, made: Made) -> None:
    _, images, sums = made
    assert network.about() == {"clock_mhz": 100, "instructions": "extended"}
    answer, timings = network.run(np.concatenate([images] * 8))
    np.testing.assert_array_equal(answer, np.concatenate([sums] * 8))
    about = network.about()
    run_ms = about["cycles"] / 100e3
    np.testing.assert_allclose(timings["latency_ms"] - timings["pack_ms"], run_ms)
    assert about["gemm_utilization"] == 1000 / 256 / about["cycles"]
    assert (timings["pack_ms"] > 0).all()


def test_tensors(network: SimulatorNetwork, made: Made) -> None:
    """What lies in the DRAM after a run, here the image's patches; a place outside of it is refused."""
    folder, images, sums = made
    program = read_program(Artifact(folder))
    region, packing = program.region(program.packings[0].region), program.packings[0]
    shape, row = Shape(packing.height, packing.width, packing.block), packing.width * packing.block
    for first, right in ((region.offset, True), (program.dram_bytes, False)):
        place = Place("patches", 0, shape, ((first, packing.block),), row, packing.block, 128)
        Trace("conv", (place,), {"other": "it stays on the chip"}).write(folder)
        write_manifest(folder, {"clock_mhz": 100, "macs": 1000})
        opened = SimulatorNetwork(Artifact(folder))
        if right:
            found = dict(opened.trace(images[0]))
            assert list(found) == ["patches", "conv"] and opened.unseen() == {"other": "it stays on the chip"}
            packed = program.host().packings[0].pack(images[0]).reshape(-1, *shape)
            np.testing.assert_array_equal(found["patches"], packed[0] ^ 128)
            np.testing.assert_array_equal(found["conv"], sums[0])
        else:
            with pytest.raises(ValueError, match=r"trace\.json is of another program"):
                next(opened.trace(images[0]))
        opened.close()


def test_no_images(network: SimulatorNetwork) -> None:
    sums, timings = network.run(np.zeros((0, *SIZE, 3), np.uint8))
    assert sums.shape == (0, 5) and timings["latency_ms"].shape == (0,)


@pytest.mark.parametrize("images", [np.zeros((1, 12, 11, 3), np.uint8), np.zeros((1, *SIZE, 3), np.int8)])
def test_images_of_another_kind(network: SimulatorNetwork, images: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"images must be uint8 \[N, 12, 10, 3\]"):
        network.run(images)


def test_a_damaged_program(made: Made) -> None:
    folder = made[0]
    record = json.loads((folder / "program.json").read_text())
    (folder / "program.json").write_text(json.dumps({**record, "count": 1}))
    with pytest.raises(CorruptFileError, match=r"program\.json: differs from its checksum"):
        SimulatorNetwork(Artifact(folder))
    write_manifest(folder, {"clock_mhz": 100, "macs": 1000})
    with pytest.raises(CorruptFileError, match=r"program\.json: damaged|VTA program: damaged"):
        SimulatorNetwork(Artifact(folder))


def test_a_program_that_would_run_for_hours(made: Made) -> None:
    """All of it is legal; the limit follows from its size, not from what it says of itself."""
    folder, images, _ = made
    record, image = json.loads((folder / "program.json").read_text()), bytearray((folder / "dram.bin").read_bytes())
    long = Gemm(uop_bgn=0, uop_end=1, iter_out=(1 << 14) - 1, iter_in=(1 << 14) - 1)
    words = encode([long] * record["count"], Geometry(**record["geometry"]), "extended").tobytes()
    image[: len(words)] = words
    (folder / "dram.bin").write_bytes(image)
    record["image"]["sha256"] = hashlib.sha256(image).hexdigest()
    (folder / "program.json").write_text(json.dumps(record))
    write_manifest(folder, {"clock_mhz": 100, "macs": 1000})
    opened, started = SimulatorNetwork(Artifact(folder)), time.process_time()
    with pytest.raises(SimulationError, match=r"not finished after \d+ cycles"):
        opened.run(images)
    opened.close()
    assert time.process_time() - started < 1


def test_profile(made: Made) -> None:
    folder, images, sums = made
    profile = profile_on_simulator(folder, images[0])
    (layer,) = profile.layers
    assert layer.time == profile.time and layer.figures["bound"] == "dram"
    assert layer.macs == 6 * 5 * 27 * 5 and set(layer.figures) == {"bound", "busy", "gemm", "alu", "pool", "dram"}
    np.testing.assert_array_equal(profile.sums, sums[0])
    assert profile.milliseconds == pytest.approx(profile.time / 100e3) and profile.runs == 1
    assert profile.utilization(layer) == layer.macs / 256 / layer.time
