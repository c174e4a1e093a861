"""The program's description as JSON."""

import json
from typing import Any

import numpy as np
import pytest

from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.vta.isa.program import VtaProgram
from tests.graphs import random_graph
from tests.targets.vta.compiled import build


@pytest.fixture(scope="module")
def program() -> VtaProgram:
    return build(random_graph(2), "extended")


def test_json_round_trip(program: VtaProgram) -> None:
    record = json.loads(json.dumps(program.to_json()))
    again = VtaProgram.from_json(record, program.image)
    assert again.to_json() == program.to_json()
    assert again.registers() == program.registers()
    np.testing.assert_array_equal(again.instruction_layers, program.instruction_layers)


def test_truncated_image(program: VtaProgram) -> None:
    with pytest.raises(CorruptFileError, match="truncated"):
        VtaProgram.from_json(program.to_json(), program.image[:-1])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dram_bytes", 1 << 40),
        ("dram_bytes", -1),
        ("count", 1),
        ("instructions", "vta-x"),
        ("bases", {"uop": 0}),
        ("regions", []),
        ("layers", []),
        ("instruction_layers", [[0, 1 << 60]]),
        ("geometry", {"block": 7}),
        ("sums", {"region": "nowhere", "classes": 1, "planes": 1, "block": 16}),
        ("packings", [{"region": "sums"}]),
    ],
)
def test_damaged_description(program: VtaProgram, key: str, value: Any) -> None:  # noqa: ANN401
    record = json.loads(json.dumps(program.to_json()))
    with pytest.raises(CorruptFileError):
        VtaProgram.from_json({**record, key: value}, program.image)


def test_regions_that_overlap(program: VtaProgram) -> None:
    record = json.loads(json.dumps(program.to_json()))
    record["regions"][-1]["offset"] = record["regions"][-2]["offset"]
    with pytest.raises(CorruptFileError):
        VtaProgram.from_json(record, program.image)
