"""What the host does: patches of the image, class sums, and the program's description as JSON."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.vta.isa.program import Packing, Sums
from squeezeedge.targets.vta.host import pack_input, unpack_sums
from squeezeedge.targets.vta.isa.program import VtaProgram
from tests.graphs import random_graph
from tests.targets.vta.test_compiler import build


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    block=st.sampled_from([16, 32]),
)
def test_patches(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int, int, int], block: int
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    top, left, bottom, right = padding
    height, width = (6 + top + bottom - kernel[0]) // stride[0] + 1, (7 + left + right - kernel[1]) // stride[1] + 1
    packing = Packing("x", (6, 7), kernel, stride, padding, (1, 2, 250), height, width, block)
    packed = pack_input(packing, image[None])[0].view(np.int8).reshape(packing.blocks, height, width, block)
    assert packed.nbytes == packing.size
    for y in range(height):
        for x in range(width):
            for value in range(packing.blocks * block):
                tap, channel = divmod(value, 3)
                row, column = y * stride[0] - top + tap // kernel[1], x * stride[1] - left + tap % kernel[1]
                if tap >= kernel[0] * kernel[1]:
                    expected = 0
                elif 0 <= row < 6 and 0 <= column < 7:
                    expected = int(image[row, column, channel]) - 128
                else:
                    expected = (1, 2, 250)[channel] - 128
                assert packed[value // block, y, x, value % block] == expected


@pytest.mark.parametrize("planes", [1, 4])
def test_sums(planes: int) -> None:
    sums = Sums("sums", 5, planes, 16)
    values = np.array([0, -1, 2**31 - 1, -(2**31), 0x01020304], np.int32)
    data = np.zeros((1, sums.padded), "<i4")
    data[0, :5] = values
    raw = data.view(np.uint8).reshape(1, -1)
    if planes == 4:
        raw = raw.reshape(1, sums.padded, 4).transpose(0, 2, 1).reshape(1, -1)
    np.testing.assert_array_equal(unpack_sums(sums, raw)[0], values)


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
        ("instructions", "vta-y"),
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
