"""The tiles that vector registers hold; ARM's are tested in test_arm."""

from hypothesis import given
from hypothesis import strategies as st

from squeezeedge.targets.cpu.chains import LENGTHS
from squeezeedge.targets.cpu.instruction_set import VectorSet
from squeezeedge.targets.cpu.isa import INSTRUCTION_SETS

VECTORS = [isa for isa in INSTRUCTION_SETS.values() if isinstance(isa, VectorSet) and "neon" not in isa.name]


@given(isa=st.sampled_from(VECTORS), height=st.integers(1, 120), width=st.integers(1, 200), blocks=st.integers(1, 64))
def test_tiles_fit_the_vector_registers(isa: VectorSet, height: int, width: int, blocks: int) -> None:
    tile = isa.tile(height, width, blocks)
    pixels, blocks = tile.rows * tile.pixels, tile.blocks
    beside = (pixels + 2 + max(LENGTHS)) if isa.chained else pixels * blocks + 2 * blocks
    assert pixels == blocks == 1 or beside <= isa.registers
