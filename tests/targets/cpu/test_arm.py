"""What ARM's instruction sets store, their tiles and their instructions; the kernels are run in test_cross."""

import re

import numpy as np
import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from tvm.target import Target

from squeezeedge.graph import IMAGE, IntegerGraph, rules
from squeezeedge.targets.cpu import TARGET, CpuOptions
from squeezeedge.targets.cpu.isa import INSTRUCTION_SETS
from tests.graphs import GraphBuilder

SIGNED = ("neon-dotprod", "neon", "armv7-neon")


def test_signed_storage_is_the_rules() -> None:
    assert {isa.name: isa.input_offset for isa in INSTRUCTION_SETS.values() if isa.input_offset} == dict.fromkeys(
        SIGNED, rules.SIGN
    )


@given(height=st.integers(1, 120), width=st.integers(1, 200), blocks=st.integers(1, 64))
def test_tiles_fit_the_registers(height: int, width: int, blocks: int) -> None:
    """32 of 128 bits, and 16 of 32-bit ARM: sums, the input of every pixel, and two vectors of weights."""
    for name, registers in {"neon-i8mm": 32, "neon-dotprod": 32, "neon": 32, "armv7-neon": 16}.items():
        tile = INSTRUCTION_SETS[name].tile(height, width, blocks)
        pixels = tile.rows * tile.pixels
        pairs = -(-pixels // 2)
        held = {
            "neon-i8mm": 2 * pairs * tile.blocks + pairs,
            "neon-dotprod": pixels * tile.blocks + pixels,
            "neon": 2 * 4 * pixels + pixels,  # in 16 and in 32 bits
            "armv7-neon": 4 * pixels + pixels,
        }[name]
        assert held + 2 <= registers


@pytest.fixture(scope="module")
def deep() -> IntegerGraph:
    """One convolution with a long reduction."""
    builder = GraphBuilder(np.random.default_rng(0), (7, 6))
    return builder.finish(builder.conv(IMAGE, 64), 16)


@pytest.mark.parametrize(
    ("isa", "triple", "multiply"),
    [
        pytest.param("neon-i8mm", "aarch64-linux-gnu", r"usmmla\tv", marks=pytest.mark.slow),
        pytest.param("neon-dotprod", "aarch64-linux-gnu", r"sdot\t.*\.4b\[\d\]", marks=pytest.mark.slow),  # by element
        ("neon", "aarch64-linux-gnu", r"sm[lu][al]l2?\t.*\.8h"),
        pytest.param("armv7-neon", "arm-linux-gnueabihf", r"vm[lu][al]l\.s8", marks=pytest.mark.slow),
    ],
)
def test_the_inner_loop_multiplies_bytes(isa: str, triple: str, multiply: str, deep: IntegerGraph) -> None:
    """At the head: nothing but that instruction, and fewer others than these need to be hidden."""
    lowered = TARGET.lower(deep, CpuOptions(isa=isa, mtriple=triple, cc="true"))
    with tvm.transform.PassContext(config={"tirx.disable_storage_rewrite": True}):
        text = tvm.tirx.build(
            lowered.variants[0].plan.kernels, target=Target(lowered.variants[0].llvm_target)
        ).inspect_source("s")
    head = text[text.index("stage1_head_compute_:") :]
    blocks = [block for block in re.split(r"^\.LBB\w+:.*$", head, flags=re.MULTILINE) if re.search(multiply, block)]
    most = max(blocks, key=lambda block: len(re.findall(multiply, block)))
    instructions = re.findall(r"^\t([a-z]\S*)", most, re.MULTILINE)
    count = len(re.findall(multiply, most))
    assert count >= 16 and len(instructions) <= 4 * count, (count, instructions)
    assert not re.search(r"\t(v?ml[as]|v?mul)(\.i32|\t.*\.4s)", most)
